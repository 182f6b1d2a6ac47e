//! `/v1/packages/delivery`: sealed deliveries on record, who may open them, and the view over both.
//!
//! The service never sees a key. It holds the manifest, and refuses one in which anything looks like a key; what a
//! key service was told is recorded as its client says it, and what holds is what the key service does.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
};
use jiff::Timestamp;
use protected_model::{
    api::{
        delivery::{
            BUNDLES_PATH, Bundle, DeliveryView, GRANTS_PATH, Grant, GrantRequest, GrantStatus, VIEW_PATH,
            Wrapping,
        },
        evidence::{EvidenceRecord, PATH as EVIDENCE_PATH, Subject},
        problem::Code,
    },
    delivery::{DeliveryError, DeliveryManifest, MANIFEST, no_key_material},
    digest::Sha256,
    integrity::canonical,
    key_ref::KeyRef,
    name::{BundleId, CustomerSlug, PackageName, ProjectSlug, TenantId},
    time::whole_seconds,
};
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{
    audit::filter,
    builds, decide,
    evidence::{About, NewDocument, add},
    page_size, posted, wrong_query,
};
use crate::{
    app::App,
    audit::{self, Filter, NewEvent, opened},
    auth,
    body::{FORM_BYTES, json},
    endpoint::{Credential, Endpoint},
    problem::{Answer, Refusal},
    request::RequestInfo,
    session::Session,
    store::StoreError,
};

/// Every delivery by tenant and id.
const BUNDLES: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("delivery_bundles");
/// The deliveries in the order of time: a ULID, and the tenant and id that it is for.
const BY_TIME: TableDefinition<&str, (&str, &str)> = TableDefinition::new("delivery_bundles_by_time");
/// Every grant by its id, which is a ULID.
const GRANTS: TableDefinition<&str, &[u8]> = TableDefinition::new("delivery_grants");
/// The grants of a delivery: tenant, delivery, and `<grantee> <key>`; of a release that knew one key the grantee alone.
/// One for each grantee and key, until it is revoked.
const BY_GRANTEE: TableDefinition<(&str, &str, &str), &str> =
    TableDefinition::new("delivery_grants_by_grantee");

/// The most deliveries of one page.
const PAGE: usize = 100;
/// A page ends before the delivery with which it would be longer than this, in bytes as they are stored: clients take
/// answers of 8 MiB, and the grants come on top.
///
/// Attack: a publisher registers manifests of ten thousand files, and one request for a page takes the whole memory.
const PAGE_BYTES: usize = 4 << 20;
/// The most grants of one delivery. Attack: a page that takes the whole memory.
const MOST_GRANTS: usize = 1_000;
/// The most wrappings of one delivery that are kept. Attack: the same.
const MOST_WRAPPINGS: usize = 1_000;
/// The type of a manifest as evidence.
const DOCUMENT: &str = "delivery-manifest";
/// The denied action of a read in the audit trail.
const READ: &str = "delivery.read";

/// A delivery as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stored {
    manifest: DeliveryManifest,
    /// Oldest first; none in a row of a release that kept them in the manifests alone.
    #[serde(default)]
    wrappings: Vec<Wrapping>,
    /// Its place in the order of time.
    at: String,
    evidence: Vec<EvidenceRecord>,
    created_at: Timestamp,
    audit_event_id: String,
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::post(BUNDLES_PATH, "Register a sealed delivery", register)
            .credential(Credential::Session)
            .repeatable()
            .takes::<DeliveryManifest>()
            .answers::<Bundle>(201, "It is on record")
            .answers::<Bundle>(
                200,
                "It was on record; a data key that was wrapped anew, with the same key or another, is the one on record now",
            ),
        Endpoint::get(&format!("{BUNDLES_PATH}/{{bundle_id}}"), "Get a delivery", one)
            .credential(Credential::SessionOrOperator)
            .answers::<Bundle>(200, "The delivery with its grants"),
        Endpoint::get(VIEW_PATH, "List deliveries, newest first", view)
            .credential(Credential::SessionOrOperator)
            .query("project_slug", "Only this project's")
            .query("customer_slug", "Only this customer's")
            .query("package_name", "Only this package's")
            .query("cursor", "`next_cursor` of the page before")
            .query("limit", "The most deliveries, up to 100")
            .answers::<DeliveryView>(200, "A page of deliveries"),
        Endpoint::post(GRANTS_PATH, "Record that somebody may open a delivery", grant)
            .credential(Credential::Session)
            .repeatable()
            .takes::<GrantRequest>()
            .answers::<Grant>(201, "It is on record")
            .answers::<Grant>(200, "The same grant was on record"),
        Endpoint::new(axum::http::Method::DELETE, &format!("{GRANTS_PATH}/{{id}}"), "Revoke a grant", revoke)
            .credential(Credential::Session)
            .answers::<Grant>(200, "It is revoked"),
    ]
}

async fn register(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    headers: HeaderMap,
    body: Body,
) -> Answer<(StatusCode, Json<Bundle>)> {
    let mut event = NewEvent::new("bundle.create", &request, app.now());
    match registered(&app, &headers, body, &mut event).await {
        Ok((status, bundle)) => Ok((status, Json(bundle))),
        Err(refusal) => Err(refusal.about(event)),
    }
}

async fn registered(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    event: &mut NewEvent,
) -> Answer<(StatusCode, Bundle)> {
    let (session, body) = posted(app, headers, body, app.config.limits.body_bytes, event).await?;
    // Before the fields are looked at: an error about one of them could repeat it.
    let raw: serde_json::Value = json(headers, &body)?;
    no_key_material(&raw).map_err(refused)?;
    let manifest: DeliveryManifest = json(headers, &body)?;
    let project = manifest.project_slug.clone();
    event.0.project_slug = Some(project.clone());
    event.0.target.package_name = Some(manifest.package_name.clone());
    event.0.target.version = Some(manifest.version.clone());
    event.0.target.bundle_id = Some(manifest.bundle_id.to_string());
    event.0.target.key_ref = Some(manifest.key_ref.clone());
    allowed(app, &session, &manifest, event)?;
    manifest.check().map_err(refused)?;
    of_its_build(app, &manifest)?;
    let document = canonical(&manifest);
    let (blobs, bytes) = (app.store.blobs().clone(), document.clone());
    let sha256 = tokio::task::spawn_blocking(move || blobs.put(&bytes)).await;
    let sha256 = sha256.unwrap_or(Err(StoreError::GivenUp))?;
    let producer = event.0.user_agent.clone().unwrap_or_else(|| "unknown".to_owned());
    let sent = manifest.clone();
    let new = NewBundle {
        manifest,
        document: NewDocument {
            kind: DOCUMENT.to_owned(),
            media_type: MANIFEST.to_owned(),
            sha256,
            size: document.len() as u64,
        },
        producer,
        session,
        base_url: app.public_url.join(EVIDENCE_PATH).to_string(),
        event: event.clone(),
    };
    let now = app.now();
    let (status, stored, grants) = app.store.write(move |txn| new.insert(txn)).await?;
    match status {
        Inserted::New => Ok((StatusCode::CREATED, shown(stored, grants, now))),
        Inserted::Same => Ok((StatusCode::OK, shown(stored, grants, now))),
        Inserted::Other if is_full(&stored) && is_rewrapped(&stored.manifest, &sent) => {
            let message = format!(
                "the delivery `{}` was wrapped anew {MOST_WRAPPINGS} times already",
                stored.manifest.bundle_id
            );
            Err(Refusal::new(Code::TOO_LARGE, message).hint("seal a new delivery"))
        }
        Inserted::Other if is_rewrapped(&stored.manifest, &sent) => {
            let message = format!(
                "the delivery `{}` was wrapped anew since, and the newer wrapping is on record",
                stored.manifest.bundle_id
            );
            Err(Refusal::new(Code::BUNDLE_CONFLICT, message)
                .hint("go on with the folder that was wrapped anew: what the former wrapping says is over"))
        }
        Inserted::Other => {
            let message = format!(
                "the delivery `{}` is on record with other content: {}@{} for {}",
                stored.manifest.bundle_id,
                stored.manifest.package_name,
                stored.manifest.version,
                stored.manifest.customer_slug
            );
            Err(Refusal::new(Code::BUNDLE_CONFLICT, message)
                .hint("a sealed delivery never changes: seal it again, which gives it another id"))
        }
    }
}

/// Whoever may publish a package may deliver it.
fn allowed(app: &App, session: &Session, manifest: &DeliveryManifest, event: &mut NewEvent) -> Answer<()> {
    let DeliveryManifest { tenant_id, project_slug, package_name, .. } = manifest;
    decide::may_publish(app, session, Some(tenant_id), project_slug, package_name, event)
}

/// Refuses a delivery of a build that is not on record, is another package's or version's, or whose artifact is not
/// delivered.
///
/// Attack: the build's documents are laid beside raw source, and FractalOps vouches for it as the hardened build.
fn of_its_build(app: &App, manifest: &DeliveryManifest) -> Answer<()> {
    let DeliveryManifest { tenant_id, package_name, version, build_id, .. } = manifest;
    let Some(said) = build_id else { return Ok(()) };
    let build = builds::of_version(&app.store.read()?, tenant_id, package_name, version)?;
    let build = build.filter(|build| build.project_slug == manifest.project_slug);
    if let Some(build) = build.as_ref().filter(|build| build.id == *said) {
        let artifact = &build.artifact;
        let mut delivered = manifest.contents.iter().filter(|file| !file.path.is_evidence());
        if delivered.any(|file| file.sha256 == artifact.sha256) {
            return Ok(());
        }
        let message = format!(
            "the delivery is said to be of build {}, and has no file with the SHA-256 of its artifact `{}`: {}",
            build.id, artifact.filename, artifact.sha256
        );
        return Err(Refusal::new(Code::INVALID_DOCUMENT, message));
    }
    let said: String = said.chars().take(40).flat_map(char::escape_debug).collect();
    let has = build.map_or_else(|| "none".to_owned(), |build| build.id);
    let message =
        format!("the delivery is said to be of build {said}, and {package_name}@{version} has {has}");
    Err(Refusal::new(Code::INVALID_DOCUMENT, message))
}

/// Returns whether two manifests are of one delivery whose data key was wrapped anew, by the same key or another.
fn is_rewrapped(former: &DeliveryManifest, new: &DeliveryManifest) -> bool {
    let mut as_former = new.clone();
    as_former.key_ref.clone_from(&former.key_ref);
    as_former.key_provider.provider = former.key_provider.provider;
    as_former.key_provider.wrapped_key.clone_from(&former.key_provider.wrapped_key);
    as_former.key_provider.wrapped_key_sha256 = former.key_provider.wrapped_key_sha256;
    as_former == *former
}

fn is_full(stored: &Stored) -> bool {
    stored.wrappings.len() >= MOST_WRAPPINGS
}

fn refused(error: DeliveryError) -> Refusal {
    let message = format!("the delivery manifest is refused: {error}");
    match error {
        DeliveryError::KeyMaterial(_) => Refusal::new(Code::RAW_KEY_MATERIAL, message)
            .hint("name the key by its reference, such as openbao://<mount>/<key>; treat the key as leaked"),
        _ => Refusal::new(Code::INVALID_DOCUMENT, message),
    }
}

struct NewBundle {
    manifest: DeliveryManifest,
    document: NewDocument,
    producer: String,
    session: Session,
    base_url: String,
    event: NewEvent,
}

enum Inserted {
    New,
    Same,
    Other,
}

impl NewBundle {
    fn insert(self, txn: &WriteTransaction) -> Result<(Inserted, Stored, Vec<Grant>), StoreError> {
        let Self { manifest, document, producer, session, base_url, mut event } = self;
        let publisher = session.publisher();
        let (tenant, id) = (manifest.tenant_id.to_string(), manifest.bundle_id.to_string());
        let key = (tenant.as_str(), id.as_str());
        let mut bundles = txn.open_table(BUNDLES)?;
        let former: Option<Stored> = bundles.get(key)?.map(|json| parse(&id, json.value())).transpose()?;
        let grants = grants_of(&txn.open_table(BY_GRANTEE)?, &txn.open_table(GRANTS)?, key)?;
        let former = match former {
            Some(stored) if stored.manifest == manifest => return Ok((Inserted::Same, stored, grants)),
            Some(stored) if !is_rewrapped(&stored.manifest, &manifest) => {
                return Ok((Inserted::Other, stored, grants));
            }
            Some(stored) if is_full(&stored) || stored.had(&manifest, &document.sha256) => {
                return Ok((Inserted::Other, stored, grants));
            }
            former => former,
        };
        if let Some(former) = &former {
            event.0.action = "bundle.rewrap".to_owned();
            name_keys(txn, key, &former.manifest.key_ref)?;
        }
        let event = audit::append(txn, event)?;
        let wrapping = wrapping(&manifest, event.ts, &event.id);
        let about = About {
            tenant_id: &manifest.tenant_id,
            project_slug: &manifest.project_slug,
            package_name: &manifest.package_name,
            version: &manifest.version,
            subject: &Subject {
                purl: manifest.package_name.purl(&manifest.version),
                sha256: manifest.bundle.sha256,
                sha512: None,
            },
            build_id: manifest.build_id.as_deref(),
            token_jti: Some(&session.token_jti),
            publisher: publisher.as_ref(),
            audit_event_id: &event.id,
            producer: &producer,
            created_at: event.ts,
            base_url: &base_url,
        };
        let document = add(txn, document, &about)?;
        if let Some(mut stored) = former {
            stored.wrappings = stored.wrappings();
            stored.wrappings.push(wrapping);
            stored.manifest = manifest;
            stored.evidence.push(document);
            bundles.insert(key, written(&stored)?.as_slice())?;
            let grants = grants_of(&txn.open_table(BY_GRANTEE)?, &txn.open_table(GRANTS)?, key)?;
            return Ok((Inserted::Same, stored, grants));
        }
        let at = ulid::Ulid::generate().to_string();
        let stored = Stored {
            manifest,
            wrappings: vec![wrapping],
            at: at.clone(),
            evidence: vec![document],
            created_at: event.ts,
            audit_event_id: event.id,
        };
        bundles.insert(key, written(&stored)?.as_slice())?;
        txn.open_table(BY_TIME)?.insert(at.as_str(), key)?;
        Ok((Inserted::New, stored, Vec::new()))
    }
}

impl Stored {
    /// Returns how it was wrapped: of a row without that, how it is.
    fn wrappings(&self) -> Vec<Wrapping> {
        match self.wrappings.as_slice() {
            [] => {
                let last = self.evidence.iter().rfind(|record| record.kind == DOCUMENT);
                let (at, event) = last.map_or((self.created_at, &self.audit_event_id), |record| {
                    (record.created_at, &record.audit_event_id)
                });
                vec![wrapping(&self.manifest, at, event)]
            }
            wrappings => wrappings.to_vec(),
        }
    }

    /// Returns whether the wrapping of a manifest is or was on record, under whatever version of a key.
    ///
    /// Attack: an old job repeats itself, and the record is of the wrapping that a rotation has ended.
    fn had(&self, manifest: &DeliveryManifest, document: &Sha256) -> bool {
        let wrapped = manifest.key_provider.wrapped_key_sha256;
        self.evidence.iter().any(|record| record.sha256 == *document)
            || self.wrappings().iter().any(|it| it.wrapped_key_sha256 == wrapped)
    }
}

fn wrapping(manifest: &DeliveryManifest, recorded_at: Timestamp, audit_event_id: &str) -> Wrapping {
    Wrapping {
        key_ref: manifest.key_ref.clone(),
        wrapped_key_sha256: manifest.key_provider.wrapped_key_sha256,
        recorded_at,
        audit_event_id: audit_event_id.to_owned(),
    }
}

/// Writes into the grants of a release that knew one key that they are on `key`, before there is another.
fn name_keys(txn: &WriteTransaction, bundle: (&str, &str), key: &KeyRef) -> Result<(), StoreError> {
    let mut grants = txn.open_table(GRANTS)?;
    for mut grant in grants_of(&txn.open_table(BY_GRANTEE)?, &grants, bundle)? {
        if grant.key_ref.is_none() {
            grant.key_ref = Some(key.clone());
            grants.insert(grant.id.as_str(), written(&grant)?.as_slice())?;
        }
    }
    Ok(())
}

fn shown(stored: Stored, grants: Vec<Grant>, now: Timestamp) -> Bundle {
    let key = &stored.manifest.key_ref;
    Bundle {
        grants: grants.into_iter().map(|grant| as_of(grant, key, now)).collect(),
        wrappings: stored.wrappings(),
        manifest: stored.manifest,
        status: "recorded".to_owned(),
        evidence: stored.evidence,
        created_at: stored.created_at,
        audit_event_id: stored.audit_event_id,
    }
}

/// Returns a grant with the status that it has now, where `key` is the one on record.
fn as_of(mut grant: Grant, key: &KeyRef, now: Timestamp) -> Grant {
    let own = grant.key_ref.get_or_insert_with(|| key.clone());
    grant.status = match grant.status {
        GrantStatus::Revoked => GrantStatus::Revoked,
        _ if grant.expires_at.is_some_and(|end| end <= now) => GrantStatus::Expired,
        // Attack: whoever reads that somebody may open it takes that for the delivery as it is wrapped now.
        _ if !own.is_same_key(key) => GrantStatus::OtherKey,
        status => status,
    };
    grant
}

async fn one(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<Bundle>> {
    let mut event = NewEvent::new(READ, &request, app.now());
    let found = async {
        let caller = auth::session_or_operator(&app, &headers).await?;
        caller.sign(&mut event);
        let filter = filter(&app, &caller, None, None)?;
        find(&app, &filter, &id)
    };
    match found.await {
        Ok(bundle) => Ok(Json(bundle)),
        Err(refusal) => Err(refusal.about(event)),
    }
}

/// Returns a delivery that the caller may see; another's is not found, like one that does not exist.
fn find(app: &App, filter: &Filter, id: &str) -> Answer<Bundle> {
    let not_found = || Refusal::new(Code::NOT_FOUND, "there is no such delivery");
    let id: BundleId = id.parse().map_err(|_| not_found())?;
    let txn = app.store.read()?;
    let Some(bundles) = opened(txn.open_table(BUNDLES))? else {
        return Err(not_found());
    };
    // The operator sees every tenant's: an id is looked for in each.
    let tenants = app.config.tenants.iter().filter(|it| filter.tenant.as_ref().is_none_or(|own| own == *it));
    for tenant in tenants {
        let key = (tenant.as_str(), id.as_str());
        let Some(json) = bundles.get(key).map_err(StoreError::from)? else { continue };
        let stored: Stored = parse(id.as_str(), json.value())?;
        if shows(filter, &stored) {
            let grants = grants(&txn, key)?;
            return Ok(shown(stored, grants, app.now()));
        }
    }
    Err(not_found())
}

fn shows(filter: &Filter, stored: &Stored) -> bool {
    let manifest = &stored.manifest;
    filter.tenant.as_ref().is_none_or(|tenant| *tenant == manifest.tenant_id)
        && filter.projects.as_ref().is_none_or(|projects| projects.contains(&manifest.project_slug))
}

fn grants(txn: &ReadTransaction, bundle: (&str, &str)) -> Result<Vec<Grant>, StoreError> {
    let Some(by_grantee) = opened(txn.open_table(BY_GRANTEE))? else { return Ok(Vec::new()) };
    let Some(grants) = opened(txn.open_table(GRANTS))? else { return Ok(Vec::new()) };
    grants_of(&by_grantee, &grants, bundle)
}

/// Returns the grants of a delivery, oldest first.
fn grants_of(
    by_grantee: &impl ReadableTable<(&'static str, &'static str, &'static str), &'static str>,
    grants: &impl ReadableTable<&'static str, &'static [u8]>,
    bundle: (&str, &str),
) -> Result<Vec<Grant>, StoreError> {
    let rows = rows_of(by_grantee, grants, bundle)?;
    let mut found: Vec<Grant> = rows.into_iter().map(|(_, grant)| grant).collect();
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

/// Returns the grants of a delivery, each with what it is found by.
fn rows_of(
    by_grantee: &impl ReadableTable<(&'static str, &'static str, &'static str), &'static str>,
    grants: &impl ReadableTable<&'static str, &'static [u8]>,
    (tenant, bundle): (&str, &str),
) -> Result<Vec<(String, Grant)>, StoreError> {
    let mut found = Vec::new();
    for row in by_grantee.range((tenant, bundle, "")..)? {
        let (key, id) = row?;
        let (its_tenant, its_bundle, slot) = key.value();
        if (its_tenant, its_bundle) != (tenant, bundle) {
            break;
        }
        if let Some(json) = grants.get(id.value())? {
            found.push((slot.to_owned(), parse(id.value(), json.value())?));
        }
    }
    Ok(found)
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    project_slug: Option<ProjectSlug>,
    customer_slug: Option<CustomerSlug>,
    package_name: Option<PackageName>,
    cursor: Option<String>,
    limit: Option<usize>,
}

async fn view(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    headers: HeaderMap,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer<Json<DeliveryView>> {
    let mut event = NewEvent::new(READ, &request, app.now());
    let viewed = async {
        let caller = auth::session_or_operator(&app, &headers).await?;
        caller.sign(&mut event);
        let Query(wanted) = wanted.map_err(wrong_query)?;
        let filter = filter(&app, &caller, None, wanted.project_slug.clone())?;
        let (store, now) = (app.store.clone(), app.now());
        let page = tokio::task::spawn_blocking(move || page(&store.read()?, &filter, &wanted, now));
        Ok::<_, Refusal>(page.await.unwrap_or(Err(StoreError::GivenUp))?)
    };
    match viewed.await {
        Ok(page) => Ok(Json(page)),
        Err(refusal) => Err(refusal.about(event)),
    }
}

fn page(
    txn: &ReadTransaction,
    filter: &Filter,
    wanted: &Wanted,
    now: Timestamp,
) -> Result<DeliveryView, StoreError> {
    let mut page = DeliveryView { items: Vec::new(), next_cursor: None };
    let (Some(by_time), Some(bundles)) = (opened(txn.open_table(BY_TIME))?, opened(txn.open_table(BUNDLES))?)
    else {
        return Ok(page);
    };
    let limit = page_size(wanted.limit, PAGE);
    // `~` sorts after every character of a ULID.
    let last = wanted.cursor.as_deref().unwrap_or("~");
    let mut bytes = 0;
    for row in by_time.range::<&str>(..=last)?.rev() {
        let (at, key) = row?;
        let Some(json) = bundles.get(key.value())? else { continue };
        let stored: Stored = parse(at.value(), json.value())?;
        let manifest = &stored.manifest;
        let wanted = shows(filter, &stored)
            && wanted.customer_slug.as_ref().is_none_or(|it| *it == manifest.customer_slug)
            && wanted.package_name.as_ref().is_none_or(|it| *it == manifest.package_name);
        if !wanted {
            continue;
        }
        bytes += json.value().len();
        if page.items.len() == limit || (bytes > PAGE_BYTES && !page.items.is_empty()) {
            page.next_cursor = Some(stored.at);
            break;
        }
        page.items.push(shown(stored, grants(txn, key.value())?, now));
    }
    Ok(page)
}

async fn grant(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    headers: HeaderMap,
    body: Body,
) -> Answer<(StatusCode, Json<Grant>)> {
    let mut event = NewEvent::new("grant.create", &request, app.now());
    match granted(&app, &headers, body, &mut event).await {
        Ok((status, grant)) => Ok((status, Json(grant))),
        Err(refusal) => Err(refusal.about(event)),
    }
}

async fn granted(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    event: &mut NewEvent,
) -> Answer<(StatusCode, Grant)> {
    let (session, body) = posted(app, headers, body, FORM_BYTES, event).await?;
    let raw: serde_json::Value = json(headers, &body)?;
    no_key_material(&raw)
        .map_err(|error| Refusal::new(Code::RAW_KEY_MATERIAL, format!("the grant is refused: {error}")))?;
    let wanted: GrantRequest = json(headers, &body)?;
    event.0.target.bundle_id = Some(wanted.bundle_id.to_string());
    let bundle = own(app, &session, &wanted.bundle_id, event)?;
    if wanted.customer_slug != bundle.manifest.customer_slug {
        let message =
            format!("the delivery `{}` is not one for `{}`", wanted.bundle_id, wanted.customer_slug);
        return Err(Refusal::new(Code::CUSTOMER_MISMATCH, message));
    }
    let key = wanted.key_ref.as_ref().unwrap_or(&bundle.manifest.key_ref).clone();
    event.0.target.key_ref = Some(key.clone());
    let provider = key.provider();
    if let Some(done) = wanted.grant_materialization.as_ref().filter(|done| done.provider != provider) {
        let message = format!(
            "the key is in {}, and the grant was made in {}",
            provider.scheme(),
            done.provider.scheme()
        );
        return Err(Refusal::new(Code::INVALID_DOCUMENT, message));
    }
    let now = app.now();
    if let Some(end) = wanted.expires_at.filter(|end| *end <= now) {
        return Err(Refusal::new(Code::INVALID_REQUEST, format!("the grant would have ended at {end}")));
    }
    if bundle.grants.len() >= MOST_GRANTS {
        let message = format!("the delivery has {MOST_GRANTS} grants already");
        return Err(Refusal::new(Code::INVALID_REQUEST, message));
    }
    let tenant = session.tenant_id.to_string();
    let event = event.clone();
    let on_record = bundle.manifest.key_ref;
    let keys = (key, on_record.clone());
    let inserted = app.store.write(move |txn| insert_grant(txn, &tenant, wanted, keys, event)).await?;
    match inserted {
        (Inserted::New, grant) => Ok((StatusCode::CREATED, as_of(grant, &on_record, now))),
        (Inserted::Same, grant) => Ok((StatusCode::OK, as_of(grant, &on_record, now))),
        (Inserted::Other, grant) => {
            let message = format!("`{}` has a grant with other terms: {}", grant.grantee, grant.id);
            Err(Refusal::new(Code::GRANT_CONFLICT, message).hint("revoke it first, then grant anew"))
        }
    }
}

/// Finds what is of the caller's tenant and projects.
fn of(app: &App, session: &Session) -> Filter {
    Filter { tenant: Some(session.tenant_id.clone()), projects: Some(decide::projects(app, session)) }
}

/// Returns a delivery of the caller's, whose package the caller may publish.
fn own(app: &App, session: &Session, id: &BundleId, event: &mut NewEvent) -> Answer<Bundle> {
    let bundle = find(app, &of(app, session), id.as_str())?;
    event.0.project_slug = Some(bundle.manifest.project_slug.clone());
    event.0.target.package_name = Some(bundle.manifest.package_name.clone());
    event.0.target.version = Some(bundle.manifest.version.clone());
    allowed(app, session, &bundle.manifest, event)?;
    Ok(bundle)
}

/// Returns the manifest on record of a delivery of the caller's.
pub(super) fn manifest(app: &App, session: &Session, id: &BundleId) -> Answer<DeliveryManifest> {
    Ok(find(app, &of(app, session), id.as_str())?.manifest)
}

/// Adds documents to those about a delivery, within `txn`.
pub(super) fn add_evidence(
    txn: &WriteTransaction,
    tenant: &TenantId,
    id: &BundleId,
    evidence: &[EvidenceRecord],
) -> Result<(), StoreError> {
    let key = (tenant.as_str(), id.as_str());
    let mut bundles = txn.open_table(BUNDLES)?;
    let stored = bundles.get(key)?.map(|json| json.value().to_owned());
    let stored = stored.ok_or_else(|| StoreError::Corrupt(format!("no delivery {id}")))?;
    let mut stored: Stored = parse(id.as_str(), &stored)?;
    let new = evidence.iter().filter(|new| !stored.evidence.iter().any(|there| there.id == new.id));
    let new: Vec<EvidenceRecord> = new.cloned().collect();
    stored.evidence.extend(new);
    bundles.insert(key, written(&stored)?.as_slice())?;
    Ok(())
}

/// Records a grant on `key`: one that is there already is the same on the same key alone, which is the one `on_record` where it
/// does not say.
fn insert_grant(
    txn: &WriteTransaction,
    tenant: &str,
    wanted: GrantRequest,
    (key, on_record): (KeyRef, KeyRef),
    event: NewEvent,
) -> Result<(Inserted, Grant), StoreError> {
    let bundle = wanted.bundle_id.to_string();
    let mut by_grantee = txn.open_table(BY_GRANTEE)?;
    let mut grants = txn.open_table(GRANTS)?;
    let rows = rows_of(&by_grantee, &grants, (tenant, &bundle))?;
    let there = rows.into_iter().find(|(_, grant)| {
        grant.grantee == wanted.grantee && grant.key_ref.as_ref().unwrap_or(&on_record).is_same_key(&key)
    });
    let (slot, there) = match there {
        Some((slot, grant)) => (slot, Some(grant)),
        None => (format!("{} {key}", wanted.grantee), None),
    };
    let held = there.filter(|grant| as_of(grant.clone(), &key, event.0.ts).status != GrantStatus::Expired);
    if let Some(mut grant) = held.filter(|grant| grant.status != GrantStatus::Revoked) {
        if grant.expires_at != wanted.expires_at {
            return Ok((Inserted::Other, grant));
        }
        let later = wanted.grant_materialization.is_some() && grant.grant_materialization.is_none();
        if !later {
            return Ok((Inserted::Same, grant));
        }
        // The second half of a grant whose first half was recorded before.
        let event = audit::append(txn, event)?;
        grant.status = GrantStatus::Materialized;
        grant.key_grant_ref = wanted.key_grant_ref;
        grant.grant_materialization = wanted.grant_materialization;
        grant.audit_event_id = event.id;
        grants.insert(grant.id.as_str(), written(&grant)?.as_slice())?;
        return Ok((Inserted::Same, grant));
    }
    let event = audit::append(txn, event)?;
    let materialized = wanted.grant_materialization.is_some();
    let grant = Grant {
        id: ulid::Ulid::generate().to_string(),
        bundle_id: wanted.bundle_id.clone(),
        customer_slug: wanted.customer_slug,
        grantee: wanted.grantee,
        key_ref: Some(key),
        status: if materialized { GrantStatus::Materialized } else { GrantStatus::Recorded },
        key_grant_ref: wanted.key_grant_ref,
        grant_materialization: wanted.grant_materialization,
        expires_at: wanted.expires_at,
        created_at: event.ts,
        revoked_at: None,
        audit_event_id: event.id,
    };
    grants.insert(grant.id.as_str(), written(&grant)?.as_slice())?;
    by_grantee.insert((tenant, bundle.as_str(), slot.as_str()), grant.id.as_str())?;
    Ok((Inserted::New, grant))
}

async fn revoke(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<Grant>> {
    let mut event = NewEvent::new("grant.revoke", &request, app.now());
    match revoked(&app, &headers, &id, &mut event).await {
        Ok(grant) => Ok(Json(grant)),
        Err(refusal) => Err(refusal.about(event)),
    }
}

async fn revoked(app: &App, headers: &HeaderMap, id: &str, event: &mut NewEvent) -> Answer<Grant> {
    let not_found = || Refusal::new(Code::NOT_FOUND, "there is no such grant");
    let session = auth::session(app, headers).await?;
    event.by_session(&session);
    let grant: Option<Grant> = {
        let txn = app.store.read()?;
        match opened(txn.open_table(GRANTS))? {
            Some(grants) => {
                grants.get(id).map_err(StoreError::from)?.map(|json| parse(id, json.value())).transpose()?
            }
            None => None,
        }
    };
    let grant = grant.ok_or_else(not_found)?;
    event.0.target.bundle_id = Some(grant.bundle_id.to_string());
    // A grant of another's delivery is as little there as the delivery.
    let bundle = own(app, &session, &grant.bundle_id, event)
        .map_err(|refusal| if *refusal.code() == Code::NOT_FOUND { not_found() } else { refusal })?;
    // Attack: whoever registers a delivery under the id of another tenant's takes back the grants of that one.
    if !bundle.grants.iter().any(|it| it.id == grant.id) {
        return Err(not_found());
    }
    let key = bundle.manifest.key_ref;
    event.0.target.key_ref = Some(grant.key_ref.clone().unwrap_or_else(|| key.clone()));
    let (id, event, now) = (grant.id.clone(), event.clone(), app.now());
    Ok(app
        .store
        .write(move |txn| {
            let mut grants = txn.open_table(GRANTS)?;
            let json = grants.get(id.as_str())?.map(|json| json.value().to_owned());
            let mut grant: Grant = match json {
                Some(json) => parse(&id, &json)?,
                None => return Err(StoreError::Corrupt(format!("no grant {id}"))),
            };
            if grant.status != GrantStatus::Revoked {
                let event = audit::append(txn, event)?;
                grant.status = GrantStatus::Revoked;
                grant.revoked_at = Some(whole_seconds(event.ts));
                grant.audit_event_id = event.id;
                grants.insert(id.as_str(), written(&grant)?.as_slice())?;
            }
            Ok(as_of(grant, &key, now))
        })
        .await?)
}

fn written(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn parse<T: serde::de::DeserializeOwned>(id: &str, json: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(json).map_err(|error| StoreError::Corrupt(format!("delivery {id}: {error}")))
}
