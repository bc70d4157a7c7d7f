//! Starting a component: its plan is applied whole, or the program does not run.
//!
//! ```text
//! init --clone3, born in the control group, new namespaces--> stub, PID 1 of its namespace
//!   stub: says how soon it is ended where memory runs out, binds the notify socket, builds the root, forks, gives up every privilege, then reaps, forwards
//!         signals, hands on what the component says
//!     `--fork--> component: descriptors, limits, ids, capabilities, MDWE, Landlock, seccomp, execve
//! ```
//!
//! Every step that fails is reported through a pipe that `execve` closes, so that the caller knows
//! whether the program itself was started. The order of the steps is the security argument.

mod confine;
mod root;
mod stub;

use crate::channel::{self, NotifyPath};
use crate::clock::monotonic_ms;
use crate::network_namespace::NetworkNamespace;
use crate::poll::Poll;
use crate::seccomp::Filters;
use holdfast_core::policy::{Network, Plan, Root, ended_first};
use linux_raw_sys::general::{
    CLONE_CLEAR_SIGHAND, CLONE_INTO_CGROUP, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS,
    CLONE_VFORK, clone_args,
};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
pub use rustix::process::Pid;
use rustix::process::{Signal, kill_process};
use std::ffi::CString;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where a process says how soon it is ended when there is no memory left; its children begin with the same.
const ADJUSTMENT: &str = "/proc/self/oom_score_adj";

/// A component to start.
#[derive(Debug)]
pub struct Command<'a> {
    /// What it is given.
    pub plan: &'a Plan,
    /// The whole environment, as `KEY=value`.
    pub environment: Vec<CString>,
    /// Uid and gid.
    pub uid: u32,
    /// Standard input.
    pub input: BorrowedFd<'a>,
    /// Standard output.
    pub output: BorrowedFd<'a>,
    /// Standard error.
    pub error: BorrowedFd<'a>,
    /// Descriptors handed over from number 3 on.
    pub descriptors: Vec<BorrowedFd<'a>>,
    /// Detached mounts for those of the plan's mounts that exist outside of the component, by
    /// their targets.
    pub trees: Vec<(&'a str, OwnedFd)>,
    /// The network namespace it joins, where its plan has grants.
    pub network: Option<&'a NetworkNamespace>,
    /// Directory of the control group it is born in.
    pub cgroup: BorrowedFd<'a>,
    /// Pipe for the raw wait status of the program, four bytes in native order.
    pub status: BorrowedFd<'a>,
    /// How it says that it is ready and alive, if it does.
    pub notify: Option<Notify<'a>>,
    /// System calls of the program and of the stub.
    pub filters: Filters<'a>,
    /// It stops in front of its program until a debugger lets it go on. Whether the program itself can be
    /// executed is then not told.
    pub held: bool,
    /// Milliseconds until the program itself must run.
    pub within_ms: u64,
}

/// The way of a component's `sd_notify` datagrams: its stub receives them, and hands on what they say.
#[derive(Debug, Clone, Copy)]
pub struct Notify<'a> {
    /// Where the stub listens.
    pub path: &'a NotifyPath,
    /// Pipe for one byte of each datagram: `holdfast_core::notify::Notification::to_byte`.
    pub signs: BorrowedFd<'a>,
}

/// Why a component was not started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// No process could be made.
    #[error("cannot create a process")]
    Clone(#[source] io::Error),
    /// An argument of the program holds a NUL.
    #[error("an argument of the program holds a NUL")]
    Argument(#[from] std::ffi::NulError),
    /// The pipe that reports the child's steps failed.
    #[error("cannot learn whether the program was started")]
    Report(#[source] io::Error),
    /// The program did not run in time.
    #[error("the program did not run within {0} ms")]
    TooSlow(u64),
    /// A step in the child was refused; the program never ran.
    #[error("cannot {step} for the program")]
    Step {
        /// The step, as an infinitive.
        step: &'static str,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
}

/// Which step failed, as the report pipe names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Step {
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

    fn words(number: u8) -> &'static str {
        let found = Self::ALL.iter().find(|(step, _)| *step as u8 == number);
        found.map_or("prepare", |(_, words)| words)
    }
}

/// A step that the kernel refused.
type Refused = (Step, Errno);

/// Names the step of an operation that failed.
fn at<E: Into<Errno>>(step: Step) -> impl FnOnce(E) -> Refused {
    move |error| (step, error.into())
}

/// Starts the program and returns the pid of its stub once the kernel has replaced the child by
/// the program. The caller kills the control group when this fails.
///
/// # Errors
/// [`SpawnError`]; the program then never ran.
pub fn spawn(command: &Command<'_>) -> Result<Pid, SpawnError> {
    let (report, low) = channel::output_pipe().map_err(SpawnError::Report)?;
    // Above every number that the component's own descriptors get.
    let report_child = rustix::io::fcntl_dupfd_cloexec(&low, 64)
        .map_err(|error| SpawnError::Report(error.into()))?;
    drop(low);
    let program = Program::new(command)?;
    let mut flags = CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP;
    if matches!(command.plan.root, Root::Own(_)) {
        flags |= u64::from(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS);
    }
    if command.plan.network == Network::None {
        flags |= u64::from(CLONE_NEWNET);
    }
    // The child only makes system calls, and ends without returning.
    match clone(flags, Some(command.cgroup)).map_err(|error| SpawnError::Clone(error.into()))? {
        None => {
            let (step, error) = become_stub(command, &program, &report_child);
            fail(&report_child, step, error)
        }
        Some(pid) => {
            drop(report_child);
            outcome(&report, command.within_ms).map(|()| pid)
        }
    }
}

/// Asks the program to end (`SIGTERM`, which its stub forwards). `pid` must be a child that was
/// not reaped yet.
///
/// # Errors
/// There is no such process.
pub fn terminate(pid: Pid) -> io::Result<()> {
    Ok(kill_process(pid, Signal::TERM)?)
}

/// Has a copy of this process do something, with everything that this one has open, and end. It is reaped like every other
/// child. `act` must not wait for long.
///
/// # Errors
/// There is no process to be had.
pub fn in_a_child(act: impl FnOnce()) -> io::Result<()> {
    in_child_with(CLONE_CLEAR_SIGHAND, act)
}

/// As [`in_a_child`], and waits until it has ended. `act` must not wait at all.
///
/// # Errors
/// There is no process to be had.
pub(crate) fn in_a_child_until_its_end(act: impl FnOnce()) -> io::Result<()> {
    in_child_with(CLONE_CLEAR_SIGHAND | u64::from(CLONE_VFORK), act)
}

fn in_child_with(flags: u64, act: impl FnOnce()) -> io::Result<()> {
    if clone(flags, None)?.is_none() {
        act();
        // SAFETY: ends the child at once, without running anything of its parent's.
        unsafe { libc::_exit(0) }
    }
    Ok(())
}

/// Exit code of a child that has panicked before it was another program.
pub const CHILD_PANICKED: i32 = 126;

/// True in every copy of this process that [`clone`] has made.
static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// Ends a child of [`clone`] at once: nothing of what its parent does at its own end is done by it.
pub(crate) fn end_if_child() {
    if IS_CHILD.load(Ordering::Relaxed) {
        // SAFETY: ends the child at once, without running anything of its parent's.
        unsafe { libc::_exit(CHILD_PANICKED) }
    }
}

/// A copy of this process; `None` in the copy.
fn clone(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Option<Pid>, Errno> {
    let args = clone_args {
        flags,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        cgroup: cgroup.map_or(0, |cgroup| u64::from(cgroup.as_raw_fd().unsigned_abs())),
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
    };
    // SAFETY: the arguments have the layout and size that clone3(2) demands. Without CLONE_VM the
    // child has a copy of this process, which has a single thread (init never makes another, and
    // neither does a stub), so no lock can be held in it.
    //
    // The C library does not learn of it and still takes the parent's number for this thread's, 1. It uses that
    // in `raise` and `abort` alone, which a panic does not come to ([`end_if_child`]). Where something else aborts, it
    // sends its signal to number 1: to itself in a new process namespace, to its stub, which forwards it,
    // or to init, for which the kernel drops it (`SIGNAL_UNKILLABLE`); then `abort` ends the child by a fault.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<clone_args>()) };
    match i32::try_from(result) {
        Ok(0) => {
            IS_CHILD.store(true, Ordering::Relaxed);
            Ok(None)
        }
        Ok(pid) => Pid::from_raw(pid).map(Some).ok_or_else(last_errno),
        Err(_) => Err(last_errno()),
    }
}

/// Everything in the first child: the root, the second child, and then the life of a stub.
fn become_stub(command: &Command<'_>, program: &Program, report: &OwnedFd) -> Refused {
    let forked = || -> Result<(Option<Pid>, Option<OwnedFd>), Refused> {
        rustix::process::setsid().map_err(at(Step::Session))?;
        stub::block_signals().map_err(at(Step::Signals))?;
        // While the system's root is still there.
        let adjustment = ended_first(command.uid).to_string();
        rustix::fs::open(ADJUSTMENT, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|file| rustix::io::write(file, adjustment.as_bytes()))
            .map_err(at(Step::EndedFirst))?;
        let notify = command.notify.map(|notify| notify.path.bind()).transpose();
        let notify = notify.map_err(|error| (Step::Notify, errno(&error.source)))?;
        if let Network::Granted(_) = &command.plan.network {
            let namespace = command.network.ok_or((Step::Network, Errno::NOENT))?;
            namespace.enter().map_err(at(Step::Network))?;
        }
        if let Root::Own(mounts) = &command.plan.root {
            root::build(mounts, &command.trees, command.uid).map_err(at(Step::Root))?;
        }
        let child = clone(CLONE_CLEAR_SIGHAND, None).map_err(at(Step::Fork))?;
        Ok((child, notify))
    };
    match forked() {
        Err(refused) => refused,
        Ok((None, _)) => confine::become_component(command, program, report.as_fd()),
        Ok((Some(child), notify)) => match stub::confine(command, notify, report.as_fd()) {
            Ok(ends) => stub::live(child, &ends),
            Err(refused) => {
                // The program must not outlive a stub that is not confined.
                let _ = kill_process(child, Signal::KILL);
                refused
            }
        },
    }
}

/// Reports the step that failed and ends this child.
fn fail(report: &OwnedFd, step: Step, error: Errno) -> ! {
    let mut message = [0u8; 5];
    let (number, errno) = message.split_at_mut(1);
    number.copy_from_slice(&[step as u8]);
    errno.copy_from_slice(&error.raw_os_error().to_ne_bytes());
    let _ = rustix::io::write(report, &message);
    // SAFETY: ends the child at once, without running anything of init's.
    unsafe { libc::_exit(127) }
}

/// Reads the report pipe: its end means that the program runs.
fn outcome(report: &OwnedFd, within_ms: u64) -> Result<(), SpawnError> {
    let deadline = monotonic_ms().saturating_add(within_ms);
    let mut message = [0u8; 5];
    loop {
        match channel::read(report, &mut message).map_err(SpawnError::Report)? {
            Some(0) => return Ok(()),
            Some(5) => {
                let [step, number @ ..] = message;
                return Err(SpawnError::Step {
                    step: Step::words(step),
                    source: io::Error::from_raw_os_error(i32::from_ne_bytes(number)),
                });
            }
            Some(_) => return Err(SpawnError::Report(io::ErrorKind::UnexpectedEof.into())),
            None => {}
        }
        let left = deadline.saturating_sub(monotonic_ms());
        if left == 0 {
            return Err(SpawnError::TooSlow(within_ms));
        }
        let mut poll = Poll::new();
        poll.add(report);
        poll.wait(left).map_err(SpawnError::Report)?;
    }
}

/// The strings of `execve`, ready before the first clone.
struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    fn new(command: &Command<'_>) -> Result<Self, SpawnError> {
        let path = CString::new(command.plan.program.as_str())?;
        let mut arguments = vec![path.clone()];
        for argument in &command.plan.args {
            arguments.push(CString::new(argument.as_str())?);
        }
        Ok(Self { path, arguments, environment: command.environment.clone() })
    }

    /// Replaces this process; returns only why it could not.
    fn execute(&self) -> Errno {
        let argv = pointers(&self.arguments);
        let envp = pointers(&self.environment);
        // SAFETY: `argv` and `envp` are arrays of pointers to NUL-terminated strings that outlive
        // this call, each closed by a null pointer.
        unsafe { libc::execve(self.path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
        last_errno()
    }
}

/// Pointers to the strings, closed by a null pointer, as execve(2) wants them.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

fn last_errno() -> Errno {
    errno(&io::Error::last_os_error())
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// `dup3` to a number, whoever owned it before.
fn duplicate(from: RawFd, to: RawFd, flags: libc::c_int) -> Result<(), Errno> {
    // SAFETY: plain numbers go in; what `to` was before is this child's copy, used by nobody.
    if unsafe { libc::dup3(from, to, flags) } < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Closes every descriptor from `first` to `last`; none when `last` is below `first`.
fn close_range(first: RawFd, last: RawFd) -> Result<(), Errno> {
    if last < first {
        return Ok(());
    }
    // SAFETY: closes descriptors of this child alone; callers use none of them after this and have
    // forgotten their owners.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if closed == 0 { Ok(()) } else { Err(last_errno()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_reports_nothing_is_not_waited_for() {
        let (report, child) = channel::output_pipe().unwrap();
        assert!(matches!(outcome(&report, 20), Err(SpawnError::TooSlow(20))));
        drop(child);
        assert!(outcome(&report, 20).is_ok(), "execve has closed it");
    }

    #[test]
    fn a_step_that_failed_is_named() {
        let (report, child) = channel::output_pipe().unwrap();
        let errno = Errno::NOENT.raw_os_error().to_ne_bytes();
        rustix::io::write(&child, &[&[Step::Execute as u8], errno.as_slice()].concat()).unwrap();
        let error = outcome(&report, 1_000).unwrap_err();
        assert_eq!(error.to_string(), "cannot execute for the program");
    }
}
