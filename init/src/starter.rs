//! From a plan to processes: what every start needs, and the start itself.

use crate::start_error::StartError;
use holdfast_lifecycle::patience::START_MS;
use holdfast_linux::PathError;
use holdfast_linux::cgroup::{Cgroup, GroupLimits};
use holdfast_linux::channel::{self, NotifyPath};
use holdfast_linux::core_directory::CoreDirectory;
use holdfast_linux::device::open_device;
use holdfast_linux::mount::{self, Access};
use holdfast_linux::network_namespace::NetworkNamespace;
use holdfast_linux::seccomp::{Filter, Filters};
use holdfast_linux::spawn::{self, Command, Notify, Pid};
use holdfast_sandbox::app_manifest::{Limits, UpdateAccess};
use holdfast_sandbox::policy::system_calls::SystemCalls;
use holdfast_sandbox::policy::{
    IDENTITY_SOCKET, IDENTITY_VARIABLE, Plan, Root, Source, UPDATE_SOCKET, UPDATE_VARIABLE,
};
use holdfast_sandbox::{component, policy};
use std::cell::OnceCell;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The uid, the namespaces and the pipes that a plan is started with.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) uid: u32,
    pub(crate) network: Option<&'a NetworkNamespace>,
    pub(crate) cgroup: &'a Cgroup,
    /// The standard input; `/dev/null` where there is none.
    pub(crate) input: Option<BorrowedFd<'a>>,
    /// The standard output and error.
    pub(crate) output: &'a OwnedFd,
    /// The socket for `sd_notify`, where the plan has one.
    pub(crate) notify: Option<&'a NotifyPath>,
}

/// A stub that was started, with the pipes by which it reports.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: Pid,
    pub(crate) status: OwnedFd,
    pub(crate) signs: OwnedFd,
    /// Where the kernel notes a crash of it.
    pub(crate) crash: Option<CoreDirectory>,
}

/// The seccomp filters and descriptors that every start needs, read once from the verified root.
#[derive(Debug)]
pub(crate) struct Starter {
    /// Read when a component first needs them.
    filters: [(SystemCalls, OnceCell<Filter>); SystemCalls::ALL.len()],
    null: OwnedFd,
    /// The uid of the app that waits for a debugger.
    held: Option<u32>,
}

impl Starter {
    pub(crate) fn prepare() -> Result<Self, StartError> {
        let filters = SystemCalls::ALL.map(|set| (set, OnceCell::new()));
        Ok(Self { filters, null: open_device(Path::new("/dev/null"))?, held: None })
    }

    /// From now on, what has this uid waits for a debugger when it is started.
    pub(crate) fn hold(&mut self, uid: u32) {
        self.held = Some(uid);
    }

    fn filter(&self, set: SystemCalls) -> Result<&Filter, StartError> {
        // Loaded once: a component that is started again does not have init wait for the medium.
        let found = self.filters.iter().find(|(of, _)| *of == set);
        let (_, cell) = found.ok_or(StartError::NoFilter(set))?;
        match cell.get() {
            Some(filter) => Ok(filter),
            None => {
                let paths = [component::filter_path(set, 0), component::filter_path(set, 1)];
                let filter = Filter::load(&paths)?;
                Ok(cell.get_or_init(|| filter))
            }
        }
    }

    /// Starts a plan. `tree` says where those of its mounts are that are not the same for every component.
    pub(crate) fn start_plan(
        &self,
        plan: &Plan,
        surroundings: &Surroundings<'_>,
        handed: Vec<(Option<&str>, BorrowedFd<'_>)>,
        tree: impl Fn(&Source) -> Option<PathBuf>,
    ) -> Result<Started, StartError> {
        let Surroundings { uid, network, cgroup, input, output, notify } = *surroundings;
        // A pipe for each, and none of them shared: what a component could write into another's would pass for that one's.
        let (status, status_child) = channel::output_pipe().map_err(StartError::Channel)?;
        let (signs, signs_child) = channel::output_pipe().map_err(StartError::Channel)?;
        // As detached mounts: the child attaches them where it builds its root, and looks nothing
        // up.
        let (mut trees, mut crash) = (Vec::new(), None);
        if let Root::Own(mounts) = &plan.root {
            for mount in mounts {
                let path = match &mount.source {
                    Source::Directory(path) => Some(PathBuf::from(path)),
                    Source::Temporary(_) | Source::Devices => None,
                    Source::Crash => {
                        // New for each start: what an earlier program has left there is not this one's.
                        let directory = CoreDirectory::create(uid)?;
                        trees.push((mount.target.as_str(), directory.tree()?));
                        crash = Some(directory);
                        None
                    }
                    other => tree(other),
                };
                if let Some(path) = path {
                    let access = Access {
                        read_only: !mount.source.is_writable(),
                        executable: mount.source.is_executable(),
                        devices: false,
                    };
                    let copy = mount::detached_copy(&path, access)?;
                    trees.push((mount.target.as_str(), copy));
                }
            }
        }
        let mut environment = Vec::new();
        for (index, (variable, _)) in handed.iter().enumerate() {
            if let Some(variable) = variable {
                // Behind standard input, output and error.
                let number = index.saturating_add(3);
                environment.push(CString::new(format!("{variable}={number}"))?);
            }
        }
        if let Some(notify) = notify {
            // Its own root shows the directory of its socket in another place.
            let path = match plan.root {
                Root::Own(_) => Path::new(policy::RUN_DIRECTORY).join("notify"),
                Root::System => notify.path().to_owned(),
            };
            environment.push(CString::new(format!("NOTIFY_SOCKET={}", path.display()))?);
        }
        if plan.updates != UpdateAccess::None {
            let address = format!("unix:path={}/{UPDATE_SOCKET}", policy::RUN_DIRECTORY);
            environment.push(CString::new(format!("{UPDATE_VARIABLE}={address}"))?);
        }
        if plan.catalog.is_some() {
            let address = format!("unix:path={}/{IDENTITY_SOCKET}", policy::RUN_DIRECTORY);
            environment.push(CString::new(format!("{IDENTITY_VARIABLE}={address}"))?);
        }
        if let Some(ms) = plan.watchdog_ms {
            // sd_watchdog_enabled(3) has them so.
            let microseconds = u64::from(ms).saturating_mul(1000);
            environment.push(CString::new(format!("WATCHDOG_USEC={microseconds}"))?);
        }
        // Channels of services have variables of their own, and are not among these.
        let listed = plan.descriptors.len().saturating_add(plan.peripherals.len());
        environment.push(CString::new(format!("LISTEN_FDS={listed}"))?);
        if !plan.peripherals.is_empty() {
            // sd_listen_fds(3); no service has both.
            let nodes = plan.descriptors.iter().map(|_| "unknown");
            let named = plan.peripherals.iter().map(|p| p.name.trim_start_matches('$'));
            let names: Vec<&str> = nodes.chain(named).collect();
            environment.push(CString::new(format!("LISTEN_FDNAMES={}", names.join(":")))?);
        }
        let filters = Filters {
            component: self.filter(plan.system_calls)?,
            stub: self.filter(SystemCalls::Stub)?,
        };
        // init waits until the program runs: what it may use of the processors begins with its own code.
        cgroup.lift_processor_limit()?;
        let pid = spawn::spawn(&Command {
            plan,
            environment,
            uid,
            input: input.unwrap_or(self.null.as_fd()),
            output: output.as_fd(),
            error: output.as_fd(),
            descriptors: handed.into_iter().map(|(_, descriptor)| descriptor).collect(),
            trees,
            network,
            cgroup: cgroup.directory().as_fd(),
            status: status_child.as_fd(),
            notify: notify.map(|path| Notify { path, signs: signs_child.as_fd() }),
            filters,
            held: self.held == Some(uid),
            within_ms: START_MS,
        })?;
        // The program has replaced init's copy: from here on the time is its own.
        cgroup.limit_processor(plan.limits.cpu_percent)?;
        Ok(Started { pid, status, signs, crash })
    }
}

/// The control group of a component, with what its plan allows.
pub(crate) fn limited_group(name: &str, uid: u32, limits: &Limits) -> Result<Cgroup, PathError> {
    let cgroup = Cgroup::create(name)?;
    cgroup.limit(&GroupLimits {
        memory_kib: limits.memory_kib,
        kept_kib: policy::kept_kib(uid, limits),
        // The stub is one of them.
        processes: limits.processes.saturating_add(1),
        cpu_percent: limits.cpu_percent,
    })?;
    Ok(cgroup)
}
