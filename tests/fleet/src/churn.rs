//! Days without an attack: restarts, crashes, networks, clocks, misconfigured apps, updates.

use crate::device::CAMERA;
use crate::rates::{Churn, DAY_S, Rollout};
use crate::simulation::Simulation;
use holdfast_failure_reports::record::{
    Body, BuildId, Clock, Crash, End, Ended, Fault, Outcome, Place, Protocol, Refused, Reset,
    Traffic, Update, Where,
};
use holdfast_types::ClockSource;

/// Makes a fleet to which things happen as they do every day.
#[must_use]
pub fn fleet(devices: u32, seed: u64) -> Simulation {
    Simulation::new(devices, seed, Churn::default(), minute)
}

/// One device of so many has an app that asks for time servers and a database that no manifest grants.
const MISCONFIGURED_EACH: u64 = 10;

/// Lets a minute of the days pass.
pub(crate) fn minute(simulation: &mut Simulation) {
    let per_minute = simulation.devices.len() as f64 / 1440.0;
    let Churn { restarts, failures, crashes, offline, clocks, stray, .. } =
        simulation.churn.clone();
    each(simulation, restarts * per_minute, |it, number| {
        let reset = if it.random.below(2) == 0 { Reset::PowerOn } else { Reset::Orderly };
        it.boot(number, reset);
        // Its clock begins at the floor, which is hours or days behind.
        let step_s = i64::try_from(it.random.below(3 * DAY_S)).unwrap();
        it.record(number, clock(step_s));
        misconfigured(it, number);
    });
    each(simulation, failures * per_minute, |it, number| {
        let resets = [Reset::KernelPanic, Reset::Watchdog, Reset::NotHealthy];
        let reset = resets[it.random.below(3) as usize];
        it.boot(number, reset);
    });
    each(simulation, crashes * per_minute, |it, number| {
        // Few places have most of the crashes.
        let place = it.random.below(30).min(it.random.below(30)) as u32;
        let body = crash(it, number, End::Signal(11), 0x1000 + place * 64);
        it.record(number, body);
        // It starts again, and asks for what it is not granted.
        misconfigured(it, number);
    });
    each(simulation, offline * per_minute, |it, number| {
        let hours = it.random.below(12 * 3600);
        it.devices[number as usize].offline_until = it.now + hours;
    });
    each(simulation, clocks * per_minute, |it, number| it.record(number, clock(-7200)));
    each(simulation, stray * per_minute, |it, number| {
        let port = 32_768 + it.random.below(28_000) as u16;
        let body = refused(it, number, Protocol::Udp, port, Where::Private, 0, false);
        it.record(number, body);
        // Addresses of a granted name that change faster than its answers say.
        let body = refused(it, number, Protocol::Tcp, 443, Where::Public, 6, true);
        it.record(number, body);
    });
    // Four times a day, a misconfigured app tries again.
    each(simulation, 4.0 * per_minute / MISCONFIGURED_EACH as f64, |it, number| {
        let nearest = u64::from(number) / MISCONFIGURED_EACH * MISCONFIGURED_EACH;
        misconfigured(it, nearest as u32);
    });
    // Devices that report everything do so each hour.
    each(simulation, 24.0 * per_minute / 50.0, |it, number| {
        let number = number / 50 * 50;
        let (component, kib) = (it.devices[number as usize].app(), 1 << it.random.below(13));
        let sent_bytes = 1024 * (kib + it.random.below(kib));
        it.record(number, Body::Traffic(Traffic { component, sent_bytes, received_bytes: 9000 }));
    });
    rollouts(simulation);
}

/// Lets something happen to some devices, of which there are `mean` in a minute on average.
fn each(simulation: &mut Simulation, mean: f64, act: impl Fn(&mut Simulation, u32)) {
    for _ in 0..simulation.random.events(mean) {
        let devices = simulation.devices.len() as u64;
        let number = simulation.random.below(devices) as u32;
        act(simulation, number);
    }
}

fn misconfigured(simulation: &mut Simulation, number: u32) {
    if u64::from(number).is_multiple_of(MISCONFIGURED_EACH) {
        let body = refused(simulation, number, Protocol::Udp, 123, Where::Private, 0, false);
        simulation.record(number, body);
        let body = refused(simulation, number, Protocol::Tcp, 8086, Where::Public, 2, false);
        simulation.record(number, body);
    }
}

/// In each minute, the devices whose turn it is try a release.
fn rollouts(simulation: &mut Simulation) {
    for rollout in simulation.churn.rollouts.clone() {
        let Some(since) = simulation.now.checked_sub(rollout.at) else { continue };
        if since >= rollout.takes_s {
            continue;
        }
        // The turn is the first bytes of the id.
        let turn = |device: &crate::device::Device| {
            let [a, b, c, d, ..] = device.id.0;
            (u64::from(u32::from_be_bytes([a, b, c, d])) * rollout.takes_s) >> 32
        };
        let mut numbers = std::mem::take(&mut simulation.turns);
        if numbers.0 != rollout.at {
            let turns = simulation.devices.iter().zip(0..).map(|(device, n)| (turn(device), n));
            let mut turns: Vec<(u64, u32)> = turns.collect();
            turns.sort_unstable_by(|a, b| b.cmp(a));
            numbers = (rollout.at, turns);
        }
        while numbers.1.last().is_some_and(|(turn, _)| *turn < since + 60) {
            if let Some((_, number)) = numbers.1.pop() {
                try_release(simulation, number, &rollout);
            }
        }
        simulation.turns = numbers;
    }
}

fn try_release(simulation: &mut Simulation, number: u32, rollout: &Rollout) {
    let fails = simulation.random.below(1000) < rollout.fails_permille;
    let device = &mut simulation.devices[number as usize];
    let (app, from) = if rollout.is_os { (None, device.os) } else { (Some(CAMERA), device.camera) };
    if !fails {
        if rollout.is_os {
            device.os = rollout.to;
        } else {
            device.camera = rollout.to;
        }
    }
    if rollout.is_os {
        let reset = if fails { Reset::NotHealthy } else { Reset::Orderly };
        simulation.boot(number, reset);
    }
    let outcome = if fails { Outcome::FellBack } else { Outcome::Committed };
    let update = Update { app, from, to: rollout.to, outcome, fetched_bytes: 120_000 };
    simulation.record(number, Body::Update(update));
    misconfigured(simulation, number);
}

/// Returns a record of a clock that was set.
#[must_use]
pub fn clock(step_s: i64) -> Body {
    Body::Clock(Clock { source: ClockSource::Network, step_s, is_refused: false })
}

/// Returns a record of a crash of a device's app.
#[must_use]
pub fn crash(simulation: &Simulation, number: u32, end: End, offset: u32) -> Body {
    let component = simulation.devices[number as usize].app();
    let pc = Place { build_id: Some(BuildId([3; 20])), offset };
    let crash = Some(Crash { pc, lr: None, fault: Fault::Other });
    Body::Ended(Ended { component, end, crash, panic: None, ran_s: 3000, count: 1 })
}

/// Returns a record of refused packets of a device's app.
#[must_use]
pub fn refused(
    simulation: &Simulation,
    number: u32,
    protocol: Protocol,
    port: u16,
    to: Where,
    addresses_log2: u8,
    is_granted_name: bool,
) -> Body {
    let component = simulation.devices[number as usize].app();
    let (port, count) = (Some(port), 4 << addresses_log2);
    Body::Refused(Refused { component, protocol, port, to, count, addresses_log2, is_granted_name })
}
