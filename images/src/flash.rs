//! Writing an image to a card, so that a card that is not whole never looks as if it were.
//!
//! The start of the card, which has boot loader and partition table, is erased first and written last.
//! In between there is a mark instead, by which the same image can be gone on with.

use crate::{FileError, hex, sha256};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes in front of the first partition, which are written last.
pub const HEAD_BYTES: u64 = crate::disk::ALIGN_BYTES;
/// Bytes that are written, and read back, at once.
const CHUNK_BYTES: u64 = 1024 * 1024;
/// Bytes at the card's end, beyond the image, that might be taken for a partition table and are erased.
const STALE_TABLE_BYTES: u64 = 64 * 1024;
/// Bytes after which the mark is moved forward.
const MARK_EVERY: u64 = 16 * CHUNK_BYTES;
/// Length of the mark in bytes.
const MARK_BYTES: usize = 4096;
const MAGIC: &[u8] = b"Holdfast: this card was not written to its end. ";

/// True of the start of a card on which [`flash`] was interrupted.
#[must_use]
pub fn is_unfinished(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

/// A medium that is written to: a card, or a file in its place.
pub trait Target {
    /// Returns the length of the medium in bytes; `None` where it grows with what is written.
    ///
    /// # Errors
    /// The medium does not answer.
    fn room(&mut self) -> io::Result<Option<u64>>;
    /// Writes all of `bytes` at `at`.
    ///
    /// # Errors
    /// The medium does not take the bytes.
    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes `length` bytes at `at` zero.
    ///
    /// # Errors
    /// The medium does not take the bytes.
    fn zero(&mut self, at: u64, length: u64) -> io::Result<()>;
    /// Reads from the medium itself, not from what this host remembers of it.
    ///
    /// # Errors
    /// The medium does not give the bytes.
    fn read_back(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()>;
    /// Returns when everything written so far is on the medium.
    ///
    /// # Errors
    /// Something written so far cannot be brought to the medium.
    fn flush(&mut self) -> io::Result<()>;
}

/// An error of writing a card.
#[derive(Debug, thiserror::Error)]
pub enum FlashError {
    /// The image cannot be read.
    #[error(transparent)]
    Image(#[from] FileError),
    /// The card is smaller than the image.
    #[error("{}: too small: it has {room} bytes, the image {needed}", path.display())]
    TooSmall {
        /// The card.
        path: PathBuf,
        /// Length of the card in bytes.
        room: u64,
        /// Length of the image in bytes.
        needed: u64,
    },
    /// The card takes no write, whatever it says of itself.
    #[error(
        "{}: takes no write; nothing was written. A card has a slide that must not be at LOCK",
        path.display()
    )]
    WriteProtected {
        /// The card.
        path: PathBuf,
        /// The system's error of the first write.
        #[source]
        source: io::Error,
    },
    /// The card does not do what it is asked to. It is not bootable now.
    #[error(
        "{}: cannot {operation} at byte {at}; the card is not bootable. The same command goes on \
         from here",
        path.display()
    )]
    Card {
        /// The card.
        path: PathBuf,
        /// The operation that failed, as an infinitive.
        operation: &'static str,
        /// Offset in bytes.
        at: u64,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The bytes that were read back are not those that were written.
    #[error(
        "{}: what was read back at byte {at} is not what was written; the card is not bootable, and \
         worn or a fake",
        path.display()
    )]
    ReadBack {
        /// The card.
        path: PathBuf,
        /// Offset in bytes.
        at: u64,
    },
}

/// Progress of writing a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An earlier attempt at this image had come this far.
    GoesOn {
        /// Bytes that are there already.
        from: u64,
    },
    /// Bytes were written.
    Wrote {
        /// Bytes so far.
        done: u64,
        /// Bytes of the image.
        of: u64,
    },
    /// Bytes were read back and compared.
    ReadBack {
        /// Bytes so far.
        done: u64,
        /// Bytes of the image.
        of: u64,
    },
}

/// Result of writing a card.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Flashed {
    /// Bytes of the image.
    pub bytes: u64,
    /// Bytes of it that are not zero, and were written.
    pub written: u64,
    /// SHA-256 of the image, which is what was read back, in hexadecimal.
    pub sha256: String,
}

/// Mark at the start of a card that is not written to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    image: [u8; 32],
    done: u64,
}

impl Mark {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = [MAGIC, &self.image, &self.done.to_be_bytes()].concat();
        let own = sha256(&[&bytes]);
        bytes.extend_from_slice(&own);
        bytes.resize(MARK_BYTES, 0);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (image, rest) = rest.split_first_chunk::<32>()?;
        let (done, _) = rest.split_first_chunk::<8>()?;
        let mark = Self { image: *image, done: u64::from_be_bytes(*done) };
        (mark.encode() == bytes).then_some(mark)
    }
}

/// Writes the image at `image` to `target`, which is called `path`, and reads all of it back.
///
/// # Errors
/// See [`FlashError`]. Whatever it is, the card is not bootable afterwards, but for `TooSmall`, `WriteProtected`
/// and an image that cannot be read, which are found before anything is written.
pub fn flash(
    image: &Path,
    target: &mut dyn Target,
    path: &Path,
    progress: &mut dyn FnMut(Step),
) -> Result<Flashed, FlashError> {
    let mut card = Card { target, path };
    let (mut source, length) = open(image)?;
    let digest = digest(&mut source, image)?;
    let room = card.target.room().map_err(card.failed("ask for the length", 0))?;
    if let Some(room) = room.filter(|room| *room < length) {
        return Err(FlashError::TooSmall { path: path.to_owned(), room, needed: length });
    }
    let from = card.begin(digest, length, room)?;
    if from > HEAD_BYTES {
        progress(Step::GoesOn { from });
    }
    let mut written = 0u64;
    let mut marked = from;
    let mut buffer = Vec::new();
    let mut at = from;
    while at < length {
        let chunk = read_chunk(&mut source, image, at, length, &mut buffer)?;
        written = written.saturating_add(card.put(at, chunk)?);
        at = at.saturating_add(CHUNK_BYTES).min(length);
        progress(Step::Wrote { done: at, of: length });
        if at.saturating_sub(marked) >= MARK_EVERY {
            card.write_mark(&Mark { image: digest, done: at })?;
            marked = at;
        }
    }
    card.write_mark(&Mark { image: digest, done: length })?;
    let head_end = HEAD_BYTES.min(length);
    let mut seen = |done| progress(Step::ReadBack { done, of: length });
    compare(&mut card, &mut source, image, (head_end, length), &mut seen)?;
    let mut head = Vec::new();
    let mut start = 0;
    // From the back: the sector that a boot ROM or a partition table's reader looks at comes last.
    while start < head_end {
        let chunk = read_chunk(&mut source, image, start, head_end, &mut buffer)?;
        head.push((start, chunk.to_vec()));
        start = start.saturating_add(CHUNK_BYTES);
    }
    for (at, chunk) in head.iter().rev() {
        written = written.saturating_add(card.put(*at, chunk)?);
        card.flush(*at)?;
    }
    compare(&mut card, &mut source, image, (0, head_end), &mut |_| {})?;
    Ok(Flashed { bytes: length, written, sha256: hex(&digest) })
}

/// A target and what it is called.
struct Card<'a> {
    target: &'a mut dyn Target,
    path: &'a Path,
}

impl Card<'_> {
    fn failed(&self, operation: &'static str, at: u64) -> impl Fn(io::Error) -> FlashError + use<> {
        let path = self.path.to_owned();
        move |source| FlashError::Card { path: path.clone(), operation, at, source }
    }

    /// Makes the card unbootable, and says from where on it is to be written.
    fn begin(
        &mut self,
        image: [u8; 32],
        length: u64,
        room: Option<u64>,
    ) -> Result<u64, FlashError> {
        let mut start = vec![0; MARK_BYTES];
        // A file that is not there yet has nothing to read.
        let read = self.target.read_back(0, &mut start);
        let earlier = read.ok().and_then(|()| Mark::decode(&start));
        if let Some(mark) = earlier.filter(|mark| mark.image == image && mark.done <= length) {
            return Ok(mark.done.max(HEAD_BYTES.min(length)));
        }
        let head = HEAD_BYTES.min(length);
        self.target.zero(0, head).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                FlashError::WriteProtected { path: self.path.to_owned(), source }
            }
            _ => self.failed("erase", 0)(source),
        })?;
        if let Some(room) = room {
            let stale = room.saturating_sub(STALE_TABLE_BYTES).max(head);
            let rest = room.saturating_sub(stale);
            self.target.zero(stale, rest).map_err(self.failed("erase", stale))?;
        }
        self.write_mark(&Mark { image, done: 0 })?;
        Ok(head)
    }

    /// Everything up to `mark` is on the medium, and then the mark is.
    fn write_mark(&mut self, mark: &Mark) -> Result<(), FlashError> {
        self.flush(mark.done)?;
        self.target.write(0, &mark.encode()).map_err(self.failed("write", 0))?;
        self.flush(0)
    }

    fn flush(&mut self, at: u64) -> Result<(), FlashError> {
        self.target.flush().map_err(self.failed("write", at))
    }

    /// Writes a chunk, and zeroes by the shorter way; returns how much was written.
    fn put(&mut self, at: u64, chunk: &[u8]) -> Result<u64, FlashError> {
        let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        if chunk.iter().all(|byte| *byte == 0) {
            self.target.zero(at, length).map_err(self.failed("erase", at))?;
            return Ok(0);
        }
        self.target.write(at, chunk).map_err(self.failed("write", at))?;
        Ok(length)
    }
}

fn open(image: &Path) -> Result<(File, u64), FileError> {
    let file = File::open(image).map_err(FileError::at("open", image))?;
    let length = file.metadata().map_err(FileError::at("examine", image))?.len();
    Ok((file, length))
}

fn digest(source: &mut File, image: &Path) -> Result<[u8; 32], FileError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    source.seek(SeekFrom::Start(0)).map_err(FileError::at("seek in", image))?;
    loop {
        let length = source.read(&mut buffer).map_err(FileError::at("read", image))?;
        if length == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(buffer.get(..length).unwrap_or_default());
    }
}

/// The bytes of the image from `at`, a chunk or what is left in front of `end`.
fn read_chunk<'a>(
    source: &mut File,
    image: &Path,
    at: u64,
    end: u64,
    buffer: &'a mut Vec<u8>,
) -> Result<&'a [u8], FileError> {
    let length = CHUNK_BYTES.min(end.saturating_sub(at));
    buffer.resize(usize::try_from(length).unwrap_or(0), 0);
    source.seek(SeekFrom::Start(at)).map_err(FileError::at("seek in", image))?;
    source.read_exact(buffer).map_err(FileError::at("read", image))?;
    Ok(buffer)
}

/// Compares what lies on the medium with the image, and says how far it is.
fn compare(
    card: &mut Card<'_>,
    source: &mut File,
    image: &Path,
    (from, end): (u64, u64),
    seen: &mut dyn FnMut(u64),
) -> Result<(), FlashError> {
    let mut wanted = Vec::new();
    let mut at = from;
    while at < end {
        let chunk = read_chunk(source, image, at, end, &mut wanted)?;
        let mut found = vec![0; chunk.len()];
        card.target.read_back(at, &mut found).map_err(card.failed("read back", at))?;
        let differs = chunk.iter().zip(&found).position(|(one, other)| one != other);
        if let Some(offset) = differs {
            let at = at.saturating_add(u64::try_from(offset).unwrap_or(0));
            return Err(FlashError::ReadBack { path: card.path.to_owned(), at });
        }
        at = at.saturating_add(CHUNK_BYTES).min(end);
        seen(at);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const MIB: usize = 1024 * 1024;

    /// A card in memory that gives out after so many bytes, or forgets what is written at one place.
    struct Memory {
        bytes: Vec<u8>,
        left: usize,
        deaf_at: Option<usize>,
        locked: bool,
        written: usize,
    }

    impl Memory {
        fn of(length: usize) -> Self {
            Self {
                bytes: vec![0xa5; length],
                left: usize::MAX,
                deaf_at: None,
                locked: false,
                written: 0,
            }
        }
    }

    impl Target for Memory {
        fn room(&mut self) -> io::Result<Option<u64>> {
            Ok(Some(self.bytes.len() as u64))
        }

        fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
            let at = usize::try_from(at).unwrap();
            let taken = bytes.len().min(self.left);
            let place = at..at.saturating_add(taken);
            self.left = self.left.saturating_sub(taken);
            self.written = self.written.saturating_add(taken);
            self.bytes[place.clone()].copy_from_slice(&bytes[..taken]);
            if let Some(deaf) = self.deaf_at.filter(|deaf| place.contains(deaf)) {
                self.bytes[deaf] ^= 1;
            }
            if taken == bytes.len() { Ok(()) } else { Err(io::Error::other("pulled out")) }
        }

        fn zero(&mut self, at: u64, length: u64) -> io::Result<()> {
            let (at, length) = (usize::try_from(at).unwrap(), usize::try_from(length).unwrap());
            if self.locked {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            self.bytes[at..at.saturating_add(length)].fill(0);
            Ok(())
        }

        fn read_back(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
            let at = usize::try_from(at).unwrap();
            bytes.copy_from_slice(&self.bytes[at..at.saturating_add(bytes.len())]);
            Ok(())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An image of 40 MiB with bytes at its start, in its middle and near its end.
    fn image() -> (tempfile::NamedTempFile, Vec<u8>) {
        let mut bytes = vec![0; 40 * MIB];
        for at in [512, 8 * 1024, 5 * MIB, 21 * MIB + 7, 40 * MIB - 512] {
            bytes[at..at.saturating_add(8)].copy_from_slice(b"Holdfast");
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        (file, bytes)
    }

    fn run(file: &Path, card: &mut Memory) -> (Result<Flashed, FlashError>, Vec<Step>) {
        let mut steps = Vec::new();
        let result = flash(file, card, Path::new("card"), &mut |step| steps.push(step));
        (result, steps)
    }

    #[test]
    fn a_card_that_held_something_else_holds_the_image_and_little_was_written() {
        let (file, bytes) = image();
        let mut card = Memory::of(64 * MIB);
        let (result, _) = run(file.path(), &mut card);
        let flashed = result.unwrap();
        assert_eq!(card.bytes[..40 * MIB], bytes);
        assert_eq!(flashed.sha256, hex(&sha256(&[&bytes])));
        assert_eq!(flashed.written, 4 * CHUNK_BYTES);
        assert!(card.bytes[64 * MIB - 512..].iter().all(|byte| *byte == 0), "a stale table");
    }

    #[test]
    fn wherever_it_is_interrupted_the_card_is_not_bootable_and_can_be_gone_on_with() {
        let (file, bytes) = image();
        let mut whole = Memory::of(64 * MIB);
        run(file.path(), &mut whole).0.unwrap();
        // Up to the last chunk, which is the head's and has the boot loader in it.
        for left in (0..whole.written - MIB).step_by(MIB / 2 + 77) {
            let mut card = Memory::of(64 * MIB);
            card.left = left;
            let error = run(file.path(), &mut card).0.unwrap_err().to_string();
            assert!(error.contains("the card is not bootable"), "{error}");
            assert_ne!(card.bytes[8 * 1024..8 * 1024 + 8], *b"Holdfast", "a boot loader");
            assert_ne!(card.bytes[512..520], *b"Holdfast", "a partition table");
            // But for the moment before the first mark, it says so itself.
            assert!(left < MARK_BYTES || is_unfinished(&card.bytes), "no mark");
            card.left = usize::MAX;
            let (result, _) = run(file.path(), &mut card);
            result.unwrap();
            assert_eq!(card.bytes[..40 * MIB], bytes);
        }
    }

    #[test]
    fn an_interrupted_card_is_gone_on_with_only_for_the_same_image() {
        let (file, _) = image();
        let mut card = Memory::of(64 * MIB);
        // Cut after the mark at 20 MiB.
        card.left = 4096 * 2 + MIB + 100;
        run(file.path(), &mut card).0.unwrap_err();
        card.left = usize::MAX;
        let mut same = Memory { bytes: card.bytes.clone(), ..Memory::of(0) };
        let (_, steps) = run(file.path(), &mut same);
        assert_eq!(steps.first(), Some(&Step::GoesOn { from: 20 * CHUNK_BYTES }));
        let other = tempfile::NamedTempFile::new().unwrap();
        other.as_file().set_len(8 * CHUNK_BYTES).unwrap();
        let (result, steps) = run(other.path(), &mut card);
        result.unwrap();
        assert!(!steps.iter().any(|step| matches!(step, Step::GoesOn { .. })), "{steps:?}");
    }

    #[test]
    fn a_card_that_takes_no_write_is_said_to_be_what_it_was() {
        let (file, _) = image();
        let mut card = Memory { locked: true, ..Memory::of(64 * MIB) };
        let error = run(file.path(), &mut card).0.unwrap_err();
        assert!(matches!(error, FlashError::WriteProtected { .. }), "{error}");
        assert!(error.to_string().contains("nothing was written"), "{error}");
        assert!(card.bytes.iter().all(|byte| *byte == 0xa5), "it was written to");
    }

    #[test]
    fn a_card_that_forgets_is_found_out_and_one_too_small_is_left_alone() {
        let (file, _) = image();
        let mut card = Memory { deaf_at: Some(21 * MIB + 9), ..Memory::of(64 * MIB) };
        let error = run(file.path(), &mut card).0.unwrap_err();
        assert!(matches!(error, FlashError::ReadBack { at, .. } if at == 21 * CHUNK_BYTES + 9));
        let mut small = Memory::of(39 * MIB);
        let error = run(file.path(), &mut small).0.unwrap_err().to_string();
        assert_eq!(error, "card: too small: it has 40894464 bytes, the image 41943040");
        assert!(small.bytes.iter().all(|byte| *byte == 0xa5), "it was written to");
    }
}
