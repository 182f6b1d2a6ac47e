//! What an ID token looks like from outside. Whether it is a good one is for FractalOps to find out.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use protected_model::secret::IdToken;
use serde::Deserialize;

/// The longest ID token that is taken. GitLab's grow with the number of groups, and stay far below.
pub(crate) const MAX_BYTES: usize = 32 * 1024;

/// Why a text is not an ID token. Never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Nothing there.
    Empty,
    /// More than any token.
    TooLong,
    /// Not three parts in base64url, or a first part that is no header (RFC 7515 section 7.1).
    NotCompact,
    /// A token that nobody signed (RFC 7518 section 3.6).
    Unsigned,
    /// A token where a file's path is expected.
    Path,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::TooLong => write!(f, "it is longer than {MAX_BYTES} bytes"),
            Self::NotCompact => f.write_str("expected a JWT, three base64url parts with dots between them"),
            Self::Unsigned => f.write_str("it has no signature"),
            Self::Path => f.write_str("it is a token where the path of a file is expected"),
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

/// Wraps `text` when it has the shape of an ID token.
///
/// # Errors
/// When it has not: sending it would hand something else, perhaps another secret, to FractalOps.
pub(crate) fn id_token(text: &str) -> Result<IdToken, Malformed> {
    let text = text.trim();
    shape(text).map_or_else(|| Ok(IdToken::new(text)), Err)
}

/// Returns what is wrong with `text` as an ID token, or `None`.
pub(crate) fn shape(text: &str) -> Option<Malformed> {
    if text.is_empty() {
        return Some(Malformed::Empty);
    }
    if text.len() > MAX_BYTES {
        return Some(Malformed::TooLong);
    }
    let parts: Vec<_> = text.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else { return Some(Malformed::NotCompact) };
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    let header = decode(header).and_then(|json| serde_json::from_slice::<Header>(&json).ok());
    let (Some(header), Some(claims), Some(signature)) = (header, decode(claims), decode(signature)) else {
        return Some(Malformed::NotCompact);
    };
    if claims.is_empty() {
        return Some(Malformed::NotCompact);
    }
    (signature.is_empty() || header.alg.eq_ignore_ascii_case("none")).then_some(Malformed::Unsigned)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A token of the right shape: `{"alg":"RS256"}`, `{"sub":"x"}`, and a signature of nothing.
    pub(crate) const GOOD: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln";

    #[test]
    fn takes_a_compact_jwt_and_trims_it() {
        use protected_model::secret::Secret;
        let token = id_token(&format!("  {GOOD}\r\n")).expect("token");
        assert_eq!(token.reveal(), GOOD);
    }

    #[test]
    fn takes_nothing_else() {
        let long = format!("{GOOD}{}", "A".repeat(MAX_BYTES));
        for (text, reason) in [
            ("", Malformed::Empty),
            (" \n", Malformed::Empty),
            (long.as_str(), Malformed::TooLong),
            ("hunter2", Malformed::NotCompact),
            ("ghs_hunter2", Malformed::NotCompact),
            ("a.b.c", Malformed::NotCompact),
            ("..", Malformed::NotCompact),
            ("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0", Malformed::NotCompact),
            ("eyJhbGciOiJSUzI1NiJ9..c2ln", Malformed::NotCompact),
            ("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln.c2ln", Malformed::NotCompact),
            ("eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJ4In0.c2ln", Malformed::NotCompact),
            ("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln\nX: y", Malformed::NotCompact),
            ("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln==", Malformed::NotCompact),
            ("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.", Malformed::Unsigned),
            ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.c2ln", Malformed::Unsigned),
        ] {
            let Err(found) = id_token(text) else { panic!("{text}") };
            assert_eq!(found, reason, "{text}");
            let error = crate::IdTokenError::malformed("here")(found).to_string();
            assert!(error.starts_with("here is not an ID token: ") && !error.contains("hunter2"), "{error}");
        }
    }
}
