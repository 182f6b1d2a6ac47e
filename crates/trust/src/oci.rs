//! Tokens for a Docker registry: RS256, and the certificate of the key travels with each.
//!
//! A registry (distribution 2 and 3) is given one certificate, reads it when it starts, and takes every token whose key
//! that certificate vouches for. So a new key takes over without anybody touching the registry.

use aws_lc_rs::error::Unspecified;
use base64::{Engine, engine::general_purpose::STANDARD};
use data_encoding::BASE32_NOPAD;
use jiff::Timestamp;
use protected_model::{
    claims::{OCI_SECONDS, OCI_TOKEN_TYPE, OciClaims},
    digest::Sha256,
};
use serde_json::{Value, json};

use crate::{
    compact,
    key::KeySet,
    mint::{Expect, SignError, TokenError, acceptable, bounded, signed_claims},
    private_file::KeyFileError,
    rsa_key::RsaKey,
};

/// How long the public half of a key is still listed after another one took over, in seconds: until the last token
/// that it signed is over, by a registry's clock and its leeway of a minute.
pub const OVERLAP_SECONDS: u64 = OCI_SECONDS + 2 * 60;

/// A key that signs tokens for a Docker registry. It has no `Debug`.
pub struct OciKey {
    id: String,
    key: RsaKey,
}

impl OciKey {
    /// Makes a key, and returns it in PKCS #8 as well.
    ///
    /// # Errors
    /// When none can be made.
    pub fn generate() -> Result<(Self, Vec<u8>), KeyFileError> {
        let (key, pkcs8) = RsaKey::generate()?;
        Ok((Self::new(key), pkcs8))
    }

    /// Reads a key in PKCS #8.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        RsaKey::from_pkcs8(pkcs8).map(Self::new)
    }

    fn new(key: RsaKey) -> Self {
        Self { id: fingerprint(key.spki()), key }
    }

    /// Returns the `SubjectPublicKeyInfo` in DER.
    pub fn spki(&self) -> &[u8] {
        self.key.spki()
    }

    /// Returns the public key as a JWK, with its certificate (RFC 7517 section 4.7).
    pub fn jwk(&self, certificate: &[u8]) -> Value {
        let mut jwk = self.key.jwk(&self.id);
        jwk["x5c"] = json!([STANDARD.encode(certificate)]);
        jwk
    }

    /// Signs claims, if they are ones that such a token may have. `certificate` is this key's, in DER.
    ///
    /// # Errors
    /// When a claim is missing, when it would live longer than it may, or when it would be too large.
    pub fn sign(&self, certificate: &[u8], claims: &OciClaims) -> Result<String, SignError> {
        let claims = acceptable(claims, |_| Ok(OCI_SECONDS))?;
        let x5c = [STANDARD.encode(certificate)];
        let header = json!({"alg": "RS256", "typ": OCI_TOKEN_TYPE, "kid": self.id, "x5c": x5c});
        bounded(self.key.sign(&header, &claims).map_err(|Unspecified| SignError::Key)?)
    }
}

/// Verifies a token that a key of `keys` signed, and returns its claims.
///
/// # Errors
/// When it is not such a token, or not now.
pub fn verify(
    token: &str,
    keys: &KeySet,
    expect: Expect<'_>,
    now: Timestamp,
) -> Result<OciClaims, TokenError> {
    let unverified = compact::parse(token).map_err(|error| TokenError::Malformed(error.to_string()))?;
    let header = &unverified.unverified_header;
    let text = |member| header.get(member).and_then(Value::as_str);
    // The key is looked up among ours by its id. Attack: a certificate or a key that the token itself brings.
    let key = text("kid").and_then(|id| keys.get(id)).ok_or(TokenError::NotOurs)?;
    if header.contains_key("crit")
        || text("alg") != Some(key.algorithm())
        || !key.verifies(unverified.message, &unverified.signature)
    {
        return Err(TokenError::NotOurs);
    }
    signed_claims(unverified, expect, |_| Ok(OCI_SECONDS), now)
}

/// Returns the fingerprint by which libtrust, and so distribution 2, knows a key: 240 bits of the SHA-256 of its
/// `SubjectPublicKeyInfo` in base32, in groups of four.
fn fingerprint(spki: &[u8]) -> String {
    let text = BASE32_NOPAD.encode(&Sha256::of(spki).as_bytes()[..30]);
    let groups: Vec<_> = text.as_bytes().chunks(4).map(String::from_utf8_lossy).collect();
    groups.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_libtrusts() {
        // Computed with Python's hashlib and base64.
        let expected = "N7XM:ZDAW:YVKR:3H7L:H227:O7RN:U5Z3:62F5:T344:KKJH:Z2ZM:Q3SW";
        assert_eq!(fingerprint(b"spki"), expected);
    }
}
