//! `submit-bundle`: a delivery that was sealed before, put on record.

use std::time::Instant;

use protected_model::{
    api::{
        delivery::Bundle,
        evidence::{AttachmentRequest, Document, EvidenceRecord},
    },
    delivery::DeliveryManifest,
};
use serde_json::json;

use crate::{
    args::{SubmitBundle, Unrepeated},
    context::{Context, Session},
    delivery::{self, MANIFEST},
    error::{CommandError, Kind},
    summary,
};

/// Submits one manifest.
///
/// # Errors
/// When it is not a manifest, holds what looks like a key, is not that of the bundle beside it, and when FractalOps
/// refuses.
pub(crate) async fn run(context: &Context, arguments: SubmitBundle) -> Result<(), CommandError> {
    let settings = &context.settings;
    settings.no_dry_run("submit-bundle")?;
    let path: Option<Unrepeated> = settings.value(arguments.manifest, "MANIFEST", None)?;
    let path = path.ok_or_else(|| {
        CommandError::usage("no manifest is named")
            .advise(format!("name it with --manifest: `{MANIFEST}` in the folder of the delivery"))
    })?;
    let path = settings.path(&path.0)?;
    let path = if path.is_dir() { path.join(MANIFEST) } else { path };
    let manifest = delivery::read_manifest(&path)?;
    // Where the bundle is not at hand, what FractalOps has on record names it by digest all the same.
    let (mut signed, mut signature) = (None, None);
    if let Some(folder) = path.parent()
        && let Ok(found) = delivery::find(folder)
    {
        let bundle = delivery::open(&found.bundle)?;
        if let Some(field) = delivery::contradiction(&manifest, &bundle) {
            let message = format!(
                "`{field}` of the manifest `{}` is not what `{}` says",
                path.display(),
                found.bundle.display()
            );
            return Err(CommandError::new(Kind::BadInput, message));
        }
        signed = Some(delivery::signed(&bundle));
        signature = delivery::statement(&bundle, &found.bundle)?;
    }
    let http = context.http()?;
    context.fractalops(&http)?;
    let session = context.log_in(&http).await?;
    let recorded = submit(context, &session, &manifest, signature).await?;
    context.console.output("bundle-id", manifest.bundle_id.as_str());
    context.console.output("bundle-manifest", &path.to_string_lossy());
    context.console.output("correlation-id", &context.correlation_id);
    let event = Some(recorded.audit_event_id.as_str());
    let signed = match &signed {
        None => "not looked at: the bundle is elsewhere".to_owned(),
        Some(unchecked) => summary::signatures(&[], unchecked),
    };
    context.console.summary(&summary::delivered(&manifest, &signed, event, &context.correlation_id));
    let document = json!({
        "bundle_id": manifest.bundle_id,
        "status": recorded.status,
        "created_at": recorded.created_at,
        "audit_event_id": recorded.audit_event_id,
        "evidence": recorded.evidence,
    });
    context.console.result(&format!("{} is on record", manifest.bundle_id), &document);
    Ok(())
}

/// Puts a delivery on record, and with it the signed statement over its bundle, where it has one.
///
/// # Errors
/// When FractalOps refuses, or has another one under this name.
pub(super) async fn submit(
    context: &Context,
    session: &Session,
    manifest: &DeliveryManifest,
    statement: Option<Document>,
) -> Result<Bundle, CommandError> {
    let started = Instant::now();
    let work = session.fractalops.register_delivery(&session.token, manifest);
    let doing = format!("putting the delivery `{}` on record", manifest.bundle_id);
    let recorded = context.cancel.or(work).await?;
    let mut recorded = recorded.map_err(|error| CommandError::from_fractalops(&doing, error))?;
    let how = format!("{} since {}", manifest.bundle_id, recorded.created_at);
    context.console.step("record", how, started);
    let is_new = |it: &Document| !recorded.evidence.iter().any(|there| there.sha256 == it.sha256);
    if let Some(statement) = statement.filter(is_new) {
        let attached = attach(context, session, manifest, statement).await?;
        recorded.evidence.extend(attached);
    }
    Ok(recorded)
}

/// Attaches the signed statement over its bundle to the record of a delivery.
async fn attach(
    context: &Context,
    session: &Session,
    manifest: &DeliveryManifest,
    statement: Document,
) -> Result<Vec<EvidenceRecord>, CommandError> {
    let started = Instant::now();
    let request = AttachmentRequest {
        tenant_id: None,
        project_slug: manifest.project_slug.clone(),
        package_name: manifest.package_name.clone(),
        version: manifest.version.clone(),
        integrity: None,
        build_id: manifest.build_id.clone(),
        bundle_id: Some(manifest.bundle_id.clone()),
        documents: vec![statement],
    };
    let answer = context.cancel.or(session.fractalops.attach_evidence(&session.token, &request)).await?;
    let attached = answer.map_err(|error| {
        let doing = format!("attaching the signed statement over the delivery `{}`", manifest.bundle_id);
        CommandError::from_fractalops(&doing, error)
            .advise("the delivery is on record: the same command again attaches the statement")
    })?;
    context.console.step("attach", "the signed statement over its bundle", started);
    Ok(attached.evidence)
}
