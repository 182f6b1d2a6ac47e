//! Request paths: each read once, to one operation on one package under its canonical name, or refused.
//!
//! What a proxy, a router and a store read differently is how one package's token reaches another package.
//! So there is one decoding, here, and it knows two escapes: `%40` for the `@` of a scope and `%2f` for the `/`
//! after it. Everything that an npm client asks for can be said with these; any other escape has no business
//! in a package name, a version or a tag.

use http::Method;
use protected_model::{
    name::PackageName,
    version::{DistTag, PackageVersion},
};

/// The longest path that is looked at: three names of 214 characters with room to spare.
const MAX_PATH_BYTES: usize = 1024;

/// What is asked of the registry, on what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// `GET /<package>`
    Packument { package: PackageName },
    /// `GET /<package>/<version or tag>`
    Version { package: PackageName, wanted: String },
    /// `GET /<package>/-/<base>-<version>.tgz`
    Tarball { package: PackageName, version: PackageVersion },
    /// `GET /-/package/<package>/dist-tags`
    ListTags { package: PackageName },
    /// `GET /-/package/<package>/visibility`
    Visibility { package: PackageName },
    /// `PUT /<package>`: a new version, or `deprecated` on old ones; the body says which.
    Put { package: PackageName },
    /// `PUT /-/package/<package>/dist-tags/<tag>`
    SetTag { package: PackageName, tag: DistTag },
    /// `DELETE /-/package/<package>/dist-tags/<tag>`
    RemoveTag { package: PackageName, tag: DistTag },
    /// `PUT /<package>/-rev/<rev>`: the document without the versions to remove.
    RemoveVersions { package: PackageName, rev: String },
    /// `DELETE /<package>/-rev/<rev>`
    RemovePackage { package: PackageName, rev: String },
    /// `DELETE /<package>/-/<file>/-rev/<rev>`: the second half of removing a version.
    RemoveTarball { package: PackageName, version: PackageVersion, rev: String },
    /// `GET /-/ping`
    Ping,
    /// `GET /-/whoami`
    Whoami,
    /// `GET /-/v1/search`
    Search,
    /// `GET /-/npm/v1/keys`
    Keys,
    /// `GET /-/npm/v1/attestations/<package>@<version>`: what stock npm can verify.
    Attestations { package: PackageName, version: PackageVersion },
    /// `GET /-/protected-registry/v1/attestations/<package>@<version>`: all there are.
    AllAttestations { package: PackageName, version: PackageVersion },
    /// `POST /-/npm/v1/security/advisories/bulk`
    BulkAdvisories,
    /// `POST /-/npm/v1/security/audits` and below
    QuickAudit,
    /// Accounts, long-lived tokens, organisations and the like: not here, whatever the token.
    Refused { what: &'static str },
}

/// Why a path is no operation.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum PathError {
    #[error("the path is refused: {0}")]
    Malformed(&'static str),
    #[error("the path is refused: {0}")]
    Name(#[from] protected_model::name::PackageNameError),
    #[error("the path is refused: {0}")]
    Tag(#[from] protected_model::version::DistTagError),
    #[error("the path is refused: `{file}` is not the name of a tarball of {package}, such as `{example}`")]
    File { file: String, package: PackageName, example: String },
    #[error("the registry has no such endpoint")]
    Unknown,
    #[error("the registry has no such endpoint for {0}")]
    Method(Method),
}

impl Operation {
    /// Reads `method` and the path below the registry's base URL, as it stands in the request line.
    ///
    /// # Errors
    /// When the path could be read in two ways, names no valid package, or is not an endpoint.
    pub(crate) fn parse(method: &Method, raw_path: &str) -> Result<Self, PathError> {
        let segments = segments(raw_path)?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        // A HEAD is a GET without its body.
        let method = if method == Method::HEAD { &Method::GET } else { method };
        match segments.as_slice() {
            ["-", rest @ ..] => Self::of_registry(method, rest),
            [package, rest @ ..] => Self::of_package(method, package.parse()?, rest),
            [] => Err(PathError::Unknown),
        }
    }

    /// The package that the token must be for; nothing for what is about no one package.
    pub(crate) fn package(&self) -> Option<&PackageName> {
        match self {
            Self::Packument { package }
            | Self::Version { package, .. }
            | Self::Tarball { package, .. }
            | Self::ListTags { package }
            | Self::Visibility { package }
            | Self::Put { package }
            | Self::SetTag { package, .. }
            | Self::RemoveTag { package, .. }
            | Self::RemoveVersions { package, .. }
            | Self::RemovePackage { package, .. }
            | Self::RemoveTarball { package, .. }
            | Self::Attestations { package, .. }
            | Self::AllAttestations { package, .. } => Some(package),
            Self::Ping
            | Self::Keys
            | Self::Whoami
            | Self::Search
            | Self::BulkAdvisories
            | Self::QuickAudit
            | Self::Refused { .. } => None,
        }
    }

    fn of_package(method: &Method, package: PackageName, rest: &[&str]) -> Result<Self, PathError> {
        let rev = |rev: &str| rev.to_owned();
        Ok(match (method.as_str(), rest) {
            ("GET", []) => Self::Packument { package },
            ("PUT", []) => Self::Put { package },
            ("GET", ["-", file]) => {
                let version = tarball_version(&package, file)?;
                Self::Tarball { package, version }
            }
            ("DELETE", ["-", file, "-rev", text]) => {
                let version = tarball_version(&package, file)?;
                Self::RemoveTarball { package, version, rev: rev(text) }
            }
            ("PUT", ["-rev", text]) => Self::RemoveVersions { package, rev: rev(text) },
            ("DELETE", ["-rev", text]) => Self::RemovePackage { package, rev: rev(text) },
            ("GET", [wanted]) if !wanted.starts_with('-') => {
                Self::Version { package, wanted: (*wanted).to_owned() }
            }
            (_, [] | ["-", _] | ["-", _, "-rev", _] | ["-rev", _]) => {
                return Err(PathError::Method(method.clone()));
            }
            _ => return Err(PathError::Unknown),
        })
    }

    fn of_registry(method: &Method, rest: &[&str]) -> Result<Self, PathError> {
        let refused = |what| Ok(Self::Refused { what });
        Ok(match (method.as_str(), rest) {
            ("GET", ["ping"]) => Self::Ping,
            ("GET", ["whoami"]) => Self::Whoami,
            ("GET", ["v1", "search"]) => Self::Search,
            ("GET", ["npm", "v1", "keys"]) => Self::Keys,
            ("GET", ["npm", "v1", "attestations", spec]) => {
                let (package, version) = coordinate(spec)?;
                Self::Attestations { package, version }
            }
            ("GET", ["protected-registry", "v1", "attestations", spec]) => {
                let (package, version) = coordinate(spec)?;
                Self::AllAttestations { package, version }
            }
            ("POST", ["npm", "v1", "security", "advisories", "bulk"]) => Self::BulkAdvisories,
            ("POST", ["npm", "v1", "security", "audits"] | ["npm", "v1", "security", "audits", "quick"]) => {
                Self::QuickAudit
            }
            ("GET", ["package", package, "dist-tags"]) => Self::ListTags { package: package.parse()? },
            ("PUT" | "POST", ["package", package, "dist-tags", tag]) => {
                Self::SetTag { package: package.parse()?, tag: tag.parse()? }
            }
            ("DELETE", ["package", package, "dist-tags", tag]) => {
                Self::RemoveTag { package: package.parse()?, tag: tag.parse()? }
            }
            ("GET", ["package", package, "visibility"]) => Self::Visibility { package: package.parse()? },
            (_, ["v1", "login", ..] | ["user", ..]) => return refused("accounts and logins"),
            (_, ["npm", "v1", "tokens", ..]) => return refused("long-lived tokens"),
            (_, ["npm", "v1", "user", ..]) => return refused("profiles"),
            (_, ["org" | "team", ..]) => return refused("organisations and teams"),
            (_, ["all", ..]) => return refused("a list of all packages"),
            (_, ["stage", ..]) => return refused("staged publishing"),
            (_, ["package", _, "trust", ..]) => return refused("trust settings over this interface"),
            (_, ["package", _, "access" | "collaborators" | "visibility", ..]) => {
                return refused("access settings");
            }
            (_, ["package", _, "dist-tags"] | ["package", _, "dist-tags", _])
            | (_, ["ping" | "whoami"] | ["v1", "search"] | ["npm", "v1", "keys"])
            | (_, ["npm" | "protected-registry", "v1", "attestations", _]) => {
                return Err(PathError::Method(method.clone()));
            }
            _ => return Err(PathError::Unknown),
        })
    }
}

/// Splits a path into its segments, with a scope and the name after it as one.
fn segments(raw_path: &str) -> Result<Vec<String>, PathError> {
    use PathError::Malformed;
    if raw_path.len() > MAX_PATH_BYTES {
        return Err(Malformed("it is too long"));
    }
    if raw_path.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(Malformed("only printable ASCII may stand in it"));
    }
    if raw_path.contains('\\') {
        return Err(Malformed("it holds a backslash"));
    }
    let below = raw_path.strip_prefix('/').ok_or(Malformed("it must start with a slash"))?;
    let mut segments: Vec<String> = Vec::new();
    for raw in below.split('/') {
        let scope_before = segments.last().is_some_and(|last| last.starts_with('@') && !last.contains('/'));
        let segment = decode(raw)?;
        if segment.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Malformed("a part of it is empty, `.` or `..`"));
        }
        match segments.last_mut().filter(|_| scope_before) {
            // `/@acme/core` and `/@acme%2fcore` are one name.
            Some(scope) if !segment.contains('/') => {
                scope.push('/');
                scope.push_str(&segment);
            }
            Some(_) => return Err(Malformed("a scope is followed by one name")),
            None => segments.push(segment),
        }
    }
    Ok(segments)
}

/// Decodes one segment: a leading `%40`, and one `%2f` after a scope. No other escape is known.
fn decode(raw: &str) -> Result<String, PathError> {
    let unscoped = raw.strip_prefix("%40").or_else(|| raw.strip_prefix('@'));
    let decoded = match unscoped {
        None => raw.to_owned(),
        Some(rest) => format!("@{}", rest.replacen("%2f", "/", 1).replacen("%2F", "/", 1)),
    };
    if decoded.contains('%') || decoded.matches('/').count() > 1 {
        return Err(PathError::Malformed("only the `@` and the `/` of a scoped name may be escaped, once"));
    }
    Ok(decoded)
}

/// Reads `<package>@<version>`.
fn coordinate(text: &str) -> Result<(PackageName, PackageVersion), PathError> {
    let parts = text.rsplit_once('@').filter(|(package, _)| !package.is_empty());
    let (package, version) = parts.ok_or(PathError::Malformed("expected `<package>@<version>`"))?;
    let version =
        version.parse().map_err(|_| PathError::Malformed("what follows the last `@` is no version"))?;
    Ok((package.parse()?, version))
}

/// Returns the version of a package's tarball by its one file name.
fn tarball_version(package: &PackageName, file: &str) -> Result<PackageVersion, PathError> {
    let version = file
        .strip_prefix(package.base())
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|rest| rest.strip_suffix(".tgz"))
        .and_then(|version| version.parse().ok());
    version.ok_or_else(|| PathError::File {
        file: file.chars().take(64).collect(),
        package: package.clone(),
        example: format!("{}-1.0.0.tgz", package.base()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn get(path: &str) -> Result<Operation, PathError> {
        Operation::parse(&Method::GET, path)
    }

    fn name(text: &str) -> PackageName {
        text.parse().expect(text)
    }

    #[test]
    fn attestations_are_of_one_version() {
        assert_eq!(get("/-/npm/v1/keys"), Ok(Operation::Keys));
        for path in [
            "/-/npm/v1/attestations/@acme/core",
            "/-/npm/v1/attestations/@acme%2fcore",
            "/-/npm/v1/attestations/@acme/core@latest",
            "/-/npm/v1/attestations/@acme/core@^1",
            "/-/npm/v1/attestations/@acme/core@1.0.0@1.0.0",
            "/-/npm/v1/attestations/@acme/core@",
            "/-/npm/v1/attestations/@1.0.0",
            "/-/npm/v1/attestations/@acme%2fcore%401.0.0",
            "/-/npm/v1/attestations/core/1.0.0",
            "/-/npm/v1/attestations/@acme/core@1.0.0/x",
            "/-/npm/v1/attestations/../core@1.0.0",
        ] {
            assert!(get(path).is_err(), "{path}");
        }
    }

    #[test]
    fn every_form_of_a_name_is_one_package() {
        let package = name("@acme/core");
        for path in ["/@acme/core", "/@acme%2fcore", "/@acme%2Fcore", "/%40acme%2fcore", "/%40acme/core"] {
            assert_eq!(get(path), Ok(Operation::Packument { package: package.clone() }), "{path}");
            let version = "1.0.0-rc.1".parse().expect("version");
            let tarball = Operation::Tarball { package: package.clone(), version };
            assert_eq!(get(&format!("{path}/-/core-1.0.0-rc.1.tgz")), Ok(tarball), "{path}");
            let tags = Operation::ListTags { package: package.clone() };
            assert_eq!(get(&format!("/-/package{path}/dist-tags")), Ok(tags), "{path}");
            let version: PackageVersion = "1.0.0-rc.1".parse().expect("version");
            let attestations = Operation::Attestations { package: package.clone(), version: version.clone() };
            assert_eq!(get(&format!("/-/npm/v1/attestations{path}@{version}")), Ok(attestations), "{path}");
            let all = Operation::AllAttestations { package: package.clone(), version };
            let at = format!("/-/protected-registry/v1/attestations{path}@1.0.0-rc.1");
            assert_eq!(get(&at), Ok(all), "{path}");
        }
        assert_eq!(get("/core"), Ok(Operation::Packument { package: name("core") }));
        assert_eq!(Operation::parse(&Method::HEAD, "/core"), get("/core"));
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        for path in [
            "",
            "/",
            "//",
            "core",
            "//core",
            "/core/",
            "/@acme/core/",
            "/@acme//core",
            "/@acme/",
            "/@acme",
            "/@acme%2f",
            "/@acme%252fcore",
            "/%2540acme%2fcore",
            "/@acme%2f..%2fcore",
            "/@acme%2f%2fcore",
            "/@acme%2fcore%2f..",
            "/@acme%2fcore/..",
            "/@acme/core/../core2",
            "/@acme/./core",
            "/@acme/../@acme/core",
            "/..",
            "/%2e%2e",
            "/@acme/%2e%2e",
            "/@acme/core%00",
            "/@acme/core\0",
            "/@acme/core%20",
            "/@acme/core%0a",
            "/@acme\\core",
            "/@acme%5ccore",
            "/@acme/c%6fre",
            "/@acme/c\u{043e}re",
            "/@acme/core\u{200b}",
            "/@ACME/core",
            "/@acme/Core",
            "/acme%2fcore",
            "/core%2f",
            "/node_modules",
            "/__proto__",
            "/favicon.ico",
            "/_x",
            "/@acme/core;x",
            "/@acme/core?x",
            "/@acme/core#x",
            "/@acme/core%3fx",
            "/@@acme/core",
            "/@acme/@acme/core",
            "/@acme/core%2fx",
            "/@acme%2fcore%2fx",
            "/-/package/@acme/dist-tags",
            "/-/package/@acme%2f../dist-tags",
            "/-/package/../dist-tags",
        ] {
            assert!(get(path).is_err(), "{path}: {:?}", get(path));
        }
        assert!(get(&format!("/{}", "a".repeat(215))).is_err());
        assert!(get(&format!("/{}", "a/".repeat(600))).is_err());
    }

    #[test]
    fn tarballs_have_one_file_name() {
        for path in [
            "/@acme/core/-/core-1.0.0.tar.gz",
            "/@acme/core/-/core2-1.0.0.tgz",
            "/@acme/core/-/cor-1.0.0.tgz",
            "/@acme/core/-/@acme/core-1.0.0.tgz",
            "/@acme/core/-/core-1.0.tgz",
            "/@acme/core/-/core-1.0.0+a.tgz",
            "/@acme/core/-/core-v1.0.0.tgz",
            "/@acme/core/-/core-.tgz",
            "/@acme/core/-/core.tgz",
            "/@acme/core/-/package.json",
            "/@acme/core/-/..",
            "/@acme/core/-/core-1.0.0.tgz/",
            "/@acme/core/-/x/core-1.0.0.tgz",
        ] {
            assert!(get(path).is_err(), "{path}");
        }
    }

    #[test]
    fn methods_and_endpoints() {
        let package = name("core");
        let parse = |method: Method, path: &str| Operation::parse(&method, path);
        assert_eq!(parse(Method::PUT, "/core"), Ok(Operation::Put { package: package.clone() }));
        let tag: DistTag = "stable".parse().expect("tag");
        let set = Operation::SetTag { package: package.clone(), tag: tag.clone() };
        assert_eq!(parse(Method::PUT, "/-/package/core/dist-tags/stable"), Ok(set));
        let remove = Operation::RemoveTag { package: package.clone(), tag };
        assert_eq!(parse(Method::DELETE, "/-/package/core/dist-tags/stable"), Ok(remove));
        assert!(parse(Method::PUT, "/-/package/core/dist-tags/1.x").is_err());
        let rev = "3-a".to_owned();
        let versions = Operation::RemoveVersions { package: package.clone(), rev: rev.clone() };
        assert_eq!(parse(Method::PUT, "/core/-rev/3-a"), Ok(versions));
        let whole = Operation::RemovePackage { package: package.clone(), rev: rev.clone() };
        assert_eq!(parse(Method::DELETE, "/core/-rev/3-a"), Ok(whole));
        let version = "1.0.0".parse().expect("version");
        let tarball = Operation::RemoveTarball { package: package.clone(), version, rev };
        assert_eq!(parse(Method::DELETE, "/core/-/core-1.0.0.tgz/-rev/3-a"), Ok(tarball));
        assert_eq!(parse(Method::DELETE, "/core"), Err(PathError::Method(Method::DELETE)));
        assert_eq!(parse(Method::POST, "/core"), Err(PathError::Method(Method::POST)));
        assert_eq!(parse(Method::PUT, "/core/-/core-1.0.0.tgz"), Err(PathError::Method(Method::PUT)));
        assert_eq!(get("/-/npm/v1/hooks"), Err(PathError::Unknown));
        assert_eq!(parse(Method::PUT, "/-/npm/v1/keys"), Err(PathError::Method(Method::PUT)));
        assert_eq!(get("/core/1.0.0/x"), Err(PathError::Unknown));
        let wanted = Operation::Version { package, wanted: "1.0.0".to_owned() };
        assert_eq!(get("/core/1.0.0"), Ok(wanted));
        assert_eq!(get("/-/whoami"), Ok(Operation::Whoami));
        for path in ["/-/v1/login", "/-/user/org.couchdb.user:ci", "/-/npm/v1/tokens", "/-/all", "/-/stage"] {
            for method in [Method::GET, Method::PUT, Method::POST] {
                assert!(matches!(parse(method, path), Ok(Operation::Refused { .. })), "{path}");
            }
        }
    }

    proptest! {
        /// No path, however written, is read as a package whose canonical name is not spelled in it.
        #[test]
        fn never_panics_and_never_invents_a_name(path in "/?([-@a-zA-Z0-9._~%/\\\\]|%2[fF]|%40|%25|\\.\\.){0,40}") {
            for method in [Method::GET, Method::PUT, Method::POST, Method::DELETE] {
                if let Ok(operation) = Operation::parse(&method, &path)
                    && let Some(package) = operation.package()
                {
                    let plain = path.replace("%40", "@").replace("%2f", "/").replace("%2F", "/");
                    prop_assert!(plain.contains(&format!("/{package}")), "{path} was read as {package}");
                    prop_assert!(!plain.contains("//") && !plain.contains('%') && !plain.ends_with('/'));
                    prop_assert_eq!(package.as_str().parse::<PackageName>(), Ok(package.clone()));
                }
            }
        }

        #[test]
        fn never_panics_on_anything(path in "\\PC{0,80}") {
            let _ = Operation::parse(&Method::GET, &path);
        }

        /// Each form of a good name gives that name back, and no other.
        #[test]
        fn good_names_survive(scope in "[a-z0-9][a-z0-9._-]{0,8}", base in "[a-z0-9][a-z0-9._-]{0,8}") {
            let package = name(&format!("@{scope}/{base}"));
            for path in [format!("/@{scope}/{base}"), format!("/%40{scope}%2f{base}"), format!("/@{scope}%2F{base}")] {
                let expected = Operation::Packument { package: package.clone() };
                prop_assert_eq!(Operation::parse(&Method::GET, &path), Ok(expected));
            }
        }
    }
}
