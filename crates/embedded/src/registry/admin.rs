//! What takes something away from clients: deprecating, and taking versions back.
//!
//! For the machine's operator alone, in a repository with `allow_unpublish`. Bytes stay on disk as evidence, and a
//! number that was used stays used.

use axum::body::Body;
use protected_model::{
    api::problem::Code,
    time::whole_seconds,
    version::{DistTag, PackageVersion},
};

use super::{
    Request,
    document::{self, Document, Metadata},
    read::{json, nothing_yet},
    row::PackageRow,
    table,
};
use crate::{
    audit::{self, NewEvent},
    body::read_body,
    problem::{Answer, Refusal},
};

/// What became of a change.
enum Changed {
    Done,
    NoPackage,
    /// The client changed another state than the one that is.
    Stale,
}

/// Sets and clears `deprecated`, and nothing else.
pub(super) async fn deprecate(request: &Request<'_>, metadata: Metadata) -> Answer {
    let event = request.event("registry.deprecate");
    let (place, now) = (request.place.clone(), whole_seconds(request.app.now()));
    let changed = request.app.store.write(move |txn| {
        let Some(mut package) = table::package(txn, &place)? else { return Ok(Changed::NoPackage) };
        let mut versions = table::versions(txn, &place)?;
        if metadata.deprecated.keys().any(|version| !versions.contains_key(version)) {
            return Ok(Changed::Stale);
        }
        let mut changes = Vec::new();
        for (version, reason) in metadata.deprecated {
            let reason = Some(reason).filter(|reason| !reason.is_empty());
            if let Some(mut row) = versions.remove(&version)
                && row.deprecated != reason
            {
                row.deprecated = reason;
                changes.push((version, row));
            }
        }
        for (version, row) in &changes {
            table::put_version(txn, &place, version, row)?;
            append(txn, &event, version)?;
        }
        if !changes.is_empty() {
            package.revision += 1;
            package.modified = now;
            table::put_package(txn, &place, &package)?;
        }
        Ok(Changed::Done)
    });
    answer(request, changed.await?)
}

/// Takes back the versions that the body's document does not have any more.
pub(super) async fn remove_versions(request: &Request<'_>, rev: &str, body: Body) -> Answer {
    let limit = request.app.config.limits.body_bytes;
    let _upload = request.registry.upload(request.caller_id(), limit).await?;
    let body = read_body(request.headers, body, limit).await?;
    let package = request.place.package().clone();
    let parsed = tokio::task::spawn_blocking(move || document::parse(&body, &package)).await;
    let kept = match parsed {
        Ok(Ok(Document::Metadata(metadata))) => metadata.deprecated,
        Ok(Ok(Document::Publish(_))) => {
            return Err(Refusal::new(Code::INVALID_DOCUMENT, "a document that removes versions adds none"));
        }
        Ok(Err(error)) => return Err(Refusal::new(Code::INVALID_DOCUMENT, document::explained(&error))),
        Err(_) => return Err(crate::store::StoreError::GivenUp.into()),
    };
    remove(request, rev, move |version| !kept.contains_key(version)).await
}

/// Takes back every version.
pub(super) async fn remove_package(request: &Request<'_>, rev: &str) -> Answer {
    remove(request, rev, |_| true).await
}

/// Confirms that a version is gone: npm asks for its tarball to be deleted after it has removed the version.
pub(super) async fn remove_tarball(request: &Request<'_>, version: &PackageVersion) -> Answer {
    let standing = table::standing(&request.app.store.read()?, &request.place, version)?;
    match standing.version {
        None => answer(request, Changed::Done),
        Some(_) => answer(request, Changed::Stale),
    }
}

async fn remove(
    request: &Request<'_>,
    rev: &str,
    goes: impl Fn(&PackageVersion) -> bool + Send + 'static,
) -> Answer {
    let event = request.event("registry.unpublish");
    let (place, now, rev) = (request.place.clone(), whole_seconds(request.app.now()), rev.to_owned());
    let changed = request.app.store.write(move |txn| {
        let Some(mut package) = table::package(txn, &place)? else { return Ok(Changed::NoPackage) };
        if package.rev() != rev {
            return Ok(Changed::Stale);
        }
        let mut left = Vec::new();
        for version in table::versions(txn, &place)?.into_keys() {
            if goes(&version) {
                table::remove_version(txn, &place, &version)?;
                append(txn, &event, &version)?;
            } else {
                left.push(version);
            }
        }
        if left.is_empty() {
            table::remove_package(txn, &place)?;
            return Ok(Changed::Done);
        }
        name_what_is_left(&mut package, &left);
        package.revision += 1;
        package.modified = now;
        table::put_package(txn, &place, &package)?;
        Ok(Changed::Done)
    });
    answer(request, changed.await?)
}

/// Drops the tags of versions that are gone. `latest` falls to the highest release, or else the highest version.
fn name_what_is_left(package: &mut PackageRow, left: &[PackageVersion]) {
    let had_latest = package.tags.contains_key(&DistTag::latest());
    package.tags.retain(|_, version| left.contains(version));
    if had_latest && !package.tags.contains_key(&DistTag::latest()) {
        let releases = left.iter().filter(|version| !version.is_prerelease());
        if let Some(highest) = releases.max().or(left.iter().max()) {
            package.tags.insert(DistTag::latest(), highest.clone());
        }
    }
}

/// Appends an event of its own for each version.
fn append(
    txn: &redb::WriteTransaction,
    event: &NewEvent,
    version: &PackageVersion,
) -> Result<(), crate::store::StoreError> {
    let mut event = event.clone();
    event.0.id = ulid::Ulid::generate().to_string();
    event.0.target.version = Some(version.clone());
    audit::append(txn, event).map(drop)
}

fn answer(request: &Request<'_>, changed: Changed) -> Answer {
    match changed {
        Changed::Done => {
            request.registry.changed(&request.place);
            Ok(json(r#"{"ok":true,"success":true}"#))
        }
        Changed::NoPackage => Err(nothing_yet(request.place.package())),
        Changed::Stale => Err(Refusal::new(
            Code::INVALID_REQUEST,
            format!("{} has changed meanwhile: read it again", request.place.package()),
        )
        .status(axum::http::StatusCode::CONFLICT)),
    }
}
