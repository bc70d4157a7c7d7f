//! The symbol worker: this program in a process that reads one file, computes, writes one answer and ends.
//!
//! Before it reads the first byte it gives up what it will not need: memory and time beyond its limits, every new descriptor, and every
//! system call but [those](ALLOWED) of a program that computes. The kernel ends it for any other. So whoever finds a fault in what reads
//! DWARF gets a process without files, sockets and programs, which is gone within seconds.

use holdfast_service_api::symbolizer::Limits;
use holdfast_service_domain::symbols::MAX_SYMBOLS_BYTES;
use holdfast_service_symbols::{answer, program};
use rustix::process::{Resource, Rlimit, getpid, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::io::{self, Read, Write};
use std::process::ExitCode;
use thiserror::Error;

/// A condition on an argument of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    /// Whatever the arguments are.
    Always,
    /// With this first argument.
    First(u64),
    /// With the process's own id as the first argument.
    Own,
    /// With memory that is not executable, as the third argument says.
    NotExecutable,
}

/// `PROT_EXEC` of mmap(2).
const EXECUTABLE: u64 = 4;

/// The system calls of a worker. Nothing is opened, connected, executed, or begun.
pub const ALLOWED: [(i64, Only); 22] = [
    // What it is asked and what it answers; a panic's message goes to descriptor 2.
    (libc::SYS_read, Only::First(0)),
    (libc::SYS_write, Only::First(1)),
    (libc::SYS_write, Only::First(2)),
    // Memory.
    (libc::SYS_brk, Only::Always),
    (libc::SYS_mmap, Only::NotExecutable),
    (libc::SYS_mprotect, Only::NotExecutable),
    (libc::SYS_mremap, Only::Always),
    (libc::SYS_munmap, Only::Always),
    (libc::SYS_madvise, Only::Always),
    // What std and libc ask of the system beside that.
    (libc::SYS_futex, Only::Always),
    (libc::SYS_getrandom, Only::Always),
    (libc::SYS_clock_gettime, Only::Always),
    (libc::SYS_getpid, Only::Always),
    (libc::SYS_gettid, Only::Always),
    // The end: of its own accord, or by abort(3).
    (libc::SYS_rt_sigprocmask, Only::Always),
    (libc::SYS_rt_sigaction, Only::Always),
    (libc::SYS_rt_sigreturn, Only::Always),
    (libc::SYS_sigaltstack, Only::Always),
    (libc::SYS_sched_yield, Only::Always),
    (libc::SYS_tgkill, Only::Own),
    (libc::SYS_exit, Only::Always),
    (libc::SYS_exit_group, Only::Always),
];

/// Why a worker does not begin.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// A limit cannot be set.
    #[error("cannot limit {0}")]
    Limit(&'static str, #[source] io::Error),
    /// The list of system calls cannot be made a filter.
    #[error("cannot make the filter of system calls")]
    Filter(#[source] seccompiler::BackendError),
    /// The filter is refused.
    #[error("cannot apply the filter of system calls")]
    Apply(#[source] seccompiler::Error),
    /// What is asked cannot be read.
    #[error("cannot read the file")]
    Read(#[source] io::Error),
    /// The answer cannot be written.
    #[error("cannot write the answer")]
    Write(#[source] io::Error),
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let equal = |argument, length, value| {
        let condition = SeccompCondition::new(argument, length, SeccompCmpOp::Eq, value)?;
        SeccompRule::new(vec![condition])
    };
    let own = u64::from(getpid().as_raw_nonzero().get().unsigned_abs());
    let mut rules = std::collections::BTreeMap::<i64, Vec<SeccompRule>>::new();
    for (number, only) in ALLOWED {
        let alternatives = rules.entry(number).or_default();
        match only {
            Only::Always => {}
            Only::First(value) => {
                alternatives.push(equal(0, SeccompCmpArgLen::Dword, value)?);
            }
            Only::Own => alternatives.push(equal(0, SeccompCmpArgLen::Dword, own)?),
            Only::NotExecutable => {
                let without = SeccompCmpOp::MaskedEq(EXECUTABLE);
                let condition = SeccompCondition::new(2, SeccompCmpArgLen::Qword, without, 0)?;
                alternatives.push(SeccompRule::new(vec![condition])?);
            }
        }
    }
    let architecture = std::env::consts::ARCH.try_into()?;
    let (otherwise, on_match) = (SeccompAction::KillProcess, SeccompAction::Allow);
    SeccompFilter::new(rules, otherwise, on_match, architecture)?.try_into()
}

/// Gives up what a worker does not need, for good.
///
/// # Errors
/// The kernel refuses a limit or the filter; nothing may be read then.
pub fn confine(limits: Limits) -> Result<(), WorkerError> {
    let set = |what, resource, most| {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        setrlimit(resource, limit).map_err(|error| WorkerError::Limit(what, error.into()))
    };
    let filter = filter().map_err(WorkerError::Filter)?;
    set("memory", Resource::As, limits.memory_mib.saturating_mul(1024 * 1024))?;
    set("time", Resource::Cpu, limits.seconds)?;
    set("files", Resource::Fsize, 0)?;
    set("descriptors", Resource::Nofile, 0)?;
    set("core files", Resource::Core, 0)?;
    seccompiler::apply_filter(&filter).map_err(WorkerError::Apply)
}

/// Does the job of a worker: reads a program's file from standard input, and writes what it knows of the addresses to standard output.
///
/// # Errors
/// It cannot be confined, read or written. That the file is none of a program with symbols is an answer.
pub fn run(limits: Limits, addresses: &[u64]) -> Result<ExitCode, WorkerError> {
    confine(limits)?;
    let most = u64::try_from(MAX_SYMBOLS_BYTES).unwrap_or(u64::MAX);
    let mut file = Vec::new();
    io::stdin().lock().take(most).read_to_end(&mut file).map_err(WorkerError::Read)?;
    let answer = answer::write(&program::names(&file, addresses));
    let answer = answer.map_err(|error| WorkerError::Write(error.into()))?;
    let mut output = io::stdout().lock();
    output.write_all(&answer).and_then(|()| output.flush()).map_err(WorkerError::Write)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list that can be read at a glance: whoever makes it longer meets this.
    #[test]
    fn a_worker_has_no_call_that_opens_connects_executes_or_begins() {
        let refused = [
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_kill,
            libc::SYS_ptrace,
            libc::SYS_process_vm_writev,
            libc::SYS_memfd_create,
            libc::SYS_unlinkat,
            libc::SYS_ioctl,
            libc::SYS_prctl,
            libc::SYS_io_uring_setup,
            libc::SYS_bpf,
        ];
        for number in refused {
            assert!(!ALLOWED.iter().any(|(allowed, _)| *allowed == number), "{number}");
        }
        assert!(filter().is_ok_and(|program| !program.is_empty()), "the control");
    }
}
