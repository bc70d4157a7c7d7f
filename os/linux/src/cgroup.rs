//! Control groups, version 2: one for each component, so that it can be ended whole.
//!
//! Source: kernel document `admin-guide/cgroup-v2`.

use crate::PathError;
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Where init mounts the hierarchy.
pub const ROOT: &str = "/sys/fs/cgroup";

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
        let path = self.path.join("cgroup.kill");
        fs::write(&path, "1").map_err(|error| PathError::new("write", path, error))
    }
}
