//! Who calls the FractalOps API, once that is proven.

use protected_model::{
    api::audit::ActorKind,
    claims::{Publisher, SessionClaims},
    identity::RunIdentity,
    name::TenantId,
};
use protected_trust::verify::VerifiedIdToken;

/// A CI job or a person.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// The one tenant.
    pub(crate) tenant_id: TenantId,
    /// The run; of a person no more than issuer and subject are known.
    pub(crate) identity: RunIdentity,
    /// [`ActorKind::Ci`] or [`ActorKind::Human`].
    pub(crate) kind: ActorKind,
    /// What a person belongs to.
    pub(crate) groups: Vec<String>,
    /// The token's `jti`, or what stands for it.
    pub(crate) token_jti: String,
    /// The token's `exp`.
    pub(crate) token_exp: u64,
}

impl Session {
    /// Makes one of a run's verified session token.
    pub(crate) fn of_run(claims: SessionClaims) -> Self {
        Self {
            tenant_id: claims.tenant_id,
            identity: claims.identity,
            kind: ActorKind::Ci,
            groups: Vec::new(),
            token_jti: claims.jti,
            token_exp: claims.exp,
        }
    }

    /// Makes one of a person's verified token.
    pub(crate) fn of_person(tenant_id: TenantId, verified: VerifiedIdToken) -> Self {
        Self {
            tenant_id,
            kind: ActorKind::Human,
            groups: verified.groups,
            token_jti: verified.replay.as_str().to_owned(),
            token_exp: verified.expires,
            identity: verified.identity,
        }
    }

    /// Returns the run that calls; `None` for a person.
    pub(crate) fn publisher(&self) -> Option<Publisher> {
        (self.kind == ActorKind::Ci).then(|| Publisher::from(&self.identity))
    }
}
