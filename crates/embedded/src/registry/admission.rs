//! Check 12: the provenance that a publisher attached, and what the registry says of a version itself.
//!
//! A bundle is taken for what it proves or not at all: it must be about these bytes under this name, chain to an
//! authority that is believed here, and name the run whose token publishes. Attack: a good bundle of another run,
//! another package or another tarball beside one's own upload, so that clients see a provenance that is not its own.
//!
//! The registry then signs two statements of its own with the key of [`super::signature`]: that it published the
//! version (npm's publish attestation), and what it verified of it (SLSA's verification summary). Both are logged and
//! timestamped where the service has an authority of its own.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use protected_evidence::{
    statement::{
        NPM_PUBLISH, PAYLOAD_TYPE, PROVENANCE, ResourceDescriptor, STATEMENT_TYPE_0_1, Statement, Subject,
    },
    verify::{self, Certificate, Check, Expected, ExpectedBuild, Refused, Signer, Trust, Verified},
    vsa::{self, Summarised},
};
use protected_model::{
    api::{
        evidence::BUNDLE_TYPE,
        problem::{Code, RuleResult},
    },
    claims::{Publisher, RegistryClaims},
    digest::{Integrity, Sha256},
    version::PackageVersion,
};
use serde::Serialize;
use serde_json::json;

use super::{document::Bundle, row::Attestation, signature::cannot_sign};
use crate::{
    app::App,
    fractalops::evidence::NewDocument,
    problem::{Answer, Refusal},
    sigstore::{self, Witnessed},
    store::{Blobs, StoreError},
};

/// How the predicate type of every provenance begins; npm still writes v0.2 on GitLab.
const ANY_PROVENANCE: &str = "https://slsa.dev/provenance/";
/// The largest bundle that is taken with a version: a provenance has some 20 KiB.
const BUNDLE_BYTES: usize = 4 << 20;

/// A version on its way in, as far as provenance is concerned.
pub(super) struct Candidate<'a> {
    pub(super) claims: &'a RegistryClaims,
    pub(super) version: &'a PackageVersion,
    pub(super) sha256: Sha256,
    pub(super) integrity: Integrity,
    pub(super) bundle: Option<&'a Bundle>,
    /// Whether there must be one.
    pub(super) required: bool,
    /// The repository's URL, as npm's publish attestation names the registry.
    pub(super) registry: String,
    pub(super) now: Timestamp,
}

/// A bundle about a version that is good to be stored.
pub(super) struct Admitted {
    /// What it is as evidence.
    kind: &'static str,
    media_type: String,
    predicate_type: String,
    text: String,
    npm: bool,
}

/// A bundle whose bytes are among the blobs.
pub(super) struct Stored {
    pub(super) document: NewDocument,
    pub(super) attestation: Attestation,
}

impl Admitted {
    /// Writes the bundle as a blob. Blocks: `spawn_blocking`.
    pub(super) fn store(self, blobs: &Blobs) -> Result<Stored, StoreError> {
        let sha256 = blobs.put(self.text.as_bytes())?;
        let size_bytes = self.text.len() as u64;
        Ok(Stored {
            document: NewDocument {
                kind: self.kind.to_owned(),
                media_type: self.media_type,
                sha256,
                size: size_bytes,
            },
            attestation: Attestation {
                predicate_type: self.predicate_type,
                sha256,
                size_bytes,
                npm: self.npm,
            },
        })
    }
}

/// Verifies what came with a version, and returns that with what the registry says. Computes, and waits for the log of the
/// authority: `spawn_blocking`.
pub(super) fn admit(app: &App, candidate: &Candidate<'_>) -> Answer<Vec<Admitted>> {
    let subject = Subject::npm(
        &candidate.claims.package_name,
        candidate.version,
        &candidate.sha256,
        &candidate.integrity,
    );
    let mut admitted = Vec::new();
    let mut level = 0;
    match candidate.bundle {
        Some(bundle) => {
            let (verified, predicate_type, npm) = verify_bundle(app, bundle, &subject)?;
            is_of_the_publisher(candidate.claims, &verified)?;
            level = build_level(&verified, &predicate_type)?;
            admitted.push(Admitted {
                kind: "sigstore-bundle",
                media_type: bundle.media_type.clone(),
                predicate_type,
                text: bundle.text.clone(),
                npm,
            });
        }
        None if candidate.required => {
            let package = &candidate.claims.package_name;
            return Err(Refusal::new(
                Code::PROVENANCE_REQUIRED,
                format!("{package}@{} has no provenance, and its project asks for one", candidate.version),
            )
            .hint("publish with `protected-registry publish`, which signs one, or with `npm publish --provenance`"));
        }
        None => {}
    }
    let inputs = admitted.iter().map(|it| vsa::input(&it.predicate_type, &Sha256::of(&it.text))).collect();
    admitted.push(published(app, candidate, &subject)?);
    admitted.push(summary(app, candidate, subject, inputs, level)?);
    Ok(admitted)
}

/// Verifies a bundle by whoever is believed here; the refusal is that of whoever it comes nearest to.
fn verify_bundle(app: &App, bundle: &Bundle, subject: &Subject) -> Answer<(Verified, String, bool)> {
    if bundle.text.len() > BUNDLE_BYTES {
        let message =
            format!("the provenance has {} bytes, and at most {BUNDLE_BYTES} are taken", bundle.text.len());
        return Err(Refusal::new(Code::TOO_LARGE, message));
    }
    let own = sigstore::trusted_root(app)?.map(|root| Trust::from_trusted_root(root.to_string().as_bytes()));
    let own = own.transpose().map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "the authority's own root cannot be used");
        Refusal::new(Code::INTERNAL, "the authority's own trusted root cannot be used")
    })?;
    // The identity is judged afterwards, by the token's claims.
    let expected = Expected { subject, predicate_type: None, identity: None };
    let verify = |trust: &Trust| verify::bundle(bundle.text.as_bytes(), trust, &expected);
    let mut nearest: Option<Refused> = None;
    // npm's first: what chains to it is served where npm looks, whoever else believes it.
    for (trust, npm) in
        [(Some(&app.trusted.npm), true), (own.as_ref(), false), (app.trusted.other.as_ref(), false)]
    {
        match trust.map(verify) {
            None => {}
            Some(Ok(verified)) => {
                let Some(statement) = &verified.statement else {
                    return Err(refused(&Refused::new(
                        Check::Predicate,
                        PROVENANCE,
                        "a signature without a statement",
                    )));
                };
                let predicate_type = statement.predicate_type.clone();
                if !predicate_type.starts_with(ANY_PROVENANCE) {
                    return Err(refused(&Refused::new(Check::Predicate, PROVENANCE, predicate_type)));
                }
                return Ok((verified, predicate_type, npm));
            }
            Some(Err(error)) if nearest.as_ref().is_none_or(|nearest| error.check > nearest.check) => {
                nearest = Some(error);
            }
            Some(Err(_)) => {}
        }
    }
    let nothing = || Refused::new(Check::Certificate, "a trusted root", "none is configured");
    Err(refused(&nearest.unwrap_or_else(nothing)))
}

fn refused(refused: &Refused) -> Refusal {
    let rule = RuleResult {
        rule: "the attached provenance verifies".to_owned(),
        claim: refused.check.name().to_owned(),
        expected: shown(&refused.expected),
        actual: Some(shown(&refused.found)),
        ok: false,
    };
    let message = format!(
        "the attached provenance does not verify: {}: expected {}, found {}",
        rule.claim,
        rule.expected,
        shown(&refused.found)
    );
    Refusal::new(Code::PROVENANCE_REFUSED, message).rules(None, vec![rule])
}

/// Cuts what a stranger wrote to a bearable length.
fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_debug).collect()
}

/// Holds whom the certificate names against whom the token was minted for.
fn is_of_the_publisher(claims: &RegistryClaims, verified: &Verified) -> Answer<()> {
    let Signer::Certificate(certificate) = &verified.signer else {
        return Err(refused(&Refused::new(
            Check::Identity,
            "a certificate of the run that publishes",
            "a key",
        )));
    };
    let Some(publisher) = &claims.publisher else {
        return Err(refused(&Refused::new(
            Check::Identity,
            "the token of a CI run, whose identity the certificate can be held against",
            "a person's token",
        )));
    };
    let rules = rules(publisher, &claims.sub, certificate);
    let Some(wrong) = rules.iter().find(|rule| !rule.ok) else { return Ok(()) };
    let message = format!(
        "the attached provenance is signed by another run than the one that publishes: its {} is {}, and the token's is {}",
        wrong.claim,
        wrong.actual.as_deref().unwrap_or("absent"),
        wrong.expected
    );
    Err(Refusal::new(Code::PROVENANCE_REFUSED, message).rules(None, rules))
}

fn rules(publisher: &Publisher, subject: &str, certificate: &Certificate) -> Vec<RuleResult> {
    let rule = |claim: &str, expected: &str, actual: Option<&str>, ok: bool| RuleResult {
        rule: "the provenance is signed by the run that publishes".to_owned(),
        claim: claim.to_owned(),
        expected: shown(expected),
        actual: actual.map(shown),
        ok,
    };
    let same = |claim: &str, expected: &str, actual: Option<&str>| {
        rule(claim, expected, actual, actual == Some(expected))
    };
    let mut rules = vec![same("issuer", &publisher.issuer, certificate.issuer.as_deref())];
    match &publisher.repository_id {
        Some(id) => rules.push(same("repository_id", id, certificate.repository_id.as_deref())),
        // Jenkins, and issuers of which nothing but the subject is known: there the subject is the name.
        None => rules.push(same("subject", subject, Some(&certificate.subject))),
    }
    if let Some(commit) = &publisher.sha {
        rules.push(same("sha", commit, certificate.commit.as_deref()));
    }
    if let (Some(_), Some(workflow)) = (&publisher.repository_id, &publisher.workflow_ref) {
        // The certificate has the server's address before it.
        let actual = certificate.workflow.as_deref();
        let ok = actual.is_some_and(|actual| actual.ends_with(&format!("/{workflow}")));
        rules.push(rule("workflow_ref", workflow, actual, ok));
    }
    rules
}

/// Returns the level of SLSA's Build track that a verified provenance shows.
fn build_level(verified: &Verified, predicate_type: &str) -> Answer<u8> {
    if predicate_type != PROVENANCE {
        // An older form, which says less and is not held against its certificate: that there is one, and no more.
        return Ok(1);
    }
    let told = verify::provenance(verified, &ExpectedBuild::default()).map_err(|error| refused(&error))?;
    Ok(told.build_level)
}

/// npm's publish attestation: that this registry has published these bytes under this name.
fn published(app: &App, candidate: &Candidate<'_>, subject: &Subject) -> Answer<Admitted> {
    let predicate = json!({
        "name": candidate.claims.package_name,
        "version": candidate.version,
        "registry": candidate.registry,
    });
    let mut statement = Statement::new(subject.clone(), NPM_PUBLISH, predicate);
    // As npm's registry writes it.
    statement.kind = STATEMENT_TYPE_0_1.to_owned();
    sign(app, "publish-attestation", &statement)
}

/// SLSA's verification summary: what was verified here, by whom, and which level that shows.
fn summary(
    app: &App,
    candidate: &Candidate<'_>,
    subject: Subject,
    inputs: Vec<ResourceDescriptor>,
    level: u8,
) -> Answer<Admitted> {
    let snapshot = &candidate.claims.entitlement_snapshot_id;
    let policy = ResourceDescriptor {
        uri: Some(format!("{}/v1/packages/entitlements#{snapshot}", app.issuer())),
        ..ResourceDescriptor::default()
    };
    let about =
        Summarised { verifier: app.issuer(), time: candidate.now, policy, inputs, build_level: Some(level) };
    sign(app, "vsa", &vsa::summary(subject, about))
}

/// Signs a statement with the registry's key: a bundle whose key clients know from `/-/npm/v1/keys`.
fn sign<P: Serialize>(app: &App, kind: &'static str, statement: &Statement<P>) -> Answer<Admitted> {
    let payload = statement.to_json().map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, kind, "a statement cannot be written");
        Refusal::new(Code::INTERNAL, "the registry could not write its own statement; nothing was changed")
    })?;
    // DSSE v1.0.2, protocol.md: the pre-authentication encoding.
    let mut signed = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    signed.extend_from_slice(&payload);
    let signature = app.registry_keys.sign(&signed).map_err(|error| cannot_sign(&error))?;
    let spki = app.registry_keys.public().into_iter().find(|key| key.id == signature.key_id);
    let spki = spki.and_then(|key| STANDARD.decode(&key.spki).ok()).ok_or_else(|| {
        Refusal::new(Code::INTERNAL, "the registry's own key cannot be shown; nothing was changed")
    })?;
    // This is a thread that may wait: see `admit`.
    let witnessed =
        tokio::runtime::Handle::current().block_on(sigstore::witness(app, &spki, &signed, &signature.der))?;
    let mut material = json!({"publicKey": {"hint": signature.key_id}});
    if let Some(Witnessed { entries, timestamps }) = witnessed {
        material["tlogEntries"] = entries;
        material["timestampVerificationData"] = timestamps;
    }
    let bundle = json!({
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": material,
        "dsseEnvelope": {
            "payload": STANDARD.encode(&payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": STANDARD.encode(&signature.der), "keyid": signature.key_id}],
        },
    });
    Ok(Admitted {
        kind,
        media_type: BUNDLE_TYPE.to_owned(),
        predicate_type: statement.predicate_type.clone(),
        text: bundle.to_string(),
        npm: false,
    })
}

/// The predicate types that the registry signs itself.
#[cfg(test)]
pub(super) const OWN: [&str; 2] = [NPM_PUBLISH, protected_evidence::statement::VSA];
