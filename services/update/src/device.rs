//! What taking a release needs of the device: where files come from, and where a slot goes.

use crate::install_error::InstallError;
use crate::uplink::{Fetched, UplinkError};
use holdfast_linux::direct::Direct;
use holdfast_release::fetch::Fetch;
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_sandbox::wire::SlotPart;

/// Where files of repositories come from: a server, by way of `uplink`, or a card.
pub(crate) trait Source {
    /// Hands on the pieces of a file as they come.
    ///
    /// # Errors
    /// It is not there, or not all of it; or what `take` says.
    fn fetch<E: From<UplinkError>>(
        &mut self,
        fetch: &Fetch,
        take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Fetched, E>;

    /// True for a server: what it sends costs money, and may break off.
    fn is_remote(&self) -> bool;

    /// Waits before what broke off is gone on with.
    ///
    /// # Errors
    /// There is nothing to wait for.
    fn wait(&mut self) -> Result<(), InstallError>;
}

/// The slots, which are init's.
pub(crate) trait Slots {
    /// A part of the slot that runs, for reading.
    ///
    /// # Errors
    /// It is not handed over.
    fn running_part(&mut self, part: SlotPart) -> Result<Direct, InstallError>;

    /// The other slot is about to be written: it is not to be booted from now on.
    ///
    /// # Errors
    /// It is refused.
    fn announce(&mut self) -> Result<(), InstallError>;

    /// A part of the other slot, which was announced. `None` where it has none.
    ///
    /// # Errors
    /// It is not handed over.
    fn other_part(&mut self, part: SlotPart) -> Result<Option<Direct>, InstallError>;

    /// What was written and verified for this subject is to be tried at the next start.
    ///
    /// # Errors
    /// It is refused.
    fn stage(&mut self, subject: ReleaseSubject) -> Result<(), InstallError>;
}
