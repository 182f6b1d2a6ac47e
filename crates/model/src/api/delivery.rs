//! `/v1/packages/delivery`: sealed deliveries on record, and who may open them.

use std::str::FromStr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evidence::EvidenceRecord;
use crate::{
    delivery::DeliveryManifest,
    digest::Sha256,
    key_ref::{KeyProvider, KeyRef, looks_like_key_material},
    name::{BundleId, CustomerSlug},
    text::{shown, text},
};

/// `POST` registers a delivery, whose body is its [`DeliveryManifest`]; `GET <path>/{bundle_id}` is one.
pub const BUNDLES_PATH: &str = "v1/packages/delivery/bundles";
/// `POST` records a grant; `DELETE <path>/{id}` revokes one.
pub const GRANTS_PATH: &str = "v1/packages/delivery/grants";
/// `GET` lists deliveries with their grants.
pub const VIEW_PATH: &str = "v1/packages/delivery/view";

/// A delivery on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bundle {
    /// As it was submitted.
    pub manifest: DeliveryManifest,
    /// `recorded`.
    pub status: String,
    /// How its data key was wrapped, oldest first; the last is that of the manifest.
    #[serde(default)]
    pub wrappings: Vec<Wrapping>,
    /// The last grant of each grantee on each key, oldest first, one that is over as well.
    pub grants: Vec<Grant>,
    /// Documents about it.
    pub evidence: Vec<EvidenceRecord>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// The audit event of that.
    pub audit_event_id: String,
}

/// A wrapping of a delivery's data key that is or was on record. The wrapped key stands in the manifest of that time, which is
/// evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Wrapping {
    /// The key that wrapped it.
    pub key_ref: KeyRef,
    /// Digest of the wrapped key.
    pub wrapped_key_sha256: Sha256,
    /// When it came on record.
    pub recorded_at: Timestamp,
    /// The audit event of that.
    pub audit_event_id: String,
}

/// A page of deliveries, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryView {
    /// The deliveries.
    pub items: Vec<Bundle>,
    /// Give as `cursor` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// What a grant is to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantRequest {
    /// The delivery.
    pub bundle_id: BundleId,
    /// Must be the delivery's.
    pub customer_slug: CustomerSlug,
    /// Who may open it, in the words of the key service: a policy, a role's ARN, a service account, an object id.
    pub grantee: Grantee,
    /// The key that the grant is on; the one on record when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_ref: Option<KeyRef>,
    /// What the key service calls the grant, once it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_grant_ref: Option<String>,
    /// What was done in the key service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_materialization: Option<GrantMaterialization>,
    /// When it ends; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// What was done in a key service so that somebody may unwrap. Holds no credential and no key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantMaterialization {
    /// The service.
    pub provider: KeyProvider,
    /// Its own word for what was done, such as `CreateGrant`.
    pub operation: String,
    /// What it calls the result.
    #[serde(rename = "ref")]
    pub reference: String,
    /// `materialized`, or `revoked`.
    pub status: String,
    /// When.
    pub materialized_at: Timestamp,
}

/// A grant on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Grant {
    /// ULID.
    pub id: String,
    /// The delivery.
    pub bundle_id: BundleId,
    /// Whose it is.
    pub customer_slug: CustomerSlug,
    /// Who may open it.
    pub grantee: Grantee,
    /// The key that it is on. Absent only from a FractalOps that does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_ref: Option<KeyRef>,
    /// Whether it holds now.
    pub status: GrantStatus,
    /// What the key service calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_grant_ref: Option<String>,
    /// What was done in the key service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_materialization: Option<GrantMaterialization>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    /// The audit event of its last change.
    pub audit_event_id: String,
}

impl Grant {
    /// Returns whether it is on this key, in any version. Where nothing says which key it is, what the key service did tells
    /// at least which service.
    pub fn is_on(&self, key: &KeyRef) -> bool {
        match (&self.key_ref, &self.grant_materialization) {
            (Some(own), _) => own.is_same_key(key),
            (None, Some(done)) => done.provider == key.provider(),
            (None, None) => true,
        }
    }

    /// Returns whether the key service was told of it.
    pub fn is_materialized(&self) -> bool {
        self.status == GrantStatus::Materialized || self.grant_materialization.is_some()
    }
}

/// Whether a grant holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantStatus {
    /// It is on record, and nothing says that the key service knows it.
    Recorded,
    /// The key service lets the grantee unwrap.
    Materialized,
    /// It is on another key than the one that the delivery is on record with: it opens what that key wrapped, and not the
    /// delivery as it is now.
    OtherKey,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
}

/// Whom a grant is for: 1 to 512 printable characters of ASCII, none of them a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Grantee(String);

/// Why a text is not a [`Grantee`]. Never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a grantee is the name of a subject in the key service, in 1 to 512 printable characters: {0}")]
pub struct GranteeError(&'static str);

impl Grantee {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Grantee {
    type Err = GranteeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !(1..=512).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(GranteeError("this is none"));
        }
        if looks_like_key_material(text) {
            return Err(GranteeError("this looks like a key or a token"));
        }
        Ok(Self(text.to_owned()))
    }
}

shown!(Grantee);
text!(Grantee, GranteeError, "minLength": 1, "maxLength": 512, "pattern": "^[!-~]+$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grantee_is_a_name_and_no_secret() {
        for good in [
            "globex",
            "arn:aws:iam::123456789012:role/globex",
            "serviceAccount:globex@acme-prod.iam.gserviceaccount.com",
            "6ab3c3e2-93a5-4a8e-9d62-3a9f2a1f4a11",
        ] {
            assert_eq!(good.parse::<Grantee>().expect(good).as_str(), good);
        }
        for bad in ["", "a b", "a\n", "é", "hvs.CAESIJlU02LQZq", "AKIAIOSFODNN7EXAMPLE", &"a".repeat(513)] {
            let error = bad.parse::<Grantee>().expect_err(bad).to_string();
            assert!(bad.len() < 5 || !error.contains(bad), "{error}");
        }
    }
}
