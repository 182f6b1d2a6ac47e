//! A real OpenBao: what a wrapping is bound to, and who may open it.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use protected_bundle::DataKey;
use protected_http::{Client, Response};
use protected_keys::{
    KeyContext, KeyError, KeyService, OpenBao, Settings, WrappedKey, connect, transit_context,
};
use protected_model::{environment::Environment, secret::AccessToken, service_url::ServiceUrl};
use serde_json::{Value, json};

const ROOT: &str = "root-of-a-test";

struct Bao {
    child: Child,
    url: ServiceUrl,
    http: Client,
    _home: tempfile::TempDir,
}

impl Bao {
    async fn start() -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/openbao/bin/bao");
        let port = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port();
        let home = tempfile::tempdir().expect("home");
        let child = Command::new(&program)
            .args(["server", "-dev", "-dev-no-store-token"])
            .arg(format!("-dev-root-token-id={ROOT}"))
            .arg(format!("-dev-listen-address=127.0.0.1:{port}"))
            .env("HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask tools`", program.display()));
        let settings = protected_http::Settings::from_environment(&Environment::default(), None, "test");
        let http = settings.and_then(|settings| Client::new(&settings)).expect("client");
        let url = format!("http://127.0.0.1:{port}").parse().expect("URL");
        let bao = Self { child, url, http, _home: home };
        let since = Instant::now();
        while !bao.try_post("sys/mounts/transit", &json!({"type": "transit"})).await {
            assert!(since.elapsed() < Duration::from_secs(60), "OpenBao does not start");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bao
    }

    async fn try_post(&self, path: &str, body: &Value) -> bool {
        let request = self.http.post(self.url.join(&format!("v1/{path}"))).header("x-vault-token", ROOT);
        request.json(body).send().await.is_ok_and(|answer| answer.is_success())
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let request = self.http.post(self.url.join(&format!("v1/{path}"))).header("x-vault-token", ROOT);
        let answer = request.json(&body).send().await.expect("answer");
        assert!(answer.is_success(), "{path}: {} {}", answer.status, String::from_utf8_lossy(answer.body()));
        if answer.body().is_empty() { Value::Null } else { answer.json().expect("json") }
    }

    async fn get(&self, path: &str) -> Response {
        let request = self.http.get(self.url.join(&format!("v1/{path}"))).header("x-vault-token", ROOT);
        request.send().await.expect("answer")
    }

    async fn key(&self, name: &str, more: Value) {
        let mut body = json!({"type": "aes256-gcm96", "derived": true});
        body.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        self.post(&format!("transit/keys/{name}"), body).await;
    }

    /// A token that may do what `policy` says.
    async fn token(&self, policy: &str) -> String {
        self.post("sys/policies/acl/customer", json!({"policy": policy})).await;
        let wanted = json!({"policies": ["customer"], "no_default_policy": true});
        let made = self.post("auth/token/create", wanted).await;
        made["auth"]["client_token"].as_str().expect("token").to_owned()
    }

    fn connect(&self, key: &str, token: &str) -> Box<dyn KeyService> {
        let openbao = OpenBao {
            address: Some(self.url.to_string()),
            token: Some(AccessToken::new(token)),
            namespace: None,
        };
        let settings = Settings { openbao: Some(openbao), ..Settings::default() };
        let key = format!("openbao://transit/{key}").parse().expect("reference");
        connect(&key, &settings, &self.http).expect("connected")
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn context(bundle: &str) -> KeyContext {
    [("bundle_id", bundle), ("tenant_id", "acme")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

#[tokio::test]
async fn a_wrapping_opens_for_its_bundle_alone_and_outlives_a_rotation() {
    let bao = Bao::start().await;
    bao.key("acme", json!({})).await;
    bao.key("other", json!({})).await;
    let service = bao.connect("acme", ROOT);
    let key = DataKey::generate().expect("key");
    let wrapped = service.wrap(&key, &context("one")).await.expect("wrapped");
    assert!(wrapped.0.starts_with("vault:v1:"), "{}", wrapped.0);
    let opened = service.unwrap(&wrapped, &context("one")).await.expect("opened");
    assert_eq!(opened.reveal(), key.reveal());

    let mut flipped = wrapped.0.clone().into_bytes();
    let last = flipped.len() - 8;
    flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
    let flipped = WrappedKey(String::from_utf8(flipped).expect("text"));
    for (what, wrapped, context) in [
        ("another bundle", &wrapped, context("two")),
        ("no context", &wrapped, KeyContext::new()),
        ("a changed byte", &flipped, context("one")),
        ("a version that is not there", &WrappedKey(wrapped.0.replace("v1", "v99")), context("one")),
        ("no wrapping", &WrappedKey("x".repeat(80)), context("one")),
        ("nothing", &WrappedKey(String::new()), context("one")),
    ] {
        let error = service.unwrap(wrapped, &context).await.expect_err(what);
        assert!(matches!(error, KeyError::Refused(_)), "{what}: {error}");
    }
    let elsewhere = bao.connect("other", ROOT).unwrap(&wrapped, &context("one")).await;
    assert!(matches!(elsewhere, Err(KeyError::Refused(_))));

    bao.post("transit/keys/acme/rotate", json!({})).await;
    let anew = service.rewrap(&wrapped, &context("one")).await.expect("rewrapped");
    assert!(anew.0.starts_with("vault:v2:"), "{}", anew.0);
    bao.post("transit/keys/acme/config", json!({"min_decryption_version": 2})).await;
    let opened = service.unwrap(&anew, &context("one")).await.expect("opened");
    assert_eq!(opened.reveal(), key.reveal());
    assert!(matches!(service.unwrap(&wrapped, &context("one")).await, Err(KeyError::Refused(_))), "too old");
    assert!(matches!(service.rewrap(&anew, &context("two")).await, Err(KeyError::Refused(_))));
}

/// Attack: a key that does not bind, or that can be taken away, or that is made by asking for it.
#[tokio::test]
async fn a_key_that_would_not_protect_is_not_used() {
    let bao = Bao::start().await;
    bao.key("plain", json!({"derived": false})).await;
    bao.key("leaky", json!({"exportable": true})).await;
    bao.key("same", json!({"convergent_encryption": true})).await;
    bao.key("signing", json!({"type": "ed25519"})).await;
    let key = DataKey::generate().expect("key");
    for (name, reason) in [
        ("plain", "it is not `derived`"),
        ("leaky", "it is `exportable`"),
        ("same", "it has `convergent_encryption`"),
        ("signing", "it is no key of type"),
    ] {
        let error = bao.connect(name, ROOT).wrap(&key, &context("one")).await.expect_err(name);
        assert!(error.to_string().contains(reason), "{name}: {error}");
    }
    let error = bao.connect("absent", ROOT).wrap(&key, &context("one")).await.expect_err("absent");
    assert!(matches!(error, KeyError::Service { status: 404, .. }), "{error}");
    assert_eq!(bao.get("transit/keys/absent").await.status, 404, "the key was made by asking for it");
}

#[tokio::test]
async fn a_customer_whose_policy_names_one_bundle_opens_that_one() {
    let bao = Bao::start().await;
    bao.key("acme", json!({})).await;
    let service = bao.connect("acme", ROOT);
    let key = DataKey::generate().expect("key");
    let one = service.wrap(&key, &context("one")).await.expect("wrapped");
    let two = service.wrap(&key, &context("two")).await.expect("wrapped");
    let policy = format!(
        "path \"transit/decrypt/acme\" {{ capabilities=[\"update\"] allowed_parameters={{\"ciphertext\"=[] \"context\"=[\"{}\"]}} required_parameters=[\"context\"] }}",
        transit_context(&context("one"))
    );
    let token = bao.token(&policy).await;
    let customer = bao.connect("acme", &token);
    let opened = customer.unwrap(&one, &context("one")).await.expect("opened");
    assert_eq!(opened.reveal(), key.reveal());
    let error = customer.unwrap(&two, &context("two")).await.expect_err("another bundle");
    assert!(matches!(error, KeyError::Service { status: 403, .. }), "{error}");
    let error = customer.wrap(&key, &context("one")).await.expect_err("wrapping");
    assert!(matches!(error, KeyError::Service { status: 403, .. }), "{error}");
    let nobody = bao.connect("acme", "no-such-token");
    let error = nobody.unwrap(&one, &context("one")).await.expect_err("nobody");
    assert!(!error.to_string().contains("no-such-token") && error.hint().is_some(), "{error}");
}
