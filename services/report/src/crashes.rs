//! Where components have crashed, of the kernel's notes that init hands over.

use crate::told::ToldEnd;
use holdfast_failure_reports::panic_text;
use holdfast_failure_reports::record::{Body, BuildId, Crash, End, Fault, Place};
use holdfast_lifecycle::core_notes::{self, CoreNotes, ElfFile, ReadAt};
use holdfast_lifecycle::exit::Exit;
use holdfast_sandbox::wire;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// The file with the notes. It may be the component's own, and then says what the component likes, of itself.
struct Notes(File);

impl ReadAt for Notes {
    fn read_at(&self, offset: u32, into: &mut [u8]) -> Option<()> {
        self.0.read_exact_at(into, u64::from(offset)).ok()
    }
}

/// Returns the place where a component has crashed; `None` where the file is no core, or is one of another signal.
pub(crate) fn place(told: &wire::Crash, notes: OwnedFd) -> Option<Crash> {
    let notes = CoreNotes::read(&Notes(File::from(notes))).ok()?;
    if notes.signal != told.signal {
        return None;
    }
    let pc = in_file(notes.pc, notes.pc_file)?;
    let fault = match notes.fault {
        Some(core_notes::Fault::Null) => Fault::Null,
        Some(core_notes::Fault::Stack) => Fault::Stack,
        Some(core_notes::Fault::Code) => Fault::Code,
        Some(core_notes::Fault::Other) => Fault::Other,
        None => Fault::None,
    };
    Some(Crash { pc, lr: in_file(notes.lr, notes.lr_file), fault })
}

/// Returns a place as an address of its file. Without the file's headers it counts from its first page.
fn in_file(place: core_notes::Place, file: Option<ElfFile>) -> Option<Place> {
    let (core_notes::Place::Program(offset) | core_notes::Place::Library(offset)) = place else {
        return None;
    };
    let first_page = file.map_or(0, |file| file.first_page);
    let build_id = file.and_then(|file| file.build_id).map(BuildId);
    Some(Place { build_id, offset: offset.wrapping_add(first_page) })
}

/// True where a panic of a program in Rust may have been this end.
fn may_be_panic(end: End) -> bool {
    match end {
        End::Exit(code) => Exit::Code(code.into()).may_be_panic(),
        End::Signal(signal) => Exit::Signal(signal.into()).may_be_panic(),
        End::Watchdog | End::NotReady | End::Memory | End::Sandbox | End::Verity => false,
    }
}

/// Puts the place of a panic into the record of the end that it was, by the number of that end.
pub(crate) fn join_panic(told: &mut [ToldEnd], written: &wire::LastOutput) {
    let told = told.iter_mut().find(|told| told.output == Some(written.end));
    if let Some(Body::Ended(ended)) = told.map(|told| &mut told.body)
        && may_be_panic(ended.end)
    {
        ended.panic = panic_text::last_panic(&written.bytes);
    }
}

/// Puts the place of a crash into the record of the end that it was, by the number of that end.
pub(crate) fn join(told: &mut [ToldEnd], end: u32, crash: Crash) {
    let told = told.iter_mut().find(|told| told.crash == Some(end));
    if let Some(Body::Ended(ended)) = told.map(|told| &mut told.body) {
        ended.crash = Some(crash);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is a failed test")]
    use super::*;
    use crate::told;
    use holdfast_failure_reports::record::{Component, Ended};
    use holdfast_failure_reports::samples;
    use holdfast_lifecycle::ends::{EndLog, Left};
    use holdfast_sandbox::wire::{ComponentEnd, EndCause};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::io::Write;

    fn told_end(name: &str, cause: EndCause) -> ComponentEnd {
        ComponentEnd {
            name: name.to_owned(),
            app: None,
            cause,
            ran_s: 1,
            uptime_s: 1,
            count: 1,
            crash: None,
            output: None,
        }
    }

    /// Where the crash with this number was, as a place that tells it from every other.
    fn at(number: u32) -> Crash {
        Crash { pc: Place { build_id: None, offset: number }, lr: None, fault: Fault::None }
    }

    fn panic_text_of(number: u32) -> Vec<u8> {
        format!("thread 'main' (1) panicked at src/main.rs:{number}:1:\nthe door is open\n").into()
    }

    /// The causes of an end, with the signal of the notes that it leaves, and whether it may have been a panic.
    const CAUSES: [(EndCause, Option<i32>, bool); 7] = [
        (EndCause::Signal(11), Some(11), false),
        (EndCause::Signal(6), Some(6), true),
        (EndCause::Signal(6), None, true),
        (EndCause::Watchdog, Some(6), true),
        (EndCause::Sandbox, Some(31), false),
        (EndCause::Exit(101), None, true),
        (EndCause::Exit(1), None, false),
    ];

    /// What happens while `report` asks: an end of a component, or one of its three questions.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        End(&'static str, usize),
        Ask,
        TakeCrash,
        TakeOutput,
    }

    fn step() -> impl Strategy<Value = Step> {
        let end = (prop::sample::select(vec!["camera", "pump", "valve"]), 0..CAUSES.len());
        prop_oneof![
            6 => end.prop_map(|(name, cause)| Step::End(name, cause)),
            2 => Just(Step::Ask),
            2 => Just(Step::TakeCrash),
            2 => Just(Step::TakeOutput),
        ]
    }

    /// Each end as it was: component, cause, and its number as it stands in what it has left.
    type Happened = Vec<(&'static str, usize)>;

    /// Runs the steps, and returns what was recorded, each with the ends that it stands for.
    fn run(steps: &[Step]) -> (Happened, Vec<ToldEnd>) {
        let (mut log, mut happened) = (EndLog::<u32>::default(), Happened::new());
        let (mut current, mut records) = (Vec::new(), Vec::new());
        for step in steps {
            match *step {
                Step::End(name, cause) => {
                    let (told, signal, may_be_panic) = CAUSES[cause];
                    let number = u32::try_from(happened.len()).unwrap();
                    happened.push((name, cause));
                    let crash = signal.map(|signal| (signal, number));
                    let output = may_be_panic.then(|| panic_text_of(number));
                    log.push(told_end(name, told), Left { crash, output });
                }
                Step::Ask => {
                    records.append(&mut std::mem::replace(&mut current, told::ended(&log.take())))
                }
                Step::TakeCrash => {
                    if let Some((told, notes)) = log.take_crash() {
                        join(&mut current, told.end, at(notes));
                    }
                }
                Step::TakeOutput => {
                    if let Some(written) = log.take_output() {
                        join_panic(&mut current, &written);
                    }
                }
            }
        }
        records.append(&mut current);
        (happened, records)
    }

    fn name(component: &Component) -> &str {
        match component {
            Component::App(app) => app.name.as_str(),
            Component::Service(name) => name.as_str(),
        }
    }

    proptest! {
        /// Whatever ends while `report` asks: a place is only ever in the record of the very end that has left it.
        #[test]
        fn a_place_is_never_in_the_record_of_another_end(steps in prop::collection::vec(step(), 0..60)) {
            let (happened, records) = run(&steps);
            let mut seen = BTreeSet::new();
            for record in &records {
                let Body::Ended(ended) = &record.body else { continue };
                let numbers = [ended.crash.map(|crash| crash.pc.offset), ended.panic.map(|panic| panic.line)];
                for (kind, number) in numbers.into_iter().enumerate() {
                    let Some(number) = number else { continue };
                    let (component, cause) = happened[number as usize];
                    prop_assert_eq!(name(&ended.component), component);
                    prop_assert_eq!(ended.end, told::end(CAUSES[cause].0));
                    prop_assert!(seen.insert((kind, number)), "{} is in two records", number);
                }
            }
        }

        /// However often components end between two questions: each end is counted, with its component and its way to end.
        #[test]
        fn no_end_goes_uncounted(steps in prop::collection::vec(step(), 0..60)) {
            let steps = [steps.as_slice(), &[Step::Ask]].concat();
            let (happened, records) = run(&steps);
            let mut counted = BTreeMap::<_, u32>::new();
            for record in &records {
                let Body::Ended(ended) = &record.body else { continue };
                let key = (name(&ended.component).to_owned(), ended.end);
                let count = counted.entry(key).or_default();
                *count = count.saturating_add(ended.count);
            }
            let mut expected = BTreeMap::<_, u32>::new();
            for (component, cause) in happened {
                let key = (component.to_owned(), told::end(CAUSES[cause].0));
                let count = expected.entry(key).or_default();
                *count = count.saturating_add(1);
            }
            prop_assert_eq!(counted, expected);
        }

        /// One who asks for everything gets, of each component, the place of the last end of it that has left one, in each answer; whatever ends
        /// between the questions, and in whatever order the two are put.
        #[test]
        fn whatever_ends_between_two_questions_costs_no_place(
            before in prop::collection::vec(step().prop_filter("an end", |step| matches!(step, Step::End(..))), 1..8),
            between in prop::collection::vec(step().prop_filter("an end", |step| matches!(step, Step::End(..))), 8),
            crashes_first: bool,
        ) {
            let mut steps = before.clone();
            steps.push(Step::Ask);
            let (first, second) = if crashes_first {
                (Step::TakeCrash, Step::TakeOutput)
            } else {
                (Step::TakeOutput, Step::TakeCrash)
            };
            // An end lies between every two questions.
            for (at, end) in between.iter().enumerate() {
                steps.extend([*end, if at % 2 == 0 { first } else { second }]);
            }
            let (happened, records) = run(&steps);
            for component in ["camera", "pump", "valve"] {
                let of = |has: fn(usize) -> bool| {
                    (0..before.len()).rev().find(|at| happened[*at].0 == component && has(happened[*at].1))
                };
                let recorded = |number: fn(&Ended) -> Option<u32>| {
                    records.iter().find_map(|record| match &record.body {
                        Body::Ended(ended) if name(&ended.component) == component => number(ended),
                        _ => None,
                    })
                };
                let crash = of(|cause| CAUSES[cause].1.is_some());
                prop_assert_eq!(recorded(|ended| Some(ended.crash?.pc.offset)).map(|at| at as usize), crash);
                let panic = of(|cause| CAUSES[cause].2);
                let panic = panic.filter(|at| may_be_panic(told::end(CAUSES[happened[*at].1].0)));
                prop_assert_eq!(recorded(|ended| Some(ended.panic?.line)).map(|at| at as usize), panic);
            }
        }
    }

    #[test]
    fn a_place_goes_to_the_end_that_has_left_it_and_not_to_one_like_it() {
        let end = |crash| {
            let body = Body::Ended(Ended { crash: None, ..samples::ended() });
            ToldEnd { uptime_s: 1, body, crash, output: None }
        };
        let mut told = vec![end(None), end(Some(4)), end(Some(7))];
        join(&mut told, 7, at(7));
        join(&mut told, 5, at(5));
        let places = told.iter().map(|told| match &told.body {
            Body::Ended(ended) => ended.crash,
            _ => None,
        });
        assert_eq!(places.collect::<Vec<_>>(), [None, None, Some(at(7))]);
    }

    #[test]
    fn a_panic_goes_to_the_end_that_it_was_and_its_text_nowhere() {
        let end = |end, output| {
            let body = Body::Ended(Ended { end, panic: None, ..samples::ended() });
            ToldEnd { uptime_s: 1, body, crash: None, output }
        };
        let joined = |number, bytes: &[u8]| {
            let mut told = vec![
                end(End::Exit(101), Some(1)),
                end(End::Signal(6), Some(2)),
                end(End::Watchdog, Some(3)),
            ];
            join_panic(&mut told, &wire::LastOutput { end: number, bytes: bytes.to_vec() });
            let lines = told.iter().map(|told| match &told.body {
                Body::Ended(ended) => ended.panic.map(|panic| panic.line),
                _ => None,
            });
            lines.collect::<Vec<_>>()
        };
        let text = b"thread 'main' (1) panicked at src/main.rs:42:1:\nthe door is open\n";
        assert_eq!(joined(2, text), [None, Some(42), None]);
        assert_eq!(joined(3, text), [None; 3], "what was hung has not panicked");
        assert_eq!(joined(4, text), [None; 3]);
        assert_eq!(joined(2, b"the door is open\n"), [None; 3]);
    }

    #[test]
    fn a_file_that_is_no_core_says_nothing() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0x7f; 5000]).unwrap();
        assert_eq!(place(&wire::Crash { end: 0, signal: 11 }, file.into()), None);
    }

    #[test]
    fn a_place_is_an_address_of_its_file() {
        let file = ElfFile { build_id: Some([3; 20]), first_page: 0x1_0000 };
        let place = in_file(core_notes::Place::Program(0x234), Some(file));
        assert_eq!(place, Some(Place { build_id: Some(BuildId([3; 20])), offset: 0x1_0234 }));
        let unknown = in_file(core_notes::Place::Library(0x234), None);
        assert_eq!(unknown, Some(Place { build_id: None, offset: 0x234 }));
        assert_eq!(in_file(core_notes::Place::Elsewhere, Some(file)), None);
    }
}
