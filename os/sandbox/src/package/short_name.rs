//! Names of products and boards, as a header holds them.

use crate::package::NAME_BYTES;
use std::fmt;

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
