//! The device's clock, which init alone sets.

use crate::log::Log;
use holdfast_lifecycle::clock::{Judge, TimeFloor};
use holdfast_linux::clock;
use holdfast_linux::{PathError, file};
use holdfast_sandbox::clock::{Source, Status, Verdict};
use holdfast_types::date;
use holdfast_types::encoding::EncodingError;
use holdfast_types::event::init as event;
use std::io;
use std::path::{Path, PathBuf};

/// Corrections below this are not worth a line in the log, in microseconds.
const QUIET_US: u64 = 100_000;

#[derive(Debug, thiserror::Error)]
#[error("cannot set the clock")]
pub(crate) struct ClockError(#[source] io::Error);

/// A clock floor that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FloorError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Encoding(#[from] EncodingError),
}

/// The clock, and what decides about it.
#[derive(Debug)]
pub(crate) struct Clock {
    judge: Judge,
    build_time: u64,
    /// The floor that `state` has.
    saved: TimeFloor,
}

impl Clock {
    /// No clock on this device shows less than the board's own, nor than the time the image was built.
    pub(crate) fn start(build_time: u64) -> Result<Self, ClockError> {
        let shown = clock::hardware_seconds();
        if let Some(shown) = shown {
            // The kernel takes the board's time over by itself, but on 32-bit processors none from
            // 2038 on.
            clock::raise_to(shown).map_err(ClockError)?;
        }
        let raised = clock::raise_to(build_time).map_err(ClockError)?;
        // A clock that showed less than the image's own time has lost its battery, and is no
        // source.
        let source = if raised || shown.is_none() { Source::Floor } else { Source::Hardware };
        let judge = Judge::new(build_time, source);
        Ok(Self { judge, build_time, saved: TimeFloor::default() })
    }

    /// Nor than when an image was built that this device has committed, as far as `state` tells.
    pub(crate) fn raise_to_saved(&mut self, log: &Log) -> Result<(), ClockError> {
        // A device must boot without `state`, with the image's own time as its floor.
        self.saved = read_floor().unwrap_or_else(|error| {
            log.failure(event::CLOCK_FLOOR_READ_FAILED, "cannot read the clock floor", &error);
            TimeFloor::default()
        });
        let floor = self.saved.0;
        if clock::raise_to(floor).map_err(ClockError)? {
            self.judge.forget_source();
        }
        self.judge.raise_floor(floor);
        let Status { seconds, floor, source, .. } = self.status(0);
        let (shows, floor) = (date(seconds), date(floor));
        let text = format!("clock shows {shows}, source {source}, floor {floor}");
        log.notice(event::CLOCK_STARTED, &text);
        Ok(())
    }

    /// The image that runs was committed: time never again falls before its build.
    pub(crate) fn commit_floor(&mut self, log: &Log) {
        let floor = TimeFloor(self.build_time);
        // Nearly every boot runs the image that raised it: the medium is not written for nothing.
        if floor <= self.saved {
            return;
        }
        self.save(log, floor);
    }

    fn save(&mut self, log: &Log, floor: TimeFloor) {
        match write_floor(floor) {
            Ok(()) => self.saved = floor,
            Err(error) => {
                let what = "cannot persist the clock floor";
                log.failure(event::CLOCK_FLOOR_PERSIST_FAILED, what, &error);
            }
        }
    }

    /// The offline keys of a repository say that it is no earlier than this: the clock never again shows less.
    /// `update` has verified that; should it be taken over, the bound is that of [`Judge::may_be_floor`].
    pub(crate) fn raise_signed(&mut self, log: &Log, seconds: u64) {
        let floor = TimeFloor(seconds);
        if floor <= self.saved || !self.judge.may_be_floor(seconds) {
            return;
        }
        match clock::raise_to(seconds) {
            Ok(true) => self.judge.forget_source(),
            Ok(false) => {}
            Err(error) => log.failure(event::CLOCK_SET_FAILED, "cannot set the clock", &error),
        }
        // For this run even where `state` cannot be written.
        self.judge.raise_floor(seconds);
        self.save(log, floor);
    }

    /// Somebody says that the clock is behind by so many microseconds.
    pub(crate) fn claim(&mut self, log: &Log, behind_us: i64, now: u64) -> Verdict {
        let before = self.status(now).source;
        let verdict = self.judge.judge(clock::realtime_us(), behind_us, now);
        let done = match verdict {
            Verdict::Step => clock::step(behind_us),
            // What is slewed is half a second at most, and fits.
            Verdict::Slew => clock::slew(i32::try_from(behind_us).unwrap_or(0)),
            Verdict::Unconfirmed | Verdict::BeforeFloor | Verdict::TooLate => Ok(()),
        };
        if let Err(error) = done {
            log.failure(event::CLOCK_SET_FAILED, "cannot set the clock", &error);
        }
        let Status { seconds, source, .. } = self.status(now);
        let quiet = behind_us.unsigned_abs() < QUIET_US && before == source;
        // Each answer of a time server moves the clock a little; only what somebody may look for is
        // logged.
        if !(verdict == Verdict::Slew && quiet) {
            let (sign, behind) = (if behind_us < 0 { "-" } else { "+" }, behind_us.unsigned_abs());
            let (whole, parts) = (behind / 1_000_000, behind % 1_000_000 / 1000);
            let shows = date(seconds);
            let text = format!(
                "clock {verdict} ({sign}{whole}.{parts:03} s): shows {shows}, source {source}"
            );
            log.notice(event::CLOCK_CLAIM_JUDGED, &text);
        }
        verdict
    }

    /// The floor that `state` has.
    pub(crate) fn saved_floor(&self) -> u64 {
        self.saved.0
    }

    pub(crate) fn status(&self, now: u64) -> Status {
        self.judge.status(clock::realtime_seconds(), now)
    }
}

fn floor_file() -> PathBuf {
    Path::new("/state").join(TimeFloor::FILE_NAME)
}

fn read_floor() -> Result<TimeFloor, FloorError> {
    // No file is no error: the first start has none, nor has one after `state` was lost.
    let bytes = file::read_bounded(&floor_file(), TimeFloor::MAX_ENCODED_BYTES)?;
    Ok(bytes.map(|bytes| TimeFloor::decode(&bytes)).transpose()?.unwrap_or_default())
}

pub(crate) fn write_floor(floor: TimeFloor) -> Result<(), FloorError> {
    Ok(file::replace(&floor_file(), &floor.encode()?)?)
}
