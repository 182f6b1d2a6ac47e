//! The parts of `protected-trust` that this crate uses.
#![expect(dead_code, unused_variables, reason = "signatures first")]

pub(crate) mod mint {
    use jiff::Timestamp;
    use serde::{Serialize, de::DeserializeOwned};

    #[derive(Debug, thiserror::Error)]
    pub enum KeyError {
        #[error("not available")]
        Unavailable,
    }

    #[derive(Debug, thiserror::Error)]
    pub enum TokenError {
        #[error("expired")]
        Expired {},
        #[error("not available")]
        Unavailable,
    }

    pub struct Expect<'a> {
        pub typ: &'a str,
        pub issuer: &'a str,
        pub audience: &'a str,
    }

    pub struct SigningKeys;

    impl SigningKeys {
        pub fn load_or_create(dir: &std::path::Path, now: Timestamp) -> Result<Self, KeyError> {
            Err(KeyError::Unavailable)
        }
        pub fn sign(&self, typ: &str, claims: &impl Serialize) -> Result<String, KeyError> {
            Err(KeyError::Unavailable)
        }
        pub fn verify<C: DeserializeOwned>(
            &self,
            token: &str,
            expect: Expect<'_>,
            now: Timestamp,
        ) -> Result<C, TokenError> {
            Err(TokenError::Unavailable)
        }
        pub fn jwks(&self) -> serde_json::Value {
            serde_json::Value::Null
        }
    }
}

pub(crate) mod policy {
    use protected_model::{
        action::Action,
        name::{PackageName, ProjectSlug, TenantId},
    };

    #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
    pub struct TrustedPublisher {
        pub id: String,
        pub tenant_id: TenantId,
        pub project_slug: ProjectSlug,
        pub packages: Vec<PackageName>,
        pub actions: Vec<Action>,
        pub issuer: String,
    }
}
