//! What a trace's path says about a package: which, of what version, and where in it.

/// A path or URL of a trace, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FramePath {
    /// From the root on, without `.` and `..`.
    pub(crate) parts: Vec<String>,
    /// The package, where a folder of packages stands in the path.
    pub(crate) package: Option<Package>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    /// How many of the parts lead to the package's root.
    pub(crate) root: usize,
}

impl FramePath {
    pub(crate) fn of(text: &str) -> Self {
        let (scheme, rest) = scheme(text);
        let is_url = scheme.is_some();
        let rest = if is_url { rest.split(['?', '#']).next().unwrap_or(rest) } else { query_cut(rest) };
        let mut parts: Vec<String> = Vec::new();
        for part in rest.split(['/', '\\']) {
            let part = if is_url { decoded(part) } else { part.to_owned() };
            match part.as_str() {
                "" | "." => {}
                ".." => drop(parts.pop()),
                // webpack's layer: `webpack-internal:///(rsc)/./...`
                layer
                    if scheme.is_some_and(|scheme| scheme.starts_with("webpack"))
                        && layer.starts_with('(') => {}
                _ => parts.push(part),
            }
        }
        let package = installed(&parts).or_else(|| delivered(&parts));
        Self { parts, package }
    }

    /// Returns the path within the package, where there is one.
    pub(crate) fn inside(&self) -> Option<String> {
        self.package.as_ref().map(|package| self.parts[package.root..].join("/"))
    }

    /// Returns how many parts at the end are those of `path`.
    pub(crate) fn common_end(&self, path: &str) -> usize {
        self.parts.iter().rev().zip(path.split('/').rev()).take_while(|(ours, theirs)| ours == theirs).count()
    }
}

/// Splits `scheme://host` off. A drive's letter is no scheme.
fn scheme(text: &str) -> (Option<&str>, &str) {
    let Some((scheme, rest)) = text.split_once(':') else { return (None, text) };
    let known = scheme.len() > 1 && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    match rest.strip_prefix("//") {
        Some(rest) if known => {
            let path = rest.find('/').map_or("", |slash| &rest[slash..]);
            (Some(scheme), path)
        }
        _ if scheme.len() == 1 => (None, rest),
        _ => (None, text),
    }
}

/// Cuts a bundler's query behind a plain path: `/srv/index.js?1234`. A `?` in a folder's name stays.
fn query_cut(text: &str) -> &str {
    match text.rsplit_once('?') {
        Some((path, query)) if !query.contains(['/', '\\']) => path,
        _ => text,
    }
}

fn decoded(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = |byte: &u8| char::from(*byte).to_digit(16);
        if let (b'%', [high, low, after @ ..]) = (first, tail)
            && let (Some(high), Some(low)) = (hex(high), hex(low))
        {
            bytes.push((high * 16 + low) as u8);
            rest = after;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| part.to_owned())
}

/// `node_modules/@acme/core/...`, the innermost, with the version where pnpm or yarn write one before it.
fn installed(parts: &[String]) -> Option<Package> {
    let modules = parts.iter().rposition(|part| part == "node_modules")?;
    let first = parts.get(modules + 1)?;
    let (name, root) = if first.starts_with('@') {
        (format!("{first}/{}", parts.get(modules + 2)?), modules + 3)
    } else {
        (first.clone(), modules + 2)
    };
    let store = modules.checked_sub(1).and_then(|at| parts.get(at)).map_or("", String::as_str);
    // `.pnpm/@acme+core@1.0.0_peer@2.0.0/node_modules`; `@acme-core-npm-1.0.0-0123456789.zip/node_modules`
    let pnpm = store.strip_prefix(&format!("{}@", name.replace('/', "+")));
    let yarn = store.strip_suffix(".zip").and_then(|rest| {
        rest.strip_prefix(&format!("{}-npm-", name.replace('/', "-")))?
            .rsplit_once('-')
            .map(|(version, _)| version)
    });
    let version = pnpm.map(|rest| rest.split(['_', '(']).next().unwrap_or(rest)).or(yarn);
    Some(Package { name, version: version.map(str::to_owned), root })
}

/// `@acme/core@1.0.0/...`, as servers of packages have it.
fn delivered(parts: &[String]) -> Option<Package> {
    parts.iter().enumerate().rev().find_map(|(at, part)| {
        let (base, version) = part.rsplit_once('@')?;
        let mut numbers = version.split(['-', '+']).next().unwrap_or_default().split('.');
        let is_version = numbers.clone().count() == 3
            && numbers.all(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
        if base.is_empty() || !is_version {
            return None;
        }
        let scope = at.checked_sub(1).and_then(|at| parts.get(at)).filter(|part| part.starts_with('@'));
        let name = scope.map_or_else(|| base.to_owned(), |scope| format!("{scope}/{base}"));
        Some(Package { name, version: Some(version.to_owned()), root: at + 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<(String, Option<String>)>, String) {
        let path = FramePath::of(text);
        let package = path.package.as_ref().map(|package| (package.name.clone(), package.version.clone()));
        let inside = path.inside().unwrap_or_else(|| path.parts.join("/"));
        (package, inside)
    }

    #[test]
    fn finds_package_version_and_path() {
        let some = |name: &str, version: Option<&str>| Some((name.to_owned(), version.map(str::to_owned)));
        for (text, package, inside) in [
            ("/srv/node_modules/@acme/core/dist/index.js", some("@acme/core", None), "dist/index.js"),
            ("/srv/node_modules/core/index.js", some("core", None), "index.js"),
            ("/srv/node_modules/a/node_modules/@acme/core/index.js", some("@acme/core", None), "index.js"),
            ("C:\\app\\node_modules\\@acme\\core\\dist\\index.js", some("@acme/core", None), "dist/index.js"),
            ("file:///C:/my%20app/node_modules/core/a%20b.js", some("core", None), "a b.js"),
            ("file:///srv/node_modules/core/index.js?v=1#x", some("core", None), "index.js"),
            ("https://x.example/node_modules/core/./a/../index.js", some("core", None), "index.js"),
            (
                "webpack-internal:///(rsc)/./node_modules/@acme/core/index.js?1234",
                some("@acme/core", None),
                "index.js",
            ),
            ("webpack://app/./node_modules/core/index.js", some("core", None), "index.js"),
            (
                "/srv/node_modules/.pnpm/@acme+core@1.2.0-beta.1_react@18.0.0/node_modules/@acme/core/index.js",
                some("@acme/core", Some("1.2.0-beta.1")),
                "index.js",
            ),
            (
                "/srv/node_modules/.pnpm/core@1.2.0/node_modules/core/index.js",
                some("core", Some("1.2.0")),
                "index.js",
            ),
            (
                "/srv/.yarn/cache/@acme-core-npm-1.2.0-0123456789.zip/node_modules/@acme/core/index.js",
                some("@acme/core", Some("1.2.0")),
                "index.js",
            ),
            (
                "https://cdn.example/npm/@acme/core@1.2.0/dist/index.js",
                some("@acme/core", Some("1.2.0")),
                "dist/index.js",
            ),
            ("https://cdn.example/core@1.2.0/index.js", some("core", Some("1.2.0")), "index.js"),
            ("/home/me@host/app/index.js", None, "home/me@host/app/index.js"),
            ("/srv/app/index.js?1234", None, "srv/app/index.js"),
            ("C:/app/index.js", None, "app/index.js"),
            ("index.js", None, "index.js"),
            ("node:internal/modules/cjs/loader", None, "node:internal/modules/cjs/loader"),
            ("/srv/node_modules", None, "srv/node_modules"),
            ("/srv/node_modules/@acme", None, "srv/node_modules/@acme"),
            ("../../..", None, ""),
        ] {
            assert_eq!(read(text), (package, inside.to_owned()), "{text}");
        }
    }

    #[test]
    fn counts_the_common_end() {
        let path = FramePath::of("/srv/app/dist/index.js");
        assert_eq!(path.common_end("dist/index.js"), 2);
        assert_eq!(path.common_end("lib/index.js"), 1);
        assert_eq!(path.common_end("x.js"), 0);
        assert_eq!(path.common_end("xdist/index.js"), 1, "whole parts count");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            FramePath::of(&text).inside();
        }
    }
}
