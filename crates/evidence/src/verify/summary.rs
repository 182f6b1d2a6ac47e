//! Whether a verification summary is one of the package, and says that it passed.

use super::{Check, Refused, Verified};
use crate::{
    statement::{Statement, VSA},
    vsa::{Summary, VerificationResult},
};

/// Holds a verified bundle's verification summary (SLSA VSA v1) against its own subject: what was verified is the
/// package, it passed, and the levels are not those of a failure.
///
/// # Errors
/// The first member that is not as it has to be.
pub fn summary(verified: &Verified) -> Result<Summary, Refused> {
    let refuse = |expected: &str, found: String| Err(Refused::new(Check::Summary, expected, found));
    let Some(Statement { predicate_type, subject, predicate, .. }) = &verified.statement else {
        return refuse(VSA, "a signature without a statement".to_owned());
    };
    if predicate_type != VSA {
        return refuse(VSA, predicate_type.clone());
    }
    let summary: Summary = match serde_json::from_value(predicate.clone()) {
        Ok(summary) => summary,
        Err(error) => return refuse("a verification summary (SLSA VSA v1)", error.to_string()),
    };
    let name = subject.first().map_or("", |subject| &subject.name);
    // Attack: the summary of a good package, with the subject of another.
    if summary.resource_uri != name {
        return refuse(&format!("a summary of {name}"), format!("one of {}", summary.resource_uri));
    }
    let levels = summary.verified_levels.join(", ");
    if summary.verification_result != VerificationResult::Passed {
        return refuse("the result PASSED", format!("FAILED, says {}", summary.verifier.id));
    }
    if summary.verified_levels.is_empty() || summary.verified_levels.iter().any(|level| level == "FAILED") {
        return refuse(
            "levels that were verified",
            if levels.is_empty() { "none".to_owned() } else { levels },
        );
    }
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use protected_model::digest::{Integrity, Sha256};
    use serde_json::{Value, json};

    use super::*;
    use crate::{statement::Subject, verify::Signer, vsa};

    #[test]
    fn only_one_that_says_passed_is_one() {
        let (name, version) = ("@acme/core".parse().expect("name"), "1.2.3".parse().expect("version"));
        let subject = Subject::npm(&name, &version, &Sha256::of("a"), &Integrity::of("a"));
        let said = |build_level| {
            let about = vsa::Summarised {
                verifier: vsa::VERIFIER.to_owned(),
                time: "2026-01-02T03:04:05Z".parse().expect("time"),
                policy: vsa::input("policy.toml", &Sha256::of("policy")),
                inputs: Vec::new(),
                build_level,
            };
            serde_json::to_value(vsa::summary(subject.clone(), about)).expect("JSON")
        };
        let held = |statement: &Value| {
            let statement = serde_json::from_value(statement.clone()).expect("statement");
            let signer = Signer::Key { sha256: Sha256::of("key") };
            let (log, times) = (Vec::new(), Vec::new());
            summary(&Verified { statement: Some(statement), signer, log, times, sha256: Sha256::of("") })
        };
        let good = said(Some(2));
        assert_eq!(held(&good).expect("passed").verified_levels, ["SLSA_BUILD_LEVEL_2"]);
        assert_eq!(held(&said(None)).expect_err("failed").found, format!("FAILED, says {}", vsa::VERIFIER));
        for (pointer, lie) in [
            ("/predicateType", json!("https://slsa.dev/provenance/v1")),
            ("/subject/0/name", json!("pkg:npm/other@1.2.3")),
            ("/subject", json!([])),
            ("/predicate/resourceUri", json!("pkg:npm/%40acme/core@1.2.4")),
            ("/predicate/verificationResult", json!("FAILED")),
            ("/predicate/verificationResult", json!("passed")),
            ("/predicate/verifiedLevels", json!([])),
            ("/predicate/verifiedLevels/0", json!("FAILED")),
            ("/predicate/timeVerified", json!("yesterday")),
            ("/predicate/verifier", json!({})),
            ("/predicate", json!({})),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).expect(pointer) = lie.clone();
            assert_eq!(held(&bad).expect_err(pointer).check, Check::Summary, "{pointer} {lie}");
        }
    }
}
