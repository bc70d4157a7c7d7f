//! Running `holdfast`.

use std::path::Path;
use std::process::{Command, Output};

/// A directory of this checkout, for commands that do without one of their own.
pub(crate) fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The command, in a directory. It finds this checkout from everywhere.
pub(crate) fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command
        .args(arguments)
        .current_dir(directory)
        .env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"));
    command
}

/// Runs it to its end.
pub(crate) fn holdfast(directory: &Path, arguments: &[&str]) -> Output {
    command(directory, arguments).output().unwrap()
}

/// It must succeed; what it prints.
pub(crate) fn succeeds(directory: &Path, arguments: &[&str]) -> String {
    let output = holdfast(directory, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

/// It must fail for bad input and say all of `parts`.
pub(crate) fn refused(directory: &Path, arguments: &[&str], parts: &[&str]) {
    ends_with(&mut command(directory, arguments), 1, parts);
}

/// It must end with this exit code and say all of `parts`.
pub(crate) fn ends_with(command: &mut Command, code: i32, parts: &[&str]) {
    let output = command.output().unwrap();
    let message = stdout(&output) + &stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{command:?}: {message}");
    for part in parts {
        assert!(message.contains(part), "{command:?}: no `{part}` in: {message}");
    }
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
