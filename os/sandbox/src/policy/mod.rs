//! Plans: the sandbox of one component as plain data.
//!
//! [`app_plan`] and [`service_plan`] turn what a component was granted into a [`Plan`];
//! `holdfast-linux` applies a plan whole or not at all. What is not in a plan is not there: a
//! component starts with nothing, and every grant adds exactly what it names.

pub mod admission;
pub mod exposure;
pub mod pools;
pub mod shares;
pub mod system_calls;

use crate::app_manifest::{
    AppManifest, DEFAULT_STABLE_FOR_MS, Limits, RestartPolicy, UpdateAccess, bounds,
};
pub use crate::network::Network;
use crate::network::{NetworkGrants, Protocol};
use crate::peripheral::{self, BoardPeripheral};
use crate::reset_order::Order;
use holdfast_types::encoding::EncodingError;
use holdfast_types::is_clean_absolute;
use holdfast_types::uid::FIRST_APP_UID;
use serde::{Deserialize, Serialize};
use std::fmt;
use system_calls::SystemCalls;

/// Whom the kernel ends first when the machine has no memory left (`oom_score_adj`, from -1000 to 1000): every app
/// before any service, and a service only by its own limit or after all apps.
#[must_use]
pub fn ended_first(uid: u32) -> i16 {
    const SERVICE: i16 = -999;
    const APP: i16 = 1000;
    if uid >= FIRST_APP_UID { APP } else { SERVICE }
}

/// KiB of a service's memory that the kernel takes back for nobody else (`memory.min`): what it needs to go on. An
/// app has none.
#[must_use]
pub fn kept_kib(uid: u32, limits: &Limits) -> u32 {
    const SERVICE_KIB: u32 = 4096;
    if uid >= FIRST_APP_UID { 0 } else { limits.memory_kib.min(SERVICE_KIB) }
}

/// Where the files of a component are.
pub const APP_DIRECTORY: &str = "/app";
/// Where an app finds the storage that it was granted.
pub const STORAGE_DIRECTORY: &str = "/data";
/// Where a component finds its notify socket.
pub const RUN_DIRECTORY: &str = "/run";
/// The socket in that directory at which an app calls the update agent.
pub const UPDATE_SOCKET: &str = "update";
/// Environment variable with its D-Bus address.
pub const UPDATE_VARIABLE: &str = "HOLDFAST_UPDATE";
/// Where a service finds its directory of the `state` partition.
pub const STATE_DIRECTORY: &str = "/state";
/// Where the update agent finds the app packages.
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
    /// The file system it sees.
    pub root: Root,
    /// The network it sees.
    pub network: Network,
    /// Capability numbers it keeps; all of its capability sets.
    pub capabilities: Vec<u8>,
    /// Which system calls it may make.
    pub system_calls: SystemCalls,
    /// What its control group and its resource limits allow.
    pub limits: Limits,
    /// Device nodes init opens for reading and writing and hands over from descriptor 3 on.
    pub descriptors: Vec<String>,
    /// What init opens of the board, and hands over behind those.
    pub peripherals: Vec<BoardPeripheral>,
    /// What it may ask init for, over a socket of its own; without any of it there is no socket.
    pub requests: Requests,
    /// What it has to do with updates, over a socket of its own in `/run`.
    pub updates: UpdateAccess,
    /// How init learns that it is ready.
    pub readiness: Readiness,
    /// It must send `WATCHDOG=1` at least this often, in milliseconds, once it is ready.
    pub watchdog_ms: Option<u32>,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// A release is good only if it gets ready and stays so.
    pub critical: bool,
    /// Milliseconds for which it must stay ready then.
    pub stable_for_ms: u32,
}

/// How init learns that a component is ready.
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

/// What a component may ask init for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Requests {
    /// How components, the clock and the network are.
    pub status: bool,
    /// To start and stop components by name.
    pub manage: bool,
    /// To reboot and to power off.
    pub shutdown: bool,
    /// For the veth pairs of apps: their grants, and a netlink socket within the namespace of each.
    pub veths: bool,
    /// To set the clock within bounds.
    pub clock: bool,
    /// To write the other slot and to have releases tried: the update agent.
    pub update: bool,
    /// For a socket to the update agent: who fetches for it.
    pub uplink: bool,
}

impl Requests {
    /// True when it may ask for anything.
    #[must_use]
    pub fn any(self) -> bool {
        self != Self::default()
    }

    fn is_within(self, other: Self) -> bool {
        // Each by its name, so that a right that is added is compared, or does not compile.
        let Self { status, manage, shutdown, veths, clock, update, uplink } = self;
        (!status || other.status)
            && (!manage || other.manage)
            && (!shutdown || other.shutdown)
            && (!veths || other.veths)
            && (!clock || other.clock)
            && (!update || other.update)
            && (!uplink || other.uplink)
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
    /// What is there.
    pub source: Source,
}

/// What a mount shows.
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
}

impl Source {
    /// True when files can be written there.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        matches!(self, Self::Temporary(_) | Self::Storage(_) | Self::State | Self::AppStore)
    }

    /// True when programs can be executed from there.
    #[must_use]
    pub fn is_executable(&self) -> bool {
        matches!(self, Self::Package | Self::Directory(_))
    }
}

/// A service's grants, as its image manifest names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceGrants {
    /// Directory of its files in the verified root.
    pub directory: String,
    /// Program in that directory, without a slash in front.
    pub program: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Capability numbers.
    pub capabilities: Vec<u8>,
    /// Device nodes it is handed.
    pub descriptors: Vec<String>,
    /// What it may ask init for.
    pub requests: Requests,
    /// It sees the whole system.
    pub system_view: bool,
    /// It sees the system's network, and may ask the kernel to change it.
    pub system_network: bool,
    /// What it reaches through a veth pair of its own, as an app does.
    pub network: NetworkGrants,
    /// It traces an app.
    pub debugger: bool,
    /// It keeps something on `state`.
    pub state: bool,
    /// It writes app packages.
    pub app_store: bool,
    /// What it may use at most.
    pub limits: Limits,
    /// How readiness is learned.
    pub readiness: Readiness,
    /// Watchdog interval in milliseconds.
    pub watchdog_ms: Option<u32>,
    /// A release is good only if it gets ready and stays so.
    pub critical: bool,
}

impl ServiceGrants {
    /// A service that is granted nothing.
    #[must_use]
    pub fn none(directory: &str, program: &str) -> Self {
        Self {
            directory: directory.to_owned(),
            program: program.to_owned(),
            args: Vec::new(),
            capabilities: Vec::new(),
            descriptors: Vec::new(),
            requests: Requests::default(),
            system_view: false,
            system_network: false,
            network: NetworkGrants::default(),
            debugger: false,
            state: false,
            app_store: false,
            limits: Limits::default(),
            readiness: Readiness::Started,
            watchdog_ms: None,
            critical: false,
        }
    }
}

/// The plan of an app, which has been granted these peripherals.
#[must_use]
pub fn app_plan(manifest: &AppManifest, peripherals: &[BoardPeripheral]) -> Plan {
    let mut mounts = component_mounts(Source::Package, &manifest.limits);
    if let Some(kib) = manifest.storage_kib {
        mounts.push(Mount { target: STORAGE_DIRECTORY.to_owned(), source: Source::Storage(kib) });
    }
    let network = if manifest.network.is_empty() {
        Network::None
    } else {
        mounts.push(Mount { target: "/etc".to_owned(), source: Source::Resolver });
        Network::Granted(manifest.network.clone())
    };
    let system_calls = SystemCalls::of_app(&network, !peripherals.is_empty());
    Plan {
        program: format!("{APP_DIRECTORY}{}", manifest.entry_point),
        args: manifest.cmd_args.clone(),
        root: Root::Own(mounts),
        network,
        capabilities: Vec::new(),
        system_calls,
        limits: manifest.limits,
        descriptors: Vec::new(),
        peripherals: peripherals.to_vec(),
        requests: Requests::default(),
        updates: manifest.updates,
        readiness: readiness(manifest.ready_within_ms),
        watchdog_ms: manifest.watchdog_ms,
        restart: manifest.restart,
        critical: manifest.critical,
        stable_for_ms: manifest.stable_for_ms,
    }
}

/// The plan of a service.
#[must_use]
pub fn service_plan(grants: &ServiceGrants) -> Plan {
    let (network, system_calls) = match (grants.system_view, grants.system_network) {
        (_, true) => (Network::System, SystemCalls::NetworkService),
        (true, false) if grants.debugger => (Network::System, SystemCalls::Debugger),
        (true, false) => (Network::System, SystemCalls::Local),
        (false, false) if grants.network.is_empty() => (Network::None, SystemCalls::Local),
        (false, false) => (Network::Granted(grants.network.clone()), SystemCalls::Networked),
    };
    let (root, program) = if grants.system_view {
        (Root::System, format!("{}/{}", grants.directory, grants.program))
    } else {
        let files = Source::Directory(grants.directory.clone());
        let mut mounts = component_mounts(files, &grants.limits);
        let more = [
            (matches!(network, Network::Granted(_)), "/etc", Source::Resolver),
            (grants.state, STATE_DIRECTORY, Source::State),
            (grants.app_store, APP_STORE_DIRECTORY, Source::AppStore),
        ];
        for (_, target, source) in more.into_iter().filter(|(granted, ..)| *granted) {
            mounts.push(Mount { target: target.to_owned(), source });
        }
        (Root::Own(mounts), format!("{APP_DIRECTORY}/{}", grants.program))
    };
    Plan {
        program,
        args: grants.args.clone(),
        root,
        network,
        capabilities: grants.capabilities.clone(),
        system_calls,
        limits: grants.limits,
        descriptors: grants.descriptors.clone(),
        peripherals: Vec::new(),
        requests: grants.requests,
        updates: UpdateAccess::None,
        readiness: grants.readiness,
        watchdog_ms: grants.watchdog_ms,
        restart: RestartPolicy::Always,
        critical: grants.critical,
        stable_for_ms: DEFAULT_STABLE_FOR_MS,
    }
}

/// The plan of the one-shot process that looks at a package's files before the app may run: the
/// package, and nothing that it could write to but its standard output.
#[must_use]
pub fn admission_plan(program: &str, directory: &str) -> Plan {
    Plan {
        program: format!("/admission/{program}"),
        args: Vec::new(),
        root: Root::Own(vec![
            Mount { target: APP_DIRECTORY.to_owned(), source: Source::Package },
            Mount {
                target: "/admission".to_owned(),
                source: Source::Directory(directory.to_owned()),
            },
        ]),
        network: Network::None,
        capabilities: Vec::new(),
        system_calls: SystemCalls::Local,
        limits: Limits {
            processes: 1,
            open_files: 32,
            temporary_kib: 0,
            cpu_percent: 100, // Nothing else runs yet.
            ..Limits::default()
        },
        descriptors: Vec::new(),
        peripherals: Vec::new(),
        requests: Requests::default(),
        updates: UpdateAccess::None,
        readiness: Readiness::Started,
        watchdog_ms: None,
        restart: RestartPolicy::Never,
        critical: false,
        stable_for_ms: DEFAULT_STABLE_FOR_MS,
    }
}

/// The first argument of admission where it looks at an order to reset instead of a package; the order is the second.
pub const ORDER_ARGUMENT: &str = "order";

/// The plan by which `admission` looks whether somebody else than the update agent finds an order on a card, which is
/// its standard input: beside that, it sees the roots of the repositories in the verified root, and nothing that was
/// written on this device.
///
/// # Errors
/// The encoder's own.
pub fn order_plan(admission: &Plan, order: &Order) -> Result<Plan, EncodingError> {
    let mut plan = admission.clone();
    plan.args = vec![ORDER_ARGUMENT.to_owned(), order.to_argument()?];
    // A file of metadata as bytes, as a tree and as what it says.
    plan.limits.memory_kib = 16_384;
    // Others run now.
    plan.limits.cpu_percent = Limits::default().cpu_percent;
    if let Root::Own(mounts) = &mut plan.root {
        for mount in mounts.iter_mut().filter(|mount| mount.source == Source::Package) {
            mount.source = Source::Directory(UPDATE_DIRECTORY.to_owned());
        }
    }
    Ok(plan)
}

/// The readiness that a time limit stands for.
#[must_use]
pub fn readiness(within_ms: Option<u32>) -> Readiness {
    match within_ms {
        Some(within_ms) => Readiness::Notify { within_ms },
        None => Readiness::Started,
    }
}

fn component_mounts(files: Source, limits: &Limits) -> Vec<Mount> {
    let mount = |target: &str, source| Mount { target: target.to_owned(), source };
    let mut mounts = vec![
        mount(APP_DIRECTORY, files),
        mount("/dev", Source::Devices),
        mount(RUN_DIRECTORY, Source::Notify),
    ];
    if limits.temporary_kib > 0 {
        mounts.push(mount("/tmp", Source::Temporary(limits.temporary_kib)));
    }
    mounts
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
        // Invariant 4: what faces the network cannot write flash, what writes flash cannot reach it.
        let writes_what_boots = self.requests.update || self.writes_apps();
        if writes_what_boots && self.network != Network::None {
            return Err(("network", "whoever writes what boots has no network"));
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
    }
}

fn source_within(ours: &Source, theirs: &Source) -> bool {
    match (ours, theirs) {
        (Source::Temporary(ours), Source::Temporary(theirs))
        | (Source::Storage(ours), Source::Storage(theirs)) => ours <= theirs,
        (ours, theirs) => ours == theirs,
    }
}

/// The plan for people: one line for each thing it allows.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [std::slice::from_ref(&self.program), &self.args[..]].concat();
        writeln!(f, "program       {}", words.join(" "))?;
        match &self.root {
            Root::System => writeln!(f, "file system   the whole system's")?,
            Root::Own(mounts) => {
                writeln!(f, "namespaces    own mounts, processes, host name")?;
                for mount in mounts {
                    let (what, kib) = match &mount.source {
                        Source::Package => ("the package".to_owned(), None),
                        Source::Directory(path) => (path.clone(), None),
                        Source::Temporary(kib) => ("memory".to_owned(), Some(kib)),
                        Source::Storage(kib) => ("storage".to_owned(), Some(kib)),
                        Source::Devices => ("null zero full random urandom".to_owned(), None),
                        Source::Notify => ("the notify socket".to_owned(), None),
                        Source::Resolver => ("resolv.conf, hosts".to_owned(), None),
                        Source::State => ("its part of the state partition".to_owned(), None),
                        Source::AppStore => ("the app packages".to_owned(), None),
                    };
                    let access = match (mount.source.is_writable(), mount.source.is_executable()) {
                        (true, _) => "read write",
                        (false, true) => "read execute",
                        (false, false) => "read",
                    };
                    write!(f, "mount         {:<6} {access:<12} {what}", mount.target)?;
                    match kib {
                        Some(kib) => writeln!(f, ", {kib} KiB")?,
                        None => writeln!(f)?,
                    }
                }
            }
        }
        match &self.network {
            Network::None => writeln!(f, "network       none: an empty namespace")?,
            Network::System => writeln!(f, "network       the system's")?,
            Network::Granted(grants) => {
                writeln!(f, "network       own namespace, and nothing beside these:")?;
                for connection in &grants.connections {
                    writeln!(f, "connects to   {connection}")?;
                }
                for protocol in Protocol::ALL {
                    for port in grants.server_ports(protocol) {
                        writeln!(f, "serves        {protocol} port {port}")?;
                    }
                }
                for app in &grants.applications {
                    writeln!(f, "talks to      app {app}, if that names it as well")?;
                }
            }
        }
        writeln!(f, "capabilities  {}", list_or_none(&self.capabilities))?;
        writeln!(f, "system calls  {}", self.system_calls)?;
        writeln!(f, "descriptors   {}", list_or_none(&self.descriptors))?;
        for peripheral in &self.peripherals {
            writeln!(f, "peripheral    {peripheral}")?;
        }
        let Limits { memory_kib, cpu_percent, processes, open_files, .. } = self.limits;
        writeln!(
            f,
            "limits        {memory_kib} KiB memory, {cpu_percent} % CPU, {processes} processes, \
             {open_files} open files, {} log lines/s",
            self.limits.log_lines_per_second
        )?;
        if self.stores() {
            let Limits { write_kib_per_second, writes_per_second, write_mib_per_day, .. } =
                self.limits;
            writeln!(
                f,
                "writes        {write_kib_per_second} KiB and {writes_per_second} times a second, \
                 {write_mib_per_day} MiB a day"
            )?;
        }
        if self.requests.any() {
            let Requests { status, manage, shutdown, veths, clock, update, uplink } = self.requests;
            writeln!(
                f,
                "init          status {status}, manage {manage}, shut down {shutdown}, veth pairs \
                 of apps {veths}, set the clock {clock}, update {update}, fetch for updates {uplink}"
            )?;
        }
        match self.updates {
            UpdateAccess::None => {}
            UpdateAccess::Told => writeln!(f, "updates       is told of them")?,
            UpdateAccess::Defers => writeln!(f, "updates       is told of them, may put them off")?,
        }
        let ready = match self.readiness {
            Readiness::Started => "once it runs".to_owned(),
            Readiness::Notify { within_ms } => format!("when it says so, within {within_ms} ms"),
        };
        writeln!(f, "ready         {ready}")?;
        match self.watchdog_ms {
            Some(ms) => writeln!(f, "watchdog      every {ms} ms")?,
            None => writeln!(f, "watchdog      none")?,
        }
        let restart = match self.restart {
            RestartPolicy::Always => "always",
            RestartPolicy::OnFailure => "on failure",
            RestartPolicy::Never => "never",
        };
        write!(f, "restart       {restart}")?;
        if self.critical {
            write!(f, ", critical: must stay ready for {} ms", self.stable_for_ms)?;
        }
        Ok(())
    }
}

fn list_or_none<T: fmt::Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test that overflows has failed")]
    use super::*;
    use crate::network::{Connection, Destination};
    use holdfast_types::{ComponentId, Version};
    use proptest::prelude::*;

    /// The manifest of an app that asks for nothing.
    pub(crate) fn manifest() -> AppManifest {
        AppManifest {
            name: "a".to_owned(),
            component_id: ComponentId([0x25; 16]),
            entry_point: "/bin/app".to_owned(),
            cmd_args: Vec::new(),
            version: Version { major: 0, minor: 1, patch: 0 },
            rollback_index: 0,
            least_os: Version::default(),
            storage_kib: None,
            network: NetworkGrants::default(),
            limits: Limits::default(),
            updates: UpdateAccess::None,
            restart: RestartPolicy::Always,
            ready_within_ms: None,
            watchdog_ms: None,
            critical: false,
            stable_for_ms: DEFAULT_STABLE_FOR_MS,
            unsupported: Vec::new(),
            peripherals: Vec::new(),
        }
    }

    /// The plan of an app whose manifest asks for what `change` sets.
    pub(crate) fn plan_of(change: impl FnOnce(&mut AppManifest)) -> Plan {
        let mut manifest = manifest();
        change(&mut manifest);
        app_plan(&manifest, &[])
    }

    /// A grant to a name.
    pub(crate) fn connections() -> Vec<Connection> {
        Destination::parse("example.com").into_iter().map(Connection::to).collect()
    }

    fn grants() -> ServiceGrants {
        ServiceGrants::none("/usr/lib/holdfast/services/a", "a")
    }

    #[test]
    fn no_grant_in_no_power_out() {
        for plan in [plan_of(|_| {}), service_plan(&grants())] {
            assert_eq!(plan.check(), Ok(()));
            assert!(plan.capabilities.is_empty() && plan.descriptors.is_empty());
            assert!(!plan.requests.any());
            assert_eq!(plan.system_calls, SystemCalls::Local);
            assert_eq!(plan.network, Network::None);
            let Root::Own(mounts) = &plan.root else { panic!("it sees the system") };
            let writable: Vec<&str> = mounts
                .iter()
                .filter(|m| m.source.is_writable())
                .map(|m| m.target.as_str())
                .collect();
            assert_eq!(writable, ["/tmp"], "nothing it writes outlives it");
        }
    }

    #[test]
    fn nothing_is_writable_and_executable_and_an_app_never_sees_the_system() {
        let plan = plan_of(|manifest| manifest.storage_kib = Some(65_536));
        let Root::Own(mounts) = plan.root else { panic!("it sees the system") };
        assert!(mounts.iter().all(|m| !(m.source.is_writable() && m.source.is_executable())));
        assert!(mounts.iter().any(|m| m.target == "/data"));
    }

    #[test]
    fn who_defers_updates_is_told_of_them_as_well() {
        let with = |updates| plan_of(|manifest| manifest.updates = updates);
        assert!(with(UpdateAccess::Told).is_within(&with(UpdateAccess::Defers)));
        assert!(!with(UpdateAccess::Defers).is_within(&with(UpdateAccess::Told)));
    }

    #[test]
    fn no_service_faces_the_network_and_writes_what_boots() {
        let reaches = |change: fn(&mut ServiceGrants)| {
            let mut grants = grants();
            change(&mut grants);
            let plan = service_plan(&grants);
            plan.check().map_err(|(_, reason)| reason)
        };
        assert_eq!(reaches(|g| g.app_store = true), Ok(()));
        assert_eq!(reaches(|g| g.requests.update = true), Ok(()));
        let network = || NetworkGrants { tcp_server_ports: vec![80], ..NetworkGrants::default() };
        let refused = "whoever writes what boots has no network";
        let with = |change: fn(&mut ServiceGrants)| {
            let mut grants = grants();
            change(&mut grants);
            grants.network = network();
            service_plan(&grants).check().map_err(|(_, reason)| reason)
        };
        assert_eq!(with(|g| g.requests.uplink = true), Ok(()));
        assert_eq!(with(|g| g.app_store = true), Err(refused));
        assert_eq!(with(|g| g.requests.update = true), Err(refused));
    }

    #[test]
    fn who_looks_for_an_order_sees_nothing_that_was_written_on_the_device() {
        let order =
            Order { digest: [7; 32], partitions: crate::reset_order::Partitions::default() };
        let plan = order_plan(&admission_plan("admission", "/usr/lib/holdfast/x"), &order).unwrap();
        plan.check().unwrap();
        let Root::Own(mounts) = &plan.root else { panic!("the system's root") };
        assert!(mounts.iter().all(|mount| matches!(mount.source, Source::Directory(_))));
        assert!(plan.requests == Requests::default() && plan.network == Network::None);
        assert_eq!(plan.args, [ORDER_ARGUMENT.to_owned(), order.to_argument().unwrap()]);
    }

    #[test]
    fn a_plan_out_of_bounds_is_refused() {
        let refused = |change: fn(&mut Plan)| {
            let mut plan = service_plan(&grants());
            change(&mut plan);
            plan.check().expect_err("was accepted").0
        };
        assert_eq!(refused(|p| p.program = "/app/../sbin/init".to_owned()), "program");
        assert_eq!(refused(|p| p.capabilities = vec![64]), "capabilities");
        assert_eq!(refused(|p| p.descriptors = vec!["/etc/x".to_owned()]), "descriptors");
        assert_eq!(refused(|p| p.watchdog_ms = Some(1)), "watchdog_ms");
        assert_eq!(refused(|p| p.limits.processes = 0), "limits");
        let own =
            |target: &str, source| Root::Own(vec![Mount { target: target.to_owned(), source }]);
        let root = |root: Root| {
            let mut plan = service_plan(&grants());
            plan.root = root;
            plan.check().is_err()
        };
        assert!(root(own("/../etc", Source::Devices)));
        assert!(root(own("/", Source::Devices)));
        assert!(root(own("/x", Source::Directory("/etc".to_owned()))));
        assert!(root(own("/x", Source::Directory("/usr/lib/holdfast/../../..".to_owned()))));
        let mount = Mount { target: "/dev".to_owned(), source: Source::Devices };
        assert!(root(Root::Own(vec![mount.clone(), mount])));
    }

    #[test]
    fn a_plan_is_printed_line_by_line() {
        let text = plan_of(|manifest| manifest.cmd_args = vec!["-v".to_owned()]).to_string();
        for line in [
            "program       /app/bin/app -v",
            "mount         /app   read execute the package",
            "mount         /tmp   read write   memory, 256 KiB",
            "capabilities  none",
            "restart       always",
        ] {
            assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
        }
    }

    /// Storage and limits, each within what a document may ask for.
    fn asked() -> impl Strategy<Value = (u32, Limits)> {
        let limits = (
            256u32..100_000,
            1u32..=100,
            1u32..=256,
            8u32..=1024,
            0u32..65_536,
            1u32..=256,
            16u32..=65_536,
            4u32..=16_384,
            1u32..=1_048_576,
        );
        let limits = limits.prop_map(
            |(memory, cpu, processes, files, temporary, lines, bandwidth, writes, daily)| Limits {
                memory_kib: memory,
                cpu_percent: cpu,
                processes,
                open_files: files,
                temporary_kib: temporary,
                log_lines_per_second: lines,
                write_kib_per_second: bandwidth,
                writes_per_second: writes,
                write_mib_per_day: daily,
            },
        );
        (1u32..65_536, limits)
    }

    fn plan_asked((storage, limits): (u32, Limits)) -> Plan {
        plan_of(|manifest| {
            manifest.storage_kib = Some(storage);
            manifest.limits = limits;
        })
    }

    #[test]
    fn the_killer_takes_every_app_before_any_service() {
        let (apps, services) = ([FIRST_APP_UID, 59_999], [0, 100, FIRST_APP_UID - 1]);
        for (app, service) in apps.into_iter().zip(services) {
            // The kernel adds a thousandth of all memory for each: no use of memory makes up for the difference.
            assert!(ended_first(app) - ended_first(service) > 1000);
            // -1000 would except it from the end by its own limit.
            assert!(ended_first(service) > -1000 && ended_first(app) <= 1000);
            assert_eq!(kept_kib(app, &Limits::default()), 0);
            assert_eq!(kept_kib(service, &Limits::default()), 4096);
        }
        let small = Limits { memory_kib: 1024, ..Limits::default() };
        assert_eq!(kept_kib(100, &small), 1024, "no more than it may have");
    }

    /// The same request with every number at least as large.
    fn raised((storage, limits): (u32, Limits), by: &[u32; 10]) -> (u32, Limits) {
        let [a, b, c, d, e, f, g, h, i, j] = *by;
        let limits = Limits {
            memory_kib: (limits.memory_kib + b).min(1 << 20),
            cpu_percent: (limits.cpu_percent + c).min(100),
            processes: (limits.processes + d).min(256),
            open_files: (limits.open_files + e).min(1024),
            temporary_kib: (limits.temporary_kib + f).min(65_536),
            log_lines_per_second: (limits.log_lines_per_second + g).min(256),
            write_kib_per_second: (limits.write_kib_per_second + h).min(65_536),
            writes_per_second: (limits.writes_per_second + i).min(16_384),
            write_mib_per_day: (limits.write_mib_per_day + j).min(1 << 20),
        };
        ((storage + a).min(65_536), limits)
    }

    proptest! {
        #[test]
        fn every_manifest_makes_a_plan_in_bounds(asked in asked()) {
            let plan = plan_asked(asked);
            prop_assert_eq!(plan.check(), Ok(()));
            prop_assert!(plan.capabilities.is_empty() && plan.descriptors.is_empty());
            prop_assert!(matches!(plan.root, Root::Own(_)) && !plan.requests.any());
        }

        #[test]
        fn a_plan_is_monotonic_in_the_manifest(
            asked in asked(), by in proptest::array::uniform10(0u32..2000)
        ) {
            let (less, more) = (plan_asked(asked), plan_asked(raised(asked, &by)));
            prop_assert!(less.is_within(&more), "{}\n{}", less, more);
            prop_assert_eq!(more.is_within(&less), more == less);
        }
    }
}
