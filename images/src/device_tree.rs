//! A board's device tree as Linux gets it: the kernel's own, with what the board's file changes in it.

use crate::board::{Board, PciDevice, SpiDevice, Tpm, TpmRegisters};
use crate::boot_error::BootError;
use crate::fdt;
use dtoolkit::Node;
use dtoolkit::model::{DeviceTree, DeviceTreeNode};
use holdfast_types::TpmState;

/// A `compatible` that spidev binds to and that no real chip on these boards has: kernel source `drivers/spi/spidev.c`.
const SPIDEV: &str = "rohm,bh2228fv";

/// An error of adjusting a device tree to its board's file.
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
    /// No alias gives the controller of the disk its number.
    #[error(
        "board {board}: disk: the device tree has no alias {alias}, so that any card may be {disk}; add \
         `{alias} = \"PATH\"` to device_tree.aliases, with the path of the controller's node"
    )]
    NoAlias {
        /// Name of the board.
        board: String,
        /// The alias.
        alias: String,
        /// Name of the disk in the board's file.
        disk: String,
    },
}

/// Returns the device tree in `bytes` with the changes that the board's file asks for.
///
/// # Errors
/// The bytes are no device tree, or it lacks a node that the file names.
pub fn adjust(board: &Board, bytes: &[u8]) -> Result<Vec<u8>, DeviceTreeError> {
    let wanted = &board.device_tree;
    let bytes = without(bytes, &wanted.leave_out);
    let mut tree = fdt::parse_tree(&bytes, "the board's device tree")?;
    for path in &wanted.enable {
        let node = find(&mut tree, board, "enable", path)?;
        node.remove_property("status");
        node.add_property(fdt::property("status", "okay"));
    }
    for PciDevice { bus, name, device } in &wanted.pci_devices {
        let node = find(&mut tree, board, "pci_devices", bus)?;
        let mut child = DeviceTreeNode::new_unchecked(format!("{name}@{device:x},0"));
        // Bus 0, device, function 0 (IEEE 1275, PCI bus binding).
        let address = u32::from(*device) << 11;
        child.add_property(fdt::property("reg", [address, 0, 0, 0, 0]));
        node.add_child(child);
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
        aliases.add_property(fdt::property(name, path.as_str()));
    }
    let alias = board.alias_of_disk().unwrap_or_default();
    let aliases = tree.find_node("/aliases");
    if aliases.is_none_or(|aliases| aliases.property(&alias).is_none()) {
        let (board, disk) = (board.name.clone(), board.disk.clone());
        return Err(DeviceTreeError::NoAlias { board, alias, disk });
    }
    for SpiDevice { bus, chip_select, max_hz } in &wanted.spi_devices {
        let controller = find(&mut tree, board, "spi_devices", bus)?;
        let mut device = DeviceTreeNode::new_unchecked(format!("spidev@{chip_select:x}"));
        device.add_property(fdt::property("compatible", SPIDEV));
        device.add_property(fdt::property("reg", *chip_select));
        device.add_property(fdt::property("spi-max-frequency", *max_hz));
        controller.add_child(device);
    }
    // Nobody but the boot script switches it on: a kernel that probes a TPM which does not answer would wait for it, and
    // where there are no registers, take an abort.
    if add_tpm(board, &mut tree, "disabled")? {
        if tree.find_node("/chosen").is_none() {
            tree.root.add_child(DeviceTreeNode::new_unchecked("chosen"));
        }
        let chosen = find(&mut tree, board, "tpm", "/chosen")?;
        chosen.remove_property(TpmState::PROPERTY);
        chosen.add_property(fdt::property(TpmState::PROPERTY, TpmState::Failed.word()));
    }
    Ok(tree.to_dtb())
}

/// Adds the node of the board's TPM with this status, in place of one that is there already; false on a board without one.
/// Its path is [`Board::tpm_node`].
/// Source: the kernel's `devicetree/bindings/tpm/tcg,tpm-tis-mmio.yaml` and `tcg,tpm_tis-spi.yaml`; U-Boot takes the same.
///
/// # Errors
/// The tree lacks the bus that the file names.
pub(crate) fn add_tpm(
    board: &Board,
    tree: &mut DeviceTree,
    status: &str,
) -> Result<bool, DeviceTreeError> {
    let wanted = &board.device_tree;
    match (board.tpm, &wanted.tpm_registers, &wanted.tpm_chip) {
        (Tpm::TisMmio, Some(TpmRegisters { address, length, .. }), _) => {
            let (address_cells, size_cells) = fdt::root_cells(tree);
            let reg = [fdt::cells(address_cells, *address), fdt::cells(size_cells, *length)];
            let node = tpm(*address, "tcg,tpm-tis-mmio", reg.concat(), status);
            tree.root.remove_child(node.name());
            tree.root.add_child(node);
        }
        (Tpm::Spi, _, Some(SpiDevice { bus, chip_select, max_hz })) => {
            let reg = chip_select.to_be_bytes().to_vec();
            let mut node = tpm(*chip_select, "tcg,tpm_tis-spi", reg, status);
            node.add_property(fdt::property("spi-max-frequency", *max_hz));
            let bus = find(tree, board, "tpm_chip", bus)?;
            bus.remove_property("status");
            bus.add_property(fdt::property("status", "okay"));
            bus.remove_child(node.name());
            bus.add_child(node);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The node of a TPM at this address of its bus.
fn tpm(address: u32, compatible: &str, reg: Vec<u8>, status: &str) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(format!("tpm@{address:x}"));
    node.add_property(fdt::property("compatible", compatible));
    node.add_property(fdt::property("reg", reg));
    node.add_property(fdt::property("status", status));
    node
}

/// `bytes` with nothing in the place of properties of these names. What is no device tree stays as it is, for the
/// parser to refuse. Source: Devicetree Specification 5.4 (structure block).
pub(crate) fn without(bytes: &[u8], names: &[String]) -> Vec<u8> {
    const BEGIN_NODE: u32 = 1;
    const END_NODE: u32 = 2;
    const PROPERTY: u32 = 3;
    const NOTHING: u32 = 4;
    let mut tree = bytes.to_vec();
    let word = |at: usize| -> Option<u32> {
        let word = bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_be_bytes(word.try_into().ok()?))
    };
    let place = |at: usize| word(at).and_then(|value| usize::try_from(value).ok());
    let text = |at: usize| bytes.get(at..).and_then(|rest| rest.split(|byte| *byte == 0).next());
    let (Some(mut at), Some(strings)) = (place(8), place(12)) else { return tree };
    if names.is_empty() {
        return tree;
    }
    while let Some(token) = word(at) {
        let next = match token {
            BEGIN_NODE => text(at.saturating_add(4)).map(|name| name.len().saturating_add(5)),
            PROPERTY => place(at.saturating_add(4)).map(|length| length.saturating_add(12)),
            END_NODE | NOTHING => Some(4),
            _ => None,
        };
        let Some(length) = next.and_then(|length| length.checked_next_multiple_of(4)) else {
            break;
        };
        let name = (token == PROPERTY)
            .then(|| text(strings.saturating_add(place(at.saturating_add(8))?)))
            .flatten();
        let end = at.saturating_add(length);
        if name.is_some_and(|name| names.iter().any(|left_out| left_out.as_bytes() == name))
            && let Some(property) = tree.get_mut(at..end)
        {
            for word in property.chunks_exact_mut(4) {
                word.copy_from_slice(&NOTHING.to_be_bytes());
            }
        }
        at = end;
    }
    tree
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

#[cfg(test)]
mod tests {
    use super::*;
    use dtoolkit::Property;
    use std::path::Path;

    fn board() -> Board {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("boards");
        Board::load(&directory, "orangepi-pc", Path::new("image.toml")).unwrap()
    }

    /// A tree with the nodes that the Orange Pi PC's file names, all disabled.
    fn tree(without: &str) -> Vec<u8> {
        let mut soc = DeviceTreeNode::new_unchecked("soc");
        for name in
            ["serial@1c28400", "serial@1c28c00", "i2c@1c2ac00", "spi@1c68000", "mmc@1c0f000"]
        {
            let mut node = DeviceTreeNode::new_unchecked(name);
            node.add_property(fdt::property("status", "disabled"));
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
        let fdt = fdt::parse(&bytes, "it").unwrap();
        let text = |path: &str, name: &str| fdt::string(&fdt, path, name, "it").unwrap();
        assert_eq!(text("/soc/i2c@1c2ac00", "status"), "okay");
        assert_eq!(text("/aliases", "i2c0"), "/soc/i2c@1c2ac00");
        assert_eq!(text("/aliases", "mmc0"), "/soc/mmc@1c0f000");
        assert_eq!(text("/soc/spi@1c68000/spidev@0", "compatible"), SPIDEV);
    }

    #[test]
    fn properties_that_are_left_out_are_gone_and_the_rest_is_there() {
        let bytes = without(&tree("nothing"), &["status".to_owned()]);
        let fdt = fdt::parse(&bytes, "it").unwrap();
        let node = fdt.find_node("/soc/spi@1c68000").unwrap();
        assert!(node.property("status").is_none());
        assert_eq!(without(b"no tree", &["status".to_owned()]), b"no tree");
        assert_eq!(without(&tree("nothing"), &["other".to_owned()]), tree("nothing"));
    }

    #[test]
    fn a_disk_whose_controller_has_no_number_is_refused() {
        let mut board = board();
        board.device_tree.aliases.remove("mmc0");
        let error = adjust(&board, &tree("nothing")).unwrap_err().to_string();
        assert!(
            error.starts_with("board orangepi-pc: disk: the device tree has no alias mmc0"),
            "{error}"
        );
    }

    #[test]
    fn a_device_on_a_bus_gets_a_node_with_its_address() {
        let mut board = board();
        let device = PciDevice { bus: "/soc".to_owned(), name: "mmc".to_owned(), device: 1 };
        board.device_tree.pci_devices = vec![device];
        let bytes = adjust(&board, &tree("nothing")).unwrap();
        let fdt = fdt::parse(&bytes, "it").unwrap();
        let node = fdt.find_node("/soc/mmc@1,0").unwrap();
        assert_eq!(node.property("reg").unwrap().value()[..4], [0, 0, 8, 0]);
    }

    #[test]
    fn a_tpm_is_off_for_the_kernel_until_the_boot_script_switches_it_on() {
        let load = |name| {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("boards");
            Board::load(&directory, name, Path::new("image.toml")).unwrap()
        };
        // The root has two cells for an address and one for a length, as where it says nothing.
        let mut machine = load("qemu-virt");
        machine.device_tree = crate::board::DeviceTree {
            tpm_registers: machine.device_tree.tpm_registers,
            ..board().device_tree
        };
        let mut chip = board();
        chip.tpm = Tpm::Spi;
        let bus = "/soc/spi@1c68000".to_owned();
        chip.device_tree.tpm_chip = Some(SpiDevice { bus, chip_select: 1, max_hz: 10_000_000 });
        for (board, compatible, reg) in [
            (&machine, "tcg,tpm-tis-mmio", &[0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0x50, 0][..]),
            (&chip, "tcg,tpm_tis-spi", &[0, 0, 0, 1][..]),
        ] {
            let node = board.tpm_node().unwrap();
            let bytes = adjust(board, &tree("nothing")).unwrap();
            let fdt = fdt::parse(&bytes, "it").unwrap();
            let text = |path: &str, name: &str| fdt::string(&fdt, path, name, "it").unwrap();
            assert_eq!(text(&node, "compatible"), compatible);
            assert_eq!(text(&node, "status"), "disabled");
            assert_eq!(text("/chosen", TpmState::PROPERTY), "failed");
            assert_eq!(fdt.find_node(&node).unwrap().property("reg").unwrap().value(), reg);
            // U-Boot's own tree can be made of this one.
            let mut for_u_boot = fdt::parse_tree(&bytes, "it").unwrap();
            assert!(add_tpm(board, &mut for_u_boot, "okay").unwrap());
            let bytes = for_u_boot.to_dtb();
            let fdt = fdt::parse(&bytes, "it").unwrap();
            assert_eq!(fdt::string(&fdt, &node, "status", "it").unwrap(), "okay");
        }
        let bytes = adjust(&board(), &tree("nothing")).unwrap();
        let fdt = fdt::parse(&bytes, "it").unwrap();
        let chosen = fdt.find_node("/chosen");
        assert!(chosen.is_none_or(|chosen| chosen.property(TpmState::PROPERTY).is_none()));
        chip.device_tree.tpm_chip.as_mut().unwrap().bus = "/soc/spi@0".to_owned();
        let error = adjust(&chip, &tree("nothing")).unwrap_err().to_string();
        let expected =
            "board orangepi-pc: device_tree.tpm_chip: the device tree has no node /soc/spi@0";
        assert_eq!(error, expected);
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
