//! The boot loader on the card: a good slot brings it up to date, one copy after the other.

use crate::log::Log;
use holdfast_lifecycle::boot_loader::{
    self, BootLoader, BootLoaderError, Found, MAX_ENCODED_BYTES, Place, Step, TABLE_BYTES,
};
use holdfast_linux::direct::Direct;
use holdfast_linux::watchdog::Watchdog;
use holdfast_linux::{PathError, block, file};
use holdfast_types::event::init as event;
use std::path::Path;

/// A boot loader that was not updated. Whatever the reason, the copy that has started this boot is whole, or the
/// other one is.
#[derive(Debug, thiserror::Error)]
enum RenewalError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Refused(#[from] BootLoaderError),
    #[error("the root file system is on no disk")]
    NoDisk,
    #[error("what was read back at byte {0} is not what was written")]
    ReadBack(u64),
}

/// Writes what the running slot's release has in another form, on a board whose slots bring a boot loader.
/// Only a slot that is good may: one on trial might have to give way to another.
pub(crate) fn renew(log: &Log, watchdog: Option<&Watchdog>) {
    if let Err(error) = try_to_renew(log, watchdog) {
        log.failure(event::BOOT_LOADER_UPDATE_FAILED, "cannot update the boot loader", &error);
    }
}

fn try_to_renew(log: &Log, watchdog: Option<&Watchdog>) -> Result<(), RenewalError> {
    let encoded = file::read_bounded(Path::new(boot_loader::PATH), MAX_ENCODED_BYTES)?;
    // On this board the boot loader is not on the medium, or not ours to write.
    let Some(encoded) = encoded else {
        return Ok(());
    };
    let loader = BootLoader::decode(&encoded)?;
    let disk = block::root_disk()?.ok_or(RenewalError::NoDisk)?;
    let medium = Direct::open(&disk.path)?;
    // Another partition table could have given its place to something else.
    loader.fits(&medium.bytes(0, TABLE_BYTES)?, &disk.partitions)?;
    let first = look(&medium, &loader, Place::First)?;
    let spare = look(&medium, &loader, Place::Spare)?;
    // The second copy is begun only when the first has been read back: cut at any moment, the boot
    // ROM finds one that is whole.
    for place in boot_loader::outdated(first, spare)? {
        for step in loader.steps(place) {
            // A slow card may take long over all of them.
            if let Some(watchdog) = watchdog {
                watchdog.pet();
            }
            take(&medium, step)?;
        }
        let name = match place {
            Place::First => "first",
            Place::Spare => "spare",
        };
        let text = format!("the boot loader's {name} copy is written and verified");
        log.notice(event::BOOT_LOADER_WRITTEN, &text);
    }
    Ok(())
}

fn look(medium: &Direct, loader: &BootLoader, place: Place) -> Result<Found, RenewalError> {
    let copy = loader.copy(place);
    let first_stage = medium.bytes(copy.at, loader.form.most_bytes())?;
    let u_boot = medium.bytes(copy.u_boot_at, loader.u_boot.len())?;
    Ok(loader.judge(place, &first_stage, &u_boot))
}

fn take(medium: &Direct, step: Step<'_>) -> Result<(), RenewalError> {
    match step {
        Step::Write(at, bytes) => {
            let mut writer = medium.writer_from(at);
            writer.put(bytes)?;
            Ok(writer.finish()?)
        }
        Step::Compare(at, bytes) if medium.bytes(at, bytes.len())? == bytes => Ok(()),
        Step::Compare(at, _) => Err(RenewalError::ReadBack(at)),
    }
}
