//! Versions and dist-tags, as npm means them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::{shown, text};

/// The largest number that npm's semver reads: JavaScript's `Number.MAX_SAFE_INTEGER`.
const MAX_NUMBER: u64 = 9_007_199_254_740_991;

/// The version of a package: Semantic Versioning 2.0.0 without build metadata.
///
/// Build metadata is refused because two versions that differ only there are one version to every client:
/// a registry that stores both shows one's integrity with the other's bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageVersion(semver::Version);

/// Why a text is not a [`PackageVersion`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PackageVersionError {
    /// It does not parse, or has a number that JavaScript cannot hold.
    #[error("`{0}` is not a semantic version such as `1.2.3` or `1.2.3-beta.1`")]
    NotSemver(String),
    /// `1.2.3+build`.
    #[error("`{0}` has build metadata, which registries cannot tell apart")]
    BuildMetadata(String),
}

impl PackageVersion {
    /// Returns whether this is a prerelease, such as `1.0.0-beta.1`.
    pub fn is_prerelease(&self) -> bool {
        !self.0.pre.is_empty()
    }
}

impl FromStr for PackageVersion {
    type Err = PackageVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let not_semver = || PackageVersionError::NotSemver(text.chars().take(64).collect());
        if text.len() > 256 {
            return Err(not_semver());
        }
        let version = semver::Version::parse(text).map_err(|_| not_semver())?;
        if !version.build.is_empty() {
            return Err(PackageVersionError::BuildMetadata(text.to_owned()));
        }
        if [version.major, version.minor, version.patch].into_iter().any(|number| number > MAX_NUMBER) {
            return Err(not_semver());
        }
        Ok(Self(version))
    }
}

/// A name for one version of a package, such as `latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DistTag(String);

/// Why a text is not a [`DistTag`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a dist-tag: it must be letters, digits, `.`, `_` and `-`, start with a letter, and not read as a version range"
)]
pub struct DistTagError(String);

impl DistTag {
    /// The tag that `npm install <name>` resolves.
    pub fn latest() -> Self {
        Self("latest".to_owned())
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DistTag {
    type Err = DistTagError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        let letter = text.starts_with(|first: char| first.is_ascii_alphabetic());
        // `v1`, `v1.x`, `x` and `X.2` are ranges: a client would never look for a tag of that name.
        let rest = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let part = rest.split(['.', '-']).next().unwrap_or_default();
        let range = rest.starts_with(|first: char| first.is_ascii_digit()) || matches!(part, "x" | "X");
        if plain && letter && !range && text.len() <= 128 {
            Ok(Self(text.to_owned()))
        } else {
            Err(DistTagError(text.chars().take(64).collect()))
        }
    }
}

shown!(PackageVersion);
text!(PackageVersion, PackageVersionError, "description": "Semantic Versioning 2.0.0 without build metadata");
shown!(DistTag);
text!(DistTag, DistTagError, "description": "an npm dist-tag");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_strict() {
        for good in ["0.0.0", "1.2.3", "1.2.3-beta.1", "1.2.3-0", "10.20.30-rc.1.x-y"] {
            assert_eq!(good.parse::<PackageVersion>().expect(good).to_string(), good);
        }
        for bad in [
            "",
            "1",
            "1.2",
            "v1.2.3",
            "=1.2.3",
            " 1.2.3",
            "1.2.3 ",
            "01.2.3",
            "1.2.3-01",
            "1.2.3+a",
            "not-semver",
            "9007199254740992.0.0",
            "1.2.3\n",
        ] {
            assert!(bad.parse::<PackageVersion>().is_err(), "{bad}");
        }
    }

    #[test]
    fn versions_have_the_order_of_semver() {
        let version = |text: &str| text.parse::<PackageVersion>().expect(text);
        assert!(version("1.0.0-alpha") < version("1.0.0-alpha.1"));
        assert!(version("1.0.0-rc.1") < version("1.0.0"));
        assert!(version("1.9.0") < version("1.10.0"));
    }

    #[test]
    fn tags_are_not_ranges() {
        for good in ["latest", "next", "beta-2", "v", "canary", "xray", "release-1.x"] {
            assert!(good.parse::<DistTag>().is_ok(), "{good}");
        }
        for bad in ["", "1", "1.x", "v1", "V2.0", "x", "X.1", "x-1", "a b", "a/b", "^1", "~1", "*", "-a", "é"]
        {
            assert!(bad.parse::<DistTag>().is_err(), "{bad}");
        }
    }
}
