//! Signed deliveries: what is signed of one, who checks it, and what is refused.

use std::{
    fs,
    path::Path,
    process::{Child, Command},
};

use protected_bundle::layout::{Delivery, signature::Part};
use serde_json::{Value, json};

use crate::{
    deliver::{
        begun, content, copy, customer, deliver, key, large, nothing_left, open, read_json, small, vendor,
    },
    harness::{Screen, World},
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

    // Again: nothing is signed anew, and nobody is asked for a certificate.
    let before = fs::read(bundle.join("index.json")).expect("read");
    let again = world.run(deliver(&world, &built, "sealed", &["--format", "json"]));
    let told: Value = serde_json::from_str(&again.succeeded().stdout).expect("JSON");
    assert_eq!((&told["signed"], &told["status"]), (&json!(["bundle", "keys"]), &json!("already-sealed")));
    assert!(!again.stderr.contains("certify") && !again.stderr.contains("  sign  "), "{again}");
    assert_eq!(fs::read(bundle.join("index.json")).expect("read"), before);
    assert_eq!(asked(&world, "/signingCert"), 1);
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
        let world = World::new();
        key(&world, "keys", "globex", "00");
        let built = small(&world);
        world.run(deliver(&world, &built, "sealed", &[])).succeeded();
        let root = trust(&world, "trusted_root.json").to_str().expect("path").to_owned();
        let (identity, issuer) = (identity(&world), issuer(&world));
        Self { world, root, identity, issuer }
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
    for of_build in ["require = [\"provenance\"]", "require = [\"delivery\"]\n[build]\nsource = \"x\""] {
        let policy = policy(of_build);
        story.open("sealed", &["--policy", &policy]).failed(2, &["nothing about its build"]);
        story.verify("sealed", &["--policy", &policy]).failed(2, &["nothing about its build"]);
    }
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

    // By hand, where nobody signs: told, and no signature of former keys stays.
    let screen = world.run(customer(world, "keys", &["rewrap", "sealed"]));
    let said = &screen.succeeded().stderr;
    assert!(said.contains("nothing is signed: there is no CI run"), "{screen}");
    assert!(said.contains("the former keys were signed, and these are not"), "{screen}");
    assert!(signature(&story.bundle("sealed"), KEYS).is_none());
    assert_eq!(signed(&story.bundle("sealed"), Part::Bundle), of_bundle);
    story.refused("sealed", &known, &["expected a signature over its keys, found none"]);
    let screen = story.open("sealed", &[]);
    assert!(screen.succeeded().stderr.contains("  signed keys note   its keys: not signed"), "{screen}");

    // With a key of one's own, and nothing else.
    let (_, public) = key_pair(&world.path("keys"), "trial");
    let public = public.to_str().expect("path").to_owned();
    let sign = ["rewrap", "sealed", "--sign-key", "local-file://trial"];
    world.run(customer(world, "keys", &sign)).succeeded();
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
    let folder = world.package("@acme/core", "2.0.0");
    world.cli_in(&folder, &["protect-build"]).succeeded();
    let built = build_of(world, "2.0.0");
    world.run(deliver(world, &built, "built", &[])).succeeded();
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
