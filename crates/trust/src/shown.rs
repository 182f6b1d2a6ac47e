//! Texts of strangers, as messages repeat them.

/// The longest part of a stranger's text that a message repeats, in characters.
const MAX_CHARACTERS: usize = 200;

/// Returns `text` cut short and without characters that could forge a line of a log.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(MAX_CHARACTERS)
        .map(|character| if character.is_control() { '\u{fffd}' } else { character })
        .collect();
    if text.chars().nth(MAX_CHARACTERS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_and_cleans() {
        assert_eq!(shown("a\r\n::error::b"), "a\u{fffd}\u{fffd}::error::b");
        assert_eq!(shown(&"é".repeat(10_000)).chars().count(), MAX_CHARACTERS + 1);
    }
}
