//! Reference values: which digest of PCR 8 is which release. Added by the owner, withdrawn, and never deleted.

use holdfast_evidence::claims::OsClaim;
use holdfast_evidence::policy::{BootDigest, PcrDigest};
use holdfast_types::Version;

/// Who says that a measurement is a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Signed targets of the repository whose root the catalog trusts.
    Signed,
    /// The holder of a token, while the catalog trusts no root.
    ByHand,
}

impl Source {
    /// Returns the word for it, as JSON and the database have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::ByHand => "by-hand",
        }
    }

    /// Reads the word for it.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Signed, Self::ByHand].into_iter().find(|source| source.word() == word)
    }
}

/// A release that the owner has added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// What the boot loader extends into PCR 8 when it starts the release.
    pub boot: BootDigest,
    /// Its version.
    pub version: Version,
    /// Its rollback index.
    pub index: u64,
    /// True once the owner has withdrawn it.
    pub withdrawn: bool,
}

impl Release {
    /// Returns the digest of PCR 8 by which it is found: of one extend, so that nothing is searched.
    #[must_use]
    pub fn pcr(&self) -> PcrDigest {
        PcrDigest::of_one_extend(&self.boot)
    }

    /// True if a device that claims this runs the release, by its digest, version and rollback index. What was measured is
    /// believed, and claims that say otherwise show that what runs is not what it says.
    #[must_use]
    pub fn agrees_with(&self, claim: &OsClaim) -> bool {
        (self.boot, self.version, self.index) == (claim.digest, claim.version, claim.index)
    }
}
