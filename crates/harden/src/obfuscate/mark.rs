//! The mark of a delivery: numbers in the code that only its key predicts.
//!
//! Obfuscated code holds many numbers whose value is free to choose. In a marked build each is one of the mark's
//! numbers, which neither reformatting nor renaming changes.

use protected_model::digest::Sha256;

use super::random::{Random, Seed};

/// How many numbers a mark has. Enough that the files of a package seldom share some, and few enough that a handful of
/// them in a text is no chance.
pub(crate) const MARK_NUMBERS: usize = MARK_BLOCKS as usize * Random::BLOCK_WORDS;
const MARK_BLOCKS: u64 = 8192;

/// The mark of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark(Seed);

impl Mark {
    /// Derives the mark of `delivery` from the project's build secret.
    pub fn derive(secret: &[u8], delivery: &str) -> Self {
        Self(Seed::derive(Some(secret), &Sha256::of(format!("protected-registry/mark/v1\0{delivery}"))))
    }

    /// Returns the mark's numbers from where `file` takes them: each file from elsewhere, so that no number which
    /// stands in several files tells that it is one of a mark.
    pub(crate) fn numbers_of(&self, file: &str) -> Constants {
        let start = self.0.random("mark of a file").fork(file).below(MARK_BLOCKS as usize);
        Constants(self.0.random("mark").within(MARK_BLOCKS, start as u64))
    }

    /// Returns every number of the mark, the same ones each time.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = i32> {
        let mut numbers = Constants(self.0.random("mark").within(MARK_BLOCKS, 0));
        (0..MARK_NUMBERS).map(move |_| numbers.next())
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
