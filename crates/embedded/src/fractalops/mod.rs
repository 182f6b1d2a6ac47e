//! The control plane's endpoints, one file each.

mod attachments;
mod audit;
pub(crate) mod builds;
pub(crate) mod decide;
mod delivery;
mod entitlements;
pub(crate) mod evidence;
pub(crate) mod exchange;
mod health;
mod metadata;
mod npm_exchange;
mod npm_token;
pub(crate) mod replay;
pub(crate) mod retention;
mod revoke;

pub(crate) use metadata::KEYS_MAX_AGE;

use std::sync::Arc;

use axum::{
    Router,
    extract::rejection::QueryRejection,
    http::{HeaderName, HeaderValue, header},
};
use protected_model::api::problem::Code;

use crate::{
    app::App,
    endpoint::{Endpoint, register},
    problem::Refusal,
};

/// The largest body of a request that carries no document.
pub(crate) const FORM_BYTES: u64 = 64 * 1024;

/// Returns every endpoint of the control plane.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    let tables = [
        exchange::endpoints(),
        revoke::endpoints(),
        npm_token::endpoints(),
        npm_exchange::endpoints(),
        builds::endpoints(),
        delivery::endpoints(),
        entitlements::endpoints(),
        evidence::endpoints(),
        attachments::endpoints(),
        audit::endpoints(),
        metadata::endpoints(),
        health::endpoints(),
    ];
    tables.into_iter().flatten().collect()
}

/// Returns their routes.
pub(crate) fn router() -> Router<Arc<App>> {
    register(endpoints())
}

/// What every answer with a token carries (RFC 6749 section 5.1).
pub(crate) fn no_store() -> [(HeaderName, HeaderValue); 1] {
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]
}

/// Returns how many items a page has: as many as wanted, at least one and at most `most`.
fn page_size(wanted: Option<usize>, most: usize) -> usize {
    wanted.unwrap_or(most).clamp(1, most)
}

fn wrong_query(rejection: QueryRejection) -> Refusal {
    Refusal::new(Code::INVALID_REQUEST, format!("the query is refused: {}", rejection.body_text()))
}
