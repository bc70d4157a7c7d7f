//! An app's part of the data partition: a directory with a project quota.
//!
//! The quota counts by project id, which every file below the directory inherits. Source:
//! `quotactl_fd(2)` and kernel header `linux/fs.h`.

use crate::PathError;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{
    CWD, Gid, Mode, OFlags, ResolveFlags, StatVfs, Uid, fchmod, fchown, mkdirat, openat2, statvfs,
};
use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, Setter};
use std::path::Path;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct FileAttributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

const FS_IOC_FSGETXATTR: Opcode = 0x801c_581f_u32 as Opcode;
const FS_IOC_FSSETXATTR: Opcode = 0x401c_5820_u32 as Opcode;
/// New files below the directory get its project id.
const FS_XFLAG_PROJINHERIT: u32 = 0x200;

/// `struct if_dqblk`, the fields that set limits.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct QuotaBlock {
    blocks_hard: u64,
    blocks_soft: u64,
    space: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    inodes: u64,
    blocks_time: u64,
    inodes_time: u64,
    valid: u32,
}

/// Opens the directory `name` in `parent`, made where it is missing, for `uid` alone, with at most
/// `kib` KiB below it.
///
/// # Errors
/// Something else has that name, or the kernel refuses a step.
pub fn open(parent: &Path, name: &str, uid: u32, kib: u32) -> Result<OwnedFd, PathError> {
    let path = parent.join(name);
    let storage = own(parent, name, uid)?;
    set_project(&storage, uid)
        .map_err(|error| PathError::new("set the project of", &path, error))?;
    // A file of its own for every block, and as many that hold nothing.
    let inodes = u64::from(kib / 4).saturating_mul(2).saturating_add(16);
    set_quota(&storage, uid, Quota { kib: kib.into(), inodes })
        .map_err(|error| PathError::new("set the quota of", &path, error))?;
    Ok(storage)
}

/// As [`open`], with all of the partition but `reserve_kib` KiB, and half of its inodes, at most: whoever fills it leaves
/// room for what others store there.
///
/// # Errors
/// As [`open`], or the partition has no quotas.
pub fn open_but(
    parent: &Path,
    name: &str,
    uid: u32,
    reserve_kib: u64,
) -> Result<OwnedFd, PathError> {
    let path = parent.join(name);
    let storage = own(parent, name, uid)?;
    // Of a directory that has a project, ext4 tells the project's limit.
    let room = statvfs(parent).map_err(|error| PathError::new("measure", parent, error))?;
    let kib = (room.f_blocks.saturating_mul(room.f_frsize) / 1024).saturating_sub(reserve_kib);
    set_project(&storage, uid)
        .map_err(|error| PathError::new("set the project of", &path, error))?;
    // No limit would be 0.
    let quota = Quota { kib: kib.max(1), inodes: (room.f_files / 2).max(1) };
    set_quota(&storage, uid, quota)
        .map_err(|error| PathError::new("set the quota of", &path, error))?;
    Ok(storage)
}

/// As [`open`], with no limit but that of the partition.
///
/// # Errors
/// As [`open`].
pub fn own(parent: &Path, name: &str, uid: u32) -> Result<OwnedFd, PathError> {
    let path = parent.join(name);
    let fail = |operation| {
        let path = path.clone();
        move |error: Errno| PathError::new(operation, path, error)
    };
    let directory = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let parent = openat2(CWD, parent, directory, Mode::empty(), resolve)
        .map_err(|error| PathError::new("open", parent, error))?;
    match mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(fail("make directory")(error)),
    }
    // Whoever has written to the medium elsewhere may have put a link there: it leads nowhere.
    let resolve = resolve | ResolveFlags::BENEATH;
    let storage = openat2(&parent, name, directory | OFlags::NOFOLLOW, Mode::empty(), resolve)
        .map_err(fail("open"))?;
    // Each time: a table of uids that was lost may have given the app another one.
    let owner = Uid::from_raw(uid);
    fchown(&storage, Some(owner), Some(Gid::from_raw(uid))).map_err(fail("own"))?;
    fchmod(&storage, Mode::from_raw_mode(0o700)).map_err(fail("restrict"))?;
    Ok(storage)
}

/// KiB that all directories below the place of a partition can have together. What the file system keeps for itself does
/// not count. `Ok(None)` means that nothing is mounted there.
///
/// # Errors
/// The kernel refuses.
pub fn capacity_kib(place: &Path) -> Result<Option<u64>, PathError> {
    Ok(blocks_of(place)?.map(|found| {
        // Free blocks that only a privileged process may have.
        let kept = found.f_bfree.saturating_sub(found.f_bavail);
        found.f_blocks.saturating_sub(kept).saturating_mul(found.f_frsize) / 1024
    }))
}

/// Percent of a partition's blocks that are in use, rounded up; what the file system keeps for itself counts as used. `Ok(None)` means
/// that nothing is mounted there.
///
/// # Errors
/// The kernel refuses.
pub fn fill_percent(place: &Path) -> Result<Option<u8>, PathError> {
    Ok(blocks_of(place)?.map(|found| {
        let used = found.f_blocks.saturating_sub(found.f_bavail);
        let percent = used.saturating_mul(100).div_ceil(found.f_blocks.max(1));
        u8::try_from(percent.min(100)).unwrap_or(100)
    }))
}

/// Returns the blocks of the file system at the place of a partition; `None` where nothing is mounted there.
fn blocks_of(place: &Path) -> Result<Option<StatVfs>, PathError> {
    let fail = |error: Errno| PathError::new("ask for the size of", place, error);
    let device = |path: &Path| rustix::fs::stat(path).map(|found| found.st_dev);
    let parent = place.parent().unwrap_or(place);
    if device(place).map_err(fail)? == device(parent).map_err(fail)? {
        return Ok(None);
    }
    Ok(Some(rustix::fs::statvfs(place).map_err(fail)?))
}

/// Gives the directory that a partition is mounted at to `uid`; others look.
///
/// # Errors
/// The kernel refuses: nothing is mounted there.
pub fn give(path: &Path, uid: u32) -> Result<(), PathError> {
    let fail = |error: Errno| PathError::new("own", path, error);
    rustix::fs::chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid))).map_err(fail)
}

fn set_project(directory: &OwnedFd, project: u32) -> Result<(), Errno> {
    // SAFETY: the request writes one `struct fsxattr`, which is what the getter holds.
    let get = unsafe { Getter::<FS_IOC_FSGETXATTR, FileAttributes>::new() };
    // SAFETY: as above; the descriptor is a directory.
    let mut attributes = unsafe { rustix::ioctl::ioctl(directory, get) }?;
    attributes.project = project;
    attributes.flags |= FS_XFLAG_PROJINHERIT;
    // SAFETY: the request reads one `struct fsxattr`, which is what the setter holds.
    let set = unsafe { Setter::<FS_IOC_FSSETXATTR, _>::new(attributes) };
    // SAFETY: as above; the descriptor is a directory.
    unsafe { rustix::ioctl::ioctl(directory, set) }
}

/// The limits of a project.
#[derive(Debug, Clone, Copy)]
struct Quota {
    kib: u64,
    inodes: u64,
}

fn set_quota(directory: &OwnedFd, project: u32, quota: Quota) -> Result<(), Errno> {
    const Q_SETQUOTA: u32 = 0x80_0008;
    const PRJQUOTA: u32 = 2;
    const QIF_LIMITS: u32 = 5; // block and inode limits
    let block = QuotaBlock {
        blocks_hard: quota.kib, // QIF_DQBLKSIZE
        inodes_hard: quota.inodes,
        valid: QIF_LIMITS,
        ..QuotaBlock::default()
    };
    // SAFETY: the descriptor is open, and the block has the layout that Q_SETQUOTA reads.
    let result = unsafe {
        libc::syscall(
            SYS_QUOTACTL_FD,
            directory.as_raw_fd(),
            (Q_SETQUOTA << 8) | PRJQUOTA,
            project,
            &raw const block,
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// The same on every architecture.
const SYS_QUOTACTL_FD: libc::c_long = 443;
