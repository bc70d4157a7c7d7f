//! The JSON of threats and thresholds.

use super::page::pages;
use holdfast_service_domain::detection::containment::{Contained, contain};
use holdfast_service_domain::detection::register::State;
use holdfast_service_domain::detection::thresholds::{Overrides, Threshold, Thresholds};
use holdfast_service_store::detection::threat::ThreatRow;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

pages!(ThreatsPage);

/// A page of threats.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ThreatsPage {
    /// Behind which threat the page begins: the `next` of the page before.
    #[serde(default)]
    pub(super) after: String,
    /// Most threats, 1 to 1000: more is 1000, and 0 is 1.
    pub(super) limit: Option<u32>,
    /// `closed` for those that are closed as well.
    pub(super) state: Option<String>,
    /// One product's alone.
    pub(super) product: Option<String>,
    /// One group's alone.
    pub(super) group: Option<String>,
}

/// Something that threat detection has found in a group of devices.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ThreatShape {
    /// Its number in the catalog.
    pub(super) number: u64,
    /// The rule that has found it.
    pub(super) rule: String,
    /// 1 for now, 2 for today, 3 for some day.
    pub(super) severity: u8,
    /// What it is about.
    pub(super) about: String,
    /// The product, where the devices are in one.
    pub(super) product: Option<String>,
    /// The group.
    pub(super) group: Option<String>,
    /// `open` or `closed`.
    pub(super) state: String,
    /// Devices that were counted at one time.
    pub(super) devices: u32,
    /// When the first of it was seen, in seconds since 1970.
    pub(super) first_at: u64,
    /// When the last of it was seen.
    pub(super) last_at: u64,
    /// When it was found.
    pub(super) opened_at: u64,
    /// How often it was opened again.
    pub(super) reopened: u32,
    /// When it was contained, while it is.
    pub(super) contained_at: Option<u64>,
    /// Who has contained it.
    pub(super) contained_by: Option<String>,
    /// When somebody has closed it.
    pub(super) closed_at: Option<u64>,
    /// Who has closed it.
    pub(super) closed_by: Option<String>,
    /// Why it was closed.
    pub(super) reason: Option<String>,
    /// What the rule sees.
    pub(super) sees: String,
    /// What to do about it.
    pub(super) remedy: String,
}

impl ThreatShape {
    pub(super) fn new(row: &ThreatRow) -> Self {
        let ThreatRow { group, contained, finding } = row;
        let closing = match &finding.state {
            State::Open => None,
            State::Closed(closing) => Some(closing),
        };
        let rule = finding.key.rule;
        let named = |name: &String| Some(name.clone()).filter(|name| !name.is_empty());
        Self {
            number: finding.number,
            rule: rule.word().to_owned(),
            severity: finding.severity.into(),
            about: finding.key.about.to_string(),
            product: named(&group.product),
            group: named(&group.group),
            state: if closing.is_some() { "closed" } else { "open" }.to_owned(),
            devices: finding.evidence.count,
            first_at: finding.evidence.first,
            last_at: finding.evidence.last,
            opened_at: finding.opened_at,
            reopened: finding.reopened,
            contained_at: contained.as_ref().map(|(at, _)| *at),
            contained_by: contained.as_ref().map(|(_, who)| who.clone()),
            closed_at: closing.map(|closing| closing.at),
            closed_by: closing.map(|closing| closing.by.clone()),
            reason: closing.map(|closing| closing.reason.clone()),
            sees: rule.sees().to_owned(),
            remedy: rule.remedy().to_owned(),
        }
    }
}

/// A record that shows a threat.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RecordShape {
    /// The device that has reported it.
    pub(super) device: String,
    /// Its number on that device.
    pub(super) sequence: u64,
}

/// A threat with what shows it, and what contains it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownThreat {
    /// The threat.
    #[serde(flatten)]
    pub(super) threat: ThreatShape,
    /// The first devices, at most 20.
    pub(super) named_devices: Vec<String>,
    /// Records, at most 20.
    pub(super) records: Vec<RecordShape>,
    /// Destinations, at most 8.
    pub(super) destinations: Vec<String>,
    /// Networks of strangers, at most 20.
    pub(super) networks: Vec<String>,
    /// What is done because of it.
    pub(super) done: Vec<String>,
    /// What `contain` does.
    pub(super) containment: Vec<String>,
}

impl ShownThreat {
    pub(super) fn new(row: &ThreatRow, contained: &Contained) -> Self {
        let finding = &row.finding;
        let evidence = &finding.evidence;
        let records = evidence.records.iter().map(|record| RecordShape {
            device: record.device.to_string(),
            sequence: record.record,
        });
        Self {
            threat: ThreatShape::new(row),
            named_devices: evidence.devices.iter().map(ToString::to_string).collect(),
            records: records.collect(),
            destinations: evidence.destinations.iter().map(ToString::to_string).collect(),
            networks: evidence.networks.iter().map(ToString::to_string).collect(),
            done: contained.of(finding.number).map(ToString::to_string).collect(),
            containment: contain(finding).actions.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Why a threat is closed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ThreatToClose {
    /// The reason, 1 to 1000 bytes.
    pub(super) reason: String,
}

/// What is done about a threat.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ContainedThreat {
    /// Each thing that is done because of it.
    pub(super) done: Vec<String>,
    /// What is not, and what to do about it: of each part of the software the deployment that is done.
    pub(super) left: Vec<String>,
}

/// A threshold of a rule, as a group has it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ThresholdShape {
    /// Its name.
    pub(super) name: String,
    /// Its value.
    pub(super) value: u32,
    /// True if somebody has set it.
    pub(super) is_set: bool,
    /// Its value where nobody has.
    pub(super) default: u32,
    /// The least value that it may have.
    pub(super) least: u32,
    /// The most.
    pub(super) most: u32,
    /// The rules that read it.
    pub(super) rules: Vec<String>,
    /// What it says.
    pub(super) means: String,
}

/// Returns the thresholds of a group.
pub(super) fn thresholds(overrides: &Overrides) -> Vec<ThresholdShape> {
    let values = Thresholds::with_overrides(overrides).values();
    let shape = |(known, value): (Threshold, u32)| ThresholdShape {
        name: known.name.to_owned(),
        value,
        is_set: overrides.contains_key(known.name),
        default: known.default,
        least: known.least,
        most: known.most,
        rules: known.rules.iter().map(|rule| rule.word().to_owned()).collect(),
        means: known.means.to_owned(),
    };
    Thresholds::ALL.into_iter().zip(values).map(shape).collect()
}

/// Thresholds that are changed, by name; null brings the default back. The others stay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ThresholdChange {
    /// The thresholds.
    pub(super) thresholds: BTreeMap<String, Option<u32>>,
}
