//! Patterns for paths: `*` is anything but `/`, `**` is any number of folders.

use globset::{GlobBuilder, GlobMatcher};

/// A pattern for paths in a package.
#[derive(Clone, Debug)]
pub struct PathPattern(GlobMatcher);

/// Why a text is no pattern.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PathPatternError(#[from] globset::Error);

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(text: &str) -> Result<Self, PathPatternError> {
        Ok(Self(GlobBuilder::new(text).literal_separator(true).build()?.compile_matcher()))
    }

    /// Returns whether it names `path`, relative and with `/`.
    pub fn matches(&self, path: &str) -> bool {
        self.0.is_match(path)
    }

    /// Returns the pattern as it was written.
    pub fn as_str(&self) -> &str {
        self.0.glob().glob()
    }
}

#[cfg(test)]
mod tests {
    use super::PathPattern;

    #[test]
    fn stars_stand_for_names_and_for_folders() {
        let matches = |pattern: &str, path: &str| PathPattern::new(pattern).expect(pattern).matches(path);
        for (pattern, path) in [
            ("a.js", "a.js"),
            ("src/*.js", "src/a.js"),
            ("src/*", "src/.hidden"),
            ("src/**", "src/a/b/c.js"),
            ("**", "a/b"),
            ("**/*.js", "a.js"),
            ("**/*.js", "a/b/c.js"),
            ("src/**/a.js", "src/a.js"),
            ("*.{js,mjs}", "a.mjs"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("a.js", "b/a.js"),
            ("a.js", "a.jsx"),
            ("a.js", "aXjs"),
            ("src/*", "src/a/b"),
            ("*", "a/b"),
            ("src/**", "srcs/a"),
            ("**/a.js", "xa.js"),
            ("A.js", "a.js"),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
        for bad in ["a[", "{a", "a\\"] {
            let refused = PathPattern::new(bad).expect_err(bad).to_string();
            assert!(refused.contains(bad), "{refused}");
        }
    }
}
