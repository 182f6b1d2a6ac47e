//! Azure's own clients for Python: they judge the stand-in, and exchange wrapped keys, signatures and grants with us.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use protected_bundle::DataKey;
use protected_keys::connect_to_sign;
use protected_model::digest::Sha256;
use serde_json::{Value, json};

use crate::{
    SECRET, Scene, Wanted, context,
    fake::{CRYPTO_USER, GROUP, SUBSCRIPTION, TENANT, id_token, key_scope, vault_scope},
    is_forbidden, python, reference,
};

/// Runs the script with `input`, and returns what it says.
async fn python(scene: &Scene, input: &Value) -> Value {
    let folder = tempfile::tempdir().expect("folder");
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, scene.azure.authority_pem()).expect("write");
    let proxy = scene.azure.proxy();
    let environment = [("HTTPS_PROXY", proxy.as_ref()), ("REQUESTS_CA_BUNDLE", authority.as_os_str())];
    python::answer("azure-sdk", "azure_key_vault/sdk.py", &environment, input).await
}

#[tokio::test]
async fn azures_own_clients_and_ours_understand_each_other() {
    let scene = Scene::start().await;
    scene.azure.assign(scene.publisher, CRYPTO_USER, &vault_scope("acme"));
    let signing = scene.azure.ec("acme", "release");
    let publisher = scene.connect(&scene.key, "publisher");
    let key = DataKey::generate().expect("key");
    let wrapped = publisher.wrap(&key, &context("one")).await.expect("wrapped").text;
    let (version, value) = wrapped.split_once(':').expect("version");
    let settings = scene.settings("publisher", &[]);
    let signer = connect_to_sign(&reference(&signing), &settings, &scene.http).await.expect("key");
    let signature = signer.sign(&Sha256::of("message")).await.expect("signature");
    // Made by us, to be found and revoked by them.
    let ours = Wanted::new("ours", scene.customer);
    let granted = ours.grant(&*publisher).await.expect("granted");

    let url = |key: &str| {
        let path = key.strip_prefix("azure-keyvault://acme/").expect("reference");
        format!("https://acme.vault.azure.net/keys/{path}")
    };
    let said = python(
        &scene,
        &json!({
            "tenant": TENANT, "client": "publisher", "secret": SECRET, "assertion": id_token(&json!({})),
            "foreign_assertion": id_token(&json!({"sub": "repo:acme/fork"})),
            "subscription": SUBSCRIPTION, "group": GROUP, "vault": "acme",
            "scope": key_scope("acme", "core"),
            "wrapping_key": url(&scene.key), "signing_key": url(&signing),
            "wrapped": value, "data_key": hex::encode([9; 32]),
            "signature": hex::encode(&signature), "message": "message",
            "granted": granted, "other": scene.other, "unknown": uuid::Uuid::nil(),
        }),
    )
    .await;

    // Theirs of ours.
    assert_eq!(said["unwrapped"], hex::encode(key.reveal()));
    assert_eq!(said["verified"], true);
    assert_eq!(said["public_key"], hex::encode(signer.public_key()));
    assert_eq!(said["description"], "protected-registry delivery ours");
    assert_eq!(said["listed"], json!([granted]));
    assert_eq!(said["rbac"], true);
    // Ours of theirs: what they wrapped here, by another library, and what they made the vault sign.
    let theirs = format!("{version}:{}", said["wrapped"].as_str().expect("wrapped"));
    let opened = publisher.unwrap(&theirs, &context("two")).await.expect("opened");
    assert_eq!(opened.reveal(), &[9; 32]);
    let theirs = hex::decode(said["signature"].as_str().expect("signature")).expect("hex");
    let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, signer.public_key()).expect("public key");
    public.verify_sig(b"message", &theirs).expect("it verifies");
    let other = scene.connect(&scene.key, "other");
    other.unwrap(&wrapped, &context("one")).await.expect("they granted it");
    let theirs = Wanted::new("theirs", scene.other);
    assert_eq!(theirs.found(&*publisher).await[0].reference, said["assignment"].as_str().expect("id"));
    assert!(theirs.revoke(&*publisher).await.expect("revoked"));
    assert!(is_forbidden(&other.unwrap(&wrapped, &context("one")).await.expect_err("revoked")));
    let customer = scene.connect(&scene.key, "customer");
    assert!(is_forbidden(&customer.unwrap(&wrapped, &context("one")).await.expect_err("they revoked it")));
    // The stand-in says no as their clients know it.
    assert_eq!(
        said["refusals"],
        json!({
            "duplicate": "RoleAssignmentExists", "renamed": "RoleAssignmentUpdateNotPermitted",
            "principal": "PrincipalNotFound", "missing": "KeyNotFound", "ciphertext": "BadParameter",
            "secret": true, "subject": true,
        })
    );
    assert!(scene.azure.strangers().is_empty(), "{:?}", scene.azure.strangers());
}
