//! `openbao://<mount>/<key>`: the transit engine of OpenBao, or of HashiCorp Vault.
//!
//! A key that signs is one of type `ecdsa-p256`. It signs digests, so that what is signed stays here.
//!
//! A key that wraps is a derived one of type `aes256-gcm96` or `chacha20-poly1305`: the engine derives another key for
//! each context, so that a wrapping opens for its bundle alone, and a policy can name the context that it allows.
//! Associated data would bind as well, but `rewrap` takes none.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use protected_bundle::DataKey;
use protected_http::{Client, Request, Response};
use protected_model::{
    api::delivery::{GrantMaterialization, Grantee},
    digest::Sha256,
    key_ref::KeyRef,
    name::BundleId,
    secret::{AccessToken, Secret as _},
    service_url::{ServiceUrl, ServiceUrlError},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    Connecting, FoundGrant, GrantLimits, GrantTerms, IdTokens, KeyContext, KeyError, KeyService, Revoked,
    Settings, SigningKey, WrappedKey, bound_to, materialized,
    rest::{self, Lent},
};

/// Where a job logs in with its identity, below `auth/`.
const AUTH_PATH: &str = "jwt";

struct TransitKey {
    service: Service,
    /// The version that the public key is of; what is signed is signed with this one, also after a rotation.
    version: u64,
    public_key: Vec<u8>,
}

struct Service {
    reference: KeyRef,
    http: Client,
    address: ServiceUrl,
    namespace: Option<String>,
    login: Login,
    session: rest::Login,
}

/// Who asks.
enum Login {
    /// Whose token is given.
    Token(AccessToken),
    /// The job, by the JWT auth method.
    Job { identity: Arc<dyn IdTokens>, path: String, role: String, audience: String },
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
    Ok(Box::new(WrappingKey { service: service(key, settings, http)? }))
}

fn service(key: &KeyRef, settings: &Settings, http: &Client) -> Result<Service, KeyError> {
    let either = |bao, vault| settings.environment.get(bao).or_else(|| settings.environment.get(vault));
    let missing = |what, hint| KeyError::NotConfigured { key: key.clone(), what, hint };
    let address = either("BAO_ADDR", "VAULT_ADDR");
    let address = address.ok_or_else(|| missing("where OpenBao is", "set BAO_ADDR, or VAULT_ADDR"))?;
    let address: ServiceUrl = address.parse().map_err(|error: ServiceUrlError| KeyError::Address {
        key: key.clone(),
        reason: format!("the address of OpenBao (BAO_ADDR, or VAULT_ADDR): {error}"),
    })?;
    let namespace = either("BAO_NAMESPACE", "VAULT_NAMESPACE").map(str::to_owned);
    let login = match either("BAO_TOKEN", "VAULT_TOKEN") {
        Some(token) => Login::Token(AccessToken::new(token)),
        None => Login::job(settings, &address).ok_or_else(|| {
            missing(
                "who asks OpenBao",
                "set BAO_TOKEN, or VAULT_TOKEN, to a token that may use this key; or, in CI, PROTECTED_REGISTRY_OPENBAO_ROLE to a role of its JWT auth method",
            )
        })?,
    };
    Ok(Service {
        reference: key.clone(),
        http: http.clone(),
        address,
        namespace,
        login,
        session: rest::Login::default(),
    })
}

async fn signing(key: &KeyRef, settings: &Settings, http: &Client) -> Result<TransitKey, KeyError> {
    let service = service(key, settings, http)?;
    let (mount, name) = parts(key);
    let found: Key = service.get(&format!("{mount}/keys/{name}")).await?;
    let refuse = |reason: String| KeyError::Sign { key: key.clone(), reason };
    if found.kind != "ecdsa-p256" {
        let kind = found.kind.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect::<String>();
        return Err(refuse(format!("expected a key of type `ecdsa-p256`, found `{kind}`")));
    }
    let version = found.latest_version;
    let Some(Version::Public { public_key }) = found.keys.get(&version.to_string()) else {
        return Err(refuse(format!("its version {version} has no public key")));
    };
    let public_key = rest::from_pem("PUBLIC KEY", public_key)
        .ok_or_else(|| refuse("its public key is not PEM".to_owned()))?;
    Ok(TransitKey { service, version, public_key: public_key.to_vec() })
}

/// Returns mount and name, which the grammar of references has checked.
fn parts(key: &KeyRef) -> (&str, &str) {
    key.path().split_once('/').unwrap_or((key.path(), ""))
}

impl Login {
    /// Returns how a job logs in, where a role is named and the job has an identity.
    fn job(settings: &Settings, address: &ServiceUrl) -> Option<Self> {
        let given = |name| settings.environment.get(name).map(str::to_owned);
        Some(Self::Job {
            role: given("PROTECTED_REGISTRY_OPENBAO_ROLE")?,
            identity: settings.id_tokens.clone()?,
            path: given("PROTECTED_REGISTRY_OPENBAO_AUTH_PATH").unwrap_or_else(|| AUTH_PATH.to_owned()),
            audience: given("PROTECTED_REGISTRY_OPENBAO_AUDIENCE").unwrap_or_else(|| address.audience()),
        })
    }
}

impl Service {
    async fn log_in(&self) -> Result<Lent, KeyError> {
        #[derive(Deserialize)]
        struct LoggedIn {
            auth: Auth,
        }
        #[derive(Deserialize)]
        struct Auth {
            client_token: AccessToken,
            /// Zero is for ever.
            #[serde(default)]
            lease_duration: u64,
        }
        let (identity, path, role, audience) = match &self.login {
            Login::Token(token) => return Ok((token.clone(), None)),
            Login::Job { identity, path, role, audience } => (identity, path, role, audience),
        };
        let failed = |reason| KeyError::Login { key: self.reference.clone(), reason };
        // Attack: a path that leads elsewhere would show the job's identity to another endpoint.
        if !path.split('/').all(is_name) {
            return Err(failed("PROTECTED_REGISTRY_OPENBAO_AUTH_PATH is no path of names".to_owned()));
        }
        let token = identity.id_token(audience).await.map_err(failed)?;
        let request = self.http.post(self.url(&format!("auth/{path}/login")));
        let request = self.headers(request).json(&json!({"role": role, "jwt": token.reveal()}));
        let answer: LoggedIn = rest::json(&self.reference, request, said, &[token.reveal()]).await?;
        let Auth { client_token, lease_duration } = answer.auth;
        Ok((client_token, Some(lease_duration).filter(|seconds| *seconds > 0).map(Duration::from_secs)))
    }

    fn url(&self, path: &str) -> url::Url {
        self.address.join(&format!("v1/{path}"))
    }

    fn headers(&self, request: Request) -> Request {
        let request = request.header("x-vault-request", "true");
        match &self.namespace {
            Some(namespace) => request.header("x-vault-namespace", namespace),
            None => request,
        }
    }

    async fn send(&self, request: Request) -> Result<Response, KeyError> {
        let token = self.session.token(self.log_in()).await?;
        let request = self.headers(request).header("x-vault-token", token.reveal());
        rest::answer(&self.reference, request, said, &[token.reveal()]).await
    }

    async fn data<T: DeserializeOwned>(&self, request: Request) -> Result<T, KeyError> {
        let answer = self.send(request).await?.json();
        let Answer { data } = answer.map_err(|source| rest::failed(&self.reference, source))?;
        Ok(data)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, KeyError> {
        self.data(self.http.get(self.url(path))).await
    }

    /// Returns nothing where there is nothing.
    async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, KeyError> {
        absent(self.get(path).await)
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, KeyError> {
        self.data(self.http.post(self.url(path)).json(body)).await
    }

    /// Deletes what is there, if anything.
    async fn delete(&self, path: &str) -> Result<(), KeyError> {
        absent(self.send(self.http.delete(self.url(path))).await).map(drop)
    }
}

fn absent<T>(result: Result<T, KeyError>) -> Result<Option<T>, KeyError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(KeyError::Service { status: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns what the service says.
fn said(answer: &Response) -> Option<String> {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<String>,
    }
    answer.json().ok().map(|Errors { errors }| errors.join("; "))
}

/// Whether a text is a name in a path of the service.
fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@".contains(c))
}

impl WrappingKey {
    async fn ask<T: DeserializeOwned>(&self, verb: &str, body: &Value) -> Result<T, KeyError> {
        let (mount, name) = parts(&self.service.reference);
        self.service.post(&format!("{mount}/{verb}/{name}"), body).await
    }

    /// Refuses a key that would not bind, or that comes out.
    ///
    /// Attack: with a key that is not derived the engine ignores the context, and one wrapping opens for every bundle.
    async fn check(&self) -> Result<(), KeyError> {
        let (mount, name) = parts(&self.service.reference);
        let found: Symmetric = self.service.get(&format!("{mount}/keys/{name}")).await?;
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
        Err(KeyError::Wrap { key: self.service.reference.clone(), reason: fault.to_owned() })
    }

    /// Returns a wrapped key if it is one of this engine's, and so nothing that was never wrapped.
    fn wrapped(&self, text: String) -> Result<WrappedKey, KeyError> {
        let version = text.strip_prefix("vault:v").and_then(|rest| rest.split_once(':'));
        let version = version.and_then(|(version, bytes)| {
            let long = STANDARD.decode(bytes).is_ok_and(|bytes| bytes.len() >= 60);
            version.parse::<u64>().ok().filter(|_| long)
        });
        let Some(version) = version else {
            return Err(self.unusable("it holds no wrapped key"));
        };
        Ok(WrappedKey { text, version: Some(version.to_string()) })
    }

    fn unusable(&self, reason: &str) -> KeyError {
        KeyError::Answer { key: self.service.reference.clone(), reason: reason.to_owned() }
    }

    /// Turns the engine's word for "not this key, or not this context" into ours.
    fn refusal(&self, error: KeyError) -> KeyError {
        match error {
            KeyError::Service { status: 400, .. } => KeyError::Refused(self.service.reference.clone()),
            other => other,
        }
    }
}

/// Returns the context of a bundle as the engine takes it: base64 of the SHA-256 of its canonical JSON (RFC 8785).
///
/// A policy that allows one bundle names this text.
pub fn transit_context(context: &KeyContext) -> String {
    STANDARD.encode(bound_to(context).as_bytes())
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

    async fn unwrap(&self, wrapped: &str, context: &KeyContext) -> Result<DataKey, KeyError> {
        let body = json!({"ciphertext": wrapped, "context": transit_context(context)});
        let opened: Decrypted = self.ask("decrypt", &body).await.map_err(|error| self.refusal(error))?;
        let text = Zeroizing::new(opened.plaintext);
        let bytes = STANDARD.decode(text.as_bytes()).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| self.unusable("it holds no data key"))?;
        rest::data_key(&self.service.reference, &bytes)
    }

    async fn rewrap(&self, wrapped: &str, context: &KeyContext) -> Result<WrappedKey, KeyError> {
        let body = json!({"ciphertext": wrapped, "context": transit_context(context)});
        let made: Encrypted = self.ask("rewrap", &body).await.map_err(|error| self.refusal(error))?;
        self.wrapped(made.ciphertext)
    }

    fn limits(&self) -> GrantLimits {
        GrantLimits {
            one_bundle: true,
            expires: true,
            says: "OpenBao holds the grantee to this delivery alone, ends the grant at its time, and takes it back at once",
        }
    }

    async fn grant(&self, terms: &GrantTerms<'_>) -> Result<GrantMaterialization, KeyError> {
        let entity = self.entity(terms.grantee).await?;
        let [name, _] = self.grant_names(terms.bundle, terms.grantee, terms.context);
        self.allow(&name, terms).await?;
        let group = json!({
            "policies": [name],
            "member_entity_ids": [entity.id],
            "metadata": {"bundle_id": terms.bundle.as_str(), "grantee": terms.grantee.as_str()},
        });
        self.service.send(self.service.http.post(self.service.url(&group_path(&name))).json(&group)).await?;
        Ok(materialized(&self.service.reference, "sys/policies/acl", name, terms.now))
    }

    async fn grants(&self, bundle: &BundleId, context: &KeyContext) -> Result<Vec<FoundGrant>, KeyError> {
        #[derive(Deserialize)]
        struct Policies {
            keys: Vec<String>,
        }
        let mut url = self.service.url("sys/policies/acl");
        url.set_query(Some("list=true"));
        let policies: Policies = self.service.data(self.service.http.get(url)).await?;
        let prefix = grant_prefix(bundle);
        let mut found = Vec::new();
        for name in policies.keys.into_iter().filter(|name| name.starts_with(&prefix)) {
            let Some(policy) = self.policy(&name, context).await? else { continue };
            let group: Option<Group> = self.service.find(&group_path(&name)).await?;
            let grantee = group.and_then(|group| group.metadata?.grantee?.parse().ok());
            // Another bundle may have a name that goes on where this one's ends.
            let is_its = |grantee: &Grantee| self.grant_names(bundle, grantee, context).contains(&name);
            let other = grantee.as_ref().is_some_and(|grantee| !is_its(grantee));
            if !other {
                found.push(FoundGrant { reference: name, grantee, expires_at: policy.expiration });
            }
        }
        Ok(found)
    }

    async fn revoke(&self, terms: &GrantTerms<'_>) -> Result<Revoked, KeyError> {
        let [name, former] = self.grant_names(terms.bundle, terms.grantee, terms.context);
        let mut was = self.take_back(&name).await?;
        if self.policy(&former, terms.context).await?.is_some() {
            was |= self.take_back(&former).await?;
        }
        // Every other grant is for another context; what other policies an entity has nobody can list.
        Ok(Revoked { was, still: Vec::new() })
    }
}

/// A policy that lets its holders unwrap one data key.
#[derive(Deserialize)]
struct Policy {
    policy: String,
    #[serde(default)]
    expiration: Option<Timestamp>,
    #[serde(default)]
    version: u64,
}

/// The group through which an entity has the policy.
#[derive(Deserialize)]
struct Group {
    metadata: Option<GroupMetadata>,
}

#[derive(Deserialize)]
struct GroupMetadata {
    grantee: Option<String>,
}

#[derive(Deserialize)]
struct Entity {
    id: String,
}

fn policy_path(name: &str) -> String {
    format!("sys/policies/acl/{name}")
}

fn group_path(name: &str) -> String {
    format!("identity/group/name/{name}")
}

fn grant_prefix(bundle: &BundleId) -> String {
    format!("delivery-{}-", bundle.as_str().to_ascii_lowercase())
}

/// Names policy and group of a grant. The service knows no capitals in the names of policies, so that the digest
/// tells apart what differs in them alone.
fn grant_name(bundle: &BundleId, grantee: &Grantee, more: &str) -> String {
    let digest = Sha256::of(format!("{bundle}\0{grantee}{more}")).to_string();
    format!("{}{}", grant_prefix(bundle), &digest[..16])
}

impl WrappingKey {
    /// Returns what the grant of a grantee is called, and what an older release called it, which knew one key.
    ///
    /// Attack: a delivery of another tenant that has the same id, or the same one wrapped with another key: its grant would take
    /// the place of this one.
    fn grant_names(&self, bundle: &BundleId, grantee: &Grantee, context: &KeyContext) -> [String; 2] {
        let more = format!("\0{}\0{}", self.service.reference.path(), transit_context(context));
        [&*more, ""].map(|more| grant_name(bundle, grantee, more))
    }

    /// Returns the policy that lets its holders unwrap one data key, wrapped with this key.
    fn policy_text(&self, context: &KeyContext) -> String {
        let (mount, key) = parts(&self.service.reference);
        // Attack: without `required_parameters` a request that names no context would pass the policy.
        format!(
            "path \"{mount}/decrypt/{key}\" {{ capabilities=[\"update\"] allowed_parameters={{\"ciphertext\"=[] \"context\"=[\"{}\"]}} required_parameters=[\"context\"] }}",
            transit_context(context)
        )
    }

    /// Finds the policy of this name, if it is one of a grant on this key and of this delivery.
    async fn policy(&self, name: &str, context: &KeyContext) -> Result<Option<Policy>, KeyError> {
        let found: Option<Policy> = self.service.find(&policy_path(name)).await?;
        Ok(found.filter(|found| found.policy == self.policy_text(context)))
    }

    /// Deletes what makes up a grant, and returns whether there was any of it.
    async fn take_back(&self, name: &str) -> Result<bool, KeyError> {
        let policy = self.service.find::<Policy>(&policy_path(name)).await?.is_some();
        // The policy first: without it the group allows nothing.
        self.service.delete(&policy_path(name)).await?;
        let group = self.service.find::<Group>(&group_path(name)).await?.is_some();
        self.service.delete(&group_path(name)).await?;
        Ok(policy || group)
    }

    /// Finds the entity that a grantee is: its tokens have what its groups have, from the next request on.
    async fn entity(&self, grantee: &Grantee) -> Result<Entity, KeyError> {
        let refuse = |reason| KeyError::Grant { key: self.service.reference.clone(), reason };
        if !is_name(grantee.as_str()) {
            return Err(refuse(format!("`{grantee}` is no name of an entity of OpenBao")));
        }
        let found = self.service.find(&format!("identity/entity/name/{grantee}")).await?;
        found.ok_or_else(|| {
            refuse(format!(
                "OpenBao has no entity `{grantee}`: make it, with an alias for the customer's login, before it is granted anything"
            ))
        })
    }

    /// Writes the policy, unless it is there as it has to be.
    async fn allow(&self, name: &str, terms: &GrantTerms<'_>) -> Result<(), KeyError> {
        let policy = self.policy_text(terms.context);
        let mut again = true;
        loop {
            let found: Option<Policy> = self.service.find(&policy_path(name)).await?;
            if found.as_ref().is_some_and(|it| it.policy == policy && it.expiration == terms.expires_at) {
                return Ok(());
            }
            // Compare and set: of two publishers at once the slower one looks again.
            let mut body = json!({"policy": policy, "cas": found.map_or(0, |found| found.version)});
            if let Some(end) = terms.expires_at {
                body["expiration"] = json!(end);
            }
            let request = self.service.http.post(self.service.url(&policy_path(name))).json(&body);
            match self.service.send(request).await {
                Err(KeyError::Service { status: 400, .. }) if again => again = false,
                other => return other.map(drop),
            }
        }
    }
}

#[async_trait]
impl SigningKey for TransitKey {
    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    async fn sign(&self, digest: &Sha256) -> Result<Vec<u8>, KeyError> {
        let (mount, name) = parts(&self.service.reference);
        let body = json!({
            "input": STANDARD.encode(digest.as_bytes()),
            "prehashed": true,
            "hash_algorithm": "sha2-256",
            "marshaling_algorithm": "asn1",
            "key_version": self.version,
        });
        let signed: Signed = self.service.post(&format!("{mount}/sign/{name}"), &body).await?;
        let prefix = format!("vault:v{}:", self.version);
        let signature = signed.signature.strip_prefix(&prefix).and_then(|text| STANDARD.decode(text).ok());
        signature.ok_or_else(|| KeyError::Sign {
            key: self.service.reference.clone(),
            reason: format!("expected a signature that starts with `{prefix}`, found another"),
        })
    }
}
