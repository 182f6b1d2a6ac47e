//! Traces with maps made by hand, so that each rule of choosing a file shows alone.

use std::collections::BTreeMap;

use protected_model::digest::Sha256;

use super::*;

const APP: &str = "export class Till {\n  charge(amount) {\n    throw new RangeError(amount);\n  }\n}\nconst run = () => new Till().charge(1);\nrun();\n";
const OTHER: &str = "function other() {\n  boom();\n}\n";

/// A map with two sources: generated line 1 is `APP` line 3 at column 10, line 6 at 20, `OTHER` line 2 at 30.
fn map(marker: &str) -> Vec<u8> {
    let json = serde_json::json!({
        "version": 3,
        "sources": ["src/till.ts", format!("src/{marker}.js")],
        "sourcesContent": [APP, OTHER],
        "names": [],
        // column 10: source 0 line 2 column 10; column 20: source 0 line 5 column 18; column 30: source 1 line 1 column 2
        "mappings": "UAEU,UAGQ,UCJhB",
    });
    serde_json::to_vec(&json).expect("json")
}

fn escrow(name: &str, version: &str, outputs: &[&str]) -> Escrow {
    let mut files = BTreeMap::new();
    let maps: Vec<_> = outputs
        .iter()
        .map(|output| {
            let content = map(&format!("{version}-{}", output.replace('/', "-")));
            let entry = serde_json::json!({
                "output_sha256": Sha256::of(format!("{name}{version}{output}")),
                "output_path": output,
                "map_path": format!("maps/{output}.map"),
                "map_sha256": Sha256::of(&content),
            });
            files.insert(format!("maps/{output}.map"), content);
            entry
        })
        .collect();
    let index = serde_json::json!({
        "schema": crate::step::escrow::MEDIA_TYPE, "package_name": name, "version": version, "maps": maps,
    });
    files.insert(Escrow::INDEX.to_owned(), serde_json::to_vec(&index).expect("json"));
    Escrow::in_memory(files).expect("escrow")
}

fn retrace(escrows: Vec<Escrow>, delivered: Vec<Delivered>, text: &str) -> Vec<String> {
    let lines = Retracer::new(escrows, delivered).read(text).expect("read");
    lines
        .iter()
        .map(|line| match line {
            Line::Text(text) => text.clone(),
            Line::Frame(frame) => frame.to_text(false),
        })
        .collect()
}

#[track_caller]
fn one(escrows: Vec<Escrow>, line: &str, expected: &str) {
    assert_eq!(retrace(escrows, Vec::new(), line), [expected]);
}

fn core() -> Vec<Escrow> {
    vec![escrow("@acme/core", "1.0.0", &["dist/index.js"])]
}

#[test]
fn writes_frames_as_their_engine_would() {
    let at = "/srv/node_modules/@acme/core/dist/index.js";
    for (line, expected) in [
        (format!("    at a.b ({at}:1:11)"), "    at Till.charge (src/till.ts:3:11)"),
        (format!("    at a.b [as c] ({at}:1:12)"), "    at Till.charge (src/till.ts:3:11)"),
        (format!("    at {at}:1:11"), "    at Till.charge (src/till.ts:3:11)"),
        (format!("    at async a ({at}:1:25)"), "    at async run (src/till.ts:6:19)"),
        (format!("    at {at}:1:31 {{"), "    at other (src/1.0.0-dist-index.js.js:2:3) {"),
        (format!("log: at a ({at}:1:31)"), "log: at other (src/1.0.0-dist-index.js.js:2:3)"),
        (
            format!("    at eval (eval at a ({at}:1:31), <anonymous>:1:7)"),
            "    at eval (eval at other (src/1.0.0-dist-index.js.js:2:3), <anonymous>:1:7)",
        ),
        (format!("a@{at}:1:31"), "other@src/1.0.0-dist-index.js.js:2:3"),
        (format!("@{at}:1:11"), "Till.charge@src/till.ts:3:11"),
        (format!("async*a@{at}:1:31"), "async*other@src/1.0.0-dist-index.js.js:2:3"),
        (format!("async a@{at}:1:31"), "async other@src/1.0.0-dist-index.js.js:2:3"),
        (
            format!("a@{at} line 1 > eval:1:1"),
            "a@{at} line 1 > eval:1:1  [not mapped: nothing of the source of @acme/core@1.0.0 is at 1]",
        ),
    ] {
        one(core(), &line, &expected.replace("{at}", at));
    }
}

#[test]
fn what_is_no_frame_stays_and_what_is_not_mapped_says_why() {
    let text = "RangeError: 5\n\n  some text at noon\n    at Array.map (<anonymous>)\n    at node:internal/main:1:2\n    at q (/srv/app.js:1:2)\n    at r (/srv/node_modules/left-pad/index.js:1:2)\n    at s (/srv/node_modules/@acme/core/dist/other.js:1:2)\n    at t (/srv/node_modules/@acme/core/dist/index.js:2:2)\n    at u (/srv/node_modules/@acme/core/dist/index.js:1:3)";
    let expected = [
        "RangeError: 5",
        "",
        "  some text at noon",
        "    at Array.map (<anonymous>)  [not mapped: part of the engine]",
        "    at node:internal/main:1:2  [not mapped: part of the engine]",
        "    at q (/srv/app.js:1:2)  [not mapped: no file of that name in the escrow]",
        "    at r (/srv/node_modules/left-pad/index.js:1:2)  [not mapped: no escrow of left-pad]",
        "    at s (/srv/node_modules/@acme/core/dist/other.js:1:2)  [not mapped: `dist/other.js` is no hardened file of @acme/core]",
        "    at t (/srv/node_modules/@acme/core/dist/index.js:2:2)  [not mapped: nothing of the source of @acme/core@1.0.0 is at 2:2]",
        "    at u (/srv/node_modules/@acme/core/dist/index.js:1:3)  [not mapped: nothing of the source of @acme/core@1.0.0 is at 1:3]",
    ];
    assert_eq!(retrace(core(), Vec::new(), text), expected);
}

#[test]
fn the_longest_path_decides() {
    let two = || vec![escrow("@acme/core", "1.0.0", &["index.js", "dist/index.js", "dist/esm/index.js"])];
    for (path, source) in [
        ("/srv/dist/esm/index.js", "dist-esm-index.js"),
        ("/srv/dist/index.js", "dist-index.js"),
        ("/srv/other/index.js", "index.js"),
        ("https://x.example/dist/esm/index.js?v=1#y", "dist-esm-index.js"),
        ("C:\\srv\\dist\\index.js", "dist-index.js"),
    ] {
        one(two(), &format!("    at a ({path}:1:31)"), &format!("    at other (src/1.0.0-{source}.js:2:3)"));
    }
    // A part of the path, where nothing better is there, and said so.
    one(
        core(),
        "    at a (https://x.example/index.js:1:31)",
        "    at other (src/1.0.0-dist-index.js.js:2:3)  [taken for it by the end of its path alone]",
    );
    one(
        vec![escrow("core", "1.0.0", &["lib/index.js", "dist/index.js"])],
        "    at a (https://x.example/index.js:1:31)",
        "    at a (https://x.example/index.js:1:31)  [not mapped: ambiguous: core@1.0.0/dist/index.js or core@1.0.0/lib/index.js]",
    );
}

#[test]
fn a_customers_own_file_is_not_taken_for_ours() {
    let escrows = vec![escrow("@acme/core", "1.0.0", &["index.js"])];
    let text = "    at a (/srv/node_modules/@acme/core/index.js:1:31)\n    at b (/srv/app/index.js:1:31)";
    assert_eq!(
        retrace(escrows, Vec::new(), text),
        [
            "    at other (src/1.0.0-index.js.js:2:3)",
            "    at b (/srv/app/index.js:1:31)  [not mapped: no file of that name in the escrow]"
        ]
    );
}

#[test]
fn versions_are_told_apart_by_path_or_content_or_not_at_all() {
    let both =
        || vec![escrow("@acme/core", "1.0.0", &["index.js"]), escrow("@acme/core", "1.1.0", &["index.js"])];
    one(
        both(),
        "    at a (/srv/node_modules/@acme/core/index.js:1:31)",
        "    at a (/srv/node_modules/@acme/core/index.js:1:31)  [not mapped: ambiguous: @acme/core@1.0.0/index.js or @acme/core@1.1.0/index.js]",
    );
    one(
        both(),
        "    at a (/srv/node_modules/.pnpm/@acme+core@1.1.0/node_modules/@acme/core/index.js:1:31)",
        "    at other (src/1.1.0-index.js.js:2:3)",
    );
    one(
        both(),
        "    at a (https://x.example/@acme/core@2.0.0/index.js:1:31)",
        "    at a (https://x.example/@acme/core@2.0.0/index.js:1:31)  [not mapped: no escrow of @acme/core@2.0.0]",
    );
    let file =
        |content: &str| vec![Delivered { path: "copy/index.js".to_owned(), sha256: Sha256::of(content) }];
    let line = "    at a (/srv/node_modules/@acme/core/index.js:1:31)";
    assert_eq!(
        retrace(both(), file("@acme/core1.1.0index.js"), line),
        ["    at other (src/1.1.0-index.js.js:2:3)"]
    );
    assert_eq!(
        retrace(both(), file("another"), line),
        [format!("{line}  [not mapped: the escrow knows no file with the content of `copy/index.js`]")]
    );
    // The same build twice is one.
    let twice =
        vec![escrow("@acme/core", "1.0.0", &["index.js"]), escrow("@acme/core", "1.0.0", &["index.js"])];
    one(twice, line, "    at other (src/1.0.0-index.js.js:2:3)");
}

#[test]
fn a_broken_escrow_is_an_error() {
    let files = |index: serde_json::Value| {
        BTreeMap::from([
            (Escrow::INDEX.to_owned(), serde_json::to_vec(&index).expect("json")),
            ("maps/a.js.map".to_owned(), b"[1".to_vec()),
        ])
    };
    let mapped = |path: &str, content: &[u8]| {
        serde_json::json!({
            "schema": crate::step::escrow::MEDIA_TYPE, "package_name": "core", "version": "1.0.0",
            "maps": [{
                "output_sha256": Sha256::of("x"), "output_path": "a.js",
                "map_path": path, "map_sha256": Sha256::of(content),
            }],
        })
    };
    for path in ["../secret", "/etc/passwd", "maps/../../x", "", "C:\\x", "a\\b", "a//b"] {
        assert!(
            matches!(Escrow::in_memory(files(mapped(path, b"[1"))), Err(EscrowError::Index(_))),
            "{path}"
        );
    }
    assert!(matches!(Escrow::in_memory(BTreeMap::new()), Err(EscrowError::Index(_))));
    assert!(matches!(Escrow::in_memory(files(serde_json::json!({}))), Err(EscrowError::Index(_))));
    let read = |index| {
        let escrow = Escrow::in_memory(files(index)).expect("index");
        Retracer::new(vec![escrow], Vec::new())
            .read("    at a (/srv/node_modules/core/a.js:1:1)")
            .expect_err("read")
    };
    assert!(matches!(read(mapped("maps/a.js.map", b"other")), EscrowError::Changed { .. }));
    assert!(matches!(read(mapped("maps/gone.map", b"[1")), EscrowError::Read { .. }));
    assert!(matches!(read(mapped("maps/a.js.map", b"[1")), EscrowError::Map { .. }));
}
