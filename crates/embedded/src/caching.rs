//! How long clients, and what stands between, may keep an answer.

use axum::http::{HeaderName, HeaderValue, header};

/// How long a client may keep the keys. A new key signs at once, so whoever meets an unknown `kid` asks again.
pub(crate) const KEYS_MAX_AGE: &str = "public, max-age=300";

/// What every answer with a token carries (RFC 6749 section 5.1).
pub(crate) fn no_store() -> [(HeaderName, HeaderValue); 1] {
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]
}
