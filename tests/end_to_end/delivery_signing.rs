//! Signed deliveries: what is signed of one, who checks it, and what is refused.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::atomic::AtomicBool,
};

use protected_bundle::{
    DataKey,
    layout::{Delivery, Writer, signature::Part},
    seal,
};
use protected_model::{delivery::WrappedDataKey, digest::Sha256};
use serde_json::{Value, json};

use crate::{
    deliver::{
        begun, content, copy, customer, deliver, key, large, nothing_left, open, read_json, small, vendor,
    },
    harness::{CLI, Screen, Setup, World, github_run},
    proxy::Fault,
    signing::{asked, build_of, identity, issuer, javascript, key_pair, python, statement_of, trust},
};

const BUNDLE: &str = "https://protected-registry.dev/statements/delivery/v1";
const KEYS: &str = "https://protected-registry.dev/statements/delivery-keys/v1";

fn blob(bundle: &Path, entry: &Value) -> std::path::PathBuf {
    let digest = entry["digest"].as_str().expect("digest");
    bundle.join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
}

/// What the index of a bundle names with this predicate type: the entry, the manifest and the Sigstore bundle.
fn signature(bundle: &Path, predicate_type: &str) -> Option<(Value, Value, Value)> {
    let index = read_json(&bundle.join("index.json"));
    let entry = index["manifests"]
        .as_array()
        .expect("list")
        .iter()
        .find(|entry| entry["annotations"]["dev.sigstore.bundle.predicateType"] == predicate_type)?;
    let manifest = read_json(&blob(bundle, entry));
    let signed = read_json(&blob(bundle, &manifest["layers"][0]));
    Some((entry.clone(), manifest, signed))
}

/// Whoever comes second signs what is there, and not what nobody gets.
#[test]
fn a_delivery_that_another_command_sealed_meanwhile_is_signed() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    let file = large(&world, "app.bin", 96);
    let named = |more: &[&str]| {
        deliver(&world, &file, "sealed", &[&["@acme/core", "--version", "1.0.0"], more].concat())
    };
    let signal = |child: &Child, name: &str| {
        let sent = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill");
        assert!(sent.success());
    };
    let mut child = begun(&world, named(&[]));
    signal(&child, "-STOP");
    let told = world.run(named(&["--sign", "off", "--format", "json"]));
    let told: Value = serde_json::from_str(&told.succeeded().stdout).expect("JSON");
    assert_eq!((&told["status"], &told["signed"]), (&json!("sealed"), &json!([])));
    signal(&child, "-CONT");
    assert!(child.wait().expect("wait").success());
    let bundle = world.path("work/sealed/bundle");
    assert!(signature(&bundle, BUNDLE).is_some() && signature(&bundle, KEYS).is_some(), "nobody signed it");
    let index = read_json(&bundle.join("index.json"));
    assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], told["bundle_id"]);
    assert_eq!(world.count("bundle.create", "allow", None), 1);
    // The world looks for tokens in every file, letter by letter.
    fs::remove_dir_all(world.path("work")).expect("remove");
}

#[test]
fn a_delivery_is_signed_once_by_whoever_delivers() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    let built = small(&world);
    let screen = world.run(deliver(&world, &built, "sealed", &["--format", "json"]));
    let told: Value = serde_json::from_str(&screen.succeeded().stdout).expect("JSON");
    assert_eq!((&told["signed"], &told["unsigned"]), (&json!(["bundle", "keys"]), &Value::Null));
    assert!(screen.stderr.contains("  sign      bundle, keys; log entry "), "{screen}");
    assert!(world.summary().contains("| signed | bundle, keys |"), "{}", world.summary());
    let bundle = world.path("work/sealed/bundle");
    let index = read_json(&bundle.join("index.json"));
    let manifest = read_json(&world.path("work/sealed/delivery-manifest.json"));
    let mut certificates = Vec::new();
    for (predicate_type, of) in [(BUNDLE, 0), (KEYS, 1)] {
        let (_, artifact, signed) = signature(&bundle, predicate_type).expect("signature");
        let digest = &index["manifests"][of]["digest"];
        assert_eq!(artifact["subject"]["digest"], *digest);
        let statement = statement_of(&signed);
        assert_eq!(statement["predicateType"], predicate_type);
        let digest = digest.as_str().expect("digest").trim_start_matches("sha256:");
        let subject = json!([{"name": told["bundle_id"], "digest": {"sha256": digest}}]);
        assert_eq!(statement["subject"], subject);
        let predicate = &statement["predicate"];
        assert_eq!(predicate["bundle_id"], told["bundle_id"]);
        for secret in ["wrapped_key", "local-file", "127.0.0.1"] {
            assert!(!statement.to_string().contains(secret), "{statement}");
        }
        if of == 0 {
            for member in
                ["tenant_id", "project_slug", "customer_slug", "package_name", "version", "created_at"]
            {
                assert_eq!(predicate[member], manifest[member], "{member}");
            }
        }
        // Strangers take it, with the manifest as the file that is signed.
        let [file, artifact] = [&artifact["layers"][0], &index["manifests"][of]].map(|it| blob(&bundle, it));
        let said = python(&world, &file, &artifact);
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        assert!(javascript(&world, &file).status.success());
        certificates.push(signed["verificationMaterial"]["certificate"]["rawBytes"].clone());
    }
    assert_eq!(certificates[0], certificates[1]);
    assert_eq!(asked(&world, "/signingCert"), 1, "one certificate for both");
    // FractalOps keeps the statement over the bundle, byte for byte, as evidence of this delivery.
    let id = told["bundle_id"].as_str().expect("id").to_owned();
    let kept = || -> Vec<Value> {
        let record = world.operator_get(&format!("/v1/packages/delivery/bundles/{id}"));
        let evidence = record["evidence"].as_array().expect("evidence").clone();
        evidence.into_iter().filter(|it| it["type"] == "sigstore-bundle").collect()
    };
    let own = signature(&bundle, BUNDLE).expect("signature").2;
    let [record] = kept().try_into().expect("one statement");
    assert_eq!(record["subject"]["sha256"], manifest["bundle"]["sha256"]);
    let path = format!("/v1/evidence/{}/content", record["id"].as_str().expect("id"));
    assert_eq!(world.operator_get(&path), own);
    // Who has that, and the bundle without its signatures, verifies by it; by another's nothing is proven.
    let root = trust(&world, "trusted_root.json");
    let known = ["--trusted-root", root.to_str().expect("path"), "--identity", &identity(&world)];
    strip(&copy(&world, "sealed", "bare").join("bundle"), &[BUNDLE, KEYS]);
    let policy = format!(
        "trusted-root = \"{}\"\nrequire = [\"delivery\"]\n[identity]\nsubject = \"{}\"\n",
        root.display(),
        identity(&world)
    );
    let policy = world.write("policy.toml", &policy);
    let with = |what: &str, statement: &Value, more: &[&str]| {
        let statement = world.write("kept.sigstore.json", &statement.to_string());
        let args = ["verify", what, "--bundle", statement.to_str().expect("path")];
        world.run(customer(&world, "nobody", &[&args[..], more].concat()))
    };
    let policy = ["--policy", policy.to_str().expect("path")];
    world
        .run(customer(&world, "nobody", &[&["verify", "bare"][..], &policy].concat()))
        .failed(8, &["found none"]);
    with("bare", &own, &policy).succeeded();
    with("bare", &own, &known).failed(8, &["a signature over its keys, found none"]);
    with("sealed", &own, &known).succeeded();
    let keys = signature(&bundle, KEYS).expect("signature").2;
    for what in ["bare", "sealed"] {
        with(what, &keys, &policy).failed(8, &["FAILED   signature"]);
        with(what, &json!({}), &policy).failed(8, &["FAILED   signature"]);
    }
    assert!(screen.stderr.contains("  attach    the signed statement over its bundle"), "{screen}");
    let attached =
        |event: &&Value| event["action"] == "evidence.attach" && event["target"]["bundle_id"] == id;
    assert_eq!(world.audit().iter().filter(attached).count(), 1);

    // Again: nothing is signed anew. A certificate says whose signatures these have to be.
    let before = fs::read(bundle.join("index.json")).expect("read");
    let again = world.run(deliver(&world, &built, "sealed", &["--format", "json"]));
    let told: Value = serde_json::from_str(&again.succeeded().stdout).expect("JSON");
    assert_eq!((&told["signed"], &told["status"]), (&json!(["bundle", "keys"]), &json!("already-sealed")));
    assert!(!again.stderr.contains("  sign  ") && !again.stderr.contains("not looked at"), "{again}");
    assert_eq!(fs::read(bundle.join("index.json")).expect("read"), before);
    assert_eq!(asked(&world, "/signingCert"), 2);
    assert_eq!(asked(&world, "/log/entries"), 2, "one of each, of the first time");
    assert!(!again.stderr.contains("  attach  "), "{again}");
    assert_eq!(kept(), [record]);

    // Not at all, where that is asked for; and later, in one file too.
    for (out, more) in [("later", &[] as &[&str]), ("one", &["--one-file"])] {
        let off: Vec<&str> = more.iter().copied().chain(["--sign", "off", "--format", "json"]).collect();
        let told = world.run(deliver(&world, &built, out, &off));
        let told: Value = serde_json::from_str(&told.succeeded().stdout).expect("JSON");
        assert_eq!((&told["signed"], &told["unsigned"]), (&json!([]), &json!("signing is switched off")));
        let now = world.run(deliver(&world, &built, out, more));
        assert!(now.succeeded().stderr.contains("  sign      bundle, keys"), "{now}");
        open(&world, "keys", out, &format!("{out}.opened")).succeeded();
    }
}

/// A delivery that is signed after it came on record has its statement there too; another's is refused, and the record stays.
#[test]
fn a_signed_statement_is_put_on_record_when_it_is_there() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    let built = small(&world);
    world.run(deliver(&world, &built, "other", &[])).succeeded();
    let off = world.run(deliver(&world, &built, "sealed", &["--sign", "off"]));
    assert!(!off.succeeded().stderr.contains("  attach  "), "{off}");
    let id = world.output("bundle-id").expect("id");
    let evidence = || {
        let record = world.operator_get(&format!("/v1/packages/delivery/bundles/{id}"));
        record["evidence"].as_array().expect("evidence").len()
    };
    let submit = ["submit-bundle", "--manifest", "sealed", "--format", "json"];
    let bundle = world.path("work/sealed/bundle");
    world.run(vendor(&world, &submit)).succeeded();
    assert_eq!(evidence(), 1);
    // Attack: the statement over another delivery, laid beside this one.
    let plain = copy(&world, "sealed", "plain");
    add(&bundle, Part::Bundle, signed(&world.path("work/other/bundle"), Part::Bundle));
    let screen = world.run(vendor(&world, &submit));
    screen.failed(4, &["is not the signed statement over the delivery", "subject: expected"]);
    assert_eq!(evidence(), 1);
    fs::remove_dir_all(world.path("work/sealed")).expect("remove");
    fs::rename(plain, world.path("work/sealed")).expect("rename");

    // The answer is lost once, and the statement is kept once all the same.
    world.proxy.decide(|method, target, _| {
        let lost = method == "POST" && target.contains("evidence/attachments");
        if lost { Fault::Say(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n") } else { Fault::None }
    });
    let screen = world.run(deliver(&world, &built, "sealed", &[]));
    screen.failed(1, &["the same command again attaches the statement"]);
    world.proxy.decide(|_, _, _| Fault::None);
    assert_eq!(evidence(), 1);
    for _ in 0..2 {
        let told = world.run(vendor(&world, &submit));
        let told: Value = serde_json::from_str(&told.succeeded().stdout).expect("JSON");
        assert_eq!(told["evidence"][1]["type"], "sigstore-bundle");
        assert_eq!(evidence(), 2);
    }
}

/// Signs nothing of what stands beside: takes the signatures of these predicate types out of an index.
fn strip(bundle: &Path, predicate_types: &[&str]) {
    let place = bundle.join("index.json");
    let mut index = read_json(&place);
    index["manifests"].as_array_mut().expect("list").retain(|entry| {
        let of = entry["annotations"]["dev.sigstore.bundle.predicateType"].as_str();
        of.is_none_or(|of| !predicate_types.contains(&of))
    });
    fs::write(place, index.to_string()).expect("write");
}

fn signed(bundle: &Path, part: Part) -> Vec<u8> {
    let delivery = Delivery::open(bundle).expect("delivery");
    delivery.unverified_signature(part).expect("signature").expect("it is signed")
}

fn add(bundle: &Path, part: Part, signature: Vec<u8>) {
    Delivery::open(bundle).expect("delivery").add_signatures(&[(part, signature)]).expect("added");
}

/// A vendor's delivery at `sealed`, and who the customer wants to have signed it.
struct Story {
    world: World,
    root: String,
    identity: String,
    issuer: String,
}

impl Story {
    fn new() -> Self {
        Self::of(World::new())
    }

    fn of(world: World) -> Self {
        key(&world, "keys", "globex", "00");
        let built = small(&world);
        world.run(deliver(&world, &built, "sealed", &[])).succeeded();
        let root = trust(&world, "trusted_root.json").to_str().expect("path").to_owned();
        let (identity, issuer) = (identity(&world), issuer(&world));
        Self { world, root, identity, issuer }
    }

    /// Has a build on record delivered as `built`, and returns the build.
    fn delivers_a_build(&self) -> PathBuf {
        let folder = self.world.package("@acme/core", "2.0.0");
        self.world.cli_in(&folder, &["protect-build"]).succeeded();
        let built = build_of(&self.world, "2.0.0");
        self.world.run(deliver(&self.world, &built, "built", &[])).succeeded();
        built
    }

    /// What whoever knows the vendor says.
    fn known(&self) -> Vec<&str> {
        vec!["--trusted-root", &self.root, "--identity", &self.identity, "--issuer", &self.issuer]
    }

    fn open(&self, what: &str, more: &[&str]) -> Screen {
        let out = format!("opened-{}", crate::harness::unique());
        let screen = self.world.run(customer(
            &self.world,
            "keys",
            &[&["open-bundle", what, "--out", &out], more].concat(),
        ));
        let there = self.world.path("work").join(&out).exists();
        assert_eq!(there, screen.code == 0, "{screen}");
        nothing_left(&self.world, "nothing");
        screen
    }

    fn verify(&self, what: &str, more: &[&str]) -> Screen {
        self.world.run(customer(&self.world, "nobody", &[&["verify", what], more].concat()))
    }

    /// Neither opened nor verified.
    #[track_caller]
    fn refused(&self, what: &str, more: &[&str], messages: &[&str]) {
        let screen = self.open(what, more);
        screen.failed(8, &["is not proven: "]).failed(8, messages);
        assert!(!screen.stderr.contains("  key  "), "no key is asked for\n{screen}");
        self.verify(what, more).failed(8, messages);
    }

    fn bundle(&self, of: &str) -> std::path::PathBuf {
        self.world.path("work").join(of).join("bundle")
    }

    fn copy(&self, to: &str) -> std::path::PathBuf {
        copy(&self.world, "sealed", to).join("bundle")
    }
}

#[test]
fn whoever_looks_is_told_who_signed() {
    let story = Story::new();
    let screen = story.open("sealed", &[]);
    let line =
        "  signature   note   its bundle: signed, not checked: give --trusted-root, --key or --policy\n";
    assert!(screen.succeeded().stderr.starts_with(line), "{screen}");
    assert!(story.verify("sealed", &[]).succeeded().stderr.contains("signed, not checked"));

    let screen = story.open("sealed", &["--trusted-root", &story.root]);
    let line =
        format!("  signature   note   its bundle: by {} (issuer {}) at ", story.identity, story.issuer);
    assert!(screen.succeeded().stderr.contains(&line), "{screen}");
    assert!(screen.stderr.contains("; nobody said who it has to be"), "{screen}");

    let screen = story.open("sealed", &story.known());
    let lines: Vec<&str> = screen.succeeded().stderr.lines().collect();
    assert!(
        lines[0].starts_with(&format!("  signature   ok     its bundle: by {}", story.identity)),
        "{screen}"
    );
    assert!(lines[1].starts_with("  signed keys ok     its keys, wrapped 20"), "{screen}");
    let known = [&story.known()[..], &["--format", "json"]].concat();
    let told: Value = serde_json::from_str(&story.verify("sealed", &known).succeeded().stdout).expect("JSON");
    let outcome = |name: &str| {
        let checks = told["checks"].as_array().expect("checks");
        checks.iter().find(|check| check["check"] == name).map(|check| check["outcome"].clone())
    };
    for name in ["signature", "signed keys", "wrapped key", "build"] {
        assert_eq!(outcome(name), Some(json!("ok")), "{name}: {told}");
    }

    // One that nobody signed opens as it did, unless a signer is demanded.
    let bundle = story.copy("unsigned");
    strip(&bundle, &[BUNDLE, KEYS]);
    let screen = story.open("unsigned", &[]);
    assert!(screen.succeeded().stderr.contains("  signature   note   its bundle: not signed"), "{screen}");
    story.open("unsigned", &["--trusted-root", &story.root]).succeeded();
    let none = ["expected a signature over its bundle, found none"];
    story.refused("unsigned", &story.known(), &none);
    story.refused("unsigned", &["--identity", "*@acme.example"], &none);
    let policy = |text: &str| {
        let text = format!(
            "trusted-root = \"{}\"\n{text}\n[identity]\nsubject = \"{}\"\n",
            story.root, story.identity
        );
        let path = story.world.write(&format!("{}.toml", crate::harness::unique()), &text);
        path.to_str().expect("path").to_owned()
    };
    story.refused("unsigned", &["--policy", &policy("")], &none);
    story.open("sealed", &["--policy", &policy("")]).succeeded();

    // The keys alone are not signed, as after a `rewrap` by hand.
    strip(&story.copy("half"), &[KEYS]);
    story.refused("half", &story.known(), &["expected a signature over its keys, found none"]);
    let bundle_alone = policy("require = [\"delivery\"]");
    story.open("half", &["--policy", &bundle_alone]).succeeded();
    story.verify("half", &["--policy", &bundle_alone]).succeeded();
    story.refused("unsigned", &["--policy", &bundle_alone], &none);
    story.refused(
        "half",
        &["--policy", &policy("require = [\"delivery-keys\"]")],
        &["over its keys, found none"],
    );
    // No list takes away what naming somebody demands; and a demand that names nobody is met by no certificate.
    story.refused("unsigned", &["--policy", &policy("require = []")], &none);
    let nobody = format!("trusted-root = \"{}\"\nrequire = [\"delivery\"]\n", story.root);
    let nobody = story.world.write("nobody.toml", &nobody);
    let nobody = nobody.to_str().expect("path");
    story.refused("sealed", &["--policy", nobody], &["(identity), found http://127.0.0.1"]);
    // What is no policy is not repeated.
    let wrong = story.world.write("wrong.toml", "token = \"hunter2hunter2\"\n");
    let screen = story.open("sealed", &["--policy", wrong.to_str().expect("path")]);
    assert!(!screen.failed(2, &["is not one at line 1"]).stderr.contains("hunter2"), "{screen}");
}

#[test]
fn a_signature_of_anything_else_is_refused() {
    let story = Story::new();
    let (world, known) = (&story.world, story.known());
    let built = small(world);
    world.run(deliver(world, &built, "other", &[])).succeeded();

    // Who it is not.
    let by = |root: &str, identity: &str, messages: &[&str]| {
        story.refused("sealed", &["--trusted-root", root, "--identity", identity], messages);
    };
    by(&story.root, "https://github.example/other/*", &["(identity), found `http://127.0.0.1"]);
    let wrong =
        ["--trusted-root", &story.root, "--identity", &story.identity, "--issuer", "https://other.example"];
    story.refused("sealed", &wrong, &["expected issuer `https://other.example` (identity)"]);
    let another = World::new();
    let other_root = trust(&another, "trusted_root.json");
    let other_root = other_root.to_str().expect("path").to_owned();
    by(&other_root, &story.identity, &["of a trusted authority"]);
    story.refused("sealed", &["--trusted-root", &other_root], &["expected a"]);
    // The public-good instance knows no private authority.
    story.refused("sealed", &["--identity", &story.identity], &["expected a"]);
    let (_, public) = key_pair(&world.path("keys"), "stranger");
    let public = public.to_str().expect("path").to_owned();
    story.refused("sealed", &["--key", &public], &["expected a signature of the trusted key (certificate)"]);
    story.open("sealed", &["--trusted-root", "sealed/delivery-manifest.json"]).failed(7, &["trusted root"]);
    story.open("sealed", &["--trusted-root", "nowhere.json"]).failed(2, &["cannot read"]);

    // Signed one, served another: the artifact as it is, and made anew for this bundle.
    for (part, name) in [(Part::Bundle, "bundle"), (Part::Keys, "keys")] {
        let foreign = signed(&story.bundle("other"), part);
        let bundle = story.copy(&format!("foreign-{name}"));
        add(&bundle, part, foreign);
        story.refused(&format!("foreign-{name}"), &known, &["(subject), found"]);
        // One of the other part.
        let other = if part == Part::Bundle { Part::Keys } else { Part::Bundle };
        let bundle = story.copy(&format!("crossed-{name}"));
        let crossed = signed(&bundle, other);
        add(&bundle, part, crossed);
        story.refused(&format!("crossed-{name}"), &known, &["signature"]);
        // A byte anywhere in it.
        let good = signed(&story.bundle("sealed"), part);
        for at in [good.len() / 4, good.len() / 2, good.len() - 40] {
            let mut changed = good.clone();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let what = format!("flipped-{name}-{at}");
            add(&story.copy(&what), part, changed);
            story.refused(&what, &known, &[]);
        }
        // Nobody who does not check is told that it is good.
        let screen = story.open(&format!("foreign-{name}"), &[]);
        assert!(screen.succeeded().stderr.contains("signed, not checked"), "{screen}");

        // Too large, and too many.
        add(&story.copy(&format!("large-{name}")), part, vec![b' '; 256 << 10]);
        story.refused(&format!("large-{name}"), &known, &["(format)"]);
        let bundle = copy(world, "sealed", &format!("larger-{name}")).join("bundle");
        add(&bundle, part, vec![b' '; 256 << 10]);
        let mut delivery = Delivery::open(&bundle).expect("delivery");
        let _ = delivery.add_signatures(&[(part, vec![b' '; (256 << 10) + 1])]);
        let screen = story.open(&format!("larger-{name}"), &known);
        screen.failed(7, &["has 262145 bytes, more than 262144"]);
        story.verify(&format!("larger-{name}"), &known).failed(8, &["more than 262144"]);
    }
    let bundle = story.copy("many");
    let mut index = read_json(&bundle.join("index.json"));
    let entries = index["manifests"].as_array_mut().expect("list");
    let signature = entries[2].clone();
    entries.extend(vec![signature; 10_000]);
    fs::write(bundle.join("index.json"), index.to_string()).expect("write");
    story.open("many", &known).failed(7, &["there is more than one signature of its bundle"]);
    story.verify("many", &known).failed(8, &["there is more than one signature of its bundle"]);

    // What is sealed and signed is what is opened: a byte of the content, of its manifest, of the keys.
    let sealed = story.bundle("sealed");
    let index = read_json(&sealed.join("index.json"));
    let mut places = vec![content(&sealed)];
    places.extend([0, 1].map(|at| blob(&sealed, &index["manifests"][at])));
    places.push(blob(&sealed, &read_json(&places[2])["layers"][0]));
    for place in places {
        let bundle = story.copy("changed");
        let place = bundle.join(place.strip_prefix(&sealed).expect("below"));
        let mut bytes = fs::read(&place).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&place, bytes).expect("write");
        story.open("changed", &known).failed(7, &[]);
        story.verify("changed", &known).failed(8, &[]);
        fs::remove_dir_all(story.world.path("work/changed")).expect("remove");
    }
}

#[test]
fn new_keys_are_signed_anew_and_old_ones_are_told() {
    let story = Story::new();
    let (world, known) = (&story.world, story.known());
    let old = story.copy("old");
    let of_bundle = signed(&old, Part::Bundle);
    let manifest = "sealed/delivery-manifest.json";
    let before = read_json(&world.path("work/sealed/delivery-manifest.json"));
    let screen = world.run(vendor(world, &["rewrap", "sealed"]));
    assert!(screen.succeeded().stderr.contains("  sign      keys; log entry "), "{screen}");
    assert!(screen.stderr.contains("`submit-bundle --manifest "), "{screen}");
    assert_eq!(
        signed(&story.bundle("sealed"), Part::Bundle),
        of_bundle,
        "what was signed of the bundle stays"
    );
    assert_ne!(signed(&story.bundle("sealed"), Part::Keys), signed(&old, Part::Keys));
    story.open("sealed", &known).succeeded();
    let screen = story.verify("sealed", &known);
    assert!(screen.succeeded().stderr.contains("  ok       wrapped key"), "{screen}");
    // On record: the new wrapping, as evidence and in the audit trail too, beside the statement over the bundle.
    let after = read_json(&world.path("work/sealed/delivery-manifest.json"));
    assert_ne!(after["key_provider"]["wrapped_key_sha256"], before["key_provider"]["wrapped_key_sha256"]);
    let record = format!("/v1/packages/delivery/bundles/{}", after["bundle_id"].as_str().expect("id"));
    assert_eq!(world.operator_get(&record)["manifest"], before);
    world.run(vendor(world, &["submit-bundle", "--manifest", manifest])).succeeded();
    let recorded = world.operator_get(&record);
    assert_eq!((&recorded["manifest"], recorded["evidence"].as_array().map(Vec::len)), (&after, Some(3)));
    world.run(vendor(world, &["submit-bundle", "--manifest", manifest])).succeeded();
    assert_eq!(
        (world.count("bundle.create", "allow", None), world.count("bundle.rewrap", "allow", None)),
        (1, 1)
    );

    // The older keys, with the statement over them that was true once: whoever has the manifest is told.
    fs::copy(world.path("work/sealed/delivery-manifest.json"), world.path("work/old/delivery-manifest.json"))
        .expect("copy");
    let screen = story.verify("old", &known);
    assert!(
        screen
            .succeeded()
            .stderr
            .contains("  note     wrapped key  expected the wrapped key of the manifest"),
        "{screen}"
    );
    // The older statement beside the new keys.
    let mixed = story.copy("mixed");
    let older = signed(&old, Part::Keys);
    add(&mixed, Part::Keys, older);
    story.refused("mixed", &known, &["expected sha256 ", "(subject), found sha256 "]);

    // Keys that somebody changed are not signed anew.
    let forged = story.bundle("mixed");
    let index = fs::read(forged.join("index.json")).expect("read");
    world.run(vendor(world, &["rewrap", "mixed"])).failed(8, &["the keys are not signed anew"]);
    assert_eq!(fs::read(forged.join("index.json")).expect("read"), index);

    // By hand, where nobody signs: not unless it is asked for, before any key is; and no signature of former keys stays.
    let index = fs::read(story.bundle("sealed").join("index.json")).expect("read");
    world
        .run(customer(world, "nobody", &["rewrap", "sealed"]))
        .failed(2, &["the keys are signed, and nobody signs the new ones: there is no CI run", "--sign off"]);
    assert_eq!(fs::read(story.bundle("sealed").join("index.json")).expect("read"), index);
    let off = [&["rewrap", "sealed", "--sign", "off", "--format", "json"], &known[..]].concat();
    let screen = world.run(customer(world, "keys", &off));
    let said = &screen.succeeded().stderr;
    assert!(said.contains("the former keys were signed, and these are not"), "{screen}");
    let told: Value = serde_json::from_str(&screen.stdout).expect("JSON");
    assert_eq!((&told["signed"], &told["unchecked"]), (&json!(["bundle"]), &json!([])));
    assert!(signature(&story.bundle("sealed"), KEYS).is_none());
    assert_eq!(signed(&story.bundle("sealed"), Part::Bundle), of_bundle);
    story.refused("sealed", &known, &["expected a signature over its keys, found none"]);
    let screen = story.open("sealed", &[]);
    assert!(screen.succeeded().stderr.contains("  signed keys note   its keys: not signed"), "{screen}");

    // With a key of one's own, and nothing else.
    let (_, public) = key_pair(&world.path("keys"), "trial");
    let public = public.to_str().expect("path").to_owned();
    let sign = ["rewrap", "sealed", "--sign-key", "local-file://trial", "--accept-unproven"];
    // Its bundle is signed, by somebody whom this run does not know.
    world
        .run(customer(world, "keys", &sign))
        .failed(8, &["the signature over the bundle is not by who signs here"]);
    let named = [&sign[..], &known[..]].concat();
    world.run(customer(world, "keys", &named)).succeeded();
    // Who names a key believes no certificate, whatever root stands beside it, and whatever else a policy lists.
    let both = ["--key", &public, "--trusted-root", &story.root];
    story.refused("sealed", &both, &["expected a "]);
    let policy = world.write("keys.toml", &format!("key = \"{public}\"\nrequire = [\"delivery-keys\"]\n"));
    strip(&story.bundle("sealed"), &[BUNDLE]);
    for more in [["--key", &public], ["--policy", policy.to_str().expect("path")]] {
        story.refused("sealed", &more, &["expected a signature over its bundle, found none"]);
    }
}

#[test]
fn what_is_not_signed_changes_nothing() {
    let story = Story::new();
    let before = fs::read(story.bundle("sealed").join("index.json")).expect("read");
    story.world.proxy.decide(|_, target, _| match target.contains("/sigstore") {
        true => crate::proxy::Fault::Say(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"),
        false => crate::proxy::Fault::None,
    });
    assert_ne!(story.world.run(vendor(&story.world, &["rewrap", "sealed"])).code, 0);
    assert_eq!(fs::read(story.bundle("sealed").join("index.json")).expect("read"), before);
}

#[test]
fn the_build_of_a_delivery_is_the_one_on_record() {
    let story = Story::new();
    let world = &story.world;
    let built = story.delivers_a_build();
    let place = world.path("work/built/delivery-manifest.json");
    let manifest = read_json(&place);
    let evidence = world.operator_get("/v1/evidence?limit=50&type=protected-build");
    let build = evidence["items"][0]["build_id"].clone();
    assert!(build.is_string() && manifest["build_id"] == build, "{manifest}");
    let bundle = story.bundle("built");
    assert_eq!(
        statement_of(&signature(&bundle, BUNDLE).expect("signature").2)["predicate"]["build_id"],
        build
    );
    let screen = story.verify("built", &story.known());
    assert!(
        screen
            .succeeded()
            .stderr
            .contains(&format!("  ok       build        build {}", build.as_str().expect("id"))),
        "{screen}"
    );
    // Source that lies beside the documents of a build is not what was built.
    let source = world.write("raw/index.ts", "export const secret: number = 1;");
    let evidence = built.join("evidence");
    let mut command =
        deliver(world, &source, "of-source", &["@acme/core", "--version", "2.0.0", "--evidence"]);
    command.arg(evidence);
    let screen = world.run(command);
    let warning = "what the build manifest among the evidence was made for is not delivered: the delivery names no build";
    assert!(screen.succeeded().stderr.contains(warning), "{screen}");
    assert_eq!(read_json(&world.path("work/of-source/delivery-manifest.json"))["build_id"], Value::Null);
    // One that is not on record has none.
    assert_eq!(read_json(&world.path("work/sealed/delivery-manifest.json"))["build_id"], Value::Null);

    // Another build than the signed one, and one that FractalOps does not know or that is of another version.
    let mut other = manifest.clone();
    other["build_id"] = json!("01ARZ3NDEKTSV4RRFFQ69G5FAV");
    fs::write(&place, other.to_string()).expect("write");
    story
        .verify("built", &story.known())
        .failed(8, &[", as it is signed, found build 01ARZ3NDEKTSV4RRFFQ69G5FAV"]);
    let id = manifest["bundle_id"].as_str().expect("id");
    for (foreign, version) in
        [("01ARZ3NDEKTSV4RRFFQ69G5FAV", "2.0.0"), (build.as_str().expect("id"), "1.0.0")]
    {
        let from = if version == "2.0.0" {
            &manifest
        } else {
            &read_json(&world.path("work/sealed/delivery-manifest.json"))
        };
        let mut unknown = from.clone();
        unknown["build_id"] = json!(foreign);
        let path = world.write(&format!("alone-{version}/delivery-manifest.json"), &unknown.to_string());
        let screen = world.run(vendor(world, &["submit-bundle", "--manifest", path.to_str().expect("path")]));
        screen.failed(4, &[&format!("is said to be of build {foreign}")]);
    }
    assert_eq!(world.operator_get(&format!("/v1/packages/delivery/bundles/{id}"))["manifest"], manifest);
}

/// A key under another name.
fn strange(key: &WrappedDataKey) -> WrappedDataKey {
    WrappedDataKey { key_ref: "local-file://strange".parse().expect("reference"), ..key.clone() }
}

/// The run of a branch: the same repository, and another identity.
const BRANCH: &str = "acme/core/.github/workflows/release.yml@refs/heads/feature";

impl Story {
    /// One in which a run of another branch delivers too.
    fn with_a_branch() -> Self {
        let changes = [("workflow_ref", BRANCH), ("job_workflow_ref", BRANCH), ("ref", "refs/heads/feature")];
        Self::of(World::with(Setup { more: github_run("branch", &changes), ..Setup::default() }))
    }

    /// The command in the job of that branch.
    fn branch(&self, args: &[&str]) -> Command {
        let mut command = self.world.github("branch", CLI, args);
        command
            .env("PROTECTED_REGISTRY_KEY_FOLDER", self.world.path("keys"))
            .env("PROTECTED_REGISTRY_ALLOW_LOCAL_KEY", "true");
        command
    }

    /// A delivery of that branch at `branch`.
    fn of_branch(&self, built: &Path) {
        let artifact = built.to_str().expect("path");
        let deliver =
            ["deliver", "--customer", "globex", "--key-ref", "local-file://globex", "--out", "branch"];
        self.world.run(self.branch(&[&deliver[..], &["--artifact", artifact]].concat())).succeeded();
    }

    /// Runs `rewrap`, which is refused with everything left as it was. There is no key of the delivery in `keys`: that no
    /// key service was asked for one is what the exit code says.
    #[track_caller]
    fn not_rewrapped(&self, what: &str, more: &[&str], messages: &[&str]) {
        let place = self.bundle(what).join("index.json");
        let before = fs::read(&place).expect("read");
        let screen = self.world.run(customer(&self.world, "signers", &[&["rewrap", what], more].concat()));
        screen.failed(8, messages);
        assert_eq!(fs::read(place).expect("read"), before);
    }
}

#[test]
fn no_signature_is_lent_to_keys_that_nobody_signed() {
    let story = Story::new();
    let world = &story.world;
    fs::create_dir(world.path("signers")).expect("folder");
    let pair = |name: &str| {
        let (secret, public) = key_pair(&world.path("signers"), name);
        let here = world.path(&format!("keys/{name}.pem"));
        fs::copy(&secret, &here).expect("copy");
        public.to_str().expect("path").to_owned()
    };
    let (own, other) = (pair("own"), pair("other"));
    let built = small(world);
    let sign = ["--sign-key", "local-file://own"];
    world.run(deliver(world, &built, "own", &sign)).succeeded();

    // Nothing of it is signed.
    strip(&copy(world, "own", "bare").join("bundle"), &[BUNDLE, KEYS]);
    let lent =
        ["nobody signed the keys of the delivery", "no signature is lent to them", "--accept-unproven"];
    story.not_rewrapped("bare", &sign, &lent);
    let to_globex = [&sign[..], &["--key-ref", "local-file://globex"]].concat();
    story.not_rewrapped("bare", &to_globex, &lent);
    let named = [&sign[..], &["--key", &own]].concat();
    story.not_rewrapped("bare", &named, &["expected a signature over its bundle, found none"]);
    // As it was where nobody asks for a signature; and with one where somebody vouches for it.
    world.run(customer(world, "keys", &["rewrap", "bare"])).succeeded();
    assert!(signature(&story.bundle("bare"), KEYS).is_none());
    let accepted = [&["rewrap", "bare", "--accept-unproven"], &sign[..]].concat();
    world.run(customer(world, "keys", &accepted)).succeeded();
    assert!(signature(&story.bundle("bare"), KEYS).is_some());

    // Its bundle is signed by who signs here: keys as they are not, and new ones under a key that is named.
    for what in ["half", "several"] {
        strip(&copy(world, "own", what).join("bundle"), &[KEYS]);
    }
    story.not_rewrapped("half", &sign, &lent);
    story.not_rewrapped("half", &[&sign[..], &["--key-ref", "local-file://another"]].concat(), &lent);
    let screen = world.run(customer(world, "keys", &[&["rewrap", "half"], &to_globex[..]].concat()));
    screen.succeeded();
    story.open("half", &["--key", &own]).succeeded();
    story.refused("half", &["--key", &other], &["of the signer over this content"]);
    // Not beside a key that somebody added.
    let mut several = Delivery::open(&story.bundle("several")).expect("delivery");
    let mut keys = several.keys().clone();
    keys.keys.push(strange(&keys.keys[0]));
    several.set_keys(keys, None, &AtomicBool::new(false)).expect("set");
    story.not_rewrapped("several", &to_globex, &lent);

    // Signed by another key: neither its keys nor its bundle is who signs here, unless that is who is named.
    let foreign = ["--sign-key", "local-file://other"];
    for more in [&foreign[..], &[&foreign[..], &["--accept-unproven"]].concat()] {
        story.not_rewrapped("own", more, &["the keys are not signed anew", "not by who signs here"]);
    }
    strip(&copy(world, "own", "foreign").join("bundle"), &[KEYS]);
    let to_globex = [&foreign[..], &["--key-ref", "local-file://globex"]].concat();
    for more in [&to_globex[..], &[&foreign[..], &["--accept-unproven"]].concat()] {
        story.not_rewrapped("foreign", more, &["the signature over the bundle is not by who signs here"]);
    }
    story.not_rewrapped("own", &[&foreign[..], &["--key", &other]].concat(), &["is not proven: signature: "]);
    let named = [&["rewrap", "own", "--key", &own], &foreign[..]].concat();
    world.run(customer(world, "keys", &named)).succeeded();
}

/// Attack: an unsigned delivery with a content of the attacker's, sealed under a key of theirs for the same descriptor.
#[test]
fn a_key_that_does_not_open_the_content_is_not_wrapped_anew() {
    let world = World::new();
    key(&world, "keys", "globex", "00");
    key(&world, "keys", "new", "ff");
    world.run(deliver(&world, &small(&world), "sealed", &[])).succeeded();
    let delivery = Delivery::open(&world.path("work/sealed/bundle")).expect("delivery");
    let forged = world.path("work/forged");
    let writer = Writer::new(&forged).expect("writer");
    let (stranger, mut sealed) = (DataKey::generate().expect("key"), Vec::new());
    seal(&stranger, &delivery.descriptor().binding(), &b"other content"[..], &mut sealed).expect("sealed");
    writer.content().expect("content").write_all(&sealed).expect("write");
    let content = (Sha256::of(&sealed), sealed.len() as u64);
    writer.end(delivery.descriptor(), delivery.keys(), content).expect("written");
    let before = fs::read(forged.join("index.json")).expect("read");
    let rewrap = ["rewrap", "forged", "--key-ref", "local-file://new"];
    world.run(customer(&world, "keys", &rewrap)).failed(7, &["with another"]);
    assert_eq!(fs::read(forged.join("index.json")).expect("read"), before);
}

#[test]
fn what_another_identity_signed_is_not_signed_for() {
    let story = Story::with_a_branch();
    let world = &story.world;
    let built = small(world);
    story.of_branch(&built);
    let place = story.bundle("branch").join("index.json");
    let before = fs::read(&place).expect("read");
    let unlike =
        format!("not by who signs here: identity: expected {} (issuer {})", story.identity, story.issuer);
    let found = format!("found {}/{BRANCH} (issuer", world.base());

    // Its keys are not signed anew, by a run whose certificate comes from the same authority.
    let screen = world.run(vendor(world, &["rewrap", "branch"]));
    screen.failed(8, &["the keys are not signed anew", &unlike, &found, "--policy"]);
    assert!(!screen.stderr.contains("  rewrap  "), "{screen}");
    // It is not told as signed, and what is missing of it is not added.
    let again = |out: &str, more: &[&str]| world.run(deliver(world, &built, out, more));
    again("branch", &[]).failed(8, &["the signature over the bundle", &unlike, &found, "--out"]);
    strip(&copy(world, "branch", "half").join("bundle"), &[KEYS]);
    again("half", &[]).failed(8, &["the signature over the bundle", &unlike]);
    assert!(signature(&story.bundle("half"), KEYS).is_none());
    again("branch", &["--sign-key", "local-file://globex"]).failed(2, &[]);
    let screen = again("branch", &["--sign", "off", "--format", "json"]);
    let told: Value = serde_json::from_str(&screen.succeeded().stdout).expect("JSON");
    assert_eq!((&told["signed"], &told["unchecked"]), (&json!([]), &json!(["bundle", "keys"])));
    assert!(screen.stderr.contains("bundle, keys: by whom was not looked at"), "{screen}");
    assert_eq!(fs::read(&place).expect("read"), before);
    // A signature of something else is no better for being one's own.
    again("mine", &[]).succeeded();
    let mine = |to: &str| copy(world, "mine", to).join("bundle");
    let crossed = mine("crossed");
    let older = signed(&crossed, Part::Keys);
    add(&crossed, Part::Bundle, older);
    again("crossed", &[]).failed(8, &["the signature over the bundle"]);
    // Nor is a delivery that is signed as one of no build, and has a manifest that says one.
    let relabelled = mine("relabelled").with_file_name("delivery-manifest.json");
    let mut manifest = read_json(&relabelled);
    manifest["build_id"] = json!("01ARZ3NDEKTSV4RRFFQ69G5FAV");
    fs::write(&relabelled, manifest.to_string()).expect("write");
    again("relabelled", &[])
        .failed(8, &["is signed as one of no build, and is one of build 01ARZ3NDEKTSV4RRFFQ69G5FAV"]);
    // A key that was added to what nobody signed yet.
    let added = mine("added");
    strip(&added, &[BUNDLE, KEYS]);
    let mut delivery = Delivery::open(&added).expect("delivery");
    let mut keys = delivery.keys().clone();
    keys.keys.push(strange(&keys.keys[0]));
    delivery.set_keys(keys, None, &AtomicBool::new(false)).expect("set");
    again("added", &[]).failed(6, &["it has `local-file://globex`, `local-file://strange`"]);

    // Whoever may have signed is named: then they are signed anew, and another is not.
    let by = format!("{}/acme/core/.github/workflows/release.yml@*", world.base());
    let named = |identity: &str| {
        world.run(vendor(world, &["rewrap", "branch", "--identity", identity, "--issuer", &story.issuer]))
    };
    named(&story.identity).failed(8, &["is not proven: signature: expected subject"]);
    let screen = named(&by);
    assert!(screen.succeeded().stderr.contains("  signed keys ok "), "{screen}");
    story.open("branch", &["--trusted-root", &story.root, "--identity", &by]).succeeded();
}

fn off<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["--sign", "off"], more].concat()
}

#[test]
fn no_key_is_touched_before_it_is_known_whose_it_is() {
    let story = Story::new();
    let (world, known) = (&story.world, story.known());
    fs::create_dir(world.path("signers")).expect("folder");
    // Signed, and nobody is named.
    let unnamed = ["is signed, and nothing says by whom it has to be", "--accept-unproven"];
    story.not_rewrapped("sealed", &off(&[]), &unnamed);
    story.not_rewrapped("sealed", &off(&["--trusted-root", &story.root]), &unnamed);
    // Somebody else is, or its signatures are those of other keys, or are gone.
    let other = ["--trusted-root", &story.root, "--identity", "https://github.example/other/*"];
    story.not_rewrapped("sealed", &off(&other), &["is not proven: signature: expected subject"]);
    let swapped = story.copy("swapped");
    let older = signed(&swapped, Part::Keys);
    let mut delivery = Delivery::open(&swapped).expect("delivery");
    let mut keys = delivery.keys().clone();
    keys.keys[0] = strange(&keys.keys[0]);
    delivery.set_keys(keys, Some(&older), &AtomicBool::new(false)).expect("set");
    story.not_rewrapped("swapped", &off(&known), &["is not proven: signed keys: expected sha256"]);
    for (name, gone) in [("no-keys", &[KEYS] as &[&str]), ("nothing", &[BUNDLE, KEYS])] {
        strip(&story.copy(name), gone);
        story.not_rewrapped(name, &off(&known), &["found none"]);
        story.not_rewrapped(name, &known, &["found none"]);
    }
    // Who knows better says so; and who is told by a signature is believed.
    world.run(customer(world, "keys", &[&["rewrap", "sealed"], &off(&known)[..]].concat())).succeeded();
    let accepted = [&["rewrap", "nothing", "--accept-unproven"], &off(&[])[..]].concat();
    world.run(customer(world, "keys", &accepted)).succeeded();
}

#[test]
fn one_policy_speaks_of_packages_and_of_deliveries() {
    let story = Story::new();
    let world = &story.world;
    let built = story.delivers_a_build();
    let policy = |name: &str, source: &str, require: &str| {
        let text = format!(
            "require = [{require}]\ntrusted-root = \"{}\"\n[identity]\nsubject = \"{}\"\nissuer = \"{}\"\n[build]\nsource = \"{source}\"\n",
            story.root, story.identity, story.issuer
        );
        world.write(name, &text).to_str().expect("path").to_owned()
    };
    let (own, other) = (format!("{}/acme/core", world.base()), format!("{}/acme/other", world.base()));
    let all = "\"provenance\", \"cyclonedx\", \"delivery\", \"delivery-keys\"";
    let good = policy("good.toml", &own, all);

    let screen = story.verify("built", &["--policy", &good]);
    let demanded = "  note     package      expected provenance, cyclonedx, what [build] says, found sealed: `open-bundle`";
    assert!(screen.succeeded().stderr.contains(demanded), "{screen}");
    let opened = customer(
        world,
        "keys",
        &["open-bundle", "built", "--out", "opened", "--policy", &good, "--format", "json"],
    );
    let screen = world.run(opened);
    let told: Value = serde_json::from_str(&screen.succeeded().stdout).expect("JSON");
    let checks = told["checks"].as_array().expect("checks");
    let outcomes: Vec<&str> = checks.iter().filter_map(|check| check["outcome"].as_str()).collect();
    assert!(outcomes.iter().all(|outcome| *outcome == "ok"), "{told}");
    for name in
        ["signature", "signed keys", "package", "artifact", "integrity", "provenance", "identity", "sbom"]
    {
        assert!(checks.iter().any(|check| check["check"] == name), "{name}: {told}");
    }
    story.verify("opened", &["--policy", &good]).succeeded();
    story.verify(built.to_str().expect("path"), &["--policy", &good]).succeeded();

    // Another source: nothing appears, and where it is sealed nobody can tell.
    let wrong = ["is not proven: provenance: expected", &other];
    let other = policy("other.toml", &other, all);
    story.verify("built", &["--policy", &other]).succeeded();
    story.open("built", &["--policy", &other]).failed(8, &wrong);
    world.run(customer(world, "keys", &["verify", "opened", "--policy", &other])).failed(8, &["provenance"]);
    // Documents that nobody signed, and none at all.
    let unsigned = "expected a signed https://slsa.dev/provenance/v1";
    story.open("sealed", &["--policy", &good]).failed(8, &[unsigned]);
    // No list takes the provenance away from who demands a build, nor either side from a list of the other.
    for (name, require) in [("none.toml", ""), ("parts.toml", "\"delivery\""), ("sbom.toml", "\"cyclonedx\"")]
    {
        let policy = policy(name, &own, require);
        story.open("sealed", &["--policy", &policy]).failed(8, &[unsigned]);
        story.open("built", &["--policy", &policy]).succeeded();
    }
    strip(&copy(world, "built", "half").join("bundle"), &[KEYS]);
    story.refused(
        "half",
        &["--policy", &policy("package.toml", &own, "\"provenance\"")],
        &["over its keys, found none"],
    );
    // Files beside the package have no documents: they are told. No package at all is none that was built.
    let (folder, file) = (built.to_str().expect("path"), world.write("tool.bin", "tool"));
    let file = file.to_str().expect("path");
    let beside = ["deliver", "--customer", "globex", "--key-ref", "local-file://globex", "--artifact"];
    let both = [&beside[..], &[folder, "--artifact", file, "--out", "both"]].concat();
    world.run(vendor(world, &both)).succeeded();
    let screen = story.open("both", &["--policy", &good]);
    let line = "  files       note   1 other files, for which the signature over the bundle alone speaks";
    assert!(screen.succeeded().stderr.contains(line), "{screen}");
    let alone = [&beside[..], &[file, "@acme/core", "--version", "2.0.0", "--out", "alone"]].concat();
    world.run(vendor(world, &alone)).succeeded();
    story
        .open("alone", &["--policy", &good])
        .failed(8, &["is not proven: package: expected @acme/core@2.0.0, of which", "found no package"]);
    // Several builds, each with its own documents.
    let second = world.package("@acme/core", "2.0.1");
    world.cli_in(&second, &["protect-build"]).succeeded();
    let second = build_of(world, "2.0.1");
    let several = [
        &beside[..],
        &[
            folder,
            "--artifact",
            second.to_str().expect("path"),
            "@acme/core",
            "--version",
            "2.0.0",
            "--out",
            "several",
        ],
    ]
    .concat();
    world.run(vendor(world, &several)).succeeded();
    story.open("several", &["--policy", &good]).succeeded();
}

#[test]
fn every_copy_of_a_delivery_is_wrapped_anew() {
    let story = Story::new();
    let (world, known) = (&story.world, story.known());
    key(world, "keys", "new", "ff");
    fs::create_dir(world.path("work/area")).expect("folder");
    let built = small(world);
    world.run(deliver(world, &built, "stored", &["--to", "area", "--one-file"])).succeeded();
    let id = read_json(&world.path("work/stored/delivery-manifest.json"))["bundle_id"].clone();
    let stored = format!("area/{}", id.as_str().expect("id"));
    let keys = |place: &str| {
        let delivery = Delivery::open(&world.path("work").join(place)).expect("delivery");
        (delivery.manifests().keys.clone(), delivery.manifests().signatures.keys.clone())
    };
    let before = keys("stored/bundle.tar");
    let all = ["rewrap", "stored", &stored, "--key-ref", "local-file://new"];
    // Another delivery among them, and one whose content is not what it was: none is written.
    world
        .run(vendor(world, &[&all[..], &["sealed"]].concat()))
        .failed(2, &["is another delivery: expected the bundle"]);
    let place = content(&world.path("work").join(&stored));
    let good = fs::read(&place).expect("read");
    fs::write(&place, [&good[..good.len() - 1], b"x"].concat()).expect("write");
    world.run(vendor(world, &all)).failed(7, &["blobs/sha256/"]);
    assert_eq!(keys("stored/bundle.tar"), before);
    fs::write(&place, &good).expect("write");

    let screen = world.run(vendor(world, &[&all[..], &["--format", "json"]].concat()));
    let told: Value = serde_json::from_str(&screen.succeeded().stdout).expect("JSON");
    assert_eq!(told["places"].as_array().map(Vec::len), Some(2), "{told}");
    assert!(
        keys("stored/bundle.tar") != before && keys("stored/bundle.tar") == keys(&stored),
        "the same in both"
    );
    fs::remove_file(world.path("keys/globex.key")).expect("remove");
    for place in ["stored", &stored] {
        story.open(place, &known).succeeded();
    }

    // One of them cannot be written: it is told which, and the same command again does both.
    let tar = world.path("work/stored/bundle.tar");
    let whole = fs::read(&tar).expect("read");
    let sealed = whole.windows(good.len()).position(|part| part == good).expect("the content");
    let mut broken = whole.clone();
    broken[sealed + good.len() / 2] ^= 1;
    fs::write(&tar, &broken).expect("write");
    let again = ["rewrap", &stored, "stored"];
    let screen = world.run(vendor(world, &again));
    screen.failed(7, &["the new keys are in `", "and not in `", "bundle.tar`", "the same command again"]);
    fs::write(&tar, &whole).expect("write");
    assert_ne!(keys("stored/bundle.tar"), keys(&stored));
    world.run(vendor(world, &again)).succeeded();
    assert_eq!(keys("stored/bundle.tar"), keys(&stored));
    for place in ["stored", &stored] {
        story.open(place, &known).succeeded();
    }
}
