//! A run on GitLab CI.

use protected_model::identity::RunIdentity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    lint::Lint,
    pattern::RefPattern,
    sheet::{Sheet, claim, same_name},
};

/// What starts a trusted pipeline when nothing else is said: only who may write to the project does.
///
/// Attack: a merge request runs what a stranger proposes, and a child pipeline (`parent_pipeline`) of a merge
/// request's no longer says that it is one.
const SOURCES: &[&str] = &["push", "web", "schedule", "api", "trigger", "pipeline"];

/// The sources that strangers cause. No publisher that may publish can allow them.
const STRANGERS_SOURCES: &[&str] = &["merge_request_event", "external_pull_request_event", "parent_pipeline"];

/// A run on GitLab CI.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitlabRules {
    /// `namespace_id`: the group or user.
    #[serde(default)]
    pub namespace_id: String,
    /// `project_id`: the project.
    #[serde(default)]
    pub project_id: String,
    /// Its path, as `group/project`; checked as well, in whatever case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_path: Option<String>,
    /// The file that defines the pipeline, in the project: `.gitlab-ci.yml`.
    #[serde(default)]
    pub ci_config_path: String,
    /// The job's environment, in whatever case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Whether that environment must be protected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_protected: Option<bool>,
    /// The refs that it may run on, in full: `refs/heads/main`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ref_pattern: Option<RefPattern>,
    /// Whether the ref must be protected. `false` says that any ref is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ref_protected: Option<bool>,
    /// `gitlab-hosted` or `self-hosted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_environment: Option<String>,
    /// The `pipeline_source` that may start it, in place of those that only writers of the project cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<String>>,
}

impl GitlabRules {
    pub(super) fn is_acquainted(&self, identity: &RunIdentity) -> bool {
        let same = |pinned: &str, own: Option<&str>| !pinned.is_empty() && own == Some(pinned);
        same(&self.project_id, identity.repository_id.as_deref())
            || same(&self.project_id, claim(identity, "job_project_id"))
            || same(&self.namespace_id, identity.owner_id.as_deref())
            || self.is_named_like(identity)
    }

    fn is_named_like(&self, identity: &RunIdentity) -> bool {
        matches!((&self.project_path, &identity.repository), (Some(pinned), Some(own)) if same_name(pinned, own))
    }

    pub(super) fn evaluate(&self, identity: &RunIdentity, sheet: &mut Sheet) {
        self.project(identity, sheet);
        self.config(identity, sheet);
        let sources: Vec<&str> = match &self.sources {
            Some(sources) => sources.iter().map(String::as_str).collect(),
            None => SOURCES.to_vec(),
        };
        let source = identity.event.as_deref();
        if !sheet.one_of(
            "the pipeline's source is one that may start it",
            "pipeline_source",
            &sources,
            source,
        ) {
            sheet.advise(
                "publish from a pipeline of a branch or a tag, not from one of a merge request or a child",
            );
        }
        self.git_ref(identity, sheet);
        self.environment(identity, sheet);
        if let Some(expected) = &self.runner_environment {
            let actual = identity.runner_environment.as_deref();
            sheet.exactly("the runner is of the kind pinned", "runner_environment", expected, actual);
        }
    }

    fn project(&self, identity: &RunIdentity, sheet: &mut Sheet) {
        // First, so that its advice is the one given: a fork's ids differ as well.
        for name in ["job_project_id", "source_project_id"] {
            let actual = claim(identity, name);
            let ok = actual.is_none_or(|actual| actual == self.project_id);
            sheet.rule(
                "the code and the job are of one project, no fork",
                name,
                &self.project_id,
                actual,
                ok,
            );
        }
        if identity.fork {
            sheet.advise(
                "the pipeline runs code of a fork, which is not trusted: publish from the project itself",
            );
        }
        let namespace_id = identity.owner_id.as_deref();
        let owner = sheet.exactly(
            "the namespace is the one pinned",
            "namespace_id",
            &self.namespace_id,
            namespace_id,
        );
        let id = identity.repository_id.as_deref();
        let project = sheet.exactly("the project is the one pinned", "project_id", &self.project_id, id);
        let named = self.project_path.as_ref().is_none_or(|expected| {
            let actual = identity.repository.as_deref();
            sheet.named("the project has the path pinned", "project_path", expected, actual)
        });
        match (owner, project, named) {
            (true, true, false) => sheet.advise("the project was renamed: change `project_path` of the trusted publisher"),
            (false, true, _) => sheet.advise(
                "the project belongs to another namespace now: if it was transferred, change `namespace_id` of the \
                 trusted publisher",
            ),
            (_, false, _) if self.is_named_like(identity) => sheet.advise(
                "a project of this path was deleted and made again, or the path changed hands: check who owns it now \
                 before you change the ids of the trusted publisher",
            ),
            _ => {}
        }
    }

    fn config(&self, identity: &RunIdentity, sheet: &mut Sheet) {
        let path = identity.workflow_ref.as_deref().and_then(|uri| own_path(uri, identity));
        let project = identity.repository.as_deref().unwrap_or("<project>");
        let expected = format!("<host>/{project}//{}@<ref>", self.ci_config_path);
        let actual = identity.workflow_ref.as_deref();
        let ok = path == Some(self.ci_config_path.as_str());
        if sheet.rule(
            "the pipeline is defined by the file pinned",
            "ci_config_ref_uri",
            &expected,
            actual,
            ok,
        ) {
            return;
        }
        match path {
            Some(path) if path.trim_end_matches("yaml") == self.ci_config_path.trim_end_matches("yml") => {
                sheet.advise(format!("the file is `{path}`: `.yml` and `.yaml` are two names"));
            }
            Some(path) if same_name(path, &self.ci_config_path) => {
                sheet.advise(format!("the file is `{path}`: upper and lower case differ"));
            }
            Some(_) => {}
            None => sheet.advise("the pipeline is not defined by a file of the project itself"),
        }
    }

    fn git_ref(&self, identity: &RunIdentity, sheet: &mut Sheet) {
        if let Some(pattern) = &self.ref_pattern {
            let actual = identity.git_ref.as_deref();
            let ok = actual.is_some_and(|git_ref| pattern.matches(git_ref));
            sheet.rule("the ref is one of those pinned", "ref_path", pattern.as_str(), actual, ok);
        }
        if self.ref_protected == Some(true) {
            let actual = claim(identity, "ref_protected");
            if !sheet.exactly("the ref is protected", "ref_protected", "true", actual) {
                sheet.advise("protect the branch or tag in the project's settings, or publish from one that is protected");
            }
        }
    }

    fn environment(&self, identity: &RunIdentity, sheet: &mut Sheet) {
        if let Some(expected) = &self.environment {
            let actual = identity.environment.as_deref();
            let ok = sheet.named("the job runs in the environment pinned", "environment", expected, actual);
            if !ok && actual.is_none() {
                sheet.advise(format!("the job has no environment: add `environment: {expected}` to it"));
            }
        }
        if self.environment_protected == Some(true) {
            let actual = claim(identity, "environment_protected");
            sheet.exactly("the environment is protected", "environment_protected", "true", actual);
        }
    }

    pub(super) fn lint(&self, lint: &mut Lint<'_>) {
        lint.id("gitlab.namespace_id", &self.namespace_id);
        lint.id("gitlab.project_id", &self.project_id);
        if let Some(path) = &self.project_path {
            let parts = path.split('/').all(|part| !part.is_empty()) && path.contains('/');
            lint.that(parts, "gitlab.project_path must be `group/project`");
            lint.plain("gitlab.project_path", path);
        }
        let path = &self.ci_config_path;
        let inside = !path.starts_with('/') && !path.contains("//") && !path.contains('@');
        lint.that(inside, "gitlab.ci_config_path must be a path in the project, such as `.gitlab-ci.yml`");
        lint.plain("gitlab.ci_config_path", path);
        for (name, value) in [
            ("gitlab.environment", &self.environment),
            ("gitlab.runner_environment", &self.runner_environment),
        ] {
            if let Some(value) = value {
                lint.plain(name, value);
            }
        }
        if self.environment_protected == Some(true) {
            lint.that(self.environment.is_some(), "gitlab.environment_protected needs gitlab.environment");
        }
        lint.events("gitlab.sources", self.sources.as_deref(), STRANGERS_SOURCES);
        lint.place(self.environment.is_some() || self.ref_pattern.is_some() || self.ref_protected.is_some());
    }
}

/// Returns the file of the project itself that `ci_config_ref_uri` names: `<host>/<project>//<path>@<ref>`. `null`, where
/// the definition is elsewhere, is no such file.
///
/// Attack: a file name and a branch name may both have `@` in them, so exactly the token's own ref must stand at the
/// end, and exactly the issuer's host and the token's own project at the start.
fn own_path<'a>(uri: &'a str, identity: &RunIdentity) -> Option<&'a str> {
    let instance =
        identity.issuer.strip_prefix("https://").or_else(|| identity.issuer.strip_prefix("http://"))?;
    let instance = instance.trim_end_matches('/');
    let host = instance.split('/').next().unwrap_or(instance);
    let (project, path_and_ref) = uri.split_once("//")?;
    let own = identity.repository.as_deref()?;
    // An instance below a path has it in its issuer, and may or may not repeat it here.
    if ![instance, host].into_iter().any(|start| project == format!("{start}/{own}")) {
        return None;
    }
    let path = path_and_ref.strip_suffix(identity.git_ref.as_deref()?)?.strip_suffix('@')?;
    (!path.is_empty()).then_some(path)
}
