//! `gcp-kms://projects/<p>/locations/<l>/keyRings/<r>/cryptoKeys/<k>`: Cloud KMS of Google Cloud.
//!
//! A key that wraps is one for `ENCRYPT_DECRYPT`. The context of a bundle goes along as additional authenticated data,
//! so that a wrapping opens for its bundle alone. A version in the reference is the one to wrap with; which one opens,
//! the service finds by itself. A key that signs is a version of one for `EC_SIGN_P256_SHA256`. Whatever goes or comes
//! has a checksum, and both sides compare.
//!
//! A grant is a binding in the IAM policy of the key. A condition of IAM sees the time, and no authenticated data: who
//! is granted one bundle can open whatever else this key wrapped, once it is in their hands.

mod login;

use std::time::Duration;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use crc_fast::{CrcAlgorithm, checksum};
use jiff::{SignedDuration, Timestamp};
use protected_bundle::DataKey;
use protected_http::{Client, Request, Response};
use protected_model::{
    api::delivery::{GrantMaterialization, Grantee},
    digest::Sha256,
    key_ref::KeyRef,
    name::BundleId,
    secret::Secret as _,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use self::login::Login;
use crate::{
    Connecting, FoundGrant, GrantLimits, GrantTerms, KeyContext, KeyError, KeyService, Revoked, Settings,
    SigningKey, WrappedKey, bound_to, materialized, rest,
};

/// What a grantee is given: to decrypt with the key, and nothing else.
const ROLE: &str = "roles/cloudkms.cryptoKeyDecrypter";
/// What the titles of our conditions start with; the bundle follows. With a digit of base64 in place of the colon, such a
/// title would look like a key, which is never put on record.
const TITLE: &str = "protected-registry:";
/// The longest title that IAM takes.
const LONGEST_TITLE: usize = 100;
/// The end of a grant that has none: without a condition, a binding has no title either.
const NEVER: &str = "9999-01-01T00:00:00Z";
/// The roles that decrypt. One of somebody's own may as well.
const DECRYPTING: &[&str] =
    &[ROLE, "roles/cloudkms.cryptoKeyEncrypterDecrypter", "roles/cloudkms.cryptoOperator", "roles/owner"];
/// Members that everybody is.
const EVERYBODY: &[&str] = &["allUsers", "allAuthenticatedUsers"];
/// How long a grant of ours has ended before its binding is cleared away. Attack: a clock that is ahead of Google's, which
/// would take back what still holds.
const ENDED_FOR: SignedDuration = SignedDuration::from_hours(1);
/// How often a policy is read anew that was changed in between. Of those who write at once, one gets through each time.
const ATTEMPTS: u32 = 8;
/// How long to wait before the second attempt.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The shortest ciphertext that can be one of a data key: 32 bytes, a nonce and a tag.
const SHORTEST_WRAPPING: usize = 60;
/// The only algorithm that signs here.
const ALGORITHM: &str = "EC_SIGN_P256_SHA256";

/// A key that wraps.
struct WrappingKey(Service);

struct SigningVersion {
    service: Service,
    public_key: Vec<u8>,
}

/// Cloud KMS, as it is asked for one key.
struct Service {
    reference: KeyRef,
    http: Client,
    login: Login,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Encrypted {
    name: String,
    ciphertext: String,
    ciphertext_crc32c: Option<String>,
    #[serde(default)]
    verified_plaintext_crc32c: bool,
    #[serde(default)]
    verified_additional_authenticated_data_crc32c: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Decrypted {
    #[serde(default)]
    plaintext: String,
    plaintext_crc32c: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PublicKey {
    name: String,
    pem: String,
    pem_crc32c: Option<String>,
    algorithm: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signed {
    name: String,
    signature: String,
    signature_crc32c: Option<String>,
    #[serde(default)]
    verified_digest_crc32c: bool,
}

/// An IAM policy. What is not known of it stays as it is.
#[derive(Serialize, Deserialize)]
struct Policy {
    #[serde(default)]
    version: u32,
    #[serde(default)]
    etag: String,
    #[serde(default)]
    bindings: Vec<Binding>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct Binding {
    role: String,
    #[serde(default)]
    members: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    condition: Option<Condition>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct Condition {
    #[serde(default)]
    title: String,
    #[serde(default)]
    expression: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// Connects without asking: who may open need not be allowed anything else.
pub(crate) fn connect(
    key: &KeyRef,
    settings: &Settings,
    http: &Client,
) -> Result<Box<dyn KeyService>, KeyError> {
    Ok(Box::new(WrappingKey(Service::new(key, settings, http)?)))
}

pub(crate) fn connect_to_sign<'a>(
    key: &'a KeyRef,
    settings: &'a Settings,
    http: &'a Client,
) -> Connecting<'a> {
    Box::pin(async move { signing(Service::new(key, settings, http)?).await.map(|key| Box::new(key) as _) })
}

async fn signing(service: Service) -> Result<SigningVersion, KeyError> {
    let refuse = |reason: String| KeyError::Sign { key: service.reference.clone(), reason };
    let version = service.reference.path();
    if version == service.key() {
        let reason = "a key of Cloud KMS that signs has no primary version: expected /cryptoKeyVersions/<n> at the end of the reference";
        return Err(refuse(reason.to_owned()));
    }
    let found: PublicKey = service.send(service.http.get(service.url("/publicKey"))).await?;
    service.expect("its name", version, &found.name)?;
    if found.algorithm != ALGORITHM {
        let found = rest::readable(&found.algorithm);
        return Err(refuse(format!("expected a key for `{ALGORITHM}`, found one for `{found}`")));
    }
    service.compare("the public key", found.pem.as_bytes(), found.pem_crc32c.as_deref())?;
    let public_key = rest::from_pem("PUBLIC KEY", &found.pem)
        .ok_or_else(|| refuse("its public key is not PEM".to_owned()))?
        .to_vec();
    Ok(SigningVersion { service, public_key })
}

impl Service {
    fn new(key: &KeyRef, settings: &Settings, http: &Client) -> Result<Self, KeyError> {
        Ok(Self { reference: key.clone(), http: http.clone(), login: Login::new(key, settings)? })
    }

    /// Returns the name of the key, without a version.
    fn key(&self) -> &str {
        let path = self.reference.path();
        path.split_once("/cryptoKeyVersions/").map_or(path, |(key, _)| key)
    }

    /// Returns the URL of a verb on what the reference names, which may be a version.
    fn url(&self, verb: &str) -> url::Url {
        self.login.kms().join(&format!("v1/{}{verb}", self.reference.path()))
    }

    /// Returns the URL of a verb on the key.
    fn url_of_key(&self, verb: &str) -> url::Url {
        self.login.kms().join(&format!("v1/{}{verb}", self.key()))
    }

    async fn send<T: DeserializeOwned>(&self, request: Request) -> Result<T, KeyError> {
        let token = self.login.token(&self.reference, &self.http).await?;
        let request = request.bearer(&token);
        let request = match self.login.quota_project() {
            Some(project) => request.header("x-goog-user-project", project),
            None => request,
        };
        rest::json(&self.reference, request, said, &[token.reveal()]).await
    }

    fn unusable(&self, reason: String) -> KeyError {
        KeyError::Answer { key: self.reference.clone(), reason }
    }

    /// Refuses what is about another key than was asked.
    fn expect(&self, what: &str, expected: &str, found: &str) -> Result<(), KeyError> {
        if expected == found {
            return Ok(());
        }
        let found = rest::readable(found);
        Err(self.unusable(format!("{what}: expected `{expected}`, found `{found}`")))
    }

    /// Returns the number of the version that wrapped: the one that the reference names, or any of the key.
    fn version(&self, name: &str) -> Result<String, KeyError> {
        let number = name.strip_prefix(self.key()).and_then(|rest| rest.strip_prefix("/cryptoKeyVersions/"));
        let digits = |number: &&str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.filter(digits);
        let path = self.reference.path();
        let any = format!("{path}/cryptoKeyVersions/<n>");
        let pinned = path != self.key();
        let expected = if pinned { path } else { &any };
        match number {
            Some(number) if !pinned || name == path => Ok(number.to_owned()),
            _ => {
                let found = rest::readable(name);
                let reason =
                    format!("the version that it wrapped with: expected `{expected}`, found `{found}`");
                Err(self.unusable(reason))
            }
        }
    }

    /// Refuses bytes that are not the ones that the service sent. Of a checksum only that: one may be of a data key.
    fn compare(&self, what: &str, bytes: &[u8], given: Option<&str>) -> Result<(), KeyError> {
        match given {
            Some(text) if text == crc32c(bytes) => Ok(()),
            Some(_) => Err(self.unusable(format!("{what} does not have the checksum that came with it"))),
            None => Err(self.unusable(format!("{what} came without a checksum"))),
        }
    }

    /// Reads base64 that came with a checksum.
    fn bytes(&self, what: &str, text: &str, given: Option<&str>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let bytes = STANDARD.decode(text).map_err(|_| self.unusable(format!("{what} is not base64")))?;
        let bytes = Zeroizing::new(bytes);
        self.compare(what, &bytes, given)?;
        Ok(bytes)
    }

    /// Refuses an answer to what did not arrive as it was sent.
    fn arrived(&self, verified: bool) -> Result<(), KeyError> {
        if verified {
            return Ok(());
        }
        Err(self.unusable("it did not compare the checksums of what it was sent".to_owned()))
    }

    async fn policy(&self) -> Result<Policy, KeyError> {
        // Attack: in a policy of an older version conditions are left out, and writing it back makes them go away.
        let url = self.url_of_key(":getIamPolicy?options.requestedPolicyVersion=3");
        let policy: Policy = self.send(self.http.get(url)).await?;
        if policy.etag.is_empty() {
            let reason = "its policy has no etag, so that what others change meanwhile would be lost";
            return Err(self.unusable(reason.to_owned()));
        }
        Ok(policy)
    }

    /// Changes the policy of the key, read anew whenever it is another by the time that it is written. Returns whether
    /// there was something to change, and the bindings as they are now.
    async fn change(
        &self,
        change: impl Fn(&mut Vec<Binding>) -> bool + Send,
    ) -> Result<(bool, Vec<Binding>), KeyError> {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(FIRST_WAIT * 2_u32.pow(attempt - 1)).await;
            }
            let mut policy = self.policy().await?;
            if !change(&mut policy.bindings) {
                // What a lost answer had changed already, too.
                return Ok((attempt > 0, policy.bindings));
            }
            policy.version = 3;
            let body = json!({"policy": policy, "updateMask": "bindings,etag"});
            let request = self.http.post(self.url_of_key(":setIamPolicy")).json(&body);
            match self.send::<Policy>(request).await {
                Ok(mut written) => {
                    if !change(&mut written.bindings) {
                        return Ok((true, written.bindings));
                    }
                    let reason = "the policy that it wrote is not the one that it was given";
                    return Err(self.unusable(reason.to_owned()));
                }
                Err(KeyError::Service { status: 409, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let reason = format!("its policy was changed by others {ATTEMPTS} times in a row; try again");
        Err(KeyError::Grant { key: self.reference.clone(), reason })
    }

    /// Refuses who is not somebody: a policy would take `allUsers` as well.
    fn check(&self, grantee: &Grantee) -> Result<(), KeyError> {
        let text = grantee.as_str();
        let one = ["serviceAccount:", "user:", "group:"]
            .iter()
            .any(|kind| text.strip_prefix(kind).is_some_and(|email| email.contains('@')));
        let federated = text.starts_with("principal://iam.googleapis.com/")
            || text.starts_with("principalSet://iam.googleapis.com/") && !text.ends_with("/*");
        if one || federated {
            return Ok(());
        }
        let reason = format!(
            "expected a grantee such as `serviceAccount:<email>`, `user:<email>`, `group:<email>` or `principal://iam.googleapis.com/...`, found `{text}`"
        );
        Err(KeyError::Grant { key: self.reference.clone(), reason })
    }
}

impl Binding {
    /// Returns the condition, if this is a grant of a bundle, and of which.
    fn grants(&self, title: &str) -> Option<&Condition> {
        self.condition.as_ref().filter(|condition| self.role == ROLE && condition.title == title)
    }

    /// Returns whether this is a grant of ours, for whatever bundle, that ended [`ENDED_FOR`] before `now`.
    fn has_ended(&self, now: Timestamp) -> bool {
        let ours = self.condition.as_ref().filter(|it| self.role == ROLE && it.title.starts_with(TITLE));
        let end = ours.and_then(end);
        end.is_some_and(|end| now.duration_since(end) >= ENDED_FOR)
    }

    /// Says by what a grantee decrypts with this, if that is so at `now`.
    fn opens(&self, grantee: &Grantee, now: Timestamp) -> Option<String> {
        let own = !self.role.starts_with("roles/");
        let decrypts = own || DECRYPTING.contains(&self.role.as_str());
        let over = self.condition.as_ref().and_then(end).is_some_and(|end| end <= now);
        let everybody = self.members.iter().find(|member| EVERYBODY.contains(&member.as_str()));
        if over || !decrypts || everybody.is_none() && !self.names(grantee) {
            return None;
        }
        let title = self.condition.as_ref().map(|condition| rest::readable(&condition.title));
        Some(match title.as_deref().map(|title| (title, title.strip_prefix(TITLE))) {
            Some((_, Some(bundle))) if self.role == ROLE => format!("the grant of the delivery {bundle}"),
            title => {
                let to = everybody.map_or_else(String::new, |everybody| format!(" to {everybody}"));
                let when =
                    title.map_or_else(String::new, |(title, _)| format!(" on the condition `{title}`"));
                format!("the role {}{to}{when}", rest::readable(&self.role))
            }
        })
    }

    fn names(&self, grantee: &Grantee) -> bool {
        self.members.iter().any(|member| is_same(member, grantee))
    }
}

/// Compares members as IAM does: it writes mail addresses in lower case.
fn is_same(member: &str, grantee: &Grantee) -> bool {
    if member.starts_with("principal") {
        return member == grantee.as_str();
    }
    member.eq_ignore_ascii_case(grantee.as_str())
}

/// Adds a grant, in place of one with other terms. Returns whether that changes anything.
fn give(bindings: &mut Vec<Binding>, title: &str, expression: &str, grantee: &Grantee) -> bool {
    let is_it = |binding: &Binding| binding.grants(title).is_some_and(|found| found.expression == expression);
    let there = bindings.iter().any(|binding| is_it(binding) && binding.names(grantee));
    let others = take(bindings, title, grantee, |binding| !is_it(binding));
    if there {
        return others;
    }
    match bindings.iter_mut().find(|binding| is_it(binding)) {
        Some(binding) => binding.members.push(grantee.to_string()),
        None => bindings.push(Binding {
            role: ROLE.to_owned(),
            members: vec![grantee.to_string()],
            condition: Some(Condition {
                title: title.to_owned(),
                expression: expression.to_owned(),
                more: Map::new(),
            }),
            more: Map::new(),
        }),
    }
    true
}

/// Takes the grants of a bundle back that the grantee has, of those that `which` says. Returns whether there was one.
fn take(
    bindings: &mut Vec<Binding>,
    title: &str,
    grantee: &Grantee,
    which: impl Fn(&Binding) -> bool,
) -> bool {
    let mut taken = false;
    bindings.retain_mut(|binding| {
        if binding.grants(title).is_some() && which(binding) && binding.names(grantee) {
            taken = true;
            binding.members.retain(|member| !is_same(member, grantee));
        }
        !binding.members.is_empty()
    });
    taken
}

/// Changes bindings, and then clears away those of ours that have ended: IAM takes so many for one grantee. What changes
/// nothing clears nothing either, so that no policy is written for that.
fn clearing(bindings: &mut Vec<Binding>, now: Timestamp, change: impl Fn(&mut Vec<Binding>) -> bool) -> bool {
    let changed = change(bindings);
    if changed {
        bindings.retain(|binding| !binding.has_ended(now));
    }
    changed
}

/// Names a bundle in the title of a condition.
fn title(bundle: &BundleId) -> String {
    let title = format!("{TITLE}{bundle}");
    // No bundle is called so.
    let short = || format!("{TITLE}sha256:{}", Sha256::of(bundle.as_str()));
    if title.len() > LONGEST_TITLE { short() } else { title }
}

fn until(end: &str) -> String {
    format!("request.time < timestamp(\"{end}\")")
}

/// Returns when a grant ends, if it does: in either kind of quotes, for Google's own examples have both. What says anything
/// else has no end.
fn end(condition: &Condition) -> Option<Timestamp> {
    let text = condition.expression.strip_prefix("request.time < timestamp(")?.strip_suffix(')')?;
    let within = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    let end = within('"').or_else(|| within('\''))?;
    if end == NEVER { None } else { end.parse().ok() }
}

/// Returns a CRC-32C (Castagnoli, as in iSCSI) as the service writes numbers of 64 bits: as a text.
fn crc32c(bytes: &[u8]) -> String {
    checksum(CrcAlgorithm::Crc32Iscsi, bytes).to_string()
}

/// Returns what a service of Google's says of a request that it does not take: in its own form, or in that of OAuth.
fn said(answer: &Response) -> Option<String> {
    let body: Value = answer.json().ok()?;
    let (kind, text) = match &body["error"] {
        Value::String(kind) => (kind.as_str(), &body["error_description"]),
        error => (error["status"].as_str()?, &error["message"]),
    };
    Some(format!("{kind}: {}", text.as_str().unwrap_or_default()))
}

#[async_trait]
impl KeyService for WrappingKey {
    async fn wrap(&self, key: &DataKey, context: &KeyContext) -> Result<WrappedKey, KeyError> {
        let service = &self.0;
        let plaintext = Zeroizing::new(STANDARD.encode(key.reveal()));
        let bound_to = *bound_to(context).as_bytes();
        let request = service.http.post(service.url(":encrypt")).json(&json!({
            "plaintext": *plaintext,
            "plaintextCrc32c": crc32c(key.reveal()),
            "additionalAuthenticatedData": STANDARD.encode(bound_to),
            "additionalAuthenticatedDataCrc32c": crc32c(&bound_to),
        }));
        let made: Encrypted = service.send(request).await?;
        service.arrived(made.verified_plaintext_crc32c)?;
        service.arrived(made.verified_additional_authenticated_data_crc32c)?;
        let version = service.version(&made.name)?;
        let what = "the wrapped key";
        let wrapped = service.bytes(what, &made.ciphertext, made.ciphertext_crc32c.as_deref())?;
        if wrapped.len() < SHORTEST_WRAPPING {
            return Err(service.unusable(format!("{what} is too short to be one")));
        }
        Ok(WrappedKey { text: STANDARD.encode(&*wrapped), version: Some(version) })
    }

    async fn unwrap(&self, wrapped: &str, context: &KeyContext) -> Result<DataKey, KeyError> {
        let service = &self.0;
        let refused = || KeyError::Refused(service.reference.clone());
        let wrapped = STANDARD.decode(wrapped).map_err(|_| refused())?;
        let bound_to = *bound_to(context).as_bytes();
        let request = service.http.post(service.url_of_key(":decrypt")).json(&json!({
            "ciphertext": STANDARD.encode(&wrapped),
            "ciphertextCrc32c": crc32c(&wrapped),
            "additionalAuthenticatedData": STANDARD.encode(bound_to),
            "additionalAuthenticatedDataCrc32c": crc32c(&bound_to),
        }));
        let opened: Decrypted = service.send(request).await.map_err(|error| match error {
            // Its word for a ciphertext of another key or with other authenticated data, and for a wrong checksum.
            KeyError::Service { status: 400, message: Some(message), .. }
                if message.starts_with("INVALID_ARGUMENT") && !message.contains("checksum") =>
            {
                refused()
            }
            other => other,
        })?;
        let text = Zeroizing::new(opened.plaintext);
        let bytes = service.bytes("the data key", &text, opened.plaintext_crc32c.as_deref())?;
        rest::data_key(&service.reference, &bytes)
    }

    fn limits(&self) -> GrantLimits {
        GrantLimits {
            one_bundle: false,
            expires: true,
            says: "a grant of Cloud KMS is for the key: the grantee can open all that it wrapped, also for others; give each customer a key of their own",
        }
    }

    async fn grant(&self, terms: &GrantTerms<'_>) -> Result<GrantMaterialization, KeyError> {
        let service = &self.0;
        service.check(terms.grantee)?;
        let title = title(terms.bundle);
        let until = until(&terms.expires_at.map_or_else(|| NEVER.to_owned(), |end| end.to_string()));
        let change = |bindings: &mut Vec<Binding>| {
            clearing(bindings, terms.now, |it| give(it, &title, &until, terms.grantee))
        };
        service.change(change).await?;
        Ok(materialized(&service.reference, "SetIamPolicy", title, terms.now))
    }

    async fn grants(&self, bundle: &BundleId, _: &KeyContext) -> Result<Vec<FoundGrant>, KeyError> {
        let title = title(bundle);
        let bindings = self.0.policy().await?.bindings;
        let found = bindings.iter().filter_map(|binding| Some((binding, binding.grants(&title)?)));
        let found = found.flat_map(|(binding, condition)| {
            let (reference, expires_at) = (&condition.title, end(condition));
            binding.members.iter().map(move |member| FoundGrant {
                reference: reference.clone(),
                grantee: member.parse().ok(),
                expires_at,
            })
        });
        Ok(found.collect())
    }

    async fn revoke(&self, terms: &GrantTerms<'_>) -> Result<Revoked, KeyError> {
        let title = title(terms.bundle);
        let change = |bindings: &mut Vec<Binding>| {
            clearing(bindings, terms.now, |it| take(it, &title, terms.grantee, |_| true))
        };
        let (was, left) = self.0.change(change).await?;
        let still = left.iter().filter_map(|binding| binding.opens(terms.grantee, terms.now)).collect();
        Ok(Revoked { was, still })
    }
}

#[async_trait]
impl SigningKey for SigningVersion {
    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    async fn sign(&self, digest: &Sha256) -> Result<Vec<u8>, KeyError> {
        let service = &self.service;
        let request = service.http.post(service.url(":asymmetricSign")).json(&json!({
            "digest": {"sha256": STANDARD.encode(digest.as_bytes())},
            "digestCrc32c": crc32c(digest.as_bytes()),
        }));
        let signed: Signed = service.send(request).await?;
        service.arrived(signed.verified_digest_crc32c)?;
        service.expect("the version that it signed with", service.reference.path(), &signed.name)?;
        let signature =
            service.bytes("the signature", &signed.signature, signed.signature_crc32c.as_deref())?;
        Ok(signature.to_vec())
    }
}
