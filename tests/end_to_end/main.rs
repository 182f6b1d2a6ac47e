//! Runs the real binaries against real peers.

mod cancel;
mod clients;
mod crash;
mod document;
mod faults;
mod harness;
mod proxy;
mod publish;
mod race;
mod raw;
mod refusals;
