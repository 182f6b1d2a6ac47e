//! The mint: each denial in its place in the order, and tokens that are good for nothing else.

use protected_model::{
    api::audit::{ActorKind, Decision},
    secret::{AccessToken, Secret as _},
};
use serde_json::{Value, json};

use super::service::{Service, refused, wanted};

#[tokio::test]
async fn a_session_gets_a_token_for_one_package() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let response = service.mint(&session, &wanted("@acme/plain", "install")).await;
    assert_eq!(response.status, 201, "{:?}", response.body());
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let value: Value = response.json().expect("json");
    assert_eq!((&value["expires_in"], &value["token_type"]), (&json!(900), &json!("Bearer")));
    assert_eq!((&value["scope"], &value["policy_id"]), (&json!("@acme"), &json!("acme-core-release")));
    assert_eq!(value["allowed_actions"], json!(["install"]));
    let registry = service.url.join("repository/npm-hosted/").to_string();
    assert_eq!(value["registry_url"], json!(registry));
    assert!(value["npmrc"].as_str().expect("npmrc").starts_with(&format!("@acme:registry={registry}\n")));
    let event = service.last_event().await;
    assert_eq!((event.action.as_str(), event.decision), ("npm_token.mint", Decision::Allow));
    assert_eq!(event.entitlement_snapshot_id.expect("snapshot").as_str(), value["entitlement_snapshot_id"]);
    for mode in ["publish", "install_publish"] {
        let value: Value = service.mint(&session, &wanted("@acme/plain", mode)).await.json().expect("json");
        assert_eq!(value["expires_in"], 300, "{mode}");
    }
}

#[tokio::test]
async fn each_denial_has_its_code() {
    let service = Service::start().await;
    let session = service.session("release").await;
    for (package, mode, status, code) in [
        ("@acme/missing", "install", 404, "package_not_in_project"),
        // Of the same tenant, but of another project; and of another tenant.
        ("@acme/other", "install", 404, "package_not_in_project"),
        ("@rival/core", "install", 404, "package_not_in_project"),
        ("@acme/disabled", "install", 403, "package_disabled"),
        ("@acme/disabled", "publish", 403, "package_disabled"),
        ("@acme/archived", "publish", 403, "package_archived"),
        ("@acme/archived", "install_publish", 403, "package_archived"),
        ("@acme/no-policy", "publish", 403, "no_policy"),
        ("@acme/no-policy", "install_publish", 403, "no_policy"),
        ("@acme/install-only", "publish", 403, "action_denied"),
        ("@acme/install-only", "install_publish", 403, "action_denied"),
        ("@acme/core", "publish", 409, "artifact_policy_unmet"),
        ("@acme/sealed", "publish", 409, "artifact_policy_unmet"),
    ] {
        let problem = refused(&service.mint(&session, &wanted(package, mode)).await, status, code);
        let event = service.last_event().await;
        assert_eq!(
            (event.decision, event.code.as_ref().map(|code| code.as_str())),
            (Decision::Deny, Some(code))
        );
        assert_eq!((Some(event.id), Some(event.decision_id)), (problem.audit_event_id, problem.decision_id));
        assert_eq!(event.target.package_name.expect("package").as_str(), package);
    }
    let response = service.mint(&session, &wanted("@acme/archived", "install")).await;
    assert_eq!(response.status, 201, "archived_install = allow");
    let problem = refused(
        &service.mint(&session, &wanted("@acme/install-only", "publish")).await,
        403,
        "action_denied",
    );
    assert_eq!(serde_json::to_value(problem.allowed_actions).expect("json"), json!(["install"]));
    assert_eq!(problem.nearest_policy.as_deref(), Some("somebody-else"));
    assert!(problem.rules.iter().any(|rule| !rule.ok && rule.claim == "workflow_ref"), "{:?}", problem.rules);
}

#[tokio::test]
async fn a_foreign_project_and_a_missing_one_look_the_same() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let mut bodies = Vec::new();
    for project in ["other", "nowhere"] {
        let mut body = wanted("@acme/other", "install");
        body["project_slug"] = project.into();
        body["expected_entitlement_snapshot_id"] = "snap-stale".into();
        let response = service.mint(&session, &body).await;
        let mut problem = refused(&response, 403, "project_not_entitled");
        assert!(!problem.stale_snapshot && problem.current_snapshot_id.is_none());
        problem.error = problem.error.replace(project, "<project>");
        (problem.decision_id, problem.audit_event_id, problem.correlation_id) = (None, None, None);
        bodies.push(problem);
    }
    assert_eq!(bodies[0], bodies[1]);
    let mut body = wanted("@acme/plain", "install");
    body["tenant_id"] = "rival".into();
    refused(&service.mint(&session, &body).await, 403, "project_not_entitled");
    body["tenant_id"] = "acme".into();
    assert_eq!(service.mint(&session, &body).await.status, 201);
    // The other tenant has a project of the same name: its runs do not see this one's packages.
    let rival = service.session("rival").await;
    refused(&service.mint(&rival, &wanted("@acme/plain", "install")).await, 404, "package_not_in_project");
}

#[tokio::test]
async fn a_stale_snapshot_is_named_and_never_trusted() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let mut body = wanted("@acme/disabled", "install");
    body["expected_entitlement_snapshot_id"] = "snap-stale".into();
    let problem = refused(&service.mint(&session, &body).await, 403, "package_disabled");
    assert!(problem.stale_snapshot);
    let current = problem.current_snapshot_id.expect("current");
    body["expected_entitlement_snapshot_id"] = current.as_str().into();
    let problem = refused(&service.mint(&session, &body).await, 403, "package_disabled");
    assert!(!problem.stale_snapshot, "the current snapshot allows nothing by itself");
    body = wanted("@acme/plain", "install");
    body["expected_entitlement_snapshot_id"] = "snap-stale".into();
    let value: Value = service.mint(&session, &body).await.json().expect("json");
    assert_eq!(value["entitlement_snapshot_id"], current.as_str());
}

#[tokio::test]
async fn people_publish_only_as_maintainers() {
    let service = Service::start().await;
    let maintainer = service.person("maintainer").await;
    let response = service.mint(&maintainer, &wanted("@acme/plain", "publish")).await;
    assert_eq!(response.status, 201, "{:?}", response.body());
    let event = service.last_event().await;
    assert_eq!((event.actor.kind, event.actor.sub.as_str()), (ActorKind::Human, "maria"));
    assert_eq!(event.policy_id.as_deref(), Some("acme-maintainers"));
    // A token of a person works until it expires, not once.
    assert_eq!(service.mint(&maintainer, &wanted("@acme/plain", "install")).await.status, 201);

    let member = service.person("member").await;
    assert_eq!(service.mint(&member, &wanted("@acme/plain", "install")).await.status, 201);
    let problem = refused(&service.mint(&member, &wanted("@acme/plain", "publish")).await, 403, "ci_only");
    assert_eq!(serde_json::to_value(problem.allowed_actions).expect("json"), json!(["install"]));
    refused(&service.mint(&member, &wanted("@acme/install-only", "publish")).await, 403, "action_denied");
    refused(&service.mint(&member, &wanted("@acme/no-policy", "install")).await, 403, "action_denied");

    let nobody = service.person("nobody").await;
    refused(&service.mint(&nobody, &wanted("@acme/plain", "install")).await, 403, "project_not_entitled");
}

#[tokio::test]
async fn only_a_session_token_is_a_session() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let npm: Value = service.mint(&session, &wanted("@acme/plain", "install")).await.json().expect("json");
    let id_token = service.id_token("github-actions", "release", &service.issuer()).await;
    let wrong_audience = service.id_token("generic", "maintainer", "https://other.example").await;
    let tampered = format!("{}x", session.reveal());
    for token in
        [npm["token"].as_str().expect("token"), &id_token, &wrong_audience, &tampered, "x", "${NPM_TOKEN}"]
    {
        let response = service.mint(&AccessToken::new(token), &wanted("@acme/plain", "install")).await;
        let problem = refused(&response, 401, "unauthenticated");
        assert!(!problem.message().contains(token) || token == "x", "{}", problem.message());
    }
    refused(
        &service.mint(&service.operator(), &wanted("@acme/plain", "install")).await,
        401,
        "unauthenticated",
    );
    service.pass(900 + 31);
    refused(&service.mint(&session, &wanted("@acme/plain", "install")).await, 401, "token_expired");
}

#[tokio::test]
async fn the_body_is_checked() {
    let service = Service::start().await;
    let session = service.session("release").await;
    for change in [
        json!({"unknown": 1}),
        json!({"action_mode": "admin"}),
        json!({"package_name": "@acme/../core"}),
        json!({"package_name": null}),
        json!({"project_slug": "a/b"}),
        json!({"package_version": "1.0.0+build"}),
        json!({"artifact_sha512": "sha512-AAAA"}),
    ] {
        let mut body = wanted("@acme/plain", "publish");
        for (name, value) in change.as_object().expect("object") {
            body[name] = value.clone();
        }
        refused(&service.mint(&session, &body).await, 400, "invalid_request");
    }
    let mut deep = "[".repeat(20_000);
    deep.push_str(&"]".repeat(20_000));
    let url = service.url.join("v1/packages/registry/tokens/npm");
    let request = service.http.post(url.clone()).bearer(&session).body(deep.into(), "application/json");
    refused(&request.send().await.expect("answer"), 400, "invalid_request");
    let huge = vec![b' '; 64 * 1024 + 1];
    let request = service.http.post(url).bearer(&session).body(huge.into(), "application/json");
    refused(&request.send().await.expect("answer"), 413, "too_large");
}

#[tokio::test]
async fn a_repeated_mint_gets_the_same_token() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let mint = |package: &str| {
        let body = wanted(package, "publish");
        let url = service.url.join("v1/packages/registry/tokens/npm");
        service.http.post(url).bearer(&session).header("idempotency-key", "k").json(&body).send()
    };
    let first: Value = mint("@acme/plain").await.expect("answer").json().expect("json");
    let second: Value = mint("@acme/plain").await.expect("answer").json().expect("json");
    assert!(first["token"].is_string());
    assert_eq!(first, second);
    refused(&mint("@acme/install-only").await.expect("answer"), 400, "invalid_request");
    let minted = service.events().await.iter().filter(|event| event.action == "npm_token.mint").count();
    assert_eq!(minted, 2, "one mint and one denial");
}

#[tokio::test]
async fn a_dry_run_decides_and_mints_nothing() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let mut body = wanted("@acme/core", "publish");
    body["dry_run"] = true.into();
    let response = service.mint(&session, &body).await;
    assert_eq!(response.status, 200, "{:?}", response.body());
    let value: Value = response.json().expect("json");
    assert!(value.get("token").is_none() && value.get("npmrc").is_none());
    let last = value["rules"].as_array().expect("rules").last().expect("a rule");
    assert_eq!((&last["ok"], &last["actual"]), (&json!(false), &json!("not recorded yet (dry run)")));
    let event = service.last_event().await;
    assert_eq!((event.action.as_str(), event.token_jti.is_some()), ("npm_token.mint.dry_run", true));
    let mut body = wanted("@acme/no-policy", "publish");
    body["dry_run"] = true.into();
    refused(&service.mint(&session, &body).await, 403, "no_policy");
}

#[tokio::test]
async fn a_publish_token_that_nobody_revokes_is_noticed() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let mint = async |mode| {
        let value: Value = service.mint(&session, &wanted("@acme/plain", mode)).await.json().expect("json");
        value["token"].as_str().expect("token").to_owned()
    };
    let revoked = mint("publish").await;
    let (_forgotten, _install) = (mint("publish").await, mint("install").await);
    assert_eq!(service.revoke(&revoked).await.status, 200);
    service.pass(300 + 121);
    let noticed = async || {
        let events = service.events().await;
        events.into_iter().filter(|event| event.action == "token.expired_unrevoked").collect::<Vec<_>>()
    };
    let mut events = noticed().await;
    for _ in 0..60 {
        if !events.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        events = noticed().await;
    }
    assert_eq!(events.len(), 1, "the forgotten one alone");
    assert_eq!(events[0].actor.kind, ActorKind::System);
    assert_eq!(events[0].target.package_name.as_ref().expect("package").as_str(), "@acme/plain");
}

#[tokio::test]
async fn a_revoked_token_works_nowhere() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let events = service.events().await.len();
    for unknown in ["", "x", "a.b.c", &service.id_token("github-actions", "release", &service.issuer()).await]
    {
        let response = service.revoke(unknown).await;
        assert_eq!(response.status, 200, "{unknown}");
    }
    assert_eq!(service.events().await.len(), events, "a stranger's token fills no disk");
    assert_eq!(service.revoke(session.reveal()).await.status, 200);
    assert_eq!(service.revoke(session.reveal()).await.status, 200);
    assert_eq!(service.events().await.len(), events + 1, "twice is as good as once");
    refused(&service.mint(&session, &wanted("@acme/plain", "install")).await, 401, "token_revoked");
    let service = service.restart().await;
    refused(&service.mint(&session, &wanted("@acme/plain", "install")).await, 401, "token_revoked");
}

#[tokio::test]
async fn entitlements_say_what_a_mint_would() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let response = service.get("v1/packages/entitlements?project_slug=core", &session).await;
    let value: Value = response.json().expect("json");
    let packages = value["packages"].as_array().expect("packages");
    let action = |name: &str, action: &str| {
        packages.iter().find(|it| it["name"] == name).expect(name)["actions"][action].clone()
    };
    assert_eq!(action("@acme/plain", "publish"), json!({"allowed": true}));
    assert_eq!(action("@acme/install-only", "install"), json!({"allowed": true}));
    for (name, code) in [
        ("@acme/install-only", "action_denied"),
        ("@acme/no-policy", "no_policy"),
        ("@acme/disabled", "package_disabled"),
    ] {
        let entitlement = action(name, "publish");
        assert_eq!((&entitlement["allowed"], &entitlement["code"]), (&json!(false), &json!(code)));
    }
    for (query, status, code) in [
        ("project_slug=other", 403, "project_not_entitled"),
        ("project_slug=core&package_name=@acme/missing", 404, "package_not_in_project"),
        ("project_slug=core&unknown=1", 400, "invalid_request"),
        ("", 400, "invalid_request"),
    ] {
        let response = service.get(&format!("v1/packages/entitlements?{query}"), &session).await;
        refused(&response, status, code);
    }
}
