//! The templates of GitLab and Jenkins as their users meet them: real jobs, with the embedded server behind them.

mod gitlab;
#[path = "../end_to_end/harness.rs"]
#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
mod harness;
mod jenkins;
#[path = "../actions/key_service.rs"]
mod key_service;
#[path = "../end_to_end/openbao.rs"]
#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
mod openbao;
#[path = "../end_to_end/proxy.rs"]
#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
mod proxy;
#[path = "../end_to_end/raw.rs"]
mod raw;
#[path = "../actions/suite.rs"]
mod suite;

use std::{fs, io::Write, path::Path};

use harness::World;

/// Returns a world that also has `@acme/widget`, which only the platform in question may publish.
///
/// `rules` are those of the trusted publisher, `runs` the runs of the local issuer; `BASE` in them is the server's URL
/// without `http://`.
fn world(platform: &str, rules: &str, runs: &str) -> World {
    let world = World::new();
    world.kill();
    let base = world.base().replace("http://", "");
    let more = format!(
        r#"
[[package]]
name = "@acme/widget"
project = "example"
repository = "npm-hosted"
artifact_policy = ["hardened"]
install = ["release", "template"]
publish = ["template"]

[[issuer]]
url = "local:{platform}"
platform = "{platform}"

[[trusted_publisher]]
id = "template"
tenant_id = "acme"
project_slug = "example"
packages = ["@acme/widget"]
actions = ["install", "publish"]
issuer = "local:{platform}"
{rules}
{runs}
"#
    );
    let config = world.path("server/config.toml");
    // Whoever may install the package has to be told in both places.
    let text = fs::read_to_string(&config)
        .expect("config")
        .replace("\"@acme/core2\"]", "\"@acme/core2\", \"@acme/widget\"]");
    fs::write(&config, text).expect("config");
    let mut file = fs::File::options().append(true).open(&config).expect("config");
    file.write_all(more.replace("BASE", &base).as_bytes()).expect("config");
    world.start();
    world
}

/// Writes whom to believe and whom to demand into a package's folder, as the READMEs' examples name the files.
fn write_policy(world: &World, folder: &Path, platform: &str, repository_id: &str) {
    let (status, root) = world.request("GET", "/sigstore/trusted_root.json", None, &[], b"");
    assert_eq!(status, 200);
    fs::write(folder.join("trusted_root.json"), root).expect("write");
    let mut policy = format!("[identity]\nissuer = \"{}/local-issuer/{platform}\"\n", world.base());
    if !repository_id.is_empty() {
        policy += &format!("repository-id = \"{repository_id}\"\n");
    }
    fs::write(folder.join("verify-policy.toml"), policy).expect("write");
}

/// How many deliveries FractalOps has on record.
fn deliveries(world: &World) -> usize {
    world.count("bundle.create", "allow", None)
}

/// Returns whether the registry has the version.
fn is_there(world: &World, version: &str) -> bool {
    let token = world.npm_token("release", "@acme/widget", "install");
    let (status, body) =
        world.request("GET", "/repository/npm-hosted/@acme%2fwidget", Some(&token), &[], b"");
    status == 200 && String::from_utf8_lossy(&body).contains(&format!("widget-{version}.tgz"))
}
