//! Reports over real TLS: who may report, what of it is stored, and when it is acknowledged.

use crate::device::{APP, Shown, SoftwareDevice, batch, checked_in, report, software_device};
use crate::installation::Installation;
use holdfast_evidence::claims::AppClaim;
use holdfast_failure_reports::batch::{MAX_BATCH_BYTES, MEDIA_TYPE, PATH};
use holdfast_failure_reports::record::Record;
use holdfast_failure_reports::samples;
use holdfast_service_clients::Answer;
use holdfast_service_domain::grade::Grade;
use holdfast_service_store::postgres_harness::Postgres;
use holdfast_types::Version;
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection, Executor};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// A device that has checked in, with what it shows.
fn reporting(service: &Installation) -> (SoftwareDevice, Shown) {
    let mut device = software_device(service);
    let shown = device.check_in_to_show(&service.device);
    (device, shown)
}

fn stored(answer: &Answer) -> u64 {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["stored"].as_u64().unwrap()
}

fn is_refused(answer: &Answer, status: u16, problem: &str) {
    assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{answer:?}");
}

fn reports(service: &Installation) -> Vec<Value> {
    let list = service.done("GET", "/reports", &Value::Null);
    list["items"].as_array().unwrap().clone()
}

fn crashes(service: &Installation) -> Vec<Value> {
    let list = service.done("GET", "/crashes", &Value::Null);
    list["items"].as_array().unwrap().clone()
}

/// The sample's crash of an app.
fn crash() -> Record {
    samples::records()[1].clone()
}

#[test]
fn reports_are_stored_once_and_before_they_are_acknowledged() {
    let mut service = Installation::new();
    let (_, shown) = reporting(&service);
    let records = samples::records();
    assert_eq!(stored(&shown.report(&service.device, &batch(7, &records[..4]))), 4);
    let first = reports(&service);
    assert_eq!(first.len(), 4);
    // An answer that was lost: the same again, with what came since.
    assert_eq!(stored(&shown.report(&service.device, &batch(7, &records[..4]))), 4);
    assert_eq!(reports(&service), first);
    assert_eq!(stored(&shown.report(&service.device, &batch(7, &records))), 10);
    // Traffic and use are above the level of the group.
    assert_eq!(reports(&service).len(), 7);
    assert_eq!(stored(&shown.report(&service.device, &batch(7, &records[..2]))), 10);
    // What was acknowledged is there after the service has ended.
    let before = (reports(&service), crashes(&service));
    service.restart();
    assert_eq!((reports(&service), crashes(&service)), before);
    let camera = before.1.iter().find(|crash| crash["name"] == "camera").unwrap();
    assert_eq!((&camera["events"], &camera["devices"]), (&json!(3), &json!(1)), "{camera}");
    // A new spool begins anew with its numbers.
    assert_eq!(stored(&shown.report(&service.device, &batch(8, &records[..1]))), 1);
    assert_eq!(reports(&service).len(), 8);
}

#[test]
fn who_shows_no_certificate_reports_nothing_and_checks_in_as_before() {
    let service = Installation::new();
    let (mut device, shown) = reporting(&service);
    let bytes = batch(7, &samples::records());
    let answer = report(&mut service.device.connect(), &bytes);
    is_refused(&answer, 403, "certificate-refused");
    assert_eq!(reports(&service), Vec::<Value>::new());
    // Who shows one may check in as well: it is not looked at.
    let mut client = shown.try_connect(&service.device).unwrap();
    let request = device.request(&client.exporter(&device.id.0));
    let path = holdfast_evidence::messages::CHECK_IN_PATH;
    device.receipt = Some(checked_in(&crate::device::post(&mut client, path, &request)).receipt);
    assert_eq!(stored(&shown.report(&service.device, &bytes)), 10, "the control");
    // Management asks for none.
    let config = service.management.connect();
    assert_eq!(config.stream.conn.peer_certificates().unwrap().len(), 1);
}

#[test]
fn another_catalogs_certificate_reports_nothing() {
    let (service, other) = (Installation::new(), Installation::new());
    let (_, own) = reporting(&service);
    let (_, foreign) = reporting(&other);
    let bytes = batch(7, &samples::records());
    is_refused(&foreign.report(&service.device, &bytes), 403, "certificate-refused");
    assert_eq!(stored(&foreign.report(&other.device, &bytes)), 10, "the control");
    // A leaf of one catalog with the issuer of another.
    let mixed = Shown { chain: vec![foreign.chain[0].clone(), own.chain[1].clone()], ..foreign };
    is_refused(&mixed.report(&service.device, &bytes), 403, "certificate-refused");
    assert_eq!(reports(&service), Vec::<Value>::new());
}

#[test]
fn a_device_cannot_report_for_another() {
    let service = Installation::new();
    let (first, shown) = reporting(&service);
    let (second, _) = reporting(&service);
    // The certificate alone says of whom a report is: a key that is not its own makes no handshake.
    let stolen = Shown { key: pkcs8(), ..shown.clone() };
    let target = service.device.clone();
    std::thread::spawn(move || stolen.report(&target, b"")).join().unwrap_err();
    assert_eq!(stored(&shown.report(&service.device, &batch(7, &samples::records()))), 10);
    let devices: Vec<Value> =
        reports(&service).iter().map(|report| report["device"].clone()).collect();
    assert!(devices.iter().all(|device| *device == first.id.to_string()), "{devices:?}");
    assert!(!devices.contains(&json!(second.id.to_string())));
    // Another device may use the same epoch and numbers: they are its own.
    let (_, other) = reporting(&service);
    assert_eq!(stored(&other.report(&service.device, &batch(7, &[crash()]))), 2);
    assert_eq!(crashes(&service).iter().find(|one| one["name"] == "camera").unwrap()["devices"], 2);
}

fn pkcs8() -> Vec<u8> {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
    made.unwrap().as_ref().to_vec()
}

/// An app may have handshakes signed by a key of its own; with its certificate it reports nothing.
#[test]
fn an_apps_certificate_reports_nothing() {
    let service = Installation::new();
    let mut device = software_device(&service);
    let version = Version { major: 2, minor: 1, patch: 0 };
    let app = AppClaim { id: APP, version, index: 3, root: [0x41; 32] };
    let of_app = device.check_in_to_show_app(&service.device, app);
    let bytes = batch(7, &samples::records());
    is_refused(&of_app.report(&service.device, &bytes), 403, "certificate-refused");
    let own = device.check_in_to_show(&service.device);
    assert_eq!(stored(&own.report(&service.device, &bytes)), 10, "the control");
}

#[test]
fn a_certificate_is_good_until_its_end_and_for_updates_alone_as_well() {
    let service = Installation::new();
    let (mut device, shown) = reporting(&service);
    let id = device.id.to_string();
    service.done("POST", &format!("/devices/{id}/quarantine"), &Value::Null);
    let update_only = device.check_in_to_show(&service.device);
    assert_eq!(stored(&update_only.report(&service.device, &batch(7, &[crash()]))), 2);
    service.pass(48 * 60 * 60 + 60);
    let late = batch(7, &samples::records());
    is_refused(&shown.report(&service.device, &late), 403, "certificate-refused");
    let again = device.check_in_to_show(&service.device);
    assert_eq!(stored(&again.report(&service.device, &late)), 10);
    // A certificate outlives the device's retirement by its time; its reports end at once.
    service.done("POST", &format!("/devices/{id}/retire"), &Value::Null);
    is_refused(&again.report(&service.device, &batch(8, &[crash()])), 403, "released");
}

#[test]
fn a_batch_that_is_damaged_changes_nothing() {
    let service = Installation::new();
    let (_, shown) = reporting(&service);
    let records = samples::records();
    let good = batch(7, &records[..2]);
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let backwards = batch(7, &[records[1].clone(), records[0].clone()]);
    let cut = &good[..good.len() - 1];
    for bytes in [&flipped[..], &backwards, cut, b"", b"{}", &vec![0; MAX_BATCH_BYTES]] {
        is_refused(&shown.report(&service.device, bytes), 400, "malformed");
    }
    let mut client = shown.try_connect(&service.device).unwrap();
    let json = client.ask("POST", PATH, "Content-Type: application/json\r\n", &good);
    is_refused(&json, 400, "malformed");
    let long = shown.report(&service.device, &vec![0; MAX_BATCH_BYTES + 1]);
    is_refused(&long, 413, "too-large");
    assert_eq!((reports(&service), crashes(&service)), (vec![], vec![]));
    assert_eq!(stored(&shown.report(&service.device, &good)), 2, "the control");
    assert_eq!(reports(&service).len(), 2);
}

/// A record that this release does not know is noted, and hides no other.
#[test]
fn a_record_of_a_later_release_hides_no_other() {
    let service = Installation::new();
    let (_, shown) = reporting(&service);
    let records = samples::records();
    // Postcard of a variant that there is not.
    let unknown = [99u8, 1, 2, 3];
    let mut bytes = batch(7, &records[..1]);
    bytes.extend(4u16.to_le_bytes());
    bytes.extend(crc32(&unknown).to_le_bytes());
    bytes.extend(unknown);
    bytes.extend_from_slice(&batch(7, &records[1..2])[12..]);
    assert_eq!(stored(&shown.report(&service.device, &bytes)), 2);
    assert_eq!(reports(&service).len(), 2);
}

/// CRC-32 (ISO-HDLC), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn reports_beyond_the_limit_are_refused_with_a_time() {
    let service = Installation::new();
    let (_, shown) = reporting(&service);
    let (_, other) = reporting(&service);
    for number in 1..=12 {
        let record = Record { sequence: number, ..crash() };
        assert_eq!(stored(&shown.report(&service.device, &batch(7, &[record]))), number);
    }
    let next = batch(7, &[Record { sequence: 13, ..crash() }]);
    let refused = shown.report(&service.device, &next);
    is_refused(&refused, 429, "too-many");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(wait, 300);
    // It is told so before it has sent a body.
    let mut client = shown.try_connect(&service.device).unwrap();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: s\r\nExpect: 100-continue\r\nContent-Type: {MEDIA_TYPE}\r\n\
        Content-Length: 60000\r\nConnection: close\r\n\r\n"
    );
    std::io::Write::write_all(&mut client.stream, head.as_bytes()).unwrap();
    is_refused(&client.answer(), 429, "too-many");
    assert_eq!(stored(&other.report(&service.device, &next)), 13, "another device does not wait");
    service.pass(wait);
    assert_eq!(stored(&shown.report(&service.device, &next)), 13);
    assert_eq!(shown.report(&service.device, &next).status, 429);
}

/// Chains that are out of bounds do not get through a handshake; a certificate's authority that is none of ours does, and is refused.
#[test]
fn a_chain_has_bounds_and_only_its_key_makes_a_handshake() {
    let service = Installation::new();
    let (_, shown) = reporting(&service);
    let with = |chain: Vec<Vec<u8>>| {
        let shown = Shown { chain, ..shown.clone() };
        let target = service.device.clone();
        std::thread::spawn(move || shown.report(&target, b"").status).join().ok()
    };
    let (leaf, issuing) = (&shown.chain[0], &shown.chain[1]);
    let many = |count: usize| [vec![leaf.clone()], vec![issuing.clone(); count - 1]].concat();
    assert_eq!(with(many(4)), Some(400), "the control: the batch is empty");
    assert_eq!(with(many(5)), None);
    assert_eq!(with(vec![leaf.clone(), vec![0x30; 16 * 1024]]), None);
    assert_eq!(with(vec![leaf.clone(), vec![0x30; 8 * 1024]]), Some(403), "no issuer");
    assert_eq!(with(vec![leaf.clone()]), Some(403));
    assert_eq!(with(vec![issuing.clone(), leaf.clone()]), None, "not its key");
}

/// The setting of a group has an effect on what is stored, at once, and devices are told of it.
#[test]
fn what_a_group_switches_off_is_not_stored() {
    let service = Installation::new();
    let (mut device, shown) = reporting(&service);
    service.done("PUT", "/products/pump", &Value::Null);
    let group = "/products/pump/groups/test";
    service.done("PUT", group, &json!({}));
    assert_eq!(service.done("GET", group, &Value::Null)["reports"], "health");
    let id = device.id.to_string();
    let place = json!({"product": "pump", "group": "test"});
    service.done("POST", &format!("/devices/{id}/move"), &place);
    let level = |device: &mut SoftwareDevice| {
        checked_in(&device.check_in(&service.device)).reports.unwrap().level
    };
    assert_eq!(level(&mut device), "health");
    let records = samples::records();
    service.done("PUT", group, &json!({"reports": "off"}));
    assert_eq!(level(&mut device), "off");
    let bytes = batch(7, &records);
    is_refused(&shown.report(&service.device, &bytes), 403, "reports-off");
    assert_eq!((reports(&service), crashes(&service)), (vec![], vec![]));
    // Who changes something else, and says nothing of reports, does not switch them on.
    service.done("PUT", group, &json!({"least_index": 1}));
    is_refused(&shown.report(&service.device, &bytes), 403, "reports-off");
    service.done("PUT", group, &json!({"reports": "full"}));
    assert_eq!(level(&mut device), "full");
    assert_eq!(stored(&shown.report(&service.device, &bytes)), 10, "the control");
    assert_eq!(reports(&service).len(), 10);
    let wrong = service.ask("PUT", group, &json!({"reports": "all"}));
    is_refused(&wrong, 400, "malformed");
}

/// Holds what a batch writes, and nothing that it reads.
async fn hold(url: &str, is_sqlite: bool) -> AnyConnection {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(url).await.unwrap();
    let hold = if is_sqlite { "BEGIN IMMEDIATE" } else { "BEGIN; LOCK TABLE report_source" };
    connection.execute(sqlx::raw_sql(hold)).await.unwrap();
    connection
}

fn is_held_back(service: &Installation, is_sqlite: bool) {
    let (_, shown) = reporting(service);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = service.settings.database_url(&service.folder);
    let mut held = runtime.block_on(hold(&url, is_sqlite));
    let (sender, answers) = channel();
    let target = service.device.clone();
    let bytes = batch(7, &samples::records());
    let asking = std::thread::spawn(move || sender.send(shown.report(&target, &bytes)).unwrap());
    let early = answers.recv_timeout(Duration::from_secs(2));
    assert!(matches!(early, Err(RecvTimeoutError::Timeout)), "{early:?}");
    runtime.block_on(held.execute(sqlx::raw_sql("ROLLBACK"))).unwrap();
    assert_eq!(stored(&answers.recv_timeout(Duration::from_secs(30)).unwrap()), 10);
    asking.join().unwrap();
    assert_eq!(reports(service).len(), 7);
}

#[test]
fn no_report_is_acknowledged_before_it_is_stored() {
    is_held_back(&Installation::new(), true);
    let postgres = Postgres::start().unwrap();
    let url = postgres.url();
    is_held_back(&Installation::with(|settings| settings.database.url = url), false);
}

/// A device of one product says that it has another product's app: nothing of that product changes.
#[test]
fn a_device_reaches_the_groups_of_its_own_product_alone() {
    let service = Installation::new();
    let mut shown = Vec::new();
    for product in ["pump", "valve"] {
        let (device, own) = reporting(&service);
        service.done("PUT", &format!("/products/{product}"), &Value::Null);
        service.done("PUT", &format!("/products/{product}/groups/test"), &json!({}));
        let place = json!({"product": product, "group": "test"});
        service.done("POST", &format!("/devices/{}/move", device.id), &place);
        shown.push(own);
    }
    assert_eq!(stored(&shown[0].report(&service.device, &batch(7, &[crash()]))), 2);
    let of_pump = crashes(&service);
    assert_eq!(stored(&shown[1].report(&service.device, &batch(7, &[crash()]))), 2);
    let all = crashes(&service);
    assert_eq!(all.len(), 2);
    assert!(all.contains(&of_pump[0]), "{all:?}");
    assert_eq!(
        (of_pump[0]["product"].as_str(), of_pump[0]["devices"].as_u64()),
        (Some("pump"), Some(1))
    );
}

#[test]
fn a_crash_group_is_closed_and_comes_back_in_a_later_version() {
    let service = Installation::new();
    let (_, shown) = reporting(&service);
    let fell_back = |sequence, to: Version| {
        // Panics are grouped across versions.
        let mut record = crash();
        record.sequence = sequence;
        let holdfast_failure_reports::record::Body::Ended(ended) = &mut record.body else {
            panic!("{record:?}");
        };
        let holdfast_failure_reports::record::Component::App(app) = &mut ended.component else {
            panic!("{record:?}");
        };
        app.version = to;
        record
    };
    let version = |minor| Version { major: 2, minor, patch: 0 };
    let send = |record: Record| {
        let sequence = record.sequence;
        assert_eq!(stored(&shown.report(&service.device, &batch(7, &[record]))), sequence);
    };
    send(fell_back(1, version(1)));
    let list = crashes(&service);
    assert_eq!(list.len(), 1);
    assert_eq!((&list[0]["state"], &list[0]["kind"]), (&json!("new"), &json!("signal 11")));
    let path = format!("/crashes/{}", list[0]["group"].as_str().unwrap());
    let is = |state: &str| {
        let shown = service.done("GET", &path, &Value::Null);
        assert_eq!(shown["state"], state, "{shown}");
        shown
    };
    service.done("POST", &format!("{path}/close"), &Value::Null);
    is("closed");
    assert_eq!(crashes(&service), Vec::<Value>::new());
    let all = service.done("GET", "/crashes?state=closed", &Value::Null);
    assert_eq!(all["items"].as_array().unwrap().len(), 1);
    is_refused(&service.ask("POST", &format!("{path}/close"), &Value::Null), 404, "not-found");
    send(fell_back(2, version(1)));
    is("closed");
    send(fell_back(3, version(2)));
    let back = is("regressed");
    let versions: Vec<&str> = back["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| version["version"].as_str().unwrap())
        .collect();
    assert_eq!(versions, ["2.1.0", "2.2.0"]);
    service.done("POST", &format!("{path}/close"), &Value::Null);
    service.done("POST", &format!("{path}/reopen"), &Value::Null);
    is("regressed");
    is_refused(&service.ask("GET", "/crashes/none", &Value::Null), 404, "not-found");
    let log = service.done("GET", "/audit", &Value::Null);
    let verbs = log["items"].as_array().unwrap().iter();
    let verbs = verbs.filter(|row| row["verb"].as_str().unwrap().starts_with("crash."));
    assert_eq!(verbs.count(), 3);
}

/// The eight columns of Azure Sphere's `listDeviceInsights`.
#[test]
fn reports_are_exported_as_csv_and_in_pages_that_have_each_once() {
    let service = Installation::new();
    let (device, shown) = reporting(&service);
    assert_eq!(stored(&shown.report(&service.device, &batch(7, &samples::records()))), 10);
    let csv = service.ask("GET", "/reports?format=csv", &Value::Null);
    assert_eq!(
        (csv.status, csv.header("content-type").as_deref()),
        (200, Some("text/csv; charset=utf-8"))
    );
    let text = String::from_utf8(csv.body).unwrap();
    let mut lines = text.split("\r\n");
    assert_eq!(
        lines.next(),
        Some(
            "Device ID,Event Type,Event Class,Event Category,Event Count,Description,Start Time,End Time"
        )
    );
    let crash = lines.clone().find(|line| line.contains("AppCrash")).unwrap();
    assert!(crash.starts_with(&format!("{},unplanned,app,AppCrash,3,", device.id)), "{crash}");
    assert!(crash.contains("signo=11") && crash.contains("pc="), "{crash}");
    assert_eq!(lines.filter(|line| !line.is_empty()).count(), 7);
    let all = reports(&service);
    let (mut after, mut paged) = (String::new(), Vec::new());
    loop {
        let page = service.done("GET", &format!("/reports?limit=2&after={after}"), &Value::Null);
        paged.extend(page["items"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(paged, all);
    let first = service.ask("GET", "/reports?format=csv&limit=2", &Value::Null);
    let next = first.header("link").unwrap();
    assert!(next.ends_with("; rel=\"next\"") && next.contains("format=csv"), "{next}");
    let after = service.ask("GET", "/reports?after=x", &Value::Null);
    is_refused(&after, 400, "malformed");
    is_refused(&service.ask("GET", "/reports?format=xml", &Value::Null), 400, "malformed");
    // Two weeks later they are not shown any more.
    service.pass(14 * 24 * 60 * 60 + 1);
    assert_eq!(reports(&service), Vec::<Value>::new());
}

/// As logs of OpenTelemetry, with a page for each request of logs.
#[test]
fn crash_groups_are_exported_as_logs_in_pages_that_have_each_once() {
    let service = Installation::new();
    for product in ["pump", "valve"] {
        let (device, shown) = reporting(&service);
        service.done("PUT", &format!("/products/{product}"), &Value::Null);
        service.done("PUT", &format!("/products/{product}/groups/test"), &json!({}));
        let place = json!({"product": product, "group": "test"});
        service.done("POST", &format!("/devices/{}/move", device.id), &place);
        assert_eq!(stored(&shown.report(&service.device, &batch(7, &[crash()]))), 2);
    }
    let groups: Vec<String> =
        crashes(&service).iter().map(|one| one["group"].as_str().unwrap().to_owned()).collect();
    let (mut path, mut exported) = ("/crashes?format=otlp&limit=1".to_owned(), Vec::new());
    loop {
        let page = service.ask("GET", &path, &Value::Null);
        assert_eq!(page.status, 200, "{page:?}");
        for of_resource in page.json()["resourceLogs"].as_array().unwrap() {
            let record = &of_resource["scopeLogs"][0]["logRecords"][0];
            assert_eq!(
                (&record["eventName"], &record["severityText"]),
                (&json!("app.crash"), &json!("FATAL"))
            );
            let attributes = record["attributes"].as_array().unwrap();
            let group = attributes.iter().find(|one| one["key"] == "holdfast.crash.group").unwrap();
            exported.push(group["value"]["stringValue"].as_str().unwrap().to_owned());
        }
        let Some(link) = page.header("link") else { break };
        let (_, below) = link.split_once(&service.catalog.to_string()).unwrap();
        path = below.split_once('>').unwrap().0.to_owned();
    }
    assert_eq!(exported, groups);
    is_refused(&service.ask("GET", "/crashes?format=csv", &Value::Null), 400, "malformed");
}

#[test]
fn a_device_without_claim_or_key_is_as_unknown_to_reports_as_to_check_ins() {
    let service = Installation::new();
    let (mut device, shown) = reporting(&service);
    service.done("POST", &format!("/devices/{}/retire", device.id), &Value::Null);
    service.claim(&device.id.to_string(), Grade::Software);
    let bytes = batch(7, &[crash()]);
    is_refused(&shown.report(&service.device, &bytes), 404, "unknown-device");
    assert_eq!(device.enrol(&service.device).status, 200);
    let again = device.check_in_to_show(&service.device);
    assert_eq!(stored(&again.report(&service.device, &bytes)), 2, "the control");
}
