//! The documents of a customer delivery: what is sealed, under which keys, and the manifest that tells FractalOps.
//!
//! None of them holds a key. The descriptor exists before anything is sealed, and sealed bytes and wrapped keys are
//! bound to it; keys stand in a document of their own, so that wrapping them anew never touches the content.

use std::{collections::BTreeMap, str::FromStr};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    build::Protection,
    digest::Sha256,
    escrow::{POLICY, SUITE, WrappedBy, is_wrapped},
    integrity::canonical,
    key_ref::{KeyProvider, KeyRef, looks_like_key_material},
    name::{BundleId, CustomerSlug, PackageName, ProjectSlug, TenantId},
    text::{shown, text},
    version::PackageVersion,
};

/// The artifact type of a delivery as an OCI image manifest.
pub const ARTIFACT_TYPE: &str = "application/vnd.fractalops.delivery.bundle.v1";

/// The media type of a [`Descriptor`].
pub const DESCRIPTOR: &str = "application/vnd.fractalops.delivery.descriptor.v1+json";

/// The media type of the sealed content.
pub const CONTENT: &str = "application/vnd.fractalops.delivery.content.v1.tar+zstd+cobblestone256";

/// The media type of a [`Keys`] document, and the artifact type of its manifest.
pub const KEYS: &str = "application/vnd.fractalops.delivery.keys.v1+json";

/// The media type of a [`DeliveryManifest`].
pub const MANIFEST: &str = "application/vnd.fractalops.delivery.manifest.v1+json";

/// The predicate type of the signed statement over a bundle.
pub const DELIVERY_STATEMENT: &str = "https://protected-registry.dev/statements/delivery/v1";

/// The predicate type of the signed statement over its keys.
pub const KEYS_STATEMENT: &str = "https://protected-registry.dev/statements/delivery-keys/v1";

/// The most files of a delivery.
pub const MAX_FILES: usize = 10_000;

/// The most characters of a wrapped key. The longest that a service makes is some thousands: an RSA key of 16 384 bits
/// wraps in 2 732 digits of base64, and AWS allows 6 144 bytes.
pub const MAX_WRAPPED: usize = 16_384;

/// How many bytes a record of tar has.
pub const RECORD: u64 = 512;

/// The most wrapped keys of a delivery.
pub const MAX_KEYS: usize = 1_000;

/// What is sealed. Canonical JSON (RFC 8785) of it is the first layer of a delivery.
///
/// It holds no key, no reference to one, and no digest of what is sealed: it is there before that, and stays when keys
/// are wrapped anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    /// [`DESCRIPTOR`].
    pub schema: String,
    /// [`SUITE`].
    pub suite: String,
    /// The delivery.
    pub bundle_id: BundleId,
    /// Whose project it is.
    pub tenant_id: TenantId,
    /// The project.
    pub project_slug: ProjectSlug,
    /// Who gets it.
    pub customer_slug: CustomerSlug,
    /// The package.
    pub package_name: PackageName,
    /// Its version.
    pub version: PackageVersion,
    /// When it was made.
    pub created_at: Timestamp,
    /// [`CONTENT`].
    pub media_type: String,
    /// How many bytes the archive has before it is compressed. Whoever opens it stops there.
    pub archive_bytes: u64,
    /// The files in it, in the order of the archive.
    pub contents: Vec<Content>,
}

/// A file of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// Where it is extracted to.
    pub path: ContentPath,
    /// Digest of its bytes.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub size: u64,
}

/// The path of a file in a delivery: relative, with `/`, and the same file on every system.
///
/// Attack: an archive that writes outside its folder, or over another of its own files where case does not count, or
/// to a device of Windows. Each part is made of printable characters of ASCII that no system gives a meaning; the last
/// has at most 100 of them and the folder before it at most 155, as the header of a tar archive has room.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentPath(String);

/// Why a text is not a [`ContentPath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a file of a delivery cannot have this path: {0}")]
pub struct ContentPathError(&'static str);

/// The wrapped keys of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// [`KEYS`].
    pub schema: String,
    /// Digest of the [`Descriptor`] that each wrapping is bound to.
    pub descriptor_sha256: Sha256,
    /// The data key, once for each key that opens it.
    pub keys: Vec<WrappedDataKey>,
}

/// The data key of a delivery as a key service wrapped it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WrappedDataKey {
    /// The key that wraps.
    pub key_ref: KeyRef,
    /// The service.
    pub provider: KeyProvider,
    /// What the service says of the version of the key, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_version: Option<String>,
    /// The wrapped key, in the service's own writing or base64.
    pub wrapped_key: String,
    /// Digest of `wrapped_key` as it is written.
    pub wrapped_key_sha256: Sha256,
}

/// The manifest of a delivery, as it is submitted to FractalOps. It lies beside the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryManifest {
    /// [`MANIFEST`].
    pub schema: String,
    /// The delivery.
    pub bundle_id: BundleId,
    /// Whose project it is.
    pub tenant_id: TenantId,
    /// The project.
    pub project_slug: ProjectSlug,
    /// Who gets it.
    pub customer_slug: CustomerSlug,
    /// The package.
    pub package_name: PackageName,
    /// Its version.
    pub version: PackageVersion,
    /// The build that made the artifact, where one is on record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// What was done to it.
    pub protection: Protection,
    /// The content before it was sealed.
    pub integrity: ContentIntegrity,
    /// The delivery as an OCI artifact.
    pub bundle: SealedBundle,
    /// The key that the data key is wrapped with.
    pub key_ref: KeyRef,
    /// What the key service made of it.
    pub key_provider: WrappedBy,
    /// The files.
    pub contents: Vec<Content>,
    /// Documents about the delivery, by digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<EvidenceDigest>,
    /// When it was made.
    pub created_at: Timestamp,
    /// What a later version says besides.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// The content of a delivery before it was sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContentIntegrity {
    /// Digest of `contents` as canonical JSON (RFC 8785).
    pub sha256: Sha256,
    /// How many bytes the archive has before it is compressed.
    pub size: u64,
}

/// A delivery as an OCI artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SealedBundle {
    /// [`ARTIFACT_TYPE`].
    pub media_type: String,
    /// Digest of the OCI image manifest, and so of descriptor and sealed content.
    pub sha256: Sha256,
    /// Size of the sealed content in bytes.
    pub size: u64,
    /// Where it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}

/// A document about a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EvidenceDigest {
    /// What it is: `sbom`, `provenance`, `sigstore-bundle`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// Its digest.
    pub sha256: Sha256,
    /// Its media type.
    pub media_type: String,
}

/// Why a document of a delivery is not used. Repeats no value that could be a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// It is not this kind of document.
    #[error("`{field}` is not `{expected}`")]
    Kind {
        /// Where.
        field: &'static str,
        /// What this version reads.
        expected: &'static str,
    },
    /// Two parts of it say different things.
    #[error("`{0}` contradicts the rest of the document")]
    Contradiction(&'static str),
    /// There are too many of something, or none.
    #[error("`{field}` has {found} entries, where 1 to {most} may be")]
    Count {
        /// Where.
        field: &'static str,
        /// How many there are.
        found: usize,
        /// How many may be.
        most: usize,
    },
    /// Two files are one where case does not count, or one is the folder of the other.
    #[error("the files `{0}` and `{1}` cannot both be")]
    Collision(ContentPath, ContentPath),
    /// A value looks like a key.
    #[error("`{0}` looks like a key, which never stands in a document of a delivery")]
    KeyMaterial(String),
    /// A wrapped key is in no writing of a key service.
    #[error("`{0}` is no wrapped key: at most {MAX_WRAPPED} letters, digits and `+/=_.:-`")]
    Wrapped(&'static str),
    /// It is not written as it has to be.
    #[error("it is not canonical JSON (RFC 8785) of what it says")]
    NotCanonical,
    /// It is no such document at all.
    #[error("it cannot be read: {0}")]
    Json(String),
}

/// Returns how many bytes an archive of these files has before it is compressed, if that is a number of 64 bits: for
/// each a record and its bytes in whole records, and two records at the end.
pub fn archive_bytes(contents: &[Content]) -> Option<u64> {
    contents.iter().try_fold(2 * RECORD, |total, content| {
        total.checked_add(RECORD)?.checked_add(content.size.checked_next_multiple_of(RECORD)?)
    })
}

impl Descriptor {
    /// Reads the descriptor of a delivery: canonical JSON and nothing else.
    ///
    /// # Errors
    /// When it is another document, or is written in any other way.
    pub fn parse(bytes: &[u8]) -> Result<Self, DeliveryError> {
        let descriptor: Self = parse(bytes)?;
        // Attack: two writings of one descriptor, of which one reader sees this and the other that (a key twice).
        if canonical(&descriptor) != bytes {
            return Err(DeliveryError::NotCanonical);
        }
        descriptor.check()?;
        Ok(descriptor)
    }

    /// Holds the parts against each other.
    ///
    /// # Errors
    /// When it is of another kind, or its files cannot stand beside each other.
    pub fn check(&self) -> Result<(), DeliveryError> {
        kinds(&[
            ("schema", &self.schema, DESCRIPTOR),
            ("suite", &self.suite, SUITE),
            ("media_type", &self.media_type, CONTENT),
        ])?;
        count("contents", self.contents.len(), MAX_FILES)?;
        // Attack: a small number for whoever asks whether there is room, and files that fill the disk.
        if archive_bytes(&self.contents) != Some(self.archive_bytes) {
            return Err(DeliveryError::Contradiction("archive_bytes"));
        }
        distinct(&self.contents)?;
        no_key_material(&json(self)?)
    }

    /// Returns its digest as it is written.
    pub fn sha256(&self) -> Sha256 {
        Sha256::of(canonical(self))
    }

    /// Returns what the sealed bytes are bound to.
    pub fn binding(&self) -> Vec<u8> {
        let mut binding = b"fractalops.com/delivery/v1\0".to_vec();
        binding.extend_from_slice(self.sha256().as_bytes());
        binding
    }

    /// Returns what the wrapping of the data key is bound to, in words that a key service's policy can name.
    pub fn key_context(&self) -> BTreeMap<String, String> {
        [
            ("bundle_id", self.bundle_id.to_string()),
            ("customer_slug", self.customer_slug.to_string()),
            ("descriptor_sha256", self.sha256().to_string()),
            ("package_name", self.package_name.to_string()),
            ("project_slug", self.project_slug.to_string()),
            ("tenant_id", self.tenant_id.to_string()),
            ("version", self.version.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

impl Keys {
    /// Reads the keys of the delivery with this descriptor.
    ///
    /// # Errors
    /// When it is another document, is of another delivery, or holds a key in clear.
    pub fn parse(bytes: &[u8], descriptor: &Descriptor) -> Result<Self, DeliveryError> {
        let keys: Self = parse(bytes)?;
        if canonical(&keys) != bytes {
            return Err(DeliveryError::NotCanonical);
        }
        keys.check(descriptor)?;
        Ok(keys)
    }

    /// Holds the parts against each other and against the descriptor.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn check(&self, descriptor: &Descriptor) -> Result<(), DeliveryError> {
        kinds(&[("schema", &self.schema, KEYS)])?;
        if self.descriptor_sha256 != descriptor.sha256() {
            return Err(DeliveryError::Contradiction("descriptor_sha256"));
        }
        count("keys", self.keys.len(), MAX_KEYS)?;
        for key in &self.keys {
            wrapped("keys", &key.key_ref, key.provider, &key.wrapped_key, &key.wrapped_key_sha256)?;
            // As in a reference, names stand in it apart.
            let version = key.key_version.as_deref().unwrap_or_default();
            if version.len() > MAX_WRAPPED || version.split(['/', ':']).any(looks_like_key_material) {
                return Err(DeliveryError::KeyMaterial("keys.key_version".to_owned()));
            }
        }
        let mut references: Vec<&KeyRef> = self.keys.iter().map(|key| &key.key_ref).collect();
        references.sort();
        references.dedup();
        if references.len() != self.keys.len() {
            return Err(DeliveryError::Contradiction("keys"));
        }
        Ok(())
    }
}

impl DeliveryManifest {
    /// Holds the parts against each other.
    ///
    /// # Errors
    /// When it is of another kind, contradicts itself, or anything in it looks like a key.
    pub fn check(&self) -> Result<(), DeliveryError> {
        kinds(&[
            ("schema", &self.schema, MANIFEST),
            ("bundle.media_type", &self.bundle.media_type, ARTIFACT_TYPE),
            ("key_provider.policy", &self.key_provider.policy, POLICY),
        ])?;
        if !self.protection.encrypted {
            return Err(DeliveryError::Contradiction("protection.encrypted"));
        }
        count("contents", self.contents.len(), MAX_FILES)?;
        distinct(&self.contents)?;
        if self.integrity.sha256 != Sha256::of(canonical(&self.contents)) {
            return Err(DeliveryError::Contradiction("integrity.sha256"));
        }
        if archive_bytes(&self.contents) != Some(self.integrity.size) {
            return Err(DeliveryError::Contradiction("integrity.size"));
        }
        let provider = &self.key_provider;
        wrapped(
            "key_provider.wrapped_key",
            &self.key_ref,
            provider.provider,
            &provider.wrapped_key,
            &provider.wrapped_key_sha256,
        )?;
        let own = [
            ("bundle_id", self.bundle_id.as_str()),
            ("customer_slug", self.customer_slug.as_str()),
            ("package_name", self.package_name.as_str()),
            ("project_slug", self.project_slug.as_str()),
            ("tenant_id", self.tenant_id.as_str()),
        ];
        let context = &provider.context;
        let version = self.version.to_string();
        let agrees = own
            .into_iter()
            .chain([("version", version.as_str())])
            .all(|(name, value)| context.get(name).is_some_and(|found| found == value));
        if !agrees {
            return Err(DeliveryError::Contradiction("key_provider.context"));
        }
        no_key_material(&json(self)?)
    }
}

/// Refuses a document in which any text, but a wrapped key, looks like a key, or stands under the name of one.
///
/// # Errors
/// [`DeliveryError::KeyMaterial`] with the place, never the value.
pub fn no_key_material(document: &Value) -> Result<(), DeliveryError> {
    walk(document, &mut String::new())
}

/// Names of members that hold a key wherever they stand.
const KEY_NAMES: &[&str] = &[
    "key",
    "dek",
    "data_key",
    "plaintext_key",
    "secret",
    "private_key",
    "password",
    "passphrase",
    "token",
    "k",
    "d",
    "raw_key",
    "encryption_key",
    "decryption_key",
];

fn walk(value: &Value, at: &mut String) -> Result<(), DeliveryError> {
    let found = |at: &str| Err(DeliveryError::KeyMaterial(at.to_owned()));
    match value {
        Value::String(text) => {
            // A digest is as long as a key: the members that hold one are known by their names.
            let member = at.rsplit('.').next().unwrap_or(at);
            let key = match member {
                "wrapped_key" => false,
                // A path is as long as a key as well, and `/` is a digit of base64. Files have names of any kind.
                "path" if text.contains('/') && text.parse::<ContentPath>().is_ok() => false,
                "uri" if text.contains('/') => text.split('/').any(looks_like_key_material),
                _ if member.ends_with("sha256") && text.parse::<Sha256>().is_ok() => false,
                _ => looks_like_key_material(text),
            };
            if key { found(at) } else { Ok(()) }
        }
        Value::Array(values) => values
            .iter()
            .enumerate()
            .try_for_each(|(index, value)| within(at, &format!("[{index}]"), |at| walk(value, at))),
        Value::Object(members) => members.iter().try_for_each(|(name, value)| {
            // The name may be the key that somebody pasted: a strange one is not repeated.
            let shown = if looks_like_key_material(name) || name.len() > 64 { "..." } else { name };
            let dot = if at.is_empty() { "" } else { "." };
            within(at, &format!("{dot}{shown}"), |at| {
                let secret = KEY_NAMES.contains(&name.to_ascii_lowercase().as_str());
                if looks_like_key_material(name) || secret && !value.is_null() && !value.is_object() {
                    return found(at);
                }
                walk(value, at)
            })
        }),
        _ => Ok(()),
    }
}

/// Runs `run` one level further down.
fn within<T>(at: &mut String, step: &str, run: impl FnOnce(&mut String) -> T) -> T {
    let length = at.len();
    at.push_str(step);
    let result = run(at);
    at.truncate(length);
    result
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DeliveryError> {
    // Line and column say enough; the message could repeat a value.
    serde_json::from_slice(bytes)
        .map_err(|error| DeliveryError::Json(format!("line {}, column {}", error.line(), error.column())))
}

fn json(document: &impl Serialize) -> Result<Value, DeliveryError> {
    serde_json::to_value(document).map_err(|error| DeliveryError::Json(error.to_string()))
}

fn kinds(found: &[(&'static str, &String, &'static str)]) -> Result<(), DeliveryError> {
    match found.iter().find(|(_, found, expected)| found != expected) {
        Some((field, _, expected)) => Err(DeliveryError::Kind { field, expected }),
        None => Ok(()),
    }
}

fn count(field: &'static str, found: usize, most: usize) -> Result<(), DeliveryError> {
    if (1..=most).contains(&found) { Ok(()) } else { Err(DeliveryError::Count { field, found, most }) }
}

/// Refuses files that are one where case does not count, and a file that is another's folder.
fn distinct(contents: &[Content]) -> Result<(), DeliveryError> {
    let mut seen: BTreeMap<String, &ContentPath> = BTreeMap::new();
    for content in contents {
        if let Some(other) = seen.insert(content.path.folded(), &content.path) {
            return Err(DeliveryError::Collision(other.clone(), content.path.clone()));
        }
    }
    for (folded, path) in &seen {
        for (at, _) in folded.match_indices('/') {
            if let Some(other) = seen.get(&folded[..at]) {
                return Err(DeliveryError::Collision((*other).clone(), (*path).clone()));
            }
        }
    }
    Ok(())
}

fn wrapped(
    field: &'static str,
    key: &KeyRef,
    provider: KeyProvider,
    wrapped_key: &str,
    sha256: &Sha256,
) -> Result<(), DeliveryError> {
    if provider != key.provider() || *sha256 != Sha256::of(wrapped_key) {
        return Err(DeliveryError::Contradiction(field));
    }
    if !is_wrapped(wrapped_key) {
        return Err(DeliveryError::KeyMaterial(field.to_owned()));
    }
    let written = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=_.:-".contains(&byte);
    if wrapped_key.len() > MAX_WRAPPED || !wrapped_key.bytes().all(written) {
        return Err(DeliveryError::Wrapped(field));
    }
    Ok(())
}

impl ContentPath {
    /// Returns the path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether it is a document about what is delivered, and not delivered for itself.
    pub fn is_evidence(&self) -> bool {
        self.0.starts_with("evidence/")
    }

    /// Returns the path in lower case: two files with the same are one on some systems.
    fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

/// Names that are devices on Windows, with whatever stands behind a dot.
const DEVICES: &[&str] = &["con", "prn", "aux", "nul", "conin$", "conout$"];

impl FromStr for ContentPath {
    type Err = ContentPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| Err(ContentPathError(reason));
        let (folder, file) = text.rsplit_once('/').unwrap_or(("", text));
        if file.len() > 100 || folder.len() > 155 {
            return refuse("its name has more than 100 characters, or its folder more than 155");
        }
        for part in text.split('/') {
            if part.is_empty() || part == "." || part == ".." {
                return refuse("each part between `/` must be a name");
            }
            if !part.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
                return refuse("only printable characters of ASCII may stand in it");
            }
            if part.contains(['\\', ':', '*', '?', '"', '<', '>', '|']) {
                return refuse("one of \\ : * ? \" < > | stands in it");
            }
            if part.starts_with(' ') || part.ends_with([' ', '.']) {
                return refuse("a part of it starts with a blank, or ends with a blank or a dot");
            }
            let stem = part.split('.').next().unwrap_or(part).trim_end().to_ascii_lowercase();
            let port = ["com", "lpt"].iter().any(|port| {
                stem.strip_prefix(port)
                    .is_some_and(|number| number.len() == 1 && number != "0" && number.parse::<u8>().is_ok())
            });
            if port || DEVICES.contains(&stem.as_str()) {
                return refuse("a part of it is a device of Windows");
            }
        }
        Ok(Self(text.to_owned()))
    }
}

shown!(ContentPath);
text!(ContentPath, ContentPathError, "description": "Where a file is extracted to: relative, with `/`.");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::SourceMaps;

    fn content(path: &str, text: &str) -> Content {
        Content { path: path.parse().expect(path), sha256: Sha256::of(text), size: text.len() as u64 }
    }

    fn descriptor() -> Descriptor {
        Descriptor {
            schema: DESCRIPTOR.to_owned(),
            suite: SUITE.to_owned(),
            bundle_id: "01JDELIVERY".parse().expect("id"),
            tenant_id: "acme".parse().expect("id"),
            project_slug: "core".parse().expect("slug"),
            customer_slug: "globex".parse().expect("slug"),
            package_name: "@acme/core".parse().expect("name"),
            version: "1.2.3".parse().expect("version"),
            created_at: "2026-01-02T03:04:05Z".parse().expect("time"),
            media_type: CONTENT.to_owned(),
            archive_bytes: 3072,
            contents: vec![content("core-1.2.3.tgz", "tarball"), content("evidence/sbom.cdx.json", "{}")],
        }
    }

    fn wrapped_key(letter: &str) -> String {
        letter.repeat(80)
    }

    fn keys(descriptor: &Descriptor) -> Keys {
        let wrapped_key = wrapped_key("w");
        Keys {
            schema: KEYS.to_owned(),
            descriptor_sha256: descriptor.sha256(),
            keys: vec![WrappedDataKey {
                key_ref: "openbao://transit/globex".parse().expect("reference"),
                provider: KeyProvider::OpenBao,
                key_version: Some("1".to_owned()),
                wrapped_key_sha256: Sha256::of(&wrapped_key),
                wrapped_key,
            }],
        }
    }

    fn manifest() -> DeliveryManifest {
        let descriptor = descriptor();
        let wrapped_key = wrapped_key("w");
        DeliveryManifest {
            schema: MANIFEST.to_owned(),
            bundle_id: descriptor.bundle_id.clone(),
            tenant_id: descriptor.tenant_id.clone(),
            project_slug: descriptor.project_slug.clone(),
            customer_slug: descriptor.customer_slug.clone(),
            package_name: descriptor.package_name.clone(),
            version: descriptor.version.clone(),
            build_id: None,
            protection: Protection { obfuscated: true, encrypted: true, source_maps: SourceMaps::Withheld },
            integrity: ContentIntegrity {
                sha256: Sha256::of(canonical(&descriptor.contents)),
                size: descriptor.archive_bytes,
            },
            bundle: SealedBundle {
                media_type: ARTIFACT_TYPE.to_owned(),
                sha256: Sha256::of("manifest"),
                size: 4000,
                uri: Some("deliveries/globex/01JDELIVERY".to_owned()),
            },
            key_ref: "openbao://transit/globex".parse().expect("reference"),
            key_provider: WrappedBy {
                provider: KeyProvider::OpenBao,
                policy: POLICY.to_owned(),
                wrapped_key_sha256: Sha256::of(&wrapped_key),
                wrapped_key,
                context: descriptor.key_context(),
            },
            contents: descriptor.contents,
            evidence: Vec::new(),
            created_at: descriptor.created_at,
            other: BTreeMap::new(),
        }
    }

    #[test]
    fn the_descriptor_is_pinned() {
        let descriptor = descriptor();
        let json = String::from_utf8(canonical(&descriptor)).expect("utf-8");
        let expected = format!(
            r#"{{"archive_bytes":3072,"bundle_id":"01JDELIVERY","contents":[{{"path":"core-1.2.3.tgz","sha256":"{}","size":7}},{{"path":"evidence/sbom.cdx.json","sha256":"{}","size":2}}],"created_at":"2026-01-02T03:04:05Z","customer_slug":"globex","media_type":"application/vnd.fractalops.delivery.content.v1.tar+zstd+cobblestone256","package_name":"@acme/core","project_slug":"core","schema":"application/vnd.fractalops.delivery.descriptor.v1+json","suite":"cobblestone-256","tenant_id":"acme","version":"1.2.3"}}"#,
            Sha256::of("tarball"),
            Sha256::of("{}"),
        );
        assert_eq!(json, expected);
        assert_eq!(Descriptor::parse(json.as_bytes()).expect("descriptor"), descriptor);
        let binding = descriptor.binding();
        assert_eq!(binding[..27], *b"fractalops.com/delivery/v1\0");
        assert_eq!(hex::encode(&binding[27..]), Sha256::of(&json).to_string());
    }

    #[test]
    fn a_descriptor_in_any_other_writing_is_refused() {
        let json = String::from_utf8(canonical(&descriptor())).expect("utf-8");
        let twice = json.replacen(r#""suite":"#, r#""suite":"none","suite":"#, 1);
        for bad in [
            format!(" {json}"),
            format!("{json}\n"),
            format!("\u{feff}{json}"),
            format!("{json}{json}"),
            json.replacen("3072", "3072.0", 1),
            json.replacen("3072", "1e400", 1),
            json.replacen("3072", "-1", 1),
            json.replacen("03:04:05Z", "03:04:05.000Z", 1),
            json.replacen(r#"{"archive_bytes""#, r#"{"extra":1,"archive_bytes""#, 1),
            json.replacen("cobblestone-256", "cobblestone-128", 1),
            json.replacen("descriptor.v1", "descriptor.v2", 1),
            json.replacen("core-1.2.3.tgz", "../core-1.2.3.tgz", 1),
            json.replacen("core-1.2.3.tgz", "c\\u006fre-1.2.3.tgz", 1),
            json.replacen("evidence/sbom.cdx.json", "CORE-1.2.3.TGZ", 1),
            json.replacen("evidence/sbom.cdx.json", "core-1.2.3.tgz/x", 1),
            // One name in two normal forms of Unicode, and one that looks like it.
            json.replacen("core-1.2.3.tgz", "caf\u{e9}", 1),
            json.replacen("core-1.2.3.tgz", "cafe\u{301}", 1),
            json.replacen("globex", "gl\u{43e}bex", 1),
            json.replacen(r#"{"archive_bytes":3072,"#, "{", 1).replacen('}', r#","archive_bytes":3072}"#, 1),
            json.replacen(r#""path":"core-1.2.3.tgz","#, "", 1).replacen(
                r#""size":7"#,
                r#""size":7,"path":"core-1.2.3.tgz""#,
                1,
            ),
            json.replacen("3072", "3584", 1),
            json.replacen("3072", "0", 1),
            json.replacen(r#""size":7"#, r#""size":513"#, 1),
            json.replacen(r#""size":7"#, r#""size":18446744073709551615"#, 1),
            json.replacen("cobblestone-256", "none", 1),
            json.replacen("zstd+cobblestone256", "zstd", 1),
            json.replacen("01JDELIVERY", "AKIAIOSFODNN7EXAMPLE", 1),
            json.replacen("3072", &"[".repeat(100_000), 1),
            json.replacen('{', &format!(r#"{{"a":{}1{},"#, "[".repeat(500), "]".repeat(500)), 1),
            twice,
            "[".repeat(100_000),
            String::new(),
        ] {
            assert!(Descriptor::parse(bad.as_bytes()).is_err(), "{bad:.200}");
        }
        let other =
            canonical(&Descriptor { customer_slug: "initech".parse().expect("slug"), ..descriptor() });
        Descriptor::parse(&other)
            .expect("what the writings above were made from can be read when it is right");
        let mut many = descriptor();
        many.contents = (0..=MAX_FILES).map(|index| content(&format!("{index}"), "")).collect();
        assert!(matches!(
            Descriptor::parse(&canonical(&many)),
            Err(DeliveryError::Count { found: 10_001, most: MAX_FILES, .. })
        ));
        let mut empty = descriptor();
        empty.contents.clear();
        assert!(matches!(Descriptor::parse(&canonical(&empty)), Err(DeliveryError::Count { found: 0, .. })));
    }

    #[test]
    fn keys_belong_to_their_descriptor() {
        let descriptor = descriptor();
        let good = keys(&descriptor);
        assert_eq!(Keys::parse(&canonical(&good), &descriptor).expect("keys"), good);
        let other = Descriptor { customer_slug: "initech".parse().expect("slug"), ..descriptor.clone() };
        assert_eq!(
            Keys::parse(&canonical(&good), &other),
            Err(DeliveryError::Contradiction("descriptor_sha256"))
        );
        let json = String::from_utf8(canonical(&good)).expect("utf-8");
        for bad in [
            format!("{json}\n"),
            format!("\u{feff}{json}"),
            json.replacen("openbao:", "openb\\u0061o:", 1),
            json.replacen(r#"{"descriptor_sha256""#, r#"{"schema":"x","descriptor_sha256""#, 1),
            json.replacen(r#""key_version":"1""#, r#""key_version":null"#, 1),
        ] {
            assert!(Keys::parse(bad.as_bytes(), &descriptor).is_err(), "{bad}");
        }
        let refused = |change: fn(&mut Keys)| {
            let mut bad = good.clone();
            change(&mut bad);
            Keys::parse(&canonical(&bad), &descriptor).expect_err("it was accepted")
        };
        assert!(matches!(refused(|bad| bad.keys.clear()), DeliveryError::Count { .. }));
        assert!(matches!(refused(|bad| bad.keys.push(bad.keys[0].clone())), DeliveryError::Contradiction(_)));
        assert!(matches!(refused(|bad| bad.keys[0].wrapped_key.push('x')), DeliveryError::Contradiction(_)));
        assert!(matches!(
            refused(|bad| bad.keys[0].provider = KeyProvider::AwsKms),
            DeliveryError::Contradiction(_)
        ));
        let wrapped = |text: String| {
            let mut bad = good.clone();
            bad.keys[0].wrapped_key_sha256 = Sha256::of(&text);
            bad.keys[0].wrapped_key = text;
            Keys::parse(&canonical(&bad), &descriptor)
        };
        wrapped("vault:v1:".to_owned() + &"q83vASNF/+Z4".repeat(8) + "==").expect("as OpenBao writes it");
        wrapped("w".repeat(MAX_WRAPPED)).expect("the longest");
        for bad in [
            "w".repeat(MAX_WRAPPED + 1),
            "w".repeat(1 << 20),
            wrapped_key("w\n"),
            wrapped_key("w "),
            wrapped_key("\u{fe}"),
        ] {
            assert_eq!(wrapped(bad), Err(DeliveryError::Wrapped("keys")));
        }
        for bad in [String::new(), "A".repeat(59), format!("-----BEGIN KEY-----{}", wrapped_key("w"))] {
            assert!(matches!(wrapped(bad), Err(DeliveryError::KeyMaterial(_))));
        }
        assert!(matches!(
            refused(|bad| bad.keys[0].key_version = Some("hvs.CAESIJlU02LQZq".to_owned())),
            DeliveryError::KeyMaterial(_)
        ));
        let mut many = good.clone();
        many.keys = (0..=MAX_KEYS)
            .map(|index| WrappedDataKey {
                key_ref: format!("openbao://transit/key{index}").parse().expect("reference"),
                key_version: Some(format!(
                    "projects/acme-prod/locations/europe-west1/keyRings/R/cryptoKeys/k/cryptoKeyVersions/{index}"
                )),
                ..good.keys[0].clone()
            })
            .collect();
        assert_eq!(
            many.check(&descriptor),
            Err(DeliveryError::Count { field: "keys", found: MAX_KEYS + 1, most: MAX_KEYS })
        );
        many.keys.pop();
        many.check(&descriptor).expect("as many as may be");
        let error = refused(|bad| {
            bad.keys[0].wrapped_key = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=".to_owned();
            bad.keys[0].wrapped_key_sha256 = Sha256::of(&bad.keys[0].wrapped_key);
        });
        assert!(matches!(&error, DeliveryError::KeyMaterial(_)) && !error.to_string().contains("q83v"));
    }

    #[test]
    fn a_manifest_agrees_with_itself_and_holds_no_key() {
        let good = manifest();
        good.check().expect("a good manifest");
        let json = serde_json::to_string(&good).expect("json");
        assert_eq!(serde_json::from_str::<DeliveryManifest>(&json).expect("manifest"), good);
        let refused = |change: fn(&mut DeliveryManifest)| {
            let mut bad = manifest();
            change(&mut bad);
            bad.check().expect_err("it was accepted")
        };
        for change in [
            (|bad| bad.protection.encrypted = false) as fn(&mut DeliveryManifest),
            |bad| bad.integrity.sha256 = Sha256::of("other"),
            |bad| bad.integrity.size += 512,
            |bad| bad.contents[0].size += 1,
            |bad| bad.key_ref = "local-file://globex".parse().expect("reference"),
            |bad| bad.customer_slug = "initech".parse().expect("slug"),
            |bad| bad.version = "1.2.4".parse().expect("version"),
            |bad| bad.key_provider.context.clear(),
            |bad| bad.key_provider.wrapped_key.push('w'),
        ] {
            assert!(matches!(refused(change), DeliveryError::Contradiction(_)));
        }
        assert!(matches!(refused(|bad| bad.schema.push('x')), DeliveryError::Kind { .. }));
        for (name, value) in [
            ("key", Value::from("short")),
            ("DEK", Value::from("anything")),
            ("password", Value::from(7)),
            ("note", Value::from("q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=")),
            ("note", Value::from("-----BEGIN PRIVATE KEY-----")),
            ("note", serde_json::json!({"deep": ["hvs.CAESIJlU02LQZq"]})),
            ("note", serde_json::json!({"AKIAIOSFODNN7EXAMPLE": 1})),
            ("jwk", serde_json::json!({"kty": "oct", "k": "AAEC"})),
        ] {
            let mut bad = manifest();
            bad.other.insert(name.to_owned(), value.clone());
            let error = bad.check().err().unwrap_or_else(|| panic!("{name}: {value}"));
            let text = error.to_string();
            assert!(matches!(error, DeliveryError::KeyMaterial(_)), "{text}");
            assert!(
                ["q83v", "BEGIN", "hvs.", "AKIA", "AAEC"].iter().all(|secret| !text.contains(secret)),
                "{text}"
            );
        }
        for uri in ["q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k", "deliveries/hvs.CAESIJlU02LQZq"] {
            let mut bad = manifest();
            bad.bundle.uri = Some(uri.to_owned());
            assert_eq!(bad.check(), Err(DeliveryError::KeyMaterial("bundle.uri".to_owned())));
        }
        let mut bad = manifest();
        bad.contents[0] = content("q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k", "tarball");
        bad.integrity.sha256 = Sha256::of(canonical(&bad.contents));
        assert!(matches!(bad.check(), Err(DeliveryError::KeyMaterial(_))));
        // Names that are long, and have capitals and digits, as names have.
        let mut named = manifest();
        named.bundle.uri = Some("deliveries/globex-industries/01JB5Z3K9QW8XYRT2V4M6N7P8S".to_owned());
        named.contents[0] = content("node_modules/React18/Component3/LICENSE-third-party", "tarball");
        named.integrity.sha256 = Sha256::of(canonical(&named.contents));
        named.check().expect("no key in it");
        let mut later = manifest();
        later.other.insert("note".to_owned(), Value::from("what a later version says"));
        later.check().expect("unknown members are kept");
    }

    #[test]
    fn paths_are_the_same_file_everywhere() {
        for good in
            ["a", "core-1.2.3.tgz", "evidence/sbom.cdx.json", "a b/c (1).txt", "COM10", "con-fig", ".npmrc"]
        {
            assert_eq!(good.parse::<ContentPath>().expect(good).as_str(), good);
        }
        let long = "a".repeat(101);
        let deep = format!("{}/a", ["a".repeat(80), "b".repeat(80)].join("/"));
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/../b",
            "a/./b",
            "C:\\a",
            "a\\b",
            "C:a",
            "a\0b",
            "a\nb",
            "é",
            "a\u{202e}b",
            "con",
            "CON.txt",
            "a/NUL",
            "aux .txt",
            "LPT1",
            "com9.tar.gz",
            "a.",
            "a ",
            " a",
            "a/b.",
            "a*",
            "a?",
            "a|b",
            "\"a\"",
            "<a>",
            &long,
            &deep,
        ] {
            assert!(bad.parse::<ContentPath>().is_err(), "{bad:?}");
        }
    }
}
