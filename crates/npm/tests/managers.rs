//! The package managers, as they are on this machine, against a registry that remembers who asked with what.
//!
//! Each pinned version under `target/tools` is run; one that is not there fails the test, with the command that
//! installs it.

mod peer;

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use peer::{Answer, Asked, Peer};
use protected_model::{
    environment::Environment, secret::RegistryToken, service_url::ServiceUrl, version::DistTag,
};
use protected_npm::{
    manager::{self, Grant, InstallJob, ManagerError, PackageSpec, PublishJob},
    pack::{self, Packed},
    run::{self, Line, RunError},
    temporary::Temporary,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.tokenOfATest.c2lnbmF0dXJl";
const PREFIX: &str = "/repository/npm-hosted";

/// A package manager to test with: its name, what stands first on its `PATH`.
struct Tool {
    name: &'static str,
    label: &'static str,
    path: Vec<PathBuf>,
}

#[expect(clippy::disallowed_methods, reason = "a child needs the PATH and the home of this process")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn tools() -> Vec<Tool> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    let pinned = [
        ("npm", "npm-11"),
        ("pnpm", "pnpm-10"),
        ("pnpm", "pnpm-11"),
        ("yarn", "yarn-1"),
        ("berry", "yarn-4"),
    ];
    let found = pinned.map(|(name, label)| {
        let folder = target.join("tools").join(label).join("bin");
        assert!(folder.is_dir(), "{label} is not installed: run `cargo xtask tools`");
        // pnpm 10 publishes through the npm on its PATH.
        let npm = target.join("tools/npm-11/bin");
        Tool { name, label, path: vec![folder, npm] }
    });
    found.into()
}

/// Everything that one command needs, and everything that it must not get.
struct Job {
    project: TempDir,
    home: TempDir,
    parent: TempDir,
    temporary: Temporary,
    environment: Environment,
    token: RegistryToken,
}

impl Job {
    fn new(tool: &Tool) -> Self {
        let (project, home, parent) = (folder(), folder(), folder());
        let temporary = Temporary::new(parent.path()).expect("temporary");
        let path = tool.path.iter().map(|folder| folder.display().to_string());
        let path: Vec<String> = path.chain(variable("PATH")).collect();
        let environment = [
            ("PATH", path.join(":")),
            ("HOME", home.path().display().to_string()),
            ("CI", "true".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("GITHUB_ACTIONS", "true".to_owned()),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "SECRETENV-request".to_owned()),
            ("ACTIONS_ID_TOKEN_REQUEST_URL", "http://127.0.0.1:1/".to_owned()),
            ("NPM_ID_TOKEN", "SECRETENV-id".to_owned()),
            ("CI_JOB_JWT_V2", "SECRETENV-jwt".to_owned()),
            ("NODE_AUTH_TOKEN", "SECRETENV-node".to_owned()),
            ("NPM_TOKEN", "SECRETENV-npm".to_owned()),
            ("YARN_NPM_AUTH_TOKEN", "SECRETENV-yarn".to_owned()),
            ("npm_config_registry", "http://127.0.0.1:1/".to_owned()),
            ("NODE_OPTIONS", "--require /is/not/there.js".to_owned()),
        ];
        Self {
            project,
            home,
            parent,
            temporary,
            environment: environment.into_iter().collect(),
            token: RegistryToken::new(TOKEN),
        }
    }

    fn grant<'a>(&'a self, registry: &'a ServiceUrl) -> Grant<'a> {
        Grant { registry, token: &self.token, temporary: &self.temporary, environment: &self.environment }
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.project.path().join(path);
        fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        fs::write(path, content).expect("file");
    }

    /// Installs `@acme/core`, and returns what was said.
    async fn install(
        &self,
        tool: &Tool,
        registry: &ServiceUrl,
        scripts: bool,
    ) -> (Result<(), Failure>, String) {
        let spec: PackageSpec = "@acme/core@^1.0.0".parse().expect("spec");
        let job = InstallJob {
            project: self.project.path(),
            package: &spec,
            grant: self.grant(registry),
            default_registry: None,
            allow_scripts: scripts,
        };
        let command = match manager::find(tool.name).expect("manager").install(&job) {
            Ok(command) => command,
            Err(error) => return (Err(Failure::Manager(error)), String::new()),
        };
        self.run(&command).await
    }

    async fn publish(
        &self,
        tool: &Tool,
        registry: &ServiceUrl,
        packed: &Packed,
    ) -> (Result<(), Failure>, String) {
        let tarball = packed.write(self.parent.path()).expect("tarball");
        let tag: DistTag = "latest".parse().expect("tag");
        let job = PublishJob {
            tarball: &tarball,
            package: &packed.package,
            grant: self.grant(registry),
            tag: &tag,
            access: None,
        };
        let command = match manager::find(tool.name).expect("manager").publish_tarball(&job) {
            Ok(command) => command,
            Err(error) => return (Err(Failure::Manager(error)), String::new()),
        };
        let ended = self.run(&command).await;
        fs::remove_file(tarball).expect("tarball");
        ended
    }

    /// Runs a command, and checks that the token is in none of the places where it must not be.
    async fn run(&self, command: &run::ChildCommand) -> (Result<(), Failure>, String) {
        assert!(!command.args.iter().any(|arg| arg.to_string_lossy().contains(TOKEN)), "a token in argv");
        for (name, value) in command.environment.iter() {
            assert!(!value.contains(TOKEN) && !value.contains("SECRETENV"), "a secret in {name}");
        }
        let mut said = String::new();
        let each = |line: &Line| {
            let (Line::Out(text) | Line::Err(text)) = line;
            said.push_str(text);
            said.push('\n');
        };
        let ended = run::run(command, &self.token, each, tokio::time::sleep(Duration::from_secs(120))).await;
        assert!(!said.contains(TOKEN) && !said.contains("SECRETENV"), "{said}");
        (ended.map_err(Failure::Run), said)
    }

    /// Wipes, and looks for the token everywhere that the command could write to.
    fn leaves_nothing(&self, label: &str) {
        self.temporary.wipe().expect("wipe");
        let left: Vec<_> = fs::read_dir(self.parent.path()).expect("folder").collect();
        assert!(left.is_empty(), "{label} left {left:?}");
        for root in [self.project.path(), self.home.path()] {
            assert_eq!(holders_of(root, TOKEN), Vec::<PathBuf>::new(), "{label}");
        }
    }
}

#[derive(Debug)]
enum Failure {
    Manager(ManagerError),
    Run(RunError),
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("folder")
}

fn holders_of(root: &Path, secret: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).expect("folder").flatten() {
        let kind = entry.file_type().expect("kind");
        if kind.is_dir() {
            found.extend(holders_of(&entry.path(), secret));
        } else if kind.is_file() {
            let content = fs::read(entry.path()).expect("file");
            if content.windows(secret.len()).any(|window| window == secret.as_bytes()) {
                found.push(entry.path());
            }
        }
    }
    found
}

fn core() -> Packed {
    of_name("@acme/core")
}

fn needing(dependency: &str) -> Packed {
    package(&format!(r#""name":"@acme/core","version":"1.0.0","dependencies":{{"{dependency}":"*"}}"#))
}

fn of_name(name: &str) -> Packed {
    package(&format!(
        r#""name":"{name}","version":"1.0.0","main":"index.js","scripts":{{"postinstall":"node script.js"}}"#
    ))
}

fn package(members: &str) -> Packed {
    let source = folder();
    let manifest = format!("{{{members}}}");
    fs::write(source.path().join("package.json"), manifest).expect("file");
    fs::write(source.path().join("index.js"), "module.exports = 'core'\n").expect("file");
    let script = "require('fs').writeFileSync(__dirname + '/ran', '')\n";
    fs::write(source.path().join("script.js"), script).expect("file");
    pack::pack(source.path()).expect("pack")
}

/// A registry with `@acme/core@1.0.0`, published a moment ago, for whoever has the token.
async fn registry(packed: Packed) -> Peer {
    let origin: Arc<Mutex<String>> = Arc::default();
    let known = Arc::clone(&origin);
    let whole = format!("/{}", packed.name);
    let peer = Peer::start(move |asked| {
        if asked.headers.get("authorization") != Some(&format!("Bearer {TOKEN}")) {
            return Answer::json(401, &json!({"error": "who are you?"}));
        }
        let path = asked.path.to_lowercase().replace("%2f", "/");
        match (asked.method.as_str(), path.strip_prefix(PREFIX)) {
            ("GET", Some(path)) if path == whole => {
                let registry = format!("{}{PREFIX}", known.lock().expect("origin"));
                Answer::json(200, &packument(&packed, &registry))
            }
            ("GET", Some(path)) if path == format!("{whole}/-/core-1.0.0.tgz") => {
                Answer::Reply { status: 200, headers: vec![], body: packed.bytes.to_vec() }
            }
            ("PUT", Some("/@acme/core")) => {
                Answer::json(201, &json!({"ok": true})).header("npm-notice", "published, audit 1234")
            }
            _ => Answer::json(404, &json!({"error": "not here"})),
        }
    })
    .await;
    *origin.lock().expect("origin") = peer.origin();
    peer
}

fn packument(packed: &Packed, registry: &str) -> Value {
    let mut manifest = packed.manifest.clone();
    manifest["hasInstallScript"] = true.into();
    manifest["dist"] = json!({
        "integrity": packed.integrity.to_string(),
        "shasum": packed.shasum.to_string(),
        "tarball": format!("{registry}/{}/-/core-1.0.0.tgz", packed.name),
    });
    let now = "2999-01-01T00:00:00.000Z";
    json!({
        "_id": packed.name,
        "name": packed.name,
        "dist-tags": {"latest": "1.0.0"},
        "versions": {"1.0.0": manifest},
        "time": {"created": now, "modified": now, "1.0.0": now},
    })
}

fn with_credentials(asked: &[Asked]) -> Vec<String> {
    let carries = |asked: &&Asked| asked.headers.contains_key("authorization");
    asked.iter().filter(carries).map(|asked| format!("{} {}", asked.method, asked.path)).collect()
}

async fn evil() -> Peer {
    Peer::start(|_| Answer::json(404, &json!({"error": "nothing here"}))).await
}

/// What berry needs to take a folder for a project.
fn project(job: &Job, tool: &Tool) {
    job.write("package.json", r#"{"name":"app","version":"1.0.0","private":true}"#);
    if tool.name == "berry" {
        job.write("yarn.lock", "");
        job.write(".yarnrc.yml", "nodeLinker: node-modules\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_installs_and_leaves_nothing() {
    for tool in tools() {
        let (label, job) = (tool.label, Job::new(&tool));
        project(&job, &tool);
        let chosen = manager::find(tool.name).expect("manager");
        manager::check_version(chosen, job.project.path(), &job.environment).await.expect(label);
        let peer = registry(core()).await;
        let (ended, said) = job.install(&tool, &peer.url(PREFIX), false).await;
        assert!(ended.is_ok(), "{label}: {ended:?}\n{said}\n{:?}", peer.lines());
        let installed = job.project.path().join("node_modules/@acme/core");
        assert_eq!(fs::read_to_string(installed.join("index.js")).expect(label), "module.exports = 'core'\n");
        assert!(!installed.join("ran").exists(), "{label} ran an install script");
        let workspace = job.project.path().join("pnpm-workspace.yaml");
        assert!(
            !fs::read_to_string(workspace).unwrap_or_default().contains("minimumReleaseAge"),
            "{label} edited the workspace"
        );
        // Nothing but the package was asked for with the token: no notifier, no audit.
        for line in with_credentials(&peer.asked()) {
            assert!(line.contains("core"), "{label} asked {line}");
        }
        job.leaves_nothing(label);
    }
}

/// Without a scope, the registry is the one of every package.
#[tokio::test(flavor = "multi_thread")]
async fn each_installs_a_package_without_a_scope() {
    for tool in tools() {
        let (label, job, evil) = (tool.label, Job::new(&tool), evil().await);
        project(&job, &tool);
        if tool.name == "berry" {
            job.write(
                ".yarnrc.yml",
                &format!("nodeLinker: node-modules\nnpmRegistryServer: {}\n", evil.origin()),
            );
        } else {
            job.write(".npmrc", &format!("registry={}/\n", evil.origin()));
        }
        let peer = registry(of_name("core")).await;
        let registry = peer.url(PREFIX);
        let spec: PackageSpec = "core@1.0.0".parse().expect("spec");
        let install = InstallJob {
            project: job.project.path(),
            package: &spec,
            grant: job.grant(&registry),
            default_registry: None,
            allow_scripts: false,
        };
        let command = manager::find(tool.name).expect("manager").install(&install).expect(label);
        let (ended, said) = job.run(&command).await;
        assert!(ended.is_ok(), "{label}: {ended:?}\n{said}\n{:?} evil {:?}", peer.lines(), evil.lines());
        assert!(job.project.path().join("node_modules/core/index.js").exists(), "{label}");
        assert_eq!(with_credentials(&evil.asked()), Vec::<String>::new(), "{label}");
        job.leaves_nothing(label);
    }
}

/// Other packages come from where the caller says, and the token does not go there.
#[tokio::test(flavor = "multi_thread")]
async fn the_token_goes_to_its_registry_alone() {
    for tool in tools() {
        let (label, job) = (tool.label, Job::new(&tool));
        project(&job, &tool);
        let public = Peer::start(move |asked| match asked.path.as_str() {
            "/public/dep" => Answer::json(404, &json!({"error": "seen"})),
            _ => Answer::json(404, &json!({})),
        })
        .await;
        let peer = registry(needing("dep")).await;
        let (registry, default) = (peer.url(PREFIX), public.url("/public"));
        let spec: PackageSpec = "@acme/core".parse().expect("spec");
        let install = InstallJob {
            project: job.project.path(),
            package: &spec,
            grant: job.grant(&registry),
            default_registry: Some(&default),
            allow_scripts: false,
        };
        let command = manager::find(tool.name).expect("manager").install(&install).expect(label);
        let (ended, said) = job.run(&command).await;
        assert!(ended.is_err(), "{label}: {said}");
        assert!(
            public.lines().iter().any(|line| line == "GET /public/dep"),
            "{label}: {:?}\n{said}",
            public.lines()
        );
        assert_eq!(with_credentials(&public.asked()), Vec::<String>::new(), "{label}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_run_only_when_allowed() {
    for tool in tools().into_iter().filter(|tool| tool.name == "npm" || tool.name == "yarn") {
        let job = Job::new(&tool);
        project(&job, &tool);
        let peer = registry(core()).await;
        let (ended, said) = job.install(&tool, &peer.url(PREFIX), true).await;
        assert!(ended.is_ok(), "{}: {ended:?}\n{said}", tool.label);
        assert!(job.project.path().join("node_modules/@acme/core/ran").exists(), "{}", tool.label);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_folder_is_enough_for_npm() {
    let above = folder();
    fs::write(above.path().join("package.json"), "{}").expect("file");
    let tool = &tools()[0];
    let mut job = Job::new(tool);
    job.project = tempfile::tempdir_in(above.path()).expect("folder");
    let peer = registry(core()).await;
    let (ended, said) = job.install(tool, &peer.url(PREFIX), false).await;
    assert!(ended.is_ok(), "{ended:?}\n{said}");
    assert!(job.project.path().join("node_modules/@acme/core/index.js").exists());
    assert!(!above.path().join("node_modules").exists());
}

/// A project whose files send the scope, and whatever credential they can get, to another registry.
#[tokio::test(flavor = "multi_thread")]
async fn a_project_cannot_redirect_the_scope() {
    for tool in tools() {
        resists(&tool).await;
    }
}

/// Some are installed as shell scripts, and a shell drops variables such as `npm_config_@acme:registry`.
#[tokio::test(flavor = "multi_thread")]
async fn a_shell_in_between_changes_nothing() {
    for mut tool in tools() {
        let program = manager::find(tool.name).expect("manager").program();
        let real = run::find(program, &Job::new(&tool).environment).expect("program");
        let bin = folder();
        let script = format!("#!/bin/sh\nexec '{}' \"$@\"\n", real.display());
        fs::write(bin.path().join(program), script).expect("file");
        make_executable(bin.path());
        tool.path.insert(0, bin.path().to_owned());
        resists(&tool).await;
    }
}

async fn resists(tool: &Tool) {
    let (label, job, evil) = (tool.label, Job::new(tool), evil().await);
    project(&job, tool);
    let at = evil.origin();
    let elsewhere = at.trim_start_matches("http:").replace("127.0.0.1", "localhost");
    let redirect = format!("@acme:registry={at}/\n");
    let npmrc = format!(
        "{elsewhere}/:_authToken=${{NODE_AUTH_TOKEN}}\nignore-scripts=false\nlogs-max=10\nlogs-dir=logs\n\
         loglevel=silly\nupdate-notifier=true\naudit=true\n"
    );
    let witness = job.project.path().join("code-ran");
    let code = format!("require('fs').writeFileSync({:?}, '')\n", witness.display().to_string());
    job.write(".pnpmfile.cjs", &code);
    job.write("evil.cjs", &code);
    let peer = registry(core()).await;
    let target = peer.url(PREFIX);
    job.write(".npmrc", &(redirect.clone() + &npmrc));
    match tool.name {
        "yarn" => {
            // The one of which it is not certain that the command wins.
            let (ended, _) = job.install(tool, &target, false).await;
            assert!(matches!(ended, Err(Failure::Manager(ManagerError::Hostile(_)))), "{label}: {ended:?}");
            job.write(".npmrc", &npmrc);
            job.write(".yarnrc", &format!("\"@acme:registry\" \"{at}/\"\n"));
            let (ended, _) = job.install(tool, &target, false).await;
            assert!(matches!(ended, Err(Failure::Manager(ManagerError::Hostile(_)))), "{label}: {ended:?}");
            job.write(".yarnrc", &format!("yarn-path \"./evil.cjs\"\nregistry \"{at}/\"\n"));
        }
        "berry" => job.write(
            ".yarnrc.yml",
            &format!(
                "nodeLinker: node-modules\nyarnPath: ./evil.cjs\nnpmRegistryServer: {at}\nenableScripts: true\n"
            ),
        ),
        "pnpm" => job.write("pnpm-workspace.yaml", "packages: []\nignoreScripts: false\n"),
        _ => {}
    }
    let (ended, said) = job.install(tool, &target, false).await;
    assert!(ended.is_ok(), "{label}: {ended:?}\n{said}\nevil: {:?}", evil.lines());
    assert!(job.project.path().join("node_modules/@acme/core/index.js").exists(), "{label}");
    assert_eq!(with_credentials(&evil.asked()), Vec::<String>::new(), "{label}");
    let asked = evil.lines();
    assert!(!asked.iter().any(|line| line.to_lowercase().contains("acme")), "{label}: {asked:?}");
    assert!(!witness.exists(), "{label} ran code of the project");
    assert!(!job.project.path().join("logs").exists(), "{label} left logs");
    job.leaves_nothing(label);
}

/// What nothing on the command line overrides is refused before the token is written anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_could_take_the_token_is_refused() {
    let registry: ServiceUrl = "https://npm.example/repository/npm-hosted".parse().expect("url");
    let npmrc = [
        "//npm.example/repository/npm-hosted/:_authToken=x",
        "//NPM.example/:_auth=x",
        " \"//npm.example/repository/:_password\" = x",
        "//elsewhere.example/:tokenHelper=/tmp/x",
        "${A}=x",
        "_auth=x",
        "proxy=http://evil.example",
        "https-proxy = http://evil.example",
        "strict-ssl=false",
        "cafile=evil.pem",
        "ca[]=evil",
        "git=./evil.sh",
    ];
    let yarnrc = [
        "--install.registry http://evil.example",
        "--*.registry \"http://evil.example\"",
        "https-proxy \"http://evil.example\"",
        "strict-ssl false",
        "--add.strict-ssl false",
        "--add.ignore-scripts false",
    ];
    let berry = [
        "plugins:\n  - ./evil.cjs",
        "npmScopes:\n  acme:\n    npmRegistryServer: http://evil.example",
        "npmScopes:\n  'acme':\n    npmAuthToken: x",
        "npmScopes: {acme: {npmRegistryServer: http://evil.example}}",
        "npmRegistries:\n  \"//npm.example/repository/npm-hosted\":\n    npmAuthToken: x",
        "httpsProxy: http://evil.example",
        "enableStrictSsl: false",
        "networkSettings:\n  \"npm.example\":\n    httpsProxy: http://evil.example",
    ];
    let pnpm = [
        "registries:\n  '@acme': http://evil.example",
        "strictSsl: false",
        "httpsProxy: http://evil.example",
        "configDependencies:\n  evil: 1.0.0",
        "{registries: {'@acme': http://evil.example}}",
    ];
    let cases = npmrc
        .iter()
        .flat_map(|text| ["npm", "pnpm", "yarn"].map(|name| (name, ".npmrc", *text)))
        .chain(yarnrc.iter().map(|text| ("yarn", ".yarnrc", *text)))
        .chain(berry.iter().map(|text| ("berry", ".yarnrc.yml", *text)))
        .chain(pnpm.iter().map(|text| ("pnpm", "pnpm-workspace.yaml", *text)));
    for (name, file, text) in cases {
        for above in [false, true] {
            let tool = Tool { name: manager::find(name).expect("manager").name(), label: "", path: vec![] };
            let job = Job::new(&tool);
            job.write(if above { file.to_owned() } else { format!("sub/{file}") }.as_str(), text);
            fs::create_dir_all(job.project.path().join("sub")).expect("folder");
            let spec: PackageSpec = "@acme/core".parse().expect("spec");
            let install = InstallJob {
                project: &job.project.path().join("sub"),
                package: &spec,
                grant: job.grant(&registry),
                default_registry: None,
                allow_scripts: false,
            };
            let error = manager::find(name).expect("manager").install(&install).err();
            let Some(error @ ManagerError::Hostile(_)) = error else {
                panic!("{name} took {text}: {error:?}")
            };
            assert!(error.to_string().contains(file), "{error}");
            assert!(!error.to_string().contains("evil.example"), "{error}");
            assert_eq!(holders_of(job.parent.path(), TOKEN), Vec::<PathBuf>::new());
        }
    }
}

#[test]
fn what_a_project_may_say_is_not_refused() {
    let registry: ServiceUrl = "https://npm.example/repository/npm-hosted".parse().expect("url");
    for (name, file, text) in [
        (
            "npm",
            ".npmrc",
            "@acme:registry=https://npm.example/repository/npm-hosted/\nregistry=https://other.example\n; c\nsave-exact=true\n//other.example/:_authToken=${X}\nstrict-ssl=true\nengine-strict\n",
        ),
        (
            "yarn",
            ".yarnrc",
            "# yarn\nlastUpdateCheck 1\nyarn-path \".yarn/x.js\"\n--install.ignore-engines true\nregistry \"https://other.example\"\n",
        ),
        (
            "pnpm",
            "pnpm-workspace.yaml",
            "packages:\n  - 'a/*'\n- b\nregistries:\n  '@acme': https://npm.example/repository/npm-hosted\n  default: https://other.example\n",
        ),
    ] {
        let tool = Tool { name: "npm", label: "", path: vec![] };
        let job = Job::new(&tool);
        job.write(file, text);
        // The program need not be here to be judged.
        let bin = folder();
        fs::write(bin.path().join(manager::find(name).expect("manager").program()), "#!/bin/sh\n")
            .expect("file");
        make_executable(bin.path());
        let environment: Environment = [("PATH", bin.path().display().to_string())].into_iter().collect();
        let spec: PackageSpec = "@acme/core".parse().expect("spec");
        let install = InstallJob {
            project: job.project.path(),
            package: &spec,
            grant: Grant { environment: &environment, ..job.grant(&registry) },
            default_registry: None,
            allow_scripts: false,
        };
        let made = manager::find(name).expect("manager").install(&install);
        assert!(made.is_ok(), "{name}: {:?}", made.err());
    }
}

fn make_executable(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    for entry in fs::read_dir(folder).expect("folder").flatten() {
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_and_pnpm_publish_exactly_the_tarball() {
    for tool in tools().into_iter().filter(|tool| tool.name == "npm" || tool.name == "pnpm") {
        let (label, job, evil) = (tool.label, Job::new(&tool), evil().await);
        // A hostile project, which the command does not see.
        job.write(".npmrc", &format!("@acme:registry={}/\n", evil.origin()));
        let packed = core();
        let peer = registry(packed.clone()).await;
        let target = peer.url(PREFIX);
        // npm's flags beat a registry that the package names for itself; pnpm has no such flag, and refuses.
        let named = format!(r#","publishConfig":{{"registry":"{0}","@acme:registry":"{0}"}}"#, evil.origin());
        let mut next = version(&packed, "1.1.0", &named);
        if tool.name == "pnpm" {
            let (ended, _) = job.publish(&tool, &target, &next).await;
            assert!(matches!(ended, Err(Failure::Manager(ManagerError::Hostile(_)))), "{label}: {ended:?}");
            next = version(&packed, "1.1.0", "");
        }
        let (ended, said) = job.publish(&tool, &target, &next).await;
        assert!(ended.is_ok(), "{label}: {ended:?}\n{said}\n{:?} evil {:?}", peer.lines(), evil.lines());
        let put = peer.asked().into_iter().find(|asked| asked.method == "PUT").expect(label);
        let document: Value = serde_json::from_slice(&put.body).expect("json");
        assert_eq!(document["versions"]["1.1.0"]["dist"]["integrity"], next.integrity.to_string(), "{label}");
        assert!(evil.asked().is_empty(), "{label}: {:?}", evil.lines());
        for line in with_credentials(&peer.asked()) {
            assert!(line.to_lowercase().contains("core"), "{label} asked {line}");
        }
        job.leaves_nothing(label);
    }
}

fn version(packed: &Packed, version: &str, more: &str) -> Packed {
    let source = folder();
    let manifest = format!(
        r#"{{"name":"{}","version":"{version}","scripts":{{"prepublishOnly":"touch /tmp/never","publish":"exit 1"}}{more}}}"#,
        packed.name
    );
    fs::write(source.path().join("package.json"), manifest).expect("file");
    pack::pack(source.path()).expect("pack")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tarball_that_could_take_the_token_is_refused() {
    let registry: ServiceUrl = "http://127.0.0.1:1/".parse().expect("url");
    for config in [
        r#""strict-ssl":false"#,
        r#""https-proxy":"http://evil.example""#,
        r#""cafile":"x""#,
        r#""_authToken":"x""#,
        r#""//127.0.0.1:1/:_authToken":"x""#,
    ] {
        let tool = &tools()[0];
        let job = Job::new(tool);
        let packed = version(&core(), "1.0.0", &format!(r#","publishConfig":{{{config}}}"#));
        let (ended, _) = job.publish(tool, &registry, &packed).await;
        assert!(matches!(ended, Err(Failure::Manager(ManagerError::Hostile(_)))), "{config}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn yarn_says_that_it_cannot_publish_a_tarball() {
    for name in ["yarn", "berry"] {
        let tool = Tool { name, label: name, path: vec![] };
        let job = Job::new(&tool);
        let (ended, _) = job.publish(&tool, &"http://127.0.0.1:1/".parse().expect("url"), &core()).await;
        let Err(Failure::Manager(error)) = ended else { panic!("{name} published") };
        assert!(error.to_string().contains("cannot publish a tarball as it is"), "{error}");
        assert!(error.hint().expect("hint").to_string().contains("sent without one"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_passed_on_with_the_registrys_words() {
    let tool = &tools()[0];
    let job = Job::new(tool);
    project(&job, tool);
    let peer = Peer::start(|_| {
        Answer::json(403, &json!({"error": format!("{TOKEN} is for @acme/other")}))
            .header("npm-notice", "audit 77")
    })
    .await;
    let (ended, _) = job.install(tool, &peer.url(PREFIX), false).await;
    let Err(Failure::Run(error)) = ended else { panic!("{ended:?}") };
    let text = error.to_string();
    assert!(
        text.contains("403") && text.contains("*** is for @acme/other") && text.contains("audit 77"),
        "{text}"
    );
    job.leaves_nothing("npm");
}

#[test]
fn projects_are_known_by_their_files() {
    for (files, expected) in [
        (vec![("package-lock.json", "{}")], "npm"),
        (vec![("pnpm-lock.yaml", "")], "pnpm"),
        (vec![("yarn.lock", "# yarn lockfile v1\n")], "yarn"),
        (vec![("yarn.lock", "__metadata:\n  version: 8\n")], "berry"),
        (vec![(".yarnrc.yml", "")], "berry"),
        (vec![("package.json", r#"{"packageManager":"yarn@4.5.0+sha512.abc"}"#)], "berry"),
        (vec![("package.json", r#"{"packageManager":"yarn@1.22.22"}"#)], "yarn"),
        (vec![("package.json", r#"{"packageManager":"pnpm@10.1.0"}"#), ("pnpm-lock.yaml", "")], "pnpm"),
        (vec![("package.json", "{}")], "npm"),
        (vec![], "npm"),
    ] {
        let root = folder();
        fs::create_dir_all(root.path().join("packages/a")).expect("folder");
        fs::create_dir(root.path().join(".git")).expect("folder");
        for (path, content) in &files {
            fs::write(root.path().join(path), content).expect("file");
        }
        for folder in [root.path().to_owned(), root.path().join("packages/a")] {
            assert_eq!(manager::detect(&folder).expect("manager").name(), expected, "{files:?}");
        }
    }
    let root = folder();
    fs::write(root.path().join("package.json"), r#"{"packageManager":"pnpm@10.1.0"}"#).expect("file");
    fs::write(root.path().join("package-lock.json"), "{}").expect("file");
    let error = manager::detect(root.path()).err().expect("ambiguous");
    assert!(
        error.to_string().contains("says `pnpm`, but `package-lock.json` beside it belongs to `npm`"),
        "{error}"
    );
}

#[test]
fn a_spec_is_a_version_range_or_tag_and_nothing_else() {
    for good in
        ["@acme/core", "core", "@acme/core@1.0.0", "core@^1.2.0", "core@>=1 <2", "core@latest", "core@1.x"]
    {
        assert_eq!(good.parse::<PackageSpec>().expect(good).to_string(), good);
    }
    for bad in [
        "",
        "@acme",
        "--registry=http://evil.example",
        "core@",
        "core@--x",
        "core@file:../x",
        "core@npm:other@1",
        "core@https://evil.example/x.tgz",
        "core@git+ssh://x",
        "core@../x",
        "./core",
        "/tmp/x.tgz",
        "core@a@b",
        "core@a\nb",
    ] {
        assert!(bad.parse::<PackageSpec>().is_err(), "{bad}");
    }
}

/// A script in the place of a package manager.
#[cfg(unix)]
fn script(job: &Job, text: &str) -> run::ChildCommand {
    let program = job.parent.path().join("npm");
    fs::write(&program, format!("#!/bin/sh\n{text}\n")).expect("file");
    make_executable(job.parent.path());
    run::ChildCommand {
        program,
        args: vec![OsStr::new("x").into()],
        environment: run::scrub(&job.environment),
        folder: job.project.path().to_owned(),
    }
}

#[tokio::test]
#[cfg(unix)]
async fn cancelling_ends_the_whole_group() {
    let job = Job::new(&tools()[0]);
    let witness = job.project.path().join("alive");
    // A child that ignores SIGTERM, started by a child, as a package manager's scripts are.
    let command = script(
        &job,
        &format!("(trap '' TERM; while :; do date > {}; sleep 0.1; done) & wait", witness.display()),
    );
    let cancel = tokio::time::sleep(Duration::from_millis(700));
    let ended = run::run(&command, &job.token, |_| {}, cancel).await;
    assert!(matches!(ended, Err(RunError::Cancelled { .. })), "{ended:?}");
    assert!(witness.exists());
    fs::remove_file(&witness).expect("witness");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!witness.exists(), "something of the group is alive");
}

#[tokio::test]
#[cfg(unix)]
async fn dropping_the_run_ends_the_whole_group() {
    let job = Job::new(&tools()[0]);
    let witness = job.project.path().join("alive");
    let command =
        script(&job, &format!("(while :; do date > {}; sleep 0.1; done) & wait", witness.display()));
    let run = run::run(&command, &job.token, |_| {}, std::future::pending());
    assert!(tokio::time::timeout(Duration::from_millis(700), run).await.is_err());
    assert!(witness.exists());
    tokio::time::sleep(Duration::from_millis(200)).await;
    fs::remove_file(&witness).expect("witness");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!witness.exists(), "something of the group is alive");
}

#[tokio::test]
#[cfg(unix)]
async fn a_process_that_holds_the_output_open_is_not_waited_for() {
    let job = Job::new(&tools()[0]);
    let command = script(&job, "sleep 60 & echo done");
    let started = std::time::Instant::now();
    run::run(&command, &job.token, |_| {}, std::future::pending()).await.expect("done");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
#[cfg(unix)]
async fn lines_are_whole_redacted_and_bounded() {
    let job = Job::new(&tools()[0]);
    let text = format!(
        "echo one {TOKEN}; printf 'two\\r\\n'; echo three >&2; head -c 300000 /dev/zero | tr '\\0' x; echo; printf last; exit 3"
    );
    let mut lines = Vec::new();
    let ended =
        run::run(&script(&job, &text), &job.token, |line| lines.push(line.clone()), std::future::pending())
            .await;
    assert!(lines.contains(&Line::Out("one ***".to_owned())) && lines.contains(&Line::Out("two".to_owned())));
    assert!(lines.contains(&Line::Err("three".to_owned())) && lines.contains(&Line::Out("last".to_owned())));
    assert!(
        lines.iter().all(|line| matches!(line, Line::Out(text) | Line::Err(text) if text.len() <= 64 * 1024))
    );
    let error = ended.expect_err("exit 3").to_string();
    assert!(error.starts_with("`npm` failed (exit status: 3)"), "{error}");
}

#[tokio::test]
#[cfg(unix)]
async fn the_last_words_that_say_something_are_kept() {
    let job = Job::new(&tools()[0]);
    for (said, kept) in [
        (
            "npm error code E403\\nnpm error 403 Forbidden - GET x - wrong package\\nnpm error In most cases, you are.",
            "403 Forbidden - GET x - wrong package",
        ),
        (
            "npm error code EX\\nnpm error real reason\\nnpm error A complete log of this run can be found in: x",
            "real reason",
        ),
        ("\\033[31merror\\033[0m An error.\\ninfo Visit x", "An error."),
        (
            " ERR_PNPM_FETCH_403  GET x: Forbidden - 403\\nDone in 1s",
            "ERR_PNPM_FETCH_403 GET x: Forbidden - 403",
        ),
        (
            "➤ YN0041: │ Invalid authentication\\n➤ YN0000: · Failed with errors in 0s",
            "➤ YN0041: │ Invalid authentication",
        ),
    ] {
        let ended = run::run(
            &script(&job, &format!("printf '{said}\\n'; exit 1")),
            &job.token,
            |_| {},
            std::future::pending(),
        )
        .await;
        let error = ended.expect_err("exit 1").to_string();
        assert!(error.ends_with(kept), "{error}");
    }
}

#[test]
fn little_of_the_environment_is_passed_on() {
    let environment: Environment = [
        ("PATH", "/usr/bin:node_modules/.bin:.:/bin::"),
        ("HOME", "/root"),
        ("LC_ALL", "C"),
        ("https_proxy", "http://p"),
        ("NODE_EXTRA_CA_CERTS", "/ca.pem"),
        ("GITHUB_TOKEN", "x"),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "x"),
        ("ACTIONS_RUNTIME_TOKEN", "x"),
        ("NPM_ID_TOKEN", "x"),
        ("SIGSTORE_ID_TOKEN", "x"),
        ("CI_JOB_JWT", "x"),
        ("CI_JOB_TOKEN", "x"),
        ("FRACTALOPS_ID_TOKEN", "x"),
        ("NODE_OPTIONS", "x"),
        ("npm_config_registry", "x"),
        ("NPM_CONFIG_USERCONFIG", "x"),
        ("YARN_RC_FILENAME", "x"),
        ("COREPACK_NPM_REGISTRY", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("LD_PRELOAD", "x"),
        ("BASH_ENV", "x"),
        ("GIT_SSH_COMMAND", "x"),
    ]
    .into_iter()
    .collect();
    let scrubbed = run::scrub(&environment);
    let passed: Vec<(&str, &str)> = scrubbed.iter().collect();
    assert_eq!(
        passed,
        [
            ("HOME", "/root"),
            ("LC_ALL", "C"),
            ("NODE_EXTRA_CA_CERTS", "/ca.pem"),
            ("PATH", "/usr/bin:/bin"),
            ("https_proxy", "http://p"),
        ]
    );
}
