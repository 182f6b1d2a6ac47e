//! Bundles that others made with the public-good instance, and every way to change them.
//!
//! `tests/vectors/sigstore/README.md` says where they come from. A bundle stays valid: what counts is the time of its
//! signature.

#[path = "../../fuzz/checks.rs"]
#[expect(unreachable_pub, reason = "the fuzzer's crate exports it")]
mod checks;
mod made_up;
mod vectors;

use base64::{Engine, engine::general_purpose::STANDARD};
use protected_evidence::{
    statement::{PAYLOAD_TYPE, PROVENANCE, Subject},
    verify::{self, Check, Expected, ExpectedBuild, Identity, Signer, Trust},
};
use protected_model::digest::Sha256;
use serde_json::{Value, json};
use sigstore_types::pae;
use sigstore_verify::{
    crypto::KeyPair,
    trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, SIGSTORE_STAGING_TRUSTED_ROOT},
};

use crate::vectors::{VECTORS, empty, leaves, own_part};

/// The key of nobody here: generated for this file, P-256.
const OTHER_KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE9hgw13oue/Mdg19s9ObXE7xpwb0qo/Tgz7496A+0eR/rT4yAjkbq1Oda1ZVdQyV2JMRv5IX7MMB6Ahs354qQ1A==";

fn trust(root: &Value) -> Trust {
    Trust::from_trusted_root(root.to_string().as_bytes()).expect("trusted root")
}

fn objects(value: &Value, at: String, into: &mut Vec<String>) {
    if let Value::Object(members) = value {
        members.iter().for_each(|(name, member)| objects(member, format!("{at}/{name}"), into));
        into.push(at);
    } else if let Value::Array(items) = value {
        items.iter().enumerate().for_each(|(index, item)| objects(item, format!("{at}/{index}"), into));
    }
}

/// Other values that a leaf could have: for base64 those with one byte changed, at up to `most` places.
fn others(leaf: &Value, most: usize) -> Vec<Value> {
    let Value::String(text) = leaf else {
        return vec![json!(1234567), json!("x")];
    };
    let places = |len: usize| {
        let step = len.div_ceil(most).max(1);
        (0..len).step_by(step).chain(len.checked_sub(1))
    };
    if let Ok(number) = text.parse::<u64>() {
        let others = [(number + 1).to_string(), (number ^ 1).to_string(), "0".to_owned()];
        // A number has one form.
        let forms = [format!("+{number}"), format!("0{number}"), format!("{number} "), format!("{number}.0")];
        return others.into_iter().chain(forms).map(Value::String).collect();
    }
    let mut all = vec![json!(""), json!(format!("{text}A")), json!(format!("{text} "))];
    // Base64 has one form as well.
    all.extend([json!(text.trim_end_matches('=')), json!(text.replace('+', "-").replace('/', "_"))]);
    if let Ok(bytes) = STANDARD.decode(text) {
        all.push(json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()));
    }
    match STANDARD.decode(text) {
        Ok(bytes) if text.len() >= 16 => all.extend(places(bytes.len()).map(|at| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x01;
            json!(STANDARD.encode(bytes))
        })),
        _ => all.extend(places(text.chars().count()).map(|at| {
            let change = |(index, c)| if index == at { if c == 'x' { 'y' } else { 'x' } } else { c };
            json!(text.chars().enumerate().map(change).collect::<String>())
        })),
    }
    all.retain(|other| other != leaf);
    all
}

#[test]
fn accepts_what_others_made() {
    for vector in &VECTORS {
        let verified = vector.verify(vector.json.as_bytes(), &vector.trust()).expect(vector.name);
        assert_eq!(verified.log.len(), 1, "{}", vector.name);
        assert_eq!(verified.times.len(), 1, "{}", vector.name);
    }
    let verified =
        VECTORS[0].verify(VECTORS[0].json.as_bytes(), &Trust::public_good().expect("root")).expect("npm");
    let Signer::Certificate(certificate) = &verified.signer else { panic!("{:?}", verified.signer) };
    let workflow = "https://github.com/sigstore/sigstore-js/.github/workflows/release.yml@refs/heads/main";
    assert_eq!(certificate.subject, workflow);
    assert_eq!(certificate.issuer.as_deref(), Some("https://token.actions.githubusercontent.com"));
    assert_eq!(certificate.repository.as_deref(), Some("https://github.com/sigstore/sigstore-js"));
    assert_eq!(certificate.runner.as_deref(), Some("github-hosted"));
}

#[test]
fn every_byte_counts() {
    let mut let_pass = Vec::new();
    for vector in &VECTORS {
        let trust = vector.trust();
        let good = vector.value();
        let mut pointers = Vec::new();
        leaves(&good, String::new(), &mut pointers);
        assert!(pointers.len() > 10, "{}", vector.name);
        for pointer in pointers {
            let leaf = own_part(good.pointer(&pointer).expect("leaf"), &pointer);
            for other in others(&leaf, 160) {
                let mut bad = good.clone();
                *bad.pointer_mut(&pointer).expect("leaf") = other.clone();
                if vector.verify(bad.to_string().as_bytes(), &trust).is_ok() {
                    let other: String = other.to_string().chars().take(200).collect();
                    let_pass.push(format!("{}: {pointer} = {other}", vector.name));
                }
            }
        }
    }
    assert!(let_pass.is_empty(), "{} let pass:\n{}", let_pass.len(), let_pass.join("\n"));
}

#[test]
fn nothing_may_be_missing_or_added() {
    let mut let_pass = Vec::new();
    for vector in &VECTORS {
        let trust = vector.trust();
        let good = vector.value();
        let mut pointers = Vec::new();
        objects(&good, String::new(), &mut pointers);
        for pointer in pointers {
            let members = good.pointer(&pointer).and_then(Value::as_object).expect("object");
            for (name, member) in members {
                let mut bad = good.clone();
                bad.pointer_mut(&pointer).and_then(Value::as_object_mut).expect("object").remove(name);
                // What is empty says the same when it is not there (proto3 JSON), and the digest of bytes that are
                // at hand is a hint.
                if !empty(member)
                    && name != "messageDigest"
                    && vector.verify(bad.to_string().as_bytes(), &trust).is_ok()
                {
                    let_pass.push(format!("{}: without {pointer}/{name}", vector.name));
                }
            }
            let mut bad = good.clone();
            bad.pointer_mut(&pointer).expect("object")["comment"] = json!("by nobody");
            if vector.verify(bad.to_string().as_bytes(), &trust).is_ok() {
                let_pass.push(format!("{}: with {pointer}/comment", vector.name));
            }
        }
        for end in (0..vector.json.trim_end().len()).step_by(97) {
            let refused = vector.verify(&vector.json.as_bytes()[..end], &trust).expect_err("truncated");
            assert_eq!(refused.check, Check::Format);
        }
        let entries = "/verificationMaterial/tlogEntries";
        let mut bad = good.clone();
        let list = bad.pointer_mut(entries).and_then(Value::as_array_mut).expect("entries");
        list.push(list[0].clone());
        list[1]["logIndex"] = json!("1");
        assert!(vector.verify(bad.to_string().as_bytes(), &trust).is_err(), "{}", vector.name);
    }
    assert!(let_pass.is_empty(), "let pass:\n{}", let_pass.join("\n"));
}

/// The reason of a refusal is the part that was changed.
#[test]
fn the_reason_is_the_right_one() {
    let material = "/verificationMaterial";
    for (vector, pointer, check) in [
        (0, "/dsseEnvelope/payload".to_owned(), Check::Signature),
        (0, "/dsseEnvelope/signatures/0/sig".to_owned(), Check::Signature),
        (0, format!("{material}/x509CertificateChain/certificates/0/rawBytes"), Check::Certificate),
        (0, format!("{material}/tlogEntries/0/inclusionPromise/signedEntryTimestamp"), Check::Log),
        (1, format!("{material}/tlogEntries/0/inclusionPromise/signedEntryTimestamp"), Check::Log),
        (1, format!("{material}/tlogEntries/0/inclusionProof/hashes/0"), Check::Log),
        (1, format!("{material}/tlogEntries/0/inclusionProof/rootHash"), Check::Log),
        (1, format!("{material}/tlogEntries/0/inclusionProof/treeSize"), Check::Log),
        (1, format!("{material}/tlogEntries/0/inclusionProof/checkpoint/envelope"), Check::Log),
        (1, format!("{material}/tlogEntries/0/integratedTime"), Check::Log),
        (1, format!("{material}/tlogEntries/0/logId/keyId"), Check::Log),
        (2, format!("{material}/tlogEntries/0/logIndex"), Check::Log),
        (2, format!("{material}/tlogEntries/0/logId/keyId"), Check::Log),
        (2, format!("{material}/tlogEntries/0/inclusionProof/rootHash"), Check::Log),
        (2, format!("{material}/tlogEntries/0/inclusionProof/treeSize"), Check::Log),
        (2, format!("{material}/tlogEntries/0/canonicalizedBody"), Check::Log),
        (
            2,
            format!("{material}/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp"),
            Check::Timestamp,
        ),
        (2, "/mediaType".to_owned(), Check::Format),
    ] {
        let vector = &VECTORS[vector];
        let trust = vector.trust();
        let mut bad = vector.value();
        let leaf = bad.pointer_mut(&pointer).expect("leaf");
        let text = leaf.as_str().expect("text");
        *leaf = match (text.parse::<u64>(), STANDARD.decode(text)) {
            (Ok(number), _) => json!((number + 1).to_string()),
            (_, Ok(mut bytes)) => {
                let at = bytes.len() / 2;
                bytes[at] ^= 0x01;
                json!(STANDARD.encode(bytes))
            }
            _ => json!(text.replacen('s', "t", 1)),
        };
        let refused = vector.verify(bad.to_string().as_bytes(), &trust).expect_err(&pointer);
        assert_eq!(refused.check, check, "{} {pointer}: {refused}", vector.name);
    }
}

#[test]
fn parts_of_two_bundles_are_none() {
    let (first, second) = (&VECTORS[1], &VECTORS[2]);
    let trust = first.trust();
    let mut swapped = first.value();
    swapped["dsseEnvelope"] = second.value()["dsseEnvelope"].clone();
    let refused = first.verify(swapped.to_string().as_bytes(), &trust).expect_err("swapped");
    assert_eq!(refused.check, Check::Signature, "{refused}");
    let mut swapped = first.value();
    swapped["verificationMaterial"]["tlogEntries"] =
        second.value()["verificationMaterial"]["tlogEntries"].clone();
    assert!(first.verify(swapped.to_string().as_bytes(), &trust).is_err());
    // Another package's bundle, whole.
    let refused = first.verify(VECTORS[0].json.as_bytes(), &trust).expect_err("another's");
    assert_eq!(refused.check, Check::Subject, "{refused}");
    assert_eq!(refused.found, "pkg:npm/sigstore@2.0.0");
}

#[test]
fn the_artifact_has_to_be_the_one() {
    let (vector, trust) = (&VECTORS[0], VECTORS[0].trust());
    let ask = |subject: &Subject, predicate_type| {
        let expected = Expected { subject, predicate_type, identity: None };
        verify::bundle(vector.json.as_bytes(), &trust, &expected)
    };
    let good = vector.subject();
    let mut digest = good.clone();
    digest.digest.insert("sha512".to_owned(), "0".repeat(128));
    let refused = ask(&digest, None).expect_err("digest");
    assert_eq!(
        (refused.check, refused.expected.as_str()),
        (Check::Subject, format!("sha512 {}", "0".repeat(128)).as_str())
    );
    let name = Subject { name: "pkg:npm/sigstore@2.0.1".to_owned(), ..good.clone() };
    let refused = ask(&name, None).expect_err("name");
    assert_eq!(refused.to_string(), "subject: expected pkg:npm/sigstore@2.0.1, found pkg:npm/sigstore@2.0.0");
    // A digest that was not computed is not compared, so it does not count.
    let other = Subject { digest: [("sha256".to_owned(), "0".repeat(64))].into(), ..good.clone() };
    assert_eq!(ask(&other, None).expect_err("algorithm").check, Check::Subject);
    let refused = ask(&good, Some("https://cyclonedx.org/bom")).expect_err("predicate");
    assert_eq!(
        refused.to_string(),
        format!("predicate: expected https://cyclonedx.org/bom, found {PROVENANCE}")
    );
}

#[test]
fn the_signer_has_to_be_the_one() {
    let (vector, trust) = (&VECTORS[0], VECTORS[0].trust());
    let subject = vector.subject();
    let ask = |identity: Value| {
        let identity: Identity = serde_json::from_value(identity).expect("identity");
        let expected = Expected { subject: &subject, predicate_type: None, identity: Some(&identity) };
        verify::bundle(vector.json.as_bytes(), &trust, &expected).map(|_| ())
    };
    for good in [
        json!({"issuer": "https://token.actions.githubusercontent.com"}),
        json!({"subject": "https://github.com/sigstore/sigstore-js/.github/workflows/release.yml@refs/heads/main"}),
        json!({"subject": "https://github.com/sigstore/*@refs/heads/main", "ref": "refs/heads/main"}),
        json!({"repository": "https://github.com/sigstore/sigstore-js", "runner": "github-hosted", "trigger": "push"}),
        json!({"repository-id": "495574555", "owner-id": "71096353"}),
    ] {
        ask(good.clone()).unwrap_or_else(|refused| panic!("{good}: {refused}"));
    }
    for bad in [
        json!({"issuer": "https://token.actions.githubusercontent.com/"}),
        json!({"issuer": "https://gitlab.com"}),
        // A pattern is held against the whole.
        json!({"subject": "https://github.com/sigstore/sigstore-js/.github/workflows/release.yml"}),
        json!({"subject": "*sigstore-js"}),
        json!({"subject": "https://github.com/sigstore/sigstore-js/.github/workflows/release.yml@refs/heads/mai."}),
        json!({"repository": "https://github.com/sigstore/sigstore"}),
        json!({"ref": "refs/tags/*"}),
        json!({"runner": "self-hosted"}),
        json!({"environment": "production"}),
    ] {
        assert_eq!(ask(bad.clone()).expect_err("identity").check, Check::Identity, "{bad}");
    }
    for nothing in ["", "*", "**", " * "] {
        assert!(serde_json::from_value::<Identity>(json!({"subject": nothing})).is_err(), "{nothing:?}");
    }
    assert!(serde_json::from_value::<Identity>(json!({"workflows": "x"})).is_err());
}

/// Another log's key under the right id, another authority, and none at all.
#[test]
fn the_root_has_to_be_the_one() {
    for vector in &VECTORS {
        let root: Value = serde_json::from_str(vector.root).expect("root");
        let refused = |change: &dyn Fn(&mut Value)| {
            let mut root = root.clone();
            change(&mut root);
            vector.verify(vector.json.as_bytes(), &trust(&root)).expect_err(vector.name)
        };
        let keys = |list: &str, root: &mut Value| {
            for log in root[list].as_array_mut().expect("logs") {
                log["publicKey"]["rawBytes"] = OTHER_KEY.into();
            }
        };
        assert_eq!(refused(&|root| keys("tlogs", root)).check, Check::Log, "{}", vector.name);
        assert_eq!(refused(&|root| keys("ctlogs", root)).check, Check::Certificate, "{}", vector.name);
        let refusal = refused(&|root| root["certificateAuthorities"] = json!([]));
        assert_eq!(refusal.check, Check::Certificate, "{}", vector.name);
        let refusal = refused(&|root| root["tlogs"] = json!([]));
        assert!([Check::Log, Check::Timestamp].contains(&refusal.check), "{}: {refusal}", vector.name);
        // Authorities that had ended before the signature.
        let refusal = refused(&|root| {
            for authority in root["certificateAuthorities"].as_array_mut().expect("authorities") {
                authority["validFor"] =
                    json!({"start": "2020-01-01T00:00:00Z", "end": "2021-01-01T00:00:00Z"});
            }
        });
        assert_eq!(refusal.check, Check::Certificate, "{}", vector.name);
        let other = match vector.root == SIGSTORE_PRODUCTION_TRUSTED_ROOT {
            true => SIGSTORE_STAGING_TRUSTED_ROOT,
            false => SIGSTORE_PRODUCTION_TRUSTED_ROOT,
        };
        let other = Trust::from_trusted_root(other.as_bytes()).expect("root");
        assert!(vector.verify(vector.json.as_bytes(), &other).is_err(), "{}", vector.name);
        let nothing = trust(&json!({"mediaType": "x"}));
        let refusal = vector.verify(vector.json.as_bytes(), &nothing).expect_err("nothing");
        assert_eq!(refusal.check, Check::Certificate, "{}", vector.name);
    }
    for bad in ["", "{}", "[]", "null", r#"{"trustedRoot": {}}"#, r#"{"mediaType": "x", "tlogs": [{}]}"#] {
        assert!(Trust::from_trusted_root(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn provenance_is_held_against_its_signer() {
    let vector = &VECTORS[0];
    let good = vector.verify(vector.json.as_bytes(), &vector.trust()).expect("verified");
    let told = verify::provenance(&good, &ExpectedBuild::default()).expect("provenance");
    assert_eq!(told.source.as_deref(), Some("https://github.com/sigstore/sigstore-js"));
    assert_eq!(told.git_ref.as_deref(), Some("refs/heads/main"));
    assert_eq!(told.commit.as_deref(), Some("f0b49a04e5a62250e0f60fb128004a73110fe311"));
    assert_eq!(told.builder, "https://github.com/actions/runner/github-hosted");
    assert_eq!(told.build_level, 2);
    for (expected, ok) in [
        (json!({"source": "https://github.com/sigstore/sigstore-js"}), true),
        (json!({"source": "https://github.com/sigstore/*", "commit": told.commit}), true),
        (json!({"source": "https://github.com/sigstore/sigstore"}), false),
        (json!({"ref": "refs/tags/v2.0.0"}), false),
        (json!({"builder": "https://github.com/actions/runner/self-hosted"}), false),
        (json!({"build-type": "https://protected-registry.dev/*"}), false),
    ] {
        let wanted: ExpectedBuild = serde_json::from_value(expected.clone()).expect("expected");
        let result = verify::provenance(&good, &wanted);
        assert_eq!(result.is_ok(), ok, "{expected}");
        assert!(result.err().is_none_or(|refused| refused.check == Check::Provenance), "{expected}");
    }
    // Signed all the same, by somebody who may sign and says what is not so.
    for (pointer, lie) in [
        (
            "/buildDefinition/resolvedDependencies/0/uri",
            json!("git+https://github.com/evil/sigstore-js@refs/heads/main"),
        ),
        (
            "/buildDefinition/resolvedDependencies/0/uri",
            json!("git+https://github.com/sigstore/sigstore-js@refs/tags/v1"),
        ),
        ("/buildDefinition/resolvedDependencies/0/digest/gitCommit", json!("0".repeat(40))),
        ("/buildDefinition/externalParameters/workflow/repository", json!("https://github.com/evil/x")),
        ("/buildDefinition/externalParameters/workflow/ref", json!("refs/tags/v1")),
        ("/buildDefinition/externalParameters/workflow/path", json!(".github/workflows/other.yml")),
        ("/runDetails/builder/id", json!("https://github.com/actions/runner/self-hosted")),
        (
            "/runDetails/builder/id",
            json!("https://github.com/a/b/.github/workflows/builder.yml@refs/tags/v1"),
        ),
        (
            "/runDetails/metadata/invocationId",
            json!("https://github.com/sigstore/sigstore-js/actions/runs/1/attempts/1"),
        ),
    ] {
        let mut bad = good.clone();
        let statement = bad.statement.as_mut().expect("statement");
        *statement.predicate.pointer_mut(pointer).expect(pointer) = lie;
        let refused = verify::provenance(&bad, &ExpectedBuild::default()).expect_err(pointer);
        assert_eq!(refused.check, Check::Provenance, "{pointer}: {refused}");
    }
}

/// A statement that a key signed, without an authority, a log and a timestamp.
#[test]
fn a_key_stands_for_itself() {
    let key = KeyPair::generate_ecdsa_p256().expect("key");
    let public = key.public_key_der().expect("public key");
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "pkg:npm/a@1.0.0", "digest": {"sha256": "0".repeat(64)}}],
        "predicateType": PROVENANCE,
        "predicate": {},
    });
    let payload = statement.to_string();
    let signature = key.sign(&pae(PAYLOAD_TYPE, payload.as_bytes())).expect("signature");
    let bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {
            "publicKey": {"hint": STANDARD.encode(Sha256::of(public.as_bytes()).as_bytes())},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": STANDARD.encode(&payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": STANDARD.encode(signature.as_bytes())}],
        },
    });
    let subject = Subject {
        name: "pkg:npm/a@1.0.0".to_owned(),
        digest: [("sha256".to_owned(), "0".repeat(64))].into(),
    };
    let trust = Trust::from_public_key(&public.to_pem()).expect("trust");
    let ask = |bundle: &Value, trust: &Trust, identity: Option<&Identity>| {
        let expected = Expected { subject: &subject, predicate_type: Some(PROVENANCE), identity };
        verify::bundle(bundle.to_string().as_bytes(), trust, &expected)
    };
    let verified = ask(&bundle, &trust, None).expect("signed by the key");
    assert_eq!(verified.signer, Signer::Key { sha256: Sha256::of(public.as_bytes()) });

    let mut pointers = Vec::new();
    leaves(&bundle, String::new(), &mut pointers);
    for pointer in pointers {
        for other in others(bundle.pointer(&pointer).expect("leaf"), 200) {
            let mut bad = bundle.clone();
            *bad.pointer_mut(&pointer).expect("leaf") = other.clone();
            // Without a hint the key is the one that is given, and a hint is a text, in which some write hexadecimal.
            let hex = Sha256::of(public.as_bytes()).to_string();
            let same = pointer.ends_with("/hint") && (other == "" || other == hex.as_str());
            assert_eq!(ask(&bad, &trust, None).is_ok(), same, "{pointer} = {other}");
        }
    }
    let stranger = KeyPair::generate_ecdsa_p256().and_then(|key| key.public_key_der()).expect("key");
    let stranger = Trust::from_public_key(&stranger.to_pem()).expect("trust");
    assert_eq!(ask(&bundle, &stranger, None).expect_err("another key").check, Check::Signature);
    let public_good = Trust::public_good().expect("root");
    let refused = ask(&bundle, &public_good, None).expect_err("no key is trusted");
    assert!([Check::Log, Check::Certificate].contains(&refused.check), "{refused}");
    let identity = serde_json::from_value(json!({"issuer": "https://gitlab.com"})).expect("identity");
    let refused = ask(&bundle, &trust, Some(&identity)).expect_err("no certificate");
    assert_eq!(refused.check, Check::Identity);
    for bad in ["", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        assert!(Trust::from_public_key(bad).is_err(), "{bad}");
    }
}
