//! A delivery that another key service wrapped: the record follows, and who may open it is who was granted there.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::{
    deliver::{copy, customer, nothing_left, read_json, small},
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

    /// The vendor's job, which has no way to the service of the former key.
    fn without_bao(&self, args: &[&str]) -> Screen {
        self.world.run(self.job(args))
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

    /// What `list-grants` tells of each: who, on record, in the key service, orphan.
    fn listed(&self, id: &str) -> Vec<(String, Value, bool, Value)> {
        let screen = self.vendor(&["list-grants", "--bundle-id", id, "--format", "json"]);
        let told: Value = serde_json::from_str(&screen.succeeded().stdout).expect("JSON");
        assert_eq!(told["key_service_asked"], true, "{screen}");
        let rows = told["grants"].as_array().expect("grants");
        rows.iter()
            .map(|row| {
                let key = row["key_ref"].as_str().and_then(|key| key.split("://").next()).expect("key");
                (
                    key.to_owned(),
                    row["on_record"].clone(),
                    row["in_key_service"].is_string(),
                    row["orphan"].clone(),
                )
            })
            .collect()
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

#[test]
fn a_delivery_moves_to_another_key_service_and_its_grants_with_it() {
    let story = Story::new();
    let (world, built) = (&story.world, small(&story.world));
    let (bao, google) = (story.bao.key(), story.ring.key());
    let deliver = ["deliver", "--artifact", built.to_str().expect("path"), "--key-ref", &bao, "--out", "one"];
    story.vendor(&deliver).succeeded();
    let id = world.output("bundle-id").expect("id");
    let grant = |who: &str, more: &[&str]| {
        let all = ["grant-delivery", "--bundle-id", &id, "--grantee", who, "--materialize-grant"];
        story.vendor(&[&all[..], more].concat())
    };
    grant("globex", &[]).succeeded();
    let at_bao = |who| story.bao.environment(who);
    let at_google = |who| story.ring.environment(who);
    story.opening(at_bao(Who::Globex), "one").succeeded();
    copy(world, "one", "kept");

    // Wrapped by the other service: the record still has the former wrapping, and then the new one.
    // Who may not open with the former key wraps with no other.
    story.vendor(&["rewrap", "one", "--key-ref", &google]).failed(4, &["answered 403"]);
    let screen = story.rewrapped(&google);
    assert!(
        screen.succeeded().stderr.contains(&format!("by `grant-delivery --key-ref {google}`")),
        "{screen}"
    );
    assert_eq!(
        (&story.record(&id)["manifest"]["key_ref"], story.statuses(&id)),
        (&json!(bao), vec![json!("materialized")])
    );
    let manifest = world.path("work/one/delivery-manifest.json");
    let submit = ["submit-bundle", "--manifest", "one"];
    story.vendor(&submit).succeeded();
    // Once more does no harm.
    story.vendor(&submit).succeeded();
    let record = story.record(&id);
    assert_eq!(record["manifest"], read_json(&manifest));
    assert_eq!(record["manifest"]["key_ref"], google);
    let keys = |record: &Value| -> Vec<Value> {
        record["wrappings"].as_array().expect("wrappings").iter().map(|it| it["key_ref"].clone()).collect()
    };
    assert_eq!(keys(&record), [json!(bao), json!(google)]);
    assert_eq!(world.count("bundle.rewrap", "allow", None), 1);
    let rewrapped =
        world.audit().into_iter().find(|event| event["action"] == "bundle.rewrap").expect("event");
    assert_eq!(
        (&rewrapped["target"]["key_ref"], &rewrapped["target"]["bundle_id"]),
        (&json!(google), &json!(id))
    );
    // Both manifests are evidence.
    let kinds = record["evidence"].as_array().expect("evidence").iter().map(|it| it["type"].clone());
    assert_eq!(kinds.filter(|kind| kind == "delivery-manifest").count(), 2);
    story
        .vendor(&[
            "deliver",
            "--artifact",
            built.to_str().expect("path"),
            "--key-ref",
            &google,
            "--out",
            "one",
        ])
        .succeeded();

    // Attack: a job of before repeats itself; and a key in clear, in place of a reference.
    story.vendor(&["submit-bundle", "--manifest", "kept"]).failed(6, &["was wrapped anew since"]);
    let raw = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";
    let mut bad = read_json(&manifest);
    bad["key_ref"] = raw.into();
    let place = world.write("raw.json", &bad.to_string());
    let screen = story.vendor(&["submit-bundle", "--manifest", place.to_str().expect("path")]);
    assert!(!screen.failed(7, &["is refused"]).stderr.contains(&raw[..8]), "{screen}");
    assert_eq!(story.record(&id), record);

    // The older grant opens what was kept, and not the delivery of now; nothing says that it does, and it is not lost.
    let other = |in_service: bool| ("openbao".to_owned(), json!("other_key"), in_service, Value::Null);
    assert_eq!(story.listed(&id), [other(true)]);
    let screen = story.vendor(&["list-grants", "--bundle-id", &id]);
    let line = format!("globex  on another key ({bao})  delivery-");
    assert!(screen.succeeded().stdout.starts_with(&line), "{screen}");
    assert!(screen.stderr.contains("and not the delivery as it is on record"), "{screen}");
    story.opening(at_bao(Who::Globex), "kept").succeeded();
    assert_ne!(story.opening(at_bao(Who::Globex), "one").code, 0);
    story.opening(at_google(Who::Globex), "one").failed(4, &[story.ring.refusal()]);

    // Granted on the new key, without naming it.
    let reader = story.ring.grantee(Who::Globex);
    let screen = grant(&reader, &[]);
    assert!(screen.succeeded().stdout.contains("may open the delivery"), "{screen}");
    grant(&reader, &[]).succeeded();
    assert_eq!(story.statuses(&id), [json!("other_key"), json!("materialized")]);
    story.opening(at_google(Who::Globex), "one").succeeded();
    story.opening(at_google(Who::Initech), "one").failed(4, &[story.ring.refusal()]);
    let on_google = |status: &str, in_service| ("gcp-kms".to_owned(), json!(status), in_service, Value::Null);
    assert_eq!(story.listed(&id), [other(true), on_google("materialized", true)]);

    // Without a way to the former service it is shown as on record, and said; a grant of there stays until it is asked.
    let screen = story.without_bao(&["list-grants", "--bundle-id", &id, "--format", "json"]);
    let told: Value = serde_json::from_str(&screen.succeeded().stdout).expect("JSON");
    assert!(screen.stderr.contains("only what is on record is shown"), "{screen}");
    assert_eq!(
        (told["key_service_asked"].clone(), told["grants"].as_array().map(Vec::len)),
        (json!(false), Some(2))
    );
    let revoke = |who| ["revoke-grant", "--bundle-id", id.as_str(), "--grantee", who];
    let globex = revoke("globex");
    story.without_bao(&globex).failed(2, &[&bao]);
    assert_eq!(story.statuses(&id), [json!("other_key"), json!("materialized")]);
    story.without_bao(&revoke(&reader)).succeeded();
    story.opening(at_google(Who::Globex), "one").failed(4, &[story.ring.refusal()]);
    assert_eq!(story.statuses(&id), [json!("other_key"), json!("revoked")]);
    story.vendor(&globex).succeeded();
    story.opening(at_bao(Who::Globex), "kept").failed(4, &[story.bao.refusal()]);
    assert_eq!(
        story.listed(&id),
        [("openbao".to_owned(), json!("revoked"), false, Value::Null), on_google("revoked", false)]
    );
    story.vendor(&globex).failed(2, &["has no grant"]);
    assert_eq!(world.count("grant.revoke", "allow", None), 2);

    // And back again: the older wrapping stays refused, a new one by the same key does not.
    grant("globex", &["--key-ref", &bao]).succeeded();
    assert_eq!(story.statuses(&id)[1], "other_key", "given before the delivery is wrapped so");
    story.rewrapped_with(&bao);
    assert_eq!(keys(&story.record(&id)), [json!(bao), json!(google), json!(bao)]);
    assert_eq!(story.statuses(&id)[1], "materialized");
    story.opening(at_bao(Who::Globex), "one").succeeded();
    story.vendor(&["submit-bundle", "--manifest", "kept"]).failed(6, &["was wrapped anew since"]);
    let view = world.operator_get("/v1/packages/delivery/view");
    assert_eq!(view["items"][0], story.record(&id));
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
