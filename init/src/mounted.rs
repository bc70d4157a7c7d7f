//! An app's package in use.

use holdfast_linux::device_mapper::VerityDevice;
use holdfast_sandbox::package::Header;
use std::path::PathBuf;

/// What stays with an app whose package is in use.
#[derive(Debug)]
pub(crate) struct Mounted {
    /// The package's header.
    pub(crate) header: Header,
    /// The device that checks every block that is read.
    pub(crate) device: VerityDevice,
    /// Where it is mounted.
    pub(crate) path: PathBuf,
    /// It is on trial, with so many tries left.
    pub(crate) trial: Option<u8>,
}
