//! `image verify`: the chain from the ROM to the root file system, checked offline.

use anyhow::{Context, Result, bail};
use clap::Args;
use holdfast_images::verify::{self, Chain, SlotReport};
use std::path::{Path, PathBuf};

/// Arguments of `image verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Checks what boot loader and kernel would: the keys in the boot loader, the boot state, \
                  the signature, hashes and board of both slots, and every block of their root file \
                  systems. App packages are the device's own to check. Fails unless the slot that \
                  boots first is sound.\n\n\
                  Example: holdfast image verify target/holdfast/hello.img"
)]
pub struct VerifyArgs {
    /// An image.
    image: PathBuf,
    /// Boot loader of the image; the file beside the image with `.rom` when not given, or the one in the image.
    #[arg(long, value_name = "FILE")]
    rom: Option<PathBuf>,
    /// The board that it must be for; that of its boot loader when not given.
    #[arg(long)]
    board: Option<String>,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
}

/// Checks an image; a refusal names it.
pub(crate) fn verify_image(image: &Path, rom: Option<&Path>, board: Option<&str>) -> Result<Chain> {
    verify::verify(image, rom, board).map_err(|error| match error.names_the_file() {
        true => error.into(),
        false => anyhow::Error::from(error).context(image.display().to_string()),
    })
}

pub(crate) fn verify_command(args: &VerifyArgs) -> Result<()> {
    let chain = verify_image(&args.image, args.rom.as_deref(), args.board.as_deref())?;
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
    println!("boot loader: for {}, SHA-256 {}", chain.board, chain.boot_loader_sha256);
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
            (Some(found), _) => {
                println!(
                    "slot {letter}: sound, signed by key {}, for {}, rollback index {}, root hash {}",
                    found.key, found.board, found.rollback_index, found.root_hash
                );
                println!("slot {letter}: boot digest {}", found.boot_digest);
                if let Some([first, spare]) = found.boot_loader_copies {
                    let is = |current| if current { "this one" } else { "another" };
                    println!(
                        "slot {letter} brings a boot loader: the card's first copy is {}, its spare copy \
                         is {}",
                        is(first),
                        is(spare)
                    );
                }
            }
            (None, _) if *empty => println!("slot {letter}: empty"),
            (None, refused) => {
                println!("slot {letter}: refused: {}", refused.as_deref().unwrap_or("unknown"));
            }
        }
    }
}
