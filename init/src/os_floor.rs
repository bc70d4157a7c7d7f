//! The floor of the OS, in a file of its own on the `state` partition.

use crate::log::Log;
use holdfast_lifecycle::slots::Floor;
use holdfast_linux::{PathError, file};
use holdfast_types::encoding::EncodingError;
use holdfast_types::event::init as event;
use std::path::{Path, PathBuf};

/// A rollback floor that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FloorError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Encoding(#[from] EncodingError),
}

fn path() -> PathBuf {
    Path::new("/state").join(Floor::FILE_NAME)
}

/// Reads the floor of the OS from `state`; zero where there is none.
pub(crate) fn read(log: &Log) -> Floor {
    let stored = || -> Result<Option<Floor>, FloorError> {
        let bytes = file::read_bounded(&path(), Floor::MAX_ENCODED_BYTES)?;
        Ok(bytes.map(|bytes| Floor::decode(&bytes)).transpose()?)
    };
    // A device must boot without it: nobody could mend one that does not.
    let floor = stored().unwrap_or_else(|error| {
        log.failure(event::OS_FLOOR_READ_FAILED, "cannot read the rollback floor", &error);
        None
    });
    floor.unwrap_or_default()
}

/// Replaces the floor of the OS.
pub(crate) fn write(floor: Floor) -> Result<(), FloorError> {
    Ok(file::replace(&path(), &floor.encode()?)?)
}
