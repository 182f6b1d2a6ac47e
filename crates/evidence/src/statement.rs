//! in-toto statements: what is said about which artifact.
//!
//! Shapes of the in-toto attestation framework, v1 (statement.md, digest_set.md, resource_descriptor.md).

use std::collections::BTreeMap;

use protected_model::{
    digest::{Integrity, Sha256},
    name::PackageName,
    version::PackageVersion,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The `_type` of the statements that are written here.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// The `_type` that npm still writes on GitLab, and in its publish attestations. Read, never written.
pub const STATEMENT_TYPE_0_1: &str = "https://in-toto.io/Statement/v0.1";

/// The `payloadType` of a DSSE envelope that holds a statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// Predicate type: SLSA provenance.
pub const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

/// Predicate type: a CycloneDX BOM.
pub const CYCLONEDX: &str = "https://cyclonedx.org/bom";

/// Predicate type: an SPDX 2.3 document.
pub const SPDX: &str = "https://spdx.dev/Document/v2.3";

/// Predicate type: a verification summary.
pub const VSA: &str = "https://slsa.dev/verification_summary/v1";

/// Predicate types: which delivery a bundle is, and that keys are its.
pub use protected_model::delivery::{DELIVERY_STATEMENT, KEYS_STATEMENT};

/// That a registry published a version (github.com/npm/attestation, specs/publish/v0.1).
pub const NPM_PUBLISH: &str = "https://github.com/npm/attestation/tree/main/specs/publish/v0.1";

/// Digests by in-toto's name of the algorithm (`sha256`, `sha512`, `gitCommit`), each in lower-case hexadecimal.
pub type DigestSet = BTreeMap<String, String>;

/// What is said about the artifacts that it names: in-toto Statement v1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Statement<P = Value> {
    /// [`STATEMENT_TYPE`].
    #[serde(rename = "_type")]
    pub kind: String,
    /// The artifacts. A statement that is written here has exactly one: npm, and its registry's endpoint, take the
    /// first alone.
    pub subject: Vec<Subject>,
    /// What kind of thing is said: one of the constants of this module.
    pub predicate_type: String,
    /// What is said.
    pub predicate: P,
}

impl<P> Statement<P> {
    /// Says `predicate` about `subject`.
    pub fn new(subject: Subject, predicate_type: &str, predicate: P) -> Self {
        let kind = STATEMENT_TYPE.to_owned();
        Self { kind, subject: vec![subject], predicate_type: predicate_type.to_owned(), predicate }
    }
}

impl<P: Serialize> Statement<P> {
    /// Returns the bytes that are signed: compact JSON, members in the order of this type.
    ///
    /// # Errors
    /// When the predicate has no JSON form, such as a map whose keys are not texts.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

/// An artifact: its name, and what its bytes hash to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// The purl of an npm package: `pkg:npm/%40acme/core@1.2.3`.
    #[serde(default)]
    pub name: String,
    /// `sha512`, which npm demands, and `sha256`, the one that sigstore-python compares.
    pub digest: DigestSet,
}

impl Subject {
    /// A version of an npm package, whose tarball has these digests.
    pub fn npm(name: &PackageName, version: &PackageVersion, sha256: &Sha256, sha512: &Integrity) -> Self {
        let digest = [("sha256", sha256.to_string()), ("sha512", sha512.hex())];
        Self {
            name: name.purl(version),
            digest: digest.map(|(algorithm, digest)| (algorithm.to_owned(), digest)).into(),
        }
    }
}

/// Something that took part in a build, or came out of it: in-toto ResourceDescriptor v1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceDescriptor {
    /// A name that means something to people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which resource: a purl, or `git+https://...@<ref>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// What its bytes hash to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digest: DigestSet,
    /// Where it can be fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download_location: Option<String>,
    /// What kind of document it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The bytes themselves, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, Value>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn subject() -> Subject {
        let (name, version) = ("@acme/core".parse().expect("name"), "1.2.3".parse().expect("version"));
        Subject::npm(&name, &version, &Sha256::of("a"), &Integrity::of("a"))
    }

    #[test]
    fn a_statement_is_in_totos() {
        let statement = Statement::new(subject(), PROVENANCE, json!({"a": 1}));
        let expected = concat!(
            r#"{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"pkg:npm/%40acme/core@1.2.3","digest":{"#,
            r#""sha256":"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb","#,
            r#""sha512":"1f40fc92da241694750979ee6cf582f2d5d7d28e18335de05abc54d0560e0f5302860c652bf08d560252aa5e74210546f369fbbbce8c12cfc7957b2652fe9a75"}}],"#,
            r#""predicateType":"https://slsa.dev/provenance/v1","predicate":{"a":1}}"#,
        );
        assert_eq!(String::from_utf8(statement.to_json().expect("json")).expect("text"), expected);
        assert_eq!(serde_json::from_str::<Statement>(expected).expect("statement"), statement);
    }

    #[test]
    fn a_resource_names_only_what_is_known() {
        let digest = DigestSet::from([("gitCommit".to_owned(), "0".repeat(40))]);
        let uri = Some("git+https://github.com/acme/core@refs/tags/v1".to_owned());
        let resource = ResourceDescriptor { uri, digest, ..ResourceDescriptor::default() };
        assert_eq!(
            serde_json::to_value(&resource).expect("json"),
            json!({"uri": "git+https://github.com/acme/core@refs/tags/v1", "digest": {"gitCommit": "0".repeat(40)}})
        );
    }

    #[test]
    fn refuses_what_is_not_a_statement() {
        let good = serde_json::to_value(Statement::new(subject(), VSA, json!({}))).expect("json");
        for missing in ["_type", "subject", "predicateType", "predicate"] {
            let mut bad = good.clone();
            bad.as_object_mut().expect("object").remove(missing);
            assert!(serde_json::from_value::<Statement>(bad).is_err(), "{missing}");
        }
        let mut more = good.clone();
        more["also"] = json!(1);
        assert!(serde_json::from_value::<Statement>(more).is_err());
        let twice = r#"{"_type":"a","_type":"b","subject":[],"predicateType":"c","predicate":{}}"#;
        assert!(serde_json::from_str::<Statement>(twice).is_err());
    }
}
