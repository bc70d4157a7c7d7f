//! A device of a catalog: its image, its machine, the repositories that it believes, and the service that it checks in with.

use super::installation::{HOST, Installation};
use crate::harness::artefacts::Artefacts;
use crate::harness::guest::{ANSWER, BOOT};
use crate::harness::packages::with_files_of;
use crate::harness::scratch::Scratch;
use crate::network::world::usual_world;
use crate::update::scene::Scene;
use anyhow::{Context, Result, ensure};
use holdfast_evidence::config::{IDENTITY_FILE, IdentityConfig, SERVICE_FILE, ServiceConfig};
use holdfast_images::root::Root;
use holdfast_images::variant;
use holdfast_qemu::machine::{Guest, Machine, Network};
use holdfast_qemu::peer::Answer;
use holdfast_qemu::relay::relay_command;
use holdfast_qemu::tpm::Tpm;
use holdfast_release::RepositoryName;
use holdfast_release::config::{UPLINK_FILE, UplinkConfig};
use holdfast_repository::{Released, of_image};
use holdfast_sandbox::app_manifest::FILE_NAME;
use holdfast_types::ComponentId;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

/// The component id of tests/apps/authenticating.
const AUTHENTICATING: &str = "8f1b6a52-1c0e-4f35-9a57-5a0f3b0d8a09";
/// Where the service and the update server are.
const SERVICE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 90);
const UPDATES: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
/// The port of devices, as the image names it.
const PORT: u16 = 8443;
/// Memory of the machine, as the image names it.
pub(crate) const MEMORY_MIB: u32 = 96;
/// A device checks in within a minute of its boot, and of its network's.
pub(crate) const CHECK_IN: Duration = Duration::from_secs(150);
/// The log line of a check-in with nothing held against the device: its own certificate, and an app's.
pub(crate) const FULL: &str =
    "identity: checked in: Full, 2 certificates event=identity_checked_in";
/// The log line of a check-in with nothing held against the device: its own certificate, and those of two apps.
pub(crate) const FULL_WITH_TWO_APPS: &str =
    "identity: checked in: Full, 3 certificates event=identity_checked_in";
/// What is plugged into a machine.
pub(crate) const TPM: bool = true;
pub(crate) const NO_TPM: bool = false;

/// What is around a device.
pub(crate) struct World {
    /// Its repositories.
    pub(crate) scene: Scene,
    pub(crate) service: Installation,
}

pub(crate) fn authenticating() -> Result<ComponentId> {
    ComponentId::parse(AUTHENTICATING).context("no component id")
}

/// Changes an app's manifest.
pub(crate) fn edit_manifest(
    files: &mut Root,
    change: impl FnOnce(&mut Value) -> Result<()>,
) -> Result<()> {
    let found = files.files().find(|(path, ..)| *path == FILE_NAME);
    let mut manifest: Value = serde_json::from_slice(found.context("no manifest")?.1)?;
    change(&mut manifest)?;
    files.add(FILE_NAME, manifest.to_string().into_bytes(), false);
    Ok(())
}

/// A copy of an image in which the files of an app are changed.
pub(crate) fn with_app(
    image: &Path,
    app: ComponentId,
    change: impl FnOnce(&mut Root) -> Result<()>,
) -> Result<Scratch> {
    let mut changed = Ok(());
    let scratch = with_files_of(image, app, |files| changed = change(files))?;
    changed?;
    Ok(scratch)
}

/// Puts a configuration in the place of the one that a service of the image has.
pub(crate) fn replace_configuration(
    root: &mut Root,
    service: &str,
    file: &str,
    encoded: Vec<u8>,
) -> Result<()> {
    let path = format!("usr/lib/holdfast/services/{service}/{file}");
    ensure!(root.files().any(|(found, ..)| found == path), "the image has no {path}");
    root.add(path, encoded, false);
    Ok(())
}

impl World {
    /// The world of devices with the image that has `authenticating`.
    pub(crate) fn new(artefacts: &Artefacts) -> Result<Self> {
        Self::of(artefacts, "service")
    }

    /// The world of devices with an image, whose manifest must have `[service]`.
    pub(crate) fn of(artefacts: &Artefacts, image: &'static str) -> Result<Self> {
        Self::with_service(artefacts, image, Installation::start()?)
    }

    /// The same with a service that runs already.
    pub(crate) fn with_service(
        artefacts: &Artefacts,
        image: &'static str,
        service: Installation,
    ) -> Result<Self> {
        let scene = Scene::new(artefacts)?.on(image);
        Ok(Self { scene, service })
    }

    /// Puts this service and its catalog in the place of those that a root names.
    pub(crate) fn configure(&self, root: &mut Root) -> Result<()> {
        let Installation { catalog, root: catalog_root, authorities, .. } = &self.service;
        let identity =
            IdentityConfig { catalog: *catalog, catalog_root: catalog_root.clone(), epoch: 0 };
        let service = ServiceConfig {
            host: HOST.to_owned(),
            port: PORT,
            authorities: authorities.clone(),
            reports: true,
        };
        for (service, file, encoded) in [
            ("identity", IDENTITY_FILE, identity.encode()?),
            ("uplink", SERVICE_FILE, service.encode()?),
        ] {
            replace_configuration(root, service, file, encoded)?;
        }
        Ok(())
    }

    /// Has a device take releases of the OS from the service, in the place of the update server.
    pub(crate) fn update_from_service(&self, root: &mut Root) -> Result<()> {
        let path = format!("usr/lib/holdfast/services/uplink/{UPLINK_FILE}");
        let found = root.files().find(|(found, ..)| *found == path);
        let mut config = UplinkConfig::decode(found.context("no configuration of uplink")?.1)?;
        let Installation { catalog, authorities, .. } = &self.service;
        let mut servers = config.servers.iter_mut();
        let (_, server) = servers
            .find(|(name, _)| *name == RepositoryName::Os)
            .context("the image has no server of the OS")?;
        *server = format!("https://{HOST}:{PORT}/repositories/{catalog}/os");
        config.authorities.extend(authorities.iter().cloned());
        replace_configuration(root, "uplink", UPLINK_FILE, config.encode()?)
    }

    /// Lets an app authenticate for the catalog.
    pub(crate) fn grant(&self, files: &mut Root) -> Result<()> {
        edit_manifest(files, |manifest| {
            let granted = manifest.pointer_mut("/Capabilities").and_then(Value::as_object_mut);
            let catalog = json!(self.service.catalog.to_string());
            granted.context("no grants")?.insert("DeviceAuthentication".to_owned(), catalog);
            Ok(())
        })
    }

    /// The image of a device of the catalog, whose app authenticates; `change` is made to its root.
    pub(crate) fn image(&self, change: impl FnOnce(&mut Root) -> Result<()>) -> Result<Scratch> {
        let path = self.scene.path("device.img");
        let mut changed = Ok(());
        variant::with_root(&self.scene.image(), &path, &self.scene.artefacts.signer()?, |root| {
            changed = self.configure(root).and_then(|()| change(root));
        })?;
        changed?;
        with_app(&path, authenticating()?, |files| self.grant(files))
    }

    /// The machine of a device, which reaches the service by its name.
    pub(crate) fn machine(&self, image: &Path, has_tpm: bool) -> Result<Machine> {
        let servers = vec![
            (SocketAddrV4::new(UPDATES, 443), relay_command(self.scene.server.port)?),
            (SocketAddrV4::new(SERVICE, PORT), relay_command(self.service.devices)?),
        ];
        // Names, and everything else of a network.
        let mut world = usual_world();
        world.names.push((HOST.to_owned(), Answer::of(&[&SERVICE.to_string()])));
        let networks =
            vec![Network::Servers { forwards: Vec::new(), servers }, Network::Peer(world)];
        let tpm = has_tpm.then(Tpm::default);
        Ok(Machine { networks, tpm, ..Machine::new(image, MEMORY_MIB) })
    }

    /// Has the service know what an image runs.
    pub(crate) fn add_release(&self, image: &Path) -> Result<Released> {
        let released = of_image(image)?;
        self.service.add_release(&released)?;
        Ok(released)
    }

    /// Claims a device that has just started, and has it check in.
    pub(crate) fn claim(&self, guest: &mut Guest, keys: &str, grade: &str) -> Result<String> {
        let device = device_id(guest, keys)?;
        self.service.claim(&device, grade)?;
        check_in_again(guest)?;
        Ok(device)
    }
}

/// Waits until a device says its id, and returns it.
pub(crate) fn device_id(guest: &mut Guest, keys: &str) -> Result<String> {
    let line = format!("identity: device [0-9a-f]{{64}}, keys in {keys} event=identity_started");
    let said = guest.wait(&line, BOOT)?;
    let id = said.split(' ').nth(2).and_then(|word| word.strip_suffix(','));
    Ok(id.context("no id")?.to_owned())
}

/// Has a device check in within a minute, and not at the second that the service has picked.
pub(crate) fn check_in_again(guest: &mut Guest) -> Result<()> {
    let reply = guest.probe.ask("restart uplink", BOOT)?;
    ensure!(reply.contains("Accepted"), "init says {reply}");
    Ok(())
}

/// A field of a component's status.
pub(crate) fn status(guest: &mut Guest, component: &str, field: &str) -> Result<u64> {
    let status = guest.probe.ask("status", ANSWER)?;
    let line = status.lines().find(|line| line.contains(&format!("name={component} ")));
    let value = line.and_then(|line| line.split(&format!("{field}=")).nth(1));
    let value = value.and_then(|rest| rest.split(' ').next()).with_context(|| status.clone())?;
    Ok(value.parse()?)
}
