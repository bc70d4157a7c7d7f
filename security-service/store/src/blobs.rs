//! Files by the SHA-256 of their content: what is too large for a row. They lie in a directory of the service's folder, or in a bucket of
//! an object store of S3's interface, with what was used last in that directory.
//!
//! A file appears under its name once it is whole and stored. What a bucket returns is compared with its name before anybody has it, so that
//! whoever owns the bucket can withhold files and change none.

pub mod bucket;

mod cache;
mod change;
mod error;

pub use change::Changing;
pub use error::BlobError;

use bucket::Bucket;
use cache::Cache;
use error::file;
use holdfast_types::hex::{hex, unhex};
use sha2::{Digest, Sha256};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;

/// Most bytes of a file of a bucket: more is fetched of none.
pub const MAX_OBJECT_BYTES: u64 = 256 << 20;
/// What the name of a file ends with that is not whole.
const PARTIAL: &str = ".partial";
/// Age from which on a file that is not whole is nobody's any more: whoever writes one is given less time.
const ABANDONED: Duration = Duration::from_secs(60 * 60);

/// The files.
#[derive(Debug, Clone)]
pub struct Blobs {
    directory: PathBuf,
    number: Arc<AtomicU64>,
    changing: Arc<Mutex<()>>,
    remote: Option<Remote>,
}

/// A part of a bucket, of which the directory has what was used last.
#[derive(Debug, Clone)]
struct Remote {
    bucket: Bucket,
    kind: &'static str,
    cache: Arc<Cache>,
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

    /// Puts it under its name in the directory.
    async fn name(mut self, path: &Path) -> Result<(), BlobError> {
        let from = &self.draft.path;
        tokio::fs::rename(from, path).await.map_err(file("write", path))?;
        self.draft.is_kept = true;
        Ok(())
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
        Ok(Self { directory, number: Arc::default(), changing: Arc::default(), remote: None })
    }

    /// Opens the files below `kind` in a bucket, of which the directory keeps at most so many bytes.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open_in(
        bucket: Bucket,
        kind: &'static str,
        directory: &Path,
        most_cached: u64,
    ) -> Result<Self, BlobError> {
        let cache = Arc::new(Cache::new(directory, most_cached));
        let remote = Some(Remote { bucket, kind, cache });
        Ok(Self { remote, ..Self::open(directory)? })
    }

    /// Removes what was not written to its end long ago, as by a service that was killed. Others may write meanwhile.
    ///
    /// # Errors
    /// The directory cannot be read, or a file not be removed.
    pub fn remove_partial(&self) -> Result<(), BlobError> {
        let before = SystemTime::now().checked_sub(ABANDONED).unwrap_or(SystemTime::UNIX_EPOCH);
        let directory = &self.directory;
        for entry in std::fs::read_dir(directory).map_err(file("read", directory))? {
            let path = entry.map_err(file("read", directory))?.path();
            let is_partial = path.as_os_str().as_encoded_bytes().ends_with(PARTIAL.as_bytes());
            let written = path.metadata().and_then(|metadata| metadata.modified());
            if is_partial && written.is_ok_and(|written| written < before) {
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(file("remove", &path)(error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Returns where the file of this content lies in the directory, if there is one.
    #[must_use]
    pub fn path(&self, digest: &[u8; 32]) -> PathBuf {
        self.directory.join(hex(digest))
    }

    /// Has the file of this content in the directory, and returns where; `None` where there is none. It lies there long enough to be
    /// opened at once.
    ///
    /// # Errors
    /// The bucket failed or has something else under that name, or a file failed.
    pub async fn fetch(&self, digest: &[u8; 32]) -> Result<Option<PathBuf>, BlobError> {
        let path = self.path(digest);
        let Some(Remote { bucket, kind, cache }) = &self.remote else {
            let is_there = path.try_exists().map_err(file("read", &path))?;
            return Ok(is_there.then_some(path));
        };
        if cache.touch(&path)? {
            return Ok(Some(path));
        }
        // Of many that want the same file one fetches it.
        let turn = cache.turn(digest).await;
        if cache.touch(&path)? {
            return Ok(Some(path));
        }
        let name = bucket.name(kind, &hex(digest));
        let Some(mut object) = bucket.get(&name).await? else { return Ok(None) };
        let found = |found: String| BlobError::Changed { name: name.to_string(), found };
        let bytes = object.bytes;
        if bytes > MAX_OBJECT_BYTES {
            return Err(found(format!("of {bytes} bytes, which no file of ours has")));
        }
        cache.make_room(bytes).await?;
        let mut draft = self.begin(bytes).await?;
        while let Some(part) = object.next().await? {
            match draft.write(&part).await {
                Err(BlobError::TooLarge { .. }) => {
                    return Err(found("of more bytes than it was said to have".to_owned()));
                }
                written => written?,
            }
        }
        let written = draft.finish().await?;
        if written.digest != *digest {
            return Err(found(hex(&written.digest)));
        }
        written.name(&path).await?;
        drop(turn);
        Ok(Some(path))
    }

    /// Returns digests of files behind `after`, in order and at most so many, and when each was stored. None are behind the last of an empty page.
    ///
    /// # Errors
    /// The directory or the bucket cannot be read.
    pub async fn stored(
        &self,
        after: Option<[u8; 32]>,
        most: usize,
    ) -> Result<Vec<([u8; 32], SystemTime)>, BlobError> {
        let named = match &self.remote {
            Some(Remote { bucket, kind, .. }) => {
                let after = after.map(|digest| bucket.name(kind, &hex(&digest)));
                bucket.list(kind, after, most).await?
            }
            None => self.names()?,
        };
        let of_name = |(name, at): (String, SystemTime)| Some((unhex::<32>(&name)?, at));
        let mut stored: Vec<_> = named.into_iter().filter_map(of_name).collect();
        stored.retain(|(digest, _)| after.is_none_or(|after| *digest > after));
        stored.sort_unstable();
        stored.truncate(most);
        Ok(stored)
    }

    /// Names in the directory, with the time at which each was written.
    fn names(&self) -> Result<Vec<(String, SystemTime)>, BlobError> {
        let directory = &self.directory;
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(file("read", directory))? {
            let entry = entry.map_err(file("read", directory))?;
            let written = entry.metadata().and_then(|metadata| metadata.modified());
            if let (Ok(name), Ok(written)) = (entry.file_name().into_string(), written) {
                names.push((name, written));
            }
        }
        Ok(names)
    }

    /// True if the file of this content is stored: its content is not looked at.
    ///
    /// # Errors
    /// The directory or the bucket cannot be asked.
    pub async fn is_stored(&self, digest: &[u8; 32]) -> Result<bool, BlobError> {
        match &self.remote {
            Some(Remote { bucket, kind, .. }) => bucket.has(&bucket.name(kind, &hex(digest))).await,
            None => {
                let path = self.path(digest);
                path.try_exists().map_err(file("read", &path))
            }
        }
    }

    /// Stores a file that nobody needs, reads it as it is stored, and removes it: what an examination asks.
    ///
    /// # Errors
    /// One of the three failed.
    pub async fn try_round_trip(&self, changing: &Changing<'_>) -> Result<(), BlobError> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let content = format!("examined at {} by {}", since.as_nanos(), std::process::id());
        let mut draft = self.begin(MAX_OBJECT_BYTES).await?;
        draft.write(content.as_bytes()).await?;
        let written = draft.finish().await?;
        let digest = written.digest;
        self.keep(changing, written).await?;
        // What is in the bucket is looked at, and not what is here of it.
        if self.remote.is_some() {
            self.forget_here(&digest).await?;
        }
        let fetched = self.fetch(&digest).await;
        self.remove(changing, &digest).await?;
        match fetched? {
            Some(_) => Ok(()),
            None => Err(file("read", &self.path(&digest))(io::ErrorKind::NotFound.into())),
        }
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

    /// Stores what was written under its name.
    ///
    /// # Errors
    /// It cannot be stored.
    pub async fn keep(&self, _changing: &Changing<'_>, written: Written) -> Result<(), BlobError> {
        if let Some(Remote { bucket, kind, cache }) = &self.remote {
            let name = bucket.name(kind, &hex(&written.digest));
            bucket.put(&name, &written.draft.path, written.bytes()).await?;
            cache.make_room(written.bytes()).await?;
        }
        let path = self.path(&written.digest);
        written.name(&path).await?;
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
        _changing: &Changing<'_>,
        digest: &[u8; 32],
    ) -> Result<(), BlobError> {
        if let Some(Remote { bucket, kind, .. }) = &self.remote {
            bucket.remove(&bucket.name(kind, &hex(digest))).await?;
        }
        self.forget_here(digest).await
    }

    async fn forget_here(&self, digest: &[u8; 32]) -> Result<(), BlobError> {
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
    /// It cannot be opened, or those of [`fetch`](Self::fetch).
    pub async fn read(&self, digest: &[u8; 32]) -> Result<Option<File>, BlobError> {
        let Some(path) = self.fetch(digest).await? else { return Ok(None) };
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
        assert!(blobs.read(&digest).await.unwrap().is_none(), "it has no name yet");
        let changing = blobs.change_alone().await;
        blobs.keep(&changing, written).await.unwrap();
        drop(changing);
        let mut text = String::new();
        blobs.read(&digest).await.unwrap().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), names(&directory)), ("pump", vec![hex(&digest)]));
        // What is too large, and what was given up.
        let mut draft = blobs.begin(8).await.unwrap();
        draft.write(b"12345678").await.unwrap();
        assert!(matches!(draft.write(b"9").await, Err(BlobError::TooLarge { most: 8 })));
        drop(draft);
        assert_eq!(names(&directory).len(), 1);
        // What a service that was killed has left.
        let partial = directory.join("1-1.partial");
        std::fs::write(&partial, "x").unwrap();
        blobs.remove_partial().unwrap();
        assert_eq!(names(&directory).len(), 2, "another instance may be writing it");
        let long_ago = SystemTime::now() - ABANDONED - Duration::from_secs(1);
        File::options().write(true).open(&partial).unwrap().set_modified(long_ago).unwrap();
        blobs.remove_partial().unwrap();
        assert_eq!(names(&directory), [hex(&digest)]);
        let stored = blobs.stored(None, 9).await.unwrap();
        assert!(matches!(stored[..], [(of, at)] if of == digest && at > long_ago), "{stored:?}");
        assert!(blobs.stored(Some(digest), 9).await.unwrap().is_empty());
        let changing = blobs.change_alone().await;
        blobs.try_round_trip(&changing).await.unwrap();
        assert_eq!(names(&directory), [hex(&digest)]);
        blobs.remove(&changing, &digest).await.unwrap();
        blobs.remove(&changing, &digest).await.unwrap();
        assert!(names(&directory).is_empty());
    }
}
