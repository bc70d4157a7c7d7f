//! The states of a deployment, and what leads from one to the next. What the service does by itself can only go on or stop; what was
//! stopped goes on by a person alone.

use super::order::Frozen;
use super::plan::Plan;
use super::slot::Tallies;
use crate::person::By;
use std::fmt;
use thiserror::Error;

macro_rules! words {
    ($(#[doc = $what:literal])+ $kind:ident { $($(#[doc = $doc:literal])+ $variant:ident = $word:literal;)+ }) => {
        $(#[doc = $what])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $kind { $($(#[doc = $doc])+ $variant),+ }

        impl $kind {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns the word for it, as JSON and the database have it.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Reads the word for it.
            #[must_use]
            pub fn of_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }

            /// Returns what it means, in one sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii_start()),+ }
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

words! {
    /// How far a deployment has come.
    Progress {
        /// It was drafted, and nobody has approved it.
        Draft = "draft";
        /// It was approved, and begins at its time.
        Approved = "approved";
        /// Devices of its stage are given the release.
        Running = "running";
        /// Most of the stage has succeeded, and is watched; devices that come late are given the release.
        Soaking = "soaking";
        /// Every device of the group may take the release.
        Done = "done";
        /// It was given up.
        Withdrawn = "withdrawn";
    }
}

words! {
    /// The state of a deployment, as it is shown: how far it has come, or what holds it.
    State {
        /// It was drafted, and nobody has approved it. No device is given the release.
        Draft = "draft";
        /// It was approved, and begins at its time. No device is given the release.
        Approved = "approved";
        /// Devices of its stage are given the release at their check-ins, as many as the stage allows.
        Running = "running";
        /// Enough of the stage has succeeded and is watched for as long as the plan says. Devices of the stage that come late are given the release.
        Soaking = "soaking";
        /// A person has paused it. Nobody new is given the release; who was, may go on.
        Paused = "paused";
        /// It has stopped, by itself or by a person. Nobody new is given the release, and who was and has not taken it yet does not any more; who runs it stays.
        Halted = "halted";
        /// Every device of the group may take the release, those that come into it later as well.
        Done = "done";
        /// It was given up for good. As halted, and nothing resumes it.
        Withdrawn = "withdrawn";
    }
}

words! {
    /// Why a deployment has halted.
    Cause {
        /// A person has halted it.
        Person = "person";
        /// Too many devices have fallen back, or cannot use the release.
        Failures = "failures";
        /// Too many devices have not checked in since.
        Silent = "silent";
        /// A crash that was not known before is on several of its devices.
        NewCrash = "new-crash";
        /// Threat detection has a finding of severity 1 about this version that is open.
        Threat = "threat";
    }
}

/// What holds a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Nothing.
    None,
    /// A person has paused it.
    Paused,
    /// It has halted.
    Halted(Cause),
}

/// A deployment, as far as its state goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// How far it has come.
    pub progress: Progress,
    /// What holds it.
    pub hold: Hold,
    /// The stage, from 0 on.
    pub stage: u16,
    /// Since when it is as far as it is, in seconds since 1970.
    pub since: u64,
    /// Who has drafted it.
    pub drafted_by: By,
    /// Who has approved it.
    pub approved_by: Option<String>,
    /// True where it needs two people: its group was marked so when it was drafted.
    pub is_production: bool,
    /// When it begins at the earliest, in seconds since 1970.
    pub begins_at: u64,
    /// The stage as it was counted when it began.
    pub frozen: Frozen,
    /// When a person has last gone on in spite of what had failed, in seconds since 1970; 0 if nobody has.
    pub resumed_at: u64,
}

/// What a person does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Approves the draft.
    Approve {
        /// Who.
        by: By,
        /// True where the group is marked `production` now.
        is_production: bool,
        /// True where another deployment of the same component is on its way in the group.
        another_runs: bool,
    },
    /// Pauses it.
    Pause,
    /// Has it go on. What has failed until now does not count any more where it had halted.
    Resume {
        /// True where another deployment of the same component is on its way in the group.
        another_runs: bool,
    },
    /// Halts it.
    Halt,
    /// Gives it up.
    Withdraw,
}

/// What the service does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The first stage begins.
    Begin(Frozen),
    /// Enough of the stage has succeeded.
    Soak,
    /// The next stage begins.
    Advance(Frozen),
    /// The last stage is over.
    Finish,
    /// It halts.
    Halt(Cause),
}

impl Event {
    /// Returns the word for it, for the audit log.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Begin(_) => "deployment.begin",
            Self::Soak => "deployment.soak",
            Self::Advance(_) => "deployment.advance",
            Self::Finish => "deployment.finish",
            Self::Halt(_) => "deployment.halt",
        }
    }
}

/// What cannot be done to a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It is no draft.
    #[error("it is {0} and no draft; only a draft is approved")]
    NoDraft(State),
    /// Whoever has drafted it cannot approve it.
    #[error("the group is marked `production`: somebody else than who has drafted it approves it")]
    OwnDraft,
    /// Another one of the same component is on its way in the group.
    #[error(
        "another deployment of this component is on its way in the group; halt or withdraw it first"
    )]
    AnotherRuns,
    /// It is not on its way.
    #[error("it is {0} and not on its way")]
    NotOnItsWay(State),
    /// Nothing holds it.
    #[error("it is {0}; only what is paused or halted is resumed")]
    NotHeld(State),
    /// It has ended.
    #[error("it is withdrawn already")]
    Withdrawn,
    /// It is not due: what the service does by itself does not follow from this state.
    #[error("it is {0}, from which this does not follow")]
    NotDue(State),
}

impl Deployment {
    /// Makes a draft.
    #[must_use]
    pub fn draft(by: By, is_production: bool, begins_at: u64, now: u64) -> Self {
        Self {
            progress: Progress::Draft,
            hold: Hold::None,
            stage: 0,
            since: now,
            drafted_by: by,
            approved_by: None,
            is_production,
            begins_at,
            frozen: Frozen::NOTHING,
            resumed_at: 0,
        }
    }

    /// Returns the state as it is shown.
    #[must_use]
    pub fn state(&self) -> State {
        match (self.progress, self.hold) {
            (Progress::Withdrawn, _) => State::Withdrawn,
            (Progress::Done, _) => State::Done,
            (Progress::Draft, _) => State::Draft,
            (_, Hold::Halted(_)) => State::Halted,
            (_, Hold::Paused) => State::Paused,
            (Progress::Approved, Hold::None) => State::Approved,
            (Progress::Running, Hold::None) => State::Running,
            (Progress::Soaking, Hold::None) => State::Soaking,
        }
    }

    /// True between its approval and its end, held or not.
    #[must_use]
    pub fn is_on_its_way(&self) -> bool {
        matches!(self.progress, Progress::Approved | Progress::Running | Progress::Soaking)
    }

    /// True if it hinders another deployment of the same component: it is on its way and has not halted.
    #[must_use]
    pub fn hinders(&self) -> bool {
        self.is_on_its_way() && !matches!(self.hold, Hold::Halted(_))
    }

    /// Returns it with the stage less those of so many slots that count for nothing any more, since a person has gone on in spite of their
    /// failure or they have left the group: nobody is given their slots, and nobody waits for them.
    #[must_use]
    pub fn waited_for(&self, slots: u64, tallies: &Tallies) -> Self {
        let counted = |granted: i64| u64::try_from(granted).unwrap_or(0);
        let forgiven = slots.saturating_sub(counted(tallies.all.granted));
        let of_stage = slots.saturating_sub(self.frozen.given);
        let of_stage = of_stage.saturating_sub(counted(tallies.stage.granted));
        let mut waited = self.clone();
        waited.frozen.devices = self.frozen.devices.saturating_sub(forgiven);
        waited.frozen.allowance = self.frozen.allowance.saturating_sub(forgiven);
        let before = forgiven.saturating_sub(of_stage);
        waited.frozen.given = self.frozen.given.saturating_sub(before);
        waited
    }

    /// True if devices are given the release.
    #[must_use]
    pub fn grants(&self) -> bool {
        matches!(self.state(), State::Running | State::Soaking)
    }

    /// True if who was given the release may take it.
    #[must_use]
    pub fn serves(&self) -> bool {
        matches!(self.progress, Progress::Running | Progress::Soaking)
            && !matches!(self.hold, Hold::Halted(_))
    }

    /// Returns the deployment after what a person does at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn command(&self, command: &Command, now: u64) -> Result<Self, Refusal> {
        let state = self.state();
        let mut next = self.clone();
        match command {
            Command::Approve { by, is_production, another_runs } => {
                if self.progress != Progress::Draft {
                    return Err(Refusal::NoDraft(state));
                }
                if (*is_production || self.is_production) && by.person == self.drafted_by.person {
                    return Err(Refusal::OwnDraft);
                }
                if *another_runs {
                    return Err(Refusal::AnotherRuns);
                }
                next.approved_by = Some(by.name.clone());
                (next.progress, next.since) = (Progress::Approved, now);
            }
            Command::Pause => {
                if !self.is_on_its_way() || self.hold != Hold::None {
                    return Err(Refusal::NotOnItsWay(state));
                }
                next.hold = Hold::Paused;
            }
            Command::Resume { another_runs } => {
                if !self.is_on_its_way() || self.hold == Hold::None {
                    return Err(Refusal::NotHeld(state));
                }
                if *another_runs {
                    return Err(Refusal::AnotherRuns);
                }
                if matches!(self.hold, Hold::Halted(_)) {
                    next.resumed_at = now;
                }
                // What soaks is watched anew.
                (next.hold, next.since) = (Hold::None, now);
            }
            Command::Halt => {
                if !self.is_on_its_way() || matches!(self.hold, Hold::Halted(_)) {
                    return Err(Refusal::NotOnItsWay(state));
                }
                next.hold = Hold::Halted(Cause::Person);
            }
            Command::Withdraw => {
                if self.progress == Progress::Withdrawn {
                    return Err(Refusal::Withdrawn);
                }
                (next.progress, next.hold, next.since) = (Progress::Withdrawn, Hold::None, now);
            }
        }
        Ok(next)
    }

    /// Returns the deployment after what the service does by itself at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// [`Refusal::NotDue`].
    pub fn event(&self, plan: &Plan, event: &Event, now: u64) -> Result<Self, Refusal> {
        let not_due = Err(Refusal::NotDue(self.state()));
        let mut next = self.clone();
        if let Event::Halt(cause) = event {
            if !self.hinders() {
                return not_due;
            }
            next.hold = Hold::Halted(*cause);
            return Ok(next);
        }
        // Nothing goes on by itself while it is held.
        if self.hold != Hold::None {
            return not_due;
        }
        let following = self.stage.saturating_add(1);
        match (event, self.progress) {
            (Event::Begin(frozen), Progress::Approved) => {
                (next.progress, next.stage, next.frozen) = (Progress::Running, 0, *frozen);
            }
            (Event::Soak, Progress::Running) => next.progress = Progress::Soaking,
            (Event::Advance(frozen), Progress::Soaking) if plan.stage(following).is_some() => {
                (next.progress, next.stage, next.frozen) = (Progress::Running, following, *frozen);
            }
            (Event::Finish, Progress::Soaking) if plan.stage(following).is_none() => {
                next.progress = Progress::Done;
            }
            _ => return not_due,
        }
        next.since = now;
        Ok(next)
    }
}
