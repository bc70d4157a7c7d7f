//! Rollback floors: the least rollback index of each component that this device still takes.
//!
//! One interface, through which init alone reads and raises them. Today [`Identities`] keeps them on
//! `state`; a TPM's counter or RPMB can take their place behind the same two functions, and with it what
//! `state` cannot do: withstand whoever rewrites the flash.

use crate::identities::Identities;
use crate::log::Log;
use holdfast_core::encoding::EncodingError;
use holdfast_core::release::Component;
use holdfast_core::slots::Floor;
use holdfast_linux::{PathError, file};
use std::path::{Path, PathBuf};

/// Where floors are kept.
pub(crate) trait Floors {
    /// The floor of a component; zero where none is known, since a device must boot without.
    fn of(&self, component: Component) -> u64;

    /// From now on nothing of the component below `index` is taken. A floor never sinks.
    fn raise(&mut self, log: &Log, component: Component, index: u64);
}

impl Floors for Identities {
    fn of(&self, component: Component) -> u64 {
        match component {
            Component::Os => self.os_floor.0.into(),
            Component::App(id) => self.app_floor(id),
        }
    }

    fn raise(&mut self, log: &Log, component: Component, index: u64) {
        match component {
            Component::App(id) => self.raise_app_floor(log, id, index),
            Component::Os => {
                let Some(floor) = u32::try_from(index).ok().map(Floor) else {
                    return;
                };
                if floor <= self.os_floor {
                    return;
                }
                match write_os_floor(floor) {
                    Ok(()) => self.os_floor = floor,
                    Err(error) => log.failure("the rollback floor does not rise", &error),
                }
            }
        }
    }
}

/// Why a floor cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FloorError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Encoding(#[from] EncodingError),
}

fn os_floor_file() -> PathBuf {
    Path::new("/state").join(Floor::FILE_NAME)
}

/// The floor of the OS, as `state` has it.
pub(crate) fn read_os_floor(log: &Log) -> Floor {
    let read = || -> Result<Option<Floor>, FloorError> {
        let bytes = file::read_bounded(&os_floor_file(), Floor::MAX_ENCODED_BYTES)?;
        Ok(bytes.map(|bytes| Floor::decode(&bytes)).transpose()?)
    };
    let floor = read().unwrap_or_else(|error| {
        log.failure("the rollback floor is lost", &error);
        None
    });
    floor.unwrap_or_default()
}

pub(crate) fn write_os_floor(floor: Floor) -> Result<(), FloorError> {
    Ok(file::replace(&os_floor_file(), &floor.encode()?)?)
}
