//! The kernel's random pool and the seed that is carried from boot to boot.
//!
//! Source: `random(4)`. A seed is mixed into the pool and never counts as entropy: whoever held the medium may have
//! chosen it, or have copied it to another device. The pool is ready once the kernel has gathered enough by itself.

use crate::{PathError, file};
use rustix::fs::{Mode, OFlags, open};
use rustix::rand::{GetRandomFlags, getrandom};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Bytes in a seed.
pub const SEED_BYTES: usize = 64;
const POOL: &str = "/dev/urandom";

/// Mixes `seed` into the pool. It can only make the pool harder to guess, and makes it no sooner ready.
///
/// # Errors
/// `/dev/urandom` cannot be opened or written.
pub fn mix(seed: &[u8; SEED_BYTES]) -> Result<(), PathError> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let pool = open(POOL, flags, Mode::empty());
    let pool = pool.map_err(|error| PathError::new("open", POOL, error))?;
    File::from(pool).write_all(seed).map_err(|error| PathError::new("write", POOL, error))
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

    /// What counts as entropy needs a privilege (`RNDADDENTROPY`); what is only mixed in needs none.
    #[test]
    fn a_seed_is_mixed_in_without_a_privilege() {
        mix(&random().unwrap()).unwrap();
    }

    #[test]
    fn two_draws_differ() {
        assert_ne!(random().unwrap(), random().unwrap());
    }
}
