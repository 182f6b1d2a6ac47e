//! Documents on record: who may attach what, where each comes from, who sees it, and how long it stays.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use protected_http::Response;
use protected_model::{
    api::{
        build::BuildRecordResponse,
        evidence::{AttachmentResponse, EvidenceManifest, EvidencePage, EvidenceRecord},
    },
    digest::{Integrity, Sha256},
    integrity::canonical,
    secret::AccessToken,
};
use serde_json::{Value, json};

use super::{
    builds::build,
    service::{Service, refused, wanted},
};
use crate::registry::tests::{published_document, tarball};

const BUILDS: &str = "v1/packages/protection/builds";
const ATTACHMENTS: &str = "v1/evidence/attachments";

fn document(kind: &str, media_type: &str, inline: &str) -> Value {
    json!({"type": kind, "media_type": media_type, "sha256": Sha256::of(inline), "inline": inline})
}

fn sbom(text: &str) -> Value {
    document(
        "sbom",
        "application/vnd.cyclonedx+json",
        &json!({"bomFormat": "CycloneDX", "text": text}).to_string(),
    )
}

/// A statement about `@acme/core` at `version`, whose tarball is `bytes`.
fn statement(version: &str, bytes: &[u8]) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{
            "name": format!("pkg:npm/%40acme/core@{version}"),
            "digest": {"sha256": Sha256::of(bytes), "sha512": Integrity::of(bytes).hex()},
        }],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {},
    })
}

fn provenance(statement: &Value) -> Value {
    document("provenance", "application/vnd.in-toto+json", &statement.to_string())
}

fn bundle(statement: &Value) -> Value {
    let bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {},
        "dsseEnvelope": {
            "payloadType": "application/vnd.in-toto+json", "payload": STANDARD.encode(statement.to_string()),
            "signatures": [{"sig": "AAAA"}],
        },
    });
    document("sigstore-bundle", "application/vnd.dev.sigstore.bundle.v0.3+json", &bundle.to_string())
}

fn about(version: &str, documents: &[Value]) -> Value {
    json!({"project_slug": "core", "package_name": "@acme/core", "version": version, "documents": documents})
}

impl Service {
    async fn record(&self, session: &AccessToken, version: &str) -> BuildRecordResponse {
        let response = self.post(BUILDS, session, &build(version, version.as_bytes())).await;
        assert_eq!(response.status, 201, "{:?}", response.body());
        response.json().expect("build")
    }

    async fn attach(&self, session: &AccessToken, body: &Value) -> Response {
        self.post(ATTACHMENTS, session, body).await
    }

    async fn page(&self, query: &str, bearer: &AccessToken) -> EvidencePage {
        let response = self.get(&format!("v1/evidence?{query}"), bearer).await;
        assert_eq!(response.status, 200, "{query}: {:?}", response.body());
        response.json().expect("page")
    }

    async fn ids(&self, query: &str, bearer: &AccessToken) -> Vec<String> {
        self.page(query, bearer).await.items.into_iter().map(|record| record.id).collect()
    }
}

fn attached(response: &Response, status: u16) -> Vec<EvidenceRecord> {
    assert_eq!(response.status, status, "{}", String::from_utf8_lossy(response.body()));
    response.json::<AttachmentResponse>().expect("records").evidence
}

#[tokio::test]
async fn a_document_says_where_it_comes_from_and_is_kept_once() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let body = about(
        "1.0.0",
        &[sbom("one"), provenance(&statement("1.0.0", b"1.0.0")), bundle(&statement("1.0.0", b"1.0.0"))],
    );
    refused(&service.attach(&session, &body).await, 404, "not_found");
    let built = service.record(&session, "1.0.0").await;
    let records = attached(&service.attach(&session, &body).await, 201);
    let event = service.last_event().await;
    assert_eq!((event.action.as_str(), &event.id), ("evidence.attach", &records[0].audit_event_id));
    let kinds: Vec<_> = records.iter().map(|record| record.kind.as_str()).collect();
    assert_eq!(kinds, ["sbom", "provenance", "sigstore-bundle"]);
    for record in &records {
        assert_eq!(record.build_id.as_ref(), Some(&built.build_id));
        assert_eq!(record.token_id, event.token_jti.as_ref().map(Sha256::of));
        let publisher = record.publisher.as_ref().expect("a run");
        assert_eq!(publisher.repository_id.as_deref(), Some("2002"));
        assert!(publisher.run_id.is_some() && publisher.sha.is_some(), "{publisher:?}");
        assert_eq!(record.subject.purl, "pkg:npm/%40acme/core@1.0.0");
        assert_eq!(record.subject.sha512, Some(Integrity::of("1.0.0")));
    }
    let sent = body["documents"][0]["inline"].as_str().expect("inline");
    let content = service.get(&format!("v1/evidence/{}/content", records[0].id), &session).await;
    assert_eq!((content.status, content.body().as_ref()), (200, sent.as_bytes()));
    assert_eq!(content.header("content-type"), Some("application/vnd.cyclonedx+json"));

    // Again, by the same run and by another: the first record, and no second event.
    let events = service.events().await.len();
    let other = service.session("release").await;
    let events_of_login = service.events().await.len() - events;
    for session in [&session, &other] {
        assert_eq!(attached(&service.attach(session, &body).await, 200), records);
    }
    assert_eq!(service.events().await.len(), events + events_of_login);
    // One of them new, one of them known: each gets its own.
    let mixed = about("1.0.0", &[sbom("one"), sbom("two")]);
    let mixed = attached(&service.attach(&session, &mixed).await, 201);
    assert_eq!(mixed[0], records[0]);
    assert_ne!(mixed[1].audit_event_id, records[0].audit_event_id);
    // The documents of the build are found there too, and are not kept a second time.
    let from_build = json!({"files": []}).to_string();
    let again =
        document("integrity-manifest", "application/vnd.protected-registry.integrity.v1+json", &from_build);
    assert_eq!(attached(&service.attach(&session, &about("1.0.0", &[again])).await, 200), built.evidence);
}

#[tokio::test]
async fn what_is_not_evidence_of_the_version_is_refused() {
    let service = Service::start().await;
    let session = service.session("release").await;
    service.record(&session, "1.0.0").await;
    let good = statement("1.0.0", b"1.0.0");
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut statement = good.clone();
        change(&mut statement);
        statement
    };
    let two = changed(&|it| {
        let subject = it["subject"][0].clone();
        it["subject"].as_array_mut().expect("subjects").push(subject);
    });
    let lies = [
        (document("page", "text/html", "<script>"), "a document of type `page` is not kept"),
        (document("sbom", "text/html", "<script>"), "and this is `text/html`"),
        (document("sbom", "application/vnd.cyclonedx+json", "[]"), "not a JSON object"),
        (document("sbom", "application/vnd.cyclonedx+json", r#"{"a":1"#), "not a JSON object"),
        (document("a\nb", "application/json", "{}"), "visible ASCII"),
        (
            {
                let mut it = sbom("x");
                it["inline"] = "{}".into();
                it
            },
            "and is said to have",
        ),
        (
            provenance(&changed(&|it| it["subject"][0]["name"] = "pkg:npm/%40acme/other@1.0.0".into())),
            "is about `pkg:npm/%40acme/other@1.0.0`",
        ),
        (
            provenance(&changed(&|it| it["subject"][0]["name"] = "pkg:npm/%40acme/core@1.0.1".into())),
            "is about",
        ),
        (provenance(&changed(&|it| it["subject"][0]["digest"]["sha512"] = "00".into())), "is about"),
        (provenance(&changed(&|it| it["subject"][0]["digest"]["sha256"] = "00".into())), "is about"),
        (provenance(&changed(&|it| it["subject"][0]["digest"] = json!({}))), "with no digest"),
        (provenance(&changed(&|it| it["subject"][0]["digest"] = json!({"sha1": "00"}))), "with no digest"),
        (provenance(&changed(&|it| it["subject"] = json!([]))), "has 0 subjects"),
        (provenance(&two), "has 2 subjects"),
        (provenance(&json!({"a": 1})), "no in-toto statement"),
        (
            bundle(&changed(&|it| it["subject"][0]["name"] = "pkg:npm/evil@1.0.0".into())),
            "is about `pkg:npm/evil@1.0.0`",
        ),
        (document("sigstore-bundle", "application/vnd.dev.sigstore.bundle.v0.3+json", "{}"), "no bundle"),
        (
            document(
                "sigstore-bundle",
                "application/vnd.dev.sigstore.bundle.v0.3+json",
                r#"{"dsseEnvelope":{"payload":"?"}}"#,
            ),
            "not base64",
        ),
    ];
    for (lie, reason) in lies {
        let response = service.attach(&session, &about("1.0.0", &[sbom("fine"), lie.clone()])).await;
        let problem = refused(&response, 422, "invalid_document");
        assert!(problem.message().contains(reason), "expected {reason}: {}", problem.message());
    }
    for (change, status, code) in [
        (json!({"integrity": Integrity::of("other")}), 422, "invalid_document"),
        (json!({"build_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}), 422, "invalid_document"),
        (json!({"documents": []}), 422, "invalid_document"),
        (json!({"documents": vec![sbom("x"); 65]}), 422, "invalid_document"),
        (json!({"version": "9.9.9"}), 404, "not_found"),
        (json!({"package_name": "@acme/plain"}), 404, "not_found"),
        (json!({"package_name": "@rival/core"}), 404, "package_not_in_project"),
        (json!({"project_slug": "other"}), 403, "project_not_entitled"),
        (json!({"tenant_id": "rival"}), 403, "project_not_entitled"),
        (json!({"more": 1}), 400, "invalid_request"),
    ] {
        let mut body = about("1.0.0", &[sbom("x")]);
        for (key, value) in change.as_object().expect("object") {
            body[key] = value.clone();
        }
        refused(&service.attach(&session, &body).await, status, code);
    }
    let large = "x".repeat(17 << 20);
    refused(&service.attach(&session, &about("1.0.0", &[sbom(&large)])).await, 413, "too_large");
    // Nothing of it is on record, and who may only read may not attach.
    let found = service.page("type=sbom", &session).await;
    assert!(found.items.is_empty(), "{found:?}");
    refused(
        &service.attach(&AccessToken::new("nonsense"), &about("1.0.0", &[sbom("x")])).await,
        401,
        "unauthenticated",
    );
    let member = service.person("member").await;
    let mut body = about("1.0.0", &[sbom("x")]);
    body["package_name"] = "@acme/plain".into();
    refused(&service.attach(&member, &body).await, 403, "ci_only");
}

#[tokio::test]
async fn records_are_found_by_what_they_are_linked_to() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let mut all = Vec::new();
    for n in 0..5 {
        let version = format!("1.0.{n}");
        let built = service.record(&session, &version).await;
        all.push(built.evidence[0].clone());
        let body = about(&version, &[sbom(&version), provenance(&statement(&version, version.as_bytes()))]);
        all.extend(attached(&service.attach(&session, &body).await, 201));
    }
    // In the order in which they are listed: of one millisecond, the order of their ids.
    all.sort_by(|a, b| b.id.cmp(&a.id));
    let publisher = all[0].publisher.clone().expect("a run");
    let (run, commit) = (publisher.run_id.expect("run"), publisher.sha.expect("commit"));
    let build_id = all[0].build_id.clone().expect("build");
    let (sboms, sha256) = (|it: &EvidenceRecord| it.kind == "sbom", all[1].sha256);
    type Is<'a> = &'a dyn Fn(&EvidenceRecord) -> bool;
    let cases: &[(String, Is<'_>)] = &[
        (String::new(), &|_| true),
        ("type=sbom".to_owned(), &sboms),
        (format!("build_id={build_id}"), &|it| it.build_id.as_ref() == Some(&build_id)),
        (format!("run_id={run}"), &|_| true),
        (format!("run_id={run}&type=sbom"), &sboms),
        (format!("commit={commit}"), &|_| true),
        (format!("commit={commit}0"), &|_| false),
        (format!("sha256={sha256}"), &|it| it.sha256 == sha256),
        (format!("sha256={}", Sha256::of(r#"{"files":[]}"#)), &|it| it.kind == "integrity-manifest"),
        ("package_name=@acme/core&version=1.0.3".to_owned(), &|it| it.subject.purl.ends_with("@1.0.3")),
        ("package_name=@acme/core&version=1.0.3&type=vsa".to_owned(), &|_| false),
        ("version=1.0.3".to_owned(), &|it| it.subject.purl.ends_with("@1.0.3")),
        ("package_name=@acme/cor".to_owned(), &|_| false),
        ("project_slug=core".to_owned(), &|_| true),
    ];
    for (query, is_wanted) in cases {
        let expected: Vec<_> = all.iter().filter(|it| is_wanted(it)).map(|it| it.id.clone()).collect();
        assert_eq!(service.ids(query, &session).await, expected, "{query}");
        assert_eq!(service.ids(query, &service.operator()).await, expected, "operator: {query}");
        let of_tenant = format!("{query}&tenant_id=acme");
        assert_eq!(service.ids(&of_tenant, &service.operator()).await, expected, "{of_tenant}");
        // Page by page it is the same.
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = service.page(&format!("{query}&limit=2{cursor}"), &session).await;
            assert!(page.items.len() <= 2);
            found.extend(page.items.into_iter().map(|it| it.id));
            let Some(next) = page.next_cursor else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found, expected, "{query} in pages");
    }
    refused(&service.get("v1/evidence?sha256=no", &session).await, 400, "invalid_request");
    // After a restart too.
    let service = service.restart().await;
    assert_eq!(service.ids("type=sbom", &service.operator()).await.len(), 5);
}

#[tokio::test]
async fn one_tenants_evidence_is_nothing_to_another() {
    let service = Service::start().await;
    let (acme, rival) = (service.session("release").await, service.session("rival").await);
    service.record(&acme, "1.0.0").await;
    let mut own = build("1.0.0", b"theirs");
    own["package_name"] = "@rival/core".into();
    assert_eq!(service.post(BUILDS, &rival, &own).await.status, 201);
    // The same bytes: one file, two records.
    let mut theirs = about("1.0.0", &[sbom("same")]);
    let mine = attached(&service.attach(&acme, &theirs).await, 201);
    refused(&service.attach(&rival, &theirs).await, 404, "package_not_in_project");
    theirs["package_name"] = "@rival/core".into();
    let theirs = attached(&service.attach(&rival, &theirs).await, 201);
    assert_eq!(mine[0].sha256, theirs[0].sha256);
    assert_ne!(mine[0].id, theirs[0].id);
    let by_digest = format!("sha256={}", mine[0].sha256);
    for (session, own, other) in [(&acme, &mine, &theirs), (&rival, &theirs, &mine)] {
        assert_eq!(service.ids(&by_digest, session).await, [own[0].id.clone()]);
        for path in ["", "/content"] {
            refused(
                &service.get(&format!("v1/evidence/{}{path}", other[0].id), session).await,
                404,
                "not_found",
            );
        }
    }
    let manifest = "v1/evidence/manifest?package_name=@rival/core&version=1.0.0";
    refused(&service.get(manifest, &acme).await, 404, "not_found");
    refused(&service.get(&format!("{manifest}&tenant_id=rival"), &acme).await, 403, "project_not_entitled");
    refused(&service.get("v1/evidence?tenant_id=rival", &acme).await, 403, "project_not_entitled");
    // Nor to another project of the tenant.
    let other = service.session("release").await;
    refused(&service.get("v1/evidence?project_slug=other", &other).await, 403, "project_not_entitled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_at_once_one_is_kept() {
    let service = std::sync::Arc::new(Service::start().await);
    let session = service.session("release").await;
    service.record(&session, "1.0.0").await;
    for round in 0..5 {
        let body = about("1.0.0", &[sbom(&format!("round {round}"))]);
        let tasks = (0..12).map(|_| {
            let (service, session, body) = (service.clone(), session.clone(), body.clone());
            tokio::spawn(async move {
                let response = service.attach(&session, &body).await;
                (response.status, response.json::<AttachmentResponse>().expect("records").evidence)
            })
        });
        let mut answers = Vec::new();
        for task in tasks.collect::<Vec<_>>() {
            answers.push(task.await.expect("answer"));
        }
        assert_eq!(answers.iter().filter(|(status, _)| *status == 201).count(), 1, "round {round}");
        assert!(answers.iter().all(|(_, records)| *records == answers[0].1), "round {round}");
    }
    assert_eq!(service.ids("type=sbom", &session).await.len(), 5);
}

#[tokio::test]
async fn the_manifest_is_of_every_document_and_of_nothing_else() {
    let service = Service::start().await;
    let session = service.session("release").await;
    service.record(&session, "1.0.0").await;
    service.record(&session, "1.0.1").await;
    attached(&service.attach(&session, &about("1.0.0", &[sbom("b"), sbom("a")])).await, 201);
    let path = "v1/evidence/manifest?package_name=@acme/core&version=1.0.0";
    let response = service.get(path, &session).await;
    assert_eq!(response.status, 200, "{:?}", response.body());
    let etag = format!("\"{}\"", Sha256::of(response.body()));
    assert_eq!(response.header("etag"), Some(etag.as_str()));
    assert_eq!(response.header("content-type"), Some("application/vnd.protected-registry.evidence.v1+json"));
    let mut manifest: EvidenceManifest = response.json().expect("manifest");
    assert_eq!(canonical(&manifest), response.body().as_ref());
    assert!(manifest.is_whole());
    let listed: Vec<_> = manifest.documents.iter().map(|it| (it.kind.as_str(), it.sha256)).collect();
    assert!(listed.is_sorted());
    assert_eq!(listed.iter().map(|it| it.0).collect::<Vec<_>>(), ["integrity-manifest", "sbom", "sbom"]);
    manifest.documents[1].sha256 = Sha256::of("other");
    assert!(!manifest.is_whole());
    // The same documents, the same bytes; one more, other bytes.
    let again = service.get(path, &session).await;
    assert_eq!(again.body(), response.body());
    let operator = service.operator();
    refused(&service.get(path, &operator).await, 400, "invalid_request");
    assert_eq!(service.get(&format!("{path}&tenant_id=acme"), &operator).await.body(), response.body());
    attached(&service.attach(&session, &about("1.0.0", &[sbom("c")])).await, 201);
    assert_ne!(service.get(path, &session).await.body(), response.body());
    let none = "v1/evidence/manifest?package_name=@acme/core&version=2.0.0";
    refused(&service.get(none, &session).await, 404, "not_found");
}

const DAY: i64 = 24 * 60 * 60;

#[tokio::test]
async fn old_evidence_goes_and_what_belongs_to_a_published_version_stays() {
    let service =
        Service::start_with(|text| text.replace("# retention_days = 365", "retention_days = 30")).await;
    let session = service.session("release").await;
    // 1.0.0 is published and 1.0.1 never is.
    let packed = tarball("@acme/core", "1.0.0");
    assert_eq!(service.post(BUILDS, &session, &build("1.0.0", &packed)).await.status, 201);
    let mut mint = wanted("@acme/core", "publish");
    mint["artifact_sha512"] = Integrity::of(&packed).to_string().into();
    let minted: Value = service.mint(&session, &mint).await.json().expect("token");
    let token = AccessToken::new(minted["token"].as_str().expect("token"));
    let at = service.url.join("repository/npm-hosted/@acme%2fcore");
    let upload = published_document("@acme/core", "1.0.0", &packed);
    let put = service.http.put(at).bearer(&token).json(&upload).send().await.expect("answer");
    assert_eq!(put.status, 201, "{:?}", put.body());
    let kept =
        attached(&service.attach(&session, &about("1.0.0", &[sbom("shared"), sbom("kept")])).await, 201);
    service.record(&session, "1.0.1").await;
    let gone =
        attached(&service.attach(&session, &about("1.0.1", &[sbom("shared"), sbom("gone")])).await, 201);
    let file = |record: &EvidenceRecord| {
        let hex = record.sha256.to_string();
        service.data().join("blobs/sha256").join(&hex[..2]).join(&hex)
    };
    assert!(gone.iter().chain(&kept).all(|record| file(record).exists()));

    service.pass(29 * DAY);
    swept().await;
    let operator = service.operator();
    let all = service.ids("", &operator).await;
    assert!(gone.iter().all(|record| all.contains(&record.id)), "too early");

    service.pass(2 * DAY);
    let since = std::time::Instant::now();
    let left = loop {
        let left = service.ids("", &operator).await;
        if left.len() < all.len() || since.elapsed() > std::time::Duration::from_secs(60) {
            break left;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    };
    assert!(kept.iter().all(|record| left.contains(&record.id)), "what a version needs is gone");
    assert!(!gone.iter().any(|record| left.contains(&record.id)), "{left:?}");
    refused(&service.get(&format!("v1/evidence/{}/content", gone[1].id), &operator).await, 404, "not_found");
    for record in &kept {
        let content = service.get(&format!("v1/evidence/{}/content", record.id), &operator).await;
        assert_eq!(Sha256::of(content.body()), record.sha256, "a file that another record refers to is gone");
    }
    let expired = service.events().await.into_iter().filter(|event| event.action == "evidence.expire");
    // The two, and the integrity manifest of the build.
    assert_eq!(expired.count(), 3);
    // The build is still on record, and names nothing that is gone.
    let session = service.session("release").await;
    let again = service.post(BUILDS, &session, &build("1.0.1", b"1.0.1")).await;
    assert_eq!(again.json::<BuildRecordResponse>().expect("build").evidence, []);
    // And what is gone can be attached again.
    attached(&service.attach(&session, &about("1.0.1", &[sbom("gone")])).await, 201);
}

/// Long enough for the service to have looked for old evidence.
async fn swept() {
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
}
