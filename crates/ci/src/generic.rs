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
    Level, Platform,
    dotenv::Dotenv,
    error::IdTokenError,
    jwt::{self, Malformed},
};

/// Holds an ID token.
pub(crate) const VARIABLE: &str = "FRACTALOPS_ID_TOKEN";
/// Names a file that holds one.
pub(crate) const FILE_VARIABLE: &str = "FRACTALOPS_ID_TOKEN_FILE";

/// Returns `ambient` with the ID token that `environment` gives explicitly, when it gives one.
pub(crate) fn detect(
    environment: &Environment,
    ambient: Option<Box<dyn Platform>>,
) -> Option<Box<dyn Platform>> {
    let source = match (environment.get(VARIABLE), environment.get(FILE_VARIABLE)) {
        (None, None) => return ambient,
        (Some(value), None) => Source::Value(IdToken::new(value)),
        (None, Some(path)) => Source::File(IdToken::new(path)),
        (Some(_), Some(_)) => Source::Both,
    };
    Some(Box::new(Explicit { source, ambient, dotenv: Dotenv::new(environment) }))
}

/// Where the token is given.
enum Source {
    /// In [`VARIABLE`].
    Value(IdToken),
    /// In the file that [`FILE_VARIABLE`] names. The path is kept like a token: it may be one by mistake.
    File(IdToken),
    /// In both, so that nobody knows which is meant.
    Both,
}

struct Explicit {
    source: Source,
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

    async fn id_token(&self, _http: &Client, _audience: &str) -> Result<IdToken, IdTokenError> {
        match &self.source {
            Source::Value(value) => jwt::id_token(value.reveal(), "the value of `FRACTALOPS_ID_TOKEN`"),
            Source::File(path) => from_file(path.reveal()).await,
            Source::Both => Err(IdTokenError::Ambiguous(VARIABLE, FILE_VARIABLE)),
        }
    }

    fn unverified_identity(&self) -> RunIdentity {
        match &self.ambient {
            Some(ambient) => ambient.unverified_identity(),
            None => {
                let variable = if matches!(self.source, Source::File(_)) { FILE_VARIABLE } else { VARIABLE };
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

/// Reads a token's file anew each time: Kubernetes replaces it while the job runs.
async fn from_file(path: &str) -> Result<IdToken, IdTokenError> {
    const ORIGIN: &str = "the content of the file that `FRACTALOPS_ID_TOKEN_FILE` names";
    if jwt::shape(path).is_none() {
        let origin = "the value of `FRACTALOPS_ID_TOKEN_FILE`";
        return Err(IdTokenError::Malformed { origin, reason: Malformed::Path });
    }
    let mut content = Vec::new();
    let read = async {
        let file = tokio::fs::File::open(path).await?;
        file.take(jwt::MAX_BYTES as u64 + 1).read_to_end(&mut content).await
    };
    read.await.map_err(|source| IdTokenError::File { variable: FILE_VARIABLE, source })?;
    if content.len() > jwt::MAX_BYTES {
        return Err(IdTokenError::Malformed { origin: ORIGIN, reason: Malformed::TooLong });
    }
    let text = std::str::from_utf8(&content)
        .map_err(|_| IdTokenError::Malformed { origin: ORIGIN, reason: Malformed::NotCompact })?;
    jwt::id_token(text, ORIGIN)
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
}
