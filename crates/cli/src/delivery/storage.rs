//! Delivery areas as a command uses them: where a delivery lies, stored and fetched.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use protected_bundle::staging::Private;
use protected_model::digest::Sha256;
use protected_storage::{Area, AreaRef, AreaRefError, DeliveryRef, Settings, StorageError, Stored};

use super::place::{Found, find, is_manifest, read_manifest};
use crate::{
    console::human_size,
    context::{self, Context},
    error::{CommandError, Kind},
};

/// Where a delivery lies that a command was given.
pub(crate) enum Place {
    /// On this machine.
    Here(Found),
    /// In a delivery area; with the digest that its manifest has, if that is known.
    Away(DeliveryRef, Option<Sha256>),
}

/// Finds the delivery that `text` names: a folder, a file, or a place in a delivery area.
///
/// # Errors
/// When there is none. A text that is no path is not repeated: it may be a token.
pub(crate) fn locate(context: &Context, text: &str) -> Result<Place, CommandError> {
    let away = |text: &str| {
        text.parse()
            .map_err(|error: AreaRefError| CommandError::usage(format!("where the delivery lies: {error}")))
    };
    if text.contains("://") {
        return Ok(Place::Away(away(text)?, None));
    }
    let path = context.settings.path(text)?;
    if !is_manifest(&path) {
        return find(&path).map(Place::Here);
    }
    let manifest = read_manifest(&path)?;
    match &manifest.bundle.uri {
        Some(uri) => Ok(Place::Away(away(uri)?, Some(manifest.bundle.sha256))),
        None => find(&path).map(Place::Here),
    }
}

/// Connects to a delivery area.
///
/// # Errors
/// When it cannot be used here.
pub(crate) fn connect(context: &Context, area: &AreaRef) -> Result<Area, CommandError> {
    let settings = Settings { environment: context.settings.environment.clone() };
    Area::connect(area, &settings, &context.http()?)
        .map_err(|error| failed("using the delivery area", &error))
}

/// Stores a bundle in an area. What is there already is not sent again.
///
/// # Errors
/// When the area cannot be written, or has another delivery of this name.
pub(crate) async fn store(context: &Context, area: &Area, bundle: &Path) -> Result<Stored, CommandError> {
    let started = Instant::now();
    let stored = context.cancel.or(area.store(bundle, &|_| {})).await?;
    let stored = stored.map_err(|error| {
        failed("storing the delivery", &error)
            .advise("the delivery is sealed: the same command again goes on from there")
    })?;
    let how = match stored.sent {
        0 => "there already".to_owned(),
        sent => format!("{sent} files, {}", human_size(stored.bytes)),
    };
    context.console.step("store", format!("{how}, at {}", stored.delivery), started);
    Ok(stored)
}

/// Fetches a delivery into a private folder in `parent`, which goes when what is returned does. Where it cannot, because the
/// process is killed, the next one there sweeps it away.
///
/// # Errors
/// When it is not there, or is not what its digests say.
pub(crate) async fn fetch(
    context: &Context,
    delivery: &DeliveryRef,
    expected: Option<&Sha256>,
    parent: &Path,
) -> Result<(Private, PathBuf), CommandError> {
    let area = connect(context, &delivery.area)?;
    let parent = parent.to_owned();
    let folder = context::compute(move || {
        Private::within(&parent).map_err(|error| {
            let place = parent.display();
            CommandError::new(
                Kind::Failed,
                format!("cannot make a folder to fetch into in `{place}`: {error}"),
            )
        })
    });
    let folder = folder.await?;
    let into = folder.folder().join("bundle");
    let started = Instant::now();
    let fetched = context.cancel.or(area.fetch(&delivery.address, expected, &into, &|_| {})).await?;
    fetched.map_err(|error| failed("fetching the delivery", &error))?;
    context.console.step("fetch", delivery.to_string(), started);
    Ok((folder, into))
}

/// Tells what a delivery area did not do.
pub(crate) fn failed(doing: &str, error: &StorageError) -> CommandError {
    let kind = match error {
        StorageError::Service { .. } => Kind::Failed,
        _ if error.is_transient() => Kind::Unavailable,
        StorageError::OtherDelivery { .. }
        | StorageError::OtherKeys { .. }
        | StorageError::OtherSignature { .. } => Kind::Conflict,
        StorageError::Layout(_) | StorageError::Bad { .. } | StorageError::Size { .. } => Kind::BadInput,
        StorageError::Refused { .. } | StorageError::NotAllowed { .. } => Kind::Refused,
        StorageError::File { .. } | StorageError::Http { .. } => Kind::Failed,
        _ => Kind::Usage,
    };
    CommandError::from_error(kind, doing, error).hint(error.hint())
}
