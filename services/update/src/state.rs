//! Files of the agent on `state`. Each is replaced whole; a damaged one is reported, and counts as missing.

use crate::tried::Tried;
use holdfast_linux::{PathError, file};
use holdfast_release::Memory;
use holdfast_release::RepositoryName;
use holdfast_release::client::Trusted;
use holdfast_sandbox::policy::STATE_DIRECTORY;
use holdfast_types::encoding::EncodingError;
use holdfast_types::{chain, event};
use std::path::{Path, PathBuf};

/// Errors of reading or writing a file on `state`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    #[error("it has {0} bytes, too many to be kept")]
    TooLong(usize),
}

/// Loads the verified metadata of a repository.
pub(crate) fn load_trusted(repository: RepositoryName) -> Trusted {
    let path = trusted_file(repository);
    read(&path, Trusted::MAX_ENCODED_BYTES, Trusted::decode).unwrap_or_default()
}

/// Saves the verified metadata of a repository, in one file.
pub(crate) fn save_trusted(
    repository: RepositoryName,
    trusted: &Trusted,
) -> Result<(), StateError> {
    let bytes = trusted.encode()?;
    if bytes.len() > Trusted::MAX_ENCODED_BYTES {
        return Err(StateError::TooLong(bytes.len()));
    }
    Ok(file::replace(&trusted_file(repository), &bytes)?)
}

/// Loads the record of releases.
pub(crate) fn load_memory() -> Memory {
    read(&memory_file(), Memory::MAX_ENCODED_BYTES, Memory::decode).unwrap_or_default()
}

pub(crate) fn save_memory(memory: &Memory) -> Result<(), StateError> {
    Ok(file::replace(&memory_file(), &memory.encode()?)?)
}

/// Loads what was kept of the release that was staged last.
pub(crate) fn load_tried() -> Option<Tried> {
    read(&tried_file(), Tried::MAX_ENCODED_BYTES, Tried::decode)
}

/// Keeps what is told later of the release that was staged.
pub(crate) fn save_tried(tried: &Tried) {
    let saved = tried.encode().map_err(StateError::from);
    let saved = saved.and_then(|bytes| Ok(file::replace(&tried_file(), &bytes)?));
    if let Err(error) = saved {
        let failed = event::update::UPDATE_RECORD_PERSIST_FAILED;
        println!("cannot save what is staged, to report it: {} {failed}", chain(&error));
    }
}

/// Reads a file; a damaged one is reported, and counts as missing.
pub(crate) fn read<T>(
    path: &Path,
    most: usize,
    decode: impl FnOnce(&[u8]) -> Result<T, EncodingError>,
) -> Option<T> {
    let lost = |error: StateError| {
        let read_failed = event::update::UPDATE_STATE_READ_FAILED;
        println!(
            "cannot read {}, going on without it: {} {read_failed}",
            path.display(),
            chain(&error)
        );
        None
    };
    match file::read_bounded(path, most) {
        Ok(None) => None,
        Ok(Some(bytes)) if bytes.len() > most => lost(StateError::TooLong(bytes.len())),
        Ok(Some(bytes)) => decode(&bytes).map_or_else(|error| lost(error.into()), Some),
        Err(error) => lost(error.into()),
    }
}

fn trusted_file(repository: RepositoryName) -> PathBuf {
    Path::new(STATE_DIRECTORY).join(format!("{repository}.trusted"))
}

fn tried_file() -> PathBuf {
    Path::new(STATE_DIRECTORY).join(Tried::FILE_NAME)
}

fn memory_file() -> PathBuf {
    Path::new(STATE_DIRECTORY).join(Memory::FILE_NAME)
}
