//! The registry's signature of each version: what `npm audit signatures` holds a package against.
//!
//! A version is signed once, when it is admitted and its bytes have been hashed, and not each time it is read: a row
//! that is changed behind the service's back then no longer agrees with its signature.

use axum::response::Response;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use protected_model::{api::problem::Code, digest::Integrity, name::PackageName, version::PackageVersion};
use protected_trust::mint::SignError;
use serde_json::json;

use super::{
    Request,
    read::json,
    row::Signature,
    table::{self, Placed},
};
use crate::{app::App, problem::Refusal, store::StoreError};

/// What npm calls the registry's kind of key, and of signature.
const KEY_TYPE: &str = "ecdsa-sha2-nistp256";
/// How many versions of an older release are signed in one transaction.
const BATCH: usize = 64;

/// Signs a version's tarball: ECDSA over `<name>@<version>:<integrity>`.
pub(super) fn sign(
    app: &App,
    package: &PackageName,
    version: &PackageVersion,
    integrity: &Integrity,
) -> Result<Signature, SignError> {
    let signed = app.registry_keys.sign(format!("{package}@{version}:{integrity}").as_bytes())?;
    Ok(Signature { keyid: signed.key_id, sig: STANDARD.encode(signed.der) })
}

/// Makes the refusal of a request that needed a signature.
pub(super) fn cannot_sign(error: &SignError) -> Refusal {
    tracing::error!(error = error as &dyn std::error::Error, "the registry's key cannot sign");
    Refusal::new(Code::INTERNAL, "the registry could not sign the version; nothing was changed")
}

/// Answers the keys that signatures were and are made with.
pub(super) fn keys(request: &Request<'_>) -> Response {
    let keys = request.app.registry_keys.public().into_iter().map(|key| {
        json!({
            "expires": key.expires, "keyid": key.id, "keytype": KEY_TYPE, "scheme": KEY_TYPE, "key": key.spki,
        })
    });
    json(json!({"keys": keys.collect::<Vec<_>>()}).to_string())
}

/// Signs the versions of releases that did not sign, once their bytes have been hashed again.
///
/// # Errors
/// When the database fails. A version whose file is not what its row says stays as it is, and the log says so.
pub(crate) async fn sign_older(app: &App) -> Result<(), StoreError> {
    let unsigned = table::unsigned(&app.store.read()?)?;
    for batch in unsigned.chunks(BATCH) {
        let mut signed = Vec::new();
        for Placed { place, version, row } in batch {
            let blobs = app.store.blobs().clone();
            let sha256 = row.sha256;
            let read = tokio::task::spawn_blocking(move || Ok(Integrity::of(blobs.get(&sha256)?)));
            let actual = read.await.unwrap_or(Err(StoreError::GivenUp));
            let package = place.package();
            if !matches!(actual, Ok(actual) if actual == row.integrity) {
                tracing::error!(%package, %version, "not signed: its file is not the one that was published");
                continue;
            }
            match sign(app, package, version, &row.integrity) {
                Ok(signature) => signed.push((place.clone(), version.clone(), signature)),
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, %package, %version, "not signed");
                }
            }
        }
        let count = signed.len();
        let written = app.store.write(move |txn| {
            for (place, version, signature) in signed {
                if let Some(mut row) = table::version(txn, &place, &version)? {
                    row.signature = Some(signature);
                    table::put_version(txn, &place, &version, &row)?;
                }
            }
            Ok(())
        });
        written.await?;
        tracing::info!(count, "signed versions of an older release");
    }
    Ok(())
}
