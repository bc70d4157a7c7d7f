//! The kernel: Debian's source with our patches, our configuration, cached by everything that goes into it.

pub mod patches;
pub mod rules;
pub mod source;

use self::patches::Patch;
use self::source::installed_source;
use crate::cross_make::{self, cross_make};
use crate::kconfig::{self, lost_options};
use crate::pins::{self, Pin, Pins};
use crate::progress::Step;
use crate::workspace::{self, Workspace};
use crate::{host, process};
use anyhow::{Context, Result, bail};
use holdfast_images::board::Board;
use holdfast_images::{hex, sha256};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Changes with the way the kernel is built here, so that no older result is taken for a new one.
const RECIPE: &str = "2";

/// The purpose of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// An image: every rule of `required.toml` holds.
    Image,
    /// The control of attacks: `control.config` on top, which breaks those rules on purpose, and no patches.
    Control,
}

impl Purpose {
    /// Returns the patches to the source for this purpose.
    fn patches(self, workspace: &Workspace) -> Result<Vec<Patch>> {
        match self {
            Self::Image => patches::load(workspace),
            Self::Control => Ok(Vec::new()),
        }
    }
}

/// A kernel that was built.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The zImage.
    pub image: PathBuf,
    /// The board's device tree, where it is in the kernel's source.
    pub device_tree: Option<PathBuf>,
    /// The whole configuration of the kernel.
    pub config: PathBuf,
    /// Pin of the source.
    pub source: Pin,
    /// Patches that were applied to the source, in order.
    pub patches: Vec<Patch>,
    /// The C compiler, in its own words.
    pub compiler: String,
}

/// The fragments of a board, one behind the other.
pub(crate) fn merged_fragments(workspace: &Workspace, board: &Board) -> Result<String> {
    let directory = workspace.root.join("kernel-config");
    kconfig::merged_fragments(&directory, &board.kernel.fragments)
}

/// Builds the board's kernel, or finds it in the cache.
///
/// # Errors
/// The kernel's source is not the pinned one and must be, a rule does not hold, or the kernel does not build.
pub fn build(
    workspace: &Workspace,
    board: &Board,
    pins: &Pins,
    locked: bool,
    purpose: Purpose,
) -> Result<Kernel> {
    host::ensure(&[host::KERNEL])?;
    let source = installed_source(workspace)?;
    pins::accept(pins, pins::KERNEL, &source, locked)?;
    let compiler = cross_make::compiler()?;
    let mut fragments = merged_fragments(workspace, board)?;
    if purpose == Purpose::Control {
        let path = workspace.root.join("kernel-config/control.config");
        fragments.push_str(&workspace::read_text(&path)?);
    }
    let patches = purpose.patches(workspace)?;
    let patches_key = patches::key(&patches);
    let tree = board.device_tree.kernel.as_ref().map(|path| format!("{path}.dtb"));
    let parts = [RECIPE, &source.sha256, &patches_key, &compiler, &fragments].into_iter();
    let parts: Vec<&str> = parts.chain(tree.as_deref()).collect();
    let parts = parts.join("\0");
    let key = hex(&sha256(&[parts.as_bytes()]));
    let directory = workspace.cache.join("kernel").join(key.get(..24).unwrap_or(&key));
    let kernel = Kernel {
        image: directory.join("zImage"),
        device_tree: tree.as_ref().map(|_| directory.join("device-tree")),
        config: directory.join("config"),
        source,
        patches,
        compiler,
    };
    let is_made = || {
        let files = [Some(&kernel.image), Some(&kernel.config), kernel.device_tree.as_ref()];
        files.into_iter().flatten().all(|path| path.is_file())
    };
    if is_made() {
        return Ok(kernel);
    }
    let _lock = workspace.lock("kernel")?;
    // Whoever had it may have made this one.
    if is_made() {
        return Ok(kernel);
    }
    let source_tree = patches::source_tree(workspace, &kernel.source, &kernel.patches)?;
    rules::check_names(workspace, &fragments, &rules::declared(&source_tree)?)?;
    let scratch = tempfile::Builder::new()
        .prefix(".unfinished-kernel-")
        .tempdir_in(workspace.trees()?)
        .context("cannot make a directory for the kernel")?;
    let object = scratch.path().join("object");
    let merged = scratch.path().join("fragments");
    workspace::make_directory(&object)?;
    workspace::write(&merged, &fragments)?;
    let make = |target: &str| {
        let mut command = cross_make(workspace, &source_tree, &object, target);
        command
            .args(["KBUILD_BUILD_USER=holdfast", "KBUILD_BUILD_HOST=holdfast"])
            .args(["KBUILD_BUILD_TIMESTAMP=1970-01-01", "KBUILD_BUILD_VERSION=1"])
            .arg(format!("KCONFIG_ALLCONFIG={}", merged.display()));
        command
    };
    let mut step = Step::begin(match purpose {
        Purpose::Image => format!("kernel {} for {}", kernel.source.version, board.name),
        Purpose::Control => format!("control kernel {}", kernel.source.version),
    });
    let config = configure(&mut make("allnoconfig"), &object, &fragments, &mut step)?;
    if purpose == Purpose::Image {
        rules::check_required(workspace, &config)?;
    }
    process::follow(&mut make("zImage"), &mut step)?;
    if let (Some(file), Some(kept)) = (&tree, &kernel.device_tree) {
        process::follow(&mut make(file), &mut step).with_context(|| {
            format!("board {}: device_tree.kernel: the kernel's source makes no {file}", board.name)
        })?;
        let built = workspace::read(&object.join("arch/arm/boot/dts").join(file))?;
        workspace::write(kept, built)?;
    }
    let image = workspace::read(&object.join("arch/arm/boot/zImage"))?;
    let size = image.len();
    workspace::write(&kernel.config, &config)?;
    workspace::write(&kernel.image, image)?;
    step.done(&format!("{size} bytes"));
    Ok(kernel)
}

impl Kernel {
    /// SHA-256 of the configuration without what Kconfig notes of the host in it: this is in an image, which is to be
    /// the same on every host.
    ///
    /// # Errors
    /// The configuration cannot be read.
    pub fn config_sha256(&self) -> Result<String> {
        let config = workspace::read_text(&self.config)?;
        Ok(hex(&sha256(&[kconfig::without_host(&config).as_bytes()])))
    }
}

/// Runs Kconfig, and fails when it drops what was asked for.
fn configure(
    make: &mut Command,
    object: &Path,
    fragments: &str,
    step: &mut Step,
) -> Result<String> {
    process::follow(make, step)?;
    let config = workspace::read_text(&object.join(".config"))?;
    let lost = lost_options(fragments, &config);
    if !lost.is_empty() {
        bail!(
            "kernel-config: these options did not survive Kconfig (a dependency is missing, or \
             another option selects them):\n  {}",
            lost.join("\n  ")
        );
    }
    Ok(config)
}

/// The configuration that a board's kernel would be built with.
///
/// # Errors
/// As [`build`], but that nothing is built.
pub fn configuration(
    workspace: &Workspace,
    board: &Board,
    pins: &Pins,
    locked: bool,
) -> Result<String> {
    host::ensure(&[host::KERNEL])?;
    let source = installed_source(workspace)?;
    pins::accept(pins, pins::KERNEL, &source, locked)?;
    let fragments = merged_fragments(workspace, board)?;
    let patches = patches::load(workspace)?;
    let _lock = workspace.lock("kernel")?;
    let source_tree = patches::source_tree(workspace, &source, &patches)?;
    rules::check_names(workspace, &fragments, &rules::declared(&source_tree)?)?;
    let scratch = tempfile::tempdir_in(workspace.trees()?).context("cannot make a directory")?;
    let (object, merged) = (scratch.path().join("object"), scratch.path().join("fragments"));
    workspace::make_directory(&object)?;
    workspace::write(&merged, &fragments)?;
    let mut make = cross_make(workspace, &source_tree, &object, "allnoconfig");
    make.arg(format!("KCONFIG_ALLCONFIG={}", merged.display()));
    let mut step = Step::begin(format!("configuration of the kernel for {}", board.name));
    let config = configure(&mut make, &object, &fragments, &mut step)?;
    step.done("made");
    Ok(config)
}
