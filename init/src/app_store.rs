//! Which of an app's packages is used: the one on trial, the current one, or the one before.
//!
//! The update agent may write everything here, and a file's name says no more than which package is looked
//! at first: what is in it is proved each time. Every step is one rename, so that a cut of power leaves the
//! state before or after it.

use holdfast_lifecycle::slots::TRIES;
use holdfast_linux::{PathError, file};
use holdfast_sandbox::component::Stored;
use holdfast_types::ComponentId;
use std::path::{Path, PathBuf};

/// Directory of the packages.
pub(crate) const APPS: &str = "/apps";

/// Returns the path of a package.
pub(crate) fn path(id: ComponentId, stored: Stored) -> PathBuf {
    Path::new(APPS).join(stored.file(id))
}

/// The tries that are left of a package on trial, after this one was taken; `None` where there is none, or
/// it has used them up.
pub(crate) fn take_try(id: ComponentId) -> Result<Option<u8>, PathError> {
    let Some(tries) = tries(id) else {
        return Ok(None);
    };
    match tries.checked_sub(1) {
        Some(left) => {
            // Before the package is looked at: whatever it does to this run, the try is used.
            rename(id, Stored::Trial(tries), Stored::Trial(left))?;
            Ok(Some(left))
        }
        None => {
            give_up(id)?;
            Ok(None)
        }
    }
}

fn tries(id: ComponentId) -> Option<u8> {
    let is_there = |tries: &u8| path(id, Stored::Trial(*tries)).symlink_metadata().is_ok();
    (0..=TRIES).rev().find(is_there)
}

/// True while a package waits for the next start.
pub(crate) fn waits(id: ComponentId) -> bool {
    path(id, Stored::Trial(TRIES)).symlink_metadata().is_ok()
}

/// Puts what the update agent has written on trial, with all tries.
pub(crate) fn stage(id: ComponentId) -> Result<(), PathError> {
    give_up(id)?;
    // What it holds is proved when it is tried; only its name changes now.
    rename(id, Stored::Unfinished, Stored::Trial(TRIES))
}

/// The package on trial is the current one from now on, and that one the one before.
pub(crate) fn commit(id: ComponentId, left: u8) -> Result<(), PathError> {
    // Cut between the two renames, the package is still on trial and the one before is found where
    // it was put.
    if path(id, Stored::Current).symlink_metadata().is_ok() {
        rename(id, Stored::Current, Stored::Previous)?;
    }
    rename(id, Stored::Trial(left), Stored::Current)
}

/// No package of the app is on trial any more.
pub(crate) fn give_up(id: ComponentId) -> Result<(), PathError> {
    // The name says how many tries are left; whichever it is, it goes.
    (0..=TRIES).try_for_each(|tries| file::remove(&path(id, Stored::Trial(tries))))
}

/// The current package is damaged: it makes way for the one before.
pub(crate) fn fall_back(id: ComponentId) -> Result<(), PathError> {
    rename(id, Stored::Previous, Stored::Current)
}

fn rename(id: ComponentId, from: Stored, to: Stored) -> Result<(), PathError> {
    file::rename(&path(id, from), &path(id, to))
}
