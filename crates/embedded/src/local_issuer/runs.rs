//! The imitated platforms: their key, and the runs that have a request token.

use std::{collections::BTreeMap, path::Path};

use jiff::Timestamp;
use protected_model::{
    api::problem::Code, digest::Sha256, identity::PlatformKind, secret::IdToken, service_url::ServiceUrl,
    time::numeric_date,
};
use protected_trust::issuer::StaticKeys;
use serde_json::{Value, json};

use crate::{
    config::{self, LocalRun, issuer_url},
    error::ServeError,
    problem::{Answer, Refusal},
    store,
};

/// The folder in the data folder with a request token for each run, and the key.
const FOLDER: &str = "local-issuer";

/// The issuer and its runs.
pub(crate) struct LocalIssuer {
    pub(super) issuer: protected_trust::local_issuer::LocalIssuer,
    pub(super) public_url: ServiceUrl,
    /// Each run with the digest of its request token.
    pub(super) runs: BTreeMap<String, (LocalRun, Sha256)>,
}

impl LocalIssuer {
    /// Loads or makes the key and a request token for each run: `<data>/local-issuer/<run>.request-token`.
    pub(crate) fn open(
        config: &config::LocalIssuer,
        public_url: &ServiceUrl,
        data: &Path,
    ) -> Result<Self, ServeError> {
        let folder = data.join(FOLDER);
        let issuer =
            protected_trust::local_issuer::LocalIssuer::load_or_create(&folder).map_err(ServeError::Keys)?;
        let mut runs = BTreeMap::new();
        for run in &config.runs {
            let token = store::private_token(&folder.join(format!("{}.request-token", run.name)))?;
            runs.insert(run.name.clone(), (run.clone(), Sha256::of(token)));
        }
        Ok(Self { issuer, public_url: public_url.clone(), runs })
    }

    /// Returns the keys when `issuer` is one of the URLs of this issuer.
    pub(crate) fn keys_of(&self, issuer: &str) -> Option<StaticKeys> {
        let platforms =
            config::PLATFORMS.iter().any(|platform| issuer == issuer_url(&self.public_url, *platform));
        platforms.then(|| self.issuer.static_keys())
    }

    /// Makes the ID token of a run as its platform would.
    pub(super) fn token(&self, run: &LocalRun, audience: &str, now: Timestamp) -> Answer<IdToken> {
        let mut claims = run.claims.clone();
        let seconds = numeric_date(now);
        claims.insert("iss".to_owned(), issuer_url(&self.public_url, run.platform).into());
        claims.insert("iat".to_owned(), seconds.into());
        // What each platform does was measured; Jenkins numbers no token, and its JWT library writes a list.
        let (audience, before_seconds, life_seconds, numbered) = match run.platform {
            PlatformKind::GithubActions => (json!(audience), Some(600), 300, true),
            PlatformKind::GitlabCi => (json!(audience), Some(5), 300, true),
            PlatformKind::Jenkins => (json!([audience]), None, 3600, false),
            PlatformKind::Generic => (json!(audience), None, 300, true),
        };
        claims.insert("aud".to_owned(), audience);
        claims.insert("exp".to_owned(), (seconds + life_seconds).into());
        if let Some(before_seconds) = before_seconds {
            claims.insert("nbf".to_owned(), (seconds - before_seconds).into());
        }
        if numbered {
            claims.insert("jti".to_owned(), ulid::Ulid::generate().to_string().into());
        }
        self.issuer
            .sign(&Value::Object(claims))
            .map_err(|error| Refusal::new(Code::INTERNAL, error.to_string()))
    }
}
