//! Admission: validates the files and the manifest of one app package in a process of its own, so that PID 1 parses
//! neither. With the argument `order`, it validates an order to reset on a card.
//!
//! It sees the package at `/app`, writes one answer to its standard output and ends. Whatever the
//! package does to it, it can only lie within the bounds that init checks again
//! (`AppManifest::decode`): it claims what some manifest could have claimed, for this app alone.

mod order;

use holdfast_manifest::AppManifestError;
use holdfast_manifest::elf::{self, ElfError};
use holdfast_sandbox::app_manifest::{self, EncodedManifestError};
use holdfast_sandbox::package::entry::{self, FORBIDDEN_MODE};
use holdfast_sandbox::policy::{APP_DIRECTORY, ORDER_ARGUMENT, admission};
use holdfast_types::chain;
use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Errors of a package's contents: its app may not run.
#[derive(Debug, thiserror::Error)]
enum ContentsError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} {reason}", path.display())]
    Entry { path: PathBuf, reason: &'static str },
    #[error("{} {error}", path.display())]
    Elf { path: PathBuf, error: ElfError },
    #[error("app_manifest.json")]
    Manifest(#[from] AppManifestError),
    #[error("app_manifest.json")]
    Encoded(#[from] EncodedManifestError),
}

/// Runs the service until it ends.
#[must_use]
pub fn run() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let answer = match (arguments.next(), arguments.next()) {
        (Some(order), Some(argument)) if order == ORDER_ARGUMENT => match order::confirm(&argument)
        {
            Ok(()) => admission::confirm(),
            Err(error) => admission::refuse(&chain(&error)),
        },
        _ => match check(Path::new(APP_DIRECTORY)) {
            Ok(manifest) => admission::accept(&manifest),
            Err(error) => admission::refuse(&chain(&error)),
        },
    };
    match io::stdout().write_all(&answer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn check(package: &Path) -> Result<Vec<u8>, ContentsError> {
    let mut left = entry::MAX_ENTRIES;
    check_directory(package, package, 0, &mut left)?;
    let path = package.join(app_manifest::FILE_NAME);
    let manifest =
        holdfast_manifest::parse(&read(&path, app_manifest::MAX_BYTES.saturating_add(1))?)?;
    Ok(manifest.encode()?)
}

/// Reads the first `limit` bytes of a file.
fn read(path: &Path, limit: usize) -> Result<Vec<u8>, ContentsError> {
    let failed = |source| ContentsError::Read { path: path.to_owned(), source };
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}

fn check_directory(
    package: &Path,
    directory: &Path,
    depth: usize,
    left: &mut usize,
) -> Result<(), ContentsError> {
    let refuse = |path: &Path, reason| Err(ContentsError::Entry { path: path.to_owned(), reason });
    if depth > entry::MAX_DEPTH {
        return refuse(directory, "lies too deep");
    }
    let failed = |source| ContentsError::Read { path: directory.to_owned(), source };
    for found in fs::read_dir(directory).map_err(failed)? {
        let path = found.map_err(failed)?.path();
        *left = match left.checked_sub(1) {
            Some(left) => left,
            None => return refuse(&path, "is one entry too many"),
        };
        let failed = |source| ContentsError::Read { path: path.clone(), source };
        let metadata = fs::symlink_metadata(&path).map_err(failed)?;
        if metadata.mode() & FORBIDDEN_MODE != 0 {
            return refuse(&path, "is setuid, setgid or sticky");
        }
        if metadata.is_dir() {
            check_directory(package, &path, depth.saturating_add(1), left)?;
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path).map_err(failed)?;
            let inside = path.strip_prefix(package).unwrap_or(&path);
            let (inside, target) = (inside.as_os_str().as_bytes(), target.as_os_str().as_bytes());
            if let Err(reason) = entry::check_link(inside, target) {
                return refuse(&path, reason);
            }
        } else if metadata.is_file() {
            let start = read(&path, elf::SEGMENT_BYTES)?;
            if elf::is_elf(&start) {
                elf::check_segments(&start)
                    .map_err(|error| ContentsError::Elf { path: path.clone(), error })?;
            }
        } else {
            return refuse(&path, "is neither a regular file nor a directory nor a link");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is a failed test")]
    use super::*;
    use holdfast_sandbox::app_manifest::AppManifest;
    use std::os::unix::fs::{PermissionsExt, symlink};

    const MANIFEST: &str = r#"{"SchemaVersion": 1, "Name": "x", "EntryPoint": "/bin/app",
        "ComponentId": "c2b0a6f8-5e0c-4c5e-9d5b-2f6f3f0c7a11", "Capabilities": {}}"#;

    fn package() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("app_manifest.json"), MANIFEST).unwrap();
        fs::create_dir(directory.path().join("bin")).unwrap();
        fs::write(directory.path().join("bin/data"), "text").unwrap();
        directory
    }

    fn refusal(package: &tempfile::TempDir) -> String {
        chain(&check(package.path()).unwrap_err())
    }

    #[test]
    fn a_sound_package_gives_its_manifest() {
        let package = package();
        symlink("data", package.path().join("bin/link")).unwrap();
        symlink("../bin/data", package.path().join("bin/other")).unwrap();
        let manifest = AppManifest::decode(&check(package.path()).unwrap()).unwrap();
        assert_eq!(manifest.name, "x");
    }

    #[test]
    fn every_hostile_entry_is_refused() {
        for target in ["/etc/passwd", "../../etc/passwd", "../bin/../../x"] {
            let package = package();
            symlink(target, package.path().join("bin/link")).unwrap();
            assert!(
                refusal(&package).ends_with("leads out of the package; make it relative"),
                "{target}"
            );
        }
        let setuid = package();
        let mode = fs::Permissions::from_mode(0o4755);
        fs::set_permissions(setuid.path().join("bin/data"), mode).unwrap();
        assert!(refusal(&setuid).ends_with("is setuid, setgid or sticky"));
        let socket = package();
        let _listener =
            std::os::unix::net::UnixListener::bind(socket.path().join("bin/socket")).unwrap();
        assert!(refusal(&socket).ends_with("neither a regular file nor a directory nor a link"));
        let program = package();
        fs::copy(env::current_exe().unwrap(), program.path().join("bin/app")).unwrap();
        assert!(refusal(&program).ends_with("is not a 32-bit ARM ELF file"));
        let deep = package();
        fs::create_dir_all(deep.path().join("d/".repeat(40))).unwrap();
        assert!(refusal(&deep).ends_with("lies too deep"));
    }

    #[test]
    fn a_broken_or_endless_manifest_is_refused() {
        let broken = package();
        fs::write(broken.path().join("app_manifest.json"), "{}").unwrap();
        assert!(refusal(&broken).starts_with("app_manifest.json: SchemaVersion: is missing"));
        let endless = package();
        fs::write(endless.path().join("app_manifest.json"), vec![b' '; 1 << 20]).unwrap();
        assert!(refusal(&endless).contains("longer than"));
    }
}
