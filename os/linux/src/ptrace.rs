//! Tracing another component's threads (ptrace(2)), for the debug service of development images.
//!
//! A tracee is seized, never attached to: it goes on until it is interrupted, and no signal is made up for it.

use nix::sys::ptrace::{self, AddressType, Options};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};
use std::io;
use std::mem::size_of;

/// General registers of a thread, as ARM's `struct pt_regs` has them: r0 to r15, cpsr, and r0 as it was before a
/// system call.
pub type Registers = [u32; 18];

/// A change of a traced thread's state, as the kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The thread is gone, with this exit code.
    Exited(i32),
    /// The thread is gone, by this signal.
    Killed(i32),
    /// The thread has stopped because it is about to get this signal.
    Signal(i32),
    /// The thread has stopped in front of its new program's first instruction.
    Executed,
    /// The thread has stopped because it was interrupted, because its process is stopped, or as a new thread.
    Halted,
    /// The thread has stopped because it has made another, which is traced as well.
    Cloned,
}

const WORD: usize = size_of::<usize>();
/// The register set of general registers (`NT_PRSTATUS`, elf.h).
const GENERAL_REGISTERS: usize = 1;

/// A request that nix has in no form that serves: it names no signal from 32 on, which a thread may be stopped by all the
/// same, and no registers of 32-bit ARM.
#[derive(Debug)]
enum Request<'a> {
    Continue { signal: i32 },
    Detach { signal: i32 },
    GetRegisters(&'a mut Registers),
    SetRegisters(&'a mut Registers),
}

fn request(thread: Pid, request: Request<'_>) -> io::Result<()> {
    let mut vector =
        libc::iovec { iov_base: std::ptr::null_mut(), iov_len: size_of::<Registers>() };
    let mut with = |registers: &mut Registers| {
        vector.iov_base = std::ptr::from_mut(registers).cast();
        (&raw mut vector).expose_provenance()
    };
    let number = |signal| usize::try_from(signal).unwrap_or_default();
    let (request, address, data) = match request {
        Request::Continue { signal } => (libc::PTRACE_CONT, 0, number(signal)),
        Request::Detach { signal } => (libc::PTRACE_DETACH, 0, number(signal)),
        Request::GetRegisters(into) => (libc::PTRACE_GETREGSET, GENERAL_REGISTERS, with(into)),
        Request::SetRegisters(from) => (libc::PTRACE_SETREGSET, GENERAL_REGISTERS, with(from)),
    };
    let (request, thread) = (libc::c_long::from(request), thread.as_raw_nonzero().get());
    // SAFETY: for the first two `data` is a plain number. For the others it leads to `vector`, and the kernel reads or
    // writes of the registers, which are borrowed for this call and have no padding, no more than that says.
    let result = unsafe { libc::syscall(libc::SYS_ptrace, request, thread, address, data) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The thread's number as nix has it.
fn of_nix(thread: Pid) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(thread.as_raw_nonzero().get())
}

/// Traces a thread from now on, and every thread that it makes.
///
/// # Errors
/// There is no such thread, or it may not be traced.
pub fn seize(thread: Pid) -> io::Result<()> {
    // CLONE: a new thread is traced before its first instruction, so that it runs past no breakpoint. EXEC: what is known
    // of the old program's memory says nothing of the new one's (ptrace(2)).
    let options = Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_TRACECLONE;
    Ok(ptrace::seize(of_nix(thread), options)?)
}

/// Has a running thread stop; [`wait`] tells when it has.
///
/// # Errors
/// The thread is not traced, or on its way out.
pub fn interrupt(thread: Pid) -> io::Result<()> {
    Ok(ptrace::interrupt(of_nix(thread))?)
}

/// Lets a stopped thread go on, with a signal or, for 0, without one; see [`release`].
///
/// # Errors
/// The thread is not stopped, or gone.
pub fn resume(thread: Pid, signal: i32) -> io::Result<()> {
    request(thread, Request::Continue { signal })
}

/// Traces a stopped thread no more and lets it go on, with a signal or, for 0, without one. The kernel may drop a
/// signal for a thread that was not stopped by one (ptrace(2)).
///
/// # Errors
/// The thread is not stopped, or gone.
pub fn release(thread: Pid, signal: i32) -> io::Result<()> {
    request(thread, Request::Detach { signal })
}

/// The registers of a stopped thread.
///
/// # Errors
/// The thread is not stopped, or gone.
pub fn registers(thread: Pid) -> io::Result<Registers> {
    let mut registers = Registers::default();
    request(thread, Request::GetRegisters(&mut registers))?;
    Ok(registers)
}

/// Sets the registers of a stopped thread.
///
/// # Errors
/// The thread is not stopped, or gone, or the kernel refuses the processor's mode.
pub fn set_registers(thread: Pid, registers: &Registers) -> io::Result<()> {
    let mut registers = *registers;
    request(thread, Request::SetRegisters(&mut registers))
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
    // By PTRACE_POKEDATA, which writes into a copy of pages that the process itself may not write; process_vm_writev(2)
    // keeps to their protection, and no breakpoint could be set in code.
    let mut written = 0usize;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        let (word_at, offset) = word_of(address.wrapping_add(written));
        // ptrace(2) knows whole words alone: the bytes beside those that are meant go back as they came.
        let mut word = peek(thread, word_at)?.to_ne_bytes();
        let target = word.get_mut(offset..).unwrap_or_default();
        let count = target.len().min(rest.len());
        for (to, from) in target.iter_mut().zip(rest) {
            *to = *from;
        }
        ptrace::write(of_nix(thread), pointer(word_at), libc::c_long::from_ne_bytes(word))?;
        written = written.saturating_add(count);
    }
    Ok(())
}

/// The word that an address lies in, and where in it.
fn word_of(address: usize) -> (usize, usize) {
    let offset = address % WORD;
    (address.wrapping_sub(offset), offset)
}

/// One word of the traced process.
fn peek(thread: Pid, address: usize) -> io::Result<libc::c_long> {
    Ok(ptrace::read(of_nix(thread), pointer(address))?)
}

/// An address of the traced process, which is never followed in this one.
fn pointer(address: usize) -> AddressType {
    std::ptr::without_provenance_mut(address)
}

/// Returns what has happened to this traced thread, or to any; `None` when nothing has and `block` is false, or nothing
/// is traced.
///
/// # Errors
/// The kernel refuses for another reason.
pub fn wait(thread: Option<Pid>, block: bool) -> io::Result<Option<(Pid, Event)>> {
    // Threads that are no leaders are waited for by this flag alone (ptrace(2)). rustix has no name for it, and nix loses
    // what it tells of a signal that it has no name for.
    let mut options = WaitOptions::from_bits_retain(libc::__WALL.cast_unsigned());
    options.set(WaitOptions::NOHANG, !block);
    loop {
        let found = match thread {
            Some(thread) => rustix::process::waitpid(Some(thread), options),
            None => rustix::process::wait(options),
        };
        match found {
            Ok(found) => return Ok(found.map(|(thread, status)| (thread, event(status.as_raw())))),
            Err(Errno::CHILD) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
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
    use nix::sys::wait::WaitStatus;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};

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

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap()
    }

    /// Real-time signals have numbers only, as the ones by which a C library cancels its threads.
    #[test]
    fn a_signal_without_a_name_is_told_and_passed_on() {
        const NUMBER: i32 = 40;
        let mut child = sleeper();
        let pid = Pid::from_child(&child);
        seize(pid).unwrap();
        let send = |number: i32| {
            let (number, id) = (format!("-{number}"), child.id().to_string());
            assert!(Command::new("kill").args([number, id]).status().unwrap().success());
        };
        send(NUMBER);
        let mut told = wait(Some(pid), true).unwrap();
        // It may first have stopped where its program begins.
        while told == Some((pid, Event::Executed)) {
            resume(pid, 0).unwrap();
            told = wait(Some(pid), true).unwrap();
        }
        assert_eq!(told, Some((pid, Event::Signal(NUMBER))));
        // Without it the process goes on, and with it, it ends.
        resume(pid, 0).unwrap();
        assert_eq!(wait(Some(pid), false).unwrap(), None);
        send(NUMBER);
        assert_eq!(wait(Some(pid), true).unwrap(), Some((pid, Event::Signal(NUMBER))));
        release(pid, NUMBER).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(NUMBER));
        // Why the status does not come by nix: it has no word for such a one.
        let status = (NUMBER << 8) | 0x7f;
        assert_eq!(WaitStatus::from_raw(of_nix(pid), status), Err(nix::errno::Errno::EINVAL));
    }

    #[test]
    fn a_process_is_stopped_looked_at_and_let_go() {
        let mut child = sleeper();
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
