//! The hardened build: the files of a package in, an artifact and a private escrow of source maps out.
//!
//! One file per step in [`step`]; each works on the whole tree and is recorded with the digests of the tree
//! before and after it.

mod error;
mod request;

pub use error::{CodeFrame, HardenError};
pub use request::{EcmaVersion, Hardened, LegalComments, Options, Request, SourceFile};

/// Hardens a package.
pub fn harden(_request: &Request<'_>) -> Result<Hardened, HardenError> {
    Err(HardenError::Cancelled)
}
