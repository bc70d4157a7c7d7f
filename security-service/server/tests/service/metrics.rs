//! The port of metrics: numbers for whoever collects them, and no secret.

use crate::device::{checked_in, software_device};
use crate::installation::Installation;
use holdfast_service::metrics::{router, serve};
use holdfast_service_domain::settings::MetricsPort;
use sqlx::Connection;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: metrics\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

#[test]
fn what_is_asked_and_refused_is_counted_and_no_secret_is_told() {
    let service = Installation::with(|settings| {
        settings.metrics = Some(MetricsPort { listen: SocketAddr::from(([127, 0, 0, 1], 0)) });
    });
    let address = service.metrics.unwrap();
    let mut device = software_device(&service);
    checked_in(&device.check_in(&service.device));
    checked_in(&device.check_in(&service.device));
    service.ask_as("hft_none", "GET", "/devices", &serde_json::Value::Null);
    let (status, text) = get(address, "/metrics");
    assert_eq!(status, 200);
    for line in [
        "holdfast_requests_total{operation=\"check-in\",result=\"ok\"} 2",
        "holdfast_requests_total{operation=\"report\",result=\"ok\"} 0",
        "holdfast_requests_total{operation=\"management\",result=\"unauthenticated\"} 1",
        "holdfast_alert_deliveries_total{sink=\"webhook\",result=\"delivered\"} 0",
        "holdfast_disk_free_bytes 50",
        "# TYPE holdfast_database_write_seconds histogram",
    ] {
        assert!(text.lines().any(|one| one == line), "{line}: {text}");
    }
    let writes =
        text.lines().find_map(|line| line.strip_prefix("holdfast_database_write_seconds_count "));
    assert!(writes.unwrap().parse::<u64>().unwrap() > 2, "{text}");
    let device = device.id.to_string();
    for secret in [service.token.as_str(), device.as_str(), &service.catalog.to_string(), "pumps"] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert_eq!(get(address, "/healthz").0, 200);
    assert_eq!(get(address, "/readyz").0, 200);
    assert_eq!(get(address, "/v1/catalogs").0, 404, "nothing of management is there");
}

#[test]
fn open_findings_are_counted_by_rule_and_severity() {
    let service = Installation::new();
    let shown = router(service.replica());
    let url = format!("sqlite:{}", service.folder.join("service.db").display());
    let put = "INSERT INTO threat (catalog, number, product, grp, rule, severity, closed_at, finding)
        VALUES ('a', 1, 'pump', 'eval', 'outbreak', 1, 0, '{}'), ('b', 1, 'valve', 'eval', 'outbreak', 1, 0, '{}'),
            ('b', 2, 'valve', 'eval', 'scan', 1, 7, '{}')";
    service.block_on(async {
        sqlx::any::install_default_drivers();
        let mut connection = sqlx::AnyConnection::connect(&url).await.unwrap();
        sqlx::query(put).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
    let (end, ended) = tokio::sync::watch::channel(false);
    let address = service.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, shown, ended));
        address
    });
    let (_, text) = get(address, "/metrics");
    let has = |line: &str| assert!(text.lines().any(|one| one == line), "{line}: {text}");
    has("holdfast_findings{rule=\"outbreak\",severity=\"1\"} 2");
    has("holdfast_findings{rule=\"scan\",severity=\"1\"} 0");
    // Whoever holds connections open is ended, and another is served.
    let idle: Vec<TcpStream> = (0..16).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(get(address, "/healthz").0, 200);
    drop((idle, end));
}
