//! Whether QEMU can use io_uring(7) here: it may be built without, and a kernel or a container may refuse it.

use crate::machine::PROGRAM;
use std::io::Write;
use std::process::{Command, Stdio};

/// What ends QEMU once it has opened its disk (QEMU Machine Protocol).
const QUIT: &[u8] = br#"{"execute":"qmp_capabilities"}{"execute":"quit"}"#;

/// Tries it, with this program as the disk of a machine without anything else.
#[must_use]
pub fn works() -> bool {
    tried().is_ok_and(|worked| worked)
}

fn tried() -> std::io::Result<bool> {
    let disk = crate::option_value::value(&std::env::current_exe()?);
    let mut qemu = Command::new(PROGRAM)
        .args(["-nodefaults", "-no-user-config", "-M", "none", "-display", "none"])
        .args(["-qmp", "stdio"])
        .arg("-drive")
        .arg(format!("if=none,format=raw,readonly=on,aio=io_uring,file={disk}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // Closed behind it, so that QEMU has nothing else to wait for. It may have ended already, for what its status says.
    let _ = qemu.stdin.take().map(|mut input| input.write_all(QUIT));
    Ok(qemu.wait()?.success())
}
