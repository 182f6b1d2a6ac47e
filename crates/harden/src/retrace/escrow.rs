//! An escrow as it is read: its index, and the maps that the index vouches for.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use protected_model::digest::Sha256;
use swc_sourcemap::{DecodedMap, SourceMap, decode_slice};

use crate::step::escrow::{INDEX, Index, MEDIA_TYPE, Mapped};

/// The largest index and the largest map that are read.
const MAX_BYTES: u64 = 1 << 30;

/// Why an escrow cannot be read from.
#[derive(Debug, thiserror::Error)]
pub enum EscrowError {
    /// A file of it cannot be read.
    #[error("the escrow's `{path}` cannot be read")]
    Read {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its index is none.
    #[error("the escrow's index is not valid: {0}")]
    Index(String),
    /// A map was changed since the build.
    #[error("the escrow's `{path}` is not as the build wrote it: expected SHA-256 {expected}, found {found}")]
    Changed {
        /// Which.
        path: String,
        /// As the index says.
        expected: Sha256,
        /// As it is.
        found: Sha256,
    },
    /// A map is none.
    #[error("the escrow's `{path}` is no source map: {reason}")]
    Map {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
}

/// The source maps of one build.
pub struct Escrow {
    index: Index,
    maps: Maps,
}

/// Where the maps are.
enum Maps {
    Folder(PathBuf),
    /// In memory, as opened from a sealed file: they are never written in clear.
    Memory(BTreeMap<String, Vec<u8>>),
}

impl std::fmt::Debug for Escrow {
    /// The maps hold the source: they are not printed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Escrow({}@{}, {} maps)",
            self.index.package_name,
            self.index.version,
            self.index.maps.len()
        )
    }
}

impl Escrow {
    /// The name of the index within an escrow.
    pub const INDEX: &'static str = INDEX;

    /// Opens the escrow in a folder. A map is read when it is needed.
    ///
    /// # Errors
    /// When there is no index, or it is not valid.
    pub fn in_folder(folder: &Path) -> Result<Self, EscrowError> {
        let index = read(folder, INDEX)?;
        Ok(Self { index: index_of(&index)?, maps: Maps::Folder(folder.to_owned()) })
    }

    /// Takes an escrow from memory: its files, by their path in it.
    ///
    /// # Errors
    /// As [`Self::in_folder`].
    pub fn in_memory(files: BTreeMap<String, Vec<u8>>) -> Result<Self, EscrowError> {
        let missing = || EscrowError::Index(format!("there is no `{INDEX}`"));
        Ok(Self { index: index_of(files.get(INDEX).ok_or_else(missing)?)?, maps: Maps::Memory(files) })
    }

    /// Returns the package's name.
    pub fn package_name(&self) -> &str {
        &self.index.package_name
    }

    /// Returns the package's version.
    pub fn version(&self) -> &str {
        &self.index.version
    }

    /// Returns how many files have a map.
    pub fn len(&self) -> usize {
        self.index.maps.len()
    }

    /// Returns whether no file has one.
    pub fn is_empty(&self) -> bool {
        self.index.maps.is_empty()
    }

    pub(super) fn outputs(&self) -> impl Iterator<Item = &str> {
        self.index.maps.iter().map(|mapped| mapped.output_path.as_str())
    }

    pub(super) fn output(&self, map: usize) -> &str {
        &self.index.maps[map].output_path
    }

    pub(super) fn find(&self, output: &str) -> Option<usize> {
        self.outputs().position(|path| path == output)
    }

    pub(super) fn with_digest(&self, sha256: &Sha256) -> Option<usize> {
        self.index.maps.iter().position(|mapped| mapped.output_sha256 == *sha256)
    }

    /// Two files with the same identity give the same answers.
    pub(super) fn identity(&self, map: usize) -> (Sha256, Sha256) {
        let mapped = &self.index.maps[map];
        (mapped.output_sha256, mapped.map_sha256)
    }

    /// Reads a map, which must be as the build wrote it.
    pub(super) fn map(&self, map: usize) -> Result<Map, EscrowError> {
        let Mapped { map_path: path, map_sha256: expected, .. } = &self.index.maps[map];
        let read_bytes;
        let bytes = match &self.maps {
            Maps::Folder(folder) => {
                read_bytes = read(folder, path)?;
                &read_bytes
            }
            Maps::Memory(files) => files.get(path).ok_or_else(|| EscrowError::Read {
                path: path.clone(),
                source: io::ErrorKind::NotFound.into(),
            })?,
        };
        let found = Sha256::of(bytes);
        if found != *expected {
            return Err(EscrowError::Changed { path: path.clone(), expected: *expected, found });
        }
        let invalid = |reason: String| EscrowError::Map { path: path.clone(), reason };
        match decode_slice(bytes).map_err(|error| invalid(error.to_string()))? {
            DecodedMap::Regular(map) => Ok(Map(map)),
            DecodedMap::Index(index) => index.flatten().map(Map).map_err(|error| invalid(error.to_string())),
            DecodedMap::Hermes(_) => Err(invalid("it is for another engine".to_owned())),
        }
    }
}

fn read(folder: &Path, path: &str) -> Result<Vec<u8>, EscrowError> {
    let failed = |source| EscrowError::Read { path: path.to_owned(), source };
    let place = folder.join(path);
    let found = fs::metadata(&place).map_err(failed)?;
    if !found.is_file() || found.len() > MAX_BYTES {
        return Err(failed(io::Error::other("it is no file, or larger than a map can be")));
    }
    fs::read(place).map_err(failed)
}

fn index_of(json: &[u8]) -> Result<Index, EscrowError> {
    let index: Index = serde_json::from_slice(json).map_err(|error| EscrowError::Index(error.to_string()))?;
    if index.schema != MEDIA_TYPE {
        return Err(EscrowError::Index(format!("it is not of the kind {MEDIA_TYPE}")));
    }
    // Attack: an index that names `../../secret` would have any file of the reader's read.
    let outside = |path: &str| {
        path.is_empty()
            || path.starts_with('/')
            || path.contains(['\\', ':', '\0'])
            || path.split('/').any(|part| matches!(part, "" | "." | ".."))
    };
    if index.maps.iter().any(|mapped| outside(&mapped.map_path)) {
        return Err(EscrowError::Index("it names a file outside the escrow".to_owned()));
    }
    Ok(index)
}

/// A source map.
pub(super) struct Map(SourceMap);

/// A place in an original. Line and column count from 0.
pub(super) struct Original {
    /// Which of the map's sources.
    pub(super) source: u32,
    pub(super) path: String,
    pub(super) line: u32,
    pub(super) column: u32,
}

impl Map {
    /// Returns where a place comes from. Line and column count from 1.
    pub(super) fn original(&self, line: u32, column: u32) -> Option<Original> {
        let (line, column) = (line.checked_sub(1)?, column.checked_sub(1)?);
        let token = self.0.lookup_token(line, column)?;
        if token.get_dst_line() != line {
            return None;
        }
        original(&token)
    }

    /// Returns where a whole line comes from, when all of it comes from one line.
    pub(super) fn original_of_line(&self, line: u32) -> Option<Original> {
        let line = line.checked_sub(1)?;
        let mut found: Option<Original> = None;
        for token in self.0.tokens().filter(|token| token.get_dst_line() == line && token.has_source()) {
            let next = original(&token)?;
            if found.as_ref().is_some_and(|found| (found.source, found.line) != (next.source, next.line)) {
                return None;
            }
            found.get_or_insert(next);
        }
        found
    }

    pub(super) fn content(&self, source: u32) -> Option<&str> {
        self.0.get_source_contents(source).map(|content| content.as_ref())
    }
}

fn original(token: &swc_sourcemap::Token<'_>) -> Option<Original> {
    let path = token.get_source()?.to_string();
    Some(Original {
        source: token.get_src_id(),
        path,
        line: token.get_src_line(),
        column: token.get_src_col(),
    })
}
