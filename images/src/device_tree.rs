//! A board's device tree as Linux gets it: the kernel's own, with what the board's file changes in it.

use crate::board::{Board, SpiDevice};
use crate::boot::{self, BootError};
use dtoolkit::model::{DeviceTree, DeviceTreeNode};
use dtoolkit::{Node, Property};

/// What spidev answers to and no real chip on these boards is: kernel source `drivers/spi/spidev.c`.
const SPIDEV: &str = "rohm,bh2228fv";

/// Why a device tree cannot be what its board's file says.
#[derive(Debug, thiserror::Error)]
pub enum DeviceTreeError {
    /// The bytes are no device tree.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The file names a node that there is not.
    #[error("board {board}: device_tree.{field}: the device tree has no node {node}")]
    NoNode {
        /// Name of the board.
        board: String,
        /// The field.
        field: &'static str,
        /// The path.
        node: String,
    },
}

/// `bytes` with what the board's file says.
///
/// # Errors
/// They are no device tree, or lack a node that the file names.
pub fn adjust(board: &Board, bytes: &[u8]) -> Result<Vec<u8>, DeviceTreeError> {
    let mut tree = boot::parse_tree(bytes, "the board's device tree")?;
    let wanted = &board.device_tree;
    for path in &wanted.enable {
        let node = find(&mut tree, board, "enable", path)?;
        node.remove_property("status");
        node.add_property(boot::property("status", "okay"));
    }
    for path in wanted.aliases.values() {
        find(&mut tree, board, "aliases", path)?;
    }
    if !wanted.aliases.is_empty() && tree.find_node("/aliases").is_none() {
        tree.root.add_child(DeviceTreeNode::new_unchecked("aliases"));
    }
    for (name, path) in &wanted.aliases {
        let aliases = find(&mut tree, board, "aliases", "/aliases")?;
        aliases.remove_property(name);
        aliases.add_property(boot::property(name, path.as_str()));
    }
    for SpiDevice { bus, chip_select, max_hz } in &wanted.spi_devices {
        let controller = find(&mut tree, board, "spi_devices", bus)?;
        let mut device = DeviceTreeNode::new_unchecked(format!("spidev@{chip_select:x}"));
        device.add_property(boot::property("compatible", SPIDEV));
        device.add_property(boot::property("reg", *chip_select));
        device.add_property(boot::property("spi-max-frequency", *max_hz));
        controller.add_child(device);
    }
    Ok(tree.to_dtb())
}

fn find<'a>(
    tree: &'a mut DeviceTree,
    board: &Board,
    field: &'static str,
    path: &str,
) -> Result<&'a mut DeviceTreeNode, DeviceTreeError> {
    tree.find_node_mut(path).ok_or_else(|| DeviceTreeError::NoNode {
        board: board.name.clone(),
        field,
        node: path.to_owned(),
    })
}

/// How many cells an address and a size have in the tree's root: Devicetree Specification 2.3.5.
pub(crate) fn root_cells(tree: &DeviceTree) -> (u32, u32) {
    let cells = |name: &str, otherwise: u32| {
        let value = tree.root.property(name).map(|property| property.value().to_vec());
        let word = value.and_then(|value| <[u8; 4]>::try_from(value).ok());
        word.map_or(otherwise, u32::from_be_bytes)
    };
    (cells("#address-cells", 2), cells("#size-cells", 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn board() -> Board {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("boards");
        Board::load(&directory, "orangepi-pc", Path::new("image.toml")).unwrap()
    }

    /// A tree with the nodes that the Orange Pi PC's file names, all disabled.
    fn tree(without: &str) -> Vec<u8> {
        let mut soc = DeviceTreeNode::new_unchecked("soc");
        for name in ["serial@1c28400", "serial@1c28c00", "i2c@1c2ac00", "spi@1c68000"] {
            let mut node = DeviceTreeNode::new_unchecked(name);
            node.add_property(boot::property("status", "disabled"));
            if name != without {
                soc.add_child(node);
            }
        }
        let mut tree = DeviceTree::new();
        tree.root.add_child(soc);
        tree.to_dtb()
    }

    #[test]
    fn what_the_board_enables_is_on_numbered_and_open_to_programs() {
        let bytes = adjust(&board(), &tree("nothing")).unwrap();
        let fdt = boot::parse(&bytes, "it").unwrap();
        let text = |path: &str, name: &str| boot::string(&fdt, path, name, "it").unwrap();
        assert_eq!(text("/soc/i2c@1c2ac00", "status"), "okay");
        assert_eq!(text("/aliases", "i2c0"), "/soc/i2c@1c2ac00");
        assert_eq!(text("/soc/spi@1c68000/spidev@0", "compatible"), SPIDEV);
    }

    #[test]
    fn a_node_that_is_not_there_is_named() {
        let error = adjust(&board(), &tree("i2c@1c2ac00")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "board orangepi-pc: device_tree.enable: the device tree has no node /soc/i2c@1c2ac00"
        );
    }
}
