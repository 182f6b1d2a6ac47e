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
    HardenError, Obfuscation, Profile, SourcePlace,
    format::{PackageTypes, code},
    js::{Language, Session, session},
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
    /// A directive that names no profile, or that stands before no function.
    pub(crate) fn find(
        program: &Program,
        session: &Session,
        map: Option<&SourceMap>,
        obfuscation: &Obfuscation,
        patterns: &Patterns,
    ) -> Result<Self, HardenError> {
        let mut starts = Starts::default();
        program.visit_with(&mut starts);
        let lines = Lines::of(&session.file.src);
        // By source file and place there.
        let mut places: BTreeMap<&str, BTreeMap<Place, BytePos>> = BTreeMap::new();
        for (start, _) in starts.0 {
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
            for Directive { from, to, profile } in directives(path, content)? {
                // A function that is gone leaves nothing to speak of.
                if let Some((_, &start)) = functions.range(from..to).next() {
                    found.profiles.insert(start, profile);
                }
            }
        }
        Ok(found)
    }
}

const DIRECTIVE: &str = "@protect";

/// Whether a file may hold directives.
pub(crate) fn has_directives(content: &[u8]) -> bool {
    content.windows(DIRECTIVE.len()).any(|window| window == DIRECTIVE.as_bytes())
}

/// What a comment of a source file says.
#[derive(Debug, PartialEq, Eq)]
struct Directive {
    /// Where the comment ends.
    from: Place,
    /// Where the function ends that it stands before.
    to: Place,
    profile: Profile,
}

/// Returns the directives of a source file, each a line of a comment by itself.
fn directives(path: &str, content: &str) -> Result<Vec<Directive>, HardenError> {
    if !has_directives(content.as_bytes()) {
        return Ok(Vec::new());
    }
    let language = code(path).map_or(Language::JavaScript, |code| code.language);
    session("obfuscate", path, content, |session| {
        let program = session.parse(language, PackageTypes::default().goal(path))?;
        let mut starts = Starts::default();
        program.visit_with(&mut starts);
        let lines = Lines::of(content);
        let offset = |at: BytePos| at.0.saturating_sub(session.file.start_pos.0) as usize;
        let mut found = Vec::new();
        let (leading, trailing) = session.comments.borrow_all();
        for comment in leading.values().chain(trailing.values()).flatten() {
            let Some(said) = comment.text.lines().find_map(said) else { continue };
            let wrong = |message: String| HardenError::Syntax(session.frame(comment.span.lo, message));
            let Some(profile) = Profile::ALL.into_iter().find(|profile| profile.name() == said) else {
                let message = "names no profile: expected `light`, `standard` or `strong`";
                return Err(wrong(format!("`@protect {said}` {message}")));
            };
            let next = starts.0.range((comment.span.hi, BytePos(0))..).next();
            let between = next.and_then(|(start, _)| content.get(offset(comment.span.hi)..offset(*start)));
            let (Some((_, end)), Some(between)) = (next, between) else {
                return Err(wrong(format!("`@protect {said}` does not stand before a function")));
            };
            if between.contains([';', '{', '}']) {
                return Err(wrong(format!("`@protect {said}` does not stand before a function")));
            }
            let place = |at: BytePos| lines.place(offset(at));
            found.push(Directive { from: place(comment.span.hi), to: place(*end), profile });
        }
        Ok(found)
    })
}

/// What a line of a comment says after the word, if it begins with it.
fn said(line: &str) -> Option<&str> {
    let rest = line.trim_start_matches(['*', ' ', '\t']).strip_prefix(DIRECTIVE)?;
    rest.starts_with(char::is_whitespace).then(|| rest.split_whitespace().next().unwrap_or_default())
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

/// Where the functions of a program start and end.
#[derive(Default)]
struct Starts(BTreeSet<(BytePos, BytePos)>);

impl Visit for Starts {
    fn visit_function(&mut self, node: &Function) {
        self.0.insert((node.span.lo, node.span.hi));
        node.visit_children_with(self);
    }

    fn visit_arrow_expr(&mut self, node: &ArrowExpr) {
        self.0.insert((node.span.lo, node.span.hi));
        node.visit_children_with(self);
    }

    fn visit_constructor(&mut self, node: &Constructor) {
        self.0.insert((node.span.lo, node.span.hi));
        node.visit_children_with(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_comments_before_functions() {
        let profiles = |text: &str| -> Result<Vec<Profile>, String> {
            let found = directives("a.js", text).map_err(|error| error.to_string())?;
            Ok(found.iter().map(|directive| directive.profile).collect())
        };
        for text in [
            "/* @protect strong */ function f() {}",
            "// @protect strong\nexport const f = async (a) => a;",
            "/**\n * Signs.\n * @protect strong\n * @param k the key\n */\nfunction sign(k) {}",
            "export default { /* @protect strong */ method() {} }",
            "class A { /** @protect strong */ static async *m() {} }",
            "module.exports = /* @protect strong */ wrap(function () {});",
        ] {
            assert_eq!(profiles(text), Ok(vec![Profile::Strong]), "{text}");
        }
        for text in [
            "x = '// @protect light'; function f() {}",
            "// see @protect light\nfunction f() {}",
            "/* @protected */ f()",
        ] {
            assert_eq!(profiles(text), Ok(vec![]), "{text}");
        }
        for (text, message) in [
            ("/* @protect weak */ function f() {}", "names no profile"),
            ("/* @protect light */ const flag = 1; function f() {}", "does not stand before a function"),
            ("function f() {} // @protect light", "does not stand before a function"),
        ] {
            let error = profiles(text).expect_err(text);
            assert!(error.contains(message), "{text}: {error}");
        }
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
