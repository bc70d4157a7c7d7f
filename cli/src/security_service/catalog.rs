//! `catalog`: the catalogs of the service.

use super::client::Client;
use super::in_catalog::{self, CatalogArgs};
use super::session;
use super::shown;
use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// Commands about catalogs: each has devices, releases and an authority of its own.
#[derive(Debug, Subcommand)]
pub enum CatalogCommand {
    /// List the catalogs that the token may see.
    List(ListArgs),
    /// Show a catalog.
    Show(ShowArgs),
    /// Make a catalog; needs a token of the whole service.
    Create(CreateArgs),
    /// Change the grades of evidence that a catalog takes.
    Update(UpdateArgs),
}

/// Arguments of `catalog list`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast catalog list")]
pub struct ListArgs {
    /// Print what the service answers, as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Arguments of `catalog show`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast catalog show --catalog pumps")]
pub struct ShowArgs {
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `catalog create`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: holdfast catalog create valves --grades hardware-verified,hardware"
)]
pub struct CreateArgs {
    /// Name of the catalog: a-z, 0-9, `-`, `_` and `.`.
    name: String,
    /// Grades that it takes, of `hardware-verified`, `hardware`, `software` and `emulated`, which is for tests: all but the last
    /// when not given.
    #[arg(long, value_name = "GRADE", value_delimiter = ',')]
    grades: Option<Vec<String>>,
    /// Print what the service answers, as one JSON document.
    #[arg(long)]
    json: bool,
}

/// Arguments of `catalog update`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: holdfast catalog update --catalog pumps --grades hardware-verified"
)]
pub struct UpdateArgs {
    #[command(flatten)]
    catalog: CatalogArgs,
    /// Grades that it takes from now on.
    #[arg(long, value_name = "GRADE", value_delimiter = ',', required = true)]
    grades: Vec<String>,
}

pub(crate) fn run(command: &CatalogCommand) -> Result<()> {
    match command {
        CatalogCommand::List(args) => {
            let client = Client::of(&session::load()?)?;
            let list = client.list(&["v1", "catalogs"], &[])?;
            let columns = [("ID", "id"), ("NAME", "name"), ("GRADES", "grades")];
            shown::list(&list, args.json, &columns)
        }
        CatalogCommand::Show(args) => {
            let shown = in_catalog::open(&args.catalog)?.get(&[])?;
            print(&shown, args.catalog.json)
        }
        CatalogCommand::Create(args) => {
            let client = Client::of(&session::load()?)?;
            let mut new = json!({ "name": args.name });
            if let (Some(grades), Some(new)) = (&args.grades, new.as_object_mut()) {
                new.insert("grades".to_owned(), json!(grades));
            }
            print(&client.post(&["v1", "catalogs"], &new)?, args.json)
        }
        CatalogCommand::Update(args) => {
            let answer =
                in_catalog::open(&args.catalog)?.patch(&json!({ "grades": args.grades }))?;
            let sentence = format!("takes {}", args.grades.join(", "));
            shown::done(&answer, args.catalog.json, &sentence)
        }
    }
}

fn print(catalog: &Value, as_json: bool) -> Result<()> {
    let members = [("id", "id"), ("name", "name"), ("grades", "grades"), ("made at", "created_at")];
    shown::object(catalog, as_json, &members)
}
