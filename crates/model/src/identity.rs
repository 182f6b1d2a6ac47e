//! The run that is asking: every CI platform reduced to one shape.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kind of platform that issued an ID token, which says what its claims mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PlatformKind {
    /// GitHub Actions, also on GHES and with data residency, and Forgejo, which shares the contract.
    GithubActions,
    /// GitLab CI, also self-managed.
    GitlabCi,
    /// Jenkins with the OpenID Connect Provider plugin.
    Jenkins,
    /// Any other issuer of ID tokens: only `sub` is known.
    Generic,
}

impl PlatformKind {
    /// Returns the platform's name in messages and evidence.
    pub fn name(self) -> &'static str {
        match self {
            Self::GithubActions => "GitHub Actions",
            Self::GitlabCi => "GitLab CI",
            Self::Jenkins => "Jenkins",
            Self::Generic => "OIDC",
        }
    }
}

/// Who is running, and what: a CI platform's claims in the words of one policy.
///
/// `trust` makes one of a verified ID token. `ci` makes one of the environment, for messages and as unsigned
/// context; whoever holds that one calls it `unverified_identity`. A field is `None` where the platform has
/// no such thing or did not say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunIdentity {
    /// Which platform's claims these are.
    pub platform: PlatformKind,
    /// `iss`, exactly as in the token; empty when not verified.
    pub issuer: String,
    /// `sub`. For display: its format changes and it is customisable, so no rule should rest on it alone.
    pub subject: String,
    /// GitHub `repository`, GitLab `project_path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// GitHub `repository_id`, GitLab `project_id`: stays when the repository is renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,
    /// GitHub `repository_owner`, GitLab `namespace_path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// GitHub `repository_owner_id`, GitLab `namespace_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    /// The workflow that was started: GitHub `workflow_ref`, GitLab `ci_config_ref_uri`, Jenkins' job URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow_ref: Option<String>,
    /// The workflow whose steps run, where that is another one: GitHub `job_workflow_ref`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_workflow_ref: Option<String>,
    /// The full ref, such as `refs/heads/main`.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    /// Whether the platform protects that ref.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ref_protected: Option<bool>,
    /// The deployment environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Whether the platform protects that environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_protected: Option<bool>,
    /// What started the run: GitHub `event_name`, GitLab `pipeline_source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
    /// GitHub `run_id`, GitLab `pipeline_id`, Jenkins `build_number`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
    /// GitHub `run_attempt`, GitLab `job_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_attempt: Option<String>,
    /// Where a person can look at the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_url: Option<String>,
    /// `github-hosted`, `self-hosted`, `gitlab-hosted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_environment: Option<String>,
    /// Whether the code comes from a fork, as far as the platform tells.
    #[serde(default)]
    pub fork: bool,
    /// The token's own claims that may be shown, in the platform's words, for rules and messages.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
}

impl RunIdentity {
    /// Returns an identity of which nothing but its subject is known.
    pub fn new(platform: PlatformKind, issuer: impl Into<String>, subject: impl Into<String>) -> Self {
        Self {
            platform,
            issuer: issuer.into(),
            subject: subject.into(),
            repository: None,
            repository_id: None,
            owner: None,
            owner_id: None,
            workflow_ref: None,
            job_workflow_ref: None,
            git_ref: None,
            ref_protected: None,
            environment: None,
            environment_protected: None,
            event: None,
            sha: None,
            run_id: None,
            run_attempt: None,
            run_url: None,
            runner_environment: None,
            fork: false,
            claims: BTreeMap::new(),
        }
    }

    /// Returns one line that names the run to a person: repository, workflow and ref, or the subject.
    pub fn describe(&self) -> String {
        let Some(repository) = &self.repository else { return self.subject.clone() };
        let mut line = repository.clone();
        if let Some(git_ref) = &self.git_ref {
            line.push_str(&format!(" at {git_ref}"));
        }
        if let Some(environment) = &self.environment {
            line.push_str(&format!(" in environment {environment}"));
        }
        line
    }
}
