//! `make` for the device, in a tree with Kbuild's conventions: the kernel's, U-Boot's and BusyBox's.

use crate::process;
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// Prefix of the compiler and its tools.
const CROSS_COMPILE: &str = "arm-linux-gnueabihf-";
/// What the caller's own build would otherwise let in.
const FOREIGN: [&str; 5] = ["MAKEFLAGS", "MFLAGS", "KBUILD_OUTPUT", "KCFLAGS", "LOCALVERSION"];

/// The compiler in its own words.
pub(crate) fn compiler() -> Result<String> {
    let version = process::output(Command::new(format!("{CROSS_COMPILE}gcc")).arg("--version"))?;
    Ok(version.lines().next().unwrap_or_default().to_owned())
}

/// `make TARGET` of the sources in `tree`, with everything that it makes in `object`.
pub(crate) fn cross_make(tree: &Path, object: &Path, target: &str) -> Command {
    let mut command = Command::new("make");
    command
        .arg("-C")
        .arg(tree)
        .arg(format!("O={}", object.display()))
        .args(["ARCH=arm", &format!("CROSS_COMPILE={CROSS_COMPILE}")])
        .arg(format!("-j{}", std::thread::available_parallelism().map_or(2, usize::from)))
        .arg(target)
        .env("LC_ALL", "C");
    for name in FOREIGN {
        command.env_remove(name);
    }
    command
}
