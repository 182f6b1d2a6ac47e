//! A private Sigstore on one machine: certificates for CI runs, a log of what they signed, timestamps.
//!
//! It is Fulcio ([`fulcio`]), Rekor in both its versions ([`rekor_v1`], [`rekor_v2`]) and a timestamp authority
//! ([`timestamp`]) to any client, and [`root`] is what verifies their work offline. Who gets a certificate is decided
//! as everywhere here: a verified ID token of a configured issuer, or the session made of one, that a trusted
//! publisher names.
//!
//! The log and what it vouches for have one operator. It shows that nothing was taken back or changed since somebody
//! else kept a checkpoint; it is no independent witness.

pub(crate) mod authority;
mod ca;
mod checkpoint;
mod entry;
pub(crate) mod error;
mod fulcio;
mod identity;
mod keys;
mod log;
mod merkle;
mod monitor;
mod rekor_v1;
mod rekor_v2;
mod root;
mod sct;
mod timestamp;
mod tsa;
mod witness;

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use protected_model::api::problem::Code;
use serde::de::DeserializeOwned;

use crate::{
    app::App,
    endpoint::{Endpoint, register},
    problem::{Answer, Refusal},
};
use authority::Authority;
pub use error::AuthorityError;
pub(crate) use witness::{Witnessed, witness};

/// Begins the log at the first start. A log that somebody changed is told, and added to no more.
pub(crate) async fn begin(app: &App) -> Result<(), AuthorityError> {
    let Some(authority) = &app.authority else { return Ok(()) };
    match log::begin(&app.store, authority.keys(), app.now()).await {
        Err(error @ AuthorityError::Log(_)) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the Sigstore log is broken");
            Ok(())
        }
        other => other,
    }
}

/// Returns what reads the whole log once, so that a change behind the service's back does not stay unseen.
pub(crate) fn check(app: &App) -> Option<impl FnOnce() + Send + use<>> {
    let (keys, store) = (app.authority.as_ref()?.keys(), app.store.clone());
    Some(move || match store.read().and_then(|txn| log::verify(&txn, &keys)) {
        Ok(entries) => tracing::info!(entries, "the Sigstore log is whole"),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the Sigstore log is broken");
        }
    })
}

/// Reads the whole log of a service that has ended, and returns how many entries it has.
#[cfg(test)]
pub(crate) fn verify_log(data: &std::path::Path) -> u64 {
    let url = "http://127.0.0.1:1/".parse().expect("url");
    let authority = Authority::open(&data.join("keys"), &url, Timestamp::now()).expect("authority");
    let store = crate::store::Store::open(data).expect("store");
    log::verify(&store.read().expect("read"), &authority.keys()).expect("whole")
}

/// Lets new keys take over when those that sign are old enough.
pub(crate) async fn rotate(app: &App, now: Timestamp) -> Result<(), AuthorityError> {
    match &app.authority {
        Some(authority) => authority.rotate(&app.store, now).await,
        None => Ok(()),
    }
}

/// Returns what verifies bundles that were signed here: Sigstore's trusted root.
pub(crate) fn trusted_root(app: &App) -> Result<Option<serde_json::Value>, AuthorityError> {
    app.authority.as_ref().map(|authority| root::root(authority.url(), &authority.keys())).transpose()
}

/// Returns every endpoint of the authority.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    let tables = [
        fulcio::endpoints(),
        rekor_v1::endpoints(),
        rekor_v2::endpoints(),
        monitor::endpoints(),
        timestamp::endpoints(),
        root::endpoints(),
    ];
    tables.into_iter().flatten().collect()
}

/// Returns their routes.
pub(crate) fn router() -> Router<Arc<App>> {
    register(endpoints())
}

/// Returns the authority, where it is switched on.
fn authority(app: &App) -> Answer<&Authority> {
    app.authority.as_ref().ok_or_else(|| {
        Refusal::new(Code::NOT_FOUND, "there is no Sigstore authority here")
            .hint("an administrator of FractalOps switches it on with `[sigstore] enabled = true`")
    })
}

/// Reads a JSON document of a foreign protocol. What is wrong with it is told by its place alone, since it holds
/// tokens and signatures.
fn json<T: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8]) -> Answer<T> {
    if !is_of_type(headers, "application/json") {
        return Err(Refusal::new(Code::INVALID_REQUEST, "expected Content-Type `application/json`")
            .status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = if error.is_data() { "a member is missing or of another type" } else { "it is not JSON" };
        invalid(format!("the JSON body is refused at line {line}, column {column}: {what}"))
    })
}

fn is_of_type(headers: &HeaderMap, expected: &str) -> bool {
    let actual = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    actual.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(expected)
}

/// Reads a member in base64.
fn base64(member: &str, text: &str) -> Answer<Vec<u8>> {
    STANDARD.decode(text).map_err(|_| invalid(format!("`{member}`: expected base64")))
}

/// Reads a member in PEM.
fn pem(member: &str, text: &[u8], labels: &[&str]) -> Answer<(String, Vec<u8>)> {
    let labels_in_words = labels.join("` or `");
    match der::pem::decode_vec(text) {
        Ok((label, der)) if labels.contains(&label) => Ok((label.to_owned(), der)),
        Ok((label, _)) => {
            Err(invalid(format!("`{member}`: the PEM is a `{label}`, expected `{labels_in_words}`")))
        }
        Err(_) => Err(invalid(format!("`{member}`: expected PEM of a `{labels_in_words}`"))),
    }
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::INVALID_REQUEST, message)
}
