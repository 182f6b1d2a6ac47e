//! Where a delivery lies: its folder, with the bundle and the manifest in it.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use protected_bundle::{
    layout::{self, LayoutError},
    staging,
};
use protected_model::{
    delivery::{DeliveryError, DeliveryManifest, no_key_material},
    integrity::canonical,
};

use super::contents::{Stoppable, digest};
use crate::{
    error::{CommandError, Kind},
    read,
};

/// The manifest of a delivery, in its folder.
pub(crate) const MANIFEST: &str = "delivery-manifest.json";

/// The bundle in the folder of a delivery: an OCI image layout, or a tar file of one.
pub(crate) const BUNDLE: &str = "bundle";
pub(crate) const BUNDLE_TAR: &str = "bundle.tar";

/// The largest manifest that is read. One of the most files that may be has less.
const MAX_MANIFEST_BYTES: u64 = 16 << 20;

/// A delivery on disk.
#[derive(Debug)]
pub(crate) struct Found {
    /// The layout, or the tar file of it.
    pub(crate) bundle: PathBuf,
    /// The manifest beside it, if there is one.
    pub(crate) manifest: Option<PathBuf>,
}

/// Finds the delivery that `path` names: its folder, the bundle itself, or a manifest beside it.
///
/// # Errors
/// When there is none.
pub(crate) fn find(path: &Path) -> Result<Found, CommandError> {
    let none = |message: String| {
        CommandError::usage(message).advise(format!(
            "name the folder with `{BUNDLE}` or `{BUNDLE_TAR}` in it, or one of these themselves, or in an area <area>/<bundle id>"
        ))
    };
    let bundle = if path.is_dir() {
        let inside = [path.to_owned(), path.join(BUNDLE), path.join(BUNDLE_TAR)];
        let is_bundle = |path: &PathBuf| path.is_file() || path.join("oci-layout").is_file();
        inside
            .into_iter()
            .find(is_bundle)
            .ok_or_else(|| none(format!("`{}` holds no delivery", path.display())))?
    } else if is_manifest(path) {
        let beside = find(path.parent().unwrap_or(Path::new(".")));
        let beside = beside.map_err(|_| none(format!("no bundle stands beside `{}`", path.display())))?;
        return Ok(Found { manifest: Some(path.to_owned()), ..beside });
    } else if path.is_file() {
        path.to_owned()
    } else {
        return Err(CommandError::usage(format!("there is no delivery at `{}`", path.display())));
    };
    let beside = bundle.parent().unwrap_or(Path::new("")).join(MANIFEST);
    Ok(Found { manifest: Some(beside).filter(|path| path.is_file()), bundle })
}

/// Whether this is a file that may be the manifest of a delivery, and is no bundle.
pub(crate) fn is_manifest(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|extension| extension == "json")
}

/// Returns the delivery at `path`, if it is one by its form: a folder with a bundle, a layout, a tar file, or a manifest.
///
/// # Errors
/// When a manifest has no bundle beside it.
pub(crate) fn at(path: &Path) -> Result<Option<Found>, CommandError> {
    let is_tar = path.is_file() && path.extension().is_some_and(|extension| extension == "tar");
    // Attack: a bundle laid beside a tarball, so that nobody looks at the tarball.
    let has_tarball = |folder: &Path| {
        fs::read_dir(folder).is_ok_and(|mut all| {
            all.any(|entry| entry.is_ok_and(|it| it.path().extension().is_some_and(|it| it == "tgz")))
        })
    };
    match () {
        () if is_manifest(path) => find(path).map(Some),
        () if is_tar || path.is_dir() && !has_tarball(path) => Ok(find(path).ok()),
        () => Ok(None),
    }
}

/// Reads what stands around the sealed content.
///
/// # Errors
/// When it is no delivery, or a part of it is not what the others say.
pub(crate) fn open(bundle: &Path) -> Result<layout::Delivery, CommandError> {
    layout::Delivery::open(bundle).map_err(|error| broken(bundle, &error))
}

/// Reads the sealed content to its end, and holds it against its digest.
///
/// # Errors
/// When it is another, or cannot be read, and at `stop`.
pub(crate) fn check_content(
    bundle: &layout::Delivery,
    path: &Path,
    stop: &Arc<AtomicBool>,
) -> Result<(), CommandError> {
    let failed = |error: LayoutError| broken(path, &error);
    let sealed = Stoppable { inner: bundle.unverified_content().map_err(failed)?, stop: Arc::clone(stop) };
    let (sha256, size) =
        digest(sealed).map_err(|error| failed(LayoutError::Read(bundle.content().path(), error)))?;
    bundle.content().matches(layout::Digest(sha256), size).map_err(failed)
}

/// Tells what is wrong with a bundle.
pub(crate) fn broken(bundle: &Path, error: &LayoutError) -> CommandError {
    let kind = match error {
        LayoutError::Write(..) => Kind::Failed,
        LayoutError::Exists(_) => Kind::Usage,
        LayoutError::Changed => Kind::Conflict,
        _ => Kind::BadInput,
    };
    CommandError::from_error(kind, &format!("the bundle `{}`", bundle.display()), error)
}

/// Reads a manifest, and refuses one in which anything looks like a key before any of it is repeated.
///
/// # Errors
/// When it is none, or contradicts itself.
pub(crate) fn read_manifest(path: &Path) -> Result<DeliveryManifest, CommandError> {
    let bad = |reason: String| {
        CommandError::new(Kind::BadInput, format!("the delivery manifest `{}` {reason}", path.display()))
    };
    let json = read::at_most(path, MAX_MANIFEST_BYTES);
    let json = json.map_err(|error| bad(format!("cannot be read: {error}")))?;
    if json.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(bad(format!("is larger than {MAX_MANIFEST_BYTES} bytes")));
    }
    // The parser's own words may repeat what stands there.
    let unread = |error: serde_json::Error| {
        bad(format!("is not one at line {}, column {}", error.line(), error.column()))
    };
    let refused = |error: DeliveryError| {
        let refused = bad(format!("is refused: {error}"));
        match error {
            DeliveryError::KeyMaterial(_) => refused.advise(
                "name the key by its reference, such as openbao://<mount>/<key>; treat the key as leaked",
            ),
            _ => refused,
        }
    };
    let raw: serde_json::Value = serde_json::from_slice(&json).map_err(unread)?;
    no_key_material(&raw).map_err(refused)?;
    let manifest: DeliveryManifest = serde_json::from_slice(&json).map_err(unread)?;
    manifest.check().map_err(refused)?;
    Ok(manifest)
}

/// Writes the manifest of a delivery at `place`, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn save_manifest(place: &Path, manifest: &DeliveryManifest) -> Result<(), CommandError> {
    let folder = place.parent().unwrap_or(Path::new("."));
    let save = || -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
        file.write_all(&canonical(manifest))?;
        // A temporary file is its owner's alone; this one is as public as the bundle.
        #[cfg(unix)]
        file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(place)?;
        staging::sync_folder(folder)
    };
    save().map_err(|error| {
        CommandError::new(Kind::Failed, format!("cannot write `{}`: {error}", place.display()))
    })
}

/// Returns where a manifest and the bundle beside it say different things, if they do.
///
/// The keys do not count: they are wrapped anew without the manifest.
pub(crate) fn contradiction(manifest: &DeliveryManifest, bundle: &layout::Delivery) -> Option<&'static str> {
    let descriptor = bundle.descriptor();
    let (digest, content) = (bundle.bundle().digest.0, bundle.content());
    [
        ("bundle.sha256", manifest.bundle.sha256 == digest),
        ("bundle.size", manifest.bundle.size == content.size),
        ("bundle_id", manifest.bundle_id == descriptor.bundle_id),
        ("tenant_id", manifest.tenant_id == descriptor.tenant_id),
        ("project_slug", manifest.project_slug == descriptor.project_slug),
        ("customer_slug", manifest.customer_slug == descriptor.customer_slug),
        ("package_name", manifest.package_name == descriptor.package_name),
        ("version", manifest.version == descriptor.version),
        ("contents", manifest.contents == descriptor.contents),
        ("integrity.size", manifest.integrity.size == descriptor.archive_bytes),
        ("key_provider.context", manifest.key_provider.context == descriptor.key_context()),
    ]
    .into_iter()
    .find_map(|(field, same)| (!same).then_some(field))
}
