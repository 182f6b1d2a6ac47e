//! Whose ID tokens are believed.

use protected_http::Client;
use protected_model::service_url::ServiceUrl;

use crate::config::Config;

/// The issuers of the configuration, with their keys as far as they were asked for.
pub(crate) struct Issuers {
    people: Vec<String>,
}

impl Issuers {
    pub(crate) fn new(config: &Config, public_url: &ServiceUrl, http: Client) -> Self {
        let _ = (config, public_url, http);
        Self { people: Vec::new() }
    }

    /// Returns whether an issuer's tokens are those of people.
    pub(crate) fn is_of_people(&self, issuer: &str) -> bool {
        self.people.iter().any(|it| it == issuer)
    }
}
