//! Control groups, version 2: one for each component, so that it can be ended whole.
//!
//! Source: kernel document `admin-guide/cgroup-v2`.

use crate::PathError;
pub use holdfast_lifecycle::group_events::GroupEvents;
use holdfast_lifecycle::writes::{Rate, Written};
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Mount point of the hierarchy.
pub const ROOT: &str = "/sys/fs/cgroup";

/// Lets the groups below [`ROOT`] limit memory, processes and processor time, and what they write where the kernel
/// can ([`limits_writes`]).
///
/// # Errors
/// The kernel lacks a controller.
pub fn enable_controllers() -> Result<(), PathError> {
    let path = Path::new(ROOT).join("cgroup.subtree_control");
    let mut wanted = "+memory +pids +cpu".to_owned();
    // A kernel without BLK_CGROUP has no such controller, and one name that it does not know has it
    // refuse the whole line.
    if lists("cgroup.controllers", "io")? {
        wanted.push_str(" +io");
    }
    fs::write(&path, wanted).map_err(|error| PathError::new("write", path, error))
}

/// True when groups limit what they write: the kernel has `BLK_CGROUP` and `BLK_DEV_THROTTLING`.
///
/// # Errors
/// The hierarchy cannot be read.
pub fn limits_writes() -> Result<bool, PathError> {
    lists("cgroup.subtree_control", "io")
}

/// True when a file at the root of the hierarchy has this word.
fn lists(file: &str, word: &str) -> Result<bool, PathError> {
    let path = Path::new(ROOT).join(file);
    let text = fs::read_to_string(&path).map_err(|error| PathError::new("read", path, error))?;
    Ok(text.split_whitespace().any(|found| found == word))
}

/// The limits of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupLimits {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// KiB of it that the kernel takes back for nobody else.
    pub kept_kib: u32,
    /// Processes and threads.
    pub processes: u32,
    /// Share of all processors in percent.
    pub cpu_percent: u32,
}

/// The current use of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupUse {
    /// Memory in bytes.
    pub memory: u64,
    /// Most memory it has used, in bytes.
    pub memory_peak: u64,
    /// Processes and threads.
    pub processes: u64,
}

/// The control group of one component.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    directory: OwnedFd,
}

impl Cgroup {
    /// Makes the group `name` below [`ROOT`], or takes the one that is there.
    ///
    /// # Errors
    /// The directory can be neither made nor opened.
    pub fn create(name: &str) -> Result<Self, PathError> {
        let path = Path::new(ROOT).join(name);
        match fs::create_dir(&path) {
            // The group is there already for what is started more than once, such as the look at
            // each package.
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(PathError::new("make control group", path, error));
            }
            _ => {}
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&path, flags, Mode::empty())
            .map_err(|error| PathError::new("open control group", &path, error))?;
        Ok(Self { path, directory })
    }

    /// Sets what the group may use. When its memory runs out, all of its processes end together.
    ///
    /// # Errors
    /// A limit cannot be written.
    pub fn limit(&self, limits: &GroupLimits) -> Result<(), PathError> {
        self.write("memory.max", u64::from(limits.memory_kib).saturating_mul(1024).to_string())?;
        // Of this much the kernel takes nothing back, whatever the others use.
        self.write("memory.min", u64::from(limits.kept_kib).saturating_mul(1024).to_string())?;
        // Otherwise the kernel ends one process of the group, and leaves the others in a state that
        // nobody has planned for.
        self.write("memory.oom.group", "1")?;
        self.write("pids.max", limits.processes.to_string())?;
        self.limit_processor(limits.cpu_percent)
    }

    /// Sets which share of all processors in percent the group may use.
    ///
    /// # Errors
    /// The limit cannot be written.
    pub fn limit_processor(&self, percent: u32) -> Result<(), PathError> {
        // `cpu.max` counts time of one processor: a share of all is as many times as much.
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        self.write("cpu.max", processor_limit(percent, processors))
    }

    /// Sets how fast the group may write to a disk, by its number such as `179:0`; `None` lets it write as fast as the
    /// disk takes it.
    ///
    /// # Errors
    /// There is no such disk, or the limit cannot be written.
    pub fn limit_writes(&self, disk: &str, rate: Option<Rate>) -> Result<(), PathError> {
        self.write("io.max", write_limit(disk, rate))
    }

    /// Reads what the group has written to a disk since it was made.
    ///
    /// # Errors
    /// The kernel's file cannot be read.
    pub fn written(&self, disk: &str) -> Result<Written, PathError> {
        Ok(read_written(&self.read("io.stat")?, disk))
    }

    /// Lets the group use all processors: what init waits for is not to be held up.
    ///
    /// # Errors
    /// The limit cannot be written.
    pub fn lift_processor_limit(&self) -> Result<(), PathError> {
        self.write("cpu.max", "max")
    }

    fn write(&self, file: &str, value: impl AsRef<[u8]>) -> Result<(), PathError> {
        let path = self.path.join(file);
        fs::write(&path, value).map_err(|error| PathError::new("write", path, error))
    }

    /// Reads how often limits of the group were reached.
    ///
    /// # Errors
    /// The kernel's files cannot be read.
    pub fn events(&self) -> Result<GroupEvents, PathError> {
        Ok(GroupEvents {
            over_memory: self.named("memory.events", "oom")?,
            ended: self.named("memory.events", "oom_kill")?,
            forks_refused: self.named("pids.events", "max")?,
        })
    }

    /// Reads what the group uses.
    ///
    /// # Errors
    /// The kernel's files cannot be read.
    pub fn usage(&self) -> Result<GroupUse, PathError> {
        Ok(GroupUse {
            memory: self.number("memory.current")?,
            memory_peak: self.number("memory.peak")?,
            processes: self.number("pids.current")?,
        })
    }

    fn read(&self, file: &str) -> Result<String, PathError> {
        let path = self.path.join(file);
        fs::read_to_string(&path).map_err(|error| PathError::new("read", path, error))
    }

    fn number(&self, file: &str) -> Result<u64, PathError> {
        Ok(self.read(file)?.trim().parse().unwrap_or(0))
    }

    /// The number behind `name` in a file of `name number` lines.
    fn named(&self, file: &str, name: &str) -> Result<u64, PathError> {
        let text = self.read(file)?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.and_then(|value| value.trim().parse().ok()).unwrap_or(0))
    }

    /// The directory, for `CLONE_INTO_CGROUP`.
    #[must_use]
    pub fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Kills every process in the group, however many it forks meanwhile.
    ///
    /// # Errors
    /// `cgroup.kill` cannot be written.
    pub fn kill(&self) -> Result<(), PathError> {
        // Unlike a walk over `cgroup.procs`, this also ends what is being forked at that moment.
        self.write("cgroup.kill", "1")
    }
}

/// Makes the line of `cpu.max` for a share of so many processors.
fn processor_limit(percent: u32, processors: usize) -> String {
    const PERIOD_US: u64 = 100_000;
    /// The kernel takes no less.
    const LEAST_US: u64 = 1000;
    let processors = u64::try_from(processors).unwrap_or(1);
    let quota = PERIOD_US.saturating_mul(processors).saturating_mul(u64::from(percent)) / 100;
    format!("{} {PERIOD_US}", quota.max(LEAST_US))
}

/// Makes the line of `io.max`.
fn write_limit(disk: &str, rate: Option<Rate>) -> String {
    match rate {
        // Reads are not limited: a key that is not named keeps what it had, which is no limit.
        Some(Rate { bytes, writes }) => format!("{disk} wbps={bytes} wiops={writes}"),
        None => format!("{disk} wbps=max wiops=max"),
    }
}

/// Reads what `io.stat` says of a disk, which has no line for one to which nothing was written.
fn read_written(text: &str, disk: &str) -> Written {
    let line = text.lines().find_map(|line| line.strip_prefix(disk)?.strip_prefix(' '));
    let value = |name: &str| {
        let fields = line.unwrap_or_default().split_whitespace();
        let field = fields.filter_map(|field| field.strip_prefix(name)?.strip_prefix('=')).next();
        field.and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    Written { bytes: value("wbytes"), writes: value("wios") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_limited_and_counted_by_disk() {
        let rate = Rate { bytes: 4096, writes: 2 };
        assert_eq!(write_limit("179:0", Some(rate)), "179:0 wbps=4096 wiops=2");
        assert_eq!(write_limit("179:0", None), "179:0 wbps=max wiops=max");
        let text = "7:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n\
                    179:0 rbytes=90 wbytes=8192 rios=5 wios=2 dbytes=0 dios=0\n";
        assert_eq!(read_written(text, "179:0"), Written { bytes: 8192, writes: 2 });
        assert_eq!(read_written(text, "179:1"), Written::default());
        assert_eq!(read_written("", "179:0"), Written::default());
    }

    #[test]
    fn a_share_is_one_of_all_processors() {
        assert_eq!(processor_limit(1, 1), "1000 100000");
        assert_eq!(processor_limit(50, 4), "200000 100000");
        assert_eq!(processor_limit(0, 2), "1000 100000");
    }
}
