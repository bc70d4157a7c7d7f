//! Writing to a path that somebody has named, without ever taking the place of what is no file.
//!
//! | at the path | what happens |
//! | --- | --- |
//! | nothing, or a file | the file is there whole or not at all: written under another name and renamed |
//! | a link to either | the same with what the link leads to; the link stays |
//! | a file with several names (hard links) | written over, so that all its names have it |
//! | a pipe, a device that takes characters, standard output by its name | written through |
//! | a disk, a directory, a socket | refused |
//!
//! A file that is replaced keeps its mode and, where that is allowed, its owner; a new one follows the umask.

use crate::FileError;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// Longest chain of links that is followed, as the kernel has it.
const MOST_LINKS: usize = 40;
/// Mode of a new file, before the umask.
const NEW_MODE: u32 = 0o666;

/// An error of writing to a path; nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The path leads to something that cannot be written.
    #[error("{}: {reason}", path.display())]
    Unfit {
        /// The path.
        path: PathBuf,
        /// The kind of thing that it is, and what it should be.
        reason: &'static str,
    },
    /// The output would lie in a directory that it is made from.
    #[error(
        "{}: lies in {}, whose files the output is made from; name a file outside that directory",
        path.display(), directory.display()
    )]
    Inside {
        /// The path.
        path: PathBuf,
        /// The directory that is read.
        directory: PathBuf,
    },
    /// The output would be written over a file that it is made from.
    #[error("{}: is the same file as {}, which is read; name another", path.display(), input.display())]
    Input {
        /// The path.
        path: PathBuf,
        /// The file that is read.
        input: PathBuf,
    },
}

/// The kind of thing at a path.
#[derive(Debug)]
enum Place {
    /// A file or nothing yet, at this path, which is no link.
    File { path: PathBuf, before: Option<Metadata> },
    /// A pipe, terminal or other stream, which takes bytes one behind the other.
    Stream,
}

/// Writes `bytes` to whatever lies at `path`; see the module.
///
/// # Errors
/// See [`DestinationError`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), DestinationError> {
    write_with_mode(path, bytes, None)
}

/// As [`write()`], readable by everybody whatever the umask is: what a server reads runs as somebody else.
///
/// # Errors
/// See [`DestinationError`].
pub fn write_readable(path: &Path, bytes: &[u8]) -> Result<(), DestinationError> {
    write_with_mode(path, bytes, Some(0o644))
}

/// Has `make` write the file at `path`, which it may seek in; the path that it is given is for its complaints.
///
/// # Errors
/// The path leads to no file, or `make` fails.
pub fn write_file<E: From<DestinationError>>(
    path: &Path,
    make: impl FnOnce(&mut File, &Path) -> Result<(), E>,
) -> Result<(), E> {
    match place(path)? {
        Place::File { path, before } => replace(&path, before.as_ref(), None, make),
        Place::Stream => Err(unfit(path, NO_FILE).into()),
    }
}

/// Refuses what [`write_file`] would refuse, before the work is done.
///
/// # Errors
/// The path leads to no file that can be written.
pub fn check_file(path: &Path) -> Result<(), DestinationError> {
    match place(path)? {
        Place::File { .. } => Ok(()),
        Place::Stream => Err(unfit(path, NO_FILE)),
    }
}

/// Refuses what [`write()`] would refuse, before the work is done.
///
/// # Errors
/// The path leads neither to a file nor to a stream.
pub fn check(path: &Path) -> Result<(), DestinationError> {
    place(path).map(drop)
}

/// Refuses an output that lies in one of these directories, or would lie there once it is written.
///
/// # Errors
/// The output lies in one of the directories.
pub fn refuse_inside<'a>(
    output: &Path,
    directories: impl IntoIterator<Item = &'a Path>,
) -> Result<(), DestinationError> {
    // What leads to a descriptor has no place.
    let Some(real) = follow(output)?.and_then(|path| resolve(&path)) else { return Ok(()) };
    let is_around = |directory: &&Path| {
        fs::canonicalize(directory).is_ok_and(|directory| real.starts_with(directory))
    };
    match directories.into_iter().find(is_around) {
        Some(directory) => Err(DestinationError::Inside {
            path: output.to_owned(),
            directory: directory.to_owned(),
        }),
        None => Ok(()),
    }
}

/// The absolute path without links and `..` of what may be there or not.
fn resolve(path: &Path) -> Option<PathBuf> {
    let mut real = PathBuf::new();
    for component in std::path::absolute(path).ok()?.components() {
        match component {
            Component::ParentDir => {
                real.pop();
            }
            other => {
                real.push(other);
                // What is not there yet is no link.
                real = fs::canonicalize(&real).unwrap_or(real);
            }
        }
    }
    Some(real)
}

/// Refuses an output that is one of the files that it is made from, under whatever name.
///
/// # Errors
/// The output is one of them.
pub fn refuse_inputs<'a>(
    output: &Path,
    inputs: impl IntoIterator<Item = &'a Path>,
) -> Result<(), DestinationError> {
    match inputs.into_iter().find(|input| is_same(output, input)) {
        Some(input) => {
            Err(DestinationError::Input { path: output.to_owned(), input: input.to_owned() })
        }
        None => Ok(()),
    }
}

/// True when both paths lead to the same file.
#[must_use]
pub fn is_same(one: &Path, other: &Path) -> bool {
    let number = |path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    number(one).is_some_and(|found| number(other) == Some(found))
}

/// True when bytes written to `path` come out of this program's standard output.
#[must_use]
pub fn is_standard_output(path: &Path) -> bool {
    let by_name = || leads_to_descriptor(path) || fs::metadata(path).is_ok_and(|m| !m.is_file());
    let Ok(own) = io::stdout().as_fd().try_clone_to_owned().map(File::from) else { return false };
    let (Ok(own), Ok(found)) = (own.metadata(), fs::metadata(path)) else { return false };
    (own.dev(), own.ino()) == (found.dev(), found.ino()) && by_name()
}

/// Makes a directory and its parents where they are not there; those that it makes can be entered by everybody
/// whatever the umask is.
///
/// # Errors
/// One of them cannot be made.
pub fn make_readable_directory(path: &Path) -> Result<(), FileError> {
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|directory| !directory.as_os_str().is_empty() && !directory.exists())
        .collect();
    fs::create_dir_all(path).map_err(FileError::at("make directory", path))?;
    for directory in missing {
        fs::set_permissions(directory, Permissions::from_mode(0o755))
            .map_err(FileError::at("set mode of", directory))?;
    }
    Ok(())
}

const NO_FILE: &str = "is a device or a pipe; name a file";

fn unfit(path: &Path, reason: &'static str) -> DestinationError {
    DestinationError::Unfit { path: path.to_owned(), reason }
}

/// Returns the directory that something lies in.
#[must_use]
pub fn parent(path: &Path) -> &Path {
    // A bare name lies in the working directory.
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Follows the symbolic links at `path`; `None` for a descriptor of a process.
fn follow(path: &Path) -> Result<Option<PathBuf>, FileError> {
    let mut here = path.to_owned();
    for _ in 0..MOST_LINKS {
        let directory = parent(&here);
        // `/proc/self/fd/1` looks like a link, and is the open file itself.
        if fs::canonicalize(directory).is_ok_and(|real| real.starts_with("/proc")) {
            return Ok(None);
        }
        match fs::read_link(&here) {
            Ok(target) => here = directory.join(target),
            Err(_) => return Ok(Some(here)),
        }
    }
    let source = io::Error::other("too many links, one leading to the next");
    Err(FileError::at("follow the link", path)(source))
}

fn leads_to_descriptor(path: &Path) -> bool {
    matches!(follow(path), Ok(None))
}

fn place(path: &Path) -> Result<Place, DestinationError> {
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(unfit(path, "names a directory; name a file in it"));
    }
    let found = match fs::metadata(path) {
        Ok(found) => Some(found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(FileError::at("examine", path)(error).into()),
    };
    if let Some(found) = &found {
        let kind = found.file_type();
        if kind.is_dir() {
            return Err(unfit(path, "is a directory; name a file in it"));
        }
        if kind.is_block_device() {
            return Err(unfit(path, "is a disk; write a file, and then the file to the disk"));
        }
        if kind.is_socket() {
            return Err(unfit(path, "is a socket; name a file"));
        }
        if !kind.is_file() {
            return Ok(Place::Stream);
        }
    }
    Ok(match follow(path)? {
        Some(path) => Place::File { path, before: found },
        None => Place::Stream,
    })
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: Option<u32>) -> Result<(), DestinationError> {
    match place(path)? {
        Place::File { path, before } => replace(&path, before.as_ref(), mode, |file, _| {
            Ok(file.write_all(bytes).map_err(FileError::at("write", &path))?)
        }),
        Place::Stream if is_standard_output(path) => {
            // Opened by its name it would have another position, where it is a file.
            let mut output = io::stdout().lock();
            output
                .write_all(bytes)
                .and_then(|()| output.flush())
                .map_err(FileError::at("write", path))
                .map_err(DestinationError::from)
        }
        Place::Stream => {
            // Nothing that is there is lost.
            let opened = OpenOptions::new().append(true).open(path);
            let mut stream = opened.map_err(FileError::at("open", path))?;
            Ok(stream.write_all(bytes).map_err(FileError::at("write", path))?)
        }
    }
}

/// Puts a file at `path`, which is no link.
fn replace<E: From<DestinationError>>(
    path: &Path,
    before: Option<&Metadata>,
    mode: Option<u32>,
    make: impl FnOnce(&mut File, &Path) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |error: FileError| E::from(DestinationError::from(error));
    if before.is_some() {
        // Renaming does not ask whether the file may be written.
        let opened = OpenOptions::new().append(true).open(path);
        opened.map_err(FileError::at("write", path)).map_err(failed)?;
    }
    let directory = parent(path);
    let mut scratch = tempfile::Builder::new()
        .prefix(".unfinished-")
        .permissions(Permissions::from_mode(NEW_MODE))
        .tempfile_in(directory)
        .map_err(FileError::at("write in", directory))
        .map_err(failed)?;
    let scratch_path = scratch.path().to_owned();
    let file = scratch.as_file_mut();
    make(file, &scratch_path)?;
    if let Some(before) = before {
        // Nobody but root may give a file away: then it is whose directory it is in, as with any editor.
        let _ = std::os::unix::fs::fchown(&*file, Some(before.uid()), Some(before.gid()));
    }
    let kept = before.map(|before| before.permissions().mode() & 0o777);
    if let Some(mode) = mode.or(kept) {
        file.set_permissions(Permissions::from_mode(mode))
            .map_err(FileError::at("set mode of", path))
            .map_err(failed)?;
    }
    file.sync_all().map_err(FileError::at("write", path)).map_err(failed)?;
    if before.is_some_and(|before| before.nlink() > 1) {
        return write_over(path, file).map_err(FileError::at("write", path)).map_err(failed);
    }
    let persisted = scratch.persist(path).map(drop).map_err(|error| error.error);
    persisted
        .and_then(|()| File::open(directory)?.sync_all())
        .map_err(FileError::at("put in place", path))
        .map_err(failed)
}

/// Puts the contents of `from` into the file at `path`, which keeps all its names.
fn write_over(path: &Path, from: &mut File) -> io::Result<()> {
    from.rewind()?;
    let mut target = OpenOptions::new().write(true).truncate(true).open(path)?;
    io::copy(from, &mut target)?;
    target.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_link_stays_and_the_file_behind_it_is_written() {
        let scratch = directory();
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir(at("store")).unwrap();
        fs::write(at("store/package"), "before").unwrap();
        fs::set_permissions(at("store/package"), Permissions::from_mode(0o640)).unwrap();
        symlink("store/package", at("current")).unwrap();
        symlink("current", at("link of a link")).unwrap();
        write(&at("link of a link"), b"after").unwrap();
        assert_eq!(fs::read(at("store/package")).unwrap(), b"after");
        assert_eq!(mode(&at("store/package")), 0o640);
        assert!(at("current").is_symlink() && at("link of a link").is_symlink());
        // One that leads nowhere yet, and one that leads round.
        symlink("store/new", at("dangling")).unwrap();
        write(&at("dangling"), b"new").unwrap();
        assert_eq!(fs::read(at("store/new")).unwrap(), b"new");
        symlink("round", at("round")).unwrap();
        assert!(write(&at("round"), b"x").is_err());
        assert_eq!(fs::read_dir(at("store")).unwrap().count(), 2, "something was left behind");
    }

    #[test]
    fn all_names_of_a_file_have_what_was_written() {
        let scratch = directory();
        let (one, other) = (scratch.path().join("one"), scratch.path().join("other"));
        fs::write(&one, "longer than what comes").unwrap();
        fs::hard_link(&one, &other).unwrap();
        write(&one, b"after").unwrap();
        write_file::<DestinationError>(&other, |file, path| {
            Ok(file.write_all(b"again").map_err(FileError::at("write", path))?)
        })
        .unwrap();
        assert_eq!(
            (fs::read(&one).unwrap(), fs::read(&other).unwrap()),
            (b"again".to_vec(), b"again".to_vec())
        );
        assert!(is_same(&one, &other));
    }

    #[test]
    fn pipes_and_devices_are_written_through_and_stay() {
        let scratch = directory();
        let pipe = scratch.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || {
                let mut read = Vec::new();
                File::open(pipe).unwrap().read_to_end(&mut read).unwrap();
                read
            }
        });
        write(&pipe, b"bytes to sign").unwrap();
        assert_eq!(reader.join().unwrap(), b"bytes to sign");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        let null = scratch.path().join("null");
        symlink("/dev/null", &null).unwrap();
        write(&null, b"x").unwrap();
        assert!(fs::metadata(&null).unwrap().file_type().is_char_device() && null.is_symlink());
        let error = write_file::<DestinationError>(&null, |_, _| panic!("was made")).unwrap_err();
        assert!(error.to_string().ends_with("null: is a device or a pipe; name a file"), "{error}");
        assert!(check_file(&pipe).is_err() && check_file(&scratch.path().join("new")).is_ok());
    }

    #[test]
    fn an_open_file_by_its_descriptor_is_added_to_and_stays() {
        use std::os::fd::AsRawFd;
        let scratch = directory();
        let path = scratch.path().join("log");
        fs::write(&path, "before, ").unwrap();
        let file = File::open(&path).unwrap();
        let link = scratch.path().join("descriptor");
        symlink(format!("/proc/self/fd/{}", file.as_raw_fd()), &link).unwrap();
        write(&link, b"after").unwrap();
        let found = fs::metadata(&path).unwrap().ino();
        assert_eq!(file.metadata().unwrap().ino(), found, "another file has its name");
        assert_eq!(fs::read(&path).unwrap(), b"before, after");
    }

    #[test]
    fn directories_and_files_that_may_not_be_written_are_refused() {
        let scratch = directory();
        let error = write(scratch.path(), b"x").unwrap_err().to_string();
        assert!(error.ends_with("is a directory; name a file in it"), "{error}");
        let missing = write(&scratch.path().join("no/file"), b"x").unwrap_err();
        assert!(matches!(missing, DestinationError::File(_)), "{missing}");
        let locked = scratch.path().join("locked");
        fs::write(&locked, "before").unwrap();
        fs::set_permissions(&locked, Permissions::from_mode(0o444)).unwrap();
        // Root may write everything.
        if OpenOptions::new().append(true).open(&locked).is_err() {
            assert!(write(&locked, b"after").is_err());
            assert_eq!(fs::read(&locked).unwrap(), b"before");
        }
    }

    #[test]
    fn nothing_is_left_of_what_could_not_be_made() {
        let scratch = directory();
        let path = scratch.path().join("image");
        fs::write(&path, "before").unwrap();
        let failed = write_file::<DestinationError>(&path, |file, path| {
            file.write_all(b"half").unwrap();
            Err(unfit(path, "is refused"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"before");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_output_does_not_lie_among_what_it_is_made_from() {
        let scratch = directory();
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir_all(at("app/src/deep")).unwrap();
        fs::write(at("app/src/main.c"), "x").unwrap();
        symlink("app/src/main.c", at("soft")).unwrap();
        symlink("app/src/new", at("dangling")).unwrap();
        symlink("app/src", at("sources")).unwrap();
        for (name, inside) in [
            ("app/src/main.c", true),
            ("app/src/new", true),
            ("app/src/not/there/yet", true),
            ("app/../app/not there/../src/new", true),
            ("soft", true),
            ("dangling", true),
            ("sources/deep/new", true),
            ("app/new", false),
            ("app/src2", false),
            ("app/src/../new", false),
            ("new", false),
        ] {
            let refused = refuse_inside(&at(name), [at("app/root").as_path(), &at("app/src")]);
            assert_eq!(refused.is_err(), inside, "{name}");
        }
        let error = refuse_inside(&at("soft"), [at("app/src").as_path()]).unwrap_err().to_string();
        assert!(
            error.contains("soft: lies in ") && error.contains("name a file outside"),
            "{error}"
        );
        refuse_inside(Path::new("/dev/stdout"), [at("app/src").as_path()]).unwrap();
    }

    #[test]
    fn a_name_that_ends_in_a_slash_names_no_file() {
        let scratch = directory();
        let path = format!("{}/new/", scratch.path().display());
        let error = check(Path::new(&path)).unwrap_err().to_string();
        assert!(error.ends_with("new/: names a directory; name a file in it"), "{error}");
        check(Path::new("/dev/null")).unwrap();
        check(&scratch.path().join("new")).unwrap();
    }

    #[test]
    fn an_output_is_none_of_the_inputs_under_whatever_name() {
        let scratch = directory();
        let at = |name: &str| scratch.path().join(name);
        fs::write(at("key"), "k").unwrap();
        fs::hard_link(at("key"), at("hard")).unwrap();
        symlink("key", at("soft")).unwrap();
        for name in ["key", "hard", "soft", "not there"] {
            let refused = refuse_inputs(&at(name), [at("other").as_path(), &at("key")]).is_err();
            assert_eq!(refused, at(name).exists(), "{name}");
        }
    }
}
