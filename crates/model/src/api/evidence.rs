//! Evidence records: documents about a package, stored once by digest, never changed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{Integrity, Sha256};

/// `GET` lists records; `GET <path>/{id}` is one; `GET <path>/{id}/content` is the document.
pub const PATH: &str = "v1/evidence";

/// A document on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceRecord {
    /// ULID.
    pub id: String,
    /// `integrity-manifest`, `protected-build`, `sbom`, `provenance`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is about.
    pub subject: Subject,
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub sha256: Sha256,
    /// Bytes.
    pub size: u64,
    /// Where it can be had, with a token.
    pub url: String,
    /// When it was recorded.
    pub created_at: jiff::Timestamp,
    /// The audit event of that.
    pub audit_event_id: String,
    /// What sent it, such as `protected-registry 0.1.0`.
    pub producer: String,
}

/// An artifact, by name and digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    /// Package URL, such as `pkg:npm/%40acme/core@1.0.0`.
    pub purl: String,
    /// SHA-256 of the tarball; of the OCI image manifest where it is about a delivery.
    pub sha256: Sha256,
    /// SHA-512 of the tarball.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha512: Option<Integrity>,
}

/// One page of records, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EvidencePage {
    /// The records.
    pub items: Vec<EvidenceRecord>,
    /// Give as `cursor` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
