//! Releases made of images and app packages: the bytes, and their entry in the metadata.

use crate::RepositoryError;
use holdfast_images::boot::signature;
use holdfast_images::show::{self, BootStatus};
use holdfast_images::{FileError, package};
use holdfast_lifecycle::slots::RunningSlot;
use holdfast_release::Release;
use holdfast_release::feed::Feed;
use holdfast_release::reuse::{CHUNK_BYTES, chunk_hash};
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_sandbox::verity;
use holdfast_types::Version;
use holdfast_types::hex::hex;
use std::fs;
use std::path::Path;

/// A release to be added to a repository.
#[derive(Debug, Clone)]
pub struct Released {
    /// Usual path of the release in a repository.
    pub path: String,
    /// Bytes of the release.
    pub bytes: Vec<u8>,
    /// Entry of the release in the metadata.
    pub release: Release,
}

impl Released {
    /// Returns it as one for devices of a feed alone, with a path of its own beside those of other feeds.
    #[must_use]
    pub fn in_feed(self, feed: Feed) -> Self {
        let path = format!("{feed}/{}", self.path);
        Self { path, release: Release { feed: Some(feed), ..self.release }, ..self }
    }

    /// Fills in what is said of the bytes in front of the root: the hashes of their chunks, and the digest of the FIT that
    /// they begin with.
    ///
    /// # Errors
    /// The release is shorter than its FIT.
    pub fn name_kernel(&mut self) -> Result<(), RepositoryError> {
        let boot_bytes = usize::try_from(self.release.boot_bytes).unwrap_or(usize::MAX);
        let kernel = self.bytes.get(..boot_bytes).ok_or_else(|| RepositoryError::Release {
            path: self.path.clone(),
            reason: "is shorter than its kernel",
        })?;
        let hashes = kernel.chunks(CHUNK_BYTES).map(|chunk| hex(&chunk_hash(chunk)));
        self.release.boot_chunks = hashes.collect();
        let digest = signature::boot_digest(kernel).map(|digest| hex(&digest));
        self.release.boot_digest = digest.unwrap_or_default();
        Ok(())
    }
}

/// Makes a release of an image's slot: its FIT, padded to whole blocks, then the root with its verity tree.
///
/// # Errors
/// The file is no image, or nobody has signed its slot.
pub fn of_image(image: &Path) -> Result<Released, RepositoryError> {
    let refused = |reason| RepositoryError::Release { path: image.display().to_string(), reason };
    let named = RepositoryError::of_image(image);
    let shown = show::show(image).map_err(&named)?;
    if shown.boot == BootStatus::Unsigned {
        return Err(refused("nobody has signed its slot; see `image sign`"));
    }
    let slot = RunningSlot::from_command_line(&shown.command_line)
        .map_err(|_| refused("its command line names no release"))?;
    let mut bytes = show::read_partition(image, "boot-a").map_err(&named)?;
    let fit = signature::fit_length(&bytes).ok_or_else(|| refused("its slot is damaged"))?;
    let boot_bytes = fit.next_multiple_of(verity::BLOCK_BYTES);
    bytes.resize(boot_bytes, 0);
    let mut root = show::read_partition(image, "root-a").map_err(&named)?;
    root.truncate(shown.root_bytes);
    bytes.extend(root);
    let version: Version =
        shown.version.parse().map_err(|_| refused("its version is no version"))?;
    let release = Release {
        subject: ReleaseSubject::Os,
        product: shown.product,
        board: shown.board.clone(),
        version,
        rollback_index: slot.rollback_index.into(),
        least_os: Version::default(),
        boot_bytes: u64::try_from(boot_bytes).unwrap_or(u64::MAX),
        root_hash: shown.root_hash,
        boot_chunks: String::new(),
        boot_digest: String::new(),
        feed: None,
    };
    let path = format!("os/{}-{version}.slot", shown.name);
    let mut released = Released { path, bytes, release };
    released.name_kernel()?;
    Ok(released)
}

/// Makes a release of an app package, as it is.
///
/// # Errors
/// The file is no app package.
pub fn of_package(path: &Path) -> Result<Released, RepositoryError> {
    let bytes = fs::read(path).map_err(FileError::at("read", path))?;
    let package = package::read(&bytes).map_err(|source| RepositoryError::Package {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let header = package.header;
    let name = holdfast_types::component_name::name_for(&package.manifest.name);
    let release = Release {
        subject: ReleaseSubject::App(header.component_id),
        product: header.product.as_str().to_owned(),
        board: header.board.as_str().to_owned(),
        version: header.version,
        rollback_index: header.rollback_index,
        least_os: header.least_os,
        boot_bytes: 0,
        root_hash: hex(&header.root_hash),
        boot_chunks: String::new(),
        boot_digest: String::new(),
        feed: None,
    };
    Ok(Released { path: format!("apps/{name}-{}.package", header.version), bytes, release })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    #[test]
    fn what_is_no_image_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), [7; 4096]).unwrap();
        let error = of_image(file.path()).unwrap_err();
        let source = error.source().unwrap().to_string();
        assert_eq!(error.to_string(), file.path().display().to_string());
        assert_eq!(source, "is no Holdfast image (no partition table)");
        let missing = of_image(Path::new("/nowhere/x.img")).unwrap_err().to_string();
        assert_eq!(missing, "cannot open /nowhere/x.img");
    }
}
