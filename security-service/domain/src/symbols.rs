//! What is known of a program by its symbols: its build id, and the names of the functions at its addresses.

use holdfast_types::hex::hex;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Fewest bytes of a build id: those of a linker's quick hash.
pub const MIN_BUILD_ID_BYTES: usize = 8;
/// Most bytes of a build id: those of a SHA-256.
pub const MAX_BUILD_ID_BYTES: usize = 32;
/// Longest name of a function in bytes; a longer one ends there.
pub const MAX_NAME_BYTES: usize = 512;
/// Most bytes of a program with its symbols.
pub const MAX_SYMBOLS_BYTES: usize = 64 * 1024 * 1024;
/// Most programs of which a catalog has symbols.
pub const MAX_PROGRAMS: u32 = 4096;
/// Version of what makes names of addresses. It is raised with each change of a name, and names of another version are made anew.
pub const SYMBOLIZER: u64 = 1;

/// What a linker has written into a program's note `NT_GNU_BUILD_ID`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildId(Vec<u8>);

/// A text or bytes are no build id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be {} to {} pairs of lowercase hex digits", MIN_BUILD_ID_BYTES, MAX_BUILD_ID_BYTES)]
pub struct NoBuildId;

impl BuildId {
    /// Takes the bytes of the note.
    ///
    /// # Errors
    /// There are fewer than [`MIN_BUILD_ID_BYTES`] or more than [`MAX_BUILD_ID_BYTES`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NoBuildId> {
        let is_one = (MIN_BUILD_ID_BYTES..=MAX_BUILD_ID_BYTES).contains(&bytes.len());
        if is_one { Ok(Self(bytes.to_vec())) } else { Err(NoBuildId) }
    }

    /// Returns the bytes of the note.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for BuildId {
    type Err = NoBuildId;

    /// Reads it as it is written: one build id has one text.
    fn from_str(text: &str) -> Result<Self, NoBuildId> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if !rest.is_empty() || pairs.len() > MAX_BUILD_ID_BYTES {
            return Err(NoBuildId);
        }
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => byte.checked_sub(b'0'),
            b'a'..=b'f' => byte.checked_sub(b'a').and_then(|digit| digit.checked_add(10)),
            _ => None,
        };
        let pair = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
        let bytes: Option<Vec<u8>> = pairs.iter().map(pair).collect();
        Self::from_bytes(&bytes.ok_or(NoBuildId)?)
    }
}

/// The functions at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frames {
    /// The function whose source the instruction is of: the one that is inlined deepest.
    pub function: String,
    /// The function that the instruction lies in. It is the same where nothing is inlined.
    pub outer: String,
}

/// Returns the address by which the caller of a return address is found: within the call, which lies before it. The lowest bit, which
/// tells Thumb from ARM, is none of the address.
#[must_use]
pub fn of_return_address(address: u64) -> u64 {
    (address & !1).saturating_sub(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_id_has_one_text() {
        let id: BuildId = "00a1b2c3d4e5f607".parse().unwrap();
        assert_eq!(id.bytes(), [0, 0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 0xf6, 0x07]);
        assert_eq!(id.to_string(), "00a1b2c3d4e5f607");
        assert_eq!("ab".repeat(32).parse::<BuildId>().unwrap().bytes().len(), 32);
        let long = "ab".repeat(33);
        for bad in [
            "",
            "00a1b2c3d4e5f6",
            "00A1b2c3d4e5f607",
            "00a1b2c3d4e5f6071",
            "../a1b2c3d4e5f6",
            &long,
        ] {
            assert_eq!(bad.parse::<BuildId>(), Err(NoBuildId), "{bad}");
        }
    }

    #[test]
    fn a_caller_is_looked_for_within_its_call() {
        assert_eq!(of_return_address(0x1_0005), 0x1_0002, "Thumb");
        assert_eq!(of_return_address(0x1_0004), 0x1_0002, "ARM");
        assert_eq!(of_return_address(0), 0);
    }
}
