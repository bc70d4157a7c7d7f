//! The hash tree of dm-verity: format 1, SHA-256, blocks of 4096 bytes, no superblock.
//!
//! Source: kernel document `admin-guide/device-mapper/verity`.

use sha2::{Digest, Sha256};

/// Size of data and hash blocks in bytes.
pub const BLOCK_BYTES: usize = 4096;
/// Bytes of a digest.
pub const DIGEST_BYTES: usize = 32;
const DIGESTS_PER_BLOCK: usize = BLOCK_BYTES / DIGEST_BYTES;
/// Salt of the hash tree of a slot's root. The salt is the same in every release, so that two of
/// them tell by their trees alone which blocks they share.
pub const SLOT_SALT: [u8; 32] = *b"holdfast root file system salt 1";

/// The tree over some data blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Hash blocks, top level first, as they follow the data on disk.
    pub bytes: Vec<u8>,
    /// Hash of the top block.
    pub root_hash: [u8; 32],
}

/// The digest of one block.
#[must_use]
pub fn digest(salt: &[u8; 32], block: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(block).finalize().into()
}

/// The tree above the digests of data blocks; `None` where there are none.
#[must_use]
pub fn tree(salt: &[u8; 32], leaves: Vec<[u8; 32]>) -> Option<Tree> {
    let mut digests = leaves;
    let mut levels = Vec::new();
    while digests.len() > 1 {
        let mut level = Vec::new();
        for group in digests.chunks(DIGESTS_PER_BLOCK) {
            let mut block = group.concat();
            block.resize(BLOCK_BYTES, 0);
            level.extend_from_slice(&block);
        }
        digests = level.chunks(BLOCK_BYTES).map(|block| digest(salt, block)).collect();
        levels.push(level);
    }
    levels.reverse();
    Some(Tree { bytes: levels.concat(), root_hash: digests.first().copied()? })
}

/// Number of blocks in the tree over so many data blocks.
#[must_use]
pub fn tree_blocks(data_blocks: u64) -> u64 {
    let per_block = u64::try_from(DIGESTS_PER_BLOCK).unwrap_or(u64::MAX);
    let mut level = data_blocks;
    let mut blocks = 0u64;
    while level > 1 {
        level = level.div_ceil(per_block);
        blocks = blocks.saturating_add(level);
    }
    blocks
}

/// Returns how many of so many bytes are data, where the rest is the tree over them; `None` where they are no
/// data with their tree.
#[must_use]
pub fn data_bytes(total_bytes: u64) -> Option<u64> {
    let block = u64::try_from(BLOCK_BYTES).ok()?;
    let total = total_bytes.checked_div(block).filter(|_| total_bytes.is_multiple_of(block))?;
    // With each data block more the whole grows by at least one.
    let (mut least, mut most) = (1, total);
    while least < most {
        let middle = least.midpoint(most);
        if middle.saturating_add(tree_blocks(middle)) < total {
            least = middle.saturating_add(1);
        } else {
            most = middle;
        }
    }
    (least.saturating_add(tree_blocks(least)) == total).then(|| least.saturating_mul(block))
}

/// Looks at data with the tree behind it, piece by piece, from the first byte to the last.
#[derive(Debug)]
pub struct Reader {
    salt: [u8; 32],
    data_blocks: u64,
    leaves: Vec<[u8; 32]>,
    tree: Vec<u8>,
    tree_bytes: usize,
    /// The bytes so far of a block that is not complete.
    part: Vec<u8>,
}

impl Reader {
    /// Begins with the length of data and tree together, in bytes.
    ///
    /// Returns `None` where so many bytes are no data with their tree.
    #[must_use]
    pub fn new(salt: [u8; 32], total_bytes: u64) -> Option<Self> {
        let data = data_bytes(total_bytes)?;
        let tree_bytes = usize::try_from(total_bytes.checked_sub(data)?).ok()?;
        let data_blocks = data.checked_div(u64::try_from(BLOCK_BYTES).ok()?)?;
        let (leaves, tree, part) = (Vec::new(), Vec::new(), Vec::new());
        Some(Self { salt, data_blocks, leaves, tree, tree_bytes, part })
    }

    /// The next bytes.
    pub fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let seen = u64::try_from(self.leaves.len()).unwrap_or(u64::MAX);
            if seen >= self.data_blocks {
                // One byte too many is enough to know.
                let room = self.tree_bytes.saturating_add(1).saturating_sub(self.tree.len());
                self.tree.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
                return;
            }
            let missing = BLOCK_BYTES.saturating_sub(self.part.len());
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.part.extend_from_slice(now);
            bytes = later;
            if self.part.len() == BLOCK_BYTES {
                self.leaves.push(digest(&self.salt, &self.part));
                self.part.clear();
            }
        }
    }

    /// The root hash, where the tree is that of the data and nothing is missing or too much.
    #[must_use]
    pub fn root_hash(self) -> Option<[u8; 32]> {
        let seen = u64::try_from(self.leaves.len()).ok()?;
        if seen != self.data_blocks || !self.part.is_empty() {
            return None;
        }
        let made = tree(&self.salt, self.leaves)?;
        (made.bytes == self.tree).then_some(made.root_hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with_tree(blocks: usize) -> (Vec<u8>, [u8; 32]) {
        let bytes = blocks.saturating_mul(BLOCK_BYTES);
        let mut data: Vec<u8> = (0..bytes).map(|i| (i / 97).to_le_bytes()[0]).collect();
        let leaves = data.chunks(BLOCK_BYTES).map(|block| digest(&SLOT_SALT, block)).collect();
        let tree = tree(&SLOT_SALT, leaves).unwrap();
        assert_eq!((tree.bytes.len() / BLOCK_BYTES) as u64, tree_blocks(blocks as u64));
        data.extend(tree.bytes);
        (data, tree.root_hash)
    }

    fn read(bytes: &[u8], piece: usize) -> Option<[u8; 32]> {
        let mut reader = Reader::new(SLOT_SALT, bytes.len() as u64)?;
        bytes.chunks(piece).for_each(|piece| reader.take(piece));
        reader.root_hash()
    }

    #[test]
    fn data_is_told_from_its_tree_by_their_length() {
        for blocks in (1..300).chain([16_383, 16_384, 16_385, 100_000]) {
            let total = (blocks + tree_blocks(blocks)) * 4096;
            assert_eq!(data_bytes(total), Some(blocks * 4096), "{blocks} blocks");
        }
        for wrong in [0, 1, 4095, 2 * 4096, 130 * 4096, u64::MAX] {
            assert_eq!(data_bytes(wrong), None, "{wrong} bytes");
        }
    }

    #[test]
    fn a_reader_accepts_the_tree_of_the_data_and_no_other() {
        for blocks in [1, 2, 127, 128, 129, 300] {
            let (bytes, root) = with_tree(blocks);
            assert_eq!(read(&bytes, 1000), Some(root), "{blocks} blocks");
            for at in [0, blocks * BLOCK_BYTES - 1, bytes.len() - 1] {
                let mut wrong = bytes.clone();
                wrong[at] ^= 1;
                assert_ne!(read(&wrong, 4096), Some(root), "byte {at} of {blocks} blocks");
            }
            let mut reader = Reader::new(SLOT_SALT, bytes.len() as u64).unwrap();
            reader.take(&bytes);
            reader.take(&[0]);
            let more = reader.root_hash();
            // A single block has no tree, and its reader looks at nothing behind it but that it is there.
            assert_eq!(more, None, "{blocks} blocks and a byte");
            let mut reader = Reader::new(SLOT_SALT, bytes.len() as u64).unwrap();
            reader.take(&bytes[..bytes.len() - 1]);
            assert_eq!(reader.root_hash(), None, "{blocks} blocks less a byte");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_pieces_the_answer_is_one(piece in 1usize..9000, at in 0usize..20_000) {
            let (mut bytes, root) = with_tree(3);
            prop_assert_eq!(read(&bytes, piece), Some(root));
            let at = at.checked_rem(bytes.len()).unwrap_or(0);
            bytes[at] ^= 4;
            prop_assert_ne!(read(&bytes, piece), Some(root));
        }
    }
}
