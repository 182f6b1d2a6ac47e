//! The floors drawn in crates/README.md, checked against Cargo's own view, and what the files of a crate import of each
//! other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const FLOORS: &[&[&str]] = &[
    &["model"],
    &["http", "bundle"],
    &["ci", "fractalops", "trust", "keys", "npm", "harden", "evidence", "storage"],
    &["embedded"],
    &["cli", "xtask"],
];

/// Each heavy dependency and the one crate it may be declared in.
const HOMES: &[(&str, &str)] = &[
    ("aes-gcm", "bundle"),
    ("aws-sigv4", "keys"),
    ("axum", "embedded"),
    ("clap", "cli"),
    ("jsonwebtoken", "trust"),
    ("object_store", "storage"),
    ("redb", "embedded"),
    ("reqwest", "http"),
    ("sigstore-sign", "evidence"),
    ("sigstore-verify", "evidence"),
    ("swc_core", "harden"),
    ("tracing-subscriber", "cli"),
];

/// Folders where one file is one provider, and the file that lists them.
const PROVIDERS: &[(&str, &str)] = &[
    ("ci/src", "ci/src/lib.rs"),
    ("keys/src", "keys/src/lib.rs"),
    ("npm/src/manager", "npm/src/manager/mod.rs"),
    ("harden/src/step", "harden/src/step/mod.rs"),
    ("cli/src/command", "cli/src/command/mod.rs"),
];

/// What stands at the top, and nothing else: a new entry is a decision.
const TOP: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "action.yml",
    "actions",
    "ci-templates",
    "crates",
    "docs",
    "rust-toolchain.toml",
    "tests",
];

fn crates() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn metadata() -> serde_json::Value {
    metadata_in(&crates())
}

fn metadata_in(folder: &Path) -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(folder)
        .output()
        .expect("cargo metadata");
    serde_json::from_slice(&output.stdout).expect("json")
}

fn packages(metadata: &serde_json::Value) -> &[serde_json::Value] {
    metadata["packages"].as_array().expect("packages")
}

#[test]
fn each_crate_imports_only_from_the_floors_below() {
    let floor: BTreeMap<String, usize> = FLOORS
        .iter()
        .enumerate()
        .flat_map(|(floor, names)| names.iter().map(move |name| (package(name), floor)))
        .collect();
    let mut broken = Vec::new();
    for package in packages(&metadata()) {
        let name = package["name"].as_str().expect("name");
        let own = *floor.get(name).unwrap_or_else(|| panic!("{name} is on no floor"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let dependency = dependency["name"].as_str().expect("name");
            if let Some(&below) = floor.get(dependency)
                && below >= own
            {
                broken.push(format!("{name} (floor {own}) imports {dependency} (floor {below})"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn embedded_stands_alone() {
    for package in packages(&metadata()) {
        if package["name"] == "protected-embedded" {
            for dependency in package["dependencies"].as_array().expect("dependencies") {
                let name = dependency["name"].as_str().expect("name");
                let apart = ["protected-fractalops", "protected-npm"].contains(&name);
                assert!(
                    !apart,
                    "embedded imports {name}: a mistake there would be on both sides of the wire"
                );
            }
        }
    }
}

#[test]
fn each_heavy_dependency_has_one_home() {
    for declaring in packages(&metadata()) {
        let name = declaring["name"].as_str().expect("name");
        for dependency in declaring["dependencies"].as_array().expect("dependencies") {
            for (heavy, home) in HOMES {
                // In a test it is a peer: another program's view of what was made here.
                let peer = dependency["kind"] == "dev";
                let elsewhere = dependency["name"] == *heavy && name != package(home) && !peer;
                assert!(!elsewhere, "{heavy} belongs in {home}, not in {name}");
            }
        }
    }
}

#[test]
fn each_provider_file_is_listed() {
    for (folder, list) in PROVIDERS {
        let listed = fs::read_to_string(crates().join(list)).expect("list");
        for entry in fs::read_dir(crates().join(folder)).expect("folder") {
            let path = entry.expect("entry").path();
            let name = path.file_stem().and_then(|stem| stem.to_str()).expect("name");
            if ["lib", "mod"].contains(&name) {
                continue;
            }
            assert!(listed.contains(&format!("mod {name};")), "{} is not listed in {list}", path.display());
            assert!(
                listed.contains(&format!("{name}::")),
                "{name} is declared but not in the table of {list}"
            );
        }
    }
}

#[test]
fn the_map_names_each_crate() {
    let map = fs::read_to_string(crates().join("README.md")).expect("crates/README.md");
    for package in packages(&metadata()) {
        let folder = package["name"].as_str().expect("name").trim_start_matches("protected-");
        assert!(map.contains(&format!("| `{folder}` |")), "crates/README.md has no row for {folder}");
    }
}

#[test]
fn the_top_level_is_fixed() {
    let output =
        Command::new("git").args(["ls-files"]).current_dir(crates().join("..")).output().expect("git");
    let files = String::from_utf8(output.stdout).expect("utf-8");
    for file in files.lines() {
        let top = file.split('/').next().unwrap_or_default();
        assert!(top.starts_with('.') || TOP.contains(&top), "{file} does not belong at the top level");
    }
}

fn package(folder: &str) -> String {
    if folder == "xtask" { folder.to_owned() } else { format!("protected-{folder}") }
}

/// The fuzzer's crates are not built by the tests, which compile their checks: what is beside them has to fit.
#[test]
fn the_fuzzer_can_build_what_the_tests_build() {
    for name in ["bundle", "evidence"] {
        let fuzz = crates().join(name).join("fuzz");
        let read =
            |file: &str| fs::read_to_string(fuzz.join(file)).unwrap_or_else(|_| panic!("{name}: {file}"));
        let library = read("lib.rs");
        let elsewhere =
            library.lines().filter_map(|line| line.strip_prefix("#[path = \"")?.strip_suffix("\"]"));
        let source: String = elsewhere.chain(["checks.rs"]).map(read).collect();
        let (all, its_own) = (metadata(), metadata_in(&fuzz));
        let [its_own] = packages(&its_own) else { panic!("{name}: one package") };
        let of = |package: &serde_json::Value| -> BTreeMap<String, String> {
            let each = package["dependencies"].as_array().expect("dependencies").iter();
            each.map(|it| (text(it, "name"), text(it, "req"))).collect()
        };
        let parent = packages(&all).iter().find(|it| it["name"] == package(name)).expect("parent");
        let (has, may_need) = (of(its_own), of(parent));
        for (dependency, version) in &may_need {
            if source.contains(&format!("{}::", dependency.replace('-', "_"))) {
                assert_eq!(has.get(dependency), Some(version), "{name}/fuzz: {dependency}");
            }
        }
        let targets = its_own["targets"].as_array().expect("targets").iter();
        let built: BTreeSet<String> =
            targets.filter(|it| it["kind"][0] == "bin").map(|it| text(it, "name")).collect();
        let files = fs::read_dir(fuzz.join("fuzz_targets")).expect("targets");
        let there: BTreeSet<String> = files
            .map(|it| it.expect("file").path().file_stem().expect("name").to_string_lossy().into())
            .collect();
        assert_eq!(built, there, "{name}/fuzz");
        for target in &there {
            assert!(
                source.contains(&format!("pub fn {target}(bytes: &[u8])")),
                "{name}/fuzz: no check {target}"
            );
            let calls = format!("protected_{name}_fuzz::checks::{target}(bytes)");
            assert!(read(&format!("fuzz_targets/{target}.rs")).contains(&calls), "{name}/fuzz: {target}");
        }
    }
}

fn text(value: &serde_json::Value, member: &str) -> String {
    value[member].as_str().expect(member).to_owned()
}

/// A file of a crate, as the module that it is.
type Module = Vec<String>;

/// Files that import each other in a circle can be read, tested and moved only all together.
///
/// What a folder's own file and those below it import of each other is taken one way at a time: it lists them, and they
/// use the words that it holds for them.
#[test]
fn no_files_of_a_crate_import_each_other_in_a_circle() {
    let mut circles = Vec::new();
    for folder in FLOORS.iter().copied().flatten() {
        let mut files = BTreeMap::new();
        find_modules(&crates().join(folder).join("src"), &Module::new(), &mut files);
        let arrows = imports(&files);
        assert!(arrows.values().any(|to| !to.is_empty()), "{folder}: no import was read");
        let upwards = |from: &Module, to: &Module| !to.starts_with(from);
        let downwards = |from: &Module, to: &Module| !from.starts_with(to);
        let tied: BTreeSet<String> =
            tied(&arrows, upwards).into_iter().chain(tied(&arrows, downwards)).collect();
        circles.extend(tied.into_iter().map(|arrow| format!("{folder}: {arrow}")));
    }
    assert!(circles.is_empty(), "files that import each other in a circle:\n{}", circles.join("\n"));
}

fn find_modules(folder: &Path, module: &Module, found: &mut BTreeMap<Module, PathBuf>) {
    for entry in fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("name").to_owned();
        let below: Module = module.iter().cloned().chain([name.clone()]).collect();
        if path.is_dir() {
            // Each file there is a program of its own.
            if name != "bin" {
                find_modules(&path, &below, found);
            }
        } else if path.extension().is_some_and(|it| it == "rs") {
            let its_own = ["lib", "main", "mod"].contains(&name.as_str());
            found.insert(if its_own { module.clone() } else { below }, path);
        }
    }
}

/// Returns which files each file imports from, tests left out.
fn imports(files: &BTreeMap<Module, PathBuf>) -> BTreeMap<&Module, BTreeSet<&Module>> {
    let file_of = |mut path: &[String]| loop {
        match files.get_key_value(path) {
            Some((module, _)) => return module,
            None => path = &path[..path.len() - 1],
        }
    };
    let read = |(module, path): (&Module, &PathBuf)| {
        named(&words(&fs::read_to_string(path).expect("source")), module, files)
    };
    let others = |from: &Module, paths: BTreeSet<Module>| {
        paths.iter().map(|path| file_of(path)).filter(|to| *to != from).collect()
    };
    files.iter().map(|(module, path)| (module, others(module, read((module, path))))).collect()
}

/// Returns the names and signs of a source, `::` as one, without comments, texts and characters.
///
/// By hand: a crate that reads Rust is one that every macro is built with, and naming it here has all of them built anew.
fn words(mut rest: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let after =
        |text: &'static str| move |rest: &str| rest.find(text).map_or(rest.len(), |at| at + text.len());
    while let Some(first) = rest.chars().next() {
        let in_name = |it: char| it.is_alphanumeric() || it == '_';
        let length = match first {
            '/' if rest.starts_with("//") => after("\n")(rest),
            '/' if rest.starts_with("/*") => after("*/")(rest),
            '"' => end_of_text(rest),
            '\'' if rest[1..].starts_with('\\') => 3 + after("'")(&rest[3..]),
            '\'' if rest.chars().nth(2) == Some('\'') => rest.chars().take(3).map(char::len_utf8).sum(),
            it if in_name(it) => {
                let (name, next) = rest.split_at(rest.find(|it| !in_name(it)).unwrap_or(rest.len()));
                let marks = next.len() - next.trim_start_matches('#').len();
                if ["r", "br"].contains(&name) && next[marks..].starts_with('"') {
                    let end = format!("\"{}", &next[..marks]);
                    let text = &next[marks + 1..];
                    name.len() + marks + 1 + text.find(&end).map_or(text.len(), |at| at + end.len())
                } else {
                    found.push(name);
                    name.len()
                }
            }
            it if it.is_whitespace() => it.len_utf8(),
            ':' if rest.starts_with("::") => {
                found.push("::");
                2
            }
            it => {
                found.push(&rest[..it.len_utf8()]);
                it.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    found
}

fn end_of_text(text: &str) -> usize {
    let mut escaped = false;
    let inside = text[1..].find(|it| {
        let ends = it == '"' && !escaped;
        escaped = it == '\\' && !escaped;
        ends
    });
    inside.map_or(text.len(), |at| at + 2)
}

/// Returns the paths below the crate's root that a file names.
fn named<'a>(
    mut words: &'a [&'a str],
    module: &Module,
    files: &BTreeMap<Module, PathBuf>,
) -> BTreeSet<Module> {
    let (mut found, mut at) = (BTreeSet::new(), module.clone());
    let (mut depth, mut ends) = (0, Vec::new());
    loop {
        words = match words {
            [] => return found,
            ["#", "[", "cfg", "(", "test", ")", "]", rest @ ..] => after_item(rest),
            ["mod", name, "{", rest @ ..] => {
                at.push((*name).to_owned());
                ends.push(depth);
                depth += 1;
                rest
            }
            ["{", rest @ ..] => {
                depth += 1;
                rest
            }
            ["}", rest @ ..] => {
                depth -= 1;
                if ends.pop_if(|end| *end == depth).is_some() {
                    at.pop();
                }
                rest
            }
            ["crate", rest @ ..] => path(rest, Module::new(), &mut found),
            ["self", "::", ..] => path(&words[1..], at.clone(), &mut found),
            ["super", "::", ..] => path(&words[1..], above(&at), &mut found),
            [name, "::", ..] if files.contains_key(&below(&at, name)) => {
                path(&words[1..], below(&at, name), &mut found)
            }
            // What follows `::` begins no path.
            ["::", _, rest @ ..] | [_, rest @ ..] => rest,
        };
    }
}

/// Follows a path, and returns what comes after it.
fn path<'a>(mut words: &'a [&'a str], mut at: Module, found: &mut BTreeSet<Module>) -> &'a [&'a str] {
    while let ["::", next, rest @ ..] = words {
        words = rest;
        match *next {
            "{" => return each_of(rest, &at, found),
            "super" => at = above(&at),
            name => at = below(&at, name),
        }
    }
    found.insert(at);
    words
}

/// Follows the paths of a `use` in braces, and returns what comes after them.
fn each_of<'a>(mut words: &'a [&'a str], at: &Module, found: &mut BTreeSet<Module>) -> &'a [&'a str] {
    loop {
        words = match words {
            [] => return words,
            ["}", rest @ ..] => return rest,
            [",", rest @ ..] | ["as", _, rest @ ..] => rest,
            ["self", rest @ ..] => path(rest, at.clone(), found),
            [name, rest @ ..] => path(rest, below(at, name), found),
        };
    }
}

fn after_item<'a>(words: &'a [&'a str]) -> &'a [&'a str] {
    let mut depth = 0;
    for (index, word) in words.iter().enumerate() {
        match *word {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 && ["}", ";"].contains(word) {
            return &words[index + 1..];
        }
    }
    &[]
}

fn below(module: &Module, name: &str) -> Module {
    module.iter().map(String::as_str).chain([name]).map(str::to_owned).collect()
}

fn above(module: &Module) -> Module {
    module[..module.len().saturating_sub(1)].to_vec()
}

/// Returns the arrows that are left when whoever imports nothing, and whoever is imported by nobody, is taken away.
fn tied(
    arrows: &BTreeMap<&Module, BTreeSet<&Module>>,
    counts: impl Fn(&Module, &Module) -> bool,
) -> Vec<String> {
    let all = arrows.iter().flat_map(|(from, to)| to.iter().map(|to| (*from, *to)));
    let mut left: Vec<_> = all.filter(|(from, to)| counts(from, to)).collect();
    loop {
        let before = left.len();
        let importing: BTreeSet<_> = left.iter().map(|(from, _)| *from).collect();
        let imported: BTreeSet<_> = left.iter().map(|(_, to)| *to).collect();
        left.retain(|(from, to)| importing.contains(to) && imported.contains(from));
        if left.len() == before {
            let name =
                |module: &Module| if module.is_empty() { "the root".to_owned() } else { module.join("::") };
            return left.iter().map(|(from, to)| format!("{} -> {}", name(from), name(to))).collect();
        }
    }
}
