//! Bundles of repositories in one file, for a card that is carried to a device.

use crate::{Repository, RepositoryError};
use holdfast_images::{FileError, destination};
use holdfast_release::RepositoryName;
use holdfast_release::bundle::{BLOCK_BYTES, Index};
use std::fs;
use std::path::{Path, PathBuf};

/// Writes the metadata and the releases of these repositories to one file.
///
/// # Errors
/// A repository has nothing to offer, or a file cannot be read or written.
pub fn bundle(
    repositories: &[(RepositoryName, PathBuf)],
    output: &Path,
) -> Result<(), RepositoryError> {
    let mut files = Vec::new();
    for (name, directory) in repositories {
        let repository = Repository::open(directory)?;
        let mut paths = repository.metadata_files();
        for (path, target) in repository.targets() {
            paths.extend(target.place(&path));
        }
        for path in paths {
            let file = directory.join(&path);
            destination::refuse_inputs(output, [file.as_path()])?;
            let bytes = fs::read(&file).map_err(FileError::at("read", &file))?;
            files.push((format!("{name}/{path}"), bytes));
        }
    }
    files.sort();
    let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let lengths: Vec<_> = files.iter().map(|(path, bytes)| (path.clone(), length(bytes))).collect();
    let index = Index::of(&lengths);
    let mut bytes = index.encode()?;
    for (entry, (_, content)) in index.entries.iter().zip(&files) {
        bytes.resize(usize::try_from(entry.at).unwrap_or(usize::MAX), 0);
        bytes.extend(content);
    }
    let whole = bytes.len().next_multiple_of(usize::try_from(BLOCK_BYTES).unwrap_or(1));
    bytes.resize(whole, 0);
    if let Some(directory) = output.parent() {
        fs::create_dir_all(directory).map_err(FileError::at("make directory", directory))?;
    }
    Ok(destination::write(output, &bytes)?)
}
