//! The documents that are kept about a version: what FractalOps calls each, and how they are told apart.

use protected_model::{
    api::evidence::{BUNDLE_TYPE, Document, STATEMENT_TYPE},
    build,
    digest::Sha256,
    integrity,
};
use serde::Serialize;
use serde_json::Value;

use crate::args::EvidenceType;

/// The media type of an SBOM of CycloneDX.
const CYCLONEDX: &str = "application/vnd.cyclonedx+json";
/// The media type of an SBOM of SPDX.
const SPDX: &str = "application/spdx+json";
/// The media type of the checksums of native installers.
const NATIVE_ARTIFACTS: &str = "application/vnd.protected-registry.native-artifacts.v1+json";

/// Writes a document of our own, in its canonical form.
pub(crate) fn document(kind: &str, media_type: &str, content: &impl Serialize) -> Document {
    let inline = String::from_utf8_lossy(&integrity::canonical(content)).into_owned();
    let sha256 = Sha256::of(&inline);
    Document { kind: kind.to_owned(), media_type: media_type.to_owned(), sha256, inline }
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
}
