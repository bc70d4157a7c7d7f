//! The clock of real images, towards time servers that lie.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::{ANSWER, BOOT, WAIT, clock, once_more};
use crate::harness::scratch::Scratch;
use crate::harness::stager::{self, Release};
use crate::harness::suite::{Suite, check};
use crate::network::world::{machine, usual_world};
use anyhow::{Context, Result, ensure};
use holdfast_images::root::Root;
use holdfast_images::{show, variant};
use holdfast_lifecycle::slots::Slot;
use holdfast_networking::config::NetworkConfig;
use holdfast_qemu::machine::{Guest, Machine};
use holdfast_qemu::peer::{Answer, TimeServer, World};
use holdfast_qemu::settings;
use holdfast_sandbox::component::{self, ComponentList};
use holdfast_sandbox::network::Destination;
use holdfast_types::date;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const HOUR_MS: i64 = 3_600_000;
/// To the year 2045, from 2026.
const FORGED_MS: i64 = 19 * 365 * 24 * HOUR_MS;
const DAY_S: u64 = 86_400;
/// What a busy host may take between asking for a time and the answer.
const TOLERANCE: Duration = Duration::from_secs(10);

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    let image = move || artefacts.image("lease");
    check!(suite, time_servers_set_the_clock_at_boot_and_slew_it_after(&image()));
    check!(suite, a_forged_time_harms_nothing_lasting(&image()));
    check!(suite, a_time_before_the_floor_is_refused(&image()));
    check!(suite, time_servers_that_disagree_set_nothing(&image()));
    check!(suite, a_coarse_time_server_is_believed_where_nobody_knows_better(&image()));
    check!(suite, time_servers_are_found_by_name(artefacts, &image()));
    check!(suite, the_clock_keeps_the_floor_of_a_committed_release(artefacts));
}

fn server(place: u8, ahead_ms: i64) -> TimeServer {
    TimeServer::new(Ipv4Addr::new(10, 77, 0, place), ahead_ms)
}

fn world(time: Vec<TimeServer>) -> World {
    World { time, ..usual_world() }
}

fn start(image: &Path, time: Vec<TimeServer>) -> Result<Guest> {
    let mut guest = machine(image, world(time)).start(None)?;
    // A serial line loses what is said to a probe that does not listen yet.
    guest.wait_anywhere("probe is ready", BOOT)?;
    Ok(guest)
}

fn host_seconds() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// The clock is so many milliseconds ahead of this machine's, give or take a few seconds of a busy host.
fn is_ahead(guest: &mut Guest, ahead_ms: i64) -> Result<()> {
    let expected = host_seconds()?.checked_add_signed(ahead_ms / 1000).context("no such time")?;
    let (seconds, ..) = clock(guest)?;
    let tolerance = settings::scaled(TOLERANCE).as_secs();
    ensure!(seconds.abs_diff(expected) < tolerance, "{seconds} instead of {expected}");
    Ok(())
}

/// Has the time asked for again.
fn ask_again(guest: &mut Guest, time: Vec<TimeServer>, line: &str) -> Result<()> {
    guest.peer()?.change(|world| world.time = time);
    once_more(guest, "network is ready", |guest| {
        guest.probe.ask("restart network", ANSWER)?;
        Ok(())
    })?;
    guest.wait_anywhere(line, WAIT)?;
    Ok(())
}

fn time_servers_set_the_clock_at_boot_and_slew_it_after(image: &Path) -> Result<()> {
    let world = |ahead| vec![server(61, FORGED_MS), server(62, ahead), server(63, ahead)];
    let mut guest = start(image, world(HOUR_MS))?;
    guest.wait_anywhere("init: clock shows 20.*, source hardware, floor 20", BOOT)?;
    guest
        .wait_anywhere("clock set \\(\\+3[56][0-9]{2}\\.[0-9]{3} s\\): .*, source network", BOOT)?;
    guest.wait_anywhere("time: 2 of 3 servers agree; the clock is set", WAIT)?;
    is_ahead(&mut guest, HOUR_MS)?;
    ensure!(clock(&mut guest)?.2 == "Network");
    // What is a little off now is made good bit by bit.
    ask_again(&mut guest, world(HOUR_MS + 350), "clock slewed \\(\\+0\\.[0-9]{3} s\\)")?;
    is_ahead(&mut guest, HOUR_MS)?;
    // What is far off must be heard again, no matter how often the service is started anew.
    for _ in 0..4 {
        let left = "clock left until more of this is heard \\(\\+3[56][0-9]{2}\\.[0-9]{3} s\\)";
        ask_again(&mut guest, world(HOUR_MS * 2), left)?;
    }
    is_ahead(&mut guest, HOUR_MS)
}

fn a_forged_time_harms_nothing_lasting(image: &Path) -> Result<()> {
    let mut guest = start(image, vec![server(61, FORGED_MS)])?;
    guest.wait_anywhere("clock set .*: shows 204[0-9]-.*, source network", BOOT)?;
    is_ahead(&mut guest, FORGED_MS)?;
    let (_, floor, _) = clock(&mut guest)?;
    guest.wait_anywhere("init: slot a committed", BOOT)?;
    // Nobody else may say what the time is, and components run.
    ensure!(guest.probe.ask("claim -1000000", ANSWER)?.contains("PermissionDenied"));
    guest.peer()?.change(|world| world.time = vec![server(61, 0)]);
    guest.probe.tell("reboot")?;
    guest.wait("init: rebooting", BOOT)?;
    guest.wait_reset(BOOT)?;
    // Nothing of it is left: neither in the board's clock nor on the medium.
    guest.wait("init: clock shows .*\n", BOOT)?;
    let both = ["network is ready.*probe is ready", "probe is ready.*network is ready"];
    guest.wait(&format!("(?s){}", both.join("|")), BOOT)?;
    is_ahead(&mut guest, 0)?;
    ensure!(clock(&mut guest)?.1 == floor, "the floor has risen");
    guest.wait("clock set .*, source network", BOOT)?;
    is_ahead(&mut guest, 0)
}

fn a_time_before_the_floor_is_refused(image: &Path) -> Result<()> {
    let to_2020 = -7 * 365 * 24 * HOUR_MS;
    let mut guest = start(image, vec![server(61, to_2020), server(62, to_2020)])?;
    guest.wait_anywhere("clock left: the time would be before the floor \\(-", BOOT)?;
    guest.wait_anywhere("time: 2 of 2 servers agree; the clock is left: the time would", WAIT)?;
    is_ahead(&mut guest, 0)?;
    let (seconds, floor, source) = clock(&mut guest)?;
    ensure!(seconds >= floor && source == "Hardware", "{seconds} {floor} {source}");
    Ok(())
}

fn time_servers_that_disagree_set_nothing(image: &Path) -> Result<()> {
    let mut guest = start(image, vec![server(61, HOUR_MS), server(62, -HOUR_MS)])?;
    guest.wait_anywhere("time: 2 servers answer, and no majority agrees", BOOT)?;
    is_ahead(&mut guest, 0)?;
    ensure!(clock(&mut guest)?.2 == "Hardware");
    Ok(())
}

/// One that does not know the time is named as such; one that knows it coarsely is enough.
fn a_coarse_time_server_is_believed_where_nobody_knows_better(image: &Path) -> Result<()> {
    let unsynchronised = TimeServer { knows: false, ..server(61, HOUR_MS) };
    let mut guest = start(image, vec![unsynchronised])?;
    let named = "time: 10\\.77\\.0\\.61 answers, but does not know the time itself";
    guest.wait_anywhere(named, BOOT)?;
    is_ahead(&mut guest, 0)?;
    ensure!(!guest.console.text().contains("time: no answer"), "{}", guest.console.tail());
    let far = TimeServer { dispersion_ms: 10_200, ..server(62, HOUR_MS) };
    let believed = "time: 1 of 1 servers agree, give or take 10\\.[0-9] s; the clock is set";
    ask_again(&mut guest, vec![far], believed)?;
    is_ahead(&mut guest, HOUR_MS)
}

fn time_servers_are_found_by_name(artefacts: &Artefacts, image: &Path) -> Result<()> {
    let named = |name: &str| Destination::parse(name).context("no name");
    let config = NetworkConfig {
        time_servers: vec![named("time.example.com")?, named("nobody.example.com")?],
        ..NetworkConfig::default()
    };
    let encoded = config.encode()?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("named");
    variant::with_root(image, &path, &artefacts.signer()?, |root: &mut Root| {
        root.add("usr/lib/holdfast/services/network/config", encoded, false);
    })?;
    // One that a lease names is not asked.
    let mut world = world(vec![server(61, HOUR_MS), server(62, -HOUR_MS)]);
    world.names.push(("time.example.com".to_owned(), Answer::of(&["10.77.0.61"])));
    let mut guest = machine(&path, world).start(None)?;
    guest.wait_anywhere("time: 1 of 1 servers agree; the clock is set", BOOT)?;
    is_ahead(&mut guest, HOUR_MS)?;
    let status = guest.probe.ask("network", ANSWER)?;
    ensure!(status.contains("time from 10.77.0.61\n"), "{status}");
    Ok(())
}

/// An older release, after a newer one was committed, does not go back before the newer one's build.
fn the_clock_keeps_the_floor_of_a_committed_release(artefacts: &Artefacts) -> Result<()> {
    let image = artefacts.image("probe");
    let list = holdfast_images::root::read_file(&show::read_root(&image)?, component::PATH)?;
    let mut list = ComponentList::decode(&list)?;
    let built = list.image.build_time;
    list.image.build_time = built.saturating_add(400 * DAY_S);
    let newer_built = list.image.build_time;
    let encoded = list.encode()?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("newer.img");
    variant::with_root(&image, &path, &artefacts.signer()?, |root| {
        root.add(component::PATH.trim_start_matches('/'), encoded, false);
    })?;
    let scratch = Scratch::of(&image)?;
    stager::stage(scratch.path(), Slot::A, &Release::of(&path)?)?;
    let machine = Machine { counted: true, ..Machine::new(scratch.path(), 64) };
    let mut guest = machine.start(None)?;
    let shows = |time: u64| format!("init: clock shows {}, source floor", date(time));
    guest.wait_anywhere(&shows(newer_built), BOOT)?;
    guest.wait_anywhere("init: slot b committed", BOOT)?;
    guest.probe.tell("power-off")?;
    guest.wait_end(BOOT)?;
    stager::stage(&guest.disk(), Slot::B, &Release::of(&image)?)?;
    let mut guest = machine.start_again(guest)?;
    guest.wait_anywhere("init: status: slot=a", BOOT)?;
    guest.wait_anywhere(&shows(newer_built), BOOT)?;
    let (seconds, floor, source) = clock(&mut guest)?;
    ensure!(floor == newer_built && seconds >= floor && source == "Floor", "{seconds} {floor}");
    Ok(())
}
