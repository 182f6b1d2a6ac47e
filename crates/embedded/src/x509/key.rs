//! A P-256 key, and the check of what others signed with one.

use aws_lc_rs::{
    digest::{self, Digest},
    encoding::AsDer as _,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use der::{Decode as _, Encode as _, asn1::ObjectIdentifier};
use protected_model::digest::Sha256;
use x509_cert::spki::SubjectPublicKeyInfoOwned;

use super::X509Error;

/// `id-ecPublicKey` (RFC 5480 section 2.1.1).
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// `secp256r1` (RFC 5480 section 2.1.1.1).
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// A private key. It has no `Debug`.
pub(crate) struct Key {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
    public: PublicKey,
}

impl Key {
    pub(crate) fn generate() -> Result<Self, X509Error> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| X509Error::Key)?;
        Self::from_pkcs8(pkcs8.as_ref()).ok_or(X509Error::Key)
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8).ok()?;
        let spki = pair.public_key().as_der().ok()?;
        let public = PublicKey::from_spki(spki.as_ref()).ok()?;
        Some(Self { pair, pkcs8: pkcs8.to_vec(), public })
    }

    /// Reads what [`Self::keep`] wrote.
    pub(crate) fn open(kept: &str) -> Option<Self> {
        Self::from_pkcs8(&STANDARD.decode(kept).ok()?)
    }

    /// Returns the private key for the key file: PKCS #8 in base64.
    pub(crate) fn keep(&self) -> String {
        STANDARD.encode(&self.pkcs8)
    }

    /// Signs a message: ECDSA with SHA-256, in DER.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, X509Error> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| X509Error::Key)?;
        Ok(signature.as_ref().to_vec())
    }

    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }
}

/// Why a public key is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublicKeyError {
    /// It is not a `SubjectPublicKeyInfo`.
    #[error("it is no SubjectPublicKeyInfo (RFC 5280): {0}")]
    Malformed(#[from] der::Error),
    /// It is of another kind.
    #[error("it is for algorithm {0}, expected ECDSA on P-256")]
    Algorithm(String),
    /// It is on no point, or on another curve's.
    #[error("it is no point of P-256")]
    Point,
}

/// A P-256 public key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PublicKey {
    spki: Vec<u8>,
    point: Vec<u8>,
}

impl PublicKey {
    /// Reads a key that somebody wrote down in PEM; what is wrong with it is said in words.
    pub(crate) fn from_pem(text: &str) -> Result<Self, String> {
        let (label, der) = der::pem::decode_vec(text.trim_start().as_bytes())
            .map_err(|_| "expected a public key in PEM".to_owned())?;
        if label != "PUBLIC KEY" {
            return Err(format!("the PEM is a `{label}`, expected `PUBLIC KEY`"));
        }
        Self::from_spki(&der).map_err(|error| error.to_string())
    }

    /// Reads a `SubjectPublicKeyInfo` (RFC 5280 section 4.1.2.7) in DER.
    pub(crate) fn from_spki(spki: &[u8]) -> Result<Self, PublicKeyError> {
        Self::of(&SubjectPublicKeyInfoOwned::from_der(spki)?)
    }

    pub(crate) fn of(key: &SubjectPublicKeyInfoOwned) -> Result<Self, PublicKeyError> {
        let curve = key.algorithm.parameters.as_ref().and_then(|it| it.decode_as::<ObjectIdentifier>().ok());
        if key.algorithm.oid != EC_PUBLIC_KEY || curve != Some(P256) {
            let curve = curve.map_or_else(String::new, |curve| format!(" with {curve}"));
            return Err(PublicKeyError::Algorithm(format!("{}{curve}", key.algorithm.oid)));
        }
        let point = key.subject_public_key.as_bytes().unwrap_or_default();
        // SEC 1 section 2.3.3, uncompressed: what every client writes.
        if point.len() != 65 || point[0] != 4 {
            return Err(PublicKeyError::Point);
        }
        Ok(Self { spki: key.to_der()?, point: point.to_vec() })
    }

    /// Returns the `SubjectPublicKeyInfo` in DER.
    pub(crate) fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Returns the SHA-256 of the `SubjectPublicKeyInfo`: the id of a log (RFC 6962 section 3.2).
    pub(crate) fn id(&self) -> Sha256 {
        Sha256::of(&self.spki)
    }

    /// Returns whether `signature` (ECDSA with SHA-256, in DER) is this key's for `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key().verify(message, signature).is_ok()
    }

    /// [`Self::verifies`] for a message of which only the SHA-256 is known.
    pub(crate) fn verifies_digest(&self, sha256: &[u8; 32], signature: &[u8]) -> bool {
        Digest::import_less_safe(sha256, &digest::SHA256)
            .and_then(|digest| self.key().verify_digest(&digest, signature))
            .is_ok()
    }

    fn key(&self) -> UnparsedPublicKey<&[u8]> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_signs_and_no_other_does() {
        let (key, other) = (Key::generate().expect("key"), Key::generate().expect("key"));
        let signature = key.sign(b"message").expect("signature");
        assert!(key.public().verifies(b"message", &signature));
        assert!(key.public().verifies_digest(Sha256::of(b"message").as_bytes(), &signature));
        assert!(!key.public().verifies(b"massage", &signature));
        assert!(!other.public().verifies(b"message", &signature));
        assert!(!key.public().verifies_digest(Sha256::of(b"massage").as_bytes(), &signature));
        let again = Key::open(&key.keep()).expect("kept");
        assert!(again.public() == key.public());
    }
}
