//! The certificate authority: an identity token and a public key in, a certificate for minutes out.

use std::time::Duration;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use protected_http::{Client, Response, Retry};
use protected_model::{
    secret::Secret,
    service_url::{ServiceUrl, ServiceUrlError},
};
use serde::Deserialize;
use serde_json::json;
use sigstore_sign::{
    SigningServices,
    crypto::{CertificateInfo, KeyPair, parse_certificate_info},
    rekor::RekorApiVersion,
    trust_root::{SIGSTORE_PRODUCTION_SIGNING_CONFIG, SigningConfig},
    types::{DerCertificate, DerPublicKey},
};

use super::{LogVersion, Service, SignError};

/// Where a certificate is asked for, below the base URL (Fulcio's API, version 2).
const PATH: &str = "api/v2/signingCert";
/// How long one attempt may take.
pub(super) const ATTEMPT: Duration = Duration::from_secs(10);
/// Every request here may be sent twice: a certificate that nobody uses and a second log entry do no harm.
pub(super) const RETRY: Retry = Retry { attempts: 4, budget: Duration::from_secs(30) };
/// The largest answer that is read: certificates, entries and timestamps have a few kilobytes.
pub(super) const MAX_BYTES: u64 = 1024 * 1024;

/// The services that a signature needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Services {
    /// Base URL of the certificate authority; `None` for a key of one's own.
    pub fulcio: Option<ServiceUrl>,
    /// The log; a key of one's own may do without.
    pub log: Option<TransparencyLog>,
    /// Endpoint of the timestamp authority (RFC 3161 over HTTP); a log of version 1 may do without.
    pub timestamp: Option<ServiceUrl>,
}

/// A transparency log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransparencyLog {
    /// Its base URL.
    pub url: ServiceUrl,
    /// What it speaks.
    pub version: LogVersion,
}

impl Services {
    /// Returns the services of the public-good instance of Sigstore, as they were when this version was built; with a
    /// log of `version` where one is named.
    ///
    /// # Errors
    /// When the instance has no such log.
    pub fn public_good(version: Option<LogVersion>) -> Result<Self, SignError> {
        let cannot = |reason: String| SignError::Generate(format!("the public-good instance: {reason}"));
        let config = SigningConfig::from_json(SIGSTORE_PRODUCTION_SIGNING_CONFIG);
        let config = config.map_err(|error| cannot(error.to_string()))?;
        let forced = version.and_then(|version| RekorApiVersion::from_major(u8::from(version).into()));
        let found = SigningServices::from_signing_config_with_rekor_version(&config, forced);
        let found = found.map_err(|error| cannot(error.to_string()))?;
        let url = |text: &str| text.parse().map_err(|error: ServiceUrlError| cannot(error.to_string()));
        let version = match found.rekor_api_version() {
            RekorApiVersion::V1 => LogVersion::V1,
            RekorApiVersion::V2 => LogVersion::V2,
            other => return Err(cannot(format!("its log speaks version {}", other.major()))),
        };
        Ok(Self {
            fulcio: Some(url(found.fulcio_url())?),
            log: Some(TransparencyLog { url: url(found.rekor_url())?, version }),
            timestamp: found.tsa_url().map(url).transpose()?,
        })
    }
}

/// A certificate and what stands in it.
#[derive(Clone)]
pub(super) struct Certificate {
    pub(super) der: DerCertificate,
    pub(super) info: Box<CertificateInfo>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    signed_certificate_embedded_sct: Option<WithChain>,
    signed_certificate_detached_sct: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct WithChain {
    chain: Chain,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<String>,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    email: Option<String>,
}

/// Asks for a certificate for `key`.
///
/// # Errors
/// When the authority is not there, refuses, or sends something else than a certificate for this key that is valid
/// now.
pub(super) async fn certificate(
    http: &Client,
    fulcio: &ServiceUrl,
    token: &impl Secret,
    key: &KeyPair,
) -> Result<Certificate, SignError> {
    const SERVICE: Service = Service::CertificateAuthority;
    let identity = identity(token.reveal())?;
    let cannot = |error: sigstore_sign::crypto::Error| SignError::Generate(error.to_string());
    let public_key = key.public_key_der().map_err(cannot)?;
    let proof = key.sign(identity.as_bytes()).map_err(cannot)?;
    let body = json!({
        "credentials": { "oidcIdentityToken": token.reveal() },
        "publicKeyRequest": {
            "publicKey": { "algorithm": "ECDSA", "content": public_key.to_pem() },
            "proofOfPossession": STANDARD.encode(proof.as_bytes()),
        },
    });
    // The token is in the body alone: a POST is never redirected, and a service's URL is never plain http elsewhere.
    let request = http
        .post(fulcio.join(PATH))
        .header("accept", "application/json")
        .json(&body)
        .timeout(ATTEMPT)
        .retry(RETRY)
        .max_bytes(MAX_BYTES);
    let answer = request.send().await.map_err(|source| SignError::Http { service: SERVICE, source })?;
    if !answer.is_success() {
        return Err(SignError::refused(SERVICE, &answer, Some(token.reveal())));
    }
    let certificate = leaf(&answer)?;
    usable(&certificate.info, &public_key, jiff::Timestamp::now())
        .map_err(|reason| SignError::answer(SERVICE, &answer, reason))?;
    Ok(certificate)
}

/// Checks that a certificate is for our key, and valid now. A clock that is wrong by some seconds is no reason to refuse:
/// verification compares with the times of the log and the timestamp authority.
fn usable(certificate: &CertificateInfo, key: &DerPublicKey, now: jiff::Timestamp) -> Result<(), String> {
    if certificate.public_key != *key {
        return Err("its certificate is for another key than the one that was sent".to_owned());
    }
    if certificate.not_after <= now {
        return Err(format!("its certificate expired at {}, and it is {now}", certificate.not_after));
    }
    Ok(())
}

fn leaf(answer: &Response) -> Result<Certificate, SignError> {
    let wrong = |reason: String| SignError::answer(Service::CertificateAuthority, answer, reason);
    let read: Answer = answer.json().map_err(|error| wrong(error.to_string()))?;
    let Some(with_chain) = read.signed_certificate_embedded_sct else {
        return Err(wrong(match read.signed_certificate_detached_sct {
            Some(_) => "its certificate comes with a detached SCT, which a bundle cannot hold".to_owned(),
            None => "expected `signedCertificateEmbeddedSct`, and it is not there".to_owned(),
        }));
    };
    let first = with_chain.chain.certificates.first();
    let pem = first.ok_or_else(|| wrong("its chain is empty".to_owned()))?;
    let der = DerCertificate::from_pem(pem).map_err(|_| wrong("its certificate is not PEM".to_owned()))?;
    let info = parse_certificate_info(&der).map_err(|error| wrong(error.to_string()))?;
    Ok(Certificate { der, info: Box::new(info) })
}

/// Returns what the authority wants to see signed: the e-mail address where the token has one, else the subject.
fn identity(token: &str) -> Result<String, SignError> {
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(SignError::Token("it is not a JWT"));
    };
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| SignError::Token("it is not a JWT"))?;
    let claims: Claims =
        serde_json::from_slice(&payload).map_err(|_| SignError::Token("its claims cannot be read"))?;
    let identity = claims.email.filter(|email| !email.is_empty()).or(claims.sub);
    identity.filter(|identity| !identity.is_empty()).ok_or(SignError::Token("it has no subject"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_instance_is_known() {
        let services = Services::public_good(None).expect("services");
        assert_eq!(services.fulcio.expect("authority").to_string(), "https://fulcio.sigstore.dev/");
        assert!(services.timestamp.is_some());
        let v1 = Services::public_good(Some(LogVersion::V1)).expect("services").log.expect("log");
        assert_eq!(
            (v1.url.to_string().as_str(), v1.version),
            ("https://rekor.sigstore.dev/", LogVersion::V1)
        );
    }

    /// Made by OpenSSL, valid for one day from 2026-11-25T23:52:01Z.
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMIIBkDCCATagAwIBAgIUWcQUYLYb4xhGFb0OSIxx0Wc2/LMwCgYIKoZIzj0EAwIw\nDDEKMAgGA1UEAwwBeDAeFw0yNjExMjUyMzUyMDFaFw0yNjExMjYyMzUyMDFaMAwx\nCjAIBgNVBAMMAXgwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQGYIqE/YpzHwo7\nQvsRUWd38Lrz8E0/EAbIUkZ+RY6skZqKxMftiRcP7hhN/FCrb1hlC1V1Fh9hf6kI\n/q0YmJqzo3YwdDAdBgNVHQ4EFgQUX4yMJqneqeyZxbrAIuOuW13TKdUwHwYDVR0j\nBBgwFoAUX4yMJqneqeyZxbrAIuOuW13TKdUwDwYDVR0TAQH/BAUwAwEB/zAhBgNV\nHREEGjAYhhZodHRwczovL2NpLmV4YW1wbGUvam9iMAoGCCqGSM49BAMCA0gAMEUC\nIFF8Nm/pnkF11Qda805+oK9U9OdTUwyz5XO7TcGvjXAEAiEA90OcJ7oQgyti4mch\nVR60gn5uvTGPWYQzSY15rlPvc7I=\n-----END CERTIFICATE-----\n";

    #[test]
    fn a_certificate_that_expired_or_is_another_key_s_is_of_no_use() {
        let der = DerCertificate::from_pem(CERTIFICATE).expect("certificate");
        let info = parse_certificate_info(&der).expect("certificate");
        let at = |text: &str| text.parse().expect("time");
        let key = info.public_key.clone();
        assert_eq!(usable(&info, &key, at("2026-11-26T23:52:00Z")), Ok(()));
        let expired = usable(&info, &key, at("2026-11-26T23:52:01Z")).expect_err("expired");
        assert_eq!(
            expired,
            "its certificate expired at 2026-11-26T23:52:01Z, and it is 2026-11-26T23:52:01Z"
        );
        let other = KeyPair::generate_ecdsa_p256().expect("key").public_key_der().expect("DER");
        let error = usable(&info, &other, at("2026-11-26T00:00:00Z")).expect_err("another key");
        assert!(error.contains("another key"), "{error}");
    }

    #[test]
    fn the_proof_is_over_the_email_or_the_subject() {
        let token = |claims: &str| format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims));
        let of = |claims: &str| identity(&token(claims));
        assert_eq!(of(r#"{"sub":"repo:acme/core"}"#).expect("subject"), "repo:acme/core");
        assert_eq!(of(r#"{"sub":"1","email":"a@b.example"}"#).expect("email"), "a@b.example");
        assert_eq!(of(r#"{"sub":"1","email":""}"#).expect("subject"), "1");
        for bad in ["{}", "[]", r#"{"sub":""}"#, r#"{"sub":7}"#] {
            assert!(matches!(of(bad), Err(SignError::Token(_))), "{bad}");
        }
        for bad in ["", "a.b", "a.b.c.d", "e30.!.x"] {
            assert!(matches!(identity(bad), Err(SignError::Token(_))), "{bad}");
        }
    }
}
