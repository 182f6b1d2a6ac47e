//! The metadata of one version, made of the tarball's `package.json` and of nothing else.
//!
//! Attack ("manifest confusion"): publish a document whose manifest lists harmless dependencies and no scripts
//! beside a tarball whose `package.json` says otherwise. Clients resolve and audit by the one and install the
//! other. Here the document's manifest is never stored. From outside the tarball come `_id`, `dist`,
//! `deprecated`, `hasInstallScript` and `_hasShrinkwrap`, all computed by the registry.

use std::borrow::Cow;

use protected_model::{name::PackageName, version::PackageVersion};

use super::{
    json::{Json, Object},
    tarball::Inspected,
};

/// What a package may not say about itself: the registry's own words, and text that nobody resolves by.
const NOT_FROM_PACKAGE: &[&str] =
    &["dist", "deprecated", "hasInstallScript", "gypfile", "readme", "readmeFilename", "maintainers"];
/// Members that are objects, or are left out: a list in their place breaks some clients and not others.
const OBJECTS: &[&str] = &[
    "dependencies",
    "devDependencies",
    "optionalDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "acceptDependencies",
    "engines",
    "directories",
    "scripts",
];
/// The members of the abbreviated form, as npm's registry documents it ("package-metadata", `Abbreviated version
/// object`), without `dist` and `deprecated`, which are added when the packument is rendered.
const ABBREVIATED: &[&str] = &[
    "name",
    "version",
    "dependencies",
    "devDependencies",
    "optionalDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "acceptDependencies",
    "bundleDependencies",
    "bin",
    "directories",
    "engines",
    "os",
    "cpu",
    "libc",
    "funding",
    "hasInstallScript",
    "_hasShrinkwrap",
];
/// The scripts that clients run when they install the package from a registry.
const INSTALL_SCRIPTS: &[&str] = &["preinstall", "install", "postinstall"];

/// The two forms of a version's metadata, each a JSON object without `dist` and `deprecated`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) full: String,
    pub(crate) abbreviated: String,
}

/// Makes the metadata of a version out of `manifest`, which is the inspected tarball's own.
pub(crate) fn serve(
    mut manifest: Object<'_>,
    inspected: &Inspected,
    package: &PackageName,
    version: &PackageVersion,
) -> Served {
    manifest.retain(|key, value| {
        !key.starts_with('_')
            && !NOT_FROM_PACKAGE.contains(&key)
            && (value.as_object().is_some() || !OBJECTS.contains(&key))
    });
    if let Some(bin) = manifest.remove("bin").and_then(|bin| normal_bin(&bin, package)) {
        manifest.insert("bin", bin);
    }
    let bundled = manifest.remove("bundledDependencies");
    if let Some(bundle) =
        manifest.remove("bundleDependencies").or(bundled).and_then(|it| normal_bundle(it, &manifest))
    {
        manifest.insert("bundleDependencies", bundle);
    }
    let scripts = manifest.object("scripts");
    let runs =
        |name: &&str| scripts.and_then(|scripts| scripts.text(name)).is_some_and(|text| !text.is_empty());
    if inspected.native_build || INSTALL_SCRIPTS.iter().any(runs) {
        manifest.insert("hasInstallScript", Json::Bool(true));
    }
    manifest.insert("_id", Json::Text(Cow::Owned(format!("{package}@{version}"))));
    manifest.insert("_hasShrinkwrap", Json::Bool(inspected.shrinkwrap));
    let full = render(&manifest);
    manifest.retain(|key, value| {
        ABBREVIATED.contains(&key)
            && !value.is_empty()
            && (key != "_hasShrinkwrap" || *value == Json::Bool(true))
    });
    Served { full, abbreviated: render(&manifest) }
}

fn render(object: &Object<'_>) -> String {
    // Keys are text and numbers finite, so this always succeeds.
    serde_json::to_string(object).unwrap_or_else(|_| "{}".to_owned())
}

/// Brings `bin` into its one form: names without folders, paths that stay within the package.
fn normal_bin<'a>(bin: &Json<'a>, package: &PackageName) -> Option<Json<'a>> {
    let entry = |name: &str, path: &Json<'a>| {
        let name =
            name.rsplit(['/', '\\', ':']).next().filter(|name| !matches!(*name, "" | "." | ".."))?.to_owned();
        let path = within(path.as_text()?)?;
        Some((Cow::Owned(name), Json::Text(Cow::Owned(path))))
    };
    let bin: Object<'a> = match bin {
        Json::Text(_) => entry(package.base(), bin).into_iter().collect(),
        Json::Object(bins) => {
            let mut entries: Vec<(Cow<'a, str>, Json<'a>)> = Vec::new();
            for (name, path) in bins.iter() {
                // `a/x` and `b/x` are both `x`: the first stays.
                let fresh = entry(name, path).filter(|(name, _)| entries.iter().all(|(own, _)| own != name));
                entries.extend(fresh);
            }
            entries.into_iter().collect()
        }
        _ => return None,
    };
    (!bin.is_empty()).then_some(Json::Object(bin))
}

/// Resolves `.` and `..` as if the package were the root.
fn within(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split(['/', '\\']) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// Brings `bundleDependencies` into its one form: `true` means all of `dependencies`.
fn normal_bundle<'a>(bundle: Json<'a>, manifest: &Object<'a>) -> Option<Json<'a>> {
    let names: Vec<Json<'a>> = match bundle {
        Json::Bool(true) => manifest
            .object("dependencies")
            .into_iter()
            .flat_map(Object::iter)
            .map(|(name, _)| Json::Text(Cow::Owned(name.to_owned())))
            .collect(),
        Json::List(names) => names.into_iter().filter(|name| name.as_text().is_some()).collect(),
        Json::Object(names) => {
            names.iter().map(|(name, _)| Json::Text(Cow::Owned(name.to_owned()))).collect()
        }
        _ => Vec::new(),
    };
    (!names.is_empty()).then_some(Json::List(names))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::tarball, *};

    fn served(manifest: Value, others: &[&str]) -> (Value, Value) {
        let mut manifest = manifest;
        manifest["name"] = "@acme/core".into();
        manifest["version"] = "1.0.0".into();
        let text = manifest.to_string();
        let mut entries = vec![tarball::tests::file("package/package.json", &text)];
        entries.extend(others.iter().map(|path| tarball::tests::file(path, "")));
        let inspected = tarball::inspect(&tarball::tests::tarball(&entries)).expect("tarball");
        let (name, version) = ("@acme/core".parse().expect("name"), "1.0.0".parse().expect("version"));
        let manifest = inspected.manifest(&name, &version).expect("manifest");
        let served = serve(manifest, &inspected, &name, &version);
        let json = |text: &str| serde_json::from_str(text).expect("json");
        (json(&served.full), json(&served.abbreviated))
    }

    #[test]
    fn both_forms_of_an_ordinary_package() {
        let (full, abbreviated) = served(
            json!({
                "description": "d", "license": "MIT", "main": "index.js", "bin": "./cli.js",
                "scripts": {"test": "x", "postinstall": "node x.js"},
                "dependencies": {"a": "^1"}, "devDependencies": {"b": "1"}, "peerDependencies": {"c": "*"},
                "peerDependenciesMeta": {"c": {"optional": true}}, "optionalDependencies": {"d": "1"},
                "engines": {"node": ">=20"}, "os": ["linux"], "cpu": ["x64"], "libc": ["glibc"],
                "bundledDependencies": ["a"], "funding": "https://a.example", "exports": {"z": "1", "a": "2"},
            }),
            &[],
        );
        assert_eq!(
            full,
            json!({
                "name": "@acme/core", "version": "1.0.0", "_id": "@acme/core@1.0.0", "_hasShrinkwrap": false,
                "description": "d", "license": "MIT", "main": "index.js", "bin": {"core": "cli.js"},
                "scripts": {"test": "x", "postinstall": "node x.js"}, "hasInstallScript": true,
                "dependencies": {"a": "^1"}, "devDependencies": {"b": "1"}, "peerDependencies": {"c": "*"},
                "peerDependenciesMeta": {"c": {"optional": true}}, "optionalDependencies": {"d": "1"},
                "engines": {"node": ">=20"}, "os": ["linux"], "cpu": ["x64"], "libc": ["glibc"],
                "bundleDependencies": ["a"], "funding": "https://a.example", "exports": {"z": "1", "a": "2"},
            })
        );
        assert_eq!(
            abbreviated,
            json!({
                "name": "@acme/core", "version": "1.0.0", "bin": {"core": "cli.js"}, "hasInstallScript": true,
                "dependencies": {"a": "^1"}, "devDependencies": {"b": "1"}, "peerDependencies": {"c": "*"},
                "peerDependenciesMeta": {"c": {"optional": true}}, "optionalDependencies": {"d": "1"},
                "engines": {"node": ">=20"}, "os": ["linux"], "cpu": ["x64"], "libc": ["glibc"],
                "bundleDependencies": ["a"], "funding": "https://a.example",
            })
        );
    }

    #[test]
    fn a_package_does_not_speak_for_the_registry() {
        let (full, _) = served(
            json!({
                "dist": {"tarball": "https://evil.example/x.tgz"}, "deprecated": "x", "_id": "x", "_resolved": "x",
                "_hasShrinkwrap": true, "hasInstallScript": false, "scripts": {"install": "x"}, "readme": "x",
                "dependencies": ["a"], "engines": "node 20", "maintainers": ["x"],
            }),
            &[],
        );
        assert_eq!(
            full,
            json!({
                "name": "@acme/core", "version": "1.0.0", "_id": "@acme/core@1.0.0", "_hasShrinkwrap": false,
                "scripts": {"install": "x"}, "hasInstallScript": true,
            })
        );
    }

    #[test]
    fn what_the_files_say() {
        let (full, abbreviated) = served(json!({}), &["package/binding.gyp", "package/npm-shrinkwrap.json"]);
        for form in [full, abbreviated] {
            assert_eq!((&form["hasInstallScript"], &form["_hasShrinkwrap"]), (&json!(true), &json!(true)));
        }
    }

    #[test]
    fn bins_stay_within_the_package() {
        let bin = |bin: Value| served(json!({"bin": bin}), &[]).0["bin"].clone();
        assert_eq!(bin(json!({"../../x": "../../../etc/passwd"})), json!({"x": "etc/passwd"}));
        assert_eq!(bin(json!({"a": "/bin/a", "b/a": "c", "..": "x", "d": 1})), json!({"a": "bin/a"}));
        for bad in [json!(["a"]), json!(""), json!(".."), json!({}), json!(1)] {
            assert_eq!(bin(bad), Value::Null);
        }
    }

    #[test]
    fn bundles_are_lists() {
        let bundle = |bundle: Value| {
            let manifest = json!({"bundleDependencies": bundle, "dependencies": {"a": "1", "b": "1"}});
            served(manifest, &[]).0["bundleDependencies"].clone()
        };
        assert_eq!(bundle(json!(true)), json!(["a", "b"]));
        assert_eq!(bundle(json!({"a": "1"})), json!(["a"]));
        assert_eq!(bundle(json!(["a", 1])), json!(["a"]));
        assert_eq!(bundle(json!(false)), Value::Null);
    }
}
