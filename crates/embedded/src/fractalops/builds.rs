//! `POST /v1/packages/protection/builds`: a hardened build on record, with its documents as evidence.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
};
use protected_model::{
    action::ArtifactPolicy,
    api::{
        build::{BuildRecordRequest, BuildRecordResponse, PATH},
        evidence::{self, Document, EvidenceRecord, Subject},
        problem::Code,
    },
    build::{Escrow, Hardening, PipelineStep, Protection, Source, SourceMaps},
    claims::Publisher,
    digest::{Integrity, Sha256},
    integrity::ArtifactDigest,
    name::{PackageName, ProjectSlug, TenantId},
    version::PackageVersion,
};
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{
    decide,
    evidence::{About, NewDocument, Owned, add},
    posted,
};
use crate::{
    app::App,
    audit::{self, NewEvent, opened},
    body::json,
    endpoint::{Credential, Endpoint},
    problem::{Answer, Refusal},
    request::RequestInfo,
    store::StoreError,
};

/// Every build by its id.
const BUILDS: TableDefinition<&str, &[u8]> = TableDefinition::new("builds");
/// The build of a version: tenant, package, version. One, for good.
const BY_VERSION: TableDefinition<(&str, &str, &str), &str> = TableDefinition::new("builds_by_version");
/// The build of a tarball: tenant, package, `integrity`.
const BY_ARTIFACT: TableDefinition<(&str, &str, &str), &str> = TableDefinition::new("builds_by_artifact");

/// The steps without which no build is a hardened one. Attack: a pipeline that claims to be one, and whose
/// artifact is the source.
const HARDENED_STEPS: &[&str] = &["compile", "minify", "strip-source-maps", "integrity"];
/// The most steps and documents of one build.
const MOST: usize = 64;
/// The longest name of a step, a tool or a kind of document.
const NAME_BYTES: usize = 128;

/// A build as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Build {
    pub(crate) id: String,
    pub(crate) tenant_id: TenantId,
    pub(crate) project_slug: ProjectSlug,
    pub(crate) package_name: PackageName,
    pub(crate) version: PackageVersion,
    pub(crate) artifact: ArtifactDigest,
    pub(crate) source: Source,
    pub(crate) pipeline: Vec<PipelineStep>,
    pub(crate) protection: Protection,
    #[serde(default)]
    pub(crate) hardening: Option<Hardening>,
    pub(crate) source_map_escrow: Option<Escrow>,
    pub(crate) satisfied: Vec<ArtifactPolicy>,
    pub(crate) evidence: Vec<EvidenceRecord>,
    pub(crate) audit_event_id: String,
}

/// Returns the build on record of exactly these bytes as this package, or `None`.
pub(crate) fn of_artifact(
    txn: &ReadTransaction,
    tenant: &TenantId,
    package: &PackageName,
    integrity: &Integrity,
) -> Result<Option<Build>, StoreError> {
    let Some(index) = opened(txn.open_table(BY_ARTIFACT))? else { return Ok(None) };
    let integrity = integrity.to_string();
    let Some(id) = index.get((tenant.as_str(), package.as_str(), integrity.as_str()))? else {
        return Ok(None);
    };
    let Some(builds) = opened(txn.open_table(BUILDS))? else { return Ok(None) };
    builds.get(id.value())?.map(|json| parse(id.value(), json.value())).transpose()
}

/// Returns the build on record of this version, or `None`.
pub(crate) fn of_version(
    txn: &ReadTransaction,
    tenant: &TenantId,
    package: &PackageName,
    version: &PackageVersion,
) -> Result<Option<Build>, StoreError> {
    let Some(index) = opened(txn.open_table(BY_VERSION))? else { return Ok(None) };
    let version = version.to_string();
    let Some(id) = index.get((tenant.as_str(), package.as_str(), version.as_str()))? else {
        return Ok(None);
    };
    let Some(builds) = opened(txn.open_table(BUILDS))? else { return Ok(None) };
    builds.get(id.value())?.map(|json| parse(id.value(), json.value())).transpose()
}

/// Returns whether any build on record of this package meets `policy`.
pub(crate) fn any_satisfies(
    txn: &ReadTransaction,
    tenant: &TenantId,
    package: &PackageName,
    policy: &[ArtifactPolicy],
) -> Result<bool, StoreError> {
    let Some(index) = opened(txn.open_table(BY_VERSION))? else { return Ok(false) };
    let Some(builds) = opened(txn.open_table(BUILDS))? else { return Ok(false) };
    let from = (tenant.as_str(), package.as_str(), "");
    for row in index.range(from..)? {
        let (key, id) = row?;
        if (key.value().0, key.value().1) != (from.0, from.1) {
            break;
        }
        let build = builds.get(id.value())?.map(|json| parse(id.value(), json.value())).transpose()?;
        if build.is_some_and(|build| policy.iter().all(|policy| build.satisfied.contains(policy))) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Drops a record that is gone from the build that names it.
pub(super) fn forget_evidence(txn: &WriteTransaction, owned: &Owned) -> Result<(), StoreError> {
    let (package, version) = (owned.package_name.as_str(), owned.version.to_string());
    let by_version = txn.open_table(BY_VERSION)?;
    let Some(id) = by_version.get((owned.tenant_id.as_str(), package, version.as_str()))? else {
        return Ok(());
    };
    let mut builds = txn.open_table(BUILDS)?;
    let Some(mut build) = builds.get(id.value())?.map(|json| parse(id.value(), json.value())).transpose()?
    else {
        return Err(StoreError::Corrupt(format!("no build {}", id.value())));
    };
    build.evidence.retain(|record| record.id != owned.record.id);
    let json = serde_json::to_vec(&build).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    builds.insert(id.value(), json.as_slice())?;
    Ok(())
}

fn parse(id: &str, json: &[u8]) -> Result<Build, StoreError> {
    serde_json::from_slice(json).map_err(|error| StoreError::Corrupt(format!("build {id}: {error}")))
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::post(PATH, "Record a hardened build", record)
            .credential(Credential::Session)
            .repeatable()
            .takes::<BuildRecordRequest>()
            .answers::<BuildRecordResponse>(201, "It is on record")
            .answers::<BuildRecordResponse>(200, "The same build was on record, or it was a dry run"),
    ]
}

async fn record(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    headers: HeaderMap,
    body: Body,
) -> Answer<(StatusCode, Json<BuildRecordResponse>)> {
    let mut event = NewEvent::new("build.record", &request, app.now());
    match recorded(&app, &headers, body, &mut event).await {
        Ok((status, response)) => Ok((status, Json(response))),
        Err(refusal) => Err(refusal.about(event)),
    }
}

async fn recorded(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    event: &mut NewEvent,
) -> Answer<(StatusCode, BuildRecordResponse)> {
    let (session, body) = posted(app, headers, body, app.config.limits.body_bytes, event).await?;
    let wanted: BuildRecordRequest = json(headers, &body)?;
    event.0.project_slug = Some(wanted.project_slug.clone());
    event.0.target.package_name = Some(wanted.package_name.clone());
    event.0.target.version = Some(wanted.version.clone());
    let (tenant, project) = (wanted.tenant_id.as_ref(), &wanted.project_slug);
    decide::may_publish(app, &session, tenant, project, &wanted.package_name, event)?;
    check_documents(&wanted)?;
    let satisfied = satisfied(&wanted);
    if wanted.dry_run {
        let there =
            of_version(&app.store.read()?, &session.tenant_id, &wanted.package_name, &wanted.version)?;
        if let Some(other) = there.filter(|build| build.artifact != wanted.artifact) {
            return Err(conflict(&other));
        }
        event.0.action = "build.record.dry_run".to_owned();
        let event = event.clone();
        let event = app.store.write(move |txn| audit::append(txn, event)).await?;
        let response = BuildRecordResponse {
            build_id: String::new(),
            status: "dry-run".to_owned(),
            evidence: Vec::new(),
            audit_event_id: event.id,
            artifact_policy_satisfied: satisfied,
        };
        return Ok((StatusCode::OK, response));
    }
    let documents = store_documents(app, wanted.manifests.clone()).await?;
    let new = NewBuild {
        tenant_id: session.tenant_id.clone(),
        wanted,
        documents,
        satisfied,
        producer: producer(headers),
        token_jti: session.token_jti.clone(),
        publisher: session.publisher(),
        base_url: app.public_url.join(evidence::PATH).to_string(),
        event: event.clone(),
    };
    match app.store.write(move |txn| new.insert(txn)).await? {
        Inserted::New(build) => Ok((StatusCode::CREATED, response(build))),
        Inserted::Same(build) => Ok((StatusCode::OK, response(build))),
        Inserted::Other(build) => Err(conflict(&build)),
    }
}

fn response(build: Build) -> BuildRecordResponse {
    BuildRecordResponse {
        build_id: build.id,
        status: "recorded".to_owned(),
        evidence: build.evidence,
        audit_event_id: build.audit_event_id,
        artifact_policy_satisfied: build.satisfied,
    }
}

fn conflict(build: &Build) -> Refusal {
    let message = format!(
        "another build of {}@{} is on record: {} of {} bytes, {}",
        build.package_name,
        build.version,
        build.artifact.filename,
        build.artifact.size,
        build.artifact.integrity
    );
    Refusal::new(Code::BUILD_CONFLICT, message)
        .hint("hardening the same source with the same tools gives the same bytes; for other content, raise the version")
}

/// Checks what the documents say of themselves.
fn check_documents(wanted: &BuildRecordRequest) -> Answer<()> {
    let refuse = |message: String| Err(Refusal::new(Code::INVALID_DOCUMENT, message));
    if wanted.manifests.len() > MOST || wanted.pipeline.len() > MOST {
        return refuse(format!("more than {MOST} documents or steps"));
    }
    let names = wanted.pipeline.iter().flat_map(|step| [&step.step, &step.tool, &step.tool_version]);
    let kinds = wanted.manifests.iter().flat_map(|document| [&document.kind, &document.media_type]);
    if let Some(name) = names.chain(kinds).find(|name| !is_name(name)) {
        let name: String = name.chars().take(40).collect();
        return refuse(format!("`{name}`: expected 1 to {NAME_BYTES} visible ASCII characters"));
    }
    if let Some(step) = wanted.pipeline.iter().find(|step| !step.has_its_parameters()) {
        let (step, said) = (&step.step, step.config_sha256);
        return refuse(format!("the parameters of the step `{step}` have another SHA-256 than {said}"));
    }
    if let Some(hardening) = wanted.hardening.as_ref().filter(|hardening| !is_name(&hardening.profile)) {
        let profile: String = hardening.profile.chars().take(40).collect();
        return refuse(format!(
            "the profile `{profile}`: expected 1 to {NAME_BYTES} visible ASCII characters"
        ));
    }
    let file = &wanted.artifact.filename;
    if !is_name(file) || file.contains(['/', '\\']) || !file.ends_with(".tgz") {
        return refuse("the artifact's file name must be that of a tarball, without a folder".to_owned());
    }
    check_digests(&wanted.manifests)
}

/// Checks that each document is the one that its digest says.
pub(super) fn check_digests(documents: &[Document]) -> Answer<()> {
    for document in documents {
        let actual = Sha256::of(&document.inline);
        if actual != document.sha256 {
            let (kind, said) = (&document.kind, document.sha256);
            let message = format!("the document `{kind}` has SHA-256 {actual}, and is said to have {said}");
            return Err(Refusal::new(Code::INVALID_DOCUMENT, message));
        }
    }
    Ok(())
}

/// Returns what sent a request, as evidence names it.
pub(super) fn producer(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    agent.unwrap_or("unknown").chars().take(NAME_BYTES).collect()
}

pub(super) fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

/// Returns the policies that the artifact meets, from what its pipeline says and never from what it claims to be.
fn satisfied(wanted: &BuildRecordRequest) -> Vec<ArtifactPolicy> {
    // A step that failed ends the build, so each one named here either ran or had nothing to do.
    let steps: BTreeSet<&str> = wanted.pipeline.iter().map(|step| step.step.as_str()).collect();
    let hardened = HARDENED_STEPS.iter().all(|step| steps.contains(step))
        && wanted.protection.source_maps == SourceMaps::Withheld;
    if hardened { vec![ArtifactPolicy::Hardened] } else { Vec::new() }
}

/// Writes the documents as blobs, before the transaction that refers to them.
pub(super) async fn store_documents(app: &App, documents: Vec<Document>) -> Answer<Vec<NewDocument>> {
    let blobs = app.store.blobs().clone();
    let written = tokio::task::spawn_blocking(move || {
        let store = |document: Document| {
            let sha256 = blobs.put(document.inline.as_bytes())?;
            let size = document.inline.len() as u64;
            Ok(NewDocument { kind: document.kind, media_type: document.media_type, sha256, size })
        };
        documents.into_iter().map(store).collect::<Result<Vec<_>, StoreError>>()
    });
    Ok(written.await.unwrap_or(Err(StoreError::GivenUp))?)
}

struct NewBuild {
    tenant_id: TenantId,
    wanted: BuildRecordRequest,
    documents: Vec<NewDocument>,
    satisfied: Vec<ArtifactPolicy>,
    producer: String,
    token_jti: String,
    publisher: Option<Publisher>,
    base_url: String,
    event: NewEvent,
}

enum Inserted {
    New(Build),
    /// It was there.
    Same(Build),
    /// Another one was there.
    Other(Build),
}

impl NewBuild {
    fn insert(self, txn: &WriteTransaction) -> Result<Inserted, StoreError> {
        let Self {
            tenant_id,
            wanted,
            documents,
            satisfied,
            producer,
            token_jti,
            publisher,
            base_url,
            mut event,
        } = self;
        let (package, version) = (wanted.package_name.to_string(), wanted.version.to_string());
        let by_version = (tenant_id.as_str(), package.as_str(), version.as_str());
        let mut builds = txn.open_table(BUILDS)?;
        if let Some(id) = txn.open_table(BY_VERSION)?.get(by_version)? {
            let Some(build) =
                builds.get(id.value())?.map(|json| parse(id.value(), json.value())).transpose()?
            else {
                return Err(StoreError::Corrupt(format!("no build {}", id.value())));
            };
            let same = build.artifact == wanted.artifact && build.satisfied == satisfied;
            return Ok(if same { Inserted::Same(build) } else { Inserted::Other(build) });
        }
        let id = ulid::Ulid::generate().to_string();
        event.0.target.build_id = Some(id.clone());
        let event = audit::append(txn, event)?;
        let about = About {
            tenant_id: &tenant_id,
            project_slug: &wanted.project_slug,
            package_name: &wanted.package_name,
            version: &wanted.version,
            subject: &Subject {
                purl: wanted.package_name.purl(&wanted.version),
                sha256: wanted.artifact.sha256,
                sha512: Some(wanted.artifact.integrity),
            },
            build_id: Some(&id),
            token_jti: Some(&token_jti),
            publisher: publisher.as_ref(),
            audit_event_id: &event.id,
            producer: &producer,
            created_at: event.ts,
            base_url: &base_url,
        };
        let evidence =
            documents.into_iter().map(|document| add(txn, document, &about)).collect::<Result<_, _>>()?;
        let build = Build {
            id,
            tenant_id: tenant_id.clone(),
            project_slug: wanted.project_slug,
            package_name: wanted.package_name,
            version: wanted.version,
            artifact: wanted.artifact,
            source: wanted.source,
            pipeline: wanted.pipeline,
            protection: wanted.protection,
            hardening: wanted.hardening,
            source_map_escrow: wanted.source_map_escrow,
            satisfied,
            evidence,
            audit_event_id: event.id,
        };
        let json = serde_json::to_vec(&build).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        builds.insert(build.id.as_str(), json.as_slice())?;
        txn.open_table(BY_VERSION)?.insert(by_version, build.id.as_str())?;
        let integrity = build.artifact.integrity.to_string();
        let by_artifact = (tenant_id.as_str(), package.as_str(), integrity.as_str());
        txn.open_table(BY_ARTIFACT)?.insert(by_artifact, build.id.as_str())?;
        Ok(Inserted::New(build))
    }
}
