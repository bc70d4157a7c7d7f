//! `app plan` and `app score`: what a manifest makes of an app, before anything is built.

use crate::invocation::Invocation;
use anyhow::{Context, Result, bail};
use clap::Args;
use holdfast_images::app;
use holdfast_sandbox::app_manifest::{self, AppManifest};
use holdfast_sandbox::peripheral;
use holdfast_sandbox::policy::exposure::{self, Finding};
use holdfast_sandbox::policy::{self, Plan};
use std::path::{Path, PathBuf};

/// Arguments of `app plan`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast app plan examples/hello")]
pub struct PlanArgs {
    /// App directory or manifest.
    #[arg(value_name = "DIR|MANIFEST")]
    app: PathBuf,
    /// Board whose peripherals it is granted.
    #[arg(long, value_name = "NAME")]
    board: Option<String>,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `app score`.
#[derive(Debug, Args)]
#[command(
    after_help = "Rates the plan with the identifiers and weights of systemd-analyze(1) security: \
                  0.0 is closed, 10.0 is open.\n\n\
                  Example: holdfast app score examples/hello --at-most 1.0"
)]
pub struct ScoreArgs {
    /// App directory or manifest.
    #[arg(value_name = "DIR|MANIFEST")]
    app: PathBuf,
    /// Board whose peripherals it is granted.
    #[arg(long, value_name = "NAME")]
    board: Option<String>,
    /// Fail when the app is more exposed than this.
    #[arg(long, value_name = "SCORE")]
    at_most: Option<f64>,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

fn load(invocation: &Invocation, path: &Path, board: Option<&str>) -> Result<(AppManifest, Plan)> {
    let file = if path.is_dir() { path.join(app_manifest::FILE_NAME) } else { path.to_owned() };
    let manifest = app::load_manifest_file(&file)?;
    let granted = match board {
        Some(board) => {
            let board = invocation.boards()?.of_option(board)?;
            peripheral::grant(&manifest, &board.offered())
                .with_context(|| file.display().to_string())?
        }
        None if manifest.peripherals.is_empty() => Vec::new(),
        None => bail!("{}: asks for peripherals; say of which --board", file.display()),
    };
    let plan = policy::app_plan(&manifest, &granted);
    Ok((manifest, plan))
}

pub(crate) fn plan(invocation: &Invocation, args: &PlanArgs) -> Result<()> {
    let (manifest, plan) = load(invocation, &args.app, args.board.as_deref())?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&plan).context("cannot write JSON")?);
        return Ok(());
    }
    println!("{plan}");
    for path in &manifest.unsupported {
        println!("not granted   {path}: not supported by this OS version");
    }
    Ok(())
}

pub(crate) fn score(invocation: &Invocation, args: &ScoreArgs) -> Result<()> {
    let (_, plan) = load(invocation, &args.app, args.board.as_deref())?;
    let findings = exposure::findings(&plan);
    let score = exposure::score(&findings);
    if args.json {
        let rows: Vec<_> = findings
            .iter()
            .map(|Finding { id, weight, badness, range, about }| {
                serde_json::json!({
                    "id": id, "weight": weight, "badness": badness, "range": range, "about": about,
                })
            })
            .collect();
        println!("{:#}", serde_json::json!({ "score": score, "findings": rows }));
    } else {
        for Finding { id, weight, badness, range, about } in &findings {
            let mark = if *badness == 0 { "ok" } else { "--" };
            println!("{mark} {id:<40} {weight:>5} {badness}/{range}  {about}");
        }
        println!("exposure: {score:.1} {}", exposure::rating(score));
    }
    if let Some(most) = args.at_most
        && score > most
    {
        bail!("the exposure is {score:.1}, more than {most:.1}");
    }
    Ok(())
}
