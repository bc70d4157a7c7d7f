//! What a device writes for its reports, on days on which as much fails as can, against a medium that counts.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::tests_outside_test_module,
    clippy::unreachable,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use holdfast_failure_reports::Level;
use holdfast_failure_reports::batch::{Batch, Epoch};
use holdfast_failure_reports::moment::Moment;
use holdfast_failure_reports::record::{
    App, Body, Boot, CheckIn, CheckInOutcome, Component, Crash, End, Ended, Fault, Lost, LostWhy,
    Name, Place, Refused, Update,
};
use holdfast_failure_reports::recorder::Recorder;
use holdfast_failure_reports::samples;
use holdfast_failure_reports::spool::{Change, File};
use holdfast_failure_reports::write_budget::{BLOCK_BYTES, BLOCK_EVERY_S, MOST_BYTES_A_DAY};
use holdfast_types::Version;

const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 60 * MINUTE_S;
const DAY_S: u64 = 24 * HOUR_S;
/// Most components of a device (`os/sandbox`).
const COMPONENTS: u32 = 32;

/// A medium with the two files, and the log of what is written to it, in blocks.
#[derive(Debug, Default)]
struct Medium {
    files: [Option<Vec<u8>>; 2],
    /// Time and blocks of each write.
    written: Vec<(u64, usize)>,
    /// Time and blocks of what was written over, since it is to be forgotten.
    erased: Vec<(u64, usize)>,
}

impl Medium {
    fn file(&mut self, file: File) -> &mut Option<Vec<u8>> {
        match file {
            File::A => &mut self.files[0],
            File::B => &mut self.files[1],
        }
    }

    /// Carries changes out, and counts whole blocks from the first byte of each write to its last.
    fn carry_out(&mut self, changes: Vec<Change>, time: u64) {
        for change in changes {
            match change {
                Change::Begin(file, bytes) => {
                    self.written.push((time, bytes.len().div_ceil(BLOCK_BYTES)));
                    *self.file(file) = Some(bytes);
                }
                Change::Write(file, at, bytes) => {
                    let at = usize::try_from(at).unwrap();
                    let end = at + bytes.len();
                    self.written.push((time, end.div_ceil(BLOCK_BYTES) - at / BLOCK_BYTES));
                    let content = self.file(file).as_mut().unwrap();
                    assert_eq!(content.len(), at, "records are appended");
                    content.extend(bytes);
                }
                Change::Remove(file) => {
                    let content = self.file(file).take().unwrap_or_default();
                    self.erased.push((time, content.len().div_ceil(BLOCK_BYTES)));
                }
            }
        }
    }

    fn contents(&self) -> [Option<&[u8]>; 2] {
        self.files.each_ref().map(|file| file.as_deref())
    }

    /// The most bytes that were written in any 24 hours.
    fn most_in_a_day(&self) -> usize {
        let of_day = |begin: u64| -> usize {
            let within = self.written.iter().filter(|(at, _)| (begin..begin + DAY_S).contains(at));
            within.map(|(_, blocks)| blocks * BLOCK_BYTES).sum()
        };
        self.written.iter().map(|(at, _)| of_day(*at)).max().unwrap_or(0)
    }
}

/// An app whose name is as long as names are.
fn app(number: u32) -> Component {
    let name = Name::try_from(format!("camera-{number:0>24}")).unwrap();
    let Component::App(app) = samples::app() else { unreachable!("the sample is an app") };
    Component::App(App { name, ..app })
}

/// Everything that may fail at that minute: every kind of record, and of each app a crash and refused packets that were not seen before.
fn failures(minute: u64) -> Vec<Body> {
    let offset = u32::try_from(minute).unwrap();
    let place = |offset| Place { build_id: samples::ended().crash.unwrap().pc.build_id, offset };
    let mut bodies: Vec<Body> = samples::records().into_iter().map(|record| record.body).collect();
    for number in 0..COMPONENTS {
        let crash = Crash { pc: place(offset), lr: Some(place(offset + 1)), fault: Fault::Other };
        bodies.push(Body::Ended(Ended {
            component: app(number),
            end: End::Signal(11),
            crash: Some(crash),
            count: 1,
            ..samples::ended()
        }));
        let port = u16::try_from(minute % 60_000).ok();
        bodies.push(Body::Refused(Refused { component: app(number), port, ..samples::refused() }));
    }
    bodies
}

/// What befalls the device beside its failures.
struct Life {
    /// Minutes between two starts of the service, and between two of the device, which is off for four minutes then.
    service_starts_every: u64,
    device_starts_every: u64,
    /// Minutes after a start of the device until its clock is set.
    clock_set_after: u64,
    /// Minutes between two changes of the level.
    level_changes_every: u64,
    /// Whether the service stores what it is sent.
    is_stored: bool,
}

const QUIET: Life = Life {
    service_starts_every: u64::MAX,
    device_starts_every: u64::MAX,
    clock_set_after: 0,
    level_changes_every: u64::MAX,
    is_stored: true,
};

/// Lives for some days, and returns the medium with the records that were sent.
fn live(life: &Life, days: u64) -> (Medium, Vec<Body>) {
    let mut medium = Medium::default();
    let mut sent = Vec::new();
    let (mut time, mut booted) = (1_000_000, 1_000_000);
    let at = |time: u64, booted: u64| {
        let uptime_s = time - booted;
        let is_set = uptime_s >= life.clock_set_after.saturating_mul(MINUTE_S);
        Moment { uptime_s, at: is_set.then_some(time) }
    };
    let mut recorder = Recorder::new(Level::Full, [None, None], Epoch([1; 8]), at(time, booted));
    // Every three minutes: by then, each component has used its share up long before an hour is over.
    for minute in (3..days * 24 * 60).step_by(3) {
        time += 3 * MINUTE_S;
        let device_starts = minute % life.device_starts_every == 0;
        if device_starts {
            time += 4 * MINUTE_S;
            booted = time;
        }
        if device_starts || minute % life.service_starts_every == 0 {
            let (level, now) = (recorder.level(), at(time, booted));
            recorder = Recorder::new(level, medium.contents(), Epoch([2; 8]), now);
        }
        let now = at(time, booted);
        if minute % life.level_changes_every == 0 {
            for level in [Level::Off, Level::Full] {
                medium.carry_out(recorder.set_level(level), time);
            }
        }
        for body in failures(minute) {
            recorder.record(body, now, 0);
        }
        // Whoever has taken `uplink` over begins an upload again and again.
        medium.carry_out(recorder.write(now).unwrap(), time);
        while life.is_stored
            && let Some((bytes, through)) = recorder.batch(medium.contents())
        {
            let records = Batch::decode(&bytes).unwrap().records;
            sent.extend(records.into_iter().map(|record| record.body));
            recorder.stored(through, now);
        }
    }
    (medium, sent)
}

/// `least`: the control, blocks that are written in the busiest day.
fn assert_bounded(life: &Life, least: usize) -> Medium {
    let (medium, _) = live(life, 3);
    let most = medium.most_in_a_day();
    assert!(most <= MOST_BYTES_A_DAY, "{most} bytes in a day");
    assert!(most >= least * BLOCK_BYTES, "{most} bytes in a day");
    medium
}

#[test]
fn at_most_40_kib_are_written_a_day_however_much_fails() {
    assert_bounded(&QUIET, 9);
    assert_bounded(&Life { is_stored: false, ..QUIET }, 9);
}

#[test]
fn at_most_40_kib_are_written_a_day_by_what_starts_again_and_again() {
    assert_bounded(&Life { service_starts_every: 3, ..QUIET }, 8);
    assert_bounded(&Life { service_starts_every: 6, device_starts_every: 90, ..QUIET }, 8);
    // Until the clock is set, a start that comes before six hours have passed adds nothing.
    let unset = Life { device_starts_every: 11 * 60, clock_set_after: 10 * 60, ..QUIET };
    assert_bounded(&Life { service_starts_every: 60, ..unset }, 5);
    assert_bounded(&unset, 7);
}

#[test]
fn what_is_forgotten_costs_no_more_than_what_was_written() {
    let medium = assert_bounded(&Life { level_changes_every: 45, ..QUIET }, 8);
    let sum = |log: &[(u64, usize)]| log.iter().map(|(_, blocks)| blocks).sum::<usize>();
    assert!(sum(&medium.erased) > 0, "the control");
    assert!(sum(&medium.erased) <= sum(&medium.written));
}

#[test]
fn what_is_not_written_is_counted_and_told() {
    let (_, sent) = live(&QUIET, 2);
    let count = |has: fn(&Body) -> Option<u32>| sent.iter().filter_map(has).sum::<u32>();
    let ended = count(|body| match body {
        Body::Ended(ended) if ended.component != samples::app() => Some(ended.count),
        _ => None,
    });
    let lost = count(|body| match body {
        Body::Lost(Lost { why: LostWhy::Quota, count }) => Some(*count),
        _ => None,
    });
    assert!(ended > 50 && lost > 10_000, "{ended} recorded, {lost} not");
}

fn sample<T>(of: fn(Body) -> Option<T>) -> T {
    samples::records().into_iter().find_map(|record| of(record.body)).unwrap()
}

/// All apps crash, are refused packets and are ended by the sandbox as often as they can, and whoever has taken `uplink` over begins an upload
/// every three minutes. Now and then the device starts again with another release, and the service learns of both with the next upload.
#[test]
fn outcomes_of_releases_and_boots_are_sent_at_once_whatever_apps_do() {
    let boot = sample(|body| if let Body::Boot(boot) = body { Some(boot) } else { None });
    let update = sample(|body| if let Body::Update(update) = body { Some(update) } else { None });
    let (mut medium, mut sent) = (Medium::default(), Vec::new());
    let (begun, mut booted) = (1_000_000, 1_000_000);
    let at = |time: u64, booted: u64| Moment { uptime_s: time - booted, at: Some(time) };
    let mut recorder = Recorder::new(Level::Full, [None, None], Epoch([1; 8]), at(begun, begun));
    let (mut told, mut usual, mut held_back) = (0, 0, 0);
    for minute in (3..5 * 24 * 60).step_by(3) {
        let time = begun + minute * MINUTE_S;
        for body in failures(minute) {
            let now = at(time, booted);
            match body {
                // What the test itself has happen, below.
                Body::Boot(_) | Body::Update(_) => continue,
                Body::Ended(ended) => {
                    let sandboxed = Ended { end: End::Sandbox, ..ended.clone() };
                    recorder.record(Body::Ended(sandboxed), now, 0);
                    recorder.record(Body::Ended(ended), now, 0);
                }
                body => recorder.record(body, now, 0),
            }
        }
        // Twice as long as a block of the reserve takes to come again, and not at the same time of the day.
        let is_update = (minute * MINUTE_S) % (2 * BLOCK_EVERY_S + HOUR_S) < 3 * MINUTE_S;
        let number = u32::try_from(minute).unwrap();
        let news = [
            Body::Boot(Boot { version: Version { patch: number, ..boot.version }, ..boot.clone() }),
            Body::Update(Update { to: Version { patch: number, ..update.to }, ..update.clone() }),
        ];
        let check_in = CheckIn { outcome: CheckInOutcome::Refused, count: number };
        if is_update {
            // What waited is lost with the start.
            (booted, told) = (time, told + 1);
            recorder = Recorder::new(Level::Full, medium.contents(), Epoch([2; 8]), at(time, time));
            for body in &news {
                recorder.record(body.clone(), at(time, booted), 0);
            }
            recorder.record(Body::CheckIn(check_in), at(time, booted), 0);
        }
        let now = at(time, booted);
        medium.carry_out(recorder.write(now).unwrap(), time);
        let mut uploaded = Vec::new();
        while let Some((bytes, through)) = recorder.batch(medium.contents()) {
            let records = Batch::decode(&bytes).unwrap().records;
            uploaded.extend(records.into_iter().map(|record| record.body));
            recorder.stored(through, now);
        }
        if is_update {
            assert!(news.iter().all(|body| uploaded.contains(body)), "minute {minute}");
        } else {
            usual += usize::from(!uploaded.is_empty());
            held_back += usize::from(uploaded.is_empty());
        }
        sent.extend(uploaded);
    }
    assert!(told > 8 && usual > 5, "{told} outcomes, {usual} other uploads");
    assert!(held_back > 100 * usual, "the control: what apps do waits");
    let most = medium.most_in_a_day();
    assert!(most <= MOST_BYTES_A_DAY, "{most} bytes in a day");
}
