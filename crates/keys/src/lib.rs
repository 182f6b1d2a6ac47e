//! Key services: they wrap the data key of a bundle, unwrap it for who may open it, grant that, and sign. One file each.
//!
//! The key never leaves its service. Where a key cannot be used, that is an error: a bundle is never left unsealed
//! instead, and a package never unsigned.

mod aws_kms;
mod azure_key_vault;
mod gcp_kms;
mod local_file;
mod openbao;
mod rest;

use std::{collections::BTreeMap, future::Future, path::PathBuf, pin::Pin, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use protected_bundle::DataKey;
use protected_http::{Client, HttpError};
use protected_model::{
    api::delivery::{GrantMaterialization, Grantee},
    digest::Sha256,
    environment::Environment,
    hint::Hint,
    integrity::canonical,
    key_ref::{KeyProvider, KeyRef},
    name::BundleId,
    secret::IdToken,
};

pub use openbao::transit_context;

/// Every key service: how to wrap with it, and how to sign with it.
fn service(provider: KeyProvider) -> (Connect, ConnectToSign) {
    match provider {
        KeyProvider::LocalFile => (local_file::connect, local_file::connect_to_sign),
        KeyProvider::OpenBao => (openbao::connect, openbao::connect_to_sign),
        KeyProvider::AwsKms => (aws_kms::connect, aws_kms::connect_to_sign),
        KeyProvider::GcpKms => (gcp_kms::connect, gcp_kms::connect_to_sign),
        KeyProvider::AzureKeyVault => (azure_key_vault::connect, azure_key_vault::connect_to_sign),
    }
}

type Connect = fn(&KeyRef, &Settings, &Client) -> Result<Box<dyn KeyService>, KeyError>;
type ConnectToSign = for<'a> fn(&'a KeyRef, &'a Settings, &'a Client) -> Connecting<'a>;
type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn SigningKey>, KeyError>> + Send + 'a>>;

/// What a wrapping is bound to: who unwraps says the same, or gets nothing.
pub type KeyContext = BTreeMap<String, String>;

/// Where key services are found, and who asks them. A reference never says so.
#[derive(Clone, Default)]
pub struct Settings {
    /// The folder of `local-file://` keys.
    pub local_folder: Option<PathBuf>,
    /// Whether a local key may be used: not in CI, unless asked for.
    pub local_allowed: bool,
    /// The variables in which each provider's own client finds its service and credentials.
    pub environment: Environment,
    /// The CI identity, where a job has one: who has no credential in the environment logs in with it.
    pub id_tokens: Option<Arc<dyn IdTokens>>,
}

/// The identity of the job that runs, as ID tokens for whom it is shown to.
#[async_trait]
pub trait IdTokens: Send + Sync {
    /// Returns an ID token for `audience`.
    ///
    /// # Errors
    /// In words, when the platform gives none.
    async fn id_token(&self, audience: &str) -> Result<IdToken, String>;
}

/// A data key as its service wrapped it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// The wrapped key, in the service's own writing or base64.
    pub text: String,
    /// What the service says of the version of its key, where it does.
    pub version: Option<String>,
}

/// Who is to open what, and until when.
#[derive(Clone, Copy, Debug)]
pub struct GrantTerms<'a> {
    /// The delivery.
    pub bundle: &'a BundleId,
    /// What its data key is bound to.
    pub context: &'a KeyContext,
    /// Who may unwrap it, in the words of the service.
    pub grantee: &'a Grantee,
    /// When that ends.
    pub expires_at: Option<Timestamp>,
    /// What time it is.
    pub now: Timestamp,
}

/// What a service has on a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundGrant {
    /// What the service calls it.
    pub reference: String,
    /// Who may unwrap, where the service tells.
    pub grantee: Option<Grantee>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// What became of a grant that was to be taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    /// Whether there was one.
    pub was: bool,
    /// What else lets the grantee unwrap the delivery, as far as the service shows it: other grants, and wider ones.
    ///
    /// Attack: who is told that a grant is taken back takes the delivery for closed.
    pub still: Vec<String>,
}

/// To what a service can hold a grantee. Said to whoever grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantLimits {
    /// Whether the grant opens this delivery alone, and not all that is wrapped with the key.
    pub one_bundle: bool,
    /// Whether the service ends it at its time.
    pub expires: bool,
    /// The same in a sentence, with what follows from it.
    pub says: &'static str,
}

/// A service that holds a key and never lets it out.
#[async_trait]
pub trait KeyService: Send + Sync {
    /// Wraps `key`, bound to `context`.
    async fn wrap(&self, key: &DataKey, context: &KeyContext) -> Result<WrappedKey, KeyError>;

    /// Unwraps the text of what [`Self::wrap`] made with the same `context`.
    async fn unwrap(&self, wrapped: &str, context: &KeyContext) -> Result<DataKey, KeyError>;

    /// Wraps the same data key anew, with the key as it is now, and leaves what is sealed as it is.
    async fn rewrap(&self, wrapped: &str, context: &KeyContext) -> Result<WrappedKey, KeyError> {
        let key = self.unwrap(wrapped, context).await?;
        self.wrap(&key, context).await
    }

    /// Returns to what a grant of this service can hold its grantee.
    fn limits(&self) -> GrantLimits;

    /// Lets the grantee unwrap, and nothing else. The same terms again change nothing and answer alike.
    async fn grant(&self, terms: &GrantTerms<'_>) -> Result<GrantMaterialization, KeyError>;

    /// Lists what the service has on a delivery, also what nobody recorded.
    async fn grants(&self, bundle: &BundleId, context: &KeyContext) -> Result<Vec<FoundGrant>, KeyError>;

    /// Takes a grant back, and nothing that was given for something else as well.
    async fn revoke(&self, terms: &GrantTerms<'_>) -> Result<Revoked, KeyError>;
}

/// A private key that signs in its service: ECDSA on P-256 with SHA-256.
#[async_trait]
pub trait SigningKey: Send + Sync {
    /// Returns the public key: DER, SubjectPublicKeyInfo (RFC 5280 section 4.1).
    fn public_key(&self) -> &[u8];

    /// Signs a message by its digest: DER, Ecdsa-Sig-Value (RFC 3279 section 2.2.3).
    async fn sign(&self, digest: &Sha256) -> Result<Vec<u8>, KeyError>;
}

/// Why a key service did not do as asked. Holds no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Nothing says where the service is, or who asks it.
    #[error("nothing says {what} for the key `{key}`")]
    NotConfigured {
        /// The key.
        key: KeyRef,
        /// What is missing.
        what: &'static str,
        /// How it is given.
        hint: &'static str,
    },
    /// The address of the service cannot be used.
    #[error("the key `{key}` cannot be used: {reason}")]
    Address {
        /// The key.
        key: KeyRef,
        /// Why.
        reason: String,
    },
    /// The service did not answer.
    #[error("asking the service of the key `{key}`")]
    Http {
        /// The key.
        key: KeyRef,
        /// What happened.
        #[source]
        source: Box<HttpError>,
    },
    /// The service said no.
    #[error("the service of the key `{key}` answered {status} to {request}{}", rest::repeated(.message.as_deref()))]
    Service {
        /// The key.
        key: KeyRef,
        /// What was asked.
        request: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        message: Option<String>,
    },
    /// What the service has or answered is not what is needed.
    #[error("the key `{key}` cannot sign: {reason}")]
    Sign {
        /// The key.
        key: KeyRef,
        /// Why.
        reason: String,
    },
    /// A key in a file is refused here.
    #[error("the key `{0}` is a file on this machine, which is refused in CI")]
    LocalInCi(KeyRef),
    /// Nothing says where the files of keys are.
    #[error("nothing says in which folder the key `{0}` is")]
    NoFolder(KeyRef),
    /// The file cannot be used.
    #[error("the key `{key}` cannot be read from `{}`: {reason}", path.display())]
    File {
        /// The key.
        key: KeyRef,
        /// Its file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The service refused to unwrap, for key or context are others.
    #[error(
        "the key `{0}` does not open this data key: it was wrapped with another key, or for another bundle"
    )]
    Refused(KeyRef),
    /// The service knows no grants.
    #[error("the key `{key}` knows no grants: {reason}")]
    NoGrants {
        /// The key.
        key: KeyRef,
        /// What that means.
        reason: &'static str,
    },
    /// A grant cannot be given, listed or taken back as it was asked for.
    #[error("a grant on the key `{key}`: {reason}")]
    Grant {
        /// The key.
        key: KeyRef,
        /// Why.
        reason: String,
    },
    /// Nobody is logged in to the service.
    #[error("logging in to the service of the key `{key}`: {reason}")]
    Login {
        /// The key.
        key: KeyRef,
        /// Why.
        reason: String,
    },
    /// The answer is not the answer to what was asked.
    #[error("the service of the key `{key}` gave an answer that is not used: {reason}")]
    Answer {
        /// The key.
        key: KeyRef,
        /// What is wrong with it.
        reason: String,
    },
    /// The wrapping failed.
    #[error("the key `{key}` cannot wrap the data key: {reason}")]
    Wrap {
        /// The key.
        key: KeyRef,
        /// Why.
        reason: String,
    },
}

impl KeyError {
    /// Returns whether the same may go better later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Http { source, .. } => source.is_transient(),
            Self::Service { status: 408 | 429 | 500.., .. } => true,
            Self::Service { message: Some(message), key, .. } => {
                key.provider() == KeyProvider::AwsKms && aws_kms::passes(message)
            }
            _ => false,
        }
    }

    /// Says what can be done about it.
    pub fn hint(&self) -> Option<Hint> {
        let text = match self {
            Self::NotConfigured { hint, .. } => hint,
            Self::Http { source, .. } => return source.hint(),
            Self::Service { message: Some(message), key, .. } if key.provider() == KeyProvider::AwsKms => {
                aws_kms::hint(message)?
            }
            Self::Service { status: 403, key, .. } if key.provider() == KeyProvider::OpenBao => {
                "the token needs `read` on the key, <mount>/keys/<key>, to sign or to seal, and `update` on <mount>/<what>/<key>: sign, encrypt or rewrap; whoever opens needs a grant for this delivery that has not ended; whoever grants needs sys/policies/acl/delivery-*, identity/group/name/delivery-* and identity/entity/name/*"
            }
            Self::Service { status: 403, key, .. } if key.provider() == KeyProvider::AzureKeyVault => {
                "a role on the key allows it: keys/read and keys/wrap/action to seal, keys/unwrap/action to open, keys/read and keys/sign/action to sign, roleAssignments/* and vaults/read to grant; a new role may take ten minutes to arrive"
            }
            Self::Service { status: 403, key, .. } if key.provider() == KeyProvider::GcpKms => {
                "sealing needs roles/cloudkms.cryptoKeyEncrypter on the key, opening roles/cloudkms.cryptoKeyDecrypter, granting roles/cloudkms.admin, signing roles/cloudkms.signerVerifier; becoming a service account needs roles/iam.workloadIdentityUser on it"
            }
            Self::NoGrants { .. } => {
                "grant without --materialize-grant, and hand over the key's file by a way of your own"
            }
            Self::Service { .. }
            | Self::Sign { .. }
            | Self::Address { .. }
            | Self::Grant { .. }
            | Self::Login { .. }
            | Self::Answer { .. } => return None,
            Self::LocalInCi(_) => {
                "set PROTECTED_REGISTRY_ALLOW_LOCAL_KEY to `true` for a trial; a build that counts is sealed with a key service"
            }
            Self::NoFolder(_) => "set PROTECTED_REGISTRY_KEY_FOLDER",
            Self::File { .. } => {
                "set PROTECTED_REGISTRY_KEY_FOLDER to its folder, or, for what is yet to be sealed, make a new one: (umask 077; mkdir -p <folder>; openssl rand -hex 32 > <folder>/<name>.key)"
            }
            Self::Refused(key) if key.provider() != KeyProvider::LocalFile => return None,
            Self::Refused(_) => {
                "set PROTECTED_REGISTRY_KEY_FOLDER to the folder that holds the key that it was sealed under"
            }
            Self::Wrap { .. } => return None,
        };
        Some(Hint::new(text))
    }
}

/// Connects to the service of `key`.
///
/// # Errors
/// When the service cannot be used here.
pub fn connect(key: &KeyRef, settings: &Settings, http: &Client) -> Result<Box<dyn KeyService>, KeyError> {
    let (connect, _) = service(key.provider());
    connect(key, settings, http)
}

/// Connects to the service of `key` to sign with it.
///
/// # Errors
/// When the service cannot be used here, and when the key is not one that signs.
pub async fn connect_to_sign(
    key: &KeyRef,
    settings: &Settings,
    http: &Client,
) -> Result<Box<dyn SigningKey>, KeyError> {
    let (_, connect) = service(key.provider());
    connect(key, settings, http).await
}

/// Returns what a wrapping is bound to: the SHA-256 of the context's canonical JSON (RFC 8785).
fn bound_to(context: &KeyContext) -> Sha256 {
    Sha256::of(canonical(context))
}

/// Says what was done in a service, as FractalOps records it.
fn materialized(key: &KeyRef, operation: &str, reference: String, now: Timestamp) -> GrantMaterialization {
    GrantMaterialization {
        provider: key.provider(),
        operation: operation.to_owned(),
        reference,
        status: "materialized".to_owned(),
        materialized_at: now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn client() -> Client {
        let environment = protected_model::environment::Environment::default();
        let settings = protected_http::Settings::from_environment(&environment, None, "test");
        settings.and_then(|settings| Client::new(&settings)).expect("client")
    }
}
