//! Refusals that explain themselves: problem details (RFC 9457) with rules.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The media type of a [`Problem`].
pub const MEDIA_TYPE: &str = "application/problem+json";
/// The request header that carries one identifier through every request of a command; the server echoes it.
pub const CORRELATION_HEADER: &str = "x-correlation-id";
/// The request header under which a repeated POST gets the first one's answer.
pub const IDEMPOTENCY_HEADER: &str = "idempotency-key";
/// The response header that npm prints whatever the status.
pub const NOTICE_HEADER: &str = "npm-notice";

/// A refusal or failure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// RFC 9457 `type`: `about:blank`, or the page of the code.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// A short title for the code, the same each time.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// What went wrong, for programs.
    #[serde(default)]
    pub code: Code,
    /// At the token endpoint the OAuth error code (RFC 6749 section 5.2), elsewhere the text that npm prints.
    #[serde(default)]
    pub error: String,
    /// What went wrong, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_description: Option<String>,
    /// The rules of the nearest policy, each with its result.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleResult>,
    /// The policy that came nearest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest_policy: Option<String>,
    /// What to change, and who can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Whether the caller decided on entitlements that have changed since.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stale_snapshot: bool,
    /// The entitlements of now, when the caller's are stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_snapshot_id: Option<String>,
    /// What the caller would be allowed to do instead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_actions: Vec<crate::action::Action>,
    /// The decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<String>,
    /// The audit event that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_event_id: Option<String>,
    /// The caller's [`CORRELATION_HEADER`], or one made up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
}

impl Problem {
    /// Returns what went wrong, for people.
    pub fn message(&self) -> &str {
        self.error_description.as_deref().unwrap_or(if self.error.is_empty() {
            &self.title
        } else {
            &self.error
        })
    }
}

/// One rule of a policy, and what the caller brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleResult {
    /// The rule in words, such as `the repository is the one pinned`.
    pub rule: String,
    /// The claim it looks at, in the platform's words. From a fixed list: no other claim is ever shown.
    pub claim: String,
    /// What the policy wants.
    pub expected: String,
    /// What the token says; `null` when it does not.
    pub actual: Option<String>,
    /// Whether that is enough.
    pub ok: bool,
}

/// What went wrong, for programs: one word in snake case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Code(Cow<'static, str>);

impl Code {
    /// Returns the word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $status:literal, $title:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Self = Self(Cow::Borrowed($word));)*

            /// Returns the HTTP status that goes with this code; 500 for a word not known here.
            pub fn status(&self) -> u16 {
                match self.as_str() { $($word => $status,)* _ => 500 }
            }

            /// Returns the title of this code; the word itself when it is not known here.
            pub fn title(&self) -> &str {
                match self.as_str() { $($word => $title,)* other => other }
            }
        }
    };
}

codes! {
    /// No credential, or one that does not verify.
    UNAUTHENTICATED = "unauthenticated", 401, "Not authenticated";
    /// The token's time is over.
    TOKEN_EXPIRED = "token_expired", 401, "The token has expired";
    /// The token was revoked.
    TOKEN_REVOKED = "token_revoked", 401, "The token was revoked";
    /// The ID token was exchanged before.
    TOKEN_REPLAYED = "token_replayed", 400, "The ID token was used before";
    /// The ID token does not verify.
    INVALID_ID_TOKEN = "invalid_id_token", 400, "The ID token was refused";
    /// The version's provenance does not verify, or is another run's.
    PROVENANCE_REFUSED = "provenance_refused", 422, "The provenance was refused";
    /// The project takes no version without provenance.
    PROVENANCE_REQUIRED = "provenance_required", 422, "A provenance is required";
    /// The request is not well formed.
    INVALID_REQUEST = "invalid_request", 400, "The request is not well formed";
    /// The audience or resource is not one of this service.
    INVALID_TARGET = "invalid_target", 400, "Not a target of this service";
    /// The scope is not one that can be granted.
    INVALID_SCOPE = "invalid_scope", 400, "The scope cannot be granted";
    /// No trusted publisher matches the run.
    NO_TRUSTED_PUBLISHER = "no_trusted_publisher", 400, "No trusted publisher matches this run";
    /// The issuer's keys cannot be had just now.
    ISSUER_UNAVAILABLE = "issuer_unavailable", 503, "The issuer's keys are unavailable";
    /// Entitlements cannot be had just now.
    ENTITLEMENT_UNAVAILABLE = "entitlement_unavailable", 503, "Entitlements are unavailable";
    /// Too much at once.
    OVERLOADED = "overloaded", 503, "Too many requests at once";
    /// The project does not exist, or the caller has no part in it: the same answer for both.
    PROJECT_NOT_ENTITLED = "project_not_entitled", 403, "No access to this project";
    /// The caller's project has no such package.
    PACKAGE_NOT_IN_PROJECT = "package_not_in_project", 404, "The project has no such package";
    /// The package is switched off.
    PACKAGE_DISABLED = "package_disabled", 403, "The package is disabled";
    /// The package is archived.
    PACKAGE_ARCHIVED = "package_archived", 403, "The package is archived";
    /// Nothing says who may do that.
    NO_POLICY = "no_policy", 403, "The package has no policy for this action";
    /// Something says who may, and it is not the caller.
    ACTION_DENIED = "action_denied", 403, "The action is denied";
    /// A person who is no maintainer wants to publish.
    CI_ONLY = "ci_only", 403, "Publishing is for CI and maintainers";
    /// Nothing says that the caller may have tokens for the Docker registry.
    NO_LICENCE = "no_licence", 403, "No licence";
    /// The licence under which the caller could have them was revoked.
    LICENCE_REVOKED = "licence_revoked", 403, "The licence was revoked";
    /// The licence under which the caller could have them is over.
    LICENCE_EXPIRED = "licence_expired", 403, "The licence has expired";
    /// The artifact is not what the policy wants.
    ARTIFACT_POLICY_UNMET = "artifact_policy_unmet", 409, "The artifact policy is not met";
    /// The registry refuses: the token is for something else.
    OUT_OF_SCOPE = "out_of_scope", 403, "The token does not cover this";
    /// The version exists with other content.
    VERSION_EXISTS = "version_exists", 409, "The version exists with different content";
    /// A record for this version exists with other content.
    BUILD_CONFLICT = "build_conflict", 409, "Another build of this version is on record";
    /// Another delivery has this id.
    BUNDLE_CONFLICT = "bundle_conflict", 409, "Another delivery with this id is on record";
    /// A grant that was recorded says something else.
    GRANT_CONFLICT = "grant_conflict", 409, "The grant is on record with other terms";
    /// The delivery is another customer's.
    CUSTOMER_MISMATCH = "customer_mismatch", 403, "The delivery is another customer's";
    /// A document holds what looks like a key.
    RAW_KEY_MATERIAL = "raw_key_material", 422, "The document holds what looks like a key";
    /// The document is not one that may be stored.
    INVALID_DOCUMENT = "invalid_document", 422, "The document was refused";
    /// The body is larger than allowed.
    TOO_LARGE = "too_large", 413, "The body is too large";
    /// There is no such thing, or it is not the caller's.
    NOT_FOUND = "not_found", 404, "Not found";
    /// The service failed.
    INTERNAL = "internal", 500, "Internal error";
}

fn about_blank() -> String {
    "about:blank".to_owned()
}

fn is_false(value: &bool) -> bool {
    !value
}
