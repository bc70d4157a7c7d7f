//! What the Security Service has assigned: asked for at `uplink`, kept on `state`, and narrowing what is taken.

use crate::connection::Connection;
use crate::state::{self, StateError};
use crate::uplink;
use holdfast_linux::clock::realtime_seconds;
use holdfast_linux::file;
use holdfast_release::assignment::{Assigned, AssignedBefore};
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_sandbox::policy::STATE_DIRECTORY;
use holdfast_types::encoding::{self, EncodingError};
use holdfast_types::{UpdateWait, Version, chain, event};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Seconds of running after which what is left of an assignment is saved: that wears the medium, and no more than this is lost by a restart.
const SAVED_EVERY_S: u64 = 3600;
/// Seconds of running after a start until it is saved for the first time, so that it ends on devices as well that never run for long.
const FIRST_SAVED_S: u64 = 600;

/// What is kept of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Kept {
    assigned: Assigned,
    /// What was staged last: it may be taken back before it was tried.
    staged: Option<(ReleaseSubject, Version)>,
}

/// What an OS from before feeds keeps of it.
#[derive(Debug, Serialize, Deserialize)]
struct KeptBefore {
    assigned: AssignedBefore,
    staged: Option<(ReleaseSubject, Version)>,
}

impl Kept {
    /// Longest encoding in bytes.
    const MAX_ENCODED_BYTES: usize = Assigned::MAX_ENCODED_BYTES + 64;

    fn encode(&self) -> Result<Vec<u8>, EncodingError> {
        encoding::encode(self)
    }

    fn file() -> PathBuf {
        Path::new(STATE_DIRECTORY).join(Assigned::FILE_NAME)
    }

    fn save(&self) -> Result<(), StateError> {
        Ok(file::replace(&Self::file(), &self.encode()?)?)
    }

    fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        let read = encoding::decode(bytes).or_else(|error| {
            // The first start of this OS: what holds goes on to hold.
            let before = encoding::decode(bytes).map_err(|_| error)?;
            let KeptBefore { assigned, staged } = before;
            Ok::<Self, EncodingError>(Self { assigned: assigned.into(), staged })
        });
        let read = read?;
        Ok(Self { assigned: read.assigned.bounded(), ..read })
    }
}

/// What is assigned, as the agent has it.
#[derive(Debug)]
pub(crate) struct Assignments {
    kept: Kept,
    /// Why it is not taken, as `uplink` is told.
    waits: Option<UpdateWait>,
    /// Seconds that were counted down and not saved.
    unsaved_s: u64,
    /// Seconds after which it is saved next.
    saved_after_s: u64,
}

impl Assignments {
    /// Loads what was kept.
    pub(crate) fn load() -> Self {
        // Its loss lets signed targets count alone.
        let kept = state::read(&Kept::file(), Kept::MAX_ENCODED_BYTES, Kept::decode);
        let kept = kept.unwrap_or_default();
        Self { kept, waits: None, unsaved_s: 0, saved_after_s: FIRST_SAVED_S }
    }

    /// Asks `uplink` what the last check-in has assigned, and tells it why that is not taken. Where it cannot say, what was kept goes on.
    pub(crate) fn refresh(&mut self, connection: &mut Connection) {
        let Some(socket) = &connection.uplink else { return };
        let mut spent = false;
        let asked = uplink::assigned(socket, self.waits, &mut spent);
        if spent {
            connection.uplink = None;
        }
        match asked {
            Ok(Some(newer)) if !newer.says_the_same(&self.kept.assigned) => {
                // The same once more lasts longer, and is not worth a line.
                let is_other = !newer.says_alike(&self.kept.assigned);
                self.kept.assigned = newer;
                self.save();
                if is_other {
                    let assigned = event::update::UPDATE_ASSIGNED;
                    println!("the service has assigned what may be taken {assigned}");
                }
            }
            Ok(_) => {}
            Err(error) => {
                let failed = event::update::UPDATE_ASSIGNMENT_UNKNOWN;
                println!("cannot learn what is assigned: {} {failed}", chain(&error));
            }
        }
    }

    /// Returns what holds now.
    pub(crate) fn now(&self) -> Option<&Assigned> {
        self.kept.assigned.at(realtime_seconds())
    }

    /// Returns the seconds until the device may restart for what is staged.
    pub(crate) fn opens_in(&self) -> u64 {
        let staged = self.kept.staged.map(|(subject, _)| subject);
        let (Some(subject), Some(assigned)) = (staged, self.now()) else { return 0 };
        assigned.opens_in(subject, realtime_seconds())
    }

    /// Returns what is staged and may not be taken any more.
    pub(crate) fn barred(&self) -> Option<ReleaseSubject> {
        let (subject, version) = self.kept.staged?;
        (!self.now()?.allows(subject, version)).then_some(subject)
    }

    /// Notes what was staged, or that nothing is.
    pub(crate) fn stage(&mut self, staged: Option<(ReleaseSubject, Version)>) {
        if self.kept.staged != staged {
            self.kept.staged = staged;
            self.save();
        }
    }

    /// Notes why what is assigned is not taken, until the next note.
    pub(crate) fn wait(&mut self, waits: Option<UpdateWait>) {
        self.waits = waits;
    }

    /// Counts seconds of running down.
    pub(crate) fn count_down(&mut self, seconds: u64) {
        if self.kept.assigned.count_down(seconds) {
            self.unsaved_s = self.unsaved_s.saturating_add(seconds);
            if self.unsaved_s >= self.saved_after_s {
                self.saved_after_s = SAVED_EVERY_S;
                self.save();
            }
        }
    }

    fn save(&mut self) {
        self.unsaved_s = 0;
        if let Err(error) = self.kept.save() {
            let failed = event::update::UPDATE_RECORD_PERSIST_FAILED;
            println!("cannot save what is assigned: {} {failed}", chain(&error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_release::assignment::Assignment;
    use holdfast_release::feed::Feed;

    fn assignments(newest: &str, staged: Option<(ReleaseSubject, &str)>) -> Assignments {
        let assignment = Assignment {
            deployment: "d1".to_owned(),
            subject: ReleaseSubject::Os,
            newest: newest.parse().unwrap(),
            except: Vec::new(),
            window: None,
            deadline: None,
            check_every_s: None,
        };
        let staged = staged.map(|(subject, version)| (subject, version.parse().unwrap()));
        let assigned = Assigned::new([assignment], u64::MAX);
        Assignments {
            kept: Kept { assigned, staged },
            waits: None,
            unsaved_s: 0,
            saved_after_s: FIRST_SAVED_S,
        }
    }

    /// The first start of an OS that knows of feeds: what held goes on to hold.
    #[test]
    fn what_an_os_before_feeds_has_kept_is_read() {
        let staged = Some((ReleaseSubject::Os, "1.4.0".parse::<Version>().unwrap()));
        let kept = assignments("1.4.0", Some((ReleaseSubject::Os, "1.4.0"))).kept;
        let bytes = kept.encode().unwrap();
        assert_eq!(Kept::decode(&bytes).unwrap(), kept, "the control");
        // Feed, and what was staged, stand at the end.
        let end = encoding::encode(&(None::<Feed>, staged)).unwrap();
        let before = encoding::encode(&staged).unwrap();
        let begin = bytes.strip_suffix(end.as_slice()).unwrap();
        assert_eq!(Kept::decode(&[begin, before.as_slice()].concat()).unwrap(), kept);
        Kept::decode(begin).unwrap_err();
    }

    #[test]
    fn what_is_staged_is_barred_once_it_may_not_be_taken() {
        let os = ReleaseSubject::Os;
        assert_eq!(assignments("1.4.0", Some((os, "1.4.0"))).barred(), None);
        assert_eq!(assignments("1.3.0", Some((os, "1.4.0"))).barred(), Some(os));
        assert_eq!(assignments("1.3.0", None).barred(), None, "nothing of a card");
        let mut ended = assignments("1.3.0", Some((os, "1.4.0")));
        ended.kept.assigned.count_down(u64::MAX);
        assert_eq!(ended.barred(), None, "what has ended bars nothing");
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let kept = assignments("1.4.0", Some((ReleaseSubject::Os, "1.4.0"))).kept;
        let bytes = kept.encode().unwrap();
        assert!(bytes.len() <= Kept::MAX_ENCODED_BYTES);
        assert_eq!(Kept::decode(&bytes), Ok(kept));
        Kept::decode(&bytes[1..]).unwrap_err();
    }
}
