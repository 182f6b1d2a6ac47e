//! What is wrong with the configuration, and where.

use toml::Spanned;

/// What is wrong, and where in the text.
pub(super) struct Wrong {
    pub(super) at: usize,
    pub(super) message: String,
}

pub(super) type Checked<T = ()> = Result<T, Wrong>;

pub(super) fn wrong<T>(entry: &Spanned<impl Sized>, message: impl Into<String>) -> Checked<T> {
    wrong_at(entry.span().start, message)
}

pub(super) fn wrong_at<T>(at: usize, message: impl Into<String>) -> Checked<T> {
    Err(Wrong { at, message: message.into() })
}
