//! GitLab CI, also self-managed.

use protected_model::identity::RunIdentity;

use super::Claims;

pub(super) const SHOWN: &[&str] = &[
    "iss",
    "sub",
    "aud",
    "project_id",
    "project_path",
    "namespace_id",
    "namespace_path",
    "job_project_id",
    "job_project_path",
    "job_namespace_id",
    "job_namespace_path",
    "source_project_id",
    "source_project_path",
    "pipeline_id",
    "pipeline_source",
    "job_id",
    "ref",
    "ref_type",
    "ref_path",
    "ref_protected",
    "environment",
    "environment_protected",
    "runner_environment",
    "sha",
    "ci_config_ref_uri",
    "ci_config_sha",
    "project_visibility",
];

pub(super) fn fill(identity: &mut RunIdentity, claims: &Claims<'_>) {
    identity.repository = claims.given("project_path");
    identity.repository_id = claims.given("project_id");
    identity.owner = claims.given("namespace_path");
    identity.owner_id = claims.given("namespace_id");
    identity.workflow_ref = claims.given("ci_config_ref_uri");
    identity.git_ref = claims.given("ref_path").or_else(|| full_ref(claims));
    identity.ref_protected = claims.truth("ref_protected");
    identity.environment = claims.given("environment");
    identity.environment_protected = claims.truth("environment_protected");
    identity.event = claims.given("pipeline_source");
    identity.sha = claims.given("sha");
    identity.run_id = claims.given("pipeline_id");
    identity.run_attempt = claims.given("job_id");
    identity.runner_environment = claims.given("runner_environment");
    // Since 18.2 `project_id` is where the code comes from, and since 18.3 `job_project_id` is where the job runs.
    let differs =
        |name| claims.given(name).is_some_and(|other| identity.repository_id.as_ref() != Some(&other));
    identity.fork = differs("job_project_id") || differs("source_project_id");
    identity.run_url = run_url(identity, claims);
}

fn full_ref(claims: &Claims<'_>) -> Option<String> {
    let name = claims.given("ref")?;
    match claims.text("ref_type")?.as_str() {
        "branch" => Some(format!("refs/heads/{name}")),
        "tag" => Some(format!("refs/tags/{name}")),
        _ => None,
    }
}

fn run_url(identity: &RunIdentity, claims: &Claims<'_>) -> Option<String> {
    let project = claims.given("job_project_path").or_else(|| identity.repository.clone())?;
    let job = claims.given("job_id")?;
    Some(format!("{}/{project}/-/jobs/{job}", identity.issuer.trim_end_matches('/')))
}
