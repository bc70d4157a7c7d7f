//! Putting an app package into an image that is there, without its OS being built, or signed, again: at the
//! factory, where the app is known later than the OS.
//!
//! The image's verified root says which apps it starts; one of those may come later (`component_id` in place of
//! `path` in its image manifest). Nothing but the `apps` partition is written.

use crate::FileError;
use crate::acceptance::{self, Acceptance, Unacceptable};
use crate::destination::{self, DestinationError};
use crate::disk::{DiskError, Layout};
use crate::ext4::{self, Ext4Error};
use crate::key::PublicKey;
use crate::package::{self, Package};
use crate::root::{self, RootError};
use crate::service::DIRECTORY;
use crate::show::{self, ShowError};
use holdfast_evidence::config::{IDENTITY_FILE, IdentityConfig};
use holdfast_sandbox::app_manifest::AppManifest;
use holdfast_sandbox::component::{self, ComponentList, ComponentListError, Stored};
use holdfast_sandbox::policy::Plan;
use holdfast_sandbox::policy::shares::Machine;
use holdfast_types::encoding::EncodingError;
use holdfast_types::{CatalogId, ComponentId};
use std::fs::{self, File};
use std::path::Path;

/// Name of the network service.
const NETWORK: &str = "network";
/// Name of the service with the device's keys.
const IDENTITY: &str = "identity";

/// An error of appending an app. The image is as it was.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The output path cannot be written.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// The image cannot be read.
    #[error(transparent)]
    Show(#[from] ShowError),
    /// The image's root file system cannot be read.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The component list of the image.
    #[error(transparent)]
    Components(#[from] ComponentListError),
    /// The file in the image that says how its devices are known (`identity`).
    #[error("the image's file on the device's identity is damaged")]
    Identity(#[source] EncodingError),
    /// The image's partitions.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file system of the packages.
    #[error(transparent)]
    Ext4(#[from] Ext4Error),
    /// The device would not take the package.
    #[error(transparent)]
    Unacceptable(#[from] Unacceptable),
    /// The image starts no such app.
    #[error(
        "the package is of component {id}, which this image does not list; it lists {}. An image \
         manifest lists an app that comes later by `component_id` and `name`",
        listed.join(", ")
    )]
    NotListed {
        /// Component id of the package.
        id: ComponentId,
        /// Component ids that the image lists, with their names.
        listed: Vec<String>,
    },
    /// Another app has what it asks for.
    #[error("the package: {0}")]
    Contested(String),
    /// There is no room.
    #[error("the packages need {needed} KiB in partition `{partition}`, which has {room}")]
    NoRoom {
        /// The partition.
        partition: &'static str,
        /// KiB that are needed.
        needed: u64,
        /// KiB that the partition has.
        room: u64,
    },
    /// A device has run from the image.
    #[error("its partition `apps` has `{0}`: a device has written it; begin with a fresh image")]
    Used(String),
}

impl AppendError {
    /// True when the error is about the image, and false when it is about the package; `None` when its text names the
    /// file.
    #[must_use]
    pub fn is_of_image(&self) -> Option<bool> {
        match self {
            Self::File(_) | Self::Destination(_) | Self::Disk(DiskError::File(_)) => None,
            Self::Show(error) if error.names_the_file() => None,
            Self::Unacceptable(_) | Self::NotListed { .. } | Self::Contested(_) => Some(false),
            _ => Some(true),
        }
    }
}

/// Result of appending an app.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Appended {
    /// The app's name on the device.
    pub name: String,
    /// Version of the app.
    pub version: String,
    /// True when the package took the place of one that was there.
    pub replaced: bool,
    /// Bytes of all packages of the image.
    pub packages_bytes: u64,
}

/// The catalog that the image's devices belong to, where they have a service.
fn catalog(root: &[u8], list: &ComponentList) -> Result<Option<CatalogId>, AppendError> {
    if !list.services.iter().any(|service| service.name == IDENTITY) {
        return Ok(None);
    }
    let file = root::read_file(root, &format!("/{DIRECTORY}/{IDENTITY}/{IDENTITY_FILE}"))?;
    let config = IdentityConfig::decode(&file).map_err(AppendError::Identity)?;
    Ok(Some(config.catalog))
}

/// Puts the package at `package` into the image at `image`: whole, or not at all.
///
/// # Errors
/// See [`AppendError`].
pub fn append(image: &Path, package: &Path) -> Result<Appended, AppendError> {
    destination::check_file(image)?;
    let bytes = fs::read(package).map_err(FileError::at("read", package))?;
    let root = show::read_root(image)?;
    let list = ComponentList::decode(&root::read_file(&root, component::PATH)?)?;
    let keys = trusted_keys(&root)?;
    let acceptance = Acceptance {
        product: &list.image.product,
        board: &list.image.board,
        os: list.image.version,
        keys: &keys,
        offered: &list.peripherals,
        network: list.services.iter().any(|service| service.name == NETWORK),
        catalog: catalog(&root, &list)?,
    };
    let appended = acceptance.accept(&bytes)?;
    let id = appended.header.component_id;
    let app = list.apps.iter().find(|app| app.component_id == id);
    let app = app.ok_or_else(|| AppendError::NotListed {
        id,
        listed: list
            .apps
            .iter()
            .map(|app| format!("{} ({})", app.component_id, app.name))
            .collect(),
    })?;
    let mut file = File::open(image).map_err(FileError::at("open", image))?;
    let layout = Layout::read(&mut file)?;
    let partition = layout.partition("apps")?;
    let mut packages = Vec::new();
    for (name, bytes) in ext4::files(&partition.read(&mut file, image)?)? {
        let listed = list.apps.iter().any(|a| Stored::Current.file(a.component_id) == name);
        if !listed {
            return Err(AppendError::Used(name));
        }
        packages.push((name, bytes));
    }
    let own = Stored::Current.file(id);
    let before = packages.len();
    packages.retain(|(name, _)| *name != own);
    let replaced = packages.len() < before;
    let others: Vec<Package> = packages
        .iter()
        .map(|(_, bytes)| package::read(bytes))
        .collect::<Result<_, _>>()
        .map_err(Unacceptable::from)?;
    let data = layout.partition("data")?.read(&mut file, image)?;
    check_together(&others, &appended, &data)?;
    check_memory(&list, others, &appended)?;
    packages.push((own, bytes));
    let files: Vec<(String, &[u8])> =
        packages.iter().map(|(name, bytes)| (name.clone(), bytes.as_slice())).collect();
    let identity = format!("{} {}", list.image.name, list.image.board);
    let make = |files: &[(String, &[u8])]| {
        ext4::with_files("apps", identity.as_bytes(), partition.length, files)
    };
    let packages_bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let packages_bytes = u64::try_from(packages_bytes).unwrap_or(u64::MAX);
    let apps = make(&files).or_else(|error| {
        let (needed, room) = (packages_bytes, ext4::free_bytes(&make(&[])?));
        if needed > room {
            let (needed, room) = (needed.div_ceil(1024), room / 1024);
            return Err(AppendError::NoRoom { partition: "apps", needed, room });
        }
        Err(error.into())
    })?;
    destination::write_file::<AppendError>(image, |file, path| {
        let mut source = File::open(image).map_err(FileError::at("open", image))?;
        std::io::copy(&mut source, file).map_err(FileError::at("write", path))?;
        Ok(partition.replace(file, path, "the packages", &apps)?)
    })?;
    Ok(Appended {
        name: app.name.clone(),
        version: appended.header.version.to_string(),
        replaced,
        packages_bytes,
    })
}

/// Peripherals and server ports are one app's each, and the storage of all is there.
fn check_together(others: &[Package], new: &Package, data: &[u8]) -> Result<(), AppendError> {
    let manifests: Vec<&AppManifest> =
        others.iter().chain([new]).map(|package| &package.manifest).collect();
    if let Some((_, fault)) = holdfast_manifest::contested(&manifests).into_iter().next() {
        return Err(AppendError::Contested(fault.to_string()));
    }
    let needed: u64 = manifests.iter().filter_map(|m| m.storage_kib).map(u64::from).sum();
    let room = ext4::free_bytes(data) / 1024;
    if needed > room {
        return Err(AppendError::NoRoom { partition: "data", needed, room });
    }
    Ok(())
}

/// The memory of all is there, on the machine that the image is for.
fn check_memory(
    list: &ComponentList,
    mut packages: Vec<Package>,
    new: &Package,
) -> Result<(), AppendError> {
    packages.push(new.clone());
    let services: Vec<(&str, &Plan)> =
        list.services.iter().map(|service| (service.name.as_str(), &service.plan)).collect();
    let machine = Machine::with_memory(list.image.memory_kib.into());
    acceptance::fit_together(machine, &services, &packages, &list.peripherals)
        .map_err(|(_, shortage)| Unacceptable::Refused(format!("asks for {shortage}")))?;
    Ok(())
}

/// The keys in a verified root by which apps are signed.
fn trusted_keys(root: &[u8]) -> Result<Vec<PublicKey>, RootError> {
    let entries = root::list(root)?;
    let places = entries.iter().filter(|entry| entry.path.starts_with(component::TRUSTED_KEYS));
    let mut keys = Vec::new();
    for place in places {
        if let Ok(bytes) = root::read_file(root, &place.path)?.try_into() {
            keys.push(PublicKey { bytes, development: place.path.ends_with(".development.pub") });
        }
    }
    Ok(keys)
}
