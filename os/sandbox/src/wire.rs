//! What a service may ask of init, and what init answers: one versioned postcard message each.
//!
//! Requests travel over a pipe that init hands to a component whose plan has any, one packet each: a pipe carries no
//! descriptors, which init would have to close. init reads them as hostile bytes: bounded by [`MAX_REQUEST_BYTES`],
//! trailing data refused. Every request gets one reply, over a `SEQPACKET` socket at which init receives nothing.

use crate::app_manifest::UpdateAccess;
use crate::clock;
use crate::held::Held;
use crate::network::NetworkedApp;
use crate::policy::Requests;
use crate::reset_order::Order;
use holdfast_types::ComponentId;
use holdfast_types::encoding::{self, EncodingError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Environment variable that holds the number of the pipe for requests to init.
pub const REQUESTS_VARIABLE: &str = "HOLDFAST_REQUESTS";
/// Environment variable that holds the number of the socket by which init replies.
pub const REPLIES_VARIABLE: &str = "HOLDFAST_REPLIES";
/// Version of the messages.
pub const VERSION: u8 = 6;
/// Longest request in bytes: less than a packet of a pipe may have (`PIPE_BUF`, 4096).
pub const MAX_REQUEST_BYTES: usize = 64;
/// Longest reply in bytes.
pub const MAX_REPLY_BYTES: usize = 64 * 1024;

/// A request to init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Stop every component in order and start the machine again.
    Reboot,
    /// Stop every component in order and switch the machine off.
    PowerOff,
    /// How the component with this place in the start order is.
    Status(u16),
    /// Start the component of this name, if it is stopped.
    Start(String),
    /// Stop the component of this name, and do not start it again.
    Stop(String),
    /// Stop the component of this name and start it again.
    Restart(String),
    /// The app with this place among those that have grants on the network. With the reply comes a
    /// netlink socket within its namespace.
    Link(u16),
    /// How the clock is.
    Clock,
    /// The clock is behind by so many microseconds, as time servers say.
    SetClock(i64),
    /// How the network is. With the reply comes a socket, on which the network service says it.
    Network,
    /// What the device holds of the component with this place among those that have releases: the OS first,
    /// then the apps of the image.
    Held(u16),
    /// A socket to the update agent: with the reply comes one end, and the agent gets the other.
    Update,
    /// The other slot is about to be written: it is not to be booted, whatever it held.
    Announce,
    /// A part of the other slot, which was announced. With the reply comes its descriptor, for reading and
    /// writing past the kernel's cache.
    OtherSlot(SlotPart),
    /// A part of the slot that runs, for reading: what of it the next release has is not fetched.
    RunningSlot(SlotPart),
    /// The disk with this place among those that the system does not run from. With the reply comes its
    /// descriptor, for reading.
    OtherDisk(u16),
    /// The other slot is written and verified: it is to be tried at the next start.
    Stage,
    /// A package that was written and verified beside the one of this app: it is to be tried at the next
    /// start.
    StageApp(ComponentId),
    /// The app with this place among those that have to do with updates. With the reply comes the socket at which it
    /// calls.
    Listener(u16),
    /// The update agent has nothing against a commit of the release that is on trial.
    Agree,
    /// The owner has ordered a reset, which begins at the next start: the system ends for it. `Unknown` for an order
    /// that was carried out before.
    Reset(Order),
    /// No clock shows less than this, in seconds since 1970: the offline keys of a repository say so.
    RaiseTime(u64),
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
    /// What the names of its partitions begin with.
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
            Self::Reboot => rights.end || rights.update,
            Self::PowerOff => rights.end,
            Self::Held(_) => rights.status || rights.update,
            Self::Announce
            | Self::OtherSlot(_)
            | Self::RunningSlot(_)
            | Self::OtherDisk(_)
            | Self::Stage
            | Self::StageApp(_)
            | Self::Listener(_)
            | Self::Agree
            | Self::Reset(_)
            | Self::RaiseTime(_) => rights.update,
            Self::Update => rights.uplink,
            Self::Status(_) | Self::Clock | Self::Network => rights.status,
            Self::Start(_) | Self::Stop(_) | Self::Restart(_) => rights.manage,
            Self::Link(_) => rights.links,
            Self::SetClock(_) => rights.clock,
        }
    }
}

/// What init answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It will be done.
    Accepted,
    /// The sender has no right to it.
    Denied,
    /// It is no request, or names nobody.
    Unknown,
    /// How a component is.
    Status(ComponentStatus),
    /// An app that has grants on the network.
    Link(NetworkedApp),
    /// How the clock is.
    Clock(clock::Status),
    /// What becomes of a claim about the clock.
    Judged(clock::Verdict),
    /// To the network service, unasked: with it comes a socket on which to say how the network is.
    NetworkWanted,
    /// What the device holds of a component.
    Held(Held),
    /// To the update agent, unasked: with it comes a socket to whoever fetches for it.
    Uplink,
    /// It cannot be done; the log says why.
    Failed,
    /// An app that has to do with updates.
    Listener(Listener),
}

/// An app that has to do with updates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub access: UpdateAccess,
}

/// How a component is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentStatus {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: ComponentState,
    /// Its uid.
    pub uid: u32,
    /// Memory it uses, in KiB.
    pub memory_kib: u32,
    /// Most memory it has used since boot, in KiB.
    pub memory_peak_kib: u32,
    /// Processes and threads, its stub included.
    pub processes: u32,
    /// How often it was started again since boot.
    pub restarts: u32,
    /// Raw wait status of its last end, if there was one.
    pub last_exit: Option<i32>,
}

/// Where a component stands.
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

/// Why bytes are no message.
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
mod tests {
    use super::*;
    use crate::reset_order::Partitions;
    use holdfast_types::component_name::MAX_NAME_BYTES;
    use proptest::prelude::*;

    #[test]
    fn messages_survive_the_wire_and_fit_it() {
        let name = "n".repeat(MAX_NAME_BYTES);
        for request in [
            Request::Reboot,
            Request::PowerOff,
            Request::Status(u16::MAX),
            Request::Start(name.clone()),
            Request::Stop(name.clone()),
            Request::Restart(name.clone()),
            Request::Link(u16::MAX),
            Request::Clock,
            Request::SetClock(i64::MIN),
            Request::Network,
            Request::Held(u16::MAX),
            Request::Update,
            Request::Announce,
            Request::OtherSlot(SlotPart::Root),
            Request::RunningSlot(SlotPart::Boot),
            Request::OtherDisk(u16::MAX),
            Request::Stage,
            Request::StageApp(ComponentId([255; 16])),
            Request::Listener(u16::MAX),
            Request::Agree,
            Request::Reset(Order { digest: [255; 32], partitions: Partitions::default() }),
            Request::RaiseTime(u64::MAX),
        ] {
            assert_eq!(decode_request(&encode_request(&request).unwrap()), Ok(request));
        }
        let status = ComponentStatus {
            name,
            state: ComponentState::Stopped,
            uid: u32::MAX,
            memory_kib: u32::MAX,
            memory_peak_kib: u32::MAX,
            processes: u32::MAX,
            restarts: u32::MAX,
            last_exit: Some(i32::MIN),
        };
        for reply in
            [Reply::Accepted, Reply::Denied, Reply::Unknown, Reply::Failed, Reply::Status(status)]
        {
            assert_eq!(decode_reply(&encode_reply(&reply).unwrap()), Ok(reply));
        }
    }

    #[test]
    fn another_version_trailing_bytes_and_length_are_refused() {
        assert_eq!(decode_request(&[1, 0]), Err(WireError::Version(1)));
        assert_eq!(decode_request(&[VERSION, 0, 0]), Err(EncodingError::TrailingBytes(1).into()));
        assert_eq!(decode_request(&[VERSION; 65]), Err(WireError::TooLong(65)));
        let long = Request::Stop("n".repeat(100));
        assert!(matches!(encode_request(&long), Err(WireError::TooLong(_))));
    }

    #[test]
    fn each_right_opens_its_requests_and_no_others() {
        let (status, manage, end) = (
            Requests { status: true, ..Requests::default() },
            Requests { manage: true, ..Requests::default() },
            Requests { end: true, ..Requests::default() },
        );
        let allowed = |rights| {
            let of = |requests: &[Request]| {
                let allowed = requests.iter().filter(|request| request.is_allowed(rights)).count();
                assert!(allowed == 0 || allowed == requests.len(), "{requests:?}");
                allowed > 0
            };
            [
                of(&[Request::PowerOff]),
                of(&[Request::Status(0), Request::Clock, Request::Network]),
                of(&[Request::Start("a".into()), Request::Stop("a".into())]),
                of(&[Request::Link(0)]),
                of(&[Request::SetClock(0)]),
                of(&[
                    Request::Announce,
                    Request::OtherSlot(SlotPart::Boot),
                    Request::RunningSlot(SlotPart::Root),
                    Request::OtherDisk(0),
                    Request::Stage,
                    Request::StageApp(ComponentId([0; 16])),
                    Request::Agree,
                    Request::RaiseTime(0),
                ]),
                of(&[Request::Update]),
            ]
        };
        assert_eq!(allowed(Requests::default()), [false; 7]);
        let only = |index| std::array::from_fn::<bool, 7, _>(|at| at == index);
        assert_eq!(allowed(end), only(0));
        assert_eq!(allowed(status), only(1));
        assert_eq!(allowed(manage), only(2));
        assert_eq!(allowed(Requests { links: true, ..Requests::default() }), only(3));
        assert_eq!(allowed(Requests { clock: true, ..Requests::default() }), only(4));
        let update = Requests { update: true, ..Requests::default() };
        assert_eq!(allowed(update), only(5));
        assert_eq!(allowed(Requests { uplink: true, ..Requests::default() }), only(6));
        // What an update ends with, and begins with.
        let both = [Request::Reboot, Request::Held(0)];
        for (rights, expected) in
            [(end, [true, false]), (status, [false, true]), (update, [true; 2])]
        {
            assert_eq!(both.each_ref().map(|request| request.is_allowed(rights)), expected);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_request(&bytes);
            let _ = decode_reply(&bytes);
        }
    }
}
