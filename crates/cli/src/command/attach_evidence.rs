//! `attach-evidence`: documents about a version, kept in FractalOps.

use std::{fs, path::Path, time::Instant};

use protected_model::{
    api::evidence::{AttachmentRequest, Document},
    digest::Sha256,
    name::PackageName,
    version::PackageVersion,
};

use crate::{
    args::{AttachEvidence, EvidenceType},
    console::human_size,
    context::Context,
    document::{name, recognised},
    error::{CommandError, Kind},
};

/// Attaches documents to a version that is published or has a build on record.
///
/// # Errors
/// When a file is not a document that is kept, and when FractalOps refuses.
pub(crate) async fn run(context: &Context, arguments: AttachEvidence) -> Result<(), CommandError> {
    let settings = &context.settings;
    settings.no_dry_run("attach-evidence")?;
    let text: Option<String> = settings.value(arguments.package, "PACKAGE", None)?;
    let text = text.ok_or_else(|| {
        CommandError::usage("no version is named").advise("name it with --package, such as @acme/core@1.2.3")
    })?;
    let (package_name, version) = coordinate(&text)?;
    let project_slug = settings.project(arguments.project)?;
    let kind = settings.choice(arguments.r#type, "TYPE", None)?;
    let read = |file| read(&settings.working_directory.join(file), kind);
    let documents = arguments.file.iter().map(read).collect::<Result<Vec<_>, _>>()?;

    let http = context.http()?;
    context.fractalops(&http)?;
    let session = context.log_in(&http).await?;
    let request = AttachmentRequest {
        tenant_id: None,
        project_slug,
        package_name: package_name.clone(),
        version: version.clone(),
        integrity: None,
        build_id: None,
        bundle_id: None,
        documents,
    };
    let started = Instant::now();
    let bytes: usize = request.documents.iter().map(|document| document.inline.len()).sum();
    let work = session.fractalops.attach_evidence(&session.token, &request);
    let doing = format!("attaching documents to {package_name}@{version}");
    let attached =
        context.cancel.or(work).await?.map_err(|error| CommandError::from_fractalops(&doing, error))?;
    let count = attached.evidence.len();
    context.console.step("evidence", format!("{count} documents, {}", human_size(bytes as u64)), started);
    let lines =
        attached.evidence.iter().map(|record| format!("{} {} {}", record.id, record.kind, record.sha256));
    context.console.output("correlation-id", &context.correlation_id);
    context.console.result(&lines.collect::<Vec<_>>().join("\n"), &attached.evidence);
    Ok(())
}

/// Reads `<name>@<version>`.
fn coordinate(text: &str) -> Result<(PackageName, PackageVersion), CommandError> {
    let usage = |reason: String| CommandError::usage(format!("the package `{text}`: {reason}"));
    let parts = text.rsplit_once('@').filter(|(name, _)| !name.is_empty());
    let (name, version) = parts.ok_or_else(|| usage("expected a version after `@`".to_owned()))?;
    let name = name.parse().map_err(|error| usage(format!("{error}")))?;
    let version = version.parse().map_err(|error| usage(format!("{error}")))?;
    Ok((name, version))
}

fn read(path: &Path, expected: Option<EvidenceType>) -> Result<Document, CommandError> {
    let bad = |reason: String| CommandError::new(Kind::BadInput, format!("`{}` {reason}", path.display()));
    let inline = fs::read_to_string(path).map_err(|error| bad(format!("cannot be read: {error}")))?;
    let value = serde_json::from_str(&inline).map_err(|error| bad(format!("is not JSON: {error}")))?;
    let (kind, media_type) = recognised(&value).ok_or_else(|| {
        bad("is no document that is kept".to_owned()).advise(
            "kept are CycloneDX and SPDX in JSON, in-toto statements, Sigstore bundles, and this program's manifests",
        )
    })?;
    if let Some(expected) = expected.filter(|expected| *expected != kind) {
        return Err(bad(format!("was to be `{}`, and is `{}`", name(expected), name(kind))));
    }
    let sha256 = Sha256::of(&inline);
    Ok(Document { kind: name(kind).to_owned(), media_type: media_type.to_owned(), sha256, inline })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_named_whole() {
        let good = coordinate("@acme/core@1.2.3").map(|(name, version)| format!("{name} {version}"));
        assert_eq!(good.ok().as_deref(), Some("@acme/core 1.2.3"));
        for bad in ["@acme/core", "core", "@1.2.3", "@acme/core@latest", "@acme/core@", "1.2.3", ""] {
            assert!(coordinate(bad).is_err(), "{bad}");
        }
    }
}
