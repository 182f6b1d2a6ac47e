//! Signing a delivery: which statements are made of it, and where they go.

use std::path::Path;

use jiff::Timestamp;
use protected_bundle::layout::{Delivery, signature::Part};
use protected_evidence::{
    delivery,
    sign::StatementToSign,
    verify::{self, Expected},
};
use protected_http::Client;
use protected_model::{
    api::evidence::{BUNDLE_TYPE, Document},
    digest::Sha256,
    time::whole_seconds,
};

use super::place::broken;
use crate::{
    context::{Context, Session},
    error::{CommandError, Kind},
    signing::Signing,
};

/// Returns what the signed parts of a delivery are called.
pub(crate) fn signed(bundle: &Delivery) -> Vec<&'static str> {
    let signed = Part::ALL.into_iter().filter(|part| bundle.manifests().signatures.of(*part).is_some());
    signed.map(Part::name).collect()
}

/// Returns the signed statement over a bundle as a document of evidence, where it is signed.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn statement(bundle: &Delivery, place: &Path) -> Result<Option<Document>, CommandError> {
    let signature = bundle.unverified_signature(Part::Bundle).map_err(|error| broken(place, &error))?;
    Ok(signature.map(|bytes| Document {
        kind: "sigstore-bundle".to_owned(),
        media_type: BUNDLE_TYPE.to_owned(),
        sha256: Sha256::of(&bytes),
        inline: String::from_utf8_lossy(&bytes).into_owned(),
    }))
}

/// Returns the parts of a delivery that nobody signed yet.
pub(crate) fn unsigned(bundle: &Delivery) -> Vec<Part> {
    Part::ALL.into_iter().filter(|part| bundle.manifests().signatures.of(*part).is_none()).collect()
}

/// Has what is not signed of a delivery signed, all of it at the same time, and puts it into the layout.
///
/// # Errors
/// When it is not signed, or cannot be written.
pub(crate) async fn sign(
    context: &Context,
    http: &Client,
    session: Option<&Session>,
    signing: &Signing,
    (bundle, place): (&mut Delivery, &Path),
    build_id: Option<&str>,
) -> Result<(), CommandError> {
    let parts = unsigned(bundle);
    if parts.is_empty() {
        return Ok(());
    }
    let made = parts.iter().map(|part| {
        let (subject, keys) = (bundle.bundle().digest.0, bundle.manifests().keys.digest.0);
        match part {
            Part::Bundle => {
                let build_id = build_id.map(str::to_owned);
                to_sign(*part, &delivery::delivered(bundle.descriptor(), &subject, build_id))
            }
            Part::Keys => keys_statement(bundle, &keys),
        }
    });
    let statements = made.collect::<Result<_, _>>()?;
    let signed = signing.sign(context, http, session, statements).await?;
    let signed: Vec<_> = parts.into_iter().zip(signed).map(|(part, signed)| (part, signed.bundle)).collect();
    bundle.add_signatures(&signed).map_err(|error| broken(place, &error))
}

/// Holds the signature over the keys of a delivery, where there is one, against what vouches for a signer.
///
/// Attack: a key of a stranger's vault added to a delivery in its area. The token of the job would be shown to that vault, and
/// whoever wraps anew would sign for the key.
///
/// # Errors
/// When they are signed by nobody that is known, or the signature is of other keys.
pub(crate) fn check_keys(bundle: &Delivery, signing: &Signing) -> Result<(), CommandError> {
    let failed = |reason: String| {
        let message = format!("the keys are not signed anew: their signature is not good: {reason}");
        CommandError::new(Kind::NotProven, message).advise(
            "fetch the delivery from where it was made, or give --sign off where it was signed elsewhere",
        )
    };
    let signature = bundle.unverified_signature(Part::Keys).map_err(|error| failed(error.to_string()))?;
    let Some(signature) = signature else { return Ok(()) };
    let descriptor = bundle.descriptor();
    let expected = Expected {
        subject: &delivery::artifact(descriptor, &bundle.manifests().keys.digest.0),
        predicate_type: Some(Part::Keys.predicate_type()),
        identity: None,
    };
    let good = signing.verify(&signature, &expected).map_err(|refused| failed(refused.to_string()))?;
    let said = verify::wrapped(&good, descriptor, &bundle.bundle().digest.0);
    said.map(drop).map_err(|refused| failed(refused.to_string()))
}

/// Says that the keys with this manifest are those of a delivery, from now on.
pub(crate) fn keys_statement(bundle: &Delivery, keys: &Sha256) -> Result<StatementToSign, CommandError> {
    let now = whole_seconds(Timestamp::now());
    to_sign(Part::Keys, &delivery::wrapped(bundle.descriptor(), &bundle.bundle().digest.0, keys, now))
}

fn to_sign<P: serde::Serialize>(
    part: Part,
    statement: &protected_evidence::statement::Statement<P>,
) -> Result<StatementToSign, CommandError> {
    let payload = statement.to_json().map_err(|error| {
        let message = format!("cannot say of the {} whose they are: {error}", part.name());
        CommandError::new(Kind::Failed, message)
    })?;
    Ok(StatementToSign { name: part.name().to_owned(), payload })
}
