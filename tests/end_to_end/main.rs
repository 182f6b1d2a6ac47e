//! Runs the real binaries against real peers.

mod attach;
mod aws;
mod azure;
mod cancel;
mod clients;
mod crash;
mod deliver;
mod delivery_signing;
mod document;
mod evidence;
mod faults;
#[path = "../../crates/keys/tests/gcp_kms/fake.rs"]
#[expect(dead_code, reason = "here nobody asks for more than a signature")]
mod google;
mod grants;
mod hardening;
mod harness;
mod install;
mod openbao;
mod proxy;
mod publish;
mod race;
mod raw;
mod real_packages;
mod refusals;
mod retrace;
mod sbom;
mod signatures;
mod signing;
mod tamper;
mod trace;
mod verify;
