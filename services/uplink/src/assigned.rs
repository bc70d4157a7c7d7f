//! What check-ins assign, on its way from the thread that checks in to the update agent. `uplink` believes nothing of it: it hands on.

#[cfg(feature = "check-in")]
use holdfast_evidence::messages::{AssignmentMessage, assignments_if_understood};
use holdfast_release::assignment::Assigned;
#[cfg(feature = "check-in")]
use holdfast_release::assignment::Assignment;
use holdfast_types::UpdateWait;
#[cfg(feature = "check-in")]
use serde::Deserialize;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What both threads know of it.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// What the last check-in has assigned; nothing before the first.
    assigned: Option<Assigned>,
    /// Why the update agent does not take it.
    waits: Option<UpdateWait>,
}

/// The fields of an answer to a check-in that are about releases. `identity` reads the others.
#[cfg(feature = "check-in")]
#[derive(Deserialize)]
struct Fields {
    until: u64,
    #[serde(default, deserialize_with = "assignments_if_understood")]
    assignments: Option<Vec<AssignmentMessage>>,
    #[serde(default)]
    feed: serde_json::Value,
}

impl Board {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the update agent says, and returns what there is for it.
    pub(crate) fn exchange(&self, waits: Option<UpdateWait>) -> Option<Assigned> {
        let mut known = self.known();
        known.waits = waits;
        known.assigned.clone()
    }

    /// Returns why the device does not take what it was assigned, for a service that has assigned something.
    #[cfg(feature = "check-in")]
    pub(crate) fn waits(&self) -> Option<UpdateWait> {
        let known = self.known();
        let is_asked = known.assigned.as_ref().is_some_and(|assigned| !assigned.is_empty());
        known.waits.filter(|_| is_asked)
    }

    /// Takes the answer to a check-in, which `identity` has kept.
    #[cfg(feature = "check-in")]
    pub(crate) fn checked_in(&self, answer: &[u8]) {
        if let Some(assigned) = read(answer) {
            self.known().assigned = Some(assigned);
        }
    }
}

/// Reads what an answer assigns. An assignment that cannot be read narrows nothing: for its component, targets alone count. An answer
/// that cannot be read at all changes nothing.
#[cfg(feature = "check-in")]
fn read(answer: &[u8]) -> Option<Assigned> {
    let fields: Fields = serde_json::from_slice(answer).ok()?;
    let assignments = fields.assignments.unwrap_or_default();
    let feed = fields.feed.as_str().and_then(|feed| feed.parse().ok());
    let assigned = Assigned::new(assignments.iter().filter_map(assignment), fields.until);
    Some(assigned.with_feed(feed))
}

#[cfg(feature = "check-in")]
fn assignment(message: &AssignmentMessage) -> Option<Assignment> {
    Some(Assignment {
        deployment: message.deployment.clone(),
        subject: message.component.parse().ok()?,
        newest: message.newest.parse().ok()?,
        except: message.except.iter().filter_map(|version| version.parse().ok()).collect(),
        window: message.window.as_ref().and_then(|window| window.parse().ok()),
        deadline: message.deadline,
        check_every_s: message.check_every_s,
    })
}

#[cfg(feature = "check-in")]
#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sandbox::held::ReleaseSubject;
    use serde_json::json;

    #[test]
    fn what_a_check_in_assigns_is_handed_on_as_it_came() {
        let board = Board::default();
        assert_eq!(board.exchange(Some(UpdateWait::Window)), None, "there was no check-in");
        assert_eq!(board.waits(), None, "of a service that has assigned nothing");
        let assignment = json!({"deployment": "d1", "component": "os", "newest": "1.4.0", "except": ["1.3.9", "x"],
            "window": "02:00-04:00+60", "deadline": 5000});
        let answer = json!({"profile": "full", "until": 1000, "assignments": [assignment,
            {"component": "another", "newest": "1.0.0"}, {"component": "os", "newest": "9.0.0"}]});
        board.checked_in(answer.to_string().as_bytes());
        let assigned = board.exchange(Some(UpdateWait::Declined)).unwrap();
        let version = |text: &str| text.parse().unwrap();
        assert!(assigned.allows(ReleaseSubject::Os, version("1.4.0")));
        assert!(!assigned.allows(ReleaseSubject::Os, version("1.4.1")));
        assert!(!assigned.allows(ReleaseSubject::Os, version("1.3.9")));
        assert_eq!(board.waits(), Some(UpdateWait::Declined));
        board.exchange(None);
        assert_eq!(board.waits(), None);
        let of_feed = json!({"until": 1000, "feed": "eval"}).to_string();
        board.checked_in(of_feed.as_bytes());
        let feed = board.exchange(None).unwrap().feed().map(ToString::to_string);
        assert_eq!(feed.as_deref(), Some("eval"));
        for no_feed in [json!("E V A L"), json!(7), json!(null)] {
            board.checked_in(json!({"until": 1000, "feed": no_feed}).to_string().as_bytes());
            assert!(board.exchange(None).unwrap().is_empty(), "{no_feed}");
        }
        // A service that says nothing of releases has taken its word back.
        board.checked_in(json!({"until": 1000}).to_string().as_bytes());
        assert!(board.exchange(None).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let board = Board::default();
        let good = json!({"until": 1000, "assignments": [{"component": "os", "newest": "1.4.0"}]});
        board.checked_in(good.to_string().as_bytes());
        let before = board.exchange(None);
        for bad in [json!({}), json!({"until": "x"}), json!("text")] {
            board.checked_in(bad.to_string().as_bytes());
            assert_eq!(board.exchange(None), before, "{bad}");
        }
    }
}
