//! Making and looking at images.

mod sign;
mod sources;
mod verify;

pub(crate) use sign::{SignArgs, sign_command};
pub(crate) use sources::{SourcesArgs, sources_command};
pub(crate) use verify::{VerifyArgs, verify_command, verify_image};

use crate::invocation::Invocation;
use crate::{ImageArgs, SourceArgs};
use anyhow::{Context, Result, bail};
use clap::Args;
use holdfast_builder::image::{DEFAULT_MANIFEST, ImageBuilder};
use holdfast_builder::process;
use holdfast_builder::workspace::Workspace;
use holdfast_images::append;
use holdfast_images::build;
use holdfast_images::manifest::ImageManifest;
use holdfast_images::root::EntryKind;
use holdfast_images::show::{self, BootStatus, Image, ShowError};
use std::path::{Path, PathBuf};

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
    /// Where to write the image.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print what was built as JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `image show`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast image show target/holdfast/hello.img")]
pub struct ShowArgs {
    /// An image.
    image: PathBuf,
    /// Print everything as JSON.
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

/// Why an image is built in a checkout.
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
    builder.debug(debug.as_deref());
    let built = builder.build_for(board.as_deref(), &manifest, apps, args.output.as_deref())?;
    let image = show::show(&built.path)?;
    if args.json {
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

/// Reads what the image at `path` holds; a refusal names the path.
pub(crate) fn show_image(path: &Path) -> Result<Image> {
    show::show(path).map_err(named(path))
}

/// For use with `map_err`: has an error name the image at `path`.
fn named(path: &Path) -> impl Fn(ShowError) -> anyhow::Error + '_ {
    move |error| match error.names_the_file() {
        true => error.into(),
        false => anyhow::Error::from(error).context(path.display().to_string()),
    }
}

pub(crate) fn show_command(args: &ShowArgs) -> Result<()> {
    let image = show_image(&args.image)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&image).context("cannot write JSON")?);
    } else {
        print_image(&image);
    }
    Ok(())
}

fn print_image(image: &Image) {
    let kind = if image.development { "development" } else { "production" };
    println!("image: {} {} for {} ({kind})", image.name, image.version, image.board);
    if let Some(app) = &image.debugged {
        println!("debug port: {app} waits for a debugger");
    }
    println!("boot: {}", image.boot);
    let grade = if image.brings_boot_loader { "comes with the slot" } else { "fixed" };
    println!("boot loader: {grade}");
    println!("root hash: {}", image.root_hash);
    println!(
        "slot {}: {} bytes (kernel {}, root with verity tree {})",
        image.slot.letter(),
        image.slot_bytes,
        image.kernel_bytes,
        image.root_bytes
    );
    println!("command line: {}", image.command_line);
    if let Some(provenance) = image.provenance.as_ref().and_then(|p| p.as_object()) {
        for (name, value) in provenance {
            match (value["version"].as_str(), value["sha256"].as_str()) {
                (Some(version), Some(digest)) => {
                    println!("from {name}: {version}, SHA-256 {digest}")
                }
                _ => println!("from {name}: {}", value.to_string().trim_matches('"')),
            }
        }
    }
    println!("components: {}", image.components.join(", "));
    println!("\npartition       start       length");
    for partition in &image.partitions {
        println!("{:<10} {:>10} {:>12}", partition.name, partition.start, partition.length);
    }
    println!("\nmode  uid     size  sha256            path");
    for file in &image.files {
        let digest = file.sha256.as_deref().and_then(|d| d.get(..16)).unwrap_or("-");
        let mark = match (&file.kind, file.elf) {
            (EntryKind::Directory, _) => "/",
            (EntryKind::Other, _) => " (neither file nor directory)",
            (EntryKind::File, true) => " (ELF)",
            (EntryKind::Link(_), _) => "link",
            (EntryKind::File, false) => "",
        };
        println!(
            "{:04o} {:>4} {:>8}  {digest:<16}  {}{mark}",
            file.mode, file.uid, file.size, file.path
        );
    }
}
