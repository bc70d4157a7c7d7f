//! What the service counts for metrics. Nothing of it names a catalog or a device.

use axum::response::Response;
use holdfast_service_domain::problem::Problem;
use holdfast_service_store::alert_delivery::SinkKind;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is asked of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// An enrolment, in two requests.
    Enrol,
    /// A check-in.
    CheckIn,
    /// A batch of reports.
    Report,
    /// Anything of the port of management.
    Management,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 4] = [Self::Enrol, Self::CheckIn, Self::Report, Self::Management];

    /// Returns the word for it, as metrics have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Enrol => "enrol",
            Self::CheckIn => "check-in",
            Self::Report => "report",
            Self::Management => "management",
        }
    }
}

/// What has become of an attempt to deliver an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The sink has taken it.
    Delivered,
    /// The sink has not, and is asked again.
    Failed,
    /// The sink has not, and is not asked again.
    GivenUp,
    /// The alert was too old.
    Dropped,
}

impl Delivery {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Delivered, Self::Failed, Self::GivenUp, Self::Dropped];

    /// Returns the word for it, as metrics have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::GivenUp => "given-up",
            Self::Dropped => "dropped",
        }
    }
}

/// The word of a request that was not refused.
pub const OK: &str = "ok";

/// The counts of this instance since it was started.
#[derive(Debug)]
pub struct Counts {
    /// By operation, and then by problem; the first of an operation is of what was not refused.
    requests: Vec<AtomicU64>,
    /// By kind of sink, and then by outcome.
    deliveries: Vec<AtomicU64>,
}

/// How many results an operation has.
fn results() -> usize {
    Problem::ALL.len().saturating_add(1)
}

fn zeros(rows: usize, columns: usize) -> Vec<AtomicU64> {
    (0..rows.saturating_mul(columns)).map(|_| AtomicU64::new(0)).collect()
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            requests: zeros(Operation::ALL.len(), results()),
            deliveries: zeros(SinkKind::ALL.len(), Delivery::ALL.len()),
        }
    }
}

impl Counts {
    /// Counts a request by its answer.
    pub fn answered(&self, operation: Operation, response: &Response) {
        let problem = response.extensions().get::<Problem>();
        let place = problem.and_then(|one| Problem::ALL.iter().position(|other| other == one));
        let column = place.map_or(0, |place| place.saturating_add(1));
        let row = Operation::ALL.iter().position(|other| *other == operation).unwrap_or(0);
        add(&self.requests, row.saturating_mul(results()).saturating_add(column), 1);
    }

    /// Counts alerts by what has become of them.
    pub fn delivered(&self, kind: SinkKind, delivery: Delivery, alerts: u64) {
        let row = SinkKind::ALL.iter().position(|other| *other == kind).unwrap_or(0);
        let column = Delivery::ALL.iter().position(|other| *other == delivery).unwrap_or(0);
        let row = row.saturating_mul(Delivery::ALL.len());
        add(&self.deliveries, row.saturating_add(column), alerts);
    }

    /// Returns how many requests there were of each operation and result: `ok`, or the name of a problem. A problem that was never answered has
    /// no entry.
    #[must_use]
    pub fn requests(&self) -> Vec<(&'static str, &'static str, u64)> {
        let words = || std::iter::once(OK).chain(Problem::ALL.iter().map(|one| one.slug()));
        let names = Operation::ALL.iter().flat_map(|one| words().map(|word| (one.word(), word)));
        let counts = self.requests.iter().map(|count| count.load(Ordering::Relaxed));
        let all = names.zip(counts).map(|((operation, result), count)| (operation, result, count));
        all.filter(|(_, result, count)| *count > 0 || *result == OK).collect()
    }

    /// Returns what has become of alerts, by kind of sink and outcome.
    #[must_use]
    pub fn deliveries(&self) -> Vec<(&'static str, &'static str, u64)> {
        let words = || Delivery::ALL.iter().map(|one| one.word());
        let names = SinkKind::ALL.iter().flat_map(|one| words().map(|word| (one.word(), word)));
        let counts = self.deliveries.iter().map(|count| count.load(Ordering::Relaxed));
        names.zip(counts).map(|((kind, word), count)| (kind, word, count)).collect()
    }
}

fn add(counts: &[AtomicU64], place: usize, by: u64) {
    if let Some(count) = counts.get(place) {
        count.fetch_add(by, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Refusal;
    use axum::response::IntoResponse;

    #[test]
    fn a_request_is_counted_by_what_it_was_answered() {
        let counts = Counts::default();
        let refused = || Refusal::from(Problem::MeasurementUnknown).into_response();
        counts.answered(Operation::CheckIn, &"".into_response());
        counts.answered(Operation::CheckIn, &refused());
        counts.answered(Operation::CheckIn, &refused());
        counts.delivered(SinkKind::Otlp, Delivery::Dropped, 3);
        let requests = counts.requests();
        assert!(requests.contains(&("check-in", "measurement-unknown", 2)), "{requests:?}");
        assert!(requests.contains(&("check-in", OK, 1)));
        assert!(requests.contains(&("report", OK, 0)));
        assert_eq!(requests.len(), Operation::ALL.len() + 1);
        assert!(counts.deliveries().contains(&("otlp", "dropped", 3)));
        assert!(counts.deliveries().contains(&("webhook", "dropped", 0)));
    }
}
