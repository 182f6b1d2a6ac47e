//! Where a specifier leads, by Node's rules over the files of the package.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::entry_points::resolve;

/// Where a specifier leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To a file of the package.
    File(String),
    /// To a dependency or what else the package does not hold.
    Outside,
    /// To a place in the package where there is nothing.
    Nothing,
}

/// The files of a package, as the module loaders see them.
pub(crate) struct Files {
    paths: BTreeSet<String>,
    /// `main` of each `package.json` by its folder.
    mains: BTreeMap<String, String>,
    /// `imports` of the package.
    imports: BTreeMap<String, String>,
}

impl Files {
    /// `manifests`: each `package.json` by its folder.
    pub(crate) fn new(paths: BTreeSet<String>, manifests: &BTreeMap<String, Value>) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mains = manifests
            .iter()
            .filter_map(|(folder, json)| Some((folder.clone(), text(json.get("main")?)?)))
            .collect();
        // A name that stands for one file under all conditions is as good as that file.
        let imports = manifests.get("").and_then(|json| json.get("imports")?.as_object());
        let imports = imports
            .into_iter()
            .flatten()
            .filter_map(|(name, target)| Some((name.clone(), text(target)?)))
            .filter(|(name, target)| !name.contains('*') && target.starts_with("./"))
            .collect();
        Self { paths, mains, imports }
    }

    pub(crate) fn contains(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// Returns the files whose path starts with `prefix`.
    pub(crate) fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a String> {
        self.paths.range(prefix.to_owned()..).take_while(move |path| path.starts_with(prefix))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &String> {
        self.paths.iter()
    }

    /// `import`: the very file; what only bundlers find counts too, since they read packages as well.
    pub(crate) fn import(&self, from: &str, specifier: &str) -> Target {
        if let Some(target) = self.imports.get(specifier).filter(|_| specifier.starts_with('#')) {
            return match resolve("", target).filter(|path| self.contains(path)) {
                Some(path) => Target::File(path),
                None => Target::Nothing,
            };
        }
        if !is_relative(specifier) || specifier.contains(['?', '#', '%']) {
            return Target::Outside;
        }
        self.relative(from, specifier)
    }

    /// `require`: the file, with an ending that is left out, or a folder's main file.
    pub(crate) fn require(&self, from: &str, specifier: &str) -> Target {
        if specifier.starts_with('#') {
            return self.import(from, specifier);
        }
        if !is_relative(specifier) {
            return Target::Outside;
        }
        self.relative(from, specifier)
    }

    fn relative(&self, from: &str, specifier: &str) -> Target {
        let Some(place) = resolve(folder(from), specifier) else { return Target::Outside };
        let is_folder = specifier.ends_with('/') || specifier.ends_with("/.") || specifier.ends_with("..");
        let found = if is_folder || specifier == "." { None } else { self.file(&place) };
        match found.or_else(|| self.folder(&place)) {
            Some(path) => Target::File(path),
            None => Target::Nothing,
        }
    }

    /// The file at `place`, its ending perhaps left out.
    pub(crate) fn file(&self, place: &str) -> Option<String> {
        ["", ".js", ".json", ".node", ".mjs", ".cjs"]
            .iter()
            .map(|ending| format!("{place}{ending}"))
            .find(|path| self.contains(path))
    }

    /// The main file of the folder at `place`.
    pub(crate) fn folder(&self, place: &str) -> Option<String> {
        if let Some(main) = self.mains.get(place).and_then(|main| resolve(place, main))
            && let Some(path) = self.file(&main).or_else(|| self.file(&below(&main, "index")))
        {
            return Some(path);
        }
        self.file(&below(place, "index"))
    }
}

fn below(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Returns the folder that `path` is in.
pub(crate) fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

pub(crate) fn is_relative(specifier: &str) -> bool {
    specifier == "." || specifier == ".." || specifier.starts_with("./") || specifier.starts_with("../")
}

/// Returns the specifier that leads from the file `from` to the file `to`.
pub(crate) fn specifier(from: &str, to: &str) -> String {
    let here: Vec<&str> = folder(from).split('/').filter(|part| !part.is_empty()).collect();
    let there: Vec<&str> = to.split('/').collect();
    let shared = here.iter().zip(&there).take_while(|(a, b)| a == b).count();
    let up = "../".repeat(here.len() - shared);
    format!("{}{}", if up.is_empty() { "./" } else { &up }, there[shared..].join("/"))
}

/// Modules that Node itself has. To load one is nothing that a program could notice.
pub(crate) fn is_builtin(specifier: &str) -> bool {
    const NAMES: &[&str] = &[
        "assert",
        "assert/strict",
        "async_hooks",
        "buffer",
        "child_process",
        "cluster",
        "console",
        "constants",
        "crypto",
        "dgram",
        "diagnostics_channel",
        "dns",
        "dns/promises",
        "domain",
        "events",
        "fs",
        "fs/promises",
        "http",
        "http2",
        "https",
        "inspector",
        "inspector/promises",
        "module",
        "net",
        "os",
        "path",
        "path/posix",
        "path/win32",
        "perf_hooks",
        "process",
        "punycode",
        "querystring",
        "readline",
        "readline/promises",
        "repl",
        "stream",
        "stream/consumers",
        "stream/promises",
        "stream/web",
        "string_decoder",
        "sys",
        "timers",
        "timers/promises",
        "tls",
        "trace_events",
        "tty",
        "url",
        "util",
        "util/types",
        "v8",
        "vm",
        "wasi",
        "worker_threads",
        "zlib",
    ];
    specifier.starts_with("node:") || NAMES.contains(&specifier)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        let paths = [
            "index.js",
            "lib/a.js",
            "lib/b/index.js",
            "lib/c/package.json",
            "lib/c/main.js",
            "lib/data.json",
            "x.mjs",
            "lib/a",
        ];
        let manifests = [
            (
                "".to_owned(),
                serde_json::json!({"imports": {"#a": "./lib/a.js", "#b": {"node": "./x.mjs"}, "#c": "./no.js"}}),
            ),
            ("lib/c".to_owned(), serde_json::json!({"main": "./main"})),
        ];
        Files::new(paths.map(str::to_owned).into(), &manifests.into())
    }

    #[test]
    fn finds_what_node_finds() {
        let files = files();
        let file = |path: &str| Target::File(path.to_owned());
        for (from, specifier, expected) in [
            ("index.js", "./lib/a.js", file("lib/a.js")),
            ("index.js", "./lib/b", file("lib/b/index.js")),
            ("index.js", "./lib/c/", file("lib/c/main.js")),
            ("lib/a.js", "..", file("index.js")),
            ("lib/a.js", "../", file("index.js")),
            ("lib/a.js", "./data", file("lib/data.json")),
            ("lib/b/index.js", "../a.js", file("lib/a.js")),
            ("index.js", "./lib/a", file("lib/a")),
            ("index.js", "./missing", Target::Nothing),
            ("index.js", "../outside", Target::Outside),
            ("index.js", "lib/a.js", Target::Outside),
            ("index.js", "#a", file("lib/a.js")),
            ("index.js", "#b", Target::Outside),
            ("index.js", "#c", Target::Nothing),
        ] {
            assert_eq!(files.require(from, specifier), expected, "{from} {specifier}");
        }
        assert_eq!(files.import("index.js", "./x.mjs?again"), Target::Outside);
    }

    #[test]
    fn leads_from_file_to_file() {
        for (from, to, expected) in [
            ("index.js", "lib/a.js", "./lib/a.js"),
            ("lib/a.js", "index.js", "../index.js"),
            ("lib/x/a.js", "lib/y/b.js", "../y/b.js"),
            ("lib/a.js", "lib/b.js", "./b.js"),
        ] {
            assert_eq!(specifier(from, to), expected);
        }
    }
}
