//! Rollback floors: the least rollback index of each component that this device still takes.
//!
//! One interface, through which init alone reads and raises them. Today [`AppUids`] keeps them on
//! `state`; a TPM's counter or RPMB can take their place behind the same two functions, and with it what
//! `state` cannot do: withstand whoever rewrites the flash.

use crate::app_uids::AppUids;
use crate::log::Log;
use crate::os_floor;
use holdfast_lifecycle::slots::Floor;
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_types::event::init as event;

/// A store of rollback floors.
pub(crate) trait Floors {
    /// The floor of a component; zero where none is known, since a device must boot without.
    fn of(&self, component: ReleaseSubject) -> u64;

    /// From now on nothing of the component below `index` is taken. A floor never sinks.
    fn raise(&mut self, log: &Log, component: ReleaseSubject, index: u64);
}

impl Floors for AppUids {
    fn of(&self, component: ReleaseSubject) -> u64 {
        match component {
            ReleaseSubject::Os => self.os_floor.0.into(),
            ReleaseSubject::App(id) => self.app_floor(id),
        }
    }

    fn raise(&mut self, log: &Log, component: ReleaseSubject, index: u64) {
        match component {
            ReleaseSubject::App(id) => self.raise_app_floor(log, id, index),
            ReleaseSubject::Os => {
                // A release has no index beyond 32 bits: what says so is no release, and raises
                // nothing.
                let Some(floor) = u32::try_from(index).ok().map(Floor) else {
                    return;
                };
                if floor <= self.os_floor {
                    return;
                }
                // First on the medium: a floor that holds for this run alone would be no promise.
                match os_floor::write(floor) {
                    Ok(()) => self.os_floor = floor,
                    Err(error) => {
                        let what = "cannot persist the rollback floor";
                        log.failure(event::OS_FLOOR_PERSIST_FAILED, what, &error);
                    }
                }
            }
        }
    }
}
