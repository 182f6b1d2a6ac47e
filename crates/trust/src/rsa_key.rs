//! An RSA key that signs with RS256 (RFC 7518 section 3.3).

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    error::Unspecified,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use protected_model::digest::Sha256;
use serde_json::{Value, json};

use crate::{compact, private_file::KeyFileError};

/// A private key. It has no `Debug`.
pub(crate) struct RsaKey {
    modulus: String,
    exponent: String,
    spki: Vec<u8>,
    signing: RsaKeyPair,
}

impl RsaKey {
    /// Makes a key, and returns it in PKCS #8 as well.
    pub(crate) fn generate() -> Result<(Self, Vec<u8>), KeyFileError> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyFileError::Generate)?;
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyFileError::Generate)?;
        let pkcs8 = pkcs8.as_ref().to_vec();
        Ok((Self::of(pair).map_err(|_| KeyFileError::Generate)?, pkcs8))
    }

    /// Reads PKCS #8 (RFC 5208).
    pub(crate) fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        Self::of(RsaKeyPair::from_pkcs8(pkcs8).ok()?).ok()
    }

    fn of(signing: RsaKeyPair) -> Result<Self, Unspecified> {
        let number = |number: &[u8]| URL_SAFE_NO_PAD.encode(number);
        let public = signing.public_key();
        let spki: PublicKeyX509Der<'_> = public.as_der()?;
        Ok(Self {
            modulus: number(public.modulus().big_endian_without_leading_zero()),
            exponent: number(public.exponent().big_endian_without_leading_zero()),
            spki: spki.as_ref().to_vec(),
            signing,
        })
    }

    /// Returns the `SubjectPublicKeyInfo` in DER.
    pub(crate) fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Returns the thumbprint of the public key (RFC 7638 section 3.2).
    pub(crate) fn thumbprint(&self) -> String {
        let members = format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, self.exponent, self.modulus);
        URL_SAFE_NO_PAD.encode(Sha256::of(members).as_bytes())
    }

    /// Returns the public key as a JWK (RFC 7517) under `id`.
    pub(crate) fn jwk(&self, id: &str) -> Value {
        let (n, e) = (&self.modulus, &self.exponent);
        json!({"kty": "RSA", "n": n, "e": e, "kid": id, "alg": "RS256", "use": "sig"})
    }

    /// Signs a token whose header says RS256.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> Result<String, Unspecified> {
        compact::write(header, claims, |message| {
            let mut signature = vec![0; self.signing.public_modulus_len()];
            let random = SystemRandom::new();
            self.signing.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature)?;
            Ok(signature)
        })
    }
}
