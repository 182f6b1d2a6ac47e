//! The main job on one machine: `cargo xtask demo`.
//!
//! Builds both binaries, starts the embedded default, publishes a TypeScript sample and a real package taken
//! from the npm registry, installs both with stock npm, runs them, verifies what was signed, delivers the sample to a
//! customer, and shows what was recorded.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::{
    failure::{Failure, Result},
    local::{self, Local},
    process::{run, run_quietly},
    workspace::Workspace,
};

/// The real package: several files, CommonJS, a program of its own, no dependencies.
const REAL_PACKAGE: (&str, &str) = ("semver", "7.7.2");

const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
data = "data"

[[tenant]]
id = "acme"

[[project]]
tenant = "acme"
slug = "example"

[[repository]]
name = "npm-hosted"
tenant = "acme"
scopes = ["@acme"]
packages = ["semver"]

[[package]]
name = "@acme/greeter"
project = "example"
repository = "npm-hosted"
artifact_policy = ["hardened"]
install = ["release"]
publish = ["release"]

[[package]]
name = "semver"
project = "example"
repository = "npm-hosted"
artifact_policy = ["hardened"]
install = ["release"]
publish = ["release"]

[[issuer]]
url = "local:github-actions"
platform = "github-actions"

# Only this workflow of this repository, by ids that do not change when something is renamed.
[[trusted_publisher]]
id = "release"
tenant_id = "acme"
project_slug = "example"
packages = ["@acme/greeter", "semver"]
actions = ["install", "publish"]
issuer = "local:github-actions"

[trusted_publisher.github]
repository_owner_id = "1001"
repository_id = "2002"
repository = "acme/greeter"
workflow = "release.yml"
ref_pattern = "refs/heads/main"

# Two runs of a CI platform, imitated on this machine: the release, and one of another workflow on another branch.
[local_issuer]
enabled = true

[[local_issuer.run]]
name = "release"
platform = "github-actions"
claims = { sub = "repo:acme/greeter:ref:refs/heads/main", repository = "acme/greeter", repository_id = "2002", repository_owner = "acme", repository_owner_id = "1001", workflow_ref = "acme/greeter/.github/workflows/release.yml@refs/heads/main", job_workflow_ref = "acme/greeter/.github/workflows/release.yml@refs/heads/main", ref = "refs/heads/main", ref_type = "branch", event_name = "push", sha = "0123456789abcdef0123456789abcdef01234567", run_id = "77", run_attempt = "1", runner_environment = "github-hosted" }

[[local_issuer.run]]
name = "preview"
platform = "github-actions"
claims = { sub = "repo:acme/greeter:ref:refs/heads/feature", repository = "acme/greeter", repository_id = "2002", repository_owner = "acme", repository_owner_id = "1001", workflow_ref = "acme/greeter/.github/workflows/release.yaml@refs/heads/feature", job_workflow_ref = "acme/greeter/.github/workflows/release.yaml@refs/heads/feature", ref = "refs/heads/feature", ref_type = "branch", event_name = "push", sha = "0123456789abcdef0123456789abcdef01234567", run_id = "77", run_attempt = "1", runner_environment = "github-hosted" }
"#;

/// Packs the tarball of the folder again, with a line more in its README.
const TAMPER: &str =
    "tar -xzf *.tgz && echo changed >> package/README.md && tar -czf *.tgz package && rm -r package";

pub(crate) fn run_command(workspace: &Workspace, _: &[String]) -> Result<()> {
    title("Building");
    run(workspace.cargo().args(["build", "--package", "protected-cli", "--bins"]))?;
    title("Starting the embedded FractalOps and its npm registry on a free port");
    let demo = Demo(Local::start(workspace.target.join("demo"), &workspace.target.join("debug"), CONFIG)?);
    let folder = &demo.0.folder;

    title("Publishing a TypeScript sample: @acme/greeter");
    let sample = folder.join("greeter");
    copy(&workspace.root.join("tests/fixtures/greeter"), &sample)?;
    demo.ci("release", &sample, &["publish"])?;

    let (name, version) = REAL_PACKAGE;
    title(&format!("Publishing a real package from the npm registry: {name}@{version}"));
    let real = local::fetch(folder, name, version)?;
    demo.ci("release", &real, &["publish"])?;

    title("Another workflow on another branch is refused, and told why");
    if demo.ci("preview", &sample, &["publish"]).is_ok() {
        return Err(Failure::new("this publish should have been refused"));
    }

    title("Installing both with stock npm in an empty folder");
    let app = folder.join("app");
    local::make(&app)?;
    demo.ci("release", &app, &["install", "@acme/greeter", "--with", "npm"])?;
    demo.ci("release", &app, &["install", name, "--with", "npm"])?;

    title("Running them");
    let script = "import { greet, Tone } from '@acme/greeter'; import semver from 'semver'; console.log(greet('Ada', Tone.Formal), semver.satisfies('1.2.3', '^1.0.0'));";
    demo.show(Command::new("node").args(["--input-type=module", "--eval", script]).current_dir(&app))?;
    demo.show(Command::new("node_modules/.bin/greet").arg("Grace").current_dir(&app))?;

    title("What a customer can read of the sample");
    let file = app.join("node_modules/@acme/greeter/src/index.js");
    println!("{}", local::read(&file)?.trim_end());

    title("Verifying the sample: who signed what, where it is logged, and whether it is about this tarball");
    let kept = folder.join("kept");
    let root = format!("{}/sigstore/trusted_root.json", demo.0.base);
    let issuer = format!("{}/local-issuer/github-actions", demo.0.base);
    let workflow = format!("{}/acme/greeter/.github/workflows/release.yml@refs/heads/main", demo.0.base);
    let policy = ["--trusted-root", &root, "--issuer", &issuer, "--identity", &workflow];
    let version = ["verify", "@acme/greeter@1.0.0", "--download", "../kept"];
    demo.ci("release", &app, &[&version[..], &policy].concat())?;

    title("The same with one file of the package changed");
    run_quietly(Command::new("sh").current_dir(&kept).args(["-c", TAMPER]))?;
    if demo.ci("release", &app, &[&["verify", "../kept"][..], &policy].concat()).is_ok() {
        return Err(Failure::new("this package should have been refused"));
    }

    demo.deliver(&sample)?;

    title("Evidence on record");
    for item in demo.0.operator("/v1/evidence?limit=50")? {
        let purl = item["subject"]["purl"].as_str().unwrap_or_default();
        println!("  {:<20} {purl:<30} sha256 {}", text(&item["type"]), text(&item["sha256"]));
    }

    title("Audit trail");
    for event in demo.0.operator("/v1/audit/events?limit=100")? {
        let package = event["target"]["package_name"].as_str().unwrap_or("");
        let version = event["target"]["version"].as_str().map_or_else(String::new, |v| format!("@{v}"));
        let (time, decision) = (text(&event["ts"]), text(&event["decision"]));
        let code = event["code"].as_str().map_or_else(String::new, |code| format!(" ({code})"));
        println!("  {time}  {:<22} {decision:<6} {package}{version}{code}", text(&event["action"]));
    }

    title("What next");
    println!("  The whole world of this demo is in {}: look at", folder.display());
    println!("    greeter/protected-build/   the build: artifact, evidence, and the private source maps");
    println!("    fractalops.toml            who may publish what");
    println!("  Serve it again:   {} serve --config fractalops.toml", demo.0.server_path.display());
    println!("  In your CI:       README.md has a workflow to paste");
    println!("  In production:    point FRACTALOPS_BASE_URL at your FractalOps; nothing else changes");
    Ok(())
}

/// The world of the demo.
struct Demo(Local);

impl Demo {
    /// Runs the CLI as a CI job does: with a fresh ID token in a private file, and no other credential.
    fn ci(&self, job: &str, folder: &Path, arguments: &[&str]) -> Result<()> {
        println!("$ protected-registry {}", arguments.join(" "));
        run(&mut self.0.job(job, folder, arguments)?)
    }

    /// Delivers the sample to one customer, who opens it; another one, with a key of their own, is refused.
    fn deliver(&self, sample: &Path) -> Result<()> {
        let folder = &self.0.folder;
        // Each party has a folder of keys of its own; the vendor and the customer have the same key, for it is a trial.
        for (party, digit) in [("vendor", "1"), ("globex", "1"), ("initech", "2")] {
            let keys = folder.join("keys").join(party);
            local::make(&keys)?;
            local::write_private(&keys.join("globex.key"), &digit.repeat(64))?;
        }
        let keys = |party: &str| folder.join("keys").join(party);
        title("Delivering the sample to one customer, sealed");
        let arguments = [
            "deliver",
            "--artifact",
            "protected-build/acme-greeter-1.0.0",
            "--customer",
            "globex",
            "--key-ref",
            "local-file://globex",
            "--out",
            "../delivery",
        ];
        println!("$ protected-registry {}", arguments.join(" "));
        let mut command = self.0.job("release", sample, &arguments)?;
        // A key in a file is refused in CI, unless it is asked for: a delivery that counts has a key service.
        command.env("PROTECTED_REGISTRY_ALLOW_LOCAL_KEY", "true");
        run(command.env("PROTECTED_REGISTRY_KEY_FOLDER", keys("vendor")))?;

        title("The customer opens it, with their key and nothing else");
        let open = |party: &str| {
            let arguments = ["open-bundle", "delivery", "--out", &format!("opened-by-{party}")];
            println!("$ protected-registry {}", arguments.join(" "));
            let mut command = self.0.customer(folder, &arguments);
            run(command.env("PROTECTED_REGISTRY_KEY_FOLDER", keys(party)))
        };
        open("globex")?;

        title("Another customer, with a key of the same name, is refused");
        if open("initech").is_ok() {
            return Err(Failure::new("this delivery should not have been opened"));
        }
        Ok(())
    }

    fn show(&self, command: &mut Command) -> Result<()> {
        print!("{}", run_quietly(command)?);
        Ok(())
    }
}

fn title(text: &str) {
    println!("\n== {text}");
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    local::make(to)?;
    let entries = fs::read_dir(from)
        .map_err(|error| Failure::new(format!("cannot read `{}`: {error}", from.display())))?;
    for entry in entries.flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)
                .map_err(|error| Failure::new(format!("cannot copy to `{}`: {error}", target.display())))?;
        }
    }
    Ok(())
}
