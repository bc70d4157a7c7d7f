//! Reading an image back: what `image show` prints and what tests look at.

use crate::boot::{self, Boot, BootError, signature};
use crate::build::PROVENANCE;
use crate::disk::{DiskError, Layout, Partition};
use crate::root::{self, Entry, RootError};
use crate::verity::{self, BLOCK_BYTES, Verity};
use crate::{FileError, hex};
use holdfast_lifecycle::slots::{COPY_BYTES, Copies, Slot, copy_offsets};
use holdfast_sandbox::component::{self, ComponentList, ComponentListError};
use serde::Serialize;
use std::fs::File;
use std::path::Path;

/// Everything there is to say of an image.
#[derive(Debug, Clone, Serialize)]
pub struct Image {
    /// Image name, from its component list.
    pub name: String,
    /// Product of the image.
    pub product: String,
    /// Image version.
    pub version: String,
    /// Board that the image was made for.
    pub board: String,
    /// Memory of the device that it was made for, in MiB.
    pub memory_mib: u32,
    /// True unless it was built with `--production`.
    pub development: bool,
    /// The app that waits for a debugger.
    pub debugged: Option<String>,
    /// Whether somebody has signed slot A. By whom, `image verify` says.
    pub boot: BootStatus,
    /// Whether a device takes its boot loader from the slot; on other boards it stays as it is.
    pub brings_boot_loader: bool,
    /// Length of the disk in bytes.
    pub disk_bytes: u64,
    /// Partitions in order.
    pub partitions: Vec<Partition>,
    /// The slot that holds a system.
    pub slot: Slot,
    /// Bytes of the zImage.
    pub kernel_bytes: usize,
    /// Bytes of root file system and verity tree.
    pub root_bytes: usize,
    /// Bytes of FIT and root together.
    pub slot_bytes: usize,
    /// Verity root hash, in hexadecimal.
    pub root_hash: String,
    /// Digest of the FIT, which the boot loader extends PCR 8 with where the board has a TPM; in hexadecimal.
    pub boot_digest: String,
    /// True for a board that can have a TPM, of whose state the boot loader tells the kernel.
    pub tpm: bool,
    /// The kernel's command line.
    pub command_line: String,
    /// The provenance file of the image; `None` in images without one.
    pub provenance: Option<serde_json::Value>,
    /// Names of the components, in start order.
    pub components: Vec<String>,
    /// Every file and directory of the root file system.
    pub files: Vec<Entry>,
    /// Paths of every ELF file.
    pub elf_files: Vec<String>,
}

/// Whether a boot partition is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootStatus {
    /// The boot partition has a signature.
    Signed,
    /// The boot partition has no signature yet.
    Unsigned,
}

impl std::fmt::Display for BootStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Signed => "signed",
            Self::Unsigned => "unsigned",
        })
    }
}

/// An error of reading an image.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The partitions.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The boot partition.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The root file system.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The component list in it.
    #[error(transparent)]
    Components(#[from] ComponentListError),
    /// The command line does not say how to verify the root.
    #[error("the command line has no verity table for the root")]
    NoVerityTable,
    /// The root file system is not the one that the command line names.
    #[error("the root file system has root hash {found}, but the command line names {named}")]
    RootHash {
        /// Computed from the data.
        found: String,
        /// From the command line.
        named: String,
    },
}

impl ShowError {
    /// True when the text of the error names the file.
    #[must_use]
    pub fn names_the_file(&self) -> bool {
        matches!(self, Self::File(_) | Self::Disk(DiskError::File(_)))
    }
}

/// A partition of the image at `path`.
///
/// # Errors
/// No image, or it is cut short.
pub fn read_partition(path: &Path, name: &str) -> Result<Vec<u8>, ShowError> {
    let mut file = File::open(path).map_err(FileError::at("open", path))?;
    Ok(Layout::read(&mut file)?.partition(name)?.read(&mut file, path)?)
}

/// Reads the kernel, device tree and command line of slot A of the image at `path`.
///
/// # Errors
/// No image, or its boot partition is damaged.
pub fn read_boot(path: &Path) -> Result<Boot, ShowError> {
    Ok(boot::read(&read_partition(path, "boot-a")?, Slot::A)?)
}

/// The verity root hash and the number of data blocks that a command line names.
#[must_use]
pub fn verity_table(command_line: &str) -> Option<(String, usize)> {
    let table = command_line.split_once("dm-mod.create=\"")?.1.split('"').next()?;
    let words: Vec<&str> = table.split_once(" verity ")?.1.split(' ').collect();
    let (blocks, hash) = (words.get(5)?, words.get(8)?);
    Some(((*hash).to_owned(), blocks.parse().ok()?))
}

/// Reads both copies of the boot state of the image at `path`.
///
/// # Errors
/// No image, or it is cut short.
pub fn read_boot_state(path: &Path) -> Result<Copies, ShowError> {
    let partition = read_partition(path, "bootstate")?;
    let length = u64::try_from(partition.len()).unwrap_or(u64::MAX);
    let [first, second] = copy_offsets(length).map(|offset| {
        let rest = usize::try_from(offset).ok().and_then(|offset| partition.get(offset..));
        rest.and_then(|rest| rest.get(..COPY_BYTES)).unwrap_or_default()
    });
    Ok(Copies::read(first, second))
}

/// Reads the root file system of slot A, without its verity tree, checked against the command line.
///
/// # Errors
/// No image, damaged, or not the root that the command line names.
pub fn read_root(path: &Path) -> Result<Vec<u8>, ShowError> {
    Ok(verified_root(path, Slot::A, &read_boot(path)?.command_line)?.0)
}

/// Reads the data in the `root` partition of `slot`, and the tree that belongs to it, whose root hash
/// is the one that `command_line` names.
pub(crate) fn verified_root(
    path: &Path,
    slot: Slot,
    command_line: &str,
) -> Result<(Vec<u8>, Verity, Vec<u8>), ShowError> {
    let (named, blocks) = verity_table(command_line).ok_or(ShowError::NoVerityTable)?;
    let mut data = read_partition(path, &format!("root-{}", slot.letter()))?;
    let length = blocks.saturating_mul(BLOCK_BYTES);
    if length > data.len() {
        return Err(ShowError::NoVerityTable);
    }
    let behind = data.split_off(length);
    let verity = verity::hash_root(&data).ok_or(ShowError::NoVerityTable)?;
    let found = hex(&verity.root_hash);
    if found == named {
        Ok((data, verity, behind))
    } else {
        Err(ShowError::RootHash { found, named })
    }
}

/// Reads the image at `path` and checks that its root is the one its command line names.
///
/// # Errors
/// See [`ShowError`].
pub fn show(path: &Path) -> Result<Image, ShowError> {
    let mut file = File::open(path).map_err(FileError::at("open", path))?;
    let layout = Layout::read(&mut file)?;
    let boot_partition = layout.partition("boot-a")?.read(&mut file, path)?;
    let boot = boot::read(&boot_partition, Slot::A)?;
    let (data, verity, _) = verified_root(path, Slot::A, &boot.command_line)?;
    let fit_bytes = signature::fit_length(&boot_partition).unwrap_or(0);
    let is_signed = signature::signature(&boot_partition, &boot::configuration(Slot::A))?
        != [0; boot::KEY_BYTES];
    let files = root::list(&data)?;
    let list = ComponentList::decode(&root::read_file(&data, component::PATH)?)?;
    let root_bytes = data.len().saturating_add(verity.tree.len());
    Ok(Image {
        name: list.image.name,
        product: list.image.product,
        version: list.image.version.to_string(),
        board: list.image.board,
        memory_mib: list.image.memory_kib / 1024,
        development: list.image.development,
        debugged: list.image.debugged.clone(),
        boot: if is_signed { BootStatus::Signed } else { BootStatus::Unsigned },
        brings_boot_loader: files
            .iter()
            .any(|file| file.path == holdfast_lifecycle::boot_loader::PATH),
        disk_bytes: layout.length,
        partitions: layout.partitions,
        slot: Slot::A,
        kernel_bytes: boot.kernel.len(),
        root_bytes,
        slot_bytes: root_bytes.saturating_add(fit_bytes),
        root_hash: hex(&verity.root_hash),
        boot_digest: signature::boot_digest(&boot_partition).map_or_else(String::new, |d| hex(&d)),
        tpm: boot::tells_of_a_tpm(&boot)?,
        command_line: boot.command_line,
        provenance: root::read_file(&data, PROVENANCE)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok()),
        components: list
            .services
            .into_iter()
            .map(|service| service.name)
            .chain(list.apps.into_iter().map(|app| app.name))
            .collect(),
        elf_files: files.iter().filter(|f| f.elf).map(|f| f.path.clone()).collect(),
        files,
    })
}
