//! Apps are started from packages that are whole, supervised, and debugged.

mod crashes;
mod debugging;
mod packages;
mod supervision;

use crate::harness::artefacts::Artefacts;
use crate::harness::suite::Suite;

/// Registers the checks of this folder.
pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    packages::register(suite, artefacts);
    supervision::register(suite, artefacts);
    crashes::register(suite, artefacts);
    debugging::register(suite, artefacts);
}
