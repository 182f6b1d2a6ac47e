//! A delivery area in a folder.

use std::{fs, os::unix::fs::symlink, path::Path, sync::Mutex, time::SystemTime};

use protected_bundle::layout::Delivery;
use protected_model::digest::Sha256;
use protected_storage::{Address, Area, AreaRef, Progress, StorageError};

use crate::{
    connect, digest, fetch, holds_signatures,
    sample::{BUNDLE, bundle, content, copy, layout, layout_of, names, rewrap, same, unwatched},
    told,
};

fn area(folder: &Path) -> Area {
    connect(&AreaRef::Folder(folder.to_owned()), &[]).expect("area")
}

#[tokio::test]
async fn a_delivery_is_stored_once_and_comes_back_as_it_was() {
    let (folder, place) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    let size = (3 << 20) + 5;
    let layout = layout(&folder.path().join("sealed"), size, 1);
    let area = area(place.path());
    let seen = Mutex::new(Vec::new());
    let watch = |progress: Progress| seen.lock().expect("seen").push(progress);
    let stored = area.store(&layout, &watch).await.expect("stored");
    assert_eq!(stored.delivery.to_string(), format!("{}/{BUNDLE}", place.path().display()));
    assert_eq!(stored.delivery.uri(), None, "the path of one machine stands in no manifest");
    assert_eq!((stored.sent, stored.already_there), (8, 0));
    let seen = seen.into_inner().expect("seen");
    assert!(seen.is_sorted_by_key(|progress| progress.done), "{seen:?}");
    assert!(seen.iter().all(|progress| progress.total == seen[0].total && progress.total > size));
    assert_eq!(seen.last().map(|last| last.done), seen.last().map(|last| last.total));
    same(&layout, &place.path().join(BUNDLE));
    let before = names(place.path());
    let again = area.store(&layout, &unwatched).await.expect("stored again");
    assert_eq!(again.delivery, stored.delivery);
    assert_eq!((again.sent, again.already_there, again.bytes), (0, 8, 0));
    assert_eq!(names(place.path()), before);
    let to = folder.path().join("fetched");
    fetch(&area, &to).await.expect("fetched");
    same(&layout, &to);
    assert_eq!(names(folder.path()).iter().filter(|name| name.starts_with('.')).count(), 0);
    // A tar file of it is the same delivery.
    let tar = folder.path().join("sealed.tar");
    Delivery::open(&layout).expect("delivery").to_tar(&tar, &Default::default()).expect("tar");
    assert_eq!(area.store(&tar, &unwatched).await.expect("stored again").sent, 0);
}

#[tokio::test]
async fn what_was_interrupted_goes_on_where_it_was() {
    let (folder, place) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    let layout = layout(&folder.path().join("sealed"), 1 << 20, 1);
    let whole = area(place.path()).store(&layout, &unwatched).await.expect("stored");
    let there = names(place.path());
    for missing in &there {
        let half = tempfile::tempdir().expect("folder");
        copy(&place.path().join(BUNDLE), &half.path().join(BUNDLE));
        fs::remove_file(half.path().join(missing)).expect("removed");
        let stored = area(half.path()).store(&layout, &unwatched).await.expect("stored");
        assert_eq!((stored.sent, stored.already_there), (1, 7), "{missing}");
        assert_eq!(names(half.path()), there);
    }
    // Nobody finds a delivery before its last file is there.
    fs::remove_file(place.path().join(BUNDLE).join("index.json")).expect("removed");
    let error = fetch(&area(place.path()), &folder.path().join("fetched")).await.expect_err("half");
    assert!(matches!(error, StorageError::NoDelivery(_)), "{error:?}");
    assert_eq!(whole.sent, 8);
}

#[tokio::test]
async fn what_a_killed_process_left_is_swept_and_what_is_being_written_is_not() {
    let (folder, place) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    let layout = layout(&folder.path().join("sealed"), 1000, 1);
    let blobs = place.path().join(BUNDLE).join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("folder");
    let file = |name: &str, at: SystemTime| {
        let file = fs::File::create(blobs.join(name)).expect("file");
        file.set_modified(at).expect("time");
        file
    };
    file(".new-left", SystemTime::UNIX_EPOCH);
    file(".new-young", SystemTime::now());
    file("other", SystemTime::UNIX_EPOCH);
    let written = file(".new-written", SystemTime::UNIX_EPOCH);
    written.lock().expect("lock");
    area(place.path()).store(&layout, &unwatched).await.expect("stored");
    let mut left = names(&blobs);
    left.retain(|name| name.parse::<Sha256>().is_err());
    assert_eq!(left, [".new-written", ".new-young", "other"]);
}

#[tokio::test]
async fn another_delivery_of_the_name_is_refused_and_nothing_changes() {
    let (folder, place) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    let one = layout(&folder.path().join("one"), 1000, 1);
    let other = layout(&folder.path().join("other"), 1000, 2);
    let area = area(place.path());
    area.store(&one, &unwatched).await.expect("stored");
    let before = names(place.path());
    let error = area.store(&other, &unwatched).await.expect_err("refused");
    let (found, expected) = (digest(&one), digest(&other));
    assert_eq!(
        told(&error),
        format!(
            "`{}/{BUNDLE}` is another delivery: it is {found}, where {expected} was expected\n\
             to store it, give the delivery a bundle id of its own; to open it, ask whoever delivered it which one is meant",
            place.path().display()
        )
    );
    assert_eq!(names(place.path()), before);
    // Nor is it fetched for the one that the manifest names.
    let to = folder.path().join("fetched");
    let address = Address::Bundle(bundle());
    let error = area.fetch(&address, Some(&expected.0), &to, &unwatched).await.expect_err("refused");
    assert!(matches!(error, StorageError::OtherDelivery { .. }), "{error:?}");
    area.fetch(&address, Some(&found.0), &to, &unwatched).await.expect("fetched");
    let error = fetch(&area, &to).await.expect_err("taken");
    assert_eq!(error.to_string(), format!("`{}` is there already", to.display()));
}

#[tokio::test]
async fn of_two_publishers_of_one_name_one_wins_and_the_other_is_told() {
    let folder = tempfile::tempdir().expect("folder");
    let one = layout(&folder.path().join("one"), 200_000, 1);
    let other = layout(&folder.path().join("other"), 200_000, 2);
    for _ in 0..8 {
        let place = tempfile::tempdir().expect("folder");
        let (first, second) = (area(place.path()), area(place.path()));
        let (first, second) = tokio::join!(first.store(&one, &unwatched), second.store(&other, &unwatched));
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        let won = if first.is_ok() { &one } else { &other };
        let error = first.err().or(second.err()).expect("refused");
        assert!(matches!(error, StorageError::OtherDelivery { .. }), "{error:?}");
        same(won, &place.path().join(BUNDLE));
    }
    // Of the same delivery both are right.
    let place = tempfile::tempdir().expect("folder");
    let (first, second) = (area(place.path()), area(place.path()));
    let (first, second) = tokio::join!(first.store(&one, &unwatched), second.store(&one, &unwatched));
    first.expect("stored");
    second.expect("stored");
    same(&one, &place.path().join(BUNDLE));
}

#[tokio::test]
async fn keys_are_replaced_where_they_are_still_those_that_were_read() {
    let (folder, place) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    let layout = layout(&folder.path().join("sealed"), 100_000, 1);
    let area = area(place.path());
    area.store(&layout, &unwatched).await.expect("stored");
    let (one, other) = (copy(&layout, &folder.path().join("a")), copy(&layout, &folder.path().join("b")));
    let read = rewrap(&one, 2);
    assert_eq!(read, rewrap(&other, 3));
    // Two of them at once: one wins.
    let (first, second) = tokio::join!(area.replace_keys(&one, &read), area.replace_keys(&other, &read));
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    let won = if first.is_ok() { &one } else { &other };
    let error = first.err().or(second.err()).expect("refused");
    assert!(matches!(error, StorageError::OtherKeys { .. }), "{error:?}");
    same(won, &place.path().join(BUNDLE));
    let again = area.replace_keys(won, &read).await.expect("repeated");
    assert_eq!(again.sent, 0);
    // What was sealed at first is not stored over them.
    let error = area.store(&layout, &unwatched).await.expect_err("refused");
    assert!(told(&error).contains("has the keys"), "{}", told(&error));
    let to = folder.path().join("fetched");
    fetch(&area, &to).await.expect("fetched");
    same(won, &to);
    holds_signatures(&area, folder.path()).await;

    // Of a delivery that is not there, or is another one, none are replaced.
    let elsewhere = layout_of(&folder.path().join("elsewhere"), "elsewhere", 10, 1);
    let error = area.replace_keys(&elsewhere, &read).await.expect_err("refused");
    assert!(matches!(error, StorageError::NoDelivery(_)), "{error:?}");
    let twin = crate::sample::layout(&folder.path().join("twin"), 10, 9);
    let error = area.replace_keys(&twin, &read).await.expect_err("refused");
    assert!(matches!(error, StorageError::OtherDelivery { .. }), "{error:?}");
}

#[tokio::test]
async fn what_was_changed_in_the_area_does_not_come_back() {
    let (folder, origin) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    let layout = layout(&folder.path().join("sealed"), 100_000, 1);
    area(origin.path()).store(&layout, &unwatched).await.expect("stored");
    type Change = fn(&Path);
    let changes: &[(&str, Change, &str)] = &[
        (
            "cut off",
            |at| {
                fs::File::options().write(true).open(content(at)).expect("file").set_len(99_999).expect("cut")
            },
            "99999 bytes, where 100000 bytes was expected",
        ),
        (
            "longer",
            |at| {
                fs::File::options()
                    .write(true)
                    .open(content(at))
                    .expect("file")
                    .set_len(100_001)
                    .expect("longer")
            },
            "has more, where 100000 bytes was expected",
        ),
        (
            "without end",
            |at| {
                fs::File::options()
                    .write(true)
                    .open(content(at))
                    .expect("file")
                    .set_len(1 << 40)
                    .expect("longer");
            },
            "has more, where 100000 bytes was expected",
        ),
        (
            "another byte",
            |at| {
                let mut bytes = fs::read(content(at)).expect("content");
                bytes[50_000] ^= 1;
                fs::write(content(at), bytes).expect("content");
            },
            "where sha256:",
        ),
        ("gone", |at| fs::remove_file(content(at)).expect("removed"), "cannot be read"),
        (
            "a link",
            |at| {
                let content = content(at);
                fs::rename(&content, at.join("aside")).expect("moved");
                symlink(at.join("aside"), content).expect("link");
            },
            "it is no file",
        ),
        (
            "an index without end",
            |at| {
                fs::File::options()
                    .write(true)
                    .open(at.join("index.json"))
                    .expect("file")
                    .set_len(1 << 40)
                    .expect("longer");
            },
            "`index.json` of",
        ),
        (
            "no index",
            |at| fs::write(at.join("index.json"), "{").expect("index"),
            "`index.json` cannot be read",
        ),
        (
            "a manifest of a terabyte",
            |at| {
                let index = fs::read_to_string(at.join("index.json")).expect("index");
                let size = Delivery::open(at).expect("delivery").bundle().size;
                let index = index.replace(&format!("\"size\":{size}"), "\"size\":1099511627776");
                fs::write(at.join("index.json"), index).expect("index");
            },
            "1099511627776 bytes, where at most 8388608 bytes was expected",
        ),
        (
            "the delivery's folder is a link",
            |at| {
                let aside = at.with_file_name("aside");
                fs::rename(at, &aside).expect("moved");
                symlink(aside, at).expect("link");
            },
            "it is no folder",
        ),
    ];
    for (what, change, expected) in changes {
        let place = tempfile::tempdir().expect("folder");
        let at = copy(&origin.path().join(BUNDLE), &place.path().join(BUNDLE));
        change(&at);
        let into = tempfile::tempdir().expect("folder");
        let error = fetch(&area(place.path()), &into.path().join("fetched")).await.expect_err(what);
        assert!(told(&error).contains(expected), "{what}: {}", told(&error));
        assert_eq!(names(into.path()), [""; 0], "{what}: nothing is left behind");
    }
}

#[tokio::test]
async fn a_blob_of_another_size_is_put_right() {
    let (folder, place) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    let layout = layout(&folder.path().join("sealed"), 100_000, 1);
    let area = area(place.path());
    area.store(&layout, &unwatched).await.expect("stored");
    let there = content(&place.path().join(BUNDLE));
    fs::File::options().write(true).open(&there).expect("file").set_len(77).expect("cut");
    let stored = area.store(&layout, &unwatched).await.expect("stored");
    assert_eq!((stored.sent, stored.bytes), (1, 100_000));
    same(&layout, &place.path().join(BUNDLE));
}

#[tokio::test]
async fn a_layout_whose_content_is_another_is_not_stored() {
    let (folder, place) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    let layout = layout(&folder.path().join("sealed"), 100_000, 1);
    let at = content(&layout);
    let mut bytes = fs::read(&at).expect("content");
    bytes[99_999] ^= 1;
    fs::write(&at, bytes).expect("content");
    let error = area(place.path()).store(&layout, &unwatched).await.expect_err("refused");
    assert!(matches!(error, StorageError::Layout(_)), "{error:?}");
    let left = names(place.path());
    assert!(!left.iter().any(|name| name.ends_with("index.json")), "{left:?}");
    assert!(!left.iter().any(|name| name.contains(".new-")), "{left:?}");
    assert!(!left.iter().any(|name| Path::new(name).file_name() == at.file_name()), "{left:?}");
}

#[tokio::test]
async fn an_area_that_is_not_there_is_not_made() {
    let folder = tempfile::tempdir().expect("folder");
    let layout = layout(&folder.path().join("sealed"), 1000, 1);
    let missing = folder.path().join("missing");
    for error in [
        area(&missing).store(&layout, &unwatched).await.map(|_| ()).expect_err("store"),
        fetch(&area(&missing), &folder.path().join("fetched")).await.expect_err("fetch"),
    ] {
        assert_eq!(
            told(&error),
            format!(
                "the delivery area `{}` is not there\n\
                 create the folder, or mount it: a delivery area is not made by a delivery",
                missing.display()
            )
        );
    }
    assert!(!missing.exists());
}
