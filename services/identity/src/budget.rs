//! How often `uplink` may have the TPM work: whoever takes it over must not wear it out, nor keep apps from it.

/// Requests at once.
const MOST: u32 = 20;
/// Milliseconds after which there is one more.
const ONE_EACH_MS: u64 = 60_000;

/// What is left.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    left: u32,
    /// Milliseconds of the monotonic clock up to which it was filled.
    filled_ms: u64,
    is_said: bool,
}

/// An answer of [`Budget::take`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It may be done.
    Yes,
    /// It may not; this is the first time since the last that could.
    First,
    /// It may not.
    No,
}

impl Budget {
    /// Begins with all of it.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self { left: MOST, filled_ms: now_ms, is_said: false }
    }

    /// Takes one.
    pub fn take(&mut self, now_ms: u64) -> Taken {
        let minutes = now_ms.saturating_sub(self.filled_ms) / ONE_EACH_MS;
        self.filled_ms = self.filled_ms.saturating_add(minutes.saturating_mul(ONE_EACH_MS));
        let more = u32::try_from(minutes).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(more).min(MOST);
        match (self.left.checked_sub(1), self.is_said) {
            (Some(left), _) => {
                (self.left, self.is_said) = (left, false);
                Taken::Yes
            }
            (None, false) => {
                self.is_said = true;
                Taken::First
            }
            (None, true) => Taken::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_comes_back_by_the_minute_and_its_end_is_said_once() {
        let mut budget = Budget::new(1_000);
        for _ in 0..MOST {
            assert_eq!(budget.take(1_000), Taken::Yes);
        }
        assert_eq!(budget.take(60_999), Taken::First);
        assert_eq!(budget.take(60_999), Taken::No);
        assert_eq!(budget.take(61_000), Taken::Yes);
        assert_eq!(budget.take(61_000), Taken::First);
        // A day fills it, and no more.
        for _ in 0..MOST {
            assert_eq!(budget.take(100_000_000), Taken::Yes);
        }
        assert_eq!(budget.take(100_000_000), Taken::First);
    }
}
