//! What the machine's last run logged, from memory that a reset leaves alone.
//! Source: kernel documents `admin-guide/ramoops` and `ABI/testing/pstore`.

use crate::mount::{self, Access};
use crate::{PathError, file};
use std::fs;
use std::path::Path;

const DIRECTORY: &str = "/sys/fs/pstore";
/// The end of the console's text.
const CONSOLE: &str = "/sys/fs/pstore/console-ramoops-0";
/// Longer than the area is.
const MAX_BYTES: usize = 256 * 1024;

/// Takes the log out of the area. `None` after a power-on, or where the board has no such area.
///
/// # Errors
/// The kernel does not show the area.
pub fn take() -> Result<Option<String>, PathError> {
    mount::mount("pstore", None, Path::new(DIRECTORY), Access::default(), &[])?;
    let log = file::read_bounded(Path::new(CONSOLE), MAX_BYTES);
    // It is read once; the kernel then frees its copy.
    let _ = fs::remove_file(CONSOLE);
    mount::detach(Path::new(DIRECTORY))?;
    Ok(log?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}
