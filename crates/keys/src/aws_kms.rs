//! `aws-kms://<ARN of a key, or of an alias>`: the key management service of AWS.
//!
//! Requests are JSON (AWS JSON 1.1), signed with the credentials of whoever asks (Signature Version 4). The context is
//! the service's encryption context: what is wrapped opens with the same words alone, and a grant names them.
//!
//! Each answer names the key that was used. It has to be the key of the reference; where that is an alias, a key of the
//! same region and account, and the same one as long as the connection lasts.

mod credentials;

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_lc_rs::{digest, signature};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use protected_bundle::DataKey;
use protected_http::{Client, Request, Response};
use protected_model::{
    api::delivery::{GrantMaterialization, Grantee},
    digest::Sha256,
    environment::Environment,
    integrity::canonical,
    key_ref::KeyRef,
    name::BundleId,
    service_url::{ServiceUrl, ServiceUrlError},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use self::credentials::Asker;
use crate::{
    Connecting, FoundGrant, GrantLimits, GrantTerms, KeyContext, KeyError, KeyService, Revoked, Settings,
    SigningKey, WrappedKey, materialized,
    rest::{self, Said},
};

const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
/// What our grants are called, before the delivery.
const GRANT_PREFIX: &str = "protected-registry";
/// The one operation of a grant: whoever may open may nothing else.
const GRANTED: &str = "Decrypt";
/// The operations that show what is wrapped: what is wrapped anew with a key of one's own is as good as opened.
const OPENING: &[&str] = &[GRANTED, "ReEncryptFrom"];
/// The largest text that the service wraps something to, in bytes.
const MAX_WRAPPED_BYTES: usize = 6144;
/// The shortest: with fewer bytes beside the key, it was not wrapped.
const MIN_WRAPPED_BYTES: usize = 60;
/// Grants on one page, and pages: a key has at most 50 000.
const PAGE: usize = 100;
const MAX_PAGES: usize = 600;
/// What AWS says with 400 of what the same request may do better a little later.
const PASSING: &[&str] =
    &["ThrottlingException", "Throttling", "RequestLimitExceeded", "IDPCommunicationError"];
/// What it says of a grant that is there no more.
const GONE: &[&str] = &["NotFoundException", "InvalidGrantIdException"];
/// How often that is tried, and the wait before the second time; it doubles.
const ATTEMPTS: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// What AWS says of a signature that it does not like, among other reasons for a wrong time in it.
const SIGNATURE: &[&str] =
    &["InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "RequestExpired"];
/// From where on clocks that are apart are the reason: AWS allows five minutes, and its answer is some seconds on its way.
const SKEW: SignedDuration = SignedDuration::from_secs(290);

struct Kms {
    key: KeyRef,
    region: String,
    account: String,
    address: ServiceUrl,
    http: Client,
    asker: Asker,
    /// The ARN of the key itself, as soon as it is known.
    arn: OnceLock<String>,
}

struct KmsSigningKey {
    kms: Kms,
    public_key: Vec<u8>,
}

/// An error, and AWS's own word for it.
struct Failure {
    code: String,
    error: KeyError,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypted {
    ciphertext_blob: String,
    key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypted {
    plaintext: String,
    key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ReEncrypted {
    ciphertext_blob: String,
    source_key_id: String,
    key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    key_metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    arn: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Granted {
    grant_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    grants: Vec<Grant>,
    #[serde(default)]
    truncated: bool,
    next_marker: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Grant {
    grant_id: String,
    name: Option<String>,
    grantee_principal: Option<String>,
    #[serde(default)]
    operations: Vec<String>,
    #[serde(default)]
    constraints: Option<Constraints>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Constraints {
    encryption_context_equals: Option<KeyContext>,
    encryption_context_subset: Option<KeyContext>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PublicKey {
    key_id: String,
    public_key: String,
    key_spec: String,
    key_usage: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Signed {
    key_id: String,
    signature: String,
}

/// Connects without asking: whoever may unwrap need not be allowed anything else.
pub(crate) fn connect(
    key: &KeyRef,
    settings: &Settings,
    http: &Client,
) -> Result<Box<dyn KeyService>, KeyError> {
    Ok(Box::new(Kms::new(key, settings, http)?))
}

pub(crate) fn connect_to_sign<'a>(
    key: &'a KeyRef,
    settings: &'a Settings,
    http: &'a Client,
) -> Connecting<'a> {
    Box::pin(async move { signing(key, settings, http).await.map(|key| Box::new(key) as _) })
}

async fn signing(key: &KeyRef, settings: &Settings, http: &Client) -> Result<KmsSigningKey, KeyError> {
    let kms = Kms::new(key, settings, http)?;
    let found: PublicKey = kms.ask("GetPublicKey", &json!({"KeyId": kms.id()})).await?;
    kms.check(&found.key_id)?;
    let refuse = |reason: String| KeyError::Sign { key: key.clone(), reason };
    let is = (found.key_spec.as_str(), found.key_usage.as_str());
    if is != ("ECC_NIST_P256", "SIGN_VERIFY") {
        let found = rest::readable(&format!("{} for {}", is.0, is.1));
        return Err(refuse(format!(
            "expected a key of the spec ECC_NIST_P256 for SIGN_VERIFY, found {found}"
        )));
    }
    let public_key = STANDARD.decode(&found.public_key).ok().filter(|der| public_key(der).is_some());
    let public_key = public_key.ok_or_else(|| refuse("its public key is none of P-256".to_owned()))?;
    Ok(KmsSigningKey { kms, public_key })
}

fn public_key(der: &[u8]) -> Option<signature::ParsedPublicKey> {
    signature::ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, der).ok()
}

/// Returns where a service of AWS is in a region, or where the environment says.
fn endpoint(
    key: &KeyRef,
    environment: &Environment,
    service: &str,
    region: &str,
) -> Result<ServiceUrl, KeyError> {
    let own = format!("AWS_ENDPOINT_URL_{service}");
    let given =
        [own.as_str(), "AWS_ENDPOINT_URL"].into_iter().find_map(|name| Some((name, environment.get(name)?)));
    let (name, url) = match given {
        Some((name, url)) => (name, url.to_owned()),
        None => ("the region", format!("https://{}.{region}.amazonaws.com", service.to_ascii_lowercase())),
    };
    url.parse().map_err(|error: ServiceUrlError| KeyError::Address {
        key: key.clone(),
        reason: format!("the address of AWS ({name}): {error}"),
    })
}

/// Sends what `request` makes until AWS no longer asks for patience, and returns what it did as asked.
async fn until_it_passes(
    key: &KeyRef,
    request: impl Fn() -> Result<Request, KeyError>,
    said: Said,
    secrets: &[&str],
) -> Result<Response, Failure> {
    let mut wait = FIRST_WAIT;
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        let answer = rest::sent(key, request()?).await?;
        let code = if answer.is_success() { None } else { said(&answer) };
        let code = code.as_deref().map(code_of).unwrap_or_default().to_owned();
        if left > 0 && passes(&code) {
            tokio::time::sleep(wait).await;
            wait *= 2;
            continue;
        }
        if let Some(reason) = skew(&code, &answer) {
            return Err(KeyError::Login { key: key.clone(), reason }.into());
        }
        return rest::succeeded(key, answer, said, secrets).map_err(|error| Failure { code, error });
    }
}

/// Writes what AWS says: its code, and what it says beside.
fn coded(code: &str, message: &str) -> String {
    format!("{code}: {message}")
}

/// Returns whether what AWS says is that it passes.
pub(crate) fn passes(said: &str) -> bool {
    PASSING.contains(&code_of(said))
}

/// Returns the code of what AWS says.
fn code_of(said: &str) -> &str {
    said.split_once(':').map_or(said, |(code, _)| code)
}

/// Says that the clocks are apart, where that is why a signature was refused.
fn skew(code: &str, answer: &Response) -> Option<String> {
    if !SIGNATURE.contains(&code) {
        return None;
    }
    let theirs = rfc2822::parse(answer.header("date")?).ok()?.timestamp();
    let ours = Timestamp::now();
    let apart = ours.duration_since(theirs);
    (apart.abs() >= SKEW).then(|| {
        let which = if apart.is_negative() { "behind" } else { "ahead of" };
        format!(
            "the clock of this machine is {} s {which} the clock of AWS, which refuses signatures that are more than 300 s off: it is {ours:.0} here and {theirs:.0} there",
            apart.abs().as_secs()
        )
    })
}

/// Returns what can be done about what AWS says.
pub(crate) fn hint(message: &str) -> Option<&'static str> {
    match code_of(message) {
        "AccessDeniedException" => Some(
            "whoever opens needs a grant for this delivery; to seal takes `kms:Encrypt`, to wrap anew `kms:ReEncryptFrom` and `kms:ReEncryptTo`, to grant `kms:CreateGrant`, `kms:ListGrants` and `kms:RevokeGrant`, to sign `kms:GetPublicKey` and `kms:Sign`, and an alias `kms:DescribeKey`",
        ),
        "AccessDenied" => Some(
            "the trust policy of the role in AWS_ROLE_ARN has to name the issuer of this job's identity, the audience `sts.amazonaws.com` and what the job is",
        ),
        "InvalidIdentityToken" => Some(
            "make an identity provider in IAM for the issuer of this job's identity, with the audience `sts.amazonaws.com`",
        ),
        "ExpiredTokenException" | "ExpiredToken" => {
            Some("get new credentials; a job with an identity gets them by itself where AWS_ROLE_ARN is set")
        }
        "UnrecognizedClientException" | "InvalidSignatureException" | "SignatureDoesNotMatch" => Some(
            "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; credentials that are lent need their AWS_SESSION_TOKEN",
        ),
        _ => None,
    }
}

fn said(answer: &Response) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "__type")]
        code: String,
        #[serde(alias = "Message", default)]
        message: String,
    }
    let Body { code, message } = answer.json().ok()?;
    Some(coded(code.rsplit('#').next()?, &message))
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self { code: String::new(), error }
    }
}

impl From<Failure> for KeyError {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

impl Kms {
    /// Returns what the service calls a grant, with the key that it is on.
    fn grant_reference(&self, id: &str) -> Result<String, KeyError> {
        let good = (1..=128).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let key = self.id().rsplit('/').next().filter(|_| good);
        key.map(|key| format!("key/{key}/grant/{id}"))
            .ok_or_else(|| self.unusable("it holds no id of a grant"))
    }

    fn new(key: &KeyRef, settings: &Settings, http: &Client) -> Result<Self, KeyError> {
        // The grammar of references has checked what stands where.
        let mut parts = key.path().split(':').skip(3).map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        let (region, account, resource) = (part(), part(), part());
        let arn = OnceLock::new();
        if resource.starts_with("key/") {
            let _ = arn.set(key.path().to_owned());
        }
        Ok(Self {
            key: key.clone(),
            address: endpoint(key, &settings.environment, "KMS", &region)?,
            asker: Asker::new(key, &region, settings, http)?,
            http: http.clone(),
            region,
            account,
            arn,
        })
    }

    /// Returns how the key is called in a request: as it was referred to, until its own name is known.
    fn id(&self) -> &str {
        self.arn.get().map_or(self.key.path(), String::as_str)
    }

    /// Refuses an answer of another key.
    fn check(&self, told: &str) -> Result<(), KeyError> {
        let near = self.is_near(told);
        if near && self.arn.get_or_init(|| told.to_owned()) == told {
            return Ok(());
        }
        let reason = format!("expected the key {}, found {}", self.id(), rest::readable(told));
        Err(KeyError::Answer { key: self.key.clone(), reason })
    }

    /// Whether a text is the ARN of a key of the same region and account.
    fn is_near(&self, told: &str) -> bool {
        let prefix = format!("arn:aws:kms:{}:{}:key/", self.region, self.account);
        told.strip_prefix(&prefix).is_some_and(|id| {
            (1..=64).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
    }

    /// Returns the ARN of the key itself, for what takes no alias.
    async fn arn(&self) -> Result<&str, KeyError> {
        if self.arn.get().is_none() {
            let found: Described = self.ask("DescribeKey", &json!({"KeyId": self.id()})).await?;
            self.check(&found.key_metadata.arn)?;
        }
        Ok(self.id())
    }

    async fn ask<T: DeserializeOwned>(&self, operation: &str, body: &Value) -> Result<T, Failure> {
        let answer = self.send(operation, body).await?;
        Ok(answer.json().map_err(|source| rest::failed(&self.key, source))?)
    }

    async fn send(&self, operation: &str, body: &Value) -> Result<Response, Failure> {
        let body = body.to_string().into_bytes();
        let asker = self.asker.credentials().await?;
        let secrets: Vec<&str> =
            std::iter::once(asker.secret_access_key()).chain(asker.session_token()).collect();
        let failed = |error| KeyError::Login {
            key: self.key.clone(),
            reason: format!("the request cannot be signed: {error}"),
        };
        let request = || self.signed(operation, &body, &asker).map_err(failed);
        until_it_passes(&self.key, request, said, &secrets).await
    }

    fn signed(&self, operation: &str, body: &[u8], asker: &Credentials) -> Result<Request, String> {
        let url = self.address.join("");
        let target = format!("TrentService.{operation}");
        let headers = [("content-type", CONTENT_TYPE), ("x-amz-target", &target)];
        let identity = asker.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("kms")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| error.to_string())?
            .into();
        // Its digest alone: the body of Encrypt is a data key, and what signs can be told to log bodies.
        let digest = SignableBody::Precomputed(Sha256::of(body).to_string());
        let request = SignableRequest::new("POST", url.as_str(), headers.into_iter(), digest)
            .and_then(|request| sign(request, &parameters))
            .map_err(|error| error.to_string())?;
        let (instructions, _) = request.into_parts();
        let signed =
            self.http.post(url).header("x-amz-target", &target).body(body.to_vec().into(), CONTENT_TYPE);
        Ok(instructions.headers().fold(signed, |request, (name, value)| request.header(name, value)))
    }

    fn unusable(&self, reason: &str) -> KeyError {
        KeyError::Answer { key: self.key.clone(), reason: reason.to_owned() }
    }

    /// Returns a wrapped key if it can be one, and so nothing that was never wrapped.
    fn wrapped(&self, text: String) -> Result<WrappedKey, KeyError> {
        if bytes_of(&text).is_none() {
            return Err(self.unusable("it holds no wrapped key"));
        }
        // Which one, where the reference does not say: an alias may name another key tomorrow.
        let key = self.arn.get().filter(|arn| *arn != self.key.path());
        let version = key.and_then(|arn| arn.rsplit('/').next()).map(str::to_owned);
        Ok(WrappedKey { text, version })
    }

    /// Turns AWS's words for "not this key, or not this context" into ours.
    fn refusal(&self, failure: Failure) -> KeyError {
        match failure.code.as_str() {
            "InvalidCiphertextException" | "IncorrectKeyException" => self.refused(),
            _ => failure.error,
        }
    }

    fn refused(&self) -> KeyError {
        KeyError::Refused(self.key.clone())
    }

    /// Lists every grant of the key.
    async fn all(&self) -> Result<Vec<Grant>, KeyError> {
        let arn = self.arn().await?;
        let mut body = json!({"KeyId": arn, "Limit": PAGE});
        let mut grants = Vec::new();
        for _ in 0..MAX_PAGES {
            let page: Page = self.ask("ListGrants", &body).await?;
            grants.extend(page.grants);
            match page.next_marker.filter(|_| page.truncated) {
                Some(marker) => body["Marker"] = marker.into(),
                None => return Ok(grants),
            }
        }
        Err(self.unusable("its list of grants has no end"))
    }

    async fn revoke_one(&self, grant: &Grant) -> Result<bool, KeyError> {
        let body = json!({"KeyId": self.arn().await?, "GrantId": grant.grant_id});
        match self.send("RevokeGrant", &body).await {
            Ok(_) => Ok(true),
            // Somebody else did it meanwhile.
            Err(Failure { code, .. }) if GONE.contains(&code.as_str()) => Ok(false),
            Err(failure) => Err(failure.error),
        }
    }
}

impl Grant {
    /// Whether the grantee opens with it what is bound to `context`, and perhaps more.
    fn opens(&self, context: &KeyContext) -> bool {
        let (equals, subset) = self.constraints();
        let context = folded(context);
        self.operations.iter().any(|operation| OPENING.contains(&operation.as_str()))
            && equals.is_none_or(|equals| folded(equals) == context)
            && subset.is_none_or(|subset| {
                folded(subset).iter().all(|(name, value)| context.get(name) == Some(value))
            })
    }

    /// Whether it opens that, and nothing that is bound to something else.
    fn opens_alone(&self, context: &KeyContext) -> bool {
        self.constraints().0.is_some() && self.opens(context)
    }

    fn constraints(&self) -> (Option<&KeyContext>, Option<&KeyContext>) {
        let constraints = self.constraints.as_ref();
        (
            constraints.and_then(|it| it.encryption_context_equals.as_ref()),
            constraints.and_then(|it| it.encryption_context_subset.as_ref()),
        )
    }
}

/// AWS compares the names in a grant's context without regard to case, and their values as they are.
fn folded(context: &KeyContext) -> KeyContext {
    context.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
}

/// Returns the start of the names of all grants on a delivery. A name takes no dot, which an id may have, but a colon,
/// which an id may not.
fn grants_of(bundle: &BundleId) -> String {
    format!("{GRANT_PREFIX}/{}/", bundle.as_str().replace('.', ":"))
}

/// Returns the name of a grant, which is the same each time: AWS makes one grant of one name, however often it is asked.
fn grant_name(bundle: &BundleId, grantee: &Grantee) -> String {
    format!("{}{}", grants_of(bundle), Sha256::of(canonical(&[bundle.as_str(), grantee.as_str()])))
}

/// Whether a grantee can be one: the ARN of a role, a user or an account.
fn is_principal(grantee: &Grantee) -> bool {
    let parts: Vec<&str> = grantee.as_str().splitn(6, ':').collect();
    let ["arn", "aws", service, "", account, resource] = parts.as_slice() else { return false };
    let account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    account && ["iam", "sts"].contains(service) && !resource.is_empty() && !resource.contains('*')
}

/// Whether a principal hands on to a grantee what it may: the whole account that it is in, or the role whose session it is.
fn includes(principal: &str, grantee: &Grantee) -> bool {
    let parts: Vec<&str> = grantee.as_str().splitn(6, ':').collect();
    let [_, _, service, _, account, resource] = parts.as_slice() else { return false };
    let Some(own) = principal.strip_prefix(&format!("arn:aws:iam::{account}:")) else { return false };
    let role = resource.strip_prefix("assumed-role/").filter(|_| *service == "sts");
    // A session is named without the path of its role.
    let is_role =
        own.starts_with("role/") && own.rsplit('/').next() == role.and_then(|role| role.split('/').next());
    own == "root" || is_role
}

/// Returns the bytes of a wrapped key.
fn bytes_of(wrapped: &str) -> Option<Vec<u8>> {
    let long = MIN_WRAPPED_BYTES..=MAX_WRAPPED_BYTES;
    STANDARD.decode(wrapped).ok().filter(|bytes| long.contains(&bytes.len()))
}

#[async_trait]
impl KeyService for Kms {
    async fn wrap(&self, key: &DataKey, context: &KeyContext) -> Result<WrappedKey, KeyError> {
        let plaintext = Zeroizing::new(STANDARD.encode(key.reveal()));
        let body = json!({"KeyId": self.id(), "Plaintext": *plaintext, "EncryptionContext": context});
        let made: Encrypted = self.ask("Encrypt", &body).await?;
        self.check(&made.key_id)?;
        self.wrapped(made.ciphertext_blob)
    }

    async fn unwrap(&self, wrapped: &str, context: &KeyContext) -> Result<DataKey, KeyError> {
        if bytes_of(wrapped).is_none() {
            return Err(self.refused());
        }
        // With the key named, AWS refuses what a stranger wrapped with a key of his own.
        let body = json!({"KeyId": self.id(), "CiphertextBlob": wrapped, "EncryptionContext": context});
        let opened: Decrypted = self.ask("Decrypt", &body).await.map_err(|failure| self.refusal(failure))?;
        let text = Zeroizing::new(opened.plaintext);
        self.check(&opened.key_id)?;
        let bytes = STANDARD.decode(text.as_bytes()).map(Zeroizing::new);
        rest::data_key(&self.key, &bytes.map_err(|_| self.unusable("it holds no data key"))?)
    }

    async fn rewrap(&self, wrapped: &str, context: &KeyContext) -> Result<WrappedKey, KeyError> {
        if bytes_of(wrapped).is_none() {
            return Err(self.refused());
        }
        let mut body = json!({
            "CiphertextBlob": wrapped,
            "SourceEncryptionContext": context,
            "DestinationKeyId": self.id(),
            "DestinationEncryptionContext": context,
        });
        let whole = self.key.path().contains(":key/");
        // What was wrapped through an alias may be wrapped with the key that it named then.
        if whole {
            body["SourceKeyId"] = self.id().into();
        }
        let made: ReEncrypted =
            self.ask("ReEncrypt", &body).await.map_err(|failure| self.refusal(failure))?;
        self.check(&made.key_id)?;
        if whole {
            self.check(&made.source_key_id)?;
        } else if !self.is_near(&made.source_key_id) {
            return Err(self.unusable("it was wrapped with a key of another region or account"));
        }
        self.wrapped(made.ciphertext_blob)
    }

    fn limits(&self) -> GrantLimits {
        GrantLimits {
            one_bundle: true,
            expires: false,
            says: "AWS KMS lets the grantee unwrap this delivery alone, and knows no end of a grant: it holds until `revoke-grant`",
        }
    }

    async fn grant(&self, terms: &GrantTerms<'_>) -> Result<GrantMaterialization, KeyError> {
        let refuse = |reason: &str| KeyError::Grant { key: self.key.clone(), reason: reason.to_owned() };
        if !is_principal(terms.grantee) {
            return Err(refuse(
                "expected the ARN of the grantee, such as `arn:aws:iam::123456789012:role/acme`",
            ));
        }
        // Attack: a grant without a context opens every delivery of the key.
        if terms.context.is_empty() {
            return Err(refuse("there is no context that would bind it to the delivery"));
        }
        let arn = self.arn().await?;
        let body = json!({
            "KeyId": arn,
            "GranteePrincipal": terms.grantee,
            "Operations": [GRANTED],
            "Constraints": {"EncryptionContextEquals": terms.context},
            "Name": grant_name(terms.bundle, terms.grantee),
        });
        let made: Granted = self.ask("CreateGrant", &body).await?;
        Ok(materialized(&self.key, "CreateGrant", self.grant_reference(&made.grant_id)?, terms.now))
    }

    async fn grants(&self, bundle: &BundleId, context: &KeyContext) -> Result<Vec<FoundGrant>, KeyError> {
        let prefix = grants_of(bundle);
        let ours = |grant: &Grant| grant.name.as_ref().is_some_and(|name| name.starts_with(&prefix));
        let found = self.all().await?.into_iter().filter(|grant| grant.opens(context) || ours(grant));
        found
            .map(|grant| {
                Ok(FoundGrant {
                    reference: self.grant_reference(&grant.grant_id)?,
                    grantee: grant.grantee_principal.and_then(|grantee| grantee.parse().ok()),
                    expires_at: None,
                })
            })
            .collect()
    }

    async fn revoke(&self, terms: &GrantTerms<'_>) -> Result<Revoked, KeyError> {
        let name = grant_name(terms.bundle, terms.grantee);
        let mut revoked = Revoked::default();
        for grant in self.all().await? {
            // Also one that somebody else gave on the same; but not one on more, which was given for that.
            let principal = grant.grantee_principal.as_deref().unwrap_or_default();
            let same = principal == terms.grantee.as_str();
            if grant.name.as_ref() == Some(&name) || same && grant.opens_alone(terms.context) {
                revoked.was |= self.revoke_one(&grant).await?;
            } else if grant.opens(terms.context) && (same || includes(principal, terms.grantee)) {
                let reference = self.grant_reference(&grant.grant_id)?;
                let to = if same { String::new() } else { format!(" to {}", rest::readable(principal)) };
                revoked.still.push(format!("{reference}{to}, which is for more than this delivery"));
            }
        }
        Ok(revoked)
    }
}

#[async_trait]
impl SigningKey for KmsSigningKey {
    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    async fn sign(&self, message: &Sha256) -> Result<Vec<u8>, KeyError> {
        let kms = &self.kms;
        let body = json!({
            "KeyId": kms.id(),
            "Message": STANDARD.encode(message.as_bytes()),
            "MessageType": "DIGEST",
            "SigningAlgorithm": "ECDSA_SHA_256",
        });
        let signed: Signed = kms.ask("Sign", &body).await?;
        kms.check(&signed.key_id)?;
        let digest = digest::Digest::import_less_safe(message.as_bytes(), &digest::SHA256).ok();
        let signature = STANDARD.decode(&signed.signature).ok().filter(|signature| {
            let key = public_key(&self.public_key);
            key.zip(digest).is_some_and(|(key, digest)| key.verify_digest_sig(&digest, signature).is_ok())
        });
        signature.ok_or_else(|| KeyError::Sign {
            key: kms.key.clone(),
            reason: "what the service signed does not verify with its public key".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack: a session is granted and taken back, and its role was granted before.
    #[test]
    fn who_has_what_another_may_is_seen() {
        let session = "arn:aws:sts::123456789012:assumed-role/Deploy/job-7";
        let role = "arn:aws:iam::123456789012:role/Deploy";
        for (principal, grantee, expected) in [
            (role, session, true),
            ("arn:aws:iam::123456789012:role/a/path/Deploy", session, true),
            ("arn:aws:iam::123456789012:root", session, true),
            ("arn:aws:iam::123456789012:root", role, true),
            ("arn:aws:iam::210987654321:role/Deploy", session, false),
            ("arn:aws:iam::210987654321:root", role, false),
            ("arn:aws:iam::123456789012:role/Deploy2", session, false),
            ("arn:aws:iam::123456789012:role/job-7", session, false),
            ("arn:aws:iam::123456789012:user/Deploy", session, false),
            ("arn:aws:iam::123456789012:role/a/path/Deploy", role, false),
            ("", role, false),
        ] {
            let grantee = grantee.parse().expect("grantee");
            assert_eq!(includes(principal, &grantee), expected, "{principal} for {grantee}");
        }
    }
}
