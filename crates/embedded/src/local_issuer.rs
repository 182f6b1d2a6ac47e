//! An issuer that imitates CI platforms' ID-token endpoints, for demos and tests on one machine.
//!
//! A job asks it as it asks GitHub: `GET <url>?api-version=2.0&audience=<audience>` with the run's request token,
//! and gets `{"value": "<ID token>"}`. The other platforms hand their jobs a finished token; here theirs is got the
//! same way and put where the platform would. What a run's token says is in the configuration, so whoever holds a
//! request token can be that run: it is only there when clients reach the service over a loopback address.

pub(crate) mod runs;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path as Parameters, Query, State, rejection::QueryRejection},
    http::HeaderMap,
};
use protected_model::{
    api::problem::Code,
    digest::Sha256,
    identity::PlatformKind,
    secret::{IdToken, reveal_on_the_wire},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    app::App,
    audit::NewEvent,
    auth,
    config::{PLATFORMS, issuer_url, platform_name},
    endpoint::{Credential, Endpoint, register},
    problem::{Answer, Refusal},
    request::RequestInfo,
};
use runs::LocalIssuer;

/// The longest audience that is put into a token.
const AUDIENCE_BYTES: usize = 512;

/// As GitHub answers.
#[derive(Serialize, JsonSchema)]
struct Issued {
    /// The ID token.
    #[serde(serialize_with = "reveal_on_the_wire")]
    value: IdToken,
}

#[derive(Deserialize)]
struct Wanted {
    audience: String,
}

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("local-issuer/{platform}/token/{run}", "Issue an ID token, as GitHub does", token)
            .credential(Credential::RequestToken)
            .query("audience", "The token's audience")
            .query("api-version", "Ignored; GitHub's clients send `2.0`")
            .answers::<Issued>(200, "The ID token"),
        Endpoint::get(
            "local-issuer/{platform}/.well-known/openid-configuration",
            "Describe the local issuer",
            discovery,
        )
        .answers::<Value>(200, "OpenID Connect discovery"),
        Endpoint::get("local-issuer/{platform}/jwks", "List the local issuer's key", jwks)
            .answers::<Value>(200, "A JWK set"),
    ]
}

pub(crate) fn router() -> Router<Arc<App>> {
    register(endpoints())
}

fn find<'a>(app: &'a App, platform: &str) -> Answer<(&'a LocalIssuer, PlatformKind)> {
    let platform = PLATFORMS.iter().find(|known| platform_name(**known) == platform);
    let not_found = || Refusal::new(Code::NOT_FOUND, "there is no local issuer here");
    app.local_issuer.as_ref().zip(platform.copied()).ok_or_else(not_found)
}

async fn token(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    Parameters((platform, run)): Parameters<(String, String)>,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer<Json<Issued>> {
    let event = NewEvent::new("local_issuer.token", &request, app.now());
    issued(&app, &platform, &run, &headers, wanted).map(Json).map_err(|refusal| refusal.about(event))
}

fn issued(
    app: &App,
    platform: &str,
    run: &str,
    headers: &HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer<Issued> {
    let (issuer, platform) = find(app, platform)?;
    let bearer = Sha256::of(auth::bearer(headers)?);
    let known = issuer.runs.get(run).filter(|(it, token)| it.platform == platform && *token == bearer);
    let Some((run, _)) = known else {
        return Err(Refusal::new(Code::UNAUTHENTICATED, "the request token is not this run's"));
    };
    let audience = wanted
        .map_err(|_| Refusal::new(Code::INVALID_REQUEST, "expected `audience` in the query"))?
        .0
        .audience;
    if !(1..=AUDIENCE_BYTES).contains(&audience.len()) {
        let message = format!("`audience`: expected 1 to {AUDIENCE_BYTES} bytes");
        return Err(Refusal::new(Code::INVALID_REQUEST, message));
    }
    Ok(Issued { value: issuer.token(run, &audience, app.now())? })
}

async fn discovery(
    State(app): State<Arc<App>>,
    Parameters(platform): Parameters<String>,
) -> Answer<Json<Value>> {
    let (issuer, platform) = find(&app, &platform)?;
    let url = issuer_url(&issuer.public_url, platform);
    Ok(Json(issuer.issuer.discovery(&url, &format!("{url}/jwks"))))
}

async fn jwks(State(app): State<Arc<App>>, Parameters(platform): Parameters<String>) -> Answer<Json<Value>> {
    Ok(Json(find(&app, &platform)?.0.issuer.jwks()))
}
