//! Containment: what one button does about a finding, and how it is undone.
//!
//! Containment makes nothing run on a device. A version that is quarantined gets certificates for updates alone at each
//! check-in, so that peers and brokers see no new one, and the way to a correction stays open.

use super::finding::Severity;
use super::register::FleetFinding;
use super::rule::Rule;
use super::subject::{Part, Subject};
use holdfast_evidence::claims::Claims;
use holdfast_evidence::messages::DeviceId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most versions and parts that are contained at once.
pub const MAX_CONTAINED: usize = 1000;

/// One thing that containment does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Nobody new is given any release of the part.
    HaltDeployments(Part),
    /// Deployments of the part may go on.
    ResumeDeployments(Part),
    /// Devices that attest this version get certificates for updates alone.
    QuarantineVersion(Subject),
    /// They get what they otherwise would.
    EndQuarantine(Subject),
    /// The device gets certificates for updates alone.
    QuarantineDevice(DeviceId),
    /// It gets what it otherwise would.
    EndQuarantineOfDevice(DeviceId),
}

impl Action {
    /// Returns what undoes it.
    #[must_use]
    pub fn inverse(&self) -> Self {
        match self.clone() {
            Self::HaltDeployments(part) => Self::ResumeDeployments(part),
            Self::ResumeDeployments(part) => Self::HaltDeployments(part),
            Self::QuarantineVersion(subject) => Self::EndQuarantine(subject),
            Self::EndQuarantine(subject) => Self::QuarantineVersion(subject),
            Self::QuarantineDevice(device) => Self::EndQuarantineOfDevice(device),
            Self::EndQuarantineOfDevice(device) => Self::QuarantineDevice(device),
        }
    }

    /// True for what undoes another action.
    #[must_use]
    pub fn undoes(&self) -> bool {
        match self {
            Self::HaltDeployments(_) | Self::QuarantineVersion(_) | Self::QuarantineDevice(_) => {
                false
            }
            Self::ResumeDeployments(_)
            | Self::EndQuarantine(_)
            | Self::EndQuarantineOfDevice(_) => true,
        }
    }
}

/// What is done about a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Containment {
    /// In the order in which it is done: deployments first, so that no device takes the version meanwhile.
    pub actions: Vec<Action>,
    /// The devices that are known, of `count`.
    pub devices: BTreeSet<DeviceId>,
    /// Devices that were counted.
    pub count: u32,
}

impl Containment {
    /// Returns what undoes it, the last first.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let actions = self.actions.iter().rev().map(Action::inverse).collect();
        Self { actions, ..self.clone() }
    }
}

/// Decides what contains a finding. Where nothing does but a person on the spot, it lists the devices.
#[must_use]
pub fn contain(finding: &FleetFinding) -> Containment {
    let subject = finding.key.about.subject();
    let is_severe = finding.severity == Severity::Now;
    let actions = match (finding.key.rule, subject) {
        (Rule::Outbreak | Rule::ExploitThenCall | Rule::NewDestination, Some(subject)) => {
            against(subject)
        }
        (Rule::Sandbox, Some(subject)) if is_severe => against(subject),
        // One device or a few: the version is not shown to be at fault.
        (Rule::Scan | Rule::Flood | Rule::Sandbox, _) => {
            finding.evidence.devices.iter().copied().map(Action::QuarantineDevice).collect()
        }
        // Devices that run it and are well keep their certificates: a release that fails attacks nobody.
        (Rule::Fallback | Rule::BootLoop, Some(subject)) => halt(&subject.part),
        // Devices have refused already, get no full certificates already, or are not what is to blame.
        (
            Rule::Rollback
            | Rule::Measurement
            | Rule::Clone
            | Rule::Silence
            | Rule::Clock
            | Rule::Enrol,
            _,
        )
        | (_, None) => Vec::new(),
    };
    Containment {
        actions,
        devices: finding.evidence.devices.clone(),
        count: finding.evidence.count,
    }
}

fn halt(part: &Part) -> Vec<Action> {
    match part {
        Part::App(_) | Part::Os => vec![Action::HaltDeployments(part.clone())],
        // Services come with the OS.
        Part::Service(_) => vec![Action::HaltDeployments(Part::Os)],
        Part::Unknown => Vec::new(),
    }
}

fn against(subject: Subject) -> Vec<Action> {
    let mut actions = halt(&subject.part);
    let part = match subject.part {
        Part::Service(_) => Part::Os,
        other => other,
    };
    if part != Part::Unknown && subject.version.is_some() {
        actions.push(Action::QuarantineVersion(Subject { part, ..subject }));
    }
    actions
}

/// There is no room for another version or part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_CONTAINED} versions and parts are contained already: end what is over")]
pub struct NoRoom;

/// What is contained in a group, and because of which findings: what two findings ask for ends with the second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contained(Vec<(Action, BTreeSet<u64>)>);

impl Contained {
    /// Does an action, or undoes one, because of the finding of this number.
    ///
    /// # Errors
    /// See [`NoRoom`].
    pub fn apply(&mut self, action: &Action, finding: u64) -> Result<(), NoRoom> {
        if action.undoes() {
            let done = action.inverse();
            for (known, findings) in &mut self.0 {
                if *known == done {
                    findings.remove(&finding);
                }
            }
            self.0.retain(|(_, findings)| !findings.is_empty());
            return Ok(());
        }
        if let Some((_, findings)) = self.0.iter_mut().find(|(known, _)| known == action) {
            findings.insert(finding);
            return Ok(());
        }
        if self.0.len() >= MAX_CONTAINED {
            return Err(NoRoom);
        }
        self.0.push((action.clone(), BTreeSet::from([finding])));
        Ok(())
    }

    /// Undoes all that was done because of a finding, whatever the finding asks for by now. What others ask for stays. Returns true
    /// where there was something.
    pub fn release(&mut self, finding: u64) -> bool {
        let mut was_there = false;
        for (_, findings) in &mut self.0 {
            was_there |= findings.remove(&finding);
        }
        self.0.retain(|(_, findings)| !findings.is_empty());
        was_there
    }

    /// Returns the numbers of the findings because of which something is contained.
    #[must_use]
    pub fn findings(&self) -> BTreeSet<u64> {
        self.0.iter().flat_map(|(_, findings)| findings).copied().collect()
    }

    /// Returns what is done because of a finding.
    pub fn of(&self, finding: u64) -> impl Iterator<Item = &Action> {
        let of = self.0.iter().filter(move |(_, findings)| findings.contains(&finding));
        of.map(|(action, _)| action)
    }

    fn has(&self, action: &Action) -> bool {
        self.0.iter().any(|(known, _)| known == action)
    }

    /// True where the device is to get certificates for updates alone: it is quarantined, or has attested a version that is.
    #[must_use]
    pub fn is_quarantined(&self, device: &DeviceId, attested: &Claims) -> bool {
        let version = |part, version| {
            self.has(&Action::QuarantineVersion(Subject { part, version: Some(version) }))
        };
        self.has(&Action::QuarantineDevice(*device))
            || version(Part::Os, attested.os.version)
            || attested.apps.iter().any(|app| version(Part::App(app.id), app.version))
    }

    /// True while nothing is contained.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::finding::{About, Evidence, Key};
    use crate::detection::register::State;
    use crate::device::Finding;
    use holdfast_failure_reports::record::Name;
    use holdfast_types::{ComponentId, Version};

    const CAMERA: ComponentId = ComponentId([0x25; 16]);
    const TWO: Version = Version { major: 2, minor: 1, patch: 0 };
    const DEVICE: DeviceId = DeviceId([7; 32]);

    fn claims(os: Version, camera: Version) -> Claims {
        let mut claims = holdfast_swtpm::claims();
        claims.os.version = os;
        for app in &mut claims.apps {
            (app.id, app.version) = (CAMERA, camera);
        }
        claims
    }

    fn finding(number: u64, rule: Rule, severity: Severity, part: Part) -> FleetFinding {
        let about = About::Subject(Subject { part, version: Some(TWO) });
        let devices = BTreeSet::from([DEVICE]);
        let evidence = Evidence { devices, count: 9, ..Evidence::default() };
        let key = Key { rule, about };
        let (opened_at, reopened, state) = (0, 0, State::Open);
        FleetFinding { number, key, severity, evidence, opened_at, reopened, state }
    }

    fn halt_of(part: Part) -> Action {
        Action::HaltDeployments(part)
    }

    #[test]
    fn an_outbreak_halts_deployments_and_quarantines_the_version() {
        let outbreak = finding(1, Rule::Outbreak, Severity::Now, Part::App(CAMERA));
        let containment = contain(&outbreak);
        assert_eq!((containment.count, containment.devices.len()), (9, 1));
        let mut contained = Contained::default();
        for action in &containment.actions {
            contained.apply(action, 1).unwrap();
        }
        assert!(contained.has(&halt_of(Part::App(CAMERA))) && !contained.has(&halt_of(Part::Os)));
        assert!(contained.is_quarantined(&DEVICE, &claims(TWO, TWO)), "any device that has it");
        let corrected = Version { minor: 2, ..TWO };
        assert!(
            !contained.is_quarantined(&DEVICE, &claims(TWO, corrected)),
            "it heals by an update"
        );
        for action in &containment.inverse().actions {
            contained.apply(action, 1).unwrap();
        }
        assert!(contained.is_empty());
    }

    #[test]
    fn what_two_findings_ask_for_ends_with_the_second() {
        let both = [Rule::Outbreak, Rule::ExploitThenCall]
            .map(|rule| contain(&finding(1, rule, Severity::Now, Part::App(CAMERA))));
        let mut contained = Contained::default();
        for (containment, number) in both.iter().zip(1..) {
            for action in containment.actions.iter().chain(&containment.actions) {
                contained.apply(action, number).unwrap();
            }
        }
        for action in &both[0].inverse().actions {
            contained.apply(action, 1).unwrap();
        }
        assert!(contained.is_quarantined(&DEVICE, &claims(TWO, TWO)));
        for action in &both[1].inverse().actions {
            contained.apply(action, 2).unwrap();
        }
        assert!(contained.is_empty());
    }

    /// A rule, its severity, and how many actions of which kind it has.
    #[test]
    fn what_is_contained_is_what_is_to_blame() {
        let camera = || Part::App(CAMERA);
        let service = || Part::Service(Name::try_from("network".to_owned()).unwrap());
        let actions = |rule, severity, part| contain(&finding(1, rule, severity, part)).actions;
        let version = Subject { part: camera(), version: Some(TWO) };
        let device = vec![Action::QuarantineDevice(DEVICE)];
        assert_eq!(actions(Rule::Scan, Severity::Today, camera()), device);
        assert_eq!(actions(Rule::Flood, Severity::Today, camera()), device);
        assert_eq!(actions(Rule::Sandbox, Severity::SomeDay, camera()), device);
        let both = vec![Action::HaltDeployments(camera()), Action::QuarantineVersion(version)];
        assert_eq!(actions(Rule::Sandbox, Severity::Now, camera()), both);
        assert_eq!(actions(Rule::ExploitThenCall, Severity::Now, camera()), both);
        let halt = vec![Action::HaltDeployments(Part::Os)];
        assert_eq!(actions(Rule::Fallback, Severity::Now, Part::Os), halt);
        assert_eq!(actions(Rule::BootLoop, Severity::Now, service()), halt);
        assert_eq!(actions(Rule::Outbreak, Severity::Now, Part::Unknown), []);
        assert_eq!(actions(Rule::Silence, Severity::Now, camera()), []);
        let about = About::Device(Finding::ReceiptForked);
        let clone = finding(1, Rule::Clone, Severity::Now, camera());
        let clone = FleetFinding { key: Key { rule: Rule::Clone, about }, ..clone };
        assert_eq!(contain(&clone).actions, []);
    }

    #[test]
    fn an_action_is_undone_by_its_inverse_and_done_again_by_the_inverse_of_that() {
        let subject = Subject { part: Part::Os, version: Some(TWO) };
        for action in [
            Action::HaltDeployments(Part::Os),
            Action::QuarantineVersion(subject),
            Action::QuarantineDevice(DEVICE),
        ] {
            assert_eq!(action.inverse().inverse(), action);
            assert!(!action.undoes() && action.inverse().undoes());
            let mut contained = Contained::default();
            contained.apply(&action, 1).unwrap();
            assert!(!contained.is_empty());
            contained.apply(&action.inverse(), 1).unwrap();
            assert!(contained.is_empty());
        }
    }

    #[test]
    fn what_was_done_because_of_a_finding_is_undone_as_a_whole() {
        let mut contained = Contained::default();
        let device = Action::QuarantineDevice(DEVICE);
        let halt = Action::HaltDeployments(Part::Os);
        for (action, number) in [(&device, 1), (&halt, 1), (&halt, 2)] {
            contained.apply(action, number).unwrap();
        }
        assert_eq!(contained.of(1).collect::<Vec<_>>(), [&device, &halt]);
        assert_eq!(contained.findings(), BTreeSet::from([1, 2]));
        assert!(contained.release(1) && !contained.release(1));
        assert!(contained.has(&halt_of(Part::Os)) && contained.of(1).next().is_none());
        assert!(contained.release(2) && contained.is_empty());
        let text = serde_json::to_string(&contained).unwrap();
        assert_eq!(serde_json::from_str::<Contained>(&text).unwrap(), contained);
    }

    #[test]
    fn no_number_of_findings_contains_without_bound() {
        let mut contained = Contained::default();
        for patch in 0..=u32::try_from(MAX_CONTAINED).unwrap() {
            let version = Some(Version { patch, ..TWO });
            let action = Action::QuarantineVersion(Subject { part: Part::Os, version });
            let is_room = usize::try_from(patch).unwrap() < MAX_CONTAINED;
            assert_eq!(contained.apply(&action, 1).is_ok(), is_room);
        }
    }
}
