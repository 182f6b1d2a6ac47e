//! Deliveries through the real binary: sealed, put on record, opened by their customer, and by nobody else.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    harness::{CLI, Screen, World, files},
    proxy::Fault,
    real_packages::install,
};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// Makes a folder of keys with one key in it.
fn key(world: &World, folder: &str, name: &str, fill: &str) -> PathBuf {
    let folder = world.path(folder);
    fs::create_dir_all(&folder).expect("folder");
    let file = folder.join(format!("{name}.key"));
    fs::write(&file, KEY.replace("00", fill)).expect("write");
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("mode");
    folder
}

/// Builds the package in `folder` with the real binary, and returns the build.
fn build(world: &World, folder: &Path) -> PathBuf {
    let out = folder.with_extension("build");
    let mut command = world.bare(CLI, &["protect-build", "--no-record", "--out"]);
    command.arg(&out).current_dir(folder);
    world.run(command).succeeded();
    out
}

/// A build of the small package of the harness.
fn small(world: &World) -> PathBuf {
    build(world, &world.package("@acme/core", "1.0.0"))
}

/// Returns the vendor's command: the job of run `release`, with its own keys.
fn vendor(world: &World, args: &[&str]) -> Command {
    let mut command = world.github("release", CLI, args);
    command
        .env("PROTECTED_REGISTRY_KEY_FOLDER", world.path("keys"))
        .env("PROTECTED_REGISTRY_ALLOW_LOCAL_KEY", "true");
    command
}

/// Returns the command that seals `artifact` for globex at `out`.
fn deliver(world: &World, artifact: &Path, out: &str, more: &[&str]) -> Command {
    let mut command = vendor(world, &["deliver", "--customer", "globex", "--key-ref", "local-file://globex"]);
    command.arg("--artifact").arg(artifact).args(["--out", out]).args(more);
    command
}

/// Returns the customer's command: keys of their own, no identity, no FractalOps, no project.
fn customer(world: &World, keys: &str, args: &[&str]) -> Command {
    let mut command = world.bare(CLI, args);
    command
        .env_remove("FRACTALOPS_BASE_URL")
        .env_remove("PROTECTED_REGISTRY_PROJECT")
        .env("PROTECTED_REGISTRY_KEY_FOLDER", world.path(keys));
    command
}

fn open(world: &World, keys: &str, bundle: &str, out: &str) -> Screen {
    world.run(customer(world, keys, &["open-bundle", bundle, "--out", out]))
}

/// What a failed command may not leave: anything that begins with a dot, and what was to be made.
fn nothing_left(world: &World, out: &str) {
    let left: Vec<String> = fs::read_dir(world.path("work"))
        .expect("work")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with('.') || name == out)
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON")
}

/// Copies a folder, so that a test can change it.
fn copy(world: &World, from: &str, to: &str) -> PathBuf {
    let mut cp = world.bare("cp", &["-r", from, to]);
    cp.current_dir(world.path("work"));
    world.run(cp).succeeded();
    world.path("work").join(to)
}

/// The sealed content of a bundle: its largest file.
fn content(bundle: &Path) -> PathBuf {
    let blobs = files(&bundle.join("blobs"));
    blobs.into_iter().max_by_key(|path| fs::metadata(path).expect("metadata").len()).expect("a blob")
}

#[test]
fn a_real_package_reaches_its_customer_and_nobody_else() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    key(&world, "initech", "globex", "ff");
    let folder = world.path("work/real");
    fs::create_dir(&folder).expect("folder");
    fs::write(folder.join("package.json"), "{\"private\": true}").expect("write");
    install(&world, &folder, &["semver@7.7.2"]);
    let package = folder.join("semver");
    fs::rename(folder.join("node_modules/semver"), &package).expect("rename");
    let manifest = package.join("package.json");
    let renamed = fs::read_to_string(&manifest).expect("read").replacen("\"semver\"", "\"@acme/core\"", 1);
    fs::write(&manifest, renamed).expect("write");
    let built = build(&world, &package);

    let screen = world.run(deliver(&world, &built, "sealed", &["--format", "json"]));
    let told: Value = serde_json::from_str(&screen.succeeded().stdout).expect("JSON");
    let id = told["bundle_id"].as_str().expect("id");
    assert_eq!(world.output("bundle-id").as_deref(), Some(id));
    let place = world.path("work/sealed/delivery-manifest.json");
    assert_eq!(world.output("bundle-manifest").as_deref(), place.to_str());
    assert!(world.summary().contains("@acme/core@7.7.2 for globex"), "{}", world.summary());
    let manifest = json(&place);
    assert_eq!(
        (&manifest["tenant_id"], &manifest["key_ref"]),
        (&"acme".into(), &"local-file://globex".into())
    );
    assert_eq!(manifest["protection"]["obfuscated"], true);
    let kinds: Vec<&str> = manifest["evidence"]
        .as_array()
        .expect("evidence")
        .iter()
        .filter_map(|it| it["type"].as_str())
        .collect();
    assert_eq!(kinds, ["protected-build", "integrity-manifest", "provenance", "sbom", "sbom"]);
    // FractalOps has exactly this manifest, as evidence too, and an audit event of it.
    let recorded = world.operator_get(&format!("/v1/packages/delivery/bundles/{id}"));
    assert_eq!(recorded["manifest"], manifest);
    assert_eq!(recorded["evidence"][0]["type"], "delivery-manifest");
    assert_eq!(world.count("bundle.create", "allow", Some("7.7.2")), 1);
    // No key stands anywhere but in its own folder, and no source map in the bundle's list.
    for path in files(&world.path("work")) {
        let bytes = fs::read(&path).expect("read");
        assert!(!String::from_utf8_lossy(&bytes).contains(KEY), "{}", path.display());
    }
    assert!(!manifest["contents"].to_string().contains(".map"));

    let opened = open(&world, "keys", "sealed", "opened");
    opened.succeeded();
    for word in ["@acme/core@7.7.2 for globex, from example of acme", id, "evidence/sbom.cdx.json"] {
        assert!(opened.stderr.contains(word), "{word}\n{opened}");
    }
    let opened = world.path("work/opened");
    let mut seen = 0;
    for file in files(&opened) {
        let original = built.join(file.strip_prefix(&opened).expect("below"));
        assert_eq!(fs::read(&file).expect("read"), fs::read(&original).expect("read"), "{}", file.display());
        seen += 1;
    }
    assert_eq!(seen, 6);
    assert!(opened.join("acme-core-7.7.2.tgz").is_file());
    // What the customer got verifies as a build.
    world.run(customer(&world, "keys", &["verify", "opened"])).succeeded();

    open(&world, "initech", "sealed", "theirs").failed(4, &["does not open this data key"]);
    open(&world, "nobody", "sealed", "theirs").failed(2, &["cannot be read from"]);
    nothing_left(&world, "theirs");
    open(&world, "keys", "sealed", "opened").failed(2, &["is there already"]);
    // In CI a key in a file is refused unless it is asked for.
    let mut command = deliver(&world, &built, "again", &[]);
    command.env_remove("PROTECTED_REGISTRY_ALLOW_LOCAL_KEY");
    world.run(command).failed(2, &["which is refused in CI"]);
    nothing_left(&world, "again");
}

#[test]
fn what_was_changed_is_not_opened() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    let built = small(&world);
    world.run(deliver(&world, &built, "sealed", &[])).succeeded();
    world.run(deliver(&world, &built, "other", &[])).succeeded();
    let bundle = world.path("work/sealed/bundle");
    let mut changed = 0;
    for file in files(&bundle) {
        let relative = file.strip_prefix(&bundle).expect("below").to_owned();
        let text = String::from_utf8_lossy(&fs::read(&file).expect("read")).into_owned();
        let size = fs::metadata(&file).expect("metadata").len() as usize;
        // The names in the index are those of whoever copies it: what counts there are the digests.
        let places = match relative.to_str() {
            Some("index.json") => {
                [0, text.find("sha256:").expect("digest") + 20, text.rfind("sha256:").expect("digest") + 20]
            }
            _ => [0, size / 2, size - 1],
        };
        for at in places {
            let copied = copy(&world, "sealed/bundle", "changed");
            let place = copied.join(&relative);
            let mut bytes = fs::read(&place).expect("read");
            bytes[at] ^= 1;
            fs::write(&place, bytes).expect("write");
            let screen = open(&world, "keys", "changed", "opened");
            assert!([4, 7].contains(&screen.code), "{} at {at}\n{screen}", relative.display());
            nothing_left(&world, "opened");
            fs::remove_dir_all(&copied).expect("remove");
            changed += 1;
        }
    }
    assert_eq!(changed, 24, "files of the layout, three places each");

    // Cut at a chunk, in a chunk, and to nothing; and longer than it was.
    let sealed = fs::read(content(&bundle)).expect("read");
    for length in [0, 40, 56, sealed.len() / 2, sealed.len() - 1] {
        let copied = copy(&world, "sealed/bundle", "cut");
        fs::write(content(&copied), &sealed[..length]).expect("write");
        open(&world, "keys", "cut", "opened").failed(7, &[]);
        fs::remove_dir_all(&copied).expect("remove");
    }
    let copied = copy(&world, "sealed/bundle", "longer");
    fs::write(content(&copied), [sealed.as_slice(), b"more"].concat()).expect("write");
    open(&world, "keys", "longer", "opened").failed(7, &["bytes"]);

    // Keys of another delivery, under the same key.
    let mixed = copy(&world, "sealed/bundle", "mixed");
    for file in files(&world.path("work/other/bundle/blobs")) {
        fs::copy(&file, mixed.join("blobs/sha256").join(file.file_name().expect("name"))).expect("copy");
    }
    let (mut index, other) =
        (json(&mixed.join("index.json")), json(&world.path("work/other/bundle/index.json")));
    index["manifests"][1] = other["manifests"][1].clone();
    fs::write(mixed.join("index.json"), index.to_string()).expect("write");
    open(&world, "keys", "mixed", "opened").failed(7, &["its keys are those of another bundle"]);
    // The bundle of another delivery with these keys.
    index["manifests"][0] = other["manifests"][0].clone();
    index["manifests"][1] = json(&bundle.join("index.json"))["manifests"][1].clone();
    fs::write(mixed.join("index.json"), index.to_string()).expect("write");
    open(&world, "keys", "mixed", "opened").failed(7, &["its keys are those of another bundle"]);
    nothing_left(&world, "opened");

    open(&world, "keys", "nowhere", "opened").failed(2, &["there is no delivery at"]);
    open(&world, "keys", "acme-core-1.0.0", "opened").failed(2, &["holds no delivery"]);
    open(&world, "keys", "acme-core-1.0.0/package.json", "opened").failed(7, &["no tar file"]);
    nothing_left(&world, "opened");
    // And the delivery itself still opens, as one file too.
    world.run(deliver(&world, &built, "file", &["--one-file"])).succeeded();
    assert!(!world.path("work/file/bundle").exists());
    open(&world, "keys", "file/bundle.tar", "opened").succeeded();
    open(&world, "keys", "sealed/bundle", "opened-too").succeeded();
}

#[test]
fn the_same_command_again_changes_nothing() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    key(&world, "keys", "other", "ff");
    let built = small(&world);
    let first = world.run(deliver(&world, &built, "sealed", &[]));
    first.succeeded();
    let before = fs::read(world.path("work/sealed/delivery-manifest.json")).expect("read");
    let again = world.run(deliver(&world, &built, "sealed", &[]));
    assert_eq!(again.succeeded().stdout, first.stdout);
    assert_eq!(fs::read(world.path("work/sealed/delivery-manifest.json")).expect("read"), before);
    assert_eq!(world.count("bundle.create", "allow", None), 1);
    let manifest = world.path("work/sealed/delivery-manifest.json");
    let submit = ["submit-bundle", "--manifest", manifest.to_str().expect("path")];
    world.run(vendor(&world, &submit)).succeeded();
    assert_eq!(world.count("bundle.create", "allow", None), 1);

    // What is there is another delivery than the one that is asked for.
    for (more, word) in [
        (&["--customer", "initech"] as &[&str], "the customer `initech`"),
        (&["--key-ref", "local-file://other"], "the key `local-file://other`"),
        (&["--bundle-id", "another"], "the bundle id `another`"),
        (&["--evidence", "acme-core-1.0.0/package.json"], "its files are others"),
    ] {
        let mut command =
            vendor(&world, &["deliver", "--out", "sealed", "--artifact", built.to_str().expect("path")]);
        if !more.contains(&"--customer") {
            command.args(["--customer", "globex"]);
        }
        if !more.contains(&"--key-ref") {
            command.args(["--key-ref", "local-file://globex"]);
        }
        world
            .run({
                command.args(more);
                command
            })
            .failed(6, &["holds another delivery", word]);
    }
    // Other content under a name that is taken.
    let id = first.stdout.lines().last().expect("id").to_owned();
    let screen = world.run(deliver(&world, &built, "second", &["--bundle-id", &id]));
    screen.failed(6, &["is on record with other content"]);
    assert!(world.path("work/second/bundle").is_dir(), "sealed, and not on record");
}

#[test]
fn a_delivery_that_is_not_yet_on_record_is_finished_later() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    let built = small(&world);
    world.proxy.decide(|_, target, _| {
        if target.contains("delivery/bundles") {
            Fault::Say(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        } else {
            Fault::None
        }
    });
    let screen = world.run(deliver(&world, &built, "sealed", &[]));
    screen.failed(1, &["the same command again, or `submit-bundle`"]);
    let id = world.output("bundle-id").expect("id");
    assert_eq!(world.count("bundle.create", "allow", None), 0);
    // Its own customer can open it all the same.
    open(&world, "keys", "sealed", "opened").succeeded();
    // The answer is lost once: what was recorded is not recorded twice.
    world.proxy.decide(|_, target, number| {
        if target.contains("delivery/bundles") && number == 0 { Fault::LoseAnswer } else { Fault::None }
    });
    world.run(deliver(&world, &built, "sealed", &[])).succeeded();
    assert_eq!(world.output("bundle-id"), Some(id));
    assert_eq!(world.count("bundle.create", "allow", None), 1);
}
