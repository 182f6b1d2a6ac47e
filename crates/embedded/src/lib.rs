//! FractalOps' package contract and an npm registry on one machine, with its data on disk.
//!
//! It decides who may do what ([`fractalops`]), stores packages and checks each request again ([`registry`]), hands
//! out the tokens of a Docker registry ([`oci`]), and can imitate CI platforms' issuers for demos and tests. Nothing
//! here is a client of either service: what crosses the wire is defined in `protected-model` and pinned there.
//!
//! What every handler shares is in [`app`], which knows what it is made of and no handler. The handlers are above it;
//! [`server`] and the OpenAPI document are on top, and alone know all of them.

mod app;
mod audit;
mod auth;
mod body;
mod caching;
mod config;
mod endpoint;
mod error;
mod finish;
mod fractalops;
mod idempotency;
mod issuers;
mod local_issuer;
mod oci;
mod openapi;
mod problem;
mod registry;
mod request;
mod revocation;
mod server;
mod session;
mod sigstore;
mod store;
#[cfg(test)]
mod tests;
mod x509;

pub use config::{Config, ConfigError, Limits, Server};
pub use error::ServeError;
pub use oci::OciError;
pub use openapi::openapi;
pub use server::serve;
pub use sigstore::AuthorityError;
pub use store::StoreError;
pub use x509::X509Error;
