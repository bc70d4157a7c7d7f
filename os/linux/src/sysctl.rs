//! Settings of the running kernel below `/proc/sys`.

use crate::PathError;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

/// Writes `value` to the setting `name`, given with slashes (`kernel/kptr_restrict`).
///
/// # Errors
/// The kernel has no such setting, or refuses the value.
pub fn set(name: &str, value: &str) -> Result<(), PathError> {
    let path = Path::new("/proc/sys").join(name);
    // Without O_CREAT, as `fs::write` would have it: a setting that the kernel does not have is
    // simply not found.
    OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .map_err(|error| PathError::new("set", path, error))
}

/// Names of the network devices that hardware stands behind.
///
/// # Errors
/// `/sys` is not there.
pub fn network_devices() -> Result<Vec<String>, PathError> {
    let directory = Path::new("/sys/class/net");
    let failed = |error| PathError::new("list", directory, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // A device that is made of software alone (`lo`, a veth, a bridge) has no such link.
        if entry.path().join("device").exists() {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}
