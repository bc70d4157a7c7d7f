//! `role`: what people may do who sign in by a provider, and where.

use super::in_catalog::{self, CatalogArgs};
use super::shown;
use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// Commands about roles of people.
#[derive(Debug, Subcommand)]
pub enum RoleCommand {
    /// List the roles of a catalog.
    List(ListArgs),
    /// Give a person, or a group of the provider, a role.
    Grant(GrantArgs),
    /// Take a role away.
    Revoke(RevokeArgs),
}

/// Arguments of `role list`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast role list")]
pub struct ListArgs {
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `role grant`.
#[derive(Debug, Args)]
#[command(
    after_help = "A person is named by the subject that the provider knows her by; who signs in without a role is told his own. The role \
                  `owner` waits for a second owner, where there is one.\n\n\
                  Example: holdfast role grant operator --provider company --claimed-group pump-team --product pump"
)]
pub struct GrantArgs {
    /// Role: `owner`, `operator`, `releaser`, `approver`, `factory`, `analyst`, `reader` or `auditor`.
    role: String,
    /// Name of the provider in the service's settings.
    #[arg(long)]
    provider: String,
    /// The person's subject at the provider.
    #[arg(long, conflicts_with = "claimed_group", required_unless_present = "claimed_group")]
    subject: Option<String>,
    /// Group of the provider, whose members all have the role.
    #[arg(long, value_name = "GROUP")]
    claimed_group: Option<String>,
    /// Product that the role is for; the whole catalog when not given.
    #[arg(long)]
    product: Option<String>,
    /// Group of devices that the role is for.
    #[arg(long, requires = "product")]
    group: Option<String>,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `role revoke`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast role revoke r0a1b2c3d4e5f")]
pub struct RevokeArgs {
    /// Id of the role, as `role list` has it.
    id: String,
    #[command(flatten)]
    catalog: CatalogArgs,
}

pub(crate) fn run(command: &RoleCommand) -> Result<()> {
    match command {
        RoleCommand::List(args) => {
            let list = in_catalog::open(&args.catalog)?.list(&["roles"], &[])?;
            let columns = [
                ("ID", "id"),
                ("ROLE", "role"),
                ("PRODUCT", "product"),
                ("GROUP", "group"),
                ("SUBJECT", "subject"),
                ("CLAIMED GROUP", "claimed_group"),
                ("ISSUER", "issuer"),
                ("GIVEN BY", "granted_by"),
                ("AT", "granted_at"),
            ];
            shown::list(&list, args.catalog.json, &columns)
        }
        RoleCommand::Grant(args) => {
            let catalog = in_catalog::open(&args.catalog)?;
            let mut new = json!({ "provider": args.provider, "role": args.role });
            shown::say(&mut new, "subject", args.subject.as_deref());
            shown::say(&mut new, "claimed_group", args.claimed_group.as_deref());
            shown::say(&mut new, "product", args.product.as_deref());
            shown::say(&mut new, "group", args.group.as_deref());
            let answer = catalog.post(&["roles"], &new)?;
            let holder = args.subject.as_ref().or(args.claimed_group.as_ref());
            let holder = holder.map_or("", String::as_str);
            let id = shown::cell(&answer, "id");
            let sentence = format!("{holder} has the role {} ({id})", args.role);
            shown::done(&answer, args.catalog.json, &sentence)
        }
        RoleCommand::Revoke(args) => {
            let catalog = in_catalog::open(&args.catalog)?;
            let answer = catalog.post(&["roles", &args.id, "revoke"], &Value::Null)?;
            shown::done(&answer, args.catalog.json, &format!("role {} was taken away", args.id))
        }
    }
}
