//! What a device records, writes and sends, as decisions that the service `report` carries out.

use crate::Level;
use crate::batch::{Epoch, MAX_BATCH_BYTES};
use crate::frame::FrameError;
use crate::moment::Moment;
use crate::quota::{Quota, Waiting};
use crate::record::{Body, Lost, LostWhy};
use crate::spool::{Appended, Change, File, Found, Spool};
use crate::urgent::Urgency;

/// Everything that `report` remembers while it runs.
#[derive(Debug, Clone)]
pub struct Recorder {
    quota: Quota,
    urgency: Urgency,
    spool: Spool,
}

impl Recorder {
    /// Begins with what the spool's files hold. `fresh` is a random number.
    #[must_use]
    pub fn new(level: Level, contents: [Option<&[u8]>; 2], fresh: Epoch, now: Moment) -> Self {
        Self::begin(level, contents.map(|content| content.map(Found::read)), fresh, now)
    }

    /// As [`new`](Self::new), of files that were read one after the other.
    #[must_use]
    pub fn begin(
        level: Level,
        found: [Option<Option<Found>>; 2],
        fresh: Epoch,
        now: Moment,
    ) -> Self {
        let opened = Spool::open_found(found, fresh, now.uptime_s);
        let (quota, urgency) = (Quota::new(level), Urgency::default());
        let mut recorder = Self { quota, urgency, spool: opened.spool };
        if let Some(torn) = opened.torn {
            recorder.record(Body::Lost(torn), now, 0);
        }
        recorder
    }

    /// Returns the level at which the device records.
    #[must_use]
    pub fn level(&self) -> Level {
        self.quota.level()
    }

    /// Takes what has happened. `random` decides how long an urgent upload waits.
    pub fn record(&mut self, body: Body, now: Moment, random: u64) {
        if self.quota.take(body.clone(), now.uptime_s, now.at) {
            self.urgency.take(&body, now.uptime_s, random);
        }
    }

    /// True where something urgent is to be sent now.
    #[must_use]
    pub fn is_due(&self, now: Moment) -> bool {
        self.urgency.is_due(now.uptime_s)
    }

    /// Records at another level from now on. `Off` forgets what was recorded, and returns what that changes.
    pub fn set_level(&mut self, level: Level) -> Vec<Change> {
        self.quota.set_level(level);
        if level == Level::Off {
            self.urgency = Urgency::default();
            return self.spool.erase();
        }
        Vec::new()
    }

    /// Puts what waits into the spool, as far as something may be written. Called before an upload, and now and then.
    ///
    /// # Errors
    /// A record that cannot be encoded: nothing that waited is kept then.
    pub fn write(&mut self, now: Moment) -> Result<Vec<Change>, FrameError> {
        if self.quota.is_empty() || !self.spool.may_write(now) {
            return Ok(Vec::new());
        }
        let waiting = self.quota.flush(now.uptime_s, now.at);
        let Appended { changes, rest } = self.spool.append(waiting, now)?;
        self.quota.put_back(rest);
        Ok(changes)
    }

    /// The files are not as the last changes would have them, since one of them failed: goes on with what they hold, and tells what
    /// that has cost.
    pub fn write_failed(&mut self, found: [Option<Option<Found>>; 2], fresh: Epoch, now: Moment) {
        let before = self.spool.next_number();
        let mut again = Spool::open_found(found, fresh, now.uptime_s).spool;
        // What a write that failed has cost the medium, nobody knows.
        again.keep_budget_of(&self.spool);
        self.spool = again;
        // In a spool that was made anew, no number says how many there were.
        let lost = before.saturating_sub(self.spool.next_number());
        let count = u32::try_from(lost).unwrap_or(u32::MAX);
        if count > 0 {
            let body = Body::Lost(Lost { why: LostWhy::Spool, count });
            self.quota.take(body, now.uptime_s, now.at);
        }
    }

    /// Returns the next batch of what the files hold, with the number of its last record.
    #[must_use]
    pub fn batch(&self, contents: [Option<&[u8]>; 2]) -> Option<(Vec<u8>, u64)> {
        self.spool.batch(contents, MAX_BATCH_BYTES)
    }

    /// Returns the files that batches come from, in the order in which they are sent.
    pub fn unsent(&self) -> impl Iterator<Item = File> {
        self.spool.unsent()
    }

    /// The service has stored every record up to this number.
    pub fn stored(&mut self, through: u64, now: Moment) {
        self.spool.stored(through);
        if !self.spool.has_unsent() {
            self.urgency.uploaded(now.uptime_s);
        }
    }

    /// An upload has failed.
    pub fn failed(&mut self, now: Moment, random: u64) {
        self.urgency.failed(now.uptime_s, random);
    }

    /// Returns what waits to be written.
    #[must_use]
    pub fn waiting(&self) -> &[Waiting] {
        self.quota.waiting()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{End, Ended};
    use crate::samples;

    fn moment(uptime_s: u64) -> Moment {
        Moment { uptime_s, at: None }
    }

    fn ended(code: u8) -> Body {
        Body::Ended(Ended { end: End::Exit(code), ..samples::ended() })
    }

    fn carry_out(files: &mut [Option<Vec<u8>>; 2], changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Begin(file, bytes) => files[file as usize] = Some(bytes),
                Change::Write(file, at, bytes) => {
                    let content = files[file as usize].as_mut().unwrap();
                    content.truncate(usize::try_from(at).unwrap());
                    content.extend(bytes);
                }
                Change::Remove(file) => files[file as usize] = None,
            }
        }
    }

    fn contents(files: &[Option<Vec<u8>>; 2]) -> [Option<&[u8]>; 2] {
        files.each_ref().map(|file| file.as_deref())
    }

    #[test]
    fn a_failure_is_written_sent_and_forgotten() {
        let mut files = [None, None];
        let mut recorder = Recorder::new(Level::Health, [None, None], Epoch([1; 8]), moment(0));
        recorder.record(ended(1), moment(10), 5);
        assert!(!recorder.is_due(moment(14)));
        assert!(recorder.is_due(moment(15)));
        carry_out(&mut files, recorder.write(moment(15)).unwrap());
        let (_, through) = recorder.batch(contents(&files)).unwrap();
        assert!(recorder.is_due(moment(15)), "nobody has it yet");
        recorder.stored(through, moment(16));
        assert!(!recorder.is_due(moment(16)));
        assert_eq!(recorder.batch(contents(&files)), None);
        assert_eq!(recorder.write(moment(17)).unwrap(), [], "nothing waits");
    }

    #[test]
    fn off_erases_what_was_recorded_before_and_records_nothing() {
        let mut files = [None, None];
        let mut recorder = Recorder::new(Level::Full, [None, None], Epoch([1; 8]), moment(0));
        recorder.record(ended(1), moment(10), 0);
        carry_out(&mut files, recorder.write(moment(10)).unwrap());
        recorder.record(ended(2), moment(20), 0);
        assert!(recorder.batch(contents(&files)).is_some(), "the control");
        carry_out(&mut files, recorder.set_level(Level::Off));
        assert_eq!(files, [None, None]);
        recorder.record(ended(3), moment(30), 0);
        carry_out(&mut files, recorder.write(moment(30)).unwrap());
        assert_eq!((recorder.batch(contents(&files)), recorder.is_due(moment(30))), (None, false));
        // What happens after it was switched on again is all that is sent.
        carry_out(&mut files, recorder.set_level(Level::Health));
        recorder.record(ended(4), moment(40), 0);
        carry_out(&mut files, recorder.write(moment(40)).unwrap());
        let (bytes, _) = recorder.batch(contents(&files)).unwrap();
        let batch = crate::batch::Batch::decode(&bytes).unwrap();
        let bodies: Vec<Body> = batch.records.into_iter().map(|record| record.body).collect();
        assert_eq!(bodies, [ended(4)]);
    }

    /// The service is away for a week in which something fails every minute; `report` writes every six hours.
    #[test]
    fn a_week_without_a_service_loses_what_shares_drop_alone_and_says_how_much() {
        const HOUR_S: u64 = 3600;
        let mut files = [None, None];
        let mut recorder = Recorder::new(Level::Health, [None, None], Epoch([1; 8]), moment(0));
        let week = 7 * 24 * HOUR_S;
        let mut happened = 0u32;
        for now in (0..week).step_by(60) {
            let code = u8::try_from(now / 60 % 200).unwrap();
            let ended = Ended { end: End::Exit(code), count: 1, ..samples::ended() };
            recorder.record(Body::Ended(ended), moment(now), now);
            happened += 1;
            if now % (6 * HOUR_S) == 0 {
                carry_out(&mut files, recorder.write(moment(now)).unwrap());
                // The device starts again now and then, and begins with what lies there.
                if now % (48 * HOUR_S) == 0 && recorder.waiting().is_empty() {
                    let level = recorder.level();
                    recorder = Recorder::new(level, contents(&files), Epoch([2; 8]), moment(now));
                }
            }
        }
        // What waits is written as what may be written grows again.
        for now in (week..2 * week).step_by(6 * 3600) {
            carry_out(&mut files, recorder.write(moment(now)).unwrap());
        }
        let (mut kept, mut dropped, mut last) = (0, 0, 0);
        while let Some((bytes, through)) = recorder.batch(contents(&files)) {
            for record in crate::batch::Batch::decode(&bytes).unwrap().records {
                assert_eq!(record.sequence, last + 1, "without a gap");
                last = record.sequence;
                match record.body {
                    Body::Ended(ended) => kept += ended.count,
                    Body::Lost(Lost { why: LostWhy::Quota, count }) => dropped += count,
                    body => panic!("{body:?}"),
                }
            }
            recorder.stored(through, moment(2 * week));
        }
        assert_eq!(kept + dropped, happened, "{dropped} were dropped");
        assert!(kept > 7 * 100, "{kept}");
    }

    #[test]
    fn a_write_that_fails_is_told_and_nothing_stops() {
        let mut files = [None, None];
        let mut recorder = Recorder::new(Level::Health, [None, None], Epoch([1; 8]), moment(0));
        recorder.record(ended(1), moment(1), 0);
        carry_out(&mut files, recorder.write(moment(1)).unwrap());
        recorder.record(ended(2), moment(2), 0);
        recorder.record(ended(3), moment(2), 0);
        assert_eq!(recorder.write(moment(2)).unwrap().len(), 1, "which the medium refuses");
        let found = contents(&files).map(|content| content.map(Found::read));
        recorder.write_failed(found, Epoch([2; 8]), moment(2));
        recorder.record(ended(4), moment(3), 0);
        carry_out(&mut files, recorder.write(moment(3)).unwrap());
        let (bytes, _) = recorder.batch(contents(&files)).unwrap();
        let batch = crate::batch::Batch::decode(&bytes).unwrap();
        let bodies: Vec<Body> = batch.records.into_iter().map(|record| record.body).collect();
        let lost = Body::Lost(Lost { why: LostWhy::Spool, count: 2 });
        assert_eq!(bodies, [ended(1), lost, ended(4)]);
    }
}
