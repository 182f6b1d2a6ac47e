//! The token endpoint (RFC 8693), revocation (RFC 7009) and discovery (RFC 8414).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    identity::RunIdentity,
    name::TenantId,
    secret::{AccessToken, IdToken, reveal_some_on_the_wire},
};

/// Where an ID token is exchanged, below the base URL.
pub const TOKEN_PATH: &str = "v1/oauth/token";
/// Where a token is revoked, below the base URL.
pub const REVOKE_PATH: &str = "v1/oauth/revoke";
/// Where the keys of API and registry tokens are served, below the base URL.
pub const JWKS_PATH: &str = ".well-known/jwks.json";
/// Where [`Metadata`] is served, below the base URL.
pub const METADATA_PATH: &str = ".well-known/oauth-authorization-server";
/// RFC 8693 section 2.1.
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// RFC 8693 section 3.
pub const ID_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:id_token";
/// RFC 8693 section 3.
pub const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";
/// `client_id` of a CI job: a public client, for which the ID token is the proof.
pub const CLIENT_ID: &str = "protected-registry-ci";

/// RFC 8693 section 2.1, as `application/x-www-form-urlencoded`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct TokenExchangeRequest {
    /// [`GRANT_TYPE`].
    pub grant_type: String,
    /// The CI platform's ID token.
    pub subject_token: IdToken,
    /// [`ID_TOKEN_TYPE`].
    pub subject_token_type: String,
    /// [`ACCESS_TOKEN_TYPE`], or absent.
    pub requested_token_type: Option<String>,
    /// `fractalops`, or absent.
    pub audience: Option<String>,
    /// A registry's URL, or absent.
    pub resource: Option<String>,
    /// Refused when present: a session carries no right to any package, so it cannot be narrowed.
    pub scope: Option<String>,
    /// RFC 8693: not supported, refused when present.
    pub actor_token: Option<String>,
    /// `true`: decide, and mint nothing.
    pub dry_run: Option<String>,
}

/// RFC 8693 section 2.2.1, with who was recognised.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TokenExchangeResponse {
    /// A CI session token; absent for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "reveal_some_on_the_wire")]
    pub access_token: Option<AccessToken>,
    /// [`ACCESS_TOKEN_TYPE`].
    pub issued_token_type: String,
    /// `Bearer`.
    pub token_type: String,
    /// Seconds from now.
    pub expires_in: u64,
    /// The scope asked for, when one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Whose project the run publishes to: its trusted publishers are all of one tenant.
    pub tenant_id: TenantId,
    /// The run as verified.
    pub identity: RunIdentity,
    /// The trusted publishers that it matched, by id.
    pub policies: Vec<String>,
    /// The decision.
    pub decision_id: String,
    /// The audit event that holds it.
    pub audit_event_id: String,
}

/// RFC 7009 section 2.1, as `application/x-www-form-urlencoded`. The answer is 200 whatever the token.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct RevocationRequest {
    /// A CI session token, an npm token or a token for the Docker registry.
    pub token: AccessToken,
    /// `access_token`, or absent.
    pub token_type_hint: Option<String>,
}

/// Authorization server metadata (RFC 8414), with what a CI job needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Metadata {
    /// The FractalOps.
    pub issuer: String,
    /// [`TOKEN_PATH`], absolute.
    pub token_endpoint: String,
    /// [`REVOKE_PATH`], absolute.
    pub revocation_endpoint: String,
    /// [`JWKS_PATH`], absolute.
    pub jwks_uri: String,
    /// [`GRANT_TYPE`].
    pub grant_types_supported: Vec<String>,
    /// Empty: there is no authorization endpoint for CI jobs.
    pub response_types_supported: Vec<String>,
    /// `none`.
    pub token_endpoint_auth_methods_supported: Vec<String>,
    /// The audience that an ID token for this service must have.
    pub id_token_audience: String,
    /// The private Sigstore that belongs to it, if any: Fulcio, Rekor and the timestamp authority are below this
    /// URL, and what verifies their bundles is at `trusted_root.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigstore_url: Option<String>,
}
