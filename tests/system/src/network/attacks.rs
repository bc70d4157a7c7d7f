//! Every attack on the network twice, as those of [`crate::sandbox::hostile`]: in an app with grants, and as PID 1
//! of a machine that has the network device to itself. The peer has seen what left the device.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::BOOT;
use crate::harness::suite::{Needs, Suite, boxed, checks};
use crate::network::world::{COLLECTOR, usual_world};
use crate::sandbox::attacks::NETWORK_ATTACKS;
use crate::sandbox::hostile::{self, Runs};
use anyhow::{Result, ensure};
use holdfast_images::root::Root;
use holdfast_images::variant;
use holdfast_qemu::machine::{Machine, Network};
use holdfast_qemu::packet::{Packet, UDP};
use holdfast_qemu::peer::{self, Advertisement, Answer, GUEST, Instance, NAME_SERVER, World};
use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// The boots, and what the guest has sent in the first one.
struct Attacked {
    runs: Runs,
    sent: Vec<Packet>,
}

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    let mut checks = hostile::judgements(NETWORK_ATTACKS, |attacked: &Attacked| &attacked.runs);
    checks.extend(boxed(checks![
        no_packet_of_an_attack_leaves_the_device,
        others_do_not_notice_an_attack
    ]));
    suite.with(Needs::Light).share_named(move || attack(artefacts), checks);
}

pub(crate) fn world() -> World {
    let mut world = usual_world();
    world.router = Some(Advertisement {
        prefix: [0x20, 1, 0xd, 0xb8, 0, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].into(),
        name_servers: Vec::new(),
        seconds: 3600,
        by_dhcp: Vec::new(),
    });
    for (_, answer) in &mut world.names {
        answer.ttl = 1; // The least that the proxy makes of it is 30 seconds; the attacks take longer.
    }
    world.services.push(Instance {
        service: "_printer._tcp.local".to_owned(),
        name: "Front desk._printer._tcp.local".to_owned(),
        host: "printer.local".to_owned(),
        port: 9100,
    });
    // A neighbour that names what is not on the link, and a public name that leads to a neighbour.
    world.services.push(Instance {
        service: "_printer._tcp.local".to_owned(),
        name: "Back office._printer._tcp.local".to_owned(),
        host: "elsewhere.local".to_owned(),
        port: 9100,
    });
    let near = Answer { ttl: 1, ..Answer::of(&["10.77.0.1", "2001:db8:77::1"]) };
    world.names.push(("rebind.example.com".to_owned(), near));
    for (name, address) in [
        ("elsewhere.local", "203.0.113.66"),
        ("printer.local", "10.77.0.71"),
        ("service.example.com", "203.0.113.7"),
        ("secret.service.example.com", "203.0.113.7"),
        ("*.tunnel.example.com", "203.0.113.66"),
        ("tunnel.example.com", "203.0.113.66"),
        ("nas.local", "10.77.0.70"),
    ] {
        world.names.push((name.to_owned(), Answer { ttl: 1, ..Answer::of(&[address]) }));
    }
    world
}

fn attack(artefacts: &Artefacts) -> Result<Attacked> {
    let image = artefacts.image("network");
    let program = fs::read(artefacts.programs.join("hostile-network"))?;
    let kernel = fs::read(artefacts.images.join("control-zImage"))?;
    let directory = tempfile::tempdir()?;
    let signer = artefacts.signer()?;
    let variant = |name: &str, kernel: Option<Vec<u8>>| -> Result<String> {
        let path = directory.path().join(name);
        variant::with_kernel_and_root(&image, &path, &signer, kernel, |root: &mut Root| {
            root.add("sbin/init", program.clone(), true);
        })?;
        Ok(boot(&path)?.0)
    };
    let (planned_text, sent) = boot(&image)?;
    Ok(Attacked {
        runs: Runs {
            planned: hostile::Shown::of(planned_text),
            control: hostile::Shown::of(variant("control", Some(kernel))?),
            bare: hostile::Shown::of(variant("bare", None)?),
        },
        sent,
    })
}

fn boot(image: &Path) -> Result<(String, Vec<Packet>)> {
    let mut machine = Machine::new(image, 64);
    machine.networks = vec![Network::Peer(world())];
    let mut guest = machine.start(None)?;
    guest.wait_anywhere("the attacks on the network are over", BOOT)?;
    Ok((guest.console.text(), guest.peer()?.packets()))
}

/// What may be on the cable: the service's own questions, what the grants cover, and neighbours.
fn no_packet_of_an_attack_leaves_the_device(attacked: &mut Attacked) -> Result<()> {
    let granted: [(&str, u16); 3] = [("203.0.113.7", 443), (COLLECTOR, 7000), ("10.77.0.71", 9100)];
    for packet in &attacked.sent {
        let ports = packet.segment().map(|s| (s.source, s.destination));
        let service = packet.protocol == UDP
            && match ports {
                Some((68, 67)) => true,
                Some((_, 53)) => packet.destination == IpAddr::V4(NAME_SERVER),
                Some((53_530, 5353)) => packet.destination.to_string() == "224.0.0.251",
                _ => false,
            };
        let allowed = granted.iter().any(|(address, port)| {
            packet.destination.to_string() == *address && ports.is_some_and(|p| p.1 == *port)
        });
        // The prefix that was granted by UDP.
        let prefix = packet.destination.to_string().starts_with("203.0.113.")
            && packet.protocol == UDP
            && ports.is_some_and(|p| p.1 == 5000);
        let neighbours = packet.protocol == holdfast_qemu::packet::ICMP6;
        ensure!(service || allowed || prefix || neighbours, "left: {}", peer::line(packet));
        let own = match packet.source {
            IpAddr::V4(source) => source == GUEST || source.is_unspecified(),
            IpAddr::V6(source) => {
                source.is_unspecified()
                    || source.is_unicast_link_local()
                    || source.segments()[..4] == [0x2001, 0xdb8, 0x77, 0]
            }
        };
        ensure!(own, "as somebody else: {}", peer::line(packet));
        // Questions for names hold what was granted, and nothing that an app made up.
        if service && ports.is_some_and(|p| p.1 == 53) {
            let payload = packet.segment().map(|s| s.payload).unwrap_or_default();
            let text = String::from_utf8_lossy(&payload).to_lowercase();
            let known = ["service", "rebind", "collector"].iter().any(|name| text.contains(name));
            let secret =
                ["secret", "tunnel", "aaaa", "bbbb"].iter().any(|name| text.contains(name));
            ensure!(known && !secret, "asked for {text:?}");
        }
    }
    Ok(())
}

/// Another app, of which nothing was attacked but what it shares with the attacker.
fn others_do_not_notice_an_attack(attacked: &mut Attacked) -> Result<()> {
    let text = &attacked.runs.planned.text;
    // Its name's addresses stay open for as long as it goes on asking, beyond their first time to live.
    let since = text.split_once("sensor: collector.example.com has taken reading");
    let since = since.map(|(_, rest)| rest).unwrap_or_default();
    ensure!(!since.contains("sensor: collector.example.com: "), "it was refused:\n{since}");
    let taken = |host: &str| text.matches(&format!("sensor: {host} has taken reading")).count();
    for host in ["collector.example.com", "tcp-server.app.internal"] {
        ensure!(taken(host) >= 10, "{host} has taken {} readings in:\n{text}", taken(host));
    }
    ensure!(!text.contains("network ended"), "the network service has ended:\n{text}");
    Ok(())
}
