//! What handlers share.

use crate::counts::Counts;
use crate::issuers::Issuers;
use crate::providers::SignIn;
use crate::refusal::Refusal;
use crate::symbolizer::{Symbolizer, SymbolizerError};
use holdfast_service_alerts::webhook::Webhooks;
use holdfast_service_domain::disk::{self, Room, Space, Write};
use holdfast_service_domain::receipt::ReceiptKey;
use holdfast_service_domain::report_rate::Rates;
use holdfast_service_domain::settings::DiskSettings;
use holdfast_service_domain::symbols::{BuildId, Frames};
use holdfast_service_store::blobs::Blobs;
use holdfast_service_store::{Scope, Store};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// Returns the time, in seconds since 1970. Tests pass another one in.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Returns the space of the file system that the service writes to; nothing where it cannot be asked.
pub type Measure = Arc<dyn Fn() -> Option<Space> + Send + Sync>;

/// The disk of the service.
#[derive(Clone)]
pub struct Disk {
    /// How much space it has.
    pub measure: Measure,
    /// How much of it has to be free.
    pub settings: DiskSettings,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Disk {
    /// Returns how much room there is. A file system that cannot be asked refuses nothing: writing to it says more.
    #[must_use]
    pub fn room(&self) -> Room {
        (self.measure)().map_or(Room::All, |space| disk::room(space, &self.settings))
    }
}

/// The service, as handlers see it.
pub struct Service {
    /// The database.
    pub store: Store,
    /// What issues certificates.
    pub issuers: Issuers,
    /// The key of receipts.
    pub receipts: ReceiptKey,
    /// Symbols of programs, and what reads them.
    pub symbolizer: Symbolizer,
    /// Files of releases.
    pub release_files: Blobs,
    /// Files of releases that are taken at once.
    pub release_uploads: Arc<Semaphore>,
    /// Files of releases that are sent at once.
    pub downloads: Arc<Semaphore>,
    /// The time.
    pub clock: Clock,
    /// Requests of devices that are served at once; who comes beyond them is told to come later, before he sends a body.
    pub admission: Arc<Semaphore>,
    /// Seconds from one check-in of a device to the next.
    pub check_in_every_s: u32,
    /// How often devices have reported to this instance.
    pub report_rates: Mutex<Rates>,
    /// How people sign in.
    pub sign_in: SignIn,
    /// What sends webhooks.
    pub webhooks: Webhooks,
    /// The disk.
    pub disk: Disk,
    /// What is counted for metrics.
    pub counts: Counts,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Service {
    /// Returns the time, in seconds since 1970.
    #[must_use]
    pub fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Refuses what the disk has no room for.
    ///
    /// # Errors
    /// [`Problem::DiskFull`](holdfast_service_domain::problem::Problem::DiskFull).
    pub fn admit(&self, write: Write) -> Result<(), Refusal> {
        Ok(self.disk.room().admit(write)?)
    }

    /// Names the functions at addresses of a program, as [`Symbolizer::function_names`] does.
    ///
    /// # Errors
    /// See [`SymbolizerError`].
    pub async fn function_names(
        &self,
        scope: Scope,
        build_id: &BuildId,
        addresses: &[u64],
    ) -> Result<Vec<Option<Frames>>, SymbolizerError> {
        let (store, now) = (&self.store, self.now());
        self.symbolizer.function_names(store, scope, build_id, addresses, now).await
    }
}
