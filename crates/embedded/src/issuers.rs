//! Whose ID tokens are believed: the issuers of the configuration, and no other.

use std::collections::BTreeSet;

use jiff::Timestamp;
use protected_http::Client;
use protected_model::secret::IdToken;
use protected_trust::{
    issuer::{self, Jwks},
    jwks::JwksCache,
    verify::{IdTokenError, VerifiedIdToken, verify_id_token},
};

use crate::{
    config::Config,
    local_issuer::runs::LocalIssuer,
    problem::{Answer, Refusal},
};

/// The issuers, with their keys as far as they were asked for.
pub(crate) struct Issuers {
    issuers: issuer::Issuers,
    people: BTreeSet<String>,
    keys: JwksCache,
}

impl Issuers {
    /// Collects the issuers of a configuration whose `local:` URLs are resolved.
    pub(crate) fn new(config: &Config, local: Option<&LocalIssuer>, http: Client) -> Self {
        let issuers = config.issuers.iter().map(|it| issuer::Issuer {
            url: it.url.clone(),
            platform: it.platform,
            jwks: match (local.and_then(|local| local.keys_of(&it.url)), &it.jwks_url) {
                (Some(keys), _) => Jwks::Static(keys),
                (None, Some(url)) => Jwks::Url(url.clone()),
                (None, None) => Jwks::Discovery,
            },
            max_age_seconds: it.max_age_seconds,
        });
        Self {
            issuers: issuers.collect(),
            people: config.issuers.iter().filter(|it| it.people).map(|it| it.url.clone()).collect(),
            keys: JwksCache::new(http),
        }
    }

    /// Returns whether an issuer's tokens are those of people.
    pub(crate) fn is_of_people(&self, issuer: &str) -> bool {
        self.people.contains(issuer)
    }

    /// Returns whether people have an issuer at all.
    pub(crate) fn has_people(&self) -> bool {
        !self.people.is_empty()
    }

    /// Verifies an ID token for one of `audiences`.
    pub(crate) async fn verify(
        &self,
        token: &IdToken,
        audiences: &[String],
        now: Timestamp,
    ) -> Answer<VerifiedIdToken> {
        let mut result = Err(IdTokenError::Malformed("no audience".to_owned()));
        for audience in audiences {
            result = verify_id_token(token, &self.issuers, &self.keys, audience, now).await;
            if !matches!(result, Err(IdTokenError::Audience { .. })) {
                break;
            }
        }
        result.map_err(|error| refuse(&error))
    }
}

fn refuse(error: &IdTokenError) -> Refusal {
    if let Some(detail) = error.server_detail() {
        tracing::info!(detail, "an ID token is refused: {error}");
    }
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        message.push_str(&format!(": {error}"));
        source = error.source();
    }
    let refusal = Refusal::new(error.code(), message);
    let refusal = match error {
        IdTokenError::Keys(_) => refusal.retry_after(60),
        _ => refusal,
    };
    match error.hint() {
        Some(hint) => refusal.hint(hint.to_string()),
        None => refusal,
    }
}
