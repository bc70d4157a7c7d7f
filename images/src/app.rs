//! An app directory: its manifest and the files that make up the app.
//!
//! ```text
//! DIR/app_manifest.json   what the app is
//! DIR/Cargo.toml          with it, the package's program is built and put at the entry point
//! DIR/root/...            files taken over as they are, prebuilt programs and libraries included
//! ```

use crate::elf::{self, ElfError};
use crate::{FieldError, FileError};
use holdfast_core::app_manifest::{self, AppManifest};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// One file of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppFile {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// True when it may be executed.
    pub executable: bool,
}

/// An app as it goes into an image.
#[derive(Debug, Clone)]
pub struct App {
    /// Its directory on the host.
    pub directory: PathBuf,
    /// Its manifest.
    pub manifest: AppManifest,
    /// Its files by path without the leading slash.
    pub files: BTreeMap<String, AppFile>,
}

/// Why an app was refused.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The manifest is longer than it may be.
    #[error("{}: longer than {} bytes", .0.display(), app_manifest::MAX_BYTES)]
    ManifestTooLong(PathBuf),
    /// The manifest is no JSON, or not of the right shape; the message names line and field.
    #[error("{}: {reason}", path.display())]
    Json {
        /// The manifest.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// A value in the manifest is out of bounds.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A file of the app may not be in an image.
    #[error("{}: {reason}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: &'static str,
    },
    /// A program of the app is unfit.
    #[error("{}: {source}", path.display())]
    Elf {
        /// The program.
        path: PathBuf,
        /// Why; said in full above.
        source: ElfError,
    },
    /// A program needs a file that the app does not bring and the image does not have.
    #[error(
        "{}: needs `{needed}`, which is not among the app's files; \
         link it statically, or put it into {}",
        path.display(), expected.display()
    )]
    Missing {
        /// The program.
        path: PathBuf,
        /// The loader or library.
        needed: String,
        /// Where on the host it could be put.
        expected: PathBuf,
    },
}

/// Reads and checks the manifest in `directory`.
///
/// # Errors
/// Unreadable, not JSON, an unknown or missing field, or a value out of bounds.
pub fn load_manifest(directory: &Path) -> Result<AppManifest, AppError> {
    let path = directory.join(app_manifest::FILE_NAME);
    let text = fs::read(&path).map_err(FileError::at("read", &path))?;
    if text.len() > app_manifest::MAX_BYTES {
        return Err(AppError::ManifestTooLong(path));
    }
    let manifest: AppManifest = serde_json::from_slice(&text)
        .map_err(|error| AppError::Json { path: path.clone(), reason: error.to_string() })?;
    manifest.check().map_err(|error| FieldError {
        path,
        field: error.field.to_owned(),
        reason: error.reason,
    })?;
    Ok(manifest)
}

/// Collects and checks the app in `directory`. `program` is what was built for its entry point,
/// for an app that is built from source.
///
/// # Errors
/// See [`AppError`].
pub fn load(directory: &Path, program: Option<Vec<u8>>) -> Result<App, AppError> {
    let manifest = load_manifest(directory)?;
    let mut files = BTreeMap::new();
    let root = directory.join("root");
    if root.is_dir() {
        collect(&root, "", &mut files)?;
    }
    let entry = manifest.entry_point.trim_start_matches('/').to_owned();
    if let Some(bytes) = program {
        files.insert(entry.clone(), AppFile { bytes, executable: true });
    }
    let app = App { directory: directory.to_owned(), manifest, files };
    app.check(&entry)?;
    Ok(app)
}

impl App {
    fn host_path(&self, file: &str) -> PathBuf {
        self.directory.join("root").join(file)
    }

    fn check(&self, entry: &str) -> Result<(), AppError> {
        let path = self.host_path(entry);
        match self.files.get(entry) {
            None => {
                return Err(AppError::Field(FieldError {
                    path: self.directory.join(app_manifest::FILE_NAME),
                    field: "EntryPoint".to_owned(),
                    reason: format!("there is no such program; expected at {}", path.display()),
                }));
            }
            Some(file) if !elf::is_elf(&file.bytes) => {
                return Err(AppError::Elf { path, source: ElfError::NotArm });
            }
            Some(file) if !file.executable => {
                return Err(AppError::Entry {
                    path,
                    reason: "is the entry point, but not executable",
                });
            }
            Some(_) => {}
        }
        for (name, file) in self.files.iter().filter(|(_, file)| elf::is_elf(&file.bytes)) {
            let path = self.host_path(name);
            let needs = elf::check(&file.bytes)
                .map_err(|source| AppError::Elf { path: path.clone(), source })?;
            let loader = needs.interpreter.map(|i| i.trim_start_matches('/').to_owned());
            let libraries = needs.libraries.iter().map(|library| format!("lib/{library}"));
            for needed in loader.into_iter().chain(libraries) {
                if !self.files.contains_key(&needed) {
                    let expected = self.host_path(&needed);
                    return Err(AppError::Missing { path, needed, expected });
                }
            }
        }
        Ok(())
    }
}

/// Takes over `directory` and everything below it.
fn collect(
    directory: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, AppFile>,
) -> Result<(), AppError> {
    let entries = fs::read_dir(directory).map_err(FileError::at("list", directory))?;
    for entry in entries {
        let path = entry.map_err(FileError::at("list", directory))?.path();
        let metadata = fs::symlink_metadata(&path).map_err(FileError::at("examine", &path))?;
        let refuse = |reason| Err(AppError::Entry { path: path.clone(), reason });
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return refuse("has a name that is not UTF-8");
        };
        let inside = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        let mode = metadata.permissions().mode();
        if metadata.is_dir() {
            collect(&path, &inside, files)?;
        } else if !metadata.is_file() {
            return refuse("is neither a regular file nor a directory");
        } else if mode & 0o6000 != 0 {
            return refuse("is setuid or setgid");
        } else {
            let bytes = fs::read(&path).map_err(FileError::at("read", &path))?;
            files.insert(inside, AppFile { bytes, executable: mode & 0o111 != 0 });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const MANIFEST: &str = r#"{"SchemaVersion": 1, "Name": "x", "EntryPoint": "/bin/app",
        "ComponentId": "c2b0a6f8-5e0c-4c5e-9d5b-2f6f3f0c7a11", "Capabilities": {}}"#;

    fn app(manifest: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("app_manifest.json"), manifest).unwrap();
        fs::create_dir_all(directory.path().join("root/bin")).unwrap();
        directory
    }

    fn refusal(directory: &tempfile::TempDir) -> String {
        load(directory.path(), None).expect_err("was accepted").to_string()
    }

    #[test]
    fn a_manifest_with_an_unknown_field_or_a_grant_is_refused_by_name() {
        let directory = app(&MANIFEST.replace("\"Name\"", "\"Nom\""));
        assert!(refusal(&directory).contains("app_manifest.json: unknown field `Nom`"));
        let directory = app(&MANIFEST.replace("{}", "{\"Gpio\": [1]}"));
        assert!(refusal(&directory).contains("unknown field `Gpio`"));
        let directory = app(&MANIFEST.replace("\"SchemaVersion\": 1", "\"SchemaVersion\": 7"));
        assert!(refusal(&directory).ends_with("app_manifest.json: SchemaVersion: must be 1"));
    }

    #[test]
    fn a_missing_program_is_named_with_the_place_it_is_expected_at() {
        let message = refusal(&app(MANIFEST));
        assert!(message.contains("EntryPoint: there is no such program"), "{message}");
        assert!(message.ends_with("root/bin/app"), "{message}");
    }

    #[test]
    fn a_script_and_a_host_program_are_refused() {
        let directory = app(MANIFEST);
        let program = directory.path().join("root/bin/app");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        assert!(refusal(&directory).ends_with("root/bin/app: is not a 32-bit ARM ELF file"));
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        assert!(refusal(&directory).ends_with("root/bin/app: is not a 32-bit ARM ELF file"));
    }

    #[test]
    fn links_and_setuid_files_are_refused() {
        let directory = app(MANIFEST);
        let path = directory.path().join("root/bin/app");
        symlink("/etc/passwd", &path).unwrap();
        assert!(refusal(&directory).ends_with("is neither a regular file nor a directory"));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
        assert!(refusal(&directory).ends_with("is setuid or setgid"));
    }
}
