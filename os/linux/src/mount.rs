//! Mounting file systems with flags that are always said in full.

use crate::PathError;
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};
use std::path::Path;

/// What may be done on a mount. `nodev`, `nosuid` and `noexec` hold unless a field says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Access {
    /// No writes.
    pub read_only: bool,
    /// Device nodes work.
    pub devices: bool,
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
    flags.set(MountAttrFlags::MOUNT_ATTR_NODEV, !access.devices);
    flags.set(MountAttrFlags::MOUNT_ATTR_RDONLY, access.read_only);
    let mounted = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags).map_err(fail("mount"))?;
    move_mount(&mounted, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(fail("mount"))
}

/// Takes the mount at `target` away.
///
/// # Errors
/// It is in use or is no mount.
pub fn detach(target: &Path) -> Result<(), PathError> {
    unmount(target, UnmountFlags::NOFOLLOW)
        .map_err(|error| PathError::new("unmount", target, error))
}
