//! AWS KMS: moto behind the checks that the real service makes (`aws_kms.py`), boto3 as a stranger's client, and
//! ministack as a service that gives out wrong keys.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use protected_bundle::{DataKey, OpenError, open, seal};
use protected_http::Client;
use protected_keys::{
    FoundGrant, GrantTerms, IdTokens, KeyContext, KeyError, KeyService, Revoked, Settings, SigningKey,
    connect, connect_to_sign,
};
use protected_model::{
    api::delivery::Grantee, digest::Sha256, environment::Environment, key_ref::KeyRef, name::BundleId,
    secret::IdToken,
};
use serde_json::{Value, json};

struct Kms {
    ready: Value,
    http: Client,
    /// It ends when this is closed.
    _child: Child,
}

/// One service for all tests of this file: each uses bundles of its own.
fn kms() -> &'static Kms {
    static KMS: OnceLock<Kms> = OnceLock::new();
    KMS.get_or_init(|| {
        let mut child = python("aws")
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("python of moto: {error}; run `cargo xtask tools`"));
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("output")).read_line(&mut line).expect("line");
        Kms { ready: serde_json::from_str(&line).expect("it started"), http: client(), _child: child }
    })
}

fn tool(folder: &str, program: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools").join(folder);
    path.join("bin").join(program)
}

fn python(folder: &str) -> Command {
    let mut command = Command::new(tool(folder, "python"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/aws_kms.py")).env_clear();
    command
}

fn client() -> Client {
    let settings = protected_http::Settings::from_environment(&Environment::default(), None, "test");
    settings.and_then(|settings| Client::new(&settings)).expect("client")
}

/// Calls the service as boto3 does, with the same variables as we.
fn boto(environment: &Environment, operation: &str, parameters: &Value) -> Value {
    let mut child = python("aws")
        .args(["call", "kms", operation])
        .envs(environment.iter())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python");
    child.stdin.take().expect("input").write_all(parameters.to_string().as_bytes()).expect("written");
    let output = child.wait_with_output().expect("output");
    serde_json::from_slice(&output.stdout).expect("boto3 answers")
}

impl Kms {
    fn text(&self, pointer: &str) -> &str {
        self.ready.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer}"))
    }

    fn arn(&self, key: &str) -> &str {
        self.ready["keys"][key].as_str().expect("key")
    }

    fn key(&self, key: &str) -> KeyRef {
        format!("aws-kms://{}", self.arn(key)).parse().expect("reference")
    }

    fn grantee(&self, who: &str) -> Grantee {
        self.ready["grantees"][who].as_str().expect("grantee").parse().expect("grantee")
    }

    fn fault(&self, fault: &str) -> String {
        format!("{}fault/{fault}/", self.text("/url"))
    }

    /// The environment of somebody who asks.
    fn environment(&self, who: &str) -> Vec<(String, String)> {
        let given = self.ready["credentials"][who].as_object().expect("who");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let mut all: Vec<_> = given.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        all.push(("AWS_ENDPOINT_URL".to_owned(), self.text("/url").to_owned()));
        all
    }

    fn connect(&self, key: &str, who: &str) -> Box<dyn KeyService> {
        self.with(key, self.environment(who))
    }

    fn with(&self, key: &str, environment: Vec<(String, String)>) -> Box<dyn KeyService> {
        self.try_with(key, environment).expect("connected")
    }

    fn try_with(
        &self,
        key: &str,
        environment: Vec<(String, String)>,
    ) -> Result<Box<dyn KeyService>, KeyError> {
        connect(&self.key(key), &settings(environment), &self.http)
    }

    /// The publisher, with a service that does as `fault` says.
    fn faulty(&self, key: &str, fault: &str) -> Box<dyn KeyService> {
        let mut environment = self.environment("publisher");
        environment.push(("AWS_ENDPOINT_URL_KMS".to_owned(), self.fault(fault)));
        self.with(key, environment)
    }

    /// What the service was asked for below a path.
    async fn asked(&self, fault: &str) -> Vec<String> {
        let url = format!("{}log", self.fault(fault)).parse().expect("URL");
        self.http.get(url).send().await.expect("log").json().expect("json")
    }

    async fn signing(&self, key: &str, fault: Option<&str>) -> Result<Box<dyn SigningKey>, KeyError> {
        let mut environment = self.environment("publisher");
        if let Some(fault) = fault {
            environment.push(("AWS_ENDPOINT_URL_KMS".to_owned(), self.fault(fault)));
        }
        connect_to_sign(&self.key(key), &settings(environment), &self.http).await
    }
}

fn settings(environment: Vec<(String, String)>) -> Settings {
    Settings { environment: environment.into_iter().collect(), ..Settings::default() }
}

fn context(bundle: &BundleId) -> KeyContext {
    [("bundle_id", bundle.as_str()), ("tenant_id", "acme"), ("package_name", "@acme/core")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn bundle(name: &str) -> BundleId {
    name.parse().expect("id")
}

fn terms<'a>(bundle: &'a BundleId, context: &'a KeyContext, grantee: &'a Grantee) -> GrantTerms<'a> {
    GrantTerms { bundle, context, grantee, now: Timestamp::now(), expires_at: None }
}

fn data_key() -> DataKey {
    DataKey::generate().expect("random")
}

/// The error with all that is below it, and none of what nobody may read.
fn shown(error: &KeyError) -> String {
    let mut text = format!("{error} {:?}", error.hint());
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    for secret in ["secret-of-", "token-of-", "eyJ", "token of the agent"] {
        assert!(!text.contains(secret) && !format!("{error:?}").contains(secret), "{text}");
    }
    text
}

/// The service refused, and these words are in what is said of it.
fn refused(error: &KeyError, words: &[&str]) {
    let text = shown(error);
    assert!(matches!(error, KeyError::Service { .. }), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

#[tokio::test]
async fn what_is_wrapped_opens_for_its_bundle_alone_and_for_strangers_tools() {
    let kms = kms();
    let publisher: Environment = kms.environment("publisher").into_iter().collect();
    let service = kms.connect("one", "publisher");
    let (one, two) = (context(&bundle("wrap-1")), context(&bundle("wrap-2")));
    let key = data_key();
    let wrapped = service.wrap(&key, &one).await.expect("wrapped");
    assert_eq!(wrapped.version, None, "the service names no version");
    assert_ne!(service.wrap(&key, &one).await.expect("wrapped"), wrapped);
    assert_eq!(service.unwrap(&wrapped.text, &one).await.expect("unwrapped").reveal(), key.reveal());

    let blob = json!({"base64": wrapped.text});
    let theirs = boto(&publisher, "decrypt", &json!({"CiphertextBlob": blob, "EncryptionContext": one}));
    assert_eq!(theirs["Plaintext"], STANDARD.encode(key.reveal()), "boto3 decrypts what we wrap");
    let body = json!({
        "KeyId": kms.arn("one"),
        "Plaintext": {"base64": STANDARD.encode(key.reveal())},
        "EncryptionContext": two,
    });
    let theirs = boto(&publisher, "encrypt", &body);
    let theirs = theirs["CiphertextBlob"].as_str().expect("wrapped");
    assert_eq!(service.unwrap(theirs, &two).await.expect("unwrapped").reveal(), key.reveal());

    let mut flipped = STANDARD.decode(&wrapped.text).expect("base64");
    *flipped.last_mut().expect("byte") ^= 1;
    let mut other_key = STANDARD.decode(&wrapped.text).expect("base64");
    other_key[..36].copy_from_slice(kms.arn("two").rsplit('/').next().expect("id").as_bytes());
    let elsewhere = kms.connect("two", "publisher").wrap(&key, &one).await.expect("wrapped");
    for (what, text, context) in [
        ("another bundle", wrapped.text.clone(), &two),
        ("no context", wrapped.text.clone(), &KeyContext::new()),
        ("a changed byte", STANDARD.encode(flipped), &one),
        ("another key's name in it", STANDARD.encode(other_key), &one),
        ("wrapped with another key", elsewhere.text, &one),
        ("no base64", format!("{}!", wrapped.text), &one),
        ("a line end", format!("{}\n", wrapped.text), &one),
        ("nothing", String::new(), &one),
        ("too short", STANDARD.encode([7; 32]), &one),
        ("too long", STANDARD.encode([7; 6145]), &one),
        ("something else", STANDARD.encode([7; 100]), &one),
    ] {
        let error = service.unwrap(&text, context).await.expect_err(what);
        assert!(matches!(error, KeyError::Refused(_)), "{what}: {}", shown(&error));
        let error = service.rewrap(&text, context).await.expect_err(what);
        assert!(matches!(error, KeyError::Refused(_)), "{what}: {}", shown(&error));
    }
}

#[tokio::test]
async fn a_key_is_wrapped_anew_and_stays_the_same() {
    let kms = kms();
    let service = kms.connect("one", "publisher");
    let context = context(&bundle("rewrap"));
    let key = data_key();
    let wrapped = service.wrap(&key, &context).await.expect("wrapped");
    let anew = service.rewrap(&wrapped.text, &context).await.expect("wrapped anew");
    assert_ne!(anew, wrapped);
    assert_eq!(service.unwrap(&anew.text, &context).await.expect("unwrapped").reveal(), key.reveal());
    let body = json!({"CiphertextBlob": {"base64": anew.text}, "EncryptionContext": context});
    let theirs = boto(&kms.environment("publisher").into_iter().collect(), "decrypt", &body);
    assert_eq!(theirs["Plaintext"], STANDARD.encode(key.reveal()));
}

/// An alias names a key as long as nobody moves it; which one it was stands beside what was wrapped.
#[tokio::test]
async fn an_alias_is_one_key_at_a_time() {
    let kms = kms();
    let publisher: Environment = kms.environment("publisher").into_iter().collect();
    let id = |key: &str| kms.arn(key).rsplit('/').next().map(str::to_owned);
    let bundle = bundle("alias");
    let context = context(&bundle);
    let key = data_key();
    let before = kms.connect("alias/moving", "publisher");
    let wrapped = before.wrap(&key, &context).await.expect("wrapped");
    assert_eq!(wrapped.version, id("one"));
    assert_eq!(before.unwrap(&wrapped.text, &context).await.expect("unwrapped").reveal(), key.reveal());
    let grantee = kms.grantee("globex");
    let grant = before.grant(&terms(&bundle, &context, &grantee)).await.expect("granted");
    assert!(grant.reference.starts_with(&format!("key/{}/grant/", id("one").expect("id"))), "{grant:?}");
    let customer = kms.connect("alias/moving", "globex");
    assert_eq!(customer.unwrap(&wrapped.text, &context).await.expect("unwrapped").reveal(), key.reveal());

    let moved = json!({"AliasName": "alias/moving", "TargetKeyId": kms.arn("two")});
    assert_eq!(boto(&publisher, "update_alias", &moved).get("error"), None);
    assert_eq!(before.wrap(&key, &context).await.expect("wrapped").version, id("one"), "for this connection");
    let after = kms.connect("alias/moving", "publisher");
    let error = after.unwrap(&wrapped.text, &context).await.expect_err("it is another key now");
    assert!(matches!(error, KeyError::Refused(_)), "{}", shown(&error));
    let anew = after.rewrap(&wrapped.text, &context).await.expect("wrapped anew");
    assert_eq!(anew.version, id("two"));
    assert_eq!(after.unwrap(&anew.text, &context).await.expect("unwrapped").reveal(), key.reveal());
}

#[tokio::test]
async fn a_key_that_is_off_does_nothing_and_says_so() {
    let kms = kms();
    let context = context(&bundle("states"));
    let wrapped = kms.connect("one", "publisher").wrap(&data_key(), &context).await.expect("wrapped");
    for (key, code) in [("disabled", "DisabledException"), ("pending", "KMSInvalidStateException")] {
        let service = kms.connect(key, "publisher");
        refused(&service.wrap(&data_key(), &context).await.expect_err(key), &[code]);
        refused(&service.unwrap(&wrapped.text, &context).await.expect_err(key), &[code]);
        refused(&service.rewrap(&wrapped.text, &context).await.expect_err(key), &[code]);
    }
    let error = kms.connect("p256", "publisher").wrap(&data_key(), &context).await.expect_err("it signs");
    refused(&error, &["InvalidKeyUsageException"]);
    let text = "aws-kms://arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000";
    let absent = connect(&text.parse().expect("key"), &settings(kms.environment("publisher")), &kms.http);
    let error = absent.expect("connected").wrap(&data_key(), &context).await.expect_err("absent");
    refused(&error, &["NotFoundException"]);
}

#[tokio::test]
async fn a_customer_opens_what_is_granted_and_nobody_else_does() {
    let kms = kms();
    let publisher = kms.connect("one", "publisher");
    let (globex, initech) = (kms.connect("one", "globex"), kms.connect("one", "initech"));
    let (one, two) = (bundle("grant-1.0"), bundle("grant-2.0"));
    let grantee = kms.grantee("globex");
    let key = data_key();
    let first = publisher.wrap(&key, &context(&one)).await.expect("wrapped").text;
    let second = publisher.wrap(&key, &context(&two)).await.expect("wrapped").text;
    let no_grant = ["AccessDeniedException", "whoever opens needs a grant"];
    refused(&globex.unwrap(&first, &context(&one)).await.expect_err("no grant"), &no_grant);

    let context_of_one = context(&one);
    let terms = terms(&one, &context_of_one, &grantee);
    let granted = publisher.grant(&terms).await.expect("granted");
    assert_eq!((granted.operation.as_str(), granted.status.as_str()), ("CreateGrant", "materialized"));
    assert_eq!(globex.unwrap(&first, &context(&one)).await.expect("unwrapped").reveal(), key.reveal());
    refused(&initech.unwrap(&first, &context(&one)).await.expect_err("not granted"), &no_grant);
    refused(&globex.unwrap(&second, &context(&two)).await.expect_err("another bundle"), &no_grant);
    let mut shouted = context(&one);
    shouted.insert("tenant_id".to_owned(), "ACME".to_owned());
    refused(&globex.unwrap(&first, &shouted).await.expect_err("another tenant"), &no_grant);
    refused(&globex.wrap(&key, &context(&one)).await.expect_err("to wrap"), &no_grant);
    refused(&globex.rewrap(&first, &context(&one)).await.expect_err("to wrap anew"), &no_grant);
    refused(&globex.grant(&terms).await.expect_err("to grant"), &no_grant);
    refused(&globex.grants(&one, &context(&one)).await.expect_err("to list"), &no_grant);

    // The same again, by several at once, is the same grant.
    for _ in 0..2 {
        let (a, b, c) =
            tokio::join!(publisher.grant(&terms), publisher.grant(&terms), publisher.grant(&terms));
        for again in [a, b, c] {
            assert_eq!(again.expect("granted").reference, granted.reference);
        }
    }
    let listed = publisher.grants(&one, &context(&one)).await.expect("listed");
    let expected =
        FoundGrant { reference: granted.reference.clone(), grantee: Some(grantee.clone()), expires_at: None };
    assert_eq!(listed, [expected]);
    for other in [two.clone(), bundle("grant-1_0"), bundle("grant-1")] {
        assert_eq!(publisher.grants(&other, &context(&other)).await.expect("listed"), []);
    }

    // Wrapped anew, it opens by the same grant.
    let anew = publisher.rewrap(&first, &context(&one)).await.expect("wrapped anew").text;
    assert_eq!(globex.unwrap(&anew, &context(&one)).await.expect("unwrapped").reveal(), key.reveal());

    assert!(publisher.revoke(&terms).await.expect("revoked").was);
    assert!(!publisher.revoke(&terms).await.expect("there is none").was);
    refused(&globex.unwrap(&first, &context(&one)).await.expect_err("revoked"), &no_grant);
    refused(&globex.unwrap(&anew, &context(&one)).await.expect_err("revoked"), &no_grant);
    assert_eq!(publisher.grants(&one, &context(&one)).await.expect("listed"), []);
    let limits = publisher.limits();
    assert!(limits.one_bundle && !limits.expires && limits.says.contains("until `revoke-grant`"));
}

/// Grants that nobody recorded: who may open is what the service says, and not what we remember.
#[tokio::test]
async fn grants_that_others_gave_are_found_and_taken_back() {
    let kms = kms();
    let environment: Environment = kms.environment("publisher").into_iter().collect();
    let service = kms.connect("two", "publisher");
    let bundle = bundle("orphans");
    let context = context(&bundle);
    let (globex, initech) = (kms.grantee("globex"), kms.grantee("initech"));
    let mut loud = json!(context);
    loud["TENANT_ID"] = loud["tenant_id"].take();
    loud.as_object_mut().expect("object").remove("tenant_id");
    let make = |who: &Grantee, operation: &str, constraints: Value| {
        let mut body = json!({"KeyId": kms.arn("two"), "GranteePrincipal": who, "Operations": [operation]});
        if !constraints.is_null() {
            body["Constraints"] = constraints;
        }
        boto(&environment, "create_grant", &body)["GrantId"].as_str().expect("id").to_owned()
    };
    let same = make(&globex, "Decrypt", json!({"EncryptionContextEquals": context}));
    let loud = make(&globex, "Decrypt", json!({"EncryptionContextEquals": loud}));
    let tenant = make(&initech, "Decrypt", json!({"EncryptionContextSubset": {"tenant_id": "acme"}}));
    let other = make(&globex, "Decrypt", json!({"EncryptionContextEquals": {"bundle_id": "another"}}));
    let elsewhere = make(&globex, "Decrypt", json!({"EncryptionContextSubset": {"tenant_id": "ACME"}}));
    let encrypts = make(&globex, "Encrypt", Value::Null);
    // Whoever wraps anew with a key of his own has opened it.
    let anew = make(&globex, "ReEncryptFrom", json!({"EncryptionContextEquals": context}));
    let ids = |found: Vec<FoundGrant>| -> Vec<String> {
        found.into_iter().filter_map(|grant| Some(grant.reference.rsplit('/').next()?.to_owned())).collect()
    };
    let listed = ids(service.grants(&bundle, &context).await.expect("listed"));
    assert_eq!(listed, [same, loud, tenant.clone(), anew], "{other} {elsewhere} {encrypts}");
    let revoked = service.revoke(&terms(&bundle, &context, &globex)).await.expect("revoked");
    assert_eq!(revoked, Revoked { was: true, still: Vec::new() });
    let listed = ids(service.grants(&bundle, &context).await.expect("listed"));
    assert_eq!(listed, std::slice::from_ref(&tenant));
    // It was given for more than this delivery: it is told, and left.
    let revoked = service.revoke(&terms(&bundle, &context, &initech)).await.expect("asked");
    assert!(!revoked.was && revoked.still.len() == 1, "{revoked:?}");
    assert!(revoked.still[0].contains(&format!("grant/{tenant}, which is for more")), "{revoked:?}");
    // So does one to the account that the grantee is in.
    let account = "arn:aws:iam::777788889999:root".parse().expect("ARN");
    let whole = make(&account, "Decrypt", json!({"EncryptionContextSubset": {"tenant_id": "acme"}}));
    let revoked = service.revoke(&terms(&bundle, &context, &initech)).await.expect("asked");
    assert!(revoked.still[1].contains(&format!("grant/{whole} to {account}")), "{revoked:?}");
    assert!(service.revoke(&terms(&bundle, &context, &globex)).await.expect("asked").still.is_empty());
    let question = json!({"KeyId": kms.arn("two"), "GrantId": whole});
    assert_eq!(boto(&environment, "revoke_grant", &question).get("error"), None);
    assert_eq!(ids(service.grants(&bundle, &context).await.expect("listed")), [tenant]);

    // More than a page of them, for one delivery.
    let many = self::bundle("many");
    let grantee = |n: usize| format!("arn:aws:iam::444455556666:role/r{n}").parse::<Grantee>().expect("ARN");
    let of_many = self::context(&many);
    for n in 0..120 {
        service.grant(&terms(&many, &of_many, &grantee(n))).await.expect("granted");
    }
    let listed = service.grants(&many, &of_many).await.expect("listed");
    assert_eq!(listed.len(), 121, "and the one for the tenant");
    assert!(service.revoke(&terms(&many, &of_many, &grantee(119))).await.expect("revoked").was);
    assert_eq!(service.grants(&many, &of_many).await.expect("listed").len(), 120);
}

#[tokio::test]
async fn a_grant_that_would_not_bind_is_not_given() {
    let kms = kms();
    let service = kms.connect("one", "publisher");
    let bundle = bundle("bad-grants");
    let context = context(&bundle);
    for grantee in [
        "globex",
        "*",
        "arn:aws:iam::*:role/globex",
        "arn:aws:iam::444455556666:role/*",
        "arn:aws:iam::44445555666:role/globex",
        "arn:aws:iam::444455556666:",
        "arn:aws:s3:::bucket",
        "serviceAccount:globex@acme-prod.iam.gserviceaccount.com",
    ] {
        let grantee = grantee.parse().expect("grantee");
        let error = service.grant(&terms(&bundle, &context, &grantee)).await.expect_err("no principal");
        assert!(matches!(error, KeyError::Grant { .. }), "{}", shown(&error));
    }
    let (none, globex) = (KeyContext::new(), kms.grantee("globex"));
    let error = service.grant(&terms(&bundle, &none, &globex)).await.expect_err("no context");
    assert!(shown(&error).contains("there is no context"), "{error}");
    assert_eq!(service.grants(&bundle, &context).await.expect("listed"), []);
}

/// A job's identity, as its platform gives it.
struct Job {
    token: String,
    asked: AtomicUsize,
}

#[async_trait]
impl IdTokens for Job {
    async fn id_token(&self, audience: &str) -> Result<IdToken, String> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match audience {
            "sts.amazonaws.com" => Ok(IdToken::new(&*self.token)),
            other => Err(format!("no token for {other}")),
        }
    }
}

fn job(kms: &Kms, token: &str, fault: Option<&str>) -> (Arc<Job>, Settings) {
    let job = Arc::new(Job { token: kms.text(&format!("/tokens/{token}")).to_owned(), asked: 0.into() });
    let mut environment = vec![
        ("AWS_ROLE_ARN".to_owned(), kms.text("/role").to_owned()),
        ("AWS_ENDPOINT_URL".to_owned(), kms.text("/url").to_owned()),
    ];
    if let Some(fault) = fault {
        environment.push(("AWS_ENDPOINT_URL_STS".to_owned(), kms.fault(fault)));
    }
    (job.clone(), Settings { id_tokens: Some(job), ..settings(environment) })
}

#[tokio::test]
async fn a_job_takes_a_role_by_its_identity() {
    let kms = kms();
    let context = context(&bundle("job"));
    let (job, settings) = job(kms, "good", Some("none-1"));
    let service = connect(&kms.key("one"), &settings, &kms.http).expect("connected");
    assert_eq!(job.asked.load(Ordering::Relaxed), 0, "nothing is asked before it is needed");
    let key = data_key();
    let wrapped = service.wrap(&key, &context).await.expect("wrapped");
    assert_eq!(service.unwrap(&wrapped.text, &context).await.expect("unwrapped").reveal(), key.reveal());
    assert_eq!(job.asked.load(Ordering::Relaxed), 1, "once for a connection");
    assert_eq!(kms.asked("none-1").await, ["AssumeRoleWithWebIdentity"]);

    // What is about to end is asked for again; what passes is waited for.
    for (fault, times) in [("short", 2), ("passes-sts", 1)] {
        let (job, settings) = self::job(kms, "good", Some(fault));
        let service = connect(&kms.key("one"), &settings, &kms.http).expect("connected");
        let wrapped = service.wrap(&key, &context).await.expect("wrapped");
        assert_eq!(service.unwrap(&wrapped.text, &context).await.expect("unwrapped").reveal(), key.reveal());
        assert_eq!(job.asked.load(Ordering::Relaxed), times, "{fault}");
    }

    // The same from a file, which wins over the platform, as whoever set it meant.
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{}\n", kms.text("/tokens/good"))).expect("file");
    let mut environment = vec![
        ("AWS_ROLE_ARN".to_owned(), kms.text("/role").to_owned()),
        ("AWS_ENDPOINT_URL".to_owned(), kms.text("/url").to_owned()),
        ("AWS_ROLE_SESSION_NAME".to_owned(), "release-7".to_owned()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE".to_owned(), file.display().to_string()),
    ];
    let service = kms.with("one", environment.clone());
    assert_eq!(service.unwrap(&wrapped.text, &context).await.expect("unwrapped").reveal(), key.reveal());
    environment[3].1.push_str("-absent");
    let error = kms.with("one", environment).wrap(&key, &context).await.expect_err("no file");
    assert!(shown(&error).contains("token-absent cannot be read"), "{error}");
}

#[tokio::test]
async fn a_job_without_the_right_identity_gets_no_role() {
    let kms = kms();
    let context = context(&bundle("strange-jobs"));
    for (token, words) in [
        ("audience", ["InvalidIdentityToken: Incorrect token audience", "make an identity provider"]),
        ("issuer", ["InvalidIdentityToken: No OpenIDConnect provider", "make an identity provider"]),
        ("signature", ["answered 400 to POST", "AssumeRole"]),
        ("expired", ["ExpiredTokenException", "get new credentials"]),
        ("subject", ["AccessDenied: Not authorized", "the trust policy of the role"]),
    ] {
        let (_, settings) = job(kms, token, None);
        let service = connect(&kms.key("one"), &settings, &kms.http).expect("connected");
        let error = service.wrap(&data_key(), &context).await.expect_err(token);
        // STS repeats a token that it cannot read: it is not repeated here.
        let words = if token == "signature" { &words[..1] } else { &words[..] };
        refused(&error, words);
    }
    let (_, mut settings) = job(kms, "good", None);
    settings.environment = [("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/admin")]
        .into_iter()
        .collect::<Environment>()
        .or(settings.environment);
    let service = connect(&kms.key("one"), &settings, &kms.http).expect("connected");
    refused(&service.wrap(&data_key(), &context).await.expect_err("another role"), &["AccessDenied"]);
    let (_, settings) = job(kms, "good", Some("empty-sts"));
    let service = connect(&kms.key("one"), &settings, &kms.http).expect("connected");
    let error = service.wrap(&data_key(), &context).await.expect_err("no credentials in it");
    assert!(shown(&error).contains("the answer holds no credentials"), "{error}");
}

#[tokio::test]
async fn a_container_lends_credentials() {
    let kms = kms();
    let context = context(&bundle("container"));
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "token of the agent\n").expect("file");
    let url = kms.text("/url");
    let with = |more: &[(&str, &str)]| {
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let all = more.chain([("AWS_ENDPOINT_URL".to_owned(), url.to_owned())]);
        kms.try_with("one", all.collect())
    };
    let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{url}container?for=us"));
    let full = (full.0, full.1.as_str());
    let path = file.display().to_string();
    for token in [
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token of the agent"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path.as_str()),
    ] {
        let service = with(&[full, token]).expect("connected");
        service.wrap(&data_key(), &context).await.expect("wrapped");
    }
    let wrong = ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "another");
    let service = with(&[full, wrong]).expect("connected");
    refused(&service.wrap(&data_key(), &context).await.expect_err("another token"), &["answered 401 to GET"]);
    // Attack: credentials that are got from another host, or over a network in clear.
    for (name, value) in [
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "//evil.example/x"),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "https://evil.example/x"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://evil.example/x"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "file:///etc/passwd"),
    ] {
        let error = with(&[(name, value)]).err().expect("refused");
        assert!(shown(&error).contains(name) && !shown(&error).contains("evil"), "{error}");
    }
}

#[tokio::test]
async fn who_asks_has_to_be_told_whole() {
    let kms = kms();
    for (given, said) in [
        (&[][..], "nothing says who asks AWS"),
        (&["AWS_ACCESS_KEY_ID"][..], "AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not"),
        (&["AWS_SECRET_ACCESS_KEY"][..], "AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not"),
        (&["AWS_ROLE_ARN"][..], "AWS_ROLE_ARN is set, and there is neither"),
        (&["AWS_WEB_IDENTITY_TOKEN_FILE"][..], "AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not"),
    ] {
        let given = given.iter().map(|name| ((*name).to_owned(), "secret-of-x".to_owned())).collect();
        let error = kms.try_with("one", given).err().expect("refused");
        assert!(shown(&error).contains(said), "{error}");
    }
    for (name, url) in [
        ("AWS_ENDPOINT_URL_KMS", "http://kms.example/"),
        ("AWS_ENDPOINT_URL", "https://user:secret-of-x@kms.example/"),
        ("AWS_ENDPOINT_URL", "kms.example"),
    ] {
        let mut environment = kms.environment("publisher");
        environment.retain(|(name, _)| name != "AWS_ENDPOINT_URL");
        environment.push((name.to_owned(), url.to_owned()));
        let error = kms.try_with("one", environment).err().expect("refused");
        assert!(matches!(error, KeyError::Address { .. }) && shown(&error).contains(name), "{error}");
    }
}

#[tokio::test]
async fn a_signature_that_is_not_right_says_what_to_look_at() {
    let kms = kms();
    let context = context(&bundle("signatures"));
    let changed = |name: &str, value: &str| {
        let mut environment = kms.environment("globex");
        environment.retain(|(given, _)| given != name);
        environment.push((name.to_owned(), value.to_owned()));
        kms.with("one", environment)
    };
    let check = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
    for (service, words) in [
        // The service repeats the request with its token in it, which is not repeated here.
        (changed("AWS_SECRET_ACCESS_KEY", "secret-of-nobody"), ["answered 400 to POST"; 2]),
        (changed("AWS_SESSION_TOKEN", "token-of-nobody"), ["UnrecognizedClientException", check]),
        (changed("AWS_ACCESS_KEY_ID", "ASIANOBODY0000000001"), ["UnrecognizedClientException", check]),
        (kms.connect("one", "expired"), ["ExpiredTokenException", "get new credentials"]),
    ] {
        refused(&service.wrap(&data_key(), &context).await.expect_err("refused"), &words);
    }
    let mut publisher = kms.environment("publisher");
    publisher.push(("AWS_SECRET_ACCESS_KEY".to_owned(), "secret-of-nobody".to_owned()));
    let error = kms.with("one", publisher).wrap(&data_key(), &context).await.expect_err("refused");
    refused(&error, &["InvalidSignatureException: The request signature we calculated", check]);
    let error = kms.faulty("one", "echo").wrap(&data_key(), &context).await.expect_err("refused");
    refused(&error, &["answered 400 to POST"]);
}

#[tokio::test]
async fn clocks_that_are_apart_are_told_apart_from_a_wrong_key() {
    let kms = kms();
    let context = context(&bundle("clocks"));
    for (fault, said) in
        [("ahead900", "s behind the clock of AWS"), ("behind900", "s ahead of the clock of AWS")]
    {
        let error = kms.faulty("one", fault).wrap(&data_key(), &context).await.expect_err("too far");
        let text = shown(&error);
        assert!(matches!(error, KeyError::Login { .. }), "{text}");
        assert!(
            text.contains(said) && [" 899 s", " 900 s", " 901 s"].iter().any(|apart| text.contains(apart)),
            "{text}"
        );
    }
    for fault in ["ahead200", "behind200"] {
        kms.faulty("one", fault).wrap(&data_key(), &context).await.expect("within what AWS allows");
    }
}

/// Attack: a service, or who stands before it, that answers with something else.
#[tokio::test]
async fn an_answer_that_is_not_the_answer_is_not_used() {
    let kms = kms();
    let bundle = bundle("answers");
    let context = context(&bundle);
    let good = kms.connect("one", "publisher");
    let wrapped = good.wrap(&data_key(), &context).await.expect("wrapped").text;
    let answer = |error: KeyError, said: &str| {
        let text = shown(&error);
        assert!(matches!(error, KeyError::Answer { .. }) && text.contains(said), "{text}");
    };
    for fault in ["wrong-key-id", "far-key-id"] {
        let service = kms.faulty("one", fault);
        let said = "expected the key arn:aws:kms:eu-central-1:123456789012:key/";
        answer(service.wrap(&data_key(), &context).await.expect_err(fault), said);
        answer(service.unwrap(&wrapped, &context).await.expect_err(fault), said);
        answer(service.rewrap(&wrapped, &context).await.expect_err(fault), said);
    }
    answer(
        kms.faulty("one", "wrong-source").rewrap(&wrapped, &context).await.expect_err("source"),
        "expected the key",
    );
    let alias = kms.faulty("alias/acme", "far-key-id");
    answer(alias.wrap(&data_key(), &context).await.expect_err("another account"), "expected the key");
    let alias = kms.faulty("alias/acme", "far-source");
    answer(alias.rewrap(&wrapped, &context).await.expect_err("another account"), "another region or account");
    answer(
        kms.faulty("one", "unwrapped").wrap(&data_key(), &context).await.expect_err("bare"),
        "no wrapped key",
    );
    for fault in ["plaintext-16", "plaintext-33", "plaintext-zeros", "plaintext-none", "plaintext"] {
        answer(kms.faulty("one", fault).unwrap(&wrapped, &context).await.expect_err(fault), "data key");
    }
    let grantee = kms.grantee("globex");
    let terms = terms(&bundle, &context, &grantee);
    answer(kms.faulty("one", "grant-id").grant(&terms).await.expect_err("id"), "no id of a grant");
    answer(kms.faulty("one", "endless").grants(&bundle, &context).await.expect_err("endless"), "has no end");
    assert!(good.revoke(&terms).await.expect("revoked").was, "it was given after all");
    for fault in ["html", "empty", "redirect", "huge", "huge-told"] {
        let error = kms.faulty("one", fault).unwrap(&wrapped, &context).await.expect_err(fault);
        assert!(matches!(error, KeyError::Http { .. }), "{fault}: {}", shown(&error));
        assert_eq!(kms.asked(fault).await.len(), 1, "{fault}: once is enough");
    }
}

/// What passes is waited for, and what does not is given up.
#[tokio::test]
async fn a_service_that_has_too_much_to_do_is_asked_again_for_a_while() {
    let kms = kms();
    let bundle = bundle("storms");
    let context = context(&bundle);
    let service = kms.faulty("one", "passes-kms");
    service.wrap(&data_key(), &context).await.expect("the third time");
    assert_eq!(kms.asked("passes-kms").await, ["Encrypt"; 3]);
    let error = kms.faulty("one", "throttled").wrap(&data_key(), &context).await.expect_err("never");
    refused(&error, &["ThrottlingException"]);
    assert!(error.is_transient());
    assert_eq!(kms.asked("throttled").await.len(), 4);
    for status in ["429", "500", "503"] {
        let fault = format!("status-{status}");
        let error = kms.faulty("one", &fault).wrap(&data_key(), &context).await.expect_err("never");
        refused(&error, &[&format!("answered {status}")]);
        assert!(error.is_transient());
        assert_eq!(kms.asked(&fault).await.len(), 4, "{status}");
    }
}

/// Attack: an answer that never ends, a byte at a time.
#[tokio::test]
async fn a_service_that_never_finishes_is_left() {
    let kms = kms();
    let since = Instant::now();
    let error =
        kms.faulty("one", "slow").wrap(&data_key(), &context(&bundle("slow"))).await.expect_err("slow");
    assert!(matches!(error, KeyError::Http { .. }) && error.is_transient(), "{}", shown(&error));
    assert!(since.elapsed() < Duration::from_secs(40), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_key_signs_and_never_leaves_the_service() {
    let kms = kms();
    let environment: Environment = kms.environment("publisher").into_iter().collect();
    let digest = Sha256::of("message");
    for name in ["p256", "alias/release"] {
        let key = kms.signing(name, None).await.expect("key");
        let signature = key.sign(&digest).await.expect("signature");
        let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key()).expect("public key");
        public.verify_sig(b"message", &signature).expect("it verifies");
        assert!(public.verify_sig(b"messagf", &signature).is_err());
        let theirs = boto(&environment, "get_public_key", &json!({"KeyId": kms.arn(name)}));
        assert_eq!(theirs["PublicKey"], STANDARD.encode(key.public_key()));
    }
    for (name, said) in [
        (
            "p384",
            "expected a key of the spec ECC_NIST_P256 for SIGN_VERIFY, found ECC_NIST_P384 for SIGN_VERIFY",
        ),
        ("rsa", "found RSA_2048 for SIGN_VERIFY"),
        ("p256-disabled", "DisabledException"),
        ("one", "UnsupportedOperationException"),
    ] {
        let error = kms.signing(name, None).await.err().expect(name);
        assert!(shown(&error).contains(said), "{error}");
    }
    let error = kms.signing("p256", Some("public-key")).await.err().expect("no key");
    assert!(shown(&error).contains("its public key is none of P-256"), "{error}");
    for (fault, said) in
        [("signature", "does not verify with its public key"), ("wrong-key-id", "expected the key")]
    {
        let error = match kms.signing("p256", Some(fault)).await {
            Ok(key) => key.sign(&digest).await.expect_err(fault),
            Err(error) => error,
        };
        assert!(shown(&error).contains(said), "{error}");
    }
}

/// A service whose wrapping can be changed, and that gives a key where it should refuse.
struct Ministack {
    child: Child,
    url: String,
}

impl Ministack {
    async fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port();
        let child = Command::new(tool("ministack", "ministack"))
            .env_clear()
            .envs([("BIND_HOST", "127.0.0.1"), ("SERVICES", "kms"), ("GATEWAY_PORT", &port.to_string())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("ministack: {error}; run `cargo xtask tools`"));
        let ministack = Self { child, url: format!("http://127.0.0.1:{port}/") };
        let since = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(since.elapsed() < Duration::from_secs(60), "ministack does not start");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        ministack
    }

    fn environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.url.as_str()),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }
}

impl Drop for Ministack {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Attack: whoever can change a wrapped key, at a service that does not notice, chooses the data key. The bundle
/// commits to its own and opens with no other.
#[tokio::test]
async fn a_wrong_key_from_the_service_opens_nothing() {
    let ministack = Ministack::start().await;
    let environment: Environment = ministack.environment().into_iter().collect();
    let made = boto(&environment, "create_key", &json!({}));
    let reference = format!("aws-kms://{}", made["KeyMetadata"]["Arn"].as_str().expect("ARN"));
    let service = connect(&reference.parse().expect("key"), &settings(ministack.environment()), &client());
    let service = service.expect("connected");
    let context = context(&bundle("adversary"));
    let key = data_key();
    let wrapped = service.wrap(&key, &context).await.expect("wrapped").text;
    let mut sealed = Vec::new();
    seal(&key, b"adversary", &b"the source"[..], &mut sealed).expect("sealed");
    let unwrapped = service.unwrap(&wrapped, &context).await.expect("unwrapped");
    let mut plain = Vec::new();
    open(&unwrapped, b"adversary", &*sealed, &mut plain).expect("opened");
    assert_eq!(plain, b"the source");

    let (mut wrong, length) = (0, STANDARD.decode(&wrapped).expect("base64").len());
    for at in 0..length {
        let mut changed = STANDARD.decode(&wrapped).expect("base64");
        changed[at] ^= 1;
        let Ok(other) = service.unwrap(&STANDARD.encode(changed), &context).await else { continue };
        if other.reveal() == key.reveal() {
            continue;
        }
        wrong += 1;
        let mut plain = Vec::new();
        let error = open(&other, b"adversary", &*sealed, &mut plain).expect_err("another key");
        assert!(matches!(error, OpenError::Key) && plain.is_empty(), "{error}");
    }
    assert!(wrong >= 32, "each byte of the key can be changed there: {wrong} of {length}");
    let error = service.unwrap(&wrapped, &KeyContext::new()).await.expect_err("no context");
    assert!(matches!(error, KeyError::Refused(_)), "{}", shown(&error));
}
