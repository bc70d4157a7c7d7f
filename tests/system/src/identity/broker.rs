//! An app talks to a broker with its certificate in place of a password, and is gone from it once the device has lost that.

use super::example_apps::{self, MQTT};
use super::mosquitto::{Mosquitto, NAME};
use super::world::{CHECK_IN, FULL_WITH_TWO_APPS, TPM, World, check_in_again};
use crate::harness::artefacts::Artefacts;
use crate::harness::guest::{WAIT, once_more};
use crate::harness::scratch::Scratch;
use crate::harness::suite::{Needs, Suite, checks};
use anyhow::{Context, Result, ensure};
use holdfast_images::root::Root;
use holdfast_qemu::machine::{Guest, Network};
use holdfast_qemu::peer::Answer;
use holdfast_qemu::relay::relay_command;
use holdfast_qemu::web_server::Authority;
use holdfast_repository::Released;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

/// Address of the broker for a device: an address that no other server has, and the port of the app's manifest.
const BROKER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 60), 8883);
/// A boot and three check-ins, each of which comes within a minute of being asked for, on an idle machine.
const LONGEST: Duration = Duration::from_secs(600);
/// An app with a certificate is back at the broker at once; one that is not back after this stays away.
const AWAY: Duration = Duration::from_secs(10);

pub(super) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    suite.with(Needs::Light).within(LONGEST).sequence(
        move || AtBroker::begin(artefacts),
        checks![
            an_app_talks_to_mosquitto_with_its_certificate,
            a_device_whose_release_was_withdrawn_is_gone_from_the_broker
        ],
    );
}

/// A device with the app, and the broker.
struct AtBroker {
    world: World,
    broker: Mosquitto,
    guest: Guest,
    device: String,
    released: Released,
    _image: Scratch,
}

impl AtBroker {
    fn begin(artefacts: &Artefacts) -> Result<Self> {
        let world = example_apps::world(artefacts)?;
        let authority = Authority::new()?;
        let broker = Mosquitto::start(&world.service.root_file, &authority)?;
        let believed = authority.certificate.clone().into_bytes();
        let change = |files: &mut Root| {
            files.add("ca.pem", believed, false);
            Ok(())
        };
        let image = example_apps::image(&world, 1, |_| Ok(()), MQTT, change)?;
        let released = world.add_release(image.path())?;
        let mut machine = world.machine(image.path(), TPM)?;
        for network in &mut machine.networks {
            match network {
                Network::Servers { servers, .. } => {
                    servers.push((BROKER, relay_command(broker.port)?));
                }
                Network::Peer(peers) => {
                    let answer = Answer::of(&[&BROKER.ip().to_string()]);
                    peers.names.push((NAME.to_owned(), answer));
                }
                _ => {}
            }
        }
        let mut guest = machine.start(None)?;
        let device = world.claim(&mut guest, "tpm", "emulated")?;
        guest.wait(FULL_WITH_TWO_APPS, CHECK_IN)?;
        Ok(Self { world, broker, guest, device, released, _image: image })
    }

    /// The end of the line that the broker logs of each connection of the app: the user, which is from its certificate alone.
    fn connected(&self) -> String {
        format!(", u'{}').", self.device)
    }
}

fn an_app_talks_to_mosquitto_with_its_certificate(at: &mut AtBroker) -> Result<()> {
    let connected = at.connected();
    let AtBroker { broker, guest, device, .. } = at;
    guest.wait_anywhere(&format!("mqtt: this is device {device} with release 0\\.1\\.0"), WAIT)?;
    guest.wait_anywhere("mqtt: connected to broker\\.example\\.com", WAIT)?;
    broker.wait(&connected, |broker| broker.times(&connected) > 0)?;
    guest.wait_anywhere("mqtt: reading [0-9]+ is published", WAIT)?;
    let message = broker.next_message("readings/#")?;
    let reading = message.strip_prefix(&format!("readings/{device} "));
    let reading = reading.with_context(|| format!("{message} is not of {device}"))?;
    ensure!(reading.parse::<u32>().is_ok(), "{message}");
    broker.publish(&format!("commands/{device}"), "open")?;
    guest.wait_anywhere("mqtt: command: open", WAIT)?;
    // The control of this is the device, which is taken at the same port.
    ensure!(!broker.takes_strangers()?, "a client without a certificate is taken");
    let refused = "peer did not return a certificate";
    broker.wait(refused, |broker| broker.times(refused) > 0)
}

fn a_device_whose_release_was_withdrawn_is_gone_from_the_broker(at: &mut AtBroker) -> Result<()> {
    let connected = at.connected();
    let AtBroker { world, broker, guest, device, released, .. } = at;
    // However a connection ends, the line begins so: by the id that the client has chosen, which is the device's as well.
    let gone = format!("Client {device} ");
    world.service.set_withdrawn(released, true)?;
    once_more(guest, "mqtt: the certificate is not the newest any more", |guest| {
        check_in_again(guest)?;
        guest.wait("identity: checked in: UpdateOnly", CHECK_IN)?;
        Ok(())
    })?;
    broker.wait("the end of the last connection", |broker| {
        broker.log().rsplit_once(&connected).is_some_and(|(_, since)| since.contains(&gone))
    })?;
    let connections = broker.times(&connected);
    std::thread::sleep(guest.scaled(AWAY));
    ensure!(broker.times(&connected) == connections, "it is back:\n{}", broker.log());
    // The control: nothing but the certificate was missing.
    world.service.set_withdrawn(released, false)?;
    once_more(guest, "mqtt: connected to broker.example.com", |guest| {
        check_in_again(guest)?;
        guest.wait(FULL_WITH_TWO_APPS, CHECK_IN)?;
        Ok(())
    })?;
    broker.wait("one more connection", |broker| broker.times(&connected) > connections)?;
    once_more(guest, "is published", |_| Ok(()))
}
