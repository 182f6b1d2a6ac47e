//! The root that a Docker registry is told once, and below it the key that signs.
//!
//! A registry reads its certificates when it starts. So the root stays, every key gets a certificate of it, and a new
//! key takes over without a restart anywhere. The private half of the one before is thrown away with that.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use der::Encode as _;
use jiff::Timestamp;
use protected_model::{
    claims::OciClaims,
    time::{after, numeric_date, whole_seconds},
};
use protected_trust::{
    key::KeySet,
    mint::{Expect, KeyFileError, SignError, TokenError},
    oci::{self, OVERLAP_SECONDS, OciKey},
    private_file,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::x509::{self, Issuer, KeptIssuer, Subject, X509Error};

/// How long one key signs.
///
/// Attack: a key that signs for ever is worth more to a thief each day.
const ROTATE_SECONDS: u64 = 30 * 24 * 60 * 60;
/// How long a key's certificate is valid: longer than it signs, for a service whose disk is full.
const CERTIFICATE_SECONDS: u64 = 2 * ROTATE_SECONDS;
/// How long the root is valid.
const ROOT_SECONDS: u64 = 20 * 365 * 24 * 60 * 60;
/// How long before they are made certificates are valid: a registry whose clock is behind would refuse a new key, and
/// knows no leeway for certificates.
const SLACK_SECONDS: u64 = 60 * 60;

/// Where they are, in the folder of keys.
const FILE: &str = "oci-keys.json";

/// Why the keys of registry tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// The file.
    #[error("cannot load or keep the keys")]
    Keys(#[from] KeyFileError),
    /// A certificate.
    #[error("cannot make a certificate")]
    X509(#[from] X509Error),
}

/// The keys of tokens for a Docker registry.
pub(crate) struct OciKeys {
    file: PathBuf,
    root: Issuer,
    root_pem: String,
    keys: RwLock<Arc<Keys>>,
}

/// What signs, and what did.
struct Keys {
    since: Timestamp,
    key: OciKey,
    /// DER.
    certificate: Vec<u8>,
    past: Vec<Past>,
}

/// A key that no longer signs, for those who verify what it signed.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Past {
    jwk: Value,
    until: Timestamp,
}

/// The file. It has no `Debug`: it holds private keys.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    root: KeptIssuer,
    since: Timestamp,
    /// PKCS #8 in base64.
    pkcs8: String,
    /// DER in base64.
    certificate: String,
    past: Vec<Past>,
}

impl OciKeys {
    /// Reads the keys of a folder, and makes them where there are none.
    pub(crate) fn load_or_create(folder: &Path, now: Timestamp) -> Result<Self, OciError> {
        private_file::folder(folder)?;
        let file = folder.join(FILE);
        let Some(content) = private_file::read(&file)? else {
            let whole = whole_seconds(now);
            let root = Issuer::root("registry token root", 0, before(whole), after(whole, ROOT_SECONDS))?;
            let keys = made(&file, &root, Vec::new(), now)?;
            return Ok(Self::of(file, root, keys)?);
        };
        let read = serde_json::from_slice(&content).ok().and_then(opened);
        let (root, keys) = read.ok_or_else(|| KeyFileError::Content {
            path: file.clone(),
            reason: "it does not hold the keys of registry tokens",
        })?;
        let this = Self::of(file, root, keys)?;
        this.rotate_when_due(now)?;
        Ok(this)
    }

    fn of(file: PathBuf, root: Issuer, keys: Keys) -> Result<Self, X509Error> {
        let root_pem = x509::pem(&root.certificate)?;
        Ok(Self { file, root, root_pem, keys: RwLock::new(Arc::new(keys)) })
    }

    /// Makes a new key, which signs from now on, when the one that signs is old enough.
    pub(crate) fn rotate_when_due(&self, now: Timestamp) -> Result<(), OciError> {
        let keys = self.keys();
        if numeric_date(now) < numeric_date(keys.since) + ROTATE_SECONDS {
            return Ok(());
        }
        let mut past = keys.past.clone();
        past.push(Past { jwk: keys.key.jwk(&keys.certificate), until: after(now, OVERLAP_SECONDS) });
        past.retain(|it| it.until > now);
        let next = made(&self.file, &self.root, past, now)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        tracing::info!("a new key signs tokens for the registry from now on");
        Ok(())
    }

    /// Returns the root's certificate in PEM.
    pub(crate) fn root(&self) -> &str {
        &self.root_pem
    }

    /// Returns the public keys (RFC 7517 section 5), those whose last tokens may not be over among them.
    pub(crate) fn jwks(&self, now: Timestamp) -> Value {
        let keys = self.keys();
        let past = keys.past.iter().filter(|it| it.until > now).map(|it| it.jwk.clone());
        let listed: Vec<_> = [keys.key.jwk(&keys.certificate)].into_iter().chain(past).collect();
        json!({ "keys": listed })
    }

    /// Signs claims.
    pub(crate) fn sign(&self, claims: &OciClaims) -> Result<String, SignError> {
        let keys = self.keys();
        keys.key.sign(&keys.certificate, claims)
    }

    /// Verifies a token that was signed here.
    pub(crate) fn verify(
        &self,
        token: &str,
        expect: Expect<'_>,
        now: Timestamp,
    ) -> Result<OciClaims, TokenError> {
        // Keys that were just made or read are ones that can be used.
        oci::verify(token, &KeySet::from_jwks(&self.jwks(now)).unwrap_or_default(), expect, now)
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn before(now: Timestamp) -> Timestamp {
    let slack = jiff::SignedDuration::from_secs(SLACK_SECONDS.cast_signed());
    now.checked_sub(slack).unwrap_or(now)
}

/// Makes a key with its certificate, and keeps both.
fn made(file: &Path, root: &Issuer, past: Vec<Past>, now: Timestamp) -> Result<Keys, OciError> {
    let since = whole_seconds(now);
    let (key, pkcs8) = OciKey::generate()?;
    let subject = Subject {
        name: x509::name("registry tokens", key.spki())?,
        key: key.spki(),
        not_before: before(since),
        not_after: after(since, CERTIFICATE_SECONDS),
    };
    let certificate = root.issue(subject, x509::of_leaf(key.spki(), root.spki(), None)?)?;
    let kept = Kept {
        root: KeptIssuer::of(root)?,
        since,
        pkcs8: STANDARD.encode(pkcs8),
        certificate: x509::keep(&certificate)?,
        past: past.clone(),
    };
    let content = serde_json::to_vec_pretty(&kept).map_err(|_| KeyFileError::Generate)?;
    private_file::write(file, &content)?;
    Ok(Keys { since, key, certificate: certificate.to_der().map_err(X509Error::from)?, past })
}

fn opened(kept: Kept) -> Option<(Issuer, Keys)> {
    let keys = Keys {
        since: kept.since,
        key: OciKey::from_pkcs8(&STANDARD.decode(&kept.pkcs8).ok()?)?,
        certificate: x509::open(&kept.certificate)?.to_der().ok()?,
        past: kept.past,
    };
    Some((kept.root.open()?, keys))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use der::Decode as _;
    use x509_cert::Certificate;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("time")
    }

    fn ids(keys: &OciKeys, now: Timestamp) -> Vec<String> {
        let listed = keys.jwks(now)["keys"].as_array().expect("keys").clone();
        listed.iter().map(|key| key["kid"].as_str().expect("kid").to_owned()).collect()
    }

    #[test]
    fn the_root_stays_and_a_new_key_takes_over() {
        let folder = tempfile::tempdir().expect("folder");
        let folder = folder.path().join("keys");
        let first = at("2026-01-01T00:00:00.5Z");
        let keys = OciKeys::load_or_create(&folder, first).expect("keys");
        let old = ids(&keys, first);
        keys.rotate_when_due(at("2026-01-30T23:59:59Z")).expect("not due");
        assert_eq!(ids(&keys, first), old);
        let due = at("2026-01-31T00:00:00Z");
        let again = OciKeys::load_or_create(&folder, due).expect("keys");
        assert_eq!(again.root(), keys.root());
        let both = ids(&again, due);
        assert!(both.len() == 2 && both[1] == old[0] && both[0] != old[0], "{both:?}");
        assert_eq!(ids(&again, after(due, OVERLAP_SECONDS - 1)), both);
        assert_eq!(ids(&again, after(due, OVERLAP_SECONDS)), both[..1]);
        let file = fs::read_to_string(folder.join(FILE)).expect("file");
        assert_eq!(file.matches("pkcs8").count(), 2, "the root's and the one that signs");
        let third = OciKeys::load_or_create(&folder, at("2026-06-01T00:00:00Z")).expect("keys");
        assert_eq!(ids(&third, at("2026-06-01T00:00:00Z")).len(), 2, "the first one is forgotten");
        let file = fs::read_to_string(folder.join(FILE)).expect("file");
        assert_eq!(file.matches("\"until\"").count(), 1, "in the file too");
    }

    /// Otherwise a registry whose clock is a minute behind would refuse each new key.
    #[test]
    fn certificates_are_valid_before_they_were_made() {
        let folder = tempfile::tempdir().expect("folder");
        let now = at("2026-01-01T00:00:00Z");
        let keys = OciKeys::load_or_create(&folder.path().join("keys"), now).expect("keys");
        let of_the_key = Certificate::from_der(&keys.keys().certificate).expect("a certificate");
        for certificate in [keys.root.certificate, of_the_key] {
            let not_before = certificate.tbs_certificate.validity.not_before.to_unix_duration().as_secs();
            assert_eq!(not_before, numeric_date(at("2025-12-31T23:00:00Z")));
        }
    }

    #[test]
    fn a_file_that_is_none_is_refused_and_not_replaced() {
        let folder = tempfile::tempdir().expect("folder");
        let folder = folder.path().join("keys");
        OciKeys::load_or_create(&folder, Timestamp::now()).expect("keys");
        let good = fs::read_to_string(folder.join(FILE)).expect("file");
        for content in ["", "{}", &good.replace("\"pkcs8\": \"MI", "\"pkcs8\": \"AA")] {
            fs::write(folder.join(FILE), content).expect("write");
            assert!(
                matches!(
                    OciKeys::load_or_create(&folder, Timestamp::now()),
                    Err(OciError::Keys(KeyFileError::Content { .. }))
                ),
                "{content}"
            );
            assert_eq!(fs::read_to_string(folder.join(FILE)).expect("read"), content);
        }
    }
}
