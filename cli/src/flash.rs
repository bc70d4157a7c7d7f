//! `flash`: an image onto a card, or into a file in its place.

mod disk;
mod medium;

use crate::image;
use crate::invocation::Invocation;
use anyhow::{Context, Result, bail};
use clap::Args;
use disk::{Disk, Views};
use holdfast_builder::progress::Bytes;
use holdfast_images::flash::{self, FlashError, Step};
use holdfast_images::{build, destination, disk as image_disk, show};
use medium::Medium;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Arguments of `flash`.
#[derive(Debug, Args)]
#[command(
    after_help = "Everything on the card is lost. Its start is erased first and written last, so that a card \
                  that was not written to its end does not boot; the same command goes on from where it \
                  stopped. All of it is read back from the medium.\n\n\
                  Example: holdfast flash --image target/holdfast/pump.img --to /dev/sdb\n\
                  Example: holdfast flash --image pump.img --to card.img --even-with-development-keys"
)]
pub struct FlashArgs {
    /// The image.
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// The whole disk of a card, such as /dev/sdb or /dev/mmcblk0, or a file.
    #[arg(long, value_name = "DEVICE|FILE")]
    to: PathBuf,
    /// Do not ask whether the card, or a file that is no image, may be erased.
    #[arg(long)]
    yes: bool,
    /// Write an image that believes development keys, which everybody has.
    #[arg(long)]
    even_with_development_keys: bool,
    /// Write to a disk that is in use: what is mounted from it will be damaged.
    #[arg(long)]
    even_if_mounted: bool,
    /// Write to a disk that this computer runs from.
    #[arg(long)]
    even_if_it_is_a_system_disk: bool,
    /// Write to a disk that cannot be taken out.
    #[arg(long)]
    even_if_not_removable: bool,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(invocation: &Invocation, args: &FlashArgs) -> Result<()> {
    let image = std::fs::metadata(&args.image).with_context(|| args.image.display().to_string())?;
    if !image.is_file() {
        bail!("{}: is no file; copy the image into one first", args.image.display());
    }
    let disk = disk::look(&Views::of_this_host()?, &args.to, &args.image)?;
    refuse_itself(args, disk.as_ref())?;
    check_image(invocation, args)?;
    if let Some(disk) = &disk {
        refuse(disk, args, image.len())?;
    }
    let lost = Lost::at(&args.to, disk);
    let shared = args.even_if_mounted || args.even_if_it_is_a_system_disk;
    // Whoever cannot write it is not asked either.
    let mut medium = Medium::open(&args.to, matches!(lost, Lost::Disk(_)), shared)?;
    say_what_is_lost(args, &lost)?;
    medium.shorten(&args.to, image.len())?;
    eprintln!(
        "{}: does not boot until all of it is written; interrupted, the same command goes on",
        args.to.display()
    );
    let mut written = Bytes::begin("writing");
    let mut read = None;
    let flashed = flash::flash(&args.image, &mut medium, &args.to, &mut |step| match step {
        Step::GoesOn { from } => eprintln!(
            "{}: an earlier attempt at this image stopped here; going on from byte {from}",
            args.to.display()
        ),
        Step::Wrote { done, of } => written.show(done, of),
        Step::ReadBack { done, of } => {
            read.get_or_insert_with(|| Bytes::begin("reading back")).show(done, of);
        }
    })?;
    drop((written, read));
    if args.json {
        println!("{}", serde_json::to_string_pretty(&flashed).context("cannot write JSON")?);
    } else {
        println!(
            "{}: {} bytes, {} of them written, the rest zero; read back, SHA-256 {}",
            args.to.display(),
            flashed.bytes,
            flashed.written,
            flashed.sha256
        );
    }
    Ok(())
}

/// Refuses what would not boot, and what must not be shipped.
fn check_image(invocation: &Invocation, args: &FlashArgs) -> Result<()> {
    let image = image::show_image(&args.image)?;
    let chain = image::verify_image(&args.image, None, None)?;
    if !chain.is_sound() {
        bail!(
            "{}: its boot loader would not start it; `{program} image verify` says why, and an \
             unsigned one wants `{program} image sign`",
            args.image.display(),
            program = invocation.program
        );
    }
    if image.development && !args.even_with_development_keys {
        bail!(
            "{}: is a development image, whose keys everybody has; build it with `image build \
             --production`, or say --even-with-development-keys",
            args.image.display()
        );
    }
    // The builder puts it there for boards with a ROM, and `verify` has taken it from there.
    let rom = build::rom_path(&args.image);
    if rom.exists() {
        eprintln!(
            "board {} starts from a ROM: {} must get into it by other means",
            image.board,
            rom.display()
        );
    }
    Ok(())
}

/// Refuses to write the image over itself, or over what it is read from: it would be compared with itself.
fn refuse_itself(args: &FlashArgs, disk: Option<&Disk>) -> Result<()> {
    let (path, image) = (args.to.display(), args.image.display());
    if destination::is_same(&args.image, &args.to) {
        bail!("{path}: is the image itself; name a card, or another file");
    }
    if destination::is_same(&build::rom_path(&args.image), &args.to) {
        bail!("{path}: is the boot loader of {image}; name a card, or another file");
    }
    let Some(disk) = disk else { return Ok(()) };
    if let Some(backing) = disk.backing.iter().find(|file| destination::is_same(file, &args.image))
    {
        bail!("{path}: is the image itself, {}; name a card, or a file", backing.display());
    }
    if let Some(point) = &disk.holds_image {
        bail!("{path}: {image} lies on it (at {point}); copy the image to another disk first");
    }
    Ok(())
}

/// Refuses disks that hardly anybody means, and those that cannot take the image.
fn refuse(disk: &Disk, args: &FlashArgs, image_bytes: u64) -> Result<()> {
    let path = args.to.display();
    if disk.read_only {
        bail!(
            "{path}: is write-protected; slide the lock of the card, or of its adapter, the other way. \
             Nothing was written"
        );
    }
    if disk.bytes < image_bytes {
        let (path, room) = (args.to.clone(), disk.bytes);
        return Err(FlashError::TooSmall { path, room, needed: image_bytes }.into());
    }
    if !disk.system.is_empty() && !args.even_if_it_is_a_system_disk {
        bail!(
            "{path}: this computer runs from it ({}); --even-if-it-is-a-system-disk writes to it all \
             the same",
            disk.system.join(", ")
        );
    }
    if !disk.mounted.is_empty() && !args.even_if_mounted {
        bail!(
            "{path}: is in use ({}); unmount it, or say --even-if-mounted",
            disk.mounted.join(", ")
        );
    }
    if !disk.removable && !args.even_if_not_removable {
        bail!(
            "{path}: is no card: it cannot be taken out of this computer; --even-if-not-removable \
             writes to it all the same"
        );
    }
    Ok(())
}

/// The former content of the place that the image is written to.
#[derive(Debug)]
enum Lost {
    /// A card.
    Disk(Disk),
    /// No file, or an empty one.
    Nothing,
    /// A file that holds an image, or what an earlier attempt has left of one.
    Image,
    /// A file of so many bytes that hold something else.
    OtherFile(u64),
}

impl Lost {
    /// Looks at `path`, before anything is made there.
    fn at(path: &Path, disk: Option<Disk>) -> Self {
        if let Some(disk) = disk {
            return Self::Disk(disk);
        }
        let Ok(found) = std::fs::metadata(path) else { return Self::Nothing };
        // A file of holes alone, as `truncate` makes it for a card.
        if found.len() == 0 || (found.blocks() == 0 && found.len() > 1 << 20) {
            return Self::Nothing;
        }
        let is_image = || show::read_boot_state(path).is_ok();
        let unfinished =
            || image_disk::read_boot_loader(path).is_ok_and(|start| flash::is_unfinished(&start));
        if is_image() || unfinished() { Self::Image } else { Self::OtherFile(found.len()) }
    }
}

/// Shows what will be erased; asks, where there is somebody to answer.
fn say_what_is_lost(args: &FlashArgs, lost: &Lost) -> Result<()> {
    let path = args.to.display();
    match lost {
        Lost::Nothing => return Ok(()),
        Lost::Image => {
            eprintln!("{path}: an image, which is replaced");
            return Ok(());
        }
        Lost::OtherFile(bytes) => {
            eprintln!(
                "{path}: a file of {bytes} bytes that is no Holdfast image. All of it is erased"
            );
        }
        Lost::Disk(disk) => {
            let mib = disk.bytes / 1_048_576;
            eprintln!("{path}: {}, {mib} MiB. All of this is erased:", disk.model);
            if disk.partitions.is_empty() {
                eprintln!("  no partitions");
            }
            for (name, bytes) in &disk.partitions {
                eprintln!("  {name}: {} MiB", bytes / 1_048_576);
            }
        }
    }
    if args.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        bail!("{path}: nobody is there to be asked; --yes erases it");
    }
    eprint!("Type {path} to erase it: ");
    std::io::stderr().flush().context("cannot write to standard error")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    if Path::new(answer.trim()) != args.to {
        bail!("{path}: left as it was");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_images::disk::{ALIGN_BYTES, Layout, Partition};
    use std::fs::{self, File};

    #[test]
    fn a_file_that_is_no_image_is_told_from_one_that_may_be_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["empty", "holes", "letter", "image"] {
            File::create(at(name)).unwrap();
        }
        let sized = |name: &str| File::options().read(true).write(true).open(at(name)).unwrap();
        sized("holes").set_len(64 << 20).unwrap();
        fs::write(at("letter"), "Dear all,").unwrap();
        let mut image = sized("image");
        image.set_len(16 << 20).unwrap();
        let partition =
            Partition { name: "bootstate".to_owned(), start: ALIGN_BYTES, length: 2 * ALIGN_BYTES };
        let layout = Layout { length: 16 << 20, entry_array: 2016, partitions: vec![partition] };
        layout.write_tables(&mut image, b"x").unwrap();
        for name in ["none", "empty", "holes"] {
            assert!(matches!(Lost::at(&at(name), None), Lost::Nothing), "{name}");
        }
        assert!(!at("none").exists());
        assert!(matches!(Lost::at(&at("image"), None), Lost::Image));
        assert!(matches!(Lost::at(&at("letter"), None), Lost::OtherFile(9)));
    }
}
