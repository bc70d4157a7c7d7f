//! Two devices of a catalog know each other by their certificates, over a cable with nothing between them.

use super::example_apps::{self, DEVICE_TO_DEVICE};
use super::world::{
    CHECK_IN, FULL_WITH_TWO_APPS, TPM, World, edit_manifest, replace_configuration,
};
use crate::harness::artefacts::Artefacts;
use crate::harness::guest::{BOOT, WAIT, once_more};
use crate::harness::scratch::Scratch;
use crate::harness::suite::{Needs, Suite, check};
use anyhow::{Context, Result, ensure};
use holdfast_images::root::Root;
use holdfast_networking::config::{Addressing, FILE_NAME, Interface, NetworkConfig};
use holdfast_qemu::machine::{CableEnd, Guest, Network};
use regex::escape;
use serde_json::json;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// The addresses of the two devices, which the manifest of the app grants.
const FIRST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
const SECOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 12);
/// The cable's interface: those of the two networks that every device of these tests has come before it.
const INTERFACE: &str = "eth2";
/// Rollback index that the app asks of its peers' releases.
const LEAST: u32 = 5;
/// Two boots one after the other, and two check-ins, on an idle machine.
const LONGEST: Duration = Duration::from_secs(600);

pub(super) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    check!(
        suite.with(Needs::Light).within(LONGEST),
        two_devices_do_mutual_tls_with_nobody_between(artefacts)
    );
    check!(
        suite.with(Needs::Light).within(LONGEST),
        an_app_in_c_does_mutual_tls_with_one_in_rust(artefacts)
    );
    check!(
        suite.with(Needs::Light).within(LONGEST),
        a_device_refuses_a_peer_whose_release_is_too_old(artefacts)
    );
}

/// Gives the cable's interface an address: nobody leases one there.
fn set_address(root: &mut Root, address: Ipv4Addr) -> Result<()> {
    let ipv4 = Addressing::Static { address: IpAddr::V4(address), prefix: 24, gateway: None };
    let interface = Interface { name: INTERFACE.to_owned(), ipv4, ipv6: Addressing::Off };
    let config = NetworkConfig { interfaces: vec![interface], ..NetworkConfig::default() };
    replace_configuration(root, "network", FILE_NAME, config.encode()?)
}

/// A device at one end of the cable.
struct Device {
    guest: Guest,
    id: String,
    rollback_index: u32,
    _image: Scratch,
}

impl Device {
    /// Starts it with the app's own program, or another one in its place, and has it check in.
    fn start(
        world: &World,
        cable: &Path,
        end: CableEnd,
        rollback_index: u32,
        program: Option<Vec<u8>>,
    ) -> Result<Self> {
        let address = if end == CableEnd::First { FIRST } else { SECOND };
        let change = |files: &mut Root| {
            if let Some(program) = program {
                files.add("bin/app", program, true);
            }
            edit_manifest(files, |manifest| {
                let arguments = json!([LEAST.to_string(), FIRST.to_string(), SECOND.to_string()]);
                let fields = manifest.as_object_mut().context("no object")?;
                fields.insert("CmdArgs".to_owned(), arguments);
                Ok(())
            })
        };
        let image = example_apps::image(
            world,
            rollback_index,
            |root| set_address(root, address),
            DEVICE_TO_DEVICE,
            change,
        )?;
        world.add_release(image.path())?;
        let mut machine = world.machine(image.path(), TPM)?;
        machine.networks.push(Network::Cable { path: cable.to_owned(), end });
        let mut guest = machine.start(None)?;
        let id = world.claim(&mut guest, "tpm", "emulated")?;
        let plugged =
            format!("network: {INTERFACE}: address {}/24 added", escape(&address.to_string()));
        guest.wait_anywhere(&plugged, BOOT)?;
        Ok(Self { guest, id, rollback_index, _image: image })
    }

    /// How others tell of it.
    fn told(&self) -> String {
        let Self { id, rollback_index, .. } = self;
        format!("device {id} with release 0.1.0 (rollback index {rollback_index})")
    }

    /// Waits until its app has said this.
    fn wait_said(&mut self, text: &str) -> Result<()> {
        let line = format!("device-to-device: {}", escape(text));
        self.guest.wait_anywhere(&line, WAIT)?;
        Ok(())
    }

    /// Fails where its app has refused somebody, and this is in the line.
    fn ensure_not_refused(&self, who: &str) -> Result<()> {
        let text = self.guest.console.text();
        let said = text.lines().filter(|line| line.contains("device-to-device: "));
        let refused: Vec<&str> =
            said.filter(|line| line.contains(" is refused: ") && line.contains(who)).collect();
        ensure!(refused.is_empty(), "{}", refused.join("\n"));
        Ok(())
    }
}

/// Two devices on one cable that have checked in, whose releases have these rollback indices. `program` takes the place of the
/// second's app. The cable lasts as long as the directory.
fn on_one_cable(
    world: &World,
    [first, second]: [u32; 2],
    program: Option<Vec<u8>>,
) -> Result<(Device, Device, TempDir)> {
    let directory = tempfile::tempdir()?;
    let cable = directory.path().join("cable");
    // The cable's socket is there once the first has booted. It checks in while the second boots.
    let mut first = Device::start(world, &cable, CableEnd::First, first, None)?;
    let mut second = Device::start(world, &cable, CableEnd::Second, second, program)?;
    for device in [&mut first, &mut second] {
        device.guest.wait(FULL_WITH_TWO_APPS, CHECK_IN)?;
    }
    Ok((first, second, directory))
}

fn two_devices_do_mutual_tls_with_nobody_between(artefacts: &Artefacts) -> Result<()> {
    let world = example_apps::world(artefacts)?;
    let (mut first, mut second, _cable) = on_one_cable(&world, [LEAST, LEAST], None)?;
    let (of_first, of_second) = (first.told(), second.told());
    first.wait_said(&format!("{SECOND}: {of_second} answers"))?;
    second.wait_said(&format!("{FIRST}: {of_first} answers"))?;
    // Nor does the service have to be there.
    drop(world);
    for (device, told) in [(&mut first, of_second), (&mut second, of_first)] {
        once_more(&mut device.guest, &format!("device-to-device: {told} greets"), |_| Ok(()))?;
        device.ensure_not_refused("")?;
    }
    Ok(())
}

fn an_app_in_c_does_mutual_tls_with_one_in_rust(artefacts: &Artefacts) -> Result<()> {
    let world = example_apps::world(artefacts)?;
    let program = fs::read(artefacts.programs.join("peer-in-c"))?;
    let (mut first, mut second, _cable) = on_one_cable(&world, [LEAST, LEAST], Some(program))?;
    let (of_first, of_second) = (first.told(), second.told());
    let in_c = format!("this is device {}, in C", second.id);
    second.wait_said(&in_c)?;
    second.wait_said(&format!("{FIRST}: {of_first} answers C"))?;
    first.wait_said(&format!("{of_second} greets"))
}

/// Its control is [`two_devices_do_mutual_tls_with_nobody_between`], which differs in the second's rollback index alone.
fn a_device_refuses_a_peer_whose_release_is_too_old(artefacts: &Artefacts) -> Result<()> {
    let world = example_apps::world(artefacts)?;
    let old = LEAST.checked_sub(1).context("no index below")?;
    let (mut first, mut second, _cable) = on_one_cable(&world, [LEAST, old], None)?;
    let refused =
        format!("is refused: the peer's release has rollback index {old}, less than {LEAST}");
    // As its client, and as its server.
    first.wait_said(&format!("{SECOND} {refused}"))?;
    first.wait_said(&format!("a client {refused}"))?;
    // It is told so, and has nothing against its peer itself.
    second.wait_said(&format!("{FIRST}: received fatal alert"))?;
    second.ensure_not_refused(&FIRST.to_string())?;
    // The app names those that it has talked to.
    for (device, other) in [(&first, &second), (&second, &first)] {
        let has_talked = device.guest.console.text().contains(&other.id);
        ensure!(!has_talked, "{}", device.guest.console.tail());
    }
    Ok(())
}
