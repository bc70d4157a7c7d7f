//! Programs for the device that were built before, in the cache: a directory for each key, with the programs
//! and their hashes.

use crate::workspace::{self, Workspace};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The file in a directory of programs that says which are there, and their SHA-256. Its time is that of the
/// last use.
const HASHES: &str = "programs.json";
/// Programs that nobody has used for so long are removed.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// So many bytes are kept at most; of what exceeds them, that whose use is longest ago goes.
const MOST_BYTES: u64 = 4 << 30;

/// The programs of a key by name, where they are in the cache and whole.
pub(super) fn find(workspace: &Workspace, key: &str) -> Option<BTreeMap<String, PathBuf>> {
    let directory = place(workspace, key);
    if !directory.is_dir() {
        return None;
    }
    // Before anything is read, so that nobody removes it meanwhile. In another user's cache it fails, and the
    // programs are as good.
    let _ =
        File::open(directory.join(HASHES)).and_then(|file| file.set_modified(SystemTime::now()));
    match check(&directory) {
        Ok(programs) => Some(programs),
        Err(error) => {
            eprintln!("{}: damaged, so it is built again ({error:#})", directory.display());
            None
        }
    }
}

/// Puts programs into the cache, and returns where they are then.
pub(super) fn keep(
    workspace: &Workspace,
    key: &str,
    programs: &BTreeMap<String, PathBuf>,
) -> Result<BTreeMap<String, PathBuf>> {
    let _lock = workspace.lock("programs")?;
    let directory = place(workspace, key);
    // Another checkout may have built the same meanwhile.
    if let Ok(kept) = check(&directory) {
        return Ok(kept);
    }
    remove_unused(workspace, MOST_BYTES);
    let scratch = tempfile::Builder::new()
        .prefix(".unfinished-programs-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(&workspace.cache)
        .with_context(|| format!("cannot make a directory in {}", workspace.cache.display()))?;
    let mut hashes = BTreeMap::new();
    for (name, program) in programs {
        let copy = scratch.path().join(name);
        fs::copy(program, &copy).with_context(|| {
            format!("cannot copy {} to {}", program.display(), workspace.cache.display())
        })?;
        hashes.insert(name, workspace::sha256_file(program)?);
    }
    let hashes = serde_json::to_string_pretty(&hashes).context("cannot write JSON")?;
    workspace::write(&scratch.path().join(HASHES), hashes)?;
    let context = || format!("cannot put {} in place", directory.display());
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(context)?;
    }
    if let Some(parent) = directory.parent() {
        workspace::make_directory(parent)?;
    }
    fs::rename(scratch.keep(), &directory).with_context(context)?;
    check(&directory)
}

fn place(workspace: &Workspace, key: &str) -> PathBuf {
    workspace.cache.join("programs").join(key.get(..24).unwrap_or(key))
}

/// The programs in a directory; fails where one is not what was put there.
fn check(directory: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let list = directory.join(HASHES);
    let hashes: BTreeMap<String, String> = serde_json::from_str(&workspace::read_text(&list)?)
        .with_context(|| list.display().to_string())?;
    let mut programs = BTreeMap::new();
    for (name, hash) in hashes {
        let program = directory.join(&name);
        if workspace::sha256_file(&program)? != hash {
            bail!("{}: SHA-256 is not {hash}", program.display());
        }
        programs.insert(name, program);
    }
    Ok(programs)
}

/// Removes what nobody has used for long, and what is too much. What cannot be removed stays for the next time.
fn remove_unused(workspace: &Workspace, most_bytes: u64) {
    let entries = fs::read_dir(workspace.cache.join("programs")).into_iter().flatten().flatten();
    let mut kept: Vec<(Duration, PathBuf)> = entries
        .map(|entry| {
            let used = fs::metadata(entry.path().join(HASHES)).and_then(|list| list.modified());
            // A time that is ahead of the clock is of a use just now.
            let unused = used.map_or(Duration::MAX, |used| used.elapsed().unwrap_or_default());
            (unused, entry.path())
        })
        .collect();
    kept.sort();
    let mut bytes: u64 = 0;
    for (unused, directory) in kept {
        let files = fs::read_dir(&directory).into_iter().flatten().flatten();
        let lengths = files.filter_map(|file| Some(file.metadata().ok()?.len()));
        bytes = bytes.saturating_add(lengths.fold(0, u64::saturating_add));
        if unused > UNUSED || bytes > most_bytes {
            let _ = fs::remove_dir_all(&directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache with one program of one byte under each of `keys`.
    fn cache_with(keys: &[&str]) -> (tempfile::TempDir, Workspace) {
        let scratch = tempfile::tempdir().unwrap();
        let built = scratch.path().join("built");
        fs::write(&built, "p").unwrap();
        let workspace = Workspace {
            root: scratch.path().to_owned(),
            cache: scratch.path().to_owned(),
            jobs: None,
        };
        for key in keys {
            let programs = BTreeMap::from([("hello".to_owned(), built.clone())]);
            let kept = keep(&workspace, key, &programs).unwrap();
            assert_eq!(find(&workspace, key), Some(kept));
        }
        (scratch, workspace)
    }

    /// Sets the last use of a key's programs to so long ago.
    fn age(workspace: &Workspace, key: &str, unused: Duration) {
        let list = File::open(place(workspace, key).join(HASHES)).unwrap();
        list.set_modified(SystemTime::now().checked_sub(unused).unwrap()).unwrap();
    }

    #[test]
    fn damaged_programs_are_noticed_and_replaced() {
        let (scratch, workspace) = cache_with(&["a"]);
        let built = BTreeMap::from([("hello".to_owned(), scratch.path().join("built"))]);
        let directory = place(&workspace, "a");
        for damage in ["hello", HASHES] {
            fs::write(directory.join(damage), "q").unwrap();
            assert_eq!(find(&workspace, "a"), None, "{damage}");
            keep(&workspace, "a", &built).unwrap();
            assert!(find(&workspace, "a").is_some());
            fs::remove_file(directory.join(damage)).unwrap();
            assert_eq!(find(&workspace, "a"), None, "{damage}");
            keep(&workspace, "a", &built).unwrap();
            assert_eq!(fs::read(directory.join("hello")).unwrap(), b"p");
        }
    }

    #[test]
    fn whoever_comes_second_takes_what_is_there() {
        let (scratch, workspace) = cache_with(&["a"]);
        let other = scratch.path().join("other");
        fs::write(&other, "o").unwrap();
        let kept = keep(&workspace, "a", &BTreeMap::from([("hello".to_owned(), other)])).unwrap();
        assert_eq!(fs::read(&kept["hello"]).unwrap(), b"p");
    }

    #[test]
    fn a_use_keeps_programs_that_are_old() {
        let (_scratch, workspace) = cache_with(&["unused", "used"]);
        for key in ["unused", "used"] {
            age(&workspace, key, UNUSED + Duration::from_secs(60));
        }
        assert!(find(&workspace, "used").is_some());
        remove_unused(&workspace, MOST_BYTES);
        assert!(find(&workspace, "used").is_some());
        assert_eq!(find(&workspace, "unused"), None);
    }

    #[test]
    fn of_too_many_bytes_those_unused_longest_go() {
        let (_scratch, workspace) = cache_with(&["first", "second"]);
        age(&workspace, "first", Duration::from_secs(60));
        let one = fs::read_dir(place(&workspace, "first")).unwrap();
        let bytes = one.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        remove_unused(&workspace, bytes);
        assert_eq!(find(&workspace, "first"), None);
        assert!(find(&workspace, "second").is_some());
    }
}
