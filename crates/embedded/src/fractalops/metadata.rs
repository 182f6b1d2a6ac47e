//! What a client has to know before its first request (RFC 8414), and the keys of our tokens (RFC 7517).

use std::sync::Arc;

use axum::{Json, extract::State, http::header, response::IntoResponse};
use protected_model::api::oauth::{GRANT_TYPE, JWKS_PATH, METADATA_PATH, Metadata, REVOKE_PATH, TOKEN_PATH};

use crate::{app::App, caching::KEYS_MAX_AGE, endpoint::Endpoint};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get(METADATA_PATH, "Describe the token endpoint", metadata)
            .answers::<Metadata>(200, "Authorization server metadata"),
        Endpoint::get(JWKS_PATH, "List the keys of tokens minted here", jwks)
            .answers::<serde_json::Value>(200, "A JWK set"),
    ]
}

async fn metadata(State(app): State<Arc<App>>) -> Json<Metadata> {
    Json(Metadata {
        issuer: app.issuer(),
        token_endpoint: app.public_url.join(TOKEN_PATH).into(),
        revocation_endpoint: app.public_url.join(REVOKE_PATH).into(),
        jwks_uri: app.public_url.join(JWKS_PATH).into(),
        grant_types_supported: vec![GRANT_TYPE.to_owned()],
        response_types_supported: Vec::new(),
        token_endpoint_auth_methods_supported: vec!["none".to_owned()],
        id_token_audience: app.issuer(),
        sigstore_url: app.authority.as_ref().map(|authority| authority.url().to_owned()),
    })
}

async fn jwks(State(app): State<Arc<App>>) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, KEYS_MAX_AGE)], Json(app.keys.jwks(app.now())))
}
