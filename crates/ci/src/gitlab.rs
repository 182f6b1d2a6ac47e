//! GitLab CI, also self-managed.

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use protected_http::Client;
use protected_model::{
    environment::Environment,
    identity::{PlatformKind, RunIdentity},
    secret::IdToken,
};

use crate::{Platform, dotenv::Dotenv, error::IdTokenError, generic, jwt};

pub(crate) fn detect(environment: &Environment) -> Option<Box<dyn Platform>> {
    environment.is("GITLAB_CI", "true").then(|| {
        Box::new(GitlabCi {
            environment: environment.clone(),
            dotenv: Dotenv::new(environment),
            sections: AtomicU32::new(0),
        }) as _
    })
}

struct GitlabCi {
    environment: Environment,
    dotenv: Dotenv,
    /// How many sections were opened: each needs a name of its own.
    sections: AtomicU32,
}

impl GitlabCi {
    /// Returns whether this runs for a merge request whose code is in another project.
    fn is_fork(&self) -> bool {
        let source = self.environment.get("CI_MERGE_REQUEST_SOURCE_PROJECT_ID");
        source.is_some() && source != self.environment.get("CI_PROJECT_ID")
    }

    fn no_token(&self, audience: &str) -> IdTokenError {
        if self.is_fork() {
            return IdTokenError::Fork { platform: self.name(), request: "MR" };
        }
        // A JSON string is a YAML string.
        let audience = serde_json::Value::from(audience);
        IdTokenError::Missing {
            platform: self.name(),
            variable: generic::VARIABLE,
            snippet: format!(
                "add this to the job in `.gitlab-ci.yml`:
    id_tokens:
      {}:
        aud: {audience}",
                generic::VARIABLE
            ),
        }
    }
}

#[async_trait]
impl Platform for GitlabCi {
    fn kind(&self) -> PlatformKind {
        PlatformKind::GitlabCi
    }

    fn name(&self) -> &'static str {
        PlatformKind::GitlabCi.name()
    }

    /// Takes the token from the variable called after `audience`. One in `FRACTALOPS_ID_TOKEN`, which is the usual
    /// place, has been taken before it comes to this.
    async fn id_token(&self, _http: &Client, audience: &str) -> Result<IdToken, IdTokenError> {
        match self.environment.get(&derived_variable(audience)) {
            Some(token) => jwt::id_token(token, "the value of the variable called after the audience"),
            None => Err(self.no_token(audience)),
        }
    }

    fn unverified_identity(&self) -> RunIdentity {
        let get = |name| self.environment.get(name).map(str::to_owned);
        let flag = |name| self.environment.get(name).map(|value| value == "true");
        let git_ref = get("CI_MERGE_REQUEST_REF_PATH")
            .or_else(|| get("CI_COMMIT_TAG").map(|tag| format!("refs/tags/{tag}")))
            .or_else(|| get("CI_COMMIT_BRANCH").map(|branch| format!("refs/heads/{branch}")));
        let repository = get("CI_PROJECT_PATH");
        let subject = repository.clone().unwrap_or_else(|| "a GitLab job".to_owned());
        RunIdentity {
            repository,
            repository_id: get("CI_PROJECT_ID"),
            owner: get("CI_PROJECT_NAMESPACE"),
            owner_id: get("CI_PROJECT_NAMESPACE_ID"),
            git_ref,
            ref_protected: flag("CI_COMMIT_REF_PROTECTED"),
            environment: get("CI_ENVIRONMENT_NAME"),
            event: get("CI_PIPELINE_SOURCE"),
            sha: get("CI_COMMIT_SHA"),
            run_id: get("CI_PIPELINE_ID"),
            run_attempt: get("CI_JOB_ID"),
            run_url: get("CI_JOB_URL"),
            fork: self.is_fork(),
            ..RunIdentity::new(self.kind(), "", subject)
        }
    }

    /// Opens a section of the job's log. Its times are for display only.
    fn group(&self, title: &str) -> Option<(String, String)> {
        let number = self.sections.fetch_add(1, Ordering::Relaxed);
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let name = format!("protected_registry_{number}");
        let title: String = title.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Some((
            format!("\x1b[0Ksection_start:{time}:{name}\r\x1b[0K{title}"),
            format!("\x1b[0Ksection_end:{time}:{name}\r\x1b[0K"),
        ))
    }

    fn write_output(&self, name: &str, value: &str) -> io::Result<()> {
        self.dotenv.write(name, value)
    }
}

/// Returns the variable that other tools look into for a token of `audience`: upper case, `_` for what is neither
/// letter nor digit, and `_ID_TOKEN`.
fn derived_variable(audience: &str) -> String {
    let name = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    audience.chars().map(name).chain("_ID_TOKEN".chars()).collect()
}
