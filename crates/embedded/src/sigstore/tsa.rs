//! Timestamp tokens (RFC 3161): a key's word that a digest existed at a second.

use cms::{
    cert::{CertificateChoices, IssuerAndSerialNumber},
    content_info::{CmsVersion, ContentInfo},
    signed_data::{
        CertificateSet, EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo, SignerInfos,
    },
};
use der::{
    Any, Encode, Sequence, Tag,
    asn1::{GeneralizedTime, Int, ObjectIdentifier, OctetString, SetOfVec},
};
use jiff::Timestamp;
use protected_model::digest::Sha256;
use x509_cert::{attr::Attribute, spki::AlgorithmIdentifierOwned};
use x509_tsp::{MessageImprint, TspVersion, TstInfo};

use super::error::AuthorityError;
use crate::x509::{self, ECDSA_WITH_SHA256, Issuer, serial, since_1970};

/// The policy under which timestamps are made, as Sigstore's own authority names it.
pub(super) const POLICY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.2");

/// `id-sha256` (RFC 5754 section 2.2).
pub(super) const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
/// `id-ct-TSTInfo` (RFC 3161 section 2.4.2).
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
/// `id-signedData` (RFC 5652 section 5.1).
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
/// `id-contentType` (RFC 5652 section 11.1).
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
/// `id-messageDigest` (RFC 5652 section 11.2).
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
/// `id-signingTime` (RFC 5652 section 11.3).
const SIGNING_TIME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.5");
/// `id-aa-signingCertificateV2` (RFC 5035 section 3).
const SIGNING_CERTIFICATE_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");

/// The digests that are timestamped: algorithm, its name in JSON, its length in bytes.
pub(super) const DIGESTS: &[(ObjectIdentifier, &str, usize)] = &[
    (SHA256, "sha256", 32),
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2"), "sha384", 48),
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3"), "sha512", 64),
];

/// What is to be timestamped.
pub(super) struct Wanted {
    /// One of [`DIGESTS`].
    pub(super) algorithm: AlgorithmIdentifierOwned,
    /// Of its length.
    pub(super) digest: Vec<u8>,
    /// Returned as it came.
    pub(super) nonce: Option<Int>,
    /// Whether the certificate goes with it.
    pub(super) certificate: bool,
}

/// `ESSCertIDv2` (RFC 5035 section 4), whose algorithm is SHA-256 when it is left out.
#[derive(Sequence)]
struct CertificateId {
    hash: OctetString,
}

/// `SigningCertificateV2` (RFC 5035 section 3).
#[derive(Sequence)]
struct SigningCertificate {
    certificates: Vec<CertificateId>,
}

/// `TimeStampResp` (RFC 3161 section 2.4.2) with a token.
#[derive(Sequence)]
struct Response {
    status: Status,
    token: ContentInfo,
}

/// `PKIStatusInfo` (RFC 3161 section 2.4.2) that says no more than its status.
#[derive(Sequence)]
struct Status {
    status: u8,
}

/// `granted`.
const GRANTED: Status = Status { status: 0 };

/// Returns a `TimeStampResp` in DER.
pub(super) fn timestamp(
    authority: &Issuer,
    wanted: &Wanted,
    now: Timestamp,
) -> Result<Vec<u8>, AuthorityError> {
    let at = GeneralizedTime::from_unix_duration(since_1970(now))?;
    let info = TstInfo {
        version: TspVersion::V1,
        policy: POLICY,
        message_imprint: MessageImprint {
            hash_algorithm: wanted.algorithm.clone(),
            hashed_message: OctetString::new(wanted.digest.as_slice())?,
        },
        serial_number: Int::new(&serial()?)?,
        // Whole seconds: the fraction that DER allows is one that clients do not read.
        gen_time: at,
        accuracy: None,
        ordering: false,
        nonce: wanted.nonce.clone(),
        tsa: None,
        extensions: None,
    };
    let info = info.to_der()?;
    let certificate = &authority.certificate;
    let id =
        CertificateId { hash: OctetString::new(Sha256::of(certificate.to_der()?).as_bytes().as_slice())? };
    let signed = SetOfVec::try_from(vec![
        attribute(CONTENT_TYPE, Any::new(Tag::ObjectIdentifier, TST_INFO.as_bytes())?)?,
        attribute(MESSAGE_DIGEST, Any::new(Tag::OctetString, Sha256::of(&info).as_bytes().as_slice())?)?,
        attribute(SIGNING_TIME, Any::encode_from(&x509::time(now)?)?)?,
        attribute(SIGNING_CERTIFICATE_V2, Any::encode_from(&SigningCertificate { certificates: vec![id] })?)?,
    ])?;
    let signature = authority.key.sign(&signed.to_der()?)?;
    let signer = SignerInfo {
        version: CmsVersion::V1,
        sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
            issuer: certificate.tbs_certificate.issuer.clone(),
            serial_number: certificate.tbs_certificate.serial_number.clone(),
        }),
        digest_alg: plain(SHA256),
        signed_attrs: Some(signed),
        signature_algorithm: plain(ECDSA_WITH_SHA256),
        signature: OctetString::new(signature)?,
        unsigned_attrs: None,
    };
    let certificates = match wanted.certificate {
        true => Some(CertificateSet(SetOfVec::try_from(vec![CertificateChoices::Certificate(
            certificate.clone(),
        )])?)),
        false => None,
    };
    let data = SignedData {
        version: CmsVersion::V3,
        digest_algorithms: SetOfVec::try_from(vec![plain(SHA256)])?,
        encap_content_info: EncapsulatedContentInfo {
            econtent_type: TST_INFO,
            econtent: Some(Any::new(Tag::OctetString, info)?),
        },
        certificates,
        crls: None,
        signer_infos: SignerInfos(SetOfVec::try_from(vec![signer])?),
    };
    let token = ContentInfo { content_type: SIGNED_DATA, content: Any::encode_from(&data)? };
    Ok(Response { status: GRANTED, token }.to_der()?)
}

fn attribute(oid: ObjectIdentifier, value: Any) -> Result<Attribute, AuthorityError> {
    Ok(Attribute { oid, values: SetOfVec::try_from(vec![value])? })
}

/// Names an algorithm that has no parameters.
pub(super) fn plain(oid: ObjectIdentifier) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid, parameters: None }
}
