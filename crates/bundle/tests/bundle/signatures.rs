//! Signatures in a layout: where they stand, and what is refused before anybody verifies one.

use std::{fs, path::Path};

use protected_bundle::layout::{
    Delivery, LayoutError,
    signature::{MAX_SIGNATURE_BYTES, Part},
};
use protected_model::digest::Sha256;
use serde_json::{Value, json};

use crate::sample::{keys, opened, tree, written};

const STATEMENTS: [(Part, &[u8]); 2] = [(Part::Bundle, b"{\"of\": 1}"), (Part::Keys, b"{\"of\": 2}")];

fn signatures(path: &Path) -> [Option<Vec<u8>>; 2] {
    let delivery = Delivery::open(path).expect("delivery");
    Part::ALL.map(|part| delivery.unverified_signature(part).expect("signature"))
}

fn sign(path: &Path) -> [Option<Vec<u8>>; 2] {
    let signed = STATEMENTS.map(|(part, bytes)| (part, bytes.to_vec()));
    Delivery::open(path).expect("delivery").add_signatures(&signed).expect("signed");
    STATEMENTS.map(|(_, bytes)| Some(bytes.to_vec()))
}

fn json(place: &Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(place.join(name)).expect("read")).expect("json")
}

fn blob(entry: &Value) -> String {
    format!("blobs/sha256/{}", entry["digest"].as_str().expect("digest").trim_start_matches("sha256:"))
}

#[test]
fn a_delivery_is_signed_in_a_folder_and_in_one_file() {
    let folder = tempfile::tempdir().expect("folder");
    let at = |name: &str| folder.path().join(name);
    let (_, written) = written(&at("delivery"));
    assert_eq!(signatures(&at("delivery")), [None, None]);
    Delivery::open(&at("delivery"))
        .expect("delivery")
        .to_tar(&at("late.tar"), &Default::default())
        .expect("tar");
    let both = sign(&at("delivery"));
    assert_eq!(signatures(&at("delivery")), both);
    let delivery = Delivery::open(&at("delivery")).expect("delivery");
    assert_eq!(delivery.bundle(), &written.bundle, "what is signed is what it was");
    delivery.to_tar(&at("delivery.tar"), &Default::default()).expect("tar");
    assert_eq!(signatures(&at("delivery.tar")), both);
    // One that was one file before it was signed.
    sign(&at("late.tar"));
    assert_eq!(signatures(&at("late.tar")), both);
    for name in ["delivery", "delivery.tar", "late.tar"] {
        opened(&at(name), &at(&format!("{name}.opened")));
        assert_eq!(tree(&at("delivery.opened")), tree(&at(&format!("{name}.opened"))), "{name}");
    }
    let left = fs::read_dir(folder.path())
        .expect("folder")
        .filter(|entry| entry.as_ref().expect("entry").file_name().to_string_lossy().starts_with('.'));
    assert_eq!(left.count(), 0);
    // As cosign looks for them: an artifact of the bundle's type, whose subject is the manifest.
    let index = json(&at("delivery"), "index.json");
    for (entry, part) in [(2, Part::Bundle), (3, Part::Keys)] {
        let entry = &index["manifests"][entry];
        let manifest = json(&at("delivery"), &blob(entry));
        let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
        assert_eq!((&entry["artifactType"], &manifest["artifactType"]), (&json!(kind), &json!(kind)));
        let annotations = json!({
            "dev.sigstore.bundle.content": "dsse-envelope",
            "dev.sigstore.bundle.predicateType": part.predicate_type(),
        });
        assert_eq!((&entry["annotations"], &manifest["annotations"]), (&annotations, &annotations));
        assert_eq!(manifest["layers"][0]["mediaType"], kind);
        assert_eq!(manifest["subject"]["digest"], delivery.manifests().of(part).digest.to_string());
    }
}

#[test]
fn no_signature_of_former_keys_stays_beside_new_ones() {
    let folder = tempfile::tempdir().expect("folder");
    let (place, mail) = (folder.path().join("delivery"), folder.path().join("delivery.tar"));
    let (descriptor, _) = written(&place);
    let [bundle, _] = sign(&place);
    Delivery::open(&place).expect("delivery").to_tar(&mail, &Default::default()).expect("tar");
    for place in [&place, &mail] {
        let mut delivery = Delivery::open(place).expect("delivery");
        let other = keys(&descriptor, "openbao://transit/globex");
        let expected = delivery.manifest_of_keys(&other);
        delivery.set_keys(other, None, &Default::default()).expect("keys");
        assert_eq!(delivery.manifests().keys, expected);
        assert_eq!(signatures(place), [bundle.clone(), None]);
        delivery
            .set_keys(keys(&descriptor, "openbao://transit/other"), Some(b"{}"), &Default::default())
            .expect("keys");
        assert_eq!(signatures(place), [bundle.clone(), Some(b"{}".to_vec())]);
    }
}

/// Changes the signature of a part as somebody would who forges everything that has no signature: every digest is right.
fn forged(part: Part, change: impl FnOnce(&mut Value)) -> LayoutError {
    let folder = tempfile::tempdir().expect("folder");
    let place = folder.path().join("delivery");
    written(&place);
    sign(&place);
    let mut index = json(&place, "index.json");
    let at = match part {
        Part::Bundle => 2,
        Part::Keys => 3,
    };
    let mut manifest = json(&place, &blob(&index["manifests"][at]));
    change(&mut manifest);
    let bytes = serde_json::to_vec(&manifest).expect("json");
    let digest = Sha256::of(&bytes);
    fs::write(place.join(format!("blobs/sha256/{digest}")), &bytes).expect("write");
    index["manifests"][at]["digest"] = json!(format!("sha256:{digest}"));
    index["manifests"][at]["size"] = json!(bytes.len());
    fs::write(place.join("index.json"), index.to_string()).expect("write");
    Delivery::open(&place).expect_err("it was read")
}

#[test]
fn one_that_is_of_something_else_is_refused() {
    let says = |error: &LayoutError, what: &str| assert!(error.to_string().contains(what), "{error}");
    for part in Part::ALL {
        let other =
            json!({"mediaType": "a", "size": 1, "digest": format!("sha256:{}", Sha256::of("another"))});
        says(&forged(part, |manifest| manifest["subject"] = other), "is over another one");
        says(
            &forged(part, |manifest| _ = manifest.as_object_mut().expect("map").remove("subject")),
            "is over",
        );
        says(&forged(part, |manifest| manifest["annotations"] = json!({})), "is of something else");
        let other = if part == Part::Keys { Part::Bundle } else { Part::Keys };
        let other = other.predicate_type();
        let change = |manifest: &mut Value| {
            manifest["annotations"]["dev.sigstore.bundle.predicateType"] = json!(other);
        };
        says(&forged(part, change), "is of something else");
        says(&forged(part, |manifest| manifest["layers"] = json!([])), "is of 0 documents");
        says(
            &forged(part, |manifest| manifest["layers"][0]["mediaType"] = json!("text/plain")),
            "of the type",
        );
        says(&forged(part, |manifest| manifest["artifactType"] = json!("text/plain")), "is not of");
        let large = MAX_SIGNATURE_BYTES + 1;
        says(&forged(part, |manifest| manifest["layers"][0]["size"] = json!(large)), "more than 262144");
        says(&forged(part, |manifest| manifest["layers"][0]["size"] = json!(2)), "bytes was expected");
    }
}

#[test]
fn there_are_two_at_most_and_each_is_small() {
    let folder = tempfile::tempdir().expect("folder");
    let place = folder.path().join("delivery");
    written(&place);
    sign(&place);
    let index = json(&place, "index.json");
    let with = |entries: Vec<Value>| {
        let mut index = index.clone();
        index["manifests"].as_array_mut().expect("list").extend(entries);
        fs::write(place.join("index.json"), index.to_string()).expect("write");
        Delivery::open(&place)
    };
    for (entry, part) in [(2, "bundle"), (3, "keys")] {
        for count in [1, 10_000] {
            let error = with(vec![index["manifests"][entry].clone(); count]).expect_err("read");
            let expected = format!("this is no delivery: there is more than one signature of its {part}");
            assert_eq!(error.to_string(), expected);
        }
    }
    // What others signed about it is not looked at, and need not be there.
    let mut other = index["manifests"][2].clone();
    other["annotations"]["dev.sigstore.bundle.predicateType"] = json!("https://slsa.dev/provenance/v1");
    other["digest"] = json!(format!("sha256:{}", Sha256::of("not there")));
    with(vec![other; 1000]).expect("delivery");
}

#[test]
fn what_is_changed_or_gone_is_refused_and_not_passed_over() {
    let folder = tempfile::tempdir().expect("folder");
    let place = folder.path().join("delivery");
    written(&place);
    let unsigned: Vec<String> = tree(&place).into_keys().collect();
    sign(&place);
    let added: Vec<String> = tree(&place).into_keys().filter(|name| !unsigned.contains(name)).collect();
    assert_eq!(added.len(), 4, "a document and a manifest of each");
    for name in added {
        let path = place.join(&name);
        let bytes = fs::read(&path).expect("read");
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).expect("write");
            Delivery::open(&place).expect_err("it was read");
        }
        fs::remove_file(&path).expect("remove");
        Delivery::open(&place).expect_err("it was read");
        fs::write(&path, bytes).expect("write");
        Delivery::open(&place).expect("as it was");
    }
}
