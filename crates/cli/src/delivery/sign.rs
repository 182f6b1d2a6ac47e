//! Signing a delivery: which statements are made of it, where they go, and whether those that are there are good.

use std::path::Path;

use jiff::Timestamp;
use protected_bundle::layout::{Delivery, signature::Part};
use protected_evidence::{
    delivery,
    sign::StatementToSign,
    verify::{self, Expected, Identity, Refused, Trust, Verified},
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

/// Returns whether somebody signed a part of a delivery, whoever that is.
pub(crate) fn is_signed(bundle: &Delivery, part: Part) -> bool {
    bundle.manifests().signatures.of(part).is_some()
}

/// Returns what the signed parts of a delivery are called.
pub(crate) fn signed(bundle: &Delivery) -> Vec<&'static str> {
    Part::ALL.into_iter().filter(|part| is_signed(bundle, *part)).map(Part::name).collect()
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
    Part::ALL.into_iter().filter(|part| !is_signed(bundle, *part)).collect()
}

/// What a signature of a part of a delivery proves.
pub(crate) struct Judged {
    pub(crate) good: Verified,
    /// What it says, for a person.
    pub(crate) said: String,
    /// The build that it names, if it is over the bundle and names one.
    pub(crate) build_id: Option<String>,
}

/// Verifies the signature of a part, and holds what it says against the delivery, and who says it against `identity`.
///
/// # Errors
/// The first check that failed.
pub(crate) fn judge(
    bundle: &Delivery,
    part: Part,
    signature: &[u8],
    trust: &Trust,
    identity: Option<&Identity>,
) -> Result<Judged, Refused> {
    let descriptor = bundle.descriptor();
    let expected = Expected {
        subject: &delivery::artifact(descriptor, &bundle.manifests().of(part).digest.0),
        predicate_type: Some(part.predicate_type()),
        identity,
    };
    let good = verify::bundle(signature, trust, &expected)?;
    let (said, build_id) = match part {
        Part::Bundle => {
            let build_id = verify::delivered(&good, descriptor)?.build_id;
            let build = build_id.as_ref().map(|id| format!(", build {id}")).unwrap_or_default();
            (format!("its bundle{build}"), build_id)
        }
        Part::Keys => {
            let said = verify::wrapped(&good, descriptor, &bundle.bundle().digest.0)?;
            (format!("its keys, wrapped {}", said.wrapped_at), None)
        }
    };
    Ok(Judged { good, said, build_id })
}

/// Holds the signature of a part, where there is one, against who signs here: the same identity, or the same key.
///
/// Attack: a delivery that a stranger signed, whom the same authority certifies as it does everybody. Whoever signs the rest
/// of it, or its keys anew, would vouch for the stranger; and whoever counts it as signed would tell so.
///
/// # Errors
/// When it is signed by somebody else, or the signature is of something else.
pub(crate) fn check_own(
    bundle: &Delivery,
    part: Part,
    signing: &Signing,
) -> Result<Option<Judged>, CommandError> {
    let failed = |reason: &dyn std::fmt::Display| {
        let message = format!("the signature over the {} is not by who signs here: {reason}", part.name());
        CommandError::new(Kind::NotProven, message)
    };
    let signature = bundle.unverified_signature(part).map_err(|error| failed(&error))?;
    let Some(signature) = signature else { return Ok(None) };
    let judged = judge(bundle, part, &signature, signing.trust(), None).and_then(|judged| {
        signing.check_own(&judged.good.signer)?;
        Ok(judged)
    });
    judged.map(Some).map_err(|refused| failed(&refused))
}

/// Has what is not signed of a delivery signed, all of it at the same time, and puts it into the layout. What is signed has
/// to be by the same signer, and of the same build.
///
/// # Errors
/// When somebody else signed it, when it is not signed now, or cannot be written.
pub(crate) async fn sign(
    context: &Context,
    http: &Client,
    session: Option<&Session>,
    signing: &Signing,
    (bundle, place): (&mut Delivery, &Path),
    build_id: Option<&str>,
) -> Result<(), CommandError> {
    for part in Part::ALL {
        let signed = check_own(bundle, part, signing)?;
        if let (Part::Bundle, Some(signed)) = (part, signed)
            && signed.build_id.as_deref() != build_id
        {
            let told =
                |id: Option<&str>| id.map_or_else(|| "no build".to_owned(), |id| format!("build {id}"));
            let (signed, own) = (told(signed.build_id.as_deref()), told(build_id));
            let message = format!("the delivery is signed as one of {signed}, and is one of {own}");
            return Err(CommandError::new(Kind::NotProven, message));
        }
    }
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
