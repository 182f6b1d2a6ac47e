//! What a server answered.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use serde::de::DeserializeOwned;

use crate::{
    error::{HttpError, RequestLine},
    retry,
};

/// A complete answer, whatever its status.
#[derive(Clone)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    pub(crate) request: RequestLine,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Response {
    /// Returns whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the request that was answered, as messages show it.
    pub fn request(&self) -> &RequestLine {
        &self.request
    }

    /// Returns the first header called `name`, or `None` when there is none that is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the body without a copy.
    pub fn into_body(self) -> Bytes {
        self.body
    }

    /// Returns how long the server asks to be left alone (`Retry-After`), as of the answer.
    pub fn retry_after(&self) -> Option<Duration> {
        retry::retry_after(self.header("retry-after"), self.header("date"), Timestamp::now())
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    /// When it is not a `T`. The error repeats nothing of the body but the names of fields.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        serde_json::from_slice(&self.body).map_err(|error| HttpError::Json {
            request: self.request.clone(),
            status: self.status,
            reason: describe(&error),
        })
    }
}

/// Says what is wrong with a document without repeating its values: it may hold a token.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!("at line {} column {}", error.line(), error.column());
    if text.starts_with("missing field `") {
        return text;
    }
    match error.classify() {
        serde_json::error::Category::Eof => format!("it ends too early, {place}"),
        serde_json::error::Category::Data => format!("a value has another type than expected, {place}"),
        _ => format!("it is not JSON, {place}"),
    }
}
