//! Programs for the device without their symbols, and their symbols beside.

use crate::process;
use crate::workspace;
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The program that takes symbols out of what is built here.
pub(crate) const STRIP: &str = "arm-linux-gnueabihf-strip";

/// Returns the bytes of a program without its symbols, and keeps the program with them in `symbols`.
///
/// # Errors
/// `strip` is missing or fails, or the files cannot be written.
pub fn strip(program: &Path, symbols: &Path) -> Result<Vec<u8>> {
    let name = program.file_name().with_context(|| format!("{} is no file", program.display()))?;
    let stripped = strip_symbols(Path::new(STRIP), program)?;
    keep_symbols(program, &stripped, Path::new(name), symbols)?;
    Ok(stripped)
}

/// Keeps a program with its symbols in the directory `symbols`, under `name`, by which the kernel's log knows it on
/// the device, and with the build id of what was stripped of it.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn keep_symbols(
    program: &Path,
    stripped: &[u8],
    name: &Path,
    symbols: &Path,
) -> Result<()> {
    workspace::make_directory(symbols)?;
    let kept = symbols.join(name);
    // Replaced whole: a debugger, or a test beside this build, may be reading the former one.
    let context = || format!("cannot write {}", kept.display());
    let copy = tempfile::NamedTempFile::new_in(symbols).with_context(context)?;
    let mut bytes = workspace::read(program)?;
    super::build_id::copy(stripped, &mut bytes);
    fs::write(copy.path(), bytes).with_context(context)?;
    let mode = fs::metadata(program).with_context(context)?.permissions();
    fs::set_permissions(copy.path(), mode).with_context(context)?;
    copy.persist(&kept).map_err(|error| error.error).with_context(context)?;
    Ok(())
}

/// Returns the bytes of a program without its symbols, and with a build id, where the linker has left room for one.
/// `strip` is the program that takes the symbols out.
///
/// # Errors
/// `strip` is missing or fails.
pub(crate) fn strip_symbols(strip: &Path, program: &Path) -> Result<Vec<u8>> {
    let stripped = tempfile::NamedTempFile::new().context("cannot make a file")?;
    process::output(
        Command::new(strip)
            .args(["--strip-all", "--enable-deterministic-archives", "-o"])
            .arg(stripped.path())
            .arg(program),
    )?;
    let mut bytes = workspace::read(stripped.path())?;
    super::build_id::make(&mut bytes);
    Ok(bytes)
}
