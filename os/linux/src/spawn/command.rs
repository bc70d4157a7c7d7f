//! What is started, and with what.

use crate::channel::NotifyPath;
use crate::errno;
use crate::network_namespace::NetworkNamespace;
use crate::seccomp::Filters;
use holdfast_sandbox::policy::Plan;
use nix::unistd::execve;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::ffi::{CString, NulError};

/// A component to start.
#[derive(Debug)]
pub struct Command<'a> {
    /// Everything that it may do and is given.
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
    /// The socket and the pipe for its notifications, if it sends any.
    pub notify: Option<Notify<'a>>,
    /// System calls of the program and of the stub.
    pub filters: Filters<'a>,
    /// True where the process stops in front of its program until a debugger lets it go on. Whether the program itself can be
    /// executed is then not told.
    pub held: bool,
    /// Milliseconds until the program itself must run.
    pub within_ms: u64,
}

/// The way of a component's `sd_notify` datagrams: its stub receives them, and hands on what they say.
#[derive(Debug, Clone, Copy)]
pub struct Notify<'a> {
    /// The path that the stub binds its socket to.
    pub path: &'a NotifyPath,
    /// Pipe for one byte of each datagram: `holdfast_sandbox::notify::Notification::to_byte`.
    pub signs: BorrowedFd<'a>,
}

/// The strings of `execve`, ready before the first clone.
pub(super) struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    pub(super) fn new(command: &Command<'_>) -> Result<Self, NulError> {
        let path = CString::new(command.plan.program.as_str())?;
        let mut arguments = vec![path.clone()];
        for argument in &command.plan.args {
            arguments.push(CString::new(argument.as_str())?);
        }
        Ok(Self { path, arguments, environment: command.environment.clone() })
    }

    /// Replaces this process; returns only why it could not.
    pub(super) fn execute(&self) -> Errno {
        // It makes the two arrays of pointers that execve(2) wants. The allocator may be used here: the child is a copy of a
        // process with one thread, so nobody can have held its lock.
        let Err(error) = execve(&self.path, &self.arguments, &self.environment);
        errno::of_nix(error)
    }
}
