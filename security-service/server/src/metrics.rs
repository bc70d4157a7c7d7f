//! The port of metrics: numbers in Prometheus' text format, and whether the service lives. It speaks HTTP without TLS and asks for no token, so
//! nothing that it says names a catalog, a device or an address.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use holdfast_service_api::Service;
use holdfast_service_domain::detection::alert;
use holdfast_service_store::latency::{BOUNDS_MS, Histogram};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Most connections at once; who comes then waits in the kernel's queue.
const MOST_CONNECTIONS: usize = 16;
/// Longest time for the headers of a request.
const HEADERS: Duration = Duration::from_secs(5);
/// Longest time for a connection.
const CONNECTION: Duration = Duration::from_secs(30);
/// Longest time for the database to answer.
const DATABASE: Duration = Duration::from_secs(5);
/// Pause after an accept that failed.
const PAUSE: Duration = Duration::from_millis(100);
/// Media type of the text format of Prometheus.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

type Shown = State<Arc<Service>>;

/// Returns the routes of the port.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .fallback(async || StatusCode::NOT_FOUND)
        .with_state(service)
}

async fn ready(State(service): Shown) -> Response {
    let answered = tokio::time::timeout(DATABASE, service.store.ping()).await;
    if matches!(answered, Ok(Ok(()))) {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response()
    }
}

async fn metrics(State(service): Shown) -> Response {
    let mut text = String::new();
    // Of all catalogs. A database that does not answer costs these lines and no others.
    let counted = tokio::time::timeout(DATABASE, service.store.open_threats(None)).await;
    if let Ok(Ok(counts)) = counted {
        text.push_str(&alert::metrics_of(|rule, severity| {
            let of = counts.iter().filter(|one| one.rule == rule && one.severity == severity);
            of.map(|one| one.count).sum()
        }));
    }
    // Writing to a text does not fail.
    head(&mut text, "holdfast_requests_total", "counter", "Requests, by operation and result.");
    for (operation, result, count) in service.counts.requests() {
        let _ = writeln!(
            text,
            "holdfast_requests_total{{operation=\"{operation}\",result=\"{result}\"}} {count}"
        );
    }
    let name = "holdfast_alert_deliveries_total";
    head(&mut text, name, "counter", "Alerts, by kind of sink and what has become of them.");
    for (sink, result, count) in service.counts.deliveries() {
        let _ = writeln!(text, "{name}{{sink=\"{sink}\",result=\"{result}\"}} {count}");
    }
    latency(&mut text, &service.store.latency().histogram());
    if let Some(space) = (service.disk.measure)() {
        head(&mut text, "holdfast_disk_free_bytes", "gauge", "Space that may still be written.");
        let _ = writeln!(text, "holdfast_disk_free_bytes {}", space.free_bytes);
        head(&mut text, "holdfast_disk_bytes", "gauge", "Space of the file system.");
        let _ = writeln!(text, "holdfast_disk_bytes {}", space.total_bytes);
    }
    ([(header::CONTENT_TYPE, TEXT)], text).into_response()
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn latency(text: &mut String, histogram: &Histogram) {
    let name = "holdfast_database_write_seconds";
    head(text, name, "histogram", "Time from a write's beginning to its commit.");
    let mut sum: u64 = 0;
    for (place, count) in histogram.within.iter().enumerate() {
        sum = sum.saturating_add(*count);
        let bound = BOUNDS_MS.get(place).map_or_else(|| "+Inf".to_owned(), |ms| seconds(*ms, 1000));
        let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {sum}");
    }
    let total = seconds(histogram.micros, 1_000_000);
    let _ = write!(text, "{name}_sum {total}\n{name}_count {sum}\n");
}

/// A number of parts of a second as seconds.
fn seconds(parts: u64, of: u64) -> String {
    let digits = usize::try_from(of.ilog10()).unwrap_or(0);
    let whole = parts.checked_div(of).unwrap_or(0);
    let rest = parts.checked_rem(of).unwrap_or(0);
    format!("{whole}.{rest:0digits$}")
}

/// Serves the port until it is told to end.
pub async fn serve(listener: TcpListener, router: Router, mut end: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let place = room.clone().acquire_owned().await.ok()?;
            let stream = listener.accept().await;
            if stream.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
            Some((stream.ok()?.0, place))
        };
        let accepted = tokio::select! {
            _ = end.wait_for(|end| *end) => return,
            accepted = accepted => accepted,
        };
        while connections.try_join_next().is_some() {}
        let Some((stream, place)) = accepted else { continue };
        let router = router.clone();
        connections.spawn(async move {
            let _ = tokio::time::timeout(CONNECTION, serve_one(stream, router)).await;
            drop(place);
        });
    }
}

async fn serve_one(stream: TcpStream, router: Router) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS).keep_alive(false);
    let service = TowerToHyperService::new(router);
    // Whoever goes away is nobody's matter.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_adds_up() {
        let mut text = String::new();
        latency(&mut text, &Histogram { within: [1, 2, 0, 0, 0, 0, 1, 0, 1], micros: 61_005_000 });
        for line in [
            "holdfast_database_write_seconds_bucket{le=\"0.001\"} 1",
            "holdfast_database_write_seconds_bucket{le=\"0.050\"} 3",
            "holdfast_database_write_seconds_bucket{le=\"1.000\"} 4",
            "holdfast_database_write_seconds_bucket{le=\"+Inf\"} 5",
            "holdfast_database_write_seconds_sum 61.005000",
            "holdfast_database_write_seconds_count 5",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
    }
}
