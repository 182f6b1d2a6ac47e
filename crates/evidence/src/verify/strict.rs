//! What `sigstore-verify` leaves open in a bundle, and what nobody may change all the same.
//!
//! Attack: a member that no signature covers is one that says what an attacker likes to whoever reads the bundle
//! later, such as the size of the tree in a log entry. So each is compared with the signed one that it repeats, and a
//! member that repeats none is refused.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::IgnoredAny};
use sigstore_types::{
    Bundle, Checkpoint, KindVersion, SignatureContent, TransparencyLogEntry, VerificationMaterialContent,
};
use sigstore_verify::crypto::VerificationKey;

use super::{Check, LogEntry, MAX_BUNDLE_BYTES, Refused, Trust};

/// Reads a bundle in which nothing is unknown and nothing stands twice.
pub(super) fn parse(bytes: &[u8]) -> Result<Bundle, Refused> {
    let refuse = |found: String| Refused::new(Check::Format, "a Sigstore bundle (v0.1 to v0.3)", found);
    if bytes.len() > MAX_BUNDLE_BYTES {
        return Err(refuse(format!("{} bytes, more than the {MAX_BUNDLE_BYTES} that are read", bytes.len())));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| refuse(error.to_string()))?;
    let Wire { .. } = serde_json::from_str(text).map_err(|error| refuse(error.to_string()))?;
    Bundle::from_json(text).map_err(|error| refuse(error.to_string()))
}

/// Holds what each log entry says beside the signed checkpoint against the checkpoint.
pub(super) fn log(bundle: &Bundle, trust: &Trust) -> Result<Vec<LogEntry>, Refused> {
    bundle.verification_material.tlog_entries.iter().map(|it| entry(it, trust)).collect()
}

fn entry(entry: &TransparencyLogEntry, trust: &Trust) -> Result<LogEntry, Refused> {
    let refuse = |expected: &str, found: &str| Refused::new(Check::Log, expected, found);
    let same = |what: &str, expected: &dyn std::fmt::Display, found: &dyn std::fmt::Display| {
        let (expected, found) = (expected.to_string(), found.to_string());
        if expected == found {
            return Ok(());
        }
        Err(Refused::new(Check::Log, format!("{what} {expected}"), format!("{what} {found}")))
    };
    let log = trust
        .log(&entry.log_id.key_id)
        .ok_or_else(|| refuse("a log of the trusted root", &format!("log {}", entry.log_id.key_id)))?;
    let proof = entry.inclusion_proof.as_ref().ok_or_else(|| refuse("an inclusion proof", "none"))?;
    let checkpoint = proof.checkpoint.checkpoint().ok_or_else(|| refuse("a checkpoint", "none"))?;
    let key = VerificationKey::from_spki(&log.public_key.raw_bytes)
        .map_err(|error| refuse("a log with a usable key", &error.to_string()))?;
    let mut signatures = checkpoint.signatures().iter();
    let own = signatures
        .find(|signature| key.verify(checkpoint.signed_data(), &signature.signature).is_ok())
        .ok_or_else(|| {
            refuse(
                &format!("a checkpoint signed by {}", log.base_url),
                &format!("one of {}", checkpoint.origin()),
            )
        })?;
    // Rekor v1 puts the tree's number behind the name: `rekor.sigstore.dev - 2605736670972794746`.
    let origin = checkpoint.origin().split(" - ").next().unwrap_or_default();
    same("a checkpoint signed as", &origin, &own.name)?;
    if note(checkpoint) != proof.checkpoint.envelope() {
        return Err(refuse("a checkpoint in its one form", "one with more in it than is signed"));
    }
    same("the tree size of the checkpoint,", &checkpoint.tree_size(), &proof.tree_size)?;
    same("the root hash of the checkpoint,", &checkpoint.root_hash().to_hex(), &proof.root_hash.to_hex())?;
    if entry.kind_version == KindVersion::HashedRekordV002 {
        same("the index of the entry,", &entry.log_index.get(), &proof.log_index.get())?;
        if entry.inclusion_promise.is_some() || entry.integrated_time.is_some() {
            return Err(refuse(
                "no time and no promise in an entry of Rekor v2, which signs neither",
                "one of them",
            ));
        }
    } else if entry.inclusion_promise.is_none() || entry.integrated_time.is_none() {
        return Err(refuse("the signed entry timestamp of an entry of Rekor v1", "none"));
    }
    Ok(LogEntry {
        log: log.base_url.clone(),
        index: entry.log_index.get(),
        kind: format!("{} {}", entry.kind_version.kind(), entry.kind_version.version()),
        tree_size: checkpoint.tree_size(),
    })
}

/// Returns the one text of a checkpoint with its signatures (the signed note of c2sp.org/signed-note).
fn note(checkpoint: &Checkpoint) -> String {
    let mut note = String::from_utf8_lossy(checkpoint.signed_data()).into_owned();
    note.push('\n');
    for signature in checkpoint.signatures() {
        let mut bytes = signature.key_id.as_bytes().to_vec();
        bytes.extend_from_slice(signature.signature.as_bytes());
        note.push_str(&format!("\u{2014} {} {}\n", signature.name, STANDARD.encode(bytes)));
    }
    note
}

/// Refuses the hints that no signature covers, unless they name what was used.
pub(super) fn rest(bundle: &Bundle, trust: &Trust) -> Result<(), Refused> {
    let material = &bundle.verification_material.content;
    let hint = match material {
        VerificationMaterialContent::PublicKey(key) => key.hint.as_str(),
        _ => "",
    };
    if !hint.is_empty() && !trust.is_hint(hint) {
        let expected = trust.hint().unwrap_or_default();
        return Err(Refused::new(Check::Signature, format!("the key {expected}"), format!("the key {hint}")));
    }
    if let SignatureContent::DsseEnvelope(envelope) = &bundle.content {
        let id = envelope.signature.keyid.as_str();
        if !id.is_empty() && id != hint && !trust.is_hint(id) {
            let expected = if hint.is_empty() { "no key id beside a certificate" } else { hint };
            return Err(Refused::new(Check::Signature, expected, format!("the key id {id}")));
        }
    }
    if let VerificationMaterialContent::X509CertificateChain { certificates } = material {
        for certificate in certificates.iter().skip(1) {
            if !trust.has_authority(certificate.raw_bytes.as_bytes()) {
                return Err(Refused::new(
                    Check::Certificate,
                    "a chain of the trusted root's certificates",
                    "another certificate in it",
                ));
            }
        }
    }
    Ok(())
}

/// A number of 64 bits in its one form: proto3 JSON writes it as a text, and may read it as a number.
///
/// Attack: `+7` and `07` are read as 7, so that one bundle has many digests.
#[derive(Default)]
struct Number;

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            #[expect(dead_code, reason = "read for its kind")]
            Number(u64),
        }
        match Option::<Form>::deserialize(deserializer)? {
            Some(Form::Text(text)) if !text.parse().is_ok_and(|number: u64| number.to_string() == text) => {
                let shown: String = text.chars().take(40).collect();
                Err(serde::de::Error::custom(format!("expected a number in decimal digits, found `{shown}`")))
            }
            _ => Ok(Self),
        }
    }
}

/// Bytes in their one form: proto3 JSON writes them in base64 with padding, and may read other alphabets and no padding.
///
/// Attack: as for [`Number`]; `sigstore-types` even reads digests in hexadecimal.
struct Base64;

/// A SHA-256 as [`Base64`]. In hexadecimal it would be base64 as well, of 48 bytes.
struct Base64Sha256;

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        bytes(deserializer).map(|_| Self)
    }
}

impl<'de> Deserialize<'de> for Base64Sha256 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match bytes(deserializer)?.len() {
            32 => Ok(Self),
            other => Err(serde::de::Error::custom(format!("expected 32 bytes in base64, found {other}"))),
        }
    }
}

fn bytes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    STANDARD
        .decode(String::deserialize(deserializer)?)
        .map_err(|error| serde::de::Error::custom(format!("expected base64 with its padding: {error}")))
}

/// The members of a bundle (sigstore_bundle.proto, sigstore_rekor.proto, envelope.proto), by name and form alone.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "read for their names; the values are read by sigstore-types")]
struct Wire {
    media_type: IgnoredAny,
    verification_material: Material,
    dsse_envelope: Option<Envelope>,
    message_signature: Option<Message>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "see `Wire`")]
struct Material {
    certificate: Option<Der>,
    x509_certificate_chain: Option<Chain>,
    public_key: Option<Hint>,
    #[serde(default)]
    tlog_entries: Vec<Entry>,
    timestamp_verification_data: Option<Times>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "see `Wire`")]
struct Der {
    raw_bytes: Base64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "see `Wire`")]
struct Chain {
    certificates: Vec<Der>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "see `Wire`")]
struct Hint {
    #[serde(default)]
    hint: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "see `Wire`")]
struct Entry {
    #[serde(default)]
    log_index: Number,
    log_id: Id,
    kind_version: Kind,
    #[serde(default)]
    integrated_time: Number,
    inclusion_promise: Option<Promise>,
    inclusion_proof: Option<Proof>,
    canonicalized_body: Base64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "see `Wire`")]
struct Id {
    key_id: Base64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "see `Wire`")]
struct Kind {
    kind: IgnoredAny,
    version: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "see `Wire`")]
struct Promise {
    signed_entry_timestamp: Base64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "see `Wire`")]
struct Proof {
    #[serde(default)]
    log_index: Number,
    root_hash: Base64Sha256,
    tree_size: Number,
    #[serde(default)]
    hashes: Vec<Base64Sha256>,
    checkpoint: Option<Note>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "see `Wire`")]
struct Note {
    envelope: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "see `Wire`")]
struct Times {
    #[serde(default)]
    rfc3161_timestamps: Vec<Token>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "see `Wire`")]
struct Token {
    signed_timestamp: Base64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "see `Wire`")]
struct Envelope {
    payload: Base64,
    payload_type: IgnoredAny,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "see `Wire`")]
struct Signature {
    sig: Base64,
    #[serde(default)]
    keyid: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "see `Wire`")]
struct Message {
    message_digest: Option<Digest>,
    signature: Base64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "see `Wire`")]
struct Digest {
    algorithm: IgnoredAny,
    digest: Base64Sha256,
}
