//! The file system of a component: a fresh one, built by descriptor, in its own mount namespace.
//!
//! Nothing is looked up by a path that a component could have shaped: what is mounted comes as
//! detached trees from init, and goes into directories that were made here a moment ago.

use crate::mount::{set_attributes, temporary};
use holdfast_sandbox::policy::{APP_DIRECTORY, Mount, Source};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, makedev, mkdirat, mknodat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MoveMountFlags, UnmountFlags, move_mount, unmount};
use rustix::process::{chdir, fchdir, pivot_root, umask};

/// A directory of every system root; the new root is mounted on it for a moment.
const BUILD_SITE: &str = "/run";
/// Device nodes of `/dev`: name and minor number, all of major 1 (kernel document
/// `admin-guide/devices`).
const DEVICES: [(&str, u32); 5] =
    [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)];

/// Builds the root of a plan and makes it this process's, with the old one gone.
pub(super) fn build(mounts: &[Mount], trees: &[(&str, OwnedFd)], uid: u32) -> Result<(), Errno> {
    umask(Mode::from_raw_mode(0o022));
    let closed = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    // Room for mount points and two links; nothing else is ever made in it.
    let options = [("size", "64k"), ("nr_inodes", "64"), ("mode", "0755")];
    let new_root = temporary(&options, closed)?;
    move_mount(&new_root, "", CWD, BUILD_SITE, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    for mount in mounts {
        let name = mount.target.trim_start_matches('/');
        mkdirat(&new_root, name, Mode::from_raw_mode(0o755))?;
        let attach = |tree: &OwnedFd| {
            move_mount(tree, "", &new_root, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        };
        match &mount.source {
            Source::Temporary(kib) => {
                let (size, uid) = (format!("{kib}k"), uid.to_string());
                let inodes = kib.saturating_add(64).to_string();
                let options = [
                    ("size", size.as_str()),
                    ("nr_inodes", &inodes),
                    ("mode", "0700"),
                    ("uid", &uid),
                    ("gid", &uid),
                ];
                attach(&temporary(&options, closed)?)?;
            }
            Source::Devices => attach(&devices()?)?,
            Source::Package
            | Source::Directory(_)
            | Source::Storage(_)
            | Source::Notify
            | Source::Resolver
            | Source::State
            | Source::AppStore
            | Source::Crash => {
                let tree = trees.iter().find(|(target, _)| *target == mount.target);
                attach(&tree.ok_or(Errno::NOENT)?.1)?;
            }
        }
        if mount.target == APP_DIRECTORY {
            // Programs name their loader and libraries by paths of the package.
            for directory in ["bin", "lib"] {
                symlinkat(format!("app/{directory}"), &new_root, directory)?;
            }
        }
    }
    // From here on nobody can shape it.
    set_attributes(&new_root, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    fchdir(&new_root)?;
    // The old root is stacked on the new one, and taken away from under this process.
    pivot_root(".", ".")?;
    // DETACH takes along what is mounted below it, in use or not (umount(2)).
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")
}

/// A file system with the device nodes that every program may use.
fn devices() -> Result<OwnedFd, Errno> {
    // The one mount of a component on which device nodes work.
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let options = [("size", "64k"), ("nr_inodes", "16"), ("mode", "0755")];
    let directory = temporary(&options, flags)?;
    // mknodat(2) takes the umask off the mode, and these are for everybody.
    umask(Mode::empty());
    for (name, minor) in DEVICES {
        let mode = Mode::from_raw_mode(0o666);
        mknodat(&directory, name, FileType::CharacterDevice, mode, makedev(1, minor))?;
    }
    umask(Mode::from_raw_mode(0o022));
    set_attributes(&directory, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    Ok(directory)
}
