//! A pattern of full refs.

use std::{fmt, str::FromStr};

use protected_model::pattern;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A pattern of full refs, such as `refs/tags/v*`.
///
/// `*` stands for any run of characters, `/` among them and none at all; every other character stands for itself.
/// It is held against the whole ref.
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
        pattern::matches(&self.0, git_ref)
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
