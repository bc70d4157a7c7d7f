//! Serial lines as their readers expect them. Source: termios(3).

use crate::PathError;
use rustix::termios::{OptionalActions, isatty, tcgetattr, tcsetattr};
use std::os::fd::AsFd;
use std::path::Path;

/// Makes a serial line pass every byte as it is: no echo, no lines, no signals. What is no serial line is
/// left alone.
///
/// # Errors
/// The driver refuses.
pub fn make_raw(device: impl AsFd, path: &Path) -> Result<(), PathError> {
    if !isatty(&device) {
        return Ok(());
    }
    let failed = |source| PathError::new("make raw", path, source);
    let mut settings = tcgetattr(&device).map_err(failed)?;
    settings.make_raw();
    tcsetattr(&device, OptionalActions::Now, &settings).map_err(failed)
}
