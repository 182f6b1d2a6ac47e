//! How a package is hardened: settings, the build secret, and what is published less protected than configured.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::{
    harness::{CLI, World},
    verify,
};

const EVAL: &str = "exports.run = (code) => {\n  const visible = 1;\n  return eval(code) + visible;\n};\n";

/// A package of which one file cannot be protected.
fn package(world: &World, settings: &str) -> PathBuf {
    let folder = verify::package(world, "ledger");
    world.write("ledger/src/eval.js", EVAL);
    world.write("ledger/protected-registry.toml", settings);
    folder
}

const PATHS: &str = "allow_unprotected = [\"src/eval.js\"]";

#[test]
fn in_ci_no_file_is_published_less_protected_than_configured_unless_it_is_listed() {
    let world = World::new();
    let folder = package(&world, "");
    let build = ["protect-build", "--no-record"];
    let screen = world.cli_in(&folder, &build);
    screen.failed(
        7,
        &[
            "1 file of `@acme/ledger` would be published less protected than configured",
            "src/eval.js: names and structure are kept: a direct `eval` can read and declare any name around it (line 3)",
            "[harden]",
            PATHS,
        ],
    );
    assert!(!folder.join("protected-build/acme-ledger-1.2.0").exists(), "nothing is left behind");
    // Doctor said so before.
    let screen = world.cli_in(&folder, &["doctor"]);
    assert_ne!(screen.code, 0, "{screen}");
    for line in ["FAILED   unprotected    src/eval.js: ", "FAILED   protection ", "off: bundle", PATHS] {
        assert!(screen.stderr.contains(line), "{line}\n{screen}");
    }

    // What the hint says is what helps.
    world.write("ledger/protected-registry.toml", &format!("[harden]\n{PATHS}\n"));
    let screen = world.cli_in(&folder, &build);
    assert!(screen.succeeded().stderr.contains("src/eval.js is as it was"), "{screen}");
    let screen = world.cli_in(&folder, &["doctor"]);
    assert!(
        screen.stderr.contains("less protected, as `allow_unprotected` lets them be: src/eval.js"),
        "{screen}"
    );

    // A list that has grown old is pointed out; another file is still refused.
    world.write("ledger/protected-registry.toml", "[harden]\nallow_unprotected = [\"src/old/**\"]\n");
    world.cli_in(&folder, &build).failed(7, &["src/eval.js", "\"src/old/**\",\"src/eval.js\""]);
    let screen = world.cli_in(&folder, &["doctor"]);
    assert!(
        screen.stderr.contains("warning  protection     `allow_unprotected` lists `src/old/**`"),
        "{screen}"
    );

    world.write("ledger/protected-registry.toml", "[harden]\nfail_unprotected = false\n");
    world.cli_in(&folder, &build).succeeded();
}

#[test]
fn outside_of_ci_such_a_file_is_noted() {
    let world = World::new();
    let folder = package(&world, "");
    let screen = world.run(verify::command(&world, &folder, &["protect-build", "--no-record"]));
    assert!(screen.succeeded().stderr.contains("src/eval.js is as it was"), "{screen}");
    let screen = world.run(verify::command(&world, &folder, &["doctor"]));
    assert!(screen.stderr.contains("a build from here goes on with these files; in CI it fails"), "{screen}");
    world.write("ledger/protected-registry.toml", "[harden]\nfail_unprotected = true\n");
    world
        .run(verify::command(&world, &folder, &["protect-build", "--no-record"]))
        .failed(7, &["src/eval.js"]);
}

#[test]
fn the_build_secret_is_masked_and_never_repeated() {
    let world = World::new();
    let folder = verify::package(&world, "ledger");
    let build = ["protect-build", "--no-record", "--profile", "standard"];
    let mut command = world.github("release", CLI, &build);
    command.env("PROTECTED_REGISTRY_BUILD_SECRET", verify::SECRET).current_dir(&folder);
    let screen = world.run(command);
    let shown: Vec<&str> =
        screen.succeeded().stderr.lines().filter(|line| line.contains(verify::SECRET)).collect();
    assert_eq!(shown, [format!("::add-mask::{}", verify::SECRET)], "{screen}");

    for (name, value, code, message) in [
        ("PROTECTED_REGISTRY_BUILD_SECRET", "hunter2", 2, "is shorter than 16 bytes"),
        ("PROTECTED_REGISTRY_BUILD_SECRET", "hunter2hunter2hunter2", 2, "repeats itself"),
        ("PROTECTED_REGISTRY_BUILD_SECRET_FILE", "nowhere", 2, "cannot be read"),
    ] {
        let mut command = world.bare(CLI, &build);
        command.env(name, value).current_dir(&folder);
        let screen = world.run(command);
        screen.failed(code, &[message]);
        assert!(!screen.stderr.contains("hunter2"), "{screen}");
    }
    // Neither the command line nor the file takes it.
    world.write("ledger/protected-registry.toml", "[harden]\nsecret = \"8c1f4be0d27a95f3\"\n");
    world.run(verify::command(&world, &folder, &build)).failed(2, &["unknown field `secret`"]);
}

#[test]
fn settings_that_cannot_be_kept_are_refused() {
    let world = World::new();
    let folder = verify::package(&world, "ledger");
    for (settings, args, message) in [
        ("profile = \"hard\"", &[][..], "unknown variant `hard`"),
        (
            "profile = \"light\"\nself_defence = true",
            &[],
            "`self_defence` under [harden] is a part of obfuscation",
        ),
        ("reserved_names = [\"\"]", &[], "holds an empty name"),
        ("cpu_profile = \"nowhere.cpuprofile\"", &[], "cannot be read"),
        ("cpu_profile = \"package.json\"", &[], "it is not a CPU profile of V8"),
        (
            "[[harden.override]]\nfiles = [\"/src/**\"]\nprofile = \"light\"",
            &[],
            "matches no file of any package",
        ),
        ("allow_unprotected = [\"../x\"]", &[], "matches no file of any package"),
        ("", &["--profile", "hard"], "invalid value 'hard'"),
        ("profile = \"standard\"", &["--mark", "a b"], "delivery label"),
    ] {
        let head = if settings.starts_with('[') { "" } else { "[harden]\n" };
        world.write("ledger/protected-registry.toml", &format!("{head}{settings}\n"));
        let args: Vec<&str> =
            ["protect-build", "--no-record"].into_iter().chain(args.iter().copied()).collect();
        world.run(verify::command(&world, &folder, &args)).failed(2, &[message]);
    }
    world.write("ledger/protected-registry.toml", "");
    // The profile `light` makes no code in which a mark could stand.
    let mark = ["protect-build", "--profile", "light", "--mark", "acme-1.2.0"];
    world
        .run(verify::command(&world, &folder, &mark))
        .failed(7, &["0 of its numbers stand in the code", "`standard`"]);
    let mut command = world.bare(CLI, &["protect-build", "--profile", "standard", "--mark", "acme-1.2.0"]);
    command.current_dir(&folder);
    world.run(command).failed(2, &["follows from the build secret, and none is set", "openssl rand -hex 32"]);
}

/// A profile that Node itself wrote: what takes the time is found in the package's own source.
#[test]
fn functions_that_run_often_are_read_from_a_cpu_profile() {
    let world = World::new();
    let folder = verify::package(&world, "ledger");
    world.write(
        "ledger/src/hot.js",
        "exports.idle = function idle() { return 1; };\nexports.spin = function spin(limit) {\n  let sum = 0;\n  for (let n = 0; n < limit; n++) sum = (sum * 31 + n) | 0;\n  return sum;\n};\n",
    );
    let run = world.write(
        "run.cjs",
        "const { spin, idle } = require('./ledger/src/hot.js');\nidle();\nfor (let n = 0; n < 30; n++) spin(3e7);\n",
    );
    let mut node = world.bare("node", &["--cpu-prof", "--cpu-prof-name", "load.cpuprofile"]);
    node.arg(&run);
    world.run(node).succeeded();
    world.write(
        "ledger/protected-registry.toml",
        "[harden]\nprofile = \"standard\"\ncpu_profile = \"../load.cpuprofile\"\n",
    );
    let build = ["protect-build", "--no-record", "--out", "../built"];
    world.run(verify::command(&world, &folder, &build)).succeeded();
    let manifest = fs::read(world.path("work/built/evidence/build-manifest.json")).expect("manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    let steps = manifest["pipeline"].as_array().expect("steps");
    let step = steps.iter().find(|step| step["step"] == "obfuscate").expect("obfuscate");
    assert_eq!(step["parameters"]["hot"], serde_json::json!([["src/hot.js", 2, 29]]));
    // What was read from it is a part of the record, so the build is repeated without it.
    fs::remove_file(world.path("work/load.cpuprofile")).expect("remove");
    let again = ["verify", "../built", "--rebuild", "."];
    world.run(verify::command(&world, &folder, &again)).succeeded();
}
