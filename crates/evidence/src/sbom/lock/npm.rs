//! `package-lock.json` and `npm-shrinkwrap.json`, lockfileVersion 1 to 3, which lay out `node_modules` path by path.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;
use serde_json::Value;

use super::{Lock, Locked, Need, Origin, Place, check_count, connect, origin, peer, wanted};
use crate::sbom::{error::Fault, licence};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    lockfile_version: u32,
    packages: Option<BTreeMap<String, Entry>>,
    dependencies: Option<BTreeMap<String, Old>>,
}

/// An entry of `packages`, by its path.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entry {
    name: Option<String>,
    version: Option<String>,
    // `false` in files that npm 5 wrote.
    resolved: Value,
    integrity: Option<String>,
    link: bool,
    in_bundle: bool,
    license: Option<Value>,
    licenses: Option<Value>,
    deprecated: Value,
    dependencies: BTreeMap<String, String>,
    optional_dependencies: BTreeMap<String, String>,
    peer_dependencies: BTreeMap<String, String>,
    peer_dependencies_meta: BTreeMap<String, Value>,
}

/// An entry of `dependencies`, nested as the folders are.
#[derive(Deserialize)]
struct Old {
    #[serde(default)]
    version: String,
    #[serde(default)]
    resolved: Value,
    integrity: Option<String>,
    #[serde(default)]
    bundled: bool,
    #[serde(default)]
    optional: bool,
    // `false`, or names and ranges.
    #[serde(default)]
    requires: Value,
    #[serde(default)]
    dependencies: BTreeMap<String, Old>,
}

/// What one entry needs.
type Needs = Vec<(String, String, Need)>;

/// The entries by path.
#[derive(Default)]
struct Table {
    packages: Vec<Locked>,
    needs: Vec<Needs>,
    by_path: HashMap<String, usize>,
    /// Places that stand for another.
    links: HashMap<String, String>,
    /// What old files call optional: they say so at the package itself, not at what needs it.
    optional: HashSet<usize>,
}

/// Reads the file; `None` where the package is no member of it.
pub(super) fn read(name: &str, text: &str, place: &Place<'_>) -> Result<Option<Lock>, Fault> {
    let file: File = serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| Fault {
        line: Some(error.line()).filter(|line| *line > 0),
        reason: format!("no lock file of npm: {error}"),
    })?;
    if file.lockfile_version > 3 {
        let found = file.lockfile_version;
        return Err(Fault::new(format!("lockfileVersion {found}, and 1 to 3 are known")));
    }
    let mut table = Table::default();
    match (file.packages, file.dependencies) {
        (Some(packages), _) => {
            check_count(packages.len())?;
            if !packages.contains_key(place.member) {
                return Ok(None);
            }
            packages.into_iter().for_each(|(path, entry)| table.add(path, entry));
        }
        (None, Some(_)) if !place.member.is_empty() => return Ok(None),
        (None, Some(dependencies)) => table.add_old("", dependencies)?,
        (None, None) if !place.member.is_empty() => return Ok(None),
        (None, None) => {}
    }
    let format = format!("{name}, lockfileVersion {}", file.lockfile_version.max(1));
    Ok(Some(Lock { format, packages: table.link(place) }))
}

impl Table {
    fn add(&mut self, path: String, entry: Entry) {
        if entry.link {
            // Only the place of another entry; a target that has none cannot be followed, and leads nowhere.
            if let Value::String(target) = entry.resolved {
                self.links.insert(path, target);
            }
            return;
        }
        let resolved = entry.resolved.as_str().unwrap_or_default();
        let installed = path.rsplit_once("node_modules/").map(|(_, name)| name.to_owned());
        let is_installed = installed.is_some();
        let mut needs = Needs::new();
        let mut add = |list: BTreeMap<String, String>, need: &dyn Fn(&str) -> Need| {
            for (name, range) in list {
                if !needs.iter().any(|(known, ..)| *known == name) {
                    let need = need(&name);
                    needs.push((name, range, need));
                }
            }
        };
        add(entry.optional_dependencies, &|_| Need::Optional);
        add(entry.dependencies, &|_| Need::Required);
        let meta = entry.peer_dependencies_meta;
        let is_optional =
            |name: &str| meta.get(name).and_then(|meta| meta.get("optional")) == Some(&Value::Bool(true));
        add(entry.peer_dependencies, &|name| peer(is_optional(name)));
        let origin = match (is_installed, resolved) {
            (true, "") => Origin::Registry(None),
            (true, resolved) => origin(resolved),
            (false, _) => Origin::Local,
        };
        self.push(
            path.clone(),
            needs,
            Locked {
                name: entry.name.or(installed).unwrap_or_default(),
                version: entry.version.unwrap_or_default(),
                origin,
                integrity: entry.integrity.unwrap_or_default(),
                licence: licence::text(entry.license.as_ref(), entry.licenses.as_ref()),
                path: Some(path),
                bundled: entry.in_bundle,
                deprecated: entry.deprecated.is_string(),
                ..Locked::default()
            },
        );
    }

    fn add_old(&mut self, folder: &str, dependencies: BTreeMap<String, Old>) -> Result<(), Fault> {
        for (name, old) in dependencies {
            check_count(self.packages.len())?;
            let path = format!("{folder}{}node_modules/{name}", if folder.is_empty() { "" } else { "/" });
            let resolved = old.resolved.as_str().unwrap_or_default();
            // The version of what is no registry's stands for its place: `git+ssh://...#commit`, `file:../x`.
            let (name, version, origin) = match old.version.strip_prefix("npm:").and_then(super::split) {
                Some((name, version)) => (name.to_owned(), version.to_owned(), origin(resolved)),
                None if semver::Version::parse(&old.version).is_ok() => {
                    let found = if resolved.is_empty() { Origin::Registry(None) } else { origin(resolved) };
                    (name, old.version.clone(), found)
                }
                None => (name, String::new(), origin(&old.version)),
            };
            let need = |_: &str| Need::Required;
            let requires = old.requires.as_object().into_iter().flatten();
            let needs = requires
                .map(|(name, range)| {
                    (name.clone(), range.as_str().unwrap_or_default().to_owned(), need(name))
                })
                .collect();
            self.push(
                path.clone(),
                needs,
                Locked {
                    name,
                    version,
                    origin,
                    integrity: old.integrity.unwrap_or_default(),
                    path: Some(path.clone()),
                    bundled: old.bundled,
                    ..Locked::default()
                },
            );
            if old.optional {
                self.optional.insert(self.packages.len() - 1);
            }
            self.add_old(&path, old.dependencies)?;
        }
        Ok(())
    }

    fn push(&mut self, path: String, needs: Needs, package: Locked) {
        self.by_path.insert(path, self.packages.len());
        self.packages.push(package);
        self.needs.push(needs);
    }

    /// Finds what `name` means to a module in `path`, as Node.js does: in `node_modules` there and in each folder
    /// above.
    fn resolve(&self, path: &str, name: &str) -> Option<usize> {
        let mut folder = path;
        loop {
            if folder != "node_modules" && !folder.ends_with("/node_modules") {
                let place = if folder.is_empty() {
                    format!("node_modules/{name}")
                } else {
                    format!("{folder}/node_modules/{name}")
                };
                let target = self.links.get(&place).unwrap_or(&place);
                if let Some(found) = self.by_path.get(target) {
                    return Some(*found);
                }
            }
            if folder.is_empty() {
                return None;
            }
            folder = folder.rsplit_once('/').map_or("", |(above, _)| above);
        }
    }

    fn link(mut self, place: &Place<'_>) -> Vec<Locked> {
        let needs = std::mem::take(&mut self.needs);
        let resolved: Vec<Vec<_>> = needs
            .into_iter()
            .zip(&self.packages)
            .map(|(needs, package)| {
                let path = package.path.as_deref().unwrap_or_default();
                let find = |(name, range, need): (String, String, Need)| {
                    let found = self.resolve(path, &name);
                    let need = if found.is_some_and(|to| self.optional.contains(&to)) {
                        Need::Optional
                    } else {
                        need
                    };
                    (name, range, need, found)
                };
                needs.into_iter().map(find).collect()
            })
            .collect();
        for (package, resolved) in self.packages.iter_mut().zip(resolved) {
            for (name, range, need, found) in resolved {
                connect(package, &name, &range, need, found);
            }
        }
        // The package itself stands first, and needs what its own manifest says.
        let mut root = Locked { path: Some(place.member.to_owned()), ..Locked::default() };
        for (name, range, need) in wanted(place.manifest, true) {
            connect(&mut root, name, range, need, self.resolve(place.member, name).map(|to| to + 1));
        }
        for edge in self.packages.iter_mut().flat_map(|package| &mut package.edges) {
            edge.to += 1;
        }
        // Whoever needs the package's own entry needs this one.
        if let Some(&itself) = self.by_path.get(place.member) {
            (self.packages[itself].edges, self.packages[itself].missing) = Default::default();
            self.packages.iter_mut().flat_map(|package| &mut package.edges).for_each(|edge| {
                if edge.to == itself + 1 {
                    edge.to = 0;
                }
            });
        }
        self.packages.insert(0, root);
        self.packages
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{edges, read_for};

    const V3: &str = r#"{
      "name": "@acme/shop", "version": "1.0.0", "lockfileVersion": 3, "requires": true,
      "packages": {
        "": {"name": "@acme/shop", "version": "1.0.0", "dependencies": {"a": "^1"}, "devDependencies": {"d": "^1"}},
        "node_modules/a": {"version": "1.0.0", "resolved": "https://registry.example/a/-/a-1.0.0.tgz",
          "integrity": "sha512-AA==", "license": "MIT", "dependencies": {"b": "^1"},
          "optionalDependencies": {"o": "^1"}, "peerDependencies": {"p": "*", "q": "*"},
          "peerDependenciesMeta": {"q": {"optional": true}}},
        "node_modules/a/node_modules/b": {"version": "1.5.0", "inBundle": true},
        "node_modules/b": {"version": "2.0.0"},
        "node_modules/alias": {"name": "real", "version": "3.0.0"},
        "node_modules/o": {"version": "1.0.0", "optional": true, "dependencies": {"b": "^2"}},
        "node_modules/p": {"version": "1.0.0", "dependencies": {"a": "^1", "alias": "npm:real@3"}},
        "node_modules/__proto__": {"version": "1.0.0"},
        "node_modules/d": {"version": "1.0.0", "dependencies": {"__proto__": "1", "gone": "^7"}}
      }
    }"#;

    #[test]
    fn version_3_resolves_as_node_does() {
        let manifest =
            r#"{"name": "@acme/shop", "dependencies": {"a": "^1"}, "devDependencies": {"d": "^1"}}"#;
        let lock = read_for("package-lock.json", V3, manifest, "", &[]).expect("lock").expect("covered");
        assert_eq!(
            edges(&lock),
            [
                "@ -> a@1.0.0 (Required)",
                "@ -> d@1.0.0 (Dev)",
                "a@1.0.0 -> b@1.5.0 (Required)",
                "a@1.0.0 -> o@1.0.0 (Optional)",
                "a@1.0.0 -> p@1.0.0 (Peer)",
                "d@1.0.0 -> __proto__@1.0.0 (Required)",
                "o@1.0.0 -> b@2.0.0 (Required)",
                "p@1.0.0 -> a@1.0.0 (Required)",
                "p@1.0.0 -> real@3.0.0 (Required)",
            ]
        );
        let d = lock.packages.iter().find(|package| package.name == "d").expect("d");
        assert_eq!(d.missing, ["gone@^7"]);
    }

    #[test]
    fn version_1_is_nested() {
        let text = r#"{"lockfileVersion": 1, "dependencies": {
          "a": {"version": "1.0.0", "resolved": "https://registry.example/a/-/a-1.0.0.tgz", "requires": {"b": "^1", "o": "1"},
                "dependencies": {"b": {"version": "1.5.0", "bundled": true}}},
          "b": {"version": "2.0.0", "requires": false},
          "o": {"version": "1.0.0", "optional": true, "resolved": false},
          "g": {"version": "git+ssh://git@github.com/a/g.git#0123", "from": "g@github:a/g"},
          "n": {"version": "npm:@s/real@3.0.0"}}}"#;
        let manifest = r#"{"dependencies": {"a": "^1", "b": "2", "g": "github:a/g", "n": "npm:@s/real@3"}}"#;
        let lock = read_for("npm-shrinkwrap.json", text, manifest, "", &[]).expect("lock").expect("covered");
        assert_eq!(
            edges(&lock),
            [
                "@ -> @s/real@3.0.0 (Required)",
                "@ -> a@1.0.0 (Required)",
                "@ -> b@2.0.0 (Required)",
                "@ -> g@ (Required)",
                "a@1.0.0 -> b@1.5.0 (Required)",
                "a@1.0.0 -> o@1.0.0 (Optional)",
            ]
        );
    }

    #[test]
    fn workspaces_are_members_and_links() {
        let text = r#"{"lockfileVersion": 3, "packages": {
          "": {"name": "root", "workspaces": ["packages/*"]},
          "packages/a": {"name": "@acme/a", "version": "1.0.0", "dependencies": {"@acme/b": "^1", "x": "1"}},
          "packages/a/node_modules/x": {"version": "1.0.0"},
          "packages/b": {"name": "@acme/b", "version": "1.1.0", "dependencies": {"x": "2"}, "devDependencies": {"y": "1"}},
          "node_modules/@acme/a": {"resolved": "packages/a", "link": true},
          "node_modules/@acme/b": {"resolved": "packages/b", "link": true},
          "node_modules/evil": {"resolved": "../../../etc", "link": true},
          "node_modules/x": {"version": "2.0.0"}, "node_modules/y": {"version": "1.0.0"}}}"#;
        let manifest = r#"{"name": "@acme/a", "dependencies": {"@acme/b": "^1", "x": "1", "evil": "1"}}"#;
        let lock =
            read_for("package-lock.json", text, manifest, "packages/a", &[]).expect("lock").expect("covered");
        let edges = edges(&lock);
        assert!(edges.contains(&"@ -> @acme/b@1.1.0 (Required)".to_owned()), "{edges:?}");
        assert!(edges.contains(&"@ -> x@1.0.0 (Required)".to_owned()), "{edges:?}");
        assert!(edges.contains(&"@acme/b@1.1.0 -> x@2.0.0 (Required)".to_owned()), "{edges:?}");
        assert!(
            !edges.iter().any(|edge| edge.contains("y@1.0.0")),
            "what develops a sibling is not needed here"
        );
        assert_eq!(lock.packages[0].missing, ["evil@1"]);
        assert!(read_for("package-lock.json", text, manifest, "packages/c", &[]).expect("lock").is_none());
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        for (text, line) in [
            ("", None),
            ("{\n  \"lockfileVersion\": 3,\n  \"packages\": []\n}", Some(3)),
            ("{\n\"packages\": {\n\"node_modules/a\": {\"version\": 1}}}", Some(3)),
            ("{\"lockfileVersion\": 4}", None),
            ("{\"lockfileVersion\": 3, \"packages\": {", Some(1)),
            ("[]", Some(1)),
        ] {
            let fault = read_for("package-lock.json", text, "{}", "", &[]).expect_err(text);
            assert!(fault.line == line || text.is_empty(), "{text}: {fault:?}");
        }
        let deep = format!(
            "{{\"lockfileVersion\": 1, \"dependencies\": {}{}}}",
            "{\"a\":{\"version\":\"1.0.0\",\"dependencies\":".repeat(100_000),
            "1"
        );
        assert!(read_for("package-lock.json", &deep, "{}", "", &[]).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_an_answer(text in "\\PC{0,200}") {
            let _ = read_for("package-lock.json", &text, "{}", "", &[]);
        }

        /// Cycles, missing entries and odd paths end in a graph all of whose edges lead somewhere.
        #[test]
        fn any_graph_is_an_answer(entries in proptest::collection::btree_map("(node_modules/[a-c]|packages/[a-c]|[.]{2}|/|){1,4}", (proptest::option::of("[0-9]\\.0\\.0"), proptest::collection::btree_map("[a-c]|__proto__|\\.\\./x", "\\PC{0,5}", 0..3), any::<bool>()), 0..12)) {
            let packages: serde_json::Map<String, serde_json::Value> = entries.into_iter().map(|(path, (version, needs, link))| {
                (path.clone(), serde_json::json!({"version": version, "dependencies": needs, "link": link, "resolved": path}))
            }).chain([(String::new(), serde_json::json!({}))]).collect();
            let text = serde_json::json!({"lockfileVersion": 3, "packages": packages}).to_string();
            let lock = read_for("package-lock.json", &text, r#"{"dependencies": {"a": "1", "b": "1"}}"#, "", &[]);
            if let Ok(Some(lock)) = lock {
                prop_assert!(lock.packages.iter().flat_map(|package| &package.edges).all(|edge| edge.to < lock.packages.len()));
            }
        }
    }
}
