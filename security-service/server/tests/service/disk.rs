//! A disk that fills: reports are refused first, then all but check-ins, and when there is room again, nothing.

use crate::device::{checked_in, software_device};
use crate::installation::Installation;
use holdfast_evidence::messages::Profile;
use holdfast_service_domain::grade::Grade;
use holdfast_types::hex::hex;
use serde_json::{Value, json};

#[test]
fn a_disk_that_fills_refuses_reports_and_symbols_then_all_but_check_ins() {
    let service = Installation::new();
    let mut device = software_device(&service);
    let claim = |number: u8| {
        let claim = json!({"devices": [{"device": hex(&[number; 32]), "grade": "hardware"}]});
        service.ask("POST", "/claims", &claim).status
    };
    let symbols = || {
        let headers = format!("Authorization: Bearer {}\r\n", service.token);
        let path = format!("/v1/catalogs/{}/symbols/{}", service.catalog, "00".repeat(20));
        service.management.ask("PUT", &path, &headers, b"text")
    };
    // Whether there is room is known before anything of the device is.
    let report = || service.device.ask("POST", "/device/v1/reports", "", b"");
    for (percent, claimed, sent) in [(10, 200, 422), (9, 200, 507), (5, 200, 507), (4, 507, 507)] {
        service.set_free_percent(percent);
        assert_eq!(claim(u8::try_from(percent).unwrap()), claimed, "{percent} %");
        assert_eq!(symbols().status, sent, "{percent} %");
        let reported = report();
        assert_eq!(reported.status == 507, sent == 507, "{percent} %: {reported:?}");
        if reported.status == 507 {
            assert_eq!(reported.problem(), "disk-full");
            assert_eq!(reported.header("retry-after").as_deref(), Some("900"), "{reported:?}");
        }
        let checked = checked_in(&device.check_in(&service.device));
        assert_eq!(checked.profile, Profile::Full, "{percent} %");
        assert_eq!(service.ask("GET", "/devices", &Value::Null).status, 200, "{percent} %");
    }
    let enrolment = service.device.ask("POST", "/device/v1/enrol", "", b"{}");
    assert_eq!((enrolment.status, enrolment.problem().as_str()), (507, "disk-full"));
    service.set_free_percent(50);
    service.claim(&hex(&[1; 32]), Grade::Hardware);
    assert_ne!(report().status, 507);
}

/// Operations that are answered although they do not read by `GET`: one changes nothing, the end of a session takes no room, and what begins
/// a sign-in and asks for its end writes nothing until a person has signed in
/// (`where_the_disk_is_full_nobody_signs_in_and_whoever_has_may_sign_out`).
const ANSWERED: [&str; 4] = [
    "/v1/catalogs/{catalog}/audit/verify",
    "/v1/session/end",
    "/v1/sign-in/{provider}/device",
    "/v1/sign-in/{provider}/device/poll",
];

/// Each operation that the document of the API has, so that one that is added later is judged as well.
#[test]
fn no_operation_of_management_writes_where_the_disk_is_full() {
    let service = Installation::new();
    let document = service.management.ask("GET", "/openapi.json", "", b"").json();
    let ask = |method: &str, path: &str| {
        let headers = format!("Authorization: Bearer {}\r\n", service.token);
        let path = path.replace("{catalog}", &service.catalog.to_string());
        let path = path.replace("{sha256}", &"0".repeat(64)).replace("{build_id}", &"0".repeat(40));
        let path = path.replace("{repository}", "os").replace(['{', '}'], "");
        service.management.ask(&method.to_uppercase(), &path, &headers, b"{}")
    };
    let (mut judged, mut answered) = (0, 0);
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let is_answered = ANSWERED.contains(&path.as_str());
            let is_written = method != "get" && !is_answered;
            service.set_free_percent(4);
            let answer = ask(method, path);
            assert_eq!(answer.status == 507, is_written, "{method} {path}: {answer:?}");
            service.set_free_percent(50);
            assert_ne!(ask(method, path).status, 507, "the control: {method} {path}");
            judged += usize::from(is_written);
            answered += usize::from(is_answered);
        }
    }
    assert!(judged > 30, "{judged}");
    assert_eq!(answered, ANSWERED.len(), "each is an operation");
}
