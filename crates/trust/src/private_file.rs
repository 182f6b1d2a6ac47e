//! Files that hold private keys: nobody else may read them, and each is there whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

/// Why a private key cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file or its folder.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others have access.
    ///
    /// Attack: a key that another account of the machine can read or replace signs whatever that account likes.
    #[error("{path} has mode {mode:03o}, and only its owner may have access")]
    Exposed {
        /// Which file or folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// What stands in it.
    #[error("{path} is not a key file: {reason}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong, without any of it.
        reason: &'static str,
    },
    /// No key could be made.
    #[error("cannot make a key")]
    Generate,
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyFileError {
    let path = path.to_owned();
    move |source| KeyFileError::File { what, path, source }
}

/// Makes a folder that nobody else may enter, unless it is there.
///
/// # Errors
/// When it cannot be made, or others may enter it.
pub fn folder(path: &Path) -> Result<(), KeyFileError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(failed("make", path))?;
    check_mode(path)
}

/// Reads a file, or returns `None` when there is none.
///
/// # Errors
/// When it cannot be read, or others may read it.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, KeyFileError> {
    match fs::read(path) {
        Ok(content) => {
            check_mode(path)?;
            Ok(Some(content))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Writes a file so that a power failure leaves the old one or the new one.
///
/// # Errors
/// When it cannot be written; the old one then stays.
pub fn write(path: &Path, content: &[u8]) -> Result<(), KeyFileError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    // Readable by its owner alone from the start.
    let mut file = NamedTempFile::new_in(folder).map_err(failed("write into", folder))?;
    file.write_all(content).and_then(|()| file.as_file().sync_all()).map_err(failed("write", path))?;
    file.persist(path).map_err(|error| failed("write", path)(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("flush", folder))
}

#[cfg(unix)]
fn check_mode(path: &Path) -> Result<(), KeyFileError> {
    use std::os::unix::fs::PermissionsExt;

    let mode = fs::metadata(path).map_err(failed("look at", path))?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyFileError::Exposed { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn check_mode(_: &Path) -> Result<(), KeyFileError> {
    Ok(())
}
