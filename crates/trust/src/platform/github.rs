//! GitHub Actions, with GHES, data residency and Forgejo.

use protected_model::identity::RunIdentity;

use super::Claims;

pub(super) const SHOWN: &[&str] = &[
    "iss",
    "sub",
    "aud",
    "repository",
    "repository_id",
    "repository_owner",
    "repository_owner_id",
    "repository_visibility",
    "workflow_ref",
    "workflow_sha",
    "job_workflow_ref",
    "job_workflow_sha",
    "environment",
    "event_name",
    "ref",
    "ref_type",
    "ref_protected",
    "sha",
    "run_id",
    "run_number",
    "run_attempt",
    "runner_environment",
    "enterprise_id",
];

pub(super) fn fill(identity: &mut RunIdentity, claims: &Claims<'_>) {
    identity.repository = claims.given("repository");
    identity.repository_id = claims.given("repository_id");
    identity.owner = claims.given("repository_owner");
    identity.owner_id = claims.given("repository_owner_id");
    identity.workflow_ref = claims.given("workflow_ref");
    identity.job_workflow_ref = claims.given("job_workflow_ref");
    identity.git_ref = claims.given("ref");
    identity.ref_protected = claims.truth("ref_protected");
    identity.environment = claims.given("environment");
    identity.event = claims.given("event_name");
    identity.sha = claims.given("sha");
    identity.run_id = claims.given("run_id");
    identity.run_attempt = claims.given("run_attempt");
    identity.runner_environment = claims.given("runner_environment");
    // No claim names the head repository of a pull request, so each may come from a fork.
    identity.fork = identity.event.as_deref().is_some_and(|event| event.starts_with("pull_request"));
    identity.run_url = run_url(identity);
}

fn run_url(identity: &RunIdentity) -> Option<String> {
    let server = super::server(identity)?;
    let (repository, run) = (identity.repository.as_ref()?, identity.run_id.as_ref()?);
    let attempt = identity.run_attempt.as_ref().map_or_else(String::new, |it| format!("/attempts/{it}"));
    Some(format!("{server}/{repository}/actions/runs/{run}{attempt}"))
}

/// Returns the server that an issuer belongs to, where its URL says so.
pub(super) fn server(issuer: &str) -> Option<String> {
    let host_and_path = issuer.strip_prefix("https://")?;
    let (host, path) = host_and_path.split_once('/').unwrap_or((host_and_path, ""));
    if path.trim_end_matches('/') == "_services/token" {
        return Some(format!("https://{host}"));
    }
    match host.strip_prefix("token.actions.")? {
        "githubusercontent.com" => Some("https://github.com".to_owned()),
        residency if residency.ends_with(".ghe.com") => Some(format!("https://{residency}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_issuers() {
        let of = |issuer: &str| server(issuer).unwrap_or_default();
        assert_eq!(of("https://token.actions.githubusercontent.com"), "https://github.com");
        assert_eq!(of("https://token.actions.githubusercontent.com/acme"), "https://github.com");
        assert_eq!(of("https://token.actions.acme.ghe.com"), "https://acme.ghe.com");
        assert_eq!(of("https://ghes.example/_services/token"), "https://ghes.example");
        for unknown in [
            "http://127.0.0.1:1/x",
            "https://forge.example/api/actions",
            "https://token.actions.evil.example",
        ] {
            assert_eq!(of(unknown), "", "{unknown}");
        }
    }
}
