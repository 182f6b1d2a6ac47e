//! What holds for any bytes whatever: run on made-up ones by the tests, and by the fuzzer for as long as one likes.

use std::{fs, io::Cursor, io::Read, path::Path, sync::LazyLock};

use protected_bundle::{
    CHUNK, OpenError, Opener, ParallelOpener, SeekOpener,
    layout::{Delivery, LayoutError},
    seal,
};
use protected_model::{
    delivery::{ContentPath, Descriptor, Keys, archive_bytes},
    integrity::canonical,
    key_ref::KeyRef,
};

use crate::sample;

/// Makes something of `bytes`: themselves, or `good` with the changes that they say.
///
/// What is nearly right comes further than what is made up.
fn made_of(bytes: &[u8], good: &[u8]) -> Vec<u8> {
    let Some((&kind, changes)) = bytes.split_first() else { return Vec::new() };
    if kind % 4 == 0 {
        return changes.to_vec();
    }
    let mut made = good.to_vec();
    for change in changes.chunks(5) {
        let [at, high, how, value, count] =
            std::array::from_fn(|index| change.get(index).copied().unwrap_or(0));
        let at = (usize::from(high) << 8 | usize::from(at)) % (made.len() + 1);
        let count = usize::from(count % 32);
        let end = (at + count).min(made.len());
        match how % 5 {
            0 if at < made.len() => made[at] = value,
            1 => made.insert(at, value),
            2 => drop(made.drain(at..end)),
            3 => made.truncate(at),
            // Doubles a piece, somewhere else.
            _ => {
                let piece = made[at..end].to_vec();
                let to = usize::from(value) * made.len() / 256;
                made.splice(to..to, piece);
            }
        }
    }
    made
}

pub fn path(text: &str) {
    if let Ok(path) = text.parse::<ContentPath>() {
        let mut parts = Path::new(path.as_str()).components();
        assert!(parts.all(|part| matches!(part, std::path::Component::Normal(_))));
        assert_eq!(path.as_str(), text);
    }
}

pub fn key_reference(bytes: &[u8]) {
    for good in [
        "openbao://transit/acme",
        "aws-kms://arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "gcp-kms://projects/acme-prod/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/12",
        "azure-keyvault://acme-vault/core/0123456789abcdef0123456789abcdef",
        "local-file://acme-demo",
    ] {
        let made = made_of(bytes, good.as_bytes());
        let Ok(text) = std::str::from_utf8(&made) else { continue };
        if let Ok(key) = text.parse::<KeyRef>() {
            assert_eq!(key.to_string(), text);
            let path = key.path();
            assert!(
                path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/:_.-".contains(&byte)),
                "{text}"
            );
            assert!(path.split('/').all(|part| !part.is_empty() && part != "." && part != ".."), "{text}");
            assert!(!path.contains("..") && !path.contains("//"), "{text}");
        }
    }
}

pub fn descriptor(bytes: &[u8]) {
    let made = made_of(bytes, &canonical(&sample::descriptor(&sample::files())));
    if let Ok(descriptor) = Descriptor::parse(&made) {
        assert_eq!(canonical(&descriptor), made, "there is one writing of it");
        assert_eq!(descriptor.check(), Ok(()));
        assert_eq!(archive_bytes(&descriptor.contents), Some(descriptor.archive_bytes));
        descriptor.contents.iter().for_each(|content| path(content.path.as_str()));
    }
}

pub fn keys_document(bytes: &[u8]) {
    let descriptor = sample::descriptor(&sample::files());
    let made = made_of(bytes, &canonical(&sample::keys(&descriptor, "openbao://transit/globex")));
    if let Ok(keys) = Keys::parse(&made, &descriptor) {
        assert_eq!(canonical(&keys), made, "there is one writing of it");
        assert_eq!(keys.check(&descriptor), Ok(()));
        assert_eq!(keys.descriptor_sha256, descriptor.sha256());
        assert!(keys.keys.iter().all(|key| key.key_ref.provider() == key.provider));
    }
}

/// An archive as it is, and compressed: the one is read as a frame, the other as tar.
pub fn an_archive(bytes: &[u8]) {
    let files = sample::small_files();
    let descriptor = sample::descriptor(&files);
    let good = sample::packed(&files, &descriptor.contents).expect("packed");
    let tar = zstd::decode_all(&good[..]).expect("frame");
    let made = made_of(bytes, &tar);
    let folder = tempfile::tempdir().expect("folder");
    let to = folder.path().join("to");
    for (is_right, archive) in [
        (made == tar, zstd::encode_all(&made[..], 1).expect("frame")),
        // Several frames can be one text.
        (false, made_of(bytes, &good)),
    ] {
        match sample::unpacked(&descriptor, &archive, &to) {
            Ok(()) => {
                assert!(is_right || zstd::decode_all(&archive[..]).is_ok_and(|text| text == tar));
                let expected = files.iter().map(|(path, bytes)| ((*path).to_owned(), Some(bytes.clone())));
                assert_eq!(sample::tree(&to), expected.collect());
                fs::remove_dir_all(&to).expect("remove");
            }
            Err(_) => assert!(!is_right),
        }
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0, "something is left");
    }
}

/// Texts with every kind of end, each with the message that it is sealed as. Once: sealing takes as long as all the rest.
static MESSAGES: LazyLock<[(Vec<u8>, Vec<u8>); 4]> = LazyLock::new(|| {
    [0, 100, CHUNK, 2 * CHUNK + 100].map(|length| {
        let plain: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
        let mut sealed = Vec::new();
        seal(&sample::key(), b"context", &plain[..], &mut sealed).expect("seal");
        (plain, sealed)
    })
});

/// A message, by each of the openers: they come to the same, and release nothing that was not sealed.
pub fn a_message(bytes: &[u8]) {
    let which = bytes.first().map_or(0, |kind| usize::from(kind / 4) % MESSAGES.len());
    let (plain, good) = &MESSAGES[which];
    let made = made_of(bytes, good);
    let mut released = Vec::new();
    let result = Opener::new(&sample::key(), b"context", &made[..])
        .map_err(std::io::Error::from)
        .and_then(|mut opener| opener.read_to_end(&mut released));
    let right = made == *good;
    assert_eq!(result.is_ok(), right);
    assert!(plain.starts_with(&released) && (right || released.len() % CHUNK == 0));
    let mut others = Vec::new();
    let parallel = ParallelOpener::new(&sample::key(), b"context", Cursor::new(made.clone()), 2)
        .map_err(std::io::Error::from)
        .and_then(|mut opener| {
            let read = opener.read_to_end(&mut others);
            // With its threads: the fuzzer would take what they still hold for a leak, and look for it each time.
            let whole = opener.finish();
            read.and(whole.map_err(std::io::Error::from))
        });
    assert_eq!(parallel.is_ok(), right);
    assert!(others == released);
    let mut from_any_place = Vec::new();
    let seek = SeekOpener::new(&sample::key(), b"context", Cursor::new(&made))
        .map_err(|error: OpenError| std::io::Error::from(error))
        .and_then(|mut opener| opener.read_to_end(&mut from_any_place));
    assert_eq!(seek.is_ok(), right);
    assert!(plain.starts_with(&from_any_place));
}

/// Reads what it can of a delivery that may be anything.
fn read(path: &Path) -> Result<(), LayoutError> {
    let delivery = Delivery::open(path)?;
    assert_eq!(delivery.keys().descriptor_sha256, delivery.descriptor().sha256());
    let mut content = delivery.unverified_content()?;
    let mut bytes = Vec::new();
    let read = content.read_to_end(&mut bytes).expect("a file");
    assert!(read as u64 <= delivery.content().size);
    Ok(())
}

thread_local! {
    /// A delivery, as a folder and as one tar file, that each of the next two starts from.
    static DELIVERY: tempfile::TempDir = {
        let folder = tempfile::tempdir().expect("folder");
        let place = folder.path().join("delivery");
        sample::written_of(&sample::small_files(), &place);
        let delivery = Delivery::open(&place).expect("delivery");
        delivery.to_tar(&folder.path().join("delivery.tar"), &Default::default()).expect("tar");
        fs::copy(place.join("index.json"), folder.path().join("index.json")).expect("copy");
        folder
    };
}

/// The index of a delivery in a folder.
pub fn an_index(bytes: &[u8]) {
    DELIVERY.with(|folder| {
        let good = fs::read(folder.path().join("index.json")).expect("index");
        let made = made_of(bytes, &good);
        fs::write(folder.path().join("delivery/index.json"), &made).expect("write");
        if read(&folder.path().join("delivery")).is_err() {
            assert!(made != good);
        }
    });
}

/// A delivery as one tar file.
pub fn a_tar_file(bytes: &[u8]) {
    DELIVERY.with(|folder| {
        let good = fs::read(folder.path().join("delivery.tar")).expect("tar");
        let made = made_of(bytes, &good);
        let place = folder.path().join("made.tar");
        fs::write(&place, &made).expect("write");
        if read(&place).is_err() {
            assert!(made != good);
        }
    });
}
