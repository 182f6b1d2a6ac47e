//! What a used ID token is remembered by.

use std::fmt;

use protected_model::digest::Sha256;

/// The key under which a used ID token is kept, so that it works once. Safe as a database key: 68 ASCII characters
/// at most, whatever the token says.
///
/// It is kept until [`retain_until`](crate::verify::VerifiedIdToken::retain_until); before that, the token would
/// verify again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplayKey(String);

impl ReplayKey {
    /// Returns the key of a token that its issuer numbers.
    pub(crate) fn of_id(issuer: &str, jti: &str) -> Self {
        // The length keeps ("a", "bc") and ("ab", "c") apart.
        Self(format!("jti:{}", Sha256::of(format!("{} {issuer}{jti}", issuer.len()))))
    }

    /// Returns the key of a token that has no `jti`: Jenkins, CircleCI, Buildkite and Bitbucket number none.
    ///
    /// Attack: of an ECDSA signature (r, s) the form (r, n - s) verifies as well. A digest over the whole token
    /// would take that for another token, so the signature stays out of it.
    pub(crate) fn of_message(message: &str) -> Self {
        Self(format!("msg:{}", Sha256::of(message)))
    }

    /// Returns the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReplayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
