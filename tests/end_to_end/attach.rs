//! `attach-evidence`: what is kept, given back byte for byte, and what is not taken.

use std::fs;

use serde_json::json;

use crate::harness::World;

#[test]
fn a_document_is_kept_with_its_run_and_given_back() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    world.cli_in(&folder, &["publish"]).succeeded();
    let sbom = json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "name": "ä"}).to_string();
    world.write("sbom.json", &sbom);
    let attach = |arguments: &[&str]| {
        let mut all = vec!["attach-evidence", "--package", "@acme/core@1.0.0"];
        all.extend(arguments);
        world.cli(&all)
    };
    let screen = attach(&["--file", "sbom.json", "--type", "sbom", "--format", "json"]);
    screen.succeeded();
    let result: serde_json::Value = serde_json::from_str(&screen.stdout).expect("JSON");
    let text = result.to_string();
    let id =
        text.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an id").to_owned();
    let record = world.operator_get(&format!("/v1/evidence/{id}"));
    assert_eq!(
        (&record["type"], &record["media_type"]),
        (&json!("sbom"), &json!("application/vnd.cyclonedx+json"))
    );
    assert_eq!(record["publisher"]["run_id"], "77");
    assert!(record["build_id"].is_string(), "{record}");
    let token = fs::read_to_string(world.path("server/data/admin-token")).expect("admin token");
    let content = format!("/v1/evidence/{id}/content");
    let (status, bytes) = world.request("GET", &content, Some(token.trim()), &[], b"");
    assert_eq!((status, bytes.as_slice()), (200, sbom.as_bytes()));
    // Again: the same record.
    let again = attach(&["--file", "sbom.json"]);
    again.succeeded();
    assert!(again.stdout.contains(&id), "{again}");

    world.write("page.json", r#"{"a": 1}"#);
    world.write("not.json", "<html>");
    attach(&["--file", "page.json"]).failed(7, &["page.json", "no document that is kept"]);
    attach(&["--file", "not.json"]).failed(7, &["not.json", "is not JSON"]);
    attach(&["--file", "missing.json"]).failed(7, &["missing.json", "cannot be read"]);
    attach(&["--file", "sbom.json", "--type", "provenance"])
        .failed(7, &["was to be `provenance`, and is `sbom`"]);
    world
        .cli(&["attach-evidence", "--package", "@acme/core", "--file", "sbom.json"])
        .failed(2, &["a version after `@`"]);
    world
        .cli(&["attach-evidence", "--package", "@acme/core@7.0.0", "--file", "sbom.json"])
        .failed(2, &["neither published nor has it a build"]);
    // Provenance of something else.
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "pkg:npm/evil@1.0.0", "digest": {"sha256": "0".repeat(64)}}],
        "predicateType": "https://slsa.dev/provenance/v1", "predicate": {},
    });
    world.write("statement.json", &statement.to_string());
    attach(&["--file", "statement.json"]).failed(4, &["pkg:npm/evil@1.0.0", "pkg:npm/%40acme/core@1.0.0"]);
}
