//! SBOM: what a package is made of, read from its lock file and from what is installed, in the words of CycloneDX and
//! SPDX.
//!
//! [`collect`] reads one neutral [`Graph`]; [`Graph::cyclonedx`] and [`Graph::spdx`] write it. Equal input gives equal
//! bytes: the time is given, lists are sorted, and the documents' numbers follow from their content.

mod cyclonedx;
mod error;
mod graph;
mod installed;
mod licence;
mod lock;
mod manifest;
mod node;
mod purl;
mod spdx;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use jiff::Timestamp;
use protected_model::{
    build::{PipelineStep, Source},
    digest::{Sha256, Shasum},
    integrity::{ArtifactDigest, FileDigest},
};

pub(crate) use self::spdx::verification_code;
pub use self::{
    cyclonedx::SpecVersion,
    error::SbomError,
    graph::{Counts, Graph},
};
use self::{
    error::Fault,
    graph::LockFile,
    installed::Installed,
    lock::{Edge, Lock, Locked, Need, Origin, Place},
    manifest::Manifest,
};

/// The largest lock file that is read. The largest of public repositories have about 10 MiB.
pub const MAX_LOCK_BYTES: u64 = 64 * 1024 * 1024;
/// The largest `package.json` that is read.
const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;

/// The media type of a CycloneDX document.
pub const CYCLONEDX_MEDIA_TYPE: &str = "application/vnd.cyclonedx+json";
/// The media type of an SPDX document.
pub const SPDX_MEDIA_TYPE: &str = "application/spdx+json";

/// What the documents say of the build beside what the package needs.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// When the documents were made: the time of the commit, for a build that can be repeated.
    pub created: Timestamp,
    /// The version of this program.
    pub tool_version: &'a str,
    /// Where the source came from.
    pub source: &'a Source,
    /// The tarball.
    pub artifact: Option<&'a ArtifactDigest>,
    /// The files in it.
    pub files: &'a [FileDigest],
    /// SHA-1 of each of them by its path.
    pub sha1: &'a BTreeMap<String, Shasum>,
    /// The source files that each of them was made of, by its path.
    pub modules: &'a BTreeMap<String, BTreeSet<String>>,
    /// The source files that were left out because nothing reaches them.
    pub shaken: &'a BTreeSet<String>,
    /// How it was built.
    pub pipeline: &'a [PipelineStep],
}

/// Reads what the package in `folder` needs. Its lock file is looked for there, and above as far as `root`.
///
/// Without a lock file that covers the package the graph holds what the `package.json` declares and says that it is
/// not complete; a lock file that cannot be read is an error.
///
/// # Errors
/// When `package.json` or the lock file cannot be read for certain.
pub fn collect(folder: &Path, root: &Path) -> Result<Graph, SbomError> {
    let at = |path: &Path| path.to_owned();
    let folder =
        std::fs::canonicalize(folder).map_err(|source| SbomError::Read { path: at(folder), source })?;
    let root = std::fs::canonicalize(root).map_err(|source| SbomError::Read { path: at(root), source })?;
    let file = folder.join("package.json");
    let text = read(&file, MAX_MANIFEST_BYTES)?.unwrap_or_default();
    let manifest = Manifest::parse(&text).map_err(|fault| invalid(&file, fault))?;
    let copyright = installed::copyright(&folder);
    let mut gaps = Vec::new();
    let inside = folder.ancestors().take_while(|above| above.starts_with(&root) || **above == *folder);
    for top in inside {
        let names = present(top, &manifest);
        let Some((name, ignored)) = names.split_first() else { continue };
        let path = top.join(name);
        let Some(text) = read(&path, MAX_LOCK_BYTES)? else { continue };
        if let Some(line) = lock::conflict(&text) {
            return Err(SbomError::Conflict { path, line });
        }
        let installed = Installed::new(top.to_owned());
        let Some(mut lock) = read_lock(name, &text, top, &folder, &manifest, &installed)
            .map_err(|fault| invalid(&path, fault))?
        else {
            gaps.push(format!("`{name}` {} does not cover the package", above(top, &folder)));
            continue;
        };
        gaps.clear();
        let found = installed.find_all(&mut lock, &folder);
        let about = LockFile {
            name: (*name).to_owned(),
            path: within(&root, &path),
            format: lock.format.clone(),
            sha256: Sha256::of(&text),
            ignored: ignored.to_vec(),
        };
        return Ok(Graph::new(&manifest, copyright, &lock.packages, &found, Some(about), gaps));
    }
    gaps.push("there is no lock file: only what package.json declares is known, without versions".to_owned());
    let lock = declared(&manifest);
    if lock.packages.len() == 1 {
        // Nothing is needed, so nothing has to be locked.
        gaps.clear();
    }
    let found = vec![None; lock.packages.len()];
    Ok(Graph::new(&manifest, copyright, &lock.packages, &found, None, gaps))
}

/// Lists the lock files in a folder, the one to use first: that of the package manager that `package.json` names.
fn present(top: &Path, manifest: &Manifest) -> Vec<&'static str> {
    let mut names: Vec<&str> = lock::NAMES.iter().copied().filter(|name| top.join(name).is_file()).collect();
    let named = match manifest.package_manager.as_deref() {
        Some("pnpm") => Some("pnpm-lock.yaml"),
        Some("yarn") => Some("yarn.lock"),
        _ => None,
    };
    names.sort_by_key(|name| Some(*name) != named);
    names
}

fn read_lock(
    name: &str,
    text: &str,
    top: &Path,
    folder: &Path,
    manifest: &Manifest,
    installed: &Installed,
) -> Result<Option<Lock>, Fault> {
    let member = within(top, folder);
    let above = if member.is_empty() { None } else { installed.manifest_in("") };
    let above = above.as_ref().unwrap_or(manifest);
    let needs_workspaces = name == "yarn.lock";
    let workspaces =
        if needs_workspaces { installed::workspaces(top, &above.workspaces) } else { Vec::new() };
    let manifest_in = |folder: &str| installed.manifest_in(folder);
    lock::read(
        name,
        text,
        &Place { manifest, member: &member, workspaces: &workspaces, top: above, manifest_in: &manifest_in },
    )
}

/// What `package.json` declares, where nothing says what that resolves to.
fn declared(manifest: &Manifest) -> Lock {
    let mut lock = Lock { format: String::new(), packages: vec![Locked::default()] };
    let lists = [
        (&manifest.optional, Need::Optional),
        (&manifest.dependencies, Need::Required),
        (&manifest.peers, Need::Peer),
        (&manifest.dev, Need::Dev),
    ];
    let mut known = BTreeSet::new();
    for (list, need) in lists {
        for (name, range) in list.iter().filter(|(name, _)| known.insert((*name).clone())) {
            let to = lock.packages.len();
            let version =
                semver::Version::parse(range).map_or_else(|_| String::new(), |version| version.to_string());
            let range = version.is_empty().then(|| range.clone());
            lock.packages.push(Locked {
                name: name.clone(),
                version,
                origin: Origin::Registry(None),
                range,
                ..Locked::default()
            });
            lock.packages[0].edges.push(Edge { name: name.clone(), to, need });
        }
    }
    lock
}

fn read(path: &Path, limit_bytes: u64) -> Result<Option<String>, SbomError> {
    match installed::read(path, limit_bytes) {
        Ok(Some(Ok(text))) => Ok(Some(text)),
        Ok(Some(Err(size_bytes))) => {
            Err(SbomError::TooLarge { path: path.to_owned(), size_bytes, limit_bytes })
        }
        Ok(None) => Ok(None),
        Err(source) => Err(SbomError::Read { path: path.to_owned(), source }),
    }
}

fn invalid(path: &Path, Fault { line, reason }: Fault) -> SbomError {
    SbomError::Invalid { path: path.to_owned(), line, reason }
}

/// Returns `path` as it is called from `root`, with `/` on every platform.
fn within(root: &Path, path: &Path) -> String {
    let path = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

/// Says where `top` is from `folder`, without a path of this machine.
fn above(top: &Path, folder: &Path) -> String {
    match folder.strip_prefix(top).map_or(0, |rest| rest.components().count()) {
        0 => "in its folder".to_owned(),
        1 => "in the folder above".to_owned(),
        levels => format!("{levels} folders above"),
    }
}
