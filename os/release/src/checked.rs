//! The bytes of a slot as they arrive: each part is verified by a hash that is signed, or that follows from one,
//! before it is handed on.
//!
//! A part is a chunk of the FIT, whose hash the release names, or a block of the root, whose hash is a leaf of the tree
//! that the release's root hash stands for. The tree itself follows from the leaves.

use crate::Release;
use crate::reuse::{self, CHUNK_BYTES, CHUNK_HASH_BYTES};
use holdfast_sandbox::verity::{self, BLOCK_BYTES, DIGEST_BYTES, SLOT_SALT};
use thiserror::Error;

/// A part of a release has other bytes than its hash says.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("what comes at byte {at} is not what was released")]
pub struct Mismatch {
    /// Offset of that part in the release, in bytes.
    pub at: u64,
}

/// Hashes by which the bytes of an OS release are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    length: u64,
    boot_bytes: u64,
    chunks: Vec<[u8; CHUNK_HASH_BYTES]>,
    root_hash: [u8; DIGEST_BYTES],
    root: Option<Root>,
}

/// Leaves and hash tree of the root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Root {
    leaves: Vec<[u8; DIGEST_BYTES]>,
    /// The levels of the tree above the leaves, then the leaves, in the order in which they follow the data.
    tree: Vec<u8>,
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl Known {
    /// Takes the hashes that the metadata name for a release of `length` bytes. Returns `None` where those of the FIT
    /// are missing, or the release has no root; the leaves of the root come later, by
    /// [`with_leaves`](Self::with_leaves).
    #[must_use]
    pub fn of(release: &Release, length: u64) -> Option<Self> {
        let (chunks, root_hash) = (release.boot_chunks()?, release.root_hash()?);
        let boot_bytes = release.boot_bytes;
        let root_bytes = length.checked_sub(boot_bytes)?;
        let data_bytes = verity::data_bytes(root_bytes)?;
        let mut known = Self { length, boot_bytes, chunks, root_hash, root: None };
        // A single block has no tree: the root hash is its own.
        if data_bytes == wide(BLOCK_BYTES) {
            known.root = Some(Root { leaves: vec![root_hash], tree: Vec::new() });
        }
        Some(known)
    }

    /// Adds the leaves of the root's hash tree. Returns `None` where they do not lead to the signed root hash.
    #[must_use]
    pub fn with_leaves(self, leaves: Vec<[u8; DIGEST_BYTES]>) -> Option<Self> {
        let tree = verity::tree(&SLOT_SALT, leaves.clone())?;
        let bytes = wide(leaves.len()).checked_mul(wide(BLOCK_BYTES))?;
        let whole = self.boot_bytes.checked_add(bytes)?.checked_add(wide(tree.bytes.len()))?;
        let fits = tree.root_hash == self.root_hash && whole == self.length;
        fits.then_some(Self { root: Some(Root { leaves, tree: tree.bytes }), ..self })
    }

    /// Returns the leaves of the root's hash tree; none before they are known.
    #[must_use]
    pub fn leaves(&self) -> &[[u8; DIGEST_BYTES]] {
        self.root.as_ref().map_or(&[], |root| &root.leaves)
    }

    /// Returns the bytes of the root's hash tree; none before its leaves are known.
    #[must_use]
    pub fn tree(&self) -> &[u8] {
        self.root.as_ref().map_or(&[], |root| &root.tree)
    }

    /// Returns the length in bytes of the part that begins at offset `at`; `None` behind the end, and in a root whose
    /// leaves are not known.
    #[must_use]
    pub fn part_at(&self, at: u64) -> Option<usize> {
        let (most, left) = match self.boot_bytes.checked_sub(at).filter(|left| *left > 0) {
            Some(left) => (CHUNK_BYTES, left),
            None => (BLOCK_BYTES, self.root.as_ref().and(self.length.checked_sub(at))?),
        };
        let bytes = most.min(usize::try_from(left).unwrap_or(usize::MAX));
        (bytes > 0).then_some(bytes)
    }

    /// Verifies the whole part that begins at offset `at`.
    ///
    /// # Errors
    /// The part has other bytes, or none begins there.
    pub fn judge(&self, at: u64, part: &[u8]) -> Result<(), Mismatch> {
        if self.is_released(at, part) { Ok(()) } else { Err(Mismatch { at }) }
    }

    fn is_released(&self, at: u64, part: &[u8]) -> bool {
        if self.part_at(at) != Some(part.len()) {
            return false;
        }
        let number = |at: u64, of: usize| {
            let number = at.checked_div(wide(of)).filter(|_| at.is_multiple_of(wide(of)))?;
            usize::try_from(number).ok()
        };
        let Some(in_root) = at.checked_sub(self.boot_bytes) else {
            let expected = number(at, CHUNK_BYTES).and_then(|number| self.chunks.get(number));
            return expected == Some(&reuse::chunk_hash(part));
        };
        let (Some(root), Some(number)) = (&self.root, number(in_root, BLOCK_BYTES)) else {
            return false;
        };
        if let Some(leaf) = root.leaves.get(number) {
            return *leaf == verity::digest(&SLOT_SALT, part);
        }
        let mut blocks = root.tree.chunks(BLOCK_BYTES);
        blocks.nth(number.saturating_sub(root.leaves.len())) == Some(part)
    }
}

/// Verifies the bytes of a release in order, in pieces of any length.
#[derive(Debug)]
pub struct Checker<'a> {
    known: &'a Known,
    /// Offset of the part that is collected in `part`.
    at: u64,
    part: Vec<u8>,
}

impl<'a> Checker<'a> {
    /// Begins at the first byte of the release.
    #[must_use]
    pub fn new(known: &'a Known) -> Self {
        Self { known, at: 0, part: Vec::new() }
    }

    /// Takes the next bytes and hands each part to `put` once it is whole and verified. Bytes of a root whose leaves
    /// are not known are handed on as they come.
    ///
    /// # Errors
    /// The bytes are not those of the release, or `put` fails.
    pub fn take<E: From<Mismatch>>(
        &mut self,
        mut bytes: &[u8],
        mut put: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            let Some(length) = self.known.part_at(self.at) else {
                let left = self.known.length.saturating_sub(self.at);
                if self.known.root.is_some() || wide(bytes.len()) > left {
                    return Err(Mismatch { at: self.at }.into());
                }
                self.at = self.at.saturating_add(wide(bytes.len()));
                return put(bytes);
            };
            let missing = length.saturating_sub(self.part.len());
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            bytes = later;
            self.part.extend_from_slice(now);
            if self.part.len() == length {
                self.known.judge(self.at, &self.part)?;
                put(&self.part)?;
                self.at = self.at.saturating_add(wide(length));
                self.part.clear();
            }
        }
        Ok(())
    }

    /// Returns how many bytes were handed on.
    #[must_use]
    pub fn checked(&self) -> u64 {
        self.at
    }

    /// Checks that the whole release has come.
    ///
    /// # Errors
    /// Something is missing.
    pub fn finish(&self) -> Result<(), Mismatch> {
        let whole = self.part.is_empty() && self.at == self.known.length;
        if whole { Ok(()) } else { Err(Mismatch { at: self.at }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sandbox::held::ReleaseSubject;
    use holdfast_types::Version;
    use holdfast_types::hex::hex;
    use proptest::prelude::*;

    /// A release of a FIT of so many blocks and a root of so many, with the leaves of its tree.
    fn release(fit: usize, blocks: usize) -> (Release, Vec<u8>, Vec<[u8; DIGEST_BYTES]>) {
        let noise = |bytes: usize, seed: usize| -> Vec<u8> {
            let byte = |i: usize| (i / 61).wrapping_add((i / 4096).wrapping_mul(7));
            (0..bytes).map(|i| byte(i).wrapping_add(seed).to_le_bytes()[0]).collect()
        };
        let mut bytes = noise(fit.saturating_mul(BLOCK_BYTES), 1);
        let chunks = bytes.chunks(CHUNK_BYTES).map(|chunk| hex(&reuse::chunk_hash(chunk)));
        let boot_chunks = chunks.collect();
        let data = noise(blocks.saturating_mul(BLOCK_BYTES), 5);
        let leaves: Vec<_> =
            data.chunks(BLOCK_BYTES).map(|block| verity::digest(&SLOT_SALT, block)).collect();
        let tree = verity::tree(&SLOT_SALT, leaves.clone()).unwrap();
        let release = Release {
            subject: ReleaseSubject::Os,
            product: String::new(),
            board: "qemu-virt".to_owned(),
            version: Version::default(),
            rollback_index: 0,
            least_os: Version::default(),
            boot_bytes: wide(bytes.len()),
            root_hash: hex(&tree.root_hash),
            boot_chunks,
            boot_digest: String::new(),
            feed: None,
        };
        bytes.extend(data);
        bytes.extend(tree.bytes);
        (release, bytes, leaves)
    }

    /// What is handed on of bytes that come in such pieces, and how it ends.
    fn handed_on(known: &Known, bytes: &[u8], piece: usize) -> (Vec<u8>, Result<(), Mismatch>) {
        let (mut put, mut checker) = (Vec::new(), Checker::new(known));
        let taken = bytes.chunks(piece).try_for_each(|piece| {
            checker.take(piece, |part| {
                put.extend_from_slice(part);
                Ok::<(), Mismatch>(())
            })
        });
        (put, taken.and_then(|()| checker.finish()))
    }

    #[test]
    fn the_leaves_of_another_root_are_refused() {
        let (release, bytes, leaves) = release(9, 300);
        let known = Known::of(&release, wide(bytes.len())).unwrap();
        assert!(known.leaves().is_empty() && known.part_at(release.boot_bytes).is_none());
        let whole = known.clone().with_leaves(leaves.clone()).unwrap();
        assert_eq!(whole.leaves(), leaves);
        for wrong in [0, 150, 299] {
            let mut leaves = leaves.clone();
            leaves[wrong][0] ^= 1;
            assert_eq!(known.clone().with_leaves(leaves), None, "leaf {wrong}");
        }
        assert_eq!(known.clone().with_leaves(leaves[1..].to_vec()), None);
        assert_eq!(known.clone().with_leaves(Vec::new()), None);
        // Of a FIT without hashes nothing could be said.
        let unnamed = Release { boot_chunks: String::new(), ..release.clone() };
        assert_eq!(Known::of(&unnamed, wide(bytes.len())), None);
        assert_eq!(Known::of(&release, wide(bytes.len()) - 1), None);
    }

    #[test]
    fn a_root_of_one_block_is_its_own_leaf() {
        let (release, bytes, leaves) = release(1, 1);
        let known = Known::of(&release, wide(bytes.len())).unwrap();
        assert_eq!((known.leaves(), known.tree()), (&*leaves, &[][..]));
        assert_eq!(handed_on(&known, &bytes, 1000), (bytes.clone(), Ok(())));
        let mut wrong = bytes;
        wrong[5000] ^= 1;
        assert_eq!(handed_on(&known, &wrong, 1000).1, Err(Mismatch { at: 4096 }));
    }

    #[test]
    fn nothing_of_a_part_is_handed_on_that_is_not_what_was_released() {
        let (release, bytes, leaves) = release(9, 300);
        let known = Known::of(&release, wide(bytes.len())).unwrap();
        let known = known.with_leaves(leaves).unwrap();
        assert_eq!(handed_on(&known, &bytes, 16_384), (bytes.clone(), Ok(())));
        let boot = usize::try_from(release.boot_bytes).unwrap();
        // The first byte of all, the last chunk, which is shorter, the first and the last block, and the tree.
        for at in [0, boot - 1, boot, boot + 299 * 4096, boot + 300 * 4096, bytes.len() - 1] {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            let part = if at < boot { at / CHUNK_BYTES * CHUNK_BYTES } else { at / 4096 * 4096 };
            let (put, result) = handed_on(&known, &wrong, 16_384);
            assert_eq!(result, Err(Mismatch { at: wide(part) }), "byte {at}");
            assert!(put == bytes[..part], "{} bytes were handed on, byte {at} is wrong", put.len());
        }
        // Too few, and too many.
        assert_eq!(handed_on(&known, &bytes[..boot], 999).1, Err(Mismatch { at: wide(boot) }));
        let more = [&bytes[..], &[0]].concat();
        assert_eq!(handed_on(&known, &more, 999).1, Err(Mismatch { at: wide(bytes.len()) }));
    }

    #[test]
    fn a_root_without_leaves_is_handed_on_and_its_fit_is_not() {
        let (release, bytes, _) = release(9, 300);
        let known = Known::of(&release, wide(bytes.len())).unwrap();
        let boot = usize::try_from(release.boot_bytes).unwrap();
        let mut wrong = bytes.clone();
        wrong[boot] ^= 1;
        assert_eq!(handed_on(&known, &wrong, 5000), (wrong, Ok(())));
        let mut wrong = bytes.clone();
        wrong[boot - 1] ^= 1;
        assert_eq!(handed_on(&known, &wrong, 5000).1, Err(Mismatch { at: 32_768 }));
        let more = [&bytes[..], &[0]].concat();
        handed_on(&known, &more, 5000).1.unwrap_err();
    }

    proptest! {
        #[test]
        fn whatever_the_pieces_only_the_release_goes_through(
            fit in 1usize..20, blocks in 1usize..140, piece in 1usize..50_000, at in any::<usize>(),
        ) {
            let (release, bytes, leaves) = release(fit, blocks);
            let known = Known::of(&release, wide(bytes.len())).unwrap();
            let known = known.with_leaves(leaves).unwrap();
            prop_assert!(handed_on(&known, &bytes, piece) == (bytes.clone(), Ok(())));
            let mut wrong = bytes.clone();
            let at = at.checked_rem(bytes.len()).unwrap();
            wrong[at] ^= 4;
            let (put, result) = handed_on(&known, &wrong, piece);
            prop_assert!(result.is_err() && bytes.starts_with(&put) && put.len() <= at);
        }
    }
}
