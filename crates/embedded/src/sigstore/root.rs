//! What clients are configured with: who to ask ([`signing_config`]) and what to believe ([`trusted_root`]).
//!
//! The documents are those of sigstore/protobuf-specs (`sigstore_trustroot.proto`). A verifier fetches the trusted
//! root once over a connection that it believes, and keeps it: whoever takes it from here each time believes
//! whatever answers.

use std::sync::Arc;

use axum::{Json, extract::State};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use der::Encode as _;
use jiff::Timestamp;
use protected_model::time::after;
use serde_json::{Value, json};
use x509_cert::Certificate;

use super::{authority, ca::CERTIFICATE_SECONDS, error::AuthorityError, keys::Keys};
use crate::{app::App, endpoint::Endpoint, problem::Answer, x509::PublicKey};

/// How Sigstore's documents name keys of the kind that there are here.
pub(super) const KEY_DETAILS: &str = "PKIX_ECDSA_P256_SHA_256";

pub(super) fn endpoints() -> Vec<Endpoint> {
    let root = "Get what verifies bundles signed here: Sigstore's trusted root";
    let config = "Get who signs bundles here: Sigstore's signing config";
    vec![
        Endpoint::get("sigstore/trusted_root.json", root, trusted_root)
            .answers::<Value>(200, "A TrustedRoot of sigstore/protobuf-specs"),
        Endpoint::get("sigstore/signing_config.json", config, signing_config)
            .answers::<Value>(200, "A SigningConfig of sigstore/protobuf-specs"),
        Endpoint::get("sigstore/client_trust_config.json", "Get both in one document", client_trust_config)
            .answers::<Value>(200, "A ClientTrustConfig of sigstore/protobuf-specs"),
    ]
}

async fn trusted_root(State(app): State<Arc<App>>) -> Answer<Json<Value>> {
    let authority = authority(&app)?;
    Ok(Json(root(authority.url(), &authority.keys())?))
}

async fn signing_config(State(app): State<Arc<App>>) -> Answer<Json<Value>> {
    let authority = authority(&app)?;
    Ok(Json(config(authority.url(), &app.issuer(), &authority.keys())))
}

async fn client_trust_config(State(app): State<Arc<App>>) -> Answer<Json<Value>> {
    let authority = authority(&app)?;
    let keys = authority.keys();
    Ok(Json(json!({
        "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
        "trustedRoot": root(authority.url(), &keys)?,
        "signingConfig": config(authority.url(), &app.issuer(), &keys),
    })))
}

/// What one generation signs with, and when.
struct Window<'a> {
    since: Timestamp,
    until: Option<Timestamp>,
    issuer: &'a Certificate,
    sct: &'a PublicKey,
    log: &'a PublicKey,
    timestamps: &'a Certificate,
}

pub(super) fn root(url: &str, keys: &Keys) -> Result<Value, AuthorityError> {
    let now = &keys.signing;
    let signing = Window {
        since: now.since,
        until: None,
        issuer: &now.issuer.certificate,
        sct: now.sct.public(),
        log: now.log.public(),
        timestamps: &now.timestamps.certificate,
    };
    let past = keys.past.iter().map(|past| Window {
        since: past.since,
        until: Some(past.until),
        issuer: &past.issuer,
        sct: &past.sct,
        log: &past.log,
        timestamps: &past.timestamps,
    });
    let windows: Vec<_> = past.chain([signing]).collect();
    let chains = |certificate: fn(&Window<'_>) -> Certificate,
                  root: &Certificate,
                  uri: &str,
                  extra_seconds| {
        windows
            .iter()
            .map(|window| {
                let certificate = certificate(window);
                Ok(json!({
                    "subject": {"organization": "FractalOps", "commonName": certificate.tbs_certificate.subject.to_string()},
                    "uri": uri,
                    "certChain": {"certificates": [raw(&certificate)?, raw(root)?]},
                    "validFor": valid_for(window, extra_seconds),
                }))
            })
            .collect::<Result<Vec<_>, AuthorityError>>()
    };
    let logs = |key: fn(&Window<'_>) -> PublicKey, url: &str| -> Vec<Value> {
        windows
            .iter()
            .map(|window| {
                let key = key(window);
                json!({
                    "baseUrl": url,
                    "hashAlgorithm": "SHA2_256",
                    "publicKey": {
                        "rawBytes": STANDARD.encode(key.spki()),
                        "keyDetails": KEY_DETAILS,
                        "validFor": valid_for(window, 0),
                    },
                    "logId": {"keyId": STANDARD.encode(key.id().as_bytes())},
                })
            })
            .collect()
    };
    Ok(json!({
        "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
        // Under the name that stands in its checkpoints.
        "tlogs": logs(|window| window.log.clone(), &keys.log.url),
        // What was issued at the last second is used for as long as it is valid.
        "certificateAuthorities":
            chains(|window| window.issuer.clone(), &keys.root, url, CERTIFICATE_SECONDS)?,
        "ctlogs": logs(|window| window.sct.clone(), &keys.log.url),
        "timestampAuthorities": chains(
            |window| window.timestamps.clone(),
            &keys.timestamp_root,
            &format!("{url}/api/v1/timestamp"),
            0
        )?,
    }))
}

fn valid_for(window: &Window<'_>, extra_seconds: u64) -> Value {
    match window.until {
        None => json!({"start": window.since.to_string()}),
        Some(until) => {
            json!({"start": window.since.to_string(), "end": after(until, extra_seconds).to_string()})
        }
    }
}

fn raw(certificate: &Certificate) -> Result<Value, AuthorityError> {
    Ok(json!({"rawBytes": STANDARD.encode(certificate.to_der()?)}))
}

/// The first of two logs is what a client takes that knows both APIs.
fn config(url: &str, issuer: &str, keys: &Keys) -> Value {
    let service = |url: String, version: u32| {
        json!({
            "url": url,
            "majorApiVersion": version,
            "validFor": {"start": keys.signing.since.to_string()},
            "operator": issuer,
        })
    };
    json!({
        "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
        "caUrls": [service(url.to_owned(), 1)],
        "oidcUrls": [service(issuer.to_owned(), 1)],
        "rekorTlogUrls": [service(url.to_owned(), 2), service(url.to_owned(), 1)],
        "rekorTlogConfig": {"selector": "ANY"},
        "tsaUrls": [service(format!("{url}/api/v1/timestamp"), 1)],
        "tsaConfig": {"selector": "ANY"},
    })
}
