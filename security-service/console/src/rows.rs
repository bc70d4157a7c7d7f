//! What the management API answers, as far as pages show it. The same is a page's document.

use serde::{Deserialize, Serialize};

/// A page of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Listed<T> {
    pub(crate) items: Vec<T>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { items: Vec::new(), next: None }
    }
}

macro_rules! rows {
    ($($(#[doc = $doc:literal])+ $name:ident { $($(#[$more:meta])* $field:ident: $kind:ty,)+ })+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Debug, Clone, Serialize, Deserialize)]
            pub(crate) struct $name { $($(#[$more])* pub(crate) $field: $kind,)+ }
        )+
    };
}

rows! {
    /// A catalog.
    Catalog { id: String, name: String, grades: Vec<String>, }
    /// How many devices have something.
    Count { name: String, devices: u64, }
    /// How many devices run a release.
    ReleaseCount { version: String, index: u64, devices: u64, }
    /// How many devices ran on a day.
    Day { at: u64, devices: u64, }
    /// A catalog at one look.
    Overview {
        at: u64,
        within_s: u64,
        standings: Vec<Count>,
        states: Vec<Count>,
        quarantined: u64,
        releases: Vec<ReleaseCount>,
        grades: Vec<Count>,
        findings: Vec<Count>,
        crashes: u64,
        new_crashes: u64,
        days: Vec<Day>,
    }
    /// The product and group of a device.
    GroupOf { product: String, group: String, }
    /// A device.
    Device {
        id: String,
        kind: String,
        state: String,
        grade: Option<String>,
        claimed_grade: Option<String>,
        quarantined: bool,
        place: Option<GroupOf>,
        board: Option<String>,
        serial: Option<String>,
        verdict: Option<String>,
        version: Option<String>,
        index: Option<u64>,
        phase: Option<String>,
        certificate_end: Option<u64>,
        next_at: Option<u64>,
        seen_at: Option<u64>,
    }
    /// Something that was found about a device.
    Finding {
        device: String,
        kind: String,
        opened_at: u64,
        last_at: u64,
        times: u64,
        closed_at: Option<u64>,
    }
    /// A group.
    Group {
        name: String,
        least_index: u64,
        grades: Option<Vec<String>>,
        reports: Option<String>,
        production: Option<bool>,
        update: Option<String>,
        feed: Option<String>,
    }
    /// A threshold of threat detection.
    Threshold { name: String, value: u32, is_set: bool, default: u32, rules: Vec<String>, means: String, }
    /// A stage of a deployment.
    Stage { permille: Option<u16>, listed: Option<u16>, soak_s: u64, }
    /// A deployment.
    Deployment {
        id: String,
        product: String,
        group: String,
        component: String,
        version: String,
        state: String,
        cause: Option<String>,
        stage: u32,
        stages: Vec<Stage>,
        quorum_permille: u16,
        since: u64,
        soaks_until: Option<u64>,
        devices: u64,
        allowance: Option<u64>,
        given: u64,
        granted: i64,
        committed: i64,
        failed: i64,
        silent: i64,
        failures_to_halt: u64,
        silent_to_halt: u64,
        says: String,
        window: Option<String>,
        deadline_s: Option<u64>,
        production: bool,
        drafted_by: String,
        approved_by: Option<String>,
        created_at: u64,
    }
    /// Why devices do not have a release.
    Reason { why_not: String, says: String, remedy: String, devices: u64, }
    /// Where the devices of a deployment's group are.
    Reasons { counted: u64, complete: bool, there: u64, reasons: Vec<Reason>, }
    /// Where a device is in a deployment.
    Whereabouts {
        device: String,
        version: Option<String>,
        slot: Option<String>,
        why_not: Option<String>,
        says: Option<String>,
        listed_in: Option<u32>,
        granted_at: Option<u64>,
        seen_at: Option<u64>,
    }
    /// A release.
    Release { boot: String, pcr: String, version: String, index: u64, withdrawn: bool, source: String, feed: Option<String>, }
    /// A repository whose root is trusted.
    Repository { version: u32, expires: String, targets: Option<u64>, taken_at: Option<u64>, served_at: Option<u64>, }
    /// A crash group.
    Crash {
        group: String,
        state: String,
        product: Option<String>,
        component: String,
        name: String,
        kind: String,
        at: Option<String>,
        called_from: Option<String>,
        first_version: String,
        last_version: String,
        first_at: u64,
        last_at: u64,
        events: u64,
        devices: u64,
        device_days: u64,
        rate: Option<f64>,
        regressed_at: Option<u64>,
        closed_at: Option<u64>,
    }
    /// What a crash group has in one version.
    CrashVersion {
        version: String,
        first_at: u64,
        last_at: u64,
        events: u64,
        devices: u64,
        device_days: u64,
        rate: Option<f64>,
    }
    /// A day of a crash group.
    CrashDay { at: u64, devices: u64, running: u64, rate: Option<f64>, }
    /// What threat detection has found.
    Threat {
        number: u64,
        rule: String,
        severity: u8,
        about: String,
        product: Option<String>,
        group: Option<String>,
        state: String,
        devices: u32,
        first_at: u64,
        last_at: u64,
        opened_at: u64,
        reopened: u32,
        contained_at: Option<u64>,
        contained_by: Option<String>,
        closed_at: Option<u64>,
        closed_by: Option<String>,
        reason: Option<String>,
        sees: String,
        remedy: String,
    }
    /// A record that shows a threat.
    EvidenceRecord { device: String, sequence: u64, }
    /// Something that happened on a device or with it.
    Event { at: u64, kind: String, mood: String, text: String, #[serde(default, skip_serializing_if = "Option::is_none")] deployment: Option<String>, }
    /// A certificate of the catalog's authority.
    Authority { serial: String, kind: String, pem: String, not_before: u64, not_after: u64, }
    /// A token.
    Token { name: String, role: String, created_at: u64, ends_at: u64, }
    /// A webhook.
    Webhook { name: String, url: String, added_by: String, created_at: u64, }
    /// How the deliveries to a sink went.
    Delivery {
        kind: String,
        name: Option<String>,
        delivered: u64,
        given_up: u64,
        dropped: u64,
        failures: u64,
        next_at: Option<u64>,
        delivered_at: Option<u64>,
        failed_at: Option<u64>,
        failure: Option<String>,
    }
    /// A row of the audit log.
    AuditRow { number: u64, at: u64, who: String, verb: String, object: String, digest: String, hash: String, }
    /// The service's disk.
    Disk { free_bytes: u64, total_bytes: u64, reports_percent: u8, writes_percent: u8, room: String, }
    /// The service itself.
    Status { version: String, database: String, now: u64, disk: Option<Disk>, evaluated_at: Option<u64>, }
}

/// A crash group with its versions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ShownCrash {
    #[serde(flatten)]
    pub(crate) crash: Crash,
    pub(crate) versions: Vec<CrashVersion>,
}

/// A threat with what shows it, and what contains it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ShownThreat {
    #[serde(flatten)]
    pub(crate) threat: Threat,
    pub(crate) named_devices: Vec<String>,
    pub(crate) records: Vec<EvidenceRecord>,
    pub(crate) destinations: Vec<String>,
    pub(crate) networks: Vec<String>,
    pub(crate) done: Vec<String>,
    pub(crate) containment: Vec<String>,
}
