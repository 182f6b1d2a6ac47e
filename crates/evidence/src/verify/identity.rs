//! Who signed, and who has to.

use std::{collections::BTreeMap, fmt, str::FromStr};

use jiff::Timestamp;
use protected_model::{digest::Sha256, pattern};
use serde::{Deserialize, Serialize};
use sigstore_types::Bundle;
use sigstore_verify::VerificationResult;

use super::{Check, Refused, Signer};

/// What a certificate of a Fulcio-compatible authority says of whom it was made out to.
///
/// The members beside the subject and the issuer are the extensions 1.3.6.1.4.1.57264.1.*, which the authority fills
/// from a verified ID token (Fulcio, docs/oid-info.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Certificate {
    /// The subject alternative name: a URI, or an e-mail address.
    pub subject: String,
    /// The issuer of the ID token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The source repository's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The source repository's immutable id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,
    /// The immutable id of its owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<String>,
    /// The full ref.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    /// The commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The workflow that runs, with its ref.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// The workflow that was called and asked for the signature, with its ref: another one than `workflow` where
    /// that calls a reusable one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// What started the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// The run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// `github-hosted`, `self-hosted`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner: Option<String>,
    /// The deployment environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// From when on it is valid.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// SHA-256 of the certificate (DER).
    pub sha256: Sha256,
}

impl Certificate {
    pub(super) fn from_result(result: &VerificationResult, bundle: &Bundle) -> Option<Self> {
        if !result.certificate_verified() {
            return None;
        }
        let info = result.certificate()?;
        let claims = info.ci_claims.clone();
        Some(Self {
            subject: info.identity.as_ref()?.as_str().to_owned(),
            issuer: info.issuer.clone(),
            repository: claims.source_repository_uri,
            repository_id: claims.source_repository_identifier,
            owner_id: claims.source_repository_owner_identifier,
            git_ref: claims.source_repository_ref,
            commit: claims.source_repository_digest,
            workflow: claims.build_config_uri,
            signer: claims.build_signer_uri,
            trigger: claims.build_trigger,
            run: claims.run_invocation_uri,
            runner: claims.runner_environment,
            environment: claims.deployment_environment,
            not_before: info.not_before,
            not_after: info.not_after,
            sha256: Sha256::of(bundle.signing_certificate()?.as_bytes()),
        })
    }
}

/// A text, or a pattern of texts in which `*` stands for anything. It is held against the whole of a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

/// Why a text is not a [`Pattern`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` demands nothing: expected a text, in which `*` may stand for a part")]
pub struct PatternError(String);

impl Pattern {
    /// Returns whether the whole of `text` is of this pattern.
    pub fn matches(&self, text: &str) -> bool {
        pattern::matches(&self.0, text)
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.chars().all(|c| c == '*' || c.is_whitespace()) {
            return Err(PatternError(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a certificate says of who signed, by the name that a policy has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is the member of `Certificate` that has its name")]
pub enum Member {
    Issuer,
    Subject,
    Repository,
    RepositoryId,
    OwnerId,
    Ref,
    Commit,
    Workflow,
    Trigger,
    Runner,
    Environment,
}

impl Member {
    /// Returns the name that people see.
    fn name(self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::Subject => "subject",
            Self::Repository => "repository",
            Self::RepositoryId => "repository id",
            Self::OwnerId => "owner id",
            Self::Ref => "ref",
            Self::Commit => "commit",
            Self::Workflow => "workflow",
            Self::Trigger => "trigger",
            Self::Runner => "runner",
            Self::Environment => "environment",
        }
    }

    fn of(self, certificate: &Certificate) -> Option<&str> {
        let member = match self {
            Self::Issuer => &certificate.issuer,
            Self::Subject => return Some(&certificate.subject),
            Self::Repository => &certificate.repository,
            Self::RepositoryId => &certificate.repository_id,
            Self::OwnerId => &certificate.owner_id,
            Self::Ref => &certificate.git_ref,
            Self::Commit => &certificate.commit,
            Self::Workflow => &certificate.workflow,
            Self::Trigger => &certificate.trigger,
            Self::Runner => &certificate.runner,
            Self::Environment => &certificate.environment,
        };
        member.as_deref()
    }
}

/// Who has to have signed: what stands here has to be so, and what does not is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity(BTreeMap<Member, Pattern>);

impl Identity {
    /// Demands something of the signer, in the place of what was demanded of the same member.
    pub fn demand(&mut self, member: Member, pattern: Pattern) {
        self.0.insert(member, pattern);
    }

    /// Holds a signer against what is demanded.
    ///
    /// # Errors
    /// The first member that is not as demanded, and any demand where a key signed.
    pub fn check(&self, signer: &Signer) -> Result<(), Refused> {
        for (member, pattern) in &self.0 {
            let expected = format!("{} `{pattern}`", member.name());
            match signer {
                Signer::Certificate(certificate) => {
                    let found = member.of(certificate);
                    if !found.is_some_and(|found| pattern.matches(found)) {
                        let found = found.map_or_else(|| "none".to_owned(), |found| format!("`{found}`"));
                        return Err(Refused::new(Check::Identity, expected, found));
                    }
                }
                Signer::Key { sha256 } => {
                    let expected = format!("a certificate of {expected}");
                    return Err(Refused::new(Check::Identity, expected, format!("the key {sha256}")));
                }
            }
        }
        Ok(())
    }

    /// Returns whether anything is demanded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
