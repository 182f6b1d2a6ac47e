//! What is trusted: the authorities, logs and keys that a bundle has to come from.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use protected_model::digest::Sha256;
use serde_json::Value;
use sigstore_types::{
    Artifact, Bundle, DerPublicKey, LogKeyId, SignatureBytes, SignatureContent, VerificationMaterialContent,
};
use sigstore_verify::{
    Error, PublicKeyVerificationPolicy, VerificationPolicy, VerificationResult, Verifier, bundle,
    crypto::{KeyAlgorithm, verify_signature},
    trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, TransparencyLog, TrustedRoot},
};

use super::{Certificate, Check, Refused, Signer};

/// The trusted root of who trusts a key and nothing else.
const NOTHING: &str = r#"{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#;

/// What is trusted: a Sigstore trusted root, a public key, or both.
///
/// Where the root lists transparency logs, every signature has to be logged in one of them; where it lists
/// certificate transparency logs, every certificate has to be in one. What it does not list is not asked for.
pub struct Trust {
    verifier: Verifier,
    root: TrustedRoot,
    key: Option<Key>,
}

/// A public key that is trusted by itself.
struct Key {
    der: DerPublicKey,
    sha256: Sha256,
    /// The name under which it was given, such as a keyid of an npm registry.
    id: Option<String>,
}

/// Why something cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// It is not a trusted root.
    #[error("expected a Sigstore trusted root (trusted_root.json): {0}")]
    Root(String),
    /// It is not a public key.
    #[error("expected a public key (PEM, `BEGIN PUBLIC KEY`): {0}")]
    Key(String),
}

impl Trust {
    /// Trusts what a `trusted_root.json` lists, or the `trustedRoot` of a `client_trust_config.json`.
    ///
    /// # Errors
    /// When it is neither, or lists a key or certificate that cannot be used.
    pub fn from_trusted_root(json: &[u8]) -> Result<Self, TrustError> {
        let refuse = |error: &dyn std::fmt::Display| TrustError::Root(error.to_string());
        let mut document: Value = serde_json::from_slice(json).map_err(|error| refuse(&error))?;
        if let Some(root) = document.get_mut("trustedRoot") {
            document = root.take();
        }
        let root = TrustedRoot::from_json(&document.to_string()).map_err(|error| refuse(&error))?;
        let verifier = Verifier::new(&root).map_err(|error| refuse(&error))?;
        Ok(Self { verifier, root, key: None })
    }

    /// Trusts the public-good instance of Sigstore, as it was when this version was built.
    ///
    /// # Errors
    /// When the root that `sigstore-trust-root` embeds cannot be used.
    pub fn public_good() -> Result<Self, TrustError> {
        Self::from_trusted_root(SIGSTORE_PRODUCTION_TRUSTED_ROOT.as_bytes())
    }

    /// Trusts one public key (PEM, SubjectPublicKeyInfo), and neither authority nor log.
    ///
    /// # Errors
    /// When it is not one.
    pub fn from_public_key(pem: &str) -> Result<Self, TrustError> {
        Self::from_trusted_root(NOTHING.as_bytes())?.with_key(pem, None)
    }

    /// Trusts a public key beside the root, under the name that bundles hint at.
    ///
    /// # Errors
    /// When it is not a public key.
    pub fn with_key(mut self, pem: &str, id: Option<String>) -> Result<Self, TrustError> {
        let refuse = |error: &dyn std::fmt::Display| TrustError::Key(error.to_string());
        let der = DerPublicKey::from_pem(pem).map_err(|error| refuse(&error))?;
        KeyAlgorithm::from_spki(&der).map_err(|error| refuse(&error))?;
        let sha256 = Sha256::of(der.as_bytes());
        self.key = Some(Key { der, sha256, id });
        Ok(self)
    }

    /// Verifies signature, certificate, log and timestamps.
    pub(super) fn verify(
        &self,
        bundle: &Bundle,
        artifact: Artifact<'_>,
    ) -> Result<(Signer, Vec<Timestamp>), Refused> {
        let material = &bundle.verification_material;
        if !self.root.tlogs.is_empty() && material.tlog_entries.is_empty() {
            return Err(Refused::new(Check::Log, "an entry in a log of the trusted root", "none"));
        }
        match &material.content {
            VerificationMaterialContent::PublicKey(_) => self.verify_key(bundle, artifact),
            _ => self.verify_certificate(bundle, artifact),
        }
    }

    fn verify_certificate(
        &self,
        bundle: &Bundle,
        artifact: Artifact<'_>,
    ) -> Result<(Signer, Vec<Timestamp>), Refused> {
        if self.root.certificate_authorities.is_empty() {
            return Err(Refused::new(Check::Certificate, "a signature of the trusted key", "a certificate"));
        }
        // Who it is, is judged by `Identity`, which names both sides.
        let mut policy = VerificationPolicy::any_identity();
        if self.root.tlogs.is_empty() {
            policy = policy.skip_tlog_unsafe();
        }
        if self.root.ctlogs.is_empty() {
            policy = policy.skip_sct();
        }
        let result =
            self.verifier.verify(artifact, bundle, &policy).map_err(|error| refused(&error, bundle))?;
        let certificate = Certificate::from_result(&result, bundle)
            .ok_or_else(|| Refused::new(Check::Certificate, "a certificate that was verified", "none"))?;
        Ok((Signer::Certificate(Box::new(certificate)), times(&result)))
    }

    fn verify_key(
        &self,
        bundle: &Bundle,
        artifact: Artifact<'_>,
    ) -> Result<(Signer, Vec<Timestamp>), Refused> {
        let Some(key) = &self.key else {
            return Err(Refused::new(
                Check::Certificate,
                "a certificate",
                "a signature of a key, and none is trusted",
            ));
        };
        let signer = Signer::Key { sha256: key.sha256 };
        let material = &bundle.verification_material;
        let timestamps = &material.timestamp_verification_data.rfc3161_timestamps;
        if material.tlog_entries.is_empty() && timestamps.is_empty() {
            return verify_bare(bundle, &key.der).map(|()| (signer, Vec::new()));
        }
        let mut policy = PublicKeyVerificationPolicy::new(key.der.clone());
        if self.root.tlogs.is_empty() {
            policy = policy.skip_tlog_unsafe();
        }
        let result =
            self.verifier.verify(artifact, bundle, &policy).map_err(|error| refused(&error, bundle))?;
        Ok((signer, times(&result)))
    }

    /// Returns the log of this id.
    pub(super) fn log(&self, id: &LogKeyId) -> Option<&TransparencyLog> {
        self.root.tlogs.iter().find(|log| log.log_id.key_id == *id)
    }

    /// Returns whether the root names the log of this id, in base64 as bundles have it.
    pub fn names_log(&self, id: &str) -> bool {
        self.root.tlogs.iter().any(|log| log.log_id.key_id.to_string() == id)
    }

    /// Returns whether this certificate (DER) is in a chain of the root's certificate authorities.
    pub(super) fn has_authority(&self, der: &[u8]) -> bool {
        let chains = self.root.certificate_authorities.iter().flat_map(|it| &it.cert_chain.certificates);
        chains.into_iter().any(|certificate| certificate.raw_bytes.as_bytes() == der)
    }

    /// Returns whether this certificate (DER) is in a chain of the root's timestamp authorities.
    pub(super) fn has_timestamp_authority(&self, der: &[u8]) -> bool {
        let chains = self.root.timestamp_authorities.iter().flat_map(|it| &it.cert_chain.certificates);
        chains.into_iter().any(|certificate| certificate.raw_bytes.as_bytes() == der)
    }

    /// Returns the name of the trusted key.
    pub(super) fn hint(&self) -> Option<String> {
        let key = self.key.as_ref()?;
        Some(key.id.clone().unwrap_or_else(|| STANDARD.encode(key.sha256.as_bytes())))
    }

    /// Returns whether `hint` names the trusted key: as it was given, or by its digest as Sigstore (base64),
    /// npm (`SHA256:` and base64 without padding) and people (hexadecimal) write it.
    pub(super) fn is_hint(&self, hint: &str) -> bool {
        let Some(key) = &self.key else { return false };
        let digest = STANDARD.encode(key.sha256.as_bytes());
        key.id.as_deref() == Some(hint)
            || hint == digest
            || hint.strip_prefix("SHA256:") == Some(digest.trim_end_matches('='))
            || hint == key.sha256.to_string()
    }
}

/// Verifies a statement that a key signed and that was neither logged nor timestamped, which `sigstore-verify`
/// takes in no mode.
fn verify_bare(bundle: &Bundle, key: &DerPublicKey) -> Result<(), Refused> {
    let SignatureContent::DsseEnvelope(envelope) = &bundle.content else {
        return Err(Refused::new(
            Check::Format,
            "a statement (DSSE)",
            "a signature over bytes, without a timestamp",
        ));
    };
    let scheme = KeyAlgorithm::from_spki(key)
        .map_err(|error| Refused::new(Check::Signature, "a key that can be used", error.to_string()))?
        .default_signing_scheme();
    verify_signature(key, &envelope.pae(), &envelope.signature.sig, scheme)
        .map_err(|error| Refused::new(Check::Signature, SIGNATURE, error.to_string()))
}

const SIGNATURE: &str = "a signature of the signer over this content";
const LOGGED: &str = "a proof that a log of the trusted root has this signature";

fn times(result: &VerificationResult) -> Vec<Timestamp> {
    let mut times = result.verified_timestamps().to_vec();
    times.sort();
    times.dedup();
    times
}

/// Says which check a refusal of `sigstore-verify` of `bundle` is.
fn refused(error: &Error, bundle: &Bundle) -> Refused {
    let is_statement = matches!(bundle.content, SignatureContent::DsseEnvelope(_));
    let (check, expected) = match error {
        // A statement was given its own digest, so that the other side can only be the log entry's.
        Error::ArtifactMismatch(_) if is_statement => (Check::Log, LOGGED),
        Error::SignatureInvalid(_) => (Check::Signature, SIGNATURE),
        Error::ArtifactMismatch(_) | Error::UnsupportedArtifact(_) => {
            (Check::Subject, "a signature about this artifact")
        }
        Error::Certificate(_) => {
            (Check::Certificate, "a certificate of a trusted authority, valid when the signature was made")
        }
        Error::TransparencyLog(_)
        | Error::Bundle(
            bundle::Error::MissingInclusionPromise(_)
            | bundle::Error::MissingInclusionProof(_)
            | bundle::Error::MissingCheckpoint
            | bundle::Error::LogIndexOutOfRange { .. }
            | bundle::Error::CheckpointRootMismatch,
        ) => (Check::Log, LOGGED),
        Error::Timestamp(_)
        | Error::Bundle(bundle::Error::MissingSigningTimeEvidence | bundle::Error::MissingTimestamp) => {
            (Check::Timestamp, "a timestamp of a trusted authority over this signature")
        }
        _ => (Check::Format, "a Sigstore bundle that can be verified"),
    };
    Refused::new(check, expected, error.to_string())
}

/// Verifies a registry's signature over `<name>@<version>:<integrity>`, as npm's registry makes it: ECDSA P-256 with
/// SHA-256, in DER and base64, by a key in base64 (DER, SubjectPublicKeyInfo).
///
/// # Errors
/// When it is not one.
pub fn registry_signature(key: &str, message: &str, signature: &str) -> Result<(), Refused> {
    let refuse = |found: &dyn std::fmt::Display| {
        Refused::new(Check::Signature, "a signature of the registry", found.to_string())
    };
    let key = STANDARD.decode(key).map_err(|error| refuse(&format!("a key that is not base64: {error}")))?;
    let bytes =
        STANDARD.decode(signature).map_err(|error| refuse(&format!("one that is not base64: {error}")))?;
    let key = DerPublicKey::new(key);
    let scheme = KeyAlgorithm::from_spki(&key).map_err(|error| refuse(&error))?.default_signing_scheme();
    verify_signature(&key, message.as_bytes(), &SignatureBytes::new(bytes), scheme)
        .map_err(|_| refuse(&"one that is not over this name, version and digest"))
}
