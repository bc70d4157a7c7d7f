//! Flattened device trees: reading them, and the pieces that they are made of. A FIT is one as well.
//!
//! Source: the Devicetree Specification, 0.4.

use crate::boot_error::BootError;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node, Property};

/// Reads a tree from the start of `bytes`; what follows it is left alone.
pub(crate) fn parse<'a>(bytes: &'a [u8], what: &'static str) -> Result<Fdt<'a>, BootError> {
    // The header's second word is the length of the whole: Devicetree Specification 5.2.
    let whole = bytes
        .get(4..8)
        .and_then(|word| <[u8; 4]>::try_from(word).ok())
        .and_then(|word| usize::try_from(u32::from_be_bytes(word)).ok())
        .and_then(|length| bytes.get(..length))
        .ok_or_else(|| BootError::Malformed { what, reason: "it is cut short".to_owned() })?;
    Fdt::new(whole).map_err(|error| BootError::Malformed { what, reason: error.to_string() })
}

/// A tree that can be changed; refused when it carries a seed.
pub(crate) fn parse_tree(bytes: &[u8], what: &'static str) -> Result<DeviceTree, BootError> {
    let mut tree = DeviceTree::from_fdt(&parse(bytes, what)?);
    if let Some(chosen) = tree.find_node_mut("/chosen") {
        for seed in ["rng-seed", "kaslr-seed"] {
            if chosen.property_mut(seed).is_some() {
                return Err(BootError::Seed(seed));
            }
        }
    }
    Ok(tree)
}

/// A node of these properties and children.
pub(crate) fn node<const P: usize, const C: usize>(
    name: &str,
    properties: [DeviceTreeProperty; P],
    children: [DeviceTreeNode; C],
) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(name);
    properties.into_iter().for_each(|property| node.add_property(property));
    children.into_iter().for_each(|child| node.add_child(child));
    node
}

/// A property.
pub(crate) fn property<T: dtoolkit::ToPropertyValue>(name: &str, value: T) -> DeviceTreeProperty {
    DeviceTreeProperty::new_unchecked(name, value)
}

/// A property of the boot partition, as bytes.
pub(crate) fn bytes(tree: &Fdt<'_>, path: &str, name: &str) -> Result<Vec<u8>, BootError> {
    tree.find_node(path)
        .and_then(|node| node.property(name).map(|property| property.value().to_vec()))
        .ok_or_else(|| BootError::Missing {
            what: "the boot partition",
            path: format!("{path}/{name}"),
        })
}

/// A property that is text, without its NUL.
pub(crate) fn string(
    tree: &Fdt<'_>,
    path: &str,
    name: &str,
    what: &'static str,
) -> Result<String, BootError> {
    let missing = || BootError::Missing { what, path: format!("{path}/{name}") };
    let value = bytes(tree, path, name).map_err(|_| missing())?;
    let text = value.strip_suffix(b"\0").ok_or_else(missing)?;
    String::from_utf8(text.to_vec()).map_err(|_| missing())
}

/// Encodes `value` in so many cells of 32 bits.
pub(crate) fn cells(count: u32, value: u32) -> Vec<u8> {
    let high = usize::try_from(count.saturating_sub(1)).unwrap_or(0).saturating_mul(4);
    [vec![0; high], value.to_be_bytes().to_vec()].concat()
}

/// Returns `#address-cells` and `#size-cells` of the tree's root: Devicetree Specification 2.3.5.
pub(crate) fn root_cells(tree: &DeviceTree) -> (u32, u32) {
    let cells = |name: &str, otherwise: u32| {
        let value = tree.root.property(name).map(|property| property.value().to_vec());
        let word = value.and_then(|value| <[u8; 4]>::try_from(value).ok());
        word.map_or(otherwise, u32::from_be_bytes)
    };
    (cells("#address-cells", 2), cells("#size-cells", 1))
}
