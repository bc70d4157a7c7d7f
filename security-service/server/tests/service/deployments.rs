//! Deployments over real TLS: a release on its way through a group of devices, some of which it breaks.

use crate::device::{SoftwareDevice, checked_in};
use crate::installation::{BOOT, Installation, OTHER_BOOT};
use holdfast_evidence::claims::Phase;
use holdfast_evidence::messages::{AssignmentMessage, UpdateWait};
use holdfast_evidence::policy::BootDigest;
use holdfast_service_clients::post;
use holdfast_service_domain::grade::Grade;
use holdfast_types::Version;
use holdfast_types::hex::hex;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const HOUR_S: u64 = 3600;

/// A group of devices that are enrolled and run 1.4.0, and a service that knows 1.5.0.
fn fleet(devices: usize) -> (Installation, Vec<SoftwareDevice>) {
    let service = Installation::new();
    service.add_release(&OTHER_BOOT, "1.5.0", 8);
    service.done("PUT", "/products/pump", &Value::Null);
    service.done("PUT", "/products/pump/groups/production", &json!({"least_index": 0}));
    let devices: Vec<SoftwareDevice> =
        (0..devices).map(|_| SoftwareDevice::new(service.catalog)).collect();
    let place = json!({"product": "pump", "group": "production"});
    let claims = devices.iter().map(|device| {
        json!({"device": device.id.to_string(), "grade": Grade::Software.word(), "place": place})
    });
    let claims: Vec<Value> = claims.collect();
    service.done("POST", "/claims", &json!({ "devices": claims }));
    for device in &devices {
        assert_eq!(device.enrol(&service.device).status, 200);
    }
    (service, devices)
}

fn create(service: &Installation, more: &Value) -> String {
    let mut draft = json!({"product": "pump", "group": "production", "version": "1.5.0"});
    for (name, value) in more.as_object().unwrap() {
        draft[name] = value.clone();
    }
    let made = service.done("POST", "/deployments", &draft);
    made["id"].as_str().unwrap().to_owned()
}

fn act(service: &Installation, id: &str, action: &str) -> Value {
    service.done("POST", &format!("/deployments/{id}/{action}"), &Value::Null)
}

fn show(service: &Installation, id: &str) -> Value {
    service.done("GET", &format!("/deployments/{id}"), &Value::Null)
}

/// Reasons for which devices do not have it yet, with how many; an empty one has those that do.
fn why(service: &Installation, id: &str) -> BTreeMap<String, usize> {
    let list = service.done("GET", &format!("/deployments/{id}/devices?limit=1000"), &Value::Null);
    let mut reasons = BTreeMap::new();
    for device in list["items"].as_array().unwrap() {
        let why = device["why_not"].as_str().unwrap_or_default();
        assert_eq!(why.is_empty(), device["says"].is_null(), "{device}");
        *reasons.entry(why.to_owned()).or_insert(0) += 1;
    }
    reasons
}

fn reasons(of: &[(&str, usize)]) -> BTreeMap<String, usize> {
    of.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect()
}

fn runs(device: &mut SoftwareDevice, boot: [u8; 32], phase: Phase) {
    let (minor, index) = if boot == BOOT { (4, 7) } else { (5, 8) };
    device.claims.os.digest = BootDigest(boot);
    device.claims.os.version = Version { major: 1, minor, patch: 0 };
    (device.claims.os.index, device.claims.os.phase) = (index, phase);
}

/// Checks a device in, and returns what it may take of the OS.
fn assigned(service: &Installation, device: &mut SoftwareDevice) -> AssignmentMessage {
    let answer = device.check_in(&service.device);
    assert_eq!(answer.status, 200, "{answer:?}");
    let assignments = checked_in(&answer).assignments.unwrap();
    assignments.into_iter().find(|of| of.component == "os").unwrap()
}

/// Checks all devices in, and returns the numbers of those that may take 1.5.0 and do not run it.
fn round(service: &Installation, devices: &mut [SoftwareDevice]) -> Vec<usize> {
    let mut told = Vec::new();
    for (number, device) in devices.iter_mut().enumerate() {
        let newest = assigned(service, device).newest;
        if newest == "1.5.0" && device.claims.os.digest.0 == BOOT {
            told.push(number);
        }
    }
    told
}

fn state(service: &Installation, id: &str) -> String {
    show(service, id)["state"].as_str().unwrap().to_owned()
}

fn stages() -> Value {
    let stage = |permille: u16, soak_s: u64| json!({"permille": permille, "soak_s": soak_s});
    json!([stage(100, HOUR_S), stage(500, HOUR_S), stage(1000, HOUR_S)])
}

#[test]
fn a_deployment_whose_second_stage_is_bad_halts_by_itself_and_those_that_have_it_stay() {
    let (service, mut devices) = fleet(40);
    let first = checked_in(&devices[0].check_in(&service.device));
    assert_eq!(first.assignments, None, "without deployments it is as it was");
    let id = create(&service, &json!({"stages": stages()}));
    assert_eq!(show(&service, &id)["says"], "it waits for its approval");
    assert_eq!(why(&service, &id), reasons(&[("not-approved", 40)]));
    // A draft narrows already, or devices would take what is published before it is approved.
    assert_eq!(round(&service, &mut devices), Vec::<usize>::new());
    act(&service, &id, "approve");
    assert_eq!(state(&service, &id), "running");
    let first = round(&service, &mut devices);
    assert_eq!(first.len(), 4, "a tenth of 40");
    assert_eq!(round(&service, &mut devices), first, "and nobody else");
    let shown = show(&service, &id);
    let counts =
        |shown: &Value| ["given", "committed", "failed"].map(|of| shown[of].as_u64().unwrap());
    assert_eq!(
        (counts(&shown), &shown["allowance"], &shown["stage"]),
        ([4, 0, 0], &json!(4), &json!(1))
    );
    assert_eq!(why(&service, &id), reasons(&[("fetching", 4), ("stage-not-reached", 36)]));
    for number in &first {
        runs(&mut devices[*number], OTHER_BOOT, Phase::Trying);
        assert_eq!(assigned(&service, &mut devices[*number]).newest, "1.5.0");
    }
    assert_eq!(why(&service, &id), reasons(&[("trial", 4), ("stage-not-reached", 36)]));
    assert_eq!(show(&service, &id)["committed"], 0, "on trial is no success");
    for number in &first {
        runs(&mut devices[*number], OTHER_BOOT, Phase::Committed);
        assigned(&service, &mut devices[*number]);
    }
    let shown = show(&service, &id);
    assert_eq!((&shown["state"], &shown["committed"]), (&json!("soaking"), &json!(4)));
    assert_eq!(
        shown["says"],
        "4 of 4 of this stage have succeeded; it is watched for 60 minutes more"
    );
    assert_eq!(round(&service, &mut devices), Vec::<usize>::new(), "while it soaks");
    service.pass(HOUR_S);
    // The first device that comes has it go on, and the second stage is half of the group.
    assigned(&service, &mut devices[first[0]]);
    let second = round(&service, &mut devices);
    assert_eq!((second.len(), state(&service, &id).as_str()), (16, "running"));
    // It is bad. Two that fall back are too few.
    for number in &second[..2] {
        runs(&mut devices[*number], BOOT, Phase::FallingBack);
        assigned(&service, &mut devices[*number]);
    }
    let shown = show(&service, &id);
    assert_eq!((&shown["state"], counts(&shown)), (&json!("running"), [20, 4, 2]));
    let says = shown["says"].as_str().unwrap();
    assert!(says.contains("`halt` and then `resume`"), "{says}");
    runs(&mut devices[second[2]], BOOT, Phase::FallingBack);
    assigned(&service, &mut devices[second[2]]);
    let shown = show(&service, &id);
    assert_eq!((&shown["state"], &shown["cause"]), (&json!("halted"), &json!("failures")));
    assert_eq!(counts(&shown), [20, 4, 3]);
    assert_eq!(shown["says"], "3 devices have fallen back, and 3 are the most of 20");
    // Nobody is told any more, whether he was before or not; who runs it keeps it.
    assert_eq!(round(&service, &mut devices), Vec::<usize>::new());
    let keeps = assigned(&service, &mut devices[first[0]]);
    assert_eq!((keeps.newest.as_str(), keeps.deployment.as_str()), ("1.5.0", ""));
    assert_eq!(why(&service, &id), reasons(&[("", 4), ("failed-before", 3), ("halted", 33)]));
    service.pass(1000 * HOUR_S);
    round(&service, &mut devices);
    assert_eq!(state(&service, &id), "halted", "until a person resumes it");
    goes_on_and_is_given_up(&service, &mut devices, &id);
}

fn goes_on_and_is_given_up(service: &Installation, devices: &mut [SoftwareDevice], id: &str) {
    assert_eq!(act(service, id, "resume")["state"], "running");
    assert_eq!(show(service, id)["failed"], 0, "what has failed does not count any more");
    let again = round(service, devices);
    assert_eq!(
        again.len(),
        16,
        "who was given it: of them 3 do not try it again, by their own memory"
    );
    act(service, id, "pause");
    assert_eq!(show(service, id)["says"], "a person has paused it; `resume` has it go on");
    assert_eq!(round(service, devices).len(), 16, "who was given it goes on");
    act(service, id, "resume");
    act(service, id, "withdraw");
    assert_eq!(show(service, id)["says"], "it was given up; what has it keeps it");
    assert_eq!(round(service, devices), Vec::<usize>::new());
    let answer = service.ask("POST", &format!("/deployments/{id}/resume"), &Value::Null);
    assert_eq!((answer.status, answer.problem().as_str()), (409, "conflict"));
    assert!(answer.json()["detail"].as_str().unwrap().contains("withdrawn"), "{answer:?}");
    // The correction is given to all, and what was bad is excepted on the way.
    service.add_release(&[0xb2; 32], "1.5.1", 9);
    let stage = json!([{"permille": 1000, "soak_s": 0}]);
    let mends = create(service, &json!({"version": "1.5.1", "stages": stage}));
    act(service, &mends, "approve");
    let is_old = |device: &&mut SoftwareDevice| {
        device.claims.os.digest.0 == BOOT && device.claims.os.phase == Phase::Committed
    };
    let old = devices.iter_mut().find(is_old).unwrap();
    let told = assigned(service, old);
    assert_eq!(
        (told.newest.as_str(), told.except.as_slice()),
        ("1.5.1", &["1.5.0".to_owned()][..])
    );
    let rows = service.done("GET", "/audit?limit=1000", &Value::Null);
    let rows = rows["items"].as_array().unwrap().iter();
    let of_service = rows.filter(|row| row["who"] == "service");
    let verbs: Vec<String> =
        of_service.map(|row| row["verb"].as_str().unwrap().to_owned()).collect();
    let expected =
        ["begin", "soak", "advance", "halt", "begin"].map(|verb| format!("deployment.{verb}"));
    let verbs: Vec<&String> = verbs.iter().filter(|verb| verb.starts_with("deployment.")).collect();
    assert_eq!(verbs, expected.iter().collect::<Vec<_>>());
}

/// The control: a good one.
#[test]
fn a_good_deployment_goes_to_its_end_and_devices_that_come_later_may_take_it() {
    let (service, mut devices) = fleet(9);
    let mut late = devices.pop().unwrap();
    service.done("POST", &format!("/devices/{}/retire", late.id), &Value::Null);
    let id = create(&service, &json!({"preset": "fast"}));
    act(&service, &id, "approve");
    let mut given = Vec::new();
    for _ in 0..40 {
        let told = round(&service, &mut devices);
        given.extend(told.iter().copied());
        for number in told {
            runs(&mut devices[number], OTHER_BOOT, Phase::Committed);
            assigned(&service, &mut devices[number]);
        }
        service.pass(8 * HOUR_S);
    }
    assert_eq!((state(&service, &id).as_str(), given.len()), ("done", 8));
    assert_eq!(show(&service, &id)["says"], "every device of the group may take it");
    assert_eq!(why(&service, &id), reasons(&[("", 8)]));
    let place = json!({"product": "pump", "group": "production"});
    let claim = json!({"device": late.id.to_string(), "grade": "software", "place": place});
    service.done("POST", "/claims", &json!({ "devices": [claim] }));
    assert_eq!(late.enrol(&service.device).status, 200);
    let told = assigned(&service, &mut late);
    assert_eq!((told.newest.as_str(), told.deployment), ("1.5.0", id));
}

#[test]
fn a_production_group_needs_two_people_and_an_operator_can_stop_and_not_start() {
    let (service, mut devices) = fleet(1);
    let group = "/products/pump/groups/production";
    service.done("PUT", group, &json!({"least_index": 0, "production": true}));
    assert_eq!(service.done("GET", group, &Value::Null)["production"], true);
    let later = service.now() + HOUR_S;
    let id = create(&service, &json!({"preset": "emergency", "begins_at": later}));
    let says = show(&service, &id)["says"].as_str().unwrap().to_owned();
    assert!(says.starts_with("it waits for the approval of somebody else than "), "{says}");
    let approve = format!("/deployments/{id}/approve");
    let own = service.ask("POST", &approve, &Value::Null);
    assert_eq!((own.status, own.problem().as_str()), (409, "conflict"));
    let made = json!({"name": "ines", "role": "operator", "days": 1, "person": "ines"});
    let ines = service.done("POST", "/tokens", &made)["token"].as_str().unwrap().to_owned();
    assert_eq!(service.ask_as(&ines, "POST", &approve, &Value::Null).status, 200);
    let says = "it waits for the time at which it begins, and for a device that can be given it";
    assert_eq!(show(&service, &id)["says"], says);
    assert_eq!(why(&service, &id), reasons(&[("not-begun", 1)]));
    service.pass(HOUR_S);
    // The check-in that finds it is time has it begin, and the next one is given it.
    assert_eq!(assigned(&service, &mut devices[0]).newest, "1.4.0");
    assert_eq!(assigned(&service, &mut devices[0]).newest, "1.5.0");
    // Switched off, it is off for who was given it as well.
    service.done("PUT", group, &json!({"least_index": 0, "update": "off"}));
    let shown = service.done("GET", group, &Value::Null);
    assert_eq!((&shown["update"], &shown["production"]), (&json!("off"), &json!(true)));
    assert_eq!(assigned(&service, &mut devices[0]).newest, "1.4.0");
    assert_eq!(why(&service, &id), reasons(&[("update-off", 1)]));
    service.done("PUT", group, &json!({"least_index": 0, "update": "on"}));
    assert_eq!(assigned(&service, &mut devices[0]).newest, "1.5.0");
    // An operator may stop and have it go on; who only sees may neither.
    let made = json!({"name": "sees", "role": "reader", "days": 1});
    let sees = service.done("POST", "/tokens", &made)["token"].as_str().unwrap().to_owned();
    let halt = format!("/deployments/{id}/halt");
    assert_eq!(service.ask_as(&sees, "POST", &halt, &Value::Null).status, 403);
    assert_eq!(service.ask_as(&ines, "POST", &halt, &Value::Null).status, 200);
    assert_eq!(show(&service, &id)["says"], "a person has halted it");
}

#[test]
fn a_device_is_told_its_window_and_says_why_it_waits() {
    let (service, mut devices) = fleet(1);
    let window = json!({"stages": [{"permille": 1000, "soak_s": 0}], "window": "mo,tu,we,th,fr,sa,su 00:00-00:01+0",
        "deadline_s": 7200, "check_every_s": 900});
    let id = create(&service, &window);
    act(&service, &id, "approve");
    let told = assigned(&service, &mut devices[0]);
    assert_eq!(told.window.as_deref(), Some("00:00-00:01+0"), "every day is none in particular");
    assert_eq!((told.deadline, told.check_every_s), (Some(service.now() + 7200), Some(900)));
    let minute = service.now() % 86_400 / 60;
    let expected = if minute == 0 { "fetching" } else { "window" };
    assert_eq!(why(&service, &id), reasons(&[(expected, 1)]));
    // What it says of itself is shown, and changes nothing else.
    let mut client = service.device.connect();
    let mut request = devices[0].request(&client.exporter(&devices[0].id.0));
    request.update = Some(UpdateWait::Declined);
    let path = holdfast_evidence::messages::CHECK_IN_PATH;
    let answer = checked_in(&post(&mut client, path, &request));
    devices[0].receipt = Some(answer.receipt);
    assert_eq!(why(&service, &id), reasons(&[("declined", 1)]));
    assert_eq!(show(&service, &id)["failed"], 0);
    assigned(&service, &mut devices[0]);
    assert_eq!(why(&service, &id), reasons(&[(expected, 1)]));
}

/// A laboratory's devices have it first, whatever their places are in the order of the others.
#[test]
fn devices_of_a_list_are_given_it_first_and_nobody_else_before_they_have_succeeded() {
    let (service, mut devices) = fleet(8);
    let listed = [2, 5];
    let ids = listed.map(|number: usize| devices[number].id.to_string());
    let stages = json!([{"devices": ids, "soak_s": HOUR_S}, {"permille": 1000, "soak_s": 0}]);
    let id = create(&service, &json!({"stages": stages}));
    let first = show(&service, &id)["stages"][0].clone();
    assert_eq!(first, json!({"permille": null, "listed": 2, "soak_s": HOUR_S}));
    act(&service, &id, "approve");
    assert_eq!(round(&service, &mut devices), listed);
    assert_eq!(why(&service, &id), reasons(&[("fetching", 2), ("stage-not-reached", 6)]));
    let shown = service.done("GET", &format!("/deployments/{id}/devices"), &Value::Null);
    let of_list = shown["items"].as_array().unwrap().iter().filter(|row| row["listed_in"] == 1);
    let mut of_list: Vec<&str> = of_list.map(|row| row["device"].as_str().unwrap()).collect();
    let mut expected = ids.each_ref().map(String::as_str);
    of_list.sort_unstable();
    expected.sort_unstable();
    assert_eq!(of_list, expected);
    for number in listed {
        runs(&mut devices[number], OTHER_BOOT, Phase::Committed);
        assigned(&service, &mut devices[number]);
    }
    assert_eq!(state(&service, &id), "soaking");
    assert_eq!(round(&service, &mut devices), Vec::<usize>::new());
    service.pass(HOUR_S);
    assigned(&service, &mut devices[2]);
    assert_eq!(round(&service, &mut devices), [0, 1, 3, 4, 6, 7]);
}

/// Of two who say that they are the same device, neither has a success counted.
#[test]
fn a_copied_device_has_no_success_and_gets_no_slot() {
    let (service, mut devices) = fleet(2);
    let id = create(&service, &json!({"stages": [{"permille": 1000, "soak_s": 0}]}));
    act(&service, &id, "approve");
    let mut copy = devices[0].clone();
    assigned(&service, &mut devices[0]);
    assigned(&service, &mut devices[0]);
    runs(&mut copy, OTHER_BOOT, Phase::Committed);
    copy.receipt = None;
    let answer = copy.check_in(&service.device);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(show(&service, &id)["committed"], 0);
    let mut second = devices[1].clone();
    assigned(&service, &mut second);
    assert_eq!(show(&service, &id)["given"], 2, "the control: a device that is itself");
}

#[test]
fn what_is_no_deployment_is_refused_with_its_field() {
    let (service, devices) = fleet(1);
    let (device, stranger) = (devices[0].id.to_string(), hex(&[0xee; 32]));
    service.claim(&stranger, Grade::Hardware);
    let list = |devices: Value| json!([{"devices": devices, "soak_s": 0}, {"permille": 1000, "soak_s": 0}]);
    let refused = |more: Value| {
        let mut draft = json!({"product": "pump", "group": "production", "version": "1.5.0", "preset": "normal"});
        for (name, value) in more.as_object().unwrap() {
            draft[name] = value.clone();
        }
        let answer = service.ask("POST", "/deployments", &draft);
        (answer.status, answer.json()["detail"].as_str().unwrap().to_owned())
    };
    for (more, field) in [
        (json!({"version": "x"}), "version: "),
        (json!({"component": "x"}), "component: "),
        (json!({"preset": "x"}), "preset: "),
        (json!({"stages": stages()}), "preset: "),
        (json!({"soak_s": 30 * 86_400 + 1}), "soak_s: "),
        (json!({"preset": null, "stages": stages(), "soak_s": 60}), "soak_s: "),
        (json!({"preset": null, "stages": [{"permille": 1, "soak_s": 0}]}), "stages: "),
        (json!({"preset": null, "stages": stages(), "quorum_permille": 1001}), "quorum_permille: "),
        (json!({"preset": null, "stages": list(json!(["x"]))}), "stages[0].devices: "),
        (json!({"preset": null, "stages": list(json!([]))}), "stages: "),
        (json!({"preset": null, "stages": list(json!(["de".repeat(32)]))}), "stages[0].devices: "),
        (json!({"preset": null, "stages": list(json!([stranger]))}), "stages[0].devices: "),
        (json!({"preset": null, "stages": list(json!([device, device]))}), "stages[0].devices: "),
        (json!({"preset": null, "stages": list(json!(vec![device.clone(); 1001]))}), "stages: "),
        (json!({"preset": null, "stages": [{"soak_s": 0}]}), "stages[0]: "),
        (
            json!({"preset": null, "stages": [{"permille": 1000, "devices": [], "soak_s": 0}]}),
            "stages[0]: ",
        ),
        (json!({"window": "always"}), "window: "),
        (json!({"deadline_s": 60}), "deadline_s: "),
        (json!({"check_every_s": 1}), "check_every_s: "),
        (json!({"product": "../x"}), "product: "),
    ] {
        let (status, detail) = refused(more.clone());
        assert_eq!(status, 400, "{more}");
        assert!(detail.starts_with(field), "{more}: {detail}");
    }
    let (_, detail) = refused(json!({"preset": null, "stages": list(json!([stranger]))}));
    assert!(detail.contains(&stranger) && detail.contains("`device move`"), "{detail}");
    let (status, detail) = refused(json!({"group": "nobody"}));
    assert_eq!((status, detail.as_str()), (404, "there is no such group"));
    let soaks = create(&service, &json!({"preset": "emergency", "soak_s": 60}));
    let stages = show(&service, &soaks)["stages"].clone();
    let stages = stages.as_array().unwrap().iter();
    let stages: Vec<(u64, u64)> = stages
        .map(|of| (of["permille"].as_u64().unwrap(), of["soak_s"].as_u64().unwrap()))
        .collect();
    assert_eq!(stages, [(50, 60), (250, 60), (500, 60), (1000, 60)], "the control");
    let id = create(&service, &json!({"version": "9.0.0", "preset": "normal"}));
    let unknown = service.ask("POST", &format!("/deployments/{id}/approve"), &Value::Null);
    assert_eq!(unknown.status, 404);
    for path in ["/deployments/nothing", "/deployments/nothing/devices"] {
        assert_eq!(service.ask("GET", path, &Value::Null).status, 404, "{path}");
    }
    let other = service.ask("POST", &format!("/deployments/{id}/explode"), &Value::Null);
    assert_eq!(other.status, 404);
    service.done("POST", "/products/pump/default-groups", &Value::Null);
    let groups = service.done("GET", "/products/pump/groups", &Value::Null);
    let groups = groups["items"].as_array().unwrap().iter();
    let groups: Vec<(&Value, &Value)> =
        groups.map(|group| (&group["name"], &group["production"])).collect();
    let is = |name: &str, production: bool| (json!(name), json!(production));
    let expected = [is("development", false), is("field-test", false), is("production", false)];
    assert_eq!(
        groups,
        expected.iter().map(|(name, is)| (name, is)).collect::<Vec<_>>(),
        "it was there"
    );
}
