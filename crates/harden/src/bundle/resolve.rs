//! Where a specifier leads, by Node's rules over the files of the package.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{entry_points::resolve, json::Node};

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
    /// The folders that have a `package.json`.
    scopes: BTreeSet<String>,
    name: String,
    /// `exports` and `imports` of the package.
    exports: Option<Node>,
    imports: Option<Node>,
}

/// What one name of `exports` or `imports` can lead to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    /// A path in the package.
    Path(String),
    /// Another package, or none.
    Other,
}

impl Files {
    /// `manifests`: each `package.json` by its folder. `own`: the package's own, in which the order of conditions counts.
    pub(crate) fn new(paths: BTreeSet<String>, manifests: &BTreeMap<String, Value>, own: &str) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mains = manifests
            .iter()
            .filter_map(|(folder, json)| Some((folder.clone(), text(json.get("main")?)?)))
            .collect();
        let mut files = Self {
            paths,
            mains,
            scopes: manifests.keys().cloned().collect(),
            name: String::new(),
            exports: None,
            imports: None,
        };
        if let Some(Node::Object(members)) = Node::read(own) {
            for (key, value) in members {
                match (key.value.as_str(), value) {
                    ("name", Node::Text(name)) => files.name = name.value,
                    ("exports", value @ (Node::Text(_) | Node::Array(_) | Node::Object(_))) => {
                        files.exports = Some(value);
                    }
                    ("imports", value) => files.imports = Some(value),
                    _ => {}
                }
            }
        }
        files
    }

    /// Whether the package's own `package.json` is the one that counts for the file at `path`.
    pub(crate) fn is_own(&self, path: &str) -> bool {
        let mut at = folder(path);
        while !at.is_empty() {
            if self.scopes.contains(at) {
                return false;
            }
            at = folder(at);
        }
        true
    }

    /// Where a name of the package's `imports` or `exports` leads, if that is one file under all conditions; those
    /// that the kind of load decides are known.
    fn mapped(&self, map: Option<&Node>, name: &str, required: bool) -> Target {
        let Some(map) = map else { return Target::Outside };
        let members = map.members();
        let is_map = members.first().is_some_and(|(key, _)| key.value.starts_with(['.', '#']));
        let exact = members.iter().rfind(|(key, _)| key.value == name && !name.contains('*'));
        let (target, star) = if !is_map {
            (Some(map).filter(|_| name == "."), "")
        } else if let Some((_, target)) = exact {
            (Some(target), "")
        } else {
            let fits = |key: &str| {
                let (before, after) = key.split_once('*')?;
                let star = name.strip_prefix(before)?.strip_suffix(after)?;
                (!star.is_empty()).then_some((before.len(), star))
            };
            // The longest beginning counts, and of equal ones the longest name.
            let found = members.iter().filter_map(|(key, target)| {
                fits(&key.value).map(|(before, star)| (before, key.value.len(), star, target))
            });
            match found.max_by_key(|(before, length, ..)| (*before, *length)) {
                Some((_, _, star, target)) => (Some(target), star),
                None => (None, ""),
            }
        };
        let mut answers = BTreeSet::new();
        if target.is_none_or(|target| !answer(target, required, star, &mut answers)) {
            answers.insert(Answer::Other);
        }
        match answers.pop_first() {
            Some(Answer::Path(path)) if answers.is_empty() => {
                if self.contains(&path) {
                    Target::File(path)
                } else {
                    Target::Nothing
                }
            }
            _ => Target::Outside,
        }
    }

    /// Whether a name of `imports` leads to one file, however it is loaded.
    pub(crate) fn is_one(&self, folder: &str, name: &str) -> bool {
        let lead = |required| self.mapped(self.imports.as_ref(), name, required);
        folder.is_empty()
            && !name.contains('*')
            && matches!(lead(true), Target::File(_))
            && lead(true) == lead(false)
    }

    /// Names that lead into the package without a path: `#name`, and the package's own.
    fn named(&self, from: &str, specifier: &str, required: bool) -> Target {
        if !self.is_own(from) {
            return Target::Outside;
        }
        if specifier.starts_with('#') {
            return self.mapped(self.imports.as_ref(), specifier, required);
        }
        match specifier.strip_prefix(self.name.as_str()) {
            Some(rest)
                if self.exports.is_some()
                    && !self.name.is_empty()
                    && (rest.is_empty() || rest.starts_with('/')) =>
            {
                self.mapped(self.exports.as_ref(), &format!(".{rest}"), required)
            }
            _ => Target::Outside,
        }
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
        if !is_relative(specifier) {
            return self.named(from, specifier, false);
        }
        if specifier.contains(['?', '#', '%']) {
            return Target::Outside;
        }
        self.relative(from, specifier)
    }

    /// `require`: the file, with an ending that is left out, or a folder's main file.
    pub(crate) fn require(&self, from: &str, specifier: &str) -> Target {
        if !is_relative(specifier) {
            return self.named(from, specifier, true);
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

/// Collects what `target` can lead to; returns whether it leads anywhere under every condition.
fn answer(target: &Node, required: bool, star: &str, answers: &mut BTreeSet<Answer>) -> bool {
    match target {
        Node::Text(text) => {
            let text = &text.value;
            let path = text.starts_with("./").then(|| resolve("", &text.replace('*', star))).flatten();
            answers.insert(path.map_or(Answer::Other, Answer::Path));
            true
        }
        Node::Object(conditions) => {
            for (condition, target) in conditions {
                let is_known = match condition.value.as_str() {
                    "default" => true,
                    "import" if !required => true,
                    "require" if required => true,
                    "import" | "require" | "types" => continue,
                    other if other.starts_with("types@") => continue,
                    _ => false,
                };
                if answer(target, required, star, answers) && is_known {
                    return true;
                }
            }
            false
        }
        // A list is for loaders that do not know all of it; nothing is refused.
        _ => {
            answers.insert(Answer::Other);
            true
        }
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
            ("".to_owned(), serde_json::json!({})),
            ("lib/c".to_owned(), serde_json::json!({"main": "./main"})),
        ];
        let own = r##"{
                    "name": "sample",
                    "exports": {".": {"types": "./no.d.ts", "import": "./x.mjs", "require": "./index.js"},
                        "./lib/*": "./lib/*.js", "./lib/b": null, "./lib/*.json": "./lib/*.json"},
                    "imports": {
                        "#a": "./lib/a.js", "#b": {"node": "./x.mjs"}, "#c": "./no.js",
                        "#d": {"node": {"import": "./x.mjs", "default": "./lib/a.js"}, "default": "./lib/a.js"},
                        "#e": {"browser": {"other": "./x.mjs"}, "default": "./x.mjs"},
                        "#f": {"browser": "./x.mjs", "default": "./lib/a.js"},
                        "#g": "chalk", "#h/*.js": "./lib/*/index.js"
                    }
                }"##;
        Files::new(paths.map(str::to_owned).into(), &manifests.into(), own)
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
            ("index.js", "#d", file("lib/a.js")),
            ("index.js", "#e", file("x.mjs")),
            ("index.js", "#f", Target::Outside),
            ("index.js", "#g", Target::Outside),
            ("index.js", "#h/b.js", file("lib/b/index.js")),
            ("index.js", "#h/x.js", Target::Nothing),
            ("index.js", "#none", Target::Outside),
            ("lib/c/main.js", "#a", Target::Outside),
            ("lib/a.js", "sample", file("index.js")),
            ("lib/a.js", "sample/lib/a", file("lib/a.js")),
            ("lib/a.js", "sample/lib/b", Target::Outside),
            ("lib/a.js", "sample/lib/data.json", file("lib/data.json")),
            ("lib/a.js", "sample2", Target::Outside),
            ("lib/c/main.js", "sample", Target::Outside),
        ] {
            assert_eq!(files.require(from, specifier), expected, "{from} {specifier}");
        }
        assert_eq!(files.import("index.js", "./x.mjs?again"), Target::Outside);
        assert_eq!(files.import("index.js", "sample"), file("x.mjs"));
        assert_eq!(files.import("index.js", "#d"), Target::Outside);
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
