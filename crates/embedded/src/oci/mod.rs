//! Tokens for a Docker registry, in the registry's own protocol.
//!
//! A registry (distribution) sends its clients here ([`token`]); what they get is what they ask for and their licences
//! allow. The registry is given one certificate ([`keys`]) and never asks this service anything.

pub(crate) mod keys;
mod scope;
mod token;

use std::sync::Arc;

use axum::{Json, Router, extract::State, http::header, response::IntoResponse};
use jiff::Timestamp;
use protected_model::{
    api::{
        oci_token::{JWKS_PATH, ROOT_PATH},
        problem::Code,
    },
    claims::{OCI_TOKEN_TYPE, OciClaims},
};
use protected_trust::mint::Expect;

use crate::{
    app::App,
    caching::KEYS_MAX_AGE,
    config::Oci,
    endpoint::{Endpoint, register},
    problem::{Answer, Refusal},
};
pub use keys::OciError;
use keys::OciKeys;

/// Returns every endpoint of the registry's tokens.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    let root = "Get the certificate that a Docker registry trusts: its `rootcertbundle`";
    let mut endpoints = token::endpoints();
    endpoints.extend([
        Endpoint::get(ROOT_PATH, root, root_certificate).answers_with(
            200,
            "The certificate",
            Some("application/x-pem-file"),
        ),
        Endpoint::get(JWKS_PATH, "List the keys of tokens for the Docker registry", jwks)
            .answers::<serde_json::Value>(200, "A JWK set"),
    ]);
    endpoints
}

/// Returns their routes.
pub(crate) fn router() -> Router<Arc<App>> {
    register(endpoints())
}

/// Lets a new key take over when the one that signs is old enough.
pub(crate) fn rotate(app: &App, now: Timestamp) -> Result<(), OciError> {
    match &app.oci_keys {
        Some(keys) => keys.rotate_when_due(now),
        None => Ok(()),
    }
}

/// Verifies a token that was minted here for the registry; `None` when it is none, or there is no registry.
pub(crate) fn verify(app: &App, token: &str) -> Option<OciClaims> {
    let (oci, keys) = registry(app).ok()?;
    let issuer = app.issuer();
    let expect = Expect { typ: OCI_TOKEN_TYPE, issuer: &issuer, audience: &oci.service };
    keys.verify(token, expect, app.now()).ok()
}

/// Returns the registry that tokens are for, and the keys that sign them.
fn registry(app: &App) -> Answer<(&Oci, &OciKeys)> {
    app.config
        .oci
        .as_ref()
        .zip(app.oci_keys.as_ref())
        .ok_or_else(|| Refusal::new(Code::NOT_FOUND, "no Docker registry is configured here"))
}

async fn root_certificate(State(app): State<Arc<App>>) -> Answer<impl IntoResponse> {
    let (_, keys) = registry(&app)?;
    Ok(([(header::CONTENT_TYPE, "application/x-pem-file")], keys.root().to_owned()))
}

async fn jwks(State(app): State<Arc<App>>) -> Answer<impl IntoResponse> {
    let (_, keys) = registry(&app)?;
    Ok(([(header::CACHE_CONTROL, KEYS_MAX_AGE)], Json(keys.jwks(app.now()))))
}
