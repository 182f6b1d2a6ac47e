//! The main job: publish, what is on the screen, and what it leaves.

use std::fs;

use crate::{
    harness::{CLI, SERVER, World, files},
    race,
};

#[test]
fn publishes_records_revokes_and_says_so() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    let screen = world.cli_in(&folder, &["publish"]);
    screen.succeeded();
    let steps: Vec<&str> = screen
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|word| !word.is_empty())
        .collect();
    // What the server recorded: one of each, in this order, and both tokens revoked.
    let actions: Vec<_> =
        world.audit().iter().map(|event| event["action"].as_str().expect("action").to_owned()).collect();
    let wanted = ["exchange", "build.record", "npm_token.mint", "registry.publish"];
    let found: Vec<_> = actions.iter().filter(|action| wanted.contains(&action.as_str())).collect();
    assert_eq!(found, wanted, "{actions:?}");
    assert_eq!(world.count("token.revoke", "allow", None), 2);

    // The package is built while the run is logged in and its key certified, and signed while it is recorded.
    let at = |step: &str| {
        steps.iter().position(|found| *found == step).unwrap_or_else(|| panic!("no {step}\n{screen}"))
    };
    for order in [
        &["identity", "exchange", "certify", "sign", "upload", "revoke"][..],
        &["exchange", "record", "token", "upload"],
        &["harden", "sbom", "sign"],
        &["harden", "record"],
        &["sign", "attach", "revoke"],
    ] {
        assert!(order.is_sorted_by_key(|step| at(step)), "{order:?}\n{screen}");
    }
    assert_eq!(steps.len(), 11, "{screen}");
    assert!(
        screen.stdout.ends_with(&format!("@acme/core@1.0.0 published as `latest`\n{}\n", integrity(&world)))
    );

    let outputs: serde_json::Value =
        serde_json::from_str(&world.output("published-packages").expect("output")).expect("JSON");
    assert_eq!(outputs[0]["name"], "@acme/core");
    assert_eq!(outputs[0]["status"], "published");
    assert_eq!(outputs[0]["tag"], "latest");
    assert_eq!(outputs[0]["integrity"], integrity(&world));
    let manifest = world.output("build-manifest").expect("output");
    assert!(fs::metadata(&manifest).is_ok(), "{manifest}");
    let id = world.output("correlation-id").expect("output");
    assert!(world.audit().iter().any(|event| event["request_id"] == id.as_str()));
    assert!(world.output("expires-at").is_some_and(|time| time.ends_with('Z')));

    let summary = world.summary();
    for part in ["### @acme/core@1.0.0", "| minify | swc", "| integrity-manifest |", "| status | published |"]
    {
        assert!(summary.contains(part), "{part}\n{summary}");
    }

    let evidence = world.operator_get("/v1/evidence?limit=50");
    let kinds = evidence["items"].as_array().expect("items").iter().filter_map(|item| item["type"].as_str());
    let kinds: std::collections::BTreeSet<&str> = kinds.collect();
    for kind in ["integrity-manifest", "protected-build", "publish-attestation", "vsa"] {
        assert!(kinds.contains(kind), "{kind}: {evidence}");
    }
}

fn integrity(world: &World) -> String {
    let token = world.npm_token("release", "@acme/core", "install");
    race::stored(world, &token, "@acme/core", "1.0.0").0
}

#[test]
fn the_source_stays_private() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    // A package that lists its files still gets the list of digests.
    let listing = "{\"name\": \"@acme/core\", \"version\": \"1.0.0\", \"main\": \"src/index.ts\", \"files\": [\"src\"]}";
    world.write("acme-core-1.0.0/package.json", listing);
    world.cli_in(&folder, &["publish"]).succeeded();
    let build = folder.join("protected-build/acme-core-1.0.0");
    let mut tar = world.bare("tar", &["tzf", "acme-core-1.0.0.tgz"]);
    tar.current_dir(&build);
    let packed = world.run(tar).stdout;
    assert!(packed.contains("package/integrity.json\n"), "{packed}");
    for file in files(&build.join("artifact")) {
        let text = fs::read_to_string(&file).expect("text");
        for secret in ["hiddenFactor", "customer must not read", "sourceMappingURL", "sourcesContent"] {
            assert!(!text.contains(secret), "{} holds `{secret}`", file.display());
        }
    }
    let maps: Vec<_> = files(&build.join("private"));
    assert!(
        maps.iter().any(|file| fs::read_to_string(file).expect("text").contains("hiddenFactor")),
        "{maps:?}"
    );
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(build.join("private")).expect("private").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(build.join("evidence/build-manifest.json")).expect("manifest"))
            .expect("JSON");
    assert_eq!(manifest["protection"]["obfuscated"], true);
    assert_eq!(manifest["hardening"]["profile"], "standard", "what nobody asked to leave out is done");
    assert_eq!(manifest["protection"]["source_maps"], "withheld");
}

#[test]
fn publishing_again_is_safe_and_other_content_is_refused() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    world.cli_in(&folder, &["publish"]).succeeded();
    let again = world.cli_in(&folder, &["publish"]);
    assert!(again.succeeded().stdout.contains("already published, same content"), "{again}");
    assert_eq!(world.count("registry.publish", "allow", None), 1);

    world.write("acme-core-1.0.0/src/index.ts", "export const other = 1;\n");
    world.cli_in(&folder, &["publish"]).failed(6, &["@acme/core@1.0.0"]);
    assert_eq!(world.count("registry.publish", "allow", None), 1);
}

#[test]
fn latest_never_moves_backwards_and_a_prerelease_needs_a_tag() {
    let world = World::new();
    world.cli_in(&world.package("@acme/core", "2.0.0"), &["publish"]).succeeded();
    let older = world.package("@acme/core", "1.9.0");
    let screen = world.cli_in(&older, &["publish"]);
    assert_ne!(screen.code, 0, "{screen}");
    assert!(screen.stderr.contains("latest"), "{screen}");
    let through_npm = world.cli_in(&older, &["publish", "--with", "npm"]);
    assert_ne!(through_npm.code, 0, "{through_npm}");
    assert!(through_npm.stderr.contains("latest"), "{through_npm}");
    world.cli_in(&older, &["publish", "--tag", "v1-lts"]).failed(2, &["v1-lts"]);
    world.cli_in(&older, &["publish", "--tag", "lts"]).succeeded();
    let beta = world.package("@acme/core", "3.0.0-beta.1");
    world.cli_in(&beta, &["publish", "--tag", "next"]).succeeded();
    let token = world.npm_token("release", "@acme/core", "install");
    let path = "/repository/npm-hosted/-/package/@acme%2fcore/dist-tags";
    let (status, body) = world.request("GET", path, Some(&token), &[], b"");
    let tags: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let wanted = serde_json::json!({"latest": "2.0.0", "lts": "1.9.0", "next": "3.0.0-beta.1"});
    assert_eq!((status, tags), (200, wanted));
}

#[test]
fn a_dry_run_asks_everybody_and_publishes_nothing() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    let screen = world.cli_in(&folder, &["publish", "--dry-run"]);
    assert!(screen.succeeded().stdout.contains("may be published"), "{screen}");
    assert_eq!(world.count("registry.publish", "allow", None), 0);
    assert_eq!(world.count("exchange", "allow", None), 1, "the exchange is real");
    world.cli_in(&folder, &["publish"]).succeeded();
    world.write("acme-core-1.0.0/src/index.ts", "export const other = 1;\n");
    world.cli_in(&folder, &["publish", "--dry-run"]).failed(6, &["@acme/core@1.0.0"]);
    let unknown = world.package("@acme/unknown", "1.0.0");
    world.cli_in(&unknown, &["publish", "--dry-run"]).failed(4, &["@acme/unknown"]);
}

#[test]
fn a_tarball_is_published_only_when_its_build_is_on_record() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    world.cli_in(&folder, &["protect-build", "--no-record"]).succeeded();
    let tarball = "protected-build/acme-core-1.0.0/acme-core-1.0.0.tgz";
    let refused = world.cli_in(&folder, &["publish", "--tarball", tarball]);
    refused.failed(4, &["@acme/core"]);
    world.cli_in(&folder, &["protect-build"]).succeeded();
    world.cli_in(&folder, &["publish", "--tarball", tarball]).succeeded();
    assert_eq!(world.count("registry.publish", "allow", Some("1.0.0")), 1);
}

#[test]
fn results_are_one_json_document_for_programs() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    let mut command = world.bare(CLI, &["publish", "--format", "json"]);
    let id_token = world.write("id-token", &world.id_token("release", "github-actions"));
    command.env("FRACTALOPS_ID_TOKEN_FILE", &id_token).current_dir(&folder);
    let screen = world.run(command);
    let document: serde_json::Value = serde_json::from_str(&screen.succeeded().stdout).expect("JSON");
    assert_eq!(document[0]["name"], "@acme/core");
    let mut command = world.bare(CLI, &["publish", "--format", "json"]);
    command.env("FRACTALOPS_ID_TOKEN_FILE", &id_token).current_dir(&folder);
    let screen = world.run(command);
    let document: serde_json::Value = serde_json::from_str(&screen.failed(4, &[]).stdout).expect("JSON");
    assert_eq!(document["error"]["kind"], "refused");
    assert_eq!(document["error"]["problem"]["code"], "token_replayed");
    fs::remove_file(id_token).expect("remove");
}

#[test]
fn a_folder_that_is_no_build_is_never_replaced() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    world.write("precious/notes.txt", "not yours");
    world
        .cli_in(&folder, &["protect-build", "--no-record", "--out", "../precious"])
        .failed(2, &["precious", "--out"]);
    assert!(world.path("work/precious/notes.txt").exists());
}

#[test]
fn the_openapi_document_is_that_of_the_code() {
    let world = World::new();
    let screen = world.run(world.bare(SERVER, &["openapi"]));
    let published = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let same = fs::read_to_string(published).is_ok_and(|text| text == screen.stdout);
    assert!(same, "docs/openapi.json is old: target/debug/fractalops-local openapi > docs/openapi.json");
}

#[test]
fn the_example_configuration_starts_a_server() {
    let world = World::new();
    let example = world.run(world.bare(SERVER, &["example-config"])).stdout;
    let file = world.write("example/fractalops.toml", &example);
    let ready = world.path("work/example/ready");
    let mut command = world.bare(SERVER, &["serve", "--listen", "127.0.0.1:0", "--config"]);
    let mut child = command
        .arg(&file)
        .arg("--ready-file")
        .arg(&ready)
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("start");
    for _ in 0..500 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        if ready.exists() || child.try_wait().expect("wait").is_some() {
            break;
        }
    }
    let serves = ready.exists();
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert!(serves, "the example does not start as it is");
}
