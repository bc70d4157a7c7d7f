//! The two slots and the boot state: which slot is booted next, and what makes it so.
//!
//! The boot loader and init both act on a [`BootState`]; nobody else writes it. The boot loader's
//! half, [`BootState::choose`], is carried out there by a script that the image builder writes, and
//! stands here so that tests and the host tool can follow it.
//!
//! ```text
//!             stage              boot loader              healthy
//!   Committed -----> Staged -----> Trying (tries - 1) -----> Committed (in the other slot)
//!       ^                            | no try left
//!       +--- healthy --- FallingBack +
//! ```

mod copies;
mod health;
mod last_reset;
mod running_slot;
mod status;

pub use copies::{COPY_BYTES, Copies, CopyError, checksum, copy, copy_offsets, read_copy};
pub use health::{Agreement, Health, Member, Verdict};
pub use last_reset::{LastReset, last_reset};
pub use running_slot::{CommandLineError, Floor, FloorError, RootTable, RunningSlot};
pub use status::{Status, StatusError};

pub use holdfast_types::{Phase, Slot};
use serde::Serialize;

/// Tries of a slot that was staged, or that was healthy when it ran last.
pub const TRIES: u8 = 3;

/// The state of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct SlotState {
    /// The boots that are left before the other slot is taken, at most [`TRIES`].
    pub tries: u8,
    /// True where it has been healthy, and is not known to have become unfit since.
    pub good: bool,
}

/// Not to be booted: empty, being written, or failed.
const UNBOOTABLE: SlotState = SlotState { tries: 0, good: false };
/// Has been healthy.
const COMMITTED: SlotState = SlotState { tries: TRIES, good: true };
/// To be booted once, whatever is known of it.
const LAST_TRY: SlotState = SlotState { tries: 1, good: false };

/// The boot state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct BootState {
    /// The slot to boot, as long as it has tries.
    pub slot: Slot,
    /// Slot A.
    pub a: SlotState,
    /// Slot B.
    pub b: SlotState,
}

/// A release that cannot be staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// The slot that runs has not been committed, so there would be nothing to fall back to.
    #[error("slot {} is on trial itself; stage again once it is committed", .0.letter())]
    OnTrial(Slot),
    /// A release was to be tried without having been announced.
    #[error("slot {} was not marked as being written", .0.letter())]
    NotAnnounced(Slot),
}

/// A choice of the boot loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Boot this slot, and hold that it is not fit where it does not verify.
    Boot(Slot),
    /// Halt: no slot is left to be tried.
    Halt,
}

impl BootState {
    /// Returns the state of a device as it leaves the factory: slot A holds the system, slot B nothing.
    #[must_use]
    pub fn factory() -> Self {
        Self { slot: Slot::A, a: COMMITTED, b: UNBOOTABLE }
    }

    /// Returns the state where nothing is known: A, then B, once each.
    #[must_use]
    pub fn unknown() -> Self {
        Self { slot: Slot::A, a: LAST_TRY, b: LAST_TRY }
    }

    /// Returns the state of `slot`.
    #[must_use]
    pub fn of(&self, slot: Slot) -> SlotState {
        match slot {
            Slot::A => self.a,
            Slot::B => self.b,
        }
    }

    fn of_mut(&mut self, slot: Slot) -> &mut SlotState {
        match slot {
            Slot::A => &mut self.a,
            Slot::B => &mut self.b,
        }
    }

    /// The boot loader's choice and the state that it saves *before* it acts on it.
    ///
    /// A slot with tries left is booted and loses one. When neither has any, both get a last one,
    /// the slot that was good first; both then count as not good, which is how it is known that
    /// their last tries are used up. After those it halts, and whoever switches the device off and
    /// on gets two last tries again.
    #[must_use]
    pub fn choose(self) -> (Choice, Self) {
        let mut next = self;
        let slot = if self.of(self.slot).tries > 0 {
            self.slot
        } else if self.of(self.slot.other()).tries > 0 {
            self.slot.other()
        } else {
            next.a = LAST_TRY;
            next.b = LAST_TRY;
            if !self.a.good && !self.b.good {
                return (Choice::Halt, next);
            }
            if !self.of(self.slot).good {
                next.slot = self.slot.other();
            }
            next.slot
        };
        let tries = &mut next.of_mut(slot).tries;
        *tries = tries.saturating_sub(1);
        (Choice::Boot(slot), next)
    }

    /// Returns the state after `slot` did not verify: it has no try left.
    #[must_use]
    pub fn does_not_verify(mut self, slot: Slot) -> Self {
        self.of_mut(slot).tries = 0;
        self
    }

    /// Returns the phase while `running` runs.
    #[must_use]
    pub fn phase(&self, running: Slot) -> Phase {
        if self.of(running).good {
            match (self.slot == running, self.of(self.slot).tries) {
                (true, _) => Phase::Committed,
                (false, 0) => Phase::FallingBack,
                (false, _) => Phase::Staged,
            }
        } else {
            Phase::Trying
        }
    }

    /// The state to save as soon as `running` runs, before anything that an app has a part in: a slot that
    /// is good has all its tries again. So nothing that a component does later can use them up.
    ///
    /// A slot on trial gets none before it is healthy. Nor does one whose root did not verify in the
    /// last run: no component can make that happen, and the other slot may be whole.
    #[must_use]
    pub fn renew(mut self, running: Slot, last: &LastReset) -> Self {
        let slot = self.of_mut(running);
        if slot.good && *last != LastReset::Verity {
            slot.tries = TRIES;
        }
        self
    }

    /// The state to save before the first byte of the other slot is written: that slot is not to be
    /// booted, whatever it held.
    ///
    /// # Errors
    /// The slot that runs is on trial.
    pub fn announce(mut self, running: Slot) -> Result<Self, StageError> {
        if !self.of(running).good {
            return Err(StageError::OnTrial(running));
        }
        self.slot = running;
        *self.of_mut(running.other()) = UNBOOTABLE;
        Ok(self)
    }

    /// The state to save once the other slot is written, read back and flushed: it is to be tried.
    ///
    /// # Errors
    /// The slot that runs is on trial, or the other was not announced.
    pub fn stage(mut self, running: Slot) -> Result<Self, StageError> {
        let target = running.other();
        if !self.of(running).good {
            return Err(StageError::OnTrial(running));
        }
        if self.of(target) != UNBOOTABLE || self.slot != running {
            return Err(StageError::NotAnnounced(target));
        }
        self.slot = target;
        self.of_mut(target).tries = TRIES;
        Ok(self)
    }

    /// The state to save when `running` has proved to be healthy: it is good and has all its tries.
    ///
    /// A slot that has used up its tries has failed, and is not booted again. A release that waits
    /// to be tried goes on waiting. `keep_other` is false when the rollback floor now excludes what
    /// the other slot holds.
    #[must_use]
    pub fn commit(mut self, running: Slot, keep_other: bool) -> Self {
        let waits = self.phase(running) == Phase::Staged;
        *self.of_mut(running) = COMMITTED;
        if !waits {
            self.slot = running;
            let other = self.of_mut(running.other());
            if !other.good || other.tries == 0 || !keep_other {
                *other = UNBOOTABLE;
            }
        }
        self
    }
}

#[cfg(test)]
mod tests;
