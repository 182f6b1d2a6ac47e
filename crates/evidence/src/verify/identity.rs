//! Who signed, and who has to.

use std::{fmt, str::FromStr};

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

/// Who has to have signed: what stands here has to be so, and what does not is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Identity {
    /// The issuer of the ID token, such as `https://token.actions.githubusercontent.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Pattern>,
    /// The certificate's subject alternative name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Pattern>,
    /// The source repository's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<Pattern>,
    /// The source repository's immutable id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<Pattern>,
    /// The immutable id of its owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_id: Option<Pattern>,
    /// The full ref.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<Pattern>,
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Pattern>,
    /// The workflow that runs, with its ref.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<Pattern>,
    /// What started the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Pattern>,
    /// `github-hosted`, `self-hosted`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<Pattern>,
    /// The deployment environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Pattern>,
}

impl Identity {
    /// Holds a signer against what is demanded.
    ///
    /// # Errors
    /// The first member that is not as demanded, and any demand where a key signed.
    pub fn check(&self, signer: &Signer) -> Result<(), Refused> {
        let demands = self.demands();
        let certificate = match signer {
            Signer::Certificate(certificate) => certificate,
            Signer::Key { sha256 } => {
                return match demands.first() {
                    None => Ok(()),
                    Some((name, pattern, _)) => {
                        let expected = format!("a certificate of {name} `{pattern}`");
                        Err(Refused::new(Check::Identity, expected, format!("the key {sha256}")))
                    }
                };
            }
        };
        for (name, pattern, member) in demands {
            let found = member(certificate);
            if !found.is_some_and(|found| pattern.matches(found)) {
                let found = found.map_or_else(|| "none".to_owned(), |found| format!("`{found}`"));
                return Err(Refused::new(Check::Identity, format!("{name} `{pattern}`"), found));
            }
        }
        Ok(())
    }

    /// Returns whether anything is demanded.
    pub fn is_empty(&self) -> bool {
        self.demands().is_empty()
    }

    fn demands(&self) -> Vec<Demand<'_>> {
        let all: [(&str, &Option<Pattern>, Member); 11] = [
            ("issuer", &self.issuer, |it| it.issuer.as_deref()),
            ("subject", &self.subject, |it| Some(&it.subject)),
            ("repository", &self.repository, |it| it.repository.as_deref()),
            ("repository id", &self.repository_id, |it| it.repository_id.as_deref()),
            ("owner id", &self.owner_id, |it| it.owner_id.as_deref()),
            ("ref", &self.git_ref, |it| it.git_ref.as_deref()),
            ("commit", &self.commit, |it| it.commit.as_deref()),
            ("workflow", &self.workflow, |it| it.workflow.as_deref()),
            ("trigger", &self.trigger, |it| it.trigger.as_deref()),
            ("runner", &self.runner, |it| it.runner.as_deref()),
            ("environment", &self.environment, |it| it.environment.as_deref()),
        ];
        all.into_iter()
            .filter_map(|(name, pattern, member)| Some((name, pattern.as_ref()?, member)))
            .collect()
    }
}

type Member = fn(&Certificate) -> Option<&str>;
type Demand<'a> = (&'static str, &'a Pattern, Member);
