//! The floors drawn in crates/README.md, checked against Cargo's own view.

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
