//! `integrity.json`: every file of a protected package, by digest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    digest::{Integrity, Sha256},
    name::PackageName,
    version::PackageVersion,
};

/// The media type of an [`IntegrityManifest`].
pub const MEDIA_TYPE: &str = "application/vnd.protected-registry.integrity.v1+json";

/// Where an [`IntegrityManifest`] stands in a package.
pub const FILE_NAME: &str = "integrity.json";

/// The files of a protected package with their digests.
///
/// Stands in the package as `integrity.json`, where `artifact` is absent because no file can hold the digest
/// of the archive that it is in, and beside it in the evidence, where `artifact` is present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IntegrityManifest {
    /// [`MEDIA_TYPE`].
    pub schema: String,
    /// The package.
    pub package_name: PackageName,
    /// Its version.
    pub version: PackageVersion,
    /// Every file but `integrity.json` itself, in the order of its path's bytes.
    pub files: Vec<FileDigest>,
    /// SHA-256 of `files` as canonical JSON (RFC 8785).
    pub tree_sha256: Sha256,
    /// The tarball.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactDigest>,
}

/// One file of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FileDigest {
    /// Relative to the package's root, with `/`.
    pub path: String,
    /// Digest of the content.
    pub sha256: Sha256,
    /// Bytes.
    pub size: u64,
    /// Permission bits in octal as the tarball has them: `0644` or `0755`.
    pub mode: String,
}

/// A tarball by name and digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArtifactDigest {
    /// File name.
    pub filename: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256.
    pub sha256: Sha256,
    /// SHA-512, as npm writes it.
    pub integrity: Integrity,
}

impl IntegrityManifest {
    /// Sorts `files` and digests them.
    pub fn new(package_name: PackageName, version: PackageVersion, mut files: Vec<FileDigest>) -> Self {
        files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
        let tree_sha256 = tree_sha256(&files);
        let schema = MEDIA_TYPE.to_owned();
        Self { schema, package_name, version, files, tree_sha256, artifact: None }
    }
}

/// Digests a list of files, which must be in the order of their paths, as canonical JSON (RFC 8785).
pub fn tree_sha256(files: &[FileDigest]) -> Sha256 {
    Sha256::of(canonical(&files))
}

/// Returns `value` as canonical JSON (RFC 8785).
///
/// # Panics
/// Never for the documents of this crate: their maps have text keys and their numbers are integers.
pub fn canonical(value: &impl Serialize) -> Vec<u8> {
    serde_jcs::to_vec(value).expect("documents have text keys and integers only")
}
