//! Settings of the running kernel below `/proc/sys`.

use crate::PathError;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// Writes `value` to the setting `name`, given with slashes (`kernel/kptr_restrict`).
///
/// # Errors
/// The kernel has no such setting, or refuses the value.
pub fn set(name: &str, value: &str) -> Result<(), PathError> {
    let path = Path::new("/proc/sys").join(name);
    OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .map_err(|error| PathError::new("set", path, error))
}
