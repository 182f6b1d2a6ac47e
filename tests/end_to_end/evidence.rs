//! What a build says of itself, and whether it holds.

use std::fs;

use protected_model::digest::Sha256;
use serde_json::{Value, json};

use crate::harness::World;

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
    let mut command = world.github("release", crate::harness::CLI, &["publish", "--out", "../built"]);
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

#[test]
fn what_nobody_verified_is_labelled() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    let args = ["protect-build", "--no-record", "--out", "../built"];
    let mut command = world.github("release", crate::harness::CLI, &args);
    command.env("GITHUB_REPOSITORY", "acme/core").current_dir(&folder);
    world.run(command).succeeded();
    let said = provenance(&world, "built");
    let internal = &said["predicate"]["buildDefinition"]["internalParameters"];
    assert_eq!(internal["unverified"]["repository"], "acme/core");
    assert_eq!(internal.get("platform"), None);
    let builder = &said["predicate"]["runDetails"]["builder"]["id"];
    assert_eq!(builder, "https://protected-registry.dev/builders/unverified");

    let mut command = world.bare(crate::harness::CLI, &["protect-build", "--no-record", "--out", "../local"]);
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
