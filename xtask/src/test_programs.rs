//! The programs of the test components, for tests and measurements.

use anyhow::Result;
use holdfast_builder::device_build::{self, DebugInfo, Package};
use holdfast_builder::image::ImageBuilder;
use holdfast_builder::workspace::{self, Workspace};
use std::path::Path;

/// Builds every one of them, stripped, into `directory`.
pub(crate) fn build(
    workspace: &Workspace,
    builder: &ImageBuilder<'_>,
    directory: &Path,
) -> Result<()> {
    let symbols = directory.with_extension("symbols");
    let package = Package::new(&workspace.root, "holdfast-test-apps");
    let programs = builder.devices()?.build(&package, DebugInfo::Lines)?;
    for (name, program) in programs {
        let program = device_build::strip(&program, &symbols)?;
        workspace::write(&directory.join(name), program)?;
    }
    Ok(())
}
