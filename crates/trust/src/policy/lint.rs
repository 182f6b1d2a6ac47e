//! Publishers that would trust more than their author means.

use protected_model::{action::Action, identity::PlatformKind};

use super::{Rules, TrustedPublisher};
use crate::issuer::Issuer;

/// A publisher that would trust more than its author means.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("trusted publisher `{id}` is refused: {}", problems.join("; "))]
pub struct Unsafe {
    /// The publisher.
    pub id: String,
    /// What is wrong with it, and why.
    pub problems: Vec<String>,
}

/// The problems found so far.
pub(super) struct Lint<'a> {
    publisher: &'a TrustedPublisher,
    problems: Vec<String>,
}

impl TrustedPublisher {
    /// Looks for what would trust more than is meant.
    ///
    /// # Errors
    /// Names everything that is wrong, and why.
    pub fn validate(&self) -> Result<(), Unsafe> {
        let mut lint = Lint { publisher: self, problems: Vec::new() };
        lint.common();
        match self.rules() {
            Some(Rules::Github(rules)) => rules.lint(&mut lint),
            Some(Rules::Gitlab(rules)) => rules.lint(&mut lint),
            Some(Rules::Jenkins(rules)) => rules.lint(&self.issuer, &mut lint),
            Some(Rules::Generic(rules)) => rules.lint(&self.issuer, &mut lint),
            None => lint.that(false, "expected exactly one of `github`, `gitlab`, `jenkins` and `generic`"),
        }
        lint.done()
    }

    /// Looks whether its rules are for the platform of its issuer: otherwise no run is ever this publisher.
    ///
    /// # Errors
    /// Names both.
    pub fn validate_for(&self, issuer: &Issuer) -> Result<(), Unsafe> {
        let name = |platform: Option<PlatformKind>| platform.map_or("none", PlatformKind::name);
        let mut lint = Lint { publisher: self, problems: Vec::new() };
        lint.that(
            self.issuer == issuer.url,
            &format!("its issuer is `{}`, and this is `{}`", self.issuer, issuer.url),
        );
        lint.that(
            self.platform() == Some(issuer.platform),
            &format!(
                "its rules are for {}, and its issuer is {}",
                name(self.platform()),
                issuer.platform.name()
            ),
        );
        lint.done()
    }
}

impl Lint<'_> {
    fn done(self) -> Result<(), Unsafe> {
        let Self { publisher, problems } = self;
        if problems.is_empty() { Ok(()) } else { Err(Unsafe { id: publisher.id.clone(), problems }) }
    }

    fn common(&mut self) {
        let TrustedPublisher { id, packages, actions, issuer, .. } = self.publisher;
        self.plain("id", id);
        self.plain("issuer", issuer);
        // Attack: an empty list that some check takes for "any".
        self.that(!packages.is_empty(), "packages is empty: list each package by its name");
        self.that(!actions.is_empty(), "actions is empty: list `install`, `publish` or both");
    }

    /// Notes a problem unless `ok`.
    pub(super) fn that(&mut self, ok: bool, problem: &str) {
        if !ok {
            self.problems.push(problem.to_owned());
        }
    }

    /// Checks a text that is compared as it stands.
    pub(super) fn plain(&mut self, name: &str, value: &str) {
        let blank = value.trim() != value || value.is_empty() || value.chars().any(char::is_control);
        self.that(!blank, &format!("{name} is empty, or has blanks round it"));
        self.that(
            !value.contains('*'),
            &format!("{name} has `*`, and is compared exactly: it would never match"),
        );
    }

    /// Checks an id that a platform gives out.
    pub(super) fn id(&mut self, name: &str, value: &str) {
        let number =
            !value.is_empty() && value.len() <= 32 && value.bytes().all(|byte| byte.is_ascii_digit());
        self.that(
            number,
            &format!("{name} must be a number in quotes: a name can be given up and taken by somebody else, an id cannot"),
        );
    }

    /// Checks a list of events.
    pub(super) fn events(&mut self, name: &str, events: Option<&[String]>, strangers: &[&str]) {
        let Some(events) = events else { return };
        self.that(!events.is_empty(), &format!("{name} is empty: leave it out, or list events"));
        for event in events {
            self.plain(name, event);
            let stranger = strangers.contains(&event.as_str()) && self.publishes();
            self.that(
                !stranger,
                &format!("{name} has `{event}`, which strangers cause, and the publisher may publish"),
            );
        }
    }

    /// Checks that a publisher that may publish says from where.
    pub(super) fn place(&mut self, said: bool) {
        self.that(
            said || !self.publishes(),
            "whoever can push any branch could publish with a changed workflow: set `environment`, `ref_pattern` or \
             `ref_protected = true` (or `ref_protected = false`, if that is meant)",
        );
    }

    fn publishes(&self) -> bool {
        self.publisher.actions.contains(&Action::Publish)
    }
}
