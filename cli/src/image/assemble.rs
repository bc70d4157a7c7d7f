//! `image assemble` and `image programs`: an image of what another build system has built.

use super::{manifest_path, report};
use crate::arguments::SourceArgs;
use crate::invocation::Invocation;
use anyhow::Result;
use clap::Args;
use holdfast_builder::image::ImageBuilder;
use holdfast_builder::image::parts::Parts;
use holdfast_builder::image::programs;
use holdfast_images::build;
use holdfast_images::manifest::ImageManifest;
use std::path::PathBuf;

/// Why it takes a checkout.
const READS: &str = "image manifests, boards and rules are those of a checkout";

/// Arguments of `image assemble`.
#[derive(Debug, Args)]
#[command(
    after_help = "Puts an image together from kernel, boot loader and programs that another build system (Buildroot) \
                  has built, as `image build` does from its own: the same layout, rules, signatures and bill of \
                  materials. Nothing is compiled.\n\n\
                  Example: holdfast image assemble --image images/hello.toml --parts hello.parts.toml --output hello.img"
)]
pub struct AssembleArgs {
    /// Image manifest.
    #[arg(long = "image", value_name = "TOML")]
    manifest: Option<PathBuf>,
    /// File that names what was built, and from which sources.
    #[arg(long, value_name = "TOML")]
    parts: PathBuf,
    /// Signed app package, or app directory, to add to the image; may be given several times.
    #[arg(long = "app", value_name = "DIR|PACKAGE")]
    apps: Vec<PathBuf>,
    #[command(flatten)]
    sources: SourceArgs,
    /// Refuse everything that belongs to development; takes only pinned sources.
    #[arg(long)]
    production: bool,
    /// Where to write the image.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Print what was put together as JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `image programs`.
#[derive(Debug, Args)]
#[command(
    after_help = "One line for each program that is built with cargo, its fields separated by tabs: package, \
                  features (by commas, `-` for the default ones), binary, and where `image assemble` looks for it \
                  below `programs.directory`. A last line, which begins with `#`, has a hash over the sources: \
                  `programs.lists` names files with such tables, and `image assemble` takes no program that was \
                  built from other sources or for another image.\n\n\
                  Example: holdfast image programs --image images/hello.toml"
)]
pub struct ProgramsArgs {
    /// Image manifest.
    #[arg(long = "image", value_name = "TOML")]
    manifest: Option<PathBuf>,
    /// App directory to add to the image; may be given several times.
    #[arg(long = "app", value_name = "DIR|PACKAGE")]
    apps: Vec<PathBuf>,
}

pub(crate) fn assemble_command(invocation: &Invocation, args: &AssembleArgs) -> Result<()> {
    let workspace = invocation.workspace(READS)?;
    let manifest = manifest_path(&workspace, args.manifest.as_ref());
    ImageManifest::load(&manifest)?;
    build::check_output(&args.output)?;
    let parts = Parts::load(&args.parts)?;
    let (board, locked) = (parts.board.clone(), args.sources.locked);
    let builder = ImageBuilder::of_parts(&workspace, parts, locked, args.production)?;
    let built = builder.build_for(Some(&board), &manifest, &args.apps, Some(&args.output))?;
    report(invocation, &built, args.json)
}

pub(crate) fn programs_command(invocation: &Invocation, args: &ProgramsArgs) -> Result<()> {
    let workspace = invocation.workspace(READS)?;
    let manifest = ImageManifest::load(&manifest_path(&workspace, args.manifest.as_ref()))?;
    print!("{}", programs::table(&workspace, &manifest, &args.apps)?);
    Ok(())
}
