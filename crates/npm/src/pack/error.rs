//! Why a package cannot be listed or packed.

use std::{io, path::PathBuf};

use protected_model::hint::Hint;

use crate::{glob::PatternError, package_json::PackageJsonError, tarball::TarballError};

/// Why a package cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Its manifest is missing or wrong.
    #[error(transparent)]
    PackageJson(#[from] PackageJsonError),
    /// A file or folder cannot be read.
    #[error("reading `{}`", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not the one that was listed.
    #[error("`{}` changed while it was packed: it had {expected} bytes, then {actual}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Bytes when it was listed.
        expected: u64,
        /// Bytes when it was read.
        actual: u64,
    },
    /// A name cannot stand in a tarball.
    #[error("the name of `{}` is not UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// Folders nest too deep.
    #[error("`{}` is more than {limit} folders deep", path.display())]
    TooDeep {
        /// The folder.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// A line of `files` or of an ignore file.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The package bundles dependencies.
    #[error("`{}` bundles `{name}`, and bundled dependencies are not packed", path.display())]
    Bundled {
        /// The manifest.
        path: PathBuf,
        /// The first bundled dependency.
        name: String,
    },
    /// The tarball cannot be written.
    #[error("writing `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Compression failed.
    #[error("compressing the package")]
    Compress(#[source] io::Error),
    /// A ready tarball is not a package, or is not safe to publish.
    #[error("`{}` cannot be published", path.display())]
    Tarball {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: TarballError,
    },
}

impl PackError {
    /// Returns what can be done about it.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::PackageJson(error) => error.hint(),
            Self::Bundled { .. } => Some(Hint::new(
                "list the dependency under `dependencies` alone, or pack with `npm pack` and publish the tarball",
            )),
            Self::Changed { .. } => Some(Hint::new("wait for the build to finish before packing")),
            _ => None,
        }
    }
}
