//! The claims of the tokens that FractalOps mints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    action::{Action, ArtifactPolicy},
    digest::Integrity,
    identity::RunIdentity,
    name::{EntitlementSnapshotId, PackageName, PackageScope, ProjectSlug, TenantId},
    oci::Access,
    version::PackageVersion,
};

/// `typ` of a CI session token. Each kind of token has its own, so that none is taken in another's place.
pub const SESSION_TOKEN_TYPE: &str = "fo-session+jwt";
/// `typ` of an npm token.
pub const NPM_TOKEN_TYPE: &str = "fo-npm+jwt";
/// `typ` of a token for a Docker registry.
pub const OCI_TOKEN_TYPE: &str = "fo-oci+jwt";
/// `aud` of a CI session token.
pub const SESSION_AUDIENCE: &str = "fractalops-api";
/// Life of a CI session token, in seconds.
pub const SESSION_SECONDS: u64 = 900;
/// Life of a token that may only install, in seconds.
pub const INSTALL_SECONDS: u64 = 900;
/// Life of a token that may publish, in seconds.
pub const PUBLISH_SECONDS: u64 = 300;
/// Life of a token for a Docker registry, in seconds. The registry never asks whether it was revoked.
pub const OCI_SECONDS: u64 = 300;

/// The claims of a CI session token: who is asking, and no right to any package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionClaims {
    /// The FractalOps that minted it.
    pub iss: String,
    /// [`SESSION_AUDIENCE`].
    pub aud: String,
    /// The run's subject.
    pub sub: String,
    /// Seconds since 1970.
    pub iat: u64,
    /// Seconds since 1970.
    pub nbf: u64,
    /// Seconds since 1970.
    pub exp: u64,
    /// Unique.
    pub jti: String,
    /// The tenant whose publishers the run matched.
    pub tenant_id: TenantId,
    /// The run, as verified at the exchange.
    pub identity: RunIdentity,
}

/// The claims of an npm token: what the registry checks on every request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryClaims {
    /// The FractalOps that minted it.
    pub iss: String,
    /// The registry's URL; one string, never a list.
    pub aud: String,
    /// Who asked.
    pub sub: String,
    /// Seconds since 1970.
    pub iat: u64,
    /// Seconds since 1970.
    pub nbf: u64,
    /// Seconds since 1970.
    pub exp: u64,
    /// Unique; revocation works on it.
    pub jti: String,
    /// The tenant.
    pub tenant_id: TenantId,
    /// The project.
    pub project_slug: ProjectSlug,
    /// The one package.
    pub package_name: PackageName,
    /// Its scope, empty when it has none.
    pub package_scope: PackageScope,
    /// Never empty.
    pub allowed_actions: Vec<Action>,
    /// The entitlements that allowed it.
    pub entitlement_snapshot_id: EntitlementSnapshotId,
    /// What the artifact must be.
    pub artifact_policy: Vec<ArtifactPolicy>,
    /// The one version that may be published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<PackageVersion>,
    /// The one artifact that may be published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrity: Option<Integrity>,
    /// The run that asked; absent for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<Publisher>,
}

/// The claims of a token for a Docker registry: what distribution reads, and the tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OciClaims {
    /// The FractalOps that minted it.
    pub iss: String,
    /// The registry's `service`; one string, since distribution 2 takes no list.
    pub aud: String,
    /// Who asked.
    pub sub: String,
    /// Seconds since 1970.
    pub iat: u64,
    /// Seconds since 1970.
    pub nbf: u64,
    /// Seconds since 1970.
    pub exp: u64,
    /// Unique.
    pub jti: String,
    /// The tenant.
    pub tenant_id: TenantId,
    /// What it allows; perhaps nothing.
    pub access: Vec<Access>,
}

/// The run behind a token or a record, by what does not change afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Publisher {
    /// Who issued the run's ID token.
    pub issuer: String,
    /// See [`RunIdentity::repository_id`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,
    /// See [`RunIdentity::repository`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// See [`RunIdentity::run_id`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// See [`RunIdentity::sha`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
    /// See [`RunIdentity::workflow_ref`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_ref: Option<String>,
}

impl From<&RunIdentity> for Publisher {
    fn from(identity: &RunIdentity) -> Self {
        Self {
            issuer: identity.issuer.clone(),
            repository_id: identity.repository_id.clone(),
            repository: identity.repository.clone(),
            run_id: identity.run_id.clone(),
            sha: identity.sha.clone(),
            workflow_ref: identity.workflow_ref.clone(),
        }
    }
}
