//! The JSON of overviews: a catalog at one look, what happened on a device, days of a crash group, and the service itself.

use super::webhook_shapes::RecordShape;
use serde::Serialize;
use utoipa::ToSchema;

/// How many devices have something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct CountShape {
    /// What they have.
    pub(super) name: String,
    /// How many they are.
    pub(super) devices: u64,
}

/// How many devices run a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct ReleaseCountShape {
    /// Its version.
    pub(super) version: String,
    /// Its rollback index.
    pub(super) index: u64,
    /// How many devices have attested it last.
    pub(super) devices: u64,
}

/// How many devices did something on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct DayShape {
    /// Its beginning, in seconds since 1970.
    pub(super) at: u64,
    /// How many devices.
    pub(super) devices: u64,
}

/// A catalog at one look.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct OverviewShape {
    /// When this was so, in seconds since 1970.
    pub(super) at: u64,
    /// Seconds within which a device was seen that is counted as having been there.
    pub(super) within_s: u64,
    /// Enrolled devices by how they stand: `attested`, `update-only`, `refused` or `silent`.
    pub(super) standings: Vec<CountShape>,
    /// Devices by state: `waiting`, `claimed`, `enrolled` or `retired`.
    pub(super) states: Vec<CountShape>,
    /// Devices that are quarantined.
    pub(super) quarantined: u64,
    /// Enrolled devices by the release that they have attested last, the newest first.
    pub(super) releases: Vec<ReleaseCountShape>,
    /// Enrolled devices by grade, the highest first.
    pub(super) grades: Vec<CountShape>,
    /// Open findings about devices, by kind: how many there are.
    pub(super) findings: Vec<CountShape>,
    /// Open crash groups.
    pub(super) crashes: u64,
    /// Open crash groups that were seen first within a week.
    pub(super) new_crashes: u64,
    /// Devices that ran, for each of the last 30 days on which it was counted.
    pub(super) days: Vec<DayShape>,
}

/// Something that happened on a device or with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct EventShape {
    /// When, in seconds since 1970.
    pub(super) at: u64,
    /// `boot`, `crash`, `update`, `refused`, `record`, `check-in`, `finding`, `closed`, `granted`, `slot` or `change`.
    pub(super) kind: String,
    /// `good`, `bad` or `plain`.
    pub(super) mood: String,
    /// What happened.
    pub(super) text: String,
    /// The deployment that it is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) deployment: Option<String>,
}

/// A day of a crash group.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub(super) struct CrashDayShape {
    /// Its beginning, in seconds since 1970.
    pub(super) at: u64,
    /// Devices on which it was seen for the first time.
    pub(super) devices: u64,
    /// Devices that ran the component.
    pub(super) running: u64,
    /// The first per 1000 of the second.
    pub(super) rate: Option<f64>,
}

/// Devices of a deployment's group that do not have the release for one reason.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct ReasonShape {
    /// The reason's word.
    pub(super) why_not: String,
    /// What it means.
    pub(super) says: String,
    /// What to do about it.
    pub(super) remedy: String,
    /// How many they are.
    pub(super) devices: u64,
}

/// Where the devices of a deployment's group are.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct ReasonsShape {
    /// Devices that were looked at, by id: 20,000 at most.
    pub(super) counted: u64,
    /// True if those are all.
    pub(super) complete: bool,
    /// Devices that have the release, or a later one.
    pub(super) there: u64,
    /// The others, by why they do not have it.
    pub(super) reasons: Vec<ReasonShape>,
}

/// The service's disk.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct DiskShape {
    /// Bytes that may still be written.
    pub(super) free_bytes: u64,
    /// Bytes that it has.
    pub(super) total_bytes: u64,
    /// Percent below which reports and symbols are refused.
    pub(super) reports_percent: u8,
    /// Percent below which nothing but check-ins is written.
    pub(super) writes_percent: u8,
    /// What there is room for: `all`, `no-reports` or `check-ins`.
    pub(super) room: String,
}

/// The service itself.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct StatusShape {
    /// Version of the program.
    pub(super) version: String,
    /// `sqlite` or `postgresql`.
    pub(super) database: String,
    /// Its time, in seconds since 1970.
    pub(super) now: u64,
    /// Its disk, where it can be asked.
    pub(super) disk: Option<DiskShape>,
    /// When threats were evaluated last by any instance, in seconds since 1970.
    pub(super) evaluated_at: Option<u64>,
}

/// How the deliveries to a sink went.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct DeliveryShape {
    /// `webhook`, `mail` or `otlp`.
    pub(super) kind: String,
    /// Name of the webhook; none for a sink of the installation.
    pub(super) name: Option<String>,
    /// How they went.
    #[serde(flatten)]
    pub(super) record: RecordShape,
}
