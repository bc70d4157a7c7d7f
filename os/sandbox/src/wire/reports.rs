//! What init tells `report`: how components have ended, what they have written last, and what has become of releases.

use holdfast_types::{ComponentId, ReportLevel, Version};
use serde::{Deserialize, Serialize};

/// How components have ended without being asked to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ComponentEnds {
    /// The ends, each of one component in one way.
    pub ends: Vec<ComponentEnd>,
    /// Ends that were not kept, since there were too many different ones.
    pub lost: u32,
    /// True for the first answer of this boot.
    pub is_first: bool,
    /// What has become of releases, as the update agent has told it.
    pub updates: Vec<UpdateNews>,
    /// The most that the device's owner lets it report, where an app that may say so has said it since the last answer.
    pub owner_level: Option<ReportLevel>,
}

/// What has become of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateNews {
    /// The app; `None` for the OS, and for metadata of a repository.
    pub app: Option<ComponentId>,
    /// The version before.
    pub from: Version,
    /// The version that was offered; the same as before where none is known.
    pub to: Version,
    /// What has become of it.
    pub outcome: UpdateOutcome,
    /// Bytes that were fetched for it.
    pub fetched_bytes: u64,
}

/// What has become of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateOutcome {
    /// It runs and was committed.
    Committed,
    /// It was tried, and the one before runs again.
    FellBack,
    /// A signature of its repository does not hold.
    RefusedSignature,
    /// Its metadata has expired.
    RefusedExpired,
    /// It is older than the device may take.
    RefusedRollback,
    /// It is not what targets say.
    RefusedContent,
    /// It could not be fetched or written.
    Failed,
    /// It costs more than the image lets a release cost.
    Declined,
}

/// How full a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionFill {
    /// The partition.
    pub partition: WrittenPartition,
    /// Percent of its blocks that are in use.
    pub percent: u8,
}

/// A partition that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WrittenPartition {
    /// `state`.
    State,
    /// `apps`.
    Apps,
    /// `data`.
    Data,
}

/// What a component has written before it ended as programs do that panic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastOutput {
    /// Number of its end, as [`ComponentEnd::output`] has it.
    pub end: u32,
    /// The last bytes, which the component has chosen.
    pub bytes: Vec<u8>,
}

/// How a component has ended, once or several times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentEnd {
    /// Name of the component.
    pub name: String,
    /// The package of an app.
    pub app: Option<EndedApp>,
    /// The way it ended.
    pub cause: EndCause,
    /// Seconds from its start to its end, the first time.
    pub ran_s: u32,
    /// Seconds from the boot to its end, the first time.
    pub uptime_s: u32,
    /// How often it has ended so.
    pub count: u32,
    /// Number of the last of these ends whose notes are kept. Each end of a boot has a number of its own.
    pub crash: Option<u32>,
    /// Number of the last of these ends of which the output is kept.
    pub output: Option<u32>,
}

/// The package of an app that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedApp {
    /// The component id.
    pub id: ComponentId,
    /// Version of the package.
    pub version: Version,
    /// First bytes of the root hash of the package's verity tree.
    pub package: [u8; 8],
}

/// The way a component has ended without being asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndCause {
    /// By itself, with this exit code, which is not 0.
    Exit(u8),
    /// By this signal.
    Signal(u8),
    /// It has missed its watchdog.
    Watchdog,
    /// It was not ready in time.
    NotReady,
    /// It, or the machine, had no memory left.
    Memory,
    /// It has made a system call that its sandbox refuses (SIGSYS).
    Sandbox,
    /// A block of its package did not fit its hash.
    Verity,
}

/// The end of a component for which the kernel wrote notes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// Number of its end, as [`ComponentEnd::crash`] has it.
    pub end: u32,
    /// The signal that ended the component's program, as its stub has seen it.
    pub signal: i32,
}
