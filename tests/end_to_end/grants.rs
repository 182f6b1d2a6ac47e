//! One delivery the whole way, on every key service: sealed by a job that has no credential there, granted to one
//! customer, opened by that one and by nobody else, taken back, and wrapped anew.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    aws, azure,
    deliver::{customer, nothing_left, read_json, small},
    google,
    harness::{CLI, Screen, Setup, World, github_run},
    proxy::Fault,
    transit,
};

/// Who asks a key service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// The job that delivers, which has an identity and no credential.
    Vendor,
    /// The customer who is granted.
    Globex,
    /// Another one, with a login that is as good.
    Initech,
}

/// To what a service holds a grantee, as `docs/keys.md` says.
pub(crate) struct Limits {
    pub(crate) one_bundle: bool,
    pub(crate) expires: bool,
}

/// A key service that answers with a key which is not the one that was asked for.
pub(crate) struct Lie {
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) code: i32,
    pub(crate) says: &'static str,
}

/// What differs between the key services.
pub(crate) trait Service {
    fn limits(&self) -> Limits;

    /// The key that deliveries are sealed under.
    fn key(&self) -> String;

    /// The variables of somebody who asks.
    fn environment(&self, who: Who) -> Vec<(String, String)>;

    /// What the service calls somebody.
    fn grantee(&self, who: Who) -> String;

    /// For whom the job's identity is made when it is shown to the service.
    fn audience(&self) -> String;

    /// What the service answers to whoever has no grant.
    fn refusal(&self) -> &'static str;

    /// Makes a new version of the key, and returns its reference where that is another.
    fn rotate(&self) -> Option<String>;

    /// Has the versions of before unwrap no more.
    fn retire(&self);

    /// Has the service answer wrongly from now on, in each of several ways.
    fn lies(&self, try_with: &mut dyn FnMut(Lie));
}

/// A world with a second repository, whose jobs have an identity too.
pub(crate) fn world() -> World {
    let changes = [
        ("sub", "repo:acme/fork:ref:refs/heads/main"),
        ("repository", "acme/fork"),
        ("repository_id", "3003"),
    ];
    World::with(Setup { more: github_run("fork", &changes), ..Setup::default() })
}

/// The world, and what everybody does in it.
pub(crate) struct Story<'a> {
    pub(crate) world: &'a World,
    pub(crate) service: &'a dyn Service,
}

impl Story<'_> {
    fn job(&self, run: &str, args: &[&str]) -> Command {
        let mut command = self.world.github(run, CLI, args);
        command.envs(self.service.environment(Who::Vendor)).env("PROTECTED_REGISTRY_CUSTOMER", "globex");
        command
    }

    /// Runs a command of the job that delivers.
    pub(crate) fn vendor(&self, args: &[&str]) -> Screen {
        self.world.run(self.job("release", args))
    }

    pub(crate) fn seal(&self, artifact: &Path, out: &str) -> String {
        let (artifact, key) = (artifact.to_str().expect("path"), self.service.key());
        self.vendor(&["deliver", "--artifact", artifact, "--key-ref", &key, "--out", out]).succeeded();
        self.world.output("bundle-id").expect("id")
    }

    fn grant(&self, bundle: &str, who: Who, more: &[&str]) -> Vec<String> {
        let grantee = self.service.grantee(who);
        let all = ["grant-delivery", "--bundle-id", bundle, "--grantee", &grantee, "--materialize-grant"];
        all.iter().chain(more).map(|word| (*word).to_owned()).collect()
    }

    pub(crate) fn granted(&self, bundle: &str, who: Who, more: &[&str]) -> Screen {
        let args = self.grant(bundle, who, more);
        self.vendor(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn revoked(&self, bundle: &str, who: Who) -> Screen {
        let grantee = self.service.grantee(who);
        self.vendor(&["revoke-grant", "--bundle-id", bundle, "--grantee", &grantee, "--format", "json"])
    }

    pub(crate) fn listed(&self, bundle: &str) -> Vec<Value> {
        let screen = self.vendor(&["list-grants", "--bundle-id", bundle, "--format", "json"]);
        let list: Value = serde_json::from_str(&screen.succeeded().stdout).expect("JSON");
        assert_eq!(list["key_service_asked"], true, "{screen}");
        list["grants"].as_array().expect("grants").clone()
    }

    fn open_with(&self, environment: Vec<(String, String)>, bundle: &str, out: &str) -> Screen {
        let mut command = customer(self.world, "none", &["open-bundle", bundle, "--out", out]);
        command.envs(environment);
        self.world.run(command)
    }

    pub(crate) fn opens(&self, who: Who, bundle: &str) {
        self.open_with(self.service.environment(who), bundle, "opened").succeeded();
        fs::remove_dir_all(self.world.path("work/opened")).expect("opened");
    }

    pub(crate) fn refuses(&self, who: Who, bundle: &str) {
        let screen = self.open_with(self.service.environment(who), bundle, "refused");
        screen.failed(4, &[self.service.refusal()]);
        assert!(screen.stdout.is_empty(), "{screen}");
        nothing_left(self.world, "refused");
    }

    fn digests(&self, out: &str) -> (Value, Value) {
        let index = read_json(&self.world.path("work").join(out).join("bundle/index.json"));
        (index["manifests"][0]["digest"].clone(), index["manifests"][1]["digest"].clone())
    }

    /// How often FractalOps has done `action` on a delivery.
    fn audit(&self, action: &str, bundle: &str) -> usize {
        let done = |event: &&Value| {
            event["action"] == action
                && event["decision"] == "allow"
                && event["target"]["bundle_id"] == bundle
        };
        self.world.audit().iter().filter(done).count()
    }
}

/// Goes the whole way.
pub(crate) fn go(world: &World, service: &dyn Service) {
    let story = Story { world, service };
    let limits = service.limits();
    let built = small(world);
    for (name, value) in [Who::Globex, Who::Initech].into_iter().flat_map(|who| service.environment(who)) {
        if name.ends_with("_TOKEN") || name.contains("SECRET") {
            world.guard(&value);
        }
    }

    // A job of another repository is refused by the key service, whoever else would have let it deliver.
    let (artifact, key) = (built.to_str().expect("path"), service.key());
    let args = ["deliver", "--artifact", artifact, "--key-ref", &key, "--no-submit", "--tenant", "acme"];
    world.run(story.job("fork", &[&args[..], &["--out", "refused"]].concat())).failed(4, &[]);
    nothing_left(world, "refused");

    let (one, two) = (story.seal(&built, "one"), story.seal(&built, "two"));
    let audience: String =
        url::form_urlencoded::byte_serialize(format!("audience={}", service.audience()).as_bytes()).collect();
    let audience = audience.replacen("%3D", "=", 1);
    let asked = |exchange: &crate::proxy::Exchange| {
        String::from_utf8_lossy(&exchange.request).lines().next().is_some_and(|line| line.contains(&audience))
    };
    assert!(world.proxy.exchanges().iter().any(asked), "no identity for {audience}");
    for who in [Who::Globex, Who::Initech] {
        story.refuses(who, "one");
    }

    // Killed between the key service and the record: the customer has it, nobody knows, and the same again tells.
    world.proxy.decide(|method, target, _| {
        if method == "POST" && target.contains("delivery/grants") {
            Fault::StallMs(20_000)
        } else {
            Fault::None
        }
    });
    let month = story.grant(&one, Who::Globex, &["--expires", "30d"]);
    let args: Vec<&str> = month.iter().map(String::as_str).collect();
    let before = world.proxy.exchanges().len();
    let mut killed = story.job("release", &args);
    let mut child = killed.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let records = |exchange: &crate::proxy::Exchange| {
        exchange.request.starts_with(b"POST /v1/packages/delivery/grants")
    };
    let since = Instant::now();
    while !world.proxy.exchanges()[before..].iter().any(records) {
        assert!(since.elapsed() < Duration::from_secs(60), "it does not get to the record");
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("kill");
    child.wait().expect("wait");
    world.proxy.decide(|_, _, _| Fault::None);
    let rows = story.listed(&one);
    assert_eq!((rows.len(), &rows[0]["orphan"]), (1, &json!("it is not on record")), "{rows:?}");
    story.opens(Who::Globex, "one");

    let screen = story.vendor(&args);
    assert!(screen.succeeded().stdout.contains("may open the delivery"), "{screen}");
    for (warning, expected) in [
        ("warning: the key service does not end the grant", !limits.expires),
        ("warning: the key service cannot hold", !limits.one_bundle),
    ] {
        assert_eq!(screen.stderr.contains(warning), expected, "{warning}\n{screen}");
    }
    // Once more does no harm.
    story.vendor(&args).succeeded();
    let grants = world.operator_get(&format!("/v1/packages/delivery/bundles/{one}"))["grants"].clone();
    assert_eq!((grants.as_array().map(Vec::len), &grants[0]["status"]), (Some(1), &json!("materialized")));
    let rows = story.listed(&one);
    assert_eq!((rows.len(), &rows[0]["orphan"]), (1, &Value::Null), "{rows:?}");
    assert_eq!(rows[0]["grantee"], service.grantee(Who::Globex));
    assert!(rows[0]["expires_at"].is_string(), "{rows:?}");

    // What FractalOps does not take, the key service takes back.
    world.proxy.decide(|method, target, _| {
        let refused = method == "POST" && target.contains("delivery/grants");
        if refused { Fault::Say(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n") } else { Fault::None }
    });
    story.granted(&one, Who::Initech, &[]).failed(1, &["has taken it back"]);
    world.proxy.decide(|_, _, _| Fault::None);

    // One customer; and one delivery, where the service can hold the customer to it.
    story.opens(Who::Globex, "one");
    story.refuses(Who::Initech, "one");
    if limits.one_bundle {
        story.refuses(Who::Globex, "two");
    } else {
        story.opens(Who::Globex, "two");
    }

    // A service that gives another key than the one that was wrapped opens nothing.
    service.lies(&mut |lie| {
        let screen = story.open_with(lie.environment, "one", "lied");
        screen.failed(lie.code, &[lie.says]);
        nothing_left(world, "lied");
    });

    // The key is rotated and the delivery wrapped anew: what is sealed stays, and so does the grant.
    let (content, keys) = story.digests("one");
    let rotated = service.rotate();
    let new: Vec<&str> = rotated.iter().flat_map(|key| ["--key-ref", key]).collect();
    let screen = story.vendor(&[&["rewrap", "one"], &new[..]].concat());
    assert!(screen.succeeded().stderr.contains("content   unchanged: sha256:"), "{screen}");
    assert!(!screen.stderr.contains("grants on the former key do not open it"), "{screen}");
    let now = story.digests("one");
    assert_eq!(now.0, content);
    assert_ne!(now.1, keys);
    service.retire();
    story.opens(Who::Globex, "one");
    story.refuses(Who::Initech, "one");
    // The record follows, to another version in the reference too, and the grant stays what it was.
    story.vendor(&["submit-bundle", "--manifest", "one"]).succeeded();
    let record = world.operator_get(&format!("/v1/packages/delivery/bundles/{one}"));
    assert_eq!(record["manifest"]["key_ref"], rotated.unwrap_or_else(|| service.key()));
    assert_eq!(record["grants"], grants);

    let screen = story.revoked(&one, Who::Globex);
    let told: Value = serde_json::from_str(&screen.succeeded().stdout).expect("JSON");
    assert_eq!(
        (&told["grant"]["status"], &told["taken_back_in_key_service"]),
        (&json!("revoked"), &json!(true))
    );
    story.refuses(Who::Globex, "one");
    story.revoked(&one, Who::Globex).failed(2, &["has no grant"]);
    let rows = story.listed(&one);
    assert_eq!(
        (rows.len(), &rows[0]["on_record"], &rows[0]["in_key_service"]),
        (1, &json!("revoked"), &Value::Null)
    );

    // Granted anew, until a moment that comes.
    if limits.expires {
        let since = Instant::now();
        story.granted(&one, Who::Globex, &["--expires", "8s"]).succeeded();
        story.opens(Who::Globex, "one");
        thread::sleep(Duration::from_secs(9).saturating_sub(since.elapsed()));
        story.refuses(Who::Globex, "one");
        let rows = story.listed(&one);
        let last = rows.last().expect("a grant");
        assert_eq!((&last["on_record"], &last["orphan"]), (&json!("expired"), &Value::Null), "{rows:?}");
    }
    story.granted(&one, Who::Globex, &[]).succeeded();
    story.opens(Who::Globex, "one");

    // Two deliveries under one key: where that is all that a grant names, the second one keeps the first one open, and
    // whoever takes the first one back is told.
    story.granted(&two, Who::Globex, &[]).succeeded();
    let screen = story.revoked(&one, Who::Globex);
    let told: Value = serde_json::from_str(&screen.stdout).expect("JSON");
    assert_eq!(
        (&told["grant"]["status"], &told["taken_back_in_key_service"]),
        (&json!("revoked"), &json!(true))
    );
    if limits.one_bundle {
        assert_eq!(told["still_opens_by"], json!([]));
        screen.succeeded();
    } else {
        let by = format!("the grant of the delivery {two}");
        assert!(told["still_opens_by"][0].as_str().is_some_and(|still| still.starts_with(&by)), "{screen}");
        assert_eq!(told["still_opens_by"].as_array().map(Vec::len), Some(1), "each once\n{screen}");
        screen.failed(6, &["still opens the delivery", &by]);
        story.opens(Who::Globex, "one");
        // As long as that is so, the same again says the same.
        story.revoked(&one, Who::Globex).failed(6, &["there is no grant", &by]);
    }
    story.revoked(&two, Who::Globex).succeeded();
    story.refuses(Who::Globex, "one");

    assert_eq!((story.audit("bundle.create", &one), story.audit("bundle.create", &two)), (1, 1));
    assert_eq!(story.audit("grant.create", &one), 2 + usize::from(limits.expires));
    assert_eq!((story.audit("bundle.rewrap", &one), story.audit("bundle.rewrap", &two)), (1, 0));
    assert_eq!((story.audit("grant.revoke", &one), story.audit("grant.revoke", &two)), (2, 1));
}

#[test]
fn a_delivery_goes_the_whole_way_with_aws() {
    let world = world();
    go(&world, &aws::Kms::start(&world));
}

#[test]
fn a_delivery_goes_the_whole_way_with_google() {
    let world = world();
    go(&world, &google::Ring::start(&world));
}

#[test]
fn a_delivery_goes_the_whole_way_with_azure() {
    let world = world();
    go(&world, &azure::Vault::start(&world));
}

#[test]
fn a_delivery_goes_the_whole_way_with_openbao() {
    let world = world();
    go(&world, &transit::Transit::start(&world));
}
