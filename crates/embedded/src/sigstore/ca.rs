//! Certificates for runs: ten minutes, one key, the name of the workflow.

use der::Encode as _;
use jiff::Timestamp;
use protected_model::time::{after, whole_seconds};
use x509_cert::{Certificate, name::Name};

use super::{
    AuthorityError, certificate,
    certificate::{CODE_SIGNING, Subject},
    identity::Certified,
    key::PublicKey,
    keys::Keys,
    sct,
};

/// How long a certificate is valid.
///
/// Attack: the private key of a certificate lies in the memory of a CI job; whoever gets it signs as that job.
pub(super) const CERTIFICATE_SECONDS: u64 = 600;

/// Issues a certificate for a key whose holder was proven to be `certified`.
pub(super) fn issue(
    keys: &Keys,
    holder: &PublicKey,
    certified: &Certified,
    now: Timestamp,
) -> Result<Certificate, AuthorityError> {
    let now = whole_seconds(now);
    let issuer = &keys.signing.issuer;
    let subject = Subject {
        name: Name::default(),
        key: holder,
        not_before: now,
        not_after: after(now, CERTIFICATE_SECONDS),
    };
    let mut extensions = certificate::of_leaf(holder, issuer.key.public(), CODE_SIGNING)?;
    extensions.extend(certified.extensions()?);
    let name = issuer.certificate.tbs_certificate.subject.clone();
    let mut unsigned = certificate::unsigned(subject, name, extensions)?;
    let timestamp = sct::extension(&unsigned, issuer.key.public(), &keys.signing.sct, now)?;
    unsigned.extensions.get_or_insert_default().push(timestamp);
    certificate::signed(unsigned, &issuer.key)
}

/// Returns the chain of a certificate just issued, each in PEM: itself, the intermediate, the root.
pub(super) fn chain(keys: &Keys, certificate: &Certificate) -> Result<Vec<String>, AuthorityError> {
    [certificate, &keys.signing.issuer.certificate, &keys.root].into_iter().map(pem).collect()
}

/// Writes a certificate as PEM, 64 columns and a line feed at the end: byte for byte what Rekor writes, since
/// clients compare the text.
pub(super) fn pem(certificate: &Certificate) -> Result<String, AuthorityError> {
    to_pem("CERTIFICATE", &certificate.to_der()?)
}

/// [`pem`] for any label.
pub(super) fn to_pem(label: &str, der: &[u8]) -> Result<String, AuthorityError> {
    der::pem::encode_string(label, der::pem::LineEnding::LF, der)
        .map_err(|error| AuthorityError::Encoding(error.into()))
}
