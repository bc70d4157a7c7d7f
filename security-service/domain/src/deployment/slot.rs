//! A device's slot in a deployment: given at a check-in, and from then on what its attestations show, and nothing that it says.

use crate::check_in::{Decision, Verdict};
use crate::problem::Problem;
use crate::schedule::DAY_S;
use holdfast_evidence::claims::{Claims, Phase};
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_types::Version;

/// Seconds without a check-in after which a device that was given a release is silent.
pub const SILENT_S: u64 = DAY_S;
/// Seconds behind the time of its next check-in in which it is not silent yet: it has to be late for that.
pub const LATE_S: u64 = 60 * 60;
/// Seconds for which an app's version must have been attested before it counts as committed: claims do not say whether an app is on
/// trial, which ends within minutes.
pub const APP_SETTLED_S: u64 = 60 * 60;

/// What is deployed: a version of the OS or of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The OS or the app.
    pub subject: ReleaseSubject,
    /// The version.
    pub version: Version,
}

macro_rules! outcomes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal;)+) => {
        /// What has become of a slot.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Outcome { $($(#[doc = $doc])+ $variant),+ }

        impl Outcome {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns the word for it.
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

outcomes! {
    /// The device was told, and has not attested the release.
    Granted = "granted";
    /// It has attested the release, which is on trial.
    Trial = "trial";
    /// It has attested the release, committed: the only success that there is.
    Committed = "committed";
    /// It has tried the release, and runs the one before.
    FellBack = "fell-back";
    /// It says that it cannot use the release. That is believed of itself, since it can only stop something.
    Refused = "refused";
    /// It has not checked in when it was to.
    Silent = "silent";
}

impl Outcome {
    /// True until there is an end of it.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Granted | Self::Trial)
    }
}

/// A slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// What has become of it.
    pub outcome: Outcome,
    /// True where a person has gone on in spite of it: it counts for nothing any more, until it changes.
    pub is_forgiven: bool,
    /// When it was given, in seconds since 1970.
    pub granted_at: u64,
    /// When the release was attested first, in seconds since 1970; 0 before.
    pub tried_at: u64,
    /// When its outcome has changed last.
    pub changed_at: u64,
    /// From when on the device is silent, if nothing comes before.
    pub silent_at: u64,
}

/// What a check-in shows of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sighting {
    /// It runs what is deployed.
    Target {
        /// True where it is committed.
        is_committed: bool,
        /// True where an attestation cannot say so, and time has to.
        settles: bool,
    },
    /// It runs something else.
    Other {
        /// True where a slot has failed to start before the one that runs.
        has_fallen_back: bool,
    },
    /// What it runs is not known, or it is not known to be the device: that proves nothing, not even that it is there.
    Doubted,
}

/// Reasons for which a device's evidence proves nothing about a release.
const DOUBTS: [Problem; 4] = [
    Problem::ReceiptForked,
    Problem::TpmClockWentBack,
    Problem::DebugBuild,
    Problem::ReleaseWithdrawn,
];

impl Sighting {
    /// Returns what a decided check-in with these claims shows of a target. A decision that issues was made of a measurement that is
    /// the release's, with which the claims agree.
    #[must_use]
    pub fn of(target: &Target, decision: &Decision, claims: &Claims) -> Self {
        let Verdict::Issue(issue) = &decision.verdict else {
            return Self::Doubted;
        };
        let Some(release) = decision
            .write
            .release
            .filter(|_| !issue.reasons.iter().any(|reason| DOUBTS.contains(reason)))
        else {
            return Self::Doubted;
        };
        let phase = decision.write.phase;
        let has_fallen_back = phase == Phase::FallingBack;
        match target.subject {
            ReleaseSubject::Os if release.version == target.version => {
                let is_committed = matches!(phase, Phase::Committed | Phase::Staged);
                Self::Target { is_committed, settles: false }
            }
            ReleaseSubject::Os => Self::Other { has_fallen_back },
            ReleaseSubject::App(id) => {
                let app = claims.apps.iter().find(|app| app.id == id);
                match app {
                    Some(app) if app.version == target.version => {
                        Self::Target { is_committed: false, settles: true }
                    }
                    _ => Self::Other { has_fallen_back: false },
                }
            }
        }
    }
}

impl Slot {
    /// Makes the slot of a device that checks in at `now` and is to come again at `next_at`, in seconds since 1970.
    #[must_use]
    pub fn grant(now: u64, next_at: u64) -> Self {
        let silent_at = silent_at(now, next_at);
        Self {
            outcome: Outcome::Granted,
            is_forgiven: false,
            granted_at: now,
            tried_at: 0,
            changed_at: now,
            silent_at,
        }
    }

    /// Returns the slot after a check-in at `now` that is followed by one at `next_at`.
    #[must_use]
    pub fn seen(self, sighting: Sighting, now: u64, next_at: u64) -> Self {
        let tried = self.tried_at > 0;
        let outcome = match (sighting, self.outcome) {
            (Sighting::Doubted, _) => return self,
            (_, Outcome::Committed) => Outcome::Committed,
            (Sighting::Target { is_committed: true, .. }, _) => Outcome::Committed,
            (Sighting::Target { settles: true, .. }, _)
                if tried && now.saturating_sub(self.tried_at) >= APP_SETTLED_S =>
            {
                Outcome::Committed
            }
            (Sighting::Target { .. }, _) => Outcome::Trial,
            (Sighting::Other { .. }, Outcome::FellBack | Outcome::Refused) => self.outcome,
            (Sighting::Other { has_fallen_back }, _) if has_fallen_back || tried => {
                Outcome::FellBack
            }
            (Sighting::Other { .. }, _) => Outcome::Granted,
        };
        let is_target = matches!(sighting, Sighting::Target { .. });
        // Who has fallen back and tries again begins anew.
        let tried_at = if is_target && !tried { now } else { self.tried_at };
        let tried_at = if outcome == Outcome::FellBack { 0 } else { tried_at };
        let silent_at = silent_at(now, next_at);
        let seen = Self { tried_at, silent_at, ..self };
        seen.become_at(outcome, now)
    }

    /// Returns the slot of a device that says at `now` that it cannot use the release.
    #[must_use]
    pub fn refuse(self, now: u64) -> Self {
        if self.outcome == Outcome::Granted { self.become_at(Outcome::Refused, now) } else { self }
    }

    /// Returns the slot once nothing has come until `now`.
    #[must_use]
    pub fn fall_silent(self, now: u64) -> Self {
        if self.outcome.is_open() && now >= self.silent_at {
            self.become_at(Outcome::Silent, now)
        } else {
            self
        }
    }

    fn become_at(self, outcome: Outcome, now: u64) -> Self {
        if outcome == self.outcome {
            return self;
        }
        Self { outcome, is_forgiven: false, changed_at: now, ..self }
    }
}

fn silent_at(now: u64, next_at: u64) -> u64 {
    now.saturating_add(SILENT_S).max(next_at.saturating_add(LATE_S))
}

/// True if a decided check-in shows a device that runs a committed release, and is the device that it was: only such a one is given
/// another.
#[must_use]
pub fn is_settled(decision: &Decision) -> bool {
    let Verdict::Issue(issue) = &decision.verdict else { return false };
    let is_doubted = [Problem::ReceiptForked, Problem::TpmClockWentBack]
        .iter()
        .any(|doubt| issue.reasons.contains(doubt));
    !is_doubted && matches!(decision.write.phase, Phase::Committed | Phase::Staged)
}

/// Slots by what has become of them, those alone that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// All of them.
    pub granted: i64,
    /// Those that have succeeded.
    pub committed: i64,
    /// Those that have failed.
    pub failed: i64,
    /// Those whose devices are silent.
    pub silent: i64,
}

impl Tally {
    /// Returns what one slot counts.
    #[must_use]
    pub fn of(slot: &Slot) -> Self {
        if slot.is_forgiven {
            return Self::default();
        }
        let is = |outcome| i64::from(slot.outcome == outcome);
        Self {
            granted: 1,
            committed: is(Outcome::Committed),
            failed: is(Outcome::FellBack).saturating_add(is(Outcome::Refused)),
            silent: is(Outcome::Silent),
        }
    }

    /// Returns the sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            granted: self.granted.saturating_add(other.granted),
            committed: self.committed.saturating_add(other.committed),
            failed: self.failed.saturating_add(other.failed),
            silent: self.silent.saturating_add(other.silent),
        }
    }

    /// Returns by how much it differs from another.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            granted: self.granted.saturating_sub(other.granted),
            committed: self.committed.saturating_sub(other.committed),
            failed: self.failed.saturating_sub(other.failed),
            silent: self.silent.saturating_sub(other.silent),
        }
    }
}

/// Slots of a deployment: all of them, and those that its stage has given. What devices of stages before do says nothing about this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tallies {
    /// All of them.
    pub all: Tally,
    /// Those that the stage has given.
    pub stage: Tally,
}
