//! URLs of services that are sent credentials.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::text::text;

/// A base URL that is `https`, or `http` on a loopback address; its path always ends with `/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceUrl(Url);

/// Why a text is not a [`ServiceUrl`]. Never repeats the text: a URL pasted by mistake may hold a password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ServiceUrlError {
    /// It does not parse.
    #[error("expected a URL such as `https://fractalops.example`")]
    NotUrl,
    /// Plain `http` to another machine, or another scheme.
    #[error("credentials are only sent over https, or over http to a loopback address")]
    Insecure,
    /// `https://user:password@host/`.
    #[error("a service URL may not carry a username or password")]
    Userinfo,
    /// `?…` or `#…`.
    #[error("a service URL may not carry a query or a fragment")]
    Query,
}

impl ServiceUrl {
    /// Checks `url` and makes its path end with `/`.
    ///
    /// # Errors
    /// When `url` carries userinfo, a query or a fragment, or would send credentials in clear.
    pub fn new(mut url: Url) -> Result<Self, ServiceUrlError> {
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ServiceUrlError::Userinfo);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(ServiceUrlError::Query);
        }
        if !is_secure(&url) {
            return Err(ServiceUrlError::Insecure);
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(Self(url))
    }

    /// Returns the URL of `path` below this base, whether or not `path` starts with `/`.
    pub fn join(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        url.set_path(&format!("{}{}", self.0.path(), path.trim_start_matches('/')));
        url.set_query(query);
        url
    }

    /// Returns the base itself.
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// Returns `host`, or `host:port` where the port is not the scheme's own.
    pub fn authority(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Returns the URL without a trailing `/`, as it stands in an audience.
    pub fn audience(&self) -> String {
        self.0.as_str().trim_end_matches('/').to_owned()
    }
}

/// Returns whether a credential may be sent to `url`: `https`, or `http` to a loopback address.
pub fn is_secure(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => url.host().is_some(),
        "http" => loopback,
        _ => false,
    }
}

impl FromStr for ServiceUrl {
    type Err = ServiceUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(Url::parse(text).map_err(|_| ServiceUrlError::NotUrl)?)
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

text!(ServiceUrl, ServiceUrlError, "format": "uri", "pattern": "^https?://");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_or_loopback() {
        for good in
            ["https://npm.example", "http://127.0.0.1:4873", "http://[::1]:1", "http://localhost:1/a/b/"]
        {
            assert!(good.parse::<ServiceUrl>().is_ok(), "{good}");
        }
        for bad in [
            "http://npm.example",
            "http://127.0.0.1.evil.example",
            "ftp://localhost",
            "https://u:p@npm.example",
            "https://npm.example/?token=x",
            "https://npm.example/#x",
            "npm.example",
            "",
        ] {
            let error = bad.parse::<ServiceUrl>().expect_err(bad).to_string();
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
    }

    #[test]
    fn joins_below_its_path() {
        let base: ServiceUrl = "https://npm.example/repository/npm-hosted".parse().expect("url");
        assert_eq!(base.to_string(), "https://npm.example/repository/npm-hosted/");
        let url = base.join("/@acme%2fcore?write=true");
        assert_eq!(url.as_str(), "https://npm.example/repository/npm-hosted/@acme%2fcore?write=true");
    }
}
