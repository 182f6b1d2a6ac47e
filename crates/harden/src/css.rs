//! Comments in style sheets.

use crate::js::comments::is_legal;

/// A style sheet without its comments.
pub(crate) struct Stripped {
    pub(crate) text: String,
    /// The licence comments among them, in their order.
    pub(crate) legal: Vec<String>,
}

/// Takes the comments out of a style sheet (CSS Syntax Level 3, section 4.3.2), leaving legal ones where
/// `keep_legal` says so.
pub(crate) fn strip(text: &str, keep_legal: bool) -> Stripped {
    let mut stripped = Stripped { text: String::with_capacity(text.len()), legal: Vec::new() };
    let mut rest = text;
    while let Some(at) = rest.find(['/', '"', '\'', 'u', 'U', '\\']) {
        let (before, from) = rest.split_at(at);
        stripped.text.push_str(before);
        let length = if let Some(inside) = from.strip_prefix("/*") {
            let length = inside.find("*/").map_or(from.len(), |end| end + 4);
            let comment = &from[..length];
            let inner = comment.get(2..comment.len().saturating_sub(2)).unwrap_or_default();
            let legal = is_legal(inner);
            if legal && keep_legal {
                stripped.text.push_str(comment);
            } else {
                if legal {
                    stripped.legal.push(comment.to_owned());
                }
                separate(&mut stripped.text, &from[length..]);
            }
            rest = &from[length..];
            continue;
        } else if from.starts_with(['"', '\'']) {
            string(from)
        } else if from.get(..4).is_some_and(|word| word.eq_ignore_ascii_case("url(")) {
            url(from)
        } else if from.starts_with('\\') {
            from.chars().take(2).map(char::len_utf8).sum()
        } else {
            1
        };
        stripped.text.push_str(&from[..length]);
        rest = &from[length..];
    }
    stripped.text.push_str(rest);
    stripped
}

/// Keeps apart what only a comment kept apart: `a/**/b` is two names.
fn separate(before: &mut String, after: &str) {
    let joins = |character: char| !character.is_whitespace() && !"{};,".contains(character);
    if before.ends_with(joins) && after.starts_with(joins) {
        before.push_str("/**/");
    }
}

/// Returns the length of the string that `text` starts with.
fn string(text: &str) -> usize {
    let quote = text.as_bytes()[0];
    let mut bytes = text.bytes().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            // A line break ends a string that lacks its quote.
            b'\n' => return at,
            _ if byte == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Returns the length of `url(` with an address without quotes, in which nothing is a comment.
fn url(text: &str) -> usize {
    let inside = text[4..].trim_start();
    if inside.starts_with(['"', '\'']) {
        return 4;
    }
    text.find(')').map_or(text.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::strip;

    #[test]
    fn takes_out_comments_only() {
        for (text, expected) in [
            ("a{b:c}/*# sourceMappingURL=a.css.map */", "a{b:c}"),
            ("a{content:\"/* no */\"}", "a{content:\"/* no */\"}"),
            ("a{background:url(//host/*x*/y.png)}", "a{background:url(//host/*x*/y.png)}"),
            ("a{background:url( \"x/*y*/\" /*z*/)}", "a{background:url( \"x/*y*/\" )}"),
            ("margin:1px/**/2px", "margin:1px/**/2px"),
            ("a /* x */ b", "a  b"),
            ("a{}/* open", "a{}"),
            (r"a\/*b*/c", r"a\/*b*/c"),
            ("a{content:'it\\'s /* x */'}", "a{content:'it\\'s /* x */'}"),
            ("/**/", ""),
            ("/*/", ""),
        ] {
            assert_eq!(strip(text, false).text, expected, "{text}");
        }
    }

    #[test]
    fn licences_are_kept_or_handed_over() {
        let text = "/*! licence */a{}/* note */";
        let stripped = strip(text, false);
        assert_eq!((stripped.text.as_str(), stripped.legal), ("a{}", vec!["/*! licence */".to_owned()]));
        assert_eq!(strip(text, true).text, "/*! licence */a{}");
    }

    proptest! {
        #[test]
        fn never_panics(text in "[/*'\"\\\\url(){};é \n!]{0,40}") {
            strip(&text, false);
        }
    }
}
