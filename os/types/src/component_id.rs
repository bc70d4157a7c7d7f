//! Component ids: GUIDs, as Azure Sphere has them.

use std::fmt;

/// The 16 bytes of a GUID, in the order of its text.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct ComponentId(pub [u8; 16]);

impl ComponentId {
    /// The id in a GUID's text, of either case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if !is_guid(text) {
            return None;
        }
        let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
        let mut id = [0u8; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let value = pair.iter().fold(0, |sum, digit| (sum << 4) | digit);
            *byte = u8::try_from(value).ok()?;
        }
        Some(Self(id))
    }
}

impl fmt::Display for ComponentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if [4, 6, 8, 10].contains(&index) {
                formatter.write_str("-")?;
            }
            write!(formatter, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ComponentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

/// True for 8-4-4-4-12 hexadecimal digits.
#[must_use]
pub fn is_guid(text: &str) -> bool {
    let lengths = [8usize, 4, 4, 4, 12];
    let mut parts = text.split('-');
    lengths.iter().all(|len| {
        parts.next().is_some_and(|p| p.len() == *len && p.bytes().all(|b| b.is_ascii_hexdigit()))
    }) && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_have_five_groups_of_hexadecimal_digits() {
        assert!(is_guid("25025D2C-66DA-4448-BAE1-AC26FCDD3627"));
        assert!(!is_guid("25025d2c-66da-4448-bae1-ac26fcdd362"));
        assert!(!is_guid("25025d2c-66da-4448-bae1-ac26fcdd3627-"));
        assert!(!is_guid("25025d2g-66da-4448-bae1-ac26fcdd3627"));
    }
}
