//! The memory of the machine, and of this process.

use crate::PathError;
use rustix::mm::{MlockAllFlags, mlockall};
use std::fs;
use std::io::{self, Error, ErrorKind};
use std::path::Path;

const MEMORY: &str = "/proc/meminfo";

/// KiB that the kernel has: all that is built in, without what its program and its first tables take.
///
/// # Errors
/// `/proc` is not there, or says nothing of it.
pub fn total_kib() -> Result<u64, PathError> {
    let path = Path::new(MEMORY);
    let text = fs::read_to_string(path).map_err(|error| PathError::new("read", path, error))?;
    read_total(&text)
        .ok_or_else(|| PathError::new("read", path, Error::from(ErrorKind::InvalidData)))
}

fn read_total(text: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// From now on, what this process has of its program and its data once touched stays in memory, however little there
/// is left. Its children have to care for themselves.
///
/// # Errors
/// The kernel refuses.
pub fn stay() -> io::Result<()> {
    // ONFAULT: what is never used takes no memory. A fork does not pass locks on (mlockall(2)).
    Ok(mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_how_much_memory_it_has() {
        let text = "MemTotal:          53212 kB\nMemFree:           46488 kB\n";
        assert_eq!(read_total(text), Some(53_212));
        assert_eq!(read_total("MemFree: 1 kB\n"), None);
        assert_eq!(read_total("MemTotal: much\n"), None);
        assert!(total_kib().unwrap() > 0);
    }
}
