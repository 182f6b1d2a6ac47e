//! The bundles, what they are about, and how two of them are held against each other.

use protected_evidence::{
    statement::{PROVENANCE, Subject},
    verify::{self, Expected, Refused, Trust, Verified},
};
use serde_json::{Value, json};
use sigstore_verify::trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, SIGSTORE_STAGING_TRUSTED_ROOT};

pub(crate) struct Vector {
    pub(crate) name: &'static str,
    pub(crate) json: &'static str,
    subject: &'static str,
    /// Algorithm, and digest in hexadecimal.
    digest: (&'static str, &'static str),
    /// `None` where the artifact's bytes are signed.
    predicate: Option<&'static str>,
    pub(crate) root: &'static str,
}

const CONDA: &str = "https://schemas.conda.org/attestations-publish-1.schema.json";
const PACKAGE: &str = "signed-package-2.1.0-hb0f4dca_0.conda";
const PACKAGE_SHA256: (&str, &str) =
    ("sha256", "54303491a8418fbed24344b513546182c29b43bf282ceb433af65e2299f9271f");
const NPM_SHA512: (&str, &str) = (
    "sha512",
    "46d4e2f74c4877316640000a6fdf8a8b59f1e0847667973e9859f774dd31b8f1e0937813b777fb66a2ac67d50540fe34640966eee9fc2ccca387082b4c85cd3c",
);

macro_rules! vector {
    ($name:literal, $file:literal, $subject:expr, $digest:expr, $predicate:expr, $root:expr) => {
        Vector {
            name: $name,
            json: include_str!(concat!("../../../../tests/vectors/sigstore/", $file, ".sigstore.json")),
            subject: $subject,
            digest: $digest,
            predicate: $predicate,
            root: $root,
        }
    };
}

pub(crate) const VECTORS: [Vector; 5] = [
    vector!(
        "npm provenance, Rekor v1 (intoto 0.0.2)",
        "npm-sigstore-2.0.0",
        "pkg:npm/sigstore@2.0.0",
        NPM_SHA512,
        Some(PROVENANCE),
        SIGSTORE_PRODUCTION_TRUSTED_ROOT
    ),
    vector!(
        "Rekor v1 (dsse 0.0.1)",
        "rekor-v1",
        PACKAGE,
        PACKAGE_SHA256,
        Some(CONDA),
        SIGSTORE_PRODUCTION_TRUSTED_ROOT
    ),
    vector!(
        "Rekor v2 (hashedrekord 0.0.2) and a timestamp",
        "rekor-v2",
        PACKAGE,
        PACKAGE_SHA256,
        Some(CONDA),
        SIGSTORE_STAGING_TRUSTED_ROOT
    ),
    vector!(
        "sigstore-python, statement, Rekor v2",
        "python-dsse-rekor-v2",
        "a.txt",
        ("sha256", "a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf"),
        Some(PROVENANCE),
        SIGSTORE_STAGING_TRUSTED_ROOT
    ),
    vector!(
        "sigstore-python, bytes, Rekor v2",
        "python-blob-rekor-v2",
        "staging-rekor-v2.txt",
        ("sha256", "15f67246115921bb7c1de0e7e9e9275c8016dc254a0c009888944b7ed3644aaa"),
        None,
        SIGSTORE_STAGING_TRUSTED_ROOT
    ),
];

impl Vector {
    pub(crate) fn subject(&self) -> Subject {
        let (algorithm, digest) = self.digest;
        let digest = [(algorithm.to_owned(), digest.to_owned())].into();
        Subject { name: self.subject.to_owned(), digest }
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::from_trusted_root(self.root.as_bytes()).expect("trusted root")
    }

    pub(crate) fn verify(&self, bytes: &[u8], trust: &Trust) -> Result<Verified, Refused> {
        let subject = self.subject();
        let expected = Expected { subject: &subject, predicate_type: self.predicate, identity: None };
        verify::bundle(bytes, trust, &expected)
    }

    pub(crate) fn value(&self) -> Value {
        serde_json::from_str(self.json).expect("json")
    }
}

/// Every value in a document that is no container, by its JSON pointer.
pub(crate) fn leaves(value: &Value, at: String, into: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, member)| leaves(member, format!("{at}/{name}"), into))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| leaves(item, format!("{at}/{index}"), into))
        }
        _ => into.push(at),
    }
}

pub(crate) fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(empty),
        _ => false,
    }
}

/// Cuts the signatures of witnesses from a checkpoint: who trusts no witness cannot tell one from another.
pub(crate) fn own_part(leaf: &Value, pointer: &str) -> Value {
    let own = |text: &str| {
        let note = text.find("\n\n\u{2014} ")? + 2;
        let end = text[note..].find('\n')? + note;
        Some(json!(text[..=end]))
    };
    match leaf.as_str() {
        Some(text) if pointer.ends_with("/checkpoint/envelope") => own(text).expect("a signed note"),
        _ => leaf.clone(),
    }
}

/// What a bundle says, without what says nothing: what is empty may as well not be there and a number is a text (proto3
/// JSON), the digest of bytes that are at hand is a hint, and so are the signatures of witnesses.
pub(crate) fn meaning(bundle: &Value) -> Value {
    let mut pointers = Vec::new();
    leaves(bundle, String::new(), &mut pointers);
    let leaf = |pointer: String| {
        let leaf = own_part(bundle.pointer(&pointer).expect("leaf"), &pointer);
        let leaf = if leaf.is_number() { json!(leaf.to_string()) } else { leaf };
        (!empty(&leaf) && !pointer.contains("/messageDigest/")).then_some((pointer, leaf))
    };
    pointers.into_iter().filter_map(leaf).collect::<serde_json::Map<_, _>>().into()
}
