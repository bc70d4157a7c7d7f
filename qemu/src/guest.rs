//! A guest: a machine that runs, and how it is waited for and commanded.

use crate::HarnessError;
use crate::console::Console;
use crate::debugger::Debugger;
use crate::machine::{DEBUG_SOCKET, SERIAL_LINE, WRITE_LOG};
use crate::peer::Peer;
use crate::probe::Probe;
use crate::process::{Process, START_WITHIN};
use crate::qmp::Qmp;
use crate::tpm::RunningTpm;
use crate::write_log::{self, Step};
use regex::Regex;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{ChildStdin, ExitStatus};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running guest. Dropping it ends it and deletes its disk.
#[derive(Debug)]
pub struct Guest {
    /// What it prints.
    pub console: Console,
    /// Where in the console the next [`wait`](Self::wait) begins.
    pub(crate) position: usize,
    /// QEMU's control socket.
    pub qmp: Qmp,
    /// The line to the probe; silent in images without one.
    pub probe: Probe,
    pub(crate) keyboard: Option<ChildStdin>,
    pub(crate) process: Process,
    /// Ends behind QEMU, which would complain.
    pub(crate) tpm: Option<RunningTpm>,
    pub(crate) directory: TempDir,
    /// What it is plugged into, for a machine with such a network.
    pub(crate) peer: Option<Peer>,
    /// How many times longer it may take than deadlines say: its model's patience and that of the settings.
    pub(crate) patience: u32,
}

impl Guest {
    /// What its network device is plugged into.
    ///
    /// # Errors
    /// The machine has no such network.
    pub fn peer(&self) -> Result<&Peer, HarnessError> {
        self.peer.as_ref().ok_or(HarnessError::Qmp("the machine has no peer".to_owned()))
    }

    /// A deadline of a test's own loop, multiplied as those of the guest's waits are.
    #[must_use]
    pub fn scaled(&self, within: Duration) -> Duration {
        within.saturating_mul(self.patience)
    }

    /// Plugs the cable in or pulls it.
    ///
    /// # Errors
    /// There is no network device.
    pub fn plug(&mut self, in_place: bool) -> Result<(), HarnessError> {
        let arguments = serde_json::json!({ "name": "net0", "up": in_place });
        self.qmp.execute("set_link", &arguments).map(drop)
    }

    /// Waits until the console shows `pattern`, behind what earlier waits have found.
    ///
    /// # Errors
    /// The time ran out, or the guest ended; either with the console's tail.
    pub fn wait(&mut self, pattern: &str, within: Duration) -> Result<String, HarnessError> {
        let regex = Regex::new(pattern).map_err(|error| HarnessError::Qmp(error.to_string()))?;
        let within = self.scaled(within);
        let (found, end) = self.console.wait_from(self.position, &regex, within)?;
        self.position = end;
        Ok(found)
    }

    /// Waits until the console shows `pattern`, wherever earlier waits have ended.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn wait_anywhere(
        &mut self,
        pattern: &str,
        within: Duration,
    ) -> Result<String, HarnessError> {
        let regex = Regex::new(pattern).map_err(|error| HarnessError::Qmp(error.to_string()))?;
        let within = self.scaled(within);
        self.console.wait_from(0, &regex, within).map(|(found, _)| found)
    }

    /// Makes the kernel hang, deaf to every interrupt; for a machine with one processor.
    ///
    /// # Errors
    /// The debugger refuses.
    pub fn hang_kernel(&mut self) -> Result<(), HarnessError> {
        let path = self.directory.path().join("debugger");
        Debugger::connect(&path, self.patience)?.hang_kernel()
    }

    /// Types on the console.
    ///
    /// # Errors
    /// QEMU does not take it.
    pub fn press(&mut self, keys: &[u8]) -> Result<(), HarnessError> {
        let keyboard = self.keyboard.as_mut();
        keyboard
            .map_or(Ok(()), |keyboard| keyboard.write_all(keys).and_then(|()| keyboard.flush()))
            .map_err(|source| HarnessError::File {
                operation: "type on",
                path: PathBuf::from("the console"),
                source,
            })
    }

    /// Waits until the machine resets itself.
    ///
    /// # Errors
    /// It did not in time.
    pub fn wait_reset(&mut self, within: Duration) -> Result<(), HarnessError> {
        let within = self.scaled(within);
        if self.qmp.wait_event("RESET", within)? {
            return Ok(());
        }
        let waited_for = "a reset".to_owned();
        Err(HarnessError::Timeout { waited_for, within, tail: self.console.tail() })
    }

    /// Waits until QEMU ends by itself.
    ///
    /// # Errors
    /// It did not in time.
    pub fn wait_end(&mut self, within: Duration) -> Result<ExitStatus, HarnessError> {
        let within = self.scaled(within);
        let deadline = Instant::now().checked_add(within);
        loop {
            let ended = self.process.try_wait();
            if let Ok(Some(status)) = ended {
                return Ok(status);
            }
            if deadline.is_some_and(|at| Instant::now() >= at) {
                let waited_for = "the guest's end".to_owned();
                return Err(HarnessError::Timeout {
                    waited_for,
                    within,
                    tail: self.console.tail(),
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends QEMU at once, as a cut of power would, and gives what the guest has written; the machine
    /// must [log writes](crate::machine::Machine::log_writes).
    ///
    /// # Errors
    /// QEMU does not end, or the log is damaged.
    pub fn written(&mut self) -> Result<Vec<Step>, HarnessError> {
        let _ = self.qmp.execute("quit", &serde_json::json!({}))?;
        self.wait_end(START_WITHIN)?;
        write_log::read(&self.directory.path().join(WRITE_LOG))
    }

    /// The other end of the serial line that apps can be granted, on a machine that has one: `$UART3` of the
    /// Orange Pi PC.
    ///
    /// # Errors
    /// There is none.
    pub fn serial_line(&self) -> Result<UnixStream, HarnessError> {
        let path = self.directory.path().join(SERIAL_LINE);
        UnixStream::connect(&path).map_err(|source| HarnessError::File {
            operation: "connect to",
            path,
            source,
        })
    }

    /// The UNIX socket for an app's debugger, on a machine whose debug line is a
    /// [socket](crate::machine::DebugLine::Socket).
    #[must_use]
    pub fn debug_socket(&self) -> PathBuf {
        self.directory.path().join(DEBUG_SOCKET)
    }

    /// Codes of the commands that the guest has sent to its TPM since that was reset last. Only one with a
    /// [fault](crate::tpm::Tpm::fault) knows them.
    #[must_use]
    pub fn tpm_commands(&self) -> Vec<u32> {
        self.tpm.as_ref().map(RunningTpm::commands).unwrap_or_default()
    }

    /// The guest's disk.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.directory.path().join("disk.img")
    }
}
