//! Keys that sign.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use protected_keys::KeyError;
use protected_model::digest::Sha256;
use serde_json::Value;

use crate::{
    P256, World,
    fake::{crc32c, pem},
    named,
};

const ONE: &str = "release/cryptoKeyVersions/1";

#[tokio::test]
async fn signs_with_the_version_that_is_named() {
    let world = World::new();
    world.key("release", P256);
    let key = world.signing(ONE).await.expect("key");
    world.fake.cloud().rotate(&named("release"));
    let signature = key.sign(&Sha256::of("message")).await.expect("signature");
    let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key()).expect("public key");
    public.verify_sig(b"message", &signature).expect("it verifies");
    assert!(public.verify_sig(b"messagf", &signature).is_err());
    let two = world.signing("release/cryptoKeyVersions/2").await.expect("key");
    assert_ne!(two.public_key(), key.public_key());

    world.fake.cloud().set_state(&named("release"), 1, "DISABLED");
    let error = key.sign(&Sha256::of("message")).await.expect_err("disabled");
    assert!(error.to_string().contains("current state is: DISABLED"), "{error}");
}

#[tokio::test]
async fn a_key_that_is_not_one_version_of_p256_does_not_sign() {
    let world = World::new();
    world.key("release", P256);
    world.key("wide", "EC_SIGN_P384_SHA384");
    for (name, reason) in [
        ("release", "expected /cryptoKeyVersions/<n> at the end of the reference"),
        (
            "wide/cryptoKeyVersions/1",
            "expected a key for `EC_SIGN_P256_SHA256`, found one for `EC_SIGN_P384_SHA384`",
        ),
        ("acme/cryptoKeyVersions/1", "has no public key"),
        ("release/cryptoKeyVersions/9", "not found"),
    ] {
        let error = world.signing(name).await.err().expect(name);
        assert!(error.to_string().contains(reason), "{name}: {error}");
    }
}

/// Attack: another key, another version's signature, or one of something else, in place of what was asked for.
#[tokio::test]
async fn answers_that_do_not_add_up_are_not_used() {
    let world = World::new();
    world.key("release", P256);
    type Change = Box<dyn Fn(&mut Value) + Send>;
    let keys: Vec<(&str, Change)> = vec![
        ("its name", Box::new(|body| body["name"] = named("release/cryptoKeyVersions/2").into())),
        ("does not have the checksum", Box::new(|body| body["pem"] = pem("PUBLIC KEY", &[1; 91]).into())),
        ("without a checksum", Box::new(|body| body["pemCrc32c"] = Value::Null)),
        (
            "its public key is not PEM",
            Box::new(|body| {
                body["pem"] = "?".into();
                body["pemCrc32c"] = crc32c(b"?").to_string().into();
            }),
        ),
    ];
    for (reason, change) in keys {
        world.fake.tamper(move |_, answer| change(&mut answer.body));
        let error = world.signing(ONE).await.err().expect(reason);
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
    world.fake.honest();
    let key = world.signing(ONE).await.expect("key");
    let signatures: Vec<(&str, Change)> = vec![
        ("the version that it signed with", Box::new(|body| body["name"] = named("release").into())),
        ("did not compare", Box::new(|body| body["verifiedDigestCrc32c"] = false.into())),
        ("does not have the checksum", Box::new(|body| body["signature"] = STANDARD.encode([1; 70]).into())),
        ("without a checksum", Box::new(|body| body["signatureCrc32c"] = Value::Null)),
        ("is not base64", Box::new(|body| body["signature"] = "?".into())),
    ];
    for (reason, change) in signatures {
        world.fake.tamper(move |_, answer| change(&mut answer.body));
        let error = key.sign(&Sha256::of("message")).await.expect_err(reason);
        assert!(matches!(error, KeyError::Answer { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
}
