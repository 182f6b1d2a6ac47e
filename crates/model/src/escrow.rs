//! The manifest of sealed source maps: what is sealed, under which key, and nothing of either.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    digest::Sha256,
    integrity::canonical,
    key_ref::{KeyProvider, KeyRef, looks_like_key_material},
    name::PackageName,
    version::PackageVersion,
};

/// The media type of an [`EscrowManifest`].
pub const MEDIA_TYPE: &str = "application/vnd.protected-registry.sealed-escrow.v1+json";

/// The media type of what is sealed.
pub const CONTENT: &str = "application/vnd.protected-registry.escrow.v1.tar+gzip+cobblestone256";

/// The name of this kind of bundle in its descriptor and in the key's context.
pub const TYPE: &str = "escrow";

/// The only suite that there is.
pub const SUITE: &str = "cobblestone-256";

/// What the key of something sealed may be: named, and never in the manifest.
pub const POLICY: &str = "reference_only";

/// The manifest of a sealed escrow. It lies beside the sealed file and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EscrowManifest {
    /// [`MEDIA_TYPE`].
    pub schema: String,
    /// What is sealed. Sealed bytes and key are bound to it.
    pub descriptor: Descriptor,
    /// The sealed file.
    pub bundle: SealedFile,
    /// The key that the data key is wrapped with.
    pub key_ref: KeyRef,
    /// What the key service made.
    pub key_provider: WrappedBy,
}

/// What is sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Descriptor {
    /// [`TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// [`SUITE`].
    pub suite: String,
    /// [`CONTENT`].
    pub media_type: String,
    /// The package.
    pub package_name: PackageName,
    /// Its version.
    pub version: PackageVersion,
    /// Digest of the list of maps, as the build manifest has it.
    pub escrow_sha256: Sha256,
    /// How many files are sealed.
    pub files: u64,
    /// How many bytes they have together.
    pub size: u64,
}

/// A sealed file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SealedFile {
    /// Its name, in the manifest's folder.
    pub file: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Sha256,
}

/// What a key service made of the data key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WrappedBy {
    /// The service.
    pub provider: KeyProvider,
    /// [`POLICY`].
    pub policy: String,
    /// The wrapped data key, in base64 or in the service's own writing.
    pub wrapped_key: String,
    /// Digest of `wrapped_key` as it is written.
    pub wrapped_key_sha256: Sha256,
    /// What the wrapping is bound to.
    pub context: BTreeMap<String, String>,
}

/// Why a manifest is not used. Repeats no value that could be a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EscrowManifestError {
    /// It is not this kind of document.
    #[error("`{field}` is not `{expected}`")]
    Kind {
        /// Where.
        field: &'static str,
        /// What this version reads.
        expected: &'static str,
    },
    /// Two parts of it say different things.
    #[error("`{0}` contradicts the rest of the manifest")]
    Contradiction(&'static str),
    /// The sealed file would lie elsewhere.
    #[error("`bundle.file` is not the name of a file beside the manifest")]
    File,
    /// A value looks like a key.
    #[error("`{0}` looks like a key, which never stands in a manifest")]
    KeyMaterial(&'static str),
}

/// Returns whether a text may be a wrapped key, which is longer than a key: what has 32 bytes was never wrapped.
pub(crate) fn is_wrapped(text: &str) -> bool {
    text.len() >= 60 && !text.contains("-----BEGIN")
}

impl Descriptor {
    /// Returns what the sealed bytes are bound to.
    pub fn binding(&self) -> Vec<u8> {
        let mut binding = b"protected-registry/escrow/v1\0".to_vec();
        binding.extend_from_slice(self.sha256().as_bytes());
        binding
    }

    /// Returns what the wrapping of the data key is bound to, in words that a key service's policy can name.
    pub fn key_context(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("type".to_owned(), TYPE.to_owned()),
            ("package_name".to_owned(), self.package_name.to_string()),
            ("version".to_owned(), self.version.to_string()),
            ("descriptor_sha256".to_owned(), self.sha256().to_string()),
        ])
    }

    fn sha256(&self) -> Sha256 {
        Sha256::of(canonical(self))
    }
}

impl EscrowManifest {
    /// Holds the parts against each other.
    ///
    /// # Errors
    /// When it is of another kind, contradicts itself, or holds what looks like a key.
    pub fn check(&self) -> Result<(), EscrowManifestError> {
        let Self { schema, descriptor, bundle, key_ref, key_provider } = self;
        let kinds = [
            ("schema", schema.as_str(), MEDIA_TYPE),
            ("descriptor.type", &descriptor.kind, TYPE),
            ("descriptor.suite", &descriptor.suite, SUITE),
            ("descriptor.media_type", &descriptor.media_type, CONTENT),
            ("key_provider.policy", &key_provider.policy, POLICY),
        ];
        for (field, found, expected) in kinds {
            if found != expected {
                return Err(EscrowManifestError::Kind { field, expected });
            }
        }
        if bundle.file.is_empty()
            || bundle.file.contains(['/', '\\', '\0', ':'])
            || bundle.file.starts_with('.')
        {
            return Err(EscrowManifestError::File);
        }
        if looks_like_key_material(&bundle.file) {
            return Err(EscrowManifestError::KeyMaterial("bundle.file"));
        }
        if key_provider.provider != key_ref.provider() {
            return Err(EscrowManifestError::Contradiction("key_provider.provider"));
        }
        if key_provider.context != descriptor.key_context() {
            return Err(EscrowManifestError::Contradiction("key_provider.context"));
        }
        if key_provider.wrapped_key_sha256 != Sha256::of(&key_provider.wrapped_key) {
            return Err(EscrowManifestError::Contradiction("key_provider.wrapped_key_sha256"));
        }
        if !is_wrapped(&key_provider.wrapped_key) {
            return Err(EscrowManifestError::KeyMaterial("key_provider.wrapped_key"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> EscrowManifest {
        let descriptor = Descriptor {
            kind: TYPE.to_owned(),
            suite: SUITE.to_owned(),
            media_type: CONTENT.to_owned(),
            package_name: "@acme/core".parse().expect("name"),
            version: "1.2.3".parse().expect("version"),
            escrow_sha256: Sha256::of("maps"),
            files: 3,
            size: 4096,
        };
        let wrapped_key = "d3JhcHBlZA".repeat(8);
        EscrowManifest {
            schema: MEDIA_TYPE.to_owned(),
            bundle: SealedFile { file: "escrow.cob".to_owned(), size: 1234, sha256: Sha256::of("sealed") },
            key_ref: "local-file://acme".parse().expect("reference"),
            key_provider: WrappedBy {
                provider: KeyProvider::LocalFile,
                policy: POLICY.to_owned(),
                wrapped_key_sha256: Sha256::of(&wrapped_key),
                wrapped_key,
                context: descriptor.key_context(),
            },
            descriptor,
        }
    }

    #[test]
    fn the_document_is_pinned() {
        let manifest = manifest();
        manifest.check().expect("a good manifest");
        let json = String::from_utf8(canonical(&manifest)).expect("utf-8");
        let sha = |text: &str| Sha256::of(text).to_string();
        let descriptor = format!(
            r#"{{"escrow_sha256":"{}","files":3,"media_type":"application/vnd.protected-registry.escrow.v1.tar+gzip+cobblestone256","package_name":"@acme/core","size":4096,"suite":"cobblestone-256","type":"escrow","version":"1.2.3"}}"#,
            sha("maps")
        );
        let wrapped = "d3JhcHBlZA".repeat(8);
        let expected = format!(
            r#"{{"bundle":{{"file":"escrow.cob","sha256":"{}","size":1234}},"descriptor":{descriptor},"key_provider":{{"context":{{"descriptor_sha256":"{}","package_name":"@acme/core","type":"escrow","version":"1.2.3"}},"policy":"reference_only","provider":"local-file","wrapped_key":"{wrapped}","wrapped_key_sha256":"{}"}},"key_ref":"local-file://acme","schema":"application/vnd.protected-registry.sealed-escrow.v1+json"}}"#,
            sha("sealed"),
            sha(&descriptor),
            sha(&wrapped),
        );
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<EscrowManifest>(&json).expect("json"), manifest);
        let binding = manifest.descriptor.binding();
        assert_eq!(binding[..29], *b"protected-registry/escrow/v1\0");
        assert_eq!(hex::encode(&binding[29..]), sha(&descriptor));
    }

    #[test]
    fn refuses_what_contradicts_itself() {
        let refused = |change: fn(&mut EscrowManifest)| {
            let mut bad = manifest();
            change(&mut bad);
            bad.check().expect_err("it was accepted")
        };
        for change in [
            (|bad| bad.schema.push('x')) as fn(&mut EscrowManifest),
            |bad| bad.descriptor.kind = "delivery".to_owned(),
            |bad| bad.descriptor.suite = "cobblestone-128".to_owned(),
            |bad| bad.descriptor.suite = "none".to_owned(),
            |bad| bad.descriptor.media_type = "text/plain".to_owned(),
            |bad| bad.key_provider.policy = "inline".to_owned(),
        ] {
            assert!(matches!(refused(change), EscrowManifestError::Kind { .. }));
        }
        for change in [
            (|bad| bad.descriptor.version = "1.2.4".parse().expect("version")) as fn(&mut EscrowManifest),
            |bad| bad.descriptor.package_name = "@acme/other".parse().expect("name"),
            |bad| bad.descriptor.size += 1,
            |bad| bad.key_ref = "openbao://transit/acme".parse().expect("reference"),
            |bad| bad.key_provider.context.clear(),
            |bad| bad.key_provider.wrapped_key.push('A'),
        ] {
            assert!(matches!(refused(change), EscrowManifestError::Contradiction(_)));
        }
        for file in ["", "../escrow.cob", "/etc/passwd", "a/b", "C:escrow", ".hidden", "a\\b"] {
            let mut bad = manifest();
            bad.bundle.file = file.to_owned();
            assert_eq!(bad.check(), Err(EscrowManifestError::File), "{file}");
        }
        let key = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";
        let mut bad = manifest();
        bad.key_provider.wrapped_key = key.to_owned();
        bad.key_provider.wrapped_key_sha256 = Sha256::of(key);
        let error = bad.check().expect_err("a key in clear");
        assert_eq!(error, EscrowManifestError::KeyMaterial("key_provider.wrapped_key"));
        assert!(!error.to_string().contains("q83v"));
    }
}
