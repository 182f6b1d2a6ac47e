//! What a file is by its name and place.

use std::collections::{BTreeMap, BTreeSet};

use crate::js::{Goal, Language};

/// Source code that the compiler reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code {
    pub(crate) language: Language,
    /// The ending to replace, and its replacement, where the file is published under another name.
    pub(crate) renamed: Option<(&'static str, &'static str)>,
}

const CODE: &[(&str, Language, Option<&str>)] = &[
    (".js", Language::JavaScript, None),
    (".mjs", Language::JavaScript, None),
    (".cjs", Language::JavaScript, None),
    (".jsx", Language::Jsx, Some(".js")),
    (".ts", Language::TypeScript, Some(".js")),
    (".tsx", Language::Tsx, Some(".js")),
    (".mts", Language::TypeScript, Some(".mjs")),
    (".cts", Language::TypeScript, Some(".cjs")),
];

/// Returns what `path` is if it is source code by its ending. Declarations are not: they are published as they are.
pub(crate) fn code(path: &str) -> Option<Code> {
    if is_declaration(path) {
        return None;
    }
    let &(ending, language, published) = CODE.iter().find(|(ending, ..)| path.ends_with(ending))?;
    Some(Code { language, renamed: published.map(|published| (ending, published)) })
}

/// Returns whether `path` holds types only: `.d.ts`, `.d.mts`, `.d.cts` and `.d.<ending>.ts`.
pub(crate) fn is_declaration(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    [".d.ts", ".d.mts", ".d.cts"].iter().any(|ending| name.ends_with(ending))
        || name.ends_with(".ts") && name.contains(".d.")
}

/// Returns whether a text without an ending in its name is a program for Node, by its first line.
pub(crate) fn is_node_script(path: &str, start: &[u8]) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let line = start.split(|&byte| byte == b'\n').next().unwrap_or_default();
    !name.contains('.')
        && line.starts_with(b"#!")
        && String::from_utf8_lossy(line)
            .split(['/', ' ', '\t', '\r'])
            .any(|word| word == "node" || word == "nodejs")
}

/// What each `package.json` in a tree says about how files are loaded.
#[derive(Debug, Default)]
pub(crate) struct PackageTypes {
    /// Its `type`, by its folder.
    types: BTreeMap<String, PackageType>,
    /// Files that it names for browsers, which may load them as scripts.
    for_browsers: BTreeSet<String>,
}

/// The fields of `package.json` that name a file for browsers, or for what serves files to them.
const FOR_BROWSERS: &[&str] = &["browser", "unpkg", "jsdelivr", "cdn", "web"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PackageType {
    Module,
    CommonJs,
    Unsaid,
}

impl PackageTypes {
    /// Notes the `package.json` at `path`. One that is not JSON says nothing, as for Node's bundlers.
    pub(crate) fn insert(&mut self, path: &str, json: &[u8]) {
        let folder = path.strip_suffix("package.json").unwrap_or_default().trim_end_matches('/');
        let value = serde_json::from_slice::<serde_json::Value>(json).unwrap_or_default();
        let kind = match value.get("type").and_then(serde_json::Value::as_str) {
            Some("module") => PackageType::Module,
            Some("commonjs") => PackageType::CommonJs,
            _ => PackageType::Unsaid,
        };
        self.types.insert(folder.to_owned(), kind);
        for file in FOR_BROWSERS.iter().filter_map(|field| value.get(field)?.as_str()) {
            let file = file.trim_start_matches("./");
            self.for_browsers.insert(if folder.is_empty() {
                file.to_owned()
            } else {
                format!("{folder}/{file}")
            });
        }
    }

    /// Whether the author says of `path` that it is CommonJS, and does not name it for browsers.
    pub(crate) fn says_common_js(&self, path: &str) -> bool {
        self.nearest(path) == Some(PackageType::CommonJs) && !self.for_browsers.contains(path)
    }

    fn nearest(&self, path: &str) -> Option<PackageType> {
        let mut folder = path;
        loop {
            folder = folder.rsplit_once('/').map_or("", |(parent, _)| parent);
            match self.types.get(folder) {
                None if folder.is_empty() => return None,
                None => {}
                found => return found.copied(),
            }
        }
    }

    /// Returns how Node reads `path`, which is published under that name.
    pub(crate) fn goal(&self, path: &str) -> Goal {
        if path.ends_with(".mjs") {
            return Goal::Module;
        }
        if path.ends_with(".cjs") {
            return Goal::CommonJs;
        }
        match self.nearest(path) {
            Some(PackageType::Module) => Goal::ModuleOrScript,
            Some(PackageType::CommonJs | PackageType::Unsaid) | None => Goal::CommonJsOrModule,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_package_json_decides() {
        let mut types = PackageTypes::default();
        types.insert("package.json", br#"{"type":"module"}"#);
        types.insert("dist/cjs/package.json", br#"{"type":"commonjs"}"#);
        types.insert("dist/plain/package.json", b"{}");
        for (path, goal) in [
            ("index.js", Goal::ModuleOrScript),
            ("dist/index.js", Goal::ModuleOrScript),
            ("dist/cjs/deep/index.js", Goal::CommonJsOrModule),
            ("dist/plain/index.js", Goal::CommonJsOrModule),
            ("dist/cjs/index.mjs", Goal::Module),
            ("index.cjs", Goal::CommonJs),
        ] {
            assert_eq!(types.goal(path), goal, "{path}");
        }
        assert_eq!(PackageTypes::default().goal("a/b.js"), Goal::CommonJsOrModule);
    }

    #[test]
    fn common_js_is_what_the_author_says_and_no_browser_is_given() {
        let mut types = PackageTypes::default();
        types.insert("package.json", br#"{"type":"commonjs","unpkg":"./dist/a.js","browser":{"x":"y"}}"#);
        types.insert("plain/package.json", b"{}");
        types.insert("sub/package.json", br#"{"type":"commonjs","jsdelivr":"b.js"}"#);
        for path in ["index.js", "dist/b.js", "sub/a.js"] {
            assert!(types.says_common_js(path), "{path}");
        }
        for path in ["dist/a.js", "plain/index.js", "sub/b.js"] {
            assert!(!types.says_common_js(path), "{path}");
        }
        assert!(!PackageTypes::default().says_common_js("index.js"));
    }

    #[test]
    fn declarations_are_not_code() {
        for path in ["a.d.ts", "a/b.d.mts", "c.d.cts", "style.d.css.ts"] {
            assert_eq!(code(path), None, "{path}");
        }
        for path in ["a.ts", "d.ts", "a.d/x.ts", "x.mts", "x.cts", "x.tsx", "x.jsx", "x.cjs"] {
            assert!(code(path).is_some(), "{path}");
        }
        assert_eq!(code("a.json"), None);
    }

    #[test]
    fn programs_without_an_ending() {
        assert!(is_node_script("bin/tool", b"#!/usr/bin/env node\nlet a"));
        assert!(is_node_script("bin/tool", b"#!/usr/bin/env -S node --no-warnings\n"));
        assert!(!is_node_script("bin/tool", b"#!/bin/sh\nnode x"));
        assert!(!is_node_script("bin/tool.py", b"#!/usr/bin/env node\n"));
        assert!(!is_node_script("LICENSE", b"node"));
    }
}
