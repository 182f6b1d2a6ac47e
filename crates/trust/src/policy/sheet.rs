//! The rules of one publisher as they are gone through, each with its result.

use protected_model::{api::problem::RuleResult, hint::Hint, identity::RunIdentity};

use crate::shown::shown;

/// Every rule is looked at, also after one that failed: whoever has to change something wants to know all of it.
#[derive(Default)]
pub(super) struct Sheet {
    pub(super) rules: Vec<RuleResult>,
    pub(super) hint: Option<Hint>,
}

impl Sheet {
    /// Notes a rule and returns whether it holds.
    pub(super) fn rule(
        &mut self,
        rule: &str,
        claim: &str,
        expected: &str,
        actual: Option<&str>,
        ok: bool,
    ) -> bool {
        self.rules.push(RuleResult {
            rule: rule.to_owned(),
            claim: claim.to_owned(),
            expected: expected.to_owned(),
            actual: actual.map(shown),
            ok,
        });
        ok
    }

    /// Notes a rule that wants exactly this.
    pub(super) fn exactly(&mut self, rule: &str, claim: &str, expected: &str, actual: Option<&str>) -> bool {
        self.rule(rule, claim, expected, actual, actual == Some(expected))
    }

    /// Notes a rule that wants this name in whatever case, as the platform itself does.
    pub(super) fn named(&mut self, rule: &str, claim: &str, expected: &str, actual: Option<&str>) -> bool {
        self.rule(rule, claim, expected, actual, actual.is_some_and(|actual| same_name(expected, actual)))
    }

    /// Notes a rule that wants one of these.
    pub(super) fn one_of(
        &mut self,
        rule: &str,
        claim: &str,
        expected: &[&str],
        actual: Option<&str>,
    ) -> bool {
        let ok = actual.is_some_and(|actual| expected.contains(&actual));
        self.rule(rule, claim, &expected.join(", "), actual, ok)
    }

    /// Gives advice, unless a rule before already did.
    pub(super) fn advise(&mut self, text: impl Into<String>) {
        self.hint.get_or_insert_with(|| Hint::new(text));
    }
}

/// Returns whether two names are one to a platform that does not look at their case.
pub(super) fn same_name(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

/// Returns a claim as the token had it.
pub(super) fn claim<'a>(identity: &'a RunIdentity, name: &str) -> Option<&'a str> {
    identity.claims.get(name).map(String::as_str).filter(|value| !value.is_empty())
}
