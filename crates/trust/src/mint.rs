//! Our own tokens: signed, and verified, with keys that outlive the process.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::Timestamp;
use protected_model::{
    action::Action,
    claims::{INSTALL_SECONDS, NPM_TOKEN_TYPE, PUBLISH_SECONDS, SESSION_SECONDS, SESSION_TOKEN_TYPE},
    digest::Sha256,
    time::numeric_date,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

pub use crate::private_file::KeyFileError;
use crate::{
    compact::{self, MAX_TOKEN_BYTES, Unverified},
    key::VerifyingKey,
    private_file,
};

/// How far the clocks of two of our own services may be apart, in seconds.
///
/// Attack: each second is one more for a token that should be over. Our machines keep better time than strangers'.
pub const OWN_LEEWAY_SECONDS: u64 = 30;

/// The longest life of any token of ours, in seconds.
const LONGEST_SECONDS: u64 = SESSION_SECONDS;

/// How long a key verifies after another one took over, in seconds: until the last token it signed is over.
///
/// Attack: a key that verifies for ever is worth stealing for ever.
const OVERLAP_SECONDS: u64 = LONGEST_SECONDS + 2 * OWN_LEEWAY_SECONDS;

/// How many verified signatures are remembered.
const MAX_REMEMBERED: usize = 16 * 1024;

/// Where the keys are, in the folder.
const FILE: &str = "signing-keys.json";

/// What a token must be to be taken.
#[derive(Clone, Copy, Debug)]
pub struct Expect<'a> {
    /// The header's `typ`: which kind it is.
    pub typ: &'a str,
    /// `iss`.
    pub issuer: &'a str,
    /// `aud`, as one text.
    pub audience: &'a str,
}

/// Why a token of ours is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Nobody here signed it: another algorithm, another key, or another signature.
    #[error("the token was not issued here")]
    NotOurs,
    /// It is of another kind, or for another service.
    #[error("the token is for something else: its {member} is not `{expected}`")]
    WrongType {
        /// `typ`, `iss` or `aud`.
        member: &'static str,
        /// What it must be.
        expected: String,
    },
    /// It is no token, or one that is never issued.
    #[error("the token cannot be read: {0}")]
    Malformed(String),
}

/// Why a token is not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The claims would be refused by whoever verifies them.
    #[error("the token would not be accepted: {0}")]
    Unacceptable(String),
    /// The claims cannot be written.
    #[error("the claims cannot be written as JSON")]
    Claims(#[source] serde_json::Error),
    /// The key does not sign.
    #[error("the key cannot sign")]
    Key,
}

/// The keys that sign our tokens. The newest signs; those before it verify until their last token is over.
pub struct SigningKeys {
    file: PathBuf,
    keys: RwLock<Vec<SigningKey>>,
    remembered: Mutex<HashMap<Sha256, Remembered>>,
}

#[derive(Clone)]
struct SigningKey {
    id: String,
    signing: Arc<Ed25519KeyPair>,
    verifying: VerifyingKey,
    kept: KeptKey,
}

/// A key as it stands in the file. It has no `Debug`: it is the private key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptKey {
    /// PKCS #8 in base64.
    pkcs8: String,
    created: Timestamp,
    /// When another one took over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaced: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptKeys {
    keys: Vec<KeptKey>,
}

/// A signature that was verified.
struct Remembered {
    key: String,
    expires: u64,
}

impl SigningKey {
    fn generate(now: Timestamp) -> Result<Self, KeyFileError> {
        let pkcs8 =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyFileError::Generate)?;
        let kept = KeptKey { pkcs8: STANDARD.encode(pkcs8.as_ref()), created: now, replaced: None };
        Self::open(kept).ok_or(KeyFileError::Generate)
    }

    fn open(kept: KeptKey) -> Option<Self> {
        let pkcs8 = STANDARD.decode(&kept.pkcs8).ok()?;
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).ok()?;
        // RFC 7638 section 3, for the members that RFC 8037 section 2 requires.
        let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, x(&pair));
        let id = URL_SAFE_NO_PAD.encode(Sha256::of(members).as_bytes());
        let verifying = VerifyingKey::ed25519(pair.public_key().as_ref())?;
        Some(Self { id, signing: Arc::new(pair), verifying, kept })
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.kept
            .replaced
            .is_some_and(|at| numeric_date(now) > numeric_date(at).saturating_add(OVERLAP_SECONDS))
    }

    fn jwk(&self) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": x(&self.signing), "kid": self.id, "alg": "EdDSA", "use": "sig"})
    }
}

/// Returns the public key as a JWK has it (RFC 8037 section 2).
fn x(pair: &Ed25519KeyPair) -> String {
    URL_SAFE_NO_PAD.encode(pair.public_key())
}

impl SigningKeys {
    /// Reads the keys of a folder, and makes the folder and a first key where there is none.
    ///
    /// # Errors
    /// When they cannot be read or kept, or others may read them.
    pub fn load_or_create(folder: &Path, now: Timestamp) -> Result<Self, KeyFileError> {
        private_file::folder(folder)?;
        let file = folder.join(FILE);
        let Some(content) = private_file::read(&file)? else {
            let this = Self::of(file, vec![SigningKey::generate(now)?]);
            this.write(&this.keys())?;
            return Ok(this);
        };
        let refuse = |reason| KeyFileError::Content { path: file.clone(), reason };
        let kept: KeptKeys =
            serde_json::from_slice(&content).map_err(|_| refuse("it is not the JSON expected"))?;
        let keys: Option<Vec<_>> = kept.keys.into_iter().map(SigningKey::open).collect();
        let mut keys = keys.ok_or_else(|| refuse("a key in it is not an Ed25519 key"))?;
        if keys.iter().filter(|key| key.kept.replaced.is_none()).count() != 1 {
            return Err(refuse("not exactly one key in it signs"));
        }
        keys.retain(|key| !key.is_over(now));
        Ok(Self::of(file, keys))
    }

    fn of(file: PathBuf, keys: Vec<SigningKey>) -> Self {
        Self { file, keys: RwLock::new(keys), remembered: Mutex::default() }
    }

    /// Makes a new key, which signs from now on. The one before verifies until its last token is over.
    ///
    /// # Errors
    /// When the new key cannot be kept; the old one then goes on.
    pub fn rotate(&self, now: Timestamp) -> Result<(), KeyFileError> {
        let new = SigningKey::generate(now)?;
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let mut next: Vec<_> = keys.iter().filter(|key| !key.is_over(now)).cloned().collect();
        for key in &mut next {
            key.kept.replaced.get_or_insert(now);
        }
        next.push(new);
        self.write(&next)?;
        *keys = next;
        Ok(())
    }

    /// Returns when the key that signs was made.
    pub fn since(&self) -> Option<Timestamp> {
        self.keys().iter().find(|key| key.kept.replaced.is_none()).map(|key| key.kept.created)
    }

    fn keys(&self) -> RwLockReadGuard<'_, Vec<SigningKey>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, keys: &[SigningKey]) -> Result<(), KeyFileError> {
        let kept = KeptKeys { keys: keys.iter().map(|key| key.kept.clone()).collect() };
        let content = serde_json::to_vec_pretty(&kept).map_err(|_| KeyFileError::Generate)?;
        private_file::write(&self.file, &content)
    }

    /// Signs claims as a token of kind `typ`, if whoever verifies it would take it.
    ///
    /// # Errors
    /// When a claim that every token has is missing, when it would live longer than its kind may, or when it would
    /// be too large to be read again.
    pub fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<String, SignError> {
        let claims = acceptable(claims, |claims| longest(typ, claims))?;
        let keys = self.keys();
        let key = keys.iter().find(|key| key.kept.replaced.is_none()).ok_or(SignError::Key)?;
        let header = json!({"alg": "EdDSA", "typ": typ, "kid": key.id});
        let sign = |message: &str| key.signing.try_sign(message.as_bytes()).map(|it| it.as_ref().to_vec());
        bounded(compact::write(&header, &claims, sign).map_err(|_| SignError::Key)?)
    }

    /// Verifies a token of ours and returns its claims. Whether it was revoked is for the caller to ask, each time.
    ///
    /// # Errors
    /// When it is not a token of the kind expected, or not now.
    pub fn verify<C: DeserializeOwned>(
        &self,
        token: &str,
        expect: Expect<'_>,
        now: Timestamp,
    ) -> Result<C, TokenError> {
        let unverified = compact::parse(token).map_err(|error| TokenError::Malformed(error.to_string()))?;
        let header = &unverified.unverified_header;
        let text = |member| header.get(member).and_then(Value::as_str);
        if header.contains_key("crit") || text("alg") != Some("EdDSA") {
            return Err(TokenError::NotOurs);
        }
        self.check_signature(token, text("kid"), &unverified, now)?;
        signed_claims(unverified, expect, |claims| longest(expect.typ, claims), now)
    }

    /// Checks that the key `kid`, while it verifies, has signed `token`. A signature that did is remembered until the
    /// token is over, and nothing but the signature.
    fn check_signature(
        &self,
        token: &str,
        kid: Option<&str>,
        unverified: &Unverified<'_>,
        now: Timestamp,
    ) -> Result<(), TokenError> {
        let keys = self.keys();
        let key = keys.iter().find(|key| kid == Some(key.id.as_str()) && !key.is_over(now));
        let key = key.ok_or(TokenError::NotOurs)?;
        let digest = Sha256::of(token);
        if self.remembered().get(&digest).is_some_and(|it| it.key == key.id) {
            return Ok(());
        }
        if !key.verifying.verifies(unverified.message, &unverified.signature) {
            return Err(TokenError::NotOurs);
        }
        let expires = unverified.unverified_claims.get("exp").and_then(Value::as_u64).unwrap_or_default();
        self.remember(digest, Remembered { key: key.id.clone(), expires }, numeric_date(now));
        Ok(())
    }

    fn remember(&self, digest: Sha256, signature: Remembered, now: u64) {
        let mut remembered = self.remembered();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.retain(|_, it| it.expires > now);
            // All of them are still good: start again, which costs each one signature.
            if remembered.len() >= MAX_REMEMBERED {
                remembered.clear();
            }
        }
        remembered.insert(digest, signature);
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<Sha256, Remembered>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the public keys (RFC 7517 section 5, RFC 8037), the ones that still verify among them.
    pub fn jwks(&self, now: Timestamp) -> Value {
        let keys: Vec<_> = self.keys().iter().filter(|key| !key.is_over(now)).map(SigningKey::jwk).collect();
        json!({ "keys": keys })
    }
}

/// Returns claims as they are signed, if whoever verifies them would take them; `longest` says how long such a token
/// may live.
pub(crate) fn acceptable(
    claims: &impl Serialize,
    longest: impl FnOnce(&Map<String, Value>) -> Result<u64, TokenError>,
) -> Result<Value, SignError> {
    let claims = serde_json::to_value(claims).map_err(SignError::Claims)?;
    let Some(object) = claims.as_object() else {
        return Err(SignError::Unacceptable("the claims are not an object".to_owned()));
    };
    let times = longest(object).and_then(|longest| Times::of(object, longest));
    times.map_err(|error| SignError::Unacceptable(error.to_string()))?;
    for claim in ["iss", "aud", "sub", "jti"] {
        if object.get(claim).and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(SignError::Unacceptable(format!("`{claim}` is missing")));
        }
    }
    Ok(claims)
}

/// Returns a token that is not too large to be read again.
pub(crate) fn bounded(token: String) -> Result<String, SignError> {
    match token.len() > MAX_TOKEN_BYTES {
        true => Err(SignError::Unacceptable(format!("it would have {} bytes", token.len()))),
        false => Ok(token),
    }
}

/// Checks a token whose signature is verified, and returns its claims; `longest` says how long such a token may live.
pub(crate) fn signed_claims<C: DeserializeOwned>(
    signed: Unverified<'_>,
    expect: Expect<'_>,
    longest: impl FnOnce(&Map<String, Value>) -> Result<u64, TokenError>,
    now: Timestamp,
) -> Result<C, TokenError> {
    let wrong = |member, expected: &str| Err(TokenError::WrongType { member, expected: expected.to_owned() });
    if signed.unverified_header.get("typ").and_then(Value::as_str) != Some(expect.typ) {
        return wrong("typ", expect.typ);
    }
    let claims = signed.unverified_claims;
    for (member, expected) in [("iss", expect.issuer), ("aud", expect.audience)] {
        if claims.get(member).and_then(Value::as_str) != Some(expected) {
            return wrong(member, expected);
        }
    }
    Times::of(&claims, longest(&claims)?)?.check(numeric_date(now))?;
    serde_json::from_value(Value::Object(claims))
        .map_err(|_| malformed("its claims are not those of its kind"))
}

fn malformed(text: &str) -> TokenError {
    TokenError::Malformed(text.to_owned())
}

/// The times of a token, in seconds since 1970.
struct Times {
    iat: u64,
    nbf: u64,
    exp: u64,
}

impl Times {
    /// Reads the times, and refuses a life that is longer than a token of this kind ever has.
    ///
    /// Attack: whoever once gets at the key makes tokens that last; and a bug in the mint would as well.
    fn of(claims: &Map<String, Value>, longest: u64) -> Result<Self, TokenError> {
        let date =
            |claim| claims.get(claim).and_then(Value::as_u64).ok_or_else(|| malformed("a time is missing"));
        let times = Self { iat: date("iat")?, nbf: date("nbf")?, exp: date("exp")? };
        match times.exp.checked_sub(times.iat) {
            Some(life) if (1..=longest).contains(&life) && times.nbf <= times.exp => Ok(times),
            _ => Err(malformed("it lives longer than its kind may")),
        }
    }

    fn check(&self, now: u64) -> Result<(), TokenError> {
        if now >= self.exp.saturating_add(OWN_LEEWAY_SECONDS) {
            return Err(TokenError::Expired);
        }
        if self.iat.max(self.nbf) > now.saturating_add(OWN_LEEWAY_SECONDS) {
            return Err(TokenError::NotYetValid);
        }
        Ok(())
    }
}

/// Returns how long a token of a kind may live, in seconds. One line for each kind that these keys sign.
fn longest(typ: &str, claims: &Map<String, Value>) -> Result<u64, TokenError> {
    match typ {
        SESSION_TOKEN_TYPE => Ok(SESSION_SECONDS),
        NPM_TOKEN_TYPE => {
            let actions = claims.get("allowed_actions").cloned().unwrap_or_default();
            let actions: Vec<Action> =
                serde_json::from_value(actions).map_err(|_| malformed("it allows nothing known"))?;
            // Attack: a check that takes "no restriction" from an empty list.
            match actions.as_slice() {
                [] => Err(malformed("it allows nothing")),
                actions if actions.contains(&Action::Publish) => Ok(PUBLISH_SECONDS),
                _ => Ok(INSTALL_SECONDS),
            }
        }
        _ => Err(malformed("there is no such kind")),
    }
}
