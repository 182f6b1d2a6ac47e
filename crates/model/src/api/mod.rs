//! The bodies that cross the wire between client, FractalOps and registry.

pub mod audit;
pub mod build;
pub mod delivery;
pub mod entitlement;
pub mod evidence;
pub mod npm_token;
pub mod oauth;
pub mod oci_token;
pub mod problem;
