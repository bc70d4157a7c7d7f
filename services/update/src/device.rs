//! What an installation needs of the device: a source of files, and the slots.

use crate::install_error::InstallError;
use crate::uplink::{Fetched, UplinkError};
use holdfast_linux::direct::Direct;
use holdfast_release::fetch::Fetch;
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_sandbox::wire::SlotPart;

/// A source of files: a server, by way of `uplink`, or a card.
pub(crate) trait Source {
    /// Fetches a range of a file, and hands its pieces to `take` as they come.
    ///
    /// # Errors
    /// The file could not be fetched, or not all of it, or `take` fails.
    fn fetch<E: From<UplinkError>>(
        &mut self,
        fetch: &Fetch,
        take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Fetched, E>;

    /// True for a server: its bytes cost money, and a download may break off.
    fn is_remote(&self) -> bool;

    /// Waits before a download is resumed.
    ///
    /// # Errors
    /// There is nothing to wait for.
    fn wait(&mut self) -> Result<(), InstallError>;
}

/// The slots, which init hands over part by part.
pub(crate) trait Slots {
    /// Opens a part of the running slot, read-only.
    ///
    /// # Errors
    /// init does not hand the part over.
    fn running_part(&mut self, part: SlotPart) -> Result<Direct, InstallError>;

    /// Has init mark the other slot unbootable, before it is written.
    ///
    /// # Errors
    /// init refuses, or cannot save the boot state.
    fn announce(&mut self) -> Result<(), InstallError>;

    /// Opens a part of the other slot, which was announced. `None` where the slot lacks the part.
    ///
    /// # Errors
    /// init does not hand the part over.
    fn other_part(&mut self, part: SlotPart) -> Result<Option<Direct>, InstallError>;

    /// Has init try the written and verified release of this subject at the next start.
    ///
    /// # Errors
    /// init refuses, or cannot stage the release.
    fn stage(&mut self, subject: ReleaseSubject) -> Result<(), InstallError>;
}
