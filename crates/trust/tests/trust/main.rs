//! The trust crate from outside: what attackers send, and what honest platforms do.

mod id_token;
mod jwks;
mod mint;
mod oci;
mod policy;
mod support;
