//! A key with its certificate, which issues others, and how both are kept.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use der::{Decode as _, Encode as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use x509_cert::{Certificate, ext::Extension};

use super::{Key, Subject, X509Error, name, of_authority, signed, unsigned};

/// A key with its certificate. It has no `Debug`.
pub(crate) struct Issuer {
    pub(crate) key: Key,
    pub(crate) certificate: Certificate,
}

impl Issuer {
    /// Makes a root; `below` is how many authorities may follow before a leaf.
    pub(crate) fn root(
        what: &str,
        below: u8,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<Self, X509Error> {
        let key = Key::generate()?;
        let spki = key.public().spki();
        let name = name(what, spki)?;
        let subject = Subject { name: name.clone(), key: spki, not_before, not_after };
        let extensions = of_authority(spki, None, below, None)?;
        let certificate = signed(unsigned(subject, name, extensions)?, &key)?;
        Ok(Self { key, certificate })
    }

    /// Issues a certificate.
    pub(crate) fn issue(
        &self,
        subject: Subject<'_>,
        extensions: Vec<Extension>,
    ) -> Result<Certificate, X509Error> {
        let issuer = self.certificate.tbs_certificate.subject.clone();
        signed(unsigned(subject, issuer, extensions)?, &self.key)
    }

    /// Returns its key's `SubjectPublicKeyInfo` in DER.
    pub(crate) fn spki(&self) -> &[u8] {
        self.key.public().spki()
    }
}

/// An [`Issuer`] as it stands in a key file. It has no `Debug`: it holds a private key.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeptIssuer {
    /// PKCS #8 in base64.
    pkcs8: String,
    /// DER in base64.
    certificate: String,
}

impl KeptIssuer {
    pub(crate) fn of(issuer: &Issuer) -> Result<Self, X509Error> {
        Ok(Self { pkcs8: issuer.key.keep(), certificate: keep(&issuer.certificate)? })
    }

    pub(crate) fn open(self) -> Option<Issuer> {
        Some(Issuer { key: Key::open(&self.pkcs8)?, certificate: open(&self.certificate)? })
    }
}

/// Returns a certificate for a key file: DER in base64.
pub(crate) fn keep(certificate: &Certificate) -> Result<String, X509Error> {
    Ok(STANDARD.encode(certificate.to_der()?))
}

/// Reads what [`keep`] wrote.
pub(crate) fn open(kept: &str) -> Option<Certificate> {
    Certificate::from_der(&STANDARD.decode(kept).ok()?).ok()
}
