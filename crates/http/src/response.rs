//! What a server answered.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use serde::de::DeserializeOwned;

use crate::{
    error::{AttemptError, HttpError, RequestLine},
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

/// An answer whose body is still to come.
pub struct Incoming {
    /// The HTTP status.
    pub status: u16,
    request: RequestLine,
    proxy: Option<String>,
    answer: reqwest::Response,
    max_bytes: u64,
    /// How long a piece may take to come.
    timeout: Duration,
    started: Instant,
    read: u64,
}

impl Incoming {
    pub(crate) fn new(
        answer: reqwest::Response,
        request: RequestLine,
        proxy: Option<String>,
        max_bytes: u64,
        timeout: Duration,
    ) -> Self {
        let status = answer.status().as_u16();
        Self { status, request, proxy, answer, max_bytes, timeout, started: Instant::now(), read: 0 }
    }

    /// Returns the request that was answered, as messages show it.
    pub fn request(&self) -> &RequestLine {
        &self.request
    }

    /// Returns the first header called `name`, or `None` when there is none that is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.answer.headers().get(name)?.to_str().ok()
    }

    /// Returns every header.
    pub fn headers(&self) -> &HeaderMap {
        self.answer.headers()
    }

    /// Returns the next piece of the body, or nothing behind its end.
    ///
    /// # Errors
    /// When it does not come, or the body is larger than is read of it.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, HttpError> {
        let piece = match tokio::time::timeout(self.timeout, self.answer.chunk()).await {
            Ok(piece) => piece.map_err(|error| AttemptError::new(&error, self.timeout)),
            Err(_) => Err(AttemptError::timeout(self.timeout)),
        };
        let piece = piece.map_err(|AttemptError { failure, cause }| HttpError::Failed {
            request: self.request.clone(),
            proxy: self.proxy.clone(),
            failure,
            attempts: 1,
            elapsed: self.started.elapsed(),
            source: cause,
        })?;
        self.read += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        if self.read > self.max_bytes {
            let limit_bytes = self.max_bytes;
            return Err(HttpError::TooLarge { request: self.request.clone(), limit_bytes });
        }
        Ok(piece)
    }

    /// Reads a small body whole, within the time that one piece may take.
    ///
    /// # Errors
    /// As [`Self::piece`].
    pub async fn into_body(mut self) -> Result<Bytes, HttpError> {
        let (begun, whole) = (Instant::now(), self.timeout);
        let mut body = BytesMut::new();
        while let Some(piece) = self.piece().await? {
            body.extend_from_slice(&piece);
            // Attack: a byte at a time, each in time, for years.
            self.timeout = whole.saturating_sub(begun.elapsed());
        }
        Ok(body.freeze())
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
