//! `device-group`: the devices of a product that are treated alike, and what is taken of them.

use super::in_catalog::{self, CatalogArgs, InCatalog};
use super::product::GROUP_COLUMNS;
use super::shown::{self, cell, items};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use holdfast_release::feed::Feed;
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
    /// Make `development`, `field-test` and `production` of a product; groups that are there stay as they are.
    CreateDefaults(DefaultsArgs),
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
    /// `yes` where deployments need two people, or `no`.
    #[arg(long, value_name = "YES|NO", value_parser = ["yes", "no"])]
    production: Option<String>,
    /// `off` has no deployment give anything to its devices, and `on` again.
    #[arg(long, value_name = "ON|OFF", value_parser = ["on", "off"])]
    update: Option<String>,
    /// Feed that its devices follow, such as `retail`, where their images allow it: they take releases of no other.
    #[arg(long, value_name = "NAME")]
    feed: Option<Feed>,
}

/// Arguments of `device-group create-defaults`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast device-group create-defaults --product pump")]
pub struct DefaultsArgs {
    #[command(flatten)]
    product: ProductArgs,
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
                ("production", "production"),
                ("update", "update"),
                ("feed", "feed"),
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
            if taken.says_nothing() {
                bail!(
                    "nothing is changed; give --least-index, --grades, --reports, --production, --update or --feed"
                );
            }
            let catalog = in_catalog::open(&product.catalog)?;
            let before = named(&groups(&catalog, product)?, group);
            let before = before.with_context(|| none(group, product))?;
            put(&catalog, product, group, &before, taken)
        }
        DeviceGroupCommand::CreateDefaults(DefaultsArgs { product }) => {
            let catalog = in_catalog::open(&product.catalog)?;
            let path = ["products", product.product.as_str(), "default-groups"];
            let answer = catalog.post(&path, &Value::Null)?;
            let sentence =
                format!("product {} has development, field-test and production", product.product);
            shown::done(&answer, product.catalog.json, &sentence)
        }
    }
}

impl TakenArgs {
    fn says_nothing(&self) -> bool {
        let texts = [&self.reports, &self.production, &self.update];
        self.least_index.is_none()
            && self.feed.is_none()
            && self.grades.is_none()
            && texts.iter().all(|text| text.is_none())
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
    // Unsaid, it stays as it is, and a service that does not know of it is not asked about it.
    if let Some(members) = body.as_object_mut() {
        let production = taken.production.as_ref().map(|word| json!(word == "yes"));
        let said = [
            ("reports", taken.reports.as_ref().map(|level| json!(level))),
            ("production", production),
            ("update", taken.update.as_ref().map(|word| json!(word))),
            ("feed", taken.feed.as_ref().map(|feed| json!(feed))),
        ];
        for (name, value) in said {
            if let Some(value) = value {
                members.insert(name.to_owned(), value);
            }
        }
    }
    let answer = catalog.put(&["products", &product.product, "groups", group], &body)?;
    let sentence = format!("group {}/{group}: {body}", product.product);
    shown::done(&answer, product.catalog.json, &sentence)
}
