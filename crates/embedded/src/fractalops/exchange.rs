//! `POST /v1/oauth/token`: a CI platform's ID token becomes a session (RFC 8693).
//!
//! The session says who is asking and allows nothing. Each ID token is good for one exchange: the ledger's row is
//! written in the transaction of the mint and of its audit event, and a refused exchange writes none. A repeated
//! request with the same `Idempotency-Key` gets the first one's answer, see [`crate::idempotency`].

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue},
};
use protected_model::{
    api::{
        audit::AuditEvent,
        oauth::{
            ACCESS_TOKEN_TYPE, GRANT_TYPE, ID_TOKEN_TYPE, TOKEN_PATH, TokenExchangeRequest,
            TokenExchangeResponse,
        },
        problem::Code,
    },
    claims::{SESSION_AUDIENCE, SESSION_TOKEN_TYPE, SessionClaims},
    digest::Sha256,
    name::{PackageName, TenantId},
    secret::{AccessToken, IdToken, Secret as _},
    time::{numeric_date, whole_seconds},
};
use protected_trust::{policy::TrustedPublisher, verify::VerifiedIdToken};

use super::{decide, replay};
use crate::{
    app::App,
    audit::{self, NewEvent},
    body::{FORM_BYTES, form, read_body},
    caching::no_store,
    endpoint::Endpoint,
    idempotency,
    problem::{Answer, Refusal},
    request::RequestInfo,
    revocation,
};

/// The `audience` that means this service, beside its URL.
const AUDIENCE: &str = "fractalops";

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::post(TOKEN_PATH, "Exchange a CI platform's ID token for a session", exchange)
            .repeatable()
            .takes_form::<TokenExchangeRequest>()
            .answers::<TokenExchangeResponse>(200, "The session, and the run as verified"),
    ]
}

async fn exchange(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    headers: HeaderMap,
    body: Body,
) -> Answer<([(HeaderName, HeaderValue); 1], Json<TokenExchangeResponse>)> {
    let mut event = NewEvent::new("exchange", &request, app.now());
    let exchanged = async {
        let key = idempotency::key(&headers)?;
        let body = read_body(&headers, body, FORM_BYTES).await?;
        let wanted: TokenExchangeRequest = form(&headers, &body)?;
        let caller = Sha256::of(wanted.subject_token.reveal()).to_string();
        app.answers.once(app.now(), key, &caller, &body, exchanged(&app, &wanted, &mut event)).await
    };
    match exchanged.await {
        Ok(response) => Ok((no_store(), Json(response))),
        Err(refusal) => {
            // RFC 6749 section 5.2 has few words; the code says it exactly.
            let error = match refusal.code() {
                code if *code == Code::INVALID_TARGET => "invalid_target",
                code if *code == Code::INVALID_SCOPE => "invalid_scope",
                code if *code == Code::NO_TRUSTED_PUBLISHER => "unauthorized_client",
                code if *code == Code::ISSUER_UNAVAILABLE || *code == Code::INTERNAL => {
                    "temporarily_unavailable"
                }
                _ => "invalid_request",
            };
            Err(refusal.about(event).oauth(error))
        }
    }
}

async fn exchanged(
    app: &App,
    wanted: &TokenExchangeRequest,
    event: &mut NewEvent,
) -> Answer<TokenExchangeResponse> {
    check_form(app, wanted)?;
    let dry_run = match wanted.dry_run.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Refusal::new(Code::INVALID_REQUEST, "`dry_run`: expected `true` or `false`")),
    };
    let verified = verify(app, &wanted.subject_token, &[app.issuer()], event).await?;
    let identity = &verified.identity;
    let matched = decide::publishers(app, identity)?;
    let tenant_id = one_tenant(&matched)?;
    event.0.tenant_id = Some(tenant_id.clone());
    let policies: Vec<String> = matched.iter().map(|publisher| publisher.id.clone()).collect();
    event.0.policy_id = policies.first().cloned();
    check_scope(wanted.scope.as_deref())?;
    let iat = numeric_date(whole_seconds(app.now()));
    let claims = SessionClaims {
        iss: app.issuer(),
        aud: SESSION_AUDIENCE.to_owned(),
        sub: identity.subject.clone(),
        iat,
        nbf: iat,
        exp: iat + app.config.limits.session_seconds,
        jti: ulid::Ulid::generate().to_string(),
        tenant_id,
        identity: identity.clone(),
    };
    // Signed before anything is written: an ID token is not used up for a session that cannot be had.
    let token = if dry_run { None } else { Some(app.sign(SESSION_TOKEN_TYPE, &claims)?) };
    let event = if dry_run {
        let mut event = event.clone();
        event.0.action = "exchange.dry_run".to_owned();
        app.store.write(move |txn| audit::append(txn, event)).await?
    } else {
        event.by_token(&claims.jti, claims.exp);
        once(app, &verified, None, event).await?
    };
    Ok(TokenExchangeResponse {
        access_token: token.map(AccessToken::new),
        issued_token_type: ACCESS_TOKEN_TYPE.to_owned(),
        token_type: "Bearer".to_owned(),
        expires_in: claims.exp - claims.iat,
        scope: None,
        tenant_id: claims.tenant_id,
        identity: claims.identity,
        policies,
        decision_id: event.decision_id,
        audit_event_id: event.id,
    })
}

fn check_form(app: &App, wanted: &TokenExchangeRequest) -> Answer<()> {
    let expect = |name: &str, actual: Option<&str>, expected: &str| match actual {
        Some(actual) if actual != expected => {
            Err(Refusal::new(Code::INVALID_REQUEST, format!("`{name}`: expected `{expected}`")))
        }
        _ => Ok(()),
    };
    expect("grant_type", Some(&wanted.grant_type), GRANT_TYPE)?;
    expect("subject_token_type", Some(&wanted.subject_token_type), ID_TOKEN_TYPE)?;
    expect("requested_token_type", wanted.requested_token_type.as_deref(), ACCESS_TOKEN_TYPE)?;
    if wanted.actor_token.is_some() {
        return Err(Refusal::new(Code::INVALID_REQUEST, "`actor_token` is not supported"));
    }
    let ours = |audience: &str| audience == AUDIENCE || audience == app.issuer();
    if wanted.audience.as_deref().is_some_and(|audience| !ours(audience)) {
        let message = format!("`audience`: expected `{AUDIENCE}` or `{}`", app.issuer());
        return Err(Refusal::new(Code::INVALID_TARGET, message));
    }
    let registry = |url: &str| {
        app.config
            .repositories
            .keys()
            .any(|name| app.registry_url(name).audience() == url.trim_end_matches('/'))
    };
    if wanted.resource.as_deref().is_some_and(|url| !registry(url)) {
        return Err(Refusal::new(
            Code::INVALID_TARGET,
            "`resource`: expected the URL of a registry of this service",
        ));
    }
    Ok(())
}

/// Verifies an ID token for one of `audiences`, and says in `event` whose it is.
pub(crate) async fn verify(
    app: &App,
    token: &IdToken,
    audiences: &[String],
    event: &mut NewEvent,
) -> Answer<VerifiedIdToken> {
    let verified = app.issuers.verify(token, audiences, app.now()).await?;
    event.by_run(&verified.identity);
    if app.issuers.is_of_people(&verified.identity.issuer) {
        return Err(Refusal::new(
            Code::INVALID_REQUEST,
            "this is a person's token, not a CI job's: send it to the API as it is",
        ));
    }
    Ok(verified)
}

/// Uses up an ID token, in the transaction that writes `event`; `for_package` where each package is an exchange of
/// its own, for a publish token. Refuses, having written nothing, when it was used before.
pub(super) async fn once(
    app: &App,
    verified: &VerifiedIdToken,
    for_package: Option<&PackageName>,
    event: &NewEvent,
) -> Answer<AuditEvent> {
    let used = match for_package {
        None => verified.replay.as_str().to_owned(),
        Some(package) => format!("{} {package}", verified.replay),
    };
    let until = numeric_date(verified.retain_until());
    let publishing = for_package.is_some();
    let event = event.clone();
    let written = app
        .store
        .write(move |txn| {
            if !replay::claim(txn, &used, until)? {
                return Ok(None);
            }
            let event = audit::append(txn, event)?;
            if publishing {
                revocation::watch(txn, &event)?;
            }
            Ok(Some(event))
        })
        .await?;
    written.ok_or_else(|| {
        Refusal::new(Code::TOKEN_REPLAYED, "this ID token was exchanged before; each is good for one exchange")
            .hint("ask the CI platform for a fresh one; to repeat a lost request, send the same Idempotency-Key within 60 s")
    })
}

/// A session is of one tenant.
pub(crate) fn one_tenant(matched: &[&TrustedPublisher]) -> Answer<TenantId> {
    let tenants: BTreeSet<_> = matched.iter().map(|publisher| &publisher.tenant_id).collect();
    match tenants.first() {
        Some(tenant) if tenants.len() == 1 => Ok((*tenant).clone()),
        _ => Err(Refusal::new(
            Code::NO_TRUSTED_PUBLISHER,
            "the run matches trusted publishers of more than one tenant, and a session is of one",
        )),
    }
}

/// Refuses any scope: a session carries no right to any package, so there is nothing to narrow, and an answer that
/// repeated the scope would say that something was.
fn check_scope(scope: Option<&str>) -> Answer<()> {
    match scope.map(str::trim) {
        None | Some("") => Ok(()),
        Some(_) => Err(Refusal::new(
            Code::INVALID_SCOPE,
            "`scope`: a session has none; ask for a token of one package and action instead",
        )),
    }
}
