//! The authority's keys and certificates on disk, and what takes over from what.
//!
//! Two roots, made once: one for signing certificates and one for timestamps. Below them is a generation, which
//! signs: the intermediate that issues certificates, the key of their timestamps (RFC 6962), the log's key and the
//! timestamp authority. A new generation takes over after [`ROTATE_SECONDS`]; of the one before, only what verifies
//! is kept, since its private keys are good for nothing but forging.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use protected_model::time::{after, numeric_date, whole_seconds};
use protected_trust::{mint::KeyFileError, private_file};
use serde::{Deserialize, Serialize};
use x509_cert::Certificate;

use super::error::AuthorityError;
use crate::x509::{self, CODE_SIGNING, Issuer, KeptIssuer, Key, PublicKey, Subject, TIME_STAMPING};

/// How long a generation signs.
///
/// Attack: a key that signs for ever is worth more to a thief each day.
pub(crate) const ROTATE_SECONDS: u64 = 90 * 24 * 60 * 60;
/// How long the certificates of a generation are valid: longer than it signs, for a service that stood still.
const GENERATION_SECONDS: u64 = 2 * ROTATE_SECONDS;
/// How long the roots are valid.
const ROOT_SECONDS: u64 = 20 * 365 * 24 * 60 * 60;

/// Where they are, in the folder of keys.
const FILE: &str = "sigstore.json";

/// Everything that signs, and everything that ever did.
pub(super) struct Keys {
    /// The log's name and tree, which stay what they were when it began.
    pub(super) log: LogName,
    pub(super) root: Certificate,
    pub(super) timestamp_root: Certificate,
    pub(super) signing: Generation,
    pub(super) past: Vec<Past>,
}

/// What a log is called, for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogName {
    /// The URL that it had when it began.
    pub(super) url: String,
    /// The tree's number in Rekor's entry ids.
    pub(super) tree_id: u64,
}

impl LogName {
    /// Returns the origin of its checkpoints: the URL without its scheme.
    pub(super) fn origin(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest)
    }
}

/// What signs.
pub(super) struct Generation {
    pub(super) since: Timestamp,
    pub(super) issuer: Issuer,
    pub(super) sct: Key,
    pub(super) log: Key,
    pub(super) timestamps: Issuer,
}

/// What once signed.
#[derive(Clone)]
pub(super) struct Past {
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
    pub(super) issuer: Certificate,
    pub(super) sct: PublicKey,
    pub(super) log: PublicKey,
    pub(super) timestamps: Certificate,
}

/// The file. It has no `Debug`: it holds private keys.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    log: LogName,
    root: KeptIssuer,
    timestamp_root: KeptIssuer,
    signing: KeptGeneration,
    past: Vec<KeptPast>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptGeneration {
    since: Timestamp,
    issuer: KeptIssuer,
    sct: String,
    log: String,
    timestamps: KeptIssuer,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptPast {
    since: Timestamp,
    until: Timestamp,
    issuer: String,
    sct: String,
    log: String,
    timestamps: String,
}

/// The file of keys in a folder, with the private keys of the roots, which are only used to make a generation.
pub(super) struct KeyFile {
    path: PathBuf,
    root: Issuer,
    timestamp_root: Issuer,
}

impl KeyFile {
    /// Reads the keys, or makes them for a log at `url` where there are none; a generation that signed long enough
    /// is replaced at once.
    pub(super) fn load_or_create(
        folder: &Path,
        url: &str,
        now: Timestamp,
    ) -> Result<(Self, Keys), AuthorityError> {
        private_file::folder(folder)?;
        let path = folder.join(FILE);
        let Some(content) = private_file::read(&path)? else {
            return Self::create(path, url, now);
        };
        let kept = serde_json::from_slice(&content).ok();
        let read = kept.and_then(|kept| Self::open(path.clone(), kept));
        let (file, keys) =
            read.ok_or(KeyFileError::Content { path, reason: "it does not hold the keys of the authority" })?;
        let keys = match keys.is_due(now) {
            true => file.rotate(&keys, now)?,
            false => keys,
        };
        Ok((file, keys))
    }

    fn create(path: PathBuf, url: &str, now: Timestamp) -> Result<(Self, Keys), AuthorityError> {
        let now = whole_seconds(now);
        let root = root("Sigstore root", now)?;
        let timestamp_root = self::root("timestamp root", now)?;
        let mut tree = [0; 8];
        getrandom::fill(&mut tree).map_err(|_| AuthorityError::Key)?;
        // Positive, as Rekor's are, and of one length in hex.
        let tree_id = (u64::from_be_bytes(tree) >> 1) | (1 << 62);
        let keys = Keys {
            log: LogName { url: url.to_owned(), tree_id },
            root: root.certificate.clone(),
            timestamp_root: timestamp_root.certificate.clone(),
            signing: generation(&root, &timestamp_root, now)?,
            past: Vec::new(),
        };
        let file = Self { path, root, timestamp_root };
        file.write(&keys)?;
        Ok((file, keys))
    }

    fn open(path: PathBuf, kept: Kept) -> Option<(Self, Keys)> {
        let file = Self { path, root: kept.root.open()?, timestamp_root: kept.timestamp_root.open()? };
        let keys = Keys {
            log: kept.log,
            root: file.root.certificate.clone(),
            timestamp_root: file.timestamp_root.certificate.clone(),
            signing: Generation {
                since: kept.signing.since,
                issuer: kept.signing.issuer.open()?,
                sct: Key::open(&kept.signing.sct)?,
                log: Key::open(&kept.signing.log)?,
                timestamps: kept.signing.timestamps.open()?,
            },
            past: kept.past.into_iter().map(KeptPast::open).collect::<Option<_>>()?,
        };
        Some((file, keys))
    }

    /// Makes a new generation, which signs from now on, and keeps it.
    pub(super) fn rotate(&self, keys: &Keys, now: Timestamp) -> Result<Keys, AuthorityError> {
        let now = whole_seconds(now);
        let signed = &keys.signing;
        let mut past = keys.past.clone();
        past.push(Past {
            since: signed.since,
            until: now,
            issuer: signed.issuer.certificate.clone(),
            sct: signed.sct.public().clone(),
            log: signed.log.public().clone(),
            timestamps: signed.timestamps.certificate.clone(),
        });
        let next = Keys {
            log: keys.log.clone(),
            root: keys.root.clone(),
            timestamp_root: keys.timestamp_root.clone(),
            signing: generation(&self.root, &self.timestamp_root, now)?,
            past,
        };
        self.write(&next)?;
        Ok(next)
    }

    fn write(&self, keys: &Keys) -> Result<(), AuthorityError> {
        let signing = &keys.signing;
        let kept = Kept {
            log: keys.log.clone(),
            root: KeptIssuer::of(&self.root)?,
            timestamp_root: KeptIssuer::of(&self.timestamp_root)?,
            signing: KeptGeneration {
                since: signing.since,
                issuer: KeptIssuer::of(&signing.issuer)?,
                sct: signing.sct.keep(),
                log: signing.log.keep(),
                timestamps: KeptIssuer::of(&signing.timestamps)?,
            },
            past: keys.past.iter().map(KeptPast::of).collect::<Result<_, _>>()?,
        };
        let content = serde_json::to_vec_pretty(&kept).map_err(|_| AuthorityError::Key)?;
        Ok(private_file::write(&self.path, &content)?)
    }
}

impl Keys {
    /// Returns whether the generation has signed long enough.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        numeric_date(now) >= numeric_date(self.signing.since) + ROTATE_SECONDS
    }

    /// Returns every key that the log ever had, the one that signs first.
    pub(super) fn log_keys(&self) -> Vec<PublicKey> {
        let past = self.past.iter().rev().map(|past| past.log.clone());
        std::iter::once(self.signing.log.public().clone()).chain(past).collect()
    }

    /// Returns every certificate that ever issued one.
    pub(super) fn issuers(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.signing.issuer.certificate)
            .chain(self.past.iter().rev().map(|past| &past.issuer))
    }
}

fn root(what: &str, now: Timestamp) -> Result<Issuer, AuthorityError> {
    Ok(Issuer::root(what, 1, now, after(now, ROOT_SECONDS))?)
}

fn generation(root: &Issuer, timestamp_root: &Issuer, now: Timestamp) -> Result<Generation, AuthorityError> {
    let below = |root: &Issuer, what: &str, key: &Key, extensions| {
        let subject = Subject {
            name: x509::name(what, key.public().spki())?,
            key: key.public().spki(),
            not_before: now,
            not_after: after(now, GENERATION_SECONDS),
        };
        root.issue(subject, extensions)
    };
    let key = Key::generate()?;
    let extensions = x509::of_authority(key.public().spki(), Some(root.spki()), 0, Some(CODE_SIGNING))?;
    let certificate = below(root, "Sigstore intermediate", &key, extensions)?;
    let issuer = Issuer { key, certificate };
    let key = Key::generate()?;
    let extensions = x509::of_leaf(key.public().spki(), timestamp_root.spki(), Some(TIME_STAMPING))?;
    let certificate = below(timestamp_root, "timestamp authority", &key, extensions)?;
    let timestamps = Issuer { key, certificate };
    Ok(Generation { since: now, issuer, sct: Key::generate()?, log: Key::generate()?, timestamps })
}

impl KeptPast {
    fn of(past: &Past) -> Result<Self, AuthorityError> {
        Ok(Self {
            since: past.since,
            until: past.until,
            issuer: x509::keep(&past.issuer)?,
            sct: STANDARD.encode(past.sct.spki()),
            log: STANDARD.encode(past.log.spki()),
            timestamps: x509::keep(&past.timestamps)?,
        })
    }

    fn open(self) -> Option<Past> {
        let key = |kept: &str| PublicKey::from_spki(&STANDARD.decode(kept).ok()?).ok();
        Some(Past {
            since: self.since,
            until: self.until,
            issuer: x509::open(&self.issuer)?,
            sct: key(&self.sct)?,
            log: key(&self.log)?,
            timestamps: x509::open(&self.timestamps)?,
        })
    }
}
