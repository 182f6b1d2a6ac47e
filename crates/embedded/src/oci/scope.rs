//! What a client asks for, and what of it its licences allow.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use protected_model::{
    api::{audit::RepositoryTarget, problem::Code},
    oci::{Access, AccessKind, RepositoryAction, RepositoryName, RepositoryScope},
    time::numeric_date,
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
    /// When the first of the licences ends that grant something of it.
    pub(super) until: Option<Timestamp>,
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
/// token does not allow. A licence that was revoked or is over, and would have given more, is.
pub(super) fn decide<'a>(
    oci: &Oci,
    held: &[(&'a Licence, &'a Plan)],
    asked: BTreeMap<RepositoryName, Actions>,
    now: Timestamp,
) -> Answer<Decided<'a>> {
    let (over, live): (Vec<_>, Vec<_>) =
        held.iter().copied().partition(|(licence, _)| is_over(oci, licence, now).is_err());
    let grants = |(_, plan): &(&Licence, &Plan), name: &RepositoryName, actions: &Actions| {
        granted(actions, &plan.allows(name))
    };
    let mut repositories = Vec::new();
    let (mut by, mut until) = (None, None);
    for (name, asked) in asked {
        let mut granted = Actions::new();
        for it in &live {
            let more = grants(it, &name, &asked);
            if !more.is_empty() {
                by = by.or(Some(*it));
                until = [until, it.0.until].into_iter().flatten().min();
            }
            granted.extend(more);
        }
        if let Some((licence, _)) = over.iter().find(|it| !grants(it, &name, &asked).is_subset(&granted)) {
            is_over(oci, licence, now)?;
        }
        repositories.push(RepositoryTarget { name, asked, granted });
    }
    if let Some(by) = by.or(live.first().copied()) {
        return Ok(Decided { repositories, by, until });
    }
    if let Some((licence, _)) = over.first() {
        is_over(oci, licence, now)?;
    }
    Err(Refusal::new(Code::NO_LICENCE, "no licence lets this caller have tokens for the registry")
        .hint("an administrator of FractalOps names the caller in a licence"))
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

/// Refuses a licence that was revoked, or has ended by now.
fn is_over(oci: &Oci, licence: &Licence, now: Timestamp) -> Answer<()> {
    let refuse = |code, why: String| {
        let refusal = Refusal::new(code, format!("licence `{}` {why}", licence.id));
        Err(refusal.hint("an administrator of FractalOps gives licences"))
    };
    if oci.revoked_licences.contains(&licence.id) {
        return refuse(Code::LICENCE_REVOKED, "was revoked".to_owned());
    }
    match licence.until {
        Some(until) if numeric_date(until) <= numeric_date(now) => {
            refuse(Code::LICENCE_EXPIRED, format!("ended at {until}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    /// Two plans, of which the first lets pull and the second pull and push.
    fn plans() -> [Plan; 2] {
        ["[\"pull\"]", "[\"pull\", \"push\"]"].map(|actions| {
            let text = format!(
                "id = \"plan\"\ntenant_id = \"acme\"\nproject_slug = \"core\"\nrepositories = [{{below = \"acme/core\", actions = {actions}}}]"
            );
            toml::from_str(&text).expect("plan")
        })
    }

    fn licence(id: &str, until: Option<&str>) -> Licence {
        let until = until.map_or_else(String::new, |until| format!("until = \"{until}\""));
        toml::from_str(&format!("id = \"{id}\"\nplan = \"plan\"\nholders = []\n{until}")).expect("licence")
    }

    /// Decides about one repository: by which licence, until when, and what is granted; or which refusal.
    fn decided(held: &[(&Licence, &Plan)], scope: &str) -> Result<(String, Option<String>, usize), String> {
        let oci: Oci = toml::from_str("service = \"r\"\nrevoked_licences = [\"gone\"]").expect("oci");
        let asked = asked(scope).expect("scope");
        let decided = decide(&oci, held, asked, NOW.parse().expect("time"));
        let decided = decided.map_err(|refusal| refusal.code().as_str().to_owned())?;
        let until = decided.until.map(|until| until.to_string());
        Ok((decided.by.0.id.clone(), until, decided.repositories[0].granted.len()))
    }

    #[test]
    fn the_first_licence_that_ends_ends_the_token_and_the_first_that_grants_is_named() {
        let [reads, writes] = &plans();
        let (short, long) = ("2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z");
        let (a, b, c) = (licence("a", Some(short)), licence("b", Some(long)), licence("c", None));
        let scope = "repository:acme/core/app:pull,push";
        for (held, by) in [
            ([(&a, reads), (&b, writes)], "a"),
            ([(&b, reads), (&a, writes)], "b"),
            ([(&a, writes), (&c, reads)], "a"),
        ] {
            assert_eq!(decided(&held, scope), Ok((by.to_owned(), Some(short.to_owned()), 2)), "{by}");
        }
        // What grants nothing of it ends nothing.
        assert_eq!(
            decided(&[(&a, reads), (&c, writes)], "repository:acme/core/app:push"),
            Ok(("c".to_owned(), None, 1))
        );
        assert_eq!(decided(&[(&a, reads)], "repository:acme/other/app:pull"), Ok(("a".to_owned(), None, 0)));
    }

    #[test]
    fn a_licence_that_is_over_is_told_where_it_would_have_given_more() {
        let [reads, writes] = &plans();
        let (live, over, gone) = (licence("live", None), licence("over", Some(NOW)), licence("gone", None));
        let (pull, push) = ("repository:acme/core/app:pull", "repository:acme/core/app:pull,push");
        let told = |code: &str| Err(code.to_owned());
        for (old, code) in [(&over, "licence_expired"), (&gone, "licence_revoked")] {
            assert_eq!(decided(&[(&live, reads), (old, writes)], push), told(code));
            assert_eq!(decided(&[(old, writes), (&live, reads)], pull), Ok(("live".to_owned(), None, 1)));
            assert_eq!(decided(&[(old, reads)], pull), told(code));
            // Nobody is told of a licence that would not have helped; who has no other one is.
            assert_eq!(
                decided(&[(&live, reads), (old, writes)], "repository:acme/x:pull"),
                Ok(("live".to_owned(), None, 0))
            );
            assert_eq!(decided(&[(old, writes)], "repository:acme/x:pull"), told(code));
        }
        assert_eq!(decided(&[], pull), told("no_licence"));
    }
}
