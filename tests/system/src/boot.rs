//! The device boots what was signed, and what is whole, and comes back from everything else.

mod contents;
mod fallback;
mod instructions;
pub(crate) mod integrity;
mod loader;
mod measured;
pub(crate) mod power_cuts;
mod script;
mod start;
mod trial;
mod verified;

use crate::harness::artefacts::Artefacts;
use crate::harness::suite::Suite;

/// Registers the checks of this folder.
pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    contents::register(suite, artefacts);
    instructions::register(suite, artefacts);
    start::register(suite, artefacts);
    integrity::register(suite, artefacts);
    verified::register(suite, artefacts);
    script::register(suite, artefacts);
    loader::register(suite, artefacts);
    measured::register(suite, artefacts);
    fallback::register(suite, artefacts);
    power_cuts::register(suite, artefacts);
}
