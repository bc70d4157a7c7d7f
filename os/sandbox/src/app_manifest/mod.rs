//! App manifests: identity, limits and grants of an app.
//!
//! The parser of the document is a crate of its own, which nothing links but what reads documents. What crosses to
//! init is the encoding of these types, whose every bound is checked again.

pub mod bounds;

use crate::network::NetworkGrants;
use holdfast_types::Version;
use holdfast_types::encoding::{self, EncodingError};
use holdfast_types::{CatalogId, ComponentId, is_clean_absolute};
use thiserror::Error;

/// Milliseconds for which a critical component must stay ready, unless its manifest says otherwise.
pub const DEFAULT_STABLE_FOR_MS: u32 = 5_000;
/// File name of the manifest in an app's directory and in its package.
pub const FILE_NAME: &str = "app_manifest.json";
/// Longest manifest in bytes.
pub const MAX_BYTES: usize = 64 * 1024;

/// A checked app manifest.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AppManifest {
    /// The app's name, for people.
    pub name: String,
    /// Fixed for the life of the app.
    pub component_id: ComponentId,
    /// Absolute path of the program in the app's own files.
    pub entry_point: String,
    /// Arguments for the program.
    pub cmd_args: Vec<String>,
    /// Version of the app.
    pub version: Version,
    /// A number that only grows; a device refuses a lower one than it has had.
    pub rollback_index: u64,
    /// Oldest OS version it runs on.
    pub least_os: Version,
    /// Storage that outlives restarts, in KiB.
    pub storage_kib: Option<u32>,
    /// Network grants.
    pub network: NetworkGrants,
    /// Resource limits of the app.
    pub limits: Limits,
    /// Access to updates.
    pub updates: UpdateAccess,
    /// The catalog for whose service the app authenticates as a part of the device.
    pub catalog: Option<CatalogId>,
    /// It may say for the device's owner how much the device reports at most.
    pub sets_report_level: bool,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// Milliseconds within which it must say that it is ready; without it, it is ready at once.
    pub ready_within_ms: Option<u32>,
    /// Milliseconds within which it must show that it is alive, again and again.
    pub watchdog_ms: Option<u32>,
    /// A release of the OS is good only if this app gets ready and stays so.
    pub critical: bool,
    /// Milliseconds for which a critical app must stay ready.
    pub stable_for_ms: u32,
    /// Paths of every request in the document that this OS version cannot grant.
    pub unsupported: Vec<String>,
    /// Peripherals it claims, as path in the document, kind, and number or name.
    pub peripherals: Vec<Peripheral>,
}

/// Access of an app to updates, by the D-Bus interface `org.holdfast.Update1` of the update agent.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
pub enum UpdateAccess {
    /// No access: there is no socket.
    #[default]
    None,
    /// The app is told of updates.
    Told,
    /// The app may defer a reboot as well, for a while.
    Defers,
}

/// A claim to a peripheral.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Peripheral {
    /// Path of the claim in the document.
    pub path: String,
    /// The capability's name, such as `Gpio`.
    pub kind: String,
    /// Number or name.
    pub id: String,
}

/// Resource limits of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Memory in KiB, its share of the kernel's and of `/tmp` included.
    pub memory_kib: u32,
    /// Share of all processors in percent.
    pub cpu_percent: u32,
    /// Processes and threads.
    pub processes: u32,
    /// Open descriptors of one process.
    pub open_files: u32,
    /// Room in `/tmp` in KiB.
    pub temporary_kib: u32,
    /// Log lines per second in the long run; four times that at once.
    pub log_lines_per_second: u32,
    /// KiB that it may write to its storage in a second.
    pub write_kib_per_second: u32,
    /// Times that it may write there in a second.
    pub writes_per_second: u32,
    /// MiB that it may write there in a day, before it is slowed down.
    pub write_mib_per_day: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_kib: 8192,
            cpu_percent: 50,
            processes: 16,
            open_files: 64,
            temporary_kib: 256,
            log_lines_per_second: 16,
            write_kib_per_second: 2048,
            writes_per_second: 128,
            write_mib_per_day: 1024,
        }
    }
}

impl Limits {
    /// Checks each against its bounds.
    ///
    /// # Errors
    /// The first field that is out of them, as a manifest names it.
    pub fn check(&self) -> Result<(), &'static str> {
        let Self {
            memory_kib,
            cpu_percent,
            processes,
            open_files,
            temporary_kib,
            log_lines_per_second,
            write_kib_per_second,
            writes_per_second,
            write_mib_per_day,
        } = *self;
        let checks = [
            ("MemoryKiB", bounds::MEMORY_KIB, memory_kib),
            ("CpuPercent", bounds::CPU_PERCENT, cpu_percent),
            ("Processes", bounds::PROCESSES, processes),
            ("OpenFiles", bounds::OPEN_FILES, open_files),
            ("TemporaryKiB", bounds::TEMPORARY_KIB, temporary_kib),
            ("LogLinesPerSecond", bounds::LOG_LINES_PER_SECOND, log_lines_per_second),
            ("WriteKiBPerSecond", bounds::WRITE_KIB_PER_SECOND, write_kib_per_second),
            ("WritesPerSecond", bounds::WRITES_PER_SECOND, writes_per_second),
            ("WriteMiBPerDay", bounds::WRITE_MIB_PER_DAY, write_mib_per_day),
        ];
        match checks.into_iter().find(|(_, bounds, number)| !bounds.contain(*number)) {
            Some((field, ..)) => Err(field),
            None => Ok(()),
        }
    }

    /// True when each is at most that of `other`. Room in `/tmp` is compared with the mount that has it.
    pub(crate) fn are_within(&self, other: &Self) -> bool {
        let Self {
            memory_kib,
            cpu_percent,
            processes,
            open_files,
            temporary_kib: _,
            log_lines_per_second,
            write_kib_per_second,
            writes_per_second,
            write_mib_per_day,
        } = *self;
        memory_kib <= other.memory_kib
            && cpu_percent <= other.cpu_percent
            && processes <= other.processes
            && open_files <= other.open_files
            && log_lines_per_second <= other.log_lines_per_second
            && write_kib_per_second <= other.write_kib_per_second
            && writes_per_second <= other.writes_per_second
            && write_mib_per_day <= other.write_mib_per_day
    }
}

/// When a component is started again after it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub enum RestartPolicy {
    /// Whatever its end was.
    #[default]
    Always,
    /// After a signal or an exit code other than 0.
    OnFailure,
    /// Not before the next boot.
    Never,
}

/// Largest encoded manifest in bytes.
pub const MAX_ENCODED_BYTES: usize = 2 * MAX_BYTES;

/// An error of decoding a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodedManifestError {
    /// Longer than any manifest's.
    #[error("its encoding is longer than {MAX_ENCODED_BYTES} bytes")]
    TooLong,
    /// Not the encoding of a manifest.
    #[error("its encoding is damaged")]
    Encoding(#[from] EncodingError),
    /// A field holds what no document could have put there.
    #[error("{0} is out of bounds")]
    Field(&'static str),
}

impl AppManifest {
    /// The manifest as init reads it from the process that parsed it.
    ///
    /// # Errors
    /// The encoder's own; never for a manifest that the parser returned.
    pub fn encode(&self) -> Result<Vec<u8>, EncodedManifestError> {
        Ok(encoding::encode(self)?)
    }

    /// Reads an encoded manifest. The process that wrote it has looked at hostile bytes and may be
    /// in their author's hand, so every bound is checked again: it can claim nothing that a
    /// document could not.
    ///
    /// # Errors
    /// See [`EncodedManifestError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodedManifestError> {
        if bytes.len() > MAX_ENCODED_BYTES {
            return Err(EncodedManifestError::TooLong);
        }
        let manifest: Self = encoding::decode(bytes)?;
        let interval = |ms: Option<u32>| ms.is_none_or(|ms| bounds::INTERVAL_MS.contain(ms));
        let storage = manifest.storage_kib.unwrap_or(0);
        let checks = [
            ("Name", manifest.name.len() <= 256),
            ("EntryPoint", is_clean_absolute(&manifest.entry_point)),
            ("EntryPoint", manifest.entry_point.len() <= 255),
            ("CmdArgs", manifest.cmd_args.len() <= 64),
            ("CmdArgs", manifest.cmd_args.iter().all(|a| a.len() <= 1024 && !a.contains('\0'))),
            ("MutableStorage", bounds::STORAGE_KIB.contain(storage)),
            ("ReadyWithinMs", interval(manifest.ready_within_ms)),
            ("WatchdogMs", interval(manifest.watchdog_ms)),
            ("StableForMs", interval(Some(manifest.stable_for_ms))),
        ];
        if let Some((field, _)) = checks.into_iter().find(|(_, holds)| !holds) {
            return Err(EncodedManifestError::Field(field));
        }
        manifest.limits.check().map_err(EncodedManifestError::Field)?;
        match manifest.network.check() {
            Err((field, _)) => Err(EncodedManifestError::Field(field)),
            Ok(()) => Ok(manifest),
        }
    }
}
