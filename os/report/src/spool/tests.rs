//! Spools on a medium whose power is cut, and files that are none.

use super::*;
use crate::batch::{Batch, MAX_BATCH_BYTES};
use crate::quota::RECORDS_A_DAY;
use crate::record::{End, Ended};
use crate::samples;
use crate::write_budget::{BLOCK_EVERY_S, MOST_BLOCKS};
use proptest::prelude::*;

const EPOCH: Epoch = Epoch([9; 8]);

/// The two files, as a medium has them.
#[derive(Debug, Clone, Default)]
struct Disk([Option<Vec<u8>>; 2]);

impl Disk {
    fn contents(&self) -> [Option<&[u8]>; 2] {
        self.0.each_ref().map(|file| file.as_deref())
    }

    /// Carries out a change, of which power leaves so many bytes.
    fn carry_out(&mut self, change: &Change, keep: usize) {
        match change {
            Change::Begin(file, bytes) => {
                self.0[place(*file)] = Some(bytes[..keep.min(bytes.len())].to_vec());
            }
            Change::Write(file, at, bytes) => {
                let content = self.0[place(*file)].as_mut().unwrap();
                content.truncate(usize::try_from(*at).unwrap());
                content.extend(&bytes[..keep.min(bytes.len())]);
            }
            Change::Remove(file) => self.0[place(*file)] = None,
        }
    }

    fn open(&self) -> Opened {
        Spool::open(self.contents(), Epoch([1; 8]), 0)
    }
}

fn event(code: u8) -> Waiting {
    let body = Body::Ended(Ended { end: End::Exit(code), ..samples::ended() });
    Waiting { uptime_s: u64::from(code), at: Some(1), body }
}

/// A spool whose budget no test uses up.
fn open(disk: &Disk) -> Spool {
    let spool = Spool::open(disk.contents(), EPOCH, 0).spool;
    Spool { budget: WriteBudget::of_tests(), ..spool }
}

const NOW: Moment = Moment { uptime_s: 0, at: Some(1_000_000) };

fn append(spool: &mut Spool, disk: &mut Disk, events: Vec<Waiting>) {
    spool.budget = WriteBudget::of_tests();
    let appended = spool.append(events, NOW).unwrap();
    assert!(appended.rest.is_empty());
    for change in appended.changes {
        disk.carry_out(&change, usize::MAX);
    }
}

fn numbers(spool: &Spool, disk: &Disk) -> Vec<u64> {
    let Some((batch, through)) = spool.batch(disk.contents(), usize::MAX) else {
        return Vec::new();
    };
    let mut frames = Frames::<Record>::of(&batch[batch::HEADER_BYTES..]);
    let numbers: Vec<u64> = frames
        .by_ref()
        .map(|frame| match frame {
            Frame::Known(record) => record.sequence,
            Frame::Unknown => panic!("no frame of ours is unknown"),
        })
        .collect();
    assert_eq!(numbers.last(), Some(&through));
    numbers
}

#[test]
fn records_wait_until_the_service_has_stored_them() {
    let mut disk = Disk::default();
    let mut spool = open(&disk);
    assert!(!spool.has_unsent());
    append(&mut spool, &mut disk, vec![event(1), event(2), event(3)]);
    assert_eq!(numbers(&spool, &disk), [1, 2, 3]);
    spool.stored(2);
    assert_eq!(numbers(&spool, &disk), [3]);
    // Without a write between, it is not known after the next start: they are sent again.
    assert_eq!(numbers(&disk.open().spool, &disk), [1, 2, 3]);
    append(&mut spool, &mut disk, vec![event(4)]);
    assert_eq!(numbers(&disk.open().spool, &disk), [3, 4]);
    // A service that claims more than there was does not make the next one be taken for known.
    spool.stored(100);
    assert!(!spool.has_unsent());
    append(&mut spool, &mut disk, vec![event(5)]);
    assert_eq!(numbers(&spool, &disk), [5]);
}

#[test]
fn a_batch_is_bounded_and_the_next_one_goes_on() {
    let mut disk = Disk::default();
    let mut spool = open(&disk);
    for _ in 0..40 {
        append(&mut spool, &mut disk, (0..100).map(event).collect());
    }
    let mut seen = Vec::new();
    while let Some((bytes, through)) = spool.batch(disk.contents(), MAX_BATCH_BYTES) {
        let batch = Batch::decode(&bytes).unwrap();
        seen.extend(batch.records.iter().map(|record| record.sequence));
        spool.stored(through);
    }
    assert!(seen.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seen:?}");
    assert_eq!(seen.last(), Some(&(spool.next - 1)));
}

#[test]
fn a_full_spool_loses_its_older_half_and_says_how_many() {
    let mut disk = Disk::default();
    let mut spool = open(&disk);
    for _ in 0..200 {
        append(&mut spool, &mut disk, (0..100).map(event).collect());
    }
    for content in disk.0.iter().flatten() {
        assert!(content.len() <= MAX_FILE_BYTES);
    }
    let (batch, _) = spool.batch(disk.contents(), usize::MAX).unwrap();
    let mut told = 0;
    let mut kept = 0;
    for frame in Frames::<Record>::of(&batch[batch::HEADER_BYTES..]) {
        let Frame::Known(record) = frame else { panic!() };
        match record.body {
            Body::Lost(lost) => {
                assert_eq!(lost.why, LostWhy::Spool);
                told += u64::from(lost.count);
            }
            _ => kept += 1,
        }
    }
    assert!(kept > 1000, "{kept}");
    assert!(told > 0);
    let first = numbers(&spool, &disk)[0];
    assert_eq!(numbers(&spool, &disk).len() as u64, spool.next - first, "no gap");
}

#[test]
fn erased_records_are_not_sent_and_their_numbers_not_given_again() {
    let mut disk = Disk::default();
    let mut spool = open(&disk);
    append(&mut spool, &mut disk, vec![event(1), event(2)]);
    for change in spool.erase() {
        disk.carry_out(&change, usize::MAX);
    }
    assert_eq!(disk.0, [None, None]);
    assert!(!spool.has_unsent());
    append(&mut spool, &mut disk, vec![event(3)]);
    assert_eq!(numbers(&spool, &disk), [3]);
    assert_eq!(numbers(&disk.open().spool, &disk), [3]);
}

#[test]
fn what_a_device_records_in_a_week_fits_a_file() {
    let longest = |is_of_release: bool| {
        let records = samples::records().into_iter();
        let of_release = |record: &Record| Priority::of(&record.body) == Priority::Release;
        let length = |record| {
            let record = Record { sequence: u64::from(u32::MAX), uptime_s: u32::MAX, ..record };
            frame::encode(&Entry::Record(record)).unwrap().len()
        };
        records.filter(|record| of_release(record) == is_of_release).map(length).max().unwrap()
    };
    let others = Priority::Alarm.part_of(RECORDS_A_DAY);
    let of_releases = RECORDS_A_DAY - others;
    let day = longest(false) * usize::from(others) + longest(true) * usize::from(of_releases);
    let week = day * 7;
    let writes = 7 * 24 * 60 * 60 / usize::try_from(BLOCK_EVERY_S).unwrap() + MOST_BLOCKS as usize;
    let noted = writes * (NOTED_BYTES + ROOM_BYTES);
    assert!(HEADER_BYTES + week + noted <= MAX_FILE_BYTES, "{week} {noted}");
}

#[test]
fn what_is_noted_with_a_write_has_room() {
    let mut budget = WriteBudget::begin(None, 0);
    let note = budget.take(0, Moment { uptime_s: 0, at: Some(u64::MAX) });
    let noted = [Entry::Stored(u64::MAX), Entry::Budget(note)];
    let length: usize = noted.iter().map(|entry| frame::encode(entry).unwrap().len()).sum();
    assert!(length + LEAST_PADDING_BYTES <= NOTED_BYTES, "{length}");
    let lost = Body::Lost(Lost { why: LostWhy::Spool, count: u32::MAX });
    let lost = Record { sequence: u64::MAX, at: Some(u64::MAX), uptime_s: u32::MAX, body: lost };
    assert!(frame::encode(&Entry::Record(lost)).unwrap().len() <= LOST_BYTES);
}

#[test]
fn padding_has_any_length_and_what_is_rare_fits_the_room_that_is_left() {
    for length in LEAST_PADDING_BYTES..=NOTED_BYTES + ROOM_BYTES {
        let padding = padding(length).unwrap();
        assert_eq!(padding.len(), length);
        let mut entries = Frames::<Entry>::of(&padding);
        assert!(entries.by_ref().all(|entry| matches!(entry, Frame::Known(Entry::Padding(_)))));
        assert!(entries.rest().is_empty(), "{length}");
    }
    let rare = |body: &Body| Priority::of(body) > Priority::Usual;
    let sandbox = Body::Ended(Ended { end: End::Sandbox, ..samples::ended() });
    let bodies = samples::records().into_iter().map(|record| record.body).chain([sandbox]);
    for body in bodies.filter(rare) {
        let record = Record { sequence: 1 << 40, at: Some(1 << 35), uptime_s: u32::MAX, body };
        let length = frame::encode(&Entry::Record(record)).unwrap().len();
        assert!(NOTED_BYTES + length <= ROOM_BYTES, "{length}");
    }
}

#[test]
fn what_the_budget_has_no_blocks_for_waits_and_is_written_later() {
    let mut disk = Disk::default();
    let mut spool = Spool::open(disk.contents(), EPOCH, 0).spool;
    let mut waiting: Vec<Waiting> = (0..=255).map(event).collect();
    let mut written = Vec::new();
    for day in 0.. {
        let now = Moment { uptime_s: day * 24 * 60 * 60, at: None };
        assert!(spool.may_write(now));
        let left = spool.budget.blocks();
        let appended = spool.append(waiting, now).unwrap();
        let cost: u32 = appended.changes.iter().map(Change::blocks).sum();
        assert!(0 < cost && cost <= left, "{cost} of {left}");
        assert_eq!(spool.budget.blocks(), left - cost, "what is noted is what was written");
        for change in appended.changes {
            disk.carry_out(&change, usize::MAX);
        }
        written = numbers(&spool, &disk);
        waiting = appended.rest;
        if waiting.is_empty() {
            break;
        }
    }
    assert_eq!(written, (1..=256).collect::<Vec<u64>>(), "in their order, and each once");
}

#[test]
fn a_start_goes_on_with_the_budget_that_was_noted() {
    let mut disk = Disk::default();
    let reserve = u32::from(Priority::Usual.leaves());
    for start in 0..50u8 {
        let mut spool = disk.open().spool;
        assert!(spool.may_write(NOW), "the reserve is there");
        let changes = spool.append(vec![event(start)], NOW).unwrap().changes;
        assert_eq!(!changes.is_empty(), u32::from(start) < MOST_BLOCKS - reserve, "{start}");
        for change in changes {
            disk.carry_out(&change, usize::MAX);
        }
    }
}

/// The outcome of a release, as nothing else has.
fn outcome() -> Waiting {
    let mut bodies = samples::records().into_iter().map(|record| record.body);
    let body = bodies.find(|body| matches!(body, Body::Update(_))).unwrap();
    Waiting { uptime_s: 999, at: Some(1), body }
}

/// Writes of a crash storm use up what there is for them. The outcome of a release is written all the same, in front of what waits, which
/// is written with it as far as that costs no block more.
#[test]
fn what_is_rare_is_written_where_others_have_used_up_their_blocks() {
    let mut disk = Disk::default();
    let mut spool = Spool::open(disk.contents(), EPOCH, 0).spool;
    let mut rest = Vec::new();
    let mut write = |spool: &mut Spool, waiting: Vec<Waiting>| {
        let appended = spool.append(waiting, NOW).unwrap();
        let blocks: u32 = appended.changes.iter().map(Change::blocks).sum();
        for change in &appended.changes {
            disk.carry_out(change, usize::MAX);
        }
        let written = numbers(spool, &disk).len();
        (blocks, written, appended.rest)
    };
    let mut used = 0;
    while rest.is_empty() {
        let (blocks, _, left) = write(&mut spool, (0..=255).map(event).collect());
        (used, rest) = (used + blocks, left);
    }
    assert_eq!(used, MOST_BLOCKS - u32::from(Priority::Usual.leaves()));
    let (blocks, before, rest) = write(&mut spool, rest);
    assert_eq!(blocks, 0, "the control: what is usual waits");
    let waiting = rest.len();
    let (blocks, written, rest) = write(&mut spool, [rest, vec![outcome()]].concat());
    assert_eq!(blocks, 1);
    assert!(!rest.contains(&outcome()) && rest.len() < waiting, "{}", rest.len());
    assert_eq!(written - before, waiting + 1 - rest.len(), "each once");
    // The next one has the last block; then there is none.
    assert_eq!(write(&mut spool, vec![outcome()]).0, 1);
    assert_eq!(write(&mut spool, vec![outcome()]).2, [outcome()]);
}

/// Power is cut at every byte of every change: what was synchronised before is there, and no number is given twice.
#[test]
fn no_cut_of_power_costs_a_record_that_was_synchronised() {
    let mut disk = Disk::default();
    let mut spool = open(&disk);
    // So much that files are begun anew on the way.
    for round in 0..9u8 {
        let before = disk.clone();
        let mut known = numbers(&before.open().spool, &before);
        known.retain(|number| *number > spool.stored);
        let events = (0..=255).chain(0..150).map(event).collect();
        spool.budget = WriteBudget::of_tests();
        let changes = spool.append(events, NOW).unwrap().changes;
        let mut done = before;
        for change in &changes {
            let length = match change {
                Change::Begin(_, bytes) | Change::Write(_, _, bytes) => bytes.len(),
                Change::Remove(_) => 0,
            };
            // What the change overwrites is lost on purpose, and told.
            let begins_anew = matches!(change, Change::Begin(..));
            for keep in (0..=length).step_by(if round == 0 { 131 } else { 1009 }) {
                let mut cut = done.clone();
                cut.carry_out(change, keep);
                let opened = cut.open();
                let kept = numbers(&opened.spool, &cut);
                if begins_anew {
                    assert!(kept.iter().all(|number| *number < spool.next));
                } else {
                    assert!(known.iter().all(|number| kept.contains(number)), "{round} {keep}");
                }
                assert!(kept.iter().all(|number| *number < opened.spool.next));
                // The spool goes on from there.
                let mut again = opened.spool;
                let before = again.next;
                append(&mut again, &mut cut, vec![event(200)]);
                assert_eq!(numbers(&cut.open().spool, &cut).last(), Some(&before));
            }
            done.carry_out(change, usize::MAX);
        }
        disk = done;
        if round % 3 == 2 {
            spool.stored(spool.next - 5);
        }
    }
}

#[test]
fn a_torn_file_is_told() {
    let mut disk = Disk::default();
    let mut spool = open(&disk);
    append(&mut spool, &mut disk, vec![event(1), event(2)]);
    assert_eq!(disk.open().torn, None);
    for damaged in [0, 1] {
        let mut disk = disk.clone();
        disk.0[damaged] = match &disk.0[damaged] {
            Some(content) => Some(content[..content.len() - 1].to_vec()),
            None => Some(vec![0; 10]),
        };
        assert_eq!(disk.open().torn, Some(Lost { why: LostWhy::Torn, count: 1 }));
    }
}

proptest! {
    #[test]
    fn any_files_are_opened(a in prop::collection::vec(any::<u8>(), 0..300), b in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)), headed in any::<bool>()) {
        let mut content = if headed { Header { epoch: EPOCH, first: 1, stored: 0 }.encode() } else { Vec::new() };
        content.extend(a);
        let disk = Disk([Some(content), b]);
        let mut spool = disk.open().spool;
        let mut disk = disk;
        append(&mut spool, &mut disk, vec![event(1)]);
        prop_assert!(!numbers(&spool, &disk).is_empty());
    }
}
