//! U-Boot: Debian's source with Debian's patches, our configuration, cached by everything that goes
//! into it. Keys and boot script are no part of it: they are in the device tree that the image
//! builder puts behind it.

use crate::cross_make::{self, cross_make};
use crate::kconfig::{self, lost_options, options};
use crate::pins::{self, Pin, Pins};
use crate::progress::Step;
use crate::workspace::{self, Workspace};
use crate::{host, kernel, process, source_package, watchdog};
use anyhow::{Context, Result, bail};
use holdfast_images::board::Board;
use holdfast_images::{hex, sha256};
use std::path::{Path, PathBuf};

/// Changes with the way U-Boot is built here, so that no older result is taken for a new one.
const RECIPE: &str = "1";
const IMAGE: &str = "u-boot-nodtb.bin";
/// Under what name the first stage of a spare copy is kept.
const SPARE: &str = "spare-first-stage";
const SPARE_CONFIG: &str = "spare-config";
/// The device tree that U-Boot finds its devices by.
const CONTROL_TREE: &str = "u-boot.dtb";
/// Doors that must stay shut, whoever in Kconfig selects them.
const NEVER: [&str; 25] = [
    "CONFIG_NET",
    "CONFIG_USB",
    "CONFIG_EFI_LOADER",
    "CONFIG_LEGACY_IMAGE_FORMAT",
    "CONFIG_ANDROID_BOOT_IMAGE",
    "CONFIG_CMD_GO",
    "CONFIG_CMD_BOOTZ",
    "CONFIG_CMD_BOOTI",
    "CONFIG_CMD_SOURCE",
    "CONFIG_CMD_FS_GENERIC",
    "CONFIG_FS_EXT4",
    "CONFIG_FS_FAT",
    "CONFIG_FS_SQUASHFS",
    "CONFIG_CMD_GPT",
    "CONFIG_EFI_PARTITION",
    "CONFIG_DOS_PARTITION",
    "CONFIG_CMD_SAVEENV",
    "CONFIG_FIT_CIPHER",
    "CONFIG_FIT_IMAGE_POST_PROCESS",
    "CONFIG_PREBOOT_DEFINED",
    "CONFIG_CMD_BOOTDEV",
    "CONFIG_BOOTSTD",
    "CONFIG_CMD_LOADB",
    "CONFIG_CMD_LOADS",
    "CONFIG_CMD_TFTPBOOT",
];

/// A boot loader that was built.
#[derive(Debug, Clone)]
pub struct UBoot {
    /// `u-boot-nodtb.bin`.
    pub image: PathBuf,
    /// First stage (SPL) that the boot ROM starts, for a board that has it on the card.
    pub first_stage: Option<PathBuf>,
    /// First stage of the spare copy, for a board that has one: the boot ROM starts it when it finds no other.
    pub spare: Option<SpareFirstStage>,
    /// The device tree of its own, for a board that QEMU makes none for.
    pub device_tree: Option<PathBuf>,
    /// The whole configuration of U-Boot.
    pub config: PathBuf,
    /// Pin of the source.
    pub source: Pin,
    /// That source, unpacked.
    pub tree: PathBuf,
}

/// The first stage of a spare copy.
#[derive(Debug, Clone)]
pub struct SpareFirstStage {
    /// The first stage's image.
    pub image: PathBuf,
    /// The whole configuration of the first stage's build.
    pub config: PathBuf,
}

/// Builds the board's U-Boot, or finds it in the cache.
///
/// # Errors
/// U-Boot's source cannot be had or is not the pinned one, U-Boot does not build as the board says, or nothing arms the
/// board's watchdog before init is there, without a reason.
pub fn build(workspace: &Workspace, board: &Board, pins: &Pins, locked: bool) -> Result<UBoot> {
    host::ensure(&[host::KERNEL])?;
    let _lock = workspace.lock("u-boot")?;
    let (source, tree) = source_package::fetch(workspace, pins, pins::U_BOOT, locked)?;
    let compiler = cross_make::compiler()?;
    let Inputs { fragments, spare_fragments, environment } = Inputs::read(workspace, board)?;
    let of_kernel = kernel::merged_fragments(workspace, board)?;
    watchdog::check(workspace, board, &fragments, &of_kernel)?;
    let spare_key = spare_fragments.as_deref().unwrap_or_default();
    let parts = [RECIPE, &source.sha256, &compiler, &fragments, spare_key, &environment].join("\0");
    let key = hex(&sha256(&[parts.as_bytes()]));
    let directory = workspace.cache.join("u-boot").join(key.get(..24).unwrap_or(&key));
    let first_stage = board.boot_loader.first_stage.as_ref().map(|stage| stage.file.as_str());
    let own_tree = board.device_tree.qemu.is_none().then_some(CONTROL_TREE);
    // What is made in the build's directory, and the name under which it is kept.
    let kept = |file: &str| directory.join(file.replace('/', "-"));
    let u_boot = UBoot {
        image: kept(IMAGE),
        first_stage: first_stage.map(kept),
        spare: spare_fragments
            .as_ref()
            .map(|_| SpareFirstStage { image: kept(SPARE), config: kept(SPARE_CONFIG) }),
        device_tree: own_tree.map(kept),
        config: directory.join("config"),
        source,
        tree,
    };
    let files: Vec<&str> = [IMAGE].into_iter().chain(first_stage).chain(own_tree).collect();
    let spare_is_kept =
        u_boot.spare.as_ref().is_none_or(|s| s.image.is_file() && s.config.is_file());
    if u_boot.config.is_file() && files.iter().all(|file| kept(file).is_file()) && spare_is_kept {
        return Ok(u_boot);
    }
    let scratch = tempfile::Builder::new()
        .prefix(".unfinished-u-boot-")
        .tempdir_in(workspace.trees()?)
        .context("cannot make a directory for U-Boot")?;
    let object = scratch.path().join("object");
    workspace::make_directory(&object)?;
    let (merged, built_in) = (scratch.path().join("fragments"), scratch.path().join("environment"));
    workspace::write(&built_in, &environment)?;
    let make = |target: &str| {
        let mut command = cross_make(workspace, &u_boot.tree, &object, target);
        let map = |path: &Path| format!("-ffile-prefix-map={}=.", path.display());
        command
            .env("SOURCE_DATE_EPOCH", "0")
            .env("TZ", "UTC")
            // An SPL is put together by programs in Python, with the modules of Debian's.
            .arg("PYTHON3=/usr/bin/python3")
            .arg(format!("KCFLAGS={} {}", map(&u_boot.tree), map(&object)))
            .arg(format!("KCONFIG_ALLCONFIG={}", merged.display()));
        command
    };
    let mut step = Step::begin(format!("U-Boot {} for {}", u_boot.source.version, board.name));
    let configure = |fragments: &str, step: &mut Step| -> Result<String> {
        let named = format!("{fragments}CONFIG_DEFAULT_ENV_FILE=\"{}\"\n", built_in.display());
        workspace::write(&merged, &named)?;
        process::follow(&mut make("allnoconfig"), step)?;
        let config = workspace::read_text(&object.join(".config"))?;
        check(fragments, &config)?;
        Ok(config)
    };
    let config = configure(&fragments, &mut step)?;
    let mut size = 0usize;
    let stage = board.boot_loader.first_stage.as_ref();
    let mut keep = |file: &str, path: &Path, step: &mut Step| -> Result<()> {
        let other = stage.filter(|stage| stage.file == file).and_then(|s| s.made_with.as_deref());
        process::follow(&mut make(other.unwrap_or(file)), step)
            .with_context(|| format!("board {}: boot_loader: cannot make {file}", board.name))?;
        let bytes = workspace::read(&object.join(file))?;
        size = size.saturating_add(bytes.len());
        workspace::write(path, bytes)
    };
    for file in files {
        keep(file, &kept(file), &mut step)?;
    }
    if let (Some(file), Some(spare)) = (first_stage, &spare_fragments) {
        let config = configure(spare, &mut step)?;
        keep(file, &kept(SPARE), &mut step)?;
        workspace::write(&kept(SPARE_CONFIG), without_environment(&config))?;
    }
    workspace::write(&u_boot.config, without_environment(&config))?;
    step.done(&format!("{size} bytes"));
    Ok(u_boot)
}

/// A configuration without the path of the environment's file, which is another in each build.
fn without_environment(config: &str) -> String {
    let lines = config.lines().filter(|line| !line.starts_with("CONFIG_DEFAULT_ENV_FILE="));
    lines.collect::<Vec<_>>().join("\n")
}

/// Inputs of this checkout to a board's U-Boot.
struct Inputs {
    /// The fragments, one behind the other.
    fragments: String,
    /// The same with those of a spare copy's first stage.
    spare_fragments: Option<String>,
    /// The environment that is compiled in.
    environment: String,
}

impl Inputs {
    fn read(workspace: &Workspace, board: &Board) -> Result<Self> {
        let directory = workspace.root.join("boot-loader");
        let loader = &board.boot_loader;
        let fragments = kconfig::merged_fragments(&directory, &loader.fragments)?;
        let spare = loader.spare.as_ref().map(|spare| {
            let other = kconfig::merged_fragments(&directory, &spare.fragments)?;
            Ok::<_, anyhow::Error>(format!("{fragments}{other}"))
        });
        Ok(Self {
            spare_fragments: spare.transpose()?,
            fragments,
            environment: workspace::read_text(&directory.join("environment"))?,
        })
    }
}

/// Checks the configuration of a board's U-Boot that was built elsewhere, or that of its spare copy's first stage.
pub(crate) fn check_given(
    workspace: &Workspace,
    board: &Board,
    config: &str,
    of_spare: bool,
) -> Result<()> {
    let Inputs { fragments, spare_fragments, .. } = Inputs::read(workspace, board)?;
    watchdog::check(workspace, board, &fragments, &kernel::merged_fragments(workspace, board)?)?;
    check(spare_fragments.filter(|_| of_spare).as_ref().unwrap_or(&fragments), config)
}

/// Fails when Kconfig dropped what was asked for, or something is on that never may be.
fn check(fragments: &str, config: &str) -> Result<()> {
    let lost = lost_options(fragments, config);
    if !lost.is_empty() {
        bail!("boot-loader: these options did not survive Kconfig:\n  {}", lost.join("\n  "));
    }
    let have = options(config);
    let on = |name: &&&str| have.get(**name).is_some_and(|value| *value != "n");
    let wrong: Vec<&str> = NEVER.iter().filter(on).copied().collect();
    if !wrong.is_empty() {
        bail!("boot-loader: these options must be off: {}", wrong.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_opens_a_door_is_refused() {
        check("CONFIG_FIT=y\n", "CONFIG_FIT=y\n# CONFIG_NET is not set\n").unwrap();
        let error = check("CONFIG_FIT=y\n", "CONFIG_FIT=y\nCONFIG_NET=y\n").unwrap_err();
        assert_eq!(error.to_string(), "boot-loader: these options must be off: CONFIG_NET");
        let error = check("CONFIG_FIT_SIGNATURE=y\n", "CONFIG_FIT=y\n").unwrap_err();
        assert!(error.to_string().contains("CONFIG_FIT_SIGNATURE: wanted y, found n"), "{error}");
    }
}
