//! A delivery that another key service wrapped: the record follows, and who may open it is who was granted there.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::{
    deliver::{copy, customer, nothing_left, small},
    google::Ring,
    grants::{Service as _, Who, world},
    harness::{CLI, Screen, World},
    transit::Transit,
};

/// A vendor with keys in two services.
struct Story {
    world: World,
    bao: Transit,
    ring: Ring,
}

impl Story {
    fn new() -> Self {
        let world = world();
        let (bao, ring) = (Transit::start(&world), Ring::start(&world));
        Self { world, bao, ring }
    }

    fn job(&self, args: &[&str]) -> Command {
        let mut command = self.world.github("release", CLI, args);
        command.envs(self.ring.environment(Who::Vendor)).env("PROTECTED_REGISTRY_CUSTOMER", "globex");
        command
    }

    fn vendor(&self, args: &[&str]) -> Screen {
        let mut command = self.job(args);
        command.envs(self.bao.environment(Who::Vendor));
        self.world.run(command)
    }

    /// Wraps `one` with another key, as somebody who may open with the former one.
    fn rewrapped(&self, key: &str) -> Screen {
        let mut command = self.job(&["rewrap", "one", "--key-ref", key]);
        command.envs(self.bao.environment(Who::Vendor)).env("BAO_TOKEN", &self.bao.bao.root);
        self.world.run(command)
    }

    fn opening(&self, environment: Vec<(String, String)>, bundle: &str) -> Screen {
        let mut command = customer(&self.world, "none", &["open-bundle", bundle, "--out", "opened"]);
        command.envs(environment);
        let screen = self.world.run(command);
        if screen.code == 0 {
            fs::remove_dir_all(self.world.path("work/opened")).expect("opened");
        }
        nothing_left(&self.world, "opened");
        screen
    }

    fn record(&self, id: &str) -> Value {
        self.world.operator_get(&format!("/v1/packages/delivery/bundles/{id}"))
    }

    fn statuses(&self, id: &str) -> Vec<Value> {
        let record = self.record(id);
        record["grants"].as_array().expect("grants").iter().map(|grant| grant["status"].clone()).collect()
    }

    fn rewrapped_with(&self, key: &str) {
        let screen = self.rewrapped(key);
        assert!(screen.succeeded().stderr.contains("manifest  has the new wrapping"), "{screen}");
        self.vendor(&["submit-bundle", "--manifest", "one/delivery-manifest.json"]).succeeded();
    }
}

/// One service, two keys, one name of the grantee: each grant is its own.
#[test]
fn grants_on_two_keys_of_one_service_are_two() {
    let story = Story::new();
    let (world, built) = (&story.world, small(&story.world));
    let next = story.ring.second_key();
    let key = story.ring.key();
    story
        .vendor(&["deliver", "--artifact", built.to_str().expect("path"), "--key-ref", &key, "--out", "one"])
        .succeeded();
    let id = world.output("bundle-id").expect("id");
    let reader = story.ring.grantee(Who::Globex);
    let grant = ["grant-delivery", "--bundle-id", &id, "--grantee", &reader, "--materialize-grant"];
    story.vendor(&grant).succeeded();
    copy(world, "one", "kept");
    story.rewrapped_with(&next);
    let globex = || story.ring.environment(Who::Globex);
    story.opening(globex(), "one").failed(4, &[story.ring.refusal()]);
    story.vendor(&grant).succeeded();
    for bundle in ["one", "kept"] {
        story.opening(globex(), bundle).succeeded();
    }
    assert_eq!(story.statuses(&id), [json!("other_key"), json!("materialized")]);
    // Taken back on both by one command, and on record too.
    let screen =
        story.vendor(&["revoke-grant", "--bundle-id", &id, "--grantee", &reader, "--format", "json"]);
    let told: Value = serde_json::from_str(&screen.succeeded().stdout).expect("JSON");
    assert_eq!(told["grants"].as_array().map(Vec::len), Some(2), "{screen}");
    for bundle in ["one", "kept"] {
        story.opening(globex(), bundle).failed(4, &[story.ring.refusal()]);
    }
    assert_eq!(story.statuses(&id), [json!("revoked"), json!("revoked")]);
    // What nobody recorded on the former key is shown and taken back without naming it.
    let screen = story.vendor(&[&grant[..], &["--key-ref", &key]].concat());
    assert!(screen.succeeded().stdout.contains("and on record that is"), "{screen}");
    assert_eq!(story.statuses(&id)[1], "other_key");
    story.vendor(&["revoke-grant", "--bundle-id", &id, "--grantee", &reader]).succeeded();
    story.opening(globex(), "kept").failed(4, &[story.ring.refusal()]);
}
