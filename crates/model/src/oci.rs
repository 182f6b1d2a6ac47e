//! The repositories of a Docker registry, what may be done in them, and how a client asks for it.

use std::{collections::BTreeSet, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    name::{ProjectSlug, TenantId},
    text::{shown, text},
};

/// The path of a repository, such as `acme/core/greeter` (distribution-spec, "Pulling manifests").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryName(String);

/// Why a text is not a [`RepositoryName`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not the path of a repository: {reason}")]
pub struct RepositoryNameError {
    text: String,
    reason: &'static str,
}

impl RepositoryName {
    /// Returns the path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether it is `other` or lies below it.
    ///
    /// Attack: a repository `acme/core-evil` that is below `acme/core` by its letters, or `evil/acme/core` by how it
    /// ends. Whole components decide, from the first on.
    pub fn is_at_or_below(&self, other: &Self) -> bool {
        self.0.strip_prefix(&other.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Returns whether its first two components are exactly this tenant and this project.
    pub fn is_of(&self, tenant: &TenantId, project: &ProjectSlug) -> bool {
        let mut components = self.0.split('/');
        components.next() == Some(tenant.as_str()) && components.next() == Some(project.as_str())
    }
}

impl FromStr for RepositoryName {
    type Err = RepositoryNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| Err(RepositoryNameError { text: text.chars().take(64).collect(), reason });
        if text.is_empty() || text.len() > 255 {
            return refuse("it must have 1 to 255 characters");
        }
        match text.split('/').all(is_component) {
            true => Ok(Self(text.to_owned())),
            false => refuse(
                "between each `/` expected lower-case letters and digits, joined by `.`, `_`, `__` or dashes",
            ),
        }
    }
}

/// Returns whether `text` is `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let joins = |join: &str| matches!(join, "" | "." | "_" | "__") || join.bytes().all(|byte| byte == b'-');
    text.starts_with(alphanumeric) && text.ends_with(alphanumeric) && text.split(alphanumeric).all(joins)
}

shown!(RepositoryName);
text!(RepositoryName, RepositoryNameError, "description": "the path of a repository, such as acme/core/greeter");

/// What may be done in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RepositoryAction {
    /// Read.
    #[serde(rename = "pull")]
    Pull,
    /// Write.
    #[serde(rename = "push")]
    Push,
    /// Delete.
    #[serde(rename = "delete")]
    Delete,
    /// Whatever a registry knows, now and later.
    #[serde(rename = "*")]
    All,
}

impl RepositoryAction {
    const EVERY: [Self; 4] = [Self::Pull, Self::Push, Self::Delete, Self::All];

    /// Returns how registries write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
            Self::All => "*",
        }
    }
}

impl fmt::Display for RepositoryAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A repository and what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryScope {
    /// The repository.
    pub name: RepositoryName,
    /// The actions that are known; perhaps none.
    pub actions: BTreeSet<RepositoryAction>,
}

impl RepositoryScope {
    /// Reads `repository:<name>:<action>,...` (distribution, "Token Scope Documentation"). Returns `None` for what
    /// is never granted: another type, a class, a name that no repository can have.
    ///
    /// Attack: a registry takes the action `*` for everything, so no word of the client goes on: each is looked up
    /// among the actions there are, and an unknown one is left out. A name may hold a `:` in this grammar, so the
    /// actions are what stands behind the last one.
    pub fn parse(text: &str) -> Option<Self> {
        let (resource, actions) = text.rsplit_once(':')?;
        let name = resource.strip_prefix("repository:")?.parse().ok()?;
        let known = |word: &str| RepositoryAction::EVERY.into_iter().find(|action| action.as_str() == word);
        Some(Self { name, actions: actions.split(',').filter_map(known).collect() })
    }
}

/// What a token allows in one repository: an entry of its `access`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Access {
    /// Always a repository.
    #[serde(rename = "type")]
    pub kind: AccessKind,
    /// The repository.
    pub name: RepositoryName,
    /// Never empty.
    pub actions: BTreeSet<RepositoryAction>,
}

/// The type of what a token gives access to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessKind {
    /// A repository.
    Repository,
}

impl fmt::Display for Access {
    /// Writes it as a scope.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actions: Vec<_> = self.actions.iter().map(|action| action.as_str()).collect();
        write!(f, "repository:{}:{}", self.name, actions.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepositoryName {
        text.parse().expect(text)
    }

    #[test]
    fn names_are_the_specifications() {
        for good in ["a", "acme/core/greeter", "a.b/c_d/e__f/g---h", "0/1", "a/b/c/d/e", &"a".repeat(255)] {
            assert_eq!(name(good).as_str(), good);
        }
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            "A/b",
            "a/../b",
            "a/./b",
            ".a",
            "a.",
            "a..b",
            "a___b",
            "a._b",
            "-a",
            "a-",
            "a b",
            "a:5000/b",
            "a/*",
            "*",
            "a%2fb",
            "a\0b",
            "a\n",
            "а/b",
            "@acme/core",
            &"a".repeat(256),
        ] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn below_is_by_whole_components_from_the_first() {
        let core = name("acme/core");
        for below in ["acme/core", "acme/core/a", "acme/core/a/b"] {
            assert!(name(below).is_at_or_below(&core), "{below}");
        }
        for apart in [
            "acme",
            "acme/cor",
            "acme/core2",
            "acme/core-x/a",
            "acme/core.a",
            "evil/acme/core",
            "evilacme/core",
        ] {
            assert!(!name(apart).is_at_or_below(&core), "{apart}");
        }
    }

    #[test]
    fn the_owner_is_two_whole_components() {
        let (tenant, project) = ("acme".parse().expect("tenant"), "core".parse().expect("project"));
        assert!(name("acme/core/a").is_of(&tenant, &project) && name("acme/core").is_of(&tenant, &project));
        for other in ["acme", "acme/core2/a", "acme/a/core", "acmee/core/a", "evil/acme/core", "core/acme/a"]
        {
            assert!(!name(other).is_of(&tenant, &project), "{other}");
        }
    }

    #[test]
    fn scopes_are_read_from_the_right_and_unknown_words_dropped() {
        let read = |text: &str| {
            RepositoryScope::parse(text).map(|scope| {
                let actions: Vec<_> = scope.actions.into_iter().map(RepositoryAction::as_str).collect();
                (scope.name.to_string(), actions.join(","))
            })
        };
        let some = |name: &str, actions: &str| Some((name.to_owned(), actions.to_owned()));
        assert_eq!(read("repository:acme/core/a:push,pull"), some("acme/core/a", "pull,push"));
        assert_eq!(read("repository:acme/core/a:*"), some("acme/core/a", "*"));
        assert_eq!(read("repository:a:pull,pull,PULL,admin, push,,delete"), some("a", "pull,delete"));
        assert_eq!(read("repository:a:"), some("a", ""));
        for nothing in [
            "",
            "repository",
            "repository:a",
            ":a:pull",
            "repository::pull",
            "registry:catalog:*",
            "repository(plugin):a:pull",
            "Repository:a:pull",
            "repository:registry.example:5000/a:pull",
            "repository:a:pull:push",
            "repository:acme/*:pull",
            "repository:A:pull",
            " repository:a:pull",
        ] {
            assert_eq!(read(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn access_is_written_as_registries_read_it() {
        let access = Access {
            kind: AccessKind::Repository,
            name: name("acme/core/a"),
            actions: [RepositoryAction::Push, RepositoryAction::Pull, RepositoryAction::All].into(),
        };
        assert_eq!(
            serde_json::to_string(&access).expect("json"),
            r#"{"type":"repository","name":"acme/core/a","actions":["pull","push","*"]}"#
        );
        assert_eq!(access.to_string(), "repository:acme/core/a:pull,push,*");
        for action in RepositoryAction::EVERY {
            assert_eq!(serde_json::to_value(action).expect("json"), action.as_str());
        }
    }
}
