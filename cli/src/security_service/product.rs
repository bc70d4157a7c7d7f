//! `product`: kinds of devices in a catalog.

use super::in_catalog::{self, CatalogArgs};
use super::shown;
use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::Value;

/// Columns of a list of groups.
pub(crate) const GROUP_COLUMNS: [(&str, &str); 7] = [
    ("GROUP", "name"),
    ("LEAST INDEX", "least_index"),
    ("GRADES", "grades"),
    ("REPORTS", "reports"),
    ("PRODUCTION", "production"),
    ("UPDATE", "update"),
    ("FEED", "feed"),
];

/// Commands about products.
#[derive(Debug, Subcommand)]
pub enum ProductCommand {
    /// List products.
    List(ListArgs),
    /// Show the groups of a product.
    Show(NamedArgs),
    /// Make a product; one that is there stays as it is.
    Create(CreateArgs),
}

/// Arguments of `product list`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast product list")]
pub struct ListArgs {
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `product show`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast product show pump")]
pub struct NamedArgs {
    /// Name of the product.
    product: String,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `product create`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast product create pump")]
pub struct CreateArgs {
    /// Name of the product: a-z, 0-9, `-`, `_` and `.`.
    product: String,
    #[command(flatten)]
    catalog: CatalogArgs,
}

pub(crate) fn run(command: &ProductCommand) -> Result<()> {
    match command {
        ProductCommand::List(args) => {
            let list = in_catalog::open(&args.catalog)?.list(&["products"], &[])?;
            shown::list(&list, args.catalog.json, &[("PRODUCT", "")])
        }
        ProductCommand::Show(args) => {
            let catalog = in_catalog::open(&args.catalog)?;
            let list = catalog.list(&["products", &args.product, "groups"], &[])?;
            shown::list(&list, args.catalog.json, &GROUP_COLUMNS)
        }
        ProductCommand::Create(args) => {
            let catalog = in_catalog::open(&args.catalog)?;
            let answer = catalog.put(&["products", &args.product], &Value::Null)?;
            let sentence = format!("product {}", args.product);
            shown::done(&answer, args.catalog.json, &sentence)
        }
    }
}
