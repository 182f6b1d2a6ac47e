//! `POST /v1/packages/registry/tokens/npm`: a session becomes a token for one package.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
};
use protected_model::{
    action::{Action, ArtifactPolicy},
    api::{
        audit::ActorKind,
        npm_token::{NpmTokenRequest, NpmTokenResponse, PATH},
        problem::{Code, RuleResult},
    },
    claims::{NPM_TOKEN_TYPE, Publisher, RegistryClaims},
    digest::Integrity,
    name::PackageName,
    secret::RegistryToken,
    service_url::ServiceUrl,
    time::{after, numeric_date, whole_seconds},
    version::PackageVersion,
};

use super::{
    builds,
    decide::{self, Decision, Question},
};
use crate::{
    app::App,
    audit::{self, NewEvent},
    auth,
    body::{FORM_BYTES, json, read_body},
    caching::no_store,
    endpoint::{Credential, Endpoint},
    idempotency,
    problem::{Answer, Refusal},
    request::RequestInfo,
    revocation,
    session::Session,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::post(PATH, "Mint a short-lived npm token for one package", mint)
            .credential(Credential::Session)
            .repeatable()
            .takes::<NpmTokenRequest>()
            .answers::<NpmTokenResponse>(201, "The token and what it is good for")
            .answers::<NpmTokenResponse>(200, "A dry run: it would be minted"),
    ]
}

async fn mint(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    headers: HeaderMap,
    body: Body,
) -> Answer<(StatusCode, [(HeaderName, HeaderValue); 1], Json<NpmTokenResponse>)> {
    let mut event = NewEvent::new("npm_token.mint", &request, app.now());
    match minted(&app, &headers, body, &mut event).await {
        Ok(response) => {
            let status = if response.token.is_some() { StatusCode::CREATED } else { StatusCode::OK };
            Ok((status, no_store(), Json(response)))
        }
        Err(refusal) => Err(refusal.about(event)),
    }
}

async fn minted(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    event: &mut NewEvent,
) -> Answer<NpmTokenResponse> {
    let session = auth::session(app, headers).await?;
    event.by_session(&session);
    let key = idempotency::key(headers)?;
    let body = read_body(headers, body, FORM_BYTES).await?;
    let wanted: NpmTokenRequest = json(headers, &body)?;
    event.0.project_slug = Some(wanted.project_slug.clone());
    event.0.target.package_name = Some(wanted.package_name.clone());
    event.0.target.version = wanted.package_version.clone();
    event.0.target.build_id = wanted.protection_build_id.clone();
    let work = decided(app, &session, &wanted, event);
    app.answers.once(app.now(), key, &session.token_jti, &body, work).await
}

async fn decided(
    app: &App,
    session: &Session,
    wanted: &NpmTokenRequest,
    event: &mut NewEvent,
) -> Answer<NpmTokenResponse> {
    let actions = wanted.action_mode.actions();
    let publishing = actions.contains(&Action::Publish);
    let question = Question {
        tenant_id: wanted.tenant_id.as_ref(),
        project_slug: &wanted.project_slug,
        package_name: &wanted.package_name,
        actions,
        expected_snapshot: wanted.expected_entitlement_snapshot_id.as_ref(),
    };
    let mut decision = decide::decide(app, session, &question)?;
    event.0.entitlement_snapshot_id = Some(decision.snapshot.clone());
    event.0.policy_id = Some(decision.policy_id.clone());
    if publishing {
        let unmet = artifact(app, session, wanted, &decision)?;
        match unmet {
            None => {}
            // The artifact of a dry run was never recorded: that is what makes it one.
            Some(rule) if wanted.dry_run => {
                decision
                    .rules
                    .push(RuleResult { actual: Some("not recorded yet (dry run)".to_owned()), ..rule });
            }
            Some(rule) => return Err(unmet_policy(wanted, &decision, rule)),
        }
    }
    let minted = Mint {
        session,
        decision: &decision,
        package_name: &wanted.package_name,
        actions,
        version: publishing.then_some(wanted.package_version.as_ref()).flatten(),
        integrity: publishing.then_some(wanted.artifact_sha512).flatten(),
        dry_run: wanted.dry_run,
    };
    minted.mint(app, event).await
}

/// Checks the last thing of a decision: that the artifact is what the package's policy wants. Returns the rule
/// that does not hold.
fn artifact(
    app: &App,
    session: &Session,
    wanted: &NpmTokenRequest,
    decision: &Decision<'_>,
) -> Answer<Option<RuleResult>> {
    let policy = &decision.package.artifact_policy;
    let unmet = |policy: ArtifactPolicy, actual: Option<String>| {
        Ok(Some(RuleResult {
            rule: "a build that meets the artifact policy is on record for exactly this artifact".to_owned(),
            claim: "artifact_sha512".to_owned(),
            expected: decide::policy_word(policy).to_owned(),
            actual,
            ok: false,
        }))
    };
    let Some(first) = policy.first().copied() else { return Ok(None) };
    let Some(integrity) = &wanted.artifact_sha512 else { return unmet(first, None) };
    let build = builds::of_artifact(&app.store.read()?, &session.tenant_id, &wanted.package_name, integrity)?;
    let Some(build) = build else { return unmet(first, Some("no build on record".to_owned())) };
    if wanted.protection_build_id.as_ref().is_some_and(|id| *id != build.id) {
        return unmet(first, Some(format!("build {} made it, not the one named", build.id)));
    }
    if wanted.package_version.as_ref().is_some_and(|version| *version != build.version) {
        return unmet(first, Some(format!("it is on record as version {}", build.version)));
    }
    match policy.iter().find(|policy| !build.satisfied.contains(policy)) {
        None => Ok(None),
        Some(policy) => unmet(*policy, Some(format!("build {} does not meet it", build.id))),
    }
}

fn unmet_policy(wanted: &NpmTokenRequest, decision: &Decision<'_>, rule: RuleResult) -> Refusal {
    let name = &wanted.package_name;
    let message = match &rule.actual {
        None => {
            format!("{name} may only be published as a {} artifact, and no artifact was named", rule.expected)
        }
        Some(actual) => format!("{name} may only be published as a {} artifact: {actual}", rule.expected),
    };
    Refusal::new(Code::ARTIFACT_POLICY_UNMET, message)
        .hint("record the hardened build first: `protected-registry publish` does")
        .rules(Some(decision.policy_id.clone()), vec![rule])
}

/// A decision that was taken, about to become a token.
pub(super) struct Mint<'a> {
    pub(super) session: &'a Session,
    pub(super) decision: &'a Decision<'a>,
    pub(super) package_name: &'a PackageName,
    pub(super) actions: &'a [Action],
    pub(super) version: Option<&'a PackageVersion>,
    pub(super) integrity: Option<Integrity>,
    pub(super) dry_run: bool,
}

impl Mint<'_> {
    /// Mints the token with its audit event; for a dry run the event alone.
    async fn mint(&self, app: &App, event: &mut NewEvent) -> Answer<NpmTokenResponse> {
        let (token, claims) = self.sign(app)?;
        let expires_at = after(jiff::Timestamp::UNIX_EPOCH, claims.exp);
        let publishing = self.actions.contains(&Action::Publish);
        let mut event = event.clone();
        if self.dry_run {
            event.0.action.push_str(".dry_run");
        } else {
            event.by_token(&claims.jti, claims.exp);
        }
        let watched = publishing && !self.dry_run;
        let event = app
            .store
            .write(move |txn| {
                let event = audit::append(txn, event)?;
                if watched {
                    revocation::watch(txn, &event)?;
                }
                Ok(event)
            })
            .await?;
        let registry_url = app.registry_url(&self.decision.repository.name);
        let token = Some(token).filter(|_| !self.dry_run);
        Ok(NpmTokenResponse {
            npmrc: token.as_deref().map(|token| npmrc(self.package_name, &registry_url, token)),
            token: token.map(RegistryToken::new),
            token_type: "Bearer".to_owned(),
            expires_at,
            expires_in: claims.exp - claims.iat,
            registry_url,
            scope: claims.package_scope,
            allowed_actions: claims.allowed_actions,
            entitlement_snapshot_id: claims.entitlement_snapshot_id,
            artifact_policy: claims.artifact_policy,
            policy_id: self.decision.policy_id.clone(),
            rules: self.decision.rules.clone(),
            decision_id: event.decision_id,
            audit_event_id: event.id,
        })
    }

    /// Signs the token and returns it with its claims. It is good for nothing before its audit event is written.
    pub(super) fn sign(&self, app: &App) -> Answer<(String, RegistryClaims)> {
        let limits = &app.config.limits;
        let publishing = self.actions.contains(&Action::Publish);
        let iat = numeric_date(whole_seconds(app.now()));
        let human = self.session.kind == ActorKind::Human;
        let claims = RegistryClaims {
            iss: app.issuer(),
            aud: app.registry_url(&self.decision.repository.name).audience(),
            sub: self.session.identity.subject.clone(),
            iat,
            nbf: iat,
            exp: iat + if publishing { limits.publish_seconds } else { limits.install_seconds },
            jti: ulid::Ulid::generate().to_string(),
            tenant_id: self.session.tenant_id.clone(),
            project_slug: self.decision.package.project.clone(),
            package_name: self.package_name.clone(),
            package_scope: self.package_name.scope(),
            allowed_actions: self.actions.to_vec(),
            entitlement_snapshot_id: self.decision.snapshot.clone(),
            artifact_policy: self.decision.package.artifact_policy.clone(),
            version: self.version.cloned(),
            integrity: self.integrity,
            publisher: (!human).then(|| Publisher::from(&self.session.identity)),
        };
        Ok((app.sign(NPM_TOKEN_TYPE, &claims)?, claims))
    }
}

/// Renders the configuration with which stock npm uses the token for this package's scope.
fn npmrc(package: &PackageName, registry_url: &ServiceUrl, token: &str) -> RegistryToken {
    let key = match package.scope() {
        scope if scope.is_empty() => "registry".to_owned(),
        scope => format!("{}:registry", scope.as_str()),
    };
    // npm looks a token up by the URL without its scheme, and only when that ends with `/`.
    let place = registry_url.as_url().as_str().split_once(':').map_or("", |(_, rest)| rest);
    RegistryToken::new(format!("{key}={registry_url}\n{place}:_authToken={token}\n"))
}

#[cfg(test)]
mod tests {
    use protected_model::secret::Secret as _;

    use super::*;

    #[test]
    fn an_npmrc_names_scope_and_place() {
        let url: ServiceUrl = "https://npm.example:8443/repository/npm-hosted".parse().expect("url");
        let scoped = npmrc(&"@acme/core".parse().expect("name"), &url, "TOKEN");
        assert_eq!(
            scoped.reveal(),
            "@acme:registry=https://npm.example:8443/repository/npm-hosted/\n\
             //npm.example:8443/repository/npm-hosted/:_authToken=TOKEN\n"
        );
        let plain = npmrc(&"core".parse().expect("name"), &url, "TOKEN");
        assert!(plain.reveal().starts_with("registry=https://npm.example:8443/"));
    }
}
