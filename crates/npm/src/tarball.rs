//! Tarballs that somebody else packed: read within limits, refused where a client would be fooled.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    path::Path,
};

use flate2::read::GzDecoder;
use protected_model::{digest::Sha256, integrity::FileDigest};

/// The largest tarball that is published.
pub const MAX_TARBALL_BYTES: u64 = 512 * 1024 * 1024;

/// The largest content. A gzip bomb of 10 MB unpacks to 10 GB: reading stops here.
pub const MAX_UNPACKED_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// The most entries.
pub const MAX_ENTRIES: usize = 100_000;

/// Why a tarball is refused.
#[derive(Debug, thiserror::Error)]
pub enum TarballError {
    /// It is no gzip or no tar.
    #[error("it is not a gzipped tarball")]
    Malformed(#[source] io::Error),
    /// It unpacks to too much.
    #[error("it unpacks to more than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// It has too many entries.
    #[error("it has more than {limit} entries")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// An entry is a link, a device or another thing that is not a file or a folder.
    #[error("`{path}` is {kind}, and only files and folders may be published")]
    NotAFile {
        /// The entry.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// An entry would be written outside the package.
    #[error("the name `{path}` is absolute, leaves the package, or is not UTF-8")]
    Escapes {
        /// The entry.
        path: String,
    },
    /// Two entries have one name, so that two clients may see two packages.
    #[error("`{path}` stands in it twice, or differs from another name in case only")]
    Duplicate {
        /// The second entry.
        path: String,
    },
    /// Entries do not share their first folder.
    #[error("`{path}` is not in the folder `{root}` that the other entries are in")]
    TwoRoots {
        /// The first entry's folder.
        root: String,
        /// The entry outside it.
        path: String,
    },
    /// There is no `package/package.json`.
    #[error("it has no package.json")]
    NoManifest,
}

/// Reads `path`, which may not be larger than [`MAX_TARBALL_BYTES`].
pub(crate) fn read_capped(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_TARBALL_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_TARBALL_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_TARBALL_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Walks the entries of `bytes`, shows `each` file's path below the package and its content, and returns their
/// digests.
pub(crate) fn inspect(
    bytes: &[u8],
    mut each: impl FnMut(&str, &[u8]),
) -> Result<Vec<FileDigest>, TarballError> {
    let mut archive = tar::Archive::new(GzDecoder::new(bytes).take(MAX_UNPACKED_BYTES));
    let mut root: Option<String> = None;
    let mut seen = HashSet::new();
    let mut files = Vec::new();
    let mut unpacked = 0_u64;
    let mut content = Vec::new();
    for (index, entry) in archive.entries().map_err(TarballError::Malformed)?.enumerate() {
        let mut entry = entry.map_err(TarballError::Malformed)?;
        if index >= MAX_ENTRIES {
            return Err(TarballError::TooMany { limit: MAX_ENTRIES });
        }
        let shown = String::from_utf8_lossy(&entry.path_bytes()).chars().take(200).collect::<String>();
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            continue; // `git archive` writes one
        }
        if let Some(kind) = refused(kind) {
            return Err(TarballError::NotAFile { path: shown, kind });
        }
        let escapes = || TarballError::Escapes { path: shown.clone() };
        let path = std::str::from_utf8(&entry.path_bytes()).map_err(|_| escapes())?.to_owned();
        let (first, rest) = below_root(&path).ok_or_else(escapes)?;
        let root = root.get_or_insert_with(|| first.to_owned());
        if root != first {
            return Err(TarballError::TwoRoots { root: root.clone(), path: shown });
        }
        if kind.is_dir() {
            continue;
        }
        if rest.is_empty() {
            return Err(escapes());
        }
        // One case-insensitive disk would hold one file for both names.
        if !seen.insert(rest.to_lowercase()) {
            return Err(TarballError::Duplicate { path: shown });
        }
        unpacked = unpacked.saturating_add(entry.size());
        if unpacked > MAX_UNPACKED_BYTES {
            return Err(TarballError::TooLarge { limit_bytes: MAX_UNPACKED_BYTES });
        }
        content.clear();
        entry.read_to_end(&mut content).map_err(TarballError::Malformed)?;
        let mode = if entry.header().mode().map_err(TarballError::Malformed)? & 0o100 == 0 {
            "0644"
        } else {
            "0755"
        };
        let (sha256, size) = (Sha256::of(&content), content.len() as u64);
        files.push(FileDigest { path: rest.to_owned(), sha256, size, mode: mode.to_owned() });
        each(rest, &content);
    }
    // What follows the end of the archive is still unpacked by some readers: it counts, and must be gzip.
    let left = io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(TarballError::Malformed)?;
    if unpacked.saturating_add(left) >= MAX_UNPACKED_BYTES {
        return Err(TarballError::TooLarge { limit_bytes: MAX_UNPACKED_BYTES });
    }
    Ok(files)
}

fn refused(kind: tar::EntryType) -> Option<&'static str> {
    match kind {
        tar::EntryType::Regular | tar::EntryType::Directory => None,
        tar::EntryType::Symlink => Some("a symbolic link"),
        tar::EntryType::Link => Some("a hard link"),
        tar::EntryType::Block | tar::EntryType::Char => Some("a device"),
        tar::EntryType::Fifo => Some("a pipe"),
        _ => Some("of an unknown kind"),
    }
}

/// Splits a path into the archive's first folder and what is below it. `None`: it is not plainly below.
fn below_root(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let plain = path.split('/').all(|name| !matches!(name, "" | "." | ".."));
    if !plain || path.contains(['\\', '\0']) {
        return None;
    }
    Some(path.split_once('/').unwrap_or((path, "")))
}
