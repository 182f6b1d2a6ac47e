//! Deliveries: archive and layout.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use protected_bundle::{
    ParallelOpener, ParallelSealer,
    archive::{self, ArchiveError},
    layout::{
        Blob, Delivery, LayoutError, Manifests, Receiver, Writer, Written, blobs_of_bundle, blobs_of_keys,
        signature::{Part, Signatures},
    },
};
use protected_model::{
    delivery::{ARTIFACT_TYPE, CONTENT, Content, ContentPath, DESCRIPTOR, DeliveryError, Descriptor, KEYS},
    digest::Sha256,
    integrity::canonical,
    key_ref::KeyProvider,
};
use serde_json::Value;

use crate::sample::{
    contents, descriptor, files, key, keys, noise, opened, packed, small_files, tree, unpacked, written,
    written_of,
};

#[test]
fn an_archive_comes_back_whole_and_is_one_for_every_tool() {
    let files = files();
    let descriptor = descriptor(&files);
    let packed = packed(&files, &descriptor.contents).expect("packed");
    let again = self::packed(&files, &descriptor.contents).expect("packed");
    assert!(packed == again, "the same files give the same bytes");
    let tar = zstd::decode_all(&packed[..]).expect("zstd");
    assert_eq!(tar.len() as u64, descriptor.archive_bytes);
    let folder = tempfile::tempdir().expect("folder");
    let to = folder.path().join("opened");
    unpacked(&descriptor, &packed, &to).expect("extracted");
    let expected: BTreeMap<String, Option<Vec<u8>>> =
        files.iter().map(|(path, bytes)| ((*path).to_owned(), Some(bytes.clone()))).collect();
    assert_eq!(tree(&to), expected);
    assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1, "nothing else is left");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let probe = folder.path().join("probe");
        fs::create_dir(&probe).expect("folder");
        let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode(&to), mode(&probe));
        assert_eq!(mode(&to.join("core-1.2.3.tgz")) & 0o111, 0);
    }
    // Another's tar reads it.
    let listed = Command::new("tar")
        .args(["-tf", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            child.stdin.take().expect("stdin").write_all(&tar)?;
            child.wait_with_output()
        })
        .expect("tar");
    let names: Vec<&str> = files.keys().copied().collect();
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().collect::<Vec<_>>(), names);
}

#[test]
fn a_file_that_is_not_the_listed_one_is_not_packed() {
    let files = files();
    let listed = contents(&files);
    for change in [
        (|content: &mut Content| content.size += 1) as fn(&mut Content),
        |content| content.size -= 1,
        |content| content.sha256 = Sha256::of("other"),
    ] {
        let mut listed = listed.clone();
        change(&mut listed[0]);
        assert!(matches!(packed(&files, &listed), Err(ArchiveError::Changed(_))));
    }
    // It grew: what was listed is its beginning.
    let mut grown = files.clone();
    grown.get_mut("core-1.2.3.tgz").expect("file").push(0);
    assert!(matches!(packed(&grown, &listed), Err(ArchiveError::Changed(_))));
    let missing = archive::pack(&listed, |_| Err::<&[u8], _>(io::ErrorKind::NotFound.into()), Vec::new());
    assert!(matches!(missing, Err(ArchiveError::Source(..))));
}

/// Who reads and who compresses are two threads: the bytes are those of one, and neither waits for the other for ever.
#[test]
fn an_archive_is_packed_by_two_threads_as_by_one() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut files = files();
    files.insert("core-1.2.3.tgz", noise(2_000_000));
    let mut listed = contents(&files);
    let archive = packed(&files, &listed).expect("packed");
    let tar = zstd::decode_all(&archive[..]).expect("frame");
    assert!(tar.len() > 2_000_000 && archive == zstd::encode_all(&tar[..], 3).expect("frame"));
    let open = |path: &ContentPath| Ok(&files[path.as_str()][..]);
    let full = archive::pack(&listed, open, Full);
    assert!(matches!(full, Err(ArchiveError::Write(error)) if error.kind() == io::ErrorKind::StorageFull));
    // The first file is long compressed when another turns out to be none of the listed ones.
    listed[3].sha256 = Sha256::of("other");
    assert!(matches!(archive::pack(&listed, open, io::sink()), Err(ArchiveError::Changed(_))));
}

/// Whatever stands in the archive but what the descriptor says: nothing appears, and nothing stays.
#[test]
fn an_archive_that_is_anything_else_is_refused_and_leaves_nothing() {
    let files = files();
    let descriptor = descriptor(&files);
    let good = packed(&files, &descriptor.contents).expect("packed");
    let tar = zstd::decode_all(&good[..]).expect("zstd");
    let compressed = |tar: &[u8]| zstd::encode_all(tar, 3).expect("zstd");
    let folder = tempfile::tempdir().expect("folder");
    let refused = |packed: &[u8], name: &str| {
        let error = unpacked(&descriptor, packed, &folder.path().join("opened")).expect_err(name);
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0, "{name} left something");
        error
    };
    assert!(unpacked(&descriptor, &compressed(&tar), &folder.path().join("x")).is_ok(), "the control");
    fs::remove_dir_all(folder.path().join("x")).expect("remove");

    // Every byte of every header counts.
    for at in 0..512 {
        let mut bad = tar.clone();
        bad[at] ^= 1;
        assert!(matches!(refused(&compressed(&bad), "header"), ArchiveError::Other(_)), "byte {at}");
    }
    let first = 512 + 100_000_usize.next_multiple_of(512);
    for (name, at) in
        [("a file's bytes", 600), ("what fills its record", first - 1), ("the end", tar.len() - 1)]
    {
        let mut bad = tar.clone();
        bad[at] ^= 1;
        assert!(matches!(refused(&compressed(&bad), name), ArchiveError::Other(_)), "{name}");
    }
    for (name, bad) in [
        ("cut", tar[..tar.len() - 512].to_vec()),
        ("cut in a file", tar[..5000].to_vec()),
        ("longer", [&tar[..], &[0; 512]].concat()),
        ("another file behind", [&tar[..tar.len() - 1024], &tar[..first], &[0; 1024]].concat()),
        ("twice the first", [&tar[..first], &tar].concat()),
        ("without the first", tar[first..].to_vec()),
        ("empty", Vec::new()),
    ] {
        assert!(matches!(refused(&compressed(&bad), name), ArchiveError::Other(_)), "{name}");
    }
    // Links, devices and folders, under the name of a file that is listed.
    for kind in [b'1', b'2', b'3', b'4', b'5', b'6', b'L', b'x', b'g', b'S', b'7', 0] {
        let mut header = tar::Header::from_byte_slice(&tar[..512]).clone();
        header.as_mut_bytes()[156] = kind;
        header.as_mut_bytes()[157..168].copy_from_slice(b"/etc/passwd");
        header.set_cksum();
        let bad = [header.as_bytes(), &tar[512..]].concat();
        assert!(matches!(refused(&compressed(&bad), "kind"), ArchiveError::Other(_)), "{kind}");
    }
    for (name, bad) in [
        ("a second frame", [&good[..], &good].concat()),
        ("a byte behind", [&good[..], &[0]].concat()),
        ("cut in the frame", good[..good.len() - 3].to_vec()),
        ("a frame that is skipped", [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4], &good[..]].concat()),
        ("no frame", b"no frame at all".to_vec()),
        ("nothing", Vec::new()),
    ] {
        refused(&bad, name);
    }
    // A gigabyte of zeros in a few kilobytes: it stops where the descriptor ends.
    let mut bomb = zstd::Encoder::new(Vec::new(), 3).expect("zstd");
    bomb.write_all(&tar[..tar.len() - 1024]).expect("write");
    io::copy(&mut io::repeat(0).take(1 << 30), &mut bomb).expect("write");
    refused(&bomb.finish().expect("zstd"), "bomb");
    // A window of 128 MiB.
    let mut wide = zstd::Encoder::new(Vec::new(), 3).expect("zstd");
    wide.window_log(27).expect("window");
    wide.write_all(&tar).expect("write");
    assert!(matches!(refused(&wide.finish().expect("zstd"), "window"), ArchiveError::Read(_)));
}

/// A name that means something to whoever extracts means nothing here.
#[test]
fn every_name_that_may_be_is_extracted() {
    let files = BTreeMap::from([
        (".probe", b"probe".to_vec()),
        (".protected-registry-x/lock", Vec::new()),
        ("lock", Vec::new()),
        ("new/new", b"new".to_vec()),
    ]);
    let descriptor = descriptor(&files);
    let packed = packed(&files, &descriptor.contents).expect("packed");
    let folder = tempfile::tempdir().expect("folder");
    let to = folder.path().join("opened");
    unpacked(&descriptor, &packed, &to).expect("extracted");
    assert_eq!(tree(&to).into_keys().collect::<Vec<_>>(), files.into_keys().collect::<Vec<_>>());
}

#[test]
fn nothing_that_is_there_is_written_over() {
    let files = files();
    let descriptor = descriptor(&files);
    let packed = packed(&files, &descriptor.contents).expect("packed");
    let folder = tempfile::tempdir().expect("folder");
    let to = folder.path().join("opened");
    fs::write(&to, "mine").expect("write");
    assert!(matches!(archive::extract(&descriptor, &packed[..], &to), Err(ArchiveError::Exists(_))));
    assert!(matches!(unpacked(&descriptor, &packed, &to), Err(ArchiveError::Exists(_))));
    assert_eq!(fs::read(&to).expect("read"), b"mine");
    fs::remove_file(&to).expect("remove");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", &to).expect("link");
        assert!(matches!(unpacked(&descriptor, &packed, &to), Err(ArchiveError::Exists(_))));
        fs::remove_file(&to).expect("remove");
    }
    // It came to be there while the archive was extracted.
    let staged = archive::extract(&descriptor, &packed[..], &to).expect("extracted");
    fs::create_dir(&to).expect("folder");
    // An empty folder is one that a rename would replace.
    assert!(matches!(staged.appear(), Err(ArchiveError::Exists(_))));
    fs::remove_dir(&to).expect("remove");
    let staged = archive::extract(&descriptor, &packed[..], &to).expect("extracted");
    fs::create_dir(&to).expect("folder");
    fs::write(to.join("mine"), "mine").expect("write");
    assert!(staged.appear().is_err());
    assert_eq!(tree(folder.path()).len(), 1);
}

#[test]
fn a_delivery_is_written_read_and_mailed_as_one_file() {
    let folder = tempfile::tempdir().expect("folder");
    let place = folder.path().join("delivery");
    let (descriptor, written) = written(&place);
    let delivery = Delivery::open(&place).expect("delivery");
    assert_eq!(delivery.descriptor(), &descriptor);
    assert_eq!(delivery.bundle(), &written.bundle);
    assert_eq!(delivery.content(), &written.content);
    opened(&place, &folder.path().join("opened"));
    let mail = folder.path().join("delivery.tar");
    fs::write(place.join("blobs/sha256/leftover"), "not part of it").expect("write");
    delivery.to_tar(&mail, &Default::default()).expect("tar");
    opened(&mail, &folder.path().join("opened again"));
    assert_eq!(tree(&folder.path().join("opened")), tree(&folder.path().join("opened again")));
    assert!(matches!(delivery.to_tar(&mail, &Default::default()), Err(LayoutError::Exists(_))));
    assert!(matches!(Writer::new(&place), Err(LayoutError::Exists(_))));
    let mailed = Delivery::open(&mail).expect("delivery");
    assert_eq!(mailed.keys(), delivery.keys());
    // Nothing that is secret, and no name of the machine.
    let whole = fs::read(&mail).expect("read");
    assert!(!whole.windows(32).any(|window| window == [9; 32]));
}

#[test]
fn keys_are_wrapped_anew_and_the_content_stays() {
    let folder = tempfile::tempdir().expect("folder");
    let place = folder.path().join("delivery");
    let (descriptor, written) = written(&place);
    let before = fs::read(place.join(format!("blobs/sha256/{}", written.content.digest.0))).expect("content");
    let mut delivery = Delivery::open(&place).expect("delivery");
    delivery
        .set_keys(keys(&descriptor, "openbao://transit/globex"), None, &Default::default())
        .expect("keys");
    assert_ne!(delivery.manifests().keys.digest, written.keys.digest);
    assert_eq!(delivery.keys().keys[0].provider, KeyProvider::OpenBao, "what it says of itself");
    let delivery = Delivery::open(&place).expect("delivery");
    assert_eq!(delivery.bundle(), &written.bundle, "the bundle is the one that was signed");
    assert_eq!(delivery.keys().keys[0].provider, KeyProvider::OpenBao);
    let after = fs::read(place.join(format!("blobs/sha256/{}", written.content.digest.0))).expect("content");
    assert!(before == after);
    let mut other = descriptor.clone();
    other.customer_slug = "initech".parse().expect("slug");
    let mut delivery = delivery;
    assert!(matches!(
        delivery.set_keys(keys(&other, "local-file://initech"), None, &Default::default()),
        Err(LayoutError::Document("keys document", _))
    ));
}

/// Two commands at once: the second does not undo the first, and what was opened before reads on as it was.
#[test]
fn what_another_wrote_meanwhile_is_not_overwritten() {
    let folder = tempfile::tempdir().expect("folder");
    let (place, mail) = (folder.path().join("delivery"), folder.path().join("delivery.tar"));
    let (descriptor, _) = written(&place);
    Delivery::open(&place).expect("delivery").to_tar(&mail, &Default::default()).expect("tar");
    for path in [&place, &mail] {
        let open = || Delivery::open(path).expect("delivery");
        let (mut first, mut second, mut third) = (open(), open(), open());
        let new = keys(&descriptor, "openbao://transit/globex");
        first.set_keys(new, None, &Default::default()).expect("keys");
        let other = keys(&descriptor, "openbao://transit/other");
        let late = second.set_keys(other, None, &Default::default());
        assert!(matches!(late, Err(LayoutError::Changed)), "{late:?}");
        let late = third.add_signatures(&[(Part::Bundle, b"{}".to_vec())]);
        assert!(matches!(late, Err(LayoutError::Changed)), "{late:?}");
        assert_eq!(open().manifests(), first.manifests(), "what the first wrote");
        let mut content = Vec::new();
        second.unverified_content().expect("content").read_to_end(&mut content).expect("read");
        assert_eq!(Sha256::of(&content), second.content().digest.0, "read at the places of another file");
        // Whoever wrote it goes on.
        first.add_signatures(&[(Part::Bundle, b"{}".to_vec())]).expect("signed");
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 2, "something was left");
    }
}

/// How often keys are wrapped by several at once, and by how many.
const ROUNDS: usize = 25;
const AT_ONCE: usize = 4;

#[test]
fn of_several_at_once_one_wraps_the_keys_anew() {
    for round in 0..ROUNDS {
        let folder = tempfile::tempdir().expect("folder");
        let (place, mail) = (folder.path().join("delivery"), folder.path().join("delivery.tar"));
        let (descriptor, _) = written_of(&small_files(), &place);
        Delivery::open(&place).expect("delivery").to_tar(&mail, &Default::default()).expect("tar");
        for path in [&place, &mail] {
            let together = Barrier::new(AT_ONCE);
            let wrap = |number: usize| {
                let mut delivery = Delivery::open(path).expect("delivery");
                let new = keys(&descriptor, &format!("openbao://transit/globex-{number}"));
                together.wait();
                match delivery.set_keys(new, None, &Default::default()) {
                    Ok(lock) => {
                        // What follows from the keys is written before the next one looks.
                        assert_eq!(Delivery::open(path).expect("delivery").manifests(), delivery.manifests());
                        drop(lock);
                        Some(number)
                    }
                    Err(LayoutError::Changed) => None,
                    Err(other) => panic!("{other}, in round {round}"),
                }
            };
            let wrapped: Vec<usize> = thread::scope(|scope| {
                let wrap = &wrap;
                let started: Vec<_> = (0..AT_ONCE).map(|number| scope.spawn(move || wrap(number))).collect();
                started.into_iter().filter_map(|one| one.join().expect("thread")).collect()
            });
            assert_eq!(wrapped.len(), 1, "{wrapped:?}, in round {round}");
            let found = Delivery::open(path).expect("delivery").keys().keys[0].key_ref.to_string();
            assert_eq!(found, format!("openbao://transit/globex-{}", wrapped[0]));
        }
    }
}

/// Until the first is done, with what it writes beside the delivery too, the next one waits; also where the file that it
/// opened is not the one that is there then.
#[test]
fn the_next_one_waits_until_the_lock_goes() {
    let folder = tempfile::tempdir().expect("folder");
    let (place, mail) = (folder.path().join("delivery"), folder.path().join("delivery.tar"));
    let (descriptor, _) = written(&place);
    Delivery::open(&place).expect("delivery").to_tar(&mail, &Default::default()).expect("tar");
    for path in [&place, &mail] {
        let open = || Delivery::open(path).expect("delivery");
        let (mut first, before) = (open(), open());
        let new = keys(&descriptor, "openbao://transit/globex");
        let lock = first.set_keys(new, None, &Default::default()).expect("keys");
        let after = open();
        let is_done = AtomicBool::new(false);
        let waits = |delivery: Delivery| {
            let lock = delivery.lock();
            assert!(is_done.load(Ordering::SeqCst), "it did not wait");
            lock.map(drop)
        };
        thread::scope(|scope| {
            let (before, after) = (scope.spawn(|| waits(before)), scope.spawn(|| waits(after)));
            thread::sleep(Duration::from_millis(200));
            is_done.store(true, Ordering::SeqCst);
            drop(lock);
            assert!(matches!(before.join().expect("thread"), Err(LayoutError::Changed)));
            after.join().expect("thread").expect("what was read after it was written");
        });
    }
}

/// Changes one file of a delivery and gives the error that follows.
#[track_caller]
fn refused(change: impl FnOnce(&Path, &Written)) -> LayoutError {
    let folder = tempfile::tempdir().expect("folder");
    let place = folder.path().join("delivery");
    let (_, written) = written(&place);
    change(&place, &written);
    Delivery::open(&place)
        .and_then(|delivery| delivery.unverified_content().map(|_| ()))
        .expect_err("it was read")
}

fn edit(place: &Path, name: &str, from: &str, to: &str) {
    let path = place.join(name);
    let text = fs::read_to_string(&path).expect("read");
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).expect("write");
}

#[test]
fn a_layout_that_was_changed_is_refused() {
    for (name, change) in [
        (
            "no layout",
            (|place, _| fs::remove_file(place.join("oci-layout")).expect("remove")) as fn(&Path, &Written),
        ),
        ("another layout", |place, _| edit(place, "oci-layout", "1.0.0", "2.0.0")),
        ("no index", |place, _| fs::remove_file(place.join("index.json")).expect("remove")),
        ("no JSON", |place, _| fs::write(place.join("index.json"), "{").expect("write")),
        ("no keys", |place, _| edit(place, "index.json", KEYS, "text/plain")),
        ("a manifest that is said to be something else", |place, _| {
            edit(place, "index.json", "application/vnd.oci.image.manifest.v1+json", "application/json");
        }),
        ("two bundles", |place, _| {
            edit(place, "index.json", KEYS, "application/vnd.fractalops.delivery.bundle.v1");
        }),
        ("a digest with a path", |place, written| {
            edit(place, "index.json", &written.bundle.digest.to_string(), "sha256:../../../etc/passwd");
        }),
        ("another algorithm", |place, written| {
            edit(place, "index.json", &written.bundle.digest.to_string(), "md5:00");
        }),
        ("a manifest that was changed", |place, written| {
            edit(
                place,
                &format!("blobs/sha256/{}", written.bundle.digest.0),
                "cobblestone256",
                "cobblestone255",
            );
        }),
        ("keys that were changed", |place, written| {
            edit(place, &format!("blobs/sha256/{}", written.keys.digest.0), "keys.v1", "keys.v2");
        }),
        ("no content", |place, written| {
            fs::remove_file(place.join(format!("blobs/sha256/{}", written.content.digest.0)))
                .expect("remove");
        }),
        ("content that is shorter", |place, written| {
            let path = place.join(format!("blobs/sha256/{}", written.content.digest.0));
            let bytes = fs::read(&path).expect("read");
            fs::write(&path, &bytes[..bytes.len() - 1]).expect("write");
        }),
        ("a huge document", |place, _| {
            let file = fs::File::options().write(true).open(place.join("index.json")).expect("open");
            file.set_len(1 << 40).expect("length");
        }),
        #[cfg(unix)]
        ("a link to the very content", |place, written| {
            let path = place.join(format!("blobs/sha256/{}", written.content.digest.0));
            fs::rename(&path, place.join("elsewhere")).expect("move");
            std::os::unix::fs::symlink(place.join("elsewhere"), &path).expect("link");
        }),
        #[cfg(unix)]
        ("a link", |place, written| {
            let path = place.join(format!("blobs/sha256/{}", written.content.digest.0));
            fs::remove_file(&path).expect("remove");
            std::os::unix::fs::symlink("/dev/zero", &path).expect("link");
        }),
    ] {
        let error = refused(change);
        assert!(!error.to_string().is_empty(), "{name}");
    }
}

/// Two of a kind: no reader takes the first and another one the last.
#[test]
fn an_index_names_one_of_each() {
    for (at, kind) in [(0, ARTIFACT_TYPE), (1, KEYS)] {
        let error = refused(|place, _| {
            let mut index = json(place, "index.json");
            let again = index["manifests"][at].clone();
            index["manifests"].as_array_mut().expect("list").push(again);
            fs::write(place.join("index.json"), index.to_string()).expect("write");
        });
        assert_eq!(error.to_string(), format!("this is no delivery: its index names more than one `{kind}`"));
    }
}

/// Attack: a link that is as long as what it stands for, to a file with the very bytes.
#[cfg(unix)]
#[test]
fn a_link_is_no_file_whatever_it_leads_to() {
    let error = refused(|place, _| {
        let config = place.join(format!("blobs/sha256/{}", Sha256::of("{}")));
        fs::rename(&config, config.with_file_name("zz")).expect("move");
        std::os::unix::fs::symlink("zz", &config).expect("link");
    });
    assert!(error.to_string().ends_with(" is no file"), "{error}");
}

#[test]
fn the_configuration_is_the_empty_one() {
    let folder = tempfile::tempdir().expect("folder");
    let place = folder.path().join("delivery");
    written(&place);
    let (digest, size) = put(&place, b"{\"entrypoint\":[\"sh\"]}");
    let change = |bundle: &mut Value| {
        bundle["config"]["digest"] = digest.into();
        bundle["config"]["size"] = size.into();
    };
    forge(&place, change, |_| {});
    let error = not_opened(&place);
    assert_eq!(error, "this is no delivery: its configuration is not empty");
}

/// Whoever gets a delivery from elsewhere holds each document against its digest, and the whole against its name.
#[test]
fn what_is_received_is_held_against_its_digests_and_its_name() {
    let folder = tempfile::tempdir().expect("folder");
    let (place, to) = (folder.path().join("delivery"), folder.path().join("received"));
    let (descriptor, _) = written(&place);
    let delivery = Delivery::open(&place).expect("delivery");
    let read = |blob: &Blob| fs::read(place.join(blob.path())).expect("blob");
    let blobs = delivery.blobs().expect("blobs");
    let mut digests: Vec<_> = blobs.iter().map(|blob| blob.digest).collect();
    digests.sort();
    digests.dedup();
    assert_eq!((digests.len(), tree(&place).len()), (blobs.len(), blobs.len() + 2), "each once");
    let received = || {
        let receiver = Receiver::new(&to).expect("receiver");
        blobs.iter().for_each(|blob| receiver.document(blob, &read(blob)).expect("document"));
        receiver
    };
    let error = received().document(&blobs[0], b"[]").expect_err("other bytes");
    assert!(matches!(error, LayoutError::Digest { .. }), "{error}");
    let other = "01JOTHER".parse().expect("id");
    let error = received().end(delivery.manifests(), &other).expect_err("another name");
    assert_eq!(error.to_string(), "this is no delivery: it is the delivery `01JDELIVERY`, not `01JOTHER`");
    assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1, "something was left");
    received().end(delivery.manifests(), &descriptor.bundle_id).expect("received");
    opened(&to, &folder.path().join("opened"));

    // The manifests, wherever they come from, are those of their digests.
    let Manifests { bundle, keys, .. } = delivery.manifests();
    let (of_bundle, of_keys) = (read(bundle), read(keys));
    let spaced = |bytes: &[u8]| [bytes, b" "].concat();
    blobs_of_bundle(bundle, &of_bundle).expect("bundle");
    blobs_of_keys(keys, &of_keys, bundle).expect("keys");
    let refused = [
        blobs_of_bundle(bundle, &spaced(&of_bundle)).err(),
        blobs_of_keys(keys, &spaced(&of_keys), bundle).err(),
    ];
    assert!(refused.iter().all(|error| matches!(error, Some(LayoutError::Digest { .. }))), "{refused:?}");
}

/// What is there goes before what there is elsewhere.
#[test]
fn signatures_that_are_there_stay() {
    let folder = tempfile::tempdir().expect("folder");
    let (_, written) = written(&folder.path().join("delivery"));
    let [one, two] = [written.bundle, written.keys].map(Some);
    let ours = Signatures { bundle: one.clone(), keys: None };
    let theirs = Signatures { bundle: two.clone(), keys: two.clone() };
    assert_eq!(ours.or(&theirs), Signatures { bundle: one.clone(), keys: two.clone() });
    assert_eq!(theirs.or(&ours), theirs);
    let ours = Signatures { bundle: None, keys: one.clone() };
    assert_eq!(ours.or(&theirs), Signatures { bundle: two, keys: one });
}

#[test]
fn the_largest_document_has_eight_mebibytes() {
    let folder = tempfile::tempdir().expect("folder");
    let place = folder.path().join("delivery");
    written(&place);
    let index = place.join("index.json");
    let mut text = fs::read(&index).expect("read");
    text.resize(8 << 20, b' ');
    fs::write(&index, &text).expect("write");
    Delivery::open(&place).expect("as large as may be");
    text.push(b' ');
    fs::write(&index, &text).expect("write");
    assert!(matches!(Delivery::open(&place), Err(LayoutError::Form(_))));
}

/// Puts a blob into a delivery, and returns its entry in a manifest.
fn put(place: &Path, bytes: &[u8]) -> (String, usize) {
    let digest = Sha256::of(bytes);
    fs::write(place.join(format!("blobs/sha256/{digest}")), bytes).expect("write");
    (format!("sha256:{digest}"), bytes.len())
}

fn json(place: &Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(place.join(name)).expect("read")).expect("json")
}

/// Changes both manifests of a delivery as somebody would who forges everything that has no signature: every digest
/// in it is right.
fn forge(place: &Path, bundle: impl FnOnce(&mut Value), keys: impl FnOnce(&mut Value)) {
    let mut index = json(place, "index.json");
    let blob = |entry: &Value| {
        format!("blobs/sha256/{}", entry["digest"].as_str().expect("digest").trim_start_matches("sha256:"))
    };
    let mut manifest = json(place, &blob(&index["manifests"][0]));
    bundle(&mut manifest);
    let (digest, size) = put(place, &serde_json::to_vec(&manifest).expect("json"));
    for (member, value) in [("digest", Value::from(digest)), ("size", Value::from(size))] {
        index["manifests"][0][member] = value;
    }
    let mut manifest = json(place, &blob(&index["manifests"][1]));
    for member in ["digest", "size"] {
        manifest["subject"][member] = index["manifests"][0][member].clone();
    }
    keys(&mut manifest);
    let (digest, size) = put(place, &serde_json::to_vec(&manifest).expect("json"));
    for (member, value) in [("digest", Value::from(digest)), ("size", Value::from(size))] {
        index["manifests"][1][member] = value;
    }
    fs::write(place.join("index.json"), serde_json::to_vec(&index).expect("json")).expect("write");
}

fn set_layer(manifest: &mut Value, layer: usize, (digest, size): (String, usize)) {
    manifest["layers"][layer]["digest"] = digest.into();
    manifest["layers"][layer]["size"] = size.into();
}

/// Opens a delivery as its customer does, and gives the error; nothing may appear.
#[track_caller]
fn not_opened(place: &Path) -> String {
    let folder = tempfile::tempdir().expect("folder");
    let to = folder.path().join("opened");
    let attempt = || -> Result<(), Box<dyn std::error::Error>> {
        let delivery = Delivery::open(place)?;
        let content = delivery.unverified_content()?;
        let mut opener = ParallelOpener::new(&key(), &delivery.descriptor().binding(), content, 2)?;
        let staged = archive::extract(delivery.descriptor(), &mut opener, &to)?;
        delivery.check_content(&opener.finish()?)?;
        Ok(staged.appear()?)
    };
    let error = attempt().expect_err("it was opened").to_string();
    assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0, "something is left");
    error
}

/// Attack: the descriptor of another customer, tenant or version in front of the same content.
#[test]
fn a_descriptor_is_not_swapped() {
    for change in [
        (|it| it.customer_slug = "initech".parse().expect("slug")) as fn(&mut Descriptor),
        |it| it.tenant_id = "other".parse().expect("id"),
        |it| it.project_slug = "other".parse().expect("slug"),
        |it| it.version = "1.2.4".parse().expect("version"),
        |it| it.package_name = "@acme/other".parse().expect("name"),
        |it| it.bundle_id = "01JOTHER".parse().expect("id"),
        |it| it.created_at = "2026-01-02T03:04:06Z".parse().expect("time"),
        |it| it.contents[0].sha256 = Sha256::of("other"),
    ] {
        let folder = tempfile::tempdir().expect("folder");
        let place = folder.path().join("delivery");
        let (mut other, _) = written(&place);
        change(&mut other);
        let descriptor = put(&place, &canonical(&other));
        forge(&place, |bundle| set_layer(bundle, 0, descriptor.clone()), |_| {});
        let error = not_opened(&place);
        assert!(
            error.contains("`descriptor_sha256` contradicts") || error.contains("keys document"),
            "{error}"
        );
        // With keys that say that they are of this one: the commitment tells.
        let keys = put(&place, &canonical(&keys(&other, "local-file://globex")));
        forge(&place, |_| {}, |manifest| set_layer(manifest, 0, keys));
        let error = not_opened(&place);
        assert!(error.contains("another key or for another purpose"), "{error}");
    }
}

/// Attack: one delivery is signed and another content is served.
#[test]
fn the_content_is_the_one_of_its_manifest() {
    let folder = tempfile::tempdir().expect("folder");
    let place = folder.path().join("delivery");
    let (descriptor, first) = written(&place);
    let blob = place.join(format!("blobs/sha256/{}", first.content.digest.0));
    let good = fs::read(&blob).expect("content");
    // The same files under the same key for the same descriptor: all is authentic, and it is another content.
    let mut sealer = ParallelSealer::new(&key(), &descriptor.binding(), Vec::new(), 2).expect("sealer");
    sealer.write_all(&packed(&files(), &descriptor.contents).expect("packed")).expect("write");
    let (other, _) = sealer.finish().expect("finish");
    assert_eq!(other.len(), good.len());
    fs::write(&blob, &other).expect("write");
    let error = not_opened(&place);
    assert!(
        error.contains(&Sha256::of(&other).to_string()) && error.contains(&Sha256::of(&good).to_string())
    );
    // That of another delivery, of the same length.
    let mut sealer = ParallelSealer::new(&key(), b"another", Vec::new(), 2).expect("sealer");
    sealer.write_all(&packed(&files(), &descriptor.contents).expect("packed")).expect("write");
    fs::write(&blob, sealer.finish().expect("finish").0).expect("write");
    assert!(not_opened(&place).contains("another key or for another purpose"));
    // Longer, and with a manifest that says so.
    let longer = put(&place, &[&good[..], b"more"].concat());
    forge(&place, |bundle| set_layer(bundle, 1, longer), |_| {});
    assert!(not_opened(&place).contains("is not as it was sealed"));
    // Longer than its manifest says: no byte more is read.
    let longer = place.join(format!("blobs/sha256/{}", Sha256::of([&good[..], b"more"].concat())));
    fs::write(&longer, [&good[..], b"more and more"].concat()).expect("write");
    assert!(not_opened(&place).contains("bytes"));
}

#[test]
fn a_manifest_that_says_anything_else_is_refused() {
    type Change = fn(&mut Value);
    let none: Change = |_| {};
    for (name, bundle, keys) in [
        ("no version", (|it| it["schemaVersion"] = 1.into()) as Change, none),
        ("an index", |it| it["mediaType"] = "application/vnd.oci.image.index.v1+json".into(), none),
        ("another artifact", |it| it["artifactType"] = "text/plain".into(), none),
        ("a configuration", |it| it["config"]["mediaType"] = "text/plain".into(), none),
        ("layers the other way round", |it| it["layers"].as_array_mut().expect("layers").reverse(), none),
        (
            "a third layer",
            |it| {
                let layer = it["layers"][0].clone();
                it["layers"].as_array_mut().expect("layers").push(layer);
            },
            none,
        ),
        ("one layer", |it| drop(it["layers"].as_array_mut().expect("layers").pop()), none),
        (
            "content that is not sealed",
            |it| {
                it["layers"][1]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+zstd".into();
            },
            none,
        ),
        ("a descriptor of another kind", |it| it["layers"][0]["mediaType"] = "application/json".into(), none),
        ("a descriptor of another size", |it| it["layers"][0]["size"] = 1.into(), none),
        ("content of another size", |it| it["layers"][1]["size"] = 1.into(), none),
        ("a negative size", |it| it["layers"][1]["size"] = (-1).into(), none),
        ("no subject", none, |it| drop(it.as_object_mut().expect("object").remove("subject"))),
        ("another subject", none, |it| {
            it["subject"]["digest"] = format!("sha256:{}", Sha256::of("other")).into();
        }),
        ("two keys documents", none, |it| {
            let layer = it["layers"][0].clone();
            it["layers"].as_array_mut().expect("layers").push(layer);
        }),
        ("keys of another kind", none, |it| it["layers"][0]["mediaType"] = "application/json".into()),
        ("no keys manifest", none, |it| it["artifactType"] = ARTIFACT_TYPE.into()),
    ] {
        let folder = tempfile::tempdir().expect("folder");
        let place = folder.path().join("delivery");
        written(&place);
        forge(&place, bundle, keys);
        assert!(!not_opened(&place).is_empty(), "{name}");
    }
    // The descriptor's own words for what is in it.
    for (from, to) in [("cobblestone-256", "cobblestone-128"), (CONTENT, "text/plain"), (DESCRIPTOR, KEYS)] {
        let folder = tempfile::tempdir().expect("folder");
        let place = folder.path().join("delivery");
        let (descriptor, _) = written(&place);
        let text = String::from_utf8(canonical(&descriptor)).expect("utf-8").replace(from, to);
        let layer = put(&place, text.as_bytes());
        forge(&place, |bundle| set_layer(bundle, 0, layer), |_| {});
        let error = Delivery::open(&place).expect_err(to);
        assert!(matches!(error, LayoutError::Document(_, DeliveryError::Kind { .. })), "{error}");
    }
    // Another's manifests beside it, and a place where a layer could be fetched from, mean nothing: all is in it.
    let folder = tempfile::tempdir().expect("folder");
    let place = folder.path().join("delivery");
    written(&place);
    forge(&place, |it| it["layers"][1]["urls"] = Value::from(vec!["https://evil.example/layer"]), |_| {});
    let mut index = json(&place, "index.json");
    let mut another = index["manifests"][0].clone();
    another["artifactType"] = "application/vnd.cyclonedx+json".into();
    another["digest"] = format!("sha256:{}", Sha256::of("nowhere")).into();
    index["manifests"].as_array_mut().expect("manifests").push(another);
    fs::write(place.join("index.json"), serde_json::to_vec(&index).expect("json")).expect("write");
    opened(&place, &folder.path().join("opened"));
}

/// Keys of another bundle under the name of this one's.
#[test]
fn the_keys_of_another_bundle_are_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let (_, first) = written(&one);
    let files = files();
    let mut other = descriptor(&files);
    other.customer_slug = "initech".parse().expect("slug");
    let writer = Writer::new(&two).expect("writer");
    writer.content().expect("content").write_all(b"content").expect("write");
    let second =
        writer.end(&other, &keys(&other, "local-file://initech"), (Sha256::of("content"), 7)).expect("end");
    for entry in fs::read_dir(two.join("blobs/sha256")).expect("blobs") {
        let entry = entry.expect("entry");
        fs::copy(entry.path(), one.join("blobs/sha256").join(entry.file_name())).expect("copy");
    }
    edit(&one, "index.json", &first.keys.digest.to_string(), &second.keys.digest.to_string());
    let index = fs::read_to_string(one.join("index.json")).expect("index");
    let sized =
        index.replace(&format!("\"size\":{}", first.keys.size), &format!("\"size\":{}", second.keys.size));
    fs::write(one.join("index.json"), sized).expect("write");
    let error = Delivery::open(&one).expect_err("it was read").to_string();
    assert!(error.contains("another bundle"), "{error}");
}

#[test]
fn a_tar_file_holds_a_delivery_and_nothing_else() {
    let folder = tempfile::tempdir().expect("folder");
    let place = folder.path().join("delivery");
    written(&place);
    let mail = folder.path().join("delivery.tar");
    Delivery::open(&place).expect("delivery").to_tar(&mail, &Default::default()).expect("tar");
    let good = fs::read(&mail).expect("read");
    let with = |kind: tar::EntryType, name: &str, link: &str| {
        let mut builder = tar::Builder::new(good[..good.len() - 1024].to_vec());
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(0);
        if !link.is_empty() {
            header.set_link_name(link).expect("link");
        }
        header.set_cksum();
        builder.append(&header, io::empty()).expect("append");
        builder.into_inner().expect("tar")
    };
    let blob = format!("blobs/sha256/{}", Sha256::of("x"));
    // A header that gives the one behind it another name or size: whoever follows it reads another file.
    let renamed = |kind: tar::EntryType, data: &str| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_path(&blob).expect("name");
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data.as_bytes()).expect("append");
        [builder.into_inner().expect("tar"), good.clone()].concat()
    };
    let renamed = |kind, data| {
        let whole = renamed(kind, data);
        // Without the end of the first.
        [&whole[..1024], &whole[whole.len() - good.len()..]].concat()
    };
    let mut many = tar::Builder::new(good[..good.len() - 1024].to_vec());
    for number in 0..1000 {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        many.append_data(&mut header, format!("folder{number}"), io::empty()).expect("append");
    }
    for (name, bad) in [
        ("a thousand folders", many.into_inner().expect("tar")),
        ("a stranger", with(tar::EntryType::Regular, "README", "")),
        ("outside", with(tar::EntryType::Regular, "../index.json", "")),
        ("twice the same", [&good[..1024], &good].concat()),
        ("twice", with(tar::EntryType::Regular, "index.json", "")),
        ("twice by another name", with(tar::EntryType::Regular, "./index.json", "")),
        ("a link", with(tar::EntryType::Symlink, &blob, "/etc/passwd")),
        ("a hard link", with(tar::EntryType::Link, &blob, "/etc/passwd")),
        ("a device", with(tar::EntryType::Char, &blob, "")),
        ("a long name", with(tar::EntryType::GNULongName, &blob, "")),
        ("a pax header", with(tar::EntryType::XHeader, &blob, "")),
        ("a long name of the next", renamed(tar::EntryType::GNULongName, "oci-layout\0")),
        ("a pax header of the next", renamed(tar::EntryType::XHeader, "19 path=oci-layout\n")),
        ("a pax header of all", renamed(tar::EntryType::XGlobalHeader, "19 path=oci-layout\n")),
        ("cut", good[..good.len() / 2].to_vec()),
        ("no tar", b"no tar at all".repeat(100)),
        ("empty", Vec::new()),
    ] {
        let path = folder.path().join("bad.tar");
        fs::write(&path, bad).expect("write");
        let result = Delivery::open(&path).and_then(|delivery| {
            let mut content = delivery.unverified_content()?;
            let mut all = Vec::new();
            content.read_to_end(&mut all).map_err(|error| LayoutError::Read("content".to_owned(), error))?;
            // A content that is cut is cut for who opens it.
            assert!((all.len() as u64) < delivery.content().size, "{name} was read");
            Err::<(), _>(LayoutError::Form("cut".to_owned()))
        });
        assert!(result.is_err(), "{name}");
    }
}

/// As people make one by hand: folders in it, and names that begin with `./`.
#[test]
fn a_tar_file_of_anothers_tar_is_read() {
    let folder = tempfile::tempdir().expect("folder");
    let (place, mail) = (folder.path().join("delivery"), folder.path().join("mail.tar"));
    written(&place);
    let tar = Command::new("tar").arg("-cf").arg(&mail).arg("-C").arg(&place).arg(".").status().expect("tar");
    assert!(tar.success());
    opened(&mail, &folder.path().join("opened"));
}

/// Nothing that was changed is put into a tar file, nothing that is there is written over, and it stops when it is to.
#[test]
fn a_tar_file_is_made_whole_or_not_at_all() {
    let folder = tempfile::tempdir().expect("folder");
    let (place, mail) = (folder.path().join("delivery"), folder.path().join("delivery.tar"));
    let (_, written) = written(&place);
    let delivery = Delivery::open(&place).expect("delivery");
    let only = |count: usize| {
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), count, "something was left");
    };
    let stopped = delivery.to_tar(&mail, &true.into()).expect_err("it is to stop");
    assert!(
        matches!(&stopped, LayoutError::Write(_, error) if error.to_string().contains("stopped")),
        "{stopped}"
    );
    only(1);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", &mail).expect("link");
        assert!(matches!(delivery.to_tar(&mail, &Default::default()), Err(LayoutError::Exists(_))));
        fs::remove_file(&mail).expect("remove");
    }
    let content = place.join(written.content.path());
    let mut bytes = fs::read(&content).expect("content");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&content, bytes).expect("write");
    let changed = delivery.to_tar(&mail, &Default::default()).expect_err("it was changed");
    assert!(matches!(changed, LayoutError::Digest { .. }), "{changed}");
    only(1);
}

/// The programs of the page on the format, as a customer would copy them.
fn from_the_page(language: &str) -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/delivery-format.md");
    let page = fs::read_to_string(page).expect("page");
    let (_, rest) = page.split_once(&format!("```{language}\n")).expect("program");
    rest.split_once("\n```").expect("end").0.to_owned()
}

/// Runs a program with the delivery and the data key in base64; gives what it wrote, or nothing when it failed.
fn opened_by(program: &Path, script: &Path, delivery: &Path, key: &str) -> Option<Vec<u8>> {
    let mut child = Command::new(program)
        .args([script, delivery])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask tools`", program.display()));
    let _ = writeln!(child.stdin.take().expect("stdin"), "{key}");
    let output = child.wait_with_output().expect("output");
    output.status.success().then_some(output.stdout)
}

#[test]
fn a_customer_opens_it_without_our_software() {
    let folder = tempfile::tempdir().expect("folder");
    let place = folder.path().join("delivery");
    let (descriptor, written) = written(&place);
    let packed = packed(&files(), &descriptor.contents).expect("packed");
    let right = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";
    let wrong = "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=";
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/python/bin/python");
    for (program, language, name) in
        [(python.as_path(), "python", "open.py"), (Path::new("node"), "js", "open.mjs")]
    {
        let script = folder.path().join(name);
        fs::write(&script, from_the_page(language)).expect("write");
        let opened = opened_by(program, &script, &place, right).expect(name);
        assert!(opened == packed, "{name}");
        assert_eq!(opened_by(program, &script, &place, wrong), None, "{name} with another key");
        assert_eq!(opened_by(program, &script, &place, "AAAA"), None, "{name} with no key");
    }
    // What the key service is asked with, by who has nothing but the bundle.
    let script = folder.path().join("wrapped.py");
    fs::write(&script, from_the_page("py")).expect("write");
    let shown = opened_by(&python, &script, &place, "").expect("wrapped.py");
    let shown = String::from_utf8(shown).expect("text");
    let [key_ref, wrapped_key, context] = shown.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{shown}")
    };
    let keys = Delivery::open(&place).expect("delivery").keys().keys.clone();
    assert_eq!((key_ref, wrapped_key), (&*keys[0].key_ref.to_string(), &*keys[0].wrapped_key));
    fs::write(folder.path().join("context"), context).expect("write");
    let decoded =
        Command::new("base64").arg("-d").arg(folder.path().join("context")).output().expect("base64");
    let expected = Sha256::of(canonical(&descriptor.key_context()));
    assert_eq!(decoded.stdout, expected.as_bytes());
    // Changed, with a digest that fits: the chunk is what tells.
    let path = place.join(format!("blobs/sha256/{}", written.content.digest.0));
    let mut bytes = fs::read(&path).expect("content");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let digest = Sha256::of(&bytes);
    fs::write(place.join(format!("blobs/sha256/{digest}")), &bytes).expect("write");
    let manifest = place.join(format!("blobs/sha256/{}", written.bundle.digest.0));
    let text = fs::read_to_string(&manifest).expect("manifest");
    let text = text.replace(&written.content.digest.0.to_string(), &digest.to_string());
    fs::write(place.join(format!("blobs/sha256/{}", Sha256::of(&text))), &text).expect("write");
    edit(&place, "index.json", &written.bundle.digest.0.to_string(), &Sha256::of(&text).to_string());
    for (program, name) in [(python.as_path(), "open.py"), (Path::new("node"), "open.mjs")] {
        assert_eq!(
            opened_by(program, &folder.path().join(name), &place, right),
            None,
            "{name} with a changed chunk"
        );
    }
}
