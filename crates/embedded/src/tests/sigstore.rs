//! The private Sigstore, signed with and verified by programs that nobody here wrote.

use protected_model::secret::Secret as _;
use serde_json::{Value, json};
use sigstore_sign::{SigningContext, SigningServices, oidc::IdentityToken, rekor::RekorApiVersion};
use sigstore_verify::{VerificationPolicy, Verifier, trust_root::TrustedRoot, types::Bundle};

use super::service::Service;

const ARTIFACT: &[u8] = b"what is signed";
/// The name of the example's run: the local issuer's origin stands for the server.
const WORKFLOW: &str = "acme/core/.github/workflows/release.yml@refs/heads/main";

fn statement() -> String {
    use sha2::Digest as _;

    let digests = json!({
        "sha256": hex::encode(sha2::Sha256::digest(ARTIFACT)),
        "sha512": hex::encode(sha2::Sha512::digest(ARTIFACT)),
    });
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "pkg:npm/%40acme/core@1.0.0", "digest": digests}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {"buildDefinition": {"buildType": "https://example.org/type/v1", "externalParameters": {}}},
    })
    .to_string()
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
