//! `POST sigstore/api/v2/log/entries`: Rekor's second API, kind `hashedrekord` 0.0.2.
//!
//! A DSSE envelope is logged as the digest of what its signature is over. The API's own kind for envelopes, `dsse`
//! 0.0.2, is not taken: sigstore-python and sigstore-rust refuse bundles with it.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use protected_model::integrity::canonical;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Authority, authority, base64,
    entry::{self, Verifier, check_digest_signature},
    invalid, json,
    log::Logged,
    root::KEY_DETAILS,
};
use crate::{app::App, body::read_body, endpoint::Endpoint, problem::Answer};

/// The largest request: a digest, a signature and a certificate.
const BODY_BYTES: u64 = 64 * 1024;

/// `CreateEntryRequest` of Rekor's API version 2.
#[derive(Deserialize, JsonSchema)]
struct CreateEntryRequest {
    #[serde(rename = "hashedRekordRequestV002")]
    hashed_rekord: Option<HashedRekordRequest>,
}

#[derive(Deserialize, JsonSchema)]
struct HashedRekordRequest {
    /// SHA-256 of what is signed, in base64.
    digest: String,
    signature: Signature,
}

#[derive(Deserialize, JsonSchema)]
struct Signature {
    /// In base64.
    content: String,
    verifier: RequestedVerifier,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RequestedVerifier {
    /// `PKIX_ECDSA_P256_SHA_256`.
    key_details: String,
    /// A certificate of the authority.
    x509_certificate: Option<RawBytes>,
    /// Or a public key that the configuration names.
    public_key: Option<RawBytes>,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RawBytes {
    /// DER in base64.
    raw_bytes: String,
}

/// `TransparencyLogEntry` of Sigstore's protobuf-specs. Numbers are texts, as protocol buffers write 64 bits.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct TransparencyLogEntry {
    log_index: String,
    log_id: LogId,
    kind_version: KindVersion,
    /// `0`: the time is what a timestamp authority says.
    integrated_time: String,
    inclusion_proof: InclusionProof,
    /// Canonical JSON, in base64.
    canonicalized_body: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct LogId {
    /// SHA-256 of the log's key, in base64.
    key_id: String,
}

#[derive(Serialize, JsonSchema)]
struct KindVersion {
    kind: String,
    version: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct InclusionProof {
    log_index: String,
    root_hash: String,
    tree_size: String,
    /// From the leaf to the root, each in base64.
    hashes: Vec<String>,
    checkpoint: Checkpoint,
}

#[derive(Serialize, JsonSchema)]
struct Checkpoint {
    /// A signed note.
    envelope: String,
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::post("sigstore/api/v2/log/entries", "Log an entry, as Rekor's API version 2 does", create)
            .takes::<CreateEntryRequest>()
            .answers::<TransparencyLogEntry>(201, "The entry and its proof; the one that is there if it is"),
    ]
}

async fn create(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Answer<(StatusCode, Json<TransparencyLogEntry>)> {
    let authority = authority(&app)?;
    let bytes = read_body(&headers, body, BODY_BYTES).await?;
    let wanted: CreateEntryRequest = json(&headers, &bytes)?;
    let Some(request) = wanted.hashed_rekord else {
        return Err(invalid("expected `hashedRekordRequestV002`").status(StatusCode::NOT_IMPLEMENTED).hint(
            "log a DSSE envelope as a hashedrekord over the SHA-256 of its pre-authentication encoding",
        ));
    };
    let body = hashedrekord(&app, authority, &request)?;
    let (logged, _) = entry::add(&app, authority, body).await?;
    Ok((StatusCode::CREATED, Json(shown(authority, &logged))))
}

fn hashedrekord(app: &App, authority: &Authority, request: &HashedRekordRequest) -> Answer<Vec<u8>> {
    let RequestedVerifier { key_details, x509_certificate, public_key } = &request.signature.verifier;
    if key_details != KEY_DETAILS {
        let actual: String = key_details.chars().take(64).flat_map(char::escape_default).collect();
        return Err(invalid(format!("`keyDetails` is `{actual}`, expected `{KEY_DETAILS}`")));
    }
    let (member, label, raw) = match (x509_certificate, public_key) {
        (Some(raw), None) => ("x509Certificate", "CERTIFICATE", raw),
        (None, Some(raw)) => ("publicKey", "PUBLIC KEY", raw),
        _ => return Err(invalid("`verifier`: expected either `x509Certificate` or `publicKey`")),
    };
    let verifier = Verifier::read(app, authority, label, &base64("rawBytes", &raw.raw_bytes)?)?;
    let (digest, signature) =
        (base64("digest", &request.digest)?, base64("signature.content", &request.signature.content)?);
    check_digest_signature(&verifier.key()?, &digest, &signature)?;
    let (_, der) = verifier.der()?;
    Ok(body(&digest, &signature, member, &der))
}

/// Writes the canonical body of an entry. `member` says whether the DER is `x509Certificate` or `publicKey`.
pub(super) fn body(digest: &[u8], signature: &[u8], member: &str, der: &[u8]) -> Vec<u8> {
    canonical(&json!({
        "apiVersion": "0.0.2",
        "kind": "hashedrekord",
        "spec": {"hashedRekordV002": {
            "data": {"algorithm": "SHA2_256", "digest": STANDARD.encode(digest)},
            "signature": {
                "content": STANDARD.encode(signature),
                "verifier": {"keyDetails": KEY_DETAILS, member: {"rawBytes": STANDARD.encode(der)}},
            },
        }},
    }))
}

/// Returns an entry as it stands in a bundle, which has no time that nobody signed.
pub(super) fn in_a_bundle(authority: &Authority, logged: &Logged) -> serde_json::Value {
    let mut entry = json!(shown(authority, logged));
    if let Some(members) = entry.as_object_mut() {
        members.remove("integratedTime");
    }
    entry
}

fn shown(authority: &Authority, logged: &Logged) -> TransparencyLogEntry {
    let key = authority.keys().signing.log.public().id();
    let head = logged.checkpoint.head;
    TransparencyLogEntry {
        log_index: logged.index.to_string(),
        log_id: LogId { key_id: STANDARD.encode(key.as_bytes()) },
        kind_version: KindVersion { kind: "hashedrekord".to_owned(), version: "0.0.2".to_owned() },
        integrated_time: "0".to_owned(),
        inclusion_proof: InclusionProof {
            log_index: logged.index.to_string(),
            root_hash: STANDARD.encode(head.root),
            tree_size: head.size.to_string(),
            hashes: logged.proof.iter().map(|hash| STANDARD.encode(hash)).collect(),
            checkpoint: Checkpoint { envelope: logged.checkpoint.note.clone() },
        },
        canonicalized_body: STANDARD.encode(&logged.body),
    }
}
