//! An ID token that is given explicitly, on any platform or none.

use std::io;

use async_trait::async_trait;
use protected_http::Client;
use protected_model::{
    environment::Environment,
    identity::{PlatformKind, RunIdentity},
    secret::{IdToken, Secret},
};
use tokio::io::AsyncReadExt;

use crate::{
    Level, Platform, RelyingParty,
    dotenv::Dotenv,
    error::IdTokenError,
    jwt::{self, Malformed},
};

/// Where a token is given, and what messages call it.
struct Names {
    /// Holds the token.
    variable: &'static str,
    /// Names a file that holds it.
    file: &'static str,
    value_origin: &'static str,
    path_origin: &'static str,
    content_origin: &'static str,
}

macro_rules! names {
    ($who:literal) => {
        Names {
            variable: concat!($who, "_ID_TOKEN"),
            file: concat!($who, "_ID_TOKEN_FILE"),
            value_origin: concat!("the value of `", $who, "_ID_TOKEN`"),
            path_origin: concat!("the value of `", $who, "_ID_TOKEN_FILE`"),
            content_origin: concat!("the content of the file that `", $who, "_ID_TOKEN_FILE` names"),
        }
    };
}

const FRACTALOPS: Names = names!("FRACTALOPS");
const SIGSTORE: Names = names!("SIGSTORE");
const KEY_SERVICE: Names = names!("KEY_SERVICE");

/// Holds an ID token for FractalOps.
pub(crate) const VARIABLE: &str = FRACTALOPS.variable;
/// Names a file that holds one.
pub(crate) const FILE_VARIABLE: &str = FRACTALOPS.file;

impl RelyingParty {
    fn names(self) -> &'static Names {
        match self {
            Self::Sigstore => &SIGSTORE,
            Self::KeyService => &KEY_SERVICE,
        }
    }

    /// Returns the variable that holds an ID token for it, and the one that names a file that holds one.
    pub fn variables(self) -> [&'static str; 2] {
        [self.names().variable, self.names().file]
    }
}

/// Returns `ambient` with the ID tokens that `environment` gives explicitly, when it gives one.
pub(crate) fn detect(
    environment: &Environment,
    ambient: Option<Box<dyn Platform>>,
) -> Option<Box<dyn Platform>> {
    let fractalops = Source::of(environment, &FRACTALOPS);
    // Whoever signs or asks for a key is somebody to FractalOps first.
    if fractalops.is_none() && ambient.is_none() {
        return None;
    }
    let others = [RelyingParty::Sigstore, RelyingParty::KeyService];
    let others: Vec<_> =
        others.into_iter().filter_map(|to| Some((to, Source::of(environment, to.names())?))).collect();
    if fractalops.is_none() && others.is_empty() {
        return ambient;
    }
    Some(Box::new(Explicit { fractalops, others, ambient, dotenv: Dotenv::new(environment) }))
}

/// Where the token is given.
enum Source {
    /// In [`Names::variable`].
    Value(IdToken),
    /// In the file that [`Names::file`] names. The path is kept like a token: it may be one by mistake.
    File(IdToken),
    /// In both, so that nobody knows which is meant.
    Both,
}

impl Source {
    fn of(environment: &Environment, names: &Names) -> Option<Self> {
        match (environment.get(names.variable), environment.get(names.file)) {
            (None, None) => None,
            (Some(value), None) => Some(Self::Value(IdToken::new(value))),
            (None, Some(path)) => Some(Self::File(IdToken::new(path))),
            (Some(_), Some(_)) => Some(Self::Both),
        }
    }

    async fn token(&self, names: &Names) -> Result<IdToken, IdTokenError> {
        match self {
            Self::Value(value) => {
                jwt::id_token(value.reveal()).map_err(IdTokenError::malformed(names.value_origin))
            }
            Self::File(path) => from_file(path.reveal(), names).await,
            Self::Both => Err(IdTokenError::Ambiguous(names.variable, names.file)),
        }
    }
}

struct Explicit {
    fractalops: Option<Source>,
    others: Vec<(RelyingParty, Source)>,
    ambient: Option<Box<dyn Platform>>,
    dotenv: Dotenv,
}

#[async_trait]
impl Platform for Explicit {
    fn kind(&self) -> PlatformKind {
        self.ambient.as_ref().map_or(PlatformKind::Generic, |ambient| ambient.kind())
    }

    fn name(&self) -> &'static str {
        self.ambient.as_ref().map_or(PlatformKind::Generic.name(), |ambient| ambient.name())
    }

    async fn id_token(&self, http: &Client, audience: &str) -> Result<IdToken, IdTokenError> {
        match (&self.fractalops, &self.ambient) {
            (Some(source), _) => source.token(&FRACTALOPS).await,
            (None, Some(ambient)) => ambient.id_token(http, audience).await,
            (None, None) => Err(self.missing(&FRACTALOPS, audience)),
        }
    }

    async fn token_for(
        &self,
        to: RelyingParty,
        http: &Client,
        audience: &str,
    ) -> Result<IdToken, IdTokenError> {
        match (self.others.iter().find(|(other, _)| *other == to), &self.ambient) {
            (Some((_, source)), _) => source.token(to.names()).await,
            (None, Some(ambient)) => ambient.token_for(to, http, audience).await,
            (None, None) => Err(self.missing(to.names(), audience)),
        }
    }

    fn unverified_identity(&self) -> RunIdentity {
        match &self.ambient {
            Some(ambient) => ambient.unverified_identity(),
            None => {
                let file = matches!(self.fractalops, Some(Source::File(_)));
                let variable = if file { FILE_VARIABLE } else { VARIABLE };
                RunIdentity::new(PlatformKind::Generic, "", format!("the ID token in {variable}"))
            }
        }
    }

    fn masks(&self, secret: &str) -> Option<String> {
        self.ambient.as_ref()?.masks(secret)
    }

    fn annotation(&self, level: Level, title: &str, message: &str) -> Option<String> {
        self.ambient.as_ref()?.annotation(level, title, message)
    }

    fn group(&self, title: &str) -> Option<(String, String)> {
        self.ambient.as_ref()?.group(title)
    }

    fn write_output(&self, name: &str, value: &str) -> io::Result<()> {
        match &self.ambient {
            Some(ambient) => ambient.write_output(name, value),
            None => self.dotenv.write(name, value),
        }
    }

    fn write_summary(&self, markdown: &str) -> io::Result<()> {
        self.ambient.as_ref().map_or(Ok(()), |ambient| ambient.write_summary(markdown))
    }
}

impl Explicit {
    fn missing(&self, names: &Names, audience: &str) -> IdTokenError {
        IdTokenError::Missing {
            platform: self.name(),
            variable: names.file,
            snippet: format!(
                "put a token with the audience `{audience}` into a file, and its path into {}",
                names.file
            ),
        }
    }
}

/// Reads a token's file anew each time: Kubernetes replaces it while the job runs.
async fn from_file(path: &str, names: &Names) -> Result<IdToken, IdTokenError> {
    if jwt::shape(path).is_none() {
        return Err(IdTokenError::Malformed { origin: names.path_origin, reason: Malformed::Path });
    }
    let malformed = |reason| IdTokenError::Malformed { origin: names.content_origin, reason };
    let mut content = Vec::new();
    let read = async {
        let file = tokio::fs::File::open(path).await?;
        file.take(jwt::MAX_BYTES as u64 + 1).read_to_end(&mut content).await
    };
    read.await.map_err(|source| IdTokenError::File { variable: names.file, source })?;
    if content.len() > jwt::MAX_BYTES {
        return Err(malformed(Malformed::TooLong));
    }
    let text = std::str::from_utf8(&content).map_err(|_| malformed(Malformed::NotCompact))?;
    jwt::id_token(text).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use protected_http::Settings;

    use super::*;
    use crate::jwt::tests::GOOD;

    async fn token(pairs: &[(&str, &str)]) -> Result<IdToken, IdTokenError> {
        let environment = pairs.iter().copied().collect();
        let settings = Settings::from_environment(&Environment::default(), None, "test").expect("settings");
        let http = Client::new(&settings).expect("client");
        crate::detect(&environment).expect("platform").id_token(&http, "https://fractalops.example").await
    }

    fn reason(result: Result<IdToken, IdTokenError>) -> Malformed {
        match result {
            Err(IdTokenError::Malformed { reason, .. }) => reason,
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("a token"),
        }
    }

    #[tokio::test]
    async fn from_the_variable() {
        let given = token(&[(VARIABLE, GOOD), ("GITHUB_ACTIONS", "true")]).await.expect("token");
        assert_eq!(given.reveal(), GOOD);
        assert_eq!(reason(token(&[(VARIABLE, "hunter2")]).await), Malformed::NotCompact);
        assert_eq!(reason(token(&[(VARIABLE, "  ")]).await), Malformed::Empty);
    }

    #[tokio::test]
    async fn from_a_file() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("token");
        let path = path.to_str().expect("path");
        std::fs::write(path, format!("{GOOD}\n")).expect("write");
        assert_eq!(token(&[(FILE_VARIABLE, path)]).await.expect("token").reveal(), GOOD);
        for (content, expected) in [
            (b"".to_vec(), Malformed::Empty),
            (b"\n\n".to_vec(), Malformed::Empty),
            (b"-----BEGIN PRIVATE KEY-----".to_vec(), Malformed::NotCompact),
            (vec![0xff; 10], Malformed::NotCompact),
            (vec![b'A'; 1_000_000], Malformed::TooLong),
        ] {
            std::fs::write(path, content).expect("write");
            assert_eq!(reason(token(&[(FILE_VARIABLE, path)]).await), expected);
        }
    }

    #[tokio::test]
    async fn a_file_that_is_not_there() {
        for path in ["/does/not/exist/hunter2", "/"] {
            let error = token(&[(FILE_VARIABLE, path)]).await.expect_err("error");
            assert!(matches!(error, IdTokenError::File { .. }), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_token_in_place_of_a_path_is_not_repeated() {
        let error = token(&[(FILE_VARIABLE, GOOD)]).await.expect_err("error");
        assert!(error.hint().is_some());
        assert!(!error.to_string().contains(GOOD), "{error}");
        assert_eq!(reason(Err(error)), Malformed::Path);
    }

    #[tokio::test]
    async fn two_are_one_too_many() {
        let both = token(&[(VARIABLE, GOOD), (FILE_VARIABLE, "/run/token")]).await;
        assert!(matches!(both, Err(IdTokenError::Ambiguous(..))));
    }

    async fn token_for(to: RelyingParty, pairs: &[(&str, &str)]) -> Option<Result<IdToken, IdTokenError>> {
        let environment = pairs.iter().copied().collect();
        let settings = Settings::from_environment(&Environment::default(), None, "test").expect("settings");
        let http = Client::new(&settings).expect("client");
        Some(crate::detect(&environment)?.token_for(to, &http, "sigstore").await)
    }

    const OTHERS: [RelyingParty; 2] = [RelyingParty::Sigstore, RelyingParty::KeyService];

    /// With the token for FractalOps, a certificate authority or a key service could publish.
    #[tokio::test]
    async fn the_token_for_fractalops_is_never_shown_to_another() {
        let mine = (VARIABLE, GOOD);
        for to in OTHERS {
            for pairs in [
                &[mine][..],
                &[mine, ("GITLAB_CI", "true")],
                &[mine, ("JENKINS_URL", "https://ci.example/"), ("BUILD_ID", "7")],
                &[mine, ("GITHUB_ACTIONS", "true")],
            ] {
                let error = token_for(to, pairs).await.expect("platform").expect_err("a token");
                assert!(error.hint().is_some(), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn one_for_another_is_taken_from_its_own_variable() {
        let gitlab = ("GITLAB_CI", "true");
        for to in OTHERS {
            let [variable, file] = to.variables();
            for pairs in [&[(variable, GOOD), gitlab][..], &[(variable, GOOD), (VARIABLE, "other")]] {
                let given = token_for(to, pairs).await.expect("platform").expect("token");
                assert_eq!(given.reveal(), GOOD);
            }
            assert!(token_for(to, &[(variable, GOOD)]).await.is_none(), "nobody to FractalOps");
            let missing = token_for(to, &[gitlab]).await.expect("platform").expect_err("none");
            let hint = missing.hint().expect("hint").to_string();
            assert!(hint.ends_with(&format!("{variable}:\n        aud: \"sigstore\"")), "{hint}");
            let both = [(variable, GOOD), (file, "/run/token"), gitlab];
            let both = token_for(to, &both).await.expect("platform");
            assert!(matches!(both, Err(IdTokenError::Ambiguous(..))));
        }
        let [signing, _] = RelyingParty::Sigstore.variables();
        let other = token_for(RelyingParty::KeyService, &[(signing, GOOD), (VARIABLE, GOOD)])
            .await
            .expect("platform");
        assert!(other.is_err(), "the token for one was shown to the other");
    }
}
