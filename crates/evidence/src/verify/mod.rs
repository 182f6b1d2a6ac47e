//! Verification: whether a Sigstore bundle says what is expected, about the artifact at hand, and who says so.
//!
//! `sigstore-verify` proves the signatures, the certificate, the log and the timestamps. What it leaves open is
//! closed here: every member of a bundle is bound to something that is signed, or the bundle is refused. Nothing
//! is fetched and nothing is looked up: the trusted root and the artifact's digests are given.

mod delivery;
mod identity;
mod provenance;
mod sbom;
mod strict;
mod summary;
mod timestamp;
mod trust;

use std::fmt;

use jiff::Timestamp;
use protected_model::digest::Sha256;
use serde::{Deserialize, Serialize};
use sigstore_types::{
    Artifact, ArtifactDigest, Bundle, HashAlgorithm, MediaType, Sha256Hash, SignatureContent,
};

pub use delivery::{delivered, unverified_delivered, wrapped};
pub use identity::{Certificate, Identity, Member, Pattern, PatternError};
pub use provenance::{ExpectedBuild, Told, provenance};
pub use sbom::{Counted, Package, sbom};
pub use summary::summary;
pub use trust::{Trust, TrustError, registry_signature};

use crate::statement::{self, PAYLOAD_TYPE, Statement, Subject};

/// The largest bundle that is read, in bytes. A bundle of an SBOM of a thousand components has about 3 MiB.
pub const MAX_BUNDLE_BYTES: usize = 64 * 1024 * 1024;

/// What a bundle has to say.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    /// The artifact: its name, and its digests as they were computed from the bytes at hand.
    pub subject: &'a Subject,
    /// What kind of thing is said; `None` takes any.
    pub predicate_type: Option<&'a str>,
    /// Who has to say it. With `None` anyone may whom the trusted root's authorities certify: whoever asks so
    /// judges [`Verified::signer`] afterwards.
    pub identity: Option<&'a Identity>,
}

/// What a bundle proves.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The statement; `None` where the bundle signs the artifact's bytes and says nothing about them.
    pub statement: Option<Statement>,
    /// Who signed.
    pub signer: Signer,
    /// Where the signature is logged.
    pub log: Vec<LogEntry>,
    /// When the signature existed, as a timestamp authority or the log says: earliest first. Empty only for a
    /// signature by a given key in a trust that names no log.
    pub times: Vec<Timestamp>,
    /// SHA-256 of the bundle.
    pub sha256: Sha256,
}

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signer {
    /// Whom a certificate of a trusted authority names.
    Certificate(Box<Certificate>),
    /// Who has the private part of a trusted key.
    Key {
        /// SHA-256 of the key's SubjectPublicKeyInfo (DER).
        sha256: Sha256,
    },
}

/// Where a signature stands in a transparency log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    /// The log, as the trusted root names it.
    pub log: String,
    /// The entry's index.
    pub index: u64,
    /// `dsse 0.0.1` and the like.
    pub kind: String,
    /// How many entries the log had at the checkpoint that proves this one.
    pub tree_size: u64,
}

/// Why a bundle is not what was expected: which check, and both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{check}: expected {expected}, found {found}")]
pub struct Refused {
    /// What was checked.
    pub check: Check,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

impl Refused {
    /// Names a check that failed, and both sides.
    pub fn new(check: Check, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check, expected: expected.into(), found: found.into() }
    }
}

/// What is checked, in the order in which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The bundle is a Sigstore bundle, whole, with nothing in it that nobody vouches for.
    Format,
    /// The timestamp is an authority's, over this signature.
    Timestamp,
    /// The certificate is a trusted authority's, and was valid when the signature was made.
    Certificate,
    /// The signature is logged: inclusion proof, checkpoint, signed entry timestamp, and the entry is of this one.
    Log,
    /// The signature is the signer's, over this statement.
    Signature,
    /// The statement is about this artifact.
    Subject,
    /// The statement says what is looked for.
    Predicate,
    /// The signer is who it has to be.
    Identity,
    /// The provenance agrees with the certificate and with what is expected of source and builder.
    Provenance,
    /// The bill of materials agrees with the artifact.
    Sbom,
    /// The verification summary is of this artifact, and says that it passed.
    Summary,
    /// What is said of a delivery is said of this one.
    Delivery,
}

impl Check {
    /// Returns the name that people and programs see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Timestamp => "timestamp",
            Self::Certificate => "certificate",
            Self::Log => "log",
            Self::Signature => "signature",
            Self::Subject => "subject",
            Self::Predicate => "predicate",
            Self::Identity => "identity",
            Self::Provenance => "provenance",
            Self::Sbom => "sbom",
            Self::Summary => "summary",
            Self::Delivery => "delivery",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Verifies a Sigstore bundle (media types v0.1 to v0.3, JSON) offline.
///
/// First what `sigstore-verify` proves, then what it leaves open, and last what is expected: so the reason of a
/// refusal is never taken from what is not authentic.
///
/// # Errors
/// The first check that failed.
pub fn bundle(bytes: &[u8], trust: &Trust, expected: &Expected<'_>) -> Result<Verified, Refused> {
    let bundle = strict::parse(bytes)?;
    let statement = statement_of(&bundle)?;
    let artifact = artifact(statement.as_ref(), expected.subject)?;
    let (signer, times) = trust.verify(&bundle, artifact)?;
    let log = strict::log(&bundle, trust)?;
    timestamp::strict(&bundle, trust)?;
    strict::rest(&bundle, trust)?;
    if let Some(statement) = &statement {
        subject(statement, expected.subject)?;
    }
    predicate(statement.as_ref(), expected.predicate_type)?;
    if let Some(identity) = expected.identity {
        identity.check(&signer)?;
    }
    Ok(Verified { statement, signer, log, times, sha256: Sha256::of(bytes) })
}

/// Reads the statement of a bundle that is about this artifact and of this kind, without asking who signed it.
fn unverified_statement(bytes: &[u8], about: &Subject, kind: &str) -> Result<Statement, Refused> {
    let bundle = strict::parse(bytes)?;
    if bundle.media_type() != MediaType::Bundle0_3 {
        let found = bundle.media_type().to_string();
        return Err(Refused::new(Check::Format, MediaType::Bundle0_3.to_string(), found));
    }
    let statement = statement_of(&bundle)?;
    predicate(statement.as_ref(), Some(kind))?;
    let statement =
        statement.ok_or_else(|| Refused::new(Check::Predicate, kind, "a signature without a statement"))?;
    artifact(Some(&statement), about)?;
    subject(&statement, about)?;
    Ok(statement)
}

fn statement_of(bundle: &Bundle) -> Result<Option<Statement>, Refused> {
    let SignatureContent::DsseEnvelope(envelope) = &bundle.content else { return Ok(None) };
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(Refused::new(
            Check::Format,
            format!("a payload of type {PAYLOAD_TYPE}"),
            &envelope.payload_type,
        ));
    }
    let statement: Statement = serde_json::from_slice(envelope.payload.as_bytes())
        .map_err(|error| Refused::new(Check::Format, "an in-toto statement", error.to_string()))?;
    Ok(Some(statement))
}

/// Returns what the signature is held against: for a statement the digest that it names itself, which
/// [`subject`] compares with the artifact's once the statement is known to be authentic.
fn artifact(statement: Option<&Statement>, subject: &Subject) -> Result<Artifact<'static>, Refused> {
    let own = match statement {
        Some(statement) => statement.subject.first().ok_or_else(|| none("a subject"))?,
        None => subject,
    };
    let digest = |algorithm: &str| own.digest.get(algorithm).map(|digest| hex::decode(digest).ok());
    if let Some(bytes) = digest("sha256") {
        let hash = bytes.and_then(|bytes| Sha256Hash::try_from(bytes.as_slice()).ok());
        return hash.map(Artifact::from_digest).ok_or_else(|| none("a SHA-256 digest in hexadecimal"));
    }
    if let Some(bytes) = digest("sha512") {
        let hash = bytes.and_then(|bytes| ArtifactDigest::new(HashAlgorithm::Sha2512, bytes).ok());
        return hash.map(Artifact::from_digest).ok_or_else(|| none("a SHA-512 digest in hexadecimal"));
    }
    Err(none("a subject with the digest sha256 or sha512"))
}

fn none(expected: &str) -> Refused {
    Refused::new(Check::Subject, expected, "none")
}

/// Holds the one subject of a statement against the artifact's name and digests.
fn subject(statement: &Statement, expected: &Subject) -> Result<(), Refused> {
    let refuse = |expected: String, found: String| Err(Refused::new(Check::Subject, expected, found));
    let [found] = statement.subject.as_slice() else {
        return refuse("one subject".to_owned(), format!("{}", statement.subject.len()));
    };
    if ![statement::STATEMENT_TYPE, statement::STATEMENT_TYPE_0_1].contains(&statement.kind.as_str()) {
        return Err(Refused::new(Check::Format, statement::STATEMENT_TYPE, &statement.kind));
    }
    if found.name != expected.name {
        return refuse(expected.name.clone(), found.name.clone());
    }
    for (algorithm, digest) in &found.digest {
        match expected.digest.get(algorithm) {
            Some(expected) if expected == digest => {}
            Some(expected) => {
                return refuse(format!("{algorithm} {expected}"), format!("{algorithm} {digest}"));
            }
            None => {
                let known = expected.digest.keys().map(String::as_str).collect::<Vec<_>>().join(" or ");
                return refuse(format!("a digest {known}"), format!("{algorithm} {digest}"));
            }
        }
    }
    Ok(())
}

fn predicate(statement: Option<&Statement>, expected: Option<&str>) -> Result<(), Refused> {
    let Some(expected) = expected else { return Ok(()) };
    match statement {
        Some(statement) if statement.predicate_type == expected => Ok(()),
        Some(statement) => Err(Refused::new(Check::Predicate, expected, &statement.predicate_type)),
        None => Err(Refused::new(Check::Predicate, expected, "a signature without a statement")),
    }
}
