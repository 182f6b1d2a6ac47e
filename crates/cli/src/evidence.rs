//! What is said about a build: signed, written beside it, and attached to its record.

use std::fs;

use protected_evidence::{
    sbom::{CYCLONEDX_MEDIA_TYPE, SPDX_MEDIA_TYPE},
    sign::{Signed, StatementToSign},
    statement::{CYCLONEDX, PAYLOAD_TYPE, SPDX, Statement, Subject},
};
use protected_http::Client;
use protected_model::{
    api::evidence::{AttachmentRequest, BUNDLE_TYPE, Document},
    name::ProjectSlug,
};

use crate::{
    build::Built,
    context::{Context, Session},
    error::{CommandError, Kind},
    signing::{Signatures, Signing, Unsigned},
};

/// The folder of a build's evidence, in the build's folder.
const FOLDER: &str = "evidence";

/// Has what is said about a build signed, where anybody signs.
///
/// The bundles stand in the build's folder afterwards, each as `<statement>.sigstore.json`.
///
/// # Errors
/// When a statement cannot be signed, or a file not be written.
pub(crate) async fn sign(
    context: &Context,
    http: &Client,
    session: Option<&Session>,
    signing: &Result<Signing, Unsigned>,
    built: &Built,
) -> Result<Signatures, CommandError> {
    let signing = match signing {
        Ok(signing) => signing,
        Err(why) => return Ok(Signatures { signed: Vec::new(), unsigned: Some(*why) }),
    };
    let signed = signing.sign(context, http, session, statements(built)?).await?;
    for bundle in &signed {
        let path = built.folder.join(FOLDER).join(format!("{}.sigstore.json", bundle.name));
        fs::write(&path, &bundle.bundle).map_err(|error| {
            CommandError::new(Kind::Failed, format!("cannot write `{}`: {error}", path.display()))
        })?;
    }
    Ok(Signatures { signed, unsigned: None })
}

/// Returns what is said about a build: the statements among its documents, and one about each bill of materials.
fn statements(built: &Built) -> Result<Vec<StatementToSign>, CommandError> {
    let manifest = &built.manifest;
    let artifact = &manifest.artifact;
    let subject =
        Subject::npm(&manifest.package_name, &manifest.version, &artifact.sha256, &artifact.integrity);
    let mut statements = Vec::new();
    for document in &built.documents {
        let (name, predicate_type) = match document.media_type.split(';').next().unwrap_or_default() {
            PAYLOAD_TYPE => {
                let payload = document.inline.clone().into_bytes();
                statements.push(StatementToSign { name: document.kind.clone(), payload });
                continue;
            }
            CYCLONEDX_MEDIA_TYPE => ("sbom.cdx", CYCLONEDX),
            SPDX_MEDIA_TYPE => ("sbom.spdx", SPDX),
            _ => continue,
        };
        let cannot = |error: serde_json::Error| {
            CommandError::new(Kind::Failed, format!("cannot say `{name}` about the build: {error}"))
        };
        let predicate: serde_json::Value = serde_json::from_str(&document.inline).map_err(cannot)?;
        let statement = Statement::new(subject.clone(), predicate_type, predicate);
        statements
            .push(StatementToSign { name: name.to_owned(), payload: statement.to_json().map_err(cannot)? });
    }
    Ok(statements)
}

/// Attaches what was signed to the version's record with FractalOps.
///
/// # Errors
/// When FractalOps refuses; what was published stays published.
pub(crate) async fn attach(
    context: &Context,
    session: &Session,
    project: &ProjectSlug,
    built: &Built,
    build_id: Option<String>,
    signed: &[Signed],
) -> Result<(), CommandError> {
    if signed.is_empty() {
        return Ok(());
    }
    let manifest = &built.manifest;
    let documents = signed.iter().map(|signed| Document {
        kind: "sigstore-bundle".to_owned(),
        media_type: BUNDLE_TYPE.to_owned(),
        sha256: signed.sha256,
        inline: String::from_utf8_lossy(&signed.bundle).into_owned(),
    });
    let request = AttachmentRequest {
        tenant_id: None,
        project_slug: project.clone(),
        package_name: manifest.package_name.clone(),
        version: manifest.version.clone(),
        integrity: Some(manifest.artifact.integrity),
        build_id,
        bundle_id: None,
        documents: documents.collect(),
    };
    let started = std::time::Instant::now();
    let answer = context.cancel.or(session.fractalops.attach_evidence(&session.token, &request)).await?;
    let attached = answer.map_err(|error| {
        let doing = format!("attaching the evidence of `{}@{}`", manifest.package_name, manifest.version);
        CommandError::from_fractalops(&doing, error)
            .advise("run the same command again: what is published already is not published twice")
    })?;
    context.console.step("attach", format!("{} documents", attached.evidence.len()), started);
    Ok(())
}
