//! Apps reach what their manifests grant and are reached where they serve, and nothing else.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::{ANSWER, BOOT, WAIT, once_more};
use crate::harness::suite::{Suite, checks};
use crate::network::attacks;
use crate::network::world::{COLLECTOR, LEASED, machine, replug};
use anyhow::{Context, Result, ensure};
use holdfast_qemu::machine::Guest;
use holdfast_qemu::peer::{GUEST, World};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    let image = move || artefacts.image("network");
    suite.share(
        move || connect(&image(), attacks::world()),
        checks![
            apps_reach_what_their_manifests_grant,
            the_network_reaches_server_ports_and_nothing_else,
            an_app_without_grants_has_an_empty_namespace,
            the_network_service_has_two_capabilities_and_no_more,
            a_granted_service_is_found_on_the_link_and_opens_its_host,
            a_refusal_says_which_grant_is_missing,
            the_network_can_be_asked_how_it_is,
            apps_keep_their_grants_through_link_flaps,
            apps_regain_their_grants_when_the_network_service_restarts,
            another_address_takes_the_place_of_a_lease_that_was_taken_back
        ],
    );
}

fn connect(image: &Path, world: World) -> Result<Guest> {
    let mut guest = machine(image, world).start(None)?;
    guest.wait_anywhere("network is ready", BOOT)?;
    guest.wait_anywhere(LEASED, BOOT)?;
    Ok(guest)
}

fn apps_reach_what_their_manifests_grant(guest: &mut Guest) -> Result<()> {
    guest.wait_anywhere("collector\\.example\\.com has taken reading", WAIT)?;
    guest.wait_anywhere("tcp-server\\.app\\.internal has taken reading", WAIT)?;
    let collector: IpAddr = COLLECTOR.parse()?;
    let sent = guest.peer()?.packets();
    let from: Vec<_> = sent.iter().filter(|p| p.destination == collector).collect();
    ensure!(!from.is_empty() && from.iter().all(|p| p.source == IpAddr::V4(GUEST)), "{from:?}");
    Ok(())
}

/// A server port of an app answers, and nothing else does.
fn the_network_reaches_server_ports_and_nothing_else(guest: &mut Guest) -> Result<()> {
    let peer = guest.peer()?;
    let answer = peer.ask(GUEST.into(), 8080, b"to the app\n", WAIT);
    ensure!(answer.as_deref() == Some(b"to the app\n".as_slice()), "{answer:?}");
    for port in [22, 23, 53, 80, 7000, 9000] {
        let answer = peer.ask(GUEST.into(), port, b"x", Duration::from_millis(1500));
        ensure!(answer.is_none(), "port {port} answers {answer:?}");
    }
    Ok(())
}

/// The devices in the namespace of a component's process, as the kernel lists them.
fn devices_of(guest: &mut Guest, component: &str) -> Result<Vec<String>> {
    let status = guest.probe.ask("status", ANSWER)?;
    let line = status.lines().find(|line| line.contains(component));
    let line = line.with_context(|| format!("no {component} in:\n{status}"))?;
    let uid = line.split("uid=").nth(1).and_then(|rest| rest.split(' ').next());
    let uid = uid.with_context(|| line.to_owned())?.to_owned();
    let processes = guest.probe.ask("processes", ANSWER)?;
    let process = processes
        .lines()
        .find(|line| line.contains(&format!(" Uid={uid} ")))
        .with_context(|| processes.clone())?;
    let pid = process.split("pid=").nth(1).and_then(|rest| rest.split(' ').next());
    let pid = pid.with_context(|| process.to_owned())?.to_owned();
    let devices = guest.probe.ask(&format!("read /proc/{pid}/net/dev"), ANSWER)?;
    let names = devices.lines().filter_map(|line| line.split_once(':'));
    Ok(names.map(|(name, _)| name.trim().to_owned()).collect())
}

fn an_app_without_grants_has_an_empty_namespace(guest: &mut Guest) -> Result<()> {
    let hello = devices_of(guest, "hello")?;
    ensure!(hello == ["lo"], "{hello:?}");
    let sensor = devices_of(guest, "sensor")?;
    ensure!(sensor == ["lo", "eth0"], "{sensor:?}");
    Ok(())
}

fn the_network_service_has_two_capabilities_and_no_more(guest: &mut Guest) -> Result<()> {
    let processes = guest.probe.ask("processes", ANSWER)?;
    let service = processes.lines().find(|line| line.contains(" Name=network "));
    let service = service.with_context(|| processes.clone())?;
    // CAP_NET_BIND_SERVICE and CAP_NET_ADMIN.
    for field in [
        "NoNewPrivs=1",
        "Seccomp=2",
        "CapPrm=0000000000001400",
        "CapEff=0000000000001400",
        "CapBnd=0000000000001400",
        "CapInh=0000000000000000",
        "CapAmb=0000000000000000",
    ] {
        ensure!(service.contains(field), "{field}: {service}");
    }
    Ok(())
}

/// EHOSTUNREACH and ENODATA before the service was asked for, and success after.
fn a_granted_service_is_found_on_the_link_and_opens_its_host(guest: &mut Guest) -> Result<()> {
    let said = guest.wait_anywhere("discovery: .*", WAIT)?;
    let expected = "before 113 61, instances 0, instance 0, host 0, connected 0";
    ensure!(said.contains(expected), "{said}");
    Ok(())
}

/// The attacking app of this image tries what it has no grant for.
fn a_refusal_says_which_grant_is_missing(guest: &mut Guest) -> Result<()> {
    for line in [
        "hostile-network: refused TCP to 203\\.0\\.113\\.8:443: AllowedConnections has \
         203\\.0\\.113\\.0/24, UDP, port 5000",
        "hostile-network: refused the name secret\\.service\\.example\\.com: AllowedConnections has no \
         such name",
        "hostile-network: refused UDP to 203\\.0\\.113\\.53:53",
    ] {
        guest.wait_anywhere(line, WAIT)?;
    }
    Ok(())
}

/// Interfaces, servers, and for each app what it has sent and what was refused to it last.
fn the_network_can_be_asked_how_it_is(guest: &mut Guest) -> Result<()> {
    guest.wait_anywhere("hostile-network: refused TCP", WAIT)?;
    let status = guest.probe.ask("network", ANSWER)?;
    for line in [
        "connected\n",
        "eth0: link up ",
        " 10.77.0.50/24",
        ", leased 10.77.0.50 from 10.77.0.1 for 86400 s\n",
        "names from 10.77.0.53\ntime from nobody\n",
        "hostile-network: refused ",
    ] {
        ensure!(status.contains(line), "no `{line}` in\n{status}");
    }
    let sensor = status.lines().find(|line| line.starts_with("sensor: sent "));
    let sensor = sensor.with_context(|| status.clone())?;
    ensure!(!sensor.contains("sent 0") && !sensor.contains("received 0 "), "{sensor}");
    ensure!(sensor.ends_with(", refused 0"), "{sensor}");
    // And it is in the log that `run` prints.
    guest.wait_anywhere("network: connected", WAIT)?;
    guest.wait_anywhere("network: sensor: sent [0-9]+ packets of [0-9]+ bytes, received", WAIT)?;
    Ok(())
}

/// Waits until the sensor reaches others once more than it has so far.
fn still_reaches(guest: &mut Guest) -> Result<()> {
    for host in ["collector.example.com", "tcp-server.app.internal"] {
        let taken = format!("sensor: {host} has taken reading");
        once_more(guest, &taken, |_| Ok(()))?;
    }
    Ok(())
}

fn apps_keep_their_grants_through_link_flaps(guest: &mut Guest) -> Result<()> {
    for _ in 0..50 {
        // Too fast to be noticed each time.
        guest.plug(false)?;
        guest.plug(true)?;
    }
    // It may have seen the last pull and not yet the last plug: another pull would be no news to it then.
    still_reaches(guest)?;
    replug(guest)?;
    still_reaches(guest)
}

fn apps_regain_their_grants_when_the_network_service_restarts(guest: &mut Guest) -> Result<()> {
    once_more(guest, "network is ready", |guest| {
        guest.probe.ask("restart network", ANSWER)?;
        Ok(())
    })?;
    still_reaches(guest)?;
    the_network_reaches_server_ports_and_nothing_else(guest)
}

fn another_address_takes_the_place_of_a_lease_that_was_taken_back(guest: &mut Guest) -> Result<()> {
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 60);
    guest.peer()?.change(|world| world.dhcp.address = OTHER);
    // The server is asked again when the cable comes back.
    replug(guest)?;
    guest.wait_anywhere("eth0: lease revoked by the server", WAIT)?;
    guest.wait_anywhere("eth0: leased 10\\.77\\.0\\.60/24", WAIT)?;
    still_reaches(guest)?;
    let peer = guest.peer()?;
    let answer = peer.ask(OTHER.into(), 8080, b"moved\n", WAIT);
    ensure!(answer.as_deref() == Some(b"moved\n".as_slice()), "{answer:?}");
    let old = peer.ask(GUEST.into(), 8080, b"x", Duration::from_millis(1500));
    ensure!(old.is_none(), "the old address answers {old:?}");
    Ok(())
}
