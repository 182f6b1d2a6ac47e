//! `POST /v1/evidence/attachments`: documents that are kept with a version.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use protected_evidence::{delivery::Delivered, verify::unverified_delivered};
use protected_model::{
    api::{
        evidence::{
            ATTACHMENTS_PATH, AttachmentRequest, AttachmentResponse, BUNDLE_TYPE, Document, EvidenceRecord,
            PATH, STATEMENT_TYPE, Subject,
        },
        problem::Code,
    },
    build,
    claims::Publisher,
    delivery::DeliveryManifest,
    digest::{Integrity, Sha256},
    integrity,
};
use redb::WriteTransaction;
use serde::Deserialize;

use super::{
    builds::{self, Build, check_digests, is_name, producer, store_documents},
    decide, delivery,
    evidence::{self, About, NewDocument, PER_VERSION, add},
    posted,
};
use crate::{
    app::App,
    audit::{self, NewEvent},
    body::json,
    endpoint::{Credential, Endpoint},
    problem::{Answer, Refusal},
    registry,
    request::RequestInfo,
    session::Session,
    store::StoreError,
};

/// What may be attached: the types, each with its media types. Attack: a page or a program, served from here as
/// evidence.
const ALLOWED: &[(&str, &[&str])] = &[
    ("sbom", &["application/vnd.cyclonedx+json", "application/spdx+json"]),
    ("provenance", &[STATEMENT_TYPE]),
    ("vsa", &[STATEMENT_TYPE]),
    (SIGNED, &[BUNDLE_TYPE]),
    ("integrity-manifest", &[integrity::MEDIA_TYPE]),
    ("protected-build", &[build::MEDIA_TYPE]),
    ("native-artifacts", &["application/vnd.protected-registry.native-artifacts.v1+json"]),
];
/// The most documents of one request.
const MOST: usize = 64;
/// The type of a signed statement.
const SIGNED: &str = "sigstore-bundle";
/// The largest signed statement over a delivery. One has about ten kilobytes. Attack: a publisher that fills the disk.
const STATEMENT_BYTES: u64 = 256 << 10;
/// The largest document: the software bill of materials of some ten thousand components.
const DOCUMENT_BYTES: usize = 16 << 20;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::post(ATTACHMENTS_PATH, "Attach documents to a version", attach)
            .credential(Credential::Session)
            .repeatable()
            .takes::<AttachmentRequest>()
            .answers::<AttachmentResponse>(201, "They are on record")
            .answers::<AttachmentResponse>(200, "All of them were on record"),
    ]
}

async fn attach(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    headers: HeaderMap,
    body: Body,
) -> Answer<(StatusCode, Json<AttachmentResponse>)> {
    let mut event = NewEvent::new("evidence.attach", &request, app.now());
    match attached(&app, &headers, body, &mut event).await {
        Ok((status, response)) => Ok((status, Json(response))),
        Err(refusal) => Err(refusal.about(event)),
    }
}

async fn attached(
    app: &App,
    headers: &HeaderMap,
    body: Body,
    event: &mut NewEvent,
) -> Answer<(StatusCode, AttachmentResponse)> {
    let (session, body) = posted(app, headers, body, app.config.limits.body_bytes, event).await?;
    let wanted: AttachmentRequest = json(headers, &body)?;
    drop(body);
    event.0.project_slug = Some(wanted.project_slug.clone());
    event.0.target.package_name = Some(wanted.package_name.clone());
    event.0.target.version = Some(wanted.version.clone());
    event.0.target.build_id.clone_from(&wanted.build_id);
    let (tenant, project) = (wanted.tenant_id.as_ref(), &wanted.project_slug);
    decide::may_publish(app, &session, tenant, project, &wanted.package_name, event)?;
    let (subject, build_id) = match &wanted.bundle_id {
        None => {
            let (subject, build) = subject(app, &session, &wanted)?;
            check(&wanted.documents, |document| {
                about(&document.kind, &document.media_type, &document.inline, &subject)
            })?;
            (subject.into(), build.map(|build| build.id))
        }
        Some(id) => {
            event.0.target.bundle_id = Some(id.to_string());
            of_delivery(&delivery::manifest(app, &session, id)?, &wanted)?
        }
    };
    let new = Attachments {
        session,
        subject,
        build_id,
        documents: store_documents(app, wanted.documents.clone()).await?,
        producer: producer(headers),
        base_url: app.public_url.join(PATH).to_string(),
        event: event.clone(),
        wanted,
    };
    match app.store.write(move |txn| new.insert(txn)).await? {
        Inserted::New(response) => Ok((StatusCode::CREATED, response)),
        Inserted::Same(response) => Ok((StatusCode::OK, response)),
        Inserted::TooMany => Err(Refusal::new(
            Code::TOO_LARGE,
            format!("a version has at most {PER_VERSION} documents, and with these it would have more"),
        )),
    }
}

/// A version's tarball.
struct Artifact {
    purl: String,
    sha256: Sha256,
    sha512: Integrity,
}

impl From<Artifact> for Subject {
    fn from(artifact: Artifact) -> Self {
        Self { purl: artifact.purl, sha256: artifact.sha256, sha512: Some(artifact.sha512) }
    }
}

/// Returns what the version is, by its build on record or else by what is published, and its build.
fn subject(app: &App, session: &Session, wanted: &AttachmentRequest) -> Answer<(Artifact, Option<Build>)> {
    let (package, version) = (&wanted.package_name, &wanted.version);
    let txn = app.store.read()?;
    let build = builds::of_version(&txn, &session.tenant_id, package, version)?;
    let published = registry::artifact(app, &txn, &session.tenant_id, package, version)?;
    // What is published was held against the build where the package asks for one, and is what clients get.
    let (sha256, sha512) = match (&published, &build) {
        (Some(artifact), _) => (artifact.sha256, artifact.integrity),
        (None, Some(build)) => (build.artifact.sha256, build.artifact.integrity),
        (None, None) => {
            return Err(Refusal::new(
                Code::NOT_FOUND,
                format!("{package}@{version} is neither published nor has it a build on record"),
            )
            .hint("attach documents after `publish` or `protect-build` of the same version"));
        }
    };
    if let Some(said) = wanted.integrity.filter(|said| *said != sha512) {
        let message =
            format!("the documents are said to be about {said}, and {package}@{version} is {sha512}");
        return Err(Refusal::new(Code::INVALID_DOCUMENT, message));
    }
    let id = build.as_ref().map(|build| build.id.as_str());
    if let Some(said) = wanted.build_id.as_deref().filter(|said| Some(*said) != id) {
        let said: String = said.chars().take(40).flat_map(char::escape_debug).collect();
        let message = match id {
            Some(id) => {
                format!("the documents are said to be of build {said}, and {package}@{version} has {id}")
            }
            None => format!("the documents are said to be of build {said}, and {package}@{version} has none"),
        };
        return Err(Refusal::new(Code::INVALID_DOCUMENT, message));
    }
    Ok((Artifact { purl: package.purl(version), sha256, sha512 }, build))
}

/// Checks documents about a delivery, and returns what they are about, with its build.
///
/// Attack: the statement over another delivery, filed under this one, or one that says something else of it.
fn of_delivery(manifest: &DeliveryManifest, wanted: &AttachmentRequest) -> Answer<(Subject, Option<String>)> {
    let refused = |message: String| Refusal::new(Code::INVALID_DOCUMENT, message);
    let DeliveryManifest { bundle_id, package_name, version, .. } = manifest;
    if (package_name, version, &manifest.project_slug)
        != (&wanted.package_name, &wanted.version, &wanted.project_slug)
    {
        return Err(refused(format!(
            "the delivery `{bundle_id}` is of {package_name}@{version}, and these documents are said to be of another version"
        )));
    }
    if wanted.integrity.is_some()
        || wanted.build_id.as_ref().is_some_and(|it| Some(it) != manifest.build_id.as_ref())
    {
        return Err(refused(format!(
            "documents about the delivery `{bundle_id}` name no tarball, and no build but its own"
        )));
    }
    let Some(expected) = Delivered::of_manifest(manifest) else {
        return Err(refused(format!("the manifest of the delivery `{bundle_id}` names no descriptor")));
    };
    check(&wanted.documents, |document| {
        let Document { kind, media_type, inline, .. } = document;
        if media_type != BUNDLE_TYPE || kind != SIGNED {
            return Err(refused(format!(
                "of a delivery the signed statement over its bundle is kept, `{SIGNED}` of type `{BUNDLE_TYPE}`, and this is `{kind}`"
            )));
        }
        if inline.len() as u64 > STATEMENT_BYTES {
            let bytes = inline.len();
            let message = format!("the statement has {bytes} bytes, and at most {STATEMENT_BYTES} are kept");
            return Err(Refusal::new(Code::TOO_LARGE, message));
        }
        unverified_delivered(inline.as_bytes(), &expected, &manifest.bundle.sha256).map_err(|error| {
            refused(format!(
                "this is not the signed statement over the delivery `{bundle_id}`: {}",
                shown(&error.to_string())
            ))
        })
    })?;
    let subject = Subject { purl: package_name.purl(version), sha256: manifest.bundle.sha256, sha512: None };
    Ok((subject, manifest.build_id.clone()))
}

/// Returns the beginning of what a document says, fit to be repeated.
fn shown(text: &str) -> String {
    text.chars().take(512).flat_map(char::escape_debug).collect()
}

/// Checks that each document is of a type that is kept, small enough, and `about` what it has to be about.
fn check(documents: &[Document], about: impl Fn(&Document) -> Answer<()>) -> Answer<()> {
    let refuse = |message: String| Err(Refusal::new(Code::INVALID_DOCUMENT, message));
    if documents.is_empty() || documents.len() > MOST {
        return refuse(format!("expected 1 to {MOST} documents, and there are {}", documents.len()));
    }
    for document in documents {
        let Document { kind, media_type, inline, .. } = document;
        if !is_name(kind) || !is_name(media_type) {
            return refuse(
                "a document's type or media type is not 1 to 128 visible ASCII characters".to_owned(),
            );
        }
        let Some((_, media_types)) = ALLOWED.iter().find(|(allowed, _)| allowed == kind) else {
            let allowed: Vec<_> = ALLOWED.iter().map(|(kind, _)| *kind).collect();
            return refuse(format!(
                "a document of type `{kind}` is not kept: expected {}",
                allowed.join(", ")
            ));
        };
        if !media_types.contains(&media_type.as_str()) {
            let expected = media_types.join("` or `");
            return refuse(format!(
                "a document of type `{kind}` is `{expected}`, and this is `{media_type}`"
            ));
        }
        if inline.len() > DOCUMENT_BYTES {
            let bytes = inline.len();
            return Err(Refusal::new(
                Code::TOO_LARGE,
                format!("the document `{kind}` has {bytes} bytes, and at most {DOCUMENT_BYTES} are kept"),
            ));
        }
        about(document)?;
    }
    check_digests(documents)
}

/// The parts of an in-toto statement that say what it is about.
#[derive(Deserialize)]
struct Statement {
    subject: Vec<StatementSubject>,
}

#[derive(Deserialize)]
struct StatementSubject {
    name: String,
    #[serde(default)]
    digest: Digests,
}

#[derive(Default, Deserialize)]
struct Digests {
    sha256: Option<String>,
    sha512: Option<String>,
}

/// The part of a Sigstore bundle that is the statement.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
struct Envelope {
    payload: String,
}

/// Checks that a document is a JSON object and, where it is a statement, that it is about the version. Who signed it
/// is for whoever reads it to verify. Attack: another package's provenance, filed under this one.
fn about(kind: &str, media_type: &str, inline: &str, subject: &Artifact) -> Answer<()> {
    let refuse = |message: String| Err(Refusal::new(Code::INVALID_DOCUMENT, message));
    let statement: Result<Statement, serde_json::Error> = match media_type {
        STATEMENT_TYPE => serde_json::from_str(inline),
        BUNDLE_TYPE => {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            let bundle: Bundle = match serde_json::from_str(inline) {
                Ok(bundle) => bundle,
                Err(error) => {
                    return refuse(format!("the document `{kind}` is no bundle with a statement: {error}"));
                }
            };
            let Ok(payload) = STANDARD.decode(bundle.dsse_envelope.payload) else {
                return refuse(format!("the payload of the document `{kind}` is not base64"));
            };
            serde_json::from_slice(&payload)
        }
        _ => {
            return match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(inline) {
                Ok(_) => Ok(()),
                Err(error) => refuse(format!("the document `{kind}` is not a JSON object: {error}")),
            };
        }
    };
    let statement = match statement {
        Ok(statement) => statement,
        Err(error) => return refuse(format!("the document `{kind}` holds no in-toto statement: {error}")),
    };
    let [StatementSubject { name, digest }] = statement.subject.as_slice() else {
        return refuse(format!(
            "the document `{kind}` has {} subjects, and must have one",
            statement.subject.len()
        ));
    };
    let same = |said: &Option<String>, actual: &str| said.as_ref().is_none_or(|said| said == actual);
    let named = digest.sha256.is_some() || digest.sha512.is_some();
    let agree =
        same(&digest.sha256, &subject.sha256.to_string()) && same(&digest.sha512, &subject.sha512.hex());
    if named && agree && *name == subject.purl {
        return Ok(());
    }
    let name: String = name.chars().take(128).flat_map(char::escape_debug).collect();
    let said = digest.sha512.as_ref().or(digest.sha256.as_ref()).map_or("no digest", String::as_str);
    let said: String = said.chars().take(128).flat_map(char::escape_debug).collect();
    refuse(format!(
        "the document `{kind}` is about `{name}` with {said}, and this is `{}` with sha256 {} and sha512 {}",
        subject.purl,
        subject.sha256,
        subject.sha512.hex()
    ))
}

/// Documents on their way into the database.
struct Attachments {
    session: Session,
    subject: Subject,
    build_id: Option<String>,
    documents: Vec<NewDocument>,
    producer: String,
    base_url: String,
    event: NewEvent,
    wanted: AttachmentRequest,
}

enum Inserted {
    New(AttachmentResponse),
    /// They were all there.
    Same(AttachmentResponse),
    TooMany,
}

impl Attachments {
    fn insert(self, txn: &WriteTransaction) -> Result<Inserted, StoreError> {
        let Self { session, wanted, documents, mut event, .. } = self;
        let (tenant, package, version) = (&session.tenant_id, &wanted.package_name, &wanted.version);
        let known = evidence::known(txn, tenant, package, version, &documents)?;
        if let Some(evidence) = known.iter().cloned().collect::<Option<Vec<EvidenceRecord>>>()
            && let Some(first) = evidence.first()
        {
            let audit_event_id = first.audit_event_id.clone();
            return Ok(Inserted::Same(AttachmentResponse { evidence, audit_event_id }));
        }
        let new = known.iter().filter(|known| known.is_none()).count();
        if evidence::count(txn, tenant, package, version)? + new > PER_VERSION {
            return Ok(Inserted::TooMany);
        }
        event.0.target.build_id.clone_from(&self.build_id);
        let event = audit::append(txn, event)?;
        let publisher: Option<Publisher> = session.publisher();
        let about = About {
            tenant_id: tenant,
            project_slug: &wanted.project_slug,
            package_name: package,
            version,
            subject: &self.subject,
            build_id: self.build_id.as_deref(),
            token_jti: Some(&session.token_jti),
            publisher: publisher.as_ref(),
            audit_event_id: &event.id,
            producer: &self.producer,
            created_at: event.ts,
            base_url: &self.base_url,
        };
        let evidence = documents.into_iter().map(|document| add(txn, document, &about));
        let evidence = evidence.collect::<Result<Vec<_>, StoreError>>()?;
        if let Some(id) = &wanted.bundle_id {
            delivery::add_evidence(txn, tenant, id, &evidence)?;
        }
        Ok(Inserted::New(AttachmentResponse { evidence, audit_event_id: event.id }))
    }
}
