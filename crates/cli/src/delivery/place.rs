//! Where a delivery lies: its folder, with the bundle and the manifest in it, and how it appears there at once.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use protected_bundle::{
    archive,
    layout::{self, LayoutError},
};
use protected_model::{
    delivery::{DeliveryError, DeliveryManifest, no_key_material},
    integrity::canonical,
};

use crate::error::{CommandError, Kind};

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

/// Finds the delivery that `path` names: its folder, or the bundle itself.
///
/// # Errors
/// When there is none.
pub(crate) fn find(path: &Path) -> Result<Found, CommandError> {
    let bundle = if path.is_dir() {
        let inside = [path.to_owned(), path.join(BUNDLE), path.join(BUNDLE_TAR)];
        let is_bundle = |path: &PathBuf| path.is_file() || path.join("oci-layout").is_file();
        inside.into_iter().find(is_bundle).ok_or_else(|| {
            let message = format!("`{}` holds no delivery", path.display());
            CommandError::usage(message).advise(format!(
                "name the folder with `{BUNDLE}` or `{BUNDLE_TAR}` in it, or one of these themselves"
            ))
        })?
    } else if path.is_file() {
        path.to_owned()
    } else {
        return Err(CommandError::usage(format!("there is no delivery at `{}`", path.display())));
    };
    let beside = bundle.parent().unwrap_or(Path::new("")).join(MANIFEST);
    Ok(Found { manifest: Some(beside).filter(|path| path.is_file()), bundle })
}

/// Reads what stands around the sealed content.
///
/// # Errors
/// When it is no delivery, or a part of it is not what the others say.
pub(crate) fn open(bundle: &Path) -> Result<layout::Delivery, CommandError> {
    layout::Delivery::open(bundle).map_err(|error| broken(bundle, &error))
}

/// Tells what is wrong with a bundle.
pub(crate) fn broken(bundle: &Path, error: &LayoutError) -> CommandError {
    let kind = match error {
        LayoutError::Write(..) => Kind::Failed,
        LayoutError::Exists(_) => Kind::Usage,
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
    let mut json = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut json));
    read.map_err(|error| bad(format!("cannot be read: {error}")))?;
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

/// A delivery that is being made, in a private folder beside the place where it appears.
///
/// The folder has one name for one place, and a lock beside it: what a killed command left is found and cleared, and
/// what another one is working on is left alone.
pub(crate) struct Staging {
    folder: PathBuf,
    to: PathBuf,
    lock: PathBuf,
    // Held until this goes.
    _held: fs::File,
}

impl Staging {
    /// Starts a delivery that is to appear at `to`.
    ///
    /// # Errors
    /// When something is there, when another command is at it, and when nothing can be written beside it.
    pub(crate) fn new(to: &Path) -> Result<Self, CommandError> {
        let cannot = |path: &Path, error: &io::Error| {
            CommandError::new(Kind::Failed, format!("cannot write `{}`: {error}", path.display()))
        };
        let (Some(name), Some(parent)) = (to.file_name(), to.parent()) else {
            return Err(CommandError::usage(format!("`{}` is no place for a delivery", to.display())));
        };
        fs::create_dir_all(parent).map_err(|error| cannot(parent, &error))?;
        let hidden = |end: &str| {
            let mut hidden = OsString::from(".sealing-");
            hidden.push(name);
            hidden.push(end);
            parent.join(hidden)
        };
        let (folder, lock) = (hidden(""), hidden(".lock"));
        let held = hold(&lock).map_err(|error| cannot(&lock, &error))?.ok_or_else(|| {
            let message = format!("another command is sealing `{}`", to.display());
            CommandError::new(Kind::Unavailable, message)
                .advise("wait for it, or give this one another --out")
        })?;
        let staging = Self { folder, to: to.to_owned(), lock, _held: held };
        if to.symlink_metadata().is_ok() {
            return Err(CommandError::usage(format!("`{}` is there already", to.display())));
        }
        staging.anew().map_err(|error| cannot(&staging.folder, &error))?;
        Ok(staging)
    }

    /// Makes the folder, after what a killed command left there is gone.
    fn anew(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        create_private(&self.folder)
    }

    /// Returns the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// Writes the manifest, and lets the delivery appear.
    ///
    /// # Errors
    /// When it cannot be written, or something came to be there.
    pub(crate) fn appear(self, manifest: &DeliveryManifest) -> Result<(), CommandError> {
        let finish = || -> io::Result<()> {
            let mut file = fs::File::create_new(self.folder.join(MANIFEST))?;
            file.write_all(&canonical(manifest))?;
            file.sync_all()?;
            if self.to.symlink_metadata().is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            archive::open_up(&self.folder)?;
            fs::rename(&self.folder, &self.to)?;
            archive::sync_folder(self.to.parent())
        };
        finish().map_err(|error| {
            CommandError::new(Kind::Failed, format!("cannot write `{}`: {error}", self.to.display()))
        })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Gone already where the delivery has appeared.
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_file(&self.lock);
    }
}

/// Takes a lock, unless another process has it.
fn hold(path: &Path) -> io::Result<Option<fs::File>> {
    loop {
        let file = fs::File::options().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        // Who had it before may have removed it meanwhile: another process would then hold another file.
        if is_at(&file, path)? {
            return Ok(Some(file));
        }
    }
}

#[cfg(unix)]
fn is_at(file: &fs::File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let own = file.metadata()?;
    Ok(fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())))
}

#[cfg(not(unix))]
fn is_at(_: &fs::File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

#[cfg(unix)]
fn create_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn create_private(folder: &Path) -> io::Result<()> {
    fs::create_dir(folder)
}
