//! Effects on a Linux kernel, one module per mechanism, no policy.
//!
//! What to do is decided in `holdfast-sandbox` and `holdfast-lifecycle`; this crate does it, returns typed errors that name
//! the path or the step, and is the only one in the workspace where `unsafe` is allowed.

pub mod block;
pub mod boot_log;
pub mod boot_state;
pub mod capabilities;
pub mod cgroup;
pub mod channel;
pub mod child;
pub mod clock;
pub mod core_directory;
pub mod device;
pub mod device_mapper;
pub mod direct;
pub mod entropy;
pub mod erase;
mod errno;
pub mod file;
pub mod gpio;
pub mod init_socket;
pub mod introduction;
pub mod kmsg;
mod landlock;
pub mod loop_device;
pub mod measured_boot;
pub mod memory;
pub mod mount;
pub mod netlink;
pub mod network_namespace;
pub mod package_file;
pub mod partition_table;
pub mod poll;
pub mod power;
pub mod ptrace;
pub mod seccomp;
pub mod signal;
pub mod spawn;
pub mod storage;
pub mod superblock;
pub mod sysctl;
pub mod tcp;
pub mod terminal;
pub mod tpm;
pub mod udp;
pub mod wait;
pub mod watchdog;

use std::path::PathBuf;

/// An operation on one path that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub struct PathError {
    /// The operation, as an infinitive.
    pub operation: &'static str,
    /// The path that it was tried on.
    pub path: PathBuf,
    /// The kernel's error.
    #[source]
    pub source: std::io::Error,
}

impl PathError {
    pub(crate) fn new(
        operation: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<std::io::Error>,
    ) -> Self {
        Self { operation, path: path.into(), source: source.into() }
    }
}
