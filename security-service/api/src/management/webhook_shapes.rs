//! The JSON of webhooks.

use holdfast_service_store::alert_delivery::Record;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A new webhook.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewWebhook {
    /// Its name.
    pub(super) name: String,
    /// Its URL: `https:`, without user.
    pub(super) url: String,
}

/// A webhook that was made. Its secret is told here and never again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadeWebhook {
    /// Its name.
    pub(super) name: String,
    /// The secret that its requests are signed by.
    pub(super) secret: String,
}

/// A webhook, and how its deliveries went.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WebhookShape {
    /// Its name.
    pub(super) name: String,
    /// Its URL.
    pub(super) url: String,
    /// Name of the token that has made it.
    pub(super) added_by: String,
    /// When it was made, in seconds since 1970.
    pub(super) created_at: u64,
    /// How its deliveries went.
    #[serde(flatten)]
    pub(super) record: RecordShape,
}

/// How deliveries to a webhook or another sink went.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct RecordShape {
    /// Alerts that it has taken.
    pub(super) delivered: u64,
    /// Alerts that were given up after it had refused them seven times.
    pub(super) given_up: u64,
    /// Alerts that had waited for more than a day, and were dropped.
    pub(super) dropped: u64,
    /// How often the alert has failed that is tried next.
    pub(super) failures: u64,
    /// When that is tried again, in seconds since 1970.
    pub(super) next_at: Option<u64>,
    /// When it has taken one last, in seconds since 1970.
    pub(super) delivered_at: Option<u64>,
    /// When it has failed last, in seconds since 1970.
    pub(super) failed_at: Option<u64>,
    /// Why it has failed last.
    pub(super) failure: Option<String>,
}

impl From<Record> for RecordShape {
    fn from(record: Record) -> Self {
        let Record { delivered, given_up, dropped, failures, next_at, .. } = record;
        let Record { delivered_at, failed_at, failure, .. } = record;
        Self { delivered, given_up, dropped, failures, next_at, delivered_at, failed_at, failure }
    }
}

/// What came of a test.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TestedWebhook {
    /// True if the receiver has taken it.
    pub(super) delivered: bool,
    /// HTTP status of its answer, where it has.
    pub(super) status: Option<u16>,
    /// Why not, where it has not.
    pub(super) failure: Option<String>,
}
