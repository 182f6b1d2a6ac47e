//! Stock `npm audit signatures` against the embedded registry: what it accepts, and what it calls tampering.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use serde_json::{Value, json};

use crate::{
    clients::{path_with, tool},
    document,
    harness::{Screen, World, unique},
    race,
};

/// The public instance of Sigstore as stock npm knows it, with the service under test in its place.
pub(crate) struct Sigstore {
    child: Child,
    port: u16,
    ca: PathBuf,
}

impl Sigstore {
    /// Starts it with a trusted root, and seeds npm's cache in the world's home.
    pub(crate) fn start(world: &World, trusted_root: &Path) -> Self {
        let hosts = ["tuf-repo-cdn", "fulcio", "rekor"].map(|name| format!("{name}.sigstore.dev")).to_vec();
        let mut parameters = rcgen::CertificateParams::new(hosts).expect("name");
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("key");
        let certificate = parameters.self_signed(&key).expect("certificate").pem();
        let ca = world.path("tmp/sigstore.pem");
        let key_file = world.path("tmp/sigstore.key");
        fs::write(&ca, certificate).expect("write");
        fs::write(&key_file, key.serialize_pem()).expect("write");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/end_to_end/sigstore.mjs");
        let mut command = world.bare("node", &[script]);
        command.args([ca.as_path(), &key_file, &world.path("home/.npm"), trusted_root]).arg(world.base());
        command.env("PATH", path_with(&[tool("node-24")])).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("node starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("a port");
        Self { child, port: line.trim().parse().expect("a port"), ca }
    }
}

impl Drop for Sigstore {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A trusted root that trusts nobody: enough where nothing is attested.
fn nobody(world: &World) -> PathBuf {
    let root = json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        "tlogs": [], "certificateAuthorities": [], "ctlogs": [], "timestampAuthorities": [],
    });
    world.write("trusted_root.json", &root.to_string())
}

/// A project that depends on `@acme/plain`, with a token to install it.
pub(crate) struct Project<'a> {
    world: &'a World,
    folder: PathBuf,
}

impl<'a> Project<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        let name = unique();
        world.write(
            &format!("{name}/package.json"),
            r#"{"name": "app", "version": "1.0.0", "private": true, "dependencies": {"@acme/plain": "1.0.0"}}"#,
        );
        Self { world, folder: world.path("work").join(name) }
    }

    pub(crate) fn npm(&self, sigstore: Option<&Sigstore>, arguments: &[&str]) -> Screen {
        let world = self.world;
        let token = world.npm_token("release", "@acme/plain", "install");
        let registry = world.registry();
        let npmrc = world.path(&format!("tmp/{}.npmrc", unique()));
        let key = registry.trim_start_matches("http:");
        let text = format!(
            "registry={registry}\n{key}:_authToken={token}\nupdate-notifier=false\nfetch-retries=0\nlogs-max=0\n"
        );
        fs::write(&npmrc, text).expect("npmrc");
        let mut command = world.bare("npm", arguments);
        command
            .env("PATH", path_with(&[tool("npm-11"), tool("node-24")]))
            .env("npm_config_userconfig", &npmrc)
            .current_dir(&self.folder);
        if let Some(sigstore) = sigstore {
            command
                .env("HTTPS_PROXY", format!("http://127.0.0.1:{}", sigstore.port))
                .env("NO_PROXY", "127.0.0.1")
                .env("NODE_EXTRA_CA_CERTS", &sigstore.ca);
        }
        let screen = world.run(command);
        fs::remove_file(npmrc).expect("remove");
        screen
    }

    pub(crate) fn install(&self) -> Screen {
        self.npm(None, &["install", "--no-audit", "--no-fund"])
    }

    pub(crate) fn audit(&self, sigstore: &Sigstore) -> Screen {
        self.npm(Some(sigstore), &["audit", "signatures"])
    }
}

fn publish(world: &World) -> Value {
    let token = world.npm_token("release", "@acme/plain", "publish");
    let tarball = document::tarball("@acme/plain", "1.0.0", b"x");
    let (status, answer) =
        race::put(world, &token, &document::publish("@acme/plain", "1.0.0", "latest", &tarball));
    assert_eq!(status, 201, "{answer}");
    packument(world)
}

pub(crate) fn packument(world: &World) -> Value {
    let token = world.npm_token("release", "@acme/plain", "install");
    let (status, body) = world.request("GET", "/repository/npm-hosted/@acme%2fplain", Some(&token), &[], b"");
    assert_eq!(status, 200);
    serde_json::from_slice(&body).expect("JSON")
}

/// Changes the JSON of every answer whose target has `part` in it.
pub(crate) fn change_json(
    world: &World,
    part: &'static str,
    change: impl Fn(&mut Value) + Send + Sync + 'static,
) {
    world.proxy.change(move |target, body| {
        let mut value: Value = target.contains(part).then(|| serde_json::from_slice(body).ok())??;
        change(&mut value);
        Some(value.to_string().into_bytes())
    });
}

#[test]
fn npm_verifies_the_registrys_signature() {
    let world = World::new();
    publish(&world);
    let sigstore = Sigstore::start(&world, &nobody(&world));
    let project = Project::new(&world);
    project.install().succeeded();
    let screen = project.audit(&sigstore);
    screen.succeeded();
    assert!(screen.stdout.contains("1 package has a verified registry signature"), "{screen}");
    // Also after the server was killed, and with the packument that was made then.
    world.kill();
    world.start();
    let screen = project.audit(&sigstore);
    screen.succeeded();
    assert!(screen.stdout.contains("1 package has a verified registry signature"), "{screen}");
}

#[test]
fn npm_calls_whatever_was_changed_tampering() {
    let world = World::new();
    let document = publish(&world);
    let signature = document["versions"]["1.0.0"]["dist"]["signatures"][0].clone();
    assert!(signature["keyid"].as_str().is_some_and(|id| id.starts_with("SHA256:")), "{document}");
    let sigstore = Sigstore::start(&world, &nobody(&world));
    let project = Project::new(&world);
    project.install().succeeded();

    // Another content under the same signature.
    change_json(&world, "@acme", |packument| {
        let integrity = format!("sha512-{}==", "A".repeat(86));
        packument["versions"]["1.0.0"]["dist"]["integrity"] = integrity.into();
    });
    let screen = project.audit(&sigstore);
    assert_eq!(screen.code, 1, "{screen}");
    assert!(screen.stdout.contains("1 package has an invalid registry signature"), "{screen}");
    // Another version's signature.
    let other = {
        let token = world.npm_token("release", "@acme/plain", "publish");
        let tarball = document::tarball("@acme/plain", "1.0.1", b"x");
        let body = document::publish("@acme/plain", "1.0.1", "latest", &tarball);
        change_json(&world, "nothing has this in it", |_| {});
        assert_eq!(race::put(&world, &token, &body).0, 201);
        packument(&world)["versions"]["1.0.1"]["dist"]["signatures"].clone()
    };
    let swapped = other.clone();
    change_json(&world, "@acme", move |packument| {
        packument["versions"]["1.0.0"]["dist"]["signatures"] = swapped.clone();
    });
    let screen = project.audit(&sigstore);
    assert_eq!(screen.code, 1, "{screen}");
    assert!(screen.stdout.contains("1 package has an invalid registry signature"), "{screen}");
    // No signature at all.
    change_json(&world, "@acme", |packument| {
        packument["versions"]["1.0.0"]["dist"].as_object_mut().expect("dist").remove("signatures");
    });
    let screen = project.audit(&sigstore);
    assert_eq!(screen.code, 1, "{screen}");
    assert!(screen.stdout.contains("1 package has a missing registry signature"), "{screen}");
    // The key is gone, or another one has its name.
    change_json(&world, "/-/npm/v1/keys", |keys| keys["keys"] = json!([]));
    project.audit(&sigstore).failed(1, &["EMISSINGSIGNATUREKEY"]);
    let stranger = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==";
    change_json(&world, "/-/npm/v1/keys", move |keys| keys["keys"][0]["key"] = stranger.into());
    let screen = project.audit(&sigstore);
    assert_eq!(screen.code, 1, "{screen}");
    assert!(screen.stdout.contains("1 package has an invalid registry signature"), "{screen}");
    // A key that had expired when the version was published.
    change_json(&world, "/-/npm/v1/keys", |keys| keys["keys"][0]["expires"] = "2020-01-01T00:00:00Z".into());
    project.audit(&sigstore).failed(1, &["EEXPIREDSIGNATUREKEY"]);
    // A tarball that is another one never gets as far.
    world.proxy.change(|target, body| target.ends_with(".tgz").then(|| body.iter().rev().copied().collect()));
    let fresh = Project::new(&world);
    let screen = fresh.install();
    assert_ne!(screen.code, 0, "{screen}");
    assert!(screen.stderr.contains("EINTEGRITY") || screen.stderr.contains("integrity"), "{screen}");
    // And unchanged it is good again.
    change_json(&world, "nothing has this in it", |_| {});
    project.audit(&sigstore).succeeded();
}

/// Makes the service's own authority the one that stock npm trusts, as far as the service knows.
fn trust_own_root(world: &World) -> PathBuf {
    let (status, root) = world.request("GET", "/sigstore/trusted_root.json", None, &[], b"");
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&root));
    let file = world.path("server/npm-root.json");
    fs::write(&file, root).expect("write");
    let config = world.path("server/config.toml");
    let text = fs::read_to_string(&config).expect("config");
    fs::write(&config, format!("{text}\n[provenance]\nnpm_trusted_root = \"npm-root.json\"\n"))
        .expect("write");
    world.kill();
    world.start();
    file
}

/// Runs `npm publish --provenance` in a job of the run `release`, with no token but the one that npm exchanges.
fn publish_with_provenance(world: &World, sigstore: &Sigstore, version: &str) -> Screen {
    let name = unique();
    let content = format!("{{\"name\": \"@acme/plain\", \"version\": \"{version}\", \"license\": \"MIT\"}}");
    world.write(&format!("{name}/package.json"), &content);
    let registry = world.registry();
    let npmrc = world.path(&format!("tmp/{}.npmrc", unique()));
    let text = format!("registry={registry}\nupdate-notifier=false\nfetch-retries=0\nlogs-max=0\n");
    fs::write(&npmrc, text).expect("npmrc");
    let mut command = world.github("release", "npm", &["publish", "--provenance", "--access", "public"]);
    command
        .env("PATH", path_with(&[tool("npm-11"), tool("node-24")]))
        .env("npm_config_userconfig", &npmrc)
        .env("HTTPS_PROXY", format!("http://127.0.0.1:{}", sigstore.port))
        .env("NO_PROXY", "127.0.0.1")
        .env("NODE_EXTRA_CA_CERTS", &sigstore.ca)
        .env("GITHUB_SERVER_URL", world.base())
        .env("GITHUB_WORKFLOW_REF", "acme/core/.github/workflows/release.yml@refs/heads/main")
        .env("GITHUB_REPOSITORY_OWNER_ID", "1001")
        .env("GITHUB_RUN_ATTEMPT", "1")
        .env("RUNNER_ENVIRONMENT", "github-hosted")
        .current_dir(world.path("work").join(name));
    let screen = world.run(command);
    fs::remove_file(npmrc).expect("remove");
    screen
}

/// Returns the predicate of what the registry says that it verified.
fn verification_summary(world: &World) -> Value {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let token = world.npm_token("release", "@acme/plain", "install");
    let path = "/repository/npm-hosted/-/protected-registry/v1/attestations/@acme%2fplain@1.0.0";
    let (status, body) = world.request("GET", path, Some(&token), &[], b"");
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let all: Value = serde_json::from_slice(&body).expect("JSON");
    let all = all["attestations"].as_array().expect("attestations");
    let is_summary = |it: &&Value| it["predicateType"] == "https://slsa.dev/verification_summary/v1";
    let summary = all.iter().find(is_summary).expect("a summary");
    let payload = summary["bundle"]["dsseEnvelope"]["payload"].as_str().expect("payload");
    let statement: Value = serde_json::from_slice(&STANDARD.decode(payload).expect("base64")).expect("JSON");
    statement["predicate"].clone()
}

#[test]
fn npm_verifies_the_provenance_that_npm_published() {
    let world = World::new();
    let root = trust_own_root(&world);
    let sigstore = Sigstore::start(&world, &root);
    publish_with_provenance(&world, &sigstore, "1.0.0").succeeded();
    publish_with_provenance(&world, &sigstore, "1.0.1").succeeded();
    let dist = packument(&world)["versions"]["1.0.0"]["dist"].clone();
    assert_eq!(
        dist["attestations"]["provenance"]["predicateType"], "https://slsa.dev/provenance/v1",
        "{dist}"
    );
    let summary = verification_summary(&world);
    assert_eq!(summary["verifiedLevels"], json!(["SLSA_BUILD_LEVEL_2"]), "{summary}");
    let project = Project::new(&world);
    project.install().succeeded();
    let screen = project.audit(&sigstore);
    screen.succeeded();
    for line in ["1 package has a verified registry signature", "1 package has a verified attestation"] {
        assert!(screen.stdout.contains(line), "{screen}");
    }

    // The attestation of another version in its place: about something else.
    let token = world.npm_token("release", "@acme/plain", "install");
    let path = "/repository/npm-hosted/-/npm/v1/attestations/@acme%2fplain@1.0.1";
    let (status, other) = world.request("GET", path, Some(&token), &[], b"");
    assert_eq!(status, 200);
    let other: Value = serde_json::from_slice(&other).expect("JSON");
    change_json(&world, "/-/npm/v1/attestations/", move |answer| *answer = other.clone());
    project.audit(&sigstore).failed(1, &["EATTESTATIONSUBJECT"]);
    // One byte of its signature.
    change_json(&world, "/-/npm/v1/attestations/", |answer| {
        let sig = &mut answer["attestations"][0]["bundle"]["dsseEnvelope"]["signatures"][0]["sig"];
        let text = sig.as_str().expect("sig").to_owned();
        let other = if &text[40..41] == "A" { "B" } else { "A" };
        *sig = format!("{}{other}{}", &text[..40], &text[41..]).into();
    });
    let screen = project.audit(&sigstore);
    assert_eq!(screen.code, 1, "{screen}");
    assert!(screen.stdout.contains("1 package has an invalid attestation"), "{screen}");
    // The log's word is missing.
    change_json(&world, "/-/npm/v1/attestations/", |answer| {
        answer["attestations"][0]["bundle"]["verificationMaterial"]["tlogEntries"] = json!([]);
    });
    let screen = project.audit(&sigstore);
    assert_eq!(screen.code, 1, "{screen}");
    // Had the registry served what npm does not trust, npm would say tampering.
    change_json(&world, "nothing has this in it", |_| {});
    drop(sigstore);
    let stranger = Sigstore::start(&world, &nobody(&world));
    let _ = fs::remove_dir_all(world.path("home/.npm/_tuf/tuf-repo-cdn.sigstore.dev/targets"));
    for stale in ["timestamp.json", "snapshot.json", "targets.json"] {
        let _ = fs::remove_file(world.path(&format!("home/.npm/_tuf/tuf-repo-cdn.sigstore.dev/{stale}")));
    }
    let screen = project.audit(&stranger);
    assert_eq!(screen.code, 1, "{screen}");
    assert!(screen.stdout.contains("1 package has an invalid attestation"), "{screen}");
}
