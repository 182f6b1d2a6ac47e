//! Builds on record: what makes one hardened, and what a token for one is bound to.

use protected_model::{
    api::{build::BuildRecordResponse, evidence::EvidencePage},
    digest::{Integrity, Sha256},
    secret::Secret as _,
};
use serde_json::{Value, json};

use super::service::{Service, refused, wanted};

const PATH: &str = "v1/packages/protection/builds";

/// A hardened build of `@acme/core` with these bytes.
pub(crate) fn build(version: &str, bytes: &[u8]) -> Value {
    let step = |step: &str| {
        json!({
            "step": step, "tool": "swc", "tool_version": "1.0.0", "config_sha256": Sha256::of("c"),
            "status": "completed", "files": 1,
            "input_tree_sha256": Sha256::of("i"), "output_tree_sha256": Sha256::of("o"),
        })
    };
    let document = r#"{"files":[]}"#;
    json!({
        "project_slug": "core", "package_name": "@acme/core", "version": version,
        "source": {"repository": "acme/core"},
        "pipeline": [step("compile"), step("minify"), step("strip-source-maps"), step("integrity")],
        "protection": {"obfuscated": false, "encrypted": false, "source_maps": "withheld"},
        "artifact": {
            "filename": format!("core-{version}.tgz"), "size": bytes.len(),
            "sha256": Sha256::of(bytes), "integrity": Integrity::of(bytes),
        },
        "manifests": [{
            "type": "integrity-manifest", "media_type": "application/json",
            "sha256": Sha256::of(document), "inline": document,
        }],
    })
}

fn publish(version: &str, bytes: &[u8]) -> Value {
    let mut body = wanted("@acme/core", "publish");
    body["package_version"] = version.into();
    body["artifact_sha512"] = Integrity::of(bytes).to_string().into();
    body
}

#[tokio::test]
async fn a_recorded_build_lets_exactly_its_bytes_be_published() {
    let service = Service::start().await;
    let session = service.session("release").await;
    refused(&service.mint(&session, &publish("1.0.0", b"one")).await, 409, "artifact_policy_unmet");
    let response = service.post(PATH, &session, &build("1.0.0", b"one")).await;
    assert_eq!(response.status, 201, "{:?}", response.body());
    let recorded: BuildRecordResponse = response.json().expect("json");
    assert_eq!(serde_json::to_value(&recorded.artifact_policy_satisfied).expect("json"), json!(["hardened"]));

    let response = service.mint(&session, &publish("1.0.0", b"one")).await;
    assert_eq!(response.status, 201, "{:?}", response.body());
    let mut named = publish("1.0.0", b"one");
    named["protection_build_id"] = recorded.build_id.as_str().into();
    assert_eq!(service.mint(&session, &named).await.status, 201);

    for (what, body) in [
        ("other bytes", publish("1.0.0", b"two")),
        ("another version", publish("1.0.1", b"one")),
        ("no bytes", wanted("@acme/core", "publish")),
        ("another build", {
            named["protection_build_id"] = "01ARZ3NDEKTSV4RRFFQ69G5FAV".into();
            named
        }),
    ] {
        let problem = refused(&service.mint(&session, &body).await, 409, "artifact_policy_unmet");
        assert!(problem.rules.iter().all(|rule| !rule.ok), "{what}");
    }
    // Of the same bytes, another package has no build.
    let mut other = publish("1.0.0", b"one");
    other["package_name"] = "@acme/sealed".into();
    refused(&service.mint(&session, &other).await, 409, "artifact_policy_unmet");
}

#[tokio::test]
async fn what_is_hardened_is_decided_here() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let mut version = 0;
    let mut record = |change: &dyn Fn(&mut Value)| {
        version += 1;
        let mut body = build(&format!("1.0.{version}"), format!("{version}").as_bytes());
        change(&mut body);
        body
    };
    let changes: [&dyn Fn(&mut Value); 4] = [
        &|body| body["pipeline"] = json!([]),
        &|body| drop(body["pipeline"].as_array_mut().expect("pipeline").remove(1)),
        &|body| body["pipeline"][2]["step"] = "strip-source-map".into(),
        &|body| body["protection"]["source_maps"] = "published".into(),
    ];
    for change in changes {
        let response = service.post(PATH, &session, &record(change)).await;
        let recorded: BuildRecordResponse = response.json().expect("json");
        assert_eq!((response.status, recorded.artifact_policy_satisfied.len()), (201, 0));
    }
    let nothing_to_do = record(&|body| body["pipeline"][0]["status"] = "nothing-to-do".into());
    let recorded: BuildRecordResponse =
        service.post(PATH, &session, &nothing_to_do).await.json().expect("json");
    assert_eq!(recorded.artifact_policy_satisfied.len(), 1);
}

#[tokio::test]
async fn a_version_has_one_build() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let first = service.post(PATH, &session, &build("1.0.0", b"one")).await;
    let again = service.post(PATH, &session, &build("1.0.0", b"one")).await;
    assert_eq!((first.status, again.status), (201, 200));
    assert_eq!(first.body(), again.body());
    let problem =
        refused(&service.post(PATH, &session, &build("1.0.0", b"two")).await, 409, "build_conflict");
    assert!(problem.message().contains(&Integrity::of(b"one").to_string()), "{}", problem.message());
    let mut weaker = build("1.0.0", b"one");
    weaker["pipeline"] = json!([]);
    refused(&service.post(PATH, &session, &weaker).await, 409, "build_conflict");
    assert_eq!(service.events().await.iter().filter(|event| event.action == "build.record").count(), 3);
}

#[tokio::test]
async fn documents_are_checked() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let mut unlike = build("1.0.0", b"one");
    unlike["manifests"][0]["inline"] = "{}".into();
    let mut renamed = build("1.0.0", b"one");
    renamed["artifact"]["filename"] = "../core-1.0.0.tgz".into();
    let mut header = build("1.0.0", b"one");
    header["manifests"][0]["media_type"] = "text/html\r\nx: y".into();
    let mut many = build("1.0.0", b"one");
    many["manifests"] = vec![many["manifests"][0].clone(); 65].into();
    for body in [unlike, renamed, header, many] {
        refused(&service.post(PATH, &session, &body).await, 422, "invalid_document");
    }
    let mut failed = build("1.0.0", b"one");
    failed["pipeline"][0]["status"] = "failed".into();
    let mut unknown = build("1.0.0", b"one");
    unknown["hardened"] = true.into();
    for body in [failed, unknown] {
        refused(&service.post(PATH, &session, &body).await, 400, "invalid_request");
    }
    let mut foreign = build("1.0.0", b"one");
    foreign["package_name"] = "@acme/no-policy".into();
    refused(&service.post(PATH, &session, &foreign).await, 403, "no_policy");
    let mut dry = build("1.0.0", b"one");
    dry["dry_run"] = true.into();
    let response = service.post(PATH, &session, &dry).await;
    let recorded: BuildRecordResponse = response.json().expect("json");
    assert_eq!((response.status, recorded.status.as_str(), recorded.evidence.len()), (200, "dry-run", 0));
    refused(&service.mint(&session, &publish("1.0.0", b"one")).await, 409, "artifact_policy_unmet");
}

#[tokio::test]
async fn evidence_is_shown_to_its_project_and_the_operator() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let mut ids = Vec::new();
    for version in ["1.0.0", "1.0.1", "1.0.2"] {
        let response = service.post(PATH, &session, &build(version, version.as_bytes())).await;
        let recorded: BuildRecordResponse = response.json().expect("json");
        ids.push(recorded.evidence[0].id.clone());
    }
    let rival = service.session("rival").await;
    let path = format!("v1/evidence/{}/content", ids[0]);
    for bearer in [&session, &service.operator()] {
        let response = service.get(&path, bearer).await;
        assert_eq!((response.status, response.body().as_ref()), (200, br#"{"files":[]}"#.as_slice()));
        assert_eq!(response.header("content-disposition"), Some("attachment"));
        assert_eq!(response.header("content-security-policy"), Some("sandbox"));
    }
    for path in [
        &path,
        &format!("v1/evidence/{}", ids[0]),
        "v1/evidence/nothing",
        "v1/evidence/..%2f..%2fadmin-token",
    ] {
        refused(&service.get(path, &rival).await, 404, "not_found");
    }
    let none: EvidencePage = service.get("v1/evidence", &rival).await.json().expect("page");
    assert_eq!(none.items.len(), 0);
    refused(&service.get("v1/evidence?project_slug=other", &session).await, 403, "project_not_entitled");

    let page = async |query: &str| {
        let response = service.get(&format!("v1/evidence?{query}"), &session).await;
        response.json::<EvidencePage>().expect("page")
    };
    let first = page("limit=2").await;
    let of = |page: &EvidencePage| page.items.iter().map(|it| it.id.clone()).collect::<Vec<_>>();
    assert_eq!(of(&first), [ids[2].clone(), ids[1].clone()], "newest first");
    let rest = page(&format!("limit=2&cursor={}", first.next_cursor.expect("cursor"))).await;
    assert_eq!((of(&rest), rest.next_cursor), (vec![ids[0].clone()], None));
    assert_eq!(of(&page("version=1.0.1").await), [ids[1].clone()]);
}

#[tokio::test]
async fn npm_exchanges_by_itself() {
    let service = Service::start().await;
    let ask = async |path: &str, audience: &str| {
        let id_token = service.id_token("github-actions", "release", audience).await;
        let bearer = protected_model::secret::AccessToken::new(id_token);
        service.http.post(service.url.join(path)).bearer(&bearer).send().await.expect("answer")
    };
    let root = "-/npm/v1/oidc/token/exchange/package/@acme%2fplain";
    let below = format!("repository/npm-hosted/{root}");
    let with_port = format!("npm:{}", service.url.authority());
    for (path, audience) in [(root, "npm:127.0.0.1"), (&below, "npm:127.0.0.1"), (&below, &with_port)] {
        let response = ask(path, audience).await;
        assert_eq!(response.status, 201, "{path} {audience} {:?}", response.body());
        let value: Value = response.json().expect("json");
        assert_eq!(value["token_type"], "oidc");
        assert!(value["token"].is_string() && value["token_id"].is_string());
    }
    let message = |response: &protected_http::Response| {
        let value: Value = response.json().expect("json");
        value["message"].as_str().expect("message").to_owned()
    };
    let wrong = ask(root, &service.issuer()).await;
    refused(&wrong, 400, "invalid_id_token");
    assert!(message(&wrong).contains("audience"));
    for (package, status, code) in [
        ("@rival%2fcore", 403, "no_trusted_publisher"),
        ("@acme%2fmissing", 403, "no_trusted_publisher"),
        ("@acme%2fno-policy", 403, "no_policy"),
        ("@acme%2fdisabled", 403, "package_disabled"),
        ("@acme%252fplain", 400, "invalid_request"),
    ] {
        let response = ask(&format!("-/npm/v1/oidc/token/exchange/package/{package}"), "npm:127.0.0.1").await;
        refused(&response, status, code);
        assert!(!message(&response).is_empty());
    }
    // Hardened alone, and nothing hardened on record: the token could upload nothing.
    let core = "-/npm/v1/oidc/token/exchange/package/@acme%2fcore";
    let response = ask(core, "npm:127.0.0.1").await;
    refused(&response, 409, "artifact_policy_unmet");
    assert!(message(&response).contains("no such build"), "{}", message(&response));
    let session = service.session("release").await;
    assert_eq!(service.post(PATH, &session, &build("1.0.0", b"one")).await.status, 201);
    assert_eq!(ask(core, "npm:127.0.0.1").await.status, 201);
}

#[tokio::test]
async fn npm_exchanges_one_id_token_once_for_each_package() {
    let service = Service::start().await;
    let id_token = service.id_token("github-actions", "release", "npm:127.0.0.1").await;
    let bearer = protected_model::secret::AccessToken::new(&*id_token);
    let ask = async |package: &str| {
        let path = format!("-/npm/v1/oidc/token/exchange/package/{package}");
        service.http.post(service.url.join(&path)).bearer(&bearer).send().await.expect("answer")
    };
    let session = service.session("release").await;
    assert_eq!(service.post(PATH, &session, &build("1.0.0", b"one")).await.status, 201);
    assert_eq!(ask("@acme%2fplain").await.status, 201);
    refused(&ask("@acme%2fplain").await, 400, "token_replayed");
    assert_eq!(ask("@acme%2fcore").await.status, 201);
    refused(&service.exchange(bearer.reveal(), None).await, 400, "invalid_id_token");
}

#[tokio::test]
async fn a_build_says_what_its_choices_follow_from() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let mut body = build("1.0.0", b"one");
    let parameters = json!({"keep_names": false});
    body["pipeline"][1]["parameters"] = parameters.clone();
    body["hardening"] = json!({
        "profile": "standard", "seed_commitment": Sha256::of("seed"), "secret": true, "marked": false,
    });
    // A digest that is not that of the parameters says nothing about what was done.
    refused(&service.post(PATH, &session, &body).await, 422, "invalid_document");
    body["pipeline"][1]["config_sha256"] =
        json!(Sha256::of(protected_model::integrity::canonical(&parameters)));
    for (member, value) in [
        ("profile", json!("")),
        ("profile", json!("é")),
        ("seed_commitment", json!("00")),
        ("seed", json!(Sha256::of("seed"))),
    ] {
        let mut odd = body.clone();
        odd["hardening"][member] = value;
        let response = service.post(PATH, &session, &odd).await;
        assert!((400..500).contains(&response.status), "{member}: {}", response.status);
    }
    let response = service.post(PATH, &session, &body).await;
    assert_eq!(response.status, 201, "{:?}", response.body());
}
