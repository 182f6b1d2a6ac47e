//! What is said of single functions: how far they are obfuscated, and which of them run often.
//!
//! `/* @protect light */` before a function speaks of it and of what it holds. A pattern of the configuration speaks of
//! every function of the source files that it names, and a CPU profile of the functions that it found. All of them
//! name places in the source, which the source map of the file leads back to.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use swc_core::{
    common::BytePos,
    ecma::{
        ast::*,
        visit::{Visit, VisitWith},
    },
};

use crate::{
    Obfuscation, Profile, SourcePlace,
    js::Session,
    pattern::PathPattern,
    source_map::{Lines, Place, SourceMap},
};

/// What is said of the functions of one file, by where they start in its text.
#[derive(Default)]
pub(crate) struct Functions {
    profiles: HashMap<BytePos, Profile>,
    hot: HashSet<BytePos>,
    /// Functions whose parameters are evaluated before the state is set.
    early: HashSet<BytePos>,
}

impl Functions {
    /// Returns how far the function that starts there is obfuscated, if that differs from what is around it.
    pub(crate) fn profile(&self, start: BytePos) -> Option<Profile> {
        self.profiles.get(&start).copied()
    }

    /// Settles which functions may run before the state is set.
    pub(crate) fn set_early(&mut self, early: HashSet<BytePos>) {
        self.early = early;
    }

    /// Whether the parameters of the function that starts there stay as they are.
    pub(crate) fn has_plain_parameters(&self, start: BytePos) -> bool {
        self.early.contains(&start)
    }

    /// Whether the function that starts there runs often.
    pub(crate) fn is_hot(&self, start: BytePos) -> bool {
        self.hot.contains(&start)
    }

    /// Whether any function is to be obfuscated further than `profile`.
    pub(crate) fn exceed(&self, profile: Profile) -> bool {
        self.profiles.values().any(|&other| other > profile)
    }

    /// Finds the functions of `program`, whose text `map` leads back to the sources.
    ///
    /// # Errors
    /// A directive that names no profile: where it stands, and what it says.
    pub(crate) fn find(
        program: &Program,
        session: &Session,
        map: Option<&SourceMap>,
        obfuscation: &Obfuscation,
        patterns: &Patterns,
    ) -> Result<Self, Directive> {
        let mut starts = Starts::default();
        program.visit_with(&mut starts);
        let lines = Lines::of(&session.file.src);
        // By source file and place there.
        let mut places: BTreeMap<&str, BTreeMap<Place, BytePos>> = BTreeMap::new();
        for start in starts.0 {
            let at = lines.place(start.0.saturating_sub(session.file.start_pos.0) as usize);
            match map {
                None => drop(places.entry(&session.path).or_default().insert(at, start)),
                Some(map) => {
                    if let Some((path, place)) = map.original(at) {
                        // The outermost function that starts there.
                        places.entry(path).or_default().entry(place).or_insert(start);
                    }
                }
            }
        }
        let mut found = Self::default();
        for (path, functions) in &places {
            if let Some(profile) = patterns.profile(path) {
                found.profiles.extend(functions.values().map(|&start| (start, profile)));
            }
            for SourcePlace { line, column, .. } in obfuscation.hot.iter().filter(|hot| hot.path == *path) {
                let at = Place { line: line.saturating_sub(1), column: column.saturating_sub(1) };
                if let Some((_, &start)) = functions.range(..=at).next_back() {
                    found.hot.insert(start);
                }
            }
        }
        let own = [(session.path.as_str(), session.file.src.as_ref())];
        let sources: Vec<(&str, &str)> = match map {
            None => own.to_vec(),
            Some(map) => map.sources().collect(),
        };
        for (path, content) in sources {
            let Some(functions) = places.get(path) else { continue };
            for (at, profile) in directives(path, content)? {
                if let Some((_, &start)) = functions.range(at..).next() {
                    found.profiles.insert(start, profile);
                }
            }
        }
        Ok(found)
    }
}

/// A comment that says `@protect` and names no profile.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Directive {
    pub(crate) path: String,
    pub(crate) content: String,
    pub(crate) offset: usize,
    pub(crate) said: String,
}

const DIRECTIVE: &str = "@protect ";

/// Whether a file may hold directives.
pub(crate) fn has_directives(content: &[u8]) -> bool {
    content.windows(DIRECTIVE.len()).any(|window| window == DIRECTIVE.as_bytes())
}

/// Returns the directives of a source file: where each ends, and what it says.
fn directives(path: &str, content: &str) -> Result<Vec<(Place, Profile)>, Directive> {
    let lines = Lines::of(content);
    let mut found = Vec::new();
    for (at, _) in content.match_indices(DIRECTIVE) {
        let before = content[..at].trim_end_matches([' ', '\t', '*']);
        if !before.ends_with("//") && !before.ends_with('/') {
            continue;
        }
        let said: String =
            content[at + DIRECTIVE.len()..].chars().take_while(|letter| letter.is_alphanumeric()).collect();
        let Some(profile) = Profile::ALL.into_iter().find(|profile| profile.name() == said) else {
            return Err(Directive { path: path.to_owned(), content: content.to_owned(), offset: at, said });
        };
        found.push((lines.place(at + DIRECTIVE.len() + said.len()), profile));
    }
    Ok(found)
}

/// The patterns of the configuration, ready to match.
pub(crate) struct Patterns(Vec<(PathPattern, Profile)>);

impl Patterns {
    /// # Errors
    /// A pattern that is none, and why.
    pub(crate) fn new(files: &[(String, Profile)]) -> Result<Self, String> {
        let matcher = |(pattern, profile): &(String, Profile)| {
            let pattern = PathPattern::new(pattern);
            pattern.map(|pattern| (pattern, *profile)).map_err(|error| error.to_string())
        };
        files.iter().map(matcher).collect::<Result<_, _>>().map(Self)
    }

    /// What the last pattern that matches says.
    pub(crate) fn profile(&self, path: &str) -> Option<Profile> {
        self.0.iter().rev().find(|(pattern, _)| pattern.matches(path)).map(|(_, profile)| *profile)
    }
}

/// Where the functions of a program start.
#[derive(Default)]
struct Starts(BTreeSet<BytePos>);

impl Visit for Starts {
    fn visit_function(&mut self, node: &Function) {
        self.0.insert(node.span.lo);
        node.visit_children_with(self);
    }

    fn visit_arrow_expr(&mut self, node: &ArrowExpr) {
        self.0.insert(node.span.lo);
        node.visit_children_with(self);
    }

    fn visit_constructor(&mut self, node: &Constructor) {
        self.0.insert(node.span.lo);
        node.visit_children_with(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_comments_that_name_a_profile() {
        let found =
            directives("a.js", "/* @protect light */ f\n// @protect strong\n/** @protect standard */")
                .expect("directives");
        let profiles: Vec<_> = found.iter().map(|(at, profile)| (at.line, *profile)).collect();
        assert_eq!(profiles, [(0, Profile::Light), (1, Profile::Strong), (2, Profile::Standard)]);
        assert_eq!(directives("a.js", "'see @protect light'").expect("a string"), []);
        assert_eq!(directives("a.js", "x /* @protect weak */").expect_err("weak").said, "weak");
    }

    #[test]
    fn the_last_pattern_counts() {
        let files = [("src/**".to_owned(), Profile::Strong), ("src/hot/*.js".to_owned(), Profile::Light)];
        let patterns = Patterns::new(&files).expect("patterns");
        assert_eq!(patterns.profile("src/a/b.js"), Some(Profile::Strong));
        assert_eq!(patterns.profile("src/hot/b.js"), Some(Profile::Light));
        assert_eq!(patterns.profile("src/hot/deep/b.js"), Some(Profile::Strong));
        assert_eq!(patterns.profile("lib/b.js"), None);
        assert!(Patterns::new(&[("a[".to_owned(), Profile::Light)]).is_err());
    }
}
