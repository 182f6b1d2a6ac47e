//! Who asks: what each kind of credential comes to, and where none of them is sent.

use std::{path::PathBuf, sync::Arc};

use jiff::SignedDuration;
use protected_keys::{KeyError, Settings, connect};
use serde_json::{Value, json};

use crate::{
    JOB, Job, PUBLISHER, World, context, data_key,
    fake::{Issuer, POOL},
    named, reference,
};

const EMAIL: &str = "publisher@acme-prod.iam.gserviceaccount.com";
const FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
const PROVIDER: &str = "PROTECTED_REGISTRY_GCP_WORKLOAD_IDENTITY_PROVIDER";
const ACCOUNT: &str = "PROTECTED_REGISTRY_GCP_SERVICE_ACCOUNT";

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("folder"))
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }
}

/// Wraps, as whoever these settings make of us.
async fn wrap(world: &World, settings: &Settings) -> Result<String, KeyError> {
    let service = connect(&reference("acme"), settings, &world.http)?;
    service.wrap(&data_key(), &context("one")).await.map(|wrapped| wrapped.text)
}

/// What must stand in no error: parts of tokens, of keys and of what was typed.
fn refused(result: Result<String, KeyError>) -> KeyError {
    let error = result.expect_err("refused");
    let mut shown = format!("{error} {error:?} {:?}", error.hint());
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        shown.push_str(&cause.to_string());
        source = cause.source();
    }
    for secret in ["ya29.", "eyJ", "hush", "BEGIN PRIVATE", "1//refresh"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    error
}

#[tokio::test]
async fn a_token_that_is_given_is_used_and_the_first_of_two() {
    let world = World::new();
    let token = world.fake.cloud().token(PUBLISHER);
    for name in ["GOOGLE_OAUTH_ACCESS_TOKEN", "CLOUDSDK_AUTH_ACCESS_TOKEN"] {
        let more = [(name, token.as_str()), (FILE, "/nowhere"), ("GOOGLE_CLOUD_QUOTA_PROJECT", "acme-bill")];
        wrap(&world, &world.settings(&more)).await.expect("wrapped");
    }
    assert!(world.fake.calls().iter().all(|call| call.headers["x-goog-user-project"] == "acme-bill"));
    let error = refused(wrap(&world, &world.settings(&[("GOOGLE_OAUTH_ACCESS_TOKEN", "ya29.none")])).await);
    assert!(matches!(error, KeyError::Service { status: 401, .. }), "{error}");
}

#[tokio::test]
async fn nobody_is_nobody_and_no_machine_is_asked_by_itself() {
    let world = World::new();
    let error = refused(wrap(&world, &world.settings(&[])).await);
    assert!(matches!(error, KeyError::NotConfigured { .. }), "{error}");
    assert!(error.hint().is_some());
    // A provider without an identity, as outside CI.
    let provider = format!("{POOL}/providers/jobs");
    let error = refused(wrap(&world, &world.settings(&[(PROVIDER, &provider)])).await);
    assert!(matches!(error, KeyError::NotConfigured { .. }), "{error}");
    assert!(world.fake.calls().is_empty());
}

#[tokio::test]
async fn a_key_of_a_service_account_signs_for_it() {
    let world = World::new();
    let files = Files::new();
    let (key, other) = (Issuer::new(), Issuer::new());
    world.fake.cloud().account(EMAIL, Some(&key), None);
    let here = format!("{}/token", world.fake.url());
    let file =
        |issuer: &Issuer, token_uri: &str| files.write("sa.json", &issuer.file(EMAIL, token_uri).to_string());

    for token_uri in ["https://oauth2.googleapis.com/token", &here] {
        wrap(&world, &world.settings(&[(FILE, &file(&key, token_uri))])).await.expect("wrapped");
    }
    let path = file(&key, &here);
    let settings = world.settings(&[("CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", &path)]);
    let service = connect(&reference("acme"), &settings, &world.http).expect("connected");
    let before = world.fake.calls().len();
    for _ in 0..3 {
        service.wrap(&data_key(), &context("one")).await.expect("wrapped");
    }
    assert_eq!(world.fake.calls().len() - before, 4, "it logs in once");

    let error = refused(wrap(&world, &world.settings(&[(FILE, &file(&other, &here))])).await);
    assert!(error.to_string().contains("Invalid JWT Signature"), "{error}");
    // A clock that is wrong by ten minutes.
    world.fake.cloud().ahead = SignedDuration::from_mins(-10);
    let error = refused(wrap(&world, &world.settings(&[(FILE, &file(&key, &here))])).await);
    assert!(error.to_string().contains("reasonable timeframe"), "{error}");
}

#[tokio::test]
async fn who_logged_in_with_gcloud_is_taken_from_its_file() {
    let world = World::new();
    let files = Files::new();
    world.fake.cloud().user("1//refresh", PUBLISHER);
    let mut file = json!({
        "type": "authorized_user",
        "client_id": "id",
        "client_secret": "hush",
        "refresh_token": "1//refresh",
        "quota_project_id": "acme-bill",
    });
    wrap(&world, &world.settings(&[(FILE, &files.write("user.json", &file.to_string()))]))
        .await
        .expect("wrapped");
    assert_eq!(world.fake.calls().last().expect("a call").headers["x-goog-user-project"], "acme-bill");
    file["refresh_token"] = "1//refresh-old".into();
    let error =
        refused(wrap(&world, &world.settings(&[(FILE, &files.write("user.json", &file.to_string()))])).await);
    assert!(error.to_string().contains("invalid_grant: Token has been expired or revoked."), "{error}");
}

/// The configuration that `gcloud iam workload-identity-pools create-cred-config` writes.
fn federation(source: Value) -> Value {
    json!({
        "type": "external_account",
        "audience": format!("//iam.googleapis.com/{POOL}/providers/jobs"),
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": source,
    })
}

#[tokio::test]
async fn another_issuers_token_is_exchanged_from_a_file_or_a_url() {
    let world = World::new();
    let files = Files::new();
    let issuer = Issuer::new();
    let audience = format!("https://iam.googleapis.com/{POOL}/providers/jobs");
    let token = issuer.id_token(&audience, |_| {});
    {
        let mut cloud = world.fake.cloud();
        cloud.trust(&issuer);
        cloud.bind(&named("acme"), "roles/cloudkms.cryptoKeyEncrypter", JOB);
        cloud.account(EMAIL, None, Some(JOB));
    }
    let plain = files.write("token", &format!("{token}\n"));
    let in_json = files.write("token.json", &json!({"value": token}).to_string());
    let served = format!("{}/v1/identity", world.fake.url());
    let answer = json!({"value": token});
    world.fake.tamper(move |call, sent| {
        if call.path == "/v1/identity" && call.headers["authorization"] == "Bearer of-the-job" {
            (sent.status, sent.body) = (200, answer.clone());
        }
    });
    let format = json!({"type": "json", "subject_token_field_name": "value"});
    let sources = [
        json!({"file": plain}),
        json!({"file": in_json, "format": format}),
        json!({"url": served, "headers": {"Authorization": "Bearer of-the-job"}, "format": format}),
    ];
    for source in &sources {
        let mut file = federation(source.clone());
        let path = files.write("wif.json", &file.to_string());
        wrap(&world, &world.settings(&[(FILE, &path)])).await.expect("wrapped");
        for base in ["https://iamcredentials.googleapis.com", &world.fake.url()] {
            let url = format!("{base}/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken");
            file["service_account_impersonation_url"] = url.into();
            let path = files.write("wif.json", &file.to_string());
            wrap(&world, &world.settings(&[(FILE, &path)])).await.expect("wrapped as the account");
        }
    }
    let mut file = federation(sources[1].clone());
    file["credential_source"]["format"]["subject_token_field_name"] = "token".into();
    let path = files.write("wif.json", &file.to_string());
    let error = refused(wrap(&world, &world.settings(&[(FILE, &path)])).await);
    assert!(error.to_string().contains("it has no text `token`"), "{error}");
}

#[tokio::test]
async fn a_job_logs_in_with_its_own_identity() {
    let world = World::new();
    let issuer = Arc::new(Issuer::new());
    {
        let mut cloud = world.fake.cloud();
        cloud.trust(&issuer);
        cloud.account(EMAIL, None, Some(JOB));
    }
    let settings = |provider: &str, more: &[(&str, &str)], issuer: &Arc<Issuer>| {
        let more: Vec<_> = more.iter().copied().chain([(PROVIDER, provider)]).collect();
        Settings { id_tokens: Some(Arc::new(Job(issuer.clone()))), ..world.settings(&more) }
    };
    let provider = format!("{POOL}/providers/jobs");
    wrap(&world, &settings(&provider, &[(ACCOUNT, EMAIL)], &issuer)).await.expect("wrapped as the account");
    // Without the account it is the job itself, which may not.
    let error = refused(wrap(&world, &settings(&provider, &[], &issuer)).await);
    assert!(matches!(error, KeyError::Service { status: 403, .. }), "{error}");
    world.fake.cloud().bind(&named("acme"), "roles/cloudkms.cryptoKeyEncrypter", JOB);
    wrap(&world, &settings(&provider, &[], &issuer)).await.expect("wrapped as the job");

    // A login that has ended is made anew, and one that lasts is kept.
    for (ends, logins) in [(true, 2), (false, 1)] {
        world.fake.tamper(move |call, answer| {
            if ends && call.path == "/v1/token" {
                answer.body["expires_in"] = 0.into();
            }
        });
        let before = world.fake.calls().len();
        let service = connect(&reference("acme"), &settings(&provider, &[], &issuer), &world.http);
        let service = service.expect("connected");
        for _ in 0..2 {
            service.wrap(&data_key(), &context("one")).await.expect("wrapped");
        }
        let calls = world.fake.calls().split_off(before);
        assert_eq!(calls.iter().filter(|call| call.path == "/v1/token").count(), logins);
    }
    world.fake.honest();

    // An issuer that is not trusted, an account that it may not become, a provider that is none.
    let error = refused(wrap(&world, &settings(&provider, &[], &Arc::new(Issuer::new()))).await);
    assert!(error.to_string().contains("invalid_grant"), "{error}");
    let error = refused(
        wrap(&world, &settings(&provider, &[(ACCOUNT, "admin@acme-prod.iam.gserviceaccount.com")], &issuer))
            .await,
    );
    assert!(error.to_string().contains("iam.serviceAccounts.getAccessToken"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.to_string().contains("workloadIdentityUser")));
    let error = refused(wrap(&world, &settings(&provider.replace("jobs", "others"), &[], &issuer)).await);
    assert!(error.to_string().contains("invalid_target"), "{error}");
    let before = world.fake.calls().len();
    for bad in [
        "jobs",
        "projects/acme-prod/locations/global/workloadIdentityPools/ci/providers/jobs",
        &format!("{provider}/../x"),
        &format!("{provider}?x"),
    ] {
        let error = refused(wrap(&world, &settings(bad, &[], &issuer)).await);
        assert!(error.to_string().contains("expected projects/<number>/"), "{error}");
    }
    for bad in ["publisher", "a@b/../c", "a@b:signBlob?", "@b", "a@"] {
        let error = refused(wrap(&world, &settings(&provider, &[(ACCOUNT, bad)], &issuer)).await);
        assert!(error.to_string().contains("expected the mail address of a service account"), "{error}");
    }
    assert_eq!(world.fake.calls().len(), before, "nothing was asked");
}

/// What the token service has to refuse, so that what it takes means something.
#[tokio::test]
async fn an_identity_is_taken_for_what_it_says_and_for_no_longer() {
    let world = World::new();
    let files = Files::new();
    let issuer = Issuer::new();
    world.fake.cloud().trust(&issuer);
    world.fake.cloud().bind(&named("acme"), "roles/cloudkms.cryptoKeyEncrypter", JOB);
    let audience = format!("https://iam.googleapis.com/{POOL}/providers/jobs");
    let good = issuer.id_token(&audience, |_| {});
    let (head, signature) = good.rsplit_once('.').expect("parts");
    let long = issuer
        .id_token(&audience, |claims| claims["exp"] = (claims["iat"].as_i64().expect("iat") - 1).into());
    let tokens = [
        ("another audience", issuer.id_token("https://iam.googleapis.com/projects/1/x", |_| {})),
        (
            "another issuer",
            issuer.id_token(&audience, |claims| claims["iss"] = "https://evil.example".into()),
        ),
        ("another job", issuer.id_token(&audience, |claims| claims["sub"] = "evil/core".into())),
        ("one that is over", long),
        ("one of tomorrow", issuer.id_token(&audience, |claims| claims["iat"] = 4_000_000_000_i64.into())),
        ("one without a signature", format!("{head}.")),
        ("a changed signature", format!("{head}.{}", signature.chars().rev().collect::<String>())),
        ("no token", "none".to_owned()),
        ("nothing", String::new()),
    ];
    for (what, token) in tokens {
        let path =
            files.write("wif.json", &federation(json!({"file": files.write("token", &token)})).to_string());
        let error = refused(wrap(&world, &world.settings(&[(FILE, &path)])).await);
        assert!(matches!(error, KeyError::Service { status: 400 | 403, .. }), "{what}: {error}");
    }
    let path = files.write("wif.json", &federation(json!({"file": files.write("token", &good)})).to_string());
    wrap(&world, &world.settings(&[(FILE, &path)])).await.expect("the good one");
}

/// Attack: a credential file that has the job's identity, a key's signature or a password sent to somebody else.
#[tokio::test]
async fn a_credential_file_sends_nothing_elsewhere() {
    let world = World::new();
    let files = Files::new();
    let key = Issuer::new();
    let evil = crate::fake::Fake::start();
    let token = files.write("token", "eyJ.eyJ.eyJ");
    let federation = federation(json!({"file": token}));
    let account = format!("v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken");
    let set = |field: &str, value: &str| {
        let mut file = federation.clone();
        file[field] = value.into();
        file
    };
    let elsewhere = evil.url();
    let bad = [
        key.file(EMAIL, &format!("{elsewhere}/token")),
        key.file(EMAIL, "https://oauth2.googleapis.com.evil.example/token"),
        key.file(EMAIL, "https://oauth2.googleapis.com/token@evil.example"),
        // Where the environment says that it is, by its letters.
        key.file(EMAIL, &format!("{}/token.evil.example", world.fake.url())),
        key.file(EMAIL, &format!("{}/token@evil.example", world.fake.url())),
        set("token_url", &format!("{}/v1/token/elsewhere", world.fake.url())),
        set("token_url", &format!("{elsewhere}/v1/token")),
        set("token_url", "https://sts.googleapis.com.evil.example/v1/token"),
        set("token_url", "https://sts.googleapis.com@evil.example/v1/token"),
        set("token_url", "https://storage.googleapis.com/v1/token"),
        set("token_url", "http://sts.googleapis.com/v1/token"),
        set("token_url", "http://169.254.169.254/v1/token"),
        set("service_account_impersonation_url", &format!("{elsewhere}/{account}")),
        set("service_account_impersonation_url", &format!("https://evil.example/{account}")),
        set(
            "service_account_impersonation_url",
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@b:signBlob",
        ),
        set(
            "service_account_impersonation_url",
            "https://iamcredentials.googleapis.com/v1/x/../a@b:generateAccessToken",
        ),
        set(
            "service_account_impersonation_url",
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@b?x:generateAccessToken",
        ),
        set("audience", "//iam.googleapis.com/locations/global/workforcePools/staff/providers/x"),
        set("audience", "https://evil.example"),
        set("subject_token_type", "urn:ietf:params:aws:token-type:aws4_request"),
        set("type", "impersonated_service_account"),
        set("type", "external_account_authorized_user"),
        self::federation(json!({"executable": {"command": "/bin/true"}})),
        self::federation(json!({"url": "https://ci.example", "headers": "Bearer hush"})),
        self::federation(json!({"url": "http://169.254.169.254/metadata/identity"})),
        self::federation(json!({"file": "x", "url": "https://ci.example"})),
        json!({"type": "authorized_user", "client_id": "id", "client_secret": {"hush": 1}, "refresh_token": "1//refresh"}),
        json!({"type": "service_account", "client_email": EMAIL, "private_key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "token_uri": "https://oauth2.googleapis.com/token"}),
        json!({}),
        json!([]),
    ];
    for file in bad {
        let path = files.write("bad.json", &file.to_string());
        let error = refused(wrap(&world, &world.settings(&[(FILE, &path)])).await);
        assert!(matches!(error, KeyError::Login { .. }), "{file}: {error}");
        assert!(error.to_string().contains(&path), "{error}");
    }
    for (path, reason) in [
        (files.write("text.json", "ya29.hush"), "it is not JSON"),
        (files.write("long.json", &" ".repeat(70_000)), "it is longer than"),
        (files.0.path().to_str().expect("UTF-8").to_owned(), "it is no file"),
        ("/nowhere/at/all".to_owned(), "No such file"),
    ] {
        let error = refused(wrap(&world, &world.settings(&[(FILE, &path)])).await);
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert!(evil.calls().is_empty() && world.fake.calls().is_empty());
}

#[tokio::test]
async fn the_machine_is_asked_where_it_is_named_and_only_at_its_own_address() {
    let world = World::new();
    let machine = "serviceAccount:machine@acme-prod.iam.gserviceaccount.com";
    world.fake.cloud().bind(&named("acme"), "roles/cloudkms.cryptoKeyEncrypter", machine);
    let here = world.fake.url();
    let host = here.strip_prefix("http://").expect("http");
    wrap(&world, &world.settings(&[("GCE_METADATA_HOST", host)])).await.expect("wrapped");
    for bad in [
        "evil.example",
        "169.254.169.254@evil.example",
        "169.254.169.254.evil.example",
        "10.0.0.1",
        "x y",
        "",
    ] {
        let error = refused(wrap(&world, &world.settings(&[("GCE_METADATA_HOST", bad)])).await);
        let nobody = bad.is_empty() && matches!(error, KeyError::NotConfigured { .. });
        assert!(nobody || matches!(error, KeyError::Login { .. }), "{bad}: {error}");
    }
}

/// Attack: an endpoint that is not encrypted, or carries a password.
#[tokio::test]
async fn an_endpoint_is_https_or_this_machine() {
    let world = World::new();
    for name in [
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STS",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS",
        "CLOUDSDK_AUTH_TOKEN_HOST",
    ] {
        for bad in ["http://kms.example", "https://user:hush@kms.example", "kms"] {
            let error = refused(
                wrap(&world, &world.settings(&[(name, bad), ("GOOGLE_OAUTH_ACCESS_TOKEN", "x")])).await,
            );
            assert!(matches!(error, KeyError::Address { .. }) && error.to_string().contains(name), "{error}");
        }
    }
}
