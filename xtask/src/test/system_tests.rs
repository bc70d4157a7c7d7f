//! The program of the system tests: where what it needs lies, and how it is started.

use super::test_run::{DEFAULT_BOARD, TestRun};
use anyhow::Result;
use holdfast_builder::development_keys;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program of the system tests, and its package.
pub(super) const SYSTEM_TESTS: &str = "holdfast-system-tests";

/// Directory of the images that tests look at.
pub(super) fn image_directory(test_run: &TestRun) -> Result<PathBuf> {
    let output = test_run.workspace.output()?;
    if test_run.given.is_some() {
        return Ok(output.join("given"));
    }
    // As the image builder has it: only another board than the manifests' has a directory of its own.
    let board = test_run.board.as_ref().filter(|board| *board != DEFAULT_BOARD);
    Ok(board.map_or(output.clone(), |board| output.join(board)))
}

/// Directory of the programs that stages start on this host.
pub(super) fn host_directory(test_run: &TestRun) -> Result<PathBuf> {
    Ok(test_run.workspace.output()?.join("host"))
}

/// Directory of the programs of test apps, which are the same on every board.
pub(super) fn program_directory(test_run: &TestRun) -> Result<PathBuf> {
    Ok(test_run.workspace.output()?.join("programs"))
}

/// The program of the system tests, on the images of a board; parts of test names may follow.
pub(super) fn command(test_run: &TestRun, board: &str, images: &Path) -> Result<Command> {
    let root = &test_run.workspace.root;
    let mut command = Command::new(host_directory(test_run)?.join(SYSTEM_TESTS));
    command.current_dir(root).arg("--images").arg(images);
    command.arg("--programs").arg(program_directory(test_run)?);
    command.arg("--keys").arg(development_keys::directory(&test_run.workspace));
    command.args(["--board", board]);
    command.args(["--effort", if test_run.full { "full" } else { "usual" }]);
    command.args(["--jobs", &test_run.jobs.to_string()]);
    if let Some(shard) = &test_run.shard {
        command.args(["--shard", shard]);
    }
    if let Some(guests) = &test_run.guests {
        guests.configure_make(&mut command);
    }
    Ok(command)
}

/// A file's name with the board's behind it, before its extension.
pub(super) fn beside(file: &Path, board: &str) -> PathBuf {
    let mut name = file.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{board}"));
    let path = file.with_file_name(name);
    match file.extension() {
        Some(extension) => path.with_added_extension(extension),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_another_board_lie_beside_the_others() {
        let named = beside(Path::new("/tmp/checks.xml"), "orangepi-pc");
        assert_eq!(named, Path::new("/tmp/checks-orangepi-pc.xml"));
        assert_eq!(beside(Path::new("checks"), "b"), Path::new("checks-b"));
    }
}
