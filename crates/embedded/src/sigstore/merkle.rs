//! The Merkle tree of a log (RFC 6962 section 2.1), over stored subtrees.
//!
//! A node is the hash of a complete subtree: `(level, index)` is that of the leaves from `index << level` on,
//! `1 << level` of them. Such a subtree never changes once it is full, so each node is written once, and a root or a
//! proof of any size that the log ever had needs no more of them than the tree is high, squared.

use sha2::{Digest as _, Sha256};

/// A hash of the tree.
pub(super) type Hash = [u8; 32];

/// Returns the hash of a leaf (RFC 6962 section 2.1: a zero byte first, so that no leaf is a node).
pub(super) fn leaf(content: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(content).finalize().into()
}

fn parent(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// Reads a node that is there.
pub(super) trait Nodes {
    /// Why a node cannot be read.
    type Error;

    /// Returns the hash of the complete subtree at `level` and `index`.
    fn node(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// Returns the nodes that a leaf completes when it is added to a tree of `size` leaves, the leaf itself first.
pub(super) fn added<N: Nodes>(nodes: &N, size: u64, leaf: Hash) -> Result<Vec<(u8, u64, Hash)>, N::Error> {
    let mut complete = vec![(0, size, leaf)];
    let (mut level, mut index, mut hash) = (0, size, leaf);
    while index & 1 == 1 {
        hash = parent(&nodes.node(level, index - 1)?, &hash);
        (level, index) = (level + 1, index >> 1);
        complete.push((level, index, hash));
    }
    Ok(complete)
}

/// Returns the hash of the first `size` leaves.
pub(super) fn root<N: Nodes>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    range(nodes, 0, size)
}

/// Returns the hash of `size` leaves from `start` on, where a recursion of RFC 6962 can get to.
fn range<N: Nodes>(nodes: &N, start: u64, size: u64) -> Result<Hash, N::Error> {
    let mut hash: Option<Hash> = None;
    let mut end = start + size;
    // From the smallest subtree, on the right, to the largest.
    for level in 0..64_u8 {
        if (size >> level) & 1 == 1 {
            end -= 1 << level;
            let left = nodes.node(level, end >> level)?;
            hash = Some(hash.map_or(left, |right| parent(&left, &right)));
        }
    }
    Ok(hash.unwrap_or_else(|| Sha256::digest([]).into()))
}

/// Returns the largest power of two that is less than `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

/// Returns the path of a leaf in the tree of `size` leaves (RFC 6962 section 2.1.1), for `index < size`.
pub(super) fn inclusion<N: Nodes>(nodes: &N, mut index: u64, mut size: u64) -> Result<Vec<Hash>, N::Error> {
    let mut path = Vec::new();
    let mut start = 0;
    while size > 1 {
        let left = split(size);
        if index < left {
            path.push(range(nodes, start + left, size - left)?);
            size = left;
        } else {
            path.push(range(nodes, start, left)?);
            (index, start, size) = (index - left, start + left, size - left);
        }
    }
    path.reverse();
    Ok(path)
}

/// Returns what shows that the tree of `old` leaves is the beginning of the one of `size` (RFC 6962 section 2.1.2),
/// for `0 < old <= size`.
pub(super) fn consistency<N: Nodes>(nodes: &N, mut old: u64, mut size: u64) -> Result<Vec<Hash>, N::Error> {
    let mut path = Vec::new();
    let (mut start, mut whole) = (0, true);
    while old != size {
        let left = split(size);
        if old <= left {
            path.push(range(nodes, start + left, size - left)?);
            size = left;
        } else {
            path.push(range(nodes, start, left)?);
            (old, start, size, whole) = (old - left, start + left, size - left, false);
        }
    }
    if !whole {
        path.push(range(nodes, start, size)?);
    }
    path.reverse();
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use sigstore_merkle::{hash_children, hash_leaf, verify_consistency_proof, verify_inclusion_proof};
    use sigstore_types::Sha256Hash;

    use super::*;

    #[derive(Default)]
    struct Tree {
        nodes: HashMap<(u8, u64), Hash>,
        size: u64,
    }

    impl Nodes for Tree {
        type Error = (u8, u64);

        fn node(&self, level: u8, index: u64) -> Result<Hash, (u8, u64)> {
            self.nodes.get(&(level, index)).copied().ok_or((level, index))
        }
    }

    impl Tree {
        fn of(leaves: &[Vec<u8>]) -> Self {
            let mut tree = Self::default();
            for content in leaves {
                for (level, index, hash) in added(&tree, tree.size, leaf(content)).expect("nodes") {
                    assert!(tree.nodes.insert((level, index), hash).is_none(), "written once");
                }
                tree.size += 1;
            }
            tree
        }
    }

    /// The definition, by another program's hashes.
    fn by_definition(leaves: &[Vec<u8>]) -> Sha256Hash {
        match leaves {
            [] => Sha256Hash::new(Sha256::digest([]).into()),
            [one] => hash_leaf(one),
            more => {
                let left = more.len().next_power_of_two() / 2;
                hash_children(&by_definition(&more[..left]), &by_definition(&more[left..]))
            }
        }
    }

    fn theirs(hashes: &[Hash]) -> Vec<Sha256Hash> {
        hashes.iter().map(|hash| Sha256Hash::new(*hash)).collect()
    }

    fn leaves() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..8), 1..80)
    }

    proptest! {
        #[test]
        fn every_root_is_the_definition(leaves in leaves()) {
            let tree = Tree::of(&leaves);
            for size in 0..=leaves.len() {
                prop_assert_eq!(
                    Sha256Hash::new(root(&tree, size as u64).expect("root")),
                    by_definition(&leaves[..size])
                );
            }
        }

        #[test]
        fn every_leaf_is_shown_and_nothing_else(leaves in leaves(), flip in any::<prop::sample::Index>()) {
            let tree = Tree::of(&leaves);
            let size = 1 + flip.index(leaves.len()) as u64;
            let hash = by_definition(&leaves[..size as usize]);
            for index in 0..size {
                let mut path = theirs(&inclusion(&tree, index, size).expect("path"));
                let leaf = hash_leaf(&leaves[index as usize]);
                prop_assert!(verify_inclusion_proof(&leaf, index, size, &path, &hash).is_ok(), "{} of {}", index, size);
                prop_assert!(verify_inclusion_proof(&hash_leaf(b"something else"), index, size, &path, &hash).is_err());
                if let Some(last) = path.last_mut() {
                    *last = hash_leaf(b"something else");
                    prop_assert!(verify_inclusion_proof(&leaf, index, size, &path, &hash).is_err());
                }
            }
        }

        #[test]
        fn every_beginning_is_shown(leaves in leaves()) {
            let tree = Tree::of(&leaves);
            let size = leaves.len() as u64;
            let new = by_definition(&leaves);
            for old in 1..=size {
                let path = theirs(&consistency(&tree, old, size).expect("path"));
                let before = by_definition(&leaves[..old as usize]);
                prop_assert!(verify_consistency_proof(old, size, &path, &before, &new).is_ok(), "{} of {}", old, size);
                let other = hash_leaf(b"something else");
                prop_assert!(verify_consistency_proof(old, size, &path, &other, &new).is_err());
            }
        }
    }
}
