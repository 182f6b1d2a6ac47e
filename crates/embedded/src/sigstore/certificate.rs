//! X.509 certificates (RFC 5280) as the authority makes them: one place for their encoding.

use std::{str::FromStr, time::Duration};

use der::{
    Encode,
    asn1::{BitString, GeneralizedTime, ObjectIdentifier, OctetString, UtcTime},
    flagset::FlagSet,
    oid::AssociatedOid,
};
use jiff::Timestamp;
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

use super::{
    AuthorityError,
    key::{Key, PublicKey},
};

/// `ecdsa-with-SHA256` (RFC 5758 section 3.2).
pub(super) const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
/// `id-kp-codeSigning` (RFC 5280 section 4.2.1.12).
pub(super) const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
/// `id-kp-timeStamping` (RFC 5280 section 4.2.1.12).
pub(super) const TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");

/// The first year that UTCTime cannot hold (RFC 5280 section 4.1.2.5).
const GENERALIZED_FROM: u16 = 2050;

/// What a certificate says, beside its extensions.
pub(super) struct Subject<'a> {
    /// Empty for a certificate whose subject is its alternative name.
    pub(super) name: Name,
    pub(super) key: &'a PublicKey,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

/// Returns the part of a certificate that its issuer signs.
pub(super) fn unsigned(
    subject: Subject<'_>,
    issuer: Name,
    extensions: Vec<Extension>,
) -> Result<TbsCertificate, AuthorityError> {
    Ok(TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(&serial()?)?,
        signature: ecdsa(),
        issuer,
        validity: Validity { not_before: time(subject.not_before)?, not_after: time(subject.not_after)? },
        subject: subject.name,
        subject_public_key_info: public_key_info(subject.key)?,
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(extensions),
    })
}

/// Signs it.
pub(super) fn signed(unsigned: TbsCertificate, issuer: &Key) -> Result<Certificate, AuthorityError> {
    let signature = issuer.sign(&unsigned.to_der()?)?;
    Ok(Certificate {
        tbs_certificate: unsigned,
        signature_algorithm: ecdsa(),
        signature: BitString::from_bytes(&signature)?,
    })
}

/// Returns whether `issuer` signed the certificate.
pub(super) fn is_signed_by(certificate: &Certificate, issuer: &PublicKey) -> bool {
    certificate.signature_algorithm.oid == ECDSA_WITH_SHA256
        && certificate.tbs_certificate.to_der().is_ok_and(|message| {
            issuer.verifies(&message, certificate.signature.as_bytes().unwrap_or_default())
        })
}

/// Returns the extensions of a certificate authority; `below` is how many authorities may follow before a leaf.
pub(super) fn of_authority(
    key: &PublicKey,
    issuer: Option<&PublicKey>,
    below: u8,
    usage: Option<ObjectIdentifier>,
) -> Result<Vec<Extension>, AuthorityError> {
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

/// Returns the extensions of a certificate that signs one kind of thing. The usage of a timestamping certificate is
/// critical (RFC 3161 section 2.3).
pub(super) fn of_leaf(
    key: &PublicKey,
    issuer: &PublicKey,
    usage: ObjectIdentifier,
) -> Result<Vec<Extension>, AuthorityError> {
    let mut extensions = vec![
        extension(true, &KeyUsage(FlagSet::from(KeyUsages::DigitalSignature)))?,
        extension(usage == TIME_STAMPING, &ExtendedKeyUsage(vec![usage]))?,
    ];
    extensions.extend(identifiers(key, Some(issuer))?);
    Ok(extensions)
}

fn identifiers(key: &PublicKey, issuer: Option<&PublicKey>) -> Result<Vec<Extension>, AuthorityError> {
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
fn key_identifier(key: &PublicKey) -> Result<OctetString, AuthorityError> {
    Ok(OctetString::new(&key.id().as_bytes()[..20])?)
}

/// Makes an extension of a type that knows its OID.
pub(super) fn extension<T: AssociatedOid + Encode>(
    critical: bool,
    value: &T,
) -> Result<Extension, AuthorityError> {
    plain_extension(T::OID, critical, value.to_der()?)
}

/// Makes an extension of bytes.
pub(super) fn plain_extension(
    extn_id: ObjectIdentifier,
    critical: bool,
    value: Vec<u8>,
) -> Result<Extension, AuthorityError> {
    Ok(Extension { extn_id, critical, extn_value: OctetString::new(value)? })
}

/// Returns the name of an authority: what it is, and of which key, so that two never share one.
pub(super) fn name(what: &str, key: &PublicKey) -> Result<Name, AuthorityError> {
    Ok(Name::from_str(&format!("CN={what} {},O=FractalOps", hex::encode(&key.id().as_bytes()[..4])))?)
}

pub(super) fn public_key_info(key: &PublicKey) -> Result<SubjectPublicKeyInfoOwned, AuthorityError> {
    Ok(SubjectPublicKeyInfoOwned::try_from(key.spki())?)
}

fn ecdsa() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid: ECDSA_WITH_SHA256, parameters: None }
}

/// Returns 126 random bits as a positive number whose first byte is never zero, so that its length is fixed.
pub(super) fn serial() -> Result<[u8; 16], AuthorityError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| AuthorityError::Key)?;
    bytes[0] = 0x40 | (bytes[0] & 0x3f);
    Ok(bytes)
}

/// Writes a time as RFC 5280 section 4.1.2.5 wants it.
pub(super) fn time(at: Timestamp) -> Result<Time, AuthorityError> {
    let generalized = GeneralizedTime::from_unix_duration(since_1970(at))?;
    let date = generalized.to_date_time();
    Ok(match date.year() < GENERALIZED_FROM {
        true => Time::UtcTime(UtcTime::from_date_time(date)?),
        false => Time::GeneralTime(generalized),
    })
}

/// Returns a time in whole seconds since 1970.
pub(super) fn since_1970(at: Timestamp) -> Duration {
    Duration::from_secs(protected_model::time::numeric_date(at))
}
