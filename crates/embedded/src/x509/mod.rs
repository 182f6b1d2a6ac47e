//! X.509 certificates (RFC 5280) as they are made here, by P-256 keys: one place for their encoding.
//!
//! A certificate may be for any key, so the functions here take a key as its `SubjectPublicKeyInfo` in DER.

mod issuer;
mod key;

use std::{str::FromStr, time::Duration};

use der::{
    Encode,
    asn1::{BitString, GeneralizedTime, ObjectIdentifier, OctetString, UtcTime},
    flagset::FlagSet,
    oid::AssociatedOid,
};
use jiff::Timestamp;
use protected_model::digest::Sha256;
use x509_cert::{
    Certificate, TbsCertificate, Version,
    ext::{
        Extension,
        pkix::{
            AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages,
            SubjectKeyIdentifier,
        },
    },
    name::Name,
    serial_number::SerialNumber,
    spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned},
    time::{Time, Validity},
};

pub(crate) use issuer::{Issuer, KeptIssuer, keep, open};
pub(crate) use key::{Key, PublicKey, PublicKeyError};

/// `ecdsa-with-SHA256` (RFC 5758 section 3.2).
pub(crate) const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
/// `id-kp-codeSigning` (RFC 5280 section 4.2.1.12).
pub(crate) const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
/// `id-kp-timeStamping` (RFC 5280 section 4.2.1.12).
pub(crate) const TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");

/// The first year that UTCTime cannot hold (RFC 5280 section 4.1.2.5).
const GENERALIZED_FROM: u16 = 2050;

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum X509Error {
    /// A key cannot be made, or cannot sign.
    #[error("cannot make a key or sign with it")]
    Key,
    /// A value that DER cannot hold.
    #[error("cannot encode what is to be signed")]
    Encoding(#[from] der::Error),
    /// A key that cannot be put into a certificate.
    #[error("cannot encode a key")]
    PublicKey(#[from] x509_cert::spki::Error),
}

/// What a certificate says, beside its extensions.
pub(crate) struct Subject<'a> {
    /// Empty for a certificate whose subject is its alternative name.
    pub(crate) name: Name,
    pub(crate) key: &'a [u8],
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

/// Returns the part of a certificate that its issuer signs.
pub(crate) fn unsigned(
    subject: Subject<'_>,
    issuer: Name,
    extensions: Vec<Extension>,
) -> Result<TbsCertificate, X509Error> {
    Ok(TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(&serial()?)?,
        signature: ecdsa(),
        issuer,
        validity: Validity { not_before: time(subject.not_before)?, not_after: time(subject.not_after)? },
        subject: subject.name,
        subject_public_key_info: SubjectPublicKeyInfoOwned::try_from(subject.key)?,
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(extensions),
    })
}

/// Signs it.
pub(crate) fn signed(unsigned: TbsCertificate, issuer: &Key) -> Result<Certificate, X509Error> {
    let signature = issuer.sign(&unsigned.to_der()?)?;
    Ok(Certificate {
        tbs_certificate: unsigned,
        signature_algorithm: ecdsa(),
        signature: BitString::from_bytes(&signature)?,
    })
}

/// Returns whether `issuer` signed the certificate.
pub(crate) fn is_signed_by(certificate: &Certificate, issuer: &PublicKey) -> bool {
    certificate.signature_algorithm.oid == ECDSA_WITH_SHA256
        && certificate.tbs_certificate.to_der().is_ok_and(|message| {
            issuer.verifies(&message, certificate.signature.as_bytes().unwrap_or_default())
        })
}

/// Returns the extensions of a certificate authority; `below` is how many authorities may follow before a leaf.
pub(crate) fn of_authority(
    key: &[u8],
    issuer: Option<&[u8]>,
    below: u8,
    usage: Option<ObjectIdentifier>,
) -> Result<Vec<Extension>, X509Error> {
    let constraints = BasicConstraints { ca: true, path_len_constraint: Some(below) };
    let mut extensions = vec![
        extension(true, &constraints)?,
        extension(true, &KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign))?,
    ];
    if let Some(usage) = usage {
        extensions.push(extension(false, &ExtendedKeyUsage(vec![usage]))?);
    }
    extensions.extend(identifiers(key, issuer)?);
    Ok(extensions)
}

/// Returns the extensions of a certificate that signs one kind of thing; without `usage`, whatever whoever trusts its
/// issuer takes it for. The usage of a timestamping certificate is critical (RFC 3161 section 2.3).
pub(crate) fn of_leaf(
    key: &[u8],
    issuer: &[u8],
    usage: Option<ObjectIdentifier>,
) -> Result<Vec<Extension>, X509Error> {
    let mut extensions = vec![extension(true, &KeyUsage(FlagSet::from(KeyUsages::DigitalSignature)))?];
    if let Some(usage) = usage {
        extensions.push(extension(usage == TIME_STAMPING, &ExtendedKeyUsage(vec![usage]))?);
    }
    extensions.extend(identifiers(key, Some(issuer))?);
    Ok(extensions)
}

fn identifiers(key: &[u8], issuer: Option<&[u8]>) -> Result<Vec<Extension>, X509Error> {
    let mut extensions = vec![extension(false, &SubjectKeyIdentifier(key_identifier(key)?))?];
    if let Some(issuer) = issuer {
        let identifier = AuthorityKeyIdentifier {
            key_identifier: Some(key_identifier(issuer)?),
            ..AuthorityKeyIdentifier::default()
        };
        extensions.push(extension(false, &identifier)?);
    }
    Ok(extensions)
}

/// Returns what a key is called in certificates: 160 bits of its SHA-256 (RFC 7093 section 2, method 4).
fn key_identifier(key: &[u8]) -> Result<OctetString, X509Error> {
    Ok(OctetString::new(&Sha256::of(key).as_bytes()[..20])?)
}

/// Makes an extension of a type that knows its OID.
pub(crate) fn extension<T: AssociatedOid + Encode>(
    critical: bool,
    value: &T,
) -> Result<Extension, X509Error> {
    plain_extension(T::OID, critical, value.to_der()?)
}

/// Makes an extension of bytes.
pub(crate) fn plain_extension(
    extn_id: ObjectIdentifier,
    critical: bool,
    value: Vec<u8>,
) -> Result<Extension, X509Error> {
    Ok(Extension { extn_id, critical, extn_value: OctetString::new(value)? })
}

/// Returns the name of an authority: what it is, and of which key, so that two never share one.
pub(crate) fn name(what: &str, key: &[u8]) -> Result<Name, X509Error> {
    Ok(Name::from_str(&format!("CN={what} {},O=FractalOps", hex::encode(&Sha256::of(key).as_bytes()[..4])))?)
}

fn ecdsa() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid: ECDSA_WITH_SHA256, parameters: None }
}

/// Writes a certificate as PEM, 64 columns and a line feed at the end: byte for byte what Rekor writes, since
/// clients compare the text.
pub(crate) fn pem(certificate: &Certificate) -> Result<String, X509Error> {
    to_pem("CERTIFICATE", &certificate.to_der()?)
}

/// [`pem`] for any label.
pub(crate) fn to_pem(label: &str, der: &[u8]) -> Result<String, X509Error> {
    der::pem::encode_string(label, der::pem::LineEnding::LF, der)
        .map_err(|error| X509Error::Encoding(error.into()))
}

/// Returns 126 random bits as a positive number whose first byte is never zero, so that its length is fixed.
pub(crate) fn serial() -> Result<[u8; 16], X509Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| X509Error::Key)?;
    bytes[0] = 0x40 | (bytes[0] & 0x3f);
    Ok(bytes)
}

/// Writes a time as RFC 5280 section 4.1.2.5 wants it.
pub(crate) fn time(at: Timestamp) -> Result<Time, X509Error> {
    let generalized = GeneralizedTime::from_unix_duration(since_1970(at))?;
    let date = generalized.to_date_time();
    Ok(match date.year() < GENERALIZED_FROM {
        true => Time::UtcTime(UtcTime::from_date_time(date)?),
        false => Time::GeneralTime(generalized),
    })
}

/// Returns a time in whole seconds since 1970.
pub(crate) fn since_1970(at: Timestamp) -> Duration {
    Duration::from_secs(protected_model::time::numeric_date(at))
}
