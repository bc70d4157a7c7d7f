//! The two copies of the boot state on their partition.
//!
//! Read and written past the kernel's cache, so that what is read back after a write is what the
//! medium has. Source: `open(2)`, `O_DIRECT`.

use crate::PathError;
use holdfast_lifecycle::slots::{BootState, COPY_BYTES, Copies, copy_offsets};
use rustix::fs::{Mode, OFlags, open};
use std::fs::File;
use std::io::{Error, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// One copy in memory, aligned as direct access to the medium wants it.
#[derive(Debug)]
#[repr(align(512))]
struct Sector([u8; COPY_BYTES]);

/// The partition, open.
#[derive(Debug)]
pub struct BootStateDevice {
    file: File,
    /// First byte of each copy.
    starts: [u64; 2],
    path: PathBuf,
}

impl BootStateDevice {
    /// Opens the partition at `path`.
    ///
    /// # Errors
    /// The partition cannot be opened, or has no length.
    pub fn open(path: &Path) -> Result<Self, PathError> {
        // A write returns when the medium has it, and a read asks the medium.
        let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::DSYNC | OFlags::CLOEXEC;
        let file = open(path, flags, Mode::empty())
            .map_err(|error| PathError::new("open", path, error))?;
        let mut file = File::from(file);
        let length =
            file.seek(SeekFrom::End(0)).map_err(|error| PathError::new("measure", path, error))?;
        Ok(Self { file, starts: copy_offsets(length), path: path.to_owned() })
    }

    /// Reads both copies.
    ///
    /// # Errors
    /// Neither can be read; one that cannot counts as invalid.
    pub fn read(&self) -> Result<Copies, PathError> {
        let [first, second] = self.starts;
        match (self.read_at(first), self.read_at(second)) {
            (Err(error), Err(_)) => Err(error),
            (first, second) => {
                // A sector that cannot be read is as good as a damaged one, and the other copy may be whole: zeros have no
                // valid checksum.
                let bytes = |read: Result<Sector, PathError>| read.map_or([0; COPY_BYTES], |s| s.0);
                Ok(Copies::read(&bytes(first), &bytes(second)))
            }
        }
    }

    /// Writes `state` over the older copy and reads it back.
    ///
    /// # Errors
    /// The copy cannot be written, or reads back as another; the other copy then still holds.
    pub fn save(&self, state: &BootState) -> Result<(), PathError> {
        // The older copy alone, and which one that is, the medium says: cut anywhere in between, the boot loader finds the
        // other copy whole (redundant environment of U-Boot, env/common.c).
        let (index, bytes) = self.read()?.save(state);
        let start = self.starts.get(index).copied().unwrap_or(0);
        let failed = |error| PathError::new("write the boot state to", &self.path, error);
        let sector = Sector(bytes);
        self.file.write_all_at(&sector.0, start).map_err(failed)?;
        self.file.sync_all().map_err(failed)?;
        // A worn-out card reports success and keeps what it had: only what it reads back is saved.
        if self.read_at(start)?.0 == bytes {
            return Ok(());
        }
        Err(failed(Error::new(ErrorKind::InvalidData, "it reads back as something else")))
    }

    fn read_at(&self, start: u64) -> Result<Sector, PathError> {
        let mut sector = Sector([0; COPY_BYTES]);
        self.file
            .read_exact_at(&mut sector.0, start)
            .map_err(|error| PathError::new("read the boot state from", &self.path, error))?;
        Ok(sector)
    }
}
