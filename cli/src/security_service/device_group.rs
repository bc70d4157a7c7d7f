//! `device-group`: the devices of a product that are treated alike, and what is taken of them.

use super::in_catalog::{self, CatalogArgs, InCatalog};
use super::product::GROUP_COLUMNS;
use super::shown::{self, cell, items};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// The word for the grades of the catalog, where a group has none of its own.
const OF_CATALOG: &str = "catalog";

/// Commands about groups of devices.
#[derive(Debug, Subcommand)]
pub enum DeviceGroupCommand {
    /// List the groups of a product.
    List(ListArgs),
    /// Show a group.
    Show(ShowArgs),
    /// Make a group, in a product that there is.
    Create(CreateArgs),
    /// Change what is taken of the devices of a group.
    Update(UpdateArgs),
}

/// A group's product.
#[derive(Debug, Args)]
pub(crate) struct ProductArgs {
    /// Name of the product.
    #[arg(long)]
    product: String,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// What is taken of devices.
#[derive(Debug, Args)]
pub(crate) struct TakenArgs {
    /// Least rollback index: devices that run an older release get a certificate for updates alone.
    #[arg(long, value_name = "N")]
    least_index: Option<u64>,
    /// Grades that are taken, or `catalog` for those of the catalog.
    #[arg(long, value_name = "GRADE", value_delimiter = ',')]
    grades: Option<Vec<String>>,
    /// How much devices report: `off`, `health` (failures, updates, refusals) or `full` (traffic and use as well).
    #[arg(long, value_name = "LEVEL")]
    reports: Option<String>,
}

/// Arguments of `device-group list`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast device-group list --product pump")]
pub struct ListArgs {
    #[command(flatten)]
    product: ProductArgs,
}

/// Arguments of `device-group show`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast device-group show production --product pump")]
pub struct ShowArgs {
    /// Name of the group.
    group: String,
    #[command(flatten)]
    product: ProductArgs,
}

/// Arguments of `device-group create`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast device-group create production --product pump")]
pub struct CreateArgs {
    /// Name of the group: a-z, 0-9, `-`, `_` and `.`.
    group: String,
    #[command(flatten)]
    product: ProductArgs,
    #[command(flatten)]
    taken: TakenArgs,
}

/// Arguments of `device-group update`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: holdfast device-group update production --product pump --least-index 7"
)]
pub struct UpdateArgs {
    /// Name of the group.
    group: String,
    #[command(flatten)]
    product: ProductArgs,
    #[command(flatten)]
    taken: TakenArgs,
}

pub(crate) fn run(command: &DeviceGroupCommand) -> Result<()> {
    match command {
        DeviceGroupCommand::List(ListArgs { product }) => {
            let list = groups(&in_catalog::open(&product.catalog)?, product)?;
            shown::list(&list, product.catalog.json, &GROUP_COLUMNS)
        }
        DeviceGroupCommand::Show(ShowArgs { group, product }) => {
            let shown = named(&groups(&in_catalog::open(&product.catalog)?, product)?, group);
            let shown = shown.with_context(|| none(group, product))?;
            let members = [
                ("group", "name"),
                ("least index", "least_index"),
                ("grades", "grades"),
                ("reports", "reports"),
            ];
            shown::object(&shown, product.catalog.json, &members)
        }
        DeviceGroupCommand::Create(CreateArgs { group, product, taken }) => {
            let catalog = in_catalog::open(&product.catalog)?;
            // The API puts what is there already; who creates does not mean to.
            let there = groups(&catalog, product)?;
            if named(&there, group).is_some() {
                bail!(
                    "product {} has a group {group} already; see `device-group update`",
                    product.product
                );
            }
            put(&catalog, product, group, &json!({ "least_index": 0, "grades": null }), taken)
        }
        DeviceGroupCommand::Update(UpdateArgs { group, product, taken }) => {
            if taken.least_index.is_none() && taken.grades.is_none() && taken.reports.is_none() {
                bail!("nothing is changed; give --least-index, --grades or --reports");
            }
            let catalog = in_catalog::open(&product.catalog)?;
            let before = named(&groups(&catalog, product)?, group);
            let before = before.with_context(|| none(group, product))?;
            put(&catalog, product, group, &before, taken)
        }
    }
}

fn groups(catalog: &InCatalog, product: &ProductArgs) -> Result<Value> {
    Ok(catalog.list(&["products", &product.product, "groups"], &[])?)
}

fn named(list: &Value, group: &str) -> Option<Value> {
    items(list).iter().find(|entry| cell(entry, "name") == group).cloned()
}

fn none(group: &str, product: &ProductArgs) -> String {
    format!("product {} has no group {group}; `device-group create` makes one", product.product)
}

/// Puts a group with what it takes now, but for what the arguments say.
fn put(
    catalog: &InCatalog,
    product: &ProductArgs,
    group: &str,
    now: &Value,
    taken: &TakenArgs,
) -> Result<()> {
    let grades = match &taken.grades {
        Some(grades) if grades.iter().any(|grade| grade == OF_CATALOG) => Value::Null,
        Some(grades) => json!(grades),
        None => now.get("grades").cloned().unwrap_or(Value::Null),
    };
    let least_index = match taken.least_index {
        Some(index) => json!(index),
        None => now.get("least_index").cloned().unwrap_or(json!(0)),
    };
    let mut body = json!({ "least_index": least_index, "grades": grades });
    // Unsaid, it stays as it is, and a service that takes no reports is not asked about them.
    if let (Some(level), Some(members)) = (&taken.reports, body.as_object_mut()) {
        members.insert("reports".to_owned(), json!(level));
    }
    let answer = catalog.put(&["products", &product.product, "groups", group], &body)?;
    let sentence = format!("group {}/{group}: {body}", product.product);
    shown::done(&answer, product.catalog.json, &sentence)
}
