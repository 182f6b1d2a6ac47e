//! Patterns as npm matches them when it decides what goes into a tarball.
//!
//! npm's walker hands each line of `files`, `.npmignore` and `.gitignore` to minimatch with `dot`, `nocase`,
//! `matchBase` and `flipNegate`. This module gives the same answers for the same four options. It works on
//! sets of positions instead of backtracking, so that no pattern takes exponential time.

/// The most texts that one pattern may stand for. `{a,b}{a,b}…` doubles with each pair of braces: a pattern of a
/// hundred characters would otherwise hold gigabytes.
const MAX_ALTERNATIVES: usize = 10_000;

/// The longest pattern, as in minimatch.
const MAX_PATTERN_BYTES: usize = 64 * 1024;

/// How deep `@(a|+(b|c))` may nest: deeper parentheses are plain text.
const MAX_NESTING: usize = 8;

/// A pattern, ready to match.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// Whether an odd number of `!` stood before it: what it matches is included.
    pub(crate) negated: bool,
    alternatives: Vec<Vec<Part>>,
}

/// The pattern is longer than [`MAX_PATTERN_BYTES`] or stands for more than [`MAX_ALTERNATIVES`] texts.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the pattern `{0}` is too long or stands for too many names")]
pub struct PatternError(String);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// `**`: any number of folders.
    Any,
    /// One name without anything special, in lower case.
    Plain(String),
    /// One name.
    Name(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`
    One,
    /// `*`
    Many,
    /// `[a-z]`
    Class(Class),
    /// `?(a|b)`, `*(a|b)`, `+(a|b)`, `@(a|b)`
    Group {
        kind: char,
        choices: Vec<Vec<Token>>,
    },
    /// `!(a|b)`: any text, unless a choice and then the rest of the pattern match to the end.
    Not(Vec<Vec<Token>>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
    named: Vec<&'static str>,
}

impl Pattern {
    /// Reads a pattern.
    pub(crate) fn new(text: &str) -> Result<Self, PatternError> {
        let refuse = || PatternError(text.chars().take(64).collect());
        if text.len() > MAX_PATTERN_BYTES {
            return Err(refuse());
        }
        let bare = text.trim_start_matches('!');
        let negated = (text.len() - bare.len()) % 2 == 1;
        let expanded = expand(bare).ok_or_else(refuse)?;
        Ok(Self { negated, alternatives: expanded.iter().map(|text| parts(text)).collect() })
    }

    /// Returns whether some alternative is one name, possibly with a `/` on either side.
    pub(crate) fn is_relative(&self) -> bool {
        let ends_open = |parts: &[Part]| matches!(parts.last(), Some(Part::Plain(last)) if last.is_empty());
        self.alternatives.iter().any(|parts| parts.len() <= if ends_open(parts) { 2 } else { 1 })
    }

    /// Returns whether `path` matches; with `partial`, whether something below it could.
    pub(crate) fn matches(&self, path: &Candidate, partial: bool) -> bool {
        if partial && path.0 == "/" {
            return true;
        }
        let names = split(&path.0);
        let base = names.iter().rev().find(|name| !name.is_empty()).copied().unwrap_or_default();
        self.alternatives.iter().any(|parts| {
            if parts.len() == 1 {
                match_path(&[base], parts, partial)
            } else {
                match_path(&names, parts, partial)
            }
        })
    }
}

/// A path to match, in lower case because npm's patterns ignore case.
pub(crate) struct Candidate(String);

impl Candidate {
    pub(crate) fn new(path: &str) -> Self {
        Self(path.to_lowercase())
    }
}

/// Splits at runs of `/`, keeping an empty name before a leading and after a trailing one.
fn split(path: &str) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    let mut pieces = path.split('/').peekable();
    while let Some(piece) = pieces.next() {
        if names.is_empty() || !piece.is_empty() || pieces.peek().is_none() {
            names.push(piece);
        }
    }
    names
}

fn parts(text: &str) -> Vec<Part> {
    let mut kept: Vec<&str> = Vec::new();
    for name in split(text) {
        match (kept.last().copied(), name) {
            (Some("**"), "**") => {}
            (Some(before), "..") if !matches!(before, "" | ".." | "." | "**") => {
                kept.pop();
            }
            _ => kept.push(name),
        }
    }
    if kept.is_empty() {
        kept.push("");
    }
    kept.into_iter().map(part).collect()
}

fn part(name: &str) -> Part {
    if name == "**" {
        return Part::Any;
    }
    let tokens = tokens(name);
    let plain: Option<String> = tokens
        .iter()
        .map(|token| match token {
            Token::Char(char) => Some(*char),
            _ => None,
        })
        .collect();
    plain.map_or(Part::Name(tokens), Part::Plain)
}

/// Matches a path against parts, as minimatch does: `**` takes any number of names, and the text after the last
/// one must stand at the end.
fn match_path(names: &[&str], parts: &[Part], partial: bool) -> bool {
    let Some(first) = parts.iter().position(|part| *part == Part::Any) else {
        return match_names(names, parts, partial);
    };
    let last = parts.iter().rposition(|part| *part == Part::Any).unwrap_or(first);
    let (head, body, tail) = (&parts[..first], &parts[first..last], &parts[last + 1..]);
    if !match_names(&names[..head.len().min(names.len())], head, partial) {
        return false;
    }
    if partial {
        return true;
    }
    let mut at = head.len();
    let mut end = names.len();
    if !tail.is_empty() {
        let fits =
            |end: usize| end >= at + tail.len() && match_names(&names[end - tail.len()..], tail, false);
        if !fits(end) {
            // `a/**/*` takes `a/b/`: the empty name after the last `/` is left over.
            if names.last() != Some(&"") || end == 0 || !fits_before(names, tail, at) {
                return false;
            }
            end -= 1;
        }
        end -= tail.len();
    }
    for section in body.split(|part| *part == Part::Any).filter(|section| !section.is_empty()) {
        let found = (at..=end.saturating_sub(section.len())).find(|&at| {
            at + section.len() <= end && match_names(&names[at..at + section.len()], section, false)
        });
        match found {
            Some(found) => at = found + section.len(),
            None => return false,
        }
    }
    // `a/**` takes what is in `a`, not `a` itself.
    !tail.is_empty() || at < names.len()
}

/// Matches `tail` just before the last, empty name.
fn fits_before(names: &[&str], tail: &[Part], at: usize) -> bool {
    let end = names.len() - 1;
    end >= at + tail.len() && match_names(&names[end - tail.len()..], tail, false)
}

/// Matches names one by one. A trailing empty name (`a/`) may be left over; with `partial`, parts may be too.
fn match_names(names: &[&str], parts: &[Part], partial: bool) -> bool {
    let both = names.len().min(parts.len());
    let hit = names.iter().zip(parts).all(|(name, part)| match part {
        Part::Any => false,
        Part::Plain(plain) => name == plain,
        Part::Name(tokens) => match_name(name, tokens),
    });
    if !hit {
        return false;
    }
    match (names.len() - both, parts.len() - both) {
        (0, 0) => true,
        (0, _) => partial,
        (left, _) => left == 1 && names.last() == Some(&""),
    }
}

fn match_name(name: &str, tokens: &[Token]) -> bool {
    // A name that is nothing but stars needs at least one character, and never takes `.` or `..`.
    if tokens == [Token::Many] {
        return !name.is_empty() && name != "." && name != "..";
    }
    let chars: Vec<char> = name.chars().collect();
    let mut end = vec![false; chars.len() + 1];
    end[chars.len()] = true;
    starts(&chars, tokens, end)[0]
}

/// Returns from which positions `tokens` and then what follows match to the end, given the positions from which
/// what follows does.
fn starts(name: &[char], tokens: &[Token], mut follows: Vec<bool>) -> Vec<bool> {
    for token in tokens.iter().rev() {
        follows = match token {
            Token::Char(expected) => before(name, &follows, |char| char == *expected),
            Token::One => before(name, &follows, |_| true),
            Token::Class(class) => before(name, &follows, |char| class.contains(char)),
            Token::Many => any_before(&follows),
            Token::Group { kind, choices } => group(name, *kind, choices, &follows),
            Token::Not(choices) => {
                let excluded = once(name, choices, &follows);
                any_before(&follows).iter().zip(excluded).map(|(any, excluded)| *any && !excluded).collect()
            }
        };
    }
    follows
}

fn before(name: &[char], follows: &[bool], accepts: impl Fn(char) -> bool) -> Vec<bool> {
    let fits = |at: usize| name.get(at).is_some_and(|char| accepts(*char) && follows[at + 1]);
    (0..follows.len()).map(fits).collect()
}

fn any_before(follows: &[bool]) -> Vec<bool> {
    let last = follows.iter().rposition(|follows| *follows);
    (0..follows.len()).map(|at| last.is_some_and(|last| at <= last)).collect()
}

fn once(name: &[char], choices: &[Vec<Token>], follows: &[bool]) -> Vec<bool> {
    choices
        .iter()
        .fold(vec![false; follows.len()], |all, choice| either(&all, &starts(name, choice, follows.to_vec())))
}

fn either(a: &[bool], b: &[bool]) -> Vec<bool> {
    a.iter().zip(b).map(|(a, b)| *a || *b).collect()
}

fn group(name: &[char], kind: char, choices: &[Vec<Token>], follows: &[bool]) -> Vec<bool> {
    let mut reached = once(name, choices, follows);
    if matches!(kind, '*' | '+') {
        // Each round adds a position or is the last.
        for _ in 0..follows.len() {
            let more = either(&reached, &once(name, choices, &reached));
            if more == reached {
                break;
            }
            reached = more;
        }
    }
    if matches!(kind, '?' | '*') { either(&reached, follows) } else { reached }
}

impl Class {
    fn contains(&self, char: char) -> bool {
        // `nocase`: the name is in lower case already, the range may have been written in upper case.
        let upper = char.to_uppercase().next().unwrap_or(char);
        let within = |char: char| self.ranges.iter().any(|(from, to)| (*from..=*to).contains(&char));
        let named = self.named.iter().any(|name| is_of_class(char, name) || is_of_class(upper, name));
        (within(char) || within(upper) || named) != self.negated
    }
}

fn is_of_class(char: char, name: &str) -> bool {
    match name {
        "alnum" => char.is_alphanumeric(),
        "alpha" => char.is_alphabetic(),
        "ascii" => char.is_ascii(),
        "blank" => matches!(char, ' ' | '\t'),
        "cntrl" => char.is_control(),
        "digit" => char.is_numeric(),
        "graph" => !char.is_whitespace() && !char.is_control(),
        "lower" => char.is_lowercase(),
        "print" => !char.is_control(),
        "punct" => char.is_ascii_punctuation(),
        "space" => char.is_whitespace(),
        "upper" => char.is_uppercase(),
        "word" => char.is_alphanumeric() || char == '_',
        "xdigit" => char.is_ascii_hexdigit(),
        _ => false,
    }
}

const CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

fn tokens(name: &str) -> Vec<Token> {
    let chars: Vec<char> = name.chars().collect();
    sequence(&chars, 0, 0, false).map(|(tokens, _)| tokens).unwrap_or_default()
}

/// Reads tokens up to the end, or inside a group up to `|` or `)`. `None`: the group is not closed.
fn sequence(chars: &[char], mut at: usize, depth: usize, inside: bool) -> Option<(Vec<Token>, usize)> {
    let mut tokens = Vec::new();
    let mut groups = depth < MAX_NESTING;
    loop {
        let Some(&char) = chars.get(at) else {
            return (!inside).then_some((tokens, at));
        };
        if inside && matches!(char, '|' | ')') {
            return Some((tokens, at));
        }
        if groups && chars.get(at + 1) == Some(&'(') && matches!(char, '?' | '*' | '+' | '@' | '!') {
            match choices(chars, at + 2, depth + 1) {
                Some((choices, next)) => {
                    tokens.push(match char {
                        '!' => Token::Not(choices),
                        kind => Token::Group { kind, choices },
                    });
                    at = next;
                    continue;
                }
                // A group that is not closed leaves the one around it open too.
                None if inside => return None,
                None => groups = false,
            }
        }
        at += 1;
        match char {
            '*' if tokens.last() == Some(&Token::Many) => {}
            '*' => tokens.push(Token::Many),
            '?' => tokens.push(Token::One),
            '\\' => {
                let escaped = chars.get(at).copied();
                at += usize::from(escaped.is_some());
                push_char(&mut tokens, escaped.unwrap_or('\\'));
            }
            '[' => match class(chars, at) {
                Some((class, next)) => {
                    tokens.push(Token::Class(class));
                    at = next;
                }
                // An open bracket takes a group's parentheses for its own.
                None if inside => return None,
                None => {
                    groups = false;
                    tokens.push(Token::Char('['));
                }
            },
            char => push_char(&mut tokens, char),
        }
    }
}

fn push_char(tokens: &mut Vec<Token>, char: char) {
    tokens.extend(char.to_lowercase().map(Token::Char));
}

/// Reads the choices of a group up to its `)`.
fn choices(chars: &[char], mut at: usize, depth: usize) -> Option<(Vec<Vec<Token>>, usize)> {
    let mut choices = Vec::new();
    loop {
        let (choice, end) = sequence(chars, at, depth, true)?;
        choices.push(choice);
        at = end + 1;
        if chars[end] == ')' {
            return Some((choices, at));
        }
    }
}

/// Reads a class after its `[`. `None`: it is not closed, and the bracket is plain text.
fn class(chars: &[char], start: usize) -> Option<(Class, usize)> {
    let negated = matches!(chars.get(start), Some('!' | '^'));
    let first = start + usize::from(negated);
    let mut class = Class { negated, ranges: Vec::new(), named: Vec::new() };
    let mut at = first;
    let mut from: Option<char> = None;
    loop {
        let mut char = *chars.get(at)?;
        if char == ']' && at > first {
            // `[]`'s empty set of ranges matches nothing, negated or not.
            if class.ranges.is_empty() && class.named.is_empty() {
                class.negated = false;
            }
            return Some((class, at + 1));
        }
        let mut width = 1;
        if char == '\\' {
            char = *chars.get(at + 1)?;
            width = 2;
        } else if char == '[' && chars.get(at + 1) == Some(&':') {
            let named = CLASSES.iter().find(|name| {
                let closed = format!("[:{name}:]");
                chars[at..].iter().copied().take(closed.len()).eq(closed.chars())
            });
            if let Some(name) = named {
                class.named.push(name);
                at += name.len() + 4;
                continue;
            }
        }
        at += width;
        match from.take() {
            Some(low) if low <= char => class.ranges.push((low, char)),
            Some(_) => {}
            None if chars.get(at) == Some(&'-') && chars.get(at + 1) == Some(&']') => {
                class.ranges.extend([(char, char), ('-', '-')]);
                at += 1;
            }
            None if chars.get(at) == Some(&'-') => {
                from = Some(char);
                at += 1;
            }
            None => class.ranges.push((char, char)),
        }
    }
}

/// Expands braces as bash does: `a{b,c}d`, `{1..3}`, nested. `None`: too many.
fn expand(text: &str) -> Option<Vec<String>> {
    let chars: Vec<char> = text.chars().collect();
    let mut expanded = Vec::new();
    for text in braces(&chars)? {
        let text: String = text.into_iter().collect();
        if !expanded.contains(&text) {
            expanded.push(text);
        }
    }
    Some(expanded)
}

fn braces(chars: &[char]) -> Option<Vec<Vec<char>>> {
    let mut open = 0;
    while let Some(&char) = chars.get(open) {
        match char {
            '\\' => open += 1,
            '{' if open > 0 && chars[open - 1] == '$' => {}
            '{' => {
                if let Some((choices, close)) = brace(chars, open)? {
                    let after = braces(&chars[close + 1..])?;
                    let mut all = Vec::new();
                    for choice in &choices {
                        for after in &after {
                            all.push([&chars[..open], choice, after].concat());
                        }
                        if all.len() > MAX_ALTERNATIVES {
                            return None;
                        }
                    }
                    return Some(all);
                }
            }
            _ => {}
        }
        open += 1;
    }
    Some(vec![chars.to_vec()])
}

/// What one pair of braces stands for, and where it closes.
type Brace = Option<(Vec<Vec<char>>, usize)>;

/// Reads the braces that open at `open`. The inner `None`: it is not a set, and stays as it is.
fn brace(chars: &[char], open: usize) -> Option<Brace> {
    let mut depth = 0;
    let mut start = open + 1;
    let mut pieces: Vec<&[char]> = Vec::new();
    let mut at = open;
    let close = loop {
        match chars.get(at) {
            None => return Some(None),
            Some('\\') => at += 1,
            Some('{') => depth += 1,
            Some('}') => {
                depth -= 1;
                if depth == 0 {
                    break at;
                }
            }
            Some(',') if depth == 1 => {
                pieces.push(&chars[start..at]);
                start = at + 1;
            }
            Some(_) => {}
        }
        at += 1;
    };
    if pieces.is_empty() {
        let body: String = chars[open + 1..close].iter().collect();
        return Some(range(&body).map(|choices| (choices, close)));
    }
    pieces.push(&chars[start..close]);
    let mut choices = Vec::new();
    for piece in pieces {
        choices.extend(braces(piece)?);
        if choices.len() > MAX_ALTERNATIVES {
            return None;
        }
    }
    Some(Some((choices, close)))
}

/// Expands `1..3`, `01..10..2` and `a..e`.
fn range(body: &str) -> Option<Vec<Vec<char>>> {
    let pieces: Vec<&str> = body.split("..").collect();
    let [from, to, step @ ..] = pieces.as_slice() else { return None };
    let step: i64 = match step {
        [] => 1,
        [step] => step.parse::<i64>().ok()?.checked_abs()?.max(1),
        _ => return None,
    };
    let letter = |text: &str| text.parse::<char>().ok().filter(char::is_ascii_alphabetic);
    let (low, high, letters) = match (letter(from), letter(to)) {
        (Some(low), Some(high)) => (i64::from(u32::from(low)), i64::from(u32::from(high)), true),
        _ => (from.parse().ok()?, to.parse().ok()?, false),
    };
    let padded =
        |text: &str| text.trim_start_matches('-').len() > 1 && text.trim_start_matches('-').starts_with('0');
    let width = if padded(from) || padded(to) { from.len().max(to.len()) } else { 0 };
    let mut texts = Vec::new();
    let mut at = low;
    while (if low <= high { at <= high } else { at >= high }) && texts.len() < MAX_ALTERNATIVES {
        let text = if letters {
            u32::try_from(at).ok().and_then(char::from_u32).map(String::from).unwrap_or_default()
        } else {
            format!("{at:0width$}")
        };
        texts.push(text.chars().collect());
        at = at.checked_add(if low <= high { step } else { -step })?;
    }
    Some(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Pattern::new(pattern).expect(pattern).matches(&Candidate::new(path), false)
    }

    #[test]
    fn matches_what_minimatch_does() {
        for (pattern, path) in [
            ("*.js", "a.js"),
            ("*.js", "lib/deep/.A.JS"),
            ("lib", "lib/"),
            ("lib/*", "lib/a"),
            ("lib/*", "lib/a/"),
            ("lib/**", "lib/a/b"),
            ("lib/**", "lib/"),
            ("**/b/**/d", "a/b/c/d"),
            ("a/**/b", "a/b"),
            ("[a-c]?.{js,ts}", "b1.ts"),
            ("[!a]", "b"),
            ("[[:digit:]]", "7"),
            ("[]]", "]"),
            ("[a", "[a"),
            ("+(ab|c)", "abcab"),
            ("@(!(*.test)).js", "a.js"),
            ("@(a|!(b))c", "xc"),
            ("x{01..03}", "x02"),
            ("x{a..c}y", "xby"),
            ("a{b", "a{b"),
            ("\\*", "*"),
            ("a/../b", "b"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("*.js", "a.jsx"),
            ("/*.js", "lib/a.js"),
            ("lib/*", "lib/a/b"),
            ("lib/**", "lib"),
            ("lib", "libs"),
            ("[!a]", "a"),
            ("[]", "a"),
            ("+(ab|c)", ""),
            ("x{01..03}", "x2"),
            ("\\*", "a"),
            ("**/b", "c"),
            ("a/./b", "a/b"),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn hostile_patterns_are_quick_or_refused() {
        let started = std::time::Instant::now();
        let name = "a".repeat(200);
        for pattern in [
            "*a".repeat(100),
            "+(a|aa)".repeat(20),
            "*(*(*(*(a))))b".to_owned(),
            "!(a)".repeat(20),
            "@(".repeat(1000),
            "**/a/".repeat(50),
        ] {
            matches(&format!("x{pattern}"), &format!("x{name}"));
        }
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
        for pattern in
            ["{a,b}".repeat(20), "{1..99999999}{1..9}".to_owned(), "a".repeat(MAX_PATTERN_BYTES + 1)]
        {
            assert!(Pattern::new(&pattern).is_err());
        }
    }
}
