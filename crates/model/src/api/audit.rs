//! The audit trail: one event per decision, chained by hash.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem::Code;
use crate::{
    digest::Sha256,
    key_ref::KeyRef,
    name::{EntitlementSnapshotId, PackageName, ProjectSlug, TenantId},
    oci::{RepositoryAction, RepositoryName},
    version::PackageVersion,
};

/// `GET` lists events, oldest first.
pub const PATH: &str = "v1/audit/events";

/// Something that was asked for, and what was decided. Never holds a token, a key or an `.npmrc`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEvent {
    /// ULID.
    pub id: String,
    /// When.
    pub ts: jiff::Timestamp,
    /// The tenant, where the caller was recognised that far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// The project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_slug: Option<ProjectSlug>,
    /// Who.
    pub actor: Actor,
    /// `exchange`, `npm_token.mint`, `oci_token.mint`, `token.revoke`, `token.expired_unrevoked`, `build.record`,
    /// `registry.publish`, `registry.install`, `registry.dist_tag`, ...
    pub action: String,
    /// On what.
    #[serde(default)]
    pub target: Target,
    /// What was decided.
    pub decision: Decision,
    /// Why it was denied; absent when allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// The decision, as the caller was told.
    pub decision_id: String,
    /// The entitlements it was made on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entitlement_snapshot_id: Option<EntitlementSnapshotId>,
    /// The policy that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_id: Option<String>,
    /// The token used or minted, by `jti`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_jti: Option<String>,
    /// When that token stops working.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_exp: Option<jiff::Timestamp>,
    /// The caller's correlation id.
    pub request_id: String,
    /// The caller's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The caller's program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// `hash` of the event before; zeros for the first.
    pub prev_hash: Sha256,
    /// SHA-256 of this event as canonical JSON (RFC 8785) without this member.
    pub hash: Sha256,
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Actor {
    /// What kind of caller.
    pub kind: ActorKind,
    /// `sub`, or a word for a caller that was not recognised.
    pub sub: String,
    /// `iss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// See [`crate::identity::RunIdentity::repository_id`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,
    /// See [`crate::identity::RunIdentity::run_id`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
}

/// What kind of caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// A person.
    Human,
    /// A run of a CI platform.
    Ci,
    /// The machine's own operator.
    Operator,
    /// The service itself, such as when it notices an expired token.
    System,
    /// Nobody that could be recognised.
    Unknown,
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Target {
    /// The package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_name: Option<PackageName>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<PackageVersion>,
    /// The build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// The delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_id: Option<String>,
    /// The key that the delivery is wrapped with, or that the grant is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_ref: Option<KeyRef>,
    /// The repositories of a Docker registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<RepositoryTarget>,
}

/// A repository of a Docker registry that a token was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RepositoryTarget {
    /// The repository.
    pub name: RepositoryName,
    /// What was asked for, as far as it is an action.
    pub asked: BTreeSet<RepositoryAction>,
    /// What of that the token allows.
    pub granted: BTreeSet<RepositoryAction>,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It was done.
    Allow,
    /// It was refused.
    Deny,
}

/// One page of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditPage {
    /// The events.
    pub items: Vec<AuditEvent>,
    /// Give as `cursor` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
