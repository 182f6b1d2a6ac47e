//! The files of a package that somebody outside can load: those that a `package.json` names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::resolve::Files;
use crate::entry_points::resolve;

/// Fields of a `package.json` that name no file to load, though a word in them may look like one.
const SILENT: &[&str] = &[
    "name",
    "version",
    "description",
    "keywords",
    "author",
    "contributors",
    "maintainers",
    "license",
    "repository",
    "homepage",
    "bugs",
    "funding",
    "files",
    "sideEffects",
    "types",
    "typings",
    "typesVersions",
    "dependencies",
    "devDependencies",
    "peerDependencies",
    "optionalDependencies",
    "engines",
    "type",
    "directories",
];

/// Returns the files that the `package.json` of each folder names, whatever the condition, and the `main` that
/// is meant where none is named. Those that only `imports` names have a reason for being files.
pub(crate) fn entries(
    files: &Files,
    manifests: &BTreeMap<String, Value>,
) -> BTreeMap<String, Option<String>> {
    let mut found = Found { files, folder: "", expands: false, paths: BTreeSet::new() };
    let mut inside: BTreeMap<String, Option<String>> = BTreeMap::new();
    for (folder, json) in manifests {
        found.folder = folder;
        found.paths.extend(files.folder(folder));
        let programs = json.pointer("/directories/bin").and_then(Value::as_str);
        if let Some(place) = programs.and_then(|place| resolve(folder, place)) {
            found.paths.extend(files.below(&format!("{place}/")).cloned());
        }
        for (key, value) in json.as_object().into_iter().flatten() {
            found.expands = ["exports", "imports"].contains(&key.as_str());
            match value {
                // Only the package itself sees `imports`; what stands there for one file is followed as that file.
                Value::Object(names) if key == "imports" => {
                    let outside = std::mem::take(&mut found.paths);
                    for (name, target) in names.iter().filter(|(name, _)| !files.is_one(folder, name)) {
                        found.value(target);
                        let reason = format!("`{name}` in package.json may lead to it");
                        let paths = std::mem::take(&mut found.paths);
                        inside.extend(paths.into_iter().map(|path| (path, Some(reason.clone()))));
                    }
                    found.paths = outside;
                }
                value if !SILENT.contains(&key.as_str()) => found.value(value),
                _ => {}
            }
        }
    }
    inside.extend(found.paths.into_iter().map(|path| (path, None)));
    inside
}

struct Found<'a> {
    files: &'a Files,
    folder: &'a str,
    /// Whether patterns and folders stand for files here.
    expands: bool,
    paths: BTreeSet<String>,
}

impl Found<'_> {
    fn value(&mut self, value: &Value) {
        match value {
            // A script's command is words, some of which name files.
            Value::String(text) => {
                text.split([' ', '"', '\'', '=', ';', '&', '\t']).for_each(|word| self.word(word))
            }
            Value::Array(items) => items.iter().for_each(|item| self.value(item)),
            Value::Object(members) => {
                for (key, value) in members {
                    // `browser` replaces the file that is its key.
                    self.word(key);
                    self.value(value);
                }
            }
            _ => {}
        }
    }

    fn word(&mut self, word: &str) {
        let Some(place) = resolve(self.folder, word).filter(|place| !place.is_empty() && word != ".") else {
            return;
        };
        if let Some((before, after)) = place.split_once('*') {
            if !self.expands {
                return;
            }
            // The part behind a second star repeats the first.
            let after = after.rsplit('*').next().unwrap_or(after);
            let matching = self.files.below(before).filter(|path| path.ends_with(after));
            self.paths.extend(matching.cloned().collect::<Vec<_>>());
        } else if let Some(path) = self.files.file(&place) {
            self.paths.insert(path);
        } else if word.starts_with('.') || word.contains('/') {
            let inside = format!("{place}/");
            if self.expands && word.ends_with('/') {
                self.paths.extend(self.files.below(&inside).cloned().collect::<Vec<_>>());
            }
            self.paths.extend(self.files.folder(&place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_file_is_an_entry() {
        let paths = [
            "index.js",
            "a.js",
            "b.mjs",
            "c.cjs",
            "bin/cli.js",
            "features/x.js",
            "features/deep/y.js",
            "old/z.js",
            "browser.js",
            "node.js",
            "internal.js",
            "inside.js",
            "scripts/install.js",
            "sub/package.json",
            "sub/main.js",
            "lib/index.js",
            "dep.js",
            "programs/tool.js",
        ];
        let text = r##"{
            "lint": ["**/*.js", "lib/", "/"], "directories": {"bin": "./programs", "lib": "lib"},
            "name": "internal.js", "files": ["internal.js"],
            "exports": {".": {"node": {"import": "./b.mjs", "require": ["./c.cjs", null]}, "default": "./a.js"},
                "./features/*": "./features/*.js", "./old/": "./old/"},
            "bin": {"cli": "bin/cli.js"}, "browser": {"./node.js": "./browser.js"},
            "scripts": {"install": "node scripts/install.js && echo done"},
            "module": "./lib",
            "imports": {"#a": "./internal.js", "#b": {"default": "./internal.js"},
                "#c": {"node": "./inside.js", "default": "./b.mjs"}},
            "dependencies": {"dep.js": "1"}
        }"##;
        let root = serde_json::from_str(text).expect("json");
        let manifests: BTreeMap<String, Value> =
            [("".to_owned(), root), ("sub".to_owned(), serde_json::json!({"main": "main.js"}))].into();
        let files = Files::new(paths.map(str::to_owned).into(), &manifests, text);
        let found = entries(&files, &manifests);
        let expected: BTreeMap<String, Option<String>> = paths
            .iter()
            .filter(|path| !["internal.js", "sub/package.json", "dep.js"].contains(path))
            .map(|path| {
                let inside = (*path == "inside.js").then_some("`#c` in package.json may lead to it");
                ((*path).to_owned(), inside.map(str::to_owned))
            })
            .collect();
        assert_eq!(found, expected);
    }
}
