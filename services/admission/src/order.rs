//! Confirmation of an order to reset on a card, so that the update agent alone cannot claim one.
//!
//! The card is the standard input. Nothing on it is believed before it is verified from the root of the `oem`
//! repository that the image has.

use holdfast_release::RepositoryName;
use holdfast_release::bundle::{self, BLOCK_BYTES, BundleError, Index};
use holdfast_release::client::Wanted;
use holdfast_release::config;
use holdfast_release::factory_reset::{self, NoOrder};
use holdfast_sandbox::policy::APP_DIRECTORY;
use holdfast_sandbox::reset_order::{Order, OrderError};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Errors of the confirmation: the order is not on the card.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfirmError {
    #[error("no order was handed over")]
    Argument(#[source] OrderError),
    #[error("cannot read {}", path.display())]
    Root { path: PathBuf, source: io::Error },
    #[error("the card cannot be read")]
    Card(#[from] io::Error),
    #[error("the card {0}")]
    Bundle(BundleError),
    #[error(transparent)]
    Order(#[from] NoOrder<io::Error>),
}

/// Confirms that the card at the standard input holds the order that `argument` names.
pub(crate) fn confirm(argument: &str) -> Result<(), ConfirmError> {
    let order = Order::from_argument(argument).map_err(ConfirmError::Argument)?;
    let card = io::stdin().as_fd().try_clone_to_owned()?;
    let path = Path::new(APP_DIRECTORY).join(config::root_file(RepositoryName::Oem));
    confirm_on(File::from(card), &path, &order)
}

fn confirm_on(card: File, root: &Path, order: &Order) -> Result<(), ConfirmError> {
    let failed = |source| ConfirmError::Root { path: root.to_owned(), source };
    let limit = u64::try_from(config::MAX_ROOT_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    File::open(root).and_then(|f| f.take(limit).read_to_end(&mut bytes)).map_err(failed)?;
    let card = Card::read(card)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Ok(factory_reset::find_order(order, &bytes, now, |wanted| card.metadata(wanted))?)
}

/// A card with a bundle of releases.
struct Card {
    file: File,
    index: Index,
}

impl Card {
    fn read(mut file: File) -> Result<Self, ConfirmError> {
        let length = file.seek(SeekFrom::End(0))?;
        let narrow = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let mut first = vec![0; narrow(BLOCK_BYTES.min(length))];
        file.read_exact_at(&mut first, 0)?;
        let bytes = bundle::index_bytes(&first).map_err(ConfirmError::Bundle)?;
        let mut index = vec![0; narrow(bytes.into())];
        file.read_exact_at(&mut index, BLOCK_BYTES)?;
        let index = Index::decode(&index, length).map_err(ConfirmError::Bundle)?;
        Ok(Self { file, index })
    }

    /// Reads a metadata file of the `oem` repository; at most one byte more than is wanted.
    fn metadata(&self, wanted: &Wanted) -> io::Result<Option<Vec<u8>>> {
        let path = format!("{}/metadata/{}", RepositoryName::Oem, wanted.name);
        let Some(entry) = self.index.find(&path) else {
            return Ok(None);
        };
        let length = entry.length.min(wanted.most_bytes.saturating_add(1));
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut bytes, entry.at)?;
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is a failed test")]
    use super::*;
    use holdfast_release::metadata::Role;
    use holdfast_sandbox::reset_order::Partitions;
    use holdfast_types::chain;
    use std::fs;

    /// A card with these files, each of which lies where the index says.
    fn card(files: &[(&str, &[u8])]) -> File {
        let lengths: Vec<(String, u64)> = files
            .iter()
            .map(|(path, b)| ((*path).to_owned(), b.len().try_into().unwrap()))
            .collect();
        let index = Index::of(&lengths);
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&index.encode().unwrap(), 0).unwrap();
        for (entry, (_, bytes)) in index.entries.iter().zip(files) {
            file.write_all_at(bytes, entry.at).unwrap();
        }
        file.set_len(1 << 20).unwrap();
        file
    }

    fn wanted(most_bytes: u64) -> Wanted {
        Wanted { role: Role::Timestamp, name: "timestamp.json".to_owned(), most_bytes }
    }

    #[test]
    fn metadata_is_read_from_a_card_and_no_more_than_is_wanted() {
        let card = card(&[("oem/metadata/timestamp.json", b"signed"), ("os/metadata/x", b"other")]);
        let card = Card::read(card).unwrap();
        assert_eq!(card.metadata(&wanted(100)).unwrap().unwrap(), b"signed");
        assert_eq!(card.metadata(&wanted(3)).unwrap().unwrap(), b"sign", "one byte too many");
        let other = Wanted { name: "x".to_owned(), ..wanted(9) };
        assert!(card.metadata(&other).unwrap().is_none(), "of the other repository");
    }

    #[test]
    fn a_card_without_an_order_confirms_none() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("oem.root.json");
        let partitions = Partitions { state: true, apps: true, data: true };
        let order = Order { digest: [1; 32], partitions };
        let refusal = |card: File| chain(&confirm_on(card, &root, &order).unwrap_err());
        assert!(refusal(card(&[])).starts_with("cannot read "), "there is no root");
        fs::write(&root, "{}").unwrap();
        let empty = tempfile::tempfile().unwrap();
        assert_eq!(refusal(empty), "the card is no bundle of releases");
        assert!(refusal(card(&[])).contains("metadata is not to be believed"));
    }
}
