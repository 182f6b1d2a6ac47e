//! Why no SBOM can be made.

use std::{io, path::PathBuf};

use protected_model::hint::Hint;

/// Why what a package depends on could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SbomError {
    /// A file cannot be read.
    #[error("reading `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is larger than any of its kind.
    #[error("`{}` has {size_bytes} bytes, and at most {limit_bytes} are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What it has.
        size_bytes: u64,
        /// What is read.
        limit_bytes: u64,
    },
    /// A merge was not finished.
    #[error("`{}:{line}` holds a conflict marker: a merge of the lock file was not finished", path.display())]
    Conflict {
        /// The lock file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// The file is not what it must be.
    #[error("`{}{}`: {reason}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// From 1, where it is one line's fault.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
}

impl SbomError {
    /// Returns what can be done about it.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::Conflict { .. } => {
                Some(Hint::new("resolve the conflict, or have the package manager write the lock file again"))
            }
            Self::Invalid { .. } => Some(Hint::new(
                "have the package manager write the lock file again; an SBOM is never made of half of it",
            )),
            Self::Read { .. } | Self::TooLarge { .. } => None,
        }
    }
}

/// What is wrong with a text, before its file's name is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// From 1.
    pub(crate) line: Option<usize>,
    pub(crate) reason: String,
}

impl Fault {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { line: None, reason: reason.into() }
    }

    pub(crate) fn at(line: usize, reason: impl Into<String>) -> Self {
        Self { line: Some(line), reason: reason.into() }
    }
}
