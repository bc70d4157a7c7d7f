//! The bounds of every number in an app manifest, once for all who check them: the schema of the document, the
//! encoding that init reads, and a plan.

/// The least and the most that a number may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The least.
    pub least: u32,
    /// The most.
    pub most: u32,
}

impl Bounds {
    const fn new(least: u32, most: u32) -> Self {
        Self { least, most }
    }

    /// True for a number between both, which are among them.
    #[must_use]
    pub const fn contain(self, number: u32) -> bool {
        self.least <= number && number <= self.most
    }
}

/// `MutableStorage.SizeKB`; 0 asks for none.
pub const STORAGE_KIB: Bounds = Bounds::new(0, 65_536);
/// `Limits.MemoryKiB`.
pub const MEMORY_KIB: Bounds = Bounds::new(256, 1 << 20);
/// `Limits.CpuPercent`.
pub const CPU_PERCENT: Bounds = Bounds::new(1, 100);
/// `Limits.Processes`.
pub const PROCESSES: Bounds = Bounds::new(1, 256);
/// `Limits.OpenFiles`.
pub const OPEN_FILES: Bounds = Bounds::new(8, 1024);
/// `Limits.TemporaryKiB`.
pub const TEMPORARY_KIB: Bounds = Bounds::new(0, 65_536);
/// `Limits.LogLinesPerSecond`.
pub const LOG_LINES_PER_SECOND: Bounds = Bounds::new(1, 256);
/// `Limits.WriteKiBPerSecond`.
pub const WRITE_KIB_PER_SECOND: Bounds = Bounds::new(16, 65_536);
/// `Limits.WritesPerSecond`.
pub const WRITES_PER_SECOND: Bounds = Bounds::new(4, 16_384);
/// `Limits.WriteMiBPerDay`.
pub const WRITE_MIB_PER_DAY: Bounds = Bounds::new(1, 1 << 20);
/// `ReadyWithinMs`, `WatchdogMs` and `StableForMs`.
pub const INTERVAL_MS: Bounds = Bounds::new(100, 600_000);
