//! `GET /v1/evidence`: documents on record, each stored once by its digest and never changed.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, header},
    response::IntoResponse,
};
use protected_model::{
    api::{
        evidence::{EvidencePage, EvidenceRecord, PATH, Subject},
        problem::Code,
    },
    digest::Sha256,
    name::{PackageName, ProjectSlug, TenantId},
    version::PackageVersion,
};
use redb::{ReadTransaction, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{audit::filter, page_size, wrong_query};
use crate::{
    app::App,
    audit::{Filter, NewEvent, opened},
    auth,
    endpoint::{Credential, Endpoint},
    problem::{Answer, Refusal},
    request::RequestInfo,
    store::{Blobs, StoreError},
};

/// Every record by its id, which is a ULID: in the order of time.
const RECORDS: TableDefinition<&str, &[u8]> = TableDefinition::new("evidence");
/// The denied action in the audit trail.
const READ: &str = "evidence.read";
/// The most records of one page.
const PAGE: usize = 200;

/// A record with whose it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Owned {
    pub(crate) tenant_id: TenantId,
    pub(crate) project_slug: ProjectSlug,
    pub(crate) package_name: PackageName,
    pub(crate) version: PackageVersion,
    pub(crate) record: EvidenceRecord,
}

/// A document whose bytes are already among the blobs.
pub(crate) struct NewDocument {
    pub(crate) kind: String,
    pub(crate) media_type: String,
    pub(crate) sha256: Sha256,
    pub(crate) size: u64,
}

/// Whose a document is and what it is about.
pub(crate) struct About<'a> {
    pub(crate) tenant_id: &'a TenantId,
    pub(crate) project_slug: &'a ProjectSlug,
    pub(crate) package_name: &'a PackageName,
    pub(crate) version: &'a PackageVersion,
    pub(crate) subject: &'a Subject,
    pub(crate) audit_event_id: &'a str,
    pub(crate) producer: &'a str,
    pub(crate) created_at: jiff::Timestamp,
    /// The URL below which records are served.
    pub(crate) base_url: &'a str,
}

/// Adds a record within `txn`.
pub(crate) fn add(
    txn: &WriteTransaction,
    document: NewDocument,
    about: &About<'_>,
) -> Result<EvidenceRecord, StoreError> {
    Blobs::refer(txn, &document.sha256, document.size)?;
    let id = ulid::Ulid::generate().to_string();
    let record = EvidenceRecord {
        url: format!("{}/{id}/content", about.base_url),
        id,
        kind: document.kind,
        subject: about.subject.clone(),
        media_type: document.media_type,
        sha256: document.sha256,
        size: document.size,
        created_at: about.created_at,
        audit_event_id: about.audit_event_id.to_owned(),
        producer: about.producer.to_owned(),
    };
    let owned = Owned {
        tenant_id: about.tenant_id.clone(),
        project_slug: about.project_slug.clone(),
        package_name: about.package_name.clone(),
        version: about.version.clone(),
        record: record.clone(),
    };
    let json = serde_json::to_vec(&owned).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    txn.open_table(RECORDS)?.insert(record.id.as_str(), json.as_slice())?;
    Ok(record)
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    tenant_id: Option<TenantId>,
    project_slug: Option<ProjectSlug>,
    package_name: Option<PackageName>,
    version: Option<PackageVersion>,
    cursor: Option<String>,
    limit: Option<usize>,
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get(PATH, "List evidence records, newest first", list)
            .credential(Credential::SessionOrOperator)
            .query("tenant_id", "Only this tenant's; for the operator")
            .query("project_slug", "Only this project's")
            .query("package_name", "Only this package's")
            .query("version", "Only this version's")
            .query("cursor", "`next_cursor` of the page before")
            .query("limit", "The most records, up to 200")
            .answers::<EvidencePage>(200, "A page of records"),
        Endpoint::get(&format!("{PATH}/{{id}}"), "Get an evidence record", one)
            .credential(Credential::SessionOrOperator)
            .answers::<EvidenceRecord>(200, "The record"),
        Endpoint::get(&format!("{PATH}/{{id}}/content"), "Get the document of a record", content)
            .credential(Credential::SessionOrOperator)
            .answers_with(200, "The document, byte for byte", Some("*/*")),
    ]
}

async fn list(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer<Json<EvidencePage>> {
    let mut event = NewEvent::new(READ, &request, app.now());
    listed(&app, &headers, wanted, &mut event).await.map(Json).map_err(|refusal| refusal.about(event))
}

async fn listed(
    app: &App,
    headers: &HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
    event: &mut NewEvent,
) -> Answer<EvidencePage> {
    let caller = auth::session_or_operator(app, headers).await?;
    caller.sign(event);
    let Query(wanted) = wanted.map_err(wrong_query)?;
    let filter = filter(app, &caller, wanted.tenant_id.clone(), wanted.project_slug.clone())?;
    let store = app.store.clone();
    let page = tokio::task::spawn_blocking(move || page(&store.read()?, &filter, &wanted));
    Ok(page.await.unwrap_or(Err(StoreError::GivenUp))?)
}

fn page(txn: &ReadTransaction, filter: &Filter, wanted: &Wanted) -> Result<EvidencePage, StoreError> {
    let mut page = EvidencePage { items: Vec::new(), next_cursor: None };
    let Some(records) = opened(txn.open_table(RECORDS))? else { return Ok(page) };
    let limit = page_size(wanted.limit, PAGE);
    // `~` sorts after every character of a ULID.
    let last = wanted.cursor.as_deref().unwrap_or("~");
    for row in records.range::<&str>(..=last)?.rev() {
        let (id, json) = row?;
        let owned = parse(id.value(), json.value())?;
        let shown = shows(filter, &owned)
            && wanted.package_name.as_ref().is_none_or(|name| *name == owned.package_name)
            && wanted.version.as_ref().is_none_or(|version| *version == owned.version);
        if !shown {
            continue;
        }
        if page.items.len() == limit {
            page.next_cursor = Some(owned.record.id);
            break;
        }
        page.items.push(owned.record);
    }
    Ok(page)
}

async fn one(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<EvidenceRecord>> {
    find(&app, &request, &headers, &id).await.map(Json)
}

async fn content(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let record = find(&app, &request, &headers, &id).await?;
    let blobs = app.store.blobs().clone();
    let bytes = tokio::task::spawn_blocking(move || blobs.get(&record.sha256)).await;
    let bytes = bytes.unwrap_or(Err(StoreError::GivenUp))?;
    let mut response = Body::from(bytes).into_response();
    let media_type = HeaderValue::from_str(&record.media_type)
        .unwrap_or(HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    // A document is somebody's upload: a browser must neither run it nor show it as a page of this site.
    response.headers_mut().insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    Ok(response)
}

/// Returns a record that the caller may see; another's is not found, like one that does not exist.
async fn find(app: &App, request: &RequestInfo, headers: &HeaderMap, id: &str) -> Answer<EvidenceRecord> {
    let mut event = NewEvent::new(READ, request, app.now());
    let found = async {
        let caller = auth::session_or_operator(app, headers).await?;
        caller.sign(&mut event);
        let filter = filter(app, &caller, None, None)?;
        let owned = read(&app.store.read()?, id)?.filter(|owned| shows(&filter, owned));
        let not_found = || Refusal::new(Code::NOT_FOUND, "there is no such evidence record");
        owned.map(|owned| owned.record).ok_or_else(not_found)
    };
    match found.await {
        Ok(record) => Ok(record),
        Err(refusal) => Err(refusal.about(event)),
    }
}

fn shows(filter: &Filter, owned: &Owned) -> bool {
    filter.tenant.as_ref().is_none_or(|tenant| *tenant == owned.tenant_id)
        && filter.projects.as_ref().is_none_or(|projects| projects.contains(&owned.project_slug))
}

fn read(txn: &ReadTransaction, id: &str) -> Result<Option<Owned>, StoreError> {
    let Some(records) = opened(txn.open_table(RECORDS))? else { return Ok(None) };
    records.get(id)?.map(|json| parse(id, json.value())).transpose()
}

fn parse(id: &str, json: &[u8]) -> Result<Owned, StoreError> {
    serde_json::from_slice(json).map_err(|error| StoreError::Corrupt(format!("evidence {id}: {error}")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_last_key_is_after_every_id() {
        assert!(ulid::Ulid::from(u128::MAX).to_string().as_str() < "~");
    }
}
