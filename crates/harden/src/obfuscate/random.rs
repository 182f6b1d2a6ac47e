//! Choices that look random and repeat: the same seed and labels give the same choices on any machine.

use protected_model::digest::Sha256;

/// What every choice of one build follows from. It is as secret as the choices are meant to be.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed([u8; 32]);

impl Seed {
    /// Derives the seed of a build from the project's build secret and the digest of what is built.
    ///
    /// Without a secret the seed follows from the source alone: whoever holds the source can repeat the build, and
    /// nobody else knows the digest, which is one that no document holds.
    pub fn derive(secret: Option<&[u8]>, source_tree: &Sha256) -> Self {
        let secret = Sha256::of(secret.unwrap_or_default());
        Self(digest(&[b"protected-registry/seed/v1", secret.as_bytes(), source_tree.as_bytes()]))
    }

    /// Returns what may be told of the seed: whoever learns the seed later can check that it was this one.
    pub fn commitment(&self) -> Sha256 {
        Sha256::from_bytes(digest(&[b"protected-registry/seed-commitment/v1", &self.0]))
    }

    /// Starts the choices of one purpose. Choices of different labels do not depend on each other.
    pub(crate) fn random(&self, label: &str) -> Random {
        Random {
            key: digest(&[b"protected-registry/choices/v1", &self.0, label.as_bytes()]),
            block: 0,
            blocks: u64::MAX,
            words: Vec::new(),
        }
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// A stream of choices: SHA-256 in counter mode.
#[derive(Clone)]
pub(crate) struct Random {
    key: [u8; 32],
    block: u64,
    /// After how many it starts again.
    blocks: u64,
    words: Vec<u32>,
}

impl Random {
    /// How many words one digest gives.
    pub(crate) const BLOCK_WORDS: usize = 8;

    /// Starts at a block, and starts again after so many.
    pub(crate) fn within(mut self, blocks: u64, start: u64) -> Self {
        self.blocks = blocks;
        self.block = start;
        self
    }

    /// Starts the choices of a part of this purpose.
    pub(crate) fn fork(&self, label: &str) -> Self {
        Self {
            key: digest(&[b"fork", &self.key, label.as_bytes()]),
            block: 0,
            blocks: u64::MAX,
            words: Vec::new(),
        }
    }

    pub(crate) fn word(&mut self) -> u32 {
        if let Some(word) = self.words.pop() {
            return word;
        }
        let block = digest(&[&self.key, &self.block.to_le_bytes()]);
        self.block = (self.block + 1) % self.blocks;
        let words = block.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
        self.words.extend(words);
        self.words.pop().unwrap_or_default()
    }

    /// Returns a number below `bound`, which is not 0. Small bounds only: the bias is `bound / 2^32`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u64::from(self.word()) * bound as u64) >> 32) as usize
    }

    /// Returns true once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Returns one of `choices`, which has one at least.
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Brings `items` into another order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut text = Vec::new();
    for part in parts {
        text.extend_from_slice(&(part.len() as u64).to_le_bytes());
        text.extend_from_slice(part);
    }
    *Sha256::of(text).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_repeat_and_labels_part_them() {
        let seed = Seed::derive(Some(b"secret"), &Sha256::of("source"));
        let words = |label: &str| -> Vec<u32> {
            let mut random = seed.random(label);
            (0..20).map(|_| random.word()).collect()
        };
        assert_eq!(words("a"), words("a"));
        assert_ne!(words("a"), words("b"));
        assert_ne!(seed, Seed::derive(None, &Sha256::of("source")));
        assert_ne!(seed, Seed::derive(Some(b"secret"), &Sha256::of("other")));
        assert_eq!(format!("{seed:?}"), "Seed(..)");
    }

    #[test]
    fn choices_reach_every_value() {
        let mut random = Seed::derive(None, &Sha256::of("")).random("");
        let mut seen = [0; 7];
        (0..700).for_each(|_| seen[random.below(7)] += 1);
        assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
        let mut items: Vec<u32> = (0..50).collect();
        random.shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
