//! The symbols beside an image that Buildroot has built, which are found by the build ids of what is on the device.

use anyhow::{Context, Result, ensure};
use holdfast_builder::workspace;
use holdfast_images::{root, show};
use object::read::{File, Object};
use std::path::Path;

/// Every program in an image's root has a build id, and beside the image lies one of its name with that id and with the
/// symbols of functions.
pub(super) fn are_found(image: &Path) -> Result<()> {
    let (directory, data) = (image.with_extension("symbols"), show::read_root(image)?);
    let programs = show::show(image)?.elf_files;
    ensure!(programs.len() > 1, "the root has the programs {programs:?}");
    for place in programs {
        let name = Path::new(&place).file_name().with_context(|| format!("{place}: no name"))?;
        let (program, kept) = (root::read_file(&data, &place)?, directory.join(name));
        let with_symbols = workspace::read(&kept)?;
        let (on_device, beside) = (build_id(&program)?, build_id(&with_symbols)?);
        ensure!(
            on_device.iter().any(|byte| *byte != 0),
            "{place}: has no build id, but {on_device:?}"
        );
        ensure!(on_device == beside, "{place}: {}: has another build id", kept.display());
        let file = File::parse(with_symbols.as_slice())?;
        ensure!(file.symbols().next().is_some(), "{}: has no symbols", kept.display());
        let stripped = File::parse(program.as_slice())?;
        ensure!(stripped.symbols().next().is_none(), "{place}: has symbols on the device");
    }
    Ok(())
}

/// The build id of a program; empty where it has none.
pub(super) fn build_id(program: &[u8]) -> Result<Vec<u8>> {
    Ok(File::parse(program)?.build_id()?.unwrap_or_default().to_vec())
}
