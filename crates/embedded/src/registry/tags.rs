//! Dist-tags: a name for a version, moved and removed on its own.

use axum::{body::Body, http::StatusCode};
use protected_model::{
    api::problem::Code,
    time::whole_seconds,
    version::{DistTag, PackageVersion},
};

use super::{
    Request,
    caller::{Caller, out_of_scope},
    publish::{Explicit, may_name},
    read::{json, nothing_yet},
    table,
};
use crate::{
    audit,
    body::read_body,
    problem::{Answer, Refusal},
};

/// A version in quotes.
const BODY_BYTES: u64 = 1024;

/// What became of a change.
enum Changed {
    Done,
    NoPackage,
    NoVersion,
    NoTag,
    /// The tag names this version, which the token is not for.
    Foreign(PackageVersion),
    Refused(String),
}

/// Lets `tag` name the version in the body.
pub(super) async fn set(request: &Request<'_>, tag: &DistTag, body: Body) -> Answer {
    let body = read_body(request.headers, body, BODY_BYTES).await?;
    let version: PackageVersion = serde_json::from_slice(&body).map_err(|_| {
        Refusal::new(Code::INVALID_REQUEST, "expected the body to be a version in quotes, as JSON")
    })?;
    request.note_version(&version);
    if let Some(own) = bound(request)
        && *own != version
    {
        return Err(out_of_scope(format!("the token is bound to version {own}, and sets tags of no other")));
    }
    let mut event = request.event("registry.dist_tag");
    event.0.target.version = Some(version.clone());
    let (place, now, own) = (request.place.clone(), whole_seconds(request.app.now()), tag.clone());
    let wanted = version.clone();
    let changed = request.app.store.write(move |txn| {
        let Some(mut package) = table::package(txn, &place)? else { return Ok(Changed::NoPackage) };
        if table::version(txn, &place, &wanted)?.is_none() {
            return Ok(Changed::NoVersion);
        }
        if let Err(reason) = may_name(&package.tags, &own, &wanted, Explicit(true)) {
            return Ok(Changed::Refused(reason));
        }
        if package.tags.get(&own) == Some(&wanted) {
            return Ok(Changed::Done);
        }
        package.tags.insert(own, wanted);
        package.revision += 1;
        package.modified = now;
        table::put_package(txn, &place, &package)?;
        audit::append(txn, event)?;
        Ok(Changed::Done)
    });
    answer(request, tag, Some(&version), changed.await?)
}

/// Takes `tag` away.
pub(super) async fn remove(request: &Request<'_>, tag: &DistTag) -> Answer {
    if *tag == DistTag::latest() {
        return Err(Refusal::new(
            Code::INVALID_REQUEST,
            "`latest` cannot be removed: every client asks for it",
        ));
    }
    let event = request.event("registry.dist_tag");
    let (place, now, own) = (request.place.clone(), whole_seconds(request.app.now()), tag.clone());
    let bound = bound(request).cloned();
    let changed = request.app.store.write(move |txn| {
        let Some(mut package) = table::package(txn, &place)? else { return Ok(Changed::NoPackage) };
        let Some(version) = package.tags.remove(&own) else { return Ok(Changed::NoTag) };
        if bound.is_some_and(|bound| bound != version) {
            return Ok(Changed::Foreign(version));
        }
        package.revision += 1;
        package.modified = now;
        table::put_package(txn, &place, &package)?;
        let mut event = event;
        event.0.target.version = Some(version);
        audit::append(txn, event)?;
        Ok(Changed::Done)
    });
    answer(request, tag, None, changed.await?)
}

fn answer(
    request: &Request<'_>,
    tag: &DistTag,
    version: Option<&PackageVersion>,
    changed: Changed,
) -> Answer {
    let package = request.place.package();
    let not_found = |what: String| Err(Refusal::new(Code::NOT_FOUND, format!("{package} has no {what}")));
    match changed {
        Changed::Done => {
            request.registry.changed(&request.place);
            let mut response = json(r#"{"ok":true,"success":true}"#);
            *response.status_mut() = if version.is_some() { StatusCode::CREATED } else { StatusCode::OK };
            Ok(response)
        }
        Changed::NoPackage => Err(nothing_yet(package)),
        Changed::NoVersion => {
            not_found(version.map_or_else(String::new, |version| format!("version {version}")))
        }
        Changed::NoTag => not_found(format!("dist-tag `{tag}`", tag = tag.as_str())),
        Changed::Foreign(version) => {
            let tag = tag.as_str();
            Err(out_of_scope(format!("`{tag}` names version {version}, which the token is not bound to")))
        }
        Changed::Refused(reason) => Err(Refusal::new(Code::INVALID_DOCUMENT, reason)),
    }
}

/// The one version that the token is for.
fn bound<'a>(request: &'a Request<'_>) -> Option<&'a PackageVersion> {
    match &request.caller {
        Caller::Token(claims) => claims.version.as_ref(),
        Caller::Operator => None,
    }
}
