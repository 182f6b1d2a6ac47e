//! The actions as their users meet them: their text, their documentation, and real runs under act.

mod act;
mod contract;
mod deliveries;
#[path = "../end_to_end/harness.rs"]
#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
mod harness;
mod key_service;
#[path = "../end_to_end/openbao.rs"]
#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
mod openbao;
#[path = "../end_to_end/proxy.rs"]
#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
mod proxy;
#[path = "../end_to_end/raw.rs"]
mod raw;
mod runs;
mod setup;
mod static_checks;
mod suite;
