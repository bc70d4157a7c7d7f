//! A worm in the fleet: when which rule sees it, and what contains it.

use crate::attack;
use crate::churn::fleet;
use crate::rates::{BEGIN, DAY_S};
use holdfast_service_domain::detection::containment::{Action, contain};
use holdfast_service_domain::detection::rule::Rule;
use serde::Serialize;

/// Devices that the worm takes over.
const TAKEN: usize = 60;
/// Devices of the outbreak from whose last on the alert is due.
const NINTH: usize = 9;
/// Most seconds from the ninth device to the alert.
const ALERT_S: u64 = 20 * 60;
/// Seconds after the first device that are looked at.
const LOOKED_AT_S: u64 = 60 * 60;

/// What has happened, in seconds since the first device was taken over.
#[derive(Debug, Clone, Serialize)]
pub struct Outbreak {
    devices: u32,
    /// Days in which nothing was found.
    quiet_days: u32,
    /// Findings of those days.
    false_findings: usize,
    /// When the ninth device was taken over.
    ninth_s: u64,
    /// When each rule has opened its first finding, the first rule first.
    found: Vec<Found>,
    /// Devices that the outbreak's finding has counted at the end.
    counted: u32,
    /// What would contain it.
    contained_by: Vec<Action>,
}

/// A rule and when it has found something.
#[derive(Debug, Clone, Serialize)]
struct Found {
    rule: Rule,
    at_s: u64,
}

/// Lets quiet days pass, and then the worm spread.
#[must_use]
pub fn run(devices: u32, quiet_days: u32) -> Outbreak {
    let mut simulation = fleet(devices, 3);
    simulation.run_until(BEGIN + u64::from(quiet_days) * DAY_S);
    let false_findings = simulation.service.register.findings().len();
    let began = simulation.now;
    let taken = attack::worm(&mut simulation, TAKEN);
    simulation.run_until(began + LOOKED_AT_S);
    let mut found: Vec<Found> = Rule::ALL
        .iter()
        .filter_map(|rule| Some(Found { rule: *rule, at_s: simulation.found_after(*rule, began)? }))
        .collect();
    found.sort_by_key(|found| found.at_s);
    let mut findings = simulation.service.register.findings().iter();
    let outbreak = findings.rfind(|finding| finding.key.rule == Rule::Outbreak);
    Outbreak {
        devices,
        quiet_days,
        false_findings,
        ninth_s: taken.get(NINTH - 1).map_or(u64::MAX, |at| at - began),
        found,
        counted: outbreak.map_or(0, |finding| finding.evidence.count),
        contained_by: outbreak.map_or_else(Vec::new, |finding| contain(finding).actions),
    }
}

impl Outbreak {
    fn outbreak_s(&self) -> Option<u64> {
        self.found.iter().find(|found| found.rule == Rule::Outbreak).map(|found| found.at_s)
    }

    /// Tells it by the minute.
    #[must_use]
    pub fn text(&self) -> String {
        let minute = |seconds: u64| format!("{:>3} min", seconds / 60);
        let mut lines = vec![format!(
            "{} devices, {} quiet days with {} findings. Then a worm crashes an app on four devices, and tries TCP 23 and 2323 from each:",
            self.devices, self.quiet_days, self.false_findings
        )];
        let mut events: Vec<(u64, String)> = self
            .found
            .iter()
            .map(|found| (found.at_s, format!("{}: {}", found.rule.word(), found.rule.sees())))
            .collect();
        events.push((self.ninth_s, "the ninth device is taken over".to_owned()));
        events.sort();
        lines.extend(events.into_iter().map(|(at, event)| format!("{}  {event}", minute(at))));
        lines.push(format!(
            "The outbreak has {} devices after an hour. It is contained by:",
            self.counted
        ));
        lines.extend(self.contained_by.iter().map(|action| format!("         {action:?}")));
        lines.join("\n") + "\n"
    }

    /// Says what should not be.
    ///
    /// # Errors
    /// Something was found before there was anything, the outbreak was found too late, or nothing contains it.
    pub fn check(&self) -> Result<(), String> {
        if self.false_findings > 0 {
            return Err(format!("{} findings before the worm", self.false_findings));
        }
        let Some(at) = self.outbreak_s() else {
            return Err("no outbreak was found".to_owned());
        };
        let after = at.saturating_sub(self.ninth_s);
        if after > ALERT_S {
            return Err(format!("the outbreak was found {after} s after its ninth device"));
        }
        if !self.contained_by.iter().any(|action| matches!(action, Action::QuarantineVersion(_))) {
            return Err("nothing quarantines the version".to_owned());
        }
        Ok(())
    }
}
