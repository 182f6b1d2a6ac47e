//! The issuers' keys, fetched seldom and kept while they are good.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use protected_http::{Client, HttpError, Retry};
use protected_model::{hint::Hint, service_url::is_secure};
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;
use url::Url;

use crate::{
    issuer::{Issuer, Jwks},
    key::{KeySet, VerifyingKey},
    shown::shown,
};

/// How long keys are used without asking again.
///
/// Attack: a key that its issuer has withdrawn because it leaked still works for this long.
pub const TTL: SignedDuration = SignedDuration::from_hours(1);

/// How long keys are used when asking again fails, counted from when they came.
///
/// Attack: whoever keeps us from reaching the issuer keeps a withdrawn key alive; but without any such time an
/// hour's outage of the issuer is ours as well.
pub const STALE_WHILE_ERROR: SignedDuration = SignedDuration::from_hours(24);

/// How long an issuer is left alone after it was asked, whatever it answered.
///
/// Attack: tokens with made-up key ids, which cost nothing, make us ask the issuer once for each; and during its
/// outage each request would wait for the timeout.
pub const COOLDOWN: SignedDuration = SignedDuration::from_secs(60);

/// How long an issuer may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How large its documents may be, in bytes.
const MAX_BYTES: u64 = 256 * 1024;

/// Where keys come from.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// Returns the issuer's key of exactly this id, or `None` when it publishes no such key.
    ///
    /// # Errors
    /// When the issuer's keys cannot be had just now.
    async fn key(
        &self,
        issuer: &Issuer,
        kid: &str,
        now: Timestamp,
    ) -> Result<Option<VerifyingKey>, KeySourceError>;
}

/// Why an issuer's keys cannot be had.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the keys of issuer `{issuer}` cannot be had")]
pub struct KeySourceError {
    /// The issuer.
    pub issuer: String,
    /// What went wrong when it was last asked.
    #[source]
    pub source: FetchError,
}

impl KeySourceError {
    /// Returns what can be done about it.
    pub fn hint(&self) -> Option<Hint> {
        let text = match self.source {
            FetchError::Http(_) | FetchError::Status { .. } => {
                return Some(Hint::new("try again in a minute"));
            }
            FetchError::IssuerMismatch { .. } => {
                "configure the issuer exactly as its discovery document has it"
            }
            FetchError::Elsewhere { .. } => "set `jwks_url` of the issuer, if its keys really are there",
            FetchError::Insecure { .. } => "give the issuer a URL with https",
            FetchError::Document { .. } | FetchError::Keys { .. } => return None,
        };
        Some(Hint::new(text))
    }
}

/// Why asking an issuer came to nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// No answer, or none that can be read.
    #[error("asking it failed")]
    Http(#[source] Arc<HttpError>),
    /// Not the document.
    #[error("{url} answered {status}, expected 200")]
    Status {
        /// What was asked.
        url: String,
        /// Its answer.
        status: u16,
    },
    /// The URL is not one that can be believed.
    #[error("`{url}` is neither https nor on this machine")]
    Insecure {
        /// Which.
        url: String,
    },
    /// The discovery document is none.
    #[error("{url} is not a discovery document: it has no `{member}`")]
    Document {
        /// What was asked.
        url: String,
        /// What is missing.
        member: &'static str,
    },
    /// The discovery document is another issuer's (OpenID Connect Discovery 1.0 section 4.3).
    #[error("its discovery document is of issuer `{actual}`")]
    IssuerMismatch {
        /// Whose it is.
        actual: String,
    },
    /// The keys are with somebody else.
    ///
    /// Attack: a discovery document that names any place makes us ask it, inside our network too.
    #[error("its discovery document says that its keys are at `{jwks_uri}`, which is not its own origin")]
    Elsewhere {
        /// Where.
        jwks_uri: String,
    },
    /// The key set is none, or has nothing that can be used.
    #[error("the key set at {url} cannot be used: {reason}")]
    Keys {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The keys of issuers, fetched over HTTP.
///
/// Nobody waits for a fetch to get a fresh key, and only whoever fetches waits to get a stale one. There is one fetch
/// at a time for each issuer, and what it brings is taken as a whole or not at all.
pub struct JwksCache {
    client: Client,
    entries: Mutex<BTreeMap<String, Arc<Entry>>>,
}

#[derive(Default)]
struct Entry {
    state: Mutex<State>,
    /// Held by whoever asks the issuer.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Entry {
    fn lookup(&self, kid: &str, now: Timestamp) -> Known {
        lock(&self.state).lookup(kid, now)
    }
}

#[derive(Default)]
struct State {
    keys: Option<Kept>,
    asked: Option<Timestamp>,
    error: Option<FetchError>,
}

struct Kept {
    set: Arc<KeySet>,
    since: Timestamp,
}

/// What can be said without asking the issuer.
enum Known {
    Answer(Result<Option<VerifyingKey>, FetchError>),
    /// Ask; meanwhile, this key is good enough for who must not wait.
    Ask(Option<VerifyingKey>),
}

impl State {
    fn lookup(&self, kid: &str, now: Timestamp) -> Known {
        let usable = self.keys.as_ref().filter(|kept| age(kept.since, now) < STALE_WHILE_ERROR);
        let key = usable.and_then(|kept| kept.set.get(kid));
        let fresh = usable.is_some_and(|kept| age(kept.since, now) < TTL);
        if fresh && key.is_some() {
            return Known::Answer(Ok(key));
        }
        if self.asked.is_none_or(|asked| age(asked, now) >= COOLDOWN) {
            return Known::Ask(key);
        }
        match (&key, usable, &self.error) {
            // The issuer's last word was an error, so that it lacks this key is not known.
            (None, _, Some(error)) => Known::Answer(Err(error.clone())),
            _ => Known::Answer(Ok(key)),
        }
    }
}

/// Returns how far apart two moments are. A clock that was set back must not stop refreshing for ever.
fn age(since: Timestamp, now: Timestamp) -> SignedDuration {
    now.duration_since(since).abs()
}

/// Locks; a panic while a lock was held leaves these values whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl JwksCache {
    /// Makes an empty cache that asks through `client`.
    pub fn new(client: Client) -> Self {
        Self { client, entries: Mutex::default() }
    }

    async fn remote(
        &self,
        issuer: &Issuer,
        kid: &str,
        now: Timestamp,
    ) -> Result<Option<VerifyingKey>, FetchError> {
        let entry = Arc::clone(lock(&self.entries).entry(issuer.url.clone()).or_default());
        let meanwhile = match entry.lookup(kid, now) {
            Known::Answer(answer) => return answer,
            Known::Ask(meanwhile) => meanwhile,
        };
        let turn = match (Arc::clone(&entry.turn).try_lock_owned(), meanwhile) {
            (Ok(turn), _) => turn,
            (Err(_), Some(key)) => return Ok(Some(key)),
            (Err(_), None) => Arc::clone(&entry.turn).lock_owned().await,
        };
        // Whoever was first may have brought it.
        if let Known::Answer(answer) = entry.lookup(kid, now) {
            return answer;
        }
        // Attack: whoever hangs up at once, once a minute, would end each fetch before it brings anything. A task
        // of its own goes on.
        let refresh = refresh(self.client.clone(), issuer.clone(), Arc::clone(&entry), turn, now);
        if let Err(error) = tokio::spawn(refresh).await {
            tracing::error!(issuer = %issuer.url, %error, "fetching the issuer's keys broke off");
        }
        match entry.lookup(kid, now) {
            Known::Answer(answer) => answer,
            Known::Ask(key) => Ok(key),
        }
    }
}

async fn refresh(
    client: Client,
    issuer: Issuer,
    entry: Arc<Entry>,
    turn: OwnedMutexGuard<()>,
    now: Timestamp,
) {
    let fetched = fetch(&client, &issuer).await;
    let mut state = lock(&entry.state);
    state.asked = Some(now);
    state.error = None;
    match fetched {
        Ok(set) => state.keys = Some(Kept { set: Arc::new(set), since: now }),
        Err(error) => {
            tracing::warn!(issuer = %issuer.url, %error, "cannot fetch the issuer's keys");
            state.error = Some(error);
        }
    }
    drop(state);
    drop(turn);
}

/// Asks an issuer for its keys.
async fn fetch(client: &Client, issuer: &Issuer) -> Result<KeySet, FetchError> {
    let url = match &issuer.jwks {
        Jwks::Url(url) => url.as_url().clone(),
        Jwks::Discovery | Jwks::Static(_) => discover(client, &issuer.url).await?,
    };
    let document = get(client, &url).await?;
    KeySet::from_jwks(&document).map_err(|reason| FetchError::Keys { url: url.into(), reason })
}

/// Asks where the keys are (OpenID Connect Discovery 1.0 section 4).
async fn discover(client: &Client, issuer: &str) -> Result<Url, FetchError> {
    let insecure = || FetchError::Insecure { url: shown(issuer) };
    let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let url = Url::parse(&url).ok().filter(is_secure).ok_or_else(insecure)?;
    let document = get(client, &url).await?;
    let member = |member| {
        let text = document.get(member).and_then(Value::as_str);
        text.ok_or_else(|| FetchError::Document { url: url.to_string(), member })
    };
    let actual = member("issuer")?;
    if actual != issuer {
        return Err(FetchError::IssuerMismatch { actual: shown(actual) });
    }
    let jwks_uri = member("jwks_uri")?;
    let own = Url::parse(jwks_uri).ok().filter(|it| it.origin() == url.origin());
    own.ok_or_else(|| FetchError::Elsewhere { jwks_uri: shown(jwks_uri) })
}

async fn get(client: &Client, url: &Url) -> Result<Value, FetchError> {
    let request = client.get(url.clone()).timeout(TIMEOUT).max_bytes(MAX_BYTES).retry(Retry::none());
    let failed = |error| FetchError::Http(Arc::new(error));
    let response = request.send().await.map_err(failed)?;
    if response.status != 200 {
        return Err(FetchError::Status { url: url.to_string(), status: response.status });
    }
    response.json().map_err(failed)
}

#[async_trait]
impl KeySource for JwksCache {
    async fn key(
        &self,
        issuer: &Issuer,
        kid: &str,
        now: Timestamp,
    ) -> Result<Option<VerifyingKey>, KeySourceError> {
        if let Jwks::Static(keys) = &issuer.jwks {
            return Ok(keys.0.get(kid));
        }
        let found = self.remote(issuer, kid, now).await;
        found.map_err(|source| KeySourceError { issuer: issuer.url.clone(), source })
    }
}
