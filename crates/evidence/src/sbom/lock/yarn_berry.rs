//! `yarn.lock` of yarn 2 and later: YAML, with the workspaces as entries.
//!
//! Its checksums are of the archives that yarn makes, not of the tarballs that a registry has, so they are told apart
//! from hashes. Peers are not resolved in the file: a package gets its peer from each package that needs it.

use std::collections::{BTreeSet, HashMap};

use percent_encoding::percent_decode_str;

use super::{
    Edge, Index, Lock, Locked, Need, Origin, Place, check_count, connect, origin, peer, split, wanted,
};
use crate::sbom::{
    error::Fault,
    node::{Node, yaml},
};

/// How often peers are handed down through peers. Real graphs settle after two or three.
const MAX_ROUNDS: usize = 16;

/// Whether a `yarn.lock` is of yarn 2 or later.
pub(super) fn is(text: &str) -> bool {
    text.lines().any(|line| line.trim_end() == "__metadata:")
}

/// Reads the file; `None` where the package is none of its workspaces.
pub(super) fn read(text: &str, place: &Place<'_>) -> Result<Option<Lock>, Fault> {
    let file = yaml(text)?;
    let entries = file.members("the file")?;
    check_count(entries.len())?;
    let metadata =
        file.get("__metadata").and_then(|metadata| metadata.text_of("version")).unwrap_or("unknown");
    let mut lock =
        Lock { format: format!("yarn.lock, version {metadata}"), packages: vec![Locked::default()] };
    let mut index = Index::default();
    let mut nodes: Vec<(usize, &Node)> = Vec::new();
    let mut itself = None;
    for (descriptors, node) in entries.iter().filter(|(key, _)| key != "__metadata") {
        let resolution = node
            .text_of("resolution")
            .ok_or_else(|| Fault::at(node.line, format!("`{descriptors}` has no resolution")))?;
        let at = lock.packages.len();
        let package = package(resolution, node);
        let is_workspace =
            split(resolution).is_some_and(|(_, reference)| reference.starts_with("workspace:"));
        let member = if place.member.is_empty() { "." } else { place.member };
        if is_workspace && package.path.as_deref() == Some(member) {
            itself = Some(at);
        }
        descriptors.split(',').for_each(|descriptor| index.add(descriptor.trim(), at));
        nodes.push((at, node));
        lock.packages.push(package);
    }
    let Some(itself) = itself else { return Ok(None) };
    let find = |name: &str, range: &str| {
        let range = place.top.resolutions.get(name).map_or(range, String::as_str);
        index
            .get(&format!("{name}@{range}"))
            .or_else(|| index.get(&format!("{name}@npm:{range}")))
            .or_else(|| index.only(name))
            .map(|to| if to == itself { 0 } else { to })
    };
    for (name, range, need) in wanted(place.manifest, true) {
        connect(&mut lock.packages[0], name, range, need, find(name, range));
    }
    for (at, node) in nodes.into_iter().filter(|(at, _)| *at != itself) {
        let folder = lock.packages[at].path.clone();
        // A sibling's entry does not tell what it needs from what develops it.
        let manifest = folder.as_deref().and_then(place.manifest_in);
        if let Some(manifest) = manifest {
            lock.packages[at].version = manifest.version.clone();
            for (name, range, need) in wanted(&manifest, false) {
                connect(&mut lock.packages[at], name, range, need, find(name, range));
            }
            continue;
        }
        let meta = |list: &str, name: &str| {
            node.get(list).and_then(|meta| meta.get(name)).is_some_and(|meta| meta.is_true("optional"))
        };
        for (name, range) in node.pairs("dependencies")? {
            let need = if meta("dependenciesMeta", name) { Need::Optional } else { Need::Required };
            connect(&mut lock.packages[at], name, range, need, find(name, range));
        }
        let peers = node.pairs("peerDependencies")?;
        lock.packages[at].peers = peers
            .into_iter()
            .map(|(name, _)| (name.to_owned(), meta("peerDependenciesMeta", name)))
            .collect();
    }
    hand_down(&mut lock.packages);
    Ok(Some(lock))
}

/// Gives each package its peers from those that need it.
fn hand_down(packages: &mut [Locked]) {
    for _ in 0..MAX_ROUNDS {
        let mut given: BTreeSet<(usize, String, usize)> = BTreeSet::new();
        for parent in packages.iter() {
            let has: HashMap<&str, usize> =
                parent.edges.iter().map(|edge| (edge.name.as_str(), edge.to)).collect();
            for child in &parent.edges {
                for (name, _) in &packages[child.to].peers {
                    if let Some(&to) = has.get(name.as_str()) {
                        given.insert((child.to, name.clone(), to));
                    }
                }
            }
        }
        let mut changed = false;
        for (from, name, to) in given {
            let optional = packages[from].peers.iter().any(|(peer, optional)| *peer == name && *optional);
            if !packages[from].edges.iter().any(|edge| edge.to == to && edge.name == name) {
                packages[from].edges.push(Edge { name, to, need: peer(optional) });
                changed = true;
            }
        }
        if !changed {
            return;
        }
    }
}

/// Reads an entry from its resolution, such as `@s/a@npm:1.0.0`.
fn package(resolution: &str, node: &Node) -> Locked {
    let (name, reference) = split(resolution).unwrap_or((resolution, ""));
    let version = node.text_of("version").unwrap_or_default();
    // `patch:a@npm%3A1.0.0#...`: the package that is patched is still that package.
    let decoded = percent_decode_str(reference).decode_utf8_lossy().into_owned();
    let mut reference = decoded.as_str();
    while let Some(inner) = reference.strip_prefix("patch:") {
        reference = split(inner).map_or("", |(_, inner)| inner);
    }
    let (origin, path) = if let Some(folder) = reference.strip_prefix("workspace:") {
        (Origin::Local, Some(folder.to_owned()))
    } else if let Some(rest) = reference.strip_prefix("npm:") {
        let archive = rest.split_once("__archiveUrl=").map(|(_, url)| url.split('&').next().unwrap_or(url));
        match archive.map(origin) {
            Some(Origin::Registry(url)) => (Origin::Registry(url), None),
            Some(Origin::Tarball(url)) => (Origin::Registry(Some(url)), None),
            _ => (Origin::Registry(None), None),
        }
    } else {
        (origin(reference), None)
    };
    Locked {
        name: name.to_owned(),
        version: version.to_owned(),
        origin,
        path,
        yarn_checksum: node.text_of("checksum").map(str::to_owned),
        ..Locked::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{
        Origin,
        tests::{edges, read_for},
    };

    const TEXT: &str = "# yarn\n\n__metadata:\n  version: 8\n  cacheKey: 10c0\n\n\"@acme/a@workspace:packages/a\":\n  version: 0.0.0-use.local\n  resolution: \"@acme/a@workspace:packages/a\"\n  dependencies:\n    \"@acme/b\": \"workspace:^\"\n    d: \"npm:^1\"\n  languageName: unknown\n  linkType: soft\n\n\"@acme/b@workspace:^, @acme/b@workspace:packages/b\":\n  version: 0.0.0-use.local\n  resolution: \"@acme/b@workspace:packages/b\"\n  dependencies:\n    x: \"npm:^1\"\n    y: \"npm:^1\"\n\n\"d@npm:^1\":\n  version: 1.0.0\n  resolution: \"d@npm:1.0.0\"\n  checksum: 10c0/00ff\n\n\"g@https://github.com/a/g.git\":\n  version: 4.0.0\n  resolution: \"g@https://github.com/a/g.git#commit=0123\"\n\n\"p@npm:^2\":\n  version: 2.0.0\n  resolution: \"p@npm:2.0.0\"\n\n\"q@npm:^1\":\n  version: 1.0.0\n  resolution: \"q@npm:1.0.0\"\n  peerDependencies:\n    p: \"*\"\n\n\"r@npm:real@^3\":\n  version: 3.0.0\n  resolution: \"real@npm:3.0.0\"\n\n\"x@npm:^1\":\n  version: 1.0.0\n  resolution: \"x@npm:1.0.0\"\n  dependencies:\n    q: \"npm:^1\"\n    t: \"patch:t@npm%3A^5#optional!builtin<compat/t>\"\n  dependenciesMeta:\n    t:\n      optional: true\n  peerDependencies:\n    p: \"*\"\n    z: \"*\"\n  peerDependenciesMeta:\n    p:\n      optional: true\n\n\"t@patch:t@npm%3A^5#optional!builtin<compat/t>\":\n  version: 5.0.0\n  resolution: \"t@patch:t@npm%3A5.0.0#optional!builtin<compat/t>::version=5.0.0&hash=1\"\n";

    #[test]
    fn workspaces_and_peers() {
        let manifest = r#"{"name": "@acme/a", "version": "1.0.0", "dependencies": {"@acme/b": "workspace:^", "x": "^1", "p": "^2", "r": "npm:real@^3", "g": "https://github.com/a/g.git"}, "devDependencies": {"d": "^1"}}"#;
        let others = [(
            "packages/b",
            r#"{"name": "@acme/b", "version": "1.1.0", "dependencies": {"x": "^1"}, "devDependencies": {"y": "^1"}}"#,
        )];
        let lock =
            read_for("yarn.lock", TEXT, manifest, "packages/a", &others).expect("lock").expect("covered");
        assert_eq!(
            edges(&lock),
            [
                "@ -> @acme/b@1.1.0 (Required)",
                "@ -> d@1.0.0 (Dev)",
                "@ -> g@4.0.0 (Required)",
                "@ -> p@2.0.0 (Required)",
                "@ -> real@3.0.0 (Required)",
                "@ -> x@1.0.0 (Required)",
                "@acme/b@1.1.0 -> x@1.0.0 (Required)",
                "q@1.0.0 -> p@2.0.0 (Peer)",
                "x@1.0.0 -> p@2.0.0 (OptionalPeer)",
                "x@1.0.0 -> q@1.0.0 (Required)",
                "x@1.0.0 -> t@5.0.0 (Optional)",
            ]
        );
        let package =
            |name: &str| lock.packages.iter().find(|package| package.name == name).expect("package");
        assert_eq!(package("t").origin, Origin::Registry(None));
        assert_eq!(package("g").origin, Origin::Git("git+https://github.com/a/g.git#commit=0123".to_owned()));
        assert_eq!(package("d").yarn_checksum.as_deref(), Some("10c0/00ff"));
        assert!(read_for("yarn.lock", TEXT, manifest, "packages/z", &[]).expect("lock").is_none());
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let fault =
            read_for("yarn.lock", "__metadata:\n  version: 8\na@npm:1:\n  version: 1\n", "{}", "", &[])
                .expect_err("no resolution");
        assert_eq!(fault.line, Some(4));
        assert!(read_for("yarn.lock", "__metadata:\n\ta: 1\n", "{}", "", &[]).is_err());
    }

    proptest! {
        #[test]
        fn any_entry_is_an_answer(entries in proptest::collection::btree_map("[a-c]@(npm:|workspace:|patch:a@)[.^0-9a-c%]{0,5}", ("[a-c]@(npm|workspace|patch|https|git):[.^0-9a-c%#/@]{0,9}|\\PC{0,9}", proptest::collection::btree_map("[a-c]", "(npm:)?[.^0-9]{0,4}", 0..3)), 0..8)) {
            let quote = |text: &str| serde_json::Value::from(text).to_string();
            let mut text = "__metadata:\n  version: 8\n\n\"x@workspace:.\":\n  version: 0\n  resolution: \"x@workspace:.\"\n".to_owned();
            for (key, (resolution, needs)) in &entries {
                text.push_str(&format!("{}:\n  version: 1.0.0\n  resolution: {}\n", quote(key), quote(resolution)));
                for list in ["dependencies", "peerDependencies"] {
                    text.push_str(&format!("  {list}:\n"));
                    needs.iter().for_each(|(name, range)| text.push_str(&format!("    {name}: {}\n", quote(range))));
                }
            }
            let lock = read_for("yarn.lock", &text, r#"{"dependencies": {"a": "^1"}}"#, "", &[]).expect("well-formed");
            if let Some(lock) = lock {
                prop_assert!(lock.packages.iter().flat_map(|package| &package.edges).all(|edge| edge.to < lock.packages.len()));
            }
        }
    }
}
