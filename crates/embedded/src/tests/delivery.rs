//! Deliveries and grants: what is taken, what is refused, and who sees it.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use protected_http::Response;
use protected_model::{
    api::{
        build::{BuildRecordResponse, PATH as BUILDS},
        delivery::{Bundle, DeliveryView, Grant, GrantStatus},
        evidence::AttachmentResponse,
    },
    digest::{Integrity, Sha256},
    integrity::canonical,
    secret::AccessToken,
};
use redb::{Database, ReadableTable as _, TableDefinition};
use serde_json::{Value, json};

use super::{
    builds::build,
    service::{Service, refused},
};

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

/// A change of a document that makes it another.
type Change<'a> = &'a dyn Fn(&mut Value);

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
    // Attack: the wrapping of now or of before, under another name of its key.
    for former in [&rewrapped, &body] {
        let mut other = former.clone();
        other["key_ref"] = "openbao://transit/other".into();
        refused(&service.post(BUNDLES, &session, &other).await, 409, "bundle_conflict");
    }

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
    // Three were refused as a former wrapping.
    assert_eq!((count("bundle.create"), count("bundle.rewrap")), (4, 1));
    assert_eq!((count("grant.create"), count("grant.revoke")), (6, 2));
    let event = service.last_event().await;
    assert_eq!(event.target.bundle_id.as_deref(), Some("01JA"));
}

/// The manifest with another wrapping, by the key of this reference.
fn wrapped_by(mut body: Value, key: &str, fill: &str) -> Value {
    let wrapped = fill.repeat(15);
    body["key_ref"] = key.into();
    body["key_provider"]["provider"] = key.split("://").next().into();
    body["key_provider"]["wrapped_key"] = wrapped.as_str().into();
    body["key_provider"]["wrapped_key_sha256"] = Sha256::of(&wrapped).to_string().into();
    body
}

const AWS: &str = "aws-kms://arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";

/// A grant says what opens the delivery as it is on record, and is kept when that is another key.
#[tokio::test]
async fn a_delivery_that_another_service_wrapped_keeps_what_was_before() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let (bao, google) = (
        "openbao://transit/globex",
        "gcp-kms://projects/acme-prod/locations/global/keyRings/r/cryptoKeys/globex",
    );
    let body = manifest("01JW", "globex");
    read::<Bundle>(&service.post(BUNDLES, &session, &body).await, 201);
    let asked = materialized(grant("01JW", "globex", "ops"));
    let older: Grant = read(&service.post(GRANTS, &session, &asked).await, 201);
    let given = older.key_ref.as_ref().map(ToString::to_string);
    assert_eq!((given.as_deref(), older.status), (Some(bao), GrantStatus::Materialized));

    // What is no reference, or is of another service than it says, stays out, and so does any other change.
    let newer = wrapped_by(body.clone(), google, "newer");
    let changes: [(&str, Change<'_>); 7] = [
        ("raw_key_material", &|it| {
            it["key_ref"] = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=".into();
        }),
        ("raw_key_material", &|it| {
            let key = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";
            it["key_provider"]["wrapped_key"] = key.into();
            it["key_provider"]["wrapped_key_sha256"] = Sha256::of(key).to_string().into();
        }),
        ("invalid_document", &|it| it["key_provider"]["provider"] = "openbao".into()),
        ("invalid_document", &|it| it["key_provider"]["policy"] = "raw".into()),
        ("bundle_conflict", &|it| {
            it["key_provider"]["context"]["descriptor_sha256"] = Sha256::of("other").to_string().into();
        }),
        ("bundle_conflict", &|it| it["bundle"]["sha256"] = Sha256::of("other").to_string().into()),
        ("bundle_conflict", &|it| it["bundle"]["uri"] = "deliveries/elsewhere/01JW".into()),
    ];
    for (code, change) in changes {
        let mut bad = newer.clone();
        change(&mut bad);
        let status = if code == "bundle_conflict" { 409 } else { 422 };
        refused(&service.post(BUNDLES, &session, &bad).await, status, code);
    }
    let shown: Bundle = read(&service.get(&format!("{BUNDLES}/01JW"), &session).await, 200);
    assert_eq!((shown.wrappings.len(), &shown.grants[0]), (1, &older));

    // A grant may come before the wrapping that it opens.
    let mut early = materialized(grant("01JW", "globex", "serviceAccount:ops@acme.example"));
    early["grant_materialization"]["provider"] = "gcp-kms".into();
    refused(&service.post(GRANTS, &session, &early).await, 422, "invalid_document");
    early["key_ref"] = google.into();
    let early: Grant = read(&service.post(GRANTS, &session, &early).await, 201);
    assert_eq!(early.status, GrantStatus::OtherKey);

    let bundle: Bundle = read(&service.post(BUNDLES, &session, &newer).await, 200);
    assert_eq!(serde_json::to_value(&bundle.manifest).expect("json"), newer);
    let statuses = |bundle: &Bundle| bundle.grants.iter().map(|it| it.status).collect::<Vec<_>>();
    assert_eq!(statuses(&bundle), [GrantStatus::OtherKey, GrantStatus::Materialized]);
    let keys = |bundle: &Bundle| -> Vec<String> {
        bundle.wrappings.iter().map(|it| it.key_ref.to_string()).collect()
    };
    assert_eq!((keys(&bundle), bundle.evidence.len()), (vec![bao.to_owned(), google.to_owned()], 2));
    let event = service.last_event().await;
    assert_eq!(event.action, "bundle.rewrap");
    assert_eq!(event.target.key_ref.map(|key| key.to_string()).as_deref(), Some(google));
    assert_eq!(bundle.wrappings[1].audit_event_id, event.id);
    // Another version of a key is the same key: what was granted holds.
    let version = wrapped_by(body.clone(), &format!("{google}/cryptoKeyVersions/2"), "third");
    let bundle: Bundle = read(&service.post(BUNDLES, &session, &version).await, 200);
    assert_eq!(statuses(&bundle), [GrantStatus::OtherKey, GrantStatus::Materialized]);
    // Attack: each wrapping that was on record before, also under another version of its key.
    refused(&service.post(BUNDLES, &session, &body).await, 409, "bundle_conflict");
    refused(&service.post(BUNDLES, &session, &newer).await, 409, "bundle_conflict");
    let mut renamed = newer.clone();
    renamed["key_ref"] = format!("{google}/cryptoKeyVersions/1").into();
    refused(&service.post(BUNDLES, &session, &renamed).await, 409, "bundle_conflict");

    // The same grantee on another key is another grant, and neither is lost.
    let second = wrapped_by(body.clone(), "openbao://transit/second", "fourth");
    read::<Bundle>(&service.post(BUNDLES, &session, &second).await, 200);
    let anew: Grant = read(&service.post(GRANTS, &session, &asked).await, 201);
    assert_ne!(anew.id, older.id);
    let again: Grant = read(&service.post(GRANTS, &session, &asked).await, 200);
    assert_eq!(again, anew);
    let gone: Grant = read(&delete(&service, &format!("{GRANTS}/{}", older.id), &session).await, 200);
    assert_eq!(gone.status, GrantStatus::Revoked);
    let event = service.last_event().await;
    assert_eq!(event.target.key_ref.map(|key| key.to_string()).as_deref(), Some(bao));

    // It is all there after a restart, and wrapped with the first key once more it is granted as it was.
    let service = service.restart().await;
    let session = service.session("release").await;
    let first = wrapped_by(body, bao, "fifths");
    let bundle: Bundle = read(&service.post(BUNDLES, &session, &first).await, 200);
    let expected = [GrantStatus::Revoked, GrantStatus::OtherKey, GrantStatus::OtherKey];
    assert_eq!((statuses(&bundle), bundle.wrappings.len()), (expected.to_vec(), 5));
    let mut elsewhere = asked.clone();
    elsewhere["key_ref"] = AWS.into();
    refused(&service.post(GRANTS, &session, &elsewhere).await, 422, "invalid_document");
    let view: DeliveryView = read(&service.get(VIEW, &session).await, 200);
    assert_eq!(view.items[0], bundle);
}

/// Makes of what is stored what an older release would have left: no list of wrappings, and grants without a key.
fn age(data: &Path) {
    const BUNDLES: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("delivery_bundles");
    const GRANTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("delivery_grants");
    const BY_GRANTEE: TableDefinition<'_, (&str, &str, &str), &str> =
        TableDefinition::new("delivery_grants_by_grantee");
    let without = |json: &[u8], member: &str| {
        let mut value: Value = serde_json::from_slice(json).expect("json");
        value.as_object_mut().expect("object").remove(member).expect(member);
        serde_json::to_vec(&value).expect("json")
    };
    let database = Database::open(data.join("state.redb")).expect("database");
    let txn = database.begin_write().expect("transaction");
    {
        let mut bundles = txn.open_table(BUNDLES).expect("table");
        let older = without(bundles.get(("acme", "01JO")).expect("read").expect("row").value(), "wrappings");
        bundles.insert(("acme", "01JO"), older.as_slice()).expect("written");
        let mut by_grantee = txn.open_table(BY_GRANTEE).expect("table");
        let slot = ("acme", "01JO", "ops openbao://transit/globex");
        let id = by_grantee.remove(slot).expect("read").expect("row").value().to_owned();
        by_grantee.insert(("acme", "01JO", "ops"), id.as_str()).expect("written");
        let mut grants = txn.open_table(GRANTS).expect("table");
        let older = without(grants.get(id.as_str()).expect("read").expect("row").value(), "key_ref");
        grants.insert(id.as_str(), older.as_slice()).expect("written");
    }
    txn.commit().expect("committed");
}

#[tokio::test]
async fn what_an_older_release_left_is_on_the_key_of_then() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let body = manifest("01JO", "globex");
    read::<Bundle>(&service.post(BUNDLES, &session, &body).await, 201);
    let bao = "openbao://transit/globex";
    let newer = wrapped_by(body.clone(), bao, "newer");
    let before: Bundle = read(&service.post(BUNDLES, &session, &newer).await, 200);
    let asked = materialized(grant("01JO", "globex", "ops"));
    let given: Grant = read(&service.post(GRANTS, &session, &asked).await, 201);
    let service = service.restart_after(age).await;
    let session = service.session("release").await;
    let shown: Bundle = read(&service.get(&format!("{BUNDLES}/01JO"), &session).await, 200);
    assert_eq!(shown.wrappings, before.wrappings[1..], "what it is, since when");
    assert_eq!(shown.grants, std::slice::from_ref(&given));
    let again: Grant = read(&service.post(GRANTS, &session, &asked).await, 200);
    assert_eq!(again, given);
    let mut early = materialized(grant("01JO", "globex", "ops"));
    early["key_ref"] = "openbao://transit/next".into();
    let early: Grant = read(&service.post(GRANTS, &session, &early).await, 201);
    assert_ne!(early.id, given.id, "one on another key");
    // With another key it is known which one that was.
    let other = wrapped_by(body.clone(), AWS, "other");
    let moved: Bundle = read(&service.post(BUNDLES, &session, &other).await, 200);
    let grant = &moved.grants[0];
    assert_eq!((&grant.id, &grant.key_ref, grant.status), (&given.id, &given.key_ref, GrantStatus::OtherKey));
    for former in [&body, &newer] {
        refused(&service.post(BUNDLES, &session, former).await, 409, "bundle_conflict");
    }
    let mut on_former = asked;
    on_former["key_ref"] = bao.into();
    let again: Grant = read(&service.post(GRANTS, &session, &on_former).await, 200);
    assert_eq!(again.id, given.id);
}

const ATTACHMENTS: &str = "v1/evidence/attachments";
const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// What is signed of the delivery of a manifest.
fn statement(manifest: &Value) -> Value {
    let mut predicate = json!({
        "created_at": manifest["created_at"],
        "descriptor_sha256": manifest["key_provider"]["context"]["descriptor_sha256"],
    });
    for member in ["bundle_id", "tenant_id", "project_slug", "customer_slug", "package_name", "version"] {
        predicate[member] = manifest[member].clone();
    }
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": manifest["bundle_id"], "digest": {"sha256": manifest["bundle"]["sha256"]}}],
        "predicateType": "https://protected-registry.dev/statements/delivery/v1",
        "predicate": predicate,
    })
}

/// A Sigstore bundle of a statement. Who signed it is for its readers to verify.
fn bundle_of(statement: &Value) -> Value {
    json!({
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": "one"}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": STANDARD.encode(statement.to_string()),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"sig": STANDARD.encode("signature")}],
        },
    })
}

fn attachment(manifest: &Value, bundle: &Value) -> Value {
    let inline = bundle.to_string();
    json!({
        "project_slug": manifest["project_slug"], "package_name": manifest["package_name"],
        "version": manifest["version"], "bundle_id": manifest["bundle_id"],
        "documents": [{
            "type": "sigstore-bundle", "media_type": BUNDLE_TYPE, "sha256": Sha256::of(&inline), "inline": inline,
        }],
    })
}

/// The signed statement over a delivery is evidence of it, once, and of no other.
#[tokio::test]
async fn the_signed_statement_is_evidence_of_its_delivery() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let body = manifest("01JS", "globex");
    let wanted = attachment(&body, &bundle_of(&statement(&body)));
    // Neither published nor built here: the delivery is what it is about, once it is on record.
    refused(&service.post(ATTACHMENTS, &session, &wanted).await, 404, "not_found");
    read::<Bundle>(&service.post(BUNDLES, &session, &body).await, 201);
    let mut other = manifest("01JT", "globex");
    other["bundle"]["sha256"] = Sha256::of("other").to_string().into();
    read::<Bundle>(&service.post(BUNDLES, &session, &other).await, 201);

    let said: [(&str, Change<'_>); 15] = [
        ("subject", &|it| it["subject"] = statement(&other)["subject"].clone()),
        ("subject", &|it| it["subject"][0]["name"] = "01JT".into()),
        ("subject", &|it| it["subject"][0]["digest"]["sha256"] = Sha256::of("other").to_string().into()),
        ("subject", &|it| it["subject"][0]["digest"] = json!({})),
        ("subject", &|it| it["subject"][0]["digest"]["sha512"] = "00".repeat(64).into()),
        ("subject", &|it| it["subject"] = json!([it["subject"][0], it["subject"][0]])),
        ("subject", &|it| it["subject"] = json!([])),
        ("format", &|it| it["_type"] = "https://in-toto.io/Statement/v2".into()),
        ("format", &|it| it["more"] = 1.into()),
        ("predicate", &|it| {
            it["predicateType"] = "https://protected-registry.dev/statements/delivery-keys/v1".into();
        }),
        ("customer_slug", &|it| it["predicate"]["customer_slug"] = "initech".into()),
        ("descriptor_sha256", &|it| {
            it["predicate"]["descriptor_sha256"] = Sha256::of("other").to_string().into();
        }),
        ("created_at", &|it| it["predicate"]["created_at"] = "2026-01-02T03:04:06Z".into()),
        ("delivery", &|it| it["predicate"] = json!({})),
        ("version", &|it| it["predicate"]["version"] = "1.0.1".into()),
    ];
    for (check, change) in said {
        let mut bad = statement(&body);
        change(&mut bad);
        let response = service.post(ATTACHMENTS, &session, &attachment(&body, &bundle_of(&bad))).await;
        let problem = refused(&response, 422, "invalid_document");
        assert!(problem.message().contains(check), "{check}: {}", problem.message());
    }
    let built: [Change<'_>; 7] = [
        &|it| it["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.2".into(),
        &|it| it["more"] = 1.into(),
        &|it| it["dsseEnvelope"]["payloadType"] = "text/plain".into(),
        &|it| it["dsseEnvelope"]["payload"] = "?".into(),
        &|it| it["dsseEnvelope"]["signatures"] = json!([]),
        &|it| it["verificationMaterial"] = json!({}),
        &|it| {
            it["messageSignature"] = json!({
                "messageDigest": {"algorithm": "SHA2_256", "digest": STANDARD.encode([0; 32])},
                "signature": STANDARD.encode("signature"),
            });
            it.as_object_mut().expect("object").remove("dsseEnvelope");
        },
    ];
    for (number, change) in built.into_iter().enumerate() {
        let mut bad = bundle_of(&statement(&body));
        change(&mut bad);
        let response = service.post(ATTACHMENTS, &session, &attachment(&body, &bad)).await;
        assert_eq!(response.status, 422, "{number}: {}", String::from_utf8_lossy(response.body()));
    }
    let inline = statement(&body).to_string();
    let asked: [(u16, &str, Change<'_>); 9] = [
        (422, "invalid_document", &|it| it["integrity"] = Integrity::of("tarball").to_string().into()),
        (422, "invalid_document", &|it| it["build_id"] = "01ARZ3NDEKTSV4RRFFQ69G5FAV".into()),
        (422, "invalid_document", &|it| it["version"] = "1.0.1".into()),
        (422, "invalid_document", &|it| it["documents"][0]["sha256"] = Sha256::of("x").to_string().into()),
        (422, "invalid_document", &|it| it["documents"] = json!([])),
        (422, "invalid_document", &|it| {
            it["documents"][0] = json!({
                "type": "provenance", "media_type": "application/vnd.in-toto+json",
                "sha256": Sha256::of(&inline), "inline": inline,
            });
        }),
        (404, "not_found", &|it| it["bundle_id"] = "01JX".into()),
        (422, "invalid_document", &|it| it["bundle_id"] = "01JT".into()),
        (403, "project_not_entitled", &|it| it["tenant_id"] = "rival".into()),
    ];
    for (status, code, change) in asked {
        let mut bad = wanted.clone();
        change(&mut bad);
        refused(&service.post(ATTACHMENTS, &session, &bad).await, status, code);
    }
    let mut large = bundle_of(&statement(&body));
    large["verificationMaterial"]["publicKey"]["hint"] = "x".repeat(256 << 10).into();
    refused(&service.post(ATTACHMENTS, &session, &attachment(&body, &large)).await, 413, "too_large");
    refused(&service.post(ATTACHMENTS, &service.person("member").await, &wanted).await, 403, "action_denied");
    let shown: Bundle = read(&service.get(&format!("{BUNDLES}/01JS"), &session).await, 200);
    assert_eq!(shown.evidence.len(), 1, "nothing of that is on record");

    let made: AttachmentResponse = read(&service.post(ATTACHMENTS, &session, &wanted).await, 201);
    let event = service.last_event().await;
    assert_eq!((event.action.as_str(), event.target.bundle_id.as_deref()), ("evidence.attach", Some("01JS")));
    assert_eq!(made.audit_event_id, event.id);
    let again: AttachmentResponse = read(&service.post(ATTACHMENTS, &session, &wanted).await, 200);
    assert_eq!(again, made);
    let record = &made.evidence[0];
    assert_eq!(
        (record.subject.sha256.to_string(), record.subject.sha512),
        (body["bundle"]["sha256"].as_str().expect("digest").to_owned(), None,)
    );
    let service = service.restart().await;
    let session = service.session("release").await;
    let shown: Bundle = read(&service.get(&format!("{BUNDLES}/01JS"), &session).await, 200);
    assert_eq!(shown.evidence[1..], made.evidence);
    let view: DeliveryView = read(&service.get(VIEW, &session).await, 200);
    assert_eq!(view.items[1], shown);
    assert_eq!(view.items[0].evidence.len(), 1, "the other delivery has none");
    let content = service.get(&format!("v1/evidence/{}/content", record.id), &session).await;
    assert_eq!(content.json::<Value>().expect("json"), bundle_of(&statement(&body)));
    // Wrapped anew it is the same delivery: the statement stays, and is not kept twice.
    read::<Bundle>(&service.post(BUNDLES, &session, &wrapped_by(body, AWS, "newer")).await, 200);
    let again: AttachmentResponse = read(&service.post(ATTACHMENTS, &session, &wanted).await, 200);
    assert_eq!(again.evidence, made.evidence);
    let shown: Bundle = read(&service.get(&format!("{BUNDLES}/01JS"), &session).await, 200);
    assert_eq!(shown.evidence.len(), 3);
}

#[tokio::test]
async fn a_delivery_of_a_build_has_its_artifact() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let response = service.post(BUILDS, &session, &build("1.0.0", b"tarball")).await;
    let built: BuildRecordResponse = read(&response, 201);
    let of_build = |id: &str, path: &str, bytes: &str| {
        let mut body = manifest(id, "globex");
        body["contents"] = json!([{"path": path, "sha256": Sha256::of(bytes), "size": 7}]);
        body["integrity"]["sha256"] = Sha256::of(canonical(&body["contents"])).to_string().into();
        body["build_id"] = built.build_id.as_str().into();
        body
    };
    // The source itself, and the artifact among the documents that come beside it.
    for (path, bytes) in [("src/index.ts", "source!"), ("evidence/core-1.0.0.tgz", "tarball")] {
        let response = service.post(BUNDLES, &session, &of_build("01JS", path, bytes)).await;
        let problem = refused(&response, 422, "invalid_document");
        let detail = problem.error.clone();
        assert!(detail.contains("has no file with the SHA-256 of its artifact `core-1.0.0.tgz`"), "{detail}");
    }
    read::<Bundle>(&service.post(BUNDLES, &session, &of_build("01JS", "renamed.tgz", "tarball")).await, 201);
}

#[tokio::test]
async fn a_page_ends_before_it_takes_the_memory() {
    let service = Service::start().await;
    let session = service.session("release").await;
    // As many files as a delivery may have.
    let files: Vec<Value> = (0..10_000)
        .map(|file| json!({"path": format!("lib/{}{file}.js", "component/".repeat(9)), "sha256": Sha256::of("x"), "size": 1}))
        .collect();
    let ids: Vec<String> = (0..6).map(|number| format!("01JP{number}")).collect();
    for id in &ids {
        let mut body = manifest(id, "globex");
        body["contents"] = files.clone().into();
        body["integrity"]["size"] = (2 * 512 + files.len() * 2 * 512).into();
        body["integrity"]["sha256"] = Sha256::of(canonical(&body["contents"])).to_string().into();
        read::<Bundle>(&service.post(BUNDLES, &session, &body).await, 201);
    }
    // The client takes no more than 8 MiB of an answer.
    let (mut seen, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let response = service.get(&format!("{VIEW}?limit=100{cursor}"), &session).await;
        let page: DeliveryView = read(&response, 200);
        seen.extend(page.items.into_iter().map(|item| item.manifest.bundle_id.to_string()));
        pages += 1;
        let Some(next) = page.next_cursor else { break };
        cursor = format!("&cursor={next}");
    }
    seen.reverse();
    assert_eq!((seen, pages), (ids, 3), "each has two megabytes");
}

#[tokio::test]
async fn what_looks_like_a_key_is_refused_and_not_repeated() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let secret = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";
    let changes: [Change<'_>; 8] = [
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
