//! `app check`: is this manifest right, and can a board grant what it asks for?

use crate::invocation::Invocation;
use anyhow::{Result, bail};
use clap::Args;
use holdfast_images::manifest::ImageManifest;
use holdfast_images::{app, check_catalog};
use holdfast_sandbox::app_manifest::{self, AppManifest};
use holdfast_sandbox::peripheral;
use std::path::PathBuf;

/// Arguments of `app check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --board and --image, only the schema is checked. Prints one line for each fault and \
                  ends with exit code 1 when there is any.\n\n\
                  Example: holdfast app check examples/hello --board qemu-virt\n         \
                  holdfast app check pump --image images/pump.toml"
)]
pub struct CheckArgs {
    /// App directories or manifests; several are checked against each other too.
    #[arg(required = true, value_name = "DIR|MANIFEST")]
    apps: Vec<PathBuf>,
    /// Also refuse what this board, or this OS version, cannot grant.
    #[arg(long, value_name = "NAME")]
    board: Option<String>,
    /// Also refuse another catalog in `DeviceAuthentication` than that of this image manifest.
    #[arg(long, value_name = "IMAGE_MANIFEST")]
    image: Option<PathBuf>,
    /// Print the faults as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(invocation: &Invocation, args: &CheckArgs) -> Result<()> {
    let offered = match &args.board {
        Some(board) => Some(invocation.boards()?.of_option(board)?.offered()),
        None => None,
    };
    let image = args.image.as_deref().map(ImageManifest::load).transpose()?;
    let mut faults = Vec::new();
    let mut sound: Vec<(PathBuf, AppManifest)> = Vec::new();
    for app in &args.apps {
        let path = if app.is_dir() { app.join(app_manifest::FILE_NAME) } else { app.clone() };
        match app::load_manifest_file(&path) {
            Ok(manifest) => {
                if let Some(offered) = &offered {
                    if let Err(error) = app::check_supported(&manifest, &path) {
                        faults.extend(error.to_string().lines().map(str::to_owned));
                    }
                    if let Err(error) = peripheral::grant(&manifest, offered) {
                        faults.push(format!("{}: {error}", path.display()));
                    }
                }
                let catalog =
                    image.as_ref().map(|image| check_catalog(manifest.catalog, image.catalog()));
                if let Some(Err(fault)) = catalog {
                    faults.push(format!("{}: {fault}", path.display()));
                }
                sound.push((path, manifest));
            }
            Err(error) => {
                let fault = format!("{:#}", anyhow::Error::from(error));
                faults.extend(fault.lines().map(str::to_owned));
            }
        }
    }
    let manifests: Vec<&AppManifest> = sound.iter().map(|(_, manifest)| manifest).collect();
    for (index, fault) in holdfast_manifest::contested(&manifests) {
        let path = sound.get(index).map(|(path, _)| path.display().to_string());
        faults.push(format!("{}: {fault}", path.unwrap_or_default()));
    }
    if args.json {
        println!("{}", serde_json::json!({ "faults": faults }));
    } else {
        for fault in &faults {
            println!("{fault}");
        }
    }
    if !faults.is_empty() {
        bail!("{} {}", faults.len(), if faults.len() == 1 { "fault" } else { "faults" });
    }
    if !args.json {
        println!("no faults");
    }
    Ok(())
}
