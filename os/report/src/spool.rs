//! The spool: two bounded files in which records wait for the service, and what a cut of power leaves of them.
//!
//! Records are appended to one file; once it is full, the other is begun anew, with which the older half is lost and
//! counted. Nothing is sent that does not lie in a file, so that a number is never given twice. What the service has
//! stored is noted with the next records that are written, and costs no write of its own: after a cut of power some
//! records are sent again, and the service knows them by their numbers.
//!
//! ```text
//! "HFS" | version: u8 | epoch: 8 bytes | first sequence number: u64 | stored through: u64 | CRC-32 of these 28 bytes | frames of entries
//! ```

use crate::batch::{self, Epoch};
use crate::frame::{self, Frame, FrameError, Frames};
use crate::moment::Moment;
use crate::priority::Priority;
use crate::quota::Waiting;
use crate::record::{Body, Lost, LostWhy, Record};
use crate::write_budget::{BLOCK_BYTES, Note, WriteBudget};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// Most bytes of a file: what a device records in a week.
pub const MAX_FILE_BYTES: usize = 128 * 1024;
/// Bytes in front of a file's entries.
pub const HEADER_BYTES: usize = 32;
/// Bytes in front of the records of a write: what the service has stored, what is left of the budget, and padding, of which there is always some.
const NOTED_BYTES: usize = 48;
/// A write leaves so many bytes of its last block at least, or none: what is rare costs one block then, whatever was written before.
const ROOM_BYTES: usize = 200;
/// Least bytes of padding.
const LEAST_PADDING_BYTES: usize = frame::HEADER_BYTES + 2;
/// The one length that padding cannot have: from one byte more on, its own length takes two bytes.
const NO_PADDING_BYTES: usize = LEAST_PADDING_BYTES + 128;
/// Most bytes of a record of lost ones.
const LOST_BYTES: usize = 64;

const MAGIC: [u8; 4] = *b"HFS\x01";
/// No device comes to this number; a file that has a higher one is none of the spool's.
const MAX_SEQUENCE: u64 = 1 << 62;

/// One of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum File {
    /// The first.
    A,
    /// The second.
    B,
}

impl File {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// Returns the file's name in the service's directory.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "spool-a",
            Self::B => "spool-b",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// A change of a file, which is synchronised before the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The file is cut to nothing and these bytes are written.
    Begin(File, Vec<u8>),
    /// The bytes are written at this place, the file's end, and what is behind them is cut off.
    Write(File, u64, Vec<u8>),
    /// The file is removed.
    Remove(File),
}

impl Change {
    /// Returns the blocks that it writes. What it removes is written over with as many as it has.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        match self {
            Self::Begin(_, bytes) => blocks(0, bytes.len()),
            Self::Write(_, at, bytes) => {
                let at = usize::try_from(*at).unwrap_or(usize::MAX);
                blocks(at, at.saturating_add(bytes.len()))
            }
            Self::Remove(_) => 0,
        }
    }
}

/// An entry of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Entry {
    Record(Record),
    /// The service has stored every record up to this number.
    Stored(u64),
    /// What may still be written after the write that begins with this.
    Budget(Note),
    /// Nothing, at its length.
    Padding(Vec<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    epoch: Epoch,
    first: u64,
    stored: u64,
}

impl Header {
    fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(self.epoch.0);
        bytes.extend(self.first.to_le_bytes());
        bytes.extend(self.stored.to_le_bytes());
        let sum = frame::checksum(&bytes);
        bytes.extend(sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, _) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let (told, sum) = header.split_last_chunk()?;
        if frame::checksum(told) != u32::from_le_bytes(*sum) {
            return None;
        }
        let (epoch, rest) = told.strip_prefix(&MAGIC)?.split_first_chunk()?;
        let (first, stored) = rest.split_first_chunk()?;
        let stored = u64::from_le_bytes(*stored.first_chunk()?);
        Some(Self { epoch: Epoch(*epoch), first: u64::from_le_bytes(*first), stored })
    }
}

/// What a file was found to hold, whose content is not needed any more then.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    header: Header,
    /// Bytes up to the end of the last whole entry.
    whole: usize,
    torn: bool,
    last: u64,
    stored: u64,
    note: Option<Note>,
}

impl Found {
    /// Reads the content of a file; `None` where it is none of the spool's.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let header = Header::decode(bytes).filter(|header| header.first <= MAX_SEQUENCE)?;
        let mut found = Self {
            header,
            whole: 0,
            torn: false,
            last: header.first.saturating_sub(1),
            stored: header.stored,
            note: None,
        };
        let mut entries = Frames::<Entry>::of(bytes.get(HEADER_BYTES..)?);
        for entry in entries.by_ref() {
            match entry {
                Frame::Known(Entry::Record(record)) => {
                    found.last = found.last.max(record.sequence.min(MAX_SEQUENCE));
                }
                Frame::Known(Entry::Stored(through)) => found.stored = found.stored.max(through),
                Frame::Known(Entry::Budget(note)) => found.note = Some(note),
                Frame::Known(Entry::Padding(_)) => {}
                // Of a later release, which has given it the next number.
                Frame::Unknown => found.last = found.last.saturating_add(1),
            }
        }
        found.whole = bytes.len().saturating_sub(entries.rest().len());
        found.torn = !entries.rest().is_empty();
        Some(found)
    }
}

/// One file, as far as it is known without reading it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    length: usize,
    first: u64,
    last: u64,
}

/// The spool's state. What lies in the files stays there and is read when it is sent.
#[derive(Debug, Clone)]
pub struct Spool {
    epoch: Epoch,
    current: File,
    files: [Option<Held>; 2],
    next: u64,
    stored: u64,
    /// The highest number that a file says was stored.
    stored_noted: u64,
    budget: WriteBudget,
}

/// What a write does, and what it has not done.
#[derive(Debug, Clone, Default)]
pub struct Appended {
    /// The changes, in their order.
    pub changes: Vec<Change>,
    /// What the budget has no blocks for, which waits on.
    pub rest: Vec<Waiting>,
}

/// Records on their way to the end of a file.
#[derive(Debug, Default)]
struct Run {
    begins: bool,
    records: Vec<u8>,
}

impl Run {
    /// Returns where the file ends after it, with so many bytes more; nothing is noted in a file without any.
    fn end(&self, length: usize, more: usize) -> usize {
        let records = self.records.len().saturating_add(more);
        let end = length.saturating_add(NOTED_BYTES).saturating_add(records);
        let block_end = end.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES);
        if block_end.saturating_sub(end) < ROOM_BYTES { block_end } else { end }
    }

    /// Returns the blocks that it writes, with so many bytes more.
    fn blocks(&self, length: usize, more: usize) -> u32 {
        blocks(if self.begins { 0 } else { length }, self.end(length, more))
    }

    /// True where so many bytes more cost no blocks but those that may be written, or that it writes anyway.
    fn has_room(&self, length: usize, more: usize, most: u32) -> bool {
        let with = self.blocks(length, more);
        with <= most || (!self.records.is_empty() && with <= self.blocks(length, 0))
    }
}

/// What was found at the start.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The spool.
    pub spool: Spool,
    /// Records that a cut of power has cost, to be recorded.
    pub torn: Option<Lost>,
    /// Bytes of records that wait in the files.
    pub waiting_bytes: usize,
}

fn place(file: File) -> usize {
    match file {
        File::A => 0,
        File::B => 1,
    }
}

impl Spool {
    /// Reads what the files hold, at the start of the service, which is so many seconds after the boot. `fresh` is a random number, which is
    /// used where there is no file.
    #[must_use]
    pub fn open(contents: [Option<&[u8]>; 2], fresh: Epoch, uptime_s: u64) -> Opened {
        Self::open_found(contents.map(|bytes| bytes.map(Found::read)), fresh, uptime_s)
    }

    /// As [`open`](Self::open), of files that were read one after the other; what is no file of the spool is `Some(None)`.
    #[must_use]
    pub fn open_found(found: [Option<Option<Found>>; 2], fresh: Epoch, uptime_s: u64) -> Opened {
        let [a, b] = found;
        // What is no file of the spool is a write that was cut at its beginning, and holds nothing whole.
        let is_torn = |found: &Option<Option<Found>>| match found {
            Some(Some(found)) => found.torn,
            Some(None) => true,
            None => false,
        };
        let torn = u32::from(is_torn(&a)).saturating_add(u32::from(is_torn(&b)));
        let mut found = [(File::A, a.flatten()), (File::B, b.flatten())];
        found.sort_by_key(|(_, found)| found.map(|found| found.header.first));
        let [(_, older), (current, newest)] = found;
        let Some(newest) = newest else {
            let spool = Self {
                epoch: fresh,
                current: File::B,
                files: [None; 2],
                next: 1,
                stored: 0,
                stored_noted: 0,
                budget: WriteBudget::begin(None, uptime_s),
            };
            return Opened { spool, torn: lost(LostWhy::Torn, torn), waiting_bytes: 0 };
        };
        // Another epoch is of a spool that was removed.
        let older = older.filter(|older| older.header.epoch == newest.header.epoch);
        let last = older.map_or(newest.last, |older| older.last.max(newest.last));
        let stored = older.map_or(newest.stored, |older| older.stored.max(newest.stored)).min(last);
        let mut files = [None; 2];
        for (file, found) in [(current, Some(newest)), (current.other(), older)] {
            if let (Some(held), Some(found)) = (files.get_mut(place(file)), found) {
                let first = found.header.first;
                *held = Some(Held { length: found.whole, first, last: found.last });
            }
        }
        let waiting = files.iter().flatten().filter(|held| held.last > stored);
        let waiting_bytes = waiting.map(|held| held.length).sum();
        let spool = Self {
            epoch: newest.header.epoch,
            current,
            files,
            next: last.saturating_add(1),
            stored,
            stored_noted: stored,
            // A write that was cut at its beginning has noted nothing: then the one before has.
            budget: WriteBudget::begin(
                newest.note.or(older.and_then(|older| older.note)),
                uptime_s,
            ),
        };
        Opened { spool, torn: lost(LostWhy::Torn, torn), waiting_bytes }
    }

    /// Returns the epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Returns the number of the next record.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// True where a file holds records that the service is not known to have.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.files.iter().flatten().any(|held| held.last > self.stored)
    }

    /// Returns the files with records that the service is not known to have, the older one first.
    pub fn unsent(&self) -> impl Iterator<Item = File> {
        let held = |file: &File| self.held(*file).is_some_and(|held| held.last > self.stored);
        [self.current.other(), self.current].into_iter().filter(held)
    }

    /// The service has stored every record up to this number.
    pub fn stored(&mut self, through: u64) {
        // Nobody stores what was not recorded.
        self.stored = self.stored.max(through.min(self.next.saturating_sub(1)));
    }

    /// True where something may be written now.
    #[must_use]
    pub fn may_write(&mut self, now: Moment) -> bool {
        self.budget.renew(now) > 0
    }

    /// Goes on with the budget of a spool whose files were read again, since a write of it has failed.
    pub fn keep_budget_of(&mut self, earlier: &Self) {
        self.budget = earlier.budget;
    }

    /// Puts what waits into the files, as far as the budget goes, what has a higher priority first. Records that a file begun anew costs are told
    /// in one more record.
    ///
    /// # Errors
    /// A record that cannot be encoded; nothing is changed then.
    pub fn append(
        &mut self,
        mut waiting: Vec<Waiting>,
        now: Moment,
    ) -> Result<Appended, FrameError> {
        waiting.sort_by_key(|waiting| Reverse(Priority::of(&waiting.body)));
        let mut spool = self.clone();
        let mut appended = Appended::default();
        let mut run = Run::default();
        spool.budget.renew(now);
        let mut waiting = waiting.into_iter();
        for next in waiting.by_ref() {
            let priority = Priority::of(&next.body);
            let mut entry = spool.encode(&next)?;
            let length = spool.held(spool.current).map_or(MAX_FILE_BYTES, |held| held.length);
            if run.end(length, entry.len()) > MAX_FILE_BYTES {
                spool.write(&mut appended.changes, std::mem::take(&mut run), now)?;
                run.begins = true;
                let least = LOST_BYTES.saturating_add(entry.len());
                if !run.has_room(HEADER_BYTES, least, spool.budget.blocks_for(priority)) {
                    appended.rest.push(next);
                    break;
                }
                if let Some(lost) = spool.begin() {
                    run.records =
                        spool.encode(&Waiting { body: Body::Lost(lost), ..next.clone() })?;
                    spool.take_number();
                    entry = spool.encode(&next)?;
                }
            } else if !run.has_room(length, entry.len(), spool.budget.blocks_for(priority)) {
                appended.rest.push(next);
                break;
            }
            run.records.extend(entry);
            spool.take_number();
        }
        appended.rest.extend(waiting);
        spool.write(&mut appended.changes, run, now)?;
        *self = spool;
        Ok(appended)
    }

    /// Removes everything: reports were switched off. Numbers go on where they were, under the same epoch, until the
    /// service ends.
    pub fn erase(&mut self) -> Vec<Change> {
        self.files = [None; 2];
        self.stored = self.next.saturating_sub(1);
        self.stored_noted = self.stored;
        File::ALL.map(Change::Remove).to_vec()
    }

    /// Returns the next batch of what the files hold and the service is not known to have, with its highest number; `None`
    /// where there is nothing. `most` bounds its bytes. A file whose content is left out has no part in it.
    #[must_use]
    pub fn batch(&self, contents: [Option<&[u8]>; 2], most: usize) -> Option<(Vec<u8>, u64)> {
        let mut bytes = batch::begin(self.epoch);
        // In one piece: a vector that grows has each size once more on its way.
        let lengths = contents.iter().flatten().map(|content| content.len());
        bytes.reserve_exact(lengths.fold(0, usize::saturating_add).min(most));
        let mut through = None;
        for file in [self.current.other(), self.current] {
            let held = self.held(file);
            let content = contents.get(place(file)).copied().flatten();
            let (Some(held), Some(content)) = (held, content) else {
                continue;
            };
            let entries = content.get(HEADER_BYTES..held.length).unwrap_or_default();
            for entry in Frames::<Entry>::of(entries) {
                let Frame::Known(Entry::Record(record)) = entry else {
                    continue;
                };
                if record.sequence <= through.unwrap_or(self.stored) {
                    continue;
                }
                let Ok(frame) = frame::encode(&record) else {
                    continue;
                };
                if bytes.len().saturating_add(frame.len()) > most {
                    return through.map(|through| (bytes, through));
                }
                bytes.extend(frame);
                through = Some(record.sequence);
            }
        }
        through.map(|through| (bytes, through))
    }

    fn held(&self, file: File) -> Option<Held> {
        self.files.get(place(file)).copied().flatten()
    }

    fn encode(&self, waiting: &Waiting) -> Result<Vec<u8>, FrameError> {
        frame::encode(&Entry::Record(Record {
            sequence: self.next,
            at: waiting.at,
            uptime_s: u32::try_from(waiting.uptime_s).unwrap_or(u32::MAX),
            body: waiting.body.clone(),
        }))
    }

    fn take_number(&mut self) {
        if let Some(Some(held)) = self.files.get_mut(place(self.current)) {
            held.last = self.next;
        }
        self.next = self.next.saturating_add(1);
    }

    /// Goes on in the other file, whose records are lost, and returns how many.
    fn begin(&mut self) -> Option<Lost> {
        self.current = self.current.other();
        let dropped = self.held(self.current);
        let last = self.next.saturating_sub(1);
        if let Some(held) = self.files.get_mut(place(self.current)) {
            *held = Some(Held { length: HEADER_BYTES, first: self.next, last });
        }
        let dropped = dropped?;
        let unsent = dropped.last.saturating_sub(self.stored.max(dropped.first.saturating_sub(1)));
        lost(LostWhy::Spool, u32::try_from(unsent).unwrap_or(u32::MAX))
    }

    /// Writes records to the end of the current file, behind what is noted with them.
    fn write(
        &mut self,
        changes: &mut Vec<Change>,
        run: Run,
        now: Moment,
    ) -> Result<(), FrameError> {
        let Some(held) = self.held(self.current).filter(|_| !run.records.is_empty()) else {
            return Ok(());
        };
        let Held { length: at, first, .. } = held;
        let note = self.budget.take(run.blocks(at, 0), now);
        let header = Header { epoch: self.epoch, first, stored: self.stored };
        let mut bytes = if run.begins { header.encode() } else { Vec::new() };
        if self.stored > self.stored_noted && !run.begins {
            bytes.extend(frame::encode(&Entry::Stored(self.stored))?);
        }
        self.stored_noted = self.stored;
        bytes.extend(frame::encode(&Entry::Budget(note))?);
        let end = run.end(at, 0);
        let from = if run.begins { 0 } else { at };
        let length = bytes.len().saturating_add(run.records.len());
        bytes.extend(padding(end.saturating_sub(from).saturating_sub(length))?);
        bytes.extend(run.records);
        let change = if run.begins {
            Change::Begin(self.current, bytes)
        } else {
            Change::Write(self.current, u64::try_from(at).unwrap_or(u64::MAX), bytes)
        };
        if let Some(Some(held)) = self.files.get_mut(place(self.current)) {
            held.length = end;
        }
        changes.push(change);
        Ok(())
    }
}

/// Returns so many bytes of padding, of [`LEAST_PADDING_BYTES`] at least.
fn padding(length: usize) -> Result<Vec<u8>, FrameError> {
    let filled = |length: usize| {
        let more = length.saturating_sub(LEAST_PADDING_BYTES);
        // From 128 on, the length of what fills it takes a byte more.
        let filling = if more > 127 { more.saturating_sub(1) } else { more };
        frame::encode(&Entry::Padding(vec![0; filling]))
    };
    if length == NO_PADDING_BYTES {
        let least = filled(LEAST_PADDING_BYTES)?;
        return Ok([least, filled(length.saturating_sub(LEAST_PADDING_BYTES))?].concat());
    }
    filled(length)
}

/// Returns the number of blocks that hold the bytes from `from` to `to`.
fn blocks(from: usize, to: usize) -> u32 {
    let first = from.checked_div(BLOCK_BYTES).unwrap_or(0);
    u32::try_from(to.div_ceil(BLOCK_BYTES).saturating_sub(first)).unwrap_or(u32::MAX)
}

fn lost(why: LostWhy, count: u32) -> Option<Lost> {
    (count > 0).then_some(Lost { why, count })
}

#[cfg(test)]
mod tests;
