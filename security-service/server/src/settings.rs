//! The settings of a folder, and the file that has them.

use crate::error::{ServerError, file};
use std::path::Path;

pub use holdfast_service_domain::settings::{
    BackupSettings, FILE, ObjectStoreSettings, Settings, Tls, Token, WatchedRepository,
};

/// Reads the settings of a folder.
///
/// # Errors
/// The file cannot be read, or has what settings do not have.
pub fn load(folder: &Path) -> Result<Settings, ServerError> {
    let path = folder.join(FILE);
    let text = std::fs::read_to_string(&path).map_err(file("read", &path))?;
    Settings::read(&text).map_err(|source| ServerError::Settings { path, source })
}
