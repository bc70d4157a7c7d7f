//! Errors of building an image.

use crate::acceptance::Unacceptable;
use crate::boot::BootError;
use crate::boot_loader::BootLoaderError;
use crate::destination::DestinationError;
use crate::device_tree::DeviceTreeError;
use crate::disk::DiskError;
use crate::ext4::Ext4Error;
use crate::root::RootError;
use crate::seccomp::SeccompError;
use crate::{FieldError, FileError};
use holdfast_manifest::elf::ElfError;
use holdfast_sandbox::component::ComponentListError;
use std::path::PathBuf;

/// An error of building an image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The image cannot be written where it should.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// A field of the manifest holds what it may not.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A program of ours is unfit for the device.
    #[error("{program}")]
    Elf {
        /// Name of the program.
        program: String,
        /// The property for which the program is refused.
        source: ElfError,
    },
    /// An app package is refused.
    #[error("{}", path.display())]
    App {
        /// Path of the package or app directory.
        path: PathBuf,
        /// The reason for which the package is refused.
        source: Unacceptable,
    },
    /// A set of system calls cannot be compiled.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// The component list breaks its own rules.
    #[error("the components of this image do not fit together")]
    Components(#[from] ComponentListError),
    /// The root file system cannot be made.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The boot image cannot be made.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The board's device tree cannot be adjusted.
    #[error(transparent)]
    DeviceTree(#[from] DeviceTreeError),
    /// The boot loader cannot be assembled.
    #[error(transparent)]
    BootLoader(#[from] BootLoaderError),
    /// The slot would be signed by a key that the boot loader does not have.
    #[error("the signing key {0} is none of the boot loader's")]
    Signer(String),
    /// A writable file system cannot be made.
    #[error(transparent)]
    Ext4(#[from] Ext4Error),
    /// The disk cannot be laid out or written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Something that was asked for belongs to development.
    #[error("{}: {field}: a production image cannot hold {what}; {remedy}", path.display())]
    NotForProduction {
        /// The image manifest.
        path: PathBuf,
        /// The field, or the option, that asks for it.
        field: String,
        /// The part, in words.
        what: String,
        /// The remedy, as an imperative.
        remedy: &'static str,
    },
}
