//! `openbao://<mount>/<key>`: the transit engine of OpenBao, or of HashiCorp Vault.
//!
//! A key that signs is one of type `ecdsa-p256`. It signs digests, so that what is signed stays here.
//!
//! A key that wraps is a derived one of type `aes256-gcm96` or `chacha20-poly1305`: the engine derives another key for
//! each context, so that a wrapping opens for its bundle alone, and a policy can name the context that it allows.
//! Associated data would bind as well, but `rewrap` takes none.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use protected_bundle::DataKey;
use protected_http::{Client, Request, Response, Retry};
use protected_model::{
    digest::Sha256,
    integrity::canonical,
    key_ref::KeyRef,
    secret::{AccessToken, Secret as _},
    service_url::{ServiceUrl, ServiceUrlError},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{Connecting, KeyContext, KeyError, KeyService, Settings, SigningKey, WrappedKey};

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(8);
/// Signing twice does no harm.
const RETRY: Retry = Retry { attempts: 4, budget: Duration::from_secs(30) };
/// The largest answer that is read: a key of a hundred versions has some ten kilobytes.
const MAX_BYTES: u64 = 1024 * 1024;
/// The longest text of the service that is repeated, in characters.
const LONGEST_TEXT: usize = 200;

/// Where OpenBao is, and who asks it.
#[derive(Clone, Debug)]
pub struct OpenBao {
    /// Its address, as it was given; without one nothing can be asked.
    pub address: Option<String>,
    /// A token that may read the key and sign with it.
    pub token: Option<AccessToken>,
    /// The namespace, where there are any.
    pub namespace: Option<String>,
}

struct TransitKey {
    reference: KeyRef,
    service: Service,
    /// The version that the public key is of; what is signed is signed with this one, also after a rotation.
    version: u64,
    public_key: Vec<u8>,
}

struct Service {
    http: Client,
    address: ServiceUrl,
    token: AccessToken,
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Key {
    #[serde(rename = "type")]
    kind: String,
    latest_version: u64,
    keys: BTreeMap<String, Version>,
}

/// A version of a key; of a symmetric one only a number is told.
#[derive(Deserialize)]
#[serde(untagged)]
enum Version {
    Public { public_key: String },
    Other(serde::de::IgnoredAny),
}

/// What decides whether a key wraps as it has to.
#[derive(Deserialize)]
struct Symmetric {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    derived: bool,
    #[serde(default)]
    exportable: bool,
    #[serde(default)]
    convergent_encryption: bool,
}

#[derive(Deserialize)]
struct Encrypted {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    plaintext: String,
}

struct WrappingKey {
    reference: KeyRef,
    service: Service,
}

#[derive(Deserialize)]
struct Signed {
    signature: String,
}

pub(crate) fn connect_to_sign<'a>(
    key: &'a KeyRef,
    settings: &'a Settings,
    http: &'a Client,
) -> Connecting<'a> {
    Box::pin(async move { signing(key, settings, http).await.map(|key| Box::new(key) as _) })
}

/// Connects without asking: who may unwrap need not be allowed to read the key.
pub(crate) fn connect(
    key: &KeyRef,
    settings: &Settings,
    http: &Client,
) -> Result<Box<dyn KeyService>, KeyError> {
    Ok(Box::new(WrappingKey { reference: key.clone(), service: service(key, settings, http)? }))
}

fn service(key: &KeyRef, settings: &Settings, http: &Client) -> Result<Service, KeyError> {
    let missing = |what, hint| KeyError::NotConfigured { key: key.clone(), what, hint };
    let given = settings.openbao.as_ref();
    let address = given.and_then(|it| it.address.as_deref());
    let address = address.ok_or_else(|| missing("where OpenBao is", "set BAO_ADDR, or VAULT_ADDR"))?;
    let address: ServiceUrl = address.parse().map_err(|error: ServiceUrlError| KeyError::Address {
        key: key.clone(),
        reason: format!("the address of OpenBao (BAO_ADDR, or VAULT_ADDR): {error}"),
    })?;
    let token = given.and_then(|it| it.token.clone());
    let token = token.ok_or_else(|| {
        missing("who asks OpenBao", "set BAO_TOKEN, or VAULT_TOKEN, to a token that may use this key")
    })?;
    let namespace = given.and_then(|it| it.namespace.clone());
    Ok(Service { http: http.clone(), address, token, namespace })
}

async fn signing(key: &KeyRef, settings: &Settings, http: &Client) -> Result<TransitKey, KeyError> {
    let service = service(key, settings, http)?;
    let (mount, name) = parts(key);
    let found: Key = service.send(key, service.get(&format!("v1/{mount}/keys/{name}"))).await?;
    let refuse = |reason: String| KeyError::Sign { key: key.clone(), reason };
    if found.kind != "ecdsa-p256" {
        let kind = found.kind.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect::<String>();
        return Err(refuse(format!("expected a key of type `ecdsa-p256`, found `{kind}`")));
    }
    let version = found.latest_version;
    let Some(Version::Public { public_key }) = found.keys.get(&version.to_string()) else {
        return Err(refuse(format!("its version {version} has no public key")));
    };
    let public_key = from_pem(public_key).ok_or_else(|| refuse("its public key is not PEM".to_owned()))?;
    Ok(TransitKey { reference: key.clone(), service, version, public_key })
}

/// Returns mount and name, which the grammar of references has checked.
fn parts(key: &KeyRef) -> (&str, &str) {
    key.path().split_once('/').unwrap_or((key.path(), ""))
}

fn from_pem(pem: &str) -> Option<Vec<u8>> {
    let inside =
        pem.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?.strip_suffix("-----END PUBLIC KEY-----")?;
    STANDARD.decode(inside.split_ascii_whitespace().collect::<String>()).ok()
}

impl Service {
    fn get(&self, path: &str) -> Request {
        self.common(self.http.get(self.address.join(path)))
    }

    fn common(&self, request: Request) -> Request {
        let request = request
            .header("x-vault-token", self.token.reveal())
            .header("x-vault-request", "true")
            .timeout(ATTEMPT)
            .retry(RETRY)
            .max_bytes(MAX_BYTES);
        match &self.namespace {
            Some(namespace) => request.header("x-vault-namespace", namespace),
            None => request,
        }
    }

    async fn send<T: DeserializeOwned>(&self, key: &KeyRef, request: Request) -> Result<T, KeyError> {
        let failed = |source| KeyError::Http { key: key.clone(), source: Box::new(source) };
        let answer = request.send().await.map_err(failed)?;
        if !answer.is_success() {
            return Err(KeyError::Service {
                key: key.clone(),
                request: answer.request().to_string(),
                status: answer.status,
                message: self.message(&answer),
            });
        }
        let Answer { data } = answer.json().map_err(failed)?;
        Ok(data)
    }

    /// Returns what the service says, where it does not repeat the token.
    fn message(&self, answer: &Response) -> Option<String> {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<String>,
        }
        let read: Errors = answer.json().ok()?;
        let text = read.errors.join("; ");
        if text.contains(self.token.reveal()) {
            return None;
        }
        let text: String =
            text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_TEXT).collect();
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }
}

impl WrappingKey {
    fn url(&self, verb: &str) -> url::Url {
        let (mount, name) = parts(&self.reference);
        self.service.address.join(&format!("v1/{mount}/{verb}/{name}"))
    }

    async fn ask<T: DeserializeOwned>(&self, verb: &str, body: &serde_json::Value) -> Result<T, KeyError> {
        let request = self.service.common(self.service.http.post(self.url(verb)).json(body));
        self.service.send(&self.reference, request).await
    }

    /// Refuses a key that would not bind, or that comes out.
    ///
    /// Attack: with a key that is not derived the engine ignores the context, and one wrapping opens for every bundle.
    async fn check(&self) -> Result<(), KeyError> {
        let (mount, name) = parts(&self.reference);
        let path = format!("v1/{mount}/keys/{name}");
        let found: Symmetric = self.service.send(&self.reference, self.service.get(&path)).await?;
        let fault = if !["aes256-gcm96", "chacha20-poly1305"].contains(&found.kind.as_str()) {
            "it is no key of type `aes256-gcm96` or `chacha20-poly1305`"
        } else if !found.derived {
            "it is not `derived`, so that it would not be bound to the bundle"
        } else if found.exportable {
            "it is `exportable`: whoever may export it opens every bundle"
        } else if found.convergent_encryption {
            "it has `convergent_encryption`, which wraps the same the same way"
        } else {
            return Ok(());
        };
        Err(KeyError::Wrap { key: self.reference.clone(), reason: fault.to_owned() })
    }

    /// Returns a wrapped key if it is one of this engine's, and so nothing that was never wrapped.
    fn wrapped(&self, text: String) -> Result<WrappedKey, KeyError> {
        let version = text.strip_prefix("vault:v").and_then(|rest| rest.split_once(':'));
        let good = version.is_some_and(|(version, bytes)| {
            version.parse::<u64>().is_ok() && STANDARD.decode(bytes).is_ok_and(|bytes| bytes.len() >= 60)
        });
        if good {
            return Ok(WrappedKey(text));
        }
        let reason = "the answer of the service holds no wrapped key".to_owned();
        Err(KeyError::Wrap { key: self.reference.clone(), reason })
    }

    /// Turns the engine's word for "not this key, or not this context" into ours.
    fn refusal(&self, error: KeyError) -> KeyError {
        match error {
            KeyError::Service { status: 400, .. } => KeyError::Refused(self.reference.clone()),
            other => other,
        }
    }
}

/// Returns the context of a bundle as the engine takes it: base64 of the SHA-256 of its canonical JSON (RFC 8785).
///
/// A policy that allows one bundle names this text.
pub fn transit_context(context: &KeyContext) -> String {
    STANDARD.encode(Sha256::of(canonical(context)).as_bytes())
}

#[async_trait]
impl KeyService for WrappingKey {
    async fn wrap(&self, key: &DataKey, context: &KeyContext) -> Result<WrappedKey, KeyError> {
        // Also because `encrypt` makes the key that is missing, where the token may create.
        self.check().await?;
        let plaintext = Zeroizing::new(STANDARD.encode(key.reveal()));
        let body = json!({"plaintext": *plaintext, "context": transit_context(context)});
        let made: Encrypted = self.ask("encrypt", &body).await?;
        self.wrapped(made.ciphertext)
    }

    async fn unwrap(&self, wrapped: &WrappedKey, context: &KeyContext) -> Result<DataKey, KeyError> {
        let body = json!({"ciphertext": wrapped.0, "context": transit_context(context)});
        let opened: Decrypted = self.ask("decrypt", &body).await.map_err(|error| self.refusal(error))?;
        let refused = || KeyError::Refused(self.reference.clone());
        let text = Zeroizing::new(opened.plaintext);
        let bytes = Zeroizing::new(STANDARD.decode(text.as_bytes()).map_err(|_| refused())?);
        DataKey::try_from(bytes.as_slice()).map_err(|_| refused())
    }

    async fn rewrap(&self, wrapped: &WrappedKey, context: &KeyContext) -> Result<WrappedKey, KeyError> {
        let body = json!({"ciphertext": wrapped.0, "context": transit_context(context)});
        let made: Encrypted = self.ask("rewrap", &body).await.map_err(|error| self.refusal(error))?;
        self.wrapped(made.ciphertext)
    }
}

#[async_trait]
impl SigningKey for TransitKey {
    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    async fn sign(&self, digest: &Sha256) -> Result<Vec<u8>, KeyError> {
        let (mount, name) = parts(&self.reference);
        let url = self.service.address.join(&format!("v1/{mount}/sign/{name}"));
        let request = self.service.common(self.service.http.post(url).json(&json!({
            "input": STANDARD.encode(digest.as_bytes()),
            "prehashed": true,
            "hash_algorithm": "sha2-256",
            "marshaling_algorithm": "asn1",
            "key_version": self.version,
        })));
        let signed: Signed = self.service.send(&self.reference, request).await?;
        let prefix = format!("vault:v{}:", self.version);
        let signature = signed.signature.strip_prefix(&prefix).and_then(|text| STANDARD.decode(text).ok());
        signature.ok_or_else(|| KeyError::Sign {
            key: self.reference.clone(),
            reason: format!("expected a signature that starts with `{prefix}`, found another"),
        })
    }
}
