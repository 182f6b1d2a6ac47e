//! The signed documents about a package: who signed them, and whether what they say is so.

use std::{borrow::Cow, collections::BTreeMap, fs};

use protected_evidence::{
    statement::{self, ResourceDescriptor, Subject as Artifact},
    verify::{self, Check, Expected, LogEntry, Package, Refused, Signer, Told, Verified},
    vsa,
};
use protected_model::digest::Sha256;
use protected_npm::pack::Packed;
use serde_json::Value;

use super::{
    Finding, Outcome,
    document::{Document, SIGNED, attestations, cannot_read, document},
    place::Place,
    policy::{Believed, Policy},
    registry::{RegistryKey, Served},
};
use crate::error::CommandError;

/// What is expected of a signer whom nobody named.
pub(super) const NAMED: &str = "a signer that is stated with --identity and --issuer, or a policy";

/// The documents that stand unsigned beside the signed ones, and what each is.
const UNSIGNED: [(&str, &str); 3] = [
    ("provenance.intoto.json", statement::PROVENANCE),
    ("sbom.cdx.json", statement::CYCLONEDX),
    ("sbom.spdx.json", statement::SPDX),
];

/// Every document about a package.
#[derive(Default)]
pub(super) struct Documents {
    pub(super) signed: Vec<Document>,
    unsigned: Vec<(&'static str, Document)>,
    /// Every file of the evidence, by name: what a provenance names as having come out of the build.
    files: BTreeMap<String, Sha256>,
}

/// What came of the documents.
#[derive(Default)]
pub(super) struct Judged {
    pub(super) rows: Vec<(&'static str, Finding)>,
    /// The level of SLSA's Build track that is shown.
    pub(super) build_level: u8,
    /// What was looked at.
    pub(super) inputs: Vec<ResourceDescriptor>,
}

impl Documents {
    /// Reads the documents that are named, or else those that stand beside the package.
    ///
    /// # Errors
    /// When one is there and cannot be read.
    pub(super) fn read(place: &Place, named: &[std::path::PathBuf]) -> Result<Self, CommandError> {
        let mut documents = Self::default();
        let folder = &place.evidence;
        let mut paths: Vec<_> = match fs::read_dir(folder) {
            Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(cannot_read(folder, &error)),
        };
        for path in paths.iter().filter(|path| path.is_file()) {
            let Document { name, bytes } = document(path)?;
            documents.files.insert(name, Sha256::of(bytes));
        }
        if !named.is_empty() {
            for path in named {
                documents.signed.extend(attestations(document(path)?));
            }
            return Ok(documents);
        }
        let mut beside = place.tarball.clone().into_os_string();
        beside.push(SIGNED);
        paths.push(beside.into());
        paths.retain(|path| path.to_string_lossy().ends_with(SIGNED) && path.is_file());
        paths.sort();
        for path in paths {
            documents.signed.push(document(&path)?);
        }
        for (name, predicate_type) in UNSIGNED {
            let path = folder.join(name);
            if path.is_file() {
                documents.unsigned.push((predicate_type, document(&path)?));
            }
        }
        Ok(documents)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.signed.is_empty() && self.unsigned.is_empty()
    }

    /// Holds every document against the package and the policy.
    ///
    /// # Errors
    /// When what is trusted cannot be used.
    pub(super) fn judge(
        &self,
        packed: &Packed,
        policy: &Policy,
        believed: Option<&Believed>,
        served: Option<&Served>,
    ) -> Result<Judged, CommandError> {
        let mut judged = Judged::default();
        let artifact = Artifact::npm(&packed.name, &packed.version, &packed.sha256, &packed.integrity);
        let package = Package {
            subject: &artifact,
            sha256: &packed.sha256,
            sha512: &packed.integrity,
            files: &packed.files,
            sha1: &packed.sha1,
        };
        let mut verified: Vec<Verified> = Vec::new();
        for document in &self.signed {
            judged.inputs.push(vsa::input(&document.name, &Sha256::of(&document.bytes)));
            let Some(believed) = believed else { continue };
            let registry = served.and_then(|served| served.key_of(&document.bytes));
            let mut trust = believed.trust(registry.as_ref())?;
            let mut bytes = Cow::Borrowed(document.bytes.as_slice());
            let unknown = |key: &&RegistryKey| {
                !key.own_logs.is_empty() && !key.own_logs.iter().any(|log| trust.names_log(log))
            };
            if let Some(key) = registry.as_ref().filter(unknown) {
                trust = believed.by_key(key)?;
                bytes = unwitnessed(&document.bytes).into();
                let found = format!("{}: one that it does not name", document.name);
                judged.row(Check::Log.name(), Outcome::Note, "a log of the trusted root", found);
            }
            let expected = Expected { subject: &artifact, predicate_type: None, identity: None };
            match verify::bundle(&bytes, &trust, &expected) {
                Ok(good) if registry.is_some() && says_the_registry(&good) => {
                    judged.registry(document, &good)
                }
                Ok(good) => {
                    judged.signed(document, &good, policy);
                    judged.said(document, &good, policy, &package, &self.files);
                    verified.push(good);
                }
                Err(refused) => judged.refused(document, refused),
            }
        }
        for (predicate_type, document) in &self.unsigned {
            judged.unsigned(document, predicate_type, &verified, &package);
        }
        for required in policy.documents() {
            let wanted = required.predicate_type();
            let there = verified.iter().filter_map(|it| it.statement.as_ref());
            if !there.into_iter().any(|statement| statement.predicate_type == wanted) {
                let found = if self.signed.is_empty() { "no signed document" } else { "none that verifies" };
                judged.row(Check::Signature.name(), Outcome::Failed, format!("a signed {wanted}"), found);
            }
        }
        Ok(judged)
    }
}

impl Judged {
    fn row(
        &mut self,
        name: &'static str,
        outcome: Outcome,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        let (expected, found) = (expected.into(), found.into());
        self.rows.push((name, Finding { outcome, expected, found, differences: Vec::new() }));
    }

    fn refused(&mut self, document: &Document, refused: Refused) {
        let found = format!("{}, in {}", refused.found, document.name);
        self.row(refused.check.name(), Outcome::Failed, refused.expected, found);
    }

    /// Tells what the registry says itself. It is not asked who that is: the policy is about who builds.
    fn registry(&mut self, document: &Document, good: &Verified) {
        let Some(statement) = &good.statement else { return };
        let found = format!("{}: {}, by the registry's own key", document.name, statement.predicate_type);
        self.row(Check::Signature.name(), Outcome::Ok, "a signature of the registry", found);
        self.witnessed(document, good);
        if statement.predicate_type == statement::VSA {
            self.summary(document, good);
        }
    }

    /// Tells what somebody who verified the package says of it.
    fn summary(&mut self, document: &Document, good: &Verified) {
        match verify::summary(good) {
            Ok(summary) => {
                let levels = summary.verified_levels.join(", ");
                let found = format!("{}: PASSED, {levels}, says {}", document.name, summary.verifier.id);
                self.row(Check::Summary.name(), Outcome::Ok, "a verification that passed", found);
            }
            Err(refused) => self.refused(document, refused),
        }
    }

    /// Tells of each file that the build made beside the package whether it is still that one.
    ///
    /// Attack: a build manifest or a list of files that was changed afterwards, beside a provenance that is good.
    fn byproducts(&mut self, document: &Document, told: &Told, files: &BTreeMap<String, Sha256>) {
        for byproduct in &told.byproducts {
            let named = byproduct.name.as_ref().and_then(|name| Some((name, files.get(name)?)));
            if let (Some((name, found)), Some(expected)) = (named, byproduct.digest.get("sha256"))
                && *expected != found.to_string()
            {
                let expected = format!("`{name}` with SHA-256 {expected}, as the provenance has it");
                self.refused(document, Refused::new(Check::Provenance, expected, found.to_string()));
            }
        }
    }

    /// Tells who signed a document, where it is logged, and when.
    fn signed(&mut self, document: &Document, good: &Verified, policy: &Policy) {
        let what = good.statement.as_ref().map_or("its bytes", |statement| &statement.predicate_type);
        let name = &document.name;
        self.row(Check::Signature.name(), Outcome::Ok, "a signature", format!("{name}: {what}"));
        let found = format!("{}, in {name}", who(&good.signer));
        match policy.identity.check(&good.signer) {
            Err(refused) => self.refused(document, refused),
            // Attack: whoever has any identity at the authority whose root is trusted beside the key.
            Ok(()) if policy.names_key() && matches!(good.signer, Signer::Certificate(_)) => {
                self.row(Check::Identity.name(), Outcome::Failed, "a signature of the stated key", found);
            }
            Ok(()) if policy.identity.is_empty() && matches!(good.signer, Signer::Certificate(_)) => {
                self.row(Check::Identity.name(), Outcome::Note, NAMED, found);
            }
            Ok(()) => self.row(Check::Identity.name(), Outcome::Ok, "the stated signer", found),
        }
        self.witnessed(document, good);
    }

    /// Tells where a signature is logged, and when it was made.
    fn witnessed(&mut self, document: &Document, good: &Verified) {
        let name = &document.name;
        for LogEntry { log, index, kind, tree_size } in &good.log {
            let found = format!("{name}: entry {index} of {tree_size} in {log} ({kind})");
            self.row(Check::Log.name(), Outcome::Ok, "a log entry", found);
        }
        if let Some(time) = good.times.first() {
            self.row(Check::Timestamp.name(), Outcome::Ok, "a time", format!("{name}: {time}"));
        }
    }

    /// Tells whether what a document says is so.
    fn said(
        &mut self,
        document: &Document,
        good: &Verified,
        policy: &Policy,
        package: &Package<'_>,
        files: &BTreeMap<String, Sha256>,
    ) {
        let Some(said) = &good.statement else { return };
        match said.predicate_type.as_str() {
            statement::PROVENANCE => match verify::provenance(good, &policy.build) {
                Ok(told) => {
                    if !policy.identity.is_empty() {
                        self.build_level = self.build_level.max(told.build_level);
                    }
                    let source = told.source.as_deref().unwrap_or("a source that is not named");
                    let commit = told.commit.as_deref().unwrap_or("no commit");
                    let found = format!("{source} at {commit}, built by {}", told.builder);
                    self.row(Check::Provenance.name(), Outcome::Ok, "provenance", found);
                    self.byproducts(document, &told, files);
                }
                Err(refused) => self.refused(document, refused),
            },
            kind if kind == statement::CYCLONEDX || kind.starts_with("https://spdx.dev/Document") => {
                self.sbom(document, &said.predicate, package, "signed");
            }
            statement::VSA => self.summary(document, good),
            _ => {}
        }
    }

    fn sbom(&mut self, document: &Document, content: &Value, package: &Package<'_>, how: &str) {
        match verify::sbom(content, package) {
            Ok(counted) => {
                let files = match counted.lists_files {
                    true => format!("all {} files", counted.files),
                    false => "no files".to_owned(),
                };
                let found = format!("{}, {how}: {} components, {files}", counted.format, counted.components);
                self.row(Check::Sbom.name(), Outcome::Ok, "a bill of materials", found);
            }
            Err(refused) => self.refused(document, refused),
        }
    }

    /// An unsigned document has to be the one that was signed, where one was; else what it says is all there is.
    fn unsigned(
        &mut self,
        document: &Document,
        predicate_type: &str,
        verified: &[Verified],
        package: &Package<'_>,
    ) {
        let is_provenance = predicate_type == statement::PROVENANCE;
        let check = if is_provenance { Check::Provenance } else { Check::Sbom };
        let content: Value = match serde_json::from_slice(&document.bytes) {
            Ok(content) => content,
            Err(error) => return self.refused(document, Refused::new(check, "JSON", error.to_string())),
        };
        let signed = verified.iter().filter_map(|it| it.statement.as_ref());
        let signed: Vec<_> = signed.filter(|statement| statement.predicate_type == predicate_type).collect();
        let same = signed.iter().any(|signed| match is_provenance {
            true => serde_json::to_value(signed).is_ok_and(|signed| signed == content),
            false => signed.predicate == content,
        });
        if same {
            return;
        }
        if !signed.is_empty() {
            return self.refused(document, Refused::new(check, "the document that is signed", "another one"));
        }
        if is_provenance {
            let said = serde_json::from_value::<statement::Statement>(content);
            let subject = said.ok().and_then(|said| said.subject.into_iter().next());
            match subject {
                Some(subject) if subject == *package.subject => {
                    let found = format!("{}: nobody signed it", document.name);
                    self.row(check.name(), Outcome::Note, "signed provenance", found);
                }
                other => {
                    let found = other.map_or_else(|| "none".to_owned(), |it| format!("one of {}", it.name));
                    let expected = format!("provenance of {} and its digests", package.subject.name);
                    self.refused(document, Refused::new(check, expected, found));
                }
            }
        } else {
            self.sbom(document, &content, package, "not signed");
        }
    }
}

/// Names who signed.
pub(super) fn who(signer: &Signer) -> String {
    match signer {
        Signer::Certificate(certificate) => match &certificate.issuer {
            Some(issuer) => format!("{} (issuer {issuer})", certificate.subject),
            None => certificate.subject.clone(),
        },
        Signer::Key { sha256 } => format!("key {sha256}"),
    }
}

/// Returns a bundle of a registry's key without its log entry and timestamp, for who cannot tell whose they are: the key is
/// what it is believed for, as it is where nothing is logged.
fn unwitnessed(bundle: &[u8]) -> Vec<u8> {
    let Ok(mut bundle) = serde_json::from_slice::<Value>(bundle) else { return bundle.to_vec() };
    if let Some(material) = bundle.get_mut("verificationMaterial").and_then(Value::as_object_mut) {
        material.remove("tlogEntries");
        material.remove("timestampVerificationData");
    }
    bundle.to_string().into_bytes()
}

/// Whether a statement is one that a registry makes for itself: that it published a version, or what it verified.
///
/// Attack: provenance that a registry signs with its own key would pass whatever the policy says of who builds.
fn says_the_registry(good: &Verified) -> bool {
    let own = [statement::NPM_PUBLISH, statement::VSA];
    good.statement.as_ref().is_some_and(|statement| own.contains(&statement.predicate_type.as_str()))
}
