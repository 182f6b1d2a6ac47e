//! Packages and versions as they are stored.

use std::collections::BTreeMap;

use jiff::Timestamp;
use protected_model::{
    digest::{Integrity, Sha256, Shasum},
    version::{DistTag, PackageVersion},
};
use serde::{Deserialize, Serialize};

/// A package as it is stored, without its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackageRow {
    /// Raised by every change.
    pub(crate) revision: u64,
    pub(crate) created: Timestamp,
    pub(crate) modified: Timestamp,
    pub(crate) tags: BTreeMap<DistTag, PackageVersion>,
}

/// A version as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionRow {
    pub(crate) published: Timestamp,
    /// The token that published it.
    pub(crate) jti: String,
    /// The tarball's blob.
    pub(crate) sha256: Sha256,
    pub(crate) size_bytes: u64,
    pub(crate) integrity: Integrity,
    pub(crate) shasum: Shasum,
    pub(crate) files: u64,
    pub(crate) unpacked_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deprecated: Option<String>,
    /// Absent in a row of a release that did not sign, until the next start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signature: Option<Signature>,
    /// What is said and signed about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) attestations: Vec<Attestation>,
    /// See [`super::manifest::Served`].
    pub(crate) full: String,
    pub(crate) abbreviated: String,
}

impl VersionRow {
    pub(crate) fn artifact(&self) -> Artifact {
        Artifact { sha256: self.sha256, size_bytes: self.size_bytes, integrity: self.integrity }
    }
}

/// Where a version's tarball is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Artifact {
    pub(crate) sha256: Sha256,
    pub(crate) size_bytes: u64,
    pub(crate) integrity: Integrity,
}

/// A signature as it stands in `dist.signatures`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signature {
    pub(crate) keyid: String,
    /// DER in base64.
    pub(crate) sig: String,
}

/// A Sigstore bundle about a version, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attestation {
    pub(crate) predicate_type: String,
    /// The bundle's blob.
    pub(crate) sha256: Sha256,
    pub(crate) size_bytes: u64,
    /// Whether it chains to what stock npm trusts.
    pub(crate) npm: bool,
}
