//! Stock package managers against the embedded registry: what they publish, install, and how they are refused.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

pub(crate) use crate::harness::tool;
use crate::{
    document,
    harness::{CLI, Screen, Setup, World},
    race,
};

/// A package manager as its users call it.
struct Client {
    /// Its folder under `target/tools`.
    tool: &'static str,
    program: &'static str,
    publish: &'static [&'static str],
    install: &'static [&'static str],
}

const CLIENTS: &[Client] = &[
    Client {
        tool: "npm-11",
        program: "npm",
        publish: &["publish", "--ignore-scripts"],
        install: &["install", "--no-audit", "--no-fund"],
    },
    Client {
        tool: "pnpm-10",
        program: "pnpm",
        publish: &["publish", "--no-git-checks", "--ignore-scripts"],
        install: &["add"],
    },
    Client {
        tool: "pnpm-11",
        program: "pnpm",
        publish: &["publish", "--no-git-checks", "--ignore-scripts"],
        install: &["add", "--config.minimumReleaseAge=0"],
    },
    Client {
        tool: "yarn-1",
        program: "yarn",
        publish: &["publish", "--non-interactive", "--no-git-tag-version"],
        install: &["add", "--non-interactive"],
    },
    Client { tool: "yarn-4", program: "yarn", publish: &["npm", "publish"], install: &["add"] },
];

#[expect(clippy::disallowed_methods, reason = "children need the PATH of this process")]
pub(crate) fn path_with(first: &[PathBuf]) -> std::ffi::OsString {
    let rest = std::env::var_os("PATH").expect("PATH");
    std::env::join_paths(first.iter().cloned().chain(std::env::split_paths(&rest))).expect("PATH")
}

impl Client {
    /// Returns the client in `folder`, configured as its documentation says, with `token` for the registry.
    fn command(&self, world: &World, folder: &Path, arguments: &[&str], token: &str) -> Command {
        let mut command = world.bare(self.program, arguments);
        // pnpm 10 publishes through the npm on the PATH.
        command.env("PATH", path_with(&[tool(self.tool), tool("npm-11")])).current_dir(folder);
        let registry = world.registry();
        if self.tool == "yarn-4" {
            command
                .env("YARN_NPM_REGISTRY_SERVER", &registry)
                .env("YARN_NPM_PUBLISH_REGISTRY", &registry)
                .env("YARN_NPM_AUTH_TOKEN", token)
                .env("YARN_UNSAFE_HTTP_WHITELIST", "127.0.0.1")
                .env("YARN_NPM_MINIMAL_AGE_GATE", "0")
                .env("YARN_ENABLE_TELEMETRY", "0")
                .env("YARN_ENABLE_IMMUTABLE_INSTALLS", "false")
                .env("YARN_NODE_LINKER", "node-modules");
        } else {
            let npmrc = world.path(&format!("tmp/{}.npmrc", crate::harness::unique()));
            let key = registry.trim_start_matches("http:");
            let text = format!(
                "registry={registry}\n{key}:_authToken={token}\nupdate-notifier=false\nfetch-retries=0\nlogs-max=0\n"
            );
            fs::write(&npmrc, text).expect("npmrc");
            command.env("npm_config_userconfig", &npmrc);
        }
        command
    }

    fn run(&self, world: &World, folder: &Path, arguments: &[&str], token: &str) -> Screen {
        let screen = world.run(self.command(world, folder, arguments, token));
        for entry in fs::read_dir(world.path("tmp")).expect("tmp").flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "npmrc") {
                fs::remove_file(entry.path()).expect("remove");
            }
        }
        screen
    }

    fn project(&self, world: &World, name: &str, content: &str) -> PathBuf {
        let folder = format!("{name}-{}", self.tool);
        world.write(&format!("{folder}/package.json"), content);
        world.write(&format!("{folder}/index.js"), "module.exports = 42;\n");
        // Berry takes a folder above for its project unless this one has a lock file.
        world.write(&format!("{folder}/yarn.lock"), "");
        world.path("work").join(folder)
    }

    fn publish(&self, world: &World, name: &str, version: &str, token: &str) -> Screen {
        let content = format!("{{\"name\": \"{name}\", \"version\": \"{version}\", \"license\": \"MIT\"}}");
        let folder = self.project(world, &format!("publish-{version}"), &content);
        if self.tool == "yarn-4" {
            // Berry asks for an install first; the package has no dependency, so it asks nobody.
            self.run(world, &folder, &["install"], token);
        }
        let mut arguments = self.publish.to_vec();
        if self.tool == "yarn-1" {
            arguments.extend(["--new-version", version]);
        }
        self.run(world, &folder, &arguments, token)
    }

    fn install(&self, world: &World, name: &str, token: &str) -> (Screen, PathBuf) {
        let folder =
            self.project(world, "app", "{\"name\": \"app\", \"version\": \"1.0.0\", \"private\": true}");
        let mut arguments = self.install.to_vec();
        arguments.push(name);
        (self.run(world, &folder, &arguments, token), folder)
    }
}

#[test]
fn each_publishes_and_installs_with_a_minted_token() {
    let world = World::new();
    for (index, client) in CLIENTS.iter().enumerate() {
        let version = format!("1.{index}.0");
        let token = world.npm_token("release", "@acme/plain", "publish");
        let screen = client.publish(&world, "@acme/plain", &version, &token);
        assert_eq!(screen.code, 0, "{} publish\n{screen}", client.tool);
        assert_eq!(world.count("registry.publish", "allow", Some(&version)), 1, "{}", client.tool);

        let token = world.npm_token("release", "@acme/plain", "install");
        let (screen, folder) = client.install(&world, "@acme/plain", &token);
        assert_eq!(screen.code, 0, "{} install\n{screen}", client.tool);
        let mut node = world.bare("node", &["--print", "require('@acme/plain')"]);
        node.current_dir(&folder);
        assert_eq!(world.run(node).stdout, "42\n", "{}", client.tool);
    }
}

#[test]
fn each_is_refused_with_a_readable_message() {
    let world = World::new();
    let core2 = world.npm_token("release", "@acme/core2", "publish");
    let install = world.npm_token("release", "@acme/plain", "install");
    let revoked = world.npm_token("release", "@acme/plain", "publish");
    let form = format!("token={revoked}");
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(world.request("POST", "/v1/oauth/revoke", None, &headers, form.as_bytes()).0, 200);
    for client in CLIENTS {
        for (why, name, token, status) in [
            ("another package", "@acme/plain", &core2, "403"),
            ("another scope", "@other/plain", &core2, "403"),
            ("a name that only starts alike", "@acme/core", &core2, "403"),
            ("another action", "@acme/plain", &install, "403"),
            ("a revoked token", "@acme/plain", &revoked, "401"),
        ] {
            let screen = client.publish(&world, name, "7.0.0", token);
            assert_ne!(screen.code, 0, "{}: {why}\n{screen}", client.tool);
            let whole = format!("{}{}", screen.stdout, screen.stderr);
            let readable = [
                status,
                "nvalid authentication",
                "authentication token",
                "does not cover",
                "does not allow",
                "revoked",
            ];
            assert!(readable.iter().any(|words| whole.contains(words)), "{}: {why}\n{screen}", client.tool);
        }
        let publish = world.npm_token("release", "@acme/core2", "publish");
        let (screen, _) = client.install(&world, "@acme/plain", &publish);
        assert_ne!(
            screen.code, 0,
            "{}: install with a publish token of another package\n{screen}",
            client.tool
        );
    }
    assert_eq!(world.count("registry.publish", "allow", None), 0);
}

/// npm prints what the server says, in the body and in the notice.
#[test]
fn npm_shows_the_reason() {
    let world = World::new();
    let token = world.npm_token("release", "@acme/core2", "publish");
    let screen = CLIENTS[0].publish(&world, "@acme/plain", "1.0.0", &token);
    screen.failed(1, &["E403", "@acme/core2"]);
}

#[test]
fn an_expired_token_is_refused_as_expired() {
    let world = World::with(Setup { limits: "publish_seconds = 1", ..Setup::default() });
    let token = world.npm_token("release", "@acme/plain", "publish");
    // One second of life and thirty of leeway between clocks.
    thread::sleep(Duration::from_secs(32));
    let tarball = document::tarball("@acme/plain", "1.0.0", b"x");
    let body = document::publish("@acme/plain", "1.0.0", "latest", &tarball);
    let (status, answer) = race::put(&world, &token, &body);
    assert_eq!(status, 401, "{answer}");
    assert!(answer.contains("token_expired"), "{answer}");
    let screen = CLIENTS[0].publish(&world, "@acme/plain", "1.0.0", &token);
    screen.failed(1, &["expired"]);
}

#[test]
fn a_token_that_was_never_minted_is_refused() {
    let world = World::new();
    for token in ["x", "NpmToken.00000000-0000-0000-0000-000000000000", "eyJhbGciOiJub25lIn0.e30."] {
        let tarball = document::tarball("@acme/plain", "1.0.0", b"x");
        let (status, answer) =
            race::put(&world, token, &document::publish("@acme/plain", "1.0.0", "latest", &tarball));
        assert_eq!(status, 401, "{answer}");
    }
    // A CI platform's own token is no registry token, and a session is none either.
    for token in [world.id_token("release", "github-actions"), world.session("release")] {
        let tarball = document::tarball("@acme/plain", "1.0.0", b"x");
        let (status, answer) =
            race::put(&world, &token, &document::publish("@acme/plain", "1.0.0", "latest", &tarball));
        assert_eq!(status, 401, "{answer}");
    }
}

#[test]
fn an_id_token_works_once() {
    let world = World::new();
    let id_token = world.id_token("release", "github-actions");
    assert_eq!(world.exchange(&id_token).0, 200);
    let (status, body) = world.exchange(&id_token);
    assert_eq!((status, body["code"].as_str()), (400, Some("token_replayed")), "{body}");
    // And so says the screen.
    let file = world.write("id-token", &id_token);
    let folder = world.package("@acme/core", "1.0.0");
    let mut command = world.bare(CLI, &["publish"]);
    command.env("FRACTALOPS_ID_TOKEN_FILE", &file).current_dir(folder);
    world.run(command).failed(4, &["exchanged before", "fresh one"]);
    fs::remove_file(file).expect("remove");
}
