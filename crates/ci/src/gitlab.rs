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

use crate::{Platform, RelyingParty, dotenv::Dotenv, error::IdTokenError, generic, jwt};

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

    /// Takes the token from the variable called after `audience`, and proposes `variable` where there is none.
    fn derived(&self, audience: &str, variable: &'static str) -> Result<IdToken, IdTokenError> {
        match self.environment.get(&derived_variable(audience)) {
            Some(token) => jwt::id_token(token)
                .map_err(IdTokenError::malformed("the value of the variable called after the audience")),
            None => Err(self.no_token(audience, variable)),
        }
    }

    fn no_token(&self, audience: &str, variable: &'static str) -> IdTokenError {
        if self.is_fork() {
            return IdTokenError::Fork { platform: self.name(), request: "MR" };
        }
        // A JSON string is a YAML string.
        let audience = serde_json::Value::from(audience);
        IdTokenError::Missing {
            platform: self.name(),
            variable,
            snippet: format!(
                "add this to the job in `.gitlab-ci.yml`:
    id_tokens:
      {variable}:
        aud: {audience}"
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
        self.derived(audience, generic::VARIABLE)
    }

    async fn token_for(
        &self,
        to: RelyingParty,
        _http: &Client,
        audience: &str,
    ) -> Result<IdToken, IdTokenError> {
        self.derived(audience, to.variables()[0])
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

#[cfg(test)]
mod tests {
    use protected_http::Settings;
    use protected_model::secret::Secret;

    use super::*;
    use crate::jwt::tests::GOOD;

    fn platform(pairs: &[(&str, &str)]) -> Box<dyn Platform> {
        let flag = [("GITLAB_CI", "true")];
        detect(&flag.iter().chain(pairs).copied().collect()).expect("platform")
    }

    async fn token(pairs: &[(&str, &str)]) -> Result<IdToken, IdTokenError> {
        let settings = Settings::from_environment(&Environment::default(), None, "test").expect("settings");
        let http = Client::new(&settings).expect("client");
        platform(pairs).id_token(&http, "https://fractalops.example").await
    }

    #[tokio::test]
    async fn the_variable_called_after_the_audience() {
        let variable = "HTTPS___FRACTALOPS_EXAMPLE_ID_TOKEN";
        assert_eq!(derived_variable("https://fractalops.example"), variable);
        assert_eq!(token(&[(variable, GOOD)]).await.expect("token").reveal(), GOOD);
        let bad = token(&[(variable, "hunter2")]).await.expect_err("error");
        assert!(
            matches!(bad, IdTokenError::Malformed { .. }) && !bad.to_string().contains("hunter2"),
            "{bad}"
        );
    }

    #[tokio::test]
    async fn a_missing_token_says_what_to_paste() {
        let error = token(&[("CI_JOB_JWT_V2", GOOD), ("SIGSTORE_ID_TOKEN", GOOD)]).await.expect_err("error");
        let hint = error.hint().expect("hint").to_string();
        let lines = "    id_tokens:\n      FRACTALOPS_ID_TOKEN:\n        aud: \"https://fractalops.example\"";
        assert!(hint.ends_with(lines), "{hint}");
        assert!(!error.is_transient());
    }

    #[tokio::test]
    async fn forks_are_told_by_the_projects() {
        let fork = [("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "8"), ("CI_PROJECT_ID", "7")];
        let error = token(&fork).await.expect_err("error");
        assert!(error.to_string().starts_with("fork MR: "), "{error}");
        assert!(platform(&fork).unverified_identity().fork);
        let own = [("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "7"), ("CI_PROJECT_ID", "7")];
        assert!(!platform(&own).unverified_identity().fork);
        assert!(matches!(token(&own).await, Err(IdTokenError::Missing { .. })));
        assert!(!platform(&[("CI_PROJECT_ID", "7")]).unverified_identity().fork);
    }

    #[test]
    fn sections_have_names_of_their_own_and_one_line() {
        let platform = platform(&[]);
        let (open, close) = platform.group("Rules\r\n\x1b[0Ksection_end:1:x").expect("group");
        assert!(
            open.contains("section_start:") && open.contains(":protected_registry_0\r\x1b[0KRules  "),
            "{open}"
        );
        assert!(!open.contains('\n') && open.matches('\x1b').count() == 2, "{open}");
        assert!(close.contains("section_end:") && close.contains(":protected_registry_0\r"), "{close}");
        assert!(platform.group("x").expect("group").0.contains("protected_registry_1"));
    }

    #[test]
    fn the_run_is_described() {
        let of = |pairs: &[(&str, &str)]| platform(pairs).unverified_identity();
        let tag = of(&[
            ("CI_PROJECT_PATH", "acme/core"),
            ("CI_COMMIT_TAG", "v1"),
            ("CI_COMMIT_REF_PROTECTED", "true"),
        ]);
        assert_eq!(tag.describe(), "acme/core at refs/tags/v1");
        assert_eq!(tag.ref_protected, Some(true));
        let branch = of(&[("CI_COMMIT_BRANCH", "main"), ("CI_COMMIT_REF_PROTECTED", "false")]);
        assert_eq!(branch.git_ref.as_deref(), Some("refs/heads/main"));
        assert_eq!(branch.ref_protected, Some(false));
        assert_eq!(of(&[]).describe(), "a GitLab job");
    }
}
