//! The stub: the first process of a component's namespace.
//!
//! It executes nothing, opens nothing, holds no privilege, and does four things: it reaps, it
//! forwards the signals that init sends, it hands on what the program says by `sd_notify`, and it
//! writes the program's raw wait status to a pipe. Without it the program would be PID 1 of its
//! namespace, deaf to signals it does not handle.
//!
//! With a datagram the program can send descriptors, which are closed by whoever receives it, and a
//! close can wait for as long as the sender likes. So it is the stub that receives, and a program
//! that has it wait has lost its own stub: nobody hears, reaps or asks it any more, and init ends
//! both when it misses its watchdog or is to stop. Of a datagram, init gets one byte.

use super::command::Command;
use super::confine::drop_privileges;
use super::descriptors::{close_range, duplicate};
use super::step::{Refused, Step, at};
use crate::errno::last_errno;
use holdfast_sandbox::notify::{self, MAX_DATAGRAM_BYTES};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use rustix::thread::{set_name, set_no_new_privs};

/// Datagrams that are heard before signals have their turn.
const DATAGRAMS_PER_TURN: usize = 8;
/// Turns that take all that a socket may hold (`net.unix.max_dgram_qlen`, 10, and one more).
const LAST_TURNS: usize = 2;

/// What a stub has: numbers that stay open until it ends.
#[derive(Debug)]
pub(super) struct Ends {
    status: BorrowedFd<'static>,
    signals: BorrowedFd<'static>,
    notify: Option<NotifyEnds>,
}

/// Where the program's datagrams come, and where their bytes go.
#[derive(Debug)]
struct NotifyEnds {
    socket: BorrowedFd<'static>,
    signs: BorrowedFd<'static>,
}

/// Blocks every signal, for [`live`] to read them.
pub(super) fn block_signals() -> Result<(), Errno> {
    let set = full_set();
    // SAFETY: `set` is an initialised set; the old mask is not wanted.
    match unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(Errno::INVAL),
    }
}

fn full_set() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` initialises the whole set that the pointer leads to.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: it was initialised by the line above.
    unsafe { set.assume_init() }
}

/// The descriptor at which every signal is read; they are blocked already.
fn signals() -> Result<OwnedFd, Errno> {
    let set = full_set();
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the set is initialised, and -1 asks for a new descriptor.
    let raw = unsafe { libc::signalfd(-1, &raw const set, flags) };
    if raw < 0 {
        return Err(last_errno());
    }
    // SAFETY: the kernel has just handed out this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Gives up everything but what is returned, and the report pipe, which is closed last: from then
/// on init knows that both processes are as they should be.
pub(super) fn confine(
    command: &Command<'_>,
    notify: Option<OwnedFd>,
    report: BorrowedFd<'_>,
) -> Result<Ends, Refused> {
    let ends = arrange_descriptors(command, notify, report).map_err(at(Step::StubDescriptors))?;
    let _ = set_name(c"stub");
    drop_privileges(command.uid, &[]).map_err(|(_, error)| (Step::StubPrivileges, error))?;
    set_no_new_privs(true).map_err(at(Step::StubPrivileges))?;
    command.filters.stub.apply().map_err(at(Step::StubSeccomp))?;
    // SAFETY: its owner is in a frame that `live` never returns to.
    unsafe { libc::close(report.as_raw_fd()) };
    Ok(ends)
}

/// Puts the stub's descriptors at 0 and on, and closes all others but the report pipe.
fn arrange_descriptors(
    command: &Command<'_>,
    notify: Option<OwnedFd>,
    report: BorrowedFd<'_>,
) -> Result<Ends, Errno> {
    const STATUS: RawFd = 0;
    const SIGNALS: RawFd = 1;
    const NOTIFY: RawFd = 2;
    const SIGNS: RawFd = 3;
    // First out of the way of every target, so that no copy overwrites a source.
    const ABOVE_TARGETS: RawFd = 64;
    let place = |source: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(source, ABOVE_TARGETS);
    let status = place(command.status)?;
    // What it was first may have the number of a target: it is closed before anything is put there.
    let signals = signals().and_then(|signals| place(signals.as_fd()))?;
    let both = match (notify, command.notify) {
        (Some(socket), Some(notify)) => Some((place(socket.as_fd())?, place(notify.signs)?)),
        _ => None,
    };
    duplicate(status.as_raw_fd(), STATUS, 0)?;
    duplicate(signals.as_raw_fd(), SIGNALS, 0)?;
    let first_closed = match &both {
        Some((socket, signs)) => {
            duplicate(socket.as_raw_fd(), NOTIFY, 0)?;
            duplicate(signs.as_raw_fd(), SIGNS, 0)?;
            SIGNS.saturating_add(1)
        }
        None => NOTIFY,
    };
    let has_notify = both.is_some();
    std::mem::forget((status, signals, both));
    let report = report.as_raw_fd();
    close_range(first_closed, report.saturating_sub(1))?;
    close_range(report.saturating_add(1), RawFd::MAX)?;
    // SAFETY: number 0 is the status pipe and stays open until this process ends.
    let status = unsafe { BorrowedFd::borrow_raw(STATUS) };
    // SAFETY: number 1 reads signals and stays open until this process ends.
    let signals = unsafe { BorrowedFd::borrow_raw(SIGNALS) };
    // SAFETY: where there are such, number 2 is the socket and stays open until this process ends.
    let socket = has_notify.then(|| unsafe { BorrowedFd::borrow_raw(NOTIFY) });
    // SAFETY: where there are such, number 3 is the pipe and stays open until this process ends.
    let signs = has_notify.then(|| unsafe { BorrowedFd::borrow_raw(SIGNS) });
    let notify = socket.zip(signs).map(|(socket, signs)| NotifyEnds { socket, signs });
    Ok(Ends { status, signals, notify })
}

/// Reaps, forwards and hands on until the program has ended, and reports its status.
pub(super) fn live(program: Pid, ends: &Ends) -> ! {
    loop {
        let also = ends.notify.as_ref().map_or(ends.signals, |notify| notify.socket);
        let mut polled =
            [PollFd::new(&ends.signals, PollFlags::IN), PollFd::new(&also, PollFlags::IN)];
        // Whatever it says, both are looked at without waiting.
        let _ = poll(&mut polled, None);
        // What the program has said comes before its end.
        if let Some(notify) = &ends.notify {
            hand_on(notify);
        }
        while let Some(number) = next_signal(ends.signals) {
            if number == libc::SIGCHLD {
                reap(program, ends);
            } else if let Some(signal) = Signal::from_named_raw(number) {
                // It may have ended a moment ago; SIGCHLD says so next.
                let _ = kill_process(program, signal);
            }
        }
    }
}

/// The next pending signal, without waiting.
fn next_signal(signals: BorrowedFd<'_>) -> Option<i32> {
    // `ssi_signo` is the first field of the 128-byte `signalfd_siginfo`: signalfd(2).
    let mut info = [0u8; 128];
    match rustix::io::read(signals, &mut info) {
        Ok(_) => info.first_chunk().map(|number| i32::from_ne_bytes(*number)),
        Err(_) => None,
    }
}

/// Reaps whatever has ended, and ends with the program. What that said last is handed on before: it may have said it
/// behind the last look at its socket.
fn reap(program: Pid, ends: &Ends) {
    while let Ok(Some((pid, ended))) = wait(WaitOptions::NOHANG) {
        if pid == program {
            if let Some(notify) = &ends.notify {
                // The program is gone, but others that it made may go on sending: no more than a socket holds.
                (0..LAST_TURNS).for_each(|_| hand_on(notify));
            }
            let _ = rustix::io::write(ends.status, &ended.as_raw().to_ne_bytes());
            // SAFETY: ends the stub at once; its namespace ends with it.
            unsafe { libc::_exit(0) }
        }
    }
}

/// Hands on what waits in the socket. init reads the pipe as long as it lives, so a full one is waited for.
fn hand_on(notify: &NotifyEnds) {
    let mut datagram = [0u8; MAX_DATAGRAM_BYTES];
    for _ in 0..DATAGRAMS_PER_TURN {
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let Ok((_, length)) = recv(notify.socket, &mut datagram, flags) else {
            return;
        };
        // Of one that is too long only a part is here: it says nothing.
        let said = datagram.get(..length).map(notify::parse).unwrap_or_default();
        if !said.is_empty() {
            let _ = rustix::io::write(notify.signs, &[said.to_byte()]);
        }
    }
}
