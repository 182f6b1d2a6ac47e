//! A run against publishers: which it is, and which it nearly is.

use std::cmp::Reverse;

use protected_model::{api::problem::RuleResult, hint::Hint, identity::RunIdentity};

use super::{Rules, TrustedPublisher, sheet::Sheet};

/// What a run is.
#[derive(Debug)]
pub struct Walk<'a> {
    /// The publishers that it is, in the order they were given.
    pub matched: Vec<Match<'a>>,
    /// When it is none: the one that it nearly is.
    pub nearest: Option<Nearest<'a>>,
}

/// A publisher that a run is.
#[derive(Debug)]
pub struct Match<'a> {
    /// The publisher.
    pub publisher: &'a TrustedPublisher,
    /// Its rules, all of which hold.
    pub rules: Vec<RuleResult>,
}

/// A publisher that a run nearly is.
#[derive(Debug)]
pub struct Nearest<'a> {
    /// The publisher.
    pub publisher: &'a TrustedPublisher,
    /// Its rules, some of which do not hold.
    pub rules: Vec<RuleResult>,
    /// What to change, where that is known.
    pub hint: Option<Hint>,
}

/// Holds a run against each publisher. A run is a publisher when every one of its rules holds.
///
/// The nearest has the fewest rules that fail, then the most that hold, then the first id, whatever the order they
/// were given in.
///
/// Attack: anybody with an ID token of a public platform could read everybody's rules off the refusals. So a
/// publisher is only ever shown as the nearest to a run of its own issuer that shares its repository, owner or name.
pub fn walk<'a>(
    publishers: impl IntoIterator<Item = &'a TrustedPublisher>,
    identity: &RunIdentity,
) -> Walk<'a> {
    let mut matched = Vec::new();
    let mut near = Vec::new();
    for publisher in publishers {
        let Sheet { rules, hint } = evaluate(publisher, identity);
        // A sheet without rules has none that fails: no rules, no right.
        if !rules.is_empty() && rules.iter().all(|rule| rule.ok) {
            matched.push(Match { publisher, rules });
        } else if is_acquainted(publisher, identity) {
            near.push(Nearest { publisher, rules, hint });
        }
    }
    let distance = |it: &Nearest<'a>| {
        let failed = it.rules.iter().filter(|rule| !rule.ok).count();
        (failed, Reverse(it.rules.len() - failed), it.publisher.id.clone())
    };
    let nearest = if matched.is_empty() { near.into_iter().min_by_key(distance) } else { None };
    Walk { matched, nearest }
}

fn evaluate(publisher: &TrustedPublisher, identity: &RunIdentity) -> Sheet {
    let mut sheet = Sheet::default();
    // Attack: a self-managed instance signs whatever its owner likes, another's repository ids among it. Only the
    // issuer that the publisher names can speak for it.
    let issuer = Some(identity.issuer.as_str());
    sheet.exactly("the issuer is the publisher's", "iss", &publisher.issuer, issuer);
    if !publisher.enabled {
        sheet.rule("the publisher is enabled", "enabled", "true", Some("false"), false);
        sheet.advise(format!(
            "ask an administrator of FractalOps to enable trusted publisher `{}`",
            publisher.id
        ));
    }
    let platform = publisher.platform();
    let expected = platform.map_or("rules for one platform", |it| it.name());
    let ok = platform == Some(identity.platform);
    sheet.rule(
        "the rules are for the issuer's platform",
        "iss",
        expected,
        Some(identity.platform.name()),
        ok,
    );
    match publisher.rules() {
        Some(Rules::Github(rules)) => rules.evaluate(identity, &mut sheet),
        Some(Rules::Gitlab(rules)) => rules.evaluate(identity, &mut sheet),
        Some(Rules::Jenkins(rules)) => rules.evaluate(identity, &mut sheet),
        Some(Rules::Generic(rules)) => rules.evaluate(identity, &mut sheet),
        None => {}
    }
    sheet
}

/// Returns whether the run's owner may see the publisher's rules.
fn is_acquainted(publisher: &TrustedPublisher, identity: &RunIdentity) -> bool {
    publisher.issuer == identity.issuer
        && match publisher.rules() {
            Some(Rules::Github(rules)) => rules.is_acquainted(identity),
            Some(Rules::Gitlab(rules)) => rules.is_acquainted(identity),
            Some(Rules::Jenkins(rules)) => rules.is_acquainted(identity),
            Some(Rules::Generic(rules)) => rules.is_acquainted(identity),
            None => false,
        }
}
