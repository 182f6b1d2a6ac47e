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

use crate::{Platform, dotenv::Dotenv, error::IdTokenError, generic};

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
        if self.environment.get("CHANGE_FORK").is_some() {
            return Err(IdTokenError::Fork { platform: self.name(), request: "PR" });
        }
        Err(IdTokenError::Missing {
            platform: self.name(),
            variable: generic::FILE_VARIABLE,
            snippet: SNIPPET.to_owned(),
        })
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
