//! `cargo xtask bench publish [startup] [packages] [registry]`: publishing beside npm and verdaccio.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{machine, median, ms};
use crate::{
    failure::{Failure, Result},
    local::{self, Local},
    process::{find, run, run_quietly},
    tools::{self, Purpose},
    workspace::Workspace,
};

/// Runs of each pair. The two take turns, so that a busy moment of the machine hits both.
const PAIRS: usize = 15;
/// The real package that is published whole: about 1.4 MB in about a thousand files.
const WHOLE: (&str, &str) = ("lodash", "4.17.21");
/// The load of each registry measurement.
const WRK: &[&str] = &["-t1", "-c16", "-d5s"];
const SEED: &str = include_str!("seed.mjs");

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
scopes = ["@bench"]

[[issuer]]
url = "local:github-actions"
platform = "github-actions"

[[trusted_publisher]]
id = "release"
tenant_id = "acme"
project_slug = "example"
packages = ["@bench/ours", "@bench/npm", "@bench/whole-ours", "@bench/whole-npm", "@bench/one", "@bench/many", "@bench/big"]
actions = ["install", "publish"]
issuer = "local:github-actions"

[trusted_publisher.github]
repository_owner_id = "1001"
repository_id = "2002"
workflow = "release.yml"
ref_pattern = "refs/heads/main"

[local_issuer]
enabled = true

[[local_issuer.run]]
name = "release"
platform = "github-actions"
claims = { sub = "repo:acme/bench:ref:refs/heads/main", repository = "acme/bench", repository_id = "2002", repository_owner = "acme", repository_owner_id = "1001", workflow_ref = "acme/bench/.github/workflows/release.yml@refs/heads/main", job_workflow_ref = "acme/bench/.github/workflows/release.yml@refs/heads/main", ref = "refs/heads/main", ref_type = "branch", event_name = "push", sha = "0123456789abcdef0123456789abcdef01234567", run_id = "77", run_attempt = "1", runner_environment = "github-hosted" }
"#;

const PACKAGES: &[(&str, &str)] = &[
    ("@bench/ours", "[]"),
    ("@bench/npm", "[]"),
    ("@bench/whole-ours", "[\"hardened\"]"),
    ("@bench/whole-npm", "[]"),
    ("@bench/one", "[]"),
    ("@bench/many", "[]"),
    ("@bench/big", "[]"),
];

const VERDACCIO: &str = "\
storage: ./storage
auth: { htpasswd: { file: ./htpasswd, max_users: -1 } }
uplinks: {}
packages: { '**': { access: $all, publish: $all, unpublish: $all } }
max_body_size: 100mb
log: { type: stdout, format: pretty, level: error }
";

pub(crate) fn run_command(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    tools::install(workspace, Purpose::Benchmarks)?;
    run(workspace.cargo().args(["build", "--release", "--package", "protected-cli", "--bins"]))?;
    let mut config = CONFIG.to_owned();
    for (name, policy) in PACKAGES {
        config.push_str(&format!(
            "\n[[package]]\nname = \"{name}\"\nproject = \"example\"\nrepository = \"npm-hosted\"\nartifact_policy = {policy}\ninstall = [\"release\"]\npublish = [\"release\"]\n"
        ));
    }
    let binaries = workspace.target.join("release");
    let bench = Bench {
        npm: workspace.tools().join("npm-11/bin/npm"),
        verdaccio: workspace.tools().join("verdaccio/bin/verdaccio"),
        local: Local::start(workspace.target.join("bench"), &binaries, &config)?,
        cli: binaries.join("protected-registry"),
    };
    println!("\nOn {}", machine());
    let wanted = |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    if wanted("startup") {
        bench.startup()?;
    }
    if wanted("packages") {
        bench.publish_tarball()?;
        bench.publish_whole()?;
    }
    if wanted("registry") {
        bench.registry()?;
    }
    Ok(())
}

struct Bench {
    npm: PathBuf,
    verdaccio: PathBuf,
    local: Local,
    cli: PathBuf,
}

impl Bench {
    fn startup(&self) -> Result<()> {
        let mut times = Vec::new();
        for _ in 0..50 {
            times.push(timed(Command::new(&self.cli).arg("--version"))?);
        }
        println!("\nprotected-registry --version: {} (median of {})", ms(median(&mut times)), times.len());
        Ok(())
    }

    /// One tarball, published by `npm publish` and by ours; ours asks for its identity and its token as well.
    fn publish_tarball(&self) -> Result<()> {
        let folder = self.local.folder.join("tarballs");
        local::make(&folder)?;
        let (mut ours, mut npm) = (Vec::new(), Vec::new());
        for patch in 0..PAIRS {
            let version = format!("1.0.{patch}");
            let tarball = self.pack(&folder, "@bench/ours", &version)?;
            let mut command =
                self.local.github_job("release", &folder, &["publish", "--tarball", &tarball])?;
            ours.push(timed(&mut command)?);
            let tarball = self.pack(&folder, "@bench/npm", &version)?;
            npm.push(self.npm_publish("@bench/npm", &folder, &[&tarball])?);
        }
        report("publish a tarball of 100 kB", &mut ours, "npm publish", &mut npm, 0.3);
        Ok(())
    }

    /// A package folder: ours hardens it, packs it, and records the build; npm packs it.
    fn publish_whole(&self) -> Result<()> {
        let folder = self.local.folder.join("whole");
        local::make(&folder)?;
        let source = local::fetch(&folder, WHOLE.0, WHOLE.1)?;
        let bytes = size(&source);
        let (mut ours, mut unsigned, mut npm) = (Vec::new(), Vec::new(), Vec::new());
        let out = folder.join("build").to_string_lossy().into_owned();
        for patch in 0..PAIRS {
            rename(&source, "@bench/whole-ours", 2 * patch)?;
            let arguments = ["publish", "--out", &out];
            ours.push(timed(&mut self.local.github_job("release", &source, &arguments)?)?);
            rename(&source, "@bench/whole-ours", 2 * patch + 1)?;
            let arguments = ["publish", "--out", &out, "--sign", "off"];
            unsigned.push(timed(&mut self.local.github_job("release", &source, &arguments)?)?);
            rename(&source, "@bench/whole-npm", patch)?;
            npm.push(self.npm_publish("@bench/whole-npm", &source, &[])?);
        }
        let mut adds: Vec<f64> = ours
            .iter()
            .zip(&unsigned)
            .map(|(signed, unsigned)| (signed.as_secs_f64() - unsigned.as_secs_f64()) * 1000.0)
            .collect();
        adds.sort_by(f64::total_cmp);
        let what = format!(
            "protected publish of {}@{} ({:.1} MB): exchange, harden, sign, record, upload, attach, revoke",
            WHOLE.0,
            WHOLE.1,
            bytes as f64 / 1e6
        );
        report(&what, &mut ours, "npm publish of the same folder", &mut npm, 1.0);
        println!(
            "  signing adds {:.0} ms to {} (median of {} pairs, each with --sign off beside it)",
            adds[adds.len() / 2],
            ms(median(&mut unsigned)),
            adds.len()
        );
        Ok(())
    }

    fn npm_publish(&self, package: &str, folder: &Path, arguments: &[&str]) -> Result<Duration> {
        let npmrc = self.token(package, "publish")?;
        let userconfig = format!("--userconfig={}", npmrc.display());
        let mut command = Command::new(&self.npm);
        command
            .arg("publish")
            .args(arguments)
            .arg(userconfig)
            .args(["--ignore-scripts", "--no-update-notifier"]);
        command.current_dir(folder);
        timed(&mut command)
    }

    /// Has a token minted, outside of what is timed, and returns the `.npmrc` that holds it.
    fn token(&self, package: &str, action: &str) -> Result<PathBuf> {
        let npmrc = self.local.folder.join("npmrc");
        let _ = fs::remove_file(&npmrc);
        let file = npmrc.to_string_lossy().into_owned();
        let arguments = ["token", package, "--action", action, "--npmrc", &file];
        run_quietly(&mut self.local.job("release", &self.local.folder, &arguments)?)?;
        Ok(npmrc)
    }

    fn pack(&self, folder: &Path, name: &str, version: &str) -> Result<String> {
        let package = folder.join("package");
        local::make(&package)?;
        let manifest = format!("{{\"name\": \"{name}\", \"version\": \"{version}\", \"license\": \"MIT\"}}");
        local::write(&package.join("package.json"), &manifest)?;
        // Text that does not shrink to nothing.
        let noise: String =
            (0..100_000_u64).map(|n| char::from(33 + (n * n * 7919 % 9973 % 90) as u8)).collect();
        local::write(&package.join("data.txt"), &noise)?;
        run_quietly(Command::new("tar").args(["czf", "package.tgz", "package"]).current_dir(folder))?;
        Ok("package.tgz".to_owned())
    }

    /// Requests a second of both registries, the same documents and the same load.
    fn registry(&self) -> Result<()> {
        let wrk = find("wrk")
            .ok_or_else(|| Failure::new("wrk is not installed").hint("run `cargo xtask tools`"))?;
        let folder = self.local.folder.join("registry");
        local::make(&folder)?;
        let seed = folder.join("seed.mjs");
        local::write(&seed, SEED)?;
        let peer = Verdaccio::start(&self.verdaccio, &folder)?;
        let ours = format!("{}/repository/npm-hosted/", self.local.base);
        let documents =
            [("@bench/one", "1", "2000"), ("@bench/many", "200", "2000"), ("@bench/big", "1", "200000")];
        let no_token = folder.join("no-token");
        local::write(&no_token, "")?;
        for (name, versions, bytes) in documents {
            let publish = bare_token(&self.token(name, "publish")?, &folder.join("publish-token"))?;
            for (registry, token) in [(&ours, &publish), (&peer.base, &no_token)] {
                run_quietly(
                    Command::new("node").arg(&seed).arg(registry).arg(token).args([name, versions, bytes]),
                )?;
            }
        }
        let corgi = "application/vnd.npm.install-v1+json";
        let rows = [
            ("packument, 1 version, abbreviated", "@bench/one", "", corgi),
            ("packument, 200 versions, abbreviated", "@bench/many", "", corgi),
            ("packument, 200 versions, full", "@bench/many", "", "application/json"),
            ("tarball, 2 kB", "@bench/one", "/-/one-1.0.0.tgz", "*/*"),
            ("tarball, 100 kB", "@bench/big", "/-/big-1.0.0.tgz", "*/*"),
        ];
        println!("\nregistry, wrk {}", WRK.join(" "));
        println!("  {:<40} {:>12} {:>12} {:>8}", "requests a second", "ours", "verdaccio", "ratio");
        for (what, name, rest, accept) in rows {
            let token =
                local::read(&bare_token(&self.token(name, "install")?, &folder.join("install-token"))?)?;
            let path = format!("{}{rest}", name.replace('/', if rest.is_empty() { "%2f" } else { "/" }));
            let mine = load(&wrk, &folder, &format!("{ours}{path}"), accept, Some(&token))?;
            let theirs = load(&wrk, &folder, &format!("{}{path}", peer.base), accept, None)?;
            println!("  {what:<40} {mine:>12.0} {theirs:>12.0} {:>7.1}x", mine / theirs);
        }
        let memory = |bytes: Option<u64>| {
            bytes.map_or_else(|| "unknown".to_owned(), |b| format!("{} MB", b / 1_000_000))
        };
        println!(
            "  {:<40} {:>12} {:>12}",
            "resident memory afterwards",
            memory(self.local.resident_bytes()),
            memory(local::resident_bytes(peer.process.id()))
        );
        Ok(())
    }
}

/// The peer registry, running until this is dropped.
struct Verdaccio {
    base: String,
    process: Child,
}

impl Verdaccio {
    fn start(program: &Path, folder: &Path) -> Result<Self> {
        local::write(&folder.join("verdaccio.yaml"), VERDACCIO)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .map_err(|error| Failure::new(format!("no free port: {error}")))?
            .port();
        let process = Command::new(program)
            .args(["--config", "verdaccio.yaml", "--listen", &format!("127.0.0.1:{port}")])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| Failure::new(format!("cannot start verdaccio: {error}")))?;
        let peer = Self { base: format!("http://127.0.0.1:{port}/"), process };
        let since = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if since.elapsed() > Duration::from_secs(60) {
                return Err(Failure::new("verdaccio does not get ready"));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(peer)
    }
}

impl Drop for Verdaccio {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs wrk and returns requests a second. The token reaches wrk in a private script, not in its arguments.
fn load(wrk: &Path, folder: &Path, url: &str, accept: &str, token: Option<&str>) -> Result<f64> {
    let script = folder.join("wrk.lua");
    let bearer = token.map_or_else(String::new, |token| {
        format!("wrk.headers[\"Authorization\"] = \"Bearer {}\"\n", token.trim())
    });
    let text = format!(
        "wrk.headers[\"Accept\"] = \"{accept}\"\nwrk.headers[\"Accept-Encoding\"] = \"gzip\"\n{bearer}"
    );
    local::write_private(&script, &text)?;
    let output = run_quietly(Command::new(wrk).args(WRK).arg("-s").arg(&script).arg(url));
    let _ = fs::remove_file(&script);
    let output = output?;
    if let Some(line) = output.lines().find(|line| line.contains("Non-2xx")) {
        return Err(Failure::new(format!("{url}: {}", line.trim())));
    }
    let figure = output.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    figure
        .and_then(|figure| figure.trim().parse().ok())
        .ok_or_else(|| Failure::new(format!("wrk gave no figure:\n{output}")))
}

/// Takes the token out of an `.npmrc` into a private file of its own.
fn bare_token(npmrc: &Path, file: &Path) -> Result<PathBuf> {
    let text = local::read(npmrc)?;
    let token = text.lines().find_map(|line| Some(line.split_once(":_authToken=")?.1));
    local::write_private(file, token.unwrap_or_default().trim())?;
    Ok(file.to_owned())
}

/// Gives the package in `folder` another name and version.
fn rename(folder: &Path, name: &str, patch: usize) -> Result<()> {
    let file = folder.join("package.json");
    let mut manifest: serde_json::Value = serde_json::from_str(&local::read(&file)?)
        .map_err(|error| Failure::new(format!("`{}`: {error}", file.display())))?;
    manifest["name"] = name.into();
    manifest["version"] = format!("9.0.{patch}").into();
    local::write(&file, &manifest.to_string())
}

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

fn timed(command: &mut Command) -> Result<Duration> {
    let started = Instant::now();
    run_quietly(command)?;
    Ok(started.elapsed())
}

fn report(what: &str, ours: &mut [Duration], peer: &str, theirs: &mut [Duration], bound: f64) {
    let (mine, other) = (median(ours), median(theirs));
    let ratio = mine.as_secs_f64() / other.as_secs_f64();
    println!("\n{what}");
    println!(
        "  ours {} ({} to {}), {peer} {} ({} to {}), medians of {}",
        ms(mine),
        ms(ours[0]),
        ms(ours[ours.len() - 1]),
        ms(other),
        ms(theirs[0]),
        ms(theirs[theirs.len() - 1]),
        ours.len()
    );
    println!(
        "  ratio {ratio:.2}, wanted at most {bound:.1}: {}",
        if ratio <= bound { "met" } else { "MISSED" }
    );
}
