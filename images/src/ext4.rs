//! ext4 file systems for what is written on the device, made by `mke2fs`.

use crate::{FileError, ToolError, derived_uuid, run_tool, uuid_text};
use std::fs;
use std::path::Path;
use std::process::Command;

/// An error of making a file system.
#[derive(Debug, thiserror::Error)]
pub enum Ext4Error {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// `mke2fs` failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

/// The bytes of a file system of `length` bytes, labelled `label`, with quota and project features
/// and with these files at its top, owned by root. Whoever sees the file system may read them. The same for the same
/// arguments.
///
/// # Errors
/// `mke2fs` or `debugfs` is missing or fails, or the files do not fit.
pub fn with_files(
    label: &str,
    identity: &[u8],
    length: u64,
    files: &[(String, &[u8])],
) -> Result<Vec<u8>, Ext4Error> {
    let directory = tempfile::tempdir().map_err(FileError::at("make", Path::new("a directory")))?;
    let path = directory.path().join(label);
    let content = directory.path().join("content");
    fs::create_dir(&content).map_err(FileError::at("make directory", &content))?;
    let mut times = String::new();
    for (name, bytes) in files {
        let file = content.join(name);
        fs::write(&file, bytes).map_err(FileError::at("write", &file))?;
        for (field, value) in [
            ("mode", "0100444"),
            ("uid", "0"),
            ("gid", "0"),
            ("atime", "@1"),
            ("ctime", "@1"),
            ("mtime", "@1"),
            ("crtime", "@1"),
            ("atime_extra", "0"),
            ("ctime_extra", "0"),
            ("mtime_extra", "0"),
            ("crtime_extra", "0"),
        ] {
            times.push_str(&format!("set_inode_field {name} {field} {value}\n"));
        }
    }
    let file = fs::File::create(&path).map_err(FileError::at("create", &path))?;
    file.set_len(length).map_err(FileError::at("extend", &path))?;
    let uuid = uuid_text(&derived_uuid(&[b"ext4", identity, label.as_bytes()]));
    let mut command = Command::new("/sbin/mke2fs");
    command
        // libext2fs takes its clock from here; 0 would mean "not set".
        .env("E2FSPROGS_FAKE_TIME", "1")
        .env_remove("MKE2FS_CONFIG")
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0"])
        .args(["-O", "quota,project,^resize_inode,^metadata_csum_seed,metadata_csum,64bit"])
        .arg("-E")
        .arg(format!(
            "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,quotatype=prjquota,hash_seed={uuid}"
        ))
        .args(["-U", &uuid, "-L", label])
        .arg("-d")
        .arg(&content)
        .arg(&path);
    run_tool("mke2fs", &mut command)?;
    if !files.is_empty() {
        // mke2fs takes owners and times over from the host's files.
        let script = directory.path().join("script");
        fs::write(&script, times).map_err(FileError::at("write", &script))?;
        let mut command = Command::new("/sbin/debugfs");
        command.env("E2FSPROGS_FAKE_TIME", "1").args(["-w", "-f"]).arg(&script).arg(&path);
        run_tool("debugfs", &mut command)?;
        // mke2fs counts quotas before it takes the files over; the check brings them up to date,
        // and says so by exit code 1.
        let mut command = Command::new("/sbin/e2fsck");
        command.env("E2FSPROGS_FAKE_TIME", "1").env("E2FSCK_TIME", "1").args(["-f", "-y"]);
        match run_tool("e2fsck", command.arg(&path)) {
            Ok(()) | Err(ToolError::Failed { code: Some(1), .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(fs::read(&path).map_err(FileError::at("read", &path))?)
}

/// Names and contents of the files at the top of a file system.
///
/// # Errors
/// `debugfs` is missing or cannot read it.
pub fn files(image: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Ext4Error> {
    let directory = tempfile::tempdir().map_err(FileError::at("make", Path::new("a directory")))?;
    let (path, content) = (directory.path().join("image"), directory.path().join("content"));
    fs::write(&path, image).map_err(FileError::at("write", &path))?;
    fs::create_dir(&content).map_err(FileError::at("make directory", &content))?;
    let mut command = Command::new("/sbin/debugfs");
    // Its requests are taken apart at blanks, and a directory for such files may have one in its name.
    command.current_dir(directory.path()).args(["-R", "rdump / content", "image"]);
    run_tool("debugfs", &mut command)?;
    let mut files = Vec::new();
    let entries = fs::read_dir(&content).map_err(FileError::at("list", &content))?;
    for entry in entries.flatten().filter(|entry| entry.path().is_file()) {
        let bytes = fs::read(entry.path()).map_err(FileError::at("read", &entry.path()))?;
        files.push((entry.file_name().to_string_lossy().into_owned(), bytes));
    }
    files.sort();
    Ok(files)
}

/// Bytes that are free in a file system made here: kernel document `filesystems/ext4/super`.
#[must_use]
pub fn free_bytes(image: &[u8]) -> u64 {
    const FREE_BLOCKS: usize = 1024 + 0xc;
    let word = image.get(FREE_BLOCKS..).and_then(|bytes| bytes.first_chunk::<4>());
    word.map_or(0, |word| u64::from(u32::from_le_bytes(*word))).saturating_mul(4096)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_lifecycle::superblock;

    #[test]
    fn two_makings_are_the_same_bytes_and_another_identity_is_not() {
        let files = [("a.package".to_owned(), &[7u8; 9000][..])];
        let first = with_files("data", b"one", 8 << 20, &files).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let again = with_files("data", b"one", 8 << 20, &files).unwrap();
        let differing = first.iter().zip(&again).position(|(a, b)| a != b);
        assert_eq!(differing, None, "the clock or the host got in");
        assert!(first != with_files("data", b"two", 8 << 20, &files).unwrap());
        let read = super::files(&first).unwrap();
        assert_eq!(read, [("a.package".to_owned(), vec![7u8; 9000])]);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        fs::write(&path, &first).unwrap();
        let check = Command::new("/sbin/e2fsck").args(["-fn"]).arg(&path).output().unwrap();
        assert!(check.status.success(), "{check:?}");
        let superblock = *first[superblock::OFFSET..].first_chunk().unwrap();
        assert_eq!(superblock::mended(&superblock), None, "it has another checksum");
        let mut torn = superblock;
        torn[0x34] ^= 1;
        assert!(superblock::mended(&torn).is_some());
    }

    #[test]
    fn files_that_do_not_fit_are_an_error() {
        let files = [("a.package".to_owned(), &vec![7u8; 9 << 20][..])];
        with_files("apps", b"one", 8 << 20, &files).unwrap_err();
    }
}
