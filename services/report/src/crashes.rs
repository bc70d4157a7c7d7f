//! Where components have crashed, of the kernel's notes that init hands over.

use holdfast_failure_reports::panic_text;
use holdfast_failure_reports::record::{Body, BuildId, Component, Crash, End, Fault, Place};
use holdfast_lifecycle::core_notes::{self, CoreNotes, ElfFile, ReadAt};
use holdfast_lifecycle::exit::{Exit, SIGABRT};
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

/// Returns the name of a component.
fn name(component: &Component) -> &str {
    match component {
        Component::App(app) => app.name.as_str(),
        Component::Service(name) => name.as_str(),
    }
}

/// True where a panic of a program in Rust may have been this end.
pub(crate) fn may_be_panic(end: End) -> bool {
    match end {
        End::Exit(code) => Exit::Code(code.into()).may_be_panic(),
        End::Signal(signal) => Exit::Signal(signal.into()).may_be_panic(),
        End::Watchdog | End::NotReady | End::Memory | End::Sandbox | End::Verity => false,
    }
}

/// Puts the place of a panic into the record of the end that it was.
pub(crate) fn join_panic(bodies: &mut [(u64, Body)], written: &wire::LastOutput) {
    let Some(panic) = panic_text::last_panic(&written.bytes) else {
        return;
    };
    let ended = bodies.iter_mut().find_map(|(_, body)| match body {
        Body::Ended(ended) if name(&ended.component) == written.name && may_be_panic(ended.end) => {
            Some(ended)
        }
        _ => None,
    });
    if let Some(ended) = ended {
        ended.panic = Some(panic);
    }
}

/// Puts the place of a crash into the record of the end that it was, among those that were told with it.
pub(crate) fn join(bodies: &mut [(u64, Body)], told: &wire::Crash, crash: Crash) {
    let is_of = |end: End| match end {
        End::Signal(signal) => i32::from(signal) == told.signal,
        // SIGSYS, and whatever has ended a program whose package is damaged.
        End::Sandbox | End::Verity => true,
        // init has aborted it to learn where it was.
        End::Watchdog => told.signal == SIGABRT,
        End::Exit(_) | End::NotReady | End::Memory => false,
    };
    let ended = bodies.iter_mut().find_map(|(_, body)| match body {
        Body::Ended(ended)
            if name(&ended.component) == told.name && ended.crash.is_none() && is_of(ended.end) =>
        {
            Some(ended)
        }
        _ => None,
    });
    if let Some(ended) = ended {
        ended.crash = Some(crash);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is a failed test")]
    use super::*;
    use holdfast_failure_reports::record::Ended;
    use holdfast_failure_reports::samples;
    use std::io::Write;

    fn told(name: &str, signal: i32) -> wire::Crash {
        wire::Crash { name: name.to_owned(), id: None, signal, ended_ms: 0 }
    }

    #[test]
    fn a_place_goes_to_the_end_of_its_component_and_signal() {
        let ended = |end| Body::Ended(Ended { end, crash: None, ..samples::ended() });
        let crash = samples::ended().crash.unwrap();
        let joined = |name, signal| {
            let mut bodies = vec![
                (1, ended(End::Exit(1))),
                (2, ended(End::Signal(6))),
                (3, ended(End::Sandbox)),
                (4, ended(End::Watchdog)),
            ];
            join(&mut bodies, &told(name, signal), crash);
            let has = |(_, body): &(u64, Body)| matches!(body, Body::Ended(e) if e.crash.is_some());
            bodies.iter().position(has)
        };
        assert_eq!(joined("camera", 6), Some(1));
        assert_eq!(joined("camera", 31), Some(2));
        assert_eq!(joined("pump", 6), None);
        let mut bodies = vec![(1, ended(End::NotReady)), (2, ended(End::Watchdog))];
        join(&mut bodies, &told("camera", 6), crash);
        let has = |at: usize| matches!(&bodies[at].1, Body::Ended(ended) if ended.crash.is_some());
        assert_eq!((has(0), has(1)), (false, true), "what the watchdog aborts");
    }

    #[test]
    fn a_panic_goes_to_the_end_that_it_was_and_its_text_nowhere() {
        let ended = |end| Body::Ended(Ended { end, panic: None, ..samples::ended() });
        let joined = |name: &str, bytes: &[u8]| {
            let mut bodies = vec![(1, ended(End::Exit(1))), (2, ended(End::Signal(6)))];
            let written = wire::LastOutput { name: name.to_owned(), bytes: bytes.to_vec() };
            join_panic(&mut bodies, &written);
            bodies
                .into_iter()
                .filter_map(|(at, body)| match body {
                    Body::Ended(ended) => Some((at, ended.panic?.line)),
                    _ => None,
                })
                .collect::<Vec<_>>()
        };
        let text = b"thread 'main' (1) panicked at src/main.rs:42:1:\nthe door is open\n";
        assert_eq!(joined("camera", text), [(2, 42)]);
        assert_eq!(joined("pump", text), []);
        assert_eq!(joined("camera", b"the door is open\n"), []);
    }

    #[test]
    fn a_file_that_is_no_core_says_nothing() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0x7f; 5000]).unwrap();
        assert_eq!(place(&told("camera", 11), file.into()), None);
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
