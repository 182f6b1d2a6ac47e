//! `POST /v1/oauth/revoke`: a token is over before its time (RFC 7009).

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use protected_model::{
    api::oauth::{REVOKE_PATH, RevocationRequest},
    secret::Secret as _,
};

use crate::{
    app::App,
    audit::NewEvent,
    auth,
    body::{FORM_BYTES, form, read_body},
    endpoint::Endpoint,
    oci,
    problem::Answer,
    request::RequestInfo,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::post(REVOKE_PATH, "Revoke a token", revoke).takes_form::<RevocationRequest>().answers_with(
            200,
            "The token does not work any more, if it ever did",
            None,
        ),
    ]
}

/// Bearing the token is the right to revoke it. The answer is 200 whatever the token (RFC 7009 section 2.2), but
/// only one that verifies as ours is written down: anything else would let a stranger fill the disk.
async fn revoke(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    headers: HeaderMap,
    body: Body,
) -> Answer<StatusCode> {
    let body = read_body(&headers, body, FORM_BYTES).await?;
    let RevocationRequest { token, .. } = form(&headers, &body)?;
    let mut event = NewEvent::new("token.revoke", &request, app.now());
    let token = token.reveal();
    let npm = || app.config.repositories.values().find_map(|it| auth::verify_npm(&app, token, it).ok());
    let (jti, exp) = if let Ok(claims) = auth::verify_session(&app, token) {
        event.by_run(&claims.identity);
        event.0.tenant_id = Some(claims.tenant_id);
        (claims.jti, claims.exp)
    } else if let Some(claims) = npm() {
        event.by_npm_token(&claims);
        (claims.jti, claims.exp)
    } else if let Some(claims) = oci::verify(&app, token) {
        // It does not say whether a run or a person has it.
        event.0.actor.sub = claims.sub;
        event.0.tenant_id = Some(claims.tenant_id);
        (claims.jti, claims.exp)
    } else {
        return Ok(StatusCode::OK);
    };
    event.by_token(&jti, exp);
    app.revoked.revoke(&app.store, jti, exp, event).await?;
    Ok(StatusCode::OK)
}
