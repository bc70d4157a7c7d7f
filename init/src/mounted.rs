//! An app's package in use.

use holdfast_linux::device_mapper::VerityDevice;
use holdfast_sandbox::package::Header;
use std::path::PathBuf;

/// A mounted package with what init verified of it.
#[derive(Debug)]
pub(crate) struct Mounted {
    /// The package's header.
    pub(crate) header: Header,
    /// The device that checks every block that is read.
    pub(crate) device: VerityDevice,
    /// Its mount point.
    pub(crate) path: PathBuf,
    /// The tries that are left, where the package is on trial.
    pub(crate) trial: Option<u8>,
}
