//! One key, one certificate, and every statement of a run.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use protected_http::Client;
use protected_model::{digest::Sha256, hint::Hint, secret::Secret};
use sigstore_sign::{
    bundle::{BundleV03, VerificationMaterialV03},
    crypto::{KeyPair, SigningScheme, verify_signature},
    types::{
        Bundle, DerPublicKey, DsseEnvelope, DsseSignature, KeyId, PayloadBytes, Sha256Hash, SignatureBytes,
        SignatureContent, pae,
    },
};
use tokio::task::JoinSet;

use super::{
    Services, SignError,
    authority::{self, Certificate},
    log, timestamp,
};
use crate::{
    statement::{PAYLOAD_TYPE, Statement, Subject},
    verify::{self, Check, Expected, Refused, Signer as By, Trust, Verified},
};

/// How long a certificate still has to be valid for something to be signed with it.
const LEAST_VALIDITY: SignedDuration = SignedDuration::from_secs(60);
/// How often a statement is signed anew because the log knew the entry of an attempt whose answer was lost.
const MOST_ENTRIES: usize = 3;

/// A key that signs and never leaves its service. It is an ECDSA key on P-256.
#[async_trait]
pub trait StatementKey: Send + Sync {
    /// Returns the reference of the key.
    fn reference(&self) -> String;

    /// Returns the public key: DER, SubjectPublicKeyInfo (RFC 5280 section 4.1).
    fn public_key(&self) -> &[u8];

    /// Signs a message by its SHA-256 digest: DER, Ecdsa-Sig-Value (RFC 3279 section 2.2.3).
    async fn sign(&self, digest: &Sha256) -> Result<Vec<u8>, KeyFailure>;
}

/// Why a key did not sign, as its service says.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct KeyFailure {
    /// What happened.
    pub message: String,
    /// Whether it may go better later.
    pub transient: bool,
    /// What can be done about it.
    pub hint: Option<Hint>,
}

/// A statement before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementToSign {
    /// What it is called here, such as `provenance`.
    pub name: String,
    /// The statement as it stands in its file: in-toto Statement v1, JSON.
    pub payload: Vec<u8>,
}

/// A signed statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// What it was called.
    pub name: String,
    /// Sigstore bundle v0.3, JSON.
    pub bundle: Vec<u8>,
    /// The digest of [`Self::bundle`].
    pub sha256: Sha256,
    /// Where it is logged.
    pub log: Option<SignedLog>,
    /// The times that it was signed at, as the log and the timestamp authority say.
    pub times: Vec<Timestamp>,
}

/// Where a statement is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedLog {
    /// The log's base URL.
    pub url: String,
    /// The entry's number in that log.
    pub index: u64,
}

/// Signs. Cheap to clone.
#[derive(Clone)]
pub struct Signer(Arc<Inner>);

struct Inner {
    http: Client,
    services: Services,
    credential: Credential,
    trust: Trust,
}

enum Credential {
    /// A key of this run alone, and whom the certificate says it belongs to.
    Certified { key: KeyPair, certificate: Certificate },
    /// A key that was there before, told by its hint.
    Keyed { key: Box<dyn StatementKey>, public_key: DerPublicKey, hint: String },
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("services", &self.0.services).finish_non_exhaustive()
    }
}

impl Signer {
    /// Makes a key for this run and has it certified for the identity of `token`: one round trip.
    ///
    /// # Errors
    /// When the certificate authority gives no certificate.
    pub async fn keyless(
        http: Client,
        services: Services,
        trust: Trust,
        token: &impl Secret,
    ) -> Result<Self, SignError> {
        let key = KeyPair::generate_ecdsa_p256().map_err(|error| SignError::Generate(error.to_string()))?;
        let Some(fulcio) = &services.fulcio else {
            return Err(SignError::Generate("no certificate authority is named".to_owned()));
        };
        let certificate = authority::certificate(&http, fulcio, token, &key).await?;
        let credential = Credential::Certified { key, certificate };
        Ok(Self(Arc::new(Inner { http, services, credential, trust })))
    }

    /// Signs with a key that is there already. `trust` is what vouches for the log and the timestamps, where there
    /// are any; the key is added to it.
    ///
    /// # Errors
    /// When the public key cannot be used.
    pub fn keyed(
        http: Client,
        services: Services,
        trust: Option<Trust>,
        key: Box<dyn StatementKey>,
    ) -> Result<Self, SignError> {
        let public_key = DerPublicKey::new(key.public_key().to_vec());
        let pem = public_key.to_pem();
        let trust = match trust {
            Some(trust) => trust.with_key(&pem, None),
            None => Trust::from_public_key(&pem),
        };
        let trust = trust.map_err(|error| SignError::Generate(error.to_string()))?;
        let hint = key_hint(key.public_key());
        let credential = Credential::Keyed { key, public_key, hint };
        Ok(Self(Arc::new(Inner { http, services, credential, trust })))
    }

    /// Returns whether what is signed now can be verified: a certificate lives for minutes, a build may take longer.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        match &self.0.credential {
            Credential::Certified { certificate, .. } => {
                certificate.info.not_after.duration_since(now) >= LEAST_VALIDITY
            }
            Credential::Keyed { .. } => true,
        }
    }

    /// Returns who signs: the identity in the certificate, or the hint of the key.
    pub fn identity(&self) -> String {
        match &self.0.credential {
            Credential::Certified { certificate, .. } => {
                let name = certificate.info.identity.as_ref().map(|name| name.as_str().to_owned());
                name.unwrap_or_else(|| "nobody".to_owned())
            }
            Credential::Keyed { hint, .. } => hint.clone(),
        }
    }

    /// Returns who said so: the issuer in the certificate.
    pub fn issuer(&self) -> Option<&str> {
        match &self.0.credential {
            Credential::Certified { certificate, .. } => certificate.info.issuer.as_deref(),
            Credential::Keyed { .. } => None,
        }
    }

    /// Returns what vouches for this signer, for what was signed before.
    pub fn trust(&self) -> &Trust {
        &self.0.trust
    }

    /// Refuses who signed something, unless that is who signs here: the same subject of the same issuer, or the same key.
    ///
    /// # Errors
    /// With who signs here, and who signed.
    pub fn check_own(&self, by: &By) -> Result<(), Refused> {
        let certified = |subject: &str, issuer: Option<&str>| match issuer {
            Some(issuer) => format!("{subject} (issuer {issuer})"),
            None => subject.to_owned(),
        };
        let (is_own, own) = match &self.0.credential {
            Credential::Certified { certificate, .. } => {
                let (subject, issuer) = (certificate.info.identity.as_ref(), self.issuer());
                let is_own = matches!(by, By::Certificate(by)
                    if subject.is_some_and(|own| own.as_str() == by.subject) && issuer == by.issuer.as_deref());
                (is_own, certified(&self.identity(), issuer))
            }
            Credential::Keyed { public_key, .. } => {
                let own = Sha256::of(public_key.as_bytes());
                (matches!(by, By::Key { sha256 } if *sha256 == own), format!("the key {own}"))
            }
        };
        if is_own {
            return Ok(());
        }
        let found = match by {
            By::Certificate(by) => certified(&by.subject, by.issuer.as_deref()),
            By::Key { sha256 } => format!("the key {sha256}"),
        };
        Err(Refused::new(Check::Identity, own, found))
    }

    /// Signs, logs, timestamps and verifies every one of `statements`, all at the same time: one round trip, and one
    /// more for a key in a service. Dropping the future stops it.
    ///
    /// # Errors
    /// At the first that fails; the rest is stopped, and no bundle is handed out.
    pub async fn sign(&self, statements: Vec<StatementToSign>) -> Result<Vec<Signed>, SignError> {
        let mut work = JoinSet::new();
        for (at, statement) in statements.into_iter().enumerate() {
            let inner = self.0.clone();
            work.spawn(async move { inner.sign(statement).await.map(|signed| (at, signed)) });
        }
        let mut signed = Vec::new();
        while let Some(joined) = work.join_next().await {
            signed.push(joined.map_err(|error| SignError::Generate(error.to_string()))??);
        }
        signed.sort_by_key(|(at, _)| *at);
        Ok(signed.into_iter().map(|(_, signed)| signed).collect())
    }
}

impl Inner {
    async fn sign(&self, statement: StatementToSign) -> Result<Signed, SignError> {
        let subject = subject(&statement)?;
        let message = pae(PAYLOAD_TYPE, &statement.payload);
        let digest = Sha256::of(&message);
        let mut tries = 0;
        let bundle = loop {
            tries += 1;
            let signature = self.signature(&message, &digest).await?;
            let key_id = match &self.credential {
                Credential::Certified { .. } => KeyId::default(),
                Credential::Keyed { hint, .. } => KeyId::new(hint.clone()),
            };
            let envelope = DsseEnvelope::new(
                PAYLOAD_TYPE,
                PayloadBytes::new(statement.payload.clone()),
                DsseSignature::new(signature, key_id),
            );
            match self.witness(envelope, &digest).await? {
                Some(bundle) => break bundle,
                // No two signatures are alike, so that a new one is a new entry.
                None if tries < MOST_ENTRIES => {}
                None => {
                    let found = format!("{tries} refused as known already");
                    let source = Refused::new(Check::Log, "a log that takes a new entry", found);
                    return Err(SignError::NotVerified { name: statement.name, source });
                }
            }
        };
        let bundle = bundle.to_json().map_err(|error| SignError::Generate(error.to_string()))?.into_bytes();
        // What is verified is what leaves, bytes and all.
        let verified = self.verify(&statement, &subject, &bundle)?;
        let log = self.services.log.as_ref().zip(verified.log.first());
        let log = log.map(|(log, entry)| SignedLog { url: log.url.audience(), index: entry.index });
        Ok(Signed { name: statement.name, bundle, sha256: verified.sha256, log, times: verified.times })
    }

    async fn signature(&self, message: &[u8], digest: &Sha256) -> Result<SignatureBytes, SignError> {
        match &self.credential {
            Credential::Certified { key, .. } => {
                let digest = Sha256Hash::new(*digest.as_bytes());
                key.sign_digest(&digest).map_err(|error| SignError::Generate(error.to_string()))
            }
            Credential::Keyed { key, public_key, .. } => {
                let failed = |source| SignError::Key { key: key.reference(), source };
                let signature = SignatureBytes::new(key.sign(digest).await.map_err(failed)?);
                // A service that signs with another version of its key than the one it shows is found here.
                verify_signature(public_key, message, &signature, SigningScheme::EcdsaP256Sha256).map_err(
                    |_| {
                        failed(KeyFailure {
                            message: "what it signed does not verify with the public key that it showed"
                                .to_owned(),
                            transient: false,
                            hint: None,
                        })
                    },
                )?;
                Ok(signature)
            }
        }
    }

    /// Has a signature logged and timestamped at the same time.
    async fn witness(&self, envelope: DsseEnvelope, digest: &Sha256) -> Result<Option<Bundle>, SignError> {
        let hash = Sha256Hash::new(*digest.as_bytes());
        let by = match &self.credential {
            Credential::Certified { certificate, .. } => log::Verifier::Certificate(&certificate.der),
            Credential::Keyed { public_key, .. } => log::Verifier::PublicKey(public_key),
        };
        let enter = async {
            match &self.services.log {
                Some(to) => log::enter(&self.http, to, &envelope, &hash, &by).await.map(|it| it.map(Some)),
                None => Ok(Some(None)),
            }
        };
        let stamp = async {
            match &self.services.timestamp {
                Some(at) => {
                    timestamp::stamp(&self.http, at, envelope.signature.sig.as_bytes()).await.map(Some)
                }
                None => Ok(None),
            }
        };
        let (entry, time) = tokio::try_join!(enter, stamp)?;
        let Some(entry) = entry else { return Ok(None) };
        let content = SignatureContent::DsseEnvelope(envelope);
        let material = match &self.credential {
            Credential::Certified { certificate, .. } => {
                VerificationMaterialV03::Certificate(certificate.der.clone())
            }
            Credential::Keyed { hint, .. } => VerificationMaterialV03::PublicKey { hint: hint.clone() },
        };
        let mut bundle = BundleV03::new(material, content);
        if let Some(entry) = entry {
            bundle = bundle.with_tlog_entry(entry);
        }
        if let Some(time) = time {
            bundle = bundle.with_rfc3161_timestamp(time);
        }
        Ok(Some(bundle.into_bundle()))
    }
}

impl Inner {
    /// Verifies what was made as a stranger would.
    fn verify(
        &self,
        statement: &StatementToSign,
        subject: &Subject,
        bundle: &[u8],
    ) -> Result<Verified, SignError> {
        let not_verified = |source| SignError::NotVerified { name: statement.name.clone(), source };
        let expected = Expected { subject, predicate_type: None, identity: None };
        let verified = verify::bundle(bundle, &self.trust, &expected).map_err(not_verified)?;
        let (expected, found) = match (&self.credential, &verified.signer) {
            (Credential::Certified { certificate, .. }, By::Certificate(found)) => {
                (Sha256::of(certificate.der.as_bytes()), found.sha256)
            }
            (Credential::Keyed { public_key, .. }, By::Key { sha256 }) => {
                (Sha256::of(public_key.as_bytes()), *sha256)
            }
            _ => {
                return Err(not_verified(Refused::new(
                    Check::Identity,
                    "our own key",
                    "another kind of key",
                )));
            }
        };
        if expected != found {
            let refused = Refused::new(Check::Identity, format!("our key {expected}"), format!("{found}"));
            return Err(not_verified(refused));
        }
        Ok(verified)
    }
}

/// Returns how a bundle names a public key (DER): base64 of its SHA-256, as cosign does it.
fn key_hint(public_key: &[u8]) -> String {
    STANDARD.encode(Sha256::of(public_key).as_bytes())
}

/// Returns the one artifact that a statement is about.
fn subject(statement: &StatementToSign) -> Result<Subject, SignError> {
    let refuse = |reason: String| SignError::Statement { name: statement.name.clone(), reason };
    let read: Statement =
        serde_json::from_slice(&statement.payload).map_err(|error| refuse(error.to_string()))?;
    match <[Subject; 1]>::try_from(read.subject) {
        Ok([one]) => Ok(one),
        Err(several) => Err(refuse(format!("expected one subject, found {}", several.len()))),
    }
}
