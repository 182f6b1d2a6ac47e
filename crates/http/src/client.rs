//! The connections, kept alive and shared by every clone.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use reqwest::{Method, Proxy, redirect::Policy};
use url::Url;

use crate::{
    error::{HttpError, RequestLine, chain},
    proxy::is_loopback,
    request::Request,
    settings::Settings,
};

/// How long a connection may take to be made, all addresses of the host and TLS included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends requests. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    settings: Settings,
    /// For `http` on this machine.
    plain: OnceLock<reqwest::Client>,
    /// For everything else. Reading the system's roots takes longer than a whole local exchange, so it is put off
    /// until a request needs them.
    tls: OnceLock<reqwest::Client>,
}

impl Client {
    /// Makes a client. Reads the system's certificate authorities only when `settings` bring their own.
    ///
    /// # Errors
    /// When the certificate authorities of `settings` cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, HttpError> {
        let client = Self(Arc::new(Inner {
            settings: settings.clone(),
            plain: OnceLock::new(),
            tls: OnceLock::new(),
        }));
        if !settings.authorities.is_empty() {
            client.tls()?;
        }
        Ok(client)
    }

    /// Starts a `GET` of `url`.
    pub fn get(&self, url: Url) -> Request {
        Request::new(self.clone(), Method::GET, url)
    }

    /// Starts a `POST` to `url`.
    pub fn post(&self, url: Url) -> Request {
        Request::new(self.clone(), Method::POST, url).body(Bytes::new(), None)
    }

    /// Starts a `PUT` to `url`.
    pub fn put(&self, url: Url) -> Request {
        Request::new(self.clone(), Method::PUT, url).body(Bytes::new(), None)
    }

    /// Starts a `HEAD` of `url`.
    pub fn head(&self, url: Url) -> Request {
        Request::new(self.clone(), Method::HEAD, url)
    }

    /// Starts a `PATCH` of `url`.
    pub fn patch(&self, url: Url) -> Request {
        Request::new(self.clone(), Method::PATCH, url).body(Bytes::new(), None)
    }

    /// Starts a request that another library has put together.
    ///
    /// # Errors
    /// When `method` is none.
    pub fn request(&self, method: &str, url: Url) -> Result<Request, HttpError> {
        match Method::from_bytes(method.as_bytes()) {
            Ok(method) => Ok(Request::new(self.clone(), method, url)),
            Err(_) => Err(HttpError::Invalid {
                request: RequestLine::new(&Method::GET, &url),
                what: "its method is none of HTTP".to_owned(),
            }),
        }
    }

    /// Starts a `DELETE` of `url`.
    pub fn delete(&self, url: Url) -> Request {
        Request::new(self.clone(), Method::DELETE, url)
    }

    /// Returns the connections for `url`.
    pub(crate) fn connections(&self, url: &Url) -> Result<&reqwest::Client, HttpError> {
        if url.scheme() == "http" && is_loopback(url) { self.plain() } else { self.tls() }
    }

    /// Returns the proxy that `url` is asked through, without username and password.
    pub(crate) fn proxy(&self, url: &Url) -> Option<String> {
        self.0.settings.proxies.of(url).map(|proxy| proxy.origin().ascii_serialization())
    }

    fn plain(&self) -> Result<&reqwest::Client, HttpError> {
        once(&self.0.plain, || self.builder().tls_certs_only([]))
    }

    fn tls(&self) -> Result<&reqwest::Client, HttpError> {
        once(&self.0.tls, || {
            let proxies = self.0.settings.proxies.clone();
            self.builder()
                .tls_certs_merge(self.0.settings.authorities.iter().cloned())
                .proxy(Proxy::custom(move |url| proxies.of(url).cloned()))
        })
    }

    fn builder(&self) -> reqwest::ClientBuilder {
        reqwest::Client::builder()
            .user_agent(self.0.settings.user_agent.as_str())
            // Both are ours to do: redirects by the credential rule, retries within the budget.
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            // Attack: an answer that is small until it is unpacked. Cargo joins features, so that a crate elsewhere in the
            // program that wants reqwest to unpack would have it do so here.
            .no_gzip()
            .no_deflate()
            .no_brotli()
            .no_zstd()
            // reqwest's own reading of the environment is off; `Settings` has read it.
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
    }
}

fn once(
    cell: &OnceLock<reqwest::Client>,
    builder: impl FnOnce() -> reqwest::ClientBuilder,
) -> Result<&reqwest::Client, HttpError> {
    if let Some(client) = cell.get() {
        return Ok(client);
    }
    let client = builder().build().map_err(|error| HttpError::Settings {
        what: "TLS".to_owned(),
        reason: chain(&error.without_url()),
    })?;
    Ok(cell.get_or_init(|| client))
}
