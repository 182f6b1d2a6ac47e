//! Jenkins with the OpenID Connect Provider plugin.

use std::io;

use async_trait::async_trait;
use protected_http::Client;
use protected_model::{
    environment::Environment,
    identity::{PlatformKind, RunIdentity},
    secret::IdToken,
};
use url::Url;

use crate::{Platform, RelyingParty, dotenv::Dotenv, error::IdTokenError, generic};

const SNIPPET: &str =
    "add an `OpenID Connect id token as file` credential to the folder, and bind it around the step:
    withCredentials([file(credentialsId: 'fractalops-id-token', variable: 'FRACTALOPS_ID_TOKEN_FILE')]) {
      sh 'protected-registry publish'
    }";

pub(crate) fn detect(environment: &Environment) -> Option<Box<dyn Platform>> {
    environment.get("JENKINS_URL")?;
    environment.get("BUILD_ID")?;
    Some(Box::new(Jenkins { environment: environment.clone(), dotenv: Dotenv::new(environment) }))
}

struct Jenkins {
    environment: Environment,
    dotenv: Dotenv,
}

impl Jenkins {
    fn no_token(&self, variable: &'static str, snippet: &str) -> IdTokenError {
        if self.environment.get("CHANGE_FORK").is_some() {
            return IdTokenError::Fork { platform: self.name(), request: "PR" };
        }
        IdTokenError::Missing { platform: self.name(), variable, snippet: snippet.to_owned() }
    }
}

#[async_trait]
impl Platform for Jenkins {
    fn kind(&self) -> PlatformKind {
        PlatformKind::Jenkins
    }

    fn name(&self) -> &'static str {
        PlatformKind::Jenkins.name()
    }

    /// Gives none: Jenkins has no ambient identity, and one that was bound has been taken before it comes to this.
    async fn id_token(&self, _http: &Client, _audience: &str) -> Result<IdToken, IdTokenError> {
        Err(self.no_token(generic::FILE_VARIABLE, SNIPPET))
    }

    async fn token_for(
        &self,
        to: RelyingParty,
        _http: &Client,
        audience: &str,
    ) -> Result<IdToken, IdTokenError> {
        let [_, variable] = to.variables();
        let snippet = format!(
            "add an `OpenID Connect id token as file` credential with the audience `{audience}`, and bind it as well:
    withCredentials([file(credentialsId: '{}', variable: '{variable}')]) {{
      sh 'protected-registry ...'
    }}",
            variable.trim_end_matches("_FILE").to_ascii_lowercase().replace('_', "-")
        );
        Err(self.no_token(variable, &snippet))
    }

    fn unverified_identity(&self) -> RunIdentity {
        let get = |name| self.environment.get(name).map(str::to_owned);
        let git_ref = get("TAG_NAME").map(|tag| format!("refs/tags/{tag}")).or_else(|| {
            let branch = get("BRANCH_NAME").filter(|_| self.environment.get("CHANGE_ID").is_none())?;
            Some(format!("refs/heads/{branch}"))
        });
        let subject =
            get("JOB_URL").or_else(|| get("JOB_NAME")).unwrap_or_else(|| "a Jenkins job".to_owned());
        RunIdentity {
            repository: self.environment.get("GIT_URL").and_then(without_credentials),
            workflow_ref: get("JOB_URL"),
            git_ref,
            sha: get("GIT_COMMIT"),
            run_id: get("BUILD_NUMBER"),
            run_url: get("BUILD_URL"),
            fork: self.environment.get("CHANGE_FORK").is_some(),
            ..RunIdentity::new(self.kind(), "", subject)
        }
    }

    fn write_output(&self, name: &str, value: &str) -> io::Result<()> {
        self.dotenv.write(name, value)
    }
}

/// Returns a Git remote without the username and password that jobs like to put there.
fn without_credentials(remote: &str) -> Option<String> {
    match Url::parse(remote) {
        Ok(url) if url.has_host() => Some(format!("{}://{}{}", url.scheme(), url.host_str()?, url.path())),
        // `git@host:path`, where what stands before the `@` is a login and no secret.
        _ => remote.split_once('@').map(|(_, rest)| rest.to_owned()).filter(|rest| !rest.contains('@')),
    }
}

#[cfg(test)]
mod tests {
    use protected_http::Settings;

    use super::*;
    use crate::DOTENV_VARIABLE;

    fn platform(pairs: &[(&str, &str)]) -> Box<dyn Platform> {
        let flags = [("JENKINS_URL", "https://ci.example/"), ("BUILD_ID", "7")];
        detect(&flags.iter().chain(pairs).copied().collect()).expect("platform")
    }

    async fn token(pairs: &[(&str, &str)]) -> IdTokenError {
        let settings = Settings::from_environment(&Environment::default(), None, "test").expect("settings");
        let http = Client::new(&settings).expect("client");
        platform(pairs).id_token(&http, "https://fractalops.example").await.expect_err("error")
    }

    #[tokio::test]
    async fn it_has_no_identity_of_its_own() {
        let error = token(&[]).await;
        assert!(error.hint().expect("hint").to_string().contains("withCredentials([file("), "{error}");
        let fork = token(&[("CHANGE_ID", "7"), ("CHANGE_FORK", "somebody")]).await;
        assert!(fork.to_string().starts_with("fork PR: "), "{fork}");
    }

    #[test]
    fn the_remotes_credentials_stay_away() {
        let of = |url| platform(&[("GIT_URL", url)]).unverified_identity().repository;
        let clean = Some("https://git.example/acme/core.git".to_owned());
        assert_eq!(of("https://user:hunter2@git.example/acme/core.git"), clean);
        assert_eq!(of("https://hunter2@git.example/acme/core.git?private_token=hunter2"), clean);
        assert_eq!(of("git@git.example:acme/core.git").as_deref(), Some("git.example:acme/core.git"));
        for url in ["hunter2", "a@hunter2@b", "", "hunter2:x@git.example:acme"] {
            let found = of(url).unwrap_or_default();
            assert!(!found.contains("hunter2"), "{url} became {found}");
        }
    }

    #[test]
    fn the_run_is_described() {
        let job = ("JOB_URL", "https://ci.example/job/core/");
        let identity = platform(&[job, ("BRANCH_NAME", "main")]).unverified_identity();
        assert_eq!(identity.describe(), "https://ci.example/job/core/");
        assert_eq!(identity.git_ref.as_deref(), Some("refs/heads/main"));
        let change = platform(&[job, ("BRANCH_NAME", "PR-7"), ("CHANGE_ID", "7")]).unverified_identity();
        assert_eq!(change.git_ref, None);
    }

    #[test]
    fn outputs_go_into_a_file_where_one_is_named() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("out.env");
        let platform = platform(&[(DOTENV_VARIABLE, path.to_str().expect("path"))]);
        platform.write_output("correlation-id", "x").expect("write");
        assert!(platform.write_output("a", "b\nPATH=/evil").is_err());
        assert_eq!(std::fs::read_to_string(path).expect("read"), "CORRELATION_ID=x\n");
    }
}
