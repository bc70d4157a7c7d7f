//! The boot loader starts what one of its keys has signed, for its board, and nothing else.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::BOOT;
use crate::harness::scratch::Scratch;
use crate::harness::suite::{Suite, check};
use anyhow::{Context, Result, ensure};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use holdfast_images::boot::{self, BootSigningKey, signature};
use holdfast_images::boot_loader::script::halt;
use holdfast_images::{build, sha256, show};
use holdfast_lifecycle::slots::{self, BootState, COPY_BYTES, Slot};
use holdfast_qemu::machine::{Guest, Machine, Rom};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What the boot loader prints when it hands over.
const HANDS_OVER: &str = "Starting kernel";

/// What it says of a configuration that none of its keys has signed.
const NO_KEY: &str = "Failed to verify 'any' of the required signature(s)";
/// What it says of an image that is not the signed one.
const BAD_HASH: &str = "Bad hash value";
/// What the boot script says when U-Boot does not hand over.
const DOES_NOT_VERIFY: &str = "holdfast: slot a does not verify";
/// What it says of a configuration for another board than its own.
const OTHER_BOARD: &str = "holdfast: for another board";

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    check!(suite, a_slot_that_a_key_has_signed_boots(artefacts));
    check!(suite, a_slot_signed_with_the_next_key_boots(artefacts));
    check!(suite, a_slot_signed_with_the_recovery_key_boots(artefacts));
    check!(suite, a_key_that_was_rotated_out_boots_nothing(artefacts));
    check!(suite, an_unsigned_slot_never_starts(artefacts));
    check!(suite, a_slot_without_signature_node_never_starts(artefacts));
    check!(suite, a_slot_signed_by_an_unknown_key_never_starts(artefacts));
    check!(suite, a_changed_kernel_never_starts(artefacts));
    check!(suite, a_changed_kernel_with_its_hash_never_starts(artefacts));
    check!(suite, a_changed_command_line_never_starts(artefacts));
    check!(suite, a_changed_load_address_never_starts(artefacts));
    check!(suite, a_truncated_slot_never_starts(artefacts));
    check!(suite, a_slot_of_a_length_beyond_memory_never_starts(artefacts));
    check!(suite, a_slot_for_another_board_never_starts(artefacts));
    check!(suite, a_slot_whose_board_is_a_command_never_starts(artefacts));
    check!(
        suite,
        a_kernel_of_one_release_with_the_configuration_of_another_never_starts(artefacts)
    );
    check!(suite, a_slot_with_a_copy_of_its_images_never_starts(artefacts));
    check!(suite, a_bare_kernel_never_starts(artefacts));
    check!(suite, an_old_style_image_never_starts(artefacts));
    check!(suite, nothing_that_is_typed_reaches_the_boot_loader(&shipped(artefacts)));
    check!(suite, a_boot_state_with_commands_in_it_is_no_boot_state(&shipped(artefacts)));
    check!(suite, the_rom_cannot_be_written(&shipped(artefacts)));
    check!(suite, u_boots_own_bytes_of_the_boot_state_are_ours(&shipped(artefacts)));
}

/// The image whose slot is changed.
fn shipped(artefacts: &Artefacts) -> PathBuf {
    artefacts.image("hello")
}

/// The FIT of its slot.
fn shipped_fit(artefacts: &Artefacts) -> Result<Vec<u8>> {
    read_fit(&shipped(artefacts))
}

pub(super) fn read_fit(image: &Path) -> Result<Vec<u8>> {
    let mut bytes = show::read_partition(image, "boot-a")?;
    bytes.truncate(signature::fit_length(&bytes).context("no FIT")?);
    Ok(bytes)
}

pub(super) fn write_fit(scratch: &Scratch, fit: &[u8]) -> Result<()> {
    let (mut file, partition) = scratch.partition("boot-a")?;
    Ok(partition.replace(&mut file, scratch.path(), "a FIT", fit)?)
}

/// The boot loader must come to a halt over both slots, and hand over to nothing before.
fn refused(artefacts: &Artefacts, fit: &[u8], because: &str) -> Result<()> {
    let scratch = Scratch::of(&shipped(artefacts))?;
    write_fit(&scratch, fit)?;
    let mut guest = scratch.start()?;
    halts(&mut guest, halt::EXHAUSTED)?;
    let text = guest.console.text();
    for line in [because, DOES_NOT_VERIFY] {
        ensure!(text.contains(line), "no `{line}`:\n{}", guest.console.tail());
    }
    ensure!(!text.contains(HANDS_OVER), "it started:\n{}", guest.console.tail());
    Ok(())
}

fn halts(guest: &mut Guest, code: u32) -> Result<()> {
    guest.wait(&format!("holdfast: halted, code {code}\\b"), BOOT)?;
    Ok(())
}

/// Both configurations of the shipped FIT, signed with the key of that name.
fn boots_signed_with(artefacts: &Artefacts, key: &str) -> Result<()> {
    let scratch = Scratch::of(&shipped(artefacts))?;
    let mut fit = shipped_fit(artefacts)?;
    boot::sign(&mut fit, &artefacts.boot_key(key)?)?;
    write_fit(&scratch, &fit)?;
    scratch.start()?.wait("hello: heartbeat 1", BOOT)?;
    Ok(())
}

fn a_slot_that_a_key_has_signed_boots(artefacts: &Artefacts) -> Result<()> {
    boots_signed_with(artefacts, "current")
}

fn a_slot_signed_with_the_next_key_boots(artefacts: &Artefacts) -> Result<()> {
    boots_signed_with(artefacts, "next")
}

fn a_slot_signed_with_the_recovery_key_boots(artefacts: &Artefacts) -> Result<()> {
    boots_signed_with(artefacts, "recovery")
}

/// A boot loader whose keys are next, recovery and a new one refuses what the former current key has
/// signed, and takes what the next one has.
fn a_key_that_was_rotated_out_boots_nothing(artefacts: &Artefacts) -> Result<()> {
    let scratch = Scratch::of(&shipped(artefacts))?;
    let keys = ["next", "recovery", "recovery"];
    let keys = keys.map(|name| artefacts.boot_key(name).map(|key| key.public()));
    let [current, next, recovery] = keys;
    let keys = [current?, next?, recovery?];
    scratch.replace_boot_loader(scratch.boot_loader_with(&artefacts.board()?, &keys)?)?;
    let mut guest = scratch.start()?;
    halts(&mut guest, halt::EXHAUSTED)?;
    ensure!(!guest.console.text().contains(HANDS_OVER), "{}", guest.console.tail());
    let mut fit = shipped_fit(artefacts)?;
    boot::sign(&mut fit, &artefacts.boot_key("next")?)?;
    write_fit(&scratch, &fit)?;
    scratch.start()?.wait("hello: heartbeat 1", BOOT)?;
    Ok(())
}

pub(super) fn parse(fit: &[u8]) -> Result<DeviceTree> {
    let tree = Fdt::new(fit).map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(DeviceTree::from_fdt(&tree))
}

pub(super) fn node<'a>(tree: &'a mut DeviceTree, path: &str) -> Result<&'a mut DeviceTreeNode> {
    tree.find_node_mut(path).with_context(|| format!("no {path}"))
}

pub(super) fn set(node: &mut DeviceTreeNode, name: &str, value: Vec<u8>) -> Result<()> {
    node.property_mut(name).with_context(|| format!("no {name}"))?.set_value(value);
    Ok(())
}

pub(super) fn value(node: &mut DeviceTreeNode, name: &str) -> Result<Vec<u8>> {
    use dtoolkit::Property;
    let property = node.property_mut(name).with_context(|| format!("no {name}"))?;
    Ok((&*property).value().to_vec())
}

/// Flips one bit in the middle.
pub(super) fn flipped(mut bytes: Vec<u8>) -> Vec<u8> {
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    bytes
}

fn an_unsigned_slot_never_starts(artefacts: &Artefacts) -> Result<()> {
    let mut tree = parse(&shipped_fit(artefacts)?)?;
    for slot in Slot::ALL {
        let path = format!("/configurations/slot-{}/signature-1", slot.letter());
        set(node(&mut tree, &path)?, "value", vec![0; boot::KEY_BYTES])?;
    }
    refused(artefacts, &tree.to_dtb(), NO_KEY)
}

fn a_slot_without_signature_node_never_starts(artefacts: &Artefacts) -> Result<()> {
    let mut tree = parse(&shipped_fit(artefacts)?)?;
    for slot in Slot::ALL {
        let path = format!("/configurations/slot-{}", slot.letter());
        node(&mut tree, &path)?.remove_child("signature-1").context("no signature")?;
    }
    refused(artefacts, &tree.to_dtb(), NO_KEY)
}

fn a_slot_signed_by_an_unknown_key_never_starts(artefacts: &Artefacts) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("key.pem");
    let made = std::process::Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072", "-out"])
        .arg(&path)
        .output()?;
    ensure!(made.status.success(), "{made:?}");
    let mut fit = shipped_fit(artefacts)?;
    boot::sign(&mut fit, &BootSigningKey::load(&path)?)?;
    refused(artefacts, &fit, NO_KEY)
}

/// With another kernel, below the hash of the one that was there.
fn with_changed_kernel(fit: &[u8]) -> Result<Vec<u8>> {
    let mut tree = parse(fit)?;
    let kernel = node(&mut tree, "/images/kernel")?;
    let changed = flipped(value(kernel, "data")?);
    set(kernel, "data", changed)?;
    Ok(tree.to_dtb())
}

fn a_changed_kernel_never_starts(artefacts: &Artefacts) -> Result<()> {
    refused(artefacts, &with_changed_kernel(&shipped_fit(artefacts)?)?, BAD_HASH)
}

fn a_changed_kernel_with_its_hash_never_starts(artefacts: &Artefacts) -> Result<()> {
    let fit = with_changed_kernel(&shipped_fit(artefacts)?)?;
    let mut tree = parse(&fit)?;
    let digest = sha256(&[&value(node(&mut tree, "/images/kernel")?, "data")?]);
    set(node(&mut tree, "/images/kernel/hash-1")?, "value", digest.to_vec())?;
    refused(artefacts, &tree.to_dtb(), NO_KEY)
}

fn a_changed_command_line_never_starts(artefacts: &Artefacts) -> Result<()> {
    let mut tree = parse(&shipped_fit(artefacts)?)?;
    for slot in Slot::ALL {
        let path = format!("/images/fdt-{}", slot.letter());
        let device_tree = value(node(&mut tree, &path)?, "data")?;
        let mut inner = parse(&device_tree)?;
        let chosen = node(&mut inner, "/chosen")?;
        let line = String::from_utf8(value(chosen, "bootargs")?)?;
        let line = line.replace("restart_on_corruption", "ignore_corruption    ");
        set(chosen, "bootargs", line.into_bytes())?;
        let device_tree = inner.to_dtb();
        let digest = sha256(&[&device_tree]);
        set(node(&mut tree, &path)?, "data", device_tree)?;
        set(node(&mut tree, &format!("{path}/hash-1"))?, "value", digest.to_vec())?;
    }
    refused(artefacts, &tree.to_dtb(), NO_KEY)
}

fn a_changed_load_address_never_starts(artefacts: &Artefacts) -> Result<()> {
    let mut tree = parse(&shipped_fit(artefacts)?)?;
    set(node(&mut tree, "/images/kernel")?, "load", 0x4080_1000_u32.to_be_bytes().to_vec())?;
    refused(artefacts, &tree.to_dtb(), NO_KEY)
}

fn a_truncated_slot_never_starts(artefacts: &Artefacts) -> Result<()> {
    let mut fit = shipped_fit(artefacts)?;
    fit.truncate(fit.len() / 2);
    refused(artefacts, &fit, DOES_NOT_VERIFY)
}

/// The length is compared as a signed number in the boot loader's shell.
fn a_slot_of_a_length_beyond_memory_never_starts(artefacts: &Artefacts) -> Result<()> {
    let mut fit = shipped_fit(artefacts)?;
    let length = fit.get_mut(4..8).context("no header")?;
    length.copy_from_slice(&0x8000_0200_u32.to_be_bytes());
    refused(artefacts, &fit, DOES_NOT_VERIFY)
}

/// As `make` changes it, signed again with the right key.
fn signed_again(
    artefacts: &Artefacts,
    make: impl Fn(&mut DeviceTreeNode) -> Result<()>,
) -> Result<Vec<u8>> {
    let mut tree = parse(&shipped_fit(artefacts)?)?;
    for slot in Slot::ALL {
        make(node(&mut tree, &format!("/configurations/slot-{}", slot.letter()))?)?;
    }
    let mut fit = tree.to_dtb();
    boot::sign(&mut fit, &artefacts.boot_key("current")?)?;
    Ok(fit)
}

fn a_slot_for_another_board_never_starts(artefacts: &Artefacts) -> Result<()> {
    let fit = signed_again(artefacts, |configuration| {
        set(configuration, "compatible", b"holdfast,nobodys-board\0".to_vec())
    })?;
    refused(artefacts, &fit, OTHER_BOARD)
}

/// Where a value is expanded, U-Boot's shell takes byte 4 for the end of that value.
fn a_slot_whose_board_is_a_command_never_starts(artefacts: &Artefacts) -> Result<()> {
    let mut tree = parse(&shipped_fit(artefacts)?)?;
    let configuration = node(&mut tree, "/configurations/slot-a")?;
    set(configuration, "compatible", b"\x04\"; echo Starting kernel; \"\0".to_vec())?;
    refused(artefacts, &tree.to_dtb(), OTHER_BOARD)
}

/// The kernel of the shipped release below the configuration of a newer one.
fn a_kernel_of_one_release_with_the_configuration_of_another_never_starts(
    artefacts: &Artefacts,
) -> Result<()> {
    let fit = shipped_fit(artefacts)?;
    let mut newer = parse(&with_changed_kernel(&fit)?)?;
    let digest = sha256(&[&value(node(&mut newer, "/images/kernel")?, "data")?]);
    set(node(&mut newer, "/images/kernel/hash-1")?, "value", digest.to_vec())?;
    let mut newer = newer.to_dtb();
    boot::sign(&mut newer, &artefacts.boot_key("current")?)?;
    let mut mixed = parse(&newer)?;
    let mut older = parse(&fit)?;
    let kernel = node(&mut older, "/images")?.remove_child("kernel").context("no kernel")?;
    let images = node(&mut mixed, "/images")?;
    let others: Vec<DeviceTreeNode> =
        ["kernel", "fdt-a", "fdt-b"].iter().filter_map(|name| images.remove_child(name)).collect();
    images.add_child(kernel);
    others.into_iter().skip(1).for_each(|other| images.add_child(other));
    refused(artefacts, &mixed.to_dtb(), NO_KEY)
}

/// CVE-2026-46728: a copy of the images, which the signature still fits, is named in `hashed-nodes`,
/// and another kernel lies where the configuration looks for it.
fn a_slot_with_a_copy_of_its_images_never_starts(artefacts: &Artefacts) -> Result<()> {
    const NODES: [&str; 6] = [
        "/",
        "/configurations/slot-a",
        "/images/images/kernel",
        "/images/images/kernel/hash-1",
        "/images/images/fdt-a",
        "/images/images/fdt-a/hash-1",
    ];
    let fit = shipped_fit(artefacts)?;
    let signed_bytes = signature::bytes_to_sign(&fit, "slot-a")?;
    let mut tree = parse(&fit)?;
    let images = node(&mut tree, "/images")?;
    let mut copy = images.clone();
    copy.remove_child("fdt-b").context("no fdt-b")?;
    let changed = flipped(value(node(&mut tree, "/images/kernel")?, "data")?);
    let digest = sha256(&[&changed]);
    set(node(&mut tree, "/images/kernel")?, "data", changed)?;
    set(node(&mut tree, "/images/kernel/hash-1")?, "value", digest.to_vec())?;
    node(&mut tree, "/images")?.add_child(copy);
    let names = NODES.map(|name| format!("{name}\0")).concat();
    let signature = node(&mut tree, "/configurations/slot-a/signature-1")?;
    signature.add_property(DeviceTreeProperty::new_unchecked("hashed-nodes", names.into_bytes()));
    let fit = tree.to_dtb();
    // Whoever believes `hashed-nodes` finds the very bytes that were signed.
    let believed = signature::bytes_of_nodes(&fit, "slot-a", &NODES)?;
    ensure!(believed == signed_bytes, "this is not the attack it wants to be");
    refused(artefacts, &fit, NO_KEY)
}

fn a_bare_kernel_never_starts(artefacts: &Artefacts) -> Result<()> {
    let kernel = boot::read(&shipped_fit(artefacts)?, Slot::A)?.kernel;
    refused(artefacts, &kernel, DOES_NOT_VERIFY)
}

/// A legacy image: a header of 64 bytes with CRCs, and the kernel.
fn an_old_style_image_never_starts(artefacts: &Artefacts) -> Result<()> {
    let kernel = boot::read(&shipped_fit(artefacts)?, Slot::A)?.kernel;
    let address = 0x4080_0000_u32.to_be_bytes();
    let length = u32::try_from(kernel.len())?.to_be_bytes();
    let mut header = [
        &0x2705_1956_u32.to_be_bytes()[..],
        &[0; 8],
        &length,
        &address,
        &address,
        &slots::checksum(&kernel).to_be_bytes(),
        // Linux, ARM, kernel, not compressed.
        &[5, 2, 2, 0],
        &[0; 32],
    ]
    .concat();
    let sum = slots::checksum(&header).to_be_bytes();
    header.get_mut(4..8).context("no room")?.copy_from_slice(&sum);
    refused(artefacts, &[header, kernel].concat(), DOES_NOT_VERIFY)
}

/// Keys held down from power-on: the boot goes its way, and where it halts there is no prompt.
fn nothing_that_is_typed_reaches_the_boot_loader(image: &Path) -> Result<()> {
    let keys = b"\x03\x03\r\nq \x1b[A\x04help\nprintenv\n\x03".repeat(64);
    let mut guest = Machine::new(image, 64).start(None)?;
    for _ in 0..16 {
        guest.press(&keys)?;
    }
    guest.wait("hello: heartbeat 1", BOOT)?;
    let scratch = Scratch::of(image)?;
    write_fit(&scratch, &[0; 64])?;
    let mut guest = scratch.start()?;
    for _ in 0..16 {
        guest.press(&keys)?;
    }
    halts(&mut guest, halt::EXHAUSTED)?;
    guest.press(&keys)?;
    let end = "halted, code 2: both slots are exhausted";
    std::thread::sleep(guest.scaled(std::time::Duration::from_secs(2)));
    let text = guest.console.text();
    ensure!(text.trim_end().ends_with(end), "it says more:\n{}", guest.console.tail());
    ensure!(!text.contains("=> "), "there is a prompt:\n{}", guest.console.tail());
    Ok(())
}

/// Writes the two copies of the boot state.
fn write_copies(scratch: &Scratch, copies: [&[u8; COPY_BYTES]; 2]) -> Result<()> {
    let (mut file, partition) = scratch.partition("bootstate")?;
    for (copy, start) in copies
        .into_iter()
        .zip(slots::copy_offsets(partition.length).map(|at| partition.start.saturating_add(at)))
    {
        file.seek(SeekFrom::Start(start))?;
        file.write_all(copy)?;
    }
    Ok(())
}

/// Values that would run as commands if they were ever expanded, below a valid CRC.
fn a_boot_state_with_commands_in_it_is_no_boot_state(image: &Path) -> Result<()> {
    const TEXTS: [&str; 3] = [
        "good_a=1\0good_b=0\0slot=\x04; echo Starting kernel; \0tries_a=3\0tries_b=0\0",
        "good_a=1\0good_b=0\0slot=a\0tries_a=\x04\"; echo Starting kernel; \"\0tries_b=0\0",
        "good_a=1\0good_b=0\0slot=a\0tries_a=3\0tries_b=0\0bootcmd=echo Starting kernel\0verify=n\0",
    ];
    for text in TEXTS {
        let scratch = Scratch::of(image)?;
        let bytes = with_crc(text)?;
        write_copies(&scratch, [&bytes, &bytes])?;
        write_fit(&scratch, &[0; 64])?;
        let mut guest = scratch.start()?;
        halts(&mut guest, halt::EXHAUSTED)?;
        let said = guest.console.text();
        ensure!(said.contains("holdfast: no valid boot state"), "{}", guest.console.tail());
        ensure!(!said.contains(HANDS_OVER), "{text:?} ran:\n{}", guest.console.tail());
    }
    Ok(())
}

/// A copy of the boot state with these variables and the CRC that fits.
fn with_crc(text: &str) -> Result<[u8; COPY_BYTES]> {
    let mut bytes = [0; COPY_BYTES];
    let (head, data) = bytes.split_at_mut(5);
    data.get_mut(..text.len()).context("too long")?.copy_from_slice(text.as_bytes());
    let crc = slots::checksum(data).to_le_bytes();
    head.get_mut(..4).context("no head")?.copy_from_slice(&crc);
    Ok(bytes)
}

/// The guest runs, as root and with the flash's address in reach, and the file stays as it was.
fn the_rom_cannot_be_written(image: &Path) -> Result<()> {
    let scratch = Scratch::of(image)?;
    let rom = build::rom_path(scratch.path());
    let before = fs::read(&rom)?;
    let machine = Machine { rom: Rom::Drive, ..Machine::new(scratch.path(), 64) };
    let mut guest = machine.start(None)?;
    guest.wait("hello: heartbeat 1", BOOT)?;
    let flash = guest.qmp.execute("query-block", &serde_json::json!({}))?;
    let devices = flash.as_array().context("no list")?;
    let flash = devices.iter().find(|device| device["device"] == "pflash0").context("no flash")?;
    ensure!(flash.pointer("/inserted/ro") == Some(&true.into()), "{flash}");
    ensure!(fs::read(&rom)? == before, "the ROM has changed");
    Ok(())
}

/// What U-Boot saves is byte for byte what our codec writes; the codec's tests keep a copy.
fn u_boots_own_bytes_of_the_boot_state_are_ours(image: &Path) -> Result<()> {
    let scratch = Scratch::of(image)?;
    let mut guest = scratch.start()?;
    guest.wait(HANDS_OVER, BOOT)?;
    let disk = guest.disk();
    let copies = show::read_partition(&disk, "bootstate")?;
    let (first, second) = copies.split_at(copies.len() / 2);
    let (first, second) = (first.get(..COPY_BYTES), second.get(..COPY_BYTES));
    let (_, next) = BootState::factory().choose();
    ensure!(first == Some(&slots::copy(&BootState::factory(), 1)[..]), "the older copy changed");
    ensure!(second == Some(&slots::copy(&next, 2)[..]), "U-Boot wrote {second:?}");
    let kept = include_bytes!("../../../../os/lifecycle/src/slots/u-boot-saved.bin");
    ensure!(second == Some(&kept[..]), "the codec's tests keep other bytes");
    Ok(())
}
