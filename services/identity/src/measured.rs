//! The digest of what runs, as the boot loader measures it: SHA-256 of the slot's FIT, in its own length.

use holdfast_evidence::policy::BootDigest;
use holdfast_linux::PathError;
use holdfast_linux::direct::Direct;
use sha2::{Digest, Sha256};

/// Bytes of the header of a flattened device tree (Devicetree Specification 0.4, 5.2), which a FIT is.
pub const HEADER_BYTES: u64 = 40;
const MAGIC: [u8; 4] = [0xd0, 0x0d, 0xfe, 0xed];

/// Errors of measuring what runs.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The partition cannot be read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The partition does not begin with a FIT.
    #[error("the running slot's boot partition does not begin with a FIT")]
    NoFit,
    /// The FIT says that it is longer than its partition, or shorter than a header.
    #[error("the running slot's FIT says it has {length} bytes, in a partition of {partition}")]
    Length {
        /// The length that it says, in bytes.
        length: u64,
        /// The length of the partition in bytes.
        partition: u64,
    },
}

/// Returns the length of a FIT from its header: `totalsize`, in big-endian order.
///
/// # Errors
/// No FIT, or a length that its partition has no room for.
pub fn fit_length(header: &[u8], partition: u64) -> Result<u64, MeasureError> {
    let (magic, rest) = header.split_first_chunk::<4>().ok_or(MeasureError::NoFit)?;
    let length = rest.first_chunk::<4>().ok_or(MeasureError::NoFit)?;
    if *magic != MAGIC {
        return Err(MeasureError::NoFit);
    }
    let length = u64::from(u32::from_be_bytes(*length));
    if (HEADER_BYTES..=partition).contains(&length) {
        Ok(length)
    } else {
        Err(MeasureError::Length { length, partition })
    }
}

/// Measures the slot that runs, from its boot partition.
///
/// # Errors
/// See [`MeasureError`].
pub fn boot_digest(mut boot: Direct) -> Result<BootDigest, MeasureError> {
    let partition = boot.length()?;
    if partition < HEADER_BYTES {
        return Err(MeasureError::NoFit);
    }
    let mut header = Vec::new();
    boot.read(HEADER_BYTES, |piece| header.extend_from_slice(piece))?;
    let mut hash = Sha256::new();
    boot.read(fit_length(&header, partition)?, |piece| hash.update(piece))?;
    Ok(BootDigest(hash.finalize().into()))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "a panic is a failed test"
    )]
    use super::*;
    use std::fs::File;
    use std::io::Write;

    fn measured(bytes: &[u8]) -> Result<BootDigest, MeasureError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let file: File = file;
        boot_digest(Direct::from_descriptor(file.into(), "boot"))
    }

    /// A partition with a FIT that says it has this length, and more behind it.
    fn partition(length: u32) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[1]).collect();
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&length.to_be_bytes());
        bytes
    }

    #[test]
    fn what_is_measured_is_the_fit_and_nothing_behind_it() {
        for length in [40, 4096, 65_537, 200_001, 300_000] {
            let mut bytes = partition(length);
            let end = usize::try_from(length).unwrap();
            let expected = BootDigest(Sha256::digest(&bytes[..end]).into());
            assert_eq!(measured(&bytes).unwrap(), expected, "{length}");
            if let Some(behind) = bytes.get_mut(end) {
                *behind ^= 1;
                assert_eq!(measured(&bytes).unwrap(), expected, "{length}");
            }
            bytes[end - 1] ^= 1;
            assert_ne!(measured(&bytes).ok(), Some(expected), "{length}");
        }
    }

    #[test]
    fn no_length_leads_out_of_the_partition() {
        for length in [0, 39, 300_001, u32::MAX] {
            let refused = measured(&partition(length)).unwrap_err();
            assert!(matches!(refused, MeasureError::Length { .. }), "{refused}");
        }
        let mut other = partition(4096);
        other[0] = 0;
        assert!(matches!(measured(&other), Err(MeasureError::NoFit)));
        assert!(matches!(measured(&MAGIC), Err(MeasureError::NoFit)));
        assert!(matches!(measured(&[]), Err(MeasureError::NoFit)));
    }
}
