//! What the service signs with a key of its own, logged and timestamped as what anybody else signs.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use protected_model::digest::Sha256;
use serde_json::{Value, json};

use super::{
    entry, rekor_v2,
    tsa::{self, Wanted},
};
use crate::{app::App, problem::Answer};

/// The parts of a Sigstore bundle that say when a signature was made, and where it is logged.
pub(crate) struct Witnessed {
    /// `tlogEntries`.
    pub(crate) entries: Value,
    /// `timestampVerificationData`.
    pub(crate) timestamps: Value,
}

/// Logs and timestamps a signature of `message` by a key of the service's own; nothing where there is no authority.
///
/// Attack: a service that signs another statement about a version for one customer alone, which nobody else would ever
/// see. So it signs nothing that it has not logged: with a broken log nothing is published.
///
/// # Errors
/// When the log cannot be added to, or a key not sign.
pub(crate) async fn witness(
    app: &App,
    spki: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Answer<Option<Witnessed>> {
    let Some(authority) = &app.authority else { return Ok(None) };
    let digest = Sha256::of(message);
    let body = rekor_v2::body(digest.as_bytes(), signature, "publicKey", spki);
    let (logged, _) = entry::add(app, authority, body).await?;
    let wanted = Wanted {
        algorithm: tsa::plain(tsa::SHA256),
        digest: Sha256::of(signature).as_bytes().to_vec(),
        nonce: None,
        certificate: true,
    };
    let time = tsa::timestamp(&authority.keys().signing.timestamps, &wanted, app.now())?;
    Ok(Some(Witnessed {
        entries: json!([rekor_v2::in_a_bundle(authority, &logged)]),
        timestamps: json!({"rfc3161Timestamps": [{"signedTimestamp": STANDARD.encode(time)}]}),
    }))
}
