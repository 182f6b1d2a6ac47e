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

/// A tarball and the folder that it stands in.
pub(super) struct Place {
    pub(super) tarball: PathBuf,
    pub(super) folder: PathBuf,
}

pub(super) fn find(given: &Path) -> Result<Place, CommandError> {
    let refuse = |why: &str| CommandError::usage(format!("`{}` {why}", given.display()));
    if given.is_file() {
        let folder = given.parent().unwrap_or(Path::new(".")).to_owned();
        return Ok(Place { tarball: given.to_owned(), folder });
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
        [tarball] => Ok(Place { tarball: tarball.clone(), folder: given.to_owned() }),
        found => Err(refuse(&format!("holds {} tarballs, and the folder of a build holds one", found.len()))),
    }
}

pub(super) fn read_manifest(
    place: &Place,
    named: Option<PathBuf>,
) -> Result<Option<BuildManifest>, CommandError> {
    let beside = place.folder.join(build::MANIFEST);
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
