//! Who signed a delivery: what is there is checked, and what is demanded has to be there.

use protected_bundle::layout::{self, signature::Part};
use protected_evidence::verify::{self, Check, Refused, Trust, Verified};

use super::{
    Finding, Outcome,
    evidence::{NAMED, who},
    policy::Policy,
};
use crate::{
    console::one_line,
    context::Context,
    delivery::{self, Judged},
    error::{CommandError, Kind},
};

/// What came of the signatures of a delivery, or of those of what is in it.
pub(in crate::command) struct Signed {
    /// What each check is called, and how it went.
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

    /// Adds what else was checked.
    pub(in crate::command) fn extend(&mut self, other: Self) {
        self.rows.extend(other.rows);
    }

    /// Returns whether all is as it has to be.
    pub(in crate::command) fn is_proven(&self) -> bool {
        self.rows.iter().all(|(_, finding)| finding.outcome != Outcome::Failed)
    }

    /// Refuses a delivery of which something is not what it has to be.
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

/// What is asked of the signatures of a delivery.
pub(in crate::command) struct Asked<'a> {
    pub(in crate::command) policy: &'a Policy,
    /// What has to be signed.
    pub(in crate::command) demanded: Vec<Part>,
    /// What vouches for a signer where the policy says nothing of that; the public-good instance if nothing is known.
    pub(in crate::command) trust: Option<&'a Trust>,
    /// A statement over its bundle that was kept elsewhere, which takes the place of the one in it.
    pub(in crate::command) kept: Option<Vec<u8>>,
    /// Whether nothing may be fetched.
    pub(in crate::command) offline: bool,
}

/// Checks the signatures of a delivery against what is demanded, before anything of it is used.
///
/// # Errors
/// When what is trusted cannot be read or used.
pub(in crate::command) async fn check(
    context: &Context,
    bundle: &layout::Delivery,
    asked: &Asked<'_>,
) -> Result<Signed, CommandError> {
    let Asked { policy, demanded, .. } = asked;
    let mut signed = Signed { rows: Vec::new(), build_id: None };
    let is_signed = asked.kept.is_some() || Part::ALL.iter().any(|part| delivery::is_signed(bundle, *part));
    let stated;
    let trust = match asked.trust.filter(|_| !policy.states_trust()) {
        _ if !policy.is_stated() || !is_signed => None,
        Some(trust) => Some(trust),
        None => {
            stated = policy.believed(context, asked.offline).await?.trust(None)?;
            Some(&stated)
        }
    };
    for part in Part::ALL {
        let read = match asked.kept.clone().filter(|_| part == Part::Bundle) {
            Some(kept) => Some(kept),
            None => bundle.unverified_signature(part).map_err(|error| {
                CommandError::from_error(Kind::NotProven, "reading the signatures of the delivery", &error)
            })?,
        };
        let finding = match (read, trust) {
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
                let judged = delivery::judge(bundle, part, &bytes, trust, Some(&policy.identity));
                match judged
                    .and_then(|judged| named(&judged.good, policy, demanded.contains(&part)).map(|()| judged))
                {
                    Ok(judged) => {
                        if part == Part::Bundle {
                            signed.build_id = Some(judged.build_id.clone());
                        }
                        told(&judged, policy)
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

/// Tells who signed what, and when.
fn told(Judged { good, said, .. }: &Judged, policy: &Policy) -> Finding {
    let at = good.times.first().map(|time| format!(" at {time}")).unwrap_or_default();
    let found = format!("{said}: by {}{at}", who(&good.signer));
    match policy.identity.is_empty() && matches!(good.signer, verify::Signer::Certificate(_)) {
        true => finding(Outcome::Note, NAMED, format!("{found}; nobody said who it has to be")),
        false => finding(Outcome::Ok, "", found),
    }
}

fn finding(outcome: Outcome, expected: impl Into<String>, found: impl Into<String>) -> Finding {
    Finding { outcome, expected: expected.into(), found: found.into(), differences: Vec::new() }
}
