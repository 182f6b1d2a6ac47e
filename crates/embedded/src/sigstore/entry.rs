//! What may be logged: a signature that verifies, by a key whose holder is known here.

use axum::http::StatusCode;
use der::{Decode as _, Encode as _};
use jiff::Timestamp;
use protected_model::{api::problem::Code, time::numeric_date};
use x509_cert::{Certificate, ext::pkix::ExtendedKeyUsage};

use super::{authority::Authority, error::AuthorityError, invalid, log};
use crate::{
    app::App,
    problem::{Answer, Refusal},
    x509::{self, CODE_SIGNING, PublicKey},
};

/// Whoever signed, as the entry names them.
pub(super) enum Verifier {
    Certificate(Box<Certificate>),
    Key(PublicKey),
}

impl Verifier {
    /// Reads a certificate or a public key in DER and checks that it may sign now: a certificate that was issued
    /// here and is valid, or a key that the configuration names.
    ///
    /// Attack: without that, anybody fills the log, and an expired certificate whose key leaked gets new entries.
    pub(super) fn read(app: &App, authority: &Authority, label: &str, der: &[u8]) -> Answer<Self> {
        if label == "PUBLIC KEY" {
            let key =
                PublicKey::from_spki(der).map_err(|error| refused(format!("the public key: {error}")))?;
            return match app.config.sigstore.keys.iter().any(|known| known.as_slice() == key.spki()) {
                true => Ok(Self::Key(key)),
                false => Err(refused("the public key is none that this log takes entries of")
                    .hint("an administrator of FractalOps adds it to `public_keys` of [sigstore]")),
            };
        }
        let certificate = Certificate::from_der(der)
            .map_err(|error| refused(format!("the certificate cannot be read: {error}")))?;
        check(authority, &certificate, app.now())?;
        Ok(Self::Certificate(Box::new(certificate)))
    }

    pub(super) fn key(&self) -> Answer<PublicKey> {
        match self {
            Self::Key(key) => Ok(key.clone()),
            Self::Certificate(certificate) => {
                PublicKey::of(&certificate.tbs_certificate.subject_public_key_info)
                    .map_err(|error| refused(format!("the certificate's key: {error}")))
            }
        }
    }

    /// Returns the DER of the certificate or key, and which of the two it is.
    pub(super) fn der(&self) -> Result<(&'static str, Vec<u8>), AuthorityError> {
        Ok(match self {
            Self::Certificate(certificate) => ("CERTIFICATE", certificate.to_der()?),
            Self::Key(key) => ("PUBLIC KEY", key.spki().to_vec()),
        })
    }

    /// Returns it in PEM as Rekor writes it, whatever the client's line length was: clients compare the bytes.
    pub(super) fn pem(&self) -> Result<String, AuthorityError> {
        let (label, der) = self.der()?;
        Ok(x509::to_pem(label, &der)?)
    }
}

fn check(authority: &Authority, certificate: &Certificate, now: Timestamp) -> Answer<()> {
    let keys = authority.keys();
    let issuer = |issuer: &Certificate| {
        issuer.tbs_certificate.subject == certificate.tbs_certificate.issuer
            && PublicKey::of(&issuer.tbs_certificate.subject_public_key_info)
                .is_ok_and(|key| x509::is_signed_by(certificate, &key))
    };
    if !keys.issuers().any(issuer) {
        return Err(refused(format!(
            "the certificate was issued by `{}`, expected one that this service issued",
            certificate.tbs_certificate.issuer
        )));
    }
    let usage = certificate.tbs_certificate.get::<ExtendedKeyUsage>();
    if !usage.is_ok_and(|usage| usage.is_some_and(|(_, usage)| usage.0.contains(&CODE_SIGNING))) {
        return Err(refused("the certificate is not for code signing"));
    }
    let validity = certificate.tbs_certificate.validity;
    let (from, until) =
        (validity.not_before.to_unix_duration().as_secs(), validity.not_after.to_unix_duration().as_secs());
    if !(from..=until).contains(&numeric_date(now)) {
        return Err(refused(format!(
            "the certificate is valid from {} to {}, and it is {now}",
            validity.not_before, validity.not_after
        ))
        .hint("sign and log within ten minutes of getting the certificate"));
    }
    Ok(())
}

/// Refuses an entry as Rekor does, with 400.
pub(super) fn refused(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::INVALID_DOCUMENT, message).status(StatusCode::BAD_REQUEST)
}

/// Checks the signature of a message.
pub(super) fn check_signature(key: &PublicKey, message: &[u8], signature: &[u8]) -> Answer<()> {
    match key.verifies(message, signature) {
        true => Ok(()),
        false => Err(wrong_signature()),
    }
}

/// Checks the signature of a message whose SHA-256 is known.
pub(super) fn check_digest_signature(key: &PublicKey, digest: &[u8], signature: &[u8]) -> Answer<()> {
    let digest: &[u8; 32] = digest
        .try_into()
        .map_err(|_| invalid(format!("the digest has {} bytes, expected 32", digest.len())))?;
    match key.verifies_digest(digest, signature) {
        true => Ok(()),
        false => Err(wrong_signature()),
    }
}

fn wrong_signature() -> Refusal {
    refused(
        "the signature does not verify: expected one by the key of the verifier, ECDSA with SHA-256 in DER",
    )
}

/// Adds a canonical body to the log, and returns its entry and whether it is new.
pub(super) async fn add(app: &App, authority: &Authority, body: Vec<u8>) -> Answer<(log::Logged, bool)> {
    match log::add(&app.store, authority.keys(), body, app.now()).await? {
        log::Added::New(logged) => Ok((logged, true)),
        log::Added::Known(logged) => Ok((logged, false)),
        log::Added::Broken(what) => Err(AuthorityError::Log(what).into()),
    }
}
