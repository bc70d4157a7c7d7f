//! A device whose software is damaged reboots; it never runs it, and never hangs.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::BOOT;
use crate::harness::scratch::Scratch;
use crate::harness::suite::{Suite, check};
use anyhow::{Context, Result, ensure};
use holdfast_images::root::Root;
use holdfast_images::{show, variant};
use holdfast_qemu::machine::Machine;
use object::{Object, ObjectSegment, ObjectSymbol};
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    let image = move || artefacts.image("hello");
    check!(suite, a_flipped_byte_in_the_root_file_system_reboots(&image()));
    check!(suite, a_damaged_component_list_reboots(artefacts, &image()));
    check!(suite, a_panicking_init_reboots(artefacts, &image()));
    check!(suite, a_killed_init_reboots(artefacts, &image()));
}

fn a_damaged_component_list_reboots(artefacts: &Artefacts, image: &Path) -> Result<()> {
    let damage = |root: &mut Root| root.add("etc/holdfast/components", vec![0xff; 64], false);
    let last_words = "the component list in /etc/holdfast/components is damaged";
    reboots_with(artefacts, image, damage, last_words)
}

fn a_panicking_init_reboots(artefacts: &Artefacts, image: &Path) -> Result<()> {
    let program = fs::read(artefacts.programs.join("panicking-init"))?;
    let replace = |root: &mut Root| root.add("sbin/init", program, true);
    reboots_with(artefacts, image, replace, "index out of bounds")
}

fn a_killed_init_reboots(artefacts: &Artefacts, image: &Path) -> Result<()> {
    let init = patched_init(artefacts, ILLEGAL)?;
    let replace = |root: &mut Root| root.add("sbin/init", init, true);
    let last_words = "Kernel panic - not syncing: Attempted to kill init!";
    reboots_with(artefacts, image, replace, last_words)
}

/// Boots a variant that must say `last_words` and then reset the machine by itself.
fn reboots_with(
    artefacts: &Artefacts,
    image: &Path,
    change: impl FnOnce(&mut Root),
    last_words: &str,
) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let variant = directory.path().join("variant.img");
    variant::with_root(image, &variant, &artefacts.signer()?, change)?;
    let mut guest = Machine::new(&variant, 64).start(None)?;
    guest.wait(&regex_of(last_words), BOOT)?;
    guest.wait_reset(BOOT)?;
    // And it comes up to the same point again: a reboot, not a halt.
    guest.wait(&regex_of(last_words), BOOT)?;
    Ok(())
}

fn regex_of(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_alphanumeric() { c.to_string() } else { format!("[{c}]") })
        .collect()
}

fn a_flipped_byte_in_the_root_file_system_reboots(image: &Path) -> Result<()> {
    let damaged = Scratch::of(image)?;
    let (mut file, root) = damaged.partition("root-a")?;
    // In the middle of the data, where init's program lies: the kernel reads it, and stops.
    let (_, blocks) = show::verity_table(&show::read_boot(image)?.command_line).context("table")?;
    let at = root.start.saturating_add(u64::try_from(blocks)?.saturating_mul(2048));
    let mut byte = [0];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut byte)?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(&[byte[0] ^ 1])?;
    drop(file);
    let mut guest = damaged.start()?;
    guest.wait_reset(BOOT)?;
    let text = guest.console.text();
    ensure!(!text.contains("heartbeat"), "it went on:\n{}", guest.console.tail());
    ensure!(
        text.contains("dm-verity device corrupted") || text.contains("Restarting system"),
        "{}",
        guest.console.tail()
    );
    Ok(())
}

/// Instructions as Thumb and as ARM code.
pub(crate) type Instructions = [&'static [u8]; 2];
/// `udf #0`: the kernel kills whoever comes upon it.
pub(crate) const ILLEGAL: Instructions = [&[0x00, 0xde], &[0xf0, 0x00, 0xf0, 0xe7]];
/// `pause` again and again: it sleeps for good, since init blocks every signal that it is sent.
pub(crate) const ASLEEP: Instructions = [
    // mov r7, #29; svc #0; and back to the first.
    &[0x1d, 0x27, 0x00, 0xdf, 0xfc, 0xe7],
    &[0x1d, 0x70, 0xa0, 0xe3, 0x00, 0x00, 0x00, 0xef, 0xfc, 0xff, 0xff, 0xea],
];

/// The init of `hello`, which comes upon other instructions once it supervises its components.
pub(crate) fn patched_init(artefacts: &Artefacts, instructions: Instructions) -> Result<Vec<u8>> {
    let data = show::read_root(&artefacts.image("hello"))?;
    let mut init = holdfast_images::root::read_file(&data, "/sbin/init")?;
    let symbols = fs::read(artefacts.images.join("hello.symbols/init"))?;
    patch(&mut init, &symbols, instructions)?;
    Ok(init)
}

fn patch(init: &mut [u8], symbols: &[u8], instructions: Instructions) -> Result<()> {
    // `channel::hear`, as it is mangled: called in the loop, and not before.
    const FUNCTION: &str = "7channel4hear";
    let elf = object::File::parse(symbols)?;
    let symbol = elf
        .symbols()
        .find(|symbol| symbol.name().is_ok_and(|name| name.contains(FUNCTION)))
        .with_context(|| format!("init has no function {FUNCTION}"))?;
    // Bit 0 marks Thumb code.
    let (address, thumb) = (symbol.address() & !1, symbol.address() & 1 == 1);
    let segment = elf
        .segments()
        .find(|s| (s.address()..s.address().saturating_add(s.size())).contains(&address))
        .context("the function lies in no segment")?;
    let offset = segment.file_range().0.saturating_add(address.saturating_sub(segment.address()));
    let [as_thumb, as_arm] = instructions;
    let instructions = if thumb { as_thumb } else { as_arm };
    let offset = usize::try_from(offset)?;
    let end = offset.saturating_add(instructions.len());
    init.get_mut(offset..end).context("outside init")?.copy_from_slice(instructions);
    Ok(())
}
