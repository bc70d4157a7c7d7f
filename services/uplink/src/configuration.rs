//! Files of the service's configuration, in the verified root.

use holdfast_linux::{PathError, file};
use holdfast_sandbox::policy::APP_DIRECTORY;
use holdfast_types::encoding::EncodingError;
use std::path::Path;

/// Errors of the configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigurationError {
    #[error(transparent)]
    File(#[from] PathError),
    #[error("{0} is damaged")]
    Damaged(&'static str, #[source] EncodingError),
}

/// Reads a file of the service's configuration, if the image has it.
pub(crate) fn configured<T>(
    name: &'static str,
    most: usize,
    decode: impl FnOnce(&[u8]) -> Result<T, EncodingError>,
) -> Result<Option<T>, ConfigurationError> {
    let bytes = file::read_bounded(&Path::new(APP_DIRECTORY).join(name), most)?;
    let decoded = bytes.map(|bytes| decode(&bytes)).transpose();
    decoded.map_err(|error| ConfigurationError::Damaged(name, error))
}
