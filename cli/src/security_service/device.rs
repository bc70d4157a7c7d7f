//! `device`: the devices of a catalog, claimed, listed, shown and stopped.

use super::console;
use super::in_catalog::{self, CatalogArgs, InCatalog};
use super::shown::{self, cell, items};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use holdfast_builder::failure::HostLacks;
use holdfast_builder::workspace;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Most claims that the service takes at once.
const MOST_CLAIMS: usize = 1000;
const COLUMNS: [(&str, &str); 6] = [
    ("DEVICE", "id"),
    ("STATE", "state"),
    ("GRADE", "grade"),
    ("VERDICT", "verdict"),
    ("VERSION", "version"),
    ("SEEN", "seen_at"),
];
const MEMBERS: [(&str, &str); 17] = [
    ("device", "id"),
    ("state", "state"),
    ("verdict", "verdict"),
    ("grade", "grade"),
    ("claimed grade", "claimed_grade"),
    ("keys", "kind"),
    ("quarantined", "quarantined"),
    ("product", "place.product"),
    ("group", "place.group"),
    ("board", "board"),
    ("serial", "serial"),
    ("version", "version"),
    ("rollback index", "index"),
    ("phase", "phase"),
    ("certificates until", "certificate_end"),
    ("seen at", "seen_at"),
    ("next check-in", "next_at"),
];

/// Arguments of `device claim`.
#[derive(Debug, Args)]
#[command(
    after_help = "Whoever claims a device vouches for its key: the grade says how far. A list is JSON as the service takes it \
                  ({\"devices\": [{\"device\": …, \"grade\": …, \"board\": …, \"serial\": …, \"place\": {\"product\": …, \"group\": …}}]}), \
                  or one id a line, with the options for all of them. A device that has been claimed already stays so.\n\n\
                  Example: holdfast device claim --grade hardware --product pump --group production --list shipment.txt"
)]
pub struct ClaimArgs {
    /// Id of a device; may be given several times.
    #[arg(required_unless_present_any = ["list", "log"])]
    devices: Vec<String>,
    /// File with a list of devices; standard input with `-`.
    #[arg(long, value_name = "FILE", conflicts_with = "devices")]
    list: Option<PathBuf>,
    /// Log of a device's console, in which its `identity` has named it; standard input with `-`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["devices", "list"])]
    log: Option<PathBuf>,
    /// Grade that the claim vouches for: `hardware-verified`, `hardware`, `software`, or `emulated` for a TPM in software.
    #[arg(long)]
    grade: Option<String>,
    /// Product that the devices go into.
    #[arg(long, requires = "group")]
    product: Option<String>,
    /// Group of the product.
    #[arg(long, requires = "product")]
    group: Option<String>,
    /// Name of the board.
    #[arg(long)]
    board: Option<String>,
    /// Serial number of the one device that is claimed.
    #[arg(long)]
    serial: Option<String>,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `device list`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast device list --state waiting")]
pub struct ListArgs {
    /// State of the devices: `waiting` (for somebody to claim them), `claimed`, `enrolled` or `retired`; all when not given.
    #[arg(long)]
    state: Option<String>,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `device show`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast device show DEVICE --json")]
pub struct ShowArgs {
    #[command(flatten)]
    device: DeviceArgs,
}

/// Arguments of `device move`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast device move DEVICE --product pump --group production")]
pub struct MoveArgs {
    /// Product that the device goes into.
    #[arg(long)]
    product: String,
    /// Group of the product.
    #[arg(long)]
    group: String,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Arguments of `device quarantine`.
#[derive(Debug, Args)]
#[command(
    after_help = "Brokers and peers refuse the device once its certificates have ended, after 48 hours at most. Updates go on.\n\n\
                  Example: holdfast device quarantine DEVICE"
)]
pub struct QuarantineArgs {
    #[command(flatten)]
    device: DeviceArgs,
}

/// Arguments of `device end-quarantine`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast device end-quarantine DEVICE")]
pub struct EndQuarantineArgs {
    #[command(flatten)]
    device: DeviceArgs,
}

/// Arguments of `device retire`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast device retire DEVICE")]
pub struct RetireArgs {
    #[command(flatten)]
    device: DeviceArgs,
}

/// A device of a catalog.
#[derive(Debug, Args)]
pub(crate) struct DeviceArgs {
    /// Id of the device: 64 hex digits.
    device: String,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Reads a file, or standard input for `-`.
fn read(path: &Path) -> Result<(String, String)> {
    workspace::read_text_or_standard_input((path.as_os_str() != "-").then_some(path))
}

/// Returns the claims of the arguments.
fn claims(args: &ClaimArgs) -> Result<Vec<Value>> {
    let ids = if let Some(path) = &args.list {
        let (name, text) = read(path)?;
        if text.trim_start().starts_with(['{', '[']) {
            refuse_options(args)?;
            return json_list(&text).with_context(|| name);
        }
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let ids: Vec<String> = lines.filter(|id| !id.is_empty()).map(str::to_owned).collect();
        ensure!(!ids.is_empty(), "{name}: names no device");
        ids
    } else if let Some(path) = &args.log {
        let (name, text) = read(path)?;
        let named = console::devices(&text)?;
        ensure!(
            !named.is_empty(),
            "{name}: has no line `identity: device …`; is `[service]` in the device's image?"
        );
        named.into_iter().map(|device| device.id).collect()
    } else {
        args.devices.clone()
    };
    let Some(grade) = &args.grade else {
        let reason =
            "--grade: is missing; a claim vouches for the key of the device, and says how far";
        return Err(HostLacks(reason.to_owned()).into());
    };
    ensure!(
        args.serial.is_none() || ids.len() == 1,
        "--serial: there are {} devices; it is of one",
        ids.len()
    );
    let place = args.product.as_ref().zip(args.group.as_ref());
    let place = place.map(|(product, group)| json!({ "product": product, "group": group }));
    let claim = |id: &String| json!({ "device": id, "grade": grade, "board": args.board, "serial": args.serial, "place": place });
    Ok(ids.iter().map(claim).collect())
}

/// Refuses options that a list in JSON says for each device.
fn refuse_options(args: &ClaimArgs) -> Result<()> {
    for (name, value) in [
        ("grade", &args.grade),
        ("product", &args.product),
        ("board", &args.board),
        ("serial", &args.serial),
    ] {
        if value.is_some() {
            let reason =
                format!("--{name}: the list is JSON and says it of each device; leave it out");
            return Err(HostLacks(reason).into());
        }
    }
    Ok(())
}

/// Reads claims in JSON: a list of them, or the service's own request.
fn json_list(text: &str) -> Result<Vec<Value>> {
    let mut list: Value = serde_json::from_str(text).context("is no JSON")?;
    if let Some(devices) = list.get_mut("devices") {
        list = devices.take();
    }
    match list {
        Value::Array(claims) if !claims.is_empty() => Ok(claims),
        Value::Array(_) => bail!("names no device"),
        _ => bail!("must have a list of claims as `devices`"),
    }
}

/// Claims devices, a thousand at once, and returns the results as one list.
///
/// # Errors
/// The service refuses one of them; those of earlier requests are claimed.
pub(crate) fn claim_all(catalog: &InCatalog, claims: &[Value]) -> Result<Value> {
    let mut results: Vec<Value> = Vec::new();
    for part in claims.chunks(MOST_CLAIMS) {
        let claimed = catalog.post(&["claims"], &json!({ "devices": part }));
        let claimed = claimed.with_context(|| {
            format!("{} of {} devices are claimed", results.len(), claims.len())
        })?;
        results.extend_from_slice(items(&claimed));
    }
    Ok(json!({ "items": results }))
}

/// Claims devices.
pub(crate) fn claim(args: &ClaimArgs) -> Result<()> {
    let claims = claims(args)?;
    let claimed = claim_all(&in_catalog::open(&args.catalog)?, &claims)?;
    shown::list(&claimed, args.catalog.json, &[("DEVICE", "device"), ("STATE", "state")])
}

/// Lists devices.
pub(crate) fn list(args: &ListArgs) -> Result<()> {
    let state = args.state.as_deref().map(|state| ("state", state));
    let query: Vec<_> = state.into_iter().collect();
    let list = in_catalog::open(&args.catalog)?.list(&["devices"], &query)?;
    shown::list(&list, args.catalog.json, &COLUMNS)
}

/// Shows a device.
pub(crate) fn show(args: &ShowArgs) -> Result<()> {
    let DeviceArgs { device, catalog } = &args.device;
    let found = in_catalog::open(catalog)?.get(&["devices", device])?;
    shown::object(&found, catalog.json, &MEMBERS)
}

/// Moves a device to another group.
pub(crate) fn move_to(args: &MoveArgs) -> Result<()> {
    let place = json!({ "product": args.product, "group": args.group });
    let done = format!("is in {}/{}", args.product, args.group);
    change(&args.device, "move", &place, &done)
}

/// Quarantines a device.
pub(crate) fn quarantine(args: &QuarantineArgs) -> Result<()> {
    let done = "gets certificates for updates alone, from its next check-in on";
    change(&args.device, "quarantine", &Value::Null, done)
}

/// Ends the quarantine of a device.
pub(crate) fn end_quarantine(args: &EndQuarantineArgs) -> Result<()> {
    let done = "gets what it deserves by itself, from its next check-in on";
    change(&args.device, "end-quarantine", &Value::Null, done)
}

/// Retires a device.
pub(crate) fn retire(args: &RetireArgs) -> Result<()> {
    let done = "is refused from now on, until it is claimed again";
    change(&args.device, "retire", &Value::Null, done)
}

fn change(args: &DeviceArgs, verb: &str, body: &Value, done: &str) -> Result<()> {
    let DeviceArgs { device, catalog } = args;
    let answer = in_catalog::open(catalog)?.post(&["devices", device, verb], body)?;
    shown::done(&answer, catalog.json, &format!("{device} {done}"))
}

/// A sentence about how a device stands, for people.
pub(crate) fn sentence(device: &Value) -> String {
    let member = |name| cell(device, name);
    format!(
        "device {}: {}, grade {}, release {} index {}, certificates until {} UTC",
        member("id"),
        member("verdict"),
        member("grade"),
        member("version"),
        member("index"),
        member("certificate_end"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_in_json_is_the_services_request_or_its_list() {
        let claim = r#"{"device":"ab","grade":"hardware"}"#;
        for text in [format!("[{claim}]"), format!("{{\"devices\":[{claim}]}}")] {
            assert_eq!(json_list(&text).unwrap(), [json!({"device": "ab", "grade": "hardware"})]);
        }
        for (bad, says) in [
            ("{", "is no JSON"),
            ("{}", "must have a list"),
            ("[]", "names no device"),
            ("{\"devices\":7}", "must have a list"),
        ] {
            assert!(json_list(bad).unwrap_err().to_string().contains(says), "{bad}");
        }
    }
}
