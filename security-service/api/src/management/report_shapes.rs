//! The JSON of reports and crash groups.

use super::page::pages;
use holdfast_service_domain::insight::Insight;
use holdfast_service_store::report::ReportKey;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

pages!(ReportsPage, CrashesPage);

/// A page of reports.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ReportsPage {
    /// Behind which report the page begins: the `next` of the page before.
    #[serde(default)]
    pub(super) after: String,
    /// Most reports, 1 to 1000: more is 1000, and 0 is 1.
    pub(super) limit: Option<u32>,
    /// `json` or `csv`.
    pub(super) format: Option<String>,
}

/// A page of crash groups.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct CrashesPage {
    /// Behind which group the page begins: the `next` of the page before.
    #[serde(default)]
    pub(super) after: String,
    /// Most groups, 1 to 1000: more is 1000, and 0 is 1.
    pub(super) limit: Option<u32>,
    /// `closed` for those that were closed as well.
    pub(super) state: Option<String>,
    /// `json` or `otlp`.
    pub(super) format: Option<String>,
    /// By `id`, or the `newest` first, by when they were seen last.
    pub(super) order: Option<String>,
}

/// What a page begins behind: when it came, device, epoch and number, with dots between.
pub(super) fn cursor(key: &ReportKey) -> String {
    let ReportKey { received_at, device, epoch, sequence } = key;
    format!("{received_at}.{device}.{epoch}.{sequence}")
}

/// Something that a device has reported, in the eight columns of Azure Sphere's error reports.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReportShape {
    /// The device.
    pub(super) device: String,
    /// `planned` or `unplanned`.
    pub(super) event_type: String,
    /// `os` or `app`.
    pub(super) event_class: String,
    /// The kind of event, such as `AppCrash`.
    pub(super) event_category: String,
    /// How often.
    pub(super) event_count: u64,
    /// The category, and in brackets what is known.
    pub(super) description: String,
    /// When it was recorded, in seconds since 1970.
    pub(super) start_at: u64,
    /// When it was received, in seconds since 1970.
    pub(super) end_at: u64,
    /// The device's spool: another one begins with a reset.
    pub(super) epoch: String,
    /// Its number there.
    pub(super) sequence: u64,
    #[serde(skip)]
    #[schema(ignore)]
    cursor: String,
}

impl ReportShape {
    pub(super) fn new(key: &ReportKey, event: Insight) -> Self {
        Self {
            device: key.device.clone(),
            event_type: event.event_type.to_owned(),
            event_class: event.event_class.to_owned(),
            event_category: event.event_category.to_owned(),
            event_count: event.event_count,
            description: event.description,
            start_at: event.start_at,
            end_at: event.end_at,
            epoch: key.epoch.clone(),
            sequence: key.sequence,
            cursor: cursor(key),
        }
    }

    pub(super) fn cursor(&self) -> String {
        self.cursor.clone()
    }
}

/// A crash group: failures that are the same one.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CrashShape {
    /// Its id.
    pub(super) group: String,
    /// Number of the algorithm that has grouped it.
    pub(super) algorithm: u64,
    /// `new`, `open`, `regressed`, `gone` or `closed`.
    pub(super) state: String,
    /// The product whose devices have it.
    pub(super) product: Option<String>,
    /// The component id, `service:` and a name, or `os`.
    pub(super) component: String,
    /// The component's name.
    pub(super) name: String,
    /// How it fails, such as `signal 11`.
    pub(super) kind: String,
    /// Where it fails: a function, or build id and address.
    pub(super) at: Option<String>,
    /// The function that has called that one.
    pub(super) called_from: Option<String>,
    /// The oldest version that it was seen in.
    pub(super) first_version: String,
    /// The newest version that it was seen in.
    pub(super) last_version: String,
    /// When it was seen first, in seconds since 1970.
    pub(super) first_at: u64,
    /// When it was seen last.
    pub(super) last_at: u64,
    /// How often it has happened.
    pub(super) events: u64,
    /// On how many devices.
    pub(super) devices: u64,
    /// Days that devices have run the versions it was seen in.
    pub(super) device_days: u64,
    /// Devices per 1000 of those days.
    pub(super) rate: Option<f64>,
    /// When it came back after it was closed or gone.
    pub(super) regressed_at: Option<u64>,
    /// When somebody has closed it.
    pub(super) closed_at: Option<u64>,
}

/// What a crash group has in one version.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CrashVersionShape {
    /// The version.
    pub(super) version: String,
    /// When it was seen first, in seconds since 1970.
    pub(super) first_at: u64,
    /// When it was seen last.
    pub(super) last_at: u64,
    /// How often it has happened.
    pub(super) events: u64,
    /// On how many devices.
    pub(super) devices: u64,
    /// Days that devices have run it.
    pub(super) device_days: u64,
    /// Devices per 1000 of those days.
    pub(super) rate: Option<f64>,
}

/// A crash group with its versions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownCrash {
    /// The group.
    #[serde(flatten)]
    pub(super) crash: CrashShape,
    /// The versions that it was seen in, the oldest first.
    pub(super) versions: Vec<CrashVersionShape>,
}
