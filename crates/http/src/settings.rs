//! How requests are sent, settled once.

use protected_model::environment::Environment;
use reqwest::Certificate;

use crate::{error::HttpError, proxy::Proxies};

/// How requests are sent: the proxy, the certificate authorities, and the name we go by.
#[derive(Clone)]
pub struct Settings {
    pub(crate) proxies: Proxies,
    pub(crate) authorities: Vec<Certificate>,
    pub(crate) user_agent: String,
}

impl Settings {
    /// Reads the proxy variables of `environment`, and `ca_pem`: authorities to trust besides the system's.
    ///
    /// # Errors
    /// When a proxy variable or `ca_pem` cannot be used.
    pub fn from_environment(
        environment: &Environment,
        ca_pem: Option<Vec<u8>>,
        user_agent: &str,
    ) -> Result<Self, HttpError> {
        let authorities = match ca_pem {
            Some(pem) => authorities(&pem)?,
            None => Vec::new(),
        };
        let proxies = Proxies::from_environment(environment)?;
        Ok(Self { proxies, authorities, user_agent: user_agent.to_owned() })
    }
}

fn authorities(pem: &[u8]) -> Result<Vec<Certificate>, HttpError> {
    let refuse = |reason: &str| HttpError::Settings {
        what: "the certificate authorities to trust".to_owned(),
        reason: reason.to_owned(),
    };
    let found = Certificate::from_pem_bundle(pem).map_err(|_| refuse("a PEM block in it is broken"))?;
    match found.is_empty() {
        true => Err(refuse("expected PEM with at least one `BEGIN CERTIFICATE`")),
        false => Ok(found),
    }
}
