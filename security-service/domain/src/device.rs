//! Devices, as rows of a catalog, and what is found about them.

use crate::grade::Grade;
use crate::receipt::Receipts;
use holdfast_evidence::attest::ClockInfo;
use holdfast_evidence::messages::{CatalogId, DeviceId};
use serde::{Deserialize, Serialize};

/// What a device's id is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The endorsement key of a TPM.
    Tpm,
    /// A key in the device's `state`.
    Software,
}

impl Kind {
    /// Returns what the id is made of where somebody vouches for this grade.
    #[must_use]
    pub fn of_grade(grade: Grade) -> Self {
        if grade == Grade::Software { Self::Software } else { Self::Tpm }
    }
}

/// The state of a device in its catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It has asked to enrol, and nobody has claimed it.
    Waiting,
    /// It was claimed, and has not enrolled yet.
    Claimed,
    /// Its key is known, and it may check in.
    Enrolled,
    /// Its owner has given it up: it is refused until it is claimed again.
    Retired,
}

macro_rules! words {
    ($kind:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $kind {
            /// Returns the word for it, as JSON and the database have it.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Reads the word for it.
            #[must_use]
            pub fn of_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words!(Kind { Tpm = "tpm", Software = "software" });
words!(State { Waiting = "waiting", Claimed = "claimed", Enrolled = "enrolled", Retired = "retired" });

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its catalog.
    pub catalog: CatalogId,
    /// Its id.
    pub id: DeviceId,
    /// What the id is made of.
    pub kind: Kind,
    /// Its state.
    pub state: State,
    /// The grade that the claim list vouches for.
    pub claimed_grade: Option<Grade>,
    /// The grade that it was enrolled with.
    pub grade: Option<Grade>,
    /// The key that its evidence is verified by: `TPM2B_PUBLIC` of the attestation key, or a software key's point.
    pub key: Option<Vec<u8>>,
    /// True while its owner has it quarantined.
    pub quarantined: bool,
    /// What is known of its receipts.
    pub receipts: Receipts,
    /// The TPM's time at its last check-in.
    pub clock: Option<ClockInfo>,
    /// Counts changes of the row; whoever writes names the one that he has read.
    pub revision: u64,
}

/// What is found about a device, which stays open until somebody closes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// A claimed device has measured what is no release.
    MeasurementUnknown,
    /// Its claims and PCR 8, or its release, do not agree.
    ClaimsDisagree,
    /// Two of it have checked in, or its state was put back.
    ReceiptForked,
    /// The TPM's clock showed less than before.
    TpmClockWentBack,
    /// It came with another key than it was enrolled with.
    KeyChanged,
    /// It ran a release that was withdrawn.
    ReleaseWithdrawn,
    /// It ran a release below the least rollback index of its group.
    BelowLeastIndex,
    /// It ran an image with a debug port.
    DebugBuild,
    /// A slot of it failed to start.
    SlotFailed,
}

words!(Finding {
    MeasurementUnknown = "measurement-unknown",
    ClaimsDisagree = "claims-disagree",
    ReceiptForked = "receipt-forked",
    TpmClockWentBack = "tpm-clock-went-back",
    KeyChanged = "key-changed",
    ReleaseWithdrawn = "release-withdrawn",
    BelowLeastIndex = "below-least-index",
    DebugBuild = "debug-build",
    SlotFailed = "slot-failed",
});
