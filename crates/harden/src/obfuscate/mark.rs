//! The mark of a delivery: numbers in the code that only its key predicts.
//!
//! Obfuscated code holds many numbers whose value is free to choose. In a marked build each is one of the mark's
//! numbers, which neither reformatting nor renaming changes.

use protected_model::digest::Sha256;

use super::random::{Random, Seed};

/// The mark of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark(Seed);

impl Mark {
    /// Derives the mark of `delivery` from the project's build secret.
    pub fn derive(secret: &[u8], delivery: &str) -> Self {
        Self(Seed::derive(Some(secret), &Sha256::of(format!("protected-registry/mark/v1\0{delivery}"))))
    }

    /// Returns the mark's numbers, the same ones each time.
    pub(crate) fn numbers(&self) -> Constants {
        Constants(self.0.random("mark"))
    }
}

/// Numbers for the places where any number will do: from 2^29 to 2^30, too large to occur by themselves.
#[derive(Clone)]
pub(crate) struct Constants(Random);

impl Constants {
    pub(crate) fn new(random: Random) -> Self {
        Self(random)
    }

    pub(crate) fn next(&mut self) -> i32 {
        (self.0.word() >> 3 | 1 << 29) as i32
    }
}
