//! `deployment`: a release on its way through a group, in stages, and why each device does not have it yet.

use super::in_catalog::{self, CatalogArgs, InCatalog};
use super::shown::{self, cell, items};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use holdfast_builder::workspace;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Commands about deployments.
#[derive(Debug, Subcommand)]
pub enum DeploymentCommand {
    /// Draft a deployment: from then on, devices of the group take of its component what deployments give them.
    Create(CreateArgs),
    /// Approve a draft; for a group marked `production`, somebody else's.
    Approve(NamedArgs),
    /// List deployments.
    List(ListArgs),
    /// Show a deployment, and with `--devices` where each device is and why it does not have the release yet.
    Show(ShowArgs),
    /// Give the release to nobody new; who was given it may go on.
    Pause(NamedArgs),
    /// Have a paused or halted one go on. What has failed until then does not count any more where it had halted.
    Resume(NamedArgs),
    /// Stop it: who was given the release and has not taken it yet does not any more.
    Halt(NamedArgs),
    /// Give it up for good.
    Withdraw(NamedArgs),
}

/// Arguments of `deployment create`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: holdfast deployment create --product pump --group production --version 1.4.0 --preset normal"
)]
pub struct CreateArgs {
    /// Name of the product.
    #[arg(long)]
    product: String,
    /// Name of the group.
    #[arg(long)]
    group: String,
    /// The version that is deployed.
    #[arg(long)]
    version: String,
    /// Component id of the app that it is a version of; without it, it is one of the OS.
    #[arg(long, value_name = "ID")]
    component: Option<String>,
    /// Stages by name: `slow`, `normal`, `fast` or `emergency`.
    #[arg(long, value_name = "NAME", default_value = "normal", conflicts_with = "stages")]
    preset: String,
    /// How long each stage of the preset soaks, in place of its own time: hours, or minutes as `30m`.
    #[arg(long, value_name = "TIME", conflicts_with = "stages")]
    soak: Option<String>,
    /// Stages of one's own: thousandths of the group, and hours of soak, or minutes as `30m`, such as `50:12,500:30m,1000:0`; before these,
    /// `@FILE:HOURS` for the devices of a file, one id a line.
    #[arg(long, value_name = "STAGES", value_delimiter = ',')]
    stages: Option<Vec<String>>,
    /// When devices may restart for it, such as `sa,su 02:00-04:00+60`: days, minutes, and minutes ahead of UTC.
    #[arg(long, value_name = "WINDOW")]
    window: Option<String>,
    /// Hours after which a device that may take it waits for the window no longer.
    #[arg(long, value_name = "N", requires = "window")]
    deadline_hours: Option<u64>,
    /// Minutes between two checks for it, where that is more often than the image says.
    #[arg(long, value_name = "N")]
    check_every_minutes: Option<u32>,
    /// When it begins at the earliest, in seconds since 1970.
    #[arg(long, value_name = "SECONDS")]
    begins_at: Option<u64>,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of commands about one deployment.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast deployment pause d0123456789ab")]
pub struct NamedArgs {
    /// Name of the deployment, as `deployment list` says it.
    deployment: String,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `deployment list`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast deployment list")]
pub struct ListArgs {
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `deployment show`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast deployment show d0123456789ab --devices")]
pub struct ShowArgs {
    /// Name of the deployment, as `deployment list` says it.
    deployment: String,
    /// Show each device of the group.
    #[arg(long)]
    devices: bool,
    #[command(flatten)]
    catalog: CatalogArgs,
}

const COLUMNS: [(&str, &str); 10] = [
    ("DEPLOYMENT", "id"),
    ("STATE", "state"),
    ("PRODUCT", "product"),
    ("GROUP", "group"),
    ("COMPONENT", "component"),
    ("VERSION", "version"),
    ("STAGE", "stage"),
    ("GIVEN", "given"),
    ("SUCCEEDED", "committed"),
    ("FAILED", "failed"),
];

const MEMBERS: [(&str, &str); 23] = [
    ("deployment", "id"),
    ("state", "state"),
    ("cause", "cause"),
    ("", "says"),
    ("product", "product"),
    ("group", "group"),
    ("component", "component"),
    ("version", "version"),
    ("stage", "stage"),
    ("devices", "devices"),
    ("may have it", "allowance"),
    ("given", "given"),
    ("succeeded", "committed"),
    ("fallen back", "failed"),
    ("halts at", "failures_to_halt"),
    ("silent", "silent"),
    ("halts at", "silent_to_halt"),
    ("window", "window"),
    ("drafted by", "drafted_by"),
    ("approved by", "approved_by"),
    ("drafted", "created_at"),
    ("since", "since"),
    ("soaks until", "soaks_until"),
];

const DEVICE_COLUMNS: [(&str, &str); 6] = [
    ("DEVICE", "device"),
    ("VERSION", "version"),
    ("SLOT", "slot"),
    ("LIST OF STAGE", "listed_in"),
    ("WHY NOT YET", "why_not"),
    ("SEEN", "seen_at"),
];

pub(crate) fn run(command: &DeploymentCommand) -> Result<()> {
    match command {
        DeploymentCommand::Create(args) => create(args),
        DeploymentCommand::Approve(args) => act(args, "approve", "is approved"),
        DeploymentCommand::List(ListArgs { catalog }) => {
            let list = in_catalog::open(catalog)?.list(&["deployments"], &[])?;
            shown::list(&list, catalog.json, &COLUMNS)
        }
        DeploymentCommand::Show(args) => show(args),
        DeploymentCommand::Pause(args) => act(args, "pause", "is paused"),
        DeploymentCommand::Resume(args) => act(args, "resume", "goes on"),
        DeploymentCommand::Halt(args) => act(args, "halt", "has halted"),
        DeploymentCommand::Withdraw(args) => act(args, "withdraw", "is withdrawn"),
    }
}

fn create(args: &CreateArgs) -> Result<()> {
    let mut body = json!({
        "product": args.product,
        "group": args.group,
        "version": args.version,
        "component": args.component,
        "window": args.window,
        "deadline_s": args.deadline_hours.map(|hours| hours.saturating_mul(3600)),
        "check_every_s": args.check_every_minutes.map(|minutes| minutes.saturating_mul(60)),
        "begins_at": args.begins_at,
    });
    let stages = args
        .stages
        .as_ref()
        .map(|stages| stages.iter().map(|stage| stage_of(stage)).collect::<Result<Vec<Value>>>());
    if let Some(members) = body.as_object_mut() {
        match stages.transpose()? {
            Some(stages) => members.insert("stages".to_owned(), json!(stages)),
            None => members.insert("preset".to_owned(), json!(args.preset)),
        };
        if let Some(soak) = &args.soak {
            let soak_s = seconds_of(soak).with_context(|| {
                format!("--soak: {soak} is no time; write hours, or minutes such as 30m")
            })?;
            members.insert("soak_s".to_owned(), json!(soak_s));
        }
    }
    let answer = in_catalog::open(&args.catalog)?.post(&["deployments"], &body)?;
    let id = cell(&answer, "id");
    let sentence = format!(
        "deployment {id}: {} of {}/{} is drafted; `deployment approve {id}` has it begin",
        args.version, args.product, args.group
    );
    shown::done(&answer, args.catalog.json, &sentence)
}

/// Returns the seconds of a soak: of hours, such as `12`, or of minutes, such as `30m`.
fn seconds_of(text: &str) -> Option<u64> {
    let (number, unit_s) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text, 3600),
    };
    number.parse::<u64>().ok()?.checked_mul(unit_s)
}

/// Reads a stage, such as `50:12` or `50:30m`.
fn stage_of(text: &str) -> Result<Value> {
    let read = || {
        let (size, soak) = text.rsplit_once(':')?;
        Some((size, seconds_of(soak)?))
    };
    let wrong = || {
        format!(
            "--stages: {text} is no stage; write thousandths and hours, or minutes with an m, such as 50:12,500:30m,1000:0, or @FILE:HOURS before them"
        )
    };
    let (size, soak_s) = read().with_context(wrong)?;
    if let Some(path) = size.strip_prefix('@') {
        return Ok(json!({ "devices": ids_of(Path::new(path))?, "soak_s": soak_s }));
    }
    let permille: u16 = size.parse().ok().with_context(wrong)?;
    Ok(json!({ "permille": permille, "soak_s": soak_s }))
}

/// Reads the ids of a file, one a line; blank lines and those that begin with `#` are none.
fn ids_of(path: &Path) -> Result<Vec<String>> {
    let bytes = workspace::read(path)?;
    let text = String::from_utf8(bytes).ok();
    let text = text.with_context(|| format!("--stages: {} is no text", path.display()))?;
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

fn act(args: &NamedArgs, action: &str, becomes: &str) -> Result<()> {
    let catalog = in_catalog::open(&args.catalog)?;
    let answer = catalog.post(&["deployments", &args.deployment, action], &Value::Null)?;
    let sentence = format!("deployment {} {becomes}", args.deployment);
    shown::done(&answer, args.catalog.json, &sentence)
}

fn show(args: &ShowArgs) -> Result<()> {
    let catalog = in_catalog::open(&args.catalog)?;
    let path = ["deployments", args.deployment.as_str()];
    let deployment = catalog.get(&path)?;
    if !args.devices {
        return shown::object(&deployment, args.catalog.json, &MEMBERS);
    }
    let devices = devices(&catalog, &args.deployment)?;
    if args.catalog.json {
        return shown::json(&json!({ "deployment": deployment, "devices": devices }));
    }
    shown::object(&deployment, false, &MEMBERS)?;
    for line in waiting(&devices) {
        println!("{line}");
    }
    println!("");
    shown::list(&devices, false, &DEVICE_COLUMNS)
}

fn devices(catalog: &InCatalog, deployment: &str) -> Result<Value> {
    let list = catalog.list(&["deployments", deployment, "devices"], &[])?;
    if list.get("items").is_none() {
        bail!("the service has answered without a list of devices");
    }
    Ok(list)
}

/// Counts of devices that wait, by reason, with what it means.
fn waiting(devices: &Value) -> Vec<String> {
    let mut reasons: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for device in items(devices) {
        let why = cell(device, "why_not");
        if why != "-" {
            let (count, says) = reasons.entry(why).or_default();
            *count = count.saturating_add(1);
            *says = cell(device, "says");
        }
    }
    let line =
        |(why, (count, says)): (String, (u64, String))| format!("{count} wait: {why}. {says}");
    reasons.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_thousandths_and_hours_or_minutes() {
        assert_eq!(stage_of("50:12").unwrap(), json!({"permille": 50, "soak_s": 43_200}));
        assert_eq!(stage_of("50:30m").unwrap(), json!({"permille": 50, "soak_s": 1800}));
        let too_long = format!("50:{}", u64::MAX);
        for wrong in [
            "", "50", "50:", ":12", "x:1", "5%:1", "70000:1", "50:m", "50:1d", "50:-1m", &too_long,
            "@file", "@file:x",
        ] {
            let says = stage_of(wrong).unwrap_err().to_string();
            assert!(says.starts_with("--stages: "), "{says}");
        }
    }

    #[test]
    fn devices_that_wait_are_counted_by_reason() {
        let device = |why: Value| json!({"device": "de", "why_not": why, "says": "It waits."});
        let list = json!({"items": [device(json!("window")), device(Value::Null), device(json!("window")),
            device(json!("offline"))]});
        assert_eq!(waiting(&list), ["1 wait: offline. It waits.", "2 wait: window. It waits."]);
    }
}
