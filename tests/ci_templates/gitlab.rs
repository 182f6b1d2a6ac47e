//! The GitLab component, run by gitlab-ci-local.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    deliveries,
    harness::{CLI, Screen, World},
    is_there, key_service,
    openbao::Bao,
    suite::{blocks, check, path_with, root, settings, table, tool, variable, yaml},
};

const README: &str = "ci-templates/gitlab/README.md";
const TEMPLATE: &str = "ci-templates/gitlab/templates/protected-publish/template.yml";
/// Each component, the command that it runs, and the heading of its inputs in the README.
const COMPONENTS: [(&str, &str, &str); 3] = [
    (TEMPLATE, "publish", "input"),
    ("ci-templates/gitlab/templates/protected-verify/template.yml", "verify", "input of `protected-verify`"),
    (
        "ci-templates/gitlab/templates/protected-deliver/template.yml",
        "deliver",
        "input of `protected-deliver`",
    ),
];

/// Inputs about the job, and so no setting of the command.
const ABOUT_THE_JOB: &[&str] =
    &["signing-audience", "key-audience", "as", "cli-path", "image", "stage", "when"];

const RULES: &str = r#"
[trusted_publisher.gitlab]
namespace_id = "11"
project_id = "22"
project_path = "acme/widget"
ci_config_path = ".gitlab-ci.yml"
ref_pattern = "refs/tags/v*"
"#;

fn run(name: &str, project_id: &str) -> String {
    format!(
        r#"
[[local_issuer.run]]
name = "{name}"
platform = "gitlab-ci"

[local_issuer.run.claims]
sub = "project_path:acme/widget:ref_type:tag:ref:v1.0.0"
namespace_id = "11"
namespace_path = "acme"
project_id = "{project_id}"
project_path = "acme/widget"
job_project_id = "{project_id}"
job_project_path = "acme/widget"
pipeline_id = "33"
pipeline_source = "push"
job_id = "44"
ref = "v1.0.0"
ref_type = "tag"
ref_path = "refs/tags/v1.0.0"
ref_protected = "true"
ci_config_ref_uri = "BASE/local-issuer/gitlab-ci/acme/widget//.gitlab-ci.yml@refs/tags/v1.0.0"
sha = "0123456789abcdef0123456789abcdef01234567"
runner_environment = "self-hosted"
"#
    )
}

/// A project with the README's `.gitlab-ci.yml`, and a mirror with the component's project.
struct Project {
    world: World,
    // Apart from the world, whose files hold no token: the stand-in for a runner writes a job's variables into scripts.
    folder: TempDir,
}

impl Project {
    fn new() -> Self {
        let runs = format!("{}{}", run("gitlab", "22"), run("stranger", "23"));
        let project = Self {
            world: crate::world("gitlab-ci", RULES, &runs),
            folder: tempfile::tempdir().expect("folder"),
        };
        let mirror = project.path("mirror/your-group/protected-registry.git");
        copy(&root().join("ci-templates/gitlab"), &project.path("component"));
        project.git("component", &["init", "--quiet", "--initial-branch=main"]);
        project.commit("component");
        project.git(".", &["clone", "--quiet", "--bare", "component", mirror.to_str().expect("path")]);
        // A commit is named, and that is something a server has to allow.
        project.git(
            "mirror/your-group/protected-registry.git",
            &["config", "uploadArchive.allowUnreachable", "true"],
        );
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn git(&self, folder: &str, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(self.path(folder))
            .env("HOME", self.folder.path())
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .output()
            .expect("git");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    }

    fn commit(&self, folder: &str) {
        self.git(folder, &["add", "--all"]);
        let who = ["-c", "user.name=ci", "-c", "user.email=ci@example.invalid"];
        self.git(folder, &[&who[..], &["commit", "--quiet", "--message=it"]].concat());
    }

    /// The README's pipeline, with its examples' addresses replaced by those of this world, and `inputs` added.
    fn pipeline(&self, inputs: &str) -> String {
        let commit = self.git("component", &["rev-parse", "HEAD"]);
        let text = blocks(&root().join(README), "yaml").remove(0);
        text.replace(&"0".repeat(40), &commit)
            .replace("https://fractalops.example", &self.world.base())
            .replace("project: core", &format!("project: example\n      cli-path: {CLI}\n{inputs}"))
    }

    /// Runs gitlab-ci-local on a project with this pipeline and the package `@acme/widget`.
    fn run(&self, pipeline: &str, version: &str, identity: Option<&str>, arguments: &[&str]) -> Screen {
        let project = self.path("project");
        let _ = fs::remove_dir_all(&project);
        copy(&self.world.package("@acme/widget", version), &project);
        fs::write(project.join(".gitlab-ci.yml"), pipeline).expect("write");
        fs::write(project.join(".gitignore"), ".gitlab-ci-local/\n").expect("write");
        self.git("project", &["init", "--quiet", "--initial-branch=main"]);
        self.git("project", &["remote", "add", "origin", "git@gitlab.example:acme/widget.git"]);
        self.commit("project");
        self.git("project", &["tag", "v1.0.0"]);
        self.git("project", &["update-ref", "refs/remotes/origin/main", "HEAD"]);
        self.git("project", &["symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main"]);
        fs::write(
            self.path(".gitconfig"),
            format!(
                "[url \"file://{}/\"]\n\tinsteadOf = ssh://git@gitlab.example:22/\n",
                self.path("mirror").display()
            ),
        )
        .expect("write");

        let mut command = Command::new(tool("gitlab-ci-local/bin/gitlab-ci-local"));
        command
            // The stand-in calls itself none of GitLab.
            .args([
                "--force-shell-executor",
                "--variable",
                "GITLAB_CI=true",
                "--variable",
                "CI_COMMIT_TAG=v1.0.0",
            ])
            .env_clear()
            .env("PATH", path_with(&["node-24/bin/node"]))
            .env("HOME", self.folder.path())
            .env("TMPDIR", self.world.path("tmp"))
            .current_dir(&project)
            .stdin(Stdio::null());
        // What `id_tokens:` says, which the stand-in reads and leaves alone.
        for (variable, audience) in identity.iter().flat_map(|_| id_tokens(pipeline, &self.world)) {
            let token = self.world.id_token_for(&audience, identity.unwrap_or_default(), "gitlab-ci");
            command.args(["--variable", &format!("{variable}={token}")]);
        }
        command.args(arguments);
        let screen = self.world.run(command);
        let _ = fs::remove_file(self.path(".gitconfig"));
        screen
    }
}

/// The ID tokens that a pipeline's jobs have, and the audience of each: those that its inputs say.
fn id_tokens(pipeline: &str, world: &World) -> Vec<(&'static str, String)> {
    let inputs = pipeline.lines().filter_map(|line| line.trim().split_once("key-audience: "));
    let of_key_service = inputs.map(|(_, audience)| ("KEY_SERVICE_ID_TOKEN", audience.to_owned()));
    [("FRACTALOPS_ID_TOKEN", world.base())].into_iter().chain(of_key_service).collect()
}

/// Both streams, without colours.
fn said(screen: &Screen) -> String {
    let text = format!("{}{}", screen.stdout, screen.stderr);
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain.push_str(before);
        rest = after.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, after)| after);
    }
    plain + rest
}

#[test]
fn the_component_publishes_and_later_jobs_get_its_outputs() {
    let project = Project::new();
    let later = "\nlater:\n  stage: .post\n  script:\n    - echo \"got $INTEGRITY of $PUBLISHED_PACKAGES under $CORRELATION_ID until $EXPIRES_AT\"\n  rules:\n    - if: $CI_COMMIT_TAG\n";
    let screen = project.run(&format!("{}{later}", project.pipeline("")), "1.0.0", Some("gitlab"), &[]);
    let said = said(&screen);
    assert_eq!(screen.code, 0, "{said}");
    let got = said.lines().find(|line| line.contains("> got ")).unwrap_or_else(|| panic!("{said}"));
    for part in
        ["got sha512-", "\"name\":\"@acme/widget\"", "\"version\":\"1.0.0\"", "\"status\":\"published\""]
    {
        assert!(got.contains(part), "{part}: {got}");
    }
    assert!(!got.contains("under  until") && !got.ends_with("until "), "{got}");
    assert!(is_there(&project.world, "1.0.0"));
}

/// The README's `protected-verify`, on what the README's `protected-publish` published.
#[test]
fn the_verify_component_verifies_a_version_and_fails_on_another_s() {
    let project = Project::new();
    let published = project.run(&project.pipeline(""), "1.0.0", Some("gitlab"), &[]);
    assert_eq!(published.code, 0, "{}", said(&published));
    let commit = project.git("component", &["rev-parse", "HEAD"]);
    let blocks = blocks(&root().join(README), "yaml");
    let block = blocks.iter().find(|block| block.contains("/protected-verify@")).expect("an example");
    let later = "\nlater:\n  stage: .post\n  script:\n    - echo \"verified $VERIFIED level $SLSA_BUILD_LEVEL of $INTEGRITY\"\n  rules:\n    - if: $CI_COMMIT_TAG\n";
    let pipeline = block
        .replace(&"0".repeat(40), &commit)
        .replace("https://fractalops.example", &project.world.base())
        .replace("project: core", &format!("project: example\n      cli-path: {CLI}"))
        .replace("@acme/core@1.2.3", "@acme/widget@1.0.0")
        + later;
    let folder = project.world.package("@acme/widget", "1.0.0");
    crate::write_policy(&project.world, &folder, "gitlab-ci", "22");
    let screen = project.run(&pipeline, "1.0.0", Some("gitlab"), &[]);
    let text = said(&screen);
    assert_eq!(screen.code, 0, "{text}");
    assert!(text.contains("verified true level ") && text.contains(" of sha512-"), "{text}");
    for check in ["signature", "identity", "log", "provenance", "registry key"] {
        assert!(text.contains(&format!("  ok       {check}")), "{check}:\n{text}");
    }

    crate::write_policy(&project.world, &folder, "gitlab-ci", "23");
    let screen = project.run(&pipeline, "1.0.0", Some("gitlab"), &[]);
    let text = said(&screen);
    assert_ne!(screen.code, 0, "{text}");
    assert!(text.contains("@acme/widget@1.0.0 is not verified: identity"), "{text}");
    assert!(!text.contains("verified true"), "{text}");
}

/// The README's `protected-deliver` of the build at `built`, whose key service takes the second ID token; a later job has
/// the outputs and opens the delivery.
fn delivering(project: &Project, bao: &Bao, built: &Path) -> String {
    let commit = project.git("component", &["rev-parse", "HEAD"]);
    let blocks = blocks(&root().join(README), "yaml");
    let block = |part: &str| blocks.iter().find(|block| block.contains(part)).expect("an example");
    let deliver = [block("/protected-deliver@").as_str(), block("BAO_ADDR").as_str()]
        .concat()
        .replace(&"0".repeat(40), &commit)
        .replace("https://fractalops.example", &project.world.base())
        .replace("project: core", &format!("project: example\n      cli-path: {CLI}"))
        .replace("artifact: build", &format!("artifact: {}", built.display()))
        .replace("https://bao.example:8200", &format!("http://{}", bao.address));
    let later = format!(
        r#"
later:
  stage: .post
  variables:
    PROTECTED_REGISTRY_OPENBAO_ROLE: globex
  script:
    - echo "got $BUNDLE_ID at $BUNDLE_MANIFEST under $CORRELATION_ID"
    - {CLI} open-bundle "$(dirname "$BUNDLE_MANIFEST")" --out opened
  rules:
    - if: $CI_COMMIT_TAG
"#
    );
    deliver + &later
}

#[test]
fn the_deliver_component_seals_what_was_published_and_its_customer_opens_it() {
    let project = Project::new();
    let world = &project.world;
    let bao = key_service::start(world, "gitlab-ci", &json!({"project_id": "22"}));
    let screen = project.run(&project.pipeline("      out: build\n"), "1.0.0", Some("gitlab"), &[]);
    assert_eq!(screen.code, 0, "{}", said(&screen));
    let built = project.path("build");
    fs::rename(project.path("project/build"), &built).expect("rename");

    let pipeline = delivering(&project, &bao, &built);
    let screen = project.run(&pipeline, "1.0.0", Some("gitlab"), &[]);
    let text = said(&screen);
    assert_eq!(screen.code, 0, "{text}");
    let got = text.lines().find(|line| line.contains("> got ")).unwrap_or_else(|| panic!("{text}"));
    let place = "/protected-delivery/globex/acme-widget-1.0.0/delivery-manifest.json under ";
    assert!(got.contains(place) && !got.contains("got  at") && !got.ends_with("under "), "{got}");
    assert!(text.contains("@acme/widget@1.0.0 for globex, from example of acme: delivery "), "{text}");
    assert_eq!(deliveries(world), 1);

    // What may not be sealed is not, and no key that is pasted is repeated.
    let raw = "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=";
    let key = "key-ref: openbao://transit/globex";
    let alone = "customer: globex\n      no-submit: true\n      tenant: acme";
    for (identity, from, to, why) in [
        (Some("stranger"), "", "", "project_id"),
        (Some("stranger"), "customer: globex", alone, "claim \"project_id\" does not match"),
        (None, "", "", "id_tokens:"),
        (None, "customer: globex", alone, "KEY_SERVICE_ID_TOKEN"),
        (Some("gitlab"), "project: example", "project: other", "no access to project `other`"),
        (Some("gitlab"), key, &*format!("key-ref: {raw}"), "the key of the delivery"),
        (Some("gitlab"), key, "key-ref: local-file://globex", "which is refused in CI"),
        (Some("gitlab"), "customer: globex", "customer: Globex Inc", "PROTECTED_REGISTRY_CUSTOMER"),
        (
            Some("gitlab"),
            "customer: globex",
            "customer: globex\n      to: ftp://x/y",
            "the delivery area to store in",
        ),
        (
            Some("gitlab"),
            "customer: globex",
            "customer: globex\n      version: 9.9.9",
            "@acme/widget@9.9.9 was to be",
        ),
        (Some("gitlab"), "customer: globex", "customer: globex\n      one-file: perhaps", "one-file"),
    ] {
        let screen = project.run(&pipeline.replace(from, to), "1.0.0", identity, &[]);
        let text = said(&screen);
        assert_ne!(screen.code, 0, "{to}\n{text}");
        assert!(text.contains(why), "{to}: {why}\n{text}");
        assert!(!text.contains(raw) && !text.contains("> got "), "{to}\n{text}");
    }
    assert_eq!(deliveries(world), 1);
}

#[test]
fn a_refusal_shows_the_rules_and_fails_the_job() {
    let project = Project::new();
    let screen = project.run(&project.pipeline(""), "1.0.0", Some("stranger"), &[]);
    let said = said(&screen);
    assert_ne!(screen.code, 0, "{said}");
    for part in ["project_id", "`22`", "`23`", "correlation id: "] {
        assert!(said.contains(part), "the log should say `{part}`:\n{said}");
    }
    assert!(!is_there(&project.world, "1.0.0"));
}

#[test]
fn a_dry_run_publishes_nothing() {
    let project = Project::new();
    let screen = project.run(&project.pipeline("      dry-run: true\n"), "1.0.0", Some("gitlab"), &[]);
    assert_eq!(screen.code, 0, "{}", said(&screen));
    assert!(said(&screen).contains("this was a dry run"), "{}", said(&screen));
    assert!(!is_there(&project.world, "1.0.0"));
}

#[test]
fn a_job_without_an_id_token_is_told_how_to_get_one() {
    let project = Project::new();
    let screen = project.run(&project.pipeline(""), "1.0.0", None, &[]);
    assert_ne!(screen.code, 0, "{}", said(&screen));
    assert!(said(&screen).contains("id_tokens:"), "{}", said(&screen));
}

/// Attack: whoever opens a merge request chooses what its pipeline runs, and would have the ID token of the project.
#[test]
fn a_merge_request_s_pipeline_has_no_such_job() {
    let project = Project::new();
    let jobs = |arguments: &[&str]| {
        let screen = project.run(&project.pipeline(""), "1.0.0", None, &[&["--list"], arguments].concat());
        assert_eq!(screen.code, 0, "{}", said(&screen));
        said(&screen)
    };
    let is_listed = |text: &str| {
        text.lines().any(|line| line.starts_with("protected-publish") && !line.contains("never"))
    };
    assert!(is_listed(&jobs(&[])), "a tag's pipeline has it");
    for source in ["merge_request_event", "external_pull_request_event"] {
        let listed = jobs(&["--variable", &format!("CI_PIPELINE_SOURCE={source}")]);
        assert!(!is_listed(&listed), "{source}:\n{listed}");
    }
}

#[test]
fn odd_inputs_are_refused_before_a_pipeline_exists() {
    let project = Project::new();
    for inputs in ["      package: not a name\n", "      with: bun\n", "      dry-run: perhaps\n"] {
        let screen = project.run(&project.pipeline(inputs), "1.0.0", None, &["--list"]);
        assert_ne!(screen.code, 0, "{inputs}:\n{}", said(&screen));
    }
}

#[test]
fn every_setting_of_the_command_is_an_input_and_reaches_it() {
    for (template, command, heading) in COMPONENTS {
        let documents = yaml(&root().join(template));
        let inputs = documents[0]["spec"]["inputs"].as_object().expect("inputs");
        let of_the_command: BTreeSet<String> =
            inputs.keys().filter(|name| !ABOUT_THE_JOB.contains(&name.as_str())).cloned().collect();
        assert_eq!(of_the_command, settings(command).into_iter().collect(), "{template}");
        let job = &documents[1]["$[[ inputs.as ]]"];
        for name in of_the_command.iter().map(String::as_str).chain(["cli-path"]) {
            assert_eq!(job["variables"][variable(name)], format!("$[[ inputs.{name} ]]"), "{name}");
        }
        assert_eq!(job["variables"].as_object().expect("variables").len(), of_the_command.len() + 2);
        for (token, input) in [
            ("FRACTALOPS_ID_TOKEN", "audience"),
            ("SIGSTORE_ID_TOKEN", "signing-audience"),
            ("KEY_SERVICE_ID_TOKEN", "key-audience"),
        ] {
            let expected = inputs.get(input).map_or(Value::Null, |_| format!("$[[ inputs.{input} ]]").into());
            assert_eq!(job["id_tokens"][token]["aud"], expected, "{template}: {token}");
        }
        let script = job["script"].to_string();
        assert!(!script.contains("$[["), "no input stands in the script: {script}");

        let rows = table(&root().join(README), heading);
        assert_eq!(rows.len(), inputs.len(), "{heading}");
        for row in rows {
            let input = inputs.get(&row[0]).unwrap_or_else(|| panic!("no input {}", row[0]));
            assert_eq!(input["description"], row[1], "{}", row[0]);
            let default = match &input["default"] {
                Value::Null => "required".to_owned(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(default, row[2], "{}", row[0]);
        }
    }
}

/// A component is two documents; the schema is that of one.
#[test]
fn static_checks() {
    let folder = tempfile::tempdir().expect("folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("write");
        vec![path]
    };
    let schema = |files: &[PathBuf]| {
        let arguments = ["--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"];
        check("python/bin/check-jsonschema", &arguments, files)
    };
    for (template, ..) in COMPONENTS {
        let text = fs::read_to_string(root().join(template)).expect("template");
        let (spec, job) = text.split_once("\n---\n").expect("two documents");
        schema(&file("spec.yml", spec)).is_content();
        schema(&file("job.yml", job)).is_content();
    }
    for (number, block) in blocks(&root().join(README), "yaml").iter().enumerate() {
        schema(&file(&format!("readme-{number}.yml"), block)).is_content();
    }
    schema(&file("bad.yml", "a:\n  script: x\n  retry: 9\n")).complains("retry");
    let lint = ["--strict", "--config-file", ".yamllint"];
    check("python/bin/yamllint", &lint, &COMPONENTS.map(|(template, ..)| root().join(template))).is_content();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("folder");
    for entry in fs::read_dir(from).expect("folder") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("kind").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copy");
        }
    }
}
