//! A server that runs on this host beside guests, and what it logs.

use anyhow::{Context, Result};
use holdfast_qemu::console::Console;
use holdfast_qemu::process::Process;
use std::process::{Command, Stdio};

/// A process with its log, until it is dropped.
pub(crate) struct Server {
    _process: Process,
    pub(crate) log: Console,
}

impl Server {
    /// Starts a program that logs on its standard error.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let stderr = child.stderr.take().context("the server has no output")?;
        Ok(Self { _process: Process::new(child)?, log: Console::collect(stderr, None) })
    }
}
