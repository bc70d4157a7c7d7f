//! Boards as data: `images/boards/*.toml`. All that a board is stands in its file, in the fragments of
//! configuration that it names, and nowhere in code.

mod boot_loader;
mod tpm;

use crate::FieldError;
use crate::document;
use crate::manifest::{ManifestError, read_text};
pub use boot_loader::{BootLoader, FirstStage, Place, Spare, UBootPlace};
use holdfast_sandbox::peripheral::{Access, BoardPeripheral, Kind};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
pub use tpm::{PluggedIn, Tpm, TpmRegisters};

/// Room for the end of the log of the last run.
pub(crate) const BOOT_LOG_BYTES: u32 = 0x8000;
/// Name of the board's [`Board::test_line`] in manifests of test services.
pub const TEST_LINE: &str = "$TEST_LINE";
/// Room of U-Boot at the end of memory, in MiB: itself, its heap and its stack.
const BOOT_LOADER_MIB: u32 = 4;

/// Returns the value of `compatible` by which a slot is of a board.
pub(crate) fn compatible(board: &str) -> String {
    format!("holdfast,{board}")
}

/// A board, as its file describes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Name of the board in image manifests, and of its file.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Memory of the board in MiB, or the most that can be given where it is a virtual machine.
    pub memory_mib: u32,
    /// Value of the kernel's `console=`.
    pub console: String,
    /// Kernel's name of the disk that the boot loader reads slots from, as `mmcblk0`: its number is that of the
    /// controller, which the device tree's alias `mmc0` gives it.
    pub disk: String,
    /// Kind of the partition table.
    pub partition_table: PartitionTable,
    /// Name of the watchdog in the kernel's driver (`identity` in sysfs).
    pub watchdog: String,
    /// Kind of the TPM.
    pub tpm: Tpm,
    /// Device on which tests speak to their probe: [`TEST_LINE`] of a test service.
    pub test_line: Option<String>,
    /// The kernel.
    pub kernel: KernelSource,
    /// The kernel's device tree.
    pub device_tree: DeviceTree,
    /// The boot loader.
    pub boot_loader: BootLoader,
    /// Load addresses.
    pub addresses: Addresses,
    /// Peripherals that apps can be granted.
    #[serde(default, rename = "peripheral")]
    pub peripherals: Vec<Peripheral>,
}

/// The kinds of partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionTable {
    /// A GPT whose entries lie behind the boot loader.
    Gpt,
}

/// Configuration of the kernel.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelSource {
    /// Fragments in `kernel-config/`, without `.config`, in the order they are merged.
    pub fragments: Vec<String>,
}

/// Source of a board's device tree, and changes to it. One of `qemu` and `kernel` is there.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceTree {
    /// QEMU's machine of that name makes it.
    pub qemu: Option<QemuTree>,
    /// Path in the kernel's source, below `arch/arm/boot/dts`, without its ending.
    pub kernel: Option<String>,
    /// Names of properties that are left out wherever they stand: those that are longer than the 31 bytes which
    /// the Devicetree Specification allows, and which are not read therefore.
    #[serde(default)]
    pub leave_out: Vec<String>,
    /// Paths of nodes that the kernel's tree leaves disabled.
    #[serde(default)]
    pub enable: Vec<String>,
    /// Entries of `/aliases`, which number device files.
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
    /// Chip selects that programs may speak to.
    #[serde(default)]
    pub spi_devices: Vec<SpiDevice>,
    /// Nodes of devices on a PCI bus, which the tree does not have and an alias names.
    #[serde(default)]
    pub pci_devices: Vec<PciDevice>,
    /// The registers of a TPM in memory, for which a node is made.
    pub tpm_registers: Option<TpmRegisters>,
    /// The chip select that a TPM is on, for which a node is made.
    pub tpm_chip: Option<SpiDevice>,
}

/// A device on a PCI bus.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciDevice {
    /// Path of the bus's node in the device tree.
    pub bus: String,
    /// Name of the device's node, without an address.
    pub name: String,
    /// Device number on the bus, from 0 to 31.
    pub device: u8,
}

/// Machines of QEMU whose device tree is dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QemuTree {
    /// `virt`, with the devices that images are run with.
    Virt,
}

/// A chip select of an SPI controller.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpiDevice {
    /// Path of the controller's node.
    pub bus: String,
    /// Number of the chip select.
    pub chip_select: u32,
    /// Highest clock rate in Hz.
    pub max_hz: u32,
}

/// Addresses in the board's memory. The boot loader itself sits at its end.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addresses {
    /// First address of memory.
    pub memory: u32,
    /// Start of the zImage: above all that it unpacks to.
    pub kernel: u32,
    /// Start of the device tree: 8-byte aligned, behind any zImage.
    pub device_tree: u32,
    /// Address that a FIT is read to, whole.
    pub fit: u32,
    /// First address behind the room for a FIT.
    pub fit_end: u32,
    /// Address at which the end of the log outlives a reset (pstore): nothing else uses it, the boot loader included.
    pub boot_log: u32,
}

impl Addresses {
    /// The least memory, in MiB, in which all of this has room, and the boot loader behind it.
    #[must_use]
    pub fn least_memory_mib(&self) -> u32 {
        let end = self.boot_log.saturating_add(BOOT_LOG_BYTES);
        let used = end.saturating_sub(self.memory).div_ceil(1024 * 1024);
        used.saturating_add(BOOT_LOADER_MIB).next_multiple_of(4)
    }

    /// Longest FIT that is read, in bytes.
    #[must_use]
    pub fn fit_room(&self) -> u64 {
        u64::from(self.fit_end.saturating_sub(self.fit))
    }
}

/// Something that an app can be granted. Exactly one of `gpio`, `i2c`, `spi` and `uart` is there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peripheral {
    /// Name in app manifests, with `$` in front.
    pub name: String,
    /// A line of a GPIO chip.
    pub gpio: Option<GpioLine>,
    /// Device node of an I2C controller.
    pub i2c: Option<String>,
    /// Device node of a chip select of an SPI controller.
    pub spi: Option<String>,
    /// Device node of a serial line.
    pub uart: Option<String>,
}

/// A line of a GPIO chip.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpioLine {
    /// Label of the chip in the kernel's driver.
    pub chip: String,
    /// Number of the line.
    pub line: u32,
}

impl Board {
    /// Reads the board called `name` in `directory`. `manifest` is the document that asked for it.
    ///
    /// # Errors
    /// There is no such board (the message lists those there are), or its file is broken.
    pub fn load(directory: &Path, name: &str, manifest: &Path) -> Result<Self, ManifestError> {
        Self::find(directory, name).map_err(|reason| {
            ManifestError::Field(FieldError {
                path: manifest.to_owned(),
                field: "board".to_owned(),
                reason,
            })
        })?
    }

    /// Reads the board called `name`; the outer error says that there is none of that name.
    pub(crate) fn find(
        directory: &Path,
        name: &str,
    ) -> Result<Result<Self, ManifestError>, String> {
        let path = directory.join(format!("{name}.toml"));
        if name.contains('/') || !path.is_file() {
            let boards = names(directory).join(", ");
            return Err(format!("there is no board `{name}`; boards are: {boards}"));
        }
        Ok(read_text(&path).and_then(|text| Self::parse(path, &text, name)))
    }

    /// Parses the board in `text`, which is what the file at `path` holds.
    pub(crate) fn parse(path: PathBuf, text: &str, name: &str) -> Result<Self, ManifestError> {
        let board: Self = toml::from_str(text).map_err(|error| ManifestError::Toml {
            path: path.clone(),
            complaint: document::complaint(text, &error),
        })?;
        let checked = if board.name == name {
            board.check()
        } else {
            Err(("name".to_owned(), "must be the file's name without `.toml`".to_owned()))
        };
        match checked {
            Ok(()) => Ok(board),
            Err((field, reason)) => Err(FieldError { path, field, reason }.into()),
        }
    }

    /// Checks the board. An error has a field, and what that must be.
    fn check(&self) -> Result<(), (String, String)> {
        let refuse = |field: &str, reason: &str| Err((field.to_owned(), reason.to_owned()));
        let tree = &self.device_tree;
        if tree.qemu.is_some() == tree.kernel.is_some() {
            return refuse("device_tree", "must have one of `qemu` and `kernel`");
        }
        if tree.kernel.as_ref().is_some_and(|path| path.contains("..") || path.ends_with(".dtb")) {
            return refuse(
                "device_tree.kernel",
                "must be a path below arch/arm/boot/dts without `.dts`, such as \
                 allwinner/sun8i-h3-orangepi-pc",
            );
        }
        if tree.pci_devices.iter().any(|device| device.device > 31) {
            return refuse("device_tree.pci_devices", "must have `device` from 0 to 31");
        }
        if self.alias_of_disk().is_none() {
            return refuse(
                "disk",
                "must be `mmcblk` and the number of its controller, as in mmcblk0",
            );
        }
        self.boot_loader.check()?;
        self.check_tpm()?;
        let Addresses { memory, kernel, device_tree, fit, fit_end, boot_log } = self.addresses;
        if !(memory < kernel
            && kernel < device_tree
            && device_tree < fit
            && fit < fit_end
            && fit_end <= boot_log)
        {
            return refuse(
                "addresses",
                "must rise: memory, kernel, device_tree, fit, fit_end, boot_log",
            );
        }
        if [kernel, device_tree, fit, boot_log].iter().any(|address| !address.is_multiple_of(4096))
        {
            return refuse("addresses", "must be multiples of 4096");
        }
        let least = self.addresses.least_memory_mib();
        if self.memory_mib < least {
            return refuse(
                "memory_mib",
                &format!("must be {least} or more: `addresses` need that much"),
            );
        }
        let mut names = BTreeSet::new();
        for (index, peripheral) in self.peripherals.iter().enumerate() {
            if let Err(reason) = peripheral.check() {
                return refuse(&format!("peripheral[{index}]"), reason);
            }
            if !names.insert(&peripheral.name) {
                return refuse(&format!("peripheral[{index}].name"), "is there twice");
            }
        }
        Ok(())
    }

    /// Returns the alias by which the device tree numbers the controller of its disk.
    pub(crate) fn alias_of_disk(&self) -> Option<String> {
        let number = self.disk.strip_prefix("mmcblk")?;
        let is_number = number.len() == 1 && number.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| format!("mmc{number}"))
    }

    /// Returns the memory of a device in MiB: the board's own, or `wanted` for a virtual machine.
    ///
    /// # Errors
    /// The bound that `wanted` breaks.
    pub fn memory_for(&self, wanted: u32) -> Result<u32, String> {
        if self.device_tree.qemu.is_none() {
            return Ok(self.memory_mib);
        }
        let (least, most) = (self.addresses.least_memory_mib(), self.memory_mib);
        if (least..=most).contains(&wanted) && wanted.is_multiple_of(4) {
            return Ok(wanted);
        }
        Err(format!(
            "must be a multiple of 4 from {least} to {most} on board {}, is {wanted}",
            self.name
        ))
    }

    /// Returns the peripherals that the board offers to apps.
    #[must_use]
    pub fn offered(&self) -> Vec<BoardPeripheral> {
        self.peripherals.iter().filter_map(Peripheral::offered).collect()
    }
}

impl Peripheral {
    /// Returns the peripheral in the form of a plan; `None` unless there is exactly one way to reach it.
    fn offered(&self) -> Option<BoardPeripheral> {
        let device = |node: &Option<String>, kind| Some((kind, Access::Device(node.clone()?)));
        let line = self.gpio.clone().map(|GpioLine { chip, line }| Access::Line { chip, line });
        let mut ways = [
            line.map(|access| (Kind::Gpio, access)),
            device(&self.i2c, Kind::I2cMaster),
            device(&self.spi, Kind::SpiMaster),
            device(&self.uart, Kind::Uart),
        ]
        .into_iter()
        .flatten();
        match (ways.next(), ways.next()) {
            (Some((kind, access)), None) => {
                Some(BoardPeripheral { name: self.name.clone(), kind, access })
            }
            _ => None,
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        self.offered().ok_or("must have one of `gpio`, `i2c`, `spi` and `uart`")?.check()
    }
}

/// Returns the names of all boards in `directory`, sorted.
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

    fn directory() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("boards")
    }

    #[test]
    fn every_board_in_the_tree_loads_and_an_unknown_one_lists_them() {
        let all = names(&directory());
        assert!(all.contains(&"qemu-virt".to_owned()));
        for name in &all {
            Board::load(&directory(), name, Path::new("image.toml")).unwrap();
        }
        let error = Board::load(&directory(), "toaster", Path::new("image.toml")).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("image.toml: board: there is no board `toaster`"), "{message}");
        assert!(message.contains("qemu-virt"), "{message}");
    }

    /// Returns the error for the file of the Orange Pi PC with one thing replaced.
    fn refusal(from: &str, to: &str) -> String {
        let good = fs::read_to_string(directory().join("orangepi-pc.toml")).unwrap();
        assert!(good.contains(from), "no `{from}` to replace");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orangepi-pc.toml");
        fs::write(&path, good.replacen(from, to, 1)).unwrap();
        let error = Board::load(directory.path(), "orangepi-pc", Path::new("image.toml"));
        let message = error.unwrap_err().to_string();
        assert!(message.contains("orangepi-pc.toml"), "{message} does not name the file");
        message
    }

    #[test]
    fn a_machine_has_the_memory_that_its_addresses_need() {
        let board = |name| Board::load(&directory(), name, Path::new("image.toml")).unwrap();
        let machine = board("qemu-virt");
        for wanted in [32, 64, 2048] {
            assert_eq!(machine.memory_for(wanted), Ok(wanted));
        }
        for wanted in [0, 28, 66, 2052] {
            let reason = machine.memory_for(wanted).unwrap_err();
            assert!(reason.contains("from 32 to 2048 on board qemu-virt"), "{reason}");
        }
        // A board has what it has.
        assert_eq!(board("orangepi-pc").memory_for(32), Ok(1024));
    }

    #[test]
    fn a_broken_board_is_refused_by_field() {
        for (from, to, expected) in [
            ("at_kib = 160", "at_kib = 20", "boot_loader.u_boot.at_kib: must be 40 or more"),
            ("at_kib = 160", "at_kib = 900", "leaves less than 128 KiB for U-Boot"),
            (
                "at_kib = 160",
                "at_kib = 150",
                "u_boot.at_kib: is 150, where `spare.at_kib` reaches to 160",
            ),
            ("at_kib = 160", "at_kib = 162", "boot_loader.u_boot.at_kib: must be a multiple of 4"),
            (
                "at_kib = 128",
                "at_kib = 20",
                "spare.at_kib: is 20, where `first_stage.at_kib` reaches to",
            ),
            (
                "at_kib = 576",
                "at_kib = 900",
                "end_kib: is 1008, where `spare.u_boot_at_kib` reaches to",
            ),
            ("form = \"egon\"", "form = \"mlo\"", "unknown variant `mlo`, expected `egon`"),
            ("at_kib = 8", "at_kib = 0", "boot_loader.first_stage.at_kib: must be 1 or more"),
            ("end_kib = 1024", "end_kib = 4096", "boot_loader.end_kib: must be from 64 to 3072"),
            (
                "watchdog = \"watchdog@1c20ca0\"",
                "watchdog = \"x; reset\"",
                "boot_loader.watchdog: must be the name of a node",
            ),
            (
                "in = \"card\"",
                "in = \"rom\"",
                "boot_loader.spare: is for a boot loader on a `card`",
            ),
            (
                "kernel = \"allwinner",
                "qemu = \"virt\"\nkernel = \"allwinner",
                "device_tree: must have one of",
            ),
            ("name = \"$LED_RED\"", "name = \"LED_RED\"", "peripheral[1]: the name must be `$`"),
            ("name = \"$LED_RED\"", "name = \"$LED_GREEN\"", "peripheral[1].name: is there twice"),
            ("i2c = \"/dev/i2c-0\"", "i2c = \"/dev/../x\"", "peripheral[2]: must be a device node"),
            ("fit_end = 0x44800000", "fit_end = 0x43800000", "addresses: must rise"),
            ("\"gpt\"", "\"mbr\"", "unknown variant `mbr`, expected `gpt`"),
            ("\"mmcblk0\"", "\"sda\"", "disk: must be `mmcblk` and the number of its controller"),
            ("memory_mib = 1024", "memory_mib = 80", "memory_mib: must be 88 or more"),
            ("memory = 0x40000000", "memory = 0x42000000", "addresses: must rise: memory, kernel"),
        ] {
            let message = refusal(from, to);
            assert!(message.contains(expected), "{message}");
        }
    }
}
