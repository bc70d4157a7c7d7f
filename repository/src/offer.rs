//! Adding releases to a repository, each with the delta from the one that it replaces.

use crate::{Released, Repository, RepositoryError, delta, write};
use holdfast_release::delta as format;
use holdfast_release::{Release, Target};
use std::collections::BTreeMap;
use std::fs;

impl Repository {
    /// Adds a release to `files`, in the place of an earlier one of its subject, product, board and feed, with the delta
    /// from that one and the whole release, compressed, where they are smaller. Returns the length of that delta.
    /// Nothing is offered before it is published.
    ///
    /// # Errors
    /// A file cannot be written, or no device could take the release.
    pub fn add_release(
        &self,
        files: &mut BTreeMap<String, Target>,
        released: &Released,
    ) -> Result<Option<u64>, RepositoryError> {
        let Released { path, bytes, release } = released;
        let target = self.add_file(path, bytes, release.clone())?;
        let same =
            |known: &Target| known.custom.as_ref().is_some_and(|known| is_same(known, release));
        let before: Vec<_> = files
            .iter()
            .filter(|(_, known)| same(known))
            .map(|(p, t)| (p.clone(), t.clone()))
            .collect();
        let mut added = None;
        for (old_path, old) in before {
            remove_release(files, &old_path);
            let Some((former, old_bytes)) = old.custom.as_ref().zip(self.file(&old_path, &old))
            else {
                continue;
            };
            let made = delta(&old_bytes, bytes);
            if former.root_hash != release.root_hash && made.len() < bytes.len() {
                let path = format::path(path, &former.root_hash);
                let target = self.put_file(&path, &made, None)?;
                added = Some(target.length);
                files.insert(path, target);
            }
        }
        let whole = delta(&[], bytes);
        if whole.len() < bytes.len() {
            let path = format::path(path, format::NOTHING);
            files.insert(path.clone(), self.put_file(&path, &whole, None)?);
        }
        files.insert(path.clone(), target);
        Ok(added)
    }

    /// Reads a file that is offered; `None` where it is gone or was changed.
    fn file(&self, path: &str, target: &Target) -> Option<Vec<u8>> {
        let bytes = fs::read(self.directory.join(target.place(path)?)).ok()?;
        (target.hashes.get("sha256") == Some(&holdfast_types::hex::sha256(&bytes))).then_some(bytes)
    }

    /// Writes the file of a release into the repository. It is not offered before it is published.
    ///
    /// # Errors
    /// The file cannot be written, or no device could take the release.
    pub fn add_file(
        &self,
        path: &str,
        bytes: &[u8],
        release: Release,
    ) -> Result<Target, RepositoryError> {
        self.put_file(path, bytes, Some(release))
    }

    /// Writes an order of the owner into the repository: its path says all of it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add_order(&self, path: &str) -> Result<Target, RepositoryError> {
        self.put_file(path, path.as_bytes(), None)
    }

    /// Writes a file into the repository and makes its target.
    fn put_file(
        &self,
        path: &str,
        bytes: &[u8],
        release: Option<Release>,
    ) -> Result<Target, RepositoryError> {
        let target = Target {
            length: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            hashes: BTreeMap::from([("sha256".to_owned(), holdfast_types::hex::sha256(bytes))]),
            custom: release,
        };
        let refused = |reason| RepositoryError::Release { path: path.to_owned(), reason };
        if target.custom.is_some() {
            target.check(path).map_err(refused)?;
        }
        let place = target.place(path).ok_or_else(|| refused("has no hash"))?;
        write(&self.directory.join(place), bytes)?;
        Ok(target)
    }
}

/// Removes a release with its deltas. False where there is none at this path.
pub fn remove_release(files: &mut BTreeMap<String, Target>, path: &str) -> bool {
    let there = files.remove(path).is_some();
    let deltas = format::path(path, "");
    files.retain(|path, _| !path.starts_with(&deltas));
    there
}

fn is_same(one: &Release, other: &Release) -> bool {
    let key = |of: &Release| (of.subject, of.product.clone(), of.board.clone(), of.feed.clone());
    key(one) == key(other)
}
