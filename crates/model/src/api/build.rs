//! `POST /v1/packages/protection/builds`: a hardened build on record.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evidence::{Document, EvidenceRecord};
use crate::{
    action::ArtifactPolicy,
    build::{Escrow, Hardening, PipelineStep, Protection, Source},
    integrity::ArtifactDigest,
    name::{PackageName, ProjectSlug, TenantId},
    version::PackageVersion,
};

/// The endpoint's path below the base URL.
pub const PATH: &str = "v1/packages/protection/builds";

/// A build with its manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildRecordRequest {
    /// Must be the caller's when present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// The project.
    pub project_slug: ProjectSlug,
    /// The package.
    pub package_name: PackageName,
    /// Its version.
    pub version: PackageVersion,
    /// Where the source came from.
    pub source: Source,
    /// The steps that ran.
    pub pipeline: Vec<PipelineStep>,
    /// What the result is.
    pub protection: Protection,
    /// What the choices of the build follow from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardening: Option<Hardening>,
    /// The tarball.
    pub artifact: ArtifactDigest,
    /// Documents about it.
    pub manifests: Vec<Document>,
    /// The private source maps, by digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_map_escrow: Option<Escrow>,
    /// Decide, and record nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// A build on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BuildRecordResponse {
    /// The record.
    pub build_id: String,
    /// `recorded`, or `dry-run`.
    pub status: String,
    /// One for each document.
    pub evidence: Vec<EvidenceRecord>,
    /// The audit event.
    pub audit_event_id: String,
    /// Which policies the artifact meets by this record.
    pub artifact_policy_satisfied: Vec<ArtifactPolicy>,
}
