//! Small files on partitions that a cut of power may meet at any moment.

use crate::PathError;
use rustix::fs::{Mode, OFlags, open};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The bytes of a regular file, at most one more than `limit`; `None` where there is none. A
/// symbolic link is not followed.
///
/// # Errors
/// The file cannot be opened or read, or is no regular file.
pub fn read_bounded(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, PathError> {
    // What lies there may be of somebody else's making: a link must not lead anywhere else, and the
    // open of a FIFO must not wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(PathError::new("open", path, error)),
    };
    let failed = |error| PathError::new("read", path, error);
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(ErrorKind::InvalidInput.into()));
    }
    // In one piece: a vector that grows has each size once more on its way. One byte more is asked for at its end.
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX).min(limit);
    let mut bytes = Vec::with_capacity(length.saturating_add(1));
    // One byte more tells a file that is too long from one that just fits.
    let limit = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

/// Puts `bytes` at `path`, readable by root alone. Whatever is cut, the old or the new file is
/// there, whole.
///
/// # Errors
/// The new file cannot be written or put in place.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), PathError> {
    let next = path.with_extension("next");
    let failed = |operation| {
        let next = next.clone();
        move |error: std::io::Error| PathError::new(operation, next, error)
    };
    // A cut of power may have left one from an earlier time.
    remove(&next)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = open(&next, flags, Mode::from_raw_mode(0o600))
        .map_err(|error| failed("create")(error.into()))?;
    let mut file = File::from(file);
    // The bytes are on the medium before the name leads to them: a cut may otherwise leave a file
    // that is empty.
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write"))?;
    rename(&next, path)
}

/// Writes `bytes` at byte `at` of a file, which ends with them then, and waits until that is on the medium. Makes the file where
/// there is none.
///
/// # Errors
/// The partition refuses. Some of it may be written then.
pub fn write_from(path: &Path, at: u64, bytes: &[u8]) -> Result<(), PathError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::from_raw_mode(0o600))
        .map_err(|error| PathError::new("open", path, error))?;
    let file = File::from(file);
    file.set_len(at)
        .and_then(|()| file.write_all_at(bytes, at))
        .and_then(|()| file.sync_all())
        .map_err(|error| PathError::new("write", path, error))
}

/// Renames a file, over another one if need be, and waits until that is on the medium.
///
/// # Errors
/// There is no such file, or the partition refuses.
pub fn rename(from: &Path, to: &Path) -> Result<(), PathError> {
    fs::rename(from, to).map_err(|error| PathError::new("put in place", from, error))?;
    let parent = to.parent().unwrap_or(Path::new("/"));
    // Renaming changes the directory, which reaches the medium by its own fsync (fsync(2)).
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| PathError::new("sync", parent, error))
}

/// Removes a file, if it is there.
///
/// # Errors
/// The partition refuses.
pub fn remove(path: &Path) -> Result<(), PathError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(PathError::new("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Removes a file, if it is there, whose bytes shall not be found in its blocks any more: zeros are written over them first, and reach the
/// medium. What the medium itself keeps of older blocks is its own affair. It is removed as well where it cannot be written over.
///
/// # Errors
/// The partition refuses.
pub fn erase(path: &Path) -> Result<(), PathError> {
    let written = write_over(path);
    remove(path)?;
    written
}

fn write_over(path: &Path) -> Result<(), PathError> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(error) => return Err(PathError::new("open", path, error)),
    };
    let failed = |error| PathError::new("write over", path, error);
    let length = file.metadata().map_err(failed)?.len();
    let mut left = length;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(ZEROS.len()).min(ZEROS.len());
        let zeros = ZEROS.get(..piece).unwrap_or(&ZEROS);
        file.write_all_at(zeros, length.saturating_sub(left)).map_err(failed)?;
        left = left.saturating_sub(u64::try_from(piece).unwrap_or(u64::MAX));
    }
    file.sync_all().map_err(failed)
}

/// Puts `bytes` at `path` for everybody to read, where nobody looks yet and a cut of power matters to
/// nobody.
///
/// # Errors
/// The file cannot be written.
pub fn publish(path: &Path, bytes: &[u8]) -> Result<(), PathError> {
    let failed = |error| PathError::new("write", path, error);
    fs::write(path, bytes).map_err(failed)?;
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(path, readable).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_ends_with_what_was_written_to_it() {
        let directory = std::env::temp_dir().join(format!("holdfast-from-{}", std::process::id()));
        fs::create_dir_all(&directory).map_err(|e| e.to_string()).unwrap_or_default();
        let path = directory.join("spool");
        for (at, bytes, whole) in
            [(0, &b"header"[..], &b"header"[..]), (6, b"one", b"headerone"), (6, b"b", b"headerb")]
        {
            assert!(write_from(&path, at, bytes).is_ok());
            assert!(matches!(read_bounded(&path, 100), Ok(Some(found)) if found == whole));
        }
        assert!(fs::remove_dir_all(&directory).is_ok());
    }

    #[test]
    fn a_file_is_replaced_whole_and_links_are_not_followed() {
        let directory = std::env::temp_dir().join(format!("holdfast-file-{}", std::process::id()));
        fs::create_dir_all(&directory).map_err(|e| e.to_string()).unwrap_or_default();
        let path = directory.join("table");
        assert!(matches!(read_bounded(&path, 10), Ok(None)));
        for bytes in [&b"one"[..], b"another"] {
            assert!(replace(&path, bytes).is_ok());
            assert!(matches!(read_bounded(&path, 10), Ok(Some(found)) if found == bytes));
        }
        assert!(matches!(read_bounded(&path, 3), Ok(Some(found)) if found.len() == 4));
        let link = directory.join("link");
        let _ = fs::remove_file(&link);
        assert!(std::os::unix::fs::symlink(&path, &link).is_ok());
        assert!(read_bounded(&link, 10).is_err());
        assert!(read_bounded(&directory, 10).is_err());
        let _ = fs::remove_dir_all(&directory);
    }
}
