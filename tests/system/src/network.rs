//! Apps reach what they are granted, on networks as they are and among liars.

mod addresses;
mod attacks;
mod grants;
mod time;
mod web;
pub(crate) mod world;

use crate::harness::artefacts::Artefacts;
use crate::harness::suite::Suite;

/// Registers the checks of this folder.
pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    grants::register(suite, artefacts);
    addresses::register(suite, artefacts);
    attacks::register(suite, artefacts);
    time::register(suite, artefacts);
    web::register(suite, artefacts);
}
