//! Patterns of texts, in which only `*` is special.

/// Returns whether the whole of `text` is `pattern` with each `*` replaced by something.
///
/// `*` stands for any run of characters, `/` among them and none at all; every other character stands for itself.
/// (A regular expression would have to be compiled as `^(?:...)$`: as `^...$`, an alternation in it escapes both
/// ends, and an unescaped `.` in a host name matches another host.)
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    // `split` yields at least one part, and the first is bound to the start.
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut last = None;
    for part in parts {
        // The part before was not the last, so its first occurrence leaves the most room for the others.
        if let Some(middle) = last.replace(part) {
            match rest.split_once(middle) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
    }
    match last {
        Some(last) => rest.ends_with(last),
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn vectors() {
        for (pattern, text) in [
            ("a", "a"),
            ("*", ""),
            ("*", "a/b"),
            ("v*", "v"),
            ("v*", "v1.2.3"),
            ("v*.*", "v1.2.3"),
            ("a*b*c", "abbcc"),
            ("a*b", "ab"),
            ("a**b", "axb"),
            ("*a*", "bab"),
            ("refs/tags/v*", "refs/tags/v1/x"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a", "ab"),
            ("a", "ba"),
            ("a", ""),
            ("v*", "xv1"),
            ("*v", "v1"),
            ("a*a", "a"),
            ("ab*ba", "aba"),
            ("a*b*c", "acb"),
            ("refs/heads/main", "refs/heads/main2"),
            ("refs/heads/main|x", "refs/heads/main"),
            ("refs/heads/.*", "refs/heads/main"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    /// The obvious definition, which takes exponential time.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skip| slow(rest, &text[skip..])),
            Some((first, rest)) => text.first() == Some(first) && slow(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn is_the_obvious_definition(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(matches(&pattern, &text), slow(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
