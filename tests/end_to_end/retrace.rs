//! A build crashes at a customer's, and its trace is read: with the folder of source maps, and with them sealed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::harness::{CLI, Screen, World, files};

const KEY: &str = "8f14e45fceea167a5a36dedd4bea2543f0e1d2c3b4a5968778695a4b3c2d1e0f";
const OTHER_KEY: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f03452aeb4dded635a7a61aeecf54e41f8";

/// What stands in the source alone: nothing of it may be found outside the escrow.
const REMARK: &str = "nobody outside may read this remark";

/// A package that throws in a constructor, at the line that `padding` moves.
fn package(world: &World, version: &str, padding: usize) -> PathBuf {
    let folder = format!("core-{version}");
    world.write(
        &format!("{folder}/package.json"),
        &format!("{{\"name\": \"@acme/core\", \"version\": \"{version}\", \"main\": \"src/index.ts\"}}"),
    );
    world.write(
        &format!("{folder}/src/index.ts"),
        &format!(
            "import {{ Till }} from './till';\n\nexport function open(amount: number): Till {{\n  return new Till(amount);\n}}\nexport const release = '{version}';\n"
        ),
    );
    world.write(
        &format!("{folder}/src/till.ts"),
        &format!(
            "// {REMARK}\n{}export class Till {{\n  constructor(readonly startingAmount: number) {{\n    if (startingAmount < 0) {{\n      throw new RangeError('negative amount');\n    }}\n  }}\n}}\nexport const since = '{version}';\n",
            "\n".repeat(padding)
        ),
    );
    world.path("work").join(folder)
}

fn build(world: &World, folder: &Path, more: &[&str]) -> Screen {
    let mut command = world.bare(CLI, &[&["protect-build", "--no-record"], more].concat());
    command.current_dir(folder);
    world.run(command)
}

/// Installs the artifact as a package manager would, lets it crash, and returns what Node wrote.
fn crash(world: &World, folder: &Path, version: &str) -> String {
    let installed = world.path("work/app/node_modules/@acme/core");
    let _ = fs::remove_dir_all(&installed);
    let artifact = folder.join(format!("protected-build/acme-core-{version}/artifact"));
    for file in files(&artifact) {
        let place = installed.join(file.strip_prefix(&artifact).expect("below"));
        fs::create_dir_all(place.parent().expect("parent")).expect("folder");
        fs::copy(&file, place).expect("copy");
    }
    world.write("app/main.js", "const { open } = require('@acme/core');\n\nopen(-1);\n");
    let mut node = world.bare("node", &["main.js"]);
    node.current_dir(world.path("work/app"));
    let screen = world.run(node);
    assert_eq!(screen.code, 1, "{screen}");
    assert!(!screen.stderr.contains("till.ts") && !screen.stderr.contains(REMARK), "{screen}");
    screen.stderr
}

fn retrace(world: &World, folder: &Path, args: &[&str], input: &[u8]) -> Screen {
    run(world, retrace_command(world, folder, args), input)
}

fn retrace_command(world: &World, folder: &Path, args: &[&str]) -> Command {
    let mut command = world.bare(CLI, &[&["retrace"], args].concat());
    command.current_dir(folder);
    command
}

fn run(world: &World, mut command: Command, input: &[u8]) -> Screen {
    let file = world.path("tmp/stack.txt");
    fs::write(&file, input).expect("write");
    command.stdin(Stdio::from(fs::File::open(&file).expect("open")));
    let screen = world.run(command);
    fs::remove_file(file).expect("remove");
    screen
}

/// Puts a key into the folder that `world`'s home has by default.
fn key(world: &World, name: &str, content: &str) -> PathBuf {
    let folder = world.path("home/.config/protected-registry/keys");
    fs::create_dir_all(&folder).expect("folder");
    let file = folder.join(format!("{name}.key"));
    fs::write(&file, content).expect("key");
    #[cfg(unix)]
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("mode");
    file
}

/// What a retraced crash of `package(.., padding)` says.
#[track_caller]
fn assert_read(screen: &Screen, padding: usize) {
    screen.succeeded();
    let line = padding + 5;
    let expected = format!(
        "RangeError: negative amount\n    at new Till (src/till.ts:{line}:13)\n{line:>10} |       throw new RangeError('negative amount');\n           |             ^\n    at open (src/index.ts:4:10)\n"
    );
    assert!(screen.stdout.contains(&expected), "{screen}");
    let main =
        screen.stdout.lines().find(|line| line.contains("main.js:3:1)")).expect("the customer's frame");
    assert!(main.ends_with("[not mapped: no file of that name in the escrow]"), "{screen}");
    let own = screen.stdout.lines().find(|line| line.contains("node:internal")).expect("Node's own frame");
    assert!(own.ends_with("[not mapped: part of the engine]"), "{screen}");
    assert!(screen.stderr.contains("frames mapped with @acme/core@1."), "{screen}");
}

/// Returns the files below `folder` that hold the remark of the source.
fn in_clear(folder: &Path, except: &Path) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| {
        fs::read(path)
            .is_ok_and(|bytes| bytes.windows(REMARK.len()).any(|window| window == REMARK.as_bytes()))
    };
    files(folder).into_iter().filter(|path| !path.starts_with(except)).filter(holds).collect()
}

#[test]
fn reads_a_crash_with_the_folder_of_source_maps() {
    let world = World::new();
    let folder = package(&world, "1.0.0", 0);
    build(&world, &folder, &[]).succeeded();
    let trace = crash(&world, &folder, "1.0.0");
    assert_read(&retrace(&world, &folder, &[], trace.as_bytes()), 0);
    // From a file, and with the escrow named in each way.
    world.write("app/stack.txt", &trace);
    for escrow in
        ["core-1.0.0/protected-build/acme-core-1.0.0", "core-1.0.0/protected-build/acme-core-1.0.0/private"]
    {
        let command = retrace_command(&world, &world.path("work"), &["app/stack.txt", "--escrow", escrow]);
        assert_read(&world.run(command), 0);
    }

    let screen = retrace(&world, &folder, &["--format", "json"], trace.as_bytes());
    let document: serde_json::Value = serde_json::from_str(&screen.succeeded().stdout).expect("JSON");
    assert_eq!(document["mapped"], 2);
    assert_eq!(document["packages"], serde_json::json!(["@acme/core@1.0.0"]));
    let first = &document["frames"][0];
    assert_eq!(first["engine"], "v8");
    assert_eq!(
        first["original"],
        serde_json::json!({
            "package": "@acme/core@1.0.0", "file": "src/till.ts", "line": 5, "column": 13, "function": "Till",
            "kind": "constructor", "source_line": "      throw new RangeError('negative amount');",
            "matched_by": "path",
        })
    );
    let main =
        document["frames"].as_array().expect("frames").iter().find(|frame| frame["original"].is_null());
    assert!(main.is_some_and(|frame| frame["note"].is_string()));
}

#[test]
fn a_sealed_escrow_is_one_file_and_is_opened_in_memory() {
    let world = World::new();
    let folder = package(&world, "1.0.0", 2);
    key(&world, "acme", &format!("{KEY}\n"));
    // By the configuration file, as a repository would say it.
    world.write("core-1.0.0/protected-registry.toml", "[harden]\nescrow_key = \"local-file://acme\"\n");
    build(&world, &folder, &[]).succeeded();
    let built = folder.join("protected-build/acme-core-1.0.0");
    let private: Vec<_> = {
        let mut found: Vec<_> = files(&built.join("private"));
        found.sort();
        found.iter().map(|path| path.file_name().expect("name").to_string_lossy().into_owned()).collect()
    };
    assert_eq!(private, ["escrow.cob", "escrow.json"]);
    #[cfg(unix)]
    for file in files(&built.join("private")) {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&file).expect("file").permissions().mode() & 0o777, 0o600);
    }
    let source = folder.join("src");
    assert_eq!(in_clear(&world.path(""), &source), Vec::<PathBuf>::new(), "the source stands in clear");
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(built.join("evidence/build-manifest.json")).expect("manifest"))
            .expect("JSON");
    assert_eq!(manifest["source_map_escrow"]["key_ref"], "local-file://acme");
    let sealed = fs::read_to_string(built.join("private/escrow.json")).expect("manifest");
    assert!(!sealed.contains(KEY) && sealed.contains("\"key_ref\":\"local-file://acme\""), "{sealed}");

    let trace = crash(&world, &folder, "1.0.0");
    assert_read(&retrace(&world, &folder, &[], trace.as_bytes()), 2);
    let escrow = built.join("private/escrow.cob");
    let escrow = escrow.to_str().expect("utf-8");
    assert_read(&retrace(&world, &folder, &["--escrow", escrow], trace.as_bytes()), 2);
    assert_eq!(in_clear(&world.path(""), &source), Vec::<PathBuf>::new(), "retrace left the source in clear");

    // Two builds seal differently, and say the same of what they seal.
    let first = fs::read(escrow).expect("sealed");
    build(&world, &folder, &[]).succeeded();
    assert_ne!(fs::read(escrow).expect("sealed"), first);
    let again: serde_json::Value =
        serde_json::from_slice(&fs::read(built.join("evidence/build-manifest.json")).expect("manifest"))
            .expect("JSON");
    assert_eq!(again["source_map_escrow"], manifest["source_map_escrow"]);
}

#[test]
fn a_sealed_escrow_that_is_not_right_is_refused() {
    let world = World::new();
    let folder = package(&world, "1.0.0", 0);
    let other = package(&world, "1.1.0", 3);
    let file = key(&world, "acme", KEY);
    for folder in [&folder, &other] {
        build(&world, folder, &["--escrow-key", "local-file://acme"]).succeeded();
    }
    let trace = crash(&world, &folder, "1.0.0");
    let private = folder.join("protected-build/acme-core-1.0.0/private");
    let theirs = other.join("protected-build/acme-core-1.1.0/private");
    let (cob, json) = (private.join("escrow.cob"), private.join("escrow.json"));
    let (sealed, manifest) = (fs::read(&cob).expect("sealed"), fs::read_to_string(&json).expect("manifest"));
    let read = |code: i32, messages: &[&str]| {
        let screen = retrace(&world, &folder, &[], trace.as_bytes());
        screen.failed(code, messages);
        let said = format!("{}{}", screen.stdout, screen.stderr);
        assert!(!said.contains("till.ts") && !said.contains(KEY) && !said.contains(OTHER_KEY), "{screen}");
    };
    assert_read(&retrace(&world, &folder, &[], trace.as_bytes()), 0);

    // Another key, none, one that others can read.
    key(&world, "acme", OTHER_KEY);
    read(4, &["the key `local-file://acme` does not open this data key"]);
    fs::remove_file(&file).expect("remove");
    read(2, &["the key `local-file://acme` cannot be read from", "openssl rand -hex 32"]);
    key(&world, "acme", "not a key");
    read(2, &["it does not hold 64 hexadecimal digits"]);
    key(&world, "acme", KEY);
    #[cfg(unix)]
    {
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("mode");
        read(2, &["its mode 0644 lets others read it"]);
        key(&world, "acme", KEY);
    }

    // The sealed file changed, cut, made longer, or that of another version.
    for at in [0, 30, 60, sealed.len() / 2, sealed.len() - 1] {
        let mut bad = sealed.clone();
        bad[at] ^= 1;
        fs::write(&cob, &bad).expect("write");
        read(7, &["it is not the file of its manifest"]);
        // The manifest's digest is no secret: somebody who changes one changes both.
        let digest = |bytes: &[u8]| hex::encode(<sha2::Sha256 as sha2::Digest>::digest(bytes));
        fs::write(&json, manifest.replace(&digest(&sealed), &digest(&bad))).expect("write");
        let reason =
            if at < 56 { "it was sealed under another key or for another purpose" } else { "chunk " };
        read(7, &[reason]);
        fs::write(&json, &manifest).expect("write");
    }
    for bad in [&sealed[..sealed.len() - 1], &sealed[..40], b""] {
        fs::write(&cob, bad).expect("write");
        read(7, &["it is not the file of its manifest"]);
    }
    fs::copy(theirs.join("escrow.cob"), &cob).expect("copy");
    read(7, &["it is not the file of its manifest"]);
    fs::write(&cob, &sealed).expect("write");

    // The manifest changed: what it says of the content is bound to the key and to the sealed bytes.
    for (from, to, code, reason) in [
        ("\"version\":\"1.0.0\"", "\"version\":\"1.0.1\"", 4, "does not open this data key"),
        ("\"files\":", "\"files\":1", 7, "`key_provider.context` contradicts the rest of the manifest"),
        ("cobblestone-256", "none", 7, "`descriptor.suite` is not `cobblestone-256`"),
        ("local-file://acme", "openbao://transit/acme", 7, "`key_provider.provider` contradicts"),
        ("\"file\":\"escrow.cob\"", "\"file\":\"../../../../etc/passwd\"", 7, "is not the name of a file"),
        ("{", "", 7, "is not valid at line 1"),
    ] {
        let changed = match from {
            // Everywhere, with the digest of the descriptor made anew: as careful as a forger can be.
            "\"version\":\"1.0.0\"" => forged(&manifest),
            _ => manifest.replacen(from, to, 1),
        };
        assert_ne!(changed, manifest, "{from}");
        fs::write(&json, changed).expect("write");
        read(code, &[reason]);
    }
    fs::copy(theirs.join("escrow.json"), &json).expect("copy");
    read(7, &["it is not the file of its manifest"]);
    fs::remove_file(&json).expect("remove");
    let screen = retrace(&world, &folder, &["--escrow", cob.to_str().expect("utf-8")], trace.as_bytes());
    screen.failed(2, &["has no manifest beside it"]);
}

/// Makes a manifest say another version, with every digest in it made to fit.
fn forged(manifest: &str) -> String {
    let mut manifest: protected_model::escrow::EscrowManifest =
        serde_json::from_str(manifest).expect("manifest");
    manifest.descriptor.version = "1.0.1".parse().expect("version");
    manifest.key_provider.context = manifest.descriptor.key_context();
    manifest.check().expect("it does not contradict itself");
    serde_json::to_string(&manifest).expect("JSON")
}

#[test]
fn a_folder_of_source_maps_that_was_changed_is_refused() {
    let world = World::new();
    let folder = package(&world, "1.0.0", 0);
    build(&world, &folder, &[]).succeeded();
    let trace = crash(&world, &folder, "1.0.0");
    let private = folder.join("protected-build/acme-core-1.0.0/private");
    let map = private.join("maps/src/till.js.map");
    let good = fs::read_to_string(&map).expect("map");
    fs::write(&map, good.replace("negative", "positive")).expect("write");
    let screen = retrace(&world, &folder, &[], trace.as_bytes());
    screen.failed(7, &["`maps/src/till.js.map` is not as the build wrote it: expected SHA-256 "]);
    fs::write(&map, good).expect("write");
    let index = private.join("index.json");
    let listed = fs::read_to_string(&index).expect("index");
    fs::write(&index, listed.replace("maps/src/till.js.map", "../../../../../etc/passwd")).expect("write");
    retrace(&world, &folder, &[], trace.as_bytes()).failed(7, &["it names a file outside the escrow"]);
    fs::remove_file(&index).expect("remove");
    retrace(&world, &folder, &[], trace.as_bytes()).failed(
        2,
        &["protected-build/acme-core-1.0.0` is passed over: ", "there is no build with an escrow in"],
    );
}

#[test]
fn versions_are_chosen_and_never_guessed() {
    let world = World::new();
    let (one, two) = (package(&world, "1.0.0", 0), package(&world, "1.1.0", 4));
    let out = world.path("work/builds/protected-build");
    for (folder, version) in [(&one, "1.0.0"), (&two, "1.1.0")] {
        build(&world, folder, &[]).succeeded();
        let built = folder.join(format!("protected-build/acme-core-{version}"));
        fs::create_dir_all(&out).expect("folder");
        let copied = world
            .run(world.bare("cp", &["-r", built.to_str().expect("utf-8"), out.to_str().expect("utf-8")]));
        copied.succeeded();
    }
    let trace = crash(&world, &two, "1.1.0");
    let builds = world.path("work/builds");
    let screen = retrace(&world, &builds, &[], trace.as_bytes());
    screen.failed(7, &["none of the", "in the escrow of @acme/core@1.0.0, @acme/core@1.1.0"]);
    assert!(
        screen.stdout.contains("ambiguous: @acme/core@1.0.0/src/till.js or @acme/core@1.1.0/src/till.js"),
        "{screen}"
    );
    assert_read(&retrace(&world, &builds, &["--package", "@acme/core@1.1.0"], trace.as_bytes()), 4);
    let delivered = world.path("work/app/node_modules/@acme/core/src/till.js");
    let delivered = delivered.to_str().expect("utf-8");
    let screen = retrace(&world, &builds, &["--delivered", delivered], trace.as_bytes());
    assert!(screen.succeeded().stdout.contains("at new Till (src/till.ts:9:13)"), "{screen}");
    // The other version's escrow alone, and what the customer has at hand: it is not read with the wrong maps.
    let other = one.join("protected-build/acme-core-1.0.0");
    let other = other.to_str().expect("utf-8");
    let index = world.path("work/app/node_modules/@acme/core/src/index.js");
    let index = index.to_str().expect("utf-8");
    let screen = retrace(
        &world,
        &builds,
        &["--escrow", other, "--delivered", delivered, "--delivered", index],
        trace.as_bytes(),
    );
    assert!(screen.stdout.contains("the escrow knows no file with the content of"), "{screen}");
    assert!(!screen.stdout.contains("till.ts"), "{screen}");
    let screen = retrace(&world, &builds, &["--package", "@acme/core@2.0.0"], trace.as_bytes());
    screen.failed(
        2,
        &["there is no escrow of @acme/core@2.0.0 here, only of @acme/core@1.0.0, @acme/core@1.1.0"],
    );
}

#[test]
fn input_without_a_trace_is_said_to_be_none() {
    let world = World::new();
    let folder = package(&world, "1.0.0", 0);
    build(&world, &folder, &[]).succeeded();
    for empty in ["", "\n", "  \n\t\r\n"] {
        let screen = retrace(&world, &folder, &[], empty.as_bytes());
        screen.failed(2, &["standard input is empty", "retrace < stack.txt"]);
    }
    let none = ["the input holds no frame of a JavaScript stack trace"];
    let text = "nothing happened\n  at noon\n";
    let screen = retrace(&world, &folder, &[], text.as_bytes());
    assert_eq!(screen.failed(7, &none).stdout, text, "text stays as it is");
    let junk: Vec<u8> = (0..40_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    retrace(&world, &folder, &[], &junk).failed(7, &none);
    retrace(&world, &folder, &[], &[0xff; 3]).failed(7, &none);
    let foreign = "Error: x\n    at a (/srv/node_modules/left-pad/index.js:1:2)\n";
    let screen = retrace(&world, &folder, &[], foreign.as_bytes());
    screen.failed(7, &["the only frame is of nothing in the escrow of @acme/core@1.0.0"]);
    assert!(screen.stdout.contains("[not mapped: no escrow of left-pad]"), "{screen}");
    let screen = retrace(&world, &folder, &["--format", "json"], foreign.as_bytes());
    let document: serde_json::Value =
        serde_json::from_str(&screen.failed(7, &[]).stdout).expect("one document");
    assert_eq!(document["error"]["kind"], "bad-input");
    assert_eq!(document["mapped"], 0);
    for (args, message) in [
        (&["no-such-file"][..], "cannot read the stack trace from"),
        (&["--escrow", "nowhere"], "there is no escrow at"),
        (&["--escrow", "src"], "holds no escrow"),
        (&["--delivered", "nowhere"], "cannot read the delivered file"),
        (&["--package", "@acme"], "the package: "),
    ] {
        retrace(&world, &folder, args, foreign.as_bytes()).failed(2, &[message]);
    }
}

/// Attack: a customer's trace that holds a command for the CI runner that reads it, or for a terminal.
#[test]
fn a_customers_trace_commands_no_runner() {
    let world = World::new();
    let folder = package(&world, "1.0.0", 0);
    build(&world, &folder, &[]).succeeded();
    let trace = "::add-mask::a\n##[error]b\n    at a (/x/node_modules/@acme/core/src/till.js:1:90)\n::set-env name=A::b\n";
    let mut command = world.github("release", CLI, &["retrace"]);
    command.current_dir(&folder);
    let screen = run(&world, command, trace.as_bytes());
    assert!(screen.stdout.contains("add-mask"), "{screen}");
    assert!(
        !screen.stdout.lines().any(|line| line.trim_start().starts_with("::") || line.contains("##[")),
        "{screen}"
    );
}

#[test]
fn a_key_that_cannot_be_used_fails_the_build_before_it_starts() {
    let world = World::new();
    let folder = package(&world, "1.0.0", 0);
    key(&world, "acme", KEY);
    let refused = |screen: &Screen, message: &str| {
        screen.failed(2, &[message]);
        assert!(!folder.join("protected-build").exists(), "a build is left behind: {screen}");
        assert!(!screen.stderr.contains(KEY) && !screen.stderr.contains("hunter2"), "{screen}");
    };
    for (reference, message) in [
        ("openbao://transit/acme", "nothing says where OpenBao is"),
        ("aws-kms://arn:aws:kms:us-east-1:123456789012:alias/acme", "nothing says who asks AWS"),
        (
            "gcp-kms://projects/acme-prod/locations/global/keyRings/r/cryptoKeys/k",
            "nothing says who asks Google Cloud",
        ),
        (
            "azure-keyvault://acme-vault/core/0123456789abcdef0123456789abcdef",
            "nothing says which tenant of Microsoft Entra",
        ),
        ("local-file://nobody", "the key `local-file://nobody` cannot be read from"),
        ("local-file://../acme", "expected a key reference of the form local-file://<name>"),
        ("vault://transit/acme", "expected a key reference that starts with"),
        ("openbao://user:hunter2@transit/acme", "may not carry a username or password"),
        ("openbao://transit/acme?token=hunter2", "may not carry a query or a fragment"),
        (KEY, "this looks like a key or a token itself"),
        (
            "local-file://8f14e45fceea167a5a36dedd4bea2543f0e1d2c3b4a5968778695a4b3c2d1e0f",
            "this looks like a key",
        ),
    ] {
        refused(&build(&world, &folder, &["--escrow-key", reference]), message);
        let mut command = world.bare(CLI, &["protect-build", "--no-record"]);
        command.current_dir(&folder).env("PROTECTED_REGISTRY_ESCROW_KEY", reference);
        refused(&world.run(command), message);
        let file = world.write("core-1.0.0/other.toml", &format!("[harden]\nescrow_key = \"{reference}\"\n"));
        refused(&build(&world, &folder, &["--config", file.to_str().expect("utf-8")]), message);
    }

    // A key in a file is for trials: in CI it is asked for in so many words.
    let in_ci = |allow: bool| {
        let mut command = world.github(
            "release",
            CLI,
            &["protect-build", "--no-record", "--escrow-key", "local-file://acme"],
        );
        command.current_dir(&folder);
        if allow {
            command.env("PROTECTED_REGISTRY_ALLOW_LOCAL_KEY", "true");
        }
        world.run(command)
    };
    refused(&in_ci(false), "is a file on this machine, which is refused in CI");
    in_ci(true).succeeded();
    assert!(folder.join("protected-build/acme-core-1.0.0/private/escrow.cob").is_file());
}
