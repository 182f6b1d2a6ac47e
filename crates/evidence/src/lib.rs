//! What can be shown about a package: what is in it, how it was made, who says so, and how to check all that.
//!
//! Documents go in and come out as values and bytes. Only the signer opens a socket; nothing here reads the
//! environment, and nothing here decides what is shown.

pub mod delivery;
pub mod provenance;
pub mod sbom;
pub mod sign;
pub mod statement;
pub mod verify;
pub mod vsa;
