//! Block reuse: which parts of a new slot the running one has already, by their hashes, and which are fetched.
//!
//! A part is a block of the root, known by its leaf in the hash tree, or a chunk of the FIT, known by what the
//! release says of it. Where a part lies does not matter, so that what moved is found.

use holdfast_sandbox::verity::{self, BLOCK_BYTES, DIGEST_BYTES};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// Bytes of a chunk of the FIT.
pub const CHUNK_BYTES: usize = 32 * 1024;
/// Bytes of a chunk's hash in a release, the first half of a SHA-256: enough to find a chunk. What is written is
/// verified by its whole SHA-256.
pub const CHUNK_HASH_BYTES: usize = 16;
/// Longest run of held parts, between two fetched ones, that is fetched with them: a request of its own costs more.
const GAP: usize = 3;

/// Consecutive parts of a new slot from one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// Parts that the device has, in this order.
    Held {
        /// Number of the first part in the running slot.
        from: usize,
        /// Number of parts.
        count: usize,
    },
    /// Parts to be fetched.
    Fetched {
        /// Number of the first part in the new slot.
        from: usize,
        /// Number of parts.
        count: usize,
    },
}

/// Splits a new slot, by the hashes of its parts, into runs that are held and runs that are to be fetched. They follow
/// one another without a gap.
#[must_use]
pub fn runs<H: Eq + std::hash::Hash + Copy>(new: &[H], held: &[H]) -> Vec<Run> {
    let places: HashMap<H, usize> = held.iter().rev().copied().zip((0..held.len()).rev()).collect();
    let mut runs: Vec<Run> = Vec::new();
    for (at, hash) in new.iter().enumerate() {
        // What goes on where the last one ended is better than the same somewhere else.
        let next = match runs.last() {
            Some(Run::Held { from, count }) => from.checked_add(*count),
            _ => None,
        };
        let next = next.filter(|next| held.get(*next) == Some(hash));
        let place = next.or_else(|| places.get(hash).copied());
        match (runs.last_mut(), place) {
            (Some(Run::Held { from, count }), Some(place))
                if from.saturating_add(*count) == place =>
            {
                *count = count.saturating_add(1);
            }
            (_, Some(from)) => runs.push(Run::Held { from, count: 1 }),
            (Some(Run::Fetched { count, .. }), None) => *count = count.saturating_add(1),
            (_, None) => runs.push(Run::Fetched { from: at, count: 1 }),
        }
    }
    bridged(runs)
}

/// Turns short held runs between two fetched ones into fetched ones.
fn bridged(runs: Vec<Run>) -> Vec<Run> {
    let mut bridged: Vec<Run> = Vec::new();
    let mut waiting: Vec<Run> = Vec::new();
    for run in runs {
        match run {
            Run::Held { .. } => waiting.push(run),
            Run::Fetched { count, .. } => {
                let between: usize = waiting.iter().map(|run| run.count()).sum();
                match bridged.last_mut() {
                    Some(Run::Fetched { count: before, .. }) if between <= GAP => {
                        *before = before.saturating_add(between).saturating_add(count);
                        waiting.clear();
                    }
                    _ => {
                        bridged.append(&mut waiting);
                        bridged.push(run);
                    }
                }
            }
        }
    }
    bridged.append(&mut waiting);
    bridged
}

impl Run {
    /// Returns the number of parts.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Held { count, .. } | Self::Fetched { count, .. } => *count,
        }
    }
}

/// Returns the hash by which a release names a chunk of its FIT.
#[must_use]
pub fn chunk_hash(chunk: &[u8]) -> [u8; CHUNK_HASH_BYTES] {
    let digest: [u8; 32] = Sha256::digest(chunk).into();
    digest.first_chunk().copied().unwrap_or_default()
}

/// Returns the offset of the hash tree's leaves behind `data_bytes` of data, and their length with padding: they are
/// the last level of the tree. `None` where a single block has no tree.
#[must_use]
pub fn leaves(data_bytes: u64) -> Option<(u64, usize)> {
    let block = u64::try_from(BLOCK_BYTES).ok()?;
    let blocks = data_bytes.checked_div(block).filter(|blocks| *blocks > 1)?;
    let tree = verity::tree_blocks(blocks).checked_mul(block)?;
    let bytes = blocks.checked_mul(u64::try_from(DIGEST_BYTES).ok()?)?.next_multiple_of(block);
    let at = data_bytes.checked_add(tree)?.checked_sub(bytes)?;
    Some((at, usize::try_from(bytes).ok()?))
}

/// Splits the last level of a hash tree over `data_bytes` of data into its digests.
#[must_use]
pub fn digests(level: &[u8], data_bytes: u64) -> Option<Vec<[u8; DIGEST_BYTES]>> {
    let blocks = usize::try_from(data_bytes).ok()?.checked_div(BLOCK_BYTES)?;
    let (digests, _) = level.as_chunks::<DIGEST_BYTES>();
    digests.get(..blocks).map(<[_]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sandbox::verity::{SLOT_SALT, digest, tree};
    use proptest::prelude::*;

    fn held(from: usize, count: usize) -> Run {
        Run::Held { from, count }
    }

    fn fetched(from: usize, count: usize) -> Run {
        Run::Fetched { from, count }
    }

    #[test]
    fn what_is_there_is_not_fetched_wherever_it_lies() {
        let old = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(runs(&old, &old), [held(0, 8)]);
        assert_eq!(runs(&[9, 1, 2, 3, 4, 5], &old), [fetched(0, 1), held(0, 5)]);
        assert_eq!(runs(&[5, 6, 7, 8, 1, 2, 3, 4], &old), [held(4, 4), held(0, 4)]);
        assert_eq!(runs(&[9, 10], &old), [fetched(0, 2)]);
        assert_eq!(runs::<u8>(&[], &old), []);
        // Zeros lie in many places: the one that goes on is taken.
        assert_eq!(runs(&[0, 0, 1], &[0, 0, 0, 1]), [held(0, 2), held(3, 1)]);
    }

    #[test]
    fn a_short_run_between_two_that_are_fetched_is_fetched_with_them() {
        let old = [1, 2, 3, 4, 5, 6];
        assert_eq!(runs(&[9, 1, 2, 3, 9], &old), [fetched(0, 5)]);
        assert_eq!(runs(&[9, 1, 2, 3, 4, 9], &old), [fetched(0, 1), held(0, 4), fetched(5, 1)]);
    }

    #[test]
    fn the_leaves_are_the_last_level_of_the_tree() {
        for blocks in [2u64, 127, 128, 129, 300, 20_000] {
            let data: Vec<u8> = (0..blocks).flat_map(|i| i.to_le_bytes()).collect();
            let digests_of: Vec<_> =
                data.chunks(8).map(|block| digest(&SLOT_SALT, block)).collect();
            let made = tree(&SLOT_SALT, digests_of.clone()).unwrap();
            let (at, bytes) = leaves(blocks * 4096).unwrap();
            let begin = usize::try_from(at - blocks * 4096).unwrap();
            assert_eq!(begin.checked_add(bytes), Some(made.bytes.len()), "{blocks} blocks");
            let found = digests(&made.bytes[begin..], blocks * 4096).unwrap();
            assert!(found == digests_of, "{blocks} blocks");
        }
        assert_eq!(leaves(4096), None);
        assert_eq!(leaves(0), None);
    }

    proptest! {
        #[test]
        fn runs_make_the_new_slot_and_nothing_else(
            new in proptest::collection::vec(0u8..12, 0..60),
            old in proptest::collection::vec(0u8..12, 0..60),
        ) {
            let mut made: Vec<u8> = Vec::new();
            for run in runs(&new, &old) {
                match run {
                    Run::Held { from, count } => made.extend(&old[from..][..count]),
                    Run::Fetched { from, count } => {
                        prop_assert_eq!(from, made.len());
                        made.extend(&new[from..][..count]);
                    }
                }
            }
            prop_assert_eq!(made, new);
        }
    }
}
