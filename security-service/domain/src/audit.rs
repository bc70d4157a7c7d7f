//! The audit log: one chain of rows for each catalog, in which each row has the hash of the one before.

use holdfast_evidence::messages::CatalogId;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// What comes before the first row.
pub const BEGIN: [u8; 32] = [0; 32];
/// What was done by whoever has exported results: the object is the SHA-256 of the manifest, in hexadecimal.
pub const EXPORT_VERB: &str = "results.export";

/// A row: who has done what, to what, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number, from 1 on.
    pub number: u64,
    /// The time, in seconds since 1970.
    pub at: u64,
    /// Name of the token, or `service`, or the device's id.
    pub who: String,
    /// What was done, such as `device.quarantine`.
    pub verb: String,
    /// To what, such as a device's id.
    pub object: String,
    /// SHA-256 of the request's body.
    pub digest: [u8; 32],
}

impl Row {
    /// Returns the hash of the row behind one with this hash. Texts come with their length, so that no two rows have the same
    /// bytes.
    #[must_use]
    pub fn hash(&self, catalog: &CatalogId, previous: &[u8; 32]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"holdfast-audit-1\0");
        hash.update(catalog.0);
        hash.update(previous);
        hash.update(self.number.to_be_bytes());
        hash.update(self.at.to_be_bytes());
        for text in [&self.who, &self.verb, &self.object] {
            hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(text);
        }
        hash.update(self.digest);
        hash.finalize().into()
    }
}

/// A chain is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("row {0} of the audit log is not the one that was written, or one before it is missing")]
pub struct Broken(pub u64);

/// Follows rows from one with the hash `previous` and the number `after` on, each with the hash that is stored beside it, and
/// returns the last hash.
///
/// # Errors
/// See [`Broken`].
pub fn verify<'a>(
    catalog: &CatalogId,
    after: u64,
    previous: [u8; 32],
    rows: impl IntoIterator<Item = (&'a Row, [u8; 32])>,
) -> Result<[u8; 32], Broken> {
    let (mut number, mut last) = (after, previous);
    for (row, stored) in rows {
        number = number.saturating_add(1);
        let hash = row.hash(catalog, &last);
        if row.number != number || hash != stored {
            return Err(Broken(number));
        }
        last = hash;
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOG: CatalogId = CatalogId([7; 16]);

    fn chain() -> Vec<(Row, [u8; 32])> {
        let mut last = BEGIN;
        let row = |number| Row {
            number,
            at: 1000_u64.saturating_add(number),
            who: "ole".to_owned(),
            verb: "device.claim".to_owned(),
            object: number.to_string(),
            digest: [3; 32],
        };
        let mut of = |number| {
            let row = row(number);
            last = row.hash(&CATALOG, &last);
            (row, last)
        };
        (1..=5).map(&mut of).collect()
    }

    fn verified(rows: &[(Row, [u8; 32])]) -> Result<[u8; 32], Broken> {
        verify(&CATALOG, 0, BEGIN, rows.iter().map(|(row, hash)| (row, *hash)))
    }

    #[test]
    fn a_row_that_was_changed_removed_or_moved_is_found() {
        let good = chain();
        assert_eq!(verified(&good), Ok(good[4].1), "the control");
        let mut changed = good.clone();
        changed[2].0.who = "ines".to_owned();
        assert_eq!(verified(&changed), Err(Broken(3)));
        let mut shifted = good.clone();
        shifted[1].0.who = "oled".to_owned();
        shifted[1].0.verb = "evice.claim".to_owned();
        assert_eq!(verified(&shifted), Err(Broken(2)));
        let mut removed = good.clone();
        removed.remove(1);
        assert_eq!(verified(&removed), Err(Broken(2)));
        let mut swapped = good.clone();
        swapped.swap(2, 3);
        assert_eq!(verified(&swapped), Err(Broken(3)));
        let rows = good.iter().map(|(row, hash)| (row, *hash));
        assert_eq!(verify(&CatalogId([8; 16]), 0, BEGIN, rows), Err(Broken(1)));
    }
}
