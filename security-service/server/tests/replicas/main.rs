//! Replicas: three processes of the service at one PostgreSQL and one bucket. Devices check in at whichever, and one or another process is
//! killed at any moment: no certificate is lost, no receipt is forked, nothing is answered before it is stored, and nothing that is to be
//! done once is done by two.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

#[path = "../service/receiver.rs"]
#[allow(dead_code, reason = "the other tests of the service use all of it")]
mod receiver;
mod replica;

use holdfast_evidence::messages::{CheckInAnswer, Profile};
use holdfast_s3_server::S3Server;
use holdfast_service_clients::{Answer, SoftwareDevice, Target};
use holdfast_service_store::postgres_harness::Postgres;
use receiver::Receiver;
use replica::{Database, Replicas};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Processes.
const INSTANCES: usize = 3;
/// Devices, and how long they check in while processes are killed.
const DEVICES: usize = 12;
const LASTS: Duration = Duration::from_secs(20);
/// Alerts that are to be delivered meanwhile.
const ALERTS: u64 = 40;
/// Longest wait for what a killed process held: two minutes of a lease, and one for a busy host.
const LEASE: Duration = Duration::from_secs(180);

/// Numbers that differ from run to run; the seed is printed with a failure.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % most
    }
}

/// Checks in where the process may be killed at any moment; nothing where no answer came.
fn try_check_in(device: &mut SoftwareDevice, target: &Target) -> Option<CheckInAnswer> {
    let mut client = target.try_connect().ok()?;
    client.stream.sock.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = device.request(&client.exporter(&device.id.0));
    let body = serde_json::to_vec(&request).unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: service.example\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        holdfast_evidence::messages::CHECK_IN_PATH,
        body.len()
    );
    client.stream.write_all(&[head.as_bytes(), &body].concat()).ok()?;
    client.stream.flush().ok()?;
    let mut answer = Vec::new();
    match client.stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => return None,
        _ => {}
    }
    let text = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let status = std::str::from_utf8(&answer[..text]).unwrap().split(' ').nth(1).unwrap();
    // Half an answer is none; and one that is busy is asked again.
    if status != "200" {
        assert!(matches!(status, "500" | "503"), "{}", String::from_utf8_lossy(&answer));
        return None;
    }
    let answer: CheckInAnswer = serde_json::from_slice(&answer[text + 4..]).ok()?;
    device.receipt = Some(answer.receipt.clone());
    Some(answer)
}

fn enrolled(replicas: &Replicas, number: usize) -> SoftwareDevice {
    let device = SoftwareDevice::new(replicas.catalog);
    let claim = json!({"devices": [{"device": device.id.to_string(), "grade": "software"}]});
    replicas.done(number % INSTANCES, "POST", "/claims", &claim);
    // What one instance was told, the others know.
    let answer: Answer = device.enrol(&replicas.device((number + 1) % INSTANCES));
    assert_eq!(answer.status, 200, "{answer:?}");
    device
}

/// Checks in until it is to end, at any instance, and returns how often it was answered.
fn check_in_while(
    device: &mut SoftwareDevice,
    replicas: &Replicas,
    database: &Database,
    (mut random, ends): (Random, &AtomicBool),
) -> u64 {
    let (mut times, mut last) = (0, 0);
    while !ends.load(Ordering::SeqCst) {
        let target = replicas.device(usize::try_from(random.below(3)).unwrap());
        let Some(answer) = try_check_in(device, &target) else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        assert_eq!((answer.profile, answer.reasons.len()), (Profile::Full, 0), "{answer:?}");
        assert!(!answer.certificates.is_empty());
        // It is stored when it is answered: by somebody else's look at the database.
        let stored = database.newest_receipt(&device.id);
        assert!(stored > last, "answered, and receipt {stored} is what was stored before");
        last = stored;
        times += 1;
    }
    times
}

#[test]
fn replicas_that_are_killed_lose_no_certificate_fork_no_receipt_and_do_nothing_twice() {
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros();
    let seed = u64::try_from(seed).unwrap();
    println!("seed {seed}");
    let (postgres, bucket, hook) =
        (Postgres::start().unwrap(), S3Server::start(), Receiver::start(204));
    let replicas = Replicas::start(INSTANCES, &postgres.url(), &bucket, &hook);
    let secret = replicas.done(0, "POST", "/webhooks", &json!({"name": "ops", "url": hook.url}));
    assert!(secret["secret"].is_string());
    // A file that one instance has taken, another has; neither has a disk of the other's.
    let file = b"the file of a release".to_vec();
    let digest = holdfast_types::hex::sha256(&file);
    let sent = replicas.put(0, &format!("/release-files/{digest}"), &file);
    assert_eq!(sent.status, 200, "{sent:?}");
    assert_eq!(bucket.objects("releases"), std::slice::from_ref(&digest));
    let again = replicas.put(1, &format!("/release-files/{digest}"), &file);
    assert_eq!(again.json()["new"], json!(false), "{again:?}");

    let mut devices: Vec<_> = (0..DEVICES).map(|number| enrolled(&replicas, number)).collect();
    let (ends, kills, answered) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for (number, device) in devices.iter_mut().enumerate() {
            let (replicas, ends, answered, url) = (&replicas, &ends, &answered, postgres.url());
            let random = Random(seed ^ (number as u64 + 1));
            scope.spawn(move || {
                let database = Database::new(&url);
                let times = check_in_while(device, replicas, &database, (random, ends));
                assert!(times > 0, "device {number} was never answered");
                answered.fetch_add(times, Ordering::SeqCst);
            });
        }
        let mut random = Random(seed);
        let database = Database::new(&postgres.url());
        let (began, mut alerts) = (Instant::now(), 0);
        while began.elapsed() < LASTS {
            std::thread::sleep(Duration::from_millis(100 + random.below(900)));
            for _ in 0..2 {
                if alerts < ALERTS {
                    alerts += 1;
                    database.put_alert(&replicas.catalog, alerts);
                }
            }
            replicas.kill(usize::try_from(random.below(3)).unwrap());
            kills.fetch_add(1, Ordering::SeqCst);
        }
        while alerts < ALERTS {
            alerts += 1;
            database.put_alert(&replicas.catalog, alerts);
        }
        ends.store(true, Ordering::SeqCst);
    });
    let (kills, answered) = (kills.into_inner(), answered.into_inner());
    assert!(kills >= 5, "{kills} kills are too few to show anything");
    println!("{answered} check-ins were answered over {kills} kills");

    // Each alert has come, in order; twice is only one whose answer a killed process has not lived to store.
    let until = Instant::now() + LEASE;
    let came = loop {
        let came = hook.numbers();
        if came.iter().collect::<BTreeSet<_>>().len() as u64 == ALERTS {
            break came;
        }
        assert!(Instant::now() < until, "of {ALERTS} alerts came {came:?}");
        std::thread::sleep(Duration::from_millis(200));
    };
    assert!(came.is_sorted(), "{came:?}");
    let twice = came.len() as u64 - ALERTS;
    assert!(twice <= kills, "{twice} alerts came twice, and there were {kills} kills: {came:?}");

    // Each device goes on with the receipt that it has, at each instance, and nothing was found about any.
    for device in &mut devices {
        for instance in 0..INSTANCES {
            let answer = try_check_in(device, &replicas.device(instance)).expect("an answer");
            assert_eq!((answer.profile, answer.reasons.len()), (Profile::Full, 0), "{instance}");
        }
    }
    assert_eq!(replicas.done(0, "GET", "/findings", &Value::Null)["items"], json!([]));
    assert_eq!(replicas.done(1, "POST", "/audit/verify", &Value::Null)["broken"], Value::Null);
    // One instance at most evaluates, whatever was killed.
    assert!(Database::new(&postgres.url()).evaluators() <= 1);
    // The control: a receipt that was put back is found, at another instance than the one that has given it.
    let copy = devices[0].receipt.clone();
    for instance in [0, 1] {
        try_check_in(&mut devices[0], &replicas.device(instance)).expect("an answer");
    }
    devices[0].receipt = copy;
    let forked = try_check_in(&mut devices[0], &replicas.device(2)).expect("an answer");
    assert_eq!(forked.profile, Profile::UpdateOnly);
    // Keys are never logged.
    replicas.demand_unlogged(holdfast_s3_server::SECRET_KEY);
}
