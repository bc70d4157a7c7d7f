//! Boards as data: `images/boards/*.toml`.

use crate::manifest::ManifestError;
use crate::{FieldError, FileError};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

/// What the builder has to know of a board.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Its name, as image manifests use it and as its file is called.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Fragments in `kernel-config/`, without `.config`, in the order they are merged.
    pub kernel_fragments: Vec<String>,
    /// Value of the kernel's `console=`.
    pub console: String,
    /// Where its device tree comes from.
    pub device_tree: DeviceTreeSource,
    /// First byte behind the room kept for the boot loader, in KiB from the start of the disk.
    pub boot_loader_end_kib: u32,
    /// Fragments in `boot-loader/`, without `.config`, in the order they are merged.
    pub boot_loader_fragments: Vec<String>,
    /// Where the boot loader puts what it reads.
    pub addresses: Addresses,
}

/// Addresses in the board's memory. The boot loader itself sits at its end.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addresses {
    /// Start of the zImage: above all that it unpacks to.
    pub kernel: u32,
    /// Start of the device tree: 8-byte aligned, behind any zImage.
    pub device_tree: u32,
    /// Where a FIT is read to, whole.
    pub fit: u32,
    /// First address behind the room for a FIT.
    pub fit_end: u32,
    /// Where the end of the log outlives a reset: what nothing else uses, the boot loader included.
    pub boot_log: u32,
}

impl Addresses {
    /// Longest FIT that is read, in bytes.
    #[must_use]
    pub fn fit_room(&self) -> u64 {
        u64::from(self.fit_end.saturating_sub(self.fit))
    }
}

/// Where a board's device tree comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceTreeSource {
    /// Dumped from QEMU's machine of the same devices.
    QemuVirt,
}

impl Board {
    /// The board called `name` in `directory`. `manifest` is the document that asked for it.
    ///
    /// # Errors
    /// There is no such board (the message lists those there are), or its file is broken.
    pub fn load(directory: &Path, name: &str, manifest: &Path) -> Result<Self, ManifestError> {
        let path = directory.join(format!("{name}.toml"));
        if name.contains('/') || !path.is_file() {
            return Err(ManifestError::Field(FieldError {
                path: manifest.to_owned(),
                field: "board".to_owned(),
                reason: format!(
                    "there is no board `{name}`; boards are: {}",
                    names(directory).join(", ")
                ),
            }));
        }
        let text = fs::read_to_string(&path).map_err(FileError::at("read", &path))?;
        let board: Self = toml::from_str(&text).map_err(|source| ManifestError::Toml {
            path: path.clone(),
            source: Box::new(source),
        })?;
        let refuse = |field: &str, reason: &str| {
            Err(ManifestError::Field(FieldError {
                path: path.clone(),
                field: field.to_owned(),
                reason: reason.to_owned(),
            }))
        };
        if board.name != name {
            return refuse("name", "must be the file's name without `.toml`");
        }
        if board.boot_loader_end_kib < 64 || board.boot_loader_end_kib > 3072 {
            return refuse("boot_loader_end_kib", "must be from 64 to 3072");
        }
        let Addresses { kernel, device_tree, fit, fit_end, boot_log } = board.addresses;
        if !(kernel < device_tree && device_tree < fit && fit < fit_end && fit_end <= boot_log) {
            return refuse("addresses", "must rise: kernel, device_tree, fit, fit_end, boot_log");
        }
        if [kernel, device_tree, fit, boot_log].iter().any(|address| !address.is_multiple_of(4096))
        {
            return refuse("addresses", "must be multiples of 4096");
        }
        Ok(board)
    }
}

/// The names of all boards in `directory`, sorted.
#[must_use]
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| PathBuf::from(entry.file_name()))
        .filter(|name| name.extension().is_some_and(|e| e == "toml"))
        .filter_map(|name| Some(name.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_board_in_the_tree_loads_and_an_unknown_one_lists_them() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("boards");
        let all = names(&directory);
        assert!(all.contains(&"qemu-virt".to_owned()));
        for name in &all {
            Board::load(&directory, name, Path::new("image.toml")).unwrap();
        }
        let error = Board::load(&directory, "toaster", Path::new("image.toml")).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("image.toml: board: there is no board `toaster`"), "{message}");
        assert!(message.contains("qemu-virt"), "{message}");
    }
}
