//! A collector of OpenTelemetry: what it gets, and what is done with what it answers.

use crate::https::{Behaviour, answer, http, https};
use crate::message;
use holdfast_service_alerts::connect::system_resolver;
use holdfast_service_alerts::otlp::{Collector, Logs};
use holdfast_service_alerts::trust::Trust;
use holdfast_service_alerts::{SettingError, SinkError};
use holdfast_service_domain::settings::OtlpSettings;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

fn collector(endpoint: String, trust: &Trust) -> Collector {
    let settings = OtlpSettings { endpoint, authorization: None };
    let made = Collector::new(Path::new("/"), &settings, system_resolver(), trust.clone());
    made.unwrap().with_deadline(Duration::from_secs(2))
}

fn logs() -> Logs {
    Logs::of_alert("catalog.3", &message("pump", "camera 2.1.0"), 1_800_000_200)
}

#[tokio::test]
async fn logs_are_posted_as_json_to_the_path_of_the_specification() {
    let receiver = https("127.0.0.1", answer("200 OK")).await;
    let endpoint = format!("https://127.0.0.1:{}/otlp/", receiver.port);
    collector(endpoint, &receiver.trust).send(&logs()).await.unwrap();
    let requests = receiver.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /otlp/v1/logs HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    let record = &body["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
    assert_eq!(record["eventName"], "holdfast.finding");
}

#[tokio::test]
async fn a_credential_comes_from_a_file_that_nobody_else_can_read() {
    let receiver = http(answer("200 OK")).await;
    let path = std::env::temp_dir().join(format!("holdfast-otlp-{}", std::process::id()));
    std::fs::write(&path, "Bearer abc\n").unwrap();
    let settings = OtlpSettings {
        endpoint: format!("http://127.0.0.1:{}", receiver.port),
        authorization: Some(path.clone()),
    };
    let make =
        || Collector::new(Path::new("/"), &settings, system_resolver(), receiver.trust.clone());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(make(), Err(SettingError::OpenToOthers { .. })));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    make().unwrap().send(&logs()).await.unwrap();
    let _ = std::fs::remove_file(&path);
    let head = receiver.requests()[0].to_lowercase();
    assert!(head.contains("authorization: bearer abc\r\n"), "{head}");
    assert!(!format!("{:?}", settings).contains("abc"));
}

#[tokio::test]
async fn what_is_refused_for_good_is_not_sent_again() {
    let of = |head: &str, body: &str| {
        let length = body.len();
        Behaviour::Answers(format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{body}"))
    };
    let full = r#"{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"too old"}}"#;
    let warned = r#"{"partialSuccess":{"rejectedLogRecords":"0","errorMessage":"slow"}}"#;
    let number = r#"{"partialSuccess":{"rejectedLogRecords":2}}"#;
    for (behaviour, expected) in [
        (of("200 OK", "{}"), None),
        (of("200 OK", ""), None),
        (of("200 OK", warned), None),
        (of("200 OK", full), Some(true)),
        (of("200 OK", number), Some(true)),
        (of("400 Bad Request", ""), Some(true)),
        (of("401 Unauthorized", ""), Some(true)),
        (of("307 Moved\r\nLocation: http://127.0.0.1/", ""), Some(true)),
        (of("429 Too Many", ""), Some(false)),
        (of("503 Busy", ""), Some(false)),
        (of("200 OK", "text"), Some(false)),
        (Behaviour::NeverEnds, Some(false)),
        (Behaviour::Drips, Some(false)),
    ] {
        let receiver = http(behaviour.clone()).await;
        let endpoint = format!("http://127.0.0.1:{}", receiver.port);
        let sent = collector(endpoint, &receiver.trust).send(&logs()).await;
        let is_final = sent.as_ref().err().map(SinkError::is_final);
        assert_eq!(is_final, expected, "{behaviour:?}: {sent:?}");
    }
}

#[test]
fn only_this_host_is_spoken_to_without_tls() {
    let of = |endpoint: &str| {
        let settings = OtlpSettings { endpoint: endpoint.to_owned(), authorization: None };
        let trust = Trust::new(Vec::new()).unwrap();
        Collector::new(Path::new("/"), &settings, system_resolver(), trust)
    };
    for good in ["http://127.0.0.1:4318", "http://[::1]:4318", "https://collector.example:4318"] {
        of(good).unwrap();
    }
    for bad in
        ["http://collector.example:4318", "http://10.0.0.5:4318", "http://localhost", "x", ""]
    {
        let error = of(bad).unwrap_err();
        assert!(error.to_string().starts_with("alerts.otlp.endpoint: must be"), "{bad}: {error}");
    }
}
