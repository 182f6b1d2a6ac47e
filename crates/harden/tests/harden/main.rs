//! Packages in, hardened packages out, run under Node.

mod artifact;
mod behaviour;
mod bundle;
mod compile;
mod declarations;
mod fuzz;
mod module_graphs;
mod obfuscate;
mod random;
mod record;
mod retrace;
mod shape;
mod support;
