//! An app does what its manifest grants and nothing else, and others do not notice what it tries.

pub(crate) mod attacks;
pub(crate) mod crowd;
mod descriptors;
pub(crate) mod hostile;
mod pools;

use crate::harness::artefacts::Artefacts;
use crate::harness::suite::Suite;

/// Registers the checks of this folder.
pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    descriptors::register(suite, artefacts);
    hostile::register(suite, artefacts);
    crowd::register(suite, artefacts);
    pools::register(suite, artefacts);
}
