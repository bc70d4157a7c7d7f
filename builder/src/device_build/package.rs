//! Packages whose programs are built for the device.

use crate::workspace;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A package whose programs are built for the device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// The directory that cargo builds it in.
    pub directory: PathBuf,
    /// Name of the package.
    pub name: String,
    /// The cargo features that it is built with, and not its default ones; empty for the default ones.
    pub features: BTreeSet<String>,
}

impl Package {
    /// The package with its default features.
    pub fn new(directory: &Path, name: &str) -> Self {
        let (directory, name) = (directory.to_owned(), name.to_owned());
        Self { directory, name, features: BTreeSet::new() }
    }

    /// Arguments by which cargo takes its features, wherever in its workspace it is asked.
    pub(crate) fn feature_arguments(&self) -> Vec<String> {
        if self.features.is_empty() {
            return Vec::new();
        }
        let named = self.features.iter().map(|feature| format!("{}/{feature}", self.name));
        let named = named.collect::<Vec<_>>().join(",");
        vec!["--no-default-features".to_owned(), "--features".to_owned(), named]
    }
}

/// Returns the name of the cargo package in a directory.
///
/// # Errors
/// Its Cargo.toml cannot be read, or names no package.
pub fn cargo_package(directory: &Path) -> Result<String> {
    let path = directory.join("Cargo.toml");
    let table: toml::Table = workspace::read_toml(&path)?;
    let name = table.get("package").and_then(|package| package.get("name")?.as_str());
    let name = name.with_context(|| format!("{}: package.name is missing", path.display()))?;
    Ok(name.to_owned())
}
