//! Foreign text, made fit for a message.

/// The longest text that is repeated.
const MAX_CHARS: usize = 500;

/// Returns `text` on one line, without control characters and without `secret`, shortened.
pub(crate) fn line(text: &str, secret: &str) -> String {
    let shown = without(text, secret);
    let words: String =
        shown.chars().map(|char| if char.is_control() { ' ' } else { char }).take(MAX_CHARS).collect();
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns `text` with every `secret` in it replaced.
pub(crate) fn without(text: &str, secret: &str) -> String {
    if secret.is_empty() { text.to_owned() } else { text.replace(secret, "***") }
}
