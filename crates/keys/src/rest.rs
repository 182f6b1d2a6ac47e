//! One request to a key service: bounded, repeated where that can help, and an error that repeats no credential.

use std::time::Duration;

use protected_http::{Request, Response, Retry};
use protected_model::key_ref::KeyRef;
use serde::de::DeserializeOwned;

use crate::KeyError;

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(8);
/// What is asked twice does no harm.
const RETRY: Retry = Retry { attempts: 4, budget: Duration::from_secs(30) };
/// The largest answer that is read: a key of a hundred versions has some ten kilobytes.
const MAX_BYTES: u64 = 1024 * 1024;
/// The longest text of a service that is repeated, in characters.
const LONGEST_TEXT: usize = 200;

/// How a service says what it does not like: the text in the answer, if there is any.
pub(crate) type Said = fn(&Response) -> Option<String>;

/// Sends a request, and returns the answer of a service that did as asked.
///
/// A credential among `secrets` is never repeated, though the service may.
///
/// # Errors
/// When the service cannot be asked, or says no.
pub(crate) async fn answer(
    key: &KeyRef,
    request: Request,
    said: Said,
    secrets: &[&str],
) -> Result<Response, KeyError> {
    let request = request.timeout(ATTEMPT).retry(RETRY).max_bytes(MAX_BYTES);
    let answer = request.send().await.map_err(|source| failed(key, source))?;
    if answer.is_success() {
        return Ok(answer);
    }
    let text = said(&answer).filter(|text| !secrets.iter().any(|secret| text.contains(secret)));
    Err(KeyError::Service {
        key: key.clone(),
        request: answer.request().to_string(),
        status: answer.status,
        message: text.map(|text| readable(&text)).filter(|text| !text.is_empty()),
    })
}

/// Sends a request, and returns what the service answers as JSON.
///
/// # Errors
/// As [`answer`], and when the answer is another.
pub(crate) async fn json<T: DeserializeOwned>(
    key: &KeyRef,
    request: Request,
    said: Said,
    secrets: &[&str],
) -> Result<T, KeyError> {
    answer(key, request, said, secrets).await?.json().map_err(|source| failed(key, source))
}

fn failed(key: &KeyRef, source: protected_http::HttpError) -> KeyError {
    KeyError::Http { key: key.clone(), source: Box::new(source) }
}

/// Returns a foreign text as one short line.
pub(crate) fn readable(text: &str) -> String {
    let text: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_TEXT).collect();
    text.trim().to_owned()
}
