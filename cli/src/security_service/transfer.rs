//! `transfer`: devices that go from one catalog to another, by a voucher of two owners.

use super::certificate::first_certificate;
use super::in_catalog::{self, CatalogArgs};
use super::shown::{self, cell};
use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use holdfast_builder::{output, workspace};
use serde_json::{Value, json};
use std::path::PathBuf;

const COLUMNS: [(&str, &str); 6] = [
    ("DEVICE", "device"),
    ("TO", "to"),
    ("STATE", "state"),
    ("OFFERED BY", "offered_by"),
    ("APPROVED BY", "approved_by"),
    ("ENDS", "ends_at"),
];

/// Commands about transfers.
#[derive(Debug, Subcommand)]
pub enum TransferCommand {
    /// Offer a device to another catalog.
    Offer(OfferArgs),
    /// List transfers.
    List(ListArgs),
    /// Show the transfer of a device, and write what is signed or its voucher.
    Show(ShowArgs),
    /// Approve a transfer that another owner has offered: the device is told at its next check-in.
    Approve(ApproveArgs),
    /// Withdraw a transfer that the device was not told of.
    Withdraw(WithdrawArgs),
    /// Accept a device that another catalog gives to this one.
    Accept(AcceptArgs),
}

/// Arguments of `transfer offer`.
#[derive(Debug, Args)]
#[command(
    after_help = "The other owner says his catalog's id and gives the certificate of its root (`ca-certificate download`); he needs the \
                  voucher, which `transfer show --voucher` writes once it is approved.\n\n\
                  Example: holdfast transfer offer DEVICE --to 25025d2c-66da-4448-bae1-ac26fcdd3627 --root theirs.pem"
)]
pub struct OfferArgs {
    /// Id of the device.
    device: String,
    /// Id of the catalog that it goes to.
    #[arg(long)]
    to: String,
    /// Certificate of that catalog's root, PEM.
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// Days within which the device has to be told, 1 to 400.
    #[arg(long, default_value_t = 30)]
    days: u32,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `transfer list`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast transfer list")]
pub struct ListArgs {
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `transfer show`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast transfer show DEVICE --voucher device.voucher")]
pub struct ShowArgs {
    /// Id of the device.
    device: String,
    /// Path to write the voucher to, once the transfer is approved.
    #[arg(long, value_name = "FILE")]
    voucher: Option<PathBuf>,
    /// Path to write the bytes to that the key of the catalog's root signs.
    #[arg(long, value_name = "FILE")]
    signed_bytes: Option<PathBuf>,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `transfer approve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Where the key of the catalog's root is kept elsewhere, it signs what `transfer show --signed-bytes` writes:\n\
                  `openssl dgst -sha256 -sign root.key -out device.signature device.bytes`.\n\n\
                  Example: holdfast transfer approve DEVICE"
)]
pub struct ApproveArgs {
    /// Id of the device.
    device: String,
    /// File with the signature, DER.
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `transfer withdraw`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast transfer withdraw DEVICE")]
pub struct WithdrawArgs {
    /// Id of the device.
    device: String,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `transfer accept`.
#[derive(Debug, Args)]
#[command(
    after_help = "Whoever accepts a device vouches for its key, as whoever claims one does.\n\n\
                  Example: holdfast transfer accept device.voucher --grade hardware --product pump --group production"
)]
pub struct AcceptArgs {
    /// File with the voucher.
    voucher: PathBuf,
    /// Grade that is vouched for: `hardware-verified`, `hardware`, `software`, or `emulated` for a TPM in software.
    #[arg(long)]
    grade: String,
    /// Product that the device goes into.
    #[arg(long, requires = "group")]
    product: Option<String>,
    /// Group of the product.
    #[arg(long, requires = "product")]
    group: Option<String>,
    #[command(flatten)]
    catalog: CatalogArgs,
}

pub(crate) fn run(command: &TransferCommand) -> Result<()> {
    match command {
        TransferCommand::Offer(args) => offer(args),
        TransferCommand::List(args) => {
            let list = in_catalog::open(&args.catalog)?.list(&["transfers"], &[])?;
            shown::list(&list, args.catalog.json, &COLUMNS)
        }
        TransferCommand::Show(args) => show(args),
        TransferCommand::Approve(args) => {
            let signature = args.signature.as_ref().map(|path| workspace::read(path));
            let signature = signature.transpose()?.map(|bytes| STANDARD.encode(bytes));
            let body = json!({ "signature": signature });
            let below = ["devices", args.device.as_str(), "transfer", "approve"];
            let answer = in_catalog::open(&args.catalog)?.post(&below, &body)?;
            let sentence = format!("{} is told at its next check-in", args.device);
            shown::done(&answer, args.catalog.json, &sentence)
        }
        TransferCommand::Withdraw(args) => {
            let below = ["devices", args.device.as_str(), "transfer", "withdraw"];
            let answer = in_catalog::open(&args.catalog)?.post(&below, &Value::Null)?;
            let sentence = format!("{} stays in this catalog", args.device);
            shown::done(&answer, args.catalog.json, &sentence)
        }
        TransferCommand::Accept(args) => accept(args),
    }
}

fn offer(args: &OfferArgs) -> Result<()> {
    let root = first_certificate(&args.root)?;
    let body = json!({ "to": args.to, "root": STANDARD.encode(root), "days": args.days });
    let below = ["devices", args.device.as_str(), "transfer"];
    let answer = in_catalog::open(&args.catalog)?.post(&below, &body)?;
    let sentence = format!("{} is offered; another owner approves it", args.device);
    shown::done(&answer, args.catalog.json, &sentence)
}

fn show(args: &ShowArgs) -> Result<()> {
    let found = in_catalog::open(&args.catalog)?.get(&["devices", &args.device, "transfer"])?;
    for (path, member, what) in [
        (&args.voucher, "voucher", "the voucher"),
        (&args.signed_bytes, "signed_bytes", "what the root signs"),
    ] {
        let Some(path) = path else { continue };
        let bytes = found.get(member).and_then(Value::as_str).with_context(|| {
            format!("the transfer has no voucher: it is {}", cell(&found, "state"))
        })?;
        let bytes = STANDARD.decode(bytes).context("the service's answer is no base64")?;
        workspace::write(path, bytes)?;
        output::written(path, format_args!("{}: {what}", path.display()));
    }
    let members = [
        ("device", "device"),
        ("to", "to"),
        ("owners before", "epoch"),
        ("state", "state"),
        ("offered by", "offered_by"),
        ("approved by", "approved_by"),
        ("ends", "ends_at"),
        ("told at", "sent_at"),
        ("gone at", "followed_at"),
    ];
    shown::object(&found, args.catalog.json, &members)
}

fn accept(args: &AcceptArgs) -> Result<()> {
    let voucher = workspace::read(&args.voucher)?;
    let place = args.product.as_ref().zip(args.group.as_ref());
    let place = place.map(|(product, group)| json!({ "product": product, "group": group }));
    let body = json!({ "voucher": STANDARD.encode(voucher), "grade": args.grade, "place": place });
    let answer = in_catalog::open(&args.catalog)?.post(&["transfers", "accept"], &body)?;
    let sentence = format!("{} is {}", cell(&answer, "device"), cell(&answer, "state"));
    shown::done(&answer, args.catalog.json, &sentence)
}
