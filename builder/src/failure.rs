//! The end of the host tools: failures that choose another exit code than 1, and what is printed of one.

use crate::output;
use anyhow::{Error, Result, anyhow};
use holdfast_qemu::HarnessError;
use std::process::ExitCode;

/// The host lacks something, or was used wrongly: exit code 2.
#[derive(Debug)]
pub struct HostLacks(pub String);

impl std::fmt::Display for HostLacks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for HostLacks {}

/// The end of a tool: prints what has failed, which a lost line of output is as well, and chooses the exit code.
pub fn end(result: Result<()>) -> ExitCode {
    let result = result.and_then(|()| match output::lost() {
        Some(error) => Err(anyhow!("cannot write the output: {error}")),
        None => Ok(()),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            exit_code(&error)
        }
    }
}

/// The one place where exit codes are chosen.
fn exit_code(error: &Error) -> ExitCode {
    for cause in error.chain() {
        if cause.is::<HostLacks>() {
            return ExitCode::from(2);
        }
        match cause.downcast_ref::<HarnessError>() {
            Some(HarnessError::Start { .. }) => return ExitCode::from(2),
            Some(HarnessError::Timeout { .. }) => return ExitCode::from(3),
            Some(HarnessError::GuestDied { .. }) => return ExitCode::from(4),
            _ => {}
        }
    }
    ExitCode::from(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn code(error: impl Into<Error>) -> String {
        format!("{:?}", exit_code(&error.into().context("while running")))
    }

    #[test]
    fn each_kind_of_failure_has_its_exit_code() {
        let expect = |n: u8| format!("{:?}", ExitCode::from(n));
        assert_eq!(code(HostLacks("flex".to_owned())), expect(2));
        assert_eq!(code(anyhow::anyhow!("bad input")), expect(1));
        let (waited_for, tail) = ("x".to_owned(), String::new());
        let within = Duration::ZERO;
        let timeout = HarnessError::Timeout { waited_for: waited_for.clone(), within, tail };
        assert_eq!(code(timeout), expect(3));
        assert_eq!(code(HarnessError::GuestDied { waited_for, tail: String::new() }), expect(4));
    }
}
