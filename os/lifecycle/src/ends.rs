//! How components have ended without being asked to, until whoever reports it has taken them.
//!
//! An end is told with what its program has left: the kernel's notes on a crash, and its last output. Both are taken after the end, with
//! requests of their own, while components go on ending. So each end has a number that no other end of the boot has, and what is
//! taken is of the ends that were told last: what an end leaves meanwhile waits until that end is told.

use holdfast_sandbox::wire::{self, ComponentEnd, ComponentEnds, UpdateNews};
use holdfast_types::ReportLevel;

/// Most different ends that are kept: two of each component that a device may have.
pub const MAX_ENDS: usize = 32;
/// Most outcomes of releases that are kept: those of the OS and of each app, and some metadata.
pub const MAX_UPDATES: usize = 16;

/// What a program has left at its end. `N` is the kernel's notes, which are handed on unread.
#[derive(Debug)]
pub struct Left<N> {
    /// The signal for which the kernel wrote notes, and the notes.
    pub crash: Option<(i32, N)>,
    /// The last bytes of its output, where it may have ended by a panic.
    pub output: Option<Vec<u8>>,
}

impl<N> Default for Left<N> {
    fn default() -> Self {
        Self { crash: None, output: None }
    }
}

/// Something that an end has left, with the number of that end.
#[derive(Debug)]
struct Kept<T> {
    component: String,
    end: u32,
    left: T,
}

/// What ends have left, the earliest end first and one of each component at most: the last.
#[derive(Debug)]
struct AllLeft<N> {
    crashes: Vec<Kept<(i32, N)>>,
    outputs: Vec<Kept<Vec<u8>>>,
}

impl<N> Default for AllLeft<N> {
    fn default() -> Self {
        Self { crashes: Vec::new(), outputs: Vec::new() }
    }
}

/// Ends that nobody has taken yet. A component that ends again and again in the same way has one.
#[derive(Debug)]
pub struct EndLog<N> {
    kept: ComponentEnds,
    /// It holds for the whole boot, and is told each time: an answer may be lost.
    owner_level: Option<ReportLevel>,
    next_end: u32,
    /// What the ends have left that are kept.
    left: AllLeft<N>,
    /// What the ends have left that were told last.
    told: AllLeft<N>,
}

impl<N> Default for EndLog<N> {
    /// Begins the log of a boot.
    fn default() -> Self {
        Self {
            kept: ComponentEnds { is_first: true, ..ComponentEnds::default() },
            owner_level: None,
            next_end: 0,
            left: AllLeft::default(),
            told: AllLeft::default(),
        }
    }
}

/// Keeps what an end has left, in the place of what an earlier one of the same component has.
fn keep<T>(kept: &mut Vec<Kept<T>>, component: &str, end: u32, left: T) {
    kept.retain(|earlier| earlier.component != component);
    kept.push(Kept { component: component.to_owned(), end, left });
}

fn take_first<T>(kept: &mut Vec<Kept<T>>) -> Option<Kept<T>> {
    (!kept.is_empty()).then(|| kept.remove(0))
}

impl<N> EndLog<N> {
    /// Adds an end, with what its program has left. The numbers in `end` are set here.
    pub fn push(&mut self, end: ComponentEnd, left: Left<N>) {
        let number = self.next_end;
        self.next_end = number.saturating_add(1);
        let ComponentEnds { ends, lost, .. } = &mut self.kept;
        let is_same = |known: &ComponentEnd| {
            known.name == end.name && known.app == end.app && known.cause == end.cause
        };
        let place = match ends.iter().position(is_same) {
            Some(place) => place,
            None if ends.len() >= MAX_ENDS => {
                *lost = lost.saturating_add(end.count);
                return;
            }
            None => {
                ends.push(ComponentEnd { count: 0, crash: None, output: None, ..end.clone() });
                ends.len().saturating_sub(1)
            }
        };
        let (has_crash, has_output) = (left.crash.is_some(), left.output.is_some());
        for (at, known) in ends.iter_mut().enumerate() {
            if at == place {
                known.count = known.count.saturating_add(end.count);
            }
            // What is kept of this component from now on is of this end, and of no other.
            let is_replaced = known.name == end.name;
            if has_crash && is_replaced {
                known.crash = (at == place).then_some(number);
            }
            if has_output && is_replaced {
                known.output = (at == place).then_some(number);
            }
        }
        if let Some(crash) = left.crash {
            keep(&mut self.left.crashes, &end.name, number, crash);
        }
        if let Some(output) = left.output {
            keep(&mut self.left.outputs, &end.name, number, output);
        }
    }

    /// Adds what has become of a release.
    pub fn push_update(&mut self, news: UpdateNews) {
        let ComponentEnds { updates, lost, .. } = &mut self.kept;
        if updates.contains(&news) {
            return;
        }
        if updates.len() >= MAX_UPDATES {
            *lost = lost.saturating_add(1);
            return;
        }
        updates.push(news);
    }

    /// The device's owner lets it report no more than this.
    pub fn set_owner_level(&mut self, level: ReportLevel) {
        self.owner_level = Some(level);
    }

    /// Takes what is kept, which is forgotten but for what the owner has said. What these ends have left can be taken from now on, and
    /// what others have left that were told before no more.
    pub fn take(&mut self) -> ComponentEnds {
        self.told = std::mem::take(&mut self.left);
        ComponentEnds { owner_level: self.owner_level, ..std::mem::take(&mut self.kept) }
    }

    /// Takes the earliest crash of the ends that were told last, with the kernel's notes.
    pub fn take_crash(&mut self) -> Option<(wire::Crash, N)> {
        let Kept { end, left: (signal, notes), .. } = take_first(&mut self.told.crashes)?;
        Some((wire::Crash { end, signal }, notes))
    }

    /// Takes the earliest last output of the ends that were told last.
    pub fn take_output(&mut self) -> Option<wire::LastOutput> {
        let Kept { end, left: bytes, .. } = take_first(&mut self.told.outputs)?;
        Some(wire::LastOutput { end, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sandbox::wire::{EndCause, UpdateOutcome};
    use holdfast_types::Version;

    /// Notes of a crash, as a number that tells them apart.
    type Log = EndLog<u32>;

    fn end(name: &str, cause: EndCause) -> ComponentEnd {
        let name = name.to_owned();
        ComponentEnd {
            name,
            app: None,
            cause,
            ran_s: 1,
            uptime_s: 2,
            count: 1,
            crash: None,
            output: None,
        }
    }

    #[test]
    fn a_crash_loop_is_one_end_with_its_count() {
        let mut log = Log::default();
        for uptime_s in 0..1000 {
            let end = ComponentEnd { uptime_s, ..end("camera", EndCause::Signal(11)) };
            log.push(end, Left::default());
        }
        log.push(end("camera", EndCause::Watchdog), Left::default());
        let taken = log.take();
        let counts: Vec<u32> = taken.ends.iter().map(|end| end.count).collect();
        assert_eq!((counts.as_slice(), taken.lost), (&[1000, 1][..], 0));
        assert_eq!(taken.ends[0].uptime_s, 0, "the first time");
        assert!(taken.is_first);
        assert_eq!(log.take(), ComponentEnds::default(), "it is forgotten");
    }

    #[test]
    fn outcomes_of_releases_are_bounded_and_what_the_owner_says_stays() {
        let mut log = Log::default();
        let news = |patch| UpdateNews {
            app: None,
            from: Version::default(),
            to: Version { patch, ..Version::default() },
            outcome: UpdateOutcome::Failed,
            fetched_bytes: 0,
        };
        for patch in [0, 0, 0].into_iter().chain(1..20) {
            log.push_update(news(patch));
        }
        log.set_owner_level(ReportLevel::Off);
        let taken = log.take();
        assert_eq!((taken.updates.len(), taken.lost), (MAX_UPDATES, 4));
        assert_eq!(taken.owner_level, Some(ReportLevel::Off));
        let again = log.take();
        assert_eq!((again.updates.len(), again.owner_level), (0, Some(ReportLevel::Off)));
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let mut log = Log::default();
        for code in 1..=255 {
            log.push(end("camera", EndCause::Exit(code)), Left::default());
        }
        let taken = log.take();
        assert_eq!(taken.ends.len(), MAX_ENDS);
        assert_eq!(taken.lost, 255 - 32);
    }

    fn crashed(notes: u32) -> Left<u32> {
        Left { crash: Some((11, notes)), output: None }
    }

    #[test]
    fn what_an_end_leaves_between_two_requests_waits_until_that_end_is_told() {
        let mut log = Log::default();
        log.push(end("camera", EndCause::Signal(11)), crashed(1));
        let told = log.take();
        // Before anybody has asked for the notes, the same component crashes again, and another one does.
        log.push(end("camera", EndCause::Signal(11)), crashed(2));
        log.push(end("pump", EndCause::Signal(11)), crashed(3));
        assert_eq!(log.take_crash(), Some((wire::Crash { end: 0, signal: 11 }, 1)));
        assert_eq!((told.ends[0].crash, log.take_crash()), (Some(0), None));
        let numbers: Vec<_> = log.take().ends.iter().map(|end| end.crash).collect();
        assert_eq!(numbers, [Some(1), Some(2)]);
        let taken: Vec<_> = std::iter::from_fn(|| log.take_crash()).map(|(_, of)| of).collect();
        assert_eq!(taken, [2, 3]);
    }

    #[test]
    fn two_crashes_between_two_questions_are_one_end_that_counts_two_with_the_last_place() {
        let mut log = Log::default();
        for notes in [1, 2] {
            log.push(end("camera", EndCause::Signal(11)), crashed(notes));
        }
        let ends = log.take().ends;
        assert!(matches!(&ends[..], [end] if (end.count, end.crash) == (2, Some(1))), "{ends:?}");
        assert_eq!(log.take_crash(), Some((wire::Crash { end: 1, signal: 11 }, 2)));
        // The control: with a question between them they are two, each with its place.
        for (end_number, notes) in [(2, 3), (3, 4)] {
            log.push(end("camera", EndCause::Signal(11)), crashed(notes));
            let ends = log.take().ends;
            assert!(matches!(&ends[..], [end] if end.count == 1), "{ends:?}");
            assert_eq!(
                log.take_crash(),
                Some((wire::Crash { end: end_number, signal: 11 }, notes))
            );
        }
    }

    #[test]
    fn what_nobody_takes_is_let_go_with_the_next_ends() {
        let mut log = Log::default();
        log.push(end("camera", EndCause::Signal(11)), crashed(1));
        assert_eq!(log.take().ends.len(), 1);
        assert_eq!(log.take().ends.len(), 0);
        assert_eq!(log.take_crash(), None);
    }

    #[test]
    fn one_crash_of_a_component_is_kept_and_no_other_end_says_that_it_has_it() {
        let mut log = Log::default();
        for signal in 1..=20 {
            log.push(end("camera", EndCause::Signal(signal)), crashed(signal.into()));
        }
        log.push(end("camera", EndCause::Exit(1)), Left::default());
        let ends = log.take().ends;
        let with: Vec<_> = ends.iter().filter(|end| end.crash.is_some()).collect();
        assert!(matches!(with[..], [end] if end.cause == EndCause::Signal(20)), "{with:?}");
        assert_eq!(log.take_crash().map(|(_, notes)| notes), Some(20));
        assert_eq!(log.take_crash(), None);
    }
}
