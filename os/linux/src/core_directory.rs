//! Memory in which the kernel leaves the notes of a component's crash (core(5)).
//!
//! The mount is attached in the component's root, and this descriptor keeps it beyond the component's end: nothing is looked
//! up in a place that somebody else could shape, and nothing has to be tidied up. What lies there was written by the
//! kernel or by the component itself, which nobody can tell apart.

use crate::PathError;
use crate::mount::temporary;
use holdfast_sandbox::policy::{CORE_FILE, CORE_KIB, CRASH_DIRECTORY};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

/// The file in which a process says what of its memory is dumped; its children begin with the same, over `execve` too.
const FILTER: &str = "/proc/self/coredump_filter";

/// From now on, this process and all that it starts leave notes when they crash, the first page of each ELF file that they have mapped
/// (`CORE_DUMP_DEFAULT_ELF_HEADERS`, bit 4 in core(5)), and no memory.
///
/// # Errors
/// The kernel writes no cores.
pub fn dump_no_memory() -> Result<(), PathError> {
    let failed = |error| PathError::new("set", FILTER, error);
    let file = rustix::fs::open(FILTER, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    let written = file.and_then(|file| rustix::io::write(file, b"0x10"));
    written.map(|_| ()).map_err(failed)
}

/// The directory of one start of a component.
#[derive(Debug)]
pub struct CoreDirectory {
    mount: OwnedFd,
}

impl CoreDirectory {
    /// Makes an empty one that belongs to `uid`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn create(uid: u32) -> Result<Self, PathError> {
        let (size, uid) = (format!("{CORE_KIB}k"), uid.to_string());
        let options = [
            ("size", size.as_str()),
            // The directory and one file. While one process writes its notes, a second one of the component finds no room for
            // a file of its own: the kernel's memory for notes, which no control group pays, is needed once a component.
            ("nr_inodes", "2"),
            ("mode", "0700"),
            ("uid", &uid),
            ("gid", &uid),
        ];
        let closed = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mount = temporary(&options, closed)
            .map_err(|error| PathError::new("make memory for", CRASH_DIRECTORY, error))?;
        Ok(Self { mount })
    }

    /// Returns the detached mount, for the component's root.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn tree(&self) -> Result<OwnedFd, PathError> {
        self.mount
            .try_clone()
            .map_err(|error| PathError::new("duplicate the mount of", CRASH_DIRECTORY, error))
    }

    /// Opens the file that the last crash has left, for reading. Of it, nothing is read here.
    ///
    /// # Errors
    /// There is none (`ENOENT`), or something else than a regular file.
    pub fn file(&self) -> Result<OwnedFd, Errno> {
        // NONBLOCK: whatever a component has put there, opening it waits for nobody (open(2): FIFOs, leases).
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&self.mount, CORE_FILE, flags, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        Ok(file)
    }
}
