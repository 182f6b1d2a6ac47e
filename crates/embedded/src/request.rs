//! Who sent a request, and what it is called wherever it is spoken of.

use std::{convert::Infallible, net::SocketAddr};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use protected_model::api::problem::CORRELATION_HEADER;

/// The peer's address, put into each request by the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Who sent a request, as far as that is known without a credential.
#[derive(Clone, Debug)]
pub(crate) struct RequestInfo {
    /// The caller's identifier, or one made up.
    pub(crate) correlation_id: String,
    /// The peer's address.
    pub(crate) ip: Option<String>,
    /// The caller's program.
    pub(crate) user_agent: Option<String>,
}

impl RequestInfo {
    pub(crate) fn of(headers: &HeaderMap, peer: Option<&Peer>) -> Self {
        let correlation_id = headers
            .get(CORRELATION_HEADER)
            .and_then(|value| value.to_str().ok())
            .filter(|text| is_identifier(text))
            .map_or_else(|| ulid::Ulid::generate().to_string(), str::to_owned);
        let user_agent = headers.get(header::USER_AGENT).map(|value| {
            let text = String::from_utf8_lossy(value.as_bytes());
            text.chars().filter(|c| !c.is_control()).take(200).collect()
        });
        Self { correlation_id, ip: peer.map(|peer| peer.0.ip().to_string()), user_agent }
    }
}

/// Returns whether `text` may be echoed as an identifier: 1 to 128 letters, digits, `-`, `_`, `.` and `:`.
pub(crate) fn is_identifier(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}

impl<S: Sync> FromRequestParts<S> for RequestInfo {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let known = parts.extensions.get::<Self>().cloned();
        Ok(known.unwrap_or_else(|| Self::of(&parts.headers, parts.extensions.get::<Peer>())))
    }
}
