//! What `identity` asks init for: what is attested, and what it is attested with.

use super::Supervision;
use super::requests::Answer;
use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::{PathError, file, tpm};
use holdfast_sandbox::wire::{AuthenticatingApp, ClaimedApp, DeviceClaims, Reply};
use holdfast_types::ComponentId;
use holdfast_types::event::init as event;
use std::path::Path;

/// The kernel's random id of this boot, a GUID (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Bytes of a GUID's text and a line's end.
const BOOT_ID_BYTES: usize = 37;

/// A boot id that cannot be had.
#[derive(Debug, thiserror::Error)]
enum BootIdError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("{BOOT_ID} has no GUID")]
    NoGuid,
}

impl Supervision<'_> {
    /// What init knows of the device. It says no more of an app than what its signed package does.
    pub(super) fn claims(&self) -> Reply {
        let boot_id = match boot_id() {
            Ok(boot_id) => boot_id,
            Err(error) => {
                let what = "cannot read the boot's id";
                self.log.failure(event::BOOT_ID_READ_FAILED, what, &error);
                return Reply::Failed;
            }
        };
        let apps = self.components.iter().filter_map(|supervised| {
            let header = &supervised.component.package.as_ref()?.header;
            Some(ClaimedApp {
                id: header.component_id,
                version: header.version,
                rollback_index: header.rollback_index,
                root_hash: header.root_hash,
                catalog: supervised.component.plan.catalog,
            })
        });
        Reply::Claims(DeviceClaims {
            boot_id,
            image: self.image.name.clone(),
            board: self.image.board.clone(),
            version: self.image.version,
            rollback_index: self.slots.rollback_index(),
            slot: self.slots.running(),
            phase: self.slots.phase(),
            apps: apps.collect(),
            is_debugged: self.image.debugged.is_some(),
            clock: self.clock.status(monotonic_ms()).source,
            last_reset: self.slots.last_reset().word().to_owned(),
            kernel_fault: self.slots.kernel_fault(),
            has_tpm: self.image.has_tpm,
        })
    }

    /// The TPM's device, for whoever attests by it. One that is not there is not waited for: the system runs without.
    pub(super) fn tpm(&self) -> Answer {
        if !self.image.has_tpm {
            return (Reply::NotFound, Vec::new());
        }
        match tpm::open_device() {
            Ok(device) => (Reply::Accepted, vec![device]),
            Err(error) => {
                let what = "cannot open the TPM";
                self.log.failure(event::TPM_OPEN_FAILED, what, &error);
                (Reply::Failed, Vec::new())
            }
        }
    }

    /// The apps that authenticate as parts of the device, and the sockets at which they call.
    pub(super) fn authenticating(&self) -> Answer {
        let (mut apps, mut sockets) = (Vec::new(), Vec::new());
        for supervised in &self.components {
            let (Some(socket), Some(package)) =
                (&supervised.identity, &supervised.component.package)
            else {
                continue;
            };
            let name = &supervised.component.name;
            match socket.descriptor() {
                Ok(socket) => {
                    let id = package.header.component_id;
                    apps.push(AuthenticatingApp { name: name.clone(), id });
                    sockets.push(socket);
                }
                Err(error) => {
                    let what = format!("cannot hand over the identity socket of {name}");
                    self.log.failure(event::IDENTITY_SOCKET_FAILED, &what, &error);
                }
            }
        }
        (Reply::Authenticating(apps), sockets)
    }
}

fn boot_id() -> Result<[u8; 16], BootIdError> {
    let bytes = file::read_bounded(Path::new(BOOT_ID), BOOT_ID_BYTES)?.unwrap_or_default();
    let text = std::str::from_utf8(&bytes).map_err(|_| BootIdError::NoGuid)?;
    let id = ComponentId::parse(text.trim_end()).ok_or(BootIdError::NoGuid)?;
    Ok(id.0)
}
