//! Resets: init alone erases, at a start and before anything is mounted.

use crate::app_uids::AppUids;
use crate::clock;
use crate::log::Log;
use crate::os_floor;
use crate::slots::PARTITION;
use holdfast_lifecycle::clock::TimeFloor;
use holdfast_lifecycle::factory_reset::{
    Blank, FACTORY_DIRECTORY, Kept, RECORD_BYTES, Record, ResetError, record_offset,
};
use holdfast_linux::direct::Direct;
use holdfast_linux::watchdog::Watchdog;
use holdfast_linux::{PathError, block, erase, file};
use holdfast_sandbox::reset_order::Order;
use holdfast_types::event::init as event;
use std::path::Path;

/// Longest short form of a file system, in bytes.
const MAX_BLANK_BYTES: usize = 4 << 20;

/// A reset that was not carried out; the next start tries it again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResetFailure {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("there is no partition {0}")]
    NoPartition(&'static str),
    #[error("this image has no empty file system for {0}")]
    NoBlank(&'static str),
    #[error("the record of resets")]
    Record(#[from] ResetError),
    #[error("cannot save the rollback floor that survives the reset")]
    Floor(#[from] os_floor::FloorError),
    #[error("cannot save the clock floor that survives the reset")]
    Time(#[from] clock::FloorError),
}

/// The record, on the partition of the boot state.
struct Place {
    disk: Direct,
    at: u64,
}

impl Place {
    fn open() -> Result<Self, ResetFailure> {
        let path = block::partition_beside_root(PARTITION)?;
        let mut disk = Direct::open(&path.ok_or(ResetFailure::NoPartition(PARTITION))?)?;
        let at = record_offset(disk.length()?);
        Ok(Self { disk, at })
    }

    fn read(&self) -> Result<Record, ResetFailure> {
        Ok(Record::decode(&self.disk.bytes(self.at, RECORD_BYTES)?)?)
    }

    fn write(&self, record: &Record) -> Result<(), ResetFailure> {
        let mut writer = self.disk.writer_from(self.at);
        writer.put(&record.encode()?)?;
        Ok(writer.finish()?)
    }
}

/// A reset that is under way: its partitions are empty.
pub(crate) struct UnderWay {
    place: Place,
    order: Order,
    kept: Kept,
}

/// Erases what an order says, if there is one. Nothing is mounted yet.
pub(crate) fn begin(log: &Log, watchdog: Option<&Watchdog>) -> Option<UnderWay> {
    match erase_ordered(log, watchdog) {
        Ok(under_way) => under_way,
        Err(error) => {
            log.failure(event::RESET_FAILED, "cannot carry out the reset", &error);
            None
        }
    }
}

fn erase_ordered(log: &Log, watchdog: Option<&Watchdog>) -> Result<Option<UnderWay>, ResetFailure> {
    let place = Place::open()?;
    let Some((order, kept)) = place.read()?.pending else {
        return Ok(None);
    };
    // The record stays until everything is done: a cut of power has the next start begin anew.
    for (name, _) in order.partitions.each().into_iter().filter(|(_, erased)| *erased) {
        let path = block::partition_beside_root(name)?.ok_or(ResetFailure::NoPartition(name))?;
        // All of it, and not its superblock alone: what an owner gives away must not be read from the blocks that are free.
        erase::overwrite(&path, &Blank::parse(&blank(name)?)?, || pet(watchdog))?;
        log.notice(event::PARTITION_ERASED, &format!("partition {name} is erased"));
    }
    Ok(Some(UnderWay { place, order, kept }))
}

/// The empty file system of a partition, as the image brings it.
fn blank(name: &'static str) -> Result<Vec<u8>, ResetFailure> {
    let bytes = file::read_bounded(&Path::new(FACTORY_DIRECTORY).join(name), MAX_BLANK_BYTES)?;
    bytes.ok_or(ResetFailure::NoBlank(name))
}

fn pet(watchdog: Option<&Watchdog>) {
    if let Some(watchdog) = watchdog {
        watchdog.pet();
    }
}

/// Gives a partition that holds nothing but zeros its empty file system. False where there is anything else on it: that is
/// somebody's.
pub(crate) fn make_anew(
    watchdog: Option<&Watchdog>,
    name: &'static str,
    path: &Path,
) -> Result<bool, ResetFailure> {
    // A card that was never written, or one that has given up, reads as zeros; a file system that
    // is only damaged does not.
    if !erase::is_zero(path, || pet(watchdog))? {
        return Ok(false);
    }
    erase::overwrite(path, &Blank::parse(&blank(name)?)?, || pet(watchdog))?;
    Ok(true)
}

impl UnderWay {
    /// Puts the floors of the OS and of the clock back, before anybody reads them.
    pub(crate) fn put_back(&self, log: &Log) {
        // They lie on `state`, and are still there where that was kept.
        if !self.order.partitions.state {
            return;
        }
        let put_back = || -> Result<(), ResetFailure> {
            os_floor::write(self.kept.os_floor)?;
            Ok(clock::write_floor(TimeFloor(self.kept.time_floor))?)
        };
        if let Err(error) = put_back() {
            let what = "cannot restore the floors after the reset";
            log.failure(event::RESET_FLOOR_RESTORE_FAILED, what, &error);
        }
    }

    /// Puts the floors of apps back. From then on, the reset is done.
    pub(crate) fn finish(self, log: &Log, app_uids: &mut AppUids) {
        if self.order.partitions.state {
            for (id, floor) in &self.kept.app_floors {
                if let Err(error) = app_uids.assign(log, *id) {
                    let what = format!("cannot save the rollback floor of {id}");
                    log.failure(event::RESET_APP_FLOOR_RESTORE_FAILED, &what, &error);
                }
                app_uids.raise_app_floor(log, *id, *floor);
            }
        }
        // Last of all: where this is cut off, the reset is done once more, which does no harm.
        match self.place.write(&Record { pending: None, done: Some(self.order.digest) }) {
            Ok(()) => {
                let text = format!("the device is reset: {}", self.order.partitions);
                log.notice(event::RESET_DONE, &text);
            }
            Err(error) => {
                let what = "cannot record that the reset is done; it will be repeated";
                log.failure(event::RESET_DONE_PERSIST_FAILED, what, &error);
            }
        }
    }
}

/// Takes an order for the next start. False for one that was carried out already.
pub(crate) fn order(order: Order, kept: Kept) -> Result<bool, ResetFailure> {
    let place = Place::open()?;
    // A record that is damaged is as good as none: somebody has cut off its writing.
    let record = place.read().unwrap_or_default();
    // Otherwise a card that stays in its slot would erase the device at every start.
    if record.done == Some(order.digest) {
        return Ok(false);
    }
    place.write(&Record { pending: Some((order, kept)), done: record.done })?;
    Ok(true)
}
