//! An app whose files come from the root file system of another system, such as Buildroot's target directory: its
//! program with the loader and the libraries that it needs, and what else is named.

use crate::FileError;
use crate::app::{self, App, AppError, AppFile};
use holdfast_manifest::elf;
use holdfast_sandbox::package::entry::FORBIDDEN_MODE;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where a system keeps libraries, below its root; an app has all of them in the first one.
const LIBRARIES: [&str; 2] = ["lib", "usr/lib"];
/// Longest chain of links that is followed.
const MOST_LINKS: usize = 16;

/// Collects and checks the app whose manifest is in `directory`: its entry point from `root`, with what that is linked
/// to, the files and directories `with` (as paths in that root), and what lies below `root/` of `directory`, which
/// stands in the place of a file from elsewhere.
///
/// # Errors
/// See [`AppError`]; a file that is not in `root` is named by the path at which it was looked for.
pub fn load(directory: &Path, root: &Path, with: &[PathBuf]) -> Result<App, AppError> {
    let mut app = app::begin(directory)?;
    let entry = app.manifest.entry_point.trim_start_matches('/').to_owned();
    let root = Root::open(root)?;
    let mut programs = Vec::new();
    for path in with {
        let inside = path.strip_prefix("/").unwrap_or(path);
        root.take_all(inside, &mut app, &mut programs)?;
    }
    let has =
        |app: &App, path: &String| app.files.contains_key(path) || app.links.contains_key(path);
    if !has(&app, &entry) {
        let file = root.read(Path::new(&entry))?;
        programs.push(entry.clone());
        app.files.insert(entry.clone(), file);
    }
    while let Some(name) = programs.pop() {
        let Some(file) = app.files.get(&name).filter(|file| elf::is_elf(&file.bytes)) else {
            continue;
        };
        let needs = elf::check(&file.bytes)
            .map_err(|source| AppError::Elf { path: root.path.join(&name), source })?;
        let loader = needs.interpreter.map(|path| path.trim_start_matches('/').to_owned());
        if let Some(path) = loader.filter(|path| !has(&app, path)) {
            let file = root.read(Path::new(&path))?;
            app.files.insert(path.clone(), file);
            programs.push(path);
        }
        for library in needs.libraries {
            let [place, ..] = LIBRARIES;
            let path = format!("{place}/{library}");
            if !has(&app, &path) {
                app.files.insert(path.clone(), root.library(&library)?);
                programs.push(path);
            }
        }
    }
    app.check(&entry)?;
    Ok(app)
}

/// The root of another system.
struct Root {
    /// As it really is.
    path: PathBuf,
}

impl Root {
    fn open(path: &Path) -> Result<Self, AppError> {
        let path = fs::canonicalize(path).map_err(FileError::at("find", path))?;
        Ok(Self { path })
    }

    /// Where a path leads, with links taken as that system would: an absolute one begins at its root.
    fn resolve(&self, inside: &Path) -> Result<PathBuf, AppError> {
        let mut path = self.path.join(inside);
        for _ in 0..MOST_LINKS {
            let Ok(target) = fs::read_link(&path) else { break };
            let base = path.parent().unwrap_or(&self.path).to_owned();
            path = match target.strip_prefix("/") {
                Ok(absolute) => self.path.join(absolute),
                Err(_) => base.join(target),
            };
        }
        let real =
            fs::canonicalize(&path).map_err(FileError::at("find", &self.path.join(inside)))?;
        if !real.starts_with(&self.path) {
            let path = self.path.join(inside);
            return Err(AppError::Entry { path, reason: "is a link that leads out of its root" });
        }
        Ok(real)
    }

    /// A file, whatever links lead to it.
    fn read(&self, inside: &Path) -> Result<AppFile, AppError> {
        let path = self.resolve(inside)?;
        let metadata = fs::metadata(&path).map_err(FileError::at("examine", &path))?;
        let mode = metadata.permissions().mode();
        let refuse = |reason| Err(AppError::Entry { path: path.clone(), reason });
        if !metadata.is_file() {
            return refuse("is no regular file");
        }
        if mode & FORBIDDEN_MODE != 0 {
            return refuse("is setuid, setgid or sticky");
        }
        let bytes = fs::read(&path).map_err(FileError::at("read", &path))?;
        Ok(AppFile { bytes, executable: mode & 0o111 != 0 })
    }

    fn library(&self, name: &str) -> Result<AppFile, AppError> {
        let places = LIBRARIES.map(|place| Path::new(place).join(name));
        let there = places.iter().find(|place| self.path.join(place).symlink_metadata().is_ok());
        let [usual, _] = &places;
        self.read(there.unwrap_or(usual))
    }

    /// Takes a file, or all below a directory, and tells which files may be programs.
    fn take_all(
        &self,
        inside: &Path,
        app: &mut App,
        taken: &mut Vec<String>,
    ) -> Result<(), AppError> {
        let path = self.path.join(inside);
        let Some(name) = inside.to_str() else {
            return Err(AppError::Entry { path, reason: "has a name that is not UTF-8" });
        };
        let real = self.resolve(inside)?;
        if !real.is_dir() {
            let file = self.read(inside)?;
            app.files.entry(name.to_owned()).or_insert(file);
            taken.push(name.to_owned());
            return Ok(());
        }
        if path.is_symlink() {
            return Err(AppError::Entry { path, reason: "is a link to a directory; name that" });
        }
        let entries = fs::read_dir(&real).map_err(FileError::at("list", &real))?;
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.map_err(FileError::at("list", &real))?.file_name());
        }
        names.sort();
        names.into_iter().try_for_each(|name| self.take_all(&inside.join(name), app, taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const MANIFEST: &str = r#"{"SchemaVersion": 1, "Name": "x", "EntryPoint": "/usr/bin/app",
        "ComponentId": "c2b0a6f8-5e0c-4c5e-9d5b-2f6f3f0c7a11", "Capabilities": {}}"#;

    struct Bench {
        scratch: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let scratch = tempfile::tempdir().unwrap();
            let bench = Self { scratch };
            bench.write("app/app_manifest.json", MANIFEST.as_bytes());
            bench.write("target/usr/share/data/one", b"1");
            bench.write("target/etc/secret", b"not for the app");
            bench
        }

        fn at(&self, path: &str) -> PathBuf {
            self.scratch.path().join(path)
        }

        fn write(&self, path: &str, bytes: &[u8]) {
            fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
            fs::write(self.at(path), bytes).unwrap();
        }

        fn refusal(&self, with: &[&str]) -> String {
            let with: Vec<PathBuf> = with.iter().map(PathBuf::from).collect();
            let loaded = load(&self.at("app"), &self.at("target"), &with);
            holdfast_types::chain(&loaded.expect_err("was accepted"))
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_named_by_where_it_was_looked_for() {
        let bench = Bench::new();
        assert!(bench.refusal(&[]).contains("target/usr/bin/app"), "{}", bench.refusal(&[]));
        bench.write("target/usr/bin/app", b"#!/bin/sh\n");
        let message = bench.refusal(&[]);
        assert!(message.ends_with("is not a 32-bit ARM ELF file"), "{message}");
    }

    #[test]
    fn nothing_outside_the_root_is_taken_by_a_link() {
        let bench = Bench::new();
        bench.write("secret", b"of the host");
        fs::create_dir_all(bench.at("target/usr/bin")).unwrap();
        symlink("../../../secret", bench.at("target/usr/bin/app")).unwrap();
        let message = bench.refusal(&[]);
        assert!(message.contains("is a link that leads out of its root"), "{message}");
        fs::remove_file(bench.at("target/usr/bin/app")).unwrap();
        // Of that system's root, and not of this host's.
        symlink("/etc/secret", bench.at("target/usr/bin/app")).unwrap();
        let message = bench.refusal(&[]);
        assert!(message.ends_with("is not a 32-bit ARM ELF file"), "{message}");
    }

    #[test]
    fn what_is_named_is_taken_and_nothing_else() {
        let bench = Bench::new();
        let mut app = app::begin(&bench.at("app")).unwrap();
        let root = Root::open(&bench.at("target")).unwrap();
        let mut taken = Vec::new();
        root.take_all(Path::new("usr/share"), &mut app, &mut taken).unwrap();
        assert_eq!(taken, ["usr/share/data/one"]);
        assert_eq!(app.files.keys().collect::<Vec<_>>(), ["usr/share/data/one"]);
        let message = bench.refusal(&["/usr/share/none"]);
        assert!(message.contains("target/usr/share/none"), "{message}");
    }
}
