//! Azure Key Vault, Entra and the resource manager: who seals, who opens, and what none of them is believed.

mod fake;
#[path = "../common/python.rs"]
mod python;
mod sdk;
mod signing;

use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use protected_bundle::{DataKey, OpenError, open, seal};
use protected_http::Client;
use protected_keys::{FoundGrant, GrantTerms, IdTokens, KeyContext, KeyError, KeyService, Settings, connect};
use protected_model::{
    api::delivery::Grantee, environment::Environment, key_ref::KeyRef, name::BundleId, secret::IdToken,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fake::{
    Azure, CRYPTO_USER, ENCRYPTION_USER, GROUP, ISSUER, Lie, SUBSCRIPTION, TENANT, UNWRAP_ONLY, id_token,
    issuer_keys, key_scope, vault_scope,
};

const SECRET: &str = "secret-of-a-test~7000215";

/// A job's identity, as the platform hands it out.
struct Job(Value);

#[async_trait]
impl IdTokens for Job {
    async fn id_token(&self, audience: &str) -> Result<IdToken, String> {
        let mut claims = json!({"aud": audience});
        claims.as_object_mut().expect("object").extend(self.0.as_object().expect("object").clone());
        Ok(IdToken::new(id_token(&claims)))
    }
}

/// A vault `acme` with a key `core`, a publisher who seals and grants, and two customers.
struct Scene {
    azure: Azure,
    http: Client,
    key: String,
    publisher: Uuid,
    customer: Uuid,
    other: Uuid,
}

impl Scene {
    async fn start() -> Self {
        let azure = Azure::start().await;
        azure.vault("acme", true);
        let key = azure.rsa("acme", "core");
        let publisher = azure.application("publisher", Some(SECRET));
        azure.trust("publisher", ISSUER, issuer_keys(), "repo:acme/core");
        azure.assign(publisher, ENCRYPTION_USER, &vault_scope("acme"));
        azure.own(publisher);
        let customer = azure.application("customer", Some(SECRET));
        let other = azure.application("other", Some(SECRET));
        let proxy: Environment = [("HTTPS_PROXY", azure.proxy())].into_iter().collect();
        let pem = azure.authority_pem().as_bytes().to_vec();
        let http = protected_http::Settings::from_environment(&proxy, Some(pem), "test");
        let http = http.and_then(|settings| Client::new(&settings)).expect("client");
        Self { azure, http, key, publisher, customer, other }
    }

    fn settings(&self, application: &str, more: &[(&str, &str)]) -> Settings {
        let usual = [
            ("AZURE_TENANT_ID", TENANT),
            ("AZURE_CLIENT_ID", application),
            ("AZURE_CLIENT_SECRET", SECRET),
            ("AZURE_SUBSCRIPTION_ID", SUBSCRIPTION),
            ("PROTECTED_REGISTRY_AZURE_RESOURCE_GROUP", GROUP),
        ];
        let environment: Environment = usual.iter().chain(more).copied().collect();
        Settings { environment, ..Settings::default() }
    }

    fn connect_with(&self, key: &str, settings: &Settings) -> Result<Box<dyn KeyService>, KeyError> {
        connect(&reference(key), settings, &self.http)
    }

    fn connect(&self, key: &str, application: &str) -> Box<dyn KeyService> {
        self.connect_with(key, &self.settings(application, &[])).expect("connected")
    }
}

fn reference(key: &str) -> KeyRef {
    key.parse().expect("reference")
}

fn context(bundle: &str) -> KeyContext {
    [("bundle_id", bundle), ("tenant_id", "acme")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// What a test wants to be granted.
struct Wanted {
    bundle: BundleId,
    context: KeyContext,
    grantee: Grantee,
}

impl Wanted {
    fn new(bundle: &str, grantee: impl ToString) -> Self {
        Self {
            bundle: bundle.parse().expect("bundle"),
            context: context(bundle),
            grantee: grantee.to_string().parse().expect("grantee"),
        }
    }

    fn terms(&self) -> GrantTerms<'_> {
        let now = Timestamp::now();
        let expires_at = Some(now + jiff::SignedDuration::from_hours(1));
        GrantTerms { bundle: &self.bundle, context: &self.context, grantee: &self.grantee, expires_at, now }
    }

    async fn grant(&self, service: &dyn KeyService) -> Result<String, KeyError> {
        service.grant(&self.terms()).await.map(|grant| grant.reference)
    }

    /// Takes it back, and returns whether there was one.
    async fn revoke(&self, service: &dyn KeyService) -> Result<bool, KeyError> {
        service.revoke(&self.terms()).await.map(|revoked| revoked.was)
    }

    /// Takes it back, and returns by what the grantee opens the delivery all the same.
    async fn still(&self, service: &dyn KeyService) -> String {
        service.revoke(&self.terms()).await.expect("revoked").still.join(", ")
    }

    async fn found(&self, service: &dyn KeyService) -> Vec<FoundGrant> {
        service.grants(&self.bundle, &self.context).await.expect("grants")
    }
}

fn is_forbidden(error: &KeyError) -> bool {
    matches!(error, KeyError::Service { status: 403, .. }) && error.hint().is_some()
}

#[tokio::test]
async fn what_one_version_wrapped_that_version_opens() {
    let scene = Scene::start().await;
    let service = scene.connect(&scene.key, "publisher");
    let key = DataKey::generate().expect("key");
    let wrapped = service.wrap(&key, &context("one")).await.expect("wrapped");
    let version = scene.key.rsplit('/').next().expect("version");
    assert_eq!(wrapped.version.as_deref(), Some(version));
    assert_ne!(
        service.wrap(&key, &context("one")).await.expect("wrapped"),
        wrapped,
        "RSA-OAEP is randomised"
    );
    let opened = service.unwrap(&wrapped.text, &context("one")).await.expect("opened");
    assert_eq!(opened.reveal(), key.reveal());
    // One login, and nothing asked that is not needed.
    let logins = scene.azure.seen().iter().filter(|line| line.contains("oauth2")).count();
    assert_eq!(logins, 1);
    // A login that has ended is made anew.
    scene.azure.lie(Lie::Ended);
    let hasty = scene.connect(&scene.key, "publisher");
    for _ in 0..2 {
        hasty.unwrap(&wrapped.text, &context("one")).await.expect("opened");
    }
    scene.azure.lie(None);
    assert_eq!(scene.azure.seen().iter().filter(|line| line.contains("oauth2")).count(), 2);

    let value = wrapped.text.split_once(':').expect("version").1;
    let mut flipped = value.to_owned().into_bytes();
    flipped[40] = if flipped[40] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).expect("text");
    let second = scene.azure.rsa("acme", "core");
    let newer = second.rsplit('/').next().expect("version");
    let plain = URL_SAFE_NO_PAD.encode(key.reveal());
    for (what, text) in
        [("a changed byte", format!("{version}:{flipped}")), ("another version", format!("{newer}:{value}"))]
    {
        let error = service.unwrap(&text, &context("one")).await.expect_err(what);
        assert!(matches!(error, KeyError::Refused(_)), "{what}: {error}");
    }
    scene.azure.seen();
    for (what, text) in [
        ("no version", value.to_owned()),
        ("a version in capitals", format!("{}:{value}", version.to_ascii_uppercase())),
        ("a path", format!("../../other/{}:{value}", &version[..20])),
        ("a key that was never wrapped", format!("{version}:{plain}")),
        ("half of it", wrapped.text[..200].to_owned()),
        ("twice the same", format!("{version}:{value}{value}")),
        ("padding", format!("{}==", wrapped.text)),
        ("nothing", String::new()),
    ] {
        for error in [
            service.unwrap(&text, &context("one")).await.err(),
            service.rewrap(&text, &context("one")).await.err(),
        ] {
            let error = error.expect(what);
            assert!(matches!(error, KeyError::Refused(_)), "{what}: {error}");
        }
    }
    assert!(scene.azure.seen().is_empty(), "what was never wrapped is not sent");
    let elsewhere = scene.azure.rsa("acme", "other");
    let text = format!("{}:{value}", elsewhere.rsplit('/').next().expect("version"));
    let error =
        scene.connect(&elsewhere, "publisher").unwrap(&text, &context("one")).await.expect_err("other key");
    assert!(matches!(error, KeyError::Refused(_)), "{error}");
    let absent = format!("azure-keyvault://acme/core/{}", "0".repeat(32));
    let error = scene.connect(&absent, "publisher").wrap(&key, &context("one")).await.expect_err("absent");
    assert!(matches!(error, KeyError::Service { status: 404, .. }), "{error}");
    assert!(scene.azure.strangers().is_empty());
}

/// Attack: RSA-OAEP knows no context, so that a wrapped key can be carried to another bundle.
#[tokio::test]
async fn a_wrapped_key_in_another_bundle_opens_nothing() {
    let scene = Scene::start().await;
    let service = scene.connect(&scene.key, "publisher");
    let (one, two) = (DataKey::generate().expect("key"), DataKey::generate().expect("key"));
    let (mut sealed_one, mut sealed_two) = (Vec::new(), Vec::new());
    seal(&one, b"descriptor one", &b"first"[..], &mut sealed_one).expect("sealed");
    seal(&two, b"descriptor two", &b"second"[..], &mut sealed_two).expect("sealed");
    let wrapped = service.wrap(&one, &context("one")).await.expect("wrapped");
    // The vault cannot tell, and unwraps for whichever bundle is named.
    let carried = service.unwrap(&wrapped.text, &context("two")).await.expect("unwrapped");
    for (descriptor, sealed) in [
        (&b"descriptor two"[..], &sealed_two),
        (b"descriptor one", &sealed_two),
        (b"descriptor two", &sealed_one),
    ] {
        let mut plain = Vec::new();
        let error = open(&carried, descriptor, sealed.as_slice(), &mut plain).expect_err("another bundle");
        assert!(matches!(error, OpenError::Key), "{error}");
        assert!(plain.is_empty());
    }
    let mut plain = Vec::new();
    open(&carried, b"descriptor one", sealed_one.as_slice(), &mut plain).expect("its own");
    assert_eq!(plain, b"first");
}

#[tokio::test]
async fn a_new_version_takes_over_what_an_old_one_wrapped() {
    let scene = Scene::start().await;
    let old = scene.connect(&scene.key, "publisher");
    let key = DataKey::generate().expect("key");
    let wrapped = old.wrap(&key, &context("one")).await.expect("wrapped");
    let second = scene.azure.rsa("acme", "core");
    let new = scene.connect(&second, "publisher");
    // Nobody wraps anew with an expired version, which still opens what it wrapped.
    scene.azure.expire(&scene.key);
    assert!(is_forbidden(&old.wrap(&key, &context("one")).await.expect_err("expired")));
    let anew = new.rewrap(&wrapped.text, &context("one")).await.expect("rewrapped");
    assert_eq!(anew.version.as_deref(), second.rsplit('/').next());
    let opened = new.unwrap(&anew.text, &context("one")).await.expect("opened");
    assert_eq!(opened.reveal(), key.reveal());
    let error =
        new.unwrap(&wrapped.text, &context("one")).await.expect_err("the old one under the new reference");
    assert!(matches!(error, KeyError::Refused(_)), "{error}");
    scene.azure.disable(&scene.key);
    assert!(is_forbidden(&old.unwrap(&wrapped.text, &context("one")).await.expect_err("disabled")));
    assert!(is_forbidden(&new.rewrap(&wrapped.text, &context("one")).await.expect_err("disabled")));
    assert_eq!(new.unwrap(&anew.text, &context("one")).await.expect("opened").reveal(), key.reveal());
}

#[tokio::test]
async fn a_key_that_would_not_protect_is_not_used() {
    let scene = Scene::start().await;
    let exportable = scene.azure.rsa("acme", "exportable");
    scene.azure.make_exportable(&exportable);
    let disabled = scene.azure.rsa("acme", "disabled");
    scene.azure.disable(&disabled);
    let one_way = scene.azure.rsa("acme", "one-way");
    scene.azure.allow_only(&one_way, &["wrapKey", "encrypt"]);
    let signing = scene.azure.ec("acme", "signing");
    let key = DataKey::generate().expect("key");
    for (key_ref, reason) in [
        (&exportable, "it is `exportable`"),
        (&disabled, "this version of it is disabled"),
        (&one_way, "`wrapKey` and `unwrapKey` are not both among its operations"),
        (&signing, "it is no key of type `RSA`"),
    ] {
        let error = scene.connect(key_ref, "publisher").wrap(&key, &context("one")).await.expect_err(reason);
        assert!(matches!(error, KeyError::Wrap { .. }) && error.to_string().contains(reason), "{error}");
    }
    let wrapped = scene.azure.seen().iter().filter(|line| line.contains("wrapkey")).count();
    assert_eq!(wrapped, 0, "no data key was sent to one of them");
}

/// Attack: a vault, or who stands in its place, that answers something else than what was asked.
#[tokio::test]
async fn an_answer_to_another_question_is_not_used() {
    let scene = Scene::start().await;
    let key = DataKey::generate().expect("key");
    let service = scene.connect(&scene.key, "publisher");
    let wrapped = service.wrap(&key, &context("one")).await.expect("wrapped").text;
    for (lie, says) in [
        (Lie::OtherKey, "keys/other/"),
        (Lie::OtherVersion, "00000000000000000000000000000000`"),
        (Lie::OtherVault, "https://evil.vault.azure.net/"),
        (Lie::Garbage, "not base64url"),
    ] {
        scene.azure.lie(lie);
        for error in [
            service.unwrap(&wrapped, &context("one")).await.err(),
            service.wrap(&key, &context("one")).await.err(),
        ] {
            let error = error.unwrap_or_else(|| panic!("{lie:?}"));
            assert!(matches!(error, KeyError::Answer { .. }), "{lie:?}: {error}");
            assert!(error.to_string().contains(says), "{lie:?}: {error}");
        }
    }
    for (lie, says) in [(Lie::Short, "32 bytes"), (Lie::Zeros, "nothing but zeros")] {
        scene.azure.lie(lie);
        let error = service.unwrap(&wrapped, &context("one")).await.expect_err("no data key");
        assert!(matches!(error, KeyError::Answer { .. }) && error.to_string().contains(says), "{error}");
    }
    // Another's key looks like ours: the commitment of the bundle does not take it.
    scene.azure.lie(Lie::Another);
    let another = service.unwrap(&wrapped, &context("one")).await.expect("unwrapped");
    scene.azure.lie(None);
    let (mut sealed, mut plain) = (Vec::new(), Vec::new());
    seal(&key, b"descriptor", &b"first"[..], &mut sealed).expect("sealed");
    assert!(open(&another, b"descriptor", sealed.as_slice(), &mut plain).is_err() && plain.is_empty());
    for lie in [Lie::Gibibyte, Lie::Endless] {
        scene.azure.lie(lie);
        let error = service.unwrap(&wrapped, &context("one")).await.expect_err("too large");
        assert!(matches!(error, KeyError::Http { .. }), "{lie:?}: {error}");
    }
}

/// Attack: a vault that says where to get a token and for whom, or sends the request on.
#[tokio::test]
async fn nobody_is_given_a_token_because_a_vault_says_so() {
    let scene = Scene::start().await;
    let wrapped = scene.connect(&scene.key, "publisher");
    let wrapped =
        wrapped.wrap(&DataKey::generate().expect("key"), &context("one")).await.expect("wrapped").text;
    for (lie, says) in [
        (
            Lie::Resource,
            "asks for a token for `https://management.azure.com` and is given none: expected `https://vault.azure.net`",
        ),
        (Lie::Authority, "takes tokens of `https://login.evil.example/"),
    ] {
        scene.azure.lie(lie);
        let service = scene.connect(&scene.key, "publisher");
        scene.azure.seen();
        let error = service.unwrap(&wrapped, &context("one")).await.expect_err("challenge");
        assert!(matches!(error, KeyError::Login { .. }), "{lie:?}: {error}");
        assert!(error.to_string().contains(says), "{lie:?}: {error}");
        assert_eq!(scene.azure.seen().len(), 2, "one login, one request");
    }
    scene.azure.lie(Lie::Redirect);
    let error =
        scene.connect(&scene.key, "publisher").unwrap(&wrapped, &context("one")).await.expect_err("redirect");
    assert!(matches!(error, KeyError::Http { .. }), "{error}");
    assert!(scene.azure.strangers().is_empty(), "{:?}", scene.azure.strangers());

    scene.azure.lie(None);
    let service = scene.connect(&scene.key, "publisher");
    service.unwrap(&wrapped, &context("one")).await.expect("unwrapped");
    scene.azure.log_everybody_out();
    let error = service.unwrap(&wrapped, &context("one")).await.expect_err("an old token");
    assert!(matches!(error, KeyError::Service { status: 401, .. }), "{error}");
}

#[tokio::test]
async fn no_error_repeats_a_credential() {
    let scene = Scene::start().await;
    let key = DataKey::generate().expect("key");
    let service = scene.connect(&scene.key, "publisher");
    service.wrap(&key, &context("one")).await.expect("logged in");
    scene.azure.lie(Lie::Repeat);
    let error = service.wrap(&key, &context("one")).await.expect_err("forbidden");
    assert!(is_forbidden(&error) && !error.to_string().contains("at-"), "{error}");
    assert!(!format!("{error:?}").contains("at-"), "{error:?}");
    let service = scene.connect(&scene.key, "publisher");
    let error = service.wrap(&key, &context("one")).await.expect_err("repeats the secret");
    assert!(matches!(error, KeyError::Login { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains(SECRET), "{error}");
    scene.azure.lie(None);
    let wrong = "another-secret-of-a-test";
    let settings = scene.settings("publisher", &[("AZURE_CLIENT_SECRET", wrong)]);
    let service = scene.connect_with(&scene.key, &settings).expect("connected");
    let error = service.wrap(&key, &context("one")).await.expect_err("wrong secret");
    assert!(matches!(error, KeyError::Login { .. }), "{error}");
    let text = format!("{error} {error:?}");
    assert!(text.contains("AADSTS7000215") && !text.contains(wrong), "{text}");
}

#[tokio::test]
async fn a_busy_vault_is_asked_again_and_not_for_ever() {
    let scene = Scene::start().await;
    let key = DataKey::generate().expect("key");
    let service = scene.connect(&scene.key, "publisher");
    scene.azure.busy(2);
    service.wrap(&key, &context("one")).await.expect("wrapped in the end");
    scene.azure.seen();
    scene.azure.busy(usize::MAX);
    let error = service.wrap(&key, &context("one")).await.expect_err("busy");
    assert!(matches!(error, KeyError::Service { status: 429, .. }) && error.is_transient(), "{error}");
    assert_eq!(scene.azure.seen().len(), 4);
}

#[tokio::test]
async fn a_job_logs_in_with_its_identity_and_with_no_other() {
    let scene = Scene::start().await;
    let key = DataKey::generate().expect("key");
    let job = |claims: Value| Settings {
        id_tokens: Some(Arc::new(Job(claims))),
        ..scene.settings("publisher", &[("AZURE_CLIENT_SECRET", "")])
    };
    let service = scene.connect_with(&scene.key, &job(json!({}))).expect("connected");
    service.wrap(&key, &context("one")).await.expect("wrapped");
    for (claims, says) in [
        (json!({"sub": "repo:acme/fork"}), "AADSTS700213"),
        (json!({"iss": "https://evil.example"}), "AADSTS700211"),
        (json!({"aud": "api://AzureADTokenExchangeUSGov"}), "AADSTS700212"),
        (json!({"exp": 1_700_000_000}), "AADSTS700024"),
        (json!({"nbf": 4_000_000_000_u64}), "AADSTS700024"),
    ] {
        let service = scene.connect_with(&scene.key, &job(claims)).expect("connected");
        let error = service.wrap(&key, &context("one")).await.expect_err(says);
        assert!(
            matches!(error, KeyError::Login { .. }) && error.to_string().contains(says),
            "{says}: {error}"
        );
    }

    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("token");
    let from_file = || {
        let path = path.to_str().expect("path");
        scene.settings("publisher", &[("AZURE_CLIENT_SECRET", ""), ("AZURE_FEDERATED_TOKEN_FILE", path)])
    };
    let service = scene.connect_with(&scene.key, &from_file()).expect("connected");
    let error = service.wrap(&key, &context("one")).await.expect_err("no file");
    assert!(error.to_string().contains("AZURE_FEDERATED_TOKEN_FILE"), "{error}");
    std::fs::write(&path, format!("{}\n", id_token(&json!({})))).expect("write");
    service.wrap(&key, &context("one")).await.expect("wrapped");
    let token = id_token(&json!({}));
    let mut changed = token.clone().into_bytes();
    let at = token.rfind('.').expect("dot") + 10;
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    std::fs::write(&path, changed).expect("write");
    let service = scene.connect_with(&scene.key, &from_file()).expect("connected");
    let error = service.wrap(&key, &context("one")).await.expect_err("signature");
    assert!(error.to_string().contains("AADSTS50013"), "{error}");
    assert!(scene.azure.strangers().is_empty());
}

#[tokio::test]
async fn what_is_missing_is_named_and_what_is_odd_is_not_sent() {
    let scene = Scene::start().await;
    for (name, value, says) in [
        ("AZURE_TENANT_ID", "", "set AZURE_TENANT_ID"),
        ("AZURE_CLIENT_ID", "", "set AZURE_CLIENT_ID"),
        ("AZURE_CLIENT_SECRET", "", "set AZURE_FEDERATED_TOKEN_FILE or AZURE_CLIENT_SECRET"),
        ("AZURE_TENANT_ID", "../evil", "AZURE_TENANT_ID"),
        ("AZURE_TENANT_ID", "a/b", "AZURE_TENANT_ID"),
        ("AZURE_TENANT_ID", "..", "AZURE_TENANT_ID"),
        ("AZURE_AUTHORITY_HOST", "http://login.microsoftonline.com", "AZURE_AUTHORITY_HOST"),
        ("AZURE_AUTHORITY_HOST", "https://u:p@login.microsoftonline.com", "AZURE_AUTHORITY_HOST"),
        ("AZURE_AUTHORITY_HOST", "login.evil.example", "set PROTECTED_REGISTRY_AZURE_VAULT_SUFFIX"),
        ("PROTECTED_REGISTRY_AZURE_VAULT_SUFFIX", "evil.example/", "PROTECTED_REGISTRY_AZURE_VAULT_SUFFIX"),
        ("PROTECTED_REGISTRY_AZURE_VAULT_SUFFIX", "evil.example:1", "PROTECTED_REGISTRY_AZURE_VAULT_SUFFIX"),
        ("PROTECTED_REGISTRY_AZURE_VAULT_URL", "http://vault.example", "PROTECTED_REGISTRY_AZURE_VAULT_URL"),
        ("PROTECTED_REGISTRY_AZURE_MANAGEMENT_URL", "nonsense", "PROTECTED_REGISTRY_AZURE_MANAGEMENT_URL"),
    ] {
        let settings = scene.settings("publisher", &[(name, value)]);
        let error =
            scene.connect_with(&scene.key, &settings).err().unwrap_or_else(|| panic!("{name}={value}"));
        let text = format!("{error} {}", error.hint().map(|hint| hint.to_string()).unwrap_or_default());
        assert!(text.contains(says), "{name}={value}: {text}");
    }
    let wanted = Wanted::new("one", scene.customer);
    for (name, value, says) in [
        ("AZURE_SUBSCRIPTION_ID", "", "set AZURE_SUBSCRIPTION_ID"),
        ("AZURE_SUBSCRIPTION_ID", "../x", "AZURE_SUBSCRIPTION_ID"),
        ("PROTECTED_REGISTRY_AZURE_RESOURCE_GROUP", "", "set PROTECTED_REGISTRY_AZURE_RESOURCE_GROUP"),
        ("PROTECTED_REGISTRY_AZURE_RESOURCE_GROUP", "a/../b", "PROTECTED_REGISTRY_AZURE_RESOURCE_GROUP"),
        ("PROTECTED_REGISTRY_AZURE_RESOURCE_GROUP", "..", "PROTECTED_REGISTRY_AZURE_RESOURCE_GROUP"),
        ("PROTECTED_REGISTRY_AZURE_ROLE_DEFINITION", "Owner", "PROTECTED_REGISTRY_AZURE_ROLE_DEFINITION"),
    ] {
        let settings = scene.settings("publisher", &[(name, value)]);
        let service = scene.connect_with(&scene.key, &settings).expect("connected");
        let error = wanted.grant(&*service).await.expect_err(name);
        let text = format!("{error} {}", error.hint().map(|hint| hint.to_string()).unwrap_or_default());
        assert!(text.contains(says), "{name}={value}: {text}");
    }
    assert!(scene.azure.seen().is_empty() && scene.azure.strangers().is_empty());
}

#[tokio::test]
async fn another_cloud_has_other_addresses() {
    let scene = Scene::start().await;
    let settings = scene.settings("publisher", &[("AZURE_AUTHORITY_HOST", "login.microsoftonline.us")]);
    let service = scene.connect_with(&scene.key, &settings).expect("connected");
    let key = DataKey::generate().expect("key");
    service.wrap(&key, &context("one")).await.expect("wrapped");
    let seen = scene.azure.seen();
    assert!(seen[0].starts_with("POST login.microsoftonline.us/"), "{seen:?}");
    assert!(
        seen[1..].iter().all(|line| line.contains(" acme.vault.usgovcloudapi.net/keys/core/")),
        "{seen:?}"
    );
    assert!(scene.azure.strangers().is_empty());
}

#[tokio::test]
async fn a_customer_opens_until_the_grant_is_taken_back() {
    let scene = Scene::start().await;
    let publisher = scene.connect(&scene.key, "publisher");
    let (customer, other) = (scene.connect(&scene.key, "customer"), scene.connect(&scene.key, "other"));
    let limits = publisher.limits();
    assert!(!limits.one_bundle && !limits.expires && limits.says.contains("revoke-grant"));
    let key = DataKey::generate().expect("key");
    let wrapped = publisher.wrap(&key, &context("one")).await.expect("wrapped").text;
    assert!(is_forbidden(&customer.unwrap(&wrapped, &context("one")).await.expect_err("not granted")));

    let wanted = Wanted::new("one", scene.customer);
    let made = publisher.grant(&wanted.terms()).await.expect("granted");
    assert_eq!((made.operation.as_str(), made.status.as_str()), ("roleAssignments/write", "materialized"));
    assert_eq!(wanted.grant(&*publisher).await.expect("granted again"), made.reference);
    let listed = "protected-registry delivery one".to_owned();
    assert_eq!(scene.azure.descriptions(), [(made.reference.parse().expect("id"), listed)]);
    let opened = customer.unwrap(&wrapped, &context("one")).await.expect("opened");
    assert_eq!(opened.reveal(), key.reveal());
    assert!(is_forbidden(&other.unwrap(&wrapped, &context("one")).await.expect_err("another customer")));
    let found =
        FoundGrant { reference: made.reference, grantee: Some(wanted.grantee.clone()), expires_at: None };
    assert_eq!(wanted.found(&*publisher).await, [found]);
    assert!(is_forbidden(&wanted.grant(&*customer).await.expect_err("a customer grants")));

    assert!(wanted.revoke(&*publisher).await.expect("revoked"));
    assert!(!wanted.revoke(&*publisher).await.expect("revoked before"));
    assert!(wanted.found(&*publisher).await.is_empty());
    assert!(is_forbidden(&customer.unwrap(&wrapped, &context("one")).await.expect_err("revoked")));
    // Who seals still opens what was sealed.
    publisher.unwrap(&wrapped, &context("one")).await.expect("opened");
}

/// A principal has a role on a key once, however many deliveries it is for.
#[tokio::test]
async fn a_second_delivery_on_the_same_key_is_not_forgotten() {
    let scene = Scene::start().await;
    let publisher = scene.connect(&scene.key, "publisher");
    let customer = scene.connect(&scene.key, "customer");
    let key = DataKey::generate().expect("key");
    let wrapped = publisher.wrap(&key, &context("one")).await.expect("wrapped").text;
    let (one, two) = (Wanted::new("one", scene.customer), Wanted::new("two", scene.customer));
    let others = Wanted::new("one", scene.other);
    let first = one.grant(&*publisher).await.expect("granted");
    assert_eq!(two.grant(&*publisher).await.expect("granted"), first);
    assert_ne!(others.grant(&*publisher).await.expect("granted"), first);
    assert_eq!(one.found(&*publisher).await.len(), 2);
    assert_eq!(two.found(&*publisher).await.len(), 1);
    // Another name that starts alike is another delivery.
    assert!(Wanted::new("on", scene.customer).found(&*publisher).await.is_empty());

    assert_eq!(one.still(&*publisher).await, "the grant of the delivery two");
    assert_eq!(one.found(&*publisher).await.len(), 1, "the other customer's");
    customer.unwrap(&wrapped, &context("one")).await.expect("opens, as it was said");
    assert_eq!(one.still(&*publisher).await, "the grant of the delivery two", "said again");
    assert!(two.revoke(&*publisher).await.expect("revoked"));
    assert!(is_forbidden(&customer.unwrap(&wrapped, &context("one")).await.expect_err("revoked")));
    scene.connect(&scene.key, "other").unwrap(&wrapped, &context("one")).await.expect("the other customer");
}

#[tokio::test]
async fn a_tighter_role_opens_and_does_nothing_else() {
    let scene = Scene::start().await;
    let settings = scene.settings("publisher", &[("PROTECTED_REGISTRY_AZURE_ROLE_DEFINITION", UNWRAP_ONLY)]);
    let publisher = scene.connect_with(&scene.key, &settings).expect("connected");
    let customer = scene.connect(&scene.key, "customer");
    let key = DataKey::generate().expect("key");
    let wrapped = publisher.wrap(&key, &context("one")).await.expect("wrapped").text;
    let wanted = Wanted::new("one", scene.customer);
    // What was granted by the built-in role before goes with the grant.
    let before = wanted.grant(&*scene.connect(&scene.key, "publisher")).await.expect("granted");
    assert_ne!(wanted.grant(&*publisher).await.expect("granted"), before);
    assert_eq!(wanted.found(&*publisher).await.len(), 2);
    assert!(wanted.revoke(&*publisher).await.expect("revoked"));
    assert!(is_forbidden(&customer.unwrap(&wrapped, &context("one")).await.expect_err("revoked")));
    wanted.grant(&*publisher).await.expect("granted");
    customer.unwrap(&wrapped, &context("one")).await.expect("opened");
    assert!(is_forbidden(&customer.wrap(&key, &context("one")).await.expect_err("wrapping")));
}

#[tokio::test]
async fn a_grant_that_could_not_be_taken_back_is_not_given() {
    let scene = Scene::start().await;
    let publisher = scene.connect(&scene.key, "publisher");
    let wanted = Wanted::new("one", scene.customer);
    let foreign = scene.azure.assign(scene.customer, ENCRYPTION_USER, &key_scope("acme", "core"));
    let error = wanted.grant(&*publisher).await.expect_err("foreign");
    assert!(error.to_string().contains(&foreign.to_string()), "{error}");
    assert!(wanted.still(&*publisher).await.contains(&foreign.to_string()));

    // Attack: the name of the customer's assignment, on one that lets another unwrap.
    scene.azure.rename(foreign, Uuid::nil());
    let wanted_by_other = Wanted::new("one", scene.other);
    let name = wanted_by_other.grant(&*publisher).await.expect("granted");
    assert!(wanted_by_other.revoke(&*publisher).await.expect("revoked"));
    scene.azure.describe(Uuid::nil(), "protected-registry delivery one");
    scene.azure.rename(Uuid::nil(), name.parse().expect("id"));
    let error = wanted_by_other.grant(&*publisher).await.expect_err("another's");
    assert!(matches!(error, KeyError::Answer { .. }), "{error}");
    assert!(wanted.revoke(&*publisher).await.expect("revoked"));

    // A role on the whole vault is inherited, and none of our grants, whatever it says of itself.
    let broad = scene.azure.assign(scene.other, ENCRYPTION_USER, &vault_scope("acme"));
    let inherited = Wanted::new("one", scene.other);
    assert!(inherited.still(&*publisher).await.contains(&broad.to_string()));
    // And so is a wider role.
    let wider = scene.azure.assign(scene.other, CRYPTO_USER, &vault_scope("acme"));
    assert!(inherited.still(&*publisher).await.contains(&wider.to_string()));
    scene.azure.describe(broad, "protected-registry delivery one");
    assert!(inherited.found(&*publisher).await.is_empty());

    scene.azure.vault("policies", false);
    let key = scene.azure.rsa("policies", "core");
    let error = wanted.grant(&*scene.connect(&key, "publisher")).await.expect_err("access policies");
    assert!(error.to_string().contains("access policies"), "{error}");
    let elsewhere = format!("azure-keyvault://elsewhere/core/{}", "0".repeat(32));
    let error = wanted.grant(&*scene.connect(&elsewhere, "publisher")).await.expect_err("no such vault");
    assert!(matches!(error, KeyError::Service { status: 404, .. }), "{error}");
    // The subscription has a vault of this name, and it is in another cloud than the key.
    let settings = scene.settings("publisher", &[("PROTECTED_REGISTRY_AZURE_VAULT_SUFFIX", "vault.example")]);
    let service = scene.connect_with(&scene.key, &settings).expect("connected");
    let error = wanted.grant(&*service).await.expect_err("another vault");
    assert!(error.to_string().contains("expected `https://acme.vault.example/`"), "{error}");

    for (grantee, says) in [
        ("globex".to_owned(), "is no object id"),
        ("arn:aws:iam::123456789012:role/globex".to_owned(), "is no object id"),
        (format!("{{{}}}", scene.customer), "is no object id"),
        (scene.customer.simple().to_string(), "is no object id"),
        (format!("admin:{}", scene.customer), "is no object id"),
        (Uuid::nil().to_string(), "PrincipalNotFound"),
        (format!("group:{}", scene.other), "UnmatchedPrincipalType"),
    ] {
        let error = Wanted::new("one", &grantee).grant(&*publisher).await.expect_err(&grantee);
        assert!(error.to_string().contains(says), "{grantee}: {error}");
    }
    let user = Wanted::new("one", format!("user:{}", scene.azure.user()));
    user.grant(&*publisher).await.expect("granted");
    assert_eq!(user.found(&*publisher).await[0].grantee.as_ref(), Some(&user.grantee));
    // Capitals are the same id.
    let capitals = Wanted::new("one", scene.other.to_string().to_ascii_uppercase());
    let first = capitals.grant(&*publisher).await.expect("granted");
    assert_eq!(Wanted::new("one", scene.other).grant(&*publisher).await.expect("granted"), first);
}

/// Attack: two publishers write the same list, and one of them would leave the other off it.
#[tokio::test]
async fn of_two_publishers_none_is_forgotten() {
    let scene = Scene::start().await;
    let publisher = scene.connect(&scene.key, "publisher");
    let (one, two) = (Wanted::new("one", scene.customer), Wanted::new("two", scene.customer));
    scene.azure.rival("protected-registry delivery two");
    one.grant(&*publisher).await.expect("granted");
    assert_eq!(one.found(&*publisher).await, two.found(&*publisher).await);
    assert_eq!(one.found(&*publisher).await.len(), 1);

    // The list is not longer than Azure takes.
    let long = |n: usize| Wanted::new(&format!("{n:0120}"), scene.other);
    for n in 0..4 {
        long(n).grant(&*publisher).await.expect("granted");
    }
    let error = long(4).grant(&*publisher).await.expect_err("full");
    assert!(error.to_string().contains("the list of them is full"), "{error}");
    assert_eq!(long(0).still(&*publisher).await.split(", ").count(), 3, "three are left");
    long(4).grant(&*publisher).await.expect("there is a place again");
}

/// Attack: a list that goes on elsewhere, where the token would be sent.
#[tokio::test]
async fn a_list_is_read_to_its_end_and_nowhere_else() {
    let scene = Scene::start().await;
    let publisher = scene.connect(&scene.key, "publisher");
    let wanted = |principal: Uuid| Wanted::new("one", principal);
    for n in 0..5 {
        let principal = scene.azure.application(&format!("customer-{n}"), None);
        wanted(principal).grant(&*publisher).await.expect("granted");
    }
    // Roles on the vault, on another key, and by hand are none of our grants.
    let another = scene.azure.rsa("acme", "another");
    scene.azure.assign(scene.other, CRYPTO_USER, &vault_scope("acme"));
    wanted(scene.other).grant(&*scene.connect(&another, "publisher")).await.expect("granted");
    assert_eq!(wanted(scene.customer).found(&*publisher).await.len(), 5);
    scene.azure.lie(Lie::Redirect);
    let error =
        publisher.grants(&wanted(scene.customer).bundle, &context("one")).await.expect_err("elsewhere");
    assert!(matches!(error, KeyError::Answer { .. }), "{error}");
    assert!(scene.azure.strangers().is_empty(), "{:?}", scene.azure.strangers());
}
