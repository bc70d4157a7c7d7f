//! How many signatures one app may ask for: no app keeps the TPM from the others, and none wears it out.

/// Signatures a second, in the long run.
const A_SECOND: u64 = 8;
/// Signatures at once: those that are not made yet, and those of a burst after a pause.
const AT_ONCE: u64 = 16;
/// Parts of a signature that are counted, so that each millisecond gives a whole number of them.
const PARTS: u64 = 1000;
/// Parts that a millisecond gives.
const PARTS_A_MS: u64 = A_SECOND * PARTS / 1000;
/// A refusal is said no more often, in milliseconds.
const SAID_EVERY_MS: u64 = 60_000;

/// A reason to sign nothing for an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Limited {
    /// It has had more than its share.
    #[error("more than {A_SECOND} signatures a second")]
    TooOften,
    /// As many as may wait do.
    #[error("more than {AT_ONCE} signatures at once")]
    TooMany,
}

/// The allowance of one app. Times are milliseconds of the monotonic clock.
#[derive(Debug, Clone)]
pub struct Allowance {
    /// Parts of signatures that are left.
    parts: u64,
    filled_ms: u64,
    /// Signatures that are not made yet.
    open: u64,
}

impl Allowance {
    /// Begins with all of it.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self { parts: AT_ONCE.saturating_mul(PARTS), filled_ms: now_ms, open: 0 }
    }

    /// Begins a signature, which must [end](Self::end).
    ///
    /// # Errors
    /// See [`Limited`].
    pub fn begin(&mut self, now_ms: u64) -> Result<(), Limited> {
        let gained = now_ms.saturating_sub(self.filled_ms).saturating_mul(PARTS_A_MS);
        self.filled_ms = self.filled_ms.max(now_ms);
        self.parts = self.parts.saturating_add(gained).min(AT_ONCE.saturating_mul(PARTS));
        if self.open >= AT_ONCE {
            return Err(Limited::TooMany);
        }
        self.parts = self.parts.checked_sub(PARTS).ok_or(Limited::TooOften)?;
        self.open = self.open.saturating_add(1);
        Ok(())
    }

    /// A signature was made, or was not.
    pub fn end(&mut self) {
        self.open = self.open.saturating_sub(1);
    }
}

/// Says something once, and again after a minute at the earliest.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said(Option<u64>);

impl Said {
    /// True where it is to be said now.
    pub fn is_due(&mut self, now_ms: u64) -> bool {
        let is_due = self.0.is_none_or(|at| now_ms.saturating_sub(at) >= SAID_EVERY_MS);
        if is_due {
            self.0 = Some(now_ms);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a panic is a failed test")]
    use super::*;
    use proptest::prelude::*;

    fn take(allowance: &mut Allowance, now_ms: u64) -> Result<(), Limited> {
        allowance.begin(now_ms)?;
        allowance.end();
        Ok(())
    }

    #[test]
    fn an_app_has_eight_signatures_a_second_and_sixteen_at_once() {
        let mut allowance = Allowance::new(500);
        for _ in 0..AT_ONCE {
            assert_eq!(allowance.begin(500), Ok(()));
        }
        assert_eq!(allowance.begin(10_000), Err(Limited::TooMany), "none has ended");
        for _ in 0..AT_ONCE {
            allowance.end();
        }
        // What was refused has cost nothing, and a burst has filled up meanwhile.
        for _ in 0..AT_ONCE {
            assert_eq!(take(&mut allowance, 10_000), Ok(()));
        }
        assert_eq!(take(&mut allowance, 10_124), Err(Limited::TooOften));
        assert_eq!(take(&mut allowance, 10_125), Ok(()));
        assert_eq!(take(&mut allowance, 10_125), Err(Limited::TooOften));
        // A clock that goes back gives nothing.
        assert_eq!(take(&mut allowance, 0), Err(Limited::TooOften));
        assert_eq!(take(&mut allowance, 10_249), Err(Limited::TooOften));
        assert_eq!(take(&mut allowance, 10_250), Ok(()));
    }

    proptest! {
        /// However it asks.
        #[test]
        fn no_app_gets_more_than_its_share(pauses in proptest::collection::vec(0u64..400, 1..400)) {
            let (mut allowance, mut now, mut made) = (Allowance::new(0), 0, 0);
            for pause in pauses {
                now += pause;
                made += u64::from(take(&mut allowance, now).is_ok());
                prop_assert!(made <= AT_ONCE + now * A_SECOND / 1000);
            }
        }
    }

    #[test]
    fn a_refusal_is_said_once_a_minute() {
        let mut said = Said::default();
        let due = [0, 1, 59_999, 60_000, 60_001, 119_999, 120_000].map(|now| said.is_due(now));
        assert_eq!(due, [true, false, false, true, false, false, true]);
    }
}
