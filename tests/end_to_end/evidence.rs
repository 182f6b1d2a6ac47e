//! What a build says of itself, and whether it holds.

use std::fs;

use protected_evidence::sign::LogVersion;
use protected_model::digest::Sha256;
use serde_json::{Value, json};

use crate::{
    harness::{CLI, Screen, World},
    signing, tamper,
};

fn provenance(world: &World, build: &str) -> Value {
    let file = world.path("work").join(build).join("evidence/provenance.intoto.json");
    serde_json::from_slice(&fs::read(file).expect("provenance")).expect("JSON")
}

#[test]
fn provenance_is_filled_from_the_verified_claims() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    let lock = "{\"name\": \"@acme/core\", \"version\": \"1.0.0\", \"lockfileVersion\": 3, \"packages\": {\"\": {\"name\": \"@acme/core\", \"version\": \"1.0.0\"}}}";
    fs::write(folder.join("package-lock.json"), lock).expect("lock file");
    // Attack: an earlier step of the job says that it is another commit of another repository.
    let mut command = world.github("release", CLI, &["publish", "--out", "../built"]);
    command.env("GITHUB_REPOSITORY", "evil/core").env("GITHUB_SHA", "f".repeat(40)).current_dir(&folder);
    world.run(command).succeeded();

    let said = provenance(&world, "built");
    let text = said.to_string();
    assert!(!text.contains("evil/core") && !text.contains(&"f".repeat(40)), "{text}");
    let predicate = &said["predicate"];
    let server = world.base();
    let sha = "0123456789abcdef0123456789abcdef01234567";
    assert_eq!(
        predicate["buildDefinition"]["resolvedDependencies"][0],
        json!({"uri": format!("git+{server}/acme/core@refs/heads/main"), "digest": {"gitCommit": sha}})
    );
    let dependencies = predicate["buildDefinition"]["resolvedDependencies"].as_array().expect("dependencies");
    let locked = dependencies.iter().find(|it| it["name"] == "package-lock.json").expect("the lock file");
    assert_eq!(locked["digest"]["sha256"], json!(Sha256::of(lock)));
    let run = format!("{server}/acme/core/actions/runs/77/attempts/1");
    assert_eq!(predicate["runDetails"]["metadata"]["invocationId"], run.as_str());
    assert_eq!(predicate["runDetails"]["builder"]["id"], format!("{server}/actions/runner/github-hosted"));
    let internal = &predicate["buildDefinition"]["internalParameters"];
    assert_eq!(internal["platform"]["repository_id"], "2002");
    assert_eq!(internal["slsaBuildLevel"]["atMost"], 2);

    // Each by-product is the file of that name, and the subject is the tarball.
    let evidence = world.path("work/built/evidence");
    for product in predicate["runDetails"]["byproducts"].as_array().expect("byproducts") {
        let name = product["name"].as_str().expect("name");
        if name == "source-map-escrow" {
            continue;
        }
        let bytes = fs::read(evidence.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(product["digest"]["sha256"], json!(Sha256::of(bytes)), "{name}");
    }
    let tarball = fs::read(world.path("work/built/acme-core-1.0.0.tgz")).expect("tarball");
    assert_eq!(said["subject"][0]["name"], "pkg:npm/%40acme/core@1.0.0");
    assert_eq!(said["subject"][0]["digest"]["sha256"], json!(Sha256::of(tarball)));

    // It is on record, by its digest.
    let records = world.operator_get("/v1/evidence?limit=20");
    let records = records["items"].as_array().expect("items");
    let record = records.iter().find(|record| record["type"] == "provenance").expect("a record");
    let file = fs::read(evidence.join("provenance.intoto.json")).expect("provenance");
    assert_eq!(record["sha256"], json!(Sha256::of(file)));
}

/// The lock file that the provenance names is the one that the SBOM was read from, as the repository's root calls it.
#[test]
fn provenance_and_sbom_are_of_one_lock_file() {
    let world = World::new();
    let npm = r#"{"name": "@acme/core", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {"name": "@acme/core", "version": "1.0.0"}}}"#;
    let yarn = "# yarn lockfile v1\n\n\n";
    let folder = world.path("work/packages/core");
    for file in ["package-lock.json", "packages/package-lock.json"] {
        world.write(file, npm);
    }
    world.write("packages/core/package-lock.json", npm);
    world.write("packages/core/yarn.lock", yarn);
    fs::create_dir(world.path("work/.git")).expect("folder");
    for (manager, name, content) in
        [("npm@11.0.0", "package-lock.json", npm), ("yarn@1.22.22", "yarn.lock", yarn)]
    {
        world.write(
            "packages/core/package.json",
            &format!(r#"{{"name": "@acme/core", "version": "1.0.0", "main": "index.js", "packageManager": "{manager}"}}"#),
        );
        world.write("packages/core/index.js", "exports.answer = 42;\n");
        let mut command = world.bare(CLI, &["protect-build", "--no-record", "--out", "../../built"]);
        command.current_dir(&folder);
        world.run(command).succeeded();
        let locks = |said: &Value| -> Vec<Value> {
            let all = said["predicate"]["buildDefinition"]["resolvedDependencies"]
                .as_array()
                .expect("array")
                .clone();
            all.into_iter().filter(|it| it["name"].as_str().is_some_and(|it| it.contains("lock"))).collect()
        };
        let expected =
            json!({"name": format!("packages/core/{name}"), "digest": {"sha256": Sha256::of(content)}});
        assert_eq!(locks(&provenance(&world, "built")), [expected], "{manager}");
        let sbom = fs::read(world.path("work/built/evidence/sbom.cdx.json")).expect("SBOM");
        let sbom: Value = serde_json::from_slice(&sbom).expect("JSON");
        let property = |name: &str| {
            let all = sbom["metadata"]["properties"].as_array().expect("properties");
            all.iter().find(|it| it["name"] == name).map(|it| it["value"].clone())
        };
        assert_eq!(property("protected-registry:lock:file"), Some(json!(name)));
        assert_eq!(property("protected-registry:lock:sha256"), Some(json!(Sha256::of(content))));
    }
}

#[test]
fn what_nobody_verified_is_labelled() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    let args = ["protect-build", "--no-record", "--out", "../built"];
    let mut command = world.github("release", CLI, &args);
    command.env("GITHUB_REPOSITORY", "acme/core").current_dir(&folder);
    world.run(command).succeeded();
    let said = provenance(&world, "built");
    let internal = &said["predicate"]["buildDefinition"]["internalParameters"];
    assert_eq!(internal["unverified"]["repository"], "acme/core");
    assert_eq!(internal.get("platform"), None);
    let builder = &said["predicate"]["runDetails"]["builder"]["id"];
    assert_eq!(builder, "https://protected-registry.dev/builders/unverified");

    let mut command = world.bare(CLI, &["protect-build", "--no-record", "--out", "../local"]);
    command.current_dir(&folder);
    world.run(command).succeeded();
    let said = provenance(&world, "local");
    let internal = &said["predicate"]["buildDefinition"]["internalParameters"];
    assert_eq!((internal.get("unverified"), internal.get("platform")), (None, None));
    assert_eq!(
        said["predicate"]["runDetails"]["builder"]["id"],
        "https://protected-registry.dev/builders/local"
    );
}

/// Publishes without a signature, and signs the provenance alone as the same run.
fn published() -> World {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    world.cli_in(&folder, &["publish", "--sign", "off", "--out", "../built"]).succeeded();
    let evidence = world.path("work/built/evidence");
    let statement = fs::read(evidence.join("provenance.intoto.json")).expect("provenance");
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let bundle = runtime.block_on(tamper::sign(&world, LogVersion::V2, statement));
    fs::write(evidence.join("provenance.sigstore.json"), bundle).expect("write");
    let root = tamper::get(&world, "/sigstore/trusted_root.json");
    world.write("root.json", &String::from_utf8_lossy(&root));
    world
}

/// Verifies on a machine that is not a CI runner and knows no FractalOps.
fn verify(world: &World, args: &[&str]) -> Screen {
    let mut command = world.bare(CLI, &["verify"]);
    command.env_remove("FRACTALOPS_BASE_URL").args(args);
    world.run(command)
}

fn row<'a>(document: &'a Value, name: &str) -> &'a Value {
    let checks = document["checks"].as_array().expect("checks");
    checks.iter().find(|row| row["check"] == name).unwrap_or_else(|| panic!("no row {name} in {document}"))
}

#[test]
fn a_signed_build_is_verified_offline_by_a_stated_policy() {
    let world = published();
    let server = world.base();
    let (subject, issuer) = (
        format!("{server}/acme/core/.github/workflows/release.yml@refs/heads/main"),
        format!("{server}/local-issuer/github-actions"),
    );
    world.write(
        "policy.toml",
        &format!(
            "require = [\"provenance\"]\ntrusted-root = \"root.json\"\n\n[identity]\nissuer = \"{issuer}\"\nsubject = \"{server}/acme/core/.github/workflows/*@refs/heads/main\"\nrepository-id = \"2002\"\n\n[build]\nsource = \"{server}/acme/core\"\nref = \"refs/heads/main\"\n"
        ),
    );
    let screen = verify(
        &world,
        &["built", "--policy", "policy.toml", "--offline", "--summary", "vsa.json", "--format", "json"],
    );
    screen.succeeded();
    let document: Value = serde_json::from_str(&screen.stdout).expect("JSON");
    for name in ["signature", "identity", "log", "timestamp", "provenance", "artifact", "integrity"] {
        assert_eq!(row(&document, name)["outcome"], "ok", "{name} in {document}");
    }
    assert_eq!(document["slsa_build_level"], 2);
    let vsa: Value =
        serde_json::from_slice(&fs::read(world.path("work/vsa.json")).expect("VSA")).expect("JSON");
    assert_eq!(vsa["predicateType"], "https://slsa.dev/verification_summary/v1");
    assert_eq!(vsa["predicate"]["verificationResult"], "PASSED");
    assert_eq!(vsa["predicate"]["verifiedLevels"], json!(["SLSA_BUILD_LEVEL_2"]));
    assert_eq!(vsa["predicate"]["policy"]["uri"], "policy.toml");

    // The same by flags, of the tarball alone and of its bundle.
    let flags = ["--trusted-root", "root.json", "--identity", &subject, "--issuer", &issuer, "--offline"];
    let alone = ["built/acme-core-1.0.0.tgz", "--bundle", "built/evidence/provenance.sigstore.json"];
    verify(&world, &[&alone[..], &flags[..]].concat()).succeeded();

    let refuse = |more: &[&str], name: &str, expected: &str, found: &str| {
        let screen = verify(&world, &[&["built", "--offline", "--format", "json"][..], more].concat());
        assert_eq!(screen.code, 8, "{screen}");
        let document: Value = serde_json::from_str(&screen.stdout).expect("JSON");
        let checks = document["checks"].as_array().expect("checks");
        let failed = checks.iter().find(|row| row["check"] == name && row["outcome"] == "failed");
        let row = failed.unwrap_or_else(|| panic!("no failed {name} in {document}"));
        let (said, was) = (row["expected"].as_str().expect("text"), row["found"].as_str().expect("text"));
        assert!(said.contains(expected) && was.contains(found), "{row}");
    };
    let root = ["--trusted-root", "root.json"];
    let with =
        |more: &[&str]| -> Vec<String> { root.iter().chain(more).map(|it| (*it).to_owned()).collect() };
    let cases: [(Vec<String>, &str, &str, &str); 6] = [
        (with(&["--issuer", "https://gitlab.com"]), "identity", "https://gitlab.com", &issuer),
        (with(&["--identity", "https://github.com/*"]), "identity", "https://github.com/*", &subject),
        (
            with(&["--expect-source", "https://github.com/acme/core"]),
            "provenance",
            "https://github.com/acme/core",
            &server,
        ),
        (
            with(&["--expect-builder", "https://github.com/actions/runner/*"]),
            "provenance",
            "runner/*",
            "github-hosted",
        ),
        // Nobody said whom to believe, and the public-good instance did not sign this.
        (Vec::new(), "timestamp", "a timestamp of a trusted authority", "provenance.sigstore.json"),
        (with(&["--policy", "more.toml"]), "signature", "https://cyclonedx.org/bom", "none that verifies"),
    ];
    world.write("more.toml", "require = [\"cyclonedx\"]\n");
    for (more, name, expected, found) in &cases {
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        refuse(&more, name, expected, found);
    }

    // What is not signed has to be what is.
    let file = world.path("work/built/evidence/provenance.intoto.json");
    let text = fs::read_to_string(&file).expect("provenance");
    fs::write(&file, text.replace("refs/heads/main", "refs/heads/evil")).expect("write");
    refuse(&["--trusted-root", "root.json"], "provenance", "the document that is signed", "another one");
    fs::write(&file, text).expect("write");
    let bundle = world.path("work/built/evidence/provenance.sigstore.json");
    fs::remove_file(&bundle).expect("remove");
    refuse(
        &["--issuer", &issuer, "--trusted-root", "root.json"],
        "signature",
        "a signed https://slsa.dev/provenance/v1",
        "no signed document",
    );

    for (args, message) in [
        (&["built", "--policy", "missing.toml"][..], "cannot read"),
        (&["built", "--identity", "*"], "demands nothing"),
        (&["built", "--download", "x"], "nothing to download"),
        (&["@acme/core@1.0.0", "--offline"], "nothing is fetched offline"),
    ] {
        verify(&world, args).failed(2, &[message]);
    }
}

/// Every member of every document that lies unsigned beside the signed ones, changed in turn: what it has to be is what
/// was signed. And whole documents: those of another version, and half of one.
#[test]
fn nothing_in_the_folder_of_a_signed_build_can_be_changed() {
    let world = World::new();
    for version in ["1.0.0", "1.0.1"] {
        let folder = world.package("@acme/core", version);
        world.cli_in(&folder, &["publish", "--out", &format!("../{version}")]).succeeded();
    }
    let root = tamper::get(&world, "/sigstore/trusted_root.json");
    world.write("root.json", &String::from_utf8_lossy(&root));
    let args = ["1.0.0", "--trusted-root", "root.json", "--offline", "--format", "json"];
    verify(&world, &args).succeeded();
    let evidence = world.path("work/1.0.0/evidence");
    let failed = |screen: &Screen| -> Vec<String> {
        let document: Value = serde_json::from_str(&screen.stdout).expect("JSON");
        let rows = document["checks"].as_array().map_or(&[][..], Vec::as_slice).iter();
        let failed = rows.filter(|row| row["outcome"] == "failed");
        failed.map(|row| row["check"].as_str().expect("name").to_owned()).collect()
    };
    let mut wrong = Vec::new();
    for (name, check) in [
        ("integrity.json", "provenance"),
        ("build-manifest.json", "provenance"),
        ("provenance.intoto.json", "provenance"),
        ("sbom.cdx.json", "sbom"),
        ("sbom.spdx.json", "sbom"),
    ] {
        let file = evidence.join(name);
        let good = fs::read(&file).expect(name);
        let document: Value = serde_json::from_slice(&good).expect("JSON");
        let lies = tamper::lies(&document);
        assert!(lies.len() > 10, "{name}");
        for (pointer, lie) in lies {
            let mut bad = document.clone();
            *bad.pointer_mut(&pointer).expect("leaf") = lie.clone();
            fs::write(&file, bad.to_string()).expect("write");
            let screen = verify(&world, &args);
            // A manifest that is none any more cannot be read at all.
            let is_unreadable = screen.code == 7 && name == "build-manifest.json";
            let failed = if screen.code == 8 { failed(&screen) } else { Vec::new() };
            if !is_unreadable && !failed.iter().any(|it| it == check) {
                wrong.push(format!("{name} {pointer} = {lie}: exit {}, failed {failed:?}", screen.code));
            }
        }
        fs::write(&file, good).expect("write");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let other = world.path("work/1.0.1/evidence");
    for name in ["provenance", "sbom.cdx", "sbom.spdx"] {
        let name = format!("{name}.sigstore.json");
        let good = fs::read(evidence.join(&name)).expect("bundle");
        fs::copy(other.join(&name), evidence.join(&name)).expect("copy");
        let screen = verify(&world, &args);
        screen.failed(8, &["FAILED   subject", "pkg:npm/%40acme/core@1.0.0", "pkg:npm/%40acme/core@1.0.1"]);
        fs::write(evidence.join(&name), &good[..good.len() / 2]).expect("write");
        let screen = verify(&world, &args);
        screen.failed(8, &["FAILED   format"]);
        fs::write(evidence.join(&name), good).expect("write");
    }
    // The tarball of another version, with the documents of this one.
    let tarball = world.path("work/1.0.0/acme-core-1.0.0.tgz");
    fs::copy(world.path("work/1.0.1/acme-core-1.0.1.tgz"), &tarball).expect("copy");
    verify(&world, &args).failed(8, &["FAILED   package", "FAILED   artifact", "FAILED   subject"]);
}

#[test]
fn every_document_that_publish_signs_is_verified() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    world.cli_in(&folder, &["publish", "--out", "../built"]).succeeded();
    let root = tamper::get(&world, "/sigstore/trusted_root.json");
    world.write("root.json", &String::from_utf8_lossy(&root));
    let policy = "require = [\"provenance\", \"cyclonedx\", \"spdx\"]\ntrusted-root = \"root.json\"\n\n[identity]\nrepository-id = \"2002\"\n";
    world.write("policy.toml", policy);
    let args = ["built", "--policy", "policy.toml", "--offline", "--format", "json"];
    let screen = verify(&world, &args);
    screen.succeeded();
    let document: Value = serde_json::from_str(&screen.stdout).expect("JSON");
    let checks = document["checks"].as_array().expect("checks");
    let count =
        |name: &str| checks.iter().filter(|row| row["check"] == name && row["outcome"] == "ok").count();
    assert_eq!(
        (count("signature"), count("identity"), count("log"), count("sbom")),
        (3, 3, 3, 2),
        "{document}"
    );

    // A bill of materials that was changed is not the one that was signed.
    let file = world.path("work/built/evidence/sbom.cdx.json");
    let text = fs::read_to_string(&file).expect("SBOM");
    fs::write(&file, text.replace("@acme/core", "@acme/other")).expect("write");
    verify(&world, &args).failed(8, &["is not verified: provenance, sbom"]);
    fs::write(&file, text).expect("write");
    // The signed one of another package, whole.
    let other = world.package("@acme/core", "1.0.1");
    world.cli_in(&other, &["publish", "--out", "../later"]).succeeded();
    let bundle = "evidence/sbom.cdx.sigstore.json";
    fs::copy(world.path("work/later").join(bundle), world.path("work/built").join(bundle)).expect("copy");
    verify(&world, &args).failed(8, &["is not verified:", "subject"]);
}

/// Outside of CI, from a registry that is named, with the token that `protected-registry token` wrote for npm.
#[test]
fn a_version_is_read_with_the_token_that_npm_would_send() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    world.cli_in(&folder, &["publish"]).succeeded();
    let root = tamper::get(&world, "/sigstore/trusted_root.json");
    world.write("root.json", &String::from_utf8_lossy(&root));
    world.cli(&["token", "@acme/core", "--npmrc", "npmrc"]).succeeded();
    let npmrc = fs::read_to_string(world.path("work/npmrc")).expect("npmrc");
    let token = npmrc.lines().find_map(|line| Some(line.split_once(":_authToken=")?.1)).expect("a token");
    let run = |token: Option<&str>| {
        let registry = world.registry();
        let args = ["verify", "@acme/core@1.0.0", "--registry", &registry, "--trusted-root", "root.json"];
        let mut command = world.bare(CLI, &args);
        command.env_remove("FRACTALOPS_BASE_URL");
        if let Some(token) = token {
            command.env("NODE_AUTH_TOKEN", token);
        }
        world.run(command)
    };
    let screen = run(Some(token));
    for check in ["registry", "registry key", "signature", "provenance"] {
        assert!(screen.succeeded().stderr.contains(&format!("  ok       {check:<12}")), "{check}\n{screen}");
    }
    // Logged by the registry's own authority, at a time that it says.
    assert!(screen.stderr.matches("  ok       log ").count() == 3, "{screen}");
    // Whoever believes other authorities alone believes the registry for its key, and is told.
    let nobody = r#"{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#;
    world.write("root.json", nobody);
    let screen = run(Some(token));
    screen.failed(8, &["FAILED   certificate"]);
    assert_eq!(screen.stderr.matches("expected a log of the trusted root, found ").count(), 2, "{screen}");
    assert_eq!(screen.stderr.matches("by the registry's own key").count(), 2, "{screen}");
    let other = world.npm_token("release", "@acme/plain", "install");
    for refused in [None, Some("npm_0123456789abcdef"), Some(&*other)] {
        run(refused)
            .failed(4, &["reading `@acme/core@1.0.0` from http://", "set NODE_AUTH_TOKEN to a token"]);
    }
    world.cli(&["revoke", "--npmrc", "npmrc"]).succeeded();
    run(Some(token)).failed(4, &["the answer is 401"]);
}

/// A summary is signed by whom the command names, verified by strangers, and a document like others from then on.
#[test]
fn a_summary_is_signed_when_somebody_is_named_who_signs() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    world.cli_in(&folder, &["publish", "--out", "../built"]).succeeded();
    let root = tamper::get(&world, "/sigstore/trusted_root.json");
    world.write("root.json", &String::from_utf8_lossy(&root));
    let base = ["verify", "built", "--trusted-root", "root.json", "--format", "json"];
    let run = |more: &[&str]| world.cli(&[&base[..], more].concat());
    let told = |screen: &Screen| -> Value {
        let document: Value = serde_json::from_str(&screen.succeeded().stdout).expect("JSON");
        document["summary"].clone()
    };

    // Nobody is named: written, and said that nobody signed it.
    let why = "nobody said who signs the summary, with --sign or --sign-key";
    let screen = run(&["--summary", "vsa.json"]);
    assert!(screen.stderr.contains(&format!("  note      nothing is signed: {why}")), "{screen}");
    let summary = told(&screen);
    assert_eq!((&summary["unsigned"], &summary["signed"]), (&json!(why), &Value::Null));
    assert_eq!(told(&run(&[])), Value::Null);
    assert!(!world.path("work/vsa.sigstore.json").exists());

    // The identity of this run.
    let screen = run(&["--summary", "vsa.json", "--sign", "auto"]);
    let bundle = world.path("work/vsa.sigstore.json");
    assert_eq!(told(&screen)["signed"], json!(bundle));
    assert_eq!(world.output("summary-bundle").as_deref(), bundle.to_str());
    let signed: Value = serde_json::from_slice(&fs::read(&bundle).expect("bundle")).expect("JSON");
    let payload = signed["dsseEnvelope"]["payload"].as_str().expect("payload");
    let statement = fs::read(world.path("work/vsa.json")).expect("statement");
    assert_eq!(payload, base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &statement));
    let tarball = world.path("work/built/acme-core-1.0.0.tgz");
    assert!(signing::python(&world, &bundle, &tarball).status.success());
    let beside = world.path("work/built/evidence/vsa.sigstore.json");
    fs::copy(&bundle, &beside).expect("copy");
    let screen = run(&[]);
    let line = "  ok       summary      vsa.sigstore.json: PASSED, SLSA_BUILD_LEVEL_0, says https://protected-registry.dev/verifiers/cli";
    assert!(screen.succeeded().stderr.contains(line), "{screen}");

    // One that says FAILED, signed as well as any: what it says counts.
    let failing =
        ["--expect-source", "https://github.com/acme/other", "--summary", "failed.json", "--sign", "auto"];
    assert_eq!(run(&failing).code, 8);
    fs::copy(world.path("work/failed.sigstore.json"), &beside).expect("copy");
    run(&[]).failed(8, &["FAILED   summary", "expected the result PASSED, found FAILED"]);
    fs::remove_file(&beside).expect("remove");

    // A key, offline and outside of CI.
    let keys = world.path("home/keys");
    fs::create_dir_all(&keys).expect("folder");
    let (key, public) = signing::key_pair(&keys, "trial");
    let mut command = world.bare(CLI, &[&base[..], &["--offline", "--summary", "by-key.json"]].concat());
    command.args(["--sign-key", "local-file://trial"]).env("PROTECTED_REGISTRY_KEY_FOLDER", &keys);
    world.run(command).succeeded();
    let args = ["built/acme-core-1.0.0.tgz", "--bundle", "by-key.sigstore.json", "--offline", "--key"];
    let screen = verify(&world, &[&args[..], &[public.to_str().expect("path")]].concat());
    assert!(screen.succeeded().stderr.contains("  ok       summary      by-key.sigstore.json"), "{screen}");
    assert!(key.is_file());

    for (more, message) in [
        (&["--sign", "auto"][..], "there is nothing to sign without a summary"),
        (&["--summary", "x.json", "--sign", "keyless", "--offline"], "nothing is asked for offline"),
        (&["--summary", "x.json", "--sign", "key"], "nothing says the key to sign with"),
    ] {
        run(more).failed(2, &[message]);
    }
    assert!(!world.path("work/x.json").exists());
}

#[test]
fn a_version_in_the_registry_is_fetched_once_and_verified_again_offline() {
    let world = published();
    let args = ["verify", "@acme/core@1.0.0", "--download", "kept"];
    world.cli(&args).succeeded();
    assert!(world.path("work/kept/acme-core-1.0.0.tgz").is_file());
    let screen = verify(&world, &["kept", "--offline", "--format", "json"]);
    screen.succeeded();
    let document: Value = serde_json::from_str(&screen.stdout).expect("JSON");
    assert_eq!(row(&document, "registry")["outcome"], "ok");
    let summary = world.summary();
    assert!(summary.contains("### ✅ @acme/core@1.0.0 verified"), "{summary}");

    // Other bytes under the same name.
    let other = world.package("@acme/core", "1.0.0");
    fs::write(other.join("src/index.ts"), "export const other = 1;\n").expect("write");
    let mut command = world.bare(CLI, &["protect-build", "--no-record", "--out", "../other"]);
    command.current_dir(&other);
    world.run(command).succeeded();
    fs::copy(world.path("work/other/acme-core-1.0.0.tgz"), world.path("work/kept/acme-core-1.0.0.tgz"))
        .expect("copy");
    verify(&world, &["kept", "--offline"]).failed(8, &["is not verified: registry"]);
    world.cli(&["verify", "@acme/core@9.9.9"]).failed(7, &["no such version"]);
    verify(&world, &["@acme/core@1.0.0"])
        .failed(2, &["nothing says which registry has `@acme/core@1.0.0`", "give --registry <URL>"]);
}
