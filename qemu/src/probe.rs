//! The harness's end of the probe line.
//!
//! The probe is a component that exists only in test images. It reads one command a line and
//! answers `ok TEXT` or `error TEXT`, TEXT with `\n` for a line break.

use crate::HarnessError;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The line to the probe.
#[derive(Debug)]
pub struct Probe {
    stream: BufReader<UnixStream>,
}

impl Probe {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Sends a command that may leave the probe no time to answer, such as `reboot`.
    ///
    /// # Errors
    /// The line is closed.
    pub fn tell(&mut self, command: &str) -> Result<(), HarnessError> {
        writeln!(self.stream.get_mut(), "{command}").map_err(|error| HarnessError::Probe {
            command: command.to_owned(),
            answer: error.to_string(),
        })
    }

    /// Sends a command and returns the text of its answer.
    ///
    /// # Errors
    /// The probe reports an error or does not answer in time.
    pub fn ask(&mut self, command: &str, within: Duration) -> Result<String, HarnessError> {
        let failed = |answer: String| HarnessError::Probe { command: command.to_owned(), answer };
        self.tell(command)?;
        let deadline = Instant::now().checked_add(within);
        let mut line = String::new();
        loop {
            let left = deadline
                .map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
                .max(Duration::from_millis(1));
            self.stream
                .get_ref()
                .set_read_timeout(Some(left))
                .map_err(|error| failed(error.to_string()))?;
            match self.stream.read_line(&mut line) {
                Ok(0) => return Err(failed("(closed)".to_owned())),
                Ok(_) if line.ends_with('\n') => break,
                Ok(_) => {}
                Err(error) => return Err(failed(format!("(nothing within {within:?}: {error})"))),
            }
        }
        match line.trim_end().strip_prefix("ok") {
            Some(text) => Ok(text.trim_start().replace("\\n", "\n")),
            None => Err(failed(line.trim_end().to_owned())),
        }
    }
}
