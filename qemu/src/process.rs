//! Processes that do not outlive the harness: QEMU, the TPM, and what a guest talks to.

use crate::HarnessError;
use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Waits for the end of its standard input, which only the harness holds, and kills the process whose number
/// it is given.
const GUARD: &str = "read -r _; kill -s KILL \"$0\"";
const SHELL: &str = "sh";
/// Time for a process to open its sockets.
pub(crate) const START_WITHIN: Duration = Duration::from_secs(60);

/// A process that ends when this is dropped, and also when the harness is killed and drops nothing.
#[derive(Debug)]
pub struct Process {
    child: Child,
    guard: Child,
}

impl Process {
    /// Takes over a process that has just been started.
    ///
    /// # Errors
    /// The guard cannot be started.
    pub fn new(mut child: Child) -> Result<Self, HarnessError> {
        // Not the kernel's signal at a parent's death: it comes when the thread that started QEMU ends.
        let guard = Command::new(SHELL)
            .args(["-c", GUARD, &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match guard {
            Ok(guard) => Ok(Self { child, guard }),
            Err(source) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(HarnessError::Start { program: SHELL.to_owned(), source })
            }
        }
    }

    /// Returns its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it has ended, if it has.
    ///
    /// # Errors
    /// The system does not say.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let ended = self.child.try_wait()?;
        if ended.is_some() {
            self.dismiss_guard();
        }
        Ok(ended)
    }

    /// Its number may be another process's from now on.
    fn dismiss_guard(&mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.dismiss_guard();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_process_ends_with_the_harness() {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let mut process = Process::new(child).unwrap();
        assert_eq!(process.try_wait().unwrap(), None);
        // As the system does when the harness is killed.
        drop(process.guard.stdin.take());
        assert_eq!(process.child.wait().unwrap().signal(), Some(9));
    }
}
