//! Keys, tokens and an issuer that answers over TCP.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RsaKeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey};
use protected_http::{Client, Settings};
use protected_model::{environment::Environment, identity::PlatformKind, secret::IdToken};
use protected_trust::{
    issuer::{Issuer, Issuers, Jwks, MAX_AGE_SECONDS, StaticKeys},
    jwks::JwksCache,
    verify::{IdTokenError, VerifiedIdToken, verify_id_token},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

pub(crate) const GITHUB: &str = "https://token.actions.githubusercontent.com";
pub(crate) const AUDIENCE: &str = "https://fractalops.example";

/// The moment of every test.
pub(crate) fn now() -> Timestamp {
    "2026-11-05T12:00:00Z".parse().expect("time")
}

pub(crate) fn at(seconds_from_now: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() + seconds_from_now).expect("time")
}

pub(crate) fn seconds(seconds_from_now: i64) -> u64 {
    u64::try_from(at(seconds_from_now).as_second()).expect("after 1970")
}

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key of an issuer. Signs through `jsonwebtoken`, which the crate itself does not use: two readings of the RFCs.
pub(crate) struct Key {
    pub(crate) id: &'static str,
    pub(crate) algorithm: Algorithm,
    signing: EncodingKey,
    jwk: Value,
}

impl Key {
    pub(crate) fn rsa(id: &'static str, size: KeySize) -> Self {
        let pair = RsaKeyPair::generate(size).expect("key");
        let der: Pkcs8V1Der<'_> = pair.as_der().expect("der");
        let lines: Vec<_> = STANDARD.encode(der.as_ref()).into_bytes();
        let lines: Vec<_> = lines.chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
        let public = pair.public_key();
        let n = b64(public.modulus().big_endian_without_leading_zero());
        let e = b64(public.exponent().big_endian_without_leading_zero());
        Self {
            id,
            algorithm: Algorithm::RS256,
            signing: EncodingKey::from_rsa_pem(pem.as_bytes()).expect("pem"),
            jwk: json!({"kty": "RSA", "n": n, "e": e, "kid": id, "alg": "RS256", "use": "sig"}),
        }
    }

    pub(crate) fn p256(id: &'static str) -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .expect("key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).expect("key");
        let point = pair.public_key().as_ref();
        let (x, y) = (b64(&point[1..33]), b64(&point[33..]));
        Self {
            id,
            algorithm: Algorithm::ES256,
            signing: EncodingKey::from_ec_der(pkcs8.as_ref()),
            jwk: json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": id}),
        }
    }

    pub(crate) fn jwk(&self) -> Value {
        self.jwk.clone()
    }

    pub(crate) fn header(&self) -> Value {
        json!({"alg": format!("{:?}", self.algorithm), "typ": "JWT", "kid": self.id})
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_with(&self.header(), claims)
    }

    pub(crate) fn sign_with(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", b64(header), b64(claims));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &self.signing, self.algorithm).expect("signature");
        format!("{message}.{signature}")
    }
}

pub(crate) static RSA: LazyLock<Key> = LazyLock::new(|| Key::rsa("rsa-1", KeySize::Rsa2048));
pub(crate) static OTHER_RSA: LazyLock<Key> = LazyLock::new(|| Key::rsa("rsa-2", KeySize::Rsa2048));
pub(crate) static P256: LazyLock<Key> = LazyLock::new(|| Key::p256("ec-1"));

pub(crate) fn jwks(keys: &[Value]) -> Value {
    json!({ "keys": keys })
}

pub(crate) fn static_issuer(url: &str, platform: PlatformKind, keys: &[Value]) -> Issuer {
    let keys = StaticKeys::from_jwks(&jwks(keys)).expect("keys");
    Issuer { url: url.to_owned(), platform, jwks: Jwks::Static(keys), max_age_seconds: MAX_AGE_SECONDS }
}

pub(crate) fn issuers() -> Issuers {
    [static_issuer(GITHUB, PlatformKind::GithubActions, &[RSA.jwk(), P256.jwk()])].into_iter().collect()
}

pub(crate) fn client() -> Client {
    let settings = Settings::from_environment(&Environment::default(), None, "test").expect("settings");
    Client::new(&settings).expect("client")
}

pub(crate) fn github_claims() -> Value {
    json!({
        "iss": GITHUB, "aud": AUDIENCE, "jti": "8b1f2c3d-1111-2222-3333-444455556666",
        "sub": "repo:acme/core:environment:npm",
        "iat": seconds(-5), "nbf": seconds(-605), "exp": seconds(295),
        "repository": "acme/core", "repository_id": "1001",
        "repository_owner": "acme", "repository_owner_id": "2002", "repository_visibility": "private",
        "workflow": "Release", "workflow_ref": "acme/core/.github/workflows/release.yml@refs/heads/main",
        "workflow_sha": "a".repeat(40),
        "job_workflow_ref": "acme/core/.github/workflows/release.yml@refs/heads/main",
        "job_workflow_sha": "a".repeat(40),
        "ref": "refs/heads/main", "ref_type": "branch", "ref_protected": "true",
        "environment": "npm", "event_name": "push", "sha": "a".repeat(40),
        "run_id": "42", "run_number": "7", "run_attempt": "1", "runner_environment": "github-hosted",
        "actor": "octocat", "actor_id": "9",
    })
}

pub(crate) fn gitlab_claims() -> Value {
    json!({
        "iss": "https://gitlab.example", "aud": AUDIENCE, "jti": "0f0e",
        "sub": "project_path:acme/core:ref_type:branch:ref:main",
        "iat": seconds(-5), "nbf": seconds(-10), "exp": seconds(3595),
        "project_id": "11", "project_path": "acme/core", "namespace_id": "22", "namespace_path": "acme",
        "job_project_id": "11", "job_project_path": "acme/core", "job_namespace_id": "22",
        "user_login": "ada", "user_email": "ada@example.com",
        "pipeline_id": "33", "pipeline_source": "push", "job_id": "44",
        "ref": "main", "ref_type": "branch", "ref_path": "refs/heads/main", "ref_protected": "true",
        "environment": "npm", "environment_protected": "true", "runner_environment": "gitlab-hosted",
        "sha": "b".repeat(40), "ci_config_sha": "b".repeat(40),
        "ci_config_ref_uri": "gitlab.example/acme/core//.gitlab-ci.yml@refs/heads/main",
    })
}

pub(crate) fn jenkins_claims() -> Value {
    json!({
        "iss": "https://ci.example/oidc", "aud": [AUDIENCE], "sub": "https://ci.example/job/core/job/main/",
        "iat": seconds(-5), "exp": seconds(3595), "build_number": 17,
    })
}

/// Returns `claims` with some of them replaced, or taken away where `null`.
pub(crate) fn with(mut claims: Value, changes: Value) -> Value {
    let object = claims.as_object_mut().expect("object");
    for (name, value) in changes.as_object().expect("object") {
        match value {
            Value::Null => drop(object.remove(name)),
            value => drop(object.insert(name.clone(), value.clone())),
        }
    }
    claims
}

pub(crate) async fn verify_at(
    token: &str,
    issuers: &Issuers,
    now: Timestamp,
) -> Result<VerifiedIdToken, IdTokenError> {
    let keys = JwksCache::new(client());
    verify_id_token(&IdToken::new(token), issuers, &keys, AUDIENCE, now).await
}

pub(crate) async fn verify(token: &str) -> Result<VerifiedIdToken, IdTokenError> {
    verify_at(token, &issuers(), now()).await
}

/// What an issuer answers.
#[derive(Clone)]
pub(crate) enum Answer {
    Json(Value),
    Text(u16, String),
    /// A document, this much later.
    Late(Duration, Value),
    /// Nothing, ever.
    Silent,
    /// The connection ends.
    HangUp,
}

/// An issuer on a port of this machine, which counts what it is asked.
pub(crate) struct Server {
    pub(crate) url: String,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let answers: Arc<Mutex<HashMap<String, Answer>>> = Arc::default();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (own_answers, own_asked) = (Arc::clone(&answers), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answers, asked) = (Arc::clone(&own_answers), Arc::clone(&own_asked));
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => request.push(byte),
                            Err(_) => return,
                        }
                    }
                    let text = String::from_utf8_lossy(&request);
                    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                    asked.lock().expect("lock").push(path.clone());
                    let answer = answers.lock().expect("lock").get(&path).cloned();
                    let (status, body) = match answer {
                        None => (404, String::new()),
                        Some(Answer::Json(body)) => (200, body.to_string()),
                        Some(Answer::Text(status, body)) => (status, body),
                        Some(Answer::Late(wait, body)) => {
                            tokio::time::sleep(wait).await;
                            (200, body.to_string())
                        }
                        Some(Answer::Silent) => {
                            tokio::time::sleep(Duration::from_secs(3600)).await;
                            return;
                        }
                        Some(Answer::HangUp) => return,
                    };
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
                         connection: close\r\n\r\n{body}"
                    );
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { url, answers, asked, task }
    }

    /// Starts one that has a discovery document and these keys.
    pub(crate) async fn with_keys(keys: &[Value]) -> Self {
        let server = Self::start().await;
        let (issuer, jwks_uri) = (server.url.clone(), format!("{}/jwks", server.url));
        server.answer(
            "/.well-known/openid-configuration",
            Answer::Json(json!({"issuer": issuer, "jwks_uri": jwks_uri})),
        );
        server.answer("/jwks", Answer::Json(jwks(keys)));
        server
    }

    pub(crate) fn answer(&self, path: &str, answer: Answer) {
        self.answers.lock().expect("lock").insert(path.to_owned(), answer);
    }

    /// Returns how often the keys, or where they are, were asked for.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.asked.lock().expect("lock").iter().filter(|it| *it == path).count()
    }

    pub(crate) fn issuer(&self) -> Issuer {
        Issuer {
            url: self.url.clone(),
            platform: PlatformKind::GithubActions,
            jwks: Jwks::Discovery,
            max_age_seconds: MAX_AGE_SECONDS,
        }
    }
}
