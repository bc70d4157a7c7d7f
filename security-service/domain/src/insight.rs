//! Reports as events in eight columns, which are those of the error reports of Azure Sphere (`listDeviceInsights`): who has a program that reads
//! them needs no other.

use crate::report_batch::{made_at, of_update};
use holdfast_evidence::messages::DeviceId;
use holdfast_failure_reports::record::{
    Body, CheckInOutcome, Component, End, Ended, LostWhy, Partition, Place, Protocol, Record, Where,
};
use holdfast_types::date;

/// The columns' heads.
pub const COLUMNS: [&str; 8] = [
    "Device ID",
    "Event Type",
    "Event Class",
    "Event Category",
    "Event Count",
    "Description",
    "Start Time",
    "End Time",
];

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insight {
    /// The device.
    pub device: DeviceId,
    /// `planned` or `unplanned`.
    pub event_type: &'static str,
    /// `os` or `app`.
    pub event_class: &'static str,
    /// The kind of event, such as `AppCrash`.
    pub event_category: &'static str,
    /// How often.
    pub event_count: u64,
    /// The category, and in brackets what is known: names and numbers, with semicolons between.
    pub description: String,
    /// When it was recorded, in seconds since 1970: by the device's clock, unless that cannot be right.
    pub start_at: u64,
    /// When it was received, in seconds since 1970.
    pub end_at: u64,
}

/// What a description is made of.
#[derive(Default)]
struct Facts(Vec<String>);

impl Facts {
    fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.0.push(format!("{name}={}", value.to_string()));
        self
    }

    fn with_some(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }
}

impl Insight {
    /// Returns a record of a device as an event.
    #[must_use]
    pub fn of(device: DeviceId, record: &Record, received_at: u64) -> Self {
        let (event_type, event_class, event_category, event_count, facts) = read(&record.body);
        Self {
            device,
            event_type,
            event_class,
            event_category,
            event_count,
            description: format!("{event_category} ({})", facts.0.join("; ")),
            start_at: made_at(record, received_at),
            end_at: received_at.max(made_at(record, received_at)),
        }
    }

    /// Returns the event as a line of CSV (RFC 4180), with its end.
    #[must_use]
    pub fn csv(&self) -> String {
        line(&[
            &self.device.to_string(),
            self.event_type,
            self.event_class,
            self.event_category,
            &self.event_count.to_string(),
            &self.description,
            &date(self.start_at),
            &date(self.end_at),
        ])
    }
}

/// Returns the first line of a file of events.
#[must_use]
pub fn csv_head() -> String {
    line(&COLUMNS)
}

fn line(cells: &[&str; 8]) -> String {
    let quoted = cells.map(|cell| {
        if cell.contains(['"', ',', '\r', '\n']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell.to_owned()
        }
    });
    quoted.join(",") + "\r\n"
}

fn place(place: Place) -> String {
    match place.build_id {
        Some(build_id) => format!("{build_id}+0x{:x}", place.offset),
        None => format!("0x{:x}", place.offset),
    }
}

fn component(component: &Component) -> Facts {
    match component {
        Component::App(app) => Facts::default()
            .with("component_id", app.id)
            .with("name", app.name.as_str())
            .with("version", app.version),
        Component::Service(name) => Facts::default().with("service", name.as_str()),
    }
}

fn class(component: &Component) -> &'static str {
    match component {
        Component::App(_) => "app",
        Component::Service(_) => "os",
    }
}

type Read = (&'static str, &'static str, &'static str, u64, Facts);

fn read(body: &Body) -> Read {
    let os = Facts::default;
    match body {
        Body::Boot(boot) => {
            let event_type = if boot.reset.is_failure() { "unplanned" } else { "planned" };
            let facts = os().with("reason", boot.reset.word()).with("version", boot.version);
            (event_type, "os", "Reboot", 1, facts.with_some("pc", boot.fault.map(place)))
        }
        Body::Ended(ended) => of_end(ended),
        Body::Update(update) => {
            let (class, category) = match update.app {
                Some(_) => ("app", "AppUpdate"),
                None => ("os", "OSUpdate"),
            };
            let outcome = of_update(update.outcome);
            let facts = os().with("outcome", outcome).with("from", update.from);
            let facts = facts.with("to", update.to).with("bytes", update.fetched_bytes);
            ("planned", class, category, 1, facts.with_some("component_id", update.app))
        }
        Body::Refused(refused) => {
            let protocol = match refused.protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
                Protocol::Icmp => "icmp",
                Protocol::Other => "other",
            };
            let to = match refused.to {
                Where::Public => "public",
                Where::Private => "private",
                Where::Link => "link",
                Where::Multicast => "multicast",
                Where::Device => "device",
            };
            let facts = component(&refused.component).with("protocol", protocol).with("to", to);
            let facts = facts.with_some("port", refused.port);
            let facts = facts.with("addresses_log2", refused.addresses_log2);
            ("unplanned", "app", "NetworkRefused", refused.count.into(), facts)
        }
        Body::Traffic(traffic) => {
            let facts = component(&traffic.component).with("bytes_sent", traffic.sent_bytes);
            let facts = facts.with("bytes_received", traffic.received_bytes);
            ("planned", "app", "NetworkTraffic", 1, facts)
        }
        Body::Used(used) => {
            let facts = component(&used.component).with("memory_peak_kib", used.memory_peak_kib);
            let facts = facts.with("restarts", used.restarts);
            ("planned", class(&used.component), "Resources", 1, facts)
        }
        Body::Storage(storage) => {
            let partition = match storage.partition {
                Partition::State => "state",
                Partition::Apps => "apps",
                Partition::Data => "data",
            };
            let facts = os().with("partition", partition).with("percent", storage.percent);
            ("planned", "os", "Storage", 1, facts)
        }
        Body::Clock(clock) => {
            let facts = os().with("step_s", clock.step_s).with("refused", clock.is_refused);
            ("planned", "os", "Clock", 1, facts)
        }
        Body::CheckIn(check_in) => {
            let (event_type, outcome) = match check_in.outcome {
                CheckInOutcome::Certified => ("planned", "certified"),
                CheckInOutcome::UpdateOnly => ("planned", "update-only"),
                CheckInOutcome::Refused => ("unplanned", "refused"),
                CheckInOutcome::Unreachable => ("unplanned", "unreachable"),
                CheckInOutcome::TpmFailed => ("unplanned", "tpm-failed"),
            };
            (event_type, "os", "CheckIn", check_in.count.into(), os().with("outcome", outcome))
        }
        Body::Lost(lost) => {
            let why = match lost.why {
                LostWhy::Quota => "quota",
                LostWhy::Spool => "spool",
                LostWhy::Torn => "torn",
                LostWhy::Init => "init",
            };
            ("unplanned", "os", "ReportsLost", lost.count.into(), os().with("why", why))
        }
    }
}

fn of_end(ended: &Ended) -> Read {
    let is_app = matches!(ended.component, Component::App(_));
    let is_exit = matches!(ended.end, End::Exit(_));
    let category = match (is_app, is_exit) {
        (true, true) => "AppExit",
        (true, false) => "AppCrash",
        (false, true) => "ServiceExit",
        (false, false) => "ServiceCrash",
    };
    let facts = match ended.end {
        End::Exit(code) => Facts::default().with("exit_status", code),
        End::Signal(signal) => Facts::default().with("signo", signal),
        end => Facts::default().with("reason", end.word()),
    };
    let facts = facts.with_some("pc", ended.crash.map(|crash| place(crash.pc)));
    let mut facts = facts.with_some("lr", ended.crash.and_then(|crash| crash.lr).map(place));
    if let Some(panic) = ended.panic {
        facts = facts.with("panic", format!("{:016x}", panic.message));
        facts = facts.with("file", format!("{:04x}", panic.file)).with("line", panic.line);
    }
    facts = facts.with("uptime_s", ended.ran_s);
    facts.0.extend(component(&ended.component).0);
    ("unplanned", class(&ended.component), category, ended.count.into(), facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_failure_reports::samples;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_of_record_is_an_event_of_eight_cells() {
        let mut categories = BTreeSet::new();
        for record in samples::records() {
            let event = Insight::of(DeviceId([0xde; 32]), &record, 1_790_000_600);
            let line = event.csv();
            let cells: Vec<&str> = line.trim_end().split(',').collect();
            assert_eq!(cells.len(), COLUMNS.len(), "{line}");
            assert!(cells[5].starts_with(cells[3]) && cells[5].ends_with(')'), "{line}");
            assert_eq!(
                (cells[0], cells[6], cells[7]),
                (
                    "de".repeat(32).as_str(),
                    date(1_790_000_000).as_str(),
                    date(1_790_000_600).as_str()
                )
            );
            categories.insert(event.event_category);
        }
        assert_eq!(categories.len(), samples::records().len());
    }

    #[test]
    fn a_crash_says_where_it_was() {
        let event = Insight::of(DeviceId([1; 32]), &samples::records()[1], 0);
        let build_id = "b1".repeat(20);
        assert_eq!(
            event.description,
            format!(
                "AppCrash (signo=11; pc={build_id}+0x12a44; lr={build_id}+0x12b10; panic=0123456789abcdef; file=3344; line=42; \
                uptime_s=3600; component_id=25025d2c-66da-4448-bae1-ac26fcdd3627; name=camera; version=2.1.0)"
            )
        );
        assert_eq!(
            (event.event_type, event.event_class, event.event_count),
            ("unplanned", "app", 3)
        );
    }

    #[test]
    fn a_cell_that_would_be_two_is_quoted() {
        let cells = ["a", "b,c", "d\"e", "f\ng", "", "", "", ""];
        assert_eq!(line(&cells), "a,\"b,c\",\"d\"\"e\",\"f\ng\",,,,\r\n");
        assert_eq!(csv_head().matches(',').count(), 7);
    }
}
