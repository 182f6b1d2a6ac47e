//! The transparency log: what was signed goes in, proof that it is there comes out.

use std::{collections::HashMap, fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use protected_http::{Client, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sigstore_sign::{
    rekor::{HashedRekordV2, LogEntry, RekorV2KeyDetails},
    types::{DerCertificate, DerPublicKey, DsseEnvelope, KindVersion, Sha256Hash, TransparencyLogEntry},
};

use super::{
    Service, SignError, TransparencyLog,
    authority::{ATTEMPT, MAX_BYTES, RETRY},
};

/// What a log speaks. Version 1 and version 2 are different services with different entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum LogVersion {
    /// Rekor v1: an entry `dsse` 0.0.1, with the log's own time.
    V1,
    /// Rekor v2: an entry `hashedrekord` 0.0.2 over SHA-256 of what was signed; a timestamp is needed as well.
    #[default]
    V2,
}

impl TryFrom<u8> for LogVersion {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        match number {
            1 => Ok(Self::V1),
            2 => Ok(Self::V2),
            _ => Err("expected 1 or 2"),
        }
    }
}

impl From<LogVersion> for u8 {
    fn from(version: LogVersion) -> Self {
        match version {
            LogVersion::V1 => 1,
            LogVersion::V2 => 2,
        }
    }
}

impl FromStr for LogVersion {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().ok().and_then(|number: u8| Self::try_from(number).ok()).ok_or("expected 1 or 2")
    }
}

impl fmt::Display for LogVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        u8::from(*self).fmt(f)
    }
}

/// What a signature is checked with.
pub(super) enum Verifier<'a> {
    Certificate(&'a DerCertificate),
    PublicKey(&'a DerPublicKey),
}

impl Verifier<'_> {
    fn to_pem(&self) -> String {
        match self {
            Self::Certificate(certificate) => certificate.to_pem(),
            Self::PublicKey(key) => key.to_pem(),
        }
    }
}

/// Logs `envelope`, whose signature is over `pae`, the digest of its pre-authentication encoding.
///
/// `None` says that the log has this very entry: an earlier attempt got through, and its answer was lost.
///
/// # Errors
/// When the log is not there, refuses, or answers with something that is no entry.
pub(super) async fn enter(
    http: &Client,
    log: &TransparencyLog,
    envelope: &DsseEnvelope,
    pae: &Sha256Hash,
    verifier: &Verifier<'_>,
) -> Result<Option<TransparencyLogEntry>, SignError> {
    const SERVICE: Service = Service::Log;
    let post = match log.version {
        LogVersion::V1 => {
            // The envelope travels as text: the log hashes it as it reads it.
            let text =
                serde_json::to_string(envelope).map_err(|error| SignError::Generate(error.to_string()))?;
            http.post(log.url.join("api/v1/log/entries")).json(&json!({
                "apiVersion": "0.0.1",
                "kind": "dsse",
                "spec": { "proposedContent": {
                    "envelope": text,
                    "verifiers": [STANDARD.encode(verifier.to_pem())],
                } },
            }))
        }
        LogVersion::V2 => {
            let details = RekorV2KeyDetails::PkixEcdsaP256Sha256;
            let signature = &envelope.signature.sig;
            http.post(log.url.join("api/v2/log/entries")).json(&match verifier {
                Verifier::Certificate(der) => {
                    HashedRekordV2::new_with_certificate(pae, signature, der, details)
                }
                Verifier::PublicKey(der) => HashedRekordV2::new_with_public_key(pae, signature, der, details),
            })
        }
    };
    let post = post.header("accept", "application/json").timeout(ATTEMPT).retry(RETRY).max_bytes(MAX_BYTES);
    let answer = post.send().await.map_err(|source| SignError::Http { service: SERVICE, source })?;
    match answer.status {
        409 => return Ok(None),
        _ if !answer.is_success() => return Err(SignError::refused(SERVICE, &answer, None)),
        _ => {}
    }
    let entry = match log.version {
        LogVersion::V1 => entry_v1(&answer),
        LogVersion::V2 => read(&answer),
    }?;
    let expected = match log.version {
        LogVersion::V1 => KindVersion::DsseV001,
        LogVersion::V2 => KindVersion::HashedRekordV002,
    };
    let found = entry.kind_version;
    if found != expected {
        let write = |kind: KindVersion| format!("{} {}", kind.kind(), kind.version());
        let reason = format!("expected an entry {}, found {}", write(expected), write(found));
        return Err(SignError::answer(SERVICE, &answer, reason));
    }
    // Attack: a log that answers with another entry, true and signed, so that what was signed is logged nowhere.
    let signature = STANDARD.encode(envelope.signature.sig.as_bytes());
    let body: serde_json::Value =
        serde_json::from_slice(entry.canonicalized_body.as_bytes()).unwrap_or_default();
    let logged = match log.version {
        LogVersion::V1 => body.pointer("/spec/signatures/0/signature"),
        LogVersion::V2 => body.pointer("/spec/hashedRekordV002/signature/content"),
    };
    if logged.and_then(serde_json::Value::as_str) != Some(signature.as_str()) {
        let reason = "expected the entry of our signature, found that of another";
        return Err(SignError::answer(SERVICE, &answer, reason));
    }
    Ok(Some(entry))
}

fn read<T: serde::de::DeserializeOwned>(answer: &Response) -> Result<T, SignError> {
    serde_json::from_slice(answer.body())
        .map_err(|error| SignError::answer(Service::Log, answer, format!("it is no log entry: {error}")))
}

/// Reads `{"<uuid>": {...}}`.
fn entry_v1(answer: &Response) -> Result<TransparencyLogEntry, SignError> {
    let wrong = |reason: String| SignError::answer(Service::Log, answer, reason);
    let entries: HashMap<String, LogEntry> = read(answer)?;
    let mut entries = entries.into_values();
    let (Some(entry), None) = (entries.next(), entries.next()) else {
        return Err(wrong("expected one log entry".to_owned()));
    };
    entry
        .to_bundle_entry(KindVersion::DsseV001)
        .map_err(|error| wrong(format!("it is no log entry: {error}")))
}
