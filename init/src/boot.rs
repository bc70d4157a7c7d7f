//! The steps from the kernel's hand-over to the first component.

use crate::factory_reset;
use crate::log::Log;
use holdfast_linux::mount::{self, Access};
use holdfast_linux::partition_table::{self, Mended};
use holdfast_linux::watchdog::Watchdog;
use holdfast_linux::{PathError, block, cgroup, core_directory, entropy, file, superblock, sysctl};
use holdfast_sandbox::component::{self, ComponentList, ComponentListError, ImageDescription};
use holdfast_sandbox::policy;
use holdfast_types::event::init as event;
use std::io;
use std::path::Path;

/// Directory of the notify sockets, one directory below for each component.
pub(crate) const NOTIFY_DIRECTORY: &str = "/run/notify";
const SEED_FILE: &str = "/state/entropy-seed";

/// A boot step that failed and cannot be done without.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("there is no {}", component::PATH)]
    NoComponents,
    #[error("the component list in {} is damaged", component::PATH)]
    Components(#[from] ComponentListError),
    #[error("the kernel gives no random numbers")]
    Random(#[source] io::Error),
}

/// Mounts what the kernel shows of itself and the volatile file systems.
pub(crate) fn mount_kernel_views() -> Result<(), BootError> {
    let writable = Access::default();
    let devices = Access { devices: true, ..writable };
    // A process sees its own uid's processes only, whatever /proc it is given.
    let hide = [("hidepid", Some("invisible"))];
    mount::mount("proc", None, Path::new("/proc"), writable, &hide)?;
    mount::mount("sysfs", None, Path::new("/sys"), writable, &[])?;
    mount::mount("devtmpfs", None, Path::new("/dev"), devices, &[("mode", Some("0755"))])?;
    mount::mount("cgroup2", None, Path::new("/sys/fs/cgroup"), writable, &[])?;
    // Before the first group is made: its files are those of the controllers that its parent passes
    // on.
    cgroup::enable_controllers()?;
    // A file system in memory may by itself take half of it (kernel document `filesystems/tmpfs`).
    let run = [("mode", Some("0755")), ("size", Some("1m"))];
    mount::mount("tmpfs", None, Path::new("/run"), writable, &run)?;
    let tmp = [("mode", Some("1777")), ("size", Some("4m"))];
    mount::mount("tmpfs", None, Path::new("/tmp"), writable, &tmp)?;
    Ok(())
}

/// Reads what to start from the verified root.
pub(crate) fn read_component_list() -> Result<ComponentList, BootError> {
    let bytes = file::read_bounded(Path::new(component::PATH), component::MAX_ENCODED_BYTES)?;
    Ok(ComponentList::decode(&bytes.ok_or(BootError::NoComponents)?)?)
}

/// Settings that the kernel's configuration cannot make, or that must not depend on it. All of
/// them exist in our kernel, so one that is refused means that this is not our kernel.
const SYSCTLS: [(&str, &str); 18] = [
    // Programs that the kernel itself would start get no capability at all.
    ("kernel/usermodehelper/bset", "0 0"),
    ("kernel/usermodehelper/inheritable", "0 0"),
    ("kernel/kptr_restrict", "2"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/randomize_va_space", "2"),
    // A kernel that has gone wrong is not gone on with: -1 is a reset without waiting.
    ("kernel/panic_on_oops", "1"),
    ("kernel/panic", "-1"),
    ("kernel/sysctl_writes_strict", "1"),
    // The notes of a crash lie in memory of the component's own; elsewhere there is no such directory, and no file is made.
    ("kernel/core_pattern", policy::CORE_PATTERN),
    ("kernel/core_uses_pid", "0"),
    // What runs with rights that its starter lacks dumps no core, and links, FIFOs and files in
    // directories that all may write to are no traps (kernel document `admin-guide/sysctl/fs`).
    ("fs/suid_dumpable", "0"),
    ("fs/protected_symlinks", "1"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_fifos", "2"),
    ("fs/protected_regular", "2"),
    ("dev/tty/ldisc_autoload", "0"),
    // What one uid may take of the kernel's memory for watching files.
    ("fs/inotify/max_user_instances", "16"),
    ("fs/inotify/max_user_watches", "1024"),
];

/// In a development image, the kernel also says where a program was when a signal killed it, for `crash decode`.
/// In others it does not: every process of an app could drown the log with it, and nothing there limits the rate.
/// Only where an app is debugged can anything be traced, by who has the capability.
pub(crate) fn harden_kernel(image: &ImageDescription) -> Result<(), BootError> {
    for (name, value) in SYSCTLS {
        sysctl::set(name, value)?;
    }
    // 2 leaves it to CAP_SYS_PTRACE; 3 is nobody, and holds until the next start (kernel document
    // `admin-guide/LSM/Yama`).
    let no_tracing = if image.debugged.is_some() { "2" } else { "3" };
    sysctl::set("kernel/yama/ptrace_scope", no_tracing)?;
    core_directory::dump_no_memory()?;
    if image.development {
        sysctl::set("kernel/print-fatal-signals", "1")?;
    }
    Ok(())
}

pub(crate) fn set_hostname(name: &str) -> Result<(), BootError> {
    Ok(sysctl::set("kernel/hostname", name)?)
}

/// Writable partitions, each of which may be lost without keeping the device from booting; with the
/// option that each needs beside those of all.
const PARTITIONS: [(&str, &str, Option<&str>); 3] = [
    ("state", "/state", Some("prjquota")),
    ("apps", "/apps", None),
    ("data", "/data", Some("prjquota")),
];

pub(crate) fn mount_partitions(log: &Log, watchdog: Option<&Watchdog>) {
    for (label, target, option) in PARTITIONS {
        match block::partition_beside_root(label) {
            Ok(Some(device)) => {
                // Where the file system has met an error, nothing is made worse, and what is left
                // can be read.
                let mut options = vec![("errors", Some("remount-ro"))];
                options.extend(option.map(|option| (option, None)));
                let target = Path::new(target);
                let mount =
                    || mount::mount("ext4", Some(&device), target, Access::default(), &options);
                // Only after it was refused: a superblock that the kernel takes is not touched.
                let mounted = mount().or_else(|error| {
                    if mend_partition(log, watchdog, label, &device) { mount() } else { Err(error) }
                });
                if let Err(error) = mounted {
                    let what = format!("partition {label} is kept as it is, unused");
                    log.failure(event::PARTITION_MOUNT_FAILED, &what, &error);
                }
            }
            Ok(None) => {
                let text = format!("there is no partition {label}");
                log.warning(event::PARTITION_MISSING, &text);
            }
            Err(error) => {
                let what = format!("cannot look for partition {label}");
                log.failure(event::PARTITION_LOOKUP_FAILED, &what, &error);
            }
        }
    }
}

/// Keeps both partition tables whole: with one of them the kernel has found the root, and the other is there for the day
/// on which that one is lost.
pub(crate) fn mend_partition_tables(log: &Log) {
    match partition_table::mend() {
        Ok(Mended::Nothing) => {}
        Ok(Mended::First) => {
            let text = "the partition table was lost: it is made of the second one";
            log.warning(event::PARTITION_TABLE_RESTORED, text);
        }
        Ok(Mended::Second) => {
            let text = "the second partition table is written to the end of the disk";
            log.notice(event::PARTITION_TABLE_BACKED_UP, text);
        }
        Ok(Mended::Lost) => {
            let text = "neither partition table is whole; the disk is as it is";
            log.warning(event::PARTITION_TABLES_DAMAGED, text);
        }
        Err(error) => {
            let what = "cannot repair the partition tables";
            log.failure(event::PARTITION_TABLE_REPAIR_FAILED, what, &error);
        }
    }
}

/// Mends a partition that could not be mounted: a superblock that was torn, or one that holds nothing at all. What is
/// damaged otherwise is kept. True when it may be mounted now.
fn mend_partition(
    log: &Log,
    watchdog: Option<&Watchdog>,
    label: &'static str,
    device: &Path,
) -> bool {
    match superblock::mend(device) {
        Ok(true) => {
            let text = format!("partition {label}: its torn superblock is mended");
            log.notice(event::SUPERBLOCK_REPAIRED, &text);
            return true;
        }
        Ok(false) => {}
        Err(error) => {
            let what = format!("cannot repair the superblock of partition {label}");
            log.failure(event::SUPERBLOCK_REPAIR_FAILED, &what, &error);
            return false;
        }
    }
    match factory_reset::make_anew(watchdog, label, device) {
        Ok(true) => {
            let text = format!("partition {label} held nothing but zeros: it is made anew");
            log.warning(event::PARTITION_RECREATED, &text);
            true
        }
        Ok(false) => false,
        Err(error) => {
            let what = format!("cannot make the file system of partition {label} anew");
            log.failure(event::PARTITION_RECREATE_FAILED, &what, &error);
            false
        }
    }
}

pub(crate) fn unmount_partitions(log: &Log) {
    for (label, target, _) in PARTITIONS.iter().rev() {
        if let Err(error) = mount::detach(Path::new(target)) {
            let what = format!("cannot unmount partition {label}");
            log.failure(event::PARTITION_UNMOUNT_FAILED, &what, &error);
        }
    }
}

/// Mixes the seed that the last boot left into the kernel's pool, and leaves another for the next one.
///
/// The seed does not count as entropy: whoever wrote `state` may have chosen it, and one that cannot be replaced comes again
/// at each boot. No component starts before the kernel has gathered enough by itself.
pub(crate) fn renew_entropy_seed(log: &Log) -> Result<(), BootError> {
    let path = Path::new(SEED_FILE);
    match entropy::load_seed(path).and_then(|seed| seed.as_ref().map(entropy::mix).transpose()) {
        Ok(Some(())) => {}
        Ok(None) => log.notice(event::ENTROPY_SEED_MISSING, "no entropy seed yet"),
        Err(error) => {
            log.failure(event::ENTROPY_SEED_LOAD_FAILED, "cannot load the entropy seed", &error);
        }
    }
    // At once, and not when the system ends: a seed is used for one boot, however that one ends.
    let next = entropy::random().map_err(BootError::Random)?;
    if let Err(error) = file::replace(path, &next) {
        let what = "cannot save an entropy seed for the next boot";
        log.failure(event::ENTROPY_SEED_PERSIST_FAILED, what, &error);
    }
    Ok(())
}
