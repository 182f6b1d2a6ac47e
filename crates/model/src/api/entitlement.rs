//! `GET /v1/packages/entitlements`: what the caller may do with the packages of a project, and why not.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem::Code;
use crate::name::{EntitlementSnapshotId, PackageName, ProjectSlug};

/// The endpoint's path below the base URL; takes `project_slug` and, for one package, `package_name`.
pub const PATH: &str = "v1/packages/entitlements";

/// What the caller may do in a project, as of now. A token is decided on anew, never on this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entitlements {
    /// The state of the entitlements that this says.
    pub snapshot_id: EntitlementSnapshotId,
    /// The project.
    pub project_slug: ProjectSlug,
    /// Its packages in the order of their names.
    pub packages: Vec<PackageEntitlement>,
}

/// What the caller may do with one package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PackageEntitlement {
    /// The package.
    pub name: PackageName,
    /// Whether it is in use.
    pub status: PackageStatus,
    /// Each action.
    pub actions: ActionEntitlements,
}

/// Whether a package is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PackageStatus {
    /// It is.
    #[default]
    Active,
    /// Nobody may do anything with it.
    Disabled,
    /// Nobody may publish it.
    Archived,
}

/// Each action with whether the caller may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActionEntitlements {
    /// Read metadata and tarballs.
    pub install: ActionEntitlement,
    /// Add a version.
    pub publish: ActionEntitlement,
}

/// Whether the caller may do something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActionEntitlement {
    /// Whether.
    pub allowed: bool,
    /// The code with which it would be denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
