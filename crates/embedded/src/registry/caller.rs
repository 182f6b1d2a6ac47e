//! Who asks, and whether the token covers what is asked: the checks of every request, in one place and one order.
//!
//! 1 one `Authorization` header; 2 to 5 the token itself, see [`crate::auth::npm_token`]; 6 the path, see
//! [`super::path`]; 7 the action; 8 the package, by equality; 9 the tenant and the repository. A refusal for a
//! package outside the token says the same whether there is such a package or not.

use axum::http::HeaderMap;
use protected_model::{
    action::Action,
    api::{entitlement::PackageStatus, problem::Code},
    claims::RegistryClaims,
    name::PackageName,
};

use super::path::Operation;
use crate::{
    app::App,
    audit::NewEvent,
    auth,
    config::{ArchivedInstall, Repository},
    problem::{Answer, Refusal},
};

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// The bearer of a token for one package.
    Token(Box<RegistryClaims>),
    /// The machine's operator, in a repository that allows taking versions back.
    Operator,
}

/// What an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Any token for this repository.
    Token,
    /// To install the package.
    Install,
    /// To see the package's metadata. A publish token may: npm reads the packument before it publishes.
    Metadata,
    /// To publish the package.
    Publish,
    /// To be the operator.
    Operator,
    /// Nobody may.
    Nobody,
}

impl Caller {
    /// Recognises the caller.
    pub(crate) fn of(app: &App, headers: &HeaderMap, repository: &Repository) -> Answer<Self> {
        if repository.allow_unpublish && app.is_operator(auth::bearer(headers)?) {
            return Ok(Self::Operator);
        }
        auth::npm_token(app, headers, repository).map(|claims| Self::Token(Box::new(claims)))
    }

    /// Names the caller in an audit event.
    pub(crate) fn sign(&self, event: &mut NewEvent, repository: &Repository) {
        match self {
            Self::Token(claims) => event.by_npm_token(claims),
            Self::Operator => {
                event.by_operator();
                event.0.tenant_id = Some(repository.tenant.clone());
            }
        }
    }

    /// Checks that the caller may do `operation` in `repository`.
    pub(crate) fn may(&self, app: &App, repository: &Repository, operation: &Operation) -> Answer<()> {
        let need = need(operation);
        if let Operation::Refused { what } = operation {
            return Err(out_of_scope(format!("this registry has no {what}"))
                .hint("tokens come from FractalOps: `protected-registry token`, or the CI job's identity"));
        }
        let claims = match self {
            Self::Operator => return operator_may(app, repository, operation.package(), need),
            Self::Token(claims) => claims,
        };
        if let Some(package) = operation.package() {
            token_covers(app, claims, repository, package)?;
        }
        let has = |action| claims.allowed_actions.contains(&action);
        let allowed = match need {
            Need::Token => true,
            Need::Install => has(Action::Install),
            Need::Metadata => has(Action::Install) || has(Action::Publish),
            Need::Publish => has(Action::Publish),
            Need::Operator | Need::Nobody => {
                return Err(out_of_scope("deprecating and unpublishing is not for tokens of FractalOps")
                    .hint("publish a fixed version instead, or ask the operator of this registry"));
            }
        };
        if allowed {
            return is_in_use(app, claims, need);
        }
        let wanted = if need == Need::Publish { Action::Publish } else { Action::Install };
        let package = &claims.package_name;
        Err(Refusal::new(Code::ACTION_DENIED, format!("the token for {package} does not allow `{wanted}`"))
            .with(|problem| problem.allowed_actions.clone_from(&claims.allowed_actions)))
    }
}

/// Returns what an operation needs.
fn need(operation: &Operation) -> Need {
    match operation {
        Operation::Ping
        | Operation::Keys
        | Operation::Whoami
        | Operation::Search
        | Operation::BulkAdvisories
        | Operation::QuickAudit => Need::Token,
        Operation::Packument { .. }
        | Operation::Version { .. }
        | Operation::ListTags { .. }
        | Operation::Visibility { .. }
        | Operation::Attestations { .. }
        | Operation::AllAttestations { .. } => Need::Metadata,
        Operation::Tarball { .. } => Need::Install,
        // Without an attachment a PUT is a deprecation, which is refused once that is known.
        Operation::Put { .. } | Operation::SetTag { .. } | Operation::RemoveTag { .. } => Need::Publish,
        Operation::RemoveVersions { .. }
        | Operation::RemovePackage { .. }
        | Operation::RemoveTarball { .. } => Need::Operator,
        Operation::Refused { .. } => Need::Nobody,
    }
}

/// Checks 8 and 9. Attack: a token for `@acme/core` used for `@acme/core2`, `@acme/cor` or another repository;
/// so names are equal or they are not, and nothing is said about a package that the token is not for.
fn token_covers(
    app: &App,
    claims: &RegistryClaims,
    repository: &Repository,
    package: &PackageName,
) -> Answer<()> {
    let equal = *package == claims.package_name && package.scope() == claims.package_scope;
    let configured = app.config.package(&claims.tenant_id, package).is_some_and(|it| {
        it.repository == repository.name && it.project == claims.project_slug && repository.takes(package)
    });
    if equal && configured && claims.tenant_id == repository.tenant {
        return Ok(());
    }
    Err(out_of_scope(format!("the token is for {} and does not cover this package", claims.package_name)))
}

/// Checks that nobody has switched the package off since the token was minted.
fn is_in_use(app: &App, claims: &RegistryClaims, need: Need) -> Answer<()> {
    let Some(package) = app.config.package(&claims.tenant_id, &claims.package_name) else {
        return Err(out_of_scope("the token's package is not in this repository any more"));
    };
    let name = &claims.package_name;
    match package.status {
        PackageStatus::Active => Ok(()),
        PackageStatus::Disabled => Err(Refusal::new(Code::PACKAGE_DISABLED, format!("{name} is disabled"))),
        PackageStatus::Archived
            if need != Need::Publish && package.archived_install == ArchivedInstall::Allow =>
        {
            Ok(())
        }
        PackageStatus::Archived => Err(Refusal::new(Code::PACKAGE_ARCHIVED, format!("{name} is archived"))),
    }
}

/// The operator deprecates and takes back, reads what is needed for that, and publishes nothing.
fn operator_may(app: &App, repository: &Repository, package: Option<&PackageName>, need: Need) -> Answer<()> {
    if let Some(package) = package
        && app.config.package(&repository.tenant, package).is_none_or(|it| it.repository != repository.name)
    {
        return Err(out_of_scope("the package is not in this repository"));
    }
    match need {
        Need::Metadata | Need::Publish | Need::Operator => Ok(()),
        Need::Token | Need::Install | Need::Nobody => {
            Err(out_of_scope("the operator's token does not cover this"))
        }
    }
}

pub(crate) fn out_of_scope(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::OUT_OF_SCOPE, message)
}
