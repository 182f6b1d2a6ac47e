//! The client against a control plane that answers well, badly, or not at all.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use protected_fractalops::{AuditQuery, FractalOps, FractalOpsError, Oddity};
use protected_http::{Client, HttpError, Settings};
use protected_model::{
    action::ActionMode,
    api::{delivery::GrantRequest, npm_token::NpmTokenRequest, problem::Code},
    environment::Environment,
    secret::{AccessToken, IdToken},
    service_url::ServiceUrl,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const SECRET: &str = "hunter2";
const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// Status, media type, further headers, body. An empty status ends the connection instead.
type Reply = (&'static str, &'static str, &'static str, String);

/// One request: head and body.
type Seen = (String, String);

struct Plane {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Plane {
    /// Starts a server that goes through `replies`, the last one again and again.
    async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("accept");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.expect("head"));
                }
                let head = String::from_utf8(head).expect("utf-8").to_ascii_lowercase();
                let length =
                    header(&head, "content-length").map_or(0, |length| length.parse().expect("length"));
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.expect("body");
                let number = {
                    let mut noted: std::sync::MutexGuard<'_, Vec<Seen>> = noted.lock().expect("lock");
                    noted.push((head, String::from_utf8(body).expect("utf-8")));
                    noted.len() - 1
                };
                let (status, media_type, more, body) = &replies[number.min(replies.len() - 1)];
                if !status.is_empty() {
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\n{more}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
                    );
                    stream.write_all(answer.as_bytes()).await.expect("write");
                }
            }
        });
        Self { address, seen }
    }

    fn client(&self) -> FractalOps {
        let settings = Settings::from_environment(&Environment::default(), None, "test").expect("settings");
        let base: ServiceUrl = format!("http://{}/fo", self.address).parse().expect("base");
        FractalOps::new(Client::new(&settings).expect("client"), base, "01CORRELATION".to_owned())
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("lock").clone()
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn session() -> serde_json::Value {
    json!({
        "access_token": "session-hunter2",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": 900,
        "tenant_id": "acme",
        "identity": {"platform": "github-actions", "issuer": "https://issuer.example", "subject": "x"},
        "policies": ["acme-core"],
        "decision_id": "d",
        "audit_event_id": "a",
    })
}

fn minted() -> serde_json::Value {
    json!({
        "token": "npm-hunter2",
        "token_type": "bearer",
        "expires_at": "2026-01-01T00:00:00Z",
        "expires_in": 300,
        "registry_url": "https://npm.example/",
        "scope": "@acme",
        "allowed_actions": ["publish"],
        "entitlement_snapshot_id": "s1",
        "artifact_policy": [],
        "policy_id": "p",
        "decision_id": "d",
        "audit_event_id": "a",
    })
}

/// Returns `document` with `name` set to `value`, or without it.
fn with(mut document: serde_json::Value, name: &str, value: Option<serde_json::Value>) -> String {
    let object = document.as_object_mut().expect("object");
    match value {
        Some(value) => object.insert(name.to_owned(), value),
        None => object.remove(name),
    };
    document.to_string()
}

fn ok(body: impl ToString) -> Reply {
    ("200 OK", JSON, "", body.to_string())
}

fn id_token() -> IdToken {
    IdToken::new("id-hunter2")
}

fn access_token() -> AccessToken {
    AccessToken::new("session-hunter2")
}

fn publish() -> NpmTokenRequest {
    NpmTokenRequest {
        project_slug: "core".parse().expect("slug"),
        package_name: "@acme/core".parse().expect("name"),
        action_mode: ActionMode::Publish,
        tenant_id: None,
        expected_entitlement_snapshot_id: None,
        package_version: None,
        artifact_sha512: None,
        protection_build_id: None,
        package_manager: None,
        reason: None,
        dry_run: false,
    }
}

/// Exchanges at a plane that replies so, and returns the error, which keeps every secret.
async fn refusal(replies: Vec<Reply>) -> (FractalOpsError, Vec<Seen>) {
    let plane = Plane::start(replies).await;
    let error = plane.client().exchange(&id_token(), None, false).await.expect_err("error");
    let text = format!("{error} {error:?} {:?}", error.hint());
    assert!(!text.contains(SECRET), "{text}");
    (error, plane.seen())
}

#[tokio::test]
async fn the_exchange_is_that_of_rfc_8693() {
    let plane = Plane::start(vec![("503 Service Unavailable", JSON, "", String::new()), ok(session())]).await;
    let session =
        plane.client().exchange(&id_token(), Some("npm:publish:@acme/core"), false).await.expect("session");
    assert_eq!(session.policies, ["acme-core"]);
    let seen = plane.seen();
    let [(first, body), (second, again)] = seen.as_slice() else { panic!("{seen:?}") };
    assert!(first.starts_with("post /fo/v1/oauth/token http/1.1\r\n"), "{first}");
    assert_eq!(header(first, "content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(header(first, "x-correlation-id"), Some("01correlation"));
    assert_eq!(header(first, "authorization"), None);
    assert_eq!(
        body,
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=id-hunter2\
         &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aid_token\
         &requested_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token\
         &audience=fractalops&client_id=protected-registry-ci&scope=npm%3Apublish%3A%40acme%2Fcore"
    );
    assert_eq!(body, again);
    let key = header(first, "idempotency-key").expect("key");
    assert!(key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    assert_eq!(header(second, "idempotency-key"), Some(key));
}

#[tokio::test]
async fn each_call_has_a_key_of_its_own() {
    let plane = Plane::start(vec![ok(session())]).await;
    let client = plane.client();
    client.exchange(&id_token(), None, false).await.expect("session");
    client.exchange(&id_token(), None, false).await.expect("session");
    client.revoke(&access_token()).await.expect("revoked");
    let seen = plane.seen();
    let mut keys: Vec<_> =
        seen.iter().map(|(head, _)| header(head, "idempotency-key").expect("key")).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 3);
    let (head, body) = &seen[2];
    assert!(head.starts_with("post /fo/v1/oauth/revoke "), "{head}");
    assert!(body.starts_with("token=session-hunter2&token_type_hint=access_token&"), "{body}");
}

#[tokio::test]
async fn a_dry_run_brings_no_token() {
    let plane = Plane::start(vec![ok(with(session(), "access_token", None)), ok(session())]).await;
    let decided = plane.client().exchange(&id_token(), None, true).await.expect("decided");
    assert!(decided.access_token.is_none());
    assert!(plane.seen()[0].1.ends_with("&dry_run=true"));
    let error = plane.client().exchange(&id_token(), None, true).await.expect_err("a token");
    assert!(matches!(error, FractalOpsError::Unexpected { oddity: Oddity::TokenFromDryRun, .. }), "{error}");
}

#[tokio::test]
async fn a_refusal_comes_whole() {
    let problem = json!({
        "type": "about:blank", "title": "No trusted publisher matches this run", "status": 200,
        "code": "no_trusted_publisher", "error": "unauthorized_client",
        "error_description": "no trusted publisher matches", "hint": "ask a maintainer",
        "rules": [{"rule": "r", "claim": "repository_id", "expected": "1", "actual": "2", "ok": false}],
    });
    let (error, seen) = refusal(vec![("400 Bad Request", PROBLEM, "", problem.to_string())]).await;
    assert_eq!(error.to_string(), "FractalOps refuses (400): no trusted publisher matches");
    assert_eq!(error.hint().expect("hint").to_string(), "ask a maintainer");
    assert!(!error.is_transient());
    let FractalOpsError::Refused(problem) = error else { panic!("{error}") };
    assert_eq!((problem.status, &problem.code), (400, &Code::NO_TRUSTED_PUBLISHER));
    assert_eq!(problem.correlation_id.as_deref(), Some("01CORRELATION"));
    assert_eq!(problem.rules[0].actual.as_deref(), Some("2"));
    assert_eq!(seen.len(), 1);
}

#[tokio::test]
async fn a_plain_oauth_error_will_do() {
    let body = r#"{"error":"invalid_request"}"#.to_owned();
    let (error, _) = refusal(vec![("400 Bad Request", "application/json; charset=utf-8", "", body)]).await;
    assert_eq!(error.to_string(), "FractalOps refuses (400): invalid_request");
}

#[tokio::test]
async fn a_refusal_cannot_give_the_runner_orders() {
    let hostile = "x\n::add-path::/evil\r\n\u{1b}]0;title\u{7}";
    let body = json!({
        "title": hostile, "code": hostile, "error": hostile, "error_description": hostile, "hint": hostile,
        "nearest_policy": hostile, "decision_id": hostile, "correlation_id": hostile,
        "rules": [{"rule": hostile, "claim": hostile, "expected": hostile, "actual": hostile, "ok": false}],
    });
    let (error, _) = refusal(vec![("403 Forbidden", PROBLEM, "", body.to_string())]).await;
    let FractalOpsError::Refused(problem) = &error else { panic!("{error}") };
    let text = format!("{problem:?} {error} {}", error.hint().expect("hint"));
    assert!(!text.contains(char::is_control) && !text.contains("\\n") && !text.contains("\\u{1b}"), "{text}");
    assert_eq!(problem.code, Code::default());
}

#[tokio::test]
async fn another_service_at_that_address_is_recognised() {
    for (reply, expected) in [
        (("404 Not Found", "text/html; charset=utf-8", "", "<html>hunter2".to_owned()), Oddity::WebPage),
        (
            ("404 Not Found", "text/plain", "", "hunter2".to_owned()),
            Oddity::MediaType(Some("text/plain".to_owned())),
        ),
        (("404 Not Found", "", "", String::new()), Oddity::MediaType(None)),
        (("404 Not Found", JSON, "", r#"{"message":"hunter2"}"#.to_owned()), Oddity::NoReason),
        (("405 Method Not Allowed", JSON, "", "{}".to_owned()), Oddity::NoReason),
        (
            ("304 Not Modified", JSON, "", String::new()),
            Oddity::Document("it ends too early, at line 1 column 0".to_owned()),
        ),
        (
            ("200 OK", JSON, "", "hunter2".to_owned()),
            Oddity::Document("it is not JSON, at line 1 column 1".to_owned()),
        ),
        (
            ("200 OK", JSON, "", "{}".to_owned()),
            Oddity::Document("missing field `issued_token_type` at line 1 column 2".to_owned()),
        ),
    ] {
        let status = reply.0;
        let (error, seen) = refusal(vec![reply]).await;
        let FractalOpsError::Unexpected { oddity, base, .. } = &error else { panic!("{status}: {error}") };
        assert_eq!(*oddity, expected, "{status}");
        let hint = error.hint().expect("hint").to_string();
        assert!(hint.contains("FRACTALOPS_BASE_URL") && hint.contains(base.as_str()), "{hint}");
        assert!(hint.contains("v1/oauth/token"), "{hint}");
        assert!(!error.is_transient());
        assert_eq!(seen.len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_login_page_is_recognised() {
    for status in ["200 OK", "401 Unauthorized", "403 Forbidden"] {
        let (error, _) = refusal(vec![(status, "text/html", "", "<form>hunter2</form>".to_owned())]).await;
        assert!(error.to_string().ends_with("it is a web page"), "{error}");
        let hint = error.hint().expect("hint").to_string();
        assert!(hint.contains("FRACTALOPS_BASE_URL") && hint.contains("login page"), "{hint}");
    }
    let location = "location: https://login.example/?next=hunter2\r\n";
    let (error, seen) = refusal(vec![("302 Found", "text/html", location, String::new())]).await;
    assert!(matches!(error, FractalOpsError::Http(HttpError::Redirect { .. })), "{error}");
    assert!(error.to_string().contains("https://login.example,"), "{error}");
    assert_eq!(seen.len(), 1);
}

#[tokio::test]
async fn overload_is_told_with_its_end() {
    let body = r#"{"error":"temporarily_unavailable","error_description":"back soon"}"#.to_owned();
    for status in ["503 Service Unavailable", "429 Too Many Requests"] {
        let started = Instant::now();
        let (error, seen) = refusal(vec![(status, PROBLEM, "retry-after: 120\r\n", body.clone())]).await;
        assert!(matches!(error, FractalOpsError::Unavailable { .. }) && error.is_transient(), "{error}");
        assert!(error.to_string().ends_with(": back soon"), "{error}");
        assert_eq!(error.hint().expect("hint").to_string(), "try again in 120 s");
        assert_eq!(seen.len(), 1);
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_bad_patch_is_got_through_with_one_key() {
    let gone = ("", "", "", String::new());
    let broken = ("502 Bad Gateway", "text/html", "", "<html>".to_owned());
    let plane = Plane::start(vec![gone.clone(), broken, gone, ok(minted())]).await;
    let minted = plane.client().npm_token(&access_token(), &publish()).await.expect("token");
    assert_eq!(minted.policy_id, "p");
    let seen = plane.seen();
    assert_eq!(seen.len(), 4);
    let keys: Vec<_> = seen.iter().map(|(head, _)| header(head, "idempotency-key").expect("key")).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    for (head, body) in &seen {
        assert!(head.starts_with("post /fo/v1/packages/registry/tokens/npm "), "{head}");
        assert_eq!(header(head, "authorization"), Some("bearer session-hunter2"));
        let body: serde_json::Value = serde_json::from_str(body).expect("json");
        let expected = json!({
            "project_slug": "core", "package_name": "@acme/core", "action_mode": "publish", "dry_run": false
        });
        assert_eq!(body, expected);
    }
}

#[tokio::test]
async fn a_token_that_is_not_the_one_asked_for_is_refused() {
    for (body, expected) in [
        (with(minted(), "token", None), Oddity::NoToken),
        (with(minted(), "token_type", Some(json!("mac"))), Oddity::TokenType),
        (
            with(minted(), "allowed_actions", Some(json!(["install"]))),
            Oddity::MissingAction(protected_model::action::Action::Publish),
        ),
    ] {
        let plane = Plane::start(vec![ok(body)]).await;
        let error = plane.client().npm_token(&access_token(), &publish()).await.expect_err("error");
        let FractalOpsError::Unexpected { oddity, .. } = &error else { panic!("{error}") };
        assert_eq!(*oddity, expected);
        assert!(!format!("{error:?}").contains(SECRET));
    }
    let plane =
        Plane::start(vec![ok(with(minted(), "registry_url", Some(json!("http://npm.example/"))))]).await;
    let error = plane.client().npm_token(&access_token(), &publish()).await.expect_err("error");
    assert!(matches!(error, FractalOpsError::Unexpected { oddity: Oddity::Document(_), .. }), "{error}");
}

#[tokio::test]
async fn nobody_there() {
    let plane = Plane::start(vec![ok("")]).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    drop(listener);
    let client = Plane { address, seen: plane.seen }.client();
    let error = client.revoke(&access_token()).await.expect_err("error");
    assert!(matches!(error, FractalOpsError::Http(HttpError::Failed { attempts: 4, .. })), "{error}");
    assert!(error.is_transient());
    assert!(error.hint().expect("hint").to_string().contains("FRACTALOPS_BASE_URL"));
}

#[tokio::test]
async fn lists_are_asked_for_by_query() {
    let page = json!({"items": []}).to_string();
    let plane = Plane::start(vec![ok(&page)]).await;
    let client = plane.client();
    let query = AuditQuery {
        project_slug: Some("core".parse().expect("slug")),
        cursor: Some("a&b".to_owned()),
        limit: Some(5),
    };
    assert!(client.audit(&access_token(), &query).await.expect("page").items.is_empty());
    client.audit(&access_token(), &AuditQuery::default()).await.expect("page");
    let package = "@acme/core".parse().expect("name");
    let version = "1.0.0".parse().expect("version");
    assert!(client.evidence(&access_token(), &package, Some(&version)).await.expect("records").is_empty());
    let lines: Vec<_> =
        plane.seen().iter().map(|(head, _)| head.lines().next().expect("line").to_owned()).collect();
    assert_eq!(
        lines,
        [
            "get /fo/v1/audit/events?project_slug=core&cursor=a%26b&limit=5 http/1.1",
            "get /fo/v1/audit/events http/1.1",
            "get /fo/v1/evidence?package_name=%40acme%2fcore&version=1.0.0 http/1.1",
        ]
    );
    assert!(plane.seen().iter().all(|(head, _)| header(head, "idempotency-key").is_none()));
}

#[tokio::test]
async fn a_list_without_an_end_is_given_up() {
    let page = json!({"items": [], "next_cursor": "same"}).to_string();
    let plane = Plane::start(vec![ok(&page)]).await;
    let package = "@acme/core".parse().expect("name");
    let error = plane.client().evidence(&access_token(), &package, None).await.expect_err("error");
    assert!(matches!(error, FractalOpsError::Unexpected { oddity: Oddity::Endless, .. }), "{error}");
    assert_eq!(plane.seen().len(), 2);
}

#[tokio::test]
async fn health_needs_no_body() {
    let plane = Plane::start(vec![("204 No Content", "", "", String::new())]).await;
    plane.client().health().await.expect("healthy");
    assert!(plane.seen()[0].0.starts_with("get /fo/healthz "));
}

#[tokio::test]
async fn a_grant_is_the_one_that_was_asked_for() {
    let grant = |grantee: &str| {
        json!({
            "id": "01GRANT",
            "bundle_id": "01DELIVERY",
            "customer_slug": "globex",
            "grantee": grantee,
            "status": "recorded",
            "created_at": "2026-01-01T00:00:00Z",
            "audit_event_id": "a",
        })
    };
    let on = |key: &str| {
        let mut grant = grant("globex");
        grant["key_ref"] = key.into();
        grant
    };
    let mut elsewhere = grant("globex");
    elsewhere["grant_materialization"] = json!({
        "provider": "aws-kms", "operation": "CreateGrant", "ref": "g", "status": "materialized",
        "materialized_at": "2026-01-01T00:00:00Z",
    });
    let good = [grant("globex"), on("openbao://transit/globex")];
    // On another key, and from a FractalOps that does not tell the key: of another service.
    let bad = [grant("initech"), on("openbao://transit/former"), elsewhere];
    let plane = Plane::start(good.into_iter().chain(bad).map(ok).collect()).await;
    let client = plane.client();
    let request = GrantRequest {
        bundle_id: "01DELIVERY".parse().expect("id"),
        customer_slug: "globex".parse().expect("slug"),
        grantee: "globex".parse().expect("grantee"),
        key_ref: Some("openbao://transit/globex".parse().expect("reference")),
        key_grant_ref: None,
        grant_materialization: None,
        expires_at: None,
    };
    for _ in 0..2 {
        client.grant_delivery(&access_token(), &request).await.expect("granted");
    }
    for _ in 0..3 {
        let error = client.grant_delivery(&access_token(), &request).await.expect_err("another's grant");
        let odd = matches!(error, FractalOpsError::Unexpected { oddity: Oddity::OtherDelivery, .. });
        assert!(odd, "{error}");
    }
    client.revoke_grant(&access_token(), "01GRANT").await.expect("revoked");
    let seen = plane.seen();
    assert!(seen[5].0.starts_with("delete /fo/v1/packages/delivery/grants/01grant "), "{}", seen[5].0);
    assert!(header(&seen[0].0, "idempotency-key").is_some());
}
