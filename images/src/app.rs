//! An app directory: its manifest and the files that make up the app.
//!
//! ```text
//! DIR/app_manifest.json   what the app is
//! DIR/Cargo.toml          with it, the package's program is built and put at the entry point
//! DIR/src/*.c             without it, the C program they make is
//! DIR/root/...            files taken over as they are, prebuilt programs and libraries included
//! ```

use crate::destination::{self, DestinationError};
use crate::document::{self, DocumentError};
use crate::{FieldError, FileError};
use holdfast_manifest::AppManifestError;
use holdfast_manifest::elf::{self, ElfError};
use holdfast_sandbox::app_manifest::{self, AppManifest};
use holdfast_sandbox::package::entry::{self, FORBIDDEN_MODE};
use holdfast_sandbox::peripheral::{self, BoardPeripheral, NotGranted};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// One file of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppFile {
    /// Contents.
    pub bytes: Vec<u8>,
    /// True when it may be executed.
    pub executable: bool,
}

/// An app as it goes into an image.
#[derive(Debug, Clone)]
pub struct App {
    /// The app's directory on the host.
    pub directory: PathBuf,
    /// The app manifest, parsed and checked.
    pub manifest: AppManifest,
    /// The bytes of `app_manifest.json`.
    pub manifest_text: Vec<u8>,
    /// Files of the app by path without the leading slash.
    pub files: BTreeMap<String, AppFile>,
    /// Targets of the app's symbolic links, by path without the leading slash.
    pub links: BTreeMap<String, String>,
}

/// An error of loading an app.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The manifest is no file, or too long.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The manifest is no JSON, or does not follow the schema: one line for each fault.
    #[error("{}", lines(path, error))]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// The parser's error, which the text has on a line for each fault.
        error: AppManifestError,
    },
    /// The manifest asks for what this OS version or the board cannot grant.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Unsupported(Vec<FieldError>),
    /// The board does not have what the manifest asks for.
    #[error("{}: {refusal}", path.display())]
    NotGranted {
        /// The manifest.
        path: PathBuf,
        /// The peripheral that is missing, and those that there are. The text has it in full, so that it is no source.
        refusal: NotGranted,
    },
    /// A value in the manifest does not fit the app's files.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A file of the app may not be in an image.
    #[error("{}: {reason}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The kind of entry that it is instead.
        reason: &'static str,
    },
    /// A program of the app is unfit.
    #[error("{}", path.display())]
    Elf {
        /// The program.
        path: PathBuf,
        /// The property for which the program is refused.
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
        /// Path on the host at which the file could be put.
        expected: PathBuf,
    },
}

/// Each fault on a line of its own, behind the manifest's path.
fn lines(path: &Path, error: &AppManifestError) -> String {
    let path = path.display();
    error.to_string().lines().map(|fault| format!("{path}: {fault}")).collect::<Vec<_>>().join("\n")
}

/// Refuses every grant that this OS version does not have. `path` is the manifest's.
///
/// # Errors
/// One fault for each such grant.
pub fn check_supported(manifest: &AppManifest, path: &Path) -> Result<(), AppError> {
    if manifest.unsupported.is_empty() {
        return Ok(());
    }
    let faults = manifest.unsupported.iter().map(|field| FieldError {
        path: path.to_owned(),
        field: field.clone(),
        reason: "not supported by this OS version; leave it out".to_owned(),
    });
    Err(AppError::Unsupported(faults.collect()))
}

/// Reads and checks the manifest in `directory`.
///
/// # Errors
/// Unreadable, not JSON, an unknown or missing field, or a value out of bounds.
pub fn load_manifest(directory: &Path) -> Result<AppManifest, AppError> {
    load_manifest_file(&directory.join(app_manifest::FILE_NAME))
}

/// Reads and checks the manifest at `path`.
///
/// # Errors
/// As [`load_manifest`].
pub fn load_manifest_file(path: &Path) -> Result<AppManifest, AppError> {
    let text = document::read(path, app_manifest::MAX_BYTES)?;
    holdfast_manifest::parse(&text)
        .map_err(|error| AppError::Manifest { path: path.to_owned(), error })
}

/// Checks the manifests of apps that are to live on one device.
///
/// # Errors
/// A manifest is refused, this OS version or a board that offers `offered` cannot grant what it asks for,
/// or a peripheral that two of them claim.
pub fn check_together(
    directories: &[PathBuf],
    offered: &[BoardPeripheral],
) -> Result<(), AppError> {
    let path = |directory: &PathBuf| directory.join(app_manifest::FILE_NAME);
    let manifests: Vec<AppManifest> = directories
        .iter()
        .map(|directory| load_manifest(directory))
        .collect::<Result<_, AppError>>()?;
    let borrowed: Vec<&AppManifest> = manifests.iter().collect();
    let contested = holdfast_manifest::contested(&borrowed);
    if !contested.is_empty() {
        let faults = contested.into_iter().map(|(index, fault)| FieldError {
            path: directories.get(index).map(path).unwrap_or_default(),
            field: fault.path,
            reason: fault.reason,
        });
        return Err(AppError::Unsupported(faults.collect()));
    }
    for (directory, manifest) in directories.iter().zip(&manifests) {
        check_supported(manifest, &path(directory))?;
        peripheral::grant(manifest, offered)
            .map_err(|refusal| AppError::NotGranted { path: path(directory), refusal })?;
    }
    Ok(())
}

/// Collects and checks the app in `directory`. `program` is what was built for its entry point,
/// for an app that is built from source.
///
/// # Errors
/// See [`AppError`].
pub fn load(directory: &Path, program: Option<Vec<u8>>) -> Result<App, AppError> {
    let mut app = begin(directory)?;
    let entry = app.manifest.entry_point.trim_start_matches('/').to_owned();
    if let Some(bytes) = program {
        app.files.insert(entry.clone(), AppFile { bytes, executable: true });
    }
    app.check(&entry)?;
    Ok(app)
}

/// An app with what lies below `root/` of its directory, not checked yet.
pub(crate) fn begin(directory: &Path) -> Result<App, AppError> {
    let manifest = load_manifest(directory)?;
    let manifest_path = directory.join(app_manifest::FILE_NAME);
    check_supported(&manifest, &manifest_path)?;
    let manifest_text = document::read(&manifest_path, app_manifest::MAX_BYTES)?;
    let (mut files, mut links) = (BTreeMap::new(), BTreeMap::new());
    let root = directory.join("root");
    if root.is_dir() {
        collect(&root, "", &mut files, &mut links)?;
    }
    Ok(App { directory: directory.to_owned(), manifest, manifest_text, files, links })
}

/// Directories of an app whose files make it.
const SOURCES: [&str; 3] = ["src", "include", "root"];
/// Files of an app that make it, beside its manifest.
const SOURCE_FILES: [&str; 6] = [
    "Cargo.toml",
    "Cargo.lock",
    "build.rs",
    "rust-toolchain",
    "rust-toolchain.toml",
    ".cargo/config.toml",
];
/// Longest manifest of a Cargo package in which an output is looked for, in bytes.
const MAX_CARGO_BYTES: usize = 1 << 20;
/// Deeper than this, files are not compared with an output.
const MOST_LEVELS: usize = 16;

/// Refuses an output that is, or would lie among, what the app in `directory` is made from.
///
/// # Errors
/// The output is one of those files, or lies in one of those directories.
pub fn refuse_output(directory: &Path, output: &Path) -> Result<(), DestinationError> {
    let sources = SOURCES.map(|name| directory.join(name));
    destination::refuse_inside(output, sources.iter().map(PathBuf::as_path))?;
    let mut files: Vec<PathBuf> = [app_manifest::FILE_NAME]
        .into_iter()
        .chain(SOURCE_FILES)
        .map(|name| directory.join(name))
        .chain(targets(&directory.join("Cargo.toml")))
        .collect();
    // Links and further names of a file lead out of the directories.
    for source in &sources {
        files_below(source, MOST_LEVELS, &mut files);
    }
    destination::refuse_inputs(output, files.iter().map(PathBuf::as_path))
}

/// Files that a Cargo package names as the beginnings of its programs; what is wrong with it, cargo says.
fn targets(cargo: &Path) -> Vec<PathBuf> {
    let bytes = document::read(cargo, MAX_CARGO_BYTES).unwrap_or_default();
    let Ok(table) = toml::from_slice::<toml::Table>(&bytes) else { return Vec::new() };
    let programs = table.get("bin").and_then(toml::Value::as_array).into_iter().flatten();
    let named = programs.chain(table.get("lib")).filter_map(|target| target.get("path"));
    let build = table.get("package").and_then(|package| package.get("build"));
    let paths = named.chain(build).filter_map(toml::Value::as_str);
    paths.map(|path| cargo.with_file_name(path)).collect()
}

/// Adds the files below a directory, as far as they can be listed: what cannot be read is said when it is.
fn files_below(directory: &Path, levels: usize, files: &mut Vec<PathBuf>) {
    for path in fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()) {
        match levels.checked_sub(1) {
            Some(levels) if path.is_dir() => files_below(&path, levels, files),
            _ => files.push(path),
        }
    }
}

impl App {
    fn host_path(&self, file: &str) -> PathBuf {
        self.directory.join("root").join(file)
    }

    pub(crate) fn check(&self, entry: &str) -> Result<(), AppError> {
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
            if let Some(file) = loader.as_ref().and_then(|loader| self.files.get(loader))
                && !file.executable
            {
                let path = self.host_path(loader.as_deref().unwrap_or_default());
                return Err(AppError::Entry { path, reason: "is a loader, but not executable" });
            }
            let libraries = needs.libraries.iter().map(|library| format!("lib/{library}"));
            for needed in loader.into_iter().chain(libraries) {
                if !self.files.contains_key(&needed) && !self.links.contains_key(&needed) {
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
    links: &mut BTreeMap<String, String>,
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
            collect(&path, &inside, files, links)?;
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path).map_err(FileError::at("read the link", &path))?;
            let Some(target) = target.to_str() else {
                return refuse("leads to a name that is not UTF-8");
            };
            entry::check_link(inside.as_bytes(), target.as_bytes())
                .map_err(|reason| AppError::Entry { path: path.clone(), reason })?;
            links.insert(inside, target.to_owned());
        } else if !metadata.is_file() {
            return refuse("is neither a regular file nor a directory nor a link");
        } else if mode & FORBIDDEN_MODE != 0 {
            return refuse("is setuid, setgid or sticky");
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
        holdfast_types::chain(&load(directory.path(), None).expect_err("was accepted"))
    }

    #[test]
    fn a_manifest_with_an_unknown_field_or_a_grant_is_refused_by_name() {
        let directory = app(&MANIFEST.replace("\"Name\"", "\"Nom\""));
        assert!(refusal(&directory).contains("app_manifest.json: Nom: is not a field"));
        let directory = app(&MANIFEST.replace("{}", "{\"Pwm\": [1], \"Adc\": [0]}"));
        let message = refusal(&directory);
        assert_eq!(message.lines().count(), 2, "{message}");
        assert!(
            message
                .contains("app_manifest.json: Capabilities.Pwm: not supported by this OS version")
        );
        let directory = app(&MANIFEST.replace("\"SchemaVersion\": 1", "\"SchemaVersion\": 7"));
        assert!(refusal(&directory).ends_with("app_manifest.json: SchemaVersion: must be 1, is 7"));
    }

    #[test]
    fn a_manifest_is_a_file_within_bounds() {
        let directory = app(&format!("{MANIFEST}{}", " ".repeat(app_manifest::MAX_BYTES)));
        assert!(refusal(&directory).ends_with("app_manifest.json: is longer than 65536 bytes"));
        let path = directory.path().join(app_manifest::FILE_NAME);
        fs::remove_file(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        assert!(refusal(&directory).contains("app_manifest.json: is no regular file; write"));
    }

    #[test]
    fn an_output_is_no_source_of_the_app() {
        let directory = app(MANIFEST);
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("src")).unwrap();
        let cargo = "[package]\nbuild = \"make.rs\"\n[[bin]]\nname = \"x\"\npath = \"x.rs\"\n";
        fs::write(at("Cargo.toml"), cargo).unwrap();
        for name in ["x.rs", "make.rs", "elsewhere.h", "other", "src/main.c", "root/bin/app"] {
            fs::write(at(name), "x").unwrap();
        }
        symlink("../elsewhere.h", at("src/elsewhere.h")).unwrap();
        symlink("src/main.c", at("link")).unwrap();
        for source in [
            "app_manifest.json",
            "Cargo.toml",
            "x.rs",
            "make.rs",
            "elsewhere.h",
            "link",
            "src/main.c",
            "src/new",
            "root/bin/app",
            "root/new",
        ] {
            let message = refuse_output(directory.path(), &at(source)).unwrap_err().to_string();
            assert!(message.contains(source) && message.contains("; name a"), "{message}");
        }
        for good in ["other", "app.package", "target/app.package"] {
            refuse_output(directory.path(), &at(good)).unwrap();
        }
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
        assert!(
            refusal(&directory).contains("root/bin/app: is a link that leads out of the package")
        );
        fs::remove_file(&path).unwrap();
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
        assert!(refusal(&directory).ends_with("is setuid, setgid or sticky"));
    }
}
