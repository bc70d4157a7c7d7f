//! Opening an app package so that what was looked at is what is mounted.

use crate::PathError;
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use std::path::Path;

/// An open package.
#[derive(Debug)]
pub struct PackageFile {
    /// The file, read-only.
    pub file: OwnedFd,
    /// Its length in bytes.
    pub length: u64,
    /// Its first bytes.
    pub start: Vec<u8>,
}

/// Opens the regular file at `path`, without following any link, and reads its first `bytes`, or
/// all it has. `None` where there is none.
///
/// # Errors
/// The package is no regular file, or cannot be opened or read.
pub fn open(path: &Path, bytes: usize) -> Result<Option<PackageFile>, PathError> {
    // The update agent may put anything there: a link must not be followed, nor a FIFO's writer be
    // waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(rustix::fs::CWD, path, flags, Mode::empty(), resolve) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(PathError::new("open", path, error)),
    };
    let failed = |error: Errno| PathError::new("read", path, error);
    // By the descriptor: the name may lead to another file by now.
    let status = fstat(&file).map_err(failed)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(failed(Errno::INVAL));
    }
    let length = u64::try_from(status.st_size).map_err(|_| failed(Errno::OVERFLOW))?;
    let mut start = vec![0; bytes];
    let mut filled = 0usize;
    while let Some(rest) = start.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let at = u64::try_from(filled).unwrap_or(u64::MAX);
        match rustix::io::pread(&file, rest, at) {
            Ok(0) => break,
            Ok(read) => filled = filled.saturating_add(read),
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    start.truncate(filled);
    Ok(Some(PackageFile { file, length, start }))
}
