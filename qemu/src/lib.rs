//! The QEMU harness: starts a guest from an image, reads its console, commands it over QMP and
//! through the probe's own serial line. It needs no root, no KVM and no network.
//!
//! Every wait has a deadline, multiplied by the patience of the [`settings`] and of the guest's model; a wait
//! that fails carries the console's last lines.

mod armed_watchdog;
mod command_line;
pub mod console;
mod console_log;
mod debugger;
mod guest;
pub mod io_uring;
pub mod machine;
pub mod model;
mod option_value;
pub mod packet;
pub mod peer;
pub mod probe;
pub mod process;
pub mod process_tree;
pub mod processor_time;
pub mod qmp;
pub mod relay;
pub mod settings;
pub mod tpm;
pub mod web_server;
pub mod write_log;

use std::path::PathBuf;
use std::time::Duration;

/// Why the harness could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// QEMU could not be started.
    #[error("cannot run {program}")]
    Start {
        /// The program.
        program: String,
        /// What the system answered.
        #[source]
        source: std::io::Error,
    },
    /// A file of the machine could not be used.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// What was tried, as an infinitive.
        operation: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: std::io::Error,
    },
    /// The image cannot be started.
    #[error(transparent)]
    Image(#[from] holdfast_images::show::ShowError),
    /// QEMU has no machine for the image.
    #[error("{}: cannot be run in QEMU: {reason}", image.display())]
    NoMachine {
        /// The image.
        image: PathBuf,
        /// Why.
        reason: String,
    },
    /// QEMU was asked for a device tree and gave none.
    #[error("QEMU dumped no device tree: {0}")]
    DeviceTree(String),
    /// The time ran out.
    #[error("{waited_for} did not come within {within:?}; the console ends with:\n{tail}")]
    Timeout {
        /// What was waited for.
        waited_for: String,
        /// For how long.
        within: Duration,
        /// The console's last lines.
        tail: String,
    },
    /// QEMU ended while something was waited for.
    #[error("the guest ended before {waited_for} came; the console ends with:\n{tail}")]
    GuestDied {
        /// What was waited for.
        waited_for: String,
        /// The console's last lines.
        tail: String,
    },
    /// QEMU's control socket failed.
    #[error("QEMU's control socket failed: {0}")]
    Qmp(String),
    /// QEMU's debugger failed.
    #[error("QEMU's debugger failed: {0}")]
    Debugger(String),
    /// A log of writes that cannot be read.
    #[error("{} is no whole log of writes", .0.display())]
    WriteLog(PathBuf),
    /// swtpm did not start.
    #[error("swtpm did not start: {0}")]
    Tpm(String),
    /// The image's machine has no place for a TPM.
    #[error("{}: its board has no TPM that QEMU could stand in for", .0.display())]
    NoTpm(PathBuf),
    /// The probe answered with an error or not at all.
    #[error("the probe answered `{answer}` to `{command}`")]
    Probe {
        /// What it was asked.
        command: String,
        /// What came back.
        answer: String,
    },
}
