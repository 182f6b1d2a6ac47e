//! What can go wrong with a request, without the secrets that it carried.

use std::{error::Error, fmt, io, time::Duration};

use protected_model::hint::Hint;
use url::{Position, Url};

use crate::limits::CONNECT_TIMEOUT;

/// A request as messages show it: method and URL, without userinfo, query and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLine(String);

impl RequestLine {
    pub(crate) fn new(method: &reqwest::Method, url: &Url) -> Self {
        let origin = url.origin().ascii_serialization();
        Self(format!("{method} {origin}{}", &url[Position::BeforePath..Position::AfterPath]))
    }
}

impl fmt::Display for RequestLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The host's name has no address.
    Resolve,
    /// Nobody took the connection.
    Connect,
    /// The proxy wants a username and password.
    ProxyCredentials,
    /// The server's certificate is not trusted, or TLS failed otherwise.
    Tls,
    /// The answer did not come, or not completely, in this time.
    Timeout(Duration),
    /// The connection ended in the middle.
    Interrupted,
    /// What was to be sent could not be read.
    Body,
}

impl Failure {
    /// Returns whether the same request may fare better later.
    pub fn is_transient(self) -> bool {
        match self {
            Self::Resolve | Self::Connect | Self::Timeout(_) | Self::Interrupted => true,
            Self::ProxyCredentials | Self::Tls | Self::Body => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve => f.write_str("the host name was not found"),
            Self::Connect => f.write_str("no connection could be made"),
            Self::ProxyCredentials => f.write_str("the proxy wants a username and password"),
            Self::Tls => f.write_str("no TLS connection could be made"),
            Self::Timeout(limit) => write!(f, "no complete answer came within {}", Seconds(*limit)),
            Self::Interrupted => f.write_str("the connection was interrupted"),
            Self::Body => f.write_str("what was to be sent could not be read"),
        }
    }
}

/// Why a request got no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The proxy, the certificate authorities or TLS cannot be set up.
    #[error("cannot use {what}: {reason}")]
    Settings {
        /// What cannot be used: a variable's name, or what it is.
        what: String,
        /// Why, without its value.
        reason: String,
    },
    /// A credential would travel in clear.
    #[error(
        "{request}: refused, because a credential is only sent over https, or over http to a loopback address"
    )]
    Insecure {
        /// The request.
        request: RequestLine,
    },
    /// The request cannot be put together.
    #[error("{request}: {what}")]
    Invalid {
        /// The request.
        request: RequestLine,
        /// What is wrong with it.
        what: String,
    },
    /// The server sent us elsewhere, and we did not go.
    #[error("{request}: the answer {status} redirects to {target}, {reason}")]
    Redirect {
        /// The request.
        request: RequestLine,
        /// The answer's status.
        status: u16,
        /// The origin of the target.
        target: String,
        /// Why it was not followed.
        reason: &'static str,
    },
    /// The answer is larger than allowed.
    #[error("{request}: the answer is larger than the {limit_bytes} bytes that are read of it")]
    TooLarge {
        /// The request.
        request: RequestLine,
        /// The cap.
        limit_bytes: u64,
    },
    /// The answer is not the JSON that was expected.
    #[error("{request}: the answer {status} is not what was expected: {reason}")]
    Json {
        /// The request.
        request: RequestLine,
        /// The answer's status.
        status: u16,
        /// What is wrong with it.
        reason: String,
    },
    /// No answer came.
    #[error("{request}{}: {failure} ({})", through(.proxy), attempts_in(*.attempts, *.elapsed))]
    Failed {
        /// The request.
        request: RequestLine,
        /// The proxy it went through.
        proxy: Option<String>,
        /// What the last attempt came to.
        failure: Failure,
        /// How many attempts there were.
        attempts: u32,
        /// What they took together.
        elapsed: Duration,
        /// What the system said, innermost cause only.
        source: Option<Cause>,
    },
}

/// The innermost cause of a failure, in the system's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Cause(String);

impl HttpError {
    /// Returns whether the same request may fare better later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Failed { failure, .. } if failure.is_transient())
    }

    /// Returns what can be done about it.
    pub fn hint(&self) -> Option<Hint> {
        let text = match self {
            Self::Settings { what, .. } if what == "TLS" => {
                "install the system's certificate authorities (the `ca-certificates` package), or name a PEM file"
            }
            Self::Insecure { .. } => "use the `https` address of the service",
            Self::Redirect { .. } => {
                "give the final address of the service; when the target is a login page, let the CI reach the service \
                 without it"
            }
            Self::Failed { failure: Failure::Tls, source: Some(Cause(cause)), .. } if is_untrusted(cause) => {
                "if the service has a certificate of your own authority, name its PEM file as the CA file"
            }
            Self::Failed { failure: Failure::ProxyCredentials, .. } => {
                "put them into the proxy's URL: `http://<user>:<password>@<proxy>`"
            }
            Self::Failed { failure: Failure::Resolve, proxy: None, .. } => {
                "check the host name; if this network needs a proxy, set HTTPS_PROXY"
            }
            Self::Failed { failure: Failure::Connect | Failure::Resolve, proxy: Some(_), .. } => {
                "check HTTPS_PROXY; to go past the proxy, name the host in NO_PROXY"
            }
            _ => return None,
        };
        Some(Hint::new(text))
    }
}

/// Returns whether no trusted authority signed the certificate, or another one of the same name did.
fn is_untrusted(cause: &str) -> bool {
    ["UnknownIssuer", "BadSignature"].iter().any(|reason| cause.contains(reason))
}

fn through(proxy: &Option<String>) -> String {
    proxy.as_ref().map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default()
}

fn attempts_in(attempts: u32, elapsed: Duration) -> String {
    match attempts {
        1 => format!("1 attempt in {}", Seconds(elapsed)),
        more => format!("{more} attempts in {}", Seconds(elapsed)),
    }
}

/// A duration as people read it.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.0.as_secs_f64())
    }
}

/// What one attempt came to when no answer came.
pub(crate) struct AttemptError {
    pub(crate) failure: Failure,
    pub(crate) cause: Option<Cause>,
}

impl AttemptError {
    pub(crate) fn timeout(limit: Duration) -> Self {
        Self { failure: Failure::Timeout(limit), cause: None }
    }

    /// Sorts an error of reqwest's. Its text may hold the URL's query: only causes below it are repeated.
    pub(crate) fn new(error: &reqwest::Error, limit: Duration) -> Self {
        let causes = causes(error);
        let any = |test: &dyn Fn(&(dyn Error + 'static)) -> bool| causes.iter().any(|cause| test(*cause));
        let failure = if any(&|cause| cause.is::<BodyError>()) {
            Failure::Body
        } else if error.is_timeout() {
            Failure::Timeout(limit.min(CONNECT_TIMEOUT))
        } else if error.is_dns() {
            Failure::Resolve
        } else if any(&|cause| cause.to_string().ends_with("proxy authorization required")) {
            Failure::ProxyCredentials
        } else if any(&is_tls) {
            Failure::Tls
        } else if error.is_connect() {
            Failure::Connect
        } else {
            Failure::Interrupted
        };
        let cause = causes.last().map(|cause| Cause(cause.to_string()));
        Self { failure, cause }
    }
}

/// An error of the stream that is to be sent, told apart from one of the connection.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BodyError(pub(crate) String);

/// rustls reports through `io::Error`, always of this kind.
fn is_tls(cause: &(dyn Error + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
}

/// Returns every cause below `error`, outermost first, those inside an `io::Error` included.
fn causes(error: &reqwest::Error) -> Vec<&(dyn Error + 'static)> {
    let mut found = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        found.push(cause);
        next = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    found
}

/// Joins `error` and its causes.
pub(crate) fn chain(error: &reqwest::Error) -> String {
    let mut parts = vec![error.to_string()];
    parts.extend(causes(error).iter().map(ToString::to_string));
    parts.dedup();
    parts.join(": ")
}
