//! What `buildroot-external/` repeats of board files, pinned sources and the flags of this crate. It is made from them:
//! `tests/buildroot.rs` compares, and writes it anew when told so.

use crate::device_build::{C_FLAGS, CARGO_ENVIRONMENT, CARGO_OPTIONS, RUST_FLAGS, build_id_flag};
use crate::pins::{self, Pins};
use crate::toolchain::TARGET;
use crate::workspace::{self, Workspace};
use anyhow::{Context, Result};
use holdfast_images::board::{self, Board};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The tree, below the root of a checkout.
pub const DIRECTORY: &str = "buildroot-external";
/// The tree's own path, as defconfigs name it.
const TREE: &str = "$(BR2_EXTERNAL_HOLDFAST_PATH)";
/// The kernel's source, where Debian's package has it on a host.
const LINUX_ARCHIVE: &str = crate::kernel::source::ARCHIVE;

/// Every generated file by its path in the checkout, with what it holds.
///
/// # Errors
/// A board file, the pins or `Cargo.toml` cannot be read.
pub fn files(workspace: &Workspace) -> Result<BTreeMap<PathBuf, String>> {
    let pins = pins::load(workspace)?;
    let directory = workspace.root.join("images/boards");
    let boards = board::names(&directory);
    let boards: Vec<Board> = boards
        .iter()
        .map(|name| Board::load(&directory, name, Path::new(DIRECTORY)))
        .collect::<Result<_, _>>()?;
    let at = |name: &str| Path::new(DIRECTORY).join(name);
    let linux = linux_hashes(&pins)?;
    let mut files = BTreeMap::from([
        (at("flags.mk"), flags(workspace, &pins)?),
        (at("boards.mk"), board_variables(&boards)),
        (at("board/holdfast/sources/linux/linux.hash"), linux.clone()),
        (at("board/holdfast/sources/linux-headers/linux-headers.hash"), linux),
    ]);
    for board in &boards {
        let name = format!("configs/holdfast_{}_defconfig", board.name.replace('-', "_"));
        files.insert(at(&name), defconfig(board, &pins)?);
    }
    Ok(files)
}

/// Returns `flags.mk`: variables of make for compilers, flags and sources.
fn flags(workspace: &Workspace, pins: &Pins) -> Result<String> {
    let path = workspace.root.join("Cargo.toml");
    let table: toml::Table = workspace::read_toml(&path)?;
    let version = table
        .get("workspace")
        .and_then(|workspace| workspace.get("package")?.get("version")?.as_str())
        .with_context(|| format!("{}: workspace.package.version is missing", path.display()))?;
    let (linux, u_boot) = (pins::pin(pins, pins::KERNEL)?, pins::pin(pins, pins::U_BOOT)?);
    let environment = CARGO_ENVIRONMENT.map(|(name, value)| format!("{name}={value}")).join(" ");
    let lines = [
        ("WORKSPACE_VERSION", version.to_owned()),
        ("TARGET", TARGET.to_owned()),
        ("TARGET_WORD", TARGET.replace('-', "_")),
        ("CARGO_OPTS", CARGO_OPTIONS.join(" ")),
        ("CARGO_ENV", environment),
        ("RUSTFLAGS", format!("{} {}", RUST_FLAGS.join(" "), build_id_flag())),
        ("CFLAGS", C_FLAGS.to_owned()),
        ("LINUX_VERSION", linux.version.clone()),
        ("LINUX_SHA256", linux.sha256.clone()),
        ("UBOOT_VERSION", u_boot.version.clone()),
        ("UBOOT_SHA256", u_boot.sha256.clone()),
    ];
    let lines: String =
        lines.iter().map(|(name, value)| format!("HOLDFAST_{name} = {value}\n")).collect();
    Ok(format!("{}\n{lines}", header("builder/src/device_build.rs and sources.lock")))
}

fn header(of: &str) -> String {
    let line = "#".repeat(80);
    format!(
        "{line}\n#\n# Generated from {of}: cargo test -p holdfast-builder --test buildroot\n#\n{line}\n"
    )
}

/// Returns `boards.mk`: variables of make for each board.
fn board_variables(boards: &[Board]) -> String {
    let mut text = header("images/boards/");
    for board in boards {
        text.push_str(&format!("\nifeq ($(HOLDFAST_BOARD),{})\n", board.name));
        if let Some(tree) = &board.device_tree.kernel {
            let file = tree.rsplit('/').next().unwrap_or(tree);
            text.push_str(&format!(
                "HOLDFAST_LINUX_DTB = {file}.dtb\nHOLDFAST_UBOOT_DTB = u-boot.dtb\n"
            ));
        }
        if let Some(stage) = &board.boot_loader.first_stage {
            let target = stage.made_with.as_ref().unwrap_or(&stage.file);
            text.push_str(&format!("HOLDFAST_FIRST_STAGE = {}\n", stage.file));
            text.push_str(&format!("HOLDFAST_FIRST_STAGE_TARGET = {target}\n"));
        }
        if let Some(spare) = &board.boot_loader.spare {
            let fragments = fragments("$(HOLDFAST_CHECKOUT)/boot-loader", &spare.fragments);
            text.push_str(&format!("HOLDFAST_SPARE_FRAGMENTS = {fragments}\n"));
        }
        text.push_str("endif\n");
    }
    text
}

/// Paths of fragments of a configuration.
fn fragments(directory: &str, names: &[String]) -> String {
    let paths = names.iter().map(|name| format!("{directory}/{name}.config"));
    paths.collect::<Vec<_>>().join(" ")
}

fn linux_hashes(pins: &Pins) -> Result<String> {
    let pin = pins::pin(pins, pins::KERNEL)?;
    let archive = LINUX_ARCHIVE.rsplit('/').next().unwrap_or(LINUX_ARCHIVE);
    Ok(format!(
        "# As in sources.lock, of {}\nsha256  {}  {archive}\n{}",
        pin.version, pin.sha256, LINUX_LICENCES
    ))
}

/// Hashes of the kernel's licences, computed from its source.
const LINUX_LICENCES: &str = "\
# Locally computed
sha256  fb5a425bd3b3cd6071a3a9aff9909a859e7c1158d54d32e07658398cd67eb6a0  COPYING
sha256  f6b78c087c3ebdf0f3c13415070dd480a3f35d8fc76f3d02180a407c1c812f79  LICENSES/preferred/GPL-2.0
sha256  8e378ab93586eb55135d3bc119cce787f7324f48394777d00c34fa3d0be3303f  LICENSES/exceptions/Linux-syscall-note
";

/// The configuration of a board, as `make savedefconfig` has it.
fn defconfig(board: &Board, pins: &Pins) -> Result<String> {
    let u_boot = pins::pin(pins, pins::U_BOOT)?;
    let set = |name: &str, value: &str| format!("BR2_{name}=\"{value}\"");
    let on = |name: &str| format!("BR2_{name}=y");
    let off = |name: &str| format!("# BR2_{name} is not set");
    let split = |directory: &str, names: &[String]| {
        let (first, more) = names.split_at(1.min(names.len()));
        (fragments(directory, first), fragments(directory, more))
    };
    let (kernel, kernel_more) = split(&format!("{TREE}/../kernel-config"), &board.kernel.fragments);
    let (loader, loader_more) =
        split(&format!("{TREE}/../boot-loader"), &board.boot_loader.fragments);
    let mut lines = vec![
        on("arm"),
        on("cortex_a8"),
        on("ARM_FPU_NEON"),
        on("ARM_INSTRUCTIONS_THUMB2"),
        on("TOOLCHAIN_BUILDROOT_MUSL"),
        on("PACKAGE_HOST_LINUX_HEADERS_CUSTOM_6_12"),
        on("TOOLCHAIN_BUILDROOT_CXX"),
        set("GLOBAL_PATCH_DIR", &format!("{TREE}/board/holdfast/sources")),
        on("DOWNLOAD_FORCE_CHECK_HASHES"),
        on("REPRODUCIBLE"),
        on("ROOTFS_SKELETON_CUSTOM"),
        set("ROOTFS_SKELETON_CUSTOM_PATH", &format!("{TREE}/board/holdfast/skeleton")),
        on("INIT_NONE"),
        on("ROOTFS_DEVICE_CREATION_STATIC"),
        set("ROOTFS_DEVICE_TABLE", &format!("{TREE}/board/holdfast/device_table.txt")),
        set("ROOTFS_POST_IMAGE_SCRIPT", &format!("{TREE}/board/holdfast/post-image.sh")),
        on("LINUX_KERNEL"),
        on("LINUX_KERNEL_CUSTOM_TARBALL"),
        set("LINUX_KERNEL_CUSTOM_TARBALL_LOCATION", &format!("file://{LINUX_ARCHIVE}")),
        set("LINUX_KERNEL_PATCH", &format!("{TREE}/../kernel-config/patches")),
        on("LINUX_KERNEL_USE_CUSTOM_CONFIG"),
        set("LINUX_KERNEL_CUSTOM_CONFIG_FILE", &kernel),
        set("LINUX_KERNEL_CONFIG_FRAGMENT_FILES", &kernel_more),
        on("LINUX_KERNEL_LZ4"),
    ];
    if let Some(tree) = &board.device_tree.kernel {
        lines.extend([on("LINUX_KERNEL_DTS_SUPPORT"), set("LINUX_KERNEL_INTREE_DTS_NAME", tree)]);
    }
    lines.extend([
        off("PACKAGE_BUSYBOX"),
        off("TARGET_ROOTFS_TAR"),
        on("TARGET_UBOOT"),
        on("TARGET_UBOOT_BUILD_SYSTEM_KCONFIG"),
        on("TARGET_UBOOT_CUSTOM_TARBALL"),
        set(
            "TARGET_UBOOT_CUSTOM_TARBALL_LOCATION",
            &format!("file:///usr/src/u-boot-{}.tar", u_boot.version),
        ),
        on("TARGET_UBOOT_USE_CUSTOM_CONFIG"),
        set("TARGET_UBOOT_CUSTOM_CONFIG_FILE", &loader),
        set("TARGET_UBOOT_CONFIG_FRAGMENT_FILES", &loader_more),
    ]);
    if board.boot_loader.first_stage.is_some() {
        lines.push(on("TARGET_UBOOT_NEEDS_PYLIBFDT"));
    }
    lines.extend([
        on("TARGET_UBOOT_NEEDS_OPENSSL"),
        on("TARGET_UBOOT_NEEDS_XXD"),
        off("TARGET_UBOOT_FORMAT_BIN"),
        on("TARGET_UBOOT_FORMAT_CUSTOM"),
    ]);
    let mut formats = "u-boot-nodtb.bin".to_owned();
    if board.device_tree.qemu.is_none() {
        formats.push_str(" u-boot.dtb");
    }
    lines.push(set("TARGET_UBOOT_FORMAT_CUSTOM_NAME", &formats));
    if let Some(stage) = &board.boot_loader.first_stage {
        lines.extend([on("TARGET_UBOOT_SPL"), set("TARGET_UBOOT_SPL_NAME", &stage.file)]);
    }
    lines.extend([
        on("HOLDFAST"),
        set("HOLDFAST_BOARD", &board.name),
        on("PACKAGE_HOLDFAST_INIT"),
        on("PACKAGE_HOLDFAST_SERVICES"),
        on("PACKAGE_HOLDFAST_APPS"),
    ]);
    Ok(lines.join("\n") + "\n")
}
