//! `import`: catalogs of other services, recreated in a catalog of ours.

mod azure_sphere;

use super::in_catalog::{self, CatalogArgs, InCatalog};
use super::shown::{self, cell, items};
use anyhow::{Context, Result, ensure};
use azure_sphere::{Group, Plan};
use clap::{Args, Subcommand};
use holdfast_builder::workspace;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Commands that recreate what another service has kept.
#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// Recreate the products and device groups of an Azure Sphere catalog.
    AzureSphere(AzureSphereArgs),
}

/// Arguments of `import azure-sphere`.
#[derive(Debug, Args)]
#[command(
    after_help = "Reads what the Azure Sphere CLI prints as JSON, of its present form and of its legacy one:\n\
                  \x20 az sphere product list -o json > products.json\n\
                  \x20 az sphere device-group list -o json > groups.json\n\
                  \x20 az sphere device list -o json > devices.json\n\n\
                  Products and groups that are there already stay as they are. Devices have an identity of their own here, so that they are not \
                  claimed: --places writes for each one where it was, for whoever replaces it.\n\n\
                  Example: holdfast import azure-sphere --products products.json --device-groups groups.json --devices devices.json \
                  --places places.csv\n\
                  Example: holdfast import azure-sphere --products products.json --device-groups groups.json --dry-run"
)]
pub struct AzureSphereArgs {
    /// JSON that `product list` has printed.
    #[arg(long, value_name = "FILE")]
    products: PathBuf,
    /// JSON that `device-group list` has printed; may be given several times.
    #[arg(long = "device-groups", value_name = "FILE", required = true)]
    groups: Vec<PathBuf>,
    /// JSON that `device list` has printed; may be given several times.
    #[arg(long, value_name = "FILE", requires = "places")]
    devices: Vec<PathBuf>,
    /// File to write, as CSV: each device with the product and the group that it was in, by their names here.
    #[arg(long, value_name = "FILE", requires = "devices")]
    places: Option<PathBuf>,
    /// Name here of a product or group whose own is none here, or is another's as well: `Dish Washer=dish-washer`; may be given
    /// several times.
    #[arg(long = "rename", value_name = "NAME=NAME", value_parser = renamed)]
    renames: Vec<(String, String)>,
    /// Say what would be made, and make nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    catalog: CatalogArgs,
}

fn renamed(text: &str) -> Result<(String, String), String> {
    let (from, to) =
        text.rsplit_once('=').ok_or("must be two names, such as `Dish Washer=dish-washer`")?;
    if !azure_sphere::is_name(to) {
        return Err(format!("{to}: {}", azure_sphere::NAME_RULE));
    }
    Ok((from.to_owned(), to.to_owned()))
}

/// Products and groups that were made, and how many were there already.
#[derive(Debug, Default)]
struct Made {
    products: Vec<String>,
    groups: Vec<String>,
    there: usize,
}

pub(crate) fn run(command: &ImportCommand) -> Result<()> {
    let ImportCommand::AzureSphere(args) = command;
    let lists = |paths: &[PathBuf]| -> Result<Vec<Value>> {
        let mut all = Vec::new();
        for path in paths {
            all.extend(list(path)?);
        }
        Ok(all)
    };
    let (products, groups) = (list(&args.products)?, lists(&args.groups)?);
    let devices = lists(&args.devices)?;
    let renames: BTreeMap<String, String> = args.renames.iter().cloned().collect();
    let plan = azure_sphere::plan(&products, &groups, &devices, &renames)?;
    if let Some(path) = &args.places {
        workspace::write(path, plan.places())?;
        eprintln!("{}: {} devices", path.display(), plan.devices.len());
    }
    for note in plan.notes() {
        eprintln!("{note}");
    }
    let made =
        if args.dry_run { planned(&plan) } else { make(&in_catalog::open(&args.catalog)?, &plan)? };
    if args.catalog.json {
        return shown::json(&json!({
            "dry_run": args.dry_run,
            "products": made.products,
            "groups": made.groups,
            "there": made.there,
            "devices": plan.devices.len(),
            "notes": plan.notes(),
        }));
    }
    let verb = if args.dry_run { "would be made" } else { "made" };
    for product in &made.products {
        println!("product {product}: {verb}");
    }
    for group in &made.groups {
        println!("group {group}: {verb}");
    }
    println!("{} were there already", made.there);
    Ok(())
}

/// The objects of a file: a list, or one with a list of them.
fn list(path: &Path) -> Result<Vec<Value>> {
    let text = workspace::read_text(path)?;
    let value: Value =
        serde_json::from_str(&text).with_context(|| format!("{}: is no JSON", path.display()))?;
    let list = azure_sphere::objects(value);
    list.with_context(|| {
        format!("{}: is no list of objects; print it with `-o json`", path.display())
    })
}

fn planned(plan: &Plan) -> Made {
    let groups = plan.groups.iter().map(Group::place).collect();
    Made { products: plan.products.iter().cloned().collect(), groups, there: 0 }
}

/// Makes what is not there.
fn make(catalog: &InCatalog, plan: &Plan) -> Result<Made> {
    let mut made = Made::default();
    let list = catalog.list(&["products"], &[])?;
    let there: BTreeSet<String> =
        items(&list).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    for product in &plan.products {
        if there.contains(product) {
            made.there = made.there.saturating_add(1);
            continue;
        }
        catalog.put(&["products", product], &Value::Null).with_context(|| product.clone())?;
        made.products.push(product.clone());
    }
    let mut known: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for group in &plan.groups {
        if !known.contains_key(group.product.as_str()) {
            let list = catalog.list(&["products", &group.product, "groups"], &[])?;
            let names = items(&list).iter().map(|item| cell(item, "name")).collect();
            known.insert(&group.product, names);
        }
        let names = known.get(group.product.as_str());
        if names.is_some_and(|names| names.contains(&group.name)) {
            made.there = made.there.saturating_add(1);
            continue;
        }
        let path = ["products", &group.product, "groups", &group.name];
        let put = catalog.put(&path, &group.body());
        put.with_context(|| group.place())?;
        made.groups.push(group.place());
    }
    ensure!(
        made.products.len().saturating_add(made.groups.len()).saturating_add(made.there) > 0,
        "the files name no product and no group"
    );
    Ok(made)
}
