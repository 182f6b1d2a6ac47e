//! The package folder that is worked on: what it says it is, before anything is done with it.

use std::path::{Path, PathBuf};

use protected_model::{
    name::PackageName,
    version::{DistTag, PackageVersion},
};
use protected_npm::{pack::PackError, package_json::PackageJson};

use crate::error::{CommandError, Kind};

/// A package folder that was looked at and not yet built.
#[derive(Clone)]
pub(crate) struct Package {
    pub(crate) folder: PathBuf,
    pub(crate) name: PackageName,
    pub(crate) version: PackageVersion,
    /// `publishConfig.tag`.
    pub(crate) publish_tag: Option<DistTag>,
}

/// Reads a folder's package.json and holds it against what was asked for.
///
/// # Errors
/// When it is not there or not valid, and when name or version are others.
pub(crate) fn look_at(
    folder: &Path,
    name: Option<&PackageName>,
    version: Option<&PackageVersion>,
) -> Result<Package, CommandError> {
    let read = PackageJson::read(folder).map_err(|error| {
        let hint = error.hint();
        let doing = format!("reading the package in `{}`", folder.display());
        CommandError::from_error(Kind::BadInput, &doing, &error).hint(hint)
    })?;
    if read.is_private() {
        return Err(CommandError::new(
            Kind::BadInput,
            format!(
                "`{}` has `\"private\": true` in its package.json, so it is not to be published",
                read.name()
            ),
        )
        .advise("remove `private` when this package is meant for a registry"));
    }
    let found = (read.name().clone(), read.version().clone());
    expect("package", name, &found.0, folder)?;
    expect("version", version, &found.1, folder)?;
    let publish_tag = read.publish_tag().cloned();
    Ok(Package { folder: folder.to_owned(), name: found.0, version: found.1, publish_tag })
}

fn expect<T: PartialEq + std::fmt::Display>(
    what: &str,
    expected: Option<&T>,
    found: &T,
    folder: &Path,
) -> Result<(), CommandError> {
    match expected {
        Some(expected) if expected != found => Err(CommandError::new(
            Kind::BadInput,
            format!(
                "{what} `{expected}` was asked for, but package.json in `{}` says `{found}`",
                folder.display()
            ),
        )),
        _ => Ok(()),
    }
}

/// Says why a folder or a tarball cannot be packed.
pub(crate) fn packing(path: &Path, error: &PackError) -> CommandError {
    let doing = format!("packing `{}`", path.display());
    CommandError::from_error(Kind::BadInput, &doing, error).hint(error.hint())
}
