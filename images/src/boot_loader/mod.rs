//! The boot loader's ROM: U-Boot, and behind it the device tree that it takes its orders from, with
//! the keys that a slot must be signed with, the boot script, and the board's devices.
//!
//! Source: U-Boot's `doc/usage/fit/signature.rst` (keys) and `doc/device-tree-bindings/config.txt`
//! (`bootcmd`). The control device tree lies behind `u-boot-nodtb.bin` (`CONFIG_OF_SEPARATE`).

pub mod script;

use crate::board::Board;
use crate::boot::{self, BootError, BootKey};
use crate::disk::Layout;
use dtoolkit::model::DeviceTreeNode;
use dtoolkit::{Node, Property};

/// Names of the keys in the boot loader. A slot must be signed by one of them.
pub const KEY_NAMES: [&str; 3] = ["current", "next", "recovery"];

/// Why there is no ROM.
#[derive(Debug, thiserror::Error)]
pub enum BootLoaderError {
    /// A device tree.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The disk has not the partitions that the script names.
    #[error("the disk lacks a partition that the boot loader reads")]
    Layout,
    /// A ROM that was read holds no control device tree.
    #[error("the ROM holds no control device tree")]
    NoControlTree,
    /// A ROM whose boot loader would take any slot.
    #[error("the ROM does not require a signature")]
    NothingRequired,
}

/// The value of `compatible` by which a slot is of a board.
#[must_use]
pub fn compatible(board: &str) -> String {
    format!("holdfast,{board}")
}

/// U-Boot and its control device tree.
///
/// # Errors
/// See [`BootLoaderError`].
pub fn rom(
    u_boot: &[u8],
    board: &Board,
    device_tree: &[u8],
    layout: &Layout,
    keys: &[BootKey; 3],
) -> Result<Vec<u8>, BootLoaderError> {
    let script =
        script::write(&board.name, layout, &board.addresses).ok_or(BootLoaderError::Layout)?;
    let mut tree = boot::parse_tree(device_tree, "the board's device tree")?;
    let mut signature = DeviceTreeNode::new_unchecked("signature");
    signature.add_property(boot::property("required-mode", "any"));
    for (name, key) in KEY_NAMES.iter().zip(keys) {
        signature.add_child(key_node(name, key));
    }
    tree.root.remove_child("signature");
    tree.root.add_child(signature);
    let mut config = DeviceTreeNode::new_unchecked("config");
    config.add_property(boot::property("bootcmd", script.as_str()));
    tree.root.remove_child("config");
    tree.root.add_child(config);
    let mut rom = u_boot.to_vec();
    rom.resize(rom.len().next_multiple_of(4), 0);
    rom.extend_from_slice(&tree.to_dtb());
    Ok(rom)
}

fn key_node(name: &str, key: &BootKey) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(format!("key-{name}"));
    node.add_property(boot::property("key-name-hint", name));
    node.add_property(boot::property("required", "conf"));
    node.add_property(boot::property("algo", boot::ALGORITHM));
    let parameters = key.montgomery();
    node.add_property(boot::property("rsa,num-bits", parameters.bits));
    node.add_property(boot::property("rsa,n0-inverse", parameters.n0_inverse));
    node.add_property(boot::property("rsa,exponent", parameters.exponent.to_be_bytes().to_vec()));
    node.add_property(boot::property("rsa,modulus", parameters.modulus));
    node.add_property(boot::property("rsa,r-squared", parameters.r_squared));
    node
}

/// The keys of a ROM by name, one of which must have signed a slot.
///
/// # Errors
/// There is none, or it requires nothing of a slot.
pub fn required_keys(rom: &[u8]) -> Result<Vec<(String, BootKey)>, BootLoaderError> {
    let at = control_tree(rom).ok_or(BootLoaderError::NoControlTree)?;
    let tree = boot::parse(rom.get(at..).unwrap_or_default(), "the ROM")?;
    let text = |path: &str, name: &str| boot::string(&tree, path, name, "the ROM");
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

/// Where the control device tree begins in a ROM: behind U-Boot, which holds no tree with keys.
#[must_use]
pub fn control_tree(rom: &[u8]) -> Option<usize> {
    const MAGIC: [u8; 4] = 0xd00d_feed_u32.to_be_bytes();
    let has_keys = |at: &usize| {
        rom.get(*at..)
            .and_then(|bytes| boot::parse(bytes, "the ROM").ok())
            .is_some_and(|tree| tree.find_node("/signature").is_some())
    };
    let words = rom.chunks_exact(4).enumerate().filter(|(_, word)| *word == MAGIC);
    words.map(|(index, _)| index.saturating_mul(4)).find(has_keys)
}
