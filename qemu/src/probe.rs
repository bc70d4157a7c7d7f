//! The harness's end of the probe line.
//!
//! The probe is a component that exists only in test images. It reads one command a line and
//! answers `ok TEXT` or `error TEXT`, TEXT with `\n` for a line break.

use crate::HarnessError;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The line to the probe.
#[derive(Debug)]
pub struct Probe {
    stream: BufReader<UnixStream>,
    /// How many times longer than its deadline an answer may take.
    patience: u32,
}

impl Probe {
    pub(crate) fn new(stream: UnixStream, patience: u32) -> Self {
        Self { stream: BufReader::new(stream), patience }
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

    /// Drops answers that nobody has waited for. A serial line keeps them over a reset.
    fn forget(&mut self) -> io::Result<()> {
        let buffered = self.stream.buffer().len();
        self.stream.consume(buffered);
        let stream = self.stream.get_mut();
        stream.set_nonblocking(true)?;
        while matches!(stream.read(&mut [0; 256]), Ok(1..)) {}
        stream.set_nonblocking(false)
    }

    /// Sends a command and returns the text of its answer.
    ///
    /// # Errors
    /// The probe reports an error or does not answer in time.
    pub fn ask(&mut self, command: &str, within: Duration) -> Result<String, HarnessError> {
        let failed = |answer: String| HarnessError::Probe { command: command.to_owned(), answer };
        let within = within.saturating_mul(self.patience);
        self.forget().map_err(|error| failed(error.to_string()))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_nobody_waited_for_is_no_answer_to_the_next_question() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut probe = Probe::new(ours, 1);
        probe.tell("reboot").unwrap();
        theirs.write_all(b"ok Accepted\no").unwrap();
        let answers = std::thread::spawn(move || {
            let mut commands = BufReader::new(theirs.try_clone().unwrap());
            let mut command = String::new();
            while command != "clock\n" {
                command.clear();
                commands.read_line(&mut command).unwrap();
            }
            theirs.write_all(b"ok 12\n").unwrap();
        });
        assert_eq!(probe.ask("clock", Duration::from_secs(20)).unwrap(), "12");
        answers.join().unwrap();
    }

    #[test]
    fn an_answer_may_take_as_many_times_longer_as_the_probe_has_patience() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut probe = Probe::new(ours, 100);
        let answers = std::thread::spawn(move || {
            let mut command = String::new();
            BufReader::new(theirs.try_clone().unwrap()).read_line(&mut command).unwrap();
            std::thread::sleep(Duration::from_millis(300));
            theirs.write_all(b"ok 12\n").unwrap();
        });
        assert_eq!(probe.ask("clock", Duration::from_millis(100)).unwrap(), "12");
        answers.join().unwrap();
    }
}
