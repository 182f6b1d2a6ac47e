//! The signed certificate timestamp (RFC 6962 section 3) that stands in each certificate.
//!
//! Clients want one: it is a key's word that a certificate was issued on purpose. The key is the authority's own,
//! so it says no more than the certificate's own signature; what shows every use of a certificate is the log.

use der::Encode as _;
use jiff::Timestamp;
use protected_model::digest::Sha256;
use x509_cert::{
    TbsCertificate,
    ext::{
        Extension,
        pkix::{
            SignedCertificateTimestampList,
            sct::{
                DigitallySigned, HashAlgorithm, LogId, SerializedSct, SignatureAlgorithm,
                SignatureAndHashAlgorithm, SignedCertificateTimestamp, Version,
            },
        },
    },
};

use super::error::AuthorityError;
use crate::x509::{self, Key, PublicKey};

/// Returns the extension that completes a certificate, of which `unsigned` is all the rest.
pub(super) fn extension(
    unsigned: &TbsCertificate,
    issuer: &PublicKey,
    log: &Key,
    now: Timestamp,
) -> Result<Extension, AuthorityError> {
    let unsigned = unsigned.to_der()?;
    let timestamp = u64::try_from(now.as_millisecond()).unwrap_or_default();
    let length = u32::try_from(unsigned.len()).map_err(|_| AuthorityError::Key)?;
    // `digitally-signed`: version v1, certificate_timestamp, the time, precert_entry, the issuer, the certificate,
    // no extensions.
    let mut message = vec![0, 0];
    message.extend(timestamp.to_be_bytes());
    message.extend([0, 1]);
    message.extend(Sha256::of(issuer.spki()).as_bytes());
    message.extend(&length.to_be_bytes()[1..]);
    message.extend(&unsigned);
    message.extend([0, 0]);
    let sct = SignedCertificateTimestamp {
        version: Version::V1,
        log_id: LogId { key_id: *log.public().id().as_bytes() },
        timestamp,
        extensions: Vec::new().into(),
        signature: DigitallySigned {
            algorithm: SignatureAndHashAlgorithm {
                hash: HashAlgorithm::Sha256,
                signature: SignatureAlgorithm::Ecdsa,
            },
            signature: log.sign(&message)?.into(),
        },
    };
    let list = SerializedSct::new(sct)
        .ok()
        .and_then(|sct| SignedCertificateTimestampList::new(&[sct]).ok())
        .ok_or(AuthorityError::Key)?;
    Ok(x509::extension(false, &list)?)
}
