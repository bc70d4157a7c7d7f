//! `holdfast-service-load PROGRAM`: what the Security Service costs. It starts the program, `holdfast-service`, on SQLite and on
//! PostgreSQL, has 100,000 devices stored, lets some hundred of them check in as fast as they can, and prints numbers as JSON.
//!
//! Devices run on the same processors as the service, so that a rate is less than a service alone would have; the time that the service's
//! own process has used is its own. Whatever is not as it has to be is a panic with its place.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "it measures, and is no part of what is installed"
)]

mod service;

use holdfast_evidence::messages::Profile;
use holdfast_service_clients::{SoftwareDevice, TpmDevice, checked_in, post};
use holdfast_service_store::postgres_harness::Postgres;
use serde_json::{Value, json};
use service::Service;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Devices that are stored.
const STORED: usize = 100_000;
/// Devices that check in, and threads that do it for them.
const DEVICES: usize = 320;
const THREADS: usize = 16;
/// Check-ins of each while it is measured.
const TIMES: usize = 16;

fn main() {
    let program = std::env::args_os().nth(1).map(PathBuf::from);
    let program = program.expect("holdfast-service-load PROGRAM");
    let sqlite = measure(&program, "sqlite:service.db");
    let postgres = Postgres::start().unwrap();
    let postgresql = measure(&program, &postgres.url());
    let numbers = json!({
        "stored": STORED,
        "devices": DEVICES,
        "threads": THREADS,
        "check_ins": DEVICES * TIMES,
        "sqlite": sqlite,
        "postgresql": postgresql,
    });
    println!("{numbers}");
}

fn measure(program: &Path, database: &str) -> Value {
    let service = Service::start(program, database);
    let (up, down) = bytes_of_a_check_in(&service);
    store(&service);
    let mut devices = enrolled(&service);
    // The first check-in opens the issuing key, and fills what is empty at first.
    check_in(&service, &mut devices, 1);
    let (before, began) = (service.processor_s(), Instant::now());
    check_in(&service, &mut devices, TIMES);
    let (took_s, used_s) = (began.elapsed().as_secs_f64(), service.processor_s() - before);
    let check_ins = (DEVICES * TIMES) as f64;
    json!({
        "processor_ms": 1000.0 * used_s / check_ins,
        "check_ins_per_s": check_ins / took_s,
        "memory_kib": service.memory_kib(),
        "bytes_up": up,
        "bytes_down": down,
    })
}

/// Bytes of TLS, handshake included, of one check-in by a device with a TPM and one app: the second, which has a receipt.
fn bytes_of_a_check_in(service: &Service) -> (u64, u64) {
    let mut device = TpmDevice::new(service.catalog);
    service.claim(std::iter::once(device.id.to_string()), "emulated");
    assert_eq!(device.enrol(service.device()).status, 200);
    checked_in(&device.check_in(service.device()));
    let mut client = service.device().connect();
    let request = device.request(&client.exporter(&device.id.0));
    let path = holdfast_evidence::messages::CHECK_IN_PATH;
    let answer = checked_in(&post(&mut client, path, &request));
    assert_eq!((answer.profile, answer.certificates.len()), (Profile::Full, 2));
    (client.stream.sock.sent, client.stream.sock.received)
}

/// Has devices claimed that nobody has seen: a list of a factory.
fn store(service: &Service) {
    let ids: Vec<String> = (0..STORED).map(|number| format!("{number:064x}")).collect();
    for part in ids.chunks(1000) {
        service.claim(part.iter().cloned(), "software");
    }
}

fn enrolled(service: &Service) -> Vec<SoftwareDevice> {
    let devices: Vec<SoftwareDevice> =
        (0..DEVICES).map(|_| SoftwareDevice::new(service.catalog)).collect();
    service.claim(devices.iter().map(|device| device.id.to_string()), "software");
    for device in &devices {
        assert_eq!(device.enrol(service.device()).status, 200);
    }
    devices
}

/// Each of the devices checks in so many times, and is told each time that all is well.
fn check_in(service: &Service, devices: &mut [SoftwareDevice], times: usize) {
    std::thread::scope(|scope| {
        for part in devices.chunks_mut(DEVICES.div_ceil(THREADS)) {
            scope.spawn(move || {
                for _ in 0..times {
                    for device in part.iter_mut() {
                        let answer = checked_in(&device.check_in(service.device()));
                        assert_eq!((answer.profile, answer.reasons.len()), (Profile::Full, 0));
                    }
                }
            });
        }
    });
}
