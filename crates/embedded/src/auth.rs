//! Who is asking: exactly one `Authorization` header, a token of exactly the expected kind, not revoked.

use std::collections::BTreeSet;

use axum::http::{HeaderMap, header};
use protected_model::{
    api::problem::Code,
    claims::{NPM_TOKEN_TYPE, RegistryClaims, SESSION_AUDIENCE, SESSION_TOKEN_TYPE, SessionClaims},
    name::TenantId,
    secret::IdToken,
};
use protected_trust::{
    mint::{Expect, TokenError},
    verify::VerifiedIdToken,
};
use serde::de::DeserializeOwned;

use crate::{
    app::App,
    audit::NewEvent,
    config::Repository,
    problem::{Answer, Refusal},
    session::Session,
};

/// The longest `Authorization` header. Attack: megabytes of Base64 to be decoded before anything is known.
const HEADER_BYTES: usize = 8 * 1024;

/// Returns the request's only `Authorization` header, if there is one.
///
/// Attack: with two headers, a proxy in front checks the one and the service behind it takes the other.
pub(crate) fn authorization(headers: &HeaderMap) -> Answer<Option<&str>> {
    let refuse = |message: &str| Err(Refusal::new(Code::UNAUTHENTICATED, message));
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return refuse("two Authorization headers: expected exactly one");
    }
    if value.len() > HEADER_BYTES {
        return refuse("the Authorization header is longer than 8 KiB");
    }
    match value.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(_) => refuse("the Authorization header is not ASCII"),
    }
}

/// Returns the bearer of the request's `Authorization` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Answer<&str> {
    let refuse = |message: &str| Err(Refusal::new(Code::UNAUTHENTICATED, message));
    let Some(value) = authorization(headers)? else {
        return refuse("no credential: expected `Authorization: Bearer <token>`");
    };
    let Some((_, token)) = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
    else {
        return refuse("expected `Authorization: Bearer <token>`");
    };
    if token.contains("${") {
        // What npm sends when the variable that a configuration file names is not set.
        return refuse("the token is a placeholder such as `${NODE_AUTH_TOKEN}` that nothing replaced");
    }
    Ok(token)
}

/// Who may read audit and evidence.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// A CI job, or a person.
    Session(Box<Session>),
    /// The machine's operator: reads audit and evidence, and nothing else.
    Operator,
}

impl Caller {
    /// Says in `event` who it is.
    pub(crate) fn sign(&self, event: &mut NewEvent) {
        match self {
            Self::Session(session) => event.by_session(session),
            Self::Operator => event.by_operator(),
        }
    }
}

/// Returns the session whose token the request bears: a CI session token, or a person's OIDC token.
pub(crate) async fn session(app: &App, headers: &HeaderMap) -> Answer<Session> {
    match identify(app, bearer(headers)?).await? {
        Identified::Run(session) => Ok(*session),
        Identified::Person(verified) => {
            let entitled = app.config.entitlements.iter();
            let own = entitled.filter(|it| it.people().include(&verified.identity, &verified.groups));
            let tenant_id = one_tenant(own.map(|it| &it.tenant_id))?;
            Ok(Session::of_person(tenant_id, *verified))
        }
    }
}

/// Whose token it is.
pub(crate) enum Identified {
    /// A CI job's: it says of which tenant.
    Run(Box<Session>),
    /// A person's, of whom nothing is known yet but what the issuer says.
    Person(Box<VerifiedIdToken>),
}

/// Verifies a CI session token, or a person's OIDC token.
pub(crate) async fn identify(app: &App, token: &str) -> Answer<Identified> {
    let refusal = match verify_session(app, token) {
        Ok(claims) => return Ok(Identified::Run(Box::new(Session::of_run(claims)))),
        Err(refusal) => refusal,
    };
    // A token of ours that is refused stays refused. Any other may be a person's, where people have an issuer.
    if *refusal.code() != Code::UNAUTHENTICATED || !app.issuers.has_people() {
        return Err(refusal);
    }
    Ok(Identified::Person(Box::new(person(app, token).await?)))
}

/// Returns the session whose token the request bears, or the operator.
pub(crate) async fn session_or_operator(app: &App, headers: &HeaderMap) -> Answer<Caller> {
    if app.is_operator(bearer(headers)?) {
        return Ok(Caller::Operator);
    }
    Ok(Caller::Session(Box::new(session(app, headers).await?)))
}

async fn person(app: &App, token: &str) -> Answer<VerifiedIdToken> {
    let unauthenticated = |refusal: Refusal| match *refusal.code() == Code::INVALID_ID_TOKEN {
        // At the token endpoint it is a wrong parameter, and here a wrong credential.
        true => Refusal::new(Code::UNAUTHENTICATED, refusal.message()),
        false => refusal,
    };
    let verified = app
        .issuers
        .verify(&IdToken::new(token), &[app.issuer()], app.now())
        .await
        .map_err(unauthenticated)?;
    if !app.issuers.is_of_people(&verified.identity.issuer) {
        return Err(Refusal::new(
            Code::UNAUTHENTICATED,
            "this is a CI job's ID token: exchange it for a session first",
        ));
    }
    Ok(verified)
}

/// Returns the one tenant of those at which a person is known: a session is of one.
pub(crate) fn one_tenant<'a>(tenants: impl Iterator<Item = &'a TenantId>) -> Answer<TenantId> {
    let tenants: BTreeSet<_> = tenants.collect();
    match tenants.first() {
        Some(tenant) if tenants.len() == 1 => Ok((*tenant).clone()),
        Some(_) => {
            let message = "this person has entitlements at more than one tenant, which is not supported";
            Err(Refusal::new(Code::PROJECT_NOT_ENTITLED, message))
        }
        None => Err(Refusal::new(Code::PROJECT_NOT_ENTITLED, "this person has no entitlement here")),
    }
}

/// Verifies a CI session token.
pub(crate) fn verify_session(app: &App, token: &str) -> Answer<SessionClaims> {
    let claims: SessionClaims = verify(app, token, SESSION_TOKEN_TYPE, SESSION_AUDIENCE)?;
    not_revoked(app, &claims.jti)?;
    Ok(claims)
}

/// Verifies an npm token for one repository: `typ`, algorithm, `kid`, signature, `iss`, `aud` (the repository's
/// URL), the times, the revocation, and that its tenant is the repository's.
pub(crate) fn verify_npm(app: &App, token: &str, repository: &Repository) -> Answer<RegistryClaims> {
    let audience = app.registry_url(&repository.name).audience();
    let claims: RegistryClaims = verify(app, token, NPM_TOKEN_TYPE, &audience)?;
    not_revoked(app, &claims.jti)?;
    if claims.tenant_id != repository.tenant {
        return Err(Refusal::new(Code::OUT_OF_SCOPE, "the token is not for this repository"));
    }
    Ok(claims)
}

/// Returns the claims of the npm token that the request bears, made for exactly `repository`. What it covers,
/// package and action, is for the registry to check.
pub(crate) fn npm_token(app: &App, headers: &HeaderMap, repository: &Repository) -> Answer<RegistryClaims> {
    verify_npm(app, bearer(headers)?, repository)
}

fn verify<C: DeserializeOwned>(app: &App, token: &str, typ: &str, audience: &str) -> Answer<C> {
    let issuer = app.issuer();
    let expect = Expect { typ, issuer: &issuer, audience };
    app.keys.verify(token, expect, app.now()).map_err(|error| {
        let code = match error {
            TokenError::Expired => Code::TOKEN_EXPIRED,
            _ => Code::UNAUTHENTICATED,
        };
        Refusal::new(code, format!("the token is refused: {error}"))
    })
}

fn not_revoked(app: &App, jti: &str) -> Answer<()> {
    if app.revoked.contains(jti) {
        return Err(Refusal::new(Code::TOKEN_REVOKED, "the token was revoked"));
    }
    Ok(())
}
