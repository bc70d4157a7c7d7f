//! Files by the SHA-256 of their content, in a directory of the service's folder: what is too large for a row.
//!
//! A file appears under its name once it is whole and on the disk. Replicas that have no disk in common need another store with these
//! functions.

use holdfast_types::hex::hex;
use sha2::{Digest, Sha256};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Mutex, MutexGuard};

/// What the name of a file ends with that is not whole.
const PARTIAL: &str = ".partial";

/// Errors of the files.
#[derive(Debug, Error)]
pub enum BlobError {
    /// A file or the directory failed.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was to be done.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// There is more content than is taken.
    #[error("at most {most} bytes are taken")]
    TooLarge {
        /// How many are.
        most: u64,
    },
}

fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    let path = path.to_owned();
    move |source| BlobError::File { what, path, source }
}

/// The directory of files.
#[derive(Debug, Clone)]
pub struct Blobs {
    directory: PathBuf,
    number: Arc<AtomicU64>,
    changing: Arc<Mutex<()>>,
}

/// A file that is being written. One that is dropped is removed.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    file: tokio::fs::File,
    hash: Sha256,
    bytes: u64,
    most: u64,
    is_kept: bool,
}

/// What was written, whole and on the disk, but not under its name yet.
#[derive(Debug)]
pub struct Written {
    draft: Draft,
    /// SHA-256 of the content.
    pub digest: [u8; 32],
}

impl Written {
    /// Bytes of the content.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.draft.bytes
    }

    /// Opens it to be read.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(&self) -> Result<File, BlobError> {
        File::open(&self.draft.path).map_err(file("read", &self.draft.path))
    }
}

impl Blobs {
    /// Opens the directory, and makes it where it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(directory: &Path) -> Result<Self, BlobError> {
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(file("make", directory)(error));
            }
            _ => {}
        }
        let directory = directory.to_owned();
        Ok(Self { directory, number: Arc::default(), changing: Arc::default() })
    }

    /// Removes what was not written to its end, as by a service that was killed. None may run meanwhile.
    ///
    /// # Errors
    /// The directory cannot be read, or a file not be removed.
    pub fn remove_partial(&self) -> Result<(), BlobError> {
        let directory = &self.directory;
        for entry in std::fs::read_dir(directory).map_err(file("read", directory))? {
            let path = entry.map_err(file("read", directory))?.path();
            if path.as_os_str().as_encoded_bytes().ends_with(PARTIAL.as_bytes()) {
                std::fs::remove_file(&path).map_err(file("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Returns where the file of this content lies, if there is one.
    #[must_use]
    pub fn path(&self, digest: &[u8; 32]) -> PathBuf {
        self.directory.join(hex(digest))
    }

    /// Begins a file of at most so many bytes.
    ///
    /// # Errors
    /// It cannot be made.
    pub async fn begin(&self, most: u64) -> Result<Draft, BlobError> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}{PARTIAL}", std::process::id());
        let path = self.directory.join(name);
        let options = OpenOptions::new().write(true).create_new(true).mode(0o600).to_owned();
        let opened = tokio::fs::OpenOptions::from(options).open(&path).await;
        let opened = opened.map_err(file("make", &path))?;
        Ok(Draft { path, file: opened, hash: Sha256::new(), bytes: 0, most, is_kept: false })
    }

    /// Waits until nobody else keeps or removes files: whoever does holds this from before he reads or writes the rows that name
    /// them until he is done.
    pub async fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// Puts what was written under its name.
    ///
    /// # Errors
    /// It cannot be renamed, or the directory not be written.
    pub async fn keep(
        &self,
        _changing: &MutexGuard<'_, ()>,
        mut written: Written,
    ) -> Result<(), BlobError> {
        let path = self.path(&written.digest);
        let from = &written.draft.path;
        tokio::fs::rename(from, &path).await.map_err(file("write", &path))?;
        written.draft.is_kept = true;
        let directory = tokio::fs::File::open(&self.directory).await;
        let directory = directory.map_err(file("read", &self.directory))?;
        directory.sync_all().await.map_err(file("write", &self.directory))
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// It cannot be removed.
    pub async fn remove(
        &self,
        _changing: &MutexGuard<'_, ()>,
        digest: &[u8; 32],
    ) -> Result<(), BlobError> {
        let path = self.path(digest);
        match tokio::fs::remove_file(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(file("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Opens a file to be read; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn read(&self, digest: &[u8; 32]) -> Result<Option<File>, BlobError> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(opened) => Ok(Some(opened)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file("read", &path)(error)),
        }
    }
}

impl Draft {
    /// Writes what comes next.
    ///
    /// # Errors
    /// It is more than is taken, or cannot be written.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(length);
        if self.bytes > self.most {
            return Err(BlobError::TooLarge { most: self.most });
        }
        self.hash.update(bytes);
        self.file.write_all(bytes).await.map_err(file("write", &self.path))
    }

    /// Has it on the disk.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn finish(mut self) -> Result<Written, BlobError> {
        self.file.flush().await.map_err(file("write", &self.path))?;
        self.file.sync_all().await.map_err(file("write", &self.path))?;
        let digest = std::mem::take(&mut self.hash).finalize().into();
        Ok(Written { draft: self, digest })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_kept {
            // What cannot be removed now is removed when the service starts.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_file_is_there_once_it_is_whole_and_nothing_is_left_of_others() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("symbols");
        let blobs = Blobs::open(&directory).unwrap();
        assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let mut draft = blobs.begin(8).await.unwrap();
        draft.write(b"pump").await.unwrap();
        let written = draft.finish().await.unwrap();
        let digest = written.digest;
        assert!(blobs.read(&digest).unwrap().is_none(), "it has no name yet");
        let changing = blobs.change().await;
        blobs.keep(&changing, written).await.unwrap();
        drop(changing);
        let mut text = String::new();
        blobs.read(&digest).unwrap().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), names(&directory)), ("pump", vec![hex(&digest)]));
        // What is too large, and what was given up.
        let mut draft = blobs.begin(8).await.unwrap();
        draft.write(b"12345678").await.unwrap();
        assert!(matches!(draft.write(b"9").await, Err(BlobError::TooLarge { most: 8 })));
        drop(draft);
        assert_eq!(names(&directory).len(), 1);
        // What a service that was killed has left.
        std::fs::write(directory.join("1-1.partial"), "x").unwrap();
        blobs.remove_partial().unwrap();
        assert_eq!(names(&directory), [hex(&digest)]);
        let changing = blobs.change().await;
        blobs.remove(&changing, &digest).await.unwrap();
        blobs.remove(&changing, &digest).await.unwrap();
        assert!(names(&directory).is_empty());
    }
}
