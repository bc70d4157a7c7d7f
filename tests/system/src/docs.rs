//! The documents of the project: pages that work as printed, and pages that are made from the tests.

mod pages;
#[cfg(test)]
mod threat_model;

use crate::harness::artefacts::Artefacts;
use crate::harness::suite::Suite;

/// Registers the checks of this folder.
pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    pages::register(suite, artefacts);
}
