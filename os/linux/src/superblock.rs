//! Mending the superblock of an ext4 file system on its partition.

use crate::PathError;
use crate::direct::Direct;
use holdfast_lifecycle::superblock::{BYTES, OFFSET, mended};
use std::path::Path;

/// The block that the superblock lies in.
const BLOCK_BYTES: usize = 4096;

/// Gives a torn superblock its checksum. False where there is nothing to mend.
///
/// # Errors
/// The partition cannot be read or written.
pub fn mend(partition: &Path) -> Result<bool, PathError> {
    let disk = Direct::open(partition)?;
    let mut block = disk.bytes(0, BLOCK_BYTES)?;
    let place = block.get_mut(OFFSET..).and_then(|rest| rest.first_chunk_mut::<BYTES>());
    let Some(place) = place else { return Ok(false) };
    let Some(whole) = mended(place) else { return Ok(false) };
    *place = whole;
    // The superblock is a part of this block, the rest of which goes back as it came.
    let mut writer = disk.writer();
    writer.put(&block)?;
    writer.finish()?;
    Ok(true)
}
