//! What the device of an image takes of app packages, asked on the host: by the builder of an image, and by
//! whoever appends an app to one.

use crate::key::PublicKey;
use crate::package::{self, PackError, Package};
use holdfast_core::package::{Device, Version};
use holdfast_core::peripheral::{self, BoardPeripheral};

/// An image, as far as packages are concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acceptance<'a> {
    /// Its product.
    pub(crate) product: &'a str,
    /// Its board.
    pub(crate) board: &'a str,
    /// Its version.
    pub(crate) os: Version,
    /// Whose packages it takes.
    pub(crate) keys: &'a [PublicKey],
    /// What its board offers.
    pub(crate) offered: &'a [BoardPeripheral],
    /// Whether it has the network service.
    pub(crate) network: bool,
}

/// Why a package is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Unacceptable {
    /// It is damaged, or not signed by a trusted key.
    #[error(transparent)]
    Package(#[from] PackError),
    /// It is sound, but not for this image.
    #[error("the package {0}")]
    Refused(String),
}

impl Acceptance<'_> {
    /// Reads a package and refuses what the device would refuse.
    pub(crate) fn accept(&self, bytes: &[u8]) -> Result<Package, Unacceptable> {
        let package = package::read(bytes)?;
        package::verify(bytes, &package.header, self.keys)?;
        let device = Device {
            component_id: package.header.component_id,
            product: self.product,
            board: self.board,
            os: self.os,
            floor: 0,
        };
        let refused = |reason: String| Unacceptable::Refused(reason);
        package.header.admit(&device).map_err(|error| refused(error.to_string()))?;
        let manifest = &package.manifest;
        if let Some(field) = manifest.unsupported.first() {
            return Err(refused(format!("asks for {field}: not supported by this OS version")));
        }
        peripheral::grant(manifest, self.offered)
            .map_err(|error| refused(format!("asks for {error}")))?;
        if !manifest.network.is_empty() && !self.network {
            let reason = "asks for the network, which this image does not have; its image manifest \
                          needs `[network]`, as images/connected.toml has it";
            return Err(refused(reason.to_owned()));
        }
        Ok(package)
    }
}
