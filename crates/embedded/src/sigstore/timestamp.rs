//! `POST sigstore/api/v1/timestamp`: an RFC 3161 timestamp, asked for in DER, or in JSON as sigstore-js does.
//!
//! Anybody may ask: a timestamp says nothing about who asked.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
};
use der::{Decode as _, asn1::Int};
use schemars::JsonSchema;
use serde::Deserialize;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_tsp::TimeStampReq;

use super::{
    authority, base64, invalid, is_of_type, json,
    tsa::{self, DIGESTS, POLICY, Wanted},
};
use crate::{
    app::App,
    body::read_body,
    endpoint::Endpoint,
    problem::{Answer, Refusal},
};

/// The largest request.
const BODY_BYTES: u64 = 64 * 1024;
/// The longest nonce that is returned.
const NONCE_BYTES: usize = 32;

const QUERY: &str = "application/timestamp-query";
const REPLY: &str = "application/timestamp-reply";

/// The request of sigstore/timestamp-authority in JSON.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct JsonRequest {
    /// In base64.
    artifact_hash: String,
    /// `sha256`, `sha384` or `sha512`.
    hash_algorithm: String,
    /// Whether the certificate goes with it; absent for yes.
    certificates: Option<bool>,
    /// Returned as it came.
    nonce: Option<u64>,
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::post("sigstore/api/v1/timestamp", "Timestamp a digest (RFC 3161)", timestamp)
            .takes::<JsonRequest>()
            .takes_also(QUERY)
            .answers_with(201, "A TimeStampResp in DER", Some(REPLY)),
    ]
}

async fn timestamp(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> Answer {
    let keys = authority(&app)?.keys();
    let body = read_body(&headers, body, BODY_BYTES).await?;
    let wanted = match is_of_type(&headers, QUERY) {
        true => from_der(&body)?,
        false => from_json(&headers, &body)?,
    };
    let reply = tsa::timestamp(&keys.signing.timestamps, &wanted, app.now())?;
    Ok((StatusCode::CREATED, [(header::CONTENT_TYPE, REPLY)], reply).into_response())
}

fn from_der(body: &[u8]) -> Answer<Wanted> {
    let request = TimeStampReq::from_der(body)
        .map_err(|error| invalid(format!("the request is no TimeStampReq (RFC 3161): {error}")))?;
    if let Some(policy) = request.req_policy.filter(|policy| *policy != POLICY) {
        return Err(invalid(format!("the policy is {policy}, expected {POLICY} or none")));
    }
    if request.extensions.is_some_and(|extensions| !extensions.is_empty()) {
        return Err(invalid("the request has extensions, and none is known here"));
    }
    let algorithm = request.message_imprint.hash_algorithm;
    let known = DIGESTS.iter().find(|(oid, ..)| *oid == algorithm.oid);
    let (.., length) = known.ok_or_else(|| unknown(&algorithm.oid.to_string()))?;
    let digest = request.message_imprint.hashed_message.as_bytes().to_vec();
    check_length(&digest, *length)?;
    if request.nonce.as_ref().is_some_and(|nonce| nonce.as_bytes().len() > NONCE_BYTES) {
        return Err(invalid(format!("the nonce is longer than {NONCE_BYTES} bytes")));
    }
    let algorithm = AlgorithmIdentifierOwned { oid: algorithm.oid, parameters: algorithm.parameters };
    Ok(Wanted { algorithm, digest, nonce: request.nonce, certificate: request.cert_req })
}

fn from_json(headers: &HeaderMap, body: &[u8]) -> Answer<Wanted> {
    let request: JsonRequest = json(headers, body)?;
    let known = DIGESTS.iter().find(|(_, name, _)| *name == request.hash_algorithm);
    let (oid, _, length) = known.ok_or_else(|| {
        unknown(&request.hash_algorithm.chars().take(64).flat_map(char::escape_default).collect::<String>())
    })?;
    let digest = base64("artifactHash", &request.artifact_hash)?;
    check_length(&digest, *length)?;
    let nonce =
        request.nonce.map(|nonce| der::asn1::Uint::new(&nonce.to_be_bytes()).map(Int::from)).transpose();
    let nonce = nonce.map_err(|error| invalid(format!("the nonce: {error}")))?;
    let certificate = request.certificates.unwrap_or(true);
    Ok(Wanted { algorithm: tsa::plain(*oid), digest, nonce, certificate })
}

fn unknown(algorithm: &str) -> Refusal {
    let names: Vec<_> = DIGESTS.iter().map(|(_, name, _)| *name).collect();
    invalid(format!("the digest's algorithm is `{algorithm}`, expected one of {}", names.join(", ")))
}

fn check_length(digest: &[u8], length: usize) -> Answer<()> {
    match digest.len() == length {
        true => Ok(()),
        false => Err(invalid(format!("the digest has {} bytes, expected {length}", digest.len()))),
    }
}
