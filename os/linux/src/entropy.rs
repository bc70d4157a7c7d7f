//! The kernel's random pool and the seed that is carried from boot to boot.
//!
//! Source: `random(4)`. A seed serves one boot: init replaces the file, and the replacement is on
//! the medium, before any component that could draw from the pool is started.

use crate::PathError;
use rustix::fs::{Mode, OFlags, open};
use rustix::rand::{GetRandomFlags, getrandom};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

/// Bytes in a seed.
pub const SEED_BYTES: usize = 64;
/// Bytes read from a seed file: one more than it has, to notice a file that is too long.
const SEED_FILE_LIMIT: u64 = 65;

/// Mixes `seed` into the pool and counts it as entropy (`RNDADDENTROPY`).
///
/// # Errors
/// `/dev/urandom` cannot be opened or refuses the request.
pub fn credit(seed: &[u8; SEED_BYTES]) -> io::Result<()> {
    #[repr(C)]
    struct RandPoolInfo {
        entropy_bits: libc::c_int,
        size: libc::c_int,
        bytes: [u8; SEED_BYTES],
    }
    // _IOW('R', 0x03, int[2]) of linux/random.h.
    const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
    let pool = open("/dev/urandom", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    let info = RandPoolInfo { entropy_bits: 256, size: 64, bytes: *seed };
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&pool);
    // SAFETY: the kernel reads a `struct rand_pool_info` with `size` bytes behind its two
    // integers, which is the layout above; it writes nothing and keeps no pointer.
    let result = unsafe { libc::ioctl(descriptor, RNDADDENTROPY as _, &raw const info) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `SEED_BYTES` from the pool; waits until the kernel has seeded it.
///
/// # Errors
/// The kernel has no pool.
pub fn random() -> io::Result<[u8; SEED_BYTES]> {
    let mut bytes = [0; SEED_BYTES];
    // Requests of up to 256 bytes are answered whole or not at all, but a signal may interrupt
    // the wait for the first seeding.
    loop {
        match getrandom(&mut bytes, GetRandomFlags::empty()) {
            Ok(SEED_BYTES) => return Ok(bytes),
            Ok(_) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The seed in the file at `path`; `None` when there is none or it has the wrong length.
///
/// # Errors
/// The file is there and cannot be read.
pub fn load_seed(path: &Path) -> Result<Option<[u8; SEED_BYTES]>, PathError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PathError::new("open", path, error)),
    };
    let mut bytes = Vec::with_capacity(SEED_BYTES);
    file.take(SEED_FILE_LIMIT)
        .read_to_end(&mut bytes)
        .map_err(|error| PathError::new("read", path, error))?;
    Ok(bytes.try_into().ok())
}

/// Replaces the seed file so that after a power cut either the old or the new one is there whole.
///
/// # Errors
/// The new file cannot be written, or not be put in place.
pub fn store_seed(path: &Path, seed: &[u8; SEED_BYTES]) -> Result<(), PathError> {
    let new = path.with_extension("new");
    let fail = |operation, path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| PathError::new(operation, path, error)
    };
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = open(&new, flags, Mode::from_raw_mode(0o600))
        .map(File::from)
        .map_err(|error| PathError::new("create", &new, error))?;
    file.write_all(seed).map_err(fail("write", &new))?;
    file.sync_all().map_err(fail("sync", &new))?;
    fs::rename(&new, path).map_err(fail("rename to", path))?;
    if let Some(parent) = path.parent() {
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(fail("sync", parent))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_seed_is_loaded_and_a_damaged_one_is_not() {
        let path = std::env::temp_dir().join(format!("holdfast-seed-{}", std::process::id()));
        assert!(load_seed(&path).unwrap().is_none());
        let seed = random().unwrap();
        store_seed(&path, &seed).unwrap();
        assert_eq!(load_seed(&path).unwrap(), Some(seed));
        fs::write(&path, &seed[1..]).unwrap();
        assert_eq!(load_seed(&path).unwrap(), None);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn two_draws_differ() {
        assert_ne!(random().unwrap(), random().unwrap());
    }
}
