//! Addresses, routes and name servers that a network gives, with servers that err, lie, flood or vanish.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::{BOOT, WAIT, once_more};
use crate::harness::suite::{Needs, Suite, check};
use crate::network::world::{LEASED, machine, replug, usual_world};
use anyhow::{Result, ensure};
use holdfast_images::root::Root;
use holdfast_images::variant;
use holdfast_networking::config::{Addressing, Interface, NetworkConfig};
use holdfast_qemu::machine::{Guest, Machine};
use holdfast_qemu::packet::{Packet, TCP, UDP};
use holdfast_qemu::peer::{
    Advertisement, GUEST, LeaseForm, Manner, NAME_SERVER, Peer, ROUTER, ROUTER_V6, World,
    router_advertisement,
};
use holdfast_qemu::settings;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    let image = move || artefacts.image("network");
    let lease = move || artefacts.image("lease");
    check!(suite.with(Needs::Peer), a_lease_is_renewed_again_and_again(&lease()));
    check!(suite.with(Needs::Peer), a_hundred_link_flaps_leave_one_lease(&lease()));
    check!(
        suite.with(Needs::Peer),
        a_lease_runs_out_when_its_server_is_gone_and_comes_back_with_it(&lease())
    );
    check!(
        suite.with(Needs::Peer),
        a_renewal_that_repeats_nothing_leaves_the_lease_as_it_was(&lease())
    );
    check!(suite.with(Needs::Peer), an_address_that_somebody_has_is_declined(&lease()));
    check!(suite, a_lease_of_one_address_has_its_routes_in_options(&image()));
    check!(suite, one_name_server_of_several_is_enough(&image()));
    check!(suite, a_name_whose_answers_fit_no_datagram_is_resolved_over_tcp(&image()));
    check!(suite.with(Needs::Peer), a_rogue_dhcp_server_is_not_believed(&lease()));
    check!(suite.with(Needs::Peer), a_lease_storm_is_harmless(&lease()));
    check!(suite, a_router_gives_addresses_and_name_servers(&lease(), &artefacts.board));
    check!(suite, static_addresses_need_nobody(artefacts, &image()));
}

fn to_server(packet: &Packet) -> bool {
    packet.protocol == UDP && packet.segment().is_some_and(|s| s.destination == 67)
}

/// A guest on its own clock, which runs as fast as it is idle.
fn on_virtual_clock(image: &Path, world: World) -> Result<Guest> {
    let mut guest = Machine { counted: true, ..machine(image, world) }.start(None)?;
    guest.wait_anywhere("network is ready", BOOT)?;
    Ok(guest)
}

fn count(peer: &Peer, like: impl Fn(&Packet) -> bool) -> usize {
    peer.packets().iter().filter(|packet| like(packet)).count()
}

fn wait_until(what: &str, within: Duration, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let (started, within) = (Instant::now(), settings::scaled(within));
    while !holds()? {
        ensure!(started.elapsed() < within, "{what} did not come within {within:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn a_hundred_link_flaps_leave_one_lease(image: &Path) -> Result<()> {
    let mut guest = on_virtual_clock(image, usual_world())?;
    guest.wait_anywhere(LEASED, BOOT)?;
    for _ in 0..100 {
        replug(&mut guest)?;
    }
    once_more(&mut guest, "eth0: leased 10.77.0.50/24", replug)?;
    let text = guest.console.text();
    ensure!(!text.contains("event=address_removed") && !text.contains("network ended"), "{text}");
    let addresses = text.matches("eth0: address 10.77.0.50/24").count();
    ensure!(addresses == 1, "the address was there {addresses} times:\n{text}");
    Ok(())
}

fn a_lease_is_renewed_again_and_again(image: &Path) -> Result<()> {
    let mut world = usual_world();
    world.dhcp.seconds = 3600;
    let mut guest = on_virtual_clock(image, world)?;
    guest.wait_anywhere(LEASED, BOOT)?;
    let peer = guest.peer()?;
    // A lease of an hour is renewed every half hour with its own server.
    let renewal = |packet: &Packet| to_server(packet) && packet.destination == IpAddr::V4(ROUTER);
    wait_until("the fourth renewal", WAIT, || Ok(count(peer, renewal) >= 4))?;
    let text = guest.console.text();
    ensure!(!text.contains("lease expired") && !text.contains("lease revoked"), "{text}");
    Ok(())
}

fn a_renewal_that_repeats_nothing_leaves_the_lease_as_it_was(image: &Path) -> Result<()> {
    let mut world = usual_world();
    (world.dhcp.seconds, world.dhcp.form) = (3600, LeaseForm::BareRenewals);
    let mut guest = on_virtual_clock(image, world)?;
    let whole =
        format!("{LEASED} for 3600 s, gateway 10\\.77\\.0\\.1, name servers 10\\.77\\.0\\.53");
    guest.wait_anywhere(&format!("(?s)({whole}.*){{4}}"), WAIT)?;
    let text = guest.console.text();
    ensure!(!text.contains("no gateway") && !text.contains("event=address_removed"), "{text}");
    Ok(())
}

/// Somebody on the link has the address that is leased first, and none of those after.
fn an_address_that_somebody_has_is_declined(image: &Path) -> Result<()> {
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 61);
    let mut world = usual_world();
    world.taken = vec![GUEST];
    let mut guest = on_virtual_clock(image, world)?;
    let said = "eth0: address conflict: 02:00:00:00:00:01 has 10\\.77\\.0\\.50; lease declined";
    guest.wait_anywhere(said, WAIT)?;
    // DHCPDECLINE, of which option 53 is the first.
    let declined = |packet: &Packet| {
        let payload = packet.segment().map(|segment| segment.payload).unwrap_or_default();
        to_server(packet) && payload.get(240..243) == Some(&[53, 1, 4])
    };
    wait_until("a decline", WAIT, || Ok(count(guest.peer()?, declined) >= 1))?;
    guest.peer()?.change(|world| world.dhcp.address = OTHER);
    guest.wait_anywhere("eth0: leased 10\\.77\\.0\\.61/24", WAIT)?;
    let text = guest.console.text();
    ensure!(!text.contains("eth0: address 10.77.0.50"), "it was used:\n{text}");
    Ok(())
}

fn a_lease_of_one_address_has_its_routes_in_options(image: &Path) -> Result<()> {
    let mut world = usual_world();
    world.dhcp.form = LeaseForm::HostPrefix;
    let mut guest = machine(image, world).start(None)?;
    guest.wait_anywhere("eth0: leased 10\\.77\\.0\\.50/32 .*, gateway 10\\.77\\.0\\.1", BOOT)?;
    guest.wait_anywhere("collector\\.example\\.com has taken reading", WAIT)?;
    Ok(())
}

/// One is silent, one refuses everything, and one refuses EDNS, as many a router does.
fn one_name_server_of_several_is_enough(image: &Path) -> Result<()> {
    let server = |last| Ipv4Addr::new(10, 77, 0, last);
    let mut world = usual_world();
    world.name_servers = vec![
        (server(54), Manner::Silent),
        (server(55), Manner::Refuses),
        (NAME_SERVER, Manner::RefusesEdns),
    ];
    let mut guest = machine(image, world).start(None)?;
    guest.wait_anywhere("collector\\.example\\.com has taken reading", BOOT)?;
    guest.peer()?.change(|world| {
        for (_, manner) in &mut world.name_servers {
            *manner = Manner::Refuses;
        }
    });
    // What nobody says has its reason, and is not called silence.
    guest.wait_anywhere("cannot resolve collector\\.example\\.com: .*\\(REFUSED\\)", WAIT)?;
    let text = guest.console.text();
    ensure!(!text.contains("collector.example.com: no name server answers"), "{text}");
    Ok(())
}

/// Both servers truncate every answer by UDP to nothing; one of them answers over TCP.
fn a_name_whose_answers_fit_no_datagram_is_resolved_over_tcp(image: &Path) -> Result<()> {
    let other = Ipv4Addr::new(10, 77, 0, 54);
    let mut world = usual_world();
    world.name_servers =
        vec![(other, Manner::TruncatesWithoutTcp), (NAME_SERVER, Manner::Truncates)];
    let mut guest = machine(image, world).start(None)?;
    guest.wait_anywhere("collector\\.example\\.com has taken reading", BOOT)?;
    let peer = guest.peer()?;
    let over_tcp = |to: Ipv4Addr| {
        move |packet: &Packet| {
            packet.protocol == TCP
                && packet.destination == to
                && packet.segment().is_some_and(|segment| segment.destination == 53)
        }
    };
    for server in [other, NAME_SERVER] {
        ensure!(count(peer, over_tcp(server)) > 0, "{server} was not asked over TCP");
    }
    // It is the answer over TCP that was used: without it there is none, and that is not called silence.
    peer.change(|world| {
        for (_, manner) in &mut world.name_servers {
            *manner = Manner::TruncatesWithoutTcp;
        }
    });
    guest.wait_anywhere("cannot resolve collector\\.example\\.com: .*but refuses TCP", WAIT)?;
    let text = guest.console.text();
    ensure!(!text.contains("collector.example.com: no name server answers"), "{text}");
    Ok(())
}

fn a_lease_runs_out_when_its_server_is_gone_and_comes_back_with_it(image: &Path) -> Result<()> {
    let mut world = usual_world();
    world.dhcp.seconds = 3600;
    let mut guest = on_virtual_clock(image, world)?;
    guest.wait_anywhere(LEASED, BOOT)?;
    guest.peer()?.change(|world| world.dhcp.serves = false);
    guest.wait_anywhere("eth0: lease expired", WAIT)?;
    guest.wait_anywhere("eth0: address 10\\.77\\.0\\.50 removed", WAIT)?;
    let peer = guest.peer()?;
    // All servers were asked before it ran out, and are looked for after.
    let broadcast = |packet: &Packet| {
        to_server(packet) && packet.destination == IpAddr::V4(Ipv4Addr::BROADCAST)
    };
    ensure!(count(peer, broadcast) >= 3, "{} broadcasts", count(peer, broadcast));
    once_more(&mut guest, "eth0: leased 10.77.0.50/24", |guest| {
        guest.peer()?.change(|world| world.dhcp.serves = true);
        Ok(())
    })
}

/// Puts bytes at a place of a message.
fn put(message: &mut [u8], at: usize, bytes: &[u8]) {
    for (place, byte) in message.iter_mut().skip(at).zip(bytes) {
        *place = *byte;
    }
}

/// Changes an option of a server's message.
fn put_option(message: &mut [u8], wanted: u8, bytes: &[u8]) {
    let mut at = 240usize;
    while let Some([kind, length]) = message.get(at..).and_then(|rest| rest.first_chunk()).copied()
    {
        let value = at.saturating_add(2);
        if kind == wanted {
            return put(message, value, bytes);
        }
        at = value.saturating_add(usize::from(length));
    }
}

fn a_rogue_dhcp_server_is_not_believed(image: &Path) -> Result<()> {
    type Lie = fn(&mut Vec<u8>);
    let lies: [(&str, Lie); 7] = [
        ("the loopback address", |m| put(m, 16, &[127, 0, 0, 1])),
        ("an app's address", |m| put(m, 16, &[198, 18, 0, 1])),
        ("another transaction", |m| put(m, 4, &[0x55, 0x55])),
        ("another client", |m| put(m, 28, &[0x55])),
        ("a mask with holes", |m| put_option(m, 1, &[255, 15, 255, 0])),
        ("a message cut short", |m| m.truncate(250)),
        ("a lease of seconds", |m| put_option(m, 51, &[0, 0, 0, 5])),
    ];
    let mut world = usual_world();
    world.dhcp.lie = lies.first().map(|(_, lie)| *lie);
    let mut guest = on_virtual_clock(image, world)?;
    for (name, lie) in lies {
        let peer = guest.peer()?;
        peer.change(|world| world.dhcp.lie = Some(lie));
        peer.forget();
        wait_until("two more questions", WAIT, || Ok(count(peer, to_server) >= 2))?;
        let text = guest.console.text();
        ensure!(!text.contains("eth0: leased"), "{name} was believed:\n{text}");
        ensure!(!text.contains("network ended"), "{name} has ended the service:\n{text}");
    }
    guest.peer()?.change(|world| world.dhcp.lie = None);
    guest.wait_anywhere(LEASED, WAIT)?;
    Ok(())
}

fn a_lease_storm_is_harmless(image: &Path) -> Result<()> {
    let mut world = usual_world();
    // The shortest lease that is taken, and every answer a hundred times.
    (world.dhcp.seconds, world.dhcp.copies) = (60, 100);
    let mut guest = on_virtual_clock(image, world)?;
    guest.wait_anywhere(LEASED, BOOT)?;
    let leases = format!("(?s)({LEASED}.*){{20}}");
    guest.wait_anywhere(&leases, WAIT)?;
    let text = guest.console.text();
    ensure!(!text.contains("network ended"), "{text}");
    // However often it was answered, it asked no more than once every half minute of its own clock.
    let stamps: Vec<f64> = text
        .lines()
        .filter(|line| line.contains("eth0: leased"))
        .filter_map(|line| line.split(['[', ']']).nth(1)?.trim().parse().ok())
        .collect();
    let pairs = stamps.iter().zip(stamps.iter().skip(1));
    // The first lease is used a few seconds after it was granted, when nobody was found to have the address.
    let early = pairs.filter(|(before, after)| *after - *before < 25.0).count();
    ensure!(early == 0, "leases at {stamps:?}");
    Ok(())
}

fn a_router_gives_addresses_and_name_servers(image: &Path, board: &str) -> Result<()> {
    let prefix: Ipv6Addr = "2001:db8:77::".parse()?;
    let mut world = usual_world();
    world.router = Some(Advertisement {
        prefix,
        name_servers: vec!["2001:db8:77::53".parse()?],
        seconds: 86_400,
        by_dhcp: Vec::new(),
    });
    let mut guest = machine(image, world).start(None)?;
    // The second half is made from the interface's Ethernet address (RFC 4291, appendix A). On the Orange Pi PC
    // U-Boot makes that from the chip's serial number, and not from what the harness has plugged in.
    let host = match board {
        "orangepi-pc" => "81:4aff:fe58:bd80",
        _ => "5054:ff:fe12:3456",
    };
    guest.wait_anywhere(&format!("eth0: address 2001:db8:77:0:{host}/64"), BOOT)?;
    guest.wait_anywhere("eth0: name servers 2001:db8:77::53", BOOT)?;
    guest.wait_anywhere(LEASED, BOOT)?;
    // Another router leaves the name servers to DHCPv6.
    let by_dhcp = vec!["2001:db8:77::54".parse()?];
    let other = Advertisement { prefix, name_servers: Vec::new(), seconds: 86_400, by_dhcp };
    let peer = guest.peer()?;
    let advertisement = router_advertisement(ROUTER_V6, &other);
    peer.change(|world| world.router = Some(other));
    peer.send(&advertisement);
    // What the first one has said holds for its own time.
    guest.wait_anywhere("eth0: name servers 2001:db8:77::53 2001:db8:77::54", WAIT)?;
    Ok(())
}

/// Addresses, gateway and name server from the image, in a network where nobody gives any.
fn static_addresses_need_nobody(artefacts: &Artefacts, image: &Path) -> Result<()> {
    let interface = Interface {
        name: "eth0".to_owned(),
        ipv4: Addressing::Static {
            address: "10.77.0.9".parse()?,
            prefix: 24,
            gateway: Some(ROUTER.into()),
        },
        ipv6: Addressing::Off,
    };
    let config = NetworkConfig {
        interfaces: vec![interface],
        name_servers: vec![NAME_SERVER.into()],
        time_servers: Vec::new(),
    };
    let encoded = config.encode()?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("static");
    variant::with_root(image, &path, &artefacts.signer()?, |root: &mut Root| {
        root.add("usr/lib/holdfast/services/network/config", encoded, false);
    })?;
    let mut world = usual_world();
    world.dhcp.serves = false;
    world.router = Some(Advertisement {
        prefix: "2001:db8:77::".parse()?,
        name_servers: Vec::new(),
        seconds: 3600,
        by_dhcp: Vec::new(),
    });
    let mut guest = machine(&path, world).start(None)?;
    guest.wait_anywhere("eth0: address 10\\.77\\.0\\.9/24", BOOT)?;
    guest.wait_anywhere("collector\\.example\\.com has taken reading", WAIT)?;
    let answer = guest.peer()?.ask("10.77.0.9".parse()?, 8080, b"static\n", WAIT);
    ensure!(answer.as_deref() == Some(b"static\n".as_slice()), "{answer:?}");
    let text = guest.console.text();
    ensure!(!text.contains("leased") && !text.contains("eth0: address 2001"), "{text}");
    ensure!(count(guest.peer()?, to_server) == 0, "it has asked for a lease");
    Ok(())
}
