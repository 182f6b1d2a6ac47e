//! Google's own clients for Python: they judge the stand-in, and exchange wrapped keys, signatures and grants with us.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use protected_model::digest::Sha256;
use serde_json::json;

use crate::{
    GLOBEX, INITECH, JOB, P256, PUBLISHER, Terms, World, context, data_key,
    fake::{Issuer, POOL},
    named, python,
};

#[tokio::test]
async fn googles_own_clients_and_ours_understand_each_other() {
    let world = World::new();
    world.key("release", P256);
    world.fake.cloud().rotate(&named("acme"));
    let signing = named("release/cryptoKeyVersions/1");
    let publisher = world.connect("acme", PUBLISHER);
    let key = data_key();
    let wrapped = publisher.wrap(&key, &context("one")).await.expect("wrapped");
    let signer = world.signing("release/cryptoKeyVersions/1").await.expect("key");
    let signature = signer.sign(&Sha256::of("message")).await.expect("signature");
    let ours = Terms::new("ours", GLOBEX, "2099-01-01T00:00:00Z".parse().ok());
    publisher.grant(&ours.get()).await.expect("granted");

    let issuer = Issuer::new();
    let email = PUBLISHER.strip_prefix("serviceAccount:").expect("account");
    let (token, stranger) = {
        let mut cloud = world.fake.cloud();
        cloud.trust(&issuer);
        cloud.account(email, Some(&issuer), Some(JOB));
        cloud.bind(&named("acme"), "roles/cloudkms.cryptoKeyEncrypter", JOB);
        (cloud.token(PUBLISHER), cloud.token(INITECH))
    };
    let files = tempfile::tempdir().expect("folder");
    let identity = files.path().join("token");
    let audience = format!("https://iam.googleapis.com/{POOL}/providers/jobs");
    std::fs::write(&identity, issuer.id_token(&audience, |_| {})).expect("written");
    let here = world.fake.url();
    let mut job = json!({
        "type": "external_account",
        "audience": format!("//iam.googleapis.com/{POOL}/providers/jobs"),
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": format!("{here}/v1/token"),
        "credential_source": {"file": identity},
    });
    let mut input = json!({
        "host": here.strip_prefix("http://"),
        "token": token, "stranger": stranger, "grantee": INITECH,
        "key": named("acme"), "signing": signing,
        "aad": STANDARD.encode(bound_to("one")),
        "data_key": hex::encode([9; 32]), "wrapped": wrapped.text,
        "message": "message", "signature": hex::encode(&signature),
        "account": issuer.file(email, &format!("{here}/token")),
        "job": job,
    });
    job["service_account_impersonation_url"] =
        format!("{here}/v1/projects/-/serviceAccounts/{email}:generateAccessToken").into();
    input["job as account"] = job;
    let said = python::answer("google-sdk", "gcp_kms/sdk.py", &[], &input).await;

    // Theirs of ours.
    assert_eq!(said["opened"], hex::encode(key.reveal()));
    assert_eq!(
        said["found"],
        json!([{
            "members": [GLOBEX],
            "title": "protected-registry:ours",
            "expression": "request.time < timestamp(\"2099-01-01T00:00:00Z\")",
        }])
    );
    // Ours of theirs.
    let theirs = said["wrapped"].as_str().expect("wrapped");
    assert_eq!(publisher.unwrap(theirs, &context("one")).await.expect("opened").reveal(), &[9; 32]);
    let signature = hex::decode(said["signature"].as_str().expect("signature")).expect("hex");
    let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, signer.public_key()).expect("public key");
    public.verify_sig(b"message", &signature).expect("it verifies");
    let theirs = Terms::new("theirs", INITECH, None);
    let found = publisher.grants(&theirs.bundle, &theirs.context).await.expect("grants");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].expires_at, "2098-01-01T00:00:00Z".parse().ok());
    assert!(publisher.revoke(&theirs.get()).await.expect("revoked").was);

    // What they say of the stand-in.
    let version = named("acme/cryptoKeyVersions/2");
    for who in ["version", "job", "job as account", "account"] {
        assert_eq!(said[who], version, "{who}");
    }
    assert_eq!(said["pinned"], named("acme/cryptoKeyVersions/1"));
    assert_eq!(said["algorithm"], P256);
    assert_eq!(said["written"], 1);
    let roles = said["roles without conditions"].to_string();
    assert!(roles.contains("roles/cloudkms.cryptoKeyDecrypter_withcond_"), "{roles}");
    for (what, refusal) in [
        ("wrong aad", "400 Decryption failed: the ciphertext is invalid."),
        ("wrong plaintext checksum", "400 The checksum in field plaintext_crc32c"),
        ("wrong ciphertext checksum", "400 The checksum in field ciphertext_crc32c"),
        ("wrong digest checksum", "400 The checksum in field digest_crc32c"),
        ("stranger", "403 Permission 'cloudkms.cryptoKeyVersions.useToEncrypt' denied"),
        ("old etag", "409 There were concurrent policy changes."),
        ("old version", "400 "),
    ] {
        let found = said[what].as_str().expect(what);
        assert!(found.starts_with(refusal), "{what}: {found}");
    }
}

/// What a bundle's wrapping is bound to, by the format's own words: SHA-256 of the context's canonical JSON.
fn bound_to(bundle: &str) -> Vec<u8> {
    let canonical = format!("{{\"bundle_id\":\"{bundle}\",\"tenant_id\":\"acme\"}}");
    Sha256::of(canonical).as_bytes().to_vec()
}
