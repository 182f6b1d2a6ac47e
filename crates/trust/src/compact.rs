//! The compact form of a signed token (RFC 7515 section 7.1), read strictly and believed in nothing.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The longest token that is looked at, in bytes.
///
/// Attack: whoever can reach the exchange makes it decode and hash megabytes before any signature is checked.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Why a text is not a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotCompact {
    #[error("it has {0} bytes, and at most {MAX_TOKEN_BYTES} are read")]
    TooLarge(usize),
    #[error("it has not three parts separated by dots")]
    Parts,
    #[error("its {0} is not base64url without padding")]
    Base64(&'static str),
    #[error("its {0} is not a JSON object whose members are there once")]
    Json(&'static str),
}

/// A token of which nothing is proven.
pub(crate) struct Unverified<'a> {
    pub(crate) unverified_header: Map<String, Value>,
    pub(crate) unverified_claims: Map<String, Value>,
    /// The header and the claims as they were signed.
    pub(crate) message: &'a str,
    pub(crate) signature: Vec<u8>,
}

/// Reads a token.
pub(crate) fn parse(token: &str) -> Result<Unverified<'_>, NotCompact> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(NotCompact::TooLarge(token.len()));
    }
    let (message, signature) = token.rsplit_once('.').ok_or(NotCompact::Parts)?;
    let (header, claims) = message.split_once('.').ok_or(NotCompact::Parts)?;
    if claims.contains('.') {
        return Err(NotCompact::Parts);
    }
    // An unsigned token has an empty one (RFC 7515 appendix A.5).
    let signature = URL_SAFE_NO_PAD.decode(signature).ok().filter(|it| !it.is_empty());
    let signature = signature.ok_or(NotCompact::Base64("signature"))?;
    Ok(Unverified {
        unverified_header: object(header, "header")?,
        unverified_claims: object(claims, "claims")?,
        message,
        signature,
    })
}

fn object(encoded: &str, part: &'static str) -> Result<Map<String, Value>, NotCompact> {
    let json = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| NotCompact::Base64(part))?;
    let UniqueMembers(members) = serde_json::from_slice(&json).map_err(|_| NotCompact::Json(part))?;
    Ok(members)
}

/// An object in which no member is there twice.
///
/// Attack: `{"aud":"a","aud":"b"}` is one audience to a parser that keeps the first and another to one that keeps
/// the last (RFC 7519 section 4 leaves it open); whoever signs and whoever checks must read the same.
struct UniqueMembers(Map<String, Value>);

impl<'de> Deserialize<'de> for UniqueMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = UniqueMembers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<UniqueMembers, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member is there twice"));
                    }
                }
                Ok(UniqueMembers(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// Writes a token from its header, its claims and whatever `sign` makes of them.
pub(crate) fn write<E>(
    header: &Value,
    claims: &Value,
    sign: impl FnOnce(&str) -> Result<Vec<u8>, E>,
) -> Result<String, E> {
    let part = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(&message)?);
    Ok(format!("{message}.{signature}"))
}
