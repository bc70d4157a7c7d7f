//! `image show`: what is in an image.

use anyhow::{Context, Result};
use clap::Args;
use holdfast_images::root::EntryKind;
use holdfast_images::show::{self, Image, ShowError};
use std::path::{Path, PathBuf};

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

/// Reads what the image at `path` holds; a refusal names the path.
pub(crate) fn show_image(path: &Path) -> Result<Image> {
    show::show(path).map_err(named(path))
}

/// For use with `map_err`: has an error name the image at `path`.
pub(super) fn named(path: &Path) -> impl Fn(ShowError) -> anyhow::Error + '_ {
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
    println!("boot digest: {}", image.boot_digest);
    println!("TPM: {}", if image.tpm { "measures what is booted" } else { "none" });
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
