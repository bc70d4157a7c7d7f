//! The contents of a `boot` partition: a flattened image tree (FIT) with the kernel and, for each slot,
//! a device tree whose command line binds the slot to its root file system, and a signed
//! configuration that names the two.
//!
//! Source: the FIT format of U-Boot's documentation, `doc/usage/fit/`.

pub(crate) mod key;
pub mod signature;

pub use key::{
    ALGORITHM, BootKey, BootKeyError, BootSigningKey, KEY_BYTES, Montgomery, marked_as_development,
};

use crate::board::{Addresses, BOOT_LOG_BYTES, compatible};
pub use crate::boot_error::BootError;
use crate::boot_error::COMMAND_LINE_BYTES;
use crate::disk;
use crate::fdt::{bytes, cells, node, parse, parse_tree, property, root_cells, string};
use crate::verity::{BLOCK_BYTES, Verity};
use crate::{hex, sha256};
use dtoolkit::Node;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode};
use holdfast_lifecycle::slots::{RunningSlot, Slot};
use holdfast_types::TpmState;

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

/// The parts of a FIT.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The zImage.
    pub kernel: &'a [u8],
    /// The board's device tree; its command line is replaced.
    pub device_tree: &'a [u8],
    /// Name of the board.
    pub board: &'a str,
    /// Value of the kernel's `console=`.
    pub console: &'a str,
    /// Kernel's name of the disk that the boot loader reads slots from, such as `mmcblk0`.
    pub disk: &'a str,
    /// Load addresses of the board.
    pub addresses: &'a Addresses,
    /// Rollback index, which only grows.
    pub rollback_index: u32,
    /// The root file system of the slot.
    pub root: &'a Verity,
}

/// Name of a slot's configuration.
#[must_use]
pub fn configuration(slot: Slot) -> String {
    format!("slot-{}", slot.letter())
}

/// Seconds after which a kernel that finds no root gives up, and reboots.
const ROOT_WITHIN_S: u32 = 20;

/// The command line that boots `slot` from its verity root.
///
/// The root is found by the controller that the boot loader reads from and its partition's number: another card can have
/// the same labels and UUIDs, and the same release. With one minor number for each disk, a partition's device is
/// there when the partition is, and not before (`blk_lookup_devt` of the kernel's `block/early-lookup.c`).
#[must_use]
pub fn command_line(parts: &Parts<'_>, slot: Slot) -> String {
    let device = disk::root_device(parts.disk, slot);
    let root = parts.root;
    let sectors = root.data_blocks.saturating_mul(BLOCK_BYTES as u64 / 512);
    let (blocks, hash, salt) = (root.data_blocks, hex(&root.root_hash), hex(&root.salt));
    let Parts { board, rollback_index, .. } = *parts;
    [
        format!("console={} loglevel=6 printk.devkmsg=on", parts.console),
        format!(
            "random.trust_bootloader=off slab_max_order=0 panic=-1 ro rootwait={ROOT_WITHIN_S} root=/dev/dm-0 \
             rootfstype=erofs gpt mmcblk.perdev_minors=1"
        ),
        RunningSlot { slot, board: board.to_owned(), rollback_index }.words(),
        format!("dm-mod.waitfor={device}"),
        format!(
            "dm-mod.create=\"root,,,ro,0 {sectors} verity 1 {device} {device} 4096 4096 {blocks} \
             {blocks} sha256 {hash} {salt} 2 restart_on_corruption restart_on_error\""
        ),
    ]
    .join(" ")
}

/// The FIT of a release, good for either slot; not signed yet.
///
/// # Errors
/// The board's tree is no device tree or carries a seed; the command line is too long.
pub fn build(parts: &Parts<'_>) -> Result<Vec<u8>, BootError> {
    let kernel_address = parts.addresses.kernel;
    let mut kernel = image_node("kernel", parts.kernel, "kernel", kernel_address);
    kernel.add_property(property("os", "linux"));
    kernel.add_property(property("entry", kernel_address));
    let mut images = node("images", [], [kernel]);
    let mut configurations =
        node("configurations", [property("default", configuration(Slot::A).as_str())], []);
    for slot in Slot::ALL {
        let tree_name = format!("fdt-{}", slot.letter());
        let device_tree = for_slot(parts, &command_line(parts, slot))?;
        images.add_child(image_node(
            &tree_name,
            &device_tree,
            "flat_dt",
            parts.addresses.device_tree,
        ));
        let unsigned = node(
            "signature-1",
            [
                property("algo", ALGORITHM),
                property("sign-images", &["kernel", "fdt"][..]),
                // Its second number is the length of the strings block, known once that is there.
                property("hashed-strings", [0u32, 0]),
                property("value", vec![0u8; KEY_BYTES]),
            ],
            [],
        );
        let names = [
            property("compatible", compatible(parts.board)),
            property("kernel", "kernel"),
            property("fdt", tree_name.as_str()),
        ];
        configurations.add_child(node(&configuration(slot), names, [unsigned]));
    }
    let mut tree = DeviceTree::new();
    tree.root.add_property(property("description", "Holdfast slot"));
    tree.root.add_property(property("#address-cells", 1u32));
    tree.root.add_child(images);
    tree.root.add_child(configurations);
    let length = |fit: &[u8]| -> u32 {
        fit.get(32..36).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes)
    };
    // The number has its place already, so that the length does not change with it.
    let strings = length(&tree.to_dtb());
    for slot in Slot::ALL {
        let path = format!("/configurations/{}/signature-1", configuration(slot));
        let hashed = tree.find_node_mut(&path).and_then(|n| n.property_mut("hashed-strings"));
        if let Some(hashed) = hashed {
            hashed.set_value([0u32, strings]);
        }
    }
    Ok(tree.to_dtb())
}

/// Signs both configurations.
///
/// # Errors
/// The bytes are no FIT that [`build`] has made.
pub fn sign(fit: &mut [u8], key: &BootSigningKey) -> Result<(), BootError> {
    for slot in Slot::ALL {
        let name = configuration(slot);
        let message = signature::bytes_to_sign(fit, &name)?;
        signature::attach(fit, &name, &key.sign(&message)?)?;
    }
    Ok(())
}

/// Checks a `boot` partition as the boot loader does before it boots `slot`, and returns the name of
/// the key that has signed with what the kernel is given.
///
/// # Errors
/// Whatever makes the boot loader refuse.
pub fn verify(
    partition: &[u8],
    slot: Slot,
    board: &str,
    keys: &[(String, BootKey)],
) -> Result<(String, Boot), BootError> {
    let name = configuration(slot);
    let key = signature::verify(partition, &name, keys)?.to_owned();
    let fit = parse(partition, "the boot partition")?;
    let path = format!("/configurations/{name}");
    let found = string(&fit, &path, "compatible", "the boot partition")?;
    if found != compatible(board) {
        return Err(BootError::OtherBoard { found, board: compatible(board) });
    }
    Ok((key, read(partition, slot)?))
}

/// Reads a `boot` partition: the FIT at its start, each part checked against its digest.
///
/// # Errors
/// No FIT there, a part is missing, or a digest does not fit.
pub fn read(partition: &[u8], slot: Slot) -> Result<Boot, BootError> {
    const WHAT: &str = "the boot partition";
    let fit = parse(partition, WHAT)?;
    let path = format!("/configurations/{}", configuration(slot));
    let named = |part: &str| string(&fit, &path, part, WHAT);
    let kernel = read_image(&fit, &named("kernel")?)?;
    let device_tree = read_image(&fit, &named("fdt")?)?;
    let inner = parse(&device_tree, "the device tree in the boot partition")?;
    let command_line = string(&inner, "/chosen", "bootargs", "the device tree")?;
    Ok(Boot { kernel, device_tree, command_line })
}

/// True if the device tree has the place at which the boot loader tells the state of a TPM.
///
/// # Errors
/// The device tree is none.
pub(crate) fn tells_of_a_tpm(boot: &Boot) -> Result<bool, BootError> {
    let tree = parse(&boot.device_tree, "the device tree in the boot partition")?;
    let chosen = tree.find_node("/chosen");
    Ok(chosen.is_some_and(|chosen| chosen.property(TpmState::PROPERTY).is_some()))
}

/// The device tree of a slot: the board's, with the command line and the area of the boot log.
fn for_slot(parts: &Parts<'_>, command_line: &str) -> Result<Vec<u8>, BootError> {
    const WHAT: &str = "the board's device tree";
    if command_line.len() >= COMMAND_LINE_BYTES {
        return Err(BootError::CommandLineTooLong(command_line.len()));
    }
    let mut tree = parse_tree(parts.device_tree, WHAT)?;
    if tree.find_node("/chosen").is_none() {
        tree.root.add_child(node("chosen", [], []));
    }
    let chosen = tree
        .find_node_mut("/chosen")
        .ok_or_else(|| BootError::Missing { what: WHAT, path: "/chosen".to_owned() })?;
    chosen.remove_property("bootargs");
    chosen.add_property(property("bootargs", command_line));
    tree.root.remove_child("reserved-memory");
    let of_root = root_cells(&tree);
    tree.root.add_child(reserved_memory(parts.addresses.boot_log, of_root));
    Ok(tree.to_dtb())
}

/// Memory that the kernel leaves alone but for the end of its log, with as many cells as the root has:
/// the kernel takes no other. Source: kernel document
/// `devicetree/bindings/reserved-memory/ramoops.yaml`, and `drivers/of/of_reserved_mem.c`.
fn reserved_memory(boot_log: u32, (address_cells, size_cells): (u32, u32)) -> DeviceTreeNode {
    let length = BOOT_LOG_BYTES;
    let reg = [cells(address_cells, boot_log), cells(size_cells, length)].concat();
    let area = node(
        &format!("ramoops@{boot_log:x}"),
        [property("compatible", "ramoops"), property("reg", reg), property("console-size", length)],
        [],
    );
    let of_node = [
        property("#address-cells", address_cells),
        property("#size-cells", size_cells),
        property("ranges", Vec::<u8>::new()),
    ];
    node("reserved-memory", of_node, [area])
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verity;

    fn board_tree(property_name: &str) -> Vec<u8> {
        let mut tree = DeviceTree::new();
        tree.root.add_child(node("chosen", [property(property_name, "x")], []));
        tree.to_dtb()
    }

    const ADDRESSES: Addresses = Addresses {
        memory: 0x4000_0000,
        kernel: 0x4080_0000,
        device_tree: 0x40f0_0000,
        fit: 0x4100_0000,
        fit_end: 0x4180_0000,
        boot_log: 0x41a0_0000,
    };

    fn fit_with(kernel: &[u8], board_tree: &[u8], board: &str) -> Result<Vec<u8>, BootError> {
        let root = verity::hash_root(&[1; 8192]).unwrap();
        build(&Parts {
            kernel,
            device_tree: board_tree,
            board,
            console: "ttyAMA0",
            disk: "mmcblk0",
            addresses: &ADDRESSES,
            rollback_index: 7,
            root: &root,
        })
    }

    fn fit() -> Vec<u8> {
        fit_with(b"zImage", &board_tree("stdout-path"), "board").unwrap()
    }

    fn new_key() -> BootSigningKey {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        let made = std::process::Command::new("openssl")
            .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072", "-out"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        BootSigningKey::load(&path).unwrap()
    }

    #[test]
    fn what_was_built_is_read_from_a_partition_with_room_behind_it() {
        let mut fit = fit();
        fit.resize(fit.len() + 4096, 0);
        for slot in Slot::ALL {
            let boot = read(&fit, slot).unwrap();
            assert_eq!(boot.kernel, b"zImage");
            let release = RunningSlot::from_command_line(&boot.command_line).unwrap();
            let expected = RunningSlot { slot, board: "board".to_owned(), rollback_index: 7 };
            assert_eq!(release, expected);
            let number = if slot == Slot::A { 3 } else { 5 };
            let device = format!("/dev/mmcblk0p{number}");
            assert_eq!(boot.command_line.matches(&device).count(), 3, "{}", boot.command_line);
            assert!(!boot.command_line.contains("PART"), "a second card can have that as well");
        }
    }

    #[test]
    fn what_the_boot_loader_measures_is_the_fit_and_nothing_behind_it() {
        let mut partition = fit();
        let expected = Some(sha256(&[&partition]));
        assert_eq!(signature::boot_digest(&partition), expected);
        partition.resize(partition.len() + 4096, 7);
        assert_eq!(signature::boot_digest(&partition), expected);
        partition[100] ^= 1;
        assert_ne!(signature::boot_digest(&partition), expected);
        assert_eq!(signature::boot_digest(&partition[..200]), None);
        assert_eq!(signature::boot_digest(b"no FIT"), None);
    }

    #[test]
    fn a_signature_holds_until_anything_signed_is_changed() {
        let (key, other) = (new_key(), new_key());
        let keys = [("next".to_owned(), other.public()), ("current".to_owned(), key.public())];
        let mut fit = fit();
        assert!(matches!(verify(&fit, Slot::A, "board", &keys), Err(BootError::NotSigned(_))));
        sign(&mut fit, &key).unwrap();
        let (name, boot) = verify(&fit, Slot::B, "board", &keys).unwrap();
        assert_eq!((name.as_str(), boot.kernel.as_slice()), ("current", &b"zImage"[..]));
        let error = verify(&fit, Slot::A, "other", &keys).unwrap_err();
        assert!(matches!(error, BootError::OtherBoard { .. }), "{error}");
        let error = verify(&fit, Slot::A, "board", &keys[..1]).unwrap_err();
        assert!(matches!(error, BootError::WronglySigned(_)), "{error}");
        // Whatever byte is changed: it is refused, or what is booted is the same.
        let good = verify(&fit, Slot::A, "board", &keys).unwrap();
        for at in (0..fit.len()).step_by(7) {
            let mut changed = fit.clone();
            changed[at] ^= 0x10;
            if let Ok(found) = verify(&changed, Slot::A, "board", &keys) {
                assert_eq!(found, good, "byte {at}");
            }
        }
    }

    #[test]
    fn the_numbers_that_u_boot_calculates_with_fit_the_key() {
        let key = new_key().public();
        let numbers = key.montgomery();
        let low = u32::from_be_bytes(*numbers.modulus.last_chunk().unwrap());
        assert_eq!(low.wrapping_mul(numbers.n0_inverse), u32::MAX, "times the modulus, it is -1");
        assert_eq!((numbers.modulus.len(), numbers.r_squared.len()), (KEY_BYTES, KEY_BYTES));
        assert!(numbers.r_squared < numbers.modulus);
        assert_eq!(BootKey::from_modulus(&numbers.modulus).unwrap().id(), key.id());
        BootKey::from_modulus(&numbers.modulus[1..]).unwrap_err();
    }

    #[test]
    fn a_changed_kernel_byte_is_noticed() {
        let mut fit = fit();
        let at = fit.windows(6).position(|w| w == b"zImage").unwrap();
        fit[at] ^= 1;
        assert!(matches!(read(&fit, Slot::A), Err(BootError::Digest(_))));
    }

    #[test]
    fn a_tree_with_a_seed_is_refused() {
        for seed in ["rng-seed", "kaslr-seed"] {
            let error = fit_with(b"k", &board_tree(seed), "board").unwrap_err();
            assert!(matches!(error, BootError::Seed(name) if name == seed));
        }
    }

    #[test]
    fn the_command_line_fits_the_kernel() {
        let line = read(&fit(), Slot::B).unwrap().command_line;
        assert!(line.len() < 700, "{line}");
        let error = fit_with(b"k", &board_tree("x"), &"y".repeat(700)).unwrap_err();
        assert!(matches!(error, BootError::CommandLineTooLong(_)), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_partitions_never_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..256)
        ) {
            let _ = read(&bytes, Slot::A);
            let _ = signature::bytes_to_sign(&bytes, "slot-a");
        }

        #[test]
        fn one_changed_byte_never_panics(
            at in proptest::prelude::any::<proptest::sample::Index>(), value in proptest::prelude::any::<u8>()) {
            let mut fit = fit();
            let at = at.index(fit.len());
            fit[at] = value;
            let _ = read(&fit, Slot::A);
            let _ = signature::bytes_to_sign(&fit, "slot-a");
        }
    }
}
