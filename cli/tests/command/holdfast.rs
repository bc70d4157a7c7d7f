//! Running `holdfast` in a directory.

use std::path::Path;
use std::process::{Command, Output};

/// Runs it to its end.
pub(crate) fn holdfast(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(arguments)
        .current_dir(directory)
        .env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap()
}

/// It must succeed; what it prints.
pub(crate) fn succeeds(directory: &Path, arguments: &[&str]) -> String {
    let output = holdfast(directory, arguments);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {message}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// It must fail for bad input and say all of `parts`.
pub(crate) fn refused(directory: &Path, arguments: &[&str], parts: &[&str]) {
    let output = holdfast(directory, arguments);
    let message = [output.stdout, output.stderr].concat();
    let message = String::from_utf8_lossy(&message);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
    for part in parts {
        assert!(message.contains(part), "{arguments:?}: no `{part}` in: {message}");
    }
}
