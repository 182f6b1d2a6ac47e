//! A run that only its subject is known of.

use protected_model::identity::RunIdentity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    lint::Lint,
    sheet::{Sheet, same_name},
};

/// A run that only its subject is known of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenericRules {
    /// Exactly `sub`.
    pub subject: String,
}

impl GenericRules {
    pub(super) fn is_acquainted(&self, identity: &RunIdentity) -> bool {
        same_name(&without_ids(&self.subject), &without_ids(&identity.subject))
    }

    pub(super) fn evaluate(&self, identity: &RunIdentity, sheet: &mut Sheet) {
        let subject = identity.subject.as_str();
        if sheet.exactly("the subject is the one pinned", "sub", &self.subject, Some(subject)) {
            return;
        }
        if without_ids(subject) == without_ids(&self.subject) {
            sheet.advise(
                "the subject now has ids in it: configure the issuer with its platform and pin `repository_id` and \
                 `repository_owner_id`",
            );
        } else if same_name(subject, &self.subject) {
            sheet.advise("upper and lower case of the subject differ");
        }
    }

    pub(super) fn lint(&self, issuer: &str, lint: &mut Lint<'_>) {
        lint.plain("generic.subject", &self.subject);
        let host = issuer.split("://").nth(1).unwrap_or(issuer).split('/').next().unwrap_or_default();
        let known = host.starts_with("token.actions.")
            || host == "gitlab.com"
            || issuer.ends_with("/_services/token");
        let shaped = self.subject.starts_with("repo:") || self.subject.starts_with("project_path:");
        lint.that(
            !known && !shaped,
            "generic.subject alone is not enough for GitHub and GitLab: their subjects are made of names, change their \
             format and can be customised; use `github` or `gitlab`",
        );
    }
}

/// Returns a GitHub subject as it was before it had ids: `repo:acme@1/core@2:ref:...` as `repo:acme/core:ref:...`.
fn without_ids(subject: &str) -> String {
    let Some(rest) = subject.strip_prefix("repo:") else { return subject.to_owned() };
    let (repository, context) = rest.split_once(':').unwrap_or((rest, ""));
    let names: Vec<_> =
        repository.split('/').map(|part| part.split('@').next().unwrap_or_default()).collect();
    format!("repo:{}:{context}", names.join("/"))
}
