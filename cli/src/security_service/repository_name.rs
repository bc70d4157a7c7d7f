//! Which of a device's repositories a directory is.

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use holdfast_release::RepositoryName;
use std::path::Path;

/// A repository of a catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// Releases of the OS.
    Os,
    /// Releases of apps.
    Oem,
}

impl From<Name> for RepositoryName {
    fn from(name: Name) -> Self {
        match name {
            Name::Os => Self::Os,
            Name::Oem => Self::Oem,
        }
    }
}

/// The repository that a directory is to be.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct NameArgs {
    /// Which of a device's repositories it is. Without it: what the directory is called, `os` or `oem`.
    #[arg(long, value_enum)]
    repository: Option<Name>,
}

impl NameArgs {
    /// Makes one of what was said.
    pub(crate) fn new(repository: Option<Name>) -> Self {
        Self { repository }
    }

    /// Returns the name for a directory.
    ///
    /// # Errors
    /// It is not said, and the directory is called otherwise.
    pub(crate) fn of(self, directory: &Path) -> Result<RepositoryName> {
        let called = directory.file_name().and_then(|name| name.to_str());
        let called = RepositoryName::ALL.into_iter().find(|name| Some(name.name()) == called);
        let Some(name) = self.repository.map(RepositoryName::from).or(called) else {
            bail!(
                "--repository: is missing, and {} is called neither `os` nor `oem`; say which of a device's repositories it is",
                directory.display()
            );
        };
        Ok(name)
    }
}
