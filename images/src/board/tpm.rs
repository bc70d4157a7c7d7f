//! The TPM of a board: how it is reached, and what its file must say of it.

use super::{Board, SpiDevice};
use serde::Deserialize;

/// The kinds of TPM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tpm {
    /// The board has no TPM.
    None,
    /// A TPM whose registers lie in memory: TCG PC Client Platform TPM Profile, FIFO interface (TIS).
    TisMmio,
    /// A TPM on a chip select of an SPI bus, with the same registers behind a protocol of its own.
    Spi,
}

impl Tpm {
    /// The kinds that are one.
    const REAL: [Self; 2] = [Self::TisMmio, Self::Spi];

    /// Returns the name of the kind, as a board's file has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::TisMmio => "tis-mmio",
            Self::Spi => "spi",
        }
    }

    /// Returns the fragment of configuration with the kind's drivers, which the kernel and U-Boot each have under this name.
    fn fragment(self) -> String {
        format!("tpm-{}", self.name())
    }
}

/// The registers of a TPM in memory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TpmRegisters {
    /// Address of the first one.
    pub address: u32,
    /// Bytes that they take: 4 KiB for each locality.
    pub length: u32,
    /// Place at which the machine itself says whether a TPM is plugged in. Without this it always is.
    pub plugged_in: Option<PluggedIn>,
}

/// The place at which a machine says whether a TPM is plugged in: where none is, a read of its registers ends in an abort.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluggedIn {
    /// Address of the device tree that the machine makes of itself.
    pub tree: u32,
    /// Path of the node that it has for a TPM.
    pub node: String,
}

impl Board {
    /// Returns the path of the TPM's node in the board's device tree; `None` on a board without one.
    #[must_use]
    pub fn tpm_node(&self) -> Option<String> {
        let tree = &self.device_tree;
        match self.tpm {
            Tpm::None => None,
            Tpm::TisMmio => {
                tree.tpm_registers.as_ref().map(|registers| format!("/tpm@{:x}", registers.address))
            }
            Tpm::Spi => tree
                .tpm_chip
                .as_ref()
                .map(|SpiDevice { bus, chip_select, .. }| format!("{bus}/tpm@{chip_select:x}")),
        }
    }

    /// Checks what is said of the TPM. An error has a field, and what that must be.
    pub(super) fn check_tpm(&self) -> Result<(), (String, String)> {
        let tree = &self.device_tree;
        let tpm = self.tpm.name();
        for (field, is_there, kind) in [
            ("device_tree.tpm_registers", tree.tpm_registers.is_some(), Tpm::TisMmio),
            ("device_tree.tpm_chip", tree.tpm_chip.is_some(), Tpm::Spi),
        ] {
            if is_there != (self.tpm == kind) {
                let kind = kind.name();
                let reason = format!("must be there exactly if `tpm` is `{kind}`; it is `{tpm}`");
                return Err((field.to_owned(), reason));
            }
        }
        for (field, fragments) in [
            ("kernel.fragments", &self.kernel.fragments),
            ("boot_loader.fragments", &self.boot_loader.fragments),
        ] {
            for kind in Tpm::REAL {
                let fragment = kind.fragment();
                if fragments.contains(&fragment) == (self.tpm == kind) {
                    continue;
                }
                let must = if self.tpm == kind { "have" } else { "not have" };
                let reason = format!("must {must} `{fragment}`: `tpm` is `{tpm}`");
                return Err((field.to_owned(), reason));
            }
        }
        if let Some(TpmRegisters { address, length, .. }) = &tree.tpm_registers
            && !(length.is_multiple_of(4096)
                && (1..=5 * 4096).contains(length)
                && address.is_multiple_of(4096))
        {
            let reason = "must have an `address` and a `length` that are multiples of 4096, and \
                          4096 to 20480 bytes: one page for each of at most five localities";
            return Err(("device_tree.tpm_registers".to_owned(), reason.to_owned()));
        }
        // These paths become words of the boot script.
        let plugged_in = tree.tpm_registers.as_ref().and_then(|found| found.plugged_in.as_ref());
        for (field, path) in [
            ("device_tree.tpm_registers.plugged_in.node", plugged_in.map(|found| &found.node)),
            ("device_tree.tpm_chip.bus", tree.tpm_chip.as_ref().map(|chip| &chip.bus)),
        ] {
            if path.is_some_and(|path| !is_node_path(path)) {
                let reason = "must be the path of a node, of letters, digits and `/@-_,.` alone";
                return Err((field.to_owned(), reason.to_owned()));
            }
        }
        if tree.tpm_chip.as_ref().is_some_and(|chip| chip.max_hz == 0 || chip.chip_select > 3) {
            let reason = "must have a `chip_select` of 0 to 3, and a `max_hz` above 0";
            return Err(("device_tree.tpm_chip".to_owned(), reason.to_owned()));
        }
        Ok(())
    }
}

/// True for the path of a node in the characters that names of nodes have, but for `+`: Devicetree Specification 2.2.1.
fn is_node_path(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/@-_,.".contains(&byte);
    path.len() > 1 && path.starts_with('/') && path.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::{Path, PathBuf};

    fn text_of(name: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("boards").join(name);
        fs::read_to_string(path.with_extension("toml")).unwrap()
    }

    fn parse(name: &str, text: &str) -> Result<Board, String> {
        Board::parse(PathBuf::from(format!("{name}.toml")), text, name).map_err(|e| e.to_string())
    }

    /// The file of the Orange Pi PC with a TPM on its SPI bus.
    fn with_chip() -> String {
        text_of("orangepi-pc")
            .replace("tpm = \"none\"", "tpm = \"spi\"")
            .replace("\"hardening\", \"board", "\"hardening\", \"tpm-spi\", \"board")
            .replace(
                "[\"base\", \"board-orangepi-pc\"]",
                "[\"base\", \"tpm-spi\", \"board-orangepi-pc\"]",
            )
            .replace(
                "spi_devices = [",
                "tpm_chip = { bus = \"/soc/spi@1c68000\", chip_select = 1, max_hz = 10_000_000 }\n\
                 spi_devices = [",
            )
    }

    #[test]
    fn a_tpm_has_a_node_where_its_board_says() {
        let board = parse("qemu-virt", &text_of("qemu-virt")).unwrap();
        assert_eq!((board.tpm, board.tpm_node().as_deref()), (Tpm::TisMmio, Some("/tpm@c000000")));
        let board = parse("orangepi-pc", &text_of("orangepi-pc")).unwrap();
        assert_eq!((board.tpm, board.tpm_node()), (Tpm::None, None));
        let board = parse("orangepi-pc", &with_chip()).unwrap();
        assert_eq!(board.tpm_node().as_deref(), Some("/soc/spi@1c68000/tpm@1"));
    }

    #[test]
    fn a_board_has_the_drivers_of_its_tpm_and_of_no_other() {
        for (name, text, from, to, expected) in [
            (
                "qemu-virt",
                text_of("qemu-virt"),
                "\"base\", \"tpm-tis-mmio\"",
                "\"base\"",
                "qemu-virt.toml: boot_loader.fragments: must have `tpm-tis-mmio`: `tpm` is `tis-mmio`",
            ),
            (
                "qemu-virt",
                text_of("qemu-virt"),
                "\"hardening\", \"tpm-tis-mmio\"",
                "\"hardening\"",
                "qemu-virt.toml: kernel.fragments: must have `tpm-tis-mmio`: `tpm` is `tis-mmio`",
            ),
            (
                "qemu-virt",
                text_of("qemu-virt"),
                "tpm = \"tis-mmio\"",
                "tpm = \"none\"",
                "device_tree.tpm_registers: must be there exactly if `tpm` is `tis-mmio`; it is `none`",
            ),
            (
                "qemu-virt",
                text_of("qemu-virt"),
                "tpm = \"tis-mmio\"",
                "tpm = \"spi\"",
                "must be there exactly if `tpm` is `tis-mmio`; it is `spi`",
            ),
            (
                "qemu-virt",
                text_of("qemu-virt"),
                "tpm_tis@0",
                "tpm; reset",
                "plugged_in.node: must be the path of a node",
            ),
            ("qemu-virt", text_of("qemu-virt"), "0x5000", "0x5800", "tpm_registers: must have an"),
            (
                "orangepi-pc",
                text_of("orangepi-pc"),
                "\"hardening\", \"board",
                "\"hardening\", \"tpm-spi\", \"board",
                "kernel.fragments: must not have `tpm-spi`: `tpm` is `none`",
            ),
            (
                "orangepi-pc",
                with_chip(),
                "tpm_chip = { bus = \"/soc/spi@1c68000\"",
                "tpm_chip = { bus = \"soc\"",
                "tpm_chip.bus: must be the path of a node",
            ),
            (
                "orangepi-pc",
                with_chip(),
                "chip_select = 1, max_hz",
                "chip_select = 4, max_hz",
                "device_tree.tpm_chip: must have a `chip_select` of 0 to 3",
            ),
        ] {
            assert!(text.contains(from), "no `{from}` to replace");
            let error = parse(name, &text.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
