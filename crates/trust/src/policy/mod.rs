//! Trusted publishers: which run may do what.
//!
//! A publisher pins what does not change hands. A name can be given up and taken by somebody else, an id cannot,
//! so each platform's rules rest on ids, and a name beside them only makes messages better and the pin tighter.

mod generic;
mod github;
mod gitlab;
mod jenkins;
mod lint;
mod pattern;
mod sheet;
mod walk;

use protected_model::{
    action::Action,
    identity::PlatformKind,
    name::{PackageName, ProjectSlug, TenantId},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use generic::GenericRules;
pub use github::GithubRules;
pub use gitlab::GitlabRules;
pub use jenkins::JenkinsRules;
pub use lint::Unsafe;
pub use pattern::{RefPattern, RefPatternError};
pub use walk::{Match, Nearest, Walk, walk};

/// A run that is trusted with packages: a `[[trusted_publisher]]`.
///
/// Exactly one of `github`, `gitlab`, `jenkins` and `generic` says which run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustedPublisher {
    /// What it is called in messages and in the audit trail.
    pub id: String,
    /// The tenant whose packages these are.
    pub tenant_id: TenantId,
    /// The project that they belong to.
    pub project_slug: ProjectSlug,
    /// The packages, by exact name.
    pub packages: Vec<PackageName>,
    /// What may be done with them.
    pub actions: Vec<Action>,
    /// The issuer of the run's ID tokens, exactly as its tokens have it.
    pub issuer: String,
    /// Whether it counts at all.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// The run, on GitHub Actions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github: Option<GithubRules>,
    /// The run, on GitLab CI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gitlab: Option<GitlabRules>,
    /// The run, on Jenkins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jenkins: Option<JenkinsRules>,
    /// The run, at any other issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generic: Option<GenericRules>,
}

fn enabled() -> bool {
    true
}

impl TrustedPublisher {
    /// Returns whether it is for exactly this package and action.
    pub fn covers(&self, package: &PackageName, action: Action) -> bool {
        self.packages.contains(package) && self.actions.contains(&action)
    }

    /// Returns the platform that its rules are for, or `None` unless there are rules for exactly one.
    pub fn platform(&self) -> Option<PlatformKind> {
        self.rules().map(|rules| rules.platform())
    }

    fn rules(&self) -> Option<Rules<'_>> {
        let Self { github, gitlab, jenkins, generic, .. } = self;
        let mut given = [
            github.as_ref().map(Rules::Github),
            gitlab.as_ref().map(Rules::Gitlab),
            jenkins.as_ref().map(Rules::Jenkins),
            generic.as_ref().map(Rules::Generic),
        ]
        .into_iter()
        .flatten();
        given.next().filter(|_| given.next().is_none())
    }
}

/// The rules of a publisher: one line for each platform.
enum Rules<'a> {
    Github(&'a GithubRules),
    Gitlab(&'a GitlabRules),
    Jenkins(&'a JenkinsRules),
    Generic(&'a GenericRules),
}

impl Rules<'_> {
    fn platform(&self) -> PlatformKind {
        match self {
            Self::Github(_) => PlatformKind::GithubActions,
            Self::Gitlab(_) => PlatformKind::GitlabCi,
            Self::Jenkins(_) => PlatformKind::Jenkins,
            Self::Generic(_) => PlatformKind::Generic,
        }
    }
}
