//! Deliveries and grants: what is taken, what is refused, and who sees it.

use protected_http::Response;
use protected_model::{
    api::delivery::{Bundle, DeliveryView, Grant, GrantStatus},
    digest::Sha256,
    integrity::canonical,
    secret::AccessToken,
};
use serde_json::{Value, json};

use super::service::{Service, refused};

const BUNDLES: &str = "v1/packages/delivery/bundles";
const GRANTS: &str = "v1/packages/delivery/grants";
const VIEW: &str = "v1/packages/delivery/view";

/// A delivery of `@acme/core` for `customer`.
fn manifest(id: &str, customer: &str) -> Value {
    let wrapped = "wrapped".repeat(12);
    let contents = json!([{"path": "core-1.0.0.tgz", "sha256": Sha256::of("tarball"), "size": 7}]);
    json!({
        "schema": "application/vnd.fractalops.delivery.manifest.v1+json",
        "bundle_id": id, "tenant_id": "acme", "project_slug": "core", "customer_slug": customer,
        "package_name": "@acme/core", "version": "1.0.0",
        "protection": {"obfuscated": true, "encrypted": true, "source_maps": "withheld"},
        "integrity": {"sha256": Sha256::of(canonical(&contents)), "size": 2048},
        "bundle": {
            "media_type": "application/vnd.fractalops.delivery.bundle.v1",
            "sha256": Sha256::of("manifest"), "size": 4000, "uri": format!("deliveries/{customer}/{id}"),
        },
        "key_ref": "openbao://transit/globex",
        "key_provider": {
            "provider": "openbao", "policy": "reference_only",
            "wrapped_key": wrapped, "wrapped_key_sha256": Sha256::of(&wrapped),
            "context": {
                "bundle_id": id, "customer_slug": customer, "package_name": "@acme/core", "project_slug": "core",
                "tenant_id": "acme", "version": "1.0.0", "descriptor_sha256": Sha256::of("descriptor"),
            },
        },
        "contents": contents,
        "created_at": "2026-01-02T03:04:05Z",
    })
}

fn grant(id: &str, customer: &str, grantee: &str) -> Value {
    json!({"bundle_id": id, "customer_slug": customer, "grantee": grantee})
}

fn materialized(mut grant: Value) -> Value {
    grant["key_grant_ref"] = "grant-01J".into();
    grant["grant_materialization"] = json!({
        "provider": "openbao", "operation": "sys/policies/acl", "ref": "grant-01J", "status": "materialized",
        "materialized_at": "2026-01-02T03:04:05Z",
    });
    grant
}

async fn delete(service: &Service, path: &str, bearer: &AccessToken) -> Response {
    service.http.delete(service.url.join(path)).bearer(bearer).send().await.expect("answer")
}

#[track_caller]
fn read<T: serde::de::DeserializeOwned>(response: &Response, status: u16) -> T {
    assert_eq!(response.status, status, "{}", String::from_utf8_lossy(response.body()));
    response.json().expect("json")
}

#[tokio::test]
async fn a_delivery_is_registered_granted_revoked_and_shown() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let body = manifest("01JA", "globex");
    let bundle: Bundle = read(&service.post(BUNDLES, &session, &body).await, 201);
    assert_eq!((bundle.status.as_str(), bundle.grants.len(), bundle.evidence.len()), ("recorded", 0, 1));
    let document = service.get(&format!("v1/evidence/{}/content", bundle.evidence[0].id), &session).await;
    assert_eq!(document.json::<Value>().expect("json"), body, "the manifest is evidence, as it was sent");
    let again: Bundle = read(&service.post(BUNDLES, &session, &body).await, 200);
    assert_eq!(again, bundle);

    // Wrapped anew by the same key: the record has that, and every manifest that it had is evidence.
    let mut rewrapped = body.clone();
    let wrapped = "newer".repeat(15);
    rewrapped["key_provider"]["wrapped_key"] = wrapped.as_str().into();
    rewrapped["key_provider"]["wrapped_key_sha256"] = Sha256::of(&wrapped).to_string().into();
    let newer: Bundle = read(&service.post(BUNDLES, &session, &rewrapped).await, 200);
    assert_eq!(serde_json::to_value(&newer.manifest).expect("json"), rewrapped);
    assert_eq!((newer.evidence.len(), &newer.evidence[0]), (2, &bundle.evidence[0]));
    assert_eq!(newer.created_at, bundle.created_at);
    let again: Bundle = read(&service.post(BUNDLES, &session, &rewrapped).await, 200);
    assert_eq!(again, newer);
    assert_eq!(service.last_event().await.action, "bundle.rewrap");
    // Attack: an old job repeats what was on record before, and ends the newer wrapping.
    refused(&service.post(BUNDLES, &session, &body).await, 409, "bundle_conflict");
    let again: Bundle = read(&service.post(BUNDLES, &session, &rewrapped).await, 200);
    assert_eq!(again, newer);
    let mut other = rewrapped.clone();
    other["key_ref"] = "openbao://transit/other".into();
    refused(&service.post(BUNDLES, &session, &other).await, 409, "bundle_conflict");

    // Recorded first, then said to be done, then once more: one grant.
    let first: Grant = read(&service.post(GRANTS, &session, &grant("01JA", "globex", "ops")).await, 201);
    assert_eq!(first.status, GrantStatus::Recorded);
    let done = materialized(grant("01JA", "globex", "ops"));
    let second: Grant = read(&service.post(GRANTS, &session, &done).await, 200);
    assert_eq!((second.status, &second.id), (GrantStatus::Materialized, &first.id));
    let third: Grant = read(&service.post(GRANTS, &session, &done).await, 200);
    assert_eq!(third, second);
    let mut ending = grant("01JA", "globex", "auditor");
    ending["expires_at"] = jiff::Timestamp::now()
        .checked_add(jiff::SignedDuration::from_mins(10))
        .expect("time")
        .to_string()
        .into();
    let short: Grant = read(&service.post(GRANTS, &session, &materialized(ending)).await, 201);

    let mut taken = grant("01JA", "globex", "intern");
    taken["expires_at"] = json!(short.expires_at);
    let taken: Grant = read(&service.post(GRANTS, &session, &taken).await, 201);

    let shown: Bundle = read(&service.get(&format!("{BUNDLES}/01JA"), &session).await, 200);
    assert_eq!(shown.grants, [second.clone(), short.clone(), taken.clone()]);
    read::<Grant>(&delete(&service, &format!("{GRANTS}/{}", taken.id), &session).await, 200);
    service.pass(601);
    let session = service.session("release").await;
    let shown: Bundle = read(&service.get(&format!("{BUNDLES}/01JA"), &session).await, 200);
    let statuses: Vec<_> = shown.grants.iter().map(|grant| grant.status).collect();
    assert_eq!(statuses, [GrantStatus::Materialized, GrantStatus::Expired, GrantStatus::Revoked]);
    // What has ended is in nobody's way.
    let anew: Grant = read(&service.post(GRANTS, &session, &grant("01JA", "globex", "auditor")).await, 201);
    assert_ne!(anew.id, short.id);

    let revoked: Grant = read(&delete(&service, &format!("{GRANTS}/{}", first.id), &session).await, 200);
    assert!(revoked.status == GrantStatus::Revoked && revoked.revoked_at.is_some());
    let again: Grant = read(&delete(&service, &format!("{GRANTS}/{}", first.id), &session).await, 200);
    assert_eq!(again, revoked);
    let anew: Grant = read(&service.post(GRANTS, &session, &done).await, 201);
    assert_ne!(anew.id, first.id, "what was revoked is not given back, but anew");

    let actions: Vec<String> = service.events().await.into_iter().map(|event| event.action).collect();
    let count = |action: &str| actions.iter().filter(|it| it.as_str() == action).count();
    // One delivery was refused as another one of the name, and one as a former wrapping.
    assert_eq!((count("bundle.create"), count("bundle.rewrap")), (3, 1));
    assert_eq!((count("grant.create"), count("grant.revoke")), (6, 2));
    let event = service.last_event().await;
    assert_eq!(event.target.bundle_id.as_deref(), Some("01JA"));
}

#[tokio::test]
async fn what_looks_like_a_key_is_refused_and_not_repeated() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let secret = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";
    let changes: [&dyn Fn(&mut Value); 8] = [
        &|body| body["key_ref"] = secret.into(),
        &|body| body["data_key"] = "anything".into(),
        &|body| body["note"] = json!({"deep": [secret]}),
        &|body| body["key_provider"]["password"] = "x".into(),
        &|body| body["key_provider"]["context"][secret] = "x".into(),
        &|body| body["bundle"]["uri"] = "hvs.CAESIJlU02LQZq".into(),
        &|body| body["build_id"] = "-----BEGIN PRIVATE KEY-----".into(),
        &|body| {
            body["key_provider"]["wrapped_key"] = secret.into();
            body["key_provider"]["wrapped_key_sha256"] = Sha256::of(secret).to_string().into();
        },
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut body = manifest("01JK", "globex");
        change(&mut body);
        let response = service.post(BUNDLES, &session, &body).await;
        let problem = refused(&response, 422, "raw_key_material");
        let text = String::from_utf8_lossy(response.body());
        for part in ["q83v", "hvs.", "BEGIN"] {
            assert!(!text.contains(part), "{number}: {text}");
        }
        assert!(problem.hint.is_some());
    }
    refused(&service.get(&format!("{BUNDLES}/01JK"), &session).await, 404, "not_found");
    read::<Bundle>(&service.post(BUNDLES, &session, &manifest("01JK", "globex")).await, 201);
    for (field, value) in [("grantee", "hvs.CAESIJlU02LQZq"), ("key_grant_ref", secret)] {
        let mut body = grant("01JK", "globex", "ops");
        body[field] = value.into();
        let response = service.post(GRANTS, &session, &body).await;
        refused(&response, 422, "raw_key_material");
        assert!(!String::from_utf8_lossy(response.body()).contains(value));
    }
    let events = serde_json::to_string(&service.events().await).expect("json");
    assert!(!events.contains("q83v") && !events.contains("hvs."));
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let service = Service::start().await;
    let session = service.session("release").await;
    type Change = (&'static str, u16, &'static str, fn(&mut Value));
    let changes: [Change; 9] = [
        ("build", 422, "invalid_document", |body| body["build_id"] = "01ARZ3NDEKTSV4RRFFQ69G5FAV".into()),
        ("schema", 422, "invalid_document", |body| body["schema"] = "application/json".into()),
        ("size", 422, "invalid_document", |body| body["contents"][0]["size"] = 8.into()),
        ("context", 422, "invalid_document", |body| {
            body["key_provider"]["context"]["version"] = "2.0.0".into()
        }),
        ("sealed", 422, "invalid_document", |body| body["protection"]["encrypted"] = false.into()),
        ("path", 400, "invalid_request", |body| body["contents"][0]["path"] = "../x".into()),
        ("tenant", 403, "project_not_entitled", |body| body["tenant_id"] = "rival".into()),
        ("project", 403, "project_not_entitled", |body| body["project_slug"] = "cor".into()),
        ("package", 404, "package_not_in_project", |body| body["package_name"] = "@acme/cor".into()),
    ];
    for (what, status, code, change) in changes {
        let mut body = manifest("01JB", "globex");
        change(&mut body);
        let problem = refused(&service.post(BUNDLES, &session, &body).await, status, code);
        assert!(problem.audit_event_id.is_some(), "{what}");
    }
    let reader = service.person("member").await;
    refused(&service.post(BUNDLES, &reader, &manifest("01JB", "globex")).await, 403, "action_denied");

    read::<Bundle>(&service.post(BUNDLES, &session, &manifest("01JB", "globex")).await, 201);
    let mut other = manifest("01JB", "globex");
    other["bundle"]["sha256"] = Sha256::of("another").to_string().into();
    refused(&service.post(BUNDLES, &session, &other).await, 409, "bundle_conflict");
    refused(&service.post(BUNDLES, &session, &manifest("01JB", "initech")).await, 409, "bundle_conflict");

    refused(
        &service.post(GRANTS, &session, &grant("01JB", "initech", "ops")).await,
        403,
        "customer_mismatch",
    );
    refused(&service.post(GRANTS, &session, &grant("01JX", "globex", "ops")).await, 404, "not_found");
    let mut elsewhere = materialized(grant("01JB", "globex", "ops"));
    elsewhere["grant_materialization"]["provider"] = "aws-kms".into();
    refused(&service.post(GRANTS, &session, &elsewhere).await, 422, "invalid_document");
    let mut over = grant("01JB", "globex", "ops");
    over["expires_at"] = "2020-01-01T00:00:00Z".into();
    refused(&service.post(GRANTS, &session, &over).await, 400, "invalid_request");
    read::<Grant>(&service.post(GRANTS, &session, &grant("01JB", "globex", "ops")).await, 201);
    let mut longer = grant("01JB", "globex", "ops");
    longer["expires_at"] = "2099-01-01T00:00:00Z".into();
    refused(&service.post(GRANTS, &session, &longer).await, 409, "grant_conflict");
    refused(&delete(&service, &format!("{GRANTS}/01JX"), &session).await, 404, "not_found");
    let nobody = AccessToken::new("nothing");
    refused(&service.post(BUNDLES, &nobody, &manifest("01JB", "globex")).await, 401, "unauthenticated");
}

/// What belongs to another tenant or project is not there, in the same words as what is not there at all.
#[tokio::test]
async fn nobody_sees_anothers_deliveries() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let rival = service.session("rival").await;
    for (id, customer) in [("01JC", "globex"), ("01JD", "initech"), ("01JE", "globex")] {
        read::<Bundle>(&service.post(BUNDLES, &session, &manifest(id, customer)).await, 201);
    }
    let given: Grant = read(&service.post(GRANTS, &session, &grant("01JC", "globex", "ops")).await, 201);
    read::<Grant>(&service.post(GRANTS, &session, &grant("01JD", "initech", "ops")).await, 201);
    let shown: Bundle = read(&service.get(&format!("{BUNDLES}/01JC"), &session).await, 200);
    assert_eq!(shown.grants, std::slice::from_ref(&given), "and not that of the next delivery");

    // Another project of the same tenant, and whoever reads what it may not write.
    let other = service.session("other").await;
    let view: DeliveryView = read(&service.get(VIEW, &other).await, 200);
    assert!(view.items.is_empty());
    refused(&service.get(&format!("{BUNDLES}/01JC"), &other).await, 404, "not_found");
    refused(&service.post(GRANTS, &other, &grant("01JC", "globex", "mallory")).await, 404, "not_found");
    refused(&delete(&service, &format!("{GRANTS}/{}", given.id), &other).await, 404, "not_found");
    let member = service.person("member").await;
    read::<Bundle>(&service.get(&format!("{BUNDLES}/01JC"), &member).await, 200);
    refused(&service.post(GRANTS, &member, &grant("01JC", "globex", "mallory")).await, 403, "action_denied");
    refused(&delete(&service, &format!("{GRANTS}/{}", given.id), &member).await, 403, "action_denied");

    let view: DeliveryView = read(&service.get(VIEW, &rival).await, 200);
    assert!(view.items.is_empty());
    let theirs = service.get(&format!("{BUNDLES}/01JC"), &rival).await;
    let nothing = service.get(&format!("{BUNDLES}/01JX"), &rival).await;
    refused(&theirs, 404, "not_found");
    refused(&nothing, 404, "not_found");
    let told = |response: &Response| {
        let value: Value = response.json().expect("json");
        (value["error"].clone(), value["hint"].clone())
    };
    assert_eq!(told(&theirs), told(&nothing));
    refused(&service.post(GRANTS, &rival, &grant("01JC", "globex", "ops")).await, 404, "not_found");
    refused(&delete(&service, &format!("{GRANTS}/{}", given.id), &rival).await, 404, "not_found");
    // The same id in another tenant is another delivery.
    let mut own = manifest("01JC", "globex");
    own["tenant_id"] = "rival".into();
    own["package_name"] = "@rival/core".into();
    own["key_provider"]["context"]["tenant_id"] = "rival".into();
    own["key_provider"]["context"]["package_name"] = "@rival/core".into();
    let bundle: Bundle = read(&service.post(BUNDLES, &rival, &own).await, 201);
    assert!(bundle.grants.is_empty());
    refused(&delete(&service, &format!("{GRANTS}/{}", given.id), &rival).await, 404, "not_found");

    let ids = |view: &DeliveryView| -> Vec<String> {
        view.items.iter().map(|bundle| bundle.manifest.bundle_id.to_string()).collect()
    };
    let all: DeliveryView = read(&service.get(VIEW, &session).await, 200);
    assert_eq!((ids(&all), all.next_cursor), (vec!["01JE".into(), "01JD".into(), "01JC".into()], None));
    let some: DeliveryView = read(&service.get(&format!("{VIEW}?customer_slug=globex"), &session).await, 200);
    assert_eq!(ids(&some), ["01JE", "01JC"]);
    assert_eq!(some.items[1].grants, [given]);
    // A part of a name is not the name.
    let part: DeliveryView = read(&service.get(&format!("{VIEW}?customer_slug=glob"), &session).await, 200);
    assert!(part.items.is_empty());
    let first: DeliveryView = read(&service.get(&format!("{VIEW}?limit=2"), &session).await, 200);
    let cursor = first.next_cursor.clone().expect("more");
    let rest: DeliveryView =
        read(&service.get(&format!("{VIEW}?limit=2&cursor={cursor}"), &session).await, 200);
    assert_eq!((ids(&first).len(), ids(&rest)), (2, vec!["01JC".to_owned()]));
    refused(&service.get(&format!("{VIEW}?project_slug=other"), &session).await, 403, "project_not_entitled");
    refused(&service.get(&format!("{VIEW}?unknown=1"), &session).await, 400, "invalid_request");
    let operator: DeliveryView = read(&service.get(VIEW, &service.operator()).await, 200);
    assert_eq!(operator.items.len(), 4);
}

/// It is all there after a restart, and the audit chain is whole.
#[tokio::test]
async fn deliveries_are_kept() {
    let service = Service::start().await;
    let session = service.session("release").await;
    read::<Bundle>(&service.post(BUNDLES, &session, &manifest("01JF", "globex")).await, 201);
    let given: Grant = read(&service.post(GRANTS, &session, &grant("01JF", "globex", "ops")).await, 201);
    let service = service.restart().await;
    let session = service.session("release").await;
    let shown: Bundle = read(&service.get(&format!("{BUNDLES}/01JF"), &session).await, 200);
    assert_eq!(shown.grants, [given]);
    let folder = service.stop().await;
    assert!(super::service::chain_length(&folder.path().join("data")) > 2);
}
