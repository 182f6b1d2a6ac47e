//! Package URLs of npm packages (Package URL specification, type `npm`), in npm's own spelling.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands unencoded in a name, a version or a qualifier's value.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'/');

/// Returns the package URL of `name@version`, such as `pkg:npm/%40acme/widget@1.0.0`.
///
/// `origin` is a qualifier and its value where the package is not from a registry.
pub(crate) fn purl(name: &str, version: &str, origin: Option<(&str, &str)>) -> String {
    let encode = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    let version =
        if version.is_empty() { String::new() } else { format!("@{}", encode(version).replace('/', "%2F")) };
    let qualifier = origin.map_or_else(String::new, |(key, value)| format!("?{key}={}", encode(value)));
    format!("pkg:npm/{}{version}{qualifier}", encode(name))
}

#[cfg(test)]
mod tests {
    use super::purl;

    #[test]
    fn as_npm_writes_it() {
        assert_eq!(purl("@acme/widget", "1.0.0", None), "pkg:npm/%40acme/widget@1.0.0");
        assert_eq!(purl("a", "1.0.0-b.1+c", None), "pkg:npm/a@1.0.0-b.1%2Bc");
        assert_eq!(purl("a", "", None), "pkg:npm/a");
        assert_eq!(
            purl("a", "1.0.0", Some(("vcs_url", "git+ssh://git@host/a b.git#1"))),
            "pkg:npm/a@1.0.0?vcs_url=git%2Bssh://git%40host/a%20b.git%231"
        );
        assert_eq!(purl("__proto__", "1?#@/..", None), "pkg:npm/__proto__@1%3F%23%40%2F..");
    }
}
