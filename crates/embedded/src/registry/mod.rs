//! The npm registry: what stock npm, pnpm and yarn ask for below `/repository/<name>/`.
//!
//! Every request takes the same way: who asks ([`caller`]), what is asked ([`path`]), whether that is covered
//! ([`caller`] again), and only then its body. What clients read is rendered once per revision ([`packument`]).

mod admin;
mod admission;
mod attestation;
mod cache;
mod caller;
mod document;
mod json;
mod manifest;
mod packument;
mod path;
mod publish;
mod read;
mod row;
mod search;
mod signature;
mod state;
mod table;
mod tags;
mod tarball;
pub(crate) mod trusted;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Extension, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
};
use protected_model::{
    api::problem::Code,
    claims::RegistryClaims,
    name::{PackageName, TenantId},
    version::PackageVersion,
};

use self::{
    caller::Caller,
    path::{Operation, PathError},
    row::Artifact,
    state::Registry,
    table::Place,
};
pub(crate) use self::{signature::sign_older, table::is_published};
use crate::{
    app::App,
    audit::NewEvent,
    config::Repository,
    endpoint::{Credential, Endpoint, register},
    problem::{Answer, Refusal},
    request::RequestInfo,
};

/// Where repositories are, as the router matches it. What is behind the name is read by [`path`] alone.
const ROUTE: &str = "repository/{repository}/{*path}";
/// The same in a request.
const PREFIX: &str = "/repository/";

/// Returns every endpoint of the registry.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get(
            ROUTE,
            "Read a package: its packument, a version, a tarball, its dist-tags, its attestations; keys, ping, whoami, \
             search",
            serve,
        )
        .credential(Credential::NpmToken)
        .shown_as(&[
            "/repository/{repository}/{package}",
            "/repository/{repository}/{package}/{version}",
            "/repository/{repository}/{package}/-/{tarball}",
            "/repository/{repository}/-/package/{package}/dist-tags",
            "/repository/{repository}/-/package/{package}/visibility",
            "/repository/{repository}/-/ping",
            "/repository/{repository}/-/whoami",
            "/repository/{repository}/-/v1/search",
            "/repository/{repository}/-/npm/v1/keys",
            "/repository/{repository}/-/npm/v1/attestations/{package}@{version}",
            "/repository/{repository}/-/protected-registry/v1/attestations/{package}@{version}",
        ])
        .answers_with(200, "What was asked for", Some("application/json"))
        .answers_with(304, "`If-None-Match` names what is there", None),
        Endpoint::new(Method::PUT, ROUTE, "Publish a version, or set a dist-tag", serve)
            .credential(Credential::NpmToken)
            .shown_as(&[
                "/repository/{repository}/{package}",
                "/repository/{repository}/-/package/{package}/dist-tags/{tag}",
            ])
            .answers_with(
                201,
                "It is published, or the same token had published the same",
                Some("application/json"),
            ),
        Endpoint::new(Method::DELETE, ROUTE, "Remove a dist-tag", serve)
            .credential(Credential::NpmToken)
            .shown_as(&["/repository/{repository}/-/package/{package}/dist-tags/{tag}"])
            .answers_with(200, "It is gone", Some("application/json")),
        Endpoint::post(ROUTE, "Ask for advisories, of which none are known here", serve)
            .credential(Credential::NpmToken)
            .shown_as(&[
                "/repository/{repository}/-/npm/v1/security/advisories/bulk",
                "/repository/{repository}/-/npm/v1/security/audits/quick",
            ])
            .answers_with(200, "None", Some("application/json")),
    ]
}

/// Returns their routes, with the memory that they share.
pub(crate) fn router() -> Router<Arc<App>> {
    register(endpoints()).layer(Extension(Arc::new(Registry::new())))
}

/// Returns the tarball of a published version.
pub(crate) fn artifact(
    app: &App,
    txn: &redb::ReadTransaction,
    tenant: &TenantId,
    package: &PackageName,
    version: &PackageVersion,
) -> Answer<Option<Artifact>> {
    let configured = app.config.package(tenant, package);
    let Some(repository) = configured.and_then(|it| app.config.repository(&it.repository)) else {
        return Ok(None);
    };
    let standing = table::standing(txn, &Place::new(tenant, repository, package), version)?;
    Ok(standing.version.map(|row| row.artifact()))
}

/// A request that was let through.
struct Request<'a> {
    app: &'a Arc<App>,
    registry: &'a Registry,
    repository: &'a Repository,
    headers: &'a HeaderMap,
    info: &'a RequestInfo,
    caller: Caller,
    /// The package that the request is about; the token's own where it is about none.
    place: Place,
    /// The version, once it is known; a refusal names it.
    version: Mutex<Option<PackageVersion>>,
}

impl Request<'_> {
    /// Begins the audit event of `action`.
    fn event(&self, action: &str) -> NewEvent {
        let mut event = NewEvent::new(action, self.info, self.app.now());
        self.caller.sign(&mut event, self.repository);
        event.0.target.package_name = Some(self.place.package().clone());
        event.0.target.version = self.version.lock().unwrap_or_else(PoisonError::into_inner).clone();
        event
    }

    fn claims(&self) -> Option<&RegistryClaims> {
        match &self.caller {
            Caller::Token(claims) => Some(claims),
            Caller::Operator => None,
        }
    }

    /// Returns what tells this caller from others.
    fn caller_id(&self) -> &str {
        self.claims().map_or("operator", |claims| &claims.jti)
    }

    /// Notes which version the request is about.
    fn note_version(&self, version: &PackageVersion) {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = Some(version.clone());
    }
}

async fn serve(
    State(app): State<Arc<App>>,
    Extension(registry): Extension<Arc<Registry>>,
    info: RequestInfo,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let below = uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let (name, path) = below.split_at(below.find('/').unwrap_or(below.len()));
    let Some(repository) = app.config.repository(name) else {
        return Err(Refusal::new(Code::NOT_FOUND, "there is no such repository"));
    };
    let begun = |operation: Option<&Operation>| NewEvent::new(action(operation), &info, app.now());
    let caller = Caller::of(&app, &headers, repository).map_err(|refusal| {
        // A token that once was ours is worth a line in the audit trail. Noise is not: a stranger could fill the
        // disk with it.
        if [Code::TOKEN_EXPIRED, Code::TOKEN_REVOKED, Code::OUT_OF_SCOPE].contains(refusal.code()) {
            refusal.about(begun(None))
        } else {
            refusal
        }
    })?;
    let denied = |refusal: Refusal, operation: Option<&Operation>| {
        let mut event = begun(operation);
        caller.sign(&mut event, repository);
        if let Some(package) = operation.and_then(Operation::package) {
            event.0.target.package_name = Some(package.clone());
        }
        recorded(refusal, event)
    };
    let operation = Operation::parse(&method, path).map_err(|error| denied(path_refusal(&error), None))?;
    caller.may(&app, repository, &operation).map_err(|refusal| denied(refusal, Some(&operation)))?;
    let own = match &caller {
        Caller::Token(claims) => Some(&claims.package_name),
        Caller::Operator => None,
    };
    let Some(package) = operation.package().or(own) else {
        return Err(Refusal::new(Code::NOT_FOUND, "there is nothing at this path"));
    };
    let place = Place::new(&repository.tenant, repository, package);
    let request = Request {
        app: &app,
        registry: &registry,
        repository,
        headers: &headers,
        info: &info,
        caller: caller.clone(),
        place,
        version: Mutex::new(None),
    };
    let answer = answer(&request, &operation, uri.query(), body).await;
    answer.map_err(|refusal| recorded(refusal, request.event(action(Some(&operation)))))
}

async fn answer(request: &Request<'_>, operation: &Operation, query: Option<&str>, body: Body) -> Answer {
    match operation {
        Operation::Packument { .. } => read::packument(request).await,
        Operation::Version { wanted, .. } => read::version(request, wanted).await,
        Operation::Tarball { version, .. } => read::tarball(request, version).await,
        Operation::ListTags { .. } => read::tags(request).await,
        Operation::Visibility { .. } => Ok(read::visibility()),
        Operation::Put { .. } => publish::put(request, body).await,
        Operation::SetTag { tag, .. } => tags::set(request, tag, body).await,
        Operation::RemoveTag { tag, .. } => tags::remove(request, tag).await,
        Operation::RemoveVersions { rev, .. } => admin::remove_versions(request, rev, body).await,
        Operation::RemovePackage { rev, .. } => admin::remove_package(request, rev).await,
        Operation::RemoveTarball { version, .. } => admin::remove_tarball(request, version).await,
        Operation::Attestations { version, .. } => attestation::for_npm(request, version).await,
        Operation::AllAttestations { version, .. } => attestation::all(request, version).await,
        Operation::Keys => Ok(signature::keys(request)),
        Operation::Ping => Ok(search::ping()),
        Operation::Whoami => Ok(search::whoami(request)),
        Operation::Search => search::search(request, query).await,
        Operation::BulkAdvisories => search::bulk_advisories(request, body).await,
        Operation::QuickAudit => search::quick_audit(request, body).await,
        Operation::Refused { .. } => Err(Refusal::new(Code::NOT_FOUND, "there is nothing at this path")),
    }
}

/// Returns what an operation is called in the audit trail.
fn action(operation: Option<&Operation>) -> &'static str {
    match operation {
        Some(
            Operation::Packument { .. }
            | Operation::Version { .. }
            | Operation::ListTags { .. }
            | Operation::Visibility { .. }
            | Operation::Attestations { .. }
            | Operation::AllAttestations { .. },
        ) => "registry.read",
        Some(Operation::Tarball { .. }) => "registry.install",
        Some(Operation::Put { .. }) => "registry.publish",
        Some(Operation::SetTag { .. } | Operation::RemoveTag { .. }) => "registry.dist_tag",
        Some(
            Operation::RemoveVersions { .. }
            | Operation::RemovePackage { .. }
            | Operation::RemoveTarball { .. },
        ) => "registry.unpublish",
        _ => "registry.request",
    }
}

/// Leaves the event of a denial. What is not there yet, and what failed, was not denied.
fn recorded(refusal: Refusal, event: NewEvent) -> Refusal {
    if [Code::NOT_FOUND, Code::OVERLOADED, Code::INTERNAL].contains(refusal.code()) {
        return refusal;
    }
    refusal.about(event)
}

fn path_refusal(error: &PathError) -> Refusal {
    let message = error.to_string();
    match error {
        PathError::Unknown => Refusal::new(Code::NOT_FOUND, message),
        PathError::Method(_) => {
            Refusal::new(Code::INVALID_REQUEST, message).status(StatusCode::METHOD_NOT_ALLOWED)
        }
        _ => Refusal::new(Code::INVALID_REQUEST, message),
    }
}
