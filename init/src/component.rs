//! One component as init holds it: its list entry, its supervisor, and what runs now.

use crate::boot::NOTIFY_DIRECTORY;
use crate::log::Log;
use holdfast_core::component::{Component, Readiness};
use holdfast_core::log_line::LineAssembler;
use holdfast_core::supervision::Supervisor;
use holdfast_core::wire;
use holdfast_linux::PathError;
use holdfast_linux::cgroup::Cgroup;
use holdfast_linux::channel::{self, NotifySocket};
use holdfast_linux::spawn::{self, Command, Pid, SpawnError};
use std::ffi::{CString, NulError};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A component and everything init keeps for it between its starts.
#[derive(Debug)]
pub(crate) struct Supervised {
    pub(crate) component: Component,
    pub(crate) supervisor: Supervisor,
    pub(crate) cgroup: Cgroup,
    pub(crate) notify: NotifySocket,
    pub(crate) lines: LineAssembler,
    pub(crate) running: Option<Running>,
}

/// What exists only while the component runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: Pid,
    /// `None` once the program has closed its end.
    pub(crate) output: Option<OwnedFd>,
    pub(crate) requests: Option<OwnedFd>,
}

/// Why a component was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot make a channel to it")]
    Channel(#[source] io::Error),
    #[error("cannot open {path} for it")]
    Open { path: String, source: io::Error },
    #[error("its program, arguments or environment hold a NUL")]
    Nul(#[from] NulError),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

impl Supervised {
    pub(crate) fn prepare(component: Component) -> Result<Self, PathError> {
        Ok(Self {
            supervisor: Supervisor::new(component.readiness, component.watchdog_ms),
            cgroup: Cgroup::create(&component.name)?,
            notify: NotifySocket::bind(
                Path::new(NOTIFY_DIRECTORY),
                &component.name,
                component.uid,
            )?,
            lines: LineAssembler::new(),
            running: None,
            component,
        })
    }

    /// Starts the program with what its list entry grants, and nothing else.
    pub(crate) fn start(&self) -> Result<Running, StartError> {
        let Component { entry_point, args, uid, capabilities, .. } = &self.component;
        let (output, output_child) = channel::output_pipe().map_err(StartError::Channel)?;
        let input = open("/dev/null", false)?;
        let mut devices = Vec::new();
        for path in &self.component.descriptors {
            devices.push(open(path, true)?);
        }
        let requests = if self.component.may_end_system {
            Some(channel::request_pair().map_err(StartError::Channel)?)
        } else {
            None
        };
        let mut descriptors: Vec<_> = devices.iter().map(AsFd::as_fd).collect();
        let mut environment = self.environment()?;
        if let Some((_, theirs)) = &requests {
            let number = descriptors.len().saturating_add(3);
            environment.push(CString::new(format!("{}={number}", wire::SOCKET_VARIABLE))?);
            descriptors.push(theirs.as_fd());
        }
        let mut arguments = vec![CString::new(entry_point.as_str())?];
        for argument in args {
            arguments.push(CString::new(argument.as_str())?);
        }
        let pid = spawn::spawn(&Command {
            program: CString::new(entry_point.as_str())?,
            arguments,
            environment,
            uid: *uid,
            capabilities,
            input: input.as_fd(),
            output: output_child.as_fd(),
            descriptors,
            cgroup: self.cgroup.directory().as_fd(),
        })?;
        Ok(Running { pid, output: Some(output), requests: requests.map(|(ours, _)| ours) })
    }

    /// The whole environment of the program: sd_notify(3)'s variables, and how many descriptors
    /// it was handed.
    fn environment(&self) -> Result<Vec<CString>, NulError> {
        let mut variables = vec![
            format!("NOTIFY_SOCKET={}", self.notify.path().display()),
            format!("LISTEN_FDS={}", self.component.descriptors.len()),
        ];
        if let Some(ms) = self.component.watchdog_ms {
            variables.push(format!("WATCHDOG_USEC={}", u64::from(ms).saturating_mul(1000)));
        }
        variables.into_iter().map(CString::new).collect()
    }

    /// Reads what the program printed, up to a page, and logs its finished lines.
    pub(crate) fn log_output(&mut self, log: &Log, now: u64) {
        let Some(running) = &mut self.running else {
            return;
        };
        let Some(output) = &running.output else {
            return;
        };
        let mut buffer = [0u8; 4096];
        let name = &self.component.name;
        match channel::read(output, &mut buffer) {
            // A closed pipe stays readable for ever: stop polling it.
            Ok(Some(0)) | Err(_) => running.output = None,
            Ok(Some(length)) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                self.lines.push(bytes, now, &mut |line| log.component(name, line));
            }
            Ok(None) => {}
        }
    }

    /// Logs what the program left unread, after its end. Bounded, as a pipe is.
    pub(crate) fn log_last_output(&mut self, log: &Log, now: u64) {
        const PAGES_IN_A_PIPE: usize = 16;
        for _ in 0..PAGES_IN_A_PIPE {
            self.log_output(log, now);
        }
        let name = &self.component.name;
        self.lines.flush(&mut |line| log.component(name, line));
    }

    /// True when readiness is something this component says, not something it is.
    pub(crate) fn reports_readiness(&self) -> bool {
        matches!(self.component.readiness, Readiness::Notify { .. })
    }
}

fn open(path: &str, writable: bool) -> Result<File, StartError> {
    OpenOptions::new()
        .read(true)
        .write(writable)
        .open(path)
        .map_err(|source| StartError::Open { path: path.to_owned(), source })
}
