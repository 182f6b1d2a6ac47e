//! `GET /v1/evidence`: documents on record, each stored once by its digest and never changed.
//!
//! A document is on record once for a version: who sends it again is given its first record. What a caller may look
//! for is indexed; [`super::retention`] says how long it stays.

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
        evidence::{
            EvidenceManifest, EvidencePage, EvidenceRecord, MANIFEST_PATH, MANIFEST_TYPE, PATH, Subject,
        },
        problem::Code,
    },
    claims::Publisher,
    digest::Sha256,
    integrity::canonical,
    name::{PackageName, ProjectSlug, TenantId},
    version::PackageVersion,
};
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{audit::filter, page_size, wrong_query};
use crate::{
    app::App,
    audit::{Filter, NewEvent, opened},
    auth,
    endpoint::{Credential, Endpoint},
    problem::{Answer, Refusal},
    request::RequestInfo,
    store::{Blobs, Store, StoreError},
};

/// Every record by its id, which is a ULID: in the order of time.
const RECORDS: TableDefinition<&str, &[u8]> = TableDefinition::new("evidence");
/// The ids of a tenant's records by what they may be looked for: tenant, [`Facet`], value, id.
const INDEX: TableDefinition<(&str, &str, &str, &str), ()> = TableDefinition::new("evidence_index");
/// The record of a document: tenant, `<package>@<version>`, `<type> <sha256>`. One, for good.
const BY_DOCUMENT: TableDefinition<(&str, &str, &str), &str> = TableDefinition::new("evidence_by_document");
/// The denied action in the audit trail.
const READ: &str = "evidence.read";
/// The most records of one page.
const PAGE: usize = 200;
/// The most records that are looked at for one page. Attack: a filter that matches nothing, against a million records.
const LOOKED_AT: usize = 5000;
/// The most records of one version. Attack: a publisher that fills the disk.
pub(crate) const PER_VERSION: usize = 1000;

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

/// Whose a document is, what it is about and where it came from.
pub(crate) struct About<'a> {
    pub(crate) tenant_id: &'a TenantId,
    pub(crate) project_slug: &'a ProjectSlug,
    pub(crate) package_name: &'a PackageName,
    pub(crate) version: &'a PackageVersion,
    pub(crate) subject: &'a Subject,
    pub(crate) build_id: Option<&'a str>,
    /// The `jti` of the token that it came with.
    pub(crate) token_jti: Option<&'a str>,
    pub(crate) publisher: Option<&'a Publisher>,
    pub(crate) audit_event_id: &'a str,
    pub(crate) producer: &'a str,
    pub(crate) created_at: jiff::Timestamp,
    /// The URL below which records are served.
    pub(crate) base_url: &'a str,
}

/// By what records can be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Facet {
    /// Everything of the tenant.
    Tenant,
    Project,
    Package,
    Version,
    Type,
    Build,
    Run,
    Commit,
    Sha256,
}

impl Facet {
    fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Project => "project",
            Self::Package => "package",
            Self::Version => "version",
            Self::Type => "type",
            Self::Build => "build",
            Self::Run => "run",
            Self::Commit => "commit",
            Self::Sha256 => "sha256",
        }
    }
}

impl Owned {
    /// Returns everything by which this record can be looked for.
    fn facets(&self) -> Vec<(Facet, String)> {
        let record = &self.record;
        let publisher = record.publisher.as_ref();
        let always = [
            (Facet::Tenant, String::new()),
            (Facet::Project, self.project_slug.to_string()),
            (Facet::Package, self.package_name.to_string()),
            (Facet::Version, coordinate(&self.package_name, &self.version)),
            (Facet::Type, record.kind.clone()),
            (Facet::Sha256, record.sha256.to_string()),
        ];
        let known = [
            (Facet::Build, record.build_id.clone()),
            (Facet::Run, publisher.and_then(|publisher| publisher.run_id.clone())),
            (Facet::Commit, publisher.and_then(|publisher| publisher.sha.clone())),
        ];
        let known = known.into_iter().filter_map(|(facet, value)| Some((facet, value?)));
        always.into_iter().chain(known).collect()
    }

    fn document(&self) -> String {
        document(&self.record.kind, &self.record.sha256)
    }
}

fn coordinate(package: &PackageName, version: &PackageVersion) -> String {
    format!("{package}@{version}")
}

fn document(kind: &str, sha256: &Sha256) -> String {
    format!("{kind} {sha256}")
}

/// Returns what a record is called where its blob's references are counted.
fn reference(id: &str) -> String {
    format!("evidence {id}")
}

/// Adds a record within `txn`, or returns the one that the same document of the same version has already.
pub(crate) fn add(
    txn: &WriteTransaction,
    new: NewDocument,
    about: &About<'_>,
) -> Result<EvidenceRecord, StoreError> {
    let id = ulid::Ulid::generate().to_string();
    let owned = Owned {
        tenant_id: about.tenant_id.clone(),
        project_slug: about.project_slug.clone(),
        package_name: about.package_name.clone(),
        version: about.version.clone(),
        record: EvidenceRecord {
            url: format!("{}/{id}/content", about.base_url),
            id,
            kind: new.kind,
            subject: about.subject.clone(),
            media_type: new.media_type,
            sha256: new.sha256,
            size: new.size,
            created_at: about.created_at,
            audit_event_id: about.audit_event_id.to_owned(),
            producer: about.producer.to_owned(),
            build_id: about.build_id.map(str::to_owned),
            token_id: about.token_jti.map(Sha256::of),
            publisher: about.publisher.cloned(),
        },
    };
    if let Some(there) = on_record(txn, &owned)? {
        return Ok(there);
    }
    Blobs::refer(txn, &owned.record.sha256, owned.record.size, &reference(&owned.record.id))?;
    put(txn, &owned)?;
    index(txn, &owned)?;
    Ok(owned.record)
}

/// Returns the record that the document of `owned` has already.
fn on_record(txn: &WriteTransaction, owned: &Owned) -> Result<Option<EvidenceRecord>, StoreError> {
    of_document(txn, &owned.tenant_id, &owned.package_name, &owned.version, &owned.document())
}

fn of_document(
    txn: &WriteTransaction,
    tenant: &TenantId,
    package: &PackageName,
    version: &PackageVersion,
    document: &str,
) -> Result<Option<EvidenceRecord>, StoreError> {
    let by_document = txn.open_table(BY_DOCUMENT)?;
    let of = coordinate(package, version);
    let Some(id) = by_document.get((tenant.as_str(), of.as_str(), document))? else { return Ok(None) };
    let records = txn.open_table(RECORDS)?;
    let Some(json) = records.get(id.value())? else {
        return Err(StoreError::Corrupt(format!("no evidence {}", id.value())));
    };
    Ok(Some(parse(id.value(), json.value())?.record))
}

/// Returns the records that a version's documents of these types and digests have already, each in its place.
pub(crate) fn known(
    txn: &WriteTransaction,
    tenant: &TenantId,
    package: &PackageName,
    version: &PackageVersion,
    documents: &[NewDocument],
) -> Result<Vec<Option<EvidenceRecord>>, StoreError> {
    let of = |it: &NewDocument| of_document(txn, tenant, package, version, &document(&it.kind, &it.sha256));
    documents.iter().map(of).collect()
}

fn put(txn: &WriteTransaction, owned: &Owned) -> Result<(), StoreError> {
    let json = serde_json::to_vec(owned).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    txn.open_table(RECORDS)?.insert(owned.record.id.as_str(), json.as_slice())?;
    Ok(())
}

fn index(txn: &WriteTransaction, owned: &Owned) -> Result<(), StoreError> {
    let (tenant, id) = (owned.tenant_id.as_str(), owned.record.id.as_str());
    let mut index = txn.open_table(INDEX)?;
    for (facet, value) in owned.facets() {
        index.insert((tenant, facet.name(), value.as_str(), id), ())?;
    }
    let (of, document) = (coordinate(&owned.package_name, &owned.version), owned.document());
    let mut by_document = txn.open_table(BY_DOCUMENT)?;
    let key = (tenant, of.as_str(), document.as_str());
    // Of a release that kept a document twice, the first stays the one.
    if by_document.get(key)?.is_none() {
        by_document.insert(key, id)?;
    }
    Ok(())
}

/// Indexes the records of a release that had no index.
pub(crate) async fn index_older(store: &Store) -> Result<(), StoreError> {
    if opened(store.read()?.open_table(INDEX))?.is_some() {
        return Ok(());
    }
    let indexed = store.write(|txn| {
        txn.open_table(INDEX)?;
        let records = txn.open_table(RECORDS)?;
        let mut count = 0_u64;
        for row in records.iter()? {
            let (id, json) = row?;
            index(txn, &parse(id.value(), json.value())?)?;
            count += 1;
        }
        Ok(count)
    });
    let indexed = indexed.await?;
    if indexed > 0 {
        tracing::info!(indexed, "indexed the evidence of an older release");
    }
    Ok(())
}

/// The records from `after` on, at most `limit`, oldest first.
pub(super) fn oldest(txn: &ReadTransaction, after: &str, limit: usize) -> Result<Vec<Owned>, StoreError> {
    let Some(records) = opened(txn.open_table(RECORDS))? else { return Ok(Vec::new()) };
    let from = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
    let mut found = Vec::new();
    for row in records.range::<&str>(from)?.take(limit) {
        let (id, json) = row?;
        found.push(parse(id.value(), json.value())?);
    }
    Ok(found)
}

/// Removes a record within `txn`, and returns its blob when nothing refers to that any more.
pub(super) fn remove(txn: &WriteTransaction, owned: &Owned) -> Result<Option<Sha256>, StoreError> {
    let (tenant, id) = (owned.tenant_id.as_str(), owned.record.id.as_str());
    if txn.open_table(RECORDS)?.remove(id)?.is_none() {
        return Ok(None);
    }
    let mut index = txn.open_table(INDEX)?;
    for (facet, value) in owned.facets() {
        index.remove((tenant, facet.name(), value.as_str(), id))?;
    }
    let of = coordinate(&owned.package_name, &owned.version);
    txn.open_table(BY_DOCUMENT)?.remove((tenant, of.as_str(), &*owned.document()))?;
    let free = Blobs::release(txn, &owned.record.sha256, &reference(id))?;
    Ok(free.then_some(owned.record.sha256))
}

/// Returns whether a version has a document of this type.
pub(super) fn has(txn: &WriteTransaction, owned: &Owned, kind: &str) -> Result<bool, StoreError> {
    let by_document = txn.open_table(BY_DOCUMENT)?;
    let of = coordinate(&owned.package_name, &owned.version);
    let tenant = owned.tenant_id.as_str();
    let (from, to) = (format!("{kind} "), format!("{kind} {LAST}"));
    let mut found =
        by_document.range((tenant, of.as_str(), from.as_str())..=(tenant, of.as_str(), to.as_str()))?;
    Ok(found.next().transpose()?.is_some())
}

/// Counts a version's records, up to [`PER_VERSION`].
pub(crate) fn count(
    txn: &WriteTransaction,
    tenant: &TenantId,
    package: &PackageName,
    version: &PackageVersion,
) -> Result<usize, StoreError> {
    let index = txn.open_table(INDEX)?;
    let of = coordinate(package, version);
    let ids = ids(&index, tenant, Facet::Version, &of, LAST)?;
    let mut count = 0;
    for id in ids.take(PER_VERSION) {
        id?;
        count += 1;
    }
    Ok(count)
}

/// After every id: `~` sorts after every character of a ULID.
const LAST: &str = "~";

type Ids<'t> = Box<dyn Iterator<Item = Result<String, StoreError>> + 't>;

/// Returns the ids of what is found under a value, up to `last`, the latest first.
fn ids<'t>(
    index: &'t impl ReadableTable<(&'static str, &'static str, &'static str, &'static str), ()>,
    tenant: &TenantId,
    facet: Facet,
    value: &str,
    last: &str,
) -> Result<Ids<'t>, StoreError> {
    let of = |id| (tenant.as_str(), facet.name(), value, id);
    let range = index.range(of("")..=of(last))?;
    Ok(Box::new(range.rev().map(|row| Ok(row?.0.value().3.to_owned()))))
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    tenant_id: Option<TenantId>,
    project_slug: Option<ProjectSlug>,
    package_name: Option<PackageName>,
    version: Option<PackageVersion>,
    #[serde(rename = "type")]
    kind: Option<String>,
    build_id: Option<String>,
    run_id: Option<String>,
    commit: Option<String>,
    sha256: Option<Sha256>,
    cursor: Option<String>,
    limit: Option<usize>,
}

impl Wanted {
    /// Returns what narrows the search most, of what is given.
    fn narrowest(&self) -> Option<(Facet, String)> {
        let given = |facet, value: &Option<String>| value.clone().map(|value| (facet, value));
        given(Facet::Sha256, &self.sha256.map(|it| it.to_string()))
            .or_else(|| given(Facet::Build, &self.build_id))
            .or_else(|| given(Facet::Run, &self.run_id))
            .or_else(|| given(Facet::Commit, &self.commit))
            .or_else(|| match (&self.package_name, &self.version) {
                (Some(package), Some(version)) => Some((Facet::Version, coordinate(package, version))),
                (Some(package), None) => Some((Facet::Package, package.to_string())),
                (None, _) => None,
            })
    }

    fn is_met_by(&self, owned: &Owned) -> bool {
        fn same<T: PartialEq>(wanted: &Option<T>, actual: Option<&T>) -> bool {
            wanted.as_ref().is_none_or(|wanted| Some(wanted) == actual)
        }
        let record = &owned.record;
        let publisher = record.publisher.as_ref();
        same(&self.package_name, Some(&owned.package_name))
            && same(&self.version, Some(&owned.version))
            && same(&self.kind, Some(&record.kind))
            && same(&self.build_id, record.build_id.as_ref())
            && same(&self.run_id, publisher.and_then(|publisher| publisher.run_id.as_ref()))
            && same(&self.commit, publisher.and_then(|publisher| publisher.sha.as_ref()))
            && same(&self.sha256, Some(&record.sha256))
    }
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get(PATH, "List evidence records, newest first", list)
            .credential(Credential::SessionOrOperator)
            .query("tenant_id", "Only this tenant's; for the operator")
            .query("project_slug", "Only this project's")
            .query("package_name", "Only this package's")
            .query("version", "Only this version's")
            .query("type", "Only documents of this type")
            .query("build_id", "Only this build's")
            .query("run_id", "Only this run's")
            .query("commit", "Only this commit's")
            .query("sha256", "Only the document of this digest")
            .query("cursor", "`next_cursor` of the page before")
            .query("limit", "The most records, up to 200")
            .answers::<EvidencePage>(200, "A page of records; a short one need not be the last"),
        Endpoint::get(MANIFEST_PATH, "Get the manifest of a version's evidence, as canonical JSON", manifest)
            .credential(Credential::SessionOrOperator)
            .query("tenant_id", "The tenant; for the operator")
            .query("package_name", "The package")
            .query("version", "The version")
            .answers::<EvidenceManifest>(200, "The manifest; its digest is the entity tag"),
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
    let index = opened(txn.open_table(INDEX))?;
    let limit = page_size(wanted.limit, PAGE);
    let last = wanted.cursor.as_deref().unwrap_or(LAST);
    let found: Ids<'_> = match (&filter.tenant, &index) {
        // The operator, who sees all tenants' unless one is named.
        (None, _) | (_, None) => {
            Box::new(records.range::<&str>(..=last)?.rev().map(|row| Ok(row?.0.value().to_owned())))
        }
        (Some(tenant), Some(index)) => {
            let places = match (wanted.narrowest(), &filter.projects, &wanted.kind) {
                (Some(place), _, _) => vec![place],
                (None, Some(projects), _) => {
                    projects.iter().map(|project| (Facet::Project, project.to_string())).collect()
                }
                (None, None, Some(kind)) => vec![(Facet::Type, kind.clone())],
                (None, None, None) => vec![(Facet::Tenant, String::new())],
            };
            let lists = places.iter().map(|(facet, value)| ids(index, tenant, *facet, value, last));
            merged(lists.collect::<Result<Vec<_>, StoreError>>()?)
        }
    };
    for (looked_at, id) in found.enumerate() {
        let id = id?;
        if page.items.len() == limit || looked_at == LOOKED_AT {
            page.next_cursor = Some(id);
            break;
        }
        let Some(json) = records.get(id.as_str())? else {
            return Err(StoreError::Corrupt(format!("no evidence {id}")));
        };
        let owned = parse(&id, json.value())?;
        if shows(filter, &owned) && wanted.is_met_by(&owned) {
            page.items.push(owned.record);
        }
    }
    Ok(page)
}

/// Merges lists of ids that are in descending order.
fn merged(lists: Vec<Ids<'_>>) -> Ids<'_> {
    let mut lists: Vec<_> = lists.into_iter().map(Iterator::peekable).collect();
    Box::new(std::iter::from_fn(move || {
        let key = |list: &mut std::iter::Peekable<Ids<'_>>| match list.peek() {
            None => None,
            // A failure comes first.
            Some(Err(_)) => Some(LAST.to_owned()),
            Some(Ok(id)) => Some(id.clone()),
        };
        let (_, next) =
            lists.iter_mut().filter_map(|list| Some((key(list)?, list))).max_by(|a, b| a.0.cmp(&b.0))?;
        next.next()
    }))
}

/// What a manifest is asked for with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedManifest {
    tenant_id: Option<TenantId>,
    package_name: PackageName,
    version: PackageVersion,
}

async fn manifest(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    headers: HeaderMap,
    wanted: Result<Query<WantedManifest>, QueryRejection>,
) -> Answer {
    let mut event = NewEvent::new(READ, &request, app.now());
    let found = async {
        let caller = auth::session_or_operator(&app, &headers).await?;
        caller.sign(&mut event);
        let Query(wanted) = wanted.map_err(wrong_query)?;
        let filter = filter(&app, &caller, wanted.tenant_id, None)?;
        let Some(tenant) = filter.tenant.clone() else {
            return Err(Refusal::new(
                Code::INVALID_REQUEST,
                "expected `tenant_id`, as the operator is of none",
            ));
        };
        let store = app.store.clone();
        let listed = tokio::task::spawn_blocking(move || {
            let records =
                of_version(&store.read()?, &filter, &tenant, &wanted.package_name, &wanted.version)?;
            Ok(EvidenceManifest::new(tenant, wanted.package_name, wanted.version, records))
        });
        let manifest: EvidenceManifest = listed.await.unwrap_or(Err(StoreError::GivenUp))?;
        if manifest.documents.is_empty() {
            return Err(Refusal::new(Code::NOT_FOUND, "there is no evidence about this version"));
        }
        let body = canonical(&manifest);
        let etag = HeaderValue::from_str(&format!("\"{}\"", Sha256::of(&body)));
        let mut response = Body::from(body).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MANIFEST_TYPE));
        // Digits and letters in quotes are always a header value.
        response.headers_mut().insert(header::ETAG, etag.unwrap_or(HeaderValue::from_static("\"\"")));
        Ok(response)
    };
    match found.await {
        Ok(response) => Ok(response),
        Err(refusal) => Err(refusal.about(event)),
    }
}

/// Returns a version's records that `filter` shows.
fn of_version(
    txn: &ReadTransaction,
    filter: &Filter,
    tenant: &TenantId,
    package: &PackageName,
    version: &PackageVersion,
) -> Result<Vec<EvidenceRecord>, StoreError> {
    let Some(records) = opened(txn.open_table(RECORDS))? else { return Ok(Vec::new()) };
    let Some(index) = opened(txn.open_table(INDEX))? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for id in ids(&index, tenant, Facet::Version, &coordinate(package, version), LAST)? {
        let id = id?;
        let Some(json) = records.get(id.as_str())? else {
            return Err(StoreError::Corrupt(format!("no evidence {id}")));
        };
        let owned = parse(&id, json.value())?;
        if shows(filter, &owned) {
            found.push(owned.record);
        }
    }
    Ok(found)
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
        assert!(ulid::Ulid::from(u128::MAX).to_string().as_str() < super::LAST);
    }
}
