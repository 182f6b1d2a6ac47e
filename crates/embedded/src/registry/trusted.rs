//! Whom the provenance of a version is believed.

use protected_evidence::verify::{Trust, TrustError};

/// The trusted roots, in the order in which they are tried.
pub(crate) struct Trusted {
    /// What stock npm trusts.
    pub(super) npm: Trust,
    /// A further instance of Sigstore that the configuration names.
    pub(super) other: Option<Trust>,
}

impl Trusted {
    /// Takes trusted roots (JSON): npm's in place of the public-good instance's, and a further one.
    pub(crate) fn new(npm: Option<&[u8]>, other: Option<&[u8]>) -> Result<Self, TrustError> {
        Ok(Self {
            npm: npm.map_or_else(Trust::public_good, Trust::from_trusted_root)?,
            other: other.map(Trust::from_trusted_root).transpose()?,
        })
    }
}
