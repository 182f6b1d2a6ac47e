//! What may be done with a package, and what it must be for that.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a token allows for one package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Read the package's metadata and tarballs.
    Install,
    /// Add one version of the package.
    Publish,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Install => "install",
            Self::Publish => "publish",
        })
    }
}

/// Which actions a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActionMode {
    /// [`Action::Install`] alone.
    Install,
    /// [`Action::Publish`] alone.
    Publish,
    /// Both.
    InstallPublish,
}

impl ActionMode {
    /// Returns the actions, in the order of [`Action`].
    pub fn actions(self) -> &'static [Action] {
        match self {
            Self::Install => &[Action::Install],
            Self::Publish => &[Action::Publish],
            Self::InstallPublish => &[Action::Install, Action::Publish],
        }
    }
}

/// What an artifact must be before it may be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactPolicy {
    /// A hardened build of exactly these bytes is on record.
    Hardened,
    /// It reaches customers only as a sealed delivery.
    EncryptedDelivery,
}
