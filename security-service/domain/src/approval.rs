//! Changes that need two people: the first asks, the second approves or rejects, and what has changed between is found.

use crate::person::{By, PersonId};
use crate::role::Need;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use thiserror::Error;

/// Seconds after which a change that nobody has decided about ends.
pub const KEPT_S: u64 = 7 * 24 * 60 * 60;
/// Most changes of a catalog that wait at once.
pub const MOST_WAITING: u32 = 100;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Another least rollback index of a group that is marked `production`.
    LeastIndex,
    /// The mark `production` of a group taken away.
    ProductionMark,
    /// Another feed of a group that is marked `production`.
    Feed,
    /// The next issuing certificate of the catalog.
    Authority,
    /// Another maker of TPMs whose certificates are believed.
    Maker,
    /// The role `owner` given to somebody.
    OwnerGrant,
    /// The role `owner` taken from somebody.
    OwnerRevocation,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::LeastIndex,
        Self::ProductionMark,
        Self::Feed,
        Self::Authority,
        Self::Maker,
        Self::OwnerGrant,
        Self::OwnerRevocation,
    ];

    /// Returns the word for it, as JSON and the database have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::LeastIndex => "least-index",
            Self::ProductionMark => "production-mark",
            Self::Feed => "feed",
            Self::Authority => "authority",
            Self::Maker => "maker",
            Self::OwnerGrant => "owner-grant",
            Self::OwnerRevocation => "owner-revocation",
        }
    }

    /// Reads the word for it.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// Returns what it is, in one sentence.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::LeastIndex => {
                "another least rollback index of a group that is marked `production`"
            }
            Self::ProductionMark => "the mark `production` taken from a group",
            Self::Feed => "another feed of a group that is marked `production`",
            Self::Authority => "the next issuing certificate of the catalog, before its time",
            Self::Maker => "another maker of TPMs whose certificates are believed",
            Self::OwnerGrant => "the role `owner` given to a person or a group of the provider",
            Self::OwnerRevocation => "the role `owner` taken away",
        }
    }

    /// Returns what the person needs who approves it.
    #[must_use]
    pub fn need(self) -> Need {
        match self {
            Self::LeastIndex | Self::Feed => Need::Approve,
            Self::ProductionMark
            | Self::Authority
            | Self::Maker
            | Self::OwnerGrant
            | Self::OwnerRevocation => Need::Own,
        }
    }
}

/// How a change stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody has decided about it.
    Waiting,
    /// It was approved, and is done.
    Approved,
    /// It was rejected.
    Rejected,
    /// Nobody has decided about it in time.
    Ended,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Approved, Self::Rejected, Self::Ended];

    /// Returns the word for it, as JSON and the database have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Ended => "ended",
        }
    }

    /// Reads the word for it.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// A change that waits, as far as a decision about it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// What it is.
    pub kind: Kind,
    /// Who has asked for it.
    pub requested_by: By,
    /// When it ends if nobody decides, in seconds since 1970.
    pub ends_at: u64,
    /// How it stands.
    pub state: State,
}

/// What becomes of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is carried out.
    Approve,
    /// It is not.
    Reject,
}

/// Why nothing is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The person who has asked for it may take it back, and approves nothing.
    #[error(
        "the person who has asked for a change does not approve it, with whatever token: somebody else does"
    )]
    SamePerson,
    /// It was decided about already.
    #[error("it is {0} already")]
    Decided(&'static str),
    /// Nobody has decided in time.
    #[error("nobody has decided about it in time; ask for it again")]
    Ended,
    /// Whoever has asked for it may not do so any more.
    #[error("whoever has asked for it may not do so any more; reject it")]
    RequesterLost,
    /// What is to be changed is not what it was when the change was asked for.
    #[error("what is to be changed has changed since it was asked for; reject it, and ask again")]
    ObjectChanged,
}

impl Pending {
    /// Returns its state at `now`, in seconds since 1970.
    #[must_use]
    pub fn state_at(&self, now: u64) -> State {
        if self.state == State::Waiting && now >= self.ends_at { State::Ended } else { self.state }
    }

    /// Returns its state after a decision at `now`. `may_still` is true where whoever has asked for it still might.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn decide(
        &self,
        decision: Decision,
        by: &PersonId,
        may_still: bool,
        now: u64,
    ) -> Result<State, Refusal> {
        match self.state_at(now) {
            State::Waiting => {}
            State::Ended => return Err(Refusal::Ended),
            decided => return Err(Refusal::Decided(decided.word())),
        }
        match decision {
            Decision::Reject => Ok(State::Rejected),
            Decision::Approve if *by == self.requested_by.person => Err(Refusal::SamePerson),
            Decision::Approve if !may_still => Err(Refusal::RequesterLost),
            Decision::Approve => Ok(State::Approved),
        }
    }
}

/// True if a change waits for a second person: where somebody else could be it. Where nobody could, it is made at once, and the audit
/// log says so.
#[must_use]
pub fn waits(by: &PersonId, who_may: &BTreeSet<PersonId>) -> bool {
    who_may.iter().any(|person| person != by)
}

/// Returns the digest of a request, by which a person who approves it says what he has seen.
#[must_use]
pub fn digest(kind: Kind, object: &str, request: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"holdfast-approval-1\0");
    for text in [kind.word(), object, request] {
        hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(name: &str) -> PersonId {
        PersonId::named(name)
    }

    fn pending() -> Pending {
        let requested_by = By { name: "token-1".to_owned(), person: person("ole") };
        Pending { kind: Kind::LeastIndex, requested_by, ends_at: 2000, state: State::Waiting }
    }

    #[test]
    fn a_second_person_decides_and_never_the_first() {
        let decide = |by: &str| pending().decide(Decision::Approve, &person(by), true, 1000);
        assert_eq!(decide("ines"), Ok(State::Approved), "the control");
        assert_eq!(decide("ole"), Err(Refusal::SamePerson));
        let back = pending().decide(Decision::Reject, &person("ole"), true, 1000);
        assert_eq!(back, Ok(State::Rejected), "whoever has asked may take it back");
        let lost = pending().decide(Decision::Approve, &person("ines"), false, 1000);
        assert_eq!(lost, Err(Refusal::RequesterLost));
    }

    #[test]
    fn a_change_is_decided_about_once_and_in_time() {
        let ines = person("ines");
        let decide =
            |state, now| Pending { state, ..pending() }.decide(Decision::Approve, &ines, true, now);
        assert_eq!(decide(State::Waiting, 1999), Ok(State::Approved), "the control");
        assert_eq!(decide(State::Waiting, 2000), Err(Refusal::Ended));
        for state in [State::Approved, State::Rejected] {
            assert_eq!(decide(state, 1000), Err(Refusal::Decided(state.word())));
        }
        assert_eq!(decide(State::Ended, 1000), Err(Refusal::Ended));
    }

    #[test]
    fn a_change_waits_where_somebody_else_could_approve_it() {
        let (ole, ines) = (person("ole"), person("ines"));
        assert!(waits(&ole, &[ole.clone(), ines.clone()].into()));
        assert!(waits(&ole, &[ines].into()), "whoever asks need not be one who approves");
        assert!(!waits(&ole, &[ole.clone()].into()));
        assert!(!waits(&ole, &BTreeSet::new()));
    }

    #[test]
    fn words_are_read_as_they_are_written_and_a_digest_is_one_requests() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of_word(kind.word()), Some(kind));
        }
        for state in State::ALL {
            assert_eq!(State::of_word(state.word()), Some(state));
        }
        let one = digest(Kind::LeastIndex, "pump/a", "{}");
        assert_eq!(one, digest(Kind::LeastIndex, "pump/a", "{}"), "the control");
        assert_ne!(one, digest(Kind::ProductionMark, "pump/a", "{}"));
        assert_ne!(one, digest(Kind::LeastIndex, "pump/", "a{}"));
    }
}
