//! What a client asks for, and what of it its licences allow.

use std::collections::{BTreeMap, BTreeSet};

use protected_model::{
    api::{audit::RepositoryTarget, problem::Code},
    oci::{Access, AccessKind, RepositoryAction, RepositoryName, RepositoryScope},
};

use crate::{
    config::{Licence, Oci, Plan},
    problem::{Answer, Refusal},
};

/// The most scopes of one request: clients ask for two when they push.
///
/// Attack: a token, and an audit event, as large as whoever asks for them likes.
const MOST_SCOPES: usize = 10;

type Actions = BTreeSet<RepositoryAction>;

/// What is asked for, as far as anybody could ever get it.
pub(super) fn asked(scope: &str) -> Answer<BTreeMap<RepositoryName, Actions>> {
    if scope.split_ascii_whitespace().count() > MOST_SCOPES {
        let message = format!("`scope` names more than {MOST_SCOPES} repositories");
        return Err(Refusal::new(Code::INVALID_SCOPE, message));
    }
    let mut asked = BTreeMap::<_, Actions>::new();
    for RepositoryScope { name, actions } in scope.split_ascii_whitespace().filter_map(RepositoryScope::parse)
    {
        asked.entry(name).or_default().extend(actions);
    }
    Ok(asked)
}

/// What was decided.
pub(super) struct Decided<'a> {
    /// Each repository, with what was asked for and what is granted.
    pub(super) repositories: Vec<RepositoryTarget>,
    /// A licence that grants something of it; otherwise the first that is held.
    pub(super) by: (&'a Licence, &'a Plan),
}

impl Decided<'_> {
    /// Returns whether something was asked for and nothing of it is granted.
    pub(super) fn nothing(&self) -> bool {
        !self.repositories.is_empty() && self.repositories.iter().all(|it| it.granted.is_empty())
    }

    /// Returns what the token allows.
    pub(super) fn access(&self) -> Vec<Access> {
        let granted = self.repositories.iter().filter(|it| !it.granted.is_empty());
        granted
            .map(|it| Access {
                kind: AccessKind::Repository,
                name: it.name.clone(),
                actions: it.granted.clone(),
            })
            .collect()
    }
}

/// Decides what the holder of these licences gets. Less than asked for is no refusal: the registry refuses what the
/// token does not allow. A revoked licence that would have given more is.
pub(super) fn decide<'a>(
    oci: &Oci,
    held: &[(&'a Licence, &'a Plan)],
    asked: BTreeMap<RepositoryName, Actions>,
) -> Answer<Decided<'a>> {
    let (revoked, live): (Vec<_>, Vec<_>) =
        held.iter().copied().partition(|(licence, _)| oci.revoked_licences.contains(&licence.id));
    let grants = |(_, plan): &(&Licence, &Plan), name: &RepositoryName, actions: &Actions| {
        granted(actions, &plan.allows(name))
    };
    let mut repositories = Vec::new();
    let mut by = None;
    for (name, asked) in asked {
        let mut granted = Actions::new();
        for it in &live {
            let more = grants(it, &name, &asked);
            by = by.or((!more.is_empty()).then_some(*it));
            granted.extend(more);
        }
        if let Some((licence, _)) = revoked.iter().find(|it| !grants(it, &name, &asked).is_subset(&granted)) {
            return Err(is_revoked(licence));
        }
        repositories.push(RepositoryTarget { name, asked, granted });
    }
    match (by.or(live.first().copied()), revoked.first()) {
        (Some(by), _) => Ok(Decided { repositories, by }),
        (None, Some((licence, _))) => Err(is_revoked(licence)),
        (None, None) => {
            Err(Refusal::new(Code::NO_LICENCE, "no licence lets this caller have tokens for the registry")
                .hint("an administrator of FractalOps names the caller in a licence"))
        }
    }
}

/// Returns the part of `asked` that `allowed` has.
///
/// Attack: to a registry `*` is everything, so only a plan that says `*` ever gives it.
fn granted(asked: &Actions, allowed: &Actions) -> Actions {
    match allowed.contains(&RepositoryAction::All) {
        true => asked.clone(),
        false => asked.intersection(allowed).copied().collect(),
    }
}

fn is_revoked(licence: &Licence) -> Refusal {
    Refusal::new(Code::LICENCE_REVOKED, format!("licence `{}` was revoked", licence.id))
        .hint("an administrator of FractalOps gives licences")
}
