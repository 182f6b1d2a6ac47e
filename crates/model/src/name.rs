//! Names of packages, tenants, projects and snapshots.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::{shown, text};

/// Names that npm refuses for new packages: Node's built-in modules and two folders.
const RESERVED: &[&str] = &[
    "assert",
    "async_hooks",
    "buffer",
    "child_process",
    "cluster",
    "console",
    "constants",
    "crypto",
    "dgram",
    "diagnostics_channel",
    "dns",
    "domain",
    "events",
    "favicon.ico",
    "fs",
    "http",
    "http2",
    "https",
    "inspector",
    "module",
    "net",
    "node_modules",
    "os",
    "path",
    "perf_hooks",
    "process",
    "punycode",
    "querystring",
    "readline",
    "repl",
    "stream",
    "string_decoder",
    "sys",
    "timers",
    "tls",
    "trace_events",
    "tty",
    "url",
    "util",
    "v8",
    "vm",
    "wasi",
    "worker_threads",
    "zlib",
];

/// The name of a package, such as `@acme/core`: what npm takes for a new package, and nothing looser.
///
/// One canonical form: ASCII, lower case, at most 214 characters, so that two names that look alike are never
/// two packages, and so that a name can stand in a path without escaping more than its `/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageName(String);

/// Why a text is not a [`PackageName`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not a package name: {reason}")]
pub struct PackageNameError {
    text: String,
    reason: &'static str,
}

impl PackageName {
    /// Returns the name as files are called after it: `acme-core` of `@acme/core`.
    pub fn file_base(&self) -> String {
        self.0.trim_start_matches('@').replace('/', "-")
    }

    /// Returns the whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the scope with its `@`, or the empty scope of an unscoped package.
    pub fn scope(&self) -> PackageScope {
        PackageScope(self.0.split_once('/').map_or_else(String::new, |(scope, _)| scope.to_owned()))
    }

    /// Returns the part after the scope.
    pub fn base(&self) -> &str {
        self.0.split_once('/').map_or(self.0.as_str(), |(_, base)| base)
    }

    /// Returns the name as one path segment, as npm writes it: `@acme%2fcore`.
    pub fn escaped(&self) -> String {
        self.0.replace('/', "%2f")
    }

    /// Returns the file name of a version's tarball as registries serve it: `core-1.0.0.tgz`.
    pub fn tarball(&self, version: &crate::version::PackageVersion) -> String {
        format!("{}-{version}.tgz", self.base())
    }

    /// Returns the package URL of a version (purl specification, type npm): `pkg:npm/%40acme/core@1.0.0`.
    pub fn purl(&self, version: &crate::version::PackageVersion) -> String {
        format!("pkg:npm/{}@{version}", self.0.replace('@', "%40"))
    }
}

impl FromStr for PackageName {
    type Err = PackageNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| Err(PackageNameError { text: text.chars().take(64).collect(), reason });
        if text.is_empty() || text.len() > 214 {
            return refuse("it must have 1 to 214 characters");
        }
        let (scope, base) = match text.strip_prefix('@') {
            None => (None, text),
            Some(rest) => match rest.split_once('/') {
                Some((scope, base)) => (Some(scope), base),
                None => return refuse("a scope must be followed by `/` and a name"),
            },
        };
        for part in scope.into_iter().chain([base]) {
            if !part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.')) {
                return refuse("only lower-case letters, digits, `-`, `_` and `.` may stand in it");
            }
            if !part.starts_with(|first: char| first.is_ascii_alphanumeric()) {
                return refuse("each part must start with a letter or a digit");
            }
        }
        if scope.is_none() && RESERVED.contains(&base) {
            return refuse("the name is reserved");
        }
        Ok(Self(text.to_owned()))
    }
}

/// The scope of a package with its `@`, such as `@acme`; empty for an unscoped package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageScope(String);

impl PackageScope {
    /// Returns whether this is the scope of packages without one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the scope with its `@`, or nothing.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PackageScope {
    type Err = PackageNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self(String::new()));
        }
        // A scope is good when a package in it would be.
        let name = format!("{text}/a").parse::<PackageName>().ok().filter(|_| text.starts_with('@'));
        name.map(|name| name.scope()).ok_or_else(|| PackageNameError {
            text: text.chars().take(64).collect(),
            reason: "a scope is `@` and lower-case letters, digits, `-`, `_` and `.`",
        })
    }
}

/// Why a text is not an identifier of the kind named.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{text}` is not a {kind}: expected 1 to 128 letters, digits, `-`, `_` and `.`, starting with a letter or a digit"
)]
pub struct IdError {
    text: String,
    kind: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the identifier.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
                let first = text.starts_with(|first: char| first.is_ascii_alphanumeric());
                if plain && first && text.len() <= 128 {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(IdError { text: text.chars().take(64).collect(), kind: $kind })
                }
            }
        }

        shown!($name);
        text!($name, IdError, "description": $kind);
    };
}

shown!(PackageName);
text!(PackageName, PackageNameError, "description": "an npm package name, such as @acme/core");
shown!(PackageScope);
text!(PackageScope, PackageNameError, "description": "an npm scope such as @acme, or nothing for unscoped packages");

id! {
    /// A customer of FractalOps, whose data is apart from every other's.
    TenantId, "tenant id"
}
id! {
    /// A project of a tenant.
    ProjectSlug, "project slug"
}
id! {
    /// A customer to whom a project delivers.
    CustomerSlug, "customer slug"
}
id! {
    /// A delivery to a customer, such as `acme-1.2.0`, by which a marked copy is known again.
    DeliveryLabel, "delivery label"
}
id! {
    /// A sealed delivery.
    BundleId, "bundle id"
}
id! {
    /// The state of the entitlements that a decision was made on.
    EntitlementSnapshotId, "entitlement snapshot id"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_names_are_npms_new_ones() {
        for good in ["a", "core", "@acme/core", "lodash.merge", "@acme/core_2.x", "7zip", "@a-b/c-d"] {
            assert_eq!(good.parse::<PackageName>().expect(good).as_str(), good);
        }
        let long = "a".repeat(215);
        for bad in [
            "",
            "@acme",
            "@acme/",
            "@/core",
            "acme/core",
            "@acme/core/x",
            "@ACME/core",
            "@acme/Core",
            ".a",
            "_a",
            "-a",
            "@acme/.core",
            "@acme/..",
            "@acme/-x",
            "a b",
            "@acme/a b",
            "@acme/а",
            "a\u{200b}b",
            "a%2fb",
            "node_modules",
            "fs",
            "http",
            "a~b",
            "a'b",
            "a(b",
            "@@a/b",
            "a/b",
            "a\n",
            "..",
            "__proto__",
            &long,
        ] {
            assert!(bad.parse::<PackageName>().is_err(), "{bad}");
        }
        assert!("constructor".parse::<PackageName>().is_ok());
    }

    #[test]
    fn parts_and_forms() {
        let name: PackageName = "@acme/core".parse().expect("name");
        let version = "1.0.0".parse().expect("version");
        assert_eq!((name.scope().as_str(), name.base()), ("@acme", "core"));
        assert_eq!(name.escaped(), "@acme%2fcore");
        assert_eq!(name.tarball(&version), "core-1.0.0.tgz");
        assert_eq!(name.purl(&version), "pkg:npm/%40acme/core@1.0.0");
        let plain: PackageName = "core".parse().expect("name");
        assert!(plain.scope().is_empty());
    }

    #[test]
    fn scopes_and_ids() {
        assert!("@acme".parse::<PackageScope>().is_ok() && "".parse::<PackageScope>().is_ok());
        for bad in ["acme", "@", "@a/b", "@A", "@a b"] {
            assert!(bad.parse::<PackageScope>().is_err(), "{bad}");
        }
        for bad in ["", "a/b", "../a", ".a", "a b", "é", &"a".repeat(129)] {
            assert!(bad.parse::<ProjectSlug>().is_err(), "{bad}");
        }
    }
}
