//! npm trusted publishing: `npm publish` in CI exchanges its ID token by itself, with no client of ours.
//!
//! npm asks at the origin's root, pnpm and yarn below the registry's path, and the three name the audience in two
//! ways: `npm:<host>` and `npm:<host>:<port>`. They make one exchange for each package, with one ID token for the
//! whole job where the platform gives no more, so here an ID token is good for one exchange of each package.
//!
//! The token is bound to no artifact, since npm names none; the registry checks the artifact's policy when the
//! bytes come.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
};
use jiff::Timestamp;
use protected_model::{
    action::Action,
    api::{audit::ActorKind, problem::Code},
    name::{PackageName, PackageNameError, TenantId},
    secret::{IdToken, RegistryToken, reveal_on_the_wire},
    time::after,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    builds,
    decide::{self, Question},
    exchange,
    npm_token::Mint,
};
use crate::{
    app::App,
    audit::NewEvent,
    auth,
    caching::no_store,
    config::Package,
    endpoint::{Credential, Endpoint},
    problem::{Answer, Refusal},
    request::RequestInfo,
    session::Session,
};

/// Where npm asks, at the origin's root; pnpm and yarn below the registry's path.
const PATH: &str = "-/npm/v1/oidc/token/exchange/package/{package}";

/// What npm's own registry answers. The clients read `token` alone.
#[derive(Serialize, JsonSchema)]
struct Exchanged {
    /// `oidc`.
    token_type: &'static str,
    /// An npm token for publishing this package.
    #[serde(serialize_with = "reveal_on_the_wire")]
    token: RegistryToken,
    /// Its `jti`.
    token_id: String,
    /// When it was minted.
    created: Timestamp,
    /// When it stops working.
    expires: Timestamp,
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    let summary = "Exchange an ID token for a publish token, as npm's trusted publishing does";
    vec![
        Endpoint::post(PATH, summary, at_the_root)
            .credential(Credential::IdToken)
            .answers::<Exchanged>(201, "The token"),
        Endpoint::post(&format!("repository/{{repository}}/{PATH}"), summary, at_the_registry)
            .credential(Credential::IdToken)
            .answers::<Exchanged>(201, "The token"),
    ]
}

type Created = (StatusCode, [(HeaderName, HeaderValue); 1], Json<Exchanged>);

async fn at_the_root(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    Path(package): Path<String>,
    headers: HeaderMap,
) -> Answer<Created> {
    exchange(&app, &request, &headers, None, &package).await
}

async fn at_the_registry(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    Path((repository, package)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer<Created> {
    exchange(&app, &request, &headers, Some(&repository), &package).await
}

async fn exchange(
    app: &App,
    request: &RequestInfo,
    headers: &HeaderMap,
    repository: Option<&str>,
    package: &str,
) -> Answer<Created> {
    let mut event = NewEvent::new("npm_exchange", request, app.now());
    match exchanged(app, headers, repository, package, &mut event).await {
        Ok(exchanged) => Ok((StatusCode::CREATED, no_store(), Json(exchanged))),
        Err(refusal) => Err(refusal.about(event).npm_message()),
    }
}

async fn exchanged(
    app: &App,
    headers: &HeaderMap,
    repository: Option<&str>,
    package: &str,
    event: &mut NewEvent,
) -> Answer<Exchanged> {
    let token = IdToken::new(auth::bearer(headers)?);
    let verified = exchange::verify(app, &token, &audiences(app), event).await?;
    let package_name: PackageName = package
        .parse()
        .map_err(|error: PackageNameError| Refusal::new(Code::INVALID_REQUEST, error.to_string()))?;
    event.0.target.package_name = Some(package_name.clone());
    let matched = decide::publishers(app, &verified.identity)?;
    let listing = matched.iter().find_map(|publisher| {
        let package = app.config.package(&publisher.tenant_id, &package_name)?;
        let here = repository.is_none_or(|repository| package.repository == repository);
        (here && package.project == publisher.project_slug).then_some((&publisher.tenant_id, package))
    });
    let Some((tenant_id, package)) = listing else {
        let message = format!("no trusted publisher of this run is for {package_name}");
        return Err(Refusal::new(Code::NO_TRUSTED_PUBLISHER, message).status(StatusCode::FORBIDDEN));
    };
    let session = Session {
        tenant_id: tenant_id.clone(),
        kind: ActorKind::Ci,
        groups: Vec::new(),
        token_jti: verified.replay.as_str().to_owned(),
        token_exp: verified.expires,
        identity: verified.identity.clone(),
    };
    event.by_session(&session);
    event.0.project_slug = Some(package.project.clone());
    let question = Question {
        tenant_id: None,
        project_slug: &package.project,
        package_name: &package_name,
        actions: &[Action::Publish],
        expected_snapshot: None,
    };
    let decision = decide::decide(app, &session, &question)?;
    event.0.entitlement_snapshot_id = Some(decision.snapshot.clone());
    event.0.policy_id = Some(decision.policy_id.clone());
    check_artifacts(app, tenant_id, package)?;
    let mint = Mint {
        session: &session,
        decision: &decision,
        package_name: &package_name,
        actions: &[Action::Publish],
        version: None,
        integrity: None,
        dry_run: false,
    };
    let (token, claims) = mint.sign(app)?;
    event.by_token(&claims.jti, claims.exp);
    exchange::once(app, &verified, Some(&package_name), event).await?;
    Ok(Exchanged {
        token_type: "oidc",
        token: RegistryToken::new(token),
        token_id: claims.jti,
        created: after(Timestamp::UNIX_EPOCH, claims.iat),
        expires: after(Timestamp::UNIX_EPOCH, claims.exp),
    })
}

/// Returns the audiences that clients ask their platform for: npm and pnpm leave the port out, yarn does not.
fn audiences(app: &App) -> Vec<String> {
    let host = app.public_url.as_url().host_str().unwrap_or_default();
    let mut audiences = vec![format!("npm:{host}")];
    let with_port = format!("npm:{}", app.public_url.authority());
    if with_port != audiences[0] {
        audiences.push(with_port);
    }
    audiences
}

/// Refuses a token that no upload could use: nothing on record meets the package's artifact policy.
fn check_artifacts(app: &App, tenant: &TenantId, package: &Package) -> Answer<()> {
    let policy = &package.artifact_policy;
    if policy.is_empty() || builds::any_satisfies(&app.store.read()?, tenant, &package.name, policy)? {
        return Ok(());
    }
    let words: Vec<_> = policy.iter().map(|policy| decide::policy_word(*policy)).collect();
    let message = format!(
        "{} may only be published as a {} artifact, and no such build of it is on record",
        package.name,
        words.join(" and ")
    );
    Err(Refusal::new(Code::ARTIFACT_POLICY_UNMET, message)
        .hint("publish with `protected-registry publish`, or record the build with `protected-registry protect-build` first"))
}
