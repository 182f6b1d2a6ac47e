//! What goes into a delivery: which files, under which names, and what is known of them.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use flate2::read::MultiGzDecoder;
use protected_model::{
    build::{BuildManifest, Protection, SourceMaps},
    delivery::{Content, ContentPath, EvidenceDigest, MAX_FILES},
    digest::Sha256,
    name::PackageName,
    version::PackageVersion,
};
use serde::Deserialize;
use sha2::Digest as _;

use crate::{
    build,
    document::{name, recognised},
    error::{CommandError, Kind},
};

/// The folder of a delivery, and of a build, that holds documents about it.
const EVIDENCE: &str = "evidence";

/// What a customer never gets: how its name ends or begins, and what it is. A folder that is named too high up would
/// take it along.
///
/// Attack: none is needed. `--artifact .` is typed once, and source maps, the escrow or a token lie at the customer's.
const WITHHELD: &[(Named, &str)] = &[
    (Named::Ending(".map"), "a source map"),
    (Named::Exactly("escrow.cob"), "an escrow of source maps"),
    (Named::Exactly("escrow.json"), "an escrow of source maps"),
    (Named::Exactly(".git"), "a repository with its history"),
    (Named::Exactly(".npmrc"), "a file that may hold a token"),
    (Named::Exactly(".yarnrc.yml"), "a file that may hold a token"),
    (Named::Exactly(".netrc"), "a file that may hold a password"),
    (Named::Exactly(".env"), "a file that may hold a secret"),
    (Named::Beginning(".env."), "a file that may hold a secret"),
];

/// What a name, in lower case, is compared with.
enum Named {
    Exactly(&'static str),
    Beginning(&'static str),
    Ending(&'static str),
}

impl Named {
    fn is(&self, name: &str) -> bool {
        match self {
            Self::Exactly(whole) => name == *whole,
            Self::Beginning(beginning) => name.starts_with(beginning),
            Self::Ending(end) => name.ends_with(end),
        }
    }
}

/// The largest document that is looked at to tell what it is.
const MAX_DOCUMENT_BYTES: u64 = 64 << 20;

/// The largest package.json in a tarball.
const MAX_PACKAGE_JSON_BYTES: u64 = 1 << 20;

/// What is to be delivered.
#[derive(Clone)]
pub(crate) struct Wanted {
    /// What the build says when not given.
    pub(crate) package: Option<PackageName>,
    /// What the build says when not given.
    pub(crate) version: Option<PackageVersion>,
    pub(crate) artifacts: Vec<PathBuf>,
    /// Documents besides those that stand beside an artifact.
    pub(crate) evidence: Vec<PathBuf>,
}

/// What goes into a delivery.
pub(crate) struct Contents {
    pub(crate) package: PackageName,
    pub(crate) version: PackageVersion,
    /// The files, in the order of their paths.
    pub(crate) files: Vec<Content>,
    /// Where each comes from.
    pub(crate) sources: BTreeMap<ContentPath, PathBuf>,
    /// What was done to all of it.
    pub(crate) protection: Protection,
    /// The documents among the files.
    pub(crate) evidence: Vec<EvidenceDigest>,
    /// Artifacts of which nothing says how they were made.
    pub(crate) unproven: Vec<String>,
}

impl Contents {
    /// Returns whether the artifact that a build manifest among the documents speaks of is delivered.
    ///
    /// Attack: the documents of a build are laid beside raw source, which then passes as what was built.
    ///
    /// # Errors
    /// When the document cannot be read any more.
    pub(crate) fn is_of_build(&self, document: &EvidenceDigest) -> Result<bool, CommandError> {
        let Some(file) = self.files.iter().find(|file| file.sha256 == document.sha256) else {
            return Ok(false);
        };
        let Some(source) = self.sources.get(&file.path) else { return Ok(false) };
        let bytes = fs::read(source).map_err(|error| reading(source, &error))?;
        let Ok(BuildManifest { artifact, .. }) = serde_json::from_slice(&bytes) else { return Ok(false) };
        let mut delivered = self.files.iter().filter(|file| !file.path.is_evidence());
        Ok(Sha256::of(&bytes) == document.sha256 && delivered.any(|file| file.sha256 == artifact.sha256))
    }
}

/// Lists and digests the files, and holds tarballs against what is asked for. Runs on a thread for computation.
///
/// # Errors
/// When a file is not there, is not the one that its build manifest names, or is one that no customer gets.
pub(crate) fn collect(wanted: &Wanted, stop: &Arc<AtomicBool>) -> Result<Contents, CommandError> {
    let mut gathering = Gathering { stop: Arc::clone(stop), sources: BTreeMap::new(), builds: Vec::new() };
    for path in &wanted.artifacts {
        gathering.artifact(path)?;
    }
    gathering.documents_of_builds()?;
    for path in &wanted.evidence {
        gathering.add(path, EVIDENCE)?;
    }
    let mut files = Vec::new();
    for (path, source) in &gathering.sources {
        let read =
            fs::File::open(source).and_then(|inner| digest(Stoppable { inner, stop: Arc::clone(stop) }));
        let (sha256, size) = read.map_err(|error| reading(source, &error))?;
        files.push(Content { path: path.clone(), sha256, size });
    }
    if files.is_empty() {
        return Err(CommandError::usage("there is no file in what is to be delivered"));
    }
    if files.iter().all(|file| file.path.is_evidence()) {
        return Err(CommandError::usage("there is nothing to deliver but documents about it"));
    }
    let evidence = gathering.evidence(&files)?;
    let (package, version) = gathering.named(wanted)?;
    let mut contents = Contents {
        package,
        version,
        files,
        sources: gathering.sources,
        protection: Protection { obfuscated: true, encrypted: true, source_maps: SourceMaps::Withheld },
        evidence,
        unproven: Vec::new(),
    };
    judge(&mut contents, &gathering.builds, stop)?;
    Ok(contents)
}

/// A build of ours that a tarball comes from.
struct Build {
    folder: PathBuf,
    manifest: BuildManifest,
    /// The tarball's path in the delivery.
    path: ContentPath,
}

struct Gathering {
    stop: Arc<AtomicBool>,
    sources: BTreeMap<ContentPath, PathBuf>,
    builds: Vec<Build>,
}

impl Gathering {
    fn artifact(&mut self, path: &Path) -> Result<(), CommandError> {
        if path.join(build::MANIFEST).is_file() {
            let manifest = build_manifest(path)?;
            let tarball = path.join(&manifest.artifact.filename);
            return self.tarball(&tarball, path, manifest);
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        if path.is_file() && folder.join(build::MANIFEST).is_file() {
            return self.tarball(path, folder, build_manifest(folder)?);
        }
        self.add(path, "")
    }

    fn tarball(
        &mut self,
        tarball: &Path,
        folder: &Path,
        manifest: BuildManifest,
    ) -> Result<(), CommandError> {
        let path = self.file(tarball, "")?;
        self.builds.push(Build { folder: folder.to_owned(), manifest, path });
        Ok(())
    }

    /// Adds the documents of each build; those of several stand apart.
    fn documents_of_builds(&mut self) -> Result<(), CommandError> {
        let several = self.builds.len() > 1;
        let folders: Vec<(PathBuf, String)> = self
            .builds
            .iter()
            .map(|build| {
                let own = build.path.as_str().trim_end_matches(".tgz");
                let below = if several { format!("{EVIDENCE}/{own}") } else { EVIDENCE.to_owned() };
                (build.folder.join(EVIDENCE), below)
            })
            .collect();
        folders.iter().try_for_each(|(folder, below)| self.folder(folder, below))
    }

    /// Adds a file, or a folder under its name.
    fn add(&mut self, path: &Path, below: &str) -> Result<(), CommandError> {
        let path = &fs::canonicalize(path).map_err(|error| reading(path, &error))?;
        if !path.is_dir() {
            return self.file(path, below).map(drop);
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| {
            CommandError::usage(format!("`{}` is no folder that can be delivered", path.display()))
        })?;
        withheld(name, path)?;
        self.folder(path, &joined(below, name))
    }

    fn folder(&mut self, folder: &Path, below: &str) -> Result<(), CommandError> {
        // Attack: a link in a build's output that takes a folder from elsewhere along.
        if !fs::symlink_metadata(folder).map_err(|error| reading(folder, &error))?.is_dir() {
            let message = format!("`{}` is a link or a device, and no folder", folder.display());
            return Err(CommandError::new(Kind::BadInput, message));
        }
        if folder.join(build::MANIFEST).is_file() {
            let message = format!("`{}` is a build, with what a customer does not get", folder.display());
            return Err(CommandError::usage(message).advise("name the build itself with --artifact"));
        }
        let entries = fs::read_dir(folder).map_err(|error| reading(folder, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| reading(folder, &error))?;
            let (path, kind) = (entry.path(), entry.file_type());
            let kind = kind.map_err(|error| reading(&path, &error))?;
            if kind.is_dir() {
                let name = self.name(&path)?;
                self.folder(&path, &joined(below, &name))?;
            } else if kind.is_file() {
                self.file(&path, below)?;
            } else {
                // Attack: a link in a build's output that takes a file from elsewhere along.
                let message = format!("`{}` is a link or a device, and no file", path.display());
                return Err(CommandError::new(Kind::BadInput, message));
            }
        }
        Ok(())
    }

    fn name(&self, path: &Path) -> Result<String, CommandError> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
            CommandError::new(Kind::BadInput, format!("the name of `{}` is no text", path.display()))
        })?;
        withheld(name, path)?;
        Ok(name.to_owned())
    }

    fn file(&mut self, path: &Path, below: &str) -> Result<ContentPath, CommandError> {
        if self.stop.load(Ordering::SeqCst) {
            return Err(CommandError::new(Kind::Failed, "stopped"));
        }
        let found = fs::metadata(path).map_err(|error| reading(path, &error))?;
        if !found.is_file() {
            return Err(CommandError::usage(format!("`{}` is neither a file nor a folder", path.display())));
        }
        let bad = |why: String| CommandError::new(Kind::BadInput, format!("`{}`: {why}", path.display()));
        let place: ContentPath = joined(below, &self.name(path)?)
            .parse()
            .map_err(|error: protected_model::delivery::ContentPathError| bad(error.to_string()))?;
        if let Some(other) = self.sources.insert(place.clone(), path.to_owned()) {
            let why = format!("it and `{}` would both be `{place}` in the delivery", other.display());
            return Err(bad(why));
        }
        if self.sources.len() > MAX_FILES {
            return Err(bad(format!("a delivery has at most {MAX_FILES} files")));
        }
        Ok(place)
    }

    /// Settles what is delivered: what is asked for, else what the one build says of itself.
    fn named(&self, wanted: &Wanted) -> Result<(PackageName, PackageVersion), CommandError> {
        let build = match self.builds.as_slice() {
            [build] => Some(&build.manifest),
            _ => None,
        };
        let package = wanted.package.clone().or(build.map(|build| build.package_name.clone()));
        let version = wanted.version.clone().or(build.map(|build| build.version.clone()));
        package.zip(version).ok_or_else(|| {
            CommandError::usage("nothing says which package and version are delivered").advise(
                "name them: protected-registry deliver <package> --version <version>; a build of protect-build says it itself",
            )
        })
    }

    /// Tells what the documents are.
    fn evidence(&self, files: &[Content]) -> Result<Vec<EvidenceDigest>, CommandError> {
        let mut found = Vec::new();
        for file in files.iter().filter(|file| file.path.is_evidence() && file.size <= MAX_DOCUMENT_BYTES) {
            let Some(source) = self.sources.get(&file.path) else { continue };
            let bytes = fs::read(source).map_err(|error| reading(source, &error))?;
            // What is of no known kind goes along as a file.
            let Some((kind, media_type)) = serde_json::from_slice(&bytes).ok().as_ref().and_then(recognised)
            else {
                continue;
            };
            found.push(EvidenceDigest {
                kind: name(kind).to_owned(),
                sha256: file.sha256,
                media_type: media_type.to_owned(),
            });
        }
        Ok(found)
    }
}

fn joined(below: &str, name: &str) -> String {
    if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") }
}

/// Returns what is called so, if no customer gets it.
fn kept_back(name: &str) -> Option<&'static str> {
    let folded = name.to_ascii_lowercase();
    WITHHELD.iter().find(|(named, _)| named.is(&folded)).map(|(_, what)| *what)
}

fn withheld(name: &str, path: &Path) -> Result<(), CommandError> {
    match kept_back(name) {
        None => Ok(()),
        Some(what) => {
            let message = format!("`{}` is {what}, which no customer gets", path.display());
            Err(CommandError::new(Kind::BadInput, message)
                .advise("name what is to be delivered file by file, or the build that protect-build made"))
        }
    }
}

fn build_manifest(folder: &Path) -> Result<BuildManifest, CommandError> {
    let path = folder.join(build::MANIFEST);
    let json = fs::read(&path).map_err(|error| reading(&path, &error))?;
    let manifest: BuildManifest = serde_json::from_slice(&json).map_err(|error| {
        CommandError::new(
            Kind::BadInput,
            format!("the build manifest `{}` is not one: {error}", path.display()),
        )
    })?;
    let name = &manifest.artifact.filename;
    if name.is_empty() || name.contains(['/', '\\']) || name.starts_with('.') {
        let message = format!("the build manifest `{}` names no tarball beside it", path.display());
        return Err(CommandError::new(Kind::BadInput, message));
    }
    Ok(manifest)
}

fn reading(path: &Path, error: &io::Error) -> CommandError {
    CommandError::new(Kind::BadInput, format!("reading `{}`: {error}", path.display()))
}

/// A reader that ends with an error once the command is to stop.
pub(crate) struct Stoppable<R> {
    pub(crate) inner: R,
    pub(crate) stop: Arc<AtomicBool>,
}

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Not `Interrupted`, after which readers go on.
        if self.stop.load(Ordering::SeqCst) {
            return Err(io::Error::other("stopped"));
        }
        self.inner.read(buffer)
    }
}

/// Reads to the end, and returns digest and size.
pub(crate) fn digest(mut reader: impl Read) -> io::Result<(Sha256, u64)> {
    let (mut digest, mut size, mut buffer) = (sha2::Sha256::new(), 0, vec![0; 1 << 17]);
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok((Sha256::from_bytes(digest.finalize().into()), size)),
            read => {
                digest.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
}

/// Holds tarballs against what is asked for, and says what was done to them.
fn judge(contents: &mut Contents, builds: &[Build], stop: &Arc<AtomicBool>) -> Result<(), CommandError> {
    let mut packages: Vec<String> = Vec::new();
    let expected = format!("{}@{}", contents.package, contents.version);
    for file in contents.files.iter().filter(|file| !file.path.is_evidence()) {
        let bad = |why: String| CommandError::new(Kind::BadInput, format!("`{}` {why}", file.path));
        if let Some(build) = builds.iter().find(|build| build.path == file.path) {
            let artifact = &build.manifest.artifact;
            if artifact.sha256 != file.sha256 {
                return Err(bad(format!(
                    "is not the tarball of the build manifest beside it: expected SHA-256 {}, found {}",
                    artifact.sha256, file.sha256
                )));
            }
            let protection = &build.manifest.protection;
            if protection.source_maps == SourceMaps::Published {
                return Err(bad("has source maps in it, which no customer gets".to_owned()));
            }
            contents.protection.obfuscated &= protection.obfuscated;
            packages.push(format!("{}@{}", build.manifest.package_name, build.manifest.version));
            continue;
        }
        contents.protection.obfuscated = false;
        contents.unproven.push(file.path.to_string());
        let Some(source) = contents.sources.get(&file.path) else { continue };
        let folded = file.path.as_str().to_ascii_lowercase();
        if [".tgz", ".tar.gz"].iter().any(|end| folded.ends_with(end)) {
            match tarball(source, stop) {
                Ok(Some(package)) => packages.push(package),
                Ok(None) => {}
                Err(error) => return Err(bad(format!("is not used: {error}"))),
            }
        }
    }
    if !packages.is_empty() && !packages.contains(&expected) {
        let message = format!("{expected} was to be delivered, and what is given is {}", packages.join(", "));
        return Err(CommandError::new(Kind::BadInput, message));
    }
    Ok(())
}

/// Reads which package a tarball is of, and refuses one with anything in it that no customer gets. Memory holds none of it.
fn tarball(path: &Path, stop: &Arc<AtomicBool>) -> io::Result<Option<String>> {
    #[derive(Deserialize)]
    struct Named {
        name: PackageName,
        version: PackageVersion,
    }
    let file = Stoppable { inner: io::BufReader::new(fs::File::open(path)?), stop: Arc::clone(stop) };
    // Attack: a second member of the gzip file, which npm and tar read and a decoder of one member does not.
    let mut archive = tar::Archive::new(MultiGzDecoder::new(file));
    let mut found = None;
    for entry in archive.entries()? {
        let entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if let Some(what) = path.split('/').find_map(kept_back) {
            let shown = path.escape_debug();
            return Err(io::Error::other(format!("it holds `{shown}`, {what}, which no customer gets")));
        }
        if path == "package/package.json" {
            let mut json = Vec::new();
            entry.take(MAX_PACKAGE_JSON_BYTES).read_to_end(&mut json)?;
            let named: Named = serde_json::from_slice(&json).map_err(|error| {
                io::Error::other(format!("its package.json names no package and version: {error}"))
            })?;
            found = Some(format!("{}@{}", named.name, named.version));
        }
    }
    Ok(found)
}
