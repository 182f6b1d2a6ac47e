//! `GET` and `POST /token`: a token for a Docker registry, in the registry's own words (distribution, "Token
//! Authentication Specification").

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret::{AccessToken, RegistryToken, reveal_on_the_wire};

/// The endpoint's path below the base URL: `realm` in the registry's configuration.
pub const PATH: &str = "token";
/// Where the certificate is that the registry trusts (`rootcertbundle`), below the base URL.
pub const ROOT_PATH: &str = ".well-known/oci-root.pem";
/// Where the keys of these tokens are served, below the base URL.
pub const JWKS_PATH: &str = ".well-known/oci-jwks.json";

/// What a client asks for: the query of a `GET`, whose credential is in its `Authorization` header, or the form of a
/// `POST`, which may bring one itself.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct OciTokenRequest {
    /// The registry, as its challenge calls it. A token is for no other.
    pub service: String,
    /// `repository:<name>:<action>,...`, several with a space between or `scope` repeated. What is granted is what
    /// is asked for and allowed.
    #[serde(default)]
    pub scope: String,
    /// `POST`: `refresh_token` or `password`.
    pub grant_type: Option<String>,
    /// A session or a person's token, which clients keep as `identitytoken`.
    pub refresh_token: Option<AccessToken>,
    /// The same as a password. The name beside it means nothing.
    pub password: Option<AccessToken>,
}

/// The token and what it allows.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OciTokenResponse {
    /// The token.
    #[serde(serialize_with = "reveal_on_the_wire")]
    pub token: RegistryToken,
    /// The same, as OAuth calls it.
    #[serde(serialize_with = "reveal_on_the_wire")]
    pub access_token: RegistryToken,
    /// Seconds from `issued_at`.
    pub expires_in: u64,
    /// When it was made.
    pub issued_at: Timestamp,
    /// What it allows, as a scope; empty when that is nothing.
    pub scope: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_the_specifications() {
        let response = OciTokenResponse {
            token: RegistryToken::new("t"),
            access_token: RegistryToken::new("t"),
            expires_in: 300,
            issued_at: "2026-01-01T00:00:00Z".parse().expect("time"),
            scope: "repository:acme/core/a:pull".to_owned(),
        };
        assert_eq!(
            serde_json::to_string(&response).expect("json"),
            r#"{"token":"t","access_token":"t","expires_in":300,"issued_at":"2026-01-01T00:00:00Z","scope":"repository:acme/core/a:pull"}"#
        );
    }
}
