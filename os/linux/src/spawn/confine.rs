//! Everything between the component's fork and its `execve`, in an order that never needs a
//! privilege that was given up before.

use super::command::{Command, Program};
use super::descriptors::{close_range, duplicate};
use super::report::Report;
use super::step::{Refused, Step, at};
use crate::errno::{self, last_errno};
use crate::landlock;
use holdfast_sandbox::policy::{CORE_KIB, Root};
use nix::sys::signal::SigSet;
use rustix::fd::{AsRawFd, RawFd};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{
    Resource, Rlimit, Signal, chdir, getpid, kill_process, setrlimit, setsid, umask,
};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, Gid, Uid,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_capabilities_secure_bits, set_keep_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

/// Stack of a main thread, and what a program may raise it to.
const STACK_BYTES: u64 = 1 << 20;
const MAX_STACK_BYTES: u64 = 8 << 20;

/// Becomes the program. Returns only the step that failed.
pub(super) fn become_component(
    command: &Command<'_>,
    program: &Program,
    report: &mut Report,
) -> Refused {
    match confine(command, report) {
        Ok(()) => (Step::Execute, program.execute()),
        Err(refused) => refused,
    }
}

fn confine(command: &Command<'_>, report: &mut Report) -> Result<(), Refused> {
    setsid().map_err(at(Step::Session))?;
    unblock_signals().map_err(at(Step::Signals))?;
    let descriptors = report.number().and_then(|report| arrange_descriptors(command, report));
    descriptors.map_err(at(Step::Descriptors))?;
    // While it may still raise a limit, which takes CAP_SYS_RESOURCE (setrlimit(2)).
    set_limits(command).map_err(at(Step::Limits))?;
    chdir("/").map_err(at(Step::Directory))?;
    drop_privileges(command.uid, &command.plan.capabilities)?;
    // Without CAP_SYS_ADMIN, which is gone, Landlock and seccomp demand this
    // (landlock_restrict_self(2), seccomp(2)).
    set_no_new_privs(true).map_err(at(Step::NoNewPrivileges))?;
    refuse_writable_code().map_err(at(Step::Memory))?;
    if let Root::Own(mounts) = &command.plan.root {
        landlock::restrict(mounts, &command.plan.network).map_err(at(Step::Landlock))?;
    }
    if command.held {
        hold(report).map_err(at(Step::Hold))?;
    }
    // Last, as the steps above need calls that no list has.
    command.filters.component.apply().map_err(at(Step::Seccomp))
}

/// Stops, with nothing left to do but the last two steps. Who waits for the report is told that all is well, as it
/// would wait for as long as the program does.
fn hold(report: &mut Report) -> Result<(), Errno> {
    // Of a last step that fails nobody is told any more: the debugger sees the process end.
    report.close();
    kill_process(getpid(), Signal::STOP)
}

/// Handlers are the default ones already (`CLONE_CLEAR_SIGHAND`, which also resets the ignored
/// SIGPIPE of a Rust program); what init and the stub blocked must be let through again.
fn unblock_signals() -> Result<(), Errno> {
    SigSet::empty().thread_set_mask().map_err(errno::of_nix)
}

/// Puts the component's descriptors at 0, 1, 2, 3 and on and closes all others but the report pipe,
/// which keeps its number: whoever reports a failure holds it, and `execve` closes it.
fn arrange_descriptors(command: &Command<'_>, report: RawFd) -> Result<(), Errno> {
    // First out of the way of every target number, so that no copy overwrites a source.
    const ABOVE_TARGETS: RawFd = 64;
    let standard = [command.input, command.output, command.error];
    let mut copies = Vec::with_capacity(16);
    for descriptor in standard.iter().chain(&command.descriptors) {
        copies.push(rustix::io::fcntl_dupfd_cloexec(descriptor, ABOVE_TARGETS)?);
    }
    let mut target: RawFd = 0;
    for copy in &copies {
        // Its number was chosen above all of these.
        if target == report {
            return Err(Errno::BADF);
        }
        duplicate(copy.as_raw_fd(), target)?;
        target = target.checked_add(1).ok_or(Errno::OVERFLOW)?;
    }
    // They are closed by number with the range below; an owner would close its number once more.
    std::mem::forget(copies);
    close_range(target, report.checked_sub(1).ok_or(Errno::BADF)?)?;
    close_range(report.checked_add(1).ok_or(Errno::OVERFLOW)?, RawFd::MAX)
}

fn set_limits(command: &Command<'_>) -> Result<(), Errno> {
    umask(Mode::from_raw_mode(0o077));
    // Message queues and queued signals are counted by user (getrlimit(2)), so that the group's limits do not stand in front
    // of them; and locked memory is never given back. The kernel notes a crash where there is a place for it, and of no more
    // than what fits there (core(5)).
    let core = if command.plan.notes_crashes() { u64::from(CORE_KIB) << 10 } else { 0 };
    let open_files = u64::from(command.plan.limits.open_files);
    for (resource, limit) in [
        (Resource::Core, core),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
        (Resource::Nice, 0),
        (Resource::Rtprio, 0),
        (Resource::Sigpending, 64),
        (Resource::Nofile, open_files),
    ] {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    // Endless recursion meets the end of the stack, as a fault, before that of its memory.
    let stack = Rlimit { current: Some(STACK_BYTES), maximum: Some(MAX_STACK_BYTES) };
    setrlimit(Resource::Stack, stack)
}

/// Ends as `uid` with exactly these capabilities in every set, and securebits that keep it so.
pub(super) fn drop_privileges(uid: u32, keep: &[u8]) -> Result<(), Refused> {
    let kept = keep
        .iter()
        .fold(CapabilitySet::empty(), |set, n| set | CapabilitySet::from_bits_retain(1u64 << *n));
    // First, as it takes CAP_SETPCAP (PR_CAPBSET_DROP in prctl(2)).
    restrict_bounding_set(keep).map_err(at(Step::Capabilities))?;
    let (gid, uid) = (Gid::from_raw(uid), Uid::from_raw(uid));
    // Groups before the uid, whose change empties the effective set, CAP_SETGID with it
    // (capabilities(7)).
    set_thread_groups(&[]).map_err(at(Step::Ids))?;
    set_thread_res_gid(gid, gid, gid).map_err(at(Step::Ids))?;
    // Otherwise that change empties the permitted set as well.
    set_keep_capabilities(true).map_err(at(Step::Capabilities))?;
    set_thread_res_uid(uid, uid, uid).map_err(at(Step::Ids))?;
    set_component_capabilities(kept).map_err(at(Step::Capabilities))
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

/// Leaves exactly `keep`, in all sets; the ambient set carries it over `execve`, and the locked
/// securebits let nobody add to it.
fn set_component_capabilities(keep: CapabilitySet) -> Result<(), Errno> {
    // Securebits are set by who has CAP_SETPCAP; it goes with the last step.
    let with_setpcap = keep | CapabilitySet::SETPCAP;
    set_capabilities(
        None,
        CapabilitySets { effective: with_setpcap, permitted: with_setpcap, inheritable: keep },
    )?;
    for capability in keep.iter() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
    )?;
    set_capabilities(None, CapabilitySets { effective: keep, permitted: keep, inheritable: keep })
}

/// From here on no mapping becomes executable that was not made so, over `execve` too.
fn refuse_writable_code() -> Result<(), Errno> {
    const PR_SET_MDWE: libc::c_int = 65;
    const REFUSE_EXEC_GAIN: libc::c_ulong = 1;
    // SAFETY: prctl(PR_SET_MDWE) takes plain numbers, the unused ones zero.
    match unsafe { libc::prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0usize, 0usize, 0usize) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}
