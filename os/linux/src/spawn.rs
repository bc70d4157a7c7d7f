//! Starting a component: one `clone3`, then steps in the child that each must succeed.
//!
//! The child shares nothing with init but the descriptors it is given. Every step that fails is
//! reported through a pipe that `execve` closes, so that the caller knows whether the program
//! itself was started. The order of the steps is the security argument: control group first (by
//! the kernel), descriptors, bounding set, ids, capabilities, `no_new_privs`, program.

use linux_raw_sys::general::{CLONE_CLEAR_SIGHAND, CLONE_INTO_CGROUP, clone_args};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
pub use rustix::process::Pid;
use rustix::process::{Resource, Rlimit, Signal, chdir, kill_process, setrlimit, setsid, umask};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use std::ffi::CString;
use std::io;

/// Most open descriptors a component may have.
const OPEN_FILES: u64 = 256;

/// A program to start.
#[derive(Debug)]
pub struct Command<'a> {
    /// Absolute path of the program.
    pub program: CString,
    /// Arguments, the program's own name first.
    pub arguments: Vec<CString>,
    /// The whole environment, as `KEY=value`.
    pub environment: Vec<CString>,
    /// Uid and gid.
    pub uid: u32,
    /// Capability numbers it keeps.
    pub capabilities: &'a [u8],
    /// Standard input.
    pub input: BorrowedFd<'a>,
    /// Standard output and standard error.
    pub output: BorrowedFd<'a>,
    /// Descriptors handed over from number 3 on.
    pub descriptors: Vec<BorrowedFd<'a>>,
    /// Directory of the control group it is born in.
    pub cgroup: BorrowedFd<'a>,
}

/// Why a component was not started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// No process could be made.
    #[error("cannot create a process")]
    Clone(#[source] io::Error),
    /// The pipe that reports the child's steps failed.
    #[error("cannot learn whether the program was started")]
    Report(#[source] io::Error),
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

/// The child's steps in their order, as the report pipe names them.
const STEPS: [&str; 12] = [
    "start a session",
    "reset the signals",
    "arrange the descriptors",
    "set the limits",
    "change to the root directory",
    "restrict the bounding set",
    "drop the groups",
    "set the gid",
    "set the uid",
    "set the capabilities",
    "set no_new_privs",
    "execute",
];

/// Starts the program and returns its pid once the kernel has replaced the child by it.
///
/// # Errors
/// [`SpawnError`]; the child is then gone or about to be reaped.
pub fn spawn(command: &Command<'_>) -> Result<Pid, SpawnError> {
    let (report, report_child) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|error| SpawnError::Report(error.into()))?;
    let argv = pointers(&command.arguments);
    let envp = pointers(&command.environment);
    let args = clone_args {
        flags: CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        cgroup: u64::from(command.cgroup.as_raw_fd().unsigned_abs()),
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
    // child has a copy of this process, which has a single thread (init never makes another), so
    // no lock can be held in it; the child only makes system calls and never returns from here.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<clone_args>()) };
    match i32::try_from(result) {
        Ok(0) => {
            let (step, error) = become_component(command, &argv, &envp, report_child.as_fd());
            let mut message = [0u8; 5];
            message[0] = step;
            message[1..].copy_from_slice(&error.raw_os_error().to_ne_bytes());
            let _ = rustix::io::write(&report_child, &message);
            // SAFETY: ends the child at once, without running anything of init's.
            unsafe { libc::_exit(127) }
        }
        Ok(pid) => {
            drop(report_child);
            let Some(pid) = Pid::from_raw(pid) else {
                return Err(SpawnError::Clone(io::Error::last_os_error()));
            };
            outcome(&report).map(|()| pid)
        }
        Err(_) => Err(SpawnError::Clone(io::Error::last_os_error())),
    }
}

/// Asks the process to end (`SIGTERM`). `pid` must be a child that was not reaped yet.
///
/// # Errors
/// There is no such process.
pub fn terminate(pid: Pid) -> io::Result<()> {
    Ok(kill_process(pid, Signal::TERM)?)
}

/// Reads the report pipe: its end means that the program runs.
fn outcome(report: &OwnedFd) -> Result<(), SpawnError> {
    let mut message = [0u8; 5];
    loop {
        return match rustix::io::read(report, &mut message) {
            Ok(0) => Ok(()),
            Ok(5) => {
                let [step, number @ ..] = message;
                Err(SpawnError::Step {
                    step: STEPS.get(usize::from(step)).copied().unwrap_or("prepare"),
                    source: io::Error::from_raw_os_error(i32::from_ne_bytes(number)),
                })
            }
            Ok(_) => Err(SpawnError::Report(io::Error::from(io::ErrorKind::UnexpectedEof))),
            Err(Errno::INTR) => continue,
            Err(error) => Err(SpawnError::Report(error.into())),
        };
    }
}

/// Pointers to the strings, closed by a null pointer, as execve(2) wants them.
fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Everything between birth and `execve`. Returns only the step that failed.
fn become_component(
    command: &Command<'_>,
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
    report: BorrowedFd<'_>,
) -> (u8, Errno) {
    let keep = command
        .capabilities
        .iter()
        .fold(CapabilitySet::empty(), |set, n| set | CapabilitySet::from_bits_retain(1u64 << *n));
    let steps: [&dyn Fn() -> Result<(), Errno>; 11] = [
        &|| setsid().map(drop),
        &unblock_signals,
        &|| arrange_descriptors(command, report),
        &|| {
            umask(Mode::from_raw_mode(0o077));
            let limit = |n| Rlimit { current: Some(n), maximum: Some(n) };
            setrlimit(Resource::Core, limit(0))?;
            setrlimit(Resource::Nofile, limit(OPEN_FILES))
        },
        &|| chdir("/"),
        &|| restrict_bounding_set(command.capabilities),
        &|| {
            set_keep_capabilities(!keep.is_empty())?;
            set_thread_groups(&[])
        },
        &|| {
            let gid = Gid::from_raw(command.uid);
            set_thread_res_gid(gid, gid, gid)
        },
        &|| {
            let uid = Uid::from_raw(command.uid);
            set_thread_res_uid(uid, uid, uid)
        },
        &|| set_component_capabilities(keep),
        &|| set_no_new_privs(true),
    ];
    for (step, act) in (0u8..).zip(steps) {
        if let Err(error) = act() {
            return (step, error);
        }
    }
    // SAFETY: `argv` and `envp` are arrays of pointers to NUL-terminated strings that outlive this
    // call, each closed by a null pointer.
    unsafe { libc::execve(command.program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    let number = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    (11, Errno::from_raw_os_error(number))
}

/// Handlers are the default ones already (`CLONE_CLEAR_SIGHAND`, which also resets the ignored
/// SIGPIPE of a Rust program); what init blocked must be let through again.
fn unblock_signals() -> Result<(), Errno> {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the whole set that the pointer leads to.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: `set` was initialised by `sigemptyset`; the old mask is not wanted.
    match unsafe { libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(Errno::INVAL),
    }
}

/// Puts the component's descriptors at 0, 1, 2, 3 and on, the report pipe behind them, and closes
/// all others.
fn arrange_descriptors(command: &Command<'_>, report: BorrowedFd<'_>) -> Result<(), Errno> {
    // First out of the way of every target number, so that no copy overwrites a source.
    const ABOVE_TARGETS: RawFd = 64;
    let standard = [command.input, command.output, command.output];
    let mut copies = Vec::with_capacity(16);
    for descriptor in standard.iter().chain(&command.descriptors) {
        copies.push(rustix::io::fcntl_dupfd_cloexec(descriptor, ABOVE_TARGETS)?);
    }
    let report = rustix::io::fcntl_dupfd_cloexec(report, ABOVE_TARGETS)?;
    let mut target: RawFd = 0;
    for copy in &copies {
        duplicate(copy.as_raw_fd(), target, 0)?;
        target = target.checked_add(1).ok_or(Errno::OVERFLOW)?;
    }
    duplicate(report.as_raw_fd(), target, libc::O_CLOEXEC)?;
    std::mem::forget(copies);
    std::mem::forget(report);
    let first_closed = target.checked_add(1).ok_or(Errno::OVERFLOW)?;
    // SAFETY: closes descriptors of this child alone; none of them is used after this, the
    // owners of the copies above having been forgotten.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first_closed, u32::MAX, 0) };
    if closed == 0 { Ok(()) } else { Err(last_errno()) }
}

/// `dup3` to a number, whoever owned it before.
fn duplicate(from: RawFd, to: RawFd, flags: libc::c_int) -> Result<(), Errno> {
    // SAFETY: plain numbers go in; what `to` was before is this child's copy, used by nobody.
    if unsafe { libc::dup3(from, to, flags) } < 0 { Err(last_errno()) } else { Ok(()) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Takes every capability but those in `keep` from the bounding set, those of a newer kernel too.
fn restrict_bounding_set(keep: &[u8]) -> Result<(), Errno> {
    for number in (0..64u8).filter(|number| !keep.contains(number)) {
        let capability = CapabilitySet::from_bits_retain(1u64 << number);
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            Err(Errno::INVAL) => return Ok(()), // Past the last one that this kernel knows.
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Leaves exactly `keep`, in all sets; the ambient set carries it over `execve`.
fn set_component_capabilities(keep: CapabilitySet) -> Result<(), Errno> {
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: keep };
    set_capabilities(None, sets)?;
    for capability in keep.iter() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}
