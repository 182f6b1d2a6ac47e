//! What stands in the artifact and in the escrow, and what the build says of itself.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::support::{Built, Package, contents, list, node};
use protected_harden::{HardenError, Hardened, LegalComments, Options, Request, SourceFile, harden};
use protected_model::{build::StepStatus, digest::Sha256, integrity::IntegrityManifest};

const SOURCE: &[(&str, &str)] = &[
    ("package.json", r#"{"name":"@acme/sample","version":"2.1.0","main":"index.ts"}"#),
    (
        "index.ts",
        "/*! (c) Acme */\nimport { secretHelper } from './lib/helper';\n// a private remark\nexport function publicName(firstArgument: number): number {\n  const localName = secretHelper(firstArgument);\n  return localName;\n}\n",
    ),
    (
        "lib/helper.js",
        "/**\n * @license MIT of somebody\n */\n'use strict';\nconst multiplier = 3; // remark\nexports.secretHelper = function (inputValue) {\n  if (inputValue < 0) throw new RangeError('negative');\n  return inputValue * multiplier;\n};\n//# sourceMappingURL=helper.js.map\n",
    ),
    (
        "lib/helper.js.map",
        r#"{"version":3,"sources":["../src/helper.ts"],"sourcesContent":["secret source"],"mappings":""}"#,
    ),
    ("lib/inline.js", "exports.x = 1;\n//# sourceMappingURL=data:application/json;base64,eyJzZWNyZXQiOjF9\n"),
    (
        "style.css",
        "/*! css licence */\na { color: red } /* remark */\n/*# sourceMappingURL=style.css.map */\n",
    ),
    ("style.css.map", "{}"),
    ("world.map", "#########\n#.......#\n"),
    (
        "index.d.ts",
        "/** Documented. */\nexport declare function publicName(firstArgument: number): number;\n",
    ),
    ("data.json", "{ \"kept\":   true }"),
    ("README.md", "# sample\n"),
];

fn build(options: &Options) -> Built {
    Package::of(SOURCE).harden(options).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_artifact_holds_what_is_published_and_no_more() {
    let built = build(&Options::default());
    assert_eq!(
        built.paths(),
        [
            "LEGAL.txt",
            "README.md",
            "data.json",
            "index.d.ts",
            "index.js",
            "integrity.json",
            "lib/helper.js",
            "lib/inline.js",
            "package.json",
            "style.css",
            "world.map"
        ]
    );
    for path in ["index.js", "lib/helper.js", "lib/inline.js", "style.css"] {
        let text = built.text(path);
        for leak in [
            "remark",
            "sourceMappingURL",
            "localName",
            "multiplier",
            "inputValue",
            "(c) Acme",
            "licence",
            "base64",
        ] {
            assert!(!text.contains(leak), "{path} holds {leak}: {text}");
        }
    }
    for (path, text) in
        SOURCE.iter().filter(|(path, _)| ["index.d.ts", "data.json", "README.md", "world.map"].contains(path))
    {
        assert_eq!(built.text(path), *text);
    }
    assert_eq!(
        built.text("LEGAL.txt"),
        "index.js:\n/*! (c) Acme */\n\nlib/helper.js:\n/**\n * @license MIT of somebody\n */\n\nstyle.css:\n/*! css licence */\n"
    );
    assert_eq!(built.node("console.log(require('./').publicName(4))"), "12\n");
    assert_eq!(built.hardened.package_json, fs::read(built.artifact().join("package.json")).expect("file"));
    assert!(String::from_utf8_lossy(&built.hardened.package_json).contains(r#""main":"index.js""#));
}

#[test]
fn licence_comments_follow_the_policy() {
    let kept = build(&Options { legal_comments: LegalComments::Keep, ..Options::default() });
    assert!(
        kept.text("lib/helper.js").starts_with("/**\n * @license MIT of somebody\n */\n\"use strict\";"),
        "{}",
        kept.text("lib/helper.js")
    );
    assert!(kept.text("index.js").starts_with("/*! (c) Acme */\n"));
    assert!(kept.text("style.css").starts_with("/*! css licence */"));
    assert!(!kept.paths().contains(&"LEGAL.txt".to_owned()));
    assert_eq!(kept.node("console.log(require('./').publicName(4))"), "12\n");
    let removed = build(&Options { legal_comments: LegalComments::Remove, ..Options::default() });
    assert!(!removed.paths().contains(&"LEGAL.txt".to_owned()));
    assert!(
        contents(&removed.artifact())
            .iter()
            .all(|(path, content)| path == "index.d.ts"
                || !String::from_utf8_lossy(content).contains("Acme */"))
    );
    for policy in [LegalComments::Keep, LegalComments::File, LegalComments::Remove] {
        let plain = build(&Options { legal_comments: policy, minify: false, ..Options::default() });
        assert_eq!(plain.text("lib/helper.js").contains("@license"), policy == LegalComments::Keep);
        assert!(!plain.text("lib/helper.js").contains("remark"));
        assert!(plain.text("lib/helper.js").contains("const multiplier = 3;"));
        assert_eq!(plain.paths().contains(&"LEGAL.txt".to_owned()), policy == LegalComments::File);
    }
}

#[test]
fn the_pipeline_names_the_steps_that_ran() {
    let built = build(&Options::default());
    let Hardened { pipeline, protection, source_tree_sha256, artifact, .. } = &built.hardened;
    let names: Vec<_> =
        pipeline.iter().map(|step| (step.step.as_str(), step.tool.as_str(), step.files)).collect();
    assert_eq!(
        names,
        [
            ("compile", "swc", 2),
            ("minify", "swc", 3),
            ("strip-source-maps", "protected-registry", 4),
            ("escrow", "protected-registry", 3),
            ("integrity", "protected-registry", 1)
        ]
    );
    assert_eq!(&pipeline[0].input_tree_sha256, source_tree_sha256);
    for pair in pipeline.windows(2) {
        assert_eq!(pair[0].output_tree_sha256, pair[1].input_tree_sha256);
        assert_ne!(pair[0].config_sha256, pair[1].config_sha256);
    }
    assert_eq!(pipeline[4].output_tree_sha256, protected_model::integrity::tree_sha256(artifact));
    assert!(!protection.obfuscated && !protection.encrypted);

    let plain = build(&Options { minify: false, escrow: false, ..Options::default() });
    let names: Vec<_> = plain.hardened.pipeline.iter().map(|step| step.step.as_str()).collect();
    assert_eq!(names, ["compile", "strip-source-maps", "integrity"]);
    assert!(plain.hardened.escrow.is_none());
    assert!(list(&plain.escrow()).is_empty());

    let nothing = Package::of(&[("README.md", "x")])
        .harden(&Options::default())
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(
        nothing.hardened.pipeline[..4]
            .iter()
            .all(|step| step.status == StepStatus::NothingToDo && step.files == 0)
    );
    assert_eq!(nothing.hardened.artifact.len(), 3);
}

#[test]
fn the_integrity_manifest_lists_every_other_file() {
    let built = build(&Options::default());
    let manifest: IntegrityManifest = serde_json::from_str(&built.text("integrity.json")).expect("manifest");
    assert_eq!(
        (manifest.package_name.as_str(), manifest.version.to_string().as_str()),
        ("@acme/sample", "2.1.0")
    );
    let listed: BTreeMap<_, _> =
        manifest.files.iter().map(|file| (file.path.clone(), (file.sha256, file.size))).collect();
    let mut found = BTreeMap::new();
    for (path, content) in
        contents(&built.artifact()).into_iter().filter(|(path, _)| path != "integrity.json")
    {
        found.insert(path, (Sha256::of(&content), content.len() as u64));
    }
    assert_eq!(listed, found);
    let paths: Vec<_> = built.hardened.artifact.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, built.paths());
}

#[test]
fn the_escrow_leads_from_the_published_text_to_the_original() {
    let built = build(&Options::default());
    let escrow = built.escrow();
    assert_eq!(
        list(&escrow),
        ["index.json", "maps/index.js.map", "maps/lib/helper.js.map", "maps/lib/inline.js.map"]
    );
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(escrow.join("index.json")).expect("index")).expect("json");
    let entry = index["maps"]
        .as_array()
        .expect("maps")
        .iter()
        .find(|map| map["output_path"] == "index.js")
        .expect("map")
        .clone();
    assert_eq!(entry["output_sha256"], Sha256::of(built.text("index.js")).to_string());
    assert_eq!(
        entry["map_sha256"],
        Sha256::of(fs::read(escrow.join("maps/index.js.map")).expect("map")).to_string()
    );
    assert_eq!(built.hardened.escrow.as_ref().expect("escrow").files, 3);
    #[cfg(unix)]
    for path in list(&escrow) {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).expect("file").permissions().mode() & 0o777;
        assert_eq!(mode(&escrow.join(&path)), 0o600, "{path}");
        assert_eq!(mode(&escrow.join("maps")), 0o700);
    }
    let map: serde_json::Value =
        serde_json::from_slice(&fs::read(escrow.join("maps/index.js.map")).expect("map")).expect("json");
    assert_eq!(map["sources"], serde_json::json!(["index.ts"]));
    assert_eq!(map["sourcesContent"][0], SOURCE[1].1);
    // Node itself reads the map: the place of the throw, and the names.
    let place = escrow.join("maps/lib/helper.js.map");
    let published = built.text("lib/helper.js");
    let column = published.find("throw").expect("throw");
    let script = format!(
        "const {{ SourceMap }} = require('module'); const map = new SourceMap(JSON.parse(require('fs').readFileSync({place:?}, 'utf8'))); const at = map.findEntry({line}, {column}); console.log(at.originalSource, at.originalLine + 1, at.originalColumn + 1); console.log(map.payload.names.includes('inputValue'))",
        line = published[..column].matches('\n').count(),
    );
    assert_eq!(node(&escrow, &["-e", &script]), "lib/helper.js 7 23\ntrue\n");
}

#[test]
fn every_thread_count_gives_the_same_bytes() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let package = Package::copy_of(&cases);
    let outputs: Vec<_> = [1, 2, 7]
        .map(|threads| {
            let built = package
                .harden(&Options { threads: Some(threads), ..Options::default() })
                .unwrap_or_else(|error| panic!("{error}"));
            let mut pipeline = built.hardened.pipeline.clone();
            pipeline.iter_mut().for_each(|step| step.duration_ms = None);
            let everything = contents(built.out.path());
            let machine = built.out.path().to_str().expect("path").to_owned();
            for (path, content) in &everything {
                assert!(!String::from_utf8_lossy(content).contains(&machine), "{path} names this machine");
            }
            (everything, pipeline)
        })
        .into();
    assert!(outputs.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn what_keeps_its_names_is_listed() {
    let built = Package::of(&[
        ("eval.js", "exports.run = (code) => {\n  const visible = 1;\n  return eval(code);\n};\n"),
        ("with.js", "module.exports = (scope) => { with (scope) { return value; } };\n"),
        (
            "source.js",
            "function worker() { const inner = 1; return inner; }\nexports.text = worker.toString();\n",
        ),
        ("plain.js", "exports.plain = (longName) => longName.toString() + Function('return this')();\n"),
    ])
    .harden(&Options::default())
    .unwrap_or_else(|error| panic!("{error}"));
    let listed: Vec<_> = built.hardened.unprotected.keys().map(String::as_str).collect();
    assert_eq!(listed, ["eval.js", "source.js", "with.js"]);
    assert!(
        built.hardened.unprotected["eval.js"].contains("`eval`")
            && built.hardened.unprotected["eval.js"].ends_with("(line 3)")
    );
    assert!(built.text("eval.js").contains("const visible=1"));
    assert!(!built.text("plain.js").contains("longName"));
}

#[test]
fn refuses_what_it_cannot_read() {
    let folder = tempfile::tempdir().expect("folder");
    fs::write(folder.path().join("latin.js"), b"var a = '\xe9';\n").expect("file");
    fs::write(folder.path().join("package.json"), "{}").expect("file");
    let attempt = |package_json: &str, files: &[SourceFile], cancelled: bool| {
        let out = tempfile::tempdir().expect("folder");
        let (artifact, escrow) = (out.path().join("a"), out.path().join("e"));
        fs::create_dir(&artifact).expect("folder");
        fs::create_dir(&escrow).expect("folder");
        harden(&Request {
            files,
            package_json,
            tsconfig: None,
            artifact: &artifact,
            escrow: &escrow,
            options: &Options::default(),
            cancelled: &AtomicBool::new(cancelled),
        })
    };
    const MANIFEST: &str = r#"{"name":"a","version":"1.0.0"}"#;
    let file = |path: &str| SourceFile {
        path: path.to_owned(),
        absolute: folder.path().join("latin.js"),
        mode: 0o644,
    };
    let said = |result: Result<Hardened, HardenError>| result.map(|_| ()).expect_err("refused").to_string();
    assert_eq!(
        said(attempt(MANIFEST, &[file("latin.js")], false)),
        "`latin.js` is not UTF-8: byte 9 starts no character"
    );
    assert!(matches!(attempt(MANIFEST, &[file("latin.js")], true), Err(HardenError::Cancelled)));
    assert!(matches!(attempt(MANIFEST, &[file("../latin.js")], false), Err(HardenError::Path { .. })));
    let mut gone = file("a.js");
    gone.absolute = folder.path().join("gone");
    assert!(matches!(attempt(MANIFEST, &[gone], false), Err(HardenError::Read { .. })));
    for bad in [
        "",
        "[]",
        r#"{"name":"a"}"#,
        r#"{"name":"A B","version":"1.0.0"}"#,
        r#"{"name":"a","version":"one"}"#,
    ] {
        assert!(matches!(attempt(bad, &[], false), Err(HardenError::Manifest(_))), "{bad}");
    }
    attempt(MANIFEST, &[file("latin.txt")], false).expect("other files may hold anything");
}

#[test]
fn cancelling_ends_the_build_between_files() {
    let files: Vec<(String, String)> = (0..200)
        .map(|n| (format!("f{n}.js"), "exports.x = function (a) { return a; };\n".repeat(200)))
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let package = Package::of(&files);
    let sources: Vec<SourceFile> = files
        .iter()
        .map(|(path, _)| SourceFile {
            path: (*path).to_owned(),
            absolute: package.folder.path().join(path),
            mode: 0o755,
        })
        .collect();
    let out = tempfile::tempdir().expect("folder");
    let cancelled = AtomicBool::new(false);
    let options = Options { threads: Some(1), ..Options::default() };
    let request = Request {
        files: &sources,
        package_json: &package.package_json,
        tsconfig: None,
        artifact: out.path(),
        escrow: out.path(),
        options: &options,
        cancelled: &cancelled,
    };
    let result = std::thread::scope(|scope| {
        let build = scope.spawn(|| harden(&request));
        std::thread::sleep(std::time::Duration::from_millis(30));
        cancelled.store(true, Ordering::Relaxed);
        build.join().expect("no panic")
    });
    assert!(matches!(result, Err(HardenError::Cancelled)));
}

#[test]
fn programs_without_an_ending_are_hardened_and_stay_executable() {
    let package = Package::of(&[
        ("bin/tool", "#!/usr/bin/env node\n// remark\nconst longName = 'ran';\nconsole.log(longName);\n"),
        ("bin/shell", "#!/bin/sh\n# remark\necho ran\n"),
    ]);
    let built = package.harden(&Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let modes: Vec<_> =
        built.hardened.artifact.iter().map(|file| (file.path.as_str(), file.mode.as_str())).collect();
    assert_eq!(
        modes,
        [("bin/shell", "0755"), ("bin/tool", "0755"), ("integrity.json", "0644"), ("package.json", "0644")]
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(built.artifact().join("bin/tool")).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }
    let tool = built.text("bin/tool");
    assert!(tool.starts_with("#!/usr/bin/env node\n") && !tool.contains("remark"), "{tool}");
    assert_eq!(built.text("bin/shell"), "#!/bin/sh\n# remark\necho ran\n");
    assert_eq!(node(&built.artifact(), &["bin/tool"]), "ran\n");
}
