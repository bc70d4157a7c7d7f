//! What all components share of the kernel and of the machine: whoever takes as much of it as it can takes nothing that
//! is another's.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::{ANSWER, BOOT, boot_probe, once_more};
use crate::harness::packages::{hello, repacked, with_package};
use crate::harness::suite::{Suite, check, checks};
use crate::network::world::{machine, usual_world};
use anyhow::{Context, Result, ensure};
use holdfast_images::root::Root;
use holdfast_qemu::machine::{Guest, Machine};
use holdfast_qemu::packet::{Packet, Segment, TCP, UDP, flag};
use holdfast_qemu::peer::GUEST;
use holdfast_sandbox::network::connections::{MAX_INCOMING, MAX_OF_ONE_ADDRESS};
use holdfast_sandbox::package::Header;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// The port that the example serves.
const SERVED: u16 = 8080;

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    let network = move || artefacts.image("network");
    // The last one takes all that strangers may have of one app.
    suite.sequence(
        move || connected(&network()),
        checks![
            one_stranger_has_no_more_connections_than_its_share,
            what_strangers_send_to_the_device_itself_is_not_followed,
            many_strangers_use_up_no_connections_of_others
        ],
    );
    let probe = move || artefacts.image("probe");
    suite.share(
        move || boot_probe(&Machine::new(&probe(), 64)),
        checks![the_killer_of_the_kernel_is_led_to_apps],
    );
    check!(suite, a_package_with_more_memory_than_is_left_is_refused(&probe()));
    check!(suite, a_package_with_more_storage_than_is_left_is_refused(&probe()));
    let supervision = move || artefacts.image("supervision");
    suite.share(
        move || boot_probe(&Machine::new(&supervision(), 64)),
        checks![a_storm_of_writes_is_slowed_down_and_told],
    );
}

fn connected(image: &Path) -> Result<Guest> {
    let mut guest = machine(image, usual_world()).start(None)?;
    guest.wait_anywhere("eth0: leased 10\\.77\\.0\\.50/24 from 10\\.77\\.0\\.1", BOOT)?;
    guest.wait_anywhere("sensor: collector\\.example\\.com has taken reading", BOOT)?;
    Ok(guest)
}

/// Sends the guest one TCP segment after the other, as somebody outside, and no faster than it can take them.
fn send_all(guest: &Guest, segments: impl Iterator<Item = (Ipv4Addr, Segment)>) -> Result<()> {
    send_paced(guest, TCP, segments)?;
    thread::sleep(Duration::from_secs(2));
    Ok(())
}

/// Sends the guest a packet for each segment, with a pause after every 64.
fn send_paced(
    guest: &Guest,
    protocol: u8,
    segments: impl Iterator<Item = (Ipv4Addr, Segment)>,
) -> Result<()> {
    for (number, (from, segment)) in segments.enumerate() {
        guest.peer()?.send(&Packet::with(from.into(), GUEST.into(), protocol, &segment));
        if number % 64 == 63 {
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

fn segment(source: u16, sequence: u32, acknowledgement: u32, flags: u8) -> Segment {
    let payload = Vec::new();
    Segment { source, destination: SERVED, sequence, acknowledgement, flags, payload }
}

/// Everybody to whom the guest has agreed to a connection: who, by which port, and the number it begins with.
fn agreed(guest: &Guest) -> Result<BTreeSet<(IpAddr, u16, u32)>> {
    let packets = guest.peer()?.packets();
    let agreements = packets.iter().filter_map(|packet| {
        let found = packet.segment()?;
        let both = flag::SYN | flag::ACK;
        (packet.protocol == TCP && found.source == SERVED && found.flags & both == both)
            .then_some((packet.destination, found.destination, found.sequence))
    });
    Ok(agreements.collect())
}

/// Connections that the kernel follows now.
fn followed(guest: &mut Guest) -> Result<u32> {
    let answer = guest.probe.ask("read /proc/sys/net/netfilter/nf_conntrack_count", ANSWER)?;
    answer.trim().parse().with_context(|| answer.clone())
}

/// Whoever has connections gets no more than one address may have; another address does.
fn one_stranger_has_no_more_connections_than_its_share(guest: &mut Guest) -> Result<()> {
    const ASKED: u16 = 40;
    let from = |last: u8| Ipv4Addr::new(10, 77, 0, last);
    guest.peer()?.forget();
    let begin = |last: u8, count: u16| {
        (0..count)
            .map(move |port| (from(last), segment(port.saturating_add(20_000), 1, 0, flag::SYN)))
    };
    send_all(guest, begin(66, ASKED))?;
    let of = |guest: &Guest, last: u8| -> Result<usize> {
        Ok(agreed(guest)?.iter().filter(|(to, ..)| *to == IpAddr::V4(from(last))).count())
    };
    let first = of(guest, 66)?;
    ensure!(first == usize::try_from(MAX_OF_ONE_ADDRESS)?, "{first} of {ASKED} were taken");
    guest.wait_anywhere(
        "tcp-server: refused TCP to .*: somebody outside has 16 connections",
        BOOT,
    )?;
    // The control: it is not the app that takes no more.
    send_all(guest, begin(67, 1))?;
    ensure!(of(guest, 67)? == 1, "nobody else is taken");
    Ok(())
}

/// Thousands of handshakes from a hundred addresses, each of which is finished where the guest agrees.
fn many_strangers_use_up_no_connections_of_others(guest: &mut Guest) -> Result<()> {
    const ADDRESSES: u8 = 100;
    const EACH: u16 = 43;
    guest.peer()?.forget();
    let before = followed(guest)?;
    let from = |address: u8| Ipv4Addr::new(10, 77, 0, address.saturating_add(100));
    let all = (0..EACH).flat_map(|port| (0..ADDRESSES).map(move |address| (address, port)));
    send_all(
        guest,
        all.map(|(address, port)| {
            (from(address), segment(port.saturating_add(30_000), 1, 0, flag::SYN))
        }),
    )?;
    let taken = agreed(guest)?;
    let finish = taken.iter().filter_map(|(to, port, sequence)| match to {
        IpAddr::V4(to) => Some((*to, segment(*port, 2, sequence.wrapping_add(1), flag::ACK))),
        IpAddr::V6(_) => None,
    });
    send_all(guest, finish)?;
    // The control: it was an attack, and some of it was let through.
    ensure!(taken.len() >= 16, "{} were taken", taken.len());
    let now = followed(guest)?;
    // Beside them, some have ended already, and the other apps go on.
    let most = before.saturating_add(MAX_INCOMING).saturating_add(100);
    ensure!(now <= most, "{now} connections are followed, {before} before");
    for host in ["collector.example.com", "tcp-server.app.internal"] {
        once_more(guest, &format!("sensor: {host} has taken reading"), |_| Ok(()))?;
    }
    let text = guest.console.text();
    ensure!(!text.contains("table full"), "{text}");
    Ok(())
}

/// What looks like the answer of a DHCP server, from everywhere.
fn what_strangers_send_to_the_device_itself_is_not_followed(guest: &mut Guest) -> Result<()> {
    const SENT: u16 = 2000;
    let before = followed(guest)?;
    let leases = (0..SENT).map(|number| {
        let [high, low] = number.to_be_bytes();
        let payload = b"no lease".to_vec();
        let lease = Segment { destination: 68, payload, ..segment(67, 0, 0, 0) };
        (Ipv4Addr::new(203, 0, high, low), lease)
    });
    send_paced(guest, UDP, leases)?;
    let now = followed(guest)?;
    ensure!(now < before.saturating_add(200), "{now} connections are followed, {before} before");
    once_more(guest, "sensor: collector.example.com has taken reading", |_| Ok(()))
}

fn the_killer_of_the_kernel_is_led_to_apps(guest: &mut Guest) -> Result<()> {
    let processes = guest.probe.ask("processes", ANSWER)?;
    let mut seen = BTreeSet::new();
    for process in processes.lines() {
        let field = |name: &str| {
            process.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        let pid = field("pid").with_context(|| process.to_owned())?;
        let uid: u32 = field("Uid").with_context(|| process.to_owned())?.parse()?;
        let found = guest.probe.ask(&format!("read /proc/{pid}/oom_score_adj"), ANSWER)?;
        let expected = match uid {
            0 => "0",
            1001.. => "1000",
            _ => "-999",
        };
        ensure!(found.trim() == expected, "{} for {process}", found.trim());
        seen.insert(expected);
    }
    ensure!(seen.len() == 3, "only {seen:?} in:\n{processes}");
    let kept = guest.probe.ask("read /sys/fs/cgroup/probe/memory.min", ANSWER)?;
    ensure!(kept.trim() == "4194304", "the probe keeps {kept}");
    let kept = guest.probe.ask("read /sys/fs/cgroup/hello/memory.min", ANSWER)?;
    ensure!(kept.trim() == "0", "hello keeps {kept}");
    Ok(())
}

fn a_package_with_more_memory_than_is_left_is_refused(image: &Path) -> Result<()> {
    refuses_more(image, "MemoryKiB\": 2048", "MemoryKiB\": 60000", "60000 KiB of memory")
}

fn a_package_with_more_storage_than_is_left_is_refused(image: &Path) -> Result<()> {
    let more = "Capabilities\": { \"MutableStorage\": { \"SizeKB\": 65536 } }";
    refuses_more(image, "Capabilities\": {}", more, "65536 KiB of storage")
}

/// hello asks for more than the machine has left, and is not started; whoever asks for less is.
fn refuses_more(image: &Path, usual: &str, more: &str, why: &str) -> Result<()> {
    let manifest = "app_manifest.json";
    let disk = with_package(image, |bytes| {
        let header = Header::parse(bytes, u64::try_from(bytes.len())?)?;
        let mut found = false;
        *bytes = repacked(bytes, header, |files: &mut Root| {
            let text = files.files().find(|(path, ..)| *path == manifest);
            let text = text.map(|(_, bytes, _)| String::from_utf8_lossy(bytes).into_owned());
            let text = text.unwrap_or_default();
            found = text.contains(usual);
            files.add(manifest, text.replace(usual, more).into_bytes(), false);
        })?;
        ensure!(found, "{} has no `{usual}`", hello()?);
        Ok(())
    })?;
    let mut guest = boot_probe(&Machine::new(disk.path(), 64))?;
    guest.wait_anywhere(
        &format!("hello is not started: the package is not granted what it asks for: {why}"),
        BOOT,
    )?;
    Ok(())
}

/// An app that writes and syncs as fast as it can is held to its rate, and slowed down once it has written what it may
/// in a day; another goes on.
fn a_storm_of_writes_is_slowed_down_and_told(guest: &mut Guest) -> Result<()> {
    guest.wait_anywhere("storm writes as much as it may: 1024 KiB or 8 times a second", BOOT)?;
    guest.wait_anywhere("storm has written the 1 MiB that it may in a day", BOOT)?;
    let limit = guest.probe.ask("read /sys/fs/cgroup/storm/io.max", ANSWER)?;
    ensure!(limit.contains("wbps=65536") && limit.contains("wiops=8"), "{limit}");
    let told = guest.console.text().matches("storm writes as much as it may").count();
    ensure!(told == 1, "told {told} times");
    once_more(guest, "hello: heartbeat", |_| Ok(()))
}
