//! Real runs: what the READMEs show, and what happens when it may not.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    act::Job,
    harness::{Setup, World, github_run},
    suite::{path_with, root},
};

/// A world whose run `fork` is the right repository with the wrong environment and branch.
fn world() -> World {
    World::with(Setup {
        more: github_run("stranger", &[("environment", "staging"), ("ref", "refs/heads/feature")]),
        ..Setup::default()
    })
}

/// How many versions the registry took.
pub(crate) fn published(world: &World) -> usize {
    world.count("registry.publish", "allow", None)
}

#[test]
fn the_one_step_publishes_and_the_install_action_installs() {
    let job = Job::new(world());
    let source = job.world.package("@acme/core", "1.2.3");
    let run = job.run(&job.workflow("actions/README.md"), &source);
    run.succeeded();

    let packages: Value =
        serde_json::from_str(&run.output("publish", "published-packages").expect("output")).expect("JSON");
    assert_eq!(packages[0]["name"], "@acme/core");
    assert_eq!(packages[0]["version"], "1.2.3");
    assert_eq!(packages[0]["status"], "published");
    let integrity = run.output("publish", "integrity").expect("output");
    assert!(integrity.starts_with("sha512-") && packages[0]["integrity"] == *integrity, "{integrity}");
    assert!(run.output("publish", "correlation-id").is_some_and(|id| !id.is_empty()), "{}", run.story());
    assert!(run.output("publish", "expires-at").is_some_and(|time| time.ends_with('Z')), "{}", run.story());
    assert!(
        run.output("publish", "build-manifest").is_some_and(|path| path.ends_with("build-manifest.json"))
    );
    assert!(
        run.summary().contains("@acme/core@1.2.3") && run.summary().contains(&integrity),
        "{}",
        run.summary()
    );
    assert!(run.errors().is_empty(), "{}", run.story());
    assert_eq!(published(&job.world), 1);

    let empty = job.world.path("work/consumer");
    fs::create_dir_all(&empty).expect("folder");
    fs::write(empty.join("package.json"), "{\"name\": \"consumer\", \"private\": true}").expect("write");
    let workflow = job.workflow("actions/install/README.md").replace(
        "node -e 'require(\"@acme/core\")'",
        "node -e 'console.log(\"sum \" + require(\"@acme/core\").addSecretly(1, 0))'",
    );
    assert!(workflow.contains("addSecretly"), "the README's last step is what this test replaces");
    let run = job.run(&workflow, &empty);
    run.succeeded();
    assert!(run.printed().contains("sum 42"), "{}", run.story());
}

#[test]
fn publishing_again_is_told_and_changes_nothing() {
    let job = Job::new(world());
    let source = job.world.package("@acme/core", "1.0.0");
    let workflow = job.workflow("actions/publish/README.md");
    let first = job.run(&workflow, &source);
    first.succeeded();
    let again = job.run(&workflow, &source);
    again.succeeded();
    let packages = again.output("publish", "published-packages").expect("output");
    assert!(packages.contains("\"already-published\""), "{packages}");
    assert_eq!(first.output("publish", "integrity"), again.output("publish", "integrity"));

    fs::write(source.join("src/index.ts"), "export const other = 1;\n").expect("write");
    let other = job.run(&workflow, &source);
    other.failed();
    let errors = other.errors().join("\n");
    assert!(
        errors.contains("1.0.0") && errors.contains("sha512-"),
        "both sides of the mismatch:\n{}",
        other.story()
    );
}

#[test]
fn a_refusal_is_an_annotation_and_a_table_in_the_summary() {
    let mut job = Job::new(world());
    job.identity = Some("stranger");
    let source = job.world.package("@acme/core", "1.0.0");
    let run = job.run(&job.workflow("actions/README.md"), &source);
    run.failed();
    let errors = run.errors().join("\n");
    assert!(errors.contains("correlation id: "), "{}", run.story());
    let summary = run.summary();
    for part in ["publish failed", "environment", "`release`", "`staging`", "Nearest match", "Correlation id"]
    {
        assert!(summary.contains(part), "the summary should say `{part}`:\n{summary}");
    }
    assert!(run.output("publish", "published-packages").unwrap_or_default().is_empty(), "{}", run.story());
    assert_eq!(published(&job.world), 0);
}

#[test]
fn a_job_without_the_permission_is_told_the_permission() {
    let mut job = Job::new(world());
    job.identity = None;
    let source = job.world.package("@acme/core", "1.0.0");
    let run = job.run(&job.workflow("actions/README.md"), &source);
    run.failed();
    assert!(run.errors().join("\n").contains("id-token: write"), "{}", run.story());
    assert!(run.summary().contains("id-token: write"), "{}", run.summary());
    assert!(run.story().contains("exit status 3"), "{}", run.story());
}

#[test]
fn a_fork_s_pull_request_is_told_that_it_cannot_publish() {
    let mut job = Job::new(world());
    job.identity = None;
    job.event = (
        "pull_request",
        json!({
            "action": "opened",
            "number": 7,
            "pull_request": {
                "number": 7,
                "head": {"ref": "feature", "sha": "1".repeat(40), "repo": {"id": 9, "full_name": "evil/core", "fork": true}},
                "base": {"ref": "main", "sha": "2".repeat(40), "repo": {"id": 2, "full_name": "acme/core", "fork": false}},
            },
        }),
    );
    let source = job.world.package("@acme/core", "1.0.0");
    let workflow = job.workflow("actions/README.md").replace("push:\n    tags: [\"v*\"]", "pull_request:");
    let run = job.run(&workflow, &source);
    run.failed();
    let errors = run.errors().join("\n");
    assert!(errors.contains("fork"), "{}", run.story());
    assert!(!errors.contains("id-token: write"), "a permission would not help a fork:\n{errors}");
    assert_eq!(published(&job.world), 0);
}

#[test]
fn a_dry_run_decides_and_publishes_nothing() {
    let job = Job::new(world());
    let source = job.world.package("@acme/core", "1.0.0");
    let workflow = job
        .workflow("actions/README.md")
        .replace("project: example", "project: example\n          dry-run: true");
    let run = job.run(&workflow, &source);
    run.succeeded();
    assert!(run.summary().contains("Dry run: @acme/core@1.0.0"), "{}", run.summary());
    assert!(run.output("publish", "published-packages").unwrap_or_default().is_empty(), "{}", run.story());
    assert_eq!(published(&job.world), 0);
    let mut stranger = Job::new(world());
    stranger.identity = Some("stranger");
    let source = stranger.world.package("@acme/core", "1.0.0");
    let workflow = stranger
        .workflow("actions/README.md")
        .replace("project: example", "project: example\n          dry-run: true");
    stranger.run(&workflow, &source).failed();
}

#[test]
fn a_build_is_kept_by_the_next_step() {
    let mut job = Job::new(world());
    let artifacts = job.world.path("artifacts");
    job.variables.push(("ARTIFACTS", artifacts.display().to_string()));
    let source = job.world.package("@acme/core", "1.0.0");
    let workflow =
        job.workflow("actions/protect-build/README.md").replace("branches: [main]", "tags: [\"v*\"]");
    let run = job.run(&workflow, &source);
    run.succeeded();
    let kept = crate::harness::files(&artifacts.join("protected-build"));
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(kept[0].extension().is_some_and(|extension| extension == "tgz"), "{kept:?}");
    assert!(run.output("build", "integrity").is_some_and(|it| it.starts_with("sha512-")), "{}", run.story());
    assert_eq!(published(&job.world), 0);
}

#[test]
fn the_workflow_s_own_variables_count_where_an_input_is_left_out() {
    let mut job = Job::new(world());
    job.variables.push(("PROTECTED_REGISTRY_DRY_RUN", "true".to_owned()));
    job.variables.push(("FRACTALOPS_BASE_URL", job.world.base()));
    job.variables.push(("PROTECTED_REGISTRY_PROJECT", "other".to_owned()));
    let source = job.world.package("@acme/core", "1.0.0");
    let workflow = job.workflow("actions/README.md");
    let workflow: String = workflow
        .lines()
        .filter(|line| !line.contains("fractalops-url:"))
        .map(|line| format!("{line}\n"))
        .collect();
    let run = job.run(&workflow, &source);
    run.succeeded();
    assert!(run.summary().contains("Dry run"), "{}", run.summary());
}

/// The README's workflow, on a version that was published, with whom to believe and what to demand in the repository.
#[test]
fn the_verify_action_verifies_a_version_and_fails_on_another_s() {
    let mut job = Job::new(world());
    let source = job.world.package("@acme/core", "1.0.0");
    job.world.cli_in(&source, &["publish"]).succeeded();
    job.event = ("workflow_dispatch", json!({ "inputs": { "package": "@acme/core@1.0.0" } }));
    let repository = job.world.path("work/consumer");
    fs::create_dir_all(&repository).expect("folder");
    let (status, root) = job.world.request("GET", "/sigstore/trusted_root.json", None, &[], b"");
    assert_eq!(status, 200);
    fs::write(repository.join("trusted_root.json"), root).expect("write");
    let policy = |repository_id: &str| {
        format!(
            "require = [\"provenance\"]\n\n[identity]\nissuer = \"{}/local-issuer/github-actions\"\nrepository-id = \"{repository_id}\"\n",
            job.world.base()
        )
    };
    fs::write(repository.join("verify-policy.toml"), policy("2002")).expect("write");
    let workflow = job.workflow("actions/verify/README.md").replacen(
        "      - name: Verify\n",
        "      - name: Verify\n        id: verify\n",
        1,
    );
    let signed = workflow.replace(
        "trusted-root: trusted_root.json",
        "trusted-root: trusted_root.json\n          summary: vsa.json\n          sign: auto\n      - name: Show\n        run: cat vsa.sigstore.json",
    );
    assert!(signed.contains("sign: auto") && signed.contains("id: verify"), "{signed}");
    let run = job.run(&signed, &repository);
    run.succeeded();
    assert_eq!(run.output("verify", "verified").as_deref(), Some("true"), "{}", run.story());
    assert_eq!(run.output("verify", "slsa-build-level").as_deref(), Some("2"), "{}", run.story());
    assert!(run.output("verify", "integrity").is_some_and(|it| it.starts_with("sha512-")), "{}", run.story());
    let bundle = run.output("verify", "summary-bundle").expect("output");
    assert!(bundle.ends_with("vsa.sigstore.json"), "{bundle}");
    assert!(run.printed().contains("vnd.dev.sigstore.bundle.v0.3+json"), "{}", run.story());
    assert!(run.summary().contains("✅ @acme/core@1.0.0 verified"), "{}", run.summary());
    assert!(run.errors().is_empty(), "{}", run.story());

    // Whoever else built it.
    fs::write(repository.join("verify-policy.toml"), policy("2003")).expect("write");
    let run = job.run(&workflow, &repository);
    run.failed();
    assert_eq!(run.output("verify", "verified").as_deref(), Some("false"), "{}", run.story());
    assert!(
        run.errors().join("\n").contains("@acme/core@1.0.0 is not verified: identity"),
        "{}",
        run.story()
    );
    let summary = run.summary();
    assert!(summary.contains("❌ @acme/core@1.0.0 not verified") && summary.contains("`2003`"), "{summary}");
    assert!(run.story().contains("exit status 8"), "{}", run.story());

    // A version that is not there is read by nobody, and no token is left.
    job.event = ("workflow_dispatch", json!({ "inputs": { "package": "@acme/core@9.9.9" } }));
    let run = job.run(&workflow, &repository);
    run.failed();
    assert!(run.errors().join("\n").contains("no such version"), "{}", run.story());
}

/// Attack: an input that a pull request or a tag name chooses is run as a script.
#[test]
fn an_input_is_never_run() {
    let job = Job::new(world());
    let source = job.world.package("@acme/core", "1.0.0");
    let canary = job.world.path("work/canary");
    for (input, value) in [
        ("package", "$(touch CANARY)"),
        ("tag", "x'; touch CANARY; '"),
        ("tag", "x\\\"; touch CANARY; \\\""),
        ("source", "`touch CANARY`"),
        ("tag", "x\\ntouch CANARY\\n::error::stop"),
        ("tag", "x\\n##[error]stop"),
    ] {
        let value = value.replace("CANARY", &canary.display().to_string());
        let workflow = job
            .workflow("actions/README.md")
            .replace("project: example", &format!("project: example\n          {input}: \"{value}\""));
        let run = job.run(&workflow, &source);
        run.failed();
        assert!(!canary.exists(), "{input}: {value} was run");
        assert_eq!(run.errors().len(), 1, "one error, and none that the input made:\n{}", run.story());
    }
    assert_eq!(published(&job.world), 0);
}

/// A cancelled job's signal goes to the process that the runner started: that has to be the binary.
#[test]
fn the_binary_takes_the_shell_s_place() {
    let folder = tempfile::tempdir().expect("folder");
    let binary = folder.path().join("protected-registry");
    fs::write(&binary, "#!/bin/sh\necho $$ $*\n").expect("write");
    executable(&binary);
    let child = Command::new("bash")
        .args(["--noprofile", "--norc", "-e", "-o", "pipefail", "-c"])
        .arg("exec bash \"$GITHUB_ACTION_PATH/../lib/run.sh\" publish")
        .env("GITHUB_ACTION_PATH", root().join("actions/publish"))
        .env("PROTECTED_REGISTRY_CLI_PATH", &binary)
        .stdout(Stdio::piped())
        .spawn()
        .expect("bash");
    let expected = format!("{} publish", child.id());
    let output = child.wait_with_output().expect("output");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected);
}

#[test]
fn a_missing_binary_is_told() {
    let folder = tempfile::tempdir().expect("folder");
    let folder_text = folder.path().to_str().expect("path");
    let run = |cli_path: &str| {
        let output = Command::new("bash")
            .arg(root().join("actions/lib/run.sh"))
            .arg("publish")
            .env("PATH", path_with(&[]))
            .env("PROTECTED_REGISTRY_CLI_PATH", cli_path)
            .output()
            .expect("bash");
        (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
    };
    for (cli_path, why) in
        [("", "is not on this runner"), ("/does/not/exist", "cannot be run"), (folder_text, "cannot be run")]
    {
        let (code, said) = run(cli_path);
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.starts_with("::error title=") && said.contains(why) && said.contains("%0Ahint: "),
            "{said}"
        );
    }
    let (_, said) = run("/x\n::warning::y");
    assert_eq!(said.lines().count(), 1, "no second command: {said}");
}

fn executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
}
