//! Obfuscation: passes over one program's syntax, each in its own file.
//!
//! What tools that undo obfuscation look for is in none of them: there is no decoder that can be run by itself, no
//! table in a fixed form, no order of blocks written down. Decoding reads state that the program computes as it
//! starts, and which of several forms a piece takes follows from the seed.

mod mark;
mod random;
mod state;

pub use mark::Mark;
pub use random::Seed;

use swc_core::ecma::ast::Program;

pub(crate) use self::{mark::Constants, random::Random, state::State};
use crate::{Profile, js::Session};

/// What the passes over one file work with.
pub(crate) struct Work<'a> {
    pub(crate) session: &'a Session,
    pub(crate) profile: Profile,
    /// This file's choices.
    pub(crate) random: Random,
    /// Numbers for places where any number will do.
    pub(crate) constants: Constants,
}

/// Obfuscates a program whose names are resolved.
pub(crate) fn obfuscate(_program: &mut Program, _work: &mut Work<'_>) {}
