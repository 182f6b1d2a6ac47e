//! Provenance at admission: bundles that a real client has had signed by the authority, good ones and every other kind.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use protected_http::Response;
use protected_model::{
    digest::{Integrity, Sha256},
    secret::{AccessToken, Secret as _},
};
use serde_json::{Value, json};
use sigstore_sign::{SigningContext, SigningServices, oidc::IdentityToken, rekor::RekorApiVersion};

use super::service::{Service, refused, wanted};
use crate::registry::tests::{published_document, tarball};

const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
const PACKAGE: &str = "@acme/plain";

/// SLSA provenance of a package's tarball, as a tool that is not ours writes it.
fn provenance(package: &str, version: &str, bytes: &[u8]) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{
            "name": format!("pkg:npm/{}@{version}", package.replace('@', "%40")),
            "digest": {"sha256": Sha256::of(bytes), "sha512": Integrity::of(bytes).hex()},
        }],
        "predicateType": PROVENANCE,
        "predicate": {
            "buildDefinition": {"buildType": "https://example.org/type/v1", "externalParameters": {}},
            "runDetails": {"builder": {"id": "https://example.org/builder"}},
        },
    })
}

impl Service {
    /// Has a statement signed by the identity of a token, as a bundle.
    async fn signed(&self, token: &str, statement: &Value) -> String {
        let url = format!("{}/sigstore", self.issuer());
        let services = SigningServices::new(&url, &url)
            .with_rekor(&url, RekorApiVersion::V2)
            .with_tsa_url(format!("{url}/api/v1/timestamp"));
        let signer = SigningContext::new(services).signer(IdentityToken::from_jwt(token).expect("token"));
        let bundle = signer.sign_raw_statement(statement.to_string().as_bytes()).await.expect("signed");
        bundle.to_json().expect("json")
    }

    async fn signed_by(&self, run: &str, statement: &Value) -> String {
        let session = self.session(run).await;
        self.signed(session.reveal(), statement).await
    }

    async fn token(&self, bearer: &AccessToken, mode: &str) -> AccessToken {
        let minted: Value = self.mint(bearer, &wanted(PACKAGE, mode)).await.json().expect("answer");
        AccessToken::new(minted["token"].as_str().unwrap_or_else(|| panic!("{minted}")))
    }

    /// Publishes `@acme/plain` with a bundle, by the run `release`.
    async fn publish(&self, version: &str, bytes: &[u8], bundle: &str) -> Response {
        let session = self.session("release").await;
        let token = self.token(&session, "publish").await;
        self.publish_as(&token, version, bytes, bundle).await
    }

    async fn publish_as(&self, token: &AccessToken, version: &str, bytes: &[u8], bundle: &str) -> Response {
        let mut upload = published_document(PACKAGE, version, bytes);
        upload["_attachments"][format!("{PACKAGE}-{version}.sigstore")] = json!({
            "content_type": "application/vnd.dev.sigstore.bundle.v0.3+json", "data": bundle, "length": bundle.len(),
        });
        let at = self.url.join("repository/npm-hosted/@acme%2fplain");
        self.http.put(at).bearer(token).json(&upload).send().await.expect("answer")
    }

    async fn read(&self, path: &str) -> Response {
        let session = self.session("release").await;
        let token = self.token(&session, "install").await;
        self.get(&format!("repository/npm-hosted/{path}"), &token).await
    }
}

/// Returns the statement of a bundle.
fn statement(bundle: &Value) -> Value {
    let payload = bundle["dsseEnvelope"]["payload"].as_str().expect("payload");
    serde_json::from_slice(&STANDARD.decode(payload).expect("base64")).expect("statement")
}

#[tokio::test]
async fn a_runs_own_provenance_is_served_summarised_and_kept() {
    let service = Service::start().await;
    let bytes = tarball(PACKAGE, "1.0.0");
    let bundle = service.signed_by("release", &provenance(PACKAGE, "1.0.0", &bytes)).await;
    let response = service.publish("1.0.0", &bytes, &bundle).await;
    assert_eq!(response.status, 201, "{}", String::from_utf8_lossy(response.body()));

    // Private: not where npm looks, and all of it at our own path.
    let packument: Value = service.read("@acme%2fplain").await.json().expect("packument");
    assert!(packument["versions"]["1.0.0"]["dist"].get("attestations").is_none());
    refused(&service.read("-/npm/v1/attestations/@acme%2fplain@1.0.0").await, 404, "not_found");
    let all: Value =
        service.read("-/protected-registry/v1/attestations/@acme%2fplain@1.0.0").await.json().expect("all");
    let all = all["attestations"].as_array().expect("attestations");
    assert_eq!((all.len(), &all[0]["predicateType"]), (3, &json!(PROVENANCE)));
    assert_eq!(all[0]["bundle"], serde_json::from_str::<Value>(&bundle).expect("bundle"));
    let summary = statement(&all[2]["bundle"]);
    // The run of the example does not say whose its runner is.
    assert_eq!(summary["predicate"]["verifiedLevels"], json!(["SLSA_BUILD_LEVEL_1"]), "{summary}");
    assert_eq!(
        summary["predicate"]["inputAttestations"],
        json!([{"uri": PROVENANCE, "digest": {"sha256": Sha256::of(&bundle)}}])
    );

    let operator = service.operator();
    let found: Value = service.get("v1/evidence?type=sigstore-bundle", &operator).await.json().expect("page");
    let [record] = found["items"].as_array().expect("items").as_slice() else { panic!("{found}") };
    assert_eq!(record["sha256"], json!(Sha256::of(&bundle)));
    assert_eq!(record["publisher"]["repository_id"], "2002");
    let token_id = record["token_id"].as_str().expect("token id").to_owned();
    let event = service.events().await.into_iter().find(|event| event.action == "registry.publish");
    assert_eq!(Sha256::of(event.expect("event").token_jti.expect("jti")).to_string(), token_id);
    // After a restart it is all there still.
    let service = service.restart().await;
    let again: Value =
        service.read("-/protected-registry/v1/attestations/@acme/plain@1.0.0").await.json().expect("all");
    assert_eq!(again["attestations"].as_array(), Some(all));
}

#[tokio::test]
async fn what_chains_to_what_npm_trusts_is_served_where_npm_looks() {
    let service = Service::start().await;
    let root = service.http.get(service.url.join("sigstore/trusted_root.json")).send().await.expect("answer");
    let file = service.data().join("npm-root.json");
    std::fs::write(&file, root.body()).expect("written");
    let line = format!("npm_trusted_root = {:?}", file.display().to_string());
    let service = service
        .restart_with(|text| text.replace("# npm_trusted_root = \"mirrored-trusted-root.json\"", &line))
        .await;
    let bytes = tarball(PACKAGE, "1.0.0");
    let bundle = service.signed_by("release", &provenance(PACKAGE, "1.0.0", &bytes)).await;
    assert_eq!(service.publish("1.0.0", &bytes, &bundle).await.status, 201);
    let packument: Value = service.read("@acme%2fplain").await.json().expect("packument");
    let attestations = &packument["versions"]["1.0.0"]["dist"]["attestations"];
    assert_eq!(attestations["provenance"]["predicateType"], PROVENANCE);
    let url = attestations["url"].as_str().expect("url");
    let below = url.strip_prefix(&format!("{}/repository/npm-hosted/", service.issuer())).expect("ours");
    let served: Value = service.read(below).await.json().expect("attestations");
    let served = served["attestations"].as_array().expect("list");
    // Neither the publish attestation nor the summary: npm would take them for tampering.
    assert_eq!((served.len(), &served[0]["predicateType"]), (1, &json!(PROVENANCE)));
}

#[tokio::test]
async fn what_is_not_the_runs_own_provenance_of_these_bytes_is_refused() {
    let service = Service::start().await;
    let bytes = tarball(PACKAGE, "1.0.0");
    let good = provenance(PACKAGE, "1.0.0", &bytes);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut statement = good.clone();
        change(&mut statement);
        statement
    };
    let session = service.session("release").await;
    let lies = [
        ("another package", "subject", provenance("@acme/core", "1.0.0", &bytes)),
        ("another version", "subject", provenance(PACKAGE, "1.0.1", &bytes)),
        ("another tarball", "subject", provenance(PACKAGE, "1.0.0", b"other")),
        (
            "one digest of another tarball",
            "subject",
            changed(&|it| {
                it["subject"][0]["digest"]["sha512"] = Integrity::of(b"other").hex().into();
            }),
        ),
        (
            "two subjects",
            "subject",
            changed(&|it| {
                let other = provenance("@acme/core", "1.0.0", b"other")["subject"][0].clone();
                it["subject"].as_array_mut().expect("subjects").push(other);
            }),
        ),
        (
            "no provenance",
            "predicate",
            changed(&|it| it["predicateType"] = "https://cyclonedx.org/bom".into()),
        ),
        (
            "provenance of another commit",
            "provenance",
            changed(&|it| {
                it["predicate"]["buildDefinition"]["resolvedDependencies"] = json!([{
                    "uri": "git+https://github.com/acme/core@refs/heads/main", "digest": {"gitCommit": "0".repeat(40)},
                }]);
            }),
        ),
        (
            "provenance without a builder",
            "predicate",
            changed(&|it| it["predicate"]["runDetails"] = json!({})),
        ),
    ];
    for (what, claim, statement) in &lies {
        let bundle = service.signed(session.reveal(), statement).await;
        let problem = refused(&service.publish("1.0.0", &bytes, &bundle).await, 422, "provenance_refused");
        assert_eq!(
            problem.rules.first().map(|rule| (rule.claim.as_str(), rule.ok)),
            Some((*claim, false)),
            "{what}: {problem:?}"
        );
    }
    // Another run, whom the authority certifies just as well.
    let bundle = service.signed_by("rival", &good).await;
    let problem = refused(&service.publish("1.0.0", &bytes, &bundle).await, 422, "provenance_refused");
    let wrong: Vec<_> =
        problem.rules.iter().filter(|rule| !rule.ok).map(|rule| rule.claim.as_str()).collect();
    assert!(wrong.contains(&"repository_id") && wrong.contains(&"workflow_ref"), "{problem:?}");
    let rule = problem.rules.iter().find(|rule| rule.claim == "repository_id").expect("rule");
    assert_eq!((rule.expected.as_str(), rule.actual.as_deref()), ("2002", Some("6002")));
    // Another authority.
    let other = Service::start().await;
    let bundle = other.signed_by("release", &good).await;
    let problem = refused(&service.publish("1.0.0", &bytes, &bundle).await, 422, "provenance_refused");
    assert!(problem.rules.iter().all(|rule| !rule.ok), "{problem:?}");
    // A person publishes, with a run's provenance.
    let maintainer = service.person("maintainer").await;
    let token = service.token(&maintainer, "publish").await;
    let bundle = service.signed_by("release", &good).await;
    let response = service.publish_as(&token, "1.0.0", &bytes, &bundle).await;
    let problem = refused(&response, 422, "provenance_refused");
    assert!(problem.message().contains("person"), "{problem:?}");
    // The good bundle with one thing changed.
    let value: Value = serde_json::from_str(&bundle).expect("bundle");
    for pointer in [
        "/dsseEnvelope/payload",
        "/dsseEnvelope/signatures/0/sig",
        "/verificationMaterial/certificate/rawBytes",
    ] {
        let mut broken = value.clone();
        let text = broken.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}: {value}"));
        let mut raw = STANDARD.decode(text.as_str().expect("text")).expect("base64");
        let middle = raw.len() / 2;
        raw[middle] ^= 1;
        *text = STANDARD.encode(raw).into();
        refused(&service.publish("1.0.0", &bytes, &broken.to_string()).await, 422, "provenance_refused");
    }
    for pointer in ["/verificationMaterial/tlogEntries", "/verificationMaterial/timestampVerificationData"] {
        let mut broken = value.clone();
        *broken.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}: {value}")) = Value::Null;
        refused(&service.publish("1.0.0", &bytes, &broken.to_string()).await, 422, "provenance_refused");
    }
    // Nothing of all that is there, and the bundle as it was signed is good.
    refused(&service.read("@acme%2fplain").await, 404, "not_found");
    assert_eq!(service.publish("1.0.0", &bytes, &bundle).await.status, 201);
}
