//! Reports on apps, and on other hosts of the network: rate-limited lines of the log, and the refusals in the status.

use crate::log::log;
use holdfast_networking::packet_denied::PacketDenied;
use holdfast_networking::refused_traffic::RefusedTraffic;
use holdfast_networking::status::{AppStatus, MAX_REFUSALS, Traffic};
use holdfast_sandbox::network::NetworkedApp;
use holdfast_types::event::Event;
use holdfast_types::event::network::TRAFFIC_COUNTED;
use std::collections::{BTreeMap, VecDeque};

/// Shortest time between two logs of the same line, in milliseconds.
const SAY_EVERY_MS: u64 = 60_000;
/// Most lines about one app or network that are remembered; while there are so many, no other is logged for it.
/// Whoever asks for a new name each time hides nobody else's refusals.
const MAX_REMEMBERED: usize = 32;
/// Shortest time between two logs of one app's traffic, in milliseconds.
const COUNT_EVERY_MS: u64 = 600_000;

/// Lines that were logged lately, with the time of each in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Said(BTreeMap<String, u64>);

impl Said {
    /// Logs a line, unless it was logged lately or too many were.
    pub(crate) fn say(&mut self, now: u64, event: Event, line: String) {
        self.0.retain(|_, said| now.saturating_sub(*said) < SAY_EVERY_MS);
        if self.0.contains_key(&line) || self.0.len() >= MAX_REMEMBERED {
            return;
        }
        log(event, &line);
        self.0.insert(line, now);
    }
}

/// The record of one app.
#[derive(Debug, Default)]
struct Report {
    said: Said,
    refused: u64,
    refusals: VecDeque<String>,
    traffic: RefusedTraffic,
    /// Traffic that was logged last, and when, in milliseconds.
    counted: Option<(Traffic, u64)>,
}

/// The records of all apps, by uid.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    apps: BTreeMap<u32, Report>,
}

impl Reports {
    /// Logs a line about an app, unless it was logged lately.
    pub(crate) fn say(&mut self, now: u64, app: &NetworkedApp, event: Event, line: &str) {
        self.apps.entry(app.uid).or_default().said.say(now, event, format!("{}: {line}", app.name));
    }

    /// Records that something was refused to an app, and logs it as [`say`](Self::say) does.
    pub(crate) fn refused(&mut self, now: u64, app: &NetworkedApp, event: Event, what: String) {
        let report = self.apps.entry(app.uid).or_default();
        report.said.say(now, event, format!("{}: refused {what}", app.name));
        report.refused = report.refused.saturating_add(1);
        report.refusals.retain(|known| *known != what);
        if report.refusals.len() >= MAX_REFUSALS {
            report.refusals.pop_front();
        }
        report.refusals.push_back(what);
    }

    /// Counts a packet that the firewall has denied to an app.
    pub(crate) fn denied(
        &mut self,
        now: u64,
        app: &NetworkedApp,
        denied: &PacketDenied,
        is_granted_name: bool,
    ) {
        let report = self.apps.entry(app.uid).or_default();
        report.traffic.add(denied, is_granted_name, now);
    }

    /// Logs how much an app has sent and received, if that has changed and was not logged for a while.
    pub(crate) fn count(&mut self, now: u64, app: &NetworkedApp, traffic: Traffic) {
        let report = self.apps.entry(app.uid).or_default();
        let due = report
            .counted
            .is_none_or(|(said, at)| said != traffic && now.saturating_sub(at) >= COUNT_EVERY_MS);
        if due && traffic != Traffic::default() {
            let line = format!("{}: {traffic}, refused {}", app.name, report.refused);
            log(TRAFFIC_COUNTED, line);
            report.counted = Some((traffic, now));
        }
    }

    /// Returns the status of an app.
    pub(crate) fn status(&self, app: &NetworkedApp, traffic: Traffic) -> AppStatus {
        let report = self.apps.get(&app.uid);
        AppStatus {
            name: app.name.clone(),
            traffic,
            refused: report.map_or(0, |report| report.refused),
            refusals: report.map(|r| r.refusals.iter().cloned().collect()).unwrap_or_default(),
            component_id: app.component_id,
            refused_groups: report.map(|report| report.traffic.groups()).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sandbox::network::NetworkGrants;
    use holdfast_types::ComponentId;
    use holdfast_types::event::network::{NAME_DENIED, NAME_RESOLUTION_FAILED};

    fn app(uid: u32) -> NetworkedApp {
        NetworkedApp {
            name: "app".to_owned(),
            component_id: ComponentId([1; 16]),
            uid,
            grants: NetworkGrants::default(),
        }
    }

    #[test]
    fn one_apps_flood_hides_nothing_of_another_and_ends() {
        let mut reports = Reports::default();
        for number in 0..1000 {
            reports.refused(0, &app(1), NAME_DENIED, number.to_string());
        }
        let said = |reports: &Reports, uid| reports.apps.get(&uid).map(|r| r.said.0.len());
        assert_eq!(said(&reports, 1), Some(MAX_REMEMBERED));
        reports.say(0, &app(2), NAME_RESOLUTION_FAILED, "other");
        assert_eq!(said(&reports, 2), Some(1));
        let status = reports.status(&app(1), Traffic::default());
        assert_eq!((status.refused, status.refusals.len()), (1000, MAX_REFUSALS));
        assert_eq!(status.refusals.last().map(String::as_str), Some("999"));
        reports.say(SAY_EVERY_MS, &app(1), NAME_RESOLUTION_FAILED, "again");
        assert_eq!(said(&reports, 1), Some(1), "the old ones are forgotten");
    }

    #[test]
    fn traffic_is_said_when_it_changes_and_seldom() {
        let mut reports = Reports::default();
        let counted = |reports: &Reports| reports.apps.get(&1).and_then(|r| r.counted);
        let sent = |sent_packets| Traffic { sent_packets, ..Traffic::default() };
        reports.count(0, &app(1), sent(0));
        assert_eq!(counted(&reports), None, "nothing to say");
        reports.count(1, &app(1), sent(1));
        reports.count(2, &app(1), sent(2));
        assert_eq!(counted(&reports), Some((sent(1), 1)));
        reports.count(1 + COUNT_EVERY_MS, &app(1), sent(2));
        reports.count(1 + 2 * COUNT_EVERY_MS, &app(1), sent(2));
        assert_eq!(counted(&reports), Some((sent(2), 1 + COUNT_EVERY_MS)));
    }
}
