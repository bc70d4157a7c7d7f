//! The JSON of deployments.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A stage that is drafted: of a list, or of a share.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewStage {
    /// Share of the group's devices that may have the release by then, in thousandths.
    pub(super) permille: Option<u16>,
    /// The devices of the group that may have the release by then beside those of the stages before, by their ids: in place of a share, and
    /// before all stages that have one.
    pub(super) devices: Option<Vec<String>>,
    /// Seconds for which it is watched once most of it has succeeded.
    pub(super) soak_s: u64,
}

/// A stage.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(super) struct StageShape {
    /// Share of the group's devices that may have the release by then, in thousandths; none of a stage by a list.
    pub(super) permille: Option<u16>,
    /// How many devices are on its list; none of a stage by a share. The devices of a deployment say on which list they are.
    pub(super) listed: Option<u16>,
    /// Seconds for which it is watched once most of it has succeeded.
    pub(super) soak_s: u64,
}

/// A deployment that is drafted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDeployment {
    /// The product.
    pub(super) product: String,
    /// The group.
    pub(super) group: String,
    /// `os`, which is meant where nothing is said, or the component id of an app.
    pub(super) component: Option<String>,
    /// The version.
    pub(super) version: String,
    /// The stages by name: `slow`, `normal`, `fast` or `emergency`.
    pub(super) preset: Option<String>,
    /// Seconds for which each stage of the preset is watched, in place of its own.
    pub(super) soak_s: Option<u64>,
    /// The stages, in place of a name.
    pub(super) stages: Option<Vec<NewStage>>,
    /// Share of a stage's devices that must have succeeded, in thousandths; with `stages` alone, and 500 where it is not said.
    pub(super) quorum_permille: Option<u16>,
    /// When devices may restart for it, such as `sa,su 02:00-04:00+60`.
    pub(super) window: Option<String>,
    /// Seconds after which a device that may take it waits for the window no longer.
    pub(super) deadline_s: Option<u64>,
    /// How often devices check for it, in seconds.
    pub(super) check_every_s: Option<u32>,
    /// When it begins at the earliest, in seconds since 1970.
    pub(super) begins_at: Option<u64>,
}

/// A deployment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeploymentShape {
    /// Its name.
    pub(super) id: String,
    /// The product.
    pub(super) product: String,
    /// The group.
    pub(super) group: String,
    /// `os`, or the component id of an app.
    pub(super) component: String,
    /// The version.
    pub(super) version: String,
    /// Its state.
    pub(super) state: String,
    /// Why it has halted.
    pub(super) cause: Option<String>,
    /// The stage, from 1 on; 0 before the first.
    pub(super) stage: u32,
    /// Its stages.
    pub(super) stages: Vec<StageShape>,
    /// Share of a stage's devices that must have succeeded, in thousandths.
    pub(super) quorum_permille: u16,
    /// Since when it is as far as it is, in seconds since 1970.
    pub(super) since: u64,
    /// When a soak is over, in seconds since 1970.
    pub(super) soaks_until: Option<u64>,
    /// Devices of the group when the stage began that could be given the release or had been.
    pub(super) devices: u64,
    /// How many of them may have it in this stage; none where all may.
    pub(super) allowance: Option<u64>,
    /// Devices that were given it.
    pub(super) given: u64,
    /// Those that were given it and count.
    pub(super) granted: i64,
    /// Those that have succeeded.
    pub(super) committed: i64,
    /// Those that have fallen back, or say that they cannot use it.
    pub(super) failed: i64,
    /// Those that are silent.
    pub(super) silent: i64,
    /// Failures at which it halts.
    pub(super) failures_to_halt: u64,
    /// Silent devices at which it halts.
    pub(super) silent_to_halt: u64,
    /// What it waits for or was stopped by, in one sentence.
    pub(super) says: String,
    /// When devices may restart for it.
    pub(super) window: Option<String>,
    /// Seconds after which a device waits for the window no longer.
    pub(super) deadline_s: Option<u64>,
    /// How often devices check for it, in seconds.
    pub(super) check_every_s: Option<u32>,
    /// When it begins at the earliest, in seconds since 1970.
    pub(super) begins_at: u64,
    /// True if it needs two people.
    pub(super) production: bool,
    /// Who has drafted it.
    pub(super) drafted_by: String,
    /// Who has approved it.
    pub(super) approved_by: Option<String>,
    /// When it was drafted, in seconds since 1970.
    pub(super) created_at: u64,
}

/// Where a device is in a deployment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WhereaboutsShape {
    /// The device.
    pub(super) device: String,
    /// The version that it has attested last.
    pub(super) version: Option<String>,
    /// What has become of its slot: `granted`, `trial`, `committed`, `fell-back`, `refused`, `silent`; none where it has none.
    pub(super) slot: Option<String>,
    /// Why it does not have the release yet; none where it has.
    pub(super) why_not: Option<String>,
    /// The same in one sentence.
    pub(super) says: Option<String>,
    /// The stage on whose list it is, from 1 on; none where it is on none.
    pub(super) listed_in: Option<u32>,
    /// When it was given its slot, in seconds since 1970.
    pub(super) granted_at: Option<u64>,
    /// When it checked in last, in seconds since 1970.
    pub(super) seen_at: Option<u64>,
}
