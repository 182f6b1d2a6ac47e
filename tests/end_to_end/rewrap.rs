//! Keys that are wrapped anew in a bundle that is one file: it is whole at every moment, whatever happens meanwhile.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use protected_bundle::layout::Delivery;
use serde_json::json;

use crate::{
    deliver::{begun, content, customer, deliver, key, large, nothing_left, open, read_json, small, staged},
    harness::{Screen, World, files},
};

/// Runs `rewrap`, with the `new` key if one is named.
fn rewrap(world: &World, bundle: &str, new: Option<&str>) -> Screen {
    world.run(rewrapping(world, bundle, new))
}

fn rewrapping(world: &World, bundle: &str, new: Option<&str>) -> Command {
    let by_hand = ["rewrap", bundle, "--sign", "off", "--accept-unproven"];
    let mut command = customer(world, "keys", &by_hand);
    if let Some(new) = new {
        command.args(["--key-ref", &format!("local-file://{new}")]);
    }
    command
}

/// A delivery in one file at `sealed/bundle.tar`, under the key `globex`; there is a key `new` too.
fn sealed(world: &World, artifact: &Path, more: &[&str]) -> PathBuf {
    key(world, "keys", "globex", "00");
    key(world, "keys", "new", "ff");
    world.run(deliver(world, artifact, "sealed", &[&["--one-file"], more].concat())).succeeded();
    world.path("work/sealed/bundle.tar")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("metadata").permissions().mode() & 0o777
}

#[test]
fn a_bundle_of_one_file_is_rewrapped_in_its_place() {
    let world = World::new();
    let tar = sealed(&world, &small(&world), &[]);
    assert_eq!(mode(&tar), 0o644, "as public as the manifest beside it");
    let before = Delivery::open(&tar).expect("delivery");
    fs::set_permissions(&tar, fs::Permissions::from_mode(0o640)).expect("mode");
    let screen = rewrap(&world, "sealed", Some("new"));
    let digest = before.bundle().digest.to_string();
    assert!(screen.succeeded().stderr.contains(&format!("content   unchanged: {digest}")), "{screen}");
    assert!(screen.stdout.ends_with(&format!("{digest}\n")), "{screen}");
    let after = Delivery::open(&tar).expect("delivery");
    assert_eq!((after.bundle(), after.content()), (before.bundle(), before.content()));
    assert_ne!(after.manifests().keys, before.manifests().keys);
    assert_eq!(after.keys().keys[0].key_ref.to_string(), "local-file://new");
    assert_eq!(mode(&tar), 0o640, "the permissions that it had");
    // Nothing of the former keys is in it, nor anything beside it that was not there.
    let bytes = String::from_utf8_lossy(&fs::read(&tar).expect("read")).into_owned();
    assert!(!bytes.contains(&before.keys().keys[0].wrapped_key), "the former key");
    assert_eq!(files(&world.path("work/sealed")).len(), 2);
    world.run(customer(&world, "nobody", &["verify", "sealed"])).succeeded();
    fs::remove_file(world.path("keys/globex.key")).expect("remove");
    open(&world, "keys", "sealed", "opened").succeeded();

    // The file itself, and not the link that names it; and once more with the same key.
    symlink(&tar, world.path("work/link.tar")).expect("link");
    rewrap(&world, "link.tar", None).succeeded();
    assert!(world.path("work/link.tar").symlink_metadata().expect("link").is_symlink());
    open(&world, "keys", "link.tar", "again").succeeded();

    // A key that is not there, and no delivery: the file stays.
    let bytes = fs::read(&tar).expect("read");
    rewrap(&world, "sealed", Some("absent")).failed(2, &["local-file://absent"]);
    fs::rename(world.path("keys/new.key"), world.path("keys/other.key")).expect("rename");
    rewrap(&world, "sealed/bundle.tar", None).failed(2, &["local-file://new"]);
    assert!(fs::read(&tar).expect("read") == bytes);
    nothing_left(&world, "nothing");
}

/// Attack: a manifest of another name, by which a delivery is wrapped anew, and the one that is on record is written over.
#[test]
fn the_manifest_that_is_named_is_the_one_that_is_written() {
    let world = World::new();
    sealed(&world, &small(&world), &[]);
    let place = |name: &str| world.path(&format!("work/sealed/{name}"));
    let before = fs::read(place("delivery-manifest.json")).expect("read");
    fs::copy(place("delivery-manifest.json"), place("other.json")).expect("copy");
    rewrap(&world, "sealed/other.json", None).succeeded();
    assert!(fs::read(place("delivery-manifest.json")).expect("read") == before, "another was written over");
    assert!(fs::read(place("other.json")).expect("read") != before);
}

/// Attack: a manifest of another delivery beside this one, which would get its wrapping and be put on record.
#[test]
fn a_manifest_of_another_delivery_is_not_written() {
    let world = World::new();
    sealed(&world, &small(&world), &[]);
    let place = world.path("work/sealed/delivery-manifest.json");
    let mut other = read_json(&place);
    other["customer_slug"] = json!("initech");
    other["key_provider"]["context"]["customer_slug"] = json!("initech");
    fs::write(&place, other.to_string()).expect("write");
    let screen = rewrap(&world, "sealed", None);
    assert!(!screen.succeeded().stderr.contains("has the new wrapping"), "{screen}");
    assert_eq!(read_json(&place), other);
}

#[test]
fn a_content_that_was_changed_is_not_rewrapped() {
    let world = World::new();
    let built = small(&world);
    let tar = sealed(&world, &built, &[]);
    world.run(deliver(&world, &built, "folder", &[])).succeeded();
    let (content, at_in_tar) = (content(&world.path("work/folder/bundle")), middle_of_the_content(&tar));
    let at = usize::try_from(fs::metadata(&content).expect("content").len() / 2).expect("a place");
    for (bundle, file, at) in [("sealed", tar, at_in_tar), ("folder", content, at)] {
        let good = fs::read(&file).expect("read");
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(&file, &bytes).expect("write");
        rewrap(&world, bundle, None).failed(7, &["blobs/sha256/", "where sha256:"]);
        assert!(fs::read(&file).expect("read") == bytes, "{bundle}");
        fs::write(&file, &good).expect("write");
        rewrap(&world, bundle, None).succeeded();
    }
    nothing_left(&world, "nothing");
}

/// Where in a tar file the middle of the sealed content is.
fn middle_of_the_content(file: &Path) -> usize {
    let content = Delivery::open(file).expect("delivery").content().path();
    let mut archive = tar::Archive::new(fs::File::open(file).expect("tar"));
    let places = archive.entries().expect("entries").filter_map(|entry| {
        let entry = entry.expect("entry");
        (entry.path_bytes() == content.as_bytes()).then(|| entry.raw_file_position() + entry.size() / 2)
    });
    usize::try_from(places.last().expect("the content")).expect("a place")
}

#[test]
fn a_kill_and_a_signal_leave_the_file_as_it_was() {
    let world = World::new();
    let file = large(&world, "app.bin", 96);
    let tar = sealed(&world, &file, &["@acme/core", "--version", "1.0.0"]);
    let bytes = fs::read(&tar).expect("read");
    let inode = |path: &Path| fs::metadata(path).expect("metadata").ino();
    let before = inode(&tar);
    let (folder, moved) = (world.path("work/sealed"), world.path("work/bundle.tar"));
    fs::rename(&tar, &moved).expect("rename");
    for _ in 0..2 {
        let mut child = begun(&world, rewrapping(&world, "bundle.tar", Some("new")));
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert!(inode(&moved) == before && fs::read(&moved).expect("read") == bytes);
    }
    assert!(!staged(&world).is_empty(), "what was killed left what it had");
    let mut child = begun(&world, rewrapping(&world, "bundle.tar", Some("new")));
    let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill");
    assert!(kill.success());
    assert_eq!(child.wait().expect("wait").code(), Some(143));
    assert!(staged(&world).is_empty(), "swept, and nothing left of its own");
    assert!(inode(&moved) == before && fs::read(&moved).expect("read") == bytes);
    rewrap(&world, "bundle.tar", Some("new")).succeeded();
    assert!(staged(&world).is_empty() && inode(&moved) != before);
    fs::rename(&moved, folder.join("bundle.tar")).expect("rename");
    open(&world, "keys", "sealed", "opened").succeeded();
    assert!(fs::read(world.path("work/opened/app.bin")).expect("read") == fs::read(&file).expect("read"));
    // The world looks for tokens in every file, letter by letter.
    fs::remove_dir_all(world.path("work")).expect("remove");
}

/// Returns a command that has no right that the folders do not give: root writes where nobody may.
fn without_rights(world: &World, mut command: Command) -> Command {
    const NOBODY: u32 = 65534;
    if fs::metadata("/proc/self").expect("self").uid() != 0 {
        return command;
    }
    fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o755)).expect("mode");
    for file in files(&world.path("keys")).into_iter().chain([world.path("keys")]) {
        chown(file, Some(NOBODY), None).expect("owner");
    }
    std::os::unix::process::CommandExt::uid(&mut command, NOBODY);
    command
}

#[test]
fn a_folder_that_cannot_be_written_is_told_and_the_bundle_stays() {
    let world = World::new();
    let built = small(&world);
    let tar = sealed(&world, &built, &[]);
    world.run(deliver(&world, &built, "folder", &[])).succeeded();
    let bytes = fs::read(&tar).expect("read");
    let read_only = fs::Permissions::from_mode(0o555);
    for folder in ["sealed", "folder/bundle", "folder/bundle/blobs/sha256"] {
        fs::set_permissions(world.path(&format!("work/{folder}")), read_only.clone()).expect("mode");
    }
    let index = fs::read(world.path("work/folder/bundle/index.json")).expect("read");
    for bundle in ["sealed", "folder"] {
        let screen = world.run(without_rights(&world, rewrapping(&world, bundle, Some("new"))));
        screen.failed(1, &["cannot be written", "Permission denied", bundle]);
    }
    assert!(fs::read(&tar).expect("read") == bytes);
    assert!(fs::read(world.path("work/folder/bundle/index.json")).expect("read") == index);
    let writable = fs::Permissions::from_mode(0o755);
    for folder in ["sealed", "folder/bundle", "folder/bundle/blobs/sha256"] {
        fs::set_permissions(world.path(&format!("work/{folder}")), writable.clone()).expect("mode");
    }
    open(&world, "keys", "sealed", "opened").succeeded();
}
