//! The file names in a `package.json`, brought up to date after files got other names.
//!
//! Only the strings that change are replaced; order, spacing and everything else stay as the author wrote them,
//! because the order of `exports` conditions has meaning.

use std::{collections::BTreeMap, ops::Range};

use crate::json::{Node, Text};

/// Fields that name one file, or a map from files or conditions to files.
const FIELDS: &[&str] = &[
    "main",
    "module",
    "browser",
    "bin",
    "exports",
    "imports",
    "jsnext:main",
    "es2015",
    "esm",
    "esnext",
    "react-native",
    "source",
    "unpkg",
    "jsdelivr",
    "svelte",
];

/// Fields that list files and patterns.
const LISTS: &[&str] = &["files", "sideEffects"];

/// Endings of source code and what they become.
const ENDINGS: &[(&str, &str)] =
    &[("tsx", "js"), ("mts", "mjs"), ("cts", "cjs"), ("ts", "js"), ("jsx", "js")];

/// Returns the text of the `package.json` in `folder` with the names of `renamed`, or nothing if none is in it.
///
/// `types` and `typings` stay: they name declarations, which keep their names.
pub(crate) fn update(folder: &str, text: &str, renamed: &BTreeMap<String, String>) -> Option<String> {
    let node = Node::read(text)?;
    let mut update = Update { folder, renamed, edits: Vec::new() };
    for (key, value) in node.members() {
        if FIELDS.contains(&key.value.as_str()) {
            update.entry(value, key.value == "browser");
        } else if LISTS.contains(&key.value.as_str()) {
            update.list(value);
        }
    }
    if update.edits.is_empty() {
        return None;
    }
    update.edits.sort_by_key(|(at, _)| at.start);
    let mut updated = text.to_owned();
    for (at, value) in update.edits.into_iter().rev() {
        updated.replace_range(at, &serde_json::Value::from(value).to_string());
    }
    Some(updated)
}

struct Update<'a> {
    folder: &'a str,
    renamed: &'a BTreeMap<String, String>,
    edits: Vec<(Range<usize>, String)>,
}

impl Update<'_> {
    /// `keys`: whether the keys of a map name files too.
    fn entry(&mut self, node: &Node, keys: bool) {
        match node {
            Node::Text(text) => self.file(text),
            Node::Array(items) => items.iter().for_each(|item| self.entry(item, keys)),
            Node::Object(members) => {
                for (key, value) in members {
                    if keys {
                        self.file(key);
                    }
                    let is_types = key.value == "types" || key.value.starts_with("types@");
                    if !is_types {
                        self.entry(value, keys);
                    }
                }
            }
            Node::Other => {}
        }
    }

    fn list(&mut self, node: &Node) {
        if let Node::Array(items) = node {
            for item in items {
                if let Node::Text(text) = item {
                    self.file(text);
                }
            }
        }
    }

    fn file(&mut self, text: &Text) {
        let moved = if text.value.contains('*') { self.pattern(&text.value) } else { self.path(&text.value) };
        if let Some(moved) = moved {
            self.edits.push((text.at.clone(), moved));
        }
    }

    /// One file: only its ending can differ.
    fn path(&self, value: &str) -> Option<String> {
        let path = resolve(self.folder, value.trim_start_matches('!'))?;
        let published = self.renamed.get(&path)?;
        ended(value, &path, published)
    }

    /// `./src/*.ts`, `**/*.{ts,tsx}`: changed where it stands for files that changed.
    fn pattern(&self, value: &str) -> Option<String> {
        let (before, ending) = value.rsplit_once('.')?;
        let new = |old: &str| ENDINGS.iter().find(|(from, _)| *from == old).map(|(_, to)| *to);
        let happened = |old: &str| {
            let end = format!(".{old}");
            self.renamed.keys().any(|path| path.ends_with(&end))
        };
        let alternatives = ending.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let Some(alternatives) = alternatives else {
            return new(ending).filter(|_| happened(ending)).map(|to| format!("{before}.{to}"));
        };
        let mut changed = false;
        let mut endings: Vec<&str> = Vec::new();
        for old in alternatives.split(',') {
            let to = new(old).filter(|_| happened(old));
            changed |= to.is_some();
            let to = to.unwrap_or(old);
            if !endings.contains(&to) {
                endings.push(to);
            }
        }
        let ending = if let [one] = endings.as_slice() {
            (*one).to_owned()
        } else {
            format!("{{{}}}", endings.join(","))
        };
        changed.then(|| format!("{before}.{ending}"))
    }
}

/// Returns `value`, which leads to `path`, with the ending of `published`.
pub(crate) fn ended(value: &str, path: &str, published: &str) -> Option<String> {
    let old = path.rsplit_once('.')?.1;
    let new = published.rsplit_once('.')?.1;
    value.strip_suffix(old).map(|before| format!("{before}{new}"))
}

/// Returns the path in the package that `value` leads to from `folder`.
pub(crate) fn resolve(folder: &str, value: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in value.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed() -> BTreeMap<String, String> {
        [
            ("src/index.ts", "src/index.js"),
            ("src/view.tsx", "src/view.js"),
            ("src/node.mts", "src/node.mjs"),
            ("src/old.cts", "src/old.cjs"),
        ]
        .map(|(from, to)| (from.to_owned(), to.to_owned()))
        .into()
    }

    #[test]
    fn every_entry_point_follows() {
        let text = r##"{
  "name": "a", "description": "src/index.ts",
  "main": "src/index.ts", "module": "./src/node.mts", "types": "./src/index.ts",
  "bin": {"a": "src/index.ts", "b": "./bin.js"},
  "exports": {
    "./types": {"types": "./src/index.ts", "types@<5": "./src/index.ts"},
    ".": {"node": {"import": "./src/node.mts", "require": ["./src/old.cts", null]}, "default": "./src/index.ts"},
    "./src/*.ts": "./src/*.ts", "./*": "./src/*"
  },
  "imports": {"#view": "./src/view.tsx"},
  "browser": {"./src/index.ts": "./src/view.tsx", "fs": false},
  "files": ["src/index.ts", "!src/**/*.test.ts", "dist"], "sideEffects": ["./src/view.tsx", "**/*.{ts,tsx,css}", "*.css"]
}"##;
        let expected = r##"{
  "name": "a", "description": "src/index.ts",
  "main": "src/index.js", "module": "./src/node.mjs", "types": "./src/index.ts",
  "bin": {"a": "src/index.js", "b": "./bin.js"},
  "exports": {
    "./types": {"types": "./src/index.ts", "types@<5": "./src/index.ts"},
    ".": {"node": {"import": "./src/node.mjs", "require": ["./src/old.cjs", null]}, "default": "./src/index.js"},
    "./src/*.ts": "./src/*.js", "./*": "./src/*"
  },
  "imports": {"#view": "./src/view.js"},
  "browser": {"./src/index.js": "./src/view.js", "fs": false},
  "files": ["src/index.js", "!src/**/*.test.js", "dist"], "sideEffects": ["./src/view.js", "**/*.{js,css}", "*.css"]
}"##;
        assert_eq!(update("", text, &renamed()).as_deref(), Some(expected));
    }

    #[test]
    fn what_did_not_change_stays() {
        for text in [
            "{}",
            r#"{"main":"./lib/index.ts"}"#,
            r#"{"main":"../src/index.ts"}"#,
            r#"{"main":5}"#,
            "nothing",
        ] {
            assert_eq!(update("", text, &renamed()), None, "{text}");
        }
    }

    #[test]
    fn a_nested_package_json_speaks_of_its_folder() {
        assert_eq!(
            update("src", r#"{"main":"./index.ts"}"#, &renamed()).as_deref(),
            Some(r#"{"main":"./index.js"}"#)
        );
        assert_eq!(
            update("sub", r#"{"main":"../src/index.ts"}"#, &renamed()).as_deref(),
            Some(r#"{"main":"../src/index.js"}"#)
        );
    }
}
