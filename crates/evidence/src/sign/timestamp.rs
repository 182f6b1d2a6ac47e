//! The timestamp authority (RFC 3161 over HTTP, section 3.4): a digest in, a signed time out.

use cms::{content_info::ContentInfo, signed_data::SignedData};
use der::{
    Decode, Encode,
    asn1::{Any, Int, OctetString, Uint},
    oid::ObjectIdentifier,
};
use protected_http::Client;
use protected_model::{digest::Sha256, service_url::ServiceUrl};
use sigstore_sign::types::TimestampToken;
use x509_tsp::{MessageImprint, TimeStampReq, TimeStampResp, TspVersion, TstInfo};

use super::{
    Service, SignError,
    authority::{ATTEMPT, MAX_BYTES, RETRY},
};

const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");

/// Has `signature` timestamped.
///
/// # Errors
/// When the authority is not there, refuses, or answers with a time for something else.
pub(super) async fn stamp(
    http: &Client,
    endpoint: &ServiceUrl,
    signature: &[u8],
) -> Result<TimestampToken, SignError> {
    const SERVICE: Service = Service::TimestampAuthority;
    let digest = Sha256::of(signature);
    let mut nonce = [0; 8];
    getrandom::fill(&mut nonce).map_err(|error| SignError::Generate(error.to_string()))?;
    let cannot = |error: der::Error| SignError::Generate(error.to_string());
    let request = request(&digest, &nonce).map_err(cannot)?;
    let body = request.to_der().map_err(cannot)?;
    // The endpoint as it was given: a `/` at its end would be another one.
    let mut url = endpoint.as_url().clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty();
    }
    let post = http
        .post(url)
        .header("accept", "application/timestamp-reply")
        .body(body.into(), "application/timestamp-query")
        .timeout(ATTEMPT)
        .retry(RETRY)
        .max_bytes(MAX_BYTES);
    let answer = post.send().await.map_err(|source| SignError::Http { service: SERVICE, source })?;
    if !answer.is_success() {
        return Err(SignError::refused(SERVICE, &answer, None));
    }
    check(answer.body(), &request).map_err(|reason| SignError::answer(SERVICE, &answer, reason))?;
    Ok(TimestampToken::new(answer.into_body().to_vec()))
}

fn request(digest: &Sha256, nonce: &[u8]) -> Result<TimeStampReq, der::Error> {
    Ok(TimeStampReq {
        version: TspVersion::V1,
        message_imprint: MessageImprint {
            hash_algorithm: cms::cert::x509::spki::AlgorithmIdentifier {
                oid: SHA256,
                parameters: Some(Any::null()),
            },
            hashed_message: OctetString::new(digest.as_bytes().as_slice())?,
        },
        req_policy: None,
        nonce: Some(Int::from(Uint::new(nonce)?)),
        cert_req: true,
        extensions: None,
    })
}

/// Compares an answer with its request (RFC 3161 section 2.4.2). Its signature is verified with the bundle.
fn check(answer: &[u8], request: &TimeStampReq) -> Result<(), String> {
    let broken = |error: der::Error| format!("it is no time-stamp response: {error}");
    let response = TimeStampResp::from_der(answer).map_err(broken)?;
    let status = response.status.status as u8;
    if status > 1 {
        return Err(format!("the request was not granted, its status is {status}"));
    }
    let token = response.time_stamp_token.ok_or("it is granted, and holds no token")?;
    let info = info(&token).map_err(broken)?.ok_or("its token holds no time")?;
    let (asked, stamped) = (&request.message_imprint, &info.message_imprint);
    if stamped.hash_algorithm.oid != asked.hash_algorithm.oid
        || stamped.hashed_message != asked.hashed_message
    {
        let hex = |imprint: &MessageImprint| hex::encode(imprint.hashed_message.as_bytes());
        return Err(format!("expected a time for the digest {}, found one for {}", hex(asked), hex(stamped)));
    }
    // Attack: an authority, or whoever stands before it, answers with a token from another day.
    if info.nonce != request.nonce {
        let hex =
            |nonce: &Option<Int>| nonce.as_ref().map_or("none".to_owned(), |it| hex::encode(it.as_bytes()));
        return Err(format!("expected the nonce {}, found {}", hex(&request.nonce), hex(&info.nonce)));
    }
    Ok(())
}

fn info(token: &ContentInfo) -> Result<Option<TstInfo>, der::Error> {
    if token.content_type != SIGNED_DATA {
        return Ok(None);
    }
    let signed: SignedData = token.content.decode_as()?;
    let Some(content) = signed.encap_content_info.econtent else { return Ok(None) };
    let octets: OctetString = content.decode_as()?;
    TstInfo::from_der(octets.as_bytes()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A query of OpenSSL 3 (`openssl ts -query -sha256 -cert`) for `abc`, and its answer (`openssl ts -reply`).
    const QUERY: &str = "30430201013031300d060960864801650304020105000420ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad020834274dc568c418310101ff";
    const ANSWER: &str = "3082037130030201003082036806092a864886f70d010702a082035930820355020103310f300d06096086480165030402010500306c060b2a864886f70d0109100104a05d045b305902010106032a03043031300d060960864801650304020105000420ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad020102180f32303236313132353232343833315a020834274dc568c41831a08201973082019330820139a00302010202141c10fbcbd78f272c55490e76e3c46292ce67ef86300a06082a8648ce3d04030230133111300f06035504030c087465737420747361301e170d3236313132353232343833315a170d3336313132323232343833315a30133111300f06035504030c0874657374207473613059301306072a8648ce3d020106082a8648ce3d03010703420004112a0c887781e32801ab9a3e1f61d84e382866093711a19f5668840ce43b9de517ccf5917fa395b0691432b5ba02a247db2e686c349cd88eb4e8f57ea039b3f5a36b3069301d0603551d0e041604140a4aebe61b8c443b7f4e0b27d9c118e535af89a9301f0603551d230418301680140a4aebe61b8c443b7f4e0b27d9c118e535af89a9300f0603551d130101ff040530030101ff30160603551d250101ff040c300a06082b06010505070308300a06082a8648ce3d04030203480030450220714a0db748ac2314701b07fbba9df49ec1f366cee04c0bf562873d1e7f36588a02210087fa711bfb3d554ebe512e39b63c8a46ec23ae897f45bc2d46fb91f9d6359c5d3182013430820130020101302b30133111300f06035504030c08746573742074736102141c10fbcbd78f272c55490e76e3c46292ce67ef86300d06096086480165030402010500a08198301a06092a864886f70d010903310d060b2a864886f70d0109100104301c06092a864886f70d010905310f170d3236313132353232343833315a302b060b2a864886f70d010910020c311c301a301830160414f33693e8c9f1ecbeaa7f869044953288b8342074302f06092a864886f70d01090431220420d3813af564f5ab476251ee9704e50cc734a8ea79e9cc8bf12df8381a90b04f0a300a06082a8648ce3d04030204483046022100d56f4bcdd0fcb7385b5a9d1bfe1b1c37933ac9995e34dbedd1bcb813bedd223402210087143aa1218b8a89681fb4de617d2a1f2de93520216b99e708786f377a61aa43";
    const NONCE: &str = "34274dc568c41831";

    fn asked(message: &str, nonce: &str) -> TimeStampReq {
        request(&Sha256::of(message), &hex::decode(nonce).expect("hex")).expect("request")
    }

    #[test]
    fn asks_as_openssl_does() {
        assert_eq!(hex::encode(asked("abc", NONCE).to_der().expect("DER")), QUERY);
    }

    #[test]
    fn takes_an_answer_to_its_own_request_alone() {
        let answer = hex::decode(ANSWER).expect("hex");
        assert_eq!(check(&answer, &asked("abc", NONCE)), Ok(()));
        let other = check(&answer, &asked("abd", NONCE)).expect_err("another digest");
        assert!(other.starts_with("expected a time for the digest a52d159f"), "{other}");
        assert!(
            other.ends_with("found one for ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            "{other}"
        );
        let replayed = check(&answer, &asked("abc", "34274dc568c41832")).expect_err("another nonce");
        assert_eq!(replayed, "expected the nonce 34274dc568c41832, found 34274dc568c41831");
        let mut without = asked("abc", NONCE);
        without.nonce = None;
        assert!(check(&answer, &without).is_err());
    }

    #[test]
    fn a_nonce_is_a_positive_number_in_its_shortest_form() {
        for (nonce, integer) in
            [([0xff, 0, 0, 0, 0, 0, 0, 1], "0209 00ff00000000000001"), ([0, 0, 0, 0, 0, 0, 0, 7], "0201 07")]
        {
            let request = request(&Sha256::of("abc"), &nonce).expect("request").to_der().expect("DER");
            let integer = integer.replace(' ', "");
            assert!(hex::encode(&request).contains(&format!("{integer}0101ff")), "{}", hex::encode(request));
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let request = asked("abc", NONCE);
        let answer = hex::decode(ANSWER).expect("hex");
        for end in 0..answer.len() {
            assert!(check(&answer[..end], &request).is_err());
        }
        let rejected = hex::decode("30053003020102").expect("hex");
        assert_eq!(
            check(&rejected, &request).expect_err("error"),
            "the request was not granted, its status is 2"
        );
        let empty = hex::decode("30053003020100").expect("hex");
        assert_eq!(check(&empty, &request).expect_err("error"), "it is granted, and holds no token");
    }
}
