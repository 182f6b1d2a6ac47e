//! Digests, each with the one way it is written.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::text::text;

/// Why a text is not a digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected {0}")]
pub struct DigestError(&'static str);

/// A SHA-256 digest, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// Digests `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Wraps a finished digest.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Sha256 {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: DigestError = DigestError("a SHA-256 digest of 64 lower-case hexadecimal digits");
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(EXPECTED);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| EXPECTED)?;
        Ok(Self(bytes))
    }
}

/// A SHA-512 digest, written as Subresource Integrity does: `sha512-` and base64 with padding.
///
/// npm calls this `integrity`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Integrity([u8; 64]);

impl Integrity {
    /// Digests `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(sha2::Sha512::digest(bytes).into())
    }

    /// Wraps a finished digest.
    pub fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// Returns the digest as 128 lower-case hexadecimal digits, as in-toto subjects write it.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha512-{}", STANDARD.encode(self.0))
    }
}

impl FromStr for Integrity {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text
            .strip_prefix("sha512-")
            .and_then(|encoded| STANDARD.decode(encoded).ok())
            .and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
        bytes.map(Self).ok_or(DigestError("`sha512-` and the base64 of 64 bytes"))
    }
}

/// A SHA-1 digest, written as 40 lower-case hexadecimal digits.
///
/// npm calls this `shasum`. It identifies, and protects nothing: yarn 1 needs it in its lock file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shasum([u8; 20]);

impl Shasum {
    /// Wraps a finished digest.
    pub fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Shasum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Shasum {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 20];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| DigestError("a SHA-1 digest of 40 hexadecimal digits"))?;
        Ok(Self(bytes))
    }
}

macro_rules! digest {
    ($name:ident, $pattern:literal) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        text!($name, DigestError, "pattern": $pattern);
    };
}

digest!(Sha256, "^[0-9a-f]{64}$");
digest!(Integrity, "^sha512-[A-Za-z0-9+/]{86}==$");
digest!(Shasum, "^[0-9a-f]{40}$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_the_empty_string() {
        // FIPS 180-4 examples for the empty message.
        assert_eq!(
            Sha256::of("").to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let empty =
            "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==";
        assert_eq!(Integrity::of("").to_string(), empty);
        assert_eq!(empty.parse::<Integrity>().expect("integrity"), Integrity::of(""));
    }

    #[test]
    fn refuses_what_is_not_one() {
        for bad in ["", "e3b0", &"E".repeat(64), &"g".repeat(64), &"0".repeat(66)] {
            assert!(bad.parse::<Sha256>().is_err(), "{bad}");
        }
        for bad in
            ["", "sha512-", "sha512-AAAA", "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=", "sha512-AAAA sha512-AAAA"]
        {
            assert!(bad.parse::<Integrity>().is_err(), "{bad}");
        }
    }
}
