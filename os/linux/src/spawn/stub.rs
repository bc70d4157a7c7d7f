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
use super::descriptors::close_all_but;
use super::report::Report;
use super::step::{Refused, Step, at};
use crate::child::exit;
use crate::errno;
use holdfast_sandbox::notify::{self, MAX_DATAGRAM_BYTES};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use rustix::thread::{set_name, set_no_new_privs};

/// Datagrams that are heard before signals have their turn.
const DATAGRAMS_PER_TURN: usize = 8;
/// Turns that take all that a socket may hold (`net.unix.max_dgram_qlen`, 10, and one more).
const LAST_TURNS: usize = 2;

/// The descriptors of a stub.
#[derive(Debug)]
pub(super) struct Ends {
    status: OwnedFd,
    signals: SignalFd,
    notify: Option<NotifyEnds>,
}

/// The socket at which the program's datagrams come in, and the pipe that their bytes go to.
#[derive(Debug)]
struct NotifyEnds {
    socket: OwnedFd,
    signs: OwnedFd,
}

impl Ends {
    /// Opens what is the stub's own. Signals are blocked already.
    fn open(command: &Command<'_>, socket: Option<OwnedFd>) -> Result<Self, Errno> {
        let status = rustix::io::fcntl_dupfd_cloexec(command.status, 0)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&SigSet::all(), flags).map_err(errno::of_nix)?;
        let notify = match (socket, command.notify) {
            (Some(socket), Some(notify)) => {
                let signs = rustix::io::fcntl_dupfd_cloexec(notify.signs, 0)?;
                Some(NotifyEnds { socket, signs })
            }
            _ => None,
        };
        Ok(Self { status, signals, notify })
    }

    /// Closes all others but this one.
    fn close_others(&self, report: RawFd) -> Result<(), Errno> {
        let (status, signals) = (self.status.as_raw_fd(), self.signals.as_fd().as_raw_fd());
        match &self.notify {
            Some(NotifyEnds { socket, signs }) => {
                let (socket, signs) = (socket.as_raw_fd(), signs.as_raw_fd());
                close_all_but(&[report, status, signals, socket, signs])
            }
            None => close_all_but(&[report, status, signals]),
        }
    }
}

/// Blocks every signal, for [`live`] to read them.
pub(super) fn block_signals() -> Result<(), Errno> {
    SigSet::all().thread_set_mask().map_err(errno::of_nix)
}

/// Gives up everything but what is returned, and the report pipe, which is closed last: from then
/// on init knows that both processes are as they should be.
pub(super) fn confine(
    command: &Command<'_>,
    notify: Option<OwnedFd>,
    report: &mut Report,
) -> Result<Ends, Refused> {
    let ends = Ends::open(command, notify).map_err(at(Step::StubDescriptors))?;
    // The owners of all others are in frames that nobody returns to.
    let closed = report.number().and_then(|report| ends.close_others(report));
    closed.map_err(at(Step::StubDescriptors))?;
    let _ = set_name(c"stub");
    drop_privileges(command.uid, &[]).map_err(|(_, error)| (Step::StubPrivileges, error))?;
    set_no_new_privs(true).map_err(at(Step::StubPrivileges))?;
    command.filters.stub.apply().map_err(at(Step::StubSeccomp))?;
    report.close();
    Ok(ends)
}

/// Reaps, forwards and hands on until the program has ended, and reports its status.
pub(super) fn live(program: Pid, ends: &Ends) -> ! {
    loop {
        let signals = ends.signals.as_fd();
        let also = ends.notify.as_ref().map_or(signals, |notify| notify.socket.as_fd());
        let mut polled = [PollFd::new(&signals, PollFlags::IN), PollFd::new(&also, PollFlags::IN)];
        // Whatever it says, both are looked at without waiting.
        let _ = poll(&mut polled, None);
        // What the program has said comes before its end.
        if let Some(notify) = &ends.notify {
            hand_on(notify);
        }
        while let Some(number) = next_signal(&ends.signals) {
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
fn next_signal(signals: &SignalFd) -> Option<i32> {
    signals.read_signal().ok().flatten().map(|info| info.ssi_signo.cast_signed())
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
            let _ = rustix::io::write(&ends.status, &ended.as_raw().to_ne_bytes());
            // Its namespace ends with it, and with that whatever the program has left behind (pid_namespaces(7)).
            exit(0)
        }
    }
}

/// Hands on what waits in the socket. init reads the pipe as long as it lives, so a full one is waited for.
fn hand_on(notify: &NotifyEnds) {
    let mut datagram = [0u8; MAX_DATAGRAM_BYTES];
    for _ in 0..DATAGRAMS_PER_TURN {
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let Ok((_, length)) = recv(&notify.socket, &mut datagram, flags) else {
            return;
        };
        // Of one that is too long only a part is here: it says nothing.
        let said = datagram.get(..length).map(notify::parse).unwrap_or_default();
        if !said.is_empty() {
            let _ = rustix::io::write(&notify.signs, &[said.to_byte()]);
        }
    }
}
