//! Where the package that is verified lies, and what lies beside it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use protected_model::{build::BuildManifest, name::DeliveryLabel};

use crate::{
    build::{self, DELIVERY, Delivery},
    error::{CommandError, Kind},
};

/// The folder of the documents about a package, beside it.
pub(super) const EVIDENCE: &str = "evidence";

/// A tarball and the folder that it stands in.
pub(super) struct Place {
    pub(super) tarball: PathBuf,
    pub(super) folder: PathBuf,
    /// The folder of its documents.
    pub(super) evidence: PathBuf,
}

impl Place {
    /// Returns the place of a tarball in `folder`, whose documents stand where a build puts them.
    pub(super) fn of(tarball: PathBuf, folder: &Path) -> Self {
        Self { tarball, folder: folder.to_owned(), evidence: folder.join(EVIDENCE) }
    }
}

pub(super) fn find(given: &Path) -> Result<Place, CommandError> {
    let refuse = |why: &str| CommandError::usage(format!("`{}` {why}", given.display()));
    if given.is_file() {
        return Ok(Place::of(given.to_owned(), given.parent().unwrap_or(Path::new("."))));
    }
    if !given.is_dir() {
        return Err(refuse(
            "is not there: expected a tarball, the folder of a build, or a delivery on this machine",
        ));
    }
    let entries = fs::read_dir(given).map_err(|error| refuse(&format!("cannot be read: {error}")))?;
    let tarballs: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .collect();
    match tarballs.as_slice() {
        [tarball] => Ok(Place::of(tarball.clone(), given)),
        found => Err(refuse(&format!("holds {} tarballs, and the folder of a build holds one", found.len()))),
    }
}

pub(super) fn read_manifest(
    place: &Place,
    named: Option<PathBuf>,
) -> Result<Option<BuildManifest>, CommandError> {
    let beside = place.evidence.join(Path::new(build::MANIFEST).file_name().unwrap_or_default());
    let path = match named {
        Some(path) => path,
        None if beside.is_file() => beside,
        None => return Ok(None),
    };
    let refuse = |why: String| {
        CommandError::new(Kind::BadInput, format!("the build manifest `{}` {why}", path.display()))
    };
    let json = fs::read(&path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    serde_json::from_slice(&json).map(Some).map_err(|error| refuse(format!("is not one: {error}")))
}

/// Returns which delivery the build in `folder` is marked for, if any.
///
/// # Errors
/// When the file is there and says nothing.
pub(in crate::command) fn marked_for(folder: &Path) -> Result<Option<DeliveryLabel>, CommandError> {
    let file = folder.join(DELIVERY);
    if !file.exists() {
        return Ok(None);
    }
    let refuse = |why: String| CommandError::new(Kind::BadInput, format!("`{}` {why}", file.display()));
    let json = fs::read(&file).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let found: Delivery =
        serde_json::from_slice(&json).map_err(|error| refuse(format!("names no delivery: {error}")))?;
    Ok(Some(found.delivery))
}
