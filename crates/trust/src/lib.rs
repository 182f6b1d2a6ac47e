//! Who is asking, and with what right.
//!
//! An ID token goes through [`verify`], with the keys of its issuer from [`jwks`]; [`platform`] reduces its claims
//! to one shape, and [`policy`] says which trusted publishers that run is. [`mint`] signs and verifies our own
//! tokens, [`oci`] those for a Docker registry, [`registry_key`] signs what a registry took, and [`local_issuer`]
//! imitates a CI platform on this machine.
//!
//! Nothing here keeps a ledger of used ID tokens: [`verify`] says under which key one is kept and until when, and
//! whoever mints inserts it in the same transaction.

pub mod issuer;
pub mod jwks;
pub mod key;
pub mod local_issuer;
pub mod mint;
pub mod oci;
pub mod platform;
pub mod policy;
pub mod private_file;
pub mod registry_key;
pub mod replay;
pub mod verify;

mod compact;
mod rsa_key;
mod shown;
