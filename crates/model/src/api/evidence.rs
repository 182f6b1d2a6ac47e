//! Evidence records: documents about a package, stored once by digest, never changed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    claims::Publisher,
    digest::{Integrity, Sha256},
    integrity::canonical,
    name::{BundleId, PackageName, ProjectSlug, TenantId},
    version::PackageVersion,
};

/// `GET` lists records; `GET <path>/{id}` is one; `GET <path>/{id}/content` is the document.
pub const PATH: &str = "v1/evidence";
/// `POST` adds documents to a version.
pub const ATTACHMENTS_PATH: &str = "v1/evidence/attachments";
/// `GET` is the [`EvidenceManifest`] of a version.
pub const MANIFEST_PATH: &str = "v1/evidence/manifest";
/// The media type of an [`EvidenceManifest`].
pub const MANIFEST_TYPE: &str = "application/vnd.protected-registry.evidence.v1+json";
/// The media type of a Sigstore bundle of the version that everything here writes.
pub const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The media type of an in-toto statement.
pub const STATEMENT_TYPE: &str = "application/vnd.in-toto+json";

/// A document that goes along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// What it is: `integrity-manifest`, `protected-build`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// Its media type.
    pub media_type: String,
    /// Digest of `inline` in UTF-8.
    pub sha256: Sha256,
    /// The document itself.
    pub inline: String,
}

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
    /// The build that it came with or was made in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// SHA-256 of the `jti` of the token that it came with: it names the token and is of no use against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<Sha256>,
    /// The run that it came from, with its commit, as verified; absent for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<Publisher>,
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

/// Documents to be kept with a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachmentRequest {
    /// Must be the caller's when present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// The project.
    pub project_slug: ProjectSlug,
    /// The package.
    pub package_name: PackageName,
    /// The version, which has a build on record or is published.
    pub version: PackageVersion,
    /// The tarball that the documents are about; must be the version's when present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrity: Option<Integrity>,
    /// The build that they are about; must be the version's when present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// The delivery of the version that the documents are about, in place of the tarball: the signed statement over its bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_id: Option<BundleId>,
    /// The documents.
    pub documents: Vec<Document>,
}

/// Documents on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttachmentResponse {
    /// One for each document, in their order; of one that was there already its first record.
    pub evidence: Vec<EvidenceRecord>,
    /// The audit event; that of the first time when nothing was new.
    pub audit_event_id: String,
}

/// Every document on record about a version, in one list that a digest can be taken of.
///
/// It is served as canonical JSON (RFC 8785): the same documents give the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceManifest {
    /// [`MANIFEST_TYPE`].
    pub schema: String,
    /// Whose they are.
    pub tenant_id: TenantId,
    /// The package.
    pub package_name: PackageName,
    /// Its version.
    pub version: PackageVersion,
    /// The records, in the order of their types' bytes, then of their digests.
    pub documents: Vec<EvidenceRecord>,
    /// SHA-256 of `documents` as canonical JSON.
    pub documents_sha256: Sha256,
}

impl EvidenceManifest {
    /// Sorts `documents` and digests them.
    pub fn new(
        tenant_id: TenantId,
        package_name: PackageName,
        version: PackageVersion,
        mut documents: Vec<EvidenceRecord>,
    ) -> Self {
        documents.sort_by(|a, b| (&a.kind, a.sha256, &a.id).cmp(&(&b.kind, b.sha256, &b.id)));
        let documents_sha256 = Sha256::of(canonical(&documents));
        let schema = MANIFEST_TYPE.to_owned();
        Self { schema, tenant_id, package_name, version, documents, documents_sha256 }
    }

    /// Returns whether `documents_sha256` is the digest of `documents`.
    pub fn is_whole(&self) -> bool {
        Sha256::of(canonical(&self.documents)) == self.documents_sha256
    }
}
