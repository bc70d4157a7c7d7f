//! init does nothing where it is not PID 1.

#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use std::process::Command;

#[test]
fn init_refuses_to_run_unless_it_is_pid_1() {
    let output = Command::new(env!("CARGO_BIN_EXE_init")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("runs only as PID 1"), "{message}");
}
