//! The record of releases that were staged, failed or postponed, which `update` keeps on `state`.

use holdfast_sandbox::held::Held;
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_types::encoding::{self, EncodingError};
use serde::{Deserialize, Serialize};

/// Most failed releases that are recorded, and most postponed ones: the oldest are dropped first.
const MAX_FAILED: usize = 32;
/// First wait of a postponed release, in seconds for which the device runs; it doubles each further time.
const FIRST_WAIT_S: u32 = 3_600;
/// Longest wait of a postponed release, in seconds: a week.
const MAX_WAIT_S: u32 = 7 * 86_400;

/// The record of releases. Its loss costs no security: a release that has failed may be tried again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    staged: Option<Staged>,
    /// init has answered that the release is staged. Without that, power may have been cut before: the release has not
    /// failed.
    is_staged: bool,
    failed: Vec<(ReleaseSubject, [u8; 32])>,
    put_off: Vec<PutOff>,
}

/// A postponed release: it was healthy and could not reach the service, or a download ended in other bytes. Whoever
/// drops packets or holds the server can make that of any release, which has not failed for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct PutOff {
    subject: ReleaseSubject,
    root_hash: [u8; 32],
    /// Number of times that the release was postponed.
    times: u8,
    /// Uptime until the release is tried again, in seconds. No clock is used, since whoever drops packets forges time
    /// servers too.
    left_s: u32,
}

/// A staged release, recorded before the reboot that tries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// The OS or the app that it is a release of.
    pub subject: ReleaseSubject,
    /// Root hash of its verity tree.
    pub root_hash: [u8; 32],
    /// The release before could reach the service, and so must this one.
    pub reached: bool,
}

/// What became of a staged release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The release waits for the next start.
    Waits(ReleaseSubject),
    /// The release runs on trial.
    OnTrial(Staged),
    /// The release runs and is committed.
    Committed(ReleaseSubject),
    /// The release does not run: it has failed, and is not tried again.
    FellBack(ReleaseSubject),
    /// The release does not run: it was healthy and could not reach the service. It is tried again after so many
    /// seconds of uptime.
    Unreached(ReleaseSubject, u32),
}

impl Memory {
    /// Name of the file on `state`.
    pub const FILE_NAME: &str = "memory";
    /// Longest encoding in bytes.
    pub const MAX_ENCODED_BYTES: usize = 4096;

    /// Encodes the file.
    ///
    /// # Errors
    /// The encoder's own.
    pub fn encode(&self) -> Result<Vec<u8>, EncodingError> {
        encoding::encode(self)
    }

    /// Decodes the file.
    ///
    /// # Errors
    /// The bytes are not what [`encode`](Self::encode) writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        let mut memory: Self = encoding::decode(bytes)?;
        memory.failed.truncate(MAX_FAILED);
        memory.put_off.truncate(MAX_FAILED);
        Ok(memory)
    }

    /// Records that a release is about to be staged.
    pub fn begin_staging(&mut self, staged: Staged) {
        (self.staged, self.is_staged) = (Some(staged), false);
    }

    /// Records that init has staged the release.
    pub fn mark_staged(&mut self) {
        self.is_staged = true;
    }

    /// Records that the staged release is not tried after all: it has not failed.
    pub fn take_back(&mut self) {
        (self.staged, self.is_staged) = (None, false);
    }

    /// True for a release that is not to be installed now: it has failed on this device, or is postponed.
    #[must_use]
    pub fn excludes(&self, subject: ReleaseSubject, root_hash: Option<[u8; 32]>) -> bool {
        let waits =
            |of: &PutOff| (of.subject, Some(of.root_hash)) == (subject, root_hash) && of.left_s > 0;
        self.has_failed(subject, root_hash) || self.put_off.iter().any(waits)
    }

    /// Counts `seconds` of uptime down from the waits of postponed releases. True where one was waiting: the record is
    /// then to be saved.
    pub fn count_down(&mut self, seconds: u64) -> bool {
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        let mut waited = false;
        for release in self.put_off.iter_mut().filter(|release| release.left_s > 0) {
            release.left_s = release.left_s.saturating_sub(seconds);
            waited = true;
        }
        waited
    }

    /// Postpones a release, for twice as long each time. Returns the seconds of uptime until it is tried again.
    pub fn postpone(&mut self, subject: ReleaseSubject, root_hash: [u8; 32]) -> u32 {
        let at = self.put_off.iter().position(|r| (r.subject, r.root_hash) == (subject, root_hash));
        let before = at.map_or(0, |at| self.put_off.remove(at).times);
        let doubled = FIRST_WAIT_S.saturating_mul(2u32.saturating_pow(before.into()));
        let left_s = doubled.min(MAX_WAIT_S);
        if self.put_off.len() >= MAX_FAILED {
            self.put_off.remove(0);
        }
        let times = before.saturating_add(1);
        self.put_off.push(PutOff { subject, root_hash, times, left_s });
        left_s
    }

    /// True for a release that has failed on this device.
    #[must_use]
    pub fn has_failed(&self, subject: ReleaseSubject, root_hash: Option<[u8; 32]>) -> bool {
        root_hash.is_some_and(|hash| self.failed.contains(&(subject, hash)))
    }

    /// Returns the record without what has failed: what it still keeps back is tried again by itself.
    #[must_use]
    pub fn without_failed(&self) -> Self {
        Self { failed: Vec::new(), ..self.clone() }
    }

    /// Records that a release can never be used on this device: it is not tried again.
    pub fn mark_failed(&mut self, subject: ReleaseSubject, root_hash: [u8; 32]) {
        if !self.has_failed(subject, Some(root_hash)) {
            if self.failed.len() >= MAX_FAILED {
                self.failed.remove(0);
            }
            self.failed.push((subject, root_hash));
        }
    }

    /// Compares the staged release with what runs now, and records how its trial ended. `None` where none was staged;
    /// one that was committed or has failed is not reported again.
    pub fn reconcile(&mut self, held: &[Held]) -> Option<Outcome> {
        let staged = self.staged?;
        let subject = staged.subject;
        let of_subject = held.iter().find(|held| held.subject == subject);
        if of_subject.is_some_and(|held| held.waits) {
            return Some(Outcome::Waits(subject));
        }
        let running = of_subject.and_then(|held| held.running.as_ref());
        let running = running.filter(|running| running.root_hash == staged.root_hash);
        let outcome = match running {
            Some(running) if running.on_trial => return Some(Outcome::OnTrial(staged)),
            Some(_) => {
                self.put_off.retain(|release| release.subject != subject);
                Some(Outcome::Committed(subject))
            }
            None if self.is_staged && of_subject.is_some_and(|held| held.disagreed) => {
                Some(Outcome::Unreached(subject, self.postpone(subject, staged.root_hash)))
            }
            None if self.is_staged => {
                self.mark_failed(subject, staged.root_hash);
                Some(Outcome::FellBack(subject))
            }
            None => None,
        };
        self.staged = None;
        outcome
    }
}

impl Staged {
    /// True when `update` has no objection to a commit: this release has reached the service, or the one before could
    /// not.
    #[must_use]
    pub fn agrees(self, has_reached: bool) -> bool {
        has_reached || !self.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sandbox::held::Running;
    use holdfast_types::Version;

    const STAGED: Staged =
        Staged { subject: ReleaseSubject::Os, root_hash: [2; 32], reached: true };

    fn held(hash: u8, on_trial: bool) -> Vec<Held> {
        let version = Version::default();
        let running = Running {
            version,
            rollback_index: 0,
            root_hash: [hash; 32],
            data_bytes: 4096,
            on_trial,
        };
        let running = Some(running);
        let subject = ReleaseSubject::Os;
        vec![Held { subject, floor: 0, running, waits: false, disagreed: false }]
    }

    /// What becomes of the release: it was staged, and the former one runs again for this reason.
    fn falls_back(memory: &mut Memory, disagreed: bool) -> Option<Outcome> {
        memory.begin_staging(STAGED);
        memory.mark_staged();
        let mut held = held(1, false);
        held[0].disagreed = disagreed;
        memory.reconcile(&held)
    }

    #[test]
    fn a_release_that_could_not_reach_the_service_is_tried_again() {
        const HOUR: u32 = 3_600;
        let mut memory = Memory::default();
        let excluded = |memory: &Memory| memory.excludes(ReleaseSubject::Os, Some([2; 32]));
        // Whoever drops packets does so time after time: that makes the waits longer, and none for ever.
        let mut waits = Vec::new();
        for _ in 0..300 {
            let outcome = falls_back(&mut memory, true);
            let Some(Outcome::Unreached(ReleaseSubject::Os, wait)) = outcome else {
                panic!("{outcome:?}");
            };
            waits.push(wait);
            assert!(excluded(&memory) && !memory.has_failed(ReleaseSubject::Os, Some([2; 32])));
            memory = Memory::decode(&memory.encode().unwrap()).unwrap();
            assert!(memory.count_down(u64::from(wait) - 1) && excluded(&memory));
            assert!(memory.count_down(1) && !excluded(&memory), "the wait is over");
            assert!(!memory.count_down(1), "nothing waits any more");
        }
        assert_eq!(waits[..4], [HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR]);
        assert_eq!((waits[8], waits[299]), (MAX_WAIT_S, MAX_WAIT_S));
        // Once it is good, nothing of that is left.
        memory.begin_staging(STAGED);
        memory.mark_staged();
        assert_eq!(memory.reconcile(&held(2, false)), Some(Outcome::Committed(ReleaseSubject::Os)));
        assert!(memory.put_off.is_empty());
        // The control: what was not healthy has failed.
        assert_eq!(falls_back(&mut memory, false), Some(Outcome::FellBack(ReleaseSubject::Os)));
        assert!(excluded(&memory) && !memory.count_down(u64::MAX) && excluded(&memory));
    }

    #[test]
    fn a_staged_release_is_on_trial_then_committed_or_failed() {
        let mut memory = Memory::default();
        assert_eq!(memory.reconcile(&held(1, false)), None);
        memory.begin_staging(STAGED);
        let mut cut_off = memory.clone();
        assert_eq!(cut_off.reconcile(&held(1, false)), None);
        assert!(!cut_off.has_failed(ReleaseSubject::Os, Some([2; 32])), "it was never tried");
        memory.mark_staged();
        let mut waits = held(1, false);
        waits[0].waits = true;
        assert_eq!(memory.reconcile(&waits), Some(Outcome::Waits(ReleaseSubject::Os)));
        let mut memory = Memory::decode(&memory.encode().unwrap()).unwrap();
        assert_eq!(memory.reconcile(&held(2, true)), Some(Outcome::OnTrial(STAGED)));
        let mut fails = memory.clone();
        assert_eq!(memory.reconcile(&held(2, false)), Some(Outcome::Committed(ReleaseSubject::Os)));
        assert_eq!(memory.reconcile(&held(2, false)), None);
        assert!(!memory.has_failed(ReleaseSubject::Os, Some([2; 32])));
        assert_eq!(fails.reconcile(&held(1, false)), Some(Outcome::FellBack(ReleaseSubject::Os)));
        assert_eq!(fails.reconcile(&held(1, false)), None);
        assert!(fails.has_failed(ReleaseSubject::Os, Some([2; 32])));
        assert!(!fails.has_failed(ReleaseSubject::Os, Some([3; 32])));
    }

    #[test]
    fn a_release_that_cannot_reach_the_service_is_not_agreed_to_if_the_last_one_could() {
        assert!(STAGED.agrees(true) && !STAGED.agrees(false));
        let alone = Staged { reached: false, ..STAGED };
        assert!(alone.agrees(true) && alone.agrees(false));
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut memory = Memory::default();
        memory.begin_staging(STAGED);
        for number in 0..=255 {
            memory.mark_failed(ReleaseSubject::Os, [number; 32]);
            memory.postpone(ReleaseSubject::Os, [number; 32]);
        }
        assert!(memory.encode().unwrap().len() <= Memory::MAX_ENCODED_BYTES);
        assert!(memory.has_failed(ReleaseSubject::Os, Some([255; 32])));
        assert!(!memory.has_failed(ReleaseSubject::Os, Some([0; 32])));
    }
}
