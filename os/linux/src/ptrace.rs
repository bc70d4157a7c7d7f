//! Tracing another component's threads (ptrace(2)), for the debug service of development images.
//!
//! A tracee is seized, never attached to: it goes on until it is interrupted, and no signal is made up for it.

use rustix::process::Pid;
use std::io;
use std::mem::size_of;

/// General registers of a thread, as ARM's `struct pt_regs` has them: r0 to r15, cpsr, and r0 as it was before a
/// system call.
pub type Registers = [u32; 18];

/// What the kernel tells of a traced thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is gone, with this exit code.
    Exited(i32),
    /// It is gone, by this signal.
    Killed(i32),
    /// It has stopped because it is about to get this signal.
    Signal(i32),
    /// It has stopped in front of its new program's first instruction.
    Executed,
    /// It has stopped because it was interrupted, because its process is stopped, or as a new thread.
    Halted,
    /// It has stopped because it has made a thread, which is traced as well.
    Cloned,
}

const WORD: usize = size_of::<usize>();
/// The register set of general registers (`NT_PRSTATUS`, elf.h).
const GENERAL_REGISTERS: usize = 1;

/// A request whose address and data are plain numbers: it touches no memory of this process.
#[derive(Debug, Clone, Copy)]
enum Plain {
    Seize,
    Interrupt,
    Continue,
    Detach,
    /// Writes a word of the traced process.
    PokeData,
}

impl Plain {
    fn number(self) -> libc::c_long {
        libc::c_long::from(match self {
            Self::Seize => libc::PTRACE_SEIZE,
            Self::Interrupt => libc::PTRACE_INTERRUPT,
            Self::Continue => libc::PTRACE_CONT,
            Self::Detach => libc::PTRACE_DETACH,
            Self::PokeData => libc::PTRACE_POKEDATA,
        })
    }
}

/// Any request.
///
/// # Safety
/// `data` is a plain number for the request, or leads to memory of this process that outlives the call and is as large
/// as what the request has the kernel read or write there.
unsafe fn request(
    request: libc::c_long,
    thread: Pid,
    address: usize,
    data: usize,
) -> io::Result<()> {
    // SAFETY: as the caller has seen to.
    let result = unsafe {
        libc::syscall(libc::SYS_ptrace, request, thread.as_raw_nonzero().get(), address, data)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn plain(of: Plain, thread: Pid, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: such a request takes `data` as a number.
    unsafe { request(of.number(), thread, address, data) }
}

/// Traces a thread from now on, and every thread that it makes.
///
/// # Errors
/// There is no such thread, or it may not be traced.
pub fn seize(thread: Pid) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACEEXEC | libc::PTRACE_O_TRACECLONE;
    let options = usize::try_from(options).unwrap_or_default();
    plain(Plain::Seize, thread, 0, options)
}

/// Has a running thread stop; [`wait`] tells when it has.
///
/// # Errors
/// It is not traced, or on its way out.
pub fn interrupt(thread: Pid) -> io::Result<()> {
    plain(Plain::Interrupt, thread, 0, 0)
}

/// Lets a stopped thread go on, with a signal or, for 0, without one; see [`release`].
///
/// # Errors
/// It is not stopped, or gone.
pub fn resume(thread: Pid, signal: i32) -> io::Result<()> {
    plain(Plain::Continue, thread, 0, usize::try_from(signal).unwrap_or_default())
}

/// Traces a stopped thread no more and lets it go on, with a signal or, for 0, without one. The kernel may drop a
/// signal for a thread that was not stopped by one (ptrace(2)).
///
/// # Errors
/// It is not stopped, or gone.
pub fn release(thread: Pid, signal: i32) -> io::Result<()> {
    plain(Plain::Detach, thread, 0, usize::try_from(signal).unwrap_or_default())
}

/// The registers of a stopped thread.
///
/// # Errors
/// It is not stopped, or gone.
pub fn registers(thread: Pid) -> io::Result<Registers> {
    let mut registers = Registers::default();
    let mut vector =
        libc::iovec { iov_base: (&raw mut registers).cast(), iov_len: size_of::<Registers>() };
    let at = (&raw mut vector).expose_provenance();
    // SAFETY: `at` leads to the vector, and the kernel writes into `registers` no more than that says; both outlive
    // the call.
    unsafe { request(libc::PTRACE_GETREGSET.into(), thread, GENERAL_REGISTERS, at)? };
    Ok(registers)
}

/// Sets the registers of a stopped thread.
///
/// # Errors
/// It is not stopped, or gone, or the kernel refuses the processor's mode.
pub fn set_registers(thread: Pid, registers: &Registers) -> io::Result<()> {
    let mut registers = *registers;
    let mut vector =
        libc::iovec { iov_base: (&raw mut registers).cast(), iov_len: size_of::<Registers>() };
    let at = (&raw mut vector).expose_provenance();
    // SAFETY: `at` leads to the vector, and the kernel reads of `registers` no more than that says; both outlive the
    // call.
    unsafe { request(libc::PTRACE_SETREGSET.into(), thread, GENERAL_REGISTERS, at) }
}

/// Reads memory of a stopped thread's process, as much as can be read; how much is returned.
///
/// # Errors
/// Nothing can be read there.
pub fn read_memory(thread: Pid, address: usize, bytes: &mut [u8]) -> io::Result<usize> {
    let mut read = 0usize;
    while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
        let (word_at, offset) = word_of(address.wrapping_add(read));
        let word = match peek(thread, word_at) {
            Ok(word) => word.to_ne_bytes(),
            Err(error) if read == 0 => return Err(error),
            Err(_) => break,
        };
        let source = word.get(offset..).unwrap_or_default();
        let count = source.len().min(rest.len());
        for (to, from) in rest.iter_mut().zip(source) {
            *to = *from;
        }
        read = read.saturating_add(count);
    }
    Ok(read)
}

/// Writes memory of a stopped thread's process, its code too.
///
/// # Errors
/// Something of it cannot be written; what is before that then was.
pub fn write_memory(thread: Pid, address: usize, bytes: &[u8]) -> io::Result<()> {
    let mut written = 0usize;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        let (word_at, offset) = word_of(address.wrapping_add(written));
        let mut word = peek(thread, word_at)?.to_ne_bytes();
        let target = word.get_mut(offset..).unwrap_or_default();
        let count = target.len().min(rest.len());
        for (to, from) in target.iter_mut().zip(rest) {
            *to = *from;
        }
        plain(Plain::PokeData, thread, word_at, usize::from_ne_bytes(word))?;
        written = written.saturating_add(count);
    }
    Ok(())
}

/// The word that an address lies in, and where in it.
fn word_of(address: usize) -> (usize, usize) {
    let offset = address % WORD;
    (address.wrapping_sub(offset), offset)
}

fn peek(thread: Pid, address: usize) -> io::Result<usize> {
    let mut word = 0usize;
    let at = (&raw mut word).expose_provenance();
    // SAFETY: the system call, unlike the C library's function, stores one word where `data` points: in `word`, which
    // outlives it.
    unsafe { request(libc::PTRACE_PEEKDATA.into(), thread, address, at)? };
    Ok(word)
}

/// What has happened to this traced thread, or to any; `None` when nothing has and `block` is false, or nothing
/// is traced.
///
/// # Errors
/// The kernel refuses for another reason.
pub fn wait(thread: Option<Pid>, block: bool) -> io::Result<Option<(Pid, Event)>> {
    let flags = if block { libc::__WALL } else { libc::__WALL | libc::WNOHANG };
    let thread = thread.map_or(-1, |thread| thread.as_raw_nonzero().get());
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let found = unsafe { libc::waitpid(thread, &raw mut status, flags) };
        if found < 0 {
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::ECHILD) => return Ok(None),
                _ => return Err(error),
            }
        }
        return Ok(Pid::from_raw(found).map(|thread| (thread, event(status))));
    }
}

/// A status of waitpid(2) for a traced thread.
fn event(status: i32) -> Event {
    if libc::WIFEXITED(status) {
        return Event::Exited(libc::WEXITSTATUS(status));
    }
    if libc::WIFSIGNALED(status) {
        return Event::Killed(libc::WTERMSIG(status));
    }
    match status >> 16 {
        0 => Event::Signal(libc::WSTOPSIG(status)),
        libc::PTRACE_EVENT_EXEC => Event::Executed,
        libc::PTRACE_EVENT_CLONE => Event::Cloned,
        // PTRACE_EVENT_STOP, which the C libraries do not name; no other one was asked for.
        _ => Event::Halted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn statuses_are_told_apart() {
        let stopped = |event: i32, signal: i32| (event << 16) | (signal << 8) | 0x7f;
        assert_eq!(event(7 << 8), Event::Exited(7));
        assert_eq!(event(libc::SIGSEGV), Event::Killed(libc::SIGSEGV));
        assert_eq!(event(stopped(0, libc::SIGTRAP)), Event::Signal(libc::SIGTRAP));
        assert_eq!(event(stopped(libc::PTRACE_EVENT_EXEC, libc::SIGTRAP)), Event::Executed);
        assert_eq!(event(stopped(libc::PTRACE_EVENT_CLONE, libc::SIGTRAP)), Event::Cloned);
        assert_eq!(event(stopped(128, libc::SIGSTOP)), Event::Halted);
    }

    #[test]
    fn a_process_is_stopped_looked_at_and_let_go() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        seize(pid).unwrap();
        interrupt(pid).unwrap();
        // It may have stopped before its program ran.
        assert!(matches!(wait(Some(pid), true).unwrap(), Some((of, _)) if of == pid));
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap();
        let code = maps.lines().find(|line| line.contains("r-xp")).unwrap();
        let start = usize::from_str_radix(code.split('-').next().unwrap(), 16).unwrap();
        let mut bytes = [0u8; 11];
        assert_eq!(read_memory(pid, start.wrapping_add(3), &mut bytes).unwrap(), 11);
        // Code that nobody could write otherwise, at an odd place, and only that.
        write_memory(pid, start.wrapping_add(5), b"abc").unwrap();
        let mut changed = [0u8; 11];
        read_memory(pid, start.wrapping_add(3), &mut changed).unwrap();
        bytes[2..5].copy_from_slice(b"abc");
        assert_eq!(changed, bytes);
        assert!(read_memory(pid, 16, &mut bytes).is_err());
        release(pid, 0).unwrap();
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
    }
}
