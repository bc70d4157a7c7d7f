//! The app directory of `tests/dynamic-app`: a program of Debian's compiler with its loader and
//! libraries inside, as an app that links dynamically brings them.

use crate::host;
use crate::process;
use crate::workspace::{self, Workspace};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Libraries of Debian's libc for ARM.
const LIBRARIES: &str = "/usr/arm-linux-gnueabihf/lib";

/// Makes the directory anew.
pub(super) fn build(workspace: &Workspace, directory: &Path) -> Result<()> {
    host::ensure(&[host::KERNEL, host::DEBIAN_LIBC])?;
    let source = workspace.root.join("tests/dynamic-app");
    let (bin, lib) = (directory.join("root/bin"), directory.join("root/lib"));
    // What an older build has left is no part of this one.
    let _ = fs::remove_dir_all(directory);
    workspace::make_directory(&bin)?;
    workspace::make_directory(&lib)?;
    let manifest = workspace::read(&source.join("app_manifest.json"))?;
    workspace::write(&directory.join("app_manifest.json"), manifest)?;
    let compile = |output: &Path, arguments: &[&str]| {
        let mut command = Command::new("arm-linux-gnueabihf-gcc");
        command.args(["-std=c17", "-Wall", "-Wextra", "-Os", "-s", "-Wl,-z,noexecstack"]);
        command.current_dir(&source).args(arguments).arg("-o").arg(output);
        process::output(&mut command)
    };
    let library = lib.join("libgreeting.so");
    compile(&library, &["-shared", "-fPIC", "-Wl,-soname,libgreeting.so", "library.c"])?;
    compile(&bin.join("app"), &["program.c", &library.to_string_lossy()])?;
    for name in ["ld-linux-armhf.so.3", "libc.so.6"] {
        let (from, to) = (Path::new(LIBRARIES).join(name), lib.join(name));
        // With its mode: the kernel executes a loader.
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}
