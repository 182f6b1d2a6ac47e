//! Key services as a command uses them: connected, and their refusals told.

use protected_http::Client;
use protected_keys::{KeyError, KeyService};
use protected_model::key_ref::KeyRef;

use crate::error::{CommandError, Kind};

/// Connects to the service of `key`.
///
/// # Errors
/// When it is not supported, or cannot be used here.
pub(crate) fn connect(
    key: &KeyRef,
    settings: &protected_keys::Settings,
    http: &Client,
    doing: &str,
) -> Result<Box<dyn KeyService>, CommandError> {
    protected_keys::connect(key, settings, http).map_err(|error| failed(doing, &error))
}

/// Tells what a key service did not do.
pub(crate) fn failed(doing: &str, error: &KeyError) -> CommandError {
    let kind = match error {
        _ if error.is_transient() => Kind::Unavailable,
        KeyError::Refused(_) | KeyError::Service { .. } | KeyError::Login { .. } => Kind::Refused,
        KeyError::Wrap { .. } | KeyError::Answer { .. } | KeyError::Http { .. } => Kind::Failed,
        _ => Kind::Usage,
    };
    CommandError::from_error(kind, doing, error).hint(error.hint())
}
