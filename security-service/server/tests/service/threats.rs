//! Threat detection over real TLS: devices that crash and scan are found, told of once, contained and released.

use crate::device::{SoftwareDevice, batch, checked_in, post, software_device};
use crate::installation::Installation;
use holdfast_evidence::claims::AppClaim;
use holdfast_evidence::messages::{Bytes, ENROL_PATH, EnrolKey, EnrolRequest, Profile};
use holdfast_failure_reports::record::{Body, Component, Record, Refused};
use holdfast_failure_reports::samples;
use holdfast_service::detection::{Evaluator, Round};
use holdfast_service::run;
use holdfast_service_clients::{Shown, point, software_key};
use holdfast_service_domain::detection::observation::GRACE_S;
use holdfast_service_store::detection::lease::LEASE_S;
use holdfast_service_store::postgres_harness::Postgres;
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection, Row};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Devices of the group.
const DEVICES: usize = 12;
/// Longest wait for a round.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a query for numbers finds in the service's database.
fn numbers(service: &Installation, query: &'static str) -> Vec<i64> {
    sqlx::any::install_default_drivers();
    let url = service.settings.database_url(&service.folder);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = AnyConnection::connect(&url).await.unwrap();
        let rows = sqlx::query(query).fetch_all(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        rows.iter().map(|row| row.get("n")).collect()
    })
}

/// A minute passes, and the service's own evaluator has a round.
fn round(service: &Installation) {
    service.pass(60);
    let (now, began) = (i64::try_from(service.now()).unwrap(), Instant::now());
    while numbers(service, "SELECT evaluated_at AS n FROM detection_lease") != [now] {
        assert!(began.elapsed() < DEADLINE, "no round");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Findings that were told, one number for each alert.
fn told(service: &Installation) -> usize {
    numbers(service, "SELECT number AS n FROM alert WHERE kind = 'finding'").len()
}

fn threats(service: &Installation) -> Vec<Value> {
    let list = service.done("GET", "/threats", &Value::Null);
    list["items"].as_array().unwrap().clone()
}

fn by_rule(threats: &[Value]) -> BTreeSet<&str> {
    threats.iter().map(|threat| threat["rule"].as_str().unwrap()).collect()
}

fn numbered(service: &Installation, rule: &str) -> u64 {
    let threats = threats(service);
    let threat = threats.iter().find(|threat| threat["rule"] == rule);
    threat.unwrap_or_else(|| panic!("{threats:?}"))["number"].as_u64().unwrap()
}

/// A group with devices that run the app of the samples.
fn group(service: &Installation) -> Vec<(SoftwareDevice, Shown)> {
    service.done("PUT", "/products/pump", &Value::Null);
    service.done("PUT", "/products/pump/groups/test", &json!({}));
    let Component::App(app) = samples::app() else { panic!("an app") };
    let devices = (0..DEVICES).map(|_| {
        let mut device = software_device(service);
        let claim = AppClaim { id: app.id, version: app.version, index: 3, root: [0x41; 32] };
        device.claims.apps.push(claim);
        let place = json!({"product": "pump", "group": "test"});
        service.done("POST", &format!("/devices/{}/move", device.id), &place);
        let shown = device.check_in_to_show(&service.device);
        (device, shown)
    });
    devices.collect()
}

fn send(service: &Installation, shown: &Shown, bodies: Vec<Body>) {
    let records: Vec<Record> = bodies
        .into_iter()
        .zip(1..)
        .map(|(body, sequence)| Record {
            sequence,
            at: Some(service.now()),
            uptime_s: 90 + u32::try_from(sequence).unwrap(),
            body,
        })
        .collect();
    let answer = shown.report(&service.device, &batch(7, &records));
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// A device is taken over: its app crashes, and what runs in it then looks for others.
fn exploit(service: &Installation, shown: &Shown) {
    let crash = Body::Ended(samples::ended());
    send(service, shown, vec![crash, Body::Refused(samples::refused())]);
}

fn profile(service: &Installation, device: &mut SoftwareDevice) -> (Profile, Vec<String>) {
    let answer = checked_in(&device.check_in(&service.device));
    (answer.profile, answer.reasons)
}

#[test]
fn an_outbreak_is_found_within_two_rounds_told_once_and_contained() {
    let mut service = Installation::new();
    let mut devices = group(&service);
    let mut other = software_device(&service);
    round(&service);
    assert_eq!((threats(&service), told(&service)), (vec![], 0));
    for (_, shown) in &devices[..9] {
        exploit(&service, shown);
    }
    let ninth = service.now();
    let mut rounds = 0;
    while !by_rule(&threats(&service)).contains("outbreak") {
        rounds += 1;
        assert!(rounds <= 2, "{:?}", threats(&service));
        round(&service);
    }
    assert!(service.now() - ninth <= 20 * 60);
    let found = threats(&service);
    assert_eq!(by_rule(&found), BTreeSet::from(["exploit-then-call", "outbreak", "scan"]));
    let outbreak = numbered(&service, "outbreak");
    let path = format!("/threats/{outbreak}");
    let shown = service.done("GET", &path, &Value::Null);
    assert_eq!((&shown["severity"], &shown["devices"]), (&json!(1), &json!(9)), "{shown}");
    assert_eq!((&shown["product"], &shown["group"]), (&json!("pump"), &json!("test")));
    let about = shown["about"].as_str().unwrap();
    assert!(about.starts_with("app 25025d2c-") && about.contains("2.1.0"), "{about}");
    assert_eq!(shown["named_devices"].as_array().unwrap().len(), 9);
    // Each is told once, however often it is evaluated, and after a start as well.
    assert_eq!(told(&service), found.len());
    for _ in 0..3 {
        round(&service);
    }
    service.restart();
    for _ in 0..3 {
        round(&service);
    }
    assert_eq!((threats(&service).len(), told(&service)), (found.len(), found.len()));
    // What it did before it ended, it goes on with: one more device is evidence and no other threat.
    exploit(&service, &devices[9].1);
    round(&service);
    assert_eq!(service.done("GET", &path, &Value::Null)["devices"], 10);
    assert_eq!((threats(&service).len(), told(&service)), (found.len(), found.len()));
    let digests = "SELECT number AS n FROM alert WHERE kind = 'digest'";
    assert_eq!(numbers(&service, digests).len(), 1);
    // The version is contained: on devices that were not taken over as well, and on no other.
    let full = (Profile::Full, vec![]);
    assert_eq!(profile(&service, &mut devices[11].0), full);
    let done = service.done("POST", &format!("{path}/contain"), &Value::Null);
    assert_eq!(done["done"].as_array().unwrap().len(), 2, "{done}");
    let contained = (Profile::UpdateOnly, vec!["contained".to_owned()]);
    assert_eq!(profile(&service, &mut devices[11].0), contained);
    assert_eq!(profile(&service, &mut devices[0].0), contained);
    assert_eq!(profile(&service, &mut other), full, "the control");
    let id = devices[0].0.id.to_string();
    assert_eq!(service.device(&id)["verdict"], "update-only");
    let shown = service.done("GET", &path, &Value::Null);
    assert_eq!(shown["contained_by"], "first-owner");
    // It lasts over a start, and ends when somebody says so.
    service.restart();
    assert_eq!(profile(&service, &mut devices[0].0), contained);
    service.done("POST", &format!("{path}/release"), &Value::Null);
    assert_eq!(profile(&service, &mut devices[0].0), full);
    let again = service.ask("POST", &format!("{path}/release"), &Value::Null);
    assert_eq!(again.status, 404, "{again:?}");
    for (reason, status) in [("", 400), (&*"x".repeat(1001), 400), ("a drill", 200), ("twice", 404)]
    {
        let closed = service.ask("POST", &format!("{path}/close"), &json!({"reason": reason}));
        assert_eq!(closed.status, status, "{closed:?}");
    }
    round(&service);
    assert!(!by_rule(&threats(&service)).contains("outbreak"), "nothing has happened since");
    let all = service.done("GET", "/threats?state=closed&limit=1", &Value::Null);
    assert_eq!((all["items"].as_array().unwrap().len(), &all["next"]), (1, &json!("1")));
    let log = service.done("GET", "/audit?limit=1000", &Value::Null);
    let verbs = log["items"].as_array().unwrap().iter().map(|row| row["verb"].as_str().unwrap());
    let verbs: Vec<&str> = verbs.filter(|verb| verb.starts_with("threat.")).collect();
    assert_eq!(verbs, ["threat.contain", "threat.release", "threat.close"]);
}

/// The same crash on every device, and a granted name whose address was not open yet: nothing of it is a threat.
#[test]
fn what_is_no_attack_is_no_threat() {
    let service = Installation::new();
    let devices = group(&service);
    round(&service);
    for (_, shown) in &devices {
        let granted = Refused { is_granted_name: true, addresses_log2: 0, ..samples::refused() };
        send(&service, shown, vec![Body::Ended(samples::ended()), Body::Refused(granted)]);
        round(&service);
    }
    for _ in 0..3 {
        round(&service);
    }
    assert_eq!((threats(&service), told(&service)), (vec![], 0));
}

fn another_instance(service: &mut Installation) {
    let devices = group(service);
    round(service);
    for (_, shown) in &devices[..9] {
        exploit(service, shown);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let open = run::open(&service.folder, &service.settings, service.clock());
    let second = runtime.block_on(open).unwrap();
    let mut second = Evaluator::new(second).unwrap();
    let mut other = |service: &Installation| {
        service.pass(20);
        runtime.block_on(second.round()).unwrap()
    };
    round(service);
    assert_eq!(other(service), Round::Elsewhere);
    round(service);
    let (found, alerts) = (threats(service).len(), told(service));
    assert_eq!((found, alerts), (3, 3));
    assert_eq!(other(service), Round::Elsewhere);
    // The first ends, and the second goes on where it was.
    service.end();
    assert_eq!(other(service), Round::Done);
    assert_eq!(other(service), Round::Done);
    assert_eq!(told(service), alerts, "nothing is told again");
    drop(runtime);
}

/// Seconds from a failure on a device to its report here, at most: `report` asks init each 15 s and the network service each 2 minutes, what is
/// urgent waits for 5 minutes, and `uplink` looks each half minute.
const ON_THE_DEVICE_S: u64 = 15 + 120 + 300 + 30;

#[test]
fn an_outbreak_is_found_within_20_minutes_though_whoever_evaluates_has_vanished() {
    let mut service = Installation::new();
    let devices = group(&service);
    round(&service);
    // Another instance evaluates last, and vanishes without giving its lease up.
    service.end();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let open = run::open(&service.folder, &service.settings, service.clock());
    let mut other = Evaluator::new(runtime.block_on(open).unwrap()).unwrap();
    service.pass(60);
    assert_eq!(runtime.block_on(other.round()).unwrap(), Round::Done);
    let vanished = service.now();
    drop((other, runtime));
    service.begin();
    for (_, shown) in &devices[..9] {
        exploit(&service, shown);
    }
    let ninth = service.now();
    // The control: until the lease ends, nobody evaluates.
    service.pass(LEASE_S - 1 - (service.now() - vanished));
    std::thread::sleep(Duration::from_millis(500));
    let evaluated = numbers(&service, "SELECT evaluated_at AS n FROM detection_lease");
    assert_eq!(evaluated, [i64::try_from(vanished).unwrap()]);
    let mut rounds = 0;
    while !by_rule(&threats(&service)).contains("outbreak") {
        rounds += 1;
        assert!(rounds <= 3, "{:?}", threats(&service));
        round(&service);
    }
    let all = ON_THE_DEVICE_S + (service.now() - ninth);
    assert!(all <= 20 * 60, "{all} s");
    assert_eq!(told(&service), threats(&service).len());
}

#[test]
fn of_two_instances_one_evaluates_and_the_other_takes_over() {
    another_instance(&mut Installation::new());
    let postgres = Postgres::start().unwrap();
    let url = postgres.url();
    let mut service = Installation::with(|settings| settings.database.url = url);
    another_instance(&mut service);
    drop(service);
}

/// Whoever was due while the service was away is waited for, and is missed if he does not come then.
#[test]
fn a_service_that_was_away_says_so_and_then_misses_who_does_not_come() {
    let service = Installation::new();
    let mut devices = group(&service);
    round(&service);
    service.pass(2 * 24 * 60 * 60);
    round(&service);
    let away = threats(&service);
    assert_eq!(away.len(), 1, "{away:?}");
    assert_eq!((&away[0]["rule"], &away[0]["about"]), (&json!("silence"), &json!("the service")));
    assert_eq!(away[0]["group"], Value::Null);
    for (device, _) in &mut devices[..2] {
        assert_eq!(device.check_in(&service.device).status, 200);
    }
    let until = service.now() + GRACE_S + 60;
    while service.now() < until {
        assert_eq!(threats(&service).len(), 1, "they are waited for");
        service.pass(3 * 60);
        round(&service);
    }
    let missed = threats(&service);
    assert_eq!(missed.len(), 2, "{missed:?}");
    assert_eq!(missed[1]["about"], "all devices of the group");
    assert_eq!(missed[1]["devices"], 10, "two have come");
    assert_eq!(told(&service), 2);
}

#[test]
fn strangers_who_enrol_in_vain_are_found_by_their_network() {
    let service = Installation::new();
    let set = json!({"thresholds": {"enrol_failures": 3}});
    service.done("PATCH", "/thresholds", &set);
    round(&service);
    let enrol = || {
        let request = EnrolRequest {
            catalog: service.catalog,
            board: "qemu-virt".to_owned(),
            image: "pump-fw".to_owned(),
            key: EnrolKey::Software {
                point: Bytes(point(&software_key()).to_vec()),
                signature: Bytes(vec![1; 64]),
            },
        };
        let answer = post(&mut service.device.connect(), ENROL_PATH, &request);
        assert_eq!((answer.status, answer.problem().as_str()), (403, "key-refused"), "{answer:?}");
    };
    for _ in 0..3 {
        enrol();
    }
    round(&service);
    round(&service);
    assert_eq!(threats(&service), Vec::<Value>::new(), "the control");
    enrol();
    round(&service);
    round(&service);
    let found = threats(&service);
    assert_eq!(by_rule(&found), BTreeSet::from(["enrol"]), "{found:?}");
    let path = format!("/threats/{}", found[0]["number"]);
    let shown = service.done("GET", &path, &Value::Null);
    assert_eq!(shown["networks"], json!(["127.0.0.0/24"]), "{shown}");
    let contain = service.ask("POST", &format!("{path}/contain"), &Value::Null);
    assert_eq!((contain.status, contain.problem().as_str()), (409, "conflict"), "{contain:?}");
}

#[test]
fn thresholds_have_bounds_and_an_effect() {
    let service = Installation::new();
    let devices = group(&service);
    let of_group = "/products/pump/groups/test/thresholds";
    let set = |path: &str, name: &str, value: Value| {
        let answer = service.ask("PATCH", path, &json!({"thresholds": {name: value}}));
        (answer.status, answer.json()["detail"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(set(of_group, "outbreak_devices", json!(10)).0, 200);
    for (path, name, value, expected) in [
        (of_group, "outbreak_devices", json!(1), "outbreak_devices: 1 is not within 2 and 1000"),
        (of_group, "outbreak", json!(3), "outbreak: there is no such threshold"),
        (of_group, "enrol_failures", json!(3), "enrol_failures: is counted over the whole"),
        (of_group, "outbreak_devices", json!(-1), "-1"),
    ] {
        let (status, detail) = set(path, name, value);
        assert_eq!(status, 400, "{detail}");
        assert!(detail.contains(expected), "{detail}");
    }
    let nowhere = "/products/pump/groups/none/thresholds";
    assert_eq!(set(nowhere, "outbreak_devices", json!(10)).0, 404);
    assert_eq!(service.ask("GET", nowhere, &Value::Null).status, 404);
    let shown = |path: &str| {
        let list = service.done("GET", path, &Value::Null);
        let items = list["items"].as_array().unwrap().iter();
        let mut items = items.filter(|item| item["name"] == "outbreak_devices");
        let item = items.next().unwrap().clone();
        (item["value"].as_u64().unwrap(), item["is_set"].as_bool().unwrap())
    };
    assert_eq!((shown(of_group), shown("/thresholds")), ((10, true), (3, false)));
    round(&service);
    for (_, shown) in &devices[..9] {
        exploit(&service, shown);
    }
    round(&service);
    let found = threats(&service);
    assert!(!by_rule(&found).contains("outbreak"), "nine are fewer than ten: {found:?}");
    assert_eq!(set(of_group, "outbreak_devices", Value::Null).0, 200);
    assert_eq!(shown(of_group), (3, false));
    round(&service);
    assert!(by_rule(&threats(&service)).contains("outbreak"));
}

/// An analyst sees and closes, and only an operator contains.
#[test]
fn an_analyst_closes_what_an_operator_contains() {
    let service = Installation::new();
    let devices = group(&service);
    for (_, shown) in &devices[..3] {
        exploit(&service, shown);
    }
    round(&service);
    let path = format!("/threats/{}", numbered(&service, "outbreak"));
    let token = |role: &str| {
        let new = json!({"name": role, "role": role, "days": 30});
        service.done("POST", "/tokens", &new)["token"].as_str().unwrap().to_owned()
    };
    let roles =
        ["reader", "auditor", "factory", "analyst", "operator"].map(|role| (role, token(role)));
    let ask = |token: &str, method: &str, verb: &str, body: Value| {
        service.ask_as(token, method, &format!("{path}{verb}"), &body).status
    };
    let thresholds = json!({"thresholds": {}});
    for (role, token) in &roles {
        let sees = if *role == "factory" { 403 } else { 200 };
        assert_eq!(ask(token, "GET", "", Value::Null), sees, "{role}");
        assert_eq!(service.ask_as(token, "GET", "/threats", &Value::Null).status, sees, "{role}");
        assert_eq!(service.ask_as(token, "GET", "/thresholds", &Value::Null).status, sees);
        let operates = if *role == "operator" { 200 } else { 403 };
        assert_eq!(ask(token, "POST", "/contain", Value::Null), operates, "{role}");
        assert_eq!(ask(token, "POST", "/release", Value::Null), operates, "{role}");
        assert_eq!(service.ask_as(token, "PATCH", "/thresholds", &thresholds).status, operates);
        let closes = match *role {
            "analyst" => 200,
            // Somebody was faster.
            "operator" => 404,
            _ => 403,
        };
        assert_eq!(ask(token, "POST", "/close", json!({"reason": "a drill"})), closes, "{role}");
    }
}
