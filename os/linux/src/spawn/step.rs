//! The steps between a fork and the program, as they are named where one of them fails.

use rustix::io::Errno;

/// Which step failed, as the report pipe names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    Session,
    EndedFirst,
    Notify,
    Network,
    Root,
    Fork,
    StubDescriptors,
    StubPrivileges,
    StubSeccomp,
    Signals,
    Descriptors,
    Limits,
    Directory,
    Ids,
    Capabilities,
    NoNewPrivileges,
    Memory,
    Landlock,
    Hold,
    Seccomp,
    Execute,
}

impl Step {
    const ALL: [(Self, &'static str); 21] = [
        (Self::Session, "start a session"),
        (Self::EndedFirst, "say who is ended first"),
        (Self::Notify, "bind the notify socket"),
        (Self::Network, "join the network namespace"),
        (Self::Root, "build the root"),
        (Self::Fork, "fork"),
        (Self::StubDescriptors, "arrange the stub's descriptors"),
        (Self::StubPrivileges, "drop the stub's privileges"),
        (Self::StubSeccomp, "restrict the stub's system calls"),
        (Self::Signals, "reset the signals"),
        (Self::Descriptors, "arrange the descriptors"),
        (Self::Limits, "set the limits"),
        (Self::Directory, "change to the root directory"),
        (Self::Ids, "set the ids"),
        (Self::Capabilities, "set the capabilities"),
        (Self::NoNewPrivileges, "set no_new_privs"),
        (Self::Memory, "forbid writable code"),
        (Self::Landlock, "restrict the files"),
        (Self::Hold, "wait for a debugger"),
        (Self::Seccomp, "restrict the system calls"),
        (Self::Execute, "execute"),
    ];

    pub(super) fn words(number: u8) -> &'static str {
        // The number comes through a pipe from a child that may have failed in any way: one that no step has gets a word too.
        let found = Self::ALL.iter().find(|(step, _)| *step as u8 == number);
        found.map_or("prepare", |(_, words)| words)
    }
}

/// A step that the kernel refused.
pub(super) type Refused = (Step, Errno);

/// Names the step of an operation that failed.
pub(super) fn at<E: Into<Errno>>(step: Step) -> impl FnOnce(E) -> Refused {
    move |error| (step, error.into())
}
