//! A key that signs in its vault.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use protected_keys::{KeyError, SigningKey, connect_to_sign};
use protected_model::digest::Sha256;

use crate::{
    Scene,
    fake::{CRYPTO_USER, Lie, vault_scope},
    reference,
};

async fn signing(scene: &Scene, key: &str, application: &str) -> Result<Box<dyn SigningKey>, KeyError> {
    connect_to_sign(&reference(key), &scene.settings(application, &[]), &scene.http).await
}

#[tokio::test]
async fn signs_what_its_public_key_verifies() {
    let scene = Scene::start().await;
    scene.azure.assign(scene.publisher, CRYPTO_USER, &vault_scope("acme"));
    let key_ref = scene.azure.ec("acme", "release");
    let key = signing(&scene, &key_ref, "publisher").await.expect("key");
    let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key()).expect("public key");
    assert!(scene.azure.public_pem(&key_ref).contains(&STANDARD.encode(key.public_key())));
    // Often enough to meet numbers that start with zeros or a high bit.
    for n in 0..64 {
        let message = format!("message {n}");
        let signature = key.sign(&Sha256::of(&message)).await.expect("signature");
        public.verify_sig(message.as_bytes(), &signature).expect("it verifies");
        assert!(public.verify_sig(b"another", &signature).is_err());
    }
    scene.azure.lie(Lie::Signature);
    let error = key.sign(&Sha256::of("message")).await.expect_err("another digest");
    assert!(matches!(error, KeyError::Sign { .. }), "{error}");
    scene.azure.lie(Lie::OtherVersion);
    let error = key.sign(&Sha256::of("message")).await.expect_err("another version");
    assert!(matches!(error, KeyError::Answer { .. }), "{error}");
    scene.azure.lie(None);
    scene.azure.disable(&key_ref);
    let error = key.sign(&Sha256::of("message")).await.expect_err("disabled");
    assert!(matches!(error, KeyError::Service { status: 403, .. }), "{error}");
}

#[tokio::test]
async fn refuses_a_key_that_is_not_one_to_sign_with() {
    let scene = Scene::start().await;
    scene.azure.assign(scene.publisher, CRYPTO_USER, &vault_scope("acme"));
    let only_verifies = scene.azure.ec("acme", "verifies");
    scene.azure.allow_only(&only_verifies, &["verify"]);
    let disabled = scene.azure.ec("acme", "disabled");
    scene.azure.disable(&disabled);
    for (key, says) in [
        (&disabled, "this version of it is disabled"),
        (&scene.key, "expected a key of type `EC` on `P-256`, found `RSA` on `none`"),
        (&only_verifies, "`sign` is not among its operations"),
    ] {
        let error = signing(&scene, key, "publisher").await.err().expect(says);
        assert!(matches!(error, KeyError::Sign { .. }) && error.to_string().contains(says), "{error}");
    }
    let key = scene.azure.ec("acme", "release");
    scene.azure.lie(Lie::OtherKey);
    let error = signing(&scene, &key, "publisher").await.err().expect("another key");
    assert!(matches!(error, KeyError::Answer { .. }), "{error}");
    scene.azure.lie(None);
    let error = signing(&scene, &key, "customer").await.err().expect("no role");
    assert!(matches!(error, KeyError::Service { status: 403, .. }) && error.hint().is_some(), "{error}");
}
