//! Errors of the installation of a release.

use crate::state::StateError;
use crate::uplink::UplinkError;
use holdfast_linux::PathError;
use holdfast_linux::init_socket::InitError;
use holdfast_release::checked::Mismatch;
use holdfast_release::delta::DeltaError;
use holdfast_release::strategy::TooExpensive;
use holdfast_sandbox::package::PackageError;

/// Errors of the installation of a release.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error(transparent)]
    Init(#[from] InitError),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("it has no hashes")]
    NoHash,
    #[error("the server does not have it")]
    Missing,
    #[error("it ends after {0} bytes")]
    Short(u64),
    #[error("the {part} of the other slot has no room for its {bytes} bytes")]
    Room { part: &'static str, bytes: u64 },
    #[error("the medium has something else than was released")]
    OtherBytes,
    #[error("the slot that runs has something else than its hashes say; nothing of it is used")]
    Held,
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    #[error("the hashes of its blocks that came are not those of its root hash")]
    Leaves,
    #[error(transparent)]
    Delta(#[from] DeltaError),
    #[error("the delta is not the file that was released")]
    OtherDelta,
    #[error(transparent)]
    Costs(#[from] TooExpensive),
    #[error("its root hash is not the one that was released")]
    RootHash,
    #[error("the package {0}")]
    Package(PackageError),
    #[error("the {0} in its header is not the one that was released")]
    Differs(&'static str),
}

impl InstallError {
    /// True when the bytes were those of the release, and can never be used on this device.
    pub(crate) fn is_conclusive(&self) -> bool {
        matches!(self, Self::Room { .. } | Self::RootHash | Self::Package(_) | Self::Differs(_))
    }
}
