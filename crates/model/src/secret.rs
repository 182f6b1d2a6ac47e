//! Secrets that cannot be printed, compared or serialised by accident.
//!
//! `grep 'reveal('` lists every place where one leaves its wrapper.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serializer};

/// Something that is sent as a credential.
pub trait Secret {
    /// Returns the secret itself: for a header, a form or a private file, never for a message.
    fn reveal(&self) -> &str;
}

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(transparent)]
        pub struct $name(SecretString);

        impl $name {
            /// Wraps `value`.
            pub fn new(value: impl Into<String>) -> Self {
                Self(SecretString::from(value.into()))
            }
        }

        impl Secret for $name {
            fn reveal(&self) -> &str {
                self.0.expose_secret()
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "format": "password"})
            }
        }
    };
}

secret! {
    /// An OIDC ID token handed out by a CI platform.
    IdToken
}
secret! {
    /// The bearer with which a job asks its CI platform for an ID token.
    RequestToken
}
secret! {
    /// A token for the FractalOps API: a CI session token, or a maintainer's OIDC access token.
    AccessToken
}
secret! {
    /// A short-lived npm token minted by FractalOps for one package.
    RegistryToken
}
secret! {
    /// The secret of an application in the directory of a key service.
    ClientSecret
}
secret! {
    /// What somebody at a cloud keeps and logs in with: a private key in PEM, a refresh token, a header with a bearer.
    CloudCredential
}
secret! {
    /// What the choices of a hardened build follow from, together with its source.
    BuildSecret
}

/// Equal secrets give equal builds, which is all that this comparison is for.
impl PartialEq for BuildSecret {
    fn eq(&self, other: &Self) -> bool {
        crate::digest::Sha256::of(self.reveal()) == crate::digest::Sha256::of(other.reveal())
    }
}

impl Eq for BuildSecret {}

/// Serialises a secret in clear, for the one response that hands it to its owner.
///
/// # Errors
/// Those of `serializer`.
pub fn reveal_on_the_wire<S: Serializer>(secret: &impl Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.reveal())
}

/// [`reveal_on_the_wire`] for a secret that a dry run leaves out.
///
/// # Errors
/// Those of `serializer`.
pub fn reveal_some_on_the_wire<S: Serializer>(
    secret: &Option<impl Secret>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => serializer.serialize_str(secret.reveal()),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_print_it() {
        let printed = format!("{:?} {:?}", IdToken::new("hunter2"), Some(RegistryToken::new("hunter2")));
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}
