//! What happens when something goes wrong: each row of `docs/fallback.md` is a test on the real boot
//! loader, kernel and init.

use crate::boot::integrity::{ASLEEP, ILLEGAL, patched_init};
use crate::boot::trial::Bench;
use crate::harness::artefacts::Artefacts;
use crate::harness::guest::BOOT;
use crate::harness::packages::hello;
use crate::harness::partitions::debugfs;
use crate::harness::scratch::Scratch;
use crate::harness::stager::{self, Release};
use crate::harness::suite::{Suite, named};
use anyhow::{Context, Result, ensure};
use holdfast_images::boot_loader::script::halt;
use holdfast_images::disk::{Layout, SECTOR_BYTES};
use holdfast_images::{show, variant};
use holdfast_lifecycle::slots::{self, BootState, Phase, Slot, SlotState};
use holdfast_qemu::machine::Machine;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
#[cfg(test)]
use std::path::Path;
use std::process::Command;

/// One thing that goes wrong.
struct Row {
    check: (&'static str, fn(&Bench) -> Result<()>),
    what: &'static str,
    happens: &'static str,
}

/// The rows, in the order of the table.
const ROWS: [Row; 21] = [
    Row {
        check: named!(a_healthy_release_is_committed),
        what: "nothing: a release is staged and healthy",
        happens: "It is booted, and committed once it has been healthy for its time; the former slot stays good.",
    },
    Row {
        check: named!(a_critical_app_that_crashes_uses_up_the_tries),
        what: "a critical component of a new release crashes again and again",
        happens: "After 30 s without a stable run init reboots; after three tries the former slot is booted and committed, and the release is not tried again.",
    },
    Row {
        check: named!(a_critical_app_that_crashes_does_not_cost_a_good_slot),
        what: "a critical component of the committed slot crashes again and again",
        happens: "init reboots after 35 s, each time; the slot keeps its tries, since nothing better is known.",
    },
    Row {
        check: named!(resets_before_health_do_not_cost_a_good_slot),
        what: "something resets the committed slot again and again before it is healthy",
        happens: "It has its tries back before the first app is looked at, so it is booted each time. Only a root that does not verify uses them up.",
    },
    Row {
        check: named!(an_init_that_is_killed_uses_up_the_tries),
        what: "init of a new release is killed by an illegal instruction",
        happens: "The kernel panics and reboots; after three tries the former slot is booted, and says why.",
    },
    Row {
        check: named!(an_init_that_cannot_go_on_uses_up_the_tries),
        what: "init of a new release cannot go on",
        happens: "It reboots by itself; after three tries the former slot is booted, and says why.",
    },
    Row {
        check: named!(an_init_that_panics_uses_up_the_tries),
        what: "init of a new release panics",
        happens: "It says where and reboots by itself; after three tries the former slot is booted, and says why.",
    },
    Row {
        check: named!(a_kernel_that_hangs_is_reset),
        what: "the kernel hangs",
        happens: "The hardware watchdog resets the machine within 15 s; the next boot says so.",
    },
    Row {
        check: named!(an_init_that_hangs_is_reset),
        what: "the watchdog is not petted: init of a new release hangs",
        happens: "The hardware watchdog resets the machine, one try each time; then the former slot is booted.",
    },
    Row {
        check: named!(a_root_that_does_not_verify_uses_up_the_tries),
        what: "a block of a new release's root is damaged",
        happens: "The kernel restarts when it reads the block; after three tries the former slot is booted, and says why.",
    },
    Row {
        check: named!(a_full_data_partition_changes_nothing),
        what: "the `data` partition is full",
        happens: "The device boots, its apps run, and the slot is committed.",
    },
    Row {
        check: named!(a_slot_below_the_floor_is_refused),
        what: "a release with a lower rollback index than what was committed is staged",
        happens: "init refuses it, takes its tries and reboots; the former slot is booted.",
    },
    Row {
        check: named!(both_slots_bad_halt_after_one_last_try_each),
        what: "both slots have used up their tries and boot no more",
        happens: "Each gets one last try, the one that was good first; then the boot loader says `halted, code 2`. Switched off and on, both get one more.",
    },
    Row {
        check: named!(both_copies_of_the_boot_state_bad_boot_slot_a),
        what: "both copies of the boot state are damaged",
        happens: "Slot A is tried, then B, once each; a healthy one is committed and the boot state is whole again.",
    },
    Row {
        check: named!(a_boot_state_that_cannot_be_saved_boots_the_good_slot),
        what: "the boot state cannot be written, and a release is on trial",
        happens: "The boot loader reads back what it wrote, sees it, and boots the slot that is good.",
    },
    Row {
        check: named!(a_lost_state_partition_boots),
        what: "the `state` partition holds something else than a file system",
        happens: "It is kept as it is. The device boots and commits; the rollback floor is lost with it and said.",
    },
    Row {
        check: named!(a_zeroed_state_partition_is_made_anew),
        what: "the `state` partition holds nothing but zeros",
        happens: "It is made anew, and init says so; the rollback floor is lost with it. Apps own their files as before.",
    },
    Row {
        check: named!(a_lost_partition_table_comes_back_from_the_second),
        what: "the first partition table is lost, on a card that is larger than the image",
        happens: "The kernel takes the second one, which init has written to the card's end at its first start; init makes the first one anew, and says so.",
    },
    Row {
        check: named!(without_a_partition_table_the_kernel_restarts),
        what: "both partition tables are lost",
        happens: "The kernel gives the root 20 s to appear, says which device there is not, and reboots; the boot loader halts when the tries are used up.",
    },
    Row {
        check: named!(a_clone_on_a_second_card_is_not_booted),
        what: "another card has the same release, the same labels and the same UUIDs",
        happens: "The kernel takes the root from the controller that the boot loader reads from, at each start.",
    },
    Row {
        check: named!(a_torn_superblock_is_mended),
        what: "a cut tears the superblock of `state`, `apps` or `data` between its two sectors",
        happens: "init gives it the checksum of what is there, and mounts it; nothing is lost.",
    },
];

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    for row in &ROWS {
        let (name, run) = row.check;
        suite.check(name, move || {
            let bench = Bench { artefacts: artefacts.clone(), image: artefacts.image("hello") };
            run(&bench).with_context(|| format!("When: {}. Then: {}", row.what, row.happens))
        });
    }
}

fn a_healthy_release_is_committed(bench: &Bench) -> Result<()> {
    let release = Release::of(&bench.image)?;
    let mut trial = bench.with_trial(&release)?;
    trial.guest.wait("init: status: slot=b phase=trying next=b tries_a=3 tries_b=2 ", BOOT)?;
    let status = trial.committed()?;
    let good = SlotState { tries: 3, good: true };
    let expected = BootState { slot: Slot::B, a: good, b: good };
    ensure!(status.boot_state == Some(expected), "{status:?}");
    ensure!(
        show::read_boot_state(&trial.guest.disk())?.state() == Some(expected),
        "not on the disk"
    );
    ensure!(status.last_reset == "power-on", "{status:?}");
    Ok(())
}

fn a_critical_app_that_crashes_uses_up_the_tries(bench: &Bench) -> Result<()> {
    let release = bench.release(bench.with_crashing_service()?)?;
    let mut trial = bench.with_trial(&release)?;
    trial.fell_back("not healthy: crashing does not stay ready")
}

fn a_critical_app_that_crashes_does_not_cost_a_good_slot(bench: &Bench) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("image.img");
    let signer = bench.artefacts.signer()?;
    variant::with_root(&bench.image, &path, &signer, bench.with_crashing_service()?)?;
    let mut trial = bench.trial(Scratch::of(&path)?)?;
    for _ in 0..4 {
        trial.guest.wait("init: not healthy: crashing does not stay ready", BOOT)?;
        trial.guest.wait_reset(BOOT)?;
    }
    trial.guest.wait("status: slot=a phase=committed next=a tries_a=2 ", BOOT)?;
    Ok(())
}

fn resets_before_health_do_not_cost_a_good_slot(bench: &Bench) -> Result<()> {
    let mut trial = bench.trial(Scratch::of(&bench.image)?)?;
    for _ in 0..=slots::TRIES {
        trial.guest.wait("init: status: slot=a phase=committed next=a tries_a=2 ", BOOT)?;
        trial.guest.wait("init: hello started", BOOT)?;
        let _ = trial.guest.qmp.execute("system_reset", &serde_json::json!({}))?;
    }
    trial.guest.wait("init: status: slot=a phase=committed next=a tries_a=2 ", BOOT)?;
    let text = trial.guest.console.text();
    ensure!(
        !text.contains("init: slot a committed"),
        "it was healthy: {}",
        trial.guest.console.tail()
    );
    Ok(())
}

fn an_init_that_is_killed_uses_up_the_tries(bench: &Bench) -> Result<()> {
    let init = patched_init(&bench.artefacts, ILLEGAL)?;
    let release = bench.release(|root| root.add("sbin/init", init, true))?;
    let mut trial = bench.with_trial(&release)?;
    trial.fell_back("kernel panic: Attempted to kill init!")
}

fn an_init_that_cannot_go_on_uses_up_the_tries(bench: &Bench) -> Result<()> {
    let release =
        bench.release(|root| root.add("etc/holdfast/components", vec![0xff; 64], false))?;
    let mut trial = bench.with_trial(&release)?;
    trial.fell_back("init failed: the component list in /etc/holdfast/components is damaged")
}

fn an_init_that_panics_uses_up_the_tries(bench: &Bench) -> Result<()> {
    let program = fs::read(bench.artefacts.programs.join("panicking-init"))?;
    let release = bench.release(|root| root.add("sbin/init", program, true))?;
    let mut trial = bench.with_trial(&release)?;
    trial.fell_back("init failed: ")
}

fn a_kernel_that_hangs_is_reset(bench: &Bench) -> Result<()> {
    let mut trial = bench.spinning_trial(Scratch::of(&bench.image)?)?;
    trial.committed()?;
    trial.guest.hang_kernel()?;
    trial.guest.wait_reset(BOOT)?;
    trial.guest.wait("init: status: .* last_reset=watchdog", BOOT)?;
    Ok(())
}

fn an_init_that_hangs_is_reset(bench: &Bench) -> Result<()> {
    // Asleep, so that the seconds until the watchdog fires pass in no time on a counted clock.
    let init = patched_init(&bench.artefacts, ASLEEP)?;
    let release = bench.release(|root| root.add("sbin/init", init, true))?;
    let mut trial = bench.with_trial(&release)?;
    trial.guest.wait("init: watchdog armed", BOOT)?;
    trial.fell_back("watchdog")
}

fn a_root_that_does_not_verify_uses_up_the_tries(bench: &Bench) -> Result<()> {
    let mut release = Release::of(&bench.image)?;
    let line = show::read_boot(&bench.image)?.command_line;
    let (_, blocks) = show::verity_table(&line).context("no table")?;
    let middle = release.root.get_mut(blocks.saturating_mul(2048)).context("outside")?;
    *middle ^= 1;
    let mut trial = bench.with_trial(&release)?;
    trial.fell_back("the root file system does not verify")
}

fn a_full_data_partition_changes_nothing(bench: &Bench) -> Result<()> {
    let scratch = Scratch::of(&bench.image)?;
    let (file, partition) = scratch.partition("data")?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("data");
    let mut bytes = vec![0; usize::try_from(partition.length)?];
    file.read_exact_at(&mut bytes, partition.start)?;
    fs::write(&path, &bytes)?;
    let ballast = directory.path().join("ballast");
    fs::write(&ballast, vec![0x55; bytes.len()])?;
    let request = format!("write {} ballast", ballast.display());
    let output = Command::new("/sbin/debugfs").args(["-w", "-R", &request]).arg(&path).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("Could not allocate block"), "it is not full: {said}");
    file.write_all_at(&fs::read(&path)?, partition.start)?;
    let mut trial = bench.trial(scratch)?;
    trial.guest.wait_anywhere("hello: heartbeat 1", BOOT)?;
    trial.committed()?;
    Ok(())
}

fn a_slot_below_the_floor_is_refused(bench: &Bench) -> Result<()> {
    let scratch = Scratch::of(&bench.image)?;
    stager::stage(scratch.path(), Slot::A, &bench.release_with_index(5)?)?;
    let machine = Machine { counted: true, ..Machine::new(scratch.path(), 64) };
    let mut trial = bench.trial(scratch)?;
    let status = trial.committed()?;
    ensure!((status.slot, status.floor) == (Slot::B, 5), "{status:?}");
    // What A holds is below the floor now, and no longer good.
    ensure!(status.boot_state.is_some_and(|state| !state.a.good), "{status:?}");
    // On the very disk, with its floor: an older release again.
    stager::stage(&trial.guest.disk(), Slot::B, &bench.release_with_index(4)?)?;
    let mut trial = trial.start_again(&machine)?;
    trial.guest.wait("its rollback index 4 is below this device's floor 5", BOOT)?;
    trial.guest.wait("init: status: slot=b phase=falling-back ", BOOT)?;
    ensure!(trial.tries_of(Slot::A) == 1, "it was tried more than once");
    let status = trial.committed()?;
    ensure!((status.slot, status.phase) == (Slot::B, Phase::Committed), "{status:?}");
    Ok(())
}

fn both_slots_bad_halt_after_one_last_try_each(bench: &Bench) -> Result<()> {
    let program = fs::read(bench.artefacts.programs.join("panicking-init"))?;
    let bad = bench.release(|root| root.add("sbin/init", program, true))?;
    let scratch = Scratch::of(&bench.image)?;
    for slot in ["a", "b"] {
        for (name, bytes) in [("boot", &bad.boot), ("root", &bad.root)] {
            let (file, partition) = scratch.partition(&format!("{name}-{slot}"))?;
            file.write_all_at(bytes, partition.start)?;
        }
    }
    let mut trial = bench.trial(scratch)?;
    let halted = format!("holdfast: halted, code {}", halt::EXHAUSTED);
    trial.guest.wait(&halted, BOOT)?;
    let tries = (trial.tries_of(Slot::A), trial.tries_of(Slot::B));
    ensure!(tries == (4, 1), "tries of A and B: {tries:?}");
    let _ = trial.guest.qmp.execute("system_reset", &serde_json::json!({}))?;
    trial.guest.wait(&halted, BOOT)?;
    let tries = (trial.tries_of(Slot::A), trial.tries_of(Slot::B));
    ensure!(tries == (5, 2), "tries of A and B behind the halt: {tries:?}");
    Ok(())
}

fn both_copies_of_the_boot_state_bad_boot_slot_a(bench: &Bench) -> Result<()> {
    let scratch = Scratch::of(&bench.image)?;
    let (file, partition) = scratch.partition("bootstate")?;
    for start in slots::copy_offsets(partition.length) {
        file.write_all_at(&[0x5a; 512], partition.start.saturating_add(start))?;
    }
    let mut trial = bench.trial(scratch)?;
    trial.guest.wait("holdfast: no valid boot state", BOOT)?;
    trial.guest.wait("init: status: slot=a phase=trying next=a tries_a=0 tries_b=1 ", BOOT)?;
    let status = trial.committed()?;
    ensure!(status.boot_state == Some(BootState::factory()), "{status:?}");
    Ok(())
}

fn a_boot_state_that_cannot_be_saved_boots_the_good_slot(bench: &Bench) -> Result<()> {
    let release = Release::of(&bench.image)?;
    let scratch = Scratch::of(&bench.image)?;
    stager::stage(scratch.path(), Slot::A, &release)?;
    let layout = Layout::read(&mut File::open(scratch.path())?)?;
    let lost_sectors = layout.boot_state_copies()?.map(|start| start / SECTOR_BYTES).to_vec();
    let machine = Machine { counted: true, lost_sectors, ..Machine::new(scratch.path(), 64) };
    let mut guest = machine.start(None)?;
    guest.wait("holdfast: the boot state cannot be saved", BOOT)?;
    guest.wait("init: status: slot=a phase=staged ", BOOT)?;
    guest.wait_anywhere("hello: heartbeat 1", BOOT)?;
    Ok(())
}

/// What init says of a partition that it has made anew.
const MADE_ANEW: &str = "init: partition state held nothing but zeros: it is made anew";

fn a_zeroed_state_partition_is_made_anew(bench: &Bench) -> Result<()> {
    let scratch = Scratch::of(&bench.image)?;
    let (mut file, partition) = scratch.partition("state")?;
    partition.replace(&mut file, scratch.path(), "nothing", &[])?;
    // Its app was another one's neighbour before, and has files of that time.
    let files = hello()?.to_string();
    debugfs(scratch.path(), "data", &format!("mkdir {files}"))?;
    for field in ["uid", "gid"] {
        debugfs(scratch.path(), "data", &format!("set_inode_field {files} {field} 1007"))?;
    }
    let machine = Machine { counted: true, ..Machine::new(scratch.path(), 64) };
    let mut guest = machine.start(None)?;
    guest.wait(MADE_ANEW, BOOT)?;
    let owned = "init: hello: package .*, uid 1007";
    guest.wait(owned, BOOT)?;
    guest.wait_anywhere("init: slot a committed", BOOT)?;
    let mut guest = machine.start_again(guest)?;
    guest.wait(owned, BOOT)?;
    ensure!(!guest.console.text().contains(MADE_ANEW), "{}", guest.console.tail());
    Ok(())
}

fn a_lost_partition_table_comes_back_from_the_second(bench: &Bench) -> Result<()> {
    let scratch = Scratch::of(&bench.image)?;
    let file = File::options().read(true).write(true).open(scratch.path())?;
    file.set_len(file.metadata()?.len().saturating_mul(2))?;
    let machine = Machine { counted: true, ..Machine::new(scratch.path(), 64) };
    let mut guest = machine.start(None)?;
    guest.wait("init: the second partition table is written to the end of the disk", BOOT)?;
    guest.wait("init: slot a committed", BOOT)?;
    File::options().write(true).open(guest.disk())?.write_all_at(&[0; 512], SECTOR_BYTES)?;
    let mut guest = machine.start_again(guest)?;
    let mended = "init: the partition table was lost: it is made of the second one";
    guest.wait(mended, BOOT)?;
    guest.wait("init: slot a committed", BOOT)?;
    let mut guest = machine.start_again(guest)?;
    guest.wait("init: slot a committed", BOOT)?;
    ensure!(!guest.console.text().contains("partition table"), "{}", guest.console.tail());
    Ok(())
}

fn without_a_partition_table_the_kernel_restarts(bench: &Bench) -> Result<()> {
    let scratch = Scratch::of(&bench.image)?;
    let file = File::options().write(true).open(scratch.path())?;
    let last = file.metadata()?.len().saturating_sub(SECTOR_BYTES);
    for at in [SECTOR_BYTES, last] {
        file.write_all_at(&[0; 512], at)?;
    }
    let mut trial = bench.trial(scratch)?;
    for _ in 0..2 {
        trial.guest.wait("Kernel panic - not syncing: there is no /dev/mmcblk0p3", BOOT)?;
        trial.guest.wait_reset(BOOT)?;
    }
    Ok(())
}

fn a_clone_on_a_second_card_is_not_booted(bench: &Bench) -> Result<()> {
    // The clone alone has lost its state: whoever boots from it says so.
    let card = Scratch::of(&bench.image)?;
    let (mut file, partition) = card.partition("state")?;
    partition.replace(&mut file, card.path(), "nothing", &[])?;
    let machine = Machine::new(&bench.image, 64);
    let mut on_clone = Machine::new(card.path(), 64).start(None)?;
    on_clone.wait(MADE_ANEW, BOOT)?;
    let machine = Machine { card: Some(card.path().to_owned()), ..machine };
    // Which controller is found first is another thing each time.
    for _ in 0..4 {
        let mut guest = machine.start(None)?;
        guest.wait("init: slot a committed", BOOT)?;
        ensure!(!guest.console.text().contains(MADE_ANEW), "{}", guest.console.tail());
    }
    Ok(())
}

fn a_lost_state_partition_boots(bench: &Bench) -> Result<()> {
    let scratch = Scratch::of(&bench.image)?;
    let (mut file, partition) = scratch.partition("state")?;
    let garbage = vec![0x5a; usize::try_from(partition.length)?];
    partition.replace(&mut file, scratch.path(), "garbage", &garbage)?;
    let mut trial = bench.trial(scratch)?;
    trial.guest.wait("init: partition state is kept as it is, unused", BOOT)?;
    trial.guest.wait_anywhere("hello: heartbeat 1", BOOT)?;
    trial.committed()?;
    Ok(())
}

fn a_torn_superblock_is_mended(bench: &Bench) -> Result<()> {
    let scratch = Scratch::of(&bench.image)?;
    for name in ["state", "apps", "data"] {
        let (mut file, partition) = scratch.partition(name)?;
        let mut bytes = partition.read(&mut file, scratch.path())?;
        // The count of mounts, in the first sector.
        *bytes.get_mut(1024 + 0x34).context("too short")? ^= 1;
        partition.replace(&mut file, scratch.path(), "a torn file system", &bytes)?;
    }
    let mut guest = Machine::new(scratch.path(), 64).start(None)?;
    for name in ["state", "apps", "data"] {
        let line = format!("init: partition {name}: its torn superblock is mended");
        guest.wait_anywhere(&line, BOOT)?;
    }
    guest.wait_anywhere("hello: heartbeat 1", BOOT)?;
    guest.wait_anywhere("init: slot a committed", BOOT)?;
    ensure!(!guest.console.text().contains("kept as it is"), "{}", guest.console.tail());
    Ok(())
}

/// The table for `docs/fallback.md`.
#[cfg(test)]
fn table() -> String {
    use std::fmt::Write;
    let mut text = "# When something goes wrong\n\nWritten by `HOLDFAST_WRITE_DOCS=1 cargo test --package \
                    holdfast-system-tests`.\nEvery row is a test of that name, on the real boot \
                    loader, kernel and init.\n\n| what | what happens | test |\n| --- | --- | --- |\n"
        .to_owned();
    for row in &ROWS {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} | {} | `{}` |", row.what, row.happens, row.check.0);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_docs_is_made_from_the_tests() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/fallback.md");
        if std::env::var_os("HOLDFAST_WRITE_DOCS").is_some() {
            fs::write(&path, table()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), table(), "docs/fallback.md is stale");
    }
}
