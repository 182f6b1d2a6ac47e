//! `POST sigstore/api/v1/log/entries`: Rekor's first API, kinds `dsse` 0.0.1 and `hashedrekord` 0.0.1.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::IntoResponse,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use protected_model::{api::problem::Code, digest::Sha256, integrity::canonical};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Authority, AuthorityError, authority, base64,
    entry::{self, Verifier, check_digest_signature, check_signature, refused},
    invalid, json,
    keys::Keys,
    log::{self, Logged},
    merkle, pem,
};
use crate::{
    app::App,
    body::read_body,
    endpoint::Endpoint,
    problem::{Answer, Refusal},
};

/// The largest entry: an envelope in base64, in JSON, as large as the list of a large package's components. Anybody may
/// send one, and it is read before it can be refused.
const BODY_BYTES: u64 = 8 * 1024 * 1024;
const PATH: &str = "sigstore/api/v1/log/entries";

/// `ProposedEntry` of Rekor's API version 1.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ProposedEntry {
    /// `0.0.1`.
    api_version: String,
    /// `dsse` or `hashedrekord`.
    kind: String,
    spec: Spec,
}

/// What the kind wants; the others' members are absent.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Spec {
    /// Of `dsse`.
    proposed_content: Option<ProposedContent>,
    /// Of `hashedrekord`.
    data: Option<Data>,
    /// Of `hashedrekord`.
    signature: Option<Signature>,
}

#[derive(Deserialize, JsonSchema)]
struct ProposedContent {
    /// A DSSE envelope, as JSON in a text.
    envelope: String,
    /// PEM of the certificate or public key, in base64; exactly one.
    verifiers: Vec<String>,
}

#[derive(Deserialize, JsonSchema)]
struct Data {
    hash: Hash,
}

#[derive(Deserialize, JsonSchema)]
struct Hash {
    /// `sha256`.
    algorithm: String,
    /// In hex.
    value: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Signature {
    /// In base64.
    content: String,
    public_key: VerifierContent,
}

#[derive(Deserialize, JsonSchema)]
struct VerifierContent {
    /// PEM of the certificate or public key, in base64.
    content: String,
}

/// A DSSE envelope (secure-systems-lab/dsse, `envelope.md`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

/// `LogEntry` of Rekor's API version 1: one entry by its id.
type LogEntries = BTreeMap<String, LogEntry>;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct LogEntry {
    /// Canonical JSON, in base64.
    body: String,
    /// Seconds since 1970.
    integrated_time: u64,
    /// SHA-256 of the log's key, in hex.
    #[serde(rename = "logID")]
    log_id: String,
    log_index: u64,
    verification: Verification,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Verification {
    inclusion_proof: InclusionProof,
    /// The log's signature of all but this, in base64.
    signed_entry_timestamp: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct InclusionProof {
    /// A signed note.
    checkpoint: String,
    /// From the leaf to the root, in hex.
    hashes: Vec<String>,
    log_index: u64,
    /// In hex.
    root_hash: String,
    tree_size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    log_index: u64,
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::post(PATH, "Log an entry, as Rekor's API version 1 does", create)
            .takes::<ProposedEntry>()
            .answers::<LogEntries>(201, "The entry, its proof and a signed promise")
            .answers_with(409, "The entry is there already: at `Location`", None),
        Endpoint::get(PATH, "Get the entry at an index", by_index)
            .query("logIndex", "The index")
            .answers::<LogEntries>(200, "The entry, with its proof as of now"),
        Endpoint::get(&format!("{PATH}/{{id}}"), "Get an entry by its id", by_id)
            .answers::<LogEntries>(200, "The entry, with its proof as of now"),
    ]
}

async fn create(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Answer {
    let authority = authority(&app)?;
    let bytes = read_body(&headers, body, BODY_BYTES).await?;
    let proposed: ProposedEntry = json(&headers, &bytes)?;
    let body = match (proposed.kind.as_str(), proposed.api_version.as_str(), proposed.spec) {
        ("dsse", "0.0.1", Spec { proposed_content: Some(content), .. }) => dsse(&app, authority, &content)?,
        ("hashedrekord", "0.0.1", Spec { data: Some(data), signature: Some(signature), .. }) => {
            hashedrekord(&app, authority, &data.hash, &signature)?
        }
        ("dsse" | "hashedrekord", "0.0.1", _) => {
            return Err(invalid(
                "`spec`: expected `proposedContent` of a dsse entry, or `data` and `signature` of a hashedrekord",
            ));
        }
        (kind, version, _) => {
            return Err(invalid(format!(
                "the entry is `{}` `{}`, expected `dsse` or `hashedrekord` `0.0.1`",
                short(kind),
                short(version)
            )));
        }
    };
    let location = |logged: &Logged| {
        HeaderValue::try_from(format!("/{PATH}/{}", id(&authority.keys(), logged)))
            .map_err(|_| Refusal::new(Code::INTERNAL, "the entry's id cannot be a header"))
    };
    let (logged, new) = entry::add(&app, authority, body).await?;
    let location = location(&logged)?;
    if !new {
        let message = format!("an equivalent entry is in the log, at index {}", logged.index);
        let refusal = Refusal::new(Code::INVALID_DOCUMENT, message).status(StatusCode::CONFLICT);
        return Err(refusal.location(location));
    }
    let headers = [(header::LOCATION, location)];
    Ok((StatusCode::CREATED, headers, Json(shown(authority, &logged)?)).into_response())
}

fn short(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_default).collect()
}

fn verifier(app: &App, authority: &Authority, member: &str, content: &str) -> Answer<Verifier> {
    let text = base64(member, content)?;
    let (label, der) = pem(member, &text, &["CERTIFICATE", "PUBLIC KEY"])?;
    Verifier::read(app, authority, &label, &der)
}

fn dsse(app: &App, authority: &Authority, content: &ProposedContent) -> Answer<Vec<u8>> {
    let [verifier_text] = content.verifiers.as_slice() else {
        return Err(refused(format!("`verifiers` has {} entries, expected one", content.verifiers.len())));
    };
    let envelope: Envelope = serde_json::from_str(&content.envelope)
        .map_err(|_| refused("`envelope`: expected a DSSE envelope as JSON in a text"))?;
    let [signature] = envelope.signatures.as_slice() else {
        return Err(refused(format!(
            "the envelope has {} signatures, expected one",
            envelope.signatures.len()
        )));
    };
    let verifier = verifier(app, authority, "verifiers", verifier_text)?;
    let payload = base64("envelope.payload", &envelope.payload)?;
    let raw_signature = base64("envelope.signatures.sig", &signature.sig)?;
    // Pre-authentication encoding (secure-systems-lab/dsse, `protocol.md`).
    let kind = &envelope.payload_type;
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    check_signature(&verifier.key()?, &[head.as_bytes(), &payload].concat(), &raw_signature)?;
    Ok(canonical(&json!({
        "apiVersion": "0.0.1",
        "kind": "dsse",
        "spec": {
            "envelopeHash": {"algorithm": "sha256", "value": Sha256::of(&content.envelope).to_string()},
            "payloadHash": {"algorithm": "sha256", "value": Sha256::of(&payload).to_string()},
            "signatures": [{
                "signature": STANDARD.encode(raw_signature),
                "verifier": STANDARD.encode(verifier.pem()?),
            }],
        },
    })))
}

fn hashedrekord(app: &App, authority: &Authority, hash: &Hash, signature: &Signature) -> Answer<Vec<u8>> {
    if hash.algorithm != "sha256" {
        return Err(refused(format!("the hash is `{}`, expected `sha256`", short(&hash.algorithm))));
    }
    let digest = hex::decode(&hash.value).map_err(|_| invalid("`data.hash.value`: expected hex"))?;
    let verifier = verifier(app, authority, "signature.publicKey.content", &signature.public_key.content)?;
    let raw_signature = base64("signature.content", &signature.content)?;
    check_digest_signature(&verifier.key()?, &digest, &raw_signature)?;
    Ok(canonical(&json!({
        "apiVersion": "0.0.1",
        "kind": "hashedrekord",
        "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": hex::encode(digest)}},
            "signature": {
                "content": STANDARD.encode(raw_signature),
                "publicKey": {"content": STANDARD.encode(verifier.pem()?)},
            },
        },
    })))
}

async fn by_index(
    State(app): State<Arc<App>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answer<Json<LogEntries>> {
    let Query(wanted) = wanted.map_err(|_| invalid("expected `logIndex`, a number, in the query"))?;
    found(&app, Some(wanted.log_index))
}

async fn by_id(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer<Json<LogEntries>> {
    // The tree's number in 16 hex digits, which may be left out, and the leaf's hash in 64.
    let digits = match id.len() {
        64 => Some(id.as_str()),
        80 => id.get(16..),
        _ => None,
    };
    let mut leaf = [0; 32];
    if digits.is_none_or(|digits| hex::decode_to_slice(digits, &mut leaf).is_err()) {
        return Err(invalid("the entry's id: expected 64 or 80 hex digits"));
    }
    let index = log::index_of(&app.store.read()?, &leaf)?;
    found(&app, index)
}

fn found(app: &App, index: Option<u64>) -> Answer<Json<LogEntries>> {
    let authority = authority(app)?;
    let logged = match index {
        Some(index) => log::entry(&app.store.read()?, index)?,
        None => None,
    };
    let logged = logged.ok_or_else(|| Refusal::new(Code::NOT_FOUND, "the log has no such entry"))?;
    Ok(Json(shown(authority, &logged)?))
}

fn id(keys: &Keys, logged: &Logged) -> String {
    format!("{:016x}{}", keys.log.tree_id, hex::encode(merkle::leaf(&logged.body)))
}

fn shown(authority: &Authority, logged: &Logged) -> Result<LogEntries, AuthorityError> {
    let keys = authority.keys();
    let (body, log_id) = (STANDARD.encode(&logged.body), keys.signing.log.public().id().to_string());
    let promise = canonical(&json!({
        "body": body,
        "integratedTime": logged.integrated,
        "logID": log_id,
        "logIndex": logged.index,
    }));
    let entry = LogEntry {
        body,
        integrated_time: logged.integrated,
        log_id,
        log_index: logged.index,
        verification: Verification {
            inclusion_proof: InclusionProof {
                checkpoint: logged.checkpoint.note.clone(),
                hashes: logged.proof.iter().map(hex::encode).collect(),
                log_index: logged.index,
                root_hash: hex::encode(logged.checkpoint.head.root),
                tree_size: logged.checkpoint.head.size,
            },
            signed_entry_timestamp: STANDARD.encode(keys.signing.log.sign(&promise)?),
        },
    };
    Ok(BTreeMap::from([(id(&keys, logged), entry)]))
}
