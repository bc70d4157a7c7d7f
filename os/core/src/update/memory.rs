//! What `update` remembers from one boot to the next, beside the metadata that it trusts.

use super::decision::Held;
use crate::encoding::{self, EncodingError};
use crate::release::Component;
use serde::{Deserialize, Serialize};

/// Failed releases that are remembered: the oldest are forgotten first.
const MAX_FAILED: usize = 32;

/// The memory. Losing it costs no security: a failed release may then be tried again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    staged: Option<Staged>,
    /// init has said that it is staged. Without that it may have been cut off before, and has then not failed.
    is_staged: bool,
    failed: Vec<(Component, [u8; 32])>,
}

/// A release that was staged, before the reboot that tries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Of which component.
    pub component: Component,
    /// Root hash of its verity tree.
    pub root_hash: [u8; 32],
    /// The release before it could reach the service: so must this one.
    pub reached: bool,
}

/// What became of a release that was staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It waits for the next start.
    Waits(Component),
    /// It runs, and has not been committed.
    OnTrial(Staged),
    /// It runs, and was committed.
    Committed(Component),
    /// It does not run: it has failed, and is not taken again.
    FellBack(Component),
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
        Ok(memory)
    }

    /// A release is about to be staged.
    pub fn stages(&mut self, staged: Staged) {
        (self.staged, self.is_staged) = (Some(staged), false);
    }

    /// It is staged.
    pub fn is_staged(&mut self) {
        self.is_staged = true;
    }

    /// True for a release that has failed on this device.
    #[must_use]
    pub fn has_failed(&self, component: Component, root_hash: Option<[u8; 32]>) -> bool {
        root_hash.is_some_and(|hash| self.failed.contains(&(component, hash)))
    }

    /// A release that can never be used here: it is not taken again.
    pub fn fails(&mut self, component: Component, root_hash: [u8; 32]) {
        if !self.has_failed(component, Some(root_hash)) {
            if self.failed.len() >= MAX_FAILED {
                self.failed.remove(0);
            }
            self.failed.push((component, root_hash));
        }
    }

    /// Compares what was staged with what runs now; `None` where nothing was. What was committed or has
    /// failed is not looked at again.
    pub fn settle(&mut self, held: &[Held]) -> Option<Outcome> {
        let staged = self.staged?;
        let component = staged.component;
        let of_component = held.iter().find(|held| held.component == component);
        if of_component.is_some_and(|held| held.waits) {
            return Some(Outcome::Waits(component));
        }
        let running = of_component.and_then(|held| held.running.as_ref());
        let running = running.filter(|running| running.root_hash == staged.root_hash);
        let outcome = match running {
            Some(running) if running.on_trial => return Some(Outcome::OnTrial(staged)),
            Some(_) => Some(Outcome::Committed(component)),
            None if self.is_staged => {
                self.fails(component, staged.root_hash);
                Some(Outcome::FellBack(component))
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
    use crate::package::Version;
    use crate::update::Running;

    const STAGED: Staged = Staged { component: Component::Os, root_hash: [2; 32], reached: true };

    fn held(hash: u8, on_trial: bool) -> Vec<Held> {
        let version = Version::default();
        let running = Running {
            version,
            rollback_index: 0,
            root_hash: [hash; 32],
            data_bytes: 4096,
            on_trial,
        };
        vec![Held { component: Component::Os, floor: 0, running: Some(running), waits: false }]
    }

    #[test]
    fn a_staged_release_is_on_trial_then_committed_or_failed() {
        let mut memory = Memory::default();
        assert_eq!(memory.settle(&held(1, false)), None);
        memory.stages(STAGED);
        let mut cut_off = memory.clone();
        assert_eq!(cut_off.settle(&held(1, false)), None);
        assert!(!cut_off.has_failed(Component::Os, Some([2; 32])), "it was never tried");
        memory.is_staged();
        let mut waits = held(1, false);
        waits[0].waits = true;
        assert_eq!(memory.settle(&waits), Some(Outcome::Waits(Component::Os)));
        let mut memory = Memory::decode(&memory.encode().unwrap()).unwrap();
        assert_eq!(memory.settle(&held(2, true)), Some(Outcome::OnTrial(STAGED)));
        let mut fails = memory.clone();
        assert_eq!(memory.settle(&held(2, false)), Some(Outcome::Committed(Component::Os)));
        assert_eq!(memory.settle(&held(2, false)), None);
        assert!(!memory.has_failed(Component::Os, Some([2; 32])));
        assert_eq!(fails.settle(&held(1, false)), Some(Outcome::FellBack(Component::Os)));
        assert_eq!(fails.settle(&held(1, false)), None);
        assert!(fails.has_failed(Component::Os, Some([2; 32])));
        assert!(!fails.has_failed(Component::Os, Some([3; 32])));
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
        memory.stages(STAGED);
        for number in 0..=255 {
            memory.fails(Component::Os, [number; 32]);
        }
        assert!(memory.encode().unwrap().len() <= Memory::MAX_ENCODED_BYTES);
        assert!(memory.has_failed(Component::Os, Some([255; 32])));
        assert!(!memory.has_failed(Component::Os, Some([0; 32])));
    }
}
