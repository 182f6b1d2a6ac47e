//! `azure-keyvault://<vault>/<key>/<version>`: Azure Key Vault.
//!
//! A key that wraps is an RSA key, and wraps by RSA-OAEP with SHA-256, which takes no context: that a wrapping is not
//! carried from one bundle to another is seen by the bundle itself, whose commitment holds its descriptor. A wrapping
//! names the version that made it, so that another version of the key can take it over.
//!
//! A key that signs is an EC key on P-256. It signs digests, so that what is signed stays here.

mod entra;
mod grants;

use async_trait::async_trait;
use aws_lc_rs::{
    digest::{Digest, SHA256},
    encoding::AsDer,
    signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use der::{Encode, Sequence, asn1::UintRef};
use protected_bundle::DataKey;
use protected_http::{Client, Request, Response};
use protected_model::{
    api::delivery::GrantMaterialization,
    digest::Sha256,
    environment::Environment,
    key_ref::KeyRef,
    name::BundleId,
    secret::Secret as _,
    service_url::{ServiceUrl, ServiceUrlError},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use zeroize::Zeroizing;

use self::{entra::Application, grants::Access};
use crate::{
    Connecting, FoundGrant, GrantLimits, GrantTerms, KeyContext, KeyError, KeyService, Revoked, Settings,
    SigningKey, WrappedKey, materialized, rest,
};

/// The version of the vault's API.
const API: &str = "api-version=2025-07-01";
/// How a data key is wrapped, and nothing else is taken for it: RSA-OAEP with SHA-1, or RSA1_5, are what a vault has too.
const WRAPPING: &str = "RSA-OAEP-256";
/// What the shortest key makes of a data key, 2048 bits, and the longest, 4096.
const WRAPPED_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

struct Service {
    reference: KeyRef,
    http: Client,
    application: Application,
    vault: Endpoint,
    /// The resource manager, where the cloud is known or its address given.
    management: Option<Endpoint>,
}

/// A service of Azure, and the token for it.
struct Endpoint {
    url: ServiceUrl,
    /// Whom the token is for: decided by configuration, whatever the service asks for.
    audience: String,
    session: rest::Login,
}

struct WrappingKey {
    service: Service,
    environment: Environment,
}

struct VaultSigningKey {
    service: Service,
    public_key: ParsedPublicKey,
    public_key_der: Vec<u8>,
}

/// A key as the vault shows it.
#[derive(Deserialize)]
struct Shown {
    key: WebKey,
    attributes: Attributes,
}

/// RFC 7517.
#[derive(Deserialize)]
struct WebKey {
    kid: String,
    kty: String,
    #[serde(default)]
    key_ops: Vec<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Attributes {
    #[serde(default = "yes")]
    enabled: bool,
    #[serde(default)]
    exportable: bool,
}

fn yes() -> bool {
    true
}

/// What an operation of a key gives.
#[derive(Deserialize)]
struct Operated {
    kid: String,
    value: String,
}

/// Ecdsa-Sig-Value (RFC 3279 section 2.2.3).
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
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
    let service = service(key, settings, http)?;
    Ok(Box::new(WrappingKey { service, environment: settings.environment.clone() }))
}

fn service(key: &KeyRef, settings: &Settings, http: &Client) -> Result<Service, KeyError> {
    let environment = &settings.environment;
    let application = Application::from_settings(key, settings, http)?;
    let cloud = application.cloud();
    let given = environment.get("PROTECTED_REGISTRY_AZURE_VAULT_SUFFIX");
    let suffix = given.or(cloud.map(|cloud| cloud.vaults)).ok_or(KeyError::NotConfigured {
        key: key.clone(),
        what: "what the names of vaults end with in the cloud of AZURE_AUTHORITY_HOST",
        hint: "set PROTECTED_REGISTRY_AZURE_VAULT_SUFFIX, such as `vault.azure.net`",
    })?;
    if !suffix.split('.').all(|label| !label.is_empty() && label.chars().all(entra::is_plain)) {
        let reason =
            "PROTECTED_REGISTRY_AZURE_VAULT_SUFFIX is no domain such as `vault.azure.net`".to_owned();
        return Err(KeyError::Address { key: key.clone(), reason });
    }
    let (vault, ..) = parts(key);
    let vault = Endpoint {
        url: address(key, environment, "PROTECTED_REGISTRY_AZURE_VAULT_URL", || {
            format!("https://{vault}.{suffix}")
        })?,
        audience: format!("https://{suffix}"),
        session: rest::Login::default(),
    };
    let name = "PROTECTED_REGISTRY_AZURE_MANAGEMENT_URL";
    let management = match cloud.map(|cloud| cloud.management).or(environment.get(name)) {
        None => None,
        Some(usual) => {
            let url = address(key, environment, name, || usual.to_owned())?;
            Some(Endpoint {
                url,
                audience: usual.trim_end_matches('/').to_owned(),
                session: rest::Login::default(),
            })
        }
    };
    Ok(Service { reference: key.clone(), http: http.clone(), application, vault, management })
}

/// Returns the address of a service: as it is given in `name`, or as it is by the rules of the cloud.
fn address(
    key: &KeyRef,
    environment: &Environment,
    name: &str,
    usual: impl FnOnce() -> String,
) -> Result<ServiceUrl, KeyError> {
    let text = environment.get(name).map_or_else(usual, str::to_owned);
    text.parse().map_err(|error: ServiceUrlError| KeyError::Address {
        key: key.clone(),
        reason: format!("the address of Azure ({name}): {error}"),
    })
}

async fn signing(key: &KeyRef, settings: &Settings, http: &Client) -> Result<VaultSigningKey, KeyError> {
    let service = service(key, settings, http)?;
    let found = service.key().await?;
    let refuse = |reason: String| KeyError::Sign { key: key.clone(), reason };
    let curve = found.key.crv.as_deref().unwrap_or("none");
    if !["EC", "EC-HSM"].contains(&found.key.kty.as_str()) || curve != "P-256" {
        let (kind, curve) = (rest::readable(&found.key.kty), rest::readable(curve));
        return Err(refuse(format!("expected a key of type `EC` on `P-256`, found `{kind}` on `{curve}`")));
    }
    if !found.attributes.enabled {
        return Err(refuse("this version of it is disabled".to_owned()));
    }
    if !found.key.key_ops.iter().any(|operation| operation == "sign") {
        return Err(refuse("`sign` is not among its operations".to_owned()));
    }
    let point =
        point(&found.key).and_then(|point| ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok());
    let public_key = point.ok_or_else(|| refuse("its public key is no point on P-256".to_owned()))?;
    let der = public_key.as_der().map_err(|_| refuse("its public key cannot be written".to_owned()))?;
    Ok(VaultSigningKey { service, public_key_der: der.as_ref().to_vec(), public_key })
}

/// Returns the uncompressed point (SEC 1 section 2.3.3) of a public key.
fn point(key: &WebKey) -> Option<Vec<u8>> {
    let mut point = vec![4];
    for coordinate in [key.x.as_ref()?, key.y.as_ref()?] {
        let bytes = URL_SAFE_NO_PAD.decode(coordinate).ok().filter(|bytes| bytes.len() == 32)?;
        point.extend_from_slice(&bytes);
    }
    Some(point)
}

/// Returns vault, key and version, which the grammar of references has checked.
fn parts(key: &KeyRef) -> (&str, &str, &str) {
    let mut parts = key.path().split('/');
    let mut next = || parts.next().unwrap_or_default();
    (next(), next(), next())
}

impl Service {
    /// Returns what the vault calls a version of the key.
    fn name(&self, version: &str) -> String {
        let (_, key, _) = parts(&self.reference);
        self.vault.url.join(&format!("keys/{key}/{version}")).into()
    }

    async fn key(&self) -> Result<Shown, KeyError> {
        let (_, key, version) = parts(&self.reference);
        let url = self.vault.url.join(&format!("keys/{key}/{version}?{API}"));
        let found: Shown = self.json(&self.vault, self.http.get(url)).await?;
        self.is(&found.key.kid, version)?;
        Ok(found)
    }

    async fn operate(
        &self,
        version: &str,
        operation: &str,
        algorithm: &str,
        value: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let (_, key, _) = parts(&self.reference);
        let url = self.vault.url.join(&format!("keys/{key}/{version}/{operation}?{API}"));
        let value = Zeroizing::new(URL_SAFE_NO_PAD.encode(value));
        let request = self.http.post(url).json(&json!({"alg": algorithm, "value": *value}));
        let Operated { kid, value } = self.json(&self.vault, request).await?;
        let value = Zeroizing::new(value);
        self.is(&kid, version)?;
        let bytes = URL_SAFE_NO_PAD.decode(value.as_bytes());
        bytes.map(Zeroizing::new).map_err(|_| self.answer("its value is not base64url".to_owned()))
    }

    /// Refuses the answer of another key.
    fn is(&self, kid: &str, version: &str) -> Result<(), KeyError> {
        let expected = self.name(version);
        if kid.eq_ignore_ascii_case(&expected) {
            return Ok(());
        }
        Err(self.answer(format!("expected one of the key `{expected}`, found `{}`", rest::readable(kid))))
    }

    fn answer(&self, reason: String) -> KeyError {
        KeyError::Answer { key: self.reference.clone(), reason }
    }

    async fn send(&self, endpoint: &Endpoint, request: Request) -> Result<Response, KeyError> {
        let scope = format!("{}/.default", endpoint.audience);
        let token = endpoint.session.token(self.application.token(&scope)).await?;
        let answer = rest::sent(&self.reference, request.bearer(&token)).await?;
        if answer.status == 401 {
            self.challenged(endpoint, answer.header("www-authenticate").unwrap_or_default())?;
        }
        rest::succeeded(&self.reference, answer, entra::said, &[token.reveal()])
    }

    async fn json<T: DeserializeOwned>(&self, endpoint: &Endpoint, request: Request) -> Result<T, KeyError> {
        let answer = self.send(endpoint, request).await?.json();
        answer.map_err(|source| rest::failed(&self.reference, source))
    }

    /// Says what a service that takes no token of ours asks for instead.
    ///
    /// Attack: a vault that asks for a token for another service, or from another authority, would be given what it
    /// can use there. Nothing that it says is followed: a token is for the audience and from the authority of the
    /// configuration, or there is none.
    fn challenged(&self, endpoint: &Endpoint, challenge: &str) -> Result<(), KeyError> {
        let refuse = |reason| Err(KeyError::Login { key: self.reference.clone(), reason });
        let asked = |name| parameter(challenge, name).map(|value| value.trim_end_matches('/'));
        if let Some(asked) = asked("resource").filter(|asked| !asked.eq_ignore_ascii_case(&endpoint.audience))
        {
            return refuse(format!(
                "the service asks for a token for `{}` and is given none: expected `{}`",
                rest::readable(asked),
                endpoint.audience
            ));
        }
        let own = self.application.issuer();
        if let Some(asked) = asked("authorization").filter(|asked| !asked.eq_ignore_ascii_case(&own)) {
            return refuse(format!(
                "the service takes tokens of `{}`, and this one is of `{own}`: see AZURE_TENANT_ID and AZURE_AUTHORITY_HOST",
                rest::readable(asked)
            ));
        }
        Ok(())
    }
}

/// Returns a parameter of a challenge (RFC 9110 section 11.6.1), which a vault writes in quotes.
fn parameter<'a>(challenge: &'a str, name: &str) -> Option<&'a str> {
    let mut parameters = challenge.strip_prefix("Bearer ")?.split(',');
    let value = parameters.find_map(|parameter| parameter.trim().strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches('"'))
}

impl WrappingKey {
    fn access(&self) -> Result<Access<'_>, KeyError> {
        Access::new(&self.service, &self.environment)
    }

    /// Refuses a key that cannot wrap, or that comes out.
    ///
    /// Attack: whoever an `exportable` key is released to opens every bundle, without the vault.
    async fn check(&self) -> Result<(), KeyError> {
        let Shown { key, attributes } = self.service.key().await?;
        let allows = |operation| key.key_ops.iter().any(|allowed| allowed == operation);
        let fault = if !["RSA", "RSA-HSM"].contains(&key.kty.as_str()) {
            "it is no key of type `RSA`"
        } else if !attributes.enabled {
            "this version of it is disabled"
        } else if attributes.exportable {
            "it is `exportable`: whoever it is released to opens every bundle"
        } else if !(allows("wrapKey") && allows("unwrapKey")) {
            "`wrapKey` and `unwrapKey` are not both among its operations"
        } else {
            return Ok(());
        };
        Err(KeyError::Wrap { key: self.service.reference.clone(), reason: fault.to_owned() })
    }

    async fn unwrap_by(&self, version: &str, wrapped: &[u8]) -> Result<DataKey, KeyError> {
        let opened = self.service.operate(version, "unwrapkey", WRAPPING, wrapped).await;
        let bytes = opened.map_err(|error| match error {
            KeyError::Service { status: 400, .. } => KeyError::Refused(self.service.reference.clone()),
            other => other,
        })?;
        rest::data_key(&self.service.reference, &bytes)
    }

    /// Reads what [`Self::wrap_anew`] wrote: the version of the key, and what that version wrapped.
    fn read<'a>(&self, text: &'a str) -> Result<(&'a str, Vec<u8>), KeyError> {
        let parts = text.split_once(':').and_then(|(version, value)| {
            let hex = version.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            let bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
            (version.len() == 32 && hex && WRAPPED_BYTES.contains(&bytes.len())).then_some((version, bytes))
        });
        parts.ok_or_else(|| KeyError::Refused(self.service.reference.clone()))
    }

    async fn wrap_anew(&self, key: &DataKey) -> Result<WrappedKey, KeyError> {
        // Also so that no data key is sent to one that would not keep it.
        self.check().await?;
        let (_, _, version) = parts(&self.service.reference);
        let wrapped = self.service.operate(version, "wrapkey", WRAPPING, key.reveal()).await?;
        if !WRAPPED_BYTES.contains(&wrapped.len()) {
            let reason = format!("a wrapped key of RSA has 256 to 512 bytes, and this one {}", wrapped.len());
            return Err(self.service.answer(reason));
        }
        let text = format!("{version}:{}", URL_SAFE_NO_PAD.encode(&*wrapped));
        Ok(WrappedKey { text, version: Some(version.to_owned()) })
    }
}

#[async_trait]
impl KeyService for WrappingKey {
    async fn wrap(&self, key: &DataKey, _: &KeyContext) -> Result<WrappedKey, KeyError> {
        self.wrap_anew(key).await
    }

    async fn unwrap(&self, wrapped: &str, _: &KeyContext) -> Result<DataKey, KeyError> {
        let (version, wrapped) = self.read(wrapped)?;
        if version != parts(&self.service.reference).2 {
            return Err(KeyError::Refused(self.service.reference.clone()));
        }
        self.unwrap_by(version, &wrapped).await
    }

    /// Also takes what another version of the same key wrapped.
    async fn rewrap(&self, wrapped: &str, _: &KeyContext) -> Result<WrappedKey, KeyError> {
        let (version, wrapped) = self.read(wrapped)?;
        let key = self.unwrap_by(version, &wrapped).await?;
        self.wrap_anew(&key).await
    }

    fn limits(&self) -> GrantLimits {
        GrantLimits {
            one_bundle: false,
            expires: false,
            says: "Azure Key Vault lets the grantee unwrap whatever is wrapped with this key, in all its versions, until the grant is taken back: give each customer a key of its own, and run revoke-grant when the time is over",
        }
    }

    async fn grant(&self, terms: &GrantTerms<'_>) -> Result<GrantMaterialization, KeyError> {
        let assignment = self.access()?.grant(terms.bundle, terms.grantee).await?;
        Ok(materialized(&self.service.reference, "roleAssignments/write", assignment, terms.now))
    }

    async fn grants(&self, bundle: &BundleId, _: &KeyContext) -> Result<Vec<FoundGrant>, KeyError> {
        self.access()?.grants(bundle).await
    }

    async fn revoke(&self, terms: &GrantTerms<'_>) -> Result<Revoked, KeyError> {
        self.access()?.revoke(terms.bundle, terms.grantee).await
    }
}

#[async_trait]
impl SigningKey for VaultSigningKey {
    fn public_key(&self) -> &[u8] {
        &self.public_key_der
    }

    async fn sign(&self, digest: &Sha256) -> Result<Vec<u8>, KeyError> {
        let refuse =
            |reason: &str| KeyError::Sign { key: self.service.reference.clone(), reason: reason.to_owned() };
        let (_, _, version) = parts(&self.service.reference);
        let signature = self.service.operate(version, "sign", "ES256", digest.as_bytes()).await?;
        let digest = Digest::import_less_safe(digest.as_bytes(), &SHA256);
        let digest = digest.map_err(|_| refuse("the cryptography of this program failed"))?;
        self.public_key
            .verify_digest_sig(&digest, &signature)
            .map_err(|_| refuse("what the service answered is no signature by this key"))?;
        let (r, s) = signature.split_at(signature.len() / 2);
        let written = UintRef::new(r).and_then(|r| EcdsaSignature { r, s: UintRef::new(s)? }.to_der());
        written.map_err(|_| refuse("its signature cannot be written"))
    }
}
