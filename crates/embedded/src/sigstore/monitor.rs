//! What a monitor asks a log: its newest checkpoint, that it only grew, and its key.
//!
//! Whoever keeps a checkpoint can later ask for the proof that the log of then is the beginning of the log of now.
//! That is all that stands against an operator who would rather have it otherwise, so do it from elsewhere.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::header,
    response::IntoResponse,
};
use protected_model::api::problem::Code;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AuthorityError, authority, invalid,
    log::{self, Signed},
};
use crate::{
    app::App,
    endpoint::Endpoint,
    problem::{Answer, Refusal},
    x509,
};

/// `LogInfo` of Rekor's API version 1.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct LogInfo {
    /// In hex.
    root_hash: String,
    tree_size: u64,
    /// The checkpoint.
    signed_tree_head: String,
    #[serde(rename = "treeID")]
    tree_id: String,
}

/// `ConsistencyProof` of Rekor's API version 1.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConsistencyProof {
    /// In hex (RFC 6962 section 2.1.2).
    hashes: Vec<String>,
    /// Of the larger tree, in hex.
    root_hash: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sizes {
    #[serde(default = "one")]
    first_size: u64,
    last_size: u64,
}

fn one() -> u64 {
    1
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("sigstore/api/v1/log", "Describe the log as it is now", describe)
            .answers::<LogInfo>(200, "Its size, root and checkpoint"),
        Endpoint::get("sigstore/api/v1/log/proof", "Show that the log only grew", proof)
            .query("firstSize", "The size then; 1 when left out")
            .query("lastSize", "A later size, no larger than it is now")
            .answers::<ConsistencyProof>(200, "The proof"),
        Endpoint::get("sigstore/api/v1/log/publicKey", "Get the key that signs the log", public_key)
            .answers_with(200, "PEM", Some("application/x-pem-file")),
        Endpoint::get("sigstore/api/v2/checkpoint", "Get the newest checkpoint", checkpoint).answers_with(
            200,
            "A signed note",
            Some("text/plain"),
        ),
    ]
}

fn newest(app: &App) -> Answer<Signed> {
    let newest = log::checkpoint(&app.store.read()?)?;
    newest.ok_or_else(|| Refusal::new(Code::NOT_FOUND, "the log has not begun"))
}

async fn describe(State(app): State<Arc<App>>) -> Answer<Json<LogInfo>> {
    let keys = authority(&app)?.keys();
    let Signed { head, note } = newest(&app)?;
    Ok(Json(LogInfo {
        root_hash: hex::encode(head.root),
        tree_size: head.size,
        signed_tree_head: note,
        tree_id: keys.log.tree_id.to_string(),
    }))
}

async fn proof(
    State(app): State<Arc<App>>,
    sizes: Result<Query<Sizes>, QueryRejection>,
) -> Answer<Json<ConsistencyProof>> {
    authority(&app)?;
    let Query(Sizes { first_size, last_size }) =
        sizes.map_err(|_| invalid("expected `lastSize`, a number, in the query"))?;
    let size = newest(&app)?.head.size;
    if !(1..=last_size).contains(&first_size) || last_size > size {
        return Err(invalid(format!(
            "`firstSize` is {first_size} and `lastSize` {last_size}, expected 1 <= firstSize <= lastSize <= {size}"
        )));
    }
    let (hashes, root) = log::consistency(&app.store.read()?, first_size, last_size)?;
    Ok(Json(ConsistencyProof {
        hashes: hashes.iter().map(hex::encode).collect(),
        root_hash: hex::encode(root),
    }))
}

async fn public_key(State(app): State<Arc<App>>) -> Answer {
    let keys = authority(&app)?.keys();
    let pem = x509::to_pem("PUBLIC KEY", keys.signing.log.public().spki()).map_err(AuthorityError::X509)?;
    Ok(([(header::CONTENT_TYPE, "application/x-pem-file")], pem).into_response())
}

async fn checkpoint(State(app): State<Arc<App>>) -> Answer {
    authority(&app)?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], newest(&app)?.note).into_response())
}
