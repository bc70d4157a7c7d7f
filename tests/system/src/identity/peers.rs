//! Two devices of a catalog know each other by their certificates, over a cable with nothing between them.

use super::example_apps::{self, DEVICE_TO_DEVICE, FULL};
use super::world::{CHECK_IN, TPM, World, edit_manifest};
use crate::harness::artefacts::Artefacts;
use crate::harness::guest::WAIT;
use crate::harness::scratch::Scratch;
use crate::harness::suite::{Suite, check};
use anyhow::{Context, Result, ensure};
use holdfast_images::root::Root;
use holdfast_networking::config::{Addressing, FILE_NAME, Interface, NetworkConfig};
use holdfast_qemu::machine::{CableEnd, Guest, Network};
use serde_json::json;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use tempfile::TempDir;

/// The addresses that the app's manifest grants: this device's, and the other's.
const FIRST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
const SECOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 12);
/// Rollback index that the app asks for.
const LEAST: u32 = 5;

pub(super) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    check!(suite, two_devices_do_mutual_tls_with_nobody_between(artefacts));
    check!(suite, an_app_in_c_does_mutual_tls_with_one_in_rust(artefacts));
    check!(suite, a_device_refuses_a_peer_whose_release_is_too_old(artefacts));
}

/// The cable is behind the two networks that every device has.
fn addressed(root: &mut Root, address: Ipv4Addr) -> Result<()> {
    let ipv4 = Addressing::Static { address: IpAddr::V4(address), prefix: 24, gateway: None };
    let interface = Interface { name: "eth2".to_owned(), ipv4, ipv6: Addressing::Off };
    let config = NetworkConfig { interfaces: vec![interface], ..NetworkConfig::default() };
    let path = format!("usr/lib/holdfast/services/network/{FILE_NAME}");
    ensure!(root.files().any(|(found, ..)| found == path), "the image has no {path}");
    root.add(path, config.encode()?, false);
    Ok(())
}

/// A device at one end of the cable.
struct Device {
    guest: Guest,
    id: String,
    _image: Scratch,
}

impl Device {
    /// Starts it with the app's own program, or another one in its place.
    fn start(
        world: &World,
        cable: &Path,
        end: CableEnd,
        rollback_index: u32,
        program: Option<Vec<u8>>,
    ) -> Result<Self> {
        let address = if end == CableEnd::First { FIRST } else { SECOND };
        let image = example_apps::image(
            world,
            rollback_index,
            |root| addressed(root, address),
            DEVICE_TO_DEVICE,
            |files| {
                if let Some(program) = program {
                    files.add("bin/app", program, true);
                }
                edit_manifest(files, |manifest| {
                    let least = LEAST.to_string();
                    let arguments = json!([least, FIRST.to_string(), SECOND.to_string()]);
                    let fields = manifest.as_object_mut().context("no object")?;
                    fields.insert("CmdArgs".to_owned(), arguments);
                    Ok(())
                })
            },
        )?;
        world.add_release(image.path())?;
        let mut machine = world.machine(image.path(), TPM)?;
        machine.networks.push(Network::Cable { path: cable.to_owned(), end });
        let mut guest = machine.start(None)?;
        let id = world.claim(&mut guest, "tpm", "emulated")?;
        guest.wait(FULL, CHECK_IN)?;
        Ok(Self { guest, id, _image: image })
    }

    /// How others tell of it, as a regular expression.
    fn told(&self, rollback_index: u32) -> String {
        format!("device {} with release 0\\.1\\.0 \\(rollback index {rollback_index}\\)", self.id)
    }
}

/// Two devices on one cable, whose releases have these rollback indices. `program` takes the place of the second's app.
fn on_one_cable(
    world: &World,
    [first, second]: [u32; 2],
    program: Option<Vec<u8>>,
) -> Result<(Device, Device, TempDir)> {
    let directory = tempfile::tempdir()?;
    let cable = directory.path().join("cable");
    let first = Device::start(world, &cable, CableEnd::First, first, None)?;
    let second = Device::start(world, &cable, CableEnd::Second, second, program)?;
    Ok((first, second, directory))
}

fn two_devices_do_mutual_tls_with_nobody_between(artefacts: &Artefacts) -> Result<()> {
    let world = example_apps::world(artefacts)?;
    let (mut first, mut second, _cable) = on_one_cable(&world, [LEAST, LEAST], None)?;
    let (of_first, of_second) = (first.told(LEAST), second.told(LEAST));
    first.guest.wait_anywhere(&format!("device-to-device: {SECOND}: {of_second} answers"), WAIT)?;
    second.guest.wait_anywhere(&format!("device-to-device: {FIRST}: {of_first} answers"), WAIT)?;
    // Nor does the service have to be there.
    drop(world);
    for (device, told) in [(&mut first, of_second), (&mut second, of_first)] {
        for _ in 0..2 {
            device.guest.wait(&format!("device-to-device: {told} greets"), WAIT)?;
        }
        let text = device.guest.console.text();
        ensure!(!text.contains("is refused"), "{}", device.guest.console.tail());
    }
    Ok(())
}

fn an_app_in_c_does_mutual_tls_with_one_in_rust(artefacts: &Artefacts) -> Result<()> {
    let world = example_apps::world(artefacts)?;
    let program = fs::read(artefacts.programs.join("peer-in-c"))?;
    let (mut first, mut second, _cable) = on_one_cable(&world, [LEAST, LEAST], Some(program))?;
    let (of_first, of_second) = (first.told(LEAST), second.told(LEAST));
    let in_c = format!("device-to-device: this is device {}, in C", second.id);
    second.guest.wait_anywhere(&in_c, WAIT)?;
    let answers = format!("device-to-device: {FIRST}: {of_first} answers C");
    second.guest.wait_anywhere(&answers, WAIT)?;
    first.guest.wait_anywhere(&format!("device-to-device: {of_second} greets"), WAIT)?;
    Ok(())
}

fn a_device_refuses_a_peer_whose_release_is_too_old(artefacts: &Artefacts) -> Result<()> {
    let world = example_apps::world(artefacts)?;
    let old = LEAST.checked_sub(1).context("no index below")?;
    let (mut first, mut second, _cable) = on_one_cable(&world, [LEAST, old], None)?;
    let refused =
        format!("is refused: the peer's release has rollback index {old}, less than {LEAST}");
    // As its client, and as its server.
    first.guest.wait_anywhere(&format!("device-to-device: {SECOND} {refused}"), WAIT)?;
    first.guest.wait_anywhere(&format!("device-to-device: a client {refused}"), WAIT)?;
    // It is told so, and has nothing against its peer itself.
    second
        .guest
        .wait_anywhere(&format!("device-to-device: {FIRST}: received fatal alert"), WAIT)?;
    let text = second.guest.console.text();
    ensure!(!text.contains(&format!("{FIRST} is refused")), "{}", second.guest.console.tail());
    // The app names those that it has talked to.
    for (device, other) in [(&first, &second), (&second, &first)] {
        let has_talked = device.guest.console.text().contains(&other.id);
        ensure!(!has_talked, "{}", device.guest.console.tail());
    }
    Ok(())
}
