//! Devices take releases by themselves, whoever is on the way and whenever the power goes.

mod attacks;
mod download;
mod power_cuts;
mod releases;
mod reset;
pub(crate) mod scene;

use crate::harness::artefacts::Artefacts;
use crate::harness::suite::Suite;

/// Registers the checks of this folder.
pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    releases::register(suite, artefacts);
    download::register(suite, artefacts);
    attacks::register(suite, artefacts);
    power_cuts::register(suite, artefacts);
    reset::register(suite, artefacts);
}
