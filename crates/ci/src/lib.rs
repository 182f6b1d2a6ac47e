//! Where this process runs: the CI platform, the ID token that it gives, and the forms in which it is told things.
//!
//! One file for each platform. Nothing here prints: what a platform wants on the screen is returned as text.

mod credential;
mod dotenv;
mod error;
mod generic;
mod github;
mod gitlab;
mod jenkins;
mod jwt;

use std::io;

use async_trait::async_trait;
use protected_http::Client;
use protected_model::{
    environment::Environment,
    identity::{PlatformKind, RunIdentity},
    secret::IdToken,
};

pub use credential::{SCRUBBED, is_credential_variable};
pub use dotenv::DOTENV_VARIABLE;
pub use error::IdTokenError;
pub use jwt::Malformed;

/// A way to tell from the environment that this is one platform.
type Detect = fn(&Environment) -> Option<Box<dyn Platform>>;

/// Every platform that announces itself, tried in this order.
const PLATFORMS: &[Detect] = &[github::detect, gitlab::detect, jenkins::detect];

/// The CI platform that this process runs on.
#[async_trait]
pub trait Platform: Send + Sync {
    /// Returns which platform's claims its ID tokens carry.
    fn kind(&self) -> PlatformKind;

    /// Returns the platform's name in messages, such as `GitHub Actions`.
    fn name(&self) -> &'static str;

    /// Obtains an ID token for `audience`: as late as possible, since it lives for minutes.
    ///
    /// # Errors
    /// When the platform gives none; [`IdTokenError::hint`] says how to get one.
    async fn id_token(&self, http: &Client, audience: &str) -> Result<IdToken, IdTokenError>;

    /// Obtains an ID token for another than FractalOps: never the one for FractalOps, with which the other could
    /// publish.
    ///
    /// # Errors
    /// As [`Self::id_token`].
    async fn token_for(
        &self,
        _to: RelyingParty,
        http: &Client,
        audience: &str,
    ) -> Result<IdToken, IdTokenError> {
        self.id_token(http, audience).await
    }

    /// Returns what the environment says about this run. Nothing of it is proven.
    fn unverified_identity(&self) -> RunIdentity;

    /// Returns the line that makes the platform hide `secret` from its log from then on, where there is one.
    fn masks(&self, _secret: &str) -> Option<String> {
        None
    }

    /// Returns the line that shows `message` beside the run, where the platform has such a place.
    fn annotation(&self, _level: Level, _title: &str, _message: &str) -> Option<String> {
        None
    }

    /// Returns the lines that open and close a group of lines called `title`, where there are groups.
    fn group(&self, _title: &str) -> Option<(String, String)> {
        None
    }

    /// Sets the output `name` of this step for the steps and jobs after it.
    ///
    /// # Errors
    /// When the platform's file cannot be written, or cannot hold `value`.
    fn write_output(&self, name: &str, value: &str) -> io::Result<()>;

    /// Adds `markdown` to the summary of the run, where there is one.
    ///
    /// # Errors
    /// When the platform's file cannot be written.
    fn write_summary(&self, _markdown: &str) -> io::Result<()> {
        Ok(())
    }
}

/// Whom, but FractalOps, a job shows its identity to. Each gets a token of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelyingParty {
    /// A certificate authority of Sigstore.
    Sigstore,
    /// The key service of a delivery, or the identity service in front of it.
    KeyService,
}

/// How much an annotation matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Good to know.
    Notice,
    /// Worth a look.
    Warning,
    /// What failed.
    Error,
}

/// Returns the platform that `environment` describes, or `None` for a local run.
///
/// An ID token that is given explicitly goes before the platform's own; the platform is still reported to in its
/// own way.
pub fn detect(environment: &Environment) -> Option<Box<dyn Platform>> {
    let ambient = PLATFORMS.iter().find_map(|detect| detect(environment));
    generic::detect(environment, ambient)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().copied().collect()
    }

    fn name(pairs: &[(&str, &str)]) -> Option<&'static str> {
        detect(&environment(pairs)).map(|platform| platform.name())
    }

    #[test]
    fn each_platform_is_told_by_its_own_flag() {
        assert_eq!(name(&[("GITHUB_ACTIONS", "true")]), Some("GitHub Actions"));
        assert_eq!(name(&[("GITLAB_CI", "true")]), Some("GitLab CI"));
        let jenkins = [("JENKINS_URL", "https://ci.example/"), ("BUILD_ID", "7")];
        assert_eq!(name(&jenkins), Some("Jenkins"));
        assert_eq!(name(&[("FRACTALOPS_ID_TOKEN_FILE", "/run/token")]), Some("OIDC"));
    }

    #[test]
    fn nothing_less_than_the_flag_will_do() {
        for pairs in [
            &[][..],
            &[("CI", "true")],
            &[("GITHUB_ACTIONS", "1")],
            &[("GITHUB_ACTIONS", "True")],
            &[("GITHUB_ACTIONS", "true ")],
            &[("GITHUB_ACTIONS", "false")],
            &[("GITLAB_CI", "")],
            &[("GITLAB_CI", "yes")],
            &[("FORGEJO_ACTIONS", "true")],
            &[("JENKINS_URL", "https://ci.example/")],
            &[("BUILD_ID", "7")],
            &[("JENKINS_URL", ""), ("BUILD_ID", "7")],
            &[("FRACTALOPS_ID_TOKEN", "")],
            &[("ACTIONS_ID_TOKEN_REQUEST_URL", "https://x.example"), ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "x")],
        ] {
            assert_eq!(name(pairs), None, "{pairs:?}");
        }
    }

    #[test]
    fn an_explicit_token_keeps_the_platforms_reports() {
        let platform = detect(&environment(&[("GITHUB_ACTIONS", "true"), ("FRACTALOPS_ID_TOKEN", "x")]))
            .expect("platform");
        assert_eq!(platform.name(), "GitHub Actions");
        assert!(platform.annotation(Level::Error, "t", "m").is_some());
        assert!(platform.group("t").is_some());
        let alone = detect(&environment(&[("FRACTALOPS_ID_TOKEN", "x")])).expect("platform");
        assert_eq!(alone.kind(), PlatformKind::Generic);
        assert_eq!(alone.annotation(Level::Error, "t", "m"), None);
    }
}
