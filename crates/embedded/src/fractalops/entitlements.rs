//! `GET /v1/packages/entitlements`: what the caller may do in a project, and why not.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::HeaderMap,
};
use protected_model::{
    action::Action,
    api::{
        entitlement::{ActionEntitlement, ActionEntitlements, Entitlements, PATH, PackageEntitlement},
        problem::Code,
    },
    name::{PackageName, ProjectSlug},
};
use serde::Deserialize;

use super::{
    decide::{self, Question},
    wrong_query,
};
use crate::{
    app::App,
    audit::NewEvent,
    auth,
    config::Package,
    endpoint::{Credential, Endpoint},
    problem::{Answer, Refusal},
    request::RequestInfo,
    session::Session,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    project_slug: ProjectSlug,
    package_name: Option<PackageName>,
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get(PATH, "Say what the caller may do in a project", entitlements)
            .credential(Credential::Session)
            .query("project_slug", "The project")
            .query("package_name", "Only this package")
            .answers::<Entitlements>(200, "Each package with each action"),
    ]
}

async fn entitlements(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer<Json<Entitlements>> {
    let mut event = NewEvent::new("entitlements.read", &request, app.now());
    entitled(&app, &headers, wanted, &mut event).await.map(Json).map_err(|refusal| refusal.about(event))
}

async fn entitled(
    app: &App,
    headers: &HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
    event: &mut NewEvent,
) -> Answer<Entitlements> {
    let session = auth::session(app, headers).await?;
    event.by_session(&session);
    let Query(wanted) = wanted.map_err(wrong_query)?;
    if !decide::projects(app, &session).contains(&wanted.project_slug) {
        return Err(decide::not_entitled(&wanted.project_slug));
    }
    let packages: Vec<_> = app
        .config
        .packages_of(&session.tenant_id, &wanted.project_slug)
        .filter(|package| wanted.package_name.as_ref().is_none_or(|name| *name == package.name))
        .map(|package| PackageEntitlement {
            name: package.name.clone(),
            status: package.status,
            actions: ActionEntitlements {
                install: entitlement(app, &session, package, Action::Install),
                publish: entitlement(app, &session, package, Action::Publish),
            },
        })
        .collect();
    if let Some(name) = wanted.package_name.filter(|_| packages.is_empty()) {
        let message = format!("project `{}` has no package {name}", wanted.project_slug);
        return Err(Refusal::new(Code::PACKAGE_NOT_IN_PROJECT, message));
    }
    let snapshot_id = app.config.snapshot(&session.tenant_id, &wanted.project_slug);
    Ok(Entitlements { snapshot_id, project_slug: wanted.project_slug, packages })
}

fn entitlement(app: &App, session: &Session, package: &Package, action: Action) -> ActionEntitlement {
    let question = Question {
        tenant_id: None,
        project_slug: &package.project,
        package_name: &package.name,
        actions: &[action],
        expected_snapshot: None,
    };
    match decide::decide(app, session, &question) {
        Ok(_) => ActionEntitlement { allowed: true, code: None, reason: None },
        Err(refusal) => ActionEntitlement {
            allowed: false,
            code: Some(refusal.code().clone()),
            reason: Some(refusal.message().to_owned()),
        },
    }
}
