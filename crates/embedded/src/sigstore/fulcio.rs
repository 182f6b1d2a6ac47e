//! `POST sigstore/api/v2/signingCert`: a certificate for a run that proves who it is and that it has the key.
//!
//! The credential is a CI platform's ID token with audience `sigstore`, or the session that the exchange gave for
//! one. Neither needs a right to any package: a certificate says who signed, and whoever verifies decides what that
//! is worth. It does have to be a run that a trusted publisher names, so that strangers get none.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
};
use der::{Decode as _, Encode as _};
use jiff::Timestamp;
use protected_model::{
    api::problem::Code,
    identity::RunIdentity,
    secret::{IdToken, Secret as _},
    time::numeric_date,
};
use protected_trust::verify::VerifiedIdToken;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use x509_cert::request::CertReq;

use super::{authority, base64, ca, identity::Certified, invalid, json, pem};
use crate::{
    app::App,
    audit::{self, NewEvent},
    auth,
    body::read_body,
    caching::no_store,
    endpoint::{Credential, Endpoint},
    fractalops::{decide, exchange, replay},
    problem::{Answer, Refusal},
    request::RequestInfo,
    session::Session,
    x509::{self, ECDSA_WITH_SHA256, PublicKey, PublicKeyError},
};

/// The audience of an ID token that asks for a certificate, as every Sigstore client asks its platform for it.
const AUDIENCE: &str = "sigstore";
/// The action in the audit trail.
const ISSUE: &str = "certificate.issue";
/// The largest request.
const BODY_BYTES: u64 = 64 * 1024;

/// `CreateSigningCertificateRequest` of Fulcio's API version 2.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct CertificateRequest {
    /// Absent where the token is in the `Authorization` header.
    credentials: Option<Credentials>,
    /// A key and a proof that the caller has its private part.
    public_key_request: Option<PublicKeyRequest>,
    /// Or a PKCS #10 request: PEM, in base64.
    certificate_signing_request: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Credentials {
    /// An ID token with audience `sigstore`, or a CI session token.
    oidc_identity_token: IdToken,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PublicKeyRequest {
    public_key: RequestedKey,
    /// The key's signature of the token's `sub`: ECDSA with SHA-256, DER in base64.
    proof_of_possession: String,
}

#[derive(Deserialize, JsonSchema)]
struct RequestedKey {
    /// PEM of an ECDSA key on P-256.
    content: String,
}

/// `SigningCertificate` of Fulcio's API version 2.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SigningCertificate {
    signed_certificate_embedded_sct: EmbeddedSct,
}

#[derive(Serialize, JsonSchema)]
struct EmbeddedSct {
    chain: Chain,
}

#[derive(Serialize, JsonSchema)]
struct Chain {
    /// PEM: the certificate, the intermediate, the root.
    certificates: Vec<String>,
}

/// `TrustBundle` of Fulcio's API version 2.
#[derive(Serialize, JsonSchema)]
struct TrustBundle {
    /// Each from the intermediate to the root.
    chains: Vec<Chain>,
}

/// Where the API is: below the authority's URL, and at the origin's root, since sigstore-python takes no more of a
/// Fulcio's URL than its origin.
const PREFIXES: [&str; 2] = ["sigstore/", ""];

pub(super) fn endpoints() -> Vec<Endpoint> {
    let at = |prefix: &str| {
        let issue = "Issue a signing certificate, as Fulcio does";
        let list = "List the chains of certificates issued here";
        [
            Endpoint::post(&format!("{prefix}api/v2/signingCert"), issue, signing_certificate)
                .credential(Credential::SessionOrIdToken)
                .takes::<CertificateRequest>()
                .answers::<SigningCertificate>(201, "The certificate and its chain"),
            Endpoint::get(&format!("{prefix}api/v2/trustBundle"), list, trust_bundle)
                .answers::<TrustBundle>(200, "The chains"),
        ]
    };
    PREFIXES.into_iter().flat_map(at).collect()
}

async fn trust_bundle(State(app): State<Arc<App>>) -> Answer<Json<TrustBundle>> {
    let keys = authority(&app)?.keys();
    let chain = |issuer| Ok(Chain { certificates: vec![x509::pem(issuer)?, x509::pem(&keys.root)?] });
    let chains: Result<_, super::error::AuthorityError> = keys.issuers().map(chain).collect();
    Ok(Json(TrustBundle { chains: chains? }))
}

type Created = (StatusCode, [(HeaderName, HeaderValue); 1], Json<SigningCertificate>);

async fn signing_certificate(
    State(app): State<Arc<App>>,
    request: RequestInfo,
    headers: HeaderMap,
    body: Body,
) -> Answer<Created> {
    let mut event = NewEvent::new(ISSUE, &request, app.now());
    match issued(&app, &headers, body, &mut event).await {
        Ok(certificates) => {
            let signed_certificate_embedded_sct = EmbeddedSct { chain: Chain { certificates } };
            Ok((
                StatusCode::CREATED,
                no_store(),
                Json(SigningCertificate { signed_certificate_embedded_sct }),
            ))
        }
        Err(refusal) => Err(refusal.about(event)),
    }
}

async fn issued(app: &App, headers: &HeaderMap, body: Body, event: &mut NewEvent) -> Answer<Vec<String>> {
    let authority = authority(app)?;
    let body = read_body(headers, body, BODY_BYTES).await?;
    let wanted: CertificateRequest = json(headers, &body)?;
    let token = credential(&wanted, headers)?;
    let caller = caller(app, &token, event).await?;
    let run = caller.run();
    let holder = holder(&wanted, run)?;
    let certified = Certified::of(run)?;
    let keys = authority.keys();
    let now = app.now();
    let certificate = ca::issue(&keys, &holder, &certified, now)?;
    let chain = ca::chain(&keys, &certificate)?;
    caller.record(app, event, now).await?;
    Ok(chain)
}

/// Returns the one token that the request brings.
///
/// Attack: with two, a proxy in front checks the one and the service behind it takes the other.
fn credential(wanted: &CertificateRequest, headers: &HeaderMap) -> Answer<IdToken> {
    match (&wanted.credentials, headers.contains_key(header::AUTHORIZATION)) {
        (Some(_), true) => {
            Err(invalid("two credentials: expected either `credentials` or an Authorization header"))
        }
        (Some(credentials), false) => Ok(IdToken::new(credentials.oidc_identity_token.reveal())),
        (None, _) => Ok(IdToken::new(auth::bearer(headers)?)),
    }
}

/// Who asks, by which credential.
enum Caller {
    /// A run whose ID token was verified, and is now used up.
    Token(Box<VerifiedIdToken>),
    /// A run that has a session already.
    Session(Box<RunIdentity>),
}

impl Caller {
    fn run(&self) -> &RunIdentity {
        match self {
            Self::Token(verified) => &verified.identity,
            Self::Session(run) => run,
        }
    }

    /// Writes the event; uses an ID token up in the same transaction.
    async fn record(&self, app: &App, event: &NewEvent, now: Timestamp) -> Answer<()> {
        let used = match self {
            Self::Token(verified) => {
                Some((verified.replay.as_str().to_owned(), numeric_date(verified.retain_until())))
            }
            Self::Session(_) => None,
        };
        let mut event = event.clone();
        event.0.ts = protected_model::time::whole_seconds(now);
        let written = app.store.write(move |txn| {
            if let Some((used, until)) = &used
                && !replay::claim(txn, used, *until)?
            {
                return Ok(false);
            }
            audit::append(txn, event).map(|_| true)
        });
        match written.await? {
            true => Ok(()),
            false => Err(Refusal::new(
                Code::TOKEN_REPLAYED,
                "this ID token was used for a certificate before; each is good for one",
            )
            .hint("ask the CI platform for a fresh one, or exchange one for a session, which is good for several")),
        }
    }
}

/// Returns who asks: a run that a trusted publisher names.
async fn caller(app: &App, token: &IdToken, event: &mut NewEvent) -> Answer<Caller> {
    match auth::verify_session(app, token.reveal()) {
        Ok(claims) => {
            let session = Session::of_run(claims);
            event.by_session(&session);
            let matched = decide::publishers(app, &session.identity)?;
            let own = matched.iter().find(|publisher| publisher.tenant_id == session.tenant_id);
            let Some(publisher) = own else {
                let message = format!(
                    "no trusted publisher of the session's tenant matches {}",
                    session.identity.describe()
                );
                return Err(Refusal::new(Code::NO_TRUSTED_PUBLISHER, message));
            };
            event.0.policy_id = Some(publisher.id.clone());
            Ok(Caller::Session(Box::new(session.identity)))
        }
        // A token of ours that is refused stays refused; any other may be an ID token.
        Err(refusal) if *refusal.code() != Code::UNAUTHENTICATED => Err(refusal),
        Err(_) => {
            let verified = exchange::verify(app, token, &[AUDIENCE.to_owned()], event).await?;
            let matched = decide::publishers(app, &verified.identity)?;
            event.0.tenant_id = Some(exchange::one_tenant(&matched)?);
            event.0.policy_id = matched.first().map(|publisher| publisher.id.clone());
            event.by_token(verified.replay.as_str(), verified.expires);
            Ok(Caller::Token(Box::new(verified)))
        }
    }
}

/// Returns the key whose private part the caller has shown to have.
///
/// Attack: a certificate for somebody else's key makes their signatures look like the caller's.
fn holder(wanted: &CertificateRequest, run: &RunIdentity) -> Answer<PublicKey> {
    match (&wanted.public_key_request, &wanted.certificate_signing_request) {
        (Some(request), None) => {
            let (_, spki) = pem("publicKey.content", request.public_key.content.as_bytes(), &["PUBLIC KEY"])?;
            let key = PublicKey::from_spki(&spki).map_err(|error| wrong_key("publicKey.content", &error))?;
            let proof = base64("proofOfPossession", &request.proof_of_possession)?;
            if !key.verifies(run.subject.as_bytes(), &proof) {
                return Err(invalid(format!(
                    "`proofOfPossession` does not verify: expected the signature of the token's `sub`, `{}`, by the key \
                     in `publicKey`, ECDSA with SHA-256",
                    run.subject
                )));
            }
            Ok(key)
        }
        (None, Some(request)) => {
            let text = base64("certificateSigningRequest", request)?;
            let labels = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"];
            let (_, der) = pem("certificateSigningRequest", &text, &labels)?;
            let request = CertReq::from_der(&der).map_err(|error| {
                invalid(format!("`certificateSigningRequest` is no PKCS #10 request (RFC 2986): {error}"))
            })?;
            let key = PublicKey::of(&request.info.public_key)
                .map_err(|error| wrong_key("certificateSigningRequest", &error))?;
            let signed = request.info.to_der().is_ok_and(|message| {
                request.algorithm.oid == ECDSA_WITH_SHA256
                    && key.verifies(&message, request.signature.as_bytes().unwrap_or_default())
            });
            if !signed {
                return Err(invalid(
                    "`certificateSigningRequest` does not verify: expected it to be signed by the key that it holds, \
                     ECDSA with SHA-256",
                ));
            }
            Ok(key)
        }
        _ => Err(invalid("expected either `publicKeyRequest` or `certificateSigningRequest`")),
    }
}

fn wrong_key(member: &str, error: &PublicKeyError) -> Refusal {
    invalid(format!("`{member}`: the key cannot be certified: {error}"))
}
