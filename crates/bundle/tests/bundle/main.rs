//! The sealed container, its archive and its layout: as they are made, and as somebody else would like them to be.

mod attacks;
#[expect(unreachable_pub, reason = "the fuzzer's targets are crates of their own")]
#[path = "../../fuzz/checks.rs"]
mod checks;
#[cfg(unix)]
mod crash;
mod delivery;
mod interop;
mod made_up;
mod message;
mod reference;
mod sample;
mod signatures;
mod staging;
