//! What somebody does to the fleet, or a mistake of its owner.

use crate::churn::{crash, refused};
use crate::device::CAMERA;
use crate::rates::{Rollout, version};
use crate::simulation::{Due, Simulation};
use holdfast_failure_reports::record::{
    Body, Clock, End, Outcome, Protocol, Reset, Traffic, Update, Where,
};
use holdfast_service_domain::detection::observation::Observation;
use holdfast_service_domain::detection::subject::Network;
use holdfast_types::ClockSource;

/// Lets a worm spread by the app: four devices at first, twice as many every four minutes. Ends once `most` are taken over, and
/// returns when each was.
pub fn worm(simulation: &mut Simulation, most: usize) -> Vec<u64> {
    let mut taken = Vec::new();
    let mut number = 1u32;
    while taken.len() < most {
        let now = if taken.is_empty() { 4 } else { (taken.len() / 4).max(1) };
        for _ in 0..now.min(most - taken.len()) {
            exploit(simulation, number);
            taken.push(simulation.now);
            number += 7;
        }
        simulation.minute();
    }
    taken
}

/// Takes one device over: its app crashes, and what runs in it then looks for others, in vain.
pub fn exploit(simulation: &mut Simulation, number: u32) {
    let body = crash(simulation, number, End::Signal(11), 0x9_9000);
    simulation.record(number, body);
    scan(simulation, number);
}

/// One device tries the telnet port of many.
pub fn scan(simulation: &mut Simulation, number: u32) {
    for port in [23, 2323] {
        let body = refused(simulation, number, Protocol::Tcp, port, Where::Public, 6, false);
        simulation.record(number, body);
    }
}

/// Rolls a release out that falls back on so many devices in a thousand.
pub fn roll_out(simulation: &mut Simulation, is_os: bool, fails_permille: u64, takes_s: u64) {
    let (at, to) = (simulation.now, version(9, 0));
    simulation.churn.rollouts.push(Rollout { at, takes_s, is_os, to, fails_permille });
}

/// A device boots again and again.
pub fn boot_loop(simulation: &mut Simulation, numbers: std::ops::Range<u32>, times: u32) {
    for _ in 0..times {
        for number in numbers.clone() {
            simulation.boot(number, Reset::KernelPanic);
        }
        for _ in 0..3 {
            simulation.minute();
        }
    }
}

/// Somebody copies a device's `state`, and runs it beside the device.
pub fn copy(simulation: &mut Simulation, number: u32) {
    let copy = simulation.devices[number as usize].clone();
    simulation.copies.insert(number, copy);
    simulation.put(simulation.now + 3600, number, Due::CopyChecksIn);
}

/// Somebody changes what a device runs, and switches it on again.
pub fn tamper(simulation: &mut Simulation, number: u32) {
    simulation.devices[number as usize].is_tampered = true;
    simulation.boot(number, Reset::PowerOn);
}

/// Somebody between devices and their repository offers what nobody has signed.
pub fn offer_unsigned(simulation: &mut Simulation, number: u32) {
    update(simulation, number, Outcome::RefusedSignature);
}

/// A device refuses a release.
pub fn update(simulation: &mut Simulation, number: u32, outcome: Outcome) {
    let from = simulation.devices[number as usize].camera;
    let update = Update { app: Some(CAMERA), from, to: version(2, 9), outcome, fetched_bytes: 900 };
    simulation.record(number, Body::Update(update));
}

/// A time server says what devices refuse.
pub fn forge_time(simulation: &mut Simulation, number: u32) {
    let clock = Clock { source: ClockSource::Floor, step_s: 0, is_refused: true };
    simulation.record(number, Body::Clock(clock));
}

/// A part of the fleet reaches nobody for so many seconds.
pub fn cut_off(simulation: &mut Simulation, each: u32, seconds: u64) {
    let until = simulation.now + seconds;
    for device in simulation.devices.iter_mut().step_by(each as usize) {
        device.offline_until = until;
    }
}

/// An app is made to send much in an hour.
pub fn flood(simulation: &mut Simulation, number: u32, mib: u64) {
    let (component, received_bytes) = (simulation.devices[number as usize].app(), 0);
    let sent_bytes = mib << 20;
    simulation.record(number, Body::Traffic(Traffic { component, sent_bytes, received_bytes }));
}

/// A system call that the sandbox refuses.
pub fn violate(simulation: &mut Simulation, number: u32) {
    let body = crash(simulation, number, End::Sandbox, 0x7_7000);
    simulation.record(number, body);
}

/// An app begins to try a port that it has never tried.
pub fn call(simulation: &mut Simulation, number: u32, port: u16) {
    let body = refused(simulation, number, Protocol::Tcp, port, Where::Public, 0, false);
    simulation.record(number, body);
}

/// Somebody without a key tries to enrol.
pub fn enrol(simulation: &mut Simulation, times: u32) {
    for _ in 0..times {
        let (at, network) = (simulation.now, Network::V4([192, 0, 2]));
        simulation.service.enrolment_failed(&Observation::EnrolmentFailed {
            at,
            network,
            times: 1,
        });
    }
}
