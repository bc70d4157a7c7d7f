//! An app has what its grant gives it; without the grant it has nothing, and whoever asks for too much is limited alone.

use super::world::{
    CHECK_IN, FULL_WITH_TWO_APPS, MEMORY_MIB, TPM, World, check_in_again, edit_manifest, status,
    with_app,
};
use crate::harness::artefacts::Artefacts;
use crate::harness::guest::{BOOT, WAIT};
use crate::harness::packages::hello;
use crate::harness::suite::{Suite, check};
use anyhow::{Context, Result, ensure};
use holdfast_images::root::Root;
use holdfast_images::variant;
use holdfast_qemu::machine::Machine;
use holdfast_qemu::tpm::Tpm;
use serde_json::{Value, json};
use std::fs;

/// Longest that a neighbour of a flood waits for a signature on an idle machine, in milliseconds.
const LONGEST_MS: u64 = 5_000;
/// What the services may use is less than their limit by so much at least, in KiB.
const MOST_KIB: u64 = 6144 - 512;

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    check!(suite, an_app_without_the_grant_has_no_socket(artefacts));
    check!(suite, an_app_that_floods_identity_is_limited_and_others_go_on(artefacts));
    check!(suite, an_uplink_that_was_taken_over_signs_nothing_for_an_app(artefacts));
}

/// The program of tests/apps/authenticating.
fn program(artefacts: &Artefacts) -> Result<Vec<u8>> {
    Ok(fs::read(artefacts.programs.join("authenticating"))?)
}

/// Gives an app in the place of hello what the program needs.
fn give_memory(manifest: &mut Value) -> Result<()> {
    let limits = manifest.pointer_mut("/Holdfast/Limits").and_then(Value::as_object_mut);
    limits.context("no limits")?.insert("MemoryKiB".to_owned(), json!(4096));
    Ok(())
}

/// The same program twice: once with the grant, and once in the place of hello, which has none.
fn an_app_without_the_grant_has_no_socket(artefacts: &Artefacts) -> Result<()> {
    let program = program(artefacts)?;
    let image = with_app(&artefacts.image("service"), hello()?, |files| {
        files.add("bin/app", program, true);
        edit_manifest(files, give_memory)
    })?;
    let mut guest = Machine::new(image.path(), MEMORY_MIB).start(None)?;
    guest.wait_anywhere(r"hello: has no socket: No such file or directory \(os error 2\)", BOOT)?;
    // The control.
    guest
        .wait_anywhere("authenticating: has no certificate: .*no certificate for this app", BOOT)?;
    Ok(())
}

/// hello floods, and the other app signs all the while.
fn an_app_that_floods_identity_is_limited_and_others_go_on(artefacts: &Artefacts) -> Result<()> {
    let world = World::new(artefacts)?;
    let flood = |files: &mut Root| -> Result<()> {
        files.add("bin/app", program(artefacts)?, true);
        edit_manifest(files, |manifest| {
            let fields = manifest.as_object_mut().context("no object")?;
            fields.insert("CmdArgs".to_owned(), json!(["flood"]));
            give_memory(manifest)
        })?;
        world.grant(files)
    };
    let image = with_app(world.image(|_| Ok(()))?.path(), hello()?, flood)?;
    world.add_release(image.path())?;
    let mut guest = world.machine(image.path(), TPM)?.start(None)?;
    world.claim(&mut guest, "tpm", "emulated")?;
    guest.wait(FULL_WITH_TWO_APPS, CHECK_IN)?;
    let limited =
        "identity: hello gets no signature: more than .* event=identity_signatures_limited";
    guest.wait(limited, WAIT)?;
    for _ in 0..3 {
        let pattern =
            "authenticating: signed [0-9]+ times, [0-9]+ failed, the longest took [0-9]+ ms";
        let said = guest.wait(pattern, WAIT)?;
        ensure!(said.contains(" signed 16 times, 0 failed"), "{said}");
        let longest = said.rsplit(' ').nth(1).context("no time")?.parse::<u64>()?;
        let most = guest.scaled(std::time::Duration::from_millis(LONGEST_MS)).as_millis();
        ensure!(u128::from(longest) < most, "{said}");
    }
    // The device goes on, too.
    check_in_again(&mut guest)?;
    guest.wait(FULL_WITH_TWO_APPS, CHECK_IN)?;
    guest.wait("authenticating: signed 16 times, 0 failed", WAIT)?;
    let (peak, restarts) =
        (status(&mut guest, "identity", "peak_kib")?, status(&mut guest, "identity", "restarts")?);
    ensure!(peak < MOST_KIB, "identity was made to use {peak} KiB");
    ensure!(restarts == 0, "identity was started again {restarts} times");
    let text = guest.console.text();
    let times = text.matches("event=identity_signatures_limited").count();
    // Once a minute, and it has taken a few.
    ensure!(times <= 20, "it is said {times} times");
    Ok(())
}

/// Its program is another one, with all that init gives `uplink`.
fn an_uplink_that_was_taken_over_signs_nothing_for_an_app(artefacts: &Artefacts) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("taken-over.img");
    let program = fs::read(artefacts.programs.join("uplink-takeover"))?;
    variant::with_root(&artefacts.image("service"), &path, &artefacts.signer()?, |root| {
        root.add("usr/lib/holdfast/services/uplink/uplink", program, true);
    })?;
    let machine = Machine::new(&path, MEMORY_MIB);
    let mut guest = Machine { tpm: Some(Tpm::default()), ..machine }.start(None)?;
    guest.wait("uplink: has tried everything", BOOT)?;
    let text = guest.console.text();
    for refused in [
        "uplink: asks init for Identity(Tpm): PermissionDenied with 0 descriptors",
        "uplink: asks init for Identity(Listeners): PermissionDenied with 0 descriptors",
        "uplink: asks init for Identity(Claims): PermissionDenied with 0 descriptors",
        "uplink: asks init for Update(Listeners): PermissionDenied with 0 descriptors",
        "uplink: calls at /run/identity: ",
        "uplink: calls at /run/notify/authenticating/identity: ",
        "uplink: sends request 6, and its socket is closed",
        "uplink: sends request 127, and its socket is closed",
        "uplink: sends the beginning of D-Bus, and its socket is closed",
        // The control.
        "uplink: is told which device it is",
    ] {
        ensure!(text.contains(refused), "no `{refused}` in:\n{}", guest.console.tail());
    }
    ensure!(!text.contains("uplink: is connected to "), "{text}");
    ensure!(!text.contains(", and gets "), "{text}");
    guest.wait_anywhere(
        "init: uplink may not ask for Identity\\(Tpm\\) event=request_denied",
        WAIT,
    )?;
    guest.wait_anywhere("event=identity_uplink_socket_failed", WAIT)?;
    Ok(())
}
