//! Mounting file systems with flags that are always said in full.

use crate::PathError;
use linux_raw_sys::general::{__NR_mount_setattr, mount_attr};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    open_tree, unmount,
};
use std::path::Path;

/// The rights on a mount. `nodev`, `nosuid` and `noexec` hold unless a field says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Access {
    /// No writes.
    pub read_only: bool,
    /// Device nodes work.
    pub devices: bool,
    /// Programs can be executed; only together with `read_only`.
    pub executable: bool,
}

/// Mounts a file system of type `kind` at `target`. `options` are `key=value`, `key` for flags;
/// `source` is a device node for those that have one.
///
/// # Errors
/// Any step the kernel refuses; then nothing is mounted.
pub fn mount(
    kind: &str,
    source: Option<&Path>,
    target: &Path,
    access: Access,
    options: &[(&str, Option<&str>)],
) -> Result<(), PathError> {
    let fail = |operation| move |error| PathError::new(operation, target, error);
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(fail("open a mount for"))?;
    if let Some(source) = source {
        fsconfig_set_string(&context, "source", source).map_err(fail("set the source of"))?;
    }
    // Of the file system itself, not of this one mount of it alone.
    if access.read_only {
        fsconfig_set_flag(&context, "ro").map_err(fail("set read-only"))?;
    }
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(&context, *key, *value),
            None => fsconfig_set_flag(&context, *key),
        }
        .map_err(fail("set an option of"))?;
    }
    fsconfig_create(&context).map_err(fail("create the file system for"))?;
    let mut flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    // Whatever a caller asks for: what can be written is not executed, or a component could run code that nobody has signed.
    let executable = access.executable && access.read_only;
    flags.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, !executable);
    flags.set(MountAttrFlags::MOUNT_ATTR_NODEV, !access.devices);
    flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, access.read_only);
    // It gets its attributes while it is attached nowhere: nobody sees it without them.
    let mounted = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags).map_err(fail("mount"))?;
    move_mount(&mounted, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(fail("mount"))
}

/// Makes a mount point with its parents, or takes the one that is there.
///
/// # Errors
/// The directory cannot be made.
pub fn make_directory(path: &Path) -> Result<(), PathError> {
    std::fs::create_dir_all(path).map_err(|error| PathError::new("make directory", path, error))
}

/// A detached copy of the tree at `path`, a directory that only init shapes: `nosuid,nodev` and, but
/// for `access`, read-only and `noexec`. It goes wherever it is moved, and is gone when it is closed
/// before that.
///
/// # Errors
/// There is nothing at `path`, or the kernel refuses.
pub fn detached_copy(path: &Path, access: Access) -> Result<OwnedFd, PathError> {
    let fail = |operation| move |error| PathError::new(operation, path, error);
    // Not recursive: what is mounted below the tree does not come along.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let tree = open_tree(CWD, path, flags).map_err(fail("copy the mount of"))?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, access.read_only);
    let executable = access.executable && access.read_only;
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, !executable);
    set_attributes(&tree, attributes).map_err(fail("restrict the mount of"))?;
    Ok(tree)
}

/// A detached file system in memory.
pub(crate) fn temporary(
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value)?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Adds attributes to a mount. Source: `mount_setattr(2)`.
pub(crate) fn set_attributes(mount: &OwnedFd, attributes: MountAttrFlags) -> Result<(), Errno> {
    // Neither rustix nor nix makes this call.
    let request = mount_attr {
        attr_set: u64::from(attributes.bits()),
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the descriptor is open, the path is an empty NUL-terminated string, and the request
    // has the layout and size that the call is told.
    let result = unsafe {
        libc::syscall(
            __NR_mount_setattr as libc::c_long,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const request,
            size_of::<mount_attr>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// Takes the mount at `target` away.
///
/// # Errors
/// The mount is in use, or there is none.
pub fn detach(target: &Path) -> Result<(), PathError> {
    // NOFOLLOW: a link in the place of a mount point would have something else unmounted (umount(2)).
    unmount(target, UnmountFlags::NOFOLLOW)
        .map_err(|error| PathError::new("unmount", target, error))
}
