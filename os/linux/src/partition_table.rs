//! Keeping both partition tables of the disk whole that the root file system came from.

use crate::PathError;
use crate::block;
use crate::direct::Direct;
use holdfast_lifecycle::partition_table::{
    ENTRIES_BYTES, Header, Mending, SECTOR_BYTES, Table, mend as decide,
};
use std::io::{Error, ErrorKind};
use std::path::Path;

const BLOCK_BYTES: u64 = 4096;
const SECTOR: u64 = 512;

/// The state in which the tables were found, and which one was mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mended {
    /// Both tables were whole.
    Nothing,
    /// The first was lost.
    First,
    /// The second was lost, or was not at the end of the disk.
    Second,
    /// Both tables are lost, and stay so.
    Lost,
}

/// Makes both tables of the disk whole that holds the verity root.
///
/// # Errors
/// The disk cannot be found, read or written.
pub fn mend() -> Result<Mended, PathError> {
    match block::root_disk()? {
        Some(disk) => mend_on(&disk.path),
        None => Ok(Mended::Nothing),
    }
}

fn mend_on(path: &Path) -> Result<Mended, PathError> {
    let mut disk = Direct::open(path)?;
    let sectors = disk.length()? / SECTOR;
    // One header is in the second sector, the other in the last (UEFI specification, section 5.3).
    let first = read(&disk, sectors, 1)?;
    let second = read(&disk, sectors, sectors.saturating_sub(1))?;
    let (mended, writes) = match decide(sectors, first.as_ref(), second.as_ref()) {
        Mending::None => return Ok(Mended::Nothing),
        Mending::Lost => return Ok(Mended::Lost),
        Mending::First(writes) => (Mended::First, writes),
        Mending::Second(writes) => (Mended::Second, writes),
    };
    // In their order: a header comes behind the entries that it has the checksum of, so that one that is cut off is none.
    for (sector, bytes) in writes {
        write(&disk, path, sector.saturating_mul(SECTOR), &bytes)?;
    }
    Ok(mended)
}

/// The table whose header is at a place; none where it is not whole.
fn read(disk: &Direct, sectors: u64, place: u64) -> Result<Option<Table>, PathError> {
    let header = disk.bytes(place.saturating_mul(SECTOR), SECTOR_BYTES)?;
    let Some(header) = Header::read(&header, place) else {
        return Ok(None);
    };
    let at = header.entries_at();
    let bytes = u64::try_from(ENTRIES_BYTES).unwrap_or(u64::MAX);
    // Where its entries are is the header's word, which may lead beyond the disk.
    let Some(at) = at.checked_mul(SECTOR).filter(|at| {
        at.checked_add(bytes).is_some_and(|end| end <= sectors.saturating_mul(SECTOR))
    }) else {
        return Ok(None);
    };
    Ok(Table::of(header, disk.bytes(at, ENTRIES_BYTES)?))
}

/// Writes bytes in the middle of blocks, of which the rest stays as it is, and compares what the medium has then.
fn write(disk: &Direct, path: &Path, at: u64, bytes: &[u8]) -> Result<(), PathError> {
    let before = at.checked_rem(BLOCK_BYTES).unwrap_or(0);
    let start = at.saturating_sub(before);
    let skip = usize::try_from(before).unwrap_or(usize::MAX);
    let end = skip.saturating_add(bytes.len());
    let whole = end.next_multiple_of(usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX));
    // Direct access is by whole blocks, and the boot ROM's first stage may lie in one of them, between a header and its
    // entries: what is around goes back as it came.
    let mut blocks = disk.bytes(start, whole)?;
    if let Some(place) = blocks.get_mut(skip..end) {
        place.copy_from_slice(bytes);
    }
    let mut writer = disk.writer_from(start);
    writer.put(&blocks)?;
    writer.finish()?;
    // A worn-out card reports success and keeps what it had.
    if disk.bytes(at, bytes.len())? == bytes {
        return Ok(());
    }
    let other = Error::new(ErrorKind::InvalidData, "the medium has something else");
    Err(PathError::new("write the partition table of", path, other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::FileExt;

    /// A table that sgdisk has made would do; this one has the same shape: 128 entries in front of the partitions.
    fn disk(path: &Path, length: u64) {
        let crc = |bytes: &[u8]| {
            bytes.iter().fold(u32::MAX, |sum, byte| {
                (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
                    (sum >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(sum & 1))
                })
            }) ^ u32::MAX
        };
        let entries = vec![0x5a; ENTRIES_BYTES];
        let mut header = [0u8; SECTOR_BYTES];
        let mut put = |at: usize, bytes: &[u8]| {
            for (place, byte) in header.iter_mut().skip(at).zip(bytes) {
                *place = *byte;
            }
        };
        put(0, b"EFI PART");
        put(12, &92u32.to_le_bytes());
        put(24, &1u64.to_le_bytes());
        put(32, &(length / SECTOR).saturating_sub(1).to_le_bytes());
        put(40, &2048u64.to_le_bytes());
        put(72, &2016u64.to_le_bytes());
        put(80, &128u32.to_le_bytes());
        put(84, &128u32.to_le_bytes());
        put(88, &crc(&entries).to_le_bytes());
        let sum = crc(&header[..92]);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        let file = fs::File::create(path).unwrap();
        file.set_len(length).unwrap();
        // The boot ROM's first stage, between the table and its entries.
        file.write_all_at(&[7; 3072], 1024).unwrap();
        file.write_all_at(&header, SECTOR).unwrap();
        file.write_all_at(&entries, 2016 * SECTOR).unwrap();
    }

    #[test]
    fn a_lost_table_comes_back_and_its_neighbours_stay() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("../../target/table-{}", std::process::id()));
        disk(&path, 4 << 20);
        assert_eq!(mend_on(&path).unwrap(), Mended::Second);
        assert_eq!(mend_on(&path).unwrap(), Mended::Nothing);
        // A larger card.
        let file = fs::File::options().read(true).write(true).open(&path).unwrap();
        file.set_len(8 << 20).unwrap();
        assert_eq!(mend_on(&path).unwrap(), Mended::Second);
        let good = fs::read(&path).unwrap();
        // The header alone, and the entries alone.
        for (at, length) in [(SECTOR, 512), (2016 * SECTOR, 16_384)] {
            file.write_all_at(&vec![0; length], at).unwrap();
            assert_eq!(mend_on(&path).unwrap(), Mended::First);
            let found = fs::read(&path).unwrap();
            assert!(found[1024..] == good[1024..], "something else was written");
            assert_eq!(mend_on(&path).unwrap(), Mended::Nothing);
        }
        file.write_all_at(&[0; 512], SECTOR).unwrap();
        file.write_all_at(&[0; 512], (8 << 20) - SECTOR).unwrap();
        assert_eq!(mend_on(&path).unwrap(), Mended::Lost);
        fs::remove_file(path).unwrap();
    }
}
