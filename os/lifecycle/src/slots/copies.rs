//! The two copies of the boot state on disk: U-Boot's redundant environment, 512 bytes each.
//!
//! ```text
//! 0     4     5                                                            512
//! | CRC | age | good_a=1 NUL good_b=0 NUL slot=a NUL tries_a=3 NUL tries_b=0 NUL NUL | zeros
//! ```
//!
//! The CRC-32 (little-endian) is over everything behind the age. Names are in alphabetical order, as
//! U-Boot exports them. The age counts saves modulo 256; the younger copy is the one whose age is
//! higher, where 0 follows 255. A copy is one sector, which a medium writes whole or not at all; a
//! torn one would be caught by its CRC. Source: `env_t` and `env_check_redund` of U-Boot.

use crate::slots::{BootState, Slot, SlotState, TRIES};
use crc::{Crc, NoTable};
use std::fmt::Write;

/// Bytes of a copy: one sector.
pub const COPY_BYTES: usize = 512;
/// Place of the first variable.
const DATA: usize = 5;
const CRC: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&crc::CRC_32_ISO_HDLC);

/// A copy that is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// Shorter or longer than a copy.
    #[error("it has {0} bytes, not {COPY_BYTES}")]
    Length(usize),
    /// Never written, torn, or changed.
    #[error("its CRC does not fit")]
    Crc,
    /// The CRC fits, and yet it is no boot state.
    #[error("it does not hold the five variables as they are written")]
    Variables,
}

/// Where the two copies begin in their partition of so many bytes: in erase blocks of their own.
#[must_use]
pub fn copy_offsets(partition_bytes: u64) -> [u64; 2] {
    [0, partition_bytes / 2]
}

/// The CRC of a copy's data.
#[must_use]
pub fn checksum(data: &[u8]) -> u32 {
    CRC.checksum(data)
}

/// The copy that holds `state` at `age`.
#[must_use]
pub fn copy(state: &BootState, age: u8) -> [u8; COPY_BYTES] {
    let mut text = String::new();
    let BootState { slot, a, b } = state;
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "good_a={}\0good_b={}\0slot={}\0tries_a={}\0tries_b={}\0",
        u8::from(a.good),
        u8::from(b.good),
        slot.letter(),
        a.tries,
        b.tries
    );
    let mut copy = [0; COPY_BYTES];
    for (at, byte) in copy.iter_mut().skip(DATA).zip(text.bytes()) {
        *at = byte;
    }
    let crc = checksum(copy.get(DATA..).unwrap_or_default());
    for (at, byte) in copy.iter_mut().zip(crc.to_le_bytes().into_iter().chain([age])) {
        *at = byte;
    }
    copy
}

/// The state and the age that a copy holds.
///
/// # Errors
/// See [`CopyError`]; whatever is not exactly as [`copy`] writes it is refused.
pub fn read_copy(bytes: &[u8]) -> Result<(BootState, u8), CopyError> {
    let whole: &[u8; COPY_BYTES] = bytes.try_into().map_err(|_| CopyError::Length(bytes.len()))?;
    let (crc, rest) = whole.split_first_chunk::<4>().ok_or(CopyError::Crc)?;
    let (age, data) = rest.split_first().ok_or(CopyError::Crc)?;
    if checksum(data) != u32::from_le_bytes(*crc) {
        return Err(CopyError::Crc);
    }
    let state = variables(data).ok_or(CopyError::Variables)?;
    if copy(&state, *age) == *whole { Ok((state, *age)) } else { Err(CopyError::Variables) }
}

fn variables(data: &[u8]) -> Option<BootState> {
    let mut variables = data.split(|byte| *byte == 0);
    let mut next = |name: &str| -> Option<&str> {
        let text = std::str::from_utf8(variables.next()?).ok()?;
        text.strip_prefix(name)?.strip_prefix('=')
    };
    let good = |text: &str| match text {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    };
    let tries = |text: &str| text.parse().ok().filter(|tries| *tries <= TRIES);
    let (good_a, good_b) = (good(next("good_a")?)?, good(next("good_b")?)?);
    let slot = Slot::from_letter(next("slot")?)?;
    let a = SlotState { tries: tries(next("tries_a")?)?, good: good_a };
    let b = SlotState { tries: tries(next("tries_b")?)?, good: good_b };
    Some(BootState { slot, a, b })
}

/// Both copies, as they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copies {
    /// In the order in which they lie on disk.
    pub copies: [Result<(BootState, u8), CopyError>; 2],
}

impl Copies {
    /// Reads both.
    #[must_use]
    pub fn read(first: &[u8], second: &[u8]) -> Self {
        Self { copies: [read_copy(first), read_copy(second)] }
    }

    /// Index of the younger valid copy; where the ages do not tell, the first.
    #[must_use]
    pub fn younger(&self) -> Option<usize> {
        match self.copies {
            [Ok((_, first)), Ok((_, second))] => {
                let second_is_younger = match (first, second) {
                    (255, 0) => true,
                    (0, 255) => false,
                    _ => second > first,
                };
                Some(usize::from(second_is_younger))
            }
            [Ok(_), Err(_)] => Some(0),
            [Err(_), Ok(_)] => Some(1),
            [Err(_), Err(_)] => None,
        }
    }

    /// The state that holds; none where no copy is valid.
    #[must_use]
    pub fn state(&self) -> Option<BootState> {
        self.copies.get(self.younger()?)?.ok().map(|(state, _)| state)
    }

    /// Which copy is to be overwritten with `state`, and with what: never the one that holds.
    #[must_use]
    pub fn save(&self, state: &BootState) -> (usize, [u8; COPY_BYTES]) {
        match self.younger() {
            None => (0, copy(state, 1)),
            Some(younger) => {
                let found = self.copies.get(younger).and_then(|copy| copy.ok());
                let age = found.map_or(0, |(_, age)| age);
                (usize::from(younger == 0), copy(state, age.wrapping_add(1)))
            }
        }
    }
}
