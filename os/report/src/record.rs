//! Records: one thing that has happened on a device, in numbers, enumerations, and names of manifests.
//!
//! Every type is bounded by its shape. What each field tells, and to whom, stands in [`crate::privacy`], which a test
//! compares with these types.

use crate::Level;
use holdfast_types::component_name::check_name;
use holdfast_types::{ClockSource, ComponentId, Phase, Slot, Version};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A record, with its place in the device's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Number of the record on this device, from 1 on, without gaps but for those that [`Lost`] counts.
    pub sequence: u64,
    /// Seconds since 1970 by the device's clock; `None` where nobody had told it the time.
    pub at: Option<u64>,
    /// Seconds since the device has booted.
    pub uptime_s: u32,
    /// What has happened.
    pub body: Body,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// The device has booted.
    Boot(Boot),
    /// A component has ended when it should not have.
    Ended(Ended),
    /// A release or a package was taken or refused.
    Update(Update),
    /// Packets of an app were refused.
    Refused(Refused),
    /// What an app has sent and received in an hour.
    Traffic(Traffic),
    /// The resources that a component has used in a day.
    Used(Used),
    /// How full a partition is.
    Storage(Storage),
    /// The clock was set, or a claim about it was refused.
    Clock(Clock),
    /// What has become of check-ins.
    CheckIn(CheckIn),
    /// Records that were not kept.
    Lost(Lost),
}

impl Body {
    /// Returns the level from which on this is recorded.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::Traffic(_) | Self::Used(_) | Self::Storage(_) => Level::Full,
            Self::Boot(_)
            | Self::Ended(_)
            | Self::Update(_)
            | Self::Refused(_)
            | Self::Clock(_)
            | Self::CheckIn(_)
            | Self::Lost(_) => Level::Health,
        }
    }

    /// Returns the component that the record is about, where it is about one.
    #[must_use]
    pub fn component(&self) -> Option<&Component> {
        match self {
            Self::Ended(Ended { component, .. })
            | Self::Refused(Refused { component, .. })
            | Self::Traffic(Traffic { component, .. })
            | Self::Used(Used { component, .. }) => Some(component),
            Self::Boot(_)
            | Self::Update(_)
            | Self::Storage(_)
            | Self::Clock(_)
            | Self::CheckIn(_)
            | Self::Lost(_) => None,
        }
    }
}

/// Name of a component, as a manifest has it: at most 31 lower-case letters, digits and hyphens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// The text is no name of a component.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("is no name of a component")]
pub struct NoName;

impl TryFrom<String> for Name {
    type Error = NoName;

    fn try_from(text: String) -> Result<Self, NoName> {
        check_name(&text).map_err(|_| NoName)?;
        Ok(Self(text))
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl Name {
    /// Takes a text of the source for a name.
    pub(crate) fn of_literal(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A component, as it ran.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Component {
    /// An app, by its package.
    App(App),
    /// A service of the OS, whose version is the OS's.
    Service(Name),
}

/// An app, by its package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct App {
    /// The component id.
    pub id: ComponentId,
    /// The component's name.
    pub name: Name,
    /// Version of the package.
    pub version: Version,
    /// First bytes of the root hash of the package's verity tree.
    pub package: [u8; 8],
}

/// The device has booted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// The kernel's random id of this boot.
    pub boot_id: [u8; 16],
    /// Version of the OS.
    pub version: Version,
    /// The slot that runs.
    pub slot: Slot,
    /// The phase of the device with its slots.
    pub phase: Phase,
    /// Why the boot before has ended.
    pub reset: Reset,
    /// Where the kernel has failed, if its panic ended the boot before and its log has said where.
    pub fault: Option<Place>,
}

/// Why a boot has ended. The words are those of init's claims and status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reset {
    /// The machine was switched on: there is no log of an earlier boot.
    PowerOn,
    /// An orderly end.
    Orderly,
    /// The root file system did not verify.
    Verity,
    /// The kernel's panic.
    KernelPanic,
    /// init could not go on.
    InitFailed,
    /// A critical component did not stay ready.
    NotHealthy,
    /// The watchdog.
    Watchdog,
    /// The log of the boot before ends without saying why.
    Unknown,
}

impl Reset {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::PowerOn,
        Self::Orderly,
        Self::Verity,
        Self::KernelPanic,
        Self::InitFailed,
        Self::NotHealthy,
        Self::Watchdog,
        Self::Unknown,
    ];

    /// Returns the word that claims have for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::PowerOn => "power-on",
            Self::Orderly => "orderly",
            Self::Verity => "verity",
            Self::KernelPanic => "kernel-panic",
            Self::InitFailed => "init-failed",
            Self::NotHealthy => "not-healthy",
            Self::Watchdog => "watchdog",
            Self::Unknown => "unknown",
        }
    }

    /// Reads the word that claims have for it; a word of a later release is [`Unknown`](Self::Unknown).
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        Self::ALL.into_iter().find(|reset| reset.word() == word).unwrap_or(Self::Unknown)
    }

    /// True where the boot has failed: neither power nor an orderly end.
    #[must_use]
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::PowerOn | Self::Orderly | Self::Unknown)
    }
}

/// A component has ended when it should not have, once or several times in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The component.
    pub component: Component,
    /// The way it ended.
    pub end: End,
    /// Where it was, if a signal ended it and the kernel has said.
    pub crash: Option<Crash>,
    /// Where a program in Rust has panicked, if it did.
    pub panic: Option<Panic>,
    /// Seconds from its start to its end, the first time.
    pub ran_s: u32,
    /// How often it has ended so.
    pub count: u32,
}

/// The way a component ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// By itself, with this exit code.
    Exit(u8),
    /// By this signal.
    Signal(u8),
    /// By its watchdog: it has shown no sign of life.
    Watchdog,
    /// It was not ready in time.
    NotReady,
    /// It had more memory than it may have.
    Memory,
    /// It made a system call that its sandbox refuses.
    Sandbox,
    /// Its package could not be read: verity has found another content.
    Verity,
}

impl End {
    /// Returns the kind of end as a word, without its number.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Exit(_) => "exit",
            Self::Signal(_) => "signal",
            Self::Watchdog => "watchdog",
            Self::NotReady => "not-ready",
            Self::Memory => "memory",
            Self::Sandbox => "sandbox",
            Self::Verity => "verity",
        }
    }
}

/// Where a process was when a signal ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Crash {
    /// The instruction.
    pub pc: Place,
    /// Where the function that it was in would have returned to.
    pub lr: Option<Place>,
    /// What kind of address it failed at.
    pub fault: Fault,
}

/// A place in a program, which needs no memory to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The build id of the ELF file; `None` where it has none.
    pub build_id: Option<BuildId>,
    /// Bytes from where the file's first segment is loaded: an address of its symbol table.
    pub offset: u32,
}

/// A build id, as the linker has put it into an ELF file (SHA-1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BuildId(pub [u8; 20]);

impl std::fmt::Display for BuildId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for BuildId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// The kind of address that a process failed at. The address itself stays on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The first page.
    Null,
    /// Close to the stack pointer.
    Stack,
    /// Within code.
    Code,
    /// Any other.
    Other,
    /// The signal has no address.
    None,
}

/// Where a program in Rust has panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Panic {
    /// Hash of the message's beginning ([`crate::panic_text`]).
    pub message: u64,
    /// Hash of the source file's name: so much of it as tells files with one message and line apart.
    pub file: u16,
    /// Line of the source.
    pub line: u32,
}

/// A release or a package was taken or refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// The app; `None` for the OS, and for metadata of a repository.
    pub app: Option<ComponentId>,
    /// The version before.
    pub from: Version,
    /// The version that was offered; the same as before where metadata was refused, and none is known.
    pub to: Version,
    /// What has become of it.
    pub outcome: Outcome,
    /// Bytes that were fetched for it.
    pub fetched_bytes: u64,
}

/// What has become of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
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

/// Packets of an app to one port of one kind of place, in one hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The app.
    pub component: Component,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination's port, where the protocol has ports.
    pub port: Option<u16>,
    /// The kind of place.
    pub to: Where,
    /// How often, as far as the firewall has told.
    pub count: u32,
    /// How many addresses: 2 to the power of this at least, and less than twice as many.
    pub addresses_log2: u8,
    /// True if the app asked for a name that it has a grant for.
    pub is_granted_name: bool,
}

/// A protocol of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP, of either version.
    Icmp,
    /// Any other.
    Other,
}

/// A kind of place in networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Where {
    /// The Internet.
    Public,
    /// A private network (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// The link (RFC 3927, RFC 4291).
    Link,
    /// A group, or everybody on the link.
    Multicast,
    /// Another app of the device, or the device itself.
    Device,
}

/// What an app has sent and received in an hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// The app.
    pub component: Component,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
}

/// The resources that a component has used in a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// The component.
    pub component: Component,
    /// Most memory, in KiB.
    pub memory_peak_kib: u32,
    /// Restarts.
    pub restarts: u32,
}

/// How full a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// The partition.
    pub partition: Partition,
    /// Percent of its blocks that are in use.
    pub percent: u8,
}

/// A partition that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Partition {
    /// `state`.
    State,
    /// `apps`.
    Apps,
    /// `data`.
    Data,
}

/// The clock was set, or a claim about it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// The source of its time now.
    pub source: ClockSource,
    /// Seconds by which it was set forward; less than 0 for back.
    pub step_s: i64,
    /// True if the claim was refused and the clock is as it was.
    pub is_refused: bool,
}

/// What has become of check-ins since the last record of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckIn {
    /// What has become of them.
    pub outcome: CheckInOutcome,
    /// How often.
    pub count: u32,
}

/// What has become of a check-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckInOutcome {
    /// Certificates came back.
    Certified,
    /// Only certificates for updates came back.
    UpdateOnly,
    /// The service has refused it.
    Refused,
    /// The service was not reached, or was not the right one.
    Unreachable,
    /// The TPM has failed.
    TpmFailed,
}

/// Records that were not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Why.
    pub why: LostWhy,
    /// How many.
    pub count: u32,
}

/// Why records were not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LostWhy {
    /// A component had its share of the hour.
    Quota,
    /// The spool was full, and the oldest file went.
    Spool,
    /// The spool was damaged: a write was cut.
    Torn,
    /// init had more to tell than it keeps.
    Init,
}
