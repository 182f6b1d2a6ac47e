//! `GET` and `POST /token`: a session or a person's token becomes a token for the Docker registry.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderName, HeaderValue},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use protected_model::{
    api::{
        oci_token::{OciTokenRequest, OciTokenResponse, PATH},
        problem::Code,
    },
    claims::{OCI_SECONDS, OciClaims},
    secret::{AccessToken, RegistryToken, Secret as _},
    time::{numeric_date, whole_seconds},
};
use protected_trust::policy::walk;

use super::{registry, scope};
use crate::{
    app::App,
    audit::{self, NewEvent},
    auth::{self, Identified},
    body::{FORM_BYTES, form_repeating, members, read_body},
    caching::no_store,
    config::{Licence, Oci, Plan},
    endpoint::{Credential, Endpoint},
    problem::{Answer, Refusal},
    request::RequestInfo,
    session::Session,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    let summary = "Get a token for the Docker registry";
    vec![
        Endpoint::get(PATH, summary, get)
            .credential(Credential::SessionOrBasic)
            .query("service", "The registry, as its challenge calls it")
            .query("scope", "`repository:<name>:<action>,...`; may be repeated")
            .answers::<OciTokenResponse>(200, "The token and what it allows"),
        Endpoint::post(PATH, summary, post)
            .credential(Credential::SessionOrBasic)
            .takes_form::<OciTokenRequest>()
            .answers::<OciTokenResponse>(200, "The token and what it allows"),
    ]
}

type Answered = Answer<([(HeaderName, HeaderValue); 1], Json<OciTokenResponse>)>;

async fn get(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Answered {
    let wanted = async {
        let query = query.unwrap_or_default();
        let wanted = members(url::form_urlencoded::parse(query.as_bytes()), Some("scope"))?;
        // What stands in a URL stands in logs: no credential is taken from there.
        Ok((wanted, in_header(&headers)?))
    };
    answered(&app, &request, wanted).await
}

async fn post(State(app): State<Arc<App>>, request: RequestInfo, headers: HeaderMap, body: Body) -> Answered {
    let wanted = async {
        let body = read_body(&headers, body, FORM_BYTES).await?;
        let wanted: OciTokenRequest = form_repeating(&headers, &body, "scope")?;
        let credential = match (in_header(&headers)?, in_form(&wanted)?) {
            (Some(_), Some(_)) => {
                return Err(Refusal::new(
                    Code::INVALID_REQUEST,
                    "two credentials: expected one, in the header or in the form",
                ));
            }
            (header, form) => header.or(form),
        };
        Ok((wanted, credential))
    };
    answered(&app, &request, wanted).await
}

/// Mints, and makes a refusal one that Docker's clients print.
async fn answered(
    app: &App,
    request: &RequestInfo,
    wanted: impl Future<Output = Answer<(OciTokenRequest, Option<AccessToken>)>>,
) -> Answered {
    let mut event = NewEvent::new("oci_token.mint", request, app.now());
    let minted = async {
        let (wanted, credential) = wanted.await?;
        minted(app, &wanted, credential, &mut event).await
    };
    match minted.await {
        Ok(response) => Ok((no_store(), Json(response))),
        Err(refusal) => Err(refusal.docker().about(event)),
    }
}

async fn minted(
    app: &App,
    wanted: &OciTokenRequest,
    credential: Option<AccessToken>,
    event: &mut NewEvent,
) -> Answer<OciTokenResponse> {
    let (oci, keys) = registry(app)?;
    let credential = credential.ok_or_else(|| {
        Refusal::new(Code::UNAUTHENTICATED, "no credential")
            .hint("log in with a FractalOps session token as the password; the user name means nothing")
    })?;
    let (session, held) = holder(app, oci, credential.reveal()).await?;
    event.by_session(&session);
    if wanted.service != oci.service {
        let message = format!("`service`: expected `{}`", oci.service);
        return Err(Refusal::new(Code::INVALID_TARGET, message));
    }
    event.0.policy_id = held.first().map(|(licence, _)| licence.id.clone());
    let decided = scope::decide(oci, &held, scope::asked(&wanted.scope)?, app.now())?;
    let (licence, plan) = decided.by;
    let access = decided.access();
    let issued_at = whole_seconds(app.now());
    let iat = numeric_date(issued_at);
    // Attack: a token that is fetched in the last second of a licence.
    let left = decided.until.map_or(OCI_SECONDS, |until| numeric_date(until).saturating_sub(iat));
    let expires_in = OCI_SECONDS.min(left);
    let claims = OciClaims {
        iss: app.issuer(),
        aud: oci.service.clone(),
        sub: session.identity.subject,
        iat,
        nbf: iat,
        exp: iat + expires_in,
        jti: ulid::Ulid::generate().to_string(),
        tenant_id: session.tenant_id,
        access,
    };
    let token = keys.sign(&claims).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "cannot sign a token for the registry");
        Refusal::new(Code::INTERNAL, "the token could not be signed")
    })?;
    let mut event = match decided.nothing() {
        true => event.clone().denied(Code::ACTION_DENIED),
        false => event.clone(),
    };
    event.by_token(&claims.jti, claims.exp);
    event.0.policy_id = Some(licence.id.clone());
    event.0.project_slug = Some(plan.project_slug.clone());
    event.0.target.repositories = decided.repositories;
    app.store.write(move |txn| audit::append(txn, event)).await?;
    let scope: Vec<_> = claims.access.iter().map(ToString::to_string).collect();
    Ok(OciTokenResponse {
        token: RegistryToken::new(token.as_str()),
        access_token: RegistryToken::new(token),
        expires_in,
        issued_at,
        scope: scope.join(" "),
    })
}

/// Returns whose token it is, and the licences that name whom it is: of the caller's one tenant alone.
async fn holder<'a>(
    app: &'a App,
    oci: &'a Oci,
    token: &str,
) -> Answer<(Session, Vec<(&'a Licence, &'a Plan)>)> {
    let config = &app.config;
    let (session, ids) = match auth::identify(app, token).await? {
        Identified::Run(session) => {
            let publishers = config.publishers.iter().filter(|it| it.tenant_id == session.tenant_id);
            let matched = walk(publishers, &session.identity).matched;
            let ids: BTreeSet<&str> = matched.into_iter().map(|it| it.publisher.id.as_str()).collect();
            (*session, ids)
        }
        Identified::Person(verified) => {
            let (identity, groups) = (&verified.identity, &verified.groups);
            let entitlements = config.entitlements.iter().map(|it| (it.people(), &it.id, &it.tenant_id));
            let customers = config.customers.iter().map(|it| (it.people(), &it.id, &it.tenant_id));
            let all = entitlements.chain(customers);
            let known: Vec<_> = all.filter(|(people, ..)| people.include(identity, groups)).collect();
            let tenant_id = auth::one_tenant(known.iter().map(|(_, _, tenant)| *tenant))?;
            let ids = known.into_iter().map(|(_, id, _)| id.as_str()).collect();
            (Session::of_person(tenant_id, *verified), ids)
        }
    };
    let names = |licence: &Licence| licence.holders.iter().any(|holder| ids.contains(holder.as_str()));
    let held = oci.licences(&session.tenant_id).filter(|(licence, _)| names(licence)).collect();
    Ok((session, held))
}

/// Returns the token of the `Authorization` header: a bearer, or the password of HTTP Basic (RFC 7617).
fn in_header(headers: &HeaderMap) -> Answer<Option<AccessToken>> {
    let refuse = |message: &str| Err(Refusal::new(Code::UNAUTHENTICATED, message));
    let Some(value) = auth::authorization(headers)? else { return Ok(None) };
    let (scheme, credential) = value.split_once(' ').unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("basic") {
        return auth::bearer(headers).map(|token| Some(AccessToken::new(token)));
    }
    let decoded = STANDARD.decode(credential.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded.as_deref().and_then(|text| text.split_once(':')) {
        Some((_, token)) if !token.is_empty() => Ok(Some(AccessToken::new(token))),
        Some(_) => refuse("the password is empty: expected a FractalOps session token"),
        None => refuse("expected `Authorization: Basic` with a user name and a token"),
    }
}

/// Returns the token that a form brings, as its `grant_type` says (RFC 6749 sections 4.3.2 and 6).
fn in_form(wanted: &OciTokenRequest) -> Answer<Option<AccessToken>> {
    match wanted.grant_type.as_deref() {
        Some("refresh_token") => Ok(wanted.refresh_token.clone()),
        Some("password") => Ok(wanted.password.clone()),
        _ => Err(Refusal::new(
            Code::INVALID_REQUEST,
            "`grant_type`: expected `refresh_token` or `password`, each with a FractalOps session token",
        )),
    }
}
