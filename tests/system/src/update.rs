//! Releases, from the host tool's repository to a device that takes them by itself: with the real agents,
//! over TLS, from a server on this host.

use crate::Artefacts;
use crate::boot::BOOT;
use crate::packages::{debugfs, hello, package_of, repacked, with_files_of};
use crate::scratch::Scratch;
use crate::suite::{Needs, Suite};
use anyhow::{Context, Result, ensure};
use holdfast_images::disk::{Layout, SECTOR_BYTES};
use holdfast_images::key::PrivateKey;
use holdfast_images::root::{self, Root};
use holdfast_images::{show, variant};
use holdfast_lifecycle::slots::{Phase, Slot, SlotState, Status};
use holdfast_qemu::machine::{Guest, Machine, Network};
use holdfast_qemu::relay::relay_command;
use holdfast_qemu::web_server::{self, Authority, WebAnswer, WebRequest, WebServer};
use holdfast_release::config::{UPDATE_FILE, UPLINK_FILE, UpdateConfig, UplinkConfig};
use holdfast_release::metadata::Role;
use holdfast_release::{Repository as Name, Target};
use holdfast_repository::{Lifetimes, Released, Repository, Roles, of_image, of_package};
use holdfast_sandbox::component::{self, ComponentList};
use holdfast_sandbox::package::Header;
use holdfast_types::ComponentId;
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
const DAY_S: u64 = 86_400;
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
        guest.wait(r"init: slot [ab] committed\n", WAIT)?;
        guest.wait("init: status: .*\n", BOOT)?;
        Ok(Status::last_in(&guest.console.text())?)
    }
}

pub(crate) fn run<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    suite.sequence(
        move || Life::begin(artefacts),
        &[
            ("a_device_takes_a_release_by_itself", takes_a_release),
            ("a_release_raises_the_floor_and_the_clocks_floor", floors_rise),
            ("an_app_is_updated_apart_from_the_os", updates_an_app),
            ("an_app_that_crashes_gives_way_to_its_former_package", app_falls_back),
            ("a_device_follows_a_rotation_of_all_keys", follows_a_rotation),
            ("releases_of_the_os_and_of_an_app_are_taken_one_after_the_other", takes_two),
        ],
    );
    suite
        .with(Needs::Peer)
        .check("a_release_that_crashes_falls_back_and_is_not_taken_again", move || {
            crashes(artefacts)
        });
    suite
        .with(Needs::Peer)
        .check("a_release_that_cannot_reach_the_service_falls_back", move || {
            unreachable(artefacts)
        });
    suite
        .with(Needs::Peer)
        .check("a_release_that_fills_the_disk_falls_back", move || fills_the_disk(artefacts));
    suite.check("an_app_puts_a_reboot_off_until_its_work_is_done", move || deferred(artefacts));
    suite.check("an_app_that_floods_the_update_agent_stops_no_update", move || flooded(artefacts));
    suite.check("a_release_on_a_card_is_verified_and_taken", move || from_a_card(artefacts));
    suite.check("a_write_that_the_medium_loses_is_noticed_before_the_reboot", move || {
        lost_write(artefacts)
    });
}

/// A device over several releases.
struct Life {
    scene: Scene,
    guest: Guest,
}

impl Life {
    fn begin(artefacts: &Artefacts) -> Result<Self> {
        let scene = Scene::new(artefacts)?;
        let mut guest = scene.machine(&scene.image())?.start(None)?;
        guest.wait("update: oem: nothing new", BOOT)?;
        guest.wait_anywhere("init: slot a committed", WAIT)?;
        Ok(Self { scene, guest })
    }
}

fn takes_a_release(life: &mut Life) -> Result<()> {
    let release = life.scene.os("0.2.0", 1, |_, _| Ok(()))?;
    let hash = release.release.root_hash.clone();
    life.scene.publish("os", &[release])?;
    life.guest.wait("update: os: fetching release 0.2.0, [0-9]+ bytes", WAIT)?;
    life.guest.wait("init: status: slot=a phase=committed next=a tries_a=3 tries_b=0 ", WAIT)?;
    life.guest.wait("init: status: slot=a phase=staged next=b ", WAIT)?;
    life.guest.wait("update: os: release 0.2.0 is staged", WAIT)?;
    life.guest.wait("init: rebooting", WAIT)?;
    life.guest.wait("init: image update 0.2.0 for ", BOOT)?;
    life.guest.wait("init: status: slot=b phase=trying next=b ", BOOT)?;
    let status = Scene::committed(&mut life.guest)?;
    ensure!((status.slot, status.phase) == (Slot::B, Phase::Committed), "{status:?}");
    ensure!(status.version == "0.2.0", "{status:?}");
    life.guest.wait("update: os: the new release is good", WAIT)?;
    let line = life.guest.probe.ask("read /proc/cmdline", WAIT)?;
    ensure!(line.contains(&hash), "{hash} does not run: {line}");
    Ok(())
}

/// What lies in the other slot is below the floor now, and is not booted again.
fn floors_rise(life: &mut Life) -> Result<()> {
    let status = Status::last_in(&life.guest.console.text())?;
    ensure!((status.rollback_index, status.floor) == (1, 1), "{status:?}");
    let unbootable = SlotState { tries: 0, good: false };
    ensure!(status.boot_state.is_some_and(|state| state.a == unbootable), "{status:?}");
    let floor = floor_of_clock(&mut life.guest)?;
    // The targets were signed a moment ago, long after the image was built.
    let (at, latest) = (now()?, now()?.saturating_sub(floor));
    ensure!(floor <= at && latest < 3600, "the floor of the clock is {floor}, at {at}");
    Ok(())
}

/// The same with a kernel of which no device has anything: all of it is fetched. None could start it.
pub(crate) fn with_foreign_kernel(mut release: Released) -> Result<Released> {
    let kernel = usize::try_from(release.release.boot_bytes)?;
    let kernel = release.bytes.get_mut(..kernel).context("too short")?;
    kernel.iter_mut().for_each(|byte| *byte ^= 0x55);
    release.name_chunks()?;
    Ok(release)
}

/// What no clock of the device shows less than, in seconds since 1970.
pub(crate) fn floor_of_clock(guest: &mut Guest) -> Result<u64> {
    let clock = guest.probe.ask("clock", WAIT)?;
    let floor = clock.split("floor: ").nth(1).and_then(|rest| rest.split(',').next());
    Ok(floor.with_context(|| clock.clone())?.trim().parse()?)
}

fn updates_an_app(life: &mut Life) -> Result<()> {
    let release = life.scene.app("1.1.0", 2, |_| {})?;
    life.scene.publish("oem", &[release])?;
    life.guest.wait("release 1.1.0 is staged", WAIT)?;
    life.guest.wait("init: hello: package 1.1.0, rollback index 2, uid 1001, on trial", BOOT)?;
    life.guest.wait(r"init: slot [ab] committed", WAIT)?;
    life.guest.wait("init: hello: its new package is committed", WAIT)?;
    life.guest.wait("the new release is good", WAIT)?;
    let files = life.guest.probe.ask("list /apps", WAIT)?;
    let id = hello()?;
    for name in [format!("{id}.package"), format!("{id}.previous")] {
        ensure!(files.contains(&name), "no {name} in {files}");
    }
    ensure!(!files.contains("trial") && !files.contains("unfinished"), "{files}");
    Ok(())
}

fn app_falls_back(life: &mut Life) -> Result<()> {
    let program = fs::read(life.scene.artefacts.programs.join("crash-loop"))?;
    let release = life.scene.app("1.2.0", 3, |files| files.add("bin/app", program, true))?;
    life.scene.publish("oem", &[release])?;
    life.guest.wait("release 1.2.0 is staged", WAIT)?;
    life.guest.wait("init: hello: package 1.2.0, rollback index 3, uid 1001, on trial", BOOT)?;
    life.guest.wait("init: not healthy: hello does not stay ready", WAIT)?;
    life.guest.wait("init: hello: its new package is given up", WAIT)?;
    // Index 2 is not below the floor: 3 was never committed.
    life.guest.wait(r"init: hello: package [01]\.1\.0, rollback index [02], uid 1001\n", BOOT)?;
    life.guest.wait("the new release has failed and is not tried again", WAIT)?;
    life.guest.wait("update: oem: nothing new in version [0-9]+", WAIT)?;
    Ok(())
}

fn follows_a_rotation(life: &mut Life) -> Result<()> {
    let before = life.scene.key.clone();
    let after = PrivateKey::from_secret(&[68; 32], true);
    let roles = Role::ALL.map(|role| (role, (vec![after.public()], 1)));
    for name in ["os", "oem"] {
        let mut repository = Repository::open(&life.scene.repository(name))?;
        let keys = Roles { keys: roles.clone().into() };
        let mut root = repository.next_root(&keys, 400 * DAY_S, now()?)?;
        root.sign(&before);
        root.sign(&after);
        repository.rotate(&root, std::slice::from_ref(&after), Lifetimes::default(), now()?)?;
    }
    life.scene.key = after;
    let release = life.scene.os("0.4.0", 1, |_, _| Ok(()))?;
    life.scene.publish("os", &[release])?;
    life.guest.wait("update: os: release 0.4.0 is staged", WAIT)?;
    life.guest.wait("init: image update 0.4.0 for ", BOOT)?;
    life.guest.wait("update: os: the new release is good", WAIT)?;
    Ok(())
}

fn takes_two(life: &mut Life) -> Result<()> {
    let (os, app) =
        (life.scene.os("0.5.0", 2, |_, _| Ok(()))?, life.scene.app("1.3.0", 4, |_| {})?);
    life.scene.publish("oem", &[app])?;
    life.scene.publish("os", &[os])?;
    // Which comes first is left to the moment of the looks; each is tried alone.
    for _ in 0..2 {
        life.guest.wait("is staged\n", WAIT)?;
        life.guest.wait("init: rebooting", WAIT)?;
        life.guest.wait(r"init: slot [ab] committed", BOOT)?;
        life.guest.wait("the new release is good", WAIT)?;
    }
    life.guest.wait("update: os: nothing new", WAIT)?;
    life.guest.wait("update: oem: nothing new", WAIT)?;
    let text = life.guest.console.text();
    for line in ["init: hello: package 1.3.0, rollback index 4", "init: image update 0.5.0"] {
        ensure!(text.contains(line), "no `{line}`:\n{}", life.guest.console.tail());
    }
    Ok(())
}

/// A release that is taken, and fails three times for this reason. On the guest's own clock, since that takes
/// its time; then on the host's again, since servers do not keep up with the other.
fn falls_back(scene: &Scene, release: Released, why: &str, becomes: &str) -> Result<()> {
    scene.publish("os", &[release])?;
    let machine = scene.machine(&scene.image())?;
    let mut guest = machine.start(None)?;
    guest.wait("update: os: release 0.2.0 is staged", WAIT)?;
    guest.wait("init: rebooting", WAIT)?;
    let counted = Machine { counted: true, ..machine.clone() };
    let mut guest = counted.start_again(guest)?;
    for _ in 0..3 {
        guest.wait("init: image update 0.2.0 for ", BOOT)?;
        guest.wait(why, BOOT)?;
    }
    guest.wait("init: image update 0.1.0 for ", BOOT)?;
    guest.wait("init: slot a committed", BOOT)?;
    guest.wait_anywhere(becomes, BOOT)?;
    let mut guest = machine.start_again(guest)?;
    guest.wait("update: os: nothing new in version 2", BOOT)?;
    Ok(())
}

/// The network service ends as soon as it runs.
fn crashes(artefacts: &Artefacts) -> Result<()> {
    let scene = Scene::new(artefacts)?;
    let program = fs::read(artefacts.programs.join("crash-loop"))?;
    let release = scene.os("0.2.0", 1, |root, _| {
        root.add("usr/lib/holdfast/services/network/network", program, true);
        Ok(())
    })?;
    let becomes = "update: os: the new release has failed and is not tried again";
    falls_back(&scene, release, "init: not healthy: network does not stay ready", becomes)
}

/// An app that writes until nothing goes any more. The one before it runs again, and what others have stored is
/// there.
fn fills_the_disk(artefacts: &Artefacts) -> Result<()> {
    const KEPT: &str = "what somebody else has stored";
    let scene = Scene::new(artefacts)?;
    let scratch = Scratch::of(&scene.image())?;
    let note = scene.path("note");
    fs::write(&note, KEPT)?;
    debugfs(scratch.path(), "data", &format!("write {} note", note.display()))?;
    let program = fs::read(artefacts.programs.join("disk-filler"))?;
    let release = scene.app("1.1.0", 2, |files| files.add("bin/app", program, true))?;
    scene.publish("oem", &[release])?;
    let machine = scene.machine(scratch.path())?;
    let mut guest = machine.start(None)?;
    guest.wait("release 1.1.0 is staged", BOOT)?;
    guest.wait("init: rebooting", WAIT)?;
    let mut guest = Machine { counted: true, ..machine.clone() }.start_again(guest)?;
    guest.wait("hello: the disk is full: (No space left|Quota exceeded)", BOOT)?;
    guest.wait("init: not healthy: hello does not stay ready", BOOT)?;
    guest.wait("init: hello: its new package is given up", BOOT)?;
    guest.wait("init: hello: package 0.1.0, rollback index 0", BOOT)?;
    guest.wait_anywhere("the new release has failed and is not tried again", BOOT)?;
    ensure!(debugfs(&guest.disk(), "data", "cat note")?.contains(KEPT), "what was stored is lost");
    let mut guest = machine.start_again(guest)?;
    guest.wait("update: oem: nothing new in version 2", BOOT)?;
    Ok(())
}

/// Healthy in every other way: its `uplink` asks a server that its plan does not grant.
fn unreachable(artefacts: &Artefacts) -> Result<()> {
    let scene = Scene::new(artefacts)?;
    let path = format!("usr/lib/holdfast/services/uplink/{UPLINK_FILE}");
    let data = show::read_root(&scene.image())?;
    let mut config = UplinkConfig::decode(&root::read_file(&data, &format!("/{path}"))?)?;
    for (_, url) in &mut config.servers {
        *url = "https://203.0.113.81/os".to_owned();
    }
    let encoded = config.encode()?;
    let release = scene.os("0.2.0", 1, |root, _| {
        root.add(path, encoded, false);
        Ok(())
    })?;
    // Whoever drops packets does the same to any release: it waits, and is not failed for good.
    let becomes =
        "update: os: the new release did not reach the service, and is tried again in 60 minutes";
    falls_back(&scene, release, "init: not healthy: update does not agree to the release", becomes)
}

/// An app that asks for half an hour, and says after twenty seconds that it is done.
fn deferred(artefacts: &Artefacts) -> Result<()> {
    let scene = Scene { image: "deferral", ..Scene::new(artefacts)? };
    let release = scene.os("0.2.0", 1, |_, _| Ok(()))?;
    scene.publish("os", &[release])?;
    let mut guest = scene.machine(&scene.image())?.start(None)?;
    guest.wait("update: os: release 0.2.0 is staged", BOOT)?;
    guest.wait("update-deferral: version 0.2.0 of os waits for a reboot", WAIT)?;
    guest.wait("update-deferral: the work is done", WAIT)?;
    let text = guest.console.text();
    ensure!(text.contains("update: update-deferral puts the reboot off by 30 minutes"), "{text}");
    ensure!(!text.contains("init: rebooting"), "it was not put off: {}", guest.console.tail());
    guest.wait("init: rebooting", WAIT)?;
    guest.wait("init: image deferral 0.2.0 for ", BOOT)?;
    guest.wait("init: slot b committed", WAIT)?;
    Ok(())
}

/// The same app in an attacker's hand.
fn flooded(artefacts: &Artefacts) -> Result<()> {
    let scene = Scene { image: "deferral", ..Scene::new(artefacts)? };
    let id = ComponentId::parse("8f1b6a52-1c0e-4f35-9a57-5a0f3b0d8a05").context("no id")?;
    let program = fs::read(artefacts.programs.join("update-flood"))?;
    let scratch = with_files_of(&scene.image(), id, |files| files.add("bin/app", program, true))?;
    let mut guest = scene.machine(scratch.path())?.start(None)?;
    guest.wait("update-deferral: round 16", BOOT)?;
    let status = guest.probe.ask("status", WAIT)?;
    let line = status.lines().find(|line| line.contains("name=update ")).context("no agent")?;
    let peak = line.split("peak_kib=").nth(1).and_then(|rest| rest.split(' ').next());
    let peak: u32 = peak.context("no peak")?.parse()?;
    ensure!(peak < 4096, "the agent was made to use {peak} KiB");
    let release = scene.os("0.2.0", 1, |_, _| Ok(()))?;
    scene.publish("os", &[release])?;
    guest.wait("update: os: release 0.2.0 is staged", WAIT)?;
    // Ten seconds for what apps say, and no more.
    guest.wait("init: image deferral 0.2.0 for ", WAIT)?;
    guest.wait("init: slot b committed", WAIT)?;
    let text = guest.console.text();
    ensure!(!text.contains("update will be started again"), "the agent did not live through it");
    Ok(())
}

/// A sector in the middle of the other slot's root takes no write, and the card says nothing.
fn lost_write(artefacts: &Artefacts) -> Result<()> {
    const MIDDLE: u64 = 1 << 20;
    let scene = Scene::new(artefacts)?;
    let release = scene.os("0.2.0", 1, |_, _| Ok(()))?;
    let middle = usize::try_from(release.release.boot_bytes.saturating_add(MIDDLE))?;
    ensure!(release.bytes.get(middle..).is_some_and(|rest| rest.len() > 512), "too short");
    scene.publish("os", &[release])?;
    let layout = Layout::read(&mut fs::File::open(scene.image())?)?;
    let sector = layout.partition("root-b")?.start.saturating_add(MIDDLE) / SECTOR_BYTES;
    let machine = scene.machine(&scene.image())?;
    let mut guest = Machine { lost_sectors: vec![sector], ..machine }.start(None)?;
    guest.wait("the medium has something else than was released|cannot write root", BOOT)?;
    ensure!(!guest.console.text().contains("is staged"), "{}", guest.console.tail());
    Ok(())
}

/// No server answers; a card has the releases. The first one lies.
fn from_a_card(artefacts: &Artefacts) -> Result<()> {
    let scene = Scene::new(artefacts)?;
    let release = scene.os("0.2.0", 1, |_, _| Ok(()))?;
    scene.publish("os", &[release])?;
    scene.lie(|_, _| WebAnswer::Status(503));
    let card = scene.directory.path().join("card.img");
    let repositories = [Name::Os, Name::Oem].map(|name| (name, scene.repository(name.name())));
    holdfast_repository::bundle(&repositories, &card)?;
    // A card has a size that cards have.
    fs::File::options().write(true).open(&card)?.set_len(16 << 20)?;
    let changed = scene.directory.path().join("changed.img");
    let mut bytes = fs::read(&card)?;
    let last = bytes.iter().rposition(|byte| *byte != 0).context("empty")?;
    *bytes.get_mut(last).context("empty")? ^= 1;
    fs::write(&changed, bytes)?;

    let machine = scene.machine(&scene.image())?;
    let mut guest = Machine { card: Some(changed), ..machine.clone() }.start(None)?;
    guest.wait("update: a card with releases", BOOT)?;
    guest.wait("the hashes of its blocks that came are not those of its root hash", WAIT)?;
    let mut guest = Machine { card: Some(card), ..machine }.start_again(guest)?;
    guest.wait("update: os: release 0.2.0 is staged", BOOT)?;
    guest.wait("init: image update 0.2.0 for ", BOOT)?;
    // The release before did not reach the service either.
    guest.wait("init: slot b committed", WAIT)?;
    Ok(())
}
