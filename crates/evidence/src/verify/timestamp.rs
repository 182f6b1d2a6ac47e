//! What a timestamp token (RFC 3161) says beside what its authority signed.
//!
//! The authority signs the time and the digest. Around them stands a CMS envelope (RFC 5652) with parts that no
//! signature covers: a copy of the authority's certificate, the names of algorithms, a status. Each has one right
//! value, so any other is refused.

use cms::{cert::CertificateChoices, content_info::CmsVersion, signed_data::SignedData};
use der::{Decode, Encode, oid::ObjectIdentifier};
use sigstore_types::Bundle;
use x509_tsp::TimeStampResp;

use super::{Check, Refused, Trust};

/// RFC 3161, section 2.4.2.
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
/// RFC 5652, section 5.1.
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const RSA: &str = "1.2.840.113549.1.1.1";
/// Each digest with the signatures over it: RFC 5758 for ECDSA, RFC 5754 for RSA.
const SIGNATURES: [(&str, [&str; 3]); 3] = [
    ("2.16.840.1.101.3.4.2.1", ["1.2.840.10045.4.3.2", "1.2.840.113549.1.1.11", RSA]),
    ("2.16.840.1.101.3.4.2.2", ["1.2.840.10045.4.3.3", "1.2.840.113549.1.1.12", RSA]),
    ("2.16.840.1.101.3.4.2.3", ["1.2.840.10045.4.3.4", "1.2.840.113549.1.1.13", RSA]),
];

/// Refuses every timestamp of a bundle in which anything is not signed, not trusted, and not the one right value.
pub(super) fn strict(bundle: &Bundle, trust: &Trust) -> Result<(), Refused> {
    let timestamps = &bundle.verification_material.timestamp_verification_data.rfc3161_timestamps;
    timestamps.iter().try_for_each(|it| token(it.signed_timestamp.as_bytes(), trust))
}

fn token(bytes: &[u8], trust: &Trust) -> Result<(), Refused> {
    let refuse = |expected: &str, found: &str| Refused::new(Check::Timestamp, expected, found);
    let malformed = |error: der::Error| refuse("an RFC 3161 response in DER", &error.to_string());
    let response = TimeStampResp::from_der(bytes).map_err(malformed)?;
    if response.to_der().map_err(malformed)? != bytes {
        return Err(refuse("an RFC 3161 response in DER", "another encoding of one"));
    }
    let status = &response.status;
    if status.status as u8 != 0 || status.status_string.is_some() || status.fail_info.is_some() {
        return Err(refuse("the status `granted`", "another status"));
    }
    let content = response.time_stamp_token.as_ref().ok_or_else(|| refuse("a token", "none"))?;
    if content.content_type != SIGNED_DATA {
        return Err(refuse("signed data", &content.content_type.to_string()));
    }
    let signed: SignedData = content.content.decode_as().map_err(malformed)?;
    if signed.encap_content_info.econtent_type != TST_INFO {
        return Err(refuse("a time", &signed.encap_content_info.econtent_type.to_string()));
    }
    let [signer] = signed.signer_infos.0.as_slice() else {
        return Err(refuse("one signer", &signed.signer_infos.0.len().to_string()));
    };
    if signed.version != CmsVersion::V3 || signer.version != CmsVersion::V1 {
        return Err(refuse("signed data of version 3 by a signer of version 1", "other versions"));
    }
    if signed.digest_algorithms.as_slice() != [signer.digest_alg.clone()] {
        return Err(refuse("the digest of the signer alone", "other digests"));
    }
    let (digest, signature) = (signer.digest_alg.oid.to_string(), signer.signature_algorithm.oid.to_string());
    let known = SIGNATURES.iter().find(|(oid, _)| *oid == digest);
    if !known.is_some_and(|(_, signatures)| signatures.contains(&signature.as_str())) {
        return Err(refuse(&format!("a signature over the digest {digest}"), &format!("one of {signature}")));
    }
    if signed.crls.is_some() || signer.unsigned_attrs.is_some() {
        return Err(refuse("nothing that is not signed", "unsigned attributes or revocation lists"));
    }
    for choice in signed.certificates.iter().flat_map(|set| set.0.iter()) {
        let CertificateChoices::Certificate(certificate) = choice else {
            return Err(refuse("certificates of the trusted root", "another kind"));
        };
        if !trust.has_timestamp_authority(&certificate.to_der().map_err(malformed)?) {
            return Err(refuse("certificates of the trusted root", "another certificate"));
        }
    }
    Ok(())
}
