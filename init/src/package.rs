//! From a file on the `apps` partition to a mounted, admitted package.
//!
//! Nothing of the file is believed before its header is verified, and the descriptor that was
//! verified is the one that is mounted.

use crate::app_store;
use crate::app_uids::{AppUids, NoUid};
use crate::component::Component;
use crate::floors::Floors;
use crate::log::Log;
use crate::mounted::Mounted;
use crate::start_error::StartError;
use crate::starter::{self, Starter, Surroundings};
use holdfast_lifecycle::exit::Exit;
use holdfast_lifecycle::patience::{self, PET_EVERY_MS};
use holdfast_lifecycle::uid_table::AppUid;
use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::device_mapper::{VerityDevice, VerityTable};
use holdfast_linux::loop_device::LoopDevice;
use holdfast_linux::mount::{self, Access};
use holdfast_linux::poll::Poll;
use holdfast_linux::wait;
use holdfast_linux::watchdog::Watchdog;
use holdfast_linux::{PathError, channel, file, package_file};
use holdfast_sandbox::component as list;
use holdfast_sandbox::component::{App, ImageDescription, Service, Stored};
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_sandbox::package::{
    Device, HEADER_BYTES, Header, NotForDevice, PackageError, SignatureError,
};
use holdfast_sandbox::peripheral::{self, BoardPeripheral, NotGranted};
use holdfast_sandbox::policy::admission::{self, AdmissionError};
use holdfast_sandbox::policy::shares::{self, Machine, Shortage};
use holdfast_sandbox::policy::{self, Network, Plan, Root, Source};
use holdfast_types::ComponentId;
use holdfast_types::event::init as event;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Directory of the mount points of packages; nobody but init can write there.
const MOUNTS: &str = "/run/packages";

/// A package that is refused or could not be mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackageRefusal {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("there is no package {0}")]
    Missing(String),
    #[error("the package {0}")]
    Header(PackageError),
    #[error("the package {0}")]
    Signature(SignatureError),
    #[error("the package is signed by key {0}, which this image does not trust")]
    Untrusted(String),
    #[error("the package {0}")]
    Refused(NotForDevice),
    #[error("this image has nothing to look at packages with")]
    NoAdmission,
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    #[error("the package's header and its app_manifest.json differ")]
    Differs,
    #[error("the package asks for {0}: not supported by this OS version")]
    Unsupported(String),
    #[error("the package is not granted what it asks for")]
    NotGranted(#[from] NotGranted),
    #[error("the package asks for {0}, which {1} has")]
    Taken(String, String),
    #[error("the package is not granted what it asks for")]
    Shortage(#[from] Shortage),
    #[error("{0}: {1}")]
    Plan(&'static str, &'static str),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot {0}")]
    Kernel(&'static str, #[source] io::Error),
    #[error(transparent)]
    AppUid(#[from] NoUid),
}

/// The image, the machine and the process that packages are validated with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gate<'a> {
    pub(crate) log: &'a Log,
    pub(crate) watchdog: Option<&'a Watchdog>,
    /// The first look at a package began at this time, in milliseconds of the monotonic clock.
    pub(crate) began: u64,
    pub(crate) starter: &'a Starter,
    pub(crate) image: &'a ImageDescription,
    pub(crate) admission: Option<&'a Service>,
    /// The peripherals that the board offers.
    pub(crate) peripherals: &'a [BoardPeripheral],
    /// The memory and storage that all components share.
    pub(crate) machine: Machine,
    /// Components that have theirs already.
    pub(crate) earlier: &'a [Component],
}

impl Gate<'_> {
    /// A slow medium may take long over all packages.
    fn pet(&self) {
        if let Some(watchdog) = self.watchdog {
            watchdog.pet();
        }
    }
}

/// The component that `app` becomes: with its package on trial, the current one, or, where that cannot be
/// used, the one before.
pub(crate) fn admit(
    gate: Gate<'_>,
    app_uids: &mut AppUids,
    app: &App,
) -> Result<Component, PackageRefusal> {
    // Before its package is opened: an app whose packages are all refused keeps its number, and with it its storage.
    let app_uid = app_uids.assign(gate.log, app.component_id)?;
    let known = (app_uid, app_uids.of(ReleaseSubject::App(app.component_id)));
    let (log, name) = (gate.log, &app.name);
    match app_store::take_try(app.component_id) {
        Ok(None) => {}
        Ok(Some(left)) => match admit_stored(gate, known, app, Stored::Trial(left)) {
            Ok(component) => return Ok(component),
            Err(error) => {
                let what = format!("{name}: its new package is refused");
                log.failure(event::APP_TRIAL_REFUSED, &what, &error);
                // What is refused now would be refused at each start.
                if let Err(error) = app_store::give_up(app.component_id) {
                    let what = format!("{name}: cannot remove its new package");
                    log.failure(event::APP_TRIAL_REMOVE_FAILED, &what, &error);
                }
            }
        },
        Err(error) => {
            let what = format!("{name}: cannot take a try of its new package");
            log.failure(event::APP_TRIAL_BEGIN_FAILED, &what, &error);
        }
    }
    let refused = match admit_stored(gate, known, app, Stored::Current) {
        Ok(component) => return Ok(component),
        Err(error) => error,
    };
    // Its own reasons are of no interest: what is told is why the current one is not used.
    match admit_stored(gate, known, app, Stored::Previous) {
        Ok(component) => {
            let what = format!("{name} runs from its previous package");
            log.failure(event::APP_RUNS_PREVIOUS, &what, &refused);
            Ok(component)
        }
        Err(_) => Err(refused),
    }
}

/// Verifies, mounts and looks at one package of `app`, and makes the component it becomes.
fn admit_stored(
    gate: Gate<'_>,
    (app_uid, floor): (AppUid, u64),
    app: &App,
    stored: Stored,
) -> Result<Component, PackageRefusal> {
    let Gate { log, image, admission, .. } = gate;
    gate.pet();
    let Opened { header, file, development } = open(image, app.component_id, floor, stored)?;
    let trial = match stored {
        Stored::Trial(left) => Some(left),
        _ => None,
    };
    let mounted = mount_package(&app.name, header, file, trial)?;
    let plan = look(gate, admission.ok_or(PackageRefusal::NoAdmission)?, &mounted)
        // Nothing that is refused stays mounted.
        .inspect_err(|_| unmount(log, &mounted))?;
    let (name, version, index) = (&app.name, header.version, header.rollback_index);
    let on_trial = if trial.is_some() { ", on trial" } else { "" };
    let uid = app_uid.uid;
    let text = format!("{name}: package {version}, rollback index {index}, uid {uid}{on_trial}");
    log.notice(event::APP_ADMITTED, &text);
    if development {
        let text = format!("{name}: its package is signed with a development key");
        log.warning(event::APP_DEVELOPMENT_KEY, &text);
    }
    Ok(Component { name: app.name.clone(), uid: app_uid.uid, plan, package: Some(mounted) })
}

/// A package whose header this device takes.
struct Opened {
    header: Header,
    file: OwnedFd,
    /// True where the key is one for development.
    development: bool,
}

/// Opens one package of an app and verifies its header.
fn open(
    image: &ImageDescription,
    component_id: ComponentId,
    floor: u64,
    stored: Stored,
) -> Result<Opened, PackageRefusal> {
    let path = app_store::path(component_id, stored);
    let missing = || PackageRefusal::Missing(stored.file(component_id));
    // One descriptor from here to the mount: the update agent may rename or replace files meanwhile, and what was verified
    // is what the loop device reads.
    let package = package_file::open(&path, HEADER_BYTES)?.ok_or_else(missing)?;
    let header = Header::parse(&package.start, package.length).map_err(PackageRefusal::Header)?;
    // The signature comes before anything that the header says is compared.
    let development = verify(&header, &package.start)?;
    let device = Device {
        component_id,
        product: &image.product,
        board: &image.board,
        os: image.version,
        floor,
    };
    header.admit(&device).map_err(PackageRefusal::Refused)?;
    Ok(Opened { header, file: package.file, development })
}

/// Checks whether a package that is not in use has a header that this device would take.
pub(crate) fn may_run(
    image: &ImageDescription,
    component_id: ComponentId,
    floor: u64,
    stored: Stored,
) -> Result<(), PackageRefusal> {
    open(image, component_id, floor, stored).map(drop)
}

/// Checks the signature with the key that the header names, from the verified root. True when it is
/// a development key.
fn verify(header: &Header, start: &[u8]) -> Result<bool, PackageRefusal> {
    // A key that is among both is one of production: nobody is warned of it.
    for development in [false, true] {
        let path = list::trusted_key_path(header.key_id, development);
        if let Some(key) = file::read_bounded(Path::new(&path), 32)? {
            let key: Result<&[u8; 32], _> = key.as_slice().try_into();
            let key = key.map_err(|_| PackageRefusal::Signature(SignatureError::OtherKey))?;
            header.verify(start, key).map_err(PackageRefusal::Signature)?;
            return Ok(development);
        }
    }
    Err(PackageRefusal::Untrusted(header.key_id.to_string()))
}

fn mount_package(
    name: &str,
    header: Header,
    file: OwnedFd,
    trial: Option<u8>,
) -> Result<Mounted, PackageRefusal> {
    let offset = u64::try_from(HEADER_BYTES).unwrap_or(u64::MAX);
    // `block` may go when this returns: the device-mapper table has the loop device open, and the
    // kernel frees it with that.
    let block = LoopDevice::attach(file.as_fd(), offset)?;
    let device = VerityDevice::create(
        &format!("app-{name}"),
        &VerityTable {
            device: block.path(),
            data_blocks: header.data_blocks(),
            root_hash: header.root_hash,
            salt: header.salt,
        },
    )?;
    let path = Path::new(MOUNTS).join(name);
    let access = Access { read_only: true, executable: true, devices: false };
    let mounted = mount::make_directory(&path)
        .and_then(|()| mount::mount("erofs", Some(device.path()), &path, access, &[]));
    match mounted {
        Ok(()) => Ok(Mounted { header, device, path, trial }),
        Err(error) => {
            // Half a package is none; the first error is the one to report.
            let _ = device.remove();
            Err(error.into())
        }
    }
}

/// Takes a package out of use.
pub(crate) fn unmount(log: &Log, mounted: &Mounted) {
    let taken = mount::detach(&mounted.path).and_then(|()| mounted.device.remove());
    if let Err(error) = taken {
        log.failure(event::APP_UNMOUNT_FAILED, "cannot unmount a package", &error);
    }
}

/// Has a process of its own look at the files and read the manifest, and makes the plan.
fn look(gate: Gate<'_>, admission: &Service, mounted: &Mounted) -> Result<Plan, PackageRefusal> {
    let Gate { log, starter, peripherals, machine, earlier, .. } = gate;
    let cgroup = starter::limited_group(&admission.name, admission.uid, &admission.plan.limits)?;
    let (output, output_child) =
        channel::output_pipe().map_err(|e| PackageRefusal::Kernel("make a pipe", e))?;
    let trees = |source: &Source| match source {
        Source::Package => Some(mounted.path.clone()),
        _ => None,
    };
    let surroundings = Surroundings {
        uid: admission.uid,
        network: None,
        cgroup: &cgroup,
        input: None,
        output: &output_child,
        notify: None,
    };
    let started = starter.start_plan(&admission.plan, &surroundings, Vec::new(), trees);
    // The other process alone writes now: the pipe ends when it does.
    drop(output_child);
    let answer = started.map(|started| (started.pid, started.status, read_answer(gate, &output)));
    gate.pet();
    // Whatever of it still runs ends before its answer is believed.
    if let Err(error) = cgroup.kill() {
        let what = "cannot kill the validation of a package";
        log.failure(event::ADMISSION_KILL_FAILED, what, &error);
    }
    let (pid, status, answer) = match answer {
        Ok(answered) => answered,
        Err(error) => {
            // A stub that did not get far enough to have a pid here.
            while let Ok(Some(_)) = wait::reap() {}
            return Err(error.into());
        }
    };
    wait::reap_killed(pid).map_err(|e| PackageRefusal::Kernel("wait for a look's end", e))?;
    if answer.is_empty() {
        let ended = channel::read_status(&status).ok().flatten().map(Exit::from_raw);
        let events = cgroup.events().unwrap_or_default();
        let ended = ended.map_or("was killed".to_owned(), |exit| format!("ended with {exit}"));
        let text = format!("the validation of a package {ended} ({events:?})");
        log.warning(event::ADMISSION_FAILED, &text);
    }
    let manifest = admission::read(&answer)?;
    let header = &mounted.header;
    // The signature covers the header, and by its root hash the manifest; their author may still
    // have put one of another release into it.
    if manifest.component_id != header.component_id
        || manifest.version != header.version
        || manifest.rollback_index != header.rollback_index
        || manifest.least_os != header.least_os
    {
        return Err(PackageRefusal::Differs);
    }
    if let Some(path) = manifest.unsupported.first() {
        return Err(PackageRefusal::Unsupported(holdfast_types::escape(path.as_bytes())));
    }
    let granted = peripheral::grant(&manifest, peripherals)?;
    for asked in &granted {
        let has = |other: &&Component| {
            other.plan.peripherals.iter().any(|theirs| theirs.access == asked.access)
        };
        // Two programs at one line or bus would each undo what the other does; the list of the
        // image says who is first.
        if let Some(other) = earlier.iter().find(has) {
            return Err(PackageRefusal::Taken(asked.to_string(), other.name.clone()));
        }
    }
    let plan = policy::app_plan(&manifest, &granted);
    plan.check().map_err(|(field, reason)| PackageRefusal::Plan(field, reason))?;
    let promised = earlier.iter().map(|component| (component.name.as_str(), &component.plan));
    shares::admit(machine, promised, &plan)?;
    match (&plan.root, &plan.network) {
        (Root::Own(_), Network::None | Network::Granted(_)) => Ok(plan),
        (Root::System, _) => Err(PackageRefusal::Plan("root", "an app has its own")),
        (_, Network::System) => Err(PackageRefusal::Plan("network", "an app has its own")),
    }
}

/// Everything the process writes before it ends, within the bounds of an answer; what takes too
/// long is cut, and is then no answer.
fn read_answer(gate: Gate<'_>, output: &OwnedFd) -> Vec<u8> {
    let mut answer = Vec::new();
    let now = monotonic_ms();
    let deadline = now.saturating_add(patience::look_ms(now.saturating_sub(gate.began)));
    let mut buffer = [0u8; 4096];
    // It is another program's, which a package may have taken over: both its length and its time
    // have a bound.
    while answer.len() <= admission::MAX_ANSWER_BYTES {
        gate.pet();
        match channel::read(output, &mut buffer) {
            Ok(Some(0)) => return answer,
            Ok(Some(length)) => {
                answer.extend_from_slice(buffer.get(..length).unwrap_or_default());
            }
            Ok(None) => {
                let left = deadline.saturating_sub(monotonic_ms());
                let mut poll = Poll::new();
                poll.add(output);
                if left == 0 || poll.wait(left.min(PET_EVERY_MS)).is_err() {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    Vec::new()
}
