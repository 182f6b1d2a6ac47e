//! Key services: they wrap the data key of a bundle, and unwrap it for who may open it. One file each.
//!
//! The key that wraps never leaves its service. A reference to a service that is not in the table is refused: a
//! bundle is never left unsealed instead.

mod local_file;

use std::{collections::BTreeMap, path::PathBuf};

use async_trait::async_trait;
use protected_bundle::DataKey;
use protected_model::{
    hint::Hint,
    key_ref::{KeyProvider, KeyRef},
};

/// Every key service, by the scheme of its references. One without a connection is known and not supported yet.
const SERVICES: &[(KeyProvider, Option<Connect>)] = &[
    (KeyProvider::LocalFile, Some(local_file::connect)),
    (KeyProvider::OpenBao, None),
    (KeyProvider::AwsKms, None),
    (KeyProvider::GcpKms, None),
    (KeyProvider::AzureKeyVault, None),
];

type Connect = fn(&KeyRef, &Settings) -> Result<Box<dyn KeyService>, KeyError>;

/// What a wrapping is bound to: who unwraps says the same, or gets nothing.
pub type KeyContext = BTreeMap<String, String>;

/// Where key services are found. A reference never says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The folder of `local-file://` keys.
    pub local_folder: Option<PathBuf>,
    /// Whether a local key may be used: not in CI, unless asked for.
    pub local_allowed: bool,
}

/// A data key as its service wrapped it, in text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey(pub String);

/// A service that holds a key and never lets it out.
#[async_trait]
pub trait KeyService: Send + Sync {
    /// Wraps `key`, bound to `context`.
    async fn wrap(&self, key: &DataKey, context: &KeyContext) -> Result<WrappedKey, KeyError>;

    /// Unwraps what [`Self::wrap`] made with the same `context`.
    async fn unwrap(&self, wrapped: &WrappedKey, context: &KeyContext) -> Result<DataKey, KeyError>;
}

/// Why a key service did not do as asked. Holds no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The scheme is known and has no provider yet.
    #[error("the key `{0}` cannot be used: {scheme}:// is not supported yet", scheme = .0.provider().scheme())]
    Unsupported(KeyRef),
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
    /// Says what can be done about it.
    pub fn hint(&self) -> Option<Hint> {
        let text = match self {
            Self::Unsupported(_) => "this version opens and seals with local-file:// alone",
            Self::LocalInCi(_) => {
                "set PROTECTED_REGISTRY_ALLOW_LOCAL_KEY to `true` for a trial; a build that counts is sealed with a key service"
            }
            Self::NoFolder(_) => "set PROTECTED_REGISTRY_KEY_FOLDER",
            Self::File { .. } => {
                "set PROTECTED_REGISTRY_KEY_FOLDER to its folder, or make a new one: (umask 077; openssl rand -hex 32 > <folder>/<name>.key)"
            }
            Self::Refused(_) => {
                "set PROTECTED_REGISTRY_KEY_FOLDER to the folder that holds the key of the build"
            }
            Self::Wrap { .. } => return None,
        };
        Some(Hint::new(text))
    }
}

/// Connects to the service of `key`.
///
/// # Errors
/// When the service is not supported yet or cannot be used here.
pub fn connect(key: &KeyRef, settings: &Settings) -> Result<Box<dyn KeyService>, KeyError> {
    let service = SERVICES.iter().find(|(provider, _)| *provider == key.provider());
    match service.and_then(|(_, connect)| *connect) {
        Some(connect) => connect(key, settings),
        None => Err(KeyError::Unsupported(key.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_is_in_the_table() {
        for provider in KeyProvider::ALL {
            assert_eq!(SERVICES.iter().filter(|(listed, _)| *listed == provider).count(), 1);
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_and_says_so() {
        let settings = Settings { local_allowed: true, local_folder: Some(std::env::temp_dir()) };
        for text in [
            "openbao://transit/acme",
            "aws-kms://arn:aws:kms:us-east-1:123456789012:alias/acme",
            "gcp-kms://projects/acme-prod/locations/global/keyRings/r/cryptoKeys/k",
            "azure-keyvault://acme-vault/core/0123456789abcdef0123456789abcdef",
        ] {
            let key: KeyRef = text.parse().expect("reference");
            let error = connect(&key, &settings).err().expect("refused");
            assert!(matches!(error, KeyError::Unsupported(_)));
            let scheme = text.split(':').next().expect("scheme");
            assert!(error.to_string().ends_with(&format!("{scheme}:// is not supported yet")), "{error}");
        }
    }
}
