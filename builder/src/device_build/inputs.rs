//! Inputs of a program's build, as a key: programs of one key have the same bytes.

use super::relevant::Relevant;
use crate::process;
use crate::toolchain::Rust;
use crate::workspace;
use anyhow::{Context, Result};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

/// Beginnings of the names of variables with which a user changes what cargo and `cc` make.
const VARIABLES: [&str; 7] = [
    "CARGO_PROFILE_",
    "CARGO_SOURCE_",
    "CARGO_UNSTABLE_",
    "CARGO_INCREMENTAL",
    "CARGO_BUILD_INCREMENTAL",
    "CFLAGS",
    "TARGET_CFLAGS",
];

/// Everything that goes into the programs of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inputs {
    /// SHA-256 over all of it, in hexadecimal.
    pub(super) key: String,
    /// The directories with the sources, of the package and of all that it reaches by path.
    directories: BTreeSet<PathBuf>,
}

/// A package of a checkout.
#[derive(Debug)]
struct Package {
    name: String,
    /// The directories of the packages that it is built with.
    needs: Vec<PathBuf>,
    /// The package has a program that runs while it is built, and that can read anything.
    reads_anything: bool,
}

/// A workspace as cargo sees it.
#[derive(Debug)]
struct CargoWorkspace {
    root: PathBuf,
    /// By the directories of the packages.
    packages: BTreeMap<PathBuf, Package>,
}

/// The workspaces that cargo was asked about; each is asked about once.
#[derive(Debug, Default)]
pub(super) struct Workspaces(Mutex<Vec<Arc<CargoWorkspace>>>);

impl Workspaces {
    /// Everything that goes into the programs of the package in `directory`, with `settings` for what is no
    /// file of the checkout. `None` where not all of it can be told, or some of it is outside the checkout.
    pub(super) fn inputs(
        &self,
        rust: &Rust,
        checkout: &Path,
        directory: &Path,
        package: &str,
        settings: &[String],
    ) -> Result<Option<Inputs>> {
        let Ok(directory) = fs::canonicalize(directory) else { return Ok(None) };
        if !directory.starts_with(checkout) {
            return Ok(None);
        }
        // Cargo says it better what is wrong with a package, once that is built.
        let Ok(own) = self.workspace_of(rust, &directory) else { return Ok(None) };
        let named = own.packages.iter().find(|(_, found)| found.name == package);
        let Some((home, _)) = named else { return Ok(None) };
        let mut roots = BTreeSet::from([own.root.clone()]);
        let mut directories = BTreeSet::new();
        let mut left = vec![home.clone()];
        while let Some(next) = left.pop() {
            if !directories.insert(next.clone()) {
                continue;
            }
            let Ok(workspace) = self.workspace_of(rust, &next) else { return Ok(None) };
            let found = workspace.packages.get(&next).filter(|found| !found.reads_anything);
            let Some(found) = found.filter(|_| next.starts_with(checkout)) else {
                return Ok(None);
            };
            roots.insert(workspace.root.clone());
            left.extend(found.needs.iter().cloned());
        }
        let lock = own.root.join("Cargo.lock");
        if !lock.is_file() || !roots.iter().all(|root| root.starts_with(checkout)) {
            return Ok(None);
        }
        let mut hash = Hash::default();
        for setting in settings {
            hash.add("setting", setting.as_bytes());
        }
        for (name, value) in variables(std::env::vars_os()) {
            hash.add(&name, value.as_encoded_bytes());
        }
        for path in configurations(&directory) {
            hash.add("configuration", &workspace::read(&path)?);
        }
        hash.add("package", package.as_bytes());
        let relevant = Relevant::of(&workspace::read_text(&lock)?, package);
        hash.add("lock", relevant.lock.as_bytes());
        for root in &roots {
            hash.add_name("workspace", checkout, root);
            let manifest = workspace::read_text(&root.join("Cargo.toml"))?;
            hash.add("manifest", relevant.of_manifest(&manifest).as_bytes());
        }
        for directory in &directories {
            hash.add_name("directory", checkout, directory);
            let Some(files) = files(directory)? else { return Ok(None) };
            for file in files {
                hash.add_name("file", checkout, &file);
                hash.add("contents", &workspace::read(&file)?);
            }
        }
        Ok(Some(Inputs { key: hash.finish(), directories }))
    }

    /// The workspace that a directory is the root of, or a package's in.
    fn workspace_of(&self, rust: &Rust, directory: &Path) -> Result<Arc<CargoWorkspace>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().find(|workspace| {
            workspace.root == directory || workspace.packages.contains_key(directory)
        });
        if let Some(found) = found {
            return Ok(Arc::clone(found));
        }
        let mut command = Command::new(&rust.cargo);
        command
            .current_dir(directory)
            .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
            .env("RUSTC", &rust.rustc)
            .env_remove("RUSTUP_TOOLCHAIN");
        let metadata = process::output(&mut command)?;
        let told = Arc::new(CargoWorkspace::told(&metadata).with_context(|| {
            format!("cargo metadata in {} tells of no workspace", directory.display())
        })?);
        known.push(Arc::clone(&told));
        Ok(told)
    }
}

impl CargoWorkspace {
    /// The workspace in what `cargo metadata` printed.
    fn told(metadata: &str) -> Option<Self> {
        let metadata: Value = serde_json::from_str(metadata).ok()?;
        let root = real(metadata.get("workspace_root")?)?;
        let mut packages = BTreeMap::new();
        for package in metadata.get("packages")?.as_array()? {
            let manifest = real(package.get("manifest_path")?)?;
            let mut needs = Vec::new();
            for dependency in package.get("dependencies")?.as_array()? {
                let is_for_tests = dependency.get("kind").is_some_and(|kind| kind == "dev");
                if let Some(path) = dependency.get("path").filter(|path| !path.is_null())
                    && !is_for_tests
                {
                    needs.push(real(path)?);
                }
            }
            let targets = package.get("targets")?.as_array()?;
            let kinds = targets.iter().filter_map(|target| target.get("kind")?.as_array());
            let reads_anything =
                kinds.flatten().any(|kind| kind == "custom-build" || kind == "proc-macro");
            let name = package.get("name")?.as_str()?.to_owned();
            packages.insert(manifest.parent()?.to_owned(), Package { name, needs, reads_anything });
        }
        Some(Self { root, packages })
    }
}

impl Inputs {
    /// A file that cargo has built one of the programs from, and that is in none of the directories. Cargo
    /// lists those of packages with a path in a file beside each program.
    pub(super) fn stray(&self, programs: &BTreeMap<String, PathBuf>) -> Result<Option<PathBuf>> {
        for program in programs.values() {
            let list = workspace::read_text(&program.with_extension("d"))?;
            let stray = listed(&list).into_iter().find(|file| {
                let file = fs::canonicalize(file).unwrap_or_else(|_| file.clone());
                !self.directories.iter().any(|directory| file.starts_with(directory))
            });
            if stray.is_some() {
                return Ok(stray);
            }
        }
        Ok(None)
    }
}

/// The files behind the colon of a rule of make, in which a space that belongs to a name follows a backslash.
fn listed(rule: &str) -> Vec<PathBuf> {
    let files = rule.split_once(": ").map_or("", |(_, files)| files.trim_end());
    // No path has a zero byte.
    let files = files.replace("\\ ", "\0");
    let names = files.split(' ').filter(|name| !name.is_empty());
    names.map(|name| PathBuf::from(name.replace('\0', " "))).collect()
}

fn real(path: &Value) -> Option<PathBuf> {
    fs::canonicalize(path.as_str()?).ok()
}

/// The variables among `all` that change what is built, in the order of their names.
fn variables(all: impl Iterator<Item = (OsString, OsString)>) -> BTreeMap<String, OsString> {
    all.map(|(name, value)| (name.to_string_lossy().into_owned(), value))
        .filter(|(name, _)| VARIABLES.iter().any(|beginning| name.starts_with(beginning)))
        .collect()
}

/// The files that configure cargo in a directory: they can name another registry, and the name of its
/// directory is in programs.
fn configurations(directory: &Path) -> Vec<PathBuf> {
    let mut homes: Vec<PathBuf> = directory.ancestors().map(|d| d.join(".cargo")).collect();
    // The user's, which a checkout may be below.
    homes.extend(cargo_home().filter(|home| !homes.contains(home)));
    homes
        .into_iter()
        .flat_map(|home| [home.join("config.toml"), home.join("config")])
        .filter(|path| path.is_file())
        .collect()
}

/// The directory in which cargo keeps the sources of crates.
pub(super) fn cargo_home() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

/// All files below a directory but those of git and of cargo's builds, sorted. `None` where there is
/// anything but files and directories: where a link leads to can change unseen.
fn files(directory: &Path) -> Result<Option<Vec<PathBuf>>> {
    let mut files = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        let list = || format!("cannot list {}", next.display());
        for entry in fs::read_dir(&next).with_context(list)? {
            let entry = entry.with_context(list)?;
            let kind = entry.file_type().with_context(list)?;
            let (path, name) = (entry.path(), entry.file_name());
            let is_built = name == "target" && path.join("CACHEDIR.TAG").is_file();
            if is_built || name == ".git" {
                continue;
            }
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_file() {
                files.push(path);
            } else {
                return Ok(None);
            }
        }
    }
    files.sort();
    Ok(Some(files))
}

/// A hash over things with names, none of which can be taken for a part of another.
#[derive(Default)]
struct Hash(Sha256);

impl Hash {
    fn add(&mut self, name: &str, bytes: &[u8]) {
        for part in [name.as_bytes(), bytes] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }

    /// Adds a path as it is in every checkout.
    fn add_name(&mut self, name: &str, checkout: &Path, path: &Path) {
        let path = path.strip_prefix(checkout).unwrap_or(path);
        self.add(name, path.as_os_str().as_encoded_bytes());
    }

    fn finish(self) -> String {
        holdfast_images::hex(&self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_rule_may_have_spaces_in_their_names() {
        let found = listed("/t/hello: /h/a\\ b/main.rs /h/lib.rs\n");
        assert_eq!(found, [PathBuf::from("/h/a b/main.rs"), PathBuf::from("/h/lib.rs")]);
        assert_eq!(listed("/t/hello:\n"), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_file_of_no_package_is_noticed() {
        let scratch = tempfile::tempdir().unwrap();
        let program = scratch.path().join("hello");
        let directories = BTreeSet::from([PathBuf::from("/h/hello")]);
        let inputs = Inputs { key: String::new(), directories };
        let programs = BTreeMap::from([("hello".to_owned(), program.clone())]);
        let list = |text: &str| fs::write(program.with_extension("d"), text).unwrap();
        list("/t/hello: /h/hello/src/main.rs\n");
        assert_eq!(inputs.stray(&programs).unwrap(), None);
        list("/t/hello: /h/hello/src/main.rs /h/docs/page.md\n");
        assert_eq!(inputs.stray(&programs).unwrap(), Some("/h/docs/page.md".into()));
    }

    #[test]
    fn variables_that_change_programs_are_found() {
        let all = ["CARGO_PROFILE_DEVICE_DEBUG", "CARGO_HOME", "PATH", "CFLAGS_armv7"];
        let found = variables(all.map(|name| (name.into(), "1".into())).into_iter());
        let names: Vec<&String> = found.keys().collect();
        assert_eq!(names, ["CARGO_PROFILE_DEVICE_DEBUG", "CFLAGS_armv7"]);
    }
}
