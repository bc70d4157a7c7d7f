//! `webhook`: where alerts of a catalog go.

use super::in_catalog::{self, CatalogArgs};
use super::session;
use super::shown::{self, cell};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use holdfast_images::destination;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Commands about webhooks.
#[derive(Debug, Subcommand)]
pub enum WebhookCommand {
    /// Have alerts sent to a URL, signed by a secret that is told once.
    Add(AddArgs),
    /// List webhooks, and how their deliveries went.
    List(ListArgs),
    /// Send a webhook no more.
    Remove(NameArgs),
    /// Send a webhook a test, and say what came of it.
    Test(NameArgs),
}

/// Arguments of `webhook add`.
#[derive(Debug, Args)]
#[command(
    after_help = "The service tells the secret once. Whoever receives the webhook computes HMAC-SHA-256 over `SECONDS.BODY` with it and \
                  compares that with `v1` of the header Holdfast-Signature.\n\n\
                  Example: holdfast webhook add ops https://alerts.example.com/holdfast --output ops.secret"
)]
pub struct AddArgs {
    /// Name of the webhook.
    name: String,
    /// URL that alerts are sent to: `https:`, of a public address.
    url: String,
    /// Path to write the secret to, readable by you alone; standard output with `-`.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `webhook list`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast webhook list")]
pub struct ListArgs {
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// A webhook.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast webhook test ops")]
pub struct NameArgs {
    /// Name of the webhook.
    name: String,
    #[command(flatten)]
    catalog: CatalogArgs,
}

pub(crate) fn run(command: &WebhookCommand) -> Result<()> {
    match command {
        WebhookCommand::Add(args) => add(args),
        WebhookCommand::List(args) => {
            let list = in_catalog::open(&args.catalog)?.list(&["webhooks"], &[])?;
            let columns = [
                ("NAME", "name"),
                ("URL", "url"),
                ("DELIVERED", "delivered"),
                ("LAST", "delivered_at"),
                ("GIVEN UP", "given_up"),
                ("DROPPED", "dropped"),
                ("NEXT TRY", "next_at"),
                ("FAILED", "failed_at"),
                ("FAILURE", "failure"),
            ];
            shown::list(&list, args.catalog.json, &columns)
        }
        WebhookCommand::Remove(args) => {
            let catalog = in_catalog::open(&args.catalog)?;
            let answer = catalog.post(&["webhooks", &args.name, "remove"], &Value::Null)?;
            let sentence = format!("webhook {} is removed", args.name);
            shown::done(&answer, args.catalog.json, &sentence)
        }
        WebhookCommand::Test(args) => test(args),
    }
}

fn add(args: &AddArgs) -> Result<()> {
    let is_printed =
        args.output.as_os_str() == "-" || destination::is_standard_output(&args.output);
    // The secret is told once: it must have its place.
    let place = if is_printed { None } else { Some(session::reserve(&args.output)?) };
    let catalog = in_catalog::open(&args.catalog)?;
    let mut made = catalog.post(&["webhooks"], &json!({ "name": args.name, "url": args.url }))?;
    let secret = made.get("secret").and_then(Value::as_str);
    let secret = secret.context("the service has made no webhook")?;
    match place {
        None if args.catalog.json => {}
        None => println!("{secret}"),
        Some(place) => {
            place.fill(&format!("{secret}\n"))?;
            // What is in a file that its owner alone reads is not printed as well.
            if let Some(made) = made.as_object_mut() {
                made.remove("secret");
            }
        }
    }
    if args.catalog.json {
        return shown::json(&made);
    }
    eprintln!("webhook {} gets the alerts that come from now on", args.name);
    Ok(())
}

fn test(args: &NameArgs) -> Result<()> {
    let catalog = in_catalog::open(&args.catalog)?;
    let tested = catalog.post(&["webhooks", &args.name, "test"], &Value::Null)?;
    if args.catalog.json {
        shown::json(&tested)?;
    }
    if tested.get("delivered") != Some(&Value::Bool(true)) {
        bail!("webhook {}: the test was not delivered: {}", args.name, cell(&tested, "failure"));
    }
    if !args.catalog.json {
        println!("webhook {}: the receiver answers {}", args.name, cell(&tested, "status"));
    }
    Ok(())
}
