//! Whose ID tokens are believed.

use std::collections::BTreeMap;

use protected_model::{identity::PlatformKind, service_url::ServiceUrl};

use crate::key::KeySet;

/// How old an ID token may be when nothing else is said, in seconds.
///
/// Attack: a token from a log or a cache is still inside its life; GitLab's live as long as their job may take.
/// A setting of each issuer, since a GitLab token is made when its job starts.
pub const MAX_AGE_SECONDS: u64 = 600;

/// An issuer of ID tokens.
#[derive(Clone)]
pub struct Issuer {
    /// Exactly `iss`, character by character: with or without a trailing `/`, as its tokens have it.
    pub url: String,
    /// What its claims mean.
    pub platform: PlatformKind,
    /// Where its keys are.
    pub jwks: Jwks,
    /// How old a token may be, counted from `iat`; [`MAX_AGE_SECONDS`] for most.
    pub max_age_seconds: u64,
}

/// Where an issuer's keys are.
#[derive(Clone)]
pub enum Jwks {
    /// Where its discovery document says (OpenID Connect Discovery 1.0), which must be on the same origin.
    Discovery,
    /// At this URL, without discovery.
    Url(ServiceUrl),
    /// In this process.
    Static(StaticKeys),
}

/// Keys that are known without asking anybody.
#[derive(Clone)]
pub struct StaticKeys(pub(crate) KeySet);

impl StaticKeys {
    /// Reads a key set (RFC 7517 section 5).
    ///
    /// # Errors
    /// When it is not a key set, or no key of it can be used.
    pub fn from_jwks(document: &serde_json::Value) -> Result<Self, &'static str> {
        KeySet::from_jwks(document).map(Self)
    }
}

/// The issuers that are believed, and no other.
///
/// Attack: an issuer that is taken from the token is whoever the attacker likes.
#[derive(Clone, Default)]
pub struct Issuers(BTreeMap<String, Issuer>);

impl Issuers {
    /// Returns the issuer whose URL is exactly `iss`.
    pub fn get(&self, iss: &str) -> Option<&Issuer> {
        self.0.get(iss)
    }

    /// Returns all of them in the order of their URLs.
    pub fn iter(&self) -> impl Iterator<Item = &Issuer> {
        self.0.values()
    }
}

impl FromIterator<Issuer> for Issuers {
    /// Collects issuers; of two with one URL the last stays.
    fn from_iter<I: IntoIterator<Item = Issuer>>(issuers: I) -> Self {
        Self(issuers.into_iter().map(|issuer| (issuer.url.clone(), issuer)).collect())
    }
}
