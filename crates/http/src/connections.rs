//! The connections: one pool for this machine, and one for everywhere else.

use std::sync::OnceLock;

use reqwest::{Proxy, redirect::Policy};
use url::Url;

use crate::{
    error::{HttpError, chain},
    limits::{CONNECT_TIMEOUT, IDLE_TIMEOUT},
    proxy::is_loopback,
    settings::Settings,
};

/// What a client and its requests share.
pub(crate) struct Connections {
    settings: Settings,
    /// For `http` on this machine.
    plain: OnceLock<reqwest::Client>,
    /// For everything else. Reading the system's roots takes longer than a whole local exchange, so it is put off
    /// until a request needs them.
    tls: OnceLock<reqwest::Client>,
}

impl Connections {
    /// Reads the system's certificate authorities only when `settings` bring their own.
    ///
    /// # Errors
    /// When the certificate authorities of `settings` cannot be used.
    pub(crate) fn new(settings: &Settings) -> Result<Self, HttpError> {
        let connections = Self { settings: settings.clone(), plain: OnceLock::new(), tls: OnceLock::new() };
        if !settings.authorities.is_empty() {
            connections.tls()?;
        }
        Ok(connections)
    }

    /// Returns the pool for `url`.
    pub(crate) fn client(&self, url: &Url) -> Result<&reqwest::Client, HttpError> {
        if url.scheme() == "http" && is_loopback(url) { self.plain() } else { self.tls() }
    }

    /// Returns the proxy that `url` is asked through, without username and password.
    pub(crate) fn proxy(&self, url: &Url) -> Option<String> {
        self.settings.proxies.of(url).map(|proxy| proxy.origin().ascii_serialization())
    }

    fn plain(&self) -> Result<&reqwest::Client, HttpError> {
        once(&self.plain, || self.builder().tls_certs_only([]))
    }

    fn tls(&self) -> Result<&reqwest::Client, HttpError> {
        once(&self.tls, || {
            let proxies = self.settings.proxies.clone();
            self.builder()
                .tls_certs_merge(self.settings.authorities.iter().cloned())
                .proxy(Proxy::custom(move |url| proxies.of(url).cloned()))
        })
    }

    fn builder(&self) -> reqwest::ClientBuilder {
        reqwest::Client::builder()
            .user_agent(self.settings.user_agent.as_str())
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
