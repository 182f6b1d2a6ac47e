//! A real OpenBao: what a wrapping is bound to, and who may open it.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::signature::KeyPair as _;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::{SignedDuration, Timestamp};
use protected_bundle::DataKey;
use protected_http::{Client, Response};
use protected_keys::{
    GrantTerms, IdTokens, KeyContext, KeyError, KeyService, Settings, connect, connect_to_sign,
    transit_context,
};
use protected_model::{
    api::delivery::Grantee, digest::Sha256, environment::Environment, name::BundleId, secret::IdToken,
    service_url::ServiceUrl,
};
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
        let name = format!("test-{}", policy.len());
        self.post(&format!("sys/policies/acl/{name}"), json!({"policy": policy})).await;
        let wanted = json!({"policies": [name], "no_default_policy": true});
        let made = self.post("auth/token/create", wanted).await;
        made["auth"]["client_token"].as_str().expect("token").to_owned()
    }

    fn connect(&self, key: &str, token: &str) -> Box<dyn KeyService> {
        let address = self.url.to_string();
        let environment = [("BAO_ADDR", address.as_str()), ("BAO_TOKEN", token)].into_iter().collect();
        self.with(key, Settings { environment, ..Settings::default() })
    }

    fn with(&self, key: &str, settings: Settings) -> Box<dyn KeyService> {
        let key = format!("openbao://transit/{key}").parse().expect("reference");
        connect(&key, &settings, &self.http).expect("connected")
    }

    /// A customer, who has nothing but an entity, and a token of it.
    async fn customer(&self, name: &str) -> String {
        if !self.try_post("sys/auth/approle", &json!({"type": "approle"})).await {
            assert_eq!(self.get("sys/auth/approle").await.status, 200);
        }
        let role = format!("auth/approle/role/{name}");
        self.post(&role, json!({"token_no_default_policy": true})).await;
        let role_id: Value = self.get(&format!("{role}/role-id")).await.json().expect("json");
        let role_id = &role_id["data"]["role_id"];
        let secret = self.post(&format!("{role}/secret-id"), json!({})).await;
        let entity = self.post("identity/entity", json!({"name": name})).await;
        let mounts: Value = self.get("sys/auth/approle").await.json().expect("json");
        let alias = json!({
            "name": role_id,
            "canonical_id": entity["data"]["id"],
            "mount_accessor": mounts["data"]["accessor"],
        });
        self.post("identity/entity-alias", alias).await;
        let login = json!({"role_id": role_id, "secret_id": secret["data"]["secret_id"]});
        let token = self.post("auth/approle/login", login).await;
        token["auth"]["client_token"].as_str().expect("token").to_owned()
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
    assert!(wrapped.text.starts_with("vault:v1:"), "{}", wrapped.text);
    let opened = service.unwrap(&wrapped.text, &context("one")).await.expect("opened");
    assert_eq!(opened.reveal(), key.reveal());

    let mut flipped = wrapped.text.clone().into_bytes();
    let last = flipped.len() - 8;
    flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).expect("text");
    for (what, wrapped, context) in [
        ("another bundle", &*wrapped.text, context("two")),
        ("no context", &wrapped.text, KeyContext::new()),
        ("a changed byte", &flipped, context("one")),
        ("a version that is not there", &wrapped.text.replace("v1", "v99"), context("one")),
        ("no wrapping", &"x".repeat(80), context("one")),
        ("nothing", "", context("one")),
    ] {
        let error = service.unwrap(wrapped, &context).await.expect_err(what);
        assert!(matches!(error, KeyError::Refused(_)), "{what}: {error}");
    }
    let elsewhere = bao.connect("other", ROOT).unwrap(&wrapped.text, &context("one")).await;
    assert!(matches!(elsewhere, Err(KeyError::Refused(_))));

    bao.post("transit/keys/acme/rotate", json!({})).await;
    let anew = service.rewrap(&wrapped.text, &context("one")).await.expect("rewrapped");
    assert!(anew.text.starts_with("vault:v2:"), "{}", anew.text);
    bao.post("transit/keys/acme/config", json!({"min_decryption_version": 2})).await;
    let opened = service.unwrap(&anew.text, &context("one")).await.expect("opened");
    assert_eq!(opened.reveal(), key.reveal());
    assert!(
        matches!(service.unwrap(&wrapped.text, &context("one")).await, Err(KeyError::Refused(_))),
        "too old"
    );
    assert!(matches!(service.rewrap(&anew.text, &context("two")).await, Err(KeyError::Refused(_))));
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
    let opened = customer.unwrap(&one.text, &context("one")).await.expect("opened");
    assert_eq!(opened.reveal(), key.reveal());
    let error = customer.unwrap(&two.text, &context("two")).await.expect_err("another bundle");
    assert!(matches!(error, KeyError::Service { status: 403, .. }), "{error}");
    let error = customer.wrap(&key, &context("one")).await.expect_err("wrapping");
    assert!(matches!(error, KeyError::Service { status: 403, .. }), "{error}");
    let nobody = bao.connect("acme", "no-such-token");
    let error = nobody.unwrap(&one.text, &context("one")).await.expect_err("nobody");
    assert!(!error.to_string().contains("no-such-token") && error.hint().is_some(), "{error}");
}

/// The policies of docs/keys.md: who seals, and who grants.
fn documented_policies() -> [&'static str; 2] {
    let page = include_str!("../../../docs/keys.md");
    let mut policies = page.split("```hcl\n").skip(1).map(|rest| rest.split("```").next().expect("end"));
    [policies.next().expect("sealing"), policies.next().expect("granting")]
}

fn terms<'a>(
    bundle: &'a BundleId,
    context: &'a KeyContext,
    grantee: &'a Grantee,
    expires_at: Option<Timestamp>,
) -> GrantTerms<'a> {
    GrantTerms { bundle, context, grantee, expires_at, now: Timestamp::now() }
}

#[tokio::test]
async fn a_granted_customer_opens_one_delivery_until_it_is_taken_back() {
    let bao = Bao::start().await;
    bao.key("acme", json!({})).await;
    let [seal, grant] = documented_policies();
    let publisher = bao.connect("acme", &bao.token(&format!("{seal}{grant}")).await);
    assert!(publisher.limits().one_bundle && publisher.limits().expires);
    let key = DataKey::generate().expect("key");
    let (one, two) = (context("one"), context("two"));
    let first = publisher.wrap(&key, &one).await.expect("wrapped").text;
    let second = publisher.wrap(&key, &two).await.expect("wrapped").text;
    let globex = bao.connect("acme", &bao.customer("globex").await);
    let initech = bao.connect("acme", &bao.customer("initech").await);
    let bundle: BundleId = "01JA".parse().expect("id");
    let longer: BundleId = "01JA-2".parse().expect("id");
    let grantee: Grantee = "globex".parse().expect("grantee");
    let wanted = terms(&bundle, &one, &grantee, None);
    let denied = |result: Result<DataKey, KeyError>, what: &str| match result {
        Err(KeyError::Service { status: 403, .. }) => {}
        Err(error) => panic!("{what}: {error}"),
        Ok(_) => panic!("{what}: opened"),
    };
    denied(globex.unwrap(&first, &one).await, "before the grant");

    let granted = publisher.grant(&wanted).await.expect("granted");
    let again = publisher.grant(&wanted).await.expect("granted again");
    assert_eq!(granted.reference, again.reference, "repeating changes nothing");
    assert_eq!(globex.unwrap(&first, &one).await.expect("opened").reveal(), key.reveal());
    denied(globex.unwrap(&second, &two).await, "another delivery");
    denied(initech.unwrap(&first, &one).await, "another customer");
    assert!(globex.grant(&wanted).await.is_err(), "a customer grants");

    publisher.grant(&terms(&longer, &two, &grantee, None)).await.expect("granted");
    let found = publisher.grants(&bundle, &one).await.expect("found");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0].reference, &found[0].grantee), (&granted.reference, &Some(grantee.clone())));

    assert!(publisher.revoke(&wanted).await.expect("revoked").was);
    assert!(!publisher.revoke(&wanted).await.expect("revoked again").was, "there was nothing left");
    denied(globex.unwrap(&first, &one).await, "after it was taken back");
    assert_eq!(globex.unwrap(&second, &two).await.expect("the other stays").reveal(), key.reveal());
    assert!(publisher.grants(&bundle, &one).await.expect("found").is_empty());
}

/// A delivery that is wrapped with another key of the same service: its grants there are others, and so is what is taken back.
#[tokio::test]
async fn grants_on_two_keys_are_two() {
    let bao = Bao::start().await;
    for key in ["acme", "acme.next"] {
        bao.key(key, json!({})).await;
    }
    let [seal, grant] = documented_policies();
    let policies = format!("{seal}{grant}{}", seal.replace("acme", "acme.next"));
    let token = bao.token(&policies).await;
    let (former, next) = (bao.connect("acme", &token), bao.connect("acme.next", &token));
    let (key, one) = (DataKey::generate().expect("key"), context("one"));
    let first = former.wrap(&key, &one).await.expect("wrapped").text;
    let second = next.wrap(&key, &one).await.expect("wrapped").text;
    let globex = bao.customer("globex").await;
    let (globex, at_next) = (bao.connect("acme", &globex), bao.connect("acme.next", &globex));
    let (bundle, grantee): (BundleId, Grantee) =
        ("01JA".parse().expect("id"), "globex".parse().expect("grantee"));
    let wanted = terms(&bundle, &one, &grantee, None);
    let given = former.grant(&wanted).await.expect("granted");
    assert!(next.grants(&bundle, &one).await.expect("found").is_empty(), "one of another key");
    assert!(!next.revoke(&wanted).await.expect("revoked").was);
    assert!(globex.unwrap(&first, &one).await.is_ok() && at_next.unwrap(&second, &one).await.is_err());
    let anew = next.grant(&wanted).await.expect("granted");
    assert_ne!(anew.reference, given.reference);
    for (key, reference) in [(&former, &given.reference), (&next, &anew.reference)] {
        let found = key.grants(&bundle, &one).await.expect("found");
        assert_eq!((found.len(), &found[0].reference), (1, reference), "{found:?}");
    }
    assert!(globex.unwrap(&first, &one).await.is_ok() && at_next.unwrap(&second, &one).await.is_ok());
    assert!(former.revoke(&wanted).await.expect("revoked").was);
    assert!(globex.unwrap(&first, &one).await.is_err() && at_next.unwrap(&second, &one).await.is_ok());

    // Attack: another tenant's delivery of the same id, for the same customer, takes the place of this one.
    let other = context("two");
    let third = former.wrap(&key, &other).await.expect("wrapped").text;
    former.grant(&wanted).await.expect("granted");
    former.grant(&terms(&bundle, &other, &grantee, None)).await.expect("granted");
    assert!(globex.unwrap(&first, &one).await.is_ok() && globex.unwrap(&third, &other).await.is_ok());
    assert_eq!(former.grants(&bundle, &one).await.expect("found").len(), 1);
    assert!(former.revoke(&terms(&bundle, &other, &grantee, None)).await.expect("revoked").was);
    assert!(globex.unwrap(&first, &one).await.is_ok() && globex.unwrap(&third, &other).await.is_err());
    assert!(former.grants(&bundle, &other).await.expect("found").is_empty());

    // One that an older release gave, whose name tells no key: it is found and taken back on its key alone.
    let digest = Sha256::of("01JA\0globex").to_string();
    let older = format!("delivery-01ja-{}", &digest[..16]);
    let given = former.grant(&wanted).await.expect("granted").reference;
    let policy: Value = bao.get(&format!("sys/policies/acl/{given}")).await.json().expect("policy");
    bao.post(&format!("sys/policies/acl/{older}"), json!({"policy": policy["data"]["policy"]})).await;
    let entity: Value = bao.get("identity/entity/name/globex").await.json().expect("entity");
    let group = json!({
        "policies": [older], "member_entity_ids": [entity["data"]["id"]],
        "metadata": {"bundle_id": "01JA", "grantee": "globex"},
    });
    bao.post(&format!("identity/group/name/{older}"), group).await;
    assert_eq!(former.grants(&bundle, &one).await.expect("found").len(), 2);
    assert_eq!(next.grants(&bundle, &one).await.expect("found").len(), 1);
    assert!(next.revoke(&wanted).await.expect("revoked").was);
    assert!(globex.unwrap(&first, &one).await.is_ok());
    assert!(former.revoke(&wanted).await.expect("revoked").was);
    assert!(globex.unwrap(&first, &one).await.is_err());
}

#[tokio::test]
async fn a_grant_ends_at_its_time_and_is_renewed() {
    let bao = Bao::start().await;
    bao.key("acme", json!({})).await;
    let publisher = bao.connect("acme", ROOT);
    let key = DataKey::generate().expect("key");
    let one = context("one");
    let wrapped = publisher.wrap(&key, &one).await.expect("wrapped").text;
    let globex = bao.connect("acme", &bao.customer("globex").await);
    let (bundle, grantee): (BundleId, Grantee) =
        ("01JA".parse().expect("id"), "globex".parse().expect("grantee"));
    let end = Timestamp::now() + SignedDuration::from_secs(3);
    let end = Timestamp::from_second(end.as_second()).expect("time");
    publisher.grant(&terms(&bundle, &one, &grantee, Some(end))).await.expect("granted");
    assert!(globex.unwrap(&wrapped, &one).await.is_ok());
    let found = publisher.grants(&bundle, &one).await.expect("found");
    assert_eq!(found[0].expires_at, Some(end));
    let since = Instant::now();
    while globex.unwrap(&wrapped, &one).await.is_ok() {
        assert!(since.elapsed() < Duration::from_secs(20), "it does not end");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(Timestamp::now() >= end, "it ended early");
    publisher.grant(&terms(&bundle, &one, &grantee, None)).await.expect("granted anew");
    assert!(globex.unwrap(&wrapped, &one).await.is_ok());
}

/// A policy that says something else is written anew, and of a grant of which half is gone the other half is taken back.
#[tokio::test]
async fn a_grant_that_somebody_changed_is_put_right() {
    let bao = Bao::start().await;
    bao.key("acme", json!({})).await;
    bao.customer("globex").await;
    let publisher = bao.connect("acme", ROOT);
    let one = context("one");
    let (bundle, grantee): (BundleId, Grantee) =
        ("01JA".parse().expect("id"), "globex".parse().expect("grantee"));
    let [end, later] = ["2099-01-01T00:00:00Z", "2099-02-01T00:00:00Z"].map(|end| end.parse().ok());
    let wanted = terms(&bundle, &one, &grantee, end);
    let name = publisher.grant(&wanted).await.expect("granted").reference;
    let path = format!("sys/policies/acl/{name}");
    let policy = async || bao.get(&path).await.json::<Value>().expect("json")["data"]["policy"].clone();
    let right = policy().await;
    let wide = "path \"transit/decrypt/acme\" { capabilities=[\"update\"] }";
    bao.post(&path, json!({"policy": wide, "expiration": end})).await;
    publisher.grant(&wanted).await.expect("granted again");
    assert_eq!(policy().await, right);
    publisher.grant(&terms(&bundle, &one, &grantee, later)).await.expect("granted for longer");
    assert_eq!(publisher.grants(&bundle, &one).await.expect("found")[0].expires_at, later);

    let request = bao.http.delete(bao.url.join(&format!("v1/{path}"))).header("x-vault-token", ROOT);
    assert!(request.send().await.expect("answer").is_success());
    assert!(publisher.revoke(&wanted).await.expect("revoked").was, "the group was there");
    assert_eq!(bao.get(&format!("identity/group/name/{name}")).await.status, 404);
}

#[tokio::test]
async fn of_two_publishers_at_once_neither_fails_and_bundles_that_differ_in_case_stay_apart() {
    let bao = Bao::start().await;
    bao.key("acme", json!({})).await;
    bao.customer("globex").await;
    let publisher = bao.connect("acme", ROOT);
    let grantee: Grantee = "globex".parse().expect("grantee");
    let (upper, lower): (BundleId, BundleId) = ("01JA".parse().expect("id"), "01ja".parse().expect("id"));
    let (one, two) = (context("one"), context("two"));
    let (first, second) = (terms(&upper, &one, &grantee, None), terms(&lower, &two, &grantee, None));
    let at_once = [&first, &second, &first, &second, &first, &first].map(|terms| publisher.grant(terms));
    for granted in futures_util::future::join_all(at_once).await {
        granted.expect("granted");
    }
    let found = publisher.grants(&upper, &one).await.expect("found");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(publisher.revoke(&first).await.expect("revoked").was);
    assert_eq!(publisher.grants(&lower, &two).await.expect("found").len(), 1, "the other went with it");
}

#[tokio::test]
async fn nobody_is_granted_who_is_no_entity() {
    let bao = Bao::start().await;
    bao.key("acme", json!({})).await;
    let publisher = bao.connect("acme", ROOT);
    let (bundle, one): (BundleId, _) = ("01JA".parse().expect("id"), context("one"));
    for (who, reason) in [
        ("nobody", "OpenBao has no entity `nobody`"),
        ("../../sys/seal", "is no name of an entity"),
        ("a%2fb", "is no name of an entity"),
        ("globex?list=true", "is no name of an entity"),
    ] {
        let grantee = who.parse().expect("grantee");
        let error = publisher.grant(&terms(&bundle, &one, &grantee, None)).await.expect_err(who);
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert!(publisher.grants(&bundle, &one).await.expect("found").is_empty(), "a policy was left");
}

/// The identity of a job, as its platform would show it.
struct Job(&'static str);

#[async_trait::async_trait]
impl IdTokens for Job {
    async fn id_token(&self, audience: &str) -> Result<IdToken, String> {
        let key = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("key");
        let now = Timestamp::now().as_second();
        let claims = json!({
            "iss": "https://ci.example", "sub": "acme/core", "repository": self.0,
            "aud": audience, "iat": now, "nbf": now, "exp": now + 300,
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({"alg": "EdDSA"})), part(&claims));
        let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
        Ok(IdToken::new(format!("{signed}.{signature}")))
    }
}

#[tokio::test]
async fn a_job_logs_in_with_its_identity() {
    let bao = Bao::start().await;
    bao.key("acme", json!({})).await;
    bao.post("sys/auth/jwt", json!({"type": "jwt"})).await;
    let public = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("key");
    let mut der = hex::decode("302a300506032b6570032100").expect("hex");
    der.extend_from_slice(public.public_key().as_ref());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", STANDARD.encode(der));
    let config = json!({"jwt_validation_pubkeys": [pem], "bound_issuer": "https://ci.example"});
    bao.post("auth/jwt/config", config).await;
    let [seal, _] = documented_policies();
    bao.post("sys/policies/acl/seal", json!({"policy": seal})).await;
    let role = json!({
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": [bao.url.audience()],
        "bound_claims": {"repository": "acme/core"}, "token_policies": ["seal"], "token_ttl": "5m",
    });
    bao.post("auth/jwt/role/publisher", role).await;
    let settings = |job: Option<&'static str>, more: &[(&str, &str)]| {
        let address = bao.url.to_string();
        let all = [("BAO_ADDR", address.as_str()), ("PROTECTED_REGISTRY_OPENBAO_ROLE", "publisher")];
        Settings {
            environment: all.iter().chain(more).copied().collect(),
            id_tokens: job.map(|name| Arc::new(Job(name)) as _),
            ..Settings::default()
        }
    };
    let key = DataKey::generate().expect("key");
    bao.with("acme", settings(Some("acme/core"), &[])).wrap(&key, &context("one")).await.expect("wrapped");
    for (what, job, more) in [
        ("another repository", "evil/core", &[][..]),
        (
            "another audience",
            "acme/core",
            &[("PROTECTED_REGISTRY_OPENBAO_AUDIENCE", "https://other.example")][..],
        ),
        ("another role", "acme/core", &[("PROTECTED_REGISTRY_OPENBAO_ROLE", "admin")][..]),
        ("another path", "acme/core", &[("PROTECTED_REGISTRY_OPENBAO_AUTH_PATH", "other/jwt")][..]),
    ] {
        let error = bao.with("acme", settings(Some(job), more)).wrap(&key, &context("one")).await;
        let error = error.err().unwrap_or_else(|| panic!("{what}: logged in"));
        let said = format!("{error} {error:?}");
        assert!(!said.contains("eyJ"), "{what}: the token is repeated: {said}");
    }
    // Attack: a path that leads elsewhere, which would be shown the identity.
    for path in ["../sys", "jwt/../../sys", "/jwt", "jwt/", "jwt?x", "jwt#x", "jwt/%2e%2e"] {
        let settings = settings(Some("acme/core"), &[("PROTECTED_REGISTRY_OPENBAO_AUTH_PATH", path)]);
        let error = bao.with("acme", settings).wrap(&key, &context("one")).await.expect_err(path);
        assert!(error.to_string().contains("is no path of names"), "{path}: {error}");
    }
    // A login that ends while a build runs is made anew.
    bao.post("transit/keys/release", json!({"type": "ecdsa-p256"})).await;
    let rules = ["keys", "sign"]
        .map(|verb| format!("path \"transit/{verb}/release\" {{ capabilities=[\"read\", \"update\"] }}"));
    bao.post("sys/policies/acl/sign", json!({"policy": rules.join("\n")})).await;
    let role = json!({
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": [bao.url.audience()],
        "bound_claims": {"repository": "acme/core"}, "token_policies": ["sign"], "token_ttl": "1s",
    });
    bao.post("auth/jwt/role/hasty", role).await;
    let hasty = settings(Some("acme/core"), &[("PROTECTED_REGISTRY_OPENBAO_ROLE", "hasty")]);
    let reference = "openbao://transit/release".parse().expect("reference");
    let signing = connect_to_sign(&reference, &hasty, &bao.http).await.expect("it signs");
    tokio::time::sleep(Duration::from_secs(2)).await;
    signing.sign(&Sha256::of("message")).await.expect("signed after its login had ended");

    let nobody = settings(None, &[]);
    let reference = "openbao://transit/acme".parse().expect("reference");
    let error = connect(&reference, &nobody, &bao.http).err().expect("nobody asks");
    assert!(matches!(error, KeyError::NotConfigured { .. }), "{error}");
}
