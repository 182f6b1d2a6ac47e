//! The SBOM of a build: found from a workspace, the same again, and loud about what it does not know.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use crate::harness::{CLI, World};

const LOCK: &str = r#"{"lockfileVersion": 3, "packages": {
  "": {"name": "all", "workspaces": ["packages/*"]},
  "packages/core": {"name": "@acme/core", "version": "1.0.0", "dependencies": {"left": "^1"}},
  "node_modules/@acme/core": {"resolved": "packages/core", "link": true},
  "node_modules/left": {"version": "1.0.0", "license": "MIT", "integrity": "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==",
    "resolved": "https://registry.example/left/-/left-1.0.0.tgz"}}}"#;

fn workspace(world: &World) -> std::path::PathBuf {
    fs::create_dir_all(world.path("work/all/.git")).expect("folder");
    world.write("all/package.json", r#"{"private": true, "workspaces": ["packages/*"]}"#);
    world.write("all/package-lock.json", LOCK);
    world.write(
        "all/packages/core/package.json",
        r#"{"name": "@acme/core", "version": "1.0.0", "type": "module", "exports": "./src/index.ts", "license": "MIT", "files": ["src"],
          "author": "Acme <security@acme.example>", "dependencies": {"left": "^1"}}"#,
    );
    world.write("all/packages/core/protected-registry.toml", "[harden]\nbundle = true\n");
    world.write(
        "all/packages/core/src/index.ts",
        "import { part } from './part.js';\nexport const whole: number = part() + 1;\n",
    );
    world.write("all/packages/core/src/part.ts", "export function part(): number { return Date.now(); }\n");
    world.write("all/packages/core/src/unused.ts", "export const unused = 1;\n");
    world.path("work/all/packages/core")
}

fn build(world: &World, folder: &Path, out: &str) -> crate::harness::Screen {
    let mut command = world.github("release", CLI, &["protect-build", "--no-record", "--out", out]);
    command.current_dir(folder).env("SOURCE_DATE_EPOCH", "1700000000");
    world.run(command)
}

#[test]
fn a_build_lists_what_is_shipped_and_what_it_needs_and_again_the_same() {
    let world = World::new();
    let folder = workspace(&world);
    let screen = build(&world, &folder, "../../one");
    assert!(screen.succeeded().stderr.contains("1 components, 1 dependencies"), "{screen}");
    assert!(!screen.stderr.contains("not complete"), "{screen}");
    build(&world, &folder, "../../two").succeeded();
    for name in ["sbom.cdx.json", "sbom.spdx.json"] {
        let read =
            |build: &str| fs::read(world.path(&format!("work/all/{build}/evidence/{name}"))).expect(name);
        assert!(read("one") == read("two"), "{name} differs between two builds");
    }
    let text = fs::read(world.path("work/all/one/evidence/sbom.cdx.json")).expect("SBOM");
    let bom: Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(bom["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
    assert_eq!(bom["components"][0]["purl"], "pkg:npm/left@1.0.0");
    let tarball = fs::read(world.path("work/all/one/acme-core-1.0.0.tgz")).expect("tarball");
    let own = &bom["metadata"]["component"];
    assert_eq!(own["hashes"][0]["content"], protected_model::digest::Sha256::of(&tarball).to_string());
    let files: BTreeSet<&str> = own["components"]
        .as_array()
        .expect("files")
        .iter()
        .filter_map(|file| file["name"].as_str())
        .collect();
    assert_eq!(files, BTreeSet::from(["integrity.json", "package.json", "src/index.js", "src/unused.js"]));
    let find =
        |name: &str| own["components"].as_array().expect("files").iter().find(|file| file["name"] == name);
    let modules: Vec<_> = find("src/index.js").expect("file")["components"]
        .as_array()
        .expect("modules")
        .iter()
        .filter_map(|module| module["name"].as_str())
        .collect();
    assert_eq!(modules, ["src/index.ts", "src/part.ts"]);
    assert_eq!(find("src/unused.js").expect("file")["scope"], "excluded");
    let steps: Vec<_> = bom["formulation"][0]["workflows"][0]["tasks"]
        .as_array()
        .expect("steps")
        .iter()
        .filter_map(|task| task["name"].as_str())
        .collect();
    assert!(steps.starts_with(&["compile", "bundle", "minify"]), "{steps:?}");
    let manifest = fs::read(world.path("work/all/one/evidence/build-manifest.json")).expect("manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    assert_eq!(
        manifest["pipeline"].as_array().expect("steps").iter().filter(|step| step["step"] == "sbom").count(),
        1
    );
}

#[test]
fn a_lock_file_that_cannot_be_read_ends_the_build_and_none_is_said() {
    let world = World::new();
    let folder = workspace(&world);
    for (text, said) in [
        ("{\n<<<<<<< HEAD\n", "package-lock.json:2` holds a conflict marker"),
        ("{\n  \"lockfileVersion\": 3,\n  \"packages\": 7\n}", "package-lock.json:3`"),
        ("{\"lockfileVersion\": 9}", "lockfileVersion 9, and 1 to 3 are known"),
    ] {
        world.write("all/package-lock.json", text);
        build(&world, &folder, "../../one").failed(7, &["making the SBOM", said]);
        assert!(!world.path("work/all/one").exists(), "nothing is left behind");
    }
    fs::remove_file(world.path("work/all/package-lock.json")).expect("remove");
    let screen = build(&world, &folder, "../../one");
    assert!(
        screen.succeeded().stderr.contains("the SBOM says that it is not complete: there is no lock file"),
        "{screen}"
    );
    let bom = fs::read_to_string(world.path("work/all/one/evidence/sbom.cdx.json")).expect("SBOM");
    assert!(bom.contains("\"aggregate\":\"incomplete\""), "{bom}");
}

#[test]
fn the_version_of_cyclonedx_and_the_time_are_settings() {
    let world = World::new();
    let folder = workspace(&world);
    world.write("all/packages/core/protected-registry.toml", "[sbom]\ncyclonedx = \"1.7\"\n");
    build(&world, &folder, "../../one").succeeded();
    let bom = fs::read_to_string(world.path("work/all/one/evidence/sbom.cdx.json")).expect("SBOM");
    assert!(bom.contains("\"specVersion\":\"1.7\""), "{bom}");
    world.write("all/packages/core/protected-registry.toml", "[sbom]\ncyclonedx = \"1.4\"\n");
    build(&world, &folder, "../../one").failed(2, &["1.4"]);
    let mut command = world.github("release", CLI, &["protect-build", "--no-record"]);
    command.current_dir(world.package("@acme/time", "1.0.0")).env("SOURCE_DATE_EPOCH", "soon");
    world.run(command).failed(2, &["SOURCE_DATE_EPOCH is `soon`"]);
}
