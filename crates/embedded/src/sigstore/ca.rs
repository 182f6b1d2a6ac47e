//! Certificates for runs: ten minutes, one key, the name of the workflow.

use jiff::Timestamp;
use protected_model::time::{after, whole_seconds};
use x509_cert::{Certificate, name::Name};

use super::{error::AuthorityError, identity::Certified, keys::Keys, sct};
use crate::x509::{self, CODE_SIGNING, PublicKey, Subject, pem};

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
        key: holder.spki(),
        not_before: now,
        not_after: after(now, CERTIFICATE_SECONDS),
    };
    let mut extensions = x509::of_leaf(holder.spki(), issuer.spki(), Some(CODE_SIGNING))?;
    extensions.extend(certified.extensions()?);
    let name = issuer.certificate.tbs_certificate.subject.clone();
    let mut unsigned = x509::unsigned(subject, name, extensions)?;
    let timestamp = sct::extension(&unsigned, issuer.key.public(), &keys.signing.sct, now)?;
    unsigned.extensions.get_or_insert_default().push(timestamp);
    Ok(x509::signed(unsigned, &issuer.key)?)
}

/// Returns the chain of a certificate just issued, each in PEM: itself, the intermediate, the root.
pub(super) fn chain(keys: &Keys, certificate: &Certificate) -> Result<Vec<String>, AuthorityError> {
    let chain = [certificate, &keys.signing.issuer.certificate, &keys.root];
    Ok(chain.into_iter().map(pem).collect::<Result<_, _>>()?)
}
