//! An issuer of ID tokens on this machine, in place of a CI platform's.

use std::path::Path;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use protected_model::{digest::Sha256, secret::IdToken};
use serde_json::{Value, json};

use crate::{compact, issuer::StaticKeys, key::KeySet, mint::KeyFileError, private_file};

/// Where the key is, in the folder: PKCS #8.
const FILE: &str = "local-issuer.pk8";

/// Signs ID tokens as a CI platform does: RS256, with a key that outlives the process.
pub struct LocalIssuer {
    id: String,
    modulus: String,
    exponent: String,
    signing: RsaKeyPair,
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
        let pkcs8 = match private_file::read(&file)? {
            Some(pkcs8) => pkcs8,
            None => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyFileError::Generate)?;
                let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyFileError::Generate)?;
                private_file::write(&file, pkcs8.as_ref())?;
                pkcs8.as_ref().to_vec()
            }
        };
        let refused = |_| KeyFileError::Content { path: file, reason: "it is not an RSA key in PKCS #8" };
        RsaKeyPair::from_pkcs8(&pkcs8).map(Self::new).map_err(refused)
    }

    fn new(signing: RsaKeyPair) -> Self {
        let number = |number: &[u8]| URL_SAFE_NO_PAD.encode(number);
        let public = signing.public_key();
        let modulus = number(public.modulus().big_endian_without_leading_zero());
        let exponent = number(public.exponent().big_endian_without_leading_zero());
        // RFC 7638 section 3.2.
        let members = format!(r#"{{"e":"{exponent}","kty":"RSA","n":"{modulus}"}}"#);
        let id = number(Sha256::of(members).as_bytes());
        Self { id, modulus, exponent, signing }
    }

    /// Signs claims, whatever they say.
    ///
    /// # Errors
    /// When the key does not sign.
    pub fn sign(&self, claims: &Value) -> Result<IdToken, LocalSignError> {
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.id});
        let sign = |message: &str| {
            let mut signature = vec![0; self.signing.public_modulus_len()];
            let signed = self.signing.sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                message.as_bytes(),
                &mut signature,
            );
            signed.map(|()| signature)
        };
        compact::write(&header, claims, sign).map(IdToken::new).map_err(|_| LocalSignError)
    }

    /// Returns the public key (RFC 7517 section 5).
    pub fn jwks(&self) -> Value {
        let (n, e) = (&self.modulus, &self.exponent);
        json!({"keys": [{"kty": "RSA", "n": n, "e": e, "kid": self.id, "alg": "RS256", "use": "sig"}]})
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
