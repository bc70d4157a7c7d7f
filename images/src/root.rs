//! The root file system: a tree in memory, written as EROFS by `mkfs.erofs` and read back.

use crate::verity::BLOCK_BYTES;
use crate::{FileError, ToolError, hex, run_tool, sha256};
use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::UNIX_EPOCH;

/// Directories that every root has, mount points among them.
const DIRECTORIES: [&str; 8] = ["dev", "proc", "sys", "run", "tmp", "state", "apps", "data"];

/// Compressed blocks of up to 64 KiB: the larger, the smaller the file system, and the more is read for one page
/// (docs/decisions/0031-how-small-programs-and-root-are.md).
const CLUSTER: &str = "-C65536";

/// Entries that a file system may have to be read back.
const MAX_ENTRIES: usize = 16_384;
/// Directories that may lie in one another; a directory that holds itself ends here.
const MAX_DEPTH: usize = 64;
/// Longest file that is read back, in bytes. A few blocks can stand for terabytes of zeros.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// A file system to be written.
#[derive(Debug, Clone, Default)]
pub struct Root {
    files: BTreeMap<String, (Vec<u8>, bool)>,
    links: BTreeMap<String, String>,
    directories: Vec<&'static str>,
}

/// An error of writing or reading a root file system.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// `mkfs.erofs` failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The bytes are no readable EROFS.
    #[error("the root file system cannot be read: {0}")]
    Unreadable(String),
}

/// The type of a file in the root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link with its target; app packages may have them.
    Link(String),
    /// A device node or anything else that no image of ours has.
    Other,
}

/// One entry of a root file system that was read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Absolute path.
    pub path: String,
    /// Type of the file.
    pub kind: EntryKind,
    /// Permission bits, setuid and setgid included.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// Length in bytes of a regular file.
    pub size: u64,
    /// SHA-256 of a regular file.
    pub sha256: Option<String>,
    /// True when the file is ELF.
    pub elf: bool,
    /// True when the file begins with `#!`.
    pub script: bool,
}

impl Root {
    /// An empty root of a slot, with the directories that the system mounts things at.
    #[must_use]
    pub fn of_slot() -> Self {
        Self { directories: DIRECTORIES.to_vec(), ..Self::default() }
    }

    /// Adds a symbolic link at `path`, given without the leading slash.
    pub fn add_link(&mut self, path: impl Into<String>, target: impl Into<String>) {
        self.links.insert(path.into(), target.into());
    }

    /// Adds the file at `path`, given without the leading slash.
    pub fn add(&mut self, path: impl Into<String>, bytes: Vec<u8>, executable: bool) {
        self.files.insert(path.into(), (bytes, executable));
    }

    /// The files: their paths without the leading slash, what is in them, and whether they are executable.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8], bool)> {
        self.files.iter().map(|(path, (bytes, executable))| (&**path, &**bytes, *executable))
    }

    /// The files of a slot's root that this module wrote.
    ///
    /// # Errors
    /// The bytes are no EROFS, or part of it cannot be read.
    pub fn read(image: &[u8]) -> Result<Self, RootError> {
        let mut root = Self::of_slot();
        for entry in list(image)?.into_iter().filter(|entry| entry.kind == EntryKind::File) {
            let bytes = read_file(image, &entry.path)?;
            root.add(entry.path.trim_start_matches('/'), bytes, entry.mode & 0o111 != 0);
        }
        Ok(root)
    }

    /// The file system as EROFS, padded to whole verity blocks. Owners are root, modes 0755, 0555
    /// and 0444, times zero.
    ///
    /// # Errors
    /// `mkfs.erofs` is missing or fails, or the disk is full.
    pub fn to_erofs(&self) -> Result<Vec<u8>, RootError> {
        let scratch =
            tempfile::tempdir().map_err(FileError::at("make", Path::new("a directory")))?;
        let tree = scratch.path().join("root");
        let make = |path: &Path| {
            fs::create_dir_all(path)
                .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)))
                .map_err(FileError::at("make directory", path))
        };
        make(&tree)?;
        for directory in &self.directories {
            make(&tree.join(directory))?;
        }
        for name in self.files.keys().chain(self.links.keys()) {
            // Each directory on its own: the modes must not depend on the umask.
            let mut parent = tree.clone();
            for part in Path::new(name).parent().into_iter().flat_map(Path::iter) {
                parent.push(part);
                make(&parent)?;
            }
        }
        for (name, target) in &self.links {
            let path = tree.join(name);
            std::os::unix::fs::symlink(target, &path).map_err(FileError::at("link", &path))?;
        }
        let mut written: BTreeMap<(&[u8], bool), PathBuf> = BTreeMap::new();
        for (name, (bytes, executable)) in &self.files {
            let path = tree.join(name);
            // One program under several names lies there, and in memory, once.
            if let Some(same) = written.get(&(bytes.as_slice(), *executable)) {
                fs::hard_link(same, &path).map_err(FileError::at("link", &path))?;
                continue;
            }
            fs::write(&path, bytes).map_err(FileError::at("write", &path))?;
            let mode = if *executable { 0o555 } else { 0o444 };
            let file = File::open(&path).map_err(FileError::at("open", &path))?;
            file.set_times(FileTimes::new().set_modified(UNIX_EPOCH))
                .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
                .map_err(FileError::at("set mode and time of", &path))?;
            if *executable {
                written.insert((bytes, *executable), path);
            }
        }
        let image = scratch.path().join("root.erofs");
        let mut command = Command::new("mkfs.erofs");
        command
            .args(["-zlz4hc,12", CLUSTER, "-Eztailpacking", "-T0", "-x-1", "--all-root", "--quiet"])
            .arg("-U00000000-0000-0000-0000-000000000000")
            .args([&image, &tree]);
        run_tool("mkfs.erofs", &mut command)?;
        let mut bytes = fs::read(&image).map_err(FileError::at("read", &image))?;
        let blocks = bytes.len().div_ceil(BLOCK_BYTES);
        bytes.resize(blocks.saturating_mul(BLOCK_BYTES), 0);
        Ok(bytes)
    }
}

/// Every entry of an EROFS image but the root directory itself, sorted by path.
///
/// # Errors
/// The bytes are no EROFS, or part of it cannot be read.
pub fn list(image: &[u8]) -> Result<Vec<Entry>, RootError> {
    let unreadable = |error: erofs_rs::Error| RootError::Unreadable(error.to_string());
    let file_system = EroFS::new(SliceImage::new(image)).map_err(unreadable)?;
    let mut entries = Vec::new();
    let out_of_bounds = |what: &str| RootError::Unreadable(what.to_owned());
    for found in file_system.walk_dir("/").map_err(unreadable)? {
        let found = found.map_err(unreadable)?;
        if entries.len() >= MAX_ENTRIES {
            return Err(out_of_bounds("it has too many entries"));
        }
        let inode = found.inode;
        let path = found.dir_entry.path().to_string_lossy().into_owned();
        if path.split('/').count() > MAX_DEPTH {
            return Err(out_of_bounds("its directories lie too deep"));
        }
        let mut entry = Entry {
            path,
            kind: EntryKind::Other,
            mode: mode_bits(&inode),
            uid: inode.uid(),
            gid: inode.gid(),
            size: 0,
            sha256: None,
            elf: false,
            script: false,
        };
        if inode.is_dir() {
            entry.kind = EntryKind::Directory;
        } else if inode.is_symlink() {
            let target = file_system.read_link_inode(inode).map_err(unreadable)?;
            entry.kind = EntryKind::Link(target.to_string_lossy().into_owned());
        } else if inode.is_file() {
            let bytes = read_bounded(file_system.open_inode_file(inode).map_err(unreadable)?)?;
            entry.kind = EntryKind::File;
            entry.size = inode.data_size();
            entry.elf = holdfast_manifest::elf::is_elf(&bytes);
            entry.script = bytes.starts_with(b"#!");
            entry.sha256 = Some(hex(&sha256(&[&bytes])));
        }
        entries.push(entry);
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// The bytes of the regular file at `path`.
///
/// # Errors
/// The bytes are no EROFS, or it has no such file.
pub fn read_file(image: &[u8], path: &str) -> Result<Vec<u8>, RootError> {
    let unreadable = |error: erofs_rs::Error| RootError::Unreadable(error.to_string());
    let file_system = EroFS::new(SliceImage::new(image)).map_err(unreadable)?;
    read_bounded(file_system.open(path).map_err(unreadable)?)
}

/// All of a file that is no longer than may be.
fn read_bounded(file: impl Read) -> Result<Vec<u8>, RootError> {
    let mut bytes = Vec::new();
    let mut file = file.take(MAX_FILE_BYTES.saturating_add(1));
    let read = file.read_to_end(&mut bytes);
    read.map_err(|error| RootError::Unreadable(error.to_string()))?;
    if file.limit() == 0 {
        return Err(RootError::Unreadable("a file in it is longer than 256 MiB".to_owned()));
    }
    Ok(bytes)
}

fn mode_bits(inode: &erofs_rs::types::Inode) -> u16 {
    u16::try_from(inode.permissions().mode() & 0o7777).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_read_back_with_modes_owners_and_contents() {
        let mut root = Root::of_slot();
        root.add("sbin/init", b"\x7fELF".repeat(4000), true);
        root.add_link("lib/loader.so", "../sbin/init");
        root.add("etc/holdfast/components", vec![1, 2, 3], false);
        let image = root.to_erofs().unwrap();
        assert!(image.len().is_multiple_of(BLOCK_BYTES));
        assert!(image == root.to_erofs().unwrap(), "two makings differ");
        let entries = list(&image).unwrap();
        let find = |path| entries.iter().find(|e| e.path == path).unwrap();
        let init = find("/sbin/init");
        assert_eq!((init.mode, init.uid, init.size, init.elf), (0o555, 0, 16_000, true));
        assert_eq!(find("/lib/loader.so").kind, EntryKind::Link("../sbin/init".to_owned()));
        assert_eq!(find("/etc/holdfast/components").mode, 0o444);
        assert_eq!((find("/proc").mode, find("/proc").kind.clone()), (0o755, EntryKind::Directory));
        assert_eq!(read_file(&image, "/etc/holdfast/components").unwrap(), [1, 2, 3]);
    }

    #[test]
    fn a_program_under_several_names_takes_room_once() {
        let program: Vec<u8> =
            (0..200_000u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        let length = |names: &[&str]| {
            let mut root = Root::default();
            names.iter().for_each(|name| root.add(*name, program.clone(), true));
            let image = root.to_erofs().unwrap();
            for name in names {
                assert!(read_file(&image, &format!("/{name}")).unwrap() == program, "{name}");
            }
            image.len()
        };
        assert!(length(&["a/a", "b/b", "c/c"]) < length(&["a/a"]) + 2 * BLOCK_BYTES);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(16))]
        #[test]
        fn a_damaged_image_is_an_error_or_a_listing_never_a_panic(
            at in proptest::prelude::any::<proptest::sample::Index>(),
            value in proptest::prelude::any::<u8>(),
        ) {
            static IMAGE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
            let image = IMAGE.get_or_init(|| {
                let mut root = Root::default();
                root.add("sbin/init", b"text".repeat(4000), true);
                root.to_erofs().unwrap()
            });
            let mut image = image.clone();
            let at = at.index(image.len());
            image[at] = value;
            let _ = list(&image);
        }
    }
}
