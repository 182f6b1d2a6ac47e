//! The service as its clients see it: a real socket, real signatures, a real folder.

mod service;

mod audit;
pub(crate) mod builds;
mod config;
mod delivery;
mod evidence;
mod exchange;
mod npm_token;
mod oci;
mod provenance;
mod restart;
mod sigstore;
mod socket;
