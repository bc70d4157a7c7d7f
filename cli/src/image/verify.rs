//! `image verify`: the chain from the ROM to the root file system, checked offline.

use anyhow::{Context, Result, bail};
use clap::Args;
use holdfast_images::build;
use holdfast_images::verify::{self, Chain, SlotReport};
use std::path::PathBuf;

/// Arguments of `image verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Checks what boot loader and kernel would: the keys in the ROM, the boot state, \
                  the signature, hashes and board of both slots, and every block of their root file \
                  systems. App packages are the device's own to check. Fails unless the slot that \
                  boots first is sound.\n\n\
                  Example: cargo holdfast image verify target/holdfast/hello.img"
)]
pub(crate) struct VerifyArgs {
    /// An image.
    image: PathBuf,
    /// Its boot loader; the file beside the image with `.rom` when not given.
    #[arg(long, value_name = "FILE")]
    rom: Option<PathBuf>,
    /// The board that it must be for.
    #[arg(long, default_value = "qemu-virt")]
    board: String,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn verify_command(args: &VerifyArgs) -> Result<()> {
    let rom = args.rom.clone().unwrap_or_else(|| build::rom_path(&args.image));
    let chain = verify::verify(&args.image, &rom, &args.board)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&chain).context("cannot write JSON")?);
    } else {
        print(&chain);
    }
    if chain.is_sound() {
        return Ok(());
    }
    match chain.first {
        Some(slot) => bail!("{}: slot {} does not boot", args.image.display(), slot.letter()),
        None => bail!("{}: the boot loader halts", args.image.display()),
    }
}

fn print(chain: &Chain) {
    println!("ROM: SHA-256 {}", chain.rom_sha256);
    for (name, id) in &chain.keys {
        println!("key {name}: {id}");
    }
    match &chain.boot_state {
        Some(state) => println!(
            "boot state: slot {}, tries {} and {}, good {} and {}",
            state.slot.letter(),
            state.a.tries,
            state.b.tries,
            state.a.good,
            state.b.good
        ),
        None => println!("boot state: no valid copy; each slot is tried once"),
    }
    for SlotReport { slot, empty, found, refused } in &chain.slots {
        let letter = slot.letter();
        match (found, refused) {
            (Some(found), _) => println!(
                "slot {letter}: sound, signed by key {}, for {}, rollback index {}, root hash {}",
                found.key, found.board, found.rollback_index, found.root_hash
            ),
            (None, _) if *empty => println!("slot {letter}: empty"),
            (None, refused) => {
                println!("slot {letter}: refused: {}", refused.as_deref().unwrap_or("unknown"));
            }
        }
    }
}
