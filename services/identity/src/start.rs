//! The start of the service: which keys the device has, and what it remembers.

use crate::device::{Device, World};
use crate::keys::Keys;
use crate::measured::{self, MeasureError};
use crate::software_keys::{MAX_KEY_BYTES, SoftwareKey, SoftwareKeyError, SoftwareKeys};
use crate::state::Enrolment;
use crate::tpm::{Cause, Tpm, TpmError};
use crate::tpm_keys::Endorsed;
use holdfast_evidence::config::IdentityConfig;
use holdfast_evidence::device_id::DeviceId;
use holdfast_evidence::policy::BootDigest;
use holdfast_evidence::service::Ring;
use holdfast_evidence::transfer::Chain;
use holdfast_linux::clock::realtime_seconds;
use holdfast_linux::direct::Direct;
use holdfast_linux::init_socket::{InitError, InitSocket};
use holdfast_linux::tpm::{ANSWER_WITHIN_MS, Tpm as TpmDevice};
use holdfast_linux::{PathError, file};
use holdfast_sandbox::policy::STATE_DIRECTORY;
use holdfast_sandbox::wire::{AuthenticatingApp, DeviceClaims, IdentityRequest, Reply};
use holdfast_types::chain;
use holdfast_types::event::Event;
use holdfast_types::event::identity as event;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// File with the key of a device without a TPM, PKCS #8.
const SOFTWARE_KEY: &str = "software-key";

/// Errors that leave the device without an identity.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Init(#[from] InitError),
    #[error("the board's TPM cannot be opened")]
    NoTpm,
    #[error(transparent)]
    Tpm(#[from] TpmError),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Key(#[from] SoftwareKeyError),
}

impl StartError {
    pub(crate) fn event(&self) -> Event {
        match self {
            Self::NoTpm | Self::Tpm(_) => event::IDENTITY_TPM_FAILED,
            Self::Init(_) | Self::Path(_) | Self::Key(_) => event::IDENTITY_KEY_FAILED,
        }
    }
}

/// The way to init, and what was learned by it.
#[derive(Debug)]
pub(crate) struct Init {
    pub(crate) socket: InitSocket<IdentityRequest>,
    /// Nobody writes the slot that runs: it is measured once.
    measured: Option<BootDigest>,
}

impl Init {
    pub(crate) fn new(socket: InitSocket<IdentityRequest>) -> Self {
        Self { socket, measured: None }
    }

    /// The apps that authenticate as parts of the device, with the sockets at which they call.
    pub(crate) fn apps(&mut self) -> Result<Vec<(AuthenticatingApp, OwnedFd)>, InitError> {
        match self.socket.ask(IdentityRequest::Listeners)? {
            (Reply::Authenticating(apps), sockets) if apps.len() == sockets.len() => {
                Ok(apps.into_iter().zip(sockets).collect())
            }
            (reply, _) => Err(InitError::refused(reply)),
        }
    }

    /// The TPM's descriptor; `None` for a board that has none.
    fn tpm(&mut self) -> Result<Option<OwnedFd>, StartError> {
        let (reply, handed) = self.socket.ask(IdentityRequest::Tpm)?;
        match (reply, handed.into_iter().next()) {
            (Reply::Accepted, Some(device)) => Ok(Some(device)),
            (Reply::NotFound, _) => Ok(None),
            (Reply::Failed, _) => Err(StartError::NoTpm),
            (reply, _) => Err(InitError::refused(reply).into()),
        }
    }
}

impl World for Init {
    fn claims(&mut self) -> Result<DeviceClaims, Cause> {
        match self.socket.ask(IdentityRequest::Claims)? {
            (Reply::Claims(claims), _) => Ok(claims),
            (reply, _) => Err(InitError::refused(reply).into()),
        }
    }

    fn boot_digest(&mut self) -> Result<BootDigest, Cause> {
        if let Some(measured) = self.measured {
            return Ok(measured);
        }
        let boot = self.socket.tell(IdentityRequest::RunningBoot)?;
        let boot = boot.ok_or(MeasureError::NoFit)?;
        let measured = measured::boot_digest(Direct::from_descriptor(boot, "boot"))?;
        self.measured = Some(measured);
        Ok(measured)
    }

    fn save(&mut self, enrolment: &Enrolment) -> Result<(), Cause> {
        Ok(file::replace(&in_state(Enrolment::FILE_NAME), &enrolment.encode()?)?)
    }

    fn save_owners(&mut self, vouchers: &Chain) -> Result<(), Cause> {
        Ok(file::replace(&in_state(Chain::FILE_NAME), &vouchers.encode()?)?)
    }

    fn now(&self) -> u64 {
        realtime_seconds()
    }

    fn log(&mut self, event: Event, text: &str) {
        println!("{text} {event}");
    }
}

fn in_state(name: &str) -> PathBuf {
    Path::new(STATE_DIRECTORY).join(name)
}

/// Begins with the keys of the board's grade: a TPM's where it has one, and those of software where it has none. The catalog is the
/// image's, or that of the last voucher which the device has followed.
pub(crate) fn begin(image: &IdentityConfig, init: &mut Init) -> Result<Device, StartError> {
    let remembered = enrolment(&in_state(Enrolment::FILE_NAME));
    let vouchers = vouchers(&in_state(Chain::FILE_NAME));
    match init.tpm()? {
        Some(device) => {
            let transport = TpmDevice::from_descriptor(device, ANSWER_WITHIN_MS);
            let tpm = Tpm::new(Box::new(transport));
            let endorsed = Endorsed::begin(tpm)?;
            let (config, vouchers) = owner(image, &vouchers, &endorsed.id());
            let keys = Keys::Tpm(endorsed.attesting(config.unique())?);
            Ok(Device::new(config, vouchers, keys, remembered))
        }
        None => {
            let keys = Keys::Software(software_keys(&in_state(SOFTWARE_KEY))?);
            let (config, vouchers) = owner(image, &vouchers, &keys.id());
            Ok(Device::new(config, vouchers, keys, remembered))
        }
    }
}

/// Roots that apps are told of while the device has no keys. Whether it has gone to another owner, only its id tells: where it may have,
/// they are told of none, rather than of one that is not its owner's any more.
pub(crate) fn anchors_without_keys(image: &IdentityConfig) -> Vec<Vec<u8>> {
    let has_followed = vouchers(&in_state(Chain::FILE_NAME)) != Chain::default();
    if has_followed { Vec::new() } else { vec![image.catalog_root.clone()] }
}

/// The catalog that the device belongs to, and the vouchers that have led there. One that leads on and is refused is said.
fn owner(image: &IdentityConfig, vouchers: &Chain, id: &DeviceId) -> (IdentityConfig, Chain) {
    let (owner, followed, refused) = vouchers.owner(image, id, &Ring);
    if let Some(error) = refused {
        let refused = event::IDENTITY_TRANSFER_REFUSED;
        let catalog = owner.catalog;
        println!("the device stays in catalog {catalog}: {} {refused}", chain(&error));
    }
    (owner, followed)
}

/// Reads the vouchers that the device has followed. Those that cannot be read are said: the device is the image's catalog's then.
fn vouchers(path: &Path) -> Chain {
    let lost = |why: String| {
        let failed = event::IDENTITY_STATE_READ_FAILED;
        println!("cannot read {}, going on without it: {why} {failed}", path.display());
        Chain::default()
    };
    match file::read_bounded(path, Chain::MAX_ENCODED_BYTES) {
        Ok(None) => Chain::default(),
        Ok(Some(bytes)) => Chain::decode(&bytes).unwrap_or_else(|error| lost(chain(&error))),
        Err(error) => lost(chain(&error)),
    }
}

/// Reads the key of a device without a TPM, or makes one, at its first start and where the file is damaged: the device is
/// another one then.
fn software_keys(path: &Path) -> Result<SoftwareKeys, StartError> {
    // A medium that does not read is no reason to take another key: it may read at the next start.
    let found = match file::read_bounded(path, MAX_KEY_BYTES)? {
        Some(bytes) => SoftwareKey::read(&bytes).map_or_else(
            |error| {
                let damaged = event::IDENTITY_STATE_READ_FAILED;
                println!("cannot read {}, making a new key: {error} {damaged}", path.display());
                None
            },
            Some,
        ),
        None => None,
    };
    if let Some(key) = found {
        return Ok(SoftwareKeys::new(key));
    }
    let pkcs8 = SoftwareKey::make()?;
    // Kept before it is used: a device that forgot its key would be another one at each start.
    file::replace(path, &pkcs8)?;
    println!("made a key in state, for a board without a TPM {}", event::IDENTITY_KEY_MADE);
    Ok(SoftwareKeys::new(SoftwareKey::read(&pkcs8)?))
}

/// Reads what is remembered of an enrolment. One that cannot be read is said, and the device enrols again.
fn enrolment(path: &Path) -> Option<Enrolment> {
    let lost = |why: String| {
        let failed = event::IDENTITY_STATE_READ_FAILED;
        println!("cannot read {}, going on without it: {why} {failed}", path.display());
        None
    };
    match file::read_bounded(path, Enrolment::MAX_ENCODED_BYTES) {
        Ok(bytes) => match Enrolment::decode(&bytes?) {
            Ok(enrolment) => Some(enrolment),
            Err(error) => lost(chain(&error)),
        },
        Err(error) => lost(chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is a failed test")]
    use super::*;
    use holdfast_evidence::device_id::DeviceId;
    use holdfast_types::CatalogId;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_software_key_is_made_once_and_anew_where_it_is_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(SOFTWARE_KEY);
        let first = software_keys(&path).unwrap().id();
        assert_eq!(software_keys(&path).unwrap().id(), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, b"damaged").unwrap();
        let second = software_keys(&path).unwrap().id();
        assert_ne!(second, first);
        assert_eq!(software_keys(&path).unwrap().id(), second);
        // What cannot be read is not replaced.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(software_keys(&path), Err(StartError::Path(_))));
    }

    #[test]
    fn an_enrolment_that_is_damaged_is_as_good_as_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(Enrolment::FILE_NAME);
        assert_eq!(enrolment(&path), None);
        let kept = Enrolment::new(CatalogId([1; 16]), &DeviceId([2; 32]));
        file::replace(&path, &kept.encode().unwrap()).unwrap();
        assert_eq!(enrolment(&path), Some(kept));
        fs::write(&path, [7; 400]).unwrap();
        assert_eq!(enrolment(&path), None);
    }
}
