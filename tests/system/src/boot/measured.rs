//! The boot loader measures what it starts into PCR 8 of the TPM, and whatever the TPM does, the device boots and says so.

use super::verified::{flipped, node, parse, read_fit, set, value, write_fit};
use crate::boot::trial::{Bench, Trial};
use crate::harness::artefacts::Artefacts;
use crate::harness::guest::{ANSWER, BOOT, boot_probe};
use crate::harness::scratch::Scratch;
use crate::harness::stager::{self, Release};
use crate::harness::suite::{Suite, check};
use anyhow::{Context, Result, ensure};
use holdfast_images::boot::{self, signature};
use holdfast_images::{hex, sha256};
use holdfast_lifecycle::slots::{Phase, Slot, Status};
use holdfast_qemu::machine::{Guest, Machine};
use holdfast_qemu::tpm::{Tpm, TpmFault};
use holdfast_repository::of_image;
use holdfast_types::TpmState;
use std::path::Path;
use std::time::{Duration, Instant};

/// What the boot loader says first.
const BEGINS: &str = "holdfast: boot loader";
/// `TPM2_Startup`, `TPM2_PCR_Read` and `TPM2_PCR_Extend`: TPM 2.0 Library, part 2, 6.5.2.
const STARTUP: u32 = 0x144;
const PCR_READ: u32 = 0x17e;
const PCR_EXTEND: u32 = 0x182;
/// What the boot loader asks of a TPM for one slot.
const MEASURING: [u32; 4] = [STARTUP, PCR_READ, PCR_EXTEND, PCR_READ];
/// More than a TPM that does not answer may cost: the boot loader gives it up after 0.75 s, and two more where it was
/// in the middle of something.
const HELD_UP: Duration = Duration::from_secs(10);

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    // Of the machines that stand for boards, this one alone can have a TPM.
    if artefacts.board != "qemu-virt" {
        return;
    }
    let probe = move || artefacts.image("probe");
    let hello = move || artefacts.image("hello");
    check!(suite, pcr_8_is_the_digest_of_the_release_that_runs_after_each_start(&probe()));
    check!(suite, an_update_changes_pcr_8_to_the_new_release(artefacts));
    check!(suite, a_slot_that_failed_to_start_is_measured_too(artefacts));
    check!(suite, a_release_that_knows_no_tpm_still_boots(artefacts));
    check!(suite, a_device_without_its_tpm_boots_and_says_so(&probe()));
    check!(suite, a_tpm_in_failure_mode_is_left_alone_and_said(&hello()));
    check!(suite, a_tpm_that_stops_answering_does_not_hold_up_the_boot(&hello()));
    check!(suite, a_slow_tpm_is_waited_for_and_one_that_is_too_slow_is_not(&hello()));
}

fn with_tpm(image: &Path) -> Machine {
    Machine { tpm: Some(Tpm::default()), ..Machine::new(image, 64) }
}

fn with_fault(image: &Path, fault: TpmFault) -> Machine {
    let tpm = Tpm { fault: Some(fault), ..Tpm::default() };
    Machine { tpm: Some(tpm), ..Machine::new(image, 64) }
}

/// A PCR of SHA-256, in hexadecimal, as the kernel reads it.
fn pcr(guest: &mut Guest, number: u32) -> Result<String> {
    let path = format!("/sys/class/tpm/tpm0/pcr-sha256/{number}");
    let value = guest.probe.ask(&format!("read {path}"), ANSWER)?;
    Ok(value.trim().to_lowercase())
}

/// PCR 8 when these FITs were measured, one after the other.
fn after(digests: &[[u8; 32]]) -> String {
    hex(&digests.iter().fold([0; 32], |pcr, digest| sha256(&[&pcr, digest])))
}

fn status(guest: &mut Guest) -> Result<Status> {
    guest.wait("init: status: .*\n", BOOT)?;
    Ok(Status::last_in(&guest.console.text())?)
}

/// PCR 8 is what verifiers compute from the release's signed targets alone, at a first start, after a reset, and after the power was off.
fn pcr_8_is_the_digest_of_the_release_that_runs_after_each_start(image: &Path) -> Result<()> {
    let digest = sha256(&[&read_fit(image)?]);
    let released = of_image(image)?.release.boot_digest();
    ensure!(released == Some(digest), "the release names {released:?}");
    let expected = after(&[digest]);
    let machine = with_tpm(image);
    let mut guest = machine.start(None)?;
    for start in ["first", "reset", "power"] {
        match start {
            "reset" => {
                guest.probe.tell("reboot")?;
                guest.wait_reset(BOOT)?;
            }
            "power" => guest = machine.start_again(guest)?,
            _ => {}
        }
        let status = status(&mut guest)?;
        ensure!(status.tpm == TpmState::Ok, "{start}: {status:?}");
        guest.wait("init: probe is ready", BOOT)?;
        let found = pcr(&mut guest, 8)?;
        ensure!(found == expected, "{start}: PCR 8 is {found}, not {expected}");
        let found = pcr(&mut guest, 9)?;
        ensure!(found == hex(&[0; 32]), "{start}: PCR 9 is {found}");
    }
    Ok(())
}

fn an_update_changes_pcr_8_to_the_new_release(artefacts: &Artefacts) -> Result<()> {
    let bench = Bench { artefacts: artefacts.clone(), image: artefacts.image("probe") };
    let release = bench.release_with_index(9)?;
    let digest = |boot: &[u8]| signature::boot_digest(boot).context("no FIT");
    let (new, old) = (digest(&release.boot)?, digest(&Release::of(&bench.image)?.boot)?);
    ensure!(new != old, "both releases have the digest {}", hex(&new));
    let scratch = Scratch::of(&bench.image)?;
    stager::stage(scratch.path(), Slot::A, &release)?;
    let mut trial = Trial::on(scratch, |machine| Machine { tpm: Some(Tpm::default()), ..machine })?;
    let status = trial.committed()?;
    ensure!((status.slot, status.tpm) == (Slot::B, TpmState::Ok), "{status:?}");
    let (found, expected) = (pcr(&mut trial.guest, 8)?, after(&[new]));
    ensure!(found == expected, "PCR 8 is {found}, not {expected}");
    Ok(())
}

/// What was not started cannot pass for what runs, in either order: a verifier sees both.
fn a_slot_that_failed_to_start_is_measured_too(artefacts: &Artefacts) -> Result<()> {
    let image = artefacts.image("probe");
    let good = read_fit(&image)?;
    // In the kernel, so that its hash does not fit.
    let bad = flipped(good.clone());
    let scratch = Scratch::of(&image)?;
    let release = Release::of(&image)?;
    stager::stage(scratch.path(), Slot::A, &Release { boot: bad.clone(), ..release })?;
    let mut guest = with_tpm(scratch.path()).start(None)?;
    guest.wait("holdfast: slot b does not verify", BOOT)?;
    let status = status(&mut guest)?;
    let expected = (Slot::A, Phase::FallingBack, TpmState::Ok);
    ensure!((status.slot, status.phase, status.tpm) == expected, "{status:?}");
    guest.wait("init: probe is ready", BOOT)?;
    let found = pcr(&mut guest, 8)?;
    let expected = after(&[sha256(&[&bad]), sha256(&[&good])]);
    ensure!(found == expected, "PCR 8 is {found}, not {expected}");
    // The next start tries nothing else first.
    guest.wait(r"init: slot a committed event=slot_committed\n", BOOT)?;
    guest.probe.tell("reboot")?;
    guest.wait_reset(BOOT)?;
    guest.wait("init: probe is ready", BOOT)?;
    let (found, expected) = (pcr(&mut guest, 8)?, after(&[sha256(&[&good])]));
    ensure!(found == expected, "after a reset, PCR 8 is {found}, not {expected}");
    Ok(())
}

/// The device tree of a release from before boot loaders measured has no place for what this one says.
fn a_release_that_knows_no_tpm_still_boots(artefacts: &Artefacts) -> Result<()> {
    let image = artefacts.image("hello");
    let mut tree = parse(&read_fit(&image)?)?;
    for slot in Slot::ALL {
        let path = format!("/images/fdt-{}", slot.letter());
        let mut inner = parse(&value(node(&mut tree, &path)?, "data")?)?;
        let tpm = artefacts.board()?.tpm_node().context("the board has no TPM")?;
        inner.root.remove_child(tpm.trim_start_matches('/')).context("no node of the TPM")?;
        let chosen = node(&mut inner, "/chosen")?;
        chosen.remove_property(TpmState::PROPERTY).context("nothing says it")?;
        let inner = inner.to_dtb();
        let digest = sha256(&[&inner]);
        set(node(&mut tree, &path)?, "data", inner)?;
        set(node(&mut tree, &format!("{path}/hash-1"))?, "value", digest.to_vec())?;
    }
    let mut fit = tree.to_dtb();
    boot::sign(&mut fit, &artefacts.boot_key("current")?)?;
    let scratch = Scratch::of(&image)?;
    write_fit(&scratch, &fit)?;
    let mut guest = with_tpm(scratch.path()).start(None)?;
    let status = status(&mut guest)?;
    ensure!(status.tpm == TpmState::None, "{status:?}");
    guest.wait("hello: heartbeat 1", BOOT)?;
    Ok(())
}

fn a_device_without_its_tpm_boots_and_says_so(image: &Path) -> Result<()> {
    let mut guest = boot_probe(&Machine::new(image, 64))?;
    let status = Status::last_in(&guest.console.text())?;
    ensure!(status.tpm == TpmState::None, "{status:?}");
    let devices = guest.probe.ask("list /sys/class/tpm", ANSWER)?;
    ensure!(devices.trim().is_empty(), "the kernel has {devices}");
    guest.wait(r"init: slot a committed event=slot_committed\n", BOOT)?;
    Ok(())
}

/// The guest boots with its TPM failed, and nobody but the boot loader has sent it anything: of its commands at least so many, in
/// their order. It may go on behind one without an answer, since its driver takes silence for one.
fn boots_without(guest: &mut Guest, at_least: usize) -> Result<()> {
    guest.wait(BEGINS, BOOT)?;
    let began = Instant::now();
    guest.wait("holdfast: the TPM has failed", BOOT)?;
    let took = began.elapsed();
    ensure!(took < guest.scaled(HELD_UP), "the boot loader took {took:?}");
    guest.wait("init: the TPM does not answer: .* event=tpm_failed", BOOT)?;
    let status = status(guest)?;
    ensure!(status.tpm == TpmState::Failed, "{status:?}");
    guest.wait(r"init: slot a committed event=slot_committed\n", BOOT)?;
    let sent = guest.tpm_commands();
    let is_of_boot_loader = sent.len() >= at_least && MEASURING.starts_with(&sent);
    ensure!(is_of_boot_loader, "it was sent {sent:x?}");
    Ok(())
}

fn a_tpm_in_failure_mode_is_left_alone_and_said(image: &Path) -> Result<()> {
    let mut guest = with_fault(image, TpmFault::FailureMode).start(None)?;
    boots_without(&mut guest, 1)
}

/// At each of the boot loader's commands.
fn a_tpm_that_stops_answering_does_not_hold_up_the_boot(image: &Path) -> Result<()> {
    for answered in 0..MEASURING.len() {
        let mut guest = with_fault(image, TpmFault::Silent { after: answered }).start(None)?;
        boots_without(&mut guest, answered.saturating_add(1))
            .with_context(|| format!("{answered} commands answered"))?;
    }
    Ok(())
}

fn a_slow_tpm_is_waited_for_and_one_that_is_too_slow_is_not(image: &Path) -> Result<()> {
    let mut guest = with_fault(image, TpmFault::Slow(Duration::from_millis(150))).start(None)?;
    let said = status(&mut guest)?;
    ensure!(said.tpm == TpmState::Ok, "{said:?}");
    drop(guest);
    let mut guest = with_fault(image, TpmFault::Slow(Duration::from_secs(3))).start(None)?;
    boots_without(&mut guest, 1)
}
