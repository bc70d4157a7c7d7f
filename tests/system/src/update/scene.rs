//! A device, the two repositories that it believes, and the server that has them: with the real agents, over TLS.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::BOOT;
use crate::harness::packages::{hello, package_of, repacked};
use anyhow::{Context, Result};
use holdfast_images::key::PrivateKey;
use holdfast_images::root::{self, Root};
use holdfast_images::{show, variant};
use holdfast_lifecycle::slots::Status;
use holdfast_qemu::machine::{Guest, Machine, Network};
use holdfast_qemu::relay::relay_command;
use holdfast_qemu::web_server::{self, Authority, WebAnswer, WebRequest, WebServer};
use holdfast_release::Target;
use holdfast_release::config::{UPDATE_FILE, UpdateConfig};
use holdfast_release::metadata::Role;
use holdfast_repository::{Lifetimes, Released, Repository, Roles, of_image, of_package};
use holdfast_sandbox::component::{self, ComponentList};
use holdfast_sandbox::package::Header;
use holdfast_types::Version;
use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// Time for the agents to look again and to write a release, on this host's clock.
pub(crate) const WAIT: Duration = Duration::from_secs(120);
/// Where the image's update server is.
const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
/// The update agent's directory in a slot's root.
pub(crate) const AGENT: &str = "usr/lib/holdfast/services/update";
pub(crate) const DAY_S: u64 = 86_400;
/// Storage that releases of the app ask for: as good as all of the partition.
const STORAGE_KIB: u32 = 10 * 1024;

/// What a server makes of the answer that it should give.
type Lie = Box<dyn Fn(&WebRequest, WebAnswer) -> WebAnswer + Send>;

/// A device's world: two repositories, and the server that has them.
pub(crate) struct Scene {
    pub(crate) artefacts: Artefacts,
    directory: TempDir,
    pub(crate) server: WebServer,
    lie: Arc<Mutex<Lie>>,
    /// Of the device.
    image: &'static str,
    /// Signs for every role.
    pub(crate) key: PrivateKey,
}

/// Seconds since 1970.
pub(crate) fn now() -> Result<u64> {
    Ok(std::time::UNIX_EPOCH.elapsed()?.as_secs())
}

impl Scene {
    /// Repositories that offer nothing, and a server that tells the truth.
    pub(crate) fn new(artefacts: &Artefacts) -> Result<Self> {
        let read = |name: &str| {
            let path = artefacts.keys.join(name);
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let authority = Authority::from_pem(&read("authority.pub.pem")?, &read("authority.pem")?)?;
        Self::with_authority(artefacts, &authority)
    }

    /// The same, where somebody else vouches for the server.
    pub(crate) fn with_authority(artefacts: &Artefacts, authority: &Authority) -> Result<Self> {
        let key = PrivateKey::load(&artefacts.keys.join("release.pem"))?;
        let directory = tempfile::tempdir()?;
        let lie: Arc<Mutex<Lie>> = Arc::new(Mutex::new(Box::new(|_, answer| answer)));
        let (served, lies) = (directory.path().to_owned(), Arc::clone(&lie));
        let server =
            WebServer::start(authority.certify(&[&SERVER.to_string()])?, 0, move |asked| {
                let truth = web_server::file_below(&served, asked);
                lies.lock().unwrap_or_else(PoisonError::into_inner)(asked, truth)
            })?;
        let image = "update";
        let scene = Self { artefacts: artefacts.clone(), directory, server, lie, image, key };
        for name in ["os", "oem"] {
            let roles = Role::ALL.map(|role| (role, (vec![scene.key.public()], 1)));
            let mut root =
                Repository::first_root(&Roles { keys: roles.into() }, 400 * DAY_S, now()?)?;
            root.sign(&scene.key);
            Repository::create(&scene.repository(name), &root)?;
            scene.publish(name, &[])?;
        }
        Ok(scene)
    }

    /// The same for a device with another image.
    pub(crate) fn on(self, image: &'static str) -> Self {
        Self { image, ..self }
    }

    /// A place for a file of the test's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn repository(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Offers these releases of a repository and no others.
    pub(crate) fn publish(&self, name: &str, releases: &[Released]) -> Result<()> {
        self.publish_at(name, releases, now()?)
    }

    /// Offers one more, as the host tool does: with the delta from the one that it takes the place of.
    pub(crate) fn publish_next(&self, name: &str, next: &Released) -> Result<Option<u64>> {
        let mut repository = Repository::open(&self.repository(name))?;
        let mut files = repository.targets();
        let delta = repository.add_release(&mut files, next)?;
        self.publish_files(&mut repository, files, now()?)?;
        Ok(delta)
    }

    /// Offers these files and no others.
    pub(crate) fn publish_files(
        &self,
        repository: &mut Repository,
        files: BTreeMap<String, Target>,
        at: u64,
    ) -> Result<()> {
        let mut draft = repository.next_targets(files, 100 * DAY_S, at)?;
        draft.sign(&self.key);
        repository.publish(&draft, std::slice::from_ref(&self.key), Lifetimes::default(), at)?;
        Ok(())
    }

    /// As [`publish`](Self::publish), as if it were another time.
    pub(crate) fn publish_at(&self, name: &str, releases: &[Released], at: u64) -> Result<()> {
        let mut repository = Repository::open(&self.repository(name))?;
        let mut files = BTreeMap::new();
        for Released { path, bytes, release } in releases {
            files.insert(path.clone(), repository.add_file(path, bytes, release.clone())?);
        }
        self.publish_files(&mut repository, files, at)
    }

    /// From now on, the server answers so.
    pub(crate) fn lie(&self, lie: impl Fn(&WebRequest, WebAnswer) -> WebAnswer + Send + 'static) {
        *self.lie.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(lie);
    }

    pub(crate) fn tell_the_truth(&self) {
        self.lie(|_, answer| answer);
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.artefacts.image(self.image)
    }

    /// The machine of a device.
    pub(crate) fn machine(&self, image: &Path) -> Result<Machine> {
        let servers = vec![(SocketAddrV4::new(SERVER, 443), relay_command(self.server.port)?)];
        let networks = vec![Network::Servers { forwards: Vec::new(), servers }];
        Ok(Machine { networks, ..Machine::new(image, 64) })
    }

    /// The image that a release of the OS was made from.
    pub(crate) fn built(&self, version: &str) -> PathBuf {
        self.directory.path().join(format!("{version}.img"))
    }

    /// A release of the OS: the image with another version, rollback index and whatever else is changed.
    pub(crate) fn os(
        &self,
        version: &str,
        rollback_index: u32,
        change: impl FnOnce(&mut Root, &mut ComponentList) -> Result<()>,
    ) -> Result<Released> {
        let image = self.image();
        let data = show::read_root(&image)?;
        let number: Version = version.parse()?;
        let mut list = ComponentList::decode(&root::read_file(&data, component::PATH)?)?;
        list.image.version = number;
        let config = format!("{AGENT}/{UPDATE_FILE}");
        let mut agent = UpdateConfig::decode(&root::read_file(&data, &format!("/{config}"))?)?;
        agent.device.os = number;
        let path = self.built(version);
        let mut changed: Result<()> = Ok(());
        variant::with_release(&image, &path, &self.artefacts.signer()?, rollback_index, |root| {
            changed = (|| {
                change(root, &mut list)?;
                root.add(component::PATH.trim_start_matches('/'), list.encode()?, false);
                root.add(config, agent.encode()?, false);
                Ok(())
            })();
        })?;
        changed?;
        Ok(of_image(&path)?)
    }

    /// A release of the app hello.
    pub(crate) fn app(
        &self,
        version: &str,
        rollback_index: u64,
        change: impl FnOnce(&mut Root),
    ) -> Result<Released> {
        let package = package_of(&self.image(), hello()?)?;
        let mut header = Header::parse(&package, u64::try_from(package.len())?)?;
        (header.version, header.rollback_index) = (version.parse()?, rollback_index);
        let manifest = serde_json::json!({
            "SchemaVersion": 1, "Name": "hello", "ComponentId": hello()?.to_string(),
            "EntryPoint": "/bin/app", "CmdArgs": [],
            "Capabilities": { "MutableStorage": { "SizeKB": STORAGE_KIB } },
            "Holdfast": {
                "Version": version, "RollbackIndex": rollback_index,
                // What fills its storage fails at once, and not when it has been well for long enough.
                "Limits": { "WriteKiBPerSecond": 65536, "WritesPerSecond": 16384 },
            },
        });
        let bytes = repacked(&package, header, |files| {
            files.add("app_manifest.json", manifest.to_string().into_bytes(), false);
            change(files);
        })?;
        let path = self.directory.path().join(format!("{version}.package"));
        fs::write(&path, bytes)?;
        Ok(of_package(&path)?)
    }

    /// Waits until init says how the slots are, behind what was waited for.
    pub(crate) fn committed(guest: &mut Guest) -> Result<Status> {
        guest.wait(r"init: slot [ab] committed event=slot_committed\n", WAIT)?;
        guest.wait("init: status: .*\n", BOOT)?;
        Ok(Status::last_in(&guest.console.text())?)
    }
}

/// The same with a kernel of which no device has anything: all of it is fetched. None could start it.
pub(crate) fn with_foreign_kernel(mut release: Released) -> Result<Released> {
    let kernel = usize::try_from(release.release.boot_bytes)?;
    let kernel = release.bytes.get_mut(..kernel).context("too short")?;
    kernel.iter_mut().for_each(|byte| *byte ^= 0x55);
    release.name_kernel()?;
    Ok(release)
}

/// What no clock of the device shows less than, in seconds since 1970.
pub(crate) fn floor_of_clock(guest: &mut Guest) -> Result<u64> {
    let clock = guest.probe.ask("clock", WAIT)?;
    let floor = clock.split("floor: ").nth(1).and_then(|rest| rest.split(',').next());
    Ok(floor.with_context(|| clock.clone())?.trim().parse()?)
}
