//! Signing: what a publish says about itself is signed, strangers accept it, and nothing goes out unsigned.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    aws,
    clients::tool,
    google,
    harness::{CLI, Screen, World},
    openbao::Bao,
    proxy::Fault,
    raw,
};

/// Whom the certificates of run `release` name.
pub(crate) fn identity(world: &World) -> String {
    format!("{}/acme/core/.github/workflows/release.yml@refs/heads/main", world.base())
}

pub(crate) fn bundle_of(folder: &Path, name: &str) -> Value {
    let path = folder.join(format!("evidence/{name}.sigstore.json"));
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).expect("JSON")
}

pub(crate) fn statement_of(bundle: &Value) -> Value {
    let payload = bundle["dsseEnvelope"]["payload"].as_str().expect("payload");
    serde_json::from_slice(&STANDARD.decode(payload).expect("base64")).expect("JSON")
}

pub(crate) fn build_of(world: &World, version: &str) -> PathBuf {
    world.path(&format!("work/acme-core-{version}/protected-build/acme-core-{version}"))
}

fn publish(world: &World, version: &str, more: &[&str]) -> Screen {
    let folder = world.package("@acme/core", version);
    let args: Vec<&str> = ["publish"].into_iter().chain(more.iter().copied()).collect();
    world.cli_in(&folder, &args)
}

/// How often something at this path was asked.
pub(crate) fn asked(world: &World, path: &str) -> usize {
    let of = |exchange: &crate::proxy::Exchange| {
        let line = exchange.request.split(|byte| *byte == b'\r').next().unwrap_or_default().to_vec();
        String::from_utf8_lossy(&line).split(' ').nth(1).is_some_and(|target| target.contains(path))
    };
    world.proxy.exchanges().iter().filter(|exchange| of(exchange)).count()
}

/// What the server answered to the first request at this path, head and all.
fn answer(world: &World, path: &str) -> &'static [u8] {
    let exchanges = world.proxy.exchanges();
    let found = exchanges.iter().find(|exchange| {
        let line = exchange.request.split(|byte| *byte == b'\r').next().unwrap_or_default();
        String::from_utf8_lossy(line).contains(path)
    });
    Vec::leak(found.unwrap_or_else(|| panic!("nothing asked {path}")).answer.clone())
}

#[test]
fn a_publish_is_signed_and_strangers_accept_it() {
    let world = World::new();
    let screen = publish(&world, "1.0.0", &[]);
    screen.succeeded();
    let steps: Vec<&str> = screen.stderr.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    let step = |name: &str| steps.iter().find(|step| step.starts_with(name)).copied().unwrap_or_default();
    assert!(step("certify").contains(&format!("{}, says {}", identity(&world), issuer(&world))), "{screen}");
    assert!(step("sign").contains("provenance") && step("sign").contains("; log entry "), "{screen}");

    let folder = build_of(&world, "1.0.0");
    let bundle = bundle_of(&folder, "provenance");
    assert_eq!(bundle["mediaType"], "application/vnd.dev.sigstore.bundle.v0.3+json");
    let statement = statement_of(&bundle);
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(statement["subject"].as_array().map(Vec::len), Some(1));
    assert_eq!(statement["subject"][0]["name"], "pkg:npm/%40acme/core@1.0.0");
    let unsigned = fs::read(folder.join("evidence/provenance.intoto.json")).expect("statement");
    assert_eq!(
        STANDARD.encode(&unsigned),
        bundle["dsseEnvelope"]["payload"],
        "what is signed is what stands in the file"
    );
    assert!(world.summary().contains("| provenance | `"), "{}", world.summary());

    // Every bundle of the run carries the one certificate.
    let bundles: Vec<PathBuf> = crate::harness::files(&folder.join("evidence"))
        .into_iter()
        .filter(|path| path.to_string_lossy().ends_with(".sigstore.json"))
        .collect();
    let certificate = |path: &PathBuf| {
        let bundle: Value = serde_json::from_slice(&fs::read(path).expect("bundle")).expect("JSON");
        bundle["verificationMaterial"]["certificate"]["rawBytes"].as_str().expect("certificate").to_owned()
    };
    let first = certificate(&bundles[0]);
    assert!(bundles.iter().all(|path| certificate(path) == first));
    assert_eq!(asked(&world, "/signingCert"), 1);

    // Attached to FractalOps, each once; and the registry, which verified it, gives the provenance to who asks.
    let evidence = world.operator_get("/v1/evidence?limit=50&type=sigstore-bundle");
    let digests: Vec<&str> =
        evidence["items"].as_array().expect("items").iter().filter_map(|it| it["sha256"].as_str()).collect();
    for path in &bundles {
        let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(fs::read(path).expect("bundle")));
        assert_eq!(digests.iter().filter(|found| **found == digest).count(), 1, "{}", path.display());
    }
    let sent = world
        .proxy
        .exchanges()
        .into_iter()
        .find(|exchange| exchange.request.starts_with(b"PUT /repository/"));
    let sent = String::from_utf8_lossy(&sent.expect("an upload").request).into_owned();
    assert!(sent.contains("@acme/core-1.0.0.sigstore"), "the provenance goes along");

    let tarball = folder.join("acme-core-1.0.0.tgz");
    for path in &bundles {
        assert!(python(&world, path, &tarball).status.success(), "{}", path.display());
        assert!(javascript(&world, path).status.success(), "{}", path.display());
    }
    // And each of them says no to a bundle that was changed.
    let mut changed = bundle.clone();
    changed["dsseEnvelope"]["payload"] = STANDARD.encode(unsigned.to_ascii_uppercase()).into();
    let path = world.write("changed.sigstore.json", &changed.to_string());
    assert!(!python(&world, &path, &tarball).status.success());
    assert!(!javascript(&world, &path).status.success());
}

/// sigstore-python, offline.
pub(crate) fn python(world: &World, bundle: &Path, artifact: &Path) -> std::process::Output {
    let config = trust(world, "client_trust_config.json");
    Command::new(tool("sigstore-python").join("sigstore"))
        .arg("--trust-config")
        .arg(config)
        .args(["verify", "identity", "--offline", "--cert-identity", &identity(world)])
        .args(["--cert-oidc-issuer", &issuer(world)])
        .arg("--bundle")
        .arg(bundle)
        .arg(artifact)
        .env("HOME", world.path("home"))
        .output()
        .expect("sigstore")
}

/// sigstore-js, as npm does it.
pub(crate) fn javascript(world: &World, bundle: &Path) -> std::process::Output {
    const SCRIPT: &str = r#"
const { readFileSync } = require('node:fs');
const { bundleFromJSON } = require('@sigstore/bundle');
const { TrustedRoot } = require('@sigstore/protobuf-specs');
const { Verifier, toTrustMaterial, toSignedEntity } = require('@sigstore/verify');
const read = file => JSON.parse(readFileSync(file));
const [root, bundle, subjectAlternativeName, issuer] = process.argv.slice(2);
const verifier = new Verifier(toTrustMaterial(TrustedRoot.fromJSON(read(root))));
verifier.verify(toSignedEntity(bundleFromJSON(read(bundle))), { subjectAlternativeName, extensions: { issuer } });
"#;
    let libraries = tool("node-24").join("../../sigstore-js/node_modules");
    assert!(libraries.is_dir(), "sigstore-js is not installed: run `cargo xtask tools`");
    Command::new(tool("node-24").join("node"))
        .arg("-e")
        .arg(SCRIPT)
        .arg("script")
        .arg(trust(world, "trusted_root.json"))
        .arg(bundle)
        .args([identity(world), issuer(world)])
        .env("NODE_PATH", libraries)
        .output()
        .expect("node")
}

pub(crate) fn issuer(world: &World) -> String {
    format!("{}/local-issuer/github-actions", world.base())
}

/// What verifies this world's signatures, in a file.
pub(crate) fn trust(world: &World, name: &str) -> PathBuf {
    let (status, body) = world.request("GET", &format!("/sigstore/{name}"), None, &[], b"");
    assert_eq!(status, 200, "{name}");
    let path = world.path(&format!("tmp/{name}"));
    fs::write(&path, body).expect("write");
    path
}

/// Both logs, with services named one by one and an ID token for them.
#[test]
fn services_of_ones_own_sign_with_an_id_token() {
    let world = World::new();
    for (version, log) in [("1.0.0", "1"), ("1.0.1", "2")] {
        let folder = world.package("@acme/core", version);
        let mut command = private(&world, &folder);
        command.env("PROTECTED_REGISTRY_REKOR_VERSION", log);
        world.run(command).succeeded();
        let build = build_of(&world, version);
        let bundle = bundle_of(&build, "provenance");
        let kind = &bundle["verificationMaterial"]["tlogEntries"][0]["kindVersion"];
        let expected = if log == "1" { ("dsse", "0.0.1") } else { ("hashedrekord", "0.0.2") };
        assert_eq!((kind["kind"].as_str(), kind["version"].as_str()), (Some(expected.0), Some(expected.1)));
        let file = build.join("evidence/provenance.sigstore.json");
        let tarball = build.join(format!("acme-core-{version}.tgz"));
        assert!(python(&world, &file, &tarball).status.success(), "version {log}");
        assert!(javascript(&world, &file).status.success(), "version {log}");
    }
    assert!(asked(&world, "audience=sigstore") > 0, "an ID token for the authority was asked for");
}

/// A publish with the world's own services, named one by one.
fn private(world: &World, folder: &Path) -> Command {
    let mut command = world.github("release", CLI, &["publish", "--sign", "keyless"]);
    let base = format!("{}/sigstore", world.base());
    command
        .current_dir(folder)
        .env("PROTECTED_REGISTRY_FULCIO_URL", &base)
        .env("PROTECTED_REGISTRY_REKOR_URL", &base)
        .env("PROTECTED_REGISTRY_TIMESTAMP_URL", format!("{base}/api/v1/timestamp"))
        .env("PROTECTED_REGISTRY_TRUSTED_ROOT", trust(world, "trusted_root.json"));
    command
}

/// Attack: the repository names an authority of its own, and is sent a token that is good at another.
#[test]
fn an_authority_that_the_repository_chose_gets_a_token_for_itself_alone() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    let base = format!("{}/sigstore", world.base());
    let root = trust(&world, "trusted_root.json");
    world.write(
        "acme-core-1.0.0/protected-registry.toml",
        &format!(
            "[sign]\nfulcio_url = \"{base}\"\nrekor_url = \"{base}\"\ntimestamp_url = \"{base}/api/v1/timestamp\"\ntrusted_root = \"{}\"\n",
            root.display()
        ),
    );
    world.cli_in(&folder, &["publish"]).failed(4, &["certificate", "audience"]);
    assert_eq!(asked(&world, "audience=sigstore"), 0);
    let mut command = world.github("release", CLI, &["publish"]);
    command.current_dir(&folder).env("SIGSTORE_ID_TOKEN", "a.b.c");
    world.run(command).failed(2, &["`SIGSTORE_ID_TOKEN` is set", "stands only in protected-registry.toml"]);
    nothing_is_published(&world);
}

fn nothing_is_published(world: &World) {
    assert_eq!(world.count("registry.publish", "allow", None), 0);
    let left = crate::harness::files(&world.path("work"));
    let left: Vec<_> =
        left.iter().filter(|path| path.to_string_lossy().ends_with(".sigstore.json")).collect();
    assert!(left.is_empty(), "{left:?}");
    // Every session and token of the failed run is gone.
    let minted = world.count("exchange", "allow", None) + world.count("npm_token.mint", "allow", None);
    assert_eq!(world.count("token.revoke", "allow", None), minted);
}

/// Each service in turn does not answer.
#[test]
fn nothing_is_published_unsigned_when_a_service_is_down() {
    for (path, who) in [
        ("/signingCert", "certificate authority"),
        ("/log/entries", "transparency log"),
        ("/timestamp", "timestamp authority"),
    ] {
        let world = World::new();
        world.proxy.decide(
            move |_, target, _| {
                if target.contains(path) { Fault::Unavailable } else { Fault::None }
            },
        );
        publish(&world, "1.0.0", &[]).failed(5, &[who, "503"]);
        nothing_is_published(&world);
    }
}

#[test]
fn a_lost_answer_of_the_log_is_no_reason_to_fail() {
    let world = World::new();
    world.proxy.decide(|_, target, _| {
        static LOST: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
        let first = target.contains("/log/entries") && !LOST.swap(true, std::sync::atomic::Ordering::SeqCst);
        if first { Fault::LoseAnswer } else { Fault::None }
    });
    publish(&world, "1.0.0", &[]).succeeded();
    assert!(asked(&world, "/log/entries") > 1);
}

/// Answers that are true, and to something else; answers that are too long; answers that send us elsewhere.
#[test]
fn what_the_services_answer_is_not_believed() {
    let world = World::new();
    publish(&world, "1.0.0", &[]).succeeded();
    let certificate = answer(&world, "/signingCert");
    let entry = answer(&world, "/log/entries");
    let time = answer(&world, "/timestamp");
    let long: &'static [u8] = {
        let mut long =
            b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n".to_vec();
        long.resize(2 * 1024 * 1024, b' ');
        Vec::leak(long)
    };
    let elsewhere: &[u8] = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:9/here\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let page: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>";
    for (at, path, said, message) in [
        (1, "/signingCert", certificate, "its certificate is for another key than the one that was sent"),
        (2, "/log/entries", entry, "expected the entry of our signature, found that of another"),
        (3, "/timestamp", time, "expected a time for the digest "),
        (4, "/signingCert", long, "larger than the 1048576 bytes"),
        (5, "/log/entries", long, "larger than the 1048576 bytes"),
        (6, "/timestamp", long, "larger than the 1048576 bytes"),
        (7, "/signingCert", elsewhere, "redirects to http://127.0.0.1:9"),
        (8, "/log/entries", elsewhere, "redirects to http://127.0.0.1:9"),
        (9, "/timestamp", elsewhere, "redirects to http://127.0.0.1:9"),
        (10, "/signingCert", page, "cannot be used"),
        (11, "/log/entries", page, "it is no log entry"),
        (12, "/timestamp", page, "it is no time-stamp response"),
    ] {
        world.proxy.decide(
            move |_, target, _| {
                if target.contains(path) { Fault::Say(said) } else { Fault::None }
            },
        );
        let version = format!("1.0.{at}");
        publish(&world, &version, &[]).failed(1, &[message]);
        assert_eq!(world.count("registry.publish", "allow", Some(&version)), 0);
    }
}

#[test]
fn another_trusted_root_verifies_nothing() {
    let (world, other) = (World::new(), World::new());
    let folder = world.package("@acme/core", "1.0.0");
    let mut command = private(&world, &folder);
    command.env("PROTECTED_REGISTRY_TRUSTED_ROOT", trust(&other, "trusted_root.json"));
    world.run(command).failed(1, &["was signed, and does not verify against the trusted root", "hint: "]);
    nothing_is_published(&world);

    for (content, message) in [("{}", "trusted root"), ("", "trusted root"), ("[]", "trusted root")] {
        let mut command = private(&world, &folder);
        command.env("PROTECTED_REGISTRY_TRUSTED_ROOT", world.write("root.json", content));
        world.run(command).failed(2, &[message]);
    }
    let mut command = private(&world, &folder);
    command.env("PROTECTED_REGISTRY_TRUSTED_ROOT", world.path("missing.json"));
    world.run(command).failed(2, &["cannot read the trusted root"]);
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    let tarball = world.write("some.tgz", "");
    let tarball = tarball.to_str().expect("path");
    for (args, environment, message) in [
        (&["publish", "--sign", "key"][..], &[][..], "nothing says the key to sign with"),
        (
            &["publish", "--sign", "keyless", "--sign-key", "local-file://a"],
            &[],
            "a key is given, and is not used",
        ),
        (&["publish", "--sign-key", "MIGHAgEAMBMGByqGSM49AgEG"], &[], "the key to sign with"),
        (
            &["publish", "--sign-key", "aws-kms://arn:aws:kms:us-east-1:123456789012:alias/acme"],
            &[],
            "nothing says who asks AWS",
        ),
        (&["publish", "--sign-key", "openbao://transit/release"], &[], "nothing says where OpenBao is"),
        (
            &["publish", "--sign-key", "local-file://a"],
            &[],
            "is a file on this machine, which is refused in CI",
        ),
        (&["publish"], &[("PROTECTED_REGISTRY_SIGN", "maybe")], "PROTECTED_REGISTRY_SIGN is `maybe`"),
        (
            &["publish"],
            &[("PROTECTED_REGISTRY_FULCIO_URL", "https://fulcio.example")],
            "nothing says which log to use",
        ),
        (
            &["publish"],
            &[
                ("PROTECTED_REGISTRY_FULCIO_URL", "https://fulcio.example"),
                ("PROTECTED_REGISTRY_REKOR_URL", "https://rekor.example"),
            ],
            "nothing says who timestamps",
        ),
        (&["publish"], &[("PROTECTED_REGISTRY_FULCIO_URL", "http://fulcio.example")], "only sent over https"),
        (&["publish"], &[("PROTECTED_REGISTRY_REKOR_VERSION", "3")], "expected 1 or 2"),
        (&["publish", "--sign", "keyless", "--tarball", tarball], &[], "nothing here knows how it was made"),
    ] {
        let mut command = world.github("release", CLI, args);
        command.current_dir(&folder).envs(environment.iter().copied());
        let screen = world.run(command);
        screen.failed(2, &[message]);
        assert!(!screen.stderr.contains("MIGHAgEA"), "{screen}");
    }
    nothing_is_published(&world);
}

#[test]
fn it_can_be_switched_off_and_a_dry_run_signs_nothing() {
    let world = World::new();
    publish(&world, "1.0.0", &["--sign", "off"]).succeeded();
    let folder = build_of(&world, "1.0.0").join("evidence");
    assert!(!folder.join("provenance.sigstore.json").exists());
    let screen = publish(&world, "1.0.1", &["--dry-run"]);
    screen.succeeded();
    assert!(screen.stderr.contains("a publish would be signed with a certificate of "), "{screen}");
    assert_eq!(
        asked(&world, "/signingCert") + asked(&world, "/log/entries") + asked(&world, "/timestamp"),
        0
    );
}

/// What a screen says, without how long it took.
fn told(screen: &Screen) -> Vec<String> {
    let line = |line: &str| line.rsplit_once(" (").map_or(line, |(line, _)| line).to_owned();
    screen.stderr.lines().filter(|it| !it.starts_with("::add-mask::")).map(line).collect()
}

/// Nobody asked for it, and everybody who looks is told: on the screen, in the summary, in the result.
#[test]
fn what_goes_unsigned_unasked_says_so() {
    const TARBALL: &str = "a tarball is published as it is, and nothing here knows how it was made";
    const NO_RECORD: &str =
        "without a record there is no session with FractalOps to sign with, and nothing else is configured";
    let world = World::new();
    let folder = world.package("@acme/plain", "1.0.0");
    let build = ["protect-build", "--no-record", "--format", "json"];
    let screen = world.cli_in(&folder, &build);
    screen.succeeded();
    let expected = [
        "@acme/plain@1.0.0".to_owned(),
        format!("  note      nothing is signed: {NO_RECORD}"),
        "  harden    3 files, 264 B → 1.2 kB".to_owned(),
        "  sbom      0 components, 0 dependencies between them, 0 with a digest, 0 with a licence; from package.json alone".to_owned(),
    ];
    assert_eq!(told(&screen), expected, "{screen}");
    let result: Value = serde_json::from_str(&screen.stdout).expect("JSON");
    assert_eq!((&result["signed"], &result["unsigned"]), (&json!([]), &json!(NO_RECORD)));
    let summary = world.summary();
    assert!(summary.contains("### @acme/plain@1.0.0\n"), "{summary}");
    assert!(summary.contains(&format!("| signed | no: {NO_RECORD} |\n")), "{summary}");
    assert!(summary.contains("| build | not put on record |\n"), "{summary}");

    fs::write(world.path("tmp/summary"), "").expect("write");
    let tarball = "protected-build/acme-plain-1.0.0/acme-plain-1.0.0.tgz";
    let screen = world.cli_in(&folder, &["publish", "--tarball", tarball, "--format", "json"]);
    screen.succeeded();
    let note = format!("  note      nothing is signed: {TARBALL}");
    let steps: Vec<String> = told(&screen)
        .iter()
        .map(|line| line.split_whitespace().next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(steps, ["identity", "exchange", "note", "token", "upload", "revoke"], "{screen}");
    assert_eq!(told(&screen)[2], note, "{screen}");
    let result: Value = serde_json::from_str(&screen.stdout).expect("JSON");
    assert_eq!((&result[0]["signed"], &result[0]["unsigned"]), (&json!([]), &json!(TARBALL)));
    assert!(world.summary().contains(&format!("| signed | no: {TARBALL} |\n")), "{}", world.summary());
    assert_eq!(asked(&world, "/signingCert"), 0);

    // Whoever asked for it is not told on the screen; a publish that is signed says nothing of the kind.
    let folder = world.package("@acme/core", "1.0.0");
    let screen = world.cli_in(&folder, &["publish", "--sign", "off", "--format", "json"]);
    assert!(!screen.succeeded().stderr.contains("nothing is signed"), "{screen}");
    let result: Value = serde_json::from_str(&screen.stdout).expect("JSON");
    assert_eq!(result[0]["unsigned"], "signing is switched off");
    let folder = world.package("@acme/core", "1.0.1");
    let screen = world.cli_in(&folder, &["publish", "--format", "json"]);
    let result: Value = serde_json::from_str(&screen.succeeded().stdout).expect("JSON");
    assert_eq!(result[0]["signed"], json!(["sbom.cdx", "sbom.spdx", "provenance"]));
    assert_eq!(result[0]["unsigned"], Value::Null);
}

/// Every request takes a fifth of a second: what signing adds is told by the difference.
#[test]
fn signing_adds_at_most_two_round_trips() {
    const TRIP: u64 = 200;
    let world = World::new();
    world.proxy.decide(|_, _, _| Fault::DelayMs(TRIP));
    let time = |version: &str, more: &[&str]| {
        let started = Instant::now();
        publish(&world, version, more).succeeded();
        started.elapsed()
    };
    let without = time("1.0.0", &["--sign", "off"]);
    let with = time("1.0.1", &[]);
    let trips = with.saturating_sub(without).as_millis() as f64 / TRIP as f64;
    assert!(trips < 2.9, "signing adds {trips:.2} round trips");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_while_it_signs() {
    let world = World::new();
    world.proxy.decide(
        |_, target, _| {
            if target.contains("/log/entries") { Fault::StallMs(8_000) } else { Fault::None }
        },
    );
    let folder = world.package("@acme/core", "1.0.0");
    let mut command = world.github("release", CLI, &["publish"]);
    command.current_dir(&folder).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("the program starts");
    let since = Instant::now();
    while asked(&world, "/timestamp") == 0 {
        assert!(since.elapsed() < Duration::from_secs(30), "it does not sign");
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_millis(300));
    let signal = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill");
    assert!(signal.success());
    let signalled = Instant::now();
    let output = child.wait_with_output().expect("output");
    assert!(signalled.elapsed() < Duration::from_secs(6));
    let screen = Screen {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    world.saw(screen.clone());
    screen.failed(143, &["cancelled"]);
    nothing_is_published(&world);
}

/// Outside of CI, without FractalOps: a key in a file, and what it signed verified by OpenSSL.
#[test]
fn a_key_in_a_file_signs_where_there_is_nothing_else() {
    let world = World::new();
    let keys = world.path("home/keys");
    fs::create_dir_all(&keys).expect("folder");
    let (_, public) = key_pair(&keys, "trial");
    let folder = world.package("@acme/core", "1.0.0");
    let args = ["protect-build", "--no-record", "--sign-key", "local-file://trial"];
    let mut command = world.bare(CLI, &args);
    command.current_dir(&folder).env("PROTECTED_REGISTRY_KEY_FOLDER", &keys);
    let screen = world.run(command);
    screen.succeeded();
    let bundle = bundle_of(&build_of(&world, "1.0.0"), "provenance");
    let material = &bundle["verificationMaterial"];
    assert_eq!(material["publicKey"]["hint"], hint(&public));
    assert!(material["tlogEntries"].as_array().is_none_or(Vec::is_empty));
    verified_by_openssl(&world, &bundle, &public);
    assert_eq!(asked(&world, "/sigstore"), 0);
}

/// Makes a key that signs, as a page of ours shows it, and its public part.
pub(crate) fn key_pair(keys: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (key, public) = (keys.join(format!("{name}.pem")), keys.join(format!("{name}.pub")));
    openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path(&key)]);
    #[cfg(unix)]
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("mode");
    openssl(&["pkey", "-in", path(&key), "-pubout", "-out", path(&public)]);
    (key, public)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("path")
}

fn openssl(args: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(args).output().expect("openssl");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// What cosign calls a public key: base64 of the SHA-256 of its DER.
pub(crate) fn hint(public: &Path) -> String {
    let der = openssl(&["pkey", "-pubin", "-in", path(public), "-outform", "DER"]);
    STANDARD.encode(<sha2::Sha256 as sha2::Digest>::digest(der))
}

pub(crate) fn verified_by_openssl(world: &World, bundle: &Value, public: &Path) {
    let envelope = &bundle["dsseEnvelope"];
    let decode = |text: &Value| STANDARD.decode(text.as_str().expect("text")).expect("base64");
    let (payload, kind) = (decode(&envelope["payload"]), envelope["payloadType"].as_str().expect("type"));
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend(payload);
    let (file, signature) = (world.path("tmp/message"), world.path("tmp/signature"));
    fs::write(&file, message).expect("write");
    fs::write(&signature, decode(&envelope["signatures"][0]["sig"])).expect("write");
    let said =
        openssl(&["dgst", "-sha256", "-verify", path(public), "-signature", path(&signature), path(&file)]);
    assert_eq!(String::from_utf8_lossy(&said).trim(), "Verified OK");
}

#[test]
fn a_key_in_openbao_signs_and_never_leaves_it() {
    let world = World::new();
    let bao = Bao::start(&world);
    assert_eq!(bao.post("transit/keys/release", "{\"type\":\"ecdsa-p256\"}"), 200);
    assert_eq!(bao.post("transit/keys/release/rotate", "{}"), 200);
    assert_eq!(bao.post("transit/keys/sealing", "{\"type\":\"aes256-gcm96\"}"), 200);
    let run = |version: &str, key: &str, token: &str| {
        let folder = world.package("@acme/core", version);
        let mut command = world.github("release", CLI, &["publish", "--sign-key", key]);
        command
            .current_dir(&folder)
            .env("BAO_ADDR", format!("http://{}", bao.address))
            .env("BAO_TOKEN", token);
        world.run(command)
    };
    run("1.0.0", "openbao://transit/release", &bao.root).succeeded();
    let bundle = bundle_of(&build_of(&world, "1.0.0"), "provenance");
    let address = bao.address.parse().expect("address");
    let headers = [("x-vault-token", bao.root.as_str())];
    let (_, _, body) = raw::request(address, "GET", "/v1/transit/keys/release", None, &headers, b"");
    let keys: Value = serde_json::from_slice(&body).expect("JSON");
    let public = world.write("release.pub", keys["data"]["keys"]["2"]["public_key"].as_str().expect("PEM"));
    assert_eq!(bundle["verificationMaterial"]["publicKey"]["hint"], hint(&public));
    verified_by_openssl(&world, &bundle, &public);

    run("1.0.1", "openbao://transit/sealing", &bao.root)
        .failed(2, &["expected a key of type `ecdsa-p256`, found `aes256-gcm96`"]);
    run("1.0.1", "openbao://transit/absent", &bao.root).failed(4, &["answered 404"]);
    let refused = run("1.0.1", "openbao://transit/release", "no-such-token-1234");
    refused.failed(4, &["answered 403", "the token needs `read` on the key"]);
    assert!(!refused.stderr.contains("no-such-token-1234"), "{refused}");
    assert_eq!(world.count("registry.publish", "allow", Some("1.0.1")), 0);
}

/// A stand-in that Google's own client takes for Google Cloud.
#[test]
fn a_key_in_google_cloud_signs_and_never_leaves_it() {
    let world = World::new();
    let cloud = google::Fake::start();
    let ring = "projects/acme-prod/locations/global/keyRings/ci/cryptoKeys";
    let (release, wide) = (format!("{ring}/release"), format!("{ring}/wide"));
    let (token, stranger) = {
        let mut cloud = cloud.cloud();
        let member = "serviceAccount:publisher@acme-prod.iam.gserviceaccount.com";
        for (name, algorithm) in [(&release, "EC_SIGN_P256_SHA256"), (&wide, "EC_SIGN_P384_SHA384")] {
            cloud.key(name, algorithm);
            cloud.bind(name, "roles/cloudkms.signerVerifier", member);
        }
        (cloud.token(member), cloud.token("user:milton@initech.example"))
    };
    let run = |version: &str, key: &str, token: &str| {
        let folder = world.package("@acme/core", version);
        let mut command =
            world.github("release", CLI, &["publish", "--sign-key", &format!("gcp-kms://{key}")]);
        command.current_dir(&folder).envs(cloud.environment()).env("GOOGLE_OAUTH_ACCESS_TOKEN", token);
        world.run(command)
    };
    let one = format!("{release}/cryptoKeyVersions/1");
    run("1.0.0", &one, &token).succeeded();
    let bundle = bundle_of(&build_of(&world, "1.0.0"), "provenance");
    let address = cloud.url().trim_start_matches("http://").parse().expect("address");
    let (_, _, body) = raw::request(address, "GET", &format!("/v1/{one}/publicKey"), Some(&token), &[], b"");
    let key: Value = serde_json::from_slice(&body).expect("JSON");
    let public = world.write("release.pub", key["pem"].as_str().expect("PEM"));
    assert_eq!(bundle["verificationMaterial"]["publicKey"]["hint"], hint(&public));
    verified_by_openssl(&world, &bundle, &public);

    run("1.0.1", &release, &token)
        .failed(2, &["expected /cryptoKeyVersions/<n> at the end of the reference"]);
    run("1.0.1", &format!("{wide}/cryptoKeyVersions/1"), &token)
        .failed(2, &["expected a key for `EC_SIGN_P256_SHA256`, found one for `EC_SIGN_P384_SHA384`"]);
    let refused = run("1.0.1", &one, &stranger);
    refused.failed(4, &["answered 403", "roles/cloudkms.signerVerifier"]);
    assert!(!refused.stderr.contains(&stranger), "{refused}");
    assert_eq!(world.count("registry.publish", "allow", Some("1.0.1")), 0);
}

/// AWS KMS: moto behind the checks that the real service makes.
#[test]
fn a_key_in_aws_signs_and_never_leaves_it() {
    let world = World::new();
    let kms = aws::Kms::start(&world);
    let run = |version: &str, key: &str, secret: Option<&str>| {
        let folder = world.package("@acme/core", version);
        let mut command = world.bare(CLI, &["protect-build", "--no-record", "--sign-key", &kms.key(key)]);
        command.current_dir(&folder).envs(kms.credentials("publisher"));
        command.envs(secret.map(|secret| ("AWS_SECRET_ACCESS_KEY", secret)));
        world.run(command)
    };
    run("1.0.0", "alias/release", None).succeeded();

    let key = kms.key("p256");
    let answer = kms.call("get_public_key", &json!({"KeyId": key.trim_start_matches("aws-kms://")}));
    let theirs = answer["PublicKey"].as_str().expect("text");
    let (der, public) = (world.path("tmp/aws.der"), world.path("tmp/aws.pub"));
    fs::write(&der, STANDARD.decode(theirs).expect("base64")).expect("write");
    openssl(&["pkey", "-pubin", "-inform", "DER", "-in", path(&der), "-out", path(&public)]);
    let bundle = bundle_of(&build_of(&world, "1.0.0"), "provenance");
    assert_eq!(bundle["verificationMaterial"]["publicKey"]["hint"], hint(&public));
    verified_by_openssl(&world, &bundle, &public);

    run("1.0.1", "one", None).failed(4, &["answered 400", "UnsupportedOperationException"]);
    run("1.0.1", "p384", None).failed(2, &["expected a key of the spec ECC_NIST_P256"]);
    let screen = run("1.0.1", "p256", Some("no-such-secret"));
    screen.failed(4, &["InvalidSignatureException", "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"]);
    assert!(!screen.stderr.contains("no-such-secret"), "{screen}");
    assert!(!world.path("work/acme-core-1.0.1/protected-build").exists(), "a build is left behind");
}

#[test]
fn doctor_says_who_would_sign() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    let screen = world.cli_in(&folder, &["doctor"]);
    screen.succeeded();
    let signing = format!("signing        with a certificate of {}/sigstore", world.base());
    for line in [&*signing, "signing key    the session with FractalOps", "authority      http://"] {
        assert!(screen.stderr.contains(line), "{line}\n{screen}");
    }
    assert_eq!(asked(&world, "/signingCert"), 0);
    world.proxy.decide(
        |_, target, _| {
            if target.contains("/trustBundle") { Fault::Unavailable } else { Fault::None }
        },
    );
    world.cli_in(&folder, &["doctor"]).failed(5, &["FAILED   authority"]);

    let mut command = world.github("release", CLI, &["doctor"]);
    command
        .current_dir(&folder)
        .env("PROTECTED_REGISTRY_SIGN", "key")
        .env("PROTECTED_REGISTRY_SIGN_KEY", "openbao://transit/release");
    world.run(command).failed(2, &["FAILED   signing key", "nothing says where OpenBao is"]);
}
