//! `image sources`: the corresponding source of what in an image is under the GPL: kernel and boot loader.

use super::show::show_image;
use crate::invocation::Invocation;
use anyhow::{Context, Result, bail};
use clap::Args;
use holdfast_builder::kernel::patches::Patch;
use holdfast_builder::kernel::{self, Purpose};
use holdfast_builder::pins::{self, Pin};
use holdfast_builder::progress::Step;
use holdfast_builder::workspace::{self, Workspace};
use holdfast_builder::{host, process, source_package, u_boot};
use holdfast_images::board::Board;
use holdfast_images::destination;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Arguments of `image sources`.
#[derive(Debug, Args)]
#[command(
    after_help = "Kernel and boot loader with the configurations they were built with, how to build them, and \
                  the hashes of all of it: what the GPL asks of who ships the image. Run it in the checkout \
                  that the image is from (`image show` names the commit).\n\n\
                  Example: holdfast image sources target/holdfast/hello.img --output hello-sources"
)]
pub struct SourcesArgs {
    /// An image.
    image: PathBuf,
    /// Directory to put them into; it must not be there yet.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

pub(crate) fn sources_command(invocation: &Invocation, args: &SourcesArgs) -> Result<()> {
    let image = args.image.display();
    if args.output.symlink_metadata().is_ok() {
        bail!("{}: is there already", args.output.display());
    }
    let workspace = &invocation.workspace(
        "kernel and boot loader are built again, to see that their sources are the image's",
    )?;
    host::ensure(&[host::KERNEL, host::SOURCE_PACKAGES])?;
    let shown = show_image(&args.image)?;
    let provenance = shown
        .provenance
        .with_context(|| format!("{image}: does not say what it was made from; build it again"))?;
    if let Some(built_by) = provenance.get("built_by").and_then(Value::as_str) {
        bail!(
            "{image}: its kernel and boot loader were built by {built_by}, which has their sources; with Buildroot, \
             `make legal-info` collects them"
        );
    }
    let boards = workspace.root.join("images/boards");
    let board = Board::load(&boards, &shown.board, &args.image)?;
    let pins = pins::load(workspace)?;
    let kernel = kernel::build(workspace, &board, &pins, false, Purpose::Image)?;
    let boot_loader = u_boot::build(workspace, &board, &pins, false)?;
    let said = |path: &str| provenance.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let spare = boot_loader.spare.as_ref().map(|spare| workspace::sha256_file(&spare.config));
    for (what, path, here) in [
        ("kernel", "/kernel/sha256", kernel.source.sha256.clone()),
        ("kernel's configuration", "/kernel_config_sha256", kernel.config_sha256()?),
        ("boot loader", "/boot_loader/sha256", boot_loader.source.sha256.clone()),
        (
            "boot loader's configuration",
            "/boot_loader_config_sha256",
            workspace::sha256_file(&boot_loader.config)?,
        ),
        (
            "configuration of the spare first stage",
            "/boot_loader_spare_config_sha256",
            spare.transpose()?.unwrap_or_default(),
        ),
    ] {
        if said(path) != here {
            bail!(
                "{image}: was made from another {what} (SHA-256 {}) than this checkout and host have \
                 ({here}); check out commit {}",
                said(path),
                said("/commit")
            );
        }
    }
    same_patches(&provenance, &kernel.patches).with_context(|| image.to_string())?;
    // All of it, or nothing that looks like it.
    let scratch = tempfile::Builder::new()
        .prefix(".unfinished-sources-")
        // As the umask has it, and not for the owner alone.
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .tempdir_in(destination::parent(&args.output))
        .with_context(|| format!("cannot write beside {}", args.output.display()))?;
    let mut step = Step::begin("collecting sources");
    let (linux, loader) = (scratch.path().join("linux"), scratch.path().join("u-boot"));
    for directory in [&linux, &loader] {
        workspace::make_directory(directory)?;
    }
    copy(Path::new(kernel::source::ARCHIVE), &linux.join("linux-source.tar.xz"))?;
    copy(&kernel.config, &linux.join("config"))?;
    for patch in &kernel.patches {
        workspace::write(&linux.join("patches").join(&patch.name), &patch.text)?;
    }
    download(workspace, &boot_loader.source, &loader, &mut step)?;
    copy(&boot_loader.config, &loader.join("config"))?;
    if let Some(spare) = &boot_loader.spare {
        copy(&spare.config, &loader.join("spare-config"))?;
    }
    workspace::write(&scratch.path().join("README"), readme(&kernel.source, &boot_loader.source))?;
    let sums = sums(scratch.path())?;
    workspace::write(&scratch.path().join("SHA256SUMS"), sums)?;
    fs::rename(scratch.keep(), &args.output)
        .with_context(|| format!("cannot put {} in place", args.output.display()))?;
    step.done(&args.output.display().to_string());
    Ok(())
}

/// Fails when the image's kernel was patched otherwise than this checkout would.
fn same_patches(provenance: &Value, here: &[Patch]) -> Result<()> {
    let said = provenance.get("kernel_patches").cloned().unwrap_or_default();
    if said == serde_json::to_value(here).context("cannot write JSON")? {
        return Ok(());
    }
    let commit = provenance.get("commit").and_then(Value::as_str).unwrap_or_default();
    bail!("its kernel was patched otherwise than here ({said}); check out commit {commit}")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} here", from.display()))?;
    Ok(())
}

/// The files of U-Boot's source package, as Debian has them.
fn download(workspace: &Workspace, pin: &Pin, to: &Path, step: &mut Step) -> Result<()> {
    let mut command = source_package::apt_with_sources(workspace, "apt-get")?;
    command.current_dir(to).args(["source", "--download-only"]).arg(format!(
        "{}={}",
        pins::U_BOOT,
        pin.version
    ));
    process::follow(&mut command, step)
}

fn readme(kernel: &Pin, boot_loader: &Pin) -> String {
    format!(
        "The source of the kernel (Linux {}) and of the boot loader (U-Boot {}) of this image, both as Debian \
         has them, with the configuration each was built with and the patches that were applied to the kernel's, \
         in the order of their names.\n\n\
         Kernel: unpack linux/linux-source.tar.xz, apply linux/patches/*.patch in it (`patch -p1 --input=FILE` for \
         each), copy linux/config to .config in it, and run\n\n\
         \x20   make ARCH=arm CROSS_COMPILE=arm-linux-gnueabihf- olddefconfig zImage\n\n\
         Boot loader: `dpkg-source -x u-boot/*.dsc`, copy u-boot/config to .config in it, and run\n\n\
         \x20   make ARCH=arm CROSS_COMPILE=arm-linux-gnueabihf- olddefconfig all\n\n\
         Where there is u-boot/spare-config, the first stage of the boot loader's spare copy was built with that.\n\n\
         Both are under the GNU General Public License, version 2; its text is in each of the two.\n",
        kernel.version, boot_loader.version
    )
}

/// The hashes of all files below `directory`, as sha256sum(1) checks them.
fn sums(directory: &Path) -> Result<String> {
    let mut sums = String::new();
    let mut left = vec![directory.to_owned()];
    let mut files = Vec::new();
    while let Some(directory) = left.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("cannot list {}", directory.display()))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() { left.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    for path in files {
        let name = path.strip_prefix(directory).unwrap_or(&path);
        sums.push_str(&format!("{}  {}\n", workspace::sha256_file(&path)?, name.display()));
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_was_patched_otherwise_is_refused() {
        let patch = |name: &str| Patch {
            name: name.to_owned(),
            sha256: "ab".to_owned(),
            text: "Why.".to_owned(),
        };
        let provenance = serde_json::json!({
            "commit": "c0ffee",
            "kernel_patches": [{ "name": "0001-a.patch", "sha256": "ab" }],
        });
        same_patches(&provenance, &[patch("0001-a.patch")]).unwrap();
        for here in [&[][..], &[patch("0002-b.patch")], &[patch("0001-a.patch"), patch("b")]] {
            let error = same_patches(&provenance, here).unwrap_err().to_string();
            assert!(error.ends_with("check out commit c0ffee"), "{error}");
        }
    }

    #[test]
    fn sums_are_those_that_sha256sum_checks() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("a")).unwrap();
        fs::write(directory.path().join("a/b"), "").unwrap();
        fs::write(directory.path().join("z"), "z").unwrap();
        let sums = sums(directory.path()).unwrap();
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  a/b\n";
        assert!(sums.starts_with(empty) && sums.lines().count() == 2, "{sums}");
    }
}
