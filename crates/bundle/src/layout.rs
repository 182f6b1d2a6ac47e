//! A delivery as an OCI image layout (OCI image-spec 1.1), in a folder or in one tar file.
//!
//! Two manifests: the bundle, whose layers are the descriptor and the sealed content, and the keys, which name the
//! bundle as their subject. Wrapping the data key anew makes another keys manifest and leaves the bundle as it is. Each of
//! the two may have a [signature], whose subject it is.

pub mod signature;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use protected_model::{
    api::evidence::BUNDLE_TYPE,
    delivery::{ARTIFACT_TYPE, CONTENT, DESCRIPTOR, DeliveryError, Descriptor, KEYS, Keys},
    digest::Sha256,
    integrity::canonical,
    name::BundleId,
};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use self::signature::{Part, Signatures, annotations, blobs_of_signature};
use crate::{
    Whole,
    staging::{self, Staging, StagingError, parent, sync_folder},
};

/// The media type of an image manifest.
pub const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The media type of an index.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The media type of the empty configuration, `{}`.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// The empty configuration.
const EMPTY_CONFIG: &[u8] = b"{}";

/// The largest document that is read, in bytes. A descriptor of the most files that may be has less.
pub const MAX_DOCUMENT_BYTES: u64 = 8 << 20;

/// What `oci-layout` holds.
pub const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// A blob by its digest (OCI image-spec, descriptor).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blob {
    /// What it is.
    pub media_type: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// In an index: what kind of artifact the manifest is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Names, such as the tag.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Blob {
    /// Returns where it lies in a layout.
    pub fn path(&self) -> String {
        blob_path(&self.digest)
    }

    /// Holds bytes against digest and size.
    ///
    /// # Errors
    /// When they are others.
    pub fn check(&self, bytes: &[u8]) -> Result<(), LayoutError> {
        self.matches(Digest(Sha256::of(bytes)), bytes.len() as u64)
    }

    /// Holds a digest and a size against those of the blob.
    ///
    /// # Errors
    /// When they are others.
    pub fn matches(&self, digest: Digest, size: u64) -> Result<(), LayoutError> {
        if digest == self.digest && size == self.size {
            return Ok(());
        }
        Err(LayoutError::Digest {
            name: self.path(),
            expected: format!("{} and {} bytes", self.digest, self.size),
            found: format!("{digest} and {size} bytes"),
        })
    }
}

/// A digest as OCI writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub Sha256);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let sha256 = text.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
        sha256.map(Self).ok_or("expected `sha256:` and 64 lower-case hexadecimal digits")
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// An image manifest, as far as it concerns a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: String,
    #[serde(default)]
    artifact_type: Option<String>,
    config: Blob,
    layers: Vec<Blob>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Blob>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    manifests: Vec<Blob>,
}

/// The manifests of a delivery, as an index names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifests {
    /// The manifest of descriptor and content. Its digest names the delivery.
    pub bundle: Blob,
    /// The manifest of the keys.
    pub keys: Blob,
    /// The manifests of what is signed of these two.
    pub signatures: Signatures,
}

impl Manifests {
    /// Reads an `index.json`.
    ///
    /// # Errors
    /// When it does not name exactly one manifest of each kind, or more than one signature of either.
    pub fn of_index(bytes: &[u8]) -> Result<Self, LayoutError> {
        let index: Index = typed(bytes, "index.json")?;
        let [bundle, keys] = Part::ALL.map(|part| Signatures::find(part, &index.manifests));
        let signatures = Signatures { bundle: bundle?, keys: keys? };
        Ok(Self { bundle: single(&index, ARTIFACT_TYPE)?, keys: single(&index, KEYS)?, signatures })
    }

    /// Returns the manifest of a part.
    pub fn of(&self, part: Part) -> &Blob {
        match part {
            Part::Bundle => &self.bundle,
            Part::Keys => &self.keys,
        }
    }

    /// Returns the `index.json` that names them.
    pub fn to_index(&self, bundle_id: &BundleId) -> Vec<u8> {
        let tagged = |blob: &Blob, tag: String| Blob {
            annotations: BTreeMap::from([(TAG.to_owned(), tag)]),
            ..blob.clone()
        };
        let keys_tag = referrers_tag(&self.bundle.digest);
        let manifests = [tagged(&self.bundle, bundle_id.to_string()), tagged(&self.keys, keys_tag)];
        canonical(&Index {
            schema_version: 2,
            media_type: Some(INDEX.to_owned()),
            manifests: manifests.into_iter().chain(self.signatures.listed()).collect(),
        })
    }
}

/// Returns the tag under which registries without a list of referrers know what names `digest` as its subject (OCI
/// distribution-spec, referrers tag schema).
pub fn referrers_tag(digest: &Digest) -> String {
    format!("sha256-{}", digest.0)
}

/// Returns what the manifest of a bundle names: the empty configuration, the descriptor and the content.
///
/// # Errors
/// When the bytes are not the manifest, or it is not one of a bundle.
pub fn blobs_of_bundle(blob: &Blob, bytes: &[u8]) -> Result<[Blob; 3], LayoutError> {
    let manifest = read_manifest(blob, bytes, ARTIFACT_TYPE)?;
    let layers: [Blob; 2] = manifest.layers.try_into().map_err(|layers: Vec<Blob>| {
        LayoutError::Form(format!("the bundle has {} layers, where 2 were expected", layers.len()))
    })?;
    let [descriptor, content] = layers;
    expect_type(&descriptor, DESCRIPTOR)?;
    expect_type(&content, CONTENT)?;
    Ok([manifest.config, descriptor, content])
}

/// Returns what the manifest of the keys of `bundle` names: the empty configuration and the keys.
///
/// # Errors
/// When the bytes are not the manifest, or it is not one of keys, or they are those of another bundle.
pub fn blobs_of_keys(blob: &Blob, bytes: &[u8], bundle: &Blob) -> Result<[Blob; 2], LayoutError> {
    let manifest = read_manifest(blob, bytes, KEYS)?;
    // Attack: keys of another bundle. They would not open this one; they are refused before they are tried.
    if manifest.subject.map(|subject| subject.digest) != Some(bundle.digest) {
        return Err(LayoutError::Form("its keys are those of another bundle".to_owned()));
    }
    let [layer]: [Blob; 1] = manifest
        .layers
        .try_into()
        .map_err(|_| LayoutError::Form("its keys are not one document".to_owned()))?;
    expect_type(&layer, KEYS)?;
    Ok([manifest.config, layer])
}

/// Reads a manifest, and holds it against its digest.
fn read_manifest(blob: &Blob, bytes: &[u8], artifact_type: &str) -> Result<Manifest, LayoutError> {
    expect_type(blob, IMAGE_MANIFEST)?;
    blob.check(bytes)?;
    let manifest: Manifest = typed(bytes, "manifest")?;
    if manifest.schema_version != 2
        || manifest.media_type != IMAGE_MANIFEST
        || manifest.artifact_type.as_deref() != Some(artifact_type)
    {
        let why = format!("the manifest {} is not of `{artifact_type}`", blob.digest);
        return Err(LayoutError::Form(why));
    }
    expect_type(&manifest.config, EMPTY)?;
    Ok(manifest)
}

/// Why a layout was not written or is not read.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The place is taken.
    #[error("`{}` is there already", .0.display())]
    Exists(PathBuf),
    /// A file of it cannot be written.
    #[error("`{}` cannot be written: {error}", .0.display(), error = .1)]
    Write(PathBuf, io::Error),
    /// A file of it cannot be read.
    #[error("`{0}` of the bundle cannot be read: {1}")]
    Read(String, io::Error),
    /// A file of it is not what its digest says.
    #[error("`{name}` of the bundle has {found}, where {expected} was expected")]
    Digest {
        /// The file.
        name: String,
        /// What was expected.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Another command wrote it since it was read.
    #[error("it was changed meanwhile, and is left as it is now: the same command again looks at that")]
    Changed,
    /// It is no delivery.
    #[error("this is no delivery: {0}")]
    Form(String),
    /// A document of it is not right.
    #[error("the {0} of the bundle is not used: {1}")]
    Document(&'static str, #[source] DeliveryError),
}

impl From<StagingError> for LayoutError {
    fn from(error: StagingError) -> Self {
        match error {
            StagingError::Exists(place) => Self::Exists(place),
            StagingError::Write(place, error) => Self::Write(place, error),
        }
    }
}

/// A layout that is being written: a private folder beside the place where it appears, when it is [ended](Self::end).
pub struct Writer(Staging);

/// A delivery that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The manifest of the bundle: descriptor and sealed content.
    pub bundle: Blob,
    /// The manifest of its keys.
    pub keys: Blob,
    /// The sealed content.
    pub content: Blob,
}

impl Writer {
    /// Starts a layout that is to appear at `to`.
    ///
    /// # Errors
    /// When something is there, or nothing can be written beside it.
    pub fn new(to: &Path) -> Result<Self, LayoutError> {
        stage(to).map(Self)
    }

    /// Returns a file for the sealed content, whose digest is not known yet.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn content(&self) -> Result<fs::File, LayoutError> {
        let place = self.0.folder().join(UNNAMED);
        fs::File::create_new(&place).map_err(|error| LayoutError::Write(place, error))
    }

    /// Writes all that stands around the content, and lets the layout appear.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn end(
        self,
        descriptor: &Descriptor,
        keys: &Keys,
        content: (Sha256, u64),
    ) -> Result<Written, LayoutError> {
        let folder = &self.0.folder();
        let (sha256, size) = content;
        let content = Blob {
            media_type: CONTENT.to_owned(),
            digest: Digest(sha256),
            size,
            artifact_type: None,
            annotations: BTreeMap::new(),
        };
        let unnamed = folder.join(UNNAMED);
        let place = folder.join(blob_path(&content.digest));
        fs::File::open(&unnamed)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&unnamed, &place))
            .map_err(|error| LayoutError::Write(place, error))?;
        let descriptor_blob = put(folder, DESCRIPTOR, &canonical(descriptor))?;
        put(folder, EMPTY, EMPTY_CONFIG)?;
        let (bundle, bytes) =
            manifest(ARTIFACT_TYPE, vec![descriptor_blob, content.clone()], None, BTreeMap::new());
        put(folder, IMAGE_MANIFEST, &bytes)?;
        let keys = put_keys(folder, keys, &bundle)?;
        let manifests = Manifests { bundle, keys, signatures: Signatures::default() };
        put_index(folder, &manifests, descriptor)?;
        save(&folder.join("oci-layout"), LAYOUT)?;
        self.0.appear()?;
        Ok(Written { bundle: manifests.bundle, keys: manifests.keys, content })
    }
}

/// Starts a private folder beside the place where a layout is to appear.
fn stage(to: &Path) -> Result<Staging, LayoutError> {
    let staging = Staging::beside(to)?;
    let blobs = staging.folder().join(BLOBS);
    fs::create_dir_all(&blobs).map_err(|error| LayoutError::Write(blobs, error))?;
    Ok(staging)
}

/// A layout that comes from elsewhere, blob by blob: a private folder beside the place where it appears, when it is
/// whole.
#[derive(Debug)]
pub struct Receiver(Staging);

impl Receiver {
    /// Starts a layout that is to appear at `to`.
    ///
    /// # Errors
    /// When something is there, or nothing can be written beside it.
    pub fn new(to: &Path) -> Result<Self, LayoutError> {
        stage(to).map(Self)
    }

    /// Writes a small blob, and holds it against its digest.
    ///
    /// # Errors
    /// When it is another, or cannot be written.
    pub fn document(&self, blob: &Blob, bytes: &[u8]) -> Result<(), LayoutError> {
        blob.check(bytes)?;
        save(&self.0.folder().join(blob.path()), bytes)
    }

    /// Returns a file for a large blob, and its path. Whoever writes it holds it against its digest and syncs it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn blob(&self, blob: &Blob) -> Result<(fs::File, PathBuf), LayoutError> {
        let place = self.0.folder().join(blob.path());
        let file = fs::File::create_new(&place).map_err(|error| LayoutError::Write(place.clone(), error))?;
        Ok((file, place))
    }

    /// Lets the layout appear, once it is a delivery.
    ///
    /// # Errors
    /// When it is none, or something came to be in its place.
    pub fn end(self, manifests: &Manifests, bundle_id: &BundleId) -> Result<(), LayoutError> {
        let folder = &self.0.folder();
        save(&folder.join("oci-layout"), LAYOUT)?;
        save(&folder.join("index.json"), &manifests.to_index(bundle_id))?;
        let delivery = Delivery::open(folder)?;
        // Attack: a delivery under the name of another one.
        let found = &delivery.descriptor.bundle_id;
        if found != bundle_id {
            return Err(LayoutError::Form(format!("it is the delivery `{found}`, not `{bundle_id}`")));
        }
        self.0.appear()?;
        Ok(())
    }
}

/// Where the sealed content is while it has no digest.
const UNNAMED: &str = "content";

/// Where the blobs of a layout are.
const BLOBS: &str = "blobs/sha256";

fn blob_path(digest: &Digest) -> String {
    format!("{BLOBS}/{}", digest.0)
}

/// Writes a document as a blob.
fn put(folder: &Path, media_type: &str, bytes: &[u8]) -> Result<Blob, LayoutError> {
    let blob = named(media_type, bytes);
    let place = folder.join(blob.path());
    if !place.exists() {
        save(&place, bytes)?;
    }
    Ok(blob)
}

/// Names a document by its digest.
fn named(media_type: &str, bytes: &[u8]) -> Blob {
    Blob {
        media_type: media_type.to_owned(),
        digest: Digest(Sha256::of(bytes)),
        size: bytes.len() as u64,
        artifact_type: None,
        annotations: BTreeMap::new(),
    }
}

/// Makes a manifest, with the empty configuration.
fn manifest(
    artifact_type: &str,
    layers: Vec<Blob>,
    subject: Option<&Blob>,
    annotations: BTreeMap<String, String>,
) -> (Blob, Vec<u8>) {
    let bytes = canonical(&Manifest {
        schema_version: 2,
        media_type: IMAGE_MANIFEST.to_owned(),
        artifact_type: Some(artifact_type.to_owned()),
        config: named(EMPTY, EMPTY_CONFIG),
        layers,
        subject: subject.map(|subject| Blob { artifact_type: None, ..subject.clone() }),
        annotations,
    });
    let blob = Blob { artifact_type: Some(artifact_type.to_owned()), ..named(IMAGE_MANIFEST, &bytes) };
    (blob, bytes)
}

fn keys_manifest(layer: Blob, bundle: &Blob) -> (Blob, Vec<u8>) {
    manifest(KEYS, vec![layer], Some(bundle), BTreeMap::new())
}

fn put_keys(folder: &Path, keys: &Keys, bundle: &Blob) -> Result<Blob, LayoutError> {
    let layer = put(folder, KEYS, &canonical(keys))?;
    let (blob, bytes) = keys_manifest(layer, bundle);
    put(folder, IMAGE_MANIFEST, &bytes)?;
    Ok(blob)
}

/// Makes the artifact of a signature, and returns its manifest and its documents.
fn signature_of(part: Part, bundle: &[u8], subject: &Blob) -> (Blob, [Vec<u8>; 2]) {
    let layer = named(BUNDLE_TYPE, bundle);
    let (blob, bytes) = manifest(BUNDLE_TYPE, vec![layer], Some(subject), annotations(part));
    (blob, [bundle.to_owned(), bytes])
}

/// The annotation that tools take for the tag (OCI image-spec, annotations).
const TAG: &str = "org.opencontainers.image.ref.name";

fn put_index(folder: &Path, manifests: &Manifests, descriptor: &Descriptor) -> Result<(), LayoutError> {
    save(&folder.join("index.json"), &manifests.to_index(&descriptor.bundle_id))
}

/// Writes a file whole, or leaves what was there.
fn save(place: &Path, bytes: &[u8]) -> Result<(), LayoutError> {
    let failed = |error| LayoutError::Write(place.to_owned(), error);
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(parent(place)).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // A temporary file is its owner's alone; this one is as public as its neighbours.
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed)?;
    }
    file.as_file().sync_all().map_err(failed)?;
    file.persist(place).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Makes the names in a folder lasting.
fn lasting(folder: &Path) -> Result<(), LayoutError> {
    sync_folder(folder).map_err(|error| LayoutError::Write(folder.to_owned(), error))
}

/// A delivery that is read, from a folder or a tar file. Nothing in it is believed before its digest was seen.
#[derive(Clone, Debug)]
pub struct Delivery {
    place: Place,
    /// The index as it was read.
    index: Vec<u8>,
    manifests: Manifests,
    content: Blob,
    descriptor: Descriptor,
    keys: Keys,
}

/// While this is there, no other command writes the delivery: neither what it is made of, nor what stands beside it and
/// follows from it.
#[derive(Debug)]
pub struct Lock(Vec<fs::File>);

#[derive(Clone, Debug)]
enum Place {
    Folder(PathBuf),
    /// Each file's place in the archive, by its name. The archive stays open: where another one takes its place, these
    /// are still the places in this one.
    Tar {
        path: PathBuf,
        archive: Arc<fs::File>,
        files: BTreeMap<String, (u64, u64)>,
    },
}

impl Delivery {
    /// Reads what stands around the content, and holds each part against its digest.
    ///
    /// # Errors
    /// When it is no delivery, or a part of it is not what the others say.
    pub fn open(path: &Path) -> Result<Self, LayoutError> {
        let place = Place::open(path)?;
        let layout = place.document("oci-layout")?;
        let version = json(&layout, "oci-layout")?.get("imageLayoutVersion").cloned();
        if version.as_ref().and_then(serde_json::Value::as_str) != Some("1.0.0") {
            return Err(LayoutError::Form("`oci-layout` is not of version 1.0.0".to_owned()));
        }
        let index = place.document("index.json")?;
        let manifests = Manifests::of_index(&index)?;
        let bundle = &manifests.bundle;
        let [config, descriptor, content] = blobs_of_bundle(bundle, &place.blob(bundle)?)?;
        if place.blob(&config)? != EMPTY_CONFIG {
            return Err(LayoutError::Form("its configuration is not empty".to_owned()));
        }
        let descriptor = Descriptor::parse(&place.blob(&descriptor)?)
            .map_err(|error| LayoutError::Document("descriptor", error))?;
        let [_, layer] = blobs_of_keys(&manifests.keys, &place.blob(&manifests.keys)?, bundle)?;
        let keys = Keys::parse(&place.blob(&layer)?, &descriptor)
            .map_err(|error| LayoutError::Document("keys document", error))?;
        let delivery = Self { place, index, manifests, content, descriptor, keys };
        for part in Part::ALL {
            delivery.unverified_signature(part)?;
        }
        Ok(delivery)
    }

    /// Returns the manifest of the bundle, whose digest names it.
    pub fn bundle(&self) -> &Blob {
        &self.manifests.bundle
    }

    /// Returns the manifests of bundle and keys.
    pub fn manifests(&self) -> &Manifests {
        &self.manifests
    }

    /// Returns what belongs to the bundle, its manifest last.
    ///
    /// # Errors
    /// When it cannot be read any more.
    pub fn bundle_blobs(&self) -> Result<[Blob; 4], LayoutError> {
        let manifest = &self.manifests.bundle;
        let [config, descriptor, content] = blobs_of_bundle(manifest, &self.place.blob(manifest)?)?;
        Ok([config, descriptor, content, manifest.clone()])
    }

    /// Returns what belongs to the keys, their manifest last.
    ///
    /// # Errors
    /// When it cannot be read any more.
    pub fn keys_blobs(&self) -> Result<[Blob; 3], LayoutError> {
        let Manifests { bundle, keys, .. } = &self.manifests;
        let [config, layer] = blobs_of_keys(keys, &self.place.blob(keys)?, bundle)?;
        Ok([config, layer, keys.clone()])
    }

    /// Returns what belongs to the signature of a part, its manifest last: nothing where there is none.
    ///
    /// # Errors
    /// When it cannot be read any more.
    pub fn signature_blobs(&self, part: Part) -> Result<Vec<Blob>, LayoutError> {
        let Some(manifest) = self.manifests.signatures.of(part) else { return Ok(Vec::new()) };
        let [config, layer] =
            blobs_of_signature(part, manifest, &self.place.blob(manifest)?, self.manifests.of(part))?;
        Ok(vec![config, layer, manifest.clone()])
    }

    /// Returns the signed statement over a part where there is one: a Sigstore bundle that nobody has verified yet.
    ///
    /// # Errors
    /// When it cannot be read any more.
    pub fn unverified_signature(&self, part: Part) -> Result<Option<Vec<u8>>, LayoutError> {
        match self.signature_blobs(part)?.as_slice() {
            [_, layer, _] => self.place.blob(layer).map(Some),
            _ => Ok(None),
        }
    }

    /// Returns every blob of the delivery once, in the order in which they may appear elsewhere: what names others after
    /// these.
    ///
    /// # Errors
    /// When it cannot be read any more.
    pub fn blobs(&self) -> Result<Vec<Blob>, LayoutError> {
        let mut blobs: Vec<Blob> = self.bundle_blobs()?.into_iter().chain(self.keys_blobs()?).collect();
        for part in Part::ALL {
            blobs.extend(self.signature_blobs(part)?);
        }
        // The empty configuration is every manifest's.
        let mut seen = BTreeSet::new();
        blobs.retain(|blob| seen.insert(blob.digest));
        Ok(blobs)
    }

    /// Returns what is sealed.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Returns the wrapped keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Returns the sealed content by its digest: its bytes are not held against it yet.
    pub fn content(&self) -> &Blob {
        &self.content
    }

    /// Returns a reader of the sealed content, of exactly its size.
    ///
    /// # Errors
    /// When it is not there in that size.
    pub fn unverified_content(&self) -> Result<impl Read + Send + use<>, LayoutError> {
        self.unverified_blob(&self.content)
    }

    /// Returns a reader of a blob, of exactly its size.
    ///
    /// # Errors
    /// When it is not there in that size.
    pub fn unverified_blob(&self, blob: &Blob) -> Result<impl Read + Send + use<>, LayoutError> {
        let name = blob.path();
        let (file, size) = self.place.file(&name)?;
        if size != blob.size {
            return Err(LayoutError::Digest {
                name,
                expected: format!("{} bytes", blob.size),
                found: format!("{size} bytes"),
            });
        }
        Ok(file.take(size))
    }

    /// Holds the content, as it was read to its end, against its digest. Before that nothing of it is used.
    ///
    /// Attack: a delivery that was signed, with another content in it, sealed under the same key for the same
    /// descriptor.
    ///
    /// # Errors
    /// When it is another content.
    pub fn check_content(&self, whole: &Whole) -> Result<(), LayoutError> {
        self.content.matches(Digest(Sha256::from_bytes(whole.sha256)), whole.sealed_bytes)
    }

    /// Returns the manifest that these keys would have, for whoever signs it before they are [set](Self::set_keys).
    pub fn manifest_of_keys(&self, keys: &Keys) -> Blob {
        keys_manifest(named(KEYS, &canonical(keys)), &self.manifests.bundle).0
    }

    /// Puts other keys in the place of those that are there, with the signature over them if there is one. Descriptor and
    /// content stay as they are, and so does what is signed of them.
    ///
    /// In a folder the new keys are there before the index names them, and a tar file is written anew and takes the place of
    /// the one that is there, so that the delivery can be read at every moment. A signature of the former keys is never named
    /// beside the new ones. Until what is returned goes, no other command writes it.
    ///
    /// # Errors
    /// When the keys are of another delivery, or it cannot be written, or another command wrote it since it was read; of a
    /// tar file also when what is copied is not what its digest says, and at `stop`.
    pub fn set_keys(
        &mut self,
        keys: Keys,
        signature: Option<&[u8]>,
        stop: &AtomicBool,
    ) -> Result<Lock, LayoutError> {
        keys.check(&self.descriptor).map_err(|error| LayoutError::Document("keys document", error))?;
        let layer = canonical(&keys);
        let (blob, manifest) = keys_manifest(named(KEYS, &layer), &self.manifests.bundle);
        let (mut made, mut manifests) = (vec![layer, manifest], self.manifests.clone());
        manifests.signatures.keys = None;
        if let Some(signature) = signature {
            let (signed, documents) = signature_of(Part::Keys, signature, &blob);
            made.extend(documents);
            manifests.signatures.keys = Some(signed);
        }
        manifests.keys = blob;
        let mut kept: Vec<Blob> = self.bundle_blobs()?.into();
        kept.extend(self.signature_blobs(Part::Bundle)?);
        let lock = self.add(made, manifests, &kept, stop)?;
        self.keys = keys;
        Ok(lock)
    }

    /// Adds signatures. In a tar file, which is written anew for that, as well as in a folder; they are there before the
    /// index names them.
    ///
    /// # Errors
    /// When it cannot be written, or another command wrote it since it was read; of a tar file also when what is copied is
    /// not what its digest says.
    pub fn add_signatures(&mut self, signed: &[(Part, Vec<u8>)]) -> Result<(), LayoutError> {
        let (mut manifests, mut made) = (self.manifests.clone(), Vec::new());
        for (part, bundle) in signed {
            let (blob, documents) = signature_of(*part, bundle, self.manifests.of(*part));
            made.extend(documents);
            match part {
                Part::Bundle => manifests.signatures.bundle = Some(blob),
                Part::Keys => manifests.signatures.keys = Some(blob),
            }
        }
        self.add(made, manifests, &self.blobs()?, &AtomicBool::new(false)).map(drop)
    }

    /// Adds documents, and then has the index name them with the blobs that are `kept`.
    fn add(
        &mut self,
        made: Vec<Vec<u8>>,
        manifests: Manifests,
        kept: &[Blob],
        stop: &AtomicBool,
    ) -> Result<Lock, LayoutError> {
        let index = manifests.to_index(&self.descriptor.bundle_id);
        let mut lock;
        match &self.place {
            Place::Folder(folder) => {
                for document in made {
                    save(&folder.join(blob_path(&Digest(Sha256::of(&document)))), &document)?;
                }
                // Else a power cut leaves an index that names what is not there.
                lasting(&folder.join(BLOBS))?;
                lock = self.lock()?;
                save(&folder.join("index.json"), &index)?;
                lasting(folder)?;
            }
            Place::Tar { path, .. } => {
                // The file, and not the link that leads to it.
                let path = fs::canonicalize(path).map_err(|error| LayoutError::Write(path.clone(), error))?;
                let staging = Staging::to_replace(&path)?;
                let archive = self.archive(&staging.folder(), (index.clone(), made), kept, stop)?;
                lock = self.lock()?;
                // Whoever comes after finds the new file, and waits there.
                let file = archive.as_file().try_clone().and_then(|file| staging::lock(&file).map(|()| file));
                lock.0.push(file.map_err(|error| LayoutError::Write(path.clone(), error))?);
                staging.replace(archive.path())?;
                self.place = Place::open(&path)?;
            }
        }
        (self.manifests, self.index) = (manifests, index);
        Ok(lock)
    }

    /// Keeps other commands from writing it, until what is returned goes.
    ///
    /// Attack: none is needed. Two jobs at once, and the keys that the one wrapped are gone without a word once the other
    /// has written or signed.
    ///
    /// # Errors
    /// When another command wrote it since it was read, or is at it for long.
    pub fn lock(&self) -> Result<Lock, LayoutError> {
        let (path, locked) = match &self.place {
            Place::Folder(folder) => (folder, folder.join("oci-layout")),
            Place::Tar { path, .. } => (path, path.clone()),
        };
        // Over NFS only a file that may be written can be locked.
        let file = fs::File::options().read(true).write(true).open(&locked);
        let file = file.or_else(|_| fs::File::open(&locked));
        let file = file.and_then(|file| staging::lock(&file).map(|()| file));
        let file = file.map_err(|error| LayoutError::Write(locked, error))?;
        // Of a tar file another one may have taken the place before this one was locked: then its index is another.
        match Place::open(path)?.document("index.json")? == self.index {
            true => Ok(Lock(vec![file])),
            false => Err(LayoutError::Changed),
        }
    }

    /// Writes the whole layout as one tar file.
    ///
    /// # Errors
    /// When something is at `to`, when it cannot be read or written or is not what its digests say, and at `stop`.
    pub fn to_tar(&self, to: &Path, stop: &AtomicBool) -> Result<(), LayoutError> {
        if matches!(self.place, Place::Tar { .. }) {
            return Err(LayoutError::Form("it is a tar file already".to_owned()));
        }
        if to.symlink_metadata().is_ok() {
            return Err(LayoutError::Exists(to.to_owned()));
        }
        let index = self.manifests.to_index(&self.descriptor.bundle_id);
        let archive = self.archive(parent(to), (index, Vec::new()), &self.blobs()?, stop)?;
        archive.persist_noclobber(to).map_err(|error| LayoutError::Write(to.to_owned(), error.error))?;
        Ok(())
    }

    /// Writes a tar file of an index, documents and the blobs that are `kept`, each held against its digest, in `folder`.
    ///
    /// Attack: a content that was changed, in a delivery that was just wrapped anew and so is taken for one that was seen.
    fn archive(
        &self,
        folder: &Path,
        (index, made): (Vec<u8>, Vec<Vec<u8>>),
        kept: &[Blob],
        stop: &AtomicBool,
    ) -> Result<tempfile::NamedTempFile, LayoutError> {
        let failed = |error| LayoutError::Write(folder.to_owned(), error);
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder).map_err(failed)?;
        let mut archive = tar::Builder::new(io::BufWriter::new(file.as_file_mut()));
        let named = made.into_iter().map(|document| (blob_path(&Digest(Sha256::of(&document))), document));
        let first = [("oci-layout".to_owned(), LAYOUT.to_vec()), ("index.json".to_owned(), index)];
        let mut names = BTreeSet::new();
        for (name, document) in first.into_iter().chain(named) {
            let mut header = header(document.len() as u64);
            archive.append_data(&mut header, &name, document.as_slice()).map_err(failed)?;
            names.insert(name);
        }
        // The empty configuration is every manifest's.
        for blob in kept.iter().filter(|blob| names.insert(blob.path())) {
            let mut source =
                Digesting { inner: self.unverified_blob(blob)?, digest: sha2::Sha256::new(), stop };
            archive.append_data(&mut header(blob.size), blob.path(), &mut source).map_err(failed)?;
            blob.matches(Digest(Sha256::from_bytes(source.digest.finalize().into())), blob.size)?;
        }
        archive.into_inner().and_then(|mut out| out.flush()).map_err(failed)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            // A temporary file is its owner's alone; this one is as public as its neighbours.
            file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed)?;
        }
        file.as_file().sync_all().map_err(failed)?;
        Ok(file)
    }
}

/// A reader that digests what it gives, and ends with an error once it is to stop.
struct Digesting<'a, R> {
    inner: R,
    digest: sha2::Sha256,
    stop: &'a AtomicBool,
}

impl<R: Read> Read for Digesting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Not `Interrupted`, after which readers go on.
        if self.stop.load(Ordering::SeqCst) {
            return Err(io::Error::other("stopped"));
        }
        let read = self.inner.read(buffer)?;
        self.digest.update(&buffer[..read]);
        Ok(read)
    }
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(size);
    header
}

impl Place {
    fn open(path: &Path) -> Result<Self, LayoutError> {
        let shown = path.display().to_string();
        let found = fs::metadata(path).map_err(|error| LayoutError::Read(shown.clone(), error))?;
        if found.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        let file = fs::File::open(path).map_err(|error| LayoutError::Read(shown.clone(), error))?;
        let file = Arc::new(file);
        let mut archive = tar::Archive::new(&*file);
        // Attack: none is needed. A file with a secret in it is named by mistake, and the library's words repeat its start.
        let unreadable = |error: io::Error| {
            LayoutError::Form(match error.kind() {
                io::ErrorKind::Other | io::ErrorKind::InvalidData => "it is no tar file".to_owned(),
                kind => format!("it is no whole tar file: {kind}"),
            })
        };
        let (mut files, mut entries) = (BTreeMap::new(), 0);
        // Raw: headers that would change the ones behind them count as files, and are refused.
        for entry in archive.entries_with_seek().map_err(unreadable)?.raw(true) {
            let entry = entry.map_err(unreadable)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
            entries += 1;
            if entries > MAX_TAR_ENTRIES {
                let why = format!("there are more than {MAX_TAR_ENTRIES} entries in it");
                return Err(LayoutError::Form(why));
            }
            if entry.header().entry_type().is_dir() {
                continue;
            }
            if !entry.header().entry_type().is_file() || !belongs(&name) {
                return Err(LayoutError::Form(format!("`{}` is no part of one", name.escape_debug())));
            }
            let place = (entry.raw_file_position(), entry.header().size().map_err(unreadable)?);
            if files.insert(name.clone(), place).is_some() {
                return Err(LayoutError::Form(format!("`{name}` is in it twice")));
            }
        }
        Ok(Self::Tar { path: path.to_owned(), archive: file, files })
    }

    /// Returns a file at its start, and its size.
    fn file(&self, name: &str) -> Result<(Piece, u64), LayoutError> {
        let failed = |error| LayoutError::Read(name.to_owned(), error);
        match self {
            Self::Folder(folder) => {
                let place = folder.join(name);
                // Attack: a link to a file elsewhere, or to a device that never ends.
                let found = fs::symlink_metadata(&place).map_err(failed)?;
                if !found.is_file() {
                    return Err(LayoutError::Form(format!("`{name}` is no file")));
                }
                let file = Arc::new(fs::File::open(&place).map_err(failed)?);
                Ok((Piece { file, at: 0 }, found.len()))
            }
            Self::Tar { archive, files, .. } => {
                let missing = || io::Error::from(io::ErrorKind::NotFound);
                let (at, size) = files.get(name).copied().ok_or_else(|| failed(missing()))?;
                Ok((Piece { file: Arc::clone(archive), at }, size))
            }
        }
    }

    /// Reads a small file whole.
    fn document(&self, name: &str) -> Result<Vec<u8>, LayoutError> {
        let (file, size) = self.file(name)?;
        if size > MAX_DOCUMENT_BYTES {
            let why = format!("`{name}` has {size} bytes, more than {MAX_DOCUMENT_BYTES}");
            return Err(LayoutError::Form(why));
        }
        let mut bytes = Vec::new();
        file.take(size).read_to_end(&mut bytes).map_err(|error| LayoutError::Read(name.to_owned(), error))?;
        Ok(bytes)
    }

    /// Reads a small blob, and holds it against its digest.
    fn blob(&self, blob: &Blob) -> Result<Vec<u8>, LayoutError> {
        let bytes = self.document(&blob.path())?;
        blob.check(&bytes)?;
        Ok(bytes)
    }
}

/// A file from some place on, read without moving where others read in it.
struct Piece {
    file: Arc<fs::File>,
    at: u64,
}

impl Read for Piece {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(unix)]
        let read = std::os::unix::fs::FileExt::read_at(&*self.file, buffer, self.at)?;
        #[cfg(windows)]
        let read = std::os::windows::fs::FileExt::seek_read(&*self.file, buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// The most entries of a delivery in a tar file: two documents, two manifests, what they name, and folders.
const MAX_TAR_ENTRIES: usize = 64;

fn belongs(name: &str) -> bool {
    let digest = || name.strip_prefix("blobs/sha256/").is_some_and(|hex| hex.parse::<Sha256>().is_ok());
    name == "oci-layout" || name == "index.json" || digest()
}

/// Returns the one manifest of a kind that an index names.
fn single(index: &Index, artifact_type: &str) -> Result<Blob, LayoutError> {
    let mut found =
        index.manifests.iter().filter(|blob| blob.artifact_type.as_deref() == Some(artifact_type));
    match (found.next(), found.next()) {
        // Its names are those of the index, and none of the manifest's.
        (Some(blob), None) => Ok(Blob { annotations: BTreeMap::new(), ..blob.clone() }),
        (None, _) => Err(LayoutError::Form(format!("its index names no `{artifact_type}`"))),
        _ => Err(LayoutError::Form(format!("its index names more than one `{artifact_type}`"))),
    }
}

fn expect_type(blob: &Blob, expected: &str) -> Result<(), LayoutError> {
    if blob.media_type == expected {
        Ok(())
    } else {
        let why = format!("{} is not of the type `{expected}`", blob.digest);
        Err(LayoutError::Form(why))
    }
}

fn json(bytes: &[u8], name: &str) -> Result<serde_json::Value, LayoutError> {
    typed(bytes, name)
}

fn typed<T: serde::de::DeserializeOwned>(bytes: &[u8], name: &str) -> Result<T, LayoutError> {
    serde_json::from_slice(bytes)
        .map_err(|error| LayoutError::Form(format!("`{name}` cannot be read: {error}")))
}
