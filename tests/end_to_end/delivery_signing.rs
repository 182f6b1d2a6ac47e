//! Signed deliveries: what is signed of one, who checks it, and what is refused.

use std::{
    fs,
    path::Path,
    process::{Child, Command},
};

use serde_json::{Value, json};

use crate::{
    deliver::{begun, deliver, key, large, open, read_json, small},
    harness::World,
    signing::{asked, statement_of},
};

const BUNDLE: &str = "https://protected-registry.dev/statements/delivery/v1";
const KEYS: &str = "https://protected-registry.dev/statements/delivery-keys/v1";

fn blob(bundle: &Path, entry: &Value) -> std::path::PathBuf {
    let digest = entry["digest"].as_str().expect("digest");
    bundle.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
}

/// What the index of a bundle names with this predicate type: the entry, the manifest and the Sigstore bundle.
fn signature(bundle: &Path, predicate_type: &str) -> Option<(Value, Value, Value)> {
    let index = read_json(&bundle.join("index.json"));
    let entry = index["manifests"]
        .as_array()
        .expect("list")
        .iter()
        .find(|entry| entry["annotations"]["dev.sigstore.bundle.predicateType"] == predicate_type)?;
    let manifest = read_json(&blob(bundle, entry));
    let signed = read_json(&blob(bundle, &manifest["layers"][0]));
    Some((entry.clone(), manifest, signed))
}

/// Whoever comes second signs what is there, and not what nobody gets.
#[test]
fn a_delivery_that_another_command_sealed_meanwhile_is_signed() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    let file = large(&world, "app.bin", 96);
    let named = |more: &[&str]| {
        deliver(&world, &file, "sealed", &[&["@acme/core", "--version", "1.0.0"], more].concat())
    };
    let signal = |child: &Child, name: &str| {
        let sent = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill");
        assert!(sent.success());
    };
    let mut child = begun(&world, named(&[]));
    signal(&child, "-STOP");
    let told = world.run(named(&["--sign", "off", "--format", "json"]));
    let told: Value = serde_json::from_str(&told.succeeded().stdout).expect("JSON");
    assert_eq!((&told["status"], &told["signed"]), (&json!("sealed"), &json!([])));
    signal(&child, "-CONT");
    assert!(child.wait().expect("wait").success());
    let bundle = world.path("work/sealed/bundle");
    assert!(signature(&bundle, BUNDLE).is_some() && signature(&bundle, KEYS).is_some(), "nobody signed it");
    let index = read_json(&bundle.join("index.json"));
    assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], told["bundle_id"]);
    assert_eq!(world.count("bundle.create", "allow", None), 1);
    // The world looks for tokens in every file, letter by letter.
    fs::remove_dir_all(world.path("work")).expect("remove");
}

#[test]
fn a_delivery_is_signed_once_by_whoever_delivers() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    let built = small(&world);
    let screen = world.run(deliver(&world, &built, "sealed", &["--format", "json"]));
    let told: Value = serde_json::from_str(&screen.succeeded().stdout).expect("JSON");
    assert_eq!((&told["signed"], &told["unsigned"]), (&json!(["bundle", "keys"]), &Value::Null));
    assert!(screen.stderr.contains("  sign      bundle, keys; log entry "), "{screen}");
    assert!(world.summary().contains("| signed | bundle, keys |"), "{}", world.summary());
    let bundle = world.path("work/sealed/bundle");
    let index = read_json(&bundle.join("index.json"));
    let manifest = read_json(&world.path("work/sealed/delivery-manifest.json"));
    let mut certificates = Vec::new();
    for (predicate_type, of) in [(BUNDLE, 0), (KEYS, 1)] {
        let (_, artifact, signed) = signature(&bundle, predicate_type).expect("signature");
        let digest = &index["manifests"][of]["digest"];
        assert_eq!(artifact["subject"]["digest"], *digest);
        let statement = statement_of(&signed);
        assert_eq!(statement["predicateType"], predicate_type);
        let digest = digest.as_str().expect("digest").trim_start_matches("sha256:");
        let subject = json!([{"name": told["bundle_id"], "digest": {"sha256": digest}}]);
        assert_eq!(statement["subject"], subject);
        let predicate = &statement["predicate"];
        assert_eq!(predicate["bundle_id"], told["bundle_id"]);
        for secret in ["wrapped_key", "local-file", "127.0.0.1"] {
            assert!(!statement.to_string().contains(secret), "{statement}");
        }
        if of == 0 {
            for member in
                ["tenant_id", "project_slug", "customer_slug", "package_name", "version", "created_at"]
            {
                assert_eq!(predicate[member], manifest[member], "{member}");
            }
        }
        certificates.push(signed["verificationMaterial"]["certificate"]["rawBytes"].clone());
    }
    assert_eq!(certificates[0], certificates[1]);
    assert_eq!(asked(&world, "/signingCert"), 1, "one certificate for both");

    // Again: nothing is signed anew, and nobody is asked for a certificate.
    let before = fs::read(bundle.join("index.json")).expect("read");
    let again = world.run(deliver(&world, &built, "sealed", &["--format", "json"]));
    let told: Value = serde_json::from_str(&again.succeeded().stdout).expect("JSON");
    assert_eq!((&told["signed"], &told["status"]), (&json!(["bundle", "keys"]), &json!("already-sealed")));
    assert!(!again.stderr.contains("certify") && !again.stderr.contains("  sign  "), "{again}");
    assert_eq!(fs::read(bundle.join("index.json")).expect("read"), before);
    assert_eq!(asked(&world, "/signingCert"), 1);

    // Not at all, where that is asked for; and later, in one file too.
    for (out, more) in [("later", &[] as &[&str]), ("one", &["--one-file"])] {
        let off: Vec<&str> = more.iter().copied().chain(["--sign", "off", "--format", "json"]).collect();
        let told = world.run(deliver(&world, &built, out, &off));
        let told: Value = serde_json::from_str(&told.succeeded().stdout).expect("JSON");
        assert_eq!((&told["signed"], &told["unsigned"]), (&json!([]), &json!("signing is switched off")));
        let now = world.run(deliver(&world, &built, out, more));
        assert!(now.succeeded().stderr.contains("  sign      bundle, keys"), "{now}");
        open(&world, "keys", out, &format!("{out}.opened")).succeeded();
    }
}
