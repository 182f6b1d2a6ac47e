//! A pattern of full refs.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A pattern of full refs, such as `refs/tags/v*`.
///
/// `*` stands for any run of characters, `/` among them and none at all; every other character stands for itself.
/// It is held against the whole ref. (A regular expression would have to be compiled as `^(?:...)$`: as `^...$`, an
/// alternation in it escapes both ends.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct RefPattern(String);

/// Why a text is not a [`RefPattern`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a pattern of refs: expected `refs/heads/` or `refs/tags/` and a name, in which `*` stands for anything"
)]
pub struct RefPatternError(String);

impl RefPattern {
    /// Returns whether the whole of `git_ref` is of this pattern.
    pub fn matches(&self, git_ref: &str) -> bool {
        matches(&self.0, git_ref)
    }

    /// Returns the pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RefPattern {
    type Err = RefPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.strip_prefix("refs/heads/").or_else(|| text.strip_prefix("refs/tags/"));
        // What git allows in no ref (git-check-ref-format) is a mistake in a pattern, most likely a regular expression.
        let strange = |it: char| it.is_control() || " ~^:?[]\\".contains(it);
        match name {
            Some(name) if !name.is_empty() && !name.contains(strange) => Ok(Self(text.to_owned())),
            _ => Err(RefPatternError(text.chars().take(64).collect())),
        }
    }
}

impl TryFrom<String> for RefPattern {
    type Error = RefPatternError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RefPattern> for String {
    fn from(pattern: RefPattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for RefPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns whether the whole of `text` is `pattern` with each `*` replaced by something.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    // `split` yields at least one part, and the first is bound to the start.
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut last = None;
    for part in parts {
        // The part before was not the last, so its first occurrence leaves the most room for the others.
        if let Some(middle) = last.replace(part) {
            match rest.split_once(middle) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
    }
    match last {
        Some(last) => rest.ends_with(last),
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn vectors() {
        for (pattern, text) in [
            ("a", "a"),
            ("*", ""),
            ("*", "a/b"),
            ("v*", "v"),
            ("v*", "v1.2.3"),
            ("v*.*", "v1.2.3"),
            ("a*b*c", "abbcc"),
            ("a*b", "ab"),
            ("a**b", "axb"),
            ("*a*", "bab"),
            ("refs/tags/v*", "refs/tags/v1/x"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a", "ab"),
            ("a", "ba"),
            ("a", ""),
            ("v*", "xv1"),
            ("*v", "v1"),
            ("a*a", "a"),
            ("ab*ba", "aba"),
            ("a*b*c", "acb"),
            ("refs/heads/main", "refs/heads/main2"),
            ("refs/heads/main|x", "refs/heads/main"),
            ("refs/heads/.*", "refs/heads/main"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn only_branches_and_tags() {
        for good in ["refs/heads/main", "refs/tags/v*", "refs/heads/release/*", "refs/heads/a@b"] {
            assert!(good.parse::<RefPattern>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "*",
            "main",
            "refs/*",
            "refs/heads/",
            "refs/pull/*",
            "refs/heads/a|^b",
            "refs/tags/v[0-9]",
            "refs/heads/a b",
        ] {
            assert!(bad.parse::<RefPattern>().is_err(), "{bad}");
        }
    }

    /// The obvious definition, which takes exponential time.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skip| slow(rest, &text[skip..])),
            Some((first, rest)) => text.first() == Some(first) && slow(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn is_the_obvious_definition(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(matches(&pattern, &text), slow(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
