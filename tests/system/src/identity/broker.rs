//! An app talks to a broker with its certificate in place of a password, and is gone from it once the device has lost that.

use super::example_apps::{self, FULL, MQTT};
use super::mosquitto::{Mosquitto, NAME};
use super::world::{CHECK_IN, TPM, World, check_in_again};
use crate::harness::artefacts::Artefacts;
use crate::harness::guest::{BOOT, WAIT};
use crate::harness::scratch::Scratch;
use crate::harness::suite::{Suite, checks};
use anyhow::{Context, Result, ensure};
use holdfast_qemu::machine::{Guest, Network};
use holdfast_qemu::peer::Answer;
use holdfast_qemu::relay::relay_command;
use holdfast_qemu::web_server::Authority;
use holdfast_repository::Released;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Where the broker is for a device.
const BROKER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 60), 8883);

pub(super) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    suite.sequence(
        move || Scene::begin(artefacts),
        checks![
            an_app_talks_to_mosquitto_with_its_certificate,
            a_device_whose_release_was_withdrawn_is_gone_from_the_broker
        ],
    );
}

/// A device with the app, and the broker.
struct Scene {
    world: World,
    broker: Mosquitto,
    guest: Guest,
    device: String,
    released: Released,
    _image: Scratch,
}

impl Scene {
    fn begin(artefacts: &Artefacts) -> Result<Self> {
        let world = example_apps::world(artefacts)?;
        let authority = Authority::new()?;
        let broker = Mosquitto::start(&world.service.root, &authority)?;
        let believed = authority.certificate.clone().into_bytes();
        let image = example_apps::image(
            &world,
            1,
            |_| Ok(()),
            MQTT,
            |files| {
                files.add("ca.pem", believed, false);
                Ok(())
            },
        )?;
        let released = world.add_release(image.path())?;
        let mut machine = world.machine(image.path(), TPM)?;
        for network in &mut machine.networks {
            match network {
                Network::Servers { servers, .. } => {
                    servers.push((BROKER, relay_command(broker.port)?));
                }
                Network::Peer(world) => {
                    let answer = Answer::of(&[&BROKER.ip().to_string()]);
                    world.names.push((NAME.to_owned(), answer));
                }
                _ => {}
            }
        }
        let mut guest = machine.start(None)?;
        let device = world.claim(&mut guest, "tpm", "emulated")?;
        guest.wait(FULL, CHECK_IN)?;
        Ok(Self { world, broker, guest, device, released, _image: image })
    }
}

fn an_app_talks_to_mosquitto_with_its_certificate(scene: &mut Scene) -> Result<()> {
    let Scene { broker, guest, device, .. } = scene;
    guest.wait_anywhere(&format!("mqtt: this is device {device} with release 0\\.1\\.0"), WAIT)?;
    guest.wait_anywhere("mqtt: connected to broker\\.example\\.com", WAIT)?;
    guest.wait_anywhere("mqtt: reading [0-9]+ is published", WAIT)?;
    let message = broker.next_message("readings/#")?;
    let reading = message.strip_prefix(&format!("readings/{device} "));
    let reading = reading.with_context(|| format!("{message} is not of {device}"))?;
    ensure!(reading.parse::<u32>().is_ok(), "{message}");
    // The broker has its name from the certificate, and from nothing that the app has said.
    let user = format!("u'{device}'");
    ensure!(broker.log().contains(&user), "no {user} in:\n{}", broker.log());
    broker.publish(&format!("commands/{device}"), "open")?;
    guest.wait_anywhere("mqtt: command: open", WAIT)?;
    ensure!(!broker.takes_strangers()?, "a client without a certificate is taken");
    let refused = broker.log();
    ensure!(refused.contains("peer did not return a certificate"), "{refused}");
    Ok(())
}

fn a_device_whose_release_was_withdrawn_is_gone_from_the_broker(scene: &mut Scene) -> Result<()> {
    let Scene { world, broker, guest, device, released, .. } = scene;
    world.service.set_withdrawn(released, true)?;
    check_in_again(guest)?;
    guest.wait("identity: checked in: UpdateOnly", CHECK_IN)?;
    guest.wait_anywhere("mqtt: the certificate is not the newest any more", WAIT)?;
    let gone = format!("Client {device} disconnected");
    ensure!(broker.log().contains(&gone), "no `{gone}` in:\n{}", broker.log());
    world.service.set_withdrawn(released, false)?;
    check_in_again(guest)?;
    guest.wait(FULL, CHECK_IN)?;
    guest.wait("mqtt: connected to broker\\.example\\.com", WAIT)?;
    guest.wait("mqtt: reading [0-9]+ is published", BOOT)?;
    Ok(())
}
