//! A build is repeated from its source and its record: the same bytes anywhere, and every difference is shown.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::Value;

use crate::harness::{CLI, Screen, World, files};

pub(crate) const SECRET: &str = "8c1f4be0d27a95f3c06b1e58a9d4f723";

/// Code with enough in it for every step to change something.
pub(crate) const SOURCE: &str = "\
'use strict';
const table = { first: 'alpha one', second: 'beta two', third: 'gamma three' };
class Ledger {
  constructor(owner) { this.owner = owner; this.entries = []; }
  add(kind, amount) {
    if (!(kind in table)) throw new RangeError('unknown kind: ' + kind);
    let fee = 0;
    for (let step = 0; step < 7; step++) {
      if (step % 2 === 0) fee += amount / 100; else if (amount > 1000) fee += 3; else fee -= 1;
    }
    switch (kind) {
      case 'first': fee *= 2; break;
      case 'second': fee += 11; break;
      default: fee = Math.max(fee, 5);
    }
    this.entries.push({ kind, amount, fee, label: table[kind] });
    return this;
  }
  total() { return this.entries.reduce((sum, entry) => sum + entry.amount + entry.fee, 0); }
  report() {
    const lines = this.entries.map((entry, index) => `${index + 1}. ${entry.label}: ${entry.amount}`);
    return [`ledger of ${this.owner}`, ...lines, `total ${this.total()}`].join('\\n');
  }
}
function parse(text) {
  const found = [];
  for (const line of text.split(';')) {
    const [kind, amount] = line.split('=');
    if (amount === undefined) continue;
    found.push({ kind: kind.trim(), amount: Number(amount) });
  }
  return found;
}
exports.run = (owner, text) => {
  const ledger = new Ledger(owner);
  for (const { kind, amount } of parse(text)) ledger.add(kind, amount);
  return ledger.report();
};
";

/// Makes a package of two files below `work`.
pub(crate) fn package(world: &World, folder: &str) -> PathBuf {
    world.write(
        &format!("{folder}/package.json"),
        "{\"name\": \"@acme/ledger\", \"version\": \"1.2.0\", \"main\": \"src/index.js\"}",
    );
    world.write(&format!("{folder}/src/index.js"), SOURCE);
    world.write(
        &format!("{folder}/src/util.ts"),
        "export const join = (parts: string[]): string => parts.filter(part => part !== 'skipped').join(' and ');\n",
    );
    world.path("work").join(folder)
}

/// Returns the program in `folder`, outside of CI, with the build secret.
pub(crate) fn command(world: &World, folder: &Path, args: &[&str]) -> Command {
    let mut command = world.bare(CLI, args);
    command.env("PROTECTED_REGISTRY_BUILD_SECRET", SECRET).current_dir(folder);
    command
}

fn build(world: &World, folder: &Path, more: &[&str]) {
    let args: Vec<&str> = ["protect-build", "--no-record", "--out", "../built"]
        .into_iter()
        .chain(more.iter().copied())
        .collect();
    world.run(command(world, folder, &args)).succeeded();
}

fn verify(world: &World, folder: &Path, more: &[&str]) -> Screen {
    let args: Vec<&str> =
        ["verify", "../built", "--rebuild", "."].into_iter().chain(more.iter().copied()).collect();
    world.run(command(world, folder, &args))
}

fn tarball(world: &World) -> PathBuf {
    world.path("work/built/acme-ledger-1.2.0.tgz")
}

/// Packs the tarball again with other content.
fn repack(world: &World, change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>, more: &[(&str, &[u8])]) {
    let bytes = fs::read(tarball(world)).expect("tarball");
    let mut from = tar::Archive::new(GzDecoder::new(bytes.as_slice()));
    let mut to = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut append = |path: &str, mode: u32, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        to.append_data(&mut header, path, content).expect("append");
    };
    for entry in from.entries().expect("entries") {
        let mut entry = entry.expect("entry");
        let path = entry.path().expect("path").to_string_lossy().into_owned();
        let mode = entry.header().mode().expect("mode");
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).expect("content");
        if let Some(content) = change(path.trim_start_matches("package/"), content) {
            append(&path, mode, &content);
        }
    }
    for (path, content) in more {
        append(&format!("package/{path}"), 0o644, content);
    }
    fs::write(tarball(world), to.into_inner().expect("tar").finish().expect("gzip")).expect("write");
}

fn checks(screen: &Screen) -> Value {
    let document: Value = serde_json::from_str(&screen.stdout).expect("JSON");
    document["checks"].clone()
}

fn outcome(checks: &Value, name: &str) -> String {
    let check = checks.as_array().expect("checks").iter().find(|check| check["check"] == name);
    check.unwrap_or_else(|| panic!("no check `{name}`: {checks}"))["outcome"]
        .as_str()
        .expect("word")
        .to_owned()
}

#[test]
fn a_build_is_repeated_from_its_source() {
    let world = World::new();
    let folder = package(&world, "ledger");
    for profile in ["light", "standard"] {
        build(&world, &folder, &["--profile", profile]);
        let screen = verify(&world, &folder, &[]);
        assert!(
            screen.succeeded().stdout.contains("@acme/ledger@1.2.0 is what the source gives: 4 files"),
            "{screen}"
        );
        for check in
            ["package", "artifact", "integrity", "tools", "source", "seed", "steps", "files", "tarball"]
        {
            assert!(screen.stderr.contains(&format!("  ok       {check}")), "{check}\n{screen}");
        }
        // The tarball by itself is held against what the configuration says now.
        let apart = world.path("work/apart.tgz");
        fs::copy(tarball(&world), &apart).expect("copy");
        let args = ["verify", "../apart.tgz", "--rebuild", "."];
        let mut same = command(&world, &folder, &args);
        same.env("PROTECTED_REGISTRY_PROFILE", profile);
        world.run(same).succeeded();
        let args = [
            "verify",
            "../apart.tgz",
            "--rebuild",
            ".",
            "--manifest",
            "../built/evidence/build-manifest.json",
        ];
        world.run(command(&world, &folder, &args)).succeeded();
        world
            .run(command(&world, &folder, &["verify", "../apart.tgz"]))
            .failed(2, &["--manifest", "--rebuild"]);
    }
    // Without a source, the manifest is what there is.
    let screen = world.run(command(&world, &folder, &["verify", "../built"]));
    assert!(screen.succeeded().stdout.contains("its source was not asked"), "{screen}");
}

#[test]
fn every_difference_is_shown_with_its_first_byte() {
    let world = World::new();
    let folder = package(&world, "ledger");
    build(&world, &folder, &["--profile", "standard"]);

    let original = fs::read(tarball(&world)).expect("tarball");
    repack(
        &world,
        |path, mut content| {
            if path == "src/index.js" {
                *content.last_mut().expect("a byte") ^= 1;
            }
            Some(content)
        },
        &[],
    );
    let screen = verify(&world, &folder, &["--format", "json"]);
    let found = checks(screen.failed(
        8,
        &["`src/index.js` differs from byte ", "FAILED   files", "FAILED   artifact", "FAILED   integrity"],
    ));
    let files =
        found.as_array().expect("checks").iter().find(|check| check["check"] == "files").expect("files");
    assert_eq!(files["differences"].as_array().map(Vec::len), Some(1), "{files}");
    let difference = &files["differences"][0];
    assert_eq!(difference["path"], "src/index.js");
    assert_eq!(difference["difference"], "content");
    let bytes = difference["expected_bytes"].as_u64().expect("bytes");
    assert_eq!(difference["first_byte"].as_u64(), Some(bytes - 1), "{difference}");
    assert_eq!(outcome(&found, "source"), "ok");

    fs::write(tarball(&world), &original).expect("write");
    repack(&world, |_, content| Some(content), &[("src/added.js", b"fetch('https://evil.example')")]);
    verify(&world, &folder, &[]).failed(
        8,
        &[
            "`src/added.js` is in the package, and the source does not give it",
            "hint: the build manifest is that of another tarball",
        ],
    );

    fs::write(tarball(&world), &original).expect("write");
    repack(&world, |path, content| (path != "src/util.js").then_some(content), &[]);
    verify(&world, &folder, &[]).failed(8, &["`src/util.js` is not in the package, and the source gives it"]);

    // Packed otherwise, and the same files: what the source gives, said with a note.
    fs::write(tarball(&world), &original).expect("write");
    repack(&world, |_, content| Some(content), &[]);
    let apart = world.path("work/apart.tgz");
    fs::copy(tarball(&world), &apart).expect("copy");
    let mut same = command(&world, &folder, &["verify", "../apart.tgz", "--rebuild", "."]);
    same.env("PROTECTED_REGISTRY_PROFILE", "standard");
    let screen = world.run(same);
    assert!(screen.succeeded().stderr.contains("  note     tarball"), "{screen}");
}

#[test]
fn another_source_secret_or_profile_is_told_apart() {
    let world = World::new();
    let folder = package(&world, "ledger");
    build(&world, &folder, &["--profile", "standard"]);

    let mut other = command(&world, &folder, &["verify", "../built", "--rebuild", ".", "--format", "json"]);
    other.env("PROTECTED_REGISTRY_BUILD_SECRET", "0f9d3a7c51e2b84660fae7d1c93b5528");
    let screen = world.run(other);
    let found = checks(
        screen.failed(8, &["hint: the source is that of the build, so the build secret is another one"]),
    );
    assert_eq!((outcome(&found, "source").as_str(), outcome(&found, "seed").as_str()), ("ok", "failed"));

    let mut none = command(&world, &folder, &["verify", "../built", "--rebuild", "."]);
    none.env_remove("PROTECTED_REGISTRY_BUILD_SECRET");
    world
        .run(none)
        .failed(2, &["follows from a build secret, and none is set", "PROTECTED_REGISTRY_BUILD_SECRET"]);

    // Without a manifest beside it, the configuration decides.
    let apart = world.path("work/apart.tgz");
    fs::copy(tarball(&world), &apart).expect("copy");
    let args = ["verify", "../apart.tgz", "--rebuild", "."];
    let mut light = command(&world, &folder, &args);
    light.env("PROTECTED_REGISTRY_PROFILE", "light");
    world.run(light).failed(8, &["FAILED   files", "`src/index.js` differs"]);

    world.write(
        "ledger/src/util.ts",
        "export const join = (parts: string[]): string => parts.join(' or ');\n",
    );
    let screen = verify(&world, &folder, &[]);
    screen.failed(
        8,
        &["FAILED   source", "`src/util.js` differs", "hint: this is not the source that was built"],
    );

    world.write("ledger/package.json", "{\"name\": \"@acme/ledger\", \"version\": \"1.2.1\"}");
    verify(&world, &folder, &[]).failed(8, &["package.json` differs"]);
}

#[test]
fn a_manifest_that_was_changed_or_is_none_is_refused() {
    let world = World::new();
    let folder = package(&world, "ledger");
    build(&world, &folder, &["--profile", "standard"]);
    let file = world.path("work/built/evidence/build-manifest.json");
    let original = fs::read_to_string(&file).expect("manifest");
    for (from, to, code, messages) in [
        ("\"profile\":\"standard\"", "\"profile\":\"light\"", 8, &["FAILED   steps"][..]),
        ("\"parameters\"", "\"parametres\"", 7, &["cannot be followed", "has no `legal_comments`"]),
        ("\"swc\",\"tool_version\":\"", "\"swc\",\"tool_version\":\"9", 0, &["note     tools", "swc 9"]),
        ("{", "[", 7, &["build-manifest.json` is not one"]),
    ] {
        assert!(original.contains(from), "{from}\n{original}");
        fs::write(&file, original.replace(from, to)).expect("write");
        let screen = verify(&world, &folder, &[]);
        assert_eq!(screen.code, code, "{from}\n{screen}");
        for message in messages {
            assert!(screen.stderr.contains(message), "{message}\n{screen}");
        }
    }
    for (args, message) in [
        (&["verify"][..], "nothing to verify is named"),
        (&["verify", "../nowhere"], "is not there"),
        (&["verify", "."], "holds 0 tarballs"),
        (&["verify", "../built", "--rebuild", "../nowhere"], "is not there"),
    ] {
        fs::write(&file, &original).expect("write");
        world.run(command(&world, &folder, args)).failed(2, &[message]);
    }
}

/// What differs from machine to machine, and must not show: threads, folder, language, time zone, umask, user.
#[test]
fn the_same_bytes_come_out_anywhere() {
    let world = World::new();
    let mut found = Vec::new();
    for (number, (folder, script)) in [
        ("ledger", "exec \"$0\" \"$@\""),
        ("ledger", "exec \"$0\" \"$@\""),
        ("elsewhere/deeper/ledger copy", "umask 077; exec \"$0\" \"$@\""),
        (
            "ledger-1",
            "LC_ALL=tr_TR.UTF-8 LANG=tr_TR.UTF-8 TZ=Pacific/Kiritimati HOME=/nonexistent exec \"$0\" \"$@\"",
        ),
        ("ledger-2", "umask 000; exec taskset -c 0 \"$0\" \"$@\""),
    ]
    .into_iter()
    .enumerate()
    {
        let source = package(&world, folder);
        let out = world.path(&format!("work/out-{number}"));
        let mut command = world.bare(
            "sh",
            &["-c", script, CLI, "protect-build", "--no-record", "--profile", "standard", "--out"],
        );
        command.arg(&out).env("PROTECTED_REGISTRY_BUILD_SECRET", SECRET).current_dir(&source);
        world.run(command).succeeded();
        for file in files(&out) {
            let bytes = fs::read(&file).expect("file");
            let text = String::from_utf8_lossy(&bytes);
            for private in [SECRET, &*source.to_string_lossy()] {
                assert!(!text.contains(private), "{} holds `{private}`", file.display());
            }
        }
        let manifest = fs::read_to_string(out.join("evidence/build-manifest.json")).expect("manifest");
        let manifest: Value = serde_json::from_str(&manifest).expect("JSON");
        assert_eq!(manifest["hardening"]["profile"], "standard");
        assert_eq!(manifest["hardening"]["secret"], true);
        let commitment = manifest["hardening"]["seed_commitment"].clone();
        found.push((fs::read(out.join("acme-ledger-1.2.0.tgz")).expect("tarball"), commitment));
    }
    for (number, one) in found.iter().enumerate() {
        assert!(*one == found[0], "build {number} is another one");
    }
}
