//! `threat`: what rules have found in groups of devices, what contains it, and from which values on it is found.

use super::in_catalog::{self, CatalogArgs, InCatalog};
use super::shown;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

/// The word for the default of a threshold.
const DEFAULT: &str = "default";

/// Commands about threats.
#[derive(Debug, Subcommand)]
pub enum ThreatCommand {
    /// List what rules have found, by its number.
    List(ListArgs),
    /// Show a threat: what shows it, what to do about it, and what contains it.
    Show(NumberArgs),
    /// Close a threat, with a reason: it is opened again where it goes on.
    Close(CloseArgs),
    /// Contain a threat: versions or devices that are to blame get certificates for updates alone.
    Contain(ContainArgs),
    /// Undo what contains a threat.
    Release(ReleaseArgs),
    /// List the values from which on something is a threat, or set some.
    Thresholds(ThresholdsArgs),
}

/// Arguments of `threat list`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast threat list --product pump --closed")]
pub struct ListArgs {
    /// List those that were closed as well.
    #[arg(long)]
    closed: bool,
    /// List those of one product alone.
    #[arg(long)]
    product: Option<String>,
    /// List those of one group alone.
    #[arg(long)]
    group: Option<String>,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// A threat.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast threat show 118")]
pub struct NumberArgs {
    /// Number of the threat, as `threat list` says it.
    number: u64,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `threat close`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast threat close 118 --reason \"fixed by camera 2.2\"")]
pub struct CloseArgs {
    /// Number of the threat.
    number: u64,
    /// Why it is closed, 1 to 1000 bytes.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `threat contain`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast threat contain 118")]
pub struct ContainArgs {
    /// Number of the threat.
    number: u64,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `threat release`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast threat release 118")]
pub struct ReleaseArgs {
    /// Number of the threat.
    number: u64,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `threat thresholds`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: holdfast threat thresholds --product pump --group production --set outbreak_devices=5"
)]
pub struct ThresholdsArgs {
    /// Name of the product. Without product and group: of devices in no group, and of what is counted over the whole catalog.
    #[arg(long, requires = "group")]
    product: Option<String>,
    /// Name of the group.
    #[arg(long, requires = "product")]
    group: Option<String>,
    /// Set a threshold, or with `default` bring its default back.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    catalog: CatalogArgs,
}

const MEMBERS: [(&str, &str); 22] = [
    ("number", "number"),
    ("state", "state"),
    ("rule", "rule"),
    ("severity", "severity"),
    ("about", "about"),
    ("product", "product"),
    ("group", "group"),
    ("devices", "devices"),
    ("first seen", "first_at"),
    ("last seen", "last_at"),
    ("found", "opened_at"),
    ("opened again", "reopened"),
    ("sees", "sees"),
    ("what to do", "remedy"),
    ("destinations", "destinations"),
    ("networks", "networks"),
    ("contained", "contained_at"),
    ("contained by", "contained_by"),
    ("closed", "closed_at"),
    ("closed by", "closed_by"),
    ("reason", "reason"),
    ("named devices", "named_devices"),
];

pub(crate) fn run(command: &ThreatCommand) -> Result<()> {
    match command {
        ThreatCommand::List(args) => list(args),
        ThreatCommand::Show(args) => show(args),
        ThreatCommand::Close(args) => {
            let body = json!({ "reason": args.reason });
            let answer = change(&args.catalog, args.number, "close", &body)?;
            let sentence = format!("threat {} is closed", args.number);
            shown::done(&answer, args.catalog.json, &sentence)
        }
        ThreatCommand::Contain(args) => {
            let answer = change(&args.catalog, args.number, "contain", &Value::Null)?;
            let done = lines(&answer, "done").join("; ");
            let left: String =
                lines(&answer, "left").iter().map(|left| format!("\n{left}")).collect();
            let sentence = format!("threat {} is contained: {done}{left}", args.number);
            shown::done(&answer, args.catalog.json, &sentence)
        }
        ThreatCommand::Release(args) => {
            let answer = change(&args.catalog, args.number, "release", &Value::Null)?;
            let sentence = format!("threat {} is not contained any more", args.number);
            shown::done(&answer, args.catalog.json, &sentence)
        }
        ThreatCommand::Thresholds(args) => thresholds(args),
    }
}

fn list(args: &ListArgs) -> Result<()> {
    let mut query: Vec<(&str, &str)> = Vec::new();
    if args.closed {
        query.push(("state", "closed"));
    }
    for (name, value) in [("product", &args.product), ("group", &args.group)] {
        query.extend(value.as_deref().map(|value| (name, value)));
    }
    let list = in_catalog::open(&args.catalog)?.list(&["threats"], &query)?;
    let columns = [
        ("THREAT", "number"),
        ("STATE", "state"),
        ("SEVERITY", "severity"),
        ("RULE", "rule"),
        ("PRODUCT", "product"),
        ("GROUP", "group"),
        ("DEVICES", "devices"),
        ("LAST", "last_at"),
        ("CONTAINED", "contained_at"),
        ("ABOUT", "about"),
    ];
    shown::list(&list, args.catalog.json, &columns)
}

fn show(args: &NumberArgs) -> Result<()> {
    let NumberArgs { number, catalog } = args;
    let threat = in_catalog::open(catalog)?.get(&["threats", &number.to_string()])?;
    shown::object(&threat, catalog.json, &MEMBERS)?;
    if catalog.json {
        return Ok(());
    }
    for (label, member) in [("done: ", "done"), ("`threat contain` does: ", "containment")] {
        for line in lines(&threat, member) {
            println!("{label}{line}");
        }
    }
    Ok(())
}

/// Returns the entries of a list of texts, as they may be printed.
fn lines(value: &Value, member: &str) -> Vec<String> {
    let entries = value.get(member).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    entries.iter().map(|entry| shown::cell(entry, "")).collect()
}

fn change(catalog: &CatalogArgs, number: u64, verb: &str, body: &Value) -> Result<Value> {
    let catalog = in_catalog::open(catalog)?;
    Ok(catalog.post(&["threats", &number.to_string(), verb], body)?)
}

fn thresholds(args: &ThresholdsArgs) -> Result<()> {
    let ThresholdsArgs { product, group, set, catalog } = args;
    let path = match (product, group) {
        (Some(product), Some(group)) => {
            vec!["products", product.as_str(), "groups", group.as_str(), "thresholds"]
        }
        _ => vec!["thresholds"],
    };
    if set.is_empty() {
        return list_thresholds(&in_catalog::open(catalog)?, &path, catalog.json);
    }
    let body = json!({ "thresholds": settings(set)? });
    let answer = in_catalog::open(catalog)?.change(&path, &body)?;
    shown::done(&answer, catalog.json, &format!("set: {}", set.join(", ")))
}

fn list_thresholds(catalog: &InCatalog, path: &[&str], as_json: bool) -> Result<()> {
    let list = catalog.get(path)?;
    let columns = [
        ("THRESHOLD", "name"),
        ("VALUE", "value"),
        ("SET", "is_set"),
        ("DEFAULT", "default"),
        ("LEAST", "least"),
        ("MOST", "most"),
        ("RULES", "rules"),
        ("MEANING", "means"),
    ];
    shown::list(&list, as_json, &columns)
}

/// Reads `NAME=VALUE`, each of another name.
fn settings(set: &[String]) -> Result<Map<String, Value>> {
    let mut settings = Map::new();
    for text in set {
        let Some((name, value)) = text.split_once('=') else {
            bail!("--set: `{text}` is not NAME=VALUE, such as outbreak_devices=5");
        };
        let value = match value {
            DEFAULT => Value::Null,
            value => match value.parse::<u32>() {
                Ok(number) => json!(number),
                Err(_) => bail!("--set: {name}: `{value}` is neither a number nor `{DEFAULT}`"),
            },
        };
        if settings.insert(name.to_owned(), value).is_some() {
            bail!("--set: {name}: is set twice");
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_a_name_with_a_number_or_its_default() {
        let set = |texts: &[&str]| {
            settings(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
        };
        let good = set(&["outbreak_devices=5", "flood_mib=default"]).unwrap();
        assert_eq!(Value::Object(good), json!({"outbreak_devices": 5, "flood_mib": null}));
        for (texts, why) in [
            (&["outbreak_devices"][..], "is not NAME=VALUE"),
            (&["flood_mib=much"], "flood_mib: `much` is neither"),
            (&["flood_mib=-1"], "flood_mib: `-1` is neither"),
            (&["flood_mib=1", "flood_mib=2"], "flood_mib: is set twice"),
        ] {
            let error = set(texts).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
