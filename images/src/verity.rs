//! File systems with their hash trees ([`holdfast_sandbox::verity`]), cross-checked against
//! `veritysetup verify` by a test.

use crate::sha256;
use holdfast_sandbox::verity;
pub use holdfast_sandbox::verity::BLOCK_BYTES;

/// A file system with its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verity {
    /// Number of data blocks; the tree begins behind them.
    pub data_blocks: u64,
    /// The tree, top level first, as it follows the data on disk.
    pub tree: Vec<u8>,
    /// Hash of the top block.
    pub root_hash: [u8; 32],
    /// Salt of the tree.
    pub salt: [u8; 32],
}

/// Hashes the files of an app, whose length must be a multiple of [`BLOCK_BYTES`] above zero, behind a salt
/// of their own: a digest of the data, as good as random and the same in every build.
///
/// Returns `None` for any other length.
#[must_use]
pub fn hash_package(data: &[u8]) -> Option<Verity> {
    hash_with_salt(data, sha256(&[b"holdfast verity salt", data]))
}

/// Hashes a slot's root in the same way, behind the salt of all of them.
#[must_use]
pub fn hash_root(data: &[u8]) -> Option<Verity> {
    hash_with_salt(data, verity::SLOT_SALT)
}

/// As [`hash_package`], with the salt of a tree that is there.
#[must_use]
pub fn hash_with_salt(data: &[u8], salt: [u8; 32]) -> Option<Verity> {
    if !data.len().is_multiple_of(BLOCK_BYTES) {
        return None;
    }
    let leaves: Vec<_> =
        data.chunks(BLOCK_BYTES).map(|block| verity::digest(&salt, block)).collect();
    let data_blocks = u64::try_from(leaves.len()).ok()?;
    let tree = verity::tree(&salt, leaves)?;
    Some(Verity { data_blocks, tree: tree.bytes, root_hash: tree.root_hash, salt })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;
    use std::fs;
    use std::process::Command;

    #[test]
    fn lengths_that_are_no_whole_blocks_are_refused() {
        assert_eq!(hash_root(&[]), None);
        assert_eq!(hash_root(&[0; BLOCK_BYTES + 1]), None);
    }

    #[test]
    fn one_flipped_bit_changes_the_root_hash_root() {
        let mut data = vec![7; BLOCK_BYTES * 300];
        let before = hash_root(&data).unwrap();
        assert_eq!(before.tree.len(), BLOCK_BYTES * 4, "three leaf blocks and one above");
        for blocks in [1usize, 2, 128, 129, 16_385] {
            let tree = hash_root(&vec![7; BLOCK_BYTES * blocks]).unwrap().tree;
            let expected = verity::tree_blocks(blocks as u64);
            assert_eq!((tree.len() / BLOCK_BYTES) as u64, expected, "{blocks} blocks");
        }
        data[BLOCK_BYTES * 299] ^= 1;
        assert_ne!(hash_root(&data).unwrap().root_hash, before.root_hash);
    }

    #[test]
    fn veritysetup_accepts_the_tree() {
        for blocks in [2usize, 128, 129, 16_385] {
            let data: Vec<u8> =
                (0..blocks * BLOCK_BYTES).map(|i| (i / 97).to_le_bytes()[0]).collect();
            let verity = hash_root(&data).unwrap();
            let directory = tempfile::tempdir().unwrap();
            let (data_file, tree_file) =
                (directory.path().join("data"), directory.path().join("tree"));
            fs::write(&data_file, &data).unwrap();
            fs::write(&tree_file, &verity.tree).unwrap();
            let output = Command::new("/usr/sbin/veritysetup")
                .args(["verify", "--no-superblock", "--format=1", "--hash=sha256"])
                .args(["--data-block-size=4096", "--hash-block-size=4096"])
                .arg(format!("--data-blocks={blocks}"))
                .arg(format!("--salt={}", hex(&verity.salt)))
                .args([&data_file, &tree_file])
                .arg(hex(&verity.root_hash))
                .output()
                .expect("veritysetup runs");
            assert!(output.status.success(), "{blocks} blocks: {output:?}");
        }
    }
}
