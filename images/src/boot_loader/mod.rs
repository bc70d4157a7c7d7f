//! The boot loader: U-Boot, and behind it the device tree that it takes its orders from, with the keys
//! that a slot must be signed with, the boot script, and the board's devices. It lies in a ROM of its
//! own, or on the card in front of the partitions.
//!
//! Source: U-Boot's `doc/usage/fit/signature.rst` (keys) and `doc/device-tree-bindings/config.txt`
//! (`bootcmd`). The control device tree lies behind `u-boot-nodtb.bin` (`CONFIG_OF_SEPARATE`).

pub mod card;
mod commands;
mod error;
mod measuring;
pub mod script;

use self::card::{FirstStageAt, Piece};
use crate::board::{Board, Place, Spare};
use crate::boot::{self, BootError, BootKey};
use crate::device_tree;
use crate::disk::{Layout, Partition};
use crate::{FileError, fdt, root};
use dtoolkit::model::DeviceTreeNode;
use dtoolkit::{Node, Property};
pub use error::BootLoaderError;
use holdfast_lifecycle::boot_loader::{BootLoader, Copy, Found, Place as Which};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

/// Names of the keys in the boot loader. A slot must be signed by one of them.
pub const KEY_NAMES: [&str; 3] = ["current", "next", "recovery"];

/// Property of `/config` that names the board, for whoever looks at a boot loader.
const BOARD: &str = "holdfast,board";

/// Files that a build of U-Boot has made.
#[derive(Debug, Clone, Copy)]
pub struct UBoot<'a> {
    /// U-Boot without a device tree.
    pub image: &'a [u8],
    /// First stage (SPL) that the boot ROM starts, on a board with a boot loader on the card.
    pub first_stage: Option<&'a [u8]>,
    /// First stage of the spare copy, on a board that has one: the boot ROM starts it when it finds no other.
    pub spare_first_stage: Option<&'a [u8]>,
    /// U-Boot's control device tree, by which it finds its devices; Linux's on a machine of QEMU.
    pub device_tree: &'a [u8],
}

/// A boot loader, ready to be put where the boot ROM looks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assembled {
    /// The contents of a ROM.
    Rom(Vec<u8>),
    /// Pieces of the card.
    Card {
        /// The first stage, where the boot ROM looks first, and U-Boot.
        first: [Piece; 2],
        /// The same where the boot ROM looks next, on a board with a spare copy.
        spare: Option<[Piece; 2]>,
    },
}

impl Assembled {
    /// Returns the length of the boot loader in bytes, both copies together.
    #[must_use]
    pub fn length(&self) -> u64 {
        let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        match self {
            Self::Rom(rom) => length(rom),
            Self::Card { .. } => self.pieces().map(|piece| length(&piece.bytes)).sum(),
        }
    }

    /// Writes the pieces that lie on the card in front of the partitions.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_in_front(&self, file: &mut File, path: &Path) -> Result<(), FileError> {
        for Piece { at, bytes } in self.pieces() {
            file.seek(SeekFrom::Start(*at)).map_err(FileError::at("seek in", path))?;
            file.write_all(bytes).map_err(FileError::at("write", path))?;
        }
        Ok(())
    }

    /// Returns the pieces that lie on the card; none for a ROM.
    pub fn pieces(&self) -> impl Iterator<Item = &Piece> {
        let (first, spare) = match self {
            Self::Rom(_) => (None, None),
            Self::Card { first, spare } => (Some(first), spare.as_ref()),
        };
        first.into_iter().chain(spare).flatten()
    }
}

/// Assembles U-Boot with its control device tree, in the form in which the board's boot ROM finds it.
///
/// # Errors
/// See [`BootLoaderError`].
pub fn assemble(
    built: &UBoot<'_>,
    board: &Board,
    layout: &Layout,
    keys: &[BootKey; 3],
) -> Result<Assembled, BootLoaderError> {
    let u_boot = with_control_tree(built, board, layout, keys)?;
    let loader = &board.boot_loader;
    let (Place::Card, Some(stage), Some(place)) =
        (loader.place, &loader.first_stage, loader.u_boot)
    else {
        return Ok(Assembled::Rom(u_boot));
    };
    let wrapped = card::legacy_image(&u_boot, place.load);
    let not_built = |what| BootLoaderError::NotBuilt { board: board.name.clone(), what };
    let bytes = built.first_stage.ok_or_else(|| not_built("a first stage"))?;
    let first = FirstStageAt { bytes, at_kib: stage.at_kib, u_boot_at_kib: place.at_kib };
    let spare = loader.spare.as_ref().map(|&Spare { at_kib, u_boot_at_kib, .. }| {
        let bytes = built.spare_first_stage.ok_or_else(|| not_built("a spare first stage"))?;
        let spare = FirstStageAt { bytes, at_kib, u_boot_at_kib };
        card::pieces(board, stage, spare, &wrapped)
    });
    Ok(Assembled::Card {
        first: card::pieces(board, stage, first, &wrapped)?,
        spare: spare.transpose()?,
    })
}

/// Encodes the boot loader that a slot brings along for its board; `None` on a board without a spare copy.
///
/// # Errors
/// A device would not write this boot loader.
pub fn for_slot(
    board: &Board,
    layout: &Layout,
    assembled: &Assembled,
) -> Result<Option<Vec<u8>>, BootLoaderError> {
    let (Some(Spare { form, .. }), Assembled::Card { first, spare: Some(spare) }) =
        (&board.boot_loader.spare, assembled)
    else {
        return Ok(None);
    };
    let [_, u_boot] = first;
    let copy = |[first, u_boot]: &[Piece; 2]| Copy {
        at: first.at,
        first_stage: first.bytes.clone(),
        u_boot_at: u_boot.at,
    };
    let read = ["bootstate", "boot-a", "boot-b"];
    let partitions = layout.partitions.iter().filter(|p| read.contains(&&*p.name));
    let loader = BootLoader {
        form: *form,
        partitions: partitions
            .map(|Partition { name, start, length }| holdfast_lifecycle::boot_loader::Partition {
                name: name.clone(),
                start: *start,
                length: *length,
            })
            .collect(),
        copies: [copy(first), copy(spare)],
        u_boot: u_boot.bytes.clone(),
    };
    Ok(Some(loader.encode()?))
}

/// Decodes the boot loader that the slot with this root file system brings along; `None` on most boards.
///
/// # Errors
/// The slot brings a boot loader that no device would write.
pub fn brought(root: &[u8]) -> Result<Option<BootLoader>, BootLoaderError> {
    match root::read_file(root, holdfast_lifecycle::boot_loader::PATH) {
        Ok(bytes) => Ok(Some(BootLoader::decode(&bytes)?)),
        // Most boards have none.
        Err(_) => Ok(None),
    }
}

/// Compares both copies at the start of a card with `loader`.
#[must_use]
pub fn copies(start: &[u8], loader: &BootLoader) -> [Found; 2] {
    let bytes = |at: u64, length: usize| {
        let behind = usize::try_from(at).ok().and_then(|at| start.get(at..)).unwrap_or_default();
        behind.get(..length.min(behind.len())).unwrap_or_default()
    };
    [Which::First, Which::Spare].map(|place| {
        let Copy { at, u_boot_at, .. } = loader.copy(place);
        let first_stage = bytes(*at, loader.form.most_bytes());
        loader.judge(place, first_stage, bytes(*u_boot_at, loader.u_boot.len()))
    })
}

fn with_control_tree(
    built: &UBoot<'_>,
    board: &Board,
    layout: &Layout,
    keys: &[BootKey; 3],
) -> Result<Vec<u8>, BootLoaderError> {
    let script = script::write(board, layout).ok_or(BootLoaderError::Layout)?;
    let device_tree = device_tree::without(built.device_tree, &board.device_tree.leave_out);
    let mut tree = fdt::parse_tree(&device_tree, "the boot loader's device tree")?;
    let mut signature = DeviceTreeNode::new_unchecked("signature");
    signature.add_property(fdt::property("required-mode", "any"));
    for (name, key) in KEY_NAMES.iter().zip(keys) {
        signature.add_child(key_node(name, key));
    }
    tree.root.remove_child("signature");
    tree.root.add_child(signature);
    let mut config = DeviceTreeNode::new_unchecked("config");
    config.add_property(fdt::property("bootcmd", script.as_str()));
    config.add_property(fdt::property(BOARD, board.name.as_str()));
    tree.root.remove_child("config");
    tree.root.add_child(config);
    device_tree::add_tpm(board, &mut tree, "okay")?;
    let mut whole = built.image.to_vec();
    whole.resize(whole.len().next_multiple_of(4), 0);
    whole.extend_from_slice(&tree.to_dtb());
    Ok(whole)
}

fn key_node(name: &str, key: &BootKey) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(format!("key-{name}"));
    node.add_property(fdt::property("key-name-hint", name));
    node.add_property(fdt::property("required", "conf"));
    node.add_property(fdt::property("algo", boot::ALGORITHM));
    let parameters = key.montgomery();
    node.add_property(fdt::property("rsa,num-bits", parameters.bits));
    node.add_property(fdt::property("rsa,n0-inverse", parameters.n0_inverse));
    node.add_property(fdt::property("rsa,exponent", parameters.exponent.to_be_bytes().to_vec()));
    node.add_property(fdt::property("rsa,modulus", parameters.modulus));
    node.add_property(fdt::property("rsa,r-squared", parameters.r_squared));
    node
}

/// Returns the name of the board that a boot loader is for.
///
/// # Errors
/// The bytes are no boot loader.
pub fn board(rom: &[u8]) -> Result<String, BootLoaderError> {
    let at = control_tree(rom).ok_or(BootLoaderError::NoControlTree)?;
    let tree = fdt::parse(rom.get(at..).unwrap_or_default(), "the boot loader")?;
    Ok(fdt::string(&tree, "/config", BOARD, "the boot loader")?)
}

/// Returns the keys of a boot loader by name, one of which must have signed a slot. `rom` is the ROM, or the
/// start of the card.
///
/// # Errors
/// There is no boot loader, or it requires no signature of a slot.
pub fn required_keys(rom: &[u8]) -> Result<Vec<(String, BootKey)>, BootLoaderError> {
    let at = control_tree(rom).ok_or(BootLoaderError::NoControlTree)?;
    let tree = fdt::parse(rom.get(at..).unwrap_or_default(), "the boot loader")?;
    let text = |path: &str, name: &str| fdt::string(&tree, path, name, "the boot loader");
    if text("/signature", "required-mode")? != "any" {
        return Err(BootLoaderError::NothingRequired);
    }
    let mut keys = Vec::new();
    let signature = tree.find_node("/signature").ok_or(BootLoaderError::NoControlTree)?;
    for node in signature.children() {
        let path = format!("/signature/{}", node.name());
        if text(&path, "required")? == "conf" && text(&path, "algo")? == boot::ALGORITHM {
            let modulus = node.property("rsa,modulus").map(|p| p.value().to_vec());
            let key =
                BootKey::from_modulus(&modulus.unwrap_or_default()).map_err(BootError::Key)?;
            let name = node.name().strip_prefix("key-").unwrap_or(node.name()).to_owned();
            keys.push((name, key));
        }
    }
    if keys.is_empty() {
        return Err(BootLoaderError::NothingRequired);
    }
    // Without its script, a boot loader starts nothing.
    text("/config", "bootcmd")?;
    Ok(keys)
}

/// Returns the offset of the control device tree in a ROM or the start of a card: behind U-Boot, which holds no tree
/// with keys.
#[must_use]
pub fn control_tree(rom: &[u8]) -> Option<usize> {
    const MAGIC: [u8; 4] = 0xd00d_feed_u32.to_be_bytes();
    let has_keys = |at: &usize| {
        rom.get(*at..)
            .and_then(|bytes| fdt::parse(bytes, "the boot loader").ok())
            .is_some_and(|tree| tree.find_node("/signature").is_some())
    };
    let words = rom.chunks_exact(4).enumerate().filter(|(_, word)| *word == MAGIC);
    words.map(|(index, _)| index.saturating_mul(4)).find(has_keys)
}
