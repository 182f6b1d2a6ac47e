//! The nouns of the suite: names, claims, wire bodies, manifests, secrets and hints.
//!
//! Nothing here opens a file, a socket or the environment. Client and embedded server share these types, so
//! the JSON of everything that crosses a wire or lands in a file is pinned by snapshots in this crate.

pub mod action;
pub mod api;
pub mod build;
pub mod claims;
pub mod delivery;
pub mod digest;
pub mod environment;
pub mod escrow;
pub mod hint;
pub mod identity;
pub mod integrity;
pub mod key_ref;
pub mod name;
pub mod oci;
pub mod pattern;
pub mod secret;
pub mod service_url;
mod text;
pub mod time;
pub mod version;
