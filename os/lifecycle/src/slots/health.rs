//! When a boot is healthy: every critical component has been ready for as long as it must.
//!
//! Time is passed in as milliseconds of the monotonic clock.

use holdfast_types::Millis;

/// No boot is healthy before init has supervised for this long, whatever there is to supervise.
const LEAST_UPTIME_MS: Millis = 5_000;
/// A critical component that has not been stable for this long, beyond what it may take, has failed:
/// long enough for several restarts.
const PATIENCE_MS: Millis = 30_000;

/// A release on trial to whose commit the update agent has not agreed for this long has failed.
const AGREEMENT_MS: Millis = 300_000;

/// A critical component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The caller's index of it.
    pub index: usize,
    stable_for: Millis,
    patience: Millis,
    /// Since when it is ready, while it is.
    ready_since: Option<Millis>,
    /// When it was last known to be stable; before that, when supervision began.
    last_stable: Millis,
}

impl Member {
    /// A component that may take `ready_within_ms` to get ready and must stay so for
    /// `stable_for_ms`.
    #[must_use]
    pub fn new(index: usize, ready_within_ms: u32, stable_for_ms: u32, now: Millis) -> Self {
        let stable_for = Millis::from(stable_for_ms);
        Self {
            index,
            stable_for,
            patience: PATIENCE_MS
                .saturating_add(stable_for)
                .saturating_add(Millis::from(ready_within_ms)),
            ready_since: None,
            last_stable: now,
        }
    }

    fn stable_at(&self) -> Option<Millis> {
        self.ready_since.map(|since| since.saturating_add(self.stable_for))
    }

    fn fails_at(&self) -> Millis {
        self.last_stable.saturating_add(self.patience)
    }
}

/// The health of this boot, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not yet; ask again at the given time.
    Pending(Millis),
    /// Every critical component is stable.
    Healthy,
    /// The component of this index has not been stable for too long.
    Failed(usize),
}

/// Whether the update agent has something against a commit: it says so by its silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// Nobody is asked: no release is on trial, or there is no update agent.
    NotNeeded,
    /// The component of this index is waited for, until then.
    Awaited(usize, Millis),
}

impl Agreement {
    /// From `now` on, the component of `index` must agree.
    #[must_use]
    pub fn awaited(index: usize, now: Millis) -> Self {
        Self::Awaited(index, now.saturating_add(AGREEMENT_MS))
    }

    /// Weighs a verdict on the components.
    #[must_use]
    pub fn weigh(self, verdict: Verdict, now: Millis) -> Verdict {
        match (self, verdict) {
            (Self::Awaited(index, until), Verdict::Healthy) if until <= now => {
                Verdict::Failed(index)
            }
            (Self::Awaited(_, until), Verdict::Healthy) => Verdict::Pending(until),
            (_, verdict) => verdict,
        }
    }
}

/// The critical components of a boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    since: Millis,
    members: Vec<Member>,
}

impl Health {
    /// At the moment in which supervision begins.
    #[must_use]
    pub fn new(now: Millis, members: Vec<Member>) -> Self {
        Self { since: now, members }
    }

    /// Takes note of whether the component of `index` has been ready without a break since
    /// `ready_since`.
    pub fn observe(&mut self, index: usize, ready_since: Option<Millis>, now: Millis) {
        for member in self.members.iter_mut().filter(|member| member.index == index) {
            member.ready_since = ready_since;
            if member.stable_at().is_some_and(|at| at <= now) {
                member.last_stable = now;
            }
        }
    }

    /// The component of `index` does not count any more.
    pub fn forget(&mut self, index: usize) {
        self.members.retain(|member| member.index != index);
    }

    /// Returns what is known at this time.
    #[must_use]
    pub fn verdict(&self, now: Millis) -> Verdict {
        if let Some(failed) = self.members.iter().find(|member| member.fails_at() <= now) {
            return Verdict::Failed(failed.index);
        }
        let stable_at = self.members.iter().map(Member::stable_at);
        let least = Some(self.since.saturating_add(LEAST_UPTIME_MS));
        let mut latest = stable_at.chain([least]);
        // `None` where one is not even ready.
        match latest.try_fold(0, |latest, at| Some(at?.max(latest))) {
            Some(at) if at <= now => Verdict::Healthy,
            Some(at) => Verdict::Pending(at),
            None => {
                let first = self.members.iter().map(Member::fails_at).min();
                Verdict::Pending(first.unwrap_or(now))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_critical_components_a_boot_is_healthy_after_a_while() {
        let health = Health::new(100, Vec::new());
        assert_eq!(health.verdict(100), Verdict::Pending(5_100));
        assert_eq!(health.verdict(5_100), Verdict::Healthy);
    }

    #[test]
    fn a_critical_component_must_stay_ready_for_its_time() {
        let mut health = Health::new(0, vec![Member::new(3, 1_000, 8_000, 0)]);
        health.observe(3, Some(500), 600);
        assert_eq!(health.verdict(600), Verdict::Pending(8_500));
        // It ended and is ready again: the time begins anew.
        health.observe(3, Some(8_000), 8_500);
        assert_eq!(health.verdict(8_500), Verdict::Pending(16_000));
        health.observe(3, Some(8_000), 16_000);
        assert_eq!(health.verdict(16_000), Verdict::Healthy);
    }

    #[test]
    fn a_release_on_trial_needs_the_agreement_of_the_update_agent() {
        let awaited = Agreement::awaited(4, 1_000);
        let at = 1_000 + AGREEMENT_MS;
        assert_eq!(awaited.weigh(Verdict::Healthy, 2_000), Verdict::Pending(at));
        assert_eq!(awaited.weigh(Verdict::Healthy, at), Verdict::Failed(4));
        assert_eq!(awaited.weigh(Verdict::Pending(7), at), Verdict::Pending(7));
        assert_eq!(awaited.weigh(Verdict::Failed(1), 2_000), Verdict::Failed(1));
        assert_eq!(Agreement::NotNeeded.weigh(Verdict::Healthy, at), Verdict::Healthy);
    }

    #[test]
    fn one_that_is_never_stable_fails_and_a_stable_one_never_does() {
        let mut health =
            Health::new(0, vec![Member::new(0, 0, 1_000, 0), Member::new(1, 0, 1_000, 0)]);
        for now in (0..31_000).step_by(500) {
            health.observe(0, Some(0), now);
            // In a crash loop: ready again and again, never for long.
            health.observe(1, Some(now.saturating_sub(100)), now);
            assert!(matches!(health.verdict(now), Verdict::Pending(_)), "at {now}");
        }
        health.observe(0, Some(0), 31_000);
        assert_eq!(health.verdict(31_000), Verdict::Failed(1));
    }

    proptest! {
        /// Whoever asks again at the time that a verdict names gets on: no busy loop, no sleep for ever.
        #[test]
        fn pending_names_a_time_to_come(
            ready in proptest::option::of(0u64..100_000), now in 0u64..100_000, within in 0u32..60_000,
        ) {
            let mut health = Health::new(0, vec![Member::new(0, within, 5_000, 0)]);
            health.observe(0, ready.filter(|at| *at <= now), now);
            if let Verdict::Pending(at) = health.verdict(now) {
                prop_assert!(at > now);
                prop_assert!(!matches!(health.verdict(at), Verdict::Pending(_)));
            }
        }
    }
}
