//! One request: what is sent, how often, and what is accepted in return.

use std::{io, pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;
use protected_model::{secret::Secret, service_url::is_secure};
use reqwest::{
    Body, Method,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION},
};
use serde::Serialize;
use url::{Url, form_urlencoded};

use crate::{
    connections::Connections,
    error::{AttemptError, BodyError, HttpError, RequestLine},
    limits::{MAX_BYTES, MAX_REDIRECTS, TIMEOUT},
    proxy::is_loopback,
    response::{Incoming, Response},
    retry::{self, Pace, Retry, is_transient},
};

type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, io::Error>> + Send>>;
type Factory = Arc<dyn Fn() -> Chunks + Send + Sync>;

/// A request that is being put together.
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    connections: Arc<Connections>,
    method: Method,
    url: Url,
    headers: HeaderMap,
    content: Option<Content>,
    credential: bool,
    bare_redirects: bool,
    timeout: Duration,
    max_bytes: u64,
    retry: Retry,
    /// The first thing that was wrong while putting it together.
    invalid: Option<String>,
}

enum Content {
    Whole(Bytes),
    Stream { length: u64, factory: Factory },
}

impl Request {
    pub(crate) fn new(connections: Arc<Connections>, method: Method, url: Url) -> Self {
        Self {
            connections,
            method,
            url,
            headers: HeaderMap::new(),
            content: None,
            credential: false,
            bare_redirects: false,
            timeout: TIMEOUT,
            max_bytes: MAX_BYTES,
            retry: Retry::none(),
            invalid: None,
        }
    }

    /// Sends `secret` as `Authorization: Bearer`.
    pub fn bearer(mut self, secret: &impl Secret) -> Self {
        self.credential = true;
        match HeaderValue::from_str(&format!("Bearer {}", secret.reveal())) {
            Ok(mut value) => {
                value.set_sensitive(true);
                self.headers.insert(AUTHORIZATION, value);
                self
            }
            Err(_) => self.refuse("the credential has characters that cannot stand in a header"),
        }
    }

    /// Sends a header. One that by its name carries a credential is treated as such.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let (Ok(header), Ok(mut content)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) else {
            return self.refuse(&format!("the header `{}` cannot be sent", name.escape_debug()));
        };
        if ["auth", "token", "cookie"].iter().any(|word| header.as_str().contains(word)) {
            content.set_sensitive(true);
            self.credential = true;
        }
        self.headers.insert(header, content);
        self
    }

    /// Sends a header that carries a credential, whatever it is called.
    pub fn secret_header(mut self, name: &str, value: &impl Secret) -> Self {
        self = self.header(name, value.reveal());
        self.credential = true;
        if let Some(value) = HeaderName::try_from(name).ok().and_then(|name| self.headers.get_mut(name)) {
            value.set_sensitive(true);
        }
        self
    }

    /// Sends `value` as JSON.
    pub fn json(self, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => self.body(body.into(), "application/json"),
            Err(_) => self.refuse("the body cannot be written as JSON"),
        }
    }

    /// Sends `fields` as a form.
    pub fn form(self, fields: &[(&str, &str)]) -> Self {
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.body(form.into(), "application/x-www-form-urlencoded")
    }

    /// Sends `body`.
    pub fn body<'a>(mut self, body: Bytes, content_type: impl Into<Option<&'a str>>) -> Self {
        self.content = Some(Content::Whole(body));
        self.content_type(content_type.into())
    }

    /// Sends what `factory` yields, which must be `length` bytes; it is called for each attempt.
    pub fn stream<'a, S>(
        mut self,
        length: u64,
        content_type: impl Into<Option<&'a str>>,
        factory: impl Fn() -> S + Send + Sync + 'static,
    ) -> Self
    where
        S: Stream<Item = Result<Bytes, io::Error>> + Send + 'static,
    {
        self.content =
            Some(Content::Stream { length, factory: Arc::new(move || Box::pin(factory()) as Chunks) });
        self.content_type(content_type.into())
    }

    /// Has redirects be followed although it carries a credential, which stays behind wherever they leave the origin.
    ///
    /// For a store that sends those whom it has let in elsewhere for the bytes, by an address that is one's permission.
    pub fn bare_redirects(mut self) -> Self {
        self.bare_redirects = true;
        self
    }

    /// Sets how long one attempt may take, from its first byte out to its last byte in.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how large the answer's body may be.
    pub fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets how often it is sent again.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    fn content_type(self, content_type: Option<&str>) -> Self {
        match content_type {
            Some(value) => self.header(CONTENT_TYPE.as_str(), value),
            None => self,
        }
    }

    fn refuse(mut self, what: &str) -> Self {
        self.invalid.get_or_insert_with(|| what.to_owned());
        self
    }

    fn line(&self) -> RequestLine {
        RequestLine::new(&self.method, &self.url)
    }

    /// Sends it. When the attempts are used up on a status, that last answer is returned.
    ///
    /// # Errors
    /// When it cannot be sent as it is, when no answer comes, or when the answer cannot be taken.
    pub async fn send(self) -> Result<Response, HttpError> {
        let Answer { mut head, body } = self.paced(true).await?;
        Ok(Response {
            status: head.status().as_u16(),
            request: self.line(),
            headers: std::mem::take(head.headers_mut()),
            body,
        })
    }

    /// Sends it, and returns the answer when its head is there. Its body is read by whoever takes it, and tried again
    /// by nobody; the timeout is that of each of its pieces.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn open(self) -> Result<Incoming, HttpError> {
        let Answer { head, .. } = self.paced(false).await?;
        let proxy = self.connections.proxy(&self.url);
        Ok(Incoming::new(head, self.line(), proxy, self.max_bytes, self.timeout))
    }

    /// Runs an attempt, and further ones where they may fare better.
    async fn paced(&self, whole: bool) -> Result<Answer, HttpError> {
        if let Some(what) = &self.invalid {
            return Err(HttpError::Invalid { request: self.line(), what: what.clone() });
        }
        if !is_plain(&self.url) {
            let what = "expected an http or https URL without a username and password".to_owned();
            return Err(HttpError::Invalid { request: self.line(), what });
        }
        if self.credential && !is_secure(&self.url) {
            return Err(HttpError::Insecure { request: self.line() });
        }
        let mut pace = Pace::start(self.retry);
        loop {
            let limit = pace.attempt(self.timeout);
            let outcome = match tokio::time::timeout(limit, self.attempt(whole, limit)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Stop::Attempt(AttemptError::timeout(limit))),
            };
            let (asked, what) = match &outcome {
                Ok(answer) if is_transient(answer.head.status().as_u16()) => {
                    (answer.retry_after(), format!("answered {}", answer.head.status().as_u16()))
                }
                Err(Stop::Attempt(error)) if error.failure.is_transient() => {
                    (None, error.failure.to_string())
                }
                _ => return self.finish(outcome, &pace),
            };
            let Some(wait) = pace.wait(asked) else { return self.finish(outcome, &pace) };
            tracing::debug!(request = %self.line(), attempt = pace.attempts, ?wait, "{what}, trying again");
            tokio::time::sleep(wait).await;
        }
    }

    fn finish(&self, outcome: Result<Answer, Stop>, pace: &Pace) -> Result<Answer, HttpError> {
        outcome.map_err(|stop| match stop {
            Stop::Error(error) => error,
            Stop::Attempt(AttemptError { failure, cause }) => HttpError::Failed {
                request: self.line(),
                proxy: self.connections.proxy(&self.url),
                failure,
                attempts: pace.attempts,
                elapsed: pace.elapsed(),
                source: cause,
            },
        })
    }

    /// Sends it once, and reads the answer's body where it is wanted.
    async fn attempt(&self, whole: bool, limit: Duration) -> Result<Answer, Stop> {
        let mut head = self.head(limit).await?;
        if head.content_length().is_some_and(|length| length > self.max_bytes) {
            return Err(self.too_large().into());
        }
        let body = if whole { self.read(&mut head, limit).await? } else { Bytes::new() };
        Ok(Answer { head, body })
    }

    /// Sends it once, and follows redirects where that is allowed.
    async fn head(&self, limit: Duration) -> Result<reqwest::Response, Stop> {
        let mut url = self.url.clone();
        let mut headers = self.headers.clone();
        for _ in 0..=MAX_REDIRECTS {
            let answer = self
                .connections
                .client(&url)?
                .execute(self.build(url.clone(), headers.clone()))
                .await
                .map_err(|error| Stop::Attempt(AttemptError::new(&error, limit)))?;
            let Some(target) = self.redirect(&url, &answer)? else { return Ok(answer) };
            // Attack: a store that sends us elsewhere to have the credential. Who left its origin has none any more,
            // also when sent back.
            if target.origin() != url.origin() {
                let bare = headers.iter().filter(|(_, value)| !value.is_sensitive());
                headers = bare.map(|(name, value)| (name.clone(), value.clone())).collect();
            }
            url = target;
        }
        Err(self.no_redirect(302, &url, "which is one redirect too many"))
    }

    fn build(&self, url: Url, headers: HeaderMap) -> reqwest::Request {
        let mut request = reqwest::Request::new(self.method.clone(), url);
        *request.headers_mut() = headers;
        match &self.content {
            None => {}
            Some(Content::Whole(bytes)) => {
                request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
                *request.body_mut() = Some(Body::from(bytes.clone()));
            }
            Some(Content::Stream { length, factory }) => {
                request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(*length));
                *request.body_mut() = Some(Body::wrap_stream(exactly(*length, factory())));
            }
        }
        request
    }

    /// Returns where `answer` sends us, when it does and we may go.
    ///
    /// A credential would be handed to whoever the answer names, and a body sent twice: neither is ever
    /// redirected. Nor does a redirect leave `https`, or open a way to this machine from outside.
    fn redirect(&self, from: &Url, answer: &reqwest::Response) -> Result<Option<Url>, Stop> {
        let status = answer.status().as_u16();
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let Some(location) = answer.headers().get(LOCATION) else { return Ok(None) };
        let target = location.to_str().ok().and_then(|location| from.join(location).ok());
        let Some(target) = target else {
            return Err(Stop::Error(HttpError::Invalid {
                request: self.line(),
                what: format!("the answer {status} redirects to something that is not a URL"),
            }));
        };
        if self.credential && !self.bare_redirects {
            return Err(self.no_redirect(status, &target, "and a credential is not carried along"));
        }
        if ![Method::GET, Method::HEAD].contains(&self.method) {
            return Err(self.no_redirect(status, &target, "and what was sent is not sent again elsewhere"));
        }
        if from.scheme() == "https" && target.scheme() != "https" {
            return Err(self.no_redirect(status, &target, "which is not https"));
        }
        if !is_plain(&target) {
            return Err(self.no_redirect(status, &target, "which is not a plain http or https URL"));
        }
        if is_loopback(&target) && !is_loopback(from) {
            return Err(self.no_redirect(status, &target, "which is this machine"));
        }
        Ok(Some(target))
    }

    fn no_redirect(&self, status: u16, target: &Url, reason: &'static str) -> Stop {
        let target = match target.origin() {
            url::Origin::Tuple(..) => target.origin().ascii_serialization(),
            url::Origin::Opaque(_) => format!("a `{}` URL", target.scheme()),
        };
        Stop::Error(HttpError::Redirect { request: self.line(), status, target, reason })
    }

    fn too_large(&self) -> HttpError {
        HttpError::TooLarge { request: self.line(), limit_bytes: self.max_bytes }
    }

    /// Reads the body of `answer` up to the cap.
    async fn read(&self, answer: &mut reqwest::Response, limit: Duration) -> Result<Bytes, Stop> {
        let mut body = BytesMut::new();
        loop {
            let chunk =
                answer.chunk().await.map_err(|error| Stop::Attempt(AttemptError::new(&error, limit)))?;
            let Some(chunk) = chunk else { return Ok(body.freeze()) };
            if (body.len() + chunk.len()) as u64 > self.max_bytes {
                return Err(self.too_large().into());
            }
            body.extend_from_slice(&chunk);
        }
    }
}

/// An answer, with its body where that was wanted.
struct Answer {
    head: reqwest::Response,
    body: Bytes,
}

impl Answer {
    fn retry_after(&self) -> Option<Duration> {
        let header = |name| self.head.headers().get(name)?.to_str().ok();
        retry::retry_after(header("retry-after"), header("date"), Timestamp::now())
    }
}

/// Returns whether `url` is one of ours to ask: what stands before an `@` would be sent as a credential.
fn is_plain(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none()
}

/// Why an attempt ended without an answer.
enum Stop {
    /// For good.
    Error(HttpError),
    /// Perhaps not for good.
    Attempt(AttemptError),
}

impl From<HttpError> for Stop {
    fn from(error: HttpError) -> Self {
        Self::Error(error)
    }
}

/// Passes `chunks` on, and fails when they are not exactly `length` bytes.
fn exactly(length: u64, chunks: Chunks) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    stream::unfold(Some((chunks, 0_u64)), move |state| async move {
        let (mut chunks, sent) = state?;
        match chunks.next().await {
            Some(Ok(chunk)) => {
                let sent = sent + chunk.len() as u64;
                if sent > length {
                    return Some((Err(BodyError(format!("it is longer than {length} bytes"))), None));
                }
                Some((Ok(chunk), Some((chunks, sent))))
            }
            Some(Err(error)) => Some((Err(BodyError(error.to_string())), None)),
            None if sent < length => {
                Some((Err(BodyError(format!("it has {sent} bytes instead of {length}"))), None))
            }
            None => None,
        }
    })
}
