//! What stands in a header: versions, key ids and short names.

use super::NAME_BYTES;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// `major.minor.patch`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Version {
    /// Incompatible changes.
    pub major: u32,
    /// Additions.
    pub minor: u32,
    /// Corrections.
    pub patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The text is not three numbers with dots between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be three numbers, such as 1.0.0")]
pub struct NoVersion;

impl FromStr for Version {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let mut parts = text.split('.').map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if digits { part.parse().map_err(|_| NoVersion) } else { Err(NoVersion) }
        });
        let mut next = || parts.next().unwrap_or(Err(NoVersion));
        let version = Self { major: next()?, minor: next()?, patch: next()? };
        if parts.next().is_some() { Err(NoVersion) } else { Ok(version) }
    }
}

/// SHA-256 of a public key: the key's name.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct KeyId(pub [u8; 32]);

impl KeyId {
    /// The id of a public key.
    #[must_use]
    pub fn of(public: &[u8; 32]) -> Self {
        Self(Sha256::digest(public).into())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

/// A name of at most [`NAME_BYTES`] bytes of `a-z`, `0-9` and `-`; empty means "any".
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct ShortName(pub(super) [u8; NAME_BYTES]);

impl ShortName {
    /// The name in `text`.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let mut name = Self::default();
        name.0.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        name.is_valid().then_some(name)
    }

    /// The name without its padding.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
        self.0.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// True when this is "any" or `other`.
    #[must_use]
    pub fn admits(&self, other: &str) -> bool {
        self.as_str().is_empty() || self.as_str() == other
    }

    pub(super) fn is_valid(&self) -> bool {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
        let (name, padding) = self.0.split_at(length);
        padding.iter().all(|byte| *byte == 0)
            && name.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
    }
}

impl fmt::Debug for ShortName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_three_numbers() {
        assert_eq!("1.20.3".parse(), Ok(Version { major: 1, minor: 20, patch: 3 }));
        for bad in
            ["", "1", "1.2", "1.2.3.4", "1.2.x", "1.2.-3", "1.2.+3", "1..3", "1.2.4294967296"]
        {
            assert_eq!(bad.parse::<Version>(), Err(NoVersion), "{bad}");
        }
    }
}
