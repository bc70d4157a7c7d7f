//! `token`: who else may do what in a catalog.

use super::in_catalog::{self, CatalogArgs};
use super::session;
use super::shown;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use holdfast_images::destination;
use holdfast_types::date;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Commands about tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// List the tokens of a catalog, without their secrets.
    List(ListArgs),
    /// Make a token of a catalog.
    Create(CreateArgs),
    /// End the tokens of a name.
    Remove(RemoveArgs),
}

/// Arguments of `token list`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast token list")]
pub struct ListArgs {
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `token create`.
#[derive(Debug, Args)]
#[command(
    after_help = "The service tells the secret once and keeps none. Whoever is to have it logs in with the file: \
                  `login URL --token-file FILE`.\n\n\
                  Example: holdfast token create line-3 --role factory --days 30 --output line-3.token"
)]
pub struct CreateArgs {
    /// Name of the token, which the audit log has.
    name: String,
    /// Role: `owner`, `operator`, `releaser`, `approver`, `factory` (claims alone), `analyst`, `reader` or `auditor`.
    #[arg(long)]
    role: String,
    /// Days until it ends, 1 to 90.
    #[arg(long, value_name = "N")]
    days: u32,
    /// Product that the token is for; the whole catalog when not given.
    #[arg(long)]
    product: Option<String>,
    /// Group of devices that the token is for.
    #[arg(long, requires = "product")]
    group: Option<String>,
    /// Name of the person whose it is, where nobody signs in by a provider; yours when not given. Two tokens of one person are one person.
    #[arg(long)]
    person: Option<String>,
    /// Path to write the secret to, readable by you alone; standard output with `-`.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `token remove`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast token remove line-3")]
pub struct RemoveArgs {
    /// Name of the tokens.
    name: String,
    #[command(flatten)]
    catalog: CatalogArgs,
}

pub(crate) fn run(command: &TokenCommand) -> Result<()> {
    match command {
        TokenCommand::List(args) => {
            let list = in_catalog::open(&args.catalog)?.list(&["tokens"], &[])?;
            let columns = [
                ("NAME", "name"),
                ("ROLE", "role"),
                ("PRODUCT", "product"),
                ("GROUP", "group"),
                ("PERSON", "person"),
                ("MADE", "created_at"),
                ("UNTIL", "ends_at"),
            ];
            shown::list(&list, args.catalog.json, &columns)
        }
        TokenCommand::Create(args) => create(args),
        TokenCommand::Remove(args) => {
            let catalog = in_catalog::open(&args.catalog)?;
            let answer = catalog.post(&["tokens", &args.name, "remove"], &Value::Null)?;
            let sentence = format!("token {} has ended", args.name);
            shown::done(&answer, args.catalog.json, &sentence)
        }
    }
}

fn create(args: &CreateArgs) -> Result<()> {
    let is_printed =
        args.output.as_os_str() == "-" || destination::is_standard_output(&args.output);
    // The secret is told once: it must have its place.
    let place = if is_printed { None } else { Some(session::reserve(&args.output)?) };
    let catalog = in_catalog::open(&args.catalog)?;
    let mut new = json!({ "name": args.name, "role": args.role, "days": args.days });
    shown::say(&mut new, "product", args.product.as_deref());
    shown::say(&mut new, "group", args.group.as_deref());
    shown::say(&mut new, "person", args.person.as_deref());
    let mut made = catalog.post(&["tokens"], &new)?;
    let secret =
        made.get("token").and_then(Value::as_str).context("the service has made no token")?;
    match place {
        None if args.catalog.json => {}
        None => println!("{secret}"),
        Some(place) => {
            place.fill(&format!("{secret}\n"))?;
            // What is in a file that its owner alone reads is not printed as well.
            if let Some(made) = made.as_object_mut() {
                made.remove("token");
            }
        }
    }
    if args.catalog.json {
        return shown::json(&made);
    }
    let ends_at = made.get("ends_at").and_then(Value::as_u64).unwrap_or_default();
    eprintln!("token {}, {}, until {} UTC", args.name, args.role, date(ends_at));
    Ok(())
}
