//! Packing: the same bytes for the same files, on every machine.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use protected_model::{
    digest::{Integrity, Sha256, Shasum},
    integrity::FileDigest,
    name::PackageName,
    version::PackageVersion,
};
use serde_json::Value;
use sha2::Digest as _;

use self::list::list_package;
pub use self::{
    error::PackError,
    list::{PackedFile, list},
};
pub use crate::glob::PatternError;
use crate::{
    package_json::PackageJson,
    tarball::{self, TarballError},
};

mod error;
mod list;

/// The time of every entry, 1985-10-26T08:15:00Z: npm's, after the zip format's first year.
const MTIME_SECONDS: u64 = 499_162_500;

/// How hard to compress, of 9. npm takes 9, which for JavaScript is about 1 % smaller for three times the time:
/// the archive is written once per publish, and the publish is waited for.
const GZIP_LEVEL: u32 = 6;

/// A package as it goes to the registry.
#[derive(Clone, Debug)]
pub struct Packed {
    /// The package.
    pub name: PackageName,
    /// Its version.
    pub version: PackageVersion,
    /// The tarball.
    pub bytes: Bytes,
    /// The name under which npm would write it: `acme-core-1.0.0.tgz`.
    pub filename: String,
    /// Bytes of the tarball.
    pub size: u64,
    /// Bytes of its files.
    pub unpacked_size: u64,
    /// SHA-256 of the tarball.
    pub sha256: Sha256,
    /// SHA-512 of the tarball, as npm writes it.
    pub integrity: Integrity,
    /// SHA-1 of the tarball, which yarn 1 needs.
    pub shasum: Shasum,
    /// Every file, in the order of the paths' bytes.
    pub files: Vec<FileDigest>,
    /// SHA-1 of every file by its path, which SPDX 2.3 asks for.
    pub sha1: BTreeMap<String, Shasum>,
    /// `package.json` of the tarball.
    pub package: PackageJson,
    /// The manifest for the registry's metadata.
    pub manifest: Value,
}

/// Packs the package in `root`, in memory.
///
/// # Errors
/// Those of [`list`], and when a file changes meanwhile.
pub fn pack(root: &Path) -> Result<Packed, PackError> {
    let package = PackageJson::read(root)?;
    let listed = list_package(root, &package)?;
    archive(package, &listed)
}

/// Packs exactly `files` of the package in `root`, whatever its `package.json` says: for a folder that was filled
/// file by file, where `files` would leave out what was added.
///
/// # Errors
/// When a file changes meanwhile.
pub fn pack_exactly(root: &Path, files: &[FileDigest]) -> Result<Packed, PackError> {
    let listed: Vec<PackedFile> = files
        .iter()
        .map(|file| PackedFile {
            path: file.path.clone(),
            absolute: root.join(&file.path),
            mode: if file.mode == "0755" { 0o755 } else { 0o644 },
            size: file.size,
        })
        .collect();
    archive(PackageJson::read(root)?, &listed)
}

fn archive(package: PackageJson, listed: &[PackedFile]) -> Result<Packed, PackError> {
    let mut archive = tar::Builder::new(GzEncoder::new(Hashing::default(), Compression::new(GZIP_LEVEL)));
    let mut files = Vec::with_capacity(listed.len());
    let (mut sha1, mut readme) = (BTreeMap::new(), None);
    for file in listed {
        let content = read_exactly(file)?;
        append(&mut archive, file, &content).map_err(PackError::Compress)?;
        if is_better_readme(&file.path, readme.as_ref().map(|(path, _): &(String, String)| path)) {
            readme = Some((file.path.clone(), String::from_utf8_lossy(&content).into_owned()));
        }
        let (sha256, mode) = (Sha256::of(&content), format!("{:04o}", file.mode));
        files.push(FileDigest { path: file.path.clone(), sha256, size: file.size, mode });
        sha1.insert(file.path.clone(), shasum(&content));
    }
    let output = archive.into_inner().and_then(GzEncoder::finish).map_err(PackError::Compress)?;
    Ok(assemble(output, package, files, sha1, readme))
}

impl Packed {
    /// Reads a tarball that somebody else packed, and checks it as a careful registry would.
    ///
    /// # Errors
    /// When it is no gzipped tarball of one package, holds links, devices, names that leave the package, two
    /// entries of one name, or more than [`tarball`]'s limits.
    pub fn from_tarball(path: &Path) -> Result<Self, PackError> {
        let read = |source| PackError::Read { path: path.to_owned(), source };
        let bytes = tarball::read_capped(path).map_err(read)?;
        Self::from_bytes(bytes.into(), path)
    }

    /// [`Packed::from_tarball`] for bytes that are in memory; `path` names them in errors.
    ///
    /// # Errors
    /// As [`Packed::from_tarball`].
    pub fn from_bytes(bytes: Bytes, path: &Path) -> Result<Self, PackError> {
        let refuse = |source| PackError::Tarball { path: path.to_owned(), source };
        let mut readme: Option<(String, String)> = None;
        let mut manifest = None;
        let mut sha1 = BTreeMap::new();
        let files = tarball::inspect(&bytes, |name, content| {
            sha1.insert(name.to_owned(), shasum(content));
            if name == "package.json" {
                manifest = Some(content.to_vec());
            } else if is_better_readme(name, readme.as_ref().map(|(path, _)| path)) {
                readme = Some((name.to_owned(), String::from_utf8_lossy(content).into_owned()));
            }
        })
        .map_err(refuse)?;
        let manifest = manifest.ok_or_else(|| refuse(TarballError::NoManifest))?;
        let package = PackageJson::parse(&manifest, path.join("package/package.json"))?;
        let mut output = Hashing::default();
        output.write_all(&bytes).map_err(PackError::Compress)?;
        output.bytes = Vec::new();
        let mut packed = assemble(output, package, files, sha1, readme);
        packed.size = bytes.len() as u64;
        packed.bytes = bytes;
        Ok(packed)
    }

    /// Unpacks the files into memory, by their paths below the package.
    ///
    /// # Errors
    /// As [`Packed::from_tarball`].
    pub fn contents(&self) -> Result<BTreeMap<String, Vec<u8>>, PackError> {
        let mut contents = BTreeMap::new();
        let found = tarball::inspect(&self.bytes, |path, content| {
            contents.insert(path.to_owned(), content.to_vec());
        });
        let path = PathBuf::from(&self.filename);
        found.map(|_| contents).map_err(|source| PackError::Tarball { path, source })
    }

    /// Writes the tarball into `folder` under [`Packed::filename`] and returns its path.
    ///
    /// # Errors
    /// When it cannot be written; then nothing of that name was touched.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, PackError> {
        let path = folder.join(&self.filename);
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&self.bytes)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|source| PackError::Write { path: path.clone(), source })?;
        Ok(path)
    }
}

/// Reads a listed file, and refuses anything that took its place since.
fn read_exactly(file: &PackedFile) -> Result<Vec<u8>, PackError> {
    let read = |source| PackError::Read { path: file.absolute.clone(), source };
    let opened = open_no_follow(&file.absolute).map_err(read)?;
    let mut content = Vec::with_capacity(usize::try_from(file.size).unwrap_or(0).saturating_add(1));
    // One byte more than was listed tells a file that grew from one that did not.
    opened.take(file.size.saturating_add(1)).read_to_end(&mut content).map_err(read)?;
    if content.len() as u64 != file.size {
        let actual = fs::symlink_metadata(&file.absolute).map(|found| found.len()).unwrap_or(0);
        return Err(PackError::Changed { path: file.absolute.clone(), expected: file.size, actual });
    }
    Ok(content)
}

#[cfg(unix)]
fn open_no_follow(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;

    // NONBLOCK: a named pipe put in the file's place must not stall the build.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("no longer a regular file")) }
}

#[cfg(not(unix))]
fn open_no_follow(path: &Path) -> io::Result<File> {
    if fs::symlink_metadata(path)?.is_file() {
        File::open(path)
    } else {
        Err(io::Error::other("no longer a regular file"))
    }
}

fn append<W: Write>(archive: &mut tar::Builder<W>, file: &PackedFile, content: &[u8]) -> io::Result<()> {
    let path = format!("package/{}", file.path);
    let mut entry = header(tar::EntryType::Regular, file.mode, content.len());
    // ustar splits a path at a `/` into at most 155 and 100 bytes; what does not fit goes into a pax record (POSIX,
    // pax, "pax Extended Header"), which every client reads. A path that does not fit leaves a header half written.
    if entry.clone().set_path(&path).is_ok() {
        entry.set_path(&path)?;
    } else {
        let name = &Sha256::of(&path).to_string()[..16];
        let record = pax_record("path", &path);
        let mut extended = header(tar::EntryType::XHeader, 0o644, record.len());
        extended.set_path(format!("PaxHeader/{name}"))?;
        extended.set_cksum();
        archive.append(&extended, record.as_bytes())?;
        entry.set_path(format!("package/{name}"))?;
    }
    entry.set_cksum();
    archive.append(&entry, content)
}

fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(MTIME_SECONDS);
    header.set_size(size as u64);
    header
}

/// Writes a record, which begins with its own length.
fn pax_record(name: &str, value: &str) -> String {
    let rest = format!(" {name}={value}\n");
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    format!("{length}{rest}")
}

/// Collects what is written and digests it on the way.
#[derive(Default)]
struct Hashing {
    bytes: Vec<u8>,
    sha1: sha1::Sha1,
    sha256: sha2::Sha256,
    sha512: sha2::Sha512,
}

impl Write for Hashing {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        sha1::Digest::update(&mut self.sha1, chunk);
        self.sha256.update(chunk);
        self.sha512.update(chunk);
        self.bytes.extend_from_slice(chunk);
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn assemble(
    output: Hashing,
    package: PackageJson,
    mut files: Vec<FileDigest>,
    sha1: BTreeMap<String, Shasum>,
    readme: Option<(String, String)>,
) -> Packed {
    files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    let has_gyp = files.iter().any(|file| !file.path.contains('/') && file.path.ends_with(".gyp"));
    let manifest =
        package.manifest(readme.as_ref().map(|(path, text)| (path.as_str(), text.as_str())), has_gyp);
    let (name, version) = (package.name().clone(), package.version().clone());
    Packed {
        filename: format!("{}-{version}.tgz", name.file_base()),
        name,
        version,
        size: output.bytes.len() as u64,
        bytes: output.bytes.into(),
        unpacked_size: files.iter().map(|file| file.size).sum(),
        sha256: Sha256::from_bytes(output.sha256.finalize().into()),
        integrity: Integrity::from_bytes(output.sha512.finalize().into()),
        shasum: Shasum::from_bytes(sha1::Digest::finalize(output.sha1).into()),
        files,
        sha1,
        package,
        manifest,
    }
}

fn shasum(content: &[u8]) -> Shasum {
    Shasum::from_bytes(<sha1::Sha1 as sha1::Digest>::digest(content).into())
}

/// Returns whether `path` is the package's readme, and a better one than `known`: Markdown before plain text.
fn is_better_readme(path: &str, known: Option<&String>) -> bool {
    let lower = path.to_ascii_lowercase();
    let is_markdown = |path: &str| path == "readme.md" || path == "readme.markdown";
    let is_readme = lower == "readme" || lower.starts_with("readme.") && !lower.contains('/');
    is_readme && known.is_none_or(|known| is_markdown(&lower) && !is_markdown(&known.to_ascii_lowercase()))
}
