//! What of a bucket lies in the directory: files that were used last, up to a number of bytes. Losing it costs time and nothing else.

use super::error::{BlobError, file};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::sync::{Mutex, MutexGuard};

/// Files that are fetched side by side; two whose digests begin alike wait for each other.
const TURNS: usize = 64;
/// Age below which a file stays: whoever was told where it lies opens it within that time.
const IN_USE: Duration = Duration::from_secs(60);

/// The directory.
#[derive(Debug)]
pub(super) struct Cache {
    directory: PathBuf,
    most_bytes: u64,
    turns: Vec<Mutex<()>>,
}

impl Cache {
    pub(super) fn new(directory: &Path, most_bytes: u64) -> Self {
        let turns = std::iter::repeat_with(Mutex::default).take(TURNS).collect();
        Self { directory: directory.to_owned(), most_bytes, turns }
    }

    /// True if the file is there. Its time says from now on that it was used.
    pub(super) fn touch(&self, path: &Path) -> Result<bool, BlobError> {
        match File::options().write(true).open(path) {
            Ok(found) => {
                // One that is removed a little early is fetched again.
                let _ = found.set_modified(SystemTime::now());
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(file("read", path)(error)),
        }
    }

    /// Waits until nobody else fetches the file of a digest.
    pub(super) async fn turn(&self, digest: &[u8; 32]) -> Option<MutexGuard<'_, ()>> {
        let number = usize::from(digest.first().copied().unwrap_or(0)) % TURNS;
        Some(self.turns.get(number)?.lock().await)
    }

    /// Removes what was used longest ago, until so many bytes more have room or only what was used just now is left.
    pub(super) async fn make_room(&self, bytes: u64) -> Result<(), BlobError> {
        let (directory, most) = (self.directory.clone(), self.most_bytes.saturating_sub(bytes));
        let removed = tokio::task::spawn_blocking(move || remove_oldest(&directory, most)).await;
        let failed = |_| file("read", &self.directory)(io::ErrorKind::Interrupted.into());
        removed.map_err(failed)?
    }
}

fn remove_oldest(directory: &Path, most: u64) -> Result<(), BlobError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(file("read", directory))? {
        let path = entry.map_err(file("read", directory))?.path();
        // One that is gone meanwhile takes no room.
        let Ok(metadata) = path.metadata() else { continue };
        if let Ok(used) = metadata.modified() {
            files.push((used, metadata.len(), path));
        }
    }
    files.sort();
    let mut bytes = files.iter().fold(0_u64, |sum, (_, bytes, _)| sum.saturating_add(*bytes));
    let now = SystemTime::now();
    for (used, length, path) in files {
        let is_in_use = now.duration_since(used).is_ok_and(|age| age < IN_USE);
        if bytes <= most || is_in_use {
            break;
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file("remove", &path)(error));
            }
            _ => bytes = bytes.saturating_sub(length),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_used_longest_ago_goes_first_and_what_is_in_use_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let cache = Cache::new(scratch.path(), 10);
        let path = |name: &str| scratch.path().join(name);
        let put = |name: &str, age_s: u64| {
            std::fs::write(path(name), "1234").unwrap();
            let at = SystemTime::now() - Duration::from_secs(age_s);
            File::options().write(true).open(path(name)).unwrap().set_modified(at).unwrap();
        };
        put("a", 300);
        put("b", 200);
        put("c", 100);
        cache.make_room(0).await.unwrap();
        assert_eq!(["a", "b", "c"].map(|name| path(name).exists()), [false, true, true]);
        assert!(cache.touch(&path("b")).unwrap(), "it is used");
        assert!(!cache.touch(&path("a")).unwrap());
        cache.make_room(10).await.unwrap();
        assert_eq!(["b", "c"].map(|name| path(name).exists()), [true, false]);
    }
}
