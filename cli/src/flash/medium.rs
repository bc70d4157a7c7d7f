//! A card as a block device, or a file in its place.

use anyhow::{Context, Result};
use holdfast_images::flash::Target;
use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Alignment of direct reads in bytes: the largest sector there is.
const ALIGN: usize = 4096;

/// An open card.
#[derive(Debug)]
pub(super) struct Medium {
    file: File,
    /// Opened past this host's memory, where that can be done.
    direct: Option<File>,
    /// False for a file, which grows with what is written.
    is_disk: bool,
}

impl Medium {
    /// Opens `path`, and changes nothing. `shared` takes a disk that somebody else uses, too.
    pub(super) fn open(path: &Path, is_disk: bool, shared: bool) -> Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create(!is_disk).truncate(false);
        if is_disk && !shared {
            // Nobody else has it, nor mounts it from now on (open(2), O_EXCL on a block device).
            options.custom_flags(flag(OFlags::EXCL));
        }
        let file = options.open(path).with_context(|| format!("cannot open {}", path.display()))?;
        // Not on every file system.
        let direct = File::options().read(true).custom_flags(flag(OFlags::DIRECT)).open(path).ok();
        Ok(Self { file, direct, is_disk })
    }

    /// Cuts a file at `path` to `length` bytes, where it is longer.
    pub(super) fn shorten(&mut self, path: &Path, length: u64) -> Result<()> {
        if !self.is_disk && self.file.metadata().is_ok_and(|metadata| metadata.len() > length) {
            self.file
                .set_len(length)
                .with_context(|| format!("cannot shorten {}", path.display()))?;
        }
        Ok(())
    }
}

fn flag(flag: OFlags) -> i32 {
    i32::try_from(flag.bits()).unwrap_or(0)
}

impl Target for Medium {
    fn room(&mut self) -> io::Result<Option<u64>> {
        if self.is_disk { self.file.seek(SeekFrom::End(0)).map(Some) } else { Ok(None) }
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    fn zero(&mut self, at: u64, length: u64) -> io::Result<()> {
        if !self.is_disk {
            let end = at.saturating_add(length);
            if self.file.metadata()?.len() < end {
                self.file.set_len(end)?;
            }
        }
        // What the device can do fastest, then what the kernel can do for it.
        let ways = [FallocateFlags::PUNCH_HOLE, FallocateFlags::ZERO_RANGE];
        let done = ways
            .iter()
            .any(|way| fallocate(&self.file, *way | FallocateFlags::KEEP_SIZE, at, length).is_ok());
        if done {
            return Ok(());
        }
        let zeros = vec![0; 64 * 1024];
        let (mut at, end) = (at, at.saturating_add(length));
        while at < end {
            let left = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
            let chunk = zeros.get(..left.min(zeros.len())).unwrap_or_default();
            self.file.write_all_at(chunk, at)?;
            at = at.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    fn read_back(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let aligned = bytes.len().is_multiple_of(ALIGN) && at.is_multiple_of(ALIGN as u64);
        if let (Some(direct), true) = (&mut self.direct, aligned) {
            // A buffer that begins at a multiple of ALIGN, somewhere in a larger one.
            let mut room = vec![0; bytes.len().saturating_add(ALIGN)];
            let start = room.as_ptr().align_offset(ALIGN);
            let end = start.saturating_add(bytes.len());
            if let Some(buffer) = room.get_mut(start..end) {
                direct.seek(SeekFrom::Start(at))?;
                direct.read_exact(buffer)?;
                bytes.copy_from_slice(buffer);
                return Ok(());
            }
        }
        // What was flushed may be forgotten; without direct reads this is the best there is.
        fadvise(&self.file, at, std::num::NonZeroU64::new(bytes.len() as u64), Advice::DontNeed)?;
        self.file.read_exact_at(bytes, at)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_grows_by_holes_and_gives_back_what_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("card");
        std::fs::write(&path, vec![7; 3 * 1024 * 1024]).unwrap();
        let mut medium = Medium::open(&path, false, false).unwrap();
        medium.shorten(&path, 2 * 1024 * 1024).unwrap();
        assert_eq!(medium.room().unwrap(), None);
        medium.zero(0, 1024 * 1024).unwrap();
        medium.write(4096, &[1; 4096]).unwrap();
        medium.flush().unwrap();
        let mut bytes = vec![0; 8192];
        medium.read_back(0, &mut bytes).unwrap();
        assert_eq!((&bytes[..4096], &bytes[4096..]), (&[0; 4096][..], &[1; 4096][..]));
        let mut odd = [0; 3];
        medium.read_back(1024 * 1024 - 1, &mut odd).unwrap();
        assert_eq!(odd, [0, 7, 7]);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 * 1024 * 1024);
    }
}
