//! Requests of services to init, and init's replies: one versioned postcard message each.
//!
//! Requests travel over a pipe that init hands to a component whose plan has any, one packet each: a pipe carries no
//! descriptors, which init would have to close. init reads them as hostile bytes: bounded by [`MAX_REQUEST_BYTES`],
//! trailing data refused. Every request gets one reply, over a `SEQPACKET` socket at which init receives nothing.

mod reports;

pub use reports::{
    ComponentEnd, ComponentEnds, Crash, EndCause, EndedApp, LastOutput, PartitionFill, UpdateNews,
    UpdateOutcome, WrittenPartition,
};

use crate::app_manifest::UpdateAccess;
use crate::clock;
use crate::held::Held;
use crate::network::NetworkedApp;
use crate::policy::Requests;
use crate::reset_order::Order;
use holdfast_types::encoding::{self, EncodingError};
use holdfast_types::{CatalogId, ClockSource, ComponentId, Phase, Slot, Version};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Environment variable that holds the number of the pipe for requests to init.
pub const REQUESTS_VARIABLE: &str = "HOLDFAST_REQUESTS";
/// Environment variable that holds the number of the socket by which init replies.
pub const REPLIES_VARIABLE: &str = "HOLDFAST_REPLIES";
/// Version of the messages.
pub const VERSION: u8 = 10;
/// Longest request in bytes: less than a packet of a pipe may have (`PIPE_BUF`, 4096).
pub const MAX_REQUEST_BYTES: usize = 96;
/// Longest reply in bytes.
pub const MAX_REPLY_BYTES: usize = 64 * 1024;
/// Longest reply to a request of `report`, in bytes.
pub const MAX_REPORT_REPLY_BYTES: usize = 16 * 1024;
/// Most descriptors that come with one reply: those of all apps.
pub const MAX_DESCRIPTORS: usize = 64;

/// A request to init, by the right that opens it: what a component has no right to is refused before anything of it
/// is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Asks for the status of the device.
    Status(StatusRequest),
    /// Starts or stops a component.
    Manage(ManageRequest),
    /// Reboots or powers off the machine.
    Shutdown(ShutdownRequest),
    /// Asks for the veth pairs of apps.
    Veths(VethsRequest),
    /// Claims that the clock is wrong.
    Clock(ClockRequest),
    /// A request of the update agent.
    Update(UpdateRequest),
    /// A request of `uplink`.
    Uplink(UplinkRequest),
    /// A request of `identity`.
    Identity(IdentityRequest),
    /// A request of `report`.
    Report(ReportRequest),
}

/// Requests for the status of the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StatusRequest {
    /// All components, in their start order.
    Components,
    /// The clock.
    Clock,
    /// The network. With the reply comes a socket, on which the network service says it.
    Network,
    /// Asks for the installed versions of the OS and of the image's apps.
    Held,
}

/// Requests to start and stop components.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ManageRequest {
    /// Start the component of this name, if it is stopped.
    Start(String),
    /// Stop the component of this name, and do not start it again.
    Stop(String),
    /// Stop the component of this name and start it again.
    Restart(String),
}

impl ManageRequest {
    /// The name of the component.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Start(name) | Self::Stop(name) | Self::Restart(name) => name,
        }
    }
}

/// Requests to reboot or to power off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShutdownRequest {
    /// Stop every component in order and start the machine again.
    Reboot,
    /// Stop every component in order and switch the machine off.
    PowerOff,
}

/// Asks for the veth pairs of apps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VethsRequest {
    /// Asks for the uids of all apps that have grants on the network.
    All,
    /// Asks for the network grants of the app with this uid. With the reply comes a netlink socket within the app's
    /// namespace.
    Of(u32),
}

/// Claims that the clock is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClockRequest {
    /// The clock is behind by so many microseconds, as time servers say.
    Behind(i64),
}

/// Requests of the update agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateRequest {
    /// Asks for the installed versions of the OS and of the image's apps.
    Held,
    /// The other slot is about to be written: it is not to be booted, whatever it held.
    Announce,
    /// A part of the other slot, which was announced. With the reply comes its descriptor, for reading and
    /// writing past the kernel's cache.
    OtherSlot(SlotPart),
    /// A part of the slot that runs, for reading: what of it the next release has is not fetched.
    RunningSlot(SlotPart),
    /// The disks that the system does not run from. With the reply come their descriptors, for reading.
    OtherDisks,
    /// The other slot is written and verified: it is to be tried at the next start.
    Stage,
    /// A package that was written and verified beside the one of this app: it is to be tried at the next
    /// start.
    StageApp(ComponentId),
    /// The apps that have to do with updates. With the reply come the sockets at which they call, one of each.
    Listeners,
    /// The agent has nothing against a commit of the release that is on trial.
    Agree,
    /// The owner has ordered a reset, which begins at the next start: the system ends for it. `NotFound` for an order
    /// that was carried out before.
    Reset(Order),
    /// No clock shows less than this, in seconds since 1970: the offline keys of a repository say so.
    RaiseTime(u64),
    /// Start the machine again, for a release that is staged.
    Reboot,
    /// What has become of a release, for whoever reports it.
    Tell(UpdateNews),
}

/// Requests of `uplink`, which fetches for the update agent and checks in for `identity`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UplinkRequest {
    /// A socket to the update agent: with the reply comes one end, and the agent gets the other.
    Agent,
    /// A socket to `identity`, in the same way.
    Identity,
    /// A socket to `report`, in the same way.
    Report,
    /// Asks for the status of the clock, by which certificates of servers are judged.
    Clock,
}

/// Requests of `identity`, which has the device's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdentityRequest {
    /// Asks for what init knows of the device: what runs, and since when.
    Claims,
    /// Kernel and device trees of the slot that runs, for reading: their digest is what the boot loader measures.
    RunningBoot,
    /// The TPM's device. With the reply comes its descriptor; `NotFound` for a board that has none.
    Tpm,
    /// The apps that authenticate as parts of the device. With the reply come the sockets at which they call, one of
    /// each.
    Listeners,
}

/// Requests of `report`, which records what fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportRequest {
    /// Asks for what init knows of the device: what runs, and since when.
    Claims,
    /// Asks how components have ended since the last such request. init forgets them with its reply, and what they have left with the
    /// next such request.
    Ends,
    /// All components, in their start order.
    Components,
    /// The network. With the reply comes a socket, on which the network service says it.
    Network,
    /// Asks for the status of the clock.
    Clock,
    /// Takes the earliest crash of the ends that the last [`Ends`](Self::Ends) has told, one of each component at most. With
    /// [`Reply::Crash`] comes the file with the kernel's notes, for reading; `NotFound` when there is none.
    Crash,
    /// Takes what a component has written last that may have ended by a panic, of the ends that the last [`Ends`](Self::Ends) has told
    /// and one of each component at most; `NotFound` when there is none.
    LastOutput,
    /// Asks how full the partitions are that are written.
    Fill,
}

/// Requests of the network service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkRequest {
    /// Asks for the veth pairs of apps.
    Veths(VethsRequest),
    /// Claims that the clock is wrong.
    Clock(ClockRequest),
}

impl From<NetworkRequest> for Request {
    fn from(request: NetworkRequest) -> Self {
        match request {
            NetworkRequest::Veths(request) => Self::Veths(request),
            NetworkRequest::Clock(request) => Self::Clock(request),
        }
    }
}

impl From<UpdateRequest> for Request {
    fn from(request: UpdateRequest) -> Self {
        Self::Update(request)
    }
}

impl From<UplinkRequest> for Request {
    fn from(request: UplinkRequest) -> Self {
        Self::Uplink(request)
    }
}

impl From<IdentityRequest> for Request {
    fn from(request: IdentityRequest) -> Self {
        Self::Identity(request)
    }
}

impl From<ReportRequest> for Request {
    fn from(request: ReportRequest) -> Self {
        Self::Report(request)
    }
}

/// A part of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotPart {
    /// Kernel and device trees.
    Boot,
    /// The root file system with its verity tree.
    Root,
}

impl SlotPart {
    /// Returns the prefix of the names of both partitions of this part.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Root => "root",
        }
    }
}

impl Request {
    /// True when a component with these rights may ask for it.
    #[must_use]
    pub fn is_allowed(&self, rights: Requests) -> bool {
        match self {
            Self::Status(_) => rights.status,
            Self::Manage(_) => rights.manage,
            Self::Shutdown(_) => rights.shutdown,
            Self::Veths(_) => rights.veths,
            Self::Clock(_) => rights.clock,
            Self::Update(_) => rights.update,
            Self::Uplink(_) => rights.uplink,
            Self::Identity(_) => rights.identity,
            Self::Report(_) => rights.report,
        }
    }
}

/// Replies of init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The request is accepted and will be carried out.
    Accepted,
    /// The sender has no right to this request.
    PermissionDenied,
    /// The message is no request, or names something that does not exist.
    NotFound,
    /// Status of the components, in their start order.
    Components(Vec<ComponentStatus>),
    /// The uids of all that have grants on the network.
    Veths(Vec<u32>),
    /// An app that has grants on the network.
    Veth(NetworkedApp),
    /// Status of the clock.
    Clock(clock::Status),
    /// Verdict on a claim about the clock.
    Judged(clock::Verdict),
    /// To the network service, unasked: with it comes a socket on which to say how the network is.
    NetworkWanted,
    /// Installed versions: of the OS first, then of the apps of the image.
    Held(Vec<Held>),
    /// To the update agent, unasked: with it comes a socket to whoever fetches for it.
    Uplink,
    /// The request cannot be carried out; the log says why.
    Failed,
    /// The apps that have to do with updates, in the order of the sockets that come with this.
    Listeners(Vec<Listener>),
    /// To `identity`, unasked: with it comes a socket to `uplink`.
    Identity,
    /// What init knows of the device.
    Claims(DeviceClaims),
    /// The apps that authenticate as parts of the device, in the order of the sockets that come with this.
    Authenticating(Vec<AuthenticatingApp>),
    /// How components have ended, the first at the beginning.
    Ends(ComponentEnds),
    /// To `report`, unasked: with it comes a socket to `uplink`.
    Report,
    /// A component has crashed. The descriptor that comes with this is of a regular file of at most
    /// [`CORE_KIB`](crate::policy::CORE_KIB), which the component may have written itself.
    Crash(Crash),
    /// A component may have panicked.
    LastOutput(LastOutput),
    /// How full the partitions are that are there.
    Fill(Vec<PartitionFill>),
}

/// What init knows of the device, for its attestation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceClaims {
    /// The kernel's random id of this boot.
    pub boot_id: [u8; 16],
    /// Name of the image.
    pub image: String,
    /// Name of the board.
    pub board: String,
    /// Version of the OS.
    pub version: Version,
    /// Rollback index of the OS.
    pub rollback_index: u64,
    /// The slot that runs.
    pub slot: Slot,
    /// The phase of the device with its slots.
    pub phase: Phase,
    /// The apps that were admitted.
    pub apps: Vec<ClaimedApp>,
    /// True if the image was built with a debug port.
    pub is_debugged: bool,
    /// The source of the clock's time.
    pub clock: ClockSource,
    /// Word for the reason of the last reset.
    pub last_reset: String,
    /// Address at which the kernel has failed in the last run, if it panicked for it and the same release ran.
    pub kernel_fault: Option<u32>,
    /// True if the board has a TPM.
    pub has_tpm: bool,
}

/// An app that was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedApp {
    /// The component id.
    pub id: ComponentId,
    /// Version of the package.
    pub version: Version,
    /// Rollback index of the package.
    pub rollback_index: u64,
    /// Root hash of the package's verity tree.
    pub root_hash: [u8; 32],
    /// The catalog for whose service the app authenticates.
    pub catalog: Option<CatalogId>,
}

/// An app that authenticates as a part of the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthenticatingApp {
    /// Name of the component.
    pub name: String,
    /// The component id, for which its key is attested.
    pub id: ComponentId,
}

/// An app that has to do with updates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Name of the component.
    pub name: String,
    /// Access to updates that the app was granted.
    pub access: UpdateAccess,
}

/// Status of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentStatus {
    /// Name of the component.
    pub name: String,
    /// State of the component.
    pub state: ComponentState,
    /// Uid of the component.
    pub uid: u32,
    /// Memory it uses, in KiB.
    pub memory_kib: u32,
    /// Most memory it has used since boot, in KiB.
    pub memory_peak_kib: u32,
    /// Processes and threads, its stub included.
    pub processes: u32,
    /// Restarts since boot.
    pub restarts: u32,
    /// Raw wait status of its last end, if there was one.
    pub last_exit: Option<i32>,
}

/// State of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ComponentState {
    /// Waits for its start.
    Waiting,
    /// Runs, and is not ready yet.
    Starting,
    /// Runs and is ready.
    Ready,
    /// Was asked or made to end.
    Stopping,
    /// Has ended and stays so.
    Stopped,
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: u8,
    message: T,
}

/// An error of decoding a message.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WireError {
    /// Not the bytes of a message.
    #[error("message cannot be decoded")]
    Malformed(#[from] EncodingError),
    /// Another version.
    #[error("message has version {0}, not {VERSION}")]
    Version(u8),
    /// Longer than a request or a reply may be.
    #[error("message has {0} bytes, too many")]
    TooLong(usize),
}

/// The bytes of a request.
///
/// # Errors
/// A name that is too long for a component.
pub fn encode_request(request: &Request) -> Result<Vec<u8>, WireError> {
    encode(request, MAX_REQUEST_BYTES)
}

/// The bytes of a reply.
///
/// # Errors
/// Never for a name that a component, and grants that a manifest can have.
pub fn encode_reply(reply: &Reply) -> Result<Vec<u8>, WireError> {
    encode(reply, MAX_REPLY_BYTES)
}

/// The request in `bytes`.
///
/// # Errors
/// Malformed, of another version, or followed by more bytes.
pub fn decode_request(bytes: &[u8]) -> Result<Request, WireError> {
    decode(bytes, MAX_REQUEST_BYTES)
}

/// The reply in `bytes`.
///
/// # Errors
/// As [`decode_request`].
pub fn decode_reply(bytes: &[u8]) -> Result<Reply, WireError> {
    decode(bytes, MAX_REPLY_BYTES)
}

fn encode<T: Serialize>(message: &T, most: usize) -> Result<Vec<u8>, WireError> {
    let bytes = encoding::encode(&Envelope { version: VERSION, message })?;
    if bytes.len() > most { Err(WireError::TooLong(bytes.len())) } else { Ok(bytes) }
}

fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8], most: usize) -> Result<T, WireError> {
    if bytes.len() > most {
        return Err(WireError::TooLong(bytes.len()));
    }
    match bytes.first() {
        Some(&VERSION) | None => {}
        Some(other) => return Err(WireError::Version(*other)),
    }
    Ok(encoding::decode::<Envelope<T>>(bytes)?.message)
}

#[cfg(test)]
mod tests;
