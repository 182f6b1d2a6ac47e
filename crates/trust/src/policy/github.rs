//! A run on GitHub Actions.

use protected_model::{identity::RunIdentity, pattern};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    lint::Lint,
    pattern::RefPattern,
    sheet::{Sheet, claim, same_name},
};

/// The events that start a trusted run when nothing else is said: only who may write to the repository causes them.
///
/// Attack: `pull_request` runs what a stranger proposes; `pull_request_target`, `workflow_run` and `issue_comment`
/// run with the repository's rights on what a stranger wrote.
pub(super) const EVENTS: &[&str] = &[
    "push",
    "release",
    "create",
    "workflow_dispatch",
    "repository_dispatch",
    "schedule",
    "deployment",
    "merge_group",
];

/// The events that strangers cause. No publisher that may publish can allow them.
const STRANGERS_EVENTS: &[&str] = &[
    "pull_request",
    "pull_request_target",
    "pull_request_review",
    "pull_request_review_comment",
    "workflow_run",
    "issue_comment",
    "issues",
    "discussion",
    "discussion_comment",
    "fork",
    "watch",
];

/// A run on GitHub Actions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GithubRules {
    /// `repository_owner_id`: the account or organisation.
    #[serde(default)]
    pub repository_owner_id: String,
    /// `repository_id`: the repository.
    #[serde(default)]
    pub repository_id: String,
    /// Its name, as `owner/name`; checked as well, in whatever case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The file name of the workflow that was started, in the repository's `.github/workflows`: `release.yml`.
    #[serde(default)]
    pub workflow: String,
    /// The job's environment, in whatever case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The refs that it may run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ref_pattern: Option<RefPattern>,
    /// Whether the ref must be protected. `false` says that any ref is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ref_protected: Option<bool>,
    /// `github-hosted` or `self-hosted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_environment: Option<String>,
    /// The reusable workflow whose steps run, as `owner/name/.github/workflows/file.yml@ref`; the ref, a full one or a
    /// commit, may have `*` for anything. Without it, the steps must stand in [`Self::workflow`] itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_workflow_ref: Option<String>,
    /// The commit of that reusable workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_workflow_sha: Option<String>,
    /// The events that may start it, in place of those that only writers of the repository cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
}

impl GithubRules {
    pub(super) fn is_acquainted(&self, identity: &RunIdentity) -> bool {
        let same = |pinned: &str, own: &Option<String>| !pinned.is_empty() && own.as_deref() == Some(pinned);
        same(&self.repository_id, &identity.repository_id)
            || same(&self.repository_owner_id, &identity.owner_id)
            || self.is_named_like(identity)
    }

    fn is_named_like(&self, identity: &RunIdentity) -> bool {
        matches!((&self.repository, &identity.repository), (Some(pinned), Some(own)) if same_name(pinned, own))
    }

    pub(super) fn evaluate(&self, identity: &RunIdentity, sheet: &mut Sheet) {
        self.repository(identity, sheet);
        self.workflow(identity, sheet);
        self.job_workflow(identity, sheet);
        self.event(identity, sheet);
        self.git_ref(identity, sheet);
        self.environment(identity, sheet);
        if let Some(expected) = &self.runner_environment {
            let actual = identity.runner_environment.as_deref();
            sheet.exactly("the runner is of the kind pinned", "runner_environment", expected, actual);
        }
    }

    fn repository(&self, identity: &RunIdentity, sheet: &mut Sheet) {
        let owner_id = identity.owner_id.as_deref();
        let owner = sheet.exactly(
            "the owner is the one pinned",
            "repository_owner_id",
            &self.repository_owner_id,
            owner_id,
        );
        let id = identity.repository_id.as_deref();
        let repository =
            sheet.exactly("the repository is the one pinned", "repository_id", &self.repository_id, id);
        let named = self.repository.as_ref().is_none_or(|expected| {
            let actual = identity.repository.as_deref();
            sheet.named("the repository has the name pinned", "repository", expected, actual)
        });
        match (owner, repository, named) {
            (true, true, false) => sheet.advise("the repository was renamed: change `repository` of the trusted publisher"),
            (false, true, _) => sheet.advise(
                "the repository belongs to another owner now: if it was transferred, change `repository_owner_id` of \
                 the trusted publisher",
            ),
            (_, false, _) if self.is_named_like(identity) => sheet.advise(
                "a repository of this name was deleted and made again, or the name changed hands: check who owns it \
                 now before you change the ids of the trusted publisher",
            ),
            _ => {}
        }
    }

    fn workflow(&self, identity: &RunIdentity, sheet: &mut Sheet) {
        let started =
            identity.workflow_ref.as_deref().and_then(|workflow_ref| own_file(workflow_ref, identity));
        let repository = identity.repository.as_deref().unwrap_or("<repository>");
        let expected = format!("{repository}/.github/workflows/{}@<ref>", self.workflow);
        let ok = started == Some(self.workflow.as_str());
        let actual = identity.workflow_ref.as_deref();
        if sheet.rule(
            "the workflow that was started is the one pinned",
            "workflow_ref",
            &expected,
            actual,
            ok,
        ) {
            return;
        }
        let stem = |file: &str| file.trim_end_matches(".yaml").trim_end_matches(".yml").to_owned();
        let callee = identity.job_workflow_ref.as_deref().and_then(|it| it.split('@').next());
        let callee = callee.and_then(|path| path.rsplit('/').next());
        match started {
            Some(started) if stem(started) == stem(&self.workflow) => sheet.advise(format!(
                "the workflow is `{started}` and the trusted publisher says `{}`: `.yml` and `.yaml` are two names",
                self.workflow
            )),
            Some(started) if same_name(started, &self.workflow) => sheet.advise(format!(
                "the workflow is `{started}` and the trusted publisher says `{}`: upper and lower case differ",
                self.workflow
            )),
            Some(started) if callee == Some(self.workflow.as_str()) => sheet.advise(format!(
                "`{}` is a reusable workflow that `{started}` calls: `workflow` is the caller, and the reusable one goes \
                 into `job_workflow_ref`",
                self.workflow
            )),
            Some(_) => {}
            None => sheet.advise("the workflow that was started is not one of the repository's own `.github/workflows`"),
        }
    }

    fn job_workflow(&self, identity: &RunIdentity, sheet: &mut Sheet) {
        let actual = identity.job_workflow_ref.as_deref();
        match &self.job_workflow_ref {
            None => {
                let ok = actual.is_none() || actual == identity.workflow_ref.as_deref();
                let rule = "the steps stand in the workflow that was started";
                if !sheet.rule(rule, "job_workflow_ref", "the same as workflow_ref", actual, ok) {
                    sheet.advise(
                        "the steps run in a reusable workflow: pin it as `job_workflow_ref` of the trusted publisher, \
                         beside the `workflow` that calls it",
                    );
                }
            }
            Some(expected) => {
                let ok = actual.is_some_and(|actual| is_job_workflow(expected, actual));
                let rule = "the reusable workflow is the one pinned";
                if !sheet.rule(rule, "job_workflow_ref", expected, actual, ok)
                    && actual == identity.workflow_ref.as_deref()
                {
                    sheet.advise(
                        "the trusted publisher wants a reusable workflow, and this job has its own steps",
                    );
                }
            }
        }
        if let Some(expected) = &self.job_workflow_sha {
            let actual = claim(identity, "job_workflow_sha");
            sheet.exactly(
                "the reusable workflow is at the commit pinned",
                "job_workflow_sha",
                expected,
                actual,
            );
        }
    }

    fn events(&self) -> Vec<&str> {
        self.events
            .as_ref()
            .map_or_else(|| EVENTS.to_vec(), |events| events.iter().map(String::as_str).collect())
    }

    fn event(&self, identity: &RunIdentity, sheet: &mut Sheet) {
        let actual = identity.event.as_deref();
        if !sheet.one_of("the event is one that may start it", "event_name", &self.events(), actual) {
            sheet.advise(if identity.fork {
                "a pull request may come from a fork and is not trusted: publish from a push, a release or a dispatch"
            } else {
                "start the workflow by a push, a release or a dispatch, or list its event in `events`"
            });
        }
    }

    fn git_ref(&self, identity: &RunIdentity, sheet: &mut Sheet) {
        let actual = identity.git_ref.as_deref();
        if !self.events().iter().any(|event| event.starts_with("pull_request")) {
            let ok = actual.is_none_or(|git_ref| {
                git_ref.starts_with("refs/heads/") || git_ref.starts_with("refs/tags/")
            });
            sheet.rule("the ref is a branch or a tag", "ref", "refs/heads/* or refs/tags/*", actual, ok);
        }
        if let Some(pattern) = &self.ref_pattern {
            let ok = actual.is_some_and(|git_ref| pattern.matches(git_ref));
            sheet.rule("the ref is one of those pinned", "ref", pattern.as_str(), actual, ok);
        }
        if self.ref_protected == Some(true) {
            let actual = claim(identity, "ref_protected");
            if !sheet.exactly("the ref is protected", "ref_protected", "true", actual) {
                sheet.advise(
                    "protect the branch or tag with a ruleset, or publish from one that is protected",
                );
            }
        }
    }

    fn environment(&self, identity: &RunIdentity, sheet: &mut Sheet) {
        let Some(expected) = &self.environment else { return };
        let actual = identity.environment.as_deref();
        let ok = sheet.named("the job runs in the environment pinned", "environment", expected, actual);
        if !ok && actual.is_none() {
            sheet.advise(format!("the job has no environment: add `environment: {expected}` to it"));
        }
    }

    pub(super) fn lint(&self, lint: &mut Lint<'_>) {
        lint.id("github.repository_owner_id", &self.repository_owner_id);
        lint.id("github.repository_id", &self.repository_id);
        if let Some(repository) = &self.repository {
            let two = repository.split('/').filter(|part| !part.is_empty()).count() == 2;
            lint.that(two && repository.matches('/').count() == 1, "github.repository must be `owner/name`");
            lint.plain("github.repository", repository);
        }
        let file = &self.workflow;
        lint.that(is_file(file), "github.workflow must be the name of one file, such as `release.yml`");
        lint.plain("github.workflow", file);
        // Attack: `release.yml@x.yml` is a good file name, and anybody who may push can make one.
        lint.that(!file.contains('@'), "github.workflow may not have `@`: what follows it is a ref");
        for (name, value) in [
            ("github.environment", &self.environment),
            ("github.runner_environment", &self.runner_environment),
        ] {
            if let Some(value) = value {
                lint.plain(name, value);
            }
        }
        lint.events("github.events", self.events.as_deref(), STRANGERS_EVENTS);
        if let Some(job_workflow_ref) = &self.job_workflow_ref {
            lint.that(
                is_job_workflow_pattern(job_workflow_ref),
                "github.job_workflow_ref must be `owner/name/.github/workflows/file.yml@` and a full ref or a commit; \
                 only the ref may have `*`",
            );
        }
        if let Some(sha) = &self.job_workflow_sha {
            lint.that(is_commit(sha), "github.job_workflow_sha must be a whole commit id");
            lint.that(
                self.job_workflow_ref.is_some(),
                "github.job_workflow_sha needs github.job_workflow_ref",
            );
        }
        lint.place(self.environment.is_some() || self.ref_pattern.is_some() || self.ref_protected.is_some());
    }
}

/// Returns the file of the repository's own workflow that `workflow_ref` names: `owner/name/.github/workflows/<file>@<ref>`.
///
/// Attack: both file names and branch names may have `@` in them, so neither the first nor the last one surely parts
/// them: `evil.yml@refs/heads/x@release.yml`. The token says the ref (or, for deployments, the commit) itself, so that
/// exactly this must stand at the end, and exactly the token's own repository at the start.
fn own_file<'a>(workflow_ref: &'a str, identity: &RunIdentity) -> Option<&'a str> {
    let repository = identity.repository.as_deref()?;
    let (start, rest) = workflow_ref.split_at_checked(repository.len())?;
    if !same_name(start, repository) {
        return None;
    }
    let file_and_ref = rest.strip_prefix("/.github/workflows/")?;
    let ends = [identity.git_ref.as_deref(), identity.sha.as_deref()];
    let file =
        ends.into_iter().flatten().find_map(|end| file_and_ref.strip_suffix(end)?.strip_suffix('@'))?;
    is_file(file).then_some(file)
}

fn is_file(file: &str) -> bool {
    let stem = file.strip_suffix(".yml").or_else(|| file.strip_suffix(".yaml"));
    stem.is_some_and(|stem| !stem.is_empty()) && !file.contains('/')
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_job_workflow_pattern(text: &str) -> bool {
    let Some((path, end)) = text.split_once('@') else { return false };
    let parts: Vec<_> = path.split('/').collect();
    let [owner, name, ".github", "workflows", file] = parts.as_slice() else { return false };
    let plain = !path.contains('*') && !owner.is_empty() && !name.is_empty() && is_file(file);
    plain && (is_commit(end) || end.parse::<RefPattern>().is_ok())
}

/// Returns whether `actual` is the reusable workflow `expected`: owner and name in whatever case, the file exactly, the
/// ref by its pattern.
fn is_job_workflow(expected: &str, actual: &str) -> bool {
    let Some((path, end)) = expected.split_once('@') else { return false };
    let Some((own_path, own_end)) = actual.split_at_checked(path.len()) else { return false };
    let file = |path: &str| path.rsplit('/').next().map(str::to_owned);
    let Some(own_end) = own_end.strip_prefix('@') else { return false };
    same_name(path, own_path) && file(path) == file(own_path) && pattern::matches(end, own_end)
}
