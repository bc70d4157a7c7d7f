//! What the deployments of a group leave a device to take of one component.

use super::slot::{Outcome, Target};
use super::state::{Deployment, Progress};
use holdfast_release::assignment::{LocalWindow, MAX_EXCEPT};
use holdfast_types::Version;

/// A deployment of one component, as it is for one device.
#[derive(Debug, Clone, Copy)]
pub struct Offered<'a> {
    /// Its name.
    pub name: &'a str,
    /// What is deployed.
    pub target: Target,
    /// Its state.
    pub deployment: &'a Deployment,
    /// What has become of the device's slot, with when it was given, if it has one.
    pub slot: Option<(Outcome, u64)>,
    /// When devices may restart for it.
    pub window: Option<LocalWindow>,
    /// Seconds after which a device that may take it waits for the window no longer.
    pub deadline_s: Option<u64>,
    /// How often devices check for it, in seconds.
    pub check_every_s: Option<u32>,
}

impl Offered<'_> {
    /// Returns since when the device may take it, in seconds since 1970, if it may.
    fn since(&self) -> Option<u64> {
        match (self.deployment.progress, self.slot) {
            (Progress::Done, slot) => Some(slot.map_or(self.deployment.since, |(_, at)| at)),
            // What it has fallen back from it does not take again, and may: its own memory says no.
            (_, Some((_, granted_at))) if self.deployment.serves() => Some(granted_at),
            _ => None,
        }
    }
}

/// What a device may take of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Narrowed<'a> {
    /// The deployment that is the reason; none where the device is to stay as it is.
    pub name: &'a str,
    /// The newest version.
    pub newest: Version,
    /// Versions up to it that may not be taken.
    pub except: Vec<Version>,
    /// When it may restart for it.
    pub window: Option<LocalWindow>,
    /// From when on the window does not count, in seconds since 1970.
    pub deadline: Option<u64>,
    /// How often it checks for releases, in seconds.
    pub check_every_s: Option<u32>,
}

/// Returns what a device that runs a version of a component may take of it, by the deployments of its group. What it runs it keeps.
#[must_use]
pub fn narrow<'a>(runs: Version, offered: &[Offered<'a>], is_update_on: bool) -> Narrowed<'a> {
    let mut narrowed = Narrowed {
        name: "",
        newest: runs,
        except: Vec::new(),
        window: None,
        deadline: None,
        check_every_s: None,
    };
    let open = |of: &&Offered<'a>| is_update_on && of.since().is_some();
    let best = offered.iter().filter(open).max_by_key(|of| of.target.version);
    if let Some(best) = best.filter(|best| best.target.version > runs) {
        narrowed.name = best.name;
        narrowed.newest = best.target.version;
        narrowed.window = best.window;
        let deadline = |since: u64| Some(since.saturating_add(best.deadline_s?));
        narrowed.deadline = best.since().and_then(deadline);
        narrowed.check_every_s = best.check_every_s;
    }
    // A version is closed unless some deployment opens it. Of too many the newest count, which a device would take first.
    let is_open = |version| offered.iter().filter(open).any(|of| of.target.version == version);
    let closed = offered.iter().map(|of| of.target.version);
    let mut except: Vec<Version> = closed
        .filter(|version| *version > runs && *version < narrowed.newest && !is_open(*version))
        .collect();
    except.sort_unstable_by(|one, other| other.cmp(one));
    except.dedup();
    except.truncate(MAX_EXCEPT);
    narrowed.except = except;
    narrowed
}
