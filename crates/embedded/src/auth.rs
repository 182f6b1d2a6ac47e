//! Who is asking: exactly one `Authorization` header, a token of exactly the expected kind, not revoked.

use crate::trust::mint::{Expect, TokenError};
use axum::http::{HeaderMap, header};
use protected_model::{
    api::{audit::ActorKind, problem::Code},
    claims::{NPM_TOKEN_TYPE, RegistryClaims, SESSION_AUDIENCE, SESSION_TOKEN_TYPE, SessionClaims},
};
use serde::de::DeserializeOwned;

use crate::{
    app::App,
    config::Repository,
    problem::{Answer, Refusal},
};

/// The longest `Authorization` header. Attack: megabytes of Base64 to be decoded before anything is known.
const HEADER_BYTES: usize = 8 * 1024;

/// Returns the bearer of the request's only `Authorization` header.
///
/// Attack: with two headers, a proxy in front checks the one and the service behind it takes the other.
pub(crate) fn bearer(headers: &HeaderMap) -> Answer<&str> {
    let refuse = |message: &str| Err(Refusal::new(Code::UNAUTHENTICATED, message));
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return refuse("no credential: expected `Authorization: Bearer <token>`");
    };
    if values.next().is_some() {
        return refuse("two Authorization headers: expected exactly one");
    }
    if value.len() > HEADER_BYTES {
        return refuse("the Authorization header is longer than 8 KiB");
    }
    let parts = value.to_str().ok().and_then(|text| text.split_once(' '));
    let Some((_, token)) = parts.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
        return refuse("expected `Authorization: Bearer <token>`");
    };
    if token.contains("${") {
        // What npm sends when the variable that a configuration file names is not set.
        return refuse("the token is a placeholder such as `${NODE_AUTH_TOKEN}` that nothing replaced");
    }
    Ok(token)
}

/// Who may call the FractalOps API.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// A CI job, or a person, by the session that the exchange gave.
    Session(Box<SessionClaims>),
    /// The machine's operator: reads audit and evidence, and nothing else.
    Operator,
}

/// Returns the session whose token the request bears.
pub(crate) fn session(app: &App, headers: &HeaderMap) -> Answer<SessionClaims> {
    verify(app, bearer(headers)?, SESSION_TOKEN_TYPE, SESSION_AUDIENCE, |claims: &SessionClaims| &claims.jti)
}

/// Returns the session whose token the request bears, or the operator.
pub(crate) fn session_or_operator(app: &App, headers: &HeaderMap) -> Answer<Caller> {
    if app.is_operator(bearer(headers)?) {
        return Ok(Caller::Operator);
    }
    Ok(Caller::Session(Box::new(session(app, headers)?)))
}

/// Returns the claims of the npm token that the request bears, made for exactly `repository`.
///
/// What is checked: one header, `typ`, algorithm, `kid`, signature, `iss`, `aud` (this repository's URL), the
/// times, the revocation, and that the token's tenant is the repository's. What is not: package and action.
pub(crate) fn npm_token(app: &App, headers: &HeaderMap, repository: &Repository) -> Answer<RegistryClaims> {
    let audience = app.registry_url(&repository.name).audience();
    let claims =
        verify(app, bearer(headers)?, NPM_TOKEN_TYPE, &audience, |claims: &RegistryClaims| &claims.jti)?;
    if claims.tenant_id != repository.tenant {
        return Err(Refusal::new(Code::OUT_OF_SCOPE, "the token is not for this repository"));
    }
    Ok(claims)
}

fn verify<C: DeserializeOwned>(
    app: &App,
    token: &str,
    typ: &str,
    audience: &str,
    jti: impl FnOnce(&C) -> &String,
) -> Answer<C> {
    let issuer = app.issuer();
    let claims: C = app
        .keys
        .verify(token, Expect { typ, issuer: &issuer, audience }, app.now())
        .map_err(|error| refuse_token(&error))?;
    if app.revoked.contains(jti(&claims)) {
        return Err(Refusal::new(Code::TOKEN_REVOKED, "the token was revoked"));
    }
    Ok(claims)
}

fn refuse_token(error: &TokenError) -> Refusal {
    let code = match error {
        TokenError::Expired { .. } => Code::TOKEN_EXPIRED,
        _ => Code::UNAUTHENTICATED,
    };
    Refusal::new(code, format!("the token is refused: {error}"))
}

/// Returns whether a session is a person's or a CI job's.
pub(crate) fn kind(app: &App, claims: &SessionClaims) -> ActorKind {
    if app.issuers.is_of_people(&claims.identity.issuer) { ActorKind::Human } else { ActorKind::Ci }
}
