//! Who signed a delivery: what is there is checked, and what is demanded has to be there.

use protected_bundle::layout::{self, signature::Part};
use protected_evidence::{
    delivery::artifact,
    verify::{self, Check, Expected, Refused, Trust, Verified},
};

use super::{
    Finding, Outcome,
    evidence::{NAMED, who},
    policy::Policy,
};
use crate::{
    console::one_line,
    context::Context,
    error::{CommandError, Kind},
};

/// What came of the signatures of a delivery.
pub(in crate::command) struct Signed {
    /// One of each part: what it is called, and how it went.
    pub(super) rows: Vec<(&'static str, Finding)>,
    /// The build that the signed statement names, where that was checked: nothing, where it names none.
    pub(super) build_id: Option<Option<String>>,
}

impl Signed {
    /// Returns what each is called, and how it went in one line.
    pub(in crate::command) fn lines(&self) -> impl Iterator<Item = (&'static str, String)> {
        let line = |finding: &Finding| match finding.outcome {
            // What there is says what is missing.
            Outcome::Note => finding.found.clone(),
            _ => finding.text(),
        };
        self.rows.iter().map(move |(name, finding)| {
            (*name, format!("{:<6} {}", finding.word(), one_line(&line(finding))))
        })
    }

    /// Returns the same for programs, as `verify` tells them.
    pub(in crate::command) fn documents(&self) -> Vec<serde_json::Value> {
        self.rows.iter().map(|(name, finding)| finding.document(name)).collect()
    }

    /// Refuses a delivery of which a signature is not what it has to be.
    ///
    /// # Errors
    /// [`Kind::NotProven`], with both sides of the first.
    pub(in crate::command) fn proven(&self, about: &str) -> Result<(), CommandError> {
        match self.rows.iter().find(|(_, finding)| finding.outcome == Outcome::Failed) {
            None => Ok(()),
            Some((name, finding)) => {
                let message = format!("{about} is not proven: {name}: {}", finding.text());
                Err(CommandError::new(Kind::NotProven, message))
            }
        }
    }
}

/// What a signature of each part is called.
fn name(part: Part) -> &'static str {
    match part {
        Part::Bundle => "signature",
        Part::Keys => "signed keys",
    }
}

/// Checks the signatures of a delivery against what is demanded, before anything of it is used. A statement over its bundle that
/// was `kept` elsewhere takes the place of the one in it.
///
/// # Errors
/// When what is trusted cannot be read or used, and when something is demanded that no delivery shows.
pub(in crate::command) async fn check(
    context: &Context,
    bundle: &layout::Delivery,
    mut kept: Option<Vec<u8>>,
    policy: &Policy,
    offline: bool,
) -> Result<Signed, CommandError> {
    let demanded = policy.parts()?;
    let mut signed = Signed { rows: Vec::new(), build_id: None };
    let is_signed = |part: &Part| bundle.manifests().signatures.of(*part).is_some();
    let trust = match policy.is_stated() && (kept.is_some() || Part::ALL.iter().any(is_signed)) {
        true => Some(policy.believed(context, offline).await?.trust(None)?),
        false => None,
    };
    for part in Part::ALL {
        let kept = kept.take_if(|_| part == Part::Bundle);
        let read = match kept {
            Some(kept) => Some(kept),
            None => bundle.unverified_signature(part).map_err(|error| {
                CommandError::from_error(Kind::NotProven, "reading the signatures of the delivery", &error)
            })?,
        };
        let finding = match (read, &trust) {
            (None, _) if demanded.contains(&part) => {
                finding(Outcome::Failed, format!("a signature over its {}", part.name()), "none")
            }
            (None, _) => finding(
                Outcome::Note,
                format!("a signature over its {}", part.name()),
                format!("its {}: not signed", part.name()),
            ),
            (Some(_), None) => finding(
                Outcome::Note,
                "somebody who is believed",
                format!("its {}: signed, not checked: give --trusted-root, --key or --policy", part.name()),
            ),
            (Some(bytes), Some(trust)) => {
                match judge(part, &bytes, trust, bundle, policy).and_then(|(good, said)| {
                    named(&good, policy, demanded.contains(&part)).map(|()| (good, said))
                }) {
                    Ok((good, said)) => {
                        if part == Part::Bundle {
                            signed.build_id = Some(said.build_id);
                        }
                        told(&good, &said.what, policy)
                    }
                    Err(Refused { check, expected, found }) => {
                        finding(Outcome::Failed, format!("{expected} ({check})"), found)
                    }
                }
            }
        };
        signed.rows.push((name(part), finding));
    }
    Ok(signed)
}

/// Refuses a signer of whom nothing is demanded but that an authority certified somebody.
///
/// Attack: whoever has any identity at the authority signs another delivery, for who names a key beside that authority's
/// root, or demands a signature and names nobody.
fn named(good: &Verified, policy: &Policy, is_demanded: bool) -> Result<(), Refused> {
    let is_certified = matches!(good.signer, verify::Signer::Certificate(_));
    if is_certified && (policy.names_key() || is_demanded && !policy.names_somebody()) {
        let expected = match policy.names_key() {
            true => "a signature of the stated key",
            false => NAMED,
        };
        return Err(Refused::new(Check::Identity, expected, who(&good.signer)));
    }
    Ok(())
}

/// What a statement says.
struct Said {
    what: String,
    build_id: Option<String>,
}

/// Verifies what is signed of a part, holds what it says against the delivery, and who says it against the policy.
fn judge(
    part: Part,
    bytes: &[u8],
    trust: &Trust,
    bundle: &layout::Delivery,
    policy: &Policy,
) -> Result<(Verified, Said), Refused> {
    let (descriptor, own) = (bundle.descriptor(), &bundle.bundle().digest.0);
    let expected = Expected {
        subject: &artifact(descriptor, &bundle.manifests().of(part).digest.0),
        predicate_type: Some(part.predicate_type()),
        identity: Some(&policy.identity),
    };
    let good = verify::bundle(bytes, trust, &expected)?;
    let said = match part {
        Part::Bundle => {
            let said = verify::delivered(&good, descriptor)?;
            let build = said.build_id.as_ref().map(|id| format!(", build {id}")).unwrap_or_default();
            Said { what: format!("its bundle{build}"), build_id: said.build_id }
        }
        Part::Keys => {
            let said = verify::wrapped(&good, descriptor, own)?;
            Said { what: format!("its keys, wrapped {}", said.wrapped_at), build_id: None }
        }
    };
    Ok((good, said))
}

/// Tells who signed what, and when.
fn told(good: &Verified, what: &str, policy: &Policy) -> Finding {
    let at = good.times.first().map(|time| format!(" at {time}")).unwrap_or_default();
    let found = format!("{what}: by {}{at}", who(&good.signer));
    match policy.identity.is_empty() && matches!(good.signer, verify::Signer::Certificate(_)) {
        true => finding(Outcome::Note, NAMED, format!("{found}; nobody said who it has to be")),
        false => finding(Outcome::Ok, "", found),
    }
}

fn finding(outcome: Outcome, expected: impl Into<String>, found: impl Into<String>) -> Finding {
    Finding { outcome, expected: expected.into(), found: found.into(), differences: Vec::new() }
}
