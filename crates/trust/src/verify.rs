//! An ID token, from a stranger's text to a verified run.

use jiff::Timestamp;
use protected_model::{
    api::problem::Code,
    hint::Hint,
    identity::{PlatformKind, RunIdentity},
    secret::{IdToken, Secret},
    time::{after, numeric_date},
};
use serde_json::{Map, Value};

pub use crate::compact::MAX_TOKEN_BYTES;
use crate::{
    compact::{self, NotCompact},
    issuer::{Issuer, Issuers},
    jwks::{KeySource, KeySourceError},
    key::MAX_KEY_ID_BYTES,
    platform,
    replay::ReplayKey,
    shown::shown,
};

/// How far the clocks of issuers may be from ours, in seconds.
///
/// Attack: with more, an expired token works that much longer; and the ledger of used tokens must keep each one
/// that much longer, or it works twice. See [`VerifiedIdToken::retain_until`].
pub const LEEWAY_SECONDS: u64 = 60;

/// The algorithms that ID tokens may be signed with (RFC 7518 section 3.1).
///
/// Attack: `none` needs no key, and `HS256` takes the issuer's public key for a shared secret.
pub const ALGORITHMS: &[&str] = &["RS256", "ES256"];

/// The longest `jti` that is taken, in bytes.
const MAX_JTI_BYTES: usize = 512;

/// A run that has proven who it is.
#[derive(Clone, Debug)]
pub struct VerifiedIdToken {
    /// The run.
    pub identity: RunIdentity,
    /// Under what to remember that the token was used.
    pub replay: ReplayKey,
    /// `exp`, in seconds since 1970.
    pub expires: u64,
    /// `groups`, of an issuer that is no CI platform: what a person belongs to.
    pub groups: Vec<String>,
}

impl VerifiedIdToken {
    /// Returns until when [`Self::replay`] must be remembered: `exp` and the leeway with which `exp` is checked.
    ///
    /// Attack: an entry that is dropped at `exp` lets the token work a second time for as long as the leeway is.
    pub fn retain_until(&self) -> Timestamp {
        let expires = i64::try_from(self.expires).ok().and_then(|at| Timestamp::from_second(at).ok());
        after(expires.unwrap_or(Timestamp::MAX), LEEWAY_SECONDS)
    }
}

/// Why an ID token is refused.
#[derive(Debug, thiserror::Error)]
pub enum IdTokenError {
    /// It is no signed token at all, or not one that every reader reads alike.
    #[error("the ID token cannot be read: {0}")]
    Malformed(String),
    /// Its header asks for something that is not done.
    #[error("the ID token's header has {member} `{actual}`, expected {expected}")]
    Header {
        /// Which member.
        member: &'static str,
        /// What it says.
        actual: String,
        /// What it may say.
        expected: &'static str,
    },
    /// Nobody here believes its issuer.
    #[error("the ID token is from issuer `{issuer}`, which is not trusted here")]
    UnknownIssuer {
        /// `iss`.
        issuer: String,
        /// The ones that are. For the server's own log: it tells strangers who is a customer.
        trusted: Vec<String>,
    },
    /// The issuer has no such key.
    #[error("the ID token is signed with key `{kid}`, which issuer `{issuer}` does not publish")]
    UnknownKey {
        /// `kid`.
        kid: String,
        /// `iss`.
        issuer: String,
    },
    /// The issuer's keys cannot be had.
    #[error("the ID token cannot be checked")]
    Keys(#[from] KeySourceError),
    /// The key is for another algorithm.
    #[error("the ID token is signed with {actual}, and key `{kid}` is for {expected}")]
    Algorithm {
        /// `kid`.
        kid: String,
        /// `alg` of the token.
        actual: String,
        /// The key's.
        expected: &'static str,
    },
    /// The signature is not the key's.
    #[error("the ID token's signature does not match key `{kid}` of issuer `{issuer}`")]
    Signature {
        /// `kid`.
        kid: String,
        /// `iss`.
        issuer: String,
    },
    /// A claim is missing or of the wrong type.
    #[error("the ID token's `{claim}` is missing or not {expected}")]
    Claim {
        /// Which.
        claim: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// It is for somebody else.
    #[error("the ID token is for audience `{actual}`, expected `{expected}`")]
    Audience {
        /// `aud`.
        actual: String,
        /// Ours.
        expected: String,
    },
    /// Its time is over.
    #[error("the ID token expired at {expired}, and it is {now}")]
    Expired {
        /// `exp`.
        expired: Timestamp,
        /// The clock here.
        now: Timestamp,
    },
    /// Its time has not come.
    #[error("the ID token's `{claim}` is {from}, and it is {now}")]
    NotYetValid {
        /// `nbf` or `iat`.
        claim: &'static str,
        /// What it says.
        from: Timestamp,
        /// The clock here.
        now: Timestamp,
    },
    /// It was made too long ago, whatever its `exp`.
    #[error("the ID token was made at {issued}, and issuer `{issuer}` is believed for {max_age_seconds} s")]
    TooOld {
        /// `iat`.
        issued: Timestamp,
        /// `iss`.
        issuer: String,
        /// The issuer's limit.
        max_age_seconds: u64,
    },
}

impl From<NotCompact> for IdTokenError {
    fn from(error: NotCompact) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl IdTokenError {
    /// Returns what went wrong, for programs.
    pub fn code(&self) -> Code {
        match self {
            Self::Keys(_) => Code::ISSUER_UNAVAILABLE,
            _ => Code::INVALID_ID_TOKEN,
        }
    }

    /// Returns what is for the server's own log alone.
    pub fn server_detail(&self) -> Option<String> {
        match self {
            Self::UnknownIssuer { trusted, .. } => Some(format!("trusted issuers: {}", trusted.join(", "))),
            _ => None,
        }
    }

    /// Returns what can be done about it.
    pub fn hint(&self) -> Option<Hint> {
        let text = match self {
            Self::UnknownIssuer { issuer, trusted } => {
                let slash = trusted.iter().any(|it| it.trim_end_matches('/') == issuer.trim_end_matches('/'));
                match slash {
                    true => "the trusted issuer differs by a `/` at its end: configure it exactly as its tokens have it",
                    false => "ask an administrator of FractalOps to add the issuer",
                }
                .to_owned()
            }
            Self::Audience { expected, .. } => format!("ask the CI platform for an ID token with audience `{expected}`"),
            Self::Expired { .. } => {
                "get the ID token right before it is used, in the job that publishes; if it is fresh, compare the clocks"
                    .to_owned()
            }
            Self::NotYetValid { .. } => "compare the clocks of this service and of the CI platform".to_owned(),
            Self::TooOld { .. } => {
                "put publishing in a short job of its own, or raise `max_age_seconds` of the issuer".to_owned()
            }
            Self::Keys(error) => return error.hint(),
            _ => return None,
        };
        Some(Hint::new(text))
    }
}

/// Verifies an ID token and says whose it is. It proves who asks, once, and allows nothing.
///
/// # Errors
/// When it cannot be believed, or not be checked just now ([`IdTokenError::Keys`]).
pub async fn verify_id_token(
    token: &IdToken,
    issuers: &Issuers,
    keys: &dyn KeySource,
    audience: &str,
    now: Timestamp,
) -> Result<VerifiedIdToken, IdTokenError> {
    let unverified = compact::parse(token.reveal())?;
    let unverified_issuer = unverified.unverified_claims.get("iss").and_then(Value::as_str);
    let unverified_issuer =
        unverified_issuer.ok_or(IdTokenError::Claim { claim: "iss", expected: "a text" })?;
    let issuer = issuers.get(unverified_issuer).ok_or_else(|| IdTokenError::UnknownIssuer {
        issuer: shown(unverified_issuer),
        trusted: issuers.iter().map(|issuer| issuer.url.clone()).collect(),
    })?;
    let Header { algorithm, kid } = header(&unverified.unverified_header, issuer.platform)?;
    let key = keys
        .key(issuer, kid, now)
        .await?
        .ok_or_else(|| IdTokenError::UnknownKey { kid: shown(kid), issuer: issuer.url.clone() })?;
    if key.algorithm() != algorithm {
        let (kid, actual) = (shown(kid), algorithm.to_owned());
        return Err(IdTokenError::Algorithm { kid, actual, expected: key.algorithm() });
    }
    if !key.verifies(unverified.message, &unverified.signature) {
        return Err(IdTokenError::Signature { kid: shown(kid), issuer: issuer.url.clone() });
    }
    let claims = unverified.unverified_claims;
    check_audience(&claims, issuer, audience)?;
    let expires = check_times(&claims, issuer, now)?;
    let identity = platform::identity(issuer, &claims)
        .ok_or(IdTokenError::Claim { claim: "sub", expected: "a text" })?;
    let replay = match claims.get("jti") {
        None => ReplayKey::of_message(unverified.message),
        Some(Value::String(jti)) if (1..=MAX_JTI_BYTES).contains(&jti.len()) => {
            ReplayKey::of_id(&issuer.url, jti)
        }
        Some(_) => return Err(IdTokenError::Claim { claim: "jti", expected: "a text of 1 to 512 bytes" }),
    };
    Ok(VerifiedIdToken { identity, replay, expires, groups: groups(&claims, issuer.platform) })
}

struct Header<'a> {
    algorithm: &'a str,
    kid: &'a str,
}

/// Reads the header. `jwk`, `jku`, `x5u`, `x5c` and `x5t` are never looked at.
///
/// Attack: a token that brings its own key, or says where to fetch it, verifies always.
fn header(header: &Map<String, Value>, platform: PlatformKind) -> Result<Header<'_>, IdTokenError> {
    let refuse = |member, expected| IdTokenError::Header {
        member,
        actual: header.get(member).map_or_else(|| "nothing".to_owned(), |it| shown(&plain(it))),
        expected,
    };
    let text = |member| header.get(member).and_then(Value::as_str);
    // RFC 7515 section 4.1.11: what is critical and not understood must be refused; nothing is understood here.
    if header.contains_key("crit") {
        return Err(refuse("crit", "none"));
    }
    // Our own tokens, and any other kind that says what it is, are not ID tokens (RFC 8725 section 3.11).
    let access_token = platform == PlatformKind::Generic && text("typ") == Some("at+jwt");
    if header.contains_key("typ")
        && !access_token
        && !text("typ").is_some_and(|it| it.eq_ignore_ascii_case("JWT"))
    {
        return Err(refuse("typ", "`JWT`"));
    }
    let algorithm =
        text("alg").filter(|it| ALGORITHMS.contains(it)).ok_or_else(|| refuse("alg", "RS256 or ES256"))?;
    let kid = text("kid").filter(|it| (1..=MAX_KEY_ID_BYTES).contains(&it.len()));
    let kid = kid.ok_or_else(|| refuse("kid", "the id of one of the issuer's keys"))?;
    Ok(Header { algorithm, kid })
}

/// Checks that the token is for `audience` and for nobody else.
///
/// Attack: a token with several audiences was handed to several services, and each could use it at the others.
fn check_audience(claims: &Map<String, Value>, issuer: &Issuer, audience: &str) -> Result<(), IdTokenError> {
    let actual = match claims.get("aud") {
        Some(Value::String(actual)) => actual.as_str(),
        // The plugin's JWT library writes a list even of one.
        Some(Value::Array(list)) if issuer.platform == PlatformKind::Jenkins && list.len() == 1 => {
            list[0].as_str().ok_or(IdTokenError::Claim { claim: "aud", expected: "a text" })?
        }
        _ => return Err(IdTokenError::Claim { claim: "aud", expected: "one text" }),
    };
    if actual == audience {
        return Ok(());
    }
    Err(IdTokenError::Audience { actual: shown(actual), expected: audience.to_owned() })
}

/// Checks the times and returns `exp`.
fn check_times(claims: &Map<String, Value>, issuer: &Issuer, now: Timestamp) -> Result<u64, IdTokenError> {
    let seconds = numeric_date(now);
    let expires = date(claims, "exp")?;
    if seconds >= expires.saturating_add(LEEWAY_SECONDS) {
        return Err(IdTokenError::Expired { expired: timestamp(expires), now });
    }
    let issued = date(claims, "iat")?;
    let not_before = if claims.contains_key("nbf") { date(claims, "nbf")? } else { issued };
    for (claim, from) in [("nbf", not_before), ("iat", issued)] {
        if from > seconds.saturating_add(LEEWAY_SECONDS) {
            return Err(IdTokenError::NotYetValid { claim, from: timestamp(from), now });
        }
    }
    if seconds.saturating_sub(issued) > issuer.max_age_seconds {
        return Err(IdTokenError::TooOld {
            issued: timestamp(issued),
            issuer: issuer.url.clone(),
            max_age_seconds: issuer.max_age_seconds,
        });
    }
    Ok(expires)
}

fn date(claims: &Map<String, Value>, claim: &'static str) -> Result<u64, IdTokenError> {
    let expected = "a whole number of seconds since 1970";
    claims.get(claim).and_then(Value::as_u64).ok_or(IdTokenError::Claim { claim, expected })
}

fn timestamp(seconds: u64) -> Timestamp {
    i64::try_from(seconds).ok().and_then(|it| Timestamp::from_second(it).ok()).unwrap_or(Timestamp::MAX)
}

fn groups(claims: &Map<String, Value>, platform: PlatformKind) -> Vec<String> {
    let listed = claims.get("groups").and_then(Value::as_array).filter(|_| platform == PlatformKind::Generic);
    listed.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Returns a text as it is and anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
