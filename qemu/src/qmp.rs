//! QEMU's control socket. Source: QEMU's QMP protocol specification.

use crate::HarnessError;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Time for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// A connection that is ready for commands.
#[derive(Debug)]
pub struct Qmp {
    stream: BufReader<UnixStream>,
    events: VecDeque<String>,
    answer_within: Duration,
}

impl Qmp {
    /// Takes over QEMU's end of a fresh connection and negotiates. Answers may take so many times longer than
    /// QEMU by itself would.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn negotiate(stream: UnixStream, patience: u32) -> Result<Self, HarnessError> {
        let answer_within = ANSWER_WITHIN.saturating_mul(patience);
        let mut qmp =
            Self { stream: BufReader::new(stream), events: VecDeque::new(), answer_within };
        let greeting = qmp.receive(answer_within)?;
        if greeting.as_ref().is_none_or(|value| value.get("QMP").is_none()) {
            return Err(HarnessError::Qmp("no greeting".to_owned()));
        }
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and returns its result.
    ///
    /// # Errors
    /// QEMU refuses it or is gone.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, HarnessError> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.stream.get_mut(), "{request}")
            .map_err(|error| HarnessError::Qmp(error.to_string()))?;
        loop {
            let Some(answer) = self.receive(self.answer_within)? else {
                return Err(HarnessError::Qmp(format!("no answer to `{command}`")));
            };
            if let Some(error) = answer.get("error") {
                return Err(HarnessError::Qmp(format!("`{command}` was refused: {error}")));
            }
            if let Some(result) = answer.get("return") {
                return Ok(result.clone());
            }
        }
    }

    /// Waits for an event such as `RESET`. False when it did not come in time, which is taken as it is:
    /// [`Guest::wait_reset`](crate::machine::Guest::wait_reset) has patience.
    ///
    /// # Errors
    /// QEMU is gone.
    pub fn wait_event(&mut self, name: &str, within: Duration) -> Result<bool, HarnessError> {
        let deadline = Instant::now().checked_add(within);
        loop {
            while let Some(event) = self.events.pop_front() {
                if event == name {
                    return Ok(true);
                }
            }
            let left =
                deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() || self.receive(left)?.is_none() {
                return Ok(false);
            }
        }
    }

    /// The next message, `None` when none came in time. Events are kept.
    fn receive(&mut self, within: Duration) -> Result<Option<Value>, HarnessError> {
        let failed = |error: std::io::Error| HarnessError::Qmp(error.to_string());
        let timeout = within.max(Duration::from_millis(1));
        self.stream.get_ref().set_read_timeout(Some(timeout)).map_err(failed)?;
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => return Err(HarnessError::Qmp("QEMU closed it".to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        let value: Value =
            serde_json::from_str(&line).map_err(|error| HarnessError::Qmp(error.to_string()))?;
        if let Some(event) = value.get("event").and_then(Value::as_str) {
            self.events.push_back(event.to_owned());
        }
        Ok(Some(value))
    }
}
