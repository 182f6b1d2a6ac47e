//! The exchange: what is taken, what is not, and that an ID token works once.

use protected_model::api::{
    audit::{ActorKind, Decision},
    oauth::{ACCESS_TOKEN_TYPE, GRANT_TYPE, ID_TOKEN_TYPE},
    problem::Problem,
};
use serde_json::Value;

use super::service::{Service, refused, wanted};

#[tokio::test]
async fn a_run_gets_a_session_that_says_who_it_is() {
    let service = Service::start().await;
    let id_token = service.id_token("github-actions", "release", &service.issuer()).await;
    let response = service.exchange(&id_token, None).await;
    assert_eq!(response.status, 200, "{:?}", response.body());
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let value: Value = response.json().expect("json");
    assert_eq!(value["token_type"], "Bearer");
    assert_eq!(value["issued_token_type"], ACCESS_TOKEN_TYPE);
    assert_eq!(value["expires_in"], 900);
    assert_eq!(value["policies"], serde_json::json!(["acme-core-release"]));
    assert_eq!(value["identity"]["repository"], "acme/core");
    let event = service.last_event().await;
    assert_eq!((event.action.as_str(), event.decision), ("exchange", Decision::Allow));
    assert_eq!(event.id, value["audit_event_id"].as_str().expect("id"));
    assert_eq!((event.actor.kind, event.actor.repository_id.as_deref()), (ActorKind::Ci, Some("2002")));
    let trail = serde_json::to_string(&service.events().await).expect("json");
    assert!(!trail.contains(value["access_token"].as_str().expect("token")) && !trail.contains(&id_token));
}

#[tokio::test]
async fn an_id_token_works_once() {
    let service = Service::start().await;
    let id_token = service.id_token("github-actions", "release", &service.issuer()).await;
    assert_eq!(service.exchange(&id_token, None).await.status, 200);
    let problem = refused(&service.exchange(&id_token, None).await, 400, "token_replayed");
    assert_eq!(problem.error, "invalid_request");
    assert_eq!(service.last_event().await.decision, Decision::Deny);
    // Also under a key, when the first exchange had none or another.
    refused(&service.exchange(&id_token, Some("key-1")).await, 400, "token_replayed");
}

#[tokio::test]
async fn of_many_exchanges_at_once_one_wins() {
    let service = Service::start().await;
    for _ in 0..5 {
        let id_token = service.id_token("github-actions", "release", &service.issuer()).await;
        let before = service.events().await.len();
        let all = futures_util::future::join_all((0..20).map(|_| service.exchange(&id_token, None))).await;
        let won = all.iter().filter(|response| response.status == 200).count();
        assert_eq!(won, 1);
        for response in all.iter().filter(|response| response.status != 200) {
            refused(response, 400, "token_replayed");
        }
        let events = service.events().await;
        let allowed = events[before..].iter().filter(|event| event.decision == Decision::Allow).count();
        assert_eq!((events.len() - before, allowed), (20, 1));
    }
}

#[tokio::test]
async fn the_same_key_gets_the_same_answer_for_a_minute() {
    let service = Service::start().await;
    let id_token = service.id_token("github-actions", "release", &service.issuer()).await;
    let all =
        futures_util::future::join_all((0..5).map(|_| service.exchange(&id_token, Some("key-1")))).await;
    let tokens: std::collections::BTreeSet<String> = all
        .iter()
        .map(|response| {
            let value: Value = response.json().expect("json");
            value["access_token"].as_str().expect("token").to_owned()
        })
        .collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(service.events().await.len(), 1);
    refused(&service.exchange(&id_token, Some("key-2")).await, 400, "token_replayed");
    refused(&service.exchange(&id_token, None).await, 400, "token_replayed");
    service.pass(61);
    refused(&service.exchange(&id_token, Some("key-1")).await, 400, "token_replayed");
}

#[tokio::test]
async fn a_key_is_of_one_request() {
    let service = Service::start().await;
    let id_token = service.id_token("github-actions", "release", &service.issuer()).await;
    assert_eq!(service.exchange(&id_token, Some("key-1")).await.status, 200);
    let form = [
        ("grant_type", GRANT_TYPE),
        ("subject_token", id_token.as_str()),
        ("subject_token_type", ID_TOKEN_TYPE),
        ("scope", "npm:publish:@acme/core"),
    ];
    refused(&service.exchange_form(&form, Some("key-1")).await, 400, "invalid_request");
    refused(&service.exchange_form(&form, Some("key 1")).await, 400, "invalid_request");
    // Another ID token under the same key is another caller's business.
    let other = service.id_token("github-actions", "release", &service.issuer()).await;
    assert_eq!(service.exchange(&other, Some("key-1")).await.status, 200);
}

#[tokio::test]
async fn a_refused_exchange_does_not_use_the_token_up() {
    let service = Service::start().await;
    let id_token = service.id_token("github-actions", "release", &service.issuer()).await;
    let form = |scope: &'static str| {
        [
            ("grant_type", GRANT_TYPE),
            ("subject_token", id_token.as_str()),
            ("subject_token_type", ID_TOKEN_TYPE),
            ("scope", scope),
        ]
    };
    // Even one that the run may have: an answer that repeated it would say that the session was narrowed.
    for scope in ["npm:publish:@rival/core", "npm:admin:@acme/core", "npm:publish:@acme/core", "*"] {
        let problem = refused(&service.exchange_form(&form(scope), None).await, 400, "invalid_scope");
        assert_eq!(problem.error, "invalid_scope");
    }
    let dry_run = [
        ("grant_type", GRANT_TYPE),
        ("subject_token", id_token.as_str()),
        ("subject_token_type", ID_TOKEN_TYPE),
        ("dry_run", "true"),
    ];
    let response = service.exchange_form(&dry_run, None).await;
    let value: Value = response.json().expect("json");
    assert_eq!((response.status, value.get("access_token")), (200, None));
    assert_eq!(service.last_event().await.action, "exchange.dry_run");
    let response = service.exchange_form(&form(""), None).await;
    assert_eq!(response.status, 200, "{:?}", response.body());
}

#[tokio::test]
async fn the_form_is_checked() {
    let service = Service::start().await;
    let id_token = service.id_token("github-actions", "release", &service.issuer()).await;
    let good = [
        ("grant_type", GRANT_TYPE),
        ("subject_token", id_token.as_str()),
        ("subject_token_type", ID_TOKEN_TYPE),
    ];
    for (name, value, code, error) in [
        ("grant_type", "client_credentials", "invalid_request", "invalid_request"),
        ("subject_token_type", ACCESS_TOKEN_TYPE, "invalid_request", "invalid_request"),
        ("requested_token_type", ID_TOKEN_TYPE, "invalid_request", "invalid_request"),
        ("actor_token", "x", "invalid_request", "invalid_request"),
        ("dry_run", "yes", "invalid_request", "invalid_request"),
        ("audience", "sigstore", "invalid_target", "invalid_target"),
        ("resource", "https://npm.example/", "invalid_target", "invalid_target"),
        ("subject_token", "x.y.z", "invalid_id_token", "invalid_request"),
        ("subject_token", "", "invalid_id_token", "invalid_request"),
    ] {
        let mut form: Vec<_> = good.iter().copied().filter(|(it, _)| *it != name).collect();
        form.push((name, value));
        let problem = refused(&service.exchange_form(&form, None).await, 400, code);
        assert_eq!(problem.error, error, "{name}={value}");
        assert!(!problem.message().contains(&id_token));
    }
    let twice: Vec<_> = good.iter().copied().chain([("subject_token", "x")]).collect();
    refused(&service.exchange_form(&twice, None).await, 400, "invalid_request");
    refused(&service.exchange_form(&good[..2], None).await, 400, "invalid_request");
    let json = service.http.post(service.url.join("v1/oauth/token")).json(&serde_json::json!({}));
    refused(&json.send().await.expect("answer"), 415, "invalid_request");
    let registry = service.url.join("repository/npm-hosted/").to_string();
    let form: Vec<_> =
        good.iter().copied().chain([("resource", registry.as_str()), ("audience", "fractalops")]).collect();
    assert_eq!(service.exchange_form(&form, None).await.status, 200);
}

#[tokio::test]
async fn who_is_no_publisher_is_told_what_differs_and_nothing_of_others() {
    let service = Service::start().await;
    let id_token = service.id_token("github-actions", "pull-request", &service.issuer()).await;
    let problem = refused(&service.exchange(&id_token, None).await, 400, "no_trusted_publisher");
    assert_eq!(problem.error, "unauthorized_client");
    assert_eq!(problem.nearest_policy.as_deref(), Some("acme-core-release"));
    let failed: Vec<_> =
        problem.rules.iter().filter(|rule| !rule.ok).map(|rule| rule.claim.as_str()).collect();
    assert!(failed.contains(&"event_name") && failed.contains(&"ref"), "{failed:?}");

    let id_token = service.id_token("github-actions", "stranger", &service.issuer()).await;
    let response = service.exchange(&id_token, None).await;
    let problem: Problem = refused(&response, 400, "no_trusted_publisher");
    assert_eq!((problem.nearest_policy, problem.rules.len()), (None, 0));
    let text = String::from_utf8_lossy(response.body());
    assert!(!text.contains("2002") && !text.contains("acme-core-release"), "{text}");
}

#[tokio::test]
async fn other_tokens_are_no_id_tokens() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let minted = service.mint(&session, &wanted("@acme/plain", "install")).await;
    let npm: Value = minted.json().expect("json");
    use protected_model::secret::Secret as _;
    for token in [session.reveal(), npm["token"].as_str().expect("token"), service.operator().reveal()] {
        refused(&service.exchange(token, None).await, 400, "invalid_id_token");
    }
    for audience in ["sigstore", "npm:127.0.0.1", &format!("{}/", service.issuer())] {
        let id_token = service.id_token("github-actions", "release", audience).await;
        let problem = refused(&service.exchange(&id_token, None).await, 400, "invalid_id_token");
        assert!(problem.message().contains(&service.issuer()), "{}", problem.message());
    }
    let person = service.id_token("generic", "maintainer", &service.issuer()).await;
    refused(&service.exchange(&person, None).await, 400, "invalid_request");
    let id_token = service.id_token("github-actions", "release", &service.issuer()).await;
    service.pass(400);
    refused(&service.exchange(&id_token, None).await, 400, "invalid_id_token");
}
