//! Images of devices of a catalog with the examples that authenticate.

use super::world::{World, with_app};
use crate::harness::artefacts::Artefacts;
use crate::harness::scratch::Scratch;
use anyhow::{Context, Result};
use holdfast_images::root::Root;
use holdfast_images::variant;
use holdfast_types::ComponentId;

/// The image with the examples.
const IMAGE: &str = "identity-apps";
/// The component id of examples/mqtt.
pub(super) const MQTT: &str = "8f1b6a52-1c0e-4f35-9a57-5a0f3b0d8a06";
/// The component id of examples/device-to-device.
pub(super) const DEVICE_TO_DEVICE: &str = "8f1b6a52-1c0e-4f35-9a57-5a0f3b0d8a07";

/// The world of devices with the image.
pub(super) fn world(artefacts: &Artefacts) -> Result<World> {
    World::of(artefacts, IMAGE)
}

/// The image of a device of the catalog whose release has this rollback index, and both of whose apps authenticate. `change_root`
/// changes its root, and `change_app` the files of one app.
pub(super) fn image(
    world: &World,
    rollback_index: u32,
    change_root: impl FnOnce(&mut Root) -> Result<()>,
    app: &str,
    change_app: impl FnOnce(&mut Root) -> Result<()>,
) -> Result<Scratch> {
    let component = |id: &str| ComponentId::parse(id).context("no component id");
    let directory = tempfile::tempdir()?;
    // A guest's console has its file's name from this.
    let path = directory.path().join("device.img");
    let signer = world.scene.artefacts.signer()?;
    let mut changed = Ok(());
    variant::with_release(&world.scene.image(), &path, &signer, rollback_index, |root| {
        changed = world.configure(root).and_then(|()| change_root(root));
    })?;
    changed?;
    let other = if app == MQTT { DEVICE_TO_DEVICE } else { MQTT };
    let granted = with_app(&path, component(other)?, |files| world.grant(files))?;
    with_app(granted.path(), component(app)?, |files| {
        world.grant(files)?;
        change_app(files)
    })
}
