//! Whoever receives a descriptor closes it, and that close can wait for as long as its sender likes: nobody but an
//! app's own stub receives one from it.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::{ANSWER, BOOT, once_more};
use crate::harness::suite::{Suite, checks};
use crate::network::world::usual_world;
use anyhow::{Context, Result, ensure};
use holdfast_qemu::machine::{Guest, Machine, Network};
use std::path::Path;

/// Beats of another app, one a second, within which the watchdog would have reset the device: it gives up after fifteen.
const BEATS: usize = 25;

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    let image = move || artefacts.image("lingering");
    suite.share(
        move || boot_attacked(&image()),
        checks![
            an_app_that_has_its_stub_wait_is_alone_in_that,
            init_has_no_socket_at_which_it_is_sent_descriptors,
            a_stub_that_waits_is_ended_with_its_app
        ],
    );
}

/// Until the app has seen that a receiver of its descriptor waits, which is what the attack is.
fn boot_attacked(image: &Path) -> Result<Guest> {
    let machine =
        Machine { networks: vec![Network::Peer(usual_world())], ..Machine::new(image, 64) };
    let mut guest = machine.start(None)?;
    guest.wait_anywhere("lingering: try [0-9]+: taken, and nobody hears it any more", BOOT)?;
    Ok(guest)
}

fn an_app_that_has_its_stub_wait_is_alone_in_that(guest: &mut Guest) -> Result<()> {
    for _ in 0..BEATS {
        once_more(guest, "hello: heartbeat", |_| Ok(()))?;
    }
    let status = guest.probe.ask("status", ANSWER)?;
    for (name, state) in [("hello", "Ready"), ("network", "Ready"), ("lingering", "Ready")] {
        let line = status.lines().find(|line| line.contains(&format!("name={name} ")));
        let line = line.with_context(|| status.clone())?;
        ensure!(
            line.contains(&format!("state={state} ")) && line.contains("restarts=0 "),
            "{line}"
        );
    }
    guest.wait_anywhere("init: slot a committed", BOOT)?;
    let text = guest.console.text();
    let starts = text.matches("init: watchdog armed").count();
    ensure!(starts == 1, "the device has started {starts} times:\n{text}");
    Ok(())
}

/// Of the sockets that PID 1 has open, none is bound for datagrams, and none holds a descriptor that waits.
fn init_has_no_socket_at_which_it_is_sent_descriptors(guest: &mut Guest) -> Result<()> {
    let open = guest.probe.ask("links /proc/1/fd", ANSWER)?;
    let table = guest.probe.ask("read /proc/1/net/unix", ANSWER)?;
    let mut answers = Vec::new();
    for line in open.lines() {
        let Some((number, inode)) = line.split_once(" socket:[") else {
            continue;
        };
        let inode = inode.trim_end_matches(']');
        // Num, reference counts, protocol, flags, type, state, inode, path.
        let mut rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row.get(6) == Some(&inode));
        let row = row.with_context(|| format!("{line} is not of the kind unix:\n{table}"))?;
        // SOCK_SEQPACKET: what goes to a service.
        ensure!(row.get(4) == Some(&"0005"), "PID 1 has {line}: {row:?}");
        let info = guest.probe.ask(&format!("read /proc/1/fdinfo/{number}"), ANSWER)?;
        let waiting = info.lines().find_map(|line| line.strip_prefix("scm_fds:"));
        ensure!(waiting.map(str::trim) == Some("0"), "{line}: {info}");
        answers.push(number);
    }
    // The services of this image that may ask: the network's and the probe.
    ensure!(answers.len() == 2, "{answers:?} are sockets in:\n{open}");
    // The control: there are sockets for notifications in this table (of services and of the attacker, which do not begin in a
    // namespace of their own for the network), and they are somebody else's.
    let notify = table.lines().filter(|row| row.ends_with("/notify")).count();
    ensure!(notify == 3, "{notify} in:\n{table}");
    let said = guest.probe.ask("send-descriptor", ANSWER)?;
    ensure!(
        said == "requests: errno 88, replies: errno 32",
        "init can be sent a descriptor: {said}"
    );
    Ok(())
}

fn a_stub_that_waits_is_ended_with_its_app(guest: &mut Guest) -> Result<()> {
    let answer = guest.probe.ask("stop lingering", ANSWER)?;
    ensure!(answer == "Accepted", "{answer}");
    guest.wait_anywhere("lingering ended with signal 9", BOOT)?;
    once_more(guest, "hello: heartbeat", |_| Ok(()))
}
