//! What does not wait for the next check-in, and how often a device may say so.

use crate::record::{Body, End, Outcome};
use crate::signature::Signature;
use std::collections::BTreeSet;

/// Most urgent uploads in [`DAY_S`].
pub const MAX_A_DAY: usize = 4;
/// Most of them for what an app can bring about at will: the last is for an update that is refused by its signature, and for a damaged package.
pub const MAX_OF_APPS_A_DAY: usize = 3;
/// Seconds of a day.
pub const DAY_S: u64 = 24 * 60 * 60;
/// An urgent upload waits for less than this, in seconds, so that a fleet does not come at once.
pub const JITTER_S: u64 = 180;
/// A refusal is urgent from this many addresses in an hour on, as a power of 2.
pub const ADDRESSES_LOG2: u8 = 5;
/// Most signatures that are remembered as seen. Once there are so many, no other is new.
const MAX_SEEN: usize = 64;

/// Decides what is urgent, and when it is sent. Forgets everything with the boot.
#[derive(Debug, Clone, Default)]
pub struct Urgency {
    seen: BTreeSet<Signature>,
    /// When urgent uploads were due, in seconds since the boot, the oldest first.
    sent_at: Vec<u64>,
    due_at: Option<u64>,
}

impl Urgency {
    /// Takes a record that was made `now` seconds after the boot. `random` decides how long an urgent one waits.
    pub fn take(&mut self, body: &Body, now: u64, random: u64) {
        if !self.is_urgent(body) || self.due_at.is_some() {
            return;
        }
        self.sent_at.retain(|sent| now.saturating_sub(*sent) < DAY_S);
        let most = if is_of_apps(body) { MAX_OF_APPS_A_DAY } else { MAX_A_DAY };
        if self.sent_at.len() < most {
            self.due_at = Some(now.saturating_add(random.checked_rem(JITTER_S).unwrap_or(0)));
        }
    }

    /// True where an urgent upload is due at `now`.
    #[must_use]
    pub fn is_due(&self, now: u64) -> bool {
        self.due_at.is_some_and(|due| due <= now)
    }

    /// An urgent upload has failed at `now`: it is tried again after three to six minutes.
    pub fn failed(&mut self, now: u64, random: u64) {
        if self.is_due(now) {
            let wait = JITTER_S.saturating_add(random.checked_rem(JITTER_S).unwrap_or(0));
            self.due_at = Some(now.saturating_add(wait));
        }
    }

    /// Everything was uploaded at `now`, for whatever reason.
    pub fn uploaded(&mut self, now: u64) {
        if self.due_at.take().is_some_and(|due| due <= now) {
            self.sent_at.push(now);
        }
    }

    fn is_urgent(&mut self, body: &Body) -> bool {
        match body {
            Body::Ended(ended) => {
                let is_new = self.is_new(body);
                is_new || matches!(ended.end, End::Sandbox | End::Verity)
            }
            Body::Refused(refused) => refused.addresses_log2 >= ADDRESSES_LOG2 && self.is_new(body),
            Body::Update(update) => update.outcome == Outcome::RefusedSignature,
            Body::Boot(_)
            | Body::Traffic(_)
            | Body::Used(_)
            | Body::Storage(_)
            | Body::Clock(_)
            | Body::CheckIn(_)
            | Body::Lost(_) => false,
        }
    }

    fn is_new(&mut self, body: &Body) -> bool {
        let Some(signature) = Signature::of(body) else {
            return false;
        };
        self.seen.len() < MAX_SEEN && self.seen.insert(signature)
    }
}

/// True for what an app can bring about as often as it likes.
fn is_of_apps(body: &Body) -> bool {
    match body {
        Body::Ended(ended) => ended.end != End::Verity,
        Body::Update(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Ended, Update};
    use crate::samples;

    fn ended(end: End) -> Body {
        Body::Ended(Ended { end, ..samples::ended() })
    }

    #[test]
    fn a_new_failure_is_sent_within_three_minutes_and_the_same_one_once() {
        let mut urgency = Urgency::default();
        urgency.take(&ended(End::Signal(11)), 100, 359);
        assert!(!urgency.is_due(278));
        assert!(urgency.is_due(279));
        urgency.uploaded(279);
        assert!(!urgency.is_due(u64::MAX));
        urgency.take(&ended(End::Signal(11)), 500, 0);
        assert!(!urgency.is_due(500), "it is known");
        urgency.take(&ended(End::Signal(6)), 500, 0);
        assert!(urgency.is_due(500));
    }

    #[test]
    fn an_urgent_upload_that_has_failed_is_tried_again_later() {
        let mut urgency = Urgency::default();
        urgency.take(&ended(End::Signal(11)), 0, 0);
        urgency.failed(0, 10);
        assert!(!urgency.is_due(189));
        assert!(urgency.is_due(190));
    }

    #[test]
    fn no_more_than_three_urgent_uploads_are_sent_a_day_for_what_apps_do() {
        let mut urgency = Urgency::default();
        let mut sent = Vec::new();
        // What is always urgent, once a minute for two days.
        for now in (0..2 * DAY_S).step_by(60) {
            urgency.take(&ended(End::Sandbox), now, 0);
            if urgency.is_due(now) {
                sent.push(now);
                urgency.uploaded(now);
            }
        }
        assert_eq!(sent.len(), 2 * MAX_OF_APPS_A_DAY, "{sent:?}");
        for pair in sent.windows(MAX_OF_APPS_A_DAY + 1) {
            assert!(pair[MAX_OF_APPS_A_DAY] - pair[0] >= DAY_S, "{pair:?}");
        }
    }

    #[test]
    fn what_no_app_brings_about_is_urgent_whatever_apps_do() {
        let refused = samples::records().into_iter().find_map(|record| match record.body {
            Body::Update(update) => Some(Update { outcome: Outcome::RefusedSignature, ..update }),
            _ => None,
        });
        for rare in [Body::Update(refused.unwrap()), ended(End::Verity)] {
            let mut urgency = Urgency::default();
            let mut sent = 0;
            for now in 0..100 {
                urgency.take(&ended(End::Sandbox), now, 0);
                sent += usize::from(urgency.is_due(now));
                urgency.uploaded(now);
            }
            assert_eq!(sent, MAX_OF_APPS_A_DAY);
            urgency.take(&ended(End::Signal(11)), 100, 0);
            assert!(!urgency.is_due(100), "the control: what is new of an app waits");
            urgency.take(&rare, 100, 0);
            assert!(urgency.is_due(100), "{rare:?}");
            urgency.uploaded(100);
            urgency.take(&rare, 101, 0);
            assert!(!urgency.is_due(101), "no more than {MAX_A_DAY} a day");
        }
    }

    #[test]
    fn what_is_never_urgent_waits() {
        let mut urgency = Urgency::default();
        for record in samples::records() {
            let is_urgent = matches!(record.body, Body::Ended(_))
                || matches!(&record.body, Body::Refused(refused) if refused.addresses_log2 >= ADDRESSES_LOG2)
                || matches!(&record.body, Body::Update(update) if update.outcome == Outcome::RefusedSignature);
            urgency.take(&record.body, 0, 0);
            assert_eq!(urgency.is_due(0), is_urgent, "{record:?}");
            urgency = Urgency::default();
        }
    }
}
