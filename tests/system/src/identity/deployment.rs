//! Deployments of a service that runs, as people ask for them and see them.

use super::installation::Installation;
use anyhow::{Context, Result, ensure};
use holdfast_qemu::settings;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

/// The product and the group of every fleet.
const PRODUCT: &str = "pump";
const GROUP: &str = "production";
/// For devices to be seen in the end.
const WITHIN: Duration = Duration::from_secs(600);

/// A deployment, as far as checks look at it.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) state: String,
    pub(super) cause: Option<String>,
    pub(super) says: String,
    pub(super) stage: u64,
    pub(super) failures_to_halt: u64,
    /// Slots that stages before this one have given.
    pub(super) given_before: u64,
}

/// What people do with deployments.
pub(super) trait Deployments {
    /// Makes the product and the group.
    fn create_group(&self) -> Result<()>;
    /// Claims a device into the group.
    fn claim_in_group(&self, device: &str, grade: &str) -> Result<()>;
    /// Drafts a deployment of a version of the OS, and returns its name.
    fn draft(&self, version: &str, more: &Value) -> Result<String>;
    /// Approves, halts or withdraws one.
    fn act(&self, id: &str, action: &str) -> Result<()>;
    /// Returns one as it is shown.
    fn deployment(&self, id: &str) -> Result<Shown>;
    /// Returns the devices whose slot is one of these.
    fn with_slot(&self, id: &str, outcomes: &[&str]) -> Result<BTreeSet<String>>;
    /// Waits until so many devices have such a slot.
    fn wait_slots(&self, id: &str, outcome: &str, count: usize) -> Result<()>;
    /// Returns why each device does not have the release yet; an empty text where it has.
    fn why_not(&self, id: &str) -> Result<BTreeMap<String, String>>;
}

fn devices(service: &Installation, id: &str) -> Result<Vec<Value>> {
    let listed = service.of_catalog("GET", &format!("deployments/{id}/devices"), None)?;
    let items = listed.get("items").and_then(Value::as_array).context("no list")?;
    Ok(items.clone())
}

fn text(of: &Value, field: &str) -> String {
    of.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl Deployments for Installation {
    fn create_group(&self) -> Result<()> {
        self.put(&format!("products/{PRODUCT}"), b"null")?;
        let group = json!({ "least_index": 0 }).to_string();
        self.put(&format!("products/{PRODUCT}/groups/{GROUP}"), group.as_bytes())
    }

    fn claim_in_group(&self, device: &str, grade: &str) -> Result<()> {
        let place = json!({ "product": PRODUCT, "group": GROUP });
        let claim = json!({"devices": [{"device": device, "grade": grade, "place": place}]});
        self.of_catalog("POST", "claims", Some(&claim)).map(drop)
    }

    fn draft(&self, version: &str, more: &Value) -> Result<String> {
        let mut draft = json!({ "product": PRODUCT, "group": GROUP, "version": version });
        let members = draft.as_object_mut().context("no object")?;
        members.extend(more.as_object().context("no object")?.clone());
        let made = self.of_catalog("POST", "deployments", Some(&draft))?;
        Ok(text(&made, "id"))
    }

    fn act(&self, id: &str, action: &str) -> Result<()> {
        self.of_catalog("POST", &format!("deployments/{id}/{action}"), None).map(drop)
    }

    fn deployment(&self, id: &str) -> Result<Shown> {
        let shown = self.of_catalog("GET", &format!("deployments/{id}"), None)?;
        let number = |field: &str| shown.get(field).and_then(Value::as_u64).unwrap_or(0);
        Ok(Shown {
            state: text(&shown, "state"),
            cause: shown.get("cause").and_then(Value::as_str).map(str::to_owned),
            says: text(&shown, "says"),
            stage: number("stage"),

            failures_to_halt: number("failures_to_halt"),
            given_before: number("given").min(number("committed")),
        })
    }

    fn with_slot(&self, id: &str, outcomes: &[&str]) -> Result<BTreeSet<String>> {
        let devices = devices(self, id)?;
        let is_one = |device: &&Value| outcomes.contains(&text(device, "slot").as_str());
        Ok(devices.iter().filter(is_one).map(|device| text(device, "device")).collect())
    }

    fn wait_slots(&self, id: &str, outcome: &str, count: usize) -> Result<()> {
        let (began, within) = (Instant::now(), settings::scaled(WITHIN));
        while self.with_slot(id, &[outcome])?.len() < count {
            ensure!(began.elapsed() < within, "not all are {outcome}: {:?}", devices(self, id)?);
            thread::sleep(Duration::from_secs(1));
        }
        Ok(())
    }

    fn why_not(&self, id: &str) -> Result<BTreeMap<String, String>> {
        let devices = devices(self, id)?;
        Ok(devices.iter().map(|of| (text(of, "device"), text(of, "why_not"))).collect())
    }
}
