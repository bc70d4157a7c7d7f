//! The superblock of an ext4 file system that a cut has torn (kernel document `filesystems/ext4/super`).
//!
//! The kernel writes it when it mounts and unmounts, in one piece of two sectors. Cut between the two, and the
//! checksum in the second is that of other counters and times in the first: the file system is sound, and the kernel
//! refuses it. Which half is newer makes no difference to anything but those.

use crc::{Algorithm, Crc, NoTable};

/// Place of the superblock, in bytes.
pub const OFFSET: usize = 1024;
/// Length of the superblock, in bytes.
pub const BYTES: usize = 1024;

const MAGIC: (usize, u16) = (0x38, 0xef53);
/// `s_feature_ro_compat`, and its bit for checksums of metadata.
const RO_COMPAT: (usize, u32) = (0x64, 0x400);
/// `s_checksum_type`, and the number of CRC-32C.
const CHECKSUM_TYPE: (usize, u8) = (0x175, 1);
const CHECKSUM: usize = 0x3fc;

/// CRC-32C as the kernel's `crc32c` makes it: what came out is not inverted.
const CRC32C: Algorithm<u32> = Algorithm {
    width: 32,
    poly: 0x1edc_6f41,
    init: u32::MAX,
    refin: true,
    refout: true,
    xorout: 0,
    check: 0x1cf9_6d7c,
    residue: 0,
};

/// The superblock with the checksum that it should have; `None` where it has it, or is no superblock with one.
#[must_use]
pub fn mended(superblock: &[u8; BYTES]) -> Option<[u8; BYTES]> {
    let bytes = |at: usize| superblock.get(at..).and_then(|rest| rest.first_chunk::<4>());
    let magic = superblock.get(MAGIC.0..).and_then(|rest| rest.first_chunk::<2>())?;
    let features = u32::from_le_bytes(*bytes(RO_COMPAT.0)?);
    let has_checksum = u16::from_le_bytes(*magic) == MAGIC.1
        && features & RO_COMPAT.1 != 0
        && superblock.get(CHECKSUM_TYPE.0) == Some(&CHECKSUM_TYPE.1);
    let (covered, checksum) = superblock.split_at_checked(CHECKSUM)?;
    let expected = Crc::<u32, NoTable>::new(&CRC32C).checksum(covered).to_le_bytes();
    if !has_checksum || checksum == expected {
        return None;
    }
    let mut mended = *superblock;
    mended.get_mut(CHECKSUM..)?.copy_from_slice(&expected);
    Some(mended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock() -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[0x38..0x3a].copy_from_slice(&0xef53u16.to_le_bytes());
        bytes[0x64..0x68].copy_from_slice(&0x400u32.to_le_bytes());
        bytes[0x175] = 1;
        mended(&bytes).unwrap()
    }

    #[test]
    fn the_checksum_is_the_one_of_the_kernel() {
        let crc = Crc::<u32, NoTable>::new(&CRC32C);
        // CRC-32C of the usual check is e3069283; the kernel does not invert it.
        assert_eq!(crc.checksum(b"123456789"), !0xe306_9283);
    }

    #[test]
    fn a_torn_superblock_is_mended_and_nothing_else_is() {
        let whole = superblock();
        assert_eq!(mended(&whole), None);
        let mut torn = whole;
        torn[0x30] ^= 1;
        let again = mended(&torn).unwrap();
        assert_eq!(again[..CHECKSUM], torn[..CHECKSUM]);
        assert_eq!(mended(&again), None);
        for (at, byte) in [(0x38, 0), (0x65, 0), (0x175, 0)] {
            let mut other = torn;
            other[at] = byte;
            assert_eq!(mended(&other), None, "byte {at}");
        }
    }
}
