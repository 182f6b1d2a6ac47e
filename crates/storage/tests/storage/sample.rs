//! Deliveries to store. Their content is no sealed archive: a delivery area never looks into it.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use protected_bundle::layout::{Delivery, Digest, Writer, signature::Part};
use protected_model::{
    delivery::{CONTENT, Content, DESCRIPTOR, Descriptor, KEYS, Keys, WrappedDataKey},
    digest::Sha256,
    escrow::SUITE,
    key_ref::KeyProvider,
    name::BundleId,
};
use protected_storage::Progress;
use sha2::Digest as _;

pub(crate) const BUNDLE: &str = "acme-core-1.2.3-globex";

pub(crate) fn bundle() -> BundleId {
    BUNDLE.parse().expect("id")
}

fn descriptor(bundle: &str) -> Descriptor {
    Descriptor {
        schema: DESCRIPTOR.to_owned(),
        suite: SUITE.to_owned(),
        bundle_id: bundle.parse().expect("id"),
        tenant_id: "acme".parse().expect("id"),
        project_slug: "core".parse().expect("slug"),
        customer_slug: "globex".parse().expect("slug"),
        package_name: "@acme/core".parse().expect("name"),
        version: "1.2.3".parse().expect("version"),
        created_at: "2026-01-02T03:04:05Z".parse().expect("time"),
        media_type: CONTENT.to_owned(),
        // One record for the header, one for the bytes, two at the end.
        archive_bytes: 4 * 512,
        contents: vec![Content {
            path: "core-1.2.3.tgz".parse().expect("path"),
            sha256: Sha256::of("core"),
            size: 4,
        }],
    }
}

fn keys(descriptor: &Descriptor, version: u32) -> Keys {
    let wrapped = format!("vault:v{version}:{}", "QUJD".repeat(20));
    Keys {
        schema: KEYS.to_owned(),
        descriptor_sha256: descriptor.sha256(),
        keys: vec![WrappedDataKey {
            key_ref: "openbao://transit/globex".parse().expect("key"),
            provider: KeyProvider::OpenBao,
            key_version: None,
            wrapped_key_sha256: Sha256::of(&wrapped),
            wrapped_key: wrapped,
        }],
    }
}

/// Writes a layout with content of this size, which `seed` decides.
pub(crate) fn layout(at: &Path, size: u64, seed: u8) -> PathBuf {
    layout_of(at, BUNDLE, size, seed)
}

pub(crate) fn layout_of(at: &Path, bundle: &str, size: u64, seed: u8) -> PathBuf {
    let descriptor = descriptor(bundle);
    let writer = Writer::new(at).expect("writer");
    let mut file = writer.content().expect("content");
    let mut digest = sha2::Sha256::new();
    let mut state = u64::from(seed) + 1;
    let (mut left, mut piece) = (size, vec![0_u8; 1 << 16]);
    while left > 0 {
        for word in piece.chunks_exact_mut(8) {
            // xorshift64: what compresses is not what is sealed.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        let room = piece.len().min(usize::try_from(left).expect("size"));
        file.write_all(&piece[..room]).expect("content");
        digest.update(&piece[..room]);
        left -= room as u64;
    }
    drop(file);
    let sha256 = Sha256::from_bytes(digest.finalize().into());
    writer.end(&descriptor, &keys(&descriptor, 1), (sha256, size)).expect("layout");
    at.to_owned()
}

/// Wraps the keys of a layout anew, and returns what they were.
pub(crate) fn rewrap(layout: &Path, version: u32) -> Digest {
    rewrap_signed(layout, version, None)
}

pub(crate) fn rewrap_signed(layout: &Path, version: u32, signature: Option<&[u8]>) -> Digest {
    let mut delivery = Delivery::open(layout).expect("delivery");
    let before = delivery.manifests().keys.digest;
    let keys = keys(delivery.descriptor(), version);
    delivery.set_keys(keys, signature, &Default::default()).expect("keys");
    before
}

/// What is signed of a layout: of the bundle, and of the keys.
pub(crate) fn signed(layout: &Path) -> [Option<Vec<u8>>; 2] {
    let delivery = Delivery::open(layout).expect("delivery");
    Part::ALL.map(|part| delivery.unverified_signature(part).expect("signature"))
}

/// Copies a layout.
pub(crate) fn copy(from: &Path, to: &Path) -> PathBuf {
    fs::create_dir(to).expect("folder");
    for entry in fs::read_dir(from).expect("folder") {
        let entry = entry.expect("entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("file");
        }
    }
    to.to_owned()
}

/// Returns where the content of a layout is.
pub(crate) fn content(layout: &Path) -> PathBuf {
    layout.join(Delivery::open(layout).expect("delivery").content().path())
}

/// Two layouts are one delivery, byte by byte.
pub(crate) fn same(one: &Path, other: &Path) {
    let (one_delivery, other_delivery) =
        (Delivery::open(one).expect("one"), Delivery::open(other).expect("other"));
    assert_eq!(one_delivery.manifests(), other_delivery.manifests());
    let bytes = |layout| fs::read(content(layout)).expect("content");
    assert!(bytes(one) == bytes(other), "the content is another");
}

/// Everything below a folder, by name.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().expect("name");
        if entry.file_type().expect("type").is_dir() {
            found.extend(names(&entry.path()).into_iter().map(|below| format!("{name}/{below}")));
        } else {
            found.push(name);
        }
    }
    found.sort();
    found
}

pub(crate) fn unwatched(_: Progress) {}
