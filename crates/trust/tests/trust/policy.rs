//! Which run is which publisher: vectors that are nearly right, and the advice that goes with them.

use proptest::prelude::*;
use protected_model::{
    action::Action,
    api::problem::RuleResult,
    identity::{PlatformKind, RunIdentity},
};
use protected_trust::{
    issuer::Issuers,
    policy::{Nearest, TrustedPublisher, walk},
};
use serde_json::{Value, json};

use crate::support::{
    GITHUB, RSA, github_claims, gitlab_claims, jenkins_claims, now, static_issuer, verify_at, with,
};

const GHES: &str = "https://ghes.example/_services/token";
const GITLAB: &str = "https://gitlab.example";
const JENKINS: &str = "https://ci.example/oidc";
const LOGIN: &str = "https://login.example";

/// Returns what the claims of a verified token become: through the verification itself.
async fn identity_of(claims: &Value) -> RunIdentity {
    let issuers: Issuers = [
        (GITHUB, PlatformKind::GithubActions),
        (GHES, PlatformKind::GithubActions),
        (GITLAB, PlatformKind::GitlabCi),
        (JENKINS, PlatformKind::Jenkins),
        (LOGIN, PlatformKind::Generic),
    ]
    .into_iter()
    .map(|(url, platform)| static_issuer(url, platform, &[RSA.jwk()]))
    .collect();
    verify_at(&RSA.sign(claims), &issuers, now())
        .await
        .unwrap_or_else(|error| panic!("{error}: {claims}"))
        .identity
}

fn run(claims: &Value) -> RunIdentity {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime")
        .block_on(identity_of(claims))
}

fn github_run(changes: Value) -> RunIdentity {
    run(&with(github_claims(), changes))
}

fn gitlab_run(changes: Value) -> RunIdentity {
    run(&with(gitlab_claims(), changes))
}

fn publisher(table: Value) -> TrustedPublisher {
    let common = json!({
        "id": "acme-core-release", "tenant_id": "acme", "project_slug": "core",
        "packages": ["@acme/core"], "actions": ["publish"],
    });
    serde_json::from_value(with(common, table)).expect("publisher")
}

fn github(changes: Value) -> TrustedPublisher {
    let rules = json!({
        "repository_owner_id": "2002", "repository_id": "1001", "repository": "acme/core",
        "workflow": "release.yml", "environment": "npm",
    });
    publisher(json!({"issuer": GITHUB, "github": with(rules, changes)}))
}

fn gitlab(changes: Value) -> TrustedPublisher {
    let rules = json!({
        "namespace_id": "22", "project_id": "11", "project_path": "acme/core", "ci_config_path": ".gitlab-ci.yml",
        "environment": "npm",
    });
    publisher(json!({"issuer": GITLAB, "gitlab": with(rules, changes)}))
}

fn jenkins(job_url: &str) -> TrustedPublisher {
    publisher(json!({"issuer": JENKINS, "jenkins": {"job_url": job_url}}))
}

fn generic(subject: &str) -> TrustedPublisher {
    publisher(json!({"issuer": LOGIN, "generic": {"subject": subject}}))
}

fn matches(publisher: &TrustedPublisher, run: &RunIdentity) -> bool {
    let walk = walk([publisher], run);
    for matched in &walk.matched {
        assert!(matched.rules.iter().all(|rule| rule.ok));
    }
    assert!(walk.matched.is_empty() || walk.nearest.is_none());
    !walk.matched.is_empty()
}

fn failed<'a>(nearest: &'a Nearest<'_>) -> Vec<&'a str> {
    nearest.rules.iter().filter(|rule| !rule.ok).map(|rule| rule.claim.as_str()).collect()
}

/// Asserts that a run is not the publisher, because of exactly these claims, and with this advice.
fn refused(publisher: &TrustedPublisher, run: &RunIdentity, claims: &[&str], advice: &str) {
    let walk = walk([publisher], run);
    assert!(walk.matched.is_empty(), "matched although {claims:?}");
    let nearest = walk.nearest.expect("the nearest");
    assert_eq!(failed(&nearest), claims);
    let hint = nearest.hint.as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(hint.contains(advice) && (hint.is_empty() == advice.is_empty()), "{hint}");
}

#[test]
fn a_github_run_is_its_publisher() {
    let publisher = github(json!({}));
    assert_eq!(publisher.validate(), Ok(()));
    assert_eq!(publisher.platform(), Some(PlatformKind::GithubActions));
    let run = github_run(json!({}));
    let walk = walk([&publisher], &run);
    let rules: Vec<&RuleResult> = walk.matched[0].rules.iter().collect();
    let claims: Vec<_> = rules.iter().map(|rule| rule.claim.as_str()).collect();
    let all = [
        "iss",
        "iss",
        "repository_owner_id",
        "repository_id",
        "repository",
        "workflow_ref",
        "job_workflow_ref",
        "event_name",
        "ref",
        "environment",
    ];
    assert_eq!(claims, all);
    assert_eq!(rules[2].expected, "2002");
    assert_eq!(rules[2].actual.as_deref(), Some("2002"));
    let strict = github(json!({
        "ref_pattern": "refs/heads/main", "ref_protected": true, "runner_environment": "github-hosted",
        "events": ["push"],
    }));
    assert_eq!(strict.validate(), Ok(()));
    assert!(matches(&strict, &run));
}

#[test]
fn every_rule_is_looked_at() {
    let run = github_run(json!({
        "repository_owner_id": "9", "workflow_ref": "acme/core/.github/workflows/ci.yml@refs/heads/x",
        "event_name": "pull_request_target", "environment": null, "ref": "refs/heads/x", "ref_protected": "false",
        "runner_environment": "self-hosted",
    }));
    let publisher = github(json!({
        "ref_pattern": "refs/heads/main", "ref_protected": true, "runner_environment": "github-hosted",
    }));
    let walk = walk([&publisher], &run);
    let nearest = walk.nearest.expect("the nearest");
    let all = [
        "repository_owner_id",
        "workflow_ref",
        "job_workflow_ref",
        "event_name",
        "ref",
        "ref_protected",
        "environment",
        "runner_environment",
    ];
    assert_eq!(failed(&nearest), all);
    let environment = nearest.rules.iter().find(|rule| rule.claim == "environment").expect("the rule");
    assert_eq!((environment.expected.as_str(), environment.actual.as_deref()), ("npm", None));
}

#[test]
fn only_the_publishers_own_issuer_speaks_for_it() {
    // A self-managed instance whose repositories have any ids that its owner likes.
    let forged = github_run(json!({ "iss": GHES }));
    assert!(!matches(&github(json!({})), &forged));
    // Nor does the other way round, nor the nearest tell one about the other.
    assert!(walk([&github(json!({}))], &forged).nearest.is_none());
    let mut own = github(json!({}));
    own.issuer = GHES.to_owned();
    assert!(matches(&own, &forged) && !matches(&own, &github_run(json!({}))));
    for issuer in
        ["https://token.actions.githubusercontent.com/", "https://TOKEN.actions.githubusercontent.com", ""]
    {
        own.issuer = issuer.to_owned();
        assert!(!matches(&own, &github_run(json!({}))), "{issuer}");
    }
}

#[test]
fn rules_of_another_platform_are_none() {
    let mut publisher = github(json!({}));
    publisher.issuer = GITLAB.to_owned();
    let mut run = gitlab_run(json!({}));
    // Even if every field were right.
    let template = github_run(json!({}));
    run = RunIdentity { platform: run.platform, issuer: run.issuer, ..template };
    refused(&publisher, &run, &["iss"], "");
}

#[test]
fn ids_decide_and_names_are_checked_as_well() {
    let publisher = github(json!({}));
    refused(
        &publisher,
        &github_run(json!({"repository_id": "9"})),
        &["repository_id"],
        "deleted and made again",
    );
    refused(
        &publisher,
        &github_run(json!({"repository_owner_id": "9", "repository_id": "9"})),
        &["repository_owner_id", "repository_id"],
        "deleted and made again",
    );
    refused(
        &publisher,
        &github_run(json!({"repository_owner_id": "9"})),
        &["repository_owner_id"],
        "another owner",
    );
    let renamed = github_run(json!({
        "repository": "acme/kernel", "workflow_ref": "acme/kernel/.github/workflows/release.yml@refs/heads/main",
        "job_workflow_ref": "acme/kernel/.github/workflows/release.yml@refs/heads/main",
    }));
    refused(&publisher, &renamed, &["repository"], "renamed");
    assert!(matches(&github(json!({"repository": null})), &renamed), "without the name, the ids are enough");
    for (claim, value) in [
        ("repository_id", json!(null)),
        ("repository_owner_id", json!("")),
        ("repository_id", json!("01001")),
    ] {
        assert!(!matches(&publisher, &github_run(json!({claim: value}))), "{claim} {value}");
    }
    // GitHub itself does not look at the case of names.
    let shouted = github_run(json!({
        "repository": "Acme/Core", "environment": "NPM",
        "workflow_ref": "ACME/core/.github/workflows/release.yml@refs/heads/main",
        "job_workflow_ref": "ACME/core/.github/workflows/release.yml@refs/heads/main",
    }));
    assert!(matches(&publisher, &shouted));
}

#[test]
fn workflow_refs() {
    let publisher =
        |file: &str| github(json!({"workflow": file, "environment": null, "ref_protected": false}));
    let run = |workflow_ref: &str, git_ref: &str| {
        github_run(json!({"workflow_ref": workflow_ref, "job_workflow_ref": workflow_ref, "ref": git_ref}))
    };
    // File names with dots and dashes, and branches that look like workflows: the vectors that other registries have.
    for (file, git_ref) in [
        ("basic.yml", "refs/heads/main"),
        ("basic.yaml", "refs/heads/main"),
        ("has-dash.yml", "refs/heads/main"),
        ("has--dashes-.yml", "refs/heads/main"),
        ("has..periods..yml", "refs/heads/main"),
        ("has_underscore.yml", "refs/heads/main"),
        ("foo.yml.foo.yml", "refs/heads/main"),
        ("basic.yml", "refs/heads/misleading@branch.yml"),
        ("basic.yml", "refs/heads/bad@branch@twomatches.yml"),
        ("basic.yml", "refs/heads/x@evil/.github/workflows/evil.yml"),
        ("basic.yml", "refs/tags/v1.0.0"),
    ] {
        let run = run(&format!("acme/core/.github/workflows/{file}@{git_ref}"), git_ref);
        assert!(matches(&publisher(file), &run), "{file} {git_ref}");
        assert!(!matches(&publisher("other.yml"), &run), "{file} {git_ref}");
    }
    for (workflow_ref, git_ref) in [
        // Another file, with ours in its name or in the branch's.
        ("acme/core/.github/workflows/evil.yml@refs/heads/x@basic.yml", "refs/heads/x@basic.yml"),
        (
            "acme/core/.github/workflows/evil.yml@refs/heads/x/.github/workflows/basic.yml@y",
            "refs/heads/x/.github/workflows/basic.yml@y",
        ),
        ("acme/core/.github/workflows/basic.yml@evil.yml@refs/heads/main", "refs/heads/main"),
        ("acme/core/.github/workflows/evil.yml@basic.yml@refs/heads/main", "refs/heads/main"),
        ("acme/core/.github/workflows/basic.yml@refs/heads/main.yml@refs/heads/main", "refs/heads/main"),
        ("acme/core/.github/workflows/xbasic.yml@refs/heads/main", "refs/heads/main"),
        ("acme/core/.github/workflows/basic.yml.yml@refs/heads/main", "refs/heads/main"),
        ("acme/core/.github/workflows/Basic.yml@refs/heads/main", "refs/heads/main"),
        ("acme/core/.github/workflows/sub/basic.yml@refs/heads/main", "refs/heads/main"),
        ("acme/core/.github/workflows/../basic.yml@refs/heads/main", "refs/heads/main"),
        ("acme/core/.github/workflows/basic.wrongsuffix@refs/heads/main", "refs/heads/main"),
        ("acme/core/.github/workflows/@refs/heads/main", "refs/heads/main"),
        ("acme/core/.github/workflows/.yml@refs/heads/main", "refs/heads/main"),
        ("acme/core/.github/workflows/basic.yml", "refs/heads/main"),
        ("acme/core/.github/basic.yml@refs/heads/main", "refs/heads/main"),
        ("acme/core/basic.yml@refs/heads/main", "refs/heads/main"),
        ("basic.yml@refs/heads/main", "refs/heads/main"),
        ("", "refs/heads/main"),
        // Another repository's.
        ("evil/core/.github/workflows/basic.yml@refs/heads/main", "refs/heads/main"),
        ("acme/core2/.github/workflows/basic.yml@refs/heads/main", "refs/heads/main"),
        ("evil/acme/core/.github/workflows/basic.yml@refs/heads/main", "refs/heads/main"),
        ("acme/cor/.github/workflows/basic.yml@refs/heads/main", "refs/heads/main"),
        // Another ref than the run's.
        ("acme/core/.github/workflows/basic.yml@refs/heads/other", "refs/heads/main"),
        ("acme/core/.github/workflows/basic.yml@main", "refs/heads/main"),
        ("acme/core/.github/workflows/basic.yml@refs/heads/main ", "refs/heads/main"),
    ] {
        assert!(!matches(&publisher("basic.yml"), &run(workflow_ref, git_ref)), "{workflow_ref}");
    }
    assert!(!matches(&publisher("basic.yml"), &github_run(json!({"workflow_ref": null}))));
    // Runs of a deployment have no ref, and the commit in its place.
    let commit = format!("acme/core/.github/workflows/basic.yml@{}", "a".repeat(40));
    assert!(matches(&publisher("basic.yml"), &run(&commit, "")));
}

#[test]
fn advice_about_the_workflow() {
    let started = |file: &str| {
        let workflow_ref = format!("acme/core/.github/workflows/{file}@refs/heads/main");
        github_run(json!({"workflow_ref": workflow_ref, "job_workflow_ref": workflow_ref}))
    };
    let publisher = github(json!({}));
    refused(&publisher, &started("release.yaml"), &["workflow_ref"], "`.yml` and `.yaml` are two names");
    refused(&publisher, &started("Release.yml"), &["workflow_ref"], "upper and lower case differ");
    refused(&publisher, &started("ci.yml"), &["workflow_ref"], "");
    refused(
        &publisher,
        &github_run(json!({
            "workflow_ref": "acme/core/.github/workflows/ci.yml@refs/heads/main",
            "job_workflow_ref": "acme/core/.github/workflows/release.yml@refs/heads/main",
        })),
        &["workflow_ref", "job_workflow_ref"],
        "reusable workflow that `ci.yml` calls",
    );
}

#[test]
fn reusable_workflows_are_pinned_or_refused() {
    let callee = "acme/shared/.github/workflows/publish.yml@refs/tags/v1";
    let run = |job: &str| github_run(json!({"job_workflow_ref": job}));
    refused(&github(json!({})), &run(callee), &["job_workflow_ref"], "pin it as `job_workflow_ref`");
    let pinned = |job: &str| github(json!({ "job_workflow_ref": job }));
    for pattern in [
        callee,
        "Acme/Shared/.github/workflows/publish.yml@refs/tags/v1",
        "acme/shared/.github/workflows/publish.yml@refs/tags/v*",
        "acme/shared/.github/workflows/publish.yml@refs/tags/*",
    ] {
        assert_eq!(pinned(pattern).validate(), Ok(()), "{pattern}");
        assert!(matches(&pinned(pattern), &run(callee)), "{pattern}");
    }
    for other in [
        "acme/shared/.github/workflows/publish.yml@refs/tags/v11",
        "acme/shared/.github/workflows/publish.yml@refs/heads/v1",
        "acme/shared/.github/workflows/Publish.yml@refs/tags/v1",
        "acme/shared/.github/workflows/publish.yml@evil.yml@refs/tags/v1",
        "acme/shared2/.github/workflows/publish.yml@refs/tags/v1",
        "evil/acme/shared/.github/workflows/publish.yml@refs/tags/v1",
        "acme/core/.github/workflows/release.yml@refs/heads/main",
        "",
    ] {
        assert!(!matches(&pinned(callee), &run(other)), "{other}");
    }
    let own_steps = github_run(json!({}));
    refused(&pinned(callee), &own_steps, &["job_workflow_ref"], "this job has its own steps");
    let sha = github(json!({"job_workflow_ref": callee, "job_workflow_sha": "c".repeat(40)}));
    assert_eq!(sha.validate(), Ok(()));
    assert!(!matches(&sha, &run(callee)));
    assert!(matches(
        &sha,
        &github_run(json!({"job_workflow_ref": callee, "job_workflow_sha": "c".repeat(40)}))
    ));
}

#[test]
fn events_of_strangers() {
    let publisher = github(json!({}));
    for event in ["push", "release", "workflow_dispatch", "schedule", "deployment", "merge_group"] {
        assert!(matches(&publisher, &github_run(json!({"event_name": event}))), "{event}");
    }
    for event in [
        "pull_request",
        "pull_request_target",
        "pull_request_review",
        "workflow_run",
        "issue_comment",
        "PUSH",
        "new_event",
    ] {
        let advice =
            if event.starts_with("pull_request") { "may come from a fork" } else { "start the workflow by" };
        refused(&publisher, &github_run(json!({"event_name": event})), &["event_name"], advice);
    }
    assert!(!matches(&publisher, &github_run(json!({"event_name": null}))));
    assert!(!matches(&publisher, &github_run(json!({"event_name": ["push"]}))));
    let pull = "acme/core/.github/workflows/release.yml@refs/pull/7/merge";
    let merge = json!({"ref": "refs/pull/7/merge", "workflow_ref": pull, "job_workflow_ref": pull});
    refused(&publisher, &github_run(merge.clone()), &["ref"], "");
    // Installing for a pull request can be allowed, in so many words.
    let mut install = github(json!({"events": ["pull_request"]}));
    install.actions = vec![Action::Install];
    assert_eq!(install.validate(), Ok(()));
    assert!(matches(&install, &github_run(with(merge, json!({"event_name": "pull_request"})))));
    assert!(!matches(&install, &github_run(json!({}))), "a list is the whole list");
}

#[test]
fn environments_and_refs() {
    let publisher = github(json!({}));
    for environment in [json!(null), json!("")] {
        let run = github_run(json!({ "environment": environment }));
        refused(&publisher, &run, &["environment"], "add `environment: npm`");
    }
    for environment in ["npm2", "staging", "np", " npm"] {
        refused(&publisher, &github_run(json!({ "environment": environment })), &["environment"], "");
    }
    let on = |git_ref: &str| {
        let workflow_ref = format!("acme/core/.github/workflows/release.yml@{git_ref}");
        github_run(json!({"ref": git_ref, "workflow_ref": workflow_ref, "job_workflow_ref": workflow_ref}))
    };
    let tags = github(json!({"ref_pattern": "refs/tags/v*"}));
    assert!(matches(&tags, &on("refs/tags/v1.0.0")));
    for git_ref in ["refs/heads/v1", "refs/heads/refs/tags/v1", "refs/tags/1.0", "refs/tags/V1"] {
        refused(&tags, &on(git_ref), &["ref"], "");
    }
    let protected = github(json!({"ref_protected": true}));
    assert!(matches(&protected, &github_run(json!({}))));
    for value in [json!("false"), json!(null), json!("True"), json!("1"), json!("")] {
        let run = github_run(json!({ "ref_protected": value }));
        refused(&protected, &run, &["ref_protected"], "protect the branch or tag");
    }
    assert!(matches(
        &github(json!({"ref_protected": false})),
        &github_run(json!({"ref_protected": "false"}))
    ));
    let hosted = github(json!({"runner_environment": "github-hosted"}));
    refused(&hosted, &github_run(json!({"runner_environment": "self-hosted"})), &["runner_environment"], "");
}

#[test]
fn a_gitlab_run_is_its_publisher() {
    let publisher = gitlab(json!({
        "ref_pattern": "refs/heads/main", "ref_protected": true, "environment_protected": true,
        "runner_environment": "gitlab-hosted",
    }));
    assert_eq!(publisher.validate(), Ok(()));
    assert!(matches(&publisher, &gitlab_run(json!({}))));
    // Before 18.3 nothing says where the job runs.
    assert!(matches(&publisher, &gitlab_run(json!({"job_project_id": null}))));
    for (changes, claims, advice) in [
        (json!({"ref_protected": "false"}), &["ref_protected"][..], "protect the branch or tag"),
        (json!({"environment_protected": "false"}), &["environment_protected"], ""),
        (json!({"environment_protected": null}), &["environment_protected"], ""),
        (json!({"environment": null}), &["environment"], "add `environment: npm`"),
        (json!({"namespace_id": "9"}), &["namespace_id"], "another namespace"),
        (json!({"runner_environment": "self-hosted"}), &["runner_environment"], ""),
        (json!({"project_path": "acme/kernel"}), &["project_path", "ci_config_ref_uri"], "renamed"),
        (
            json!({"ci_config_ref_uri": null}),
            &["ci_config_ref_uri"],
            "not defined by a file of the project itself",
        ),
        (
            json!({"ref": "x", "ref_path": "refs/heads/x", "ci_config_ref_uri": "gitlab.example/acme/core//.gitlab-ci.yml@refs/heads/x"}),
            &["ref_path"],
            "",
        ),
    ] {
        refused(&publisher, &gitlab_run(changes), claims, advice);
    }
}

#[test]
fn forks_on_gitlab() {
    let publisher = gitlab(json!({"project_path": null}));
    // A fork's merge request, in the parent's pipeline: the code is the fork's.
    refused(
        &publisher,
        &gitlab_run(json!({
            "project_id": "99", "project_path": "mallory/core", "namespace_id": "98", "pipeline_source": "push",
            "ci_config_ref_uri": "gitlab.example/mallory/core//.gitlab-ci.yml@refs/heads/main",
        })),
        &["namespace_id", "project_id"],
        "code of a fork",
    );
    // The other way round: the code is ours, and the job is somebody else's.
    refused(&publisher, &gitlab_run(json!({"job_project_id": "99"})), &["job_project_id"], "code of a fork");
    refused(
        &publisher,
        &gitlab_run(json!({"source_project_id": "99"})),
        &["source_project_id"],
        "code of a fork",
    );
    for source in ["merge_request_event", "external_pull_request_event", "parent_pipeline", "", "PUSH"] {
        let run = gitlab_run(json!({"pipeline_source": source}));
        refused(&publisher, &run, &["pipeline_source"], "not from one of a merge request");
    }
    let again = gitlab(json!({}));
    let recreated = json!({"project_id": "99", "job_project_id": "99"});
    refused(&again, &gitlab_run(recreated), &["job_project_id", "project_id"], "deleted and made again");
}

#[test]
fn config_uris() {
    let publisher = gitlab(json!({}));
    for (uri, git_ref) in [
        ("gitlab.example/acme/core//.gitlab-ci.yml@refs/heads/x@y", "refs/heads/x@y"),
        ("gitlab.example/acme/core//.gitlab-ci.yml@refs/tags/v1", "refs/tags/v1"),
    ] {
        assert!(
            matches(&publisher, &gitlab_run(json!({"ci_config_ref_uri": uri, "ref_path": git_ref}))),
            "{uri}"
        );
    }
    for uri in [
        "gitlab.example/acme/core//.gitlab-ci.yml@refs/heads/other",
        "gitlab.example/acme/core//.gitlab-ci.yml",
        "gitlab.example/acme/core//x/.gitlab-ci.yml@refs/heads/main",
        "gitlab.example/acme/core//.gitlab-ci.yml@x@refs/heads/main",
        "gitlab.example/acme/core/.gitlab-ci.yml@refs/heads/main",
        "gitlab.example/acme/core2//.gitlab-ci.yml@refs/heads/main",
        "gitlab.example/mallory/acme/core//.gitlab-ci.yml@refs/heads/main",
        "evil.example/acme/core//.gitlab-ci.yml@refs/heads/main",
        "gitlab.example.evil.example/acme/core//.gitlab-ci.yml@refs/heads/main",
        "gitlab.example/x//acme/core//.gitlab-ci.yml@refs/heads/main",
        "",
    ] {
        assert!(!matches(&publisher, &gitlab_run(json!({ "ci_config_ref_uri": uri }))), "{uri}");
    }
    let file = |file: &str| {
        gitlab_run(json!({"ci_config_ref_uri": format!("gitlab.example/acme/core//{file}@refs/heads/main")}))
    };
    refused(&publisher, &file(".gitlab-ci.yaml"), &["ci_config_ref_uri"], "`.yml` and `.yaml` are two names");
    refused(&publisher, &file(".GitLab-CI.yml"), &["ci_config_ref_uri"], "upper and lower case differ");
    let subgroup = gitlab(json!({"project_path": "acme/platform/core"}));
    assert!(matches(
        &subgroup,
        &gitlab_run(json!({
            "project_path": "acme/platform/core",
            "ci_config_ref_uri": "gitlab.example/acme/platform/core//.gitlab-ci.yml@refs/heads/main",
        }))
    ));
}

#[test]
fn jenkins_jobs() {
    let publisher = jenkins("https://ci.example/job/core/job/main/");
    assert_eq!(publisher.validate(), Ok(()));
    let run = |sub: &str| run(&with(jenkins_claims(), json!({ "sub": sub })));
    assert!(matches(&publisher, &run("https://ci.example/job/core/job/main/")));
    refused(&publisher, &run("https://ci.example/job/core/job/main"), &["sub"], "`/` at its end");
    refused(&publisher, &run("https://ci.example/job/Core/job/main/"), &["sub"], "upper and lower case");
    for sub in [
        "https://ci.example/job/core/job/main/job/x/",
        "https://ci.example/job/core/job/main2/",
        "https://evil.example/job/core/job/main/",
    ] {
        refused(&publisher, &run(sub), &["sub"], "");
    }
    refused(
        &publisher,
        &run("https://ci.example/job/core/job/PR-7/"),
        &["sub", "sub"],
        "job of a pull request",
    );
    // Not even when the publisher says so, past the linter.
    let pull = jenkins("https://ci.example/job/core/job/PR-7/");
    assert!(pull.validate().is_err());
    refused(&pull, &run("https://ci.example/job/core/job/PR-7/"), &["sub"], "job of a pull request");
}

#[test]
fn subjects_alone() {
    let run = |sub: &str| {
        run(&with(jenkins_claims(), json!({"iss": LOGIN, "aud": crate::support::AUDIENCE, "sub": sub})))
    };
    let publisher = generic("system:serviceaccount:acme:publisher");
    assert_eq!(publisher.validate(), Ok(()));
    assert!(matches(&publisher, &run("system:serviceaccount:acme:publisher")));
    refused(&publisher, &run("system:serviceaccount:acme:Publisher"), &["sub"], "upper and lower case");
    for sub in ["system:serviceaccount:acme:publisher2", "system:serviceaccount:acme", "*"] {
        assert!(!matches(&publisher, &run(sub)), "{sub}");
        assert!(walk([&publisher], &run(sub)).nearest.is_none(), "{sub}");
    }
    // GitHub's subjects have had ids in them since 2026, behind whatever issuer they come.
    let old = generic("repo:acme/core:environment:npm");
    refused(&old, &run("repo:acme@2002/core@1001:environment:npm"), &["sub"], "now has ids in it");
}

#[test]
fn a_publisher_without_rules_is_nobody() {
    let mut empty = github(json!({}));
    empty.github = None;
    assert!(!matches(&empty, &github_run(json!({}))));
    assert!(empty.validate().is_err());
    // Nor are two kinds of rules any better than one.
    let mut both = github(json!({}));
    both.generic = generic("repo:acme/core:environment:npm").generic;
    assert!(!matches(&both, &github_run(json!({}))));
    assert!(both.validate().is_err());
}

#[test]
fn what_is_left_out_matches_nothing() {
    // Past the linter, an empty pin is no wildcard.
    for left_out in ["repository_owner_id", "repository_id", "workflow"] {
        let publisher = github(json!({ left_out: null }));
        assert!(publisher.validate().is_err());
        for value in [json!(null), json!(""), json!("2002")] {
            let changes =
                json!({"repository_owner_id": value, "repository_id": value, "workflow_ref": value});
            assert!(!matches(&publisher, &github_run(changes)), "{left_out} {value}");
        }
        assert!(!matches(&publisher, &github_run(json!({}))), "{left_out}");
    }
    for left_out in ["namespace_id", "project_id", "ci_config_path"] {
        let publisher = gitlab(json!({ left_out: null }));
        assert!(publisher.validate().is_err());
        let nothing =
            json!({"namespace_id": "", "project_id": "", "job_project_id": "", "ci_config_ref_uri": ""});
        assert!(!matches(&publisher, &gitlab_run(nothing)) && !matches(&publisher, &gitlab_run(json!({}))));
    }
}

#[test]
fn disabled_is_disabled() {
    let mut publisher = github(json!({}));
    publisher.enabled = false;
    refused(&publisher, &github_run(json!({})), &["enabled"], "enable trusted publisher `acme-core-release`");
}

#[test]
fn the_nearest_is_the_same_in_any_order() {
    let named = |id: &str, changes: Value| TrustedPublisher { id: id.to_owned(), ..github(changes) };
    let far = named("a-far", json!({"workflow": "other.yml", "environment": "other"}));
    let near = named("b-near", json!({"workflow": "other.yml"}));
    let twin = named("c-near", json!({"workflow": "other.yml"}));
    let stranger =
        named("0-stranger", json!({"repository_id": "7", "repository_owner_id": "8", "repository": "x/y"}));
    let run = github_run(json!({}));
    let all = [&far, &near, &twin, &stranger];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
        let walk = walk(order.map(|i| all[i]), &run);
        assert_eq!(walk.nearest.expect("the nearest").publisher.id, "b-near");
    }
    // More that holds is nearer than less that holds, with as many failures.
    let tighter = named("z-tight", json!({"workflow": "other.yml", "ref_protected": true}));
    assert_eq!(walk([&near, &tighter], &run).nearest.expect("the nearest").publisher.id, "z-tight");
    let good = named("good", json!({}));
    let found = walk([&far, &good, &near], &run);
    assert!(found.nearest.is_none() && found.matched[0].publisher.id == "good");
}

#[test]
fn strangers_learn_nothing() {
    // Anybody can have a repository, and an ID token with it.
    let stranger = github_run(json!({
        "repository": "mallory/core", "repository_id": "666", "repository_owner": "mallory",
        "repository_owner_id": "667", "workflow_ref": "mallory/core/.github/workflows/release.yml@refs/heads/main",
        "job_workflow_ref": "mallory/core/.github/workflows/release.yml@refs/heads/main",
    }));
    let publishers =
        [github(json!({})), github(json!({"repository": null})), gitlab(json!({})), generic("x")];
    let walk = walk(&publishers, &stranger);
    assert!(walk.matched.is_empty() && walk.nearest.is_none());
}

#[test]
fn packages_are_covered_by_exact_name() {
    let publisher = github(json!({}));
    let covers = |name: &str, action| publisher.covers(&name.parse().expect("name"), action);
    assert!(covers("@acme/core", Action::Publish));
    assert!(!covers("@acme/core", Action::Install));
    for name in ["@acme/core2", "@acme/cor", "@acmeevil/core", "core", "@acme/core.x"] {
        assert!(!covers(name, Action::Publish), "{name}");
    }
}

#[test]
fn the_linter_says_no() {
    let problems = |publisher: &TrustedPublisher| match publisher.validate() {
        Ok(()) => panic!("accepted: {publisher:?}"),
        Err(error) => error.to_string(),
    };
    let changed = |changes: Value| {
        let table = serde_json::to_value(github(json!({}))).expect("json");
        serde_json::from_value::<TrustedPublisher>(with(table, changes)).expect("publisher")
    };
    for (publisher, why) in [
        (changed(json!({"packages": []})), "packages is empty"),
        (changed(json!({"actions": []})), "actions is empty"),
        (changed(json!({"issuer": "https://*.example"})), "issuer has `*`"),
        (changed(json!({"issuer": ""})), "issuer is empty"),
        (changed(json!({"id": ""})), "id is empty"),
        (
            github(json!({"repository_id": null})),
            "repository_id must be a number in quotes: a name can be given up",
        ),
        (github(json!({"repository_owner_id": null})), "repository_owner_id must be a number"),
        (github(json!({"repository_id": "acme/core"})), "repository_id must be a number"),
        (github(json!({"repository_id": "*"})), "repository_id must be a number"),
        (github(json!({"repository": "core"})), "must be `owner/name`"),
        (github(json!({"repository": "acme/*"})), "repository has `*`"),
        (github(json!({"workflow": null})), "workflow must be the name of one file"),
        (
            github(json!({"workflow": ".github/workflows/release.yml"})),
            "workflow must be the name of one file",
        ),
        (github(json!({"workflow": "*.yml"})), "workflow has `*`"),
        (github(json!({"workflow": "release.yml@x.yml"})), "may not have `@`"),
        (github(json!({"environment": ""})), "environment is empty"),
        (github(json!({"environment": "np*"})), "environment has `*`"),
        (github(json!({"environment": null})), "whoever can push any branch could publish"),
        (github(json!({"events": []})), "events is empty"),
        (github(json!({"events": ["pull_request"]})), "`pull_request`, which strangers cause"),
        (github(json!({"events": ["push", "workflow_run"]})), "`workflow_run`, which strangers cause"),
        (
            github(json!({"job_workflow_ref": "acme/shared/.github/workflows/p.yml"})),
            "job_workflow_ref must be",
        ),
        (
            github(json!({"job_workflow_ref": "acme/*/.github/workflows/p.yml@refs/tags/v1"})),
            "job_workflow_ref must be",
        ),
        (
            github(json!({"job_workflow_ref": "acme/shared/.github/workflows/p.yml@*"})),
            "job_workflow_ref must be",
        ),
        (
            github(json!({"job_workflow_ref": "acme/shared/.github/workflows/p.yml@main"})),
            "job_workflow_ref must be",
        ),
        (github(json!({"job_workflow_sha": "abc"})), "job_workflow_sha must be a whole commit id"),
        (gitlab(json!({"project_id": null})), "project_id must be a number"),
        (gitlab(json!({"namespace_id": "acme"})), "namespace_id must be a number"),
        (gitlab(json!({"ci_config_path": null})), "ci_config_path is empty"),
        (gitlab(json!({"ci_config_path": "/x.yml"})), "must be a path in the project"),
        (gitlab(json!({"ci_config_path": "a@b.yml"})), "must be a path in the project"),
        (gitlab(json!({"environment": null})), "whoever can push any branch could publish"),
        (
            gitlab(json!({"environment": null, "ref_protected": true, "environment_protected": true})),
            "needs gitlab.environment",
        ),
        (gitlab(json!({"sources": ["merge_request_event"]})), "which strangers cause"),
        (jenkins("https://ci.example/job/core"), "with `/` at its end"),
        (jenkins("core"), "must be a job's URL"),
        (jenkins("https://ci.example/job/*/"), "job_url has `*`"),
        (jenkins("https://other.example/job/core/"), "must be below `https://ci.example/`"),
        (jenkins("https://ci.example/job/core/job/PR-1/"), "job of a pull request"),
        (generic("*"), "subject has `*`"),
        (generic(""), "subject is empty"),
        (generic("repo:acme/core:ref:refs/heads/main"), "subject alone is not enough"),
        (generic("project_path:acme/core:ref_type:branch:ref:main"), "subject alone is not enough"),
        (publisher(json!({"issuer": GITHUB, "generic": {"subject": "x"}})), "subject alone is not enough"),
        (
            publisher(json!({"issuer": "https://gitlab.com", "generic": {"subject": "x"}})),
            "subject alone is not enough",
        ),
        (publisher(json!({"issuer": GITHUB})), "exactly one of"),
    ] {
        let problems = problems(&publisher);
        assert!(problems.contains(why) && problems.contains(&publisher.id), "{why}: {problems}");
    }
    // A folder's issuer speaks for its folder alone.
    let folder = |job_url: &str| {
        publisher(json!({"issuer": "https://ci.example/oidc/job/acme", "jenkins": {"job_url": job_url}}))
            .validate()
    };
    assert_eq!(folder("https://ci.example/job/acme/job/core/"), Ok(()));
    assert!(folder("https://ci.example/job/acme2/job/core/").is_err());
    assert!(folder("https://ci.example/job/core/").is_err());
    // Whoever means any branch can say so, and an installer need not.
    assert_eq!(github(json!({"environment": null, "ref_protected": false})).validate(), Ok(()));
    let mut installer = github(json!({"environment": null}));
    installer.actions = vec![Action::Install];
    assert_eq!(installer.validate(), Ok(()));
}

#[test]
fn rules_go_with_their_issuer() {
    let of = |url, platform| github(json!({})).validate_for(&static_issuer(url, platform, &[RSA.jwk()]));
    assert_eq!(of(GITHUB, PlatformKind::GithubActions), Ok(()));
    assert!(of(GITHUB, PlatformKind::GitlabCi).is_err());
    assert!(of(GHES, PlatformKind::GithubActions).is_err());
}

#[test]
fn as_it_stands_in_a_configuration() {
    let text = r#"
        id = "acme-core-release"
        tenant_id = "acme"
        project_slug = "core"
        packages = ["@acme/core"]
        actions = ["install", "publish"]
        issuer = "https://token.actions.githubusercontent.com"

        [github]
        repository_owner_id = "2002"
        repository_id = "1001"
        repository = "acme/core"
        workflow = "release.yml"
        environment = "npm"
        ref_pattern = "refs/tags/v*"
    "#;
    let publisher: TrustedPublisher = toml::from_str(text).expect("publisher");
    assert_eq!(publisher.validate(), Ok(()));
    assert!(publisher.enabled);
    for (good, bad) in [
        ("workflow =", "workflows ="),
        ("issuer =", "isuer ="),
        ("\"@acme/core\"]", "\"@acme/*\"]"),
        ("\"publish\"", "\"admin\""),
        ("refs/tags/v*", "*"),
        ("refs/tags/v*", "refs/tags/v[0-9]+"),
        ("\"1001\"", "1001"),
    ] {
        let changed = text.replacen(good, bad, 1);
        assert_ne!(changed, text);
        assert!(toml::from_str::<TrustedPublisher>(&changed).is_err(), "{bad}");
    }
}

const PINNED: &[(&str, &str)] = &[
    ("iss", GHES),
    ("repository_owner_id", "2003"),
    ("repository_id", "1002"),
    ("repository", "acme/other"),
    ("environment", "other"),
    ("event_name", "pull_request_target"),
    ("ref_protected", "false"),
    ("runner_environment", "self-hosted"),
    ("job_workflow_ref", "evil/x/.github/workflows/release.yml@refs/heads/main"),
    ("workflow_ref", "acme/core/.github/workflows/evil.yml@refs/heads/main"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any pinned claim that differs, in whatever company, ends it.
    #[test]
    fn a_run_that_differs_in_a_pin_is_nobody(
        changed in prop::sample::subsequence(PINNED, 1..=PINNED.len()),
        noise in prop::collection::hash_map("[a-z_]{3,20}", "\\PC{0,30}", 0..5),
    ) {
        let mut claims = github_claims();
        for (name, value) in noise.iter().map(|(name, value)| (name.as_str(), value.as_str())) {
            claims.as_object_mut().expect("object").entry(name).or_insert_with(|| value.into());
        }
        let publisher = github(json!({"ref_protected": true, "runner_environment": "github-hosted"}));
        prop_assert!(matches(&publisher, &run(&claims)));
        for (name, value) in changed {
            claims[name] = value.into();
        }
        prop_assert!(!matches(&publisher, &run(&claims)));
    }

    /// Ids are compared as a whole.
    #[test]
    fn no_other_id_will_do(id in "[0-9]{1,8}|\\PC{0,12}|1001.|.1001", claim in prop::sample::select(vec!["repository_id", "repository_owner_id"])) {
        prop_assume!(id != "1001" && id != "2002");
        let run = github_run(json!({ claim: id }));
        let matched = matches(&github(json!({})), &run);
        prop_assert!(!matched);
    }

    #[test]
    fn no_other_gitlab_id_will_do(
        id in "[0-9]{1,8}",
        claim in prop::sample::select(vec!["project_id", "namespace_id", "job_project_id", "source_project_id"]),
    ) {
        prop_assume!(id != "11" && id != "22");
        let run = gitlab_run(json!({ claim: id }));
        let matched = matches(&gitlab(json!({})), &run);
        prop_assert!(!matched);
    }

    /// Whatever the two say, the file is only ever the one that lies between them.
    #[test]
    fn no_workflow_ref_is_taken_for_another(
        file in "[a-z@./]{0,12}(\\.yml)?",
        git_ref in "refs/heads/[a-z@./]{0,24}(release\\.yml)?",
    ) {
        let workflow_ref = format!("acme/core/.github/workflows/{file}@{git_ref}");
        let run = github_run(json!({"workflow_ref": workflow_ref, "job_workflow_ref": workflow_ref, "ref": git_ref}));
        let matched = matches(&github(json!({})), &run);
        prop_assert_eq!(matched, file == "release.yml");
    }

    #[test]
    fn no_claims_make_the_walk_panic(text in "\\PC{0,60}", claim in prop::sample::select(vec![
        "repository", "workflow_ref", "job_workflow_ref", "ref", "sub", "environment", "event_name",
    ])) {
        let run = github_run(json!({ claim: format!("x{text}") }));
        let publishers = [github(json!({})), gitlab(json!({})), jenkins("https://ci.example/job/x/"), generic("repo:a/b:c")];
        let _ = walk(&publishers, &run);
        let run = gitlab_run(json!({"ci_config_ref_uri": text}));
        let _ = walk(&publishers, &run);
    }
}
