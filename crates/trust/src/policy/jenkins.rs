//! A build of a Jenkins job.

use protected_model::identity::RunIdentity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    lint::Lint,
    sheet::{Sheet, same_name},
};
use crate::platform::jenkins::is_pull_request;

/// A build of a Jenkins job. Its ID token says which job, and nothing of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JenkinsRules {
    /// The job's URL, exactly as `sub` has it: with `/` at its end.
    pub job_url: String,
}

impl JenkinsRules {
    pub(super) fn is_acquainted(&self, _: &RunIdentity) -> bool {
        // The issuer is one organisation's own controller.
        true
    }

    pub(super) fn evaluate(&self, identity: &RunIdentity, sheet: &mut Sheet) {
        let job = identity.subject.as_str();
        // Before the job, so that its advice comes first.
        let ok = !is_pull_request(job);
        if !sheet.rule("the job is not one of a pull request", "sub", "no /job/PR-<number>/", Some(job), ok) {
            sheet.advise("a job of a pull request is not trusted: publish from a job of a branch or a tag");
        }
        if sheet.exactly("the job is the one pinned", "sub", &self.job_url, Some(job)) {
            return;
        }
        if job.trim_end_matches('/') == self.job_url.trim_end_matches('/') {
            sheet.advise(format!("the job's URL is `{job}`: the `/` at its end differs"));
        } else if same_name(job, &self.job_url) {
            sheet.advise(format!("the job's URL is `{job}`: upper and lower case differ"));
        }
    }

    pub(super) fn lint(&self, issuer: &str, lint: &mut Lint<'_>) {
        let job = &self.job_url;
        lint.plain("jenkins.job_url", job);
        let is_job = job.contains("://") && job.contains("/job/") && job.ends_with('/');
        lint.that(
            is_job,
            "jenkins.job_url must be a job's URL with `/` at its end, such as `https://ci.example/job/core/`",
        );
        lint.that(
            !is_pull_request(job),
            "jenkins.job_url is a job of a pull request, which runs what a stranger proposes",
        );
        if let Some(realm) = realm(issuer) {
            lint.that(
                job.starts_with(&realm),
                &format!("jenkins.job_url must be below `{realm}`, which is what the issuer speaks for"),
            );
        }
    }
}

/// Returns the URL below which an issuer's jobs are: the controller's for `<controller>oidc`, and the folder's for
/// `<controller>oidc/job/<folder>`. An issuer at any other URL does not say.
fn realm(issuer: &str) -> Option<String> {
    let (controller, folder) = issuer.rsplit_once("/oidc")?;
    match folder.trim_end_matches('/') {
        "" => Some(format!("{controller}/")),
        folder if folder.starts_with("/job/") => Some(format!("{controller}{folder}/")),
        _ => None,
    }
}
