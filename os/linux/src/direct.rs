//! Writing and reading past the kernel's cache, so that what is read is what the medium has.
//!
//! Source: `open(2)`, `O_DIRECT`: memory, places and lengths are multiples of a block.

use crate::{PathError, file};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use std::fs::File;
use std::io::{Error, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Every place and length is a multiple of this, in bytes.
const BLOCK_BYTES: usize = 4096;
/// Bytes that go at once.
const BUFFER_BYTES: usize = 64 * 1024;

#[derive(Debug)]
#[repr(align(4096))]
struct Buffer([u8; BUFFER_BYTES]);

impl Buffer {
    fn new() -> Box<Self> {
        Box::new(Self([0; BUFFER_BYTES]))
    }
}

/// A file or a device, open past the cache.
#[derive(Debug)]
pub struct Direct {
    file: File,
    path: PathBuf,
}

impl Direct {
    /// A partition, for reading and writing.
    ///
    /// # Errors
    /// The kernel refuses to open it.
    pub fn open(path: &Path) -> Result<Self, PathError> {
        Self::open_with(path, OFlags::RDWR)
    }

    /// A disk, for reading.
    ///
    /// # Errors
    /// The kernel refuses to open it.
    pub fn open_to_read(path: &Path) -> Result<Self, PathError> {
        Self::open_with(path, OFlags::RDONLY)
    }

    /// A new file, in the place of one that is there.
    ///
    /// # Errors
    /// The file cannot be made, or somebody has made one meanwhile.
    pub fn create(path: &Path) -> Result<Self, PathError> {
        // The old file goes first: it may be a link, or somebody may have it open. EXCL then
        // follows no link and takes nothing that came meanwhile.
        file::remove(path)?;
        Self::open_with(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW)
    }

    fn open_with(path: &Path, flags: OFlags) -> Result<Self, PathError> {
        let file = open(path, flags | OFlags::DIRECT | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))
            .map_err(|error| PathError::new("open", path, error))?;
        Ok(Self { file: File::from(file), path: path.to_owned() })
    }

    /// Takes a descriptor that somebody else has opened with `O_DIRECT`; errors name it `name`.
    #[must_use]
    pub fn from_descriptor(descriptor: OwnedFd, name: &str) -> Self {
        Self { file: File::from(descriptor), path: PathBuf::from(name) }
    }

    /// Returns the descriptor, to hand it on.
    #[must_use]
    pub fn into_descriptor(self) -> OwnedFd {
        self.file.into()
    }

    /// Returns the length in bytes.
    ///
    /// # Errors
    /// The end cannot be found.
    pub fn length(&mut self) -> Result<u64, PathError> {
        // The metadata of a block device have no length; the end of one is found by going there.
        let end = self.file.seek(SeekFrom::End(0));
        end.map_err(|error| PathError::new("measure", &self.path, error))
    }

    /// Reads its first `length` bytes, piece by piece.
    ///
    /// # Errors
    /// The medium cannot be read, or ends before.
    pub fn read(&self, length: u64, mut take: impl FnMut(&[u8])) -> Result<(), PathError> {
        self.read_from(0, length, |piece| {
            take(piece);
            Ok::<(), PathError>(())
        })
    }

    /// Reads `length` bytes from `at` on, piece by piece.
    ///
    /// # Errors
    /// The medium cannot be read, or ends before; or what `take` says.
    pub fn read_from<E: From<PathError>>(
        &self,
        at: u64,
        length: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        const BLOCK: u64 = 4096;
        let failed = |error| PathError::new("read", &self.path, error);
        let mut buffer = Buffer::new();
        let end = at.saturating_add(length);
        // Reading begins with a block: what of it lies before is passed over.
        let passed = at.checked_rem(BLOCK).unwrap_or(0);
        let mut skip = usize::try_from(passed).unwrap_or_default();
        let mut at = at.saturating_sub(passed);
        while at.saturating_add(u64::try_from(skip).unwrap_or_default()) < end {
            let left = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
            let blocks = left.min(BUFFER_BYTES).next_multiple_of(BLOCK_BYTES);
            let place = buffer.0.get_mut(..blocks).unwrap_or_default();
            let read = match self.file.read_at(place, at) {
                Ok(0) => return Err(failed(ErrorKind::UnexpectedEof.into()).into()),
                Ok(read) => read.min(left),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error).into()),
            };
            take(place.get(skip..read).unwrap_or_default())?;
            skip = 0;
            // A place in the middle of a block cannot be gone on from.
            if read < left && !read.is_multiple_of(BLOCK_BYTES) {
                let ends = Error::new(ErrorKind::UnexpectedEof, "it ends in a block");
                return Err(failed(ends).into());
            }
            at = at.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    /// The `length` bytes from `at` on.
    ///
    /// # Errors
    /// The medium cannot be read, or ends before.
    pub fn bytes(&self, at: u64, length: usize) -> Result<Vec<u8>, PathError> {
        let mut bytes = Vec::new();
        self.read_from(at, u64::try_from(length).unwrap_or(u64::MAX), |piece| {
            bytes.extend_from_slice(piece);
            Ok::<(), PathError>(())
        })?;
        Ok(bytes)
    }

    /// Begins to write it from its first byte.
    #[must_use]
    pub fn writer(&self) -> Writer<'_> {
        self.writer_from(0)
    }

    /// Begins to write it from the block on that begins at `at`.
    #[must_use]
    pub fn writer_from(&self, at: u64) -> Writer<'_> {
        Writer { of: self, buffer: Buffer::new(), filled: 0, at }
    }
}

/// Writes from the first byte on.
#[derive(Debug)]
pub struct Writer<'a> {
    of: &'a Direct,
    buffer: Box<Buffer>,
    filled: usize,
    at: u64,
}

impl Writer<'_> {
    /// The next bytes.
    ///
    /// # Errors
    /// The medium refuses a write.
    pub fn put(&mut self, mut bytes: &[u8]) -> Result<(), PathError> {
        while !bytes.is_empty() {
            let room = BUFFER_BYTES.saturating_sub(self.filled);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            let end = self.filled.saturating_add(now.len());
            if let Some(place) = self.buffer.0.get_mut(self.filled..end) {
                place.copy_from_slice(now);
            }
            (self.filled, bytes) = (end, later);
            if self.filled == BUFFER_BYTES {
                self.write_out(BUFFER_BYTES)?;
            }
        }
        Ok(())
    }

    /// Writes what is left, zeros behind it to the end of its block, and waits for the medium.
    ///
    /// # Errors
    /// The medium refuses a write or the flush.
    pub fn finish(mut self) -> Result<(), PathError> {
        let whole = self.filled.next_multiple_of(BLOCK_BYTES);
        if let Some(rest) = self.buffer.0.get_mut(self.filled..whole) {
            rest.fill(0);
        }
        self.write_out(whole)?;
        // O_DIRECT passes the kernel's cache, not that of the medium, which is flushed by this
        // (open(2)).
        self.of.file.sync_all().map_err(|error| PathError::new("write", &self.of.path, error))
    }

    fn write_out(&mut self, length: usize) -> Result<(), PathError> {
        let bytes = self.buffer.0.get(..length).unwrap_or_default();
        self.of
            .file
            .write_all_at(bytes, self.at)
            .map_err(|error| PathError::new("write", &self.of.path, error))?;
        self.at = self.at.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        self.filled = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a file of the working directory's file system; a few take no direct access, tmpfs among them.
    #[test]
    fn what_was_written_is_read_again() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("../../target/direct-{}", std::process::id()));
        let bytes: Vec<u8> = (0..200_001u32).map(|i| (i / 7).to_le_bytes()[0]).collect();
        let file = Direct::create(&path);
        assert!(file.is_ok(), "{file:?}");
        let Ok(mut file) = file else { return };
        let mut writer = file.writer();
        for piece in bytes.chunks(1000) {
            assert!(writer.put(piece).is_ok());
        }
        assert!(writer.finish().is_ok());
        assert!(matches!(file.length(), Ok(200_704)), "whole blocks");
        let mut found = Vec::new();
        assert!(file.read(200_001, |piece| found.extend_from_slice(piece)).is_ok());
        assert!(found == bytes);
        assert!(file.read(200_705, |_| {}).is_err(), "more than there is");
        for (at, length) in [(1u16, 5u16), (4095, 2), (5000, 60_000), (4096, 0), (4100, 0)] {
            let part = file.bytes(at.into(), length.into());
            let expected = bytes.get(at.into()..usize::from(at) + usize::from(length));
            assert!(part.is_ok_and(|p| Some(&*p) == expected), "{length} bytes from {at}");
        }
        let _ = std::fs::remove_file(path);
    }
}
