//! A world for one test: a server with its data, a proxy in front of it, folders, and the real binaries.
//!
//! However a test ends, the world then looks for secrets: no token that ever crossed the wire may stand in
//! any output, in any file, or in what a child process was given.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::proxy::Proxy;

pub(crate) const CLI: &str = env!("CARGO_BIN_EXE_protected-registry");
pub(crate) const SERVER: &str = env!("CARGO_BIN_EXE_fractalops-local");

/// What a command left on the screen.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Screen {
    #[track_caller]
    pub(crate) fn succeeded(&self) -> &Self {
        assert_eq!(self.code, 0, "{self}");
        self
    }

    #[track_caller]
    pub(crate) fn failed(&self, code: i32, messages: &[&str]) -> &Self {
        assert_eq!(self.code, code, "{self}");
        for message in messages {
            assert!(self.stderr.contains(message), "the screen should say `{message}`\n{self}");
        }
        self
    }
}

impl std::fmt::Display for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// Which packages there are, and what each must be.
pub(crate) struct Setup {
    pub(crate) packages: Vec<(&'static str, &'static str)>,
    /// TOML that is added at the end.
    pub(crate) more: String,
    /// TOML members of `[limits]`.
    pub(crate) limits: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            packages: vec![("@acme/core", "[\"hardened\"]"), ("@acme/plain", "[]"), ("@acme/core2", "[]")],
            more: String::new(),
            limits: "",
        }
    }
}

pub(crate) struct World {
    folder: TempDir,
    pub(crate) proxy: Proxy,
    server: Mutex<Option<Child>>,
    screens: Mutex<Vec<Screen>>,
    /// What else is secret here.
    guarded: Mutex<BTreeSet<String>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Setup::default())
    }

    pub(crate) fn with(setup: Setup) -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        let proxy = Proxy::start();
        for name in ["home", "tmp", "work", "server"] {
            fs::create_dir(folder.path().join(name)).expect("folder");
        }
        fs::write(folder.path().join("server/config.toml"), config(&proxy.address, &setup)).expect("config");
        let world = Self {
            folder,
            proxy,
            server: Mutex::default(),
            screens: Mutex::default(),
            guarded: Mutex::default(),
        };
        world.start();
        world
    }

    /// Starts the server and waits until it answers.
    pub(crate) fn start(&self) {
        let ready = self.path("server/ready");
        let _ = fs::remove_file(&ready);
        let log = fs::File::options().create(true).append(true).open(self.path("server/log")).expect("log");
        let mut child = Command::new(SERVER)
            .args(["serve", "--config"])
            .arg(self.path("server/config.toml"))
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let since = Instant::now();
        while !ready.exists() {
            if let Some(status) = child.try_wait().expect("wait") {
                panic!("the server ended with {status}:\n{}", self.server_log());
            }
            assert!(since.elapsed() < Duration::from_secs(30), "the server does not get ready");
            thread::sleep(Duration::from_millis(5));
        }
        let log = self.server_log();
        let address = log
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("fractalops-local serves ")?.split(" on ").nth(1));
        let address: SocketAddr = address.and_then(|text| text.trim().parse().ok()).expect("an address");
        self.proxy.forward_to(address);
        *self.server.lock().expect("lock") = Some(child);
    }

    /// Kills the server, as SIGKILL does.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.server.lock().expect("lock").take() {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }

    pub(crate) fn server_log(&self) -> String {
        fs::read_to_string(self.path("server/log")).unwrap_or_default()
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.proxy.address)
    }

    /// Returns the issuer of this world's jobs on GitHub, and its keys (RFC 7517).
    pub(crate) fn issuer(&self) -> (String, serde_json::Value) {
        let (status, keys) = self.request("GET", "/local-issuer/github-actions/jwks", None, &[], b"");
        assert_eq!(status, 200);
        let keys = serde_json::from_slice(&keys).expect("JSON");
        (format!("{}/local-issuer/github-actions", self.base()), keys)
    }

    pub(crate) fn registry(&self) -> String {
        format!("{}/repository/npm-hosted/", self.base())
    }

    /// Writes a file below `work`.
    pub(crate) fn write(&self, relative: &str, content: &str) -> PathBuf {
        let path = self.path("work").join(relative);
        fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        fs::write(&path, content).expect("write");
        path
    }

    /// Makes a small TypeScript package below `work`.
    pub(crate) fn package(&self, name: &str, version: &str) -> PathBuf {
        let folder = format!("{}-{version}", name.replace('/', "-").replace('@', ""));
        self.write(
            &format!("{folder}/package.json"),
            &format!(
                "{{\"name\": \"{name}\", \"version\": \"{version}\", \"main\": \"src/index.ts\", \"license\": \"MIT\"}}"
            ),
        );
        self.write(
            &format!("{folder}/src/index.ts"),
            "/** Adds what the customer must not read. */\nexport function addSecretly(left: number, right: number): number {\n  const hiddenFactor = 41;\n  return left + right + hiddenFactor;\n}\n",
        );
        self.path("work").join(folder)
    }

    /// Returns a command in the environment of a GitHub Actions job, and nothing else of this process'.
    pub(crate) fn github(&self, run: &str, program: &str, args: &[&str]) -> Command {
        let mut command = self.bare(program, args);
        let token = self.request_token(run);
        command
            .env("GITHUB_ACTIONS", "true")
            .env("CI", "true")
            .env("GITHUB_REPOSITORY", "acme/core")
            .env("GITHUB_REPOSITORY_ID", "2002")
            .env("GITHUB_REF", "refs/heads/main")
            .env("GITHUB_SHA", "0123456789abcdef0123456789abcdef01234567")
            .env("GITHUB_EVENT_NAME", "push")
            .env("GITHUB_RUN_ID", "77")
            .env("GITHUB_SERVER_URL", "https://github.example")
            .env("GITHUB_OUTPUT", self.path("tmp/output"))
            .env("GITHUB_STEP_SUMMARY", self.path("tmp/summary"))
            .env("RUNNER_TEMP", self.path("tmp"))
            .env(
                "ACTIONS_ID_TOKEN_REQUEST_URL",
                format!("{}/local-issuer/github-actions/token/{run}?api-version=2.0", self.base()),
            )
            .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", token);
        command
    }

    /// Returns a command that knows where FractalOps is, and has no identity.
    pub(crate) fn bare(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .env_clear()
            .env("PATH", path_variable())
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("FRACTALOPS_BASE_URL", self.base())
            .env("PROTECTED_REGISTRY_PROJECT", "example")
            .current_dir(self.path("work"))
            .stdin(Stdio::null());
        command
    }

    /// Runs the CLI in the job of run `release`.
    pub(crate) fn cli(&self, args: &[&str]) -> Screen {
        self.run(self.github("release", CLI, args))
    }

    /// Runs the CLI in a folder, in the job of run `release`.
    pub(crate) fn cli_in(&self, folder: &Path, args: &[&str]) -> Screen {
        let mut command = self.github("release", CLI, args);
        command.current_dir(folder);
        self.run(command)
    }

    pub(crate) fn run(&self, mut command: Command) -> Screen {
        let output = command.output().expect("the program starts");
        let screen = Screen {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        self.screens.lock().expect("lock").push(screen.clone());
        screen
    }

    /// Keeps what a child printed that was not started by [`Self::run`], to look for secrets in it.
    pub(crate) fn saw(&self, screen: Screen) {
        self.screens.lock().expect("lock").push(screen);
    }

    /// Has the world look for this secret too, when it ends.
    pub(crate) fn guard(&self, secret: &str) {
        self.guarded.lock().expect("lock").insert(secret.to_owned());
    }

    pub(crate) fn request_token(&self, run: &str) -> String {
        let file = self.path(&format!("server/data/local-issuer/{run}.request-token"));
        fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
            .trim()
            .to_owned()
    }

    /// Returns what a step's output says, the last time it was set.
    pub(crate) fn output(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.path("tmp/output")).ok()?;
        let mut found = None;
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some((key, delimiter)) = line.split_once("<<") {
                let value: Vec<&str> = lines.by_ref().take_while(|line| *line != delimiter).collect();
                if key == name {
                    found = Some(value.join("\n"));
                }
            } else if let Some(value) = line.strip_prefix(&format!("{name}=")) {
                found = Some(value.to_owned());
            }
        }
        found
    }

    pub(crate) fn summary(&self) -> String {
        fs::read_to_string(self.path("tmp/summary")).unwrap_or_default()
    }

    /// Asks the server for a document with the operator's token.
    pub(crate) fn operator_get(&self, path: &str) -> serde_json::Value {
        let token = fs::read_to_string(self.path("server/data/admin-token")).expect("admin token");
        let (status, body) = self.request("GET", path, Some(token.trim()), &[], b"");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).expect("JSON")
    }

    /// Returns every audit event.
    pub(crate) fn audit(&self) -> Vec<serde_json::Value> {
        let mut events = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.operator_get(&format!("/v1/audit/events?limit=500{cursor}"));
            events.extend(page["items"].as_array().expect("items").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return events,
            }
        }
    }

    /// Counts the events of one action and decision about one version, or about any when none is named.
    pub(crate) fn count(&self, action: &str, decision: &str, version: Option<&str>) -> usize {
        let events = self.audit();
        events
            .iter()
            .filter(|event| event["action"] == action && event["decision"] == decision)
            .filter(|event| version.is_none_or(|version| event["target"]["version"] == version))
            .count()
    }

    /// Sends one request and returns status and body.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        bearer: Option<&str>,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (u16, Vec<u8>) {
        let (status, _, body) = crate::raw::request(self.proxy.address, method, path, bearer, headers, body);
        (status, body)
    }

    /// Obtains an ID token of a run for FractalOps from the local issuer.
    pub(crate) fn id_token(&self, run: &str, platform: &str) -> String {
        self.id_token_for(&self.base(), run, platform)
    }

    /// Obtains an ID token of a run for an audience from the local issuer.
    pub(crate) fn id_token_for(&self, audience: &str, run: &str, platform: &str) -> String {
        let audience = audience.replace(':', "%3A").replace('/', "%2F");
        let path = format!("/local-issuer/{platform}/token/{run}?api-version=2.0&audience={audience}");
        let (status, body) = self.request("GET", &path, Some(&self.request_token(run)), &[], b"");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let answer: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        answer["value"].as_str().expect("a token").to_owned()
    }

    /// Exchanges a fresh ID token of `run` and returns the session token.
    pub(crate) fn session(&self, run: &str) -> String {
        let (status, body) = self.exchange(&self.id_token(run, "github-actions"));
        assert_eq!(status, 200, "{body}");
        body["access_token"].as_str().expect("a token").to_owned()
    }

    pub(crate) fn exchange(&self, id_token: &str) -> (u16, serde_json::Value) {
        let form = format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aid_token&subject_token={id_token}"
        );
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("idempotency-key", &unique())];
        let (status, body) = self.request("POST", "/v1/oauth/token", None, &headers, form.as_bytes());
        (status, serde_json::from_slice(&body).expect("JSON"))
    }

    /// Mints an npm token that is bound to no version.
    pub(crate) fn npm_token(&self, run: &str, package: &str, action: &str) -> String {
        let session = self.session(run);
        let (status, body) = self.mint(&session, package, action);
        assert_eq!(status, 201, "{body}");
        body["token"].as_str().expect("a token").to_owned()
    }

    pub(crate) fn mint(&self, session: &str, package: &str, action: &str) -> (u16, serde_json::Value) {
        let request = serde_json::json!({
            "project_slug": "example", "package_name": package, "action_mode": action,
        });
        let headers = [("content-type", "application/json"), ("idempotency-key", &unique())];
        let path = "/v1/packages/registry/tokens/npm";
        let (status, body) =
            self.request("POST", path, Some(session), &headers, request.to_string().as_bytes());
        (status, serde_json::from_slice(&body).expect("JSON"))
    }

    /// Every token that crossed the wire or was given to a job, and what a test guards.
    fn secrets(&self) -> BTreeSet<String> {
        let mut secrets = self.guarded.lock().expect("lock").clone();
        for exchange in self.proxy.exchanges() {
            for bytes in [&exchange.request, &exchange.answer] {
                secrets.extend(crate::raw::tokens(bytes));
            }
        }
        for entry in fs::read_dir(self.path("server/data/local-issuer")).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "request-token") {
                secrets.insert(fs::read_to_string(entry.path()).expect("token").trim().to_owned());
            }
        }
        secrets
    }

    /// Returns where a secret stands that should stand nowhere.
    fn leaks(&self) -> Vec<String> {
        let secrets = self.secrets();
        let mut leaks = Vec::new();
        let mut look = |place: &str, bytes: &[u8], masked: bool| {
            for secret in &secrets {
                if find(bytes, secret.as_bytes(), masked) {
                    leaks.push(format!("{}… in {place}", &secret[..secret.len().min(24)]));
                }
            }
        };
        for screen in self.screens.lock().expect("lock").iter() {
            look("standard output", screen.stdout.as_bytes(), true);
            look("standard error", screen.stderr.as_bytes(), true);
        }
        for path in files(self.folder.path()) {
            let own = path.extension().is_some_and(|extension| extension == "request-token");
            if !own && let Ok(bytes) = fs::read(&path) {
                look(&path.display().to_string(), &bytes, false);
            }
        }
        leaks
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill();
        if !thread::panicking() {
            let leaks = self.leaks();
            assert!(leaks.is_empty(), "secrets were left behind:\n{}", leaks.join("\n"));
        }
    }
}

/// Returns whether `secret` stands in `bytes`. A line that masks it is how the platform learns it: such a line
/// does not count where `masked` is set.
fn find(bytes: &[u8], secret: &[u8], masked: bool) -> bool {
    bytes.split(|byte| *byte == b'\n').any(|line| {
        let mask = masked && line.starts_with(b"::add-mask::");
        !mask && line.len() >= secret.len() && line.windows(secret.len()).any(|window| window == secret)
    })
}

/// The folder of a pinned tool's commands.
pub(crate) fn tool(name: &str) -> PathBuf {
    let target = Path::new(CLI).ancestors().nth(2).expect("target folder");
    let folder = target.join("tools").join(name).join("bin");
    assert!(folder.is_dir(), "{name} is not installed: run `cargo xtask tools`");
    folder
}

pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let kind = entry.file_type().expect("file type");
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found
}

/// A value that no other call returns.
pub(crate) fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst))
}

#[expect(clippy::disallowed_methods, reason = "children need the PATH of this process")]
fn path_variable() -> std::ffi::OsString {
    std::env::var_os("PATH").expect("PATH")
}

/// The claims of a GitHub Actions job of acme/core, less those that a test wants otherwise.
pub(crate) fn github_claims(changes: &[(&str, &str)]) -> String {
    let workflow = "acme/core/.github/workflows/release.yml@refs/heads/main";
    let mut claims = vec![
        ("sub", "repo:acme/core:ref:refs/heads/main"),
        ("repository", "acme/core"),
        ("repository_id", "2002"),
        ("repository_owner", "acme"),
        ("repository_owner_id", "1001"),
        ("workflow_ref", workflow),
        ("job_workflow_ref", workflow),
        ("ref", "refs/heads/main"),
        ("ref_type", "branch"),
        ("ref_protected", "true"),
        ("event_name", "push"),
        ("environment", "release"),
        ("sha", "0123456789abcdef0123456789abcdef01234567"),
        ("run_id", "77"),
        ("run_attempt", "1"),
        ("runner_environment", "github-hosted"),
        ("actor", "octocat"),
    ];
    for (name, value) in changes {
        claims.retain(|(claim, _)| claim != name);
        if !value.is_empty() {
            claims.push((name, value));
        }
    }
    let members: Vec<String> = claims.iter().map(|(name, value)| format!("{name} = \"{value}\"")).collect();
    format!("{{ {} }}", members.join(", "))
}

/// One `[[local_issuer.run]]`.
pub(crate) fn github_run(name: &str, changes: &[(&str, &str)]) -> String {
    let claims = github_claims(changes);
    format!("\n[[local_issuer.run]]\nname = \"{name}\"\nplatform = \"github-actions\"\nclaims = {claims}\n")
}

fn config(address: &SocketAddr, setup: &Setup) -> String {
    let names: Vec<String> = setup.packages.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let names = names.join(", ");
    let packages: String = setup
        .packages
        .iter()
        .map(|(name, policy)| {
            format!(
                "[[package]]\nname = \"{name}\"\nproject = \"example\"\nrepository = \"npm-hosted\"\nartifact_policy = {policy}\ninstall = [\"release\"]\npublish = [\"release\"]\n\n"
            )
        })
        .collect();
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
public_url = "http://{address}"
data = "data"

[limits]
{limits}

[[tenant]]
id = "acme"

[[project]]
tenant = "acme"
slug = "example"

[[repository]]
name = "npm-hosted"
tenant = "acme"
scopes = ["@acme"]

{packages}
[[issuer]]
url = "local:github-actions"
platform = "github-actions"

[[trusted_publisher]]
id = "release"
tenant_id = "acme"
project_slug = "example"
packages = [{names}]
actions = ["install", "publish"]
issuer = "local:github-actions"

[trusted_publisher.github]
repository_owner_id = "1001"
repository_id = "2002"
repository = "acme/core"
workflow = "release.yml"
environment = "release"

[local_issuer]
enabled = true
{run}
{more}
"#,
        limits = setup.limits,
        run = github_run("release", &[]),
        more = setup.more,
    )
}
