//! `yarn.lock` of yarn 1: one entry for the patterns that led to it, and no word about where it is installed.

use std::collections::HashMap;

use super::{Index, Lock, Locked, Need, Place, check_count, connect, needs, origin, split, wanted};
use crate::sbom::{error::Fault, node::yarn};

/// Reads the file; `None` where the package is neither its own nor of its workspaces.
pub(super) fn read(text: &str, place: &Place<'_>) -> Result<Option<Lock>, Fault> {
    if !place.member.is_empty() && !place.workspaces.iter().any(|folder| folder == place.member) {
        return Ok(None);
    }
    let file = yarn(text)?;
    let entries = file.members("the file")?;
    check_count(entries.len())?;
    let mut lock = Lock { format: "yarn.lock, version 1".to_owned(), packages: vec![Locked::default()] };
    let mut index = Index::default();
    for (patterns, node) in entries {
        let version = node
            .get("version")
            .ok_or_else(|| Fault::at(node.line, format!("`{patterns}` has no version")))?;
        let version = version.text("a version")?;
        let at = lock.packages.len();
        patterns.split('\n').for_each(|pattern| index.add(pattern, at));
        let (name, range) = patterns.split('\n').next().and_then(split).unwrap_or((patterns, ""));
        // `alias@npm:real@^1`
        let real = range.strip_prefix("npm:").map(|real| split(real).map_or(real, |(name, _)| name));
        let resolved = node.text_of("resolved").unwrap_or_default();
        let sha1 = resolved.rsplit_once('#').map(|(_, sha1)| sha1);
        let sha1 = sha1.filter(|text| text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let origin = origin(resolved);
        // The commit of a repository looks the same.
        let sha1 = sha1.filter(|_| !matches!(origin, super::Origin::Git(_)) && !resolved.contains(".git#"));
        lock.packages.push(Locked {
            name: real.unwrap_or(name).to_owned(),
            version: version.to_owned(),
            origin,
            integrity: node.text_of("integrity").unwrap_or_default().to_owned(),
            sha1: sha1.map(str::to_ascii_lowercase),
            ..Locked::default()
        });
    }
    let mut siblings: HashMap<&str, usize> = HashMap::new();
    let mut open = vec![(0, place.manifest.clone(), true)];
    let others: Vec<_> = place
        .workspaces
        .iter()
        .filter(|folder| *folder != place.member)
        .filter_map(|folder| Some((folder, (place.manifest_in)(folder)?)))
        .collect();
    let by_name: HashMap<&str, usize> =
        others.iter().enumerate().map(|(at, (_, manifest))| (manifest.name.as_str(), at)).collect();
    while let Some((from, manifest, dev)) = open.pop() {
        for (name, range, need) in wanted(&manifest, dev) {
            let mut found = index.get(&format!("{name}@{range}"));
            if found.is_none() && name == place.manifest.name && from != 0 {
                found = Some(0);
            }
            if let (None, Some((name, other))) = (found, by_name.get_key_value(name)) {
                found = Some(*siblings.entry(name).or_insert_with(|| {
                    let (folder, manifest) = &others[*other];
                    let to = lock.packages.len();
                    lock.packages.push(Locked {
                        name: manifest.name.clone(),
                        version: manifest.version.clone(),
                        path: Some((*folder).clone()),
                        ..Locked::default()
                    });
                    open.push((to, manifest.clone(), false));
                    to
                }));
            }
            let found = found.or_else(|| index.only(name));
            connect(&mut lock.packages[from], name, range, need, found);
        }
    }
    for (at, (_, node)) in entries.iter().enumerate() {
        let mut all = needs(node, "dependencies", Need::Required)?;
        all.extend(needs(node, "optionalDependencies", Need::Optional)?);
        for (name, range, need) in all {
            let found = index.get(&format!("{name}@{range}")).or_else(|| index.only(name));
            connect(&mut lock.packages[at + 1], name, range, need, found);
        }
    }
    Ok(Some(lock))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{
        Origin,
        tests::{edges, read_for},
    };

    const TEXT: &str = "# yarn lockfile v1\n\n\n\"@s/p@*\", \"@s/p@^2\":\n  version \"2.0.0\"\n  resolved \"https://registry.example/@s/p/-/p-2.0.0.tgz#0123456789012345678901234567890123456789\"\n\na@^1:\n  version \"1.0.0\"\n  resolved \"https://registry.example/a/-/a-1.0.0.tgz#0123456789012345678901234567890123456789\"\n  integrity sha512-AA==\n  dependencies:\n    \"@s/p\" \"^2\"\n    b \"^7\"\n  optionalDependencies:\n    o \"1\"\n\nb@8.0.0:\n  version \"8.0.0\"\n  dependencies:\n    a \"^1\"\n\n\"g@git+ssh://git@github.com/a/g.git\":\n  version \"4.0.0\"\n  resolved \"git+ssh://git@github.com/a/g.git#0123456789012345678901234567890123456789\"\n\n\"n@npm:@s/real@^3\":\n  version \"3.0.0\"\n";

    #[test]
    fn patterns_lead_to_entries() {
        let manifest = r#"{"name": "x", "dependencies": {"a": "^1", "n": "npm:@s/real@^3", "g": "git+ssh://git@github.com/a/g.git", "new": "1"}}"#;
        let lock = read_for("yarn.lock", TEXT, manifest, "", &[]).expect("lock").expect("covered");
        assert_eq!(
            edges(&lock),
            [
                "@ -> @s/real@3.0.0 (Required)",
                "@ -> a@1.0.0 (Required)",
                "@ -> g@4.0.0 (Required)",
                "a@1.0.0 -> @s/p@2.0.0 (Required)",
                "a@1.0.0 -> b@8.0.0 (Required)",
                "b@8.0.0 -> a@1.0.0 (Required)",
            ]
        );
        assert_eq!(lock.packages[0].missing, ["new@1"]);
        let a = lock.packages.iter().find(|package| package.name == "a").expect("a");
        assert_eq!(a.sha1.as_deref(), Some("0123456789012345678901234567890123456789"));
        let g = lock.packages.iter().find(|package| package.name == "g").expect("g");
        assert!(g.sha1.is_none() && matches!(g.origin, Origin::Git(_)), "{g:?}");
    }

    #[test]
    fn siblings_stand_in_no_lock_file() {
        let manifest = r#"{"name": "@acme/a", "dependencies": {"@acme/b": "^1"}}"#;
        let others = [
            ("packages/a", manifest),
            (
                "packages/b",
                r#"{"name": "@acme/b", "version": "1.1.0", "dependencies": {"a": "^1", "@acme/a": "^1"}, "devDependencies": {"b": "8.0.0"}}"#,
            ),
        ];
        let lock =
            read_for("yarn.lock", TEXT, manifest, "packages/a", &others).expect("lock").expect("covered");
        let edges = edges(&lock);
        assert!(edges.contains(&"@ -> @acme/b@1.1.0 (Required)".to_owned()), "{edges:?}");
        assert!(edges.contains(&"@acme/b@1.1.0 -> a@1.0.0 (Required)".to_owned()), "{edges:?}");
        assert!(edges.contains(&"@acme/b@1.1.0 -> @ (Required)".to_owned()), "{edges:?}");
        assert!(read_for("yarn.lock", TEXT, manifest, "tools/x", &others).expect("lock").is_none());
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        for (text, line) in [
            ("a@1:\n  resolved \"x\"\n", 1),
            ("a@1:\n  version \"1\"\n  dependencies \"x\"\n", 3),
            ("x\n", 1),
        ] {
            let fault = read_for("yarn.lock", text, "{}", "", &[]).expect_err(text);
            assert_eq!(fault.line, Some(line), "{text}: {fault:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_answer(text in "([a-c@^:\" ,0-9]{0,9}\\n){0,9}") {
            let lock = read_for("yarn.lock", &text, r#"{"dependencies": {"a": "1"}}"#, "", &[]);
            if let Ok(Some(lock)) = lock {
                prop_assert!(lock.packages.iter().flat_map(|package| &package.edges).all(|edge| edge.to < lock.packages.len()));
            }
        }
    }
}
