//! A plan is made from grants here: of an app by its manifest, of a service by the image manifest, and of admission.

use super::system_calls::SystemCalls;
use super::{
    APP_DIRECTORY, APP_STORE_DIRECTORY, CRASH_DIRECTORY, Mount, Network, Plan, RUN_DIRECTORY,
    Readiness, Requests, Root, STATE_DIRECTORY, STORAGE_DIRECTORY, Source, UPDATE_DIRECTORY,
};
use crate::app_manifest::{
    AppManifest, DEFAULT_STABLE_FOR_MS, Limits, RestartPolicy, UpdateAccess,
};
use crate::network::NetworkGrants;
use crate::peripheral::BoardPeripheral;
use crate::reset_order::Order;
use holdfast_types::encoding::EncodingError;

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
    /// Requests that the service may send to init.
    pub requests: Requests,
    /// The service sees the system's root and processes instead of a root of its own.
    pub system_view: bool,
    /// The service is in the system's network namespace, and may configure it by netlink.
    pub system_network: bool,
    /// Connections through a link of the service's own, as an app has one.
    pub network: NetworkGrants,
    /// The service may trace an app (`ptrace`); development images alone have such a service.
    pub debugger: bool,
    /// The service has a directory of the `state` partition.
    pub state: bool,
    /// The service may write the `apps` partition, which has the app packages.
    pub app_store: bool,
    /// Resource limits.
    pub limits: Limits,
    /// How init learns that the service is ready.
    pub readiness: Readiness,
    /// Watchdog interval in milliseconds.
    pub watchdog_ms: Option<u32>,
    /// A slot is committed only if this service gets ready and stays so.
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
        catalog: manifest.catalog,
        sets_report_level: manifest.sets_report_level,
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
        catalog: None,
        sets_report_level: false,
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
        catalog: None,
        sets_report_level: false,
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
        mount(CRASH_DIRECTORY, Source::Crash),
    ];
    if limits.temporary_kib > 0 {
        mounts.push(mount("/tmp", Source::Temporary(limits.temporary_kib)));
    }
    mounts
}
