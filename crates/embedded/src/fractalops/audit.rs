//! `GET /v1/audit/events`: the audit trail, oldest first.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::HeaderMap,
};
use protected_model::{
    api::{
        audit::{AuditPage, PATH},
        problem::Code,
    },
    name::{ProjectSlug, TenantId},
};
use serde::Deserialize;

use super::{decide, page_size, wrong_query};
use crate::{
    app::App,
    audit::{self, Filter, NewEvent, PAGE},
    auth::{self, Caller},
    endpoint::{Credential, Endpoint},
    problem::{Answer, Refusal},
    request::RequestInfo,
    store::StoreError,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    tenant_id: Option<TenantId>,
    project_slug: Option<ProjectSlug>,
    cursor: Option<String>,
    limit: Option<usize>,
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get(PATH, "List audit events, oldest first", list)
            .credential(Credential::SessionOrOperator)
            .query("tenant_id", "Only this tenant's; for the operator")
            .query("project_slug", "Only this project's")
            .query("cursor", "`next_cursor` of the page before")
            .query("limit", "The most events, up to 1000")
            .answers::<AuditPage>(200, "A page of events"),
    ]
}

async fn list(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer<Json<AuditPage>> {
    let mut event = NewEvent::new("audit.read", &request, app.now());
    listed(&app, &headers, wanted, &mut event).await.map(Json).map_err(|refusal| refusal.about(event))
}

async fn listed(
    app: &App,
    headers: &HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
    event: &mut NewEvent,
) -> Answer<AuditPage> {
    let caller = auth::session_or_operator(app, headers).await?;
    caller.sign(event);
    let Query(wanted) = wanted.map_err(wrong_query)?;
    let filter = filter(app, &caller, wanted.tenant_id, wanted.project_slug)?;
    let cursor = match &wanted.cursor {
        None => 0,
        Some(text) => text.parse().map_err(|_| {
            Refusal::new(Code::INVALID_REQUEST, "expected `cursor` as it was in `next_cursor`")
        })?,
    };
    let limit = page_size(wanted.limit, PAGE);
    let store = app.store.clone();
    let page = tokio::task::spawn_blocking(move || audit::page(&store.read()?, &filter, cursor, limit));
    Ok(page.await.unwrap_or(Err(StoreError::GivenUp))?)
}

/// Returns what a caller may see: the operator everything, a session its tenant's projects that it has a part in.
pub(super) fn filter(
    app: &App,
    caller: &Caller,
    tenant: Option<TenantId>,
    project: Option<ProjectSlug>,
) -> Answer<Filter> {
    match caller {
        Caller::Operator => Ok(Filter { tenant, projects: project.map(|project| [project].into()) }),
        Caller::Session(claims) => {
            let mut projects = decide::projects(app, claims);
            if let Some(project) = project {
                if !projects.contains(&project) {
                    return Err(decide::not_entitled(&project));
                }
                projects = [project].into();
            }
            if tenant.is_some_and(|tenant| tenant != claims.tenant_id) {
                return Err(Refusal::new(Code::PROJECT_NOT_ENTITLED, "the session is of another tenant"));
            }
            Ok(Filter { tenant: Some(claims.tenant_id.clone()), projects: Some(projects) })
        }
    }
}
