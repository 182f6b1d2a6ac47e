//! Jenkins with the OpenID Connect Provider plugin: a job's URL and a build number, and no word of a repository.

use protected_model::identity::RunIdentity;

use super::Claims;

pub(super) const SHOWN: &[&str] = &["iss", "sub", "build_number"];

pub(super) fn fill(identity: &mut RunIdentity, claims: &Claims<'_>) {
    let job = identity.subject.clone();
    identity.run_id = claims.given("build_number");
    if job.starts_with("https://") || job.starts_with("http://") {
        identity.run_url =
            identity.run_id.as_ref().map(|build| format!("{}/{build}/", job.trim_end_matches('/')));
    }
    if is_pull_request(&job) {
        identity.event = Some("pull_request".to_owned());
        identity.fork = true;
    }
    identity.workflow_ref = Some(job);
}

/// Returns whether a job's URL is that of a pull or merge request of a multibranch project: `.../job/PR-7/`.
///
/// Attack: such a job runs what somebody proposes, with the same issuer and, by the branch source's setting, the
/// same credentials as the job of the main branch.
pub(crate) fn is_pull_request(job: &str) -> bool {
    job.split('/').collect::<Vec<_>>().windows(2).any(|pair| {
        let number = pair[1].strip_prefix("PR-").or_else(|| pair[1].strip_prefix("MR-"));
        pair[0] == "job" && number.is_some_and(|it| it.starts_with(|digit: char| digit.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_jobs_of_pull_requests() {
        for job in [
            "https://ci.example/job/acme/job/PR-7/",
            "https://ci.example/job/acme/job/PR-7",
            "https://ci.example/job/PR-7/job/x/",
            "https://ci.example/job/acme/job/PR-7-head/",
            "https://ci.example/job/acme/job/PR-7-merge/",
            "https://ci.example/job/acme/job/MR-12/",
        ] {
            assert!(is_pull_request(job), "{job}");
        }
        for job in [
            "https://ci.example/job/acme/job/main/",
            "https://ci.example/job/acme/job/PR-notes/",
            "https://ci.example/job/acme/job/XPR-7/",
            "https://PR-7.example/job/main/",
            "",
        ] {
            assert!(!is_pull_request(job), "{job}");
        }
    }
}
