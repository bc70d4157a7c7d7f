//! Putting an image together.

use crate::acceptance::{self, Acceptance, Unacceptable};
use crate::board::Board;
use crate::boot::{self, BootError, BootKey, BootSigningKey, Parts};
use crate::boot_loader::{self, Assembled, BootLoaderError, UBoot};
use crate::destination::{self, DestinationError};
use crate::device_tree::{self, DeviceTreeError};
use crate::disk::{DiskError, Layout};
use crate::ext4::{self, Ext4Error};
use crate::key::PublicKey;
use crate::manifest::{ImageManifest, UpdateSource};
use crate::own_services;
use crate::package::Package;
use crate::root::{Root, RootError};
use crate::seccomp::{self, SeccompError};
use crate::service::Service;
use crate::{FieldError, FileError, verity, with_causes};
use holdfast_lifecycle::factory_reset::{Blank, FACTORY_DIRECTORY};
use holdfast_lifecycle::slots::{self, BootState};
use holdfast_manifest::elf::{self, ElfError};
use holdfast_networking::config;
use holdfast_release::client::{Client, Trusted};
use holdfast_release::config as update_config;
use holdfast_release::config::{UpdateConfig, UplinkConfig, Window};
use holdfast_release::{self as release, RepositoryName};
use holdfast_sandbox::component::{
    self, App, ComponentList, ComponentListError, ImageDescription, Stored,
};
use holdfast_sandbox::policy::Plan;
use holdfast_sandbox::policy::shares::{self, Machine};
use holdfast_sandbox::policy::system_calls::SystemCalls;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where an image says what it is made from.
pub const PROVENANCE: &str = "/usr/lib/holdfast/provenance.json";

/// Everything an image is made of.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// What was asked for.
    pub manifest: &'a ImageManifest,
    /// The board.
    pub board: &'a Board,
    /// MiB of memory of the machine: the board's own, or what the manifest says where the board has none.
    pub memory_mib: u32,
    /// The zImage.
    pub kernel: &'a [u8],
    /// The board's device tree, as its source has it.
    pub device_tree: &'a [u8],
    /// The boot loader.
    pub u_boot: UBoot<'a>,
    /// What the boot loader takes a slot from: the current key, the next one, and that for recovery.
    pub boot_keys: [BootKey; 3],
    /// The private half of one of those; without it the slot is left to be signed elsewhere.
    pub boot_signer: Option<BootSigningKey>,
    /// PID 1, stripped.
    pub init: Vec<u8>,
    /// The services ([`own_services::of_image`]), each with its stripped program.
    pub services: Vec<(&'a Service, Vec<u8>)>,
    /// Whom the agents of updates believe; needed where the manifest has updates.
    pub update: Option<UpdateInputs>,
    /// The signed packages of the apps, with where each came from.
    pub apps: Vec<(PathBuf, Vec<u8>)>,
    /// Keys whose app packages the device takes.
    pub app_keys: Vec<PublicKey>,
    /// Seconds since 1970 that no clock on the device may fall below; the commit's time.
    pub build_time: u64,
    /// What it is made from, as JSON; lies in the image at [`PROVENANCE`].
    pub provenance: Vec<u8>,
    /// Refuse everything that belongs to development.
    pub production: bool,
}

/// What updates are made of.
#[derive(Debug)]
pub struct UpdateInputs {
    /// The root of each repository that the manifest names.
    pub roots: Vec<(RepositoryName, Vec<u8>)>,
    /// Certificates of the authorities that may vouch for the servers, in DER.
    pub authorities: Vec<Vec<u8>>,
    /// What of it belongs to development.
    pub development: Option<Development>,
}

/// A part of an image that belongs to development.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Development {
    /// The field of the image manifest that asks for it, or would say otherwise.
    pub field: String,
    /// The part, in words.
    pub what: &'static str,
    /// What to do instead.
    pub remedy: &'static str,
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
    /// The boot loader with its device tree.
    pub boot_loader: u64,
}

/// Why an image was not built.
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
        /// Which.
        program: String,
        /// Why.
        source: ElfError,
    },
    /// An app package is refused.
    #[error("{}", path.display())]
    App {
        /// Where it came from.
        path: PathBuf,
        /// Why.
        source: Unacceptable,
    },
    /// A set of system calls.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// The component list breaks its own rules.
    #[error("the components of this image do not fit together")]
    Components(#[from] ComponentListError),
    /// The root file system.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The boot image.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The board's device tree.
    #[error(transparent)]
    DeviceTree(#[from] DeviceTreeError),
    /// The boot loader.
    #[error(transparent)]
    BootLoader(#[from] BootLoaderError),
    /// The slot would be signed by a key that the boot loader does not have.
    #[error("the signing key {0} is none of the boot loader's")]
    Signer(String),
    /// A writable file system.
    #[error(transparent)]
    Ext4(#[from] Ext4Error),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What was asked for belongs to development.
    #[error("{}: {field}: a production image cannot hold {what}; {remedy}", path.display())]
    NotForProduction {
        /// The image manifest.
        path: PathBuf,
        /// The field, or the option, that asks for it.
        field: String,
        /// The part, in words.
        what: String,
        /// What to do instead.
        remedy: &'static str,
    },
}

/// Where the boot loader of the image at `image` is, for a board with a ROM.
#[must_use]
pub fn rom_path(image: &Path) -> PathBuf {
    image.with_extension("rom")
}

/// Refuses a place where no image can be written, before the work is done.
///
/// # Errors
/// What lies there is no file, or it would be its own boot loader.
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

/// Empty file systems, for a reset and for a partition that has been lost.
fn add_blanks(root: &mut Root, layout: &Layout, identity: &str) -> Result<(), BuildError> {
    for name in ["state", "apps", "data"] {
        let length = layout.partition(name)?.length;
        let blank = Blank::shorten(&ext4::with_files(name, identity.as_bytes(), length, &[])?);
        root.add(format!("{}/{name}", FACTORY_DIRECTORY.trim_start_matches('/')), blank, false);
    }
    Ok(())
}

/// The writable file systems by partition, with room for what the apps bring and are granted.
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

/// Refuses the apps of a production image that are directories: what is packed from them is signed with the
/// development key.
///
/// # Errors
/// One of `apps` is no package.
pub fn refuse_app_directories(
    manifest: &ImageManifest,
    apps: &[PathBuf],
) -> Result<(), BuildError> {
    let Some(directory) = apps.iter().find(|path| path.is_dir()) else { return Ok(()) };
    let is_listed = manifest.app_paths().any(|path| path == *directory);
    Err(BuildError::NotForProduction {
        path: manifest.path.clone(),
        field: if is_listed { "[[app]] path" } else { "--app" }.to_owned(),
        what: format!(
            "a development key for apps, which signs what is packed from {}",
            directory.display()
        ),
        remedy: "name its package, made by `app pack`, signed by `app sign` with a key of your own, and that \
                 key in `trust.app_keys`",
    })
}

fn refuse_development(inputs: &Inputs<'_>) -> Result<(), BuildError> {
    let refuse = |field: String, what: String, remedy| {
        let path = inputs.manifest.path.clone();
        Err(BuildError::NotForProduction { path, field, what, remedy })
    };
    if inputs.manifest.debugged.is_some() {
        let what = "the debug port of an app".to_owned();
        return refuse("--debug".to_owned(), what, "leave the option out");
    }
    if let Some((service, _)) = inputs.services.iter().find(|(service, _)| service.test_only) {
        let FieldError { path, field, .. } = service.refused("test_only", "");
        let what = format!("the test service `{}`", service.name);
        return Err(BuildError::NotForProduction {
            path,
            field,
            what,
            remedy: "leave the service out",
        });
    }
    let paths: Vec<PathBuf> = inputs.apps.iter().map(|(path, _)| path.clone()).collect();
    refuse_app_directories(inputs.manifest, &paths)?;
    if inputs.app_keys.iter().any(|key| key.development) {
        return refuse(
            "trust.app_keys".to_owned(),
            "a development key for apps".to_owned(),
            "name the public key of one that `key new --for app` has made",
        );
    }
    if let Some(development) = inputs.update.as_ref().and_then(|u| u.development.as_ref()) {
        let Development { field, what, remedy } = development;
        return refuse(field.clone(), (*what).to_owned(), remedy);
    }
    if inputs.boot_keys.iter().any(|key| key.development) {
        return refuse(
            "trust.boot".to_owned(),
            "a development key of the boot loader".to_owned(),
            "name the public keys of three that `key new --for boot` has made",
        );
    }
    Ok(())
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
    };
    let packages = inputs.apps.iter().map(|(path, bytes)| {
        acceptance.accept(bytes).map_err(|source| BuildError::App { path: path.clone(), source })
    });
    packages.collect()
}

/// What components may have of memory and of ports, all of them together.
fn check_memory(inputs: &Inputs<'_>, packages: &[Package]) -> Result<(), BuildError> {
    let list = component_list(inputs, packages)?;
    let machine = Machine::with_memory(list.image.memory_kib.into());
    let services: Vec<(&str, &Plan)> =
        list.services.iter().map(|service| (service.name.as_str(), &service.plan)).collect();
    let taken: u64 = services.iter().map(|(_, plan)| shares::memory_kib(plan)).sum();
    if taken > machine.memory_kib {
        let reason = format!(
            "the services need {taken} KiB, but a machine of {} MiB has {} KiB for components; make it \
             larger, or take a board with more",
            inputs.memory_mib, machine.memory_kib
        );
        let field = "memory_mib".to_owned();
        return Err(FieldError { path: inputs.manifest.path.clone(), field, reason }.into());
    }
    acceptance::fit_together(machine, &services, packages, &list.peripherals).map_err(
        |(index, shortage)| BuildError::App {
            path: inputs.apps.get(index).map(|(path, _)| path.clone()).unwrap_or_default(),
            source: Unacceptable::Refused(format!("asks for {shortage}")),
        },
    )
}

/// The files of the root file system.
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

/// What a service reads of what the image manifest says: names of files beside its program, and their contents.
fn settings(inputs: &Inputs<'_>, service: &Service) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
    let manifest = inputs.manifest;
    match (service.name.as_str(), &manifest.network, &manifest.update, &inputs.update) {
        ("network", Some(network), ..) => {
            let config = network.config().map_err(|(field, reason)| FieldError {
                path: manifest.path.clone(),
                field: format!("network.{field}"),
                reason: reason.to_owned(),
            })?;
            let encoded = config.encode().map_err(ComponentListError::from)?;
            Ok(vec![(config::FILE_NAME.to_owned(), encoded)])
        }
        ("uplink", _, Some(source), Some(update)) => {
            let servers = source.repositories().map(|(of, from)| (of, from.url.clone())).collect();
            let config = UplinkConfig {
                servers,
                authorities: update.authorities.clone(),
                bytes_a_day: u64::from(source.mib_a_day).saturating_mul(1024 * 1024),
            };
            let encoded = config.encode().map_err(ComponentListError::from)?;
            Ok(vec![(update_config::UPLINK_FILE.to_owned(), encoded)])
        }
        ("update", _, Some(source), Some(update)) => update_settings(manifest, source, update),
        _ => Ok(Vec::new()),
    }
}

/// What the update agent reads.
fn update_settings(
    manifest: &ImageManifest,
    source: &UpdateSource,
    update: &UpdateInputs,
) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
    let config = UpdateConfig {
        device: release::Device {
            product: manifest.product.clone(),
            board: manifest.board.clone(),
            os: manifest.version_number(),
        },
        repositories: source.repositories().map(|(of, _)| of).collect(),
        check_every_s: source.check_every_s,
        retry_after_s: source.retry_after_s,
        window: source.window.as_deref().and_then(Window::parse),
        most_bytes_a_release: source.kib_a_release.map(|kib| u64::from(kib).saturating_mul(1024)),
    };
    let encoded = config.encode().map_err(ComponentListError::from)?;
    let mut files = vec![(update_config::UPDATE_FILE.to_owned(), encoded)];
    files.extend(roots(manifest, update)?);
    Ok(files)
}

/// The root of each repository, with which a device begins.
fn roots(
    manifest: &ImageManifest,
    update: &UpdateInputs,
) -> Result<Vec<(String, Vec<u8>)>, BuildError> {
    let mut files = Vec::new();
    for (repository, bytes) in &update.roots {
        Client::begin(bytes, Trusted::default(), 0).map_err(|error| FieldError {
            path: manifest.path.clone(),
            field: format!("update.{repository}.root"),
            reason: format!("no device can begin with it: {}", with_causes(&error)),
        })?;
        files.push((update_config::root_file(*repository), bytes.clone()));
    }
    Ok(files)
}

fn component_list(inputs: &Inputs<'_>, packages: &[Package]) -> Result<ComponentList, BuildError> {
    let manifest = inputs.manifest;
    let chosen = inputs.services.iter().map(|(service, _)| *service);
    let (services, admission) = own_services::components(chosen, manifest, inputs.board)?;
    let apps: Vec<App> = packages
        .iter()
        .map(|package| App {
            name: holdfast_types::component_name::name_for(&package.manifest.name),
            component_id: package.header.component_id,
        })
        .chain(manifest.later_apps())
        .collect();
    if let Some(app) = &manifest.debugged
        && !apps.iter().any(|known| known.name == *app)
    {
        let known: Vec<&str> = apps.iter().map(|app| app.name.as_str()).collect();
        return Err(BuildError::Field(FieldError {
            path: manifest.path.clone(),
            field: "app".to_owned(),
            reason: format!("there is no `{app}` to be debugged; there is {}", known.join(", ")),
        }));
    }
    let image = ImageDescription {
        name: manifest.name.clone(),
        product: manifest.product.clone(),
        version: manifest.version_number(),
        board: manifest.board.clone(),
        memory_kib: inputs.memory_mib.saturating_mul(1024),
        hostname: manifest.hostname.clone(),
        build_time: inputs.build_time,
        development: !inputs.production,
        debugged: manifest.debugged.clone(),
    };
    Ok(ComponentList {
        format_version: component::FORMAT_VERSION,
        image,
        services,
        apps,
        peripherals: inputs.board.offered(),
        admission,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::GOOD;

    #[test]
    fn a_production_image_takes_packages_and_no_directories() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("app")).unwrap();
        fs::create_dir(at("other")).unwrap();
        fs::write(at("app.package"), "x").unwrap();
        let with_app = GOOD.replace("[slots]", "[[app]]\npath = \"app\"\n[slots]");
        fs::write(at("image.toml"), with_app).unwrap();
        let manifest = ImageManifest::load(&at("image.toml")).unwrap();
        refuse_app_directories(&manifest, &[at("app.package")]).unwrap();
        for (name, field) in [("app", "[[app]] path"), ("other", "--app")] {
            let refused = refuse_app_directories(&manifest, &[at("app.package"), at(name)]);
            let message = refused.unwrap_err().to_string();
            let start =
                format!("image.toml: {field}: a production image cannot hold a development key");
            assert!(message.contains(&start) && message.contains("`app sign`"), "{message}");
            assert!(message.contains(&at(name).display().to_string()), "{message}");
        }
    }
}
