//! Verification summaries: that somebody verified a package, by which policy, and with what result.

use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};

use crate::statement::{DigestSet, ResourceDescriptor, Statement, Subject, VSA};

/// The predicate of a SLSA verification summary v1 (slsa.dev/spec/v1.1/verification_summary).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Who verified.
    pub verifier: Verifier,
    /// When, to the second.
    pub time_verified: Timestamp,
    /// What was verified: the purl.
    pub resource_uri: String,
    /// By which policy.
    pub policy: ResourceDescriptor,
    /// The documents that were looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub input_attestations: Vec<ResourceDescriptor>,
    /// The result.
    pub verification_result: VerificationResult,
    /// `SLSA_BUILD_LEVEL_2` and the like; `FAILED` where the result is.
    pub verified_levels: Vec<String>,
    /// The version of the levels.
    pub slsa_version: String,
}

/// Who verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verifier {
    /// A URI: the address of a service, or [`VERIFIER`].
    pub id: String,
    /// The versions of what verified.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub version: std::collections::BTreeMap<String, String>,
}

/// The verifier of who runs this program by hand.
pub const VERIFIER: &str = "https://protected-registry.dev/verifiers/cli";

/// How a verification ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum VerificationResult {
    /// Every check passed.
    Passed,
    /// At least one did not.
    Failed,
}

/// What was verified, for [`summary`].
#[derive(Clone, Debug)]
pub struct Summarised {
    /// Who verified.
    pub verifier: String,
    /// When.
    pub time: Timestamp,
    /// By which policy: its address or name, and its digest.
    pub policy: ResourceDescriptor,
    /// The documents that were looked at.
    pub inputs: Vec<ResourceDescriptor>,
    /// The level of SLSA's Build track that the documents show; `None` where any check failed.
    pub build_level: Option<u8>,
}

/// Says how the verification of `subject` ended: a statement that is ready to be signed.
pub fn summary(subject: Subject, about: Summarised) -> Statement<Summary> {
    let resource_uri = subject.name.clone();
    let (verification_result, level) = match about.build_level {
        Some(level) => (VerificationResult::Passed, format!("SLSA_BUILD_LEVEL_{level}")),
        None => (VerificationResult::Failed, "FAILED".to_owned()),
    };
    let predicate = Summary {
        verifier: Verifier {
            id: about.verifier,
            version: [("protected-registry".to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into(),
        },
        time_verified: about.time.round(Unit::Second).unwrap_or(about.time),
        resource_uri,
        policy: about.policy,
        input_attestations: about.inputs,
        verification_result,
        verified_levels: vec![level],
        slsa_version: "1.1".to_owned(),
    };
    Statement::new(subject, VSA, predicate)
}

/// Returns a document that was looked at, by name and digest.
pub fn input(name: &str, sha256: &protected_model::digest::Sha256) -> ResourceDescriptor {
    ResourceDescriptor {
        uri: Some(name.to_owned()),
        digest: DigestSet::from([("sha256".to_owned(), sha256.to_string())]),
        ..ResourceDescriptor::default()
    }
}

#[cfg(test)]
mod tests {
    use protected_model::digest::{Integrity, Sha256};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failed_verification_shows_no_level() {
        let (name, version) = ("@acme/core".parse().expect("name"), "1.2.3".parse().expect("version"));
        let subject = Subject::npm(&name, &version, &Sha256::of("a"), &Integrity::of("a"));
        let said = |build_level| {
            let about = Summarised {
                verifier: VERIFIER.to_owned(),
                time: "2026-01-02T03:04:05.2Z".parse().expect("time"),
                policy: input("policy.toml", &Sha256::of("policy")),
                inputs: vec![input("provenance.sigstore.json", &Sha256::of("bundle"))],
                build_level,
            };
            serde_json::to_value(summary(subject.clone(), about)).expect("json")
        };
        assert_eq!(
            said(Some(2))["predicate"],
            json!({
                "verifier": {"id": VERIFIER, "version": {"protected-registry": env!("CARGO_PKG_VERSION")}},
                "timeVerified": "2026-01-02T03:04:05Z",
                "resourceUri": "pkg:npm/%40acme/core@1.2.3",
                "policy": {"uri": "policy.toml", "digest": {"sha256": Sha256::of("policy")}},
                "inputAttestations": [{"uri": "provenance.sigstore.json", "digest": {"sha256": Sha256::of("bundle")}}],
                "verificationResult": "PASSED",
                "verifiedLevels": ["SLSA_BUILD_LEVEL_2"],
                "slsaVersion": "1.1",
            })
        );
        let failed = said(None);
        assert_eq!(failed["predicate"]["verificationResult"], "FAILED");
        assert_eq!(failed["predicate"]["verifiedLevels"], json!(["FAILED"]));
    }
}
