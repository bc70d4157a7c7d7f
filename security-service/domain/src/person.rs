//! Persons: who somebody is, whatever he shows to prove it. Two tokens of one person are one person.

use holdfast_types::hex::hex;
use sha2::{Digest, Sha256};
use std::fmt;

/// Longest name of a person that is shown, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// Longest issuer, subject or name of a group in bytes (OpenID Connect Core, 2: at most 255 characters of ASCII).
pub const MAX_SUBJECT_BYTES: usize = 255;
/// Most groups of a person that are looked at.
pub const MAX_GROUPS: usize = 256;
/// Bytes of the hash in a person's id.
const ID_BYTES: usize = 16;

/// A person's id: of somebody who signs in, a hash of issuer and subject, which is the same before he has signed in for the first time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersonId(String);

impl PersonId {
    /// Returns that of a provider's subject.
    #[must_use]
    pub fn of_subject(issuer: &str, subject: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"holdfast-person-1\0");
        for text in [issuer, subject] {
            hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(text);
        }
        let hash: [u8; 32] = hash.finalize().into();
        Self(format!("p{}", hex(hash.get(..ID_BYTES).unwrap_or(&hash))))
    }

    /// Returns that of somebody whom an owner has named, in a service that no provider signs in to.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(format!("named:{name}"))
    }

    /// Takes what was stored.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// Returns its text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PersonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who does something: the person, and the name that logs have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// The name: that of a token, or that of a person as the provider says it.
    pub name: String,
    /// The person.
    pub person: PersonId,
}

impl By {
    /// Returns that of somebody whom an owner has named, by this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), person: PersonId::named(name) }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Returns a name that somebody else has chosen as it may stand in logs and pages: without control characters and what turns text
/// around, and bounded. Where nothing is left, it is `fallback`.
#[must_use]
pub fn shown_name(name: &str, fallback: &str) -> String {
    let is_shown = |letter: &char| {
        !letter.is_control()
            && !matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let mut shown = String::new();
    for letter in name.chars().filter(is_shown) {
        if shown.len().saturating_add(letter.len_utf8()) > MAX_NAME_BYTES {
            break;
        }
        shown.push(letter);
    }
    let shown = shown.trim();
    if shown.is_empty() { fallback.to_owned() } else { shown.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_issuer_and_subject_and_nothing_else() {
        let id = PersonId::of_subject("https://id.example", "ole");
        assert_eq!(id, PersonId::of_subject("https://id.example", "ole"), "the control");
        for (issuer, subject) in [
            ("https://id.example", "ines"),
            ("https://other.example", "ole"),
            ("https://id.exampleo", "le"),
        ] {
            assert_ne!(id, PersonId::of_subject(issuer, subject), "{issuer} {subject}");
        }
        assert!(id.text().len() == 33 && id.text().starts_with('p'));
    }

    #[test]
    fn a_name_of_a_provider_is_bounded_and_turns_nothing_around() {
        assert_eq!(shown_name("Ines Müller", "p1"), "Ines Müller");
        assert_eq!(shown_name("a\nevent=x\u{202e}b\u{0}", "p1"), "aevent=xb");
        assert_eq!(shown_name(" \u{200b} ", "p1"), "p1");
        assert!(shown_name(&"é".repeat(500), "p1").len() <= MAX_NAME_BYTES);
    }
}
