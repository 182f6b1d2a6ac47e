//! A key that verifies signatures, bound to its one algorithm.

use std::{collections::BTreeMap, sync::Arc};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::shown::shown;

/// The shortest RSA modulus that is used, in bits (RFC 7518 section 3.3).
///
/// Attack: a shorter one can be factored, and whoever does signs as that issuer.
pub const MIN_RSA_BITS: usize = 2048;

/// The longest RSA modulus that is used, in bits.
///
/// Attack: verifying takes time with the cube of the length, and whoever owns an issuer chooses it.
const MAX_RSA_BITS: usize = 8192;

/// The longest key id that is used, in bytes.
pub const MAX_KEY_ID_BYTES: usize = 256;

/// The most keys that are taken from one document.
const MAX_KEYS: usize = 128;

/// A public key and the one algorithm that it is for.
///
/// Attack: a key that is used with whatever algorithm the token names turns a public RSA key into the secret of
/// an HMAC.
#[derive(Clone)]
pub struct VerifyingKey(Arc<Inner>);

struct Inner {
    algorithm: &'static str,
    key: ParsedPublicKey,
}

impl VerifyingKey {
    fn new(algorithm: &'static str, key: ParsedPublicKey) -> Self {
        Self(Arc::new(Inner { algorithm, key }))
    }

    /// Wraps an Ed25519 public key, which only our own tokens are signed with.
    pub(crate) fn ed25519(public: &[u8]) -> Option<Self> {
        ParsedPublicKey::new(&ED25519, public).ok().map(|key| Self::new("EdDSA", key))
    }

    /// Reads a key that signs ID tokens (RFC 7517): RSA for RS256, or P-256 for ES256.
    ///
    /// # Errors
    /// Says why it is not one; never repeats it.
    pub fn from_jwk(jwk: &Value) -> Result<Self, &'static str> {
        let text = |name| jwk.get(name).and_then(Value::as_str);
        let number =
            |name| text(name).and_then(|it| URL_SAFE_NO_PAD.decode(it).ok()).ok_or("a part of it is missing");
        if jwk.get("use").is_some_and(|it| it != "sig") {
            return Err("it is not for signatures");
        }
        if let Some(operations) = jwk.get("key_ops")
            && !operations.as_array().is_some_and(|them| them.iter().any(|it| it == "verify"))
        {
            return Err("it is not for verifying");
        }
        if jwk.get("d").is_some() {
            return Err("it is a private key, and so no longer one");
        }
        let is_for = |algorithm: &str| jwk.get("alg").is_none_or(|it| it == algorithm);
        match text("kty") {
            Some("RSA") if is_for("RS256") => rsa(&number("n")?, &number("e")?),
            Some("EC") if is_for("ES256") && text("crv") == Some("P-256") => {
                p256(&number("x")?, &number("y")?)
            }
            _ => Err("it is neither RSA for RS256 nor P-256 for ES256"),
        }
    }

    /// Returns the algorithm as a token's header names it (RFC 7518 section 3.1).
    pub fn algorithm(&self) -> &'static str {
        self.0.algorithm
    }

    /// Returns whether `signature` is this key's for `message`.
    pub(crate) fn verifies(&self, message: &str, signature: &[u8]) -> bool {
        self.0.key.verify_sig(message.as_bytes(), signature).is_ok()
    }
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<VerifyingKey, &'static str> {
    // RFC 7518 section 2 wants the least octets, but the OpenID Connect Provider plugin of Jenkins publishes what
    // `BigInteger.toByteArray` returns, with a leading zero, and no signature verifies with that.
    let modulus = without_leading_zeros(modulus);
    let exponent = without_leading_zeros(exponent);
    let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
    if bits < MIN_RSA_BITS {
        return Err("it is shorter than 2048 bits");
    }
    if bits > MAX_RSA_BITS {
        return Err("it is longer than 8192 bits");
    }
    let key =
        RsaPublicKeyComponents { n: modulus, e: exponent }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
    key.map(|key| VerifyingKey::new("RS256", key)).map_err(|_| "it is not an RSA key that can be used")
}

fn p256(x: &[u8], y: &[u8]) -> Result<VerifyingKey, &'static str> {
    if x.len() != 32 || y.len() != 32 {
        return Err("its coordinates have not 32 bytes");
    }
    // SEC 1 section 2.3.3, uncompressed.
    let point = [&[4], x, y].concat();
    let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.map(|key| VerifyingKey::new("ES256", key)).map_err(|_| "it is not a point of the curve")
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// The keys of one issuer, each under its id.
#[derive(Clone, Default)]
pub struct KeySet(BTreeMap<String, VerifyingKey>);

impl KeySet {
    /// Reads a key set (RFC 7517 section 5). A key that cannot be used is left out, and the others stay.
    ///
    /// Two different keys under one id are both left out: which of them a token means is anybody's guess.
    ///
    /// # Errors
    /// When it is not a key set, or no key of it can be used.
    pub fn from_jwks(document: &Value) -> Result<Self, &'static str> {
        let listed = document.get("keys").and_then(Value::as_array).ok_or("it has no list `keys`")?;
        if listed.len() > MAX_KEYS {
            return Err("it has more than 128 keys");
        }
        let mut keys = BTreeMap::new();
        let mut seen: BTreeMap<&str, &Value> = BTreeMap::new();
        for jwk in listed {
            let Some(id) = jwk.get("kid").and_then(Value::as_str) else { continue };
            if id.is_empty() || id.len() > MAX_KEY_ID_BYTES {
                continue;
            }
            let key = match VerifyingKey::from_jwk(jwk) {
                Ok(key) => key,
                Err(reason) => {
                    tracing::debug!(kid = %shown(id), reason, "left out a key");
                    continue;
                }
            };
            match seen.insert(id, jwk) {
                Some(other) if other != jwk => {
                    tracing::warn!(kid = %shown(id), "left out two keys with one id");
                    keys.remove(id);
                }
                Some(_) => {}
                None => {
                    keys.insert(id.to_owned(), key);
                }
            }
        }
        if keys.is_empty() { Err("no key in it can be used") } else { Ok(Self(keys)) }
    }

    /// Returns the key of exactly this id.
    pub fn get(&self, id: &str) -> Option<VerifyingKey> {
        self.0.get(id).cloned()
    }
}
