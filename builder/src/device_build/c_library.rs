//! Libraries of the checkout that programs in C are linked with, where they include the header.

use super::c_app::Sources;
use super::{DebugInfo, DeviceBuilder, Package};
use anyhow::{Context, Result};
use std::path::PathBuf;

/// The header of `sdk/identity-c`.
const HEADER: &str = "holdfast_identity.h";
/// Package of the C library, and its directory in the checkout.
const PACKAGE: (&str, &str) = ("holdfast-sdk-identity-c", "sdk/identity-c");
/// The library that the package is built to.
const LIBRARY: &str = "libholdfast_identity.a";

/// A library for the compiler.
#[derive(Debug)]
pub(super) struct Library {
    /// Directory of its header.
    pub(super) include: PathBuf,
    /// The library.
    pub(super) archive: PathBuf,
}

impl DeviceBuilder<'_> {
    /// Builds the library that the sources include, if they do.
    pub(super) fn library_for(&self, sources: &Sources) -> Result<Option<Library>> {
        if !sources.includes(HEADER)? {
            return Ok(None);
        }
        let (name, directory) = PACKAGE;
        let directory = self.workspace.root.join(directory);
        let built = self.build(&Package::new(&directory, name), DebugInfo::Lines)?;
        let archive = built.get(LIBRARY).cloned();
        let archive = archive.with_context(|| format!("{name} was built without {LIBRARY}"))?;
        Ok(Some(Library { include: directory.join("include"), archive }))
    }
}
