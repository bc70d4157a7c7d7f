//! The commands of `image`: building images and looking at them.

mod assemble;
mod show;
mod sign;
mod sources;
mod verify;

pub(crate) use assemble::{AssembleArgs, ProgramsArgs, assemble_command, programs_command};
pub(crate) use show::{ShowArgs, show_command, show_image};
pub(crate) use sign::{SignArgs, sign_command};
pub(crate) use sources::{SourcesArgs, sources_command};
pub(crate) use verify::{VerifyArgs, verify_command, verify_image};

use crate::arguments::{ImageArgs, SourceArgs};
use crate::invocation::Invocation;
use anyhow::{Context, Result, bail};
use clap::Args;
use holdfast_builder::image::{Built, DEFAULT_MANIFEST, ImageBuilder};
use holdfast_builder::process;
use holdfast_builder::workspace::Workspace;
use holdfast_images::append;
use holdfast_images::build;
use holdfast_images::manifest::ImageManifest;
use holdfast_images::show::BootStatus;
use std::path::PathBuf;

/// Arguments of `image build`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast image build --image images/hello.toml")]
pub struct BuildArgs {
    #[command(flatten)]
    image: ImageArgs,
    #[command(flatten)]
    sources: SourceArgs,
    /// Refuse everything that belongs to development; takes only pinned sources.
    #[arg(long)]
    production: bool,
    /// Path to write the image to.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print what was built as JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `image append-app`.
#[derive(Debug, Args)]
#[command(
    after_help = "The OS in the image stays as it was signed. The image lists the app already: by a package that \
                  it has, which is replaced, or by `component_id` and `name` in its image manifest. Whatever \
                  its device would refuse is refused here.\n\n\
                  Example: holdfast image append-app target/holdfast/pump.img pump.package"
)]
pub struct AppendArgs {
    /// An image that no device has run from.
    image: PathBuf,
    /// A signed app package.
    package: PathBuf,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

/// The manifest that was named, or the default one.
pub(crate) fn manifest_path(workspace: &Workspace, named: Option<&PathBuf>) -> PathBuf {
    named.cloned().unwrap_or_else(|| workspace.root.join(DEFAULT_MANIFEST))
}

/// Reason for which an image is built in a checkout, for the error without one.
pub(crate) const BUILDS: &str = "an image is built from the sources in a checkout";

pub(crate) fn build_command(invocation: &Invocation, args: &BuildArgs) -> Result<()> {
    let workspace = invocation.workspace(BUILDS)?;
    let manifest = manifest_path(&workspace, args.image.manifest.as_ref());
    // A broken manifest, or no place for the image, is said before a toolchain is fetched for it.
    ImageManifest::load(&manifest)?;
    args.output.as_deref().map(build::check_output).transpose()?;
    let ImageArgs { board, apps, debug, .. } = &args.image;
    if args.production && debug.is_some() {
        bail!("--debug: is for development images; leave it or --production out");
    }
    let mut builder = ImageBuilder::new(&workspace, args.sources.locked, args.production)?;
    builder.set_debugged(debug.as_deref());
    let built = builder.build_for(board.as_deref(), &manifest, apps, args.output.as_deref())?;
    report(invocation, &built, args.json)
}

/// Says what was built, and what is left to do.
fn report(invocation: &Invocation, built: &Built, json: bool) -> Result<()> {
    let image = holdfast_images::show::show(&built.path)?;
    if json {
        println!(
            "{}",
            serde_json::json!({
                "image": built.path,
                "rom": Some(build::rom_path(&built.path)).filter(|rom| rom.is_file()),
                "symbols": built.symbols,
                "boot": image.boot,
                "root_hash": image.root_hash,
                "kernel_bytes": image.kernel_bytes,
                "root_bytes": image.root_bytes,
                "slot_bytes": image.slot_bytes,
            })
        );
    } else {
        println!("{}", built.path.display());
        println!("slot: {} bytes, root hash {}", image.slot_bytes, image.root_hash);
        if image.boot == BootStatus::Unsigned {
            let word = process::shell_word(&built.path.display().to_string());
            println!("not signed yet: `{} image sign {word}`", invocation.program);
        }
    }
    Ok(())
}

pub(crate) fn append_command(args: &AppendArgs) -> Result<()> {
    let (image, package) = (args.image.display(), args.package.display());
    let appended =
        append::append(&args.image, &args.package).map_err(|error| match error.is_of_image() {
            None => error.into(),
            Some(true) => anyhow::Error::from(error).context(image.to_string()),
            Some(false) => anyhow::Error::from(error).context(format!("{image}: {package}")),
        })?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&appended).context("cannot write JSON")?);
    } else {
        let how = if appended.replaced { "in place of the one before" } else { "added" };
        println!("{}: {} {}, {how}", args.image.display(), appended.name, appended.version);
    }
    Ok(())
}
