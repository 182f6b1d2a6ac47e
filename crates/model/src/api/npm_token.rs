//! `POST /v1/packages/registry/tokens/npm`: a short-lived npm token for one package.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem::RuleResult;
use crate::{
    action::{Action, ActionMode, ArtifactPolicy},
    digest::Integrity,
    name::{EntitlementSnapshotId, PackageName, PackageScope, ProjectSlug, TenantId},
    secret::{RegistryToken, reveal_some_on_the_wire},
    service_url::ServiceUrl,
    version::PackageVersion,
};

/// The endpoint's path below the base URL.
pub const PATH: &str = "v1/packages/registry/tokens/npm";

/// What is asked for. The tenant comes from the caller's token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NpmTokenRequest {
    /// The project that the package belongs to.
    pub project_slug: ProjectSlug,
    /// The one package.
    pub package_name: PackageName,
    /// What will be done with it.
    pub action_mode: ActionMode,
    /// Must be the caller's when present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// The entitlements that the caller decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_entitlement_snapshot_id: Option<EntitlementSnapshotId>,
    /// Publish: the one version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_version: Option<PackageVersion>,
    /// Publish: the one artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_sha512: Option<Integrity>,
    /// Publish: the build on record that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protection_build_id: Option<String>,
    /// For the audit trail: which program will use the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_manager: Option<String>,
    /// For the audit trail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Decide, and mint nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// The token and what it is good for.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct NpmTokenResponse {
    /// Absent for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "reveal_some_on_the_wire")]
    pub token: Option<RegistryToken>,
    /// `Bearer`.
    pub token_type: String,
    /// When it stops working.
    pub expires_at: jiff::Timestamp,
    /// Seconds from now.
    pub expires_in: u64,
    /// The registry that takes it.
    pub registry_url: ServiceUrl,
    /// The package's scope.
    pub scope: PackageScope,
    /// A complete `.npmrc`; absent for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "reveal_some_on_the_wire")]
    pub npmrc: Option<RegistryToken>,
    /// What it allows.
    pub allowed_actions: Vec<Action>,
    /// The entitlements that allowed it.
    pub entitlement_snapshot_id: EntitlementSnapshotId,
    /// What the artifact must be.
    pub artifact_policy: Vec<ArtifactPolicy>,
    /// The trusted publisher or entitlement that allowed it.
    pub policy_id: String,
    /// Its rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleResult>,
    /// The decision.
    pub decision_id: String,
    /// The audit event that holds it.
    pub audit_event_id: String,
}
