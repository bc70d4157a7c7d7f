//! What is to be done after an event.

use super::event::End;
use crate::exit::Exit;
use holdfast_sandbox::wire::{EndCause, Reply};
use holdfast_types::Millis;
use holdfast_types::event::Event as LogEvent;

/// The level of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warning,
    /// Something has happened.
    Notice,
}

/// Something to be done. Components are named by their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write a line to the log, which ends in the event.
    Log(Level, LogEvent, String),
    /// Write to the log how the device stands: the line that programs read to its end, and that ends in no event.
    LogStatus(String),
    /// Pet the watchdog where [`State::is_alive`](super::State::is_alive): what comes next may take long, or what came before has.
    Pet,
    /// Start it: [`Event::Started`](super::Event::Started) or [`Event::StartFailed`](super::Event::StartFailed).
    Start(usize),
    /// Kill all its processes.
    Kill(usize),
    /// Have its program abort, of which the kernel notes where it was, where somebody reports that; kill all its processes elsewhere.
    Abort(usize),
    /// Ask its program to end.
    Terminate(usize),
    /// Hear what its program said and printed last, and learn how it ended: [`Event::Notified`](super::Event::Notified), where it said
    /// something, and [`Event::Exited`](super::Event::Exited).
    Collect {
        /// The component's place.
        component: usize,
        /// The end of its stub, which stands for the program's end where the stub has left none.
        exit: Exit,
    },
    /// Record that it has ended without being asked to, for whoever reports it.
    RecordEnd {
        /// The component's place.
        component: usize,
        /// The way it ended.
        cause: EndCause,
        /// How long it ran.
        ran_ms: Millis,
    },
    /// Let what it has written reach the medium at once: the system ends.
    HurryWrites(usize),
    /// Take no package of it below the one that runs from now on.
    RaiseFloor(usize),
    /// Commit the slot that runs, and raise the floor of the OS: [`Event::SlotCommitted`](super::Event::SlotCommitted).
    CommitSlot,
    /// Raise the floor of the clock.
    CommitClock,
    /// Make its package on trial the current one: [`Event::PackageCommitted`](super::Event::PackageCommitted).
    CommitPackage(usize),
    /// Bring the boot loader up to date.
    RenewBootLoader,
    /// Give a good slot its tries back, which could not be saved when it started.
    RenewTries,
    /// Remove its package on trial: [`Event::PackageGivenUp`](super::Event::PackageGivenUp).
    GiveUpPackage(usize),
    /// Look whether its previous package may run: [`Event::PreviousChecked`](super::Event::PreviousChecked).
    CheckPrevious(usize),
    /// Put its previous package in the place of the current one: [`Event::FellBack`](super::Event::FellBack).
    FallBack(usize),
    /// Reply to a request.
    Reply(usize, Reply),
    /// End the system; nothing runs any more.
    End(End),
}

/// Makes the line of what has happened.
pub(super) fn notice(event: LogEvent, line: String) -> Effect {
    Effect::Log(Level::Notice, event, line)
}

/// Makes the line of what is not as it should be.
pub(super) fn warning(event: LogEvent, line: String) -> Effect {
    Effect::Log(Level::Warning, event, line)
}

/// Makes the line of a failure with its causes, as init writes all of them.
pub(super) fn failure(event: LogEvent, what: &str, causes: &str) -> Effect {
    Effect::Log(Level::Error, event, format!("{what}: {causes}"))
}
