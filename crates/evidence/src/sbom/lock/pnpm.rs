//! `pnpm-lock.yaml`, lockfileVersion 5.x, 6.x and 9.x.
//!
//! What differs is how an entry is called: `/name/1.0.0_peers` in 5, `/name@1.0.0(peers)` in 6, and `name@1.0.0(peers)`
//! in 9, where what a package needs moved to `snapshots`.

use std::collections::{HashMap, HashSet};

use super::{Lock, Locked, Need, Origin, Place, check_count, connect, needs, origin, peer, split};
use crate::sbom::{
    error::Fault,
    node::{Node, Value, yaml},
};

/// Reads the file; `None` where the package is none of its importers.
pub(super) fn read(text: &str, place: &Place<'_>) -> Result<Option<Lock>, Fault> {
    let file = yaml(text)?;
    let version = file.text_of("lockfileVersion").unwrap_or_default().to_owned();
    let major: u32 = version.split('.').next().unwrap_or_default().parse().unwrap_or_default();
    if !matches!(major, 5 | 6 | 9) {
        return Err(Fault::at(
            file.line,
            format!("lockfileVersion `{version}`, and 5.x, 6.x and 9.x are known"),
        ));
    }
    let importers: HashMap<&str, &Node> = match file.get("importers") {
        Some(importers) => {
            importers.members("`importers`")?.iter().map(|(path, node)| (path.as_str(), node)).collect()
        }
        // A single package stands at the top.
        None => HashMap::from([(".", &file)]),
    };
    let member = if place.member.is_empty() { "." } else { place.member };
    let Some(importer) = importers.get(member) else { return Ok(None) };
    let empty = Node { line: file.line, value: Value::Map(Vec::new()) };
    let packages = file.get("packages").unwrap_or(&empty).members("`packages`")?;
    let snapshots = match file.get("snapshots") {
        Some(snapshots) => snapshots.members("`snapshots`")?,
        None => packages,
    };
    check_count(packages.len().max(snapshots.len()))?;
    let about: HashMap<&str, &Node> = packages.iter().map(|(key, node)| (key.as_str(), node)).collect();
    let mut lock = Lock {
        format: format!("pnpm-lock.yaml, lockfileVersion {version}"),
        packages: vec![Locked::default()],
    };
    let mut index: HashMap<&str, usize> = HashMap::new();
    let mut peers: Vec<HashSet<&str>> = vec![HashSet::new()];
    let mut optional_peers: Vec<HashSet<&str>> = vec![HashSet::new()];
    for (key, snapshot) in snapshots {
        let node = about.get(key.as_str()).or_else(|| about.get(base(key))).copied().unwrap_or(snapshot);
        index.insert(key, lock.packages.len());
        lock.packages.push(package(key, major, node)?);
        peers.push(node.pairs("peerDependencies")?.into_iter().map(|(name, _)| name).collect());
        let meta = node
            .get("peerDependenciesMeta")
            .map(|meta| meta.members("`peerDependenciesMeta`"))
            .transpose()?;
        let optional = meta.into_iter().flatten().filter(|(_, meta)| meta.is_true("optional"));
        optional_peers.push(optional.map(|(name, _)| name.as_str()).collect());
    }
    // Folders of the workspace that are linked to.
    let mut folders: HashMap<String, usize> = HashMap::new();
    let mut open = vec![(0, member.to_owned(), *importer, true)];
    while let Some((from, folder, importer, dev)) = open.pop() {
        for (name, version, need) in imported(importer, dev)? {
            let target = version.strip_prefix("link:").map(|path| joined(&folder, path));
            let found = match target {
                Some(path) if path == member => Some(0),
                Some(path) => match folders.get(&path) {
                    Some(&known) => Some(known),
                    None => {
                        let to = lock.packages.len();
                        folders.insert(path.clone(), to);
                        let manifest = (place.manifest_in)(&path).unwrap_or_default();
                        let own = Some(manifest.name)
                            .filter(|name| !name.is_empty())
                            .unwrap_or_else(|| name.to_owned());
                        lock.packages.push(Locked {
                            name: own,
                            version: manifest.version,
                            path: Some(path.clone()),
                            ..Locked::default()
                        });
                        if let Some(importer) = importers.get(path.as_str()) {
                            open.push((to, path, importer, false));
                        }
                        Some(to)
                    }
                },
                None => find(&index, name, version),
            };
            let need = match need {
                Need::Required | Need::Dev
                    if from == 0
                        && !place.manifest.dependencies.contains_key(name)
                        && place.manifest.peers.contains_key(name)
                        && !place.manifest.dev.contains_key(name) =>
                {
                    peer(place.manifest.optional_peers.contains(name))
                }
                need => need,
            };
            connect(&mut lock.packages[from], name, version, need, found);
        }
    }
    // What the manifest asks for and the importer does not know was added after the file was written.
    let known: HashSet<String> = lock.packages[0].edges.iter().map(|edge| edge.name.clone()).collect();
    for (name, range, need) in super::wanted(place.manifest, true) {
        if !known.contains(name)
            && !lock.packages[0]
                .missing
                .iter()
                .any(|missing| split(missing).is_some_and(|(known, _)| known == name))
        {
            connect(&mut lock.packages[0], name, range, need, None);
        }
    }
    for (at, (_, snapshot)) in snapshots.iter().enumerate() {
        let from = at + 1;
        let mut all = needs(snapshot, "dependencies", Need::Required)?;
        all.extend(needs(snapshot, "optionalDependencies", Need::Optional)?);
        for (name, version, need) in all {
            let need =
                if peers[from].contains(name) { peer(optional_peers[from].contains(name)) } else { need };
            let found = match version.strip_prefix("link:") {
                Some(path) => folders.get(&joined("", path)).copied(),
                None => find(&index, name, version),
            };
            connect(&mut lock.packages[from], name, version, need, found);
        }
    }
    Ok(Some(lock))
}

/// What an importer needs: name, version, and why.
fn imported(importer: &Node, dev: bool) -> Result<Vec<(&str, &str, Need)>, Fault> {
    let mut all = Vec::new();
    for (list, need) in [
        ("optionalDependencies", Need::Optional),
        ("dependencies", Need::Required),
        ("devDependencies", Need::Dev),
    ] {
        if need == Need::Dev && !dev {
            continue;
        }
        let Some(node) = importer.get(list) else { continue };
        for (name, value) in node.members(&format!("`{list}`"))? {
            let version = match value.get("version") {
                Some(version) => version,
                None => value,
            };
            all.push((name.as_str(), version.text(&format!("the version of `{name}`"))?, need));
        }
    }
    Ok(all)
}

/// Finds the entry that `version` of `name` stands for, in any of the spellings.
fn find(index: &HashMap<&str, usize>, name: &str, version: &str) -> Option<usize> {
    let spellings = [
        format!("{name}@{version}"),
        version.to_owned(),
        format!("/{name}@{version}"),
        format!("/{name}/{version}"),
    ];
    spellings.iter().find_map(|key| index.get(key.as_str()).copied())
}

/// Without the peers in parentheses.
fn base(key: &str) -> &str {
    key.split('(').next().unwrap_or(key)
}

/// Reads an entry.
fn package(key: &str, major: u32, node: &Node) -> Result<Locked, Fault> {
    let plain = base(key.strip_prefix('/').unwrap_or(key));
    let (name, version) = if major == 5 {
        // Peers follow `_`, which no version holds.
        let (name, version) = plain.rsplit_once('/').map_or((plain, ""), |(name, version)| (name, version));
        // `/a/1.0.0_@s/b@2.0.0`: the slash of a peer's scope is none of ours.
        let (name, version) = match name.split_once('_') {
            Some((whole, _)) => whole.rsplit_once('/').unwrap_or((whole, "")),
            None => (name, version),
        };
        (name, version.split('_').next().unwrap_or(version))
    } else {
        split(plain).unwrap_or((plain, ""))
    };
    let name = node.text_of("name").unwrap_or(name);
    let is_version = semver::Version::parse(version).is_ok();
    let version = node.text_of("version").unwrap_or(if is_version { version } else { "" });
    let resolution = node.get("resolution");
    let field = |field: &str| resolution.and_then(|resolution| resolution.text_of(field));
    let origin = match (field("type"), field("repo"), field("tarball")) {
        (Some("git"), Some(repo), _) => {
            let commit = field("commit").unwrap_or_default();
            let repo = if repo.starts_with("git") { repo.to_owned() } else { format!("git+{repo}") };
            origin(&format!("{repo}#{commit}"))
        }
        (Some("directory"), ..) => Origin::Local,
        (_, _, Some(tarball)) => origin(tarball),
        _ => Origin::Registry(None),
    };
    let integrity = field("integrity").unwrap_or_default().to_owned();
    let path = field("directory").map(|path| joined("", path));
    let deprecated = node.get("deprecated").is_some();
    Ok(Locked {
        name: name.to_owned(),
        version: version.to_owned(),
        origin,
        integrity,
        path,
        deprecated,
        ..Locked::default()
    })
}

/// Returns where `path` leads from `folder`; a path that leaves the lock file's folder keeps its `..`.
fn joined(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{edges, read_for};

    const MANIFEST: &str = r#"{"name": "@acme/shop", "dependencies": {"a": "^1", "n": "npm:@s/real@3"}, "devDependencies": {"d": "^1"}, "optionalDependencies": {"o": "1"}}"#;
    const EXPECTED: [&str; 8] = [
        "@ -> @s/real@3.0.0 (Required)",
        "@ -> a@1.0.0 (Required)",
        "@ -> d@1.0.0 (Dev)",
        "@ -> o@1.0.0 (Optional)",
        "@s/real@3.0.0 -> a@1.0.0 (Required)",
        "a@1.0.0 -> @s/p@2.0.0 (Peer)",
        "a@1.0.0 -> b@1.0.0-x.1 (Required)",
        "d@1.0.0 -> a@1.0.0 (Optional)",
    ];

    #[test]
    fn version_9() {
        let text = "lockfileVersion: '9.0'\n\nimporters:\n\n  .:\n    dependencies:\n      a:\n        specifier: ^1\n        version: 1.0.0(@s/p@2.0.0)\n      n:\n        specifier: npm:@s/real@3\n        version: '@s/real@3.0.0'\n    optionalDependencies:\n      o:\n        specifier: '1'\n        version: 1.0.0\n    devDependencies:\n      d:\n        specifier: ^1\n        version: 1.0.0(@s/p@2.0.0)\n\npackages:\n\n  '@s/p@2.0.0':\n    resolution: {integrity: sha512-AA==}\n\n  '@s/real@3.0.0':\n    resolution: {integrity: sha512-AA==}\n\n  a@1.0.0:\n    resolution: {integrity: sha512-BB==}\n    deprecated: gone\n    peerDependencies:\n      '@s/p': '*'\n\n  b@1.0.0-x.1:\n    resolution: {integrity: sha512-AA==}\n\n  d@1.0.0:\n    resolution: {integrity: sha512-AA==}\n\n  o@1.0.0:\n    resolution: {integrity: sha512-AA==}\n    os: [darwin]\n\nsnapshots:\n\n  '@s/p@2.0.0': {}\n\n  '@s/real@3.0.0':\n    dependencies:\n      a: 1.0.0(@s/p@2.0.0)\n\n  a@1.0.0(@s/p@2.0.0):\n    dependencies:\n      '@s/p': 2.0.0\n      b: 1.0.0-x.1\n\n  b@1.0.0-x.1: {}\n\n  d@1.0.0(@s/p@2.0.0):\n    optionalDependencies:\n      a: 1.0.0(@s/p@2.0.0)\n\n  o@1.0.0:\n    optional: true\n";
        let lock = read_for("pnpm-lock.yaml", text, MANIFEST, "", &[]).expect("lock").expect("covered");
        assert_eq!(edges(&lock), EXPECTED);
        let a = lock.packages.iter().find(|package| package.name == "a").expect("a");
        assert!(a.deprecated && a.integrity == "sha512-BB==");
    }

    #[test]
    fn version_6() {
        let text = "lockfileVersion: '6.1'\n\ndependencies:\n  a:\n    specifier: ^1\n    version: 1.0.0(@s/p@2.0.0)\n  n:\n    specifier: npm:@s/real@3\n    version: /@s/real@3.0.0\n\noptionalDependencies:\n  o:\n    specifier: '1'\n    version: 1.0.0\n\ndevDependencies:\n  d:\n    specifier: ^1\n    version: 1.0.0(@s/p@2.0.0)\n\npackages:\n\n  /@s/p@2.0.0:\n    resolution: {integrity: sha512-AA==}\n    dev: false\n\n  /@s/real@3.0.0:\n    resolution: {integrity: sha512-AA==}\n    dependencies:\n      a: 1.0.0(@s/p@2.0.0)\n\n  /a@1.0.0(@s/p@2.0.0):\n    resolution: {integrity: sha512-BB==}\n    peerDependencies:\n      '@s/p': '*'\n    dependencies:\n      '@s/p': 2.0.0\n      b: 1.0.0-x.1\n\n  /b@1.0.0-x.1:\n    resolution: {integrity: sha512-AA==}\n\n  /d@1.0.0(@s/p@2.0.0):\n    resolution: {integrity: sha512-AA==}\n    optionalDependencies:\n      a: 1.0.0(@s/p@2.0.0)\n\n  /o@1.0.0:\n    resolution: {integrity: sha512-AA==}\n";
        let lock = read_for("pnpm-lock.yaml", text, MANIFEST, "", &[]).expect("lock").expect("covered");
        assert_eq!(edges(&lock), EXPECTED);
    }

    #[test]
    fn version_5() {
        let text = "lockfileVersion: 5.4\n\nspecifiers:\n  a: ^1\n  d: ^1\n  n: npm:@s/real@3\n  o: '1'\n\ndependencies:\n  a: 1.0.0_@s+p@2.0.0\n  n: /@s/real/3.0.0\n\noptionalDependencies:\n  o: 1.0.0\n\ndevDependencies:\n  d: 1.0.0_@s+p@2.0.0\n\npackages:\n\n  /@s/p/2.0.0:\n    resolution: {integrity: sha512-AA==}\n\n  /@s/real/3.0.0:\n    resolution: {integrity: sha512-AA==}\n    dependencies:\n      a: 1.0.0_@s+p@2.0.0\n\n  /a/1.0.0_@s+p@2.0.0:\n    resolution: {integrity: sha512-BB==}\n    peerDependencies:\n      '@s/p': '*'\n    dependencies:\n      '@s/p': 2.0.0\n      b: 1.0.0-x.1\n\n  /b/1.0.0-x.1:\n    resolution: {integrity: sha512-AA==}\n\n  /d/1.0.0_@s+p@2.0.0:\n    resolution: {integrity: sha512-AA==}\n    optionalDependencies:\n      a: 1.0.0_@s+p@2.0.0\n\n  /o/1.0.0:\n    resolution: {integrity: sha512-AA==}\n";
        let lock = read_for("pnpm-lock.yaml", text, MANIFEST, "", &[]).expect("lock").expect("covered");
        assert_eq!(edges(&lock), EXPECTED);
    }

    #[test]
    fn workspaces_git_and_paths_that_leave() {
        let text = "lockfileVersion: '9.0'\nimporters:\n  packages/a:\n    dependencies:\n      '@acme/b':\n        specifier: workspace:*\n        version: link:../b\n      out:\n        specifier: link:../../../x\n        version: link:../../../x\n      g:\n        specifier: github:a/g\n        version: https://codeload.github.com/a/g/tar.gz/0123\n  packages/b:\n    dependencies:\n      c:\n        specifier: '1'\n        version: 1.0.0\n      '@acme/a':\n        specifier: workspace:*\n        version: link:../a\n    devDependencies:\n      d:\n        specifier: '1'\n        version: 1.0.0\npackages:\n  c@1.0.0:\n    resolution: {integrity: sha512-AA==}\n  d@1.0.0:\n    resolution: {integrity: sha512-AA==}\n  g@https://codeload.github.com/a/g/tar.gz/0123:\n    resolution: {tarball: https://codeload.github.com/a/g/tar.gz/0123}\n    version: 4.0.0\nsnapshots:\n  c@1.0.0: {}\n  d@1.0.0: {}\n  g@https://codeload.github.com/a/g/tar.gz/0123: {}\n";
        let manifest = r#"{"name": "@acme/a", "dependencies": {"@acme/b": "workspace:*", "out": "link:../../../x", "g": "github:a/g", "new": "^1"}}"#;
        let others = [("packages/b", r#"{"name": "@acme/b", "version": "1.1.0"}"#)];
        let lock = read_for("pnpm-lock.yaml", text, manifest, "packages/a", &others)
            .expect("lock")
            .expect("covered");
        assert_eq!(
            edges(&lock),
            [
                "@ -> @acme/b@1.1.0 (Required)",
                "@ -> g@4.0.0 (Required)",
                "@ -> out@ (Required)",
                "@acme/b@1.1.0 -> @ (Required)",
                "@acme/b@1.1.0 -> c@1.0.0 (Required)",
            ]
        );
        assert_eq!(lock.packages[0].missing, ["new@^1"]);
        let out = lock.packages.iter().find(|package| package.name == "out").expect("out");
        assert_eq!(out.path.as_deref(), Some("../x"));
        assert!(read_for("pnpm-lock.yaml", text, manifest, "packages/z", &[]).expect("lock").is_none());
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        for (text, line) in [
            ("lockfileVersion: '7.0'\n", Some(1)),
            ("{}", Some(1)),
            ("lockfileVersion: '9.0'\nimporters:\n  .:\n    dependencies:\n      a: [1]\n", Some(5)),
            ("lockfileVersion: '9.0'\nimporters: []\n", Some(2)),
            ("lockfileVersion: '9.0'\npackages:\n  a@1: {\n", None),
        ] {
            let fault = read_for("pnpm-lock.yaml", text, "{}", "", &[]).expect_err(text);
            assert!(fault.line == line || line.is_none(), "{text}: {fault:?}");
        }
    }

    proptest! {
        #[test]
        fn any_entry_is_an_answer(
            keys in proptest::collection::btree_set("/?(@s/)?[a-c]([@/][0-9]\\.0\\.0)?([_(][@a-c/.0-9)(]{0,8})?|link:[./a]{0,8}|file:[./a]{0,8}", 0..8),
            version in "9\\.0|6\\.0|5\\.4",
            needs in proptest::collection::btree_map("[a-c]|__proto__", "[a-c@/().0-9]{0,8}|link:[./a-c]{0,9}", 0..4),
        ) {
            let quote = |text: &str| serde_json::Value::from(text).to_string();
            let list: String = needs.iter().map(|(name, version)| format!("      {}: {}\n", quote(name), quote(version))).collect();
            let list = if list.is_empty() { String::new() } else { format!("    dependencies:\n{list}") };
            let mut text = format!("lockfileVersion: '{version}'\nimporters:\n  .:\n    x: 1\n{list}packages:\n");
            for key in &keys {
                text.push_str(&format!("  {}:\n    resolution: {{integrity: sha512-AA==}}\n{list}", quote(key)));
            }
            let lock = read_for("pnpm-lock.yaml", &text, r#"{"dependencies": {"a": "1"}}"#, "", &[]).expect("well-formed").expect("covered");
            prop_assert!(lock.packages.iter().flat_map(|package| &package.edges).all(|edge| edge.to < lock.packages.len()));
        }
    }
}
