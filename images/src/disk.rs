//! The disk: a GPT whose entry array leaves room for the boot loader, and partitions by name.

use crate::board::BootLoader;
use crate::manifest::ImageManifest;
use crate::{FileError, derived_uuid};
use gptman::{GPT, GPTHeader, GPTPartitionEntry};
use holdfast_lifecycle::slots::{Slot, copy_offsets};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Size of a sector in bytes.
pub const SECTOR_BYTES: u64 = 512;
const MIB: u64 = 1024 * 1024;
/// Partitions begin at multiples of this: the two copies of the boot state must lie in different
/// erase blocks, and flash likes the rest aligned as well.
pub const ALIGN_BYTES: u64 = 4 * MIB;
/// The two copies of the boot state, each in erase blocks of its own.
const BOOT_STATE_MIB: u32 = 8;
const ENTRIES: u64 = 128;
const ENTRY_ARRAY_SECTORS: u64 = ENTRIES * 128 / SECTOR_BYTES;
/// "Linux filesystem data" (0FC63DAF-8483-4772-8E79-3D69D8477DE4) as GPT stores it.
const LINUX_DATA: [u8; 16] = [
    0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4,
];

/// The partitions in their order, which is that of their numbers. A release names the root by its number, so that every
/// disk has this order for ever.
const PARTITIONS: [&str; 8] =
    ["bootstate", "boot-a", "root-a", "boot-b", "root-b", "state", "apps", "data"];

/// Returns the kernel's path of the root partition of a slot, on the disk that the kernel calls `disk`.
#[must_use]
pub fn root_device(disk: &str, slot: Slot) -> String {
    let name = format!("root-{}", slot.letter());
    let index = PARTITIONS.iter().position(|partition| *partition == name);
    format!("/dev/{disk}p{}", index.map_or(0, |index| index.saturating_add(1)))
}

/// One partition of a disk.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Partition {
    /// Name of the partition.
    pub name: String,
    /// Offset of the first byte on the disk.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
}

/// Layout of a disk: partitions and partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Length of the whole disk in bytes, a power of two as SD cards have it.
    pub length: u64,
    /// First sector of the primary entry array.
    pub entry_array: u64,
    /// Partitions, in their order on the disk.
    pub partitions: Vec<Partition>,
}

/// An error of laying out, writing or reading a disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The partition tables cannot be written.
    #[error("cannot write the partition table")]
    Table(#[source] gptman::Error),
    /// There is no partition table.
    #[error("is no Holdfast image (no partition table)")]
    NoTable(#[source] gptman::Error),
    /// The file is compressed.
    #[error("is compressed with {0}; unpack it first")]
    Compressed(&'static str),
    /// A partition that every Holdfast disk has is missing.
    #[error("is no Holdfast image (no partition `{0}`)")]
    NoPartition(String),
    /// Contents that are larger than their partition.
    #[error("{what} has {length} bytes, more than partition `{partition}` holds ({room})")]
    TooLarge {
        /// The contents.
        what: &'static str,
        /// Their length.
        length: u64,
        /// The partition.
        partition: String,
        /// Length of the partition in bytes.
        room: u64,
    },
    /// The file ends before the partition does.
    #[error("is cut short: partition `{0}` reaches beyond its end")]
    CutShort(String),
}

impl Layout {
    /// The layout that a manifest asks for.
    #[must_use]
    pub fn new(manifest: &ImageManifest, boot_loader: &BootLoader) -> Self {
        let ImageManifest { slots, storage, .. } = manifest;
        let sizes = [
            BOOT_STATE_MIB,
            slots.boot_mib,
            slots.root_mib,
            slots.boot_mib,
            slots.root_mib,
            storage.state_mib,
            storage.apps_mib,
            storage.data_mib,
        ];
        let mut partitions = Vec::new();
        let mut start = ALIGN_BYTES;
        for (name, mib) in PARTITIONS.into_iter().zip(sizes) {
            let length = u64::from(mib).saturating_mul(MIB);
            partitions.push(Partition { name: name.to_owned(), start, length });
            start = start.saturating_add(length);
        }
        // Behind the last partition lie the second table and its entry array.
        let length = start.saturating_add(MIB).next_power_of_two();
        let entry_array = boot_loader.entry_array() / SECTOR_BYTES;
        Self { length, entry_array, partitions }
    }

    /// The partition called `name`.
    ///
    /// # Errors
    /// The disk has no such partition.
    pub fn partition(&self, name: &str) -> Result<&Partition, DiskError> {
        self.partitions
            .iter()
            .find(|partition| partition.name == name)
            .ok_or_else(|| DiskError::NoPartition(name.to_owned()))
    }

    /// First byte of each copy of the boot state.
    ///
    /// # Errors
    /// There is no partition for them.
    pub fn boot_state_copies(&self) -> Result<[u64; 2], DiskError> {
        let partition = self.partition("bootstate")?;
        let offsets = copy_offsets(partition.length);
        Ok(offsets.map(|offset| partition.start.saturating_add(offset)))
    }

    /// Writes both partition tables. `identity` makes the disk's UUIDs.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_tables(&self, file: &mut File, identity: &[u8]) -> Result<(), DiskError> {
        let failed = DiskError::Table;
        let sectors = self.length / SECTOR_BYTES;
        let mut entries = vec![GPTPartitionEntry::empty(); 128];
        for (entry, partition) in entries.iter_mut().zip(&self.partitions) {
            let first = partition.start / SECTOR_BYTES;
            entry.partition_type_guid = LINUX_DATA;
            entry.unique_partition_guid =
                derived_uuid(&[b"partition", identity, partition.name.as_bytes()]);
            entry.starting_lba = first;
            entry.ending_lba =
                first.saturating_add(partition.length / SECTOR_BYTES).saturating_sub(1);
            entry.partition_name = partition.name.as_str().into();
        }
        let disk = derived_uuid(&[b"disk", identity]);
        let mut primary = GPTHeader::new_from(file, SECTOR_BYTES, disk).map_err(failed)?;
        primary.primary_lba = 1;
        primary.backup_lba = sectors.saturating_sub(1);
        primary.partition_entry_lba = self.entry_array;
        primary.first_usable_lba = self.entry_array.saturating_add(ENTRY_ARRAY_SECTORS);
        primary.last_usable_lba = sectors.saturating_sub(ENTRY_ARRAY_SECTORS).saturating_sub(2);
        let mut backup = primary.clone();
        backup.primary_lba = primary.backup_lba;
        backup.backup_lba = 1;
        backup.partition_entry_lba = primary.last_usable_lba.saturating_add(1);
        GPT::write_protective_mbr_into(file, SECTOR_BYTES).map_err(failed)?;
        primary.write_into(file, SECTOR_BYTES, &entries).map_err(failed)?;
        backup.write_into(file, SECTOR_BYTES, &entries).map_err(failed)
    }

    /// Reads the partition table of an image.
    ///
    /// # Errors
    /// There is no valid one.
    pub fn read(file: &mut File) -> Result<Self, DiskError> {
        let table = GPT::read_from(file, SECTOR_BYTES).map_err(|source| {
            let mut start = [0; 8];
            let read = file.rewind().and_then(|()| file.read_exact(&mut start));
            match read.ok().and_then(|()| compression(&start)) {
                Some(name) => DiskError::Compressed(name),
                None => DiskError::NoTable(source),
            }
        })?;
        let length = table.header.backup_lba.saturating_add(1).saturating_mul(SECTOR_BYTES);
        let partitions = table
            .iter()
            .filter(|(_, entry)| entry.is_used())
            .map(|(_, entry)| Partition {
                name: entry.partition_name.as_str().to_owned(),
                start: entry.starting_lba.saturating_mul(SECTOR_BYTES),
                length: entry
                    .ending_lba
                    .saturating_add(1)
                    .saturating_sub(entry.starting_lba)
                    .saturating_mul(SECTOR_BYTES),
            })
            .collect();
        Ok(Self { length, entry_array: table.header.partition_entry_lba, partitions })
    }
}

/// Returns the compression format of a file, by its magic number.
///
/// Source: the formats' own documents, as file(1) has them.
fn compression(start: &[u8]) -> Option<&'static str> {
    const FORMATS: [(&[u8], &str); 9] = [
        (b"\xfd7zXZ\0", "xz (`xz -dk FILE`)"),
        (b"\x1f\x8b", "gzip (`gzip -dk FILE`)"),
        (b"\x28\xb5\x2f\xfd", "Zstandard (`zstd -d FILE`)"),
        (b"BZh", "bzip2 (`bzip2 -dk FILE`)"),
        (b"PK\x03\x04", "ZIP (`unzip FILE`)"),
        (b"7z\xbc\xaf\x27\x1c", "7-Zip (`7z x FILE`)"),
        (b"\x04\x22\x4d\x18", "LZ4 (`lz4 -d FILE`)"),
        (b"LZIP", "lzip (`lzip -dk FILE`)"),
        (b"\x3a\xff\x26\xed", "Android's sparse format (`simg2img FILE IMAGE`)"),
    ];
    FORMATS.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, name)| *name)
}

/// Reads the bytes in front of the partitions: a boot loader, where the board has it on the card.
///
/// # Errors
/// The file cannot be read.
pub fn read_boot_loader(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(FileError::at("open", path))?;
    file.take(ALIGN_BYTES).read_to_end(&mut bytes).map_err(FileError::at("read", path))?;
    Ok(bytes)
}

impl Partition {
    /// Writes `contents` to the partition's start, leaving holes where they are zero.
    ///
    /// # Errors
    /// The contents do not fit, or the file cannot be written.
    pub fn write(
        &self,
        file: &mut File,
        path: &Path,
        what: &'static str,
        contents: &[u8],
    ) -> Result<(), DiskError> {
        const CHUNK: usize = 4096;
        let length = u64::try_from(contents.len()).unwrap_or(u64::MAX);
        if length > self.length {
            let partition = self.name.clone();
            return Err(DiskError::TooLarge { what, length, partition, room: self.length });
        }
        let mut at = self.start;
        for chunk in contents.chunks(CHUNK) {
            if chunk.iter().any(|byte| *byte != 0) {
                file.seek(SeekFrom::Start(at)).map_err(FileError::at("seek in", path))?;
                file.write_all(chunk).map_err(FileError::at("write", path))?;
            }
            at = at.saturating_add(CHUNK as u64);
        }
        Ok(())
    }

    /// Writes `contents` over whatever the partition holds.
    ///
    /// # Errors
    /// The contents do not fit, or the file cannot be written.
    pub fn replace(
        &self,
        file: &mut File,
        path: &Path,
        what: &'static str,
        contents: &[u8],
    ) -> Result<(), DiskError> {
        let zeros = vec![0; usize::try_from(self.length).unwrap_or(0)];
        file.seek(SeekFrom::Start(self.start)).map_err(FileError::at("seek in", path))?;
        file.write_all(&zeros).map_err(FileError::at("write", path))?;
        self.write(file, path, what, contents)
    }

    /// Reads the whole partition.
    ///
    /// # Errors
    /// The file cannot be read or is too short.
    pub fn read(&self, file: &mut File, path: &Path) -> Result<Vec<u8>, DiskError> {
        let mut contents = Vec::new();
        file.seek(SeekFrom::Start(self.start)).map_err(FileError::at("seek in", path))?;
        Read::by_ref(file)
            .take(self.length)
            .read_to_end(&mut contents)
            .map_err(FileError::at("read", path))?;
        if u64::try_from(contents.len()).is_ok_and(|length| length < self.length) {
            return Err(DiskError::CutShort(self.name.clone()));
        }
        Ok(contents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Board;
    use crate::manifest::{Slots, Storage};
    use std::path::PathBuf;

    fn boot_loader() -> BootLoader {
        let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("boards");
        Board::load(&boards, "qemu-virt", Path::new("x")).unwrap().boot_loader
    }

    fn manifest() -> ImageManifest {
        ImageManifest {
            debugged: None,
            schema: 1,
            name: "first".to_owned(),
            version: "1.0.0".to_owned(),
            board: "qemu-virt".to_owned(),
            hostname: "holdfast".to_owned(),
            memory_mib: 64,
            product: String::new(),
            rollback_index: 0,
            apps: Vec::new(),
            trust: crate::manifest::Trust::default(),
            services: Vec::new(),
            update: None,
            service: None,
            network: None,
            slots: Slots { boot_mib: 8, root_mib: 8 },
            storage: Storage { state_mib: 8, apps_mib: 32, data_mib: 16 },
            path: PathBuf::new(),
        }
    }

    #[test]
    fn partitions_are_aligned_apart_and_behind_the_boot_loader() {
        let layout = Layout::new(&manifest(), &boot_loader());
        assert!(layout.length.is_power_of_two());
        let mut end = layout.entry_array * SECTOR_BYTES + 128 * 128;
        assert_eq!(end, MIB, "the entry array ends where the boot loader's room does");
        for partition in &layout.partitions {
            assert!(partition.start.is_multiple_of(ALIGN_BYTES) && partition.start >= end);
            end = partition.start + partition.length;
        }
        assert!(end + MIB <= layout.length);
        let boot_state = layout.partition("bootstate").unwrap();
        assert!(boot_state.length >= 2 * ALIGN_BYTES, "two copies 4 MiB apart");
    }

    #[test]
    fn the_root_has_the_number_that_a_release_names() {
        let layout = Layout::new(&manifest(), &boot_loader());
        for (slot, number) in [(Slot::A, 3), (Slot::B, 5)] {
            let name = format!("root-{}", slot.letter());
            assert_eq!(layout.partitions[number - 1].name, name);
            assert_eq!(root_device("mmcblk1", slot), format!("/dev/mmcblk1p{number}"));
        }
    }

    #[test]
    fn the_table_that_was_written_is_read_and_leaves_the_boot_loaders_room_alone() {
        let layout = Layout::new(&manifest(), &boot_loader());
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(layout.length).unwrap();
        layout.write_tables(&mut file, b"id").unwrap();
        assert_eq!(Layout::read(&mut file).unwrap(), layout);
        let mut room = vec![0; usize::try_from(layout.entry_array * SECTOR_BYTES).unwrap() - 1024];
        file.seek(SeekFrom::Start(1024)).unwrap();
        file.read_exact(&mut room).unwrap();
        assert!(room.iter().all(|byte| *byte == 0));
        // The primary header lost: the one at the end still says the same.
        file.seek(SeekFrom::Start(512)).unwrap();
        file.write_all(&[0; 512]).unwrap();
        assert_eq!(Layout::read(&mut file).unwrap().partitions, layout.partitions);
    }

    #[test]
    fn a_compressed_image_is_named_by_its_format_and_another_file_is_not() {
        let refusal = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            Layout::read(&mut file).unwrap_err()
        };
        for (start, name) in [
            (&b"\xfd7zXZ\0\0\x04"[..], "xz"),
            (b"\x1f\x8b\x08\0\0\0\0\0", "gzip"),
            (b"PK\x03\x04\x14\0\0\0", "ZIP"),
        ] {
            for length in [8, 4096] {
                let mut bytes = start.to_vec();
                bytes.resize(length, 7);
                let error = refusal(&bytes);
                assert!(matches!(error, DiskError::Compressed(_)), "{error}");
                assert!(
                    error.to_string().starts_with(&format!("is compressed with {name} (`")),
                    "{error}"
                );
            }
        }
        for other in [&[7; 4096][..], b""] {
            let message = refusal(other).to_string();
            assert_eq!(message, "is no Holdfast image (no partition table)");
        }
    }

    #[test]
    fn contents_that_do_not_fit_or_cannot_be_written_are_errors() {
        let layout = Layout::new(&manifest(), &boot_loader());
        let partition = layout.partition("boot-a").unwrap();
        let path = Path::new("/dev/full");
        let mut full = File::options().write(true).open(path).unwrap();
        let too_large = vec![1; 8 * 1024 * 1024 + 1];
        let error = partition.write(&mut full, path, "the boot image", &too_large).unwrap_err();
        assert!(error.to_string().contains("more than partition `boot-a` holds"), "{error}");
        let error = partition.write(&mut full, path, "the boot image", &[1]).unwrap_err();
        assert_eq!(error.to_string(), "cannot write /dev/full");
    }
}
