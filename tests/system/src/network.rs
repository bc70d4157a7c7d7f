//! Apps reach what they are granted, on networks as they are and among liars.

mod attacks;
pub(crate) mod grants;
mod time;
mod web;

use crate::Artefacts;
use crate::harness::suite::Suite;

/// Registers the checks of this folder.
pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    grants::register(suite, artefacts);
    attacks::register(suite, artefacts);
    time::register(suite, artefacts);
    web::register(suite, artefacts);
}
