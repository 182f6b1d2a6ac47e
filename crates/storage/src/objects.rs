//! The object stores: one protocol each, which `object_store` speaks, over the one HTTP client of the suite.
//!
//! So proxy, certificate authorities, redirects, timeouts and what an error may repeat are settled in one place, and a
//! credential travels to these stores as it does to any other service: over https, or to this machine.

use std::{error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use object_store::{
    ClientOptions, GetResult, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutMode, RetryConfig,
    UpdateVersion,
    client::{HttpConnector, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService},
    path::Path,
};
use protected_http::{Client, Failure, HttpError};
use url::Url;

use crate::{
    AreaRef, StorageError,
    error::{Refused, Unanswered, refusal},
    files::{Files, Pieces, Sent, Version},
    source::Source,
};

/// How large a part of a large blob is at least. S3 takes 10 000 parts, the last alone below 5 MiB.
const PART: u64 = 8 << 20;
/// How many parts a blob has at most.
const MAX_PARTS: u64 = 9_000;
/// How many parts are under way at once: this many are in memory.
const PARTS_AT_ONCE: usize = 3;
/// How long one request may take: a part over a line of a megabit a second.
const ATTEMPT: Duration = Duration::from_secs(180);
/// How often and how long a request is sent again.
const RETRIES: usize = 6;
const RETRIED_FOR: Duration = Duration::from_secs(60);
/// How much is read of an answer that is no object.
const MAX_ANSWER: u64 = 1 << 20;

/// An object store.
pub(crate) struct Objects {
    area: AreaRef,
    store: Box<dyn ObjectStore>,
    prefix: String,
    /// Whether it can write an object only where there is none, or only over the one that was read.
    conditional: bool,
}

impl Objects {
    pub(crate) fn new(area: &AreaRef, store: impl ObjectStore, prefix: &str) -> Self {
        Self { area: area.clone(), store: Box::new(store), prefix: prefix.to_owned(), conditional: true }
    }

    /// Says that the store writes unconditionally.
    pub(crate) fn unconditional(mut self) -> Self {
        self.conditional = false;
        self
    }

    fn path(&self, name: &str) -> Path {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        // Both are made of characters that stand for themselves.
        Path::from(format!("{}{slash}{name}", self.prefix))
    }

    fn failed(&self, error: object_store::Error) -> StorageError {
        failed(&self.area, error)
    }

    async fn put(&self, name: &str, bytes: Bytes, mode: PutMode) -> Result<bool, StorageError> {
        match self.store.put_opts(&self.path(name), bytes.into(), mode.into()).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(false)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn parts(
        &self,
        upload: &mut Box<dyn MultipartUpload>,
        mut source: Source,
        size: u64,
        sent: Sent<'_>,
    ) -> Result<(), StorageError> {
        let part = PART.max(size.div_ceil(MAX_PARTS).next_multiple_of(1 << 20));
        let part = usize::try_from(part).unwrap_or(usize::MAX);
        let mut under_way = stream::FuturesUnordered::new();
        let mut done = 0;
        loop {
            let piece = source.next(part).await?;
            if piece.is_empty() {
                break;
            }
            while under_way.len() >= PARTS_AT_ONCE {
                let length: Option<Result<u64, object_store::Error>> = under_way.next().await;
                done += length.transpose().map_err(|error| self.failed(error))?.unwrap_or_default();
                sent(done);
            }
            let length = piece.len() as u64;
            let sending = upload.put_part(piece.into());
            under_way.push(async move { sending.await.map(|()| length) });
        }
        while let Some(length) = under_way.next().await {
            done += length.map_err(|error| self.failed(error))?;
            sent(done);
        }
        Ok(())
    }
}

impl Objects {
    /// Starts to read an object, if it is there.
    async fn get(&self, name: &str) -> Result<Option<GetResult>, StorageError> {
        match self.store.get(&self.path(name)).await {
            Ok(found) => Ok(Some(found)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }
}

#[async_trait]
impl Files for Objects {
    async fn size(&self, name: &str) -> Result<Option<u64>, StorageError> {
        match self.store.head(&self.path(name)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn read(&self, name: &str, most: u64) -> Result<Option<(Bytes, Version)>, StorageError> {
        let Some(found) = self.get(name).await? else { return Ok(None) };
        let version = Version { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        let mut pieces = found.into_stream();
        let mut bytes = Vec::new();
        // Attack: an answer that does not end, whatever its head says.
        while let Some(piece) = pieces.try_next().await.map_err(|error| self.failed(error))? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > most {
                bytes.truncate(usize::try_from(most.saturating_add(1)).unwrap_or(usize::MAX));
                break;
            }
        }
        Ok(Some((bytes.into(), version)))
    }

    async fn open(&self, name: &str) -> Result<Option<Pieces>, StorageError> {
        let Some(found) = self.get(name).await? else { return Ok(None) };
        let area = self.area.clone();
        Ok(Some(found.into_stream().map_err(move |error| failed(&area, error)).boxed()))
    }

    async fn send(&self, name: &str, mut source: Source, sent: Sent<'_>) -> Result<(), StorageError> {
        let size = source.size();
        let path = self.path(name);
        if size <= PART {
            let bytes = source.next(usize::try_from(size).unwrap_or(usize::MAX)).await?;
            let put = self.store.put(&path, bytes.into()).await;
            put.map_err(|error| self.failed(error))?;
            sent(size);
            return Ok(());
        }
        let upload = self.store.put_multipart(&path).await;
        let mut upload = upload.map_err(|error| self.failed(error))?;
        let done = match self.parts(&mut upload, source, size, sent).await {
            Ok(()) => upload.complete().await.map(|_| ()).map_err(|error| self.failed(error)),
            Err(error) => Err(error),
        };
        if done.is_err() {
            // Its parts would be paid for until somebody found them.
            let gone = upload.abort().await;
            tracing::debug!(?gone, "gave up what was sent of a blob");
        }
        done
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool, StorageError> {
        if !self.conditional {
            return match self.size(name).await? {
                Some(_) => Ok(false),
                None => self.put(name, bytes, PutMode::Overwrite).await,
            };
        }
        self.put(name, bytes, PutMode::Create).await
    }

    async fn replace(&self, name: &str, bytes: Bytes, read: &Version) -> Result<bool, StorageError> {
        if !self.conditional {
            return self.put(name, bytes, PutMode::Overwrite).await;
        }
        let Version { e_tag, version } = read.clone();
        self.put(name, bytes, PutMode::Update(UpdateVersion { e_tag, version })).await
    }
}

/// Says what became of a request, in the suite's own words where it was one of its own that failed.
fn failed(area: &AreaRef, error: object_store::Error) -> StorageError {
    let area = Box::new(area.clone());
    let mut next: Option<&(dyn Error + 'static)> = Some(&error);
    let mut last = String::new();
    while let Some(cause) = next {
        if let Some(Unanswered(source)) = cause.downcast_ref() {
            return StorageError::Http { area, source: source.clone() };
        }
        if let Some(refused) = cause.downcast_ref::<Refused>() {
            return if refused.is_of_no_area() {
                StorageError::NoArea { area, said: refused.said() }
            } else {
                StorageError::Refused { area, refused: refused.clone() }
            };
        }
        // The innermost says what happened; those around it repeat the whole address.
        last = cause.to_string();
        next = cause.source();
    }
    StorageError::Service { area, said: crate::error::one_line(&last) }
}

/// How requests are sent again.
pub(crate) fn retry() -> RetryConfig {
    RetryConfig { max_retries: RETRIES, retry_timeout: RETRIED_FOR, ..RetryConfig::default() }
}

/// Sends the requests of `object_store`.
#[derive(Clone)]
pub(crate) struct Wire(pub(crate) Client);

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<object_store::client::HttpClient> {
        Ok(object_store::client::HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, object_store::client::HttpError> {
        let (parts, body) = request.into_parts();
        let invalid = |what: &str| {
            object_store::client::HttpError::new(
                HttpErrorKind::Unknown,
                std::io::Error::other(what.to_owned()),
            )
        };
        let url = Url::parse(&parts.uri.to_string()).map_err(|_| invalid("this is no URL"))?;
        let mut sent = self.0.request(parts.method.as_str(), url).map_err(unanswered)?;
        let content_length = body.content_length() as u64;
        sent = match body.as_bytes().cloned() {
            Some(bytes) if bytes.is_empty() && parts.method.is_safe() => sent,
            Some(bytes) => sent.body(bytes, None),
            None => sent.stream(content_length, None, move || {
                body.clone().into_data_stream().map_err(std::io::Error::other)
            }),
        };
        for (name, value) in &parts.headers {
            // Ours is written from what is sent.
            if name != http::header::CONTENT_LENGTH {
                let value = value.to_str().map_err(|_| invalid("a header of it is no text"))?;
                sent = sent.header(name.as_str(), value);
            }
        }
        let is_get = parts.method == http::Method::GET;
        let max_bytes = if is_get { u64::MAX } else { MAX_ANSWER };
        let mut answer = sent.timeout(ATTEMPT).max_bytes(max_bytes).open().await.map_err(unanswered)?;
        let mut response = http::Response::builder().status(answer.status);
        for (name, value) in answer.headers() {
            response = response.header(name, value);
        }
        if !(200..300).contains(&answer.status) {
            let said = refusal(&mut answer).await;
            let refused =
                Refused::new(answer.status, answer.request(), answer.header("x-ms-error-code"), &said);
            // What the protocol has a use for goes on: there is none, there is one already, come back later.
            let meant = matches!(answer.status, 304 | 404 | 408 | 409 | 412 | 416 | 429 | 500..);
            if !meant || refused.is_of_no_area() || answer.status == 501 {
                return Err(object_store::client::HttpError::new(HttpErrorKind::Unknown, refused));
            }
            return response
                .body(HttpResponseBody::from(said))
                .map_err(|_| invalid("the answer is none of HTTP"));
        }
        let pieces = stream::try_unfold(answer, |mut answer| async move {
            let piece = answer.piece().await.map_err(unanswered)?;
            Ok(piece.map(|piece| (Frame::data(piece), answer)))
        });
        let body = HttpResponseBody::new(StreamBody::new(pieces));
        response.body(body).map_err(|_| invalid("the answer is none of HTTP"))
    }
}

/// Passes on why no answer came, and whether another attempt may help.
fn unanswered(error: HttpError) -> object_store::client::HttpError {
    let kind = match &error {
        HttpError::Failed { failure: Failure::Connect | Failure::Resolve, .. } => HttpErrorKind::Connect,
        HttpError::Failed { failure: Failure::Timeout(_), .. } => HttpErrorKind::Timeout,
        HttpError::Failed { failure: Failure::Interrupted, .. } => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    };
    object_store::client::HttpError::new(kind, Unanswered(Arc::new(error)))
}
