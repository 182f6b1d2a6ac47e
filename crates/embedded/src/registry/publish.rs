//! `PUT /<package>` with an attachment: a new version.
//!
//! The order makes a kill at any moment harmless. The tarball is checked, then complete and flushed under its
//! digest; then one transaction looks whether the version is still free, writes its row, moves the dist-tags and
//! appends the audit event; then it is answered. Transactions run one after the other, so of twenty uploads of one
//! version one finds it free, and its row names the digest of its own bytes.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use protected_model::{
    action::ArtifactPolicy,
    api::{
        evidence::{self, Subject},
        problem::{Code, RuleResult},
    },
    claims::{Publisher, RegistryClaims},
    digest::{Integrity, Sha256},
    name::{PackageName, ProjectSlug, TenantId},
    time::whole_seconds,
    version::{DistTag, PackageVersion},
};
use redb::WriteTransaction;

use super::{
    Request, admin,
    admission::{self, Candidate, Stored},
    caller::{Caller, out_of_scope},
    document::{self, Document, Publish},
    manifest::{self, Served},
    read::json,
    row::{PackageRow, VersionRow},
    signature,
    table::{self, Place, Standing},
    tarball,
};
use crate::{
    audit::{self, NewEvent},
    body::read_body,
    fractalops::{
        builds,
        evidence::{About, NewDocument, add},
    },
    problem::{Answer, Refusal},
    store::{Blobs, StoreError},
};

/// Answers `PUT /<package>`: a new version, or for the operator a deprecation.
pub(super) async fn put(request: &Request<'_>, body: Body) -> Answer {
    let limit = request.app.config.limits.body_bytes;
    let announced = request.headers.get(header::CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
    let _upload = request.registry.upload(request.caller_id(), announced.unwrap_or(limit).min(limit)).await?;
    let body = read_body(request.headers, body, limit).await?;
    match (&request.caller, read_document(request.headers, body, request.place.package().clone()).await?) {
        (Caller::Token(claims), Read::Version(upload)) => publish(request, claims, *upload).await,
        (Caller::Token(_), Read::Metadata(_)) => {
            Err(out_of_scope("deprecating is not for tokens of FractalOps")
                .hint("publish a fixed version instead, or ask the operator of this registry"))
        }
        (Caller::Operator, Read::Metadata(metadata)) => admin::deprecate(request, metadata).await,
        (Caller::Operator, Read::Version(_)) => {
            Err(out_of_scope("the operator publishes nothing: publishing needs a token of FractalOps"))
        }
    }
}

/// A document that agrees with itself and with its tarball.
enum Read {
    Version(Box<Upload>),
    Metadata(document::Metadata),
}

/// A version that may be stored as far as it is known without the database.
struct Upload {
    document: Publish,
    served: Served,
    files: u64,
    unpacked_bytes: u64,
}

async fn read_document(headers: &HeaderMap, body: Bytes, package: PackageName) -> Answer<Read> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING) {
        let encoding = encoding.to_str().unwrap_or_default();
        if !encoding.eq_ignore_ascii_case("identity") {
            return Err(Refusal::new(Code::INVALID_REQUEST, "a compressed body is not taken here")
                .status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
    }
    let read = tokio::task::spawn_blocking(move || {
        let refuse =
            |error: &dyn std::error::Error| Refusal::new(Code::INVALID_DOCUMENT, document::explained(error));
        let document = match document::parse(&body, &package).map_err(|error| refuse(&error))? {
            Document::Metadata(metadata) => return Ok(Read::Metadata(metadata)),
            Document::Publish(document) => document,
        };
        // From here on only the tarball counts.
        drop(body);
        let inspected = tarball::inspect(&document.tarball).map_err(|error| refuse(&error))?;
        let manifest = inspected.manifest(&package, &document.version).map_err(|error| refuse(&error))?;
        let served = manifest::serve(manifest, &inspected, &package, &document.version);
        let (files, unpacked_bytes) = (inspected.files, inspected.unpacked_bytes);
        Ok(Read::Version(Box::new(Upload { document, served, files, unpacked_bytes })))
    });
    read.await.unwrap_or_else(|_| Err(StoreError::GivenUp.into()))
}

async fn publish(request: &Request<'_>, claims: &RegistryClaims, upload: Upload) -> Answer {
    let Upload { document, served, files, unpacked_bytes } = upload;
    let (version, integrity) = (document.version.clone(), document.integrity);
    let place = request.place.clone();
    request.note_version(&version);
    // Before anything is written, so that what is refused leaves nothing on the disk.
    let standing = table::standing(&request.app.store.read()?, &place, &version)?;
    if let Some(hindered) = hindrance(standing, &version, &document.tags).1 {
        return answer(claims, &version, &integrity, hindered);
    }
    is_the_one_allowed(claims, &version, &integrity)?;
    meets_policy(request, claims, &version, &integrity)?;

    let (tarball, bundle) = (document.tarball, document.bundle);
    let size_bytes = tarball.len() as u64;
    let signature = signature::sign(request.app, place.package(), &version, &integrity)
        .map_err(|error| signature::cannot_sign(&error))?;
    let (app, own, number) = (Arc::clone(request.app), claims.clone(), version.clone());
    let registry = app.registry_url(&request.repository.name).audience();
    let written = tokio::task::spawn_blocking(move || {
        let candidate = Candidate {
            claims: &own,
            version: &number,
            sha256: Sha256::of(&tarball),
            integrity,
            bundle: bundle.as_ref(),
            required: app.config.requires_provenance(&own.tenant_id, &own.project_slug),
            registry,
            now: app.now(),
        };
        let admitted = admission::admit(&app, &candidate)?;
        let blobs = app.store.blobs();
        let stored = admitted.into_iter().map(|it| it.store(blobs)).collect::<Result<Vec<_>, _>>()?;
        Ok((blobs.put(&tarball)?, stored))
    });
    let written: Answer<(Sha256, Vec<Stored>)> =
        written.await.unwrap_or_else(|_| Err(StoreError::GivenUp.into()));
    let (sha256, stored) = written?;
    let (documents, attestations) = stored.into_iter().map(|it| (it.document, it.attestation)).unzip();

    // The upload took its time: the token may have been revoked meanwhile.
    if request.app.revoked.contains(&claims.jti) {
        return Err(Refusal::new(
            Code::TOKEN_REVOKED,
            "the token was revoked while the upload was under way",
        ));
    }
    let mut event = request.event("registry.publish");
    event.0.target.version = Some(version.clone());
    let build =
        builds::of_artifact(&request.app.store.read()?, &claims.tenant_id, place.package(), &integrity)?
            .filter(|build| build.version == version);
    let new = NewVersion {
        place: place.clone(),
        version: version.clone(),
        tags: document.tags,
        row: VersionRow {
            published: whole_seconds(request.app.now()),
            jti: claims.jti.clone(),
            sha256,
            size_bytes,
            integrity,
            shasum: document.shasum,
            files,
            unpacked_bytes,
            deprecated: None,
            signature: Some(signature),
            attestations,
            full: served.full,
            abbreviated: served.abbreviated,
        },
        documents,
        tenant_id: claims.tenant_id.clone(),
        project_slug: claims.project_slug.clone(),
        build_id: build.map(|build| build.id),
        publisher: claims.publisher.clone(),
        evidence_url: request.app.public_url.join(evidence::PATH).to_string(),
        event,
    };
    match request.app.store.write(move |txn| new.insert(txn)).await? {
        None => {
            request.registry.changed(&place);
            Ok(created(&version, &integrity))
        }
        Some(hindered) => answer(claims, &version, &integrity, hindered),
    }
}

/// Answers an upload that something stands in the way of.
fn answer(
    claims: &RegistryClaims,
    version: &PackageVersion,
    integrity: &Integrity,
    hindered: Hindrance,
) -> Answer {
    match hindered {
        Hindrance::Known(known) => already(claims, version, integrity, &known),
        Hindrance::Removed => Err(Refusal::new(
            Code::VERSION_EXISTS,
            format!("{}@{version} was published and taken back; its number stays used", claims.package_name),
        )),
        Hindrance::Tag(reason) => Err(Refusal::new(Code::INVALID_DOCUMENT, reason)
            .hint("publish with another dist-tag, such as `--tag next`")),
    }
}

/// Answers an upload of a version that is there.
///
/// npm sends a PUT again when the answer got lost: the same token with the same bytes is that, and nothing is
/// recorded twice. Everything else is a conflict that names both digests, so that a client can tell whether its
/// bytes are the ones that are there.
fn already(
    claims: &RegistryClaims,
    version: &PackageVersion,
    integrity: &Integrity,
    known: &VersionRow,
) -> Answer {
    let same = known.integrity == *integrity;
    if same && known.jti == claims.jti {
        return Ok(created(version, integrity));
    }
    let (package, stored) = (&claims.package_name, known.integrity);
    let message = if same {
        format!("{package}@{version} exists already with the same content: {stored}")
    } else {
        format!(
            "{package}@{version} exists already with different content: {stored}, and this upload has {integrity}"
        )
    };
    let rule = RuleResult {
        rule: "a version is published once".to_owned(),
        claim: "integrity".to_owned(),
        expected: stored.to_string(),
        actual: Some(integrity.to_string()),
        ok: same,
    };
    Err(Refusal::new(Code::VERSION_EXISTS, message).rules(None, vec![rule]))
}

fn created(version: &PackageVersion, integrity: &Integrity) -> Response {
    let body = serde_json::json!({"ok": true, "success": true, "version": version, "integrity": integrity});
    let mut response = json(body.to_string());
    *response.status_mut() = StatusCode::CREATED;
    response
}

/// Checks that the token, where it is bound to one artifact, is bound to this one. Attack: a job's token, caught
/// on its way, used within its five minutes for another version or other bytes.
fn is_the_one_allowed(
    claims: &RegistryClaims,
    version: &PackageVersion,
    integrity: &Integrity,
) -> Answer<()> {
    let rule = |claim: &str, expected: String, actual: String| RuleResult {
        rule: "the token is for this artifact".to_owned(),
        claim: claim.to_owned(),
        ok: expected == actual,
        expected,
        actual: Some(actual),
    };
    let of_version = claims.version.as_ref().map(|it| rule("version", it.to_string(), version.to_string()));
    let of_content = claims.integrity.map(|it| rule("integrity", it.to_string(), integrity.to_string()));
    let rules: Vec<RuleResult> = of_version.into_iter().chain(of_content).collect();
    match rules.iter().find(|rule| !rule.ok) {
        None => Ok(()),
        Some(wrong) => {
            let (claim, expected) = (&wrong.claim, &wrong.expected);
            let actual = wrong.actual.as_deref().unwrap_or_default();
            let message = format!("the token is bound to {claim} {expected}, and this upload has {actual}");
            Err(out_of_scope(message).rules(None, rules))
        }
    }
}

/// Check 11: what the artifact must be, by the token and by the package, whichever asks for more.
fn meets_policy(
    request: &Request<'_>,
    claims: &RegistryClaims,
    version: &PackageVersion,
    integrity: &Integrity,
) -> Answer<()> {
    let package = &claims.package_name;
    let configured = request.app.config.package(&claims.tenant_id, package);
    let configured = configured.map(|it| it.artifact_policy.as_slice()).unwrap_or_default();
    let policies: Vec<ArtifactPolicy> = claims.artifact_policy.iter().chain(configured).copied().collect();
    if policies.is_empty() {
        return Ok(());
    }
    let unmet = |message: String, hint: &str| {
        Err(Refusal::new(Code::ARTIFACT_POLICY_UNMET, message)
            .status(StatusCode::UNPROCESSABLE_ENTITY)
            .hint(hint))
    };
    if policies.contains(&ArtifactPolicy::EncryptedDelivery) {
        return unmet(
            format!("{package} reaches customers only as a sealed delivery, and is not published here"),
            "deliver it instead of publishing it",
        );
    }
    // A build on record stays on record, so what is seen here still holds when the version is written.
    let build = builds::of_artifact(&request.app.store.read()?, &claims.tenant_id, package, integrity)?;
    let met = build.is_some_and(|build| {
        build.version == *version && policies.iter().all(|policy| build.satisfied.contains(policy))
    });
    if met {
        return Ok(());
    }
    unmet(
        format!("no hardened build of {package}@{version} with {integrity} is on record"),
        "publish with `protected-registry publish`, which hardens and records the build",
    )
}

/// What stands in the way of a version.
enum Hindrance {
    /// It is there.
    Known(Box<VersionRow>),
    /// It was there once.
    Removed,
    /// A dist-tag may not be moved to it.
    Tag(String),
}

/// Returns the dist-tags as they are, and what stands in the way of adding a version under `tags`.
fn hindrance(
    standing: Standing,
    version: &PackageVersion,
    tags: &[DistTag],
) -> (Option<PackageRow>, Option<Hindrance>) {
    let Standing { package, version: known, removed } = standing;
    if let Some(known) = known {
        return (package, Some(Hindrance::Known(Box::new(known))));
    }
    if removed {
        return (package, Some(Hindrance::Removed));
    }
    let none = BTreeMap::new();
    let current = package.as_ref().map_or(&none, |package| &package.tags);
    let wrong = tags.iter().find_map(|tag| may_name(current, tag, version, Explicit(false)).err());
    (package, wrong.map(Hindrance::Tag))
}

/// A version on its way into the database.
struct NewVersion {
    place: Place,
    version: PackageVersion,
    tags: Vec<DistTag>,
    row: VersionRow,
    documents: Vec<NewDocument>,
    tenant_id: TenantId,
    project_slug: ProjectSlug,
    build_id: Option<String>,
    publisher: Option<Publisher>,
    evidence_url: String,
    event: NewEvent,
}

impl NewVersion {
    fn insert(self, txn: &WriteTransaction) -> Result<Option<Hindrance>, StoreError> {
        let Self { place, version, tags, row, event, .. } = self;
        let standing = table::standing_to_change(txn, &place, &version)?;
        let (package, hindered) = hindrance(standing, &version, &tags);
        if hindered.is_some() {
            return Ok(hindered);
        }
        // Everything is decided: from here on only a failing disk stops it, and that takes all of it back.
        let now = row.published;
        let new = PackageRow { revision: 0, created: now, modified: now, tags: BTreeMap::new() };
        let mut package = package.unwrap_or(new);
        let by = place.reference(&version);
        Blobs::refer(txn, &row.sha256, row.size_bytes, &by)?;
        for attestation in &row.attestations {
            Blobs::refer(txn, &attestation.sha256, attestation.size_bytes, &by)?;
        }
        table::put_version(txn, &place, &version, &row)?;
        package.revision += 1;
        package.modified = now;
        package.tags.extend(tags.into_iter().map(|tag| (tag, version.clone())));
        table::put_package(txn, &place, &package)?;
        let event = audit::append(txn, event)?;
        let subject =
            Subject { purl: place.package().purl(&version), sha256: row.sha256, sha512: Some(row.integrity) };
        let about = About {
            tenant_id: &self.tenant_id,
            project_slug: &self.project_slug,
            package_name: place.package(),
            version: &version,
            subject: &subject,
            build_id: self.build_id.as_deref(),
            token_jti: Some(&row.jti),
            publisher: self.publisher.as_ref(),
            audit_event_id: &event.id,
            producer: event.user_agent.as_deref().unwrap_or("unknown"),
            created_at: now,
            base_url: &self.evidence_url,
        };
        for document in self.documents {
            add(txn, document, &about)?;
        }
        Ok(None)
    }
}

/// Whether somebody asked for a tag by name, in a request for that alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Explicit(pub(super) bool);

/// Decides whether `tag` may name `version`: `latest` never goes back, and becomes a prerelease only when somebody
/// asks for exactly that. A client's `publish` sends `latest` whether or not its user said so.
pub(super) fn may_name(
    tags: &BTreeMap<DistTag, PackageVersion>,
    tag: &DistTag,
    version: &PackageVersion,
    explicit: Explicit,
) -> Result<(), String> {
    if *tag != DistTag::latest() {
        return Ok(());
    }
    if version.is_prerelease() && !explicit.0 {
        return Err(format!(
            "{version} is a prerelease, and `latest` is what everybody gets who asks for none"
        ));
    }
    match tags.get(tag) {
        Some(latest) if version < latest => {
            Err(format!("`latest` is {latest} and never moves back to {version}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_goes_forward_and_is_no_prerelease_by_accident() {
        let version = |text: &str| text.parse::<PackageVersion>().expect(text);
        let tags = BTreeMap::from([(DistTag::latest(), version("2.0.0"))]);
        let may = |tag: &str, to: &str, explicit| {
            may_name(&tags, &tag.parse().expect(tag), &version(to), Explicit(explicit)).is_ok()
        };
        for (tag, to, explicit, allowed) in [
            ("latest", "2.0.1", false, true),
            ("latest", "2.0.0", true, true),
            ("latest", "1.9.9", false, false),
            ("latest", "1.9.9", true, false),
            ("latest", "2.0.0-rc.1", true, false),
            ("latest", "2.1.0-rc.1", false, false),
            ("latest", "2.1.0-rc.1", true, true),
            ("next", "2.1.0-rc.1", false, true),
            ("old", "1.9.9", false, true),
        ] {
            assert_eq!(may(tag, to, explicit), allowed, "{tag} {to} {explicit}");
        }
    }
}
