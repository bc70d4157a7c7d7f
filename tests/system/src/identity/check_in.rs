//! A device enrols, is claimed, and has certificates for as long as it runs what its owner wants it to.

use super::world::{CHECK_IN, FULL, NO_TPM, TPM, World, check_in_again, device_id};
use crate::harness::artefacts::Artefacts;
use crate::harness::guest::{BOOT, WAIT, clock};
use crate::harness::scratch::Scratch;
use crate::harness::suite::{Suite, check, checks};
use anyhow::{Context, Result, ensure};
use holdfast_images::root::{self, Root};
use holdfast_images::show;
use holdfast_qemu::machine::{Guest, Machine};
use holdfast_qemu::web_server::WebAnswer;
use holdfast_repository::Released;
use holdfast_sandbox::component::{self, ComponentList};
use serde_json::Value;

const FOR_UPDATES: &str =
    r"identity: checked in: UpdateOnly \([a-z, -]+\), 1 certificates event=identity_checked_in";
const ENROLLED: &str = "is enrolled in catalog [0-9a-f-]{36} event=identity_enrolled";

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    suite.sequence(
        move || Life::begin(artefacts),
        checks![
            a_device_asks_for_its_owner_and_is_listed_as_waiting,
            a_claimed_device_gets_certificates_for_what_it_runs,
            an_app_with_the_grant_authenticates_as_a_part_of_the_device,
            an_app_has_nothing_signed_but_handshakes,
            a_device_of_a_withdrawn_release_has_a_certificate_for_updates_alone,
            a_device_is_whole_again_once_its_release_is,
            a_device_of_a_withdrawn_release_heals_itself_by_the_next_one
        ],
    );
    check!(suite, a_device_without_a_tpm_and_a_clock_has_the_software_grade(artefacts));
}

/// A device from its first start on.
struct Life {
    world: World,
    guest: Guest,
    device: String,
    released: Released,
    _image: Scratch,
}

impl Life {
    fn begin(artefacts: &Artefacts) -> Result<Self> {
        let world = World::new(artefacts)?;
        let image = world.image(|root| world.update_from_service(root))?;
        let released = world.add_release(image.path())?;
        // Only the service has releases of the OS.
        world.scene.lie(
            |asked, truth| {
                if asked.path.starts_with("os/") { WebAnswer::Status(404) } else { truth }
            },
        );
        world.service.trust("os", &world.scene.repository("os"))?;
        world.service.serve("os", &world.scene.repository("os"))?;
        let mut guest = world.machine(image.path(), TPM)?.start(None)?;
        let device = device_id(&mut guest, "tpm")?;
        Ok(Self { world, guest, device, released, _image: image })
    }

    /// A field of the device, as its owner is shown it.
    fn shown(&self, field: &str) -> Result<String> {
        shown(&self.world, &self.device, field)
    }
}

fn shown(world: &World, device: &str, field: &str) -> Result<String> {
    let device = world.service.device(device)?;
    let value = device.get(field).with_context(|| format!("no {field} in {device}"))?;
    Ok(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

fn ensure_shown(life: &Life, fields: &[(&str, &str)]) -> Result<()> {
    for (field, expected) in fields {
        let found = life.shown(field)?;
        ensure!(
            found == *expected,
            "{field} is {found}; the service says:\n{}",
            life.world.service.log()
        );
    }
    Ok(())
}

fn a_device_asks_for_its_owner_and_is_listed_as_waiting(life: &mut Life) -> Result<()> {
    let unclaimed = "uplink: service.example:8443 knows the device, which nobody has claimed \
                     event=uplink_device_unclaimed";
    life.guest.wait(unclaimed, CHECK_IN)?;
    let waiting = life.world.service.devices_in("waiting")?;
    let ids: Vec<&str> =
        waiting.iter().filter_map(|device| device.get("id").and_then(Value::as_str)).collect();
    ensure!(ids == [life.device.as_str()], "waiting are {ids:?}");
    ensure_shown(life, &[("state", "waiting"), ("kind", "tpm"), ("board", "qemu-virt")])?;
    life.guest
        .wait_anywhere("authenticating: has no certificate: .*no certificate for this app", WAIT)?;
    Ok(())
}

fn a_claimed_device_gets_certificates_for_what_it_runs(life: &mut Life) -> Result<()> {
    life.world.service.claim(&life.device, "emulated")?;
    // A device that waits asks again after a quarter of an hour, and after each start.
    life.guest.probe.tell("reboot")?;
    life.guest.wait_reset(BOOT)?;
    let again = device_id(&mut life.guest, "tpm")?;
    ensure!(again == life.device, "after a reset it is {again}");
    life.guest.wait(ENROLLED, CHECK_IN)?;
    life.guest.wait(FULL, CHECK_IN)?;
    let version = life.released.release.version.to_string();
    ensure_shown(
        life,
        &[("state", "enrolled"), ("grade", "emulated"), ("verdict", "full"), ("version", &version)],
    )
}

fn an_app_with_the_grant_authenticates_as_a_part_of_the_device(life: &mut Life) -> Result<()> {
    let certificates =
        "authenticating: has 2 certificates of grade emulated until [0-9]{10}, below 1 roots";
    life.guest.wait_anywhere(certificates, WAIT)?;
    for role in ["client", "server"] {
        let verifies =
            format!("authenticating: signs as {role}, which verifies by its certificate");
        life.guest.wait_anywhere(&verifies, WAIT)?;
    }
    life.guest.wait_anywhere("authenticating: signed 16 times, 0 failed", WAIT)?;
    Ok(())
}

fn an_app_has_nothing_signed_but_handshakes(life: &mut Life) -> Result<()> {
    for length in [0, 31, 33, 64, 1024] {
        let refused = format!(
            "authenticating: asks to sign {length} bytes: .*InvalidArgs.*must have 32 bytes, and has {length}"
        );
        life.guest.wait_anywhere(&refused, WAIT)?;
    }
    let refused = "authenticating: asks to sign in another role: .*must be `client` or `server`";
    life.guest.wait_anywhere(refused, WAIT)?;
    // Said once, with the reason.
    let denied = "identity: authenticating gets no signature: the transcript hash must have 32 \
                  bytes, and has 0 event=identity_signature_denied";
    life.guest.wait_anywhere(denied, WAIT)?;
    let times = life.guest.console.text().matches("event=identity_signature_denied").count();
    ensure!(times == 1, "it is said {times} times");
    Ok(())
}

fn a_device_of_a_withdrawn_release_has_a_certificate_for_updates_alone(
    life: &mut Life,
) -> Result<()> {
    life.world.service.set_withdrawn(&life.released, true)?;
    check_in_again(&mut life.guest)?;
    life.guest.wait(FOR_UPDATES, CHECK_IN)?;
    life.guest.wait_anywhere("authenticating: has no certificate any more", WAIT)?;
    ensure_shown(life, &[("verdict", "update-only")])
}

fn a_device_is_whole_again_once_its_release_is(life: &mut Life) -> Result<()> {
    life.world.service.set_withdrawn(&life.released, false)?;
    check_in_again(&mut life.guest)?;
    life.guest.wait(FULL, CHECK_IN)?;
    life.guest.wait("authenticating: has 2 certificates of grade emulated", WAIT)?;
    ensure_shown(life, &[("verdict", "full")])
}

fn a_device_of_a_withdrawn_release_heals_itself_by_the_next_one(life: &mut Life) -> Result<()> {
    life.world.service.set_withdrawn(&life.released, true)?;
    check_in_again(&mut life.guest)?;
    life.guest.wait(FOR_UPDATES, CHECK_IN)?;
    let release = life.world.scene.os("0.2.0", 1, |root, _| {
        life.world.configure(root)?;
        life.world.update_from_service(root)
    })?;
    // Whoever serves the release knows by its signatures what it measures.
    life.world.scene.publish("os", &[release])?;
    life.world.service.serve("os", &life.world.scene.repository("os"))?;
    life.guest.wait("update: os: release 0.2.0 is staged", WAIT)?;
    life.guest.wait("init: image service 0.2.0 for ", BOOT)?;
    life.guest.wait(FULL, CHECK_IN)?;
    life.guest.wait_anywhere("init: slot b committed", WAIT)?;
    ensure_shown(life, &[("state", "enrolled"), ("verdict", "full"), ("version", "0.2.0")])?;
    let enrolled = life.guest.console.text().matches("event=identity_enrolled").count();
    ensure!(enrolled == 1, "it has enrolled {enrolled} times");
    Ok(())
}

/// An image for a board without a TPM, on a machine whose clock has never been set.
fn a_device_without_a_tpm_and_a_clock_has_the_software_grade(artefacts: &Artefacts) -> Result<()> {
    let world = World::new(artefacts)?;
    let data = show::read_root(&world.scene.image())?;
    let mut list = ComponentList::decode(&root::read_file(&data, component::PATH)?)?;
    ensure!(list.image.has_tpm, "the board has no TPM: there is no control");
    list.image.has_tpm = false;
    let list = list.encode()?;
    let image = world.image(|root: &mut Root| {
        root.add(component::PATH.trim_start_matches('/'), list, false);
        Ok(())
    })?;
    world.add_release(image.path())?;
    let machine = world.machine(image.path(), NO_TPM)?;
    let clock_base = Some("1980-01-01T00:00:00".to_owned());
    let mut guest = Machine { clock_base, ..machine }.start(None)?;
    guest.wait("identity: made a key in state, .* event=identity_key_made", BOOT)?;
    let device = world.claim(&mut guest, "software", "software")?;
    guest.wait(ENROLLED, CHECK_IN)?;
    guest.wait(FULL, CHECK_IN)?;
    guest.wait("authenticating: has 2 certificates of grade software", WAIT)?;
    guest.wait_anywhere("authenticating: signs as client, which verifies", WAIT)?;
    let (_, _, source) = clock(&mut guest)?;
    ensure!(source == "Floor", "the clock was set by {source}");
    for (field, expected) in [("kind", "software"), ("grade", "software"), ("verdict", "full")] {
        let found = shown(&world, &device, field)?;
        ensure!(found == expected, "{field} is {found}");
    }
    // It is the same device after a restart.
    guest.probe.tell("reboot")?;
    guest.wait_reset(BOOT)?;
    let again = device_id(&mut guest, "software")?;
    ensure!(again == device, "after a reset it is {again}");
    guest.wait(FULL, CHECK_IN)?;
    Ok(())
}
