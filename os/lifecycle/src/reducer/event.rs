//! What happens to components and to the system.

use crate::exit::Exit;
use holdfast_sandbox::wire::{ManageRequest, ShutdownRequest};
use holdfast_types::Millis;
use serde::{Deserialize, Serialize};

/// The end of the system that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The machine starts again, from its boot loader.
    Reboot,
    /// The machine is switched off.
    PowerOff,
}

impl From<ShutdownRequest> for End {
    fn from(request: ShutdownRequest) -> Self {
        match request {
            ShutdownRequest::Reboot => Self::Reboot,
            ShutdownRequest::PowerOff => Self::PowerOff,
        }
    }
}

/// Something that has happened. `error`, `refusal` and `failure` are texts for the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// Deadlines are to be looked at. All that was said until `heard` has been heard.
    Deadline {
        /// Milliseconds of the monotonic clock.
        heard: Millis,
    },
    /// Health is to be judged, and whether the system has ended. All that was said until `heard` has been heard.
    Judge {
        /// Milliseconds of the monotonic clock.
        heard: Millis,
    },
    /// [`Effect::Start`](super::Effect::Start): it runs.
    Started {
        /// The component's place.
        component: usize,
    },
    /// [`Effect::Start`](super::Effect::Start): it could not be started.
    StartFailed {
        /// The component's place.
        component: usize,
        /// The chain of causes.
        error: String,
    },
    /// It has said something by `sd_notify`.
    Notified {
        /// The component's place.
        component: usize,
        /// `READY=1`.
        ready: bool,
        /// `WATCHDOG=1`.
        watchdog: bool,
    },
    /// Its stub has ended, and with it everything in its namespace.
    StubEnded {
        /// The component's place.
        component: usize,
        /// The end of the stub.
        exit: Exit,
    },
    /// [`Effect::Collect`](super::Effect::Collect): nothing of it is left.
    Exited {
        /// The component's place.
        component: usize,
        /// The end of its program.
        exit: Exit,
        /// Most memory it has used since boot.
        memory_peak_kib: u64,
        /// A block of its package did not fit its hash.
        package_is_damaged: bool,
        /// The kernel has ended a process of it since its start because memory ran out.
        was_out_of_memory: bool,
    },
    /// [`Effect::CheckPrevious`](super::Effect::CheckPrevious): whether its previous package could take its place.
    PreviousChecked {
        /// The component's place.
        component: usize,
        /// The reason why it could not; `None` where it could.
        refusal: Option<String>,
    },
    /// [`Effect::FallBack`](super::Effect::FallBack) was carried out.
    FellBack {
        /// The component's place.
        component: usize,
        /// The chain of causes; `None` where nothing failed.
        error: Option<String>,
    },
    /// [`Effect::GiveUpPackage`](super::Effect::GiveUpPackage) was carried out.
    PackageGivenUp {
        /// The component's place.
        component: usize,
        /// The chain of causes; `None` where nothing failed.
        error: Option<String>,
    },
    /// [`Effect::CommitPackage`](super::Effect::CommitPackage) was carried out.
    PackageCommitted {
        /// The component's place.
        component: usize,
        /// The chain of causes; `None` where nothing failed.
        error: Option<String>,
    },
    /// [`Effect::CommitSlot`](super::Effect::CommitSlot) was carried out.
    SlotCommitted {
        /// The slot that runs is good now, whether by this or before.
        good: bool,
        /// The status of the device then, for the log, or the chain of causes.
        outcome: Result<String, String>,
    },
    /// A component that may asks for another one to be started or stopped.
    Manage {
        /// Place of the one that asks.
        asking: usize,
        /// The component to start, stop or restart.
        request: ManageRequest,
    },
    /// A component that may asks for the end of the system.
    EndAsked {
        /// Place of the one that asks.
        asking: usize,
        /// Which end.
        end: End,
    },
    /// A signal to init asks for the end of the system.
    EndSignalled {
        /// Which end.
        end: End,
    },
    /// An order of the owner was taken, and is carried out at the next start.
    ResetOrdered {
        /// The partitions that are reset, for the log.
        partitions: String,
    },
    /// The update agent has nothing against a commit.
    Agreed,
}
