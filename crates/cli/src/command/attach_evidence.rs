//! `attach-evidence`: documents about a version, kept in FractalOps.

use std::{fs, path::Path, time::Instant};

use protected_model::{
    api::{
        build::Document,
        evidence::{AttachmentRequest, BUNDLE_TYPE, STATEMENT_TYPE},
    },
    build,
    digest::Sha256,
    integrity,
    name::PackageName,
    version::PackageVersion,
};
use serde_json::Value;

use crate::{
    args::{AttachEvidence, EvidenceType},
    console::human_size,
    context::Context,
    error::{CommandError, Kind},
};

/// The media type of an SBOM of CycloneDX.
const CYCLONEDX: &str = "application/vnd.cyclonedx+json";
/// The media type of an SBOM of SPDX.
const SPDX: &str = "application/spdx+json";
/// The media type of the checksums of native installers.
const NATIVE_ARTIFACTS: &str = "application/vnd.protected-registry.native-artifacts.v1+json";

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

/// Tells what a document is by what every one of its kind says of itself.
pub(crate) fn recognised(document: &Value) -> Option<(EvidenceType, &'static str)> {
    let text = |key: &str| document.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("bomFormat") == "CycloneDX" {
        return Some((EvidenceType::Sbom, CYCLONEDX));
    }
    if text("spdxVersion").starts_with("SPDX-") {
        return Some((EvidenceType::Sbom, SPDX));
    }
    if text("mediaType") == BUNDLE_TYPE {
        return Some((EvidenceType::SigstoreBundle, BUNDLE_TYPE));
    }
    if text("_type").starts_with("https://in-toto.io/Statement/") {
        let predicate = text("predicateType");
        return if predicate.starts_with("https://slsa.dev/provenance/") {
            Some((EvidenceType::Provenance, STATEMENT_TYPE))
        } else if predicate.starts_with("https://slsa.dev/verification_summary/") {
            Some((EvidenceType::Vsa, STATEMENT_TYPE))
        } else {
            None
        };
    }
    match text("schema") {
        integrity::MEDIA_TYPE => Some((EvidenceType::IntegrityManifest, integrity::MEDIA_TYPE)),
        build::MEDIA_TYPE => Some((EvidenceType::ProtectedBuild, build::MEDIA_TYPE)),
        NATIVE_ARTIFACTS => Some((EvidenceType::NativeArtifacts, NATIVE_ARTIFACTS)),
        _ => None,
    }
}

/// Returns what FractalOps calls a type.
pub(crate) fn name(kind: EvidenceType) -> &'static str {
    match kind {
        EvidenceType::Sbom => "sbom",
        EvidenceType::Provenance => "provenance",
        EvidenceType::Vsa => "vsa",
        EvidenceType::SigstoreBundle => "sigstore-bundle",
        EvidenceType::IntegrityManifest => "integrity-manifest",
        EvidenceType::ProtectedBuild => "protected-build",
        EvidenceType::NativeArtifacts => "native-artifacts",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_say_what_they_are() {
        for (document, expected) in [
            (json!({"bomFormat": "CycloneDX", "specVersion": "1.6"}), Some("sbom")),
            (json!({"spdxVersion": "SPDX-2.3"}), Some("sbom")),
            (json!({"mediaType": BUNDLE_TYPE}), Some("sigstore-bundle")),
            (
                json!({"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1"}),
                Some("provenance"),
            ),
            (
                json!({"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/verification_summary/v1"}),
                Some("vsa"),
            ),
            (json!({"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://example/x"}), None),
            (json!({"schema": integrity::MEDIA_TYPE}), Some("integrity-manifest")),
            (json!({"schema": build::MEDIA_TYPE}), Some("protected-build")),
            (json!({"schema": "other"}), None),
            (json!([]), None),
            (json!("CycloneDX"), None),
        ] {
            assert_eq!(recognised(&document).map(|(kind, _)| name(kind)), expected, "{document}");
        }
    }

    #[test]
    fn a_version_is_named_whole() {
        let good = coordinate("@acme/core@1.2.3").map(|(name, version)| format!("{name} {version}"));
        assert_eq!(good.ok().as_deref(), Some("@acme/core 1.2.3"));
        for bad in ["@acme/core", "core", "@1.2.3", "@acme/core@latest", "@acme/core@", "1.2.3", ""] {
            assert!(coordinate(bad).is_err(), "{bad}");
        }
    }
}
