//! The private Sigstore, signed with and verified by programs that nobody here wrote.

use std::{path::PathBuf, process::Stdio, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use protected_http::{Client, Response, Settings};
use protected_model::{
    api::audit::Decision,
    environment::Environment,
    secret::{AccessToken, Secret as _},
    service_url::ServiceUrl,
};
use serde_json::{Value, json};
use sha2::Digest as _;
use sigstore_sign::{
    SigningContext, SigningServices, crypto::KeyPair, oidc::IdentityToken, rekor::RekorApiVersion,
};
use sigstore_verify::{VerificationPolicy, Verifier, trust_root::TrustedRoot, types::Bundle};

use super::{
    restart::{Remote, started},
    service::{Service, chain_length, configuration, refused},
};
use crate::sigstore::verify_log;

const ARTIFACT: &[u8] = b"what is signed";
/// The subject of the example's run.
const SUBJECT: &str = "repo:acme/core:ref:refs/heads/main";
/// Its workflow: the local issuer's origin stands for the server.
const WORKFLOW: &str = "acme/core/.github/workflows/release.yml@refs/heads/main";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const CERTIFICATE: &str = "sigstore/api/v2/signingCert";
const LOG_V1: &str = "sigstore/api/v1/log/entries";
const LOG_V2: &str = "sigstore/api/v2/log/entries";
const TIMESTAMP: &str = "sigstore/api/v1/timestamp";

fn sha256(bytes: &[u8]) -> Vec<u8> {
    sha2::Sha256::digest(bytes).to_vec()
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

fn statement() -> String {
    let digests = json!({"sha256": hex::encode(sha256(ARTIFACT)), "sha512": hex::encode(sha2::Sha512::digest(ARTIFACT))});
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "pkg:npm/%40acme/core@1.0.0", "digest": digests}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": predicate(),
    })
    .to_string()
}

fn predicate() -> Value {
    json!({
        "buildDefinition": {"buildType": "https://example.org/type/v1", "externalParameters": {}},
        "runDetails": {"builder": {"id": "https://example.org/builder/v1"}},
    })
}

fn context(service: &Service, version: RekorApiVersion) -> SigningContext {
    let url = format!("{}/sigstore", service.issuer());
    let services = SigningServices::new(&url, &url)
        .with_rekor(&url, version)
        .with_tsa_url(format!("{url}/api/v1/timestamp"));
    SigningContext::new(services)
}

async fn document(service: &Service, name: &str) -> Value {
    let response =
        service.http.get(service.url.join(&format!("sigstore/{name}"))).send().await.expect("answer");
    assert_eq!(response.status, 200, "{:?}", response.body());
    response.json().expect("json")
}

async fn verifier(service: &Service) -> Verifier {
    let root = document(service, "trusted_root.json").await.to_string();
    Verifier::new(&TrustedRoot::from_json(&root).expect("trusted root")).expect("verifier")
}

fn policy(service: &Service) -> VerificationPolicy {
    let issuer = format!("{}/local-issuer/github-actions", service.issuer());
    VerificationPolicy::new(format!("{}/{WORKFLOW}", service.issuer()), issuer)
}

#[tokio::test]
async fn a_run_signs_and_sigstore_rust_verifies() {
    let service = Service::start().await;
    for version in [RekorApiVersion::V1, RekorApiVersion::V2] {
        let id_token = service.id_token("github-actions", "release", "sigstore").await;
        let session = service.session("release").await;
        for token in [id_token.as_str(), session.reveal()] {
            let signer = context(&service, version).signer(IdentityToken::from_jwt(token).expect("token"));
            let bundle = signer.sign_raw_statement(statement().as_bytes()).await.expect("signed");
            let bundle = Bundle::from_json(&bundle.to_json().expect("json")).expect("bundle");
            let verified =
                verifier(&service).await.verify(ARTIFACT, &bundle, &policy(&service)).expect("verified");
            assert!(verified.sct_verified() && verified.tlog_verified(), "{version:?}");
            verifier(&service)
                .await
                .verify(b"else", &bundle, &policy(&service))
                .expect_err("another artifact");
        }
    }
}

/// A key and, once it was asked for, its certificate: every request by hand, so that each can be wrong.
struct Signer {
    key: KeyPair,
    certificate: String,
}

impl Signer {
    /// Gets a certificate for a run's session.
    async fn new(service: &Service) -> Self {
        let session = service.session("release").await;
        Self::of(&service.http, &service.url, &session).await.expect("a certificate")
    }

    /// Gets a certificate, or nothing from a service that has ended.
    async fn of(http: &Client, url: &ServiceUrl, session: &AccessToken) -> Option<Self> {
        let key = KeyPair::generate_ecdsa_p256().expect("key");
        let request = by_key(&key, SUBJECT, Some(session.reveal()));
        let response = http.post(url.join(CERTIFICATE)).json(&request).send().await.ok()?;
        assert_eq!(response.status, 201, "{:?}", response.body());
        let value: Value = response.json().expect("json");
        let chain = &value["signedCertificateEmbeddedSct"]["chain"]["certificates"];
        assert_eq!(chain.as_array().map(Vec::len), Some(3));
        Some(Self { key, certificate: chain[0].as_str().expect("pem").to_owned() })
    }

    fn der(&self) -> Vec<u8> {
        sigstore_verify::types::DerCertificate::from_pem(&self.certificate).expect("pem").as_bytes().to_vec()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message).expect("signature").as_bytes().to_vec()
    }

    fn envelope(&self, payload: &[u8]) -> Value {
        let pae = sigstore_verify::types::pae(PAYLOAD_TYPE, payload);
        json!({
            "payload": b64(payload), "payloadType": PAYLOAD_TYPE, "signatures": [{"sig": b64(self.sign(&pae))}],
        })
    }

    fn dsse(&self, envelope: &Value) -> Value {
        let content = json!({"envelope": envelope.to_string(), "verifiers": [b64(&self.certificate)]});
        json!({"apiVersion": "0.0.1", "kind": "dsse", "spec": {"proposedContent": content}})
    }

    fn hashedrekord(&self, message: &[u8]) -> Value {
        json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": hex::encode(sha256(message))}},
            "signature": {"content": b64(self.sign(message)), "publicKey": {"content": b64(&self.certificate)}},
        }})
    }

    fn hashedrekord_v2(&self, message: &[u8]) -> Value {
        json!({"hashedRekordRequestV002": {
            "digest": b64(sha256(message)),
            "signature": {
                "content": b64(self.sign(message)),
                "verifier": {
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "x509Certificate": {"rawBytes": b64(self.der())},
                },
            },
        }})
    }

    /// Signs the statement by hand into a bundle, with the log's second API and a timestamp.
    async fn bundle(&self, service: &Service) -> Bundle {
        let payload = statement();
        let envelope = self.envelope(payload.as_bytes());
        let pae = sigstore_verify::types::pae(PAYLOAD_TYPE, payload.as_bytes());
        let mut request = self.hashedrekord_v2(&pae);
        // The same signature as the envelope's: ECDSA signs differently each time.
        request["hashedRekordRequestV002"]["signature"]["content"] = envelope["signatures"][0]["sig"].clone();
        let logged = post(service, LOG_V2, &request, None).await;
        assert_eq!(logged.status, 201, "{:?}", logged.body());
        let signature =
            STANDARD.decode(envelope["signatures"][0]["sig"].as_str().expect("sig")).expect("base64");
        let wanted = json!({"artifactHash": b64(sha256(&signature)), "hashAlgorithm": "sha256"});
        let stamped = post(service, TIMESTAMP, &wanted, None).await;
        assert_eq!(stamped.status, 201, "{:?}", stamped.body());
        let bundle = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": b64(self.der())},
                "tlogEntries": [logged.json::<Value>().expect("json")],
                "timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": b64(stamped.body())}]},
            },
            "dsseEnvelope": envelope,
        });
        Bundle::from_json(&bundle.to_string()).expect("bundle")
    }
}

/// Asks for a certificate by key and proof: the signature of `proven`.
fn by_key(key: &KeyPair, proven: &str, token: Option<&str>) -> Value {
    let proof = key.sign(proven.as_bytes()).expect("proof");
    let content = key.public_key_der().expect("key").to_pem();
    let mut request = json!({
        "publicKeyRequest": {
            "publicKey": {"algorithm": "ECDSA", "content": content},
            "proofOfPossession": b64(proof.as_bytes()),
        },
    });
    if let Some(token) = token {
        request["credentials"] = json!({"oidcIdentityToken": token});
    }
    request
}

/// Asks for a certificate by a PKCS #10 request for `key`, signed by `signer`.
fn by_request(key: &KeyPair, signer: &KeyPair) -> Value {
    use der::{Decode as _, Encode as _, EncodePem as _, asn1::BitString, pem::LineEnding};
    use x509_cert::{
        name::Name,
        request::{CertReq, CertReqInfo, Version},
        spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
    };

    let spki = key.public_key_der().expect("key");
    let info = CertReqInfo {
        version: Version::V1,
        subject: Name::default(),
        public_key: SubjectPublicKeyInfoOwned::from_der(spki.as_bytes()).expect("spki"),
        attributes: Default::default(),
    };
    let signature = signer.sign(&info.to_der().expect("der")).expect("signature");
    let oid = der::asn1::ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
    let request = CertReq {
        info,
        algorithm: AlgorithmIdentifierOwned { oid, parameters: None },
        signature: BitString::from_bytes(signature.as_bytes()).expect("bits"),
    };
    json!({"certificateSigningRequest": b64(request.to_pem(LineEnding::LF).expect("pem"))})
}

async fn post(service: &Service, path: &str, body: &Value, bearer: Option<&str>) -> Response {
    let request = service.http.post(service.url.join(path)).json(body);
    match bearer {
        Some(token) => request.bearer(&AccessToken::new(token)).send().await.expect("answer"),
        None => request.send().await.expect("answer"),
    }
}

async fn get(service: &Service, path: &str) -> Response {
    service.http.get(service.url.join(path)).send().await.expect("answer")
}

#[tokio::test]
async fn a_certificate_says_which_verified_run_has_it() {
    use x509_cert::{Certificate, der::DecodePem as _};

    let service = Service::start().await;
    let signer = Signer::new(&service).await;
    let certificate = Certificate::from_pem(&signer.certificate).expect("certificate");
    assert!(certificate.tbs_certificate.subject.0.is_empty());
    let validity = certificate.tbs_certificate.validity;
    let seconds =
        validity.not_after.to_unix_duration().as_secs() - validity.not_before.to_unix_duration().as_secs();
    assert_eq!(seconds, 600);
    let extensions = certificate.tbs_certificate.extensions.expect("extensions");
    let of_fulcio = |arc: u32| {
        let oid = format!("1.3.6.1.4.1.57264.1.{arc}");
        let value = extensions.iter().find(|it| it.extn_id.to_string() == oid)?.extn_value.as_bytes();
        // A text in DER has two bytes more; those of the first arcs are the text.
        String::from_utf8(value[if arc < 8 { 0 } else { 2 }..].to_vec()).ok()
    };
    let base = service.issuer();
    let sha = "0123456789abcdef0123456789abcdef01234567";
    for (arc, expected) in [
        (1, format!("{base}/local-issuer/github-actions")),
        (2, "push".to_owned()),
        (3, sha.to_owned()),
        (5, "acme/core".to_owned()),
        (6, "refs/heads/main".to_owned()),
        (8, format!("{base}/local-issuer/github-actions")),
        (9, format!("{base}/{WORKFLOW}")),
        (10, sha.to_owned()),
        (11, "self-hosted".to_owned()),
        (12, format!("{base}/acme/core")),
        (13, sha.to_owned()),
        (14, "refs/heads/main".to_owned()),
        (15, "2002".to_owned()),
        (16, format!("{base}/acme")),
        (17, "1001".to_owned()),
        (18, format!("{base}/{WORKFLOW}")),
        (19, sha.to_owned()),
        (20, "push".to_owned()),
        (21, format!("{base}/acme/core/actions/runs/3003/attempts/1")),
        (22, "private".to_owned()),
    ] {
        assert_eq!(of_fulcio(arc), Some(expected), "{arc}");
    }
    assert_eq!((of_fulcio(4), of_fulcio(7), of_fulcio(23)), (None, None, None));
    let event = service.last_event().await;
    assert_eq!((event.action.as_str(), event.decision), ("certificate.issue", Decision::Allow));
    assert_eq!(event.policy_id.as_deref(), Some("acme-core-release"));
    assert_eq!(event.tenant_id.expect("tenant").to_string(), "acme");
    assert_eq!(event.actor.run_id.as_deref(), Some("3003"));
}

#[tokio::test]
async fn a_refused_request_is_explained_and_does_not_use_the_token_up() {
    let service = Service::start().await;
    let id_token = service.id_token("github-actions", "release", "sigstore").await;
    let key = KeyPair::generate_ecdsa_p256().expect("key");
    let other = KeyPair::generate_ecdsa_p256().expect("key");
    let good = by_key(&key, SUBJECT, None);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let p384 = "-----BEGIN PUBLIC KEY-----\nMHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEqofKIr6LBTeOscce8yCtdG4dO2KLp5uY\nWfdB4IJUKjhVAvJdv1UpbDpUXjhydgq3NhfeSpYmLG9dnpi/kpLcKfj0Hb0omhR8\n6doxE7XwuMAKYLHOHX6BnXpDHXyQ6g5f\n-----END PUBLIC KEY-----\n";
    let both = {
        let mut request = by_request(&key, &key);
        request["publicKeyRequest"] = good["publicKeyRequest"].clone();
        request
    };
    for (request, expected) in [
        (json!({}), "either `publicKeyRequest` or `certificateSigningRequest`"),
        (both, "either `publicKeyRequest` or `certificateSigningRequest`"),
        (
            by_key(&key, "repo:acme/core:ref:refs/heads/other", None),
            "signature of the token's `sub`, `repo:acme/core:ref:refs/heads/main`",
        ),
        (
            with(&|it| {
                it["publicKeyRequest"]["publicKey"]["content"] =
                    other.public_key_der().expect("key").to_pem().into()
            }),
            "`proofOfPossession` does not verify",
        ),
        (
            with(&|it| it["publicKeyRequest"]["proofOfPossession"] = "".into()),
            "`proofOfPossession` does not verify",
        ),
        (
            with(&|it| it["publicKeyRequest"]["proofOfPossession"] = "?".into()),
            "`proofOfPossession`: expected base64",
        ),
        (with(&|it| it["publicKeyRequest"]["publicKey"]["content"] = p384.into()), "expected ECDSA on P-256"),
        (
            with(&|it| it["publicKeyRequest"]["publicKey"]["content"] = "key".into()),
            "expected PEM of a `PUBLIC KEY`",
        ),
        (
            with(&|it| {
                it["publicKeyRequest"]["publicKey"]["content"] = p384.replace("PUBLIC", "PRIVATE").into()
            }),
            "the PEM is a `PRIVATE KEY`, expected `PUBLIC KEY`",
        ),
        (by_request(&key, &other), "expected it to be signed by the key that it holds"),
        (json!({"certificateSigningRequest": b64("x")}), "expected PEM of a `CERTIFICATE REQUEST`"),
    ] {
        let response = post(&service, CERTIFICATE, &request, Some(&id_token)).await;
        let problem = refused(&response, 400, "invalid_request");
        assert!(problem.message().contains(expected), "{}", problem.message());
        let event = service.last_event().await;
        assert_eq!((event.action.as_str(), event.decision), ("certificate.issue", Decision::Deny));
    }
    let twice = by_key(&key, SUBJECT, Some(&id_token));
    let problem =
        refused(&post(&service, CERTIFICATE, &twice, Some(&id_token)).await, 400, "invalid_request");
    assert!(problem.message().contains("two credentials"));
    // What is wrong is told without what stands there.
    let misplaced = json!({"credentials": id_token, "publicKeyRequest": good["publicKeyRequest"]});
    let problem = refused(&post(&service, CERTIFICATE, &misplaced, None).await, 400, "invalid_request");
    assert!(problem.message().contains("column") && !problem.message().contains(&id_token[..20]));
    let large = json!({"certificateSigningRequest": "A".repeat(65 * 1024)});
    refused(&post(&service, CERTIFICATE, &large, Some(&id_token)).await, 413, "too_large");
    refused(&post(&service, CERTIFICATE, &good, None).await, 401, "unauthenticated");

    assert_eq!(post(&service, CERTIFICATE, &by_request(&key, &key), Some(&id_token)).await.status, 201);
    let problem = refused(&post(&service, CERTIFICATE, &good, Some(&id_token)).await, 400, "token_replayed");
    assert!(problem.hint.expect("hint").contains("session"));
    let trail = serde_json::to_string(&service.events().await).expect("json");
    assert!(!trail.contains(&id_token));
}

#[tokio::test]
async fn who_is_no_known_run_gets_no_certificate() {
    let service = Service::start().await;
    let key = KeyPair::generate_ecdsa_p256().expect("key");
    let ask = async |token: &str, proven: &str| {
        post(&service, CERTIFICATE, &by_key(&key, proven, Some(token)), None).await
    };

    let wrong = service.id_token("github-actions", "release", &service.issuer()).await;
    let problem = refused(&ask(&wrong, SUBJECT).await, 400, "invalid_id_token");
    assert!(problem.message().contains("expected `sigstore`"), "{}", problem.message());

    let foreign = Service::start().await.id_token("github-actions", "release", "sigstore").await;
    let problem = refused(&ask(&foreign, SUBJECT).await, 400, "invalid_id_token");
    assert!(problem.message().contains("which is not trusted here"), "{}", problem.message());

    for (platform, run, proven, code) in [
        ("github-actions", "stranger", "repo:evil/core:ref:refs/heads/main", "no_trusted_publisher"),
        ("github-actions", "pull-request", "repo:acme/core:pull_request", "no_trusted_publisher"),
        ("generic", "maintainer", "maria", "invalid_request"),
    ] {
        let token = service.id_token(platform, run, "sigstore").await;
        let problem = refused(&ask(&token, proven).await, 400, code);
        if run == "pull-request" {
            assert_eq!(problem.nearest_policy.as_deref(), Some("acme-core-release"));
            assert!(problem.rules.iter().any(|rule| !rule.ok && rule.claim == "event_name"));
        }
    }
    let npm: Value = service
        .mint(&service.session("release").await, &super::service::wanted("@acme/plain", "install"))
        .await
        .json()
        .expect("json");
    refused(&ask(npm["token"].as_str().expect("token"), SUBJECT).await, 400, "invalid_id_token");
    refused(&ask(service.operator().reveal(), SUBJECT).await, 400, "invalid_id_token");

    let session = service.session("release").await;
    assert_eq!(ask(session.reveal(), SUBJECT).await.status, 201);
    assert_eq!(ask(session.reveal(), SUBJECT).await.status, 201);
    service.revoke(session.reveal()).await;
    refused(&ask(session.reveal(), SUBJECT).await, 401, "token_revoked");

    let (late, over) =
        (service.id_token("github-actions", "release", "sigstore").await, service.session("release").await);
    service.pass(1000);
    let problem = refused(&ask(&late, SUBJECT).await, 400, "invalid_id_token");
    assert!(problem.message().contains("expired"), "{}", problem.message());
    refused(&ask(over.reveal(), SUBJECT).await, 401, "token_expired");
}

#[tokio::test]
async fn the_log_takes_what_verifies_by_a_key_that_is_known_now() {
    let service = Service::start().await;
    let signer = Signer::new(&service).await;
    let envelope = signer.envelope(statement().as_bytes());
    let with = |value: &Value, change: &dyn Fn(&mut Value)| {
        let mut value = value.clone();
        change(&mut value);
        value
    };
    let (dsse, blob, v2) =
        (signer.dsse(&envelope), signer.hashedrekord(ARTIFACT), signer.hashedrekord_v2(ARTIFACT));
    let size = async || {
        let log: Value = get(&service, "sigstore/api/v1/log").await.json().expect("json");
        log["treeSize"].as_u64().expect("size")
    };
    let before = size().await;
    let two = with(&envelope, &|it| it["signatures"] = json!([it["signatures"][0], it["signatures"][0]]));
    let changed = with(&envelope, &|it| it["payload"] = b64("else").into());
    let other_type = with(&envelope, &|it| it["payloadType"] = "text/plain".into());
    let unknown = KeyPair::generate_ecdsa_p256().expect("key").public_key_der().expect("key");
    for (path, request, expected) in [
        (LOG_V1, signer.dsse(&changed), "the signature does not verify"),
        (LOG_V1, signer.dsse(&other_type), "the signature does not verify"),
        (LOG_V1, signer.dsse(&two), "the envelope has 2 signatures, expected one"),
        (
            LOG_V1,
            with(&dsse, &|it| it["spec"]["proposedContent"]["verifiers"] = json!([])),
            "`verifiers` has 0 entries, expected one",
        ),
        (
            LOG_V1,
            with(&dsse, &|it| it["spec"]["proposedContent"]["envelope"] = "{}".into()),
            "expected a DSSE envelope",
        ),
        (
            LOG_V1,
            with(&dsse, &|it| it["spec"]["proposedContent"]["verifiers"][0] = b64(unknown.to_pem()).into()),
            "none that this log takes entries of",
        ),
        (
            LOG_V1,
            with(&dsse, &|it| it["kind"] = "intoto".into()),
            "the entry is `intoto` `0.0.1`, expected `dsse` or `hashedrekord` `0.0.1`",
        ),
        (LOG_V1, with(&dsse, &|it| it["apiVersion"] = "0.0.2".into()), "`dsse` `0.0.2`"),
        (
            LOG_V1,
            with(&dsse, &|it| it["kind"] = "hashedrekord".into()),
            "`data` and `signature` of a hashedrekord",
        ),
        (
            LOG_V1,
            with(&blob, &|it| it["spec"]["data"]["hash"]["value"] = hex::encode(sha256(b"else")).into()),
            "the signature does not verify",
        ),
        (
            LOG_V1,
            with(&blob, &|it| it["spec"]["data"]["hash"]["value"] = "00".into()),
            "the digest has 1 bytes, expected 32",
        ),
        (
            LOG_V1,
            with(&blob, &|it| it["spec"]["data"]["hash"]["algorithm"] = "sha512".into()),
            "the hash is `sha512`, expected `sha256`",
        ),
        (
            LOG_V1,
            with(&blob, &|it| it["spec"]["signature"]["content"] = b64("x").into()),
            "the signature does not verify",
        ),
        (
            LOG_V2,
            with(&v2, &|it| it["hashedRekordRequestV002"]["digest"] = b64(sha256(b"else")).into()),
            "the signature does not verify",
        ),
        (
            LOG_V2,
            with(&v2, &|it| {
                it["hashedRekordRequestV002"]["signature"]["verifier"]["keyDetails"] = "PKIX_ED25519".into()
            }),
            "`keyDetails` is `PKIX_ED25519`, expected `PKIX_ECDSA_P256_SHA_256`",
        ),
        (
            LOG_V2,
            with(&v2, &|it| {
                it["hashedRekordRequestV002"]["signature"]["verifier"]["publicKey"] = json!({"rawBytes": ""})
            }),
            "expected either `x509Certificate` or `publicKey`",
        ),
        (
            LOG_V2,
            with(&v2, &|it| {
                it["hashedRekordRequestV002"]["signature"]["verifier"]["x509Certificate"]["rawBytes"] =
                    b64("x").into()
            }),
            "the certificate cannot be read",
        ),
    ] {
        let response = post(&service, path, &request, None).await;
        let text = String::from_utf8_lossy(response.body());
        assert!(response.status == 400 && text.contains(expected), "{expected}: {text}");
    }
    let response = post(&service, LOG_V2, &json!({"dsseRequestV002": {}}), None).await;
    let problem = refused(&response, 501, "invalid_request");
    assert!(problem.hint.expect("hint").contains("hashedrekord"));

    for (path, bytes) in [(LOG_V1, 8 * 1024 * 1024), (LOG_V2, 64 * 1024), (TIMESTAMP, 64 * 1024)] {
        let response = post(&service, path, &json!({"kind": "A".repeat(bytes)}), None).await;
        refused(&response, 413, "too_large");
    }

    // A certificate of another authority, and one of this one's that is not for signing.
    let elsewhere = Service::start().await;
    let theirs = Signer::new(&elsewhere).await;
    let root = document(&service, "trusted_root.json").await;
    let stamps = &root["timestampAuthorities"][0]["certChain"]["certificates"][0];
    for (request, expected) in [
        (theirs.hashedrekord_v2(ARTIFACT), "expected one that this service issued"),
        (
            with(&v2, &|it| {
                it["hashedRekordRequestV002"]["signature"]["verifier"]["x509Certificate"] = stamps.clone()
            }),
            "expected one that this service issued",
        ),
    ] {
        let problem = refused(&post(&service, LOG_V2, &request, None).await, 400, "invalid_document");
        assert!(problem.message().contains(expected), "{}", problem.message());
    }
    assert_eq!(size().await, before);

    for (path, request) in [(LOG_V1, &dsse), (LOG_V1, &blob), (LOG_V2, &v2)] {
        assert_eq!(post(&service, path, request, None).await.status, 201);
    }
    assert_eq!(size().await, before + 3);
    service.pass(601);
    for request in [signer.hashedrekord_v2(b"late"), v2] {
        let problem = refused(&post(&service, LOG_V2, &request, None).await, 400, "invalid_document");
        assert!(problem.message().contains("the certificate is valid from"), "{}", problem.message());
    }
    assert_eq!(size().await, before + 3);
}

#[tokio::test]
async fn an_entry_is_logged_once() {
    let service = Service::start().await;
    let signer = Signer::new(&service).await;
    let blob = signer.hashedrekord(ARTIFACT);
    let first = post(&service, LOG_V1, &blob, None).await;
    let location = first.header("location").expect("location").to_owned();
    let again = post(&service, LOG_V1, &blob, None).await;
    refused(&again, 409, "invalid_document");
    assert_eq!(again.header("location"), Some(location.as_str()));
    let (first, there): (Value, Value) =
        (first.json().expect("json"), get(&service, &location).await.json().expect("json"));
    let (id, entry) = first.as_object().and_then(|it| it.iter().next()).expect("entry");
    assert_eq!(there[id]["body"], entry["body"]);
    assert_eq!(there[id]["logIndex"], entry["logIndex"]);
    let index = entry["logIndex"].as_u64().expect("index");
    let by_index: Value = get(&service, &format!("{LOG_V1}?logIndex={index}")).await.json().expect("json");
    assert_eq!(by_index[id]["body"], entry["body"]);
    let by_leaf: Value = get(&service, &format!("{LOG_V1}/{}", &id[16..])).await.json().expect("json");
    assert_eq!(by_leaf[id]["body"], entry["body"]);
    refused(&get(&service, &format!("{LOG_V1}?logIndex={}", index + 1)).await, 404, "not_found");
    refused(&get(&service, &format!("{LOG_V1}/{}", "0".repeat(80))).await, 404, "not_found");
    refused(&get(&service, &format!("{LOG_V1}/1")).await, 400, "invalid_request");
    refused(&get(&service, LOG_V1).await, 400, "invalid_request");

    let v2 = signer.hashedrekord_v2(ARTIFACT);
    let first: Value = post(&service, LOG_V2, &v2, None).await.json().expect("json");
    post(&service, LOG_V2, &signer.hashedrekord_v2(b"between"), None).await;
    let again: Value = post(&service, LOG_V2, &v2, None).await.json().expect("json");
    assert_eq!(
        (&first["logIndex"], &first["canonicalizedBody"]),
        (&again["logIndex"], &again["canonicalizedBody"])
    );
    assert_ne!(first["inclusionProof"]["treeSize"], again["inclusionProof"]["treeSize"]);
}

#[tokio::test]
async fn a_key_that_the_configuration_names_may_log() {
    let key = KeyPair::generate_ecdsa_p256().expect("key");
    let spki = key.public_key_der().expect("key");
    let setting = format!("[sigstore]\npublic_keys = [\"\"\"{}\"\"\"]", spki.to_pem());
    let service = Service::start_with(|text| text.replace("[sigstore]", &setting)).await;
    let signature = b64(key.sign(ARTIFACT).expect("signature").as_bytes());
    let v1 = json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
        "data": {"hash": {"algorithm": "sha256", "value": hex::encode(sha256(ARTIFACT))}},
        "signature": {"content": signature, "publicKey": {"content": b64(spki.to_pem())}},
    }});
    let v2 = json!({"hashedRekordRequestV002": {
        "digest": b64(sha256(ARTIFACT)),
        "signature": {"content": signature, "verifier": {
            "keyDetails": "PKIX_ECDSA_P256_SHA_256", "publicKey": {"rawBytes": b64(spki.as_bytes())},
        }},
    }});
    for (path, request) in [(LOG_V1, v1), (LOG_V2, v2)] {
        let response = post(&service, path, &request, None).await;
        assert_eq!(response.status, 201, "{:?}", response.body());
    }
}

#[tokio::test]
async fn a_monitor_sees_that_the_log_only_grew() {
    use sigstore_merkle::verify_consistency_proof;
    use sigstore_verify::types::{Checkpoint, Sha256Hash};

    let service = Service::start().await;
    let signer = Signer::new(&service).await;
    let checkpoint = async || {
        let response = get(&service, "sigstore/api/v2/checkpoint").await;
        Checkpoint::from_text(&String::from_utf8_lossy(response.body())).expect("checkpoint")
    };
    let mut kept = vec![checkpoint().await];
    for number in 0..9 {
        post(&service, LOG_V2, &signer.hashedrekord_v2(&[number]), None).await;
        kept.push(checkpoint().await);
    }
    let now = kept.last().expect("checkpoint");
    for old in &kept {
        let path =
            format!("sigstore/api/v1/log/proof?firstSize={}&lastSize={}", old.tree_size(), now.tree_size());
        let proof: Value = get(&service, &path).await.json().expect("json");
        let hashes = proof["hashes"].as_array().expect("hashes").iter();
        let hashes: Vec<_> =
            hashes.map(|hash| Sha256Hash::from_hex(hash.as_str().expect("hex")).expect("hash")).collect();
        verify_consistency_proof(old.tree_size(), now.tree_size(), &hashes, old.root_hash(), now.root_hash())
            .expect("only grew");
        assert_eq!(proof["rootHash"], now.root_hash().to_hex());
    }
    for (query, status) in [
        ("firstSize=0&lastSize=3", 400),
        ("firstSize=4&lastSize=3", 400),
        ("lastSize=11", 400),
        ("", 400),
        ("lastSize=10", 200),
    ] {
        assert_eq!(
            get(&service, &format!("sigstore/api/v1/log/proof?{query}")).await.status,
            status,
            "{query}"
        );
    }
    let pem = get(&service, "sigstore/api/v1/log/publicKey").await;
    let key =
        sigstore_verify::types::DerPublicKey::from_pem(&String::from_utf8_lossy(pem.body())).expect("pem");
    let root = document(&service, "trusted_root.json").await;
    assert_eq!(root["tlogs"][0]["publicKey"]["rawBytes"], b64(key.as_bytes()));
    let bundle: Value = get(&service, "sigstore/api/v2/trustBundle").await.json().expect("json");
    assert_eq!(bundle["chains"][0]["certificates"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_timestamp_is_of_what_was_asked() {
    use der::{
        Decode as _, Encode as _,
        asn1::{Int, ObjectIdentifier, OctetString},
    };
    use x509_cert::spki::AlgorithmIdentifierOwned;
    use x509_tsp::{MessageImprint, TimeStampReq, TimeStampResp, TspVersion};

    let service = Service::start().await;
    let ask = |oid: &str, digest: &[u8], nonce: Option<&[u8]>, policy: Option<&str>| TimeStampReq {
        version: TspVersion::V1,
        message_imprint: MessageImprint {
            hash_algorithm: AlgorithmIdentifierOwned {
                oid: ObjectIdentifier::new_unwrap(oid),
                parameters: None,
            },
            hashed_message: OctetString::new(digest).expect("digest"),
        },
        req_policy: policy.map(ObjectIdentifier::new_unwrap),
        nonce: nonce.map(|nonce| Int::new(nonce).expect("nonce")),
        cert_req: false,
        extensions: None,
    };
    let send = async |body: Vec<u8>| {
        let request = service.http.post(service.url.join(TIMESTAMP));
        request.body(body.into(), "application/timestamp-query").send().await.expect("answer")
    };
    const SHA256: &str = "2.16.840.1.101.3.4.2.1";
    let nonce = [0x7f, 1, 2, 3, 4, 5, 6, 7];
    let response = send(ask(SHA256, &sha256(ARTIFACT), Some(&nonce), None).to_der().expect("der")).await;
    assert_eq!(
        (response.status, response.header("content-type")),
        (201, Some("application/timestamp-reply"))
    );
    let reply = TimeStampResp::from_der(response.body()).expect("reply");
    let token = reply.time_stamp_token.expect("token");
    let data: cms::signed_data::SignedData = token.content.decode_as().expect("signed data");
    assert!(data.certificates.is_none(), "not asked for");
    let info = data.encap_content_info.econtent.expect("content");
    let info = x509_tsp::TstInfo::from_der(info.value()).expect("info");
    assert_eq!(info.nonce.expect("nonce").as_bytes(), nonce);
    assert_eq!(info.message_imprint.hashed_message.as_bytes(), sha256(ARTIFACT));
    let apart =
        info.gen_time.to_unix_duration().as_secs().abs_diff(jiff::Timestamp::now().as_second() as u64);
    assert!(apart < 60, "{apart}");

    for (request, expected) in [
        (
            ask("1.3.14.3.2.26", &[0; 20], None, None),
            "the digest's algorithm is `1.3.14.3.2.26`, expected one of sha256",
        ),
        (ask(SHA256, &[0; 20], None, None), "the digest has 20 bytes, expected 32"),
        (ask(SHA256, &[0; 32], Some(&[1; 33]), None), "the nonce is longer"),
        (ask(SHA256, &[0; 32], None, Some("1.3.6.1.4.1.57264.3")), "the policy is 1.3.6.1.4.1.57264.3"),
    ] {
        let problem = refused(&send(request.to_der().expect("der")).await, 400, "invalid_request");
        assert!(problem.message().contains(expected), "{}", problem.message());
    }
    refused(&send(b"x".to_vec()).await, 400, "invalid_request");
    for (request, expected) in [
        (json!({"artifactHash": b64([0; 16]), "hashAlgorithm": "md5"}), "the digest's algorithm is `md5`"),
        (
            json!({"artifactHash": b64([0; 16]), "hashAlgorithm": "sha512"}),
            "the digest has 16 bytes, expected 64",
        ),
        (json!({"artifactHash": "?", "hashAlgorithm": "sha256"}), "`artifactHash`: expected base64"),
    ] {
        let problem = refused(&post(&service, TIMESTAMP, &request, None).await, 400, "invalid_request");
        assert!(problem.message().contains(expected), "{}", problem.message());
    }
    let request = service.http.post(service.url.join(TIMESTAMP)).body("x".into(), "text/plain");
    refused(&request.send().await.expect("answer"), 415, "invalid_request");
}

#[tokio::test]
async fn what_old_keys_signed_still_verifies() {
    const AGO: i64 = 200 * 24 * 60 * 60;
    let service = Service::start_ago(AGO).await;
    // New keys take over while it runs, at the next sweep.
    let rotated = async |keys: usize| {
        service.pass(AGO / 2);
        for _ in 0..600 {
            let root = document(&service, "trusted_root.json").await;
            if root["tlogs"].as_array().is_some_and(|them| them.len() == keys) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("no new keys took over");
    };
    let old = Signer::new(&service).await.bundle(&service).await;
    rotated(2).await;
    let middle = Signer::new(&service).await.bundle(&service).await;
    rotated(3).await;
    let new = Signer::new(&service).await.bundle(&service).await;
    let root = document(&service, "trusted_root.json").await;
    for kind in ["tlogs", "certificateAuthorities", "ctlogs", "timestampAuthorities"] {
        assert_eq!(root[kind].as_array().map(Vec::len), Some(3), "{kind}");
    }
    for bundle in [&old, &middle, &new] {
        verifier(&service).await.verify(ARTIFACT, bundle, &policy(&service)).expect("verified");
    }
    for windows in [&root["tlogs"], &root["ctlogs"]] {
        let window = |index: usize, end: &str| windows[index]["publicKey"]["validFor"][end].clone();
        assert!(window(0, "end").is_string() && window(0, "end") == window(1, "start"));
        assert!(window(1, "end") == window(2, "start") && window(2, "end").is_null());
    }
    // Each key for its own time: the second is not believed for what the first could have signed.
    let mut narrowed = root.clone();
    narrowed["certificateAuthorities"] = json!([root["certificateAuthorities"][1]]);
    let narrowed =
        Verifier::new(&TrustedRoot::from_json(&narrowed.to_string()).expect("root")).expect("verifier");
    narrowed.verify(ARTIFACT, &middle, &policy(&service)).expect("its own");
    narrowed.verify(ARTIFACT, &old, &policy(&service)).expect_err("another's");
    let folder = service.stop().await;
    assert!(chain_length(&folder.path().join("data")) > 0);
}

#[tokio::test]
async fn it_can_be_switched_off() {
    let service = Service::start_with(|text| text.replace("[sigstore]", "[sigstore]\nenabled = false")).await;
    let metadata: Value = get(&service, ".well-known/oauth-authorization-server").await.json().expect("json");
    assert!(metadata.get("sigstore_url").is_none());
    refused(&get(&service, "sigstore/trusted_root.json").await, 404, "not_found");
    refused(&get(&service, "sigstore/api/v1/log").await, 404, "not_found");
    refused(&post(&service, CERTIFICATE, &json!({}), None).await, 404, "not_found");
    refused(&post(&service, LOG_V2, &json!({}), None).await, 404, "not_found");
    assert!(!service.data().join("keys/sigstore.json").exists());

    let service = Service::start().await;
    let metadata: Value = get(&service, ".well-known/oauth-authorization-server").await.json().expect("json");
    assert_eq!(metadata["sigstore_url"], format!("{}/sigstore", service.issuer()));
    use std::os::unix::fs::PermissionsExt as _;
    let mode =
        std::fs::metadata(service.data().join("keys/sigstore.json")).expect("keys").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_kill_leaves_a_log_that_verifies_and_nothing_logged_is_lost() {
    const ROUNDS: u64 = 6;
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("config.toml"), configuration(folder.path())).expect("config");
    let settings = Settings::from_environment(&Environment::default(), None, "test/1").expect("settings");
    let mut acknowledged: Vec<(u64, Value)> = Vec::new();
    for round in 0..ROUNDS {
        let (child, url) = started(folder.path()).await;
        let client =
            Remote { url, http: Client::new(&settings).expect("client"), data: folder.path().join("data") };
        for (index, body) in &acknowledged {
            let url = client.url.join(&format!("{LOG_V1}?logIndex={index}"));
            let there: Value = client.http.get(url).send().await.expect("answer").json().expect("json");
            let entry = there.as_object().and_then(|it| it.values().next()).expect("entry");
            assert_eq!((&entry["body"], &entry["logIndex"]), (body, &json!(index)));
        }
        let at_work = tokio::sync::Notify::new();
        let work = async {
            let session = client.session().await.expect("a session");
            let signer = Signer::of(&client.http, &client.url, &session).await.expect("a certificate");
            at_work.notify_one();
            for number in 0_u64.. {
                let request = signer.hashedrekord_v2(format!("{round} {number}").as_bytes());
                let sent = client.http.post(client.url.join(LOG_V2)).json(&request).send();
                let Ok(response) = sent.await else { return };
                assert_eq!(response.status, 201, "{:?}", response.body());
                let logged: Value = response.json().expect("json");
                let index = logged["logIndex"].as_str().and_then(|it| it.parse().ok()).expect("index");
                acknowledged.push((index, logged["canonicalizedBody"].clone()));
            }
        };
        let kill = async {
            at_work.notified().await;
            tokio::time::sleep(Duration::from_millis((round * 37) % 200 + 20)).await;
            drop(child);
        };
        tokio::join!(work, kill);
    }
    assert!(acknowledged.len() >= ROUNDS as usize, "{}", acknowledged.len());
    // The first entry is nobody's.
    assert!(verify_log(&folder.path().join("data")) > acknowledged.len() as u64);
}

/// A peer's program, under `target/tools`.
fn tool(path: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/tools").join(path);
    assert!(path.exists(), "{} is missing: run `cargo xtask tools`", path.display());
    path
}

/// Runs a peer, and returns whether it succeeded and what it said.
async fn run(program: PathBuf, arguments: &[&str], token: &str) -> (bool, String) {
    let output = tokio::process::Command::new(program)
        .args(arguments)
        .env("SIGSTORE_TOKEN", token)
        .stdin(Stdio::null())
        .output()
        .await
        .expect("started");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
async fn sigstore_python_and_sigstore_js_sign_and_each_verifies_the_others() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().expect("folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("utf-8").to_owned();
    let write =
        |name: &str, content: &[u8]| std::fs::write(folder.path().join(name), content).expect("written");
    write("artifact", ARTIFACT);
    write("else", b"something else");
    write("statement", statement().as_bytes());
    write("predicate", predicate().to_string().as_bytes());
    write("root", document(&service, "trusted_root.json").await.to_string().as_bytes());
    write("config", document(&service, "client_trust_config.json").await.to_string().as_bytes());
    let base = format!("{}/sigstore", service.issuer());
    let (python, node) = (tool("sigstore-python/bin/sigstore"), tool("node-24/bin/node"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/sigstore.mjs");
    let libraries = tool("sigstore-js").to_str().expect("utf-8").to_owned();

    let mut bundles = Vec::new();
    for version in ["1", "2"] {
        for kind in ["dsse", "blob"] {
            let token = service.id_token("github-actions", "release", "sigstore").await;
            let (config, bundle) = (path("config"), path(&format!("python-{kind}-{version}")));
            let (verb, predicate) = (if kind == "dsse" { "attest" } else { "sign" }, path("predicate"));
            let artifact = path("artifact");
            let mut arguments = vec!["--trust-config", &config, verb, "--rekor-version", version];
            arguments.extend(["--identity-token", &token, "--bundle", &bundle]);
            if kind == "dsse" {
                arguments.extend([
                    "--predicate",
                    &predicate,
                    "--predicate-type",
                    "https://slsa.dev/provenance/v1",
                ]);
            }
            arguments.push(&artifact);
            let (good, said) = run(python.clone(), &arguments, "").await;
            assert!(good, "sigstore-python {kind} {version}: {said}");
            bundles.push(bundle);
        }
        for kind in ["dsse", "blob"] {
            let token = service.id_token("github-actions", "release", "sigstore").await;
            let bundle = path(&format!("js-{kind}-{version}"));
            let payload = path(if kind == "dsse" { "statement" } else { "artifact" });
            let arguments = [script, "sign", &libraries, kind, version, &base, &payload, &bundle];
            let (good, said) = run(node.clone(), &arguments, &token).await;
            // Its own kind of entry for envelopes is one that the others do not read.
            assert_eq!(good, (kind, version) != ("dsse", "2"), "sigstore-js {kind} {version}: {said}");
            if good {
                bundles.push(bundle);
            }
        }
        let version = if version == "1" { RekorApiVersion::V1 } else { RekorApiVersion::V2 };
        let token = service.id_token("github-actions", "release", "sigstore").await;
        let signer = context(&service, version).signer(IdentityToken::from_jwt(&token).expect("token"));
        let signed = signer.sign_raw_statement(statement().as_bytes()).await.expect("signed");
        let bundle = path(&format!("rust-{version:?}"));
        std::fs::write(&bundle, signed.to_json().expect("json")).expect("written");
        bundles.push(bundle);
    }
    assert_eq!(bundles.len(), 9);

    let identity = format!("{}/{WORKFLOW}", service.issuer());
    let issuer = format!("{}/local-issuer/github-actions", service.issuer());
    let (root, config) = (path("root"), path("config"));
    let by_js = async |bundle: &str, artifact: &str, identity: &str| {
        run(node.clone(), &[script, "verify", &libraries, &root, bundle, artifact, identity, &issuer], "")
            .await
    };
    let by_python = async |bundle: &str, artifact: &str, identity: &str| {
        let arguments = ["--trust-config", &config, "verify", "identity", "--offline", "--bundle", bundle];
        let wanted = ["--cert-identity", identity, "--cert-oidc-issuer", &issuer, artifact];
        run(python.clone(), &[arguments.as_slice(), &wanted].concat(), "").await
    };
    let (artifact, other) = (path("artifact"), path("else"));
    for bundle in &bundles {
        let (good, said) = by_js(bundle, &artifact, &identity).await;
        assert!(good, "sigstore-js on {bundle}: {said}");
        let (good, said) = by_python(bundle, &artifact, &identity).await;
        assert!(good, "sigstore-python on {bundle}: {said}");
        let read = Bundle::from_json(&std::fs::read_to_string(bundle).expect("bundle")).expect("bundle");
        verifier(&service).await.verify(ARTIFACT, &read, &policy(&service)).expect("sigstore-rust");
    }
    // They do verify: another artifact, and another workflow, are refused.
    for (artifact, identity) in [(&other, identity.as_str()), (&artifact, "https://github.com/acme/core")] {
        let (bundle, who) = (&bundles[0], format!("{artifact} {identity}"));
        assert!(!by_js(bundle, artifact, identity).await.0, "{who}");
        assert!(!by_python(bundle, artifact, identity).await.0, "{who}");
    }
}
