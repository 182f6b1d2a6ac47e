//! Runs the real binaries against real peers.

mod attach;
mod cancel;
mod clients;
mod crash;
mod deliver;
mod document;
mod evidence;
mod faults;
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
