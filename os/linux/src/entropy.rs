//! The kernel's random pool and the seed that is carried from boot to boot.
//!
//! Source: `random(4)`. A seed serves one boot: init replaces the file, and the replacement is on
//! the medium, before any component that could draw from the pool is started.

use crate::{PathError, file};
use rustix::fs::{Mode, OFlags, open};
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;
use std::path::Path;

/// Bytes in a seed.
pub const SEED_BYTES: usize = 64;

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
/// [`file::replace`] stores the next one.
///
/// # Errors
/// The file is there and cannot be read, or is no regular file.
pub fn load_seed(path: &Path) -> Result<Option<[u8; SEED_BYTES]>, PathError> {
    let bytes = file::read_bounded(path, SEED_BYTES)?;
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_seed_is_loaded_and_a_damaged_one_is_not() {
        let path = std::env::temp_dir().join(format!("holdfast-seed-{}", std::process::id()));
        assert!(load_seed(&path).unwrap().is_none());
        let seed = random().unwrap();
        file::replace(&path, &seed).unwrap();
        assert_eq!(load_seed(&path).unwrap(), Some(seed));
        std::fs::write(&path, &seed[1..]).unwrap();
        assert_eq!(load_seed(&path).unwrap(), None);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn two_draws_differ() {
        assert_ne!(random().unwrap(), random().unwrap());
    }
}
