//! Directories: the checkout, and the user's cache.

use crate::failure::HostLacks;
use anyhow::{Context, Result, bail};
use holdfast_images::destination;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A checkout of this project and the cache beside it.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// The checkout.
    pub root: PathBuf,
    /// Cache directory, which is kept between builds and shared by checkouts.
    pub cache: PathBuf,
    /// The tokens that all builds of one `test` share; without them, each takes all processors.
    pub jobs: Option<jobserver::Client>,
}

impl Workspace {
    /// The checkout that [`checkout`] finds, and the cache, which is made where there is none. `why` says what they
    /// are needed for, in words that a complaint can begin with.
    ///
    /// # Errors
    /// There is no checkout, nothing can be built below its path, or the cache cannot be made.
    pub fn find(named: Option<&Path>, why: &str) -> Result<Self> {
        let Some(root) = checkout(named)? else {
            return Err(HostLacks(format!(
                "{why}, and {} is not in a checkout of Holdfast (no directory around it has images/boards and \
                 kernel-config); run it inside a checkout of Holdfast, or pass --checkout DIR",
                working_directory()?.display()
            ))
            .into());
        };
        let cache = match std::env::var_os("HOLDFAST_CACHE") {
            Some(cache) => std::path::absolute(cache).context("HOLDFAST_CACHE is no path")?,
            None => user_cache()?.join("holdfast"),
        };
        for path in [&root, &cache] {
            check_path(path)?;
        }
        make_directory(&cache)?;
        Ok(Self { root, cache, jobs: None })
    }

    /// Waits until nobody else works on `what` in the cache, and keeps others from it until the
    /// result is dropped. What killed builds have left behind is removed.
    ///
    /// # Errors
    /// The lock cannot be taken.
    pub fn lock(&self, what: &str) -> Result<File> {
        let file = take_lock(&self.cache.join(format!("{what}.lock")), what)?;
        let abandoned = format!(".unfinished-{what}-");
        let places = [self.cache.clone(), self.trees()?];
        for entry in places.iter().flat_map(fs::read_dir).flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&abandoned) {
                // Left for the next time where it cannot be removed.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(file)
    }

    /// Keeps other builds for the device out of this checkout's directory of them until the result is dropped:
    /// what lies there belongs to the package that was built last.
    pub(crate) fn lock_device_builds(&self) -> Result<File> {
        let directory = self.root.join("target/device");
        make_directory(&directory)?;
        take_lock(&directory.join("lock"), "programs for the device")
    }

    /// Returns the directory in which trees are unpacked and built by `make`, which takes a blank in a path for its
    /// end: the cache, where
    /// its path is one that make's files can name, and otherwise a directory of this user's in `/var/tmp`.
    ///
    /// # Errors
    /// The directory in `/var/tmp` cannot be made, or is not this user's alone.
    pub fn trees(&self) -> Result<PathBuf> {
        if is_plain(&self.cache) {
            return Ok(self.cache.clone());
        }
        own_directory(Path::new("/var/tmp"), &self.cache)
    }

    /// Lets a program that builds (cargo, `make`) or runs guests take its share of the tokens, where there
    /// are some.
    pub fn share_jobs(&self, command: &mut Command) {
        if let Some(jobs) = &self.jobs {
            jobs.configure_make(command);
        }
    }

    /// Returns the directory of what is built for this checkout, and makes it.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn output(&self) -> Result<PathBuf> {
        let directory = self.root.join("target/holdfast");
        make_directory(&directory)?;
        Ok(directory)
    }

    /// The commit's time in seconds since 1970, by which every image is dated.
    ///
    /// # Errors
    /// Neither git nor `SOURCE_DATE_EPOCH` tells it.
    pub fn build_time(&self) -> Result<u64> {
        if let Some(epoch) = std::env::var_os("SOURCE_DATE_EPOCH") {
            return epoch
                .to_str()
                .and_then(|text| text.parse().ok())
                .context("SOURCE_DATE_EPOCH: must be a number of seconds since 1970");
        }
        let text = self.git(&["log", "-1", "--format=%ct"]).map_err(|error| {
            HostLacks(format!(
                "the time of the commit is not known ({error}); \
                 build from a git checkout with a commit, or set SOURCE_DATE_EPOCH"
            ))
        })?;
        text.parse().context("git printed no time")
    }

    /// The commit, with `+` behind it when the tree has uncommitted changes.
    pub fn commit(&self) -> String {
        let commit = self.git(&["rev-parse", "--short=12", "HEAD"]);
        let clean = self.git(&["status", "--porcelain"]).is_ok_and(|changes| changes.is_empty());
        match commit {
            Ok(commit) if clean => commit,
            Ok(commit) => format!("{commit}+"),
            Err(_) => "unknown".to_owned(),
        }
    }

    /// Refuses an output that is a file of the checkout's commit: programs are made from those.
    ///
    /// # Errors
    /// The file is tracked.
    pub fn refuse_tracked(&self, output: &Path) -> Result<()> {
        let Ok(real) = fs::canonicalize(output) else { return Ok(()) };
        let root = fs::canonicalize(&self.root).unwrap_or_else(|_| self.root.clone());
        let Some(inside) = real.strip_prefix(root).ok().and_then(Path::to_str) else {
            return Ok(());
        };
        // A checkout without git says nothing of its files.
        match self.git(&["ls-files", "--error-unmatch", "--", &format!(":(literal){inside}")]) {
            Ok(_) => bail!(
                "{}: is a file of this checkout; name a file that is not under version control",
                output.display()
            ),
            Err(_) => Ok(()),
        }
    }

    fn git(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("git");
        // Another user's checkout is read, not trusted with configuration.
        command.arg("-C").arg(&self.root).args(["-c", "safe.directory=*"]).args(arguments);
        Ok(crate::process::output(&mut command)?.trim().to_owned())
    }
}

/// The root of a checkout: the one that is named, the one around the working directory, or the one whose program
/// cargo has started. `None` where there is none.
///
/// # Errors
/// `named`, which `--checkout` gives, is no checkout.
pub fn checkout(named: Option<&Path>) -> Result<Option<PathBuf>> {
    let is_checkout =
        |path: &Path| path.join("images/boards").is_dir() && path.join("kernel-config").is_dir();
    if let Some(named) = named {
        // As the working directory is told: caches know a checkout by the path at which it really is.
        let real = fs::canonicalize(named).ok();
        let Some(root) = real.filter(|path| is_checkout(path)) else {
            return Err(HostLacks(format!(
                "--checkout: {}: is no checkout of Holdfast: there is no images/boards and kernel-config in it",
                named.display()
            ))
            .into());
        };
        return Ok(Some(root));
    }
    let start = working_directory()?;
    let started_by_cargo = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let around =
        |path: &PathBuf| path.ancestors().find(|path| is_checkout(path)).map(Path::to_path_buf);
    Ok(around(&start).or_else(|| started_by_cargo.as_ref().and_then(around)))
}

fn working_directory() -> Result<PathBuf> {
    std::env::current_dir().context("cannot tell the working directory")
}

/// Refuses a path that compilers would not find again in their own flags.
fn check_path(path: &Path) -> Result<()> {
    let fits =
        path.to_str().is_some_and(|text| !text.contains(|c: char| c.is_control() || c == '='));
    if fits {
        return Ok(());
    }
    Err(HostLacks(format!(
        "{}: nothing can be built below this path: it has a `=`, a control character or what is no UTF-8; \
         move it",
        path.display()
    ))
    .into())
}

/// True for a path without a character that means something to make or to a shell.
fn is_plain(path: &Path) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+@".contains(byte);
    path.as_os_str().as_encoded_bytes().iter().all(plain)
}

/// A directory in `parent`, where everybody may write, that belongs to this user and stands for `path`.
fn own_directory(parent: &Path, path: &Path) -> Result<PathBuf> {
    let user = rustix::process::getuid().as_raw();
    let key = holdfast_images::hex(&Sha256::digest(path.as_os_str().as_encoded_bytes()));
    let directory = parent.join(format!("holdfast-{user}-{}", key.get(..12).unwrap_or(&key)));
    let made = fs::DirBuilder::new().mode(0o700).create(&directory);
    if let Err(error) = made
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(error).with_context(|| format!("cannot make {}", directory.display()));
    }
    // Somebody else may have made one of that name, or a link.
    let found = fs::symlink_metadata(&directory)
        .with_context(|| format!("cannot examine {}", directory.display()))?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o022 != 0 {
        return Err(HostLacks(format!(
            "{}: is not this user's alone, and the kernel cannot be built in {}, whose path has blanks or \
             other marks; remove it, or set HOLDFAST_CACHE to a plain path",
            directory.display(),
            path.display()
        ))
        .into());
    }
    Ok(directory)
}

fn user_cache() -> Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .ok_or_else(|| HostLacks("HOME is not set; set it, or HOLDFAST_CACHE".to_owned()).into())
}

/// Waits until nobody else has the lock at `path`, and says for what it waits.
fn take_lock(path: &Path, what: &str) -> Result<File> {
    let context = || format!("cannot lock {}", path.display());
    let file = File::options().create(true).append(true).open(path).with_context(context)?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another build of {what} ...");
        file.lock().with_context(context)?;
    }
    Ok(file)
}

/// Makes a directory with its parents.
///
/// # Errors
/// The directory cannot be made.
pub fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make directory {}", path.display()))
}

/// Reads a file whole.
///
/// # Errors
/// The file cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Reads a text file whole.
///
/// # Errors
/// The file cannot be read, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Reads a TOML file.
///
/// # Errors
/// The file cannot be read, or is not what is expected; the message names the file, the line and the field.
pub fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T> {
    toml::from_str(&read_text(path)?).with_context(|| path.display().to_string())
}

/// Reads a text file, or standard input where none is named, with what to call it in a complaint. A byte order mark
/// is left out, UTF-16 is refused, and what else is no UTF-8 is shown as such.
///
/// # Errors
/// The input cannot be read, or is in UTF-16.
pub fn read_text_or_standard_input(path: Option<&Path>) -> Result<(String, String)> {
    let (name, bytes) = match path {
        Some(path) => (path.display().to_string(), read(path)?),
        None => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
            ("standard input".to_owned(), bytes)
        }
    };
    if is_utf16(&bytes) {
        bail!("{name}: is in UTF-16; save it as UTF-8 (`iconv -f UTF-16 -t UTF-8`)");
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    Ok((name, String::from_utf8_lossy(bytes).into_owned()))
}

/// True for text in UTF-16, by its mark: a log may begin with a zero of the line's noise.
fn is_utf16(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff")
}

/// Writes to what lies at a path; a file is there whole or not at all. See [`destination`].
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    make_directory(destination::parent(path))?;
    Ok(destination::write(path, bytes.as_ref())?)
}

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// The file cannot be read.
pub fn sha256_file(path: &Path) -> Result<String> {
    let context = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(context)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer).with_context(context)?;
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
            return Ok(holdfast_images::hex(&hasher.finalize()));
        };
        hasher.update(bytes);
    }
}

/// SHA-256 over the names and contents of every file below a directory, in hexadecimal.
pub(crate) fn sha256_tree(directory: &Path) -> Result<String> {
    let mut files = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        let list = || format!("cannot list {}", next.display());
        for entry in fs::read_dir(&next).with_context(list)? {
            let entry = entry.with_context(list)?;
            let kind = entry.file_type().with_context(list)?;
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    let mut hasher = Sha256::new();
    for file in files {
        let name = file.strip_prefix(directory).unwrap_or(&file);
        hasher.update(name.as_os_str().as_encoded_bytes());
        hasher.update([0]);
        hasher.update(read(&file)?);
        hasher.update([0]);
    }
    Ok(holdfast_images::hex(&hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_byte_order_mark_is_left_out_and_utf_16_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("log");
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            read_text_or_standard_input(Some(&path)).map(|(_, text)| text)
        };
        assert_eq!(read(b"\xef\xbb\xbf[ 2.8] init: x").unwrap(), "[ 2.8] init: x");
        assert_eq!(read(b"\0\xff[ 2.8]").unwrap(), "\0\u{fffd}[ 2.8]");
        for bytes in [b"\xff\xfe[\0 \0", b"\xfe\xff\0[\0 "] {
            let error = read(bytes).unwrap_err().to_string();
            assert!(error.contains("log: is in UTF-16; save it as UTF-8"), "{error}");
        }
    }

    #[test]
    fn a_checkout_that_is_named_is_taken_and_what_is_none_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let named = scratch.path().join("holdfast");
        fs::create_dir_all(named.join("images/boards")).unwrap();
        for path in [&named, &scratch.path().join("nowhere")] {
            let error = checkout(Some(path)).unwrap_err().to_string();
            let start = format!("--checkout: {}: is no checkout of Holdfast", path.display());
            assert!(error.starts_with(&start), "{error}");
        }
        fs::create_dir(named.join("kernel-config")).unwrap();
        let link = scratch.path().join("link");
        symlink(&named, &link).unwrap();
        let real = fs::canonicalize(&named).unwrap();
        assert_eq!(checkout(Some(&link)).unwrap(), Some(real));
    }

    #[test]
    fn make_works_in_the_cache_where_it_can_name_it() {
        let area = |cache: &str| {
            let workspace = Workspace { root: "/".into(), cache: cache.into(), jobs: None };
            workspace.trees().unwrap()
        };
        assert_eq!(
            area("/home/me@work/.cache/holdfast"),
            Path::new("/home/me@work/.cache/holdfast")
        );
        let (one, other) = (area("/home/mein Holdfast"), area("/home/m\u{fc}ller"));
        assert!(is_plain(&one) && is_plain(&other) && one != other);
        assert_eq!(one, area("/home/mein Holdfast"));
        for made in [one, other] {
            assert_eq!(fs::metadata(&made).unwrap().mode() & 0o777, 0o700);
            fs::remove_dir(made).unwrap();
        }
    }

    #[test]
    fn a_directory_that_others_may_write_is_not_built_in() {
        let scratch = tempfile::tempdir().unwrap();
        let cache = Path::new("/home/mein Holdfast");
        let directory = own_directory(scratch.path(), cache).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        own_directory(scratch.path(), cache).unwrap_err();
        fs::remove_dir(&directory).unwrap();
        symlink("/etc", &directory).unwrap();
        let error = own_directory(scratch.path(), cache).unwrap_err();
        assert!(error.to_string().contains("is not this user's alone"), "{error}");
    }

    #[test]
    fn a_path_that_flags_cannot_carry_is_refused_at_once() {
        for good in ["/home/me/mein Holdfast \u{fc}", "/a'b\"c"] {
            check_path(Path::new(good)).unwrap();
        }
        for bad in ["/home/a=b", "/home/a\nb"] {
            assert!(check_path(Path::new(bad)).unwrap_err().to_string().contains("move it"));
        }
        let bytes =
            <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"/home/m\xfcller");
        assert!(check_path(Path::new(bytes)).is_err());
    }
}
