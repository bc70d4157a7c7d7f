//! Assembly of an image from its inputs.

mod component_list;
mod error;
mod inputs;
mod production;
mod settings;

use crate::acceptance::Acceptance;
use crate::boot::{self, Parts};
use crate::boot_loader::{self, Assembled};
use crate::destination::{self, DestinationError};
use crate::device_tree;
use crate::disk::Layout;
use crate::ext4;
use crate::package::Package;
use crate::root::{Root, RootError};
use crate::seccomp;
use crate::{FieldError, FileError, verity};
use component_list::{check_memory, component_list};
pub use error::BuildError;
use holdfast_lifecycle::factory_reset::{Blank, FACTORY_DIRECTORY};
use holdfast_lifecycle::slots::{self, BootState};
use holdfast_manifest::elf;
use holdfast_sandbox::component::{self, Stored};
use holdfast_sandbox::policy::system_calls::SystemCalls;
pub use inputs::{Development, Inputs, ServiceInputs, UpdateInputs};
pub use production::refuse_app_directories;
use production::refuse_development;
use settings::settings;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Path of the provenance file in the root file system.
pub const PROVENANCE: &str = "/usr/lib/holdfast/provenance.json";

/// Sizes of what was built, in bytes.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Sizes {
    /// The zImage.
    pub kernel: u64,
    /// The FIT.
    pub boot: u64,
    /// The root file system with its verity tree.
    pub root: u64,
    /// The boot loader with its device tree.
    pub boot_loader: u64,
}

/// Returns the path of the boot loader of the image at `image`, for a board with a ROM.
#[must_use]
pub fn rom_path(image: &Path) -> PathBuf {
    image.with_extension("rom")
}

/// Refuses a place where no image can be written, before the work is done.
///
/// # Errors
/// The path leads to no file, or the image would be its own boot loader.
pub fn check_output(output: &Path) -> Result<(), DestinationError> {
    let rom = rom_path(output);
    if rom == output {
        let reason = "is the name of a boot loader beside an image; let the image end in `.img`";
        return Err(DestinationError::Unfit { path: rom, reason });
    }
    destination::check_file(output)?;
    destination::check_file(&rom)
}

/// Writes the image to `output`, with its boot loader in it, or beside it, at [`rom_path`], for a board
/// with a ROM. Each appears there whole or not at all.
///
/// # Errors
/// See [`BuildError`].
pub fn build(inputs: &Inputs<'_>, output: &Path) -> Result<Sizes, BuildError> {
    let manifest = inputs.manifest;
    check_output(output)?;
    inputs.board.memory_for(manifest.memory_mib).map_err(|reason| FieldError {
        path: manifest.path.clone(),
        field: "memory_mib".to_owned(),
        reason,
    })?;
    if inputs.production {
        refuse_development(inputs)?;
    }
    let packages = read_packages(inputs)?;
    check_memory(inputs, &packages)?;
    let layout = Layout::new(manifest, &inputs.board.boot_loader);
    let identity = format!("{} {}", manifest.name, manifest.board);
    let loader = boot_loader::assemble(&inputs.u_boot, inputs.board, &layout, &inputs.boot_keys)?;
    let mut root = assemble_root(inputs, &packages)?;
    if let Some(brought) = boot_loader::for_slot(inputs.board, &layout, &loader)? {
        let path = holdfast_lifecycle::boot_loader::PATH.trim_start_matches('/');
        root.add(path, brought, false);
    }
    add_blanks(&mut root, &layout, &identity)?;
    let root = root.to_erofs()?;
    let verity = verity::hash_root(&root)
        .ok_or_else(|| RootError::Unreadable("mkfs.erofs made an empty file system".to_owned()))?;
    let device_tree = device_tree::adjust(inputs.board, inputs.device_tree)?;
    let mut fit = boot::build(&Parts {
        kernel: inputs.kernel,
        device_tree: &device_tree,
        board: &inputs.board.name,
        console: &inputs.board.console,
        disk: &inputs.board.disk,
        addresses: &inputs.board.addresses,
        rollback_index: manifest.rollback_index,
        root: &verity,
    })?;
    if let Some(key) = &inputs.boot_signer {
        let public = key.public();
        if !inputs.boot_keys.contains(&public) {
            return Err(BuildError::Signer(public.id().to_string()));
        }
        boot::sign(&mut fit, key)?;
    }
    let root = [root, verity.tree].concat();
    let writable = writable(inputs, &layout, &identity, &packages)?;
    destination::write_file::<BuildError>(output, |file, path| {
        write_disk(file, path, &layout, (&fit, &root), &identity, &writable)?;
        Ok(loader.write_in_front(file, path)?)
    })?;
    let rom_file = rom_path(output);
    match &loader {
        Assembled::Rom(rom) => destination::write_file::<BuildError>(&rom_file, |file, path| {
            Ok(file.write_all(rom).map_err(FileError::at("write", path))?)
        })?,
        // One of an earlier image of that name would be taken for this one's.
        Assembled::Card { .. } if rom_file.exists() => {
            fs::remove_file(&rom_file).map_err(FileError::at("remove", &rom_file))?;
        }
        Assembled::Card { .. } => {}
    }
    let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    Ok(Sizes {
        kernel: length(inputs.kernel),
        boot: length(&fit),
        root: length(&root),
        boot_loader: loader.length(),
    })
}

fn write_disk(
    file: &mut File,
    path: &Path,
    layout: &Layout,
    (fit, root): (&[u8], &[u8]),
    identity: &str,
    writable: &[(&str, Vec<u8>)],
) -> Result<(), BuildError> {
    file.set_len(layout.length).map_err(FileError::at("extend", path))?;
    layout.write_tables(file, identity.as_bytes())?;
    let boot_state = slots::copy(&BootState::factory(), 1);
    layout.partition("bootstate")?.write(file, path, "the boot state", &boot_state)?;
    layout.partition("boot-a")?.write(file, path, "kernel and device trees", fit)?;
    layout.partition("root-a")?.write(file, path, "the root file system", root)?;
    for (name, bytes) in writable {
        layout.partition(name)?.write(file, path, "a file system", bytes)?;
    }
    Ok(())
}

/// Adds empty file systems to the root, for a reset and for a partition that has been lost.
fn add_blanks(root: &mut Root, layout: &Layout, identity: &str) -> Result<(), BuildError> {
    for name in ["state", "apps", "data"] {
        let length = layout.partition(name)?.length;
        let blank = Blank::shorten(&ext4::with_files(name, identity.as_bytes(), length, &[])?);
        root.add(format!("{}/{name}", FACTORY_DIRECTORY.trim_start_matches('/')), blank, false);
    }
    Ok(())
}

/// Makes the writable file systems by partition, with room for what the apps bring and are granted.
fn writable(
    inputs: &Inputs<'_>,
    layout: &Layout,
    identity: &str,
    packages: &[Package],
) -> Result<Vec<(&'static str, Vec<u8>)>, BuildError> {
    let make = |name: &str, files: &[(String, &[u8])]| -> Result<Vec<u8>, BuildError> {
        let length = layout.partition(name)?.length;
        Ok(ext4::with_files(name, identity.as_bytes(), length, files)?)
    };
    let room = |name: &str, empty: &[u8], needed: u64, what: &str| {
        let free = ext4::free_bytes(empty);
        if needed <= free {
            return Ok(());
        }
        Err(BuildError::Field(FieldError {
            path: inputs.manifest.path.clone(),
            field: format!("storage.{name}_mib"),
            reason: format!(
                "{what} need {} KiB, but only {} KiB are left for them; make it larger",
                needed.div_ceil(1024),
                free / 1024
            ),
        }))
    };
    let data = make("data", &[])?;
    let granted: u64 =
        packages.iter().filter_map(|package| package.manifest.storage_kib).map(u64::from).sum();
    room("data", &data, granted.saturating_mul(1024), "the apps' MutableStorage grants")?;
    let stored: Vec<(String, &[u8])> = packages
        .iter()
        .zip(&inputs.apps)
        .map(|(package, (_, bytes))| {
            (Stored::Current.file(package.header.component_id), bytes.as_slice())
        })
        .collect();
    let apps = make("apps", &stored).or_else(|error| {
        let bytes = |(_, bytes): &(_, &[u8])| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let needed = stored.iter().map(bytes).sum();
        // Whatever else has failed is said as it was.
        room("apps", &make("apps", &[])?, needed, "the apps' packages").and(Err(error))
    })?;
    Ok(vec![("state", make("state", &[])?), ("apps", apps), ("data", data)])
}

/// Reads the packages of the apps and refuses what this image's device would refuse.
fn read_packages(inputs: &Inputs<'_>) -> Result<Vec<Package>, BuildError> {
    let offered = inputs.board.offered();
    let acceptance = Acceptance {
        product: &inputs.manifest.product,
        board: &inputs.board.name,
        os: inputs.manifest.version_number(),
        keys: &inputs.app_keys,
        offered: &offered,
        network: inputs.manifest.network.is_some(),
        catalog: inputs.manifest.catalog(),
    };
    let packages = inputs.apps.iter().map(|(path, bytes)| {
        acceptance.accept(bytes).map_err(|source| BuildError::App { path: path.clone(), source })
    });
    packages.collect()
}

/// Assembles the files of the root file system.
fn assemble_root(inputs: &Inputs<'_>, packages: &[Package]) -> Result<Root, BuildError> {
    let mut root = Root::of_slot();
    let check = |program: &str, bytes: &[u8]| {
        elf::check(bytes)
            .map_err(|source| BuildError::Elf { program: program.to_owned(), source })
            .map(drop)
    };
    check("init", &inputs.init)?;
    root.add("sbin/init", inputs.init.clone(), true);
    root.add(PROVENANCE.trim_start_matches('/'), inputs.provenance.clone(), false);
    for (service, program) in &inputs.services {
        check(&service.name, program)?;
        root.add(service.program_path(), program.clone(), true);
        for (name, bytes) in settings(inputs, service)? {
            root.add(service.file_path(&name), bytes, false);
        }
    }
    let debugged = inputs.manifest.debugged.is_some();
    for set in SystemCalls::ALL.into_iter().filter(|set| debugged || *set != SystemCalls::Debugger)
    {
        for (order, program) in seccomp::programs(set)?.into_iter().enumerate() {
            let path = component::filter_path(set, order);
            root.add(path.trim_start_matches('/'), program, false);
        }
    }
    for key in &inputs.app_keys {
        let path = component::trusted_key_path(key.id(), key.development);
        root.add(path.trim_start_matches('/'), key.bytes.to_vec(), false);
    }
    let list = component_list(inputs, packages)?.encode()?;
    root.add(component::PATH.trim_start_matches('/'), list, false);
    Ok(root)
}
