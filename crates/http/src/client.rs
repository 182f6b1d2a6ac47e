//! Where a request starts.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::Method;
use url::Url;

use crate::{
    connections::Connections,
    error::{HttpError, RequestLine},
    request::Request,
    settings::Settings,
};

/// Sends requests. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client(Arc<Connections>);

impl Client {
    /// Makes a client. Reads the system's certificate authorities only when `settings` bring their own.
    ///
    /// # Errors
    /// When the certificate authorities of `settings` cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, HttpError> {
        Ok(Self(Arc::new(Connections::new(settings)?)))
    }

    /// Starts a `GET` of `url`.
    pub fn get(&self, url: Url) -> Request {
        Request::new(self.0.clone(), Method::GET, url)
    }

    /// Starts a `POST` to `url`.
    pub fn post(&self, url: Url) -> Request {
        Request::new(self.0.clone(), Method::POST, url).body(Bytes::new(), None)
    }

    /// Starts a `PUT` to `url`.
    pub fn put(&self, url: Url) -> Request {
        Request::new(self.0.clone(), Method::PUT, url).body(Bytes::new(), None)
    }

    /// Starts a `HEAD` of `url`.
    pub fn head(&self, url: Url) -> Request {
        Request::new(self.0.clone(), Method::HEAD, url)
    }

    /// Starts a `PATCH` of `url`.
    pub fn patch(&self, url: Url) -> Request {
        Request::new(self.0.clone(), Method::PATCH, url).body(Bytes::new(), None)
    }

    /// Starts a request that another library has put together.
    ///
    /// # Errors
    /// When `method` is none.
    pub fn request(&self, method: &str, url: Url) -> Result<Request, HttpError> {
        match Method::from_bytes(method.as_bytes()) {
            Ok(method) => Ok(Request::new(self.0.clone(), method, url)),
            Err(_) => Err(HttpError::Invalid {
                request: RequestLine::new(&Method::GET, &url),
                what: "its method is none of HTTP".to_owned(),
            }),
        }
    }

    /// Starts a `DELETE` of `url`.
    pub fn delete(&self, url: Url) -> Request {
        Request::new(self.0.clone(), Method::DELETE, url)
    }
}
