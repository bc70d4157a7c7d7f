//! What lies in a `boot` partition: a flattened image tree (FIT) with the kernel and a device tree
//! whose command line binds the slot to its root file system.
//!
//! Source: the FIT format of U-Boot's documentation. The FIT is not signed yet.

use crate::verity::{BLOCK_BYTES, Verity};
use crate::{hex, sha256};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node, Property};

/// Where U-Boot puts the kernel.
const KERNEL_ADDRESS: u32 = 0x4200_0000;
/// Where U-Boot puts the device tree: 8-byte aligned, above any kernel.
const DEVICE_TREE_ADDRESS: u32 = 0x4300_0000;
/// Longest command line that an ARM kernel takes (`COMMAND_LINE_SIZE`), its NUL included.
const COMMAND_LINE_BYTES: usize = 1024;

/// One of the two slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// `a` or `b`, as in partition names.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
        }
    }
}

/// A kernel, its device tree and its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// The zImage.
    pub kernel: Vec<u8>,
    /// The device tree, command line included.
    pub device_tree: Vec<u8>,
    /// The command line.
    pub command_line: String,
}

/// Why a boot image could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The bytes are no device tree.
    #[error("{what} is no flattened device tree: {reason}")]
    Malformed {
        /// Which tree.
        what: &'static str,
        /// Why, in the parser's words.
        reason: String,
    },
    /// A part is missing or has another type.
    #[error("{what} has no usable {path}")]
    Missing {
        /// Which tree.
        what: &'static str,
        /// Which node or property.
        path: String,
    },
    /// The board's device tree carries a seed, which would be the same on every device.
    #[error("the board's device tree carries /chosen/{0}; a signed tree must not hold a seed")]
    Seed(&'static str),
    /// The command line is longer than the kernel takes.
    #[error("the command line has {0} bytes, more than {COMMAND_LINE_BYTES}")]
    CommandLineTooLong(usize),
    /// The data does not have the digest that stands beside it.
    #[error("{0} does not have the SHA-256 that stands beside it")]
    Digest(String),
}

/// The command line that boots `slot` from its verity root.
#[must_use]
pub fn command_line(console: &str, slot: Slot, root: &Verity) -> String {
    let device = format!("PARTLABEL=root-{}", slot.letter());
    let sectors = root.data_blocks.saturating_mul(BLOCK_BYTES as u64 / 512);
    let (blocks, hash, salt) = (root.data_blocks, hex(&root.root_hash), hex(&root.salt));
    [
        format!("console={console} loglevel=6 printk.devkmsg=on"),
        "random.trust_bootloader=off panic=-1 ro rootwait root=/dev/dm-0 rootfstype=erofs"
            .to_owned(),
        format!("dm-mod.waitfor={device}"),
        format!(
            "dm-mod.create=\"root,,,ro,0 {sectors} verity 1 {device} {device} 4096 4096 {blocks} \
             {blocks} sha256 {hash} {salt} 2 restart_on_corruption restart_on_error\""
        ),
    ]
    .join(" ")
}

/// The FIT for one slot: `kernel`, and `board_tree` with `command_line` in it.
///
/// # Errors
/// `board_tree` is no device tree or carries a seed; the command line is too long.
pub fn build(
    kernel: &[u8],
    board_tree: &[u8],
    command_line: &str,
    slot: Slot,
) -> Result<Vec<u8>, BootError> {
    let device_tree = with_command_line(board_tree, command_line)?;
    let configuration = format!("slot-{}", slot.letter());
    let device_tree_name = format!("fdt-{}", slot.letter());
    let mut kernel_node = image_node("kernel", kernel, "kernel", KERNEL_ADDRESS);
    kernel_node.add_property(property("os", "linux"));
    kernel_node.add_property(property("entry", KERNEL_ADDRESS));
    let device_tree_node =
        image_node(&device_tree_name, &device_tree, "flat_dt", DEVICE_TREE_ADDRESS);
    let mut tree = DeviceTree::new();
    tree.root.add_property(property("description", "Holdfast slot"));
    tree.root.add_property(property("#address-cells", 1u32));
    tree.root.add_child(node("images", [], [kernel_node, device_tree_node]));
    let parts = [property("kernel", "kernel"), property("fdt", device_tree_name.as_str())];
    let default = property("default", configuration.as_str());
    tree.root.add_child(node("configurations", [default], [node(&configuration, parts, [])]));
    Ok(tree.to_dtb())
}

/// Reads a `boot` partition: the FIT at its start, each part checked against its digest.
///
/// # Errors
/// No FIT there, a part is missing, or a digest does not fit.
pub fn read(partition: &[u8], slot: Slot) -> Result<Boot, BootError> {
    const WHAT: &str = "the boot partition";
    let fit = parse(partition, WHAT)?;
    let kernel = read_image(&fit, "kernel")?;
    let device_tree = read_image(&fit, &format!("fdt-{}", slot.letter()))?;
    let inner = parse(&device_tree, "the device tree in the boot partition")?;
    let command_line = string(&inner, "/chosen", "bootargs", "the device tree")?;
    Ok(Boot { kernel, device_tree, command_line })
}

fn parse<'a>(bytes: &'a [u8], what: &'static str) -> Result<Fdt<'a>, BootError> {
    // The header's second word is the length of the whole: Devicetree Specification 5.2.
    let whole = bytes
        .get(4..8)
        .and_then(|word| <[u8; 4]>::try_from(word).ok())
        .and_then(|word| usize::try_from(u32::from_be_bytes(word)).ok())
        .and_then(|length| bytes.get(..length))
        .ok_or_else(|| BootError::Malformed { what, reason: "it is cut short".to_owned() })?;
    Fdt::new(whole).map_err(|error| BootError::Malformed { what, reason: error.to_string() })
}

fn with_command_line(board_tree: &[u8], command_line: &str) -> Result<Vec<u8>, BootError> {
    const WHAT: &str = "the board's device tree";
    if command_line.len() >= COMMAND_LINE_BYTES {
        return Err(BootError::CommandLineTooLong(command_line.len()));
    }
    let mut tree = DeviceTree::from_fdt(&parse(board_tree, WHAT)?);
    if tree.find_node("/chosen").is_none() {
        tree.root.add_child(node("chosen", [], []));
    }
    let chosen = tree
        .find_node_mut("/chosen")
        .ok_or_else(|| BootError::Missing { what: WHAT, path: "/chosen".to_owned() })?;
    for seed in ["rng-seed", "kaslr-seed"] {
        if chosen.property_mut(seed).is_some() {
            return Err(BootError::Seed(seed));
        }
    }
    chosen.remove_property("bootargs");
    chosen.add_property(property("bootargs", command_line));
    Ok(tree.to_dtb())
}

fn node<const P: usize, const C: usize>(
    name: &str,
    properties: [DeviceTreeProperty; P],
    children: [DeviceTreeNode; C],
) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(name);
    properties.into_iter().for_each(|property| node.add_property(property));
    children.into_iter().for_each(|child| node.add_child(child));
    node
}

fn property<T: dtoolkit::ToPropertyValue>(name: &str, value: T) -> DeviceTreeProperty {
    DeviceTreeProperty::new_unchecked(name, value)
}

fn image_node(name: &str, data: &[u8], kind: &str, load: u32) -> DeviceTreeNode {
    let digest = [property("algo", "sha256"), property("value", sha256(&[data]))];
    let properties = [
        property("description", name),
        property("data", data),
        property("type", kind),
        property("arch", "arm"),
        property("compression", "none"),
        property("load", load),
    ];
    node(name, properties, [node("hash-1", digest, [])])
}

fn read_image(fit: &Fdt<'_>, name: &str) -> Result<Vec<u8>, BootError> {
    let path = format!("/images/{name}");
    let data = bytes(fit, &path, "data")?;
    if bytes(fit, &format!("{path}/hash-1"), "value")? != sha256(&[&data]) {
        return Err(BootError::Digest(path));
    }
    Ok(data)
}

fn bytes(tree: &Fdt<'_>, path: &str, name: &str) -> Result<Vec<u8>, BootError> {
    tree.find_node(path)
        .and_then(|node| node.property(name).map(|property| property.value().to_vec()))
        .ok_or_else(|| BootError::Missing {
            what: "the boot partition",
            path: format!("{path}/{name}"),
        })
}

fn string(tree: &Fdt<'_>, path: &str, name: &str, what: &'static str) -> Result<String, BootError> {
    let missing = || BootError::Missing { what, path: format!("{path}/{name}") };
    let value = bytes(tree, path, name).map_err(|_| missing())?;
    let text = value.strip_suffix(b"\0").ok_or_else(missing)?;
    String::from_utf8(text.to_vec()).map_err(|_| missing())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verity;

    fn board_tree(property_name: &str) -> Vec<u8> {
        let mut tree = DeviceTree::new();
        tree.root.add_child(node("chosen", [property(property_name, "x")], []));
        tree.to_dtb()
    }

    #[test]
    fn what_was_built_is_read_from_a_partition_with_room_behind_it() {
        let root = verity::hash(&[1; 8192]).unwrap();
        let line = command_line("ttyAMA0", Slot::A, &root);
        let mut fit = build(b"zImage", &board_tree("stdout-path"), &line, Slot::A).unwrap();
        fit.resize(fit.len() + 4096, 0);
        let boot = read(&fit, Slot::A).unwrap();
        assert_eq!((boot.kernel.as_slice(), boot.command_line), (&b"zImage"[..], line));
        assert!(matches!(read(&fit, Slot::B), Err(BootError::Missing { .. })));
    }

    #[test]
    fn a_changed_kernel_byte_is_noticed() {
        let mut fit = build(b"zImage", &board_tree("stdout-path"), "x", Slot::A).unwrap();
        let at = fit.windows(6).position(|w| w == b"zImage").unwrap();
        fit[at] ^= 1;
        assert!(matches!(read(&fit, Slot::A), Err(BootError::Digest(_))));
    }

    #[test]
    fn a_tree_with_a_seed_is_refused() {
        for seed in ["rng-seed", "kaslr-seed"] {
            let error = build(b"k", &board_tree(seed), "x", Slot::A).unwrap_err();
            assert!(matches!(error, BootError::Seed(name) if name == seed));
        }
    }

    #[test]
    fn the_command_line_fits_the_kernel() {
        let root = verity::hash(&[1; 8192]).unwrap();
        assert!(command_line("ttyAMA0", Slot::B, &root).len() < 700);
        let error = build(b"k", &board_tree("x"), &"y".repeat(1024), Slot::A).unwrap_err();
        assert!(matches!(error, BootError::CommandLineTooLong(1024)));
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_partitions_never_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..256)
        ) {
            let _ = read(&bytes, Slot::A);
        }

        #[test]
        fn one_changed_byte_never_panics(
            at in proptest::prelude::any::<proptest::sample::Index>(), value in proptest::prelude::any::<u8>()) {
            let mut fit = build(b"zImage", &board_tree("stdout-path"), "x", Slot::A).unwrap();
            let at = at.index(fit.len());
            fit[at] = value;
            let _ = read(&fit, Slot::A);
        }
    }
}
