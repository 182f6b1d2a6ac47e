//! Deliveries through the real binary: sealed, put on record, opened by their customer, and by nobody else.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    harness::{CLI, Screen, World, files},
    openbao::Bao,
    proxy::Fault,
    real_packages::install,
};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// Makes a folder of keys with one key in it.
pub(crate) fn key(world: &World, folder: &str, name: &str, fill: &str) -> PathBuf {
    let folder = world.path(folder);
    fs::create_dir_all(&folder).expect("folder");
    let file = folder.join(format!("{name}.key"));
    fs::write(&file, KEY.replace("00", fill)).expect("write");
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("mode");
    folder
}

/// Builds the package in `folder` with the real binary, and returns the build.
pub(crate) fn build(world: &World, folder: &Path) -> PathBuf {
    let out = folder.with_extension("build");
    let mut command = world.bare(CLI, &["protect-build", "--no-record", "--out"]);
    command.arg(&out).current_dir(folder);
    world.run(command).succeeded();
    out
}

/// A build of the small package of the harness.
pub(crate) fn small(world: &World) -> PathBuf {
    build(world, &world.package("@acme/core", "1.0.0"))
}

/// Returns the vendor's command: the job of run `release`, with its own keys.
pub(crate) fn vendor(world: &World, args: &[&str]) -> Command {
    let mut command = world.github("release", CLI, args);
    command
        .env("PROTECTED_REGISTRY_KEY_FOLDER", world.path("keys"))
        .env("PROTECTED_REGISTRY_ALLOW_LOCAL_KEY", "true");
    command
}

/// Returns the command that seals `artifact` for globex at `out`.
pub(crate) fn deliver(world: &World, artifact: &Path, out: &str, more: &[&str]) -> Command {
    let mut command = vendor(world, &["deliver", "--customer", "globex", "--key-ref", "local-file://globex"]);
    command.arg("--artifact").arg(artifact).args(["--out", out]).args(more);
    command
}

/// Returns the customer's command: keys of their own, no identity, no FractalOps, no project.
pub(crate) fn customer(world: &World, keys: &str, args: &[&str]) -> Command {
    let mut command = world.bare(CLI, args);
    command
        .env_remove("FRACTALOPS_BASE_URL")
        .env_remove("PROTECTED_REGISTRY_PROJECT")
        .env("PROTECTED_REGISTRY_KEY_FOLDER", world.path(keys));
    command
}

pub(crate) fn open(world: &World, keys: &str, bundle: &str, out: &str) -> Screen {
    world.run(customer(world, keys, &["open-bundle", bundle, "--out", out]))
}

/// What a failed command may not leave: anything that begins with a dot, and what was to be made.
pub(crate) fn nothing_left(world: &World, out: &str) {
    let left: Vec<String> = fs::read_dir(world.path("work"))
        .expect("work")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with('.') || name == out)
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

pub(crate) fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON")
}

/// Copies a folder, so that a test can change it.
pub(crate) fn copy(world: &World, from: &str, to: &str) -> PathBuf {
    let mut cp = world.bare("cp", &["-r", from, to]);
    cp.current_dir(world.path("work"));
    world.run(cp).succeeded();
    world.path("work").join(to)
}

/// The sealed content of a bundle, as its manifest names it.
pub(crate) fn content(bundle: &Path) -> PathBuf {
    let blob = |entry: &Value| {
        let digest = entry["digest"].as_str().expect("digest").trim_start_matches("sha256:");
        bundle.join("blobs/sha256").join(digest)
    };
    let index = read_json(&bundle.join("index.json"));
    blob(&read_json(&blob(&index["manifests"][0]))["layers"][1])
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
    let manifest = read_json(&place);
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
    assert_eq!(changed, 36, "files of the layout, three places each");

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
        (read_json(&mixed.join("index.json")), read_json(&world.path("work/other/bundle/index.json")));
    index["manifests"][1] = other["manifests"][1].clone();
    fs::write(mixed.join("index.json"), index.to_string()).expect("write");
    open(&world, "keys", "mixed", "opened").failed(7, &["its keys are those of another bundle"]);
    // The bundle of another delivery with these keys.
    index["manifests"][0] = other["manifests"][0].clone();
    index["manifests"][1] = read_json(&bundle.join("index.json"))["manifests"][1].clone();
    fs::write(mixed.join("index.json"), index.to_string()).expect("write");
    open(&world, "keys", "mixed", "opened").failed(7, &["its keys are those of another bundle"]);
    nothing_left(&world, "opened");

    open(&world, "keys", "nowhere", "opened").failed(2, &["there is no delivery at"]);
    open(&world, "keys", "acme-core-1.0.0", "opened").failed(2, &["holds no delivery"]);
    // Nothing of such a file is repeated.
    let screen = open(&world, "keys", "acme-core-1.0.0/src/index.ts", "opened");
    screen.failed(7, &["this is no delivery: it is no tar file"]);
    assert!(!screen.stderr.contains("hiddenFactor") && !screen.stderr.contains("Adds what"), "{screen}");
    let cut = world.write("cut.tar", "");
    fs::write(&cut, vec![b'0'; 100]).expect("write");
    open(&world, "keys", "cut.tar", "opened").failed(7, &["no tar file"]);
    open(&world, "keys", "acme-core-1.0.0/package.json", "opened").failed(7, &["the delivery manifest"]);
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

    // The folder names its manifest.
    world.run(vendor(&world, &["submit-bundle", "--manifest", "sealed"])).succeeded();
    // What is there is no delivery: nobody logs in for that.
    let before = world.count("exchange", "allow", None);
    world.write("taken/notes.txt", "mine");
    for taken in ["taken", "taken/notes.txt", ".", built.to_str().expect("path")] {
        let screen = world.run(deliver(&world, &built, taken, &[]));
        screen.failed(2, &["is there already, and is no delivery", "name a new folder with --out"]);
    }
    assert_eq!(world.count("exchange", "allow", None), before);
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

#[test]
fn a_delivery_lies_in_its_area_and_is_opened_from_there() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    let built = small(&world);
    world
        .run(deliver(&world, &built, "sealed", &["--to", "area"]))
        .failed(2, &["is not there", "create the folder"]);
    // It is sealed, and goes on from there.
    fs::create_dir(world.path("work/area")).expect("folder");
    let screen = world.run(deliver(&world, &built, "sealed", &["--to", "area"]));
    screen.succeeded();
    assert!(screen.stderr.contains("before, under"), "{screen}");
    let id = world.output("bundle-id").expect("id");
    let again = world.run(deliver(&world, &built, "sealed", &["--to", "area"]));
    assert!(again.succeeded().stderr.contains("there already"), "{again}");
    assert_eq!(world.count("bundle.create", "allow", None), 1);
    open(&world, "keys", &format!("area/{id}"), "opened").succeeded();
    // No path of this machine is on record.
    let recorded = world.operator_get(&format!("/v1/packages/delivery/bundles/{id}"));
    assert!(!recorded.to_string().contains(world.path("").to_str().expect("path")), "{recorded}");
    for bad in ["s3:bucket", "ftp://x/y", "s3://user:pass@x/y", "https://x.example/y"] {
        world
            .run(deliver(&world, &built, "other", &["--to", bad]))
            .failed(2, &["the delivery area to store in"]);
        nothing_left(&world, "other");
    }
    open(&world, "keys", "s3://bucket", "nothing").failed(2, &["where the delivery lies"]);
    for bad in ["file:///tmp/x", "https://x.example/bundle.tar"] {
        open(&world, "keys", bad, "nothing")
            .failed(2, &["expected s3://, gs://, az:// or oci://", "a folder"]);
    }
    open(&world, "keys", "area", "nothing").failed(2, &["holds no delivery", "<area>/<bundle id>"]);
}

/// Attack: a folder that is named too high up takes what no customer gets along.
#[test]
fn what_no_customer_gets_is_never_sealed() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    let built = small(&world);
    let named = |artifact: &Path| deliver(&world, artifact, "sealed", &["@acme/core", "--version", "1.0.0"]);
    for (file, why) in [
        ("files/app.js.map", "a source map"),
        ("files/deep/APP.MAP", "a source map"),
        ("files/.npmrc", "may hold a token"),
        ("files/.env.production", "may hold a secret"),
        ("files/.git/config", "a repository"),
    ] {
        world.write(file, "x");
        world.run(named(&world.path("work/files"))).failed(7, &[why, "which no customer gets"]);
        fs::remove_dir_all(world.path("work/files")).expect("remove");
    }
    fs::create_dir(world.path("work/files")).expect("folder");
    world.run(named(&world.path("work/files"))).failed(2, &["there is no file in what is to be delivered"]);
    fs::remove_dir(world.path("work/files")).expect("remove");
    // The folder that builds lie in, and the one around it.
    world.run(named(&world.path("work"))).failed(2, &["is a build"]);
    world.run(named(&built.join("private"))).failed(7, &["a source map"]);
    std::os::unix::fs::symlink("/etc/hostname", world.write("files/a", "x").with_file_name("b"))
        .expect("link");
    world.run(named(&world.path("work/files"))).failed(7, &["is a link"]);
    // A folder of a build that is a link itself.
    let documents = built.join("evidence");
    fs::rename(&documents, world.path("elsewhere")).expect("rename");
    std::os::unix::fs::symlink(world.path("elsewhere"), &documents).expect("link");
    world.run(named(&built)).failed(7, &["is a link or a device, and no folder"]);
    fs::remove_file(&documents).expect("remove");
    fs::rename(world.path("elsewhere"), &documents).expect("rename");
    // A blank line, which would be the working directory.
    world.write("alone/one.bin", "1");
    world.write("alone/two.bin", "2");
    let lines = ["deliver", "@acme/core", "--version", "1.0.0", "--customer", "globex", "--out", "sealed"];
    let mut command = vendor(&world, &[&lines[..], &["--key-ref", "local-file://globex"]].concat());
    command.env("PROTECTED_REGISTRY_ARTIFACT", "alone/one.bin\n\n  \n");
    let screen = world.run(command);
    let manifest = read_json(&world.path("work/sealed/delivery-manifest.json"));
    assert_eq!(manifest["contents"].as_array().map(Vec::len), Some(1), "{screen}");
    fs::remove_dir_all(world.path("work/sealed")).expect("remove");
    // A tarball that is not the one of its build manifest, or of another package, or with source maps in it.
    let tarball = built.join("acme-core-1.0.0.tgz");
    let whole = fs::read(&tarball).expect("read");
    fs::write(&tarball, &whole[..whole.len() - 1]).expect("write");
    world.run(named(&tarball)).failed(7, &["is not the tarball of the build manifest beside it"]);
    fs::write(&tarball, &whole).expect("write");
    let alone = world.write("acme-core-1.0.0.tgz", "");
    fs::write(&alone, &whole).expect("write");
    world
        .run(deliver(&world, &alone, "sealed", &["@acme/core", "--version", "1.0.1"]))
        .failed(7, &["@acme/core@1.0.1 was to be delivered, and what is given is @acme/core@1.0.0"]);
    world.run(deliver(&world, &alone, "sealed", &[])).failed(2, &["nothing says which package"]);
    world.write("package/package.json", "{\"name\": \"@acme/core\", \"version\": \"1.0.0\"}");
    world.write("package/index.js.map", "{}");
    let mut tar = world.bare("tar", &["-czf", "leaky.tgz", "package"]);
    tar.current_dir(world.path("work"));
    world.run(tar).succeeded();
    world.run(named(&world.path("work/leaky.tgz"))).failed(7, &["a source map, which no customer gets"]);
    // Under another name of a tarball, and whatever else no customer gets.
    for name in ["leaky.TGZ", "leaky.tar.gz"] {
        fs::copy(world.path("work/leaky.tgz"), world.path("work").join(name)).expect("copy");
        world.run(named(&world.path("work").join(name))).failed(7, &["a source map, which no customer gets"]);
    }
    for (file, why) in [("package/lib/.env", "may hold a secret"), ("package/.git/config", "a repository")] {
        world.write(file, "x");
        let mut tar = world.bare("tar", &["-czf", "other.tgz", "package/package.json", file]);
        tar.current_dir(world.path("work"));
        world.run(tar).succeeded();
        world.run(named(&world.path("work/other.tgz"))).failed(7, &["it holds `package/", why]);
    }
    // In a second member of the gzip file, which npm and tar read on.
    let members =
        [("package/package.json", 1024), ("package/index.js.map", usize::MAX)].map(|(name, most)| {
            let mut tar = world.bare("tar", &["-cf", "member.tar", name]);
            tar.current_dir(world.path("work"));
            world.run(tar).succeeded();
            let tar = fs::read(world.path("work/member.tar")).expect("read");
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            gzip.write_all(&tar[..most.min(tar.len())]).expect("written");
            gzip.finish().expect("finished")
        });
    fs::write(world.path("work/members.tgz"), members.concat()).expect("write");
    world.run(named(&world.path("work/members.tgz"))).failed(7, &["a source map, which no customer gets"]);
    nothing_left(&world, "sealed");
    // What nothing is known of is delivered, and said.
    let screen = world.run(named(&alone));
    screen.succeeded();
    assert!(screen.stderr.contains("nothing shows that it is protected"), "{screen}");
    let manifest = read_json(&world.path("work/sealed/delivery-manifest.json"));
    assert_eq!(manifest["protection"]["obfuscated"], false);
}

/// Attack: a key pasted where a name is expected. It is refused before anything is sent, and not repeated.
#[test]
fn a_raw_key_is_refused_wherever_it_stands_and_never_repeated() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    let built = small(&world);
    let base64 = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";
    for raw in [KEY, base64, "-----BEGIN PRIVATE KEY-----", "hvs.CAESIJlU02LQZqABCDEFGHIJKLMNOP"] {
        for flag in ["--key-ref", "--to", "--customer", "--bundle-id"] {
            let mut command = deliver(&world, &built, "sealed", &[]);
            command.args([flag, raw]);
            // The last of two is the one that counts, or clap refuses the second.
            let mut command = if ["--key-ref", "--customer"].contains(&flag) {
                let mut command = vendor(&world, &["deliver", "--out", "sealed", flag, raw]);
                command.arg("--artifact").arg(&built);
                if flag != "--customer" {
                    command.args(["--customer", "globex"]);
                }
                if flag != "--key-ref" {
                    command.args(["--key-ref", "local-file://globex"]);
                }
                command
            } else {
                command
            };
            command.env("GITHUB_OUTPUT", world.path("tmp/ignored"));
            let screen = world.run(command);
            assert_eq!(screen.code, 2, "{flag}\n{screen}");
            // Clap takes what starts with a dash for another flag.
            assert!(raw.starts_with('-') || !screen.stderr.contains(&raw[..12]), "{flag}\n{screen}");
        }
        for command in ["grant-delivery", "revoke-grant"] {
            let mut command = vendor(&world, &[command, "--bundle-id", "x", "--grantee", raw]);
            if raw.starts_with('-') {
                command = vendor(&world, &["revoke-grant", "--bundle-id", "x", &format!("--grantee={raw}")]);
            }
            command.env("PROTECTED_REGISTRY_CUSTOMER", "globex");
            let screen = world.run(command);
            screen.failed(2, &["--grantee"]);
            assert!(!screen.stderr.contains(&raw[..12]), "{screen}");
        }
        // In the place of a delivery, or of its id.
        let (id, sent) = (format!("--bundle-id={raw}"), world.proxy.exchanges().len());
        let ids = ["grant-delivery", "revoke-grant", "list-grants"].map(|command| vec![command, &id]);
        let tag = format!("oci://127.0.0.1:1/acme/core:{raw}");
        let (below, away) = (format!("deliveries/{raw}"), format!("--manifest={raw}"));
        let places = [raw, &tag, &below].map(|place| {
            [
                vec!["open-bundle", "--out", "opened", "--", place],
                vec!["rewrap", "--", place],
                vec!["verify", "--", place],
            ]
        });
        for args in ids.into_iter().chain(places.into_iter().flatten()).chain([vec!["submit-bundle", &away]])
        {
            let mut command = vendor(&world, &args);
            command.env("PROTECTED_REGISTRY_CUSTOMER", "globex").env("PROTECTED_REGISTRY_GRANTEE", "globex");
            let screen = world.run(command);
            assert_eq!(screen.code, 2, "{args:?}\n{screen}");
            assert!(!screen.stderr.contains(&raw[..12]), "{args:?}\n{screen}");
        }
        assert_eq!(world.proxy.exchanges().len(), sent, "something was sent");
    }
    nothing_left(&world, "sealed");

    world.run(deliver(&world, &built, "sealed", &["--no-submit", "--tenant", "acme"])).succeeded();
    let manifest = read_json(&world.path("work/sealed/delivery-manifest.json"));
    let place = world.path("work/raw.json");
    let mut tried = 0;
    let sent = world.proxy.exchanges().len();
    for pointer in texts(&manifest, String::new()) {
        let mut bad = manifest.clone();
        *bad.pointer_mut(&pointer).expect("a text") = base64.into();
        fs::write(&place, bad.to_string()).expect("write");
        let screen = world.run(vendor(&world, &["submit-bundle", "--manifest", "raw.json"]));
        assert_eq!(screen.code, 7, "{pointer}\n{screen}");
        assert!(!screen.stderr.contains(&base64[..12]), "{pointer}\n{screen}");
        tried += 1;
    }
    for (name, value) in
        [("dek", json!("x")), ("note", json!(KEY)), ("more", json!({"deep": [{"token": "abc"}]}))]
    {
        let mut bad = manifest.clone();
        bad[name] = value;
        fs::write(&place, bad.to_string()).expect("write");
        world
            .run(vendor(&world, &["submit-bundle", "--manifest", "raw.json"]))
            .failed(7, &["looks like a key"]);
    }
    assert!(tried > 40, "{tried} fields");
    assert_eq!(world.proxy.exchanges().len(), sent, "something was sent");
    for text in ["", "[]", "{}", "{\"schema\": 1}", "not json", &"[".repeat(100_000)] {
        fs::write(&place, text).expect("write");
        world
            .run(vendor(&world, &["submit-bundle", "--manifest", "raw.json"]))
            .failed(7, &["delivery manifest"]);
    }
}

/// Attack: none is needed. A pipe is named by mistake, and the command hangs for ever, deaf to the signals of its job.
#[test]
fn a_pipe_that_nobody_writes_to_is_not_waited_for() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    world.run(deliver(&world, &small(&world), "sealed", &[])).succeeded();
    let pipe = world.path("work/pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let mut started: Vec<Child> = [
        vendor(&world, &["submit-bundle", "--manifest", "pipe"]),
        customer(&world, "keys", &["open-bundle", "sealed", "--out", "opened", "--policy", "pipe"]),
        customer(&world, "keys", &["open-bundle", "sealed", "--out", "opened", "--ca-file", "pipe"]),
    ]
    .into_iter()
    .map(|mut command| command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start"))
    .collect();
    let since = Instant::now();
    for (child, code) in started.iter_mut().zip([7, 2, 2]) {
        let mut ended = child.try_wait().expect("wait");
        while ended.is_none() && since.elapsed() < Duration::from_secs(60) {
            thread::sleep(Duration::from_millis(50));
            ended = child.try_wait().expect("wait");
        }
        let _ = child.kill();
        assert_eq!(ended.expect("it waits for the pipe").code(), Some(code));
    }
    nothing_left(&world, "opened");
    // One that somebody writes to is read.
    let manifest = fs::read(world.path("work/sealed/delivery-manifest.json")).expect("read");
    let writer = thread::spawn({
        let pipe = pipe.clone();
        move || fs::write(pipe, manifest)
    });
    world.run(vendor(&world, &["submit-bundle", "--manifest", "pipe"])).succeeded();
    writer.join().expect("thread").expect("write");
    // The world looks for tokens in every file, and would wait for this one.
    fs::remove_file(pipe).expect("remove");
}

/// Returns the places of all texts of a document.
fn texts(value: &Value, at: String) -> Vec<String> {
    match value {
        Value::String(_) => vec![at],
        Value::Array(values) => values
            .iter()
            .enumerate()
            .flat_map(|(index, value)| texts(value, format!("{at}/{index}")))
            .collect(),
        Value::Object(members) => members
            .iter()
            .flat_map(|(name, value)| texts(value, format!("{at}/{}", name.replace('/', "~1"))))
            .collect(),
        _ => Vec::new(),
    }
}

/// The private folders in `work` in which something is being made, or was when it was killed.
pub(crate) fn staged(world: &World) -> Vec<PathBuf> {
    let entries = fs::read_dir(world.path("work")).expect("work").flatten();
    let hidden =
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(".protected-registry-"));
    hidden.map(|entry| entry.path()).collect()
}

/// Starts a command, and returns once it has begun to write what it makes.
pub(crate) fn begun(world: &World, mut command: Command) -> Child {
    let before = staged(world);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
    let since = Instant::now();
    let has_begun = || {
        let new = staged(world).into_iter().filter(|folder| !before.contains(folder));
        let is_large = |file: &PathBuf| fs::metadata(file).is_ok_and(|found| found.len() > 1 << 20);
        new.flat_map(|folder| files(&folder)).any(|file| is_large(&file))
    };
    while !has_begun() {
        assert!(since.elapsed() < Duration::from_secs(60), "nothing begins");
        thread::sleep(Duration::from_millis(2));
    }
    child
}

fn terminate(child: &mut Child) {
    let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill");
    assert!(kill.success());
    assert_eq!(child.wait().expect("wait").code(), Some(143));
}

/// Makes a file that does not compress.
pub(crate) fn large(world: &World, name: &str, mebibytes: usize) -> PathBuf {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(mebibytes << 20);
    while bytes.len() < mebibytes << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    let path = world.write(name, "");
    fs::write(&path, bytes).expect("write");
    path
}

#[test]
fn a_kill_and_a_signal_leave_nothing_that_is_half() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    let file = large(&world, "app.bin", 96);
    let named = |world: &World| deliver(world, &file, "sealed", &["@acme/core", "--version", "1.0.0"]);
    // Killed in the middle, twice; the same command then finishes, and sweeps what was left.
    for _ in 0..2 {
        let mut child = begun(&world, named(&world));
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert!(!world.path("work/sealed").exists());
    }
    assert!(!staged(&world).is_empty());
    terminate(&mut begun(&world, named(&world)));
    nothing_left(&world, "sealed");
    // Two at once make one delivery.
    let mut child = begun(&world, named(&world));
    world.run(named(&world)).succeeded();
    assert!(child.wait().expect("wait").success());
    assert_eq!(world.count("bundle.create", "allow", None), 1);
    assert!(staged(&world).is_empty());

    let open = |world: &World| customer(world, "keys", &["open-bundle", "sealed", "--out", "opened"]);
    terminate(&mut begun(&world, open(&world)));
    nothing_left(&world, "opened");
    world.run(open(&world)).succeeded();
    assert_eq!(fs::read(world.path("work/opened/app.bin")).expect("read"), fs::read(&file).expect("read"));
    // The world looks for tokens in every file, letter by letter.
    fs::remove_dir_all(world.path("work")).expect("remove");
}

#[test]
fn a_delivery_is_rewrapped_and_verified_without_its_key() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    key(&world, "keys", "new", "ff");
    let built = small(&world);
    world.run(deliver(&world, &built, "sealed", &[])).succeeded();
    let index = |world: &World| read_json(&world.path("work/sealed/bundle/index.json"))["manifests"].clone();
    let before = index(&world);
    world.run(customer(&world, "nobody", &["verify", "sealed"])).succeeded();
    // By its manifest too, which is the one that counts then; alone it says nothing.
    let manifest = "sealed/delivery-manifest.json";
    let screen = world.run(customer(&world, "nobody", &["verify", manifest]));
    assert!(screen.succeeded().stderr.contains("delivery-manifest.json says the same"), "{screen}");
    fs::copy(world.path(&format!("work/{manifest}")), world.path("work/alone.json")).expect("copy");
    for alone in ["alone.json", "acme-core-1.0.0/package.json"] {
        world
            .run(customer(&world, "nobody", &["verify", alone]))
            .failed(2, &["no bundle stands beside", "name the folder with `bundle` or `bundle.tar` in it"]);
    }
    let mut other = read_json(&world.path("work/alone.json"));
    other["customer_slug"] = "initech".into();
    other["key_provider"]["context"]["customer_slug"] = "initech".into();
    world.write("sealed/other.json", &other.to_string());
    world
        .run(customer(&world, "nobody", &["verify", "sealed/other.json"]))
        .failed(8, &["FAILED   manifest", "another `customer_slug` in other.json"]);
    fs::remove_file(world.path("work/sealed/other.json")).expect("remove");
    // What a delivery cannot be held against is not passed over, and a tarball beside it is what is looked at.
    for more in
        [["--rebuild", "."], ["--mark", "globex"], ["--manifest", "x.json"], ["--summary", "vsa.json"]]
    {
        let arguments = [&["verify", "sealed"], &more[..]].concat();
        world
            .run(customer(&world, "nobody", &arguments))
            .failed(2, &["a sealed delivery can be held against its own digests and signatures alone"]);
    }
    let statements = ["verify", "sealed", "--bundle", "x.json"];
    world.run(customer(&world, "nobody", &statements)).failed(7, &["x.json` cannot be read"]);
    world
        .run(customer(&world, "nobody", &[&statements[..], &["--bundle", "y.json"]].concat()))
        .failed(2, &["a sealed delivery can be held against its own digests and signatures alone"]);
    let arguments = ["verify", "sealed", "--expect-source", "https://github.com/acme/core"];
    world.run(customer(&world, "nobody", &arguments)).failed(2, &["nothing about its build"]);
    let beside = copy(&world, "sealed", "beside");
    fs::write(beside.join("acme-core-1.0.0.tgz"), "junk").expect("write");
    assert_ne!(world.run(customer(&world, "nobody", &["verify", "beside"])).code, 0);
    let by_hand = ["rewrap", "sealed", "--sign", "off", "--accept-unproven"];
    world.run(customer(&world, "keys", &by_hand)).succeeded();
    let screen =
        world.run(customer(&world, "keys", &[&by_hand[..], &["--key-ref", "local-file://new"]].concat()));
    assert!(screen.succeeded().stderr.contains("unchanged: sha256:"), "{screen}");
    let after = index(&world);
    assert_eq!(before[0]["digest"], after[0]["digest"]);
    assert_ne!(before[1]["digest"], after[1]["digest"]);
    // Verified without any key: the manifest names the key of now. One of before is told, and no fault.
    let screen = world.run(customer(&world, "nobody", &["verify", "sealed"]));
    assert!(
        screen.succeeded().stderr.contains("ok       wrapped key  wrapped with local-file://new"),
        "{screen}"
    );
    fs::copy(world.path("work/alone.json"), world.path("work/sealed/former.json")).expect("copy");
    let screen = world.run(customer(&world, "nobody", &["verify", "sealed/former.json"]));
    assert!(screen.succeeded().stderr.contains("note     wrapped key"), "{screen}");
    open(&world, "keys", "sealed", "opened").succeeded();
    fs::remove_file(world.path("keys/new.key")).expect("remove");
    open(&world, "keys", "sealed", "again").failed(2, &["local-file://new"]);
    world.run(customer(&world, "keys", &by_hand)).failed(2, &["local-file://new"]);
    assert_eq!(index(&world), after);

    // What was changed is not verified.
    let copied = copy(&world, "sealed", "changed");
    let place = content(&copied.join("bundle"));
    let mut bytes = fs::read(&place).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&place, bytes).expect("write");
    world.run(customer(&world, "keys", &["verify", "changed"])).failed(8, &["FAILED   content"]);
    let mut manifest = read_json(&copied.join("delivery-manifest.json"));
    manifest["customer_slug"] = "initech".into();
    manifest["key_provider"]["context"]["customer_slug"] = "initech".into();
    fs::write(copied.join("delivery-manifest.json"), manifest.to_string()).expect("write");
    world
        .run(customer(&world, "keys", &["verify", "changed"]))
        .failed(8, &["FAILED   manifest", "another `customer_slug`"]);
    let submit = ["submit-bundle", "--manifest", "changed/delivery-manifest.json"];
    world.run(vendor(&world, &submit)).failed(7, &["`customer_slug` of the manifest", "is not what"]);
    fs::remove_file(copied.join("bundle/index.json")).expect("remove");
    world.run(customer(&world, "keys", &["verify", "changed"])).failed(8, &["index.json"]);
    world.run(vendor(&world, &submit)).failed(7, &["index.json"]);
}

#[test]
fn the_doctor_tries_the_key_of_deliveries() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    let folder = world.package("@acme/core", "1.0.0");
    let doctor = |key: &str| {
        let mut command = vendor(&world, &["doctor"]);
        command.current_dir(&folder).env("PROTECTED_REGISTRY_KEY_REF", key);
        world.run(command)
    };
    let good = doctor("local-file://globex");
    assert!(good.stderr.contains("ok       delivery key   local-file://globex wraps"), "{good}");
    for bad in ["local-file://absent", "openbao://transit/globex", KEY] {
        let screen = doctor(bad);
        screen.failed(2, &["FAILED   delivery key"]);
        // The platform alone is told of it, so that it hides it.
        let told = |line: &&str| line.contains(&KEY[..16]) && *line != format!("::add-mask::{KEY}");
        assert_eq!(screen.stderr.lines().find(told), None, "{screen}");
    }
}

#[test]
fn a_grant_of_openbao_opens_one_delivery_for_one_customer() {
    let world = World::new();
    let bao = Bao::start(&world);
    assert_eq!(bao.post("transit/keys/acme", r#"{"type": "aes256-gcm96", "derived": true}"#), 200);
    let (globex, initech) = (bao.customer("globex"), bao.customer("initech"));
    let built = small(&world);
    let address = format!("http://{}", bao.address);
    let as_vendor = |args: &[&str]| {
        let mut command = world.github("release", CLI, args);
        command
            .env("BAO_ADDR", &address)
            .env("BAO_TOKEN", &bao.root)
            .env("PROTECTED_REGISTRY_CUSTOMER", "globex");
        world.run(command)
    };
    let opens = |token: &str, bundle: &str, out: &str| {
        let mut command = customer(&world, "none", &["open-bundle", bundle, "--out", out]);
        command.env("BAO_ADDR", &address).env("BAO_TOKEN", token);
        world.run(command)
    };
    let seal = |out: &str| {
        let path = built.to_str().expect("path");
        let key = "openbao://transit/acme";
        as_vendor(&["deliver", "--artifact", path, "--key-ref", key, "--out", out]).succeeded();
        world.output("bundle-id").expect("id")
    };
    let (one, _two) = (seal("one"), seal("two"));
    opens(&globex, "one", "opened").failed(4, &["answered 403"]);

    let grant = ["grant-delivery", "--bundle-id", &one, "--grantee", "globex", "--expires", "30d"];
    let recorded = as_vendor(&grant);
    assert!(recorded.succeeded().stdout.contains("the key service was not told"), "{recorded}");
    opens(&globex, "one", "opened").failed(4, &["answered 403"]);
    let materialized = [&grant[..], &["--materialize-grant"]].concat();
    let screen = as_vendor(&materialized);
    assert!(screen.succeeded().stdout.contains("`globex` may open the delivery"), "{screen}");
    assert!(screen.stderr.contains("to this delivery alone"), "{screen}");
    as_vendor(&materialized).succeeded();
    let on_record = world.operator_get(&format!("/v1/packages/delivery/bundles/{one}"));
    let grants = on_record["grants"].as_array().expect("grants");
    assert_eq!((grants.len(), &grants[0]["status"]), (1, &json!("materialized")));
    assert_eq!(world.count("grant.create", "allow", None), 2, "recorded, and materialized");

    // One customer, one delivery.
    opens(&globex, "one", "opened").succeeded();
    opens(&globex, "two", "opened-two").failed(4, &["answered 403"]);
    opens(&initech, "one", "opened-two").failed(4, &["answered 403"]);
    nothing_left(&world, "opened-two");
    as_vendor(&[&["grant-delivery", "--bundle-id", &one, "--grantee", "globex"][..]].concat())
        .failed(6, &["has a grant until"]);
    let other = ["grant-delivery", "--bundle-id", &one, "--grantee", "initech", "--customer", "initech"];
    as_vendor(&other).failed(4, &["is for `globex`, and not for `initech`"]);
    as_vendor(&["grant-delivery", "--bundle-id", "nothing", "--grantee", "globex"])
        .failed(2, &["there is no such delivery"]);
    as_vendor(&["grant-delivery", "--bundle-id", &one, "--grantee", "nobody", "--materialize-grant"])
        .failed(2, &["has no entity `nobody`"]);

    // FractalOps does not record it: the key service takes it back.
    world.proxy.decide(|method, target, _| {
        let refused = method == "POST" && target.contains("delivery/grants");
        if refused { Fault::Say(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n") } else { Fault::None }
    });
    let second = ["grant-delivery", "--bundle-id", &one, "--grantee", "initech", "--materialize-grant"];
    as_vendor(&second).failed(1, &["has taken it back: the same command again does both"]);
    opens(&initech, "one", "opened-two").failed(4, &["answered 403"]);
    // One that was there before stays.
    as_vendor(&materialized).failed(1, &["not one of FractalOps"]);
    opens(&globex, "one", "opened-again").succeeded();
    world.proxy.decide(|_, _, _| Fault::None);

    let list = |id: &str| as_vendor(&["list-grants", "--bundle-id", id, "--format", "json"]);
    let listed = |id: &str| -> Value { serde_json::from_str(&list(id).succeeded().stdout).expect("JSON") };
    let rows = listed(&one)["grants"].clone();
    assert_eq!((rows.as_array().expect("rows").len(), &rows[0]["orphan"]), (1, &Value::Null), "{rows}");
    // Orphans: what the key service has and nobody recorded, and what is on record and the key service lost.
    let policy = rows[0]["in_key_service"].as_str().expect("name").to_owned();
    assert_eq!(bao.ask("DELETE", &format!("sys/policies/acl/{policy}"), "").0, 204);
    assert_eq!(listed(&one)["grants"][0]["orphan"], "the key service does not have it");
    as_vendor(&materialized).succeeded();
    assert_eq!(listed(&one)["grants"][0]["orphan"], Value::Null);

    // The key is rotated and the delivery wrapped anew: the grant holds, and the content is the same.
    let digest = |out: &str| {
        read_json(&world.path("work").join(out).join("bundle/index.json"))["manifests"][0]["digest"].clone()
    };
    let before = digest("one");
    assert_eq!(bao.post("transit/keys/acme/rotate", "{}"), 200);
    let screen = as_vendor(&["rewrap", "one"]);
    assert!(screen.succeeded().stderr.contains("openbao://transit/acme"), "{screen}");
    assert_eq!(bao.post("transit/keys/acme/config", r#"{"min_decryption_version": 2}"#), 200);
    assert_eq!(digest("one"), before);
    opens(&globex, "one", "opened-rotated").succeeded();
    opens(&bao.root, "two", "opened-two").failed(4, &["does not open this data key"]);

    let revoke = ["revoke-grant", "--bundle-id", &one, "--grantee", "globex"];
    as_vendor(&revoke).succeeded();
    opens(&globex, "one", "opened-late").failed(4, &["answered 403"]);
    as_vendor(&revoke).failed(2, &["has no grant"]);
    assert_eq!(listed(&one)["grants"][0]["on_record"], "revoked");
    assert_eq!(world.count("grant.revoke", "allow", None), 1);
    // Granted anew after that.
    as_vendor(&materialized).succeeded();
    opens(&globex, "one", "opened-late").succeeded();

    // Wrapped anew with another key: the grant has to be given on that one.
    assert_eq!(bao.post("transit/keys/next", r#"{"type": "aes256-gcm96", "derived": true}"#), 200);
    let next = "openbao://transit/next";
    let screen = as_vendor(&["rewrap", "one", "--key-ref", next]);
    assert!(
        screen.succeeded().stderr.contains("by `grant-delivery --key-ref openbao://transit/next`"),
        "{screen}"
    );
    opens(&globex, "one", "opened-next").failed(4, &["answered 403"]);
    as_vendor(&materialized).succeeded();
    opens(&globex, "one", "opened-next").failed(4, &["answered 403"]);
    as_vendor(&[&materialized[..], &["--key-ref", next]].concat()).succeeded();
    opens(&globex, "one", "opened-next").succeeded();
    as_vendor(&[&revoke[..], &["--key-ref", next]].concat()).succeeded();
    opens(&globex, "one", "opened-never").failed(4, &["answered 403"]);
    // What is on record and not in the key service is not taken for taken back, unless the key is named.
    as_vendor(&[&materialized[..], &["--key-ref", next]].concat()).succeeded();
    let row = listed(&one)["grants"][1].clone();
    assert_eq!((&row["key_ref"], &row["on_record"]), (&json!(next), &json!("other_key")));
    let policy = row["in_key_service"].as_str().expect("name");
    assert_eq!(bao.ask("DELETE", &format!("sys/policies/acl/{policy}"), "").0, 204);
    assert_eq!(bao.ask("DELETE", &format!("identity/group/name/{policy}"), "").0, 204);
    as_vendor(&revoke).failed(6, &["has none to take back", "--key-ref"]);
    assert_eq!(listed(&one)["grants"][1]["on_record"], "other_key");
    as_vendor(&[&revoke[..], &["--key-ref", next]].concat()).succeeded();
    assert_eq!(listed(&one)["grants"][1]["on_record"], "revoked");
    // Nobody asks a service that is not there, and nothing of it is on record.
    let elsewhere = "aws-kms://arn:aws:kms:eu-central-1:123456789012:alias/acme";
    as_vendor(&[&materialized[..], &["--key-ref", elsewhere]].concat()).failed(2, &[elsewhere]);
    assert_eq!(listed(&one)["grants"].as_array().map(Vec::len), Some(2));
    as_vendor(&[&revoke[..], &["--key-ref", "hvs.CAESIJlU02LQZq"]].concat())
        .failed(2, &["the key of the delivery"]);
    for token in [&globex, &initech, &bao.root] {
        for file in files(&world.path("work")) {
            let bytes = fs::read(&file).expect("read");
            assert!(!String::from_utf8_lossy(&bytes).contains(token.as_str()), "{}", file.display());
        }
    }
}

/// A key in a file knows no grants: what is on record holds nobody back, and says so.
#[test]
fn a_grant_on_a_key_in_a_file_is_taken_back_on_record_alone() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    world.run(deliver(&world, &small(&world), "sealed", &[])).succeeded();
    let bundle = world.output("bundle-id").expect("id");
    let about = ["--bundle-id", &bundle, "--grantee", "ops"];
    let run =
        |command: &str, more: &[&str]| world.run(vendor(&world, &[&[command], &about[..], more].concat()));
    let to = ["--customer", "globex"];
    run("grant-delivery", &[&to[..], &["--materialize-grant"]].concat())
        .failed(2, &["whoever has its file opens all"]);
    run("revoke-grant", &[]).failed(2, &["`ops` has no grant on the delivery"]);
    run("grant-delivery", &to).succeeded();
    // Nobody is missed here, and a key service that cannot be asked is not taken for one that has nothing.
    let list = ["list-grants", "--bundle-id", &bundle];
    let screen = world.run(vendor(&world, &list));
    assert_eq!(screen.succeeded().stdout, "ops  recorded  not in the key service  no end\n");
    assert!(!screen.stderr.contains("orphan"), "{screen}");
    let unasked = |more: &[&str]| {
        let mut command = vendor(&world, &[&list[..], more].concat());
        command.env("PROTECTED_REGISTRY_ALLOW_LOCAL_KEY", "false");
        world.run(command)
    };
    let screen = unasked(&[]);
    assert_eq!(screen.succeeded().stdout, "ops  recorded  key service not asked  no end\n");
    assert!(screen.stderr.contains("only what is on record is shown"), "{screen}");
    let told: Value = serde_json::from_str(&unasked(&["--format", "json"]).succeeded().stdout).expect("JSON");
    assert_eq!(told["key_service_asked"], false);
    // Attack: a record that was changed.
    let mut record = world.operator_get(&format!("/v1/packages/delivery/bundles/{bundle}"));
    record["manifest"]["version"] = "9.9.9".into();
    let body = record.to_string();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer: &'static [u8] = answer.leak().as_bytes();
    world.proxy.decide(move |method, target, _| {
        if method == "GET" && target.contains("delivery/bundles/") { Fault::Say(answer) } else { Fault::None }
    });
    run("revoke-grant", &[]).failed(1, &["what is on record of the delivery", "contradicts the rest"]);
    world.proxy.decide(|_, _, _| Fault::None);
    let screen = run("revoke-grant", &[]);
    let line = "is taken back on record alone: whoever has the key still opens it\n";
    assert!(screen.succeeded().stdout.ends_with(line), "{screen}");
    assert!(screen.stderr.contains("it knows no grants"), "{screen}");
    open(&world, "keys", "sealed", "opened").succeeded();
}

/// Memory does not grow with what is delivered: two gibibytes are sealed and opened in a twentieth of that.
#[test]
#[cfg(target_os = "linux")]
fn two_gibibytes_are_sealed_and_opened_in_little_memory() {
    const MOST_KIB: u64 = 96 * 1024;
    let world = World::new();
    key(&world, "keys", "globex", "00");
    let file = world.write("app.bin", "");
    fs::File::options()
        .write(true)
        .open(&file)
        .and_then(|file| file.set_len(2 << 30))
        .expect("a sparse file");
    let peak = |mut command: Command| {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start");
        let mut peak = 0;
        loop {
            if let Ok(status) = fs::read_to_string(format!("/proc/{}/status", child.id())) {
                let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
                peak = peak.max(kib.unwrap_or(0));
            }
            if let Some(status) = child.try_wait().expect("wait") {
                assert!(status.success(), "{status}");
                return peak;
            }
            thread::sleep(Duration::from_millis(20));
        }
    };
    let sealing = peak(deliver(&world, &file, "sealed", &["@acme/core", "--version", "1.0.0"]));
    let opening = peak(customer(&world, "keys", &["open-bundle", "sealed", "--out", "opened"]));
    assert!(sealing < MOST_KIB && opening < MOST_KIB, "{sealing} KiB to seal, {opening} KiB to open");
    assert_eq!(fs::metadata(world.path("work/opened/app.bin")).expect("opened").len(), 2 << 30);
    fs::remove_dir_all(world.path("work")).expect("remove");
}
