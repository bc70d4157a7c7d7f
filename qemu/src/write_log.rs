//! What a guest has written to its disk, in order: the log of QEMU's `blklogwrites`.
//!
//! Source: the format of the kernel's `dm-log-writes` (kernel document
//! `admin-guide/device-mapper/log-writes`), sectors of 512 bytes, all numbers little-endian.

use crate::HarnessError;
use std::path::Path;

const SECTOR_BYTES: usize = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// One step of whoever writes a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Bytes for a place on the disk.
    Write {
        /// First byte.
        at: u64,
        /// What was written.
        bytes: Vec<u8>,
    },
    /// Everything before is on the medium.
    Flush,
}

/// Reads a log.
///
/// # Errors
/// There is none, or it is damaged.
pub fn read(path: &Path) -> Result<Vec<Step>, HarnessError> {
    let bytes = std::fs::read(path).map_err(|source| HarnessError::File {
        operation: "read",
        path: path.to_owned(),
        source,
    })?;
    entries(&bytes).ok_or_else(|| HarnessError::WriteLog(path.to_owned()))
}

fn entries(log: &[u8]) -> Option<Vec<Step>> {
    let number = |at: usize| {
        let bytes = log.get(at..)?.first_chunk::<8>()?;
        Some(u64::from_le_bytes(*bytes))
    };
    if number(0)? != MAGIC || number(8)? != 1 {
        return None;
    }
    let count = number(16)?;
    let mut logged = Vec::new();
    let mut at = SECTOR_BYTES;
    for _ in 0..count {
        let (sector, sectors, flags) =
            (number(at)?, number(at.checked_add(8)?)?, number(at.checked_add(16)?)?);
        at = at.checked_add(SECTOR_BYTES)?;
        if flags & FLUSH != 0 {
            logged.push(Step::Flush);
        }
        if flags & DISCARD == 0 && sectors > 0 {
            let end = at.checked_add(usize::try_from(sectors).ok()?.checked_mul(SECTOR_BYTES)?)?;
            let bytes = log.get(at..end)?.to_vec();
            at = end;
            logged.push(Step::Write { at: sector.checked_mul(SECTOR_BYTES as u64)?, bytes });
        }
        if flags & FUA != 0 {
            logged.push(Step::Flush);
        }
    }
    Some(logged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_flushes_are_read_in_order() {
        let mut log = vec![0; SECTOR_BYTES];
        log[..8].copy_from_slice(&MAGIC.to_le_bytes());
        log[8] = 1;
        log[16] = 3;
        for (sector, sectors, flags, fill) in [(8u8, 1u8, 0u8, 7u8), (0, 0, 1, 0), (9, 2, 2, 5)] {
            let mut entry = vec![0; SECTOR_BYTES];
            (entry[0], entry[8], entry[16]) = (sector, sectors, flags);
            log.extend(entry);
            log.extend(vec![fill; usize::from(sectors) * SECTOR_BYTES]);
        }
        let expected = [
            Step::Write { at: 4096, bytes: vec![7; 512] },
            Step::Flush,
            Step::Write { at: 4608, bytes: vec![5; 1024] },
            Step::Flush,
        ];
        assert_eq!(entries(&log).as_deref(), Some(&expected[..]));
        assert_eq!(entries(&log[..1600]), None, "cut short");
        assert_eq!(entries(b"something else"), None);
    }
}
