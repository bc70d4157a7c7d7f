//! Signatures of failures: two failures with the same signature are of one group.
//!
//! A signature is made of names and not of addresses wherever there are names, so that the next build of a program leads to the same
//! group. Which algorithm has made it stands beside it: what was grouped by one never moves when another comes.

use crate::symbols::{BuildId, Frames};
use holdfast_types::ComponentId;
use sha2::{Digest, Sha256};

/// How a component has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// By a signal with this number.
    Signal(u8),
    /// By itself, with this exit status.
    Exit(u8),
    /// It was not ready, or said nothing, in time.
    Watchdog,
    /// It had more memory than its limit.
    Memory,
    /// It did what its sandbox forbids.
    Sandbox,
    /// What it read of its package was not what was signed.
    Verity,
}

impl Kind {
    /// A byte of its own for each, and the number that goes with it.
    fn bytes(self) -> [u8; 2] {
        match self {
            Self::Signal(number) => [1, number],
            Self::Exit(status) => [2, status],
            Self::Watchdog => [3, 0],
            Self::Memory => [4, 0],
            Self::Sandbox => [5, 0],
            Self::Verity => [6, 0],
        }
    }
}

/// Where a program was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// Names are known.
    Named {
        /// The functions at the program counter.
        at: &'a Frames,
        /// Those that the link register leads back to, where they are known.
        called_from: Option<&'a Frames>,
    },
    /// There are no symbols, or none at this address.
    Unnamed {
        /// The program.
        build_id: &'a BuildId,
        /// Its program counter.
        pc: u64,
    },
    /// Nothing is known of it, as of an exit.
    Nowhere,
}

/// The algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// Component, kind, and the functions at the program counter and at the link register; without names, component, build id
    /// and program counter.
    V1,
}

impl Algorithm {
    /// Returns the number that stands beside a signature.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::V1 => 1,
        }
    }

    /// Returns the algorithm of a number.
    #[must_use]
    pub fn of_number(number: u64) -> Option<Self> {
        (number == 1).then_some(Self::V1)
    }
}

/// What makes two failures one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature {
    /// What has made it.
    pub algorithm: Algorithm,
    /// SHA-256 of what it is made of.
    pub digest: [u8; 32],
}

impl Signature {
    /// Makes the signature of a failure by the first algorithm.
    #[must_use]
    pub fn v1(component: &ComponentId, kind: Kind, place: Place<'_>) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"holdfast-signature-1\0");
        hash.update(component.0);
        match place {
            Place::Named { at, called_from } => {
                hash.update([1]);
                hash.update(kind.bytes());
                text(&mut hash, at.function.as_bytes());
                text(&mut hash, called_from.map_or(&[], |frames| frames.function.as_bytes()));
            }
            // The kind is left out: one faulty instruction of one build is one group.
            Place::Unnamed { build_id, pc } => {
                hash.update([2]);
                text(&mut hash, build_id.bytes());
                hash.update(pc.to_be_bytes());
            }
            Place::Nowhere => {
                hash.update([3]);
                hash.update(kind.bytes());
            }
        }
        Self { algorithm: Algorithm::V1, digest: hash.finalize().into() }
    }
}

/// A text with its length, so that no two sequences of texts have the same bytes.
fn text(hash: &mut Sha256, bytes: &[u8]) {
    hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
    hash.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: ComponentId = ComponentId([1; 16]);

    fn frames(function: &str) -> Frames {
        Frames { function: function.to_owned(), outer: format!("{function}_outer") }
    }

    #[test]
    fn what_a_signature_is_made_of_changes_it_and_nothing_else_does() {
        let (at, from) = (frames("pump::run"), frames("pump::main"));
        let other = frames("pump::stop");
        let named = |at, called_from| Place::Named { at, called_from };
        let signature =
            |component: &ComponentId, kind, place| Signature::v1(component, kind, place);
        let base = signature(&APP, Kind::Signal(11), named(&at, Some(&from)));
        assert_eq!(base.algorithm.number(), 1);
        // The next build inlines otherwise: the function is the same.
        let inlined = Frames { outer: "pump::main".to_owned(), ..at.clone() };
        assert_eq!(base, signature(&APP, Kind::Signal(11), named(&inlined, Some(&from))));
        let build: BuildId = "00a1b2c3d4e5f607".parse().unwrap();
        let next: BuildId = "00a1b2c3d4e5f608".parse().unwrap();
        let unnamed = |build_id, pc| Place::Unnamed { build_id, pc };
        let all = [
            base,
            signature(&ComponentId([2; 16]), Kind::Signal(11), named(&at, Some(&from))),
            signature(&APP, Kind::Signal(6), named(&at, Some(&from))),
            signature(&APP, Kind::Exit(11), named(&at, Some(&from))),
            signature(&APP, Kind::Signal(11), named(&other, Some(&from))),
            signature(&APP, Kind::Signal(11), named(&at, Some(&other))),
            signature(&APP, Kind::Signal(11), named(&at, None)),
            signature(&APP, Kind::Signal(11), unnamed(&build, 0x1_0000)),
            signature(&APP, Kind::Signal(11), unnamed(&build, 0x1_0004)),
            signature(&APP, Kind::Signal(11), unnamed(&next, 0x1_0000)),
            signature(&APP, Kind::Watchdog, Place::Nowhere),
            signature(&APP, Kind::Memory, Place::Nowhere),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    /// Texts do not run into each other.
    #[test]
    fn a_name_that_has_the_next_one_in_it_is_another() {
        let place = |at, called_from| Place::Named { at, called_from };
        let (ab, c, a, bc) = (frames("ab"), frames("c"), frames("a"), frames("bc"));
        let first = Signature::v1(&APP, Kind::Signal(11), place(&ab, Some(&c)));
        let second = Signature::v1(&APP, Kind::Signal(11), place(&a, Some(&bc)));
        assert_ne!(first, second);
    }

    /// Groups are kept for years: the bytes may not change.
    #[test]
    fn the_first_algorithm_stays_what_it_is() {
        let (at, from) = (frames("pump::run"), frames("pump::main"));
        let place = Place::Named { at: &at, called_from: Some(&from) };
        let digest = Signature::v1(&APP, Kind::Signal(11), place).digest;
        let expected = "61df2c915fe0cc465d148e8b341a11579eca3cc77226c4e66d5f2669d47d1c6f";
        assert_eq!(holdfast_types::hex::hex(&digest), expected);
    }
}
