//! The keys with which a registry signs what it took: what `npm audit signatures` checks.
//!
//! One key signs. When another takes over, the private half of the one before is thrown away and its public half
//! stays for good, with the moment after which nothing that it signed is believed: npm holds a version's publish
//! time against it, so that old versions keep their signatures.

use std::{
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use jiff::Timestamp;
use protected_model::{
    digest::Sha256,
    time::{after, whole_seconds},
};
use serde::{Deserialize, Serialize};

use crate::{mint::SignError, private_file, private_file::KeyFileError};

/// How long what a key signs is still believed after another one took over, in seconds: a version that is being
/// published at that moment carries its signature.
///
/// Attack: a key that is believed for ever is worth stealing for ever.
const OVERLAP_SECONDS: u64 = 60 * 60;

/// Where the keys are, in the folder.
const FILE: &str = "registry-keys.json";

/// A registry's keys.
pub struct RegistryKeys {
    file: PathBuf,
    keys: RwLock<Keys>,
}

/// A public key as clients are told about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryKey {
    /// `SHA256:` and the digest of [`RegistryKey::spki`] in base64 without padding, as npm's registry names its keys.
    pub id: String,
    /// SubjectPublicKeyInfo (RFC 5280 section 4.1), DER in base64.
    pub spki: String,
    /// When it was made.
    pub created: Timestamp,
    /// After which nothing that it signed is believed; absent while it signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// A signature and the key that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrySignature {
    /// [`RegistryKey::id`].
    pub key_id: String,
    /// ECDSA with P-256 and SHA-256, in ASN.1 DER (RFC 3279 section 2.2.3).
    pub der: Vec<u8>,
}

struct Keys {
    signing: EcdsaKeyPair,
    /// The public half of the one that signs, then those before it, the latest first.
    public: Vec<RegistryKey>,
    kept: Kept,
}

/// The keys as they stand in the file. It has no `Debug`: it holds the private key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// PKCS #8 in base64.
    pkcs8: String,
    created: Timestamp,
    /// The public halves of the keys before, the latest first.
    before: Vec<RegistryKey>,
}

impl Kept {
    fn generate(now: Timestamp, before: Vec<RegistryKey>) -> Result<Self, KeyFileError> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| KeyFileError::Generate)?;
        Ok(Self { pkcs8: STANDARD.encode(pkcs8.as_ref()), created: whole_seconds(now), before })
    }

    fn open(self) -> Option<Keys> {
        let pkcs8 = STANDARD.decode(&self.pkcs8).ok()?;
        let signing = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8).ok()?;
        let spki = AsDer::<PublicKeyX509Der<'_>>::as_der(signing.public_key()).ok()?;
        let own = RegistryKey {
            id: key_id(spki.as_ref()),
            spki: STANDARD.encode(spki.as_ref()),
            created: self.created,
            expires: None,
        };
        let public = [own].into_iter().chain(self.before.iter().cloned()).collect();
        Some(Keys { signing, public, kept: self })
    }
}

fn key_id(spki: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::of(spki).as_bytes()))
}

impl RegistryKeys {
    /// Reads the keys of a folder, and makes the folder and a first key where there is none.
    ///
    /// # Errors
    /// When they cannot be read or kept, or others may read them.
    pub fn load_or_create(folder: &Path, now: Timestamp) -> Result<Self, KeyFileError> {
        private_file::folder(folder)?;
        let file = folder.join(FILE);
        let refuse = |reason| KeyFileError::Content { path: file.clone(), reason };
        let keys = match private_file::read(&file)? {
            Some(content) => {
                let kept: Kept =
                    serde_json::from_slice(&content).map_err(|_| refuse("it is not the JSON expected"))?;
                if kept.before.iter().any(|key| key.expires.is_none()) {
                    return Err(refuse("a key in it that was replaced does not say when it expires"));
                }
                kept.open().ok_or_else(|| refuse("the key in it is not a P-256 key"))?
            }
            None => {
                let keys = Kept::generate(now, Vec::new())?.open().ok_or(KeyFileError::Generate)?;
                write(&file, &keys.kept)?;
                keys
            }
        };
        Ok(Self { file, keys: RwLock::new(keys) })
    }

    /// Makes a new key, which signs from now on. The private half of the one before is gone with that.
    ///
    /// # Errors
    /// When the new key cannot be kept; the old one then goes on.
    pub fn rotate(&self, now: Timestamp) -> Result<(), KeyFileError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = keys.public.clone();
        for key in &mut before {
            key.expires.get_or_insert(after(whole_seconds(now), OVERLAP_SECONDS));
        }
        let next = Kept::generate(now, before)?.open().ok_or(KeyFileError::Generate)?;
        write(&self.file, &next.kept)?;
        *keys = next;
        Ok(())
    }

    /// Returns when the key that signs was made.
    pub fn since(&self) -> Timestamp {
        self.keys().kept.created
    }

    /// Returns every public key: the one that signs, then those before it.
    pub fn public(&self) -> Vec<RegistryKey> {
        self.keys().public.clone()
    }

    /// Signs `message`.
    ///
    /// # Errors
    /// When the key does not sign.
    pub fn sign(&self, message: &[u8]) -> Result<RegistrySignature, SignError> {
        let keys = self.keys();
        let own = keys.public.first().ok_or(SignError::Key)?;
        let signature = keys.signing.sign(&SystemRandom::new(), message).map_err(|_| SignError::Key)?;
        Ok(RegistrySignature { key_id: own.id.clone(), der: signature.as_ref().to_vec() })
    }

    fn keys(&self) -> RwLockReadGuard<'_, Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RegistryKey {
    /// Returns whether `der` is this key's signature of `message`. Whether the key is believed for it is for the
    /// caller to ask: see [`RegistryKey::expires`].
    pub fn verifies(&self, message: &[u8], der: &[u8]) -> bool {
        let spki = STANDARD.decode(&self.spki).unwrap_or_default();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, spki).verify(message, der).is_ok()
    }
}

fn write(file: &Path, kept: &Kept) -> Result<(), KeyFileError> {
    let content = serde_json::to_vec_pretty(kept).map_err(|_| KeyFileError::Generate)?;
    private_file::write(file, &content)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("time")
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("folder")
    }

    #[test]
    fn a_key_outlives_the_process_and_its_id_is_of_its_bytes() {
        let folder = folder();
        let at_first = at("2026-01-01T00:00:00.5Z");
        let keys = RegistryKeys::load_or_create(&folder.path().join("keys"), at_first).expect("keys");
        let signature = keys.sign(b"@acme/core@1.0.0:sha512-x").expect("signature");
        let again = RegistryKeys::load_or_create(&folder.path().join("keys"), at("2026-02-01T00:00:00Z"))
            .expect("keys");
        assert_eq!(again.public(), keys.public());
        assert_eq!(again.since(), at("2026-01-01T00:00:00Z"));
        let [key] = again.public().try_into().expect("one key");
        assert_eq!(key.id, signature.key_id);
        let spki = STANDARD.decode(&key.spki).expect("base64");
        assert_eq!(key.id, format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::of(&spki).as_bytes())));
        // RFC 5480: id-ecPublicKey with secp256r1, and an uncompressed point.
        assert_eq!(spki.len(), 91);
        assert_eq!(STANDARD.encode(&spki[..27]), "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE");
        assert!(key.verifies(b"@acme/core@1.0.0:sha512-x", &signature.der));
        assert!(!key.verifies(b"@acme/core@1.0.0:sha512-y", &signature.der));
        let mut changed = signature.der;
        changed[10] ^= 1;
        assert!(!key.verifies(b"@acme/core@1.0.0:sha512-x", &changed));
    }

    #[test]
    fn after_a_rotation_only_the_new_key_signs_and_the_old_one_has_an_end() {
        let folder = folder();
        let path = folder.path().join("keys");
        let keys = RegistryKeys::load_or_create(&path, at("2026-01-01T00:00:00Z")).expect("keys");
        let old = keys.sign(b"a").expect("signature");
        keys.rotate(at("2026-02-01T00:00:00Z")).expect("rotated");
        keys.rotate(at("2026-03-01T00:00:00Z")).expect("rotated");
        let new = keys.sign(b"a").expect("signature");
        for keys in
            [keys.public(), RegistryKeys::load_or_create(&path, Timestamp::now()).expect("keys").public()]
        {
            let ends: Vec<_> = keys.iter().map(|key| key.expires.map(|at| at.to_string())).collect();
            assert_eq!(
                ends,
                [None, Some("2026-03-01T01:00:00Z".to_owned()), Some("2026-02-01T01:00:00Z".to_owned()),]
            );
            assert_eq!((&keys[0].id, &keys[2].id), (&new.key_id, &old.key_id));
            assert!(keys[2].verifies(b"a", &old.der) && !keys[0].verifies(b"a", &old.der));
        }
        let file = fs::read_to_string(path.join(FILE)).expect("file");
        assert_eq!(file.matches("pkcs8").count(), 1, "the private halves of old keys are gone");
    }

    #[test]
    fn a_file_that_is_none_is_refused_and_not_replaced() {
        let folder = folder();
        let path = folder.path().join("keys");
        RegistryKeys::load_or_create(&path, Timestamp::now()).expect("keys");
        for content in [
            "",
            "{}",
            r#"{"pkcs8":"AAAA","created":"2026-01-01T00:00:00Z","before":[]}"#,
            r#"{"pkcs8":"AAAA","created":"2026-01-01T00:00:00Z","before":[],"more":1}"#,
        ] {
            fs::write(path.join(FILE), content).expect("write");
            assert!(
                matches!(
                    RegistryKeys::load_or_create(&path, Timestamp::now()),
                    Err(KeyFileError::Content { .. })
                ),
                "{content}"
            );
            assert_eq!(fs::read_to_string(path.join(FILE)).expect("read"), content);
        }
    }
}
