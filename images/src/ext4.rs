//! Empty ext4 file systems for what is written on the device, made by `mke2fs`.

use crate::{FileError, ToolError, derived_uuid, run_tool, uuid_text};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Why a file system could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Ext4Error {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// `mke2fs` failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

/// The bytes of an empty file system of `length` bytes, labelled `label`, with quota and project
/// features, the same for the same `label` and `identity`.
///
/// # Errors
/// `mke2fs` is missing or fails.
pub fn empty(label: &str, identity: &[u8], length: u64) -> Result<Vec<u8>, Ext4Error> {
    let directory = tempfile::tempdir().map_err(FileError::at("make", Path::new("a directory")))?;
    let path = directory.path().join(label);
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
        .arg(&path);
    run_tool("mke2fs", &mut command)?;
    Ok(fs::read(&path).map_err(FileError::at("read", &path))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_makings_are_the_same_bytes_and_another_identity_is_not() {
        let first = empty("data", b"one", 8 << 20).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert!(first == empty("data", b"one", 8 << 20).unwrap(), "the clock got in");
        assert!(first != empty("data", b"two", 8 << 20).unwrap());
    }
}
