//! Putting an image together.

use crate::app::App;
use crate::board::Board;
use crate::boot::{self, BootError, Slot};
use crate::disk::{DiskError, Layout};
use crate::elf::{self, ElfError};
use crate::ext4::{self, Ext4Error};
use crate::manifest::{ImageManifest, Service};
use crate::root::{Root, RootError};
use crate::{FieldError, FileError, verity};
use holdfast_core::component::{
    self, Component, ComponentList, ComponentListError, FIRST_APP_UID, FIRST_SERVICE_UID,
    ImageIdentity, Kind, Readiness,
};
use std::fs::File;
use std::path::Path;

/// Directory of the services in the root file system.
const SERVICES: &str = "usr/lib/holdfast/services";
/// Directory of the apps in the root file system.
const APPS: &str = "usr/lib/holdfast/apps";

/// Everything an image is made of.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// What was asked for.
    pub manifest: &'a ImageManifest,
    /// The board.
    pub board: &'a Board,
    /// The zImage.
    pub kernel: &'a [u8],
    /// The board's device tree.
    pub device_tree: &'a [u8],
    /// PID 1, stripped.
    pub init: Vec<u8>,
    /// The services of the manifest, in its order, with their stripped programs.
    pub services: Vec<(&'a Service, Vec<u8>)>,
    /// The apps.
    pub apps: Vec<App>,
    /// Seconds since 1970 that no clock on the device may fall below; the commit's time.
    pub build_time: u64,
    /// Refuse everything that belongs to development.
    pub production: bool,
}

/// Sizes of what was built, in bytes.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Sizes {
    /// The zImage.
    pub kernel: u64,
    /// The FIT.
    pub boot: u64,
    /// The root file system with its verity tree.
    pub root: u64,
}

/// Why an image was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A field of the manifest holds what it may not.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A program of ours is unfit for the device.
    #[error("{program} {source}")]
    Elf {
        /// Which.
        program: String,
        /// Why; said in full above.
        source: ElfError,
    },
    /// The component list breaks its own rules.
    #[error("the components of this image do not fit together")]
    Components(#[from] ComponentListError),
    /// The root file system.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The boot image.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A writable file system.
    #[error(transparent)]
    Ext4(#[from] Ext4Error),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What was asked for belongs to development.
    #[error("a production image cannot hold {0}")]
    NotForProduction(String),
}

/// Writes the image to `output`. It appears there whole or not at all.
///
/// # Errors
/// See [`BuildError`].
pub fn build(inputs: &Inputs<'_>, output: &Path) -> Result<Sizes, BuildError> {
    let manifest = inputs.manifest;
    if inputs.production {
        refuse_development(inputs)?;
    }
    let root = assemble_root(inputs)?.to_erofs()?;
    let verity = verity::hash(&root)
        .ok_or_else(|| RootError::Unreadable("mkfs.erofs made an empty file system".to_owned()))?;
    let slot = Slot::A;
    let command_line = boot::command_line(&inputs.board.console, slot, &verity);
    let fit = boot::build(inputs.kernel, inputs.device_tree, &command_line, slot)?;
    let root = [root, verity.tree].concat();
    let identity = format!("{} {}", manifest.name, manifest.board);

    let directory = output.parent().unwrap_or(Path::new("."));
    let mut scratch = tempfile::Builder::new()
        .prefix(".unfinished-")
        .tempfile_in(directory)
        .map_err(FileError::at("write to", directory))?;
    let scratch_path = scratch.path().to_owned();
    let layout = Layout::new(manifest, inputs.board.boot_loader_end_kib);
    let file = scratch.as_file_mut();
    write_disk(file, &scratch_path, &layout, &identity, &fit, &root)?;
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.set_permissions(readable).map_err(FileError::at("set mode of", &scratch_path))?;
    file.sync_all().map_err(FileError::at("write", &scratch_path))?;
    scratch.persist(output).map_err(|error| FileError::at("put in place", output)(error.error))?;
    let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    Ok(Sizes { kernel: length(inputs.kernel), boot: length(&fit), root: length(&root) })
}

fn write_disk(
    file: &mut File,
    path: &Path,
    layout: &Layout,
    identity: &str,
    fit: &[u8],
    root: &[u8],
) -> Result<(), BuildError> {
    file.set_len(layout.length).map_err(FileError::at("extend", path))?;
    layout.write_tables(file, identity.as_bytes())?;
    layout.partition("boot-a")?.write(file, path, "kernel and device tree", fit)?;
    layout.partition("root-a")?.write(file, path, "the root file system", root)?;
    for name in ["state", "apps", "data"] {
        let partition = layout.partition(name)?;
        let empty = ext4::empty(name, identity.as_bytes(), partition.length)?;
        partition.write(file, path, "an empty file system", &empty)?;
    }
    Ok(())
}

fn refuse_development(inputs: &Inputs<'_>) -> Result<(), BuildError> {
    if let Some((service, _)) = inputs.services.iter().find(|(service, _)| service.test_only) {
        return Err(BuildError::NotForProduction(format!("the test service `{}`", service.name)));
    }
    // Until U-Boot verifies the FIT, nothing that is built here may call itself a product.
    Err(BuildError::NotForProduction("an unsigned boot image; this version signs none".to_owned()))
}

/// The files of the root file system.
fn assemble_root(inputs: &Inputs<'_>) -> Result<Root, BuildError> {
    let mut root = Root::default();
    let check = |program: &str, bytes: &[u8]| {
        elf::check(bytes)
            .map_err(|source| BuildError::Elf { program: program.to_owned(), source })
            .map(drop)
    };
    check("init", &inputs.init)?;
    root.add("sbin/init", inputs.init.clone(), true);
    for (service, program) in &inputs.services {
        check(&service.name, program)?;
        root.add(format!("{SERVICES}/{}", service.binary), program.clone(), true);
    }
    for app in &inputs.apps {
        for (path, file) in &app.files {
            let path = format!("{APPS}/{}/{path}", component::name_for(&app.manifest.name));
            root.add(path, file.bytes.clone(), file.executable);
        }
    }
    let list = component_list(inputs)?.encode()?;
    root.add(component::PATH.trim_start_matches('/'), list, false);
    Ok(root)
}

fn component_list(inputs: &Inputs<'_>) -> Result<ComponentList, BuildError> {
    let manifest = inputs.manifest;
    let mut components = Vec::new();
    for (uid, (index, (service, _))) in
        (FIRST_SERVICE_UID..).zip(inputs.services.iter().enumerate())
    {
        let capabilities = service.capability_numbers().map_err(|name| FieldError {
            path: manifest.path.clone(),
            field: format!("services[{index}].capabilities"),
            reason: format!("`{name}` is no capability"),
        })?;
        components.push(Component {
            name: service.name.clone(),
            kind: Kind::Service,
            entry_point: format!("/{SERVICES}/{}", service.binary),
            args: service.args.clone(),
            uid,
            readiness: match service.ready_within_ms {
                Some(within_ms) => Readiness::Notify { within_ms },
                None => Readiness::Started,
            },
            watchdog_ms: service.watchdog_ms,
            descriptors: service.descriptors.clone(),
            capabilities,
            may_end_system: service.may_end_system,
        });
    }
    for (uid, app) in (FIRST_APP_UID..).zip(&inputs.apps) {
        let name = component::name_for(&app.manifest.name);
        components.push(Component {
            entry_point: format!("/{APPS}/{name}{}", app.manifest.entry_point),
            name,
            kind: Kind::App,
            args: app.manifest.cmd_args.clone(),
            uid,
            readiness: Readiness::Started,
            watchdog_ms: None,
            descriptors: Vec::new(),
            capabilities: Vec::new(),
            may_end_system: false,
        });
    }
    let image = ImageIdentity {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        board: manifest.board.clone(),
        hostname: manifest.hostname.clone(),
        build_time: inputs.build_time,
        development: !inputs.production,
    };
    Ok(ComponentList { format_version: component::FORMAT_VERSION, image, components })
}
