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

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::rejection::QueryRejection,
    http::HeaderMap,
};
use protected_model::api::problem::Code;

use crate::{
    app::App,
    audit::NewEvent,
    auth,
    body::read_body,
    endpoint::{Endpoint, register},
    idempotency,
    problem::{Answer, Refusal},
    session::Session,
};

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

/// Returns what every request to put something on record brings: a session, of which `event` is told, and a body.
///
/// The `Idempotency-Key` is only looked at, so that a malformed one is refused as everywhere: what is sent again is
/// recognised by its content.
async fn posted(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    limit_bytes: u64,
    event: &mut NewEvent,
) -> Answer<(Session, Bytes)> {
    let session = auth::session(app, headers).await?;
    event.by_session(&session);
    idempotency::key(headers)?;
    Ok((session, read_body(headers, body, limit_bytes).await?))
}

/// Returns how many items a page has: as many as wanted, at least one and at most `most`.
fn page_size(wanted: Option<usize>, most: usize) -> usize {
    wanted.unwrap_or(most).clamp(1, most)
}

fn wrong_query(rejection: QueryRejection) -> Refusal {
    Refusal::new(Code::INVALID_REQUEST, format!("the query is refused: {}", rejection.body_text()))
}
