//! What `update` remembers from one boot to the next, beside the metadata that it trusts.

use holdfast_sandbox::held::Held;
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_types::encoding::{self, EncodingError};
use serde::{Deserialize, Serialize};

/// Failed releases that are remembered, and such that wait: the oldest are forgotten first.
const MAX_FAILED: usize = 32;
/// A release that is put off is tried again after so many seconds in which the device runs, twice as many after each
/// further time.
const FIRST_WAIT_S: u32 = 3_600;
/// The longest such wait: a week.
const MAX_WAIT_S: u32 = 7 * 86_400;

/// The memory. Losing it costs no security: a failed release may then be tried again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    staged: Option<Staged>,
    /// init has said that it is staged. Without that it may have been cut off before, and has then not failed.
    is_staged: bool,
    failed: Vec<(ReleaseSubject, [u8; 32])>,
    put_off: Vec<PutOff>,
}

/// A release that is not taken for a while. It was healthy and could not reach the service, or what came of it in the end was
/// something else. Whoever drops packets or has the server makes that of any release: it is not failed for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct PutOff {
    subject: ReleaseSubject,
    root_hash: [u8; 32],
    /// How often it was tried.
    times: u8,
    /// Seconds of the device's running until it is tried again. No clock says how long ago it was: who drops packets
    /// forges time servers too.
    left_s: u32,
}

/// A release that was staged, before the reboot that tries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Of which subject.
    pub subject: ReleaseSubject,
    /// Root hash of its verity tree.
    pub root_hash: [u8; 32],
    /// The release before it could reach the service: so must this one.
    pub reached: bool,
}

/// What became of a release that was staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It waits for the next start.
    Waits(ReleaseSubject),
    /// It runs, and has not been committed.
    OnTrial(Staged),
    /// It runs, and was committed.
    Committed(ReleaseSubject),
    /// It does not run: it has failed, and is not taken again.
    FellBack(ReleaseSubject),
    /// It does not run: it was healthy and could not reach the service, and is tried again after so many seconds.
    Unreached(ReleaseSubject, u32),
}

impl Memory {
    /// Name of the file.
    pub const FILE_NAME: &str = "memory";
    /// Longest encoding in bytes.
    pub const MAX_ENCODED_BYTES: usize = 4096;

    /// The bytes of the file.
    ///
    /// # Errors
    /// The encoder's own.
    pub fn encode(&self) -> Result<Vec<u8>, EncodingError> {
        encoding::encode(self)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// Not what [`encode`](Self::encode) writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        let mut memory: Self = encoding::decode(bytes)?;
        memory.failed.truncate(MAX_FAILED);
        memory.put_off.truncate(MAX_FAILED);
        Ok(memory)
    }

    /// A release is about to be staged.
    pub fn begin_staging(&mut self, staged: Staged) {
        (self.staged, self.is_staged) = (Some(staged), false);
    }

    /// It is staged.
    pub fn mark_staged(&mut self) {
        self.is_staged = true;
    }

    /// True for a release that is not taken now: it has failed on this device, or waits.
    #[must_use]
    pub fn excludes(&self, subject: ReleaseSubject, root_hash: Option<[u8; 32]>) -> bool {
        let waits =
            |of: &PutOff| (of.subject, Some(of.root_hash)) == (subject, root_hash) && of.left_s > 0;
        self.has_failed(subject, root_hash) || self.put_off.iter().any(waits)
    }

    /// The device has run for so many seconds more. True where something waits for that: the memory is then to be kept.
    pub fn count_down(&mut self, seconds: u64) -> bool {
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        let mut waited = false;
        for release in self.put_off.iter_mut().filter(|release| release.left_s > 0) {
            release.left_s = release.left_s.saturating_sub(seconds);
            waited = true;
        }
        waited
    }

    /// A release that is not taken for a while, and for longer each time: how many seconds the device is to run before.
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

    /// A release that can never be used here: it is not taken again.
    pub fn mark_failed(&mut self, subject: ReleaseSubject, root_hash: [u8; 32]) {
        if !self.has_failed(subject, Some(root_hash)) {
            if self.failed.len() >= MAX_FAILED {
                self.failed.remove(0);
            }
            self.failed.push((subject, root_hash));
        }
    }

    /// Compares what was staged with what runs now; `None` where nothing was. What was committed or has
    /// failed is not looked at again.
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
    /// True when `update` has nothing against a commit: where the release before could reach the service,
    /// this one has.
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
