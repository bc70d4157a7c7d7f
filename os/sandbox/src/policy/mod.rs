//! Plans: the sandbox of one component as plain data.
//!
//! [`app_plan`] and [`service_plan`] turn what a component was granted into a [`Plan`];
//! `holdfast-linux` applies a plan whole or not at all. What is not in a plan is not there: a
//! component starts with nothing, and every grant adds exactly what it names.

pub mod admission;
mod display;
pub mod exposure;
mod grants;
pub mod pools;
pub mod shares;
pub mod system_calls;

use crate::app_manifest::{Limits, RestartPolicy, UpdateAccess, bounds};
pub use crate::network::Network;
use crate::peripheral::{self, BoardPeripheral};
pub use grants::{
    ORDER_ARGUMENT, ServiceGrants, admission_plan, app_plan, order_plan, readiness, service_plan,
};
use holdfast_types::uid::FIRST_APP_UID;
use holdfast_types::{CatalogId, is_clean_absolute};
use serde::{Deserialize, Serialize};
use system_calls::SystemCalls;

/// Returns the `oom_score_adj` of a component, from -1000 to 1000: when the machine has no memory left, the kernel
/// ends every app
/// before any service, and a service only by its own limit or after all apps.
#[must_use]
pub fn ended_first(uid: u32) -> i16 {
    const SERVICE: i16 = -999;
    const APP: i16 = 1000;
    if uid >= FIRST_APP_UID { APP } else { SERVICE }
}

/// Returns `memory.min` of a component in KiB: memory of a service that the kernel reclaims for nobody else. An
/// app has none.
#[must_use]
pub fn kept_kib(uid: u32, limits: &Limits) -> u32 {
    const SERVICE_KIB: u32 = 4096;
    if uid >= FIRST_APP_UID { 0 } else { limits.memory_kib.min(SERVICE_KIB) }
}

/// Directory of a component's files in its own root.
pub const APP_DIRECTORY: &str = "/app";
/// Directory of an app's granted storage in its own root.
pub const STORAGE_DIRECTORY: &str = "/data";
/// Directory of a component's notify socket in its own root.
pub const RUN_DIRECTORY: &str = "/run";
/// Name of the socket in [`RUN_DIRECTORY`] at which an app calls the update agent by D-Bus.
pub const UPDATE_SOCKET: &str = "update";
/// Environment variable with the D-Bus address of that socket.
pub const UPDATE_VARIABLE: &str = "HOLDFAST_UPDATE";
/// Name of the socket in [`RUN_DIRECTORY`] at which an app calls `identity` by D-Bus.
pub const IDENTITY_SOCKET: &str = "identity";
/// Environment variable with the D-Bus address of that socket.
pub const IDENTITY_VARIABLE: &str = "HOLDFAST_IDENTITY";
/// Directory in a component's own root in which the kernel leaves the notes of its crash, by the setting [`CORE_PATTERN`].
pub const CRASH_DIRECTORY: &str = "/crash";
/// Name of the file with these notes.
pub const CORE_FILE: &str = "core";
/// Path of that file, as the setting `kernel.core_pattern` has it: the kernel looks it up in the root of whoever crashes
/// (kernel document `admin-guide/sysctl/kernel`), so that it is another file for every component.
pub const CORE_PATTERN: &str = "/crash/core";
/// KiB that the directory holds and the kernel writes of one crash.
pub const CORE_KIB: u32 = 64;
/// Directory of a service's part of the `state` partition in its own root.
pub const STATE_DIRECTORY: &str = "/state";
/// Directory of the `apps` partition in the update agent's root.
pub const APP_STORE_DIRECTORY: &str = "/apps";
/// The directory of `update` in the verified root.
pub const UPDATE_DIRECTORY: &str = "/usr/lib/holdfast/services/update";
/// Highest capability number of Linux 6.12 (`CAP_CHECKPOINT_RESTORE`, linux/capability.h).
pub const LAST_CAPABILITY: u8 = 40;
/// Most mounts in a plan.
pub const MAX_MOUNTS: usize = 16;

/// Everything that one component is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The program, as the component sees it.
    pub program: String,
    /// Arguments behind the program's own name.
    pub args: Vec<String>,
    /// The root file system of the component.
    pub root: Root,
    /// The network of the component.
    pub network: Network,
    /// Capability numbers that the component keeps in all of its capability sets.
    pub capabilities: Vec<u8>,
    /// The seccomp policy.
    pub system_calls: SystemCalls,
    /// Limits of the control group and of `setrlimit`.
    pub limits: Limits,
    /// Device nodes init opens for reading and writing and hands over from descriptor 3 on.
    pub descriptors: Vec<String>,
    /// Peripherals of the board that init opens and hands over behind the descriptors above.
    pub peripherals: Vec<BoardPeripheral>,
    /// Requests that the component may send to init, over a socket of its own; without any there is no socket.
    pub requests: Requests,
    /// Access to updates, over a socket of the component's own in `/run`.
    pub updates: UpdateAccess,
    /// The catalog for whose service the component authenticates, by a key of its own in `identity`.
    pub catalog: Option<CatalogId>,
    /// The component may say how much the device reports of its failures at most.
    pub sets_report_level: bool,
    /// How init learns that the component is ready.
    pub readiness: Readiness,
    /// Watchdog interval in milliseconds: once ready, the component must send `WATCHDOG=1` at least this often.
    pub watchdog_ms: Option<u32>,
    /// When the component is started again.
    pub restart: RestartPolicy,
    /// A slot is committed only if this component gets ready and stays so.
    pub critical: bool,
    /// Milliseconds for which a critical component must stay ready.
    pub stable_for_ms: u32,
}

/// The sign by which init learns that a component is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Readiness {
    /// Ready as soon as it runs.
    Started,
    /// Ready when it has sent `READY=1`; killed and restarted when it has not within the time.
    Notify {
        /// Time allowed, in milliseconds.
        within_ms: u32,
    },
}

/// Rights of a component to send requests to init.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Requests {
    /// May ask for the status of components, clock and network.
    pub status: bool,
    /// May start and stop components by name.
    pub manage: bool,
    /// May reboot and power off.
    pub shutdown: bool,
    /// For the veth pairs of apps: their grants, and a netlink socket within the namespace of each.
    pub veths: bool,
    /// To set the clock within bounds.
    pub clock: bool,
    /// May write the other slot and stage releases: the update agent.
    pub update: bool,
    /// May ask for sockets to the update agent, to `identity` and to `report`, and for the clock: `uplink`, which has the network.
    pub uplink: bool,
    /// May ask for what runs, for the TPM, and for the apps that authenticate: `identity`, which has the keys.
    pub identity: bool,
    /// May ask how components have ended, and for the status of all that is reported: `report`.
    pub report: bool,
}

impl Requests {
    /// True when the component may ask for anything.
    #[must_use]
    pub fn any(self) -> bool {
        self != Self::default()
    }

    fn is_within(self, other: Self) -> bool {
        // Each by its name, so that a right that is added is compared, or does not compile.
        let Self { status, manage, shutdown, veths, clock, update, uplink, identity, report } =
            self;
        (!status || other.status)
            && (!manage || other.manage)
            && (!shutdown || other.shutdown)
            && (!veths || other.veths)
            && (!clock || other.clock)
            && (!update || other.update)
            && (!uplink || other.uplink)
            && (!identity || other.identity)
            && (!report || other.report)
    }
}

/// The file system that a component sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// A fresh one in namespaces of its own (mounts, processes, host name), with these mounts and
    /// nothing else.
    Own(Vec<Mount>),
    /// The system's, processes included. The probe of test images has it; no product
    /// does, and no app can.
    System,
}

/// One mount of a component's root. All are `nosuid`; all but [`Source::Devices`] `nodev`; all that
/// can be written `noexec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Top-level directory.
    pub target: String,
    /// What the mount shows.
    pub source: Source,
}

/// The contents of a mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// The app's package through its verity device. Read-only, executable.
    Package,
    /// A directory of the verified root. Read-only, executable.
    Directory(String),
    /// Memory, empty at every start; so many KiB. Writable.
    Temporary(u32),
    /// The app's own part of the data partition; so many KiB. Writable.
    Storage(u32),
    /// `null`, `zero`, `full`, `random` and `urandom`. Read-only.
    Devices,
    /// The directory of its notify socket. Read-only.
    Notify,
    /// `resolv.conf`, which names its name proxy, and `hosts`. Read-only.
    Resolver,
    /// A service's own directory of the `state` partition. Writable.
    State,
    /// The `apps` partition, for the update agent. Writable.
    AppStore,
    /// Memory for the notes of one crash, [`CORE_KIB`] of it, new at every start; init reads the file when the component has
    /// ended. Writable.
    Crash,
}

impl Source {
    /// True when files can be written there.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        matches!(
            self,
            Self::Temporary(_) | Self::Storage(_) | Self::State | Self::AppStore | Self::Crash
        )
    }

    /// True when programs can be executed from there.
    #[must_use]
    pub fn is_executable(&self) -> bool {
        matches!(self, Self::Package | Self::Directory(_))
    }
}

impl Plan {
    /// Checks what must hold in every plan that is applied, wherever it came from.
    ///
    /// # Errors
    /// The field and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if !is_clean_absolute(&self.program) {
            return Err(("program", "must be an absolute path without `.`, `..` or NUL"));
        }
        if self.args.len() > 64 || self.args.iter().any(|arg| arg.contains('\0')) {
            return Err(("args", "must be at most 64 without NUL"));
        }
        if self.capabilities.iter().any(|number| *number > LAST_CAPABILITY) {
            return Err(("capabilities", "unknown capability number"));
        }
        let is_device = |path: &String| path.starts_with("/dev/") && is_clean_absolute(path);
        if self.descriptors.len() > 8 || !self.descriptors.iter().all(is_device) {
            return Err(("descriptors", "must be at most 8 paths of device nodes below /dev"));
        }
        if self.peripherals.len() > peripheral::MAX_GRANTED {
            return Err(("peripherals", "are more than one component is granted"));
        }
        if let Some(Err(reason)) =
            self.peripherals.iter().map(BoardPeripheral::check).find(Result::is_err)
        {
            return Err(("peripherals", reason));
        }
        if self.watchdog_ms.is_some_and(|ms| !bounds::INTERVAL_MS.contain(ms)) {
            return Err(("watchdog_ms", "not from 100 to 600,000 ms"));
        }
        if self.readiness == (Readiness::Notify { within_ms: 0 }) {
            return Err(("readiness", "no time is allowed"));
        }
        self.limits.check().map_err(|_| ("limits", "out of the bounds that a manifest has"))?;
        if let Network::Granted(grants) = &self.network {
            grants.check()?;
        }
        // What faces the network cannot write flash, and what writes flash cannot reach it: docs/architecture.md, rules.
        let writes_what_boots = self.requests.update || self.writes_apps();
        if writes_what_boots && self.network != Network::None {
            return Err(("network", "whoever writes what boots has no network"));
        }
        // Whoever takes over what faces the network must not have the keys as well.
        if self.requests.identity && self.network != Network::None {
            return Err(("network", "whoever has the device's keys has no network"));
        }
        // Nor what is recorded of every component. Whoever sees the whole system, as the probe of test images does, sees that anyway.
        if self.requests.report && matches!(self.network, Network::Granted(_)) {
            return Err(("network", "whoever records failures has no network"));
        }
        let Root::Own(mounts) = &self.root else {
            return match self.network {
                Network::System => Ok(()),
                _ => Err(("network", "whoever sees the whole system sees its network")),
            };
        };
        if mounts.len() > MAX_MOUNTS {
            return Err(("root", "has more than 16 mounts"));
        }
        for (index, mount) in mounts.iter().enumerate() {
            let name = mount.target.strip_prefix('/').unwrap_or_default();
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase()) {
                return Err((
                    "root",
                    "a mount is not at a top-level directory of lower-case letters",
                ));
            }
            if mounts.iter().take(index).any(|earlier| earlier.target == mount.target) {
                return Err(("root", "two mounts at one place"));
            }
            if let Source::Directory(path) = &mount.source
                && !(path.starts_with("/usr/lib/holdfast/") && is_clean_absolute(path))
            {
                return Err(("root", "a directory that is not of the OS"));
            }
        }
        Ok(())
    }

    /// True when it has storage of its own on the medium.
    #[must_use]
    pub fn stores(&self) -> bool {
        let storage = |mount: &Mount| matches!(mount.source, Source::Storage(_));
        matches!(&self.root, Root::Own(mounts) if mounts.iter().any(storage))
    }

    /// True when the kernel notes where it crashes.
    #[must_use]
    pub fn notes_crashes(&self) -> bool {
        let crash = |mount: &Mount| mount.source == Source::Crash;
        matches!(&self.root, Root::Own(mounts) if mounts.iter().any(crash))
    }

    fn writes_apps(&self) -> bool {
        let store = |mount: &Mount| mount.source == Source::AppStore;
        matches!(&self.root, Root::Own(mounts) if mounts.iter().any(store))
    }

    /// True when everything that this plan allows is allowed by `other` as well.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        // Each by its name, so that a field that is added is compared, or does not compile.
        let Self {
            program: _,
            args: _,
            root,
            network,
            capabilities,
            system_calls,
            limits,
            descriptors,
            peripherals,
            requests,
            updates,
            catalog,
            sets_report_level,
            readiness: _,
            watchdog_ms: _,
            restart: _,
            critical: _,
            stable_for_ms: _,
        } = self;
        let mounts_within = match (root, &other.root) {
            (_, Root::System) => true,
            (Root::System, Root::Own(_)) => false,
            (Root::Own(ours), Root::Own(theirs)) => ours.iter().all(|ours| {
                theirs.iter().any(|theirs| {
                    ours.target == theirs.target && source_within(&ours.source, &theirs.source)
                })
            }),
        };
        mounts_within
            && network.is_within(&other.network)
            && capabilities.iter().all(|c| other.capabilities.contains(c))
            && system_calls.is_within(other.system_calls)
            && limits.are_within(&other.limits)
            && descriptors.iter().all(|d| other.descriptors.contains(d))
            && peripherals.iter().all(|p| other.peripherals.contains(p))
            && requests.is_within(other.requests)
            && *updates <= other.updates
            && (catalog.is_none() || *catalog == other.catalog)
            && *sets_report_level <= other.sets_report_level
    }
}

fn source_within(ours: &Source, theirs: &Source) -> bool {
    match (ours, theirs) {
        (Source::Temporary(ours), Source::Temporary(theirs))
        | (Source::Storage(ours), Source::Storage(theirs)) => ours <= theirs,
        (ours, theirs) => ours == theirs,
    }
}

#[cfg(test)]
pub(crate) mod tests;
