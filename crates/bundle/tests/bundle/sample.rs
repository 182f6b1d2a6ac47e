//! A small delivery, as the tests write it, and its parts.

use std::{collections::BTreeMap, fs, io, path::Path};

use protected_bundle::{
    DataKey, ParallelOpener, ParallelSealer,
    archive::{self, ArchiveError},
    layout::{Delivery, Writer, Written},
};
use protected_model::{
    delivery::{CONTENT, Content, DESCRIPTOR, Descriptor, KEYS, Keys, WrappedDataKey, archive_bytes},
    digest::Sha256,
    escrow::SUITE,
    key_ref::KeyRef,
};

pub(crate) type Files = BTreeMap<&'static str, Vec<u8>>;

pub(crate) fn files() -> Files {
    BTreeMap::from([
        // As what is compressed already: it gets no shorter.
        ("core-1.2.3.tgz", noise(100_000)),
        ("empty.txt", Vec::new()),
        ("evidence/build-manifest.json", b"{}".to_vec()),
        ("evidence/deep/exactly-one-record", vec![7; 512]),
    ])
}

pub(crate) fn noise(length: usize) -> Vec<u8> {
    let numbers = std::iter::successors(Some(1_u64), |number| {
        Some(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    });
    numbers.map(|number| (number >> 56) as u8).take(length).collect()
}

/// The same in a few bytes, for what is tried often.
pub(crate) fn small_files() -> Files {
    let mut files = files();
    files.insert("core-1.2.3.tgz", b"tarball".to_vec());
    files
}

pub(crate) fn contents(files: &Files) -> Vec<Content> {
    files
        .iter()
        .map(|(path, bytes)| Content {
            path: path.parse().expect(path),
            sha256: Sha256::of(bytes),
            size: bytes.len() as u64,
        })
        .collect()
}

pub(crate) fn descriptor(files: &Files) -> Descriptor {
    let contents = contents(files);
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
        archive_bytes: archive_bytes(&contents).expect("size"),
        contents,
    }
}

pub(crate) fn packed(files: &Files, contents: &[Content]) -> Result<Vec<u8>, ArchiveError> {
    let mut packed = Vec::new();
    archive::pack(contents, |path| Ok(io::Cursor::new(files[path.as_str()].clone())), &mut packed)?;
    Ok(packed)
}

pub(crate) fn unpacked(descriptor: &Descriptor, packed: &[u8], to: &Path) -> Result<(), ArchiveError> {
    archive::extract(descriptor, packed, to)?.appear()
}

/// Everything below a folder, folders with nothing in them too.
pub(crate) fn tree(folder: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("folder") {
        let entry = entry.expect("entry");
        let name = entry.file_name().into_string().expect("name");
        if entry.file_type().expect("type").is_dir() {
            let inner = tree(&entry.path());
            if inner.is_empty() {
                found.insert(name.clone(), None);
            }
            found.extend(inner.into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            found.insert(name, Some(fs::read(entry.path()).expect("file")));
        }
    }
    found
}

pub(crate) fn key() -> DataKey {
    DataKey::try_from([9; 32].as_slice()).expect("key")
}

pub(crate) fn keys(descriptor: &Descriptor, reference: &str) -> Keys {
    let wrapped_key = "wrapped".repeat(12);
    let key_ref: KeyRef = reference.parse().expect("reference");
    Keys {
        schema: KEYS.to_owned(),
        descriptor_sha256: descriptor.sha256(),
        keys: vec![WrappedDataKey {
            provider: key_ref.provider(),
            key_ref,
            key_version: None,
            wrapped_key_sha256: Sha256::of(&wrapped_key),
            wrapped_key,
        }],
    }
}

pub(crate) fn written(to: &Path) -> (Descriptor, Written) {
    written_of(&files(), to)
}

pub(crate) fn written_of(files: &Files, to: &Path) -> (Descriptor, Written) {
    let descriptor = descriptor(files);
    let writer = Writer::new(to).expect("writer");
    let file = writer.content().expect("content");
    let mut sealer = ParallelSealer::new(&key(), &descriptor.binding(), file, 2).expect("sealer");
    archive::pack(&descriptor.contents, |path| Ok(&files[path.as_str()][..]), &mut sealer).expect("pack");
    let (_, whole) = sealer.finish().expect("finish");
    let content = (Sha256::from_bytes(whole.sha256), whole.sealed_bytes);
    let written = writer.end(&descriptor, &keys(&descriptor, "local-file://globex"), content).expect("end");
    (descriptor, written)
}

pub(crate) fn opened(path: &Path, to: &Path) {
    let delivery = Delivery::open(path).expect("delivery");
    let descriptor = delivery.descriptor();
    let content = delivery.unverified_content().expect("content");
    let mut opener = ParallelOpener::new(&key(), &descriptor.binding(), content, 2).expect("opener");
    let staged = archive::extract(descriptor, &mut opener, to).expect("extract");
    let whole = opener.finish().expect("finish");
    delivery.check_content(&whole).expect("digest");
    staged.appear().expect("appear");
}
