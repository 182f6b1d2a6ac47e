//! An issuer of ID tokens on this machine, in place of a CI platform's.

use std::path::Path;

use protected_model::secret::IdToken;
use serde_json::{Value, json};

use crate::{issuer::StaticKeys, key::KeySet, mint::KeyFileError, private_file, rsa_key::RsaKey};

/// Where the key is, in the folder: PKCS #8.
const FILE: &str = "local-issuer.pk8";

/// Signs ID tokens as a CI platform does: RS256, with a key that outlives the process.
pub struct LocalIssuer {
    id: String,
    key: RsaKey,
}

/// The key does not sign.
#[derive(Debug, thiserror::Error)]
#[error("the local issuer's key cannot sign")]
pub struct LocalSignError;

impl LocalIssuer {
    /// Reads the key of a folder, and makes the folder and the key where there is none.
    ///
    /// # Errors
    /// When it cannot be read or kept, or others may read it.
    pub fn load_or_create(folder: &Path) -> Result<Self, KeyFileError> {
        private_file::folder(folder)?;
        let file = folder.join(FILE);
        let key = match private_file::read(&file)? {
            Some(pkcs8) => RsaKey::from_pkcs8(&pkcs8)
                .ok_or(KeyFileError::Content { path: file, reason: "it is not an RSA key in PKCS #8" })?,
            None => {
                let (key, pkcs8) = RsaKey::generate()?;
                private_file::write(&file, &pkcs8)?;
                key
            }
        };
        Ok(Self { id: key.thumbprint(), key })
    }

    /// Signs claims, whatever they say.
    ///
    /// # Errors
    /// When the key does not sign.
    pub fn sign(&self, claims: &Value) -> Result<IdToken, LocalSignError> {
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.id});
        self.key.sign(&header, claims).map(IdToken::new).map_err(|_| LocalSignError)
    }

    /// Returns the public key (RFC 7517 section 5).
    pub fn jwks(&self) -> Value {
        json!({ "keys": [self.key.jwk(&self.id)] })
    }

    /// Returns the public key for [`Jwks::Static`](crate::issuer::Jwks::Static).
    pub fn static_keys(&self) -> StaticKeys {
        // A key that was just made or read is one that can be used.
        StaticKeys(KeySet::from_jwks(&self.jwks()).unwrap_or_default())
    }

    /// Returns the discovery document (OpenID Connect Discovery 1.0 section 3) of an issuer whose keys are at
    /// `jwks_uri`.
    pub fn discovery(&self, issuer: &str, jwks_uri: &str) -> Value {
        json!({
            "issuer": issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        })
    }
}
