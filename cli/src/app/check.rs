//! `app check`: is this manifest right, and can a board grant what it asks for?

use crate::workspace::Workspace;
use anyhow::{Result, bail};
use clap::Args;
use holdfast_images::app;
use holdfast_images::board::Board;
use holdfast_sandbox::app_manifest::{self, AppManifest};
use holdfast_sandbox::peripheral;
use std::path::PathBuf;

/// Arguments of `app check`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --board, only the schema is checked. Prints one line for each fault and \
                  ends with exit code 1 when there is any.\n\n\
                  Example: cargo holdfast app check examples/hello --board qemu-virt"
)]
pub(crate) struct CheckArgs {
    /// App directories or manifests; several are checked against each other too.
    #[arg(required = true, value_name = "DIR|MANIFEST")]
    apps: Vec<PathBuf>,
    /// Also refuse what this board, or this OS version, cannot grant.
    #[arg(long, value_name = "NAME")]
    board: Option<String>,
    /// Print the faults as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(workspace: &Workspace, args: &CheckArgs) -> Result<()> {
    let board = args
        .board
        .as_ref()
        .map(|board| Board::of_option(&workspace.root.join("images/boards"), board));
    let offered = board.transpose()?.map(|board| board.offered());
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
                sound.push((path, manifest));
            }
            Err(error) => {
                let chain = crate::failure::chain(&error.into());
                faults.extend(chain.lines().map(str::to_owned));
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
