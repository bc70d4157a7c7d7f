//! Why a device does not have a release yet: of each device one answer, the first that holds.

use super::order::{Frozen, Place};
use super::slot::Outcome;
use super::state::{Deployment, State};
use holdfast_evidence::messages::UpdateWait;

macro_rules! reasons {
    ($($variant:ident = $word:literal: $means:literal, $remedy:literal;)+) => {
        /// Why a device does not have the release of a deployment yet.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum WhyNot { $(#[doc = $means] $variant),+ }

        impl WhyNot {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns its word, as JSON and pages have it.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Returns what it means, in one sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $means),+ }
            }

            /// Returns what to do about it.
            #[must_use]
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy),+ }
            }

            /// Reads its word.
            #[must_use]
            pub fn of_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

reasons! {
    NotApproved = "not-approved": "Nobody has approved the deployment.", "`deployment approve`; in a group marked `production`, by somebody else than who has drafted it.";
    NotBegun = "not-begun": "The deployment was approved and begins later.", "Nothing: it begins by itself.";
    Withdrawn = "withdrawn": "The deployment was withdrawn.", "Deploy another release.";
    FailedBefore = "failed-before": "The device has tried the release and runs the one before, or cannot use it: it does not try the same one again.", "Look at `crash list` and the device's reports, and deploy a correction.";
    Halted = "halted": "The deployment has halted.", "`deployment show` has the cause. Withdraw it and deploy a correction, or resume it.";
    UpdateOff = "update-off": "Updates of the group are switched off.", "`device-group update GROUP --update on`.";
    Silent = "silent": "The device was given the release, and has not checked in when it was to.", "Look at the device and its network.";
    Trial = "trial": "The release runs on the device, and is on trial.", "Nothing: it is committed or given up within minutes, and the next check-in shows it.";
    Window = "window": "The device was given the release, and waits for its maintenance window.", "Nothing: behind the deadline it does not wait any more.";
    Deferred = "deferred": "An app on the device has put the restart off, as it may for a day.", "Nothing: a day is the most.";
    Declined = "declined": "The release has more bytes than the device's image lets it fetch for one.", "Publish a delta, or raise `most_bytes_a_release` by an image from a card.";
    Fetching = "fetching": "The device was given the release at its check-in, and has not attested it.", "Nothing, for a day. Then look at its reports: the download may fail.";
    Paused = "paused": "A person has paused the deployment.", "`deployment resume`.";
    WithoutComponent = "without-component": "The device does not have the app.", "Nothing: an app comes with the image.";
    StageNotReached = "stage-not-reached": "The device is behind those of this stage in the deployment's order.", "Nothing: a later stage has it.";
    Unsettled = "unsettled": "The device is trying another release, has just fallen back from one, or its last evidence is in doubt.", "`device show`: it is given the release once it attests a committed one.";
    ShareGiven = "share-given": "As many devices as the stage allows have the release already.", "Nothing: a later stage has it.";
    Offline = "offline": "The stage has the device, which has not checked in since it began.", "Look at the device and its network if it stays away for days.";
}

impl WhyNot {
    /// Returns what a device says of itself as a reason.
    #[must_use]
    pub fn of_wait(wait: UpdateWait) -> Self {
        match wait {
            UpdateWait::Window => Self::Window,
            UpdateWait::Deferred => Self::Deferred,
            UpdateWait::Declined => Self::Declined,
            UpdateWait::FailedBefore => Self::FailedBefore,
        }
    }
}

/// What is known of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// True unless its group's updates are switched off.
    pub is_update_on: bool,
    /// Its place in the deployment's order.
    pub place: Place,
    /// True if it has attested the version, or a later one.
    pub is_there: bool,
    /// True if it has the component at all.
    pub has_component: bool,
    /// True if what it has attested last was committed and is not in doubt.
    pub is_settled: bool,
    /// What has become of its slot, if it has one.
    pub outcome: Option<Outcome>,
    /// When it checked in last, in seconds since 1970; 0 if never.
    pub seen_at: u64,
    /// True if the deployment's window is closed now, and its deadline has not passed for the device.
    pub waits_for_window: bool,
    /// What the device has said of why it waits. It is believed about itself, and in what is shown alone.
    pub said: Option<WhyNot>,
}

/// Says whether a device that checks in now is given a slot. How many are left is another question, which is asked where they are
/// counted.
///
/// # Errors
/// Why it is not.
pub fn may_be_granted(deployment: &Deployment, facts: &Facts) -> Result<(), WhyNot> {
    match deployment.state() {
        State::Draft => return Err(WhyNot::NotApproved),
        State::Approved => return Err(WhyNot::NotBegun),
        State::Withdrawn => return Err(WhyNot::Withdrawn),
        State::Halted => return Err(WhyNot::Halted),
        State::Paused => return Err(WhyNot::Paused),
        State::Running | State::Soaking | State::Done => {}
    }
    if !facts.is_update_on {
        Err(WhyNot::UpdateOff)
    } else if !facts.has_component {
        Err(WhyNot::WithoutComponent)
    } else if facts.place > deployment.frozen.last {
        Err(WhyNot::StageNotReached)
    } else if !facts.is_settled {
        Err(WhyNot::Unsettled)
    } else {
        Ok(())
    }
}

/// Returns why a device does not have the release yet; nothing where it has.
#[must_use]
pub fn why_not(deployment: &Deployment, granted: u64, facts: &Facts) -> Option<WhyNot> {
    if facts.is_there || facts.outcome == Some(Outcome::Committed) {
        return None;
    }
    let stopped = match deployment.state() {
        State::Withdrawn => Some(WhyNot::Withdrawn),
        State::Halted => Some(WhyNot::Halted),
        _ => (!facts.is_update_on).then_some(WhyNot::UpdateOff),
    };
    match facts.outcome {
        Some(Outcome::FellBack | Outcome::Refused) => return Some(WhyNot::FailedBefore),
        Some(Outcome::Trial) => return Some(WhyNot::Trial),
        Some(Outcome::Silent) => return Some(WhyNot::Silent),
        Some(Outcome::Granted) => {
            let waits = facts.waits_for_window.then_some(WhyNot::Window);
            return stopped.or(facts.said).or(waits).or(Some(WhyNot::Fetching));
        }
        Some(Outcome::Committed) | None => {}
    }
    if let Err(why) = may_be_granted(deployment, facts) {
        return Some(why);
    }
    let Frozen { allowance, .. } = deployment.frozen;
    if deployment.state() != State::Done
        && facts.seen_at >= deployment.since
        && granted >= allowance
    {
        return Some(WhyNot::ShareGiven);
    }
    // It is given the release when it comes next.
    Some(if deployment.state() == State::Done && facts.seen_at >= deployment.since {
        WhyNot::Fetching
    } else {
        WhyNot::Offline
    })
}
