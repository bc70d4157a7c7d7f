//! What is, and is not, in the shipped image. Nothing is booted.

use crate::harness::artefacts::Artefacts;
use crate::harness::suite::{Suite, check, checks};
use anyhow::{Result, ensure};
use holdfast_images::root::EntryKind;
use holdfast_images::show::{self, Image};

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    let path = move || artefacts.image("hello");
    suite.share(
        move || Ok(show::show(&path())?),
        checks![
            the_image_has_no_shell_and_no_interpreter,
            the_image_has_no_setuid_file_no_link_and_no_device,
            the_image_has_no_accounts,
            shipped_images_have_no_probe,
            only_root_owns_files_and_nobody_may_write_them,
            a_slot_has_at_least_twice_the_room_it_needs,
            a_slot_is_small_enough_for_its_board
        ],
    );
    check!(suite, a_slot_with_update_agents_and_no_service_is_small_enough(artefacts));
}

fn the_image_has_no_shell_and_no_interpreter(image: &mut Image) -> Result<()> {
    const SHELLS: [&str; 14] = [
        "sh", "bash", "dash", "ash", "busybox", "toybox", "zsh", "python", "python3", "perl",
        "lua", "awk", "sed", "env",
    ];
    for file in &image.files {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        ensure!(!SHELLS.contains(&name), "{} is a shell or an interpreter", file.path);
        ensure!(!file.script, "{} is a script", file.path);
        let executable = file.kind == EntryKind::File && file.mode & 0o111 != 0;
        ensure!(!executable || file.elf, "{} is executable, but no ELF program", file.path);
    }
    // Everything that can run is known by name.
    let expected = ["/sbin/init", "/usr/lib/holdfast/services/admission/admission"];
    ensure!(image.elf_files == expected, "programs: {:?}", image.elf_files);
    Ok(())
}

fn the_image_has_no_setuid_file_no_link_and_no_device(image: &mut Image) -> Result<()> {
    for file in &image.files {
        ensure!(file.mode & 0o7000 == 0, "{} has mode {:o}", file.path, file.mode);
        let plain = matches!(file.kind, EntryKind::File | EntryKind::Directory);
        ensure!(plain, "{} is neither file nor directory", file.path);
    }
    Ok(())
}

fn the_image_has_no_accounts(image: &mut Image) -> Result<()> {
    for file in &image.files {
        for account in ["passwd", "shadow", "group", "login", "getty", "su", "sudo", "sshd"] {
            ensure!(!file.path.ends_with(&format!("/{account}")), "{} is there", file.path);
        }
    }
    Ok(())
}

fn shipped_images_have_no_probe(image: &mut Image) -> Result<()> {
    ensure!(image.components == ["hello"], "components: {:?}", image.components);
    ensure!(!image.files.iter().any(|file| file.path.contains("probe")), "there is a probe");
    Ok(())
}

fn only_root_owns_files_and_nobody_may_write_them(image: &mut Image) -> Result<()> {
    for file in &image.files {
        ensure!((file.uid, file.gid) == (0, 0), "{} belongs to {}", file.path, file.uid);
        ensure!(file.mode & 0o022 == 0, "{} has mode {:o}", file.path, file.mode);
    }
    Ok(())
}

fn a_slot_has_at_least_twice_the_room_it_needs(image: &mut Image) -> Result<()> {
    let room = |name: &str| {
        let found = image.partitions.iter().find(|partition| partition.name == name);
        found.map_or(0, |partition| partition.length)
    };
    let root = u64::try_from(image.root_bytes)?;
    let boot = u64::try_from(image.slot_bytes)?.saturating_sub(root);
    for slot in ["a", "b"] {
        let (boot_room, root_room) = (room(&format!("boot-{slot}")), room(&format!("root-{slot}")));
        ensure!(boot_room / 2 >= boot, "boot-{slot} holds {boot_room}, needs 2 * {boot}");
        ensure!(root_room / 2 >= root, "root-{slot} holds {root_room}, needs 2 * {root}");
    }
    Ok(())
}

fn a_slot_is_small_enough_for_its_board(image: &mut Image) -> Result<()> {
    has_small_slot(image)
}

/// Network and update agents are in it, and nothing that is for a Security Service.
fn a_slot_with_update_agents_and_no_service_is_small_enough(artefacts: &Artefacts) -> Result<()> {
    has_small_slot(&show::show(&artefacts.image("update"))?)
}

fn has_small_slot(image: &Image) -> Result<()> {
    // A board's kernel has more drivers than qemu-virt's.
    let most = if image.board == "qemu-virt" { 4_352 << 10 } else { 4_608 << 10 };
    ensure!(image.slot_bytes <= most, "the slot has {} bytes, more than {most}", image.slot_bytes);
    Ok(())
}
