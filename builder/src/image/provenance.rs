//! Provenance of an image: a file in its verified root, and one beside it.

use crate::kernel::Kernel;
use crate::kernel::patches::Patch;
use crate::pins::Pin;
use crate::toolchain::Rust;
use crate::u_boot::UBoot;
use crate::workspace::{self, Workspace};
use anyhow::{Context, Result};
use holdfast_images::build::Sizes;
use holdfast_images::manifest::ImageManifest;
use serde::Serialize;
use std::path::Path;

/// Provenance of an image. Whoever has these sources and tools can build its bytes again.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Provenance<'a> {
    image: &'a str,
    version: &'a str,
    board: &'a str,
    /// Commit of this project; with a `+` where the working tree had changes.
    commit: String,
    build_time: u64,
    /// Hashes of the files that decide what is built from these sources.
    image_manifest_sha256: String,
    board_sha256: String,
    cargo_lock_sha256: String,
    kernel: &'a Pin,
    kernel_compiler: &'a str,
    /// Without what Kconfig notes of the host: [`Kernel::config_sha256`].
    kernel_config_sha256: String,
    /// Patches to the kernel's source, beyond Debian's.
    kernel_patches: &'a [Patch],
    boot_loader: &'a Pin,
    boot_loader_config_sha256: String,
    /// SHA-256 of the configuration of the spare copy's first stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    boot_loader_spare_config_sha256: Option<String>,
    boot_loader_patches: Vec<String>,
    rust: &'a Pin,
    rust_kind: &'a str,
    /// Of what was built in a checkout.
    #[serde(skip_serializing_if = "Option::is_none")]
    zig: Option<&'a Pin>,
    /// The build system of parts that were built elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    built_by: Option<&'a str>,
}

/// What compiled the programs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compilers<'a> {
    pub(super) rust: &'a Rust,
    /// None for parts that were built elsewhere.
    pub(super) zig: Option<&'a Pin>,
    pub(super) built_by: Option<&'a str>,
}

/// The same, and how large it became.
#[derive(Debug, Serialize)]
struct Measured<'a> {
    #[serde(flatten)]
    provenance: &'a Provenance<'a>,
    sizes: Sizes,
}

impl<'a> Provenance<'a> {
    pub(super) fn of(
        workspace: &Workspace,
        manifest: &'a ImageManifest,
        (kernel, boot_loader): (&'a Kernel, &'a UBoot),
        compilers: Compilers<'a>,
    ) -> Result<Self> {
        let Compilers { rust, zig, built_by } = compilers;
        let spare = boot_loader.spare.as_ref().map(|s| workspace::sha256_file(&s.config));
        let board = workspace.root.join(format!("images/boards/{}.toml", manifest.board));
        Ok(Self {
            image: &manifest.name,
            version: &manifest.version,
            board: &manifest.board,
            commit: workspace.commit(),
            build_time: workspace.build_time()?,
            image_manifest_sha256: workspace::sha256_file(&manifest.path)?,
            board_sha256: workspace::sha256_file(&board)?,
            cargo_lock_sha256: workspace::sha256_file(&workspace.root.join("Cargo.lock"))?,
            kernel: &kernel.source,
            kernel_compiler: &kernel.compiler,
            kernel_config_sha256: kernel.config_sha256()?,
            kernel_patches: &kernel.patches,
            boot_loader: &boot_loader.source,
            boot_loader_config_sha256: workspace::sha256_file(&boot_loader.config)?,
            boot_loader_spare_config_sha256: spare.transpose()?,
            boot_loader_patches: Vec::new(),
            rust: &rust.pin,
            rust_kind: rust.name,
            zig,
            built_by,
        })
    }

    /// Encodes the provenance as it lies in the image.
    pub(super) fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).context("cannot write JSON")
    }

    /// Writes it beside the image.
    pub(super) fn write_beside(&self, image: &Path, sizes: Sizes) -> Result<()> {
        let measured = Measured { provenance: self, sizes };
        let text = serde_json::to_string_pretty(&measured).context("cannot write JSON")?;
        workspace::write(&image.with_extension("provenance.json"), text)
    }
}
