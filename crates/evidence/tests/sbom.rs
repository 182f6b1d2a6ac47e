//! SBOMs of packages on disk, and what the official validators say of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use protected_evidence::sbom::{About, Graph, SbomError, SpecVersion, collect};
use protected_model::{
    build::{PipelineStep, Source, StepStatus},
    digest::{Integrity, Sha256, Shasum},
    integrity::{ArtifactDigest, FileDigest},
};
use serde_json::{Value, json};

const MANIFEST: &str = r#"{
  "name": "@acme/shop", "version": "1.2.3", "license": "MIT",
  "author": "Acme Ltd <security@acme.example> (https://acme.example)", "repository": "github:acme/shop",
  "dependencies": {"left": "^1"}, "devDependencies": {"tool": "^2"}, "optionalDependencies": {"native": "^3"}
}"#;

const LOCK: &str = r#"{
  "name": "@acme/shop", "version": "1.2.3", "lockfileVersion": 3, "requires": true,
  "packages": {
    "": {"name": "@acme/shop", "version": "1.2.3", "dependencies": {"left": "^1"}, "devDependencies": {"tool": "^2"},
      "optionalDependencies": {"native": "^3"}},
    "node_modules/left": {"version": "1.0.0", "resolved": "https://registry.example/left/-/left-1.0.0.tgz",
      "integrity": "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==",
      "license": "SEE LICENSE IN EULA", "dependencies": {"@s/right": "1"}},
    "node_modules/@s/right": {"version": "1.0.0-beta.1", "license": "(MIT OR Apache-2.0)",
      "resolved": "https://registry.example/@s/right/-/right-1.0.0-beta.1.tgz", "dependencies": {"left": "1"}},
    "node_modules/tool": {"version": "2.0.0", "dev": true, "resolved": "git+ssh://git@github.com/a/tool.git#0123456789012345678901234567890123456789"},
    "node_modules/native": {"version": "3.0.0", "optional": true, "license": "GPL-2.0",
      "resolved": "https://files.example/native.tgz"}
  }
}"#;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    for (path, content) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        fs::write(path, content).expect("write");
    }
    folder
}

/// A build with every part that a document can have.
struct Build {
    source: Source,
    artifact: ArtifactDigest,
    files: Vec<FileDigest>,
    sha1: BTreeMap<String, Shasum>,
    modules: BTreeMap<String, BTreeSet<String>>,
    shaken: BTreeSet<String>,
    pipeline: Vec<PipelineStep>,
}

impl Build {
    fn new() -> Self {
        let digest = Sha256::of("tree");
        Self {
            source: Source {
                repository: Some("acme/shop".into()),
                commit: Some("0123".into()),
                ..Source::default()
            },
            artifact: ArtifactDigest {
                filename: "acme-shop-1.2.3.tgz".into(),
                size: 10,
                sha256: Sha256::of("tarball"),
                integrity: Integrity::of("tarball"),
            },
            files: ["dist/index.js", "package.json"]
                .map(|path| FileDigest {
                    path: path.into(),
                    sha256: Sha256::of(path),
                    size: 1,
                    mode: "0644".into(),
                })
                .into(),
            sha1: [("dist/index.js", 2), ("package.json", 1)]
                .map(|(path, digit)| (path.into(), Shasum::from_bytes([digit; 20])))
                .into(),
            modules: BTreeMap::from([(
                "dist/index.js".into(),
                BTreeSet::from(["src/a.ts".into(), "src/index.ts".into()]),
            )]),
            shaken: BTreeSet::from(["src/unused.js".into()]),
            pipeline: vec![PipelineStep {
                step: "minify".into(),
                tool: "swc".into(),
                tool_version: "83.0.0".into(),
                config_sha256: digest,
                parameters: Value::Null,
                status: StepStatus::Completed,
                files: 1,
                input_tree_sha256: digest,
                output_tree_sha256: digest,
                duration_ms: Some(7),
            }],
        }
    }

    fn about(&self) -> About<'_> {
        About {
            created: "2026-01-02T03:04:05Z".parse().expect("time"),
            tool_version: "0.1.0",
            source: &self.source,
            artifact: Some(&self.artifact),
            files: &self.files,
            sha1: &self.sha1,
            modules: &self.modules,
            shaken: &self.shaken,
            pipeline: &self.pipeline,
        }
    }
}

fn cyclonedx(graph: &Graph) -> Value {
    serde_json::from_slice(&graph.cyclonedx(&Build::new().about(), SpecVersion::V1_6)).expect("JSON")
}

fn graph(files: &[(&str, &str)]) -> Graph {
    let folder = folder(files);
    collect(folder.path(), folder.path()).expect("graph")
}

fn component<'a>(bom: &'a Value, reference: &str) -> &'a Value {
    let all = bom["components"].as_array().expect("components");
    all.iter()
        .find(|component| component["bom-ref"] == reference)
        .unwrap_or_else(|| panic!("no {reference} in {all:?}"))
}

#[test]
fn a_document_says_what_the_lock_file_and_the_build_say() {
    let bom = cyclonedx(&graph(&[
        ("package.json", MANIFEST),
        ("package-lock.json", LOCK),
        ("LICENSE", "MIT\nCopyright (c) 2026 Acme\n"),
    ]));
    assert_eq!(bom["metadata"]["timestamp"], "2026-01-02T03:04:05Z");
    let own = &bom["metadata"]["component"];
    assert_eq!(own["purl"], "pkg:npm/%40acme/shop@1.2.3");
    assert_eq!(own["copyright"], "Copyright (c) 2026 Acme");
    assert_eq!(own["hashes"][1]["content"], Integrity::of("tarball").hex());
    assert_eq!(own["components"][0]["name"], "dist/index.js");
    assert_eq!(own["components"][0]["components"][1]["bom-ref"], "source/src/index.ts");
    assert_eq!(
        own["components"][0]["components"][1]["evidence"]["occurrences"][0]["location"],
        "dist/index.js"
    );
    assert_eq!(own["components"][2]["name"], "src/unused.js");
    assert_eq!(own["components"][2]["scope"], "excluded");
    assert_eq!(bom["formulation"][0]["workflows"][0]["tasks"][0]["name"], "minify");

    let left = component(&bom, "pkg:npm/left@1.0.0");
    assert_eq!(left["scope"], "required");
    assert_eq!(
        left["licenses"],
        json!([{"license": {"name": "SEE LICENSE IN EULA", "acknowledgement": "declared"}}])
    );
    assert_eq!(left["hashes"][0]["content"], Integrity::of("").hex());
    assert_eq!(left["externalReferences"][0]["hashes"], left["hashes"]);
    let right = component(&bom, "pkg:npm/@s/right@1.0.0-beta.1");
    assert_eq!(right["purl"], "pkg:npm/%40s/right@1.0.0-beta.1");
    assert_eq!(right["group"], "@s");
    assert_eq!(
        right["licenses"],
        json!([{"expression": "(MIT OR Apache-2.0)", "acknowledgement": "declared"}])
    );
    let tool = "pkg:npm/tool@2.0.0?vcs_url=git%2Bssh://git%40github.com/a/tool.git%230123456789012345678901234567890123456789";
    assert_eq!(component(&bom, tool)["scope"], "excluded");
    assert_eq!(
        component(&bom, "pkg:npm/native@3.0.0?download_url=https://files.example/native.tgz")["scope"],
        "optional"
    );
    let needs = bom["dependencies"].as_array().expect("dependencies");
    let of = |reference: &str| {
        needs.iter().find(|node| node["ref"] == reference).expect("node")["dependsOn"].clone()
    };
    assert_eq!(of("pkg:npm/left@1.0.0"), json!(["pkg:npm/@s/right@1.0.0-beta.1"]));
    assert_eq!(of("pkg:npm/@s/right@1.0.0-beta.1"), json!(["pkg:npm/left@1.0.0"]), "a cycle");
    assert_eq!(of("pkg:npm/@acme/shop@1.2.3").as_array().map(Vec::len), Some(3));
    assert_eq!(bom["compositions"][0]["aggregate"], "complete");
}

/// The shipped files as CycloneDX has them, with the SHA-1 that SPDX wants of each and the one digest of them all.
#[test]
fn the_spdx_document_lists_what_is_shipped() {
    let graph = graph(&[("package.json", MANIFEST), ("package-lock.json", LOCK)]);
    let mut build = Build::new();
    let written =
        |build: &Build| -> Value { serde_json::from_slice(&graph.spdx(&build.about())).expect("JSON") };
    let document = written(&build);
    let sums = |path: &str, sha1: &str| {
        json!([{"algorithm": "SHA1", "checksumValue": sha1.repeat(20)},
            {"algorithm": "SHA256", "checksumValue": Sha256::of(path)}])
    };
    let files = document["files"].as_array().expect("files");
    let listed: Vec<_> =
        files.iter().map(|file| (file["fileName"].clone(), file["checksums"].clone())).collect();
    assert_eq!(
        listed,
        [
            (json!("./dist/index.js"), sums("dist/index.js", "02")),
            (json!("./package.json"), sums("package.json", "01")),
        ]
    );
    let root = &document["packages"][0];
    assert_eq!(root["filesAnalyzed"], true);
    // SHA-1 over both, the smaller first, as a tool of others computes it.
    assert_eq!(
        root["packageVerificationCode"],
        json!({"packageVerificationCodeValue": "b8309e51bc04b6a3c596607104a8ea40696fd768"})
    );
    let of_others = document["packages"].as_array().expect("packages")[1..].iter();
    assert!(of_others.clone().count() > 0);
    for package in of_others {
        assert_eq!(
            (&package["filesAnalyzed"], package.get("packageVerificationCode")),
            (&json!(false), None)
        );
    }
    let contained = document["relationships"].as_array().expect("relationships").iter();
    let contained: Vec<&Value> = contained
        .filter(|it| it["relationshipType"] == "CONTAINS" && it["spdxElementId"] == root["SPDXID"])
        .map(|it| &it["relatedSpdxElement"])
        .collect();
    assert_eq!(contained, files.iter().map(|file| &file["SPDXID"]).collect::<Vec<_>>());
    // Two paths that are one in SPDX's letters are two identifiers.
    for path in ["a b", "a-b"] {
        build.files.push(FileDigest { path: path.into(), ..build.files[0].clone() });
        build.sha1.insert(path.into(), Shasum::from_bytes([3; 20]));
    }
    let document = written(&build);
    let ids = document["files"].as_array().expect("files").iter().map(|file| file["SPDXID"].as_str());
    assert_eq!(ids.collect::<BTreeSet<_>>().len(), 4);
    // Where the SHA-1 of one is not known, none is listed, and nothing is claimed of them.
    build.sha1.remove("a b");
    let document = written(&build);
    assert_eq!((document.get("files"), &document["packages"][0]["filesAnalyzed"]), (None, &json!(false)));
}

#[test]
fn equal_input_gives_equal_bytes_and_other_input_another_number() {
    let files = [("package.json", MANIFEST), ("package-lock.json", LOCK)];
    let (one, two) = (graph(&files), graph(&files));
    let build = Build::new();
    for version in SpecVersion::ALL {
        assert_eq!(one.cyclonedx(&build.about(), version), two.cyclonedx(&build.about(), version));
    }
    assert_eq!(one.spdx(&build.about()), two.spdx(&build.about()));
    let mut other = Build::new();
    other.artifact.sha256 = Sha256::of("another");
    let number = |build: &Build| {
        let bom: Value =
            serde_json::from_slice(&one.cyclonedx(&build.about(), SpecVersion::V1_6)).expect("JSON");
        bom["serialNumber"].as_str().expect("number").to_owned()
    };
    assert_ne!(number(&build), number(&other));
    assert_eq!(&number(&build)[..9], "urn:uuid:");
}

#[test]
fn what_is_installed_adds_what_lock_files_leave_out() {
    let lock = "lockfileVersion: '9.0'\nimporters:\n  .:\n    dependencies:\n      left:\n        specifier: ^1\n        version: 1.0.0\npackages:\n  left@1.0.0:\n    resolution: {integrity: sha512-AA==}\n  '@left/linux@1.0.0':\n    resolution: {integrity: sha512-AA==}\n  '@left/win32@1.0.0':\n    resolution: {integrity: sha512-AA==}\n  '@left/data@2.0.0':\n    resolution: {integrity: sha512-AA==}\nsnapshots:\n  left@1.0.0:\n    optionalDependencies:\n      '@left/data': 2.0.0\n      '@left/linux': 1.0.0\n      '@left/win32': 1.0.0\n  '@left/linux@1.0.0': {}\n  '@left/win32@1.0.0': {}\n  '@left/data@2.0.0': {}\n";
    let store = "node_modules/.pnpm/left@1.0.0/node_modules";
    let found = folder(&[
        ("package.json", r#"{"name": "a", "version": "1.0.0", "dependencies": {"left": "^1"}}"#),
        ("pnpm-lock.yaml", lock),
        (
            &format!("{store}/left/package.json"),
            r#"{"name": "left", "version": "1.0.0", "license": "ISC", "author": "L <l@l.example>", "repository": "l/left"}"#,
        ),
        (&format!("{store}/left/LICENSE.md"), "# Copyright 2020 L\n"),
        (
            &format!("{store}/@left/linux/package.json"),
            r#"{"name": "@left/linux", "version": "1.0.0", "license": "BSD-3-Clause"}"#,
        ),
        (
            &format!("{store}/@left/win32/package.json"),
            r#"{"name": "@left/win32", "version": "9.9.9", "license": "GPL-3.0-only"}"#,
        ),
    ]);
    std::os::unix::fs::symlink(".pnpm/left@1.0.0/node_modules/left", found.path().join("node_modules/left"))
        .expect("link");
    let bom = cyclonedx(&collect(found.path(), found.path()).expect("graph"));
    let left = component(&bom, "pkg:npm/left@1.0.0");
    assert_eq!(left["licenses"][0]["license"]["id"], "ISC");
    assert_eq!(left["copyright"], "Copyright 2020 L");
    assert_eq!(left["supplier"]["contact"][0]["email"], "l@l.example");
    assert_eq!(left["externalReferences"][0]["url"], "https://github.com/l/left");
    // Not installed here, of the same release as one that is. The wrong version on disk does not count.
    let other = component(&bom, "pkg:npm/@left/win32@1.0.0");
    assert_eq!(
        other["licenses"],
        json!([{"license": {"id": "BSD-3-Clause", "acknowledgement": "concluded"}}])
    );
    let data = component(&bom, "pkg:npm/@left/data@2.0.0");
    assert!(data.get("licenses").is_none(), "of another version: nothing is concluded");
}

#[test]
fn without_a_lock_file_it_says_that_it_is_not_complete() {
    let graph = graph(&[("package.json", MANIFEST)]);
    assert!(graph.gaps()[0].contains("no lock file"), "{:?}", graph.gaps());
    let bom = cyclonedx(&graph);
    assert_eq!(bom["compositions"][0]["aggregate"], "incomplete");
    assert_eq!(
        component(&bom, "pkg:npm/left")["properties"],
        json!([{"name": "protected-registry:range", "value": "^1"}])
    );
    assert_eq!(graph.counts().components, 3);
    let needs_nothing = self::graph(&[("package.json", r#"{"name": "a", "version": "1.0.0"}"#)]);
    assert!(needs_nothing.gaps().is_empty());
}

#[test]
fn a_lock_file_above_counts_when_it_covers_the_package() {
    let root = r#"{"lockfileVersion": 3, "packages": {"": {"workspaces": ["packages/*"]},
      "packages/a": {"name": "a", "version": "1.0.0", "dependencies": {"left": "^1"}},
      "node_modules/a": {"resolved": "packages/a", "link": true}, "node_modules/left": {"version": "1.0.0"}}}"#;
    let manifest = r#"{"name": "a", "version": "1.0.0", "dependencies": {"left": "^1"}}"#;
    let repository = folder(&[
        ("package.json", r#"{"workspaces": ["packages/*"]}"#),
        ("package-lock.json", root),
        ("packages/a/package.json", manifest),
        ("tools/b/package.json", manifest),
    ]);
    let at = |path: &str| collect(&repository.path().join(path), repository.path()).expect("graph");
    assert_eq!(at("packages/a").counts().components, 1);
    assert!(at("packages/a").gaps().is_empty());
    let stray = at("tools/b");
    assert!(stray.gaps().iter().any(|gap| gap.contains("does not cover")), "{:?}", stray.gaps());
    // Not beyond the repository.
    let alone =
        collect(&repository.path().join("packages/a"), &repository.path().join("packages/a")).expect("graph");
    assert!(alone.gaps()[0].contains("no lock file"));
}

#[test]
fn what_the_lock_file_lacks_is_said() {
    let manifest = MANIFEST.replace("\"left\": \"^1\"", "\"left\": \"^1\", \"new\": \"^9\"");
    let graph = graph(&[("package.json", &manifest), ("package-lock.json", LOCK)]);
    assert_eq!(
        graph.gaps(),
        ["`new@^9`, which pkg:npm/@acme/shop@1.2.3 needs, stands nowhere in the lock file"]
    );
    assert_eq!(cyclonedx(&graph)["compositions"][0]["aggregate"], "incomplete");
}

#[test]
fn a_lock_file_that_cannot_be_read_is_an_error_with_its_line() {
    let refused = |name: &str, text: &str| {
        let folder = folder(&[("package.json", MANIFEST), (name, text)]);
        collect(folder.path(), folder.path()).expect_err(name)
    };
    for (name, text, line) in [
        ("package-lock.json", "{\n<<<<<<< HEAD\n", Some(2)),
        ("yarn.lock", "# yarn lockfile v1\n\na@1:\n  version \"1\"\n=======\n", Some(5)),
        ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n>>>>>>> other\n", Some(2)),
    ] {
        match refused(name, text) {
            SbomError::Conflict { line: found, .. } => assert_eq!(Some(found), line, "{name}"),
            other => panic!("{name}: {other}"),
        }
    }
    for (name, text, line) in [
        ("npm-shrinkwrap.json", "{\n  \"packages\": 1\n}", Some(2)),
        ("pnpm-lock.yaml", "lockfileVersion: '9.0'\nimporters:\n  .: [\n", None),
        ("yarn.lock", "a@1:\n  version \"1\n", Some(2)),
        ("yarn.lock", "__metadata:\n  version: 8\na: b: c\n", Some(3)),
    ] {
        match refused(name, text) {
            SbomError::Invalid { line: found, .. } => {
                assert!(found == line || line.is_none(), "{name}: {found:?}")
            }
            other => panic!("{name}: {other}"),
        }
    }
    let folder = folder(&[("package.json", MANIFEST)]);
    fs::write(folder.path().join("yarn.lock"), [0xff, 0xfe]).expect("write");
    assert!(matches!(collect(folder.path(), folder.path()), Err(SbomError::Read { .. })));
}

#[test]
fn the_lock_file_of_the_named_package_manager_is_read() {
    let manifest = MANIFEST.replace("\"version\"", "\"packageManager\": \"yarn@1.22.22\", \"version\"");
    let yarn = "# yarn lockfile v1\n\nleft@^1:\n  version \"1.5.0\"\n\ntool@^2:\n  version \"2.0.0\"\n";
    let graph = graph(&[("package.json", &manifest), ("package-lock.json", LOCK), ("yarn.lock", yarn)]);
    assert_eq!(graph.lock_format(), Some("yarn.lock, version 1"));
    assert_eq!(graph.ignored_locks(), ["package-lock.json"]);
    component(&cyclonedx(&graph), "pkg:npm/left@1.5.0");
}

/// Runs a program of the pinned Python environment.
fn python(program: &str, arguments: &[&str]) -> (bool, String) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/sbom/bin").join(program);
    let output = Command::new(&program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask tools`", program.display()));
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

const VALIDATE: &str = "
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(getattr(SchemaVersion, sys.argv[1])).validate_str(open(sys.argv[2]).read())
sys.exit(str(error)[:2000] if error else 0)
";

/// A package whose licences are all those that SPDX has, and all that people write beside them.
fn every_licence() -> Vec<(String, String)> {
    let others = [
        "SEE LICENSE IN a (b)",
        "UNLICENSED",
        "MIT OR (Apache-2.0 WITH LLVM-exception)",
        "LicenseRef-own",
        "Ünïcode \u{7f}",
        "GPL-2.0+",
    ];
    let ids = spdx::identifiers::LICENSES.iter().map(|licence| licence.name).chain(others);
    let entries: serde_json::Map<String, Value> = ids
        .enumerate()
        .map(|(index, licence)| {
            (format!("node_modules/p{index}"), json!({"version": "1.0.0", "license": licence}))
        })
        .chain([(String::new(), json!({}))])
        .collect();
    let needs: BTreeMap<String, &str> =
        (0..entries.len() - 1).map(|index| (format!("p{index}"), "1")).collect();
    let manifest = json!({"name": "@acme/all", "version": "1.0.0", "author": "A (b) <a@b.example>", "dependencies": needs});
    let lock = json!({"lockfileVersion": 3, "packages": entries});
    vec![("package.json".into(), manifest.to_string()), ("package-lock.json".into(), lock.to_string())]
}

fn written(graph: &Graph, folder: &Path) -> [(PathBuf, &'static str); 3] {
    let build = Build::new();
    let place = |name: &str, bytes: Vec<u8>| {
        let path = folder.join(name);
        fs::write(&path, bytes).expect("write");
        path
    };
    [
        (place("1.6.json", graph.cyclonedx(&build.about(), SpecVersion::V1_6)), "V1_6"),
        (place("1.7.json", graph.cyclonedx(&build.about(), SpecVersion::V1_7)), "V1_7"),
        (place("spdx.json", graph.spdx(&build.about())), ""),
    ]
}

#[test]
fn the_official_validators_accept_the_documents_and_refuse_a_broken_one() {
    let licences = every_licence();
    let licences: Vec<(&str, &str)> =
        licences.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    for files in [
        vec![("package.json", MANIFEST), ("package-lock.json", LOCK)],
        licences,
        vec![("package.json", MANIFEST)],
    ] {
        let folder = folder(&files);
        let documents = written(&collect(folder.path(), folder.path()).expect("graph"), folder.path());
        for (path, version) in &documents[..2] {
            let text = path.to_string_lossy();
            let (accepted, said) = python("python", &["-c", VALIDATE, version, &text]);
            assert!(accepted, "{version}: {said}");
            let broken =
                fs::read_to_string(path).expect("document").replacen("\"library\"", "\"librarian\"", 1);
            fs::write(path, broken).expect("write");
            assert!(!python("python", &["-c", VALIDATE, version, &text]).0, "a broken document is accepted");
        }
        let spdx = documents[2].0.to_string_lossy();
        let (accepted, said) = python("pyspdxtools", &["-i", &spdx]);
        // Its list of licences is older than ours; nothing else may be wrong.
        let is_of_list = |line: &&str| {
            line.starts_with("Unrecognized license reference: ")
                || line.starts_with("A license exception symbol")
        };
        let complaints: Vec<&str> = said.lines().skip(1).filter(|line| !is_of_list(line)).collect();
        assert!(accepted || files.len() == 2 && files[0].1.contains("@acme/all"), "{said}");
        assert!(complaints.is_empty(), "{complaints:?}");
        let broken = fs::read_to_string(&documents[2].0).expect("document").replacen("05Z", "05.123Z", 1);
        fs::write(&documents[2].0, broken).expect("write");
        assert!(!python("pyspdxtools", &["-i", &spdx]).0, "a broken document is accepted");
    }
}

#[test]
fn the_spdx_document_has_the_minimum_elements_of_the_ntia() {
    let folder = folder(&[("package.json", MANIFEST), ("package-lock.json", LOCK)]);
    let documents = written(&collect(folder.path(), folder.path()).expect("graph"), folder.path());
    let (conformant, said) = python("sbomcheck", &["--comply", "ntia", &documents[2].0.to_string_lossy()]);
    assert!(conformant && said.contains("Conformant: True"), "{said}");
}
