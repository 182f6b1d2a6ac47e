//! The escrow of a build on disk: sealed under a key, or a private folder; and opened again, in memory.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use protected_bundle::{DataKey, OpenError, Opener, Sealer};
use protected_harden::retrace;
use protected_http::Client;
use protected_keys::KeyService;
use protected_model::{
    build,
    digest::Sha256,
    escrow::{CONTENT, Descriptor, EscrowManifest, MEDIA_TYPE, POLICY, SUITE, SealedFile, TYPE, WrappedBy},
    integrity::canonical,
    key_ref::KeyRef,
    name::PackageName,
    version::PackageVersion,
};
use sha2::Digest as _;

use crate::{
    args::Build,
    context::{self, Context},
    error::{CommandError, Kind},
    key_service,
};

/// The sealed escrow and its manifest, in a build's private folder.
const SEALED: &str = "escrow.cob";
const MANIFEST: &str = "escrow.json";

/// The largest manifest that is read.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// The largest escrow that is opened, in bytes of its files: it is held in memory.
const MAX_OPEN_BYTES: u64 = 1 << 31;

/// A key to seal an escrow with, at hand before the build starts: a build is never left unsealed for want of one.
pub(crate) struct Sealing {
    key_ref: KeyRef,
    service: Box<dyn KeyService>,
}

impl Sealing {
    /// Connects to the key that a build's escrow is sealed under, where one is named.
    ///
    /// # Errors
    /// When it is no key reference, or its service cannot be used here.
    pub(crate) fn asked(context: &Context, build: &Build) -> Result<Option<Self>, CommandError> {
        let Some(key) = context.settings.escrow_key(build.escrow_key.clone())? else { return Ok(None) };
        let service = key_service::connect(&key, &context.keys()?, &context.http()?, "sealing the escrow")?;
        Ok(Some(Self { key_ref: key, service }))
    }

    pub(crate) fn key_ref(&self) -> &KeyRef {
        &self.key_ref
    }

    /// Seals the folder `clear` into `private`. Runs on a thread for computation, within the runtime.
    ///
    /// # Errors
    /// When a file cannot be read or written, and when the key service does not wrap the data key.
    pub(crate) fn seal(
        &self,
        clear: &Path,
        private: &Path,
        package: &PackageName,
        version: &PackageVersion,
        escrow: &build::Escrow,
    ) -> Result<(), CommandError> {
        let failed = |doing: &str, error: &dyn std::fmt::Display| {
            CommandError::new(Kind::Failed, format!("cannot seal the escrow: {doing}: {error}"))
        };
        let files = list(clear).map_err(|error| failed("listing the source maps", &error))?;
        let descriptor = Descriptor {
            kind: TYPE.to_owned(),
            suite: SUITE.to_owned(),
            media_type: CONTENT.to_owned(),
            package_name: package.clone(),
            version: version.clone(),
            escrow_sha256: escrow.sha256,
            files: files.len() as u64,
            size: files.iter().map(|(_, size)| size).sum(),
        };
        let key = DataKey::generate().map_err(|error| failed("making a data key", &error))?;
        let context = descriptor.key_context();
        let wrapped = tokio::runtime::Handle::current()
            .block_on(self.service.wrap(&key, &context))
            .map_err(|error| key_service::failed("sealing the escrow", &error))?
            .text;
        let place = private.join(SEALED);
        let sealed = create(&place)
            .and_then(|file| pack(clear, &files, &key, &descriptor.binding(), file))
            .map_err(|error| failed(&format!("writing `{SEALED}`"), &error))?;
        let manifest = EscrowManifest {
            schema: MEDIA_TYPE.to_owned(),
            bundle: SealedFile { file: SEALED.to_owned(), size: sealed.size, sha256: sealed.sha256() },
            key_ref: self.key_ref.clone(),
            key_provider: WrappedBy {
                provider: self.key_ref.provider(),
                policy: POLICY.to_owned(),
                wrapped_key_sha256: Sha256::of(&wrapped),
                wrapped_key: wrapped,
                context,
            },
            descriptor,
        };
        manifest.check().map_err(|error| failed("its manifest", &error))?;
        create(&private.join(MANIFEST))
            .and_then(|mut file| file.write_all(&canonical(&manifest)))
            .map_err(|error| failed(&format!("writing `{MANIFEST}`"), &error))
    }
}

/// Creates a new file that its owner alone may read.
fn create(place: &Path) -> io::Result<fs::File> {
    let mut options = fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(place)
}

/// Lists the files below `folder` by their path in it, with their size, in the order of the path.
fn list(folder: &Path) -> io::Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(folder.join(&below))? {
            let entry = entry?;
            let name = entry.file_name().into_string();
            let name = name.map_err(|name| io::Error::other(format!("`{}` is no name", name.display())))?;
            if entry.file_type()?.is_dir() {
                folders.push(format!("{below}{name}/"));
            } else {
                found.push((format!("{below}{name}"), entry.metadata()?.len()));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Packs, compresses, seals and digests in one pass.
fn pack(
    folder: &Path,
    files: &[(String, u64)],
    key: &DataKey,
    binding: &[u8],
    file: fs::File,
) -> io::Result<Digesting<io::BufWriter<fs::File>>> {
    let sealer = Sealer::new(key, binding, Digesting::over(io::BufWriter::new(file)))?;
    let mut archive = tar::Builder::new(GzEncoder::new(sealer, Compression::default()));
    for (path, size) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(*size);
        header.set_mode(0o600);
        archive.append_data(&mut header, path, fs::File::open(folder.join(path))?)?;
    }
    let mut digesting = archive.into_inner()?.finish()?.finish()?;
    digesting.flush()?;
    Ok(digesting)
}

/// A writer that digests what goes through it.
struct Digesting<W> {
    inner: W,
    digest: sha2::Sha256,
    size: u64,
}

impl<W> Digesting<W> {
    fn over(inner: W) -> Self {
        Self { inner, digest: sha2::Sha256::new(), size: 0 }
    }

    fn sha256(&self) -> Sha256 {
        Sha256::from_bytes(self.digest.clone().finalize().into())
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Where an escrow lies and how.
#[derive(Debug)]
pub(crate) enum Found {
    /// A folder with an index.
    Clear(PathBuf),
    /// A manifest, with the sealed file beside it.
    Sealed(PathBuf),
}

/// Finds the escrow that `path` names: a build, its private folder, a sealed file or its manifest.
///
/// # Errors
/// When there is none.
pub(crate) fn find(path: &Path) -> Result<Found, CommandError> {
    if path.is_dir() {
        for folder in [path.to_owned(), path.join("private")] {
            if folder.join(MANIFEST).is_file() {
                return Ok(Found::Sealed(folder.join(MANIFEST)));
            }
            if folder.join(retrace::Escrow::INDEX).is_file() {
                return Ok(Found::Clear(folder));
            }
        }
        let message = format!("`{}` holds no escrow: no {MANIFEST}, no index of maps", path.display());
        return Err(
            CommandError::usage(message).advise("name a build, its `private` folder, or a sealed escrow")
        );
    }
    if !path.is_file() {
        return Err(CommandError::usage(format!("there is no escrow at `{}`", path.display())));
    }
    let is_manifest = path.extension().is_some_and(|extension| extension == "json");
    let manifest = if is_manifest { path.to_owned() } else { path.with_extension("json") };
    if !manifest.is_file() {
        let message = format!("the sealed escrow `{}` has no manifest beside it", path.display());
        return Err(CommandError::usage(message)
            .advise(format!("copy `{}` to it: the wrapped key stands there", manifest.display())));
    }
    Ok(Found::Sealed(manifest))
}

/// Reads a manifest.
///
/// # Errors
/// When it is none, or contradicts itself.
pub(crate) fn manifest(path: &Path) -> Result<EscrowManifest, CommandError> {
    let bad = |reason: String| {
        CommandError::new(Kind::BadInput, format!("the escrow manifest `{}` {reason}", path.display()))
    };
    let read = fs::File::open(path).and_then(|file| {
        let mut json = Vec::new();
        file.take(MAX_MANIFEST_BYTES).read_to_end(&mut json).map(|_| json)
    });
    let json = read.map_err(|error| bad(format!("cannot be read: {error}")))?;
    // The parser's own words may repeat what stands there.
    let manifest: EscrowManifest = serde_json::from_slice(&json)
        .map_err(|error| bad(format!("is not valid at line {}, column {}", error.line(), error.column())))?;
    manifest.check().map_err(|error| bad(format!("is not valid: {error}")))?;
    Ok(manifest)
}

/// Opens an escrow; a sealed one in memory, by the key that its manifest names.
///
/// # Errors
/// When it is not there, was changed, or the key does not open it.
pub(crate) async fn open(
    found: Found,
    settings: &protected_keys::Settings,
    http: &Client,
) -> Result<retrace::Escrow, CommandError> {
    match found {
        Found::Clear(folder) => {
            retrace::Escrow::in_folder(&folder).map_err(|error| broken(&folder.display().to_string(), &error))
        }
        Found::Sealed(path) => {
            let manifest = manifest(&path)?;
            let sealed = path.with_file_name(&manifest.bundle.file);
            let doing = format!("opening the escrow `{}`", sealed.display());
            let service = key_service::connect(&manifest.key_ref, settings, http, &doing)?;
            let wrapped = &manifest.key_provider.wrapped_key;
            let key = service.unwrap(wrapped, &manifest.descriptor.key_context()).await;
            let key = key.map_err(|error| key_service::failed(&doing, &error))?;
            context::compute(move || unseal(&sealed, &manifest, &key)).await
        }
    }
}

/// Says that an escrow cannot be used.
pub(crate) fn broken(name: &str, error: &retrace::EscrowError) -> CommandError {
    CommandError::from_error(Kind::BadInput, &format!("reading the escrow `{name}`"), error)
}

fn unseal(path: &Path, manifest: &EscrowManifest, key: &DataKey) -> Result<retrace::Escrow, CommandError> {
    let name = path.display().to_string();
    let bad = |reason: &dyn std::fmt::Display| {
        CommandError::new(Kind::BadInput, format!("opening the escrow `{name}`: {reason}"))
    };
    let mut file = fs::File::open(path).map_err(|error| bad(&error))?;
    let mut digesting = Digesting::over(io::sink());
    io::copy(&mut file, &mut digesting).map_err(|error| bad(&error))?;
    let expected = &manifest.bundle;
    if (digesting.size, digesting.sha256()) != (expected.size, expected.sha256) {
        return Err(bad(&format!(
            "it is not the file of its manifest: expected {} bytes with SHA-256 {}, found {} with {}",
            expected.size,
            expected.sha256,
            digesting.size,
            digesting.sha256(),
        )));
    }
    io::Seek::rewind(&mut file).map_err(|error| bad(&error))?;
    let opener = Opener::new(key, &manifest.descriptor.binding(), io::BufReader::new(file))
        .map_err(|error| bad(&error))?;
    let files = unpack(opener, &manifest.descriptor).map_err(|error| {
        let opened = error.get_ref().and_then(|inner| inner.downcast_ref::<OpenError>());
        opened.map_or_else(|| bad(&error), |error| bad(error))
    })?;
    let escrow = retrace::Escrow::in_memory(files).map_err(|error| broken(&name, &error))?;
    let described = (manifest.descriptor.package_name.to_string(), manifest.descriptor.version.to_string());
    let found = (escrow.package_name().to_owned(), escrow.version().to_owned());
    if described != found {
        return Err(bad(&format!(
            "its manifest says {}@{}, its index {}@{}",
            described.0, described.1, found.0, found.1
        )));
    }
    Ok(escrow)
}

/// Unpacks into memory, and never more than the descriptor says.
fn unpack(opener: Opener<impl Read>, descriptor: &Descriptor) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let invalid = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
    if descriptor.size > MAX_OPEN_BYTES {
        return Err(invalid("it is larger than what is opened in memory"));
    }
    let mut archive = tar::Archive::new(GzDecoder::new(opener));
    let mut files = BTreeMap::new();
    let mut left = descriptor.size;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_str().map(str::to_owned);
        let path = path.ok_or_else(|| invalid("it holds a name that is no text"))?;
        if entry.header().entry_type() != tar::EntryType::Regular {
            return Err(invalid("it holds something that is no file"));
        }
        left =
            left.checked_sub(entry.size()).ok_or_else(|| invalid("it holds more than its manifest says"))?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        if files.insert(path, content).is_some() || files.len() as u64 > descriptor.files {
            return Err(invalid("it holds more files than its manifest says"));
        }
    }
    // What stands behind the archive's end is authentic as well, or the whole is not: read on to the last chunk.
    let mut rest = archive.into_inner();
    if io::copy(&mut (&mut rest).take(1 << 20), &mut io::sink())? == 1 << 20 {
        return Err(invalid("it goes on behind its end"));
    }
    if io::copy(&mut rest.into_inner(), &mut io::sink())? != 0 {
        return Err(invalid("it goes on behind its end"));
    }
    if left != 0 || files.len() as u64 != descriptor.files {
        return Err(invalid("it holds less than its manifest says"));
    }
    Ok(files)
}
